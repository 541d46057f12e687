//! How fast removals were, recomputed from recorded times (G13). Nobody's word for it.

use std::collections::HashMap;

use super::check::{Check, Tallies};
use super::ending::verified;
use super::plans::Deciders;
use super::state::{Action, At, Effect, Ended, Plan, Pos, State};
use crate::v1::RemediationClosed;

/// Judges the times that GrantEnded and RemediationClosed report.
pub(super) fn judge(state: &State, tallies: &mut Tallies, deciders: &Deciders) {
    let effects: HashMap<Pos, (&Action, &Effect)> = state
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
        tallies.checked(Check::G13);
        // A grant that ended on no read-back is told under I-33.
        let Some((action, effect)) = state
            .position(&ended.verified)
            .and_then(|pos| effects.get(&pos))
        else {
            continue;
        };
        if let Err(why) = latencies(state, ended, action, effect) {
            tallies.fail(Check::G13, format!("{}: {why}", state.entry(ended.pos)));
        }
    }
    for (name, plan) in &state.plans {
        for close in &plan.closes {
            tallies.checked(Check::G13);
            if deciders.unread(*name) {
                let entry = state.entry(plan.pos);
                tallies.skip(
                    Check::G13,
                    format!("the actions of {entry} are not in the bundle"),
                );
                continue;
            }
            if let Err(why) = percentiles(state, plan, close, deciders) {
                tallies.fail(Check::G13, format!("{}: {why}", state.entry(close.pos)));
            }
        }
    }
}

fn latencies(state: &State, ended: &Ended, action: &Action, effect: &Effect) -> Result<(), String> {
    let decided_ms = state
        .position(&ended.decision)
        .map(|pos| state.occurred_ms(pos))
        .ok_or("cites no decision")?;
    let started_ms = action
        .attempts
        .iter()
        .find_map(|attempt| attempt.answer)
        .map(|answer| answer.started_ms);
    let ended_ms = effect
        .after_attempt
        .and_then(|at| action.attempts.get(at as usize))
        .and_then(|attempt| attempt.answer)
        .map(|answer| answer.ended_ms);
    let (Some(started_ms), Some(ended_ms)) = (started_ms, ended_ms) else {
        // A crash took the answer: what cannot be known is reported as 0.
        return Ok(());
    };
    let decided_to_attempted = started_ms.saturating_sub(decided_ms);
    if ended.decided_to_attempted_ms != decided_to_attempted {
        return Err(format!(
            "reports {} ms from decision to attempt, the records say {decided_to_attempted}",
            ended.decided_to_attempted_ms
        ));
    }
    let attempted_to_verified = effect.observed_ms.saturating_sub(ended_ms);
    if ended.attempted_to_verified_ms != attempted_to_verified {
        return Err(format!(
            "reports {} ms from attempt to verified absence, the records say {attempted_to_verified}",
            ended.attempted_to_verified_ms
        ));
    }
    Ok(())
}

/// Time from the decision of a removal to its verified absence.
pub(super) fn decided_to_verified(
    state: &State,
    action: &Action,
    effect: &Effect,
    deciders: &Deciders,
) -> Option<i64> {
    let decided = deciders.get(action.remediation, action.key)?;
    let decided_ms = state.occurred_ms(state.position(decided)?);
    Some(effect.observed_ms.saturating_sub(decided_ms))
}

fn percentiles(
    state: &State,
    plan: &Plan,
    close: &At<RemediationClosed>,
    deciders: &Deciders,
) -> Result<(), String> {
    let mut times: Vec<i64> = verified(state, plan, close.pos)
        .filter_map(|(action, effect)| decided_to_verified(state, action, effect, deciders))
        .collect();
    times.sort_unstable();
    let record = &close.what;
    let (Some(low), Some(high), Some(max)) = (
        times.get(times.len().saturating_sub(1) / 2),
        times.get(times.len() / 2),
        times.last(),
    ) else {
        if record.decided_to_verified_p50_ms == 0 && record.decided_to_verified_max_ms == 0 {
            return Ok(());
        }
        return Err("reports times and has no verified removal".to_owned());
    };
    // An even number of times has two medians; either, or what lies between, is one.
    if !(*low..=*high).contains(&record.decided_to_verified_p50_ms) {
        return Err(format!(
            "reports a median of {} ms, the records say {low} to {high}",
            record.decided_to_verified_p50_ms
        ));
    }
    if record.decided_to_verified_max_ms != *max {
        return Err(format!(
            "reports a maximum of {} ms, the records say {max}",
            record.decided_to_verified_max_ms
        ));
    }
    Ok(())
}
