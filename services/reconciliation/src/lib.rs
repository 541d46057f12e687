//! Reconciliation: whether reality agrees with what was decided, what is done about it, and the proof that it landed and stayed.
//!
//! - `model`: the rules, pure.
//! - `store`: all SQL.
//! - `jobs`: carrying remediations out, re-reading what was removed.
//! - `api`: the gRPC services, and the calls to authority, inventory and recertification (`api::peers`).
//! - `records`: the evidence each change leaves (R25 to R27, R43 to R49, R54, R58, R87).
//!
//! Invariants: no target is touched before the intent is in the ledger; nothing closes but on a proof against a sealed read-back
//! by another principal; what nobody knows is read before it is repeated; what cannot be read is never green.

mod api;
mod config;
mod context;
mod error;
mod jobs;
mod model;
mod records;
mod store;

use std::sync::Arc;

use counterfoil_chassis::{
    CancellationToken, Chassis, Clock, Face, Setup, StartError,
    disclosure::Disclosures,
    error::ApiError,
    server::{MESSAGE_BYTES_MAX, Running},
};
use counterfoil_proto::reconciliation::{
    recon_service_server::ReconServiceServer, remediation_service_server::RemediationServiceServer,
};
use tokio::{net::TcpListener, sync::mpsc};
use tonic::service::Routes;

use crate::{
    api::{
        Api,
        peers::{authority::Authority, inventory::Inventory, recertification::Recertification},
    },
    context::{Context, Parts, Peers},
};

pub use crate::{
    config::{Config, Settings},
    jobs::Progress,
};

/// Runs the service's jobs by hand: tests own the time.
#[derive(Debug, Clone)]
pub struct Jobs {
    context: Arc<Context>,
}

impl Jobs {
    /// Does the re-reads that are due, in all tenants, tells recertification what it was not told yet, and takes up what was
    /// cut off.
    ///
    /// # Errors
    /// When the database does not answer. What cannot be done is counted, logged and tried again next time.
    pub async fn run_once(&self) -> Result<Progress, ApiError> {
        jobs::run_once(&self.context).await
    }
}

/// Starts the service.
///
/// # Errors
/// When its configuration, its database, its keys or its listener cannot be used.
pub async fn start(
    config: Config,
    clock: Clock,
    listener: Option<TcpListener>,
    shutdown: CancellationToken,
) -> Result<Running, StartError> {
    let (running, _) = start_with_jobs(config, clock, listener, shutdown).await?;
    Ok(running)
}

/// Starts the service, and hands out its jobs beside: for whoever owns the time.
///
/// # Errors
/// As [`start`].
pub async fn start_with_jobs(
    config: Config,
    clock: Clock,
    listener: Option<TcpListener>,
    shutdown: CancellationToken,
) -> Result<(Running, Jobs), StartError> {
    let setup = Setup {
        service: "reconciliation",
        config: config.service,
        migrations: &[store::MIGRATIONS],
        clock,
        listener,
        shutdown,
    };
    let mut chassis = Chassis::start(setup).await?;
    let (work, works) = mpsc::unbounded_channel();
    let parts = Parts {
        db: chassis.db.clone(),
        clock: chassis.clock.clone(),
        outbox: chassis.outbox.clone(),
        tenants: chassis.tenants()?,
        pages: chassis.pages.clone(),
        settings: config.reconciliation,
        shutdown: chassis.shutdown.clone(),
        work,
    };
    let peers = Peers {
        authority: Authority::new(chassis.authority()?),
        inventory: Inventory::new(chassis.inventory()?),
        recertification: Recertification::new(chassis.recertification()?),
    };
    let context = Arc::new(Context::new(parts, peers));
    chassis.spawn(jobs::supervise(Arc::clone(&context), works));
    chassis.spawn(jobs::run(Arc::clone(&context)));
    let jobs = Jobs {
        context: Arc::clone(&context),
    };
    let api = Api { context };
    let mut routes = Routes::builder();
    routes
        .add_service(
            ReconServiceServer::new(api.clone()).max_encoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(
            RemediationServiceServer::new(api).max_encoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(Disclosures::new(chassis.outbox.clone()).into_server());
    let face = Face {
        routes: routes.routes(),
        ..Face::default()
    };
    Ok((chassis.serve(face).await?, jobs))
}
