//! Snapshots: sealing all sources at one moment, reading, listing.

use std::collections::HashMap;

use counterfoil_chassis::{
    ApiError, Caller, RecordDraft, WriteTx,
    idempotency::{self, Begun},
    names::{new_id, tenant_field},
};
use counterfoil_evidence::v1;
use counterfoil_proto::inventory::{
    CreateSnapshotRequest, CreateSnapshotResponse, GetSnapshotRequest, GetSnapshotResponse,
    ListSnapshotsRequest, ListSnapshotsResponse, Snapshot,
};

use super::{Api, EVIDENCE_PATIENCE, convert, names::SnapshotName, one_more};
use crate::{
    error::Result as StoreResult,
    model::snapshot::{SealedSource, Standing, missing_reason, snapshot_root},
    store::{
        snapshots::{self, SealedSync, SnapshotRow, SnapshotSourceRow, SourceStanding},
        sources::{self, SourceRow},
        syncs::{self, State, SyncRow},
    },
};

pub(super) async fn create_snapshot(
    api: &Api,
    caller: &Caller,
    request: CreateSnapshotRequest,
) -> Result<CreateSnapshotResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    caller.require_tenant(&tenant)?;
    api.tenants.require(&tenant).await?;
    let age_max_ms = api.rules.snapshot_age_max_ms(&tenant).await?;
    let mut tx = api.db.write_tx(&tenant).await?;
    let id = &request.request_id;
    let fresh = match idempotency::begin(&mut tx, caller, "CreateSnapshot", id, &request).await? {
        Begun::Replay(answer) => return settled(api, &tenant, answer).await,
        Begun::Fresh(fresh) => fresh,
    };
    let now_ms = api.clock.now_ms();
    let sources = standings(&mut tx, now_ms, age_max_ms).await?;
    let mut row = SnapshotRow {
        snapshot: new_id(now_ms),
        snapshot_root: snapshot_root(&sealed_sources(&sources)),
        grant_count: sealed(&sources).map(|(_, sync)| sync.set_count).sum(),
        record_id: Vec::new(),
        record_hash: [0; 32],
        created_ms: now_ms,
        sources,
    };
    let payload = payload(&row);
    let draft =
        RecordDraft::new(&payload, caller.actor(), now_ms).subject(payload.snapshot.clone());
    let emitted = api.outbox.emit(&mut tx, draft).await?;
    row.record_id = emitted.record_id.to_vec();
    row.record_hash = emitted.record_hash;
    snapshots::insert(&mut tx, &row).await?;
    let receipt = emitted.pending_receipt();
    let answer = CreateSnapshotResponse {
        snapshot: Some(convert::snapshot(&tenant, &row, Some(receipt))),
    };
    fresh.store(&mut tx, &answer, now_ms).await?;
    // If we crash here: snapshot, record and answer are there together, or none of them is.
    tx.commit().await?;
    settled(api, &tenant, answer).await
}

/// Every source of the tenant, ascending by tag, as it is in the snapshot or missing from it.
async fn standings(
    tx: &mut WriteTx,
    now_ms: i64,
    age_max_ms: i64,
) -> StoreResult<Vec<SnapshotSourceRow>> {
    let by_source = |rows: Vec<SyncRow>| -> HashMap<i64, SyncRow> {
        rows.into_iter().map(|row| (row.source_no, row)).collect()
    };
    let mut current = by_source(syncs::current_in(tx).await?);
    let mut newest = by_source(syncs::newest_sealed_in(tx).await?);
    let sources = sources::all_by_tag_in(tx).await?;
    Ok(sources
        .into_iter()
        .map(|source| {
            let complete = current.remove(&source.source_no);
            let newest = newest.remove(&source.source_no);
            standing(source, complete, newest, now_ms, age_max_ms)
        })
        .collect())
}

fn standing(
    source: SourceRow,
    complete: Option<SyncRow>,
    newest: Option<SyncRow>,
    now_ms: i64,
    age_max_ms: i64,
) -> SnapshotSourceRow {
    let judged = Standing {
        complete_ended_ms: complete.as_ref().and_then(|sync| sync.ended_ms),
        partial_reasons: newest
            .filter(|sync| sync.state == State::Partial)
            .map(|sync| sync.partial_reasons),
    };
    let standing = match (missing_reason(&judged, now_ms, age_max_ms), complete) {
        (None, Some(sync)) => SourceStanding::Sealed(SealedSync {
            seq: sync.seq.unwrap_or_default(),
            record_hash: sync.record_hash.unwrap_or_default(),
            set_root: sync.set_root.unwrap_or_default(),
            set_count: sync.set_count,
            ended_ms: sync.ended_ms.unwrap_or_default(),
            sync: sync.sync,
        }),
        (reason, _) => SourceStanding::Missing(reason.unwrap_or("never_synced").to_owned()),
    };
    SnapshotSourceRow {
        source: source.source,
        source_no: source.source_no,
        tag: source.tag,
        standing,
    }
}

