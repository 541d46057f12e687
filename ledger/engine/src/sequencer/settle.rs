//! Making a batch durable, and answering it.

use std::sync::Arc;
use std::time::Instant;

use super::plan::{BatchItem, Fate};
use super::work::Judged;
use super::{Again, Answers, Batch, Planned};
use crate::engine::Shared;
use crate::faults::{self, FaultPoint};
use crate::model::{Head, Outcome, Receipt};
use crate::state::LogState;
use crate::store::{CommitError, Prepared};
use crate::{EngineError, LogId, anchor, prove};

/// A refusal for what the log holds is right only if no other process appended.
async fn check_newest(shared: &Shared, planned: &Planned, log: LogId) -> Result<(), Again> {
    let Some(state) = planned.states.get(&log) else {
        return Ok(());
    };
    let (head, _) = shared.store.head(&state.info).await.map_err(Again::No)?;
    if head.size == state.size && head.root == state.root {
        Ok(())
    } else {
        Err(Again::Reload(log))
    }
}

/// Makes a batch durable. What it was worked out on must be durable.
pub(super) async fn commit(
    shared: &Shared,
    planned: &Planned,
    write: Prepared,
) -> Result<(), Again> {
    for log in &planned.judged_by_state {
        check_newest(shared, planned, *log).await?;
    }
    if planned.grown.is_empty() {
        return Ok(());
    }
    let faults = shared.faults.as_ref();
    let begun = Instant::now();
    let committed = shared.store.commit(write, faults).await;
    committed.map_err(|error| match error {
        CommitError::Overtaken => Again::Thoroughly,
        CommitError::Failed(error) => Again::No(error),
    })?;
    shared.meters.committed(begun.elapsed());
    // If we crash here: the anchors remember less than is durable, which contradicts nothing.
    let remember = async {
        for grown in planned.grown.values() {
            anchor::remember(shared, &grown.state);
        }
        Ok(())
    };
    let remembered = faults::step(faults, FaultPoint::Remember, remember).await;
    remembered.map_err(Again::No)?;
    for (log, grown) in &planned.grown {
        shared.publish(*log, grown.state.size, &grown.state.keys);
    }
    // If we crash here: the entries are durable and their callers do not know. They send them again and get the
    // original positions.
    let told = faults::step(faults, FaultPoint::Reply, async { Ok(()) });
    told.await.map_err(Again::No)
}

/// Answers a batch that is durable.
pub(super) async fn answer(
    shared: Arc<Shared>,
    mut batch: Batch,
    planned: Arc<Planned>,
    judged: Vec<Option<Judged>>,
) {
    let mut answers: Answers = Vec::with_capacity(batch.logs.len());
    for ((log, judged), item) in batch.logs.iter().zip(judged).zip(batch.items.iter()) {
        answers.push(match (planned.state(log.id), judged) {
            (Some(state), Some(judged)) => outcomes(&shared, state, item, judged).await,
            _ => Err(match planned.failed.get(&log.id) {
                Some(why) => why.clone(),
                None => EngineError::Closed,
            }),
        });
    }
    shared.meters.batch(&answers);
    batch.answer(answers);
}

async fn outcomes(
    shared: &Shared,
    state: &LogState,
    item: &BatchItem,
    judged: Judged,
) -> Result<Vec<Outcome>, EngineError> {
    let Judged {
        fates,
        mut receipts,
    } = judged;
    let mut old_entries = Vec::new();
    for fate in &fates {
        if let Fate::Logged {
            index,
            leaf_hash,
            new: false,
        } = fate
        {
            old_entries.push((*index, *leaf_hash));
        }
    }
    let mut old_receipts = if old_entries.is_empty() {
        Vec::new()
    } else {
        prove::receipts(shared, &state.info, &head_of(state), old_entries).await?
    }
    .into_iter();
    let mut outcomes = Vec::with_capacity(fates.len());
    for (fate, record) in fates.into_iter().zip(&item.records) {
        outcomes.push(match (fate, record) {
            (
                Fate::Logged {
                    index,
                    leaf_hash,
                    new,
                },
                Ok(record),
            ) => {
                let written = match new {
                    true => receipts.next(),
                    false => old_receipts.next(),
                };
                Ok(Receipt {
                    record_id: record.record_id,
                    record_hash: record.record_hash,
                    index,
                    leaf_hash,
                    tlog_proof: written.ok_or(EngineError::Closed)?,
                    checkpoint_ms: state.recorded_at_ms,
                })
            }
            (Fate::Refused(refusal), _) => Err(refusal),
            (_, Err(refusal)) => Err(refusal.clone()),
        });
    }
    Ok(outcomes)
}

fn head_of(state: &LogState) -> Head {
    Head {
        size: state.size,
        root: state.root,
        checkpoint: state.checkpoint.to_string(),
        recorded_at_ms: state.recorded_at_ms,
    }
}
