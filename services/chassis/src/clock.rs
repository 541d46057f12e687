//! The time, and the only place that asks the machine for it.
//!
//! Services take a [`Clock`] and never `SystemTime::now`, so that tests own the time. Times are milliseconds since
//! 1970-01-01T00:00:00Z in databases and records, and `google.protobuf.Timestamp` in the API.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prost_types::Timestamp;
use tokio::sync::watch;

/// Who waits for an instant looks at the machine's clock at least so often: it may be set meanwhile.
const LOOK: Duration = Duration::from_millis(500);

/// Tells the time. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Test(Arc<watch::Sender<i64>>),
}

impl Clock {
    /// The clock of the machine.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z. A machine whose clock stands before 1970 is taken to be at 0.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Source::System => {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "this is the clock that everyone else takes"
                )]
                let now = SystemTime::now();
                let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }
            Source::Test(ms) => *ms.borrow(),
        }
    }

    /// The time as the API writes it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        timestamp(self.now_ms())
    }

    /// Waits until it shows `ms` or later: at once when a test moves its clock there, within half a second on a machine.
    pub async fn reached(&self, ms: i64) {
        match &self.0 {
            Source::System => loop {
                let left = ms.saturating_sub(self.now_ms());
                let Ok(left @ 1..) = u64::try_from(left) else {
                    return;
                };
                tokio::time::sleep(Duration::from_millis(left).min(LOOK)).await;
            },
            Source::Test(now) => {
                // The sender lives in this clock, so the wait never fails.
                let _ = now.subscribe().wait_for(|now| *now >= ms).await;
            }
        }
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug, Clone)]
pub struct TestClock(Arc<watch::Sender<i64>>);

impl TestClock {
    /// A clock that shows `ms`.
    #[must_use]
    pub fn new(ms: i64) -> Self {
        Self(Arc::new(watch::Sender::new(ms)))
    }

    /// The clock to hand to what is tested; it follows this one.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock(Source::Test(Arc::clone(&self.0)))
    }

    /// What it shows.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        *self.0.borrow()
    }

    /// Makes it show `ms`, also an earlier time.
    pub fn set_ms(&self, ms: i64) {
        self.0.send_replace(ms);
    }

    /// Moves it by `ms`, also backwards.
    pub fn advance_ms(&self, ms: i64) {
        self.0.send_modify(|now| *now += ms);
    }
}

/// Milliseconds as the API writes them.
#[must_use]
pub fn timestamp(ms: i64) -> Timestamp {
    let nanos = i32::try_from(ms.rem_euclid(1000) * 1_000_000).unwrap_or(0);
    Timestamp {
        seconds: ms.div_euclid(1000),
        nanos,
    }
}

/// A time of the API in milliseconds, rounded down. `None`: not a valid time, or out of range.
#[must_use]
pub fn millis(time: &Timestamp) -> Option<i64> {
    if !(0..1_000_000_000).contains(&time.nanos) {
        return None;
    }
    time.seconds
        .checked_mul(1000)?
        .checked_add(i64::from(time.nanos / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_survive_the_way_through_a_timestamp() {
        for ms in [0, 1, 999, 1000, -1, -1001, 1_700_000_000_123] {
            assert_eq!(millis(&timestamp(ms)), Some(ms));
        }
    }

    #[test]
    fn an_invalid_timestamp_is_no_time() {
        let bad = |seconds, nanos| millis(&Timestamp { seconds, nanos });
        assert_eq!(bad(0, -1), None);
        assert_eq!(bad(0, 1_000_000_000), None);
        assert_eq!(bad(i64::MAX, 0), None);
    }

    #[tokio::test]
    async fn who_waits_for_an_instant_wakes_when_the_clock_shows_it() {
        let test = TestClock::new(1000);
        let clock = test.clock();
        clock.reached(1000).await;
        let mut waits = Box::pin(clock.reached(2000));
        assert!(futures::poll!(&mut waits).is_pending());
        test.set_ms(1999);
        assert!(futures::poll!(&mut waits).is_pending());
        test.advance_ms(1);
        waits.await;
        Clock::system().reached(0).await;
    }

    #[test]
    fn a_test_moves_its_clock_both_ways() {
        let test = TestClock::new(5000);
        let clock = test.clock();
        test.advance_ms(-1000);
        assert_eq!(clock.now_ms(), 4000);
        test.set_ms(7000);
        assert_eq!(clock.now(), timestamp(7000));
    }
}
