//! Whole inventory, authority and ledger services, a tenant that is active, and clients of all.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test file uses its own part"
)]

use std::path::PathBuf;

use counterfoil_chassis::{
    CancellationToken, TestClock,
    auth::Token,
    client::{self, ServiceChannel},
    clock::timestamp,
    server::Running,
    testing::{TestDatabase, config, credential},
};
use counterfoil_inventory::config::InventoryConfig;
use counterfoil_proto::{
    authority::{
        decision_right_service_client::DecisionRightServiceClient,
        policy_service_client::PolicyServiceClient,
        principal_service_client::PrincipalServiceClient,
        tenant_service_client::TenantServiceClient, *,
    },
    common::disclosure_service_client::DisclosureServiceClient,
    inventory::{
        CreateSourceRequest, GetSyncRequest, Source, StartSyncRequest, Sync, SyncState,
        WatchSyncRequest, inventory_service_client::InventoryServiceClient,
        source_service_client::SourceServiceClient,
    },
    ledger::ledger_service_client::LedgerServiceClient,
};
use tempfile::TempDir;
use tonic::Status;
use tonic_types::StatusExt;

use super::support::{DAY_MS, Estate, NOW_MS};

/// Three services on one database, with a clock that the test owns.
pub struct Deployment {
    pub clock: TestClock,
    pub admin: Clients,
    /// Who operates the tenant, of the customer; before there is one, the administrator of the deployment.
    pub ada: Clients,
    pub service: Clients,
    pub inventory: Option<Running>,
    pub authority: Running,
    pub ledger: Running,
    /// Gone with the test, and not before.
    _db: TestDatabase,
    folder: TempDir,
    config: counterfoil_inventory::Config,
}

/// What one caller calls with.
#[derive(Clone)]
pub struct Clients {
    pub sources: SourceServiceClient<ServiceChannel>,
    pub inventory: InventoryServiceClient<ServiceChannel>,
    pub disclosures: DisclosureServiceClient<ServiceChannel>,
    pub tenants: TenantServiceClient<ServiceChannel>,
    pub policies: PolicyServiceClient<ServiceChannel>,
    pub principals: PrincipalServiceClient<ServiceChannel>,
    pub rights: DecisionRightServiceClient<ServiceChannel>,
    pub ledger: LedgerServiceClient<ServiceChannel>,
}

impl Clients {
    fn new(inventory: &Running, authority: &Running, ledger: &Running, token: &Token) -> Self {
        let channel = |running: &Running| client::connect(&running.url(), Some(token)).unwrap();
        Self {
            sources: SourceServiceClient::new(channel(inventory)),
            inventory: InventoryServiceClient::new(channel(inventory)),
            disclosures: DisclosureServiceClient::new(channel(inventory))
                .max_decoding_message_size(client::MESSAGE_BYTES_MAX),
            tenants: TenantServiceClient::new(channel(authority)),
            policies: PolicyServiceClient::new(channel(authority)),
            principals: PrincipalServiceClient::new(channel(authority)),
            rights: DecisionRightServiceClient::new(channel(authority)),
            ledger: LedgerServiceClient::new(channel(ledger)),
        }
    }
}

impl Deployment {
    /// With tenant "acme", active.
    pub async fn start(db: TestDatabase) -> Self {
        let mut deployment = Self::without_tenant(db).await;
        deployment.onboard().await;
        deployment
    }

    /// The same with settings of the service's own.
    pub async fn start_with(db: TestDatabase, settings: InventoryConfig) -> Self {
        let mut deployment = Self::start(db).await;
        deployment.configure(settings).await;
        deployment
    }

    /// Goes on with other settings of the service's own.
    pub async fn configure(&mut self, settings: InventoryConfig) {
        self.config.inventory = settings;
        self.restart().await;
    }

