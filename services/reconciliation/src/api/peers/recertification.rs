//! Recertification: what is decided, and who is told of verified removals.

use std::{collections::HashSet, sync::Arc};

use counterfoil_chassis::{
    client::{MESSAGE_BYTES_MAX, ServiceChannel},
    clock::{millis, timestamp},
    error::ApiError,
};
use counterfoil_evidence::leaf::{AuthorizedLeaf, GrantKey};
use counterfoil_proto::recertification::{
    BatchGetDecidedGrantsRequest, DecidedGrant, ReportVerifiedRemovalsRequest,
    StreamDecidedGrantsRequest, VerifiedRemoval, campaign_service_client::CampaignServiceClient,
};

use super::refused;
use crate::model::{compare::Decided, entities::Digest, ids::local_name, plan::Newest};

const PEER: &str = "recertification";

/// Grants asked about, and removals reported, in one call.
const BATCH: usize = 5_000;

/// Asks the recertification service. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Recertification {
    campaigns: CampaignServiceClient<ServiceChannel>,
}

impl Recertification {
    /// Asks the service behind `channel`.
    pub(crate) fn new(channel: ServiceChannel) -> Self {
        let campaigns = CampaignServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Self { campaigns }
    }

    /// All that is decided, ascending by key.
    pub(crate) async fn decided(&self, tenant: &str) -> Result<Vec<Decided>, ApiError> {
        let request = StreamDecidedGrantsRequest {
            tenant: format!("tenants/{tenant}"),
        };
        let answer = self.campaigns.clone().stream_decided_grants(request).await;
        let mut batches = answer.map_err(refused(PEER))?.into_inner();
        let mut names = Names::default();
        let mut decided: Vec<Decided> = Vec::new();
        while let Some(batch) = batches.message().await.map_err(refused(PEER))? {
            for grant in batch.grants {
                let found = one(tenant, &grant, &mut names)?;
                if decided
                    .last()
                    .is_some_and(|last| last.leaf.key >= found.leaf.key)
                {
                    return Err(malformed("order of decided grants"));
                }
                decided.push(found);
            }
        }
        Ok(decided)
    }

    /// The newest decisions on these grants.
    pub(crate) async fn newest(&self, tenant: &str, keys: &[GrantKey]) -> Result<Newest, ApiError> {
        let mut newest = Newest::default();
        let mut names = Names::default();
        for batch in keys.chunks(BATCH) {
            let request = BatchGetDecidedGrantsRequest {
                tenant: format!("tenants/{tenant}"),
                grant_keys: batch.iter().map(|key| key.0.to_vec()).collect(),
            };
            let mut campaigns = self.campaigns.clone();
            let answer = campaigns.batch_get_decided_grants(request).await;
            for grant in answer.map_err(refused(PEER))?.into_inner().grants {
                let found = one(tenant, &grant, &mut names)?;
                let decision = (found.leaf.record_hash, found.campaign);
                newest.0.insert(found.leaf.key, decision);
            }
        }
        Ok(newest)
    }

    /// Reports verified removals. When it fails, some are to be reported again, which changes nothing.
    pub(crate) async fn report(&self, tenant: &str, removals: &[Removal]) -> Result<(), ApiError> {
        for batch in removals.chunks(BATCH) {
            let request = ReportVerifiedRemovalsRequest {
                tenant: format!("tenants/{tenant}"),
                removals: batch.iter().map(Removal::message).collect(),
            };
            let mut campaigns = self.campaigns.clone();
            let answer = campaigns.report_verified_removals(request).await;
            answer.map_err(refused(PEER))?;
        }
        Ok(())
    }
}

/// A removal whose effect is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Removal {
    pub(crate) key: GrantKey,
    /// SHA-256 of its R26.
    pub(crate) verified: Digest,
    /// When the reading that proves it ended, milliseconds.
    pub(crate) observed_ms: i64,
}

impl Removal {
    fn message(&self) -> VerifiedRemoval {
        VerifiedRemoval {
            grant_key: self.key.0.to_vec(),
            verified_record_hash: self.verified.to_vec(),
            observed_time: Some(timestamp(self.observed_ms)),
        }
    }
}

/// Texts that occur often, kept once.
#[derive(Default)]
struct Names(HashSet<Arc<str>>);

impl Names {
    fn intern(&mut self, text: String) -> Arc<str> {
        if let Some(known) = self.0.get(text.as_str()) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.0.insert(Arc::clone(&text));
        text
    }
}

fn one(tenant: &str, grant: &DecidedGrant, names: &mut Names) -> Result<Decided, ApiError> {
    let local = |name: &str| match name {
        "" => Some(String::new()),
        name => local_name(tenant, name),
    };
    let kept = match grant.reduce_to_grant_key.as_slice() {
        [] => None,
        bytes => Some(GrantKey::try_from(bytes).map_err(|_| malformed("grant key"))?),
    };
    let decided_ms = grant.decide_time.as_ref().and_then(millis);
    Ok(Decided {
        leaf: AuthorizedLeaf::try_from(grant.leaf.as_slice()).map_err(|_| malformed("leaf"))?,
        campaign: names.intern(local(&grant.campaign).ok_or_else(|| malformed("campaign"))?),
        kept,
        decided_ms: decided_ms.ok_or_else(|| malformed("time"))?,
        decided_by: names.intern(local(&grant.decided_by).ok_or_else(|| malformed("principal"))?),
    })
}

fn malformed(what: &str) -> ApiError {
    ApiError::internal(format!("recertification answered a malformed {what}"))
}
