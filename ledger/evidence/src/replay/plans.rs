//! Plans: what they hold, that they waited when they were too large, and that nothing was done that was not planned.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::absorb::digest;
use super::authority::rules_for;
use super::check::{Check, Tallies};
use super::state::{Action, Digest, Plan, Pos, State, Sym};
use super::{Blobs, CLOCK_SKEW_MS};
use super::{recon, sets};
use crate::leaf::{
    ACTION_LEAF_LEN, ActionLeaf, AuthorizedLeaf, AuthorizedStatus, GRANT_KEY_LEN, GrantKey,
    SourceTag,
};
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

/// Everything that was decided on grants.
#[derive(Debug)]
struct Decisions {
    /// In order of the log.
    all: Vec<(Pos, AuthorizedLeaf)>,
    /// Where something was decided on each grant that was acted on, in order of the log.
    of: HashMap<GrantKey, Vec<Pos>>,
}

impl Decisions {
    fn collect(state: &State) -> Self {
        let all = recon::decisions(state);
        let mut of: HashMap<GrantKey, Vec<Pos>> = state
            .actions
            .iter()
            .map(|action| (action.key, Vec::new()))
            .collect();
        for (pos, leaf) in &all {
            if let Some(found) = of.get_mut(&leaf.key) {
                found.push(*pos);
            }
        }
        Self { all, of }
    }

    /// Whether a record decided that a grant goes, or approved it for a time that was over by then.
    fn removes(&self, key: GrantKey, decided: Pos, by_ms: i64) -> bool {
        let found = self.all.binary_search_by_key(&decided, |(pos, _)| *pos);
        let leaf = found.ok().and_then(|at| self.all.get(at));
        leaf.is_some_and(|(_, leaf)| {
            let over = || i64::try_from(leaf.not_after_ms).is_ok_and(|until| until <= by_ms);
            leaf.key == key && (leaf.status == AuthorizedStatus::Revoked || over())
        })
    }

    /// The decision that came after the one that an attempt carries out, long enough before the attempt to be known.
    fn superseding(&self, state: &State, key: &GrantKey, decided: Pos, intent: Pos) -> Option<Pos> {
        let known_ms = state.recorded_ms(intent).saturating_sub(CLOCK_SKEW_MS);
        self.of
            .get(key)?
            .iter()
            .copied()
            .find(|pos| decided < *pos && *pos < intent && state.recorded_ms(*pos) < known_ms)
    }
}

/// Judges that intents are of their plans, and tells who decided each action.
pub(super) fn judge(state: &State, tallies: &mut Tallies, blobs: &dyn Blobs) -> Deciders {
    let mut deciders = Deciders::default();
    let decisions = Decisions::collect(state);
    for (name, plan) in &state.plans {
        threshold(state, tallies, plan);
        as_the_policy_asks(state, tallies, plan);
        answers(state, tallies, plan);
        one_action_a_grant(state, tallies, plan);
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
                let decided = digest(decided);
                was_decided(state, tallies, plan, (key, &decided), &decisions);
                deciders.of_action.insert((*name, key), decided);
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
    let observed = run_of(state, plan).map_or(0, |run| run.observed_count);
    let (count_max, permille_max) = (rules.threshold_count, rules.threshold_permille);
    let above = (count_max > 0 && actions > count_max.into())
        || (permille_max > 0
            && u128::from(actions) * 1_000 > u128::from(permille_max) * u128::from(observed));
    tallies.expect(Check::I59, !above || plan.tripped.is_some(), || {
        format!("{} is above the threshold and was not held", entry())
    });
    // All of it is told by one service: in its stream order is exact.
    let resumed = plan.resolved.iter().find(|(_, resume)| *resume);
    let waited = match (first_intent(state, plan), plan.tripped, resumed) {
        (None, ..) => true,
        (Some(first), Some(held), Some((resumed, _))) => held < *resumed && *resumed < first,
        (Some(_), ..) => false,
    };
    tallies.expect(Check::I59, !above || waited, || {
        let entry = entry();
        format!("{entry} is above the threshold and was carried out before a human resolved it")
    });
    tallies.expect(Check::I59, plan.resolved.len() <= 1, || {
        format!("{} was resolved more than once", entry())
    });
    for (pos, _) in &plan.resolved {
        let meta = state.meta(*pos);
        let human = meta.is_some_and(|meta| {
            let known = state.principals.get(&meta.actor);
            known.is_some_and(|principal| principal.kind == v1::PrincipalKind::Human)
        });
        tallies.expect(Check::I59, human, || {
            let resolution = state.entry(*pos);
            format!("{} was resolved by no human in {resolution}", entry())
        });
    }
}

/// The run whose findings a plan is about.
fn run_of<'s>(state: &'s State, plan: &Plan) -> Option<&'s v1::ReconRunSealed> {
    let mut runs = state.runs.iter().map(|run| &run.what.record);
    runs.find(|run| run.recon_run == plan.record.recon_run)
}

