//! The one transaction that makes a batch durable.

use std::fmt;
use std::sync::Arc;

use counterfoil_tlog::Hash;
use scopeguard::ScopeGuard;
use sqlx::error::DatabaseError;
use sqlx::{Any, AssertSqlSafe, Transaction};

use super::call::{self, Call};
use super::rows::{Kind, Statement, Together, Value};
use super::subjects::FullRun;
use super::{Dialect, Store, to_db};
use crate::faults::{FaultPoint, Faults, Verdict};
use crate::labels::{LabelRow, Labels};
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
    /// Of the bundles that became full.
    pub(crate) labels: Vec<LabelRow>,
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
    pub(crate) labels: Arc<Labels>,
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

/// A batch as the statements that write it: made before its transaction begins, because others wait for that.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Ascending, so that writers never deadlock.
    logs: Vec<LogId>,
    write: Write,
    /// Runs of bundles that become full.
    full: Vec<FullRun>,
}

/// How heads are moved, if they are still those that the batch continues, and what is new is inserted.
enum Write {
    /// SQLite: statements, and the rows that are counted then.
    Statements(Together, u64),
    /// PostgreSQL.
    Call(Call),
}

impl Write {
    /// Whether one message to the database is all there is.
    fn is_all_at_once(&self) -> bool {
        match self {
            Self::Statements(together, _) => together.is_one_text(),
            Self::Call(_) => true,
        }
    }
}

impl fmt::Debug for Write {
    /// Without what is written, which are whole entries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Statements(..) => "Statements",
            Self::Call(_) => "Call",
        })
    }
}

/// Why a batch was not committed.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// The logs are not as the batch took them to be: another writer moved a head, a log was stopped, or a record id that was
    /// taken for new is known.
    Overtaken,
    /// The database failed, or the process is told that it did. What is durable is open.
    Failed(EngineError),
}

impl CommitError {
    fn at(step: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |error| match &error {
            sqlx::Error::Database(database) if is_overtaken(database.as_ref()) => Self::Overtaken,
            _ => Self::Failed(EngineError::storage(step, &error)),
        }
    }
}

/// Whether the database says that the logs are not as the batch takes them to be.
fn is_overtaken(error: &dyn DatabaseError) -> bool {
    error.is_unique_violation()
        || error.code().is_some_and(|code| code == call::OVERTAKEN)
        || error.message() == HEAD_NOT_MOVED
}

/// What becomes of a batch for a log that was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    /// It is not written.
    Refused,
    /// It is, and the log stays stopped: whoever brings it back checks it before it goes on.
    Written,
}

impl Store {
    /// Puts a batch into statements. The logs must be in ascending order.
    pub(crate) fn prepare(&self, logs: &[LogCommit]) -> Result<Prepared, EngineError> {
        self.put(logs, Stopped::Refused)
    }

    /// Makes a batch durable, all of it or nothing.
    pub(crate) async fn commit(
        &self,
        batch: Prepared,
        faults: &dyn Faults,
    ) -> Result<(), CommitError> {
        match batch {
            Prepared { write, full, .. } if full.is_empty() && write.is_all_at_once() => {
                self.commit_at_once(write, faults).await
            }
            batch => self.commit_in_steps(batch, faults).await,
        }
    }

    /// Where one message to the database is all there is: it does every step.
    async fn commit_at_once(&self, write: Write, faults: &dyn Faults) -> Result<(), CommitError> {
        for point in [FaultPoint::Begin, FaultPoint::Write] {
            Step::reach(faults, point)?.done()?;
        }
        let before = Step::reach(faults, FaultPoint::Commit)?;
        // If we crash here: either all of the batch is durable or nothing. Clients send it again, and get the original
        // positions in the first case.
        let written = match write {
            // The pool hands out no connection that is in a transaction (`is_idle`), so that what the call wrote is durable.
            Write::Call(call) => call.make(&self.write).await.map(|()| 0),
            Write::Statements(together, rows) => self.commit_alone(together).await.map(|()| rows),
        };
        self.wrote(written.map_err(CommitError::at("write"))?);
        before.done()
    }

    /// On SQLite: each further message costs two changes of threads, which take longer than a lone record's statements.
    async fn commit_alone(&self, together: Together) -> Result<(), sqlx::Error> {
        let connection = self.write.acquire().await?;
        // Of the text's transaction the pool does not know: a connection in which it may be open is closed.
        let mut connection = scopeguard::guard(connection, |mut open| open.close_on_drop());
        together.execute_alone(&mut connection).await?;
        drop(ScopeGuard::into_inner(connection));
        Ok(())
    }

