//! Services over TLS: who comes in with which certificate, until when, and what rotation changes.

#![cfg(test)]

mod common;

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};

use common::{
    SmallLedger,
    certificates::{Authority, DEPLOYMENT, Files, Term},
    streams,
};
use counterfoil_chassis::{
    ApiError, Caller, CancellationToken, TestClock,
    auth::{
        Authenticator, Bearer, Gate, Introspection, Introspector, PermissionTable, StaticToken,
        Token,
    },
    client::{self, ServiceChannel},
    config::Limits,
    server::{self, Running},
    tls::{Tls, TlsError},
};
use counterfoil_proto::ledger::{
    GetCheckpointRequest, ledger_service_client::LedgerServiceClient,
    ledger_service_server::LedgerServiceServer,
};
use tempfile::TempDir;
use tonic::{Code, service::Routes};

const NOW: i64 = 1_700_000_000;
const DAY: i64 = 86_400;
const LEDGER: &str = "spiffe://counterfoil.test/services/ledger";
const INVENTORY: &str = "spiffe://counterfoil.test/services/inventory";
const CLIENT: &str = "spiffe://counterfoil.test/clients/ci";
const LONG: Term = Term(NOW - DAY, NOW + 5000 * DAY);
const TERM: Term = Term(NOW - DAY, NOW + 30 * DAY);

/// Knows every token as an auditor of acme, bound to a certificate or not.
struct Known(Option<[u8; 32]>);

#[tonic::async_trait]
impl Introspector for Known {
    async fn introspect(&self, _: &Bearer) -> Result<Option<Introspection>, ApiError> {
        Ok(Some(Introspection {
            caller: Caller::of_tenant("acme", "p1", ["auditor"]),
            expires_at_ms: None,
            bound_to: self.0,
        }))
    }
}

/// A ledger over TLS, and the folder with everybody's files.
struct World {
    folder: TempDir,
    time: TestClock,
    authority: Authority,
    files: Files,
    tls: Arc<Tls>,
    running: Running,
    admin: Token,
}

impl World {
    async fn start() -> Self {
        let routes = Routes::new(LedgerServiceServer::new(SmallLedger::default()));
        Self::serving(routes, None).await
    }

    async fn serving(routes: Routes, bound_to: Option<[u8; 32]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let time = TestClock::new(NOW * 1000);
        let authority = Authority::new(LONG);
        let pair = authority.issue(&[LEDGER], LONG);
        let files = Files::write(folder.path(), "ledger", &pair, &authority.pem);
        let tls = files.load("ledger", time.clock());
        let admin = Token::generate().unwrap();
        let caller = Caller::of_tenant("acme", "ada", ["auditor"]);
        let known = StaticToken::new(&admin, caller);
        let introspector = Arc::new(Known(bound_to));
        let authenticator = Authenticator::new(time.clock(), [known], Some(introspector));
        let permissions = PermissionTable::of_api().unwrap();
        let gate = Arc::new(Gate::new(authenticator, permissions, &[], 10));
        // Not only loopback may be listened on.
        let listener = server::bind_any("0.0.0.0:0".parse().unwrap())
            .await
            .unwrap();
        let running = server::serve_tls(
            listener,
            routes,
            vec![],
            gate,
            &Limits::default(),
            Some(Arc::clone(&tls)),
            CancellationToken::new(),
        )
        .unwrap();
        Self {
            folder,
            time,
            authority,
            files,
            tls,
            running,
            admin,
        }
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.running.address().port())
    }

    /// The other end, with a certificate of this authority for `uri` that is loaded as `service`.
    fn peer(&self, uri: &str, term: Term) -> Arc<Tls> {
        self.peer_of(&self.authority, uri, term)
    }

    fn peer_of(&self, authority: &Authority, uri: &str, term: Term) -> Arc<Tls> {
        let service = uri.rsplit('/').next().unwrap();
        let pair = authority.issue(&[uri], term);
        let files = Files::write(self.folder.path(), service, &pair, &self.authority.pem);
        files.load(service, self.time.clock())
    }

    fn channel(&self, tls: &Arc<Tls>) -> ServiceChannel {
        client::connect_tls(&self.url(), "ledger", tls).unwrap()
    }

    /// A connection as any client would make it: this certificate and this token, or neither.
    async fn stranger(
        &self,
        pair: Option<&(String, String)>,
        token: Option<&Token>,
    ) -> Result<(), Code> {
        let roots = tonic::transport::Certificate::from_pem(&self.authority.pem);
        let mut config = tonic::transport::ClientTlsConfig::new()
            .ca_certificate(roots)
            .domain_name("localhost");
        if let Some((certificate, key)) = pair {
            config = config.identity(tonic::transport::Identity::from_pem(certificate, key));
        }
        let channel = tonic::transport::Endpoint::from_shared(self.url())
            .unwrap()
            .tls_config(config)
            .unwrap()
            .connect_lazy();
        let credentials = client::Credentials::new(token);
        let mut ledger = LedgerServiceClient::with_interceptor(channel, credentials);
        ask(&mut ledger).await
    }
}

