//! Targets and readers that do not do what they should. Nothing that is not proved is closed.

use std::{fs, os::unix::fs::symlink};

use counterfoil_chassis::testing::TestDatabase;
use counterfoil_evidence::v1::{self, AttemptResult};
use counterfoil_proto::{
    recertification::CampaignState,
    reconciliation::{ActionState, Remediation, RemediationState},
};

use super::{Account, World, revoke_root};

const HOUR_MS: i64 = 3_600_000;

impl World {
    /// A removal of amy's that is planned while somebody else has locked the target and soon gives up waiting for it.
    pub(super) async fn planned_for_a_locked_target(&self) -> (Remediation, fs::File) {
        self.add_source("hr", &[Account("amy", &["crew", "root"])], |config| {
            config["lock_timeout_ms"] = 50.into();
        })
        .await;
        self.review("q3", revoke_root).await;
        (self.planned().await, self.locked("hr"))
    }

    /// A source whose writer reaches the files by a path of its own: "{id}-rw", at first a link to the same directory.
    async fn add_source_with_a_writers_path(&self, id: &str, people: &[Account<'_>]) {
        let folder = self.files(id);
        let path = folder.with_file_name(format!("{id}-rw"));
        symlink(&folder, &path).unwrap();
        self.add_source(id, people, |config| {
            config["writer_directory"] = path.to_str().unwrap().into()
        })
        .await;
    }

    /// Points the writer's path of a source at another directory.
    fn repoint(&self, id: &str, to: &std::path::Path) {
        let path = self.files(id).with_file_name(format!("{id}-rw"));
        fs::remove_file(&path).unwrap();
        symlink(to, path).unwrap();
    }

    pub(super) async fn results(&self) -> Vec<AttemptResult> {
        let attempts: Vec<v1::ActionAttempted> = self.of_type().await;
        attempts.iter().map(v1::ActionAttempted::result).collect()
    }
}

counterfoil_chassis::both_engines! {
    /// C15: one of five targets refuses: the whole is PARTIAL, each target's state is told, and a later try finishes it.
    async fn c15_one_of_five_targets_refuses_and_the_whole_is_not_done(db: TestDatabase) {
        let world = World::start(db).await;
        for id in ["a", "b", "c", "d", "e"] {
            world.add_source_with_a_writers_path(id, &[Account("amy", &["crew", "root"])]).await;
        }
        let campaign = world.review("q3", revoke_root).await;
        let planned = world.planned().await;
        assert_eq!(planned.actions_count, 5);
        // A grants.csv that is a symbolic link is refused by the writer.
        let trap = world.files("trap");
        symlink(world.files("c").join("grants.csv"), trap.join("grants.csv")).unwrap();
        world.repoint("c", &trap);

        let ended = world.carried_out(&planned.name).await;
        assert_eq!((ended.state(), ended.verified_count, ended.open_count), (RemediationState::Partial, 4, 1));
        let actions = world.actions(&planned.name).await;
        let open: Vec<_> = actions.iter().filter(|action| action.state() != ActionState::Verified).collect();
        assert_eq!((open.len(), open[0].state(), open[0].attempts), (1, ActionState::Failed, 1));
        assert!(open[0].failure_message.contains("refused"), "{}", open[0].failure_message);
        assert_eq!(world.grants_in("c").len(), 2);
        let owed = world.obligations().await;
        assert_eq!(owed.iter().filter(|owed| owed.kind == "verify_removal").count(), 1);
        assert_eq!(owed.iter().filter(|owed| owed.kind == "persistence_reread").count(), 8);

        world.repoint("c", &world.files("c"));
        let ended = world.carried_out(&planned.name).await;
        assert_eq!((ended.state(), ended.verified_count), (RemediationState::Closed, 5));
        let owed = world.obligations().await;
        assert_eq!(owed.iter().filter(|owed| owed.kind == "verify_removal").count(), 0, "discharged");
        assert_eq!(owed.len(), 10);
        let closes: Vec<v1::RemediationClosed> = world.of_type().await;
        let outcomes: Vec<_> = closes.iter().map(v1::RemediationClosed::outcome).collect();
        assert_eq!(outcomes, [v1::RemediationOutcome::Partial, v1::RemediationOutcome::Closed]);
        assert_eq!(world.close(&campaign).await.state(), CampaignState::Closed);
        world.audited().await;
        world.stop().await;
    }

    /// C24: the target says that it did it, and did it elsewhere. Its word closes nothing.
    async fn c24_an_acknowledgement_without_effect_closes_nothing(db: TestDatabase) {
        let world = World::start(db).await;
        world.add_source_with_a_writers_path("hr", &[Account("amy", &["crew", "root"])]).await;
        let campaign = world.review("q3", revoke_root).await;
        let planned = world.planned().await;
        let copy = world.files("copy");
        for file in ["accounts.csv", "entitlements.csv", "grants.csv"] {
            fs::copy(world.files("hr").join(file), copy.join(file)).unwrap();
        }
        world.repoint("hr", &copy);
        let ended = world.carried_out(&planned.name).await;
        assert_eq!((ended.state(), ended.verified_count), (RemediationState::Failed, 0));
        let action = &world.actions(&planned.name).await[0];
        assert_eq!((action.state(), action.attempts), (ActionState::StillPresent, 2));
        assert_eq!(world.results().await, [AttemptResult::Ok, AttemptResult::Ok]);
        assert!(world.of_type::<v1::EffectVerified>().await.is_empty());
        assert!(world.of_type::<v1::GrantEnded>().await.is_empty());
        let closed = world.close(&campaign).await;
        assert_eq!((closed.state(), closed.debt_count), (CampaignState::ClosedWithDebt, 1));
        world.audited().await;
        world.stop().await;
    }

    /// A target that does not answer in time: nobody knows, so it is read before it is tried again.
    async fn a_target_that_does_not_answer_is_read_before_it_is_asked_again(db: TestDatabase) {
        let mut world = World::start(db).await;
        world.settings.writer_timeout_ms = 100;
        world.restart().await;
        world.add_source("hr", &[Account("amy", &["crew", "root"])], |config| {
            config["lock_timeout_ms"] = 400.into();
        }).await;
        world.review("q3", revoke_root).await;
        let planned = world.planned().await;
        let lock = world.locked("hr");
        let ended = world.carried_out(&planned.name).await;
        assert_eq!(ended.state(), RemediationState::Failed);
        let action = &world.actions(&planned.name).await[0];
        assert_eq!((action.state(), action.attempts), (ActionState::StillPresent, 2));
        assert_eq!(world.results().await, [AttemptResult::Ambiguous, AttemptResult::Ambiguous]);
        drop(lock);
        world.settings.writer_timeout_ms = 60_000;
        world.restart().await;
        assert_eq!(world.carried_out(&planned.name).await.state(), RemediationState::Closed);
        let intents: Vec<v1::ActionIntended> = world.of_type().await;
        assert!(intents[0].read_before_retry_record_hash.is_empty());
        assert!(intents[1..].iter().all(|intent| intent.read_before_retry_record_hash.len() == 32));
        world.audited().await;
        world.stop().await;
    }

    /// A target that is locked by somebody else is not asked at all; the plan waits.
    async fn a_target_that_is_busy_is_left_alone(db: TestDatabase) {
        let world = World::start(db).await;
        let (planned, lock) = world.planned_for_a_locked_target().await;
        let ended = world.carried_out(&planned.name).await;
        assert_eq!(ended.state(), RemediationState::Failed);
        let action = &world.actions(&planned.name).await[0];
        assert_eq!((action.state(), action.attempts), (ActionState::Planned, 2));
        assert_eq!(world.results().await, [AttemptResult::NotAttempted, AttemptResult::NotAttempted]);
        drop(lock);
        assert_eq!(world.carried_out(&planned.name).await.state(), RemediationState::Closed);
        world.audited().await;
        world.stop().await;
    }

    /// A clock that was set back proves no order: nothing goes out by it, and all is done when it is right again.
    async fn nothing_is_sent_by_a_clock_that_stands_before_the_log(db: TestDatabase) {
        let world = World::start(db).await;
        world.add_source("hr", &[Account("amy", &["crew", "root"])], |_| {}).await;
        world.clock.advance_ms(2 * HOUR_MS);
        let campaign = world.review("q3", revoke_root).await;
        let planned = world.planned().await;
        let before = world.grants_in("hr");
        world.clock.advance_ms(-HOUR_MS);
        let ended = world.carried_out(&planned.name).await;
        assert_eq!(ended.state(), RemediationState::Failed);
        let action = &world.actions(&planned.name).await[0];
        assert!(action.failure_message.contains("clock"), "{}", action.failure_message);
        assert_eq!(world.results().await, [AttemptResult::NotAttempted, AttemptResult::NotAttempted]);
        assert_eq!(world.grants_in("hr"), before);
        world.audited().await;
        world.clock.advance_ms(HOUR_MS);
        assert_eq!(world.carried_out(&planned.name).await.state(), RemediationState::Closed);
        assert_eq!(world.close(&campaign).await.state(), CampaignState::Closed);
        world.audited().await;
        world.stop().await;
    }

    /// What cannot be read is never green: UNVERIFIABLE, the campaign has debt, and it is proved once it can be read.
    async fn what_cannot_be_read_back_stays_open_until_it_can(db: TestDatabase) {
        let world = World::start(db).await;
        world.add_source("hr", &[Account("amy", &["crew", "root"])], |_| {}).await;
        let campaign = world.review("q3", revoke_root).await;
        let planned = world.planned().await;
        let accounts = world.files("hr").join("accounts.csv");
        let whole = fs::read_to_string(&accounts).unwrap();
        fs::write(&accounts, format!("{whole}ragged\n")).unwrap();
        let ended = world.carried_out(&planned.name).await;
        assert_eq!((ended.state(), ended.verified_count), (RemediationState::Unverifiable, 0));
        assert_eq!(world.grants_in("hr").len(), 1, "it is gone, and nobody could prove it");
        let action = &world.actions(&planned.name).await[0];
        assert_eq!(action.state(), ActionState::Unverifiable);
        assert!(action.failure_message.contains("accounts.csv"), "{}", action.failure_message);
        let closed = world.close(&campaign).await;
        assert_eq!((closed.state(), closed.debt_count), (CampaignState::ClosedWithDebt, 1));

        fs::write(&accounts, whole).unwrap();
        let ended = world.carried_out(&planned.name).await;
        assert_eq!((ended.state(), ended.verified_count), (RemediationState::Closed, 1));
        assert_eq!(world.actions(&planned.name).await[0].attempts, 1, "it was read, and not asked again");
        world.audited().await;
        world.stop().await;
    }
}