    async fn commit_in_steps(
        &self,
        batch: Prepared,
        faults: &dyn Faults,
    ) -> Result<(), CommitError> {
        // If we crash anywhere before the commit: nothing of the batch is there, nobody was told, clients send it again.
        let before = Step::reach(faults, FaultPoint::Begin)?;
        let begun = self.begin(&batch.logs).await;
        let mut transaction = begun.map_err(CommitError::at("begin"))?;
        before.done()?;
        let before = Step::reach(faults, FaultPoint::Write)?;
        let rows = self.write(&mut transaction, batch).await?;
        before.done()?;
        let before = Step::reach(faults, FaultPoint::Commit)?;
        // If we crash here: as above.
        transaction
            .commit()
            .await
            .map_err(CommitError::at("commit"))?;
        self.wrote(rows);
        before.done()
    }

    /// Begins to append many batches to one log at once, even if it was stopped.
    pub(crate) async fn rebuild(&self, log: &LogInfo) -> Result<Rebuild<'_>, EngineError> {
        let failed = |error: sqlx::Error| EngineError::storage("begin to rebuild", &error);
        Ok(Rebuild {
            store: self,
            transaction: self.begin(&[log.id]).await.map_err(failed)?,
            rows: 0,
        })
    }

    /// Begins to write to these logs, in ascending order. On PostgreSQL the transaction names them and sees no others, and holds their
    /// heads from its beginning on: of two that write the same logs, one waits for the other.
    pub(super) async fn begin(
        &self,
        logs: &[LogId],
    ) -> Result<Transaction<'static, Any>, sqlx::Error> {
        match self.dialect {
            // At once: whoever began with reading is refused without waiting when another connection writes.
            Dialect::Sqlite => self.write.begin_with("BEGIN IMMEDIATE").await,
            Dialect::Postgres => {
                let ids: Vec<String> = logs.iter().map(ToString::to_string).collect();
                let ids = ids.join(",");
                let begin = format!(
                    "BEGIN; SET LOCAL counterfoil.logs = '{ids}'; \
                     SELECT 1 FROM log_heads WHERE log_id IN ({ids}) ORDER BY log_id FOR UPDATE"
                );
                self.write.begin_with(AssertSqlSafe(begin)).await
            }
        }
    }

    /// Moves the heads, and inserts what is new. The rows that were written, as far as they were counted.
    async fn write(
        &self,
        transaction: &mut Transaction<'_, Any>,
        batch: Prepared,
    ) -> Result<u64, CommitError> {
        let failed = CommitError::at("write");
        let rows = match batch.write {
            Write::Statements(together, expected) => {
                if together.execute(transaction).await.map_err(failed)? != expected {
                    return Err(CommitError::Overtaken);
                }
                expected
            }
            Write::Call(call) => {
                call.make(&mut **transaction).await.map_err(failed)?;
                0
            }
        };
        let put = self.put_runs_together(transaction, batch.full).await;
        Ok(rows + put.map_err(CommitError::Failed)?)
    }

    /// Puts into statements all that is written.
    fn put(&self, logs: &[LogCommit], stopped: Stopped) -> Result<Prepared, EngineError> {
        Ok(Prepared {
            logs: logs.iter().map(|log| log.log).collect(),
            write: match self.dialect {
                Dialect::Sqlite => statements(logs, stopped)?,
                Dialect::Postgres => Write::Call(Call::of(logs, stopped == Stopped::Written)?),
            },
            full: logs.iter().flat_map(LogCommit::full_runs).collect(),
        })
    }
}

/// The statements of SQLite: the heads first, and the rows of all statements are counted. The function of migration 0010 says the same to
/// PostgreSQL.
fn statements(logs: &[LogCommit], stopped: Stopped) -> Result<Write, EngineError> {
    // Lone records come in few forms, each again and again.
    let few = logs.iter().map(|log| log.entries.len()).sum::<usize>() == 1;
    let mut together = Together::new(Dialect::Sqlite, few);
    let mut rows_in_all = 0;
    let mut add = |statement: &Statement, rows: Vec<Vec<Value<'_>>>| {
        rows_in_all += rows.len() as u64;
        let added = together.add(statement, &rows);
        added.map_err(|error| EngineError::storage("write", &error))
    };
    add(swap(stopped), head_rows(logs)?)?;
    insert(logs, if few { &LONE_ENTRY } else { &ENTRIES }, add)?;
    Ok(Write::Statements(together, rows_in_all))
}

fn swap(stopped: Stopped) -> &'static Statement {
    match stopped {
        Stopped::Refused => &SWAP,
        Stopped::Written => &SWAP_STOPPED,
    }
}

