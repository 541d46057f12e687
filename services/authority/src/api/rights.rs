//! Decision rights: who may decide what, where, until when, and who gave them that right.

use std::collections::BTreeSet;

use counterfoil_chassis::{
    ApiError, Caller, EmittedRecord,
    names::{PrincipalName, new_id, tenant_field},
};
use counterfoil_evidence::v1::{DecisionRightGranted, DecisionRightProposed, DecisionRightRevoked};
use counterfoil_proto::authority as proto;

use super::{
    Api, agents,
    change::{Asked, Change},
    conditions::Offered,
    convert::{self, DecisionRightName},
    delegations, emergencies, operators, reach,
};
use crate::{
    error::Refusal,
    model::{
        Faults,
        conditions::Act,
        ids::{PrincipalId, RightId},
        right::{DecisionAction, Right, check_new, may_approve, require_grantable},
        tenant::TenantState,
    },
    store::{self, From},
};

/// Most rights in one call.
const BATCH_MAX: usize = 1_000;

pub(super) async fn grant_decision_rights(
    api: &Api,
    caller: &Caller,
    request: proto::GrantDecisionRightsRequest,
) -> Result<proto::GrantDecisionRightsResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    let method = "GrantDecisionRights";
    let mut change = match api
        .begin(caller, &tenant, method, &request.request_id, &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_customer_caller().await?;
    if !(1..=BATCH_MAX).contains(&request.decision_rights.len()) {
        return Err(ApiError::invalid("decision_rights", "must be 1 to 1,000"));
    }
    let mut rights = Vec::with_capacity(request.decision_rights.len());
    for (position, wanted) in request.decision_rights.iter().enumerate() {
        rights.push(read(&change, position, wanted)?);
    }
    require_own_grants(&change, &rights)?;
    require_all_grantable(&mut change, &rights).await?;
    // What had begun by the log goes on, wherever the clock was set back to: else one human could grant what waits for a second.
    let by_log_ms = api.outbox.latest_ms(&mut change.tx).await?;
    let at_ms = change.now_ms.max(by_log_ms);
    let policy = store::policies::in_force(change.tx.conn(), &tenant, at_ms).await?;
    let reserved = policy
        .map(|bundle| bundle.rules.four_eyes_actions)
        .unwrap_or_default();
    for right in &mut rights {
        right.proposed = reserved.contains(&(right.action as i32));
    }
    let drafts = rights.iter().map(|right| {
        let draft = match right.proposed {
            true => change.draft(&proposal(right), right.id.in_records()),
            false => change.draft(&granted(right, Vec::new()), right.id.in_records()),
        };
        draft.subject(right.grantee.in_records())
    });
    let drafts = drafts.collect();
    let emitted = api.emit_many(&mut change, drafts).await?;
    for (right, record) in rights.iter_mut().zip(&emitted) {
        right.record_hash = record.record_hash;
    }
    store::rights::insert(&mut change.tx, &rights).await?;
    let answer = proto::GrantDecisionRightsResponse {
        decision_rights: rights
            .iter()
            .map(|right| convert::right(&tenant, right))
            .collect(),
        receipts: emitted.iter().map(EmittedRecord::pending_receipt).collect(),
    };
    api.finish(change, answer).await
}

fn proposal(right: &Right) -> DecisionRightProposed {
    DecisionRightProposed {
        right: right.id.as_str().to_owned(),
        grantee: right.grantee.in_records(),
        action: right.action.into(),
        scope: right.scope.in_records(),
        valid_from_ms: right.valid_from_ms,
        valid_to_ms: right.valid_to_ms,
        grantor: right.grantor.in_records(),
        tiers: right.tiers.clone(),
        environments: right.environments.clone(),
    }
}

fn granted(right: &Right, proposal_record_hash: Vec<u8>) -> DecisionRightGranted {
    DecisionRightGranted {
        right: right.id.as_str().to_owned(),
        grantee: right.grantee.in_records(),
        action: right.action.into(),
        scope: right.scope.in_records(),
        valid_from_ms: right.valid_from_ms,
        valid_to_ms: right.valid_to_ms,
        grantor: right.grantor.in_records(),
        tiers: right.tiers.clone(),
        environments: right.environments.clone(),
        proposal_record_hash,
    }
}

/// Once the tenant governs itself, nobody grants in another's name. Before, the deployment does so for the customer, and the
/// record names both.
fn require_own_grants(change: &Change, rights: &[Right]) -> Result<(), ApiError> {
    if change.tenant.state == TenantState::Onboarding {
        return Ok(());
    }
    let caller = change.require_principal()?;
    match rights.iter().all(|right| right.grantor == caller) {
        true => Ok(()),
        false => Err(Refusal::GrantorNotCaller.into()),
    }
}

