//! Letting the bytes of old entries go, once the published copy has them.
//!
//! Nothing leaves the log by it: leaf hashes, tiles, heads, and what entries are found by stay in the database, and an entry that is asked for
//! is read from the copy and hashed. It is no pruning.

use counterfoil_evidence::record::decode_entry;
use counterfoil_tlog::tile::{TileKind, TilePath, encode_entries};

use crate::anchor::{self, Anchor as _};
use crate::faults::{self, FaultPoint};
use crate::labels::BUNDLE;
use crate::model::StoredEntry;
use crate::{EngineError, Log, Publication};

/// What has left the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evicted {
    /// Entries below this had left before.
    pub from: u64,
    /// Entries below this have now.
    pub to: u64,
}

impl Log {
    /// Lets the bytes of entries go that were recorded before a time, at most so many bundles of 256: the oldest that are still there,
    /// as far as the copy has them in full bundles. Each bundle of the copy is read again before, and must have the very bytes. The last
    /// bundle stays: a log is loaded and written without its copy.
    ///
    /// # Errors
    /// [`EngineError::Damaged`] when the copy has something else, which stops the log; otherwise when the database or the copy cannot be
    /// read or written. Nothing has left then.
    pub async fn evict(
        &self,
        copy: &Publication,
        before_ms: i64,
        bundles: u64,
    ) -> Result<Evicted, EngineError> {
        let evicted = self.try_evict(copy, before_ms, bundles).await;
        if let Err(error @ EngineError::Damaged { .. }) = &evicted {
            self.stop(error).await?;
        }
        evicted
    }

    /// Entries that have no bytes in the database: those below this.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn evicted(&self) -> Result<u64, EngineError> {
        self.shared().store.evicted(self.info().id).await
    }

    async fn try_evict(
        &self,
        copy: &Publication,
        before_ms: i64,
        bundles: u64,
    ) -> Result<Evicted, EngineError> {
        let (shared, info) = (self.shared(), self.info());
        let from = self.evicted().await?;
        let stays = self.head().await?.size.saturating_sub(1) / BUNDLE * BUNDLE;
        let mut to = from;
        // Most often nothing is old enough, and the copy is not asked.
        let mut published = None;
        while to < stays.min(from + bundles * BUNDLE) {
            let entries = self.bundle(to).await?;
            if !self.is_before(&entries, before_ms)? {
                break;
            }
            let size = match published {
                Some(size) => size,
                None => {
                    let Some(note) = copy.checkpoint(&info.tenant).await? else {
                        break;
                    };
                    // Read after the copy: what another process has appended and published meanwhile is no fork.
                    let head = self.head().await?;
                    let seen = anchor::check(shared, info, &head, &copy.name(), &note).await?;
                    *published.insert(seen.size)
                }
            };
            if to + BUNDLE > size {
                break;
            }
            if !self.is_there(copy, to / BUNDLE, &entries).await? {
                break;
            }
            to += BUNDLE;
        }
        if to > from {
            let evict = shared.store.evict(info, from, to);
            if !faults::step(shared.faults.as_ref(), FaultPoint::Evict, evict).await? {
                // Another process was faster, or the log was stopped.
                to = from;
            }
        }
        Ok(Evicted { from, to })
    }

    /// The entries of a full bundle.
    async fn bundle(&self, from: u64) -> Result<Vec<StoredEntry>, EngineError> {
        let limit = u32::try_from(BUNDLE).unwrap_or(u32::MAX);
        let entries = self.entries(from, from + BUNDLE, limit).await?;
        if entries.len() as u64 == BUNDLE {
            Ok(entries)
        } else {
            let reason = format!("entries are missing from {from} on");
            Err(EngineError::damaged(&self.info().origin, reason))
        }
    }

    /// Whether the last of them, and so all, were recorded before a time.
    fn is_before(&self, entries: &[StoredEntry], before_ms: i64) -> Result<bool, EngineError> {
        let Some(last) = entries.last() else {
            return Ok(false);
        };
        let entry = decode_entry(&last.bytes)
            .map_err(|error| EngineError::damaged(&self.info().origin, error.to_string()))?;
        Ok(entry.recorded_at_ms < before_ms)
    }

    /// Whether the copy has these very bytes. A file that it has lost stays in the database, and is put back when the log is hashed again.
    async fn is_there(
        &self,
        copy: &Publication,
        n: u64,
        entries: &[StoredEntry],
    ) -> Result<bool, EngineError> {
        let damaged = |reason: String| EngineError::damaged(&self.info().origin, reason);
        let path = TilePath::in_log(TileKind::Entries, n, (n + 1) * BUNDLE);
        let path = path.ok_or_else(|| damaged("there is no such bundle".to_owned()))?;
        let bytes: Vec<&[u8]> = entries.iter().map(|entry| entry.bytes.as_slice()).collect();
        let expected = encode_entries(&bytes).map_err(|error| damaged(error.to_string()))?;
        let origin = &self.info().origin;
        // A store may answer with something else once.
        let mut there = None;
        for _ in 0..2 {
            there = copy.read(&self.info().tenant, &path.to_string()).await?;
            if there.as_ref() == Some(&expected) {
                return Ok(true);
            }
        }
        if there.is_some() {
            return Err(damaged(format!("the published {path} is another one")));
        }
        tracing::error!(alarm = "COPY_LOST_FILES", origin, %path, "nothing leaves the database for it");
        Ok(false)
    }
}
