//! Connections to services over TLS, each with the certificate that is good when it is made.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::Service;

use super::{SpiffeId, Tls};

/// Makes connections to one service.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    tls: Arc<Tls>,
    expected: SpiffeId,
}

impl Connector {
    pub(crate) fn new(tls: Arc<Tls>, expected: SpiffeId) -> Self {
        Self { tls, expected }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default();
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let config = this
                .tls
                .current()
                .client_config(this.expected)
                .map_err(io::Error::other)?;
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await?;
            stream.set_nodelay(true)?;
            let stream = TlsConnector::from(Arc::new(config))
                .connect(name, stream)
                .await?;
            Ok(TokioIo::new(stream))
        })
    }
}
