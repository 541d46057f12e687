//! The rows of the tampering matrix as code.

use std::io;

use counterfoil_evidence::record::{record_hash, signed_message};
use counterfoil_evidence::v1;
use counterfoil_tlog::Checkpoint;
use counterfoil_tlog::hash::{leaf_hash, sha256};
use counterfoil_tlog::note::NoteSigner;
use counterfoil_tlog::signature::RecordSigner;
use counterfoil_tlog::tile::{TileKind, decode_entries, encode_entries};
use prost::Message as _;

use super::files::{BundleFiles, other};
use super::keys::StolenKeys;
use super::{alibis, stories};
use crate::bundle::path;

/// Which entry of a log is tampered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// The first one: in a full tile, where there is one.
    First,
    /// One in the middle.
    Middle,
    /// The last one: in the partial tile, where there is one.
    Last,
}

impl Position {
    /// All positions.
    pub const ALL: [Self; 3] = [Self::First, Self::Middle, Self::Last];

    fn of(self, size: u64) -> u64 {
        match self {
            Self::First => 0,
            Self::Middle => size / 2,
            Self::Last => size.saturating_sub(1),
        }
    }

    fn usize_of(self, size: usize) -> usize {
        match self {
            Self::First => 0,
            Self::Middle => size / 2,
            Self::Last => size.saturating_sub(1),
        }
    }
}

/// Tampers with a bundle. `false`: this bundle has nothing to do it with.
type Tamper = fn(&BundleFiles, &StolenKeys, Position) -> io::Result<bool>;

/// One way to tamper.
#[derive(Debug, Clone, Copy)]
pub struct Mutator {
    /// Row of the matrix, such as "T1".
    pub row: &'static str,
    /// What is done.
    pub name: &'static str,
    /// Ids of which every one must be among the failed checks. `W1`, `W2` and `W4` need a checkpoint kept from before.
    pub caught_by: &'static [&'static str],
    /// Whether the position makes a difference.
    pub positioned: bool,
    tamper: Tamper,
}

impl Mutator {
    /// Tampers with a bundle and makes its MANIFEST fit. `false`: this bundle has nothing to do it with.
    ///
    /// # Errors
    /// When the bundle cannot be read or written.
    pub fn apply(
        &self,
        files: &BundleFiles,
        keys: &StolenKeys,
        position: Position,
    ) -> io::Result<bool> {
        let applied = (self.tamper)(files, keys, position)?;
        if applied {
            files.seal()?;
        }
        Ok(applied)
    }
}

macro_rules! mutators {
    ($($row:literal $name:literal $caught:expr, $positioned:literal, $tamper:expr;)*) => {
        /// All mutators, by row.
        pub const MUTATORS: &[Mutator] = &[
            $(Mutator { row: $row, name: $name, caught_by: &$caught, positioned: $positioned, tamper: $tamper },)*
        ];
    };
}

