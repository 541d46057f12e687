//! Ending a review: what is gone is voided with its proof, what nobody decided lapses by the rule (R38), the stage is closed
//! (R39).

use std::collections::{HashMap, HashSet};

use counterfoil_chassis::{
    db::WriteTx,
    error::ApiError,
    outbox::{Emission, EmittedRecord},
};
use counterfoil_evidence::leaf::GrantKey;

use crate::{
    context::Context,
    error::set_refused,
    jobs::{BATCH_ITEMS, name_stands, routing},
    model::{
        campaign::{Campaign, CampaignEvent, CampaignState},
        disposition::{Closing, Disposition, Sealed},
        ids::{CampaignKey, Source},
        item::{Item, ItemEvent, ItemState},
    },
    records::{self, Stamp},
    store::{Connection, StoreError, campaigns, campaigns::StepStamp, items, removals},
};

/// Refuses decisions from now on, in the name of `stamp`; answers in whose name the review ends: whoever ended it first, unless
/// that is long ago.
pub(crate) async fn begin(
    tx: &mut WriteTx,
    key: &CampaignKey,
    stamp: &Stamp,
) -> Result<Stamp, ApiError> {
    let campaign = campaigns::get(tx.conn(), key)
        .await?
        .ok_or_else(ApiError::not_found)?;
    let next = campaign.state.after(CampaignEvent::EndBegan)?;
    if let Some(first) = campaigns::end_stamp(tx.conn(), key).await?
        && name_stands(first.at_ms, stamp.now_ms)
    {
        return Ok(Stamp::from(&first));
    }
    let end = StepStamp::from(stamp);
    campaigns::begin_end(tx, key, next, &end).await?;
    Ok(stamp.clone())
}

/// Whether the service may end the review by itself: it is due, or it goes on in the name of whoever ended it. Before it is due, an end
/// needs a right, which the service has not: when the name stands no longer, somebody who may certify ends it anew.
pub(crate) async fn may_resume(
    tx: &mut WriteTx,
    campaign: &Campaign,
    now_ms: i64,
) -> Result<bool, ApiError> {
    if now_ms >= campaign.definition.due_ms {
        return Ok(true);
    }
    let first = campaigns::end_stamp(tx.conn(), &campaign.definition.key).await?;
    Ok(first.is_some_and(|first| name_stands(first.at_ms, now_ms)))
}

/// Proof that one grant is gone.
#[derive(Debug, Clone)]
pub(crate) struct Gone {
    /// SHA-256 of the record of the COMPLETE sync in which it is absent.
    pub(crate) sync_record_hash: [u8; 32],
    /// The proof.
    pub(crate) proof: Vec<u8>,
}

/// Ends every item that is still with a reviewer, in batches. The campaign is ENDING, so nobody else touches its items.
pub(crate) async fn lapse_all(
    context: &Context,
    campaign: &Campaign,
    stamp: &Stamp,
) -> Result<(), ApiError> {
    let key = &campaign.definition.key;
    // A lapse is never a human decision, also when a human ended the review (I-30).
    let stamp = stamp.by_rule();
    let mut connection = context.db.read(&key.tenant).await?;
    let sources = campaigns::sources(&mut connection, key).await?;
    drop(connection);
    let mut after = Vec::new();
    loop {
        let mut connection = context.db.read(&key.tenant).await?;
        let state = ItemState::Routed;
        let batch = items::next_in_state(&mut connection, key, state, &after, BATCH_ITEMS).await?;
        // Held during the calls below, connections could run out while everyone waits for one more.
        drop(connection);
        let Some(last) = batch.last() else {
            return Ok(());
        };
        after = last.item.key.0.to_vec();
        let open: Vec<Item> = batch.into_iter().map(|one| one.item).collect();
        let gone = find_gone(context, key, &sources, &open).await?;
        let mut tx = context.db.write_tx(&key.tenant).await?;
        routing::require(&mut tx, key, CampaignState::Ending).await?;
        let open = still_open(&mut tx, key, &open).await?;
        end_batch(context, &mut tx, campaign, &stamp, &open, &gone).await?;
        // If we crash here: these items have ended with their records; the next run goes on behind them.
        tx.commit().await?;
    }
}

/// Another run of the same step may have ended some of them since they were read.
async fn still_open(
    tx: &mut WriteTx,
    key: &CampaignKey,
    open: &[Item],
) -> Result<Vec<GrantKey>, ApiError> {
    let keys: Vec<GrantKey> = open.iter().map(|item| item.key).collect();
    let engine = tx.engine();
    let mut open: Vec<GrantKey> = items::get_many(tx.conn(), engine, key, &keys)
        .await?
        .into_iter()
        .filter(|item| item.state.after(ItemEvent::Lapsed).is_some())
        .map(|item| item.key)
        .collect();
    open.sort_unstable();
    Ok(open)
}

