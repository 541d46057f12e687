//! What `counterfoil-verify` says of a bundle.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::process::{self, Process};

/// One check of the verifier.
#[derive(Debug, Clone, Deserialize)]
pub struct Check {
    /// Stable id, such as "S1".
    pub id: String,
    /// Other ids under which it is known.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// "PASS", "FAIL" or "SKIP".
    pub status: String,
    /// What was checked, or what is wrong.
    #[serde(default)]
    pub detail: String,
}

impl Check {
    /// Whether this is the check's id or one of its aliases.
    #[must_use]
    pub fn is(&self, id: &str) -> bool {
        self.id == id || self.aliases.iter().any(|alias| alias == id)
    }
}

/// The verifier's answer.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its exit code: 0 ok, 1 failed, 2 malformed, 3 policy not met, 4 incomplete.
    pub exit: i32,
    /// All checks.
    pub checks: Vec<Check>,
    /// Everything it said on standard output.
    pub json: Value,
    /// What it said on standard error.
    pub errors: String,
}

impl Report {
    /// Whether it said OK: exit code 0, and not one check failed.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.exit == 0 && !self.checks.is_empty() && self.failed().is_empty()
    }

    /// The check with this id or alias.
    ///
    /// # Errors
    /// When the report has none: a check nobody made must not look like one that passed.
    pub fn check(&self, id: &str) -> Result<&Check> {
        let found = self.checks.iter().find(|check| check.is(id));
        found.with_context(|| format!("the report has no check {id}\n{self}"))
    }

    /// Whether a check of this id or alias failed.
    #[must_use]
    pub fn fails(&self, id: &str) -> bool {
        self.checks
            .iter()
            .any(|check| check.status == "FAIL" && check.is(id))
    }

    /// Ids of all checks that failed.
    #[must_use]
    pub fn failed(&self) -> Vec<&str> {
        self.with_status("FAIL")
    }

    /// Ids of all checks that were skipped.
    #[must_use]
    pub fn skipped(&self) -> Vec<&str> {
        self.with_status("SKIP")
    }

    fn with_status(&self, status: &str) -> Vec<&str> {
        self.checks
            .iter()
            .filter(|check| check.status == status)
            .map(|check| check.id.as_str())
            .collect()
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = format!("exit {}\n", self.exit);
        for check in self.checks.iter().filter(|check| check.status != "PASS") {
            writeln!(text, "{} {}: {}", check.status, check.id, check.detail)?;
        }
        if self.checks.is_empty() {
            writeln!(text, "{}", self.json)?;
        }
        text.push_str(&self.errors);
        formatter.write_str(&text)
    }
}

/// Verifies a bundle with a trust file.
///
/// # Errors
/// When the verifier cannot be started, ends by a signal, or does not answer in JSON.
pub fn verify(bundle: &Path, trust: &Path) -> Result<Report> {
    verify_with(bundle, trust, &[])
}

/// Verifies a bundle with a trust file and further arguments.
///
/// # Errors
/// As [`verify`].
pub fn verify_with(bundle: &Path, trust: &Path, arguments: &[&str]) -> Result<Report> {
    let mut command = process::verify(bundle, trust)?;
    command.args(arguments);
    let ended = Process::start(command)?.finish()?;
    let exit = ended.status.code().context("the verifier was killed")?;
    let json: Value = serde_json::from_str(&ended.output).with_context(|| {
        format!(
            "the verifier does not answer in JSON: exit {exit}\n{}\n{}",
            ended.output, ended.errors
        )
    })?;
    let checks = match json.get("checks") {
        Some(checks) => serde_json::from_value(checks.clone()).context("checks of the report")?,
        None => Vec::new(),
    };
    ensure!(
        exit == 2 || json.get("checks").is_some(),
        "no checks in the report: {json}"
    );
    Ok(Report {
        exit,
        checks,
        json,
        errors: ended.errors,
    })
}
