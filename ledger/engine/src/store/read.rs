//! Reading what is committed.

use std::collections::BTreeMap;

use counterfoil_tlog::Hash;
use counterfoil_tlog::hash::leaf_hash;
use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;

use super::{Store, fixed, get, number, to_db};
use crate::admission::SubjectKey;
use crate::key_book::{KeyBook, RegisteredKey};
use crate::model::{Head, LogInfo, StoredEntry, StreamHead, TypeCount};
use crate::{EngineError, LogId};

/// Ids looked up in one statement.
const IDS_PER_STATEMENT: usize = 500;

/// Which entries a page holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct EntryQuery {
    pub(crate) from: u64,
    pub(crate) end: u64,
    pub(crate) record_type: Option<String>,
    pub(crate) stream: Option<String>,
    pub(crate) subject: Option<SubjectKey>,
    pub(crate) limit: u32,
}

/// A record id that is in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownRecord {
    pub(crate) index: u64,
    pub(crate) record_hash: [u8; 32],
    pub(crate) leaf_hash: Hash,
}

impl Store {
    /// The newest head with its frontier's bytes.
    pub(crate) async fn head(&self, log: &LogInfo) -> Result<(Head, Vec<u8>), EngineError> {
        let row = sqlx::query(
            "SELECT size, root, frontier, checkpoint, recorded_at_ms FROM log_heads WHERE log_id = $1",
        )
        .bind(log.id.0)
        .fetch_optional(&mut *self.reading(log.id).await?)
        .await
        .map_err(|error| EngineError::storage("read head", &error))?
        .ok_or_else(|| EngineError::damaged(&log.origin, "it has no head"))?;
        let head = Head {
            size: number(&row, "size")?,
            root: Hash(fixed(&row, "root")?),
            checkpoint: get(&row, "checkpoint")?,
            recorded_at_ms: get(&row, "recorded_at_ms")?,
        };
        Ok((head, get(&row, "frontier")?))
    }

    /// The last record of every stream.
    pub(crate) async fn streams(
        &self,
        log: LogId,
    ) -> Result<BTreeMap<String, StreamHead>, EngineError> {
        sqlx::query("SELECT stream, last_seq, last_record_hash FROM log_streams WHERE log_id = $1")
            .bind(log.0)
            .fetch_all(&mut *self.reading(log).await?)
            .await
            .map_err(|error| EngineError::storage("read streams", &error))?
            .iter()
            .map(|row| {
                let head = StreamHead {
                    last_seq: number(row, "last_seq")?,
                    last_record_hash: fixed(row, "last_record_hash")?,
                };
                Ok((get(row, "stream")?, head))
            })
            .collect()
    }

    /// The registered keys.
    pub(crate) async fn key_book(&self, log: &LogInfo) -> Result<KeyBook, EngineError> {
        let rows = sqlx::query(
            "SELECT key_id, stream, public_key, valid_from_ms, revoked_after_ms \
             FROM log_producer_keys WHERE log_id = $1",
        )
        .bind(log.id.0)
        .fetch_all(&mut *self.reading(log.id).await?)
        .await
        .map_err(|error| EngineError::storage("read keys", &error))?;
        let mut book = KeyBook::new(&log.registrar);
        for row in &rows {
            let (public_key, revoked_after_ms) =
                (fixed(row, "public_key")?, get(row, "revoked_after_ms")?);
            let key = book
                .keys
                .entry(get(row, "key_id")?)
                .or_insert_with(|| RegisteredKey {
                    public_key,
                    streams: BTreeMap::new(),
                    revoked_after_ms,
                });
            key.revoked_after_ms = revoked_after_ms;
            let from: i64 = get(row, "valid_from_ms")?;
            let known = key.streams.entry(get(row, "stream")?).or_insert(from);
            *known = (*known).min(from);
        }
        Ok(book)
    }

