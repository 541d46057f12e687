//! How a log stands, for those who operate it.

use counterfoil_evidence::record::decode_entry;
use counterfoil_tlog::{Policy, checkpoint};

use crate::{Anchor as _, EngineError, Log, Publication};

/// How a log stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStatus {
    /// Entries of the log.
    pub size: u64,
    /// Time of the last entry; of the log's creation while there is none.
    pub recorded_at_ms: i64,
    /// Entries of the published copy; more than the log has: the database is older than it was.
    pub published: Option<u64>,
    /// Time of the oldest entry that is not published.
    pub unpublished_since_ms: Option<i64>,
    /// Entries that are in the copy only: those below this.
    pub evicted: u64,
    /// Entries of its newest head in the anchor log; `None`: it has none there.
    pub anchored: Option<u64>,
    /// Time of the oldest entry that is not anchored; `None` also where none ever was.
    pub unanchored_since_ms: Option<i64>,
    /// Entries of the largest state that enough witnesses have cosigned; 0: none yet; `None`: nobody is asked.
    pub witnessed: Option<u64>,
    /// Time of the oldest entry that is not in that state.
    pub unwitnessed_since_ms: Option<i64>,
    /// Why nothing is signed for it any more.
    pub stopped: Option<String>,
}

impl LogStatus {
    /// Whether nobody needs to look at it.
    #[must_use]
    pub fn is_in_order(&self) -> bool {
        self.stopped.is_none() && self.published.is_none_or(|size| size <= self.size)
    }
}

impl Log {
    /// How the log stands beside its published copy, if there is one, beside its newest anchored head, and beside what witnesses have
    /// cosigned, if a policy says who. Reads some rows and a checkpoint; compares nothing.
    ///
    /// # Errors
    /// When the database or the object store cannot be read, or the copy's checkpoint is not this log's.
    pub async fn status(
        &self,
        copy: Option<&Publication>,
        policy: Option<&Policy>,
    ) -> Result<LogStatus, EngineError> {
        // The copy first: a log that grows meanwhile is not taken to be behind it.
        let published = match copy {
            Some(copy) => Some(self.published(copy).await?),
            None => None,
        };
        let witnessed = match policy {
            Some(policy) => Some(self.witnessed(policy).await?.unwrap_or(0)),
            None => None,
        };
        let head = self.head().await?;
        let store = &self.shared().store;
        let anchored = match store.closed_anchor_epoch(u64::MAX).await? {
            Some(epoch) => self.anchored_head(epoch.number).await?,
            None => None,
        };
        let anchored = anchored.map(|anchored| anchored.size);
        Ok(LogStatus {
            size: head.size,
            recorded_at_ms: head.recorded_at_ms,
            published,
            unpublished_since_ms: self.first_beyond(published, head.size).await?,
            evicted: self.evicted().await?,
            anchored,
            unanchored_since_ms: self.first_beyond(anchored, head.size).await?,
            witnessed,
            unwitnessed_since_ms: self.first_beyond(witnessed, head.size).await?,
            stopped: self.stopped().await?,
        })
    }

    /// Time of the first entry beyond a part of the log, if there is one.
    async fn first_beyond(&self, part: Option<u64>, size: u64) -> Result<Option<i64>, EngineError> {
        let Some(first) = part.filter(|part| *part < size) else {
            return Ok(None);
        };
        let entry = self.entry(first).await?;
        let entry = entry.map(|stored| decode_entry(&stored.bytes)).transpose();
        let entry =
            entry.map_err(|error| EngineError::damaged(&self.info().origin, error.to_string()))?;
        Ok(entry.map(|entry| entry.recorded_at_ms))
    }

    /// Entries of the copy; 0: it was never published.
    async fn published(&self, copy: &Publication) -> Result<u64, EngineError> {
        let info = self.info();
        let newest = copy.newest(info).await;
        let newest = newest.map_err(|error| EngineError::Publication {
            step: "read the checkpoint",
            message: error.reason,
        })?;
        let Some(note) = newest else { return Ok(0) };
        let signed = checkpoint::open(&note, &info.vkey, &[]).map_err(|error| {
            let reason = format!("the copy's checkpoint is not this log's: {error}");
            EngineError::damaged(&info.origin, reason)
        })?;
        Ok(signed.checkpoint.size)
    }
}
