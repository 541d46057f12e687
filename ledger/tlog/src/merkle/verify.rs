//! Judging proofs that somebody else made.

use super::MerkleError;
use crate::hash::{Hash, empty_root, node_hash};

/// The only possible number of hashes in the inclusion proof of `index` in a tree of `size`; `None` if `index >= size`.
#[must_use]
pub fn inclusion_proof_length(index: u64, size: u64) -> Option<usize> {
    let last = size.checked_sub(1)?;
    if index > last {
        return None;
    }
    let inner = bit_length(index ^ last);
    let border = index.checked_shr(inner).unwrap_or(0).count_ones();
    Some((inner + border) as usize)
}

/// The only possible number of hashes in the consistency proof between two sizes; `None` if they are reversed.
#[must_use]
pub fn consistency_proof_length(old_size: u64, new_size: u64) -> Option<usize> {
    if old_size > new_size {
        return None;
    }
    if old_size == 0 || old_size == new_size {
        return Some(0);
    }
    // The path of the last old leaf, from the node on that ends with it; that node itself unless it is the old root.
    let path = inclusion_proof_length(old_size - 1, new_size)?;
    let skipped = old_size.trailing_zeros() as usize;
    let seed = usize::from(!old_size.is_power_of_two());
    Some(path - skipped + seed)
}

fn bit_length(number: u64) -> u32 {
    u64::BITS - number.leading_zeros()
}

/// Checks that `leaf` is at `index` of the tree with this `size` and `root` ([RFC 9162 §2.1.3.2]).
///
/// [RFC 9162 §2.1.3.2]: https://www.rfc-editor.org/rfc/rfc9162#section-2.1.3.2
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), MerkleError> {
    let expected =
        inclusion_proof_length(index, size).ok_or(MerkleError::IndexOutOfRange { index, size })?;
    check_length(expected, proof)?;
    let (mut at, mut last) = (index, size - 1);
    let mut computed = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(MerkleError::RootMismatch);
        }
        if at & 1 == 1 || at == last {
            computed = node_hash(sibling, &computed);
            skip_missing_levels(&mut at, &mut last);
        } else {
            computed = node_hash(&computed, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    if last == 0 && computed == *root {
        Ok(())
    } else {
        Err(MerkleError::RootMismatch)
    }
}

/// Checks that the tree `(new_size, new_root)` only appended to `(old_size, old_root)` ([RFC 9162 §2.1.4.2]).
///
/// From size 0 the proof is empty and the old root must be the empty tree's: an unknown root is never taken on trust.
///
/// [RFC 9162 §2.1.4.2]: https://www.rfc-editor.org/rfc/rfc9162#section-2.1.4.2
pub fn verify_consistency(
    old_size: u64,
    old_root: &Hash,
    new_size: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), MerkleError> {
    let expected = consistency_proof_length(old_size, new_size)
        .ok_or(MerkleError::SizesReversed { old_size, new_size })?;
    check_length(expected, proof)?;
    if (old_size == 0 && *old_root != empty_root()) || (new_size == 0 && *new_root != empty_root())
    {
        return Err(MerkleError::OldRootMismatch);
    }
    if old_size == 0 {
        return Ok(());
    }
    if old_size == new_size {
        return if old_root == new_root {
            Ok(())
        } else {
            Err(MerkleError::RootMismatch)
        };
    }
    let (seed, rest) = if old_size.is_power_of_two() {
        (*old_root, proof)
    } else {
        let (seed, rest) = proof.split_first().ok_or(MerkleError::RootMismatch)?;
        (*seed, rest)
    };
    let skipped = old_size.trailing_zeros();
    let (mut at, mut last) = ((old_size - 1) >> skipped, (new_size - 1) >> skipped);
    let (mut old, mut new) = (seed, seed);
    for sibling in rest {
        if last == 0 {
            return Err(MerkleError::RootMismatch);
        }
        if at & 1 == 1 || at == last {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
            skip_missing_levels(&mut at, &mut last);
        } else {
            new = node_hash(&new, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    if old != *old_root {
        return Err(MerkleError::OldRootMismatch);
    }
    if last == 0 && new == *new_root {
        Ok(())
    } else {
        Err(MerkleError::RootMismatch)
    }
}

/// On the right edge a node may have no sibling for some levels; it then stands for its parent.
fn skip_missing_levels(at: &mut u64, last: &mut u64) {
    while *at & 1 == 0 && *at != 0 {
        *at >>= 1;
        *last >>= 1;
    }
}

fn check_length(expected: usize, proof: &[Hash]) -> Result<(), MerkleError> {
    if proof.len() == expected {
        return Ok(());
    }
    Err(MerkleError::ProofLength {
        expected,
        found: proof.len(),
    })
}
