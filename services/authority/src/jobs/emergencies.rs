//! Puts on record that the review of an access in an emergency was missed.
//!
//! The access itself needs no job: it ends at its end, to the millisecond.

use counterfoil_chassis::{ApiError, RecordDraft};

use crate::{
    api::{Api, missed},
    store::{self, From},
};

use super::Tally;

/// Tenants read at once.
const TENANTS: i64 = 1_000;

/// Looks at every access whose review was missed; answers how many there were.
pub(super) async fn run_once(api: &Api) -> Result<usize, ApiError> {
    let (mut after, mut tally) = (String::new(), Tally::default());
    loop {
        let tenants = {
            let mut reader = api
                .db()
                .read_everything("whose reviews were missed")
                .await?;
            let from = From {
                after: &after,
                limit: TENANTS,
            };
            store::tenants::list(&mut reader, from).await?
        };
        let Some(last) = tenants.last() else {
            return tally.answer();
        };
        after.clone_from(&last.id);
        for tenant in &tenants {
            tally.count(of_tenant(api, &tenant.id).await);
        }
    }
}

async fn of_tenant(api: &Api, tenant: &str) -> Result<usize, ApiError> {
    let waiting = {
        let mut reader = api.db().read(tenant).await?;
        store::emergencies::waiting(&mut reader, tenant).await?
    };
    let now_ms = api.now_ms();
    let mut found = 0;
    for access in waiting {
        let due = access.review_due_ms().is_some_and(|due_ms| now_ms > due_ms);
        let Some(approval) = access.approval.as_ref().filter(|_| due) else {
            continue;
        };
        let mut tx = api.db().write_tx(tenant).await?;
        if !store::emergencies::miss(tx.conn(), tenant, &access.id).await? {
            tx.rollback().await?;
            continue;
        }
        let payload = missed(&access, approval.record_hash);
        let draft = RecordDraft::new(&payload, "services/authority", now_ms)
            .subject(access.id.in_records());
        api.record(&mut tx, draft).await?;
        // If we crash here: nothing is on record, and the next run finds it again.
        tx.commit().await?;
        found += 1;
    }
    Ok(found)
}
