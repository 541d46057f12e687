//! Inventory: snapshots, grants, syncs and proofs.

use std::time::Duration;

use counterfoil_chassis::{
    client::{MESSAGE_BYTES_MAX, ServiceChannel},
    clock::{millis, timestamp},
    error::ApiError,
};
use counterfoil_evidence::leaf::{GRANT_LEAF_LEN, GrantKey, GrantLeaf, SourceTag};
use counterfoil_proto::inventory::{
    BatchGetGrantsRequest, GetSnapshotRequest, GetSourceConnectionRequest, GetSourceRequest, Grant,
    ListSourcesRequest, ProveGrantsRequest, StartSyncRequest, StreamSnapshotGrantsRequest, Sync,
    SyncCompleteness, SyncPurpose, SyncState, WatchSyncRequest,
    inventory_service_client::InventoryServiceClient, source_service_client::SourceServiceClient,
};
use tonic::Code;

use super::{authority::Places, digest, refused};
use crate::model::{
    ids::local_name,
    target::{Connection, GrantFacts, Principals, Proof, Proofs, Snapshot, SyncEnd},
};

const PEER: &str = "inventory";

/// Grants that inventory answers at once.
pub(crate) const BATCH: usize = 1000;

const PAGE_SIZE: i32 = 1000;

/// Asks the inventory service. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Inventory {
    inventory: InventoryServiceClient<ServiceChannel>,
    sources: SourceServiceClient<ServiceChannel>,
}

/// Why a source is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Whether a removal landed.
    ReadBack,
    /// Whether it stayed.
    Persistence,
}

impl Inventory {
    /// Asks the service behind `channel`.
    pub(crate) fn new(channel: ServiceChannel) -> Self {
        Self {
            inventory: InventoryServiceClient::new(channel.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
            sources: SourceServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX),
        }
    }

    /// A snapshot by its full name.
    pub(crate) async fn snapshot(&self, name: &str) -> Result<Snapshot, ApiError> {
        let request = GetSnapshotRequest {
            name: name.to_owned(),
        };
        let answer = self.sources.clone().get_snapshot(request).await;
        let found = answer
            .map_err(refused(PEER))?
            .into_inner()
            .snapshot
            .unwrap_or_default();
        let sources = found.sources.iter().map(|source| {
            let tag: [u8; 8] = source
                .source_tag
                .as_slice()
                .try_into()
                .map_err(|_| malformed("source tag"))?;
            let read_ms = source.sync_time.as_ref().and_then(millis).unwrap_or(0);
            Ok((SourceTag(tag), read_ms))
        });
        Ok(Snapshot {
            record_hash: digest(PEER, &found.record_hash)?,
            root: digest(PEER, &found.snapshot_root)?,
            sources: sources.collect::<Result<_, ApiError>>()?,
        })
    }

    /// Shows every grant of a snapshot to `observe`, ascending by key, a batch at a time in memory.
    pub(crate) async fn each_leaf(
        &self,
        snapshot: &str,
        mut observe: impl FnMut(&GrantLeaf) + Send,
    ) -> Result<(), ApiError> {
        let request = StreamSnapshotGrantsRequest {
            snapshot: snapshot.to_owned(),
            leaves_only: true,
        };
        let answer = self.inventory.clone().stream_snapshot_grants(request).await;
        let mut batches = answer.map_err(refused(PEER))?.into_inner();
        let mut last: Option<GrantKey> = None;
        while let Some(batch) = batches.message().await.map_err(refused(PEER))? {
            if batch.leaves.len() % GRANT_LEAF_LEN != 0 {
                return Err(malformed("leaves"));
            }
            for bytes in batch.leaves.chunks_exact(GRANT_LEAF_LEN) {
                let leaf = GrantLeaf::try_from(bytes).map_err(|_| malformed("leaf"))?;
                // A merge over a side out of order would find what is not there.
                if last.is_some_and(|last| last >= leaf.key) {
                    return Err(malformed("order of leaves"));
                }
                last = Some(leaf.key);
                observe(&leaf);
            }
        }
        Ok(())
    }

    /// Grants as they are now, in the order asked.
    pub(crate) async fn grants(
        &self,
        tenant: &str,
        keys: &[GrantKey],
    ) -> Result<Vec<GrantFacts>, ApiError> {
        let mut found = Vec::with_capacity(keys.len());
        for batch in keys.chunks(BATCH) {
            let request = BatchGetGrantsRequest {
                tenant: format!("tenants/{tenant}"),
                grant_keys: batch.iter().map(|key| key.0.to_vec()).collect(),
            };
            let answer = self.inventory.clone().batch_get_grants(request).await;
            let grants = answer.map_err(refused(PEER))?.into_inner().grants;
            if grants.len() != batch.len() {
                return Err(malformed("number of grants"));
            }
            let facts = batch
                .iter()
                .zip(grants)
                .map(|(key, grant)| grant_facts(tenant, *key, grant));
            found.extend(facts);
        }
        Ok(found)
    }