async fn ask<T>(ledger: &mut LedgerServiceClient<T>) -> Result<(), Code>
where
    T: tonic::client::GrpcService<tonic::body::Body>,
    T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error:
        Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let request = GetCheckpointRequest {
        tenant: "tenants/acme".into(),
    };
    let answer = ledger.get_checkpoint(request).await;
    answer.map(|_| ()).map_err(|status| status.code())
}

async fn checkpoint(channel: ServiceChannel) -> Result<(), Code> {
    ask(&mut LedgerServiceClient::new(channel)).await
}

#[tokio::test]
async fn a_services_certificate_is_its_identity_and_needs_no_token() {
    let world = World::start().await;
    let inventory = world.peer(INVENTORY, TERM);
    assert_eq!(checkpoint(world.channel(&inventory)).await, Ok(()));
    assert!(world.running.url().starts_with("https://"));
}

#[tokio::test]
async fn people_come_with_tokens_and_without_certificates() {
    let world = World::start().await;
    assert_eq!(world.stranger(None, Some(&world.admin)).await, Ok(()));
    let nobody = world.stranger(None, None).await;
    assert_eq!(nobody, Err(Code::Unauthenticated));
}

#[tokio::test]
async fn a_certificate_and_a_token_together_are_refused() {
    let world = World::start().await;
    let pair = world.authority.issue(&[INVENTORY], TERM);
    let tokens = [Some(world.admin.clone()), Token::generate().ok()];
    for token in tokens {
        let both = world.stranger(Some(&pair), token.as_ref()).await;
        assert_eq!(both, Err(Code::Unauthenticated));
    }
    assert_eq!(world.stranger(Some(&pair), None).await, Ok(()));
}

