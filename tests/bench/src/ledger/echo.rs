//! The limit of the unary load: a server that answers the same messages at once, by the same transport.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use counterfoil_proto::common::{EvidenceState, Receipt};
use counterfoil_proto::ledger::{AppendRequest, AppendResponse};
use futures::future::BoxFuture;
use http::uri::PathAndQuery;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::Service;

use super::load::Append;

/// Bytes of a proof in a log of some thousand entries.
const PROOF_BYTES: usize = 900;
const CONNECTIONS: usize = 8;

/// The server.
pub(crate) struct Running {
    pub(crate) clients: Vec<Client>,
    end: tokio::sync::oneshot::Sender<()>,
    server: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Running {
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        drop(self.clients);
        // Over already is as good.
        let _ = self.end.send(());
        Ok(self.server.await??)
    }
}

pub(crate) async fn start() -> anyhow::Result<Running> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let (end, ended) = tokio::sync::oneshot::channel();
    let server = Server::builder()
        .add_service(Echo)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
            let _ = ended.await;
        });
    let server = tokio::spawn(server);
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let channel = Channel::from_shared(url.clone())?.connect().await?;
        clients.push(Client(tonic::client::Grpc::new(channel)));
    }
    Ok(Running {
        clients,
        end,
        server,
    })
}

/// A client of the server.
#[derive(Debug, Clone)]
pub(crate) struct Client(tonic::client::Grpc<Channel>);

impl Append for Client {
    async fn append(
        &mut self,
        request: Request<AppendRequest>,
    ) -> Result<Response<AppendResponse>, Status> {
        let ready = self.0.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static("/bench.Echo/Append");
        self.0.unary(request, path, ProstCodec::default()).await
    }
}

#[derive(Debug, Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "bench.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::default());
            Ok(grpc.unary(Receipts, request).await)
        })
    }
}

struct Receipts;

impl UnaryService<AppendRequest> for Receipts {
    type Response = AppendResponse;
    type Future = Ready<Result<Response<AppendResponse>, Status>>;

    fn call(&mut self, request: Request<AppendRequest>) -> Self::Future {
        let record = request.into_inner().record.unwrap_or_default();
        let receipt = Receipt {
            record_id: record.record.get(..16).unwrap_or_default().to_vec(),
            record_hash: vec![1; 32],
            state: EvidenceState::Logged.into(),
            index: 1,
            leaf_hash: vec![2; 32],
            tlog_proof: vec![b'p'; PROOF_BYTES],
            checkpoint_time: None,
            anchor_proof: Vec::new(),
        };
        ready(Ok(Response::new(AppendResponse {
            receipt: Some(receipt),
        })))
    }
}
