//! A whole authority service beside a real ledger service, and clients of both.

#![allow(dead_code, reason = "not every test file uses every part")]

pub(crate) mod mandates;
pub(crate) mod provider;

use counterfoil_authority::IssuerConfig;
use counterfoil_chassis::{
    CancellationToken, Database, TestClock,
    auth::Token,
    client::{self, ServiceChannel},
    clock::timestamp,
    config::StaticCredential,
    server::Running,
    testing::{TestDatabase, config, credential},
};
use counterfoil_evidence::{
    catalogue::{Payload, decode_payload},
    record::{decode_entry, decode_record, record_hash},
    replay::{Blobs, Replay, Verdict, prepare},
    v1::Record,
};
use counterfoil_proto::{
    authority::{
        credential_service_client::CredentialServiceClient,
        decision_right_service_client::DecisionRightServiceClient,
        delegation_service_client::DelegationServiceClient,
        emergency_service_client::EmergencyServiceClient,
        engagement_service_client::EngagementServiceClient,
        mandate_service_client::MandateServiceClient, policy_service_client::PolicyServiceClient,
        principal_service_client::PrincipalServiceClient,
        qualification_service_client::QualificationServiceClient,
        tenant_service_client::TenantServiceClient, *,
    },
    ledger::{
        ListEntriesRequest, StreamEntriesRequest, ledger_service_client::LedgerServiceClient,
    },
};
use tonic::Status;
use tonic_types::StatusExt;

/// 2026-11-21T12:00:00Z.
pub(crate) const NOW_MS: i64 = 1_795_262_400_000;
pub(crate) const DAY_MS: i64 = 86_400_000;

struct NoBlobs;

impl Blobs for NoBlobs {
    fn load(&self, _sha256: &[u8; 32]) -> Option<Vec<u8>> {
        None
    }
}

/// Authority and ledger on one database, with a clock that the test owns.
pub(crate) struct Deployment {
    pub(crate) clock: TestClock,
    pub(crate) admin: Clients,
    pub(crate) service: Clients,
    pub(crate) authority: Running,
    pub(crate) jobs: counterfoil_authority::Jobs,
    pub(crate) ledger: Running,
    pub(crate) db: TestDatabase,
    folder: tempfile::TempDir,
    /// Who administers the tenant for the customer, and her token; once it is active.
    pub(crate) ada: std::sync::OnceLock<(Clients, String)>,
}

/// What one caller calls with.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) tenants: TenantServiceClient<ServiceChannel>,
    pub(crate) policies: PolicyServiceClient<ServiceChannel>,
    pub(crate) principals: PrincipalServiceClient<ServiceChannel>,
    pub(crate) rights: DecisionRightServiceClient<ServiceChannel>,
    pub(crate) credentials: CredentialServiceClient<ServiceChannel>,
    pub(crate) engagements: EngagementServiceClient<ServiceChannel>,
    pub(crate) qualifications: QualificationServiceClient<ServiceChannel>,
    pub(crate) delegations: DelegationServiceClient<ServiceChannel>,
    pub(crate) emergencies: EmergencyServiceClient<ServiceChannel>,
    pub(crate) mandates: MandateServiceClient<ServiceChannel>,
    pub(crate) ledger: LedgerServiceClient<ServiceChannel>,
}

impl Clients {
    fn new(authority: &Running, ledger: &Running, token: &Token) -> Self {
        let channel = client::connect(&authority.url(), Some(token)).unwrap();
        Self {
            tenants: TenantServiceClient::new(channel.clone()),
            policies: PolicyServiceClient::new(channel.clone()),
            principals: PrincipalServiceClient::new(channel.clone()),
            credentials: CredentialServiceClient::new(channel.clone()),
            rights: DecisionRightServiceClient::new(channel.clone()),
            engagements: EngagementServiceClient::new(channel.clone()),
            qualifications: QualificationServiceClient::new(channel.clone()),
            delegations: DelegationServiceClient::new(channel.clone()),
            emergencies: EmergencyServiceClient::new(channel.clone()),
            mandates: MandateServiceClient::new(channel),
            ledger: LedgerServiceClient::new(client::connect(&ledger.url(), Some(token)).unwrap()),
        }
    }
}

impl Deployment {
    pub(crate) async fn start(db: TestDatabase) -> Self {
        Self::start_with(db, Vec::new()).await
    }

