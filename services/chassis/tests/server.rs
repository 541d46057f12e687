//! The gate and the limits of a server, over real connections.

#![cfg(test)]

mod common;

use std::{io::Read, net::TcpStream, sync::Arc, time::Duration};

use common::{Served, SmallLedger};
use counterfoil_chassis::{
    Caller, CancellationToken, Clock, Role,
    auth::{Authenticator, Gate, HttpRoute, PermissionTable, StaticToken, Token},
    client,
    config::Limits,
    server::{self, ServeError},
};
use counterfoil_proto::{
    authority::{
        GetTenantRequest, IntrospectTokenRequest, principal_service_client::PrincipalServiceClient,
        tenant_service_client::TenantServiceClient,
    },
    ledger::{
        AppendBatchRequest, CreateLogRequest, GetCheckpointRequest,
        ledger_service_client::LedgerServiceClient, ledger_service_server::LedgerServiceServer,
    },
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::{Code, service::Routes};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt;

fn routes() -> Routes {
    Routes::new(LedgerServiceServer::new(SmallLedger::default()))
}

async fn checkpoint(channel: client::ServiceChannel) -> Result<(), tonic::Status> {
    let request = GetCheckpointRequest {
        tenant: "tenants/acme".into(),
    };
    LedgerServiceClient::new(channel)
        .get_checkpoint(request)
        .await
        .map(|_| ())
}

#[tokio::test]
async fn no_token_a_garbled_one_and_an_unknown_one_are_refused_alike() {
    let served = Served::start(routes(), Role::Auditor, Limits::default()).await;
    let url = served.running.url();
    assert!(checkpoint(served.channel()).await.is_ok());
    let anonymous = checkpoint(client::connect(&url, None).unwrap())
        .await
        .unwrap_err();
    let unknown = Token::generate().unwrap();
    let unknown = checkpoint(client::connect(&url, Some(&unknown)).unwrap())
        .await
        .unwrap_err();
    assert_eq!(anonymous.code(), Code::Unauthenticated);
    assert_eq!(anonymous.details(), unknown.details());
    assert_eq!(
        anonymous.get_details_error_info().unwrap().reason,
        "UNAUTHENTICATED"
    );
}

#[tokio::test]
async fn a_role_without_the_permission_is_denied() {
    let served = Served::start(routes(), Role::Auditor, Limits::default()).await;
    let request = AppendBatchRequest {
        tenant: "tenants/acme".into(),
        records: vec![],
    };
    let mut ledger = LedgerServiceClient::new(served.channel());
    let denied = ledger.append_batch(request).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    assert_eq!(
        denied.get_details_error_info().unwrap().reason,
        "PERMISSION_MISSING"
    );
}

#[tokio::test]
async fn a_method_that_is_not_served_is_unimplemented() {
    let served = Served::start(routes(), Role::Service, Limits::default()).await;
    let request = GetTenantRequest {
        name: "tenants/acme".into(),
    };
    let mut tenants = TenantServiceClient::new(served.channel());
    assert_eq!(
        tenants.get_tenant(request).await.unwrap_err().code(),
        Code::Unimplemented
    );
    let mut principals = PrincipalServiceClient::new(served.channel());
    let request = IntrospectTokenRequest { token: "x".into() };
    assert_eq!(
        principals
            .introspect_token(request)
            .await
            .unwrap_err()
            .code(),
        Code::Unimplemented
    );
    let mut ledger = LedgerServiceClient::new(served.channel());
    let request = CreateLogRequest {
        tenant: "tenants/acme".into(),
    };
    assert_eq!(
        ledger.create_log(request).await.unwrap_err().code(),
        Code::Unimplemented
    );
}

#[tokio::test]
async fn health_needs_no_token_and_turns_when_the_server_stops() {
    let served = Served::start(routes(), Role::Service, Limits::default()).await;
    let channel = client::connect(&served.running.url(), None).unwrap();
    let mut health = HealthClient::new(channel);
    let request = HealthCheckRequest {
        service: String::new(),
    };
    let mut watch = health.watch(request.clone()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1);
    served.shutdown.cancel();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 2);
}

