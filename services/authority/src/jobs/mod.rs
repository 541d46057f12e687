//! Background work: engagements that end, reviews that were missed, and last uses of tokens.

mod emergencies;
mod engagements;
mod uses;

use std::time::Duration;

use counterfoil_chassis::{ApiError, CancellationToken};

use crate::api::Api;

pub(crate) use uses::Uses;

/// How often the job looks.
const EVERY: Duration = Duration::from_secs(60);

/// What a run came to: what fails for one tenant keeps no other waiting.
#[derive(Debug, Default)]
struct Tally {
    written: usize,
    failed: Option<ApiError>,
}

impl Tally {
    /// Counts what one step wrote, or keeps why it did not.
    fn count(&mut self, step: Result<usize, ApiError>) {
        match step {
            Ok(written) => self.written += written,
            Err(error) => {
                if let Some(earlier) = self.failed.replace(error) {
                    tracing::warn!(error = %earlier, "what is due was not all looked at");
                }
            }
        }
    }

    /// How much was written.
    fn answer(self) -> Result<usize, ApiError> {
        self.failed.map_or(Ok(self.written), Err)
    }
}

/// The jobs of a service that runs, for whoever owns the time.
#[derive(Debug, Clone)]
pub struct Jobs {
    api: Api,
}

impl Jobs {
    pub(crate) fn new(api: Api) -> Self {
        Self { api }
    }

    /// Does what is due now; answers how many engagements and missed reviews it wrote about.
    ///
    /// # Errors
    /// The last one, when something could not be written: the rest is, and the next run goes on.
    pub async fn run_once(&self) -> Result<usize, ApiError> {
        let mut tally = Tally::default();
        tally.count(engagements::run_once(&self.api).await);
        tally.count(emergencies::run_once(&self.api).await);
        tally.answer()
    }

    /// Reads the keys of identity providers that are due; the service does so by itself.
    pub async fn read_keys(&self) {
        self.api.issuers.run_once().await;
    }

    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            if let Err(error) = self.run_once().await {
                tracing::warn!(%error, "what is due was not all looked at");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_in_between_is_told_and_the_rest_is_done() {
        let mut tally = Tally::default();
        for step in [Ok(1), Err(ApiError::not_found()), Ok(2)] {
            tally.count(step);
        }
        assert_eq!(tally.written, 3);
        assert_eq!(tally.answer().unwrap_err().code(), tonic::Code::NotFound);
    }
}
