//! The service with the real authority, inventory and ledger beside it, each on its own listener, over a small CSV estate.
//! All read one clock, which the test owns.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    reason = "every test file uses its own part, and a test that cannot go on panics"
)]

mod estate;
mod gate;
mod provider;
mod tenant;

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use counterfoil_chassis::{
    CancellationToken, Clock, TestClock,
    auth::Token,
    client::{self, ServiceChannel},
    config::{Peers, ServiceConfig},
    server::Running,
    testing::{self, TestDatabase},
};
use counterfoil_evidence::v1::Record;
use counterfoil_proto::{
    authority::{
        IssueTokenRequest, decision_right_service_client::DecisionRightServiceClient,
        delegation_service_client::DelegationServiceClient,
        engagement_service_client::EngagementServiceClient,
        mandate_service_client::MandateServiceClient, policy_service_client::PolicyServiceClient,
        principal_service_client::PrincipalServiceClient,
        qualification_service_client::QualificationServiceClient,
        tenant_service_client::TenantServiceClient,
    },
    common::disclosure_service_client::DisclosureServiceClient,
    inventory::{
        inventory_service_client::InventoryServiceClient,
        source_service_client::SourceServiceClient,
    },
    ledger::ledger_service_client::LedgerServiceClient,
    recertification::{
        campaign_service_client::CampaignServiceClient, review_service_client::ReviewServiceClient,
    },
};
use counterfoil_recertification::Jobs;
use prost::Message;
use sqlx::Row;
use tempfile::TempDir;
use tokio::net::TcpListener;

pub(crate) use estate::{Grant, estate};
pub(crate) use gate::Gate;
pub(crate) use provider::acting;
pub(crate) use tenant::decision;

/// The tenant of the tests.
pub(crate) const TENANT: &str = "tenants/acme";
/// When the tests begin.
pub(crate) const NOW_MS: i64 = 1_790_000_000_000;
/// One day.
pub(crate) const DAY_MS: i64 = 86_400_000;

const SERVICES: [&str; 4] = ["authority", "inventory", "recertification", "ledger"];

/// Clients of one caller.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) tenants: TenantServiceClient<ServiceChannel>,
    pub(crate) policies: PolicyServiceClient<ServiceChannel>,
    pub(crate) principals: PrincipalServiceClient<ServiceChannel>,
    pub(crate) rights: DecisionRightServiceClient<ServiceChannel>,
    pub(crate) delegations: DelegationServiceClient<ServiceChannel>,
    pub(crate) engagements: EngagementServiceClient<ServiceChannel>,
    pub(crate) mandates: MandateServiceClient<ServiceChannel>,
    pub(crate) qualifications: QualificationServiceClient<ServiceChannel>,
    pub(crate) sources: SourceServiceClient<ServiceChannel>,
    pub(crate) inventory: InventoryServiceClient<ServiceChannel>,
    pub(crate) campaigns: CampaignServiceClient<ServiceChannel>,
    pub(crate) reviews: ReviewServiceClient<ServiceChannel>,
    pub(crate) ledger: LedgerServiceClient<ServiceChannel>,
    /// What inventory and recertification disclose.
    pub(crate) disclosures: [DisclosureServiceClient<ServiceChannel>; 2],
}

/// Everything that runs.
pub(crate) struct World {
    pub(crate) clock: TestClock,
    pub(crate) jobs: Jobs,
    pub(crate) admin: Clients,
    /// Who certifies and administers: the accountable owner. Before there is one, the administrator of the deployment.
    pub(crate) olga: Clients,
    /// Between recertification and inventory.
    pub(crate) inventory_gate: Gate,
    folder: TempDir,
    urls: BTreeMap<&'static str, String>,
    database: TestDatabase,
    shutdown: CancellationToken,
    running: Vec<Running>,
    own: Own,
}

