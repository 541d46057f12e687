//! Lets the bytes of old entries leave the database, once the published copy has them. Nothing leaves the log by it.

use std::time::Duration;

use counterfoil_chassis::{CancellationToken, Clock};
use counterfoil_engine::{EngineError, Publication};

use crate::logs::Logs;

/// How often old entries are looked for.
const EVERY: Duration = Duration::from_secs(3600);
/// Bundles that leave in one transaction: 1,024 entries. Whoever appends waits for it.
const BUNDLES: u64 = 4;
/// A log up to this size keeps all.
const ENTRIES_MIN: u64 = 256;
const DAY_MS: i64 = 86_400_000;

/// Lets go what is old enough.
#[derive(Debug)]
pub(crate) struct Evictor {
    logs: Logs,
    copy: Publication,
    after_ms: i64,
}

impl Evictor {
    pub(crate) fn new(logs: Logs, copy: Publication, after_days: u32) -> Self {
        Self {
            logs,
            copy,
            after_ms: i64::from(after_days) * DAY_MS,
        }
    }

    /// Runs until the service ends.
    pub(crate) async fn run(self, clock: Clock, shutdown: CancellationToken) {
        let mut look = tokio::time::interval(EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(look.tick()).await.is_some() {
            // Cut off anywhere, the next round goes on.
            let round = self.run_once(clock.now_ms());
            if let Some(Err(error)) = shutdown.run_until_cancelled(round).await {
                tracing::warn!(%error, "old entries stay in the database for now");
            }
        }
    }

    /// Lets go all that is old enough, of all logs.
    async fn run_once(&self, now_ms: i64) -> Result<(), EngineError> {
        for (tenant, size) in self.logs.sizes().await? {
            if size <= ENTRIES_MIN {
                continue;
            }
            match self.one(&tenant, now_ms).await {
                Ok(()) => {}
                // The others' copies are at the same place.
                Err(error @ EngineError::Publication { .. }) => return Err(error),
                Err(error @ EngineError::Damaged { .. }) => {
                    tracing::error!(alarm = "LOG_STOPPED", tenant, %error, "nothing leaves the database");
                }
                Err(error) => tracing::warn!(tenant, %error, "old entries stay in the database"),
            }
        }
        Ok(())
    }

    async fn one(&self, tenant: &str, now_ms: i64) -> Result<(), EngineError> {
        let log = self.logs.get(tenant).await?;
        let before_ms = now_ms - self.after_ms;
        loop {
            let evicted = log.evict(&self.copy, before_ms, BUNDLES).await?;
            if evicted.to == evicted.from {
                return Ok(());
            }
            tracing::info!(tenant, below = evicted.to, "entries are in the copy only");
        }
    }
}
