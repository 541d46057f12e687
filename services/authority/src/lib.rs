//! Authority: tenants, organisations, principals, accountability and decision rights. Who may decide what, for whom.
//!
//! Every other service asks here before it decides: whether the tenant is governed, who presents a token, by what right a
//! principal decides, and who answers for it. [`start`] runs the service.

mod api;
mod config;
mod error;
mod jobs;
mod model;
mod oidc;
mod store;
#[cfg(test)]
mod tests;

#[cfg(test)]
extern crate self as counterfoil_authority;

use std::sync::Arc;

use counterfoil_chassis::{
    CancellationToken, Chassis, Clock, Face, Setup, StartError, db::Migrations, server::Running,
};
use tokio::net::TcpListener;

pub use config::{Algorithm, Config, IssuerConfig};
pub use jobs::Jobs;

/// Name of the service, its stream, its schema and its principal.
pub const SERVICE: &str = "authority";

/// The tables of this service.
pub const MIGRATIONS: Migrations = store::MIGRATIONS;

/// Starts the service. `listener`: one that is bound already; `None`: the configured address is bound.
///
/// # Errors
/// See [`StartError`]; the ledger must be configured as a peer, and each issuer must be bounded.
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
    config
        .check()
        .map_err(|wrong| StartError::Other(wrong.into()))?;
    let issuers = Arc::new(oidc::Issuers::new(&config.issuers, clock.clone())?);
    let setup = Setup {
        service: SERVICE,
        config: config.service,
        migrations: &[MIGRATIONS],
        clock,
        listener,
        shutdown,
    };
    let mut chassis = Chassis::start(setup).await?;
    let shutdown = chassis.shutdown.clone();
    chassis.spawn(Arc::clone(&issuers).run(shutdown));
    let api = api::Api::new(&chassis, issuers)?;
    let (uses, db, clock) = (api.uses.clone(), chassis.db.clone(), chassis.clock.clone());
    let shutdown = chassis.shutdown.clone();
    chassis.spawn(async move { uses.run(db, clock, shutdown).await });
    let jobs = Jobs::new(api.clone());
    let shutdown = chassis.shutdown.clone();
    chassis.spawn(jobs.clone().run(shutdown));
    let face = Face {
        routes: api.routes(),
        introspector: Some(Arc::new(api.clone())),
        operators: Some(Arc::new(api)),
        ..Face::default()
    };
    Ok((chassis.serve(face).await?, jobs))
}
