//! What waits to be sequenced, taken in turns: one submission a log and round, so that no tenant's import starves others.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::admission::Admitted;
use crate::model::{LogInfo, Outcome};
use crate::{EngineError, LogId, Refusal};

/// Records of one caller for one log.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) log: Arc<LogInfo>,
    pub(crate) records: Vec<Result<Admitted, Refusal>>,
    pub(crate) reply: Reply,
}

/// Where the answer goes. Dropping it gives the caller's share of the queue back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) sender: oneshot::Sender<Result<Vec<Outcome>, EngineError>>,
    pub(crate) share: OwnedSemaphorePermit,
}

/// Submissions by log.
#[derive(Debug, Default)]
pub(crate) struct FairQueue {
    waiting: HashMap<LogId, VecDeque<Submission>>,
    /// Logs with submissions, the next one in front.
    turns: VecDeque<LogId>,
    len: usize,
}

impl FairQueue {
    pub(crate) fn push(&mut self, submission: Submission) {
        let log = submission.log.id;
        let of_log = self.waiting.entry(log).or_default();
        if of_log.is_empty() {
            self.turns.push_back(log);
        }
        of_log.push_back(submission);
        self.len += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// How many submissions wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Takes submissions in turns until the batch is full; at least one, whatever its size.
    pub(crate) fn take(&mut self, records_max: usize, bytes_max: usize) -> Vec<Submission> {
        let mut batch = Vec::new();
        let (mut records, mut bytes) = (0, 0);
        while let Some(log) = self.turns.pop_front() {
            let Some(of_log) = self.waiting.get_mut(&log) else {
                continue;
            };
            if let Some(next) = of_log.front() {
                let next_bytes = bytes_of(next);
                let full =
                    records + next.records.len() > records_max || bytes + next_bytes > bytes_max;
                if full && !batch.is_empty() {
                    self.turns.push_front(log);
                    return batch;
                }
                records += next.records.len();
                bytes += next_bytes;
            }
            batch.extend(of_log.pop_front());
            self.len -= 1;
            if of_log.is_empty() {
                self.waiting.remove(&log);
            } else {
                self.turns.push_back(log);
            }
        }
        batch
    }
}

fn bytes_of(submission: &Submission) -> usize {
    submission
        .records
        .iter()
        .flatten()
        .map(|record| record.record.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use counterfoil_tlog::NoteSigner;
    use tokio::sync::Semaphore;

    use super::*;

    fn submission(log: i64, records: usize) -> Submission {
        let key = NoteSigner::from_seed("log", &[7; 32]).unwrap();
        let info = LogInfo {
            id: LogId(log),
            tenant: String::new(),
            origin: String::new(),
            vkey: key.verifier_key().clone(),
            registrar: key.verifier_key().clone(),
        };
        let share = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Submission {
            log: Arc::new(info),
            records: (0..records).map(|_| Err(Refusal::BadSignature)).collect(),
            reply: Reply {
                sender: oneshot::channel().0,
                share,
            },
        }
    }

    #[test]
    fn a_tenant_with_one_record_waits_for_one_submission_of_the_busy_one() {
        let mut queue = FairQueue::default();
        for _ in 0..3 {
            queue.push(submission(1, 10));
        }
        queue.push(submission(2, 1));
        let logs = |batch: Vec<Submission>| -> Vec<i64> {
            batch.iter().map(|submission| submission.log.id.0).collect()
        };
        assert_eq!(logs(queue.take(12, usize::MAX)), [1, 2]);
        assert_eq!(logs(queue.take(20, usize::MAX)), [1, 1]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_submission_larger_than_a_batch_is_a_batch_of_its_own() {
        let mut queue = FairQueue::default();
        queue.push(submission(1, 10));
        queue.push(submission(1, 10));
        assert_eq!(queue.take(5, usize::MAX).len(), 1);
        assert_eq!(queue.take(5, usize::MAX).len(), 1);
        assert!(queue.is_empty());
    }
}
