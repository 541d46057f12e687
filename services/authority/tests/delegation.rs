//! Rights passed on, rights of two people, access in an emergency, and the life of a tenant, over gRPC and in the records.

#![cfg(test)]

mod common;

use common::*;
use counterfoil_chassis::{both_engines, clock::timestamp, testing::TestDatabase};
use counterfoil_evidence::catalogue::Payload;
use counterfoil_proto::{authority::*, common::EvidenceState};
use tonic::{Code, Status};

const HOUR_MS: i64 = 3_600_000;

impl Deployment {
    /// The auditor's replay finds nothing wrong with what authority wrote.
    async fn audited(&self) {
        // Every record that is in the outbox comes before this one, which the caller waits for.
        let pack = RecordEvidencePackRequest {
            tenant: "tenants/acme".into(),
            tree_size: 1,
            root_hash: vec![1; 32],
            format_code: "bundle".into(),
            request_id: String::new(),
        };
        let mut ada = self.ada.get().unwrap().0.clone();
        let receipt = ada
            .tenants
            .record_evidence_pack(pack)
            .await
            .unwrap()
            .into_inner()
            .receipt;
        assert_eq!(receipt.unwrap().state(), EvidenceState::Logged);
        self.replayed("acme").await;
    }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), reason(&status))
}

async fn held(clients: &Clients, principal: &str, action: DecisionAction) -> Vec<DecisionRight> {
    let request = CheckDecisionRightRequest {
        principal: name_of(principal),
        action: action.into(),
    };
    let mut rights = clients.rights.clone();
    rights
        .check_decision_right(request)
        .await
        .unwrap()
        .into_inner()
        .decision_rights
}

fn delegation(source: &str, delegate: &str, days: i64) -> Delegation {
    Delegation {
        delegate: name_of(delegate),
        source: source.to_owned(),
        valid_to_time: Some(timestamp(NOW_MS + days * DAY_MS)),
        reason_code: "absence".to_owned(),
        ..Delegation::default()
    }
}

fn pass_on(delegation: Delegation) -> GrantDelegationRequest {
    GrantDelegationRequest {
        tenant: "tenants/acme".to_owned(),
        delegation: Some(delegation),
        request_id: String::new(),
    }
}

fn emergency(minutes: i64) -> RequestEmergencyAccessRequest {
    RequestEmergencyAccessRequest {
        tenant: "tenants/acme".to_owned(),
        access: Some(EmergencyAccess {
            roles: vec!["operator".to_owned()],
            actions: vec![DecisionAction::Remediate.into()],
            duration_seconds: minutes * 60,
            ..EmergencyAccess::default()
        }),
        reason: "The vault is down and Zebra pays nobody".to_owned(),
        request_id: String::new(),
    }
}

fn approve(name: &str) -> ApproveEmergencyAccessRequest {
    ApproveEmergencyAccessRequest {
        name: name.to_owned(),
        request_id: "approve".to_owned(),
    }
}

fn review(name: &str) -> ReviewEmergencyUseRequest {
    ReviewEmergencyUseRequest {
        name: name.to_owned(),
        outcome_code: "justified".to_owned(),
        findings: "Two removals, both decided before".to_owned(),
        request_id: String::new(),
    }
}

