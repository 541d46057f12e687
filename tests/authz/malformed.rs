//! Malformed input: every rpc, with what no client of ours would send. Each call must be answered, in time, without a panic,
//! without an internal error, and with nothing of another tenant in it.
//!
//! The mutations are the same each time, so that a finding can be had again: 200 an rpc, or as many as the environment
//! variable `COUNTERFOIL_MALFORMED` says: "10000" (the full run), or "10000@ledger " for the rpcs with that in their names. On
//! PostgreSQL, where only the storage differs, the first quarter of them.

use std::{
    io::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use tonic::Code;
use tracing_subscriber::filter::LevelFilter;

use crate::{
    api::{self, Rpc},
    digest,
    identities::{self, Identity, Who},
    logs::Listening,
    matrix::searchable,
    mutate::{Body, Mutation, Mutator},
    suite::Governed,
    wire::{self, Answer, Headers},
};

/// Mutations of each rpc unless the environment says otherwise.
const MUTATIONS: u64 = 200;
const CALLS_AT_ONCE: usize = 48;
/// How much the process may grow, client and five services together.
const MEMORY_GROWTH_MAX: u64 = 512 << 20;
/// Findings that are told; the rest is like them.
const TOLD_MAX: usize = 60;

/// One rpc that is tried.
struct Target<'a> {
    rpc: &'a Rpc,
    identity: &'a Identity,
    mutator: Mutator,
    slowest: Mutex<Duration>,
}

/// Mutations of each rpc, and what is in the names of the rpcs.
#[allow(
    clippy::disallowed_methods,
    reason = "the test harness has no arguments of a test's own"
)]
fn asked(governed: &Governed) -> (u64, String) {
    let asked = std::env::var("COUNTERFOIL_MALFORMED").unwrap_or_else(|_| MUTATIONS.to_string());
    let (count, rpcs) = asked.split_once('@').unwrap_or((&asked, ""));
    let part = if governed.engine() == "SQLite" { 1 } else { 4 };
    (count.parse::<u64>().unwrap() / part, rpcs.to_owned())
}

/// Runs all mutations of all rpcs and fails with what they found.
pub async fn run(governed: &Governed) {
    let (count, rpcs) = asked(governed);
    let identities = identities::all(governed).await;
    let table = api::table();
    let targets: Vec<Target<'_>> = (0..governed.rpcs.len())
        .filter(|number| governed.rpcs[*number].name().contains(&rpcs))
        .map(|number| Target {
            rpc: &governed.rpcs[number],
            identity: may_call(&identities, &governed.rpcs[number], &table),
            mutator: Mutator::new(governed, number),
            slowest: Mutex::default(),
        })
        .collect();
    let secrets = governed.victim.secrets(&governed.attacker);
    let secrets: Vec<String> = secrets.iter().map(|secret| searchable(secret)).collect();
    governed.databases.settled().await;
    let before = governed.databases.of(&governed.victim.id).await;
    let (memory, started) = (memory(), Instant::now());
    let (panics, logs) = (count_panics(), Listening::begin(LevelFilter::ERROR));
    let (calls, findings) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let rounds = targets
        .iter()
        .flat_map(|target| (0..count).map(move |round| (target, round)));
    futures::stream::iter(rounds)
        .for_each_concurrent(CALLS_AT_ONCE, async |(target, round)| {
            calls.fetch_add(1, Ordering::Relaxed);
            let found = target.judge(governed, round, &secrets).await;
            let named = found.map(|found| format!("{} {round}: {found}", target.rpc.name()));
            findings.lock().unwrap().extend(named);
        })
        .await;
    let grown = self::memory().saturating_sub(memory);
    governed.databases.settled().await;
    let after = governed.databases.of(&governed.victim.id).await;
    let changes = digest::changes(&before, &after);
    let findings = findings.into_inner().unwrap();
    let panics = panics.lock().unwrap().clone();
    let slowest = targets
        .iter()
        .max_by_key(|target| *target.slowest.lock().unwrap());
    let slowest = slowest.expect("there are rpcs");
    let _ = writeln!(
        std::io::stdout().lock(),
        "malformed: {} calls on {}, {} rpcs, {count} each, {} panics, {} findings, {} rows changed, {} MiB grown, \
         slowest {} ms ({}), {} ms",
        calls.into_inner(),
        governed.engine(),
        targets.len(),
        panics.len(),
        findings.len(),
        changes.len(),
        grown >> 20,
        slowest.slowest.lock().unwrap().as_millis(),
        slowest.rpc.name(),
        started.elapsed().as_millis(),
    );
    let logged = String::from_utf8_lossy(&logs.bytes()).into_owned();
    none("panics", &panics, "");
    none("findings", &findings, &logged);
    none("changes", &changes, "");
    assert!(grown < MEMORY_GROWTH_MAX, "{grown} bytes");
}

