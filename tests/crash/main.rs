//! Sixty-four times kill -9 of the whole process during the Kubernetes cycle: at random moments of every part of it. After
//! each the cycle goes on where it stood, and at its end nothing is missing, nothing is there twice, and the target system
//! holds what was decided. Some more times the same on PostgreSQL.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs,
    reason = "tests fail by panicking, and this one says its seed and where it struck"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use counterfoil_chassis::testing::postgres;
use counterfoil_tests::cycle::Cycle;
use counterfoil_tests::decisions::Decision;
use counterfoil_tests::evidence::Evidence;
use counterfoil_tests::kubernetes::{self, KubernetesEstate, SOURCE};
use counterfoil_tests::process::{Ended, Process, Watched, executable};
use counterfoil_tests::repository::shared_data;
use counterfoil_tests::source::read_csv;

/// How often the process is killed.
const KILLS: usize = 64;
/// How often when it works with PostgreSQL.
const KILLS_ON_POSTGRESQL: usize = 12;
/// The parts of a cycle, by the line that opens each. A cycle that goes on says only those that are not over.
const PARTS: [&str; 7] = [
    "Onboarding",
    "Reading the target systems",
    "Reviewing",
    "Comparing what was decided",
    "Carrying the decisions out",
    "Closing",
    "Evidence",
];
/// The longest that a part which does not come is waited for before the kill.
const WAIT_MS_MAX: u64 = 2_500;
/// How much longer for each kill in the same part.
const WAIT_MS_MORE: u64 = 400;
/// The longest from the line that opens a part to the kill.
const DELAY_MS_MAX: u64 = 900;

/// SplitMix64: the same kills for the same seed, as far as the machine is the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// A seed of this run, or the one in `COUNTERFOIL_SEED` at build time.
fn seed() -> u64 {
    option_env!("COUNTERFOIL_SEED")
        .map_or_else(|| getrandom::u64().unwrap(), |given| given.parse().unwrap())
}

/// One cycle that is killed on its way.
struct Victim {
    estate: KubernetesEstate,
    before: BTreeSet<(String, String)>,
    data_dir: PathBuf,
    /// PostgreSQL, instead of files in the data folder.
    database_url: Option<String>,
    /// Part in which it was killed last.
    part: usize,
    /// How often it was killed there before.
    stuck: u64,
    kills: usize,
}

impl Victim {
    async fn new(folder: &Path, shared: &Path, database_url: Option<String>) -> Self {
        let estate = kubernetes::write(&folder.join("estate"), shared).unwrap();
        let before = read_csv(&estate.directory.join(SOURCE)).await.unwrap();
        Self {
            estate,
            before: before.grants(),
            data_dir: folder.join("data"),
            database_url,
            part: 0,
            stuck: 0,
            kills: 0,
        }
    }

    /// Its story on standard output, to be watched.
    fn start(&self) -> Process {
        let mut command = std::process::Command::new(executable("counterfoil").unwrap());
        command.arg("quickstart").arg("--data-dir");
        command.arg(&self.data_dir).arg("--estate");
        command.arg(&self.estate.directory);
        if let Some(url) = &self.database_url {
            command.args(["--database-url", url]);
        }
        Process::start(command).unwrap()
    }

    /// Runs it into a part and kills it there; answers how it ended, which may be before.
    fn strike(&mut self, dice: &mut Dice) -> Ended {
        let target = (self.part + usize::from(dice.below(100) < 35)).min(PARTS.len() - 1);
        // A machine that is busy gets nowhere in short turns: where it has not moved, the next one is longer.
        let wait = Duration::from_millis(dice.below(WAIT_MS_MAX + self.stuck * WAIT_MS_MORE));
        let delay = Duration::from_millis(dice.below(DELAY_MS_MAX));
        let mut process = self.start();
        if process.watch(wait, |line| line.starts_with(PARTS[target])) == Watched::Said {
            let _ = process.watch(delay, |_| false);
        }
        process.kill().unwrap()
    }

