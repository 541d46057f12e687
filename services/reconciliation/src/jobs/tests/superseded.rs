//! Somebody decides anew between the plan and the act: what was decided last counts.

use counterfoil_chassis::testing::TestDatabase;
use counterfoil_evidence::v1;
use counterfoil_proto::{
    recertification::{CampaignState, Decision},
    reconciliation::{ActionState, FindingState, RemediationState, Situation},
};
use tokio::time::timeout;

use super::{Account, World, reason, revoke_root, world::PATIENCE};
use crate::store;

/// After so long a newer decision is known everywhere, also to the verifier.
const KNOWN_MS: i64 = 600_000;

/// Amy may keep her root now; bob's goes, as was decided before.
fn keep_amys(account: &str, entitlement: &str) -> Decision {
    match (account, entitlement) {
        ("bob", "root") => Decision::Revoke,
        _ => Decision::Accept,
    }
}

impl World {
    /// Two privileged grants that a review takes away.
    async fn two_roots(&self) {
        let people = [Account("amy", &["crew", "root"]), Account("bob", &["root"])];
        self.add_source("hr", &people, |_| {}).await;
        self.review("q3", revoke_root).await;
    }

    /// A second review, whose decisions are known everywhere when it ends.
    async fn decided_anew(&self, decide: impl Fn(&str, &str) -> Decision) -> String {
        let campaign = self.review("q4", decide).await;
        self.clock.advance_ms(KNOWN_MS);
        campaign
    }

    async fn action_states(&self, remediation: &str) -> Vec<ActionState> {
        let actions = self.actions(remediation).await;
        actions.iter().map(|action| action.state()).collect()
    }

    /// States of the findings that something is there which was decided to go.
    async fn residual(&self) -> Vec<FindingState> {
        let findings = self.findings().await;
        let residual = findings
            .iter()
            .filter(|one| one.situation() == Situation::Residual);
        residual.map(|one| one.state()).collect()
    }

    /// Waits until whoever carries a remediation out has let it go.
    pub(super) async fn gives_up(&self, remediation: &str) {
        let id = remediation.rsplit('/').next().unwrap();
        let gave_up = async {
            let let_go = async || {
                store::remediations::running(&self.context().db, 1)
                    .await
                    .unwrap()
            };
            while self.runner(id).await.is_empty() || let_go().await.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, gave_up).await.expect("it waits for ever");
    }

    pub(super) async fn intents(&self) -> usize {
        self.of_type::<v1::ActionIntended>().await.len()
    }
}

