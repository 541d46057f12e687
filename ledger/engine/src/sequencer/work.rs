//! Working out a batch on all cores: what becomes of each record, its receipt, and the statements that make the batch durable. All of it is
//! made before the batch's turn to be committed, because there is one writer, and what it waits for all callers wait for.

use std::collections::HashMap;
use std::sync::Arc;
use std::vec;

use counterfoil_tlog::proof;
use futures::future::try_join_all;

use super::plan::{BatchItem, Fate, Grown, KnownRecords, Plan, plan, shares};
use super::{Planned, aside};
use crate::engine::Shared;
use crate::state::LogState;
use crate::store::{LogCommit, Prepared};
use crate::{EngineError, LogId};

/// What a batch is worked out from.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) items: Arc<Vec<BatchItem>>,
    pub(super) states: Arc<HashMap<LogId, Arc<LogState>>>,
    pub(super) known: KnownRecords,
    pub(super) now_ms: i64,
}

/// A batch that was worked out.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) planned: Arc<Planned>,
    /// One a submission, in order; `None` for the submissions of logs that could not be loaded.
    pub(super) judged: Vec<Option<Judged>>,
    pub(super) write: Prepared,
}

/// What becomes of a submission if the batch commits.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) fates: Vec<Fate>,
    /// The receipts of its new entries, in order. Nobody gets them before the entries are durable.
    pub(super) receipts: vec::IntoIter<String>,
}

/// Works out a batch. Logs do not depend on each other: of a large batch each core takes some.
pub(super) async fn work_out(
    shared: &Arc<Shared>,
    work: Work,
    failed: HashMap<LogId, EngineError>,
) -> Result<Ready, EngineError> {
    let work = Arc::new(work);
    let shares = shares(&work.items);
    let planning = shares.iter().map(|share| {
        let (of_share, share) = (Arc::clone(&work), share.clone());
        aside(&work.items, move || of_share.plan(&share))
    });
    let parts = try_join_all(planning).await?;
    let shared = Arc::clone(shared);
    let items = Arc::clone(&work.items);
    let joining = aside(&items, move || {
        let mut judged: Vec<Option<Judged>> = Vec::new();
        judged.resize_with(work.items.len(), || None);
        let mut planned = Planned {
            states: Arc::clone(&work.states),
            failed,
            ..Planned::default()
        };
        let mut commits: Vec<LogCommit> = Vec::new();
        for (share, (plan, of_share)) in shares.iter().zip(parts) {
            for (at, of_item) in share.iter().zip(of_share) {
                if let Some(place) = judged.get_mut(*at) {
                    *place = of_item;
                }
            }
            commits.extend(plan.commits);
            planned.grown.extend(plan.grown);
            planned.judged_by_state.extend(plan.judged_by_state);
        }
        commits.sort_unstable_by_key(|commit| commit.log);
        Ok(Ready {
            write: shared.store.prepare(&commits)?,
            planned: Arc::new(planned),
            judged,
        })
    });
    joining.await
}

impl Work {
    /// A share of the batch, with what becomes of each of its submissions.
    fn plan(&self, share: &[usize]) -> Result<(Plan, Vec<Option<Judged>>), EngineError> {
        let items = share.iter().filter_map(|at| self.items.get(*at));
        let items: Vec<&BatchItem> = items.collect();
        let mut plan = plan(&self.states, &items, &self.known, self.now_ms)?;
        let mut judged = Vec::with_capacity(items.len());
        for (item, fates) in items.iter().zip(std::mem::take(&mut plan.fates)) {
            judged.push(match fates {
                Some(fates) => Some(Judged {
                    receipts: receipts(plan.grown.get(&item.log), &fates)?,
                    fates,
                }),
                None => None,
            });
        }
        Ok((plan, judged))
    }
}

/// The receipts of the new ones.
fn receipts(grown: Option<&Grown>, fates: &[Fate]) -> Result<vec::IntoIter<String>, EngineError> {
    let Some(Grown { state, tree, .. }) = grown else {
        return Ok(Vec::new().into_iter());
    };
    let mut receipts = Vec::with_capacity(fates.len());
    for fate in fates {
        if let Fate::Logged {
            index, new: true, ..
        } = fate
        {
            let path = tree.inclusion_proof(*index, state.size);
            let path =
                path.map_err(|error| EngineError::damaged(&state.info.origin, error.to_string()))?;
            receipts.push(proof::to_text(*index, &path, &state.checkpoint));
        }
    }
    Ok(receipts.into_iter())
}
