//! Operators: who of a provider acts for a customer, as whom, and how they stand at this moment.

use std::collections::HashMap;

use async_trait::async_trait;
use counterfoil_chassis::{
    ApiError, Caller, WriteTx,
    clock::timestamp,
    names::{PrincipalName, new_id, tenant_field},
    operators::{OperatorSource, Resolved, not_qualified},
};
use counterfoil_evidence::engagement::ENVIRONMENT;
use counterfoil_evidence::v1::{OperatorAssigned, OperatorUnassigned, PrincipalRegistered};
use counterfoil_proto::{authority as proto, common::Receipt};

use super::{
    Api,
    change::{Asked, Change},
    competencies,
    conditions::Offered,
    convert, emergencies,
    engagements::{across, live, of_change, parse, side},
    offers, policies, principals,
};
use crate::{
    error::Refusal,
    model::{
        engagement::{DAY_MS, Engagement, Operator, check_roles},
        ids::{EngagementId, PrincipalId},
        principal::{OrganizationKind, Principal, PrincipalKind},
        standing::{Ground, Standing, standing},
        tenant::{TenantKind, TenantState},
    },
    store::{self, Connection, From},
};

/// Most assignments under an engagement within a day: each is a principal in the customer's tenant, for good.
const ASSIGNED_A_DAY: i64 = 50;

pub(super) async fn assign_operator(
    api: &Api,
    caller: &Caller,
    request: proto::AssignOperatorRequest,
) -> Result<proto::AssignOperatorResponse, ApiError> {
    let (tenant, id) = parse("engagement", &request.engagement)?;
    let Some(provider) = side(api, caller, &tenant, &id).await? else {
        return Err(Refusal::CallerNotProvider.into());
    };
    offers::require_answered(api, &provider, &tenant, &id).await?;
    let who = person(api, &provider, &request.operator).await?;
    let (api, caller) = (api.clone(), caller.clone());
    across(async move { assign(&api, &caller, (&tenant, &id), who, request).await }).await
}

/// An active human of the provider, named by their own tenant.
async fn person(api: &Api, provider: &str, name: &str) -> Result<Principal, ApiError> {
    let name = PrincipalName::parse_field("operator", name)?;
    if name.tenant != provider {
        return Err(ApiError::not_found());
    }
    let id = convert::id("operator", PrincipalId::parse(&name.principal))?;
    let mut reader = api.db.read(provider).await?;
    let found = store::principals::get(&mut reader, provider, &id).await?;
    let found = found.ok_or_else(ApiError::not_found)?;
    if !found.is_active() {
        return Err(Refusal::PrincipalEnded.into());
    }
    if found.kind != PrincipalKind::Human {
        return Err(ApiError::invalid("operator", "must be a human"));
    }
    Ok(found)
}

