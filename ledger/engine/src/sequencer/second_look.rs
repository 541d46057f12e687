//! The second look before a signature: what is about to be signed is worked out once more, from the very bytes that become durable.
//!
//! A bit that changes in memory after an entry was hashed, or in what a log's next entry continues, would be signed into a head that nobody can
//! reproduce from the entries; and there is no way back from a signature. Certificate Transparency lost a log to one flipped bit of a leaf
//! hash (Yeti 2022, in June 2021). The look costs each entry a decoding and two hashes, a small part of verifying its signature.
//!
//! What it cannot see: a bit that changed before a record was admitted, which the producer's signature shows; one in the last leaf hash of a log
//! whose last tile is full, of which memory has no second copy; and one in the signing itself.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use counterfoil_evidence::record::record_hash;
use counterfoil_evidence::v1::Entry;
use counterfoil_tlog::Hash;
use counterfoil_tlog::hash::leaf_hash;
use counterfoil_tlog::merkle::{Frontier, HashReader as _, root};
use prost::Message as _;

use super::plan::Growing;
use crate::EngineError;
use crate::state::TILE_HEIGHT;
use crate::store::EntryRow;

/// What a producer's signature and the name of its key come to; taken when a record is admitted, before the signature is verified, and compared
/// when its entry is about to be signed. Only within one process.
pub(crate) fn seal(key_id: &str, signature: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key_id, signature).hash(&mut hasher);
    hasher.finish()
}

/// The frontier that the entries lead to, if everything worked out before agrees with it.
pub(super) fn take(growing: &Growing<'_>) -> Result<Frontier, EngineError> {
    check(growing).map_err(|reason| EngineError::Miscalculated {
        origin: growing.before.info.origin.clone(),
        reason,
    })
}

fn check(growing: &Growing<'_>) -> Result<Frontier, &'static str> {
    let before = growing.before;
    let mut frontier = before.frontier.clone();
    if (frontier.size(), frontier.root()) != (before.size, before.root) {
        return Err("what it continues is not what was signed");
    }
    let mut last_leaf = before.last_leaf;
    if before.edge.partial(0).last().unwrap_or(&last_leaf) != &last_leaf {
        return Err("its last leaf is not the last of its edge");
    }
    if growing.entries.len() != growing.seals.len() {
        return Err("an entry is without its seal");
    }
    for (row, seal) in growing.entries.iter().zip(&growing.seals) {
        last_leaf = check_entry(growing, row, *seal, frontier.size(), last_leaf)?;
        frontier.push(last_leaf);
    }
    if growing.last_leaf != last_leaf {
        return Err("its last leaf is not that of its last entry");
    }
    if growing.tree.frontier() != frontier {
        return Err("its tree is not that of its entries");
    }
    check_tiles(growing, &frontier)?;
    Ok(frontier)
}

/// An entry's bytes against all that was taken from them; its leaf hash.
fn check_entry(
    growing: &Growing<'_>,
    row: &EntryRow,
    sealed: u64,
    index: u64,
    prev_leaf: Hash,
) -> Result<Hash, &'static str> {
    let leaf = leaf_hash(&row.entry);
    if row.leaf_hash != leaf {
        return Err("an entry does not have its leaf hash");
    }
    let entry = Entry::decode(row.entry.as_slice()).map_err(|_| "an entry cannot be read")?;
    let is_in_place = entry.version == 1
        && entry.log_origin == growing.before.info.origin
        && (entry.index, row.index) == (index, index)
        && entry.recorded_at_ms == growing.recorded_at_ms
        && entry.prev_leaf_hash == prev_leaf.0;
    if !is_in_place {
        return Err("an entry is not in its place");
    }
    if record_hash(&entry.record) != row.record_hash {
        return Err("a record is not the one that was admitted");
    }
    if seal(&entry.record_key_id, &entry.record_signature) != sealed {
        return Err("a signature is not the one that was admitted");
    }
    Ok(leaf)
}

