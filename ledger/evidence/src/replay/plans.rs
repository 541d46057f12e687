//! Plans: what they hold, that they waited when they were too large, and that nothing was done that was not planned.

use std::collections::{HashMap, HashSet};

use super::absorb::digest;
use super::authority::rules_for;
use super::check::{Check, Tallies};
use super::state::{Action, Digest, Plan, Pos, State, Sym};
use super::{Blobs, CLOCK_SKEW_MS};
use super::{recon, sets};
use crate::leaf::{ACTION_LEAF_LEN, ActionLeaf, GRANT_KEY_LEN, GrantKey};
use crate::v1;

/// For each action of a plan: the record that decided it.
#[derive(Debug, Default)]
pub(super) struct Deciders {
    of_action: HashMap<(Sym, GrantKey), Digest>,
    /// Remediations whose actions are not in the bundle.
    unread: HashSet<Sym>,
}

impl Deciders {
    /// The record that decided an action of a remediation.
    pub(super) fn get(&self, remediation: Sym, key: GrantKey) -> Option<&Digest> {
        self.of_action.get(&(remediation, key))
    }

    /// Whether nothing is known of a remediation's actions.
    pub(super) fn unread(&self, remediation: Sym) -> bool {
        self.unread.contains(&remediation)
    }
}

/// Decisions on the grants that were acted on, in order of the log.
#[derive(Debug)]
struct Decisions(HashMap<GrantKey, Vec<Pos>>);

impl Decisions {
    fn collect(state: &State) -> Self {
        let mut of: HashMap<GrantKey, Vec<Pos>> = state
            .actions
            .iter()
            .map(|action| (action.key, Vec::new()))
            .collect();
        for (pos, key) in recon::decisions(state) {
            if let Some(found) = of.get_mut(&key) {
                found.push(pos);
            }
        }
        Self(of)
    }

    /// The decision that came after the one that an attempt carries out, long enough before the attempt to be known.
    fn superseding(&self, state: &State, key: &GrantKey, decided: Pos, intent: Pos) -> Option<Pos> {
        let recorded_ms = |pos| state.meta(pos).map_or(i64::MAX, |meta| meta.recorded_ms);
        let known_ms = recorded_ms(intent).saturating_sub(CLOCK_SKEW_MS);
        self.0
            .get(key)?
            .iter()
            .copied()
            .find(|pos| decided < *pos && *pos < intent && recorded_ms(*pos) < known_ms)
    }
}

/// Judges that intents are of their plans, and tells who decided each action.
pub(super) fn judge(state: &State, tallies: &mut Tallies, blobs: &dyn Blobs) -> Deciders {
    let mut deciders = Deciders::default();
    let decisions = Decisions::collect(state);
    for (name, plan) in &state.plans {
        threshold(state, tallies, plan);
        answers(state, tallies, plan);
        tallies.checked(Check::I39);
        let Some(blob) = plan.actions_blob.and_then(|digest| blobs.load(&digest)) else {
            tallies.skip(
                Check::I39,
                format!(
                    "the actions of {} are not in the bundle",
                    state.entry(plan.pos)
                ),
            );
            deciders.unread.insert(*name);
            continue;
        };
        let facts = sets::facts(&blob, GRANT_KEY_LEN, ACTION_LEAF_LEN);
        let matches = facts
            .is_ok_and(|facts| facts.matches(&plan.record.actions_root, plan.record.actions_count));
        if !matches {
            tallies.fail(
                Check::I39,
                format!("{} has other actions than its root", state.entry(plan.pos)),
            );
            continue;
        }
        for leaf in blob.chunks_exact(ACTION_LEAF_LEN) {
            let key = leaf.get(..GRANT_KEY_LEN).unwrap_or_default();
            let decided = leaf.get(GRANT_KEY_LEN + 1..).unwrap_or_default();
            if let Ok(key) = GrantKey::try_from(key) {
                deciders.of_action.insert((*name, key), digest(decided));
            }
        }
        for action in plan
            .actions
            .iter()
            .filter_map(|at| state.actions.get(*at as usize))
        {
            intents_are_planned(state, tallies, action, &blob);
            if let Some(decided) = deciders.get(*name, action.key) {
                decision_stands(state, tallies, action, *decided, &decisions);
            }
        }
    }
    deciders
}

