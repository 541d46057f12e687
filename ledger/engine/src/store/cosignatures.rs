//! The cosignatures of witnesses. They prove themselves: whoever can write here can withhold one, and make none.

use counterfoil_tlog::VerifierKey;
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Transaction};

use super::{Dialect, Store, get, number, readable, to_db};
use crate::cosignatures::{Cosignature, Found};
use crate::{EngineError, LogId, LogInfo};

impl Store {
    /// Keeps cosignatures. Of one size the first of a witness stays, for it is the earliest proof of it; but not what is garbled, beside each:
    /// what the database has in its place, if that is still there. What cannot even be read goes whatever it is by now: at worst for
    /// another good one.
    pub(crate) async fn keep_cosignatures(
        &self,
        rows: &[(&LogInfo, &Cosignature, Found)],
    ) -> Result<(), EngineError> {
        let failed = |error: sqlx::Error| EngineError::storage("keep cosignatures", &error);
        let logs: Vec<LogId> = rows.iter().map(|(log, ..)| log.id).collect();
        let mut transaction = self.begin_beside(&logs).await.map_err(failed)?;
        for (log, kept, found) in rows {
            let (bad_at_s, bad_line) = match found {
                Found::Bad {
                    cosigned_at_s,
                    line,
                } => (to_db(*cosigned_at_s)?, line.as_str()),
                Found::Nothing | Found::Good | Found::Unreadable => (-1, ""),
            };
            sqlx::query(
                "INSERT INTO log_cosignatures (log_id, size, witness, cosigned_at_s, line) \
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT (log_id, size, witness) \
                 DO UPDATE SET cosigned_at_s = excluded.cosigned_at_s, line = excluded.line \
                 WHERE $8 OR log_cosignatures.line = $6 AND log_cosignatures.cosigned_at_s = $7",
            )
            .bind(log.id.0)
            .bind(to_db(kept.size)?)
            .bind(kept.witness.to_string())
            .bind(to_db(kept.cosigned_at_s)?)
            .bind(kept.line.as_str())
            .bind(bad_line)
            .bind(bad_at_s)
            .bind(matches!(found, Found::Unreadable))
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    /// The cosignatures of a size, in order of their witnesses' keys; and how many rows of that size are nobody's.
    pub(crate) async fn cosignatures(
        &self,
        log: &LogInfo,
        size: u64,
    ) -> Result<(Vec<Cosignature>, usize), EngineError> {
        let mut reading = self.reading(log.id).await?;
        let rows = sqlx::query(
            "SELECT size, witness, cosigned_at_s, line FROM log_cosignatures \
             WHERE log_id = $1 AND size = $2 ORDER BY witness",
        )
        .bind(log.id.0)
        .bind(to_db(size)?)
        .fetch(&mut *reading);
        let (rows, others) = readable(rows, "read cosignatures").await?;
        let found: Vec<Cosignature> = rows.iter().filter_map(cosignature).collect();
        let nameless = others + rows.len() - found.len();
        Ok((found, nameless))
    }

    /// What there is in the place of a witness's cosignature of a size; `Some(None)`: what cannot be read.
    pub(crate) async fn cosignature_of(
        &self,
        log: &LogInfo,
        size: u64,
        witness: &VerifierKey,
    ) -> Result<Option<Option<Cosignature>>, EngineError> {
        let mut reading = self.reading(log.id).await?;
        let rows = sqlx::query(
            "SELECT size, witness, cosigned_at_s, line FROM log_cosignatures \
             WHERE log_id = $1 AND size = $2 AND witness = $3",
        )
        .bind(log.id.0)
        .bind(to_db(size)?)
        .bind(witness.to_string())
        .fetch(&mut *reading);
        let (rows, others) = readable(rows, "read a cosignature").await?;
        let found = rows.first().map(cosignature);
        Ok(found.or((others > 0).then_some(None)))
    }

    /// The sizes that have cosignatures, the largest first; and how many there are that are no sizes.
    pub(crate) async fn cosigned_sizes(
        &self,
        log: &LogInfo,
    ) -> Result<(Vec<u64>, usize), EngineError> {
        let rows = sqlx::query(
            "SELECT DISTINCT size FROM log_cosignatures WHERE log_id = $1 ORDER BY size DESC",
        )
        .bind(log.id.0)
        .fetch_all(&mut *self.reading(log.id).await?)
        .await
        .map_err(|error| EngineError::storage("read cosigned sizes", &error))?;
        let sizes = rows.iter().filter_map(|row| number(row, "size").ok());
        let sizes: Vec<u64> = sizes.collect();
        let others = rows.len() - sizes.len();
        Ok((sizes, others))
    }

    /// At most so many cosignatures of a witness below a size, the largest first.
    pub(crate) async fn cosignatures_by(
        &self,
        log: &LogInfo,
        witness: &VerifierKey,
        below: u64,
        limit: u32,
    ) -> Result<Vec<Cosignature>, EngineError> {
        let mut reading = self.reading(log.id).await?;
        let rows = sqlx::query(
            "SELECT size, witness, cosigned_at_s, line FROM log_cosignatures \
             WHERE log_id = $1 AND witness = $2 AND size < $3 ORDER BY size DESC LIMIT $4",
        )
        .bind(log.id.0)
        .bind(witness.to_string())
        .bind(i64::try_from(below).unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .fetch(&mut *reading);
        let (rows, _) = readable(rows, "read cosignatures of a witness").await?;
        Ok(rows.iter().filter_map(cosignature).collect())
    }

    /// Takes away what is below a size, but for that of one size and for each witness's first of a day.
    pub(crate) async fn thin_cosignatures(
        &self,
        log: &LogInfo,
        below: u64,
        but: u64,
    ) -> Result<(), EngineError> {
        let failed = |error: sqlx::Error| EngineError::storage("thin cosignatures", &error);
        let mut transaction = self.begin_beside(&[log.id]).await.map_err(failed)?;
        sqlx::query(
            "DELETE FROM log_cosignatures WHERE log_id = $1 AND size < $2 AND size <> $3 AND EXISTS ( \
               SELECT 1 FROM log_cosignatures AS earlier \
               WHERE earlier.log_id = log_cosignatures.log_id AND earlier.witness = log_cosignatures.witness \
                 AND earlier.size < log_cosignatures.size \
                 AND earlier.cosigned_at_s / 86400 = log_cosignatures.cosigned_at_s / 86400)",
        )
        .bind(log.id.0)
        .bind(to_db(below)?)
        .bind(to_db(but)?)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        // If we crash before it is durable: more is kept than is needed, until the next time.
        transaction.commit().await.map_err(failed)
    }

    /// Begins to write beside what is appended: unlike a batch it does not hold the log's head.
    async fn begin_beside(&self, logs: &[LogId]) -> Result<Transaction<'static, Any>, sqlx::Error> {
        match self.dialect {
            Dialect::Sqlite => self.write.begin().await,
            Dialect::Postgres => {
                let logs: Vec<String> = logs.iter().map(LogId::to_string).collect();
                let begin = format!("BEGIN; SET LOCAL counterfoil.logs = '{}'", logs.join(","));
                self.write.begin_with(AssertSqlSafe(begin)).await
            }
        }
    }
}

/// `None`: the row names no witness or cannot be read, so that nobody's word is in it.
fn cosignature(row: &AnyRow) -> Option<Cosignature> {
    let witness: String = get(row, "witness").ok()?;
    Some(Cosignature {
        size: number(row, "size").ok()?,
        witness: VerifierKey::parse(&witness).ok()?,
        cosigned_at_s: number(row, "cosigned_at_s").ok()?,
        line: get(row, "line").ok()?,
    })
}
