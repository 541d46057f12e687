//! SHA-256 hashes and the three ways in which the tree uses them ([RFC 6962 §2.1]).
//!
//! Leaves and inner nodes are hashed with different first bytes, so that no leaf can pass for a node.
//!
//! [RFC 6962 §2.1]: https://www.rfc-editor.org/rfc/rfc6962#section-2.1

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

const LEAF_PREFIX: [u8; 1] = [0x00];
const NODE_PREFIX: [u8; 1] = [0x01];

/// The length of a hash in bytes.
pub const HASH_BYTES: usize = 32;

/// A SHA-256 hash. `Display` and `Debug` print lower-case hex; [`Hash::to_base64`] is the form used inside notes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; HASH_BYTES]);

/// Why a hash could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The bytes are not exactly 32.
    #[error("a hash has 32 bytes, not {0}")]
    Length(usize),
    /// The text is not canonical, padded, standard base64.
    #[error("a hash is not canonical base64")]
    Base64,
}

impl Hash {
    /// Canonical standard base64 with padding: always 44 characters.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// Reads canonical standard base64 only: padding present, unused bits zero, no white space.
    pub fn from_base64(text: &str) -> Result<Self, HashError> {
        let bytes = STANDARD.decode(text).map_err(|_| HashError::Base64)?;
        Self::try_from(bytes.as_slice())
    }

    /// The bytes of the hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; HASH_BYTES] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl AsRef<[u8]> for Hash {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<[u8; HASH_BYTES]> for Hash {
    fn from(bytes: [u8; HASH_BYTES]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<&[u8]> for Hash {
    type Error = HashError;

    fn try_from(bytes: &[u8]) -> Result<Self, HashError> {
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| HashError::Length(bytes.len()))
    }
}

/// Plain SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Hash {
    Hash(Sha256::digest(bytes).into())
}

/// The hash of a leaf: `SHA-256(0x00 || data)`.
#[must_use]
pub fn leaf_hash(data: &[u8]) -> Hash {
    Hash(
        Sha256::new()
            .chain_update(LEAF_PREFIX)
            .chain_update(data)
            .finalize()
            .into(),
    )
}

/// The hash of an inner node: `SHA-256(0x01 || left || right)`.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hash(
        Sha256::new()
            .chain_update(NODE_PREFIX)
            .chain_update(left.0)
            .chain_update(right.0)
            .finalize()
            .into(),
    )
}

/// The root of the tree without leaves: `SHA-256("")`.
#[must_use]
pub fn empty_root() -> Hash {
    sha256(&[])
}

#[cfg(test)]
mod tests {
    use super::{Hash, HashError, empty_root, leaf_hash, node_hash};

    #[test]
    fn base64_is_read_back_only_in_its_canonical_form() {
        let hash = empty_root();
        let text = hash.to_base64();
        assert_eq!(text, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        assert_eq!(Hash::from_base64(&text), Ok(hash));
        for bad in [
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=",
            "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=",
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
            " 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "",
        ] {
            assert!(Hash::from_base64(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Hash::from_base64("AAAA"), Err(HashError::Length(3)));
    }

    #[test]
    fn a_leaf_made_of_two_hashes_is_not_the_node_over_them() {
        let (left, right) = (leaf_hash(b"l"), leaf_hash(b"r"));
        let joined = [left.0, right.0].concat();
        assert_ne!(leaf_hash(&joined), node_hash(&left, &right));
    }

    #[test]
    fn a_hash_prints_as_hex() {
        assert_eq!(
            empty_root().to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
