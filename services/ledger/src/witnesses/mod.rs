//! The witnesses of the deployment's logs: who they are, asking them, and what they have cosigned.
//!
//! A policy file ([c2sp.org/tlog-policy]) names them. The engine speaks the protocol and keeps the cosignatures; here is who is asked
//! when, over HTTP. Writing never waits for a witness; a claim always does.
//!
//! [c2sp.org/tlog-policy]: https://c2sp.org/tlog-policy

mod http;
mod job;
mod known;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use counterfoil_chassis::Clock;
use counterfoil_engine::{Anchor, AnchorError, EngineError, Head, Log, LogId, LogInfo, Witness};
use counterfoil_tlog::{Policy, VerifierKey};

pub(crate) use self::job::Witnessing;
pub(crate) use self::tally::{Deeds, Failure, Tally};
use crate::config::LedgerConfig;
use crate::copies::Copies;
use http::HttpCalls;

/// Why the configured witnesses cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("ledger.witness_policy_file {file}: {reason}")]
pub(crate) struct BadWitnesses {
    file: String,
    reason: String,
}

/// A witness that is asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// As the policy calls it.
    pub(crate) name: String,
    pub(crate) witness: Witness,
    pub(crate) calls: Arc<HttpCalls>,
}

/// The witnesses of a configuration. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Witnesses {
    policy: Arc<Policy>,
    asked: Arc<Vec<Asked>>,
}

impl Witnesses {
    /// The witnesses that a configuration names; `None`: it names none.
    pub(crate) fn open(
        settings: &LedgerConfig,
        clock: &Clock,
    ) -> Result<Option<Self>, BadWitnesses> {
        let Some(file) = &settings.witness_policy_file else {
            return Ok(None);
        };
        let bad = |reason: String| BadWitnesses {
            file: file.display().to_string(),
            reason,
        };
        let policy = read(file).map_err(bad)?;
        let monitoring = &settings.witness_monitoring_urls;
        Self::of(policy, monitoring, clock).map(Some).map_err(bad)
    }

    fn of(
        policy: Policy,
        monitoring: &BTreeMap<String, String>,
        clock: &Clock,
    ) -> Result<Self, String> {
        if !policy.asks_for_witnesses() {
            return Err("its quorum asks for no witness: nothing would be witnessed".to_owned());
        }
        let named = |name: &String| policy.witnesses().iter().any(|one| one.name == *name);
        if let Some(name) = monitoring.keys().find(|name| !named(name)) {
            return Err(format!(
                "it has no witness {name}, which has a monitoring url"
            ));
        }
        let mut asked = Vec::new();
        for one in policy.witnesses() {
            // Whoever has no url cosigns another way, or not.
            let Some(url) = &one.url else { continue };
            let shown_at = monitoring.get(&one.name).unwrap_or(url);
            let calls = HttpCalls::new(url, shown_at, clock.clone());
            let calls = Arc::new(calls.map_err(|why| format!("witness {}: {why}", one.name))?);
            asked.push(Asked {
                name: one.name.clone(),
                witness: Witness::new(one.key.clone(), Arc::clone(&calls) as _),
                calls,
            });
        }
        let keys: Vec<VerifierKey> = asked.iter().map(|one| one.witness.key().clone()).collect();
        if !policy.is_met_by(&keys) {
            let why = "its quorum needs witnesses that have no url, and cannot be asked";
            return Err(why.to_owned());
        }
        Ok(Self {
            policy: Arc::new(policy),
            asked: Arc::new(asked),
        })
    }

    /// What is enough.
    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(crate) fn asked(&self) -> &[Asked] {
        &self.asked
    }

    /// Whether a log is shown to the witnesses: all are where the policy names none.
    pub(crate) fn are_of(&self, vkey: &VerifierKey) -> bool {
        let logs = self.policy.logs();
        logs.is_empty() || logs.iter().any(|log| log.key == *vkey)
    }

    /// As what logs are compared with when they are recovered, and before they are anchored after a loss.
    pub(crate) fn anchors(&self) -> impl Iterator<Item = Arc<dyn Anchor>> + '_ {
        let witnesses = 0..self.asked.len();
        witnesses.map(|at| {
            let witnesses = self.clone();
            Arc::new(Remembering { witnesses, at }) as Arc<dyn Anchor>
        })
    }
}

