//! Several processes on one database: one of them carries a remediation out, as long as it is seen at it.

use counterfoil_chassis::{db::Engine, testing::TestDatabase};
use counterfoil_evidence::v1::AttemptResult;
use counterfoil_proto::{
    recertification::Decision,
    reconciliation::{ActionState, Remediation, RemediationState},
};
use tokio::time::timeout;

use super::{Account, World, world::PATIENCE};
use crate::{jobs::Step, model::ids::RemediationKey, store};

impl World {
    async fn one_removal(&self) -> Remediation {
        self.add_source("hr", &[Account("amy", &["root"])], |_| {})
            .await;
        self.review("q3", |_, _| Decision::Revoke).await;
        self.planned().await
    }

    /// Waits until whoever carries something out was seen at it at the present time.
    async fn seen_now(&self) {
        let (db, now_ms) = (&self.context().db, self.clock.now_ms());
        let seen = async {
            while !store::remediations::running(db, now_ms)
                .await
                .unwrap()
                .is_empty()
            {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, seen).await.expect("it is not seen");
    }

    /// Who carries a remediation out.
    pub(super) async fn runner(&self, id: &str) -> String {
        let key = RemediationKey {
            tenant: "acme".to_owned(),
            remediation: id.to_owned(),
        };
        let mut connection = self.context().db.read(&key.tenant).await.unwrap();
        let found = store::remediations::get(&mut connection, &key).await;
        found.unwrap().unwrap().runner
    }
}

counterfoil_chassis::both_engines! {
    /// A read-back that lasts many times as long as nobody may be unseen comes to its end where it began.
    async fn a_process_is_not_taken_over_however_long_a_step_takes(db: TestDatabase) {
        let mut world = World::start(db).await;
        world.settings.takeover_ms = 200;
        world.restart().await;
        let planned = world.one_removal().await;
        let mut other = world.another_process().await;
        world.not_read_for("hr", 300_000).await;
        world.execute(&planned.name).await.unwrap();
        world.comes_to(&planned.name, ActionState::Acknowledged).await;
        for _ in 0..3 {
            world.clock.advance_ms(1_000);
            world.seen_now().await;
            assert_eq!(other.jobs.run_once().await.unwrap().resumed, 0, "somebody is at it");
        }
        if world.context().db.engine() == Engine::Postgres {
            // On SQLite a process that starts is the only one.
            other.stop().await;
            other = world.another_process().await;
        }
        let id = planned.name.rsplit('/').next().unwrap();
        let runner = world.runner(id).await;
        world.clock.advance_ms(300_000);
        assert_eq!(world.watch(&planned.name).await.state(), RemediationState::Closed);
        assert_eq!(world.runner(id).await, runner, "nobody took over");
        assert_eq!(world.results().await, [AttemptResult::Ok]);
        world.audited().await;
        other.stop().await;
        world.stop().await;
    }

    /// What a process left that died is taken over by one of the others when it was not seen for long enough.
    async fn one_of_many_takes_over_from_a_process_that_died(db: TestDatabase) {
        let world = World::start(db).await;
        let planned = world.one_removal().await;
        let other = world.another_process().await;
        world.die_at(Step::CallMarked);
        world.execute(&planned.name).await.unwrap();
        world.died().await;
        assert_eq!(other.jobs.run_once().await.unwrap().resumed, 0, "it was seen a moment ago");
        world.clock.advance_ms(300_001);
        let (one, two) = tokio::join!(world.jobs().run_once(), other.jobs.run_once());
        assert!(one.unwrap().resumed + two.unwrap().resumed > 0);
        assert_eq!(world.watch(&planned.name).await.state(), RemediationState::Closed);
        assert_eq!(world.results().await, [AttemptResult::Ambiguous, AttemptResult::Ok]);
        world.audited().await;
        other.stop().await;
        world.stop().await;
    }

    /// A process that ends lets go: another goes on at once.
    async fn what_a_process_lets_go_is_taken_up_at_once(db: TestDatabase) {
        let mut world = World::start(db).await;
        let planned = world.one_removal().await;
        let other = world.another_process().await;
        world.stop_service("ledger").await;
        world.execute(&planned.name).await.unwrap();
        world.comes_to(&planned.name, ActionState::Intended).await;
        world.stop_service("reconciliation").await;
        assert_eq!(other.jobs.run_once().await.unwrap().resumed, 1);
        world.start_service("ledger").await;
        world.start_service("reconciliation").await;
        assert_eq!(world.watch(&planned.name).await.state(), RemediationState::Closed);
        world.audited().await;
        other.stop().await;
        world.stop().await;
    }
}
