//! When tokens were last presented: noted in memory where they are looked up, written down once a minute.
//!
//! Nothing depends on it but the answer to "is this token still in use?", so what a crash loses is a minute of that.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use counterfoil_chassis::{ApiError, CancellationToken, Clock, Database};

use crate::store;

/// How often it is written down, milliseconds.
const WRITTEN_EVERY_MS: i64 = 60_000;
/// Tokens noted at once; of more, the rest is noted in the next minute.
const NOTED_MAX: usize = 100_000;

/// By tenant and token: when it was last presented.
type Noted = HashMap<(String, String), i64>;

/// What was presented since it was last written down.
#[derive(Debug, Default)]
pub(crate) struct Uses(Mutex<Noted>);

impl Uses {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a token was presented.
    pub(crate) fn note(&self, tenant: &str, token_id: &str, now_ms: i64) {
        let mut noted = self.noted();
        let key = (tenant.to_owned(), token_id.to_owned());
        if noted.len() < NOTED_MAX || noted.contains_key(&key) {
            noted.insert(key, now_ms);
        }
    }

    /// Writes down what was noted; answers how many tokens.
    pub(crate) async fn run_once(&self, db: &Database) -> Result<usize, ApiError> {
        let noted = std::mem::take(&mut *self.noted());
        let count = noted.len();
        let mut by_tenant: HashMap<String, Vec<(String, i64)>> = HashMap::new();
        for ((tenant, token), at_ms) in noted {
            by_tenant.entry(tenant).or_default().push((token, at_ms));
        }
        for (tenant, tokens) in by_tenant {
            let mut tx = db.write_tx(&tenant).await?;
            for (token, at_ms) in tokens {
                store::tokens::stamp(tx.conn(), &tenant, &token, at_ms).await?;
            }
            // If we crash here: the tokens seem unused for a minute longer.
            tx.commit().await?;
        }
        Ok(count)
    }

    /// Writes down what was noted, every minute and at the end.
    pub(crate) async fn run(&self, db: Database, clock: Clock, shutdown: CancellationToken) {
        loop {
            let next = clock.now_ms().saturating_add(WRITTEN_EVERY_MS);
            let ended = shutdown.run_until_cancelled(clock.reached(next)).await;
            if let Err(error) = self.run_once(&db).await {
                tracing::warn!(%error, "last uses of tokens were not written down");
            }
            if ended.is_none() {
                return;
            }
        }
    }
}
