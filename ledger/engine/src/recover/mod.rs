//! Bringing back what a database lost, from the published copy and from the producers' outboxes: bit for bit, or not at all.

mod place;
mod tail;

use std::collections::HashMap;
use std::sync::Arc;

use counterfoil_evidence::record::decode_entry;
use counterfoil_evidence::v1::Entry;
use counterfoil_tlog::hash::leaf_hash;
use counterfoil_tlog::tile::{TilePath, decode_entries, entry_bundles_for};
use counterfoil_tlog::{Checkpoint, Hash, checkpoint};

use crate::admission::admit;
use crate::anchor;
use crate::cosignatures::is_note_of;
use crate::faults::{self, FaultPoint};
use crate::kept::KeptRecords;
use crate::model::{LogInfo, SignedRecord};
use crate::sequencer::{BatchItem, Fate, Grown, KnownRecords, plan, read_state};
use crate::state::LogState;
use crate::store::Rebuild;
use crate::{EngineError, Log, Publication};

/// Most entries that are worked out at once.
const AT_ONCE: usize = 4096;

/// What was brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// Entries that the database had.
    pub from: u64,
    /// Entries that it has now.
    pub size: u64,
}

/// An entry of the copy with its leaf hash.
type Copied = (Entry, Hash);

impl Log {
    /// [`Self::recover_from`] the published copy alone.
    ///
    /// # Errors
    /// As there; also when the log was never published.
    pub async fn recover(
        &self,
        copy: &Publication,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<Recovered, EngineError> {
        self.recover_from(Some(copy), &[], progress).await
    }

    /// Appends again what the copy has and the database has not, as it was: every record is judged as if it were new, every entry and
    /// the checkpoint must come out with the same bytes. All of it becomes durable at once.
    ///
    /// Then the same with what the copy has not, up to the newest head that an anchor or a producer's receipt knows, from the records
    /// that the producers have kept. Their receipts say where each was; a record whose receipt was lost is fitted in where it leads to
    /// what was signed. All of it becomes durable at once, when it is proved to be that very head.
    ///
    /// Then the log may be written again, if it had been stopped.
    ///
    /// `progress` is told how many entries are done, and of how many. Other processes may serve the log meanwhile; they cannot write it.
    ///
    /// # Errors
    /// [`EngineError::Damaged`] when the copy is of another log, when the database's own part is damaged, when an anchor knows of more
    /// than all of them have, or when a record is not what was signed: the reason names the entries. What the copy had is back then if
    /// it was whole; of the producers' nothing is written; and the log is still not written by others.
    pub async fn recover_from(
        &self,
        copy: Option<&Publication>,
        kept: &[Arc<dyn KeptRecords>],
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<Recovered, EngineError> {
        let (shared, info) = (self.shared(), self.shared_info());
        let (before, _) = shared.store.head(info).await?;
        let goal = match copy {
            Some(copy) => goal(info, copy).await?,
            None => None,
        };
        if goal.is_none() && kept.is_empty() {
            return Err(EngineError::damaged(&info.origin, "it was never published"));
        }
        if let Some((copy, goal)) = copy.zip(goal) {
            self.recover_copy(copy, &goal, progress).await?;
        }
        if !kept.is_empty() {
            self.recover_tail(kept, progress).await?;
        }
        anchor::check_all(shared, info).await?;
        // If we crash here: all is back and the log is still stopped, until the next attempt finds that nothing is missing.
        let faults = shared.faults.as_ref();
        faults::step(faults, FaultPoint::GoOn, shared.store.go_on(info)).await?;
        let (now, _) = shared.store.head(info).await?;
        Ok(Recovered {
            from: before.size,
            size: now.size,
        })
    }

    async fn recover_copy(
        &self,
        copy: &Publication,
        goal: &(Vec<u8>, Checkpoint),
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<(), EngineError> {
        let (shared, info) = (self.shared(), self.shared_info());
        let (head, frontier) = shared.store.head(info).await?;
        if head.size < goal.1.size {
            let state = read_state(shared, info, &head, &frontier).await?;
            let mut rebuild = shared.store.rebuild(info).await?;
            let grown = replay(copy, state, &goal.1, &mut rebuild, progress).await?;
            if !is_note_of(&goal.0, &grown.checkpoint) {
                return Err(EngineError::damaged(
                    &info.origin,
                    "the copy's entries do not lead to its checkpoint",
                ));
            }
            // If we crash here: nothing was changed, and the next attempt starts over.
            let faults = shared.faults.as_ref();
            faults::step(faults, FaultPoint::Recover, rebuild.commit()).await?;
        }
        let (now, _) = shared.store.head(info).await?;
        anchor::check(shared, info, &now, "the published copy", &goal.0).await?;
        Ok(())
    }

    async fn recover_tail(
        &self,
        kept: &[Arc<dyn KeptRecords>],
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<(), EngineError> {
        let (shared, info) = (self.shared(), self.shared_info());
        let Some(newest) = tail::newest(shared, info, kept).await? else {
            return Ok(());
        };
        let (head, frontier) = shared.store.head(info).await?;
        if head.size < newest.head.size {
            let state = read_state(shared, info, &head, &frontier).await?;
            let mut rebuild = shared.store.rebuild(info).await?;
            let grown = tail::replay(kept, state, &newest, &mut rebuild, progress).await?;
            if (grown.size, grown.root) != (newest.head.size, newest.head.root) {
                return Err(EngineError::damaged(
                    &info.origin,
                    "the producers' records do not lead to the newest head that was signed",
                ));
            }
            // If we crash here: nothing was changed, and the next attempt starts over.
            let faults = shared.faults.as_ref();
            faults::step(faults, FaultPoint::Recover, rebuild.commit()).await?;
        }
        let (now, _) = shared.store.head(info).await?;
        let who = "the newest head that was signed";
        anchor::check(shared, info, &now, who, &newest.note).await?;
        Ok(())
    }
}

/// The copy's checkpoint: its bytes, and what it says. `None`: the log was never published.
async fn goal(
    info: &LogInfo,
    copy: &Publication,
) -> Result<Option<(Vec<u8>, Checkpoint)>, EngineError> {
    let damaged = |reason: String| EngineError::damaged(&info.origin, reason);
    let Some(note) = copy.checkpoint(&info.tenant).await? else {
        return Ok(None);
    };
    let signed = checkpoint::open(&note, &info.vkey, &[])
        .map_err(|error| damaged(format!("the copy's checkpoint is not this log's: {error}")))?;
    Ok(Some((note, signed.checkpoint)))
}

async fn replay(
    copy: &Publication,
    mut state: LogState,
    goal: &Checkpoint,
    rebuild: &mut Rebuild<'_>,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<LogState, EngineError> {
    let mut waiting: Vec<Copied> = Vec::new();
    for path in entry_bundles_for(state.size, goal.size) {
        let next = state.size + waiting.len() as u64;
        for entry in read_bundle(copy, &state.info, &path, next).await? {
            let new_time = waiting
                .first()
                .is_some_and(|(first, _)| first.recorded_at_ms != entry.0.recorded_at_ms);
            if new_time || waiting.len() == AT_ONCE {
                state = grow(state, std::mem::take(&mut waiting), rebuild).await?;
                progress(state.size, goal.size);
            }
            waiting.push(entry);
        }
    }
    if !waiting.is_empty() {
        state = grow(state, waiting, rebuild).await?;
        progress(state.size, goal.size);
    }
    Ok(state)
}

/// The entries of a bundle from an index on.
async fn read_bundle(
    copy: &Publication,
    info: &LogInfo,
    path: &TilePath,
    next: u64,
) -> Result<Vec<Copied>, EngineError> {
    let damaged =
        |reason: String| EngineError::damaged(&info.origin, format!("the copy's {path}: {reason}"));
    let bytes = copy
        .read(&info.tenant, &path.to_string())
        .await?
        .ok_or_else(|| damaged("it is missing".to_owned()))?;
    let entries =
        decode_entries(&bytes, path.width()).map_err(|error| damaged(error.to_string()))?;
    let known = usize::try_from(next.saturating_sub(path.start())).unwrap_or(usize::MAX);
    entries
        .into_iter()
        .skip(known)
        .map(|bytes| {
            let entry = decode_entry(bytes).map_err(|error| damaged(error.to_string()))?;
            Ok((entry, leaf_hash(bytes)))
        })
        .collect()
}

/// Appends entries of one time as they were appended then.
async fn grow(
    state: LogState,
    entries: Vec<Copied>,
    rebuild: &mut Rebuild<'_>,
) -> Result<LogState, EngineError> {
    let worked_out = tokio::task::spawn_blocking(move || again(state, entries));
    let (commit, grown) = worked_out.await.map_err(|_| EngineError::Closed)??;
    rebuild.add(&commit).await?;
    Ok(Arc::unwrap_or_clone(grown.state))
}

fn again(
    state: LogState,
    entries: Vec<Copied>,
) -> Result<(crate::store::LogCommit, Grown), EngineError> {
    let info = Arc::clone(&state.info);
    let (id, first) = (info.id, state.size);
    let differs = |index: u64, reason: String| {
        EngineError::damaged(&info.origin, format!("the copy's entry {index}: {reason}"))
    };
    let now_ms = entries.first().map_or(0, |(entry, _)| entry.recorded_at_ms);
    let (records, leaves): (Vec<SignedRecord>, Vec<Hash>) = entries
        .into_iter()
        .map(|(entry, leaf)| {
            let record = SignedRecord {
                record: entry.record,
                key_id: entry.record_key_id,
                signature: entry.record_signature,
            };
            (record, leaf)
        })
        .unzip();
    let item = BatchItem {
        log: id,
        records: admit(&info, Some(&state.keys), records),
    };
    let states = HashMap::from([(id, Arc::new(state))]);
    let mut plan = plan(&states, &[&item], &KnownRecords::new(), now_ms)?;
    let fates = plan.fates.pop().flatten().unwrap_or_default();
    for ((index, fate), leaf) in (first..).zip(fates).zip(leaves) {
        match fate {
            Fate::Logged { leaf_hash, .. } if leaf_hash == leaf => {}
            Fate::Logged { .. } => {
                return Err(differs(
                    index,
                    "it is not what its record gives there".to_owned(),
                ));
            }
            Fate::Refused(refusal) => return Err(differs(index, refusal.to_string())),
        }
    }
    let grown = plan.grown.remove(&id);
    plan.commits
        .pop()
        .zip(grown)
        .ok_or_else(|| differs(first, "nothing follows from it".to_owned()))
}
