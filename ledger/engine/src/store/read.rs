//! Reading what is committed.

use std::collections::BTreeMap;
use std::ops::Range;

use counterfoil_tlog::Hash;
use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;

use super::{Store, fixed, get, number, to_db};
use crate::key_book::{KeyBook, RegisteredKey};
use crate::model::{Head, LogInfo, StoredEntry, StreamHead};
use crate::{EngineError, LogId};

/// Ids looked up in one statement.
const IDS_PER_STATEMENT: usize = 500;

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
        let mut book = KeyBook::default();
        for row in &rows {
            let key_id: String = get(row, "key_id")?;
            let (public_key, revoked_after_ms) =
                (fixed(row, "public_key")?, get(row, "revoked_after_ms")?);
            let streams = BTreeMap::new();
            let key = book.keys.entry(key_id).or_insert(RegisteredKey {
                public_key,
                streams,
                revoked_after_ms,
            });
            // A row a stream says the same of the key again.
            if (key.public_key, key.revoked_after_ms) != (public_key, revoked_after_ms) {
                let reason = "the stored rows of a producer's key contradict each other";
                return Err(EngineError::damaged(&log.origin, reason));
            }
            key.streams
                .insert(get(row, "stream")?, get(row, "valid_from_ms")?);
        }
        // The registrar has no row before a record names it.
        for (key_id, key) in KeyBook::new(&log.registrar).keys {
            book.keys.entry(key_id).or_insert(key);
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

    /// At most `limit` entries of a range, in order of the log; every one is hashed and compared with its leaf hash.
    pub(crate) async fn entries(
        &self,
        log: &LogInfo,
        range: Range<u64>,
        limit: u32,
    ) -> Result<Vec<StoredEntry>, EngineError> {
        let rows = sqlx::query(
            "SELECT idx, leaf_hash, record_id, record_hash, record_type, stream, entry FROM log_entries \
             WHERE log_id = $1 AND idx >= $2 AND idx < $3 ORDER BY idx LIMIT $4",
        )
        .bind(log.id.0)
        .bind(to_db(range.start)?)
        .bind(to_db(range.end)?)
        .bind(i64::from(limit))
        .fetch_all(&mut *self.reading(log.id).await?)
        .await
        .map_err(|error| EngineError::storage("read entries", &error))?;
        self.whole(log, &rows).await
    }

    /// The entry of a record.
    pub(crate) async fn entry_by_record(
        &self,
        log: &LogInfo,
        record_id: &[u8; 16],
    ) -> Result<Option<StoredEntry>, EngineError> {
        let rows = sqlx::query(
            "SELECT idx, leaf_hash, record_id, record_hash, record_type, stream, entry \
             FROM log_entries WHERE log_id = $1 AND record_id = $2",
        )
        .bind(log.id.0)
        .bind(record_id.as_slice())
        .fetch_all(&mut *self.reading(log.id).await?)
        .await
        .map_err(|error| EngineError::storage("read entry", &error))?;
        Ok(self.whole(log, &rows).await?.pop())
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
}

/// Reads an entry as it is stored: without its bytes, if they were evicted.
pub(super) fn stored_entry(row: &AnyRow) -> Result<StoredEntry, EngineError> {
    Ok(StoredEntry {
        index: number(row, "idx")?,
        leaf_hash: Hash(fixed(row, "leaf_hash")?),
        record_id: fixed(row, "record_id")?,
        record_hash: fixed(row, "record_hash")?,
        record_type: get(row, "record_type")?,
        stream: get(row, "stream")?,
        bytes: get(row, "entry")?,
    })
}
