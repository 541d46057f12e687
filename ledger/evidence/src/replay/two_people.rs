//! Four eyes: what the policy reserves for two people was proposed by one human and approved by another (I-82).

use super::authority::{human_of_customer_at, same_person};
use super::check::{Check, Tallies};
use super::policies::rules_for;
use super::state::{Meta, Plan, Pos, State, Sym};
use crate::catalogue::stream;
use crate::v1::{self, DecisionAction, PrincipalKind};

/// Judges rights and plans.
pub(super) fn judge(state: &State, tallies: &mut Tallies) {
    let mut latest_ms = Latest::new(state);
    for (pos, right) in &state.rights {
        let reserved = newest_rules(state, *pos, latest_ms.up_to(*pos))
            .is_some_and(|rules| rules.four_eyes_actions.contains(&right.action));
        if !reserved && right.proposal_record_hash.is_empty() {
            continue;
        }
        tallies.checked(Check::I82);
        if let Err(why) = granted_by_two(state, *pos, right) {
            tallies.fail(Check::I82, format!("{} {why}", state.entry(*pos)));
        }
    }
    for plan in state.plans.values() {
        let reserved = rules_for(state, plan.pos).is_some_and(|rules| {
            rules
                .four_eyes_actions
                .contains(&(DecisionAction::Remediate as i32))
        });
        if reserved {
            tallies.checked(Check::I82);
            approved_by_another(state, tallies, plan);
        }
    }
}

/// The latest moment that authority had told of, from place to place.
struct Latest<'s> {
    rest: std::iter::Enumerate<std::slice::Iter<'s, Meta>>,
    authority: Option<Sym>,
    ms: i64,
}

impl<'s> Latest<'s> {
    fn new(state: &'s State) -> Self {
        Self {
            rest: state.metas.iter().enumerate(),
            authority: state.names.find(stream::AUTHORITY),
            ms: i64::MIN,
        }
    }

    /// The same at a place, which is behind those that were asked for.
    fn up_to(&mut self, pos: Pos) -> i64 {
        let own = self.authority;
        for (at, meta) in self.rest.by_ref() {
            if Some(meta.stream) == own {
                self.ms = self.ms.max(meta.occurred_ms);
            }
            if at >= pos as usize {
                break;
            }
        }
        self.ms
    }
}

/// The rules in force at a record of authority: one stream, so the log has them in the order in which they came, and what had begun
/// at `at_ms` goes on whatever time a later record states.
fn newest_rules(state: &State, pos: Pos, at_ms: i64) -> Option<&v1::PolicyRules> {
    let mut before = state.policies.iter().rev();
    let in_force = before.find(|policy| policy.pos < pos && policy.what.effective_from_ms <= at_ms);
    in_force?.what.rules.as_ref()
}

fn granted_by_two(state: &State, pos: Pos, right: &v1::DecisionRightGranted) -> Result<(), String> {
    let found = state
        .position(&right.proposal_record_hash)
        .and_then(|at| Some((at, state.governed.proposals.get(&at)?)));
    let Some((proposed_at, proposal)) = found.filter(|(at, _)| *at < pos) else {
        return Err("was granted by one person, its action needs two".to_owned());
    };
    let same = proposal.right == right.right
        && proposal.grantee == right.grantee
        && proposal.action == right.action
        && proposal.scope == right.scope
        && proposal.tiers == right.tiers
        && proposal.environments == right.environments
        && proposal.valid_from_ms == right.valid_from_ms
        && proposal.valid_to_ms == right.valid_to_ms
        && proposal.grantor == right.grantor;
    if !same {
        return Err("is another right than the one that was proposed".to_owned());
    }
    let meta = state.meta(pos).ok_or("is not there")?;
    let approver = state.names.text(meta.actor);
    let is_approver = |name: &String| {
        let person = state.names.find(name);
        person.is_some_and(|person| same_person(state, person, meta.actor))
    };
    if is_approver(&right.grantor) || is_approver(&right.grantee) {
        return Err(format!(
            "was approved by {approver}, who proposed it or is its grantee"
        ));
    }
    human_of_customer_at(state, meta.actor, pos)
        .map_err(|why| format!("was approved by {approver}, who {why}"))?;
    let active = state
        .governed
        .activated()
        .is_some_and(|active| active.pos < proposed_at);
    let proposer = state
        .meta(proposed_at)
        .map_or("", |meta| state.names.text(meta.actor));
    if active && proposer != right.grantor {
        return Err(format!(
            "was proposed by {proposer} in the name of {}",
            right.grantor
        ));
    }
    Ok(())
}

fn approved_by_another(state: &State, tallies: &mut Tallies, plan: &Plan) {
    let Some(planned) = state.meta(plan.pos) else {
        return;
    };
    let actions = plan
        .actions
        .iter()
        .filter_map(|at| state.actions.get(*at as usize));
    let first = actions
        .flat_map(|action| &action.attempts)
        .map(|attempt| attempt.pos)
        .min();
    let Some(first) = first else {
        return;
    };
    let entry = || state.entry(plan.pos);
    let mut approved = plan
        .resolved
        .iter()
        .filter(|(pos, resume)| *resume && *pos < first);
    let by_another = approved.any(|(pos, _)| {
        state.meta(*pos).is_some_and(|resolved| {
            let human = state
                .principals
                .get(&resolved.actor)
                .is_some_and(|principal| principal.kind == PrincipalKind::Human);
            human
                && !people(state, planned)
                    .any(|one| people(state, resolved).any(|other| same_person(state, one, other)))
        })
    });
    tallies.expect(Check::I82, by_another, || {
        format!(
            "{} was carried out before another human than its planner let it",
            entry()
        )
    });
}

/// Who states a record, and in whose name.
fn people<'s>(state: &'s State, meta: &'s Meta) -> impl Iterator<Item = Sym> + 's {
    let named = state.names.text(meta.on_behalf_of).split_whitespace();
    std::iter::once(meta.actor).chain(named.filter_map(|name| state.names.find(name)))
}
