//! Ends a stream when the credential it was opened with ends: at its expiry, and within a second of its revocation.
//!
//! A stream is opened on an answer that may have been remembered, and asks again when that answer is a second old: however
//! many windows a credential passes through, together they are a second. What is not answered in time, or not by the known
//! end, ends the stream.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::timeout;
use tonic::{Status, body::Body};

use super::{Credential, Gate, Identified, Standing, authenticator::REMEMBERED_MS};
use crate::{error::ApiError, operators::Named};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
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
    // Whatever age an answer says it has, the next question is a later one.
    let mut earliest_ms = i64::MIN;
    loop {
        // The process knows a lasting credential as long as it runs.
        let Standing::Asked { at_ms, ends_ms } = identified.standing else {
            return std::future::pending().await;
        };
        let end = async {
            match ends_ms {
                Some(end) => clock.reached(end).await,
                None => std::future::pending().await,
            }
        };
        let asked_again = async {
            let old_ms = at_ms.min(clock.now_ms()).saturating_add(REMEMBERED_MS);
            clock.reached(old_ms.max(earliest_ms)).await;
            timeout(PATIENCE, gate.identify(&credential, &named)).await
        };
        let answer = tokio::select! {
            biased;
            () = end => {
                let lapsed = gate.authorise(&identified.caller, &permission).err();
                return lapsed.unwrap_or_else(|| ApiError::unauthenticated().into());
            }
            answer = asked_again => answer.unwrap_or_else(|_| Err(unanswered())),
        };
        identified = match answer {
            Ok(identified) => identified,
            // Also when authority does not answer: what cannot be checked does not go on.
            Err(error) => return error.into(),
        };
        earliest_ms = clock.now_ms().saturating_add(1);
        if let Err(status) = gate.authorise(&identified.caller, &permission) {
            return status;
        }
    }
}

fn unanswered() -> ApiError {
    let message = "the credential cannot be checked";
    ApiError::unavailable("CREDENTIAL_UNCHECKED", message, PATIENCE)
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use tonic::Code;

    use super::*;
    use crate::{
        auth::{
            Authenticator, Bearer, Caller, Introspection, Introspector, PermissionTable, Token,
        },
        clock::TestClock,
    };

    /// What authority says of the one token there is.
    #[derive(Clone, Copy)]
    enum Says {
        /// It is good until then.
        Good(Option<i64>),
        /// It is nobody's.
        Revoked,
        /// Nothing, ever.
        Nothing,
    }

    #[derive(Clone)]
    struct Authority(Arc<Mutex<Says>>);

    #[async_trait]
    impl Introspector for Authority {
        async fn introspect(&self, _: &Bearer) -> Result<Option<Introspection>, ApiError> {
            let says = *self.0.lock().unwrap();
            match says {
                Says::Good(expires_at_ms) => Ok(Some(Introspection {
                    caller: Caller::of_tenant("acme", "p1", ["auditor"]),
                    expires_at_ms,
                    bound_to: None,
                })),
                Says::Revoked => Ok(None),
                Says::Nothing => std::future::pending().await,
            }
        }
    }

    struct World {
        gate: Arc<Gate>,
        time: TestClock,
        authority: Authority,
        credential: Credential,
    }

    impl World {
        fn new(says: Says) -> Self {
            let time = TestClock::new(0);
            let authority = Authority(Arc::new(Mutex::new(says)));
            let introspector = Arc::new(authority.clone());
            let authenticator = Authenticator::new(time.clock(), [], Some(introspector));
            let permissions = PermissionTable::of_api().unwrap();
            let token = Token::generate().unwrap();
            Self {
                gate: Arc::new(Gate::new(authenticator, permissions, &[], 1)),
                time,
                authority,
                credential: Credential::bearer(Bearer::Token(token)),
            }
        }

        fn say(&self, says: Says) {
            *self.authority.0.lock().unwrap() = says;
        }

        /// A stream that is let in now, on what is remembered.
        async fn open(&self) -> impl Future<Output = Status> + use<> {
            let named = Named::Nothing;
            let identified = self.gate.identify(&self.credential, &named).await.unwrap();
            let admission = Admission {
                credential: self.credential.clone(),
                named,
                permission: "logs.read".into(),
                identified,
            };
            ended(Arc::clone(&self.gate), admission)
        }
    }

    #[tokio::test]
    async fn a_revoked_token_opens_no_stream_that_outlives_the_second_of_the_answer_it_rests_on() {
        let world = World::new(Says::Good(None));
        let early = world.open().await;
        world.say(Says::Revoked);
        world.time.set_ms(998);
        let mut late = Box::pin(world.open().await);
        assert!(futures::poll!(&mut late).is_pending());
        world.time.set_ms(1_000);
        assert_eq!(late.await.code(), Code::Unauthenticated);
        assert_eq!(early.await.code(), Code::Unauthenticated);
    }

    #[tokio::test]
    async fn a_stream_ends_at_its_known_end_while_authority_hangs() {
        let world = World::new(Says::Good(Some(1_500)));
        let mut stream = Box::pin(world.open().await);
        world.say(Says::Nothing);
        world.time.set_ms(1_000);
        assert!(futures::poll!(&mut stream).is_pending());
        world.time.set_ms(1_500);
        // At once: it is not the question's time that runs out.
        let status = futures::poll!(&mut stream).map(|status| status.code());
        assert_eq!(status, Poll::Ready(Code::Unauthenticated));
    }

    #[tokio::test]
    async fn a_question_that_is_not_answered_ends_the_stream() {
        let world = World::new(Says::Good(None));
        let stream = world.open().await;
        world.say(Says::Nothing);
        world.time.set_ms(1_000);
        assert_eq!(stream.await.code(), Code::Unavailable);
    }
}