    /// With these identity providers.
    pub(crate) async fn start_with(db: TestDatabase, issuers: Vec<IssuerConfig>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = TestClock::new(NOW_MS);
        let (admin, admin_credential) =
            credential(folder.path(), "operators/admin", "administrator");
        let (own, own_credential) = credential(folder.path(), "services/authority", "service");
        let (peer, peer_credential) =
            credential(folder.path(), "services/recertification", "service");
        let credentials = vec![admin_credential, own_credential.clone(), peer_credential];
        let ledger = start_ledger(&db, &folder, &clock, &credentials).await;
        let mut service = config("authority", &db, folder.path());
        service.credentials = credentials;
        service.token_file = Some(own_credential.token_file);
        service.peers.ledger = Some(ledger.url());
        let config = counterfoil_authority::Config { service, issuers };
        let end = CancellationToken::new();
        let (authority, jobs) =
            counterfoil_authority::start_with_jobs(config, clock.clock(), None, end)
                .await
                .unwrap();
        drop(own);
        Self {
            admin: Clients::new(&authority, &ledger, &admin),
            service: Clients::new(&authority, &ledger, &peer),
            clock,
            authority,
            jobs,
            ledger,
            db,
            folder,
            ada: std::sync::OnceLock::new(),
        }
    }

    /// Brings tenant "acme" to ACTIVE and answers the clients of ada, who administers it. The token that she has from before ends
    /// a day after the activation, so she makes herself another.
    pub(crate) async fn active(&self) -> Clients {
        people(&mut self.admin.clone()).await;
        self.complete().await;
        let first = self.clients_with(&self.token_of(&name_of("ada")).await);
        let mut tenants = first.tenants.clone();
        tenants.activate_tenant(activate()).await.unwrap();
        let token = token_by(&first, &name_of("ada"), 365).await;
        let ada = self.clients_with(&token);
        self.ada.set((ada.clone(), token)).ok().unwrap();
        ada
    }

    /// Brings tenant "acme" with its people to where nothing is missing for its activation.
    pub(crate) async fn complete(&self) {
        let mut admin = self.admin.clone();
        let rights = &mut admin.rights;
        rights
            .set_business_unit_owner(set_owner("all", "ada", "ben"))
            .await
            .unwrap();
        let all = [
            DecisionAction::Review,
            DecisionAction::Remediate,
            DecisionAction::Certify,
        ];
        rights
            .grant_decision_rights(grant(&all.map(|action| right("ada", action, 300))))
            .await
            .unwrap();
        let tenants = &mut admin.tenants;
        tenants
            .set_escalation_path(set_path("ben", "ada"))
            .await
            .unwrap();
        tenants
            .set_retention_policy(set_retention("governance"))
            .await
            .unwrap();
        let policies = &mut admin.policies;
        policies
            .publish_policy(publish(Policy::default()))
            .await
            .unwrap();
    }

    /// Clients of a principal of a tenant, by a token issued to it.
    pub(crate) async fn clients_of(&self, principal: &str) -> Clients {
        self.clients_of_for(principal, 1).await
    }

    /// The same, by a token that lives so many days.
    pub(crate) async fn clients_of_for(&self, principal: &str, days: i64) -> Clients {
        self.clients_with(&self.token_for(principal, days).await)
    }

    /// A token of a principal that lives a year.
    pub(crate) async fn token_of(&self, principal: &str) -> String {
        self.token_for(principal, 365).await
    }

    /// A token of a principal; by ada once her tenant is active.
    async fn token_for(&self, principal: &str, days: i64) -> String {
        let ada = self
            .ada
            .get()
            .filter(|_| principal.starts_with("tenants/acme/"));
        token_by(ada.map_or(&self.admin, |(ada, _)| ada), principal, days).await
    }

    /// Clients that present this token.
    pub(crate) fn clients_with(&self, token: &str) -> Clients {
        Clients::new(&self.authority, &self.ledger, &Token::parse(token).unwrap())
    }

    /// Authority's tables, beside the service.
    pub(crate) async fn tables(&self) -> Database {
        let url = self.db.url("authority");
        Database::connect(&url, "authority").await.unwrap()
    }

