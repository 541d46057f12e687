//! Grants: listing, reading by key, streaming those of a snapshot.

use std::collections::HashMap;

use counterfoil_chassis::{ApiError, Caller, db::scope, names::tenant_field};
use counterfoil_evidence::leaf::{GrantFlags, GrantKey, SourceTag};
use counterfoil_proto::inventory::{
    BatchGetGrantsRequest, BatchGetGrantsResponse, Grant, ListGrantsRequest, ListGrantsResponse,
    StreamSnapshotGrantsRequest, StreamSnapshotGrantsResponse,
};
use futures::{StreamExt, stream::BoxStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{
    Api,
    convert::{self, Place},
    names::{self, SnapshotName},
    one_more,
};
use crate::{
    model::{facts::flag_named, sorting::KEY_BYTES},
    store::{
        grants::{self, ListedGrant, Slice},
        snapshots::{self, SealedSync, SnapshotSourceRow, SourceStanding},
        sources::{self, SourceRow},
    },
};

/// Most keys in one request.
pub(super) const KEYS_MAX: usize = 1_000;
/// Grants in one message of a stream.
const BATCH: i64 = 1_000;

pub(super) async fn list_grants(
    api: &Api,
    caller: &Caller,
    request: ListGrantsRequest,
) -> Result<ListGrantsResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    caller.require_tenant(&tenant)?;
    let flags = flags(&request.flags)?;
    let only = api.source_filter(&tenant, &request.source).await?;
    let filter = flags.0.to_string();
    let scope = ["ListGrants", &tenant, &request.source, &filter];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    let after = page.after.clone().unwrap_or_default();
    let all = sources::all_by_tag(&api.db, &tenant).await?;
    let wanted = one_more(page.size);
    let mut rows: Vec<(usize, ListedGrant)> = Vec::new();
    for (number, source) in all.iter().enumerate() {
        let limit = wanted - i64::try_from(rows.len()).unwrap_or(wanted);
        let Some(after) = within(&source.tag, &after) else {
            continue;
        };
        if limit <= 0 || (only != 0 && source.source_no != only) {
            continue;
        }
        let slice = Slice {
            source_no: source.source_no,
            seq: source.current_seq,
            flags,
            after,
            limit,
        };
        let found = grants::list(&api.db, &tenant, slice).await?;
        rows.extend(found.into_iter().map(|row| (number, row)));
    }
    let tag = |number: usize| {
        all.get(number)
            .map_or(SourceTag([0; 8]), |source| source.tag)
    };
    let next_page_token = page.cut(&mut rows, |(number, row)| {
        grants::full_key(tag(*number), &row.grant.key).0.to_vec()
    });
    let shown = rows.into_iter().filter_map(|(number, row)| {
        let source = all.get(number)?;
        Some(convert::grant(place(&tenant, source), row))
    });
    Ok(ListGrantsResponse {
        grants: shown.collect(),
        next_page_token,
    })
}

/// The part of a position that lies within a source: none when the source is behind it.
fn within<'a>(tag: &SourceTag, after: &'a [u8]) -> Option<&'a [u8]> {
    match after.split_first_chunk::<8>() {
        None => Some(&[]),
        Some((reached, key)) => match tag.0.cmp(reached) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => Some(key),
            std::cmp::Ordering::Greater => Some(&[]),
        },
    }
}

fn place<'a>(tenant: &'a str, source: &'a SourceRow) -> Place<'a> {
    Place {
        tenant,
        source: &source.source,
        tag: source.tag,
        observed_ms: source.current_ended_ms,
    }
}

fn flags(names: &[String]) -> Result<GrantFlags, ApiError> {
    names.iter().try_fold(GrantFlags::default(), |all, name| {
        flag_named(name)
            .map(|flag| all.with(flag))
            .ok_or_else(|| ApiError::invalid("flags", format!("{name:?} is no flag")))
    })
}

/// Reads the keys of a request.
pub(super) fn keys(field: &str, keys: &[Vec<u8>]) -> Result<Vec<GrantKey>, ApiError> {
    if keys.is_empty() || keys.len() > KEYS_MAX {
        return Err(ApiError::invalid(field, "must be 1 to 1,000"));
    }
    let key = |bytes: &Vec<u8>| {
        GrantKey::try_from(bytes.as_slice())
            .map_err(|_| ApiError::invalid(field, "must be 40 bytes each"))
    };
    keys.iter().map(key).collect()
}

fn short(key: &GrantKey) -> [u8; KEY_BYTES] {
    let mut short = [0; KEY_BYTES];
    short.copy_from_slice(&key.0[8..]);
    short
}

