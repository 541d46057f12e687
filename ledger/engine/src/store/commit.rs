//! The one transaction that makes a batch durable.

use counterfoil_tlog::Hash;
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe, Transaction};

use super::{Dialect, ROWS_PER_STATEMENT, Store, to_db};
use crate::admission::SubjectKey;
use crate::faults::{FaultPoint, Faults, Verdict};
use crate::model::StreamHead;
use crate::{EngineError, LogId, LogInfo};

/// What a batch adds to one log.
#[derive(Debug)]
pub(crate) struct LogCommit {
    pub(crate) log: LogId,
    /// The head that this continues.
    pub(crate) old_size: u64,
    pub(crate) old_root: Hash,
    pub(crate) new_size: u64,
    pub(crate) new_root: Hash,
    pub(crate) frontier: Vec<u8>,
    pub(crate) checkpoint: String,
    pub(crate) recorded_at_ms: i64,
    pub(crate) entries: Vec<EntryRow>,
    pub(crate) tiles: Vec<TileRow>,
    pub(crate) streams: Vec<(String, StreamHead)>,
    pub(crate) keys: Vec<KeyRow>,
}

/// One entry with what it is found by.
#[derive(Debug)]
pub(crate) struct EntryRow {
    pub(crate) index: u64,
    pub(crate) leaf_hash: Hash,
    pub(crate) record_id: [u8; 16],
    pub(crate) record_hash: [u8; 32],
    pub(crate) record_type: String,
    pub(crate) stream: &'static str,
    pub(crate) subjects: Vec<SubjectKey>,
    pub(crate) entry: Vec<u8>,
}

/// One hash tile, full or growing.
#[derive(Debug)]
pub(crate) struct TileRow {
    pub(crate) level: u8,
    pub(crate) n: u64,
    pub(crate) hashes: Vec<u8>,
}

/// One stream that a key may write.
#[derive(Debug)]
pub(crate) struct KeyRow {
    pub(crate) key_id: String,
    pub(crate) stream: String,
    pub(crate) public_key: [u8; 32],
    pub(crate) valid_from_ms: i64,
    pub(crate) revoked_after_ms: Option<i64>,
}

/// Why a batch was not committed.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// Another writer moved the head of this log, or the log was stopped.
    HeadMoved(LogId),
    /// A record id that was taken for new is in the log.
    RecordKnown,
    /// The database failed, or the process is told that it did. What is durable is open.
    Failed(EngineError),
}

impl CommitError {
    fn at(step: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |error| match &error {
            sqlx::Error::Database(database) if database.is_unique_violation() => Self::RecordKnown,
            _ => Self::Failed(EngineError::storage(step, &error)),
        }
    }
}

type Statement = Query<'static, Any, AnyArguments>;

impl Store {
    /// Makes a batch durable, all of it or nothing. The logs must be in ascending order, so that writers never deadlock.
    pub(crate) async fn commit(
        &self,
        logs: &[LogCommit],
        faults: &dyn Faults,
    ) -> Result<(), CommitError> {
        // If we crash anywhere before the commit: nothing of the batch is there, nobody was told, clients send it again.
        let before = Step::reach(faults, FaultPoint::Begin)?;
        let mut transaction = {
            let ids: Vec<LogId> = logs.iter().map(|log| log.log).collect();
            self.begin(&ids).await.map_err(CommitError::at("begin"))?
        };
        before.done()?;
        let before = Step::reach(faults, FaultPoint::SwapHeads)?;
        for log in logs {
            swap_head(&mut transaction, log, Stopped::Refused).await?;
        }
        before.done()?;
        let before = Step::reach(faults, FaultPoint::Insert)?;
        self.insert(&mut transaction, logs).await?;
        before.done()?;
        let before = Step::reach(faults, FaultPoint::Commit)?;
        // If we crash here: either all of the batch is durable or nothing. Clients send it again, and get the original
        // positions in the first case.
        transaction
            .commit()
            .await
            .map_err(CommitError::at("commit"))?;
        before.done()
    }

    async fn insert(
        &self,
        transaction: &mut Transaction<'_, Any>,
        logs: &[LogCommit],
    ) -> Result<(), CommitError> {
        self.insert_entries(transaction, logs).await?;
        self.insert_subjects(transaction, logs).await?;
        self.upsert_streams(transaction, logs).await?;
        self.upsert_tiles(transaction, logs).await?;
        self.upsert_keys(transaction, logs).await
    }