    /// Lets what was begun go on until it waits: many answers of the same service come later.
    pub(crate) async fn go_on(&self, clients: &Clients) {
        for _ in 0..30 {
            let request = GetTenantRequest {
                name: "tenants/acme".to_owned(),
            };
            clients.tenants.clone().get_tenant(request).await.unwrap();
        }
    }

    /// The auditor's replay finds nothing wrong with what stands in a tenant's log.
    pub(crate) async fn replayed(&self, tenant: &str) {
        let request = StreamEntriesRequest {
            tenant: format!("tenants/{tenant}"),
            from_index: 0,
            follow: false,
        };
        let mut ledger = self.service.ledger.clone();
        let answer = ledger.stream_entries(request).await.unwrap();
        let mut stream = answer.into_inner();
        let mut replay = Replay::new();
        while let Some(answer) = stream.message().await.unwrap() {
            let entry = decode_entry(&answer.entry.unwrap().entry).unwrap();
            let record = decode_record(&entry.record).unwrap();
            replay.push(entry.recorded_at_ms, prepare(&entry.record, record));
        }
        for judgement in replay.finish(&NoBlobs).judgements {
            let (check, detail) = (judgement.check.id, judgement.detail);
            assert_ne!(judgement.verdict, Verdict::Fail, "{check}: {detail}");
        }
    }

    /// All records of authority in the tenant's log, in order, with their hashes.
    pub(crate) async fn logged(&self, tenant: &str) -> Vec<(Record, Payload, [u8; 32])> {
        let request = ListEntriesRequest {
            tenant: format!("tenants/{tenant}"),
            stream: "authority".to_owned(),
            page_size: 1_000,
            ..ListEntriesRequest::default()
        };
        let page = self
            .service
            .ledger
            .clone()
            .list_entries(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            page.next_page_token, "",
            "more records than the test expects"
        );
        let entries = page.entries.iter().map(|entry| {
            let entry = decode_entry(&entry.entry).unwrap();
            let record = decode_record(&entry.record).unwrap();
            let payload = decode_payload(&record.r#type, &record.payload)
                .unwrap()
                .unwrap();
            let hash = record_hash(&entry.record);
            (record, payload, hash)
        });
        entries.collect()
    }
}

/// A token of a principal that lives so many days, issued by these.
pub(crate) async fn token_by(issuer: &Clients, principal: &str, days: i64) -> String {
    let request = IssueTokenRequest {
        principal: principal.to_owned(),
        ttl_seconds: days * 86_400,
        ..IssueTokenRequest::default()
    };
    let issued = issuer.principals.clone().issue_token(request).await;
    issued.unwrap().into_inner().token
}

async fn start_ledger(
    db: &TestDatabase,
    folder: &tempfile::TempDir,
    clock: &TestClock,
    credentials: &[StaticCredential],
) -> Running {
    let mut service = config("ledger", db, folder.path());
    service.credentials = credentials.to_vec();
    let shutdown = CancellationToken::new();
    counterfoil_ledger::start(service.into(), clock.clock(), None, shutdown)
        .await
        .unwrap()
}

/// The reason of a refusal.
pub(crate) fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

/// A pair of a refusal's metadata.
pub(crate) fn metadata(status: &Status, key: &str) -> String {
    let details = status.get_error_details();
    let found = details
        .error_info()
        .and_then(|info| info.metadata.get(key).cloned());
    found.unwrap_or_else(|| format!("{:?}", status.code()))
}

/// The fields that a refusal names.
pub(crate) fn fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = details
        .bad_request()
        .map(|bad| bad.field_violations.clone());
    violations
        .unwrap_or_default()
        .into_iter()
        .map(|one| one.field)
        .collect()
}

