//! The one task that gives records their places: takes what waits of all logs, works it out, commits it together, then answers.
//!
//! While a batch commits, the next one is worked out on the states that the first one leads to, with its receipts and the statements that
//! write it. Those are provisional: the next batch is committed only after the first one, and if that fails, what was worked out on it is
//! thrown away and worked out again on what the database has. A batch is answered while the next one commits.
//!
//! It alone writes log states in this process. Other processes may write the same logs on PostgreSQL: the swap of the heads
//! fails for the slower one, which loads the log again and takes the batch from the start.

mod load;
mod plan;
mod queue;
mod second_look;
mod settle;
mod states;
mod work;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures::StreamExt as _;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinError, JoinSet};

pub(crate) use self::load::{Seen, check_link, check_progress, read_state};
pub(crate) use self::plan::{BatchItem, Fate, Grown, KnownRecords, plan};
use self::queue::{FairQueue, Most};
pub(crate) use self::queue::{Reply, Submission};
pub(crate) use self::second_look::seal;
use self::settle::{answer, commit};
use self::states::States;
use self::work::{Ready, Work, work_out};
use crate::engine::Shared;
use crate::faults::{self, FaultPoint};
use crate::model::{LogInfo, Outcome};
use crate::state::LogState;
use crate::{EngineError, LogId};

/// How often a batch is tried against other writers.
const ATTEMPTS: usize = 6;

/// Most records of a batch that is worked out by the sequencer itself: a signature takes some 30 microseconds.
const HERE_RECORDS_MAX: usize = 4;

/// Most records of one log in a batch that it shares with others, beside its first submission: some 10 milliseconds.
const LOG_RECORDS_MAX: usize = 256;

/// Batches that are answered at once, behind the one that commits.
const ANSWERS_AT_ONCE: usize = 2;

/// Logs that are loaded at once: one for each connection that reads.
const LOADS_AT_ONCE: usize = 4;

/// The sequencer's own memory.
#[derive(Debug)]
pub(crate) struct Sequencer {
    shared: Arc<Shared>,
    receiver: mpsc::UnboundedReceiver<Submission>,
    queue: FairQueue,
    /// Newest committed states.
    states: States,
    seen: HashMap<LogId, Seen>,
}

/// One answer a submission.
type Answers = Vec<Result<Vec<Outcome>, EngineError>>;

/// Submissions that are committed together.
#[derive(Debug, Default)]
struct Batch {
    logs: Vec<Arc<LogInfo>>,
    items: Arc<Vec<BatchItem>>,
    replies: Vec<Reply>,
}

impl Batch {
    fn new(submissions: Vec<Submission>) -> Self {
        let (mut items, mut replies, mut logs) = (Vec::new(), Vec::new(), Vec::new());
        for submission in submissions {
            items.push(BatchItem {
                log: submission.log.id,
                records: submission.records,
            });
            replies.push(submission.reply);
            logs.push(submission.log);
        }
        Self {
            logs,
            items: Arc::new(items),
            replies,
        }
    }

    fn answer(&mut self, answers: Answers) {
        for (reply, answer) in self.replies.drain(..).zip(answers) {
            // A caller that went away asks again, and gets the original positions.
            let _ = reply.sender.send(answer);
            drop(reply.share);
        }
    }

    fn fail(&mut self, error: &EngineError) {
        let answers = self.items.iter().map(|_| Err(error.clone()));
        self.answer(answers.collect());
    }
}

/// What a batch does, and on which states that was worked out.
#[derive(Debug, Default)]
struct Planned {
    /// The logs that grow.
    grown: BTreeMap<LogId, Grown>,
    /// Logs of which a record was refused for what the log holds: right only if that is still so.
    judged_by_state: Vec<LogId>,
    states: Arc<HashMap<LogId, Arc<LogState>>>,
    /// The logs that could not be loaded.
    failed: HashMap<LogId, EngineError>,
}

impl Planned {
    /// The state of a log after the batch.
    fn state(&self, log: LogId) -> Option<&Arc<LogState>> {
        let grown = self.grown.get(&log).map(|grown| &grown.state);
        grown.or_else(|| self.states.get(&log))
    }
}

