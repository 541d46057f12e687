//! The services in one process: the embedded default, without any configuration file.
//!
//! They are as separate here as on five machines: each has its own listener, database, key and token, and they call each other
//! over gRPC only.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use counterfoil_chassis::{
    CancellationToken, Clock,
    auth::Token,
    config::{Peers, ServiceConfig, StaticCredential},
    server::Running,
};
use tokio::net::TcpListener;

use crate::{
    client::SERVICES,
    ending::Ending,
    endpoints::{self, Endpoints},
};

/// First port of `up`: authority 7441, inventory 7442, recertification 7443, reconciliation 7444, ledger 7445.
const PORTS: [(&str, u16); 5] = [
    ("authority", 7441),
    ("inventory", 7442),
    ("recertification", 7443),
    ("reconciliation", 7444),
    ("ledger", 7445),
];

/// File in the data folder with identity providers, `[[issuers]]` as authority's configuration has them; there need be none.
pub const ISSUERS_FILE: &str = "issuers.toml";

/// In the data folder: the witness policy of the logs, if it is there (c2sp.org/tlog-policy).
pub const WITNESSES_FILE: &str = "witnesses.policy";

/// What to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Databases, keys and tokens; made when missing, for the owner only.
    pub data_dir: PathBuf,
    /// PostgreSQL for all services (one schema each) instead of SQLite files.
    pub database_url: Option<String>,
    /// The same PostgreSQL for the role that owns the tables, when that of `database_url` owns nothing.
    pub migration_database_url: Option<String>,
    /// Where logs are published, `file:///folder` or `s3://bucket/prefix`, instead of `published/` in the data folder.
    pub publish_url: Option<String>,
    /// Any free ports instead of the known ones.
    pub any_port: bool,
    /// First part of log origins and key names.
    pub deployment: Option<String>,
}

/// Services that run.
#[derive(Debug)]
pub struct Suite {
    /// Where they are, and the admin credential.
    pub endpoints: Endpoints,
    running: Vec<Running>,
    shutdown: CancellationToken,
    /// Held while the process lives: two processes on one set of SQLite files would be two sequencers.
    _lock: File,
}

impl Suite {
    /// Starts all services and writes `endpoints.json` into the data folder.
    ///
    /// # Errors
    /// When the folder is in use, a port is taken, a database cannot be opened or a key file is not the owner's alone.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        let data_dir = prepare(&options.data_dir)?;
        let lock = lock(&data_dir)?;
        let keys = data_dir.join("keys");
        let mut credentials = Vec::new();
        for service in SERVICES {
            credentials.push(credential(
                &keys,
                &format!("services/{service}"),
                service,
                "service",
            )?);
        }
        credentials.push(credential(
            &keys,
            "operators/admin",
            "admin",
            "administrator",
        )?);
        let mut listeners = BTreeMap::new();
        let mut urls = BTreeMap::new();
        for (service, port) in PORTS {
            let port = if options.any_port { 0 } else { port };
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let listener = TcpListener::bind(address)
                .await
                .with_context(|| format!("the {service} service cannot listen on {address}"))?;
            urls.insert(
                service.to_owned(),
                format!("http://{}", listener.local_addr()?),
            );
            listeners.insert(service, listener);
        }
        let shutdown = CancellationToken::new();
        let mut running = Vec::new();
        for service in SERVICES {
            let config = config(options, &data_dir, service, &urls, &credentials);
            let Some(listener) = listeners.remove(service) else {
                bail!("no listener for {service}");
            };
            let started = start_one(
                service,
                config,
                options,
                &data_dir,
                listener,
                shutdown.clone(),
            )
            .await
            .with_context(|| format!("the {service} service does not start"))?;
            running.push(started);
        }
        let endpoints = Endpoints {
            services: urls,
            trust_bundle_file: None,
            token_file: keys.join("admin.token"),
        };
        endpoints.write(&data_dir.join(endpoints::FILE_NAME))?;
        Ok(Self {
            endpoints,
            running,
            shutdown,
            _lock: lock,
        })
    }

    /// Stops all services and waits until they have stopped.
    ///
    /// # Errors
    /// When one had failed before.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        for running in self.running {
            running.wait().await?;
        }
        Ok(())
    }

    /// Runs until the process is asked to end, or a service fails.
    ///
    /// # Errors
    /// When a service fails.
    pub async fn run(mut self, mut ending: Ending) -> anyhow::Result<()> {
        let waits = self
            .running
            .drain(..)
            .map(|running| Box::pin(running.wait()));
        let mut services = futures::future::select_all(waits);
        tokio::select! {
            (ended, _, rest) = &mut services => {
                self.shutdown.cancel();
                for other in rest {
                    other.await?;
                }
                ended.context("a service failed")
            }
            () = ending.asked() => {
                self.shutdown.cancel();
                for service in services.into_inner() {
                    service.await?;
                }
                Ok(())
            }
        }
    }
}

