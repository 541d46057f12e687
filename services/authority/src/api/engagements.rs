//! Engagements, once they are asked for: approved by the customer, ended by either. Every step is a change of the customer's tenant.

use counterfoil_chassis::{
    ApiError, Caller, RecordDraft, db::scope, names::tenant_field, telemetry,
};
use counterfoil_evidence::v1::{
    EngagementApproved, EngagementEnd, EngagementEnded, EngagementExtended, SubcontractorEngaged,
};
use counterfoil_proto::authority as proto;

use super::{
    Api,
    change::{Asked, Change},
    convert::{self, EngagementName, OrganizationName},
    offers::{self, engagement_of},
    operators,
};
use crate::{
    error::Refusal,
    model::{
        engagement::{
            Approval, DAY_MS, Engagement, MANDATORY, Phase, check_roles, extended, wider,
        },
        ids::{EngagementId, OrganizationId},
        principal::OrganizationKind,
        tenant::{TenantKind, TenantState},
        text,
    },
    store::{self, From, engagements::Offer},
};

/// Does the work of one tenant for somebody of another: an engagement is the one thing that two tenants share. Nothing that binds
/// the caller to its own tenant binds it; it must look who asks.
pub(super) async fn across<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    let request_id = telemetry::request_id();
    scope::across(telemetry::with_request_id(request_id, work))
        .await
        .map_err(ApiError::internal)?
}

/// The tenant of the provider in whose name somebody calls: an active human of it, in its own, active tenant.
pub(super) async fn require_provider(api: &Api, caller: &Caller) -> Result<String, ApiError> {
    let refused = || ApiError::from(Refusal::CallerNotProvider);
    let tenant = caller.tenant().filter(|_| caller.operator().is_none());
    let tenant = tenant.ok_or_else(refused)?;
    let id = convert::principal_in("caller", caller.principal(), tenant)?;
    let mut reader = api.db.read(tenant).await?;
    let home = store::tenants::get(&mut reader, tenant).await?;
    let active = home
        .is_some_and(|home| home.kind == TenantKind::Provider && home.state == TenantState::Active);
    let principal = store::principals::get(&mut reader, tenant, &id).await?;
    let human = principal.is_some_and(|one| one.is_active_human_of(OrganizationKind::Provider));
    if active && human {
        Ok(tenant.to_owned())
    } else {
        Err(refused())
    }
}

/// The customer's tenant and the id that a name names.
pub(super) fn parse(field: &str, name: &str) -> Result<(String, EngagementId), ApiError> {
    let name = EngagementName::parse_field(field, name)?;
    let id = convert::id(field, EngagementId::parse(&name.engagement))?;
    Ok((name.tenant, id))
}

/// The engagement that a change of the customer's tenant is about.
pub(crate) async fn of_change(
    change: &mut Change,
    id: &EngagementId,
) -> Result<Engagement, ApiError> {
    let tenant = change.tenant.id.clone();
    let found = store::engagements::get(change.tx.conn(), &tenant, id).await?;
    found.ok_or_else(ApiError::not_found)
}

/// What was approved of an engagement that is live.
pub(super) fn live(engagement: &Engagement, now_ms: i64) -> Result<Approval, ApiError> {
    let state = || Refusal::EngagementState(engagement.phase(now_ms));
    Ok(engagement.live(now_ms).cloned().ok_or_else(state)?)
}

