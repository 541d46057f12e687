//! A map in which a key can stand at one place only, and that proves what it has without showing the rest. The specification is
//! this page; there is no other. The anchor log commits to one such map an epoch: the head of every log of a deployment.
//!
//! The map is a binary tree of 256 levels below its root. The key of a log is the SHA-256 of its origin; the bits of the key, the
//! most significant bit of the first byte first, lead from the root to its leaf: 0 to the left, 1 to the right. So a log has one leaf
//! a map and no second one anywhere, whoever made the map: two heads for one origin cannot both be proved under one root.
//!
//! ```text
//! key           = SHA-256(origin)
//! salt          = SHA-256("counterfoil-map-salt/v1" 0x00 || secret[32] || key[32])
//! leaf          = SHA-256("counterfoil-map-leaf/v1" 0x00 || key[32] || u64 size || root[32] || salt[32])
//! empty         = 32 zero bytes: the hash of a subtree of any height that has no leaf
//! node(l, r)    = empty, if l and r are empty; otherwise
//!                 SHA-256("counterfoil-map-node/v1" 0x00 || l[32] || r[32])
//! ```
//!
//! Integers are big endian. `size` and `root` are those of the log's head. The secret is drawn anew for every map; who proves a leaf gives
//! its salt away and never the secret, so the salts of all other leaves, and with them what they hide, stay unknown, and the same head
//! looks another in every map.
//!
//! The path of a key holds, for each of the 256 levels, the node that stands beside the way from the root to the leaf:
//!
//! ```text
//! path          = bitmap[32], then 32 bytes for each bit that is set, from the leaf up
//! ```
//!
//! Bit `i` of the bitmap, the most significant bit of the first byte first, is set if the node beside the way at depth `i + 1` is not empty (the
//! root has depth 0); the empty ones are left out, and nothing that is empty is written. A path is checked by hashing from the
//! leaf up to the root: from the leaf's hash it proves that the map has this head, from `empty` that the map has no log of this key.
//!
//! What a path tells of others: nothing of their names, sizes and roots, which are behind salted hashes; that there are some, and at which
//! depths the keys of some of them part from this one, which is about as many bits as the number of logs has.
//!
//! Not here: drawing secrets, and what a map's root is signed by.

mod path;
mod tree;

pub use path::{MapPath, PathError};
pub use tree::{SparseMap, TwiceError};

use sha2::{Digest, Sha256};

use crate::hash::{Hash, sha256};

const SALT_CONTEXT: &[u8] = b"counterfoil-map-salt/v1\0";
const LEAF_CONTEXT: &[u8] = b"counterfoil-map-leaf/v1\0";
const NODE_CONTEXT: &[u8] = b"counterfoil-map-node/v1\0";

/// Levels below the root: the bits of a key.
pub const LEVELS: u16 = 256;

/// The hash of a subtree without a leaf, and the root of the empty map.
pub const EMPTY: Hash = Hash([0; 32]);

/// Where a log stands in every map.
#[must_use]
pub fn key_of(origin: &str) -> Hash {
    sha256(origin.as_bytes())
}

/// The salt of a leaf, from the secret of its map.
#[must_use]
pub fn salt_of(secret: &[u8; 32], key: &Hash) -> [u8; 32] {
    Sha256::new()
        .chain_update(SALT_CONTEXT)
        .chain_update(secret)
        .chain_update(key)
        .finalize()
        .into()
}

/// What a map says of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapLeaf {
    /// SHA-256 of the log's origin.
    pub key: Hash,
    /// Entries of the log.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
    /// Hides the head from whoever holds the path of another.
    pub salt: [u8; 32],
}

impl MapLeaf {
    /// Its hash.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let hash = Sha256::new()
            .chain_update(LEAF_CONTEXT)
            .chain_update(self.key)
            .chain_update(self.size.to_be_bytes())
            .chain_update(self.root)
            .chain_update(self.salt);
        Hash(hash.finalize().into())
    }
}

/// The hash over two subtrees.
fn node(left: &Hash, right: &Hash) -> Hash {
    if *left == EMPTY && *right == EMPTY {
        return EMPTY;
    }
    let hash = Sha256::new()
        .chain_update(NODE_CONTEXT)
        .chain_update(left)
        .chain_update(right);
    Hash(hash.finalize().into())
}

/// The hash over a subtree on the way to `key` and its neighbour, which both stand at `depth + 1`.
fn above(key: &Hash, depth: u16, on_the_way: &Hash, beside: &Hash) -> Hash {
    if bit(key, depth) {
        node(beside, on_the_way)
    } else {
        node(on_the_way, beside)
    }
}

/// Bit `position` of a string of 256, the most significant bit of the first byte first.
fn bit(bytes: &Hash, position: u16) -> bool {
    let byte = bytes.0.get(usize::from(position / 8)).copied();
    byte.unwrap_or_default() & (0x80 >> (position % 8)) != 0
}
