//! Plans: who may approve them, what holds them, what they leave out; and what is asked twice.

use counterfoil_chassis::{clock::timestamp, testing::TestDatabase};
use counterfoil_evidence::v1;
use counterfoil_proto::{
    authority::{
        BeginExitRequest, CreatePrincipalRequest, DecisionAction, Principal, PrincipalKind,
    },
    recertification::Decision,
    reconciliation::{
        AcceptFindingRiskRequest, ActionState, FindingState, GetRemediationRequest,
        ListFindingsRequest, PlanRemediationRequest, RemediationState, ResolveThresholdRequest,
        RunReconciliationRequest, Situation,
    },
};
use tonic::Code;

use super::{Account, DAY_MS, TENANT, World, reason, revoke_root};

impl World {
    /// Another principal of the customer, who operates.
    pub(super) async fn add_human(&self, id: &str, identity_key: &str) {
        let request = CreatePrincipalRequest {
            tenant: TENANT.into(),
            principal_id: id.into(),
            principal: Some(Principal {
                display_name: format!("Name of {id}"),
                kind: PrincipalKind::Human.into(),
                organization: format!("{TENANT}/organizations/acme"),
                identity_key: identity_key.into(),
                roles: vec!["operator".into()],
                ..Principal::default()
            }),
            request_id: String::new(),
        };
        let mut principals = self.olga.principals.clone();
        principals.create_principal(request).await.unwrap();
    }

    pub(super) async fn resolve(
        &self,
        caller: &str,
        name: &str,
        resume: bool,
    ) -> Result<RemediationState, tonic::Status> {
        let request = ResolveThresholdRequest {
            name: name.into(),
            resume,
            reason: "Checked with the owner".into(),
            request_id: String::new(),
        };
        let answer = self
            .of(caller)
            .await
            .remediations
            .resolve_threshold(request)
            .await?;
        Ok(answer.into_inner().remediation.unwrap().state())
    }
}

