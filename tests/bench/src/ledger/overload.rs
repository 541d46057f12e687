//! Ten times as many calls as the ledger takes: what it still does, how soon it refuses the rest, and whether it says that it lives.
//!
//! 3,000 producers send one record each, again and again until it is taken, so that together they call ten times as often as the same
//! ledger answered before. A refusal counts from the moment it was sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use counterfoil_chassis::client;
use futures::future::try_join_all;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

use super::database::Database;
use super::load::{self, Client, Ledger, SERVICES};
use super::p99;
use super::producer::Producer;
use crate::figures::{memory_mib, print_on, seconds};

const SCENARIO: &str = "overload";
/// Tenants; each has four producers.
const TENANTS: usize = 750;
/// Calls of each producer by which the capacity is measured.
const CALLS: usize = 10;
/// How many times the capacity is asked for.
const TIMES: f64 = 10.0;
/// Calls at once, as they are configured by default.
const CALLS_MAX: usize = 2048;
const CONNECTIONS: usize = 60;
const HEALTH_EVERY: Duration = Duration::from_millis(100);

/// What came of the calls of some producers.
#[derive(Debug, Default)]
struct Calls {
    taken: u64,
    refused: Vec<Duration>,
    /// Refusals that are no RESOURCE_EXHAUSTED with RetryInfo.
    otherwise: u64,
}

pub(crate) async fn run(duration: Duration) -> anyhow::Result<()> {
    for database in [Database::sqlite()?, Database::postgres().await] {
        measure(&database, duration).await?;
    }
    Ok(())
}

async fn measure(database: &Database, duration: Duration) -> anyhow::Result<()> {
    let ledger = Ledger::start_with(database, CALLS_MAX, CONNECTIONS).await?;
    let mut producers = Vec::new();
    ledger.create_all("t", TENANTS).await?;
    for tenant in 0..TENANTS {
        producers.extend(SERVICES.map(|service| Producer::new(service, &format!("t{tenant}"))));
    }
    ledger.register(&producers[..SERVICES.len()]).await?;
    // As many callers as the limit lets in, and not more.
    let callers = producers.iter_mut().take(CALLS_MAX / 2);
    let calls = callers.map(|one| one.calls(CALLS)).collect();
    let capacity = load::unary(&ledger.clients, calls).await?;
    let before = memory_mib()?;
    let over = Arc::new(AtomicBool::new(false));
    let health = tokio::spawn(health(ledger.url(), Arc::clone(&over)));
    let every = Duration::from_secs_f64(producers.len() as f64 / (capacity * TIMES));
    let started = Instant::now();
    let callers = ledger.clients.iter().cycle().zip(producers);
    let callers = callers.map(|(client, producer)| {
        tokio::spawn(call(client.clone(), producer, every, started + duration))
    });
    let mut all = Calls::default();
    for calls in try_join_all(callers).await? {
        let calls = calls?;
        all.taken += calls.taken;
        all.refused.extend(calls.refused);
        all.otherwise += calls.otherwise;
    }
    let took = seconds(started.elapsed());
    over.store(true, Ordering::Relaxed);
    let (slowest, unhealthy) = health.await??;
    let engine = database.name;
    let print = |metric: &str, unit: &str, value| {
        print_on(SCENARIO, engine, metric, unit, vec![value]);
    };
    let offered = all.taken + all.refused.len() as u64 + all.otherwise;
    print("capacity", "1/s", capacity);
    print(
        "offered_over_capacity",
        "ratio",
        offered as f64 / took / capacity,
    );
    print(
        "goodput_over_capacity",
        "ratio",
        all.taken as f64 / took / capacity,
    );
    print("refused", "1", all.refused.len() as f64);
    print("refused_otherwise", "1", all.otherwise as f64);
    print("p99_of_refusals", "ms", p99(all.refused) * 1e3);
    print("slowest_health", "ms", seconds(slowest) * 1e3);
    print("unhealthy", "1", unhealthy as f64);
    print("memory_growth", "MiB", memory_mib()? - before);
    ledger.stop().await
}

/// Sends the records of a producer, each until it is taken.
async fn call(
    mut client: Client,
    mut producer: Producer,
    every: Duration,
    until: Instant,
) -> anyhow::Result<Calls> {
    let mut calls = Calls::default();
    let mut due = Instant::now();
    let mut next = None;
    while Instant::now() < until {
        tokio::time::sleep_until(due.into()).await;
        // Who is late does not catch up.
        due = Instant::now().max(due + every);
        let call = next.take().or_else(|| producer.calls(1).pop());
        let call = call.context("a call")?;
        let sent = Instant::now();
        match client.append(call.clone()).await {
            Ok(_) => calls.taken += 1,
            Err(status) => {
                let says = status.get_details_retry_info();
                if status.code() == Code::ResourceExhausted && says.is_some() {
                    calls.refused.push(sent.elapsed());
                } else {
                    calls.otherwise += 1;
                }
                next = Some(call);
            }
        }
    }
    Ok(calls)
}

/// Asks for the health until it is over: the longest answer, and how many were none or not SERVING.
async fn health(url: String, over: Arc<AtomicBool>) -> anyhow::Result<(Duration, u64)> {
    let mut client = HealthClient::new(client::connect(&url, None)?);
    let (mut slowest, mut unhealthy, mut asked) = (Duration::ZERO, 0, 0);
    let mut tick = tokio::time::interval(HEALTH_EVERY);
    while !over.load(Ordering::Relaxed) {
        tick.tick().await;
        let sent = Instant::now();
        let answer = client.check(HealthCheckRequest::default()).await;
        slowest = slowest.max(sent.elapsed());
        asked += 1;
        // 1 is SERVING.
        unhealthy += u64::from(!answer.is_ok_and(|answer| answer.into_inner().status == 1));
    }
    ensure!(asked > 0, "the health was never asked for");
    Ok((slowest, unhealthy))
}
