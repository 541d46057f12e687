//! Access in an emergency: two humans, at most four hours, a third who looks at it afterwards (I-43).

use std::collections::HashSet;

use super::accesses::is_hired;
use super::authority::{same_person, there};
use super::check::{Check, Tallies};
use super::state::{Pos, State};
use super::{CLOCK_SKEW_MS, OVERDUE_GRACE_MS};
use crate::v1::{EmergencyAccessActivated, OrganizationKind, PrincipalKind};

/// The role that no emergency gives.
const GOVERNING: &str = "tenant-administrator";
const HOUR_MS: i64 = 3_600_000;
/// Longest access in an emergency, milliseconds.
const LIFE_MS_MAX: i64 = 4 * HOUR_MS;
/// How long a request waits for a second human, milliseconds.
const REQUEST_MS: i64 = HOUR_MS;
/// When it must have been reviewed, milliseconds after its end.
const REVIEW_MS: i64 = 72 * HOUR_MS;

/// Judges every access in an emergency, and the reviews.
pub(super) fn judge(state: &State, tallies: &mut Tallies) {
    let mut begun = HashSet::new();
    for (pos, access) in &state.governed.emergencies {
        tallies.checked(Check::I43);
        let first = begun.insert(&access.request_record_hash);
        tallies.expect(Check::I43, first, || {
            format!(
                "{} is let begin on the request of another",
                state.entry(*pos)
            )
        });
        let judged =
            by_two_humans(state, *pos, access).and_then(|()| reviewed(state, *pos, access));
        if let Err(why) = judged {
            tallies.fail(Check::I43, format!("{} {why}", state.entry(*pos)));
        }
    }
    let governed = &state.governed;
    let reviews = governed.emergencies_reviewed.iter();
    let reviews = reviews.map(|review| (review.pos, &review.what.activation_record_hash));
    let missed = governed.reviews_missed.iter();
    let missed = missed.map(|missed| (missed.pos, &missed.what.activation_record_hash));
    for (pos, hash) in reviews.chain(missed) {
        let known = state
            .position(hash)
            .is_some_and(|at| governed.emergencies.contains_key(&at));
        tallies.expect(Check::I43, known, || {
            format!("{} is of an access that never was", state.entry(pos))
        });
    }
}

fn by_two_humans(state: &State, pos: Pos, access: &EmergencyAccessActivated) -> Result<(), String> {
    let meta = state.meta(pos).ok_or("is not there")?;
    let requested = state
        .position(&access.request_record_hash)
        .filter(|at| *at < pos)
        .and_then(|at| {
            Some((
                state.meta(at)?,
                state.governed.emergencies_requested.get(&at)?,
            ))
        });
    let Some((requested, request)) = requested else {
        return Err("was never asked for".to_owned());
    };
    let waited_ms = meta.occurred_ms.saturating_sub(requested.occurred_ms);
    if waited_ms >= REQUEST_MS {
        return Err("was let begin more than an hour after it was asked for".to_owned());
    }
    let same = request.access == access.access
        && request.requester == access.requester
        && request.roles == access.roles
        && request.actions == access.actions
        && request.scope == access.scope;
    if !same || state.names.text(requested.actor) != access.requester {
        return Err("is not what its requester asked for".to_owned());
    }
    let alone = same_person(state, requested.actor, meta.actor);
    if state.names.text(meta.actor) != access.approver || alone {
        return Err("was not let begin by a second human".to_owned());
    }
    if access.roles.iter().any(|role| role == GOVERNING) {
        return Err("lets govern the tenant, which outlasts it".to_owned());
    }
    let life_ms = access.valid_to_ms.saturating_sub(access.valid_from_ms);
    if life_ms <= 0 || life_ms > LIFE_MS_MAX || life_ms > request.duration_ms {
        return Err("lasts longer than was asked for, or than four hours".to_owned());
    }
    if access.valid_from_ms != meta.occurred_ms {
        return Err("began at another time than it was let begin".to_owned());
    }
    let mut of_customer = false;
    for person in [&access.requester, &access.approver] {
        of_customer |= human(state, person, pos)?;
    }
    match of_customer {
        true => Ok(()),
        false => Err("was let begin without the customer".to_owned()),
    }
}

/// Whether a human who was there at a place of the stream of authority is of the customer.
fn human(state: &State, name: &str, pos: Pos) -> Result<bool, String> {
    let found = there(state, name, pos);
    let found = found.map_err(|why| format!("names {name}, who {why}"))?;
    match found.kind() {
        PrincipalKind::Human => Ok(found.organization_kind() == OrganizationKind::Customer),
        _ => Err(format!("names {name}, who is no human")),
    }
}

fn is_of_provider(state: &State, name: &str) -> bool {
    state
        .names
        .find(name)
        .is_some_and(|who| is_hired(state, who))
}

fn reviewed(state: &State, pos: Pos, access: &EmergencyAccessActivated) -> Result<(), String> {
    let governed = &state.governed;
    let hash = state.meta(pos).map_or([0; 32], |meta| meta.hash);
    let early = state.names.find(&access.access);
    let early = early.and_then(|id| governed.emergencies_ended.get(&id));
    let end_ms = early.map_or(access.valid_to_ms, |end| {
        end.effective_ms.min(access.valid_to_ms)
    });
    let due_ms = end_ms.saturating_add(REVIEW_MS);
    let review = governed
        .emergencies_reviewed
        .iter()
        .find(|review| review.what.activation_record_hash == hash);
    let missed = governed
        .reviews_missed
        .iter()
        .find(|missed| missed.what.activation_record_hash == hash);
    if let Some(review) = review {
        let reviewer = &review.what.reviewer;
        let actor = state
            .meta(review.pos)
            .map_or("", |meta| state.names.text(meta.actor));
        let of_two = |name: &String| {
            let person = state.names.find(name).zip(state.names.find(actor));
            person.is_some_and(|(one, other)| same_person(state, one, other))
        };
        if *reviewer != actor || of_two(&access.requester) || of_two(&access.approver) {
            return Err("was not reviewed by a third human".to_owned());
        }
        let at_ms = state.occurred_ms(review.pos);
        let by_customer = human(state, reviewer, review.pos)?;
        let two = [&access.requester, &access.approver];
        if !by_customer && two.into_iter().any(|one| is_of_provider(state, one)) {
            return Err("was of a provider's human, and the customer did not review it".to_owned());
        }
        if at_ms < end_ms {
            return Err("was reviewed before it had ended".to_owned());
        }
        if at_ms > due_ms.saturating_add(CLOCK_SKEW_MS) && missed.is_none() {
            return Err("was reviewed too late, and nothing says so".to_owned());
        }
    }
    let told = review.is_some() || missed.is_some();
    if !told && due_ms.saturating_add(OVERDUE_GRACE_MS) < state.last_recorded_ms() {
        return Err("was not reviewed within 72 hours, and nothing says so".to_owned());
    }
    if let Some(missed) = missed
        && (missed.what.due_ms < due_ms || state.occurred_ms(missed.pos) < due_ms)
    {
        return Err("is said to have missed a review that was not due yet".to_owned());
    }
    Ok(())
}
