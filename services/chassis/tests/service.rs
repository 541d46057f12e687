//! A whole service from its configuration, with an authority to ask, on both engines.

#![cfg(test)]

mod common;

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{ORIGIN, Served, SmallLedger, draft};
use counterfoil_chassis::{
    Caller, CancellationToken, Chassis, Clock, Face, Role, Setup, StartError,
    auth::Token,
    both_engines, client,
    config::{Limits, ServiceConfig},
    disclosure::Disclosures,
    server::Running,
    testing::{self, TestDatabase},
};
use counterfoil_proto::{
    authority::{
        principal_service_server::{PrincipalService, PrincipalServiceServer},
        tenant_service_server::{TenantService, TenantServiceServer},
        *,
    },
    common::{StreamDisclosuresRequest, disclosure_service_client::DisclosureServiceClient},
    ledger::ledger_service_server::LedgerServiceServer,
};
use tonic::{Code, Request, Response, Status, service::Routes};

/// Knows tenants and tokens, and counts how often it is asked.
#[derive(Clone, Default)]
struct SmallAuthority {
    asked: Arc<AtomicUsize>,
    away: Arc<AtomicBool>,
    tenants: Arc<Mutex<HashMap<String, Tenant>>>,
    tokens: Arc<Mutex<HashMap<String, IntrospectTokenResponse>>>,
}

// Written as `async_trait` would: it does not look into macros.
macro_rules! absent {
    ($($method:ident $request:ident $response:ident;)*) => {
        $(fn $method<'s, 'f>(
            &'s self,
            _: Request<$request>,
        ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<$response>, Status>> + Send + 'f>>
        where
            's: 'f,
            Self: 'f,
        {
            Box::pin(async { Err(Status::unimplemented("not part of this authority")) })
        })*
    };
}

#[tonic::async_trait]
impl TenantService for SmallAuthority {
    async fn get_tenant(
        &self,
        request: Request<GetTenantRequest>,
    ) -> Result<Response<GetTenantResponse>, Status> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) {
            return Err(Status::unavailable("away"));
        }
        let tenant = self
            .tenants
            .lock()
            .unwrap()
            .get(&request.get_ref().name)
            .cloned();
        let tenant = tenant.ok_or_else(|| Status::not_found("not found"))?;
        Ok(Response::new(GetTenantResponse {
            tenant: Some(tenant),
        }))
    }

    absent! {
        create_tenant CreateTenantRequest CreateTenantResponse;
        list_tenants ListTenantsRequest ListTenantsResponse;
        activate_tenant ActivateTenantRequest ActivateTenantResponse;
        set_escalation_path SetEscalationPathRequest SetEscalationPathResponse;
        set_retention_policy SetRetentionPolicyRequest SetRetentionPolicyResponse;
        place_legal_hold PlaceLegalHoldRequest PlaceLegalHoldResponse;
        release_legal_hold ReleaseLegalHoldRequest ReleaseLegalHoldResponse;
        list_legal_holds ListLegalHoldsRequest ListLegalHoldsResponse;
        suspend_tenant SuspendTenantRequest SuspendTenantResponse;
        resume_tenant ResumeTenantRequest ResumeTenantResponse;
        begin_exit BeginExitRequest BeginExitResponse;
        record_evidence_pack RecordEvidencePackRequest RecordEvidencePackResponse;
        close_tenant CloseTenantRequest CloseTenantResponse;
    }
}

#[tonic::async_trait]
impl PrincipalService for SmallAuthority {
    async fn introspect_token(
        &self,
        request: Request<IntrospectTokenRequest>,
    ) -> Result<Response<IntrospectTokenResponse>, Status> {
        let found = self
            .tokens
            .lock()
            .unwrap()
            .get(&request.get_ref().token)
            .cloned();
        found
            .map(Response::new)
            .ok_or_else(|| Status::unauthenticated("nobody"))
    }

