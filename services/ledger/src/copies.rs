//! What this process knows of the published copies, for those who wait for one.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// What was published of a log last, as far as this process knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Copied {
    /// Entries of the copy.
    pub(crate) size: u64,
    /// When this process published or saw it.
    pub(crate) at_ms: i64,
    /// The log is stopped: nothing more is published.
    pub(crate) stopped: bool,
}

/// The copies of all logs. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Copies {
    known: watch::Sender<HashMap<String, Copied>>,
    /// Logs whose next round does not wait for its time.
    wanted: Arc<Mutex<BTreeSet<String>>>,
    /// The logs that their copies are behind.
    behind: Arc<Mutex<HashMap<String, Behind>>>,
}

/// How far the copy of one log is behind it.
#[derive(Debug, Clone, Copy)]
struct Behind {
    /// Entries of the copy.
    copied: u64,
    /// Entries that it has not.
    entries: u64,
    /// When the first of them was seen.
    since_ms: i64,
}

/// How far the copies are behind, all together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lag {
    /// Logs that are not published in full.
    pub(crate) logs: u64,
    /// Entries that are not published.
    pub(crate) entries: u64,
    /// Age of the oldest of them, milliseconds.
    pub(crate) oldest_ms: i64,
}

impl Default for Copies {
    fn default() -> Self {
        Self {
            known: watch::Sender::new(HashMap::new()),
            wanted: Arc::default(),
            behind: Arc::default(),
        }
    }
}

impl Copies {
    /// What is known of a tenant's log.
    pub(crate) fn of(&self, tenant: &str) -> Option<Copied> {
        self.known.borrow().get(tenant).copied()
    }

    /// Remembers that a log was published, and tells those who wait.
    pub(crate) fn published(&self, tenant: &str, copied: Copied) {
        self.known.send_modify(|known| {
            known.insert(tenant.to_owned(), copied);
        });
    }

    /// Remembers that a log was stopped, and tells those who wait.
    pub(crate) fn stopped(&self, tenant: &str) {
        self.known.send_modify(|known| {
            let nothing = Copied {
                size: 0,
                at_ms: 0,
                stopped: true,
            };
            known.entry(tenant.to_owned()).or_insert(nothing).stopped = true;
        });
    }

    /// Waits until a log is published up to a size; what is known of it then, or when it is stopped or the time is over.
    pub(crate) async fn wait(&self, tenant: &str, size: u64, wait: Duration) -> Option<Copied> {
        let reached = |known: &HashMap<String, Copied>| {
            let copied = known.get(tenant);
            copied.is_some_and(|copied| copied.size >= size || copied.stopped)
        };
        let mut known = self.known.subscribe();
        if !reached(&known.borrow()) && !wait.is_zero() {
            lock(&self.wanted).insert(tenant.to_owned());
            // Over in either way: what is known is read below.
            let _ = tokio::time::timeout(wait, known.wait_for(reached)).await;
        }
        self.of(tenant)
    }

    /// Takes note of the logs' sizes.
    pub(crate) fn look(&self, sizes: &[(String, u64)], now_ms: i64) {
        let mut behind = lock(&self.behind);
        let known = self.known.borrow();
        let now = sizes.iter().filter_map(|(tenant, size)| {
            let copied = known.get(tenant).map_or(0, |copied| copied.size);
            let entries = size.checked_sub(copied).filter(|entries| *entries > 0)?;
            let before = behind.get(tenant).filter(|old| old.copied == copied);
            let since_ms = before.map_or(now_ms, |old| old.since_ms);
            let now = Behind {
                copied,
                entries,
                since_ms,
            };
            Some((tenant.clone(), now))
        });
        *behind = now.collect();
    }

    /// How far the copies were behind at the last look.
    pub(crate) fn lag(&self, now_ms: i64) -> Lag {
        let behind = lock(&self.behind);
        let oldest_ms = behind.values().map(|one| now_ms - one.since_ms).max();
        Lag {
            logs: behind.len() as u64,
            entries: behind.values().map(|one| one.entries).sum(),
            oldest_ms: oldest_ms.unwrap_or(0).max(0),
        }
    }

    /// The logs that somebody waits for; they are asked for once.
    pub(crate) fn take_wanted(&self) -> BTreeSet<String> {
        std::mem::take(&mut *lock(&self.wanted))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_published_ages_until_it_is() {
        let copies = Copies::default();
        let sizes = |acme, beta| [("acme".to_owned(), acme), ("beta".to_owned(), beta)];
        let lag = |logs, entries, oldest_ms| Lag {
            logs,
            entries,
            oldest_ms,
        };
        copies.look(&sizes(3, 0), 1000);
        copies.look(&sizes(5, 2), 3000);
        assert_eq!(copies.lag(4000), lag(2, 7, 3000));
        let copied = Copied {
            size: 4,
            at_ms: 4000,
            stopped: false,
        };
        copies.published("acme", copied);
        copies.look(&sizes(5, 2), 5000);
        assert_eq!(copies.lag(5000), lag(2, 3, 2000));
        copies.published("beta", Copied { size: 2, ..copied });
        copies.look(&sizes(5, 2), 6000);
        assert_eq!(copies.lag(6500), lag(1, 1, 1500));
        copies.published("acme", Copied { size: 5, ..copied });
        copies.look(&sizes(5, 2), 7000);
        assert_eq!(copies.lag(7000), Lag::default());
    }
}
