//! Principals: who acts on Counterfoil.

use std::collections::{HashMap, HashSet};

use counterfoil_chassis::{
    ApiError, Caller, EmittedRecord,
    names::{PrincipalName, new_id, tenant_field},
};
use counterfoil_evidence::{
    leaf::canonical_identity_key,
    v1::{PrincipalEnded, PrincipalRegistered},
};
use counterfoil_proto::authority as proto;

use super::{
    Api,
    change::{Asked, Change},
    convert, holds, operators,
};
use crate::{
    error::Refusal,
    model::{
        Faults,
        ids::{OrganizationId, PrincipalId},
        principal::{Organization, OrganizationKind, Principal, check_new},
        settings::{SettingKind, last_resort},
    },
    store::{self, From},
};

/// Most principals in one call.
const BATCH_MAX: usize = 1_000;

pub(super) async fn create_principal(
    api: &Api,
    caller: &Caller,
    request: proto::CreatePrincipalRequest,
) -> Result<proto::CreatePrincipalResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    let method = "CreatePrincipal";
    let mut change = match api
        .begin(caller, &tenant, method, &request.request_id, &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_governing_caller().await?;
    let created = create(api, &mut change, std::slice::from_ref(&request), |_| {
        String::new()
    })
    .await?;
    let answer = created.into_iter().next().unwrap_or_default();
    api.finish(change, answer).await
}

pub(super) async fn batch_create_principals(
    api: &Api,
    caller: &Caller,
    request: proto::BatchCreatePrincipalsRequest,
) -> Result<proto::BatchCreatePrincipalsResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    let method = "BatchCreatePrincipals";
    let mut change = match api
        .begin(caller, &tenant, method, &request.request_id, &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_governing_caller().await?;
    if !(1..=BATCH_MAX).contains(&request.requests.len()) {
        return Err(ApiError::invalid("requests", "must be 1 to 1,000"));
    }
    let place = |position| format!("requests[{position}].");
    let responses = create(api, &mut change, &request.requests, place).await?;
    api.finish(change, proto::BatchCreatePrincipalsResponse { responses })
        .await
}

/// Creates principals: all or, with every fault named by its `place`, none.
async fn create(
    api: &Api,
    change: &mut Change,
    requests: &[proto::CreatePrincipalRequest],
    place: impl Fn(usize) -> String,
) -> Result<Vec<proto::CreatePrincipalResponse>, ApiError> {
    let mut faults = Faults::default();
    let mut wanted = Vec::with_capacity(requests.len());
    for (position, request) in requests.iter().enumerate() {
        match read(change, request) {
            Ok(principal) => wanted.push(principal),
            Err(wrong) => faults.add_all(&place(position), wrong),
        }
    }
    faults.or(()).map_err(Refusal::from)?;
    let tenant = change.tenant.id.clone();
    let engine = change.tx.engine();
    let organizations = wanted.iter().map(|one| &one.organization);
    let organizations =
        store::organizations::get_many(change.tx.conn(), engine, &tenant, organizations).await?;
    join(&mut wanted, &organizations)?;
    holds::require_needed(change, &wanted).await?;
    let ids = wanted.iter().map(|one| &one.id);
    let taken = store::principals::get_many(change.tx.conn(), engine, &tenant, ids).await?;
    let mut seen = HashSet::new();
    let twice = |id: &&PrincipalId| taken.contains_key(*id) || !seen.insert((*id).clone());
    if let Some(id) = wanted.iter().map(|one| &one.id).find(twice) {
        return Err(Refusal::PrincipalExists(id.clone()).into());
    }
    let drafts = wanted.iter().map(|principal| {
        let payload = PrincipalRegistered {
            principal: principal.id.in_records(),
            kind: principal.kind.into(),
            organization: principal.organization.in_records(),
            organization_kind: principal.organization_kind.into(),
            identity_tag: convert::identity_tag(
                &change.tenant.correlation_salt,
                &principal.identity_key,
            ),
        };
        let draft = change.draft(&payload, principal.id.in_records());
        draft.commit("display_name", principal.display_name.as_bytes())
    });
    let drafts = drafts.collect();
    let emitted = api.emit_many(change, drafts).await?;
    for (principal, record) in wanted.iter_mut().zip(&emitted) {
        principal.record_hash = record.record_hash;
    }
    let now_ms = change.now_ms;
    store::principals::insert(&mut change.tx, &wanted, now_ms).await?;
    let answers = wanted.iter().zip(&emitted);
    Ok(answers
        .map(|(principal, record)| answer(&tenant, principal, record))
        .collect())
}

fn answer(
    tenant: &str,
    principal: &Principal,
    record: &EmittedRecord,
) -> proto::CreatePrincipalResponse {
    proto::CreatePrincipalResponse {
        principal: Some(convert::principal(tenant, principal)),
        receipt: Some(record.pending_receipt()),
    }
}

