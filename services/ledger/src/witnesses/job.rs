//! Shows the logs that grew to the witnesses, beside everything else.
//!
//! What is published is shown, and not more: what a witness remembers can then be brought back from the published copy. Where nothing
//! is published the newest state is shown. All witnesses are shown the same checkpoint, because only cosignatures of one size add up; and each
//! has a row of its own, so that one that is slow holds up nobody's answers but its own.
//!
//! What is durable is the engine's: cut off anywhere, the next round goes on. Replicas do the same work; who comes second finds
//! the cosignatures in the database, or is answered as well.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use counterfoil_chassis::{CancellationToken, Clock};
use counterfoil_engine::{Cosignature, EngineError, Log, Publication, WitnessError};
use futures::StreamExt as _;
use futures::future::{join, join_all};
use tokio::sync::watch;

use super::known::{Due, Known};
use super::{Asked, Failure, Witnessed};
use crate::copies::{Copied, Copies};
use crate::logs::Logs;

/// How often the logs' sizes are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Logs that are looked up, or shown to one witness, at once.
const LOGS_AT_ONCE: usize = 16;
/// Logs that one witness is asked for before it is chosen again what comes first.
const ASKED_AT_A_TIME: usize = 64;
const INTERVAL_SECONDS: u32 = 60;

/// Shows logs to witnesses.
#[derive(Debug)]
pub(crate) struct Witnessing {
    logs: Logs,
    to: Option<(Publication, Copies)>,
    witnessed: Witnessed,
    clock: Clock,
    interval_ms: i64,
    known: Mutex<Known>,
    /// Told after each look.
    looked: watch::Sender<()>,
}

/// What came of asking a witness for one log.
enum Answer {
    /// It has this cosignature, which is not kept yet.
    Cosigned(Log, Box<Cosignature>),
    /// What it has cosigned is known already: another replica has asked it.
    Known(Log, u64),
    /// It was not asked, because it rests.
    Rests,
    /// It has not.
    Failed(Option<Log>, WitnessError),
}

impl Witnessing {
    pub(crate) fn new(
        logs: Logs,
        to: Option<(Publication, Copies)>,
        witnessed: Witnessed,
        clock: Clock,
        interval_seconds: Option<u32>,
    ) -> Self {
        Self {
            logs,
            to,
            witnessed,
            clock,
            interval_ms: i64::from(interval_seconds.unwrap_or(INTERVAL_SECONDS)) * 1000,
            known: Mutex::default(),
            looked: watch::Sender::new(()),
        }
    }

