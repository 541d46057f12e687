//! The gRPC face: proto to model and back, who may call, what a request must hold.
//!
//! Invariants: every method checks the caller's tenant before anything else; a change, its record and its answer are one
//! transaction; calls to other services stand before the transaction, never in it.

mod convert;
mod execute;
mod findings;
pub(crate) mod peers;
mod plan;
mod recon;
mod reconcile;
mod remediations;
mod rereads;
mod resolve;

use std::{sync::Arc, time::Duration};

use counterfoil_chassis::{auth::Caller, error::ApiError};
use counterfoil_proto::common::Receipt;
use tonic::Request;

use crate::{context::Context, model::ids::RemediationKey};

/// How long an answer waits for its receipt before it says PENDING.
const SETTLE: Duration = Duration::from_secs(2);

counterfoil_chassis::resource_name! {
    /// "tenants/{tenant}/recon-runs/{recon_run}".
    pub(crate) struct ReconRunName { tenant: "tenants", recon_run: "recon-runs" }
}

counterfoil_chassis::resource_name! {
    /// "tenants/{tenant}/findings/{finding}".
    pub(crate) struct FindingName { tenant: "tenants", finding: "findings" }
}

counterfoil_chassis::resource_name! {
    /// "tenants/{tenant}/remediations/{remediation}".
    pub(crate) struct RemediationName { tenant: "tenants", remediation: "remediations" }
}

counterfoil_chassis::resource_name! {
    /// "tenants/{tenant}/snapshots/{snapshot}".
    pub(crate) struct SnapshotName { tenant: "tenants", snapshot: "snapshots" }
}

/// Serves runs, findings and remediations. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) context: Arc<Context>,
}

impl Api {
    /// The remediation named in `field`, which must be of the caller's tenant.
    fn remediation_key(
        caller: &Caller,
        field: &str,
        name: &str,
    ) -> Result<RemediationKey, ApiError> {
        let name = RemediationName::parse_field(field, name)?;
        caller.require_tenant(&name.tenant)?;
        Ok(RemediationKey {
            tenant: name.tenant,
            remediation: name.remediation,
        })
    }

    /// Turns PENDING receipts into LOGGED ones if they come soon.
    async fn settle(&self, tenant: &str, receipt: &mut Option<Receipt>) -> Result<(), ApiError> {
        self.context.outbox.settle(tenant, receipt, SETTLE).await
    }
}

/// Takes a request apart.
fn open<T>(request: Request<T>) -> Result<(Caller, T), ApiError> {
    let caller = Caller::of(&request)?.clone();
    Ok((caller, request.into_inner()))
}

/// A required text for people.
fn require_reason(reason: &str) -> Result<(), ApiError> {
    if reason.trim().is_empty() {
        return Err(ApiError::invalid("reason", "is required"));
    }
    if reason.chars().count() > REASON_CHARS_MAX {
        return Err(ApiError::invalid("reason", "has at most 2000 characters"));
    }
    Ok(())
}

/// Longest reason.
const REASON_CHARS_MAX: usize = 2000;
