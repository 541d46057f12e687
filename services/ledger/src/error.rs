//! Why this service refuses, as reasons that a program can read.

use std::time::Duration;

use counterfoil_chassis::ApiError;
use counterfoil_engine::EngineError;

use crate::model::anchoring::NoEpoch;

/// A refusal of the service's own, or a failure of the engine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    /// The engine cannot do it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// INVALID_ARGUMENT.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// PERMISSION_DENIED: a service registers its own stream only.
    #[error("a service registers its own key for its own stream")]
    ForeignStream,
    /// ALREADY_EXISTS: the key id belongs to another key or principal.
    #[error("the key id is registered with another key, principal or stream")]
    KeyTaken,
    /// UNAVAILABLE: other writers were faster too often.
    #[error("the log is written by others at the same time")]
    Contended,
    /// DATA_LOSS: what the log holds cannot be read.
    #[error("entry {index} cannot be read: {reason}")]
    Unreadable {
        /// Which entry.
        index: u64,
        /// Why.
        reason: String,
    },
    /// DATA_LOSS: no head is anchored any more.
    #[error(transparent)]
    NoEpoch(#[from] NoEpoch),
    /// INTERNAL: the system has no random bytes.
    #[error("{0}")]
    Secret(String),
    /// The service's own tables.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<LedgerError> for ApiError {
    fn from(error: LedgerError) -> Self {
        let retry = Duration::from_millis(200);
        match error {
            LedgerError::Engine(error) => of_engine(error),
            LedgerError::Invalid { field, reason } => Self::invalid(field, reason),
            LedgerError::ForeignStream => {
                Self::permission_denied("FOREIGN_STREAM", error.to_string())
            }
            LedgerError::KeyTaken => Self::already_exists("KEY_TAKEN", error.to_string()),
            LedgerError::Contended => Self::unavailable("LOG_CONTENDED", error.to_string(), retry),
            LedgerError::Unreadable { .. } => Self::data_loss("LOG_DAMAGED", error),
            LedgerError::NoEpoch(_) => Self::data_loss("LOG_DAMAGED", error),
            LedgerError::Secret(_) => Self::internal(error),
            LedgerError::Database(error) => error.into(),
        }
    }
}

fn of_engine(error: EngineError) -> ApiError {
    match error {
        // Told as for every other tenant that the caller may not see.
        EngineError::NoSuchLog(_) => ApiError::not_found(),
        EngineError::LogDiffers { what, .. } => ApiError::already_exists(
            "LOG_DIFFERS",
            format!("the tenant has a log with another {what}"),
        ),
        EngineError::Overloaded { retry_after_ms } => ApiError::resource_exhausted(
            "LEDGER_OVERLOADED",
            "too much waits to be appended",
            Duration::from_millis(retry_after_ms),
        ),
        EngineError::SubmissionTooLarge { .. } => ApiError::invalid("records", error.to_string()),
        EngineError::OutOfRange { asked, size } => ApiError::out_of_range(
            "BEYOND_THE_LOG",
            format!("{asked} is out of range: the log has {size} entries"),
        )
        .with_metadata("size", size.to_string()),
        EngineError::Closed => ApiError::unavailable(
            "CLOSING",
            "the service is closing",
            Duration::from_millis(500),
        ),
        EngineError::Storage { .. } => {
            tracing::error!(%error, "the ledger's storage failed");
            ApiError::unavailable(
                "STORAGE_FAILED",
                "what was sent may be durable or not: send it again",
                Duration::from_millis(500),
            )
        }
        // Memory that fails now may not fail the next time, and another replica has its own.
        EngineError::Miscalculated { .. } => {
            tracing::error!(%error, "the memory of this machine fails");
            ApiError::unavailable(
                "MISCALCULATED",
                "the service worked it out wrongly, noticed it, and wrote nothing: send it again",
                Duration::from_secs(1),
            )
        }
        EngineError::Damaged { ref reason, .. } => {
            let message = format!(
                "the log is damaged, or its database is older than what was signed: {reason}; `counterfoil ledger fsck` and `recover` are for its operator"
            );
            ApiError::data_loss("LOG_DAMAGED", error).with_message(message)
        }
        EngineError::Publication { .. } => ApiError::unavailable(
            "PUBLICATION_FAILED",
            "the published copy cannot be reached, and old entries may be there only: try again",
            Duration::from_secs(1),
        ),
        EngineError::Key { .. } => ApiError::internal(error),
    }
}
