//! The log against what the auditor kept and what it signed before: it grew, and nothing that was seen was taken back (W1, W2, W4).

use std::collections::BTreeMap;

use counterfoil_evidence::replay::Decoded;
use counterfoil_tlog::Checkpoint;
use counterfoil_tlog::hash::{Hash, empty_root};
use counterfoil_tlog::merkle::Frontier;
use counterfoil_tlog::tile::TILE_WIDTH;

use crate::check::{Check, Finder};
use crate::cosigned::Cosigned;
use crate::log::{combined_root, seals_all_before};
use crate::time::format_rfc3339;

/// What is remembered of the log's earlier sizes while it is read.
#[derive(Debug)]
pub(crate) struct History {
    /// Ascending by size.
    kept: Vec<Checkpoint>,
    /// How many of them the auditor kept; the others are the bundle's own.
    by_auditor: usize,
    /// Roots recomputed from the entries at the sizes of kept checkpoints.
    roots: BTreeMap<u64, Hash>,
    /// Whether the last entry read seals all before it.
    sealed: bool,
    last_recorded_ms: i64,
    cosigned: Cosigned,
}

impl History {
    /// Of the checkpoints that the auditor kept, and of those in the bundle.
    pub(crate) fn new(by_auditor: &[Checkpoint], cosigned: Cosigned) -> Self {
        let mut kept = [by_auditor, &cosigned.checkpoints[..]].concat();
        kept.sort_by_key(|one| one.size);
        Self {
            kept,
            by_auditor: by_auditor.len(),
            roots: BTreeMap::from([(0, empty_root())]),
            sealed: false,
            last_recorded_ms: i64::MIN,
            cosigned,
        }
    }

    /// Takes the leaf hashes of a tile, and the full tiles before it.
    pub(crate) fn take(&mut self, start: u64, before: &Frontier, leaves: &[Hash]) {
        let end = start + leaves.len() as u64;
        let from = self.kept.partition_point(|kept| kept.size <= start);
        let those = self.kept.iter().skip(from);
        for kept in those.take_while(|kept| kept.size <= end) {
            let count = usize::try_from(kept.size - start).unwrap_or(0);
            let rest = leaves.get(..count).unwrap_or_default();
            let root = if count == usize::from(TILE_WIDTH) {
                let mut tiles = before.clone();
                tiles.push(counterfoil_tlog::merkle::root(rest));
                tiles.root()
            } else {
                combined_root(before, rest)
            };
            self.roots.insert(kept.size, root);
        }
    }

    /// Takes an entry.
    pub(crate) fn entry(&mut self, at: u64, recorded_ms: i64, decoded: &Decoded) {
        self.sealed = seals_all_before(decoded, at);
        self.last_recorded_ms = recorded_ms;
        self.cosigned.entry(at, recorded_ms);
    }

    /// The checks.
    pub(crate) fn finish(self, said: &Checkpoint, as_of_ms: Option<i64>) -> Vec<Check> {
        let mut w1 = Finder::new(
            "W1",
            &[],
            "the log only appended to every checkpoint that the auditor kept, and that the bundle has",
        );
        let mut w2 = Finder::new(
            "W2",
            &[],
            "nothing is cut off: the log reaches what was seen, and ends with a seal over all of it",
        );
        let mut w4 = Finder::new(
            "W4",
            &[],
            "no two checkpoints of one size have different roots",
        );
        for pair in self.kept.windows(2) {
            if let [first, second] = pair {
                w4.expect(
                    first.size != second.size || first.root == second.root,
                    || format!("two kept checkpoints of size {} differ", first.size),
                );
            }
        }
        for kept in &self.kept {
            if kept.size > said.size {
                w2.fail(format!(
                    "a checkpoint of size {} was seen, the log has {}",
                    kept.size, said.size
                ));
                continue;
            }
            w4.expect(kept.size != said.size || kept.root == said.root, || {
                format!("size {} was seen with another root", kept.size)
            });
            match self.roots.get(&kept.size) {
                Some(root) => w1.expect(*root == kept.root, || {
                    format!(
                        "the first {} entries are not those of the checkpoint kept",
                        kept.size
                    )
                }),
                None => w1.skip("the log could not be read to the sizes that were kept"),
            }
        }
        w2.expect(
            self.sealed,
            || "the last entry is no EpochSealed over everything before it",
        );
        if let Some(as_of_ms) = as_of_ms {
            w2.expect(self.last_recorded_ms >= as_of_ms, || {
                format!(
                    "the log ends at {}, before {}",
                    format_rfc3339(self.last_recorded_ms),
                    format_rfc3339(as_of_ms)
                )
            });
        }
        let own = self.kept.len() - self.by_auditor;
        let note = match (self.by_auditor, own) {
            (0, 0) => "no checkpoint was kept".to_owned(),
            (kept, 0) => format!("{kept} kept checkpoints"),
            (kept, own) => format!("{kept} kept checkpoints, {own} in the bundle"),
        };
        w1.note(&note);
        w4.note(note);
        w2.note(format!("{} entries, sealed", said.size));
        let mut checks = [w1, w2, w4].map(Finder::finish).to_vec();
        checks.extend(self.cosigned.finish());
        checks
    }
}