/// What is asked for, before it is known whether its organisation exists.
fn read(change: &Change, request: &proto::CreatePrincipalRequest) -> Result<Principal, Faults> {
    let mut faults = Faults::default();
    let id = match request.principal_id.as_str() {
        "" => PrincipalId::parse(&new_id(change.now_ms)),
        id => PrincipalId::parse(id),
    };
    if id.is_none() {
        faults.add("principal_id", crate::model::ids::ID);
    }
    let wanted = request.principal.clone().unwrap_or_default();
    let organization = convert::OrganizationName::parse(&wanted.organization)
        .ok()
        .filter(|name| name.tenant == change.tenant.id)
        .and_then(|name| OrganizationId::parse(&name.organization));
    if organization.is_none() {
        let what =
            "must be an organisation of the tenant, tenants/{tenant}/organizations/{organization}";
        faults.add("principal.organization", what);
    }
    let kind = convert::kind_of_principal(wanted.kind);
    let roles = check_new(
        kind,
        &wanted.display_name,
        &wanted.identity_key,
        &wanted.roles,
    )
    .unwrap_or_else(|wrong| {
        faults.add_all("principal.", wrong);
        Vec::new()
    });
    let (Some(id), Some(organization)) = (id, organization) else {
        return Err(faults);
    };
    faults.or(Principal {
        id,
        kind,
        organization,
        organization_kind: OrganizationKind::Unspecified,
        identity_key: canonical_identity_key(&wanted.identity_key),
        roles,
        display_name: wanted.display_name,
        ended_at_ms: None,
        record_hash: [0; 32],
    })
}

/// Gives each principal the kind of its organisation.
fn join(
    principals: &mut [Principal],
    organizations: &HashMap<OrganizationId, Organization>,
) -> Result<(), ApiError> {
    for principal in principals {
        let found = organizations.get(&principal.organization);
        principal.organization_kind = found.ok_or_else(ApiError::not_found)?.kind;
    }
    Ok(())
}

pub(super) async fn get_principal(
    api: &Api,
    caller: &Caller,
    request: proto::GetPrincipalRequest,
) -> Result<proto::GetPrincipalResponse, ApiError> {
    let name = PrincipalName::parse_field("name", &request.name)?;
    api.require_readable(caller, &name.tenant).await?;
    let id = convert::id("name", PrincipalId::parse(&name.principal))?;
    let mut reader = api.db.read(&name.tenant).await?;
    let found = store::principals::get(&mut reader, &name.tenant, &id).await?;
    let found = found.ok_or_else(ApiError::not_found)?;
    Ok(proto::GetPrincipalResponse {
        principal: Some(convert::principal(&name.tenant, &found)),
    })
}

pub(super) async fn list_principals(
    api: &Api,
    caller: &Caller,
    request: proto::ListPrincipalsRequest,
) -> Result<proto::ListPrincipalsResponse, ApiError> {
    let tenant = api.known_tenant(caller, "tenant", &request.tenant).await?;
    let scope = ["ListPrincipals", &tenant];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    let mut reader = api.db.read(&tenant).await?;
    let mut rows = store::principals::list(&mut reader, &tenant, From::page(&page)?).await?;
    let next_page_token = page.cut(&mut rows, |row| row.id.as_str().into());
    Ok(proto::ListPrincipalsResponse {
        principals: rows
            .iter()
            .map(|row| convert::principal(&tenant, row))
            .collect(),
        next_page_token,
    })
}

pub(super) async fn end_principal(
    api: &Api,
    caller: &Caller,
    request: proto::EndPrincipalRequest,
) -> Result<proto::EndPrincipalResponse, ApiError> {
    let name = PrincipalName::parse_field("name", &request.name)?;
    let tenant = name.tenant;
    let method = "EndPrincipal";
    let mut change = match api
        .begin(caller, &tenant, method, &request.request_id, &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_governing_caller().await?;
    let id = convert::id("name", PrincipalId::parse(&name.principal))?;
    let found = store::principals::get(change.tx.conn(), &tenant, &id).await?;
    let found = found.ok_or_else(ApiError::not_found)?;
    if !found.is_active() {
        return Err(Refusal::PrincipalEnded.into());
    }
    require_dispensable(&mut change, &id).await?;
    operators::end_with(api, &mut change, &id).await?;
    let emitted = end(api, &mut change, &id).await?;
    let ended = Principal {
        ended_at_ms: Some(change.now_ms),
        ..found
    };
    let answer = proto::EndPrincipalResponse {
        principal: Some(convert::principal(&tenant, &ended)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

/// Writes that a principal has ended.
pub(super) async fn end(
    api: &Api,
    change: &mut Change,
    id: &PrincipalId,
) -> Result<EmittedRecord, ApiError> {
    let (tenant, now_ms) = (change.tenant.id.clone(), change.now_ms);
    let payload = PrincipalEnded {
        principal: id.in_records(),
        effective_ms: now_ms,
    };
    let draft = change.draft(&payload, id.in_records());
    let emitted = api.emit(change, draft).await?;
    store::principals::end(change.tx.conn(), &tenant, id, now_ms).await?;
    Ok(emitted)
}

/// Refuses to end who owns a business unit or stands in for its owner, or is the last to be asked: nothing may be left without an answerable human.
async fn require_dispensable(change: &mut Change, id: &PrincipalId) -> Result<(), ApiError> {
    let tenant = change.tenant.id.clone();
    if let Some(unit) = store::tenures::answered_by(change.tx.conn(), &tenant, id).await? {
        return Err(Refusal::OwnsBusinessUnit(unit).into());
    }
    if let Some(activity) = store::qualifications::owned_by(change.tx.conn(), &tenant, id).await? {
        return Err(Refusal::OwnsRisk(activity).into());
    }
    let kind = SettingKind::EscalationPath;
    let path = store::settings::latest(change.tx.conn(), &tenant, kind).await?;
    let last = path.and_then(|path| last_resort(&path.content));
    if last.as_ref() == Some(id) {
        return Err(Refusal::IsLastResort.into());
    }
    Ok(())
}
