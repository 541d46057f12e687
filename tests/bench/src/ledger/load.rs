//! The ledger service, and clients that keep it busy.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use counterfoil_chassis::auth::Token;
use counterfoil_chassis::config::{ServiceConfig, StaticCredential};
use counterfoil_chassis::{CancellationToken, Clock, client, server::Running};
use counterfoil_proto::ledger::{
    AppendRequest, AppendResponse, CreateLogRequest, ledger_service_client::LedgerServiceClient,
};
use futures::StreamExt as _;
use futures::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::database::Database;
use super::p99;
use super::producer::Producer;
use crate::figures::seconds;

/// The services that write.
pub(crate) const SERVICES: [&str; 4] = [
    "authority",
    "inventory",
    "recertification",
    "reconciliation",
];
/// Connections that the calls in flight share.
const CONNECTIONS: usize = 8;

pub(crate) type Client = LedgerServiceClient<client::ServiceChannel>;

/// Something that takes a record and answers with its receipt.
pub(crate) trait Append: Clone + Send + 'static {
    fn append(
        &mut self,
        request: Request<AppendRequest>,
    ) -> impl Future<Output = Result<Response<AppendResponse>, Status>> + Send;
}

impl Append for Client {
    async fn append(
        &mut self,
        request: Request<AppendRequest>,
    ) -> Result<Response<AppendResponse>, Status> {
        self.append(request).await
    }
}

/// What a ledger is started with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    /// Calls at once.
    pub(crate) calls_max: usize,
    /// Quota of each tenant.
    pub(crate) tenant_records_per_second: Option<NonZeroU32>,
}

impl Default for Start {
    fn default() -> Self {
        Self {
            calls_max: 4096,
            tenant_records_per_second: None,
        }
    }
}

/// The service, alone.
pub(crate) struct Ledger {
    running: Running,
    /// Of any service; one a connection.
    pub(crate) clients: Vec<Client>,
    folder: std::path::PathBuf,
}

impl Ledger {
    pub(crate) async fn start(database: &Database) -> anyhow::Result<Self> {
        Self::start_with(database, Start::default()).await
    }

    pub(crate) async fn start_with(database: &Database, with: Start) -> anyhow::Result<Self> {
        let folder = database.folder().to_owned();
        let mut config = ServiceConfig::embedded("ledger", &folder);
        config.database_url.clone_from(&database.url);
        config.listen = "127.0.0.1:0".parse()?;
        config.limits.calls_max = with.calls_max;
        for service in SERVICES {
            let token_file = folder.join(format!("{service}.token"));
            Token::load_or_create(&token_file)?;
            config.credentials.push(StaticCredential {
                principal: format!("services/{service}"),
                roles: vec!["service".to_owned()],
                token_file,
            });
        }
        let shutdown = CancellationToken::new();
        let mut config = counterfoil_ledger::Config::from(config);
        config.ledger.tenant_records_per_second = with.tenant_records_per_second;
        let running = counterfoil_ledger::start(config, Clock::system(), None, shutdown).await?;
        let mut ledger = Self {
            running,
            clients: Vec::new(),
            folder,
        };
        for _ in 0..CONNECTIONS {
            let client = ledger.client("inventory")?;
            ledger.clients.push(client);
        }
        Ok(ledger)
    }

    /// The token of a service.
    pub(crate) fn token(&self, service: &str) -> anyhow::Result<Token> {
        Ok(Token::load(&self.folder.join(format!("{service}.token")))?)
    }

    fn client(&self, service: &str) -> anyhow::Result<Client> {
        let token = self.token(service)?;
        let channel = client::connect(&self.running.url(), Some(&token))?;
        Ok(LedgerServiceClient::new(channel)
            .max_decoding_message_size(client::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(client::MESSAGE_BYTES_MAX))
    }

    /// Creates the log of a tenant, which names the producers that are registered.
    pub(crate) async fn create(&self, tenant: &str) -> anyhow::Result<()> {
        let request = CreateLogRequest {
            tenant: format!("tenants/{tenant}"),
        };
        self.client("authority")?.create_log(request).await?;
        Ok(())
    }

    /// Creates many logs, of the tenants with this prefix and a number.
    pub(crate) async fn create_all(&self, prefix: &str, count: usize) -> anyhow::Result<()> {
        let client = self.client("authority")?;
        let creating = (0..count).map(|number| {
            let mut client = client.clone();
            let tenant = format!("tenants/{prefix}{number}");
            async move { client.create_log(CreateLogRequest { tenant }).await }
        });
        let mut creating = futures::stream::iter(creating).buffer_unordered(32);
        while let Some(created) = creating.next().await {
            created?;
        }
        Ok(())
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        self.running.url()
    }

    /// The same.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.running.address()
    }

