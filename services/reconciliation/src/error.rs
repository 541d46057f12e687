//! What a caller is told when this service refuses, and why a job stops.

use counterfoil_chassis::{error::ApiError, outbox::OutboxError};

use crate::{model::state::RemediationState, store::StoreError};

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Sql(error) => error.into(),
            damaged @ StoreError::Damaged(_) => Self::data_loss("STORE_DAMAGED", damaged),
        }
    }
}

/// FAILED_PRECONDITION: the remediation is in another state than the verb needs.
pub(crate) fn wrong_state(state: RemediationState) -> ApiError {
    let state = state.shown();
    ApiError::failed_precondition("REMEDIATION_STATE", format!("the remediation is {state}"))
        .with_metadata("state", state)
}

/// Why a job does not go on. What it had done stands; it goes on from there when it is started again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobError {
    /// The service ends.
    #[error("the service ends")]
    Stopped,
    /// Another process carries the remediation out.
    #[error("another process has taken over")]
    TakenOver,
    /// Something it needs refuses or does not answer.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl From<StoreError> for JobError {
    fn from(error: StoreError) -> Self {
        Self::Api(error.into())
    }
}

impl From<OutboxError> for JobError {
    fn from(error: OutboxError) -> Self {
        Self::Api(error.into())
    }
}

impl From<JobError> for ApiError {
    fn from(error: JobError) -> Self {
        let retry = std::time::Duration::from_secs(1);
        match error {
            JobError::Api(error) => error,
            JobError::Stopped => Self::unavailable("STOPPING", "the service ends", retry),
            JobError::TakenOver => {
                Self::unavailable("TAKEN_OVER", "another process is at it", retry)
            }
        }
    }
}
