//! A tree in memory that holds every perfect subtree from some leaf on.

use super::{Frontier, HashReader, MerkleError, consistency_proof, inclusion_proof, root_from};
use crate::hash::{Hash, node_hash};

/// An append-only tree in memory: the root at any size it has had, and every proof, at 64 bytes a leaf.
///
/// Grown from a [`Frontier`] it holds only that edge and what came after: then it proves the inclusion of new leaves
/// and the consistency from the old size on, and answers [`MerkleError::SubtreeMissing`] for the rest.
#[derive(Debug, Clone, Default)]
pub struct MerkleTree {
    size: u64,
    levels: Vec<Level>,
}

/// The subtrees of one height that are held, without gaps.
#[derive(Debug, Clone, Default)]
struct Level {
    first_index: u64,
    hashes: Vec<Hash>,
}

impl Level {
    fn get(&self, index: u64) -> Option<Hash> {
        let offset = usize::try_from(index.checked_sub(self.first_index)?).ok()?;
        self.hashes.get(offset).copied()
    }
}

impl MerkleTree {
    /// The empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A tree over leaf hashes.
    #[must_use]
    pub fn from_leaves(leaves: Vec<Hash>) -> Self {
        let size = leaves.len() as u64;
        let mut levels = Vec::new();
        let mut hashes = leaves;
        while !hashes.is_empty() {
            let (pairs, _) = hashes.as_chunks::<2>();
            let parents = pairs
                .iter()
                .map(|[left, right]| node_hash(left, right))
                .collect();
            levels.push(Level {
                first_index: 0,
                hashes,
            });
            hashes = parents;
        }
        Self { size, levels }
    }

    /// A tree that continues from a frontier.
    #[must_use]
    pub fn from_frontier(frontier: &Frontier) -> Self {
        let size = frontier.size();
        let heights = u64::BITS - size.leading_zeros();
        let mut levels: Vec<Level> = (0..heights)
            .map(|level| Level {
                first_index: size >> level,
                hashes: Vec::new(),
            })
            .collect();
        for (level, index, hash) in frontier.subtrees() {
            if let Some(level) = levels.get_mut(usize::from(level)) {
                *level = Level {
                    first_index: index,
                    hashes: vec![hash],
                };
            }
        }
        Self { size, levels }
    }

    /// The number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends one leaf hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        let completed = self.size.trailing_ones() as usize;
        if self.levels.len() <= completed {
            self.levels.resize_with(completed + 1, Level::default);
        }
        for (height, level) in self.levels.iter_mut().take(completed + 1).enumerate() {
            let left = level.hashes.last().copied();
            level.hashes.push(node);
            if height < completed
                && let Some(left) = left
            {
                node = node_hash(&left, &node);
            }
        }
        self.size = self.size.saturating_add(1);
    }

    /// The root of the whole tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.frontier().root()
    }

    /// The root when the tree had `size` leaves.
    pub fn root_at(&self, size: u64) -> Result<Hash, MerkleError> {
        self.check_size(size)?;
        root_from(self, size)
    }

    /// The right edge of the whole tree.
    #[must_use]
    pub fn frontier(&self) -> Frontier {
        // The edge is always held, so there is nothing to miss.
        Frontier::read(self.size, self).unwrap_or_default()
    }

    /// The right edge when the tree had `size` leaves.
    pub fn frontier_at(&self, size: u64) -> Result<Frontier, MerkleError> {
        self.check_size(size)?;
        Frontier::read(size, self)
    }

    /// The hash of leaf `index`.
    #[must_use]
    pub fn leaf(&self, index: u64) -> Option<Hash> {
        self.subtree(0, index)
    }

    /// The inclusion proof of leaf `index` in the tree as it was with `size` leaves.
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Hash>, MerkleError> {
        self.check_size(size)?;
        inclusion_proof(self, index, size)
    }

    /// The consistency proof between two sizes the tree has had.
    pub fn consistency_proof(
        &self,
        old_size: u64,
        new_size: u64,
    ) -> Result<Vec<Hash>, MerkleError> {
        self.check_size(new_size)?;
        consistency_proof(self, old_size, new_size)
    }

    fn check_size(&self, size: u64) -> Result<(), MerkleError> {
        if size > self.size {
            return Err(MerkleError::SizesReversed {
                old_size: size,
                new_size: self.size,
            });
        }
        Ok(())
    }
}

impl HashReader for MerkleTree {
    fn subtree(&self, level: u8, index: u64) -> Option<Hash> {
        self.levels.get(usize::from(level))?.get(index)
    }
}
