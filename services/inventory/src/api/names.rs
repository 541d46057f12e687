//! Names of this service's resources.

use counterfoil_chassis::{ApiError, resource_name};
use counterfoil_evidence::leaf::GrantKey;
use uuid::Uuid;

use crate::model::facts::Id;

resource_name! {
    /// "tenants/{tenant}/sources/{source}".
    pub(super) struct SourceName { tenant: "tenants", source: "sources" }
}
resource_name! {
    /// "tenants/{tenant}/syncs/{sync}".
    pub(super) struct SyncName { tenant: "tenants", sync: "syncs" }
}
resource_name! {
    /// "tenants/{tenant}/snapshots/{snapshot}".
    pub(super) struct SnapshotName { tenant: "tenants", snapshot: "snapshots" }
}
resource_name! {
    /// "tenants/{tenant}/accounts/{account}".
    pub(super) struct AccountName { tenant: "tenants", account: "accounts" }
}
resource_name! {
    /// "tenants/{tenant}/entitlements/{entitlement}".
    pub(super) struct EntitlementName { tenant: "tenants", entitlement: "entitlements" }
}

/// The opaque id in a name; what is none names nothing.
pub(super) fn id(text: &str) -> Result<Id, ApiError> {
    let parsed = Uuid::parse_str(text).map_err(|_| ApiError::not_found())?;
    Ok(parsed.into_bytes())
}

fn object(tenant: &str, collection: &str, id: &Id) -> String {
    let id = Uuid::from_bytes(*id);
    format!("tenants/{tenant}/{collection}/{id}")
}

pub(super) fn account(tenant: &str, id: &Id) -> String {
    object(tenant, "accounts", id)
}

pub(super) fn entitlement(tenant: &str, id: &Id) -> String {
    object(tenant, "entitlements", id)
}

pub(super) fn identity(tenant: &str, id: &Id) -> String {
    object(tenant, "identities", id)
}

pub(super) fn grant(tenant: &str, key: &GrantKey) -> String {
    format!("tenants/{tenant}/grants/{}", hex::encode(key.0))
}

pub(super) fn source(tenant: &str, source: &str) -> String {
    format!("tenants/{tenant}/sources/{source}")
}

pub(super) fn sync(tenant: &str, sync: &str) -> String {
    format!("tenants/{tenant}/syncs/{sync}")
}

pub(super) fn snapshot(tenant: &str, snapshot: &str) -> String {
    format!("tenants/{tenant}/snapshots/{snapshot}")
}
