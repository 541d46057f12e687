//! One entry bundle at a time, by itself: reading, hashing, decoding. What every core may do on its own.

use counterfoil_evidence::record::{RecordError, decode_canonical, decode_entry, decode_record};
use counterfoil_evidence::replay::{Prepared, prepare};
use counterfoil_evidence::v1;
use counterfoil_tlog::hash::{Hash, leaf_hash};
use counterfoil_tlog::merkle;
use counterfoil_tlog::tile::{TILE_WIDTH, TileKind, TilePath, decode_entries, decode_hashes};
use prost::Message as _;

use crate::bundle::{BundleReader, path};

/// Longest entry bundle: 256 entries of 65,535 bytes with their lengths.
const ENTRIES_BYTES_MAX: u64 = 256 * 65_537;

/// An entry bundle and the tile of its leaf hashes, looked at alone.
#[derive(Debug)]
pub(crate) struct Tile {
    /// Position of the first entry.
    pub(crate) start: u64,
    pub(crate) entries: Vec<EntryWork>,
    /// Leaf hashes of the entries, recomputed.
    pub(crate) leaves: Vec<Hash>,
    /// Leaf hashes as the tile has them.
    pub(crate) stored: Vec<Hash>,
    /// Root over `leaves`, for full tiles.
    pub(crate) root: Hash,
    /// Root over `stored`, for full tiles.
    pub(crate) stored_root: Hash,
    /// What is wrong with the files themselves.
    pub(crate) flaws: Vec<String>,
}

/// An entry, looked at alone.
#[derive(Debug)]
pub(crate) struct EntryWork {
    /// The entry; `None` when its bytes are none.
    pub(crate) entry: Option<v1::Entry>,
    /// The record inside; `None` when its bytes are none.
    pub(crate) prepared: Option<Prepared>,
    /// Why its bytes are not canonical.
    pub(crate) flaw: Option<RecordError>,
}

/// Reads the tile at an index of a log of `size` entries.
pub(crate) fn read_tile(bundle: &BundleReader, index: u64, size: u64) -> Tile {
    let start = index.saturating_mul(u64::from(TILE_WIDTH));
    let mut tile = Tile {
        start,
        entries: Vec::new(),
        leaves: Vec::new(),
        stored: Vec::new(),
        root: Hash([0; 32]),
        stored_root: Hash([0; 32]),
        flaws: Vec::new(),
    };
    let Some(entries_path) = TilePath::in_log(TileKind::Entries, index, size) else {
        return tile;
    };
    match read(bundle, &entries_path, ENTRIES_BYTES_MAX) {
        Ok(bytes) => match decode_entries(&bytes, entries_path.width()) {
            Ok(entries) => {
                tile.leaves = entries.iter().map(|bytes| leaf_hash(bytes)).collect();
                tile.entries = entries.into_iter().map(read_entry).collect();
            }
            Err(error) => tile.flaws.push(format!("{entries_path}: {error}")),
        },
        Err(why) => tile.flaws.push(why),
    }
    match read_hashes(bundle, TileKind::Hashes { level: 0 }, index, size) {
        Ok(hashes) => tile.stored = hashes,
        Err(why) => tile.flaws.push(why),
    }
    if entries_path.width() == TILE_WIDTH {
        tile.root = merkle::root(&tile.leaves);
        tile.stored_root = if tile.stored == tile.leaves {
            tile.root
        } else {
            merkle::root(&tile.stored)
        };
    }
    tile
}

/// Reads a hash tile as wide as a log of `size` entries has it.
pub(crate) fn read_hashes(
    bundle: &BundleReader,
    kind: TileKind,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, String> {
    let tile = TilePath::in_log(kind, index, size).ok_or("there is no such tile")?;
    let bytes = read(bundle, &tile, u64::from(TILE_WIDTH) * 32 + 1)?;
    decode_hashes(&bytes, tile.width()).map_err(|error| format!("{tile}: {error}"))
}

fn read(bundle: &BundleReader, tile: &TilePath, limit: u64) -> Result<Vec<u8>, String> {
    let file = format!("{}{tile}", path::LOG);
    if bundle.size(&file).is_none() {
        return Err(format!("{tile} is missing"));
    }
    bundle.read(&file, limit).map_err(|error| error.to_string())
}

/// Decodes an entry. What is readable but not canonical is still replayed, so that all that is wrong with it is told.
fn read_entry(bytes: &[u8]) -> EntryWork {
    let (entry, flaw) = match decode_entry(bytes) {
        Ok(entry) => (Some(entry), None),
        Err(error) => (v1::Entry::decode(bytes).ok(), Some(error)),
    };
    let Some(mut entry) = entry else {
        return EntryWork {
            entry: None,
            prepared: None,
            flaw,
        };
    };
    let (record, record_flaw) = match decode_record(&entry.record) {
        Ok(record) => (Some(record), None),
        Err(error) => (
            v1::Record::decode(entry.record.as_slice()).ok(),
            Some(error),
        ),
    };
    let prepared = record.map(|record| prepare(&entry.record, record));
    // A re-encoded entry that differs hides something even if its record is fine.
    let flaw = flaw
        .or(record_flaw)
        .or_else(|| decode_canonical::<v1::Entry>(bytes, "entry").err());
    entry.record.shrink_to_fit();
    EntryWork {
        entry: Some(entry),
        prepared,
        flaw,
    }
}