/// The service under test, which can be stopped apart from the others.
struct Own {
    config: ServiceConfig,
    running: Option<Running>,
    stop: CancellationToken,
}

impl World {
    /// Starts the services, onboards the tenant, registers the source "hr" and reads it once.
    pub(crate) async fn start(database: TestDatabase) -> Self {
        let mut world = Self::bare(database).await;
        world.onboard().await;
        world.write_source("hr", &estate());
        world.add_source("hr").await;
        world.sync("hr").await;
        world
    }

    async fn bare(database: TestDatabase) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = TestClock::new(NOW_MS);
        let shutdown = CancellationToken::new();
        let mut listeners = BTreeMap::new();
        let mut urls = BTreeMap::new();
        for service in SERVICES {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            urls.insert(service, format!("http://{address}"));
            listeners.insert(service, listener);
        }
        let inventory_gate = Gate::before(&urls["inventory"]).await;
        let mut configs = configs(&database, &folder, &urls);
        let mut take = |service| {
            let config: ServiceConfig = configs.remove(service).unwrap();
            let listener = Some(listeners.remove(service).unwrap());
            (config, clock.clock(), listener, shutdown.clone())
        };
        let mut running = Vec::new();
        let (config, time, listener, stop) = take("ledger");
        running.push(
            counterfoil_ledger::start(config.into(), time, listener, stop)
                .await
                .unwrap(),
        );
        let (config, time, listener, stop) = take("authority");
        running.push(
            counterfoil_authority::start(config.into(), time, listener, stop)
                .await
                .unwrap(),
        );
        let (config, time, listener, stop) = take("inventory");
        running.push(
            counterfoil_inventory::start(config.into(), time, listener, stop)
                .await
                .unwrap(),
        );
        let (mut config, time, listener, stop) = take("recertification");
        config.peers.inventory = Some(inventory_gate.url.clone());
        let (own, jobs) = Own::start(config, time, listener, stop.child_token()).await;
        let (token, _) = testing::credential(folder.path(), "operators/admin", "administrator");
        let admin = clients(&urls, &token);
        Self {
            clock,
            jobs,
            olga: admin.clone(),
            admin,
            folder,
            urls,
            database,
            shutdown,
            running,
            inventory_gate,
            own,
        }
    }

    /// Clients with the token of a service.
    pub(crate) fn of_service(&self, service: &str) -> Clients {
        let principal = format!("services/{service}");
        let (token, _) = testing::credential(self.folder.path(), &principal, "service");
        clients(&self.urls, &token)
    }

    /// Clients with a token of a principal of the tenant.
    pub(crate) async fn of(&self, principal: &str) -> Clients {
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
        let token = Token::parse(&answer.into_inner().token).unwrap();
        clients(&self.urls, &token)
    }

    /// Folder of a source's files.
    pub(crate) fn source_folder(&self, source: &str) -> PathBuf {
        let folder = self.folder.path().join("estates").join(source);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// The records that recertification has written, in their order.
    pub(crate) async fn records(&self) -> Vec<Record> {
        let db = counterfoil_chassis::Database::connect(
            &self.database.url("recertification"),
            "recertification",
        )
        .await
        .unwrap();
        let rows =
            sqlx::query("SELECT record FROM outbox_records WHERE tenant = 'acme' ORDER BY seq")
                .fetch_all(db.read("acme").await.unwrap().conn())
                .await
                .unwrap();
        let records = rows
            .iter()
            .map(|row| Record::decode(row.get::<Vec<u8>, _>(0).as_slice()).unwrap())
            .collect();
        db.close().await;
        records
    }

    /// Runs a statement on the service's database: what a crash would have left.
    pub(crate) async fn break_in(&self, sql: &'static str) {
        let db = counterfoil_chassis::Database::connect(
            &self.database.url("recertification"),
            "recertification",
        )
        .await
        .unwrap();
        let mut tx = db.write_tx("acme").await.unwrap();
        sqlx::query(sql).execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
        db.close().await;
    }

    /// Stops the service under test, and starts it again on what it has left.
    pub(crate) async fn restart(&mut self) {
        self.own.stop.cancel();
        self.own.running.take().unwrap().wait().await.unwrap();
        // On another port: somebody may have been given the one that it had.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        self.urls
            .insert("recertification", format!("http://{address}"));
        let config = self.own.config.clone();
        let stop = self.shutdown.child_token();
        (self.own, self.jobs) = Own::start(config, self.clock.clock(), Some(listener), stop).await;
        let (token, _) =
            testing::credential(self.folder.path(), "operators/admin", "administrator");
        self.admin = clients(&self.urls, &token);
        self.olga = self.of("olga").await;
    }

    /// Stops everything.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        self.running.extend(self.own.running);
        for service in self.running {
            service.wait().await.unwrap();
        }
    }
}

