//! Very many logs in one process: an append a minute in each, alone and beside a tenant that appends all it can; memory; the next start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use counterfoil_proto::ledger::AppendRequest;

use super::database::Database;
use super::load::{self, Client, Ledger};
use super::producer::Producer;
use crate::figures::{memory_mib, print_on, seconds};

const SCENARIO: &str = "logs";
/// How often each log gets a record.
const EVERY: Duration = Duration::from_mins(1);
/// Logs that are written in a sample.
const BATCH: usize = 256;

pub(crate) async fn run(logs: usize, samples: usize) -> anyhow::Result<()> {
    for database in [Database::sqlite()?, Database::postgres().await] {
        measure(&database, logs, samples).await?;
    }
    Ok(())
}

async fn measure(database: &Database, logs: usize, samples: usize) -> anyhow::Result<()> {
    let before = memory_mib()?;
    let ledger = Ledger::start(database).await?;
    ledger.create_all("t", logs).await?;
    let mut producers: Vec<Producer> = (0..logs)
        .map(|tenant| Producer::new("inventory", &format!("t{tenant}")))
        .collect();
    ledger.register(&producers[..1]).await?;
    ledger.create("busy").await?;
    let rate = logs as f64 / EVERY.as_secs_f64();
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    let mut busy = Producer::new("inventory", "busy");
    for _ in 0..samples {
        let calls = all(&mut producers);
        alone.push(load::paced(&ledger.clients, calls, rate).await? * 1e3);
        let over = Arc::new(AtomicBool::new(false));
        let client = ledger.clients.last().context("a client")?.clone();
        let keeping = tokio::spawn(keep_busy(client, busy, Arc::clone(&over)));
        let calls = all(&mut producers);
        beside.push(load::paced(&ledger.clients, calls, rate).await? * 1e3);
        over.store(true, Ordering::Relaxed);
        busy = keeping.await??;
    }
    let ratio = alone
        .iter()
        .zip(&beside)
        .map(|(alone, beside)| beside / alone);
    let ratio = ratio.collect();
    let engine = database.name;
    print_on(SCENARIO, engine, "p99_alone", "ms", alone);
    print_on(SCENARIO, engine, "p99_beside_a_busy_tenant", "ms", beside);
    print_on(SCENARIO, engine, "p99_beside_over_alone", "ratio", ratio);
    let memory = memory_mib()? - before;
    print_on(SCENARIO, engine, "memory", "MiB", vec![memory]);
    ledger.stop().await?;
    let started = Instant::now();
    let ledger = Ledger::start(database).await?;
    let start = seconds(started.elapsed());
    print_on(SCENARIO, engine, "start", "s", vec![start]);
    ledger.stop().await
}

/// The next record of each log.
fn all(producers: &mut [Producer]) -> Vec<Vec<AppendRequest>> {
    producers.iter_mut().map(|one| one.calls(1)).collect()
}

/// Appends batches, one after the other, until it is over.
async fn keep_busy(
    client: Client,
    mut producer: Producer,
    over: Arc<AtomicBool>,
) -> anyhow::Result<Producer> {
    while !over.load(Ordering::Relaxed) {
        super::stream(client.clone(), producer.batches(1, BATCH)).await?;
    }
    Ok(producer)
}
