//! Somebody who may, and a mandate of which something can come.

use super::{
    apt::number,
    command::{ACTIONS, Act, PEOPLE, SOURCES},
    command_mandates::{MandateAct, agents},
    world::{Realm, covers},
};
use crate::model::{
    ids::PrincipalId,
    mandate::{Mandate, State},
    right::{DecisionAction, Scope},
};

/// The newest mandate in this state.
fn newest(realm: &Realm, state: State, now_ms: i64) -> Option<usize> {
    let mut mandates = realm.mandates.iter().rev();
    mandates.position(|one| one.state(now_ms) == state)
}

/// The newest mandate that is in force, by its place.
fn in_force(realm: &Realm, now_ms: i64) -> Option<&Mandate> {
    let mut mandates = realm.mandates.iter().rev();
    mandates.find(|one| {
        let behind = realm.behind(one);
        one.in_force(behind, now_ms).is_some()
    })
}

/// What nothing can come of, is about something else: without a mandate in force, the next draft is granted or who was stopped
/// goes on.
fn turn(realm: &Realm, now_ms: i64, act: &mut MandateAct) {
    let draft = newest(realm, State::Draft, now_ms);
    let stopped = newest(realm, State::Suspended, now_ms);
    let goes = in_force(realm, now_ms).is_some();
    match act {
        // Put forward by one and granted by another.
        MandateAct::Propose(_) if draft.is_none() => {}
        MandateAct::Propose(_) => *act = MandateAct::Grant(0),
        _ if goes => {}
        MandateAct::Certify(_) if newest(realm, State::Active, now_ms).is_some() => {}
        MandateAct::Use { act: number, .. } if draft.is_some() => {
            *act = MandateAct::Grant(*number % 4);
        }
        MandateAct::Get(nth) if draft.is_some() => *act = MandateAct::Grant(*nth),
        _ if stopped.is_some() => *act = MandateAct::Resume(0),
        _ => {}
    }
}

/// Who asks for something about a mandate; `None`: who administers the tenant.
pub(super) fn who(realm: &Realm, now_ms: i64, act: &mut MandateAct) -> Option<usize> {
    turn(realm, now_ms, act);
    let (nth, state) = match act {
        MandateAct::Grant(nth) => (nth, State::Draft),
        MandateAct::Certify(nth) | MandateAct::Suspend(nth) | MandateAct::Revoke(nth) => {
            (nth, State::Active)
        }
        MandateAct::Resume(nth) => (nth, State::Suspended),
        MandateAct::Propose(_) => return None,
        MandateAct::Get(_) => return number(&in_force(realm, now_ms)?.terms.agent),
        MandateAct::Use { agent, action, .. } => {
            let terms = &in_force(realm, now_ms)?.terms;
            *agent = number(&terms.agent)?;
            if !terms.actions.contains(action) {
                *action = terms.actions.first().copied()?;
            }
            return None;
        }
    };
    // Now and then who put it forward tries themselves, by whatever name.
    let tries = *nth > 2;
    *nth = newest(realm, state, now_ms).unwrap_or(*nth);
    let one = realm.mandates.iter().rev().nth(*nth)?;
    match act {
        MandateAct::Grant(_) if tries => match number(&one.proposer)? {
            3 => Some(2),
            proposer => Some(proposer),
        },
        MandateAct::Grant(_) if number(&one.proposer) == Some(0) => Some(2),
        MandateAct::Grant(_) => Some(0),
        _ => None,
    }
}

/// An agent with a mandate in force, and what that lets it decide.
pub(super) fn lets(realm: &Realm, now_ms: i64) -> Option<(usize, DecisionAction)> {
    let terms = &in_force(realm, now_ms)?.terms;
    Some((number(&terms.agent)?, terms.actions.first().copied()?))
}

/// Gives an agent a right to what its mandate lets it decide.
pub(super) const fn give((grantee, action): (usize, DecisionAction)) -> Act {
    Act::Grant {
        grantee,
        action,
        scope: Scope::Everywhere,
        term: (0, 50),
        grantor: None,
    }
}

/// An agent that may decide something, and what on which source.
pub(super) fn deciding(
    realm: &Realm,
    now_ms: i64,
) -> Option<(usize, DecisionAction, &'static str)> {
    let any = agents().flat_map(|agent| ACTIONS.map(|action| (agent, action)));
    let mut any = any.filter_map(|(agent, action)| {
        let offers = realm.offers(agent, action, now_ms);
        let covered = |source: &&&str| offers.iter().any(|(_, scope)| covers(scope, source));
        let source = SOURCES.iter().find(covered)?;
        Some((agent, action, *source))
    });
    any.next()
}

/// An agent without a token.
pub(super) fn without_token(realm: &Realm) -> Option<usize> {
    let active = |who: &usize| {
        let id = PrincipalId::stored(PEOPLE[*who].id.to_owned());
        realm.person(&id).is_some_and(|one| one.is_active())
    };
    agents().find(|who| realm.tokens[*who] == 0 && active(who))
}
