//! Serving gRPC and plain HTTP on one listener, within limits, until told to stop.
//!
//! tonic's defaults let one peer open streams until memory ends and keep silent connections for ever; the settings here are
//! the measured ones of the reliability goals. Only loopback is served without TLS.

mod accept;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::{
    auth::{Gate, GateLayer, HttpRoute},
    config::Limits,
    db::Database,
    tls::Tls,
};

pub(crate) use accept::Peer;

pub use crate::client::MESSAGE_BYTES_MAX;

/// Largest request a service takes unless it says otherwise: tonic's own default.
pub const REQUEST_BYTES_MAX: usize = 4 << 20;

const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
const CONNECTION_GRACE: Duration = Duration::from_secs(30);
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// A stopping service waits so long for each of its jobs.
const JOB_TIMEOUT: Duration = Duration::from_secs(20);
/// Bulk streams need more than HTTP/2's 64 KiB in flight.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Why a server does not start or has stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// Others could read and change what is sent.
    #[error(
        "refusing to listen on {0}: without [service.tls] only loopback addresses such as 127.0.0.1 are served"
    )]
    NotLoopback(SocketAddr),
    /// The transport failed.
    #[error(transparent)]
    Transport(#[from] tonic::transport::Error),
    /// The serving task died.
    #[error("the server died: {0}")]
    Died(#[from] tokio::task::JoinError),
}

/// Binds the address of a service without TLS.
///
/// # Errors
/// When it is not a loopback address, or taken.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    if !address.ip().is_loopback() {
        return Err(ServeError::NotLoopback(address));
    }
    bind_any(address).await
}

/// Binds any address, for a service with TLS.
///
/// # Errors
/// When it is taken.
pub async fn bind_any(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| ServeError::Listen(address, error))
}

/// A server that runs.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    tls: bool,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
    jobs: Vec<JoinHandle<()>>,
    db: Option<Database>,
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients connect: "http://127.0.0.1:7441", or "https://..." over TLS.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Stops it and waits until it has stopped.
    ///
    /// # Errors
    /// When it had failed before.
    pub async fn stop(self) -> Result<(), ServeError> {
        self.shutdown.cancel();
        self.wait().await
    }

    /// Waits until it stops, because of its shutdown token or a failure.
    ///
    /// # Errors
    /// When it fails.
    pub async fn wait(self) -> Result<(), ServeError> {
        let served = self.task.await?;
        // A server that failed takes its jobs along.
        self.shutdown.cancel();
        for mut job in self.jobs {
            if timeout(JOB_TIMEOUT, &mut job).await.is_err() {
                tracing::warn!("a job was cut off at shutdown");
                job.abort();
            }
        }
        if let Some(db) = self.db {
            db.close().await;
        }
        served
    }

    pub(crate) fn with_jobs(mut self, jobs: Vec<JoinHandle<()>>, db: Database) -> Self {
        self.jobs = jobs;
        self.db = Some(db);
        self
    }
}

/// What is served, and within what.
pub(crate) struct Served {
    pub(crate) routes: Routes,
    pub(crate) http: Vec<HttpRoute>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) limits: Limits,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) health: Health,
}

/// What the server says of itself when it is asked by `grpc.health.v1.Health`. The empty name is the server as a whole; a service may
/// tell more about itself under names of its own. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Health(HealthReporter);

impl Health {
    /// Says whether what has this name serves, and tells those who watch it.
    pub async fn set(&self, name: &str, serves: bool) {
        let status = if serves {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        self.0.set_service_status(name, status).await;
    }
}

/// Starts serving `routes` and plain `http` routes behind `gate`, without TLS.
///
/// # Errors
/// When the listener is not on loopback.
pub fn serve(
    listener: TcpListener,
    routes: Routes,
    http: Vec<HttpRoute>,
    gate: Arc<Gate>,
    limits: &Limits,
    shutdown: CancellationToken,
) -> Result<Running, ServeError> {
    serve_tls(listener, routes, http, gate, limits, None, shutdown)
}

/// As [`serve`]; with `tls`, over TLS and on any address.
///
/// # Errors
/// When the listener is not on loopback and there is no TLS.
pub fn serve_tls(
    listener: TcpListener,
    routes: Routes,
    http: Vec<HttpRoute>,
    gate: Arc<Gate>,
    limits: &Limits,
    tls: Option<Arc<Tls>>,
    shutdown: CancellationToken,
) -> Result<Running, ServeError> {
    serve_all(
        listener,
        Served {
            routes,
            http,
            gate,
            limits: limits.clone(),
            tls,
            health: Health::default(),
        },
        shutdown,
    )
}

/// As [`serve_tls`].
pub(crate) fn serve_all(
    listener: TcpListener,
    served: Served,
    shutdown: CancellationToken,
) -> Result<Running, ServeError> {
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    let address = listener
        .local_addr()
        .map_err(|error| ServeError::Listen(unknown, error))?;
    if served.tls.is_none() && !address.ip().is_loopback() {
        return Err(ServeError::NotLoopback(address));
    }
    Ok(Running {
        address,
        tls: served.tls.is_some(),
        shutdown: shutdown.clone(),
        task: tokio::spawn(run(listener, served, shutdown)),
        jobs: Vec::new(),
        db: None,
    })
}

async fn run(
    listener: TcpListener,
    served: Served,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let Served {
        routes,
        http,
        gate,
        limits,
        tls,
        health,
    } = served;
    health.set("", true).await;
    let plain = !http.is_empty();
    let answers = HealthService::from_health_reporter(health.0.clone());
    let mut router = routes
        .add_service(HealthServer::new(answers))
        .into_axum_router();
    for route in http {
        router = router.merge(route.router);
    }
    let mut server = Server::builder()
        .accept_http1(plain)
        .max_concurrent_streams(limits.streams_per_connection_max)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_connection_age(limits.connection_age_max())
        .max_connection_age_grace(CONNECTION_GRACE)
        .timeout(limits.call_timeout())
        .layer(GateLayer(gate));
    let connections = accept::connections(listener, &limits, tls, shutdown.clone());
    let draining = shutdown.clone();
    let signal = async move {
        draining.cancelled().await;
        health.set("", false).await;
    };
    let serving = server
        .add_routes(Routes::from(router))
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), signal);
    tokio::pin!(serving);
    tokio::select! {
        served = &mut serving => return Ok(served?),
        () = shutdown.cancelled() => {}
    }
    // tonic waits for open streams without a bound; whoever has not ended by then is cut off.
    match timeout(limits.shutdown_timeout(), serving).await {
        Ok(served) => Ok(served?),
        Err(_) => {
            tracing::warn!("calls were cut off at shutdown");
            Ok(())
        }
    }
}
