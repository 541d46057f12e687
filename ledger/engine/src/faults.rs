//! Where tests let the engine fail: each durable step either does not happen, or happens and is reported as failed.
//!
//! Sunlight's fault table, as a hook that costs nothing in production. A test that stops the process when a point is reached
//! stops it between the step before and this one.

use std::fmt::Debug;

use crate::EngineError;

/// A durable step, in the order in which a log meets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultPoint {
    /// The key of a new log is made.
    CreateKey,
    /// A new log and its empty head are committed.
    InsertLog,
    /// A batch is worked out on one that is not durable yet.
    Ahead,
    /// A batch is worked out, looked at a second time and signed; failing, the second look came to something else.
    SecondLook,
    /// The transaction is opened. Unless the batch fills a run of bundles, this step, the next one and that after it are done in one message, at
    /// the last of them: by PostgreSQL always, and by SQLite for a lone record.
    Begin,
    /// The heads are moved, entries and their indexes are inserted.
    Write,
    /// The transaction is committed.
    Commit,
    /// The anchors are told of the committed heads.
    Remember,
    /// Everything is durable and nobody has been told.
    Reply,
    /// A tile or bundle is written to the published copy.
    PublishTile,
    /// The copy's checkpoint is written.
    PublishCheckpoint,
    /// Partial tiles that full ones replaced are taken out of the copy.
    Sweep,
    /// A cosignature that a witness has given is kept.
    KeepCosignature,
    /// A log is stopped, because it and something else that was signed contradict each other.
    Stop,
    /// The bytes of entries that the copy has leave the database.
    Evict,
    /// What was brought back from the copy is committed.
    Recover,
    /// A log that was stopped may be written again.
    GoOn,
    /// An epoch of the anchor log is opened: which heads it has is durable, its record is not appended.
    OpenEpoch,
    /// Where the record of an epoch stands is noted.
    CloseEpoch,
}

impl FaultPoint {
    /// The failure that a test injects.
    pub(crate) fn injected(self) -> EngineError {
        let message = format!("{self:?}: injected by a test");
        match self {
            Self::PublishTile | Self::PublishCheckpoint | Self::Sweep => EngineError::Publication {
                step: "fault",
                message,
            },
            Self::SecondLook => EngineError::Miscalculated {
                origin: "a log".to_owned(),
                reason: "injected by a test",
            },
            _ => EngineError::Storage {
                step: "fault",
                message,
            },
        }
    }
}

/// What happens at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Verdict {
    /// The step is done.
    #[default]
    Proceed,
    /// The step is not done, and fails.
    Fail,
    /// The step is done, and still reported as failed.
    FailAfter,
}

/// Decides what happens at each step.
pub trait Faults: Debug + Send + Sync + 'static {
    /// Called once each time a step is reached.
    fn at(&self, point: FaultPoint) -> Verdict;
}

/// Nothing fails that does not fail by itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFaults;

impl Faults for NoFaults {
    fn at(&self, _: FaultPoint) -> Verdict {
        Verdict::Proceed
    }
}

/// Does a step, unless a test lets it fail.
pub(crate) async fn step<T>(
    faults: &dyn Faults,
    point: FaultPoint,
    step: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    match faults.at(point) {
        Verdict::Proceed => step.await,
        Verdict::Fail => Err(point.injected()),
        Verdict::FailAfter => step.await.and(Err(point.injected())),
    }
}
