//! Somebody who may: without it most of what chance asks for is refused at the door, and little is ever held.

use super::{
    command::{Act, CALLERS, Command, PEOPLE, Source},
    world::{Realm, World, place},
};
use crate::model::{emergency::Phase, ids::PrincipalId, tenant::TenantState};

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
fn number(id: &PrincipalId) -> Option<usize> {
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
    let urgent = |nth| place(realm.emergencies.len(), nth).map(|at| &realm.emergencies[at]);
    match act {
        Act::ApproveRight(nth) => {
            let waits = realm.rights.iter().rev().position(|one| one.proposed);
            *nth = waits.unwrap_or(*nth);
            let by_first = number(&right(*nth)?.grantor) == Some(0);
            Some(if by_first { 2 } else { 0 })
        }
        Act::Delegate { source, .. } => {
            let mut rights = realm.rights.iter().rev();
            let holding = rights.position(|one| one.holds(now_ms)).unwrap_or_default();
            match *source {
                Source::Delegation(nth) if !realm.delegations.is_empty() => {
                    number(&passed(nth)?.delegate)
                }
                _ => {
                    *source = Source::Right(holding);
                    number(&right(holding)?.grantee)
                }
            }
        }
        Act::RevokeDelegation(nth) => number(&passed(*nth)?.delegator),
        Act::Absence { .. } => number(&right(0)?.grantee),
        Act::AskEmergency { .. } => Some(administrator + 1),
        Act::ApproveEmergency(nth) => {
            *nth = newest(realm, Phase::Requested, now_ms).unwrap_or(*nth);
            None
        }
        Act::EndEmergency(nth) => {
            *nth = newest(realm, Phase::Active, now_ms).unwrap_or(*nth);
            number(&urgent(*nth)?.requester)
        }
        // Neither who asked nor, most times, who approved.
        Act::ReviewEmergency(nth) => {
            *nth = newest(realm, Phase::Ended, now_ms).unwrap_or(*nth);
            Some(4)
        }
        Act::Decide(action, _) => {
            let latest = passed(0).map(|one| (&one.delegate, one.action));
            let own = right(0).map(|one| (&one.grantee, one.action));
            let (holder, held) = match administrator {
                0 => latest.or(own)?,
                _ => own?,
            };
            *action = held;
            number(holder)
        }
        Act::Publish(_)
        | Act::Suspend
        | Act::Resume
        | Act::BeginExit
        | Act::TakeEvidence
        | Act::Close => {
            *act = match (realm.state, realm.evidence_taken) {
                (TenantState::Suspended, _) => Act::Resume,
                (TenantState::Exiting, false) => Act::TakeEvidence,
                (TenantState::Exiting, true) => Act::Close,
                _ => return None,
            };
            None
        }
        _ => None,
    }
}