pub(super) async fn batch_get_grants(
    api: &Api,
    caller: &Caller,
    request: BatchGetGrantsRequest,
) -> Result<BatchGetGrantsResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    caller.require_tenant(&tenant)?;
    let keys = keys("grant_keys", &request.grant_keys)?;
    let mut by_source: HashMap<SourceTag, Vec<[u8; KEY_BYTES]>> = HashMap::new();
    for key in &keys {
        by_source
            .entry(key.source_tag())
            .or_default()
            .push(short(key));
    }
    let mut found: HashMap<GrantKey, Grant> = HashMap::new();
    for source in sources::all_by_tag(&api.db, &tenant).await? {
        let Some(wanted) = by_source.remove(&source.tag) else {
            continue;
        };
        let (source_no, seq) = (source.source_no, source.current_seq);
        for row in grants::by_keys(&api.db, &tenant, source_no, seq, wanted).await? {
            let key = grants::full_key(source.tag, &row.grant.key);
            found.insert(key, convert::grant(place(&tenant, &source), row));
        }
    }
    let gone = |key: &GrantKey| Grant {
        name: names::grant(&tenant, key),
        ..Grant::default()
    };
    let in_order = keys
        .iter()
        .map(|key| found.get(key).cloned().unwrap_or_else(|| gone(key)));
    Ok(BatchGetGrantsResponse {
        grants: in_order.collect(),
    })
}

type Answers = mpsc::Sender<Result<StreamSnapshotGrantsResponse, Status>>;

pub(super) async fn stream_snapshot_grants(
    api: &Api,
    caller: &Caller,
    request: StreamSnapshotGrantsRequest,
) -> Result<BoxStream<'static, Result<StreamSnapshotGrantsResponse, Status>>, ApiError> {
    let name = SnapshotName::parse_field("snapshot", &request.snapshot)?;
    caller.require_tenant(&name.tenant)?;
    let snapshot = snapshots::get(&api.db, &name.tenant, &name.snapshot)
        .await?
        .ok_or_else(ApiError::not_found)?;
    let (answers, receiver) = mpsc::channel(super::STREAM_AHEAD);
    let api = api.clone();
    scope::spawn(async move {
        for source in &snapshot.sources {
            let SourceStanding::Sealed(sealed) = &source.standing else {
                continue;
            };
            let sent = if request.leaves_only {
                send_leaves(&api, &name.tenant, source, sealed, &answers).await
            } else {
                send_grants(&api, &name.tenant, source, sealed, &answers).await
            };
            if let Err(error) = sent {
                // The reader may have left in the meantime.
                let _ = answers.send(Err(error.into())).await;
                return;
            }
        }
    });
    Ok(ReceiverStream::new(receiver).boxed())
}

async fn send_grants(
    api: &Api,
    tenant: &str,
    source: &SnapshotSourceRow,
    sealed: &SealedSync,
    answers: &Answers,
) -> Result<(), ApiError> {
    let mut after = Vec::new();
    let mut sent = 0_u64;
    loop {
        let slice = Slice {
            source_no: source.source_no,
            seq: sealed.seq,
            flags: GrantFlags::default(),
            after: &after,
            limit: BATCH,
        };
        let rows = grants::list(&api.db, tenant, slice).await?;
        let Some(last) = rows.last() else { break };
        after = last.grant.key.to_vec();
        sent += u64::try_from(rows.len()).unwrap_or(0);
        let place = Place {
            tenant,
            source: &source.source,
            tag: source.tag,
            observed_ms: Some(sealed.ended_ms),
        };
        let answer = StreamSnapshotGrantsResponse {
            grants: rows
                .into_iter()
                .map(|row| convert::grant(place, row))
                .collect(),
            leaves: Vec::new(),
        };
        if answers.send(Ok(answer)).await.is_err() {
            return Ok(());
        }
    }
    whole(sent, sealed)
}

async fn send_leaves(
    api: &Api,
    tenant: &str,
    source: &SnapshotSourceRow,
    sealed: &SealedSync,
    answers: &Answers,
) -> Result<(), ApiError> {
    let mut after = Vec::new();
    let mut sent = 0_u64;
    loop {
        let rows = grants::at(&api.db, tenant, source.source_no, sealed.seq, &after, BATCH).await?;
        let Some(last) = rows.last() else { break };
        after = last.key.to_vec();
        sent += u64::try_from(rows.len()).unwrap_or(0);
        let leaves = rows
            .iter()
            .flat_map(|row| grants::leaf(source.tag, row).to_bytes());
        let answer = StreamSnapshotGrantsResponse {
            grants: Vec::new(),
            leaves: leaves.collect(),
        };
        if answers.send(Ok(answer)).await.is_err() {
            return Ok(());
        }
    }
    whole(sent, sealed)
}

/// A set that does not come out as large as it was sealed must not look like one.
fn whole(sent: u64, sealed: &SealedSync) -> Result<(), ApiError> {
    if sent == sealed.set_count {
        return Ok(());
    }
    let found = format!(
        "sync {}: {sent} of {} grants",
        sealed.sync, sealed.set_count
    );
    Err(ApiError::data_loss("GRANTS_MISSING", found))
}
