//! Callers that cost little, so that what is measured is the server: one append after the other as HTTP/2, and nothing in between.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use bytes::{BufMut as _, Bytes, BytesMut};
use counterfoil_chassis::auth::Token;
use counterfoil_proto::ledger::AppendRequest;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Uri, header};
use prost::Message as _;
use tokio::net::TcpStream;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const METHOD: &str = "/counterfoil.ledger.v1.LedgerService/Append";
const WINDOW_BYTES: u32 = 16 << 20;

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// There is a receipt.
    Taken,
    /// RESOURCE_EXHAUSTED, and when to come back.
    Refused(Duration),
    /// Anything else.
    Otherwise(Code),
}

/// A connection that calls share.
#[derive(Clone)]
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    uri: Uri,
    headers: HeaderMap,
}

impl Connection {
    /// Connects to the ledger that listens there.
    pub(crate) async fn open(address: SocketAddr, token: &Token) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let handshake = h2::client::Builder::new()
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(stream);
        let (sender, connection) = handshake.await?;
        // It ends with the last sender; what breaks it, the calls see.
        tokio::spawn(connection);
        let mut headers = HeaderMap::new();
        let bearer = format!("Bearer {}", token.expose()).parse()?;
        headers.insert(header::AUTHORIZATION, bearer);
        headers.insert(header::TE, "trailers".parse()?);
        headers.insert(header::CONTENT_TYPE, "application/grpc".parse()?);
        Ok(Self {
            sender,
            uri: format!("http://{address}{METHOD}").parse()?,
            headers,
        })
    }

    /// Appends one record.
    pub(crate) async fn append(&self, call: &AppendRequest) -> anyhow::Result<Answer> {
        let mut request = Request::post(self.uri.clone()).body(())?;
        *request.headers_mut() = self.headers.clone();
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut body) = sender.send_request(request, false)?;
        // Who is refused at once need not have sent it all.
        let _ = body.send_data(framed(call)?, true);
        let response = response.await?;
        if let Some(status) = Status::from_header_map(response.headers()) {
            return Ok(read(&status));
        }
        let mut answer = response.into_body();
        while let Some(part) = answer.data().await {
            answer.flow_control().release_capacity(part?.len())?;
        }
        let trailers = answer.trailers().await?.context("no trailers")?;
        let status = Status::from_header_map(&trailers).context("no status")?;
        Ok(read(&status))
    }
}

fn read(status: &Status) -> Answer {
    match (status.code(), status.get_details_retry_info()) {
        (Code::Ok, _) => Answer::Taken,
        (Code::ResourceExhausted, Some(retry)) => {
            Answer::Refused(retry.retry_delay.unwrap_or_default())
        }
        (code, _) => Answer::Otherwise(code),
    }
}

/// The message behind its prefix: not compressed, and so long.
fn framed(call: &AppendRequest) -> anyhow::Result<Bytes> {
    let length = call.encoded_len();
    let mut bytes = BytesMut::with_capacity(length + 5);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length)?);
    call.encode(&mut bytes)?;
    Ok(bytes.freeze())
}
