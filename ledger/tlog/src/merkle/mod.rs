//! The append-only Merkle tree of [RFC 6962 §2.1] (= [RFC 9162 §2.1]) over SHA-256: roots, proofs, verification.
//!
//! Invariants:
//! - A proof's length is a function of the positions it is about; a proof of another length is refused before hashing.
//! - The empty tree has the root `SHA-256("")`; a consistency proof from size 0 accepts no other old root.
//! - Proofs are made from hashes of *perfect subtrees* ([`HashReader`]), so that memory, tiles and database rows serve alike.
//!
//! Not here: subtrees that start elsewhere than at a multiple of their size, and storage.
//!
//! [RFC 6962 §2.1]: https://www.rfc-editor.org/rfc/rfc6962#section-2.1
//! [RFC 9162 §2.1]: https://www.rfc-editor.org/rfc/rfc9162#section-2.1

mod frontier;
mod prove;
mod tree;
mod verify;

pub use frontier::{FRONTIER_BYTES_MAX, Frontier};
pub use prove::{
    HashReader, consistency_proof, consistency_proof_of_leaves, consistency_subtrees,
    inclusion_proof, inclusion_proof_of_leaves, inclusion_subtrees, root_from,
};
pub use tree::MerkleTree;
pub use verify::{
    consistency_proof_length, inclusion_proof_length, verify_consistency, verify_inclusion,
};

use crate::hash::Hash;

/// Why a proof cannot be made, or is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    /// The index is not below the size.
    #[error("index {index} is not inside a tree of size {size}")]
    IndexOutOfRange {
        /// The index asked for.
        index: u64,
        /// The size of the tree.
        size: u64,
    },
    /// The old tree is larger than the new one.
    #[error("old size {old_size} is larger than new size {new_size}")]
    SizesReversed {
        /// The size said to be older.
        old_size: u64,
        /// The size said to be newer.
        new_size: u64,
    },
    /// The proof does not have the one length possible for its positions.
    #[error("the proof has {found} hashes instead of {expected}")]
    ProofLength {
        /// The only possible number of hashes.
        expected: usize,
        /// The number of hashes found.
        found: usize,
    },
    /// The hashes do not lead to the root; for a consistency proof, the new root.
    #[error("the proof does not lead to the root")]
    RootMismatch,
    /// The hashes of a consistency proof do not lead to the old root.
    #[error("the proof does not lead to the old root")]
    OldRootMismatch,
    /// The source of hashes does not have the perfect subtree over leaves `index << level ..`.
    #[error("the hash of subtree {index} at level {level} is not available")]
    SubtreeMissing {
        /// The height of the subtree: it covers `2^level` leaves.
        level: u8,
        /// Its position among the subtrees of that height.
        index: u64,
    },
    /// A frontier is not in its canonical encoding.
    #[error("the frontier is not in its canonical encoding")]
    FrontierEncoding,
}

/// The root over leaf hashes, in constant memory.
#[must_use]
pub fn root(leaves: &[Hash]) -> Hash {
    let mut frontier = Frontier::new();
    for leaf in leaves {
        frontier.push(*leaf);
    }
    frontier.root()
}
