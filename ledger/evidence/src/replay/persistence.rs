//! Removals are read again later: that the reading took place, and what it showed.

use std::collections::BTreeMap;

use super::check::{Check, Tallies};
use super::ending::{closes, verified};
use super::sets::{self, Cached};
use super::state::{Effect, Obligation, Plan, Pos, State, Sym};
use super::{Blobs, ORDER_SKEW_MS, OVERDUE_GRACE_MS};
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

/// One re-read for each offset and source of what was verified since the remediation ended the last time, in time for that.
fn rereads_are_owed(state: &State, tallies: &mut Tallies, plan: &Plan, rereads: &[&Obligation]) {
    let offsets = &plan.record.persistence_offsets_ms;
    let mut expected: Vec<i64> = Vec::new();
    let mut from = 0;
    for close in &plan.closes {
        // What is owed is on record right behind the end; the log may stop between the two.
        let known_ms = state
            .recorded_ms(close.pos)
            .saturating_add(OVERDUE_GRACE_MS);
        if known_ms > state.last_recorded_ms() {
            break;
        }
        let mut latest: BTreeMap<SourceTag, i64> = BTreeMap::new();
        for (action, effect) in verified(state, plan, close.pos) {
            if effect.pos >= from {
                let tag = action.key.source_tag();
                let at_ms = latest.entry(tag).or_insert(effect.observed_ms);
                *at_ms = effect.observed_ms.max(*at_ms);
            }
        }
        let times = latest.into_values();
        expected.extend(times.flat_map(|at_ms| {
            let offsets = offsets.iter();
            offsets.map(move |offset| at_ms.saturating_add(*offset))
        }));
        from = close.pos;
    }
    tallies.checked(Check::I37);
    let missing = unmatched(expected, rereads);
    tallies.expect(Check::I37, missing.is_empty(), || {
        format!(
            "{} plans {} times to read again for which nothing, or something else, was opened",
            state.entry(plan.pos),
            missing.len()
        )
    });
    // Nobody may promise to look earlier than the plan says.
    let first_ms = plan.closes.last().and_then(|close| {
        verified(state, plan, close.pos)
            .map(|(_, e)| e.observed_ms)
            .min()
    });
    if let (Some(first_ms), Some(soonest)) = (first_ms, offsets.iter().min()) {
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

/// The times for which there is no re-read of its own, neither earlier nor later.
fn unmatched(mut expected: Vec<i64>, rereads: &[&Obligation]) -> Vec<i64> {
    expected.sort_unstable();
    let mut due: Vec<i64> = rereads.iter().map(|reread| reread.due_ms).collect();
    due.sort_unstable();
    let mut due = due.into_iter().peekable();
    expected.retain(|at_ms| {
        let early = |due_ms: &i64| due_ms.saturating_add(ORDER_SKEW_MS) < *at_ms;
        while due.next_if(early).is_some() {}
        let in_time = |due_ms: &i64| *due_ms <= at_ms.saturating_add(ORDER_SKEW_MS);
        due.next_if(in_time).is_none()
    });
    expected
}

/// Whether a removal is read again as its plan says, or may still be. Its remediation opens the re-reads when it ends, which is
/// judged there; while it does not end, no time to read again may pass.
pub(super) fn is_watched(state: &State, plan: &Plan, effect: &Effect) -> bool {
    let ended = plan.closes.iter().any(|close| close.pos > effect.pos);
    let first = plan.record.persistence_offsets_ms.iter().min();
    let passed = first.is_some_and(|offset| {
        let due_ms = effect.observed_ms.saturating_add(*offset);
        due_ms.saturating_add(OVERDUE_GRACE_MS) < state.last_recorded_ms()
    });
    ended || !passed
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
    let Some((read, sync)) = sync else {
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
        // Both readings are on record in one stream: the later one stands behind.
        let gone = action.effects.iter().filter(|effect| {
            closes(plan, effect)
                && effect.observed_ms <= started_ms
                && state.sync(&effect.sync).is_some_and(|(at, _)| at < read)
        });
        let Some(gone) = gone.map(|effect| effect.pos).max() else {
            continue;
        };
        reads += 1;
        let back = sets::find(&set, GRANT_LEAF_LEN, &action.key.0).is_some();
        // That it had come back before it was removed again excuses nothing.
        let told = gone..pos;
        let reopened = action
            .regressions
            .iter()
            .any(|regression| told.contains(&regression.pos));
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