const SWAP: Statement = Statement {
    before: SWAP_STOPPED.before,
    columns: SWAP_STOPPED.columns,
    after: ") AS new WHERE log_heads.log_id = new.column1 AND log_heads.size = new.column7 \
            AND log_heads.root = new.column8 AND log_heads.stopped_because IS NULL",
};

const SWAP_STOPPED: Statement = Statement {
    before: "UPDATE log_heads SET size = new.column2, root = new.column3, frontier = new.column4, \
             checkpoint = new.column5, recorded_at_ms = new.column6 FROM (",
    columns: &[
        Kind::Number,
        Kind::Number,
        Kind::Bytes,
        Kind::Bytes,
        Kind::Text,
        Kind::Number,
        Kind::Number,
        Kind::Bytes,
    ],
    after: ") AS new WHERE log_heads.log_id = new.column1 AND log_heads.size = new.column7 \
            AND log_heads.root = new.column8",
};

fn head_rows(logs: &[LogCommit]) -> Result<Vec<Vec<Value<'_>>>, EngineError> {
    logs.iter()
        .map(|log| {
            Ok(vec![
                Value::Number(log.log.0),
                Value::Number(to_db(log.new_size)?),
                Value::Bytes(log.new_root.as_bytes()),
                Value::Bytes(&log.frontier),
                Value::Text(&log.checkpoint),
                Value::Number(log.recorded_at_ms),
                Value::Number(to_db(log.old_size)?),
                Value::Bytes(log.old_root.as_bytes()),
            ])
        })
        .collect()
}

/// Entries, and what they are found by.
fn insert<'a>(
    logs: &'a [LogCommit],
    into_entries: &Statement,
    mut add: impl FnMut(&Statement, Vec<Vec<Value<'a>>>) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let entries = flatten(logs, |log| &log.entries);
    let rows = entries.iter().map(|(log, row)| {
        Ok(vec![
            Value::Number(log.0),
            Value::Number(to_db(row.index)?),
            Value::Bytes(row.leaf_hash.as_bytes()),
            Value::Bytes(&row.record_id),
            Value::Bytes(&row.record_hash),
            Value::Text(&row.labels.record_type),
            Value::Text(&row.labels.stream),
            Value::Bytes(&row.entry),
        ])
    });
    add(into_entries, rows.collect::<Result<_, EngineError>>()?)?;
    let labels = logs.iter().flat_map(LogCommit::labels_that_stay);
    let labels = labels.map(|(log, row)| label_values(log, row));
    add(&LABELS, labels.collect::<Result<_, EngineError>>()?)?;
    let streams = flatten(logs, |log| &log.streams);
    let rows = streams.iter().map(|(log, (stream, last))| {
        Ok(vec![
            Value::Number(log.0),
            Value::Text(stream),
            Value::Number(to_db(last.last_seq)?),
            Value::Bytes(&last.last_record_hash),
        ])
    });
    add(&STREAMS, rows.collect::<Result<_, EngineError>>()?)?;
    let tiles = flatten(logs, |log| &log.tiles);
    let rows = tiles.iter().map(|(log, tile)| {
        Ok(vec![
            Value::Number(log.0),
            Value::Number(tile.level.into()),
            Value::Number(to_db(tile.n)?),
            Value::Bytes(&tile.hashes),
        ])
    });
    add(&TILES, rows.collect::<Result<_, EngineError>>()?)?;
    let keys = flatten(logs, |log| &log.keys);
    let rows = keys.iter().map(|(log, key)| {
        vec![
            Value::Number(log.0),
            Value::Text(&key.key_id),
            Value::Text(&key.stream),
            Value::Bytes(&key.public_key),
            Value::Number(key.valid_from_ms),
            key.revoked_after_ms.map_or(Value::Nothing, Value::Number),
        ]
    });
    add(&KEYS, rows.collect())
}

const ENTRIES: Statement = Statement {
    before: "INSERT INTO log_entries (log_id, idx, leaf_hash, record_id, record_hash, record_type, stream, entry) ",
    columns: &[
        Kind::Number,
        Kind::Number,
        Kind::Bytes,
        Kind::Bytes,
        Kind::Bytes,
        Kind::Text,
        Kind::Text,
        Kind::Bytes,
    ],
    after: "",
};

/// Directly behind the statement that moves the head: where that did not, nothing is written, because nobody could count rows before the commit.
const LONE_ENTRY: Statement = Statement {
    before: "INSERT INTO log_entries (log_id, idx, leaf_hash, record_id, record_hash, record_type, stream, entry) \
             SELECT column1, column2, column3, column4, column5, column6, column7, CASE WHEN changes() = 1 THEN column8 END FROM (",
    columns: ENTRIES.columns,
    after: ")",
};