/// Of these items, those whose grant is proved gone. A source that cannot prove it leaves its items to lapse.
pub(crate) async fn find_gone(
    context: &Context,
    key: &CampaignKey,
    sources: &HashMap<[u8; 8], Source>,
    open: &[Item],
) -> Result<HashMap<GrantKey, Gone>, ApiError> {
    let keys: Vec<GrantKey> = open.iter().map(|item| item.key).collect();
    let now = context.inventory.current(&key.tenant, &keys).await?;
    let mut missing: HashMap<&Source, Vec<GrantKey>> = HashMap::new();
    for item in open {
        let is_gone = now
            .get(&item.key)
            .is_some_and(|now| now.current.leaf.is_empty());
        if is_gone {
            let source = routing::source_of(sources, item)?;
            missing.entry(source).or_default().push(item.key);
        }
    }
    prove_gone(context, &key.tenant, missing).await
}

/// Proofs that grants are absent, by source.
pub(crate) async fn prove_gone(
    context: &Context,
    tenant: &str,
    missing: HashMap<&Source, Vec<GrantKey>>,
) -> Result<HashMap<GrantKey, Gone>, ApiError> {
    let mut gone = HashMap::new();
    for (source, keys) in missing {
        let Some(absence) = context.inventory.absence(tenant, source, &keys).await? else {
            continue;
        };
        gone.extend(absence.proofs.into_iter().map(|(key, proof)| {
            let sync_record_hash = absence.sync_record_hash;
            (
                key,
                Gone {
                    sync_record_hash,
                    proof,
                },
            )
        }));
    }
    Ok(gone)
}

async fn end_batch(
    context: &Context,
    tx: &mut WriteTx,
    campaign: &Campaign,
    stamp: &Stamp,
    open: &[GrantKey],
    gone: &HashMap<GrantKey, Gone>,
) -> Result<(), ApiError> {
    let key = &campaign.definition.key;
    let rule = campaign.definition.lapse_rule;
    let mut emission: Emission = context.outbox.begin(tx).await?;
    let (mut lapsed, mut voided) = (Vec::new(), Vec::new());
    for grant in open {
        match gone.get(grant) {
            Some(gone) => {
                let draft = records::voided(stamp, key, grant, gone.sync_record_hash, &gone.proof);
                voided.push(ended_row(*grant, &emission.add(draft)?));
            }
            None => {
                let draft = records::lapsed(stamp, campaign, grant, rule);
                lapsed.push(ended_row(*grant, &emission.add(draft)?));
            }
        }
    }
    emission.finish(tx).await?;
    let lapse = Disposition::of_lapse(rule);
    items::end(tx, key, lapse, stamp.now_ms, lapsed).await?;
    items::end(tx, key, Disposition::Voided, stamp.now_ms, voided).await?;
    Ok(())
}

/// An item that a record ended.
pub(crate) fn ended_row(key: GrantKey, emitted: &EmittedRecord) -> items::EndedRow {
    items::EndedRow {
        key,
        record_hash: emitted.record_hash,
        stream_seq: emitted.stream_seq,
    }
}

/// Closes the stage: every item has ended. Removals that were verified before count from now on.
pub(crate) async fn finish(
    context: &Context,
    tx: &mut WriteTx,
    key: &CampaignKey,
    stamp: &Stamp,
) -> Result<EmittedRecord, ApiError> {
    let campaign = routing::require(tx, key, CampaignState::Ending).await?;
    let sealed = seal(tx.conn(), &campaign, &HashSet::new()).await?;
    let draft = records::stage_closed(stamp, &campaign, sealed);
    let emitted = context.outbox.emit(tx, draft).await?;
    let next = campaign.state.after(CampaignEvent::StageSealed)?;
    campaigns::finish_review(tx, key, next, emitted.record_hash).await?;
    removals::apply_kept(tx, key).await?;
    Ok(emitted)
}

/// How all items of a campaign ended; they are exactly its population (I-28).
pub(crate) async fn seal(
    connection: &mut Connection,
    campaign: &Campaign,
    came_back: &HashSet<GrantKey>,
) -> Result<Sealed, ApiError> {
    let key = &campaign.definition.key;
    let mut closing = Closing::new().map_err(set_refused)?;
    let mut after = Vec::new();
    loop {
        let mut page = items::ended(connection, key, &after, BATCH_ITEMS).await?;
        let Some(last) = page.last() else { break };
        after = last.key.0.to_vec();
        for item in &mut page {
            item.verified &= !came_back.contains(&item.key);
            closing.push(item).map_err(set_refused)?;
        }
    }
    let sealed = closing.seal();
    let population = campaign
        .population
        .as_ref()
        .map(|population| population.count);
    if population != Some(sealed.counts.total()) {
        return Err(StoreError::Damaged("items").into());
    }
    Ok(sealed)
}