/// A witness that is asked for the logs of the policy, and told of no other.
#[derive(Debug)]
struct Remembering {
    witnesses: Witnesses,
    at: usize,
}

impl Remembering {
    fn witness(&self) -> Option<&Witness> {
        self.witnesses.asked.get(self.at).map(|one| &one.witness)
    }
}

#[async_trait]
impl Anchor for Remembering {
    fn name(&self) -> String {
        self.witness().map(Anchor::name).unwrap_or_default()
    }

    async fn newest(&self, log: &LogInfo) -> Result<Option<Vec<u8>>, AnchorError> {
        match self.witness() {
            Some(witness) if self.witnesses.are_of(&log.vkey) => witness.newest(log).await,
            _ => Ok(None),
        }
    }

    fn is_near(&self) -> bool {
        false
    }
}

fn read(file: &Path) -> Result<Policy, String> {
    let text = std::fs::read(file).map_err(|error| error.to_string())?;
    Policy::parse(&text).map_err(|error| error.to_string())
}

/// How long it is believed that no size of a log has a quorum, while this process hears of none: another replica may.
const NONE_MS: i64 = 10_000;

/// What the witnesses have cosigned of all logs, for those who ask for it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Witnessed {
    witnesses: Witnesses,
    clock: Clock,
    /// The logs of which no size was found that has a quorum, while this was the newest that this process had heard of; and when. To
    /// find that takes a look at every size that anybody has cosigned.
    without: Arc<Mutex<HashMap<LogId, (u64, i64)>>>,
    /// The sizes that have a quorum.
    pub(crate) reached: Copies,
    pub(crate) tally: Tally,
}

impl Witnessed {
    pub(crate) fn new(witnesses: Witnesses, clock: Clock) -> Self {
        Self {
            clock,
            without: Arc::default(),
            tally: Tally::new(witnesses.asked().iter().map(|one| one.name.clone())),
            reached: Copies::default(),
            witnesses,
        }
    }

    /// Whether a log is shown to the witnesses.
    pub(crate) fn are_asked_for(&self, log: &Log) -> bool {
        self.witnesses.are_of(&log.info().vkey)
    }

    /// The newest head of a log that enough of them have cosigned, with their lines; `None`: there is none yet.
    pub(crate) async fn head(&self, log: &Log) -> Result<Option<Head>, EngineError> {
        let remembered = self.reached.of(&log.info().tenant);
        let remembered = remembered.map_or(0, |one| one.size);
        if remembered > 0
            && let Some(head) = self.head_at(log, remembered).await?
        {
            return Ok(Some(head));
        }
        // Nobody has looked since the start, and maybe nobody will for long, because the witnesses are away; or another replica knew of a
        // larger size, and has thinned what was kept of this one.
        let (id, now_ms) = (log.info().id, self.clock.now_ms());
        let before = self.without().get(&id).copied();
        if before.is_some_and(|(heard, at_ms)| {
            heard == remembered && (0..NONE_MS).contains(&(now_ms - at_ms))
        }) {
            return Ok(None);
        }
        match log.witnessed(self.witnesses.policy()).await? {
            Some(size) => self.head_at(log, size).await,
            None => {
                self.without().insert(id, (remembered, now_ms));
                Ok(None)
            }
        }
    }

    fn without(&self) -> MutexGuard<'_, HashMap<LogId, (u64, i64)>> {
        self.without.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn head_at(&self, log: &Log, size: u64) -> Result<Option<Head>, EngineError> {
        let Some(checkpoint) = self.checkpoint(log, size).await? else {
            return Ok(None);
        };
        let head = log.head_at(size).await?;
        Ok(Some(Head { checkpoint, ..head }))
    }

    /// The checkpoint of a size with its cosignatures, if they are enough: looked at now, whatever is remembered.
    pub(crate) async fn checkpoint(
        &self,
        log: &Log,
        size: u64,
    ) -> Result<Option<String>, EngineError> {
        if !log.is_witnessed(self.witnesses.policy(), size).await? {
            return Ok(None);
        }
        log.cosigned_checkpoint(size).await.map(Some)
    }
}
