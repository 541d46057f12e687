//! On what every access of a provider's people rested: engagement, assignment, competency, tier, attestation, reassessment, and in a
//! pilot the duties that the customer keeps (I-45, I-46, I-47, I-49, I-51).

use super::CLOCK_SKEW_MS;
use super::accesses::is_hired;
use super::check::{Check, Tallies};
use super::places;
use super::providers::{Counted, Engagement, Moment, Told, by_provider};
use super::state::{At, Meta, Pos, State, Sym};
use crate::engagement::{
    ALWAYS_METHODS, ASSURANCE_DAYS_MAX, DAY_MS, ENVIRONMENT, EVIDENCE_DAYS_MAX, FRESH_MS_MAX,
    LEVEL_MAX, PILOT_DUTIES, controls, topics,
};
use crate::v1::{
    self, EngagementProfile, OperatorAccessUsed, OrganizationKind, ReassessmentResult,
};

/// Whether a call is for showing what an operator can, which nobody needs evidence for.
pub(super) fn shows_evidence(used: &OperatorAccessUsed) -> bool {
    ALWAYS_METHODS.contains(&(&used.permission, &used.method))
}

/// Judges every access.
pub(super) fn judge(state: &State, tallies: &mut Tallies) {
    terms(state, tallies);
    for access in &state.providers.accesses {
        let entry = || state.entry(access.pos);
        let moment = Moment::of(state, access.pos);
        let used = &access.what.what;
        tallies.checked(Check::I45);
        let engagement = match acting(state, access, moment) {
            Ok(engagement) => engagement,
            Err(why) => {
                tallies.fail(Check::I45, format!("{}: {why}", entry()));
                continue;
            }
        };
        let Some(first) = engagement.approved.first() else {
            continue;
        };
        let (approved, parent) = &first.what;
        if let Some(parent) = parent {
            tallies.checked(Check::I49);
            let above = state.providers.engagements.get(parent);
            let live = above.is_some_and(|above| live(state, above, moment));
            tallies.expect(Check::I49, live, || {
                format!("{}: the provider's engagement was not live", entry())
            });
        }
        if shows_evidence(used) {
            continue;
        }
        let profile = approved.profile();
        if let Err(topic) = competent(state, &used.operator, profile, moment) {
            let operator = &used.operator;
            let what = format!("{}: {operator} had no good evidence of {topic}", entry());
            tallies.fail(Check::I45, what);
        }
        tallies.checked(Check::I46);
        let reaches = tier_reaches(state, engagement, ENVIRONMENT, moment);
        tallies.expect(Check::I46, reaches, || {
            format!("{}: the tier did not reach the sensitivity", entry())
        });
        tallies.checked(Check::I47);
        if let Err(why) = vouched(state, engagement, profile, moment) {
            tallies.fail(Check::I47, format!("{}: {why}", entry()));
        }
        if profile == EngagementProfile::Pilot {
            tallies.checked(Check::I51);
            for duty in PILOT_DUTIES {
                tallies.expect(Check::I51, kept(state, duty, moment), || {
                    format!("{}: in a pilot the customer did not keep {duty}", entry())
                });
            }
        }
    }
}

