//! Accepting connections: so many in all, so many a peer, and none that says nothing.

use std::{
    collections::HashMap,
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
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::{config::Limits, sync::lock};

/// Connections that have sent their first byte.
pub(super) fn connections(
    listener: TcpListener,
    limits: &Limits,
    shutdown: CancellationToken,
) -> mpsc::Receiver<io::Result<Connection>> {
    let (ready, receiver) = mpsc::channel(16);
    let peers = Peers::new(limits.connections_max, limits.connections_per_peer_max);
    let first_byte = limits.first_byte_timeout();
    tokio::spawn(async move {
        let accepting = accept(listener, peers, first_byte, ready);
        // Dropping the loop closes the listener and all connections that have said nothing yet.
        shutdown.run_until_cancelled(accepting).await;
    });
    receiver
}

async fn accept(
    listener: TcpListener,
    peers: Peers,
    first_byte: Duration,
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
        silent.spawn(async move {
            let spoke = timeout(first_byte, stream.peek(&mut [0])).await;
            if matches!(spoke, Ok(Ok(1..))) {
                let connection = Connection {
                    stream,
                    _place: place,
                };
                // The server stops when nobody takes it.
                let _ = ready.send(Ok(connection)).await;
            }
        });
    }
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

/// A connection with its place among all others.
pub(super) struct Connection {
    stream: TcpStream,
    _place: Place,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