    /// Begins to append many batches to one log at once, even if it was stopped.
    pub(crate) async fn rebuild(&self, log: &LogInfo) -> Result<Rebuild<'_>, EngineError> {
        let failed = |error: sqlx::Error| EngineError::storage("begin to rebuild", &error);
        Ok(Rebuild {
            store: self,
            transaction: self.begin(&[log.id]).await.map_err(failed)?,
        })
    }

    /// Begins to write to these logs. On PostgreSQL the transaction names them, and sees no others.
    pub(super) async fn begin(
        &self,
        logs: &[LogId],
    ) -> Result<Transaction<'static, Any>, sqlx::Error> {
        match self.dialect {
            Dialect::Sqlite => self.write.begin().await,
            Dialect::Postgres => {
                let ids: Vec<String> = logs.iter().map(ToString::to_string).collect();
                let begin = format!("BEGIN; SET LOCAL counterfoil.logs = '{}'", ids.join(","));
                self.write.begin_with(AssertSqlSafe(begin)).await
            }
        }
    }

    async fn insert_entries(
        &self,
        transaction: &mut Transaction<'_, Any>,
        logs: &[LogCommit],
    ) -> Result<(), CommitError> {
        let rows = flatten(logs, |log| &log.entries);
        let head = "INSERT INTO log_entries (log_id, idx, leaf_hash, record_id, record_hash, \
                    record_type, stream, entry) VALUES ";
        self.bulk(
            transaction,
            "insert entries",
            (head, 8, ""),
            &rows,
            |query, (log, row)| {
                Ok(query
                    .bind(log.0)
                    .bind(to_db(row.index)?)
                    .bind(row.leaf_hash.as_bytes().as_slice())
                    .bind(row.record_id.as_slice())
                    .bind(row.record_hash.as_slice())
                    .bind(row.record_type.as_str())
                    .bind(row.stream)
                    .bind(row.entry.as_slice()))
            },
        )
        .await
    }

    async fn insert_subjects(
        &self,
        transaction: &mut Transaction<'_, Any>,
        logs: &[LogCommit],
    ) -> Result<(), CommitError> {
        let rows: Vec<(LogId, &SubjectKey, u64)> = logs
            .iter()
            .flat_map(|log| log.entries.iter().map(|row| (log.log, row)))
            .flat_map(|(log, row)| row.subjects.iter().map(move |key| (log, key, row.index)))
            .collect();
        let head = "INSERT INTO log_subjects (log_id, subject, idx) VALUES ";
        self.bulk(
            transaction,
            "insert subjects",
            (head, 3, ""),
            &rows,
            |query, (log, subject, index)| {
                Ok(query
                    .bind(log.0)
                    .bind(subject.as_slice())
                    .bind(to_db(*index)?))
            },
        )
        .await
    }

    async fn upsert_streams(
        &self,
        transaction: &mut Transaction<'_, Any>,
        logs: &[LogCommit],
    ) -> Result<(), CommitError> {
        let rows = flatten(logs, |log| &log.streams);
        let head = "INSERT INTO log_streams (log_id, stream, last_seq, last_record_hash) VALUES ";
        let tail = " ON CONFLICT (log_id, stream) DO UPDATE SET last_seq = excluded.last_seq, \
                    last_record_hash = excluded.last_record_hash";
        self.bulk(
            transaction,
            "update streams",
            (head, 4, tail),
            &rows,
            |query, (log, (stream, last))| {
                Ok(query
                    .bind(log.0)
                    .bind(stream.as_str())
                    .bind(to_db(last.last_seq)?)
                    .bind(last.last_record_hash.as_slice()))
            },
        )
        .await
    }

    async fn upsert_tiles(
        &self,
        transaction: &mut Transaction<'_, Any>,
        logs: &[LogCommit],
    ) -> Result<(), CommitError> {
        let rows = flatten(logs, |log| &log.tiles);
        let head = "INSERT INTO log_tiles (log_id, level, n, hashes) VALUES ";
        let tail = " ON CONFLICT (log_id, level, n) DO UPDATE SET hashes = excluded.hashes";
        self.bulk(
            transaction,
            "write tiles",
            (head, 4, tail),
            &rows,
            |query, (log, tile)| {
                Ok(query
                    .bind(log.0)
                    .bind(i64::from(tile.level))
                    .bind(to_db(tile.n)?)
                    .bind(tile.hashes.as_slice()))
            },
        )
        .await
    }

    async fn upsert_keys(
        &self,
        transaction: &mut Transaction<'_, Any>,
        logs: &[LogCommit],
    ) -> Result<(), CommitError> {
        let rows = flatten(logs, |log| &log.keys);
        let head = "INSERT INTO log_producer_keys (log_id, key_id, stream, public_key, valid_from_ms, \
                    revoked_after_ms) VALUES ";
        let tail = " ON CONFLICT (log_id, key_id, stream) DO UPDATE SET \
                    valid_from_ms = excluded.valid_from_ms, \
                    revoked_after_ms = excluded.revoked_after_ms";
        self.bulk(
            transaction,
            "write keys",
            (head, 6, tail),
            &rows,
            |query, (log, key)| {
                Ok(query
                    .bind(log.0)
                    .bind(key.key_id.as_str())
                    .bind(key.stream.as_str())
                    .bind(key.public_key.as_slice())
                    .bind(key.valid_from_ms)
                    .bind(key.revoked_after_ms))
            },
        )
        .await
    }

    /// Runs one multi-row statement a few hundred rows at a time: `head`, the rows' placeholders, `tail`.
    async fn bulk<T>(
        &self,
        transaction: &mut Transaction<'_, Any>,
        step: &'static str,
        (head, columns, tail): (&str, usize, &str),
        rows: &[T],
        bind: impl Fn(Statement, &T) -> Result<Statement, EngineError>,
    ) -> Result<(), CommitError> {
        for rows in rows.chunks(ROWS_PER_STATEMENT) {
            let text = format!("{head}{}{tail}", self.dialect.rows(columns, rows.len()));
            // Only the two texts that come again and again are worth keeping prepared.
            let again = rows.len() == 1 || rows.len() == ROWS_PER_STATEMENT;
            let mut query = sqlx::query(AssertSqlSafe(text)).persistent(again);
            for row in rows {
                query = bind(query, row).map_err(CommitError::Failed)?;
            }
            query
                .execute(&mut **transaction)
                .await
                .map_err(CommitError::at(step))?;
        }
        Ok(())
    }
}

