//! Rights passed on.

use counterfoil_chassis::{
    ApiError, Caller, EmittedRecord,
    names::{new_id, tenant_field},
};
use counterfoil_evidence::v1::{DelegationGranted, DelegationRevoked};
use counterfoil_proto::authority as proto;

use super::{
    Api,
    change::{Asked, Change},
    conditions::Offered,
    convert::{self, DecisionRightName, DelegationName},
    operators,
};
use crate::{
    error::Refusal,
    model::{
        Faults,
        delegation::{Delegation, Held, check_new, require_delegable},
        ids::{DelegationId, PrincipalId, RightId},
        right::DecisionAction,
    },
    store::{self, From, Reader},
};

/// Reason code of what an absence passes on.
const ABSENCE: &str = "absence";

pub(super) async fn grant_delegation(
    api: &Api,
    caller: &Caller,
    request: proto::GrantDelegationRequest,
) -> Result<proto::GrantDelegationResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    let mut change = match api
        .begin(
            caller,
            &tenant,
            "GrantDelegation",
            &request.request_id,
            &request,
        )
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_active()?;
    let delegator = change.require_principal()?;
    let wanted = request.delegation.clone().unwrap_or_default();
    let held = source(&mut change, &wanted.source).await?;
    let held = held
        .filter(|held| *held.holder() == delegator)
        .ok_or_else(ApiError::not_found)?;
    let delegation = read(&change, &held, &wanted)?;
    let (delegation, emitted) = pass_on(api, &mut change, &held, delegation).await?;
    let answer = proto::GrantDelegationResponse {
        delegation: Some(convert::delegation(&tenant, &delegation)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

pub(super) async fn set_absence(
    api: &Api,
    caller: &Caller,
    request: proto::SetAbsenceRequest,
) -> Result<proto::SetAbsenceResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    let mut change = match api
        .begin(caller, &tenant, "SetAbsence", &request.request_id, &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_active()?;
    let absent = change.require_principal()?;
    let deputy = convert::principal_in("deputy", &request.deputy, &tenant)?;
    let from_ms = convert::moment("from_time", request.from_time.as_ref())?;
    let from_ms = from_ms.unwrap_or(change.now_ms);
    let to_ms = convert::moment("to_time", request.to_time.as_ref())?;
    let to_ms = to_ms.ok_or_else(|| ApiError::invalid("to_time", "is required"))?;
    let conn = change.tx.conn();
    let rights =
        store::rights::holding_throughout(conn, &tenant, &absent, (from_ms, to_ms)).await?;
    if rights.is_empty() {
        return Err(Refusal::NothingToPassOn.into());
    }
    let mut answer = proto::SetAbsenceResponse::default();
    for right in rights {
        let held = Held {
            right,
            passed_on: Vec::new(),
        };
        let wanted = whole(&change, &held, deputy.clone(), (from_ms, to_ms))?;
        let (delegation, emitted) = pass_on(api, &mut change, &held, wanted).await?;
        answer
            .delegations
            .push(convert::delegation(&tenant, &delegation));
        answer.receipts.push(emitted.pending_receipt());
    }
    api.finish(change, answer).await
}

/// What a delegation passes on: a right, or another delegation. `None`: there is no such thing.
async fn source(change: &mut Change, name: &str) -> Result<Option<Held>, ApiError> {
    let tenant = change.tenant.id.clone();
    if let Ok(name) = DecisionRightName::parse(name) {
        let id = RightId::parse(&name.decision_right).filter(|_| name.tenant == tenant);
        let Some(id) = id else { return Ok(None) };
        let right = store::rights::get(change.tx.conn(), &tenant, &id).await?;
        return Ok(right.map(|right| Held {
            right,
            passed_on: Vec::new(),
        }));
    }
    let name = DelegationName::parse_field("delegation.source", name)?;
    let id = DelegationId::parse(&name.delegation).filter(|_| name.tenant == tenant);
    let Some(id) = id else { return Ok(None) };
    match store::delegations::get(change.tx.conn(), &tenant, &id).await? {
        Some(found) => Ok(Some(
            store::delegations::held(change.tx.conn(), &tenant, found).await?,
        )),
        None => Ok(None),
    }
}

/// What is asked for, before it is known whether it may be passed on.
fn read(change: &Change, held: &Held, wanted: &proto::Delegation) -> Result<Delegation, ApiError> {
    let tenant = &change.tenant.id;
    let delegate = convert::principal_in("delegation.delegate", &wanted.delegate, tenant)?;
    let from = convert::moment(
        "delegation.valid_from_time",
        wanted.valid_from_time.as_ref(),
    )?;
    let to = convert::moment("delegation.valid_to_time", wanted.valid_to_time.as_ref())?;
    let to = to.ok_or_else(|| ApiError::invalid("delegation.valid_to_time", "is required"))?;
    let mut one = whole(change, held, delegate, (from.unwrap_or(change.now_ms), to))?;
    if !wanted.scope.is_empty() {
        one.scope = convert::scope("delegation.scope", &wanted.scope, tenant)?;
    }
    if !wanted.tiers.is_empty() {
        one.tiers = convert::codes("delegation.tiers", &wanted.tiers)?;
    }
    if !wanted.environments.is_empty() {
        one.environments = convert::codes("delegation.environments", &wanted.environments)?;
    }
    one.transitive = wanted.transitive;
    one.reason_code.clone_from(&wanted.reason_code);
    Ok(one)
}

/// All that is held, passed on for a time.
fn whole(
    change: &Change,
    held: &Held,
    delegate: PrincipalId,
    (valid_from_ms, valid_to_ms): (i64, i64),
) -> Result<Delegation, ApiError> {
    let (scope, tiers, environments) = held.reach();
    let id = DelegationId::parse(&new_id(change.now_ms));
    Ok(Delegation {
        id: convert::id("delegation", id)?,
        delegator: held.holder().clone(),
        delegate,
        right: held.right.id.clone(),
        source: held.passed_on.last().map(|last| last.id.clone()),
        action: held.right.action,
        scope: scope.clone(),
        tiers: tiers.to_vec(),
        environments: environments.to_vec(),
        valid_from_ms,
        valid_to_ms,
        transitive: false,
        reason_code: ABSENCE.to_owned(),
        revoked_at_ms: None,
        record_hash: [0; 32],
    })
}

async fn pass_on(
    api: &Api,
    change: &mut Change,
    held: &Held,
    mut wanted: Delegation,
) -> Result<(Delegation, EmittedRecord), ApiError> {
    check_new(&wanted, change.now_ms).map_err(|wrong| {
        let mut faults = Faults::default();
        faults.add_all("delegation.", wrong);
        Refusal::Invalid(faults)
    })?;
    let tenant = change.tenant.id.clone();
    let delegate = store::principals::get(change.tx.conn(), &tenant, &wanted.delegate).await?;
    let connection = change.tx.conn();
    let given = store::delegations::given(connection, &tenant, &wanted).await?;
    require_delegable(held, delegate.as_ref(), &wanted, given).map_err(Refusal::NotDelegable)?;
    let payload = DelegationGranted {
        delegation: wanted.id.as_str().to_owned(),
        delegator: wanted.delegator.in_records(),
        delegate: wanted.delegate.in_records(),
        source_record_hash: held.record_hash().to_vec(),
        action: wanted.action.into(),
        scope: wanted.scope.in_records(),
        tiers: wanted.tiers.clone(),
        environments: wanted.environments.clone(),
        valid_from_ms: wanted.valid_from_ms,
        valid_to_ms: wanted.valid_to_ms,
        transitive: wanted.transitive,
        reason_code: wanted.reason_code.clone(),
    };
    let draft = change
        .draft(&payload, wanted.id.in_records())
        .subject(wanted.delegate.in_records());
    let emitted = api.emit(change, draft).await?;
    wanted.record_hash = emitted.record_hash;
    store::delegations::insert(change.tx.conn(), &tenant, &wanted).await?;
    Ok((wanted, emitted))
}

pub(super) async fn revoke_delegation(
    api: &Api,
    caller: &Caller,
    request: proto::RevokeDelegationRequest,
) -> Result<proto::RevokeDelegationResponse, ApiError> {
    let name = DelegationName::parse_field("name", &request.name)?;
    let tenant = name.tenant;
    let mut change = match api
        .begin(
            caller,
            &tenant,
            "RevokeDelegation",
            &request.request_id,
            &request,
        )
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    let id = convert::id("name", DelegationId::parse(&name.delegation))?;
    let found = store::delegations::get(change.tx.conn(), &tenant, &id).await?;
    let found = found.ok_or_else(ApiError::not_found)?;
    let own = change.require_principal()?;
    let of_two = own == found.delegator || own == found.delegate;
    if !of_two && change.require_customer_administrator(caller).await.is_err() {
        return Err(ApiError::not_found());
    }
    if found.revoked_at_ms.is_some() {
        return Err(Refusal::RightRevoked.into());
    }
    let now_ms = change.now_ms;
    let payload = DelegationRevoked {
        delegation: id.as_str().to_owned(),
        effective_ms: now_ms,
    };
    let draft = change
        .draft(&payload, id.in_records())
        .subject(found.delegate.in_records());
    let emitted = api.emit(&mut change, draft).await?;
    store::delegations::revoke(change.tx.conn(), &tenant, &id, now_ms).await?;
    let answer = proto::RevokeDelegationResponse {
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

pub(super) async fn list_delegations(
    api: &Api,
    caller: &Caller,
    request: proto::ListDelegationsRequest,
) -> Result<proto::ListDelegationsResponse, ApiError> {
    let tenant = api.known_tenant(caller, "tenant", &request.tenant).await?;
    let scope = ["ListDelegations", &tenant];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    let mut reader = api.db.read(&tenant).await?;
    let mut rows = store::delegations::list(&mut reader, &tenant, From::page(&page)?).await?;
    let next_page_token = page.cut(&mut rows, |row| row.id.as_str().into());
    Ok(proto::ListDelegationsResponse {
        delegations: rows
            .iter()
            .map(|row| convert::delegation(&tenant, row))
            .collect(),
        next_page_token,
    })
}

/// What was passed on to a principal and holds now, with the people in whose names it decides: all of them there still, and able to
/// act if they are a provider's.
pub(super) async fn passed_on_to(
    reader: &mut Reader,
    engine: counterfoil_chassis::Engine,
    (tenant, delegate): (&str, &PrincipalId),
    action: DecisionAction,
    now_ms: i64,
) -> Result<Vec<Offered>, ApiError> {
    let found =
        store::delegations::holding(reader.conn(), tenant, delegate, action, now_ms).await?;
    let mut rights = Vec::with_capacity(found.len());
    for one in found {
        let held = store::delegations::held(reader.conn(), tenant, one).await?;
        let people =
            store::principals::get_many(reader.conn(), engine, tenant, held.people()).await?;
        let there = held
            .people()
            .all(|id| people.get(id).is_some_and(|one| one.is_active()));
        if !held.holds(now_ms) || !there {
            continue;
        }
        let able = operators::able(reader.conn(), tenant, held.people(), now_ms);
        if let Some(operators) = able.await? {
            let key = |id: &PrincipalId| {
                people
                    .get(id)
                    .map(|one| one.identity_key.clone())
                    .unwrap_or_default()
            };
            let delegators = held.on_behalf_of();
            rights.push(Offered {
                operators,
                scope: held.reach().0.clone(),
                delegators: delegators
                    .filter_map(|id| people.get(id).cloned())
                    .collect(),
                right: convert::held(tenant, &held, key),
            });
        }
    }
    Ok(rights)
}