mutators! {
    "T1" "flip one bit of an entry" ["S1"], true, flip_entry;
    "T2" "flip one bit of a leaf hash" ["S2"], true, flip_leaf_hash;
    "T3" "flip one bit of an upper tile" ["S2"], false, flip_upper;
    "T4" "replace an entry and its leaf hash" ["S3"], true, replace_entry_and_hash;
    "T5" "replace an entry, tree and root under the old signature" ["K1"], true, replace_unsigned;
    "T6" "replace an entry and sign the log again" ["W1", "P1"], true, replace_signed;
    "T7" "cut the end off and sign the shorter log" ["W2"], false, cut_end;
    "T8" "take an entry out and renumber" ["C1", "W1"], true, remove_entry;
    "T9" "swap two entries" ["C1", "W1"], true, swap_entries;
    "T9" "swap two records of a stream and chain again" ["P2", "W1"], true, swap_records;
    "T10" "insert a back-dated entry" ["C1", "W1"], true, insert_entry;
    "T10" "back-date an entry" ["C2", "W1"], true, backdate;
    "T11" "repeat an entry at the end" ["C1", "P3"], true, repeat_entry;
    "T12" "bring a record of another log in" ["S4", "W1"], true, foreign_record;
    "T13" "put another log's checkpoint in" ["K2"], false, foreign_checkpoint;
    "T22" "append bytes to an entry bundle" ["S7"], true, |f, _, p| bundle_bytes(f, p, |b| b.push(0));
    "T22" "append an entry to a bundle" ["S7"], true, |f, _, p| bundle_bytes(f, p, |b| b.extend([0, 1, 7]));
    "T22" "cut an entry bundle short" ["S7"], true, |f, _, p| bundle_bytes(f, p, |b| { b.pop(); });
    "T22" "cut a tile in the middle of a hash" ["S7"], true, |f, _, p| tile_bytes(f, p, |b| { b.pop(); });
    "T22" "append a hash to a tile" ["S7"], true, |f, _, p| tile_bytes(f, p, |b| b.extend([7; 32]));
    "T22" "give a partial tile another width" ["S7"], false, rename_partial;
    "T26" "hide an unknown field in an entry" ["S10"], true, |f, k, p| entry_bytes(f, k, p, |b| b.extend([0xfa, 0x07, 1, 7]));
    "T26" "give an entry a field twice" ["S10"], true, |f, k, p| entry_bytes(f, k, p, |b| b.extend([0x08, 0x01]));
    "T26" "give an entry an over-long number" ["S10"], true, overlong_number;
    "T26" "hide an unknown field in a record" ["S10"], true, hidden_in_record;
    "T27" "break the chain and keep the tree" ["C3", "C1"], true, break_chain;
    "T27" "break the tree and keep the chain" ["C3", "S1"], true, break_tree;
    "T46" "prune the first entries" ["S11", "S7"], false, |f, _, _| prune(f, &[TileKind::Entries]);
    "T46" "prune the first entries and their hashes" ["S11", "S7"], false, |f, _, _| prune(f, &[TileKind::Entries, TileKind::Hashes { level: 0 }]);
    "T47" "invent a record without its producer" ["P1"], true, invent_record;
    "T47" "sign a record with an unregistered key" ["P1", "P4"], true, unregistered_key;
    "T48" "lose a record before the log" ["P2", "W1"], true, lose_record;
    "T53" "shrink the population" ["G1"], true, stories::shrink_population;
    "T54" "decide after the close" ["G10"], false, stories::decide_after_close;
    "T54" "take a decision out" ["G2"], true, stories::remove_decision;
    "T54" "end an item twice" ["G2"], false, stories::end_twice;
    "T54" "decide what another has" ["G4"], true, stories::decide_unassigned;
    "T54" "decide on oneself" ["G5"], true, stories::decide_on_oneself;
    "T54" "decide under an expired right" ["I-13"], false, stories::expire_rights;
    "T54" "change the counts of the close" ["G3"], false, stories::change_counts;
    "T54" "void with a sync older than the population" ["G2", "G3"], false, alibis::void_with_an_older_sync;
    "T54" "publish the policy when all is decided" ["G15"], false, alibis::publish_policy_last;
    "T54" "grant the right when all is decided" ["I-13"], true, alibis::grant_right_last;
    "T54" "date a decision back to before a revocation" ["I-13"], true, alibis::decide_after_the_end;
    "T55" "close without a read-back" ["G11"], true, stories::remove_read_back;
    "T55" "read back before the action" ["G11"], true, stories::early_read_back;
    "T55" "hide that access came back" ["G12"], false, stories::hide_regression;
    "T55" "report a faster removal" ["G13"], true, stories::faster_removal;
    "T55" "report a better median" ["G13"], false, stories::better_median;
}

/// Takes the first tile of each kind away.
fn prune(files: &BundleFiles, kinds: &[TileKind]) -> io::Result<bool> {
    for kind in kinds {
        let (tile, _) = files.tile_of(*kind, 0)?;
        files.remove(&format!("{}{tile}", path::LOG))?;
    }
    Ok(true)
}

fn flip_entry(files: &BundleFiles, _: &StolenKeys, position: Position) -> io::Result<bool> {
    let at = position.of(files.checkpoint()?.size);
    let (tile, place) = files.tile_of(TileKind::Entries, at)?;
    files.edit(&format!("{}{tile}", path::LOG), |bytes| {
        let entries = decode_entries(bytes, tile.width()).unwrap_or_default();
        let before: usize = entries.iter().take(place).map(|e| e.len() + 2).sum();
        let middle = before + 2 + entries.get(place).map_or(0, |e| e.len() / 2);
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1;
        }
    })?;
    Ok(true)
}