fn sealed(
    sources: &[SnapshotSourceRow],
) -> impl Iterator<Item = (&SnapshotSourceRow, &SealedSync)> {
    sources.iter().filter_map(|source| match &source.standing {
        SourceStanding::Sealed(sync) => Some((source, sync)),
        SourceStanding::Missing(_) => None,
    })
}

fn sealed_sources(sources: &[SnapshotSourceRow]) -> Vec<SealedSource> {
    sealed(sources)
        .map(|(source, sync)| SealedSource {
            tag: source.tag,
            record_hash: sync.record_hash,
            set_root: sync.set_root,
        })
        .collect()
}

fn payload(row: &SnapshotRow) -> v1::SnapshotSealed {
    let mut payload = v1::SnapshotSealed {
        snapshot: format!("snapshots/{}", row.snapshot),
        snapshot_root: row.snapshot_root.to_vec(),
        grant_count: row.grant_count,
        ..v1::SnapshotSealed::default()
    };
    for one in &row.sources {
        let (source, source_tag) = (format!("sources/{}", one.source), one.tag.0.to_vec());
        match &one.standing {
            SourceStanding::Sealed(sync) => payload.sources.push(v1::SnapshotSource {
                source,
                source_tag,
                sync_record_hash: sync.record_hash.to_vec(),
                set_root: sync.set_root.to_vec(),
                set_count: sync.set_count,
                synced_ms: sync.ended_ms,
            }),
            SourceStanding::Missing(reason) => payload.missing_sources.push(v1::MissingSource {
                source,
                source_tag,
                reason: reason.clone(),
            }),
        }
    }
    payload
}

async fn settled(
    api: &Api,
    tenant: &str,
    mut answer: CreateSnapshotResponse,
) -> Result<CreateSnapshotResponse, ApiError> {
    let receipts = answer
        .snapshot
        .iter_mut()
        .filter_map(|one| one.receipt.as_mut());
    api.outbox
        .settle(tenant, receipts, EVIDENCE_PATIENCE)
        .await?;
    Ok(answer)
}

impl Api {
    async fn snapshots_with_receipts(
        &self,
        tenant: &str,
        rows: &[SnapshotRow],
    ) -> Result<Vec<Snapshot>, ApiError> {
        let ids: Vec<Vec<u8>> = rows.iter().map(|row| row.record_id.clone()).collect();
        let mut receipts = self.outbox.receipts(tenant, &ids).await?;
        let with_receipt = |row: &SnapshotRow| {
            let receipt = receipts.remove(&row.record_id);
            convert::snapshot(tenant, row, receipt)
        };
        Ok(rows.iter().map(with_receipt).collect())
    }
}

pub(super) async fn get_snapshot(
    api: &Api,
    caller: &Caller,
    request: GetSnapshotRequest,
) -> Result<GetSnapshotResponse, ApiError> {
    let name = SnapshotName::parse_field("name", &request.name)?;
    caller.require_tenant(&name.tenant)?;
    let row = snapshots::get(&api.db, &name.tenant, &name.snapshot)
        .await?
        .ok_or_else(ApiError::not_found)?;
    let mut found = api.snapshots_with_receipts(&name.tenant, &[row]).await?;
    Ok(GetSnapshotResponse {
        snapshot: found.pop(),
    })
}

pub(super) async fn list_snapshots(
    api: &Api,
    caller: &Caller,
    request: ListSnapshotsRequest,
) -> Result<ListSnapshotsResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    caller.require_tenant(&tenant)?;
    let scope = ["ListSnapshots", &tenant];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    let before = page.after_text()?.unwrap_or_default();
    let mut rows = snapshots::list(&api.db, &tenant, before, one_more(page.size)).await?;
    let next_page_token = page.cut(&mut rows, |row| row.snapshot.clone().into_bytes());
    Ok(ListSnapshotsResponse {
        snapshots: api.snapshots_with_receipts(&tenant, &rows).await?,
        next_page_token,
    })
}
