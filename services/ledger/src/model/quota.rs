//! How much of a tenant's log may be written in a time: so many records a second, and ten seconds' worth at once.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

/// What may be appended at once, as time, microseconds.
const AT_ONCE_US: i64 = 10_000_000;
/// Most records of one call.
pub(crate) const RECORDS_MAX: usize = 4096;
/// Tenants that have all again are forgotten when so many are known.
const KNOWN_MAX: usize = 10_000;

/// What each tenant has used up of its quota.
#[derive(Debug)]
pub(crate) struct Quota {
    records_per_second: i64,
    /// When a tenant has all again, microseconds.
    all_again_us: HashMap<String, i64>,
}

impl Quota {
    /// So many records a second for each tenant, on average.
    pub(crate) fn new(records_per_second: NonZeroU32) -> Self {
        Self {
            records_per_second: records_per_second.get().into(),
            all_again_us: HashMap::new(),
        }
    }

    /// Takes the room of so many records, all or nothing. More than there ever is at once is taken when the tenant has used nothing, and
    /// the next one waits the longer.
    ///
    /// # Errors
    /// After what time there is room, if nobody of the tenant comes first.
    pub(crate) fn take(
        &mut self,
        tenant: &str,
        records: usize,
        now_ms: i64,
    ) -> Result<(), Duration> {
        let now_us = now_ms.saturating_mul(1000);
        if self.all_again_us.len() >= KNOWN_MAX {
            self.all_again_us.retain(|_, all_us| now_us < *all_us);
        }
        let cost_us = self.cost_us(records.min(RECORDS_MAX));
        let known_us = self.all_again_us.get(tenant).copied().unwrap_or(now_us);
        // Nobody can have used more than that: the clock was set back, and locks nobody out for longer.
        let most_us = now_us + AT_ONCE_US + self.cost_us(RECORDS_MAX);
        let all_us = known_us.clamp(now_us, most_us);
        let beyond_us = all_us + cost_us.min(AT_ONCE_US) - now_us - AT_ONCE_US;
        if beyond_us > 0 {
            return Err(Duration::from_micros(beyond_us.unsigned_abs()));
        }
        self.all_again_us
            .insert(tenant.to_owned(), all_us + cost_us);
        Ok(())
    }

    fn cost_us(&self, records: usize) -> i64 {
        // At most 4,096.
        let records = i64::try_from(records).unwrap_or(i64::MAX / 1_000_000);
        records * 1_000_000 / self.records_per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn quota(records_per_second: u32) -> Quota {
        Quota::new(NonZeroU32::new(records_per_second).unwrap())
    }

    fn seconds(seconds: u64) -> Result<(), Duration> {
        Err(Duration::from_secs(seconds))
    }

    #[test]
    fn a_tenant_has_ten_seconds_worth_at_once_and_its_rate_from_then_on() {
        let mut quota = quota(100);
        for _ in 0..10 {
            assert_eq!(quota.take("acme", 100, NOW_MS), Ok(()));
        }
        assert_eq!(quota.take("acme", 100, NOW_MS), seconds(1));
        assert_eq!(quota.take("beta", 100, NOW_MS), Ok(()));
        // What was refused has used nothing up.
        assert_eq!(quota.take("acme", 100, NOW_MS + 1000), Ok(()));
        assert_eq!(
            quota.take("acme", 1, NOW_MS + 1009).unwrap_err(),
            Duration::from_millis(1)
        );
        assert_eq!(quota.take("acme", 1, NOW_MS + 1010), Ok(()));
    }

    #[test]
    fn what_is_larger_than_all_there_is_at_once_comes_first_or_waits_for_all() {
        let mut quota = quota(100);
        assert_eq!(quota.take("acme", 4096, NOW_MS), Ok(()));
        assert_eq!(quota.take("acme", 1000, NOW_MS + 30_960), seconds(10));
        assert_eq!(quota.take("acme", 1000, NOW_MS + 40_960), Ok(()));
        assert_eq!(quota.take("acme", 4096, NOW_MS + 40_960), seconds(10));
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out_for_longer_than_all_there_is() {
        let mut quota = quota(1000);
        assert_eq!(quota.take("acme", 4096, NOW_MS), Ok(()));
        let hour_before_ms = NOW_MS - 3_600_000;
        let refused = quota.take("acme", 1000, hour_before_ms).unwrap_err();
        assert!(refused < Duration::from_secs(15), "{refused:?}");
    }

    #[test]
    fn who_has_all_again_is_forgotten() {
        let mut quota = quota(100);
        for tenant in 0..KNOWN_MAX {
            assert_eq!(quota.take(&tenant.to_string(), 1, NOW_MS), Ok(()));
        }
        assert_eq!(quota.take("acme", 1, NOW_MS + 10), Ok(()));
        assert_eq!(quota.all_again_us.len(), 1);
    }
}
