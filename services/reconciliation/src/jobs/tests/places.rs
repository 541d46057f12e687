//! Sources of different environments: who may approve for some approves nothing elsewhere.

use counterfoil_chassis::{clock::timestamp, testing::TestDatabase};
use counterfoil_evidence::leaf::SourceTag;
use counterfoil_proto::{
    authority::{DecisionAction, DecisionRight, GrantDecisionRightsRequest},
    inventory::ClassifySourceRequest,
    reconciliation::{AcceptFindingRiskRequest, Finding, PlanRemediationRequest, RemediationState},
};
use tonic::{Code, Status};

use super::{Account, DAY_MS, TENANT, World, reason, revoke_root, world::principal_name};

const HOUR_MS: i64 = 3_600_000;

impl World {
    /// The customer says of which environment and tier a source is.
    async fn classify(&self, source: &str, environment: &str, tier: &str) {
        let request = ClassifySourceRequest {
            name: format!("{TENANT}/sources/{source}"),
            environment: Some(environment.into()),
            tier: Some(tier.into()),
            request_id: String::new(),
        };
        let mut sources = self.olga.sources.clone();
        sources.classify_source(request).await.unwrap();
        self.clock.advance_ms(HOUR_MS);
    }

    /// Gives somebody a right in "prod" and of tier "gold" alone.
    async fn grant_in_prod(&self, grantee: &str, action: DecisionAction) {
        let right = DecisionRight {
            grantee: principal_name(grantee),
            action: action.into(),
            tiers: vec!["gold".into()],
            environments: vec!["prod".into()],
            valid_to_time: Some(timestamp(self.clock.now_ms() + 300 * DAY_MS)),
            grantor: principal_name("olga"),
            ..DecisionRight::default()
        };
        let request = GrantDecisionRightsRequest {
            tenant: TENANT.into(),
            decision_rights: vec![right],
            request_id: String::new(),
        };
        let mut rights = self.olga.rights.clone();
        rights.grant_decision_rights(request).await.unwrap();
    }

    async fn accept(&self, caller: &str, finding: &Finding) -> Result<(), Status> {
        let request = AcceptFindingRiskRequest {
            name: finding.name.clone(),
            until_time: Some(timestamp(self.clock.now_ms() + 10 * DAY_MS)),
            reason: "Needed for the audit".into(),
            request_id: String::new(),
        };
        let mut recon = self.of(caller).await.recon;
        recon.accept_finding_risk(request).await.map(drop)
    }
}

fn is_no_right<T: std::fmt::Debug>(answer: Result<T, Status>) {
    let refused = answer.unwrap_err();
    let found = (refused.code(), reason(&refused));
    assert_eq!(found, (Code::PermissionDenied, "NO_DECISION_RIGHT".into()));
}

counterfoil_chassis::both_engines! {
    /// I-13: planning, letting go on and accepting a risk ask where the sources are at that moment.
    async fn a_right_for_one_environment_approves_nothing_in_another(db: TestDatabase) {
        let world = World::start(db).await;
        world.publish(|policy| policy.threshold_count = 1).await;
        world.add_human("pat", "pat@acme.example").await;
        for action in [DecisionAction::Remediate, DecisionAction::Except] {
            world.grant_in_prod("pat", action).await;
        }
        let people = [Account("amy", &["crew", "root"]), Account("bob", &["crew", "root"])];
        for source in ["hr", "lab"] {
            world.add_source(source, &people, |_| {}).await;
        }
        world.classify("hr", "prod", "gold").await;
        world.classify("lab", "test", "gold").await;
        world.review("q3", revoke_root).await;
        let run = world.reconcile().await;
        let findings = world.findings().await;
        let of = |source: &str| {
            let tag: String = SourceTag::of(&format!("sources/{source}")).0.iter().map(|byte| format!("{byte:02x}")).collect();
            let of_source = findings.iter().filter(|one| one.grant.contains(&format!("/grants/{tag}")));
            of_source.cloned().collect::<Vec<_>>()
        };
        let (hr, lab) = (of("hr"), of("lab"));
        assert_eq!((hr.len(), lab.len()), (2, 2));

        let plan = PlanRemediationRequest { recon_run: run.name.clone(), request_id: String::new() };
        let pat = world.of("pat").await;
        is_no_right(pat.remediations.clone().plan_remediation(plan.clone()).await);
        is_no_right(world.accept("pat", &lab[0]).await);
        world.accept("pat", &hr[0]).await.unwrap();
        let held = world.plan(&run).await.unwrap().remediation.unwrap();
        assert_eq!((held.state(), held.actions_count), (RemediationState::Held, 3));
        is_no_right(world.resolve("pat", &held.name, true).await);

        // Of the right environment, and of no tier.
        world.classify("lab", "prod", "").await;
        is_no_right(world.resolve("pat", &held.name, true).await);
        world.classify("lab", "prod", "gold").await;
        assert_eq!(world.resolve("pat", &held.name, true).await.unwrap(), RemediationState::Approved);
        assert_eq!(world.carried_out(&held.name).await.state(), RemediationState::Closed);
        world.audited().await;
        world.stop().await;
    }
}
