//! Everything that runs, and the files of the sources.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use counterfoil_chassis::{
    CancellationToken, Database, Outbox, TestClock,
    auth::Token,
    client::{self, ServiceChannel},
    config::{Peers, ServiceConfig},
    outbox::ProducerKey,
    server::Running,
    testing::{self, TestDatabase},
};
use counterfoil_proto::{
    authority::{
        IssueTokenRequest, decision_right_service_client::DecisionRightServiceClient,
        mandate_service_client::MandateServiceClient, policy_service_client::PolicyServiceClient,
        principal_service_client::PrincipalServiceClient,
        tenant_service_client::TenantServiceClient,
    },
    common::disclosure_service_client::DisclosureServiceClient,
    inventory::source_service_client::SourceServiceClient,
    ledger::ledger_service_client::LedgerServiceClient,
    recertification::{
        Decision, campaign_service_client::CampaignServiceClient,
        review_service_client::ReviewServiceClient,
    },
    reconciliation::{
        recon_service_client::ReconServiceClient,
        remediation_service_client::RemediationServiceClient,
    },
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::Status;
use tonic_types::StatusExt;

use crate::{
    Config, Jobs, Settings,
    context::{Context, lock},
    jobs::Step,
    store,
};

pub(super) const TENANT: &str = "tenants/acme";
pub(super) const NOW_MS: i64 = 1_790_000_000_000;
pub(super) const DAY_MS: i64 = 86_400_000;
/// What takes longer fails the test.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

const SERVICES: [&str; 5] = [
    "ledger",
    "authority",
    "inventory",
    "recertification",
    "reconciliation",
];

/// Clients of one caller.
#[derive(Clone)]
pub(super) struct Clients {
    pub(super) tenants: TenantServiceClient<ServiceChannel>,
    pub(super) policies: PolicyServiceClient<ServiceChannel>,
    pub(super) principals: PrincipalServiceClient<ServiceChannel>,
    pub(super) rights: DecisionRightServiceClient<ServiceChannel>,
    pub(super) mandates: MandateServiceClient<ServiceChannel>,
    pub(super) sources: SourceServiceClient<ServiceChannel>,
    pub(super) campaigns: CampaignServiceClient<ServiceChannel>,
    pub(super) reviews: ReviewServiceClient<ServiceChannel>,
    pub(super) recon: ReconServiceClient<ServiceChannel>,
    pub(super) remediations: RemediationServiceClient<ServiceChannel>,
    pub(super) ledger: LedgerServiceClient<ServiceChannel>,
    urls: BTreeMap<&'static str, String>,
    token: Token,
}

impl Clients {
    fn new(urls: &BTreeMap<&'static str, String>, token: Token) -> Self {
        let to = |service: &str| client::connect(&urls[service], Some(&token)).unwrap();
        Self {
            tenants: TenantServiceClient::new(to("authority")),
            policies: PolicyServiceClient::new(to("authority")),
            principals: PrincipalServiceClient::new(to("authority")),
            rights: DecisionRightServiceClient::new(to("authority")),
            mandates: MandateServiceClient::new(to("authority")),
            sources: SourceServiceClient::new(to("inventory")),
            campaigns: CampaignServiceClient::new(to("recertification")),
            reviews: ReviewServiceClient::new(to("recertification"))
                .max_decoding_message_size(client::MESSAGE_BYTES_MAX)
                .max_encoding_message_size(client::MESSAGE_BYTES_MAX),
            recon: ReconServiceClient::new(to("reconciliation")),
            remediations: RemediationServiceClient::new(to("reconciliation")),
            ledger: LedgerServiceClient::new(to("ledger")),
            urls: urls.clone(),
            token,
        }
    }

    pub(super) fn disclosures(&self, service: &str) -> DisclosureServiceClient<ServiceChannel> {
        let channel = client::connect(&self.urls[service], Some(&self.token)).unwrap();
        DisclosureServiceClient::new(channel).max_decoding_message_size(client::MESSAGE_BYTES_MAX)
    }
}

/// Everything that runs.
pub(super) struct World {
    pub(super) clock: TestClock,
    pub(super) admin: Clients,
    /// Who certifies, remediates, administers and is accountable. Before there is one, the administrator of the deployment.
    pub(super) olga: Clients,
    /// Who reviews.
    pub(super) finn: Clients,
    pub(super) settings: Settings,
    folder: TempDir,
    urls: BTreeMap<&'static str, String>,
    configs: BTreeMap<&'static str, ServiceConfig>,
    running: BTreeMap<&'static str, (Running, CancellationToken)>,
    jobs: Option<Jobs>,
    database: TestDatabase,
}

/// A second process of reconciliation.
pub(super) struct Replica {
    running: Running,
    pub(super) jobs: Jobs,
}

impl Replica {
    pub(super) async fn stop(self) {
        self.running.stop().await.unwrap();
    }
}

/// A loopback address of this world alone. A service that is started again binds the port that it had; on an address that
/// others use too, a connection of theirs may have been given that port in between.
fn own_loopback_address() -> Ipv4Addr {
    static WORLDS: AtomicU8 = AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let number = WORLDS.fetch_add(1, Ordering::Relaxed) % 250 + 1;
    Ipv4Addr::new(127, high.max(1), low, number)
}

/// Binds an address that the service before had: its listener is let go by a task that may not have run yet.
async fn bound(address: &str) -> TcpListener {
    for _ in 0..100_000 {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                tokio::task::yield_now().await;
            }
            other => return other.unwrap(),
        }
    }
    panic!("{address} stays in use");
}

