//! Reading a log's state, and checking it, before anything is signed on top of it.

use std::sync::Arc;

use counterfoil_evidence::record::decode_entry;
use counterfoil_tlog::merkle::root;
use counterfoil_tlog::tile::{TILE_WIDTH, decode_hashes};
use counterfoil_tlog::{Hash, NoteSigner, checkpoint};

use crate::EngineError;
use crate::anchor;
use crate::engine::Shared;
use crate::labels::Labels;
use crate::model::{Head, LogInfo, StoredEntry};
use crate::prove;
use crate::state::{LogState, TileEdge, partial_width};

/// How often loading starts over because another process appends meanwhile.
const ATTEMPTS: usize = 8;

/// A head that was signed, as this process or an anchor remembers it: the log must never be behind it, nor beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) size: u64,
    pub(crate) root: Hash,
}

/// Loads a log: re-hashes its right edge, and compares it with head, frontier and signed checkpoint.
pub(crate) async fn load(
    shared: &Shared,
    info: &Arc<LogInfo>,
    seen: Option<Seen>,
) -> Result<LogState, EngineError> {
    let signer = signer(shared, info)?;
    if let Some(why) = shared.store.stopped(info).await? {
        return Err(EngineError::damaged(
            &info.origin,
            format!("it was stopped: {why}"),
        ));
    }
    if seen.is_none() {
        anchor::check_all(shared, info).await?;
    }
    for _ in 0..ATTEMPTS {
        let (head, frontier) = shared.store.head(info).await?;
        check_progress(shared, info, &head, seen).await?;
        let state = read(shared, info, &signer, &head, &frontier).await?;
        let (now, _) = shared.store.head(info).await?;
        if now.size == head.size && now.root == head.root {
            return Ok(state);
        }
    }
    Err(EngineError::Storage {
        step: "load log",
        message: "another process keeps appending".to_owned(),
    })
}

fn signer(shared: &Shared, info: &LogInfo) -> Result<Arc<NoteSigner>, EngineError> {
    let key_error = |reason: String| EngineError::Key {
        origin: info.origin.clone(),
        reason,
    };
    let signer = shared
        .keys
        .find(&info.origin)
        .map_err(|error| key_error(error.to_string()))?
        .ok_or_else(|| key_error("it is not here".to_owned()))?;
    if *signer.verifier_key() != info.vkey {
        return Err(key_error(
            "it is another one than the log was created with".to_owned(),
        ));
    }
    Ok(Arc::new(signer))
}

/// A head that fell behind, or that does not extend what was signed before, is a restored backup or a fork.
pub(crate) async fn check_progress(
    shared: &Shared,
    info: &LogInfo,
    head: &Head,
    seen: Option<Seen>,
) -> Result<(), EngineError> {
    let Some(seen) = seen else { return Ok(()) };
    if head.size < seen.size {
        let reason = format!(
            "its head fell back from {} to {} entries",
            seen.size, head.size
        );
        return Err(EngineError::damaged(&info.origin, reason));
    }
    if prove::root_at(shared, info, seen.size, head).await? != seen.root {
        let reason = format!("it is not the log whose {} entries were signed", seen.size);
        return Err(EngineError::damaged(&info.origin, reason));
    }
    Ok(())
}

/// The state of a log as the database has it, checked against itself and not against anchors.
pub(crate) async fn read_state(
    shared: &Shared,
    info: &Arc<LogInfo>,
    head: &Head,
    frontier: &[u8],
) -> Result<LogState, EngineError> {
    read(shared, info, &signer(shared, info)?, head, frontier).await
}

async fn read(
    shared: &Shared,
    info: &Arc<LogInfo>,
    signer: &Arc<NoteSigner>,
    head: &Head,
    frontier: &[u8],
) -> Result<LogState, EngineError> {
    let damaged = |reason: &str| EngineError::damaged(&info.origin, reason);
    let signed = checkpoint::open(head.checkpoint.as_bytes(), &info.vkey, &[])
        .map_err(|error| damaged(&error.to_string()))?;
    if (signed.checkpoint.size, signed.checkpoint.root) != (head.size, head.root) {
        return Err(damaged("its head is not what its checkpoint says"));
    }
    let (edge, last_leaf, bundle) = read_edge(shared, info, head.size).await?;
    let computed = edge
        .frontier()
        .map_err(|error| damaged(&error.to_string()))?;
    if computed.root() != head.root {
        return Err(damaged("its right edge does not hash to its root"));
    }
    if computed.to_bytes() != frontier {
        return Err(damaged("its frontier is not that of its right edge"));
    }
    Ok(LogState {
        info: Arc::clone(info),
        signer: Arc::clone(signer),
        size: head.size,
        root: head.root,
        checkpoint: head.checkpoint.as_str().into(),
        recorded_at_ms: head.recorded_at_ms,
        last_leaf,
        frontier: computed,
        edge,
        bundle,
        streams: shared.store.streams(info.id).await?,
        keys: Arc::new(shared.store.key_book(info).await?),
    })
}

