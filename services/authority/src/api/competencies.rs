//! Evidence of competency: shown by an operator, accepted and revoked by the customer.

use counterfoil_chassis::{
    ApiError, Caller, EmittedRecord,
    names::{new_id, tenant_field},
};
use counterfoil_evidence::engagement::EVIDENCE_DAYS_MAX;
use counterfoil_evidence::v1::{
    CompetencyEvidenceAccepted, CompetencyEvidenceRevoked, CompetencyEvidenceSubmitted,
};
use counterfoil_proto::authority as proto;

use super::{
    Api,
    change::{Asked, Change},
    convert::{self, CompetencyName},
    qualifications::{sha256, within},
};
use crate::{
    error::Refusal,
    model::{Faults, engagement::DAY_MS, ids::CompetencyId, standing::Competency, text},
    store::{self, From},
};

/// Most that one operator shows before somebody has looked at it.
const UNANSWERED_MAX: i64 = 100;

pub(super) async fn submit_competency(
    api: &Api,
    caller: &Caller,
    request: proto::SubmitCompetencyRequest,
) -> Result<proto::SubmitCompetencyResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    caller.require_tenant(&tenant)?;
    let operator = caller.operator().ok_or(Refusal::CallerNotOperator)?;
    let begun = api
        .begin(
            caller,
            &tenant,
            "SubmitCompetency",
            &request.request_id,
            &request,
        )
        .await?;
    let mut change = match begun {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    let wanted = request.competency.unwrap_or_default();
    let mut faults = Faults::default();
    faults.require(text::is_code(&wanted.topic), "competency.topic", text::CODE);
    faults.require(
        text::is_code(&wanted.issuer),
        "competency.issuer",
        text::CODE,
    );
    faults.or(()).map_err(Refusal::from)?;
    let evidence_sha256 = sha256("competency.evidence_sha256", &wanted.evidence_sha256)?;
    let field = "competency.valid_to_time";
    let valid_to_ms = convert::moment(field, wanted.valid_to_time.as_ref())?;
    let valid_to_ms = within(field, valid_to_ms, change.now_ms, EVIDENCE_DAYS_MAX)?;
    // What is over waits for nobody: short evidence would count against no limit, and each is a record in the customer's log.
    if valid_to_ms < change.now_ms + DAY_MS {
        return Err(ApiError::invalid(field, "must be a day from now at least"));
    }
    let (connection, who) = (change.tx.conn(), operator.operator.as_str());
    let now_ms = change.now_ms;
    let unanswered =
        store::qualifications::unanswered_competencies(connection, &tenant, who, now_ms).await?;
    if unanswered >= UNANSWERED_MAX {
        return Err(Refusal::TooMuchUnanswered.into());
    }
    let id = CompetencyId::parse(&new_id(change.now_ms));
    let mut competency = Competency {
        id: convert::id("competency", id)?,
        operator: operator.operator.clone(),
        topic: wanted.topic,
        issuer: wanted.issuer,
        evidence_sha256,
        valid_to_ms,
        accepted_at_ms: None,
        revoked_at_ms: None,
        record_hash: [0; 32],
    };
    let payload = CompetencyEvidenceSubmitted {
        competency: competency.id.in_records(),
        operator: competency.operator.clone(),
        topic: competency.topic.clone(),
        issuer: competency.issuer.clone(),
        evidence_sha256: evidence_sha256.to_vec(),
        valid_to_ms,
    };
    let draft = change.draft(&payload, competency.id.in_records());
    let emitted = api.emit(&mut change, draft).await?;
    competency.record_hash = emitted.record_hash;
    store::qualifications::insert_competency(change.tx.conn(), &tenant, &competency).await?;
    let answer = proto::SubmitCompetencyResponse {
        competency: Some(convert::competency(&tenant, &competency)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

fn parse(name: &str) -> Result<(String, CompetencyId), ApiError> {
    let name = CompetencyName::parse_field("name", name)?;
    let id = convert::id("name", CompetencyId::parse(&name.competency))?;
    Ok((name.tenant, id))
}

async fn of_change(change: &mut Change, id: &CompetencyId) -> Result<Competency, ApiError> {
    let tenant = change.tenant.id.clone();
    let found = store::qualifications::competency(change.tx.conn(), &tenant, id).await?;
    found.ok_or_else(ApiError::not_found)
}

pub(super) async fn accept_competency(
    api: &Api,
    caller: &Caller,
    request: proto::AcceptCompetencyRequest,
) -> Result<proto::AcceptCompetencyResponse, ApiError> {
    let (tenant, id) = parse(&request.name)?;
    let begun = api
        .begin(
            caller,
            &tenant,
            "AcceptCompetency",
            &request.request_id,
            &request,
        )
        .await?;
    let mut change = match begun {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    let accepted_by = change.require_customer_human().await?.id;
    let mut competency = of_change(&mut change, &id).await?;
    let now_ms = change.now_ms;
    let state = |what| Err(Refusal::CompetencyState(what).into());
    if competency.revoked_at_ms.is_some() {
        return state("revoked");
    }
    if competency.accepted_at_ms.is_some() {
        return state("accepted already");
    }
    if competency.valid_to_ms <= now_ms {
        return state("over");
    }
    let field = "valid_to_time";
    let valid_to_ms = match convert::moment(field, request.valid_to_time.as_ref())? {
        None => competency.valid_to_ms,
        Some(ms) if now_ms < ms && ms <= competency.valid_to_ms => ms,
        Some(_) => {
            let what = "must be after now, and not after what was submitted";
            return Err(ApiError::invalid(field, what));
        }
    };
    let payload = CompetencyEvidenceAccepted {
        competency: id.in_records(),
        submission_hash: competency.record_hash.to_vec(),
        valid_to_ms,
        accepted_by: accepted_by.in_records(),
    };
    let draft = change.draft(&payload, id.in_records());
    let emitted = api.emit(&mut change, draft).await?;
    let connection = change.tx.conn();
    store::qualifications::accept_competency(connection, &tenant, &id, valid_to_ms, now_ms).await?;
    competency.valid_to_ms = valid_to_ms;
    competency.accepted_at_ms = Some(now_ms);
    let answer = proto::AcceptCompetencyResponse {
        competency: Some(convert::competency(&tenant, &competency)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

pub(super) async fn revoke_competency(
    api: &Api,
    caller: &Caller,
    request: proto::RevokeCompetencyRequest,
) -> Result<proto::RevokeCompetencyResponse, ApiError> {
    let (tenant, id) = parse(&request.name)?;
    let begun = api
        .begin(
            caller,
            &tenant,
            "RevokeCompetency",
            &request.request_id,
            &request,
        )
        .await?;
    let mut change = match begun {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_customer_human().await?;
    let mut competency = of_change(&mut change, &id).await?;
    if competency.revoked_at_ms.is_some() {
        return Err(Refusal::CompetencyState("revoked").into());
    }
    let emitted = revoke(api, &mut change, &id).await?;
    competency.revoked_at_ms = Some(change.now_ms);
    let answer = proto::RevokeCompetencyResponse {
        competency: Some(convert::competency(&tenant, &competency)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

async fn revoke(
    api: &Api,
    change: &mut Change,
    id: &CompetencyId,
) -> Result<EmittedRecord, ApiError> {
    let (tenant, now_ms) = (change.tenant.id.clone(), change.now_ms);
    let payload = CompetencyEvidenceRevoked {
        competency: id.in_records(),
        effective_ms: now_ms,
    };
    let draft = change.draft(&payload, id.in_records());
    let emitted = api.emit(change, draft).await?;
    store::qualifications::revoke_competency(change.tx.conn(), &tenant, id, now_ms).await?;
    Ok(emitted)
}

/// Takes none of an operator's evidence any longer: whom the customer has sent away, it lets in again by what it accepts anew.
pub(super) async fn revoke_all(
    api: &Api,
    change: &mut Change,
    operator: &str,
) -> Result<(), ApiError> {
    let (tenant, now_ms) = (change.tenant.id.clone(), change.now_ms);
    let connection = change.tx.conn();
    let accepted =
        store::qualifications::good_competencies(connection, &tenant, operator, now_ms).await?;
    for competency in accepted {
        revoke(api, change, &competency.id).await?;
    }
    Ok(())
}

pub(super) async fn list_competencies(
    api: &Api,
    caller: &Caller,
    request: proto::ListCompetenciesRequest,
) -> Result<proto::ListCompetenciesResponse, ApiError> {
    let tenant = api.known_tenant(caller, "tenant", &request.tenant).await?;
    let own = caller.operator().map(|operator| operator.operator.as_str());
    let scope = ["ListCompetencies", &tenant, own.unwrap_or_default()];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    let mut reader = api.db.read(&tenant).await?;
    let from = From::page(&page)?;
    let mut rows = store::qualifications::competencies(&mut reader, &tenant, own, from).await?;
    let next_page_token = page.cut(&mut rows, |row| row.id.as_str().into());
    let rows = rows.iter().map(|row| convert::competency(&tenant, row));
    Ok(proto::ListCompetenciesResponse {
        competencies: rows.collect(),
        next_page_token,
    })
}
