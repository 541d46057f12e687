//! What a campaign found: one JSON line on standard output, and what is wrong on standard error as soon as it is found.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Instant;

use anyhow::bail;
use serde_json::{Map, Value, json};

/// The counts of a campaign.
#[derive(Debug)]
pub(crate) struct Figures {
    campaign: &'static str,
    variant: String,
    seed: u64,
    begun: Instant,
    /// The episode that runs, from 1.
    pub(crate) episode: usize,
    /// Receipts that were told.
    pub(crate) acknowledged: u64,
    /// Published checkpoints that were told.
    pub(crate) checkpoints: u64,
    /// Calls that failed and were made again, by where.
    failed: BTreeMap<String, u64>,
    /// Logs that were not written any more, where that is right.
    pub(crate) detected: u64,
    /// Whether it is right that a log is not written any more.
    pub(crate) may_refuse: bool,
    /// Further counts by name.
    pub(crate) counts: BTreeMap<&'static str, u64>,
    wrong: BTreeMap<&'static str, u64>,
}

impl Figures {
    pub(crate) fn new(campaign: &'static str, variant: &str, seed: u64) -> Self {
        Self {
            campaign,
            variant: variant.to_owned(),
            seed,
            begun: Instant::now(),
            episode: 0,
            acknowledged: 0,
            checkpoints: 0,
            failed: BTreeMap::new(),
            detected: 0,
            may_refuse: false,
            counts: BTreeMap::new(),
            wrong: ["lost", "twice", "forks", "unclean", "wrong"]
                .map(|kind| (kind, 0))
                .into(),
        }
    }

    /// A call failed, and is made again.
    pub(crate) fn failed(&mut self, why: &str) {
        let step = why.split_once(':').map_or(why, |(step, _)| step);
        *self.failed.entry(step.to_owned()).or_default() += 1;
    }

    pub(crate) fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    /// Something that must never be.
    pub(crate) fn wrong(&mut self, kind: &'static str, what: String) {
        *self.wrong.entry(kind).or_default() += 1;
        let _ = writeln!(
            std::io::stderr().lock(),
            "{} {} seed {} episode {}: {kind}: {what}",
            self.campaign,
            self.variant,
            self.seed,
            self.episode
        );
    }

    /// A log was not written any more.
    pub(crate) fn refused(&mut self, log: usize, why: &str) {
        if self.may_refuse {
            self.detected += 1;
        } else {
            self.wrong("wrong", format!("log {log} is refused: {why}"));
        }
    }

    /// How much is wrong.
    pub(crate) fn violations(&self) -> u64 {
        self.wrong.values().sum()
    }

    /// Prints the line. An error when something is wrong.
    pub(crate) fn print(&self) -> anyhow::Result<()> {
        let mut line = Map::new();
        let mut put = |name: &str, value: Value| line.insert(name.to_owned(), value);
        put("campaign", json!(self.campaign));
        put("variant", json!(self.variant));
        put("seed", json!(self.seed));
        put("episodes", json!(self.episode));
        put("acknowledged", json!(self.acknowledged));
        put("checkpoints", json!(self.checkpoints));
        put("failed", json!(self.failed));
        put("detected", json!(self.detected));
        for (name, count) in self.counts.iter().chain(&self.wrong) {
            put(name, json!(count));
        }
        let seconds = (self.begun.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        put("seconds", json!(seconds));
        writeln!(std::io::stdout().lock(), "{}", Value::Object(line))?;
        match self.violations() {
            0 => Ok(()),
            found => bail!("{found} violations"),
        }
    }
}
