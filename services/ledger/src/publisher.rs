//! Brings the published copies of all logs up to date, a while after they grew.
//!
//! How far a copy is, the copy itself says; this only remembers which logs it need not ask. So the first round after a start asks
//! all of them, and compares each log with its copy before anybody writes to it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use counterfoil_chassis::{CancellationToken, Clock, tls};
use counterfoil_engine::{EngineError, Publication};
use futures::StreamExt as _;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::local::LocalFileSystem;

use tokio::time::timeout;

use crate::copies::{Copied, Copies};
use crate::logs::Logs;

/// How often the logs' sizes are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// New entries that are published without waiting: a full tile.
const ENTRIES_AT_ONCE: u64 = 256;
/// Logs that are published at once.
const LOGS_AT_ONCE: usize = 16;
const INTERVAL_SECONDS: u32 = 60;
/// How long the service waits for the object store when it ends; shorter than what it is given to end.
const FINISH_TIMEOUT: Duration = Duration::from_secs(15);
/// In a folder of published copies: the file whose lock replicas take in turns. It holds nothing.
const TURNS: &str = ".turns";

/// Why logs cannot be published there.
#[derive(Debug, thiserror::Error)]
#[error("ledger.publish_url {url:?}: {reason}")]
pub(crate) struct BadUrl {
    url: String,
    reason: String,
}

/// Opens the place that a configured url names.
pub(crate) fn open(url: &str) -> Result<Publication, BadUrl> {
    let bad = |reason: String| BadUrl {
        url: url.to_owned(),
        reason,
    };
    if let Some(folder) = url.strip_prefix("file://") {
        if !folder.starts_with('/') {
            return Err(bad(
                "a folder is named by its whole path: file:///folder".to_owned()
            ));
        }
        std::fs::create_dir_all(folder).map_err(|error| bad(error.to_string()))?;
        let store =
            LocalFileSystem::new_with_prefix(folder).map_err(|error| bad(error.to_string()))?;
        // Acknowledged is durable, as with S3.
        let publication = Publication::new(Arc::new(store.with_fsync(true)), "");
        return Ok(publication.in_turns(Path::new(folder).join(TURNS)));
    }
    let Some((_, prefix)) = url
        .strip_prefix("s3://")
        .map(|rest| rest.split_once('/').unwrap_or((rest, "")))
    else {
        return Err(bad("it starts with file:// or s3://".to_owned()));
    };
    // The HTTP client takes whatever the process has; the first one installed stays.
    let _ = Arc::unwrap_or_clone(tls::provider()).install_default();
    let store = AmazonS3Builder::from_env()
        .with_url(url)
        // A file of a log is created once: the store refuses the second one, whoever writes it.
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .build()
        .map_err(|error| bad(error.to_string()))?;
    Ok(Publication::new(Arc::new(store), prefix))
}

/// Publishes the logs that grew.
#[derive(Debug)]
pub(crate) struct Publisher {
    logs: Logs,
    to: Publication,
    clock: Clock,
    interval_ms: i64,
    copies: Copies,
}

impl Publisher {
    pub(crate) fn new(
        logs: Logs,
        to: Publication,
        copies: Copies,
        clock: Clock,
        interval_seconds: Option<u32>,
    ) -> Self {
        let seconds = interval_seconds.unwrap_or(INTERVAL_SECONDS);
        Self {
            logs,
            to,
            clock,
            interval_ms: i64::from(seconds) * 1000,
            copies,
        }
    }

    /// Runs until the service ends.
    pub(crate) async fn run(&self, shutdown: &CancellationToken) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(look.tick()).await.is_some() {
            // Cut off anywhere, it leaves a copy that the next round goes on with.
            shutdown.run_until_cancelled(self.round(false)).await;
        }
    }

    /// Publishes all that is not published, once nothing is appended any more. What cannot be published stays in the database, and the
    /// next start publishes it.
    pub(crate) async fn finish(&self) {
        if timeout(FINISH_TIMEOUT, self.round(true)).await.is_err() {
            tracing::warn!("not everything was published before the end; the next start goes on");
        }
    }

    async fn round(&self, all: bool) {
        if let Err(error) = self.publish_due(all).await {
            tracing::warn!(%error, "the logs' sizes cannot be read; nothing is published");
        }
    }

    /// Publishes each log that has grown enough, or long enough ago, or that somebody waits for; or each that has grown.
    async fn publish_due(&self, all: bool) -> Result<(), EngineError> {
        let now_ms = self.clock.now_ms();
        let wanted = self.copies.take_wanted();
        let sizes = self.logs.sizes().await?;
        self.copies.look(&sizes, now_ms);
        let grown: Vec<String> = sizes
            .into_iter()
            .filter(|(tenant, size)| self.is_due(tenant, *size, now_ms, all, &wanted))
            .map(|(tenant, _)| tenant)
            .collect();
        let mut runs = futures::stream::iter(grown.into_iter().map(|tenant| {
            let (logs, to) = (self.logs.clone(), self.to.clone());
            async move {
                let published = publish(&logs, &to, &tenant).await;
                (tenant, published)
            }
        }))
        .buffer_unordered(LOGS_AT_ONCE);
        while let Some((tenant, published)) = runs.next().await {
            match published {
                Ok(size) => self.copies.published(
                    &tenant,
                    Copied {
                        size,
                        at_ms: now_ms,
                        stopped: false,
                    },
                ),
                Err(error @ EngineError::Damaged { .. }) => {
                    tracing::error!(alarm = "LOG_STOPPED", tenant, %error, "nothing is published");
                    self.copies.stopped(&tenant);
                }
                // Tried again in the next round.
                Err(error) => tracing::warn!(tenant, %error, "the log was not published"),
            }
        }
        Ok(())
    }

    fn is_due(
        &self,
        tenant: &str,
        size: u64,
        now_ms: i64,
        all: bool,
        wanted: &BTreeSet<String>,
    ) -> bool {
        self.copies.of(tenant).is_none_or(|copied| {
            let old = all || wanted.contains(tenant) || now_ms - copied.at_ms >= self.interval_ms;
            size >= copied.size + ENTRIES_AT_ONCE || size > copied.size && old
        })
    }
}

async fn publish(logs: &Logs, to: &Publication, tenant: &str) -> Result<u64, EngineError> {
    let log = logs.get(tenant).await?;
    let published = log.publish(to).await?;
    logs.published(&log, published.size).await;
    Ok(published.size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_place_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}/new", folder.path().display());
        open(&url).unwrap();
        for (url, reason) in [
            ("https://x/y", "starts with"),
            ("file://relative", "whole path"),
            ("", "starts with"),
        ] {
            let refused = open(url).unwrap_err().to_string();
            assert!(refused.contains(reason), "{refused}");
        }
    }
}
