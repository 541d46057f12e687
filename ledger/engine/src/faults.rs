//! Where tests let the engine fail: each durable step either does not happen, or happens and is reported as failed.
//!
//! Sunlight's fault table, as a hook that costs nothing in production.

use std::fmt::Debug;

/// A step at which appending or publishing can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultPoint {
    /// The transaction is opened.
    Begin,
    /// The heads are swapped.
    SwapHeads,
    /// Entries and their indexes are inserted.
    Insert,
    /// The transaction is committed.
    Commit,
    /// Everything is durable and nobody has been told.
    Reply,
    /// A tile or bundle is written to the published copy.
    PublishTile,
    /// The copy's checkpoint is written.
    PublishCheckpoint,
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
