//! What is owed for too long is breached, on record, before anybody else could call it overdue.
//!
//! It waits for no source and no reading: a re-read that is breached stays owed, and is discharged late when its source can be
//! read again.

use std::collections::BTreeMap;

use counterfoil_chassis::error::ApiError;
use futures::{StreamExt, stream};

use crate::{
    context::Context,
    error::JobError,
    model::{
        entities::{Obligation, ObligationState},
        ids::RemediationKey,
    },
    records, store,
};

/// An obligation that is still open so long after it was due is breached. The verifier's patience ends a minute later.
const OVERDUE_MS: i64 = 240_000;
/// Remediations at once.
const AT_ONCE: usize = 8;

/// Breaches what is overdue, in all tenants; answers how many there were.
pub(super) async fn run(context: &Context) -> Result<u64, ApiError> {
    let due_ms = context.clock.now_ms() - OVERDUE_MS;
    let mut overdue: BTreeMap<RemediationKey, Vec<Obligation>> = BTreeMap::new();
    for one in store::obligations::overdue(&context.db, due_ms).await? {
        let key = RemediationKey {
            tenant: one.tenant.clone(),
            remediation: one.remediation.clone(),
        };
        overdue.entry(key).or_default().push(one);
    }
    let breached = stream::iter(overdue)
        .map(|(key, owed)| async move {
            breach(context, &key, &owed).await.unwrap_or_else(|error| {
                tracing::warn!(remediation = %key, %error, "what is overdue is not on record yet");
                0
            })
        })
        .buffer_unordered(AT_ONCE);
    Ok(breached.fold(0, async |sum, one| sum + one).await)
}

/// R58 for each.
async fn breach(
    context: &Context,
    key: &RemediationKey,
    overdue: &[Obligation],
) -> Result<u64, JobError> {
    if context.tenants.require(&key.tenant).await?.is_closed() {
        // Its log takes nothing more, and nobody reads its sources: what it was owed ended with it.
        return Ok(0);
    }
    let remediation = {
        let mut connection = context.db.read(&key.tenant).await?;
        store::remediations::get(&mut connection, key).await?
    };
    let remediation = remediation.ok_or_else(ApiError::not_found)?;
    let stamp = context.of_service(&key.tenant, &remediation).await?;
    let mut tx = context.db.write_tx(&key.tenant).await?;
    let mut drafts = Vec::new();
    for one in overdue {
        if store::obligations::end(&mut tx, &one.id, ObligationState::Breached).await? {
            drafts.push(records::obligation_breached(&stamp, one, "overdue"));
        }
    }
    let breached = drafts.len() as u64;
    context.outbox.emit_many(&mut tx, drafts).await?;
    // If we crash here: nothing is breached, and the next run does it.
    tx.commit().await?;
    Ok(breached)
}
