//! Where a record stood and when: found by hashing, never believed. Pure.
//!
//! An entry is its record, its place, the leaf hash before it and the time at which it was recorded. All but the time is known, and
//! whatever the time was, the entry hashes to what was signed.

use counterfoil_evidence::v1::Entry;
use counterfoil_tlog::Hash;
use counterfoil_tlog::hash::leaf_hash;
use counterfoil_tlog::merkle::Frontier;
use prost::Message as _;

use super::Copied;
use crate::model::SignedRecord;
use crate::state::LogState;

/// Most entries that are hashed to find one time: some ten seconds of one core, and almost six hours of times of one entry.
const HASHES_MAX: usize = 20_000_000;

/// Most ways to put records of several streams into one gap that are tried.
const ARRANGEMENTS_MAX: usize = 1024;

/// How far beyond the last time it is searched where nothing says when the end was.
const AHEAD_MS: i64 = 60 * 60 * 1000;

/// The end of a log that is being put together.
#[derive(Debug, Clone)]
pub(super) struct Edge {
    pub(super) origin: String,
    pub(super) last_leaf: Hash,
    pub(super) recorded_at_ms: i64,
    pub(super) frontier: Frontier,
}

impl Edge {
    pub(super) fn of(state: &LogState) -> Self {
        Self {
            origin: state.info.origin.clone(),
            last_leaf: state.last_leaf,
            recorded_at_ms: state.recorded_at_ms,
            frontier: state.frontier.clone(),
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The next entry, if it is this record and was recorded then.
    fn entry(&self, record: &SignedRecord, recorded_at_ms: i64) -> Copied {
        let entry = Entry {
            version: 1,
            log_origin: self.origin.clone(),
            index: self.size(),
            recorded_at_ms,
            prev_leaf_hash: self.last_leaf.0.to_vec(),
            record: record.record.clone(),
            record_key_id: record.key_id.clone(),
            record_signature: record.signature.clone(),
        };
        let leaf = leaf_hash(&entry.encode_to_vec());
        (entry, leaf)
    }

    /// The latest time to search for. What is known of it may be nothing, or come from another clock than the log's.
    fn latest(&self, until_ms: i64) -> i64 {
        if until_ms < self.recorded_at_ms {
            self.recorded_at_ms + AHEAD_MS
        } else {
            until_ms
        }
    }

    pub(super) fn push(&mut self, copied: &Copied) {
        self.last_leaf = copied.1;
        self.recorded_at_ms = copied.0.recorded_at_ms;
        self.frontier.push(copied.1);
    }

    /// The next entry, which has this leaf hash and is no younger than `until_ms`; `None`: this record does not give it.
    pub(super) fn find(&self, record: &SignedRecord, leaf: Hash, until_ms: i64) -> Option<Copied> {
        times(self.recorded_at_ms, self.latest(until_ms))
            .take(HASHES_MAX)
            .map(|time| self.entry(record, time))
            .find(|copied| copied.1 == leaf)
    }
}

/// Both ends first, then towards the middle: most entries are of the time of their receipt or of the entry before them.
fn times(from: i64, until: i64) -> impl Iterator<Item = i64> {
    let until = until.max(from);
    (0..=until - from).map(move |number| {
        if number % 2 == 0 {
            until - number / 2
        } else {
            from + number / 2
        }
    })
}

/// What comes after a gap, and tells whether it was filled with what was there.
#[derive(Debug, Clone)]
pub(super) enum After {
    /// An entry whose leaf hash and latest time are known.
    Entry {
        record: SignedRecord,
        leaf: Hash,
        until_ms: i64,
    },
    /// Nothing: the log had this root, and its last entry was as a rule not younger than this time.
    Root { root: Hash, until_ms: Option<i64> },
}

/// Entries of which no receipt is known.
#[derive(Debug)]
pub(super) struct Gap {
    pub(super) edge: Edge,
    /// How many.
    pub(super) count: usize,
    /// Records without a receipt, each list of one stream and in its order.
    pub(super) loose: Vec<Vec<SignedRecord>>,
    pub(super) after: After,
}

impl Gap {
    /// Fills the gap with records that one commit took: a producer waits for the answer before it sends more, so what it has no
    /// receipt for was one submission, and submissions that wait together are committed together, at one time.
    pub(super) fn fill(&self) -> Option<Vec<Copied>> {
        let arrangements = self.arrangements();
        let from = self.edge.recorded_at_ms;
        let until = match &self.after {
            After::Entry { until_ms, .. } => *until_ms,
            After::Root { until_ms, .. } => until_ms.unwrap_or(0),
        };
        let until = self.edge.latest(until);
        let cost = (self.count + 1) * arrangements.len().max(1);
        times(from, until)
            .take(HASHES_MAX / cost)
            .find_map(|time| arrangements.iter().find_map(|way| self.attempt(way, time)))
    }

    /// The entries, if these records in this order at this time lead to what comes after.
    fn attempt(&self, records: &[&SignedRecord], time: i64) -> Option<Vec<Copied>> {
        let mut edge = self.edge.clone();
        let mut filled = Vec::with_capacity(records.len());
        for record in records {
            let copied = edge.entry(record, time);
            edge.push(&copied);
            filled.push(copied);
        }
        let fits = match &self.after {
            After::Entry {
                record,
                leaf,
                until_ms,
            } => [*until_ms, time]
                .iter()
                .any(|time| edge.entry(record, *time).1 == *leaf),
            After::Root { root, .. } => edge.frontier.root() == *root,
        };
        fits.then_some(filled)
    }

    /// The ways to take so many records from the lists: some from the beginning of one, then some from the beginning of another.
    fn arrangements(&self) -> Vec<Vec<&SignedRecord>> {
        let mut ways = Vec::new();
        let mut used = vec![false; self.loose.len()];
        self.arrange(&mut Vec::new(), &mut used, &mut ways);
        ways
    }

    fn arrange<'a>(
        &'a self,
        taken: &mut Vec<&'a SignedRecord>,
        used: &mut [bool],
        ways: &mut Vec<Vec<&'a SignedRecord>>,
    ) {
        let open = self.count - taken.len();
        if open == 0 {
            ways.push(taken.clone());
            return;
        }
        for (at, list) in self.loose.iter().enumerate() {
            if used.get(at).copied().unwrap_or(true) {
                continue;
            }
            used[at] = true;
            for count in (1..=list.len().min(open)).rev() {
                if ways.len() >= ARRANGEMENTS_MAX {
                    break;
                }
                taken.extend(list.iter().take(count));
                self.arrange(taken, used, ways);
                taken.truncate(self.count - open);
            }
            used[at] = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u8) -> SignedRecord {
        SignedRecord {
            record: vec![number; 40],
            key_id: "producer+00000000".to_owned(),
            signature: vec![number; 64],
        }
    }

    fn edge() -> Edge {
        Edge {
            origin: "ledger.example/t/acme".to_owned(),
            last_leaf: Hash([7; 32]),
            recorded_at_ms: 1000,
            frontier: Frontier::new(),
        }
    }

    /// The entries of these records at this time.
    fn entries(mut edge: Edge, records: &[SignedRecord], time: i64) -> (Edge, Vec<Copied>) {
        let copied = records.iter().map(|record| {
            let copied = edge.entry(record, time);
            edge.push(&copied);
            copied
        });
        let copied = copied.collect();
        (edge, copied)
    }

    #[test]
    fn all_times_are_tried_once_the_likely_ones_first() {
        let tried: Vec<i64> = times(10, 15).collect();
        assert_eq!(tried, [15, 10, 14, 11, 13, 12]);
        assert_eq!(times(10, 10).collect::<Vec<_>>(), [10]);
        assert_eq!(times(10, 3).collect::<Vec<_>>(), [10]);
    }

    #[test]
    fn the_time_of_an_entry_is_that_which_hashes_to_its_leaf() {
        for time in [1000, 1001, 1234, 2000] {
            let (_, copied) = entries(edge(), &[record(1)], time);
            let leaf = copied.first().unwrap().1;
            assert_eq!(edge().find(&record(1), leaf, 2000), copied.first().cloned());
            assert_eq!(edge().find(&record(2), leaf, 2000), None);
        }
        let (_, copied) = entries(edge(), &[record(1)], 2001);
        assert_eq!(edge().find(&record(1), copied[0].1, 2000), None);
    }

    #[test]
    fn a_gap_is_filled_with_what_leads_to_the_root_and_with_nothing_else() {
        let logged = [record(1), record(2), record(8)];
        let (end, copied) = entries(edge(), &logged, 1500);
        let gap = |root| Gap {
            edge: edge(),
            count: 3,
            loose: vec![vec![record(8), record(9)], vec![record(1), record(2)]],
            after: After::Root {
                root,
                until_ms: Some(3000),
            },
        };
        assert_eq!(gap(end.frontier.root()).fill(), Some(copied));
        assert_eq!(gap(Hash([1; 32])).fill(), None);
        // The lists are of streams: their order is kept.
        let (end, _) = entries(edge(), &[record(2), record(1), record(8)], 1500);
        assert_eq!(gap(end.frontier.root()).fill(), None);
    }

    #[test]
    fn a_gap_ends_where_the_next_entry_names_the_one_before() {
        let (end, copied) = entries(edge(), &[record(1), record(2)], 1500);
        for later in [1500, 1600] {
            let gap = Gap {
                edge: edge(),
                count: 2,
                loose: vec![vec![record(1), record(2), record(3)]],
                after: After::Entry {
                    record: record(5),
                    leaf: end.entry(&record(5), later).1,
                    until_ms: 1600,
                },
            };
            assert_eq!(gap.fill(), Some(copied.clone()));
        }
    }

    #[test]
    fn a_clock_that_ran_ahead_is_searched_for_an_hour() {
        let (end, copied) = entries(edge(), &[record(1)], 1000 + 90_000);
        let gap = Gap {
            edge: edge(),
            count: 1,
            loose: vec![vec![record(1)]],
            after: After::Root {
                root: end.frontier.root(),
                until_ms: Some(5),
            },
        };
        assert_eq!(gap.fill(), Some(copied));
    }
}
