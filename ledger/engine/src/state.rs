//! The right edge of a log in memory: all that is needed to append to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use counterfoil_tlog::merkle::{Frontier, HashReader, MerkleError, root};
use counterfoil_tlog::tile::TILE_WIDTH;
use counterfoil_tlog::{Hash, NoteSigner};

use crate::key_book::KeyBook;
use crate::labels::Labels;
use crate::model::{LogInfo, StreamHead};

const WIDTH: usize = TILE_WIDTH as usize;
/// Levels of the tree between two levels of tiles.
pub(crate) const TILE_HEIGHT: u8 = 8;

/// What a state takes without anything in it: its names, keys, checkpoint and frontier, and what the maps that have it take.
const FIXED_BYTES: usize = 4 << 10;
/// What the labels of an entry take: their names, three subjects and what the allocator adds.
const LABELS_BYTES: usize = 320;
/// What a stream or a producer's key takes.
const NAMED_BYTES: usize = 512;

/// A log as its next entry finds it. Only ever replaced as a whole, after a commit.
#[derive(Debug, Clone)]
pub(crate) struct LogState {
    pub(crate) info: Arc<LogInfo>,
    pub(crate) signer: Arc<NoteSigner>,
    pub(crate) size: u64,
    pub(crate) root: Hash,
    pub(crate) checkpoint: Arc<str>,
    pub(crate) recorded_at_ms: i64,
    /// Leaf hash of the last entry; zeros when there is none.
    pub(crate) last_leaf: Hash,
    pub(crate) frontier: Frontier,
    pub(crate) edge: TileEdge,
    /// What the entries of the growing bundle are found by.
    pub(crate) bundle: Vec<Arc<Labels>>,
    pub(crate) streams: BTreeMap<String, StreamHead>,
    pub(crate) keys: Arc<KeyBook>,
}

impl LogState {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let edge: usize = self.edge.levels.iter().map(Vec::capacity).sum();
        FIXED_BYTES
            + edge * size_of::<Hash>()
            + self.bundle.len() * LABELS_BYTES
            + (self.streams.len() + self.keys.keys.len()) * NAMED_BYTES
    }
}

/// The last, not yet full tile of each level, lowest level first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TileEdge {
    size: u64,
    levels: Vec<Vec<Hash>>,
}

/// A tile that became full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FullTile {
    pub(crate) level: u8,
    pub(crate) n: u64,
    pub(crate) hashes: Vec<Hash>,
}

impl TileEdge {
    /// The edge of a log of this size from the hashes of its partial tiles; `None` when their number does not fit.
    pub(crate) fn new(size: u64, levels: Vec<Vec<Hash>>) -> Option<Self> {
        let fits = (0..8_u8).all(|level| {
            let expected = partial_width(level, size);
            levels.get(usize::from(level)).map_or(0, Vec::len) == expected
        });
        fits.then_some(Self { size, levels })
    }

    /// Appends a leaf hash; full tiles are handed out, lowest level first.
    pub(crate) fn push(&mut self, leaf: Hash, full: &mut Vec<FullTile>) {
        let mut hash = leaf;
        self.size = self.size.saturating_add(1);
        for level in 0..TILE_HEIGHT {
            let at = usize::from(level);
            if self.levels.len() <= at {
                self.levels.push(Vec::with_capacity(WIDTH));
            }
            let Some(tile) = self.levels.get_mut(at) else {
                return;
            };
            tile.push(hash);
            if tile.len() < WIDTH {
                return;
            }
            hash = root(tile);
            let n = (self.size >> (u32::from(level) * 8)) / u64::from(TILE_WIDTH) - 1;
            let hashes = std::mem::take(tile);
            full.push(FullTile { level, n, hashes });
        }
    }

    /// The hashes of a level's partial tile.
    pub(crate) fn partial(&self, level: u8) -> &[Hash] {
        self.levels
            .get(usize::from(level))
            .map_or(&[], Vec::as_slice)
    }

    /// The levels that have a partial tile or could have one.
    pub(crate) fn heights(&self) -> u8 {
        u8::try_from(self.levels.len()).unwrap_or(TILE_HEIGHT)
    }

    /// Position of a level's partial tile.
    pub(crate) fn partial_index(&self, level: u8) -> u64 {
        (self.size >> (u32::from(level) * 8)) / u64::from(TILE_WIDTH)
    }

    /// The frontier that the partial tiles imply.
    pub(crate) fn frontier(&self) -> Result<Frontier, MerkleError> {
        Frontier::read(self.size, self)
    }
}

impl HashReader for TileEdge {
    fn subtree(&self, level: u8, index: u64) -> Option<Hash> {
        let tile_level = level / TILE_HEIGHT;
        let spread = u32::from(level % TILE_HEIGHT);
        let start = self.partial_index(tile_level) * u64::from(TILE_WIDTH);
        let first = usize::try_from(index.checked_shl(spread)?.checked_sub(start)?).ok()?;
        let hashes = self.partial(tile_level).get(first..first + (1 << spread))?;
        Some(root(hashes))
    }
}

/// How many hashes the partial tile of a level has in a log of this size.
pub(crate) fn partial_width(level: u8, size: u64) -> usize {
    let hashes = size.checked_shr(u32::from(level) * 8).unwrap_or(0);
    // A remainder of 256 always fits.
    usize::try_from(hashes % u64::from(TILE_WIDTH)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use counterfoil_tlog::hash::leaf_hash;
    use counterfoil_tlog::merkle::MerkleTree;

    use super::*;

    #[test]
    fn the_edge_implies_the_frontier_at_every_size() {
        let (mut edge, mut tree) = (TileEdge::default(), MerkleTree::new());
        let mut full = Vec::new();
        for number in 0..66_000_u64 {
            if number % 251 == 0 || number % 256 < 2 {
                assert_eq!(edge.frontier().unwrap(), tree.frontier(), "at {number}");
            }
            let leaf = leaf_hash(&number.to_be_bytes());
            edge.push(leaf, &mut full);
            tree.push(leaf);
        }
        let zero = full.iter().filter(|tile| tile.level == 0).count();
        assert_eq!((zero, full.len() - zero), (257, 1));
        for tile in &full {
            for (offset, hash) in tile.hashes.iter().enumerate() {
                let index = tile.n * 256 + offset as u64;
                assert_eq!(tree.subtree(tile.level * 8, index), Some(*hash));
            }
        }
        let again = TileEdge::new(66_000, edge.levels.clone()).unwrap();
        assert_eq!(again, edge);
        assert!(TileEdge::new(66_001, edge.levels).is_none());
    }
}