/// Fails with what was found, and with what was logged meanwhile.
fn none(what: &str, found: &[String], logged: &str) {
    let told = &found[..found.len().min(TOLD_MAX)];
    let lines: Vec<&str> = logged.lines().take(TOLD_MAX).collect();
    assert!(
        found.is_empty(),
        "{} {what}:\n  {}\nlogged:\n  {}",
        found.len(),
        told.join("\n  "),
        lines.join("\n  ")
    );
}

impl Target<'_> {
    /// What is wrong with the answer to a malformed request.
    async fn judge(&self, governed: &Governed, round: u64, secrets: &[String]) -> Option<String> {
        let mutation = self.mutator.of(round);
        let sent = mutation.bytes();
        let asked = Instant::now();
        let answer = self.ask(governed, &mutation).await;
        let took = asked.elapsed();
        let mut slowest = self.slowest.lock().unwrap();
        *slowest = took.max(*slowest);
        drop(slowest);
        let shown = || {
            format!(
                "to {} {:?}",
                hex::encode(&sent[..sent.len().min(300)]),
                mutation.headers
            )
        };
        let Some(answer) = answer else {
            return Some(format!("no answer within {:?} {}", wire::DEADLINE, shown()));
        };
        let (bytes, sent) = (searchable(&answer.bytes()), searchable(&sent));
        let leaked = |secret: &&String| bytes.contains(*secret) && !sent.contains(*secret);
        match answer.code {
            Code::Internal | Code::Unknown | Code::DataLoss => Some(format!(
                "{:?} {:?} {}",
                answer.code,
                answer.message,
                shown()
            )),
            // Services see every tenant.
            _ if matches!(self.identity.who, Who::Deployment(_)) => None,
            _ => secrets
                .iter()
                .find(leaked)
                .map(|secret| format!("leaked {secret:?} {}", shown())),
        }
    }

    async fn ask(&self, governed: &Governed, mutation: &Mutation) -> Option<Answer> {
        let headers: Headers = [&self.identity.headers[..], &mutation.headers].concat();
        match &mutation.body {
            Body::Messages(messages) => governed.ask(self.rpc, &headers, messages.clone()).await,
            Body::Frames(frames) => governed.post(self.rpc, &headers, frames.clone()).await,
        }
    }
}

/// Somebody whom the gate lets through, so that the handler is reached: of the attacker's tenant when one may.
fn may_call<'a>(
    identities: &'a [Identity],
    rpc: &Rpc,
    table: &counterfoil_chassis::auth::PermissionTable,
) -> &'a Identity {
    let may = |identity: &&Identity| rpc.allows(table, identity.who.roles());
    let attacker = |identity: &&Identity| matches!(identity.who, Who::Attacker(_));
    let deployment = |identity: &&Identity| matches!(identity.who, Who::Deployment(_));
    let found = identities.iter().filter(may).rfind(attacker);
    found
        .or_else(|| identities.iter().filter(may).find(deployment))
        .expect("somebody may")
}

/// Bytes of memory that the process has.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let words = line.unwrap_or_default().split_whitespace().nth(1);
    words.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// All panics from here on, wherever a task is: a handler's, which the gate answers, and those that nobody would see.
fn count_panics() -> Arc<Mutex<Vec<String>>> {
    let panics = Arc::new(Mutex::new(Vec::new()));
    let (told, former) = (Arc::clone(&panics), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        told.lock().unwrap().push(panic.to_string());
        former(panic);
    }));
    panics
}