both_engines! {
    async fn a_delegate_decides_in_the_delegators_name_and_never_beyond_it(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut ada = deployment.active().await;
        let mut ben = deployment.clients_of_for(&name_of("ben"), 365).await;
        let source = held(&deployment.service, "ada", DecisionAction::Review).await.remove(0).name;
        let wider = [
            delegation(&source, "ben", 91),
            delegation(&source, "ben", 301),
            delegation(&source, "ada", 10),
        ];
        for wanted in wider {
            let code = refused(ada.delegations.grant_delegation(pass_on(wanted)).await).0;
            assert!(matches!(code, Code::InvalidArgument | Code::FailedPrecondition), "{code}");
        }
        // What is not one's own is not there.
        assert_eq!(refused(ben.delegations.grant_delegation(pass_on(delegation(&source, "msp", 10))).await).0, Code::NotFound);
        let given = ada.delegations.grant_delegation(pass_on(delegation(&source, "ben", 10))).await.unwrap().into_inner();
        let given = given.delegation.unwrap();
        let rights = held(&deployment.service, "ben", DecisionAction::Review).await;
        let [right] = rights.as_slice() else { panic!("{rights:?}") };
        assert_eq!((&right.record_hash, &right.grantee), (&given.record_hash, &name_of("ben")));
        let names: Vec<_> = right.on_behalf_of.iter().map(|one| (one.principal.clone(), one.identity_key.clone())).collect();
        assert_eq!(names, [(name_of("ada"), "ada@zebra.example".to_owned())]);
        // It was not to be passed on.
        let again = ben.delegations.grant_delegation(pass_on(delegation(&given.name, "auditor", 5))).await;
        assert_eq!(refused(again), (Code::FailedPrecondition, "NOT_DELEGABLE".into()));
        // It ends with the clock, exactly.
        deployment.clock.set_ms(NOW_MS + 10 * DAY_MS - 1);
        assert_eq!(held(&deployment.service, "ben", DecisionAction::Review).await.len(), 1);
        deployment.clock.set_ms(NOW_MS + 10 * DAY_MS);
        assert_eq!(held(&deployment.service, "ben", DecisionAction::Review).await, []);
        deployment.audited().await;
    }

    async fn a_delegation_ends_with_its_right_with_either_and_by_either(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut ada = deployment.active().await;
        let mut ben = deployment.clients_of_for(&name_of("ben"), 365).await;
        let more = right("ada", DecisionAction::Except, 100);
        let right = ada.rights.grant_decision_rights(grant(&[more])).await.unwrap().into_inner().decision_rights.remove(0);
        let revoke = |name: &str| RevokeDelegationRequest { name: name.to_owned(), request_id: String::new() };
        let given = async |ada: &mut Clients| {
            let wanted = Delegation { transitive: true, ..delegation(&right.name, "ben", 10) };
            ada.delegations.grant_delegation(pass_on(wanted)).await.unwrap().into_inner().delegation.unwrap()
        };
        let first = given(&mut ada).await;
        ben.delegations.revoke_delegation(revoke(&first.name)).await.unwrap();
        assert_eq!(held(&deployment.service, "ben", DecisionAction::Except).await, []);
        let again = ben.delegations.revoke_delegation(revoke(&first.name)).await;
        assert_eq!(refused(again), (Code::FailedPrecondition, "DECISION_RIGHT_REVOKED".into()));
        let second = given(&mut ada).await;
        // Passed on in turn, by who may: both names, outermost first.
        ben.delegations.grant_delegation(pass_on(delegation(&second.name, "msp", 5))).await.unwrap();
        let far = held(&deployment.service, "msp", DecisionAction::Except).await.remove(0);
        let names: Vec<_> = far.on_behalf_of.into_iter().map(|one| one.principal).collect();
        assert_eq!(names, [name_of("ada"), name_of("ben")]);
        ada.delegations.revoke_delegation(revoke(&second.name)).await.unwrap();
        assert_eq!(held(&deployment.service, "msp", DecisionAction::Except).await, [], "what it rests on has ended");
        let third = given(&mut ada).await;
        let revoked = RevokeDecisionRightRequest { name: right.name.clone(), request_id: String::new() };
        ada.rights.revoke_decision_right(revoked).await.unwrap();
        assert_eq!(held(&deployment.service, "ben", DecisionAction::Except).await, []);
        let over = ada.delegations.grant_delegation(pass_on(delegation(&right.name, "ben", 10))).await;
        assert_eq!(refused(over), (Code::FailedPrecondition, "NOT_DELEGABLE".into()));
        let list = ListDelegationsRequest { tenant: "tenants/acme".into(), ..Default::default() };
        let listed = ada.delegations.list_delegations(list).await.unwrap().into_inner().delegations;
        assert_eq!(listed.len(), 4);
        assert!(listed.iter().any(|one| one.name == third.name && one.revoke_time.is_none()));
        deployment.audited().await;
    }

    async fn who_has_ended_while_their_call_waited_its_turn_changes_nothing(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut ada = deployment.active().await;
        ada.principals.create_principal(create_principal("cleo", "customer", "reviewer")).await.unwrap();
        let wanted = right("cleo", DecisionAction::Review, 100);
        let right = ada.rights.grant_decision_rights(grant(&[wanted])).await.unwrap().into_inner().decision_rights.remove(0);
        let mut cleo = deployment.clients_of(&name_of("cleo")).await;
        let turn = deployment.tables().await.write_tx("acme").await.unwrap();
        let (mut ender, request) = (ada.clone(), EndPrincipalRequest { name: name_of("cleo"), request_id: String::new() });
        let end = tokio::spawn(async move { ender.principals.end_principal(request).await });
        deployment.go_on(&ada).await;
        let request = pass_on(delegation(&right.name, "ben", 10));
        let granted = tokio::spawn(async move { cleo.delegations.grant_delegation(request).await });
        deployment.go_on(&ada).await;
        turn.rollback().await.unwrap();
        end.await.unwrap().unwrap();
        assert_eq!(refused(granted.await.unwrap()).0, Code::Unauthenticated);
        deployment.audited().await;
    }

    async fn whose_token_was_revoked_while_their_call_waited_its_turn_changes_nothing(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut ada = deployment.active().await;
        let source = held(&deployment.service, "ada", DecisionAction::Review).await.remove(0).name;
        let request = IssueTokenRequest { principal: name_of("ada"), ..IssueTokenRequest::default() };
        let leaked = ada.principals.issue_token(request).await.unwrap().into_inner();
        let mut thief = deployment.clients_with(&leaked.token);
        let turn = deployment.tables().await.write_tx("acme").await.unwrap();
        let revoke = RevokeTokenRequest { tenant: "tenants/acme".into(), token_id: leaked.token_id };
        let mut owner = ada.clone();
        let revoked = tokio::spawn(async move { owner.principals.revoke_token(revoke).await });
        deployment.go_on(&ada).await;
        let request = pass_on(delegation(&source, "ben", 10));
        let granted = tokio::spawn(async move { thief.delegations.grant_delegation(request).await });
        deployment.go_on(&ada).await;
        turn.rollback().await.unwrap();
        revoked.await.unwrap().unwrap();
        assert_eq!(refused(granted.await.unwrap()).0, Code::Unauthenticated);
        deployment.audited().await;
    }

    async fn nobody_is_buried_under_what_another_passes_on(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut ada = deployment.active().await;
        let source = held(&deployment.service, "ada", DecisionAction::Review).await.remove(0).name;
        let mut last = String::new();
        for _ in 0..20 {
            let given = ada.delegations.grant_delegation(pass_on(delegation(&source, "ben", 10))).await.unwrap().into_inner();
            last = given.delegation.unwrap().name;
        }
        let more = || pass_on(delegation(&source, "ben", 10));
        assert_eq!(refused(ada.delegations.grant_delegation(more()).await), (Code::FailedPrecondition, "NOT_DELEGABLE".into()));
        ada.delegations.grant_delegation(pass_on(delegation(&source, "auditor", 10))).await.unwrap();
        let revoke = RevokeDelegationRequest { name: last, request_id: String::new() };
        ada.delegations.revoke_delegation(revoke).await.unwrap();
        ada.delegations.grant_delegation(more()).await.unwrap();
        assert_eq!(held(&deployment.service, "ben", DecisionAction::Review).await.len(), 20);
    }

    async fn many_rights_and_many_absences_are_no_burden(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut ada = deployment.active().await;
        let more: Vec<_> = (0..20).map(|_| right("ada", DecisionAction::Review, 300)).collect();
        ada.rights.grant_decision_rights(grant(&more)).await.unwrap();
        for day in 0..21 {
            let absence = SetAbsenceRequest {
                tenant: "tenants/acme".into(),
                deputy: name_of("ben"),
                from_time: Some(timestamp(NOW_MS + 2 * day * DAY_MS)),
                to_time: Some(timestamp(NOW_MS + (2 * day + 1) * DAY_MS)),
                request_id: String::new(),
            };
            let set = ada.delegations.set_absence(absence).await.unwrap().into_inner();
            assert_eq!(set.delegations.len(), 23, "day {day}");
        }
        assert_eq!(held(&deployment.service, "ben", DecisionAction::Review).await.len(), 21);
    }

    async fn an_absence_passes_all_rights_on_for_its_time(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut ada = deployment.active().await;
        let absence = SetAbsenceRequest {
            tenant: "tenants/acme".into(),
            deputy: name_of("ben"),
            from_time: Some(timestamp(NOW_MS + DAY_MS)),
            to_time: Some(timestamp(NOW_MS + 15 * DAY_MS)),
            request_id: "holidays".into(),
        };
        let set = ada.delegations.set_absence(absence.clone()).await.unwrap().into_inner();
        assert_eq!(set.delegations.len(), 3);
        assert_eq!(ada.delegations.set_absence(absence).await.unwrap().into_inner().delegations, set.delegations);
        let actions = [DecisionAction::Review, DecisionAction::Certify, DecisionAction::Remediate];
        for (day, count) in [(0, 0), (1, 1), (14, 1), (15, 0)] {
            deployment.clock.set_ms(NOW_MS + day * DAY_MS);
            for action in actions {
                assert_eq!(held(&deployment.service, "ben", action).await.len(), count, "day {day}");
            }
        }
        deployment.audited().await;
    }

    async fn a_right_that_needs_two_people_waits_for_the_second(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut ada = deployment.active().await;
        for (id, role) in [("cleo", "tenant-administrator"), ("dora", "tenant-administrator")] {
            ada.principals.create_principal(create_principal(id, "customer", role)).await.unwrap();
        }
        // Two bundles never begin in one millisecond.
        deployment.clock.advance_ms(1);
        let policy = Policy { four_eyes_actions: vec![DecisionAction::Export.into()], ..Policy::default() };
        ada.policies.publish_policy(publish(policy)).await.unwrap();
        let wanted = right("dora", DecisionAction::Export, 10);
        let foreign = DecisionRight { grantor: name_of("ben"), ..wanted.clone() };
        assert_eq!(refused(ada.rights.grant_decision_rights(grant(&[foreign])).await), (Code::PermissionDenied, "GRANTOR_NOT_CALLER".into()));
        let proposed = ada.rights.grant_decision_rights(grant(&[wanted])).await.unwrap().into_inner().decision_rights.remove(0);
        assert_eq!(proposed.state(), DecisionRightState::Proposed);
        assert_eq!(held(&deployment.service, "dora", DecisionAction::Export).await, []);
        let approval = ApproveDecisionRightRequest { name: proposed.name.clone(), request_id: String::new() };
        let mut dora = deployment.clients_of(&name_of("dora")).await;
        for one in [&mut ada, &mut dora] {
            let answer = one.rights.approve_decision_right(approval.clone()).await;
            assert_eq!(refused(answer), (Code::FailedPrecondition, "SECOND_HUMAN_REQUIRED".into()));
        }
        ada.principals.create_principal(create_principal("chief", "auditors", "tenant-administrator")).await.unwrap();
        let mut chief = deployment.clients_of(&name_of("chief")).await;
        assert_eq!(refused(chief.rights.approve_decision_right(approval.clone()).await).1, "CALLER_NOT_CUSTOMER");
        // The same human by another name is no second one.
        let mut twin = create_principal("ada-again", "customer", "tenant-administrator");
        twin.principal.as_mut().unwrap().identity_key = "ada@zebra.example".to_owned();
        ada.principals.create_principal(twin).await.unwrap();
        let mut twin = deployment.clients_of(&name_of("ada-again")).await;
        let answer = twin.rights.approve_decision_right(approval.clone()).await;
        assert_eq!(refused(answer), (Code::FailedPrecondition, "SECOND_HUMAN_REQUIRED".into()));
        let mut cleo = deployment.clients_of(&name_of("cleo")).await;
        let granted = cleo.rights.approve_decision_right(approval.clone()).await.unwrap().into_inner().decision_right.unwrap();
        assert_eq!(granted.state(), DecisionRightState::Granted);
        let found = held(&deployment.service, "dora", DecisionAction::Export).await;
        assert_eq!(found[0].record_hash, granted.record_hash);
        assert_eq!(refused(cleo.rights.approve_decision_right(approval).await).1, "NOT_PROPOSED");
        deployment.audited().await;
    }

    /// I-82: what was reserved for two people stays so when the clock is set back before the policy began.
    async fn a_clock_that_was_set_back_makes_no_second_human_needless(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut ada = deployment.active().await;
        ada.principals.create_principal(create_principal("dora", "customer", "tenant-administrator")).await.unwrap();
        deployment.clock.advance_ms(DAY_MS / 24);
        let policy = Policy { four_eyes_actions: vec![DecisionAction::Export.into()], ..Policy::default() };
        ada.policies.publish_policy(publish(policy)).await.unwrap();
        deployment.clock.advance_ms(-DAY_MS / 48);
        // Also when other things were done by the wrong clock before.
        ada.principals.create_principal(create_principal("cleo", "customer", "tenant-administrator")).await.unwrap();
        let wanted = right("dora", DecisionAction::Export, 10);
        let given = ada.rights.grant_decision_rights(grant(&[wanted])).await.unwrap().into_inner().decision_rights.remove(0);
        assert_eq!(given.state(), DecisionRightState::Proposed);
        deployment.audited().await;
    }

    async fn what_the_auditor_would_not_take_is_not_granted(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut ada = deployment.active().await;
        let mut request = create_principal("bot", "customer", "operator");
        request.principal.as_mut().unwrap().kind = PrincipalKind::Service.into();
        ada.principals.create_principal(request).await.unwrap();
        for action in [DecisionAction::Review, DecisionAction::Except] {
            let answer = ada.rights.grant_decision_rights(grant(&[right("bot", action, 10)])).await;
            assert_eq!(refused(answer), (Code::FailedPrecondition, "NOT_GRANTABLE".into()));
        }
        ada.rights.grant_decision_rights(grant(&[right("bot", DecisionAction::Remediate, 10)])).await.unwrap();
        let narrow = DecisionRight {
            tiers: vec!["low".into()],
            environments: vec!["test".into(), "test".into()],
            ..right("ben", DecisionAction::Certify, 10)
        };
        let granted = ada.rights.grant_decision_rights(grant(&[narrow])).await.unwrap().into_inner().decision_rights.remove(0);
        assert_eq!((granted.tiers, granted.environments), (vec!["low".to_owned()], vec!["test".to_owned()]));
        // Whoever asks looks whether a source lies there.
        let held = held(&deployment.service, "ben", DecisionAction::Certify).await.remove(0);
        assert_eq!((held.tiers, held.environments), (vec!["low".to_owned()], vec!["test".to_owned()]));
        deployment.audited().await;
    }

    async fn an_emergency_takes_two_humans_and_ends_by_itself(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut ada = deployment.active().await;
        let mut ben = deployment.clients_of_for(&name_of("ben"), 365).await;
        assert_eq!(refused(ben.emergencies.request_emergency_access(emergency(241)).await).0, Code::InvalidArgument);
        let mut governing = emergency(60);
        governing.access.as_mut().unwrap().roles = vec!["tenant-administrator".to_owned()];
        assert_eq!(refused(ben.emergencies.request_emergency_access(governing).await).0, Code::InvalidArgument);
        let asked = ben.emergencies.request_emergency_access(emergency(60)).await.unwrap().into_inner().access.unwrap();
        assert_eq!(asked.state(), EmergencyState::Requested);
        assert_eq!(refused(ben.emergencies.approve_emergency_access(approve(&asked.name)).await), (Code::FailedPrecondition, "SECOND_HUMAN_REQUIRED".into()));
        assert_eq!(held(&deployment.service, "ben", DecisionAction::Remediate).await, []);
        let begun = ada.emergencies.approve_emergency_access(approve(&asked.name)).await.unwrap().into_inner();
        assert_eq!(begun.receipt.unwrap().state(), EvidenceState::Logged);
        assert_eq!(begun.access.unwrap().state(), EmergencyState::Active);
        let right = held(&deployment.service, "ben", DecisionAction::Remediate).await.remove(0);
        let logged = deployment.logged("acme").await;
        let activated = logged.iter().find(|(_, payload, _)| matches!(payload, Payload::EmergencyAccessActivated(_)));
        assert_eq!(right.record_hash, activated.unwrap().2);
        let introspect = async |clients: &Deployment| {
            let token = clients.token_of(&name_of("ben")).await;
            let request = IntrospectTokenRequest { token };
            clients.service.principals.clone().introspect_token(request).await.unwrap().into_inner()
        };
        let found = introspect(&deployment).await;
        assert_eq!(found.roles, ["operator", "reviewer"]);
        assert_eq!(found.expire_time, Some(timestamp(NOW_MS + HOUR_MS)));
        // Nobody looks at it before it is over, nor one of the two ever.
        assert_eq!(refused(ada.emergencies.review_emergency_use(review(&asked.name)).await).1, "EMERGENCY_STATE");
        deployment.clock.set_ms(NOW_MS + HOUR_MS - 1);
        assert_eq!(held(&deployment.service, "ben", DecisionAction::Remediate).await.len(), 1);
        deployment.clock.set_ms(NOW_MS + HOUR_MS);
        assert_eq!(held(&deployment.service, "ben", DecisionAction::Remediate).await, []);
        assert_eq!(introspect(&deployment).await.roles, ["reviewer"]);
        let mut ben = deployment.clients_of_for(&name_of("ben"), 365).await;
        for one in [&mut ada, &mut ben] {
            assert_eq!(refused(one.emergencies.review_emergency_use(review(&asked.name)).await).1, "THIRD_HUMAN_REQUIRED");
        }
        let mut auditor = deployment.clients_of_for(&name_of("auditor"), 365).await;
        let reviewed = auditor.emergencies.review_emergency_use(review(&asked.name)).await.unwrap().into_inner();
        assert_eq!(reviewed.access.unwrap().state(), EmergencyState::Reviewed);
        deployment.clock.set_ms(NOW_MS + 100 * HOUR_MS);
        assert_eq!(deployment.jobs.run_once().await.unwrap(), 0);
        deployment.audited().await;
    }

    async fn an_emergency_gives_nothing_while_the_ledger_is_away(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut ada = deployment.active().await;
        let mut ben = deployment.clients_of_for(&name_of("ben"), 365).await;
        let asked = ben.emergencies.request_emergency_access(emergency(60)).await.unwrap().into_inner().access.unwrap();
        deployment.ledger.stop().await.unwrap();
        // With a request id and without one.
        for request_id in ["approve", "", "approve"] {
            let request = ApproveEmergencyAccessRequest { request_id: request_id.to_owned(), ..approve(&asked.name) };
            let waiting = ada.emergencies.approve_emergency_access(request).await;
            assert_eq!(refused(waiting), (Code::Unavailable, "EVIDENCE_PENDING".into()));
            assert_eq!(held(&deployment.service, "ben", DecisionAction::Remediate).await, []);
        }
        let list = ListEmergencyAccessesRequest { tenant: "tenants/acme".into(), ..Default::default() };
        let listed = ada.emergencies.list_emergency_accesses(list).await.unwrap().into_inner().accesses;
        assert_eq!(listed[0].state(), EmergencyState::Approved);
    }

    async fn an_emergency_that_nobody_looked_at_is_on_record(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut ada = deployment.active().await;
        let mut ben = deployment.clients_of_for(&name_of("ben"), 365).await;
        let asked = ben.emergencies.request_emergency_access(emergency(60)).await.unwrap().into_inner().access.unwrap();
        deployment.clock.advance_ms(HOUR_MS);
        assert_eq!(refused(ada.emergencies.approve_emergency_access(approve(&asked.name)).await).1, "EMERGENCY_STATE");
        let asked = ben.emergencies.request_emergency_access(emergency(60)).await.unwrap().into_inner().access.unwrap();
        ada.emergencies.approve_emergency_access(approve(&asked.name)).await.unwrap();
        let end = EndEmergencyAccessRequest { name: asked.name.clone(), request_id: String::new() };
        let ended = ada.emergencies.end_emergency_access(end).await.unwrap().into_inner().access.unwrap();
        assert_eq!(ended.state(), EmergencyState::Ended);
        assert_eq!(held(&deployment.service, "ben", DecisionAction::Remediate).await, []);
        deployment.clock.advance_ms(72 * HOUR_MS);
        assert_eq!(deployment.jobs.run_once().await.unwrap(), 0);
        deployment.clock.advance_ms(1);
        assert_eq!(deployment.jobs.run_once().await.unwrap(), 1);
        assert_eq!(deployment.jobs.run_once().await.unwrap(), 0);
        deployment.clock.advance_ms(HOUR_MS);
        let mut auditor = deployment.clients_of_for(&name_of("auditor"), 365).await;
        auditor.emergencies.review_emergency_use(review(&asked.name)).await.unwrap();
        deployment.audited().await;
    }

    async fn a_tenant_is_suspended_resumed_and_leaves_with_its_evidence(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut ada = deployment.active().await;
        let mut admin = deployment.admin.clone();
        let name = || "tenants/acme".to_owned();
        let suspend = |code: &str| SuspendTenantRequest { name: name(), reason_code: code.into(), request_id: String::new() };
        let resume = || ResumeTenantRequest { name: name(), reason_code: "paid".into(), request_id: String::new() };
        assert_eq!(refused(admin.tenants.suspend_tenant(suspend("because I may")).await).0, Code::InvalidArgument);
        assert_eq!(refused(ada.tenants.resume_tenant(resume()).await), (Code::FailedPrecondition, "TENANT_STATE".into()));
        let suspended = admin.tenants.suspend_tenant(suspend("unpaid")).await.unwrap().into_inner().tenant.unwrap();
        assert_eq!(suspended.state(), TenantState::Suspended);
        let wanted = right("ben", DecisionAction::Review, 10);
        let answer = ada.rights.grant_decision_rights(grant(std::slice::from_ref(&wanted))).await;
        assert_eq!(refused(answer), (Code::FailedPrecondition, "TENANT_STATE".into()));
        let list = ListDecisionRightsRequest { tenant: name(), ..Default::default() };
        assert_eq!(ada.rights.list_decision_rights(list).await.unwrap().into_inner().decision_rights.len(), 3);
        ada.tenants.resume_tenant(resume()).await.unwrap();
        ada.rights.grant_decision_rights(grant(&[wanted])).await.unwrap();
        deployment.audited().await;
        let close = || CloseTenantRequest { name: name(), request_id: String::new() };
        assert_eq!(refused(admin.tenants.close_tenant(close()).await).1, "TENANT_STATE");
        let exit = BeginExitRequest { name: name(), reason_code: "contract-ended".into(), request_id: String::new() };
        assert_eq!(refused(admin.tenants.begin_exit(exit.clone()).await).0, Code::PermissionDenied);
        let mut request = create_principal("bot", "customer", "tenant-administrator");
        request.principal.as_mut().unwrap().kind = PrincipalKind::Service.into();
        ada.principals.create_principal(request).await.unwrap();
        let mut bot = deployment.clients_of(&name_of("bot")).await;
        assert_eq!(refused(bot.tenants.begin_exit(exit.clone()).await).1, "CALLER_NOT_CUSTOMER");
        // What the customer has stopped, whoever runs the deployment does not start again.
        ada.tenants.suspend_tenant(suspend("incident")).await.unwrap();
        assert_eq!(refused(admin.tenants.resume_tenant(resume()).await), (Code::PermissionDenied, "TENANT_GOVERNS_ITSELF".into()));
        ada.tenants.begin_exit(exit).await.unwrap();
        assert_eq!(refused(ada.tenants.close_tenant(close()).await).1, "EVIDENCE_NOT_TAKEN");
        // What somebody else took away is not what the customer leaves with.
        let pack = RecordEvidencePackRequest {
            tenant: name(),
            tree_size: 1,
            root_hash: vec![1; 32],
            format_code: "bundle".into(),
            request_id: String::new(),
        };
        let mut auditor = deployment.clients_of(&name_of("auditor")).await;
        auditor.tenants.record_evidence_pack(pack).await.unwrap();
        assert_eq!(refused(admin.tenants.close_tenant(close()).await).1, "EVIDENCE_NOT_TAKEN");
        deployment.audited().await;
        let closed = ada.tenants.close_tenant(close()).await.unwrap().into_inner().tenant.unwrap();
        assert_eq!(closed.state(), TenantState::Closed);
        let token = deployment.ada.get().unwrap().1.clone();
        let mut service = deployment.service.principals.clone();
        let introspected = service.introspect_token(IntrospectTokenRequest { token }).await;
        assert_eq!(refused(introspected).0, Code::Unauthenticated, "every token has ended");
    }
}