    /// Which of these record ids the log has.
    pub(crate) async fn known_records(
        &self,
        log: LogId,
        ids: &[[u8; 16]],
    ) -> Result<BTreeMap<[u8; 16], KnownRecord>, EngineError> {
        let mut known = BTreeMap::new();
        for ids in ids.chunks(IDS_PER_STATEMENT) {
            let marks = self.dialect.marks(ids.len() + 1);
            // The first is the log, the rest are the ids.
            let (log_mark, id_marks) = marks.split_once(", ").unwrap_or_default();
            let text = format!(
                "SELECT idx, record_id, record_hash, leaf_hash FROM log_entries \
                 WHERE log_id = {log_mark} AND record_id IN ({id_marks})"
            );
            let mut query = sqlx::query(AssertSqlSafe(text))
                .persistent(false)
                .bind(log.0);
            for id in ids {
                query = query.bind(id.as_slice());
            }
            let rows = query
                .fetch_all(&mut *self.reading(log).await?)
                .await
                .map_err(|error| EngineError::storage("look up record ids", &error))?;
            for row in &rows {
                let record = KnownRecord {
                    index: number(row, "idx")?,
                    record_hash: fixed(row, "record_hash")?,
                    leaf_hash: Hash(fixed(row, "leaf_hash")?),
                };
                known.insert(fixed(row, "record_id")?, record);
            }
        }
        Ok(known)
    }

    /// A page of entries in order of the log; every one is hashed and compared with its leaf hash.
    pub(crate) async fn entries(
        &self,
        log: &LogInfo,
        query: &EntryQuery,
    ) -> Result<Vec<StoredEntry>, EngineError> {
        let mut text = String::from(
            "SELECT e.idx, e.leaf_hash, e.record_hash, e.record_type, e.entry FROM log_entries e ",
        );
        let mut conditions = String::from("WHERE e.log_id = $1 AND e.idx >= $2 AND e.idx < $3 ");
        let mut marks = 4..;
        let mut mark = || marks.next().unwrap_or_default();
        if query.subject.is_some() {
            text.push_str("JOIN log_subjects s ON s.log_id = e.log_id AND s.idx = e.idx ");
            conditions.push_str(&format!("AND s.subject = ${} ", mark()));
        }
        if query.record_type.is_some() {
            conditions.push_str(&format!("AND e.record_type = ${} ", mark()));
        }
        if query.stream.is_some() {
            conditions.push_str(&format!("AND e.stream = ${} ", mark()));
        }
        let text = format!("{text}{conditions}ORDER BY e.idx LIMIT ${}", mark());
        let mut statement = sqlx::query(AssertSqlSafe(text))
            .bind(log.id.0)
            .bind(to_db(query.from)?)
            .bind(to_db(query.end)?);
        if let Some(subject) = &query.subject {
            statement = statement.bind(subject.as_slice());
        }
        if let Some(record_type) = &query.record_type {
            statement = statement.bind(record_type.as_str());
        }
        if let Some(stream) = &query.stream {
            statement = statement.bind(stream.as_str());
        }
        statement
            .bind(i64::from(query.limit))
            .fetch_all(&mut *self.reading(log.id).await?)
            .await
            .map_err(|error| EngineError::storage("read entries", &error))?
            .iter()
            .map(|row| stored_entry(log, row))
            .collect()
    }

    /// The entry of a record.
    pub(crate) async fn entry_by_record(
        &self,
        log: &LogInfo,
        record_id: &[u8; 16],
    ) -> Result<Option<StoredEntry>, EngineError> {
        sqlx::query(
            "SELECT e.idx, e.leaf_hash, e.record_hash, e.record_type, e.entry \
             FROM log_entries e WHERE e.log_id = $1 AND e.record_id = $2",
        )
        .bind(log.id.0)
        .bind(record_id.as_slice())
        .fetch_optional(&mut *self.reading(log.id).await?)
        .await
        .map_err(|error| EngineError::storage("read entry", &error))?
        .map(|row| stored_entry(log, &row))
        .transpose()
    }

    /// The leaf hashes of a range.
    pub(crate) async fn leaf_hashes(
        &self,
        log: LogId,
        from: u64,
        end: u64,
    ) -> Result<Vec<Hash>, EngineError> {
        sqlx::query(
            "SELECT leaf_hash FROM log_entries \
             WHERE log_id = $1 AND idx >= $2 AND idx < $3 ORDER BY idx",
        )
        .bind(log.0)
        .bind(to_db(from)?)
        .bind(to_db(end)?)
        .fetch_all(&mut *self.reading(log).await?)
        .await
        .map_err(|error| EngineError::storage("read leaf hashes", &error))?
        .iter()
        .map(|row| Ok(Hash(fixed(row, "leaf_hash")?)))
        .collect()
    }

