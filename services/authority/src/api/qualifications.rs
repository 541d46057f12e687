//! What a provider's authority rests on beside the engagement: responsibilities, sensitivity, tier, attestations, reassessments.

use counterfoil_chassis::{ApiError, Caller, names::tenant_field};
use counterfoil_evidence::engagement::ASSURANCE_DAYS_MAX;
use counterfoil_evidence::v1::{
    ControlAttested, EnvironmentSensitivitySet, PartnerTierSet, ReassessmentCompleted,
    ResponsibilityAssigned,
};
use counterfoil_proto::authority as proto;

use super::{
    Api,
    change::Asked,
    convert::{self, OrganizationName},
    engagements::{across, live, of_change, parse, side},
    offers,
};
use crate::{
    error::Refusal,
    model::{
        Faults,
        engagement::{DAY_MS, ReassessmentResult, Responsibility},
        ids::{EngagementId, OrganizationId},
        principal::{OrganizationKind, require_accountable},
        standing::{Attestation, LEVEL_MAX, is_control},
        text,
    },
    store::{self, From},
};

/// How often a provider gives its word for one control of an engagement in a day: each time is a record in the customer's log.
const ATTESTED_A_DAY: i64 = 25;

pub(super) async fn assign_responsibility(
    api: &Api,
    caller: &Caller,
    request: proto::AssignResponsibilityRequest,
) -> Result<proto::AssignResponsibilityResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    let begun = api
        .begin(
            caller,
            &tenant,
            "AssignResponsibility",
            &request.request_id,
            &request,
        )
        .await?;
    let mut change = match begun {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_customer_human().await?;
    let wanted = request.responsibility.unwrap_or_default();
    if !text::is_code(&wanted.activity) {
        return Err(ApiError::invalid("responsibility.activity", text::CODE));
    }
    let field = "responsibility.operator_organization";
    let name = OrganizationName::parse_field(field, &wanted.operator_organization)?;
    if name.tenant != tenant {
        return Err(ApiError::invalid(field, "must be of the same tenant"));
    }
    let id = convert::id(field, OrganizationId::parse(&name.organization))?;
    let engine = change.tx.engine();
    let found = store::organizations::get_many(change.tx.conn(), engine, &tenant, [&id]).await?;
    let organization = found.get(&id).ok_or_else(ApiError::not_found)?;
    let field = "responsibility.risk_owner";
    let owner = convert::principal_in(field, &wanted.risk_owner, &tenant)?;
    let found = store::principals::get(change.tx.conn(), &tenant, &owner).await?;
    require_accountable(found.as_ref()).map_err(|reason| Refusal::NotAccountable {
        field,
        principal: owner.clone(),
        reason,
    })?;
    let payload = ResponsibilityAssigned {
        activity: wanted.activity.clone(),
        operator_organization: id.in_records(),
        operator_kind: organization.kind.into(),
        risk_owner: owner.in_records(),
    };
    let draft = change.draft(&payload, format!("responsibilities/{}", wanted.activity));
    let emitted = api.emit(&mut change, draft).await?;
    let row = Responsibility {
        activity: wanted.activity,
        by_customer: organization.kind == OrganizationKind::Customer,
        organization: id,
        risk_owner: owner,
        record_hash: emitted.record_hash,
    };
    store::qualifications::set_responsibility(change.tx.conn(), &tenant, &row).await?;
    let answer = proto::AssignResponsibilityResponse {
        responsibility: Some(convert::responsibility(&tenant, &row)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

pub(super) async fn list_responsibilities(
    api: &Api,
    caller: &Caller,
    request: proto::ListResponsibilitiesRequest,
) -> Result<proto::ListResponsibilitiesResponse, ApiError> {
    let tenant = api.known_tenant(caller, "tenant", &request.tenant).await?;
    let scope = ["ListResponsibilities", &tenant];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    let mut reader = api.db.read(&tenant).await?;
    let from = From::page(&page)?;
    let mut rows = store::qualifications::responsibilities(&mut reader, &tenant, from).await?;
    let next_page_token = page.cut(&mut rows, |row| row.activity.clone().into_bytes());
    let rows = rows.iter().map(|row| convert::responsibility(&tenant, row));
    Ok(proto::ListResponsibilitiesResponse {
        responsibilities: rows.collect(),
        next_page_token,
    })
}

pub(super) async fn set_environment_sensitivity(
    api: &Api,
    caller: &Caller,
    request: proto::SetEnvironmentSensitivityRequest,
) -> Result<proto::SetEnvironmentSensitivityResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    let begun = api
        .begin(
            caller,
            &tenant,
            "SetEnvironmentSensitivity",
            &request.request_id,
            &request,
        )
        .await?;
    let mut change = match begun {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_customer_human().await?;
    let mut faults = Faults::default();
    faults.require(
        text::is_code(&request.environment),
        "environment",
        text::CODE,
    );
    let known = (1..=LEVEL_MAX).contains(&request.level);
    faults.require(known, "level", "must be 1 to 4");
    faults.or(()).map_err(Refusal::from)?;
    let payload = EnvironmentSensitivitySet {
        environment: request.environment.clone(),
        level: request.level,
    };
    let draft = change.draft(&payload, format!("environments/{}", request.environment));
    let emitted = api.emit(&mut change, draft).await?;
    store::qualifications::set_environment(
        change.tx.conn(),
        &tenant,
        &request.environment,
        request.level,
        &emitted.record_hash,
    )
    .await?;
    let answer = proto::SetEnvironmentSensitivityResponse {
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

pub(super) async fn set_partner_tier(
    api: &Api,
    caller: &Caller,
    request: proto::SetPartnerTierRequest,
) -> Result<proto::SetPartnerTierResponse, ApiError> {
    let (tenant, id) = parse("engagement", &request.engagement)?;
    let begun = api
        .begin(
            caller,
            &tenant,
            "SetPartnerTier",
            &request.request_id,
            &request,
        )
        .await?;
    let mut change = match begun {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_customer_human().await?;
    let mut faults = Faults::default();
    let known = (1..=LEVEL_MAX).contains(&request.tier);
    faults.require(known, "tier", "must be 1 to 4");
    faults.require(text::is_code(&request.basis), "basis", text::CODE);
    faults.or(()).map_err(Refusal::from)?;
    let mut engagement = of_change(&mut change, &id).await?;
    let payload = PartnerTierSet {
        engagement: id.in_records(),
        tier: request.tier,
        basis: request.basis,
    };
    let draft = change.draft(&payload, id.in_records());
    let emitted = api.emit(&mut change, draft).await?;
    store::engagements::set_tier(change.tx.conn(), &tenant, &id, request.tier).await?;
    engagement.tier = request.tier;
    let answer = proto::SetPartnerTierResponse {
        engagement: Some(convert::engagement(
            &tenant,
            &engagement,
            &[],
            change.now_ms,
        )),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

pub(super) async fn complete_reassessment(
    api: &Api,
    caller: &Caller,
    request: proto::CompleteReassessmentRequest,
) -> Result<proto::CompleteReassessmentResponse, ApiError> {
    let (tenant, id) = parse("engagement", &request.engagement)?;
    let begun = api
        .begin(
            caller,
            &tenant,
            "CompleteReassessment",
            &request.request_id,
            &request,
        )
        .await?;
    let mut change = match begun {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    let assessor = change.require_customer_human().await?.id;
    let result: ReassessmentResult = convert::code(request.result);
    if result == ReassessmentResult::Unspecified {
        return Err(ApiError::invalid("result", "is required"));
    }
    let field = "next_due_time";
    let next_due_ms = convert::moment(field, request.next_due_time.as_ref())?;
    let next_due_ms = within(field, next_due_ms, change.now_ms, ASSURANCE_DAYS_MAX)?;
    of_change(&mut change, &id).await?;
    let payload = ReassessmentCompleted {
        engagement: id.in_records(),
        result: result.into(),
        next_due_ms,
        assessor: assessor.in_records(),
    };
    let draft = change.draft(&payload, id.in_records());
    let emitted = api.emit(&mut change, draft).await?;
    let connection = change.tx.conn();
    store::engagements::set_reassessment(connection, &tenant, &id, result, next_due_ms).await?;
    let answer = proto::CompleteReassessmentResponse {
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

/// A moment after now and within so many days.
pub(super) fn within(
    field: &str,
    moment_ms: Option<i64>,
    now_ms: i64,
    days: i64,
) -> Result<i64, ApiError> {
    let moment_ms = moment_ms.ok_or_else(|| ApiError::invalid(field, "is required"))?;
    if now_ms < moment_ms && moment_ms <= now_ms + days * DAY_MS {
        return Ok(moment_ms);
    }
    let what = format!("must be after now, and within {days} days");
    Err(ApiError::invalid(field, what))
}

/// The bytes of a SHA-256.
pub(super) fn sha256(field: &str, bytes: &[u8]) -> Result<[u8; 32], ApiError> {
    bytes
        .try_into()
        .map_err(|_| ApiError::invalid(field, "must have 32 bytes"))
}

pub(super) async fn attest_control(
    api: &Api,
    caller: &Caller,
    request: proto::AttestControlRequest,
) -> Result<proto::AttestControlResponse, ApiError> {
    let (tenant, id) = parse("engagement", &request.engagement)?;
    let Some(provider) = side(api, caller, &tenant, &id).await? else {
        return Err(Refusal::CallerNotProvider.into());
    };
    offers::require_answered(api, &provider, &tenant, &id).await?;
    let (api, caller) = (api.clone(), caller.clone());
    across(async move { attest(&api, &caller, (&tenant, &id), request).await }).await
}

async fn attest(
    api: &Api,
    caller: &Caller,
    (tenant, id): (&str, &EngagementId),
    request: proto::AttestControlRequest,
) -> Result<proto::AttestControlResponse, ApiError> {
    let begun = api
        .begin_in(
            caller,
            tenant,
            "AttestControl",
            &request.request_id,
            &request,
        )
        .await?;
    let mut change = match begun {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    if !is_control(&request.control) {
        return Err(ApiError::invalid(
            "control",
            "is none that a profile asks for",
        ));
    }
    let statement = sha256("statement_sha256", &request.statement_sha256)?;
    let evidence = sha256("evidence_sha256", &request.evidence_sha256)?;
    let field = "valid_to_time";
    let valid_to_ms = convert::moment(field, request.valid_to_time.as_ref())?;
    let valid_to_ms = within(field, valid_to_ms, change.now_ms, ASSURANCE_DAYS_MAX)?;
    let engagement = of_change(&mut change, id).await?;
    live(&engagement, change.now_ms)?;
    let (of, now_ms) = ((tenant, id), change.now_ms);
    let (connection, control) = (change.tx.conn(), request.control.as_str());
    let today = store::qualifications::attested_today(connection, of, control, now_ms).await?;
    if today.1 >= ATTESTED_A_DAY {
        return Err(Refusal::TooManyAttestations.into());
    }
    let payload = ControlAttested {
        engagement: id.in_records(),
        control: request.control.clone(),
        statement_sha256: statement.to_vec(),
        evidence_sha256: evidence.to_vec(),
        valid_to_ms,
        attester: caller.principal().to_owned(),
    };
    let draft = change.draft(&payload, id.in_records());
    let emitted = api.emit(&mut change, draft).await?;
    let attestation = Attestation {
        control: request.control,
        valid_to_ms,
    };
    let (connection, hash) = (change.tx.conn(), &emitted.record_hash);
    store::qualifications::attest(connection, of, &attestation, hash, now_ms).await?;
    let answer = proto::AttestControlResponse {
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}
