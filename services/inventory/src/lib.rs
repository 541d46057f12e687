//! What exists: identities, accounts, entitlements, grants and their owners, read from sources and sealed.
//!
//! See `README.md` for the tables and the invariants. [`start`] runs the service; [`jobs`] and [`store`] can also be driven
//! without it, as the benchmarks do.

mod api;
pub mod bell;
mod clients;
pub mod config;
pub mod error;
pub mod jobs;
pub mod model;
pub mod store;

use std::sync::Arc;

use counterfoil_chassis::{
    CancellationToken, Chassis, Clock, Face, Setup, StartError, db::Migrations, server::Running,
};
use tokio::net::TcpListener;

pub use config::Config;

use crate::{
    bell::Bell,
    clients::authority::AuthorityRules,
    jobs::{
        SyncJob,
        ingest::{Connectors, Workshop},
    },
};

/// Name of the service, its stream, its schema and its principal.
pub const SERVICE: &str = "inventory";

/// The tables of this service.
pub const MIGRATIONS: Migrations = store::MIGRATIONS;

/// Starts the service. `listener`: one that is bound already; `None`: the configured address is bound.
///
/// # Errors
/// See [`StartError`]; authority must be configured as a peer, and the ledger for evidence to arrive anywhere.
pub async fn start(
    config: Config,
    clock: Clock,
    listener: Option<TcpListener>,
    shutdown: CancellationToken,
) -> Result<Running, StartError> {
    let setup = Setup {
        service: SERVICE,
        config: config.service,
        migrations: &[MIGRATIONS],
        clock,
        listener,
        shutdown,
    };
    let mut chassis = Chassis::start(setup).await?;
    let tenants = chassis.tenants()?;
    let rules = Arc::new(AuthorityRules::new(tenants.clone(), chassis.authority()?));
    let bell = Bell::default();
    let shop = Workshop {
        db: chassis.db.clone(),
        outbox: chassis.outbox.clone(),
        clock: chassis.clock.clone(),
        config: config.inventory.clone(),
        bell: bell.clone(),
        readers: Arc::new(Connectors),
    };
    let job = SyncJob::new(shop, rules.clone());
    let shutdown = chassis.shutdown.clone();
    chassis.spawn(job.run(shutdown));
    let api = api::Api::new(&chassis, config.inventory, tenants, rules, bell)?;
    let face = Face {
        routes: api.routes(),
        ..Face::default()
    };
    chassis.serve(face).await
}
