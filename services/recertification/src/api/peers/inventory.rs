//! Inventory: the snapshot a campaign is staged on, and grants as they are now.

use std::collections::HashMap;

use counterfoil_chassis::{
    client::{MESSAGE_BYTES_MAX, ServiceChannel},
    clock::millis,
    error::ApiError,
};
use counterfoil_evidence::leaf::{GrantFlags, GrantKey, GrantLeaf};
use counterfoil_proto::{
    inventory::{
        BatchGetGrantsRequest, GetSnapshotRequest, GetSourceRequest, GetSyncRequest, Grant,
        ListEntitlementsRequest, ListSourcesRequest, ProveGrantsRequest,
        StreamSnapshotGrantsRequest, StreamSnapshotGrantsResponse, SyncCompleteness, SyncState,
        inventory_service_client::InventoryServiceClient,
        source_service_client::SourceServiceClient,
    },
    recertification::Presentation,
};
use prost::Message;
use tonic::{Code, Status, Streaming};

use crate::model::{
    decision::CurrentGrant,
    gate::{MissingReading, SourceReading},
    identity,
    ids::{Snapshot, Source, Sync},
    item::ShownGrant,
    rights::Places,
};

/// Most grants in one call.
const GRANTS_MAX: usize = 1000;
const PAGE_SIZE: i32 = 1000;

/// Asks the inventory service. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Inventory {
    grants: InventoryServiceClient<ServiceChannel>,
    sources: SourceServiceClient<ServiceChannel>,
}

/// A snapshot with what is known of its sources.
#[derive(Debug)]
pub(crate) struct SnapshotFacts {
    /// Root over its sources.
    pub(crate) root: [u8; 32],
    /// SHA-256 of its record.
    pub(crate) record_hash: [u8; 32],
    /// Grants in all.
    pub(crate) grant_count: u64,
    /// Sources, ascending by tag.
    pub(crate) readings: Vec<SourceReading>,
    /// Sources that are missing.
    pub(crate) missing: Vec<MissingReading>,
    /// Names of the sources for people.
    pub(crate) display_names: HashMap<Source, String>,
}

/// A grant as it is now. An empty leaf: it is gone.
#[derive(Debug, Clone)]
pub(crate) struct GrantNow {
    /// What decisions need of it.
    pub(crate) current: CurrentGrant,
    grant: Grant,
}

/// Proofs that grants are absent from the newest COMPLETE sync of their source.
#[derive(Debug)]
pub(crate) struct Absence {
    /// SHA-256 of that sync's record.
    pub(crate) sync_record_hash: [u8; 32],
    /// Proof by grant; one that turned out to be there has none.
    pub(crate) proofs: HashMap<GrantKey, Vec<u8>>,
}

impl Inventory {
    /// Asks the service behind `channel`.
    pub(crate) fn new(channel: ServiceChannel) -> Self {
        Self {
            grants: InventoryServiceClient::new(channel.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
            sources: SourceServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX),
        }
    }

    /// A snapshot, its sources' syncs and their names.
    pub(crate) async fn snapshot(
        &self,
        tenant: &str,
        snapshot: &Snapshot,
    ) -> Result<SnapshotFacts, ApiError> {
        let request = GetSnapshotRequest {
            name: snapshot.full(tenant),
        };
        let found = self
            .sources
            .clone()
            .get_snapshot(request)
            .await
            .map_err(|status| match status.code() {
                Code::NotFound => {
                    ApiError::failed_precondition("SNAPSHOT_NOT_FOUND", "there is no such snapshot")
                }
                _ => refused(status),
            })?
            .into_inner()
            .snapshot
            .unwrap_or_default();
        let mut readings = Vec::with_capacity(found.sources.len());
        let mut display_names = HashMap::new();
        for one in &found.sources {
            let source = local(Source::of_tenant(tenant, &one.source), "a source")?;
            let sync = local(Sync::of_tenant(tenant, &one.sync), "a sync")?;
            let complete = self
                .is_complete(tenant, &sync, &one.sync_record_hash)
                .await?;
            let shown = self.source_display_name(tenant, &source).await?;
            display_names.insert(source.clone(), shown);
            readings.push(SourceReading {
                source,
                tag: bytes(&one.source_tag, "a source tag")?,
                sync,
                sync_record_hash: bytes(&one.sync_record_hash, "a record hash")?,
                set_root: bytes(&one.set_root, "a set root")?,
                set_count: one.set_count,
                synced_ms: local(one.sync_time.as_ref().and_then(millis), "a sync time")?,
                complete,
            });
        }
        let missing = found
            .missing_sources
            .iter()
            .map(|one| {
                Ok(MissingReading {
                    source: local(Source::of_tenant(tenant, &one.source), "a source")?,
                    reason: one.reason.clone(),
                })
            })
            .collect::<Result<_, ApiError>>()?;
        Ok(SnapshotFacts {
            root: bytes(&found.snapshot_root, "a snapshot root")?,
            record_hash: bytes(&found.record_hash, "a record hash")?,
            grant_count: found.grant_count,
            readings,
            missing,
            display_names,
        })
    }