    /// Notes where it was killed, by what it had said.
    fn note(&mut self, ended: &Ended) -> &'static str {
        self.kills += 1;
        let said = ended
            .output
            .lines()
            .filter_map(|line| PARTS.iter().position(|part| line.starts_with(part)));
        let part = said.max().unwrap_or_default().max(self.part);
        self.stuck = if part > self.part { 0 } else { self.stuck + 1 };
        self.part = part;
        PARTS[part]
    }

    /// Plays it to its end without a kill and holds the end to what it must be.
    async fn finish(&self) {
        let mut cycle = Cycle::new(&self.data_dir).on(&self.estate.directory);
        if let Some(url) = &self.database_url {
            cycle = cycle.with_database(url);
        }
        let played = cycle.play().unwrap();
        assert!(!played.story.contains("Refused:"), "{}", played.story);
        let outcome = played.outcome;
        let stays: BTreeSet<(String, String)> = self
            .estate
            .decisions
            .iter()
            .filter(|row| matches!(row.decision, Decision::Accept | Decision::Exception))
            .map(|row| (row.account.clone(), row.entitlement.clone()))
            .collect();
        let after = read_csv(&self.estate.directory.join(SOURCE)).await.unwrap();
        let after = after.grants();
        assert!(after.is_superset(&stays), "a grant is gone that stays");
        assert!(after.is_subset(&stays), "a grant is there that must go");
        assert_eq!(outcome.campaign_state, "CLOSED");
        let gone = (self.before.len() - stays.len()) as u64;
        assert_eq!(outcome.removals_verified, gone);
        assert_eq!(
            outcome.counts.values().sum::<u64>(),
            self.before.len() as u64
        );
        for (decision, name) in [
            (Decision::Accept, "accepted"),
            (Decision::Revoke, "revoked"),
            (Decision::Reduce, "reduced"),
            (Decision::Exception, "excepted"),
        ] {
            let decided = self.estate.count(decision) as u64;
            assert_eq!(outcome.count(name), decided, "{name}");
        }
        let report = outcome.verify().unwrap();
        assert!(report.is_ok(), "{report}");
        none_twice_none_missing(&Evidence::open(&outcome.bundle).unwrap());
    }
}

/// No record id twice, and every stream counts 1, 2, 3: also seen without the verifier.
fn none_twice_none_missing(evidence: &Evidence) {
    let mut ids = BTreeSet::new();
    let mut streams: BTreeMap<&str, u64> = BTreeMap::new();
    for logged in &evidence.log {
        let record = &logged.record;
        assert!(
            ids.insert(&record.record_id),
            "entry {} is there twice",
            logged.index
        );
        let last = streams.entry(&record.stream).or_default();
        *last += 1;
        assert_eq!(record.stream_seq, *last, "{} has a gap", record.stream);
    }
    assert_eq!(streams.len(), 5, "{streams:?}");
}

/// Kills cycle after cycle until it has struck so often, and holds each to what it must be in the end.
async fn strike_often(kills_wanted: usize, shared: &Path, on_postgresql: bool) {
    let seed = seed();
    eprintln!("seed {seed}");
    let mut dice = Dice(seed);
    let mut struck: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut kills, mut cycles) = (0, 0);
    while kills < kills_wanted {
        let folder = tempfile::tempdir().unwrap();
        let database = if on_postgresql {
            Some(postgres::create_database().await)
        } else {
            None
        };
        let mut victim = Victim::new(folder.path(), shared, database).await;
        while kills < kills_wanted {
            let ended = victim.strike(&mut dice);
            if !ended.was_killed() {
                let said = ended.success().map(str::len);
                let before = victim.kills;
                assert!(said.is_ok(), "seed {seed}, after {before} kills: {said:?}");
                break;
            }
            kills += 1;
            *struck.entry(victim.note(&ended)).or_default() += 1;
        }
        victim.finish().await;
        cycles += 1;
    }
    eprintln!("{kills} kills in {cycles} cycles: {struck:?}");
    assert!(cycles < kills, "most cycles were not killed at all");
}

#[tokio::test]
async fn after_64_random_kills_the_cycle_is_whole_and_nothing_is_there_twice() {
    let test = "after_64_random_kills_the_cycle_is_whole_and_nothing_is_there_twice";
    if let Some(shared) = shared_data(test) {
        strike_often(KILLS, &shared, false).await;
    }
}

#[tokio::test]
async fn after_random_kills_the_cycle_is_whole_on_postgresql_too() {
    let test = "after_random_kills_the_cycle_is_whole_on_postgresql_too";
    if let Some(shared) = shared_data(test) {
        strike_often(KILLS_ON_POSTGRESQL, &shared, true).await;
    }
}
