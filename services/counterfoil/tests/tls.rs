//! Services with the certificates of `counterfoil ca`: they know each other by them, people come with tokens, and new files are
//! taken while they run.

#![cfg(test)]

use std::{collections::BTreeMap, fs, path::Path};

use counterfoil::{
    ca::{Authority, LEAF_DAYS, Rotated, Wanted},
    client::Clients,
    endpoints::Endpoints,
};
use counterfoil_chassis::{
    CancellationToken, Clock, TestClock,
    auth::Token,
    config::{ServiceConfig, StaticCredential, TlsConfig},
    server::Running,
    tls::Holder,
};
use counterfoil_proto::authority::CreateTenantRequest;
use tempfile::TempDir;
use tonic::{Code, Status};

const DEPLOYMENT: &str = "counterfoil.test";
const LEAF_MS: i64 = LEAF_DAYS * 86_400_000;

struct World {
    folder: TempDir,
    clock: TestClock,
    ca: Authority,
    end: CancellationToken,
}

impl World {
    /// The first certificates end 200 seconds from now, and a certificate is good from 300 seconds before it was made: so
    /// those made after their end are good to the people's client, too, which has the machine's clock.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = TestClock::new(Clock::system().now_ms() - LEAF_MS + 200_000);
        let ca = Authority::init(&folder.path().join("ca"), DEPLOYMENT, clock.clock()).unwrap();
        Self {
            folder,
            clock,
            ca,
            end: CancellationToken::new(),
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn issue(&self, service: &str) {
        let wanted = Wanted {
            holder: Holder::Service,
            name: service.to_owned(),
            dns: vec!["localhost".into()],
            days: LEAF_DAYS,
        };
        self.ca.issue(&wanted, &self.path().join(service)).unwrap();
    }

    /// With a certificate, no token of its own, and no credentials of other services.
    fn config(&self, service: &str) -> ServiceConfig {
        self.issue(service);
        let files = self.path().join(service);
        let token_file = self.path().join("admin.token");
        Token::load_or_create(&token_file).unwrap();
        ServiceConfig {
            deployment: DEPLOYMENT.into(),
            tls: Some(TlsConfig {
                certificate_file: files.join(format!("{service}.crt")),
                key_file: files.join(format!("{service}.key")),
                trust_bundle_file: files.join("trust.crt"),
                reload_interval_ms: 10_000,
            }),
            credentials: vec![StaticCredential {
                principal: "operators/admin".into(),
                roles: vec!["administrator".into()],
                token_file,
            }],
            ..ServiceConfig::embedded(service, self.path())
        }
    }

    async fn start(&self) -> (Running, Running) {
        let (clock, end) = (self.clock.clock(), self.end.clone());
        let ledger = self.config("ledger").into();
        let ledger = counterfoil_ledger::start(ledger, clock.clone(), None, end.clone());
        let ledger = ledger.await.unwrap();
        let mut authority = self.config("authority");
        authority.peers.ledger = Some(ledger.url());
        let authority = counterfoil_authority::start(authority.into(), clock, None, end);
        (ledger, authority.await.unwrap())
    }

    fn admin(&self, authority: &Running) -> Clients {
        let address = format!("https://localhost:{}", authority.address().port());
        let endpoints = Endpoints {
            services: BTreeMap::from([("authority".to_owned(), address)]),
            trust_bundle_file: Some(self.ca.trust_bundle()),
            token_file: self.path().join("admin.token"),
        };
        Clients::open(&endpoints, &endpoints.token().unwrap()).unwrap()
    }
}

/// Makes a tenant: authority calls the ledger for its log, and its outbox goes there.
async fn create(admin: &Clients, tenant: &str) -> Result<(), Status> {
    let request = CreateTenantRequest {
        tenant_id: tenant.to_owned(),
        display_name: tenant.to_owned(),
        request_id: String::new(),
        ..CreateTenantRequest::default()
    };
    let answer = admin.tenants().unwrap().create_tenant(request).await?;
    assert!(answer.into_inner().receipt.is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_work_together_by_certificates_alone() {
    let world = World::new();
    let (ledger, authority) = world.start().await;
    assert!(ledger.url().starts_with("https://"));
    create(&world.admin(&authority), "acme").await.unwrap();
    world.end.cancel();
    authority.wait().await.unwrap();
    ledger.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_ran_out_ends_the_work_and_a_new_one_takes_it_up_without_a_restart() {
    let world = World::new();
    let (_ledger, authority) = world.start().await;
    let admin = world.admin(&authority);
    create(&admin, "acme").await.unwrap();
    world.clock.advance_ms(LEAF_MS + 2_000);
    let refused = create(&admin, "beta").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    world.issue("ledger");
    world.issue("authority");
    let taken = async {
        loop {
            world.clock.advance_ms(10_000);
            if create(&world.admin(&authority), "gamma").await.is_ok() {
                break;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), taken)
        .await
        .expect("the new certificates are taken");
}

#[test]
fn what_a_rotation_leaves_is_what_the_next_service_needs() {
    let world = World::new();
    for step in [Rotated::Prepared, Rotated::Switched, Rotated::Finished] {
        assert_eq!(world.ca.rotate().unwrap(), step);
        world.issue("ledger");
        let bundle = fs::read(world.path().join("ledger/trust.crt")).unwrap();
        assert_eq!(bundle, fs::read(world.ca.trust_bundle()).unwrap());
    }
}
