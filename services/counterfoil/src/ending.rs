//! Being asked to end: by SIGTERM, as supervisors ask, or by Ctrl-C.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears when the process is asked to end.
#[derive(Debug)]
pub struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    /// Listens from now on. Made before anything starts: whoever sees that a process is ready may ask it to end in the same
    /// moment, and a signal that nobody listens for kills it in the middle of what it does.
    ///
    /// # Errors
    /// When the system does not let the process listen.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits until the process is asked to end, or has been since it listens.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_asked_before_it_waits_has_heard_it() {
        let mut ending = Ending::listen().unwrap();
        let itself = std::process::id().to_string();
        let sent = std::process::Command::new("kill")
            .args(["-TERM", &itself])
            .status()
            .unwrap();
        assert!(sent.success());
        ending.asked().await;
    }
}
