//! Benchmarks of the main job: one JSON line a figure, with its spread, on standard output.
//!
//! `cargo run --release -p counterfoil-bench` runs all scenarios, each in a process of its own so that peak memory is the
//! scenario's. Each compares in the same run with a limit or a published figure of a peer; nothing here passes or fails.
//!
//! | Scenario | What |
//! | --- | --- |
//! | `authorize` | what the gate adds to a call, against the limit of 50 microseconds |
//! | `cycle` | the whole governance cycle over the kubernetes organisations, and its offline verification |
//! | `decisions` | decisions in batches of 1,000, each answered with its receipt from the ledger |
//! | `ingest` | a source of 1,000,000 grants: read, sealed and compared with what was there, twice |
//! | `ledger` | appending, one at a time, 1,000 in flight and streamed, against an echo, bare commits and bare verification |
//! | `logs` | ten thousand logs in one process: latency alone and beside a tenant far beyond its quota, memory, the next start |
//! | `growth` | a small log and a large one, in turns: appends, proofs, the next start |
//! | `overload` | ten times the capacity: what is still done, how soon the rest is refused, memory, health |
//! | `isolation` | refusals of what is another tenant's against refusals of what nobody has, paired |

mod authorize;
mod cycle;
mod decisions;
mod figures;
mod ingest;
mod isolation;
mod ledger;
mod synthetic;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};

use self::ledger::Engine;
use self::ledger::growth::Sizes;

/// Benchmarks of the main job.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    scenario: Option<Scenario>,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// What authentication and authorisation add to a call.
    Authorize {
        /// Samples of 20,000 calls.
        #[arg(long, default_value_t = 20)]
        samples: usize,
    },
    /// The kubernetes cycle and its verification.
    Cycle {
        /// Repetitions.
        #[arg(long, default_value_t = 3)]
        runs: usize,
    },
    /// Batch decisions with receipts.
    Decisions {
        /// Items to decide, in batches of 1,000.
        #[arg(long, default_value_t = 20_000)]
        items: usize,
    },
    /// Sealed ingest.
    Ingest {
        /// Grants of the source.
        #[arg(long, default_value_t = 1_000_000)]
        grants: usize,
    },
    /// Appending to logs, on both engines.
    Ledger {
        /// Samples of each.
        #[arg(long, default_value_t = 5)]
        samples: usize,
        /// On this engine only.
        #[arg(long)]
        engine: Option<Engine>,
        /// Only this; for a profile.
        #[arg(long)]
        only: Option<ledger::Part>,
    },
    /// Very many logs in one process, on both engines.
    Logs {
        /// Logs.
        #[arg(long, default_value_t = 10_000)]
        logs: usize,
        /// Samples of a minute alone and a minute beside a busy tenant.
        #[arg(long, default_value_t = 1)]
        samples: usize,
        /// On this engine only.
        #[arg(long)]
        engine: Option<Engine>,
    },
    /// One log that grows, on both engines.
    Growth {
        /// Entries of the small log.
        #[arg(long, default_value_t = 100_000)]
        small: u64,
        /// Entries of the large log; a million take about 1.5 GB of disk.
        #[arg(long, default_value_t = 1_000_000)]
        large: u64,
        /// Samples of 300 appends and 600 proofs of each.
        #[arg(long, default_value_t = 5)]
        samples: usize,
        /// On this engine only.
        #[arg(long)]
        engine: Option<Engine>,
        /// Keeps the logs there, on SQLite, and goes on with them the next time.
        #[arg(long)]
        folder: Option<PathBuf>,
    },
    /// Ten times as many calls as the ledger takes, on both engines.
    Overload {
        /// How long, seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// On this engine only.
        #[arg(long)]
        engine: Option<Engine>,
    },
    /// Refusals of what is another tenant's and of what nobody has.
    Isolation {
        /// Samples of 250 pairs of calls.
        #[arg(long, default_value_t = 20)]
        samples: usize,
    },
}

/// As the services have it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match Arguments::parse().scenario {
        Some(Scenario::Authorize { samples }) => runtime.block_on(authorize::run(samples)),
        Some(Scenario::Cycle { runs }) => runtime.block_on(cycle::run(runs)),
        Some(Scenario::Decisions { items }) => runtime.block_on(decisions::run(items)),
        Some(Scenario::Ingest { grants }) => runtime.block_on(ingest::run(grants)),
        Some(Scenario::Ledger {
            samples,
            engine,
            only,
        }) => runtime.block_on(ledger::run(samples, engine, only)),
        Some(Scenario::Logs {
            logs,
            samples,
            engine,
        }) => runtime.block_on(ledger::logs::run(logs, samples, engine)),
        Some(Scenario::Growth {
            small,
            large,
            samples,
            engine,
            folder,
        }) => {
            let folder = folder.as_deref();
            let sizes = Sizes {
                small,
                large,
                folder,
            };
            runtime.block_on(ledger::growth::run(sizes, samples, engine))
        }
        Some(Scenario::Overload { seconds, engine }) => {
            let duration = Duration::from_secs(seconds);
            runtime.block_on(ledger::overload::run(duration, engine))
        }
        Some(Scenario::Isolation { samples }) => runtime.block_on(isolation::run(samples)),
        None => all(),
    }
}

fn all() -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    for scenario in [
        "authorize",
        "cycle",
        "decisions",
        "ingest",
        "isolation",
        "ledger",
        "logs",
        "growth",
        "overload",
    ] {
        let status = Command::new(&program)
            .arg(scenario)
            .status()
            .with_context(|| format!("{scenario} does not start"))?;
        ensure!(status.success(), "{scenario} failed: {status}");
    }
    Ok(())
}
