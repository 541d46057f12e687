//! Configuration of the ledger service.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use counterfoil_chassis::config::ServiceConfig;
use serde::Deserialize;

/// Settings of the ledger service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What every service has. `deployment` is the first part of every log's origin: `{deployment}/t/{tenant}`.
    pub service: ServiceConfig,
    /// Its own settings.
    #[serde(default)]
    pub ledger: LedgerConfig,
}

/// Settings of the logs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerConfig {
    /// Folder with the signing keys of the logs, one file a log, mode 0600. Replicas share it. Default: the folder "logs" beside
    /// `service.producer_key_file`.
    pub log_keys_dir: Option<PathBuf>,
    /// Folder with the newest checkpoint of each log, one small file a log, written with every commit: a database that comes back
    /// from a backup is seen by it before anything is signed. Keep it off the database's disk and backups. Default: the folder
    /// "high-water" beside `service.producer_key_file`.
    pub high_water_dir: Option<PathBuf>,
    /// Most bytes of records that may wait to be appended; more are refused with RESOURCE_EXHAUSTED. Default 67108864 (64 MiB).
    pub queue_bytes_max: Option<usize>,
    /// Most records that a second appends to one tenant's log, on average: ten seconds' worth are taken at once. Calls beyond are refused
    /// with RESOURCE_EXHAUSTED (TENANT_QUOTA) and the time after which there is room; on a stream they wait. A replica counts what it
    /// takes itself. Default: no limit.
    pub tenant_records_per_second: Option<NonZeroU32>,
    /// Where logs are published for static servers and mirrors, and what they are compared with before they are written:
    /// `file:///folder` or `s3://bucket/prefix`. Unset: nowhere. Of S3, endpoint and credentials come from the environment, under their
    /// usual names (`AWS_ENDPOINT`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, or a role's). Keep it apart from
    /// the database's disk and backups: together they can be restored to the same past.
    pub publish_url: Option<String>,
    /// How old the published copy of a log gets at most, in seconds; sooner when 256 entries are new. Default 60.
    pub publish_interval_seconds: Option<u32>,
    /// How long after a change the heads of all logs are anchored at most, in seconds: one record in the deployment's anchor log,
    /// `{deployment}/anchor`, binds them. Default 10; 0: nothing is anchored.
    pub anchor_interval_seconds: Option<u32>,
    /// Who cosigns the logs' checkpoints, and how many of them are enough: a policy file as c2sp.org/tlog-policy has it, with the url
    /// (submission prefix) of each witness that is asked. Where it has `log` lines only those logs are shown to the witnesses; without,
    /// all are. A witness learns origin, size and root of a log, and nothing of what is in it. Read at the start. Unset: nobody is asked.
    pub witness_policy_file: Option<PathBuf>,
    /// How often a log that grew is shown to the witnesses, in seconds; at once when somebody waits for it. Default 60.
    pub witness_interval_seconds: Option<u32>,
    /// Monitoring prefixes of witnesses by the names that the policy calls them, where they are not the submission prefixes.
    pub witness_monitoring_urls: BTreeMap<String, String>,
    /// How often each log is hashed again in full, in hours: entries, tiles, labels, and the published copy beside them. At most 4,096
    /// entries a second are read for it, of all logs together. 0: only when an operator says so (`counterfoil ledger scrub`). Default 168
    /// (a week).
    pub scrub_interval_hours: Option<u32>,
    /// After how many days the bytes of an entry leave the database, where the published copy has them in a full bundle. They are read
    /// from there and hashed from then on; nothing leaves the log. Needs `publish_url`, and makes that store a part of the ledger: keep it
    /// as safe as the database. Unset: never.
    pub evict_after_days: Option<u32>,
}

impl From<ServiceConfig> for Config {
    fn from(service: ServiceConfig) -> Self {
        Self {
            service,
            ledger: LedgerConfig::default(),
        }
    }
}

impl Config {
    /// Where the logs' keys are.
    #[must_use]
    pub fn log_keys_dir(&self) -> PathBuf {
        self.ledger
            .log_keys_dir
            .clone()
            .unwrap_or_else(|| self.service.producer_key_file.with_file_name("logs"))
    }

    /// Where the newest checkpoints are.
    #[must_use]
    pub fn high_water_dir(&self) -> PathBuf {
        let beside = || self.service.producer_key_file.with_file_name("high-water");
        self.ledger.high_water_dir.clone().unwrap_or_else(beside)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_keys_of_the_logs_stand_beside_the_services_own() {
        let config = Config::from(ServiceConfig::embedded("ledger", Path::new("/data")));
        assert_eq!(config.log_keys_dir(), Path::new("/data/keys/logs"));
        assert_eq!(config.high_water_dir(), Path::new("/data/keys/high-water"));
    }
}
