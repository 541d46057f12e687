//! Shows the logs that grew to the witnesses, beside everything else.
//!
//! What is published is shown, and not more: what a witness remembers can then be brought back from the published copy. Where nothing
//! is published the newest state is shown. All witnesses are shown the same checkpoint, because only cosignatures of one size add up.
//!
//! What is durable is the engine's: cut off anywhere, the next round goes on. Replicas do the same work; who comes second finds
//! the cosignatures in the database, or is answered as well.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use counterfoil_chassis::{CancellationToken, Clock};
use counterfoil_engine::{EngineError, Log, Publication, WitnessError};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use super::{Asked, Failure, Witnessed};
use crate::copies::{Copied, Copies};
use crate::logs::Logs;
use crate::model::rest::Rest;

/// How often the logs' sizes are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Logs that are shown at once.
const LOGS_AT_ONCE: usize = 16;
/// Most logs of one round: whoever begins to wait meanwhile is in the next one.
const LOGS_A_ROUND: usize = 256;
const INTERVAL_SECONDS: u32 = 60;

/// Shows logs to witnesses.
#[derive(Debug)]
pub(crate) struct Witnessing {
    logs: Logs,
    to: Option<(Publication, Copies)>,
    witnessed: Witnessed,
    clock: Clock,
    interval_ms: i64,
    known: Mutex<HashMap<String, Known>>,
}

/// What this process knows of one log.
#[derive(Debug, Clone, Default)]
struct Known {
    /// When it was last shown, or could not be.
    shown_at_ms: i64,
    /// It was compared with what the witnesses show of it.
    is_met: bool,
    /// The size that all witnesses have cosigned.
    complete: u64,
    /// It is not shown to anybody.
    is_private: bool,
    /// How long which witness is not asked for it.
    rests: HashMap<String, Rest>,
}

impl Witnessing {
    pub(crate) fn new(
        logs: Logs,
        to: Option<(Publication, Copies)>,
        witnessed: Witnessed,
        clock: Clock,
        interval_seconds: Option<u32>,
    ) -> Self {
        Self {
            logs,
            to,
            witnessed,
            clock,
            interval_ms: i64::from(interval_seconds.unwrap_or(INTERVAL_SECONDS)) * 1000,
            known: Mutex::default(),
        }
    }

