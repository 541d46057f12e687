//! A remediation that dies after any of its steps goes on and is recorded once; and peers that are away.

use std::{collections::BTreeMap, sync::Arc};

use counterfoil_chassis::testing::TestDatabase;
use counterfoil_evidence::v1::{self, AttemptResult};
use counterfoil_proto::{
    recertification::{CampaignState, Decision},
    reconciliation::{ActionState, RemediationState},
};

use super::{Account, World, world::PATIENCE};
use crate::{
    jobs::{Step, carry_out, until_nobody_asks},
    model::ids::RemediationKey,
};

const STEPS: [Step; 10] = [
    Step::Settled,
    Step::IntentsDurable,
    Step::IntentsLogged,
    Step::CallMarked,
    Step::CallReturned,
    Step::OutcomesDurable,
    Step::ReadBack,
    Step::EffectsDurable,
    Step::Reported,
    Step::Finished,
];

impl World {
    /// Waits until an action is in a state.
    pub(super) async fn comes_to(&self, remediation: &str, state: ActionState) {
        let mut bell = self.context().bell.subscribe();
        let comes = async {
            while self.actions(remediation).await[0].state() != state {
                bell.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, comes)
            .await
            .expect("the action never came to the state");
    }
}

counterfoil_chassis::both_engines! {
    /// Dies once after each step; every removal is proved, and every attempt has one intent and one outcome.
    async fn a_remediation_that_dies_after_any_step_goes_on_and_is_recorded_once(db: TestDatabase) {
        let mut world = World::start(db).await;
        world.settings.batch_actions = 2;
        // A successor takes over what died half a second ago.
        world.settings.takeover_ms = 400;
        world.restart().await;
        let names: Vec<String> = (0..STEPS.len()).map(|number| format!("group{number}")).collect();
        let held: Vec<&str> = names.iter().map(String::as_str).collect();
        let people: Vec<Account<'_>> = ["amy", "bob", "cid"].into_iter().map(|id| Account(id, &held)).collect();
        world.add_source("hr", &people, |_| {}).await;
        for (step, group) in STEPS.into_iter().zip(&names) {
            let campaign = world.review(group, |_, entitlement| {
                if entitlement == group { Decision::Revoke } else { Decision::Accept }
            }).await;
            let planned = world.planned().await;
            assert_eq!(planned.actions_count, 3, "{step:?}");
            world.die_at(step);
            world.execute(&planned.name).await.unwrap();
            world.died().await;
            world.clock.advance_ms(500);
            world.restart().await;
            let ended = world.watch(&planned.name).await;
            assert_eq!((ended.state(), ended.verified_count), (RemediationState::Closed, 3), "{step:?}");
            assert!(world.grants_in("hr").iter().all(|(_, entitlement)| entitlement != group), "{step:?}");
            assert_eq!(world.close(&campaign).await.state(), CampaignState::Closed, "{step:?}");
            world.sync("hr").await;
        }
        let intents: Vec<v1::ActionIntended> = world.of_type().await;
        let attempts: Vec<v1::ActionAttempted> = world.of_type().await;
        let mut results: BTreeMap<&str, AttemptResult> = BTreeMap::new();
        for attempt in &attempts {
            let twice = results.insert(&attempt.idempotency_key, attempt.result());
            assert_eq!(twice, None, "an attempt has one outcome");
        }
        assert!(intents.iter().all(|intent| results.contains_key(intent.idempotency_key.as_str())));
        assert_eq!(intents.len(), attempts.len());
        let unknown = attempts.iter().filter(|attempt| attempt.result() == AttemptResult::Ambiguous).count();
        assert_eq!(unknown, 4, "two actions each died with the call marked and with its answer unwritten");
        assert_eq!(world.of_type::<v1::GrantEnded>().await.len(), 30);
        assert_eq!(world.of_type::<v1::RemediationClosed>().await.len(), STEPS.len());
        world.audited().await;
        world.stop().await;
    }

    /// Rule 2: while the ledger is away, the target is not touched.
    async fn no_target_is_touched_while_the_ledger_is_away(db: TestDatabase) {
        let mut world = World::start(db).await;
        world.add_source("hr", &[Account("amy", &["root"])], |_| {}).await;
        world.review("q3", |_, _| Decision::Revoke).await;
        let planned = world.planned().await;
        world.stop_service("ledger").await;
        world.execute(&planned.name).await.unwrap();
        world.comes_to(&planned.name, ActionState::Intended).await;
        // The process ends while it waits, and its successor waits too.
        world.restart().await;
        assert_eq!(world.actions(&planned.name).await[0].state(), ActionState::Intended);
        assert_eq!(world.grants_in("hr").len(), 1, "the target is untouched");
        world.start_service("ledger").await;
        assert_eq!(world.watch(&planned.name).await.state(), RemediationState::Closed);
        assert!(world.grants_in("hr").is_empty());
        let attempts: Vec<v1::ActionAttempted> = world.of_type().await;
        let results: Vec<_> = attempts.iter().map(v1::ActionAttempted::result).collect();
        assert_eq!(results, [AttemptResult::NotAttempted, AttemptResult::Ok], "the first call never went out");
        world.audited().await;
        world.stop().await;
    }

    /// Recertification is told later when it was away, and the campaign closes clean then.
    async fn recertification_is_told_when_it_is_back(db: TestDatabase) {
        let mut world = World::start(db).await;
        world.settings.peer_patience_ms = 200;
        world.restart().await;
        world.add_source("hr", &[Account("amy", &["root"])], |_| {}).await;
        let campaign = world.review("q3", |_, _| Decision::Revoke).await;
        let planned = world.planned().await;
        // It is asked what is decided before anything goes out, and is away at the end.
        world.not_read_for("hr", 60_000).await;
        world.execute(&planned.name).await.unwrap();
        world.comes_to(&planned.name, ActionState::Acknowledged).await;
        world.stop_service("recertification").await;
        world.clock.advance_ms(60_000);
        assert_eq!(world.watch(&planned.name).await.state(), RemediationState::Closed);
        assert_eq!(world.jobs().run_once().await.unwrap().reported, 0);
        world.start_service("recertification").await;
        assert_eq!(world.jobs().run_once().await.unwrap().reported, 1);
        assert_eq!(world.jobs().run_once().await.unwrap().reported, 0);
        assert_eq!(world.close(&campaign).await.state(), CampaignState::Closed);
        world.audited().await;
        world.stop().await;
    }

    /// Whoever is at a remediation that is asked for once more carries it out once more.
    async fn what_is_asked_for_while_it_ends_is_not_forgotten(db: TestDatabase) {
        let world = World::start(db).await;
        world.add_source("hr", &[Account("amy", &["root"])], |_| {}).await;
        world.review("q3", |_, _| Decision::Revoke).await;
        let planned = world.planned().await;
        let id = planned.name.rsplit('/').next().unwrap();
        let key = RemediationKey { tenant: "acme".to_owned(), remediation: id.to_owned() };
        let context = Arc::clone(world.context());
        let alone = context.occupy(&key).unwrap();
        assert!(alone.leave().is_none(), "nobody has asked again");
        let running = context.occupy(&key).expect("nobody is at it any more");
        world.execute(&planned.name).await.unwrap();
        // Told to carry it out, and at once back: somebody is at it.
        carry_out(Arc::clone(&context), key.clone(), i64::MAX).await;
        assert_eq!(world.actions(&planned.name).await[0].state(), ActionState::Planned);
        // The first time it finds somebody at it, who was seen a moment ago; the second time they were not seen any more.
        let runner = world.runner(id).await;
        assert_eq!(runner, "", "dispatched, and nobody is at it");
        until_nobody_asks(&context, &key, running, i64::MIN).await;
        assert_eq!(world.watch(&planned.name).await.state(), RemediationState::Closed);
        world.audited().await;
        world.stop().await;
    }

    /// A process that was taken over gives up at its next durable step, and nothing is recorded twice.
    async fn a_process_that_was_taken_over_gives_up(db: TestDatabase) {
        let world = World::start(db).await;
        world.add_source("hr", &[Account("amy", &["root"])], |_| {}).await;
        world.review("q3", |_, _| Decision::Revoke).await;
        let planned = world.planned().await;
        world.die_at(Step::IntentsLogged);
        world.execute(&planned.name).await.unwrap();
        world.died().await;
        // Nobody was seen at it for longer than the settings allow: the job takes it up again.
        assert_eq!(world.jobs().run_once().await.unwrap().resumed, 0);
        world.clock.advance_ms(300_001);
        assert_eq!(world.jobs().run_once().await.unwrap().resumed, 1);
        assert_eq!(world.watch(&planned.name).await.state(), RemediationState::Closed);
        world.audited().await;
        world.stop().await;
    }
}