    pub async fn without_tenant(db: TestDatabase) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = TestClock::new(NOW_MS);
        let known = |principal, role| credential(folder.path(), principal, role);
        let (admin, admin_credential) = known("operators/admin", "administrator");
        let (_, authority_credential) = known("services/authority", "service");
        let (_, own_credential) = known("services/inventory", "service");
        let (peer, peer_credential) = known("services/reconciliation", "service");
        let credentials = vec![
            admin_credential,
            authority_credential.clone(),
            own_credential.clone(),
            peer_credential,
        ];
        let service = |name| {
            let mut service = config(name, &db, folder.path());
            service.credentials = credentials.clone();
            service
        };
        // One for each, so that each can be stopped alone.
        let end = CancellationToken::new;
        let ledger =
            counterfoil_ledger::start(service("ledger").into(), clock.clock(), None, end())
                .await
                .unwrap();
        let mut settings = service("authority");
        settings.token_file = Some(authority_credential.token_file);
        settings.peers.ledger = Some(ledger.url());
        let authority = counterfoil_authority::start(settings.into(), clock.clock(), None, end())
            .await
            .unwrap();
        let mut settings = service("inventory");
        settings.token_file = Some(own_credential.token_file);
        settings.peers.ledger = Some(ledger.url());
        settings.peers.authority = Some(authority.url());
        let mut config = counterfoil_inventory::Config::from(settings);
        config.inventory.source_root = Some(folder.path().join("estates"));
        let inventory = counterfoil_inventory::start(config.clone(), clock.clock(), None, end())
            .await
            .unwrap();
        Self {
            ada: Clients::new(&inventory, &authority, &ledger, &admin),
            admin: Clients::new(&inventory, &authority, &ledger, &admin),
            service: Clients::new(&inventory, &authority, &ledger, &peer),
            clock,
            inventory: Some(inventory),
            authority,
            ledger,
            _db: db,
            folder,
            config,
        }
    }

    /// Sets tenant "acme" up; ada has a token before it is active, and makes herself the one that lasts.
    async fn onboard(&mut self) {
        prepare(&mut self.admin).await;
        self.ada = self.clients_of(&name_of("ada")).await;
        let request = ActivateTenantRequest {
            name: "tenants/acme".into(),
            request_id: String::new(),
        };
        self.ada.tenants.activate_tenant(request).await.unwrap();
        self.ada = self.clients_of(&name_of("ada")).await;
    }

    /// Clients of a principal of the tenant.
    pub async fn clients_of(&self, principal: &str) -> Clients {
        let request = IssueTokenRequest {
            principal: principal.to_owned(),
            ttl_seconds: 31_536_000,
            ..IssueTokenRequest::default()
        };
        let issued = self.ada.principals.clone().issue_token(request).await;
        let token = Token::parse(&issued.unwrap().into_inner().token).unwrap();
        let inventory = self.inventory.as_ref().unwrap();
        Clients::new(inventory, &self.authority, &self.ledger, &token)
    }

    /// Below which each tenant has a directory of its own.
    pub fn source_root(&self) -> PathBuf {
        self.folder.path().join("estates")
    }

    /// Token of the deployment's administrator, which the service can read and a tenant may not.
    pub fn admin_token(&self) -> PathBuf {
        self.folder
            .path()
            .join("keys")
            .join("operators-admin.token")
    }

    /// Folder of a source.
    pub fn files(&self, source: &str) -> PathBuf {
        let folder = self.source_root().join("acme").join(source);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    pub fn create_source(&self, id: &str, estate: &Estate) -> CreateSourceRequest {
        let folder = self.files(id);
        estate.write(&folder);
        CreateSourceRequest {
            tenant: "tenants/acme".into(),
            source_id: id.into(),
            source: Some(Source {
                display_name: format!("The {id} of Zebra"),
                config_json: serde_json::json!({"kind": "csv", "directory": folder}).to_string(),
                ..Source::default()
            }),
            request_id: String::new(),
        }
    }

    pub async fn add_source(&self, id: &str, estate: &Estate) {
        let request = self.create_source(id, estate);
        self.admin
            .sources
            .clone()
            .create_source(request)
            .await
            .unwrap();
    }

    /// Runs a sync to its seal, a second later than the one before.
    pub async fn sync(&self, source: &str) -> Sync {
        self.clock.advance_ms(1_000);
        let request = StartSyncRequest {
            source: format!("tenants/acme/sources/{source}"),
            ..StartSyncRequest::default()
        };
        let mut sources = self.ada.sources.clone();
        let started = sources.start_sync(request).await.unwrap().into_inner();
        self.watch(&started.sync.unwrap().name).await
    }

    /// Watches a sync to its seal.
    pub async fn watch(&self, name: &str) -> Sync {
        let mut sources = self.ada.sources.clone();
        let request = WatchSyncRequest { name: name.into() };
        let mut watched = sources.watch_sync(request).await.unwrap().into_inner();
        let mut last = None;
        while let Some(answer) = watched.message().await.unwrap() {
            last = answer.sync;
        }
        let last = last.unwrap();
        assert_ne!(last.state(), SyncState::Running);
        let request = GetSyncRequest { name: name.into() };
        let again = sources
            .get_sync(request)
            .await
            .unwrap()
            .into_inner()
            .sync
            .unwrap();
        assert_eq!((again.state, &again.set_root), (last.state, &last.set_root));
        again
    }

    /// Ends the inventory service and starts it again.
    pub async fn restart(&mut self) {
        self.inventory.take().unwrap().stop().await.unwrap();
        let end = CancellationToken::new();
        let started =
            counterfoil_inventory::start(self.config.clone(), self.clock.clock(), None, end).await;
        let started = started.unwrap();
        let path = self.folder.path().join("keys");
        let token = |name: &str| Token::load(&path.join(name)).unwrap();
        let clients = |token: &Token| Clients::new(&started, &self.authority, &self.ledger, token);
        self.admin = clients(&token("operators-admin.token"));
        self.service = clients(&token("services-reconciliation.token"));
        self.inventory = Some(started);
        self.ada = self.clients_of(&name_of("ada")).await;
    }
}

