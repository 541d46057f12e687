//! Proofs and roots at any size a log has had. Every proof is verified before it leaves, so damage is an error, not a bad receipt.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, btree_map};
use std::sync::Arc;

use counterfoil_tlog::merkle::{
    HashReader, consistency_proof, consistency_subtrees, inclusion_proof, inclusion_subtrees,
    root_from, verify_consistency, verify_inclusion,
};
use counterfoil_tlog::note::Note;
use counterfoil_tlog::tile::{TileHashReader, TileKind, TilePath, tile_covering};
use counterfoil_tlog::{Hash, TlogProof};

use crate::engine::Shared;
use crate::{EngineError, Head, LogInfo};

/// The tiles that some proofs need, fetched.
#[derive(Debug)]
struct Fetched {
    size: u64,
    tiles: BTreeMap<TilePath, Arc<Vec<Hash>>>,
}

impl Fetched {
    async fn subtrees(
        shared: &Shared,
        log: &LogInfo,
        size: u64,
        subtrees: impl IntoIterator<Item = (u8, u64)>,
    ) -> Result<Self, EngineError> {
        let mut tiles = BTreeMap::new();
        for (level, index) in subtrees {
            let path = tile_covering(level, index, size)
                .ok_or(EngineError::OutOfRange { asked: index, size })?;
            let TileKind::Hashes { level } = path.kind() else {
                continue;
            };
            if let btree_map::Entry::Vacant(vacant) = tiles.entry(path) {
                let place = (level, path.index());
                let hashes = shared.tiles.hashes(&shared.store, log, place, path.width());
                vacant.insert(hashes.await?);
            }
        }
        Ok(Self { size, tiles })
    }

    fn reader(&self) -> Memo<impl HashReader + '_> {
        Memo::new(TileHashReader::new(self.size, |path: &TilePath| {
            let hashes = self.tiles.get(path)?;
            hashes
                .get(..usize::from(path.width()))
                .map(<[Hash]>::to_vec)
        }))
    }
}

/// Remembers subtrees: proofs of neighbours share nearly all of them.
struct Memo<R> {
    reader: R,
    known: RefCell<HashMap<(u8, u64), Hash>>,
}

impl<R: HashReader> Memo<R> {
    fn new(reader: R) -> Self {
        Self {
            reader,
            known: RefCell::default(),
        }
    }
}

impl<R: HashReader> HashReader for Memo<R> {
    fn subtree(&self, level: u8, index: u64) -> Option<Hash> {
        if let Some(hash) = self.known.borrow().get(&(level, index)) {
            return Some(*hash);
        }
        let hash = self.reader.subtree(level, index)?;
        self.known.borrow_mut().insert((level, index), hash);
        Some(hash)
    }
}

/// The root that the log had at a size, proved to be a prefix of the head.
pub(crate) async fn root_at(
    shared: &Shared,
    log: &LogInfo,
    size: u64,
    head: &Head,
) -> Result<Hash, EngineError> {
    if size == head.size {
        return Ok(head.root);
    }
    check_size(size, head)?;
    let damaged =
        |error: &dyn std::fmt::Display| EngineError::damaged(&log.origin, error.to_string());
    let subtrees = root_subtrees(size);
    let fetched = Fetched::subtrees(shared, log, size, subtrees).await?;
    let root = root_from(&fetched.reader(), size).map_err(|error| damaged(&error))?;
    let proof = consistency(shared, log, size, head.size).await?;
    verify_consistency(size, &root, head.size, &head.root, &proof)
        .map_err(|error| damaged(&error))?;
    Ok(root)
}

/// The consistency proof between two sizes of the log.
pub(crate) async fn consistency(
    shared: &Shared,
    log: &LogInfo,
    old_size: u64,
    new_size: u64,
) -> Result<Vec<Hash>, EngineError> {
    let out_of_range = |_| EngineError::OutOfRange {
        asked: old_size,
        size: new_size,
    };
    let subtrees = consistency_subtrees(old_size, new_size).map_err(out_of_range)?;
    let fetched = Fetched::subtrees(shared, log, new_size, subtrees).await?;
    consistency_proof(&fetched.reader(), old_size, new_size)
        .map_err(|error| EngineError::damaged(&log.origin, error.to_string()))
}

/// The receipts of some entries under one head, as `c2sp.org/tlog-proof@v1` text.
pub(crate) async fn receipts(
    shared: &Shared,
    log: &LogInfo,
    head: &Head,
    entries: Vec<(u64, Hash)>,
) -> Result<Vec<String>, EngineError> {
    let size = head.size;
    let mut subtrees = Vec::new();
    for (index, _) in &entries {
        let asked = *index;
        let needed =
            inclusion_subtrees(asked, size).map_err(|_| EngineError::OutOfRange { asked, size })?;
        subtrees.extend(needed);
    }
    subtrees.sort_unstable();
    subtrees.dedup();
    let fetched = Fetched::subtrees(shared, log, size, subtrees).await?;
    let origin = log.origin.clone();
    let head = head.clone();
    let many = entries.len() > 16;
    let prove = move || {
        let damaged =
            |error: &dyn std::fmt::Display| EngineError::damaged(&origin, error.to_string());
        let note = Note::parse(head.checkpoint.as_bytes()).map_err(|error| damaged(&error))?;
        let reader = fetched.reader();
        entries
            .into_iter()
            .map(|(index, leaf)| {
                let path =
                    inclusion_proof(&reader, index, head.size).map_err(|error| damaged(&error))?;
                verify_inclusion(&leaf, index, head.size, &path, &head.root)
                    .map_err(|error| damaged(&error))?;
                let proof = TlogProof {
                    index,
                    path,
                    checkpoint: note.clone(),
                };
                Ok(proof.to_string())
            })
            .collect()
    };
    if many {
        tokio::task::spawn_blocking(prove)
            .await
            .map_err(|_| EngineError::Closed)?
    } else {
        prove()
    }
}

fn check_size(size: u64, head: &Head) -> Result<(), EngineError> {
    if size > head.size {
        return Err(EngineError::OutOfRange {
            asked: size,
            size: head.size,
        });
    }
    Ok(())
}

/// The perfect subtrees of a tree of this size, from the left.
fn root_subtrees(size: u64) -> Vec<(u8, u64)> {
    let mut start = 0_u64;
    (0..64_u8)
        .rev()
        .filter(|level| size >> level & 1 == 1)
        .map(|level| {
            let index = start >> level;
            start += 1 << level;
            (level, index)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::root_subtrees;

    #[test]
    fn a_tree_splits_into_one_subtree_a_set_bit() {
        assert_eq!(root_subtrees(0), []);
        assert_eq!(root_subtrees(13), [(3, 0), (2, 2), (0, 12)]);
    }
}