    /// Runs until the service ends.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let asked = self.witnessed.witnesses.asked().iter().enumerate();
        let rows = join_all(asked.map(|(at, one)| self.keep_asking(at, one)));
        shutdown
            .run_until_cancelled(join(self.keep_looking(), rows))
            .await;
    }

    async fn keep_looking(&self) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "the logs' sizes cannot be read; nothing is shown to witnesses");
            }
            self.looked.send_replace(());
        }
    }

    async fn keep_asking(&self, at: usize, one: &Asked) {
        let mut looked = self.looked.subscribe();
        while looked.changed().await.is_ok() {
            while self.ask_due(at, one).await {}
        }
    }

    /// Finds the logs that have grown, long enough after they were shown last or because somebody waits for them.
    async fn look(&self) -> Result<(), EngineError> {
        let wanted = self.witnessed.reached.take_wanted();
        let mut sizes = self.sizes().await?;
        let unknown = self.lock().unknown(&sizes, &wanted, self.clock.now_ms());
        let unknown = unknown.into_iter().map(|tenant| async move {
            if let Err(error) = self.look_up(&tenant).await {
                self.failed(&tenant, &error);
                self.lock().lost(&tenant, self.clock.now_ms());
            }
        });
        let looking = futures::stream::iter(unknown).buffer_unordered(LOGS_AT_ONCE);
        looking.collect::<()>().await;
        let (now_ms, resting) = (self.clock.now_ms(), self.resting());
        let mut known = self.lock();
        known.choose(&sizes, &wanted, self.interval_ms, &resting, now_ms);
        sizes.retain(|(tenant, _)| !known.is_private(tenant));
        self.witnessed.reached.look(&sizes, now_ms);
        Ok(())
    }

    /// The sizes that are shown.
    async fn sizes(&self) -> Result<Vec<(String, u64)>, EngineError> {
        let mut sizes = self.logs.sizes().await?;
        if self.to.is_some() {
            for (tenant, size) in &mut sizes {
                *size = self.most(tenant);
            }
        }
        sizes.retain(|(_, size)| *size > 0);
        Ok(sizes)
    }

    /// Finds how far a log is witnessed, once after the start.
    async fn look_up(&self, tenant: &str) -> Result<(), EngineError> {
        let log = self.logs.get(tenant).await?;
        let is_private = !self.witnessed.are_asked_for(&log);
        let policy = self.witnessed.witnesses.policy();
        let reached = match is_private {
            true => None,
            false => log.witnessed(policy).await?,
        };
        if let Some(size) = reached {
            self.tell(&log, size);
        }
        let witnesses = self.witnessed.witnesses.asked().len();
        self.lock().add(
            tenant.to_owned(),
            is_private,
            witnesses,
            reached.unwrap_or(0),
        );
        Ok(())
    }

    /// Which witnesses are left alone for now, whatever log it is.
    fn resting(&self) -> Vec<bool> {
        let asked = self.witnessed.witnesses.asked().iter();
        asked.map(|one| one.calls.rests()).collect()
    }

    /// Asks one witness for what it has not cosigned and should; whether there is more. What comes in while the last cosignatures are kept is
    /// kept together.
    async fn ask_due(&self, at: usize, one: &Asked) -> bool {
        let due = self.lock().due(at, self.clock.now_ms(), ASKED_AT_A_TIME);
        let is_full = due.len() == ASKED_AT_A_TIME;
        let asks = due.into_iter().map(|due| async move {
            let answer = self.ask(at, one, &due).await;
            (due, answer)
        });
        let asks = futures::stream::iter(asks).buffer_unordered(LOGS_AT_ONCE);
        let mut answers = asks.ready_chunks(LOGS_AT_ONCE);
        while let Some(answers) = answers.next().await {
            self.take(at, one, answers).await;
        }
        is_full && !one.calls.rests()
    }

    async fn ask(&self, at: usize, one: &Asked, due: &Due) -> Answer {
        if one.calls.rests() {
            return Answer::Rests;
        }
        let log = match self.logs.get(&due.tenant).await {
            Ok(log) => log,
            Err(error) => return Answer::Failed(None, error.into()),
        };
        self.lock().asks(&due.tenant, at, due.size);
        match self.ask_for(&log, at, one, due).await {
            Ok(Ok(cosignature)) => Answer::Cosigned(log, Box::new(cosignature)),
            Ok(Err(size)) => Answer::Known(log, size),
            Err(error) => Answer::Failed(Some(log), error),
        }
    }

    /// Compares a log with what a witness shows of it, once after the start, and asks for its cosignature; or the size that it has cosigned
    /// already.
    async fn ask_for(
        &self,
        log: &Log,
        at: usize,
        one: &Asked,
        due: &Due,
    ) -> Result<Result<Cosignature, u64>, WitnessError> {
        if !due.is_met {
            log.check_witness(&one.witness).await?;
            self.lock().met(&due.tenant, at);
        }
        let cosigned = log.cosigned_size(one.witness.key()).await?;
        if cosigned >= due.size {
            return Ok(Err(cosigned));
        }
        let asking = log.ask_to_cosign(&one.witness, due.size, self.most(&due.tenant));
        asking.await.map(Ok)
    }

    /// Up to which size a log is shown at all.
    fn most(&self, tenant: &str) -> u64 {
        match &self.to {
            Some((_, copies)) => copies.of(tenant).map_or(0, |copied| copied.size),
            None => u64::MAX,
        }
    }

    /// Makes cosignatures durable, all in one commit; where that fails each in its own, because what is wrong with one log is nothing of the
    /// others'. In their order.
    async fn keep(&self, cosigned: &[(&Log, &Cosignature)]) -> Vec<Result<(), EngineError>> {
        let engine = self.logs.engine();
        match engine.keep_cosignatures(cosigned).await {
            Err(error) if cosigned.len() < 2 => vec![Err(error); cosigned.len()],
            Err(_) => {
                let mut kept = Vec::with_capacity(cosigned.len());
                for one in cosigned {
                    kept.push(engine.keep_cosignatures(std::slice::from_ref(one)).await);
                }
                kept
            }
            Ok(()) => vec![Ok(()); cosigned.len()],
        }
    }

    /// Keeps what one witness has answered, in one commit, and tells those who wait.
    async fn take(&self, at: usize, one: &Asked, answers: Vec<(Due, Answer)>) {
        let cosigned = answers.iter().filter_map(|(_, answer)| match answer {
            Answer::Cosigned(log, cosignature) => Some((log, cosignature.as_ref())),
            _ => None,
        });
        let cosigned: Vec<(&Log, &Cosignature)> = cosigned.collect();
        // If we crash here: the witness has persisted these sizes. It is asked again, and answers again.
        let mut kept = self.keep(&cosigned).await.into_iter();
        let mut answered = Vec::new();
        for (due, answer) in answers {
            let mut is_away = false;
            let (log, size) = match answer {
                Answer::Cosigned(log, cosignature) => {
                    match kept.next().unwrap_or(Err(EngineError::Closed)) {
                        Err(error) => {
                            self.failed(&due.tenant, &error);
                            (Some(log), None)
                        }
                        Ok(()) => {
                            self.witnessed.tally.cosigned(&one.name);
                            (Some(log), Some(cosignature.size))
                        }
                    }
                }
                Answer::Known(log, size) => (Some(log), Some(size)),
                Answer::Rests => continue,
                Answer::Failed(log, error) => {
                    self.blame(&due.tenant, one, &error);
                    // It is left alone for all logs then, and none of them has failed.
                    is_away = matches!(error, WitnessError::Unreachable(_)) && one.calls.rests();
                    // What is wrong with the log itself is not settled here.
                    let is_its_own = matches!(error, WitnessError::Log(_));
                    (log.filter(|_| !is_its_own), None)
                }
            };
            let now_ms = self.clock.now_ms();
            match is_away {
                true => self.lock().unanswered(&due.tenant, at),
                false => self.lock().answered(&due.tenant, at, size, now_ms),
            }
            answered.extend(log.map(|log| (log, size)));
        }
        let settling = answered.into_iter().map(|(log, size)| async move {
            if let Err(error) = self.settle(&log, size).await {
                self.failed(&log.info().tenant, &error);
            }
        });
        join_all(settling).await;
    }

    /// Looks whether the cosignatures of a size are enough by now. When they are, or when nobody is left to be asked, those that nobody needs
    /// are taken away, and the others are published.
    async fn settle(&self, log: &Log, size: Option<u64>) -> Result<(), EngineError> {
        let tenant = &log.info().tenant;
        let policy = self.witnessed.witnesses.policy();
        let mut is_new = false;
        let enough = self.lock().enough(tenant);
        if let Some(size) = size
            && size > enough
            && log.is_witnessed(policy, size).await?
        {
            is_new = self.lock().reached(tenant, size);
            if is_new {
                self.tell(log, size);
            }
        }
        let (now_ms, resting) = (self.clock.now_ms(), self.resting());
        let (is_over, below, enough) = {
            let known = self.lock();
            let is_over = known.is_settled(tenant, &resting, now_ms);
            (is_over, known.oldest_asked(tenant), known.enough(tenant))
        };
        if !is_new && !is_over {
            return Ok(());
        }
        log.thin_cosignatures(below, enough).await?;
        if let Some((publication, _)) = &self.to {
            log.publish_cosignatures(publication).await?;
        }
        Ok(())
    }

    fn tell(&self, log: &Log, size: u64) {
        let reached = Copied {
            size,
            at_ms: self.clock.now_ms(),
            stopped: false,
        };
        let tenant = &log.info().tenant;
        self.witnessed.reached.published(tenant, reached);
    }

    /// Tells what a witness has done wrong.
    fn blame(&self, tenant: &str, one: &Asked, error: &WitnessError) {
        let Some(failure) = Failure::of(error) else {
            if let WitnessError::Log(error) = error {
                self.failed(tenant, error);
            }
            return;
        };
        self.witnessed.tally.failed(&one.name, failure);
        let witness = &one.name;
        match failure {
            Failure::Unreachable | Failure::Refused => {
                tracing::warn!(witness, tenant, %error, "a checkpoint was not cosigned");
            }
            Failure::BadCosignature => {
                tracing::error!(alarm = "BAD_COSIGNATURE", witness, tenant, %error, "it is not kept");
            }
            Failure::Contradicts => {
                tracing::error!(alarm = "WITNESS_CONTRADICTS", witness, tenant, %error, "compare its log with ours");
            }
        }
    }

    fn failed(&self, tenant: &str, error: &EngineError) {
        if let EngineError::Damaged { .. } = error {
            tracing::error!(alarm = "LOG_STOPPED", tenant, %error, "it is not shown to witnesses");
            self.witnessed.reached.stopped(tenant);
        } else {
            // Tried again after a rest.
            tracing::warn!(tenant, %error, "the log was not shown to witnesses");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use counterfoil_chassis::{both_engines, testing::TestDatabase};

    use super::*;
    use crate::anchorer::tests::{NOW_MS, Opened, open};
    use crate::store::conformance::tamper;
    use crate::witnesses::tests::{cosignature, out_of_reach};

    const GARBLED: &str = "UPDATE log_heads SET root = substr(root, 1, 3) \
        WHERE log_id = (SELECT log_id FROM logs WHERE tenant = 'acme')";

    /// Of two logs, with a witness that nobody can reach.
    async fn witnessing(opened: &Opened, folder: &std::path::Path) -> Witnessing {
        for tenant in ["acme", "beta"] {
            opened.logs.create(tenant).await.unwrap();
        }
        let clock = opened.clock.clock();
        let witnessed = Witnessed::new(out_of_reach(opened, folder, ""), clock.clone());
        Witnessing::new(opened.logs.clone(), None, witnessed, clock, None)
    }

    fn due(witnessing: &Witnessing) -> Vec<String> {
        let due = witnessing.lock().due(0, witnessing.clock.now_ms(), 9);
        let mut due: Vec<String> = due.into_iter().map(|due| due.tenant).collect();
        due.sort();
        due
    }

    both_engines! {
        async fn what_is_wrong_with_one_log_is_nothing_of_the_others(db: TestDatabase) {
            let folder = tempfile::tempdir().unwrap();
            let opened = open(&db, folder.path()).await;
            let job = witnessing(&opened, folder.path()).await;
            job.look().await.unwrap();
            assert_eq!(due(&job), ["acme", "beta"]);
            let one = &job.witnessed.witnesses.asked()[0];
            let mut answers = Vec::new();
            for tenant in ["acme", "beta"] {
                let log = opened.logs.get(tenant).await.unwrap();
                let cosignature = Box::new(cosignature(&log).await);
                let due = Due { tenant: tenant.to_owned(), size: cosignature.size, is_met: true };
                answers.push((due, Answer::Cosigned(log, cosignature)));
            }
            // One of them has a cosignature already that cannot be compared with its checkpoint any more.
            let (_, Answer::Cosigned(acme, kept)) = &answers[0] else { panic!() };
            opened.logs.engine().keep_cosignatures(&[(acme, &**kept)]).await.unwrap();
            tamper(&opened.chassis.db, GARBLED).await;
            job.take(0, one, answers).await;
            let beta = opened.logs.get("beta").await.unwrap();
            let size = beta.head().await.unwrap().size;
            let enough = |tenant| job.lock().enough(tenant);
            assert_eq!((enough("acme"), enough("beta")), (0, size));
            assert_eq!(job.witnessed.tally.read()["A"].cosignatures, 1);
            opened.close().await;
        }

        async fn a_log_that_cannot_be_looked_up_is_left_alone_for_a_while(db: TestDatabase) {
            let folder = tempfile::tempdir().unwrap();
            let opened = open(&db, folder.path()).await;
            let job = witnessing(&opened, folder.path()).await;
            let acme = opened.logs.get("acme").await.unwrap();
            let kept = cosignature(&acme).await;
            opened.logs.engine().keep_cosignatures(&[(&acme, &kept)]).await.unwrap();
            tamper(&opened.chassis.db, GARBLED).await;
            job.look().await.unwrap();
            assert_eq!(due(&job), ["beta"]);
            let (sizes, nobody) = (job.sizes().await.unwrap(), Default::default());
            let unknown = |now_ms| job.lock().unknown(&sizes, &nobody, now_ms);
            assert_eq!((unknown(NOW_MS), unknown(NOW_MS + 5000)), (vec![], vec!["acme".to_owned()]));
            opened.close().await;
        }

        async fn a_witness_that_is_out_of_reach_lets_no_log_rest(db: TestDatabase) {
            let folder = tempfile::tempdir().unwrap();
            let opened = open(&db, folder.path()).await;
            let job = witnessing(&opened, folder.path()).await;
            job.look().await.unwrap();
            let one = &job.witnessed.witnesses.asked()[0];
            assert!(!job.ask_due(0, one).await);
            assert!(one.calls.rests());
            // As soon as anybody is asked again, all are.
            assert_eq!(due(&job), ["acme", "beta"]);
            opened.close().await;
        }

        async fn nothing_is_shown_above_what_is_published(db: TestDatabase) {
            let folder = tempfile::tempdir().unwrap();
            let opened = open(&db, folder.path()).await;
            let mut job = witnessing(&opened, folder.path()).await;
            assert_eq!(job.most("acme"), u64::MAX);
            let url = format!("file://{}", folder.path().join("copies").display());
            let copies = Copies::default();
            job.to = Some((crate::publisher::open(&url).unwrap(), copies.clone()));
            assert_eq!((job.most("acme"), job.sizes().await.unwrap()), (0, vec![]));
            copies.published("acme", Copied { size: 1, at_ms: 0, stopped: false });
            assert_eq!((job.most("acme"), job.sizes().await.unwrap()), (1, vec![("acme".to_owned(), 1)]));
            opened.close().await;
        }
    }
}