#[tokio::test]
async fn expired_early_foreign_and_nameless_certificates_do_not_connect() {
    let world = World::start().await;
    let other = Authority::new(LONG);
    let issue = |uris: &[&str], term| world.authority.issue(uris, term);
    let refused = [
        ("expired", issue(&[INVENTORY], Term(NOW - 2 * DAY, NOW - 1))),
        ("not yet", issue(&[INVENTORY], Term(NOW + 1, NOW + DAY))),
        ("foreign", other.issue(&[INVENTORY], TERM)),
        (
            "other deployment",
            issue(&["spiffe://other.test/services/inventory"], TERM),
        ),
        ("no URI", issue(&[], TERM)),
        ("two URIs", issue(&[INVENTORY, LEDGER], TERM)),
        (
            "an operator",
            issue(&["spiffe://counterfoil.test/operators/admin"], TERM),
        ),
        (
            "no SPIFFE id",
            issue(&["https://counterfoil.test/services/inventory"], TERM),
        ),
    ];
    for (what, pair) in refused {
        // Neither alone nor beside a good token: the handshake fails, so nothing is ever asked.
        for token in [None, Some(&world.admin)] {
            let answer = world.stranger(Some(&pair), token).await;
            assert!(
                matches!(answer, Err(Code::Unavailable | Code::Unknown)),
                "{what}: {answer:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_certificate_ends_on_an_open_connection_too() {
    let world = World::start().await;
    let inventory = world.peer(INVENTORY, Term(NOW - DAY, NOW + 59));
    let channel = world.channel(&inventory);
    assert_eq!(checkpoint(channel.clone()).await, Ok(()));
    world.time.set_ms((NOW + 59) * 1000 + 999);
    assert_eq!(checkpoint(channel.clone()).await, Ok(()));
    world.time.set_ms((NOW + 60) * 1000);
    assert_eq!(checkpoint(channel).await, Err(Code::Unauthenticated));
}

#[tokio::test]
async fn a_chain_ends_on_an_open_connection_with_the_first_of_its_certificates() {
    let world = World::start().await;
    let intermediate = world.authority.intermediate(Term(NOW - DAY, NOW + 59));
    let (leaf, key) = intermediate.issue(&[INVENTORY], TERM);
    let pair = (format!("{leaf}{}", intermediate.pem), key);
    let files = Files::write(world.folder.path(), "chained", &pair, &world.authority.pem);
    let chained = files.load("inventory", world.time.clock());
    let channel = world.channel(&chained);
    assert_eq!(checkpoint(channel.clone()).await, Ok(()));
    world.time.set_ms((NOW + 59) * 1000 + 999);
    assert_eq!(checkpoint(channel.clone()).await, Ok(()));
    world.time.set_ms((NOW + 60) * 1000);
    assert_eq!(checkpoint(channel).await, Err(Code::Unauthenticated));
}

#[tokio::test]
async fn a_stream_is_cut_when_the_certificate_it_was_opened_with_ends() {
    let (routes, _) = streams::routes();
    let world = World::serving(routes, None).await;
    let inventory = world.peer(INVENTORY, Term(NOW - DAY, NOW + 59));
    let answer = streams::call(world.channel(&inventory), streams::OUT).await;
    world.time.set_ms((NOW + 60) * 1000);
    let (bytes, status) = streams::end_of(answer).await;
    assert_eq!((bytes, status.as_deref()), (5, Some("16")));
}

#[tokio::test]
async fn a_service_calls_only_the_service_it_means() {
    let world = World::start().await;
    let inventory = world.peer(INVENTORY, TERM);
    let mistaken = client::connect_tls(&world.url(), "authority", &inventory).unwrap();
    assert_eq!(checkpoint(mistaken).await, Err(Code::Unavailable));
    // A server whose chain ends elsewhere is not spoken to either.
    let other = Authority::new(LONG);
    let pair = world.authority.issue(&[INVENTORY], TERM);
    let files = Files::write(world.folder.path(), "astray", &pair, &other.pem);
    let astray = files.load("inventory", world.time.clock());
    let answer = checkpoint(world.channel(&astray)).await;
    assert_eq!(answer, Err(Code::Unavailable));
    // With certificates there is no way back to plain text.
    assert!(client::connect_tls("http://127.0.0.1:1", "ledger", &inventory).is_err());
    assert!(client::connect("https://127.0.0.1:1", None).is_err());
}

#[tokio::test]
async fn a_trust_bundle_that_changes_counts_at_once_also_on_open_connections() {
    let world = World::start().await;
    let inventory = world.peer(INVENTORY, TERM);
    let channel = world.channel(&inventory);
    assert_eq!(checkpoint(channel.clone()).await, Ok(()));
    let next = Authority::new(LONG);
    let both = format!("{}{}", world.authority.pem, next.pem);
    fs::write(&world.files.config.trust_bundle_file, both).unwrap();
    assert!(world.tls.reload().unwrap());
    assert!(!world.tls.reload().unwrap());
    assert_eq!(checkpoint(channel.clone()).await, Ok(()));
    let newcomer = world.peer_of(&next, INVENTORY, TERM);
    assert_eq!(checkpoint(world.channel(&newcomer)).await, Ok(()));
    fs::write(&world.files.config.trust_bundle_file, &next.pem).unwrap();
    assert!(world.tls.reload().unwrap());
    assert_eq!(checkpoint(channel).await, Err(Code::Unauthenticated));
    assert_eq!(checkpoint(world.channel(&newcomer)).await, Ok(()));
}

#[tokio::test]
async fn files_are_read_again_while_the_service_runs_and_odd_ones_are_left_alone() {
    let world = World::start().await;
    let watching = tokio::spawn(Arc::clone(&world.tls).watch(CancellationToken::new()));
    let newcomer = Authority::new(LONG);
    // A certificate without its key: what was in use stays in use.
    let (certificate, key) = newcomer.issue(&[LEDGER], TERM);
    fs::write(&world.files.config.certificate_file, &certificate).unwrap();
    assert!(world.tls.reload().is_err());
    let inventory = world.peer(INVENTORY, TERM);
    assert_eq!(checkpoint(world.channel(&inventory)).await, Ok(()));
    fs::write(&world.files.config.key_file, &key).unwrap();
    fs::write(&world.files.config.trust_bundle_file, &newcomer.pem).unwrap();
    // The interval passes, and the next connection meets the new authority.
    let of_newcomer = newcomer.issue(&[INVENTORY], TERM);
    let files = Files::write(world.folder.path(), "next", &of_newcomer, &newcomer.pem);
    let next = files.load("inventory", world.time.clock());
    let answer = async {
        loop {
            world.time.advance_ms(10_000);
            if checkpoint(world.channel(&next)).await == Ok(()) {
                break;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), answer)
        .await
        .expect("the new files are taken");
    watching.abort();
}

#[tokio::test]
async fn files_that_cannot_be_used_keep_a_service_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let clock = TestClock::new(NOW * 1000).clock();
    let authority = Authority::new(LONG);
    let pair = authority.issue(&[LEDGER], TERM);
    let load = |files: &Files, service: &str| {
        Tls::load(&files.config, DEPLOYMENT, service, clock.clone()).unwrap_err()
    };
    let files = Files::write(folder.path(), "ledger", &pair, &authority.pem);
    assert!(matches!(
        load(&files, "inventory"),
        TlsError::Identity { .. }
    ));
    let mode = fs::Permissions::from_mode(0o640);
    fs::set_permissions(&files.config.key_file, mode).unwrap();
    let error = load(&files, "ledger").to_string();
    assert!(error.contains("mode 640"), "{error}");
    let other = authority.issue(&[LEDGER], TERM);
    let files = Files::write(
        folder.path(),
        "other",
        &(pair.0.clone(), other.1),
        &authority.pem,
    );
    assert!(matches!(load(&files, "ledger"), TlsError::Setup(_)));
    let files = Files::write(folder.path(), "empty", &pair, "nothing");
    let error = load(&files, "ledger").to_string();
    assert!(error.contains("holds no certificate"), "{error}");
}

#[tokio::test]
async fn a_clients_certificate_is_nobody_alone_and_what_a_bound_token_needs() {
    let routes = Routes::new(LedgerServiceServer::new(SmallLedger::default()));
    let world = World::serving(routes.clone(), None).await;
    let pair = world.authority.issue(&[CLIENT], TERM);
    let other = world.authority.issue(&[CLIENT], TERM);
    let token = Token::generate().unwrap();
    let alone = world.stranger(Some(&pair), None).await;
    assert_eq!(alone, Err(Code::Unauthenticated));
    assert_eq!(world.stranger(Some(&pair), Some(&token)).await, Ok(()));
    // Another server, which trusts the first one's authority, and where the token is bound to the first certificate.
    let bound = World::serving(routes, Some(fingerprint(&pair.0))).await;
    fs::write(&bound.files.config.trust_bundle_file, &world.authority.pem).unwrap();
    bound.tls.reload().unwrap();
    assert_eq!(bound.stranger(Some(&pair), Some(&token)).await, Ok(()));
    for wrong in [Some(&other), None] {
        let refused = bound.stranger(wrong, Some(&token)).await;
        assert_eq!(refused, Err(Code::Unauthenticated));
    }
}

fn fingerprint(pem: &str) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    let path = std::path::Path::new("certificate");
    let certificates = counterfoil_chassis::tls::certificates(path, pem.as_bytes()).unwrap();
    Sha256::digest(&certificates[0]).into()
}