    /// Runs until the service ends.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(look.tick()).await.is_some() {
            if let Some(Err(error)) = shutdown.run_until_cancelled(self.run_once()).await {
                tracing::warn!(%error, "the logs' sizes cannot be read; nothing is shown to witnesses");
            }
        }
    }

    /// Shows each log that has grown, long enough after it was shown last or because somebody waits for it.
    pub(crate) async fn run_once(&self) -> Result<(), EngineError> {
        let now_ms = self.clock.now_ms();
        let wanted = self.witnessed.reached.take_wanted();
        let sizes = self.sizes().await?;
        let seen: Vec<(String, u64)> = sizes
            .iter()
            .filter(|(tenant, _)| {
                !self
                    .lock()
                    .get(tenant)
                    .is_some_and(|known| known.is_private)
            })
            .cloned()
            .collect();
        self.witnessed.reached.look(&seen, now_ms);
        let mut due = seen;
        due.retain(|(tenant, size)| self.is_due(tenant, *size, now_ms, &wanted));
        due.sort_by_cached_key(|(tenant, _)| {
            let shown_at_ms = self.lock().get(tenant).map(|known| known.shown_at_ms);
            (!wanted.contains(tenant), shown_at_ms)
        });
        due.truncate(LOGS_A_ROUND);
        let rounds = due.into_iter().map(|(tenant, size)| async move {
            if let Err(error) = self.show(&tenant, size).await {
                self.failed(&tenant, &error);
            }
        });
        let rounds = futures::stream::iter(rounds).buffer_unordered(LOGS_AT_ONCE);
        rounds.collect::<()>().await;
        Ok(())
    }

    /// The sizes that are shown.
    async fn sizes(&self) -> Result<Vec<(String, u64)>, EngineError> {
        let mut sizes = self.logs.sizes().await?;
        if let Some((_, copies)) = &self.to {
            for (tenant, size) in &mut sizes {
                *size = copies.of(tenant).map_or(0, |copied| copied.size);
            }
        }
        sizes.retain(|(_, size)| *size > 0);
        Ok(sizes)
    }

    fn is_due(&self, tenant: &str, size: u64, now_ms: i64, wanted: &BTreeSet<String>) -> bool {
        self.lock().get(tenant).is_none_or(|known| {
            let is_old = now_ms - known.shown_at_ms >= self.interval_ms;
            size > known.complete && (is_old || wanted.contains(tenant))
        })
    }

    async fn show(&self, tenant: &str, size: u64) -> Result<(), EngineError> {
        let mut known = {
            let mut all = self.lock();
            let known = all.entry(tenant.to_owned()).or_default();
            known.shown_at_ms = self.clock.now_ms();
            known.clone()
        };
        let log = self.logs.get(tenant).await?;
        known.is_private = !self.witnessed.witnesses.are_of(&log.info().vkey);
        if !known.is_private {
            if !known.is_met {
                self.meet(&log).await?;
                known.is_met = true;
            }
            if self.ask(&log, size, &mut known.rests).await? {
                known.complete = size;
            }
        }
        self.lock().insert(tenant.to_owned(), known);
        Ok(())
    }

    /// Compares a log with what the witnesses show of it, once after the start, and finds how far it is witnessed.
    async fn meet(&self, log: &Log) -> Result<(), EngineError> {
        let asked = self.witnessed.witnesses.asked();
        let checks: FuturesUnordered<_> = asked
            .iter()
            .map(|one| log.check_witness(&one.witness))
            .collect();
        let checks: Vec<_> = checks.collect().await;
        checks.into_iter().collect::<Result<(), _>>()?;
        let policy = self.witnessed.witnesses.policy();
        if let Some(size) = log.witnessed(policy).await? {
            self.reached(log, size);
        }
        Ok(())
    }

    /// Asks the witnesses that have not cosigned this size, all at once; whether all of them have now.
    async fn ask(
        &self,
        log: &Log,
        size: u64,
        rests: &mut HashMap<String, Rest>,
    ) -> Result<bool, EngineError> {
        let now_ms = self.clock.now_ms();
        let asked = self.witnessed.witnesses.asked();
        let mut requests = FuturesUnordered::new();
        let mut by_all = true;
        for one in asked {
            if log.cosigned_size(one.witness.key()).await? >= size {
                continue;
            }
            let rest = rests.get(&one.name);
            if one.calls.rests() || rest.is_some_and(|rest| rest.is_on(now_ms)) {
                by_all = false;
                continue;
            }
            requests.push(async move { (one, log.cosign(&one.witness, size).await) });
        }
        while let Some((one, cosigned)) = requests.next().await {
            match cosigned {
                Ok(cosignature) => {
                    self.witnessed.tally.cosigned(&one.name);
                    rests.remove(&one.name);
                    // Whoever waits is told as soon as there are enough, and not when the slowest has answered.
                    self.look_at(log, cosignature.size).await?;
                }
                Err(WitnessError::Log(error)) => return Err(error),
                Err(error) => {
                    by_all = false;
                    self.blame(log, one, &error, rests);
                }
            }
        }
        // Another replica may have asked them.
        self.look_at(log, size).await?;
        let reached = self.witnessed.reached.of(&log.info().tenant);
        let enough = reached.map_or(0, |reached| reached.size);
        log.thin_cosignatures(size, enough).await?;
        if let Some((publication, _)) = &self.to {
            log.publish_cosignatures(publication).await?;
        }
        Ok(by_all)
    }

    /// Looks whether the cosignatures of a size are enough by now.
    async fn look_at(&self, log: &Log, size: u64) -> Result<(), EngineError> {
        let reached = self.witnessed.reached.of(&log.info().tenant);
        let is_new = reached.is_none_or(|reached| reached.size < size);
        let policy = self.witnessed.witnesses.policy();
        if is_new && log.is_witnessed(policy, size).await? {
            self.reached(log, size);
        }
        Ok(())
    }

    fn reached(&self, log: &Log, size: u64) {
        let reached = Copied {
            size,
            at_ms: self.clock.now_ms(),
            stopped: false,
        };
        let tenant = &log.info().tenant;
        self.witnessed.reached.published(tenant, reached);
    }

    /// Tells what a witness has done wrong, and lets it rest.
    fn blame(
        &self,
        log: &Log,
        one: &Asked,
        error: &WitnessError,
        rests: &mut HashMap<String, Rest>,
    ) {
        let Some(failure) = Failure::of(error) else {
            return;
        };
        self.witnessed.tally.failed(&one.name, failure);
        let (witness, origin) = (&one.name, &log.info().origin);
        match failure {
            // It rests for all logs.
            Failure::Unreachable => {
                tracing::warn!(witness, origin, %error, "a checkpoint was not cosigned");
                return;
            }
            Failure::Refused => {
                tracing::warn!(witness, origin, %error, "a checkpoint was not cosigned");
            }
            Failure::BadCosignature => {
                tracing::error!(alarm = "BAD_COSIGNATURE", witness, origin, %error, "it is not kept");
            }
            Failure::Contradicts => {
                tracing::error!(alarm = "WITNESS_CONTRADICTS", witness, origin, %error, "compare its log with ours");
            }
        }
        let rest = rests.entry(one.name.clone()).or_default();
        rest.failed(self.clock.now_ms());
    }

    fn failed(&self, tenant: &str, error: &EngineError) {
        if let EngineError::Damaged { .. } = error {
            tracing::error!(alarm = "LOG_STOPPED", tenant, %error, "it is not shown to witnesses");
            self.witnessed.reached.stopped(tenant);
        } else {
            // Tried again in the next round.
            tracing::warn!(tenant, %error, "the log was not shown to witnesses");
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
