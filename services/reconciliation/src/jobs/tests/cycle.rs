//! The cycle as it should go: compared, planned, carried out, read back, proved, reported.

use counterfoil_chassis::testing::TestDatabase;
use counterfoil_evidence::v1;
use counterfoil_proto::{
    recertification::{CampaignState, Decision},
    reconciliation::{
        ActionState, FindingState, RemediationState, RunReconciliationRequest, Situation,
    },
};

use super::{Account, World, reason};

fn count(run: &counterfoil_proto::reconciliation::ReconRun, situation: Situation) -> u64 {
    let found = run
        .situations
        .iter()
        .find(|count| count.situation() == situation);
    found.map_or(0, |count| count.count)
}

counterfoil_chassis::both_engines! {
    /// C34: what a review takes away is gone from the target, and only the proof says so.
    async fn c34_a_revoked_grant_is_proved_gone_and_the_campaign_closes(db: TestDatabase) {
        let world = World::start(db).await;
        let people = [Account("amy", &["crew", "root"]), Account("bob", &["crew"])];
        world.add_source("hr", &people, |_| {}).await;
        let campaign = world.review("q3", |_, entitlement| match entitlement {
            "root" => Decision::Revoke,
            _ => Decision::Accept,
        }).await;
        let run = world.reconcile().await;
        assert_eq!((run.observed_count, run.authorized_count), (3, 3));
        assert_eq!((count(&run, Situation::Confirmed), count(&run, Situation::Residual)), (2, 1));
        assert_eq!((run.findings_count, run.gap_count), (1, 1));
        let planned = world.plan(&run).await.unwrap().remediation.unwrap();
        assert_eq!((planned.state(), planned.actions_count), (RemediationState::Approved, 1));
        assert_eq!(world.findings().await[0].state(), FindingState::Remediating);

        let ended = world.carried_out(&planned.name).await;
        assert_eq!((ended.state(), ended.verified_count, ended.open_count), (RemediationState::Closed, 1, 0));
        assert!(ended.decided_to_verified_p50_ms > 0);
        assert_eq!(world.grants_in("hr").len(), 2, "the target's file has lost the row");
        let action = &world.actions(&planned.name).await[0];
        assert_eq!((action.state(), action.attempts), (ActionState::Verified, 1));
        assert_eq!(action.entitlement_display_name, "The root");
        assert_eq!(world.findings().await[0].state(), FindingState::ResolvedVerified);
        let effects: Vec<v1::EffectVerified> = world.of_type().await;
        assert_eq!((effects.len(), effects[0].claim(), effects[0].val), (1, v1::EffectClaim::Absent, 3));
        assert_eq!(world.close(&campaign).await.state(), CampaignState::Closed);

        world.sync("hr").await;
        let again = world.reconcile().await;
        assert_eq!((count(&again, Situation::Removed), again.findings_count, again.gap_count), (1, 0, 0));
        world.audited().await;
        world.stop().await;
    }

    /// C22: narrowing is proved by the absence of the wider and the presence of the narrower grant.
    async fn c22_a_reduced_grant_is_proved_narrowed(db: TestDatabase) {
        let world = World::start(db).await;
        let people = [Account("amy", &["wide", "narrow"]), Account("bob", &["wide", "narrow"])];
        world.add_source("hr", &people, |_| {}).await;
        world.review("q3", |account, entitlement| match (account, entitlement) {
            (_, "wide") => Decision::Reduce,
            _ => Decision::Accept,
        }).await;
        let planned = world.planned().await;
        // Somebody takes more away than was decided: that is not narrowing, and stays open.
        let path = world.files("hr").join("grants.csv");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text.replace("bob,narrow\n", "")).unwrap();
        let ended = world.carried_out(&planned.name).await;
        assert_eq!((ended.state(), ended.verified_count), (RemediationState::Partial, 1));
        let actions = world.actions(&planned.name).await;
        let open = actions.iter().find(|action| action.state() != ActionState::Verified).unwrap();
        assert_eq!(open.state(), ActionState::Failed);
        assert!(open.failure_message.contains("narrower"), "{}", open.failure_message);
        let effects: Vec<v1::EffectVerified> = world.of_type().await;
        assert_eq!((effects.len(), effects[0].claim()), (1, v1::EffectClaim::Narrowed));
        assert!(!effects[0].kept_proof.is_empty());
        world.audited().await;
        world.stop().await;
    }

    /// C1: the gap between what was approved and what is there is a number, and exact.
    async fn c1_the_gap_is_exactly_what_was_planted(db: TestDatabase) {
        let world = World::start(db).await;
        let people = [Account("amy", &["crew", "root"]), Account("bob", &["crew"])];
        world.add_source("hr", &people, |_| {}).await;
        world.review("q3", |_, _| Decision::Accept).await;
        assert_eq!(world.reconcile().await.gap_count, 0);
        // One too many, one too few.
        world.grant_behind("hr", "bob", "root");
        let path = world.files("hr").join("grants.csv");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text.replace("amy,crew\n", "")).unwrap();
        world.sync("hr").await;
        let run = world.reconcile().await;
        // A privileged grant without an owner is a finding and no gap.
        assert_eq!((run.gap_count, run.findings_count), (2, 3));
        assert_eq!(count(&run, Situation::Ownerless), 1);
        assert_eq!(count(&run, Situation::PrivilegedUncertified), 1);
        assert_eq!(count(&run, Situation::UnderProvisioned), 1);
        let findings = world.findings().await;
        assert_eq!(findings[0].situation(), Situation::PrivilegedUncertified, "most severe first");
        assert_eq!(findings[0].account_display_name, "Name of bob");
        let refused = world.plan(&run).await.unwrap_err();
        assert_eq!(reason(&refused), "NOTHING_TO_DO");
        // Put right, both are over, and the run says why.
        let path = world.files("hr").join("grants.csv");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text.replace("bob,root\n", "amy,crew\n")).unwrap();
        world.sync("hr").await;
        assert_eq!(world.reconcile().await.gap_count, 0);
        for finding in world.findings().await {
            let over = finding.situation() != Situation::Ownerless;
            assert_eq!(finding.state() == FindingState::ResolvedVerified, over, "{finding:?}");
        }
        world.audited().await;
        world.stop().await;
    }

    /// An older picture tells nothing of what was found in a newer one, though it shows the grant as it should be.
    async fn an_older_snapshot_resolves_nothing(db: TestDatabase) {
        let world = World::start(db).await;
        world.add_source("hr", &[Account("amy", &["crew", "staff"])], |_| {}).await;
        world.review("q3", |_, _| Decision::Accept).await;
        let older = world.snapshot().await;
        let path = world.files("hr").join("grants.csv");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text.replace("amy,crew\n", "")).unwrap();
        world.sync("hr").await;
        assert_eq!(count(&world.reconcile().await, Situation::UnderProvisioned), 1);
        let request = RunReconciliationRequest { snapshot: older, request_id: String::new() };
        let answer = world.olga.recon.clone().run_reconciliation(request).await.unwrap();
        assert_eq!(answer.into_inner().recon_run.unwrap().findings_count, 0);
        assert_eq!(world.findings().await[0].state(), FindingState::Open);
        world.audited().await;
        world.stop().await;
    }

    /// Services write on their own: a run may come into the log before the decisions that it read, and is judged by those.
    async fn a_run_may_overtake_the_decisions_it_read(db: TestDatabase) {
        let mut world = World::start(db).await;
        world.add_source("hr", &[Account("amy", &["crew", "root"])], |_| {}).await;
        let campaign = world.open_review("q3").await;
        world.stop_service("ledger").await;
        world.decide(&campaign, |_, _| Decision::Accept, false).await;
        let run = world.reconcile().await;
        assert_eq!((run.authorized_count, count(&run, Situation::UnapprovedPresent)), (2, 0));
        world.start_service("ledger").await;
        world.audited().await;
        world.stop().await;
    }
}
