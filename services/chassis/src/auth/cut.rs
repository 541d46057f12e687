//! Ends a stream when the credential it was opened with ends: at its expiry, and within a second of its revocation.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Status, body::Body};

use super::{Credential, Gate, Identified, Standing};
use crate::operators::Named;

/// How often a credential is asked about again while a stream is open, milliseconds. The answer is remembered as long, so all
/// streams of a caller together cost one question a second.
const ASKED_EVERY_MS: i64 = 1_000;
/// A body that has yielded so many frames at once is no short answer, and is watched though it never waits.
const UNWATCHED_FRAMES: u32 = 3;

/// What a call was let in with.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    pub(super) credential: Credential,
    /// The tenant that the call names as the one to act for.
    pub(super) named: Named,
    pub(super) permission: Arc<str>,
    pub(super) identified: Identified,
}

/// Waits until the credential no longer lets its call in, and says why.
async fn ended(gate: Arc<Gate>, admission: Admission) -> Status {
    let Admission {
        credential,
        named,
        permission,
        mut identified,
    } = admission;
    let clock = gate.authenticator().clock().clone();
    loop {
        let asked_again = clock.now_ms().saturating_add(ASKED_EVERY_MS);
        let wake = match identified.standing {
            // The process knows the credential as long as it runs.
            Standing::Lasting => return std::future::pending().await,
            Standing::Asked(Some(end)) => end.min(asked_again),
            Standing::Asked(None) => asked_again,
        };
        clock.reached(wake).await;
        identified = match gate.identify(&credential, &named).await {
            Ok(identified) => identified,
            // Also when authority does not answer: what cannot be checked does not go on.
            Err(error) => return error.into(),
        };
        if let Err(status) = gate.authorise(&identified.caller, &permission) {
            return status;
        }
    }
}

/// Where the end of a credential is waited for.
enum Watch {
    /// Not yet: most bodies are over before they wait for anything.
    Idle(Box<(Arc<Gate>, Admission)>),
    /// It is.
    Running(Pin<Box<dyn Future<Output = Status> + Send>>),
    /// It came: the stream is over.
    Cut,
}

/// Which way a body goes, which decides how its end is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// To the handler: an error that its stream yields.
    In,
    /// To the caller of gRPC: a status in the trailers.
    OutGrpc,
    /// To the caller of plain HTTP: the body breaks off.
    OutPlain,
}

/// A body that ends with the credential of its call.
pub(super) struct Cut {
    inner: Body,
    way: Way,
    frames: u32,
    watch: Watch,
}

impl Cut {
    /// Wraps a body, unless the credential lasts as long as the process.
    pub(super) fn wrap(body: Body, way: Way, gate: &Arc<Gate>, admission: &Admission) -> Body {
        let lasting = admission.identified.standing == Standing::Lasting;
        if lasting || body.is_end_stream() {
            return body;
        }
        Body::new(Self {
            inner: body,
            way,
            frames: 0,
            watch: Watch::Idle(Box::new((Arc::clone(gate), admission.clone()))),
        })
    }

    fn poll_cut(&mut self, context: &mut Context<'_>) -> Option<Status> {
        if let Watch::Idle(parts) = &self.watch {
            let (gate, admission) = (**parts).clone();
            self.watch = Watch::Running(Box::pin(ended(gate, admission)));
        }
        let Watch::Running(ended) = &mut self.watch else {
            return None;
        };
        let Poll::Ready(status) = ended.as_mut().poll(context) else {
            return None;
        };
        self.watch = Watch::Cut;
        // What the handler still holds of it ends too.
        self.inner = Body::empty();
        Some(status)
    }

    fn end(&self, status: Status) -> Option<Result<Frame<Bytes>, Status>> {
        tracing::info!(code = ?status.code(), "a stream was cut: its credential has ended");
        if self.way != Way::OutGrpc {
            return Some(Err(status));
        }
        let mut trailers = http::HeaderMap::new();
        Some(match status.add_header(&mut trailers) {
            Ok(()) => Ok(Frame::trailers(trailers)),
            Err(status) => Err(status),
        })
    }
}

impl HttpBody for Cut {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if matches!(self.watch, Watch::Cut) {
            return Poll::Ready(None);
        }
        if self.frames >= UNWATCHED_FRAMES
            && let Some(status) = self.poll_cut(context)
        {
            return Poll::Ready(self.end(status));
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            self.frames = self.frames.saturating_add(1);
            return Poll::Ready(frame);
        }
        match self.poll_cut(context) {
            Some(status) => Poll::Ready(self.end(status)),
            None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.watch, Watch::Cut) || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cut({:?})", self.way)
    }
}
