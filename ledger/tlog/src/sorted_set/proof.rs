//! Proofs about one key of a set: encoding and verification.

use super::SetError;
use crate::hash::{HASH_BYTES, Hash, empty_root, leaf_hash};
use crate::merkle;

const VERSION: u8 = 0x01;
const MEMBERSHIP: u8 = 0x00;
const EMPTY: u8 = 0x01;
const LEFT: u8 = 0x02;
const RIGHT: u8 = 0x03;
const BOTH: u8 = 0x04;

/// A leaf of the set with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Its position in the set.
    pub index: u64,
    /// The leaf itself, at most 65,535 bytes.
    pub leaf: Vec<u8>,
    /// Its inclusion proof, its sibling first.
    pub path: Vec<Hash>,
}

/// What is proved about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetProof {
    /// The key is in the set, with this leaf.
    Membership(Neighbour),
    /// The key is not in the set: it would stand between these two.
    NonMembership {
        /// The leaf with the next lower key.
        left: Option<Neighbour>,
        /// The leaf with the next higher key.
        right: Option<Neighbour>,
    },
}

impl SetProof {
    /// The one encoding of the proof. Leaves and paths longer than a set can have are cut short, and do not verify.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (kind, neighbours) = match self {
            Self::Membership(own) => (MEMBERSHIP, [Some(own), None]),
            Self::NonMembership { left, right } => {
                let kind = match (left, right) {
                    (None, None) => EMPTY,
                    (Some(_), None) => LEFT,
                    (None, Some(_)) => RIGHT,
                    (Some(_), Some(_)) => BOTH,
                };
                (kind, [left.as_ref(), right.as_ref()])
            }
        };
        let mut bytes = vec![VERSION, kind];
        for neighbour in neighbours.into_iter().flatten() {
            neighbour.write(&mut bytes);
        }
        bytes
    }

    /// Reads [`SetProof::to_bytes`] strictly.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SetError> {
        let [version, kind, rest @ ..] = bytes else {
            return Err(SetError::Encoding("it is too short"));
        };
        if *version != VERSION {
            return Err(SetError::Encoding("its version is unknown"));
        }
        let mut rest = rest;
        let mut next = || Neighbour::read(&mut rest).ok_or(SetError::Encoding("it is cut short"));
        let proof = match *kind {
            MEMBERSHIP => Self::Membership(next()?),
            EMPTY => Self::NonMembership {
                left: None,
                right: None,
            },
            LEFT => Self::NonMembership {
                left: Some(next()?),
                right: None,
            },
            RIGHT => Self::NonMembership {
                left: None,
                right: Some(next()?),
            },
            BOTH => Self::NonMembership {
                left: Some(next()?),
                right: Some(next()?),
            },
            _ => return Err(SetError::Encoding("its kind is unknown")),
        };
        if rest.is_empty() {
            Ok(proof)
        } else {
            Err(SetError::Encoding("bytes follow its end"))
        }
    }
}

impl Neighbour {
    fn write(&self, bytes: &mut Vec<u8>) {
        let leaf_bytes = u16::try_from(self.leaf.len()).unwrap_or(u16::MAX);
        let path_length = u8::try_from(self.path.len()).unwrap_or(u8::MAX);
        bytes.extend_from_slice(&self.index.to_be_bytes());
        bytes.extend_from_slice(&leaf_bytes.to_be_bytes());
        bytes.extend(self.leaf.iter().take(usize::from(leaf_bytes)));
        bytes.push(path_length);
        bytes.extend(
            self.path
                .iter()
                .take(usize::from(path_length))
                .flat_map(|hash| hash.0),
        );
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let (index, rest) = bytes.split_first_chunk::<8>()?;
        let (leaf_bytes, rest) = rest.split_first_chunk::<2>()?;
        let (leaf, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*leaf_bytes)))?;
        let (path_length, rest) = rest.split_first()?;
        let (path, rest) = rest.split_at_checked(usize::from(*path_length) * HASH_BYTES)?;
        let (hashes, _) = path.as_chunks::<HASH_BYTES>();
        *bytes = rest;
        Some(Self {
            index: u64::from_be_bytes(*index),
            leaf: leaf.to_vec(),
            path: hashes.iter().map(|hash| Hash(*hash)).collect(),
        })
    }

    /// The part of the leaf that is its key, where keys are as long as `key`.
    fn key_like(&self, key: &[u8]) -> Result<&[u8], SetError> {
        self.leaf.get(..key.len()).ok_or(SetError::KeyLength {
            expected: key.len(),
            found: self.leaf.len(),
        })
    }

    fn verify(&self, root: &Hash, count: u64) -> Result<(), SetError> {
        let leaf = leaf_hash(&self.leaf);
        Ok(merkle::verify_inclusion(
            &leaf, self.index, count, &self.path, root,
        )?)
    }
}

/// Verifies that `key` is in the committed set; answers its leaf.
pub fn verify_membership<'p>(
    root: &Hash,
    count: u64,
    key: &[u8],
    proof: &'p SetProof,
) -> Result<&'p [u8], SetError> {
    let SetProof::Membership(own) = proof else {
        return Err(SetError::OtherKind);
    };
    check_key(key)?;
    if own.key_like(key)? != key {
        return Err(SetError::OtherKey);
    }
    own.verify(root, count)?;
    Ok(&own.leaf)
}

/// Verifies that `key` is not in the committed set, if that is in order, for which its committer vouches.
pub fn verify_non_membership(
    root: &Hash,
    count: u64,
    key: &[u8],
    proof: &SetProof,
) -> Result<(), SetError> {
    let SetProof::NonMembership { left, right } = proof else {
        return Err(SetError::OtherKind);
    };
    check_key(key)?;
    if left.is_none() && right.is_none() {
        if count == 0 && *root == empty_root() {
            return Ok(());
        }
        return Err(SetError::Gap("the set is not empty"));
    }
    // The right neighbour's index, or the count where there is none, and the left neighbour's successor must be one place.
    let after_left = left
        .as_ref()
        .map_or(Some(0), |left| left.index.checked_add(1));
    let at_right = right.as_ref().map_or(count, |right| right.index);
    if after_left != Some(at_right) {
        return Err(SetError::Gap("they are not adjacent"));
    }
    if let Some(left) = left {
        if left.key_like(key)? >= key {
            return Err(SetError::Gap("the left one is not below the key"));
        }
        left.verify(root, count)?;
    }
    if let Some(right) = right {
        if right.key_like(key)? <= key {
            return Err(SetError::Gap("the right one is not above the key"));
        }
        right.verify(root, count)?;
    }
    Ok(())
}

/// An empty key is a prefix of every leaf and would prove nothing.
fn check_key(key: &[u8]) -> Result<(), SetError> {
    if key.is_empty() {
        return Err(SetError::KeyLength {
            expected: 1,
            found: 0,
        });
    }
    Ok(())
}