/// The engagement under which an access was made: approved, not over, and the actor assigned to it.
fn acting<'s>(
    state: &'s State,
    access: &At<Told<OperatorAccessUsed>>,
    moment: Moment,
) -> Result<&'s Engagement, &'static str> {
    let used = &access.what.what;
    let known = &state.providers;
    let engagement = known.engagements.get(&used.engagement);
    let engagement = engagement.ok_or("under no engagement")?;
    if !live(state, engagement, moment) {
        return Err("under an engagement that was not live");
    }
    let cited = state.position(&used.assignment_hash);
    let assigned = known.assigned.iter().find(|one| Some(one.pos) == cited);
    let assigned = assigned.ok_or("cites no assignment")?;
    let actor = state
        .meta(access.pos)
        .map(|meta| state.names.text(meta.actor));
    let same = assigned.what.engagement == used.engagement
        && assigned.what.operator == used.operator
        && Some(assigned.what.principal.as_str()) == actor;
    if !same {
        return Err("cites the assignment of another");
    }
    assignment(state, engagement, assigned)?;
    if moment.counted(state, assigned.pos) == Counted::No {
        return Err("by somebody who was assigned later");
    }
    let ends = known.unassigned.get(&assigned.what.principal);
    if ends.is_some_and(|ends| moment.over(state, ends)) {
        return Err("by somebody who was assigned no longer");
    }
    let principal = state.names.find(&assigned.what.principal);
    let end = principal.and_then(|principal| state.principals_ended.get(&principal));
    let end = end.map(|end| At {
        pos: end.pos,
        what: end.effective_ms,
    });
    if moment.over(state, end.as_slice()) {
        return Err("by a principal that had ended");
    }
    Ok(engagement)
}

/// Whether an assignment was the provider's to make, of one of its people as one of the organisation that the customer approved.
fn assignment(
    state: &State,
    engagement: &Engagement,
    assigned: &At<v1::OperatorAssigned>,
) -> Result<(), &'static str> {
    let what = &assigned.what;
    let approved = engagement.approved.first().ok_or("under no approval")?;
    let (approved, parent) = &approved.what;
    if !what.roles.iter().all(|role| approved.roles.contains(role)) {
        return Err("by somebody with a role that the engagement does not have");
    }
    let requested = engagement.requested.as_ref().ok_or("under no request")?;
    let provider = &requested.what.provider;
    let rest = what.operator.strip_prefix(provider.as_str());
    if !rest.is_some_and(|rest| rest.starts_with("/principals/")) {
        return Err("by somebody of another provider");
    }
    if !by_provider(state, assigned.pos, provider) {
        return Err("by somebody whom another than the provider assigned");
    }
    if !live(state, engagement, Moment::of(state, assigned.pos)) {
        return Err("by somebody who was assigned while the engagement was not live");
    }
    let kind = match parent {
        Some(_) => OrganizationKind::Subcontractor,
        None => OrganizationKind::Provider,
    };
    let principal = state.names.find(&what.principal);
    let principal = principal.and_then(|principal| state.principals.get(&principal));
    let organization = state.names.find(&approved.organization);
    let own = principal.is_some_and(|principal| {
        principal.organization_kind == kind && Some(principal.organization) == organization
    });
    if !own {
        return Err("as somebody who is not of the organisation that was approved");
    }
    Ok(())
}

/// Whether the log had long before a record that somebody of a provider acted no longer.
pub(super) fn let_go(state: &State, principal: Sym, meta: &Meta) -> bool {
    if !is_hired(state, principal) {
        return false;
    }
    let known = &state.providers;
    let name = state.names.text(principal);
    let long_before = |end: &At<i64>| {
        let known_ms = end.what.max(state.recorded_ms(end.pos));
        known_ms.saturating_add(CLOCK_SKEW_MS) < meta.recorded_ms
    };
    let mut assigned = known.assigned.iter();
    assigned.any(|one| {
        let engagement = known.engagements.get(&one.what.engagement);
        let ended = engagement.map(|engagement| &engagement.ended);
        let unassigned = known.unassigned.get(name);
        let mut ends = ended.into_iter().chain(unassigned).flatten();
        one.what.principal == name && ends.any(long_before)
    })
}

