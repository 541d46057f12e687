//! Tenants: creating one with its log, and the gate to being governed.

use std::time::Duration;

use counterfoil_chassis::{
    ApiError, Caller, RecordDraft, Role, WriteTx,
    idempotency::{self, Begun},
    names::{TenantName, check_tenant_id, tenant_name},
    secrets,
    tenants::record_log_origin,
};
use counterfoil_evidence::v1::{GateResult, TenantLifecycleChanged};
use counterfoil_proto::{authority as proto, ledger::CreateLogRequest};
use tonic::Code;

use super::{
    Api,
    change::{ACTIVATE_TENANT, Asked},
    convert,
};
use crate::{
    error::Refusal,
    model::{
        Faults,
        credential::HAND_OVER_MS,
        gate::{Met, Requirement},
        tenant::{Activation, Tenant, TenantKind, TenantLog, TenantState, activation},
        text,
    },
    store::{self, From},
};

const CREATE: &str = "CreateTenant";

pub(super) async fn create_tenant(
    api: &Api,
    caller: &Caller,
    request: proto::CreateTenantRequest,
) -> Result<proto::CreateTenantResponse, ApiError> {
    let id = request.tenant_id.as_str();
    // A principal of a tenant creates no other, whatever roles it may have.
    caller.require_tenant(id)?;
    check_tenant_id(id).map_err(|error| error.in_field("tenant_id"))?;
    if !text::is_name(&request.display_name) {
        return Err(Refusal::Invalid(Faults::one("display_name", text::NAME)).into());
    }
    let mut tx = api.db.write_tx(id).await?;
    let before = look_up(&mut tx, caller, &request).await?;
    tx.rollback().await?;
    if let Begun::Replay(answer) = before {
        return api.settled(id, answer).await;
    }
    let log = create_log(api, id).await?;
    // If we crash here: there is a log that no tenant has. The same call again is given the same log, and completes the
    // tenant; until then nobody can see or use it.
    let mut tx = api.db.write_tx(id).await?;
    let fresh = match look_up(&mut tx, caller, &request).await? {
        Begun::Replay(answer) => {
            tx.rollback().await?;
            return api.settled(id, answer).await;
        }
        Begun::Fresh(fresh) => fresh,
    };
    let now_ms = api.clock.now_ms();
    let tenant = Tenant {
        id: id.to_owned(),
        display_name: request.display_name.clone(),
        kind: convert::kind_of_tenant(request.kind),
        state: TenantState::Onboarding,
        log,
        correlation_salt: secrets::random().map_err(ApiError::internal)?,
        created_at_ms: now_ms,
        activation_record: None,
        exit_evidence: None,
        stopped_itself: false,
    };
    record_log_origin(&mut tx, &tenant.log.origin).await?;
    let payload = lifecycle(
        tenant.kind,
        TenantState::Unspecified,
        TenantState::Onboarding,
        Vec::new(),
    );
    let draft = RecordDraft::new(&payload, caller.actor(), now_ms)
        .subject(format!("tenants/{id}"))
        .commit("display_name", tenant.display_name.as_bytes());
    let emitted = api.outbox.emit(&mut tx, draft).await?;
    store::tenants::insert(tx.conn(), &tenant, &emitted.record_id).await?;
    let answer = proto::CreateTenantResponse {
        tenant: Some(convert::tenant(
            &tenant,
            Requirement::of(tenant.kind),
            false,
        )),
        receipt: Some(emitted.pending_receipt()),
    };
    fresh.store(&mut tx, &answer, now_ms).await?;
    tx.commit().await?;
    api.settled(id, answer).await
}

/// Whether the request was done before; refuses an id that another request has taken.
async fn look_up(
    tx: &mut WriteTx,
    caller: &Caller,
    request: &proto::CreateTenantRequest,
) -> Result<Begun<proto::CreateTenantResponse>, ApiError> {
    let begun = idempotency::begin(tx, caller, CREATE, &request.request_id, request).await?;
    if matches!(begun, Begun::Fresh(_))
        && store::tenants::get(tx.conn(), &request.tenant_id)
            .await?
            .is_some()
    {
        return Err(Refusal::TenantExists.into());
    }
    Ok(begun)
}

/// The log of a tenant; made by the first call, found by the next.
async fn create_log(api: &Api, tenant: &str) -> Result<TenantLog, ApiError> {
    let request = CreateLogRequest {
        tenant: tenant_name(tenant).to_string(),
    };
    let answer = api.ledger.clone().create_log(request).await;
    let log = answer
        .map_err(|status| match status.code() {
            // The ledger is starting and does not know us yet.
            Code::Unauthenticated => ApiError::unavailable(
                "PEER_UNAVAILABLE",
                "the ledger does not take our token",
                Duration::from_secs(1),
            ),
            _ => ApiError::from_peer("ledger", status),
        })?
        .into_inner();
    if log.origin.is_empty() || log.vkey.is_empty() || log.registrar_vkey.is_empty() {
        return Err(ApiError::internal(
            "the ledger created a log without origin or keys",
        ));
    }
    Ok(TenantLog {
        origin: log.origin,
        vkey: log.vkey,
        registrar_vkey: log.registrar_vkey,
    })
}

