//! A batch as one call of `log_commit`, the function that migration 0010 makes on PostgreSQL: one round trip beside the one that the pool makes
//! sure with that the connection is idle, and a transaction of its own.

use sqlx::any::AnyArguments;
use sqlx::{Any, Arguments as _, AssertSqlSafe};

use super::commit::LogCommit;
use super::rows::{Value, array, places};
use super::to_db;
use crate::{EngineError, LogId};

/// What the function raises when a head is not the one that the batch continues, or a log was stopped.
pub(super) const OVERTAKEN: &str = "CF001";

/// The call, ready to be made.
pub(super) struct Call {
    text: String,
    arguments: AnyArguments,
}

impl Call {
    /// The call that writes these logs, ascending; those that were stopped too, or not.
    pub(super) fn of(logs: &[LogCommit], stopped_too: bool) -> Result<Self, EngineError> {
        let mut named = Named::default();
        let written = named.batch(logs, stopped_too);
        written.map_err(|error| EngineError::storage("write", &error))?;
        Ok(Self {
            text: format!("SELECT log_commit({})", named.given.join(", ")),
            arguments: named.arguments,
        })
    }

    /// Makes the call; where no transaction is open, what it wrote is durable afterwards.
    pub(super) async fn make(
        self,
        connection: impl sqlx::Executor<'_, Database = Any>,
    ) -> Result<(), sqlx::Error> {
        sqlx::query_with(AssertSqlSafe(self.text), self.arguments)
            .execute(connection)
            .await?;
        Ok(())
    }
}

/// Arguments, each by the name of its parameter.
#[derive(Default)]
struct Named {
    given: Vec<String>,
    arguments: AnyArguments,
}

impl Named {
    fn batch(&mut self, logs: &[LogCommit], stopped_too: bool) -> Result<(), sqlx::Error> {
        let ids: Vec<String> = logs.iter().map(|log| log.log.to_string()).collect();
        self.give("named", "text", ids.join(","))?;
        self.give("stopped_too", "boolean", stopped_too)?;
        self.heads(logs)?;
        self.entries(logs)?;
        self.labels(logs)?;
        self.streams(logs)?;
        self.tiles(logs)?;
        self.keys(logs)
    }

    fn heads(&mut self, logs: &[LogCommit]) -> Result<(), sqlx::Error> {
        self.numbers("h_log", logs.iter().map(|log| log.log.0))?;
        self.positions("h_old_size", logs.iter().map(|log| log.old_size))?;
        self.bytes(
            "h_old_root",
            logs.iter().map(|log| log.old_root.as_bytes().as_slice()),
        )?;
        self.positions("h_size", logs.iter().map(|log| log.new_size))?;
        self.bytes(
            "h_root",
            logs.iter().map(|log| log.new_root.as_bytes().as_slice()),
        )?;
        self.lengthy("h_frontier", logs.iter().map(|log| log.frontier.as_slice()))?;
        self.texts(
            "h_checkpoint",
            logs.iter().map(|log| log.checkpoint.as_str()),
        )?;
        self.numbers(
            "h_recorded_at_ms",
            logs.iter().map(|log| log.recorded_at_ms),
        )
    }

    fn entries(&mut self, logs: &[LogCommit]) -> Result<(), sqlx::Error> {
        let rows = || of_all(logs, |log| &log.entries);
        self.numbers("e_log", rows().map(|(log, _)| log.0))?;
        self.positions("e_idx", rows().map(|(_, row)| row.index))?;
        self.bytes(
            "e_hashes",
            rows().flat_map(|(_, row)| {
                [
                    row.leaf_hash.as_bytes().as_slice(),
                    &row.record_id,
                    &row.record_hash,
                ]
            }),
        )?;
        self.texts(
            "e_type",
            rows().map(|(_, row)| row.labels.record_type.as_str()),
        )?;
        self.texts(
            "e_stream",
            rows().map(|(_, row)| row.labels.stream.as_str()),
        )?;
        self.lengthy("e_entry", rows().map(|(_, row)| row.entry.as_slice()))
    }

    fn labels(&mut self, logs: &[LogCommit]) -> Result<(), sqlx::Error> {
        let rows = || logs.iter().flat_map(LogCommit::labels_that_stay);
        self.numbers("l_log", rows().map(|(log, _)| log.0))?;
        self.positions("l_n", rows().map(|(_, row)| row.n))?;
        self.lengthy("l_label", rows().map(|(_, row)| row.label.as_slice()))?;
        self.lengthy("l_positions", rows().map(|(_, row)| row.places.as_slice()))
    }

