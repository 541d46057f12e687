//! Sets as their blobs: looked at in place, never unpacked.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use counterfoil_tlog::Hash;
use counterfoil_tlog::hash::leaf_hash;
use counterfoil_tlog::merkle::Frontier;

use super::Blobs;
use super::state::Digest;
use crate::leaf::{GRANT_KEY_LEN, GRANT_LEAF_LEN, GrantFlags, GrantLeaf, SourceTag};

/// What a set's blob amounts to, recomputed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SetFacts {
    pub(super) root: Hash,
    pub(super) count: u64,
}

impl SetFacts {
    /// Whether a record states the same root and count.
    pub(super) fn matches(&self, root: &[u8], count: u64) -> bool {
        self.root.as_bytes() == root && self.count == count
    }
}

/// Recomputes root and count of a set; refuses a blob whose leaves are not ascending by key.
pub(super) fn facts(blob: &[u8], key_len: usize, leaf_len: usize) -> Result<SetFacts, String> {
    let mut frontier = Frontier::new();
    let mut last: &[u8] = &[];
    for leaf in leaves(blob, leaf_len)? {
        let key = leaf.get(..key_len).unwrap_or_default();
        if !last.is_empty() && key <= last {
            return Err(format!(
                "its leaf {} is not above the one before",
                frontier.size()
            ));
        }
        last = key;
        frontier.push(leaf_hash(leaf));
    }
    Ok(SetFacts {
        root: frontier.root(),
        count: frontier.size(),
    })
}

/// The leaves of a blob.
pub(super) fn leaves(
    blob: &[u8],
    leaf_len: usize,
) -> Result<std::slice::ChunksExact<'_, u8>, String> {
    let chunks = blob.chunks_exact(leaf_len);
    if chunks.remainder().is_empty() {
        Ok(chunks)
    } else {
        Err(format!("its length is no multiple of {leaf_len}"))
    }
}

/// The leaf with a key, in a blob whose order was checked.
pub(super) fn find<'b>(blob: &'b [u8], leaf_len: usize, key: &[u8]) -> Option<&'b [u8]> {
    let (mut low, mut high) = (0, blob.len() / leaf_len);
    while low < high {
        let middle = low + (high - low) / 2;
        let leaf = blob.get(middle * leaf_len..(middle + 1) * leaf_len)?;
        match leaf.get(..key.len())?.cmp(key) {
            std::cmp::Ordering::Equal => return Some(leaf),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    None
}

/// What a source's set amounts to beyond its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GrantSetFacts {
    pub(super) set: SetFacts,
    pub(super) inherited: u64,
}

/// Recomputes a source's set: every leaf is well-formed and of that source.
pub(super) fn grant_facts(blob: &[u8], tag: SourceTag) -> Result<GrantSetFacts, String> {
    let set = facts(blob, GRANT_KEY_LEN, GRANT_LEAF_LEN)?;
    let mut inherited = 0;
    for leaf in leaves(blob, GRANT_LEAF_LEN)? {
        let leaf = GrantLeaf::try_from(leaf).map_err(|error| error.to_string())?;
        if leaf.key.source_tag() != tag {
            return Err("it has a grant of another source".to_owned());
        }
        inherited += u64::from(leaf.flags.contains(GrantFlags::INHERITED));
    }
    Ok(GrantSetFacts { set, inherited })
}

/// Keeps the blobs that were looked at last: many actions are read back in one sync.
pub(super) struct Cached<'b> {
    blobs: &'b dyn Blobs,
    recent: RefCell<VecDeque<(Digest, Rc<[u8]>)>>,
}

impl<'b> Cached<'b> {
    /// So many sets are kept; one of a million grants has 74 MB.
    const KEPT: usize = 2;

    pub(super) fn new(blobs: &'b dyn Blobs) -> Self {
        Self {
            blobs,
            recent: RefCell::default(),
        }
    }

    pub(super) fn load(&self, digest: &Digest) -> Option<Rc<[u8]>> {
        let mut recent = self.recent.borrow_mut();
        if let Some((_, found)) = recent.iter().find(|(known, _)| known == digest) {
            return Some(Rc::clone(found));
        }
        let loaded: Rc<[u8]> = self.blobs.load(digest)?.into();
        if recent.len() >= Self::KEPT {
            recent.pop_front();
        }
        recent.push_back((*digest, Rc::clone(&loaded)));
        Some(loaded)
    }
}
