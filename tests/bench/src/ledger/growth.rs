//! One log that grows: what an append and the proofs cost when it is small and when it is large, and how long the next start takes.

use std::time::Instant;

use anyhow::Context as _;
use counterfoil_proto::ledger::{
    GetReceiptRequest, ProveConsistencyRequest, get_receipt_request::Selector,
};

use super::database::Database;
use super::load::{self, Ledger};
use super::producer::Producer;
use crate::figures::{print_on, seconds};

const SCENARIO: &str = "growth";
const TENANT: &str = "growing";
/// Records of one message of the stream that fills the log, and messages of one stream.
const BATCH: usize = 256;
const MESSAGES: usize = 40;
/// Appends and proofs in one sample.
const SAMPLE: usize = 300;

/// What one thing costs, milliseconds.
#[derive(Debug, Clone, Copy)]
struct Costs {
    append: f64,
    inclusion: f64,
    consistency: f64,
}

pub(crate) async fn run(small: u64, large: u64) -> anyhow::Result<()> {
    for database in [Database::sqlite()?, Database::postgres().await] {
        measure(&database, small, large).await?;
    }
    Ok(())
}

async fn measure(database: &Database, small: u64, large: u64) -> anyhow::Result<()> {
    let ledger = Ledger::start(database).await?;
    ledger.create(TENANT).await?;
    let mut producer = Producer::new("inventory", TENANT);
    ledger.register(std::slice::from_ref(&producer)).await?;
    let mut size = 0;
    let mut costs = Vec::new();
    for wanted in [small, large] {
        fill(&ledger, &mut producer, &mut size, wanted).await?;
        costs.push(sample(&ledger, &mut producer, &mut size).await?);
    }
    let engine = database.name;
    let print = |metric: &str, unit: &str, value| {
        print_on(SCENARIO, engine, metric, unit, vec![value]);
    };
    print("entries", "1", size as f64);
    if let [small, large] = costs.as_slice() {
        print("append_small", "ms", small.append);
        print("append_large", "ms", large.append);
        print(
            "append_large_over_small",
            "ratio",
            large.append / small.append,
        );
        let ratio = large.inclusion / small.inclusion;
        print("inclusion_large_over_small", "ratio", ratio);
        let ratio = large.consistency / small.consistency;
        print("consistency_large_over_small", "ratio", ratio);
    }
    ledger.stop().await?;
    let started = Instant::now();
    let ledger = Ledger::start(database).await?;
    print("start", "s", seconds(started.elapsed()));
    let started = Instant::now();
    load::unary(&ledger.clients, vec![producer.calls(1)]).await?;
    print("first_append", "s", seconds(started.elapsed()));
    ledger.stop().await
}

/// Streams records until the log is so large.
async fn fill(
    ledger: &Ledger,
    producer: &mut Producer,
    size: &mut u64,
    wanted: u64,
) -> anyhow::Result<()> {
    let client = ledger.clients.first().context("a client")?;
    while *size < wanted {
        super::stream(client.clone(), producer.batches(MESSAGES, BATCH)).await?;
        *size += (MESSAGES * BATCH) as u64;
    }
    Ok(())
}

async fn sample(ledger: &Ledger, producer: &mut Producer, size: &mut u64) -> anyhow::Result<Costs> {
    let mut client = ledger.clients.first().context("a client")?.clone();
    let milliseconds = |started: Instant| seconds(started.elapsed()) * 1e3 / SAMPLE as f64;
    let calls = producer.calls(SAMPLE);
    let started = Instant::now();
    load::unary(std::slice::from_ref(&client), vec![calls]).await?;
    let append = milliseconds(started);
    *size += SAMPLE as u64;
    // Spread over the whole log, so that no two are in one tile.
    let places = (0..SAMPLE as u64).map(|number| number * *size / SAMPLE as u64);
    let tenant = format!("tenants/{TENANT}");
    let started = Instant::now();
    for place in places.clone() {
        let request = GetReceiptRequest {
            tenant: tenant.clone(),
            selector: Some(Selector::Index(place)),
            ..GetReceiptRequest::default()
        };
        client.get_receipt(request).await?;
    }
    let inclusion = milliseconds(started);
    let started = Instant::now();
    for place in places {
        let request = ProveConsistencyRequest {
            tenant: tenant.clone(),
            old_size: place + 1,
            new_size: 0,
        };
        client.prove_consistency(request).await?;
    }
    Ok(Costs {
        append,
        inclusion,
        consistency: milliseconds(started),
    })
}