fn flip_leaf_hash(files: &BundleFiles, _: &StolenKeys, position: Position) -> io::Result<bool> {
    let at = position.of(files.checkpoint()?.size);
    let (tile, place) = files.tile_of(TileKind::Hashes { level: 0 }, at)?;
    files.edit(&format!("{}{tile}", path::LOG), |bytes| {
        if let Some(byte) = bytes.get_mut(place * 32) {
            *byte ^= 0x80;
        }
    })?;
    Ok(true)
}

fn flip_upper(files: &BundleFiles, _: &StolenKeys, _: Position) -> io::Result<bool> {
    if files.checkpoint()?.size < 256 {
        return Ok(false);
    }
    let (tile, _) = files.tile_of(TileKind::Hashes { level: 1 }, 0)?;
    files.edit(&format!("{}{tile}", path::LOG), |bytes| {
        if let Some(byte) = bytes.last_mut() {
            *byte ^= 1;
        }
    })?;
    Ok(true)
}

/// An entry that differs in when it was integrated: canonical, and plausible by itself.
fn altered(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut entry = v1::Entry::decode(bytes).map_err(other)?;
    let mut record = v1::Record::decode(entry.record.as_slice()).map_err(other)?;
    record.occurred_at_ms -= 1;
    entry.record = record.encode_to_vec();
    Ok(entry.encode_to_vec())
}

fn replace_entry_and_hash(
    files: &BundleFiles,
    _: &StolenKeys,
    position: Position,
) -> io::Result<bool> {
    let at = position.of(files.checkpoint()?.size);
    let entries = files.entries()?;
    let mut entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
    let index = usize::try_from(at).map_err(other)?;
    let new = altered(entries.get(index).ok_or_else(|| other("no entry"))?)?;
    if let Some(entry) = entries.get_mut(index) {
        *entry = &new;
    }
    let (tile, place) = files.tile_of(TileKind::Entries, at)?;
    let start = index - place;
    let slice = entries.get(start..start + usize::from(tile.width()));
    let bytes = encode_entries(slice.unwrap_or_default()).map_err(other)?;
    files.write(&format!("{}{tile}", path::LOG), &bytes)?;
    let (tile, place) = files.tile_of(TileKind::Hashes { level: 0 }, at)?;
    files.edit(&format!("{}{tile}", path::LOG), |bytes| {
        if let Some(hash) = bytes.get_mut(place * 32..place * 32 + 32) {
            hash.copy_from_slice(&leaf_hash(&new).0);
        }
    })?;
    Ok(true)
}

/// Changes the list of entries and makes the tree anew.
fn with_entries(
    files: &BundleFiles,
    key: Option<&NoteSigner>,
    change: impl FnOnce(&mut Vec<Vec<u8>>) -> io::Result<bool>,
) -> io::Result<bool> {
    let mut entries = files.entries()?;
    let changed = change(&mut entries)?;
    if changed {
        files.rebuild(&entries, key)?;
    }
    Ok(changed)
}

/// Changes one entry and chains those after it again.
fn with_entry(
    files: &BundleFiles,
    keys: &StolenKeys,
    position: Position,
    change: impl FnOnce(&mut v1::Entry) -> io::Result<()>,
) -> io::Result<bool> {
    with_entries(files, Some(&keys.log), |entries| {
        let at = position.usize_of(entries.len());
        let bytes = entries.get_mut(at).ok_or_else(|| other("no entry"))?;
        let mut entry = v1::Entry::decode(bytes.as_slice()).map_err(other)?;
        change(&mut entry)?;
        *bytes = entry.encode_to_vec();
        chain_again(entries, at)?;
        Ok(true)
    })
}

