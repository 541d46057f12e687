//! What the ledger's engine must outlive, as campaigns: so many episodes, at moments that a seed gives.
//!
//! `cargo run --release -p counterfoil-campaigns -- CAMPAIGN --episodes N --seed S` prints one JSON line of figures, and exits with an
//! error when anything is wrong: a receipt that proves nothing any more (`lost`), a record that is there twice (`twice`), two signed roots
//! of one size or a checkpoint that the log does not extend (`forks`), or a log that the full check finds fault with (`unclean`).
//!
//! | Campaign | What happens in an episode |
//! | --- | --- |
//! | `kill` | the process that writes is killed |
//! | `kill-postgresql` | the database server is stopped as if the power had gone |
//! | `leaders` | one of two processes that write the same logs is stopped, sessions are cut, it goes on |
//! | `flips` | a bit changes in the database or in a published file, and the full check looks for it |
//! | `syscalls` | a system call that changes a file fails, or the process is killed at it (needs strace) |
//! | `restore` | the database is replaced by an old backup, and the logs are brought back from their copies |
//!
//! The logs are written for real, by a process of its own that says every receipt on a line before anything happens to it. What it
//! writes follows from numbers alone, so every record is known to whoever checks.
//!
//! Kills of processes show nothing of power failures: what the kernel has taken is written, whether it was synchronised or not. That
//! `synchronous = FULL` and `fsync` are set stands in the engine's and in `postgres`' own code.

mod dice;
mod figures;
mod flips;
mod history;
mod kill;
mod leaders;
mod place;
mod postgres;
mod process;
mod records;
mod restore;
mod syscalls;
mod victim;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::place::Place;
use crate::postgres::Cluster;

/// What the ledger's engine must outlive.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    campaign: Campaign,
}

/// How long a campaign is.
#[derive(Debug, Args)]
struct Length {
    /// Episodes.
    #[arg(long)]
    episodes: usize,
    /// What gives the moments again, as far as the machine is the same.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Logs that are written at once.
    #[arg(long, default_value_t = 4)]
    logs: usize,
}

#[derive(Debug, Subcommand)]
enum Campaign {
    /// kill -9 of the process that writes, on SQLite.
    Kill(Length),
    /// `pg_ctl -m immediate` under the process that writes.
    KillPostgresql(Length),
    /// Two processes write the same logs; one is stopped for a while.
    Leaders {
        #[command(flatten)]
        long: Length,
        #[arg(long)]
        postgresql: bool,
    },
    /// Bits that change in the database and in the copies.
    Flips(Length),
    /// An old backup takes the place of the database.
    Restore {
        #[command(flatten)]
        long: Length,
        #[arg(long)]
        postgresql: bool,
    },
    /// Every system call that changes a file fails once.
    Syscalls {
        /// About how many of them; all, if it is not said.
        #[arg(long)]
        episodes: Option<usize>,
    },
    /// A short life, of which the calls fail.
    #[command(hide = true)]
    Life {
        #[arg(value_enum)]
        life: syscalls::Life,
        folder: PathBuf,
    },
    /// The process that writes; what the campaigns start.
    #[command(hide = true)]
    Victim {
        #[arg(long)]
        url: String,
        #[arg(long)]
        folder: PathBuf,
        #[arg(long)]
        logs: usize,
        #[arg(long)]
        seed: u64,
    },
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let ended = match Arguments::parse().campaign {
        Campaign::Kill(long) => {
            runtime.block_on(kill::processes(long.episodes, long.seed, long.logs))
        }
        Campaign::KillPostgresql(long) => {
            runtime.block_on(kill::servers(long.episodes, long.seed, long.logs))
        }
        Campaign::Leaders { long, postgresql } => {
            let server = server(postgresql)?;
            runtime.block_on(leaders::run(long.episodes, long.seed, long.logs, server))
        }
        Campaign::Flips(long) => runtime.block_on(flips::run(long.episodes, long.seed)),
        Campaign::Restore { long, postgresql } => {
            let server = server(postgresql)?;
            runtime.block_on(restore::run(long.episodes, long.seed, long.logs, server))
        }
        Campaign::Syscalls { episodes } => runtime.block_on(syscalls::run(episodes)),
        Campaign::Life { life, folder } => {
            return runtime.block_on(syscalls::live(&Place::sqlite(&folder), life));
        }
        Campaign::Victim {
            url,
            folder,
            logs,
            seed,
        } => {
            let place = Place { url, folder };
            return runtime.block_on(victim::live(&place, logs, seed));
        }
    };
    ended?.print()
}

fn server(wanted: bool) -> anyhow::Result<Option<Cluster>> {
    wanted.then(Cluster::start).transpose()
}
