//! The configuration of the service: one TOML file, unknown keys refused.

use std::time::Duration;

use counterfoil_chassis::config::ServiceConfig;
use serde::Deserialize;

/// The file of the service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What every service has. It calls the peers authority, inventory and ledger.
    pub service: ServiceConfig,
    /// What only this one has.
    #[serde(default)]
    pub recertification: Settings,
}

/// Settings of the recertification service, the table `[recertification]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How often reviews that are due are looked for, milliseconds. Default 10000.
    pub job_interval_ms: u64,
    /// How long a batch that waits for its receipts waits, milliseconds. Default 30000.
    pub receipt_patience_ms: u64,
    /// How long a stream of what is decided waits for its reader to take the next answer, milliseconds. Default 30000.
    pub stream_patience_ms: u64,
    /// How long a review takes when the campaign does not say, seconds. Default 2592000 (30 days).
    pub review_seconds: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            job_interval_ms: 10_000,
            receipt_patience_ms: 30_000,
            stream_patience_ms: 30_000,
            review_seconds: 2_592_000,
        }
    }
}

impl From<ServiceConfig> for Config {
    fn from(service: ServiceConfig) -> Self {
        Self {
            service,
            recertification: Settings::default(),
        }
    }
}

impl Settings {
    /// [`Self::job_interval_ms`].
    #[must_use]
    pub const fn job_interval(&self) -> Duration {
        Duration::from_millis(self.job_interval_ms)
    }

    /// [`Self::receipt_patience_ms`].
    #[must_use]
    pub const fn receipt_patience(&self) -> Duration {
        Duration::from_millis(self.receipt_patience_ms)
    }

    /// [`Self::stream_patience_ms`].
    #[must_use]
    pub const fn stream_patience(&self) -> Duration {
        Duration::from_millis(self.stream_patience_ms)
    }
}