counterfoil_chassis::both_engines! {
    /// The newest human decision counts, not the one that was planned: nothing goes out, and nothing is owed.
    async fn access_that_was_accepted_after_the_plan_is_not_removed(db: TestDatabase) {
        let world = World::start(db).await;
        world.two_roots().await;
        let planned = world.planned().await;
        world.decided_anew(keep_amys).await;
        let ended = world.carried_out(&planned.name).await;
        assert_eq!((ended.state(), ended.verified_count, ended.open_count), (RemediationState::Failed, 0, 2));
        assert_eq!(world.grants_in("hr").len(), 3, "the target is untouched");
        for action in world.actions(&planned.name).await {
            assert_eq!((action.state(), action.attempts), (ActionState::Superseded, 0));
            assert!(action.failure_message.contains("campaigns/q4"), "{}", action.failure_message);
        }
        assert_eq!(world.residual().await, [FindingState::Open; 2]);
        assert_eq!(world.intents().await, 0);
        assert!(world.obligations().await.is_empty());
        assert_eq!(world.carried_out(&planned.name).await.state(), RemediationState::Failed, "not tried again");

        // What the newer review removes again, a new plan covers; what it keeps is no finding any more.
        let again = world.planned().await;
        assert_eq!(again.actions_count, 1);
        assert!(!world.residual().await.contains(&FindingState::Open));
        assert_eq!(world.carried_out(&again.name).await.state(), RemediationState::Closed);
        assert_eq!(world.grants_in("hr").len(), 2);
        assert_eq!(world.residual().await, [FindingState::ResolvedVerified; 2]);
        world.audited().await;
        world.stop().await;
    }

    /// A human who resumes a held plan sees at once what it does not cover any more.
    async fn a_held_plan_is_resumed_without_what_was_decided_anew(db: TestDatabase) {
        let world = World::start(db).await;
        world.publish(|policy| policy.threshold_count = 1).await;
        world.two_roots().await;
        let held = world.planned().await;
        assert_eq!(held.state(), RemediationState::Held);
        world.decided_anew(keep_amys).await;
        assert_eq!(world.resolve("olga", &held.name, true).await.unwrap(), RemediationState::Approved);
        assert_eq!(world.action_states(&held.name).await, [ActionState::Superseded; 2]);
        assert_eq!(world.residual().await, [FindingState::Open; 2]);
        let again = world.planned().await;
        assert_eq!((again.state(), again.actions_count), (RemediationState::Approved, 1));
        assert_eq!(world.carried_out(&again.name).await.state(), RemediationState::Closed);
        assert_eq!(world.carried_out(&held.name).await.state(), RemediationState::Failed);
        assert_eq!((world.grants_in("hr").len(), world.intents().await), (2, 1));
        world.audited().await;
        world.stop().await;
    }

    /// A run that is planned late asks for what was decided before it; what was decided since is left out.
    async fn a_late_plan_leaves_out_what_was_decided_anew(db: TestDatabase) {
        let world = World::start(db).await;
        world.two_roots().await;
        let run = world.reconcile().await;
        let campaign = world.open_review("q4").await;
        world.decide_some(&campaign, |account, _| (account == "amy").then_some(Decision::Accept), true).await;
        let planned = world.plan(&run).await.unwrap().remediation.unwrap();
        assert_eq!(planned.actions_count, 1, "bob's alone");
        assert!(world.residual().await.contains(&FindingState::Open), "amy's stays a finding");
        assert_eq!(reason(&world.plan(&run).await.unwrap_err()), "DECISIONS_SUPERSEDED");
        assert_eq!(world.carried_out(&planned.name).await.state(), RemediationState::Closed);
        world.audited().await;
        world.stop().await;
    }

    /// Tried again long after it failed: what is superseded by then is neither sent nor owed any more.
    async fn what_failed_is_not_tried_again_once_it_may_stay(db: TestDatabase) {
        let world = World::start(db).await;
        let (planned, lock) = world.planned_for_a_locked_target().await;
        assert_eq!(world.carried_out(&planned.name).await.state(), RemediationState::Failed);
        let (intents, owed) = (world.intents().await, world.obligations().await);
        assert_eq!((owed.len(), owed[0].kind.as_str()), (1, "verify_removal"));
        drop(lock);
        world.decided_anew(keep_amys).await;
        assert_eq!(world.carried_out(&planned.name).await.state(), RemediationState::Failed);
        assert_eq!(world.action_states(&planned.name).await, [ActionState::Superseded]);
        assert_eq!((world.intents().await, world.grants_in("hr").len()), (intents, 2));
        assert!(world.obligations().await.is_empty(), "nothing is to be removed any more");
        assert_eq!(world.of_type::<v1::ObligationDischarged>().await.len(), 1);
        world.audited().await;
        world.stop().await;
    }

    /// While nobody says what is decided, nothing goes out; and it goes on by itself.
    async fn nothing_goes_out_while_nobody_says_what_is_decided(db: TestDatabase) {
        let mut world = World::start(db).await;
        world.settings.peer_patience_ms = 100;
        world.restart().await;
        world.two_roots().await;
        let planned = world.planned().await;
        world.stop_service("recertification").await;
        world.execute(&planned.name).await.unwrap();
        world.gives_up(&planned.name).await;
        assert_eq!(world.action_states(&planned.name).await, [ActionState::Planned; 2]);
        world.start_service("recertification").await;
        assert_eq!(world.watch(&planned.name).await.state(), RemediationState::Closed);
        world.audited().await;
        world.stop().await;
    }

    /// One removal counts in every review that decided it, also in those that the plan does not follow.
    async fn a_removal_counts_in_every_campaign_that_decided_it(db: TestDatabase) {
        let world = World::start(db).await;
        world.add_source("hr", &[Account("amy", &["crew", "root"])], |_| {}).await;
        let first = world.review("q3", revoke_root).await;
        let second = world.decided_anew(revoke_root).await;
        let planned = world.planned().await;
        assert_eq!(world.carried_out(&planned.name).await.state(), RemediationState::Closed);
        for campaign in [first, second] {
            let closed = world.close(&campaign).await;
            assert_eq!(closed.state(), CampaignState::Closed, "{campaign}");
        }
        world.audited().await;
        world.stop().await;
    }
}
