//! Access that is there again, by what the sealed sets themselves say: whether or not anybody compared them.

use std::collections::HashMap;

use super::sets::{self, Cached};
use super::state::{Pos, State};
use super::{Blobs, CLOCK_SKEW_MS};
use crate::leaf::{GRANT_LEAF_LEN, GrantKey, SourceTag};
use crate::v1::SyncState;

/// The COMPLETE readings of every source.
pub(super) struct Readings<'s> {
    state: &'s State,
    sets: Cached<'s>,
    /// In order of the log: one service reads a source, once at a time.
    of: HashMap<SourceTag, Vec<Pos>>,
}

impl<'s> Readings<'s> {
    pub(super) fn collect(state: &'s State, blobs: &'s dyn Blobs) -> Self {
        let mut of: HashMap<SourceTag, Vec<Pos>> = HashMap::new();
        for (pos, sync) in &state.syncs {
            if sync.sealed.state() == SyncState::Complete {
                of.entry(sync.tag).or_default().push(*pos);
            }
        }
        Self {
            state,
            sets: Cached::new(blobs),
            of,
        }
    }

    fn after(&self, key: &GrantKey, read: Pos) -> &[Pos] {
        let all = self
            .of
            .get(&key.source_tag())
            .map_or(&[][..], Vec::as_slice);
        let from = all.partition_point(|pos| *pos <= read);
        all.get(from..).unwrap_or_default()
    }

    /// Whether a reading shows a grant. A set that is not in the bundle shows nothing; that it is missing is told under I-19.
    fn shows(&self, read: Pos, key: &GrantKey) -> Option<bool> {
        let set = self.state.syncs.get(&read)?.blob?;
        let set = self.sets.load(&set)?;
        Some(sets::find(&set, GRANT_LEAF_LEN, &key.0).is_some())
    }

    /// Whether a grant that a reading did not show is there in the newest one.
    pub(super) fn there_again(&self, key: &GrantKey, read: Pos) -> bool {
        let newest = self.after(key, read).last();
        newest.and_then(|newest| self.shows(*newest, key)) == Some(true)
    }

    /// Whether whoever closed something had to know that a grant which a reading did not show was there again: the newest
    /// reading that was on record well before says so, and none that they may have seen besides says otherwise.
    pub(super) fn known_again(&self, key: &GrantKey, read: Pos, close: Pos) -> bool {
        let closed_ms = self.state.occurred_ms(close);
        let sure = |pos: Pos| {
            let known_ms = self.state.recorded_ms(pos).saturating_add(CLOCK_SKEW_MS);
            pos < close && known_ms < closed_ms
        };
        let later = self.after(key, read);
        let Some(newest) = later.iter().rposition(|pos| sure(*pos)) else {
            return false;
        };
        let may_be_known = |pos: Pos| {
            let sync = self.state.syncs.get(&pos);
            sync.is_some_and(|sync| {
                sync.sealed.started_ms <= closed_ms.saturating_add(CLOCK_SKEW_MS)
            })
        };
        let known = later.get(newest..).unwrap_or_default().iter();
        known
            .filter(|pos| may_be_known(**pos))
            .all(|pos| self.shows(*pos, key) == Some(true))
    }
}
