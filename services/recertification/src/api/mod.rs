//! The gRPC face: proto to model and back, who may call, what a request must hold.
//!
//! Invariants: every method checks the caller's tenant before anything else; a change, its record and its answer are one
//! transaction; calls to other services stand before the transaction, never in it.

mod campaigns;
mod convert;
mod decide;
mod decided;
mod decisions;
pub(crate) mod peers;
mod removals;
mod reviews;
mod staging;
mod steps;
pub(crate) mod streams;

use std::{sync::Arc, time::Duration};

use counterfoil_chassis::{auth::Caller, error::ApiError};
use counterfoil_proto::common::Receipt;
use tonic::Request;

use crate::{context::Context, model::ids::CampaignKey};

/// How long an answer waits for its receipt before it says PENDING.
const SETTLE: Duration = Duration::from_secs(2);

counterfoil_chassis::resource_name! {
    /// "tenants/{tenant}/campaigns/{campaign}".
    pub(crate) struct CampaignName { tenant: "tenants", campaign: "campaigns" }
}

counterfoil_chassis::resource_name! {
    /// "tenants/{tenant}/campaigns/{campaign}/items/{item}".
    pub(crate) struct ItemName { tenant: "tenants", campaign: "campaigns", item: "items" }
}

counterfoil_chassis::resource_name! {
    /// "tenants/{tenant}/snapshots/{snapshot}".
    pub(crate) struct SnapshotName { tenant: "tenants", snapshot: "snapshots" }
}

counterfoil_chassis::resource_name! {
    /// "tenants/{tenant}/sources/{source}".
    pub(crate) struct SourceName { tenant: "tenants", source: "sources" }
}

counterfoil_chassis::resource_name! {
    /// "tenants/{tenant}/grants/{grant}".
    pub(crate) struct GrantName { tenant: "tenants", grant: "grants" }
}

/// Serves campaigns and reviews. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) context: Arc<Context>,
}

impl Api {
    /// The campaign named in `field`, which must be of the caller's tenant.
    fn campaign_key(caller: &Caller, field: &str, name: &str) -> Result<CampaignKey, ApiError> {
        let name = CampaignName::parse_field(field, name)?;
        caller.require_tenant(&name.tenant)?;
        Ok(CampaignKey {
            tenant: name.tenant,
            campaign: name.campaign,
        })
    }

    /// Turns a PENDING receipt into a LOGGED one if it comes soon.
    async fn settle(&self, tenant: &str, receipt: &mut Option<Receipt>) -> Result<(), ApiError> {
        self.context.outbox.settle(tenant, receipt, SETTLE).await
    }
}

/// Takes a request apart.
fn open<T>(request: Request<T>) -> Result<(Caller, T), ApiError> {
    let caller = Caller::of(&request)?.clone();
    Ok((caller, request.into_inner()))
}
