//! The whole map, for who makes it and gives paths out of it.

use super::path::MapPath;
use super::{EMPTY, LEVELS, MapLeaf, above, bit, node};
use crate::hash::Hash;

/// Two leaves have one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key {0} is there twice")]
pub struct TwiceError(pub Hash);

/// A map with all of its leaves' hashes. Takes about 250 hashes a leaf to make, and 200 bytes a leaf to keep.
#[derive(Debug, Clone)]
pub struct SparseMap {
    root: Option<Box<Branch>>,
}

/// A leaf, or a subtree that has leaves on both sides. What stands between it and the branch above has an empty neighbour at every level,
/// and is not kept.
#[derive(Debug, Clone)]
struct Branch {
    /// Key of one of its leaves: all share its first `depth` bits.
    key: Hash,
    depth: u16,
    /// Hash of the subtree at `depth`.
    hash: Hash,
    /// Hash of the subtree right below the branch above.
    top: Hash,
    /// `None`: a leaf.
    children: Option<[Box<Branch>; 2]>,
}

impl SparseMap {
    /// The map of these leaves.
    ///
    /// # Errors
    /// When two leaves have one key.
    pub fn new(leaves: &[MapLeaf]) -> Result<Self, TwiceError> {
        let mut hashes: Vec<(Hash, Hash)> =
            leaves.iter().map(|leaf| (leaf.key, leaf.hash())).collect();
        hashes.sort_unstable();
        let twice = hashes
            .iter()
            .zip(hashes.iter().skip(1))
            .find(|(one, next)| one.0 == next.0);
        match twice {
            Some((one, _)) => Err(TwiceError(one.0)),
            None => Ok(Self {
                root: Branch::over(&hashes, 0),
            }),
        }
    }

    /// Its root.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.root.as_ref().map_or(EMPTY, |root| root.top)
    }

    /// The path of a key, which proves what the map has there: a head, or nothing.
    #[must_use]
    pub fn path(&self, key: &Hash) -> MapPath {
        let mut beside = Vec::new();
        let mut here = self.root.as_deref();
        while let Some(branch) = here {
            let parts = parting(&branch.key, key);
            if parts < branch.depth {
                // The whole branch stands beside the way of this key, which leads to where nothing is.
                beside.push((parts, branch.lifted(parts + 1)));
                break;
            }
            let Some([left, right]) = &branch.children else {
                break;
            };
            let (next, other) = if bit(key, branch.depth) {
                (right, left)
            } else {
                (left, right)
            };
            beside.push((branch.depth, other.top));
            here = Some(next);
        }
        MapPath::new(beside)
    }
}

impl Branch {
    /// The branch over leaves in order of their keys, all different and with the same first `top` bits.
    fn over(leaves: &[(Hash, Hash)], top: u16) -> Option<Box<Self>> {
        let ((first, leaf), (last, _)) = (leaves.first()?, leaves.last()?);
        let mut branch = Self {
            key: *first,
            depth: parting(first, last),
            hash: *leaf,
            top: EMPTY,
            children: None,
        };
        if branch.depth < LEVELS {
            let middle = leaves.partition_point(|(key, _)| !bit(key, branch.depth));
            let (left, right) = leaves.split_at_checked(middle)?;
            let below = branch.depth + 1;
            let (left, right) = (Self::over(left, below)?, Self::over(right, below)?);
            branch.hash = node(&left.top, &right.top);
            branch.children = Some([left, right]);
        }
        branch.top = branch.lifted(top);
        Some(Box::new(branch))
    }

    /// The hash at a smaller depth, up to which it has no neighbours.
    fn lifted(&self, depth: u16) -> Hash {
        let levels = (depth..self.depth).rev();
        levels.fold(self.hash, |hash, level| {
            above(&self.key, level, &hash, &EMPTY)
        })
    }
}

/// How many first bits two keys share.
fn parting(one: &Hash, other: &Hash) -> u16 {
    (0..LEVELS)
        .find(|position| bit(one, *position) != bit(other, *position))
        .unwrap_or(LEVELS)
}
