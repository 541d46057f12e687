//! Sets that can prove what is **not** in them. The specification is this page; there is no other.
//!
//! A set is a list of leaves, all of one length, each starting with its key, all keys of one length, in strictly ascending
//! byte order of the keys. It is committed to by three values, [`SetRoot`]: the RFC 6962 root over the leaves in that order,
//! their number, and the SHA-256 of the leaves written one after another (the *blob*, by which the whole set is stored
//! and fetched). Whoever holds the blob can make a proof for any key:
//!
//! - **membership**: the leaf that starts with the key, and its inclusion proof;
//! - **non-membership**: the two neighbours between which the key would stand, at adjacent indices, each with its inclusion
//!   proof. Before the first leaf there is only a right neighbour, at index 0; after the last only a left one, at index
//!   `count - 1`; in the empty set, whose root is that of the empty tree, neither.
//!
//! The proofs hold if the committed list is in order. A verifier of one proof cannot see that: whoever commits to a set vouches
//! for it, and whoever holds the blob can check it with [`SortedSet::from_leaves`] and [`SetRoot`].
//!
//! Encoding of a proof, integers big endian, nothing may follow:
//!
//! ```text
//! proof     = 0x01 (version), kind, neighbours
//! kind      = 0x00 membership: one neighbour, the leaf itself
//!           | 0x01 non-membership, empty set: no neighbour
//!           | 0x02 non-membership, left neighbour only
//!           | 0x03 non-membership, right neighbour only
//!           | 0x04 non-membership, left neighbour, then right neighbour
//! neighbour = u64 index, u16 length of leaf, leaf, u8 length of path, 32 bytes for each hash of the path
//! ```
//!
//! Not here: who commits to which set, and updating a set; a new reading is a new set.

mod build;
mod proof;

pub use build::{SortedSet, SortedSetBuilder};
pub use proof::{Neighbour, SetProof, verify_membership, verify_non_membership};

use crate::hash::Hash;
use crate::merkle::MerkleError;

/// The longest leaf, because its length is written in 16 bits.
pub const LEAF_BYTES_MAX: usize = 65_535;

/// What a set is committed to by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetRoot {
    /// The RFC 6962 root over the leaves.
    pub root: Hash,
    /// The number of leaves.
    pub count: u64,
    /// The SHA-256 of all leaves written one after another.
    pub blob_sha256: Hash,
}

/// Why a set cannot be built, or a proof is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// Key and leaf lengths that no set can have.
    #[error("a set cannot have keys of {key_bytes} bytes in leaves of {leaf_bytes}")]
    Lengths {
        /// The length of a key.
        key_bytes: usize,
        /// The length of a leaf.
        leaf_bytes: usize,
    },
    /// A leaf has another length than the leaves of this set.
    #[error("leaf {index} has {found} bytes instead of {expected}")]
    LeafLength {
        /// The position of the leaf.
        index: u64,
        /// The length of all leaves.
        expected: usize,
        /// The length found.
        found: usize,
    },
    /// The key of a leaf is not above the one before it.
    #[error("the key of leaf {index} is not above the one before it")]
    NotAscending {
        /// The position of the leaf.
        index: u64,
    },
    /// A key has another length than the keys of this set.
    #[error("a key has {found} bytes instead of {expected}")]
    KeyLength {
        /// The length of all keys.
        expected: usize,
        /// The length found.
        found: usize,
    },
    /// The bytes are not the encoding of a proof.
    #[error("malformed set proof: {0}")]
    Encoding(&'static str),
    /// The proof is of the other kind than asked for.
    #[error("the proof says the opposite of what it should prove")]
    OtherKind,
    /// The leaf does not start with the key.
    #[error("the proof is about another key")]
    OtherKey,
    /// The neighbours do not enclose the key, are not adjacent, or are missing without being beyond an end.
    #[error("the neighbours do not prove the key absent: {0}")]
    Gap(&'static str),
    /// A neighbour is not in the set.
    #[error(transparent)]
    Inclusion(#[from] MerkleError),
}
