//! The long steps of a campaign, and the job that ends overdue reviews and takes up steps that were cut off.
//!
//! Invariants: each step works in batches, each batch is one transaction with its records, and a step that is taken up again
//! goes on behind the last batch: no item is routed or lapsed twice.

pub(crate) mod ending;
pub(crate) mod population;
pub(crate) mod routing;
pub(crate) mod staging;

use counterfoil_chassis::error::ApiError;

use crate::{
    context::{Context, Mover},
    model::{campaign::CampaignState, ids::CampaignKey},
    records::Stamp,
    store::{StoreError, campaigns, campaigns::StepStamp},
};

/// Items in one batch.
pub(crate) const BATCH_ITEMS: u32 = 1000;

/// A step that was cut off goes on in the name and at the time of whoever began it for so long, milliseconds: what is dated too far
/// back proves nothing (I-04), and the right that it cites may have ended. The days to spare are for an outage of the ledger.
const NAME_STANDS_MS: i64 = 86_400_000;

/// Whether a step goes on in the name in which it was begun then.
pub(crate) fn name_stands(begun_ms: i64, now_ms: i64) -> bool {
    now_ms - begun_ms <= NAME_STANDS_MS
}

/// What a run of the job did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Campaigns that were moved on.
    pub moved: u64,
    /// Campaigns that could not be moved, each logged with its reason.
    pub failed: u64,
}

/// Ends reviews that are due and takes up what was cut off, in all tenants. One campaign that fails does not keep the others.
pub(crate) async fn run_once(context: &Context) -> Result<Progress, ApiError> {
    let reason = "reviews that are due or were cut off";
    let mut connection = context.db.read_everything(reason).await?;
    let now_ms = context.clock.now_ms();
    let mut unfinished = campaigns::unfinished(&mut connection, now_ms).await?;
    drop(connection);
    // Reading a population takes longest: what is due does not wait for it.
    unfinished.sort_by_key(|(_, state)| *state == CampaignState::Staging);
    let mut progress = Progress::default();
    for (key, state) in unfinished {
        if context.busy.is_busy(&key) {
            continue;
        }
        match resume(context, &key, state).await {
            Ok(true) => progress.moved += 1,
            Ok(false) => tracing::debug!(campaign = key.full(), "the campaign waits"),
            Err(error) => {
                progress.failed += 1;
                tracing::warn!(campaign = key.full(), %error, "the campaign does not move on");
            }
        }
    }
    Ok(progress)
}

/// Takes a campaign up; answers whether it moved on.
async fn resume(
    context: &Context,
    key: &CampaignKey,
    state: CampaignState,
) -> Result<bool, ApiError> {
    if state == CampaignState::Staging {
        // What is staged begins to be governed; all else is under way.
        context.tenants.require_active(&key.tenant).await?;
        staging::resume(context, key).await?;
        return Ok(true);
    }
    context.tenants.require_under_way(&key.tenant).await?;
    let mut connection = context.db.read(&key.tenant).await?;
    let campaign = campaigns::get(&mut connection, key)
        .await?
        .ok_or(StoreError::Damaged("campaign"))?;
    drop(connection);
    let stamp = context.stamp(Mover::Rule, &campaign.definition).await?;
    if state == CampaignState::Activating {
        routing::route_all(context, &campaign, &stamp).await?;
        let mut tx = context.db.write_tx(&key.tenant).await?;
        routing::finish(&mut tx, key).await?;
        // If we crash here: all is routed and the campaign is still ACTIVATING; the next run routes nothing more and finishes.
        tx.commit().await?;
        return Ok(true);
    }
    let mut tx = context.db.write_tx(&key.tenant).await?;
    if !ending::may_resume(&mut tx, &campaign, stamp.now_ms).await? {
        return Ok(false);
    }
    let stamp = ending::begin(&mut tx, key, &stamp).await?;
    // If we crash here: the next run goes on in the same name, unless that is long ago.
    tx.commit().await?;
    ending::lapse_all(context, &campaign, &stamp).await?;
    let mut tx = context.db.write_tx(&key.tenant).await?;
    ending::finish(context, &mut tx, key, &stamp).await?;
    tx.commit().await?;
    Ok(true)
}

impl From<&Stamp> for StepStamp {
    fn from(stamp: &Stamp) -> Self {
        Self {
            actor: stamp.actor.clone(),
            at_ms: stamp.now_ms,
            right: stamp.right,
            owner: stamp.accountable_owner.clone(),
            policy: stamp.policy_hash.clone(),
        }
    }
}

impl From<&StepStamp> for Stamp {
    fn from(stored: &StepStamp) -> Self {
        Self {
            actor: stored.actor.clone(),
            now_ms: stored.at_ms,
            right: stored.right,
            on_behalf_of: Vec::new(),
            accountable_owner: stored.owner.clone(),
            policy_hash: stored.policy.clone(),
        }
    }
}