pub(super) async fn approve_decision_right(
    api: &Api,
    caller: &Caller,
    request: proto::ApproveDecisionRightRequest,
) -> Result<proto::ApproveDecisionRightResponse, ApiError> {
    let name = DecisionRightName::parse_field("name", &request.name)?;
    let tenant = name.tenant;
    let method = "ApproveDecisionRight";
    let mut change = match api
        .begin(caller, &tenant, method, &request.request_id, &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    let approver = change.require_principal()?;
    let found = store::principals::get(change.tx.conn(), &tenant, &approver).await?;
    let Some(approver) = found.filter(|one| one.require_accountable().is_ok()) else {
        return Err(Refusal::CallerNotCustomer.into());
    };
    let id = convert::id("name", RightId::parse(&name.decision_right))?;
    let right = store::rights::get(change.tx.conn(), &tenant, &id).await?;
    let mut right = right.ok_or_else(ApiError::not_found)?;
    if right.revoked_at_ms.is_some() {
        return Err(Refusal::RightRevoked.into());
    }
    if !right.proposed {
        return Err(Refusal::NotProposed.into());
    }
    let engine = change.tx.engine();
    let two = [&right.grantor, &right.grantee];
    let two = store::principals::get_many(change.tx.conn(), engine, &tenant, two).await?;
    let [grantor, grantee] = [&right.grantor, &right.grantee].map(|id| two.get(id));
    if !may_approve(grantor, grantee, &approver) {
        return Err(Refusal::SecondHumanRequired.into());
    }
    require_all_grantable(&mut change, std::slice::from_ref(&right)).await?;
    let payload = granted(&right, right.record_hash.to_vec());
    let draft = change
        .draft(&payload, id.in_records())
        .subject(right.grantee.in_records());
    let emitted = api.emit(&mut change, draft).await?;
    store::rights::approve(change.tx.conn(), &tenant, &id, emitted.record_hash).await?;
    right.proposed = false;
    right.record_hash = emitted.record_hash;
    let answer = proto::ApproveDecisionRightResponse {
        decision_right: Some(convert::right(&tenant, &right)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

/// What is asked for, before it is known whether its principals allow it.
fn read(
    change: &Change,
    position: usize,
    wanted: &proto::DecisionRight,
) -> Result<Right, ApiError> {
    let tenant = &change.tenant.id;
    let place = format!("decision_rights[{position}].");
    let field = |name: &str| format!("{place}{name}");
    let grantee = convert::principal_in(&field("grantee"), &wanted.grantee, tenant)?;
    let grantor = convert::principal_in(&field("grantor"), &wanted.grantor, tenant)?;
    let scope = convert::scope(&field("scope"), &wanted.scope, tenant)?;
    let from = convert::moment(&field("valid_from_time"), wanted.valid_from_time.as_ref())?;
    let valid_from_ms = from.unwrap_or(change.now_ms);
    let to = convert::moment(&field("valid_to_time"), wanted.valid_to_time.as_ref())?;
    let valid_to_ms = to.ok_or_else(|| ApiError::invalid(field("valid_to_time"), "is required"))?;
    let action = convert::action(wanted.action);
    check_new(action, valid_from_ms, valid_to_ms, change.now_ms).map_err(|wrong| {
        let mut faults = Faults::default();
        faults.add_all(&place, wrong);
        Refusal::Invalid(faults)
    })?;
    let id = RightId::parse(&new_id(change.now_ms));
    Ok(Right {
        id: convert::id("decision_right", id)?,
        grantee,
        action,
        scope,
        valid_from_ms,
        valid_to_ms,
        grantor,
        tiers: convert::codes(&field("tiers"), &wanted.tiers)?,
        environments: convert::codes(&field("environments"), &wanted.environments)?,
        proposed: false,
        revoked_at_ms: None,
        record_hash: [0; 32],
    })
}

/// Refuses all when one grantor may not give, or one grantee may not take.
async fn require_all_grantable(change: &mut Change, rights: &[Right]) -> Result<(), ApiError> {
    let ids: BTreeSet<&PrincipalId> = rights
        .iter()
        .flat_map(|right| [&right.grantor, &right.grantee])
        .collect();
    let engine = change.tx.engine();
    let tenant = &change.tenant.id;
    let found = store::principals::get_many(change.tx.conn(), engine, tenant, ids).await?;
    for (position, right) in rights.iter().enumerate() {
        let (grantor, grantee) = (found.get(&right.grantor), found.get(&right.grantee));
        require_grantable(grantor, grantee, right.action)
            .map_err(|reason| Refusal::NotGrantable { position, reason })?;
    }
    Ok(())
}

pub(super) async fn revoke_decision_right(
    api: &Api,
    caller: &Caller,
    request: proto::RevokeDecisionRightRequest,
) -> Result<proto::RevokeDecisionRightResponse, ApiError> {
    let name = DecisionRightName::parse_field("name", &request.name)?;
    let tenant = name.tenant;
    let method = "RevokeDecisionRight";
    let mut change = match api
        .begin(caller, &tenant, method, &request.request_id, &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_governing_caller().await?;
    let id = convert::id("name", RightId::parse(&name.decision_right))?;
    let right = store::rights::get(change.tx.conn(), &tenant, &id).await?;
    let right = right.ok_or_else(ApiError::not_found)?;
    if right.revoked_at_ms.is_some() {
        return Err(Refusal::RightRevoked.into());
    }
    let now_ms = change.now_ms;
    let payload = DecisionRightRevoked {
        right: id.as_str().to_owned(),
        effective_ms: now_ms,
    };
    let draft = change
        .draft(&payload, id.in_records())
        .subject(right.grantee.in_records());
    let emitted = api.emit(&mut change, draft).await?;
    store::rights::revoke(change.tx.conn(), &tenant, &id, now_ms).await?;
    let answer = proto::RevokeDecisionRightResponse {
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

pub(super) async fn list_decision_rights(
    api: &Api,
    caller: &Caller,
    request: proto::ListDecisionRightsRequest,
) -> Result<proto::ListDecisionRightsResponse, ApiError> {
    let tenant = api.known_tenant(caller, "tenant", &request.tenant).await?;
    let scope = ["ListDecisionRights", &tenant];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    let mut reader = api.db.read(&tenant).await?;
    let mut rows = store::rights::list(&mut reader, &tenant, From::page(&page)?).await?;
    let next_page_token = page.cut(&mut rows, |row| row.id.as_str().into());
    Ok(proto::ListDecisionRightsResponse {
        decision_rights: rows
            .iter()
            .map(|row| convert::right(&tenant, row))
            .collect(),
        next_page_token,
    })
}

/// What a principal may decide now, whoever or whatever it is: one rule for humans, machines and agents.
pub(super) async fn check_decision_right(
    api: &Api,
    caller: &Caller,
    request: proto::CheckDecisionRightRequest,
) -> Result<proto::CheckDecisionRightResponse, ApiError> {
    let name = PrincipalName::parse_field("principal", &request.principal)?;
    let tenant = name.tenant;
    caller.require_tenant(&tenant)?;
    let id = convert::id("principal", PrincipalId::parse(&name.principal))?;
    let action = convert::action(request.action);
    if action == DecisionAction::Unspecified {
        return Err(ApiError::invalid("action", "is required"));
    }
    let now_ms = api.clock.now_ms();
    let mut tx = api.db.read_tx(&tenant).await?;
    let found = store::principals::get(tx.conn(), &tenant, &id).await?;
    let principal = found.ok_or_else(ApiError::not_found)?;
    let mut rights = Vec::new();
    let who = (tenant.as_str(), &id);
    if principal.is_active() {
        let own = store::rights::holding(tx.conn(), &tenant, &id, action, now_ms).await?;
        let own = own.iter().filter(|right| right.holds(now_ms));
        rights.extend(own.map(|right| Offered {
            scope: right.scope.clone(),
            delegators: Vec::new(),
            operators: Vec::new(),
            right: convert::right(&tenant, right),
        }));
        let engine = api.db.engine();
        rights.extend(delegations::passed_on_to(&mut tx, engine, who, action, now_ms).await?);
        rights.extend(emergencies::decides(&mut tx, who, action, now_ms).await?);
    }
    let (rights, reach) = reach::narrow(tx.conn(), who, rights).await?;
    let whose = (tenant.as_str(), &principal);
    let (rights, agent) = agents::narrow(tx.conn(), whose, (action, now_ms), rights).await?;
    let owner = store::tenures::first(tx.conn(), &tenant).await?;
    let policy = store::policies::in_force(tx.conn(), &tenant, now_ms).await?;
    drop(tx);
    let rights = operators::of_people_at_home(api, rights).await?;
    let act = Act {
        tenant: &tenant,
        principal: &principal,
        action,
        now_ms,
    };
    let (rights, conditions) = api.conditions.narrow(policy.as_ref(), act, rights)?;
    Ok(proto::CheckDecisionRightResponse {
        conditions,
        agent,
        reach: reach.map(|environments| proto::Reach { environments }),
        decision_rights: rights,
        identity_key: principal.identity_key,
        accountable_owner: owner
            .map(|tenure| tenure.owner.name(&tenant))
            .unwrap_or_default(),
        policy_hash: policy
            .map(|bundle| bundle.hash().to_vec())
            .unwrap_or_default(),
    })
}