    /// Where every source lies now.
    pub(crate) async fn places(&self, tenant: &str) -> Result<Places, ApiError> {
        let mut places = Places::new();
        let mut page_token = String::new();
        loop {
            let request = ListSourcesRequest {
                tenant: format!("tenants/{tenant}"),
                page_size: PAGE_SIZE,
                page_token,
            };
            let answer = self.sources.clone().list_sources(request).await;
            let answer = answer.map_err(refused(PEER))?.into_inner();
            for one in answer.sources {
                let source = local_name(tenant, &one.name).ok_or_else(|| malformed("source"))?;
                places.insert(source, (one.environment, one.tier));
            }
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(places);
            }
        }
    }

    /// Who reads and who writes a source.
    pub(crate) async fn principals(
        &self,
        tenant: &str,
        source: &str,
    ) -> Result<Principals, ApiError> {
        let request = GetSourceRequest {
            name: format!("tenants/{tenant}/sources/{source}"),
        };
        let answer = self.sources.clone().get_source(request).await;
        let found = answer
            .map_err(refused(PEER))?
            .into_inner()
            .source
            .unwrap_or_default();
        Ok(Principals {
            reader: found.reader_principal,
            writer: found.writer_principal,
        })
    }

    /// How to write to a source.
    pub(crate) async fn connection(
        &self,
        tenant: &str,
        source: &str,
    ) -> Result<Connection, ApiError> {
        let request = GetSourceConnectionRequest {
            name: format!("tenants/{tenant}/sources/{source}"),
        };
        let answer = self.sources.clone().get_source_connection(request).await;
        let found = answer.map_err(refused(PEER))?.into_inner();
        Ok(Connection {
            config_json: found.config_json,
            principals: Principals {
                reader: found.reader_principal,
                writer: found.writer_principal,
            },
        })
    }

    /// Reads a source from now on, and waits for the end of it. What cannot be read at all ends as not complete.
    pub(crate) async fn read_source(
        &self,
        tenant: &str,
        source: &str,
        purpose: Purpose,
        not_before_ms: i64,
        patience: Duration,
    ) -> Result<SyncEnd, ApiError> {
        let purpose = match purpose {
            Purpose::ReadBack => SyncPurpose::ReadBack,
            Purpose::Persistence => SyncPurpose::Persistence,
        };
        let request = StartSyncRequest {
            source: format!("tenants/{tenant}/sources/{source}"),
            purpose: purpose.into(),
            request_id: String::new(),
            not_before_time: Some(timestamp(not_before_ms)),
        };
        let started = match self.sources.clone().start_sync(request).await {
            Ok(answer) => answer.into_inner().sync.unwrap_or_default(),
            Err(status) if status.code() == Code::FailedPrecondition => {
                return Ok(SyncEnd {
                    name: String::new(),
                    complete: false,
                    reasons: status.message().to_owned(),
                });
            }
            Err(status) => return Err(refused(PEER)(status)),
        };
        match tokio::time::timeout(patience, self.watch(&started)).await {
            Ok(ended) => ended,
            Err(_) => Ok(SyncEnd {
                name: started.name,
                complete: false,
                reasons: "the source was not read in time".to_owned(),
            }),
        }
    }

    async fn watch(&self, started: &Sync) -> Result<SyncEnd, ApiError> {
        let request = WatchSyncRequest {
            name: started.name.clone(),
        };
        let answer = self.sources.clone().watch_sync(request).await;
        let mut progress = answer.map_err(refused(PEER))?.into_inner();
        let mut last = started.clone();
        while let Some(seen) = progress.message().await.map_err(refused(PEER))? {
            last = seen.sync.unwrap_or_default();
        }
        match last.state() {
            SyncState::Running | SyncState::Unspecified => Err(ApiError::unavailable(
                "PEER_UNAVAILABLE",
                "inventory stopped telling of a sync before it ended",
                Duration::from_secs(1),
            )),
            state => {
                let mut reasons = last.partial_reasons;
                reasons.extend(last.error_messages.into_iter().take(3));
                Ok(SyncEnd {
                    name: last.name,
                    complete: state == SyncState::Complete,
                    reasons: reasons.join("; "),
                })
            }
        }
    }

    /// Proofs of presence or absence in the sealed set of a sync.
    pub(crate) async fn prove(&self, sync: &str, keys: &[GrantKey]) -> Result<Proofs, ApiError> {
        let request = ProveGrantsRequest {
            sync: sync.to_owned(),
            grant_keys: keys.iter().map(|key| key.0.to_vec()).collect(),
        };
        let answer = self.inventory.clone().prove_grants(request).await;
        let found = answer.map_err(refused(PEER))?.into_inner();
        let complete = found.completeness() == SyncCompleteness::Complete;
        let time = |time: Option<&prost_types::Timestamp>| {
            time.and_then(millis).ok_or_else(|| malformed("time"))
        };
        let proofs = found.proofs.into_iter().map(|proof| {
            let key = GrantKey::try_from(proof.grant_key.as_slice())
                .map_err(|_| malformed("grant key"))?;
            let (present, bytes) = (proof.present, proof.proof);
            Ok((key, Proof { present, bytes }))
        });
        Ok(Proofs {
            proofs: proofs.collect::<Result<_, ApiError>>()?,
            record_hash: digest(PEER, &found.sync_record_hash)?,
            set_root: digest(PEER, &found.set_root)?,
            set_count: found.set_count,
            started_ms: time(found.start_time.as_ref())?,
            ended_ms: time(found.end_time.as_ref())?,
            reader: found.reader_principal,
            complete,
        })
    }
}

fn malformed(what: &str) -> ApiError {
    ApiError::internal(format!("inventory answered a malformed {what}"))
}

fn grant_facts(tenant: &str, key: GrantKey, grant: Grant) -> GrantFacts {
    let account = grant.account.unwrap_or_default();
    let entitlement = grant.entitlement.unwrap_or_default();
    let source = local_name(tenant, &account.source).unwrap_or_default();
    GrantFacts {
        key,
        present: !grant.leaf.is_empty(),
        direct: grant.path.is_empty(),
        source: source
            .strip_prefix("sources/")
            .unwrap_or_default()
            .to_owned(),
        account_native: account.native_id,
        entitlement_native: entitlement.native_id,
        account_name: account.display_name,
        entitlement_name: entitlement.display_name,
    }
}