/// Whether somebody in whose name another decides had all that they would need themselves; `Err`: what they lacked. Whoever is of
/// no provider needs none of it.
pub(super) fn able(state: &State, principal: Sym, pos: Pos) -> Result<(), String> {
    if !is_hired(state, principal) {
        return Ok(());
    }
    let (known, name) = (&state.providers, state.names.text(principal));
    let moment = Moment::of(state, pos);
    // Authority looked at it by its own clock, and whoever decided states another's.
    let moments = [moment, moment.earlier(CLOCK_SKEW_MS)];
    let mut lacks = Ok(());
    for assigned in known
        .assigned
        .iter()
        .filter(|one| one.what.principal == name)
    {
        let Some(engagement) = known.engagements.get(&assigned.what.engagement) else {
            continue;
        };
        let operator = assigned.what.operator.as_str();
        let found = moments.map(|moment| qualified(state, engagement, operator, moment));
        match found.into_iter().reduce(Result::or) {
            Some(Err(why)) => lacks = Err(why),
            _ => return Ok(()),
        }
    }
    lacks
}

fn qualified(
    state: &State,
    engagement: &Engagement,
    operator: &str,
    moment: Moment,
) -> Result<(), String> {
    let Some(first) = engagement.approved.first() else {
        return Err("no approved engagement".to_owned());
    };
    let profile = first.what.0.profile();
    competent(state, operator, profile, moment)
        .map_err(|topic| format!("no good evidence of {topic}"))?;
    if !tier_reaches(state, engagement, ENVIRONMENT, moment) {
        return Err("no tier that reached the sensitivity".to_owned());
    }
    vouched(state, engagement, profile, moment)?;
    let pilot = profile == EngagementProfile::Pilot;
    match PILOT_DUTIES
        .iter()
        .find(|duty| pilot && !kept(state, duty, moment))
    {
        Some(duty) => Err(format!("a pilot in which the customer did not keep {duty}")),
        None => Ok(()),
    }
}

/// Whether what is said of a provider lasts no longer than anybody may say it for.
fn terms(state: &State, tallies: &mut Tallies) {
    let mut bounded = |check: Check, pos: Pos, to_ms: i64, days: i64| {
        let lasts_ms = to_ms.saturating_sub(state.occurred_ms(pos));
        tallies.expect(check, lasts_ms <= days * DAY_MS, || {
            format!("{} lasts longer than {days} days", state.entry(pos))
        });
    };
    for competency in state.providers.competencies.values() {
        if let Some(one) = &competency.submitted {
            bounded(Check::I45, one.pos, one.what.valid_to_ms, EVIDENCE_DAYS_MAX);
        }
    }
    for engagement in state.providers.engagements.values() {
        for one in &engagement.attested {
            bounded(
                Check::I47,
                one.pos,
                one.what.valid_to_ms,
                ASSURANCE_DAYS_MAX,
            );
        }
        for one in &engagement.reassessed {
            bounded(
                Check::I47,
                one.pos,
                one.what.next_due_ms,
                ASSURANCE_DAYS_MAX,
            );
        }
    }
}

/// Whether an engagement was approved and not over.
fn live(state: &State, engagement: &Engagement, moment: Moment) -> bool {
    let Some(first) = engagement.approved.first() else {
        return false;
    };
    if moment.counted(state, first.pos) == Counted::No || moment.over(state, &engagement.ended) {
        return false;
    }
    let extended = engagement.extended.iter();
    let known = extended.filter(|one| moment.counted(state, one.pos) != Counted::No);
    let to_ms = known.map(|one| one.what.valid_to_ms).max();
    moment.at_ms < to_ms.unwrap_or(first.what.0.valid_to_ms)
}

/// Whether there was good evidence of every topic; `Err`: of which there was none.
fn competent(
    state: &State,
    operator: &str,
    profile: EngagementProfile,
    moment: Moment,
) -> Result<(), &'static str> {
    for topic in topics(profile) {
        let mut known = state.providers.competencies.values();
        let good = known.any(|competency| {
            let Some(submitted) = &competency.submitted else {
                return false;
            };
            let about = submitted.what.operator == operator && submitted.what.topic == *topic;
            if !about || moment.over(state, &competency.revoked) {
                return false;
            }
            let accepted = competency.accepted.first();
            accepted.is_some_and(|accepted| {
                let cites = state.position(&accepted.what.submission_hash) == Some(submitted.pos);
                cites && good_then(state, accepted, &submitted.what, profile, moment)
            })
        });
        if !good {
            return Err(topic);
        }
    }
    Ok(())
}

