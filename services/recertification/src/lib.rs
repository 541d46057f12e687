//! Recertification: what was decided on who keeps which access, by whom, by what right, and what became of it.
//!
//! - `model`: the rules, pure.
//! - `store`: all SQL.
//! - `jobs`: the long steps of a campaign, and what ends overdue reviews.
//! - `api`: the gRPC services, and the calls to authority and inventory (`api::peers`).
//! - `records`: the evidence each change leaves (R34 to R40, R51).
//!
//! Invariants: a decision is bound to what its reviewer was shown and is refused when the grant has changed since; nobody decides
//! on their own access; what nobody decided lapses by a recorded rule; a campaign closes with a count that adds up.

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
use counterfoil_proto::recertification::{
    campaign_service_server::CampaignServiceServer, review_service_server::ReviewServiceServer,
};
use tokio::net::TcpListener;
use tonic::service::Routes;

use crate::{
    api::{
        Api,
        peers::{authority::Authority, inventory::Inventory},
        streams::Streams,
    },
    context::{Busy, Context},
    jobs::staging::{self, Stagings},
};

pub use crate::{
    config::{Config, Settings},
    jobs::Progress,
};

/// Runs the service's job by hand: tests own the time.
#[derive(Debug, Clone)]
pub struct Jobs {
    context: Arc<Context>,
}

impl Jobs {
    /// Ends reviews that are due and takes up steps that were cut off, in all tenants.
    ///
    /// # Errors
    /// When the database does not answer. A campaign that cannot be moved is counted, logged and tried again next time.
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

/// Starts the service, and hands out its job beside: for whoever owns the time.
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
        service: "recertification",
        config: config.service,
        migrations: &[store::MIGRATIONS],
        clock,
        listener,
        shutdown,
    };
    let mut chassis = Chassis::start(setup).await?;
    let (stagings, orders) = Stagings::new();
    let context = Arc::new(Context {
        db: chassis.db.clone(),
        clock: chassis.clock.clone(),
        outbox: chassis.outbox.clone(),
        tenants: chassis.tenants()?,
        pages: chassis.pages.clone(),
        authority: Authority::new(chassis.authority()?),
        inventory: Inventory::new(chassis.inventory()?),
        settings: config.recertification,
        busy: Busy::default(),
        stagings,
        streams: Streams::default(),
    });
    let jobs = Jobs {
        context: Arc::clone(&context),
    };
    chassis.spawn(run_jobs(jobs.clone(), chassis.shutdown.clone()));
    let stop = chassis.shutdown.clone();
    chassis.spawn(staging::carry_all(Arc::clone(&context), orders, stop));
    let api = Api { context };
    let mut routes = Routes::builder();
    routes
        .add_service(
            CampaignServiceServer::new(api.clone()).max_encoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(
            ReviewServiceServer::new(api)
                .max_encoding_message_size(MESSAGE_BYTES_MAX)
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(Disclosures::new(chassis.outbox.clone()).into_server());
    let face = Face {
        routes: routes.routes(),
        ..Face::default()
    };
    Ok((chassis.serve(face).await?, jobs))
}

async fn run_jobs(jobs: Jobs, shutdown: CancellationToken) {
    let mut interval = tokio::time::interval(jobs.context.settings.job_interval());
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = interval.tick() => {}
        }
        if let Some(Err(error)) = shutdown.run_until_cancelled(jobs.run_once()).await {
            tracing::warn!(%error, "the job of recertification failed");
        }
    }
}
