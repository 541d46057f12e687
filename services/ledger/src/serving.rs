//! Whether records can be appended: compared with the anchors at the start, and looked at from then on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use counterfoil_chassis::{CancellationToken, server::Health};
use counterfoil_engine::EngineError;
use futures::StreamExt as _;

use crate::logs::Logs;

/// Name under which `grpc.health.v1.Health` tells whether every log can be appended to. The server as a whole serves meanwhile: other
/// tenants' logs are written, and all are read.
pub(crate) const APPEND: &str = "counterfoil.ledger.v1.LedgerService/Append";

const LOOK: Duration = Duration::from_secs(1);
/// Logs that are compared with their anchors at once.
const LOGS_AT_ONCE: usize = 16;

/// What keeps from appending. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    logs: Logs,
    health: Health,
    troubles: Arc<Mutex<Vec<String>>>,
}

impl Serving {
    pub(crate) fn new(logs: Logs, health: Health) -> Self {
        Self {
            logs,
            health,
            troubles: Arc::default(),
        }
    }

    /// What keeps from appending, in plain words, as of the last look.
    pub(crate) fn troubles(&self) -> Vec<String> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks once, before the server answers: whoever asks first is told, too. What was told.
    pub(crate) async fn begin(&self) -> bool {
        self.look(None).await
    }

    /// Compares every log with what remembers it, without waiting for the first append. Then looks until the service ends; `told` is
    /// what was told at the beginning.
    pub(crate) async fn run(self, mut told: bool, shutdown: CancellationToken) {
        if shutdown
            .run_until_cancelled(self.check_all())
            .await
            .is_none()
        {
            return;
        }
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(look.tick()).await.is_some() {
            told = self.look(Some(told)).await;
        }
        self.health.set(APPEND, false).await;
    }

    async fn check_all(&self) {
        let tenants = match self.logs.tenants().await {
            Ok(tenants) => tenants,
            Err(error) => {
                tracing::warn!(%error, "the logs are compared with their anchors when they are written");
                return;
            }
        };
        let checks = tenants.into_iter().map(|tenant| async move {
            let log = self.logs.get(&tenant).await?;
            log.check_anchors().await
        });
        let mut checks = futures::stream::iter(checks).buffer_unordered(LOGS_AT_ONCE);
        while let Some(checked) = checks.next().await {
            // Damage is among the troubles now.
            if let Err(error) = checked
                && !matches!(error, EngineError::Damaged { .. })
            {
                tracing::warn!(%error, "a log is compared with its anchors when it is written");
            }
        }
    }

    /// Looks, and tells what is not what was told last. Who watches is told whenever it is set, changed or not.
    async fn look(&self, told: Option<bool>) -> bool {
        let mut now = self.logs.troubles();
        match self.logs.stopped().await {
            Ok(stopped) => now.extend(
                stopped
                    .into_iter()
                    .map(|(tenant, why)| format!("the log of {tenant} is stopped: {why}")),
            ),
            Err(error) => now.push(error.to_string()),
        }
        let serves = now.is_empty();
        if told != Some(serves) {
            self.health.set(APPEND, serves).await;
        }
        let before = std::mem::replace(&mut *self.lock(), now.clone());
        for trouble in now.iter().filter(|trouble| !before.contains(trouble)) {
            tracing::error!(
                alarm = "APPEND_NOT_SERVING",
                trouble,
                "records cannot be appended"
            );
        }
        if now.is_empty() && !before.is_empty() {
            tracing::info!("records can be appended to every log");
        }
        serves
    }
}
