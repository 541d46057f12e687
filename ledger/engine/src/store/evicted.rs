//! Entries whose bytes have left the database: how they leave it, and how they are read all the same.

use std::collections::BTreeMap;

use counterfoil_tlog::checkpoint;
use counterfoil_tlog::hash::leaf_hash;
use counterfoil_tlog::tile::{TILE_WIDTH, TileKind, TilePath, decode_entries};
use futures::future::try_join_all;
use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;

use super::read::stored_entry;
use super::{Dialect, Store, number, to_db};
use crate::labels::BUNDLE;
use crate::model::{LogInfo, StoredEntry};
use crate::{EngineError, LogId, Publication};

/// Bundles of the copy that are read at once.
const AT_ONCE: usize = 4;

impl Store {
    /// Entries below this have no bytes here.
    pub(crate) async fn evicted(&self, log: LogId) -> Result<u64, EngineError> {
        let row = sqlx::query("SELECT evicted FROM log_heads WHERE log_id = $1")
            .bind(log.0)
            .fetch_optional(&mut *self.reading(log).await?)
            .await
            .map_err(|error| EngineError::storage("read what was evicted", &error))?;
        row.map_or(Ok(0), |row| number(&row, "evicted"))
    }

    /// Lets the bytes of entries go, if those before them have gone and no others; whether it did. The caller has seen them in the copy.
    pub(crate) async fn evict(
        &self,
        log: &LogInfo,
        from: u64,
        to: u64,
    ) -> Result<bool, EngineError> {
        let failed = |error: sqlx::Error| EngineError::storage("evict", &error);
        // If we crash before the commit: all of them are still here. After it: all of them are in the copy, which was read before.
        let mut transaction = self.begin(&[log.id]).await.map_err(failed)?;
        let moved = sqlx::query(
            "UPDATE log_heads SET evicted = $1 WHERE log_id = $2 AND evicted = $3 AND stopped_because IS NULL",
        )
        .bind(to_db(to)?)
        .bind(log.id.0)
        .bind(to_db(from)?)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        if moved.rows_affected() != 1 {
            return Ok(false);
        }
        let nothing = match self.dialect {
            Dialect::Sqlite => "x''",
            Dialect::Postgres => "''::bytea",
        };
        let text = format!(
            "UPDATE log_entries SET entry = {nothing} WHERE log_id = $1 AND idx >= $2 AND idx < $3"
        );
        let gone = sqlx::query(AssertSqlSafe(text))
            .bind(log.id.0)
            .bind(to_db(from)?)
            .bind(to_db(to)?)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        if gone.rows_affected() != to - from {
            return Err(EngineError::damaged(&log.origin, "entries are missing"));
        }
        transaction.commit().await.map_err(failed)?;
        self.wrote(gone.rows_affected());
        Ok(true)
    }

