//! Epochs: everything is counted, nothing is skipped, and what is owed is listed.

use std::collections::BTreeMap;

use counterfoil_tlog::Hash;
use counterfoil_tlog::hash::leaf_hash;
use counterfoil_tlog::merkle::Frontier;

use super::OVERDUE_GRACE_MS;
use super::check::{Check, Tallies};
use super::state::{Pos, State, Sym};
use crate::v1::EpochSealed;

/// Last record of a stream so far: its number and its place.
type Marks = BTreeMap<Sym, (u64, Pos)>;

/// Judges schemas, epochs and obligations.
pub(super) fn judge(state: &State, tallies: &mut Tallies) {
    for (schema, pos) in &state.schemas_used {
        tallies.expect(Check::I05, state.schemas.contains(schema), || {
            format!(
                "{} has a schema that the log never registered",
                state.entry(*pos)
            )
        });
    }
    let mut next = (1, 0);
    let mut marks = Marks::new();
    for epoch in &state.epochs {
        tallies.checked(Check::I07);
        tallies.checked(Check::I08);
        let sealed = &epoch.what;
        if (sealed.epoch, sealed.from_index) != next {
            tallies.fail(
                Check::I07,
                format!(
                    "{} seals epoch {} from {}, epoch {} from {} was next",
                    state.entry(epoch.pos),
                    sealed.epoch,
                    sealed.from_index,
                    next.0,
                    next.1
                ),
            );
            return;
        }
        next = (sealed.epoch.saturating_add(1), sealed.to_index);
        if sealed.to_index < sealed.from_index || sealed.to_index > u64::from(epoch.pos) {
            tallies.fail(
                Check::I07,
                format!("{} counts what was not there", state.entry(epoch.pos)),
            );
            return;
        }
        if let Err(why) = counts(state, sealed, &mut marks) {
            tallies.fail(Check::I07, format!("{}: {why}", state.entry(epoch.pos)));
        }
        let (root, count) = open_obligations(state, sealed.to_index);
        tallies.expect(
            Check::I08,
            root.as_bytes().as_slice() == sealed.open_obligations_root
                && count == sealed.open_obligations_count,
            || {
                format!(
                    "{} lists other open obligations than the {count} there are",
                    state.entry(epoch.pos)
                )
            },
        );
    }
    overdue(state, tallies);
}

fn counts(state: &State, sealed: &EpochSealed, marks: &mut Marks) -> Result<(), String> {
    let range = usize::try_from(sealed.from_index).unwrap_or(usize::MAX)
        ..usize::try_from(sealed.to_index).unwrap_or(usize::MAX);
    let entries = state.metas.get(range).ok_or("it counts beyond the log")?;
    let first = Pos::try_from(sealed.from_index).unwrap_or(Pos::MAX);
    let mut types: BTreeMap<&str, u64> = BTreeMap::new();
    for (pos, meta) in (first..).zip(entries) {
        *types.entry(state.names.text(meta.type_name)).or_default() += 1;
        let mark = marks.entry(meta.stream).or_insert((0, pos));
        *mark = (mark.0 + 1, pos);
    }
    let stated = sealed
        .type_counts
        .iter()
        .map(|count| (count.r#type.as_str(), count.count));
    if !stated.eq(types) {
        return Err("its counts by type do not recompute".to_owned());
    }
    let mut expected: Vec<(&str, u64, &[u8])> = marks
        .iter()
        .filter_map(|(stream, (seq, pos))| {
            let hash = state.meta(*pos)?.hash.as_slice();
            Some((state.names.text(*stream), *seq, hash))
        })
        .collect();
    expected.sort_unstable();
    let stated = sealed.streams.iter().map(|mark| {
        (
            mark.stream.as_str(),
            mark.last_seq,
            mark.last_record_hash.as_slice(),
        )
    });
    if !stated.eq(expected) {
        return Err("its stream marks do not recompute".to_owned());
    }
    Ok(())
}

/// Root and count of what is open below an index: neither discharged nor breached.
fn open_obligations(state: &State, below: u64) -> (Hash, u64) {
    let before = |pos: Pos| u64::from(pos) < below;
    let mut set = Frontier::new();
    for (id, obligation) in &state.obligations {
        let ended = obligation.discharged.is_some_and(|(pos, _)| before(pos))
            || obligation.breached.is_some_and(before);
        if !before(obligation.pos) || ended {
            continue;
        }
        let hash = state.meta(obligation.pos).map_or([0; 32], |meta| meta.hash);
        set.push(leaf_hash(&[id.as_slice(), &hash].concat()));
    }
    (set.root(), set.size())
}

/// What nobody did in time must be on record as such.
fn overdue(state: &State, tallies: &mut Tallies) {
    let now_ms = state.last_recorded_ms();
    for obligation in state.obligations.values() {
        let open = obligation.discharged.is_none() && obligation.breached.is_none();
        let late = obligation.due_ms.saturating_add(OVERDUE_GRACE_MS) < now_ms;
        let check = if state.names.text(obligation.kind) == "persistence_reread" {
            Check::I37
        } else {
            Check::I08
        };
        tallies.expect(check, !(open && late), || {
            format!(
                "what {} opened is overdue and neither discharged nor breached",
                state.entry(obligation.pos)
            )
        });
    }
}
