//! Very many logs in one process: an append a minute in each, alone and beside a tenant that wants ten times its quota; memory; the next start.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use counterfoil_chassis::auth::Token;
use counterfoil_proto::ledger::AppendRequest;
use futures::future::try_join_all;

use super::Engine;
use super::callers::{Answer, Connection};
use super::database::Database;
use super::load::{self, Ledger, SERVICES, Start};
use super::overload::{apart, joined};
use super::producer::Producer;
use crate::figures::{memory_mib, peak_memory_mib, print_on, seconds};

const SCENARIO: &str = "logs";
/// How often each log gets a record.
const EVERY: Duration = Duration::from_mins(1);
/// Quota of each tenant, records a second.
const QUOTA: NonZeroU32 = NonZeroU32::new(100).unwrap();
/// How many times its quota the busy tenant asks for.
const TIMES: f64 = 10.0;
/// The busy tenant.
const BUSY: &str = "busy";

pub(crate) async fn run(logs: usize, samples: usize, engine: Option<Engine>) -> anyhow::Result<()> {
    for database in Database::of(engine).await? {
        measure(&database, logs, samples).await?;
    }
    Ok(())
}

async fn measure(database: &Database, logs: usize, samples: usize) -> anyhow::Result<()> {
    let engine = database.name;
    let start = Start {
        tenant_records_per_second: Some(QUOTA),
        ..Start::default()
    };
    let ledger = Ledger::start_with(database, start).await?;
    let started = Instant::now();
    ledger.create_all("t", logs).await?;
    let mut producers: Vec<Producer> = (0..logs)
        .map(|tenant| Producer::new("inventory", &format!("t{tenant}")))
        .collect();
    let mut busy: Vec<Producer> = SERVICES.map(|service| Producer::new(service, BUSY)).into();
    ledger.create(BUSY).await?;
    ledger.register(&busy).await?;
    let created = vec![seconds(started.elapsed())];
    print_on(SCENARIO, engine, "create", "s", created);
    let rate = logs as f64 / EVERY.as_secs_f64();
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    let (mut asked, mut taken) = (Vec::new(), Vec::new());
    for _ in 0..samples {
        let calls = all(&mut producers);
        alone.push(load::paced(&ledger.clients, calls, rate).await? * 1e3);
        let over = Arc::new(AtomicBool::new(false));
        let (address, token) = (ledger.address(), ledger.token("inventory")?);
        let keeping = apart(keep_busy(address, token, busy, Arc::clone(&over)));
        let calls = all(&mut producers);
        let began = Instant::now();
        beside.push(load::paced(&ledger.clients, calls, rate).await? * 1e3);
        over.store(true, Ordering::Relaxed);
        let quota = f64::from(QUOTA.get()) * seconds(began.elapsed());
        let calls = joined(keeping)?;
        busy = calls.producers;
        asked.push(calls.asked as f64 / quota);
        taken.push(calls.taken as f64 / quota);
    }
    let ratio = alone
        .iter()
        .zip(&beside)
        .map(|(alone, beside)| beside / alone);
    let ratio = ratio.collect();
    print_on(SCENARIO, engine, "p99_alone", "ms", alone);
    print_on(SCENARIO, engine, "p99_beside_a_busy_tenant", "ms", beside);
    print_on(SCENARIO, engine, "p99_beside_over_alone", "ratio", ratio);
    print_on(SCENARIO, engine, "busy_asks_over_quota", "ratio", asked);
    print_on(SCENARIO, engine, "busy_gets_over_quota", "ratio", taken);
    // With the callers, who are in the same process.
    print_on(SCENARIO, engine, "memory", "MiB", vec![memory_mib()?]);
    let peak = vec![peak_memory_mib()?];
    print_on(SCENARIO, engine, "peak_memory", "MiB", peak);
    ledger.stop().await?;
    let started = Instant::now();
    let ledger = Ledger::start_with(database, start).await?;
    ledger.serves().await?;
    let start = seconds(started.elapsed());
    print_on(SCENARIO, engine, "start_to_serving", "s", vec![start]);
    // Each log is read again now: at once, and not over a minute.
    let calls = all(&mut producers);
    let read_again = load::unary(&ledger.clients, calls).await?;
    print_on(SCENARIO, engine, "first_appends", "1/s", vec![read_again]);
    ledger.stop().await
}

/// The next record of each log.
fn all(producers: &mut [Producer]) -> Vec<Vec<AppendRequest>> {
    producers.iter_mut().map(|one| one.calls(1)).collect()
}

/// What the busy tenant did.
struct Busy {
    producers: Vec<Producer>,
    asked: u64,
    taken: u64,
}

/// Calls ten times as often as the tenant may, until it is over.
async fn keep_busy(
    address: SocketAddr,
    token: Token,
    producers: Vec<Producer>,
    over: Arc<AtomicBool>,
) -> anyhow::Result<Busy> {
    let connection = Connection::open(address, &token).await?;
    let rate = f64::from(QUOTA.get()) * TIMES / producers.len() as f64;
    let every = Duration::from_secs_f64(1.0 / rate);
    let callers = producers.into_iter().map(|producer| {
        let (connection, over) = (connection.clone(), Arc::clone(&over));
        tokio::spawn(insist(connection, producer, every, over))
    });
    let mut all = Busy {
        producers: Vec::new(),
        asked: 0,
        taken: 0,
    };
    for caller in try_join_all(callers).await? {
        let (producer, asked, taken) = caller?;
        all.producers.push(producer);
        all.asked += asked;
        all.taken += taken;
    }
    Ok(all)
}

/// Sends the records of a producer, each until it is taken, whatever it is told; who is late catches up.
async fn insist(
    connection: Connection,
    mut producer: Producer,
    every: Duration,
    over: Arc<AtomicBool>,
) -> anyhow::Result<(Producer, u64, u64)> {
    let (mut asked, mut taken) = (0, 0);
    let mut due = Instant::now();
    let mut next = None;
    // The last record is sent until it is taken: the stream goes on in the next sample.
    while next.is_some() || !over.load(Ordering::Relaxed) {
        tokio::time::sleep_until(due.into()).await;
        due += every;
        let call = next.take().or_else(|| producer.calls(1).pop());
        let Some(call) = call else { continue };
        asked += 1;
        match connection.append(&call).await? {
            Answer::Taken => taken += 1,
            Answer::Refused(_) => next = Some(call),
            Answer::Otherwise(code) => ensure!(false, "the busy tenant is told {code}"),
        }
    }
    Ok((producer, asked, taken))
}
