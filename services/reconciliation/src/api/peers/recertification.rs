//! Recertification: what is decided, and who is told of verified removals.

use std::{collections::HashSet, sync::Arc};

use counterfoil_chassis::{
    client::{MESSAGE_BYTES_MAX, ServiceChannel},
    clock::millis,
    error::ApiError,
};
use counterfoil_evidence::leaf::{AuthorizedLeaf, GrantKey};
use counterfoil_proto::recertification::{
    DecidedGrant, ReportRemediationRequest, StreamDecidedGrantsRequest, VerifiedRemoval,
    campaign_service_client::CampaignServiceClient,
};
use tonic::Code;

use super::refused;
use crate::model::{compare::Decided, entities::Digest, ids::local_name};

const PEER: &str = "recertification";

/// Removals reported in one call.
const REPORT_BATCH: usize = 5_000;

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

    /// Reports verified removals of a campaign ("campaigns/{campaign}"). False: the campaign takes no more reports.
    pub(crate) async fn report(
        &self,
        tenant: &str,
        campaign: &str,
        removals: &[(GrantKey, Digest)],
    ) -> Result<bool, ApiError> {
        for batch in removals.chunks(REPORT_BATCH) {
            let request = ReportRemediationRequest {
                campaign: format!("tenants/{tenant}/{campaign}"),
                removals: batch
                    .iter()
                    .map(|(key, verified)| VerifiedRemoval {
                        grant_key: key.0.to_vec(),
                        verified_record_hash: verified.to_vec(),
                        observed_time: None,
                    })
                    .collect(),
            };
            match self.campaigns.clone().report_remediation(request).await {
                Ok(_) => {}
                Err(status)
                    if matches!(status.code(), Code::FailedPrecondition | Code::NotFound) =>
                {
                    return Ok(false);
                }
                Err(status) => return Err(ApiError::from_peer(PEER, status)),
            }
        }
        Ok(true)
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
