//! Completeness of what was read: syncs add up, snapshots leave nothing out, campaigns start on fresh data.

use std::collections::{HashMap, HashSet};

use counterfoil_tlog::hash::leaf_hash;
use counterfoil_tlog::merkle;

use super::Blobs;
use super::CLOCK_SKEW_MS;
use super::ORDER_SKEW_MS;
use super::authority::campaign_sources;
use super::check::{Check, Tallies};
use super::current::newest_complete;
use super::policies::{in_force, rules_for};
use super::sets::{GrantSetFacts, grant_facts};
use super::state::{At, Campaign, Digest, Pos, Staged, State, Sync};
use crate::leaf::SourceTag;
use crate::v1::{self, SyncMode, SyncState};

/// Judges syncs, snapshots and stagings.
pub(super) fn judge(state: &State, tallies: &mut Tallies, blobs: &dyn Blobs) {
    // Reading a source twice mostly gives the same set: its leaves are hashed once.
    let mut known: HashMap<(Digest, SourceTag), Result<GrantSetFacts, String>> = HashMap::new();
    for source in &state.sources {
        let tag = SourceTag::of(&source.what.source);
        tallies.expect(Check::I19, source.what.source_tag == tag.0, || {
            format!(
                "{} has another tag than its name gives",
                state.entry(source.pos)
            )
        });
    }
    for (pos, sync) in &state.syncs {
        tallies.checked(Check::I19);
        let facts = sync.blob.and_then(|digest| {
            if let Some(found) = known.get(&(digest, sync.tag)) {
                return Some(found.clone());
            }
            let found = grant_facts(&blobs.load(&digest)?, sync.tag);
            known.insert((digest, sync.tag), found.clone());
            Some(found)
        });
        judge_sync(state, tallies, *pos, sync, facts);
    }
    for (pos, snapshot) in &state.snapshots {
        tallies.checked(Check::I20);
        if let Err(why) = judge_snapshot(state, *pos, snapshot) {
            tallies.fail(Check::I20, format!("{}: {why}", state.entry(*pos)));
        }
    }
    for campaign in state.campaigns.values() {
        let Some(staged) = &campaign.staged else {
            continue;
        };
        tallies.checked(Check::I20);
        let sources = campaign_sources(state, campaign);
        if let Err(why) = judge_freshness(state, staged, &sources)
            .and_then(|()| nothing_is_missing(state, campaign, staged))
        {
            tallies.fail(Check::I20, format!("{}: {why}", state.entry(staged.pos)));
        }
    }
}

fn judge_sync(
    state: &State,
    tallies: &mut Tallies,
    pos: Pos,
    sync: &Sync,
    facts: Option<Result<GrantSetFacts, String>>,
) {
    let sealed = &sync.sealed;
    let mut expect = |holds: bool, what: &str| {
        tallies.expect(Check::I19, holds, || {
            format!("{} of {} {what}", state.entry(pos), sealed.source)
        })
    };
    let source = state
        .sources
        .iter()
        .find(|source| source.pos < pos && source.what.source == sealed.source);
    expect(source.is_some(), "is of a source that was not registered");
    let reader =
        source.is_none_or(|source| source.what.reader_principal == sealed.reader_principal);
    expect(reader, "was not read by the source's reader");
    expect(
        sealed.started_ms <= sealed.ended_ms,
        "ended before it began",
    );
    let complete = sealed.state() == SyncState::Complete;
    if complete {
        expect(sealed.mode() == SyncMode::Full, "did not read all");
        expect(sealed.pages > 0, "read no page");
        expect(
            sealed.errors == 0 && sealed.partial_reasons.is_empty(),
            "is COMPLETE in spite of errors",
        );
        let controlled = source.is_none_or(|source| {
            let controls = |capability: &String| capability == "control_total";
            source.what.capabilities.iter().any(controls)
        });
        expect(
            totals_agree(sealed, controlled),
            "does not agree with the source's own totals",
        );
    } else {
        expect(
            sealed.state() == SyncState::Partial && !sealed.partial_reasons.is_empty(),
            "does not say why it is not complete",
        );
    }
    match facts {
        Some(Ok(facts)) => {
            let counts = sealed.counts.unwrap_or_default();
            expect(
                facts.set.matches(&sealed.set_root, sealed.set_count),
                "has another set than its root and count say",
            );
            expect(
                facts.inherited == counts.grants_inherited
                    && sealed.set_count
                        == counts.grants_direct.saturating_add(counts.grants_inherited),
                "counts other grants than its set has",
            );
        }
        Some(Err(why)) => {
            expect(false, &format!("has no set: {why}"));
        }
        None if complete => tallies.skip(
            Check::I19,
            format!("the set of {} is not in the bundle", state.entry(pos)),
        ),
        None => {}
    }
}

fn totals_agree(sealed: &v1::SourceSyncSealed, controlled: bool) -> bool {
    let counts = sealed.counts.unwrap_or_default();
    match &sealed.control_totals {
        None => !controlled,
        Some(totals) => {
            counts.accounts == totals.accounts
                && counts.entitlements == totals.entitlements
                && counts.edges == totals.edges
                && counts.grants_direct == totals.grants_direct
        }
    }
}

