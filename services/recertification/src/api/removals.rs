//! Reports of removals whose effect is verified.

use std::collections::HashMap;

use counterfoil_chassis::{auth::Caller, clock::millis, error::ApiError, names::tenant_field};
use counterfoil_evidence::{leaf::GrantKey, replay::CLOCK_SKEW_MS};
use counterfoil_proto::recertification::{
    ReportVerifiedRemovalsRequest, ReportVerifiedRemovalsResponse, VerifiedRemoval,
};

use super::Api;
use crate::store::removals::{self, Removal};

/// Most removals in one report.
const REMOVALS_MAX: usize = 10_000;

impl Api {
    pub(super) async fn report_removals(
        &self,
        caller: &Caller,
        request: ReportVerifiedRemovalsRequest,
    ) -> Result<ReportVerifiedRemovalsResponse, ApiError> {
        let tenant = tenant_field(&request.tenant)?;
        caller.require_tenant(&tenant)?;
        self.context.tenants.require(&tenant).await?;
        let reported = newest(&request.removals, self.context.clock.now_ms())?;
        let mut tx = self.context.db.write_tx(&tenant).await?;
        removals::keep(&mut tx, &tenant, &reported).await?;
        let noted_count = removals::apply(&mut tx, &tenant, &reported).await?;
        // If we crash here: the removals are kept and their items marked, or neither; the same report again changes nothing more.
        tx.commit().await?;
        Ok(ReportVerifiedRemovalsResponse { noted_count })
    }
}

/// The removals of a report, one a grant.
fn newest(reported: &[VerifiedRemoval], now_ms: i64) -> Result<Vec<Removal>, ApiError> {
    if reported.len() > REMOVALS_MAX {
        let limit = format!("at most {REMOVALS_MAX} are allowed");
        return Err(ApiError::invalid("removals", limit));
    }
    let mut newest: HashMap<GrantKey, Removal> = HashMap::with_capacity(reported.len());
    for one in reported {
        let removal = removal(one, now_ms)?;
        let known = newest.entry(removal.key).or_insert(removal);
        if removal.observed_ms > known.observed_ms {
            *known = removal;
        }
    }
    Ok(newest.into_values().collect())
}

fn removal(reported: &VerifiedRemoval, now_ms: i64) -> Result<Removal, ApiError> {
    let field = "removals.observed_time";
    let observed_ms = match &reported.observed_time {
        Some(time) => millis(time).ok_or_else(|| ApiError::invalid(field, "is not a time"))?,
        None => return Err(ApiError::invalid(field, "is required")),
    };
    // What the verifier takes for a wrong clock would be proof here and none there.
    if observed_ms.saturating_sub(now_ms) > CLOCK_SKEW_MS {
        return Err(ApiError::invalid(field, "is more than 5 minutes ahead"));
    }
    Ok(Removal {
        key: GrantKey::try_from(reported.grant_key.as_slice())
            .map_err(|_| ApiError::invalid("removals.grant_key", "has 40 bytes"))?,
        record_hash: reported
            .verified_record_hash
            .as_slice()
            .try_into()
            .map_err(|_| ApiError::invalid("removals.verified_record_hash", "has 32 bytes"))?,
        observed_ms,
    })
}
