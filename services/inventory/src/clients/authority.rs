//! Asks authority for the rules of a tenant.

use async_trait::async_trait;
use counterfoil_chassis::{
    client::ServiceChannel, error::ApiError, names::tenant_name, tenants::TenantDirectory,
};
use counterfoil_proto::authority::{
    GetPolicyRequest, Policy, policy_service_client::PolicyServiceClient,
};
use tonic::Code;

use crate::{jobs::rules::RuleBook, model::facts::Rules};

/// What holds while no policy was published: the defaults of the API.
const DORMANT_AFTER_SECONDS: i64 = 7_776_000;
const SNAPSHOT_AGE_MAX_SECONDS: i64 = 172_800;

/// Asks authority.
#[derive(Debug, Clone)]
pub(crate) struct AuthorityRules {
    tenants: TenantDirectory,
    authority: PolicyServiceClient<ServiceChannel>,
}

impl AuthorityRules {
    /// Asks authority behind `channel`.
    #[must_use]
    pub(crate) fn new(tenants: TenantDirectory, channel: ServiceChannel) -> Self {
        Self {
            tenants,
            authority: PolicyServiceClient::new(channel),
        }
    }

    async fn policy(&self, tenant: &str) -> Result<Option<Policy>, ApiError> {
        let request = GetPolicyRequest {
            tenant: tenant_name(tenant).to_string(),
            at_time: None,
        };
        match self.authority.clone().get_policy(request).await {
            Ok(answer) => Ok(answer.into_inner().policy),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(ApiError::from_peer("authority", status)),
        }
    }
}

#[async_trait]
impl RuleBook for AuthorityRules {
    async fn rules(&self, tenant: &str) -> Result<Rules, ApiError> {
        let known = self.tenants.require(tenant).await?;
        let salt = known.correlation_salt.as_slice().try_into();
        let policy = self.policy(tenant).await?;
        let seconds = policy.map_or(DORMANT_AFTER_SECONDS, |policy| policy.dormant_after_seconds);
        Ok(Rules {
            salt: salt.map_err(|_| ApiError::internal("authority gave no correlation salt"))?,
            dormant_after_ms: seconds.saturating_mul(1_000),
        })
    }

    async fn snapshot_age_max_ms(&self, tenant: &str) -> Result<i64, ApiError> {
        let policy = self.policy(tenant).await?;
        let seconds = policy.map_or(0, |policy| policy.snapshot_age_max_seconds);
        let seconds = if seconds > 0 {
            seconds
        } else {
            SNAPSHOT_AGE_MAX_SECONDS
        };
        Ok(seconds.saturating_mul(1_000))
    }
}
