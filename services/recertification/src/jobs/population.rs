//! The population of a campaign read from a snapshot in one pass: items go to the table in batches, leaves into two sets.
//!
//! Invariants: what was read is the snapshot: the sets of its sources recompute to their sealed roots. Population and exclusions
//! together are all grants of the sources in scope; sources out of scope are in neither.

use std::collections::HashMap;

use counterfoil_chassis::{db::WriteTx, error::ApiError};
use counterfoil_evidence::leaf::{GRANT_KEY_LEN, GRANT_LEAF_LEN, GrantFlags};
use counterfoil_tlog::sorted_set::SortedSetBuilder;

use crate::{
    api::peers::inventory::{SnapshotFacts, shown},
    context::Context,
    error::set_refused,
    model::{
        campaign::{Campaign, Definition},
        gate::{Freshness, SourceReading},
        ids::{CampaignKey, Snapshot, Source},
        item::ShownGrant,
    },
    records::{SealedSet, StagedFacts},
    store::{items, staging},
};

/// Items written in one transaction.
const BATCH_ITEMS: usize = 1000;

/// Who reads a population. A later attempt takes over, and this one then gives up at its next batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    /// The campaign.
    pub(crate) campaign: &'a Campaign,
    /// Id of the attempt.
    pub(crate) attempt: &'a str,
}

/// Reads the population. The campaign is STAGING under this attempt; `gate` is how fresh the sources in scope are, and the limit.
pub(crate) async fn read(
    context: &Context,
    reader: Reader<'_>,
    snapshot: &Snapshot,
    facts: &SnapshotFacts,
    gate: (Vec<Freshness>, i64),
) -> Result<StagedFacts, ApiError> {
    let Reader { campaign, attempt } = reader;
    let key = &campaign.definition.key;
    let mut stream = context.inventory.stream(&key.tenant, snapshot).await?;
    let mut reading = Reading::new(campaign, facts)?;
    let entitlements = entitlement_names(context, campaign, facts).await?;
    let mut batch: Vec<ShownGrant> = Vec::with_capacity(BATCH_ITEMS);
    let failed = |status| ApiError::from_peer("inventory", status);
    while let Some(answer) = stream.message().await.map_err(failed)? {
        for grant in answer.grants {
            let name = reading.display_name(&grant.leaf)?;
            let (grant, flags) = shown(grant, name, &entitlements)?;
            if reading.take(&grant, flags)? {
                batch.push(grant);
            }
            if batch.len() == BATCH_ITEMS {
                write(context, key, attempt, std::mem::take(&mut batch)).await?;
            }
        }
    }
    write(context, key, attempt, batch).await?;
    let (freshness, age_max_ms) = gate;
    reading.finish(facts, freshness, age_max_ms)
}

/// Names of the steps of paths, which only inherited grants have.
async fn entitlement_names(
    context: &Context,
    campaign: &Campaign,
    facts: &SnapshotFacts,
) -> Result<HashMap<String, String>, ApiError> {
    let Definition { key, scope, .. } = &campaign.definition;
    let mut names = HashMap::new();
    if !scope.include_inherited {
        return Ok(names);
    }
    for reading in &facts.readings {
        if scope.covers_source(&reading.source) {
            let of_source = context
                .inventory
                .entitlement_names(&key.tenant, &reading.source)
                .await?;
            names.extend(of_source);
        }
    }
    Ok(names)
}

async fn write(
    context: &Context,
    key: &CampaignKey,
    attempt: &str,
    batch: Vec<ShownGrant>,
) -> Result<(), ApiError> {
    if batch.is_empty() {
        return Ok(());
    }
    let mut tx = context.db.write_tx(&key.tenant).await?;
    require_attempt(context, &mut tx, key, attempt).await?;
    items::insert(&mut tx, key, batch).await?;
    // If we crash here: the campaign stays STAGING with a part of its items; the next attempt, which the
    // job makes, starts from nothing.
    tx.commit().await?;
    Ok(())
}