/// What SQLite says then.
const HEAD_NOT_MOVED: &str = "NOT NULL constraint failed: log_entries.entry";

pub(super) fn label_values(log: LogId, row: &LabelRow) -> Result<Vec<Value<'_>>, EngineError> {
    Ok(vec![
        Value::Number(log.0),
        Value::Bytes(&row.label),
        Value::Number(to_db(row.n)?),
        Value::Bytes(&row.places),
    ])
}

pub(super) const LABELS: Statement = Statement {
    before: "INSERT INTO log_labels (log_id, label, n, positions) ",
    columns: &[Kind::Number, Kind::Bytes, Kind::Number, Kind::Bytes],
    after: " ON CONFLICT (log_id, label, n) DO UPDATE SET positions = excluded.positions",
};

const STREAMS: Statement = Statement {
    before: "INSERT INTO log_streams (log_id, stream, last_seq, last_record_hash) ",
    columns: &[Kind::Number, Kind::Text, Kind::Number, Kind::Bytes],
    after: " ON CONFLICT (log_id, stream) DO UPDATE SET last_seq = excluded.last_seq, \
            last_record_hash = excluded.last_record_hash",
};

const TILES: Statement = Statement {
    before: "INSERT INTO log_tiles (log_id, level, n, hashes) ",
    columns: &[Kind::Number, Kind::Number, Kind::Number, Kind::Bytes],
    after: " ON CONFLICT (log_id, level, n) DO UPDATE SET hashes = excluded.hashes",
};

const KEYS: Statement = Statement {
    before: "INSERT INTO log_producer_keys (log_id, key_id, stream, public_key, valid_from_ms, revoked_after_ms) ",
    columns: &[
        Kind::Number,
        Kind::Text,
        Kind::Text,
        Kind::Bytes,
        Kind::Number,
        Kind::Number,
    ],
    after: " ON CONFLICT (log_id, key_id, stream) DO UPDATE SET valid_from_ms = excluded.valid_from_ms, \
            revoked_after_ms = excluded.revoked_after_ms",
};

/// Batches of one log that become durable together.
#[derive(Debug)]
pub(crate) struct Rebuild<'a> {
    store: &'a Store,
    transaction: Transaction<'static, Any>,
    rows: u64,
}

impl Rebuild<'_> {
    /// Adds the next batch.
    pub(crate) async fn add(&mut self, batch: &LogCommit) -> Result<(), EngineError> {
        let store = self.store;
        let batch = store.put(std::slice::from_ref(batch), Stopped::Written)?;
        let added = store.write(&mut self.transaction, batch).await;
        self.rows += added.map_err(|error| match error {
            CommitError::Failed(error) => error,
            CommitError::Overtaken => EngineError::Storage {
                step: "rebuild",
                message: "another process writes the log; try again".to_owned(),
            },
        })?;
        Ok(())
    }

    /// Makes all of them durable.
    pub(crate) async fn commit(self) -> Result<(), EngineError> {
        let failed = |error: sqlx::Error| EngineError::storage("commit", &error);
        self.transaction.commit().await.map_err(failed)?;
        self.store.wrote(self.rows);
        Ok(())
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use futures::poll;

    use super::*;

    const NUMBERS: Statement = Statement {
        before: "INSERT INTO numbers (n) ",
        columns: &[Kind::Number],
        after: "",
    };

    fn text(number: Value<'_>) -> Together {
        let mut together = Together::new(Dialect::Sqlite, true);
        together.add(&NUMBERS, &[vec![number]]).unwrap();
        together
    }

    #[tokio::test]
    async fn a_text_that_fails_or_is_let_go_leaves_no_transaction_behind() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/log?mode=rwc", folder.path().display());
        let store = Store::open(&url, None, None, None).await.unwrap();
        let table = "CREATE TABLE numbers (n INTEGER NOT NULL)";
        sqlx::query(table).execute(&store.write).await.unwrap();
        for polls in 0..32 {
            let mut committing = Box::pin(store.commit_alone(text(Value::Number(polls))));
            for _ in 0..polls {
                if poll!(&mut committing).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(committing);
            store.commit_alone(text(Value::Nothing)).await.unwrap_err();
            // What is not committed is not there, and what follows is.
            let last = 1000 + polls;
            store.commit_alone(text(Value::Number(last))).await.unwrap();
            let read: i64 = sqlx::query_scalar("SELECT MAX(n) FROM numbers")
                .fetch_one(&store.read)
                .await
                .unwrap();
            assert_eq!(read, last);
        }
        store.close().await;
    }
}