    absent! {
        create_organization CreateOrganizationRequest CreateOrganizationResponse;
        list_organizations ListOrganizationsRequest ListOrganizationsResponse;
        create_principal CreatePrincipalRequest CreatePrincipalResponse;
        batch_create_principals BatchCreatePrincipalsRequest BatchCreatePrincipalsResponse;
        get_principal GetPrincipalRequest GetPrincipalResponse;
        list_principals ListPrincipalsRequest ListPrincipalsResponse;
        end_principal EndPrincipalRequest EndPrincipalResponse;
        issue_token IssueTokenRequest IssueTokenResponse;
        revoke_token RevokeTokenRequest RevokeTokenResponse;
    }
}

/// An authority that knows "acme", and the configuration of a service that asks it with its own token.
async fn with_authority(
    authority: &SmallAuthority,
    db: &TestDatabase,
    folder: &Path,
) -> (Served, ServiceConfig) {
    let tenant = Tenant {
        name: "tenants/acme".into(),
        state: TenantState::Active.into(),
        log_origin: ORIGIN.into(),
        correlation_salt: vec![1; 32],
        ..Default::default()
    };
    authority
        .tenants
        .lock()
        .unwrap()
        .insert(tenant.name.clone(), tenant);
    let (token, own) = testing::credential(folder, "services/recertification", "service");
    let mut routes = Routes::builder();
    routes.add_service(TenantServiceServer::new(authority.clone()));
    routes.add_service(PrincipalServiceServer::new(authority.clone()));
    let caller = Caller::of_deployment("services/recertification", [Role::Service]);
    let routes = routes.routes();
    let served = Served::start_as(routes, token, caller, Limits::default(), "127.0.0.1:0").await;
    let mut config = testing::config("recertification", db, folder);
    config.token_file = Some(own.token_file);
    config.peers.authority = Some(served.running.url());
    (served, config)
}

async fn start(config: ServiceConfig) -> Result<Chassis, StartError> {
    Chassis::start(Setup {
        service: "recertification",
        config,
        migrations: &[],
        clock: Clock::system(),
        listener: None,
        shutdown: CancellationToken::new(),
    })
    .await
}

async fn disclosures(running: &Running, token: &Token, tenant: &str) -> Result<(), Status> {
    let channel = client::connect(&running.url(), Some(token)).unwrap();
    let request = StreamDisclosuresRequest {
        tenant: format!("tenants/{tenant}"),
    };
    DisclosureServiceClient::new(channel)
        .stream_disclosures(request)
        .await
        .map(|_| ())
}

