//! Paths: reading, writing and checking them.

use super::{EMPTY, LEVELS, MapLeaf, above, bit};
use crate::hash::{HASH_BYTES, Hash};

/// Why the bytes are not a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// There are not as many hashes as the bitmap says.
    #[error("a path with {expected} hashes has {} bytes, not {found}", 32 + 32 * expected)]
    Length {
        /// Hashes that the bitmap announces.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// An empty subtree is written, which a path leaves out.
    #[error("a path leaves out what is empty")]
    Empty,
}

/// What stands beside the way from the root of a map to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapPath {
    bitmap: Hash,
    /// From the leaf up, without the empty ones.
    beside: Vec<Hash>,
}

impl MapPath {
    /// From what stands beside the way, with the depth of the node above it, from the root down.
    pub(super) fn new(from_root: Vec<(u16, Hash)>) -> Self {
        let mut bitmap = EMPTY;
        for (depth, _) in &from_root {
            if let Some(byte) = bitmap.0.get_mut(usize::from(depth / 8)) {
                *byte |= 0x80 >> (depth % 8);
            }
        }
        let beside = from_root.into_iter().rev().map(|(_, hash)| hash);
        Self {
            bitmap,
            beside: beside.collect(),
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let hashes = std::iter::once(&self.bitmap).chain(&self.beside);
        hashes.flat_map(|hash| hash.0).collect()
    }

    /// Reads the one encoding that a path has.
    ///
    /// # Errors
    /// When the length is not what the bitmap says, or an empty subtree is written.
    pub fn decode(bytes: &[u8]) -> Result<Self, PathError> {
        let length = |expected| PathError::Length {
            expected,
            found: bytes.len(),
        };
        let (bitmap, rest) = bytes.split_first_chunk().ok_or(length(0))?;
        let set: u32 = bitmap.iter().map(|byte| byte.count_ones()).sum();
        let expected = usize::try_from(set).unwrap_or(usize::MAX);
        let (hashes, left_over) = rest.as_chunks::<HASH_BYTES>();
        if hashes.len() != expected || !left_over.is_empty() {
            return Err(length(expected));
        }
        let beside: Vec<Hash> = hashes.iter().map(|hash| Hash(*hash)).collect();
        if beside.contains(&EMPTY) {
            return Err(PathError::Empty);
        }
        Ok(Self {
            bitmap: Hash(*bitmap),
            beside,
        })
    }

    /// Whether the map with this root has this leaf.
    #[must_use]
    pub fn includes(&self, root: &Hash, leaf: &MapLeaf) -> bool {
        self.root(&leaf.key, leaf.hash()) == Some(*root)
    }

    /// Whether the map with this root has nothing under this key.
    #[must_use]
    pub fn excludes(&self, root: &Hash, key: &Hash) -> bool {
        self.root(key, EMPTY) == Some(*root)
    }

    /// The root over a hash at the place of a key.
    fn root(&self, key: &Hash, leaf: Hash) -> Option<Hash> {
        let (mut hash, mut beside) = (leaf, self.beside.iter());
        for depth in (0..LEVELS).rev() {
            let other = if bit(&self.bitmap, depth) {
                beside.next()?
            } else {
                &EMPTY
            };
            hash = above(key, depth, &hash, other);
        }
        beside.next().is_none().then_some(hash)
    }
}
