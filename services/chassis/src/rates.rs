//! How often somebody may call: so often at once, and so often a second from then on.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use crate::{error::ApiError, sync::lock};

/// Calls at once.
const AT_ONCE: i64 = 1_000;
/// After how long one more is given, milliseconds: 100 a second.
const EVERY_MS: i64 = 10;
/// What all of them are worth, milliseconds.
const ALL_MS: i64 = AT_ONCE * EVERY_MS;
/// Whoever has all again is forgotten when so many are known.
const KNOWN_MAX: usize = 10_000;

/// By operator and customer: when they have all their calls again, milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<HashMap<(String, String), i64>>);

impl Rates {
    /// Takes one call of an operator for a customer.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED (TOO_MANY_CALLS) when they have none left, with the time after which there is one.
    pub(crate) fn take(&self, operator: &str, customer: &str, now_ms: i64) -> Result<(), ApiError> {
        let mut known = lock(&self.0);
        if known.len() >= KNOWN_MAX {
            known.retain(|_, all_ms| now_ms < *all_ms);
        }
        let key = (operator.to_owned(), customer.to_owned());
        let all_ms = known.entry(key).or_insert(now_ms);
        // A clock that was set back makes nobody wait longer than who has used up all.
        *all_ms = (*all_ms).clamp(now_ms, now_ms + ALL_MS);
        let after_ms = *all_ms + EVERY_MS;
        if after_ms > now_ms + ALL_MS {
            let wait_ms = after_ms - now_ms - ALL_MS;
            let wait = Duration::from_millis(wait_ms.unsigned_abs());
            let message = "too many calls of this operator for this customer";
            return Err(ApiError::resource_exhausted(
                "TOO_MANY_CALLS",
                message,
                wait,
            ));
        }
        *all_ms = after_ms;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_uses_up_nobody_elses_calls_and_has_all_again_after_a_while() {
        let rates = Rates::default();
        let used_up = |now_ms| {
            let mut taken = 0;
            while rates.take("otto", "acme", now_ms).is_ok() {
                taken += 1;
            }
            taken
        };
        assert_eq!(used_up(50_000), 1_000);
        assert!(rates.take("otto", "beta", 50_000).is_ok());
        assert!(rates.take("nova", "acme", 50_000).is_ok());
        assert!(rates.take("otto", "acme", 50_009).is_err());
        assert!(rates.take("otto", "acme", 50_010).is_ok());
        assert_eq!(used_up(51_000), 99);
        assert_eq!(used_up(61_000), 1_000);
        // An hour back.
        assert_eq!(used_up(-3_600_000), 0);
        assert_eq!(used_up(-3_599_990), 1);
    }
}
