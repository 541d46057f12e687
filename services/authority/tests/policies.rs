//! Policy bundles, over gRPC: when they begin, what their conditions take away, and what trying one out tells.

#![cfg(test)]

mod common;

use common::*;
use counterfoil_chassis::{both_engines, clock::timestamp, testing::TestDatabase};
use counterfoil_evidence::{catalogue::Payload, v1};
use counterfoil_proto::authority::*;
use tonic::{Code, Status};

const HOUR_MS: i64 = 3_600_000;

const NO_PAYROLL: &str = r#"
    // Ben audits payroll and must not review it.
    @id("auditors-review-no-payroll")
    forbid (principal in Counterfoil::Role::"auditor", action == Counterfoil::Action::"review",
            resource == Counterfoil::Source::"payroll");
"#;

fn with_conditions(conditions: &str) -> Policy {
    Policy {
        conditions: conditions.to_owned(),
        ..Policy::default()
    }
}

fn get(at_ms: Option<i64>) -> GetPolicyRequest {
    GetPolicyRequest {
        tenant: "tenants/acme".to_owned(),
        at_time: at_ms.map(timestamp),
    }
}

impl Deployment {
    /// Publishes a bundle, a moment after the one before it began.
    async fn publish(&self, clients: &Clients, policy: Policy) -> Result<Policy, Status> {
        self.clock.advance_ms(1_000);
        let answer = clients
            .policies
            .clone()
            .publish_policy(publish(policy))
            .await;
        Ok(answer?.into_inner().policy.unwrap())
    }

    async fn may(&self, principal: &str, action: DecisionAction) -> CheckDecisionRightResponse {
        let request = CheckDecisionRightRequest {
            principal: name_of(principal),
            action: action.into(),
        };
        let mut rights = self.service.rights.clone();
        rights
            .check_decision_right(request)
            .await
            .unwrap()
            .into_inner()
    }
}

async fn version(clients: &Clients, at_ms: Option<i64>) -> u64 {
    let answer = clients
        .policies
        .clone()
        .get_policy(get(at_ms))
        .await
        .unwrap();
    answer.into_inner().policy.unwrap().version
}

async fn simulate(clients: &Clients, policy: Policy) -> Result<SimulatePolicyResponse, Status> {
    let request = SimulatePolicyRequest {
        tenant: "tenants/acme".to_owned(),
        policy: Some(policy),
    };
    let answer = clients.policies.clone().simulate_policy(request).await;
    answer.map(tonic::Response::into_inner)
}

fn source(id: &str) -> String {
    format!("tenants/acme/sources/{id}")
}

