//! Tells both sides 30, 7 and 1 days before an engagement ends, and notes its end with everybody who acted under it. Ends for the
//! customer what its provider has withdrawn, and tells it what its provider asked for, where a crash came between.
//!
//! The end itself needs no job: an operator's standing ends with the engagement's term, to the millisecond.

use counterfoil_chassis::{ApiError, Caller, Role};
use counterfoil_evidence::v1::{EngagementEnd, EngagementEnded, EngagementNoticeGiven};

use crate::{
    SERVICE,
    api::{Api, Change, carry_over, carry_withdrawal, end_engagement_of, engagement_of},
    model::{
        engagement::{DAY_MS, NOTICE_DAYS, REQUEST_MS, notice_due},
        ids::EngagementId,
    },
    store,
};

use super::Tally;

/// Looks at every engagement that ends soon or has ended; answers how many it wrote about.
pub(super) async fn run_once(api: &Api) -> Result<usize, ApiError> {
    let now_ms = api.now_ms();
    let soon_ms = now_ms + i64::from(NOTICE_DAYS[0]) * DAY_MS;
    let mut reader = api
        .db()
        .read_everything("engagements that end soon")
        .await?;
    let ending = store::engagements::ending_before(&mut reader, soon_ms).await?;
    let withdrawn = store::engagements::withdrawn(&mut reader).await?;
    let unseen = store::engagements::unseen(&mut reader, now_ms - REQUEST_MS).await?;
    drop(reader);
    let mut tally = Tally::default();
    for (provider, customer, id) in unseen {
        let carried = carry_over(api, &provider, &customer, &id).await;
        tally.count(carried.map(usize::from));
    }
    for (tenant, id) in withdrawn {
        // Whoever withdrew it wrote that into the provider's log, and did not come to this one.
        let carried = carry_withdrawal(api, &job(), &tenant, &id, "WITHDRAWN").await;
        tally.count(carried.map(usize::from));
    }
    for (tenant, id) in ending {
        tally.count(look(api, &tenant, &id).await.map(usize::from));
    }
    tally.answer()
}

fn job() -> Caller {
    Caller::of_deployment(format!("services/{SERVICE}"), [Role::Service])
}

/// Writes what is due about one engagement, in one transaction. False: nothing is.
async fn look(api: &Api, tenant: &str, id: &EngagementId) -> Result<bool, ApiError> {
    let Some(mut change) = api.begin_to_end(&job(), tenant).await? else {
        return Ok(false);
    };
    if !write(api, &mut change, tenant, id).await? {
        return Ok(false);
    }
    // If we crash here: nothing was told, and the next run tells it.
    api.finish(*change, ()).await?;
    Ok(true)
}

async fn write(
    api: &Api,
    change: &mut Change,
    tenant: &str,
    id: &EngagementId,
) -> Result<bool, ApiError> {
    let engagement = engagement_of(change, id).await?;
    let now_ms = change.now_ms;
    let open = engagement
        .approval
        .filter(|_| engagement.ended_at_ms.is_none());
    let Some(approval) = open else {
        return Ok(false);
    };
    if approval.valid_to_ms <= now_ms {
        let payload = EngagementEnded {
            engagement: id.in_records(),
            ended_by: EngagementEnd::Expired.into(),
            effective_ms: approval.valid_to_ms,
            reason: "TERM".to_owned(),
        };
        let draft = change.draft(&payload, id.in_records());
        api.emit(change, draft).await?;
        end_engagement_of(api, change, id, EngagementEnd::Expired).await?;
        return Ok(true);
    }
    let valid_to_ms = approval.valid_to_ms;
    let given = store::engagements::notices(change.tx.conn(), tenant, id, valid_to_ms).await?;
    let Some(days) = notice_due(valid_to_ms, &given, now_ms) else {
        return Ok(false);
    };
    store::engagements::insert_notice(change.tx.conn(), tenant, id, valid_to_ms, days).await?;
    let payload = EngagementNoticeGiven {
        engagement: id.in_records(),
        valid_to_ms,
        days,
    };
    let draft = change.draft(&payload, id.in_records());
    api.emit(change, draft).await?;
    Ok(true)
}