    fn streams(&mut self, logs: &[LogCommit]) -> Result<(), sqlx::Error> {
        let rows = || of_all(logs, |log| &log.streams);
        self.numbers("s_log", rows().map(|(log, _)| log.0))?;
        self.texts("s_stream", rows().map(|(_, (stream, _))| stream.as_str()))?;
        self.positions("s_seq", rows().map(|(_, (_, last))| last.last_seq))?;
        self.bytes(
            "s_hash",
            rows().map(|(_, (_, last))| last.last_record_hash.as_slice()),
        )
    }

    fn tiles(&mut self, logs: &[LogCommit]) -> Result<(), sqlx::Error> {
        let rows = || of_all(logs, |log| &log.tiles);
        self.numbers("t_log", rows().map(|(log, _)| log.0))?;
        self.numbers("t_level", rows().map(|(_, tile)| tile.level.into()))?;
        self.positions("t_n", rows().map(|(_, tile)| tile.n))?;
        self.lengthy("t_hashes", rows().map(|(_, tile)| tile.hashes.as_slice()))
    }

    fn keys(&mut self, logs: &[LogCommit]) -> Result<(), sqlx::Error> {
        let rows = || of_all(logs, |log| &log.keys);
        self.numbers("k_log", rows().map(|(log, _)| log.0))?;
        self.texts("k_id", rows().map(|(_, key)| key.key_id.as_str()))?;
        self.texts("k_stream", rows().map(|(_, key)| key.stream.as_str()))?;
        self.bytes("k_public", rows().map(|(_, key)| key.public_key.as_slice()))?;
        self.numbers("k_from_ms", rows().map(|(_, key)| key.valid_from_ms))?;
        let until = rows().map(|(_, key)| key.revoked_after_ms);
        let until = until.map(|until| until.map_or(Value::Nothing, Value::Number));
        self.give("k_until_ms", "bigint[]", array(until))
    }

    fn numbers(
        &mut self,
        name: &str,
        numbers: impl Iterator<Item = i64>,
    ) -> Result<(), sqlx::Error> {
        self.give(name, "bigint[]", array(numbers.map(Value::Number)))
    }

    fn positions(
        &mut self,
        name: &str,
        numbers: impl Iterator<Item = u64>,
    ) -> Result<(), sqlx::Error> {
        let numbers: Result<Vec<i64>, EngineError> = numbers.map(to_db).collect();
        let numbers = numbers.map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        self.numbers(name, numbers.into_iter())
    }

    fn texts<'a>(
        &mut self,
        name: &str,
        texts: impl Iterator<Item = &'a str>,
    ) -> Result<(), sqlx::Error> {
        self.give(name, "text[]", array(texts.map(Value::Text)))
    }

    /// One behind the other.
    fn bytes<'a>(
        &mut self,
        name: &str,
        parts: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), sqlx::Error> {
        self.give(name, "bytea", parts.fold(Vec::new(), joined))
    }

    /// One behind the other, with where each begins and how long it is.
    fn lengthy<'a>(
        &mut self,
        name: &str,
        parts: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<(), sqlx::Error> {
        let (from, lengths) = places(parts.clone().map(<[u8]>::len));
        self.bytes(name, parts)?;
        self.give(&format!("{name}_from"), "int[]", from)?;
        self.give(&format!("{name}_for"), "int[]", lengths)
    }

    fn give<'q, T>(&mut self, name: &str, kind: &str, value: T) -> Result<(), sqlx::Error>
    where
        T: sqlx::Encode<'q, Any> + sqlx::Type<Any>,
    {
        self.arguments.add(value).map_err(sqlx::Error::Encode)?;
        self.given
            .push(format!("{name} => ${}::{kind}", self.given.len() + 1));
        Ok(())
    }
}

fn joined(mut all: Vec<u8>, part: &[u8]) -> Vec<u8> {
    all.extend_from_slice(part);
    all
}

/// Rows of all logs, each with its log.
fn of_all<'a, T: 'a>(
    logs: &'a [LogCommit],
    rows: impl Fn(&'a LogCommit) -> &'a Vec<T> + Clone,
) -> impl Iterator<Item = (LogId, &'a T)> + Clone {
    logs.iter()
        .flat_map(move |log| rows(log).iter().map(move |row| (log.log, row)))
}
