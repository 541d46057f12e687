//! Staging a campaign: whoever asks for it begins it, and the service carries it to its end whatever becomes of the call.
//!
//! Invariant: a campaign that is STAGING is being read, or is taken up by the job when nobody has shown a sign of life for a while;
//! what trying again cannot mend makes it a DRAFT again.

use std::sync::Arc;

use counterfoil_chassis::{CancellationToken, db::WriteTx, error::ApiError, names::new_id};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tonic::Code;

use super::{name_stands, population, routing};
use crate::{
    api::peers::inventory::SnapshotFacts,
    context::Context,
    error::gate_refused,
    model::{
        campaign::{Campaign, CampaignEvent, CampaignState, Population},
        gate,
        ids::{CampaignKey, Source},
    },
    records::{self, Stamp},
    store::{
        campaigns,
        staging::{self, StagedRecord, Staging},
    },
};

/// One attempt to stage a campaign, begun in the database.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// The campaign.
    pub(crate) campaign: Campaign,
    /// Id of the attempt.
    pub(crate) id: String,
    /// What is asked for.
    pub(crate) staging: Staging,
}

/// An attempt to carry to its end, and whom to tell.
#[derive(Debug)]
pub(crate) struct Order {
    attempt: Attempt,
    told: oneshot::Sender<Result<(), ApiError>>,
}

/// Hands attempts to the task that carries them, which does not end with a call.
#[derive(Debug, Clone)]
pub(crate) struct Stagings(mpsc::UnboundedSender<Order>);

impl Stagings {
    /// A hand and what [`carry_all`] takes from it.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Order>) {
        let (sender, orders) = mpsc::unbounded_channel();
        (Self(sender), orders)
    }

    /// Has an attempt carried to its end, and waits for it. Whoever stops waiting stops nothing.
    pub(crate) async fn carry(&self, attempt: Attempt) -> Result<(), ApiError> {
        let (told, end) = oneshot::channel();
        let stops = || {
            let later = std::time::Duration::from_secs(1);
            ApiError::unavailable(
                "STOPPING",
                "the service stops; staging goes on later",
                later,
            )
        };
        self.0.send(Order { attempt, told }).map_err(|_| stops())?;
        end.await.map_err(|_| stops())?
    }
}

/// Carries attempts to their ends, each by itself, until the service stops.
pub(crate) async fn carry_all(
    context: Arc<Context>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    shutdown: CancellationToken,
) {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            // What is cut off here shows no sign of life any more, and is taken up by a job.
            () = shutdown.cancelled() => return,
            Some(order) = orders.recv() => {
                let context = Arc::clone(&context);
                running.spawn(async move {
                    let end = carry(&context, &order.attempt).await;
                    // The call may have ended in the meantime; what became of it is in the log and in the campaign.
                    let _ = order.told.send(end);
                });
            }
            Some(_) = running.join_next() => {}
        }
    }
}

/// Begins an attempt, in the transaction of whoever found that the campaign is to be staged. The campaign is STAGING.
pub(crate) async fn begin_attempt(
    tx: &mut WriteTx,
    campaign: Campaign,
    staging: Staging,
    now_ms: i64,
) -> Result<Attempt, ApiError> {
    let id = new_id(now_ms);
    staging::attempt(tx, &campaign.definition.key, &id, now_ms).await?;
    Ok(Attempt {
        campaign,
        id,
        staging,
    })
}

/// Takes up a staging that shows no sign of life.
pub(crate) async fn resume(context: &Context, key: &CampaignKey) -> Result<(), ApiError> {
    let now_ms = context.clock.now_ms();
    let mut tx = context.db.write_tx(&key.tenant).await?;
    let campaign = routing::require(&mut tx, key, CampaignState::Staging).await?;
    let begun = staging::begun(tx.conn(), key).await?;
    let begun = begun.filter(|begun| name_stands(begun.staging.stamp.at_ms, now_ms));
    let Some(begun) = begun else {
        // Begun long ago, or by a version that kept no note of what was asked for: whoever wants it asks again.
        give_back(&mut tx, key).await?;
        tx.commit().await?;
        return Ok(());
    };
    if begun.runs(now_ms) {
        return Ok(());
    }
    let attempt = begin_attempt(&mut tx, campaign, begun.staging, now_ms).await?;
    // If we crash here: nobody shows a sign of life, and the job takes it up again.
    tx.commit().await?;
    carry(context, &attempt).await
}

