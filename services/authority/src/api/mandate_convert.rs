//! Mandates, proto <-> model.

use counterfoil_chassis::{ApiError, clock::timestamp};
use counterfoil_proto::authority as proto;

use super::convert;
use crate::model::{
    mandate::{Autonomy, Behind, Limits, Mandate, State, Term, Terms, Used},
    right::DecisionAction,
};

const DAY_MS: i64 = 86_400_000;

/// What is asked for.
pub(super) fn terms(
    wanted: &proto::AgentMandate,
    tenant: &str,
    now_ms: i64,
) -> Result<Terms, ApiError> {
    let field = |name: &str| format!("mandate.{name}");
    let mut actions: Vec<DecisionAction> = wanted
        .actions
        .iter()
        .copied()
        .map(convert::action)
        .collect();
    actions.sort_unstable_by_key(|action| *action as i32);
    actions.dedup();
    let from = convert::moment(&field("valid_from_time"), wanted.valid_from_time.as_ref())?;
    let to = convert::moment(&field("valid_to_time"), wanted.valid_to_time.as_ref())?;
    let to_ms = to.ok_or_else(|| ApiError::invalid(field("valid_to_time"), "is required"))?;
    Ok(Terms {
        agent: convert::principal_in(&field("agent"), &wanted.agent, tenant)?,
        owner: convert::principal_in(&field("owner"), &wanted.owner, tenant)?,
        // The numbers are those of the records.
        autonomy: Autonomy::try_from(wanted.autonomy).unwrap_or_default(),
        actions,
        scope: convert::scope(&field("scope"), &wanted.scope, tenant)?,
        tiers: convert::codes(&field("tiers"), &wanted.tiers)?,
        environments: convert::codes(&field("environments"), &wanted.environments)?,
        limits: Limits {
            acts_per_hour: wanted.acts_per_hour_max,
            removals_per_day: wanted.removals_per_day_max,
            removals: wanted.removals_max,
        },
        model: wanted.model.clone(),
        build: wanted.build.clone(),
        term: Term {
            from_ms: from.unwrap_or(now_ms),
            to_ms,
            review_ms: i64::from(wanted.review_interval_days) * DAY_MS,
        },
    })
}

/// A state in the API.
pub(crate) fn state(state: State) -> proto::MandateState {
    match state {
        State::Draft => proto::MandateState::Draft,
        State::Active => proto::MandateState::Active,
        State::Suspended => proto::MandateState::Suspended,
        State::Revoked => proto::MandateState::Revoked,
        State::Retired => proto::MandateState::Retired,
    }
}

/// A mandate as it is at a moment.
pub(super) fn mandate(
    tenant: &str,
    one: &Mandate,
    (behind, now_ms): (Behind, i64),
) -> proto::AgentMandate {
    let (terms, grant) = (&one.terms, one.grant.as_ref());
    let days = terms.term.review_ms / DAY_MS;
    let lack = one.lack(behind, now_ms);
    proto::AgentMandate {
        name: one.id.name(tenant),
        state: state(one.state(now_ms)).into(),
        agent: terms.agent.name(tenant),
        owner: terms.owner.name(tenant),
        autonomy: terms.autonomy.into(),
        actions: terms.actions.iter().map(|one| *one as i32).collect(),
        scope: convert::scope_names(&terms.scope, tenant),
        tiers: terms.tiers.clone(),
        environments: terms.environments.clone(),
        acts_per_hour_max: terms.limits.acts_per_hour,
        removals_per_day_max: terms.limits.removals_per_day,
        removals_max: terms.limits.removals,
        model: terms.model.clone(),
        build: terms.build.clone(),
        valid_from_time: Some(timestamp(terms.term.from_ms)),
        valid_to_time: Some(timestamp(terms.term.to_ms)),
        review_interval_days: u32::try_from(days).unwrap_or(u32::MAX),
        kill_path: one.kill_path.clone(),
        proposer: one.proposer.name(tenant),
        grantor: grant.map_or(String::new(), |grant| grant.grantor.name(tenant)),
        review_due_time: grant.map(|grant| timestamp(grant.due_ms)),
        lack: lack.map_or("", |lack| lack.code()).to_owned(),
        record_hash: grant.map_or(Vec::new(), |grant| grant.record_hash.to_vec()),
        acts_last_hour: 0,
        removals_last_day: 0,
        removals_total: 0,
    }
}

/// With what was counted.
pub(super) fn with_use(mandate: proto::AgentMandate, used: Used) -> proto::AgentMandate {
    proto::AgentMandate {
        acts_last_hour: u32::try_from(used.acts).unwrap_or(u32::MAX),
        removals_last_day: used.removals_of_day.unsigned_abs(),
        removals_total: used.removals.unsigned_abs(),
        ..mandate
    }
}
