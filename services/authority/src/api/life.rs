//! The life of a tenant after its activation: paused, going on, leaving, closed.

use counterfoil_chassis::{
    ApiError, Caller,
    names::{TenantName, new_id, tenant_field},
};
use counterfoil_evidence::v1::{EvidencePackIssued, TenantLifecycleChanged};
use counterfoil_proto::{authority as proto, common::Receipt};
use prost::Message;

use super::{
    Api,
    change::{Answer, Asked, Change},
    convert, holds,
};
use crate::{
    error::Refusal,
    model::{
        Faults,
        tenant::{Tenant, TenantState},
        text,
    },
    store,
};

/// Length of a root hash.
const ROOT_BYTES: usize = 32;

macro_rules! move_tenant {
    ($($rpc:ident($request:ident) -> $response:ident, $method:literal, $to:ident;)*) => {$(
        pub(super) async fn $rpc(
            api: &Api,
            caller: &Caller,
            request: proto::$request,
        ) -> Result<proto::$response, ApiError> {
            let call = ($method, request.name.as_str(), request.request_id.as_str());
            let why = Some(request.reason_code.as_str());
            let answer = |tenant, receipt| proto::$response { tenant: Some(tenant), receipt: Some(receipt) };
            move_to(api, caller, call, &request, (TenantState::$to, why), answer).await
        }
    )*};
}

move_tenant! {
    suspend_tenant(SuspendTenantRequest) -> SuspendTenantResponse, "SuspendTenant", Suspended;
    resume_tenant(ResumeTenantRequest) -> ResumeTenantResponse, "ResumeTenant", Active;
    begin_exit(BeginExitRequest) -> BeginExitResponse, "BeginExit", Exiting;
}

pub(super) async fn close_tenant(
    api: &Api,
    caller: &Caller,
    request: proto::CloseTenantRequest,
) -> Result<proto::CloseTenantResponse, ApiError> {
    let call = (
        "CloseTenant",
        request.name.as_str(),
        request.request_id.as_str(),
    );
    let answer = |tenant, receipt| proto::CloseTenantResponse {
        tenant: Some(tenant),
        receipt: Some(receipt),
    };
    move_to(
        api,
        caller,
        call,
        &request,
        (TenantState::Closed, None),
        answer,
    )
    .await
}

/// Moves a tenant to another state; [`Api::begin`] has seen that its life allows it.
async fn move_to<R: Answer>(
    api: &Api,
    caller: &Caller,
    (method, name, request_id): (&'static str, &str, &str),
    request: &impl Message,
    (to, reason_code): (TenantState, Option<&str>),
    answer: impl FnOnce(proto::Tenant, Receipt) -> R,
) -> Result<R, ApiError> {
    let id = TenantName::parse_field("name", name)?.tenant;
    let mut change = match api.begin(caller, &id, method, request_id, request).await? {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_governing_caller().await?;
    if to == TenantState::Exiting && !change.is_of_governing_human().await? {
        return Err(Refusal::CallerNotCustomer.into());
    }
    let by_itself = change.caller().is_some();
    if to == TenantState::Active && change.tenant.stopped_itself && !by_itself {
        return Err(Refusal::TenantGovernsItself.into());
    }
    if reason_code.is_some_and(|code| !text::is_code(code)) {
        return Err(Refusal::Invalid(Faults::one("reason_code", text::CODE)).into());
    }
    if to == TenantState::Closed {
        holds::require_none(&mut change).await?;
    }
    let evidence = match to {
        TenantState::Closed => Some(
            change
                .tenant
                .exit_evidence
                .clone()
                .ok_or(Refusal::EvidenceNotTaken)?,
        ),
        _ => None,
    };
    let payload = TenantLifecycleChanged {
        from: change.tenant.state.into(),
        to: to.into(),
        gate_results: Vec::new(),
        kind: change.tenant.kind.into(),
        reason_code: reason_code.unwrap_or_default().to_owned(),
        evidence_record_hash: evidence.unwrap_or_default(),
    };
    let draft = change.draft(&payload, format!("tenants/{id}"));
    let emitted = api.emit(&mut change, draft).await?;
    let (connection, record) = (change.tx.conn(), &emitted.record_id);
    store::tenants::change(connection, &id, (to, by_itself), record).await?;
    let tenant = Tenant {
        state: to,
        ..change.tenant.clone()
    };
    let answer = answer(
        convert::tenant(&tenant, &[], false),
        emitted.pending_receipt(),
    );
    api.finish(change, answer).await
}

pub(super) async fn record_evidence_pack(
    api: &Api,
    caller: &Caller,
    request: proto::RecordEvidencePackRequest,
) -> Result<proto::RecordEvidencePackResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    let mut change: Change = match api
        .begin(
            caller,
            &tenant,
            "RecordEvidencePack",
            &request.request_id,
            &request,
        )
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    let recipient = change.require_principal()?;
    let mut faults = Faults::default();
    faults.require(request.tree_size > 0, "tree_size", "must be above 0");
    let whole = request.root_hash.len() == ROOT_BYTES;
    faults.require(whole, "root_hash", "must have 32 bytes");
    faults.require(
        text::is_code(&request.format_code),
        "format_code",
        text::CODE,
    );
    faults.or(()).map_err(Refusal::from)?;
    let pack = new_id(change.now_ms);
    let payload = EvidencePackIssued {
        pack: pack.clone(),
        tree_size: request.tree_size,
        root_hash: request.root_hash.clone(),
        format_code: request.format_code.clone(),
        recipient: recipient.in_records(),
    };
    let draft = change.draft(&payload, format!("evidence-packs/{pack}"));
    let emitted = api.emit(&mut change, draft).await?;
    // What others take away is on record, and not what the tenant leaves with.
    if change.tenant.state == TenantState::Exiting && change.is_of_governing_human().await? {
        store::tenants::take_evidence(change.tx.conn(), &tenant, &emitted.record_hash).await?;
    }
    let answer = proto::RecordEvidencePackResponse {
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}