/// A plan above the limit waits, and a human decides that it goes on. That nothing went out before is judged with the intents.
fn threshold(state: &State, tallies: &mut Tallies, plan: &Plan) {
    tallies.checked(Check::I59);
    let entry = || state.entry(plan.pos);
    let Some(rules) = rules_for(state, plan.pos) else {
        tallies.fail(Check::I59, format!("{} has no policy", entry()));
        return;
    };
    let actions = plan.record.actions_count;
    let observed = state
        .runs
        .iter()
        .find(|run| run.what.record.recon_run == plan.record.recon_run)
        .map_or(0, |run| run.what.record.observed_count);
    let (count_max, permille_max) = (rules.threshold_count, rules.threshold_permille);
    let above = (count_max > 0 && actions > count_max.into())
        || (permille_max > 0
            && u128::from(actions) * 1_000 > u128::from(permille_max) * u128::from(observed));
    tallies.expect(Check::I59, !above || plan.tripped.is_some(), || {
        format!("{} is above the threshold and was not held", entry())
    });
    let resolver = plan.resolved.and_then(|(pos, _)| state.meta(pos));
    let human = resolver.is_none_or(|meta| {
        let known = state.principals.get(&meta.actor);
        known.is_some_and(|principal| principal.kind == v1::PrincipalKind::Human)
    });
    tallies.expect(Check::I59, human, || {
        format!("{} was resolved by somebody who is no human", entry())
    });
}

/// When a remediation is closed, every attempt has an answer, be it that nobody knows.
fn answers(state: &State, tallies: &mut Tallies, plan: &Plan) {
    let Some(close) = plan.closes.last() else {
        return;
    };
    let attempts = plan
        .actions
        .iter()
        .filter_map(|at| state.actions.get(*at as usize))
        .flat_map(|action| &action.attempts);
    for attempt in attempts.filter(|attempt| attempt.pos < close.pos) {
        tallies.expect(Check::I40, attempt.answer.is_some(), || {
            format!("{} has no answer", state.entry(attempt.pos))
        });
    }
}

fn intents_are_planned(state: &State, tallies: &mut Tallies, action: &Action, blob: &[u8]) {
    let leaf = sets::find(blob, ACTION_LEAF_LEN, &action.key.0);
    for attempt in &action.attempts {
        let planned = leaf.is_some_and(|leaf| {
            let decided = digest(leaf.get(GRANT_KEY_LEN + 1..).unwrap_or_default());
            let expected = ActionLeaf {
                key: action.key,
                operation: attempt.operation,
                record_hash: decided,
            };
            expected.to_bytes() == leaf
        });
        tallies.expect(Check::I39, planned, || {
            format!("{} is not in its plan", state.entry(attempt.pos))
        });
    }
}

/// A plan may be carried out long after it was made, or again: what a newer decision says counts.
fn decision_stands(
    state: &State,
    tallies: &mut Tallies,
    action: &Action,
    decided: Digest,
    decisions: &Decisions,
) {
    // Without a decision there is none that another could supersede.
    let Some(decided) = state.position(&decided) else {
        return;
    };
    for attempt in &action.attempts {
        let superseding = decisions.superseding(state, &action.key, decided, attempt.pos);
        if let Some(newer) = superseding {
            tallies.fail(
                Check::I39,
                format!(
                    "{} carries out {}, which {} had superseded",
                    state.entry(attempt.pos),
                    state.entry(decided),
                    state.entry(newer)
                ),
            );
        }
    }
}
