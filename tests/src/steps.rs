//! A governance cycle step by step, by the client: for tests that break something between two steps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cycle::Cycle;
use crate::governance::Governance;
use crate::process::{Ended, Suite};
use crate::small;

/// Id of the campaign that a quickstart holds.
pub const CAMPAIGN: &str = "first-review";

/// The client of one tenant: as its accountable owner once a quickstart has onboarded it, as one of its principals, or as the
/// deployment's administrator.
#[derive(Debug)]
pub struct Steps<'s> {
    suite: &'s Suite,
    tenant: String,
    tokens: BTreeMap<String, PathBuf>,
    folder: tempfile::TempDir,
}

impl<'s> Steps<'s> {
    /// The client of a tenant of these services.
    ///
    /// # Errors
    /// When there is no place for tokens.
    pub fn new(suite: &'s Suite, tenant: &str) -> Result<Self> {
        Ok(Self {
            suite,
            tenant: tenant.to_owned(),
            tokens: BTreeMap::new(),
            folder: tempfile::tempdir()?,
        })
    }

    /// Asks as the tenant's accountable owner, before there is one as the deployment's administrator.
    ///
    /// # Errors
    /// When it is refused, with all that was said.
    pub fn ask(&self, arguments: &[&str]) -> Result<Value> {
        self.attempt(arguments)?
            .json()
            .with_context(|| arguments.join(" "))
    }

    /// As [`Steps::ask`], whatever the answer is.
    ///
    /// # Errors
    /// When the client cannot be started.
    pub fn attempt(&self, arguments: &[&str]) -> Result<Ended> {
        let token = self.suite.customer_token(&self.tenant);
        if !token.exists() {
            return self.attempt_as_deployment(arguments);
        }
        let token = token.to_str().context("a path that is text")?;
        self.attempt_as_deployment(&[arguments, &["--token-file", token]].concat())
    }

    /// Asks as the deployment's administrator, whatever the answer is.
    ///
    /// # Errors
    /// When the client cannot be started.
    pub fn attempt_as_deployment(&self, arguments: &[&str]) -> Result<Ended> {
        let tenant = ["--tenant", &self.tenant];
        self.suite.ask(&[arguments, &tenant].concat())
    }

    /// Asks as a principal of the tenant.
    ///
    /// # Errors
    /// When it is refused, with all that was said.
    pub fn ask_as(&mut self, principal: &str, arguments: &[&str]) -> Result<Value> {
        self.attempt_as(principal, arguments)?
            .json()
            .with_context(|| format!("{principal}: {}", arguments.join(" ")))
    }

    /// Asks as a principal of the tenant; whatever the answer is.
    ///
    /// # Errors
    /// When the principal gets no token, or the client cannot be started.
    pub fn attempt_as(&mut self, principal: &str, arguments: &[&str]) -> Result<Ended> {
        let token = self.token(principal)?;
        let token = token.to_str().context("a path that is text")?;
        self.attempt_as_deployment(&[arguments, &["--token-file", token]].concat())
    }

    fn token(&mut self, principal: &str) -> Result<PathBuf> {
        if let Some(file) = self.tokens.get(principal) {
            return Ok(file.clone());
        }
        let issued = self.ask(&["token", "issue", principal, "--ttl-seconds", "3600"])?;
        let token = issued["token"].as_str().context("no token was issued")?;
        let file = self.folder.path().join(format!("{principal}.token"));
        std::fs::write(&file, format!("{token}\n"))?;
        self.tokens.insert(principal.to_owned(), file.clone());
        Ok(file)
    }

