//! Why the inventory cannot do what was asked.

use counterfoil_chassis::{error::ApiError, outbox::OutboxError};
use counterfoil_connectors::ConnectorError;
use counterfoil_tlog::sorted_set::SetError;

use crate::model::sorting::DamagedChunk;

/// Shorthand for a result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong below the API.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refuses.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// What is stored cannot be what was written.
    #[error("stored {0} is damaged")]
    Damaged(&'static str),
    /// A record could not be written.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// A set could not be built.
    #[error(transparent)]
    Set(#[from] SetError),
    /// The connector refuses.
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    /// Another process has taken the sync over, or ended it.
    #[error("the sync is no longer ours")]
    LeaseLost,
    /// Another service does not answer, or refuses.
    #[error(transparent)]
    Peer(#[from] ApiError),
    /// A task of ours died.
    #[error("a task died: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl From<DamagedChunk> for Error {
    fn from(_: DamagedChunk) -> Self {
        Self::Damaged("staged chunk")
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Sql(error) => error.into(),
            Error::Outbox(error) => error.into(),
            Error::Peer(error) => error,
            Error::Damaged(what) => Self::data_loss("STORED_DATA_DAMAGED", what),
            other => Self::internal(other),
        }
    }
}
