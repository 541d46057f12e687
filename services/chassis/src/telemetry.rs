//! Logs, and the id that joins what one request leaves in them.

use std::sync::OnceLock;

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

tokio::task_local! {
    static REQUEST_ID: String;
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to standard error. `filter` is in the syntax of `tracing_subscriber::EnvFilter`, such as "info".
/// Only the first call of a process has an effect.
///
/// # Errors
/// When `filter` is malformed.
pub fn init(filter: &str, format: LogFormat) -> Result<(), TelemetryError> {
    static STARTED: OnceLock<()> = OnceLock::new();
    let filter = EnvFilter::try_new(filter).map_err(|error| TelemetryError(error.to_string()))?;
    if STARTED.set(()).is_err() {
        return Ok(());
    }
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| TelemetryError(error.to_string()))
}

/// Logging did not start.
#[derive(Debug, thiserror::Error)]
#[error("logging: {0}")]
pub struct TelemetryError(String);

/// Id of the request that this task serves; a new one outside of any request.
#[must_use]
pub fn request_id() -> String {
    REQUEST_ID
        .try_with(Clone::clone)
        .unwrap_or_else(|_| new_request_id())
}

/// Serves a request under its id: errors are logged with it, and calls to other services carry it on.
pub async fn with_request_id<F: Future>(request_id: String, serve: F) -> F::Output {
    REQUEST_ID.scope(request_id, serve).await
}

/// A new id.
#[must_use]
pub fn new_request_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
