//! The configuration of the service: one TOML file, unknown keys refused.

use std::{path::Path, time::Duration};

use counterfoil_chassis::config::ServiceConfig;
use serde::Deserialize;

/// The file of the service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What every service has. It calls the peers authority, inventory, recertification and ledger.
    pub service: ServiceConfig,
    /// What only this one has.
    #[serde(default)]
    pub reconciliation: Settings,
}

/// Settings of the reconciliation service, the table `[reconciliation]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How often due re-reads and what was cut off are looked for, milliseconds. Default 2000.
    pub job_interval_ms: u64,
    /// Actions sent to a target at once. Default 250.
    pub batch_actions: u32,
    /// Sources worked on at once within one remediation. Default 4.
    pub sources_at_once: u32,
    /// A target that has not answered a batch after so long has an unknown outcome, milliseconds. Default 120000.
    pub writer_timeout_ms: u64,
    /// A source that has not been read after so long counts as unreadable, milliseconds. Default 1800000 (30 minutes).
    pub reader_timeout_ms: u64,
    /// How long a job waits for a service that does not answer, milliseconds. Default 30000.
    pub peer_patience_ms: u64,
    /// A source whose re-read failed is read again by the background job after so long, milliseconds, and the more rarely the
    /// longer it is overdue. Default 30000.
    pub reread_pause_ms: u64,
    /// Sources re-read at once within one tenant. Default 8.
    pub rereads_at_once: u32,
    /// `RunDueRereads` answers after so long with what is done by then, milliseconds. Less than `call_timeout_ms`.
    /// Default 40000.
    pub reread_answer_ms: u64,
    /// A remediation at which its process was not seen for so long is taken over by another, milliseconds; the process shows
    /// itself four times as often. Default 300000.
    pub takeover_ms: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            job_interval_ms: 2_000,
            batch_actions: 250,
            sources_at_once: 4,
            writer_timeout_ms: 120_000,
            reader_timeout_ms: 1_800_000,
            peer_patience_ms: 30_000,
            reread_pause_ms: 30_000,
            rereads_at_once: 8,
            reread_answer_ms: 40_000,
            takeover_ms: 300_000,
        }
    }
}

impl Config {
    /// A service that keeps all it has below `data_dir`; addresses of its peers are still to be given.
    #[must_use]
    pub fn embedded(data_dir: &Path) -> Self {
        ServiceConfig::embedded("reconciliation", data_dir).into()
    }
}

impl From<ServiceConfig> for Config {
    fn from(service: ServiceConfig) -> Self {
        Self {
            service,
            reconciliation: Settings::default(),
        }
    }
}

impl Settings {
    /// [`Self::job_interval_ms`].
    #[must_use]
    pub const fn job_interval(&self) -> Duration {
        Duration::from_millis(self.job_interval_ms)
    }

    /// [`Self::writer_timeout_ms`].
    #[must_use]
    pub const fn writer_timeout(&self) -> Duration {
        Duration::from_millis(self.writer_timeout_ms)
    }

    /// [`Self::reader_timeout_ms`].
    #[must_use]
    pub const fn reader_timeout(&self) -> Duration {
        Duration::from_millis(self.reader_timeout_ms)
    }

    /// [`Self::peer_patience_ms`].
    #[must_use]
    pub const fn peer_patience(&self) -> Duration {
        Duration::from_millis(self.peer_patience_ms)
    }

    /// [`Self::reread_answer_ms`].
    #[must_use]
    pub const fn reread_answer(&self) -> Duration {
        Duration::from_millis(self.reread_answer_ms)
    }

    /// How often a process shows that it carries a remediation out.
    #[must_use]
    pub fn heartbeat(&self) -> Duration {
        Duration::from_millis((u64::from(self.takeover_ms) / 4).max(1))
    }
}
