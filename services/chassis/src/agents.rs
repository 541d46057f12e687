//! What AI agents decide and start is counted before it is written down: authority says whether their mandate has anything left.

use counterfoil_proto::authority::{
    DecisionAction, UseMandateRequest, mandate_service_client::MandateServiceClient,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{client::ServiceChannel, error::ApiError};

/// Reasons that the agent itself is told.
const TOLD: [&str; 2] = ["MANDATE_LIMIT", "MANDATE_REQUIRED"];

/// Counts what agents do. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mandates(MandateServiceClient<ServiceChannel>);

/// What an agent is about to do.
#[derive(Debug, Clone, Copy)]
pub struct Act<'a> {
    /// "tenants/{tenant}/principals/{principal}".
    pub agent: &'a str,
    /// The mandate under which authority has judged it.
    pub mandate: &'a str,
    /// What it decides, or under what it starts something.
    pub action: DecisionAction,
    /// Names it: the same act of an agent counts once.
    pub name: &'a str,
    /// Removals in it.
    pub removals: u64,
}

impl Mandates {
    /// Asks authority behind `channel`.
    #[must_use]
    pub fn new(channel: ServiceChannel) -> Self {
        Self(MandateServiceClient::new(channel))
    }

    /// Counts an act. What is counted and then not done stays counted.
    ///
    /// # Errors
    /// PERMISSION_DENIED with reason MANDATE_REQUIRED, FAILED_PRECONDITION with reason MANDATE_LIMIT, as authority says them.
    pub async fn count(&self, act: Act<'_>) -> Result<(), ApiError> {
        let request = UseMandateRequest {
            agent: act.agent.to_owned(),
            action: act.action.into(),
            act: act.name.to_owned(),
            mandate: act.mandate.to_owned(),
            removals: u32::try_from(act.removals).unwrap_or(u32::MAX),
        };
        let answer = self.0.clone().use_mandate(request).await;
        answer.map(drop).map_err(refused)
    }
}

fn refused(status: Status) -> ApiError {
    let info = status.get_details_error_info();
    let Some(info) = info.filter(|info| TOLD.contains(&info.reason.as_str())) else {
        return ApiError::from_peer("authority", status);
    };
    let error = match status.code() {
        Code::PermissionDenied => ApiError::permission_denied(info.reason, status.message()),
        _ => ApiError::failed_precondition(info.reason, status.message()),
    };
    let metadata = info.metadata.into_iter();
    metadata.fold(error, |error, (key, value)| error.with_metadata(key, value))
}
