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
    ///
    /// # Errors
    /// The last one, when a tenant's could not be written: they are noted again, and the others are written.
    pub(crate) async fn run_once(&self, db: &Database) -> Result<usize, ApiError> {
        let noted = std::mem::take(&mut *self.noted());
        let mut by_tenant: HashMap<String, Vec<(String, i64)>> = HashMap::new();
        for ((tenant, token), at_ms) in noted {
            by_tenant.entry(tenant).or_default().push((token, at_ms));
        }
        let (mut count, mut failed) = (0, None);
        for (tenant, tokens) in by_tenant {
            match write(db, &tenant, &tokens).await {
                Ok(()) => count += tokens.len(),
                Err(error) => {
                    failed = Some(error);
                    self.note_again(&tenant, tokens);
                }
            }
        }
        failed.map_or(Ok(count), Err)
    }

    /// Notes what could not be written, unless a later use is noted already.
    fn note_again(&self, tenant: &str, tokens: Vec<(String, i64)>) {
        let mut noted = self.noted();
        for (token, at_ms) in tokens {
            if noted.len() >= NOTED_MAX {
                return;
            }
            let later = noted.entry((tenant.to_owned(), token)).or_insert(at_ms);
            *later = at_ms.max(*later);
        }
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

async fn write(db: &Database, tenant: &str, tokens: &[(String, i64)]) -> Result<(), ApiError> {
    let mut tx = db.write_tx(tenant).await?;
    for (token, at_ms) in tokens {
        store::tokens::stamp(tx.conn(), tenant, token, *at_ms).await?;
    }
    // If we crash here: the tokens seem unused for a minute longer.
    tx.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use counterfoil_chassis::{both_engines, testing::TestDatabase};
    use sqlx::AssertSqlSafe;

    use super::*;

    async fn execute(db: &TestDatabase, sql: &str) {
        let mut tx = db.write_tx("beta").await.unwrap();
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::raw_sql(sql).execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
    }

    both_engines! {
        /// What is wrong here is the table; what may go wrong for one tenant is its lock.
        async fn what_cannot_be_written_is_noted_again_and_keeps_no_other_tenant_waiting(db: TestDatabase) {
            db.migrate(&[crate::MIGRATIONS]).await;
            let uses = Uses::default();
            // PostgreSQL knows no such tenant's name; SQLite looks at none.
            let bad = "no tenant";
            for tenant in ["acme", bad, "beta", "gamma"] {
                uses.note(tenant, "t1", 5);
            }
            execute(&db, "ALTER TABLE tokens RENAME TO away").await;
            uses.run_once(&db).await.unwrap_err();
            assert_eq!(uses.noted().len(), 4, "nothing is lost");
            uses.note("acme", "t1", 9);
            execute(&db, "ALTER TABLE away RENAME TO tokens").await;
            let written = uses.run_once(&db).await;
            let left = uses.noted().len();
            match db.engine() {
                counterfoil_chassis::db::Engine::Postgres => assert_eq!((written.is_err(), left), (true, 1)),
                counterfoil_chassis::db::Engine::Sqlite => assert_eq!((written.unwrap(), left), (4, 0)),
            }
        }
    }

    #[test]
    fn a_later_use_stays_when_an_earlier_one_is_noted_again() {
        let uses = Uses::default();
        uses.note("acme", "t1", 9);
        uses.note_again("acme", vec![("t1".into(), 5), ("t2".into(), 6)]);
        let noted = uses.noted();
        let at = |token: &str| noted[&("acme".to_owned(), token.to_owned())];
        assert_eq!((at("t1"), at("t2")), (9, 6));
    }
}
