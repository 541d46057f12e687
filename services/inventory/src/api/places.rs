//! Where sources lie: environment and tier, by which decision rights may be limited. Only the customer says so: who runs the
//! deployment or works for a provider could otherwise move a source to where their own rights reach.

use counterfoil_chassis::{
    ApiError, Caller, RecordDraft,
    idempotency::{self, Begun},
    operators::not_qualified,
};
use counterfoil_evidence::{
    place::{CODE, Place, is_code},
    v1,
};
use counterfoil_proto::{
    authority::{
        CheckDecisionRightRequest, DecisionAction, GetPrincipalRequest, OrganizationKind,
        TenantKind,
    },
    inventory::{ClassifySourceRequest, ClassifySourceResponse},
};

use super::{Api, EVIDENCE_PATIENCE, convert, names::SourceName};
use crate::store::sources;

/// Refuses who is not of the customer organisation; in a provider's own tenant, of the provider.
pub(super) async fn require_customer(
    api: &Api,
    caller: &Caller,
    tenant: &str,
) -> Result<(), ApiError> {
    let refused = || {
        ApiError::permission_denied(
            "CALLER_NOT_CUSTOMER",
            "only principals of the customer organisation say of which environment and tier a source is",
        )
    };
    if caller.tenant().is_none() {
        return Err(refused());
    }
    let governing = match api.tenants.require(tenant).await?.kind {
        TenantKind::Provider => OrganizationKind::Provider,
        TenantKind::Customer | TenantKind::Unspecified => OrganizationKind::Customer,
    };
    let request = GetPrincipalRequest {
        name: caller.principal().to_owned(),
    };
    let answer = api.principals.clone().get_principal(request).await;
    let answer = answer.map_err(|status| ApiError::from_peer("authority", status))?;
    let found = answer.into_inner().principal.unwrap_or_default();
    if found.organization_kind() != governing || found.end_time.is_some() {
        return Err(refused());
    }
    Ok(())
}

/// Refuses one of a provider's people where the tier of their engagement does not reach (B23). Who owns what lies there is asked
/// to decide on it, and saying so needs no right of its own.
pub(super) async fn require_reach(
    api: &Api,
    caller: &Caller,
    environment: &str,
) -> Result<(), ApiError> {
    let request = CheckDecisionRightRequest {
        principal: caller.principal().to_owned(),
        // Any: how far they get is the same for all.
        action: DecisionAction::Review.into(),
    };
    let answer = api.rights.clone().check_decision_right(request).await;
    let answer = answer.map_err(|status| ApiError::from_peer("authority", status))?;
    let Some(reach) = answer.into_inner().reach else {
        return Ok(());
    };
    let place = Place {
        environment,
        ..Place::default()
    };
    match place.is_reached(&reach.environments) {
        true => Ok(()),
        false => Err(not_qualified("TIER_TOO_LOW")),
    }
}

/// Refuses what is neither empty nor a code.
pub(super) fn check_code(field: &'static str, code: &str) -> Result<(), ApiError> {
    if code.is_empty() || is_code(code) {
        return Ok(());
    }
    Err(ApiError::invalid(field, CODE))
}

pub(super) async fn classify_source(
    api: &Api,
    caller: &Caller,
    request: ClassifySourceRequest,
) -> Result<ClassifySourceResponse, ApiError> {
    let name = SourceName::parse_field("name", &request.name)?;
    let tenant = &name.tenant;
    caller.require_tenant(tenant)?;
    require_customer(api, caller, tenant).await?;
    check_code("environment", request.environment())?;
    check_code("tier", request.tier())?;
    api.tenants.require_active(tenant).await?;
    let mut tx = api.db.write_tx(tenant).await?;
    let id = &request.request_id;
    let fresh = match idempotency::begin(&mut tx, caller, "ClassifySource", id, &request).await? {
        Begun::Replay(answer) => return settled(api, tenant, answer).await,
        Begun::Fresh(fresh) => fresh,
    };
    let found = sources::get_in(&mut tx, &name.source).await?;
    let mut found = found.ok_or_else(ApiError::not_found)?;
    // What is not spoken of stays: a forgotten flag must not move a source to where everybody's rights reach.
    if let Some(environment) = &request.environment {
        found.environment.clone_from(environment);
    }
    if let Some(tier) = &request.tier {
        found.tier.clone_from(tier);
    }
    sources::classify(&mut tx, &name.source, &found.environment, &found.tier).await?;
    let now_ms = api.clock.now_ms();
    let payload = v1::ObjectClassified {
        object: format!("sources/{}", name.source),
        environment: found.environment.clone(),
        tier: found.tier.clone(),
    };
    let draft = RecordDraft::new(&payload, caller.actor(), now_ms).subject(payload.object.clone());
    let emitted = api.outbox.emit(&mut tx, draft).await?;
    let answer = ClassifySourceResponse {
        source: Some(convert::source(&found)),
        receipt: Some(emitted.pending_receipt()),
    };
    fresh.store(&mut tx, &answer, now_ms).await?;
    // If we crash here: the source is where it is said to be with the record of it, or where it was.
    tx.commit().await?;
    settled(api, tenant, answer).await
}

async fn settled(
    api: &Api,
    tenant: &str,
    mut answer: ClassifySourceResponse,
) -> Result<ClassifySourceResponse, ApiError> {
    api.outbox
        .settle(tenant, &mut answer.receipt, EVIDENCE_PATIENCE)
        .await?;
    Ok(answer)
}
