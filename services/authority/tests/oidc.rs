//! Signing in at a real identity provider that is not ours: npm oidc-provider, which `tests/run install` brings.

#![cfg(test)]

mod common;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::*;
use counterfoil_authority::{Algorithm, IssuerConfig};
use counterfoil_chassis::{Clock, both_engines, client::Credentials, testing::TestDatabase};
use counterfoil_evidence::{catalogue::Payload, v1};
use counterfoil_proto::{
    authority::{principal_service_client::PrincipalServiceClient, *},
    common::EvidenceState,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdin, ChildStdout, Command},
};
use tonic::{Code, Request, transport::Channel};

const AUDIENCE: &str = "urn:counterfoil";

/// A provider in a process of its own, ended with the test.
struct Provider {
    issuer: String,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    child: Child,
}

fn modules() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/node/node_modules");
    let path = path
        .canonicalize()
        .expect("`tests/run install` brings the provider");
    assert!(
        path.join("oidc-provider").exists(),
        "`tests/run install` brings the provider"
    );
    path
}

impl Provider {
    async fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/provider/provider.mjs");
        let mut child = Command::new("node")
            .arg(script)
            .arg(modules())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("node runs");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let issuer = lines.next_line().await.unwrap().expect("an address");
        Self {
            issuer,
            stdin: child.stdin.take().unwrap(),
            lines,
            child,
        }
    }

    /// New keys, and no others.
    async fn rotate(&mut self) {
        self.stdin.write_all(b"rotate\n").await.unwrap();
        self.lines.next_line().await.unwrap().expect("a generation");
    }

    async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Signs in with client_credentials for this API.
    async fn token(&self, client: &str, resource: &str) -> String {
        let address = self.issuer.strip_prefix("http://").unwrap();
        let secret = STANDARD.encode(format!("{client}:secret-of-{client}"));
        let body = format!("grant_type=client_credentials&scope=govern&resource={resource}");
        let request = format!(
            "POST /token HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic {secret}\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let start = answer.find('{').unwrap_or_else(|| panic!("{answer}"));
        let end = answer.rfind('}').unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer[start..=end]).unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    fn config(&self) -> IssuerConfig {
        IssuerConfig {
            issuer: self.issuer.clone(),
            audience: AUDIENCE.into(),
            algorithms: vec![Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256],
            jwks_url: Some(format!("{}/jwks", self.issuer)),
            jwks_file: None,
            trust_bundle_file: None,
            key_ids: vec![],
            tenants: vec!["acme".into()],
            tenant_claim: None,
            subject_claim: "sub".into(),
            leeway_seconds: 30,
            token_age_max_seconds: 3_600,
        }
    }
}

/// Authority that knows these issuers, an active tenant, and the clients of ada, who administers it. The clock shows the real
/// time, because the provider's does.
async fn governed(db: TestDatabase, issuers: Vec<IssuerConfig>) -> (Deployment, Clients) {
    let deployment = Deployment::start_with(db, issuers).await;
    deployment.clock.set_ms(Clock::system().now_ms());
    deployment.jobs.read_keys().await;
    let ada = deployment.active().await;
    (deployment, ada)
}

fn link(principal: &str, issuer: &str, subject: &str) -> LinkLoginRequest {
    LinkLoginRequest {
        principal: name_of(principal),
        issuer: issuer.to_owned(),
        subject: subject.to_owned(),
        request_id: format!("{principal}-{subject}-{issuer}"),
    }
}

/// Who the bearer of this is to authority; it answers as it does to anybody.
async fn who(deployment: &Deployment, bearer: &str) -> Result<String, Code> {
    let url = deployment.authority.url();
    let channel = Channel::from_shared(url).unwrap().connect_lazy();
    let mut principals = PrincipalServiceClient::with_interceptor(channel, Credentials::new(None));
    let mut request = Request::new(GetPrincipalRequest {
        name: name_of("ben"),
    });
    let value = format!("Bearer {bearer}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    let answer = principals.get_principal(request).await;
    let seen = answer.map_err(|status| status.code())?;
    Ok(seen.into_inner().principal.unwrap().name)
}

async fn introspect(deployment: &Deployment, token: &str) -> Result<IntrospectTokenResponse, Code> {
    let request = IntrospectTokenRequest {
        token: token.to_owned(),
    };
    let mut principals = deployment.service.principals.clone();
    let answer = principals.introspect_token(request).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| status.code())
}