fn judge_snapshot(state: &State, pos: Pos, snapshot: &v1::SnapshotSealed) -> Result<(), String> {
    let mut leaves = Vec::new();
    let mut listed: HashSet<&str> = HashSet::new();
    let mut last_tag: Option<&[u8]> = None;
    let mut grants = 0_u64;
    for source in &snapshot.sources {
        let name = &source.source;
        if last_tag.is_some_and(|last| last >= source.source_tag.as_slice()) {
            return Err(format!("{name} is out of order"));
        }
        last_tag = Some(&source.source_tag);
        listed.insert(name);
        let (sync_pos, sync) = state
            .sync(&source.sync_record_hash)
            .ok_or_else(|| format!("{name} cites no sealed sync"))?;
        let sealed = &sync.sealed;
        let agrees = sync_pos < pos
            && sealed.source == *name
            && source.source_tag == sync.tag.0
            && sealed.set_root == source.set_root
            && sealed.set_count == source.set_count
            && sealed.ended_ms == source.synced_ms;
        if !agrees {
            return Err(format!("{name} is not what its sync sealed"));
        }
        if sealed.state() != SyncState::Complete {
            return Err(format!("{name} was taken from a sync that is not COMPLETE"));
        }
        let newest = newest_complete(state, sync.tag, pos).map(|(pos, _)| pos);
        if newest != Some(sync_pos) {
            return Err(format!(
                "{name} was taken from an older sync than the newest"
            ));
        }
        grants = grants.saturating_add(source.set_count);
        leaves.push(leaf_hash(
            &[
                source.source_tag.as_slice(),
                &source.sync_record_hash,
                &source.set_root,
            ]
            .concat(),
        ));
    }
    for missing in &snapshot.missing_sources {
        if missing.reason.is_empty() {
            return Err(format!("{} is missing without a reason", missing.source));
        }
        if !listed.insert(&missing.source) {
            return Err(format!("{} is both there and missing", missing.source));
        }
        if was_there(state, pos, &missing.source) {
            return Err(format!(
                "{} is called missing and had been read in time",
                missing.source
            ));
        }
    }
    let registered = state.sources.iter().filter(|source| source.pos < pos);
    for source in registered {
        if !listed.contains(source.what.source.as_str()) {
            return Err(format!("says nothing of {}", source.what.source));
        }
    }
    if merkle::root(&leaves).as_bytes().as_slice() != snapshot.snapshot_root {
        return Err("its root does not recompute".to_owned());
    }
    if grants != snapshot.grant_count {
        return Err(format!("its sources have {grants} grants"));
    }
    Ok(())
}

/// Whether a source that a snapshot misses had a COMPLETE sync that was young enough, by every policy that may have been in force.
fn was_there(state: &State, snapshot: Pos, source: &str) -> bool {
    let Some((_, sync)) = newest_complete(state, SourceTag::of(source), snapshot) else {
        return false;
    };
    let now_ms = state.occurred_ms(snapshot);
    let age_ms = now_ms.saturating_sub(sync.sealed.ended_ms);
    let limits = in_force(state, now_ms).map(|rules| rules.snapshot_age_max_ms);
    limits.min().is_some_and(|limit_ms| age_ms <= limit_ms)
}

/// Who reviews everything reviews no part of it.
fn nothing_is_missing(
    state: &State,
    campaign: &Campaign,
    staged: &At<Staged>,
) -> Result<(), String> {
    let everything = campaign
        .defined
        .as_ref()
        .is_some_and(|defined| defined.what.sources.is_empty());
    let missing = state
        .snapshot(&staged.what.record.snapshot_record_hash)
        .and_then(|(_, snapshot)| snapshot.missing_sources.first());
    match missing.filter(|_| everything) {
        Some(missing) => Err(format!("{} is in scope and missing", missing.source)),
        None => Ok(()),
    }
}

fn judge_freshness(state: &State, staged: &At<Staged>, sources: &[&str]) -> Result<(), String> {
    let record = &staged.what.record;
    let (_, snapshot) = state
        .snapshot(&record.snapshot_record_hash)
        .ok_or("cites no sealed snapshot")?;
    let occurred_ms = state.occurred_ms(staged.pos);
    if record.staged_ms.abs_diff(occurred_ms) > CLOCK_SKEW_MS.unsigned_abs() {
        return Err("was dated otherwise than its record".to_owned());
    }
    let limit_ms = rules_for(state, staged.pos).map_or(0, |rules| rules.snapshot_age_max_ms);
    for name in sources {
        let source = snapshot
            .sources
            .iter()
            .find(|source| source.source == *name)
            .ok_or_else(|| format!("{name} is in scope and not in the snapshot"))?;
        let stated = record
            .freshness
            .iter()
            .find(|freshness| freshness.source == *name)
            .ok_or_else(|| format!("says nothing of the age of {name}"))?;
        let age_ms = record.staged_ms.saturating_sub(source.synced_ms);
        let truthful = stated.sync_record_hash == source.sync_record_hash
            && stated.age_max_ms == limit_ms
            && stated.age_ms.abs_diff(age_ms) <= ORDER_SKEW_MS.unsigned_abs();
        if !truthful {
            return Err(format!("misstates the age of {name}"));
        }
        if age_ms > limit_ms {
            return Err(format!(
                "{name} was {age_ms} ms old, at most {limit_ms} are allowed"
            ));
        }
    }
    Ok(())
}