fn good_then(
    state: &State,
    accepted: &At<v1::CompetencyEvidenceAccepted>,
    submitted: &v1::CompetencyEvidenceSubmitted,
    profile: EngagementProfile,
    moment: Moment,
) -> bool {
    let to_ms = accepted.what.valid_to_ms.min(submitted.valid_to_ms);
    let fresh_ms = match profile {
        EngagementProfile::Regulated => {
            state.occurred_ms(accepted.pos).saturating_add(FRESH_MS_MAX)
        }
        _ => i64::MAX,
    };
    moment.counted(state, accepted.pos) != Counted::No && moment.at_ms < to_ms.min(fresh_ms)
}

/// Whether the tier reached the sensitivity of the environment; what nobody stated is the highest.
fn tier_reaches(state: &State, engagement: &Engagement, environment: &str, moment: Moment) -> bool {
    let tiers = moment.in_force(state, &engagement.tiers);
    let tier = tiers.into_iter().max().copied().unwrap_or(0);
    let levels = state.providers.levels.iter();
    let levels = levels.filter(|level| level.what.environment == environment);
    let levels = moment.in_force(state, levels);
    let level = levels.into_iter().map(|level| level.level).min();
    tier >= level.unwrap_or(LEVEL_MAX)
}

/// Whether the tier of whoever decides reached the sensitivity of where they did; `Err`: of which source it did not. Who is of no
/// provider may decide everywhere.
pub(super) fn reaches(
    state: &State,
    (holder, pos): (Sym, Pos),
    sources: &[&str],
    at_once: bool,
) -> Result<(), String> {
    let name = state.names.text(holder);
    let known = &state.providers;
    let mut assigned = known.assigned.iter();
    let assigned = assigned.rfind(|one| one.what.principal == name);
    let engagement = assigned.and_then(|one| known.engagements.get(&one.what.engagement));
    let (Some(engagement), Some(meta)) = (engagement, state.meta(pos)) else {
        return Ok(());
    };
    let moment = Moment::of(state, pos);
    for source in sources {
        let places = places::in_force(state, source, meta, at_once);
        let mut places = places.iter();
        if !places.any(|place| tier_reaches(state, engagement, place.environment(), moment)) {
            return Err(format!(
                "the tier of {name} did not reach the sensitivity of where {source} is"
            ));
        }
    }
    Ok(())
}

/// Whether the provider's word for its controls and the customer's look at it were live.
fn vouched(
    state: &State,
    engagement: &Engagement,
    profile: EngagementProfile,
    moment: Moment,
) -> Result<(), String> {
    for control in controls(profile) {
        let attested = engagement.attested.iter();
        let attested = attested.filter(|one| one.what.control == *control);
        let attested = moment.in_force(state, attested);
        if !attested.iter().any(|one| moment.at_ms < one.valid_to_ms) {
            return Err(format!("no live attestation of {control}"));
        }
    }
    let reassessed = moment.in_force(state, &engagement.reassessed);
    let passed = reassessed
        .iter()
        .any(|one| one.result() == ReassessmentResult::Passed && moment.at_ms < one.next_due_ms);
    if passed {
        Ok(())
    } else {
        Err("no live reassessment that passed".to_owned())
    }
}

/// Whether the customer carried an activity out itself.
fn kept(state: &State, activity: &str, moment: Moment) -> bool {
    let rows = state.providers.responsibilities.iter();
    let rows = moment.in_force(state, rows.filter(|row| row.what.activity == activity));
    rows.iter()
        .any(|row| row.operator_kind() == OrganizationKind::Customer)
}
