//! What a caller is told when this service refuses: code and reason of every error of the model and the store.

use counterfoil_chassis::error::ApiError;
use counterfoil_tlog::sorted_set::SetError;

use crate::{
    model::{
        campaign::WrongState,
        decision::{Refusal, RefusalKind},
        gate::GateRefusal,
    },
    store::StoreError,
};

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Sql(error) => error.into(),
            damaged @ StoreError::Damaged(_) => Self::data_loss("STORE_DAMAGED", damaged),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let Refusal {
            kind,
            reason,
            message,
        } = refusal;
        match kind {
            RefusalKind::Invalid(field) => {
                let prefix = format!("{field}: ");
                let description = message.strip_prefix(&prefix).unwrap_or(&message);
                Self::invalid(field, description)
            }
            RefusalKind::Denied => Self::permission_denied(reason, message),
            RefusalKind::Precondition => Self::failed_precondition(reason, message),
            RefusalKind::Stale => Self::aborted(reason, message),
            RefusalKind::NotFound => Self::not_found(),
        }
    }
}

impl From<WrongState> for ApiError {
    fn from(wrong: WrongState) -> Self {
        Self::failed_precondition("CAMPAIGN_STATE", wrong.to_string())
            .with_metadata("state", wrong.0.shown())
    }
}

/// FAILED_PRECONDITION with one violation a source.
pub(crate) fn gate_refused(refusals: &[GateRefusal]) -> ApiError {
    let reason = refusals.first().map_or("SOURCE_MISSING", |one| one.reason);
    let messages: Vec<&str> = refusals.iter().map(|one| one.message.as_str()).collect();
    refusals.iter().fold(
        ApiError::failed_precondition(reason, messages.join("; ")),
        |error, one| error.and_violation(one.reason, one.source.as_str(), &one.message),
    )
}

/// A set that this service sorts itself is out of order: a defect.
pub(crate) fn set_refused(error: SetError) -> ApiError {
    ApiError::internal(error)
}

/// FAILED_PRECONDITION: decisions are taken while a campaign is under review, and at no other time.
pub(crate) fn wrong_state() -> ApiError {
    ApiError::failed_precondition("CAMPAIGN_NOT_ACTIVE", "the campaign is not under review")
}
