//! Ten times as many calls as the ledger takes: what it still does, how soon it refuses the rest, what memory it takes, and whether it says
//! that it lives.
//!
//! 3,000 producers send one record each, again and again until it is taken, together ten times as often as the same callers got answers
//! before. Half of them come back when a refusal says so, the others do not listen. A refusal counts from the moment its call was sent. The
//! callers of each kind have a thread of their own and speak HTTP/2 with nothing around it; they have no cores of their own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use counterfoil_chassis::auth::Token;
use counterfoil_chassis::client;
use counterfoil_proto::ledger::AppendRequest;
use futures::future::try_join_all;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::Engine;
use super::callers::{Answer, Connection};
use super::database::Database;
use super::load::{Ledger, SERVICES, Start};
use super::p99;
use super::producer::Producer;
use crate::figures::{memory_mib, print_on, seconds};

const SCENARIO: &str = "overload";
/// Tenants; each has four producers.
const TENANTS: usize = 750;
/// How long the capacity is measured, after as long to warm up.
const CAPACITY: Duration = Duration::from_secs(10);
/// How many times the capacity is asked for.
const TIMES: f64 = 10.0;
/// Calls at once, as they are configured by default.
const CALLS_MAX: usize = 2048;
const CONNECTIONS: usize = 60;
const LOOK: Duration = Duration::from_millis(100);
/// How long after the overload the memory is looked at.
const AFTER: Duration = Duration::from_secs(5);

/// How a caller calls.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// How long from one call to the next, if the answer was there by then.
    every: Duration,
    /// Whether it comes back when a refusal says so, and not before.
    listens: bool,
    until: Instant,
}

/// What came of calls.
#[derive(Debug, Default)]
struct Calls {
    taken: Vec<Duration>,
    refused: Vec<Duration>,
    /// Refusals that are no RESOURCE_EXHAUSTED with RetryInfo.
    otherwise: u64,
}

impl Calls {
    fn add(&mut self, others: Self) {
        self.taken.extend(others.taken);
        self.refused.extend(others.refused);
        self.otherwise += others.otherwise;
    }
}

pub(crate) async fn run(duration: Duration, engine: Option<Engine>) -> anyhow::Result<()> {
    for database in Database::of(engine).await? {
        measure(&database, duration).await?;
    }
    Ok(())
}

async fn measure(database: &Database, duration: Duration) -> anyhow::Result<()> {
    let start = Start {
        calls_max: CALLS_MAX,
        ..Start::default()
    };
    let ledger = Ledger::start_with(database, start).await?;
    ledger.create_all("t", TENANTS).await?;
    let tenants = (0..TENANTS).map(|tenant| format!("t{tenant}"));
    let producers = tenants.flat_map(|tenant| SERVICES.map(|one| Producer::new(one, &tenant)));
    let producers: Vec<Producer> = producers.collect();
    ledger.register(&producers[..SERVICES.len()]).await?;
    let to = (ledger.address(), ledger.token("inventory")?);
    let mut callers = halves(producers);
    let pace = |every, listens, duration| Pace {
        every,
        listens,
        until: Instant::now() + duration,
    };
    // As many as are let in, and not more.
    let rest = callers.each_mut().map(|half| half.split_off(CALLS_MAX / 4));
    let mut capacity = 0.0;
    for _ in 0..2 {
        let pace = pace(Duration::ZERO, true, CAPACITY);
        let (producers, calls, took) = call_all(&to, callers, [pace; 2]).await?;
        let taken: usize = calls.iter().map(|calls| calls.taken.len()).sum();
        capacity = taken as f64 / took;
        callers = producers;
    }
    ensure!(capacity > 0.0, "nothing was taken");
    for (half, rest) in callers.iter_mut().zip(rest) {
        half.extend(rest);
    }
    let count: usize = callers.iter().map(Vec::len).sum();
    let every = Duration::from_secs_f64(count as f64 / (capacity * TIMES));
    let before = memory_mib()?;
    let over = Arc::new(AtomicBool::new(false));
    let health = apart(health(ledger.url(), Arc::clone(&over)));
    let memory = tokio::spawn(most_memory(Arc::clone(&over)));
    let paces = [true, false].map(|listens| pace(every, listens, duration));
    let (_, calls, took) = call_all(&to, callers, paces).await?;
    over.store(true, Ordering::Relaxed);
    let during = memory.await??;
    let (slowest, asked, unhealthy) = joined(health)?;
    let [mut calls, others] = calls;
    calls.add(others);
    // What is measured is memory so long after, whatever happens meanwhile.
    tokio::time::sleep_until(tokio::time::Instant::now() + AFTER).await;
    let print = |metric: &str, unit: &str, value| {
        print_on(SCENARIO, database.name, metric, unit, vec![value]);
    };
    let (taken, refused) = (calls.taken.len() as f64, calls.refused.len() as f64);
    let offered = taken + refused + calls.otherwise as f64;
    print("capacity", "1/s", capacity);
    print("offered_over_capacity", "ratio", offered / took / capacity);
    print("goodput_over_capacity", "ratio", taken / took / capacity);
    print("refused", "1", refused);
    print("refused_otherwise", "1", calls.otherwise as f64);
    let slowest_refusal = calls.refused.iter().max().copied().unwrap_or_default();
    print("p99_of_refusals", "ms", p99(calls.refused) * 1e3);
    print("slowest_refusal", "ms", seconds(slowest_refusal) * 1e3);
    print("p99_of_appends", "ms", p99(calls.taken) * 1e3);
    print("health_asked", "1", asked as f64);
    print("slowest_health", "ms", seconds(slowest) * 1e3);
    print("unhealthy", "1", unhealthy as f64);
    print("memory_before", "MiB", before);
    print("memory_during", "MiB", during);
    print("memory_after", "MiB", memory_mib()?);
    ledger.stop().await
}