    /// A sync counts as complete when it says so and is the one that the snapshot sealed.
    async fn is_complete(
        &self,
        tenant: &str,
        sync: &Sync,
        record_hash: &[u8],
    ) -> Result<bool, ApiError> {
        let request = GetSyncRequest {
            name: sync.full(tenant),
        };
        let answer = self.sources.clone().get_sync(request).await;
        let found = answer
            .map_err(refused)?
            .into_inner()
            .sync
            .unwrap_or_default();
        Ok(found.state() == SyncState::Complete && found.record_hash == record_hash)
    }

    async fn source_display_name(&self, tenant: &str, source: &Source) -> Result<String, ApiError> {
        let found = self.source(tenant, source).await?;
        Ok(found.display_name)
    }

    async fn source(
        &self,
        tenant: &str,
        source: &Source,
    ) -> Result<counterfoil_proto::inventory::Source, ApiError> {
        let request = GetSourceRequest {
            name: source.full(tenant),
        };
        let answer = self.sources.clone().get_source(request).await;
        Ok(answer
            .map_err(refused)?
            .into_inner()
            .source
            .unwrap_or_default())
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
            let answer = answer.map_err(refused)?.into_inner();
            for one in answer.sources {
                let source = local(Source::of_tenant(tenant, &one.name), "a source")?;
                places.insert(source, (one.environment, one.tier));
            }
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(places);
            }
        }
    }

    /// Names for people of a source's entitlements: what a path consists of.
    pub(crate) async fn entitlement_names(
        &self,
        tenant: &str,
        source: &Source,
    ) -> Result<HashMap<String, String>, ApiError> {
        let mut names = HashMap::new();
        let mut page_token = String::new();
        loop {
            let request = ListEntitlementsRequest {
                tenant: format!("tenants/{tenant}"),
                source: source.full(tenant),
                ownerless: false,
                page_size: PAGE_SIZE,
                page_token,
            };
            let answer = self.grants.clone().list_entitlements(request).await;
            let page = answer.map_err(refused)?.into_inner();
            let named = page.entitlements.into_iter();
            names.extend(named.map(|one| (one.name, one.display_name)));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(names);
            }
        }
    }

    /// The grants of a snapshot, ascending by key, in batches.
    pub(crate) async fn stream(
        &self,
        tenant: &str,
        snapshot: &Snapshot,
    ) -> Result<Streaming<StreamSnapshotGrantsResponse>, ApiError> {
        let request = StreamSnapshotGrantsRequest {
            snapshot: snapshot.full(tenant),
            leaves_only: false,
        };
        let answer = self.grants.clone().stream_snapshot_grants(request).await;
        Ok(answer.map_err(refused)?.into_inner())
    }

    /// Grants as they are now, by key; a thousand a call.
    pub(crate) async fn current(
        &self,
        tenant: &str,
        keys: &[GrantKey],
    ) -> Result<HashMap<GrantKey, GrantNow>, ApiError> {
        let mut now = HashMap::with_capacity(keys.len());
        for keys in keys.chunks(GRANTS_MAX) {
            let request = BatchGetGrantsRequest {
                tenant: format!("tenants/{tenant}"),
                grant_keys: keys.iter().map(|key| key.0.to_vec()).collect(),
            };
            let answer = self.grants.clone().batch_get_grants(request).await;
            let grants = answer.map_err(refused)?.into_inner().grants;
            if grants.len() != keys.len() {
                return Err(ApiError::internal(
                    "inventory answered another number of grants",
                ));
            }
            for (key, grant) in keys.iter().zip(grants) {
                if !grant.leaf.is_empty() && !grant.leaf.starts_with(&key.0) {
                    return Err(ApiError::internal("inventory answered another grant"));
                }
                let name = |text: Option<&str>| text.unwrap_or_default().to_owned();
                let current = CurrentGrant {
                    leaf: grant.leaf.clone(),
                    account: name(grant.account.as_ref().map(|one| one.name.as_str())),
                    entitlement: name(grant.entitlement.as_ref().map(|one| one.name.as_str())),
                    path: grant.path.clone(),
                };
                now.insert(*key, GrantNow { current, grant });
            }
        }
        Ok(now)
    }

    /// Proves grants of one source absent. `None`: the source has no COMPLETE sync to prove it against.
    pub(crate) async fn absence(
        &self,
        tenant: &str,
        source: &Source,
        keys: &[GrantKey],
    ) -> Result<Option<Absence>, ApiError> {
        let latest = self.source(tenant, source).await?.latest_sync;
        if latest.is_empty() {
            return Ok(None);
        }
        let request = ProveGrantsRequest {
            sync: latest,
            grant_keys: keys.iter().map(|key| key.0.to_vec()).collect(),
        };
        let answer = match self.grants.clone().prove_grants(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == Code::FailedPrecondition => return Ok(None),
            Err(status) => return Err(refused(status)),
        };
        if answer.completeness() != SyncCompleteness::Complete {
            return Ok(None);
        }
        let proofs = answer
            .proofs
            .into_iter()
            .filter(|proof| !proof.present)
            .filter_map(|proof| {
                let key = GrantKey::try_from(proof.grant_key.as_slice()).ok()?;
                Some((key, proof.proof))
            })
            .collect();
        Ok(Some(Absence {
            sync_record_hash: bytes(&answer.sync_record_hash, "a record hash")?,
            proofs,
        }))
    }

    /// A grant as it is now, made into what a reviewer is shown.
    pub(crate) async fn show(
        &self,
        tenant: &str,
        source: &Source,
        now: &GrantNow,
    ) -> Result<ShownGrant, ApiError> {
        let name = self.source_display_name(tenant, source).await?;
        let entitlements = if now.grant.path.is_empty() {
            HashMap::new()
        } else {
            self.entitlement_names(tenant, source).await?
        };
        Ok(shown(now.grant.clone(), &name, &entitlements)?.0)
    }
}

