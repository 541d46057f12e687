//! Removals are read again later: that the reading took place, and what it showed.

use std::collections::{BTreeMap, BTreeSet};

use super::Blobs;
use super::ORDER_SKEW_MS;
use super::check::{Check, Tallies};
use super::ending::{closes, verified};
use super::sets::{self, Cached};
use super::state::{Obligation, Plan, Pos, State, Sym};
use crate::leaf::{GRANT_LEAF_LEN, SourceTag};
use crate::v1::SyncState;

/// Kind of the obligations to read again.
const KIND: &str = "persistence_reread";

/// Judges re-reads and regressions.
pub(super) fn judge(state: &State, tallies: &mut Tallies, blobs: &dyn Blobs) {
    let sets_read = Cached::new(blobs);
    let kind = state.names.find(KIND);
    let mut owed: BTreeMap<Sym, Vec<&Obligation>> = BTreeMap::new();
    for obligation in state.obligations.values() {
        if Some(obligation.kind) == kind {
            owed.entry(obligation.object).or_default().push(obligation);
        }
    }
    for (name, plan) in &state.plans {
        let rereads = owed.remove(name).unwrap_or_default();
        rereads_are_owed(state, tallies, plan, &rereads);
        for reread in rereads {
            tallies.checked(Check::I37);
            if let Some((pos, evidence)) = reread.discharged {
                discharged(state, tallies, plan, reread, (pos, &evidence), &sets_read);
            }
        }
    }
    for stray in owed.into_values().flatten() {
        tallies.fail(
            Check::I37,
            format!("{} is of no remediation", state.entry(stray.pos)),
        );
    }
    regressions(state, tallies);
}

/// One re-read for each offset and source of what was verified.
fn rereads_are_owed(state: &State, tallies: &mut Tallies, plan: &Plan, rereads: &[&Obligation]) {
    let Some(close) = plan.closes.last() else {
        return;
    };
    let sources: BTreeSet<SourceTag> = verified(state, plan, close.pos)
        .map(|(action, _)| action.key.source_tag())
        .collect();
    let expected = sources.len() * plan.record.persistence_offsets_ms.len();
    tallies.checked(Check::I37);
    tallies.expect(Check::I37, rereads.len() >= expected, || {
        format!(
            "{} plans to read again {expected} times, {} were opened",
            state.entry(plan.pos),
            rereads.len()
        )
    });
    // Nobody may promise to look earlier than the plan says.
    let first_ms = verified(state, plan, close.pos)
        .map(|(_, effect)| effect.observed_ms)
        .min();
    let soonest = plan.record.persistence_offsets_ms.iter().min();
    if let (Some(first_ms), Some(soonest)) = (first_ms, soonest) {
        let due_ms = first_ms.saturating_add(*soonest);
        for reread in rereads {
            tallies.expect(
                Check::I37,
                reread.due_ms.saturating_add(ORDER_SKEW_MS) >= due_ms,
                || format!("{} is due before the plan says", state.entry(reread.pos)),
            );
        }
    }
}

fn discharged(
    state: &State,
    tallies: &mut Tallies,
    plan: &Plan,
    reread: &Obligation,
    (pos, evidence): (Pos, &[u8; 32]),
    sets_read: &Cached<'_>,
) {
    let sync = state
        .sync(evidence)
        .filter(|(_, sync)| sync.sealed.state() == SyncState::Complete);
    let Some((_, sync)) = sync else {
        tallies.fail(
            Check::I37,
            format!("{} cites no COMPLETE sync", state.entry(pos)),
        );
        return;
    };
    let started_ms = sync.sealed.started_ms;
    tallies.expect(
        Check::I37,
        started_ms.saturating_add(ORDER_SKEW_MS) >= reread.due_ms,
        || format!("{} cites a sync from before it was due", state.entry(pos)),
    );
    let Some(set) = sync.blob.and_then(|digest| sets_read.load(&digest)) else {
        tallies.skip(
            Check::I37,
            format!(
                "the set that {} cites is not in the bundle",
                state.entry(pos)
            ),
        );
        return;
    };
    let actions = plan
        .actions
        .iter()
        .filter_map(|at| state.actions.get(*at as usize))
        .filter(|action| action.key.source_tag() == sync.tag);
    let mut reads = 0;
    for action in actions {
        let gone = action
            .effects
            .iter()
            .any(|effect| closes(plan, effect) && effect.observed_ms <= started_ms);
        if !gone {
            continue;
        }
        reads += 1;
        let back = sets::find(&set, GRANT_LEAF_LEN, &action.key.0).is_some();
        let reopened = action.regressions.iter().any(|regression| {
            state
                .sync(&regression.sync)
                .is_some_and(|(_, seen)| seen.sealed.started_ms <= started_ms)
        });
        tallies.expect(Check::I37, !back || reopened, || {
            format!(
                "{} hides that {} is there again",
                state.entry(pos),
                state.names.text(action.name)
            )
        });
    }
    tallies.expect(Check::I37, reads > 0, || {
        format!(
            "{} cites the sync of a source with nothing to read again",
            state.entry(pos)
        )
    });
}

fn regressions(state: &State, tallies: &mut Tallies) {
    for action in &state.actions {
        for regression in &action.regressions {
            let closed = state.position(&regression.closed);
            let of_action = action
                .effects
                .iter()
                .any(|effect| Some(effect.pos) == closed && effect.stands);
            let read = state.sync(&regression.sync).is_some_and(|(_, sync)| {
                sync.tag == action.key.source_tag()
                    && sync.sealed.set_root == regression.set_root
                    && sync.sealed.set_count == regression.set_count
            });
            tallies.expect(Check::I37, of_action && read && regression.proved, || {
                format!(
                    "{} does not prove that access came back",
                    state.entry(regression.pos)
                )
            });
        }
    }
}
