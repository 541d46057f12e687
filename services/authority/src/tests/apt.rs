//! Somebody who may: without it most of what chance asks for is refused at the door, and little is ever held.

use super::{
    apt_mandates,
    command::{Act, CALLERS, Command, PEOPLE, Source},
    command_holds::HoldAct,
    world::{Realm, World, place},
};
use crate::model::{
    emergency::Phase, ids::PrincipalId, right::DecisionAction, tenant::TenantState,
};

/// The command, by somebody of the tenant who is likely to be let, as far as that can be told.
pub(super) fn by_who_may(command: &Command, world: &World) -> Command {
    let mut command = command.clone();
    if command.apt {
        command.tenant = command.caller.0;
        let realm = &world.realms[command.tenant];
        let now_ms = world.now_ms + command.after_ms;
        let administrator = if command.caller.1.is_multiple_of(2) {
            0
        } else {
            2
        };
        command.caller.1 =
            who(realm, now_ms, &mut command.act, administrator).unwrap_or(administrator);
    }
    command
}

/// Their number, if they can call.
pub(super) fn number(id: &PrincipalId) -> Option<usize> {
    let callers = &PEOPLE[..CALLERS];
    callers.iter().position(|one| one.id == id.as_str())
}

/// The newest access in this state.
fn newest(realm: &Realm, phase: Phase, now_ms: i64) -> Option<usize> {
    let mut accesses = realm.emergencies.iter().rev();
    accesses.position(|one| one.phase(now_ms) == phase)
}

/// Who asks; `None`: who administers the tenant. What nothing can come of, is about something else.
fn who(realm: &Realm, now_ms: i64, act: &mut Act, administrator: usize) -> Option<usize> {
    let right = |nth| place(realm.rights.len(), nth).map(|at| &realm.rights[at]);
    let passed = |nth| place(realm.delegations.len(), nth).map(|at| &realm.delegations[at]);
    // To what its mandate lets an agent do, it must be given a right.
    let lets = apt_mandates::lets(realm, now_ms).filter(|_| administrator == 2);
    match act {
        Act::ApproveRight(nth) => {
            let waits = realm.rights.iter().rev().position(|one| one.proposed);
            *nth = waits.unwrap_or(*nth);
            let by_first = number(&right(*nth)?.grantor) == Some(0);
            Some(if by_first { 2 } else { 0 })
        }
        Act::Grant {
            grantee, action, ..
        } => {
            (*grantee, *action) = lets.unwrap_or((*grantee, *action));
            None
        }
        Act::Delegate { source, .. } => passes_on(realm, now_ms, source),
        Act::RevokeDelegation(nth) => number(&passed(*nth)?.delegator),
        Act::Absence { .. } => number(&right(0)?.grantee),
        Act::AskEmergency { .. } => Some(administrator + 1),
        Act::ApproveEmergency(_) | Act::EndEmergency(_) | Act::ReviewEmergency(_) => {
            in_emergency(realm, now_ms, act)
        }
        Act::Decide(action, source) => {
            if let Some((agent, what, on)) = apt_mandates::deciding(realm, now_ms) {
                (*action, *source) = (what, on);
                return Some(agent);
            }
            if let Some(lets) = lets {
                *act = apt_mandates::give(lets);
                return None;
            }
            let (holder, held) = holding(realm, administrator == 0)?;
            *action = held;
            number(holder)
        }
        Act::Mandate(act) => apt_mandates::who(realm, now_ms, act),
        Act::IssueToken(to) => {
            *to = apt_mandates::without_token(realm).unwrap_or(*to);
            None
        }
        Act::Publish(_)
        | Act::Suspend
        | Act::Resume
        | Act::BeginExit
        | Act::TakeEvidence
        | Act::Close => goes_on(realm, act),
        Act::Hold(HoldAct::Release(nth)) => {
            *nth = in_force(realm).unwrap_or(*nth);
            releases(realm, *nth)
        }
        _ => None,
    }
}

/// Who lets a tenant go on that is paused, or lets it go that leaves.
fn goes_on(realm: &Realm, act: &mut Act) -> Option<usize> {
    *act = match (realm.state, realm.evidence_taken, in_force(realm)) {
        (TenantState::Suspended, ..) => Act::Resume,
        (TenantState::Exiting, false, _) => Act::TakeEvidence,
        (TenantState::Exiting, true, None) => Act::Close,
        (TenantState::Exiting, true, Some(nth)) => {
            *act = Act::Hold(HoldAct::Release(nth));
            return releases(realm, nth);
        }
        _ => return None,
    };
    None
}

/// The newest hold in force.
fn in_force(realm: &Realm) -> Option<usize> {
    let mut holds = realm.holds.iter().rev();
    holds.position(|one| one.release.is_none())
}

/// Another administrator than who placed a hold.
fn releases(realm: &Realm, nth: usize) -> Option<usize> {
    let at = place(realm.holds.len(), nth)?;
    let by_first = number(&realm.holds[at].placed_by) == Some(0);
    Some(if by_first { 2 } else { 0 })
}

/// Who passes on what: what was passed on to them, or a right that holds.
fn passes_on(realm: &Realm, now_ms: i64, source: &mut Source) -> Option<usize> {
    let mut rights = realm.rights.iter().rev();
    let holding = rights.position(|one| one.holds(now_ms)).unwrap_or_default();
    match *source {
        Source::Delegation(nth) if !realm.delegations.is_empty() => {
            let at = place(realm.delegations.len(), nth)?;
            number(&realm.delegations[at].delegate)
        }
        _ => {
            *source = Source::Right(holding);
            let at = place(realm.rights.len(), holding)?;
            number(&realm.rights[at].grantee)
        }
    }
}

/// Who was given something last, or rather had it passed on to them, and what.
fn holding(realm: &Realm, passed_on: bool) -> Option<(&PrincipalId, DecisionAction)> {
    let own = realm.rights.last().map(|one| (&one.grantee, one.action));
    let latest = realm.delegations.last();
    let latest = latest.map(|one| (&one.delegate, one.action));
    latest.filter(|_| passed_on).or(own)
}

/// Who does something about an access in an emergency: what is over is reviewed, what is active ends, what was asked for begins.
fn in_emergency(realm: &Realm, now_ms: i64, act: &mut Act) -> Option<usize> {
    let newest = |phase| newest(realm, phase, now_ms);
    let reviews = matches!(act, Act::ReviewEmergency(_));
    let begins = matches!(act, Act::ApproveEmergency(_));
    let (phase, nth) = [Phase::Ended, Phase::Active, Phase::Requested]
        .into_iter()
        .filter(|phase| reviews || *phase != Phase::Ended)
        .filter(|phase| !begins || *phase == Phase::Requested)
        .find_map(|phase| Some((phase, newest(phase)?)))?;
    let at = place(realm.emergencies.len(), nth)?;
    let requester = number(&realm.emergencies[at].requester);
    match phase {
        // Neither who asked nor, most times, who approved.
        Phase::Ended => {
            *act = Act::ReviewEmergency(nth);
            Some(4)
        }
        Phase::Active => {
            *act = Act::EndEmergency(nth);
            requester
        }
        _ => {
            *act = Act::ApproveEmergency(nth);
            Some(if requester == Some(0) { 2 } else { 0 })
        }
    }
}
