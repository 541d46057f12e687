//! Access in an emergency.

use std::time::Duration;

use counterfoil_chassis::{
    ApiError, Caller,
    names::{new_id, tenant_field},
};
use counterfoil_evidence::v1::{
    EmergencyAccessActivated, EmergencyAccessEnded, EmergencyAccessRequested,
    EmergencyReviewMissed, EmergencyUseReviewed,
};
use counterfoil_proto::{authority as proto, common::Receipt};

use super::{
    Api,
    change::{Asked, Change},
    conditions::Offered,
    convert::{self, EmergencyName},
};
use crate::{
    error::Refusal,
    model::{
        emergency::{
            Approval, Emergency, Phase, Stage, check_new, check_review, is_human, may_approve,
            may_review,
        },
        ids::{EmergencyId, PrincipalId},
        principal::Principal,
        right::DecisionAction,
    },
    store::{self, From, Reader},
};

/// How long the beginning of an access waits for the log.
const LOG_PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn request_emergency_access(
    api: &Api,
    caller: &Caller,
    request: proto::RequestEmergencyAccessRequest,
) -> Result<proto::RequestEmergencyAccessResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    let mut change = match api
        .begin(
            caller,
            &tenant,
            "RequestEmergencyAccess",
            &request.request_id,
            &request,
        )
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_active()?;
    let requester = change.require_known().await?;
    if !is_human(&requester) {
        return Err(Refusal::HumanRequired.into());
    }
    let wanted = request.access.clone().unwrap_or_default();
    let (mut roles, mut actions) = (wanted.roles, Vec::new());
    actions.extend(wanted.actions.iter().map(|number| convert::action(*number)));
    check_new((&roles, &actions), wanted.duration_seconds, &request.reason)
        .map_err(Refusal::from)?;
    roles.sort_unstable();
    roles.dedup();
    actions.sort_unstable_by_key(|action| *action as i32);
    actions.dedup();
    let id = EmergencyId::parse(&new_id(change.now_ms));
    let mut access = Emergency {
        id: convert::id("access", id)?,
        stage: Stage::Requested,
        requester: requester.id,
        roles,
        actions,
        scope: convert::scope("access.scope", &wanted.scope, &tenant)?,
        duration_ms: wanted.duration_seconds * 1000,
        requested_at_ms: change.now_ms,
        request_hash: [0; 32],
        approval: None,
        ended_at_ms: None,
        reviewer: None,
    };
    let payload = EmergencyAccessRequested {
        access: access.id.as_str().to_owned(),
        requester: access.requester.in_records(),
        roles: access.roles.clone(),
        actions: numbers(&access.actions),
        scope: access.scope.in_records(),
        duration_ms: access.duration_ms,
    };
    let draft = change
        .draft(&payload, access.id.in_records())
        .subject(access.requester.in_records())
        .commit("reason", request.reason.as_bytes());
    let emitted = api.emit(&mut change, draft).await?;
    access.request_hash = emitted.record_hash;
    store::emergencies::insert(change.tx.conn(), &tenant, &access).await?;
    let answer = proto::RequestEmergencyAccessResponse {
        access: Some(convert::emergency(&tenant, &access, change.now_ms)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

fn numbers(actions: &[DecisionAction]) -> Vec<i32> {
    actions.iter().map(|action| *action as i32).collect()
}

async fn named(change: &mut Change, name: &EmergencyName) -> Result<Emergency, ApiError> {
    let id = convert::id("name", EmergencyId::parse(&name.emergency))?;
    let found = store::emergencies::get(change.tx.conn(), &change.tenant.id, &id).await?;
    found.ok_or_else(ApiError::not_found)
}

pub(super) async fn approve_emergency_access(
    api: &Api,
    caller: &Caller,
    request: proto::ApproveEmergencyAccessRequest,
) -> Result<proto::ApproveEmergencyAccessResponse, ApiError> {
    let name = EmergencyName::parse_field("name", &request.name)?;
    let tenant = name.tenant.clone();
    let asked = api
        .begin(
            caller,
            &tenant,
            "ApproveEmergencyAccess",
            &request.request_id,
            &request,
        )
        .await?;
    let mut change = match asked {
        Asked::Done(answer) => return logged(api, &tenant, answer).await,
        Asked::New(change) => *change,
    };
    change.require_active()?;
    let approver = change.require_known().await?;
    let mut access = named(&mut change, &name).await?;
    let phase = access.phase(change.now_ms);
    // The same call again, also without a request id.
    if let Some(answer) = waiting(&tenant, &access, &approver, change.now_ms) {
        change.tx.rollback().await?;
        return logged(api, &tenant, answer).await;
    }
    if phase != Phase::Requested {
        return Err(Refusal::EmergencyState(phase).into());
    }
    let requester = store::principals::get(change.tx.conn(), &tenant, &access.requester).await?;
    let second = requester.is_some_and(|requester| may_approve(&requester, &approver));
    if !second {
        return Err(Refusal::SecondHumanRequired.into());
    }
    let (from_ms, to_ms) = (
        change.now_ms,
        change.now_ms.saturating_add(access.duration_ms),
    );
    let payload = EmergencyAccessActivated {
        access: access.id.as_str().to_owned(),
        request_record_hash: access.request_hash.to_vec(),
        requester: access.requester.in_records(),
        approver: approver.id.in_records(),
        roles: access.roles.clone(),
        actions: numbers(&access.actions),
        scope: access.scope.in_records(),
        valid_from_ms: from_ms,
        valid_to_ms: to_ms,
    };
    let draft = change
        .draft(&payload, access.id.in_records())
        .subject(access.requester.in_records());
    let emitted = api.emit(&mut change, draft).await?;
    let approval = Approval {
        approver: approver.id,
        valid_from_ms: from_ms,
        valid_to_ms: to_ms,
        record_id: emitted.record_id.to_vec(),
        record_hash: emitted.record_hash,
    };
    store::emergencies::approve(change.tx.conn(), &tenant, &access.id, &approval).await?;
    access.stage = Stage::Approved;
    access.approval = Some(approval);
    let answer = proto::ApproveEmergencyAccessResponse {
        access: Some(convert::emergency(&tenant, &access, change.now_ms)),
        receipt: Some(emitted.pending_receipt()),
    };
    let answer = api.finish(change, answer).await?;
    // If we crash here: it is approved and gives nothing. The same call again finds the record in the log, and it begins.
    logged(api, &tenant, answer).await
}

/// What was answered to the approver of an access whose record still waits for the log.
fn waiting(
    tenant: &str,
    access: &Emergency,
    approver: &Principal,
    now_ms: i64,
) -> Option<proto::ApproveEmergencyAccessResponse> {
    let waits = access.phase(now_ms) == Phase::Approved;
    let approval = access.approval.as_ref().filter(|_| waits);
    let approval = approval.filter(|approval| approval.approver == approver.id)?;
    Some(proto::ApproveEmergencyAccessResponse {
        access: Some(convert::emergency(tenant, access, now_ms)),
        receipt: Some(Receipt {
            record_id: approval.record_id.clone(),
            ..Receipt::default()
        }),
    })
}

/// Lets an approved access give what it gives, once the log has its record: fails closed while the ledger is away.
async fn logged(
    api: &Api,
    tenant: &str,
    mut answer: proto::ApproveEmergencyAccessResponse,
) -> Result<proto::ApproveEmergencyAccessResponse, ApiError> {
    let receipt = answer.receipt.take().unwrap_or_default();
    let record: [u8; 16] = receipt
        .record_id
        .as_slice()
        .try_into()
        .map_err(ApiError::internal)?;
    let receipts = api
        .outbox
        .await_receipts(tenant, &[record], LOG_PATIENCE)
        .await?;
    answer.receipt = receipts.into_iter().next();
    let name = answer.access.take().unwrap_or_default().name;
    let name = EmergencyName::parse_field("name", &name)?;
    let id = convert::id("name", EmergencyId::parse(&name.emergency))?;
    let mut tx = api.db.write_tx(tenant).await?;
    store::emergencies::logged(tx.conn(), tenant, &id).await?;
    let access = store::emergencies::get(tx.conn(), tenant, &id).await?;
    // If we crash here: the log has it, and it gives nothing until the same call is made again.
    tx.commit().await?;
    answer.access = access.map(|access| convert::emergency(tenant, &access, api.clock.now_ms()));
    Ok(answer)
}

pub(super) async fn end_emergency_access(
    api: &Api,
    caller: &Caller,
    request: proto::EndEmergencyAccessRequest,
) -> Result<proto::EndEmergencyAccessResponse, ApiError> {
    let name = EmergencyName::parse_field("name", &request.name)?;
    let tenant = name.tenant.clone();
    let mut change = match api
        .begin(
            caller,
            &tenant,
            "EndEmergencyAccess",
            &request.request_id,
            &request,
        )
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    let mut access = named(&mut change, &name).await?;
    let own = change.require_principal()?;
    let approver = access.approval.as_ref().map(|approval| &approval.approver);
    let of_two = own == access.requester || Some(&own) == approver;
    if !of_two && change.require_customer_administrator(caller).await.is_err() {
        return Err(ApiError::not_found());
    }
    let phase = access.phase(change.now_ms);
    if !matches!(phase, Phase::Active | Phase::Approved) {
        return Err(Refusal::EmergencyState(phase).into());
    }
    let now_ms = change.now_ms;
    let payload = EmergencyAccessEnded {
        access: access.id.as_str().to_owned(),
        effective_ms: now_ms,
    };
    let draft = change
        .draft(&payload, access.id.in_records())
        .subject(access.requester.in_records());
    let emitted = api.emit(&mut change, draft).await?;
    store::emergencies::end(change.tx.conn(), &tenant, &access.id, now_ms).await?;
    access.ended_at_ms = Some(now_ms);
    let answer = proto::EndEmergencyAccessResponse {
        access: Some(convert::emergency(&tenant, &access, now_ms)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

pub(super) async fn review_emergency_use(
    api: &Api,
    caller: &Caller,
    request: proto::ReviewEmergencyUseRequest,
) -> Result<proto::ReviewEmergencyUseResponse, ApiError> {
    let name = EmergencyName::parse_field("name", &request.name)?;
    let tenant = name.tenant.clone();
    let mut change = match api
        .begin(
            caller,
            &tenant,
            "ReviewEmergencyUse",
            &request.request_id,
            &request,
        )
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    let reviewer = change.require_known().await?;
    let mut access = named(&mut change, &name).await?;
    check_review(&request.outcome_code, &request.findings).map_err(Refusal::from)?;
    let phase = access.phase(change.now_ms);
    let Some(approval) = access.approval.as_ref().filter(|_| phase == Phase::Ended) else {
        return Err(Refusal::EmergencyState(phase).into());
    };
    let engine = change.tx.engine();
    let two = [&access.requester, &approval.approver];
    let two = store::principals::get_many(change.tx.conn(), engine, &tenant, two).await?;
    if !may_review(two.values(), &reviewer) {
        return Err(Refusal::ThirdHumanRequired.into());
    }
    let activation = approval.record_hash;
    // Too late is on record, whoever is first: the job or the reviewer.
    if access
        .review_due_ms()
        .is_some_and(|due_ms| change.now_ms > due_ms)
        && store::emergencies::miss(change.tx.conn(), &tenant, &access.id).await?
    {
        let draft = change.draft(&missed(&access, activation), access.id.in_records());
        api.emit(&mut change, draft).await?;
    }
    let payload = EmergencyUseReviewed {
        access: access.id.as_str().to_owned(),
        activation_record_hash: activation.to_vec(),
        reviewer: reviewer.id.in_records(),
        outcome_code: request.outcome_code.clone(),
    };
    let draft = change
        .draft(&payload, access.id.in_records())
        .subject(access.requester.in_records())
        .commit("findings", request.findings.as_bytes());
    let emitted = api.emit(&mut change, draft).await?;
    store::emergencies::review(change.tx.conn(), &tenant, &access.id, &reviewer.id).await?;
    access.reviewer = Some(reviewer.id);
    let answer = proto::ReviewEmergencyUseResponse {
        access: Some(convert::emergency(&tenant, &access, change.now_ms)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

/// That the review of an access was missed.
pub(crate) fn missed(access: &Emergency, activation: [u8; 32]) -> EmergencyReviewMissed {
    EmergencyReviewMissed {
        access: access.id.as_str().to_owned(),
        activation_record_hash: activation.to_vec(),
        due_ms: access.review_due_ms().unwrap_or(i64::MAX),
    }
}

pub(super) async fn list_emergency_accesses(
    api: &Api,
    caller: &Caller,
    request: proto::ListEmergencyAccessesRequest,
) -> Result<proto::ListEmergencyAccessesResponse, ApiError> {
    let tenant = api.known_tenant(caller, "tenant", &request.tenant).await?;
    let scope = ["ListEmergencyAccesses", &tenant];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    let mut reader = api.db.read(&tenant).await?;
    let mut rows = store::emergencies::list(&mut reader, &tenant, From::page(&page)?).await?;
    let next_page_token = page.cut(&mut rows, |row| row.id.as_str().into());
    let now_ms = api.clock.now_ms();
    Ok(proto::ListEmergencyAccessesResponse {
        accesses: rows
            .iter()
            .map(|row| convert::emergency(&tenant, row, now_ms))
            .collect(),
        next_page_token,
    })
}

/// What access in an emergency lets a principal decide now.
pub(super) async fn decides(
    reader: &mut Reader,
    (tenant, principal): (&str, &PrincipalId),
    action: DecisionAction,
    now_ms: i64,
) -> Result<Vec<Offered>, ApiError> {
    let found = store::emergencies::of_requester(reader.conn(), tenant, principal, now_ms).await?;
    let held = found
        .iter()
        .filter(|access| access.phase(now_ms) == Phase::Active && access.actions.contains(&action));
    let offered = held.filter_map(|access| {
        Some(Offered {
            scope: access.scope.clone(),
            delegators: Vec::new(),
            operators: Vec::new(),
            right: convert::emergency_right(tenant, access, action)?,
        })
    });
    Ok(offered.collect())
}

/// The roles that access in an emergency gives a principal now, and when the first of them ends.
pub(super) async fn roles(
    reader: &mut Reader,
    (tenant, principal): (&str, &PrincipalId),
    now_ms: i64,
) -> Result<(Vec<String>, Option<i64>), ApiError> {
    let found = store::emergencies::of_requester(reader.conn(), tenant, principal, now_ms).await?;
    let active = found
        .iter()
        .filter(|access| access.phase(now_ms) == Phase::Active);
    let (mut roles, mut end_ms) = (Vec::new(), None::<i64>);
    for access in active {
        roles.extend(access.roles.iter().cloned());
        end_ms = end_ms.into_iter().chain(access.end_ms()).min();
    }
    Ok((roles, end_ms))
}