both_engines! {
    async fn who_signs_in_at_the_provider_is_the_linked_principal_until_unlinked(db: TestDatabase) {
        let provider = Provider::start().await;
        let (deployment, ada) = governed(db, vec![provider.config()]).await;
        let token = provider.token("ada", "urn:counterfoil:ES256").await;
        assert_eq!(introspect(&deployment, &token).await, Err(Code::Unauthenticated), "nobody linked it");
        deployment.clock.advance_ms(1_000);
        let request = link("ada", &provider.issuer, "ada");
        let linked = ada.credentials.clone().link_login(request.clone()).await.unwrap().into_inner();
        assert_eq!(linked.receipt.as_ref().unwrap().state(), EvidenceState::Logged);
        assert_eq!(ada.credentials.clone().link_login(request.clone()).await.unwrap().into_inner(), linked);
        for resource in ["urn:counterfoil:EdDSA", "urn:counterfoil:ES256", "urn:counterfoil:RS256"] {
            let token = provider.token("ada", resource).await;
            let known = introspect(&deployment, &token).await.unwrap();
            assert_eq!(known.principal, name_of("ada"), "{resource}");
            assert_eq!(known.roles, ["tenant-administrator"]);
            assert_eq!(who(&deployment, &token).await, Ok(name_of("ben")));
        }
        let again = LinkLoginRequest { principal: name_of("ben"), request_id: String::new(), ..request };
        let taken = ada.credentials.clone().link_login(again).await.unwrap_err();
        assert_eq!((taken.code(), reason(&taken).as_str()), (Code::AlreadyExists, "LOGIN_EXISTS"));
        let login = linked.login.unwrap();
        let list = ListLoginsRequest { tenant: "tenants/acme".into(), ..Default::default() };
        let listed = ada.credentials.clone().list_logins(list).await.unwrap().into_inner().logins;
        assert_eq!(listed, std::slice::from_ref(&login));
        let unlink = UnlinkLoginRequest { name: login.name.clone(), request_id: String::new() };
        ada.credentials.clone().unlink_login(unlink.clone()).await.unwrap();
        assert_eq!(introspect(&deployment, &token).await, Err(Code::Unauthenticated));
        assert_eq!(who(&deployment, &token).await, Err(Code::Unauthenticated), "authority remembers nothing");
        let refused = ada.credentials.clone().unlink_login(unlink).await.unwrap_err();
        assert_eq!(reason(&refused), "LOGIN_UNLINKED");
        // On record: a login, without the subject or the provider's address.
        let logged = deployment.logged("acme").await;
        let issued = logged.iter().find_map(|(record, payload, _)| match payload {
            Payload::CredentialIssued(one) if one.kind() == v1::CredentialKind::OidcLogin => Some((record, one)),
            _ => None,
        });
        let (record, issued) = issued.unwrap();
        assert_eq!((issued.principal.as_str(), record.actor.as_str()), ("principals/ada", "principals/ada"));
        assert!(login.name.ends_with(&issued.credential));
        // What is kept can be held against the record: it commits to whom the login is of.
        let committed: Vec<&str> = record.commitment.iter().map(|one| one.label.as_str()).collect();
        assert_eq!(committed, ["issuer", "subject"]);
        assert_eq!((issued.issued_with.len(), issued.secret_tag.len()), (16, 0));
        assert!(!format!("{logged:?}").contains(&provider.issuer));
    }

    async fn another_audience_client_or_end_is_refused_and_expiry_is_to_the_second(db: TestDatabase) {
        let provider = Provider::start().await;
        let (deployment, ada) = governed(db, vec![provider.config()]).await;
        ada.credentials.clone().link_login(link("ada", &provider.issuer, "ada")).await.unwrap();
        let other = provider.token("ada", "urn:other:ES256").await;
        assert_eq!(introspect(&deployment, &other).await, Err(Code::Unauthenticated));
        let mallory = provider.token("mallory", "urn:counterfoil:ES256").await;
        assert_eq!(introspect(&deployment, &mallory).await, Err(Code::Unauthenticated));
        let token = provider.token("ada", "urn:counterfoil:ES256").await;
        let known = introspect(&deployment, &token).await.unwrap();
        let end_ms = counterfoil_chassis::clock::millis(&known.expire_time.unwrap()).unwrap();
        deployment.clock.set_ms(end_ms - 1);
        assert_eq!(who(&deployment, &token).await, Ok(name_of("ben")));
        deployment.clock.set_ms(end_ms);
        assert_eq!(who(&deployment, &token).await, Err(Code::Unauthenticated));
        assert_eq!(introspect(&deployment, &token).await, Err(Code::Unauthenticated));
    }

    async fn new_keys_are_asked_for_at_most_once_a_minute_and_old_ones_count_no_more(db: TestDatabase) {
        let mut provider = Provider::start().await;
        let (deployment, ada) = governed(db, vec![provider.config()]).await;
        ada.credentials.clone().link_login(link("ada", &provider.issuer, "ada")).await.unwrap();
        let old = provider.token("ada", "urn:counterfoil:ES256").await;
        introspect(&deployment, &old).await.unwrap();
        provider.rotate().await;
        let new = provider.token("ada", "urn:counterfoil:ES256").await;
        // The keys were read just now: an unknown key id does not make authority ask again so soon.
        assert_eq!(introspect(&deployment, &new).await, Err(Code::Unauthenticated));
        introspect(&deployment, &old).await.unwrap();
        deployment.clock.advance_ms(60_000);
        // The token makes authority ask, and does not wait for the answer.
        assert_eq!(introspect(&deployment, &new).await, Err(Code::Unauthenticated));
        deployment.jobs.read_keys().await;
        introspect(&deployment, &new).await.unwrap();
        assert_eq!(introspect(&deployment, &old).await, Err(Code::Unauthenticated));
    }

    async fn a_provider_that_is_away_stops_nobody_elses_users(db: TestDatabase) {
        let (here, gone) = (Provider::start().await, Provider::start().await);
        let theirs = gone.token("ada", "urn:counterfoil:ES256").await;
        let (away, issuer) = (gone.config(), gone.issuer.clone());
        gone.stop().await;
        let (deployment, ada) = governed(db, vec![away, here.config()]).await;
        for issuer in [&here.issuer, &issuer] {
            ada.credentials.clone().link_login(link("ada", issuer, "ada")).await.unwrap();
        }
        let ours = here.token("ada", "urn:counterfoil:ES256").await;
        // Its keys were never seen: as if there were no such issuer.
        assert_eq!(introspect(&deployment, &theirs).await, Err(Code::Unauthenticated));
        introspect(&deployment, &ours).await.unwrap();
        // Keys that were seen count on while the provider is away, for a day and no longer.
        here.stop().await;
        deployment.clock.advance_ms(120_000);
        introspect(&deployment, &ours).await.unwrap();
    }
}
