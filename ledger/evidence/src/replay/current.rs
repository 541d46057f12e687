//! What inventory held when an item was shown again or voided: a sync after the one that was staged, and the newest by then.

use std::collections::{BTreeMap, HashMap};

use super::check::{Check, Tallies};
use super::prepare;
use super::state::{At, Pos, ShownAgain, State, Sym, Sync};
use super::{Blobs, CLOCK_SKEW_MS, sets};
use crate::leaf::{GRANT_LEAF_LEN, SourceTag};
use crate::v1::{self, SyncState};

/// Judges what was voided, and what was shown again.
pub(super) fn judge(state: &State, tallies: &mut Tallies, blobs: &dyn Blobs) {
    for voided in &state.voids {
        if let Err(why) = void_is_proved(state, voided) {
            tallies.fail(Check::I28, format!("{} {why}", state.entry(voided.pos)));
        }
    }
    shown_again(state, tallies, blobs);
}

/// The newest COMPLETE sync of a source before a place in the log. Syncs and snapshots are of one stream: their order is exact.
pub(super) fn newest_complete(state: &State, tag: SourceTag, before: Pos) -> Option<(Pos, &Sync)> {
    let mut syncs = state.syncs.range(..before).rev();
    let newest = syncs.find(|(_, sync)| complete(sync, tag));
    newest.map(|(pos, sync)| (*pos, sync))
}

fn complete(sync: &Sync, tag: SourceTag) -> bool {
    sync.tag == tag && sync.sealed.state() == SyncState::Complete
}

/// The sync of a source that a campaign's population was taken from.
fn staged_sync(state: &State, campaign: Sym, tag: SourceTag) -> Option<Pos> {
    let staged = state.campaigns.get(&campaign)?.staged.as_ref()?;
    let (_, snapshot) = state.snapshot(&staged.what.record.snapshot_record_hash)?;
    let source = snapshot
        .sources
        .iter()
        .find(|source| source.source_tag == tag.0)?;
    state.position(&source.sync_record_hash)
}

/// Where the syncs begin that could be the current one at a moment: what the log had long before was known to inventory, and
/// older ones were current no more.
fn oldest_current(state: &State, tag: SourceTag, at_ms: i64) -> Pos {
    let known = |pos: Pos| {
        let recorded_ms = state.meta(pos).map_or(i64::MAX, |meta| meta.recorded_ms);
        recorded_ms.saturating_add(CLOCK_SKEW_MS) < at_ms
    };
    let mut syncs = state.syncs.iter().rev();
    let newest = syncs.find(|(pos, sync)| complete(sync, tag) && known(**pos));
    newest.map_or(0, |(pos, _)| *pos)
}

fn void_is_proved(state: &State, voided: &At<v1::ReviewItemVoided>) -> Result<(), &'static str> {
    let record = &voided.what;
    let no_proof = "does not prove that the grant was gone";
    let (pos, sync) = state.sync(&record.sync_record_hash).ok_or(no_proof)?;
    let proved = record.grant_key.starts_with(&sync.tag.0)
        && sync.sealed.state() == SyncState::Complete
        && prepare::absent(
            &sync.sealed.set_root,
            sync.sealed.set_count,
            &record.grant_key,
            &record.absence_proof,
        )
        .is_ok();
    if !proved {
        return Err(no_proof);
    }
    let staged = state
        .names
        .find(&record.campaign)
        .and_then(|campaign| staged_sync(state, campaign, sync.tag));
    if staged.is_none_or(|staged| pos <= staged) {
        return Err("proves that the grant was gone before the population was taken");
    }
    if pos < oldest_current(state, sync.tag, state.occurred_ms(voided.pos)) {
        return Err("proves that the grant was gone in a sync that a newer one had replaced");
    }
    Ok(())
}

/// What the sets that could be the current one say of something that was shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    No,
    Unread,
    Yes,
}

/// Every grant that was shown again is in a set that could be the current one when it was shown.
fn shown_again(state: &State, tallies: &mut Tallies, blobs: &dyn Blobs) {
    let mut wanted: BTreeMap<Pos, Vec<usize>> = BTreeMap::new();
    let mut staged: HashMap<(Sym, SourceTag), Option<Pos>> = HashMap::new();
    for (place, shown) in state.shown_again.iter().enumerate() {
        let tag = shown.leaf.key.source_tag();
        let staged = *staged
            .entry((shown.campaign, tag))
            .or_insert_with(|| staged_sync(state, shown.campaign, tag));
        for pos in candidates(state, shown, staged) {
            wanted.entry(pos).or_default().push(place);
        }
    }
    let mut seen = vec![Seen::No; state.shown_again.len()];
    for (pos, places) in wanted {
        let digest = state.syncs.get(&pos).and_then(|sync| sync.blob);
        let set = digest.and_then(|digest| blobs.load(&digest));
        for place in places {
            let (Some(shown), Some(seen)) = (state.shown_again.get(place), seen.get_mut(place))
            else {
                continue;
            };
            let leaf = shown.leaf.to_bytes();
            let found =
                |set: &Vec<u8>| sets::find(set, GRANT_LEAF_LEN, &shown.leaf.key.0) == Some(&leaf);
            match set.as_ref().map(found) {
                Some(true) => *seen = Seen::Yes,
                None if *seen == Seen::No => *seen = Seen::Unread,
                _ => {}
            }
        }
    }
    for (shown, seen) in state.shown_again.iter().zip(seen) {
        tallies.checked(Check::I27);
        let entry = state.entry(shown.pos);
        match seen {
            Seen::Yes => {}
            Seen::Unread => tallies.skip(
                Check::I27,
                format!("the set that {entry} shows a grant of is not in the bundle"),
            ),
            Seen::No => tallies.fail(
                Check::I27,
                format!("{entry} shows a grant as inventory did not have it then"),
            ),
        }
    }
}

fn candidates<'s>(
    state: &'s State,
    shown: &ShownAgain,
    staged: Option<Pos>,
) -> impl Iterator<Item = Pos> + 's {
    let at_ms = state.occurred_ms(shown.pos);
    let tag = shown.leaf.key.source_tag();
    let oldest = oldest_current(state, tag, at_ms)
        .max(staged.map_or(Pos::MAX, |staged| staged.saturating_add(1)));
    state
        .syncs
        .range(oldest..)
        .filter(move |(_, sync)| {
            complete(sync, tag) && sync.sealed.ended_ms <= at_ms.saturating_add(CLOCK_SKEW_MS)
        })
        .map(|(pos, _)| *pos)
}
