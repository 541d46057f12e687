//! Legal holds.

use counterfoil_chassis::{
    ApiError, Caller,
    clock::timestamp,
    names::{new_id, tenant_field},
    resource_name,
};
use counterfoil_evidence::v1::{LegalHoldPlaced, LegalHoldReleased};
use counterfoil_proto::authority as proto;

use super::{
    Api,
    change::{Asked, Change},
    convert,
};
use crate::{
    error::{HoldRefusal, Refusal},
    model::{
        Faults,
        hold::{Hold, IN_FORCE_MAX, Release, can_release, check_new, may_release},
        ids::HoldId,
        principal::Principal,
        tenant::TenantState,
        text,
    },
    store::{self, From},
};

resource_name! {
    /// "tenants/{tenant}/legal-holds/{legal_hold}".
    struct HoldName { tenant: "tenants", legal_hold: "legal-holds" }
}

pub(super) async fn place_legal_hold(
    api: &Api,
    caller: &Caller,
    request: proto::PlaceLegalHoldRequest,
) -> Result<proto::PlaceLegalHoldResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    let method = "PlaceLegalHold";
    let mut change = match api
        .begin(caller, &tenant, method, &request.request_id, &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    let placed_by = change.require_governing_human().await?;
    let wanted = request.hold.clone().unwrap_or_default();
    let retention_classes = check_new(
        &wanted.retention_classes,
        &wanted.basis,
        &wanted.reason_code,
    )
    .map_err(Refusal::from)?;
    let in_force = store::holds::in_force(change.tx.conn(), &tenant).await?;
    if in_force.len() >= usize::from(IN_FORCE_MAX) {
        return Err(HoldRefusal::TooMany.into());
    }
    let id = HoldId::parse(&new_id(change.now_ms));
    let mut hold = Hold {
        id: convert::id("hold", id)?,
        retention_classes,
        basis: wanted.basis,
        reason_code: wanted.reason_code,
        placed_by: placed_by.id,
        placed_at_ms: change.now_ms,
        record_hash: [0; 32],
        release: None,
    };
    let payload = LegalHoldPlaced {
        hold: hold.id.as_str().to_owned(),
        retention_classes: hold.retention_classes.clone(),
        basis: hold.basis.clone(),
        reason_code: hold.reason_code.clone(),
    };
    let draft = change.draft(&payload, hold.id.in_records());
    let emitted = api.emit(&mut change, draft).await?;
    hold.record_hash = emitted.record_hash;
    store::holds::insert(change.tx.conn(), &tenant, &hold).await?;
    let answer = proto::PlaceLegalHoldResponse {
        hold: Some(told(&tenant, &hold)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

pub(super) async fn release_legal_hold(
    api: &Api,
    caller: &Caller,
    request: proto::ReleaseLegalHoldRequest,
) -> Result<proto::ReleaseLegalHoldResponse, ApiError> {
    let name = HoldName::parse_field("name", &request.name)?;
    let tenant = name.tenant;
    let method = "ReleaseLegalHold";
    let mut change = match api
        .begin(caller, &tenant, method, &request.request_id, &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    let released_by = change.require_governing_human().await?;
    let id = convert::id("name", HoldId::parse(&name.legal_hold))?;
    let found = store::holds::get(change.tx.conn(), &tenant, &id).await?;
    let mut hold = found.ok_or_else(ApiError::not_found)?;
    if !text::is_code(&request.reason_code) {
        return Err(Refusal::Invalid(Faults::one("reason_code", text::CODE)).into());
    }
    if hold.release.is_some() {
        return Err(HoldRefusal::Released.into());
    }
    let placed_by = store::principals::get(change.tx.conn(), &tenant, &hold.placed_by).await?;
    let another = placed_by.is_some_and(|placed_by| may_release(&placed_by, &released_by));
    if !another {
        return Err(HoldRefusal::SecondHuman.into());
    }
    let payload = LegalHoldReleased {
        hold: hold.id.as_str().to_owned(),
        placed_record_hash: hold.record_hash.to_vec(),
        reason_code: request.reason_code.clone(),
    };
    let draft = change.draft(&payload, hold.id.in_records());
    let emitted = api.emit(&mut change, draft).await?;
    let release = Release {
        by: released_by.id,
        at_ms: change.now_ms,
        reason_code: request.reason_code,
    };
    store::holds::release(change.tx.conn(), &tenant, &id, &release).await?;
    hold.release = Some(release);
    let answer = proto::ReleaseLegalHoldResponse {
        hold: Some(told(&tenant, &hold)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

pub(super) async fn list_legal_holds(
    api: &Api,
    caller: &Caller,
    request: proto::ListLegalHoldsRequest,
) -> Result<proto::ListLegalHoldsResponse, ApiError> {
    let tenant = api.known_tenant(caller, "tenant", &request.tenant).await?;
    let scope = ["ListLegalHolds", &tenant];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    let mut reader = api.db.read(&tenant).await?;
    let mut rows = store::holds::list(&mut reader, &tenant, From::page(&page)?).await?;
    let next_page_token = page.cut(&mut rows, |row| row.id.as_str().into());
    Ok(proto::ListLegalHoldsResponse {
        holds: rows.iter().map(|row| told(&tenant, row)).collect(),
        next_page_token,
    })
}

/// Refuses to let the whole tenant go while anything of it is held.
pub(super) async fn require_none(change: &mut Change) -> Result<(), ApiError> {
    let tenant = change.tenant.id.clone();
    let in_force = store::holds::in_force(change.tx.conn(), &tenant).await?;
    match in_force.is_empty() {
        true => Ok(()),
        false => Err(HoldRefusal::InForce("the tenant cannot be closed".to_owned()).into()),
    }
}

/// Lets nobody come into a tenant that leaves but who can release what is held: where only one human could place a hold, it would
/// otherwise be held for ever.
pub(super) async fn require_needed(
    change: &mut Change,
    wanted: &[Principal],
) -> Result<(), ApiError> {
    if change.tenant.state != TenantState::Exiting {
        return Ok(());
    }
    let (tenant, governing) = (change.tenant.id.clone(), change.governing_kind());
    let in_force = store::holds::in_force(change.tx.conn(), &tenant).await?;
    let mut is_needed =
        !in_force.is_empty() && wanted.iter().all(|one| can_release(one, governing));
    for hold in &in_force {
        let placed_by = store::principals::get(change.tx.conn(), &tenant, &hold.placed_by).await?;
        let is_second = |one: &Principal| {
            // Whom nobody can tell apart from who placed the hold is no second human.
            let known = !one.identity_key.is_empty();
            known
                && placed_by
                    .as_ref()
                    .is_some_and(|placed_by| may_release(placed_by, one))
        };
        is_needed &= wanted.iter().all(is_second);
    }
    match is_needed {
        true => Ok(()),
        false => Err(Refusal::TenantState(TenantState::Exiting).into()),
    }
}

fn told(tenant: &str, hold: &Hold) -> proto::LegalHold {
    let release = hold.release.as_ref();
    proto::LegalHold {
        name: hold.id.name(tenant),
        retention_classes: hold.retention_classes.clone(),
        basis: hold.basis.clone(),
        reason_code: hold.reason_code.clone(),
        placed_by: hold.placed_by.name(tenant),
        place_time: Some(timestamp(hold.placed_at_ms)),
        released_by: release
            .map(|release| release.by.name(tenant))
            .unwrap_or_default(),
        release_reason_code: release
            .map(|release| release.reason_code.clone())
            .unwrap_or_default(),
        release_time: release.map(|release| timestamp(release.at_ms)),
        record_hash: hold.record_hash.to_vec(),
    }
}
