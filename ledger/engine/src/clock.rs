//! Where the engine gets the time from.

use std::fmt::Debug;

/// A wall clock. Given by the caller, so that tests own the time.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    fn now_ms(&self) -> i64;
}
