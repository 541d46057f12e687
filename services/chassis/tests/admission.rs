//! People of providers at the gate, over the wire: nothing runs that is not on record, and open streams end with what they rest on.

#![cfg(test)]

mod common;

use std::sync::{Arc, atomic::Ordering};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::Response,
    routing::post,
};
use common::{
    operators::{World, used, world},
    streams::{OUT, end_of, open_body},
};
use counterfoil_chassis::{
    Caller, CancellationToken, Outbox,
    auth::{Authenticator, Gate, PermissionTable, StaticToken, Token},
    both_engines, client,
    config::Limits,
    server::{self, Running},
    testing::TestDatabase,
};
use tokio::sync::mpsc;
use tonic::service::Routes;
use tower::Service;

const NOT_FOUND: &str = "5";
const PERMISSION_DENIED: &str = "7";
const UNAVAILABLE: &str = "14";

/// What the handler saw: who calls, and how many accesses were on record then.
type Seen = (String, usize);

struct Server {
    world: World,
    running: Running,
    token: Token,
    seen: mpsc::UnboundedReceiver<Seen>,
}

#[derive(Clone)]
struct Look {
    outbox: Outbox,
    seen: mpsc::UnboundedSender<Seen>,
}

/// A handler whose answer is a stream that stays open.
async fn handler(State(look): State<Arc<Look>>, request: Request) -> Response<Body> {
    let caller = Caller::in_extensions(request.extensions()).unwrap();
    let who = caller.principal().to_owned();
    let recorded = match caller.tenant() {
        Some("acme") => used(&look.outbox).await.len(),
        _ => 0,
    };
    look.seen.send((who, recorded)).unwrap();
    Response::builder()
        .header("content-type", "application/grpc")
        .body(open_body())
        .unwrap()
}

impl Server {
    async fn start(db: &TestDatabase) -> Self {
        let world = world(db).await;
        let token = Token::generate().unwrap();
        let otto = StaticToken::new(&token, Caller::of_tenant("msp", "otto", ["operator"]));
        let authenticator = Authenticator::new(world.clock.clock(), [otto], None);
        let permissions = PermissionTable::of_api().unwrap();
        let gate = Gate::new(authenticator, permissions, &[], 10)
            .with_operators(Some(world.operators.clone()));
        let (sender, seen) = mpsc::unbounded_channel();
        let look = Look {
            outbox: world.outbox.clone(),
            seen: sender,
        };
        let router = Router::new()
            .route(OUT, post(handler))
            .with_state(Arc::new(look));
        let listener = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (limits, end) = (Limits::default(), CancellationToken::new());
        let routes = Routes::from(router);
        let running =
            server::serve(listener, routes, vec![], Arc::new(gate), &limits, end).unwrap();
        Self {
            world,
            running,
            token,
            seen,
        }
    }

    /// A call of Otto, for whom he names.
    async fn call(&self, tenant: Option<&str>) -> Response<Body> {
        let mut channel = client::connect(&self.running.url(), Some(&self.token)).unwrap();
        let mut request = http::Request::post(format!("http://server{OUT}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(tenant) = tenant {
            request = request.header("counterfoil-tenant", tenant);
        }
        let body = tonic::body::Body::new(Body::from(&[0, 0, 0, 0, 0][..]));
        std::future::poll_fn(|context| channel.poll_ready(context))
            .await
            .unwrap();
        let answer = channel.call(request.body(body).unwrap()).await.unwrap();
        answer.map(Body::new)
    }

    /// The status of a call that is refused at once.
    async fn refused(&self, tenant: &str) -> String {
        let answer = self.call(Some(tenant)).await;
        let status = answer
            .headers()
            .get("grpc-status")
            .map(|status| status.to_str().unwrap());
        status.unwrap_or("it runs").to_owned()
    }

    /// What the handler saw since it was last asked; of all calls that were answered it has told.
    fn seen(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.seen.try_recv().ok()).collect()
    }
}

fn as_otto(accesses: usize) -> Seen {
    ("tenants/acme/principals/otto-msp".to_owned(), accesses)
}

both_engines! {
    async fn r72_the_access_is_on_record_before_the_handler_runs(db: TestDatabase) {
        let mut server = Server::start(&db).await;
        server.call(Some("acme")).await;
        server.call(Some("acme")).await;
        assert_eq!(server.seen(), [as_otto(1), as_otto(2)]);
        let used = used(&server.world.outbox).await;
        assert_eq!((used[0].1.method.as_str(), used[0].1.permission.as_str()), (OUT, "logs.read"));
        // At home there is nothing to tell.
        server.call(None).await;
        assert_eq!(server.seen(), [("tenants/msp/principals/otto".to_owned(), 0)]);
    }

    async fn nothing_runs_whose_access_cannot_be_recorded(db: TestDatabase) {
        let mut server = Server::start(&db).await;
        let mut tx = db.write_tx("acme").await.unwrap();
        sqlx::raw_sql("DROP TABLE operator_accesses").execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(server.refused("acme").await, UNAVAILABLE);
        assert_eq!(server.seen(), []);
        assert_eq!(used(&server.world.outbox).await.len(), 0);
        server.call(None).await;
        assert_eq!(server.seen().len(), 1, "it is the record that is missing, not the handler");
    }

    async fn who_lacks_something_is_refused_before_the_handler_and_leaves_no_access(db: TestDatabase) {
        let mut server = Server::start(&db).await;
        assert_eq!(server.refused("beta").await, NOT_FOUND);
        server.world.otto.lacks.store(true, Ordering::SeqCst);
        assert_eq!(server.refused("acme").await, PERMISSION_DENIED);
        server.world.otto.lacks.store(false, Ordering::SeqCst);
        server.world.clock.set_ms(server.world.otto.until_ms);
        assert_eq!(server.refused("acme").await, PERMISSION_DENIED);
        assert_eq!(server.seen(), []);
        assert_eq!(used(&server.world.outbox).await.len(), 0);
        server.world.clock.set_ms(server.world.otto.until_ms - 1);
        server.call(Some("acme")).await;
        assert_eq!(server.seen(), [as_otto(1)]);
    }

    async fn b32_an_open_stream_ends_with_the_evidence_it_rests_on(db: TestDatabase) {
        let server = Server::start(&db).await;
        let lapses = server.call(Some("acme")).await;
        server.world.clock.set_ms(server.world.otto.until_ms);
        assert_eq!(end_of(lapses).await.1.as_deref(), Some(PERMISSION_DENIED));
        server.world.clock.set_ms(1_000);
        let revoked = server.call(Some("acme")).await;
        server.world.otto.lacks.store(true, Ordering::SeqCst);
        server.world.clock.advance_ms(1_000);
        assert_eq!(end_of(revoked).await.1.as_deref(), Some(PERMISSION_DENIED));
    }
}