    /// Reads a source and answers the sealed sync.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn sync(&self, source: &str) -> Result<Value> {
        let started = self.ask(&["sync", "start", source])?;
        let name = text(&started, "/sync/name")?;
        let sealed = self.ask(&["sync", "watch", &name])?;
        Ok(sealed["sync"].clone())
    }

    /// Seals a snapshot and answers it.
    ///
    /// # Errors
    /// When it is refused.
    pub fn snapshot(&self) -> Result<Value> {
        Ok(self.ask(&["snapshot", "create"])?["snapshot"].clone())
    }

    /// Takes the decisions of a file, each as the reviewer it is routed to.
    ///
    /// # Errors
    /// When one is refused.
    pub fn decide(&self, file: &Path) -> Result<Value> {
        let file = file.to_str().context("a path that is text")?;
        self.ask(&["decision", "import", CAMPAIGN, file, "--as-reviewers"])
    }

    /// Reads all sources, compares and plans, as `owner`; answers the remediation.
    ///
    /// # Errors
    /// When a step is refused.
    pub fn plan(&mut self, owner: &str, sources: &[&str]) -> Result<Value> {
        for source in sources {
            self.sync(source)?;
        }
        let snapshot = text(&self.snapshot()?, "/name")?;
        let run = self.ask_as(owner, &["recon", "run", &snapshot])?;
        let run = text(&run, "/recon_run/name")?;
        let planned = self.ask_as(owner, &["remediation", "plan", &run])?;
        Ok(planned["remediation"].clone())
    }

    /// Carries a plan out, as `owner`, and answers how it ended.
    ///
    /// # Errors
    /// When it is refused.
    pub fn execute(&mut self, owner: &str, remediation: &str) -> Result<Value> {
        self.ask_as(owner, &["remediation", "execute", remediation])?;
        let watched = self.ask_as(owner, &["remediation", "watch", remediation])?;
        Ok(watched["remediation"].clone())
    }
}

/// The longest that something which happens by itself is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Plays the small estate below `place` to its end, gives one person back what was taken, and waits until the services have
/// seen it: access came back, and its case is open again.
///
/// # Errors
/// When the cycle does not go through, or nobody sees it.
pub fn regressed(place: &Path) -> Result<Suite> {
    // Later than the quickstart waits for, and soon enough for us.
    let offsets = toml::Value::Array(vec![8.into()]);
    let governance =
        Governance::new("small", "Small")?.set("policy", "persistence_offsets_seconds", offsets)?;
    let estate = small::write(&place.join("estate"), governance, &["one"])?;
    let data_dir = place.join("data");
    let outcome = Cycle::new(&data_dir).on(&estate.directory).play()?.outcome;
    ensure!(outcome.campaign_state == "CLOSED", "{outcome:?}");
    ensure!(outcome.obligations_open > 0, "{outcome:?}");
    let grants = estate.source("one").join("grants.csv");
    let restored = std::fs::read_to_string(&grants)? + "p2,write,2026-01-31\n";
    std::fs::write(&grants, restored)?;
    let suite = Suite::start(&data_dir)?;
    let steps = Steps::new(&suite, "small")?;
    let started = Instant::now();
    loop {
        // A job of the service may see it before we ask.
        steps.ask(&["remediation", "reread"])?;
        let found = steps.ask(&["remediation", "list"])?;
        if found["remediations"][0]["state"] == "REMEDIATION_STATE_REGRESSED" {
            break;
        }
        ensure!(started.elapsed() < PATIENCE, "{found}");
    }
    drop(steps);
    Ok(suite)
}

/// The text at a JSON pointer.
///
/// # Errors
/// When there is none, with the whole value.
pub fn text(value: &Value, pointer: &str) -> Result<String> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found
        .map(str::to_owned)
        .with_context(|| format!("no text at {pointer} of {value}"))
}

/// The number at a JSON pointer.
///
/// # Errors
/// When there is none, with the whole value.
pub fn number(value: &Value, pointer: &str) -> Result<u64> {
    let found = value.pointer(pointer).and_then(Value::as_u64);
    found.with_context(|| format!("no number at {pointer} of {value}"))
}

/// The list at a JSON pointer.
///
/// # Errors
/// When there is none, with the whole value.
pub fn list<'v>(value: &'v Value, pointer: &str) -> Result<&'v [Value]> {
    let found = value.pointer(pointer).and_then(Value::as_array);
    found
        .map(Vec::as_slice)
        .with_context(|| format!("no list at {pointer} of {value}"))
}
