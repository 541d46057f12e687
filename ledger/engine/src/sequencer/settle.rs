//! Making a batch durable, and answering it.

use std::collections::{HashMap, hash_map};
use std::sync::Arc;
use std::time::Instant;

use counterfoil_tlog::note::Note;
use counterfoil_tlog::{Hash, TlogProof};

use super::plan::{BatchItem, Fate, Grown, Plan};
use super::{Again, Answers, Batch, Planned, aside};
use crate::engine::Shared;
use crate::faults::{self, FaultPoint};
use crate::model::{Head, Outcome, Receipt};
use crate::state::LogState;
use crate::store::CommitError;
use crate::{EngineError, LogId, anchor, prove};

/// Commits a batch and answers it. What it was worked out on must be durable.
pub(super) async fn settle(
    shared: &Shared,
    batch: &mut Batch,
    planned: &Arc<Planned>,
) -> Result<(), Again> {
    for log in &planned.plan.judged_by_state {
        check_newest(shared, planned, *log).await?;
    }
    let mut receipts = commit(shared, planned, &batch.items).await?;
    let mut answers: Answers = Vec::with_capacity(batch.logs.len());
    for ((log, fates), item) in batch
        .logs
        .iter()
        .zip(&planned.plan.fates)
        .zip(batch.items.iter())
    {
        let answer = match (planned.state(log.id), fates) {
            (Some(state), Some(fates)) => answer(shared, state, item, fates, &mut receipts).await,
            _ => Err(match planned.failed.get(&log.id) {
                Some(why) => why.clone(),
                None => EngineError::Closed,
            }),
        };
        answers.push(answer);
    }
    shared.meters.batch(&answers);
    batch.answer(answers);
    Ok(())
}

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

/// Commits the plan, writing the receipts of the new entries meanwhile; they are handed out only when it is durable.
async fn commit(
    shared: &Shared,
    planned: &Arc<Planned>,
    items: &Arc<Vec<BatchItem>>,
) -> Result<NewReceipts, Again> {
    let plan = &planned.plan;
    if plan.commits.is_empty() {
        return Ok(NewReceipts::new());
    }
    let writing = {
        let (planned, work) = (Arc::clone(planned), Arc::clone(items));
        aside(items, move || write_receipts(&planned.plan, &work))
    };
    let faults = shared.faults.as_ref();
    let committing = async {
        let begun = Instant::now();
        let committed = shared.store.commit(&plan.commits, faults).await;
        committed.inspect(|()| shared.meters.committed(begun.elapsed()))
    };
    let (committed, written) = tokio::join!(committing, writing);
    committed.map_err(|error| match error {
        CommitError::Overtaken => Again::Thoroughly,
        CommitError::Failed(error) => Again::No(error),
    })?;
    let receipts = written.map_err(Again::No)?;
    // If we crash here: the anchors remember less than is durable, which contradicts nothing.
    let remember = async {
        for grown in plan.grown.values() {
            anchor::remember(shared, &grown.state);
        }
        Ok(())
    };
    let remembered = faults::step(faults, FaultPoint::Remember, remember).await;
    remembered.map_err(Again::No)?;
    for (log, grown) in &plan.grown {
        shared.publish(*log, grown.state.size, &grown.state.keys);
    }
    // If we crash here: the entries are durable and their callers do not know. They send them again and get the
    // original positions.
    let told = faults::step(faults, FaultPoint::Reply, async { Ok(receipts) });
    told.await.map_err(Again::No)
}

async fn answer(
    shared: &Shared,
    state: &LogState,
    item: &BatchItem,
    fates: &[Fate],
    receipts: &mut NewReceipts,
) -> Result<Vec<Outcome>, EngineError> {
    let mut old_entries = Vec::new();
    for fate in fates {
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
    for (fate, record) in fates.iter().zip(&item.records) {
        outcomes.push(match (fate, record) {
            (
                Fate::Logged {
                    index,
                    leaf_hash,
                    new,
                },
                Ok(record),
            ) => {
                let written = if *new {
                    receipts.get(&(state.info.id, *index)).cloned()
                } else {
                    old_receipts.next()
                };
                Ok(Receipt {
                    record_id: record.record_id,
                    record_hash: record.record_hash,
                    index: *index,
                    leaf_hash: *leaf_hash,
                    tlog_proof: written.ok_or(EngineError::Closed)?,
                    checkpoint_ms: state.recorded_at_ms,
                })
            }
            (Fate::Refused(refusal), _) | (_, Err(refusal)) => Err(refusal.clone()),
        });
    }
    Ok(outcomes)
}

/// Receipts of new entries by log and position.
type NewReceipts = HashMap<(LogId, u64), String>;

fn write_receipts(plan: &Plan, items: &[BatchItem]) -> Result<NewReceipts, EngineError> {
    let mut notes: HashMap<LogId, Note> = HashMap::new();
    let mut receipts = NewReceipts::new();
    for (item, fates) in items.iter().zip(&plan.fates) {
        let Some(grown) = plan.grown.get(&item.log) else {
            continue;
        };
        let note = match notes.entry(item.log) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(vacant) => vacant.insert(note_of(grown)?),
        };
        for fate in fates.iter().flatten() {
            let Fate::Logged {
                index, new: true, ..
            } = fate
            else {
                continue;
            };
            let path = proof_path(grown, *index)?;
            let proof = TlogProof {
                index: *index,
                path,
                checkpoint: note.clone(),
            };
            receipts.insert((item.log, *index), proof.to_string());
        }
    }
    Ok(receipts)
}

fn note_of(grown: &Grown) -> Result<Note, EngineError> {
    Note::parse(grown.state.checkpoint.as_bytes())
        .map_err(|error| EngineError::damaged(&grown.state.info.origin, error.to_string()))
}

fn proof_path(grown: &Grown, index: u64) -> Result<Vec<Hash>, EngineError> {
    grown
        .tree
        .inclusion_proof(index, grown.state.size)
        .map_err(|error| EngineError::damaged(&grown.state.info.origin, error.to_string()))
}

fn head_of(state: &LogState) -> Head {
    Head {
        size: state.size,
        root: state.root,
        checkpoint: state.checkpoint.to_string(),
        recorded_at_ms: state.recorded_at_ms,
    }
}
