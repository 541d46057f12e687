//! `counterfoil quickstart`: one governance cycle, played to its end by the real executable.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process::{Ended, Process, counterfoil};
use crate::report::{Report, verify};

/// The object that a quickstart ends with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The evidence bundle.
    pub bundle: PathBuf,
    /// The trust file to verify it with.
    pub trust: PathBuf,
    /// The command that verifies it.
    pub verify: String,
    /// "tenants/{tenant}".
    pub tenant: String,
    /// "tenants/{tenant}/campaigns/{campaign}".
    pub campaign: String,
    /// "CLOSED" or "CLOSED_WITH_DEBT".
    pub campaign_state: String,
    /// Items by how they ended.
    pub counts: BTreeMap<String, u64>,
    /// Removals proved.
    pub removals_verified: u64,
    /// Findings still open.
    pub findings_open: u64,
    /// Obligations still open.
    pub obligations_open: u64,
}

impl Outcome {
    /// How many items ended so; 0 when the outcome does not say.
    #[must_use]
    pub fn count(&self, disposition: &str) -> u64 {
        self.counts.get(disposition).copied().unwrap_or_default()
    }

    /// Verifies the bundle with the trust file, as an auditor would.
    ///
    /// # Errors
    /// When the verifier cannot be started or does not answer in JSON.
    pub fn verify(&self) -> Result<Report> {
        verify(&self.bundle, &self.trust)
    }
}

/// A quickstart that went through.
#[derive(Debug, Clone)]
pub struct Played {
    /// What it ended with.
    pub outcome: Outcome,
    /// What it told, line by line.
    pub story: String,
}

/// What is played: on which data folder, which estate, which database.
#[derive(Debug, Clone)]
pub struct Cycle {
    data_dir: PathBuf,
    estate: Option<PathBuf>,
    database_url: Option<String>,
}

impl Cycle {
    /// On the sample estate, with SQLite.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            estate: None,
            database_url: None,
        }
    }

    /// On another estate.
    #[must_use]
    pub fn on(mut self, estate: &Path) -> Self {
        self.estate = Some(estate.to_owned());
        self
    }

    /// On PostgreSQL.
    #[must_use]
    pub fn with_database(mut self, url: &str) -> Self {
        self.database_url = Some(url.to_owned());
        self
    }

    /// The command.
    ///
    /// # Errors
    /// When the executable does not build.
    pub fn command(&self) -> Result<Command> {
        let mut command = counterfoil(&self.data_dir, &["quickstart"])?;
        if let Some(estate) = &self.estate {
            command.arg("--estate").arg(estate);
        }
        if let Some(url) = &self.database_url {
            command.args(["--database-url", url]);
        }
        Ok(command)
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self) -> Result<Process> {
        Process::start(self.command()?)
    }

    /// Plays it to its end, whatever that is.
    ///
    /// # Errors
    /// When it cannot be started or hangs.
    pub fn attempt(&self) -> Result<Ended> {
        self.start()?.finish()
    }

    /// Plays it to its good end.
    ///
    /// # Errors
    /// When it fails, with all that it said.
    pub fn play(&self) -> Result<Played> {
        played(&self.attempt()?)
    }
}

/// What a quickstart that has ended says.
///
/// # Errors
/// When it failed, with all that it said, or did not end with its one object.
pub fn played(ended: &Ended) -> Result<Played> {
    let outcome = serde_json::from_str(ended.success()?)
        .with_context(|| format!("not one JSON object: {}", ended.output))?;
    Ok(Played {
        outcome,
        story: ended.errors.clone(),
    })
}