/// Refuses to go on when another attempt has taken over, and shows a sign of life when none has.
pub(crate) async fn require_attempt(
    context: &Context,
    tx: &mut WriteTx,
    key: &CampaignKey,
    attempt: &str,
) -> Result<(), ApiError> {
    if staging::is_alive(tx, key, attempt, context.clock.now_ms()).await? {
        return Ok(());
    }
    Err(ApiError::aborted(
        "STAGING_TAKEN_OVER",
        "another attempt to stage the campaign has begun",
    ))
}

/// Two sets in the making, and one for each source to compare with what was sealed.
struct Reading<'f> {
    campaign: &'f Campaign,
    by_tag: HashMap<[u8; 8], &'f SourceReading>,
    names: &'f HashMap<Source, String>,
    population: (SortedSetBuilder, Vec<u8>),
    exclusions: (SortedSetBuilder, Vec<u8>),
    sources: HashMap<[u8; 8], SortedSetBuilder>,
}

impl<'f> Reading<'f> {
    fn new(campaign: &'f Campaign, facts: &'f SnapshotFacts) -> Result<Self, ApiError> {
        let set = || SortedSetBuilder::new(GRANT_KEY_LEN, GRANT_LEAF_LEN).map_err(set_refused);
        Ok(Self {
            campaign,
            by_tag: facts.readings.iter().map(|one| (one.tag, one)).collect(),
            names: &facts.display_names,
            population: (set()?, Vec::new()),
            exclusions: (set()?, Vec::new()),
            sources: facts
                .readings
                .iter()
                .map(|one| Ok((one.tag, set()?)))
                .collect::<Result<_, ApiError>>()?,
        })
    }

    fn source(&self, leaf: &[u8]) -> Result<&'f SourceReading, ApiError> {
        leaf.first_chunk::<8>()
            .and_then(|tag| self.by_tag.get(tag))
            .copied()
            .ok_or_else(|| mismatch("a grant of a source that it does not hold"))
    }

    fn display_name(&self, leaf: &[u8]) -> Result<&'f str, ApiError> {
        let source = &self.source(leaf)?.source;
        Ok(self.names.get(source).map_or("", String::as_str))
    }

    /// Takes the next grant into its sets; answers whether it is an item.
    fn take(&mut self, grant: &ShownGrant, flags: GrantFlags) -> Result<bool, ApiError> {
        let reading = self.source(&grant.leaf)?;
        if let Some(set) = self.sources.get_mut(&reading.tag) {
            set.push(&grant.leaf).map_err(set_refused)?;
        }
        let scope = &self.campaign.definition.scope;
        if !scope.covers_source(&reading.source) {
            return Ok(false);
        }
        let included = scope.covers_flags(flags);
        let (set, blob) = if included {
            &mut self.population
        } else {
            &mut self.exclusions
        };
        set.push(&grant.leaf).map_err(set_refused)?;
        blob.extend_from_slice(&grant.leaf);
        Ok(included)
    }

    fn finish(
        self,
        facts: &SnapshotFacts,
        freshness: Vec<Freshness>,
        age_max_ms: i64,
    ) -> Result<StagedFacts, ApiError> {
        let mut count = 0;
        for (tag, set) in self.sources {
            count += set.count();
            let sealed = self
                .by_tag
                .get(&tag)
                .map(|one| (one.set_root, one.set_count));
            let read = set.finish();
            if sealed != Some((read.root.0, read.count)) {
                return Err(mismatch("other grants than its source's sync sealed"));
            }
        }
        if count != facts.grant_count {
            return Err(mismatch("another number of grants than it sealed"));
        }
        let seal = |(set, blob): (SortedSetBuilder, Vec<u8>)| SealedSet {
            root: set.finish(),
            blob,
        };
        Ok(StagedFacts {
            snapshot_record_hash: facts.record_hash,
            snapshot_root: facts.root,
            freshness,
            age_max_ms,
            population: seal(self.population),
            exclusions: seal(self.exclusions),
        })
    }
}

fn mismatch(what: &str) -> ApiError {
    ApiError::failed_precondition(
        "SNAPSHOT_MISMATCH",
        format!("the snapshot was read with {what}; nothing is staged on it"),
    )
}
