//! The gRPC face: proto <-> model, authorise, validate. No SQL, no rules.
//!
//! One file a resource. [`serve`] names every rpc and the function that answers it; each of those checks the tenant first.

mod blobs;
mod changes;
mod connection;
mod convert;
mod entities;
mod grants;
mod names;
mod owners;
mod places;
mod proofs;
mod serve;
mod snapshots;
mod sources;
mod syncs;

use std::{sync::Arc, time::Duration};

use counterfoil_chassis::{
    ApiError, Chassis, Clock, Database, Outbox, StartError, client::ServiceChannel,
    disclosure::Disclosures, pages::Pages, server::MESSAGE_BYTES_MAX, tenants::TenantDirectory,
};
use counterfoil_proto::{
    authority::{
        decision_right_service_client::DecisionRightServiceClient,
        principal_service_client::PrincipalServiceClient,
    },
    inventory::{
        inventory_service_server::InventoryServiceServer,
        source_service_server::SourceServiceServer,
    },
};
use tonic::service::Routes;

use crate::{
    bell::Bell,
    config::InventoryConfig,
    jobs::rules::RuleBook,
    store::{self, sources::SourceRow},
};

/// How long an answer waits for its record to be in the ledger. What is not there by then is answered as PENDING.
const EVIDENCE_PATIENCE: Duration = Duration::from_secs(2);

/// Messages that wait for a slow reader of a stream.
const STREAM_AHEAD: usize = 4;

/// What the functions that answer need. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    db: Database,
    outbox: Outbox,
    clock: Clock,
    pages: Pages,
    tenants: TenantDirectory,
    principals: PrincipalServiceClient<ServiceChannel>,
    rights: DecisionRightServiceClient<ServiceChannel>,
    rules: Arc<dyn RuleBook>,
    bell: Bell,
    config: InventoryConfig,
    sets: Arc<proofs::SetCache>,
}

impl Api {
    /// Of a service that starts.
    pub(crate) fn new(
        chassis: &Chassis,
        config: InventoryConfig,
        tenants: TenantDirectory,
        rules: Arc<dyn RuleBook>,
        bell: Bell,
    ) -> Result<Self, StartError> {
        Ok(Self {
            db: chassis.db.clone(),
            outbox: chassis.outbox.clone(),
            clock: chassis.clock.clone(),
            pages: chassis.pages.clone(),
            tenants,
            principals: PrincipalServiceClient::new(chassis.authority()?),
            rights: DecisionRightServiceClient::new(chassis.authority()?)
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
            rules,
            bell,
            sets: Arc::new(proofs::SetCache::new(config.proof_cache_bytes)),
            config,
        })
    }

    /// The gRPC services.
    pub(crate) fn routes(&self) -> Routes {
        let mut routes = Routes::builder();
        let disclosures = Disclosures::new(self.outbox.clone()).with_source(Arc::new(self.clone()));
        routes
            .add_service(
                SourceServiceServer::new(self.clone()).max_encoding_message_size(MESSAGE_BYTES_MAX),
            )
            .add_service(
                InventoryServiceServer::new(self.clone())
                    .max_encoding_message_size(MESSAGE_BYTES_MAX),
            )
            .add_service(disclosures.into_server());
        routes.routes()
    }

    /// The source of a name whose tenant was checked.
    async fn source(&self, tenant: &str, source: &str) -> Result<SourceRow, ApiError> {
        store::sources::get(&self.db, tenant, source)
            .await?
            .ok_or_else(ApiError::not_found)
    }

    /// Number of the source that a filter names; 0 = the filter is empty.
    async fn source_filter(&self, tenant: &str, filter: &str) -> Result<i64, ApiError> {
        if filter.is_empty() {
            return Ok(0);
        }
        let name = names::SourceName::parse_field("source", filter)?;
        if name.tenant != tenant {
            return Err(ApiError::invalid("source", "is of another tenant"));
        }
        Ok(self.source(tenant, &name.source).await?.source_no)
    }
}

/// Rows to read for a page: one more than it shows, to know whether there is a next one.
fn one_more(size: u32) -> i64 {
    i64::from(size) + 1
}