/// A grant made into what a reviewer is shown, and its flags. `entitlements` names the steps of its path for people; a step
/// that is not there is shown by its name in the API.
pub(crate) fn shown(
    grant: Grant,
    source_display_name: &str,
    entitlements: &HashMap<String, String>,
) -> Result<(ShownGrant, GrantFlags), ApiError> {
    let leaf = GrantLeaf::try_from(grant.leaf.as_slice())
        .map_err(|_| ApiError::internal("inventory answered a malformed leaf"))?;
    let account = grant.account.unwrap_or_default();
    let entitlement = grant.entitlement.unwrap_or_default();
    let step = |step: String| entitlements.get(&step).cloned().unwrap_or(step);
    let at = |time: &Option<prost_types::Timestamp>| time.as_ref().and_then(millis).unwrap_or(0);
    let presentation = Presentation {
        leaf: grant.leaf.clone(),
        account_display_name: account.display_name,
        account_native_id: account.native_id,
        identity_key: grant.identity_key.clone(),
        entitlement_display_name: entitlement.display_name,
        entitlement_native_id: entitlement.native_id,
        source_display_name: source_display_name.to_owned(),
        path: grant.path.into_iter().map(step).collect(),
        inherited_count: grant.inherited_count,
        privileged: leaf.flags.contains(GrantFlags::PRIVILEGED),
        flags: grant.flags,
        last_used_ms: at(&grant.last_used_time),
        observed_ms: at(&grant.observed_time),
        purpose: grant.purpose,
        expires_ms: at(&grant.expire_time),
    };
    let shown = ShownGrant {
        key: leaf.key,
        leaf: grant.leaf,
        subject_key: identity::canonical(&grant.identity_key),
        owner_key: entitlement.owner_key,
        presentation: presentation.encode_to_vec(),
    };
    Ok((shown, leaf.flags))
}

fn refused(status: Status) -> ApiError {
    ApiError::from_peer("inventory", status)
}

fn local<T>(value: Option<T>, what: &str) -> Result<T, ApiError> {
    value.ok_or_else(|| ApiError::internal(format!("inventory answered {what} that is none")))
}

fn bytes<const N: usize>(value: &[u8], what: &str) -> Result<[u8; N], ApiError> {
    value
        .try_into()
        .map_err(|_| ApiError::internal(format!("inventory answered {what} of another length")))
}