impl World {
    /// Starts the services and onboards the tenant.
    pub(super) async fn start(database: TestDatabase) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = own_loopback_address();
        let mut urls = BTreeMap::new();
        // All at once: a port that is let go may be given out again.
        let mut listeners = Vec::new();
        for service in SERVICES {
            let listener = TcpListener::bind((host, 0)).await.unwrap();
            urls.insert(
                service,
                format!("http://{}", listener.local_addr().unwrap()),
            );
            listeners.push(listener);
        }
        drop(listeners);
        let configs = configs(&database, folder.path(), &urls);
        let (token, _) = testing::credential(folder.path(), "operators/admin", "administrator");
        let admin = Clients::new(&urls, token);
        let settings = Settings {
            // The tests run the jobs themselves.
            job_interval_ms: 86_400_000,
            peer_patience_ms: 3_000,
            ..Settings::default()
        };
        let mut world = Self {
            clock: TestClock::new(NOW_MS),
            olga: admin.clone(),
            finn: admin.clone(),
            admin,
            settings,
            folder,
            urls,
            configs,
            running: BTreeMap::new(),
            jobs: None,
            database,
        };
        for service in SERVICES {
            world.start_service(service).await;
        }
        world.onboard().await;
        world.finn = world.of("finn").await;
        world
    }

    /// Starts one service, at the address it always has.
    pub(super) async fn start_service(&mut self, service: &'static str) {
        let config = self.configs[service].clone();
        let address = self.urls[service].trim_start_matches("http://").to_owned();
        let listener = Some(bound(&address).await);
        let (clock, end) = (self.clock.clock(), CancellationToken::new());
        let stop = end.clone();
        let running = match service {
            "ledger" => counterfoil_ledger::start(config.into(), clock, listener, stop).await,
            "authority" => counterfoil_authority::start(config.into(), clock, listener, stop).await,
            "inventory" => counterfoil_inventory::start(config.into(), clock, listener, stop).await,
            "recertification" => {
                counterfoil_recertification::start(config.into(), clock, listener, stop).await
            }
            _ => {
                let config = Config {
                    service: config,
                    reconciliation: self.settings.clone(),
                };
                let started = crate::start_with_jobs(config, clock, listener, stop).await;
                started.map(|(running, jobs)| {
                    self.jobs = Some(jobs);
                    running
                })
            }
        };
        self.running.insert(service, (running.unwrap(), end));
    }

    /// Stops one service; what it was doing comes to its next durable step.
    pub(super) async fn stop_service(&mut self, service: &'static str) {
        let (running, end) = self.running.remove(service).unwrap();
        end.cancel();
        running.stop().await.unwrap();
    }

    /// Stops reconciliation and starts it again: whatever runs goes on.
    pub(super) async fn restart(&mut self) {
        self.stop_service("reconciliation").await;
        self.start_service("reconciliation").await;
    }

    /// Another process of reconciliation, on the same database.
    pub(super) async fn another_process(&self) -> Replica {
        let config = Config {
            service: self.configs["reconciliation"].clone(),
            reconciliation: self.settings.clone(),
        };
        let host = Ipv4Addr::LOCALHOST;
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let (clock, end) = (self.clock.clock(), CancellationToken::new());
        let started = crate::start_with_jobs(config, clock, Some(listener), end).await;
        let (running, jobs) = started.unwrap();
        Replica { running, jobs }
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.jobs.as_ref().unwrap().context
    }

    pub(super) fn jobs(&self) -> &Jobs {
        self.jobs.as_ref().unwrap()
    }

    /// Lets the next job die at a step.
    pub(super) fn die_at(&self, step: Step) {
        *lock(&self.context().crash) = Some(step);
    }

    /// Waits until a job has died where it was told to.
    pub(super) async fn died(&self) {
        let context = self.context();
        let mut bell = context.bell.subscribe();
        let died = async {
            while lock(&context.crash).is_some() {
                bell.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, died)
            .await
            .expect("the job never came to the step");
    }

    /// Clients with a token of a principal of the tenant.
    pub(super) async fn of(&self, principal: &str) -> Clients {
        let request = IssueTokenRequest {
            principal: principal_name(principal),
            ttl_seconds: 31_536_000,
            ..IssueTokenRequest::default()
        };
        let answer = self
            .olga
            .principals
            .clone()
            .issue_token(request)
            .await
            .unwrap();
        Clients::new(
            &self.urls,
            Token::parse(&answer.into_inner().token).unwrap(),
        )
    }

    /// Clients of a service.
    pub(super) fn of_service(&self, service: &str) -> Clients {
        let principal = format!("services/{service}");
        let (token, _) = testing::credential(self.folder.path(), &principal, "service");
        Clients::new(&self.urls, token)
    }

    /// The last record that each service has written, whether the ledger has it or not.
    pub(super) async fn last_records(&self) -> Vec<Vec<[u8; 16]>> {
        let mut last = Vec::new();
        for service in ["inventory", "recertification", "reconciliation"] {
            let url = self.database.url(service);
            let db = Database::connect(&url, service).await.unwrap();
            last.push(store::last_record(&db, "acme").await);
            db.close().await;
        }
        last
    }

    /// Folder of a source's files.
    pub(super) fn files(&self, source: &str) -> PathBuf {
        let folder = self.folder.path().join("estates").join(source);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Somebody else's lock on a source's files, until it is dropped.
    pub(super) fn locked(&self, source: &str) -> fs::File {
        let lock = fs::File::create(self.files(source).join(".counterfoil.lock")).unwrap();
        lock.lock().unwrap();
        lock
    }

    /// What grants.csv of a source holds: account and entitlement.
    pub(super) fn grants_in(&self, source: &str) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.files(source).join("grants.csv")).unwrap();
        let rows = text.lines().skip(1).map(|row| row.split_once(',').unwrap());
        rows.map(|(account, entitlement)| (account.to_owned(), entitlement.to_owned()))
            .collect()
    }

    /// Puts a grant into the target behind everybody's back.
    pub(super) fn grant_behind(&self, source: &str, account: &str, entitlement: &str) {
        let path = self.files(source).join("grants.csv");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{text}{account},{entitlement}\n")).unwrap();
    }

    /// Waits until every record that a service has written is in the ledger.
    pub(super) async fn logged(&self) {
        for service in [
            "authority",
            "inventory",
            "recertification",
            "reconciliation",
        ] {
            let db = Database::connect(&self.database.url(service), service)
                .await
                .unwrap();
            let last = store::last_record(&db, "acme").await;
            let config = &self.configs[service];
            let name = format!("{}/services/{service}", config.deployment);
            let key = ProducerKey::load_or_create(&config.producer_key_file, &name).unwrap();
            let outbox = Outbox::new(db.clone(), self.clock.clock(), service, key);
            outbox
                .await_receipts("acme", &last, PATIENCE)
                .await
                .unwrap();
            db.close().await;
        }
    }

    pub(super) async fn stop(mut self) {
        for service in SERVICES.into_iter().rev() {
            if self.running.contains_key(service) {
                self.stop_service(service).await;
            }
        }
    }
}