    /// Waits until it says of itself that it serves, and that every log can be appended to.
    pub(crate) async fn serves(&self) -> anyhow::Result<()> {
        for service in ["", "counterfoil.ledger.v1.LedgerService/Append"] {
            let mut client = HealthClient::new(client::connect(&self.url(), None)?);
            let request = HealthCheckRequest {
                service: service.to_owned(),
            };
            let mut says = client.watch(request).await?.into_inner();
            while let Some(answer) = says.message().await? {
                if answer.status() == ServingStatus::Serving {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Registers producers with all logs.
    pub(crate) async fn register(&self, producers: &[Producer]) -> anyhow::Result<()> {
        for producer in producers {
            let mut client = self.client(producer.service)?;
            client.register_producer(producer.registration()).await?;
        }
        Ok(())
    }

    /// How many commits there were, and how many seconds they took in all, by its own metrics.
    pub(crate) async fn commits(&self) -> anyhow::Result<(f64, f64)> {
        let mut stream = TcpStream::connect(self.address()).await?;
        let token = self.token("inventory")?;
        let request = format!(
            "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {}\r\n\r\n",
            token.expose()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let value = |name: &str| {
            let mut lines = answer.lines();
            let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            anyhow::Ok(found.with_context(|| format!("no {name}"))?.parse()?)
        };
        Ok((
            value("counterfoil_ledger_commit_seconds_count")?,
            value("counterfoil_ledger_commit_seconds_sum")?,
        ))
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        Ok(self.running.stop().await?)
    }
}

/// Calls a second, when each of many callers has one call in flight.
pub(crate) async fn unary<A: Append>(
    clients: &[A],
    calls: Vec<Vec<AppendRequest>>,
) -> anyhow::Result<f64> {
    let count: usize = calls.iter().map(Vec::len).sum();
    let started = Instant::now();
    let callers = clients.iter().cycle().zip(calls).map(|(client, calls)| {
        let mut client = client.clone();
        tokio::spawn(async move {
            for call in calls {
                let answer = client.append(Request::new(call)).await?.into_inner();
                ensure!(answer.receipt.is_some(), "no receipt");
            }
            Ok(())
        })
    });
    for caller in try_join_all(callers).await? {
        caller?;
    }
    Ok(count as f64 / seconds(started.elapsed()))
}

/// The 99th percentile in seconds, from the moment that each call was due, when so many are due a second.
pub(crate) async fn paced<A: Append>(
    clients: &[A],
    calls: Vec<Vec<AppendRequest>>,
    rate: f64,
) -> anyhow::Result<f64> {
    let callers = calls.len();
    let every = Duration::from_secs_f64(callers as f64 / rate);
    // Nothing is due before all callers are there.
    let started = Instant::now() + Duration::from_millis(200);
    let running = clients.iter().cycle().zip(calls).enumerate();
    let running = running.map(|(number, (client, calls))| {
        let mut client = client.clone();
        // Spread evenly: no two are due at once.
        let first = started + every.mul_f64(number as f64 / callers as f64);
        tokio::spawn(async move {
            let mut late = Vec::with_capacity(calls.len());
            let mut due = first;
            for call in calls {
                tokio::time::sleep_until(due.into()).await;
                client.append(Request::new(call)).await?;
                late.push(due.elapsed());
                due += every;
            }
            anyhow::Ok(late)
        })
    });
    let mut late = Vec::new();
    for caller in try_join_all(running).await? {
        late.extend(caller.context("a caller")?);
    }
    Ok(p99(late))
}
