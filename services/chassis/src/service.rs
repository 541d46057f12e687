//! One service, from its configuration to its listener: what `start` of every service begins and ends with.

use std::sync::Arc;

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{
    auth::{
        Authenticator, Gate, HttpRoute, Introspector, PermissionError, PermissionTable,
        RemoteTokens, StaticToken, Token,
    },
    client::{self, AddressError, ServiceChannel},
    clock::Clock,
    config::ServiceConfig,
    db::{Database, DatabaseError, Migrations},
    operators::{OperatorSource, Operators, RemoteOperators},
    outbox::{Outbox, ProducerKey},
    pages::Pages,
    relay::Relay,
    secrets::SecretError,
    server::{self, Health, Running, ServeError, Served},
    tenants::TenantDirectory,
    tls::{Tls, TlsError},
};

/// Why a service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its database.
    #[error("database: {0}")]
    Database(#[from] DatabaseError),
    /// A key or a token.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Its certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A peer's address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A peer that it needs is not configured.
    #[error("service.peers.{0} is not configured")]
    Peer(&'static str),
    /// The API's permissions.
    #[error(transparent)]
    Permission(#[from] PermissionError),
    /// Its listener.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Something of the service's own.
    #[error(transparent)]
    Other(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// What a service is made of.
#[derive(Debug)]
pub struct Setup {
    /// Its name, which is also its stream, its schema and its principal "services/{service}".
    pub service: &'static str,
    /// Its configuration.
    pub config: ServiceConfig,
    /// Its migrations.
    pub migrations: &'static [Migrations],
    /// The time.
    pub clock: Clock,
    /// A listener that is bound already; `None`: `config.listen` is bound.
    pub listener: Option<TcpListener>,
    /// Ends the service when cancelled.
    pub shutdown: CancellationToken,
}

/// The parts of a service that are not its business. Its api, store and jobs take from here what they need.
#[derive(Debug)]
pub struct Chassis {
    /// Its name.
    pub service: &'static str,
    /// Its configuration.
    pub config: ServiceConfig,
    /// The time.
    pub clock: Clock,
    /// Its database, migrated.
    pub db: Database,
    /// Where its records go.
    pub outbox: Outbox,
    /// Its page tokens.
    pub pages: Pages,
    /// Cancelled when the service ends; jobs and streams end with it.
    pub shutdown: CancellationToken,
    /// What it says of itself beyond that it serves.
    pub health: Health,
    listener: TcpListener,
    token: Option<Token>,
    tls: Option<Arc<Tls>>,
    tasks: Vec<JoinHandle<()>>,
}

/// What a service shows to the outside.
#[derive(Default)]
pub struct Face {
    /// Its gRPC services.
    pub routes: Routes,
    /// Its plain HTTP routes.
    pub http: Vec<HttpRoute>,
    /// How tokens of tenants' principals are looked up; `None`: authority is asked when it is configured.
    pub introspector: Option<Arc<dyn Introspector>>,
    /// How people of providers are looked up; `None`: authority is asked when it and a ledger are configured.
    pub operators: Option<Arc<dyn OperatorSource>>,
}

impl std::fmt::Debug for Face {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Face")
            .field("http", &self.http)
            .finish_non_exhaustive()
    }
}

/// The database, up to date, as the role that the service works as.
async fn open_database(
    config: &ServiceConfig,
    service: &'static str,
    migrations: &[Migrations],
    clock: &Clock,
) -> Result<Database, DatabaseError> {
    if let Some(url) = &config.migration_database_url {
        let owner = Database::connect(url, service).await?;
        owner.migrate(migrations, clock.now_ms()).await?;
        owner.close().await;
    }
    let db = Database::connect(&config.database_url, service).await?;
    // Finds nothing to do when the owner has just done it, and needs no right to do it then.
    db.migrate(migrations, clock.now_ms()).await?;
    if db.second_wall().await? == Some(false) {
        tracing::warn!(
            service,
            "the database role is a superuser or bypasses row-level security: nothing but the service's own statements keeps \
             tenants apart; deploy/postgres/roles.sql makes a role that is neither"
        );
    }
    Ok(db)
}

impl Chassis {
    /// Binds the listener, opens and migrates the database, reads the keys.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(setup: Setup) -> Result<Self, StartError> {
        let Setup {
            service,
            config,
            migrations,
            clock,
            listener,
            shutdown,
        } = setup;
        let tls = config.tls.as_ref();
        let tls = tls
            .map(|tls| Tls::load(tls, &config.deployment, service, clock.clone()))
            .transpose()?;
        let listener = match listener {
            Some(listener) => listener,
            None if tls.is_some() => server::bind_any(config.listen).await?,
            None => server::bind(config.listen).await?,
        };
        let db = open_database(&config, service, migrations, &clock).await?;
        let name = format!("{}/services/{service}", config.deployment);
        let key = ProducerKey::load_or_create(&config.producer_key_file, &name)?;
        let pages = Pages::new(&key.derive_secret("pages"));
        let token = config.token_file.as_deref().map(Token::load).transpose()?;
        let outbox = Outbox::new(db.clone(), clock.clone(), service, key);
        let mut tasks = Vec::new();
        if let Some(tls) = &tls {
            tasks.push(tokio::spawn(Arc::clone(tls).watch(shutdown.clone())));
        }
        Ok(Self {
            service,
            config,
            clock,
            db,
            outbox,
            pages,
            shutdown,
            health: Health::default(),
            listener,
            token,
            tls,
            tasks,
        })
    }

    /// Where the service will listen.
    ///
    /// # Errors
    /// When the listener is broken.
    pub fn address(&self) -> std::io::Result<std::net::SocketAddr> {
        self.listener.local_addr()
    }

    /// The connection to authority.
    ///
    /// # Errors
    /// When it is not configured, or malformed.
    pub fn authority(&self) -> Result<ServiceChannel, StartError> {
        self.peer("authority", self.config.peers.authority.as_deref())
    }

    /// The connection to inventory.
    ///
    /// # Errors
    /// When it is not configured, or malformed.
    pub fn inventory(&self) -> Result<ServiceChannel, StartError> {
        self.peer("inventory", self.config.peers.inventory.as_deref())
    }

    /// The connection to recertification.
    ///
    /// # Errors
    /// When it is not configured, or malformed.
    pub fn recertification(&self) -> Result<ServiceChannel, StartError> {
        self.peer(
            "recertification",
            self.config.peers.recertification.as_deref(),
        )
    }

    /// The connection to reconciliation.
    ///
    /// # Errors
    /// When it is not configured, or malformed.
    pub fn reconciliation(&self) -> Result<ServiceChannel, StartError> {
        self.peer(
            "reconciliation",
            self.config.peers.reconciliation.as_deref(),
        )
    }

    /// The connection to the ledger.
    ///
    /// # Errors
    /// When it is not configured, or malformed.
    pub fn ledger(&self) -> Result<ServiceChannel, StartError> {
        self.peer("ledger", self.config.peers.ledger.as_deref())
    }

    fn peer(
        &self,
        name: &'static str,
        address: Option<&str>,
    ) -> Result<ServiceChannel, StartError> {
        let address = address.ok_or(StartError::Peer(name))?;
        Ok(match &self.tls {
            Some(tls) => client::connect_tls(address, name, tls)?,
            None => client::connect(address, self.token.as_ref())?,
        })
    }

    /// Tenants, as authority knows them.
    ///
    /// # Errors
    /// When authority is not configured.
    pub fn tenants(&self) -> Result<TenantDirectory, StartError> {
        Ok(TenantDirectory::new(self.db.clone(), self.authority()?))
    }

    /// Runs a job until the service ends. It must end by itself when [`Self::shutdown`] is cancelled.
    pub fn spawn(&mut self, job: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push(tokio::spawn(job));
    }

    /// How people of providers are let in; `None`: they are not, because their accesses could not be told.
    fn operators(
        &self,
        source: Option<Arc<dyn OperatorSource>>,
    ) -> Result<Option<Operators>, StartError> {
        if self.config.peers.ledger.is_none() {
            return Ok(None);
        }
        let (source, tenants) = match source {
            Some(source) => (source, None),
            None if self.config.peers.authority.is_some() => {
                let remote = RemoteOperators::new(self.authority()?, self.clock.clone());
                (
                    Arc::new(remote) as Arc<dyn OperatorSource>,
                    Some(self.tenants()?),
                )
            }
            None => return Ok(None),
        };
        let (outbox, clock) = (self.outbox.clone(), self.clock.clone());
        Ok(Some(Operators::new(source, outbox, clock, tenants)))
    }

    /// Serves, and relays the outbox when a ledger is configured.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn serve(mut self, face: Face) -> Result<Running, StartError> {
        if self.config.peers.ledger.is_some() {
            let relay = Relay::new(self.outbox.clone(), self.ledger()?);
            let shutdown = self.shutdown.clone();
            self.spawn(relay.run(shutdown));
        }
        let credentials: Vec<StaticToken> = self
            .config
            .credentials
            .iter()
            .map(StaticToken::load)
            .collect::<Result<_, _>>()?;
        // Who gives its own has the tables.
        let has_tables = face.introspector.is_some();
        let introspector = match face.introspector {
            Some(introspector) => Some(introspector),
            None if self.config.peers.authority.is_some() => {
                Some(Arc::new(RemoteTokens::new(self.authority()?)) as Arc<dyn Introspector>)
            }
            None => None,
        };
        let operators = self.operators(face.operators)?;
        if let Some(operators) = operators.clone() {
            let shutdown = self.shutdown.clone();
            self.spawn(operators.run(shutdown));
        }
        let mut authenticator = Authenticator::new(self.clock.clone(), credentials, introspector);
        if has_tables {
            authenticator = authenticator.remembering_nothing();
        }
        let permissions = PermissionTable::of_api()?;
        let limits = &self.config.limits;
        let gate = Gate::new(authenticator, permissions, &face.http, limits.calls_max)
            .with_operators(operators);
        let served = Served {
            routes: face.routes,
            http: face.http,
            gate: Arc::new(gate),
            limits: limits.clone(),
            tls: self.tls,
            health: self.health,
        };
        let running = server::serve_all(self.listener, served, self.shutdown)?;
        let address = running.address();
        tracing::info!(service = self.service, %address, "serving");
        Ok(running.with_jobs(self.tasks, self.db))
    }
}