/// Batches of one log that become durable together.
#[derive(Debug)]
pub(crate) struct Rebuild<'a> {
    store: &'a Store,
    transaction: Transaction<'static, Any>,
}

impl Rebuild<'_> {
    /// Adds the next batch.
    pub(crate) async fn add(&mut self, batch: &LogCommit) -> Result<(), EngineError> {
        let added = async {
            swap_head(&mut self.transaction, batch, Stopped::Written).await?;
            let batch = std::slice::from_ref(batch);
            self.store.insert(&mut self.transaction, batch).await
        };
        added.await.map_err(|error| match error {
            CommitError::Failed(error) => error,
            CommitError::HeadMoved(_) | CommitError::RecordKnown => EngineError::Storage {
                step: "rebuild",
                message: "another process writes the log; try again".to_owned(),
            },
        })
    }

    /// Makes all of them durable.
    pub(crate) async fn commit(self) -> Result<(), EngineError> {
        let failed = |error: sqlx::Error| EngineError::storage("commit", &error);
        self.transaction.commit().await.map_err(failed)
    }
}

/// What becomes of a batch for a log that was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    /// It is not written.
    Refused,
    /// It is, and the log stays stopped: whoever brings it back checks it before it goes on.
    Written,
}

/// Moves the head, if it is still the one that the batch continues.
async fn swap_head(
    transaction: &mut Transaction<'_, Any>,
    log: &LogCommit,
    stopped: Stopped,
) -> Result<(), CommitError> {
    let size = |size| to_db(size).map_err(CommitError::Failed);
    let swapped = sqlx::query(
        "UPDATE log_heads SET size = $1, root = $2, frontier = $3, checkpoint = $4, recorded_at_ms = $5 \
         WHERE log_id = $6 AND size = $7 AND root = $8 AND ($9 = 1 OR stopped_because IS NULL)",
    )
    .bind(size(log.new_size)?)
    .bind(log.new_root.as_bytes().as_slice())
    .bind(log.frontier.as_slice())
    .bind(log.checkpoint.as_str())
    .bind(log.recorded_at_ms)
    .bind(log.log.0)
    .bind(size(log.old_size)?)
    .bind(log.old_root.as_bytes().as_slice())
    .bind(i64::from(stopped == Stopped::Written))
    .execute(&mut **transaction)
    .await
    .map_err(CommitError::at("swap head"))?;
    if swapped.rows_affected() == 1 {
        Ok(())
    } else {
        Err(CommitError::HeadMoved(log.log))
    }
}

fn flatten<T>(logs: &[LogCommit], rows: impl Fn(&LogCommit) -> &Vec<T>) -> Vec<(LogId, &T)> {
    logs.iter()
        .flat_map(|log| rows(log).iter().map(move |row| (log.log, row)))
        .collect()
}

/// A step that a test may let fail before or after it is done.
struct Step(FaultPoint, Verdict);

impl Step {
    fn reach(faults: &dyn Faults, point: FaultPoint) -> Result<Self, CommitError> {
        match faults.at(point) {
            Verdict::Fail => Err(CommitError::Failed(point.injected())),
            verdict => Ok(Self(point, verdict)),
        }
    }

    fn done(self) -> Result<(), CommitError> {
        match self.1 {
            Verdict::FailAfter => Err(CommitError::Failed(self.0.injected())),
            _ => Ok(()),
        }
    }
}
