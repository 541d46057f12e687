//! Sources: registering, reading, listing.

use counterfoil_chassis::{
    ApiError, Caller, RecordDraft,
    idempotency::{self, Begun},
    names::{check_id, tenant_field},
};
use counterfoil_evidence::{leaf::SourceTag, v1};
use counterfoil_proto::inventory::{
    CreateSourceRequest, CreateSourceResponse, GetSourceRequest, GetSourceResponse,
    ListSourcesRequest, ListSourcesResponse,
};

use super::{
    Api, EVIDENCE_PATIENCE, connection::Connection, convert, names::SourceName, one_more, places,
};
use crate::store::sources::{self, NewSource, SourceRow};

/// Longest display name in characters.
const DISPLAY_NAME_CHARS_MAX: usize = 200;
/// Longest id in characters, as for tenants.
const SOURCE_ID_CHARS_MAX: usize = 63;

fn check_source_id(id: &str) -> Result<(), ApiError> {
    check_id(id).map_err(|error| error.in_field("source_id"))?;
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if id.len() > SOURCE_ID_CHARS_MAX
        || !id.bytes().all(allowed)
        || id.starts_with('-')
        || id.ends_with('-')
    {
        let rule = "must be 1 to 63 of a-z, 0-9 and inner '-'";
        return Err(ApiError::invalid("source_id", rule));
    }
    Ok(())
}

pub(super) async fn create_source(
    api: &Api,
    caller: &Caller,
    request: CreateSourceRequest,
) -> Result<CreateSourceResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    caller.require_tenant(&tenant)?;
    let asked = request.source.clone().unwrap_or_default();
    if !(asked.environment.is_empty() && asked.tier.is_empty()) {
        places::require_customer(api, caller, &tenant).await?;
        places::check_code("source.environment", &asked.environment)?;
        places::check_code("source.tier", &asked.tier)?;
    }
    check_source_id(&request.source_id)?;
    if asked.display_name.chars().count() > DISPLAY_NAME_CHARS_MAX {
        return Err(ApiError::invalid(
            "source.display_name",
            "has at most 200 characters",
        ));
    }
    let connection = Connection::parse(&asked.config_json)?;
    api.tenants.require_active(&tenant).await?;
    // A repeated request is answered before the target is asked again; the probe stays out of transactions.
    let mut tx = api.db.write_tx(&tenant).await?;
    let begun = begin(&mut tx, caller, &request).await?;
    tx.rollback().await?;
    if let Begun::Replay(answer) = begun {
        return settled(api, &tenant, answer).await;
    }
    let source_root = api.config.source_root.as_deref();
    let connection = connection.confine(caller, &tenant, source_root).await?;
    connection.probe().await?;
    let new = NewSource {
        tag: SourceTag::of(&format!("sources/{}", request.source_id)),
        kind: connection.config.kind().to_owned(),
        config_json: connection.to_json()?,
        reader_principal: format!("connectors/{}/reader", request.source_id),
        writer_principal: connection.writer_principal(&request.source_id),
        display_name: asked.display_name,
        environment: asked.environment,
        tier: asked.tier,
        source: request.source_id.clone(),
    };
    let mut tx = api.db.write_tx(&tenant).await?;
    let fresh = match begin(&mut tx, caller, &request).await? {
        Begun::Replay(answer) => return settled(api, &tenant, answer).await,
        Begun::Fresh(fresh) => fresh,
    };
    if sources::exists(&mut tx, &new.source).await? {
        return Err(ApiError::already_exists(
            "SOURCE_EXISTS",
            "the source id is taken",
        ));
    }
    let now_ms = api.clock.now_ms();
    let emitted = api
        .outbox
        .emit(&mut tx, record(&new, &connection, caller, now_ms))
        .await?;
    let source_no = sources::insert(&mut tx, &new, &emitted.record_id, now_ms).await?;
    let answer = CreateSourceResponse {
        source: Some(convert::source(&row(&tenant, source_no, new))),
        receipt: Some(emitted.pending_receipt()),
    };
    fresh.store(&mut tx, &answer, now_ms).await?;
    // If we crash here: source, record and answer are there together, or none of them is.
    tx.commit().await?;
    settled(api, &tenant, answer).await
}

async fn begin(
    tx: &mut counterfoil_chassis::WriteTx,
    caller: &Caller,
    request: &CreateSourceRequest,
) -> Result<Begun<CreateSourceResponse>, ApiError> {
    idempotency::begin(tx, caller, "CreateSource", &request.request_id, request).await
}

fn record(new: &NewSource, connection: &Connection, caller: &Caller, now_ms: i64) -> RecordDraft {
    let mut capabilities = vec!["list".to_owned(), "control_total".to_owned()];
    if !new.writer_principal.is_empty() {
        capabilities.push("revoke".to_owned());
    }
    let source = format!("sources/{}", new.source);
    let payload = v1::SourceRegistered {
        source: source.clone(),
        kind: new.kind.clone(),
        capabilities,
        reader_principal: new.reader_principal.clone(),
        writer_principal: new.writer_principal.clone(),
        config_hash: connection.config.config_hash().to_vec(),
        source_tag: new.tag.0.to_vec(),
        environment: new.environment.clone(),
        tier: new.tier.clone(),
    };
    RecordDraft::new(&payload, caller.actor(), now_ms)
        .subject(source)
        .commit("display_name", new.display_name.as_bytes())
}

fn row(tenant: &str, source_no: i64, new: NewSource) -> SourceRow {
    SourceRow {
        source_no,
        tenant: tenant.to_owned(),
        source: new.source,
        tag: new.tag,
        kind: new.kind,
        config_json: new.config_json,
        reader_principal: new.reader_principal,
        writer_principal: new.writer_principal,
        record_id: Vec::new(),
        display_name: new.display_name,
        environment: new.environment,
        tier: new.tier,
        current_seq: 0,
        current_sync: None,
        current_ended_ms: None,
        last_attempted_sync: None,
    }
}

async fn settled(
    api: &Api,
    tenant: &str,
    mut answer: CreateSourceResponse,
) -> Result<CreateSourceResponse, ApiError> {
    api.outbox
        .settle(tenant, &mut answer.receipt, EVIDENCE_PATIENCE)
        .await?;
    Ok(answer)
}

pub(super) async fn get_source(
    api: &Api,
    caller: &Caller,
    request: GetSourceRequest,
) -> Result<GetSourceResponse, ApiError> {
    let name = SourceName::parse_field("name", &request.name)?;
    caller.require_tenant(&name.tenant)?;
    let found = api.source(&name.tenant, &name.source).await?;
    Ok(GetSourceResponse {
        source: Some(convert::source(&found)),
    })
}

pub(super) async fn list_sources(
    api: &Api,
    caller: &Caller,
    request: ListSourcesRequest,
) -> Result<ListSourcesResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    caller.require_tenant(&tenant)?;
    let scope = ["ListSources", &tenant];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    let after = page.after_text()?.unwrap_or_default();
    let mut rows = sources::list(&api.db, &tenant, after, one_more(page.size)).await?;
    let next_page_token = page.cut(&mut rows, |row| row.source.clone().into_bytes());
    Ok(ListSourcesResponse {
        sources: rows.iter().map(convert::source).collect(),
        next_page_token,
    })
}
