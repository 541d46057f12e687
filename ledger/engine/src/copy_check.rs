//! Comparing the published copy with the log, file by file, while the log is read.

use counterfoil_tlog::tile::{TILE_WIDTH, TileKind, TilePath, encode_entries, encode_hashes};
use counterfoil_tlog::{Checkpoint, Hash, checkpoint};

use crate::model::Head;
use crate::sequencer::{Seen, check_progress};
use crate::state::{FullTile, TileEdge};
use crate::{EngineError, Log, LogInfo, Publication};

/// The copy of a log, and what was found in it so far.
pub(crate) struct CopyCheck<'a> {
    copy: &'a Publication,
    tenant: &'a str,
    /// What its checkpoint says.
    head: Checkpoint,
    /// Entries of the bundle that is being read.
    bundle: Vec<Vec<u8>>,
    /// What does not fit.
    pub(crate) problems: Vec<String>,
    /// Files that are not there, with what they must have, where they are to be put back; otherwise they do not fit.
    missing: Option<Vec<(String, Vec<u8>)>>,
}

impl<'a> CopyCheck<'a> {
    /// Opens the copy of a log; a problem instead, if its checkpoint is not one of this log.
    pub(crate) async fn open(
        copy: &'a Publication,
        info: &'a LogInfo,
    ) -> Result<Result<Self, String>, EngineError> {
        let Some(note) = copy.checkpoint(&info.tenant).await? else {
            return Ok(Err("the log was never published".to_owned()));
        };
        let opened = checkpoint::open(&note, &info.vkey, &[]);
        Ok(opened
            .map(|signed| Self {
                copy,
                tenant: &info.tenant,
                head: signed.checkpoint,
                bundle: Vec::new(),
                problems: Vec::new(),
                missing: None,
            })
            .map_err(|error| format!("the copy's checkpoint is not this log's: {error}")))
    }

    /// Collects files that are not there, to be put back.
    pub(crate) fn mending(mut self) -> Self {
        self.missing = Some(Vec::new());
        self
    }

    /// Whether files are to be put back.
    pub(crate) fn misses(&self) -> bool {
        let missing = self.missing.as_ref();
        missing.is_some_and(|missing| !missing.is_empty())
    }

    /// Puts back the files that are not there; so many were not. Their bytes are what was signed.
    ///
    /// # Errors
    /// [`EngineError::Damaged`] when the copy is not one of this log's, or has another file there by now.
    pub(crate) async fn mend(&mut self, log: &Log, head: &Head) -> Result<u64, EngineError> {
        let missing = self.missing.as_mut().map(std::mem::take);
        let (shared, info) = (log.shared(), log.info());
        let seen = Seen {
            size: self.head.size,
            root: self.head.root,
        };
        check_progress(shared, info, head, Some(seen)).await?;
        let mut mended = 0;
        for (file, bytes) in missing.unwrap_or_default() {
            // If we crash here: some are back, and the next round puts back the others.
            if self.copy.create(info, &file, bytes).await? {
                tracing::error!(
                    alarm = "COPY_LOST_FILES",
                    origin = info.origin,
                    file,
                    "the published copy had lost a file; it is put back from the database"
                );
                mended += 1;
            }
        }
        Ok(mended)
    }

    /// Whether the copy is ahead of a log of this size.
    pub(crate) fn is_ahead_of(&self, size: u64) -> bool {
        self.head.size > size
    }

    /// Whether the copy is behind a log of this size.
    pub(crate) fn is_behind(&self, size: u64) -> bool {
        self.head.size < size
    }

    /// Whether the copy is of this size.
    pub(crate) fn is_of_size(&self, size: u64) -> bool {
        self.head.size == size
    }

    /// Takes the next entry, after which the log has this size.
    pub(crate) async fn take(&mut self, entry: &[u8], size: u64) -> Result<(), EngineError> {
        if size > self.head.size {
            return Ok(());
        }
        self.bundle.push(entry.to_vec());
        if size.is_multiple_of(u64::from(TILE_WIDTH)) || size == self.head.size {
            let entries: Vec<&[u8]> = self.bundle.iter().map(Vec::as_slice).collect();
            let expected = encode_entries(&entries).unwrap_or_default();
            self.bundle.clear();
            self.compare(
                TileKind::Entries,
                (size - 1) / u64::from(TILE_WIDTH),
                &expected,
            )
            .await?;
        }
        Ok(())
    }

    /// Compares a tile that became full.
    pub(crate) async fn full_tile(&mut self, tile: &FullTile) -> Result<(), EngineError> {
        let kind = TileKind::Hashes { level: tile.level };
        let expected = encode_hashes(&tile.hashes).unwrap_or_default();
        let there = TilePath::in_log(kind, tile.n, self.head.size);
        match there.filter(|path| path.width() == TILE_WIDTH) {
            Some(_) => self.compare(kind, tile.n, &expected).await,
            None => Ok(()),
        }
    }

    /// Compares what only a log of the copy's size has: its root, and its growing tiles.
    pub(crate) async fn right_edge(
        &mut self,
        root: Hash,
        edge: &TileEdge,
    ) -> Result<(), EngineError> {
        if root != self.head.root {
            let found = "the copy's checkpoint has another root than the entries";
            self.problems.push(found.to_owned());
        }
        for level in 0..edge.heights() {
            let hashes = edge.partial(level);
            if !hashes.is_empty() {
                let expected = encode_hashes(hashes).unwrap_or_default();
                let kind = TileKind::Hashes { level };
                self.compare(kind, edge.partial_index(level), &expected)
                    .await?;
            }
        }
        Ok(())
    }

    /// Compares the partial tiles that no full one has replaced, beside those of the checkpoint: older ones, which whoever holds an older
    /// checkpoint reads, and newer ones, which a run left that did not come to its end.
    pub(crate) async fn narrower(&mut self, log: &Log) -> Result<(), EngineError> {
        for file in self.copy.partial_tiles(self.tenant).await? {
            let Ok(path) = TilePath::parse(&file) else {
                self.problems.push(format!("the copy's {file} is no tile"));
                continue;
            };
            let newest = TilePath::in_log(path.kind(), path.index(), self.head.size);
            if newest.as_ref() == Some(&path) {
                continue;
            }
            let expected = match log.tile(&path).await {
                Ok(expected) => expected,
                // The log is damaged there, which is told of the log.
                Err(EngineError::Damaged { .. } | EngineError::OutOfRange { .. }) => continue,
                Err(error) => return Err(error),
            };
            if let Some(expected) = expected
                && self.copy.read(self.tenant, &file).await?.as_ref() != Some(&expected)
            {
                let found = format!("the copy's {file} is not that of the entries");
                self.problems.push(found);
            }
        }
        Ok(())
    }

    async fn compare(
        &mut self,
        kind: TileKind,
        n: u64,
        expected: &[u8],
    ) -> Result<(), EngineError> {
        let Some(path) = TilePath::in_log(kind, n, self.head.size) else {
            return Ok(());
        };
        let file = path.to_string();
        match self.copy.read(self.tenant, &file).await? {
            None => match &mut self.missing {
                Some(missing) => missing.push((file, expected.to_vec())),
                None => self.problems.push(format!("the copy has no {file}")),
            },
            Some(bytes) if bytes != expected => {
                let found = format!("the copy's {file} is not that of the entries");
                self.problems.push(found);
            }
            Some(_) => {}
        }
        Ok(())
    }
}
