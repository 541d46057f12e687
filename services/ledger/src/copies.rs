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
}

impl Default for Copies {
    fn default() -> Self {
        Self {
            known: watch::Sender::new(HashMap::new()),
            wanted: Arc::default(),
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
            self.lock().insert(tenant.to_owned());
            // Over in either way: what is known is read below.
            let _ = tokio::time::timeout(wait, known.wait_for(reached)).await;
        }
        self.of(tenant)
    }

    /// The logs that somebody waits for; they are asked for once.
    pub(crate) fn take_wanted(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
