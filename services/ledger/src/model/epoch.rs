//! Epochs: what a seal counts.

use std::collections::BTreeMap;

use counterfoil_evidence::catalogue::Payload;
use counterfoil_evidence::leaf::{OBLIGATION_KEY_LEN, OBLIGATION_LEAF_LEN};
use counterfoil_evidence::v1::{EntryTypeCount, EpochSealed, StreamMark};
use counterfoil_tlog::sorted_set::{SetError, SetRoot, SortedSetBuilder};

/// The obligations that are open, by id, with the record that opened each.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenObligations {
    opened: BTreeMap<[u8; OBLIGATION_KEY_LEN], [u8; 32]>,
}

impl OpenObligations {
    /// Takes one record, in order of the log. An id that is not 16 bytes names no obligation: the verifier reports it.
    pub(crate) fn take(&mut self, payload: &Payload, record_hash: [u8; 32]) {
        let id = |bytes: &[u8]| <[u8; OBLIGATION_KEY_LEN]>::try_from(bytes).ok();
        match payload {
            Payload::ObligationOpened(opened) => {
                if let Some(id) = id(&opened.obligation) {
                    self.opened.entry(id).or_insert(record_hash);
                }
            }
            Payload::ObligationDischarged(discharged) => {
                id(&discharged.obligation).map(|id| self.opened.remove(&id));
            }
            Payload::ObligationBreached(breached) => {
                id(&breached.obligation).map(|id| self.opened.remove(&id));
            }
            _ => {}
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.opened.len()
    }

    /// Root of the sorted set: id || hash of the opening record.
    pub(crate) fn seal(&self) -> Result<SetRoot, SetError> {
        let mut set = SortedSetBuilder::new(OBLIGATION_KEY_LEN, OBLIGATION_LEAF_LEN)?;
        let mut leaf = [0; OBLIGATION_LEAF_LEN];
        for (id, record_hash) in &self.opened {
            leaf[..OBLIGATION_KEY_LEN].copy_from_slice(id);
            leaf[OBLIGATION_KEY_LEN..].copy_from_slice(record_hash);
            set.push(&leaf)?;
        }
        Ok(set.finish())
    }
}

/// The epoch after `last`, up to `to_index`.
pub(crate) fn next_epoch(
    last: Option<&EpochSealed>,
    to_index: u64,
    type_counts: Vec<EntryTypeCount>,
    streams: Vec<StreamMark>,
    open: &SetRoot,
) -> EpochSealed {
    EpochSealed {
        epoch: last.map_or(0, |last| last.epoch) + 1,
        from_index: from_index(last),
        to_index,
        type_counts,
        streams,
        open_obligations_root: open.root.as_bytes().to_vec(),
        open_obligations_count: open.count,
    }
}

/// Where the epoch after `last` starts: epochs tile the log from 0.
pub(crate) fn from_index(last: Option<&EpochSealed>) -> u64 {
    last.map_or(0, |last| last.to_index)
}

#[cfg(test)]
mod tests {
    use counterfoil_evidence::v1::{ObligationBreached, ObligationDischarged, ObligationOpened};

    use super::*;

    fn opened(id: u8) -> Payload {
        Payload::ObligationOpened(ObligationOpened {
            obligation: vec![id; 16],
            ..Default::default()
        })
    }

    #[test]
    fn what_was_discharged_or_breached_is_not_open() {
        let mut obligations = OpenObligations::default();
        for id in [3, 1, 2] {
            obligations.take(&opened(id), [id; 32]);
        }
        assert_eq!(obligations.seal().unwrap().count, 3);
        let discharged = ObligationDischarged {
            obligation: vec![1; 16],
            ..Default::default()
        };
        obligations.take(&Payload::ObligationDischarged(discharged), [9; 32]);
        let breached = ObligationBreached {
            obligation: vec![3; 16],
            ..Default::default()
        };
        obligations.take(&Payload::ObligationBreached(breached), [9; 32]);
        let left = obligations.seal().unwrap();
        let mut expected = SortedSetBuilder::new(16, 48).unwrap();
        expected.push(&[2; 48]).unwrap();
        assert_eq!(left, expected.finish());
    }

    #[test]
    fn epochs_tile_the_log_from_its_start() {
        let open = OpenObligations::default().seal().unwrap();
        let first = next_epoch(None, 7, Vec::new(), Vec::new(), &open);
        assert_eq!((first.epoch, first.from_index, first.to_index), (1, 0, 7));
        let second = next_epoch(Some(&first), 9, Vec::new(), Vec::new(), &open);
        assert_eq!(
            (second.epoch, second.from_index, second.to_index),
            (2, 7, 9)
        );
    }
}
