//! What remembers, apart from the database, how far a log was. A database that came back from a backup, or that was swapped for
//! another one, is seen by it before anything is signed again.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use counterfoil_tlog::checkpoint;

use crate::engine::Shared;
use crate::model::Head;
use crate::sequencer::{Seen, check_progress};
use crate::state::LogState;
use crate::{EngineError, Log, LogInfo};

/// The anchor is out of reach: what it remembers is open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} is out of reach: {reason}")]
pub struct AnchorError {
    /// Which anchor.
    pub name: String,
    /// What it said.
    pub reason: String,
}

/// Remembers checkpoints of logs, and is not restored together with the database.
#[async_trait]
pub trait Anchor: Debug + Send + Sync + 'static {
    /// How messages call it.
    fn name(&self) -> String;

    /// The newest checkpoint of the log that it knows, as it was signed; `None`: it knows none.
    ///
    /// # Errors
    /// When it cannot be asked.
    async fn newest(&self, log: &LogInfo) -> Result<Option<Vec<u8>>, AnchorError>;

    /// When it was told of that checkpoint, milliseconds, if it knows; a moment after the log's own time then. A hint for searching.
    fn newest_at_ms(&self, log: &LogInfo) -> Option<i64> {
        let _ = log;
        None
    }

    /// Whether it answers soon enough to be asked before a log is written for the first time. Who is not is asked beside.
    fn is_near(&self) -> bool {
        true
    }

    /// Is told of every checkpoint after its commit and before anybody gets it. It must be quick; by default nothing is done.
    fn remember(&self, log: &LogInfo, checkpoint: &str) {
        let _ = (log, checkpoint);
    }
}

impl Log {
    /// Compares the log with every near anchor in reach, as it is compared before it is written for the first time. What contradicts them is
    /// among [`crate::Engine::troubles`] from then on, until the log can be written.
    ///
    /// # Errors
    /// [`EngineError::Damaged`] when it is behind one of them, or beside it; otherwise when the database cannot be read.
    pub async fn check_anchors(&self) -> Result<(), EngineError> {
        let shared = self.shared();
        let checked = check_all(shared, self.info()).await;
        if let Err(error @ EngineError::Damaged { .. }) = &checked {
            shared.meters.unwritable(self.info(), error);
        }
        checked
    }

    /// Compares the log with everything that remembers it, however far that is, as it must be where the database may have forgotten what was
    /// signed of the log. Whether anybody but a witness remembers it: `false` says that nothing is known, and not that nothing was lost.
    ///
    /// # Errors
    /// As [`Self::check_anchors`]; also when a near anchor cannot be asked. What witnesses do not answer is open, as everywhere.
    pub async fn check_remembered(&self) -> Result<bool, EngineError> {
        let (shared, info) = (self.shared(), self.info());
        let mut remembered = false;
        for anchor in &shared.options.anchors {
            match check_one(shared, info, anchor.as_ref()).await {
                Ok(Ok(is_known)) => remembered |= is_known && anchor.is_near(),
                Ok(Err(error)) if anchor.is_near() => {
                    return Err(EngineError::Storage {
                        step: "compare the log with what remembers it",
                        message: error.to_string(),
                    });
                }
                Ok(Err(error)) => {
                    tracing::warn!(origin = info.origin, %error, "the log was not compared with it");
                }
                Err(error) => {
                    if let EngineError::Damaged { .. } = &error {
                        shared.meters.unwritable(info, &error);
                    }
                    return Err(error);
                }
            }
        }
        Ok(remembered)
    }
}

/// Tells every anchor of a committed state.
pub(crate) fn remember(shared: &Shared, state: &LogState) {
    for anchor in &shared.options.anchors {
        anchor.remember(&state.info, &state.checkpoint);
    }
}

/// The anchors that nobody waits for in vain.
fn near(shared: &Shared) -> impl Iterator<Item = &Arc<dyn Anchor>> {
    let anchors = shared.options.anchors.iter();
    anchors.filter(|anchor| anchor.is_near())
}

/// Compares a log with every near anchor in reach. Behind one of them, or beside it: the log is not written any more.
///
/// An anchor that cannot be asked does not stop a log, or an outage of the object store would stop all of them; publishing
/// compares again as soon as it is back.
pub(crate) async fn check_all(shared: &Shared, info: &LogInfo) -> Result<(), EngineError> {
    for anchor in near(shared) {
        if let Err(error) = check_one(shared, info, anchor.as_ref()).await? {
            tracing::warn!(origin = info.origin, %error, "the log was not compared with it");
        }
    }
    check_anchored(shared, info).await
}

/// Compares a log with what one anchor remembers, if it can be asked; whether it remembers the log.
async fn check_one(
    shared: &Shared,
    info: &LogInfo,
    anchor: &dyn Anchor,
) -> Result<Result<bool, AnchorError>, EngineError> {
    let note = match anchor.newest(info).await {
        Ok(Some(note)) => note,
        Ok(None) => return Ok(Ok(false)),
        Err(error) => return Ok(Err(error)),
    };
    // The head is read after the anchor: another process may append at any time, and what it appended is no fork.
    let (head, _) = shared.store.head(info).await?;
    check(shared, info, &head, &anchor.name(), &note).await?;
    Ok(Ok(true))
}

/// Compares a log with its last head in the anchor log. Entries that were taken out of the database, or put into it past the engine, are seen by
/// it where everything else was taken back too.
async fn check_anchored(shared: &Shared, info: &LogInfo) -> Result<(), EngineError> {
    let Some(anchored) = shared.store.anchored_head(info, u64::MAX).await? else {
        return Ok(());
    };
    let (head, _) = shared.store.head(info).await?;
    let seen = Seen {
        size: anchored.size,
        root: anchored.root,
    };
    let checked = check_progress(shared, info, &head, Some(seen)).await;
    checked.map_err(|error| match error {
        EngineError::Damaged { reason, .. } => {
            EngineError::damaged(&info.origin, format!("the anchor log: {reason}"))
        }
        other => other,
    })
}

/// Compares a head with one remembered checkpoint, and tells what that says.
pub(crate) async fn check(
    shared: &Shared,
    info: &LogInfo,
    head: &Head,
    name: &str,
    note: &[u8],
) -> Result<Seen, EngineError> {
    let told = |reason: String| EngineError::damaged(&info.origin, format!("{name}: {reason}"));
    let signed = checkpoint::open(note, &info.vkey, &[])
        .map_err(|error| told(format!("its checkpoint is not this log's: {error}")))?;
    let seen = Seen {
        size: signed.checkpoint.size,
        root: signed.checkpoint.root,
    };
    let checked = check_progress(shared, info, head, Some(seen)).await;
    checked.map_err(|error| match error {
        EngineError::Damaged { reason, .. } => told(reason),
        other => other,
    })?;
    Ok(seen)
}
