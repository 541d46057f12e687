//! Making proofs out of the hashes of perfect subtrees.

use std::cell::RefCell;

use super::{MerkleError, MerkleTree};
use crate::hash::{Hash, empty_root, node_hash};

/// A source of the hashes of perfect subtrees of one tree: memory, tiles, database rows.
///
/// What it returns is believed when a proof is *made*; whoever receives the proof verifies it against a signed root.
pub trait HashReader {
    /// The hash over the `2^level` leaves that start at leaf `index << level`, or `None` if it cannot be had.
    fn subtree(&self, level: u8, index: u64) -> Option<Hash>;

    /// As [`HashReader::subtree`], with the error that names what is missing.
    fn require(&self, level: u8, index: u64) -> Result<Hash, MerkleError> {
        self.subtree(level, index)
            .ok_or(MerkleError::SubtreeMissing { level, index })
    }
}

impl<R: HashReader + ?Sized> HashReader for &R {
    fn subtree(&self, level: u8, index: u64) -> Option<Hash> {
        (**self).subtree(level, index)
    }
}

/// The perfect subtrees that make up the leaves `start..end`, from the left, as `(level, index)`.
///
/// `start` must be a multiple of the largest of them, as it is for every node of a tree.
pub(super) fn perfect_subtrees(start: u64, end: u64) -> impl Iterator<Item = (u8, u64)> {
    let mut next = start;
    std::iter::from_fn(move || {
        let level = end.checked_sub(next)?.checked_ilog2()?;
        let index = next.checked_shr(level)?;
        next += 1 << level;
        Some((u8::try_from(level).ok()?, index))
    })
}

/// The hash of the node over the leaves `start..end`.
fn node(reader: &impl HashReader, start: u64, end: u64) -> Result<Hash, MerkleError> {
    let mut hashes = Vec::with_capacity(8);
    for (level, index) in perfect_subtrees(start, end) {
        hashes.push(reader.require(level, index)?);
    }
    let folded = hashes
        .into_iter()
        .rev()
        .reduce(|right, left| node_hash(&left, &right));
    Ok(folded.unwrap_or_else(empty_root))
}

/// The largest power of two below `count`, which must be at least 2: where RFC 6962 splits a tree.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// The root of the first `size` leaves.
pub fn root_from(reader: &impl HashReader, size: u64) -> Result<Hash, MerkleError> {
    node(reader, 0, size)
}

/// The proof that leaf `index` is in the tree of `size` leaves: siblings, the leaf's own first.
pub fn inclusion_proof(
    reader: &impl HashReader,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, MerkleError> {
    if index >= size {
        return Err(MerkleError::IndexOutOfRange { index, size });
    }
    let (mut start, mut end) = (0, size);
    let mut root_first = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            root_first.push(node(reader, middle, end)?);
            end = middle;
        } else {
            root_first.push(node(reader, start, middle)?);
            start = middle;
        }
    }
    root_first.reverse();
    Ok(root_first)
}

/// The proof that the tree of `new_size` leaves only appended to the tree of `old_size` leaves.
///
/// It is empty if the sizes are equal or the old one is 0.
pub fn consistency_proof(
    reader: &impl HashReader,
    old_size: u64,
    new_size: u64,
) -> Result<Vec<Hash>, MerkleError> {
    if old_size > new_size {
        return Err(MerkleError::SizesReversed { old_size, new_size });
    }
    if old_size == 0 || old_size == new_size {
        return Ok(Vec::new());
    }
    let (mut start, mut end) = (0, new_size);
    let mut root_first = Vec::new();
    // Descend to the node that ends exactly where the old tree ended.
    while end != old_size {
        let middle = start + split(end - start);
        if old_size <= middle {
            root_first.push(node(reader, middle, end)?);
            end = middle;
        } else {
            root_first.push(node(reader, start, middle)?);
            start = middle;
        }
    }
    // If that node is the whole old tree, the verifier has its hash already: it is the old root.
    if start != 0 {
        root_first.push(node(reader, start, end)?);
    }
    root_first.reverse();
    Ok(root_first)
}

/// [`inclusion_proof`] from leaf hashes alone; hashes the whole tree, so for one proof of a small tree.
pub fn inclusion_proof_of_leaves(leaves: &[Hash], index: u64) -> Result<Vec<Hash>, MerkleError> {
    let tree = MerkleTree::from_leaves(leaves.to_vec());
    inclusion_proof(&tree, index, tree.size())
}

/// [`consistency_proof`] from leaf hashes alone; hashes the whole tree, so for one proof of a small tree.
pub fn consistency_proof_of_leaves(
    leaves: &[Hash],
    old_size: u64,
) -> Result<Vec<Hash>, MerkleError> {
    let tree = MerkleTree::from_leaves(leaves.to_vec());
    consistency_proof(&tree, old_size, tree.size())
}

/// The subtrees as `(level, index)` that [`inclusion_proof`] will ask for, so that they can be fetched beforehand.
pub fn inclusion_subtrees(index: u64, size: u64) -> Result<Vec<(u8, u64)>, MerkleError> {
    let asked = Asked::default();
    inclusion_proof(&asked, index, size)?;
    Ok(asked.0.into_inner())
}

/// The subtrees as `(level, index)` that [`consistency_proof`] will ask for, so that they can be fetched beforehand.
pub fn consistency_subtrees(old_size: u64, new_size: u64) -> Result<Vec<(u8, u64)>, MerkleError> {
    let asked = Asked::default();
    consistency_proof(&asked, old_size, new_size)?;
    Ok(asked.0.into_inner())
}

/// Notes what is asked for and answers with zeros.
#[derive(Default)]
struct Asked(RefCell<Vec<(u8, u64)>>);

impl HashReader for Asked {
    fn subtree(&self, level: u8, index: u64) -> Option<Hash> {
        self.0.borrow_mut().push((level, index));
        Some(Hash([0; 32]))
    }
}