async fn carry(context: &Context, attempt: &Attempt) -> Result<(), ApiError> {
    let key = &attempt.campaign.definition.key;
    let _busy = context.busy.enter(key);
    let staged = stage(context, attempt).await;
    if let Err(error) = &staged {
        tracing::warn!(campaign = key.full(), %error, "the campaign was not staged");
        if let Err(error) = let_go(context, attempt, error).await {
            tracing::warn!(campaign = key.full(), %error, "the staging is left to the job");
        }
    }
    staged
}

/// Leaves a campaign that could not be staged: as a DRAFT when trying again cannot mend it, else to the next who tries.
async fn let_go(context: &Context, attempt: &Attempt, why: &ApiError) -> Result<(), ApiError> {
    let key = &attempt.campaign.definition.key;
    let mut tx = context.db.write_tx(&key.tenant).await?;
    if !staging::is_alive(&mut tx, key, &attempt.id, context.clock.now_ms()).await? {
        return Ok(());
    }
    if matches!(why.code(), Code::FailedPrecondition | Code::DataLoss) {
        give_back(&mut tx, key).await?;
    } else {
        staging::put_aside(&mut tx, key).await?;
    }
    // If we crash here: the job takes the staging up, and comes to the same end.
    tx.commit().await?;
    Ok(())
}

async fn give_back(tx: &mut WriteTx, key: &CampaignKey) -> Result<(), ApiError> {
    staging::clear(tx, key).await?;
    let next = CampaignState::Staging.after(CampaignEvent::StagingFailed)?;
    campaigns::set_state(tx, key, next).await?;
    Ok(())
}

/// Asks the gate, reads the population and seals it.
async fn stage(context: &Context, attempt: &Attempt) -> Result<(), ApiError> {
    let Attempt {
        campaign,
        id,
        staging,
    } = attempt;
    let key = &campaign.definition.key;
    let stamp = Stamp::from(&staging.stamp);
    let snapshot = &staging.snapshot;
    let facts = context.inventory.snapshot(&key.tenant, snapshot).await?;
    let scope = &campaign.definition.scope;
    let limit = staging.age_max_ms;
    let freshness = gate::judge(scope, &facts.readings, &facts.missing, stamp.now_ms, limit)
        .map_err(|refusals| gate_refused(&refusals))?;
    let gate = (freshness, limit);
    let reading = population::Reader {
        campaign,
        attempt: id,
    };
    let staged = population::read(context, reading, snapshot, &facts, gate).await?;
    let population = Population {
        snapshot: snapshot.as_str().to_owned(),
        root: staged.population.root.root.0,
        count: staged.population.root.count,
    };
    let sources = sources_in_scope(campaign, &facts);
    let mut tx = context.db.write_tx(&key.tenant).await?;
    population::require_attempt(context, &mut tx, key, id).await?;
    let record = records::staged(&stamp, campaign, staged);
    let emitted = context.outbox.emit(&mut tx, record).await?;
    let next = CampaignState::Staging.after(CampaignEvent::PopulationSealed)?;
    let record = StagedRecord {
        id: emitted.record_id,
        hash: emitted.record_hash,
    };
    staging::finish(&mut tx, key, &population, &sources, record).await?;
    campaigns::set_state(&mut tx, key, next).await?;
    // If we crash here: the population is fixed with its record, or the job reads it again.
    tx.commit().await?;
    Ok(())
}

/// The sources that items can be of, by the prefix of their grants' keys.
fn sources_in_scope(campaign: &Campaign, facts: &SnapshotFacts) -> Vec<([u8; 8], Source)> {
    let scope = &campaign.definition.scope;
    let in_scope = facts
        .readings
        .iter()
        .filter(|one| scope.covers_source(&one.source));
    in_scope.map(|one| (one.tag, one.source.clone())).collect()
}
