//! Accepting connections: so many in all, so many a peer, none that says nothing, and over TLS none that fails the handshake.

use std::{
    collections::HashMap,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::{
    config::Limits,
    sync::lock,
    tls::{PeerCertificate, Tls},
};

/// A connection whose certificate has ended refuses all calls, and is closed after so long, so that the other end comes again
/// with its new one.
const CLOSED_AFTER_MS: i64 = 2_000;

/// Connections that have sent their first byte.
pub(super) fn connections(
    listener: TcpListener,
    limits: &Limits,
    tls: Option<Arc<Tls>>,
    shutdown: CancellationToken,
) -> mpsc::Receiver<io::Result<Connection>> {
    let (ready, receiver) = mpsc::channel(16);
    let peers = Peers::new(limits.connections_max, limits.connections_per_peer_max);
    let first_byte = limits.first_byte_timeout();
    tokio::spawn(async move {
        let accepting = accept(listener, peers, first_byte, tls, ready);
        // Dropping the loop closes the listener and all connections that have said nothing yet.
        shutdown.run_until_cancelled(accepting).await;
    });
    receiver
}

async fn accept(
    listener: TcpListener,
    peers: Peers,
    first_byte: Duration,
    tls: Option<Arc<Tls>>,
    ready: mpsc::Sender<io::Result<Connection>>,
) {
    let mut silent = JoinSet::new();
    loop {
        while silent.try_join_next().is_some() {}
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or the peer has gone: others may still come.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(place) = peers.enter(address) else {
            tracing::warn!(%address, "too many connections");
            continue;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "nodelay");
        }
        let ready = ready.clone();
        let tls = tls.clone();
        silent.spawn(async move {
            if let Ok(Some(connection)) = timeout(first_byte, greet(stream, place, tls)).await {
                // The server stops when nobody takes it.
                let _ = ready.send(Ok(connection)).await;
            }
        });
    }
}

/// Waits for the first byte, or for the end of the handshake. `None`: nothing comes of it.
async fn greet(stream: TcpStream, place: Place, tls: Option<Arc<Tls>>) -> Option<Connection> {
    let Some(tls) = tls else {
        let spoke = stream.peek(&mut [0]).await;
        return matches!(spoke, Ok(1..)).then(|| Connection::new(Io::Plain(stream), place, None));
    };
    let acceptor = TlsAcceptor::from(tls.current().server_config());
    let stream = match acceptor.accept(stream).await {
        Ok(stream) => Box::new(stream),
        Err(error) => {
            tracing::info!(address = %place.address, %error, "a TLS handshake failed");
            return None;
        }
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    match PeerCertificate::of(chain, &tls) {
        Ok(certificate) => {
            let mut connection = Connection::new(Io::Tls(stream), place, certificate.clone());
            if let Some(certificate) = certificate {
                let ends_ms = certificate.leaf().ends_ms.saturating_add(CLOSED_AFTER_MS);
                let clock = tls.clock().clone();
                connection.ends = Some(Box::pin(async move { clock.reached(ends_ms).await }));
            }
            Some(connection)
        }
        Err(error) => {
            tracing::info!(address = %place.address, %error, "a certificate was refused");
            None
        }
    }
}

/// What the gate may know of a connection, in the extensions of its requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peer {
    /// The other end's certificate; `None`: it showed none.
    pub(crate) certificate: Option<Arc<PeerCertificate>>,
}

/// Counts connections.
#[derive(Clone)]
struct Peers {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    total_max: usize,
    per_peer_max: usize,
}

/// One connection's place; leaving gives it back.
struct Place {
    peers: Peers,
    address: IpAddr,
}

impl Peers {
    fn new(total_max: usize, per_peer_max: usize) -> Self {
        Self {
            counts: Arc::default(),
            total_max,
            per_peer_max,
        }
    }

    fn enter(&self, address: SocketAddr) -> Option<Place> {
        let address = address.ip();
        let mut counts = lock(&self.counts);
        let total: usize = counts.values().sum();
        let count = counts.entry(address).or_default();
        if total >= self.total_max || *count >= self.per_peer_max {
            return None;
        }
        *count += 1;
        Some(Place {
            peers: self.clone(),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = lock(&self.peers.counts);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// Bytes in and out.
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Calls a method of whichever stream it is.
macro_rules! either {
    ($io:expr, $stream:ident => $call:expr) => {
        match $io {
            Io::Plain($stream) => $call,
            Io::Tls($stream) => $call,
        }
    };
}

/// A connection with its place among all others.
pub(super) struct Connection {
    io: Io,
    certificate: Option<Arc<PeerCertificate>>,
    ends: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    _place: Place,
}

impl Connection {
    fn new(io: Io, place: Place, certificate: Option<Arc<PeerCertificate>>) -> Self {
        Self {
            io,
            certificate,
            ends: None,
            _place: place,
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer {
            certificate: self.certificate.clone(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(ends) = &mut self.ends
            && ends.as_mut().poll(context).is_ready()
        {
            // Nothing more is read: as if the other end had closed.
            self.ends = Some(Box::pin(std::future::ready(())));
            return Poll::Ready(Ok(()));
        }
        either!(&mut self.io, stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(&mut self.io, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.io, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.io, stream => Pin::new(stream).poll_shutdown(context))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(&mut self.io, stream => Pin::new(stream).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        either!(&self.io, stream => stream.is_write_vectored())
    }
}