/// Renumbers and chains entries from a place on: what the thief of the log's key can do for the ledger's own fields.
fn chain_again(entries: &mut [Vec<u8>], from: usize) -> io::Result<()> {
    let mut prev = match from.checked_sub(1).and_then(|at| entries.get(at)) {
        Some(before) => leaf_hash(before).0,
        None => [0; 32],
    };
    for (index, bytes) in (0_u64..).zip(entries.iter_mut()).skip(from) {
        let mut entry = v1::Entry::decode(bytes.as_slice()).map_err(other)?;
        entry.index = index;
        entry.prev_leaf_hash = prev.to_vec();
        *bytes = entry.encode_to_vec();
        prev = leaf_hash(bytes).0;
    }
    Ok(())
}

fn replace_at(entries: &mut [Vec<u8>], position: Position) -> io::Result<bool> {
    let at = position.usize_of(entries.len());
    let entry = entries.get_mut(at).ok_or_else(|| other("no entry"))?;
    *entry = altered(entry)?;
    Ok(true)
}

fn replace_unsigned(files: &BundleFiles, _: &StolenKeys, position: Position) -> io::Result<bool> {
    with_entries(files, None, |entries| replace_at(entries, position))
}

fn replace_signed(files: &BundleFiles, keys: &StolenKeys, position: Position) -> io::Result<bool> {
    with_entries(files, Some(&keys.log), |entries| {
        replace_at(entries, position)?;
        let at = position.usize_of(entries.len());
        chain_again(entries, at)?;
        Ok(true)
    })
}

fn cut_end(files: &BundleFiles, keys: &StolenKeys, _: Position) -> io::Result<bool> {
    with_entries(files, Some(&keys.log), |entries| {
        entries.truncate(entries.len().saturating_sub(3));
        Ok(!entries.is_empty())
    })
}

fn remove_entry(files: &BundleFiles, keys: &StolenKeys, position: Position) -> io::Result<bool> {
    with_entries(files, Some(&keys.log), |entries| {
        // The last one is cutting the end off, which is another row.
        let at = position.usize_of(entries.len().saturating_sub(1));
        entries.remove(at);
        for (index, bytes) in (0_u64..).zip(entries.iter_mut()).skip(at) {
            let mut entry = v1::Entry::decode(bytes.as_slice()).map_err(other)?;
            entry.index = index;
            *bytes = entry.encode_to_vec();
        }
        Ok(true)
    })
}

fn swap_entries(files: &BundleFiles, keys: &StolenKeys, position: Position) -> io::Result<bool> {
    with_entries(files, Some(&keys.log), |entries| {
        let at = position.usize_of(entries.len().saturating_sub(1));
        entries.swap(at, at + 1);
        Ok(true)
    })
}

fn swap_records(files: &BundleFiles, keys: &StolenKeys, position: Position) -> io::Result<bool> {
    with_entries(files, Some(&keys.log), |entries| {
        let streams = streams_of(entries)?;
        let from = position.usize_of(entries.len());
        let pair = |at: usize| streams.get(at).is_some() && streams.get(at) == streams.get(at + 1);
        let found = (from..streams.len())
            .chain((0..from).rev())
            .find(|at| pair(*at));
        let Some(at) = found else { return Ok(false) };
        entries.swap(at, at + 1);
        chain_again(entries, at)?;
        Ok(true)
    })
}

fn streams_of(entries: &[Vec<u8>]) -> io::Result<Vec<String>> {
    entries
        .iter()
        .map(|bytes| {
            let entry = v1::Entry::decode(bytes.as_slice()).map_err(other)?;
            let record = v1::Record::decode(entry.record.as_slice()).map_err(other)?;
            Ok(record.stream)
        })
        .collect()
}

fn insert_entry(files: &BundleFiles, keys: &StolenKeys, position: Position) -> io::Result<bool> {
    with_entries(files, Some(&keys.log), |entries| {
        let at = position.usize_of(entries.len().saturating_sub(1));
        let before = entries.get(at).cloned().unwrap_or_default();
        let mut entry = v1::Entry::decode(before.as_slice()).map_err(other)?;
        entry.recorded_at_ms -= 1;
        entry.index = at as u64 + 1;
        entry.prev_leaf_hash = leaf_hash(&before).0.to_vec();
        entries.insert(at + 1, entry.encode_to_vec());
        Ok(true)
    })
}