/// The tiles that became full against the tree, and with them the growing ones, which are written at the same time.
fn check_tiles(growing: &Growing<'_>, frontier: &Frontier) -> Result<(), &'static str> {
    for tile in &growing.full_tiles {
        let subtree = growing.tree.subtree((tile.level + 1) * TILE_HEIGHT, tile.n);
        if subtree != Some(root(&tile.hashes)) {
            return Err("a tile is not that of its entries");
        }
    }
    let is_written = !growing.full_tiles.is_empty();
    if is_written && growing.edge.frontier().ok().as_ref() != Some(frontier) {
        return Err("a growing tile is not that of its entries");
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use std::sync::Arc;

    use counterfoil_evidence::v1::{OwnershipSet, Record};
    use counterfoil_tlog::NoteSigner;
    use counterfoil_tlog::merkle::MerkleTree;
    use prost::Name as _;

    use super::*;
    use crate::LogId;
    use crate::admission::{Admitted, admit_one};
    use crate::key_book::KeyBook;
    use crate::model::{LogInfo, SignedRecord};
    use crate::state::{LogState, TileEdge};

    /// Flips of which none may be signed (`design` R7).
    const FLIPS: u64 = 1000;

    /// Sizes of the log before, and how many entries are added: within a tile, up to its end, beyond it, over several, and of two levels.
    const STEPS: [(u64, u64); 8] = [
        (0, 1),
        (1, 3),
        (5, 120),
        (255, 1),
        (256, 1),
        (257, 2),
        (300, 300),
        (66_000, 200),
    ];

    /// SplitMix64: what is drawn is the same each time.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut drawn = self.0;
            drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            usize::try_from((drawn ^ (drawn >> 31)) % bound as u64).unwrap()
        }

        fn flip(&mut self, bytes: &mut [u8]) {
            let (at, bit) = (self.below(bytes.len()), self.below(8));
            bytes[at] ^= 1 << bit;
        }
    }

    fn empty_log() -> LogState {
        let signer = NoteSigner::from_seed("ledger.example/t/acme", &[7; 32]).unwrap();
        let vkey = signer.verifier_key().clone();
        let info = LogInfo {
            id: LogId(1),
            tenant: "acme".to_owned(),
            origin: "ledger.example/t/acme".to_owned(),
            registrar: vkey.clone(),
            vkey,
        };
        LogState {
            info: Arc::new(info),
            signer: Arc::new(signer),
            size: 0,
            root: Frontier::new().root(),
            checkpoint: "".into(),
            recorded_at_ms: 1_800_000_000_000,
            last_leaf: Hash([0; 32]),
            frontier: Frontier::new(),
            edge: TileEdge::default(),
            bundle: Vec::new(),
            streams: std::collections::BTreeMap::new(),
            keys: Arc::new(KeyBook::default()),
        }
    }

    /// A log whose entries are not known but by their leaf hashes.
    fn log_of(size: u64) -> LogState {
        let mut log = empty_log();
        let mut full = Vec::new();
        for number in 0..size {
            log.last_leaf = leaf_hash(&number.to_be_bytes());
            log.frontier.push(log.last_leaf);
            log.edge.push(log.last_leaf, &mut full);
        }
        (log.size, log.root) = (size, log.frontier.root());
        log
    }

    fn admitted(log: &LogState, number: u64) -> Admitted {
        let payload = OwnershipSet {
            object: format!("accounts/{number}"),
            role: 1,
            owner: "principals/alice".to_owned(),
        };
        let record = Record {
            version: 1,
            log_origin: log.info.origin.clone(),
            record_id: (u128::from(number) + 1).to_be_bytes().to_vec(),
            r#type: OwnershipSet::full_name(),
            schema_hash: counterfoil_evidence::schema_hash().to_vec(),
            stream: "inventory".to_owned(),
            stream_seq: number + 1,
            prev_record_hash: vec![0; 32],
            occurred_at_ms: 1_700_000_000_000,
            actor: "services/inventory".to_owned(),
            retention_class: "governance".to_owned(),
            payload: payload.encode_to_vec(),
            ..Record::default()
        };
        let signed = SignedRecord {
            record: record.encode_to_vec(),
            key_id: "inventory.example+01020304".to_owned(),
            signature: vec![number.to_le_bytes()[0]; 64],
        };
        admit_one(&log.info, signed).unwrap()
    }

    /// A place of memory that is read between admission and signature.
    const PLACES: [&str; 13] = [
        "frontier before",
        "root before",
        "record",
        "hash of a record",
        "signature",
        "name of a key",
        "entry",
        "leaf hash of an entry",
        "last leaf",
        "tree",
        "full tile",
        "growing tile",
        "time",
    ];

    /// Works out a batch, and lets a bit change on the way; `None` when there is nothing at that place.
    fn with_flip(
        log: &LogState,
        records: u64,
        place: &str,
        dice: &mut Dice,
    ) -> Option<Result<(), EngineError>> {
        let mut before = log.clone();
        match place {
            "frontier before" if before.size > 0 => {
                let mut bytes = before.frontier.to_bytes();
                dice.flip(&mut bytes[8..]);
                before.frontier = Frontier::from_bytes(&bytes).unwrap();
            }
            "root before" => dice.flip(&mut before.root.0),
            _ => {}
        }
        let mut growing = Growing::new(&before, None, before.recorded_at_ms);
        let struck = dice.below(usize::try_from(records).unwrap());
        for number in 0..records {
            let mut record = admitted(log, number);
            if number == struck as u64 {
                match place {
                    "record" => dice.flip(&mut record.record),
                    "hash of a record" => dice.flip(&mut record.record_hash),
                    "signature" => dice.flip(&mut record.signature),
                    // Stays a text.
                    "name of a key" => {
                        let mut bytes = record.key_id.into_bytes();
                        let at = dice.below(bytes.len());
                        bytes[at] ^= 1;
                        record.key_id = String::from_utf8(bytes).unwrap();
                    }
                    _ => {}
                }
            }
            growing.append(&record).unwrap();
        }
        match place {
            "entry" => dice.flip(&mut growing.entries[struck].entry),
            "leaf hash of an entry" => dice.flip(&mut growing.entries[struck].leaf_hash.0),
            "last leaf" => dice.flip(&mut growing.last_leaf.0),
            "time" => growing.recorded_at_ms ^= 1 << dice.below(41),
            "tree" => growing.tree = tree_with_flip(log, &growing, struck, dice),
            "full tile" => {
                let tile = dice.below(growing.full_tiles.len().max(1));
                let hashes = &mut growing.full_tiles.get_mut(tile)?.hashes;
                let at = dice.below(hashes.len());
                dice.flip(&mut hashes[at].0);
            }
            // Not signed, and written only when a tile became full.
            "growing tile" if growing.full_tiles.is_empty() => return None,
            "growing tile" => growing.edge = edge_with_flip(&growing, dice)?,
            "frontier before" if log.size == 0 => return None,
            _ => {}
        }
        Some(growing.finish().map(drop))
    }

    /// The tree as it is when a leaf hash changed before it came into it.
    fn tree_with_flip(
        log: &LogState,
        growing: &Growing<'_>,
        struck: usize,
        dice: &mut Dice,
    ) -> MerkleTree {
        let mut tree = log.frontier.grow();
        for (number, row) in growing.entries.iter().enumerate() {
            let mut leaf = row.leaf_hash;
            if number == struck {
                dice.flip(&mut leaf.0);
            }
            tree.push(leaf);
        }
        tree
    }

    fn edge_with_flip(growing: &Growing<'_>, dice: &mut Dice) -> Option<TileEdge> {
        let edge = &growing.edge;
        let mut levels: Vec<Vec<Hash>> = (0..edge.heights())
            .map(|level| edge.partial(level).to_vec())
            .collect();
        let filled: Vec<usize> = (0..levels.len())
            .filter(|level| !levels[*level].is_empty())
            .collect();
        let hashes = &mut levels[*filled.get(dice.below(filled.len().max(1)))?];
        let at = dice.below(hashes.len());
        dice.flip(&mut hashes[at].0);
        TileEdge::new(growing.tree.size(), levels)
    }

    #[test]
    fn what_memory_changed_between_hashing_and_signing_is_never_signed() {
        let mut dice = Dice(1);
        let logs = STEPS.map(|(size, records)| (log_of(size), records));
        let mut struck = std::collections::BTreeMap::<&str, u64>::new();
        let mut flips = 0;
        while flips < FLIPS {
            let (log, records) = &logs[dice.below(logs.len())];
            let place = PLACES[dice.below(PLACES.len())];
            let Some(outcome) = with_flip(log, *records, place, &mut dice) else {
                continue;
            };
            assert!(
                matches!(outcome, Err(EngineError::Miscalculated { .. })),
                "{place} of {} and {records}: {outcome:?}",
                log.size
            );
            flips += 1;
            *struck.entry(place).or_default() += 1;
        }
        assert_eq!(struck.len(), PLACES.len(), "{struck:?}");
    }

    #[test]
    fn what_memory_kept_is_signed() {
        for (size, records) in STEPS {
            let signed = with_flip(&log_of(size), records, "", &mut Dice(1));
            signed.unwrap().unwrap();
        }
    }
}
