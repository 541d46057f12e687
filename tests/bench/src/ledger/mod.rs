//! The ledger under load: signed records of about 600 bytes, verified, deduplicated, committed durably, answered with receipts, the
//! client on the same cores. Beside it in the same run: an echo of the same messages, bare verification, bare commits.

mod callers;
mod database;
mod echo;
pub(crate) mod growth;
mod load;
pub(crate) mod logs;
pub(crate) mod overload;
mod producer;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use counterfoil_proto::ledger::{AppendRequest, AppendStreamRequest, append_result};
use counterfoil_tlog::signature::verify_batch;
use futures::future::try_join_all;

use self::database::Database;
use self::load::{Ledger, SERVICES};
use self::producer::Producer;
use crate::figures::{peak_memory_mib, print_on, seconds};

const SCENARIO: &str = "ledger";
/// Tenants of the unary load; each has four producers with one call in flight.
const TENANTS: usize = 250;
/// Calls of one producer in one sample of the unary load, and of half of it.
const CALLS: usize = 20;
/// Streams of the streamed load, each to a log of its own.
const STREAMS: usize = 4;
/// Records of one message of a stream.
const BATCH: usize = 256;
/// Messages of one stream in one sample.
const MESSAGES: usize = 100;
/// Appends one after the other in one sample.
const SINGLE: usize = 500;
/// Records that are verified together.
const VERIFIED_TOGETHER: usize = 1024;

/// A database to measure on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    Unary,
    Single,
    Streamed,
}

/// Measures on both engines, or one; everything, or a part.
pub(crate) async fn run(
    samples: usize,
    engine: Option<Engine>,
    only: Option<Part>,
) -> anyhow::Result<()> {
    let asked = |one| engine.is_none_or(|engine| engine == one);
    if asked(Engine::Sqlite) {
        measure(&Database::sqlite()?, samples, only).await?;
    }
    if asked(Engine::Postgres) {
        measure(&Database::postgres().await, samples, only).await?;
    }
    Ok(())
}

async fn measure(database: &Database, samples: usize, only: Option<Part>) -> anyhow::Result<()> {
    let ledger = Ledger::start(database).await?;
    let engine = database.name;
    let asked = |one| only.is_none_or(|part| part == one);
    let producers = SERVICES.map(|service| Producer::new(service, ""));
    ledger.create("first").await?;
    ledger.register(&producers).await?;
    if asked(Part::Unary) {
        unary(&ledger, engine, samples).await?;
    }
    if asked(Part::Single) {
        single(&ledger, database, samples).await?;
    }
    if asked(Part::Streamed) {
        streamed(&ledger, engine, samples).await?;
    }
    print_on(
        SCENARIO,
        engine,
        "peak_memory",
        "MiB",
        vec![peak_memory_mib()?],
    );
    ledger.stop().await
}

/// 1,000 calls with one record each in flight, and as many of the same size to an echo.
async fn unary(ledger: &Ledger, engine: &str, samples: usize) -> anyhow::Result<()> {
    let echo = echo::start().await?;
    let mut producers = Vec::new();
    for tenant in 0..TENANTS {
        ledger.create(&format!("t{tenant}")).await?;
        for service in SERVICES {
            producers.push(Producer::new(service, &format!("t{tenant}")));
        }
    }
    ensure!(producers.len() == 1000, "{} producers", producers.len());
    let (mut appended, mut echoed, mut over) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..samples {
        let calls: Vec<Vec<AppendRequest>> =
            producers.iter_mut().map(|one| one.calls(CALLS)).collect();
        let echo_rate = load::unary(&echo.clients, calls.clone()).await?;
        let rate = load::unary(&ledger.clients, calls).await?;
        echoed.push(echo_rate);
        appended.push(rate);
        over.push(rate / echo_rate);
    }
    let half = appended.iter().copied().sum::<f64>() / 2.0 / appended.len() as f64;
    print_on(SCENARIO, engine, "unary_1000_in_flight", "1/s", appended);
    print_on(SCENARIO, engine, "echo_1000_in_flight", "1/s", echoed);
    print_on(SCENARIO, engine, "unary_over_echo", "ratio", over);
    let (mut late, mut commits, mut over) = (Vec::new(), Vec::new(), Vec::new());
    // As late as calls are that wait for nothing but two cores on which others compute, too.
    let mut echo_late = Vec::new();
    for _ in 0..samples {
        let calls: Vec<Vec<AppendRequest>> =
            producers.iter_mut().map(|one| one.calls(CALLS)).collect();
        echo_late.push(load::paced(&echo.clients, calls.clone(), half).await? * 1e3);
        let (count, took) = ledger.commits().await?;
        let p99 = load::paced(&ledger.clients, calls, half).await?;
        let (more, longer) = ledger.commits().await?;
        let commit = (longer - took) / (more - count);
        late.push(p99 * 1e3);
        commits.push(commit * 1e3);
        over.push(p99 / commit);
    }
    print_on(SCENARIO, engine, "p99_at_half_load", "ms", late);
    print_on(SCENARIO, engine, "echo_p99_at_half_load", "ms", echo_late);
    print_on(SCENARIO, engine, "commit_at_half_load", "ms", commits);
    print_on(SCENARIO, engine, "p99_over_commit", "ratio", over);
    echo.stop().await
}