counterfoil_chassis::both_engines! {
    /// I-59: a plan that is too large waits for a human, who lets it go on or cancels it.
    async fn a_plan_above_the_threshold_waits_for_a_human(db: TestDatabase) {
        let world = World::start(db).await;
        world.publish(|policy| policy.threshold_count = 1).await;
        let people = [Account("amy", &["crew", "root"]), Account("bob", &["crew", "root"])];
        world.add_source("hr", &people, |_| {}).await;
        world.review("q3", revoke_root).await;
        let run = world.reconcile().await;
        let held = world.plan(&run).await.unwrap().remediation.unwrap();
        assert_eq!((held.state(), held.threshold_metric.as_str(), held.threshold_limit), (RemediationState::Held, "count", 1));
        let refused = world.execute(&held.name).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "REMEDIATION_STATE"));
        let refused = world.resolve("robo", &held.name, true).await.unwrap_err();
        assert_eq!(reason(&refused), "HUMAN_REQUIRED");
        assert_eq!(reason(&world.plan(&run).await.unwrap_err()), "NOTHING_TO_DO", "it is in a plan already");

        assert_eq!(world.resolve("olga", &held.name, false).await.unwrap(), RemediationState::Cancelled);
        let refused = world.resolve("olga", &held.name, true).await.unwrap_err();
        assert_eq!(reason(&refused), "REMEDIATION_STATE");
        assert!(world.findings().await.iter().all(|finding| finding.state() == FindingState::Open));
        assert_eq!(world.grants_in("hr").len(), 4, "nothing was touched");

        let again = world.plan(&run).await.unwrap().remediation.unwrap();
        assert_eq!(world.resolve("olga", &again.name, true).await.unwrap(), RemediationState::Approved);
        assert_eq!(world.carried_out(&again.name).await.state(), RemediationState::Closed);
        world.audited().await;
        world.stop().await;
    }

    /// I-82: where the policy reserves removals for two people, another human than the planner lets a plan go on.
    async fn a_plan_of_two_people_waits_for_the_second(db: TestDatabase) {
        let world = World::start(db).await;
        world.grant_right("finn", DecisionAction::Remediate, "*").await;
        world.publish(|policy| policy.four_eyes_actions = vec![DecisionAction::Remediate.into()]).await;
        world.add_source("hr", &[Account("amy", &["crew", "root"])], |_| {}).await;
        world.review("q3", revoke_root).await;
        let run = world.reconcile().await;
        let held = world.plan(&run).await.unwrap().remediation.unwrap();
        assert_eq!((held.state(), held.threshold_metric.as_str()), (RemediationState::Held, "four_eyes"));
        let refused = world.execute(&held.name).await.unwrap_err();
        assert_eq!(reason(&refused), "REMEDIATION_STATE");
        let refused = world.resolve("olga", &held.name, true).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "SECOND_HUMAN_REQUIRED"));
        assert_eq!(world.resolve("finn", &held.name, true).await.unwrap(), RemediationState::Approved);
        assert_eq!(world.carried_out(&held.name).await.state(), RemediationState::Closed);
        world.audited().await;
        world.stop().await;
    }

    /// I-82: two principals of one identity are one human.
    async fn a_plan_of_two_people_does_not_wait_for_the_same_human_twice(db: TestDatabase) {
        let world = World::start(db).await;
        world.add_human("ola", "Olga@ACME.example").await;
        for second in ["ola", "finn"] {
            world.grant_right(second, DecisionAction::Remediate, "*").await;
        }
        world.publish(|policy| policy.four_eyes_actions = vec![DecisionAction::Remediate.into()]).await;
        world.add_source("hr", &[Account("amy", &["crew", "root"])], |_| {}).await;
        world.review("q3", revoke_root).await;
        let held = world.planned().await;
        let refused = world.resolve("ola", &held.name, true).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "SECOND_HUMAN_REQUIRED"));
        assert_eq!(world.resolve("finn", &held.name, true).await.unwrap(), RemediationState::Approved);
        world.audited().await;
        world.stop().await;
    }

    /// A tenant that leaves: what is held is cancelled, and nothing goes on that was not.
    async fn a_held_plan_is_cancelled_while_the_tenant_leaves(db: TestDatabase) {
        let world = World::start(db).await;
        world.publish(|policy| policy.threshold_count = 1).await;
        let people = [Account("amy", &["crew", "root"]), Account("bob", &["crew", "root"])];
        world.add_source("hr", &people, |_| {}).await;
        world.review("q3", revoke_root).await;
        let held = world.planned().await;
        let request = BeginExitRequest { name: TENANT.into(), reason_code: "leaves".into(), request_id: String::new() };
        world.olga.tenants.clone().begin_exit(request).await.unwrap();
        world.known_not_active().await;
        assert_eq!(reason(&world.resolve("olga", &held.name, true).await.unwrap_err()), "TENANT_NOT_ACTIVE");
        assert_eq!(world.resolve("olga", &held.name, false).await.unwrap(), RemediationState::Cancelled);
        assert!(world.findings().await.iter().all(|finding| finding.state() == FindingState::Open));
        world.audited().await;
        world.stop().await;
    }

    /// The same request gets the same answer, and happens once.
    async fn what_is_asked_twice_happens_once(db: TestDatabase) {
        let world = World::start(db).await;
        world.add_source("hr", &[Account("amy", &["crew", "root"])], |_| {}).await;
        world.review("q3", revoke_root).await;
        let run = RunReconciliationRequest { snapshot: world.snapshot().await, request_id: "run".into() };
        let mut recon = world.olga.recon.clone();
        let first = recon.run_reconciliation(run.clone()).await.unwrap().into_inner().recon_run.unwrap();
        let second = recon.run_reconciliation(run).await.unwrap().into_inner().recon_run.unwrap();
        assert_eq!((&first.name, &first.receipt), (&second.name, &second.receipt));
        let plan = PlanRemediationRequest { recon_run: first.name, request_id: "plan".into() };
        let mut remediations = world.olga.remediations.clone();
        let first = remediations.plan_remediation(plan.clone()).await.unwrap().into_inner();
        let second = remediations.plan_remediation(plan.clone()).await.unwrap().into_inner();
        assert_eq!(first, second);
        let other = PlanRemediationRequest { recon_run: format!("{TENANT}/recon-runs/other"), ..plan };
        let refused = remediations.plan_remediation(other).await.unwrap_err();
        assert!(matches!(refused.code(), Code::NotFound | Code::InvalidArgument), "{refused}");
        let sealed: Vec<v1::ReconRunSealed> = world.of_type().await;
        let planned: Vec<v1::RemediationPlanned> = world.of_type().await;
        assert_eq!((sealed.len(), planned.len()), (1, 1));
        world.audited().await;
        world.stop().await;
    }

    /// Whoever may not, and what is not there, are refused.
    async fn other_tenants_and_those_without_a_right_are_refused(db: TestDatabase) {
        let world = World::start(db).await;
        world.add_source("hr", &[Account("amy", &["root"])], |_| {}).await;
        world.review("q3", revoke_root).await;
        let run = world.reconcile().await;
        let plan = PlanRemediationRequest { recon_run: run.name.clone(), request_id: String::new() };
        let refused = world.finn.remediations.clone().plan_remediation(plan.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "a reviewer is no operator");
        world.revoke_rights("robo").await;
        let robo = world.of("robo").await;
        let refused = robo.remediations.clone().plan_remediation(plan).await.unwrap_err();
        assert_eq!(reason(&refused), "NO_DECISION_RIGHT");
        world.grant_right("robo", counterfoil_proto::authority::DecisionAction::Remediate, &format!("{TENANT}/sources/other")).await;
        let plan = PlanRemediationRequest { recon_run: run.name, request_id: String::new() };
        let refused = robo.remediations.clone().plan_remediation(plan).await.unwrap_err();
        assert_eq!(reason(&refused), "NO_DECISION_RIGHT", "the right is for another source");
        for (name, code) in [
            (format!("{TENANT}/remediations/none"), Code::NotFound),
            ("tenants/beta/remediations/none".to_owned(), Code::NotFound),
            ("remediations/none".to_owned(), Code::InvalidArgument),
        ] {
            let request = GetRemediationRequest { name };
            let refused = world.olga.remediations.clone().get_remediation(request).await.unwrap_err();
            assert_eq!(refused.code(), code);
        }
        let request = ListFindingsRequest { tenant: "tenants/beta".into(), ..ListFindingsRequest::default() };
        assert_eq!(world.olga.recon.clone().list_findings(request).await.unwrap_err().code(), Code::NotFound);
        world.stop().await;
    }

    /// A risk is accepted within the policy, is in no plan while it lasts, and is open again when it has run out.
    async fn an_accepted_risk_ends(db: TestDatabase) {
        let world = World::start(db).await;
        world.add_source("hr", &[Account("amy", &["crew", "root"])], |_| {}).await;
        world.review("q3", revoke_root).await;
        let run = world.reconcile().await;
        let finding = world.findings().await.remove(0);
        let accept = |days: i64, reason: &str| AcceptFindingRiskRequest {
            name: finding.name.clone(),
            until_time: Some(timestamp(world.clock.now_ms() + days * DAY_MS)),
            reason: reason.into(),
            request_id: String::new(),
        };
        let mut recon = world.olga.recon.clone();
        for (request, field) in [(accept(30, " "), "reason"), (accept(91, "Why"), "until_time"), (accept(0, "Why"), "until_time")] {
            let refused = recon.accept_finding_risk(request).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{field}");
        }
        let accepted = recon.accept_finding_risk(accept(30, "Needed for the audit")).await.unwrap().into_inner();
        assert_eq!(accepted.finding.unwrap().state(), FindingState::AcceptedRisk);
        assert_eq!(reason(&recon.accept_finding_risk(accept(30, "Again")).await.unwrap_err()), "FINDING_STATE");
        assert_eq!(reason(&world.plan(&run).await.unwrap_err()), "NOTHING_TO_DO");
        world.sync("hr").await;
        world.reconcile().await;
        assert_eq!(world.findings().await[0].state(), FindingState::AcceptedRisk, "found again, still accepted");
        world.clock.advance_ms(31 * DAY_MS);
        world.sync("hr").await;
        let run = world.reconcile().await;
        assert_eq!(world.findings().await[0].state(), FindingState::Open);
        assert_eq!(world.plan(&run).await.unwrap().remediation.unwrap().actions_count, 1);
        world.audited().await;
        world.stop().await;
    }

    /// An expired approval is removed like a revoked one; what follows from another grant goes with it and is no action.
    async fn an_expired_approval_is_removed_and_what_follows_goes_with_it(db: TestDatabase) {
        let world = World::start(db).await;
        let folder = world.files("hr");
        std::fs::write(folder.join("edges.csv"), "child_native_id,parent_native_id\nroot,crew\n").unwrap();
        world.add_source("hr", &[Account("amy", &["root"]), Account("bob", &["crew"])], |_| {}).await;
        world.review("q3", |_, _| Decision::Accept).await;
        world.clock.advance_ms(101 * DAY_MS);
        world.sync("hr").await;
        let run = world.reconcile().await;
        let count = |situation| {
            run.situations.iter().find(|one| one.situation() == situation).map_or(0, |one| one.count)
        };
        assert_eq!((count(Situation::ExpiredPresent), count(Situation::Inherited)), (2, 1));
        let planned = world.plan(&run).await.unwrap().remediation.unwrap();
        assert_eq!(planned.actions_count, 2);
        let ended = world.carried_out(&planned.name).await;
        assert_eq!(ended.state(), RemediationState::Closed);
        assert!(world.actions(&planned.name).await.iter().all(|action| action.state() == ActionState::Verified));
        world.sync("hr").await;
        // Their approvals are still on record, and what they approved is gone.
        assert_eq!(world.reconcile().await.observed_count, 0);
        world.audited().await;
        world.stop().await;
    }
}
