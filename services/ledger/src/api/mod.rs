//! The gRPC and HTTP face: proto <-> model, authorise, validate. No SQL, no rules.
//!
//! [`serve`] names every rpc and the function that answers it. Each of those reads the tenant first with [`Api::log`], which answers
//! "not there" and "not yours" alike.

mod anchored;
mod append;
mod disclosures;
mod entries;
mod explain;
mod export;
mod logs;
mod metrics;
mod receipts;
mod serve;
#[cfg(test)]
mod tenancy;
mod tiles;

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use counterfoil_chassis::{
    ApiError, Caller, CancellationToken, Chassis, Clock, names::tenant_field, pages::Pages,
    server::MESSAGE_BYTES_MAX,
};
use counterfoil_engine::Log;
use counterfoil_proto::{
    common::disclosure_service_server::DisclosureServiceServer,
    ledger::ledger_service_server::LedgerServiceServer,
};
use tonic::service::Routes;

pub(crate) use self::metrics::PREFIX as METRICS_PREFIX;
pub(crate) use self::tiles::PREFIX as TILES_PREFIX;
use crate::anchored::Epochs;
use crate::copies::Copies;
use crate::error::LedgerError;
use crate::logs::Logs;
use crate::model::quota::Quota;
use crate::serving::Serving;
use crate::witnesses::Witnessed;

/// What callers can wait for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waits {
    /// `None`: nothing is published.
    pub(crate) copies: Option<Copies>,
    /// `None`: nothing is anchored.
    pub(crate) epochs: Option<Epochs>,
    /// `None`: nobody is asked.
    pub(crate) witnessed: Option<Witnessed>,
}

/// What the functions that answer need. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    logs: Logs,
    waits: Waits,
    serving: Serving,
    clock: Clock,
    pages: Pages,
    shutdown: CancellationToken,
    /// `None`: every tenant may append as much as the service takes.
    quota: Option<Arc<Mutex<Quota>>>,
}

impl Api {
    /// Of a service that starts.
    pub(crate) fn new(
        logs: Logs,
        waits: Waits,
        serving: Serving,
        records_per_second: Option<NonZeroU32>,
        chassis: &Chassis,
    ) -> Self {
        let quota = records_per_second.map(|records| Arc::new(Mutex::new(Quota::new(records))));
        Self {
            logs,
            waits,
            serving,
            clock: chassis.clock.clone(),
            pages: chassis.pages.clone(),
            shutdown: chassis.shutdown.clone(),
            quota,
        }
    }

    /// The gRPC services.
    pub(crate) fn routes(&self) -> Routes {
        let mut routes = Routes::builder();
        routes
            .add_service(
                LedgerServiceServer::new(self.clone())
                    .max_decoding_message_size(MESSAGE_BYTES_MAX)
                    .max_encoding_message_size(MESSAGE_BYTES_MAX),
            )
            .add_service(
                DisclosureServiceServer::new(self.clone())
                    .max_encoding_message_size(MESSAGE_BYTES_MAX),
            );
        routes.routes()
    }

    /// The C2SP tiles over plain HTTP.
    pub(crate) fn tiles(&self) -> axum::Router {
        tiles::router(self.clone())
    }

    /// What is counted, over plain HTTP.
    pub(crate) fn metrics(&self) -> axum::Router {
        metrics::router(self.clone())
    }

    /// The log of the tenant in the field "tenant", if the caller may know that it exists.
    async fn log(&self, caller: &Caller, tenant: &str) -> Result<Log, ApiError> {
        let tenant = tenant_field(tenant)?;
        self.log_of(caller, &tenant).await
    }

    /// The log of a tenant by its bare id.
    async fn log_of(&self, caller: &Caller, tenant: &str) -> Result<Log, ApiError> {
        caller.require_tenant(tenant)?;
        let log = self.logs.get(tenant).await;
        Ok(log.map_err(LedgerError::from)?)
    }
}

/// A failure of the engine, as the caller is told.
fn told(error: impl Into<LedgerError>) -> ApiError {
    error.into().into()
}