/// The growing tiles, the last leaf hash and what is in the growing bundle, from the entries' own bytes where they are on the edge.
async fn read_edge(
    shared: &Shared,
    info: &LogInfo,
    size: u64,
) -> Result<(TileEdge, Hash, Vec<Arc<Labels>>), EngineError> {
    let damaged = |reason: &str| EngineError::damaged(&info.origin, reason);
    let width = u64::from(TILE_WIDTH);
    let entries = read_last_bundle(shared, info, size).await?;
    let leaves: Vec<Hash> = entries.iter().map(|entry| entry.leaf_hash).collect();
    let last_leaf = leaves.last().copied().unwrap_or(Hash([0; 32]));
    let is_full = size > 0 && size.is_multiple_of(width);
    let mut levels = vec![if is_full { Vec::new() } else { leaves.clone() }];
    for level in 1..8_u8 {
        let wanted = partial_width(level, size);
        if wanted == 0 {
            levels.push(Vec::new());
            continue;
        }
        let n = (size >> (u32::from(level) * 8)) / width;
        let bytes = shared
            .store
            .tile(info.id, level, n)
            .await?
            .unwrap_or_default();
        let found = u16::try_from(bytes.len() / 32).unwrap_or(0);
        let mut hashes =
            decode_hashes(&bytes, found).map_err(|_| damaged("a growing tile is malformed"))?;
        hashes.truncate(wanted);
        levels.push(hashes);
    }
    if is_full {
        // No leaf is on the edge: compare the last full tile with the entries instead, and with the level above.
        let tile = shared.store.tile(info.id, 0, size / width - 1).await?;
        let expected: Vec<u8> = leaves.iter().flat_map(|leaf| leaf.0).collect();
        if tile.as_ref() != Some(&expected) {
            return Err(damaged("its last tile is not that of its entries"));
        }
        let above = levels.get(1).and_then(|hashes| hashes.last());
        if above.is_some_and(|hash| *hash != root(&leaves)) {
            return Err(damaged("its last tile is not in the tile above"));
        }
    }
    let growing = if is_full { &[] } else { entries.as_slice() };
    let bundle = growing.iter().map(|entry| {
        let labels = Labels::read(&entry.bytes).map_err(|error| damaged(&error.to_string()))?;
        Ok(Arc::new(labels))
    });
    let bundle = bundle.collect::<Result<_, EngineError>>()?;
    let edge = TileEdge::new(size, levels)
        .ok_or_else(|| damaged("a growing tile is not as wide as it must be"))?;
    Ok((edge, last_leaf, bundle))
}

/// The entries of the last tile, re-hashed and checked to be a chain.
async fn read_last_bundle(
    shared: &Shared,
    info: &LogInfo,
    size: u64,
) -> Result<Vec<StoredEntry>, EngineError> {
    let damaged = |reason: String| EngineError::damaged(&info.origin, reason);
    let width = u64::from(TILE_WIDTH);
    let from = size.saturating_sub(1) / width * width;
    // Reading hashes every entry.
    let limit = u32::from(TILE_WIDTH);
    let entries = shared.store.entries(info, from..size, limit).await?;
    let mut previous: Option<Hash> = None;
    for (expected, stored) in (from..size).zip(&entries) {
        check_link(info, stored, expected, previous)?;
        previous = Some(stored.leaf_hash);
    }
    if entries.len() as u64 != size - from {
        return Err(damaged(format!("entries are missing from {from} on")));
    }
    Ok(entries)
}

/// An entry must say of itself where it stands and what it follows.
pub(crate) fn check_link(
    info: &LogInfo,
    stored: &StoredEntry,
    index: u64,
    previous: Option<Hash>,
) -> Result<(), EngineError> {
    let damaged =
        |what: &str| EngineError::damaged(&info.origin, format!("entry {}: {what}", stored.index));
    let entry = decode_entry(&stored.bytes).map_err(|error| damaged(&error.to_string()))?;
    if stored.index != index || entry.index != index {
        return Err(damaged("it is not in its place"));
    }
    if entry.log_origin != info.origin {
        return Err(damaged("it is of another log"));
    }
    let chained = match previous {
        Some(previous) => entry.prev_leaf_hash == previous.0,
        None => index > 0 || entry.prev_leaf_hash == [0; 32],
    };
    if !chained {
        return Err(damaged("it does not name the entry before it"));
    }
    Ok(())
}