async fn assign(
    api: &Api,
    caller: &Caller,
    (tenant, id): (&str, &EngagementId),
    who: Principal,
    request: proto::AssignOperatorRequest,
) -> Result<proto::AssignOperatorResponse, ApiError> {
    let begun = api
        .begin_in(
            caller,
            tenant,
            "AssignOperator",
            &request.request_id,
            &request,
        )
        .await?;
    let mut change = match begun {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    let engagement = of_change(&mut change, id).await?;
    let now_ms = change.now_ms;
    let approval = live(&engagement, now_ms)?;
    let roles = check_roles("roles", &request.roles).map_err(Refusal::from)?;
    if !roles.iter().all(|role| approval.roles.contains(role)) {
        return Err(ApiError::invalid(
            "roles",
            "has a role that the engagement does not have",
        ));
    }
    let operator = request.operator.clone();
    require_assignable(api, &mut change, id, &operator).await?;
    let kind = match engagement.terms.parent {
        Some(_) => OrganizationKind::Subcontractor,
        None => OrganizationKind::Provider,
    };
    let principal = register(api, &mut change, |id| Principal {
        id,
        organization: approval.organization.clone(),
        organization_kind: kind,
        roles: roles.clone(),
        ..who.clone()
    })
    .await?;
    let payload = OperatorAssigned {
        engagement: id.in_records(),
        operator: operator.clone(),
        principal: principal.in_records(),
        roles: roles.clone(),
    };
    let draft = change.draft(&payload, id.in_records());
    let draft = draft.subject(principal.in_records());
    let emitted = api.emit(&mut change, draft).await?;
    let assigned = Operator {
        engagement: id.clone(),
        operator,
        principal,
        roles,
        assigned_at_ms: now_ms,
        unassigned_at_ms: None,
        record_hash: emitted.record_hash,
    };
    store::qualifications::insert_operator(change.tx.conn(), tenant, &assigned).await?;
    let answer = proto::AssignOperatorResponse {
        operator: Some(convert::operator(tenant, &assigned, "")),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

/// Refuses who acts for the customer already, and more people than an engagement takes in a day.
async fn require_assignable(
    api: &Api,
    change: &mut Change,
    id: &EngagementId,
    operator: &str,
) -> Result<(), ApiError> {
    let (tenant, now_ms) = (change.tenant.id.clone(), change.now_ms);
    let (connection, day_ago_ms) = (change.tx.conn(), now_ms - DAY_MS);
    let today = store::qualifications::assigned_since(connection, &tenant, id, day_ago_ms).await?;
    if today >= ASSIGNED_A_DAY {
        return Err(Refusal::TooManyAssignments.into());
    }
    let acting = store::qualifications::acting(change.tx.conn(), &tenant, operator).await?;
    if let Some(other) = acting {
        // An engagement that is over leaves nobody behind: the job may not have come to it yet.
        let there = of_change(change, &other.engagement).await?;
        if there.live(now_ms).is_some() {
            return Err(Refusal::OperatorAssigned.into());
        }
        end(api, change, &other).await?;
    }
    Ok(())
}

/// Makes somebody of a provider a principal of the customer's tenant (R85), by an id that says nothing and that nobody chose.
async fn register(
    api: &Api,
    change: &mut Change,
    principal: impl FnOnce(PrincipalId) -> Principal,
) -> Result<PrincipalId, ApiError> {
    let id = PrincipalId::stored(new_id(change.now_ms));
    let mut principal = principal(id.clone());
    let salt = change.tenant.correlation_salt;
    let payload = PrincipalRegistered {
        principal: id.in_records(),
        kind: principal.kind.into(),
        organization: principal.organization.in_records(),
        organization_kind: principal.organization_kind.into(),
        identity_tag: convert::identity_tag(&salt, &principal.identity_key),
    };
    let draft = change.draft(&payload, id.in_records());
    let draft = draft.commit("display_name", principal.display_name.as_bytes());
    let emitted = api.emit(change, draft).await?;
    principal.record_hash = emitted.record_hash;
    let now_ms = change.now_ms;
    store::principals::insert(&mut change.tx, &[principal], now_ms).await?;
    Ok(id)
}

pub(super) async fn unassign_operator(
    api: &Api,
    caller: &Caller,
    request: proto::UnassignOperatorRequest,
) -> Result<proto::UnassignOperatorResponse, ApiError> {
    let (tenant, id) = parse("engagement", &request.engagement)?;
    let provider = side(api, caller, &tenant, &id).await?;
    if let Some(provider) = &provider {
        offers::require_answered(api, provider, &tenant, &id).await?;
    }
    let (api, caller) = (api.clone(), caller.clone());
    across(async move {
        let begun = api
            .begin_in(
                &caller,
                &tenant,
                "UnassignOperator",
                &request.request_id,
                &request,
            )
            .await?;
        let mut change = match begun {
            Asked::Done(answer) => return Ok(answer),
            Asked::New(change) => *change,
        };
        if provider.is_none() {
            change.require_customer_human().await?;
        }
        of_change(&mut change, &id).await?;
        let all = store::qualifications::assigned(change.tx.conn(), &tenant, &id).await?;
        let found = all.into_iter().find(|one| one.operator == request.operator);
        let (operator, receipt) = match found {
            Some(mut found) => {
                let receipt = match provider {
                    Some(_) => end(&api, &mut change, &found).await?,
                    None => dismiss(&api, &mut change, &found).await?,
                };
                found.unassigned_at_ms = Some(change.now_ms);
                (found, Some(receipt))
            }
            None if provider.is_some() => return Err(ApiError::not_found()),
            None => {
                let gone = dismiss_gone(&api, &mut change, &id, &request.operator).await?;
                (gone, None)
            }
        };
        let answer = proto::UnassignOperatorResponse {
            operator: Some(convert::operator(&tenant, &operator, "")),
            receipt,
        };
        api.finish(change, answer).await
    })
    .await
}

/// Ends an assignment, and whom somebody acted as.
pub(super) async fn end(
    api: &Api,
    change: &mut Change,
    operator: &Operator,
) -> Result<Receipt, ApiError> {
    let receipt = end_assignment(api, change, operator).await?;
    let tenant = change.tenant.id.clone();
    let acted_as = store::principals::get(change.tx.conn(), &tenant, &operator.principal).await?;
    if acted_as.is_some_and(|one| one.is_active()) {
        principals::end(api, change, &operator.principal).await?;
    }
    Ok(receipt)
}

/// The same for whom the customer sends away: if their provider assigns them again, they show anew what they can.
pub(super) async fn dismiss(
    api: &Api,
    change: &mut Change,
    operator: &Operator,
) -> Result<Receipt, ApiError> {
    let receipt = end(api, change, operator).await?;
    competencies::revoke_all(api, change, &operator.operator).await?;
    Ok(receipt)
}

/// Sends away whom their provider has called back already: the customer has said that it will not have them, whoever was first.
async fn dismiss_gone(
    api: &Api,
    change: &mut Change,
    engagement: &EngagementId,
    operator: &str,
) -> Result<Operator, ApiError> {
    let (tenant, connection) = (change.tenant.id.clone(), change.tx.conn());
    let found =
        store::qualifications::newest_assignment(connection, &tenant, engagement, operator).await?;
    let found = found.ok_or_else(ApiError::not_found)?;
    competencies::revoke_all(api, change, operator).await?;
    Ok(found)
}

/// Ends with a principal, before it, what somebody of a provider does as it.
pub(super) async fn end_with(
    api: &Api,
    change: &mut Change,
    principal: &PrincipalId,
) -> Result<(), ApiError> {
    let tenant = change.tenant.id.clone();
    let found = store::qualifications::acting_as(change.tx.conn(), &tenant, principal).await?;
    if let Some(operator) = found {
        end_assignment(api, change, &operator).await?;
        competencies::revoke_all(api, change, &operator.operator).await?;
    }
    Ok(())
}

async fn end_assignment(
    api: &Api,
    change: &mut Change,
    operator: &Operator,
) -> Result<Receipt, ApiError> {
    let (tenant, now_ms) = (change.tenant.id.clone(), change.now_ms);
    let payload = OperatorUnassigned {
        engagement: operator.engagement.in_records(),
        operator: operator.operator.clone(),
        principal: operator.principal.in_records(),
        effective_ms: now_ms,
    };
    let draft = change.draft(&payload, operator.engagement.in_records());
    let draft = draft.subject(operator.principal.in_records());
    let emitted = api.emit(change, draft).await?;
    store::qualifications::unassign(change.tx.conn(), &tenant, &operator.principal, now_ms).await?;
    Ok(emitted.pending_receipt())
}

pub(super) async fn list_operators(
    api: &Api,
    caller: &Caller,
    request: proto::ListOperatorsRequest,
) -> Result<proto::ListOperatorsResponse, ApiError> {
    let (tenant, id) = parse("engagement", &request.engagement)?;
    let provider = match caller.tenant() {
        Some(_) => side(api, caller, &tenant, &id).await?,
        None => None,
    };
    let scope = ["ListOperators", &tenant, id.as_str()];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    if let Some(provider) = &provider
        && !offers::is_answered(api, provider, &tenant, &id).await?
    {
        return Ok(proto::ListOperatorsResponse::default());
    }
    let api = api.clone();
    across(async move {
        let mut reader = api.db.read(&tenant).await?;
        let engagement = store::engagements::get(&mut reader, &tenant, &id).await?;
        let engagement = engagement.ok_or_else(ApiError::not_found)?;
        let from = From::page(&page)?;
        let mut rows = store::qualifications::operators(&mut reader, &tenant, &id, from).await?;
        let next_page_token = page.cut(&mut rows, |row| row.principal.as_str().into());
        let mut operators = Vec::with_capacity(rows.len());
        for row in &rows {
            let now_ms = api.clock.now_ms();
            let found = judge(&mut reader, &tenant, &engagement, row, now_ms).await?;
            let lack = found.and_then(|found| found.lack);
            operators.push(convert::operator(
                &tenant,
                row,
                lack.map_or("", |one| one.code()),
            ));
        }
        Ok(proto::ListOperatorsResponse {
            operators,
            next_page_token,
        })
    })
    .await
}

pub(super) async fn resolve_operator(
    api: &Api,
    _caller: &Caller,
    request: proto::ResolveOperatorRequest,
) -> Result<proto::ResolveOperatorResponse, ApiError> {
    let name = PrincipalName::parse_field("operator", &request.operator)?;
    let customer = tenant_field(&request.customer)?;
    let found = resolve(api, &name, &customer).await?;
    let found = found.ok_or_else(ApiError::not_found)?;
    Ok(proto::ResolveOperatorResponse {
        principal: format!("tenants/{customer}/principals/{}", found.principal),
        roles: found.roles,
        engagement: format!("tenants/{customer}/{}", found.engagement),
        assignment_hash: found.assignment_hash,
        refusal: found.refusal,
        expire_time: Some(timestamp(found.until_ms)),
        role_permissions: found
            .role_permissions
            .into_iter()
            .map(|(role, permissions)| proto::RolePermissions { role, permissions })
            .collect(),
    })
}

/// As whom somebody acts for a customer, and on what that rests now. `None`: they do not.
async fn resolve(
    api: &Api,
    who: &PrincipalName,
    customer: &str,
) -> Result<Option<Resolved>, ApiError> {
    if !is_at_home(api, who).await? {
        return Ok(None);
    }
    let mut reader = api.db.read(customer).await?;
    let tenant = store::tenants::get(&mut reader, customer).await?;
    if tenant.is_none_or(|tenant| tenant.state == TenantState::Closed) {
        return Ok(None);
    }
    let operator = who.to_string();
    let acting = store::qualifications::acting(&mut reader, customer, &operator).await?;
    let Some(acting) = acting else {
        return Ok(None);
    };
    let engagement = store::engagements::get(&mut reader, customer, &acting.engagement).await?;
    let Some(engagement) = engagement else {
        return Ok(None);
    };
    let now_ms = api.clock.now_ms();
    let found = judge(&mut reader, customer, &engagement, &acting, now_ms).await?;
    let acts_as = (customer, &acting.principal);
    let (urgent, urgent_until_ms) = emergencies::roles(&mut reader, acts_as, now_ms).await?;
    let mut roles = acting.roles;
    roles.extend(urgent);
    roles.sort_unstable();
    roles.dedup();
    let kept = policies::kept_by_roles(&mut reader, customer, now_ms).await?;
    let kept = kept.into_iter().map(|one| (one.role, one.permissions));
    Ok(found.map(|found| Resolved {
        principal: acting.principal.as_str().to_owned(),
        roles,
        engagement: acting.engagement.in_records(),
        assignment_hash: acting.record_hash.to_vec(),
        refusal: found.lack.map_or("", |lack| lack.code()).to_owned(),
        until_ms: urgent_until_ms.map_or(found.until_ms, |end_ms| end_ms.min(found.until_ms)),
        asked_at_ms: now_ms,
        role_permissions: kept.collect(),
    }))
}

/// Whether somebody is an active principal of an active provider.
async fn is_at_home(api: &Api, who: &PrincipalName) -> Result<bool, ApiError> {
    let mut reader = api.db.read(&who.tenant).await?;
    let home = store::tenants::get(&mut reader, &who.tenant).await?;
    let home =
        home.filter(|home| home.kind == TenantKind::Provider && home.state == TenantState::Active);
    let Some(id) = home.and_then(|_| PrincipalId::parse(&who.principal)) else {
        return Ok(false);
    };
    let person = store::principals::get(&mut reader, &who.tenant, &id).await?;
    Ok(person.is_some_and(|person| person.is_active()))
}

/// Of principals who all must be able to act, the operators, whom only their own tenants know. `None`: one of them lacks something.
pub(super) async fn able(
    connection: &mut Connection,
    customer: &str,
    principals: impl Iterator<Item = &PrincipalId>,
    now_ms: i64,
) -> Result<Option<Vec<PrincipalName>>, ApiError> {
    let mut operators = Vec::new();
    for principal in principals {
        let found = store::qualifications::acting_as(connection, customer, principal).await?;
        let Some(acting) = found else { continue };
        let engagement = store::engagements::get(connection, customer, &acting.engagement).await?;
        let Some(engagement) = engagement else {
            return Ok(None);
        };
        let found = judge(connection, customer, &engagement, &acting, now_ms).await?;
        if found.is_none_or(|found| found.lack.is_some()) {
            return Ok(None);
        }
        operators.push(PrincipalName::parse(&acting.operator).map_err(ApiError::internal)?);
    }
    Ok(Some(operators))
}

/// Leaves out what rests on operators who have left their provider.
pub(super) async fn of_people_at_home(
    api: &Api,
    offered: Vec<Offered>,
) -> Result<Vec<Offered>, ApiError> {
    let mut there = HashMap::new();
    for who in offered.iter().flat_map(|one| &one.operators) {
        if !there.contains_key(who) {
            let (api, name) = (api.clone(), who.clone());
            let found = across(async move { is_at_home(&api, &name).await });
            there.insert(who.clone(), found.await?);
        }
    }
    let mut offered = offered;
    offered.retain(|one| one.operators.iter().all(|who| there[who]));
    Ok(offered)
}

/// Reads what an operator's standing rests on, and judges it.
async fn judge(
    connection: &mut Connection,
    customer: &str,
    engagement: &Engagement,
    operator: &Operator,
    now_ms: i64,
) -> Result<Option<Standing>, ApiError> {
    let parent = match &engagement.terms.parent {
        Some(parent) => store::engagements::get(connection, customer, parent).await?,
        None => None,
    };
    let who = operator.operator.as_str();
    let competencies =
        store::qualifications::good_competencies(connection, customer, who, now_ms).await?;
    let attestations =
        store::qualifications::attestations(connection, customer, &engagement.id).await?;
    let level = store::qualifications::environment(connection, customer, ENVIRONMENT).await?;
    let kept = store::qualifications::kept_by_customer(connection, customer).await?;
    let ground = Ground {
        engagement,
        parent: parent.as_ref(),
        operator,
        competencies: &competencies,
        attestations: &attestations,
        level,
        kept: &kept,
    };
    Ok(standing(&ground, now_ms))
}

#[async_trait]
impl OperatorSource for Api {
    async fn resolve(
        &self,
        operator: &PrincipalName,
        customer: &str,
    ) -> Result<Option<Resolved>, ApiError> {
        resolve(self, operator, customer).await
    }

    async fn look_again(&self, tx: &mut WriteTx, caller: &Caller) -> Result<(), ApiError> {
        look_again(self, tx, caller).await
    }
}

/// Refuses an operator who acts no longer under the assignment with which they were let in, or lacks something since, as the tables
/// say while the tenant's lock is held. Whoever lacked something then was let in to show what they can, and still may.
pub(super) async fn look_again(
    api: &Api,
    tx: &mut WriteTx,
    caller: &Caller,
) -> Result<(), ApiError> {
    let Some(ground) = caller.operator() else {
        return Ok(());
    };
    let customer = tx.tenant().to_owned();
    let tenant = store::tenants::get(tx.conn(), &customer).await?;
    let acting = store::qualifications::acting(tx.conn(), &customer, &ground.operator).await?;
    let open = tenant.is_some_and(|tenant| tenant.state != TenantState::Closed);
    let acting = acting.filter(|one| open && one.record_hash[..] == ground.assignment_hash[..]);
    let acting = acting.ok_or_else(ApiError::not_found)?;
    let engagement = store::engagements::get(tx.conn(), &customer, &acting.engagement).await?;
    let engagement = engagement.ok_or_else(ApiError::not_found)?;
    let now_ms = api.clock.now_ms();
    let found = judge(tx.conn(), &customer, &engagement, &acting, now_ms).await?;
    match found.ok_or_else(ApiError::not_found)?.lack {
        Some(lack) if ground.refusal.is_empty() => Err(not_qualified(lack.code())),
        _ => Ok(()),
    }
}
