//! Giving every item of a campaign to a reviewer (R36).

use std::collections::HashMap;

use counterfoil_chassis::{db::WriteTx, error::ApiError};
use counterfoil_evidence::{leaf::identity_tag, v1::RoutingCause};

use crate::{
    context::Context,
    jobs::BATCH_ITEMS,
    model::{
        campaign::{Campaign, CampaignEvent, CampaignState},
        ids::{CampaignKey, Principal, Source},
        item::{Item, ItemState, PresentedItem},
        routing::{Directory, Fallbacks, Routable},
    },
    records::{self, PRESENTATION, Routing, Stamp},
    store::{StoreError, campaigns, items},
};

/// Whom a campaign falls back to; the tenant's accountable owner is the last resort.
pub(crate) fn fallbacks(campaign: &Campaign, accountable_owner: &Principal) -> Fallbacks {
    Fallbacks {
        fallback: campaign.definition.fallback_reviewer.clone(),
        owner: campaign.definition.owner.clone(),
        last_resort: Some(accountable_owner.clone()),
    }
}

/// The identity an item is about as a tag; empty for an account without one.
pub(crate) fn subject_tag(salt: &[u8; 32], subject_key: &str) -> Vec<u8> {
    if subject_key.is_empty() {
        return Vec::new();
    }
    identity_tag(salt, subject_key).to_vec()
}

/// The salt of the tenant's identity tags.
pub(crate) async fn salt(context: &Context, tenant: &str) -> Result<[u8; 32], ApiError> {
    let known = context.tenants.require(tenant).await?;
    known
        .correlation_salt
        .as_slice()
        .try_into()
        .map_err(|_| ApiError::internal("authority answered no correlation salt"))
}

/// The source of an item.
pub(crate) fn source_of<'s>(
    sources: &'s HashMap<[u8; 8], Source>,
    item: &Item,
) -> Result<&'s Source, ApiError> {
    sources
        .get(&item.key.source_tag().0)
        .ok_or_else(|| StoreError::Damaged("source_tag").into())
}

/// Routes what is not routed yet, in batches. The campaign is ACTIVATING.
pub(crate) async fn route_all(
    context: &Context,
    campaign: &Campaign,
    stamp: &Stamp,
) -> Result<(), ApiError> {
    let key = &campaign.definition.key;
    let directory = context.directory(&key.tenant).await?;
    let salt = salt(context, &key.tenant).await?;
    let fallbacks = fallbacks(campaign, &stamp.accountable_owner);
    let staged_hash = campaign
        .staged_hash
        .ok_or(StoreError::Damaged("staged_hash"))?;
    let mut after = Vec::new();
    loop {
        let mut tx = context.db.write_tx(&key.tenant).await?;
        require(&mut tx, key, CampaignState::Activating).await?;
        let sources = campaigns::sources(tx.conn(), key).await?;
        let batch =
            items::next_in_state(tx.conn(), key, ItemState::Unrouted, &after, BATCH_ITEMS).await?;
        let Some(last) = batch.last() else {
            return Ok(());
        };
        after = last.item.key.0.to_vec();
        let reviewers = batch
            .iter()
            .map(|one| reviewer(&directory, &fallbacks, &sources, &one.item, stamp.now_ms))
            .collect::<Result<Vec<_>, _>>()?;
        let mut emission = context.outbox.begin(&mut tx).await?;
        let mut rows = Vec::with_capacity(batch.len());
        for (PresentedItem { item, presentation }, reviewer) in batch.iter().zip(reviewers) {
            let routing = Routing {
                key: item.key,
                leaf: &item.leaf,
                presentation,
                from: None,
                to: &reviewer,
                cause: RoutingCause::Assigned,
                subject_tag: subject_tag(&salt, &item.subject_key),
            };
            let emitted = emission.add(records::routed(stamp, key, staged_hash, &routing))?;
            rows.push(items::RoutedRow {
                key: item.key,
                reviewer,
                presentation_hash: emitted
                    .commitment(PRESENTATION)
                    .ok_or_else(|| ApiError::internal("a record without its commitment"))?,
            });
        }
        emission.finish(&mut tx).await?;
        items::route(&mut tx, key, rows).await?;
        // If we crash here: the items of this batch have a reviewer and their records; the next run goes on behind them.
        tx.commit().await?;
    }
}

/// Opens the review when no item is without a reviewer.
pub(crate) async fn finish(tx: &mut WriteTx, key: &CampaignKey) -> Result<(), ApiError> {
    let campaign = require(tx, key, CampaignState::Activating).await?;
    let left = items::next_in_state(tx.conn(), key, ItemState::Unrouted, &[], 1).await?;
    if !left.is_empty() {
        return Err(ApiError::internal("an item was left without a reviewer"));
    }
    let next = campaign.state.after(CampaignEvent::AllRouted)?;
    campaigns::set_state(tx, key, next).await?;
    Ok(())
}

/// The campaign, if it is in this state.
pub(crate) async fn require(
    tx: &mut WriteTx,
    key: &CampaignKey,
    state: CampaignState,
) -> Result<Campaign, ApiError> {
    let campaign = campaigns::get(tx.conn(), key)
        .await?
        .ok_or_else(ApiError::not_found)?;
    if campaign.state == state {
        return Ok(campaign);
    }
    Err(crate::model::campaign::WrongState(campaign.state).into())
}

fn reviewer(
    directory: &Directory,
    fallbacks: &Fallbacks,
    sources: &HashMap<[u8; 8], Source>,
    item: &Item,
    now_ms: i64,
) -> Result<Principal, ApiError> {
    let routable = Routable {
        owner_key: &item.owner_key,
        subject_key: &item.subject_key,
        source: source_of(sources, item)?,
    };
    directory
        .route(routable, fallbacks, now_ms)
        .ok_or_else(|| {
            ApiError::failed_precondition(
                "NO_REVIEWER",
                "nobody but the subject, or people without an identity key, could review an item: name another fallback reviewer, or \
                 make the campaign's owner or the tenant's accountable owner somebody else, or give them an identity key",
            )
            .with_metadata("item", item.local())
        })
}
