//! Organisations. They leave no record of their own: the record of each principal carries the kind of its organisation.

use counterfoil_chassis::{ApiError, Caller, names::tenant_field};
use counterfoil_proto::authority as proto;

use super::{Api, change::Asked, convert};
use crate::{
    error::Refusal,
    model::{
        Faults,
        ids::OrganizationId,
        principal::{Organization, OrganizationKind},
        tenant::TenantKind,
        text,
    },
    store::{self, From},
};

pub(super) async fn create_organization(
    api: &Api,
    caller: &Caller,
    request: proto::CreateOrganizationRequest,
) -> Result<proto::CreateOrganizationResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    let method = "CreateOrganization";
    let mut change = match api
        .begin(caller, &tenant, method, &request.request_id, &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_governing_caller().await?;
    let id = OrganizationId::parse(&request.organization_id);
    let kind = convert::kind_of_organization(request.kind);
    let mut faults = Faults::default();
    faults.require(
        text::is_name(&request.display_name),
        "display_name",
        text::NAME,
    );
    faults.require(kind != OrganizationKind::Unspecified, "kind", "is required");
    faults.or(()).map_err(Refusal::from)?;
    let organization = Organization {
        id: convert::id("organization_id", id)?,
        kind,
        display_name: request.display_name,
    };
    if !fits(change.tenant.kind, kind) {
        return Err(Refusal::TenantKind.into());
    }
    let now_ms = change.now_ms;
    if !store::organizations::insert(change.tx.conn(), &tenant, &organization, now_ms).await? {
        return Err(Refusal::OrganizationExists.into());
    }
    let answer = proto::CreateOrganizationResponse {
        organization: Some(convert::organization(&tenant, &organization)),
    };
    api.finish(change, answer).await
}

/// A provider's own tenant has nobody who could be taken for a customer.
fn fits(tenant: TenantKind, organization: OrganizationKind) -> bool {
    tenant != TenantKind::Provider
        || matches!(
            organization,
            OrganizationKind::Provider | OrganizationKind::Subcontractor
        )
}

pub(super) async fn list_organizations(
    api: &Api,
    caller: &Caller,
    request: proto::ListOrganizationsRequest,
) -> Result<proto::ListOrganizationsResponse, ApiError> {
    let tenant = api.known_tenant(caller, "tenant", &request.tenant).await?;
    let scope = ["ListOrganizations", &tenant];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    let mut reader = api.db.read(&tenant).await?;
    let mut rows = store::organizations::list(&mut reader, &tenant, From::page(&page)?).await?;
    let next_page_token = page.cut(&mut rows, |row| row.id.as_str().into());
    Ok(proto::ListOrganizationsResponse {
        organizations: rows
            .iter()
            .map(|row| convert::organization(&tenant, row))
            .collect(),
        next_page_token,
    })
}