fn backdate(files: &BundleFiles, keys: &StolenKeys, position: Position) -> io::Result<bool> {
    with_entries(files, Some(&keys.log), |entries| {
        let at = position.usize_of(entries.len()).max(1);
        let bytes = entries.get_mut(at).ok_or_else(|| other("no entry"))?;
        let mut entry = v1::Entry::decode(bytes.as_slice()).map_err(other)?;
        entry.recorded_at_ms -= 86_400_000;
        *bytes = entry.encode_to_vec();
        chain_again(entries, at)?;
        Ok(true)
    })
}

fn repeat_entry(files: &BundleFiles, keys: &StolenKeys, position: Position) -> io::Result<bool> {
    with_entries(files, Some(&keys.log), |entries| {
        let at = position.usize_of(entries.len());
        let again = entries.get(at).cloned().unwrap_or_default();
        entries.push(again);
        Ok(true)
    })
}

fn foreign_record(files: &BundleFiles, keys: &StolenKeys, position: Position) -> io::Result<bool> {
    with_entry(files, keys, position, |entry| {
        let mut record = v1::Record::decode(entry.record.as_slice()).map_err(other)?;
        record.log_origin.push_str("-other");
        // The same producer serves both tenants, so its signature over the foreign record is genuine.
        sign(entry, &record, keys)
    })
}

/// Signs a record with its producer's stolen key and puts it into its entry.
fn sign(entry: &mut v1::Entry, record: &v1::Record, keys: &StolenKeys) -> io::Result<()> {
    let (key_id, signer) = keys
        .producer(&record.stream)
        .ok_or_else(|| other("no key for this stream"))?;
    key_id.clone_into(&mut entry.record_key_id);
    entry.record = record.encode_to_vec();
    entry.record_signature = signer.sign(&signed_message(&entry.record)).to_vec();
    Ok(())
}

fn foreign_checkpoint(files: &BundleFiles, _: &StolenKeys, _: Position) -> io::Result<bool> {
    let old = files.checkpoint()?;
    let origin = format!("{}-other", old.origin);
    let foreign = NoteSigner::from_seed(&origin, &[7; 32]).map_err(other)?;
    let checkpoint = Checkpoint { origin, ..old };
    let note = checkpoint.sign(&foreign).map_err(other)?;
    files.write(path::CHECKPOINT, note.as_bytes())?;
    Ok(true)
}

fn bundle_bytes(
    files: &BundleFiles,
    position: Position,
    change: impl FnOnce(&mut Vec<u8>),
) -> io::Result<bool> {
    let at = position.of(files.checkpoint()?.size);
    let (tile, _) = files.tile_of(TileKind::Entries, at)?;
    files.edit(&format!("{}{tile}", path::LOG), change)?;
    Ok(true)
}

fn tile_bytes(
    files: &BundleFiles,
    position: Position,
    change: impl FnOnce(&mut Vec<u8>),
) -> io::Result<bool> {
    let at = position.of(files.checkpoint()?.size);
    let (tile, _) = files.tile_of(TileKind::Hashes { level: 0 }, at)?;
    files.edit(&format!("{}{tile}", path::LOG), change)?;
    Ok(true)
}

fn rename_partial(files: &BundleFiles, _: &StolenKeys, _: Position) -> io::Result<bool> {
    let last = files.checkpoint()?.size.saturating_sub(1);
    let (tile, _) = files.tile_of(TileKind::Entries, last)?;
    if !tile.is_partial() {
        return Ok(false);
    }
    let old = format!("{}{tile}", path::LOG);
    let bytes = files.read(&old)?;
    files.remove(&old)?;
    let (folder, width) = old.rsplit_once('/').ok_or_else(|| other("no width"))?;
    let width: u16 = width.parse().map_err(other)?;
    files.write(&format!("{folder}/{}", width % 255 + 1), &bytes)?;
    Ok(true)
}

fn entry_bytes(
    files: &BundleFiles,
    keys: &StolenKeys,
    position: Position,
    change: impl FnOnce(&mut Vec<u8>),
) -> io::Result<bool> {
    with_entries(files, Some(&keys.log), |entries| {
        let at = position.usize_of(entries.len());
        if let Some(bytes) = entries.get_mut(at) {
            change(bytes);
        }
        chain_again(entries, at + 1)?;
        Ok(true)
    })
}

