//! The part of a service's configuration that is the same in all of them.
//!
//! One TOML file a process: the table `[service]` is a [`ServiceConfig`], the service's own settings stand in tables of their
//! own. Unknown keys are refused. Secrets stand in files of their own, named by `..._file` keys.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, de::DeserializeOwned};

use crate::telemetry::LogFormat;

/// Settings that every service has. See `README.md` of this crate for a sample.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// Name of the deployment, first part of the producer key's name, such as "counterfoil.example". Default "counterfoil.local".
    #[serde(default = "default_deployment")]
    pub deployment: String,
    /// Address to listen on: without [`Self::tls`] only loopback; port 0 = any free one. Default "127.0.0.1:0".
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Database: "sqlite:///path/file.sqlite?mode=rwc" (one file a service) or "postgres://..." (one schema a service).
    pub database_url: String,
    /// The same PostgreSQL for the role that owns the tables, which runs migrations at start and nothing else; then `database_url`
    /// is for a role that owns nothing (`deploy/postgres/roles.sql`). Unset: the tables belong to the role of `database_url`.
    #[serde(default)]
    pub migration_database_url: Option<String>,
    /// Ed25519 key that signs this service's records; made on first start, mode 0600.
    pub producer_key_file: PathBuf,
    /// Token this service shows to other services, mode 0600. Not needed where no peer is called, or with [`Self::tls`]: peers
    /// at "https://" addresses are shown the certificate and no token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Certificate of this service: with it TLS is served, on any address, and peers are called at "https://" addresses.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// Where the other services are.
    #[serde(default)]
    pub peers: Peers,
    /// Credentials known without asking authority: other services, the deployment's administrator.
    #[serde(default)]
    pub credentials: Vec<StaticCredential>,
    /// What one caller can take.
    #[serde(default)]
    pub limits: Limits,
    /// How to log.
    #[serde(default)]
    pub log: Log,
}

/// Addresses of the other services, such as "http://127.0.0.1:7441". A service names those it calls.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Peers {
    /// Authority: tenants, rights, tokens.
    pub authority: Option<String>,
    /// Inventory.
    pub inventory: Option<String>,
    /// Recertification.
    pub recertification: Option<String>,
    /// Reconciliation.
    pub reconciliation: Option<String>,
    /// Ledger: where the outbox goes.
    pub ledger: Option<String>,
}

/// The files that `counterfoil ca` writes, or another authority. They are read again while the service runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM: the certificate of this service, with "spiffe://{deployment}/services/{service}" as its one URI, then intermediates.
    pub certificate_file: PathBuf,
    /// PEM: its private key, mode 0600.
    pub key_file: PathBuf,
    /// PEM: the roots that other services' certificates end in.
    pub trust_bundle_file: PathBuf,
    /// How often the files are read again. Default 10000.
    #[serde(default = "default_reload_interval_ms")]
    pub reload_interval_ms: u64,
}

/// A credential that the process knows by itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct StaticCredential {
    /// Who presents it: "services/inventory" or "operators/admin". An administrator is "operators/...": so records name the
    /// deployment's people, and the verifier knows them by it.
    pub principal: String,
    /// Its roles: "service" or "administrator".
    pub roles: Vec<String>,
    /// File with the token, mode 0600.
    pub token_file: PathBuf,
}

/// A static credential as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    principal: String,
    roles: Vec<String>,
    token_file: PathBuf,
}

impl TryFrom<Written> for StaticCredential {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written {
            principal,
            roles,
            token_file,
        } = written;
        let administers = roles.iter().any(|role| role == "administrator");
        let operator = principal.strip_prefix("operators/");
        if administers && operator.is_none_or(str::is_empty) {
            return Err(format!(
                "an administrator is \"operators/{{operator}}\", and not {principal:?}"
            ));
        }
        Ok(Self {
            principal,
            roles,
            token_file,
        })
    }
}

/// What one caller, and all of them together, can take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at once. Default 1024.
    pub connections_max: usize,
    /// Connections at once from one address. Default 64.
    pub connections_per_peer_max: usize,
    /// Calls at once on one connection. Default 100.
    pub streams_per_connection_max: u32,
    /// Calls at once in the whole process, health excepted; more are refused with RESOURCE_EXHAUSTED. Default 2048.
    pub calls_max: usize,
    /// A connection that has sent nothing for so long after it was opened is closed. Default 5000.
    pub first_byte_timeout_ms: u64,
    /// Longest time to the first answer of a call. Default 60000.
    pub call_timeout_ms: u64,
    /// Longest life of a connection. Default 1800000 (30 minutes), then 30 seconds of grace.
    pub connection_age_max_ms: u64,
    /// A stopping server waits so long for its calls. Default 15000.
    pub shutdown_timeout_ms: u64,
}

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Filter, such as "info" or "counterfoil_inventory=debug,info". Default "info".
    pub filter: String,
    /// "text" or "json". Default "text".
    pub format: LogFormat,
}

