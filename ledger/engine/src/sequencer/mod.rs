//! The one task that gives records their places: takes what waits of all logs, commits it together, then answers.
//!
//! It alone writes log states in this process. Other processes may write the same logs on PostgreSQL: the swap of the heads
//! fails for the slower one, which loads the log again and takes the batch from the start.

mod load;
mod plan;
mod queue;

use std::collections::{BTreeSet, HashMap, hash_map};
use std::sync::Arc;
use std::time::Instant;

use counterfoil_tlog::note::Note;
use counterfoil_tlog::{Hash, TlogProof};
use tokio::sync::mpsc;

pub(crate) use self::load::{Seen, check_link, check_progress, read_state};
use self::plan::Plan;
pub(crate) use self::plan::{BatchItem, Fate, Grown, KnownRecords, plan};
use self::queue::FairQueue;
pub(crate) use self::queue::{Reply, Submission};
use crate::anchor;
use crate::engine::Shared;
use crate::faults::{self, FaultPoint};
use crate::model::{Head, LogInfo, Outcome, Receipt};
use crate::prove;
use crate::state::LogState;
use crate::store::CommitError;
use crate::{EngineError, LogId};

/// How often a batch is tried against other writers.
const ATTEMPTS: usize = 6;

/// Most records of a batch that is worked out by the sequencer itself: a signature takes some 30 microseconds.
const HERE_RECORDS_MAX: usize = 4;

/// Most logs whose state is kept in memory: about 20 KiB each.
const STATES_MAX: usize = 4096;

/// The sequencer's own memory.
#[derive(Debug)]
pub(crate) struct Sequencer {
    shared: Arc<Shared>,
    receiver: mpsc::UnboundedReceiver<Submission>,
    queue: FairQueue,
    states: HashMap<LogId, Arc<LogState>>,
    seen: HashMap<LogId, Seen>,
}

/// One answer a submission.
type Answers = Vec<Result<Vec<Outcome>, EngineError>>;

/// Why a batch is taken from the start.
enum Again {
    /// The state of this log is not the newest.
    Reload(LogId),
    /// So it may be with all logs of the batch, and every record id must be looked up.
    Thoroughly,
    /// It is not: this failed.
    No(EngineError),
}

impl Sequencer {
    pub(crate) fn new(shared: Arc<Shared>, receiver: mpsc::UnboundedReceiver<Submission>) -> Self {
        Self {
            shared,
            receiver,
            queue: FairQueue::default(),
            states: HashMap::new(),
            seen: HashMap::new(),
        }
    }