/// Starts one service by its name.
async fn start_one(
    service: &str,
    config: ServiceConfig,
    options: &Options,
    data_dir: &Path,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<Running> {
    let clock = Clock::system();
    let listener = Some(listener);
    Ok(match service {
        "ledger" => {
            let config = ledger(config, options, data_dir);
            counterfoil_ledger::start(config, clock, listener, shutdown).await?
        }
        "authority" => {
            let mut config = counterfoil_authority::Config::from(config);
            config.issuers = issuers(&data_dir.join(ISSUERS_FILE))?;
            counterfoil_authority::start(config, clock, listener, shutdown).await?
        }
        "inventory" => {
            counterfoil_inventory::start(config.into(), clock, listener, shutdown).await?
        }
        "recertification" => {
            counterfoil_recertification::start(config.into(), clock, listener, shutdown).await?
        }
        "reconciliation" => {
            counterfoil_reconciliation::start(config.into(), clock, listener, shutdown).await?
        }
        other => bail!("there is no {other} service"),
    })
}

/// The ledger's own settings: its logs are published in the data folder, for any static server and for [`crate::offline`].
fn ledger(
    service: ServiceConfig,
    options: &Options,
    data_dir: &Path,
) -> counterfoil_ledger::Config {
    let mut config = counterfoil_ledger::Config::from(service);
    let beside = || format!("file://{}/published", data_dir.display());
    config.ledger.publish_url = Some(options.publish_url.clone().unwrap_or_else(beside));
    let witnesses = data_dir.join(WITNESSES_FILE);
    config.ledger.witness_policy_file = witnesses.exists().then_some(witnesses);
    config
}

/// The ledger of a data folder that no other process uses, for a command that opens its logs itself.
///
/// # Errors
/// When the folder is not there or is in use.
pub fn stopped_ledger(options: &Options) -> anyhow::Result<(counterfoil_ledger::Config, File)> {
    let config = ledger_of(options)?;
    Ok((config, lock(&options.data_dir.canonicalize()?)?))
}

/// The ledger of a data folder, for a command that reads its logs itself while others may write them.
///
/// # Errors
/// When the folder is not there.
pub fn ledger_of(options: &Options) -> anyhow::Result<counterfoil_ledger::Config> {
    let data_dir = options.data_dir.canonicalize();
    let data_dir = data_dir.with_context(|| options.data_dir.display().to_string())?;
    let config = config(options, &data_dir, "ledger", &BTreeMap::new(), &[]);
    Ok(ledger(config, options, &data_dir))
}

/// The databases of the services in a data folder that have an outbox, by the service's name; without those that never ran.
///
/// # Errors
/// When the folder is not there.
pub fn producers_of(options: &Options) -> anyhow::Result<Vec<(String, String)>> {
    let data_dir = options.data_dir.canonicalize();
    let data_dir = data_dir.with_context(|| options.data_dir.display().to_string())?;
    let mut found = Vec::new();
    for service in SERVICES.into_iter().filter(|name| *name != "ledger") {
        let config = config(options, &data_dir, service, &BTreeMap::new(), &[]);
        let file = data_dir.join(format!("{service}.sqlite"));
        if options.database_url.is_some() || file.exists() {
            found.push((service.to_owned(), config.database_url));
        }
    }
    Ok(found)
}

/// The identity providers that the data folder names.
fn issuers(file: &Path) -> anyhow::Result<Vec<counterfoil_authority::IssuerConfig>> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Named {
        issuers: Vec<counterfoil_authority::IssuerConfig>,
    }
    if !file.exists() {
        return Ok(Vec::new());
    }
    Ok(counterfoil_chassis::config::load::<Named>(file)?.issuers)
}

fn config(
    options: &Options,
    data_dir: &Path,
    service: &str,
    urls: &BTreeMap<String, String>,
    credentials: &[StaticCredential],
) -> ServiceConfig {
    let url = |name: &str| urls.get(name).filter(|_| name != service).cloned();
    let mut config = ServiceConfig::embedded(service, data_dir);
    if let Some(database_url) = &options.database_url {
        config.database_url.clone_from(database_url);
    }
    config
        .migration_database_url
        .clone_from(&options.migration_database_url);
    if let Some(deployment) = &options.deployment {
        config.deployment.clone_from(deployment);
    }
    config.token_file = Some(data_dir.join("keys").join(format!("{service}.token")));
    config.peers = Peers {
        authority: url("authority"),
        inventory: url("inventory"),
        recertification: url("recertification"),
        reconciliation: url("reconciliation"),
        ledger: url("ledger"),
    };
    config.credentials = credentials.to_vec();
    config
}

fn credential(
    keys: &Path,
    principal: &str,
    file: &str,
    role: &str,
) -> anyhow::Result<StaticCredential> {
    let token_file = keys.join(format!("{file}.token"));
    Token::load_or_create(&token_file)?;
    Ok(StaticCredential {
        principal: principal.to_owned(),
        roles: vec![role.to_owned()],
        token_file,
    })
}

/// Makes the data folder, for its owner only, and says where it really is.
fn prepare(data_dir: &Path) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .with_context(|| format!("{} cannot be made", data_dir.display()))?;
    Ok(data_dir.canonicalize()?)
}

fn lock(data_dir: &Path) -> anyhow::Result<File> {
    let path = data_dir.join("lock");
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => bail!(
            "{} is in use by another process; stop it, or give another --data-dir",
            data_dir.display()
        ),
    }
}
