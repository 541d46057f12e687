//! Tenants, over gRPC: creating one with its log, the gate, and who sees what.

#![cfg(test)]

mod common;

use common::*;
use counterfoil_chassis::{both_engines, testing::TestDatabase};
use counterfoil_evidence::{catalogue::Payload, v1};
use counterfoil_proto::{authority::*, common::EvidenceState, ledger::CreateLogRequest};
use tonic::Code;

const ALL: [&str; 9] = [
    "customer_organization",
    "provider_organization",
    "business_unit_owner",
    "decision_rights.review",
    "decision_rights.remediate",
    "decision_rights.certify",
    "escalation_path",
    "retention_policy",
    "policy_bundle",
];

/// Activation is refused with all that is missing; GetTenant says the same.
async fn expect_missing(admin: &mut Clients, missing: &[&str]) {
    let refused = admin.tenants.activate_tenant(activate()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(reason(&refused), "TENANT_INCOMPLETE");
    assert_eq!(violations(&refused), missing);
    assert_eq!(tenant(admin).await.missing_requirements, missing);
}

async fn tenant(clients: &mut Clients) -> Tenant {
    let request = GetTenantRequest {
        name: "tenants/acme".to_owned(),
    };
    clients
        .tenants
        .get_tenant(request)
        .await
        .unwrap()
        .into_inner()
        .tenant
        .unwrap()
}

both_engines! {
    async fn a13_activation_lists_everything_that_is_missing(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut admin = deployment.admin.clone();
        admin.tenants.create_tenant(create_tenant("acme")).await.unwrap();
        expect_missing(&mut admin, &ALL).await;
        let principals = &mut admin.principals.clone();
        let customer = create_organization("customer", OrganizationKind::Customer);
        principals.create_organization(customer).await.unwrap();
        let provider = create_organization("provider", OrganizationKind::Provider);
        principals.create_organization(provider).await.unwrap();
        // An organisation for which nobody acts takes no part.
        expect_missing(&mut admin, &ALL).await;
        principals.create_principal(create_principal("ada", "customer", "tenant-administrator")).await.unwrap();
        expect_missing(&mut admin, &ALL[1..]).await;
        principals.create_principal(create_principal("msp", "provider", "operator")).await.unwrap();
        expect_missing(&mut admin, &ALL[2..]).await;
        let rights = &mut admin.rights.clone();
        // An owner whom nobody stands in for is half an answer.
        rights.set_business_unit_owner(set_owner("all", "ada", "")).await.unwrap();
        expect_missing(&mut admin, &ALL[2..]).await;
        principals.create_principal(create_principal("dan", "customer", "auditor")).await.unwrap();
        rights.set_business_unit_owner(set_owner("all", "ada", "dan")).await.unwrap();
        expect_missing(&mut admin, &ALL[3..]).await;
        for (position, action) in [DecisionAction::Review, DecisionAction::Remediate, DecisionAction::Certify].into_iter().enumerate() {
            rights.grant_decision_rights(grant(&[right("ada", action, 30)])).await.unwrap();
            expect_missing(&mut admin, &ALL[4 + position..]).await;
        }
        let tenants = &mut admin.tenants.clone();
        tenants.set_escalation_path(set_path("msp", "ada")).await.unwrap();
        expect_missing(&mut admin, &ALL[7..]).await;
        tenants.set_retention_policy(set_retention("governance")).await.unwrap();
        expect_missing(&mut admin, &ALL[8..]).await;
        admin.policies.publish_policy(publish(Policy::default())).await.unwrap();

        let ada = deployment.clients_of(&name_of("ada")).await;
        let tenants = &mut ada.tenants.clone();
        let activated = tenants.activate_tenant(activate()).await.unwrap().into_inner();
        let receipt = activated.receipt.unwrap();
        assert_eq!(receipt.state(), EvidenceState::Logged);
        assert_eq!(activated.tenant.unwrap().state(), TenantState::Active);
        assert_eq!(tenant(&mut admin).await.missing_requirements, [""; 0]);

        // Activating it again changes nothing, and proves the activation that happened.
        let again = tenants.activate_tenant(activate()).await.unwrap().into_inner();
        assert_eq!(again.receipt.unwrap().record_id, receipt.record_id);

        // The record of the activation cites a record of this log for each requirement.
        let logged = deployment.logged("acme").await;
        let (last, payload, hash) = logged.last().unwrap();
        assert_eq!(hash.to_vec(), receipt.record_hash);
        let Payload::TenantLifecycleChanged(change) = payload else { panic!("{}", last.r#type) };
        assert_eq!((change.from(), change.to()), (v1::TenantState::Onboarding, v1::TenantState::Active));
        let requirements: Vec<&str> = change.gate_results.iter().map(|one| one.requirement.as_str()).collect();
        assert_eq!(requirements, ALL);
        for result in &change.gate_results {
            assert!(logged.iter().any(|(_, _, hash)| hash[..] == result.record_hash), "{}", result.requirement);
        }
    }

    async fn a13_a_right_that_has_run_out_is_missing_again(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut admin = deployment.admin.clone();
        people(&mut admin).await;
        admin.rights.set_business_unit_owner(set_owner("all", "ada", "ben")).await.unwrap();
        let rights = [DecisionAction::Review, DecisionAction::Remediate, DecisionAction::Certify]
            .map(|action| right("ben", action, 1));
        admin.rights.grant_decision_rights(grant(&rights)).await.unwrap();
        admin.tenants.set_escalation_path(set_path("ben", "ada")).await.unwrap();
        admin.tenants.set_retention_policy(set_retention("governance")).await.unwrap();
        admin.policies.publish_policy(publish(Policy::default())).await.unwrap();
        deployment.clock.advance_ms(DAY_MS);
        expect_missing(&mut admin, &ALL[3..6]).await;
    }

    async fn a_tenant_is_created_with_its_log_once(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut admin = deployment.admin.clone();
        let request = CreateTenantRequest { request_id: "one".to_owned(), ..create_tenant("acme") };
        let created = admin.tenants.create_tenant(request.clone()).await.unwrap().into_inner();
        let tenant = created.tenant.clone().unwrap();
        assert_eq!(tenant.state(), TenantState::Onboarding);
        assert!(!tenant.log_origin.is_empty() && !tenant.log_vkey.is_empty() && !tenant.registrar_vkey.is_empty());
        assert_eq!(tenant.missing_requirements, ALL);
        let receipt = created.receipt.clone().unwrap();
        assert_eq!(receipt.state(), EvidenceState::Logged);
        assert!(!receipt.tlog_proof.is_empty());

        let again = admin.tenants.create_tenant(request.clone()).await.unwrap().into_inner();
        assert_eq!(again.receipt.unwrap().record_id, receipt.record_id);
        let taken = admin.tenants.create_tenant(create_tenant("acme")).await.unwrap_err();
        assert_eq!((taken.code(), reason(&taken).as_str()), (Code::AlreadyExists, "TENANT_EXISTS"));
        let other = CreateTenantRequest { display_name: "Other".to_owned(), ..request };
        assert_eq!(admin.tenants.create_tenant(other).await.unwrap_err().code(), Code::InvalidArgument);

        let logged = deployment.logged("acme").await;
        assert_eq!(logged.len(), 1);
        let (record, payload, _) = &logged[0];
        let Payload::TenantLifecycleChanged(change) = payload else { panic!("{}", record.r#type) };
        assert_eq!((change.from(), change.to()), (v1::TenantState::Unspecified, v1::TenantState::Onboarding));
        assert_eq!(record.log_origin, tenant.log_origin);
        assert_eq!(record.commitment[0].label, "display_name");
    }

    /// A crash between the log and the tenant: the log is there, the tenant is not.
    async fn a_tenant_whose_creation_was_cut_off_is_completed_by_the_next_try(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut service = deployment.service.clone();
        let request = CreateLogRequest { tenant: "tenants/acme".to_owned() };
        let log = service.ledger.create_log(request).await.unwrap().into_inner();
        let request = GetTenantRequest { name: "tenants/acme".to_owned() };
        let missing = service.tenants.get_tenant(request).await.unwrap_err();
        assert_eq!(missing.code(), Code::NotFound);
        let mut admin = deployment.admin.clone();
        let created = admin.tenants.create_tenant(create_tenant("acme")).await.unwrap().into_inner();
        let tenant = created.tenant.unwrap();
        assert_eq!((tenant.log_origin, tenant.log_vkey), (log.origin, log.vkey));
        assert_eq!(created.receipt.unwrap().state(), EvidenceState::Logged);
    }

    async fn a_malformed_tenant_is_refused_and_leaves_nothing(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut admin = deployment.admin.clone();
        for id in ["", "Acme", "-a", "a_b", "../a", &"x".repeat(64)] {
            let refused = admin.tenants.create_tenant(create_tenant(id)).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{id}");
            assert_eq!(fields(&refused), ["tenant_id"]);
        }
        let nameless = CreateTenantRequest { display_name: String::new(), ..create_tenant("acme") };
        assert_eq!(fields(&admin.tenants.create_tenant(nameless).await.unwrap_err()), ["display_name"]);
        let listed = admin.tenants.list_tenants(ListTenantsRequest::default()).await.unwrap().into_inner();
        assert_eq!(listed.tenants, []);
    }

    async fn only_services_are_told_the_salt_and_a_tenant_sees_itself_alone(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut admin = deployment.admin.clone();
        people(&mut admin).await;
        admin.tenants.create_tenant(create_tenant("beta")).await.unwrap();
        let mut service = deployment.service.clone();
        assert_eq!(tenant(&mut service).await.correlation_salt.len(), 32);
        assert!(tenant(&mut admin).await.correlation_salt.is_empty());
        let mut ada = deployment.clients_of(&name_of("ada")).await;
        assert!(tenant(&mut ada).await.correlation_salt.is_empty());

        let beta = GetTenantRequest { name: "tenants/beta".to_owned() };
        let foreign = ada.tenants.get_tenant(beta).await.unwrap_err();
        let nowhere = GetTenantRequest { name: "tenants/gamma".to_owned() };
        let missing = ada.tenants.get_tenant(nowhere).await.unwrap_err();
        assert_eq!(foreign.code(), Code::NotFound);
        assert_eq!((foreign.message(), foreign.details()), (missing.message(), missing.details()));
        let listed = ada.tenants.list_tenants(ListTenantsRequest::default()).await.unwrap().into_inner();
        let names: Vec<&str> = listed.tenants.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["tenants/acme"]);
        let page = ListTenantsRequest { page_size: 1, page_token: String::new() };
        let first = admin.tenants.list_tenants(page).await.unwrap().into_inner();
        let page = ListTenantsRequest { page_size: 1, page_token: first.next_page_token };
        let second = admin.tenants.list_tenants(page).await.unwrap().into_inner();
        assert_eq!((first.tenants[0].name.as_str(), second.tenants[0].name.as_str()), ("tenants/acme", "tenants/beta"));
        assert_eq!(second.next_page_token, "");
        assert!(second.tenants[0].correlation_salt.is_empty());
    }

    async fn a_policy_has_a_version_and_the_hash_of_its_rules(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut admin = deployment.admin.clone();
        people(&mut admin).await;
        let get = GetPolicyRequest { tenant: "tenants/acme".to_owned(), at_time: None };
        assert_eq!(admin.policies.get_policy(get.clone()).await.unwrap_err().code(), Code::NotFound);
        let first = admin.policies.publish_policy(publish(Policy::default())).await.unwrap().into_inner();
        let first = first.policy.unwrap();
        assert_eq!((first.version, first.val_required, first.dormant_after_seconds), (1, 3, 7_776_000));
        // Two bundles never begin in one millisecond.
        deployment.clock.advance_ms(1);
        let wanted = Policy { threshold_permille: 100, dormant_after_seconds: -1, ..Policy::default() };
        let second = admin.policies.publish_policy(publish(wanted)).await.unwrap().into_inner();
        assert_eq!(second.receipt.unwrap().state(), EvidenceState::Logged);
        let second = second.policy.unwrap();
        assert_eq!((second.version, second.threshold_permille, second.dormant_after_seconds), (2, 100, -1));
        assert_ne!(first.bundle_hash, second.bundle_hash);
        // Two of one moment begin one after the other.
        deployment.clock.advance_ms(1);
        assert_eq!(admin.policies.get_policy(get).await.unwrap().into_inner().policy.unwrap(), second);
        let bad = Policy { val_required: 5, threshold_permille: 1001, ..Policy::default() };
        let refused = admin.policies.publish_policy(publish(bad)).await.unwrap_err();
        assert_eq!(fields(&refused), ["policy.threshold_permille", "policy.val_required"]);

        let logged = deployment.logged("acme").await;
        let published: Vec<_> = logged.iter().filter_map(|(record, payload, _)| match payload {
            Payload::PolicyBundlePublished(bundle) => Some((record, bundle)),
            _ => None,
        }).collect();
        assert_eq!(published.len(), 2);
        for (policy, (record, bundle)) in [first, second].iter().zip(&published) {
            assert_eq!(bundle.bundle_hash, policy.bundle_hash);
            assert_eq!(bundle.version, policy.version);
            assert_eq!(record.accountability.as_ref().unwrap().policy, policy.bundle_hash);
        }
        assert!(published[0].1.effective_from_ms < published[1].1.effective_from_ms);
    }

    async fn escalation_and_retention_are_checked_before_they_are_set(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut admin = deployment.admin.clone();
        people(&mut admin).await;
        let refused = admin.tenants.set_escalation_path(set_path("ada", "msp")).await.unwrap_err();
        assert_eq!(reason(&refused), "NOT_ACCOUNTABLE");
        let refused = admin.tenants.set_escalation_path(set_path("nobody", "ada")).await.unwrap_err();
        assert_eq!(reason(&refused), "PRINCIPAL_NOT_ACTIVE");
        let mut empty = set_path("ada", "ada");
        empty.levels.clear();
        let refused = admin.tenants.set_escalation_path(empty).await.unwrap_err();
        assert_eq!(fields(&refused), ["levels"]);
        let refused = admin.tenants.set_retention_policy(set_retention("other")).await.unwrap_err();
        assert_eq!(fields(&refused), ["rules"]);
        let mut text = set_retention("governance");
        text.rules[0].basis = "Because the board said so".to_owned();
        let refused = admin.tenants.set_retention_policy(text).await.unwrap_err();
        assert_eq!(fields(&refused), ["rules[0].basis"]);
        let set = admin.tenants.set_escalation_path(set_path("msp", "ada")).await.unwrap().into_inner();
        assert_eq!(set.receipt.unwrap().state(), EvidenceState::Logged);
        let set = admin.tenants.set_retention_policy(set_retention("governance")).await.unwrap().into_inner();
        assert_eq!(set.receipt.unwrap().state(), EvidenceState::Logged);
    }

    async fn without_the_ledger_changes_are_pending_and_no_tenant_is_created(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut admin = deployment.admin.clone();
        people(&mut admin).await;
        deployment.ledger.stop().await.unwrap();
        let published = admin.policies.publish_policy(publish(Policy::default())).await.unwrap().into_inner();
        let receipt = published.receipt.unwrap();
        assert_eq!((receipt.state(), receipt.record_hash.len()), (EvidenceState::Pending, 32));
        let refused = admin.tenants.create_tenant(create_tenant("beta")).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "PEER_UNAVAILABLE"));
        let request = GetTenantRequest { name: "tenants/beta".to_owned() };
        assert_eq!(admin.tenants.get_tenant(request).await.unwrap_err().code(), Code::NotFound);
    }
}
