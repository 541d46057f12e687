//! Business units and who answers for them.

use counterfoil_chassis::{ApiError, Caller};
use counterfoil_evidence::v1::BusinessUnitOwnerSet;
use counterfoil_proto::authority as proto;

use super::{
    Api,
    change::{Asked, Change},
    convert::{self, BusinessUnitName},
};
use crate::{
    error::Refusal,
    model::{
        ids::{BusinessUnitId, PrincipalId},
        principal::require_accountable,
        tenant::TenantState,
        tenure::{Tenure, check_unit, start_ms},
    },
    store::{self, From},
};

/// Who is to stand in; nobody need while the tenant is set up.
fn deputy(change: &Change, name: &str) -> Result<Option<PrincipalId>, ApiError> {
    if !name.is_empty() {
        let field = "business_unit.deputy";
        return convert::principal_in(field, name, &change.tenant.id).map(Some);
    }
    match change.tenant.state {
        TenantState::Onboarding => Ok(None),
        _ => Err(Refusal::DeputyRequired.into()),
    }
}

pub(super) async fn set_business_unit_owner(
    api: &Api,
    caller: &Caller,
    request: proto::SetBusinessUnitOwnerRequest,
) -> Result<proto::SetBusinessUnitOwnerResponse, ApiError> {
    let wanted = request.business_unit.clone().unwrap_or_default();
    let name = BusinessUnitName::parse_field("business_unit.name", &wanted.name)?;
    let tenant = name.tenant;
    let method = "SetBusinessUnitOwner";
    let mut change = match api
        .begin(caller, &tenant, method, &request.request_id, &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_customer_caller().await?;
    let id = BusinessUnitId::parse(&name.business_unit);
    let id = convert::id("business_unit.name", id)?;
    let owner = convert::principal_in("business_unit.owner", &wanted.owner, &tenant)?;
    let deputy = deputy(&change, &wanted.deputy)?;
    check_unit(&wanted.display_name, &owner, deputy.as_ref()).map_err(|wrong| {
        let mut faults = crate::model::Faults::default();
        faults.add_all("business_unit.", wrong);
        Refusal::Invalid(faults)
    })?;
    require_accountable_in(&mut change, "business_unit.owner", &owner).await?;
    if let Some(deputy) = &deputy {
        require_accountable_in(&mut change, "business_unit.deputy", deputy).await?;
    }
    let last = store::tenures::at(change.tx.conn(), &tenant, &id, i64::MAX).await?;
    let from_ms = start_ms(last.as_ref().map(|last| last.from_ms), change.now_ms);
    let display_name = match (wanted.display_name, last) {
        (name, Some(last)) if name.is_empty() => last.display_name,
        (name, _) => name,
    };
    let payload = BusinessUnitOwnerSet {
        business_unit: id.in_records(),
        owner: owner.in_records(),
        deputy: deputy
            .as_ref()
            .map(PrincipalId::in_records)
            .unwrap_or_default(),
        effective_from_ms: from_ms,
    };
    let mut draft = change
        .draft(&payload, id.in_records())
        .subject(owner.in_records());
    if !display_name.is_empty() {
        draft = draft.commit("display_name", display_name.as_bytes());
    }
    let emitted = api.emit(&mut change, draft).await?;
    let tenure = Tenure {
        business_unit: id,
        from_ms,
        owner,
        deputy,
        display_name,
        record_hash: emitted.record_hash,
    };
    store::tenures::insert(change.tx.conn(), &tenant, &tenure).await?;
    let answer = proto::SetBusinessUnitOwnerResponse {
        business_unit: Some(convert::business_unit(&tenant, &tenure)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

/// Refuses who cannot answer for anything.
pub(super) async fn require_accountable_in(
    change: &mut Change,
    field: &'static str,
    id: &PrincipalId,
) -> Result<(), ApiError> {
    let found = store::principals::get(change.tx.conn(), &change.tenant.id, id).await?;
    require_accountable(found.as_ref()).map_err(|reason| {
        ApiError::from(Refusal::NotAccountable {
            field,
            principal: id.clone(),
            reason,
        })
    })
}

pub(super) async fn get_business_unit_owner(
    api: &Api,
    caller: &Caller,
    request: proto::GetBusinessUnitOwnerRequest,
) -> Result<proto::GetBusinessUnitOwnerResponse, ApiError> {
    let name = BusinessUnitName::parse_field("name", &request.name)?;
    api.require_readable(caller, &name.tenant).await?;
    let id = convert::id("name", BusinessUnitId::parse(&name.business_unit))?;
    let at_ms = convert::moment("at_time", request.at_time.as_ref())?.unwrap_or(i64::MAX);
    let mut reader = api.db.read(&name.tenant).await?;
    let found = store::tenures::at(&mut reader, &name.tenant, &id, at_ms).await?;
    let found = found.ok_or_else(ApiError::not_found)?;
    Ok(proto::GetBusinessUnitOwnerResponse {
        business_unit: Some(convert::business_unit(&name.tenant, &found)),
    })
}

pub(super) async fn list_business_units(
    api: &Api,
    caller: &Caller,
    request: proto::ListBusinessUnitsRequest,
) -> Result<proto::ListBusinessUnitsResponse, ApiError> {
    let tenant = api.known_tenant(caller, "tenant", &request.tenant).await?;
    let scope = ["ListBusinessUnits", &tenant];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    let mut reader = api.db.read(&tenant).await?;
    let mut rows = store::tenures::list(&mut reader, &tenant, From::page(&page)?).await?;
    let next_page_token = page.cut(&mut rows, |row| row.business_unit.as_str().into());
    Ok(proto::ListBusinessUnitsResponse {
        business_units: rows
            .iter()
            .map(|row| convert::business_unit(&tenant, row))
            .collect(),
        next_page_token,
    })
}