/// The kinds of the preconditions that a refusal lists.
pub(crate) fn violations(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = details
        .precondition_failure()
        .map(|failure| failure.violations.clone());
    violations
        .unwrap_or_default()
        .into_iter()
        .map(|one| one.r#type)
        .collect()
}

pub(crate) fn create_tenant(id: &str) -> CreateTenantRequest {
    CreateTenantRequest {
        tenant_id: id.to_owned(),
        display_name: "Zebra Holding".to_owned(),
        request_id: String::new(),
        ..Default::default()
    }
}

pub(crate) fn create_organization(id: &str, kind: OrganizationKind) -> CreateOrganizationRequest {
    CreateOrganizationRequest {
        tenant: "tenants/acme".to_owned(),
        organization_id: id.to_owned(),
        display_name: "An organisation".to_owned(),
        kind: kind.into(),
        request_id: String::new(),
    }
}

pub(crate) fn create_principal(id: &str, organization: &str, role: &str) -> CreatePrincipalRequest {
    CreatePrincipalRequest {
        tenant: "tenants/acme".to_owned(),
        principal_id: id.to_owned(),
        principal: Some(Principal {
            display_name: format!("Ms {id} Zebra"),
            kind: PrincipalKind::Human.into(),
            organization: format!("tenants/acme/organizations/{organization}"),
            identity_key: format!("{id}@zebra.example"),
            roles: vec![role.to_owned()],
            ..Principal::default()
        }),
        request_id: String::new(),
    }
}

pub(crate) fn name_of(principal: &str) -> String {
    format!("tenants/acme/principals/{principal}")
}

pub(crate) fn set_owner(unit: &str, owner: &str, deputy: &str) -> SetBusinessUnitOwnerRequest {
    SetBusinessUnitOwnerRequest {
        business_unit: Some(BusinessUnit {
            name: format!("tenants/acme/business-units/{unit}"),
            display_name: "Zebra Sales".to_owned(),
            owner: name_of(owner),
            deputy: if deputy.is_empty() {
                String::new()
            } else {
                name_of(deputy)
            },
            effective_time: None,
        }),
        request_id: String::new(),
    }
}

pub(crate) fn right(grantee: &str, action: DecisionAction, days: i64) -> DecisionRight {
    DecisionRight {
        grantee: name_of(grantee),
        action: action.into(),
        valid_to_time: Some(timestamp(NOW_MS + days * DAY_MS)),
        grantor: name_of("ada"),
        ..DecisionRight::default()
    }
}

pub(crate) fn grant(rights: &[DecisionRight]) -> GrantDecisionRightsRequest {
    GrantDecisionRightsRequest {
        tenant: "tenants/acme".to_owned(),
        decision_rights: rights.to_vec(),
        request_id: String::new(),
    }
}

pub(crate) fn set_path(asked: &str, last_resort: &str) -> SetEscalationPathRequest {
    SetEscalationPathRequest {
        tenant: "tenants/acme".to_owned(),
        levels: vec![EscalationLevel {
            principal: name_of(asked),
            after_seconds: 3_600,
        }],
        last_resort: name_of(last_resort),
        request_id: String::new(),
    }
}

pub(crate) fn set_retention(class: &str) -> SetRetentionPolicyRequest {
    SetRetentionPolicyRequest {
        tenant: "tenants/acme".to_owned(),
        rules: vec![RetentionRule {
            retention_class: class.to_owned(),
            duration_days: 3_650,
            basis: "SOX-404".to_owned(),
            jurisdiction: "*".to_owned(),
        }],
        request_id: String::new(),
    }
}

pub(crate) fn publish(policy: Policy) -> PublishPolicyRequest {
    PublishPolicyRequest {
        tenant: "tenants/acme".to_owned(),
        policy: Some(policy),
        request_id: String::new(),
    }
}

pub(crate) fn activate() -> ActivateTenantRequest {
    ActivateTenantRequest {
        name: "tenants/acme".to_owned(),
        request_id: String::new(),
    }
}

/// Tenant "acme" with customer humans "ada" (administrator of the tenant) and "ben", "msp" (administrator, of the provider)
/// and "auditor" (of an auditor). Nobody is accountable yet.
pub(crate) async fn people(admin: &mut Clients) {
    admin
        .tenants
        .create_tenant(create_tenant("acme"))
        .await
        .unwrap();
    for (id, kind) in [
        ("customer", OrganizationKind::Customer),
        ("provider", OrganizationKind::Provider),
        ("auditors", OrganizationKind::Auditor),
    ] {
        admin
            .principals
            .create_organization(create_organization(id, kind))
            .await
            .unwrap();
    }
    for (id, organization, role) in [
        ("ada", "customer", "tenant-administrator"),
        ("ben", "customer", "reviewer"),
        ("msp", "provider", "tenant-administrator"),
        ("auditor", "auditors", "auditor"),
    ] {
        let request = create_principal(id, organization, role);
        admin.principals.create_principal(request).await.unwrap();
    }
}