impl ServiceConfig {
    /// The configuration of a service that keeps all it has below `data_dir`: SQLite, its own keys, loopback.
    #[must_use]
    pub fn embedded(service: &str, data_dir: &Path) -> Self {
        let database = data_dir.join(format!("{service}.sqlite"));
        Self {
            deployment: default_deployment(),
            listen: default_listen(),
            database_url: format!("sqlite://{}?mode=rwc", database.display()),
            migration_database_url: None,
            producer_key_file: data_dir.join("keys").join(format!("{service}.key")),
            token_file: None,
            tls: None,
            peers: Peers::default(),
            credentials: Vec::new(),
            limits: Limits::default(),
            log: Log::default(),
        }
    }
}

impl Limits {
    /// [`Self::call_timeout_ms`].
    #[must_use]
    pub const fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout_ms)
    }

    /// [`Self::first_byte_timeout_ms`].
    #[must_use]
    pub const fn first_byte_timeout(&self) -> Duration {
        Duration::from_millis(self.first_byte_timeout_ms)
    }

    /// [`Self::connection_age_max_ms`].
    #[must_use]
    pub const fn connection_age_max(&self) -> Duration {
        Duration::from_millis(self.connection_age_max_ms)
    }

    /// [`Self::shutdown_timeout_ms`].
    #[must_use]
    pub const fn shutdown_timeout(&self) -> Duration {
        Duration::from_millis(self.shutdown_timeout_ms)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            connections_per_peer_max: 64,
            streams_per_connection_max: 100,
            calls_max: 2048,
            first_byte_timeout_ms: 5_000,
            call_timeout_ms: 60_000,
            connection_age_max_ms: 1_800_000,
            shutdown_timeout_ms: 15_000,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: "info".into(),
            format: LogFormat::Text,
        }
    }
}

/// A configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("configuration file {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not parse: unknown key, missing key, wrong type. Says where.
    #[error("configuration file {path}: {source}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Box<toml::de::Error>,
    },
}

/// Reads a whole configuration file: a struct with a field `service: ServiceConfig` and the service's own tables.
///
/// # Errors
/// Names the file, and the line when it does not parse.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::File {
        path: path.to_owned(),
        source,
    })?;
    toml::from_str(&text).map_err(|source| ConfigError::Content {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

fn default_deployment() -> String {
    "counterfoil.local".into()
}

fn default_reload_interval_ms() -> u64 {
    10_000
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Whole {
        service: ServiceConfig,
    }

    fn parse(text: &str) -> Result<Whole, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inventory.toml");
        fs::write(&path, text).unwrap();
        load(&path)
    }

    #[test]
    fn the_sample_in_the_readme_parses() {
        let readme = include_str!("../README.md");
        let sample = readme
            .split("```toml\n")
            .nth(1)
            .and_then(|rest| rest.split("```").next())
            .expect("the README has a toml sample");
        let config = parse(sample).unwrap().service;
        assert_eq!(
            config.peers.ledger.as_deref(),
            Some("http://127.0.0.1:7445")
        );
        assert_eq!(config.limits, Limits::default());
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = parse(
            "[service]\ndatabase_url='sqlite://x'\nproducer_key_file='k'\n[service.limits]\nconection_max=1\n",
        )
        .unwrap_err()
        .to_string();
        assert!(error.contains("conection_max"), "{error}");
        assert!(error.contains("inventory.toml"), "{error}");
    }

    #[test]
    fn an_administrator_that_is_called_otherwise_is_refused() {
        let of = |principal: &str, role: &str| {
            parse(&format!(
                "[service]\ndatabase_url='sqlite://x'\nproducer_key_file='k'\n[[service.credentials]]\n\
                 principal='{principal}'\nroles=['{role}']\ntoken_file='t'\n"
            ))
        };
        of("operators/admin", "administrator").unwrap();
        of("services/inventory", "service").unwrap();
        for principal in [
            "admin",
            "operators/",
            "services/inventory",
            "principals/ada",
        ] {
            let error = of(principal, "administrator").unwrap_err().to_string();
            assert!(error.contains("\"operators/{operator}\""), "{error}");
        }
    }

    #[test]
    fn a_missing_key_is_named() {
        let error = parse("[service]\nproducer_key_file='k'\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("database_url"), "{error}");
    }
}
