//! The ledger service: the gRPC and tile face of the engine. One append-only, signed log a tenant.
//!
//! It takes the records of the other services, answers with receipts, proves and hands out what it holds, and states in every
//! log which keys may write to it (R08), by which schema to read it (R86), what was counted up to where (R78) and that all of it was hashed
//! again (R93). In a log of its own, the anchor log, it states which heads all other logs have (R91, R92).
//! [`start`] runs the service.

mod anchor_check;
mod anchored;
mod anchorer;
mod api;
mod begun;
mod config;
mod copies;
mod error;
mod evictor;
mod journal;
mod logs;
mod model;
mod offline;
mod publisher;
mod records_file;
mod scrubber;
mod serving;
mod statement;
mod store;
mod witnesses;

use std::sync::Arc;

use counterfoil_chassis::{
    CancellationToken, Chassis, Clock, Face, Setup, StartError, auth::HttpRoute, db::Migrations,
    server::Running,
};
use counterfoil_engine::{Anchor, DirectoryKeys, Engine, EngineOptions, HighWater, Publication};
use counterfoil_tlog::VerifierKey;
use model::anchoring::{ANCHOR, origin_of};
use tokio::net::TcpListener;
use witnesses::{Witnessed, Witnesses, Witnessing};

pub use config::{Config, LedgerConfig};
pub use counterfoil_engine::{EngineError, FsckReport, LogStatus};
pub use offline::{Offline, Progress, Rounds};
pub use records_file::RecordsFileError;

/// Name of the service, its stream, its schema and its principal.
pub const SERVICE: &str = "ledger";

/// The tables of this service; the logs' own are the engine's.
pub const MIGRATIONS: Migrations = store::MIGRATIONS;

/// Starts the service. `listener`: one that is bound already; `None`: the configured address is bound.
///
/// # Errors
/// See [`StartError`].
pub async fn start(
    config: Config,
    clock: Clock,
    listener: Option<TcpListener>,
    shutdown: CancellationToken,
) -> Result<Running, StartError> {
    let settings = config.ledger.clone();
    let publication = settings.publish_url.as_deref().map(publisher::open);
    let publication = publication.transpose().map_err(other)?;
    if settings.evict_after_days.is_some() && publication.is_none() {
        return Err(other(NothingToReadFrom));
    }
    let witnesses = Witnesses::open(&settings, &clock).map_err(other)?;
    let anchors = anchors(&config, publication.as_ref(), witnesses.as_ref())?;
    let options = engine_options(&config, anchors, publication.clone());
    let witnessed = witnesses.map(|witnesses| Witnessed::new(witnesses, clock.clone()));
    let (mut chassis, logs) = open(config, clock, listener, shutdown, options).await?;
    let anchoring = settings.anchor_interval_seconds != Some(0);
    // Where nothing is published, nobody waits for it.
    let copies = publication.is_some().then(copies::Copies::default);
    let epochs = anchoring.then(|| {
        let copies = copies.clone();
        let cosigners = witnessed
            .clone()
            .map(|witnessed| anchored::Cosigners { witnessed, copies });
        anchored::Epochs::new(logs.clone(), cosigners)
    });
    let waits = api::Waits {
        copies,
        epochs,
        witnessed,
    };
    let serving = serving::Serving::new(logs.clone(), chassis.health.clone());
    let per_second = settings.tenant_records_per_second;
    let waiting = waits.clone();
    let api = api::Api::new(logs.clone(), waiting, serving.clone(), per_second, &chassis);
    let shutdown = chassis.shutdown.clone();
    let told = serving.begin().await;
    chassis.spawn(serving.run(told, shutdown.clone()));
    spawn_jobs(&mut chassis, &logs, (publication, waits), &settings);
    chassis.spawn(catch_up(logs, shutdown));
    let face = Face {
        routes: api.routes(),
        http: vec![
            HttpRoute {
                prefix: api::TILES_PREFIX,
                permission: "logs.read",
                router: api.tiles(),
            },
            HttpRoute {
                prefix: api::METRICS_PREFIX,
                permission: "metrics.read",
                router: api.metrics(),
            },
        ],
        ..Face::default()
    };
    chassis.serve(face).await
}

/// Starts what goes on beside the calls: each of it by itself, and none in the way of an append.
fn spawn_jobs(
    chassis: &mut Chassis,
    logs: &logs::Logs,
    (publication, waits): (Option<Publication>, api::Waits),
    settings: &LedgerConfig,
) {
    let (clock, shutdown) = (chassis.clock.clone(), chassis.shutdown.clone());
    let to = publication.clone().zip(waits.copies);
    if let Some(witnessed) = waits.witnessed {
        let interval = settings.witness_interval_seconds;
        let (logs, to, clock) = (logs.clone(), to.clone(), clock.clone());
        let witnessing = Witnessing::new(logs, to, witnessed, clock, interval);
        chassis.spawn(witnessing.run(shutdown.clone()));
    }
    if let Some(epochs) = waits.epochs {
        let seconds = settings.anchor_interval_seconds;
        let anchorer = anchorer::Anchorer::new(logs.clone(), epochs, clock.clone(), seconds);
        chassis.spawn(anchorer.run(shutdown.clone()));
    }
    if let Some((copy, days)) = publication.clone().zip(settings.evict_after_days) {
        let evictor = evictor::Evictor::new(logs.clone(), copy, days);
        chassis.spawn(evictor.run(clock.clone(), shutdown.clone()));
    }
    let hours = settings.scrub_interval_hours;
    let scrubber = scrubber::Scrubber::new(chassis.db.clone(), publication, hours);
    chassis.spawn(scrubber.run(logs.clone(), clock.clone(), shutdown.clone()));
    let publisher = to.map(|(to, copies)| {
        let interval = settings.publish_interval_seconds;
        publisher::Publisher::new(logs.clone(), to, copies, clock, interval)
    });
    chassis.spawn(publish_and_close(logs.clone(), publisher, shutdown));
}