both_engines! {
    async fn a_service_starts_emits_relays_and_stops(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let authority = SmallAuthority::default();
        let (_served, mut config) = with_authority(&authority, &db, folder.path()).await;
        let ledger = SmallLedger::default();
        // The ledger knows the service by the token that the service shows.
        let token = Token::load(config.token_file.as_deref().unwrap()).unwrap();
        let caller = Caller::of_deployment("services/recertification", [Role::Service]);
        let service = LedgerServiceServer::new(ledger.clone());
        let served = Served::start_as(Routes::new(service), token, caller, Limits::default(), "127.0.0.1:0").await;
        config.peers.ledger = Some(served.running.url());
        let chassis = start(config.clone()).await.unwrap();
        let tenant = chassis.tenants().unwrap().require_active("acme").await.unwrap();
        assert_eq!((tenant.log_origin.as_str(), tenant.correlation_salt.len()), (ORIGIN, 32));
        let (db, outbox) = (chassis.db.clone(), chassis.outbox.clone());
        let running = chassis.serve(Face::default()).await.unwrap();
        let mut tx = db.write_tx("acme").await.unwrap();
        let emitted = outbox.emit(&mut tx, draft(1)).await.unwrap();
        tx.commit().await.unwrap();
        let receipts = outbox.await_receipts("acme", &[emitted.record_id], Duration::from_secs(30)).await;
        assert_eq!(receipts.unwrap()[0].index, 0);
        running.stop().await.unwrap();
        // A second start finds database, key and stream as they were.
        let again = start(config).await.unwrap();
        assert_eq!(again.outbox.key().key_id(), outbox.key().key_id());
        let mut tx = again.db.write_tx("acme").await.unwrap();
        assert_eq!(again.outbox.emit(&mut tx, draft(2)).await.unwrap().stream_seq, 2);
    }

    async fn a_tenants_principal_gets_in_and_stays_in_its_tenant(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let authority = SmallAuthority::default();
        let (_served, config) = with_authority(&authority, &db, folder.path()).await;
        let chassis = start(config).await.unwrap();
        chassis.tenants().unwrap().require("acme").await.unwrap();
        let routes = Routes::new(Disclosures::new(chassis.outbox.clone()).into_server());
        let running = chassis.serve(Face { routes, ..Face::default() }).await.unwrap();
        let issue = |principal: &str, role: &str| {
            let token = Token::generate().unwrap();
            let answer = IntrospectTokenResponse {
                principal: principal.into(),
                roles: vec![role.into()],
                expire_time: None,
                ..IntrospectTokenResponse::default()
            };
            authority.tokens.lock().unwrap().insert(token.expose().into(), answer);
            token
        };
        let auditor = issue("tenants/acme/principals/a", "auditor");
        let foreign = issue("tenants/beta/principals/a", "auditor");
        let reviewer = issue("tenants/acme/principals/r", "reviewer");
        assert!(disclosures(&running, &auditor, "acme").await.is_ok());
        let code = async |token, tenant| disclosures(&running, token, tenant).await.unwrap_err().code();
        assert_eq!(code(&foreign, "acme").await, Code::NotFound);
        assert_eq!(code(&reviewer, "acme").await, Code::PermissionDenied);
        assert_eq!(code(&Token::generate().unwrap(), "acme").await, Code::Unauthenticated);
        running.stop().await.unwrap();
    }

    async fn authority_is_asked_once_a_second_and_its_absence_is_told(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let authority = SmallAuthority::default();
        let (_served, config) = with_authority(&authority, &db, folder.path()).await;
        let chassis = start(config).await.unwrap();
        let tenants = chassis.tenants().unwrap();
        for _ in 0..10 {
            tenants.require("acme").await.unwrap();
        }
        // A slow machine may need a second for ten look-ups; it never needs ten.
        assert!(authority.asked.load(Ordering::SeqCst) < 10);
        assert_eq!(tenants.require("beta").await.unwrap_err().code(), Code::NotFound);
        authority.away.store(true, Ordering::SeqCst);
        let away = tenants.require("gamma").await.unwrap_err();
        assert_eq!((away.code(), away.reason()), (Code::Unavailable, "PEER_UNAVAILABLE"));
        assert_eq!(tenants.require("acme").await.unwrap().id, "acme");
    }

    async fn a_tenant_that_is_not_active_is_refused_with_its_reason(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let authority = SmallAuthority::default();
        let (_served, config) = with_authority(&authority, &db, folder.path()).await;
        for tenant in authority.tenants.lock().unwrap().values_mut() {
            tenant.state = TenantState::Onboarding.into();
        }
        let chassis = start(config).await.unwrap();
        let error = chassis.tenants().unwrap().require_active("acme").await.unwrap_err();
        assert_eq!((error.code(), error.reason()), (Code::FailedPrecondition, "TENANT_NOT_ACTIVE"));
    }

    async fn a_peer_that_is_not_configured_is_named(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let chassis = start(testing::config("recertification", &db, folder.path())).await.unwrap();
        assert!(matches!(chassis.tenants(), Err(StartError::Peer("authority"))));
        assert!(matches!(chassis.inventory(), Err(StartError::Peer("inventory"))));
    }
}
