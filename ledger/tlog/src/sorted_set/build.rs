//! Committing to a set, and making proofs from the whole of it.

use sha2::{Digest, Sha256};

use super::{LEAF_BYTES_MAX, Neighbour, SetError, SetProof, SetRoot};
use crate::hash::{Hash, leaf_hash};
use crate::merkle::{Frontier, MerkleTree};

fn check_lengths(key_bytes: usize, leaf_bytes: usize) -> Result<(), SetError> {
    if key_bytes == 0 || leaf_bytes < key_bytes || leaf_bytes > LEAF_BYTES_MAX {
        return Err(SetError::Lengths {
            key_bytes,
            leaf_bytes,
        });
    }
    Ok(())
}

/// The key at the start of a leaf, whose length has been checked.
fn key_of(leaf: &[u8], key_bytes: usize) -> &[u8] {
    leaf.get(..key_bytes).unwrap_or(leaf)
}

/// Commits to a set of any size in constant memory, from leaves that come in ascending order.
#[derive(Debug, Clone)]
pub struct SortedSetBuilder {
    key_bytes: usize,
    leaf_bytes: usize,
    last_key: Option<Vec<u8>>,
    frontier: Frontier,
    blob: Sha256,
}

impl SortedSetBuilder {
    /// A builder for leaves of `leaf_bytes` that start with keys of `key_bytes`.
    pub fn new(key_bytes: usize, leaf_bytes: usize) -> Result<Self, SetError> {
        check_lengths(key_bytes, leaf_bytes)?;
        let (frontier, blob) = (Frontier::new(), Sha256::new());
        Ok(Self {
            key_bytes,
            leaf_bytes,
            last_key: None,
            frontier,
            blob,
        })
    }

    /// Adds a leaf; its key must be above all before it. A refused leaf leaves the builder as it was.
    pub fn push(&mut self, leaf: &[u8]) -> Result<(), SetError> {
        let index = self.frontier.size();
        if leaf.len() != self.leaf_bytes {
            let (expected, found) = (self.leaf_bytes, leaf.len());
            return Err(SetError::LeafLength {
                index,
                expected,
                found,
            });
        }
        let key = key_of(leaf, self.key_bytes);
        match &mut self.last_key {
            Some(last) if key <= last.as_slice() => return Err(SetError::NotAscending { index }),
            Some(last) => last.copy_from_slice(key),
            None => self.last_key = Some(key.to_vec()),
        }
        self.frontier.push(leaf_hash(leaf));
        self.blob.update(leaf);
        Ok(())
    }

    /// The number of leaves so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.frontier.size()
    }

    /// The commitment to the leaves that were added.
    #[must_use]
    pub fn finish(self) -> SetRoot {
        SetRoot {
            root: self.frontier.root(),
            count: self.frontier.size(),
            blob_sha256: Hash(self.blob.finalize().into()),
        }
    }
}

/// A whole set in memory, checked and hashed once, from which any number of proofs is made.
#[derive(Debug, Clone)]
pub struct SortedSet {
    key_bytes: usize,
    leaf_bytes: usize,
    blob: Vec<u8>,
    tree: MerkleTree,
    root: SetRoot,
}

impl SortedSet {
    /// A set from its blob: all leaves one after another. Lengths and order are checked.
    pub fn from_leaves(
        blob: Vec<u8>,
        key_bytes: usize,
        leaf_bytes: usize,
    ) -> Result<Self, SetError> {
        check_lengths(key_bytes, leaf_bytes)?;
        let mut hashes = Vec::with_capacity(blob.len() / leaf_bytes);
        let mut last_key: Option<&[u8]> = None;
        for (index, leaf) in (0_u64..).zip(blob.chunks(leaf_bytes)) {
            if leaf.len() != leaf_bytes {
                return Err(SetError::LeafLength {
                    index,
                    expected: leaf_bytes,
                    found: leaf.len(),
                });
            }
            let key = key_of(leaf, key_bytes);
            if last_key.is_some_and(|last| key <= last) {
                return Err(SetError::NotAscending { index });
            }
            last_key = Some(key);
            hashes.push(leaf_hash(leaf));
        }
        let tree = MerkleTree::from_leaves(hashes);
        let root = SetRoot {
            root: tree.root(),
            count: tree.size(),
            blob_sha256: crate::hash::sha256(&blob),
        };
        Ok(Self {
            key_bytes,
            leaf_bytes,
            blob,
            tree,
            root,
        })
    }

    /// The commitment to this set.
    #[must_use]
    pub fn root(&self) -> SetRoot {
        self.root
    }

    /// The number of leaves.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.root.count
    }

    /// The leaf at a position.
    #[must_use]
    pub fn leaf(&self, index: u64) -> Option<&[u8]> {
        let start = usize::try_from(index).ok()?.checked_mul(self.leaf_bytes)?;
        self.blob.get(start..start.checked_add(self.leaf_bytes)?)
    }

    /// The leaves in their order.
    pub fn leaves(&self) -> impl Iterator<Item = &[u8]> {
        self.blob.chunks_exact(self.leaf_bytes)
    }

    /// All leaves one after another.
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The leaf with this key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.find(key).ok().and_then(|index| self.leaf(index))
    }

    /// The proof that the key is in the set, or that it is not: whichever is true.
    pub fn prove(&self, key: &[u8]) -> Result<SetProof, SetError> {
        if key.len() != self.key_bytes {
            return Err(SetError::KeyLength {
                expected: self.key_bytes,
                found: key.len(),
            });
        }
        match self.find(key) {
            Ok(index) => Ok(SetProof::Membership(self.neighbour(index)?)),
            Err(place) => {
                let left = place
                    .checked_sub(1)
                    .map(|index| self.neighbour(index))
                    .transpose()?;
                let right = (place < self.count())
                    .then(|| self.neighbour(place))
                    .transpose()?;
                Ok(SetProof::NonMembership { left, right })
            }
        }
    }

    /// The position of a key, or the position at which it would stand.
    fn find(&self, key: &[u8]) -> Result<u64, u64> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low + (high - low) / 2;
            let found = self.leaf(middle).map(|leaf| key_of(leaf, self.key_bytes));
            match found.map(|found| found.cmp(key)) {
                Some(std::cmp::Ordering::Equal) => return Ok(middle),
                Some(std::cmp::Ordering::Less) => low = middle + 1,
                Some(std::cmp::Ordering::Greater) | None => high = middle,
            }
        }
        Err(low)
    }

    fn neighbour(&self, index: u64) -> Result<Neighbour, SetError> {
        let path = self.tree.inclusion_proof(index, self.count())?;
        let leaf = self.leaf(index).unwrap_or_default().to_vec();
        Ok(Neighbour { index, leaf, path })
    }
}
