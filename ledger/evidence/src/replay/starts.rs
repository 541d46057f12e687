//! Who lets plans out: whatever went to a target had been started by somebody on record (I-67), and where somebody of a provider starts
//! a plan, the tier of their engagement reaches (I-46). What an AI agent may start is judged with what else it does.

use super::accesses::is_hired;
use super::check::{Check, Tallies};
use super::known::Known;
use super::plans::{first_intent, intents, sources};
use super::state::{Plan, Pos, State};
use super::{Blobs, CLOCK_SKEW_MS, standing};

/// Judges who started plans, and that those which were carried out had been started.
pub(super) fn judge(state: &State, tallies: &mut Tallies, blobs: &dyn Blobs) {
    let known = Known::of(state, blobs, "RemediationStarted");
    let mut before = 0_u64;
    for plan in state.plans.values() {
        for start in &plan.starts {
            tallies.checked(Check::I67);
            if let Err(why) = by_somebody(state, *start) {
                tallies.fail(Check::I67, format!("{} {why}", state.entry(*start)));
            }
            reaches(state, tallies, blobs, (*start, plan));
        }
        let Some(first) = first_intent(state, plan) else {
            continue;
        };
        if !known.at(state, first) {
            before += 1;
            continue;
        }
        tallies.checked(Check::I67);
        if let Some(unstarted) = unstarted(state, plan) {
            let (entry, intent) = (state.entry(plan.pos), state.entry(unstarted));
            tallies.fail(
                Check::I67,
                format!("{entry} was carried out with {intent}, and nobody had started it"),
            );
        }
    }
    if before > 0 {
        let what =
            format!("{before} plans were first carried out before the log knew who starts them");
        tallies.skip(Check::I67, what);
    }
}

/// The first intent of a plan that nobody had started, or not again since it was closed. All of it is told by one service: in its
/// stream order is exact.
fn unstarted(state: &State, plan: &Plan) -> Option<Pos> {
    let mut intents = intents(state, plan);
    intents.sort_unstable();
    intents.into_iter().find(|intent| {
        let closed = plan.closes.iter().map(|close| close.pos);
        let closed = closed.filter(|closed| closed < intent).max();
        let started = newest_start(plan, *intent);
        started.is_none_or(|started| closed.is_some_and(|closed| started < closed))
    })
}

/// Where a plan had been started last.
pub(super) fn newest_start(plan: &Plan, before: Pos) -> Option<Pos> {
    let starts = plan.starts.iter().copied();
    starts.filter(|start| *start < before).max()
}

/// A plan is started by a principal: a service goes on with what somebody started, and starts nothing.
fn by_somebody(state: &State, pos: Pos) -> Result<(), String> {
    let meta = state.meta(pos).ok_or("is not there")?;
    let name = state.names.text(meta.actor);
    let found = state.principals.get(&meta.actor);
    let Some(found) = found.filter(|_| name.starts_with("principals/")) else {
        return Err(format!("is by {name}, who is no registered principal"));
    };
    let at_ms = meta.occurred_ms;
    if at_ms.saturating_add(CLOCK_SKEW_MS) < found.from_ms {
        return Err(format!("is by {name}, who was registered later"));
    }
    let end = state.principals_ended.get(&meta.actor);
    match end.is_some_and(|end| end.effective_ms.saturating_add(CLOCK_SKEW_MS) < at_ms) {
        true => Err(format!("is by {name}, who had ended")),
        false => Ok(()),
    }
}

/// Holds somebody of a provider to where the tier of their engagement reaches.
fn reaches(state: &State, tallies: &mut Tallies, blobs: &dyn Blobs, (pos, plan): (Pos, &Plan)) {
    let actor = state.meta(pos).map(|meta| meta.actor);
    let Some(actor) = actor.filter(|actor| is_hired(state, *actor)) else {
        return;
    };
    tallies.checked(Check::I46);
    let (concerned, all) = sources(state, plan, blobs);
    if let Err(why) = standing::reaches(state, (actor, pos), &concerned, true) {
        tallies.fail(Check::I46, format!("{}: {why}", state.entry(pos)));
    } else if !all {
        let entry = state.entry(plan.pos);
        tallies.skip(
            Check::I46,
            format!("the actions of {entry} are not in the bundle"),
        );
    }
}