#[tokio::test]
async fn a_server_stops_in_time_although_a_stream_stays_open() {
    let limits = Limits {
        shutdown_timeout_ms: 300,
        ..Limits::default()
    };
    let served = Served::start(routes(), Role::Service, limits).await;
    let mut health = HealthClient::new(client::connect(&served.running.url(), None).unwrap());
    let request = HealthCheckRequest {
        service: String::new(),
    };
    let _open = health.watch(request).await.unwrap();
    let stopped = tokio::time::timeout(Duration::from_secs(10), served.running.stop()).await;
    stopped.expect("it stops in time").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_says_nothing_is_closed() {
    let limits = Limits {
        first_byte_timeout_ms: 100,
        ..Limits::default()
    };
    let served = Served::start(routes(), Role::Service, limits).await;
    let address = served.running.address();
    let closed = tokio::task::spawn_blocking(move || {
        let mut silent = TcpStream::connect(address).unwrap();
        silent
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        silent.read(&mut [0])
    });
    assert!(
        matches!(closed.await.unwrap(), Ok(0)),
        "closed by the server"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_peer_gets_only_so_many_connections() {
    let limits = Limits {
        connections_per_peer_max: 2,
        ..Limits::default()
    };
    let served = Served::start(routes(), Role::Service, limits).await;
    // Two that are let in speak and stay.
    let mut kept = Vec::new();
    for _ in 0..2 {
        let channel = served.channel();
        checkpoint(channel.clone()).await.unwrap();
        kept.push(channel);
    }
    let mut third = tokio::net::TcpStream::connect(served.running.address())
        .await
        .unwrap();
    // A connection that is turned away ends, whatever it says.
    let _ = third.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let mut heard = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), third.read_to_end(&mut heard)).await;
    assert!(ended.is_ok(), "the third connection stays open");
    assert_eq!(heard, b"");
    assert!(checkpoint(kept[0].clone()).await.is_ok());
}

#[tokio::test]
async fn too_many_calls_at_once_are_refused_with_a_retry_hint() {
    let limits = Limits {
        calls_max: 0,
        ..Limits::default()
    };
    let served = Served::start(routes(), Role::Service, limits).await;
    let refused = checkpoint(served.channel()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused
            .get_details_retry_info()
            .unwrap()
            .retry_delay
            .is_some()
    );
}

#[tokio::test]
async fn only_loopback_is_served() {
    let error = server::bind("0.0.0.0:0".parse().unwrap())
        .await
        .unwrap_err();
    assert!(matches!(error, ServeError::NotLoopback(_)));
    assert!(error.to_string().contains("only loopback"), "{error}");
}

/// Asks with HTTP/1.1 and answers the first line and the body.
async fn get(address: std::net::SocketAddr, path: &str, token: Option<&Token>) -> (String, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let authorization = token.map_or(String::new(), |token| {
        format!("Authorization: Bearer {}\r\n", token.expose())
    });
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: x\r\n{authorization}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[tokio::test]
async fn plain_http_passes_the_same_gate_and_a_panic_fails_one_call() {
    let token = Token::generate().unwrap();
    let caller = Caller::of_deployment("services/inventory", [Role::Service]);
    let known = StaticToken::new(&token, caller);
    let authenticator = Authenticator::new(Clock::system(), [known], None);
    let hello = |axum::Extension(caller): axum::Extension<Caller>| async move {
        caller.principal().to_owned()
    };
    let panics = || async { panic!("a defect") as &'static str };
    let tiles = HttpRoute {
        prefix: "/logs/",
        permission: "logs.read",
        router: axum::Router::new()
            .route("/logs/hello", axum::routing::get(hello))
            .route("/logs/panic", axum::routing::get(panics)),
    };
    let closed = HttpRoute {
        prefix: "/closed/",
        permission: "items.decide",
        router: axum::Router::new().route("/closed/x", axum::routing::get(|| async { "x" })),
    };
    let http = vec![tiles, closed];
    let permissions = PermissionTable::of_api().unwrap();
    let gate = Arc::new(Gate::new(authenticator, permissions, &http, 10));
    let listener = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let shutdown = CancellationToken::new();
    let limits = Limits::default();
    let running = server::serve(listener, routes(), http, gate, &limits, shutdown).unwrap();
    let address = running.address();
    let status = async |path, token| get(address, path, token).await.0;
    assert_eq!(
        status("/logs/hello", None).await,
        "HTTP/1.1 401 Unauthorized"
    );
    assert_eq!(
        status("/closed/x", Some(&token)).await,
        "HTTP/1.1 403 Forbidden"
    );
    assert_eq!(
        status("/elsewhere", Some(&token)).await,
        "HTTP/1.1 404 Not Found"
    );
    assert_eq!(
        status("/logs/panic", Some(&token)).await,
        "HTTP/1.1 500 Internal Server Error"
    );
    let (first, body) = get(address, "/logs/hello", Some(&token)).await;
    assert_eq!(
        (first.as_str(), body.as_str()),
        ("HTTP/1.1 200 OK", "services/inventory")
    );
    let grpc = client::connect(&running.url(), Some(&token)).unwrap();
    assert!(checkpoint(grpc).await.is_ok());
    running.stop().await.unwrap();
}
