//! The rules of a tenant that a sync needs: salt of identity tags, and when something unused is dormant.

use async_trait::async_trait;
use counterfoil_chassis::error::ApiError;

use crate::model::facts::Rules;

/// Knows the rules of tenants.
#[async_trait]
pub trait RuleBook: Send + Sync + 'static {
    /// What a sync needs.
    async fn rules(&self, tenant: &str) -> Result<Rules, ApiError>;

    /// Oldest sync that a snapshot may use, milliseconds.
    async fn snapshot_age_max_ms(&self, tenant: &str) -> Result<i64, ApiError>;
}
