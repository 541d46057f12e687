//! Removals are read again when it is due: they stayed, came back, or could not be read.

use std::{fs, sync::Arc};

use counterfoil_chassis::testing::TestDatabase;
use counterfoil_evidence::v1;
use counterfoil_proto::reconciliation::{
    ActionState, FindingState, RemediationState, RunDueRereadsResponse,
};

use tokio::time::timeout;

use super::{Account, DAY_MS, World, revoke_root, world::PATIENCE};

impl World {
    /// A removal that is proved, with re-reads due after a minute and after an hour.
    pub(super) async fn removed(&self) -> String {
        self.add_source(
            "hr",
            &[Account("amy", &["crew", "root"]), Account("bob", &["root"])],
            |_| {},
        )
        .await;
        self.review("q3", revoke_root).await;
        let planned = self.planned().await;
        let ended = self.carried_out(&planned.name).await;
        assert_eq!(ended.state(), RemediationState::Closed);
        assert_eq!(self.obligations().await.len(), 2);
        planned.name
    }
}

counterfoil_chassis::both_engines! {
    /// E3: access that comes back is seen when it is due, proved, and its case is open again.
    async fn e3_access_that_comes_back_reopens_the_case(db: TestDatabase) {
        let world = World::start(db).await;
        let first = world.removed().await;
        assert_eq!(world.rereads().await, RunDueRereadsResponse::default(), "nothing is due yet");
        world.clock.advance_ms(61_000);
        assert_eq!(world.rereads().await.discharged, 1);
        assert_eq!(world.watch(&first).await.state(), RemediationState::Closed, "it stayed");

        world.grant_behind("hr", "amy", "root");
        world.clock.advance_ms(3_600_000);
        let done = world.rereads().await;
        assert_eq!((done.discharged, done.regressed), (1, 1));
        let reopened = world.watch(&first).await;
        assert_eq!((reopened.state(), reopened.verified_count), (RemediationState::Regressed, 1));
        let states: Vec<_> = world.actions(&first).await.iter().map(|action| action.state()).collect();
        assert!(states.contains(&ActionState::Regressed) && states.contains(&ActionState::Verified));
        let findings = world.findings().await;
        assert_eq!(findings.iter().filter(|finding| finding.state() == FindingState::Reopened).count(), 1);
        assert!(world.obligations().await.is_empty());

        let planned = world.planned().await;
        assert_eq!(planned.actions_count, 1);
        assert_eq!(world.findings().await.len(), 2, "the same finding, not another one");
        assert_eq!(world.carried_out(&planned.name).await.state(), RemediationState::Closed);
        world.clock.advance_ms(3_700_000);
        let done = world.rereads().await;
        assert_eq!((done.discharged, done.regressed), (2, 0));
        let detected: Vec<v1::RegressionDetected> = world.of_type().await;
        assert_eq!(detected.len(), 1);
        world.audited().await;
        world.stop().await;
    }

    /// Two callers and the background job at once discharge an obligation once.
    async fn what_is_owed_is_discharged_once_however_many_ask(db: TestDatabase) {
        let world = World::start(db).await;
        world.removed().await;
        world.clock.advance_ms(61_000);
        let (one, two, job) = tokio::join!(world.rereads(), world.rereads(), world.jobs().run_once());
        assert_eq!(one.discharged + two.discharged + job.unwrap().discharged, 1);
        let discharged: Vec<v1::ObligationDischarged> = world.of_type().await;
        assert_eq!(discharged.len(), 1);
        assert_eq!(world.obligations().await.len(), 1, "the later one is still owed");
        world.audited().await;
        world.stop().await;
    }

    /// A source that cannot be read leaves its re-read owed, and breached, once, when that lasts too long.
    async fn a_reread_that_cannot_be_done_is_breached_once(db: TestDatabase) {
        let world = World::start(db).await;
        world.removed().await;
        let accounts = world.files("hr").join("accounts.csv");
        let whole = fs::read_to_string(&accounts).unwrap();
        fs::write(&accounts, format!("{whole}ragged\n")).unwrap();
        world.clock.advance_ms(61_000);
        let done = world.rereads().await;
        assert_eq!((done.discharged, done.unobservable), (0, 1));
        assert_eq!(world.obligations().await.len(), 2, "still owed");
        let job = world.jobs().run_once().await.unwrap();
        assert_eq!((job.unobservable, job.breached), (0, 0), "it was not readable a moment ago");
        world.clock.advance_ms(240_000);
        let job = world.jobs().run_once().await.unwrap();
        assert_eq!((job.unobservable, job.breached), (1, 1));
        assert_eq!(world.jobs().run_once().await.unwrap().breached, 0);
        let breached: Vec<v1::ObligationBreached> = world.of_type().await;
        assert_eq!((breached.len(), breached[0].reason.as_str()), (1, "overdue"));
        fs::write(&accounts, whole).unwrap();
        world.clock.advance_ms(3_400_000);
        assert_eq!(world.rereads().await.discharged, 2, "the next one in time, the breached one late");
        assert_eq!(world.rereads().await, RunDueRereadsResponse::default());
        world.audited().await;
        world.stop().await;
    }

    /// Access that comes back is found also when nobody could look in time, and then the source is tried ever more rarely.
    async fn access_that_comes_back_after_a_breach_is_found(db: TestDatabase) {
        let world = World::start(db).await;
        let first = world.removed().await;
        let accounts = world.files("hr").join("accounts.csv");
        let whole = fs::read_to_string(&accounts).unwrap();
        fs::write(&accounts, format!("{whole}ragged\n")).unwrap();
        world.clock.advance_ms(3_900_000);
        let job = world.jobs().run_once().await.unwrap();
        assert_eq!((job.breached, job.unobservable), (2, 2), "both, and still unreadable");
        world.clock.advance_ms(31_000);
        assert_eq!(world.jobs().run_once().await.unwrap().unobservable, 0, "tried a moment ago, for what that is worth now");
        world.grant_behind("hr", "amy", "root");
        fs::write(&accounts, whole).unwrap();
        world.clock.advance_ms(31_000);
        let job = world.jobs().run_once().await.unwrap();
        assert_eq!((job.discharged, job.regressed, job.breached), (2, 1, 0));
        assert_eq!(world.watch(&first).await.state(), RemediationState::Regressed);
        let findings = world.findings().await;
        assert_eq!(findings.iter().filter(|finding| finding.state() == FindingState::Reopened).count(), 1);
        let detected: Vec<v1::RegressionDetected> = world.of_type().await;
        assert_eq!(detected.len(), 1);
        assert_eq!(world.jobs().run_once().await.unwrap().discharged, 0);
        world.audited().await;
        world.stop().await;
    }

    /// A source that takes long holds up neither the others, nor the breach of what is owed there, nor the callers.
    async fn a_slow_source_holds_up_nobody_else(db: TestDatabase) {
        let mut world = World::start(db).await;
        world.settings.reread_answer_ms = 3_000;
        world.restart().await;
        for source in ["slow", "hr"] {
            world.add_source(source, &[Account("amy", &["crew", "root"])], |_| {}).await;
        }
        world.review("q3", revoke_root).await;
        let planned = world.planned().await;
        assert_eq!(world.carried_out(&planned.name).await.state(), RemediationState::Closed);
        world.clock.advance_ms(61_000);
        world.not_read_for("slow", 300_000).await;
        let jobs = world.jobs().clone();
        let slow = tokio::spawn(async move { jobs.run_once().await.unwrap() });
        let turn = world.context().reread_turn("acme", "slow");
        let others = async {
            // Held by the job, beside the context and here.
            while Arc::strong_count(&turn) < 3 {
                tokio::task::yield_now().await;
            }
            while world.obligations().await.len() > 3 {
                assert!(world.rereads().await.unobservable > 0, "it is told that one is still being read");
            }
        };
        timeout(PATIENCE, others).await.expect("the other source waits for the slow one");
        world.clock.advance_ms(240_000);
        let job = timeout(PATIENCE, world.jobs().run_once()).await.expect("a breach waits for the slow source").unwrap();
        assert_eq!((job.breached, job.unobservable), (1, 0));
        assert_eq!(world.obligations().await.len(), 2, "the later ones");
        world.clock.advance_ms(60_000);
        assert!(timeout(PATIENCE, slow).await.unwrap().unwrap().discharged > 0, "late");
        assert_eq!(world.of_type::<v1::ObligationDischarged>().await.len(), 2);
        assert_eq!(world.of_type::<v1::ObligationBreached>().await.len(), 1);
        world.audited().await;
        world.stop().await;
    }

    /// A removal that is never proved is not forgotten: what is owed for it is breached when it is overdue.
    async fn an_open_removal_is_owed_and_breached_when_overdue(db: TestDatabase) {
        let world = World::start(db).await;
        let (planned, lock) = world.planned_for_a_locked_target().await;
        assert_eq!(world.carried_out(&planned.name).await.state(), RemediationState::Failed);
        let owed = world.obligations().await;
        assert_eq!((owed.len(), owed[0].kind.as_str()), (1, "verify_removal"));
        world.clock.advance_ms(3 * DAY_MS + 240_000);
        assert_eq!(world.jobs().run_once().await.unwrap().breached, 1);
        assert!(world.obligations().await.is_empty());
        drop(lock);
        assert_eq!(world.carried_out(&planned.name).await.state(), RemediationState::Closed);
        world.audited().await;
        world.stop().await;
    }
}