pub(super) async fn approve_engagement(
    api: &Api,
    caller: &Caller,
    request: proto::ApproveEngagementRequest,
) -> Result<proto::ApproveEngagementResponse, ApiError> {
    let (tenant, id) = parse("name", &request.name)?;
    let begun = api
        .begin(
            caller,
            &tenant,
            "ApproveEngagement",
            &request.request_id,
            &request,
        )
        .await?;
    let mut change = match begun {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    let approver = change.require_customer_human().await?.id;
    let mut engagement = of_change(&mut change, &id).await?;
    let now_ms = change.now_ms;
    if engagement.phase(now_ms) != Phase::Requested {
        return Err(Refusal::EngagementState(engagement.phase(now_ms)).into());
    }
    let organization = organization_for(&mut change, &engagement, &request.organization).await?;
    let roles = match request.roles.as_slice() {
        [] => engagement.terms.roles.clone(),
        roles => check_roles("roles", roles).map_err(Refusal::from)?,
    };
    if !roles
        .iter()
        .all(|role| engagement.terms.roles.contains(role))
    {
        return Err(ApiError::invalid(
            "roles",
            "has a role that was not asked for",
        ));
    }
    require_responsibilities(&mut change).await?;
    let payload = EngagementApproved {
        engagement: id.in_records(),
        request_hash: engagement.request_hash.to_vec(),
        organization: organization.in_records(),
        roles: roles.clone(),
        profile: engagement.terms.profile.into(),
        valid_from_ms: now_ms,
        valid_to_ms: now_ms + i64::from(engagement.terms.term_days) * DAY_MS,
        approver: approver.in_records(),
    };
    let draft = approval_draft(&mut change, &engagement, &payload).await?;
    let emitted = api.emit(&mut change, draft).await?;
    let approval = Approval {
        organization,
        roles,
        valid_from_ms: payload.valid_from_ms,
        valid_to_ms: payload.valid_to_ms,
        record_hash: emitted.record_hash,
    };
    store::engagements::approve(change.tx.conn(), &tenant, &id, &approval).await?;
    engagement.approval = Some(approval);
    let answer = proto::ApproveEngagementResponse {
        engagement: Some(convert::engagement(&tenant, &engagement, &[], now_ms)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

/// The record of an approval: R62, or R69 for a subcontractor, who is never wider than whom they work for.
async fn approval_draft(
    change: &mut Change,
    engagement: &Engagement,
    payload: &EngagementApproved,
) -> Result<RecordDraft, ApiError> {
    let Some(parent) = &engagement.terms.parent else {
        return Ok(change.draft(payload, engagement.id.in_records()));
    };
    let above = of_change(change, parent).await?;
    let profile = engagement.terms.profile;
    let now_ms = change.now_ms;
    if let Some(why) = wider(profile, &payload.roles, payload.valid_to_ms, &above, now_ms) {
        return Err(Refusal::EngagementWider(why).into());
    }
    let payload = SubcontractorEngaged {
        approved: Some(payload.clone()),
        parent: parent.in_records(),
    };
    let draft = change.draft(&payload, engagement.id.in_records());
    Ok(draft.subject(parent.in_records()))
}

/// The organisation that an engagement's operators will belong to.
async fn organization_for(
    change: &mut Change,
    engagement: &Engagement,
    name: &str,
) -> Result<OrganizationId, ApiError> {
    let field = "organization";
    let name = OrganizationName::parse_field(field, name)?;
    let tenant = change.tenant.id.clone();
    if name.tenant != tenant {
        return Err(ApiError::invalid(field, "must be of the same tenant"));
    }
    let id = convert::id(field, OrganizationId::parse(&name.organization))?;
    let engine = change.tx.engine();
    let found = store::organizations::get_many(change.tx.conn(), engine, &tenant, [&id]).await?;
    let found = found.get(&id).ok_or_else(ApiError::not_found)?;
    let kind = match engagement.terms.parent {
        Some(_) => OrganizationKind::Subcontractor,
        None => OrganizationKind::Provider,
    };
    if found.kind != kind {
        return Err(Refusal::OrganizationKind(kind).into());
    }
    Ok(id)
}

/// Refuses to let a provider into a tenant that is governed while nobody answers for what must be answered for (B16).
async fn require_responsibilities(change: &mut Change) -> Result<(), ApiError> {
    if change.tenant.state != TenantState::Active {
        return Ok(());
    }
    let tenant = change.tenant.id.clone();
    for activity in MANDATORY {
        let found = store::qualifications::responsibility(change.tx.conn(), &tenant, activity);
        if found.await?.is_none() {
            return Err(Refusal::ResponsibilitiesMissing(activity).into());
        }
    }
    Ok(())
}

pub(super) async fn extend_engagement(
    api: &Api,
    caller: &Caller,
    request: proto::ExtendEngagementRequest,
) -> Result<proto::ExtendEngagementResponse, ApiError> {
    let (tenant, id) = parse("name", &request.name)?;
    let begun = api
        .begin(
            caller,
            &tenant,
            "ExtendEngagement",
            &request.request_id,
            &request,
        )
        .await?;
    let mut change = match begun {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    let approver = change.require_customer_human().await?.id;
    let mut engagement = of_change(&mut change, &id).await?;
    let now_ms = change.now_ms;
    let mut approval = live(&engagement, now_ms)?;
    let valid_to_ms =
        extended(&engagement, &approval, request.days, now_ms).map_err(Refusal::from)?;
    if let Some(parent) = &engagement.terms.parent {
        let above = of_change(&mut change, parent).await?;
        let profile = engagement.terms.profile;
        if let Some(why) = wider(profile, &approval.roles, valid_to_ms, &above, now_ms) {
            return Err(Refusal::EngagementWider(why).into());
        }
    }
    let payload = EngagementExtended {
        engagement: id.in_records(),
        from_valid_to_ms: approval.valid_to_ms,
        valid_to_ms,
        approver: approver.in_records(),
    };
    let draft = change.draft(&payload, id.in_records());
    let emitted = api.emit(&mut change, draft).await?;
    approval.valid_to_ms = valid_to_ms;
    store::engagements::approve(change.tx.conn(), &tenant, &id, &approval).await?;
    engagement.approval = Some(approval);
    let answer = proto::ExtendEngagementResponse {
        engagement: Some(convert::engagement(&tenant, &engagement, &[], now_ms)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

/// In whose name somebody calls about an engagement: `Some`: the provider's whose it is; `None`: the customer's, to be looked at
/// closer in the change.
///
/// # Errors
/// NOT_FOUND for whoever is neither.
pub(super) async fn side(
    api: &Api,
    caller: &Caller,
    customer: &str,
    id: &EngagementId,
) -> Result<Option<String>, ApiError> {
    let own = caller.tenant().ok_or_else(ApiError::not_found)?;
    if own == customer {
        return Ok(None);
    }
    let mut reader = api.db.read(own).await?;
    let offer = store::engagements::get_offer(&mut reader, own, id).await?;
    drop(reader);
    if offer.is_none_or(|offer| offer.customer != customer) {
        return Err(ApiError::not_found());
    }
    require_provider(api, caller).await.map(Some)
}

pub(super) async fn end_engagement(
    api: &Api,
    caller: &Caller,
    request: proto::EndEngagementRequest,
) -> Result<proto::EndEngagementResponse, ApiError> {
    let (tenant, id) = parse("name", &request.name)?;
    let provider = side(api, caller, &tenant, &id).await?;
    if let Some(provider) = &provider
        && !offers::is_answered(api, provider, &tenant, &id).await?
    {
        return offers::withdraw(api, caller, (provider, &tenant), &id, request).await;
    }
    let (api, caller) = (api.clone(), caller.clone());
    across(async move { end_as(&api, &caller, provider, (&tenant, &id), request).await }).await
}

async fn end_as(
    api: &Api,
    caller: &Caller,
    provider: Option<String>,
    (tenant, id): (&str, &EngagementId),
    request: proto::EndEngagementRequest,
) -> Result<proto::EndEngagementResponse, ApiError> {
    let begun = api
        .begin_in(
            caller,
            tenant,
            "EndEngagement",
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
    if !text::is_code(&request.reason) {
        return Err(ApiError::invalid("reason", text::CODE));
    }
    let mut engagement = of_change(&mut change, id).await?;
    let now_ms = change.now_ms;
    let phase = engagement.phase(now_ms);
    if !matches!(phase, Phase::Requested | Phase::Live) {
        return Err(Refusal::EngagementState(phase).into());
    }
    let ended_by = match provider {
        Some(_) => EngagementEnd::Provider,
        None => EngagementEnd::Customer,
    };
    let payload = EngagementEnded {
        engagement: id.in_records(),
        ended_by: ended_by.into(),
        effective_ms: now_ms,
        reason: request.reason,
    };
    let draft = change.draft(&payload, id.in_records());
    let emitted = api.emit(&mut change, draft).await?;
    end(api, &mut change, id, ended_by).await?;
    engagement.ended_at_ms = Some(now_ms);
    let answer = proto::EndEngagementResponse {
        engagement: Some(convert::engagement(tenant, &engagement, &[], now_ms)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

/// Ends an engagement in the customer's tenant, with everybody who acts under it and with those of the provider's subcontractors.
pub(crate) async fn end(
    api: &Api,
    change: &mut Change,
    id: &EngagementId,
    ended_by: EngagementEnd,
) -> Result<(), ApiError> {
    let (tenant, now_ms) = (change.tenant.id.clone(), change.now_ms);
    end_one(api, change, id, ended_by).await?;
    for sub in store::engagements::live_under(change.tx.conn(), &tenant, id, now_ms).await? {
        let payload = EngagementEnded {
            engagement: sub.in_records(),
            ended_by: ended_by.into(),
            effective_ms: now_ms,
            reason: "PROVIDER-ENDED".to_owned(),
        };
        let draft = change.draft(&payload, sub.in_records());
        api.emit(change, draft).await?;
        end_one(api, change, &sub, ended_by).await?;
    }
    Ok(())
}

async fn end_one(
    api: &Api,
    change: &mut Change,
    id: &EngagementId,
    ended_by: EngagementEnd,
) -> Result<(), ApiError> {
    let tenant = change.tenant.id.clone();
    store::engagements::end(change.tx.conn(), &tenant, id, change.now_ms).await?;
    for operator in store::qualifications::assigned(change.tx.conn(), &tenant, id).await? {
        match ended_by {
            EngagementEnd::Customer => operators::dismiss(api, change, &operator).await?,
            _ => operators::end(api, change, &operator).await?,
        };
    }
    Ok(())
}

pub(super) async fn get_engagement(
    api: &Api,
    caller: &Caller,
    request: proto::GetEngagementRequest,
) -> Result<proto::GetEngagementResponse, ApiError> {
    let (tenant, id) = parse("name", &request.name)?;
    let engagement = match caller.tenant() {
        Some(own) if own != tenant => {
            let mut reader = api.db.read(own).await?;
            let offer = store::engagements::get_offer(&mut reader, own, &id).await?;
            let offer = offer.filter(|offer| offer.customer == tenant);
            drop(reader);
            as_provider(api, own, offer.ok_or_else(ApiError::not_found)?).await?
        }
        _ => shown(api, &tenant, &id)
            .await?
            .ok_or_else(ApiError::not_found)?,
    };
    Ok(proto::GetEngagementResponse {
        engagement: Some(engagement),
    })
}

/// An engagement as the customer's tenant has it.
async fn shown(
    api: &Api,
    tenant: &str,
    id: &EngagementId,
) -> Result<Option<proto::Engagement>, ApiError> {
    let mut reader = api.db.read(tenant).await?;
    let Some(found) = store::engagements::get(&mut reader, tenant, id).await? else {
        return Ok(None);
    };
    let notices = match &found.approval {
        Some(approval) => {
            store::engagements::notices(&mut reader, tenant, id, approval.valid_to_ms).await?
        }
        None => Vec::new(),
    };
    let now_ms = api.clock.now_ms();
    Ok(Some(convert::engagement(tenant, &found, &notices, now_ms)))
}

/// The same as its provider sees it: what the customer's tenant has, or else what was asked for.
async fn as_provider(
    api: &Api,
    provider: &str,
    offer: Offer,
) -> Result<proto::Engagement, ApiError> {
    let (api, provider) = (api.clone(), provider.to_owned());
    across(async move {
        match shown(&api, &offer.customer, &offer.id).await? {
            Some(found) => Ok(found),
            None => {
                let asked = engagement_of(&offer, &provider)?;
                let now_ms = api.clock.now_ms();
                Ok(convert::engagement(&offer.customer, &asked, &[], now_ms))
            }
        }
    })
    .await
}

pub(super) async fn list_engagements(
    api: &Api,
    caller: &Caller,
    request: proto::ListEngagementsRequest,
) -> Result<proto::ListEngagementsResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    caller.require_tenant(&tenant)?;
    let mut reader = api.db.read(&tenant).await?;
    let found = store::tenants::get(&mut reader, &tenant).await?;
    let kind = found.ok_or_else(ApiError::not_found)?.kind;
    let scope = ["ListEngagements", &tenant];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    let from = From::page(&page)?;
    let mut engagements = Vec::new();
    let next_page_token;
    if kind == TenantKind::Provider {
        let mut rows = store::engagements::list_offers(&mut reader, &tenant, from).await?;
        next_page_token = page.cut(&mut rows, |row| row.id.as_str().into());
        drop(reader);
        for offer in rows {
            engagements.push(as_provider(api, &tenant, offer).await?);
        }
    } else {
        let mut rows = store::engagements::list(&mut reader, &tenant, from).await?;
        next_page_token = page.cut(&mut rows, |row| row.id.as_str().into());
        drop(reader);
        for row in rows {
            engagements.extend(shown(api, &tenant, &row.id).await?);
        }
    }
    Ok(proto::ListEngagementsResponse {
        engagements,
        next_page_token,
    })
}
