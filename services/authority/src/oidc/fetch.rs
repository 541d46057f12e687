//! Where an issuer's keys are, and reading them: a file, or an address of at most so many bytes in at most so long.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use counterfoil_chassis::tls::{self, TlsError};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, Uri, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{config::IssuerConfig, model::jwt::Keys};

/// Largest key set that is read.
const BYTES_MAX: usize = 256 << 10;
/// Longest time for all of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where keys are.
#[derive(Debug)]
pub(super) enum Location {
    File(PathBuf),
    Http(Uri),
    Https(Uri, Arc<ClientConfig>),
}

/// Why keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(#[from] http::Error),
    #[error("answered {0}")]
    Status(StatusCode),
    #[error("the answer is larger than 256 KiB, or broke off")]
    Body,
    #[error("no JWK set")]
    Content,
    #[error("no answer in 5 seconds")]
    Late,
}

impl Location {
    pub(super) fn new(config: &IssuerConfig) -> Result<Self, TlsError> {
        if let Some(file) = &config.jwks_file {
            return Ok(Self::File(file.clone()));
        }
        let url = config.jwks_url.as_deref().unwrap_or_default();
        let uri: Uri = url.parse().map_err(|error| TlsError::Content {
            path: PathBuf::from(url),
            reason: format!("is no address: {error}"),
        })?;
        let Some(bundle) = config
            .trust_bundle_file
            .as_ref()
            .filter(|_| url.starts_with("https:"))
        else {
            return Ok(Self::Http(uri));
        };
        let config = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(tls::roots(bundle)?)
            .with_no_client_auth();
        Ok(Self::Https(uri, Arc::new(config)))
    }

    /// Reads the keys as they are now.
    pub(super) async fn read(&self) -> Result<Keys, FetchError> {
        let bytes = timeout(PATIENCE, self.bytes()).await;
        let bytes = bytes.map_err(|_| FetchError::Late)??;
        Keys::read(&bytes).ok_or(FetchError::Content)
    }

    async fn bytes(&self) -> Result<Bytes, FetchError> {
        match self {
            Self::File(path) => {
                let mut bytes = Vec::new();
                let file = tokio::fs::File::open(path).await?;
                let limit = BYTES_MAX as u64 + 1;
                file.take(limit).read_to_end(&mut bytes).await?;
                if bytes.len() > BYTES_MAX {
                    return Err(FetchError::Body);
                }
                Ok(bytes.into())
            }
            Self::Http(uri) => get(connect(uri, 80).await?, uri).await,
            Self::Https(uri, config) => {
                let name = ServerName::try_from(host(uri).to_owned()).map_err(io::Error::other)?;
                let stream = connect(uri, 443).await?;
                let connector = TlsConnector::from(Arc::clone(config));
                get(connector.connect(name, stream).await?, uri).await
            }
        }
    }
}

fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_matches(['[', ']'])
}

async fn connect(uri: &Uri, port: u16) -> io::Result<TcpStream> {
    TcpStream::connect((host(uri), uri.port_u16().unwrap_or(port))).await
}

/// Asks once. Redirections are not followed: the address is the one that was configured.
async fn get(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    uri: &Uri,
) -> Result<Bytes, FetchError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(header::HOST, authority)
        .header(header::ACCEPT, "application/json")
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status(answer.status()));
    }
    let body = Limited::new(answer.into_body(), BYTES_MAX).collect().await;
    connection.abort();
    Ok(body.map_err(|_| FetchError::Body)?.to_bytes())
}