/// The reason of a refusal.
pub fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

pub fn name_of(principal: &str) -> String {
    format!("tenants/acme/principals/{principal}")
}

/// Tenant "acme" with "ada" (human of the customer, who administers and operates), ready to be activated.
async fn prepare(admin: &mut Clients) {
    create_tenant(admin).await;
    let tenant = || "tenants/acme".to_owned();
    let request = SetBusinessUnitOwnerRequest {
        business_unit: Some(BusinessUnit {
            name: "tenants/acme/business-units/sales".into(),
            display_name: "Sales".into(),
            owner: name_of("ada"),
            deputy: name_of("aud"),
            ..BusinessUnit::default()
        }),
        request_id: String::new(),
    };
    admin.rights.set_business_unit_owner(request).await.unwrap();
    let actions = [
        DecisionAction::Review,
        DecisionAction::Remediate,
        DecisionAction::Certify,
    ];
    let right = |action: DecisionAction| DecisionRight {
        grantee: name_of("ada"),
        action: action.into(),
        valid_to_time: Some(timestamp(NOW_MS + 300 * DAY_MS)),
        grantor: name_of("ada"),
        ..DecisionRight::default()
    };
    let request = GrantDecisionRightsRequest {
        tenant: tenant(),
        decision_rights: actions.map(right).to_vec(),
        request_id: String::new(),
    };
    admin.rights.grant_decision_rights(request).await.unwrap();
    let request = SetEscalationPathRequest {
        tenant: tenant(),
        levels: vec![EscalationLevel {
            principal: name_of("ada"),
            after_seconds: 3_600,
        }],
        last_resort: name_of("ada"),
        request_id: String::new(),
    };
    admin.tenants.set_escalation_path(request).await.unwrap();
    let request = SetRetentionPolicyRequest {
        tenant: tenant(),
        rules: vec![RetentionRule {
            retention_class: "governance".into(),
            duration_days: 3_650,
            basis: "SOX-404".into(),
            jurisdiction: "*".into(),
        }],
        request_id: String::new(),
    };
    admin.tenants.set_retention_policy(request).await.unwrap();
    let request = PublishPolicyRequest {
        tenant: tenant(),
        policy: Some(Policy::default()),
        request_id: String::new(),
    };
    admin.policies.publish_policy(request).await.unwrap();
}

/// Tenant "acme" with "ada", not active.
pub async fn create_tenant(admin: &mut Clients) {
    let request = CreateTenantRequest {
        tenant_id: "acme".into(),
        display_name: "Zebra Holding".into(),
        request_id: String::new(),
        ..Default::default()
    };
    admin.tenants.create_tenant(request).await.unwrap();
    for (id, kind) in [
        ("customer", OrganizationKind::Customer),
        ("provider", OrganizationKind::Provider),
    ] {
        let request = CreateOrganizationRequest {
            tenant: "tenants/acme".into(),
            organization_id: id.into(),
            display_name: "Zebra".into(),
            kind: kind.into(),
            request_id: String::new(),
        };
        admin.principals.create_organization(request).await.unwrap();
    }
    for (id, roles, organization) in [
        ("ada", &["tenant-administrator", "operator"][..], "customer"),
        ("aud", &["auditor"], "customer"),
        ("olga", &["operator"], "customer"),
        ("msp", &["operator"], "provider"),
    ] {
        let request = CreatePrincipalRequest {
            tenant: "tenants/acme".into(),
            principal_id: id.into(),
            principal: Some(Principal {
                display_name: format!("Ms {id}"),
                kind: PrincipalKind::Human.into(),
                organization: format!("tenants/acme/organizations/{organization}"),
                identity_key: format!("{id}@example.org"),
                roles: roles.iter().map(|role| (*role).to_owned()).collect(),
                ..Principal::default()
            }),
            request_id: String::new(),
        };
        admin.principals.create_principal(request).await.unwrap();
    }
}
