//! Principals and their tokens, over gRPC.

#![cfg(test)]

mod common;

use common::*;
use counterfoil_chassis::{both_engines, testing::TestDatabase};
use counterfoil_evidence::{catalogue::Payload, leaf::identity_tag, v1};
use counterfoil_proto::{authority::*, common::EvidenceState};
use prost::Message;
use tonic::Code;

async fn introspect(clients: &mut Clients, token: &str) -> Result<IntrospectTokenResponse, Code> {
    let request = IntrospectTokenRequest {
        token: token.to_owned(),
    };
    let answer = clients.principals.introspect_token(request).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| status.code())
}

async fn issue(clients: &mut Clients, principal: &str, ttl_seconds: i64) -> IssueTokenResponse {
    let request = IssueTokenRequest {
        principal: name_of(principal),
        ttl_seconds,
        ..IssueTokenRequest::default()
    };
    clients
        .principals
        .issue_token(request)
        .await
        .unwrap()
        .into_inner()
}

async fn end(
    clients: &mut Clients,
    principal: &str,
) -> Result<EndPrincipalResponse, tonic::Status> {
    let request = EndPrincipalRequest {
        name: name_of(principal),
        request_id: String::new(),
    };
    clients
        .principals
        .end_principal(request)
        .await
        .map(tonic::Response::into_inner)
}

