//! Taking a log away: every file of a prefix, in the layout of [c2sp.org/tlog-tiles].
//!
//! [c2sp.org/tlog-tiles]: https://c2sp.org/tlog-tiles

use counterfoil_tlog::tile::{TilePath, entry_bundles_for, tiles_for};

use crate::{EngineError, Log};

/// Entries of a full bundle may have 64 KiB each, so one file is at most 16 MiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedFile {
    /// Path below the log's prefix, such as `tile/0/000`; `checkpoints/{size}` stands beside it.
    pub path: String,
    /// Its content.
    pub content: Vec<u8>,
}

/// The files of a log at one size: entry bundles, hash tiles from level 0 up, cosigned checkpoints of smaller sizes if they are asked
/// for, then the checkpoint.
pub struct Export {
    log: Log,
    size: u64,
    paths: Box<dyn Iterator<Item = TilePath> + Send + Sync>,
    /// Smaller sizes whose cosigned checkpoints come along.
    cosigned: std::vec::IntoIter<u64>,
    checkpoint: Option<String>,
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export")
            .field("origin", &self.log.info().origin)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Export {
    pub(crate) fn new(log: Log, size: u64, checkpoint: String) -> Self {
        Self {
            log,
            size,
            paths: Box::new(entry_bundles_for(0, size).chain(tiles_for(0, size))),
            cosigned: Vec::new().into_iter(),
            checkpoint: Some(checkpoint),
        }
    }

    /// Takes along the checkpoints of smaller sizes whose cosignatures are kept, as `checkpoints/{size}`, before the log's own.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn with_cosigned(mut self) -> Result<Self, EngineError> {
        let mut sizes = self.log.cosigned_sizes().await?;
        sizes.retain(|size| *size < self.size);
        self.cosigned = sizes.into_iter();
        Ok(self)
    }

    /// The size of the log that is exported.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next file; the checkpoint is the last one, so an export that was cut off has none.
    ///
    /// # Errors
    /// When the database cannot be read, or what it holds is damaged.
    pub async fn next(&mut self) -> Result<Option<ExportedFile>, EngineError> {
        if let Some(path) = self.paths.next() {
            let missing =
                || EngineError::damaged(&self.log.info().origin, format!("{path} is not there"));
            let content = self.log.tile_of(&path, self.size).await?;
            return Ok(Some(ExportedFile {
                path: path.to_string(),
                content: content.ok_or_else(missing)?,
            }));
        }
        if let Some(size) = self.cosigned.next() {
            return Ok(Some(ExportedFile {
                path: format!("checkpoints/{size}"),
                content: self.log.cosigned_checkpoint(size).await?.into_bytes(),
            }));
        }
        Ok(self.checkpoint.take().map(|checkpoint| ExportedFile {
            path: "checkpoint".to_owned(),
            content: checkpoint.into_bytes(),
        }))
    }
}
