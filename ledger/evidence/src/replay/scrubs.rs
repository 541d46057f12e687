//! Rounds of hashing the log again (R93): what each claims must be what the log was.
//!
//! That somebody really read a disk cannot be seen from the log. That the round was of this log, of all of it, and that none is left
//! out, can.

use super::Blobs;
use super::CLOCK_SKEW_MS;
use super::check::{Check, Tallies};
use super::state::{At, State};
use crate::v1::LogScrubbed;

/// Judges the rounds.
pub(super) fn judge(state: &State, tallies: &mut Tallies, blobs: &dyn Blobs) {
    let mut next = (1, 0);
    for scrub in &state.scrubs {
        tallies.checked(Check::I83);
        if let Err(why) = one(state, scrub, next) {
            tallies.fail(Check::I83, format!("{}: {why}", state.entry(scrub.pos)));
        }
        let stated = &scrub.what;
        if let Some(root) = blobs.root(stated.to_size) {
            tallies.expect(Check::I83, root.as_slice() == stated.root, || {
                let (entry, size) = (state.entry(scrub.pos), stated.to_size);
                format!("{entry} has another root than the log of {size} entries")
            });
        }
        next = (stated.round.saturating_add(1), stated.to_size);
    }
}

fn one(state: &State, scrub: &At<LogScrubbed>, next: (u64, u64)) -> Result<(), String> {
    let stated = &scrub.what;
    if (stated.round, stated.from_size) != next {
        return Err(format!(
            "it is round {} from {}, round {} from {} was next",
            stated.round, stated.from_size, next.0, next.1
        ));
    }
    if stated.to_size < stated.from_size || stated.to_size > u64::from(scrub.pos) {
        return Err("it hashed what was not there".to_owned());
    }
    // Of every level: one for 256 hashes of the level below.
    let tiles = (1..8_u32).map(|level| stated.to_size >> (level * 8));
    if stated.tiles != tiles.sum::<u64>() {
        return Err("so many tiles the log did not have".to_owned());
    }
    // It ended before it was stated, and began when the last entry that it hashed was there.
    let newest_ms = usize::try_from(stated.to_size)
        .ok()
        .and_then(|size| state.metas.get(size.checked_sub(1)?))
        .map_or(i64::MIN, |meta| meta.recorded_ms);
    let stated_ms = state
        .meta(scrub.pos)
        .map_or(i64::MAX, |meta| meta.recorded_ms);
    let in_order = newest_ms <= stated.started_ms.saturating_add(CLOCK_SKEW_MS)
        && stated.started_ms <= stated.ended_ms
        && stated.ended_ms <= stated_ms.saturating_add(CLOCK_SKEW_MS);
    if in_order {
        Ok(())
    } else {
        Err("its times are not in order".to_owned())
    }
}