/// The sources that a plan is about, and whether these are all: without the plan's actions, those of whatever was tried under it are
/// known alone.
pub(super) fn sources<'s>(
    state: &'s State,
    plan: &Plan,
    blobs: &dyn Blobs,
) -> (Vec<&'s str>, bool) {
    let tried = plan.actions.iter();
    let tried = tried.filter_map(|at| state.actions.get(*at as usize));
    let mut tags: BTreeSet<[u8; 8]> = tried.map(|action| action.key.source_tag().0).collect();
    let blob = plan.actions_blob.and_then(|digest| blobs.load(&digest));
    let leaves = blob.as_deref().unwrap_or_default();
    let leaves = leaves.chunks_exact(ACTION_LEAF_LEN);
    tags.extend(leaves.filter_map(|leaf| leaf.first_chunk::<8>()));
    let found = tags.into_iter();
    let found = found.filter_map(|tag| state.source_of(SourceTag(tag)));
    let found = found.map(|source| source.source.as_str()).collect();
    (found, blob.is_some())
}

/// Where a plan was carried out, in no order.
pub(super) fn intents(state: &State, plan: &Plan) -> Vec<Pos> {
    let actions = plan.actions.iter();
    let attempts = actions
        .filter_map(|at| state.actions.get(*at as usize))
        .flat_map(|action| &action.attempts);
    attempts.map(|attempt| attempt.pos).collect()
}

/// Where a plan was first carried out.
pub(super) fn first_intent(state: &State, plan: &Plan) -> Option<Pos> {
    intents(state, plan).into_iter().min()
}

/// A plan promises what its policy asks for, and not less.
fn as_the_policy_asks(state: &State, tallies: &mut Tallies, plan: &Plan) {
    // Without a policy it is told under I-59.
    let Some(rules) = rules_for(state, plan.pos) else {
        return;
    };
    let record = &plan.record;
    tallies.expect(
        Check::I33,
        record.val_required >= rules.val_required,
        || {
            format!(
                "{} is content with level {}, its policy requires {}",
                state.entry(plan.pos),
                record.val_required,
                rules.val_required
            )
        },
    );
    let same = record.persistence_offsets_ms == rules.persistence_offsets_ms;
    tallies.expect(Check::I37, same, || {
        let entry = state.entry(plan.pos);
        format!("{entry} is read again at other times than its policy says")
    });
}

/// A grant that is acted on under two names would be counted for two.
fn one_action_a_grant(state: &State, tallies: &mut Tallies, plan: &Plan) {
    let mut acted_on = HashSet::new();
    for action in plan
        .actions
        .iter()
        .filter_map(|at| state.actions.get(*at as usize))
    {
        tallies.expect(Check::I39, acted_on.insert(action.key), || {
            let entry = state.entry(plan.pos);
            let name = state.names.text(action.name);
            format!("{entry} has {name} on a grant that another of its actions is on")
        });
    }
}

/// What a plan names as deciding a removal did decide it.
fn was_decided(
    state: &State,
    tallies: &mut Tallies,
    plan: &Plan,
    (key, decided): (GrantKey, &Digest),
    decisions: &Decisions,
) {
    // The run found that an approval was over; a clock that was set back since does not bring it to life again.
    let found_ms = run_of(state, plan).map_or(i64::MIN, |run| run.as_of_ms);
    let by_ms = state.occurred_ms(plan.pos).max(found_ms);
    let by_ms = by_ms.saturating_add(CLOCK_SKEW_MS);
    let removes = state
        .position(decided)
        .is_some_and(|decided| decisions.removes(key, decided, by_ms));
    tallies.expect(Check::I39, removes, || {
        let entry = state.entry(plan.pos);
        match state.position(decided) {
            Some(decided) => {
                let decided = state.entry(decided);
                format!("{entry} removes a grant on {decided}, which does not say that it goes")
            }
            None => format!("{entry} removes a grant on a decision that is not in the log"),
        }
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
    // What is no decision is told above.
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