/// Somebody in a source, with what they hold.
pub(super) struct Account<'a>(pub(super) &'a str, pub(super) &'a [&'a str]);

/// Writes the files of a source. Entitlement "root" is privileged; nobody owns any.
pub(super) fn write_files(folder: &Path, accounts: &[Account<'_>]) {
    let mut people = "native_id,display_name,identity_key,identity_class\n".to_owned();
    let mut grants = "account_native_id,entitlement_native_id\n".to_owned();
    let mut held: Vec<&str> = Vec::new();
    for Account(account, entitlements) in accounts {
        people += &format!("{account},Name of {account},{account}@acme.example,workforce\n");
        for entitlement in *entitlements {
            grants += &format!("{account},{entitlement}\n");
            held.push(entitlement);
        }
    }
    held.sort_unstable();
    held.dedup();
    let mut entitlements = "native_id,display_name,kind,privileged\n".to_owned();
    for entitlement in held {
        let privileged = entitlement == "root";
        entitlements += &format!("{entitlement},The {entitlement},team,{privileged}\n");
    }
    for (name, text) in [
        ("accounts.csv", people),
        ("entitlements.csv", entitlements),
        ("grants.csv", grants),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
}

/// "tenants/acme/principals/{id}".
pub(super) fn principal_name(id: &str) -> String {
    format!("{TENANT}/principals/{id}")
}

/// The reason of a refusal.
pub(super) fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

fn configs(
    database: &TestDatabase,
    folder: &Path,
    urls: &BTreeMap<&'static str, String>,
) -> BTreeMap<&'static str, ServiceConfig> {
    let mut credentials = vec![testing::credential(folder, "operators/admin", "administrator").1];
    for service in SERVICES {
        let principal = format!("services/{service}");
        credentials.push(testing::credential(folder, &principal, "service").1);
    }
    let configure = |service: &'static str| {
        let url = |name: &str| (name != service).then(|| urls[name].clone());
        let mut config = testing::config(service, database, folder);
        let principal = format!("services/{service}");
        config.token_file = Some(
            testing::credential(folder, &principal, "service")
                .1
                .token_file,
        );
        config.peers = Peers {
            authority: url("authority"),
            inventory: url("inventory"),
            recertification: url("recertification"),
            reconciliation: url("reconciliation"),
            ledger: url("ledger"),
        };
        config.credentials.clone_from(&credentials);
        (service, config)
    };
    SERVICES.into_iter().map(configure).collect()
}

/// A review that takes every "root" away and leaves the rest.
pub(super) fn revoke_root(_: &str, entitlement: &str) -> Decision {
    match entitlement {
        "root" => Decision::Revoke,
        _ => Decision::Accept,
    }
}