/// A thread with its answer.
pub(crate) type Apart<T> = std::thread::JoinHandle<anyhow::Result<T>>;

/// Runs something on a thread of its own, where it does not wait behind what the server does.
pub(crate) fn apart<T: Send + 'static>(
    work: impl Future<Output = anyhow::Result<T>> + Send + 'static,
) -> Apart<T> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(work)
    })
}

pub(crate) fn joined<T>(apart: Apart<T>) -> anyhow::Result<T> {
    let ended = apart.join();
    ended.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread of callers panicked")))
}

/// The most memory there was until it is over, MiB.
async fn most_memory(over: Arc<AtomicBool>) -> anyhow::Result<f64> {
    let mut look = tokio::time::interval(LOOK);
    let mut most: f64 = 0.0;
    while !over.load(Ordering::Relaxed) {
        look.tick().await;
        most = most.max(memory_mib()?);
    }
    Ok(most)
}

/// Every other one.
fn halves(producers: Vec<Producer>) -> [Vec<Producer>; 2] {
    let mut halves = [Vec::new(), Vec::new()];
    for (number, producer) in producers.into_iter().enumerate() {
        halves[number % 2].push(producer);
    }
    halves
}

/// Calls with both halves, each on a thread and on connections of its own; the producers as they are then, what came of the calls, and how
/// many seconds that took.
async fn call_all(
    to: &(SocketAddr, Token),
    producers: [Vec<Producer>; 2],
    paces: [Pace; 2],
) -> anyhow::Result<([Vec<Producer>; 2], [Calls; 2], f64)> {
    let started = Instant::now();
    let [first, second] = producers;
    let [first, second] = [(first, paces[0]), (second, paces[1])].map(|(producers, pace)| {
        let (address, token) = to.clone();
        apart(async move {
            let mut connections = Vec::new();
            for _ in 0..CONNECTIONS / 2 {
                connections.push(Connection::open(address, &token).await?);
            }
            call_some(&connections, producers, pace).await
        })
    });
    let ended =
        tokio::task::spawn_blocking(|| Ok::<_, anyhow::Error>((joined(first)?, joined(second)?)));
    let ((first, of_first), (second, of_second)) = ended.await??;
    let took = seconds(started.elapsed());
    Ok(([first, second], [of_first, of_second], took))
}

async fn call_some(
    connections: &[Connection],
    producers: Vec<Producer>,
    pace: Pace,
) -> anyhow::Result<(Vec<Producer>, Calls)> {
    let callers = connections.iter().cycle().zip(producers);
    let callers = callers
        .map(|(connection, producer)| tokio::spawn(call(connection.clone(), producer, pace)));
    let (mut producers, mut all) = (Vec::new(), Calls::default());
    for called in try_join_all(callers).await? {
        let (producer, calls) = called?;
        producers.push(producer);
        all.add(calls);
    }
    Ok((producers, all))
}

/// Sends the records of a producer, each until it is taken. One that was refused to the end is missing in its stream.
async fn call(
    connection: Connection,
    mut producer: Producer,
    pace: Pace,
) -> anyhow::Result<(Producer, Calls)> {
    let mut calls = Calls::default();
    let mut due = Instant::now();
    let mut next: Option<AppendRequest> = None;
    while due < pace.until {
        tokio::time::sleep_until(due.into()).await;
        let call = next.take().or_else(|| producer.calls(1).pop());
        let call = call.context("a call")?;
        let sent = Instant::now();
        let answer = connection.append(&call).await?;
        // Who is late does not catch up.
        due = Instant::now().max(due + pace.every);
        match answer {
            Answer::Taken => calls.taken.push(sent.elapsed()),
            Answer::Refused(retry) => {
                calls.refused.push(sent.elapsed());
                if pace.listens {
                    due = due.max(Instant::now() + retry);
                }
                next = Some(call);
            }
            Answer::Otherwise(_) => {
                calls.otherwise += 1;
                next = Some(call);
            }
        }
    }
    Ok((producer, calls))
}

/// Asks for the health until it is over: the longest answer, how many there were, and how many were none or not SERVING.
async fn health(url: String, over: Arc<AtomicBool>) -> anyhow::Result<(Duration, u64, u64)> {
    let mut client = HealthClient::new(client::connect(&url, None)?);
    let (mut slowest, mut unhealthy, mut asked) = (Duration::ZERO, 0, 0);
    let mut tick = tokio::time::interval(LOOK);
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
    Ok((slowest, asked, unhealthy))
}