both_engines! {
    async fn a_bundle_is_in_force_from_its_time_on_and_cited_only_then(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        let mut policies = ada.policies.clone();
        let later = Policy { effective_time: Some(timestamp(NOW_MS + HOUR_MS)), ..with_conditions(NO_PAYROLL) };
        let published = deployment.publish(&ada, later).await.unwrap();
        assert_eq!((published.version, version(&ada, None).await), (2, 1));
        assert_eq!(version(&ada, Some(NOW_MS + HOUR_MS)).await, 2);
        let before = deployment.may("ada", DecisionAction::Review).await.policy_hash;
        assert_ne!(before, published.bundle_hash);
        deployment.clock.advance_ms(HOUR_MS);
        assert_eq!(version(&ada, None).await, 2);
        assert_eq!(version(&ada, Some(NOW_MS + HOUR_MS - 1)).await, 1);
        let after = deployment.may("ada", DecisionAction::Review).await;
        assert_eq!(after.policy_hash, published.bundle_hash);
        let records = deployment.logged("acme").await;
        let cited = records.iter().find_map(|(record, payload, _)| match payload {
            Payload::PolicyBundlePublished(bundle) if bundle.version == 2 => record.accountability.clone(),
            _ => None,
        });
        assert_eq!(cited.unwrap().policy, before, "a bundle that is not yet in force is cited by nobody");
        let list = ListPoliciesRequest { tenant: "tenants/acme".to_owned(), page_size: 1, page_token: String::new() };
        let first = policies.list_policies(list.clone()).await.unwrap().into_inner();
        let next = ListPoliciesRequest { page_token: first.next_page_token, ..list };
        let second = policies.list_policies(next).await.unwrap().into_inner();
        assert_eq!((first.policies[0].version, second.policies[0].version), (1, 2));
        assert_eq!(second.next_page_token, "");
    }

    async fn a_bundle_that_waits_is_withdrawn_by_one_that_begins_before_it(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        let later = Policy { effective_time: Some(timestamp(NOW_MS + DAY_MS)), ..Policy::default() };
        deployment.publish(&ada, later).await.unwrap();
        deployment.publish(&ada, with_conditions(NO_PAYROLL)).await.unwrap();
        assert_eq!(version(&ada, None).await, 3);
        assert_eq!(version(&ada, Some(NOW_MS + 2 * DAY_MS)).await, 3);
        for at_ms in [NOW_MS - 1, NOW_MS + 367 * DAY_MS] {
            let wrong = Policy { effective_time: Some(timestamp(at_ms)), ..Policy::default() };
            let refused = deployment.publish(&ada, wrong).await.unwrap_err();
            assert_eq!(fields(&refused), ["policy.effective_time"]);
        }
    }

    async fn conditions_narrow_rights_and_say_which_of_them_did(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        let for_two = DecisionRight {
            scope: vec![source("crm"), source("payroll")],
            ..right("aud", DecisionAction::Review, 30)
        };
        let everywhere = right("aud", DecisionAction::Review, 30);
        let auditor = create_principal("aud", "customer", "auditor");
        ada.principals.clone().create_principal(auditor).await.unwrap();
        ada.rights.clone().grant_decision_rights(grant(&[everywhere, for_two])).await.unwrap();
        let whole = deployment.may("aud", DecisionAction::Review).await;
        assert!(whole.decision_rights.iter().all(|right| right.excluded_sources.is_empty()));
        deployment.publish(&ada, with_conditions(NO_PAYROLL)).await.unwrap();
        let left = deployment.may("aud", DecisionAction::Review).await;
        assert_eq!(left.conditions, ["auditors-review-no-payroll"]);
        // Rights granted in one call stand in the order of their random ids.
        let mut scopes: Vec<(&[String], &[String])> =
            left.decision_rights.iter().map(|right| (&right.scope[..], &right.excluded_sources[..])).collect();
        scopes.sort_unstable();
        assert_eq!(scopes, [(&["*".to_owned()][..], &[source("payroll")][..]), (&[source("crm")][..], &[][..])]);
        let cited = |rights: &[DecisionRight]| rights.iter().map(|right| right.record_hash.clone()).collect::<Vec<_>>();
        assert_eq!(cited(&left.decision_rights), cited(&whole.decision_rights));
        // Ada is no auditor.
        let adas = deployment.may("ada", DecisionAction::Review).await;
        assert!(adas.conditions.is_empty() && adas.decision_rights[0].excluded_sources.is_empty());
        let none = "forbid (principal, action, resource);";
        deployment.publish(&ada, with_conditions(none)).await.unwrap();
        let nothing = deployment.may("ada", DecisionAction::Review).await;
        assert!(nothing.decision_rights.is_empty() && nothing.conditions == ["policy0"]);
    }

    async fn conditions_stand_in_the_record_without_comments(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        deployment.publish(&ada, with_conditions(NO_PAYROLL)).await.unwrap();
        let records = deployment.logged("acme").await;
        let rules: Vec<v1::PolicyRules> = records
            .into_iter()
            .filter_map(|(_, payload, _)| match payload {
                Payload::PolicyBundlePublished(bundle) => bundle.rules,
                _ => None,
            })
            .collect();
        let text = &rules.last().unwrap().conditions;
        assert!(text.contains("auditors-review-no-payroll") && !text.contains("Ben"), "{text}");
    }

    async fn what_is_no_condition_is_refused_with_its_place(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        for bad in ["permit (principal, action, resource);", "forbid (principal", "\n\nforbid (principal, action, nowhere);"] {
            let refused = deployment.publish(&ada, with_conditions(bad)).await.unwrap_err();
            assert_eq!(fields(&refused), ["policy.conditions"], "{bad}");
            assert_eq!(fields(&simulate(&ada, with_conditions(bad)).await.unwrap_err()), ["policy.conditions"]);
        }
        let widened = Policy {
            role_permissions: vec![RolePermissions { role: "auditor".into(), permissions: vec!["items.decide".into()] }],
            ..Policy::default()
        };
        let refused = deployment.publish(&ada, widened).await.unwrap_err();
        assert_eq!(fields(&refused), ["policy.role_permissions.permissions"]);
        assert_eq!(version(&ada, None).await, 1);
    }

    async fn trying_a_bundle_out_tells_what_it_changes_and_changes_nothing(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        let auditor = create_principal("aud", "customer", "auditor");
        ada.principals.clone().create_principal(auditor).await.unwrap();
        let review = right("aud", DecisionAction::Review, 30);
        ada.rights.clone().grant_decision_rights(grant(&[review])).await.unwrap();
        let count = deployment.logged("acme").await.len();
        let wanted = Policy {
            threshold_count: 7,
            role_permissions: vec![RolePermissions { role: "auditor".into(), permissions: vec!["items.get".into()] }],
            ..with_conditions(NO_PAYROLL)
        };
        let told = simulate(&ada, wanted.clone()).await.unwrap();
        let changed: Vec<&str> = told.rules.iter().map(|rule| rule.field.as_str()).collect();
        assert_eq!(changed, ["conditions", "role_permissions", "threshold_count"]);
        let places: Vec<(&str, bool)> =
            told.rights.iter().map(|right| (right.resource.as_str(), right.forbidden)).collect();
        assert_eq!(places, [("tenants/acme", true), ("tenants/acme/sources/payroll", true)]);
        assert!(told.rights.iter().all(|right| right.grantee == name_of("aud")));
        let of_aud = |told: &SimulatePolicyResponse| {
            told.permissions.iter().find(|one| one.principal == name_of("aud")).unwrap().clone()
        };
        assert!(of_aud(&told).lost.contains(&"evidence.export".to_owned()));
        assert!(!told.truncated);
        assert_eq!((deployment.logged("acme").await.len(), version(&ada, None).await), (count, 1));
        let published = deployment.publish(&ada, wanted).await.unwrap();
        assert_eq!(published.bundle_hash, told.policy.unwrap().bundle_hash);
        let back = simulate(&ada, Policy::default()).await.unwrap();
        assert!(back.rights.iter().all(|right| !right.forbidden) && back.rights.len() == 2);
        assert!(of_aud(&back).gained.contains(&"evidence.export".to_owned()));
    }

    async fn a_role_does_less_from_the_call_after_the_policy_on(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        let auditor = create_principal("aud", "customer", "auditor");
        ada.principals.clone().create_principal(auditor).await.unwrap();
        let token = IssueTokenRequest { principal: name_of("aud"), ..IssueTokenRequest::default() };
        let issued = ada.principals.clone().issue_token(token).await.unwrap().into_inner();
        let aud = deployment.clients_with(&issued.token);
        assert_eq!(version(&aud, None).await, 1);
        let keeps = |permissions: &[&str]| Policy {
            role_permissions: vec![RolePermissions {
                role: "auditor".into(),
                permissions: permissions.iter().map(|&name| name.to_owned()).collect(),
            }],
            ..Policy::default()
        };
        deployment.publish(&ada, keeps(&["principals.get"])).await.unwrap();
        let denied = aud.policies.clone().get_policy(get(None)).await.unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied);
        let get_ada = GetPrincipalRequest { name: name_of("ada") };
        aud.principals.clone().get_principal(get_ada.clone()).await.unwrap();
        // Nothing at all is something else than nothing said.
        deployment.publish(&ada, keeps(&[])).await.unwrap();
        let denied = aud.principals.clone().get_principal(get_ada.clone()).await.unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied);
        ada.principals.clone().get_principal(get_ada.clone()).await.unwrap();
        // One that waits takes nothing yet, and takes effect by the clock alone.
        let ahead = Policy {
            effective_time: Some(timestamp(deployment.clock.now_ms() + 2 * HOUR_MS)),
            ..Policy::default()
        };
        deployment.publish(&ada, ahead).await.unwrap();
        assert!(aud.principals.clone().get_principal(get_ada.clone()).await.is_err());
        deployment.clock.advance_ms(2 * HOUR_MS);
        aud.principals.clone().get_principal(get_ada).await.unwrap();
    }

    async fn a_trial_is_compared_with_what_begins_before_it_and_names_what_it_withdraws(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        let begins = |hours: i64, conditions: &str| Policy {
            effective_time: Some(timestamp(deployment.clock.now_ms() + hours * HOUR_MS)),
            ..with_conditions(conditions)
        };
        deployment.publish(&ada, begins(24, NO_PAYROLL)).await.unwrap();
        // The day after, the strict one is in force: without its conditions something is given back.
        let later = simulate(&ada, begins(48, "")).await.unwrap();
        assert_eq!(later.rules.iter().map(|rule| rule.field.as_str()).collect::<Vec<_>>(), ["conditions"]);
        assert!(later.withdrawn_versions.is_empty());
        // Before it begins it is withdrawn, and nothing else tells.
        let sooner = simulate(&ada, begins(12, "")).await.unwrap();
        assert_eq!((sooner.rules.len(), sooner.withdrawn_versions.as_slice()), (0, &[2][..]));
    }

    async fn a_text_that_would_exhaust_the_stack_is_refused_and_the_service_answers(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        for terms in [500, 5_000] {
            let sum = format!("forbid (principal, action, resource) when {{ {}1 > 0 }};", "1 + ".repeat(terms));
            for refused in [
                simulate(&ada, with_conditions(&sum)).await.unwrap_err(),
                deployment.publish(&ada, with_conditions(&sum)).await.unwrap_err(),
            ] {
                assert_eq!(fields(&refused), ["policy.conditions"]);
            }
        }
        assert_eq!(version(&ada, None).await, 1);
    }

    async fn nobody_tries_out_the_policy_of_another_tenant(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        deployment.admin.tenants.clone().create_tenant(create_tenant("beta")).await.unwrap();
        let request = |tenant: &str| SimulatePolicyRequest { tenant: tenant.into(), policy: Some(Policy::default()) };
        let foreign = ada.policies.clone().simulate_policy(request("tenants/beta")).await.unwrap_err();
        let missing = ada.policies.clone().simulate_policy(request("tenants/gamma")).await.unwrap_err();
        assert_eq!((foreign.code(), foreign.details()), (Code::NotFound, missing.details()));
    }
}