impl Own {
    async fn start(
        config: ServiceConfig,
        time: Clock,
        listener: Option<TcpListener>,
        stop: CancellationToken,
    ) -> (Self, Jobs) {
        let started = counterfoil_recertification::start_with_jobs(
            config.clone().into(),
            time,
            listener,
            stop.clone(),
        );
        let (running, jobs) = started.await.unwrap();
        let own = Self {
            config,
            running: Some(running),
            stop,
        };
        (own, jobs)
    }
}

/// "tenants/acme/principals/{id}".
pub(crate) fn principal_name(id: &str) -> String {
    format!("{TENANT}/principals/{id}")
}

fn configs(
    database: &TestDatabase,
    folder: &TempDir,
    urls: &BTreeMap<&'static str, String>,
) -> BTreeMap<&'static str, ServiceConfig> {
    let mut credentials =
        vec![testing::credential(folder.path(), "operators/admin", "administrator").1];
    for service in SERVICES.into_iter().chain(["reconciliation"]) {
        let principal = format!("services/{service}");
        credentials.push(testing::credential(folder.path(), &principal, "service").1);
    }
    let configure = |service: &'static str| {
        let url = |name: &str| (name != service).then(|| urls[name].clone());
        let mut config = testing::config(service, database, folder.path());
        let principal = format!("services/{service}");
        let own = testing::credential(folder.path(), &principal, "service").1;
        config.token_file = Some(own.token_file);
        config.peers = Peers {
            authority: url("authority"),
            inventory: url("inventory"),
            recertification: url("recertification"),
            reconciliation: None,
            ledger: url("ledger"),
        };
        config.credentials.clone_from(&credentials);
        (service, config)
    };
    SERVICES.into_iter().map(configure).collect()
}

fn clients(urls: &BTreeMap<&'static str, String>, token: &Token) -> Clients {
    let to = |service: &str| client::connect(&urls[service], Some(token)).unwrap();
    Clients {
        tenants: TenantServiceClient::new(to("authority")),
        policies: PolicyServiceClient::new(to("authority")),
        principals: PrincipalServiceClient::new(to("authority")),
        rights: DecisionRightServiceClient::new(to("authority")),
        delegations: DelegationServiceClient::new(to("authority")),
        engagements: EngagementServiceClient::new(to("authority")),
        mandates: MandateServiceClient::new(to("authority")),
        qualifications: QualificationServiceClient::new(to("authority")),
        sources: SourceServiceClient::new(to("inventory")),
        inventory: InventoryServiceClient::new(to("inventory")),
        campaigns: CampaignServiceClient::new(to("recertification")),
        reviews: ReviewServiceClient::new(to("recertification"))
            .max_decoding_message_size(client::MESSAGE_BYTES_MAX),
        ledger: LedgerServiceClient::new(to("ledger")),
        disclosures: ["inventory", "recertification"]
            .map(|service| DisclosureServiceClient::new(to(service))),
    }
}

/// Waits for something that another service brings about by itself; the test fails when it does not come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
