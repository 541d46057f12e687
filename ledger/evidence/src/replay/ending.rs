//! What was closed, and on what: grants, remediations, findings (I-33).

use std::collections::HashMap;

use super::check::{Check, Tallies};
use super::plans::Deciders;
use super::remediation::removes;
use super::state::{Action, At, Effect, Ended, Plan, Pos, State, Sym};
use crate::v1::{FindingState, RemediationClosed, RemediationOutcome};

/// Every read-back by its place in the log.
type Effects<'s> = HashMap<Pos, (&'s Action, &'s Effect)>;

/// Judges what was closed on the read-backs that stand.
pub(super) fn judge(state: &State, tallies: &mut Tallies, deciders: &Deciders) {
    let effects: Effects<'_> = state
        .actions
        .iter()
        .flat_map(|action| {
            action
                .effects
                .iter()
                .map(move |effect| (effect.pos, (action, effect)))
        })
        .collect();
    for ended in &state.grants_ended {
        tallies.checked(Check::I33);
        if let Err(why) = grant(state, &effects, ended, deciders) {
            tallies.fail(Check::I33, format!("{}: {why}", state.entry(ended.pos)));
        }
    }
    for plan in state.plans.values() {
        for close in &plan.closes {
            tallies.checked(Check::I33);
            if let Err(why) = remediation(state, plan, close) {
                tallies.fail(Check::I33, format!("{}: {why}", state.entry(close.pos)));
            }
        }
    }
    findings(state, tallies, &effects);
}

/// Whether a read-back proves a removal at the level that its plan requires.
pub(super) fn closes(plan: &Plan, effect: &Effect) -> bool {
    effect.stands && removes(effect.claim) && effect.val >= plan.record.val_required
}

fn grant(
    state: &State,
    effects: &Effects<'_>,
    ended: &Ended,
    deciders: &Deciders,
) -> Result<(), &'static str> {
    let (action, effect) = state
        .position(&ended.verified)
        .and_then(|pos| effects.get(&pos))
        .ok_or("cites no read-back")?;
    if action.key != ended.key || effect.pos > ended.pos {
        return Err("cites the read-back of another grant, or a later one");
    }
    let plan = state
        .plans
        .get(&action.remediation)
        .ok_or("its action has no plan")?;
    if !closes(plan, effect) {
        return Err("cites a read-back that does not prove the removal at the level required");
    }
    match deciders.get(action.remediation, action.key) {
        Some(decided) if *decided == ended.decision => Ok(()),
        Some(_) => Err("cites another decision than its plan"),
        // Without the plan's attachment the plan itself is skipped.
        None => Ok(()),
    }
}

/// Actions of a plan whose removal is proved on record before a place, and had not come back by then.
pub(super) fn verified<'s>(
    state: &'s State,
    plan: &'s Plan,
    before: Pos,
) -> impl Iterator<Item = (&'s Action, &'s Effect)> {
    plan.actions
        .iter()
        .filter_map(|at| state.actions.get(*at as usize))
        .filter_map(move |action| {
            let effect = action
                .effects
                .iter()
                .find(|effect| effect.pos < before && closes(plan, effect))?;
            let back = action
                .regressions
                .iter()
                .filter(|regression| regression.pos < before)
                .map(|regression| regression.pos)
                .max();
            let again = action.effects.iter().any(|effect| {
                Some(effect.pos) > back && effect.pos < before && closes(plan, effect)
            });
            (back.is_none() || again).then_some((action, effect))
        })
}

fn remediation(state: &State, plan: &Plan, close: &At<RemediationClosed>) -> Result<(), String> {
    let record = &close.what;
    let count = verified(state, plan, close.pos).count() as u64;
    if record.verified_count != count {
        return Err(format!(
            "counts {} removals as verified, {count} are",
            record.verified_count
        ));
    }
    if record.verified_count.saturating_add(record.open_count) != plan.record.actions_count {
        return Err("its counts do not sum to its actions".to_owned());
    }
    let resumed = plan.resolved.is_empty() || plan.goes_on();
    let fits = match record.outcome() {
        RemediationOutcome::Closed => record.open_count == 0 && count > 0,
        RemediationOutcome::Partial => record.open_count > 0 && count > 0,
        RemediationOutcome::Failed | RemediationOutcome::Unverifiable => count == 0,
        RemediationOutcome::Cancelled => !resumed,
        RemediationOutcome::Unspecified => false,
    };
    if !fits {
        return Err(format!(
            "is {:?} with {} of {} verified",
            record.outcome(),
            count,
            plan.record.actions_count
        ));
    }
    Ok(())
}

/// A finding is resolved by a read-back of its grant from after it was opened or open again, or by a run that recomputes and does not show it any more; by nothing
/// else.
fn findings(state: &State, tallies: &mut Tallies, effects: &Effects<'_>) {
    let mut open_again: HashMap<Sym, Pos> = HashMap::new();
    for change in &state.finding_changes {
        tallies.checked(Check::I33);
        let finding = state
            .finding_at
            .get(&change.finding)
            .and_then(|at| state.findings.get(*at as usize));
        let Some(finding) = finding else {
            tallies.fail(
                Check::I33,
                format!("{} is of no finding", state.entry(change.pos)),
            );
            continue;
        };
        if matches!(change.state, FindingState::Open | FindingState::Reopened) {
            open_again.insert(change.finding, change.pos);
        }
        if change.state != FindingState::ResolvedVerified {
            continue;
        }
        match state.resolved_by_runs.get(&change.pos) {
            Some(Some(true)) => continue,
            Some(None) => {
                tallies.skip(
                    Check::I33,
                    format!("the run cited by {} is not judged", state.entry(change.pos)),
                );
                continue;
            }
            Some(Some(false)) | None => {}
        }
        let since = open_again.get(&change.finding).copied();
        let since = since.unwrap_or(finding.pos);
        let proved = state
            .position(&change.evidence)
            .and_then(|pos| effects.get(&pos))
            .is_some_and(|(action, effect)| {
                action.key == finding.key
                    && (since..change.pos).contains(&effect.pos)
                    && state
                        .plans
                        .get(&action.remediation)
                        .is_some_and(|plan| closes(plan, effect))
            });
        tallies.expect(Check::I33, proved, || {
            format!(
                "{} resolves a finding without an effect that was verified since it is open",
                state.entry(change.pos)
            )
        });
    }
}
