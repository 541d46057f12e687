//! Configuration of the authority service.

use counterfoil_chassis::config::ServiceConfig;
use serde::Deserialize;

/// Settings of the authority service. It has none of its own yet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What every service has. `peers.ledger` is required: a tenant's log is created there.
    pub service: ServiceConfig,
}

impl From<ServiceConfig> for Config {
    fn from(service: ServiceConfig) -> Self {
        Self { service }
    }
}
