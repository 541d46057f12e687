//! Who answers for what and who may decide, over gRPC.

#![cfg(test)]

mod common;

use common::*;
use counterfoil_chassis::{
    both_engines,
    clock::{millis, timestamp},
    testing::TestDatabase,
};
use counterfoil_evidence::catalogue::Payload;
use counterfoil_proto::{authority::*, common::EvidenceState};
use tonic::Code;

const ALL: &str = "tenants/acme/business-units/all";

async fn owner_at(clients: &mut Clients, at_ms: i64) -> Result<String, Code> {
    let request = GetBusinessUnitOwnerRequest {
        name: ALL.to_owned(),
        at_time: Some(timestamp(at_ms)),
    };
    let answer = clients.rights.get_business_unit_owner(request).await;
    answer
        .map(|answer| answer.into_inner().business_unit.unwrap().owner)
        .map_err(|status| status.code())
}

async fn check(
    clients: &mut Clients,
    principal: &str,
    action: DecisionAction,
) -> CheckDecisionRightResponse {
    let request = CheckDecisionRightRequest {
        principal: name_of(principal),
        action: action.into(),
    };
    clients
        .rights
        .check_decision_right(request)
        .await
        .unwrap()
        .into_inner()
}

both_engines! {
    /// Who owns something and must go is replaced while nothing new is governed, too.
    async fn who_must_go_is_replaced_while_the_tenant_is_suspended_or_leaves(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut ada = deployment.active().await;
        ada.principals.create_principal(create_principal("cleo", "customer", "reviewer")).await.unwrap();
        let name = || "tenants/acme".to_owned();
        let suspend = SuspendTenantRequest { name: name(), reason_code: "incident".into(), request_id: String::new() };
        ada.tenants.suspend_tenant(suspend).await.unwrap();
        let end = EndPrincipalRequest { name: name_of("ben"), request_id: String::new() };
        let owns = ada.principals.end_principal(end.clone()).await.unwrap_err();
        assert_eq!(reason(&owns), "OWNS_BUSINESS_UNIT");
        deployment.clock.advance_ms(1);
        ada.rights.set_business_unit_owner(set_owner("all", "ada", "cleo")).await.unwrap();
        ada.tenants.set_escalation_path(set_path("cleo", "cleo")).await.unwrap();
        ada.principals.end_principal(end).await.unwrap();
        let exit = BeginExitRequest { name: name(), reason_code: "over".into(), request_id: String::new() };
        ada.tenants.begin_exit(exit).await.unwrap();
        let given = AssignResponsibilityRequest {
            tenant: name(),
            responsibility: Some(Responsibility {
                activity: "offboarding".into(),
                operator_organization: "tenants/acme/organizations/customer".into(),
                risk_owner: name_of("cleo"),
            }),
            request_id: String::new(),
        };
        ada.qualifications.assign_responsibility(given).await.unwrap();
        deployment.replayed("acme").await;
    }

    /// A12: who runs the deployment sets a tenant up, and has no say in it once it governs itself.
    async fn a12_the_deployments_administrator_sets_a_tenant_up_and_governs_none(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut admin = deployment.admin.clone();
        let mut ada = deployment.active().await;
        let wanted = right("ben", DecisionAction::Review, 10);
        let refusals = [
            admin.rights.grant_decision_rights(grant(std::slice::from_ref(&wanted))).await.map(|_| ()),
            admin.rights.set_business_unit_owner(set_owner("all", "ben", "ada")).await.map(|_| ()),
            admin.principals.create_principal(create_principal("eve", "customer", "reviewer")).await.map(|_| ()),
            admin.principals.create_organization(create_organization("more", OrganizationKind::Vendor)).await.map(|_| ()),
            admin.principals.end_principal(EndPrincipalRequest { name: name_of("ben"), request_id: String::new() }).await.map(|_| ()),
            admin.policies.publish_policy(publish(Policy::default())).await.map(|_| ()),
            admin.tenants.set_escalation_path(set_path("ben", "ada")).await.map(|_| ()),
            admin.tenants.set_retention_policy(set_retention("governance")).await.map(|_| ()),
            admin.rights.list_decision_rights(ListDecisionRightsRequest { tenant: "tenants/acme".into(), ..Default::default() }).await.map(|_| ()),
            admin.principals.get_principal(GetPrincipalRequest { name: name_of("ada") }).await.map(|_| ()),
            admin.policies.get_policy(GetPolicyRequest { tenant: "tenants/acme".into(), at_time: None }).await.map(|_| ()),
        ];
        for (position, refused) in refusals.into_iter().enumerate() {
            let refused = refused.unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "TENANT_GOVERNS_ITSELF"), "{position}");
        }
        let seen = admin.tenants.get_tenant(GetTenantRequest { name: "tenants/acme".into() }).await.unwrap().into_inner();
        assert_eq!(seen.tenant.unwrap().state(), TenantState::Active);
        ada.rights.grant_decision_rights(grant(&[wanted])).await.unwrap();
        let logged = deployment.logged("acme").await;
        let granted = logged.iter().rfind(|(_, payload, _)| matches!(payload, Payload::DecisionRightGranted(_)));
        assert_eq!(granted.unwrap().0.actor, "principals/ada");
    }

    async fn a6_every_instant_has_one_accountable_owner(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut admin = deployment.admin.clone();
        people(&mut admin).await;
        let mut starts: Vec<(i64, String)> = Vec::new();
        // The clock also stands still and goes back: still nobody and never two answer at once.
        for (step_ms, owner, deputy) in [(0, "ada", "ben"), (0, "ben", "ada"), (1_000, "ada", ""), (-3_000, "ben", "")] {
            deployment.clock.advance_ms(step_ms);
            let set = admin.rights.set_business_unit_owner(set_owner("all", owner, deputy)).await.unwrap();
            let unit = set.into_inner().business_unit.unwrap();
            let from = millis(&unit.effective_time.unwrap()).unwrap();
            assert!(starts.last().is_none_or(|last| last.0 < from));
            starts.push((from, name_of(owner)));
        }
        assert_eq!(owner_at(&mut admin, NOW_MS - 1).await, Err(Code::NotFound));
        for instant in (NOW_MS..NOW_MS + 5).chain(NOW_MS + 998..NOW_MS + 1_005) {
            let expected = starts.iter().rev().find(|(from, _)| *from <= instant).unwrap();
            assert_eq!(owner_at(&mut admin, instant).await.as_ref(), Ok(&expected.1));
        }
        let now = GetBusinessUnitOwnerRequest { name: ALL.to_owned(), at_time: None };
        let now = admin.rights.get_business_unit_owner(now).await.unwrap().into_inner().business_unit.unwrap();
        assert_eq!((now.owner, now.deputy.as_str(), now.display_name.as_str()), (name_of("ben"), "", "Zebra Sales"));

        // The records say the same: each tenure starts where the one before it ends.
        let logged = deployment.logged("acme").await;
        let recorded: Vec<(i64, String)> = logged.iter().filter_map(|(_, payload, _)| match payload {
            Payload::BusinessUnitOwnerSet(set) => Some((set.effective_from_ms, format!("tenants/acme/{}", set.owner))),
            _ => None,
        }).collect();
        assert_eq!(recorded, starts);
    }

    async fn a12_only_a_human_of_the_customer_answers_for_a_unit(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut admin = deployment.admin.clone();
        people(&mut admin).await;
        let mut bot = create_principal("bot", "customer", "operator");
        bot.principal.as_mut().unwrap().kind = PrincipalKind::AiAgent.into();
        admin.principals.create_principal(bot).await.unwrap();
        for (owner, deputy) in [("msp", ""), ("auditor", ""), ("bot", ""), ("nobody", ""), ("ada", "msp"), ("ada", "bot")] {
            let refused = admin.rights.set_business_unit_owner(set_owner("all", owner, deputy)).await.unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "NOT_ACCOUNTABLE"), "{owner} {deputy}");
        }
        let refused = admin.rights.set_business_unit_owner(set_owner("all", "ada", "ada")).await.unwrap_err();
        assert_eq!(fields(&refused), ["business_unit.deputy"]);
        let end = EndPrincipalRequest { name: name_of("ben"), request_id: String::new() };
        admin.principals.end_principal(end).await.unwrap();
        let refused = admin.rights.set_business_unit_owner(set_owner("all", "ben", "")).await.unwrap_err();
        assert_eq!(reason(&refused), "NOT_ACCOUNTABLE");
        let listed = ListBusinessUnitsRequest { tenant: "tenants/acme".to_owned(), ..Default::default() };
        assert_eq!(admin.rights.list_business_units(listed).await.unwrap().into_inner().business_units, []);
    }

    async fn a12_a_provider_grants_no_right_and_governs_nothing(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut admin = deployment.admin.clone();
        people(&mut admin).await;
        // Named as the grantor, by whomever.
        let by_provider = DecisionRight { grantor: name_of("msp"), ..right("ben", DecisionAction::Review, 30) };
        let refused = admin.rights.grant_decision_rights(grant(std::slice::from_ref(&by_provider))).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "NOT_GRANTABLE"));
        // One bad right in a batch: none is granted.
        let batch = grant(&[right("ben", DecisionAction::Review, 30), by_provider]);
        assert!(admin.rights.grant_decision_rights(batch).await.is_err());
        assert_eq!(check(&mut deployment.service.clone(), "ben", DecisionAction::Review).await.decision_rights, []);
        // As the caller, in the customer's name: the provider's people have no token of the customer's tenant.
        let token = IssueTokenRequest { principal: name_of("msp"), ..IssueTokenRequest::default() };
        let refused = admin.principals.issue_token(token).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "TOKEN_OF_OWN_TENANT"));
        // Nobody who is not of the customer governs it, whatever their role.
        let mut auditor = create_principal("chief", "auditors", "tenant-administrator");
        auditor.principal.as_mut().unwrap().identity_key = String::new();
        admin.principals.create_principal(auditor).await.unwrap();
        let mut chief = deployment.clients_of(&name_of("chief")).await;
        let refused = chief.rights.grant_decision_rights(grant(&[right("msp", DecisionAction::Review, 30)])).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "CALLER_NOT_CUSTOMER"));
        let refused = chief.rights.set_business_unit_owner(set_owner("all", "ada", "")).await.unwrap_err();
        assert_eq!(reason(&refused), "CALLER_NOT_CUSTOMER");
        let token = IssueTokenRequest { principal: name_of("ada"), ..IssueTokenRequest::default() };
        let refused = chief.principals.issue_token(token).await.unwrap_err();
        assert_eq!(reason(&refused), "CALLER_NOT_CUSTOMER");
        let mut refused = vec![
            chief.policies.publish_policy(publish(Policy::default())).await.unwrap_err(),
            chief.tenants.set_retention_policy(set_retention("governance")).await.unwrap_err(),
            chief.tenants.set_escalation_path(set_path("ben", "ada")).await.unwrap_err(),
            chief.principals.create_principal(create_principal("new", "customer", "operator")).await.unwrap_err(),
            chief.tenants.activate_tenant(activate()).await.unwrap_err(),
        ];
        let end = EndPrincipalRequest { name: name_of("msp"), request_id: String::new() };
        refused.push(chief.principals.end_principal(end).await.unwrap_err());
        let granted = grant(&[right("ben", DecisionAction::Review, 30)]);
        let granted = admin.rights.grant_decision_rights(granted).await.unwrap().into_inner();
        let revoke = RevokeDecisionRightRequest { name: granted.decision_rights[0].name.clone(), ..Default::default() };
        refused.push(chief.rights.revoke_decision_right(revoke).await.unwrap_err());
        for refused in refused {
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "CALLER_NOT_CUSTOMER"));
        }
        // Granted by the customer, the provider may decide.
        let mut ada = deployment.clients_of(&name_of("ada")).await;
        ada.rights.grant_decision_rights(grant(&[right("msp", DecisionAction::Review, 30)])).await.unwrap();
        let held = check(&mut deployment.service.clone(), "msp", DecisionAction::Review).await;
        assert_eq!(held.decision_rights[0].grantor, name_of("ada"));
    }

    async fn d8_one_right_decides_for_humans_machines_and_agents(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let (mut admin, mut service) = (deployment.admin.clone(), deployment.service.clone());
        people(&mut admin).await;
        let kinds = [("human", PrincipalKind::Human), ("machine", PrincipalKind::Service), ("agent", PrincipalKind::AiAgent)];
        for (id, kind) in kinds {
            let mut request = create_principal(id, "customer", "reviewer");
            request.principal.as_mut().unwrap().kind = kind.into();
            admin.principals.create_principal(request).await.unwrap();
        }
        let rights = kinds.map(|(id, _)| DecisionRight {
            scope: vec!["tenants/acme/sources/HR_1".to_owned()],
            ..right(id, DecisionAction::Remediate, 10)
        });
        let granted = admin.rights.grant_decision_rights(grant(&rights)).await.unwrap().into_inner();
        // An agent decides under it where its mandate says, and it has none (mandates.rs).
        let agent = check(&mut service, "agent", DecisionAction::Remediate).await;
        assert_eq!((agent.decision_rights, agent.agent), (vec![], Some(ActingAgent::default())));
        for ((id, _), (right, receipt)) in kinds[..2].iter().zip(granted.decision_rights.iter().zip(&granted.receipts)) {
            assert_eq!(receipt.state(), EvidenceState::Logged);
            assert_eq!(right.record_hash, receipt.record_hash);
            let held = check(&mut service, id, DecisionAction::Remediate).await;
            assert_eq!(held.decision_rights, std::slice::from_ref(right), "{id}");
            assert_eq!(held.decision_rights[0].scope, ["tenants/acme/sources/HR_1"]);
            assert_eq!(held.identity_key, format!("{id}@zebra.example"));
            assert_eq!(check(&mut service, id, DecisionAction::Export).await.decision_rights, []);
        }
        deployment.clock.advance_ms(10 * DAY_MS);
        for (id, _) in kinds {
            assert_eq!(check(&mut service, id, DecisionAction::Remediate).await.decision_rights, [], "{id}");
        }
    }

    async fn e7_an_agents_work_has_a_named_human_owner(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let (mut admin, mut service) = (deployment.admin.clone(), deployment.service.clone());
        people(&mut admin).await;
        let mut agent = create_principal("agent", "provider", "operator");
        agent.principal.as_mut().unwrap().kind = PrincipalKind::AiAgent.into();
        admin.principals.create_principal(agent).await.unwrap();
        assert_eq!(check(&mut service, "agent", DecisionAction::Remediate).await.accountable_owner, "");
        admin.rights.set_business_unit_owner(set_owner("all", "ada", "")).await.unwrap();
        admin.rights.set_business_unit_owner(set_owner("sales", "ben", "")).await.unwrap();
        let policy = admin.policies.publish_policy(publish(Policy::default())).await.unwrap().into_inner().policy.unwrap();
        admin.rights.grant_decision_rights(grant(&[right("agent", DecisionAction::Remediate, 30)])).await.unwrap();
        let held = check(&mut service, "agent", DecisionAction::Remediate).await;
        assert_eq!((held.accountable_owner, held.policy_hash), (name_of("ada"), policy.bundle_hash.clone()));
        // The owner cannot go before somebody else answers.
        let end = EndPrincipalRequest { name: name_of("ada"), request_id: String::new() };
        let refused = admin.principals.end_principal(end.clone()).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "OWNS_BUSINESS_UNIT"));
        admin.rights.set_business_unit_owner(set_owner("all", "ben", "")).await.unwrap();
        admin.principals.end_principal(end).await.unwrap();
        assert_eq!(check(&mut service, "agent", DecisionAction::Remediate).await.accountable_owner, name_of("ben"));
        // From the first owner on, every record of this service names who answers.
        let logged = deployment.logged("acme").await;
        let first = logged.iter().position(|(_, payload, _)| matches!(payload, Payload::BusinessUnitOwnerSet(_))).unwrap();
        for (record, _, _) in &logged[first + 1..] {
            let accountability = record.accountability.as_ref().unwrap();
            assert!(accountability.accountable_owner.starts_with("principals/"), "{}", record.r#type);
        }
        let (last, _, _) = logged.last().unwrap();
        assert_eq!(last.accountability.as_ref().unwrap().policy, policy.bundle_hash);
    }

    async fn a_right_is_revoked_at_once_and_only_once(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let (mut admin, mut service) = (deployment.admin.clone(), deployment.service.clone());
        people(&mut admin).await;
        let granted = admin.rights.grant_decision_rights(grant(&[right("ben", DecisionAction::Except, 30)])).await.unwrap().into_inner();
        let name = granted.decision_rights[0].name.clone();
        let request = RevokeDecisionRightRequest { name: name.clone(), request_id: "r".to_owned() };
        let revoked = admin.rights.revoke_decision_right(request.clone()).await.unwrap().into_inner();
        assert_eq!(revoked.receipt.unwrap().state(), EvidenceState::Logged);
        assert_eq!(check(&mut service, "ben", DecisionAction::Except).await.decision_rights, []);
        // The same request is answered again; another one is refused.
        admin.rights.revoke_decision_right(request).await.unwrap();
        let again = RevokeDecisionRightRequest { name, request_id: String::new() };
        let refused = admin.rights.revoke_decision_right(again).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "DECISION_RIGHT_REVOKED"));
        let unknown = RevokeDecisionRightRequest { name: "tenants/acme/decision-rights/x".to_owned(), request_id: String::new() };
        assert_eq!(admin.rights.revoke_decision_right(unknown).await.unwrap_err().code(), Code::NotFound);
        let list = ListDecisionRightsRequest { tenant: "tenants/acme".to_owned(), ..Default::default() };
        let listed = admin.rights.list_decision_rights(list).await.unwrap().into_inner().decision_rights;
        assert!(listed[0].revoke_time.is_some());
    }

    async fn a_right_out_of_bounds_is_refused_and_named(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut admin = deployment.admin.clone();
        people(&mut admin).await;
        let good = || right("ben", DecisionAction::Review, 30);
        let cases = [
            (DecisionRight { action: 0, ..good() }, "decision_rights[1].action"),
            (DecisionRight { action: 99, ..good() }, "decision_rights[1].action"),
            (DecisionRight { valid_to_time: None, ..good() }, "decision_rights[1].valid_to_time"),
            (DecisionRight { valid_to_time: Some(timestamp(NOW_MS)), ..good() }, "decision_rights[1].valid_to_time"),
            (right("ben", DecisionAction::Review, 731), "decision_rights[1].valid_to_time"),
            (DecisionRight { grantee: "tenants/beta/principals/ben".to_owned(), ..good() }, "decision_rights[1].grantee"),
            (DecisionRight { grantor: String::new(), ..good() }, "decision_rights[1].grantor"),
            (DecisionRight { scope: vec!["tenants/beta/sources/hr".to_owned()], ..good() }, "decision_rights[1].scope"),
        ];
        for (bad, field) in cases {
            let refused = admin.rights.grant_decision_rights(grant(&[good(), bad])).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{field}");
            assert_eq!(fields(&refused), [field]);
        }
        for count in [0, 1_001] {
            let refused = admin.rights.grant_decision_rights(grant(&vec![good(); count])).await.unwrap_err();
            assert_eq!(fields(&refused), ["decision_rights"]);
        }
        let unknown = admin.rights.grant_decision_rights(grant(&[right("nobody", DecisionAction::Review, 1)])).await.unwrap_err();
        assert_eq!(unknown.code(), Code::FailedPrecondition);
        let many = admin.rights.grant_decision_rights(grant(&vec![good(); 1_000])).await.unwrap().into_inner();
        assert_eq!((many.decision_rights.len(), many.receipts.len()), (1_000, 1_000));
    }
}