/// One append after the other, and one bare commit after the other.
async fn single(ledger: &Ledger, database: &Database, samples: usize) -> anyhow::Result<()> {
    ledger.create("single").await?;
    let mut producer = Producer::new("inventory", "single");
    let client = ledger.clients.first().context("a client")?;
    let (mut appended, mut committed, mut over) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..samples {
        let calls = producer.calls(SINGLE);
        let bytes = calls.first().and_then(|call| call.record.clone());
        let bytes = bytes.context("a record")?.record;
        let commit_rate = database.commits(&bytes, SINGLE).await?;
        let rate = load::unary(std::slice::from_ref(client), vec![calls]).await?;
        appended.push(rate);
        committed.push(commit_rate);
        over.push(rate / commit_rate);
    }
    let engine = database.name;
    print_on(SCENARIO, engine, "single", "1/s", appended);
    print_on(SCENARIO, engine, "bare_commit", "1/s", committed);
    print_on(SCENARIO, engine, "single_over_commit", "ratio", over);
    Ok(())
}

/// Batches over streams, and bare verification of the same records on all cores.
async fn streamed(ledger: &Ledger, engine: &str, samples: usize) -> anyhow::Result<()> {
    let mut producers = Vec::new();
    for number in 0..STREAMS {
        let tenant = format!("stream{number}");
        ledger.create(&tenant).await?;
        producers.push(Producer::new("inventory", &tenant));
    }
    let (mut appended, mut verified, mut over) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..samples {
        let batches: Vec<Vec<AppendStreamRequest>> = producers
            .iter_mut()
            .map(|one| one.batches(MESSAGES, BATCH))
            .collect();
        let verify_rate = verification(&producers, &batches)?;
        let count = (STREAMS * MESSAGES * BATCH) as f64;
        let started = Instant::now();
        let streams = ledger.clients.iter().cycle().zip(batches);
        try_join_all(streams.map(|(client, batches)| stream(client.clone(), batches))).await?;
        let rate = count / seconds(started.elapsed());
        appended.push(rate);
        verified.push(verify_rate);
        over.push(rate / verify_rate);
    }
    print_on(SCENARIO, engine, "streamed", "1/s", appended);
    print_on(SCENARIO, engine, "bare_verification", "1/s", verified);
    print_on(SCENARIO, engine, "streamed_over_verify", "ratio", over);
    Ok(())
}

async fn stream(mut client: load::Client, batches: Vec<AppendStreamRequest>) -> anyhow::Result<()> {
    let mut left = batches.len();
    let answers = client.append_stream(futures::stream::iter(batches)).await?;
    let mut answers = answers.into_inner();
    while let Some(answer) = answers.message().await? {
        left -= 1;
        for result in answer.results {
            ensure!(
                matches!(result.result, Some(append_result::Result::Receipt(_))),
                "refused: {result:?}"
            );
        }
    }
    ensure!(left == 0, "{left} messages were not answered");
    Ok(())
}

/// Signatures that all cores verify in a second, and nothing else.
fn verification(
    producers: &[Producer],
    batches: &[Vec<AppendStreamRequest>],
) -> anyhow::Result<f64> {
    let mut signed = Vec::new();
    for (producer, batches) in producers.iter().zip(batches) {
        for record in batches.iter().flat_map(|batch| &batch.records) {
            let message = counterfoil_evidence::record::signed_message(&record.record);
            signed.push((producer.public_key(), message, record.signature.as_slice()));
        }
    }
    let cores = std::thread::available_parallelism()?.get();
    let started = Instant::now();
    let good = std::thread::scope(|scope| {
        let share = signed.len().div_ceil(cores);
        let threads: Vec<_> = signed
            .chunks(share)
            .map(|share| {
                scope.spawn(move || {
                    share.chunks(VERIFIED_TOGETHER).all(|batch| {
                        let items: Vec<_> = batch
                            .iter()
                            .map(|(key, message, signature)| (key, message.as_slice(), *signature))
                            .collect();
                        verify_batch(&items).is_ok()
                    })
                })
            })
            .collect();
        threads
            .into_iter()
            .all(|thread| thread.join().unwrap_or(false))
    });
    ensure!(good, "a signature does not verify");
    Ok(signed.len() as f64 / seconds(started.elapsed()))
}

/// The value that one in a hundred is beyond.
fn p99(mut values: Vec<Duration>) -> f64 {
    values.sort_unstable();
    let at = values.len().saturating_sub(1) * 99 / 100;
    values.get(at).map_or(0.0, |value| seconds(*value))
}
