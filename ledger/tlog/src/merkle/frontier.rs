//! The right edge of a tree: all that is needed to append to it and to know its root.

use super::prove::{HashReader, perfect_subtrees};
use super::{MerkleError, MerkleTree};
use crate::hash::{HASH_BYTES, Hash, empty_root, node_hash};

/// The longest encoding of a frontier: its size and 64 hashes.
pub const FRONTIER_BYTES_MAX: usize = 8 + 64 * HASH_BYTES;

/// The right edge of a tree: one hash per set bit of its size, the largest perfect subtree first.
///
/// Encoding: the size as 64 bits big endian, then the hashes. The size fixes their number, so there is one encoding only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    edge: Vec<Hash>,
}

impl Frontier {
    /// The frontier of the empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The frontier of the first `size` leaves of a tree whose subtree hashes can be read.
    pub fn read(size: u64, reader: &impl HashReader) -> Result<Self, MerkleError> {
        let edge = perfect_subtrees(0, size)
            .map(|(level, index)| reader.require(level, index))
            .collect::<Result<_, _>>()?;
        Ok(Self { size, edge })
    }

    /// The number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends one leaf hash. A tree holds at most `2^64 - 1` leaves, which no caller lives to reach.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        // Every trailing one bit of the size is a subtree that the new leaf completes with its right half.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.edge.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.edge.push(node);
        self.size = self.size.saturating_add(1);
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut smallest_first = self.edge.iter().rev();
        let Some(smallest) = smallest_first.next() else {
            return empty_root();
        };
        smallest_first.fold(*smallest, |right, left| node_hash(left, &right))
    }

    /// The perfect subtrees as `(level, index, hash)`, the largest first.
    pub fn subtrees(&self) -> impl Iterator<Item = (u8, u64, Hash)> + '_ {
        perfect_subtrees(0, self.size)
            .zip(&self.edge)
            .map(|((level, index), hash)| (level, index, *hash))
    }

    /// A tree that grows from here: it proves what concerns new leaves, and nothing about single old ones.
    #[must_use]
    pub fn grow(&self) -> MerkleTree {
        MerkleTree::from_frontier(self)
    }

    /// The one encoding of the frontier.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.edge.len() * HASH_BYTES);
        bytes.extend_from_slice(&self.size.to_be_bytes());
        for hash in &self.edge {
            bytes.extend_from_slice(hash.as_bytes());
        }
        bytes
    }

    /// Reads [`Frontier::to_bytes`]; missing or trailing bytes are refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MerkleError> {
        let (size, hashes) = bytes
            .split_first_chunk::<8>()
            .ok_or(MerkleError::FrontierEncoding)?;
        let size = u64::from_be_bytes(*size);
        let (hashes, rest) = hashes.as_chunks::<HASH_BYTES>();
        if !rest.is_empty() || hashes.len() as u64 != u64::from(size.count_ones()) {
            return Err(MerkleError::FrontierEncoding);
        }
        Ok(Self {
            size,
            edge: hashes.iter().map(|hash| Hash(*hash)).collect(),
        })
    }
}
