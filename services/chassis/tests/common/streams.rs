//! A stream that stays open, and one that is read to its end, behind paths of the API.

use std::{convert::Infallible, sync::Arc};

use axum::{Router, body::Body, extract::State, http::Response, routing::post};
use bytes::Bytes;
use counterfoil_chassis::client::ServiceChannel;
use futures::{StreamExt, stream};
use tokio::sync::mpsc;
use tonic::service::Routes;
use tower::Service;

/// Its permission is "logs.read".
pub(crate) const OUT: &str = "/counterfoil.ledger.v1.LedgerService/StreamEntries";
/// Its permission is "evidence.export".
pub(crate) const IN: &str = "/counterfoil.ledger.v1.LedgerService/ExportLog";

/// An empty message of gRPC, as it is sent.
const MESSAGE: &[u8] = &[0, 0, 0, 0, 0];

/// Routes whose answer on [`OUT`] is one message and never ends, and which send how the requests on [`IN`] ended.
pub(crate) fn routes() -> (Routes, mpsc::UnboundedReceiver<String>) {
    let (ends, ended) = mpsc::unbounded_channel();
    let router = Router::new()
        .route(OUT, post(open))
        .route(IN, post(read))
        .with_state(Arc::new(ends));
    (Routes::from(router), ended)
}

fn message() -> Result<Bytes, Infallible> {
    Ok(Bytes::from_static(MESSAGE))
}

/// A body that sends one message and stays open.
pub(crate) fn open_body() -> Body {
    Body::from_stream(stream::iter([message()]).chain(stream::pending()))
}

async fn open() -> Response<Body> {
    Response::builder()
        .header("content-type", "application/grpc")
        .body(open_body())
        .unwrap()
}

async fn read(State(ends): State<Arc<mpsc::UnboundedSender<String>>>, body: Body) {
    let mut frames = body.into_data_stream();
    let mut end = "whole".to_owned();
    while let Some(frame) = frames.next().await {
        if let Err(error) = frame {
            end = error.to_string();
        }
    }
    ends.send(end).unwrap();
}

/// Opens a stream: the answer to its request.
pub(crate) async fn call(mut channel: ServiceChannel, path: &str) -> Response<Body> {
    let body = match path {
        OUT => Body::from(MESSAGE),
        _ => open_body(),
    };
    let request = http::Request::post(format!("http://server{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(body))
        .unwrap();
    std::future::poll_fn(|context| channel.poll_ready(context))
        .await
        .unwrap();
    channel.call(request).await.unwrap().map(Body::new)
}

/// Reads an answer to its end: how many bytes came, and the status in the trailers.
pub(crate) async fn end_of(answer: Response<Body>) -> (usize, Option<String>) {
    let mut body = answer.into_body();
    let (mut bytes, mut status) = (0, None);
    loop {
        let frame = std::future::poll_fn(|context| {
            http_body::Body::poll_frame(std::pin::Pin::new(&mut body), context)
        });
        match frame.await {
            Some(Ok(frame)) => {
                bytes += frame.data_ref().map_or(0, Bytes::len);
                let trailers = frame.trailers_ref();
                let found = trailers.and_then(|trailers| trailers.get("grpc-status"));
                status = found.map(|value| value.to_str().unwrap().to_owned());
            }
            Some(Err(error)) => return (bytes, Some(error.to_string())),
            None => return (bytes, status),
        }
    }
}