both_engines! {
    async fn a_principal_leaves_a_record_that_names_nobody(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut admin = deployment.admin.clone();
        people(&mut admin).await;
        let salt = deployment.service.clone().tenants
            .get_tenant(GetTenantRequest { name: "tenants/acme".to_owned() }).await.unwrap()
            .into_inner().tenant.unwrap().correlation_salt;
        let logged = deployment.logged("acme").await;
        let registered: Vec<_> = logged.iter().filter_map(|(record, payload, _)| match payload {
            Payload::PrincipalRegistered(principal) => Some((record, principal)),
            _ => None,
        }).collect();
        assert_eq!(registered.len(), 4);
        let (record, ada) = &registered[0];
        assert_eq!(ada.principal, "principals/ada");
        assert_eq!((ada.kind(), ada.organization_kind()), (v1::PrincipalKind::Human, v1::OrganizationKind::Customer));
        assert_eq!(ada.identity_tag, identity_tag(&salt.try_into().unwrap(), "ada@zebra.example"));
        assert_eq!(record.commitment[0].label, "display_name");
        assert_eq!(record.actor, "operators/admin");
        // "Zebra" stands in every name and address of this tenant, and in no record.
        for (record, _, _) in &logged {
            let bytes = record.encode_to_vec().to_ascii_lowercase();
            assert!(!bytes.windows(5).any(|part| part == b"zebra"), "{}", record.r#type);
        }
    }

    /// Whoever is "ada@…" in a source is the same to us as "Ada@…": else she could review her own access.
    async fn a_principal_is_the_identity_of_its_key_however_it_is_written(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut admin = deployment.admin.clone();
        people(&mut admin).await;
        let mut request = create_principal("ada2", "customer", "reviewer");
        request.principal.as_mut().unwrap().identity_key = "ADA@Zebra.Example".into();
        let created = admin.principals.create_principal(request.clone()).await.unwrap().into_inner();
        assert_eq!(created.principal.unwrap().identity_key, "ada@zebra.example");
        let logged = deployment.logged("acme").await;
        let tag_of = |name: &str| logged.iter().find_map(|(_, payload, _)| match payload {
            Payload::PrincipalRegistered(one) if one.principal == name => Some(one.identity_tag.clone()),
            _ => None,
        }).unwrap();
        assert_eq!(tag_of("principals/ada2"), tag_of("principals/ada"));
        request.principal_id = "ada3".into();
        request.principal.as_mut().unwrap().identity_key = " ada@zebra.example".into();
        let refused = admin.principals.create_principal(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }

    async fn a_batch_is_created_as_a_whole_or_not_at_all(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut admin = deployment.admin.clone();
        people(&mut admin).await;
        let batch = |ids: &[&str]| BatchCreatePrincipalsRequest {
            tenant: "tenants/acme".to_owned(),
            requests: ids.iter().map(|id| create_principal(id, "customer", "reviewer")).collect(),
            request_id: "batch".to_owned(),
        };
        let taken = admin.principals.batch_create_principals(batch(&["c1", "ada"])).await.unwrap_err();
        assert_eq!((taken.code(), reason(&taken).as_str()), (Code::AlreadyExists, "PRINCIPAL_EXISTS"));
        let twice = admin.principals.batch_create_principals(batch(&["c1", "c1"])).await.unwrap_err();
        assert_eq!(twice.code(), Code::AlreadyExists);
        let mut bad = batch(&["c1", "C2", "c3"]);
        bad.requests[2].principal.as_mut().unwrap().roles = vec!["service".to_owned()];
        let refused = admin.principals.batch_create_principals(bad).await.unwrap_err();
        assert_eq!(fields(&refused), ["requests[1].principal_id", "requests[2].principal.roles"]);
        let get = GetPrincipalRequest { name: name_of("c1") };
        assert_eq!(admin.principals.get_principal(get).await.unwrap_err().code(), Code::NotFound);
        let created = admin.principals.batch_create_principals(batch(&["c1", "", "c2"])).await.unwrap().into_inner();
        assert_eq!(created.responses.len(), 3);
        assert!(created.responses.iter().all(|one| one.receipt.as_ref().unwrap().state() == EvidenceState::Logged));
        let again = admin.principals.batch_create_principals(batch(&["c1", "", "c2"])).await.unwrap().into_inner();
        assert_eq!(again, created);
        let list = ListPrincipalsRequest { tenant: "tenants/acme".to_owned(), page_size: 3, ..Default::default() };
        let first = admin.principals.list_principals(list.clone()).await.unwrap().into_inner();
        let list = ListPrincipalsRequest { page_token: first.next_page_token.clone(), page_size: 50, ..list };
        let rest = admin.principals.list_principals(list).await.unwrap().into_inner();
        assert_eq!((first.principals.len(), rest.principals.len()), (3, 4));
    }

    async fn a_principal_of_no_organisation_or_of_the_deployment_is_refused(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut admin = deployment.admin.clone();
        people(&mut admin).await;
        let unknown = admin.principals.create_principal(create_principal("x", "nowhere", "reviewer")).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
        for role in ["service", "administrator", "root"] {
            let refused = admin.principals.create_principal(create_principal("x", "customer", role)).await.unwrap_err();
            assert_eq!((refused.code(), fields(&refused)), (Code::InvalidArgument, vec!["principal.roles".to_owned()]));
        }
        let taken = admin.principals.create_organization(create_organization("customer", OrganizationKind::Vendor)).await.unwrap_err();
        assert_eq!(reason(&taken), "ORGANIZATION_EXISTS");
        let kindless = create_organization("other", OrganizationKind::Unspecified);
        assert_eq!(fields(&admin.principals.create_organization(kindless).await.unwrap_err()), ["kind"]);
        let list = ListOrganizationsRequest { tenant: "tenants/acme".to_owned(), ..Default::default() };
        let listed = admin.principals.list_organizations(list).await.unwrap().into_inner();
        assert_eq!(listed.organizations.len(), 3);
    }

    async fn an_ended_principal_is_refused_from_the_next_call_on(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let (mut admin, mut service) = (deployment.admin.clone(), deployment.service.clone());
        people(&mut admin).await;
        let granted = grant(&[right("ben", DecisionAction::Review, 30)]);
        admin.rights.grant_decision_rights(granted.clone()).await.unwrap();
        let token = issue(&mut admin, "ben", 600).await.token;
        assert_eq!(introspect(&mut service, &token).await.unwrap().principal, name_of("ben"));
        let ended = end(&mut admin, "ben").await.unwrap();
        assert_eq!(ended.receipt.unwrap().state(), EvidenceState::Logged);
        assert!(ended.principal.unwrap().end_time.is_some());
        assert_eq!(introspect(&mut service, &token).await, Err(Code::Unauthenticated));
        let request = CheckDecisionRightRequest { principal: name_of("ben"), action: DecisionAction::Review.into() };
        let held = service.rights.check_decision_right(request).await.unwrap().into_inner();
        assert_eq!(held.decision_rights, []);
        assert_eq!(reason(&end(&mut admin, "ben").await.unwrap_err()), "PRINCIPAL_ENDED");
        let refused = admin.principals.issue_token(IssueTokenRequest { principal: name_of("ben"), ttl_seconds: 0, ..IssueTokenRequest::default() }).await.unwrap_err();
        assert_eq!(reason(&refused), "PRINCIPAL_ENDED");
        let refused = admin.rights.grant_decision_rights(granted).await.unwrap_err();
        assert_eq!(reason(&refused), "NOT_GRANTABLE");
        assert_eq!(end(&mut admin, "nobody").await.unwrap_err().code(), Code::NotFound);
    }

    async fn the_last_resort_of_an_escalation_does_not_end(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut admin = deployment.admin.clone();
        people(&mut admin).await;
        admin.tenants.set_escalation_path(set_path("msp", "ben")).await.unwrap();
        assert_eq!(reason(&end(&mut admin, "ben").await.unwrap_err()), "IS_LAST_RESORT");
        admin.tenants.set_escalation_path(set_path("msp", "ada")).await.unwrap();
        end(&mut admin, "ben").await.unwrap();
    }

    async fn a_token_works_until_it_expires_or_is_revoked(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let (mut admin, mut service) = (deployment.admin.clone(), deployment.service.clone());
        people(&mut admin).await;
        let short = issue(&mut admin, "ada", 60).await;
        let long = issue(&mut admin, "ada", 31_536_000).await;
        let known = introspect(&mut service, &short.token).await.unwrap();
        assert_eq!((known.principal.as_str(), known.expire_time), (name_of("ada").as_str(), short.expire_time));
        assert_eq!(known.roles, ["tenant-administrator"]);
        deployment.clock.advance_ms(60_000);
        assert_eq!(introspect(&mut service, &short.token).await, Err(Code::Unauthenticated));
        introspect(&mut service, &long.token).await.unwrap();
        let mut revoke = RevokeTokenRequest { tenant: "tenants/beta".to_owned(), token_id: long.token_id };
        assert_eq!(admin.principals.revoke_token(revoke.clone()).await.unwrap_err().code(), Code::NotFound);
        revoke.tenant = "tenants/acme".to_owned();
        admin.principals.revoke_token(revoke).await.unwrap();
        assert_eq!(introspect(&mut service, &long.token).await, Err(Code::Unauthenticated));
        for token in ["", "cft_0", &short.token.to_uppercase()] {
            assert_eq!(introspect(&mut service, token).await, Err(Code::Unauthenticated));
        }
        for ttl_seconds in [-1, 1, 59, 31_536_001] {
            let request = IssueTokenRequest { principal: name_of("ada"), ttl_seconds, ..IssueTokenRequest::default() };
            assert_eq!(fields(&admin.principals.issue_token(request).await.unwrap_err()), ["ttl_seconds"]);
        }
        // What is kept of a token cannot be presented.
        let mut tx = deployment.tables().await.read_tx("acme").await.unwrap();
        let rows = sqlx::query("SELECT sha256 FROM tokens").fetch_all(tx.conn()).await.unwrap();
        assert_eq!(rows.len(), 2);
        for row in rows {
            let kept: Vec<u8> = sqlx::Row::get(&row, 0);
            assert_eq!(kept.len(), 32);
        }
    }

    async fn a_tenants_administrator_administers_its_tenant_and_no_other(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut admin = deployment.admin.clone();
        people(&mut admin).await;
        admin.tenants.create_tenant(create_tenant("beta")).await.unwrap();
        let mut ada = deployment.clients_of(&name_of("ada")).await;
        ada.principals.create_principal(create_principal("new", "customer", "operator")).await.unwrap();
        let logged = deployment.logged("acme").await;
        assert_eq!(logged.last().unwrap().0.actor, "principals/ada");
        let mut foreign = create_organization("customer", OrganizationKind::Customer);
        foreign.tenant = "tenants/beta".to_owned();
        assert_eq!(ada.principals.create_organization(foreign).await.unwrap_err().code(), Code::NotFound);
        let denied = ada.tenants.create_tenant(create_tenant("gamma")).await.unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied);
        let check = CheckDecisionRightRequest { principal: name_of("ada"), action: 1 };
        assert_eq!(ada.rights.check_decision_right(check).await.unwrap_err().code(), Code::PermissionDenied);
        let own = IntrospectTokenRequest::default();
        assert_eq!(ada.principals.introspect_token(own).await.unwrap_err().code(), Code::PermissionDenied);
        let mut auditor = deployment.clients_of(&name_of("auditor")).await;
        let denied = auditor.principals.create_principal(create_principal("y", "customer", "operator")).await.unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied);
        auditor.principals.get_principal(GetPrincipalRequest { name: name_of("ada") }).await.unwrap();
    }
}
