//! Wakes streams and jobs of this process when something was committed. Other processes are seen by looking again.

use std::time::Duration;

use tokio::sync::watch;

/// How long a sleeper waits at most: what another process committed rings no bell here.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Rings after commits. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bell {
    rings: watch::Sender<u64>,
}

impl Default for Bell {
    fn default() -> Self {
        Self {
            rings: watch::Sender::new(0),
        }
    }
}

impl Bell {
    /// Wakes all that listen.
    pub fn ring(&self) {
        self.rings.send_modify(|count| *count += 1);
    }

    /// Listens from now on.
    #[must_use]
    pub fn listen(&self) -> Listener {
        Listener {
            rings: self.rings.subscribe(),
        }
    }
}

/// One that listens. What rang since it listened last is not missed.
#[derive(Debug)]
pub struct Listener {
    rings: watch::Receiver<u64>,
}

impl Listener {
    /// Returns after the next ring, or when it is time to look again.
    pub async fn heard(&mut self) {
        // Both ends alike: the sleeper looks again whatever woke it.
        let _ = tokio::time::timeout(LOOK_AGAIN, self.rings.changed()).await;
    }
}