/// Why a batch is taken from the start.
#[derive(Debug)]
enum Again {
    /// The state of this log is not the newest.
    Reload(LogId),
    /// So it may be with all logs of the batch, and every record id must be looked up.
    Thoroughly,
    /// What was worked out was not the same at the second look: nothing in memory is trusted any more.
    Miscalculated(EngineError),
    /// It is not: this failed.
    No(EngineError),
}

/// What a batch is worked out on.
#[derive(Debug, Clone, Copy)]
enum On<'a> {
    /// What is durable; all record ids are looked up, or only those that can be in the logs.
    Durable { thorough: bool },
    /// What a batch leads to that is not durable yet.
    Ahead(&'a Planned),
}

type Attempt = Result<Ready, Again>;

impl Sequencer {
    pub(crate) fn new(shared: Arc<Shared>, receiver: mpsc::UnboundedReceiver<Submission>) -> Self {
        let states = States::new(shared.options.states_bytes_max);
        Self {
            shared,
            receiver,
            queue: FairQueue::default(),
            states,
            seen: HashMap::new(),
        }
    }

    /// Runs until the engine is closed and everything that waits is answered.
    pub(crate) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut answering = JoinSet::new();
        let (mut busy, mut ahead) = (false, None);
        loop {
            let (mut batch, attempt) = match ahead.take() {
                Some(worked_out) => worked_out,
                None if self.wait(busy).await => self.next(On::Durable { thorough: false }).await,
                None => break,
            };
            busy = batch.items.len() > 1;
            // Nobody is answered by more at once: what was sent again is read for it, and the sequencer reads too.
            while answering.len() >= ANSWERS_AT_ONCE {
                answered(answering.join_next().await);
            }
            let committed = match attempt {
                Ok(ready) => {
                    let Ready {
                        planned,
                        judged,
                        write,
                    } = ready;
                    let (settled, waiting) = (Notify::new(), batch.items.len());
                    let committing = async {
                        commit(&shared, &planned, write).await?;
                        // The next commit does not wait until everybody has an answer.
                        let (shared, batch) = (Arc::clone(&shared), std::mem::take(&mut batch));
                        answering.spawn(answer(shared, batch, Arc::clone(&planned), judged));
                        Ok::<_, Again>(())
                    };
                    let committing = async {
                        let done = committing.await;
                        settled.notify_one();
                        done
                    };
                    let next = self.ahead(&planned, waiting, &settled);
                    let (done, next) = tokio::join!(committing, next);
                    ahead = next;
                    done.map(|()| planned)
                }
                Err(again) => Err(again),
            };
            match committed {
                Ok(planned) => self.adopt(&planned),
                Err(again) => {
                    self.try_again(batch, again).await;
                    if let Some((next, _)) = ahead.take() {
                        let attempt = self.attempt(&next, On::Durable { thorough: false }).await;
                        ahead = Some((next, attempt));
                    }
                }
            }
        }
        while !answering.is_empty() {
            answered(answering.join_next().await);
        }
    }

    /// Waits for work; while callers come in numbers, a moment longer, so that more of them share a commit.
    async fn wait(&mut self, busy: bool) -> bool {
        if self.queue.is_empty() {
            match self.receiver.recv().await {
                Some(submission) => self.queue.push(submission),
                None => return false,
            }
        }
        let linger = self.shared.options.linger;
        if busy
            && self.receiver.is_empty()
            && let Ok(Some(submission)) = tokio::time::timeout(linger, self.receiver.recv()).await
        {
            self.queue.push(submission);
        }
        while let Ok(submission) = self.receiver.try_recv() {
            self.queue.push(submission);
        }
        true
    }

    /// Takes the next batch and works it out.
    async fn next(&mut self, on: On<'_>) -> (Batch, Attempt) {
        let options = &self.shared.options;
        let most = Most {
            records: options.batch_records_max,
            records_of_log: LOG_RECORDS_MAX,
            bytes: options.batch_bytes_max,
        };
        let batch = Batch::new(self.queue.take(&most));
        let attempt = self.attempt(&batch, on).await;
        (batch, attempt)
    }

    /// Works out the next batch on what this one leads to, if half as much as it has waits before it is settled: smaller ones would cost
    /// more commits than they save.
    async fn ahead(
        &mut self,
        planned: &Planned,
        waiting: usize,
        settled: &Notify,
    ) -> Option<(Batch, Attempt)> {
        let enough = waiting.div_ceil(2);
        while self.queue.len() < enough {
            tokio::select! {
                biased;
                () = settled.notified() => return None,
                submission = self.receiver.recv() => self.queue.push(submission?),
            }
        }
        while let Ok(submission) = self.receiver.try_recv() {
            self.queue.push(submission);
        }
        Some(self.next(On::Ahead(planned)).await)
    }

    /// Settles a batch that did not settle at first, on its own.
    async fn try_again(&mut self, batch: Batch, mut again: Again) {
        let mut thorough = false;
        for _ in 0..ATTEMPTS {
            match again {
                Again::Reload(log) => {
                    self.states.remove(log);
                }
                Again::Thoroughly => {
                    thorough = true;
                    self.forget(&batch.logs);
                }
                Again::Miscalculated(_) => {
                    thorough = true;
                    self.forget(&batch.logs);
                    // Nor what they were remembered to be: the anchors are asked instead.
                    for log in &batch.logs {
                        self.seen.remove(&log.id);
                    }
                }
                Again::No(error) => return self.give_up(batch, &error),
            }
            again = match self.attempt(&batch, On::Durable { thorough }).await {
                Ok(ready) => match commit(&self.shared, &ready.planned, ready.write).await {
                    Ok(()) => {
                        self.adopt(&ready.planned);
                        let shared = Arc::clone(&self.shared);
                        return answer(shared, batch, ready.planned, ready.judged).await;
                    }
                    Err(again) => again,
                },
                Err(again) => again,
            };
        }
        let error = match again {
            Again::No(error) | Again::Miscalculated(error) => error,
            Again::Reload(_) | Again::Thoroughly => EngineError::Storage {
                step: "append",
                message: "other processes keep writing the same logs".to_owned(),
            },
        };
        self.give_up(batch, &error);
    }

    /// What is durable is open now: the next batch finds out.
    fn give_up(&mut self, mut batch: Batch, error: &EngineError) {
        self.forget(&batch.logs);
        self.shared.meters.batch_failed(error);
        tracing::error!(%error, "a batch was not appended");
        batch.fail(error);
    }

    /// Works a batch out.
    async fn attempt(&mut self, batch: &Batch, on: On<'_>) -> Attempt {
        let (states, failed) = self.load_states(&batch.logs, on).await;
        let known = self.look_up(&states, &batch.items, on).await?;
        if let Some(log) = found_beyond(&states, &known) {
            return Err(Again::Reload(log));
        }
        if let On::Ahead(_) = on {
            let reached = async { Ok(()) };
            let reached = faults::step(self.shared.faults.as_ref(), FaultPoint::Ahead, reached);
            reached.await.map_err(Again::No)?;
        }
        let work = Work {
            items: Arc::clone(&batch.items),
            states: Arc::new(states),
            known,
            now_ms: self.shared.clock.now_ms(),
        };
        let worked_out = work_out(&self.shared, work, failed);
        let faults = self.shared.faults.as_ref();
        let worked_out = faults::step(faults, FaultPoint::SecondLook, worked_out).await;
        worked_out.map_err(|error| match error {
            EngineError::Miscalculated { .. } => {
                tracing::error!(%error, "nothing was signed");
                self.shared.meters.miscalculated();
                Again::Miscalculated(error)
            }
            error => Again::No(error),
        })
    }

    /// Lets the next attempt load these logs.
    fn forget(&mut self, logs: &[Arc<LogInfo>]) {
        for log in logs {
            self.states.remove(log.id);
        }
    }

    /// The states of these logs, loaded where they are not in memory; and the logs that cannot be loaded, with the reason.
    async fn load_states(
        &mut self,
        logs: &[Arc<LogInfo>],
        on: On<'_>,
    ) -> (HashMap<LogId, Arc<LogState>>, HashMap<LogId, EngineError>) {
        let mut states = HashMap::new();
        let mut missing = BTreeMap::new();
        for log in logs {
            if states.contains_key(&log.id) {
                continue;
            }
            let ahead = match on {
                On::Ahead(planned) => planned.state(log.id).map(Arc::clone),
                On::Durable { .. } => None,
            };
            match ahead.or_else(|| self.states.get(log.id)) {
                Some(state) => drop(states.insert(log.id, state)),
                None => drop(missing.insert(log.id, log)),
            }
        }
        let missing: Vec<(Arc<LogInfo>, Option<Seen>)> = missing
            .into_iter()
            .map(|(id, log)| (Arc::clone(log), self.seen.get(&id).copied()))
            .collect();
        let mut failed = HashMap::new();
        for (log, loaded) in load_all(&self.shared, missing).await {
            match loaded {
                Ok(state) => {
                    let state = Arc::new(state);
                    self.shared.publish(log.id, state.size, &state.keys);
                    self.keep(&state);
                    states.insert(log.id, state);
                }
                Err(error) => {
                    tracing::error!(origin = log.origin, %error, "the log cannot be written");
                    self.shared.meters.unwritable(&log, &error);
                    failed.insert(log.id, error);
                }
            }
        }
        (states, failed)
    }

    /// Takes the states of a settled batch as the newest.
    fn adopt(&mut self, planned: &Planned) {
        for grown in planned.grown.values() {
            self.keep(&grown.state);
        }
    }

    fn keep(&mut self, state: &Arc<LogState>) {
        let log = state.info.id;
        let (size, root) = (state.size, state.root);
        self.seen.insert(log, Seen { size, root });
        self.shared.meters.writable(&state.info);
        self.states.insert(Arc::clone(state));
    }

    /// Looks up the record ids that can be in the logs: those at or below their stream's last, or all. What is not durable yet is not in
    /// the database: that the batch itself knows.
    async fn look_up(
        &self,
        states: &HashMap<LogId, Arc<LogState>>,
        items: &[BatchItem],
        on: On<'_>,
    ) -> Result<KnownRecords, Again> {
        let all = matches!(on, On::Durable { thorough: true });
        let mut wanted: HashMap<LogId, BTreeSet<[u8; 16]>> = HashMap::new();
        for item in items {
            let Some(state) = states.get(&item.log) else {
                continue;
            };
            for record in item.records.iter().flatten() {
                let last = state.streams.get(record.stream);
                let old = last.is_some_and(|last| record.stream_seq <= last.last_seq);
                if old || all {
                    wanted.entry(item.log).or_default().insert(record.record_id);
                }
            }
        }
        let mut known = KnownRecords::new();
        for (log, ids) in wanted {
            let ids: Vec<_> = ids.into_iter().collect();
            let found = self.shared.store.known_records(log, &ids).await;
            let mut found = found.map_err(Again::No)?;
            if let On::Ahead(planned) = on
                && let Some(grown) = planned.grown.get(&log)
            {
                let accepted = ids
                    .iter()
                    .filter_map(|id| Some((*id, *grown.accepted.get(id)?)));
                found.extend(accepted);
            }
            known.insert(log, found);
        }
        Ok(known)
    }
}

