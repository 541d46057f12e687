//! Hash tiles of any size that a log has had, from stored tiles and leaf hashes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use counterfoil_tlog::Hash;
use counterfoil_tlog::tile::{TILE_WIDTH, decode_hashes};

use crate::store::Store;
use crate::{EngineError, LogId, LogInfo};

/// Most tiles in memory: 8 KiB each.
const CACHED_MAX: usize = 4096;

/// Tiles that were read. A tile only ever grows at its end, so a narrower one can be cut from what is cached.
#[derive(Debug, Default)]
pub(crate) struct TileCache {
    tiles: Mutex<HashMap<Place, Arc<Vec<Hash>>>>,
}

/// Log, level and position.
type Place = (LogId, u8, u64);

impl TileCache {
    fn get(&self, key: Place, width: usize) -> Option<Arc<Vec<Hash>>> {
        let tiles = self.tiles.lock().unwrap_or_else(PoisonError::into_inner);
        tiles
            .get(&key)
            .filter(|tile| tile.len() >= width)
            .map(Arc::clone)
    }

    fn put(&self, key: Place, tile: &Arc<Vec<Hash>>) {
        let mut tiles = self.tiles.lock().unwrap_or_else(PoisonError::into_inner);
        if tiles.len() >= CACHED_MAX {
            // Rare and cheap to refill; keeping an order of use would cost every reader.
            tiles.clear();
        }
        tiles.insert(key, Arc::clone(tile));
    }

    /// At least the first `width` hashes of a tile, which the log must have.
    pub(crate) async fn hashes(
        &self,
        store: &Store,
        log: &LogInfo,
        (level, n): (u8, u64),
        width: u16,
    ) -> Result<Arc<Vec<Hash>>, EngineError> {
        let key = (log.id, level, n);
        let wanted = usize::from(width);
        if let Some(tile) = self.get(key, wanted) {
            return Ok(tile);
        }
        let damaged =
            || EngineError::damaged(&log.origin, format!("tile {level}/{n} is not whole"));
        let hashes = match store.tile(log.id, level, n).await? {
            Some(bytes) => {
                let found = u16::try_from(bytes.len() / 32).map_err(|_| damaged())?;
                decode_hashes(&bytes, found).map_err(|_| damaged())?
            }
            // The last tile of level 0 is not stored: its hashes are those of the entries.
            None if level == 0 => {
                let from = n.saturating_mul(u64::from(TILE_WIDTH));
                let end = from.saturating_add(u64::from(TILE_WIDTH));
                store.leaf_hashes(log.id, from, end).await?
            }
            None => Vec::new(),
        };
        if hashes.len() < wanted || hashes.len() > usize::from(TILE_WIDTH) {
            return Err(damaged());
        }
        let tile = Arc::new(hashes);
        self.put(key, &tile);
        Ok(tile)
    }
}