    /// The stored hashes of a tile: all of a full one, or what a growing one has so far.
    pub(crate) async fn tile(
        &self,
        log: LogId,
        level: u8,
        n: u64,
    ) -> Result<Option<Vec<u8>>, EngineError> {
        sqlx::query("SELECT hashes FROM log_tiles WHERE log_id = $1 AND level = $2 AND n = $3")
            .bind(log.0)
            .bind(i64::from(level))
            .bind(to_db(n)?)
            .fetch_optional(&mut *self.reading(log).await?)
            .await
            .map_err(|error| EngineError::storage("read tile", &error))?
            .map(|row| get(&row, "hashes"))
            .transpose()
    }

    /// How many entries of a range have which type, ascending by type.
    pub(crate) async fn type_counts(
        &self,
        log: LogId,
        from: u64,
        end: u64,
    ) -> Result<Vec<TypeCount>, EngineError> {
        let mut counts = sqlx::query(
            "SELECT record_type, count(*) AS entries FROM log_entries \
             WHERE log_id = $1 AND idx >= $2 AND idx < $3 GROUP BY record_type",
        )
        .bind(log.0)
        .bind(to_db(from)?)
        .bind(to_db(end)?)
        .fetch_all(&mut *self.reading(log).await?)
        .await
        .map_err(|error| EngineError::storage("count types", &error))?
        .iter()
        .map(|row| {
            Ok(TypeCount {
                record_type: get(row, "record_type")?,
                count: number(row, "entries")?,
            })
        })
        .collect::<Result<Vec<_>, EngineError>>()?;
        // Here and not in SQL: the engines' collations differ.
        counts.sort_by(|a, b| a.record_type.cmp(&b.record_type));
        Ok(counts)
    }

    /// The last entry of a stream below a size.
    pub(crate) async fn last_of_stream(
        &self,
        log: &LogInfo,
        stream: &str,
        size: u64,
    ) -> Result<Option<StoredEntry>, EngineError> {
        sqlx::query(
            "SELECT e.idx, e.leaf_hash, e.record_hash, e.record_type, e.entry FROM log_entries e \
             WHERE e.log_id = $1 AND e.stream = $2 AND e.idx < $3 ORDER BY e.idx DESC LIMIT 1",
        )
        .bind(log.id.0)
        .bind(stream)
        .bind(to_db(size)?)
        .fetch_optional(&mut *self.reading(log.id).await?)
        .await
        .map_err(|error| EngineError::storage("read stream", &error))?
        .map(|row| stored_entry(log, &row))
        .transpose()
    }
}

impl Store {
    /// The last entry of a type below a size.
    pub(crate) async fn last_of_type(
        &self,
        log: &LogInfo,
        record_type: &str,
        size: u64,
    ) -> Result<Option<StoredEntry>, EngineError> {
        sqlx::query(
            "SELECT e.idx, e.leaf_hash, e.record_hash, e.record_type, e.entry FROM log_entries e \
             WHERE e.log_id = $1 AND e.record_type = $2 AND e.idx < $3 ORDER BY e.idx DESC LIMIT 1",
        )
        .bind(log.id.0)
        .bind(record_type)
        .bind(to_db(size)?)
        .fetch_optional(&mut *self.reading(log.id).await?)
        .await
        .map_err(|error| EngineError::storage("read type", &error))?
        .map(|row| stored_entry(log, &row))
        .transpose()
    }
}

/// Reads an entry and hashes it: bytes that changed under us are never handed out.
fn stored_entry(log: &LogInfo, row: &AnyRow) -> Result<StoredEntry, EngineError> {
    let entry = StoredEntry {
        index: number(row, "idx")?,
        leaf_hash: Hash(fixed(row, "leaf_hash")?),
        record_hash: fixed(row, "record_hash")?,
        record_type: get(row, "record_type")?,
        bytes: get(row, "entry")?,
    };
    if leaf_hash(&entry.bytes) != entry.leaf_hash {
        let reason = format!("entry {} does not have its leaf hash", entry.index);
        return Err(EngineError::damaged(&log.origin, reason));
    }
    Ok(entry)
}
