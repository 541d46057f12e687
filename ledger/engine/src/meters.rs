//! What the engine counts, and which logs cannot be written, for those who operate it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::model::Outcome;
use crate::{EngineError, LogInfo, Refusal};

/// Upper bounds of the commit times that are counted, milliseconds; the last class has none.
pub const COMMIT_MS_BOUNDS: [u64; 9] = [1, 2, 5, 10, 20, 50, 100, 500, 2000];

/// What an engine has done since it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineCounts {
    /// Batches that were answered.
    pub batches: u64,
    /// Batches that failed as a whole, because the database did.
    pub batches_failed: u64,
    /// Records that got a receipt; one that was sent again is counted again.
    pub receipts: u64,
    /// Records that were refused, by reason (see [`Refusal::reason`]).
    pub refusals: BTreeMap<&'static str, u64>,
    /// Submissions that were refused because too much waited.
    pub overloaded: u64,
    /// Commits by their time: how many took at most each of [`COMMIT_MS_BOUNDS`], and how many took longer; not added up.
    pub commits: [u64; COMMIT_MS_BOUNDS.len() + 1],
    /// Time of all commits together, microseconds.
    pub commit_micros: u64,
    /// Bytes of records that wait, with what each costs beside them.
    pub queue_bytes: u64,
    /// Files that published copies had lost, and that were put back.
    pub copy_files_mended: u64,
    /// Batches that were worked out again because the second look before signing came to something else: memory that fails.
    pub miscalculations: u64,
}

/// What the sequencer tells.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    batches: AtomicU64,
    batches_failed: AtomicU64,
    receipts: AtomicU64,
    overloaded: AtomicU64,
    commits: [AtomicU64; COMMIT_MS_BOUNDS.len() + 1],
    commit_micros: AtomicU64,
    copy_files_mended: AtomicU64,
    miscalculations: AtomicU64,
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    troubles: Mutex<Troubles>,
}

/// What keeps from writing, as far as this process knows.
#[derive(Debug, Default)]
struct Troubles {
    storage: Option<String>,
    /// By origin.
    logs: BTreeMap<String, String>,
    /// What could not be read of logs when it was read of all, by what it is, and by origin.
    unreadable: BTreeMap<&'static str, BTreeMap<String, String>>,
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Meters {
    /// A batch was answered.
    pub(crate) fn batch(&self, answers: &[Result<Vec<Outcome>, EngineError>]) {
        add(&self.batches, 1);
        let mut receipts = 0;
        for outcome in answers.iter().flatten().flatten() {
            match outcome {
                Ok(_) => receipts += 1,
                Err(refusal) => *lock(&self.refusals).entry(refusal.reason()).or_default() += 1,
            }
        }
        add(&self.receipts, receipts);
    }

    /// A batch was not appended.
    pub(crate) fn batch_failed(&self, error: &EngineError) {
        add(&self.batches_failed, 1);
        lock(&self.troubles).storage = Some(error.to_string());
    }

    /// A batch is durable.
    pub(crate) fn committed(&self, took: Duration) {
        let bound = COMMIT_MS_BOUNDS
            .iter()
            .position(|bound| took <= Duration::from_millis(*bound));
        if let Some(class) = self.commits.get(bound.unwrap_or(COMMIT_MS_BOUNDS.len())) {
            add(class, 1);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        add(&self.commit_micros, micros);
        let mut troubles = lock(&self.troubles);
        if troubles.storage.is_some() {
            troubles.storage = None;
        }
    }

    /// Files of a published copy were put back.
    pub(crate) fn copy_mended(&self, files: u64) {
        add(&self.copy_files_mended, files);
    }

    /// The second look came to something else.
    pub(crate) fn miscalculated(&self) {
        add(&self.miscalculations, 1);
    }

    /// Too much waited.
    pub(crate) fn overloaded(&self) {
        add(&self.overloaded, 1);
    }

    /// A log cannot be written.
    pub(crate) fn unwritable(&self, log: &LogInfo, error: &EngineError) {
        lock(&self.troubles)
            .logs
            .insert(log.origin.clone(), error.to_string());
    }

    /// A log can be written.
    pub(crate) fn writable(&self, log: &LogInfo) {
        let mut troubles = lock(&self.troubles);
        if !troubles.logs.is_empty() {
            troubles.logs.remove(&log.origin);
        }
    }

    /// What cannot be read of any log now, by origin; the logs that it was before can be read again.
    pub(crate) fn unreadable(&self, what: &'static str, reasons: BTreeMap<String, String>) {
        lock(&self.troubles).unreadable.insert(what, reasons);
    }

    /// Everything that keeps from writing, in plain words.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let troubles = lock(&self.troubles);
        let storage = troubles.storage.iter();
        let mut told: Vec<String> = storage.chain(troubles.logs.values()).cloned().collect();
        for (what, of_logs) in &troubles.unreadable {
            let of_logs = of_logs.iter();
            told.extend(of_logs.map(|(origin, why)| format!("the {what} of log {origin}: {why}")));
        }
        told
    }

    pub(crate) fn counts(&self, queue_bytes: u64) -> EngineCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EngineCounts {
            batches: read(&self.batches),
            batches_failed: read(&self.batches_failed),
            receipts: read(&self.receipts),
            refusals: lock(&self.refusals).clone(),
            overloaded: read(&self.overloaded),
            commits: self.commits.each_ref().map(read),
            commit_micros: read(&self.commit_micros),
            queue_bytes,
            copy_files_mended: read(&self.copy_files_mended),
            miscalculations: read(&self.miscalculations),
        }
    }
}

impl Refusal {
    /// A short name of the kind, for counting.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::TooLarge(_) => "too_large",
            Self::TooManySubjects(_) => "too_many_subjects",
            Self::OtherLog(_) => "other_log",
            Self::UnknownType(_) => "unknown_type",
            Self::OtherStream(_) => "other_stream",
            Self::BadRegistration(_) => "bad_registration",
            Self::KeyNotAllowed(_) => "key_not_allowed",
            Self::KeyRevoked(_) => "key_revoked",
            Self::BadSignature => "bad_signature",
            Self::RecordIdTaken { .. } => "record_id_taken",
            Self::SequenceGap { .. } => "sequence_gap",
            Self::PrevHashMismatch { .. } => "prev_hash_mismatch",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_counted_by_their_time_and_end_what_the_storage_was_blamed_for() {
        let meters = Meters::default();
        let failed = EngineError::Closed;
        meters.batch_failed(&failed);
        assert_eq!(meters.troubles(), [failed.to_string()]);
        for micros in [900, 1000, 1001, 60_000, 9_000_000] {
            meters.committed(Duration::from_micros(micros));
        }
        let counts = meters.counts(7);
        assert_eq!(counts.commits, [2, 1, 0, 0, 0, 0, 1, 0, 0, 1]);
        assert_eq!(counts.commit_micros, 9_062_901);
        assert_eq!((counts.batches_failed, counts.queue_bytes), (1, 7));
        assert!(meters.troubles().is_empty());
    }
}