/// Opens the logs on what every service has.
async fn open(
    config: Config,
    clock: Clock,
    listener: Option<TcpListener>,
    shutdown: CancellationToken,
    options: EngineOptions,
) -> Result<(Chassis, logs::Logs), StartError> {
    let keys = DirectoryKeys::open(config.log_keys_dir()).map_err(other)?;
    let journal = journal::Journal::new(&config.high_water_dir());
    let origin = origin_of(&config.service.deployment, ANCHOR);
    let begun = begun::Begun::new(&config.log_keys_dir(), &origin);
    let setup = Setup {
        service: SERVICE,
        config: config.service,
        migrations: &[MIGRATIONS],
        clock,
        listener,
        shutdown,
    };
    let chassis = Chassis::start(setup).await?;
    let clock = Arc::new(EngineClock(chassis.clock.clone()));
    let url = &chassis.config.database_url;
    let engine = Engine::open(url, Arc::new(keys), clock, options)
        .await
        .map_err(other)?;
    let logs = logs::Logs::new(parts(&chassis, engine, (journal, begun)).await?);
    Ok((chassis, logs))
}

/// What a log is compared with before it is written; and, when it is recovered, with the witnesses too.
fn anchors(
    config: &Config,
    publication: Option<&Publication>,
    witnesses: Option<&Witnesses>,
) -> Result<Vec<Arc<dyn Anchor>>, StartError> {
    let high_water = HighWater::open(config.high_water_dir()).map_err(other)?;
    let mut anchors: Vec<Arc<dyn Anchor>> = vec![Arc::new(high_water)];
    if let Some(copy) = publication {
        anchors.push(Arc::new(copy.clone()));
    }
    anchors.extend(witnesses.into_iter().flat_map(Witnesses::anchors));
    Ok(anchors)
}

fn engine_options(
    config: &Config,
    anchors: Vec<Arc<dyn Anchor>>,
    copy: Option<Publication>,
) -> EngineOptions {
    let mut options = EngineOptions {
        schema: Some(SERVICE.to_owned()),
        owner_url: config.service.migration_database_url.clone(),
        anchors,
        copy,
        ..EngineOptions::default()
    };
    if let Some(bytes) = config.ledger.queue_bytes_max {
        options.queue_bytes_max = bytes;
    }
    options
}

async fn parts(
    chassis: &Chassis,
    engine: Engine,
    (journal, begun): (journal::Journal, begun::Begun),
) -> Result<logs::Parts, StartError> {
    let schema_hash = counterfoil_evidence::schema_hash();
    let descriptor_set = counterfoil_evidence::DESCRIPTOR_SET;
    store::insert_schema(&chassis.db, &schema_hash, descriptor_set)
        .await
        .map_err(other)?;
    let key = chassis.outbox.key();
    Ok(logs::Parts {
        engine,
        db: chassis.db.clone(),
        clock: chassis.clock.clone(),
        deployment: chassis.config.deployment.clone(),
        registrar: VerifierKey::parse(&key.vkey()).map_err(other)?,
        writer: statement::Writer {
            key_id: key.key_id().to_owned(),
            signer: key.record_signer(),
            schema_hash,
        },
        journal,
        begun,
    })
}

/// Tells all logs what they have missed while the service was away.
async fn catch_up(logs: logs::Logs, shutdown: CancellationToken) {
    if let Some(Err(error)) = shutdown.run_until_cancelled(logs.catch_up()).await {
        tracing::error!(%error, "not every log states the newest keys and schema; the next start tries again");
    }
}

/// Publishes until the service ends; then answers what waits, publishes the rest and closes the logs.
async fn publish_and_close(
    logs: logs::Logs,
    publisher: Option<publisher::Publisher>,
    shutdown: CancellationToken,
) {
    if let Some(publisher) = &publisher {
        publisher.run(&shutdown).await;
    }
    shutdown.cancelled().await;
    logs.finish().await;
    if let Some(publisher) = publisher {
        publisher.finish().await;
    }
    logs.close().await;
}

/// Entries may leave the database for the published copy only.
#[derive(Debug, thiserror::Error)]
#[error(
    "ledger.evict_after_days needs ledger.publish_url: entries that leave the database are read from there"
)]
struct NothingToReadFrom;

fn other(error: impl std::error::Error + Send + Sync + 'static) -> StartError {
    StartError::Other(Box::new(error))
}

/// The service's clock, as the engine takes it.
#[derive(Debug)]
struct EngineClock(Clock);

impl counterfoil_engine::Clock for EngineClock {
    fn now_ms(&self) -> i64 {
        self.0.now_ms()
    }
}