    /// Runs until the engine is closed and everything that waits is answered.
    pub(crate) async fn run(mut self) {
        let mut busy = false;
        while self.wait(busy).await {
            let options = &self.shared.options;
            let batch = self
                .queue
                .take(options.batch_records_max, options.batch_bytes_max);
            busy = batch.len() > 1;
            let (mut items, mut replies, mut logs) = (Vec::new(), Vec::new(), Vec::new());
            for submission in batch {
                items.push(BatchItem {
                    log: submission.log.id,
                    records: submission.records,
                });
                replies.push(submission.reply);
                logs.push(submission.log);
            }
            let answers = self.run_batch(&logs, Arc::new(items)).await;
            for (reply, answer) in replies.into_iter().zip(answers) {
                // A caller that went away asks again, and gets the original positions.
                let _ = reply.sender.send(answer);
                drop(reply.share);
            }
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

    async fn run_batch(&mut self, logs: &[Arc<LogInfo>], items: Arc<Vec<BatchItem>>) -> Answers {
        let mut thorough = false;
        for _ in 0..ATTEMPTS {
            match self.try_batch(logs, &items, thorough).await {
                Ok(answers) => {
                    self.shared.meters.batch(&answers);
                    return answers;
                }
                Err(Again::Reload(log)) => {
                    self.states.remove(&log);
                }
                Err(Again::Thoroughly) => {
                    thorough = true;
                    self.forget(logs);
                }
                Err(Again::No(error)) => {
                    // What is durable is open now: the next batch finds out.
                    self.forget(logs);
                    self.shared.meters.batch_failed(&error);
                    tracing::error!(%error, "a batch was not appended");
                    return items.iter().map(|_| Err(error.clone())).collect();
                }
            }
        }
        let error = EngineError::Storage {
            step: "append",
            message: "other processes keep writing the same logs".to_owned(),
        };
        items.iter().map(|_| Err(error.clone())).collect()
    }

    async fn try_batch(
        &mut self,
        logs: &[Arc<LogInfo>],
        items: &Arc<Vec<BatchItem>>,
        thorough: bool,
    ) -> Result<Answers, Again> {
        let failed = self.load_states(logs).await;
        let states: HashMap<LogId, Arc<LogState>> = logs
            .iter()
            .filter_map(|log| Some((log.id, Arc::clone(self.states.get(&log.id)?))))
            .collect();
        let known = self.look_up(&states, items, thorough).await?;
        if let Some(log) = found_beyond(&states, &known) {
            return Err(Again::Reload(log));
        }
        let now_ms = self.shared.clock.now_ms();
        let mut plan = {
            let work = Arc::clone(items);
            aside(items, move || plan(&states, &work, &known, now_ms))
                .await
                .map_err(Again::No)?
        };
        for log in std::mem::take(&mut plan.judged_by_state) {
            self.check_newest(log).await?;
        }
        let (plan, mut receipts) = self.commit(plan, items).await?;
        let mut answers = Vec::with_capacity(logs.len());
        for ((log, fates), item) in logs.iter().zip(&plan.fates).zip(items.iter()) {
            let answer = match fates {
                None => Err(failed.get(&log.id).cloned().unwrap_or(EngineError::Closed)),
                Some(fates) => self.answer(log, item, fates, &mut receipts).await,
            };
            answers.push(answer);
        }
        Ok(answers)
    }

    /// Lets the next attempt load these logs.
    fn forget(&mut self, logs: &[Arc<LogInfo>]) {
        for log in logs {
            self.states.remove(&log.id);
        }
    }

    /// Loads the logs that are not in memory; the ones that cannot be loaded, with the reason.
    async fn load_states(&mut self, logs: &[Arc<LogInfo>]) -> HashMap<LogId, EngineError> {
        let mut failed = HashMap::new();
        if self.states.len() > STATES_MAX {
            self.states.clear();
        }
        for log in logs {
            if self.states.contains_key(&log.id) || failed.contains_key(&log.id) {
                continue;
            }
            match load::load(&self.shared, log, self.seen.get(&log.id).copied()).await {
                Ok(state) => self.adopt(state),
                Err(error) => {
                    tracing::error!(origin = log.origin, %error, "the log cannot be written");
                    self.shared.meters.unwritable(log, &error);
                    failed.insert(log.id, error);
                }
            }
        }
        failed
    }

    /// Takes a committed state as the log's newest.
    fn adopt(&mut self, state: LogState) {
        let log = state.info.id;
        let (size, root) = (state.size, state.root);
        self.seen.insert(log, Seen { size, root });
        self.shared.meters.writable(&state.info);
        self.shared.publish(log, size, &state.keys);
        self.states.insert(log, Arc::new(state));
    }

    /// Looks up the record ids that can be in the logs: those at or below their stream's last, or all.
    async fn look_up(
        &self,
        states: &HashMap<LogId, Arc<LogState>>,
        items: &[BatchItem],
        thorough: bool,
    ) -> Result<KnownRecords, Again> {
        let mut wanted: HashMap<LogId, BTreeSet<[u8; 16]>> = HashMap::new();
        for item in items {
            let Some(state) = states.get(&item.log) else {
                continue;
            };
            for record in item.records.iter().flatten() {
                let last = state.streams.get(record.stream);
                let old = last.is_some_and(|last| record.stream_seq <= last.last_seq);
                if old || thorough {
                    wanted.entry(item.log).or_default().insert(record.record_id);
                }
            }
        }
        let mut known = KnownRecords::new();
        for (log, ids) in wanted {
            let ids: Vec<_> = ids.into_iter().collect();
            let found = self.shared.store.known_records(log, &ids).await;
            known.insert(log, found.map_err(Again::No)?);
        }
        Ok(known)
    }

    /// A refusal for what the log holds is right only if no other process appended.
    async fn check_newest(&self, log: LogId) -> Result<(), Again> {
        let Some(state) = self.states.get(&log) else {
            return Ok(());
        };
        let (head, _) = self
            .shared
            .store
            .head(&state.info)
            .await
            .map_err(Again::No)?;
        if head.size == state.size && head.root == state.root {
            Ok(())
        } else {
            Err(Again::Reload(log))
        }
    }

    /// Commits the plan, writing the receipts of the new entries meanwhile; they are handed out only when it is durable.
    async fn commit(
        &mut self,
        mut plan: Plan,
        items: &Arc<Vec<BatchItem>>,
    ) -> Result<(Plan, NewReceipts), Again> {
        if plan.commits.is_empty() {
            return Ok((plan, NewReceipts::new()));
        }
        let commits = std::mem::take(&mut plan.commits);
        let writing = {
            let work = Arc::clone(items);
            aside(items, move || write_receipts(plan, &work))
        };
        let faults = self.shared.faults.as_ref();
        let committing = async {
            let begun = Instant::now();
            let committed = self.shared.store.commit(&commits, faults).await;
            committed.inspect(|()| self.shared.meters.committed(begun.elapsed()))
        };
        let (committed, written) = tokio::join!(committing, writing);
        committed.map_err(|error| match error {
            CommitError::Overtaken => Again::Thoroughly,
            CommitError::Failed(error) => Again::No(error),
        })?;
        let (mut plan, receipts) = written.map_err(Again::No)?;
        // If we crash here: the anchors remember less than is durable, which contradicts nothing.
        let remember = async {
            for grown in plan.grown.values() {
                anchor::remember(&self.shared, &grown.state);
            }
            Ok(())
        };
        let remembered = faults::step(faults, FaultPoint::Remember, remember).await;
        remembered.map_err(Again::No)?;
        for (_, grown) in std::mem::take(&mut plan.grown) {
            self.adopt(grown.state);
        }
        // If we crash here: the entries are durable and their callers do not know. They send them again and get the
        // original positions.
        let faults = self.shared.faults.as_ref();
        let told = faults::step(faults, FaultPoint::Reply, async { Ok((plan, receipts)) });
        told.await.map_err(Again::No)
    }

    async fn answer(
        &self,
        log: &Arc<LogInfo>,
        item: &BatchItem,
        fates: &[Fate],
        receipts: &mut NewReceipts,
    ) -> Result<Vec<Outcome>, EngineError> {
        let mut old_entries = Vec::new();
        for fate in fates {
            if let Fate::Logged {
                index,
                leaf_hash,
                new: false,
            } = fate
            {
                old_entries.push((*index, *leaf_hash));
            }
        }
        // A state is always there after its batch is committed.
        let state = self.states.get(&log.id);
        let checkpoint_ms = state.map_or(0, |state| state.recorded_at_ms);
        let mut old_receipts = match state {
            Some(state) if !old_entries.is_empty() => {
                let head = head_of(state);
                prove::receipts(&self.shared, log, &head, old_entries).await?
            }
            _ => Vec::new(),
        }
        .into_iter();
        let mut outcomes = Vec::with_capacity(fates.len());
        for (fate, record) in fates.iter().zip(&item.records) {
            outcomes.push(match (fate, record) {
                (
                    Fate::Logged {
                        index,
                        leaf_hash,
                        new,
                    },
                    Ok(record),
                ) => {
                    let written = if *new {
                        receipts.get(&(log.id, *index)).cloned()
                    } else {
                        old_receipts.next()
                    };
                    Ok(Receipt {
                        record_id: record.record_id,
                        record_hash: record.record_hash,
                        index: *index,
                        leaf_hash: *leaf_hash,
                        tlog_proof: written.ok_or(EngineError::Closed)?,
                        checkpoint_ms,
                    })
                }
                (Fate::Refused(refusal), _) | (_, Err(refusal)) => Err(refusal.clone()),
            });
        }
        Ok(outcomes)
    }
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

/// Receipts of new entries by log and position.
type NewReceipts = HashMap<(LogId, u64), String>;

fn write_receipts(plan: Plan, items: &[BatchItem]) -> Result<(Plan, NewReceipts), EngineError> {
    let mut notes: HashMap<LogId, Note> = HashMap::new();
    let mut receipts = NewReceipts::new();
    for (item, fates) in items.iter().zip(&plan.fates) {
        let Some(grown) = plan.grown.get(&item.log) else {
            continue;
        };
        let note = match notes.entry(item.log) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(vacant) => vacant.insert(note_of(grown)?),
        };
        for fate in fates.iter().flatten() {
            let Fate::Logged {
                index, new: true, ..
            } = fate
            else {
                continue;
            };
            let path = proof_path(grown, *index)?;
            let proof = TlogProof {
                index: *index,
                path,
                checkpoint: note.clone(),
            };
            receipts.insert((item.log, *index), proof.to_string());
        }
    }
    Ok((plan, receipts))
}

fn note_of(grown: &Grown) -> Result<Note, EngineError> {
    Note::parse(grown.state.checkpoint.as_bytes())
        .map_err(|error| EngineError::damaged(&grown.state.info.origin, error.to_string()))
}

fn proof_path(grown: &Grown, index: u64) -> Result<Vec<Hash>, EngineError> {
    grown
        .tree
        .inclusion_proof(index, grown.state.size)
        .map_err(|error| EngineError::damaged(&grown.state.info.origin, error.to_string()))
}

fn head_of(state: &LogState) -> Head {
    Head {
        size: state.size,
        root: state.root,
        checkpoint: state.checkpoint.to_string(),
        recorded_at_ms: state.recorded_at_ms,
    }
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
