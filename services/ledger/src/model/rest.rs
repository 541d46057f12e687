//! How long somebody who failed is left alone.

/// The first rest, milliseconds; each failure after the first doubles it.
const FIRST_MS: i64 = 5_000;
/// The longest rest, milliseconds.
const LONGEST_MS: i64 = 600_000;

/// The rest of somebody who may have failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rest {
    failures: u32,
    until_ms: i64,
}

impl Rest {
    /// It failed at this time, and rests from now on. What fails while it rests had begun before, and says nothing new.
    pub(crate) fn failed(&mut self, now_ms: i64) {
        if self.is_on(now_ms) {
            return;
        }
        let doubled = FIRST_MS.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        self.until_ms = now_ms.saturating_add(doubled.min(LONGEST_MS));
    }

    /// Whether it still rests at this time.
    pub(crate) fn is_on(&self, now_ms: i64) -> bool {
        now_ms < self.until_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_double_up_to_ten_minutes() {
        let mut rest = Rest::default();
        assert!(!rest.is_on(0));
        let mut now_ms = 1_000;
        for seconds in [5, 10, 20, 40, 80, 160, 320, 600, 600] {
            rest.failed(now_ms);
            rest.failed(now_ms + 1);
            assert!(rest.is_on(now_ms + seconds * 1000 - 1), "{seconds}");
            now_ms += seconds * 1000;
            assert!(!rest.is_on(now_ms), "{seconds}");
        }
        for _ in 0..100 {
            rest.failed(now_ms);
        }
        assert!(!rest.is_on(now_ms + LONGEST_MS));
    }
}
