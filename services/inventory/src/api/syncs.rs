//! Syncs: starting, reading, watching.

use counterfoil_chassis::{
    ApiError, Caller,
    clock::millis,
    db::scope,
    idempotency::{self, Begun},
    names::{new_id, tenant_field},
};
use counterfoil_proto::inventory::{
    GetSyncRequest, GetSyncResponse, ListSyncsRequest, ListSyncsResponse, StartSyncRequest,
    StartSyncResponse, Sync, SyncPurpose, WatchSyncRequest, WatchSyncResponse,
};
use futures::{StreamExt, stream::BoxStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{
    Api, STREAM_AHEAD, convert,
    names::{SourceName, SyncName},
    one_more,
};
use crate::store::syncs::{self, State, SyncRow};

/// How far `not_before_time` may lie ahead of our clock: another machine's clock, not a schedule.
const AHEAD_MS_MAX: i64 = 300_000;

pub(super) async fn start_sync(
    api: &Api,
    caller: &Caller,
    request: StartSyncRequest,
) -> Result<StartSyncResponse, ApiError> {
    let name = SourceName::parse_field("source", &request.source)?;
    caller.require_tenant(&name.tenant)?;
    let purpose = match SyncPurpose::try_from(request.purpose) {
        Ok(SyncPurpose::Unspecified) => SyncPurpose::Inventory,
        Ok(purpose) => purpose,
        Err(_) => return Err(ApiError::invalid("purpose", "is unknown")),
    };
    let not_before_ms = match &request.not_before_time {
        None => 0,
        Some(time) => millis(time)
            .ok_or_else(|| ApiError::invalid("not_before_time", "is not a valid time"))?,
    };
    let now_ms = api.clock.now_ms();
    if not_before_ms > now_ms.saturating_add(AHEAD_MS_MAX) {
        let rule = "may lie at most 5 minutes ahead";
        return Err(ApiError::invalid("not_before_time", rule));
    }
    let source = api.source(&name.tenant, &name.source).await?;
    if api.tenants.require(&name.tenant).await?.is_closed() {
        // It has left: nobody of it is there to ask for it, and its log takes nothing more.
        let message = "the tenant is closed: its sources are not read any more";
        return Err(ApiError::failed_precondition("TENANT_NOT_ACTIVE", message));
    }
    let mut tx = api.db.write_tx(&name.tenant).await?;
    let id = &request.request_id;
    let fresh = match idempotency::begin(&mut tx, caller, "StartSync", id, &request).await? {
        Begun::Replay(answer) => return Ok(answer),
        Begun::Fresh(fresh) => fresh,
    };
    let open = syncs::open(&mut tx, source.source_no).await?;
    let sync = if let Some(counts) = open.iter().find(|sync| serves(sync, not_before_ms)) {
        counts.sync.clone()
    } else if let Some(waiting) = open.iter().find(|sync| sync.state == State::Waiting) {
        syncs::postpone(&mut tx, &waiting.sync, not_before_ms).await?;
        waiting.sync.clone()
    } else {
        let sync = new_id(now_ms);
        let purpose = i64::from(i32::from(purpose));
        let source_no = source.source_no;
        syncs::insert(&mut tx, &sync, source_no, purpose, not_before_ms, now_ms).await?;
        sync
    };
    let row = syncs::get_in(&mut tx, &sync).await?;
    let answer = StartSyncResponse {
        sync: row.as_ref().map(|row| convert::sync(row, None)),
    };
    fresh.store(&mut tx, &answer, now_ms).await?;
    let bell = api.bell.clone();
    tx.on_commit(move || bell.ring());
    // If we crash here: the sync waits, and the next start of the service runs it.
    tx.commit().await?;
    Ok(answer)
}

/// Whether a sync that is not sealed is what the caller wants: it began reading, or will, late enough.
fn serves(sync: &SyncRow, not_before_ms: i64) -> bool {
    match (sync.state, sync.started_ms) {
        (State::Running, Some(started_ms)) => started_ms >= not_before_ms,
        (State::Running, None) => not_before_ms == 0,
        _ => sync.not_before_ms >= not_before_ms,
    }
}

impl Api {
    /// Syncs with their receipts, read in one statement.
    async fn with_receipts(&self, tenant: &str, rows: &[SyncRow]) -> Result<Vec<Sync>, ApiError> {
        let ids: Vec<Vec<u8>> = rows
            .iter()
            .filter_map(|row| row.record_id.clone())
            .collect();
        let mut receipts = self.outbox.receipts(tenant, &ids).await?;
        let with_receipt = |row: &SyncRow| {
            let receipt = row.record_id.as_ref().and_then(|id| receipts.remove(id));
            convert::sync(row, receipt)
        };
        Ok(rows.iter().map(with_receipt).collect())
    }

    pub(super) async fn sync(&self, name: &SyncName) -> Result<SyncRow, ApiError> {
        syncs::get(&self.db, &name.tenant, &name.sync)
            .await?
            .ok_or_else(ApiError::not_found)
    }
}

pub(super) async fn get_sync(
    api: &Api,
    caller: &Caller,
    request: GetSyncRequest,
) -> Result<GetSyncResponse, ApiError> {
    let name = SyncName::parse_field("name", &request.name)?;
    caller.require_tenant(&name.tenant)?;
    let row = api.sync(&name).await?;
    let mut found = api.with_receipts(&name.tenant, &[row]).await?;
    Ok(GetSyncResponse { sync: found.pop() })
}

pub(super) async fn list_syncs(
    api: &Api,
    caller: &Caller,
    request: ListSyncsRequest,
) -> Result<ListSyncsResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    caller.require_tenant(&tenant)?;
    let source_no = api.source_filter(&tenant, &request.source).await?;
    let scope = ["ListSyncs", &tenant, &request.source];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    let before = page.after_text()?.unwrap_or_default();
    let mut rows = syncs::list(&api.db, &tenant, source_no, before, one_more(page.size)).await?;
    let next_page_token = page.cut(&mut rows, |row| row.sync.clone().into_bytes());
    Ok(ListSyncsResponse {
        syncs: api.with_receipts(&tenant, &rows).await?,
        next_page_token,
    })
}

pub(super) async fn watch_sync(
    api: &Api,
    caller: &Caller,
    request: WatchSyncRequest,
) -> Result<BoxStream<'static, Result<WatchSyncResponse, Status>>, ApiError> {
    let name = SyncName::parse_field("name", &request.name)?;
    caller.require_tenant(&name.tenant)?;
    api.sync(&name).await?;
    let (answers, receiver) = mpsc::channel(STREAM_AHEAD);
    let api = api.clone();
    scope::spawn(async move {
        let mut listener = api.bell.listen();
        let mut shown = None;
        loop {
            let row = match api.sync(&name).await {
                Ok(row) => row,
                Err(error) => {
                    // The reader may have left in the meantime.
                    let _ = answers.send(Err(error.into())).await;
                    return;
                }
            };
            let sealed = row.state.is_sealed();
            if shown.as_ref() != Some(&row) {
                let found = api
                    .with_receipts(&name.tenant, std::slice::from_ref(&row))
                    .await;
                let answer = found.map(|mut found| WatchSyncResponse { sync: found.pop() });
                if answers.send(answer.map_err(Status::from)).await.is_err() {
                    return;
                }
                shown = Some(row);
            }
            if sealed {
                return;
            }
            tokio::select! {
                () = listener.heard() => {}
                () = answers.closed() => return,
            }
        }
    });
    Ok(ReceiverStream::new(receiver).boxed())
}
