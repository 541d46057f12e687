//! Settings of the inventory service.

use std::path::{Path, PathBuf};

use counterfoil_chassis::config::ServiceConfig;
use serde::Deserialize;

use crate::model::inheritance::Limits;

/// The whole configuration file of the service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What all services have.
    pub service: ServiceConfig,
    /// The service's own.
    #[serde(default)]
    pub inventory: InventoryConfig,
}

impl Config {
    /// All below `data_dir`: SQLite, own keys, loopback.
    #[must_use]
    pub fn embedded(data_dir: &Path) -> Self {
        ServiceConfig::embedded("inventory", data_dir).into()
    }
}

impl From<ServiceConfig> for Config {
    fn from(service: ServiceConfig) -> Self {
        Self {
            service,
            inventory: InventoryConfig::default(),
        }
    }
}

/// The service's own settings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InventoryConfig {
    /// Syncs that run at once in one process. Default 2.
    pub syncs_at_once: usize,
    /// A sync whose process gives no sign of life for so long is begun again. Default 30000.
    pub lease_ms: i64,
    /// How often a sync is begun before it is sealed PARTIAL as "interrupted". Default 3.
    pub attempts_max: i64,
    /// Bytes of grants that a sync sorts in memory before it stages them. Default 33554432 (32 MiB).
    pub sort_buffer_bytes: usize,
    /// Longest path of an inherited grant. Default 16.
    pub inheritance_depth_max: usize,
    /// Most entitlements that may follow from one. Default 10000.
    pub inheritance_fan_out_max: usize,
    /// Most inherited grants of a source. Default 20000000.
    pub inherited_grants_max: u64,
    /// Bytes of grant sets kept in memory to prove from. Default 268435456 (256 MiB); one set is always kept.
    pub proof_cache_bytes: usize,
    /// Sealed syncs of a tenant from whose changes a watcher may resume. Default 10000.
    pub change_feed_syncs: i64,
    /// Directory with one directory a tenant, named by its id. What a tenant's own caller names in a source's settings (the
    /// CSV files, the password files) must lie in the tenant's. Keep nothing else below it. Default: none, and only the
    /// deployment's administrator, who may name any path, can register sources.
    pub source_root: Option<PathBuf>,
}

impl Default for InventoryConfig {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            syncs_at_once: 2,
            lease_ms: 30_000,
            attempts_max: 3,
            sort_buffer_bytes: 32 << 20,
            inheritance_depth_max: limits.depth_max,
            inheritance_fan_out_max: limits.fan_out_max,
            inherited_grants_max: 20_000_000,
            proof_cache_bytes: 256 << 20,
            change_feed_syncs: 10_000,
            source_root: None,
        }
    }
}

impl InventoryConfig {
    /// How far inheritance is followed.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            depth_max: self.inheritance_depth_max,
            fan_out_max: self.inheritance_fan_out_max,
            ..Limits::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(toml_like(r#"{"syncs_at_once": 1}"#).is_ok());
        assert!(toml_like(r#"{"syncs_at_one": 1}"#).is_err());
    }

    fn toml_like(text: &str) -> Result<InventoryConfig, serde_json::Error> {
        serde_json::from_str(text)
    }
}