/// The version, which is 1, written in two bytes instead of one.
fn overlong_number(files: &BundleFiles, keys: &StolenKeys, position: Position) -> io::Result<bool> {
    entry_bytes(files, keys, position, |bytes| {
        if bytes.starts_with(&[0x08, 0x01]) {
            bytes.splice(1..2, [0x81, 0x00]);
        }
    })
}

fn hidden_in_record(
    files: &BundleFiles,
    keys: &StolenKeys,
    position: Position,
) -> io::Result<bool> {
    with_entry(files, keys, position, |entry| {
        let record = v1::Record::decode(entry.record.as_slice()).map_err(other)?;
        sign(entry, &record, keys)?;
        entry.record.extend([0xfa, 0x07, 1, 7]);
        let (_, signer) = keys
            .producer(&record.stream)
            .ok_or_else(|| other("no key"))?;
        entry.record_signature = signer.sign(&signed_message(&entry.record)).to_vec();
        Ok(())
    })
}

fn break_chain(files: &BundleFiles, keys: &StolenKeys, position: Position) -> io::Result<bool> {
    with_entries(files, Some(&keys.log), |entries| {
        let at = position.usize_of(entries.len());
        let bytes = entries.get_mut(at).ok_or_else(|| other("no entry"))?;
        let mut entry = v1::Entry::decode(bytes.as_slice()).map_err(other)?;
        entry.prev_leaf_hash = sha256(b"somewhere else").0.to_vec();
        *bytes = entry.encode_to_vec();
        chain_again(entries, at + 1)?;
        Ok(true)
    })
}

/// The tree is made over another entry than the bundle has; the chain goes on from the entry that it has.
fn break_tree(files: &BundleFiles, keys: &StolenKeys, position: Position) -> io::Result<bool> {
    let entries = files.entries()?;
    let at = position.usize_of(entries.len().saturating_sub(1));
    let mut others = entries.clone();
    if let Some(entry) = others.get_mut(at) {
        *entry = altered(entry)?;
    }
    files.rebuild(&others, Some(&keys.log))?;
    let (tile, place) = files.tile_of(TileKind::Entries, at as u64)?;
    let start = at - place;
    let slice = entries.get(start..start + usize::from(tile.width()));
    let bytes = encode_entries(slice.unwrap_or_default()).map_err(other)?;
    files.write(&format!("{}{tile}", path::LOG), &bytes)?;
    Ok(true)
}

fn invent_record(files: &BundleFiles, keys: &StolenKeys, position: Position) -> io::Result<bool> {
    with_entry(files, keys, position, |entry| {
        let mut record = v1::Record::decode(entry.record.as_slice()).map_err(other)?;
        record.actor = "principals/nobody".to_owned();
        entry.record = record.encode_to_vec();
        // Whoever has only the log's key signs with that.
        let hash = record_hash(&entry.record);
        entry.record_signature = RecordSigner::from_seed(&hash)
            .sign(&signed_message(&entry.record))
            .to_vec();
        Ok(())
    })
}

fn unregistered_key(
    files: &BundleFiles,
    keys: &StolenKeys,
    position: Position,
) -> io::Result<bool> {
    with_entry(files, keys, position, |entry| {
        let own = NoteSigner::from_seed("own.example", &[9; 32]).map_err(other)?;
        entry.record_key_id = format!("own.example+{:08x}", own.verifier_key().key_id());
        entry.record_signature = RecordSigner::from_seed(&[9; 32])
            .sign(&signed_message(&entry.record))
            .to_vec();
        Ok(())
    })
}

fn lose_record(files: &BundleFiles, keys: &StolenKeys, position: Position) -> io::Result<bool> {
    with_entries(files, Some(&keys.log), |entries| {
        // The last record of a stream leaves no gap; the seal at the end is one.
        let at = position.usize_of(entries.len() / 2);
        entries.remove(at);
        chain_again(entries, at)?;
        Ok(true)
    })
}
