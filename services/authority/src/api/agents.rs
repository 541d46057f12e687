//! What an AI agent may do at this moment: as much of its roles and rights as its mandate leaves, and as often (I-65, I-66).

use counterfoil_chassis::{ApiError, Caller, Role, names::PrincipalName};
use counterfoil_evidence::v1::RolePermissions;
use counterfoil_proto::authority as proto;

use super::{
    Api,
    conditions::Offered,
    convert::{self, MandateName},
};
use crate::{
    error::AgentRefusal,
    model::{
        ids::PrincipalId,
        mandate::{Autonomy, Behind, Mandate},
        principal::{Principal, PrincipalKind},
        right::DecisionAction,
    },
    store::{self, Connection},
};

/// Longest name of an act, in characters.
const ACT_CHARS_MAX: usize = 200;

/// The mandate in force of an agent, and until when it is if nobody changes anything.
pub(super) async fn in_force(
    connection: &mut Connection,
    (tenant, agent): (&str, &Principal),
    now_ms: i64,
) -> Result<Option<(Mandate, i64)>, ApiError> {
    let Some(found) = store::mandates::of_agent(connection, tenant, &agent.id).await? else {
        return Ok(None);
    };
    let owner = store::principals::get(connection, tenant, &found.terms.owner).await?;
    let until_ms = found.in_force(Behind::of(owner.as_ref(), Some(agent)), now_ms);
    Ok(until_ms.map(|until_ms| (found, until_ms)))
}

/// Narrows what each role of an agent holds to what its mandate leaves, and says until when that holds. Whoever is no agent keeps
/// what they have.
pub(super) async fn leave_to_roles(
    api: &Api,
    connection: &mut Connection,
    (tenant, principal): (&str, &Principal),
    kept: Vec<RolePermissions>,
) -> Result<(Vec<RolePermissions>, i64), ApiError> {
    if principal.kind != PrincipalKind::AiAgent {
        return Ok((kept, i64::MAX));
    }
    let now_ms = api.clock.now_ms();
    let found = in_force(connection, (tenant, principal), now_ms).await?;
    let autonomy = found.as_ref().map(|(mandate, _)| mandate.terms.autonomy);
    let left = principal.roles.iter().map(|role| RolePermissions {
        role: role.clone(),
        permissions: left(api, role, autonomy, &kept),
    });
    Ok((
        left.collect(),
        found.map_or(i64::MAX, |(_, until_ms)| until_ms),
    ))
}

/// What is left of a role's permissions by the policy and by the autonomy of an agent; `None`: without a mandate, nothing.
fn left(
    api: &Api,
    role: &str,
    autonomy: Option<Autonomy>,
    kept: &[RolePermissions],
) -> Vec<String> {
    let (Some(autonomy), Some(known)) = (autonomy, Role::of_tenant(role)) else {
        return Vec::new();
    };
    let by_policy = kept.iter().find(|one| one.role == role);
    let leaves = |permission: &str| {
        by_policy.is_none_or(|kept| kept.permissions.iter().any(|one| one == permission))
    };
    let held = api.permissions.of_role(known);
    held.filter(|permission| leaves(permission) && api.levels.allow(autonomy, permission))
        .map(str::to_owned)
        .collect()
}

/// What is left under its mandate of the rights that an agent is offered, and on what it acts. Whoever is no agent keeps them all.
pub(super) async fn narrow(
    connection: &mut Connection,
    (tenant, principal): (&str, &Principal),
    (action, now_ms): (DecisionAction, i64),
    offered: Vec<Offered>,
) -> Result<(Vec<Offered>, Option<proto::ActingAgent>), ApiError> {
    if principal.kind != PrincipalKind::AiAgent {
        return Ok((offered, None));
    }
    let found = in_force(connection, (tenant, principal), now_ms).await?;
    let Some((mandate, _)) = found else {
        return Ok((Vec::new(), Some(proto::ActingAgent::default())));
    };
    let terms = &mandate.terms;
    let acting = proto::ActingAgent {
        mandate: mandate.id.name(tenant),
        decides_alone: terms.autonomy == Autonomy::ExecuteBounded,
    };
    if !terms.actions.contains(&action) {
        return Ok((Vec::new(), Some(acting)));
    }
    let narrowed = offered.into_iter().filter_map(|mut one| {
        let right = &mut one.right;
        let held = (
            &one.scope,
            right.tiers.as_slice(),
            right.environments.as_slice(),
        );
        let (scope, tiers, environments) = terms.narrow(held)?;
        right.scope = convert::scope_names(&scope, tenant);
        right.tiers = tiers;
        right.environments = environments;
        one.scope = scope;
        Some(one)
    });
    Ok((narrowed.collect(), Some(acting)))
}

/// Counts an act of an agent, if its mandate still covers it.
pub(super) async fn use_mandate(
    api: &Api,
    caller: &Caller,
    request: proto::UseMandateRequest,
) -> Result<proto::UseMandateResponse, ApiError> {
    let name = PrincipalName::parse_field("agent", &request.agent)?;
    caller.require_tenant(&name.tenant)?;
    let id = convert::id("agent", PrincipalId::parse(&name.principal))?;
    let action = convert::action(request.action);
    if action == DecisionAction::Unspecified {
        return Err(ApiError::invalid("action", "is required"));
    }
    let chars = request.act.chars().count();
    if !(1..=ACT_CHARS_MAX).contains(&chars) {
        return Err(ApiError::invalid("act", "must have 1 to 200 characters"));
    }
    let named = MandateName::parse_field("mandate", &request.mandate)?;
    if named.tenant != name.tenant {
        return Err(ApiError::not_found());
    }
    // The tenant's lock: two acts at once never both take the last place, and none is counted after its mandate was taken back.
    let mut tx = api.db.write_tx(&name.tenant).await?;
    let found = store::principals::get(tx.conn(), &name.tenant, &id).await?;
    let is_agent = |one: &Principal| one.kind == PrincipalKind::AiAgent;
    let agent = found.filter(is_agent).ok_or_else(ApiError::not_found)?;
    let now_ms = api.clock.now_ms();
    let mandate = in_force(tx.conn(), (&name.tenant, &agent), now_ms).await?;
    let covering = mandate.filter(|(mandate, _)| {
        mandate.id.as_str() == named.mandate && mandate.terms.actions.contains(&action)
    });
    let (mandate, _) = covering.ok_or(AgentRefusal::MandateRequired)?;
    // An act that was counted before may not have been done then: it is counted again, at this time, in its own stead.
    let when = (request.act.as_str(), now_ms);
    let used = store::mandates::used(tx.conn(), &name.tenant, &mandate, when).await?;
    if let Some(limit) = used.beyond(mandate.terms.limits, request.removals) {
        return Err(AgentRefusal::MandateLimit(limit).into());
    }
    let act = (request.act.as_str(), request.removals);
    let by_now = (used, now_ms);
    store::mandates::count(tx.conn(), &name.tenant, &mandate, act, by_now).await?;
    // If we crash here: it is counted, and whoever asked does not know. They ask again by the same name, and it counts once.
    tx.commit().await?;
    Ok(proto::UseMandateResponse {})
}
