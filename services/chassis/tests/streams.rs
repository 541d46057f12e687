//! Open streams end with the credential they were opened with. The clock is the test's; nothing sleeps.

#![cfg(test)]

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::streams::{IN, OUT, call, end_of, routes};
use counterfoil_chassis::{
    ApiError, Caller, CancellationToken, TestClock,
    auth::{Authenticator, Bearer, Gate, Introspection, Introspector, PermissionTable, Token},
    client,
    config::Limits,
    server::{self, Running},
};
use tokio::sync::mpsc;

/// What authority says of the one token there is.
#[derive(Clone, Default)]
struct Says(Arc<Mutex<Option<Introspection>>>);

#[tonic::async_trait]
impl Introspector for Says {
    async fn introspect(&self, _: &Bearer) -> Result<Option<Introspection>, ApiError> {
        let said = self.0.lock().unwrap().clone();
        match said {
            // A tenant that is no tenant stands for an authority that is away.
            Some(said) if said.caller.tenant() == Some("away") => {
                Err(ApiError::unavailable("AWAY", "away", Duration::ZERO))
            }
            said => Ok(said),
        }
    }
}

struct Server {
    running: Running,
    says: Says,
    time: TestClock,
    token: Token,
    ended: mpsc::UnboundedReceiver<String>,
}

fn auditor(tenant: &str, expires_at_ms: Option<i64>) -> Introspection {
    Introspection {
        caller: Caller::of_tenant(tenant, "p1", ["auditor"]),
        expires_at_ms,
        bound_to: None,
    }
}

impl Server {
    async fn start(said: Introspection) -> Self {
        let says = Says::default();
        *says.0.lock().unwrap() = Some(said);
        let time = TestClock::new(1_700_000_000_000);
        let introspector = Arc::new(says.clone());
        let authenticator = Authenticator::new(time.clock(), [], Some(introspector));
        let permissions = PermissionTable::of_api().unwrap();
        let gate = Arc::new(Gate::new(authenticator, permissions, &[], 10));
        let listener = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (routes, ended) = routes();
        let limits = Limits::default();
        let shutdown = CancellationToken::new();
        let running = server::serve(listener, routes, vec![], gate, &limits, shutdown).unwrap();
        Self {
            running,
            says,
            time,
            token: Token::generate().unwrap(),
            ended,
        }
    }

    async fn open(&self, path: &'static str) -> http::Response<axum::body::Body> {
        let channel = client::connect(&self.running.url(), Some(&self.token)).unwrap();
        call(channel, path).await
    }

    fn say(&self, said: Option<Introspection>) {
        *self.says.0.lock().unwrap() = said;
    }
}

const START_MS: i64 = 1_700_000_000_000;
const UNAUTHENTICATED: &str = "16";
const PERMISSION_DENIED: &str = "7";
const UNAVAILABLE: &str = "14";

#[tokio::test]
async fn an_answer_that_streams_is_cut_when_the_token_expires() {
    let server = Server::start(auditor("acme", Some(START_MS + 60_000))).await;
    let answer = server.open(OUT).await;
    server.time.set_ms(START_MS + 60_000);
    let (bytes, status) = end_of(answer).await;
    assert_eq!((bytes, status.as_deref()), (5, Some(UNAUTHENTICATED)));
}

#[tokio::test]
async fn a_request_that_streams_is_cut_when_the_token_expires() {
    let mut server = Server::start(auditor("acme", Some(START_MS + 60_000))).await;
    let token = server.token.clone();
    let channel = client::connect(&server.running.url(), Some(&token)).unwrap();
    let answer = tokio::spawn(call(channel, IN));
    let open = server.open(OUT).await;
    server.time.set_ms(START_MS + 60_000);
    end_of(open).await;
    let end = server.ended.recv().await;
    let end = end.unwrap_or_else(|| "nothing".into());
    assert!(
        end.contains("Unauthenticated") || end.contains("authentication"),
        "{end}"
    );
    answer.abort();
}

#[tokio::test]
async fn a_revocation_cuts_an_open_stream_a_second_later() {
    let server = Server::start(auditor("acme", None)).await;
    let answer = server.open(OUT).await;
    server.say(None);
    server.time.advance_ms(1_000);
    assert_eq!(end_of(answer).await.1.as_deref(), Some(UNAUTHENTICATED));
}

#[tokio::test]
async fn a_role_that_is_taken_away_cuts_an_open_stream() {
    let server = Server::start(auditor("acme", None)).await;
    let answer = server.open(OUT).await;
    let mut lesser = auditor("acme", None);
    lesser.caller = lesser.caller.limited_to(vec!["items.get".into()]);
    server.say(Some(lesser));
    server.time.advance_ms(1_000);
    assert_eq!(end_of(answer).await.1.as_deref(), Some(PERMISSION_DENIED));
}

#[tokio::test]
async fn what_cannot_be_checked_does_not_go_on() {
    let server = Server::start(auditor("acme", None)).await;
    let answer = server.open(OUT).await;
    server.say(Some(auditor("away", None)));
    server.time.advance_ms(1_000);
    assert_eq!(end_of(answer).await.1.as_deref(), Some(UNAVAILABLE));
}

#[tokio::test]
async fn a_stream_whose_credential_holds_stays_open() {
    let server = Server::start(auditor("acme", Some(START_MS + 10_000))).await;
    let mut waits = Box::pin(end_of(server.open(OUT).await));
    for _ in 0..9 {
        server.time.advance_ms(1_000);
        assert!(futures::poll!(&mut waits).is_pending());
        // Another call of the same token shows that the server has looked at the time meanwhile.
        assert_eq!(server.open(OUT).await.status(), 200);
    }
    server.time.advance_ms(1_000);
    assert_eq!(waits.await.1.as_deref(), Some(UNAUTHENTICATED));
}