/// Tells if answering a batch ended badly: its callers are told that the engine is closed, and send again what is durable.
fn answered(ended: Option<Result<(), JoinError>>) {
    if let Some(Err(error)) = ended {
        tracing::error!(%error, "a batch that was appended was not answered");
    }
}

/// Loads logs, some at once.
async fn load_all(
    shared: &Arc<Shared>,
    logs: Vec<(Arc<LogInfo>, Option<Seen>)>,
) -> Vec<(Arc<LogInfo>, Result<LogState, EngineError>)> {
    let loading = logs.into_iter().map(|(log, seen)| {
        let shared = Arc::clone(shared);
        async move {
            let loaded = load::load(&shared, &log, seen).await;
            (log, loaded)
        }
    });
    let loading = futures::stream::iter(loading).buffer_unordered(LOADS_AT_ONCE);
    loading.collect().await
}

/// A log of which a record was found beyond its state: another process has appended it since the state was read, and nothing that
/// this state can prove holds it.
fn found_beyond(states: &HashMap<LogId, Arc<LogState>>, known: &KnownRecords) -> Option<LogId> {
    let found = known.iter().find(|(log, records)| {
        let size = states.get(log).map_or(u64::MAX, |state| state.size);
        records.values().any(|record| record.index >= size)
    });
    found.map(|(log, _)| *log)
}

/// Runs work on a batch that keeps a core busy beside the tasks; a small one here, because handing it over would cost more.
async fn aside<T: Send + 'static>(
    batch: &[BatchItem],
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    if batch.iter().map(|item| item.records.len()).sum::<usize>() <= HERE_RECORDS_MAX {
        return work();
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| EngineError::Closed)?
}