    /// How many entries have bytes and should have none, or the other way round.
    pub(crate) async fn evicted_otherwise(&self, log: LogId) -> Result<u64, EngineError> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS others FROM log_entries JOIN log_heads ON log_heads.log_id = log_entries.log_id \
             WHERE log_entries.log_id = $1 AND (LENGTH(entry) = 0) <> (idx < evicted)",
        )
        .bind(log.0)
        .fetch_one(&mut *self.reading(log).await?)
        .await
        .map_err(|error| EngineError::storage("compare what was evicted", &error))?;
        number(&row, "others")
    }

    /// How many entries of all logs have no bytes here.
    pub(crate) async fn evicted_in_all(&self) -> Result<u64, EngineError> {
        let row = sqlx::query(
            "SELECT CAST(COALESCE(SUM(evicted), 0) AS BIGINT) AS evicted FROM log_heads",
        )
        .fetch_one(&mut *self.reading_heads().await?)
        .await
        .map_err(|error| EngineError::storage("read what was evicted", &error))?;
        number(&row, "evicted")
    }

    /// The entries of rows; bytes that have left the database come from the copy. Every one is hashed: bytes that changed under us are
    /// never handed out.
    pub(super) async fn whole(
        &self,
        log: &LogInfo,
        rows: &[AnyRow],
    ) -> Result<Vec<StoredEntry>, EngineError> {
        let entries: Result<Vec<StoredEntry>, EngineError> =
            rows.iter().map(stored_entry).collect();
        let mut entries = entries?;
        if entries.iter().any(|entry| entry.bytes.is_empty()) {
            self.fetch(log, &mut entries).await?;
        }
        let changed = entries
            .iter()
            .find(|entry| leaf_hash(&entry.bytes) != entry.leaf_hash);
        match changed {
            None => Ok(entries),
            Some(entry) => {
                let reason = format!("entry {} does not have its leaf hash", entry.index);
                Err(EngineError::damaged(&log.origin, reason))
            }
        }
    }

    /// Fills in the bytes of evicted entries. What has no bytes and was not evicted is left as it is.
    async fn fetch(&self, log: &LogInfo, entries: &mut [StoredEntry]) -> Result<(), EngineError> {
        let mark = self.evicted(log.id).await?;
        let mut wanted: BTreeMap<u64, Vec<&mut StoredEntry>> = BTreeMap::new();
        for entry in entries {
            if entry.bytes.is_empty() && entry.index < mark {
                wanted.entry(entry.index / BUNDLE).or_default().push(entry);
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let Some(copy) = &self.copy else {
            return Err(EngineError::Publication {
                step: "read evicted entries",
                message: format!(
                    "entries below {mark} are in the published copy only, and none is configured"
                ),
            });
        };
        let mut wanted = wanted.into_iter();
        loop {
            let mut reads = Vec::with_capacity(AT_ONCE);
            for (n, entries) in wanted.by_ref().take(AT_ONCE) {
                reads.push(self.fill(copy, log, n, entries));
            }
            if reads.is_empty() {
                return Ok(());
            }
            try_join_all(reads).await?;
        }
    }

    /// Fills in the bytes of entries of one bundle.
    async fn fill(
        &self,
        copy: &Publication,
        log: &LogInfo,
        n: u64,
        entries: Vec<&mut StoredEntry>,
    ) -> Result<(), EngineError> {
        let mut what = String::new();
        // A store may answer with something else once.
        for _ in 0..2 {
            match read_from(copy, log, n).await? {
                Ok(bundle) if holds(&bundle, &entries) => {
                    for entry in entries {
                        entry.bytes = at(&bundle, entry.index).to_vec();
                    }
                    return Ok(());
                }
                Ok(_) => "it has other entries than were signed".clone_into(&mut what),
                Err(why) => what = why,
            }
        }
        Err(self.lost(log, n, &what).await?)
    }

    /// What was evicted is not where it must be: the log stops, and this is why.
    async fn lost(&self, log: &LogInfo, n: u64, what: &str) -> Result<EngineError, EngineError> {
        let lost = EngineError::damaged(
            &log.origin,
            format!(
                "the published copy's entries from {} on, which were evicted: {what}",
                n * BUNDLE
            ),
        );
        tracing::error!(alarm = "LOG_STOPPED", origin = log.origin, %lost, "the log is stopped");
        self.stop(log, &lost.to_string()).await?;
        Ok(lost)
    }
}

/// The entries of a full bundle of the copy, or what is wrong with it.
async fn read_from(
    copy: &Publication,
    log: &LogInfo,
    n: u64,
) -> Result<Result<Vec<Vec<u8>>, String>, EngineError> {
    let size = (n + 1) * BUNDLE;
    let Some(path) = TilePath::in_log(TileKind::Entries, n, size) else {
        return Ok(Err("there is no such bundle".to_owned()));
    };
    let Some(bytes) = copy.read(&log.tenant, &path.to_string()).await? else {
        // A copy that has not come so far is another place, or an older one: nothing is known of the one that had it.
        let is_behind = match copy.checkpoint(&log.tenant).await? {
            None => true,
            Some(note) => checkpoint::open(&note, &log.vkey, &[])
                .is_ok_and(|signed| signed.checkpoint.size < size),
        };
        if is_behind {
            return Err(EngineError::Publication {
                step: "read evicted entries",
                message: format!("the configured copy has less than {size} entries of this log"),
            });
        }
        return Ok(Err(format!("{path} is not there")));
    };
    let entries = decode_entries(&bytes, TILE_WIDTH);
    Ok(entries
        .map(|entries| entries.into_iter().map(<[u8]>::to_vec).collect())
        .map_err(|error| error.to_string()))
}

fn at(bundle: &[Vec<u8>], index: u64) -> &[u8] {
    let place = usize::try_from(index % BUNDLE).unwrap_or(usize::MAX);
    bundle.get(place).map_or(&[], Vec::as_slice)
}

fn holds(bundle: &[Vec<u8>], entries: &[&mut StoredEntry]) -> bool {
    entries
        .iter()
        .all(|entry| leaf_hash(at(bundle, entry.index)) == entry.leaf_hash)
}
