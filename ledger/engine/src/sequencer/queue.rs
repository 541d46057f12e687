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

/// How large a batch gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    /// Records of all logs.
    pub(crate) records: usize,
    /// Records of one log, while others wait.
    pub(crate) records_of_log: usize,
    /// Bytes of records.
    pub(crate) bytes: usize,
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

    /// Takes submissions in turns until the batch is full; at least one, whatever its size. While several logs wait, each gets at most
    /// so many records a batch, or one submission: what a busy one has beyond that must not make the batch of the others long.
    pub(crate) fn take(&mut self, most: &Most) -> Vec<Submission> {
        let mut batch = Vec::new();
        let (mut records, mut bytes) = (0, 0);
        let shared = self.turns.len() > 1;
        let mut taken: HashMap<LogId, usize> = HashMap::new();
        let mut served = VecDeque::new();
        while let Some(log) = self.turns.pop_front() {
            let Some(of_log) = self.waiting.get_mut(&log) else {
                continue;
            };
            if let Some(next) = of_log.front() {
                let of_batch = taken.entry(log).or_default();
                let more = next.records.len();
                if shared && *of_batch > 0 && *of_batch + more > most.records_of_log {
                    served.push_back(log);
                    continue;
                }
                let next_bytes = bytes_of(next);
                let full = records + more > most.records || bytes + next_bytes > most.bytes;
                if full && !batch.is_empty() {
                    self.turns.push_front(log);
                    break;
                }
                *of_batch += more;
                records += more;
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
        self.turns.append(&mut served);
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

    fn most(records: usize, records_of_log: usize) -> Most {
        Most {
            records,
            records_of_log,
            bytes: usize::MAX,
        }
    }

    fn logs(batch: &[Submission]) -> Vec<i64> {
        batch.iter().map(|submission| submission.log.id.0).collect()
    }

    #[test]
    fn a_tenant_with_one_record_waits_for_one_submission_of_the_busy_one() {
        let mut queue = FairQueue::default();
        for _ in 0..3 {
            queue.push(submission(1, 10));
        }
        queue.push(submission(2, 1));
        assert_eq!(logs(&queue.take(&most(12, 100))), [1, 2]);
        assert_eq!(logs(&queue.take(&most(20, 100))), [1, 1]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_busy_tenant_does_not_fill_the_batch_that_it_shares() {
        let mut queue = FairQueue::default();
        for _ in 0..5 {
            queue.push(submission(1, 10));
        }
        queue.push(submission(2, 1));
        queue.push(submission(2, 1));
        queue.push(submission(3, 50));
        assert_eq!(logs(&queue.take(&most(1000, 20))), [1, 2, 3, 1, 2]);
        assert_eq!(queue.len(), 3);
        // Nobody else waits any more.
        assert_eq!(logs(&queue.take(&most(1000, 20))), [1, 1, 1]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_submission_larger_than_a_batch_is_a_batch_of_its_own() {
        let mut queue = FairQueue::default();
        queue.push(submission(1, 10));
        queue.push(submission(1, 10));
        assert_eq!(queue.take(&most(5, 5)).len(), 1);
        assert_eq!(queue.take(&most(5, 5)).len(), 1);
        assert!(queue.is_empty());
    }
}
