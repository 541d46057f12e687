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
    /// When the database refuses: the next run goes on.
    pub async fn run_once(&self) -> Result<usize, ApiError> {
        let engagements = engagements::run_once(&self.api).await?;
        Ok(engagements + emergencies::run_once(&self.api).await?)
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