pub(super) async fn get_tenant(
    api: &Api,
    caller: &Caller,
    request: proto::GetTenantRequest,
) -> Result<proto::GetTenantResponse, ApiError> {
    let id = TenantName::parse_field("name", &request.name)?.tenant;
    caller.require_tenant(&id)?;
    let mut reader = api.db.read(&id).await?;
    let tenant = store::tenants::get(&mut reader, &id).await?;
    let tenant = tenant.ok_or_else(ApiError::not_found)?;
    let missing = match activation(tenant.state) {
        Activation::Gated => store::gate::of_tenant(&mut reader, &tenant, api.clock.now_ms())
            .await?
            .missing(),
        Activation::Done | Activation::Refused => Vec::new(),
    };
    let for_service = caller.has(Role::Service);
    Ok(proto::GetTenantResponse {
        tenant: Some(convert::tenant(&tenant, &missing, for_service)),
    })
}

pub(super) async fn list_tenants(
    api: &Api,
    caller: &Caller,
    request: proto::ListTenantsRequest,
) -> Result<proto::ListTenantsResponse, ApiError> {
    let scope = ["ListTenants", caller.tenant().unwrap_or_default()];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    let mut tenants = match caller.tenant() {
        Some(own) => {
            let mut reader = api.db.read(own).await?;
            let own = store::tenants::get(&mut reader, own).await?;
            own.into_iter().collect()
        }
        None => {
            let from = From::page(&page)?;
            let mut reader = api
                .db
                .read_everything("the tenants of the deployment")
                .await?;
            store::tenants::list(&mut reader, from).await?
        }
    };
    let next_page_token = page.cut(&mut tenants, |tenant| tenant.id.clone().into_bytes());
    let for_service = caller.has(Role::Service);
    Ok(proto::ListTenantsResponse {
        tenants: tenants
            .iter()
            .map(|tenant| convert::tenant(tenant, &[], for_service))
            .collect(),
        next_page_token,
    })
}

pub(super) async fn activate_tenant(
    api: &Api,
    caller: &Caller,
    request: proto::ActivateTenantRequest,
) -> Result<proto::ActivateTenantResponse, ApiError> {
    let id = TenantName::parse_field("name", &request.name)?.tenant;
    let begun = api
        .begin(caller, &id, ACTIVATE_TENANT, &request.request_id, &request)
        .await?;
    let mut change = match begun {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_governing_caller().await?;
    match activation(change.tenant.state) {
        Activation::Gated => {}
        Activation::Done => {
            let tenant = change.tenant.clone();
            change.tx.rollback().await?;
            return activated_before(api, &tenant).await;
        }
        Activation::Refused => return Err(Refusal::TenantState(change.tenant.state).into()),
    }
    let met: Met = store::gate::of_tenant(change.tx.conn(), &change.tenant, change.now_ms).await?;
    let results = met.results().map_err(|missing| Refusal::TenantIncomplete {
        tenant: request.name.clone(),
        missing,
    })?;
    // What the deployment issued ends soon after, and then it lets nobody in: a tenant that no human of its own has come into would
    // be left without anybody who may do anything in it.
    if !change.is_of_governing_human().await? {
        return Err(Refusal::CallerNotCustomer.into());
    }
    let kind = change.tenant.kind;
    let payload = lifecycle(kind, TenantState::Onboarding, TenantState::Active, results);
    let draft = change.draft(&payload, format!("tenants/{id}"));
    let emitted = api.emit(&mut change, draft).await?;
    store::tenants::change(
        change.tx.conn(),
        &id,
        (TenantState::Active, false),
        &emitted.record_id,
    )
    .await?;
    let end_ms = change.now_ms.saturating_add(HAND_OVER_MS);
    // Whatever acts in a tenant that is set up was issued by the deployment, or with what it had issued.
    store::tokens::cut(change.tx.conn(), &id, end_ms).await?;
    let tenant = Tenant {
        state: TenantState::Active,
        ..change.tenant.clone()
    };
    let answer = proto::ActivateTenantResponse {
        tenant: Some(convert::tenant(&tenant, &[], false)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

/// The answer to activating a tenant that is active: the receipt of the activation that happened.
async fn activated_before(
    api: &Api,
    tenant: &Tenant,
) -> Result<proto::ActivateTenantResponse, ApiError> {
    let receipt = match &tenant.activation_record {
        Some(record) => api.outbox.receipt(&tenant.id, record).await?,
        None => None,
    };
    let answer = proto::ActivateTenantResponse {
        tenant: Some(convert::tenant(tenant, &[], false)),
        receipt,
    };
    api.settled(&tenant.id, answer).await
}

fn lifecycle(
    kind: TenantKind,
    from: TenantState,
    to: TenantState,
    gate_results: Vec<GateResult>,
) -> TenantLifecycleChanged {
    TenantLifecycleChanged {
        from: from.into(),
        to: to.into(),
        gate_results,
        kind: kind.into(),
        ..TenantLifecycleChanged::default()
    }
}
