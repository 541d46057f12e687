//! Proofs of presence and absence in sealed sets.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use counterfoil_chassis::{ApiError, Caller, clock::timestamp};
use counterfoil_evidence::leaf::{GRANT_KEY_LEN, GRANT_LEAF_LEN, SourceTag};
use counterfoil_proto::inventory::{
    GrantProof, ProveGrantsRequest, ProveGrantsResponse, SyncCompleteness,
};
use counterfoil_tlog::sorted_set::{SetProof, SortedSet};
use tokio::sync::OnceCell;

use super::{Api, grants::keys, names::SyncName};
use crate::{
    error::Error,
    store::{
        grants, sources,
        syncs::{State, SyncRow},
    },
};

/// Grants read at once when a set is built.
const PAGE: i64 = 4_096;
/// Memory of a leaf in a set: its bytes, its hash, and about as much again for the tree above.
const LEAF_MEMORY_BYTES: usize = GRANT_LEAF_LEN + 2 * 32;

type Shared = Arc<OnceCell<Arc<SortedSet>>>;

/// The sets that proofs were last made from, newest last. Whoever changed one could only make proofs that do not verify.
#[derive(Debug)]
pub(super) struct SetCache {
    bytes_max: usize,
    sets: Mutex<VecDeque<(String, Shared)>>,
}

impl SetCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            sets: Mutex::default(),
        }
    }

    /// The place of a sync's set; who comes second waits for who builds it.
    fn place(&self, sync: &str) -> Shared {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let found = sets.iter().position(|(known, _)| known == sync);
        let entry = match found.and_then(|position| sets.remove(position)) {
            Some(entry) => entry,
            None => (sync.to_owned(), Shared::default()),
        };
        let set = Arc::clone(&entry.1);
        sets.push_back(entry);
        let memory = |(_, set): &(String, Shared)| {
            set.get().map_or(0, |set| {
                let leaves = usize::try_from(set.count()).unwrap_or(usize::MAX);
                leaves.saturating_mul(LEAF_MEMORY_BYTES)
            })
        };
        while sets.len() > 1 && sets.iter().map(memory).sum::<usize>() > self.bytes_max {
            sets.pop_front();
        }
        set
    }
}

pub(super) async fn prove_grants(
    api: &Api,
    caller: &Caller,
    request: ProveGrantsRequest,
) -> Result<ProveGrantsResponse, ApiError> {
    let name = SyncName::parse_field("sync", &request.sync)?;
    caller.require_tenant(&name.tenant)?;
    let keys = keys("grant_keys", &request.grant_keys)?;
    let row = api.sync(&name).await?;
    match row.state {
        State::Complete => {}
        State::Partial => {
            let message =
                "the sync is PARTIAL: nothing can be proved from its set, which is not kept";
            return Err(ApiError::failed_precondition("SYNC_PARTIAL", message));
        }
        State::Waiting | State::Running => {
            let message = "the sync is not sealed yet";
            return Err(ApiError::failed_precondition("SYNC_NOT_SEALED", message));
        }
    }
    let source = sources::by_number(&api.db, &row.tenant, row.source_no)
        .await?
        .ok_or_else(ApiError::not_found)?;
    let place = api.sets.place(&row.sync);
    let set = place
        .get_or_try_init(|| api.build_set(&row, source.tag))
        .await?;
    let mut proofs = Vec::with_capacity(keys.len());
    for key in keys {
        let proof = set.prove(&key.0).map_err(Error::from)?;
        proofs.push(GrantProof {
            grant_key: key.0.to_vec(),
            present: matches!(proof, SetProof::Membership(_)),
            proof: proof.to_bytes(),
        });
    }
    let root = set.root();
    Ok(ProveGrantsResponse {
        proofs,
        set_root: root.root.0.to_vec(),
        set_count: root.count,
        sync_record_hash: row.record_hash.map(Vec::from).unwrap_or_default(),
        start_time: row.started_ms.map(timestamp),
        end_time: row.ended_ms.map(timestamp),
        reader_principal: source.reader_principal,
        completeness: SyncCompleteness::Complete.into(),
    })
}

impl Api {
    async fn build_set(&self, row: &SyncRow, tag: SourceTag) -> Result<Arc<SortedSet>, ApiError> {
        let seq = row.seq.ok_or(Error::Damaged("seq of a sync"))?;
        let leaves = usize::try_from(row.set_count).unwrap_or(0);
        let mut blob = Vec::with_capacity(leaves.saturating_mul(GRANT_LEAF_LEN));
        let mut after = Vec::new();
        loop {
            let page = grants::at(&self.db, &row.tenant, row.source_no, seq, &after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.key.to_vec();
            for grant in &page {
                blob.extend_from_slice(&grants::leaf(tag, grant).to_bytes());
            }
        }
        let built = tokio::task::spawn_blocking(move || {
            SortedSet::from_leaves(blob, GRANT_KEY_LEN, GRANT_LEAF_LEN)
        });
        let set = built.await.map_err(Error::from)?.map_err(Error::from)?;
        // What was sealed is what is proved from, or nothing is.
        if Some(set.root().root.0) != row.set_root || set.count() != row.set_count {
            return Err(ApiError::data_loss("SET_ROOT_DIFFERS", row.sync.clone()));
        }
        Ok(Arc::new(set))
    }
}
