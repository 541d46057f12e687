//! The published copy of a log: its tiles and checkpoint in an object store, in the layout of [c2sp.org/tlog-tiles], so that any
//! static server or mirror can serve it.
//!
//! The copy itself says how far it is: its checkpoint is written last, when everything below it is there. So nothing has to be
//! remembered about it in the database, and it is an anchor: a database that fell behind it has lost something.
//!
//! [c2sp.org/tlog-tiles]: https://c2sp.org/tlog-tiles

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use counterfoil_tlog::tile::{TILE_WIDTH, TileKind, TilePath, entry_bundles_for, tiles_for};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::{
    ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, UpdateVersion, path::Path,
};

use crate::anchor::{self, Anchor, AnchorError};
use crate::faults::{self, FaultPoint};
use crate::state::partial_width;
use crate::{EngineError, Log, LogInfo};

/// Objects that are written at once.
const AT_ONCE: usize = 16;

const CHECKPOINT: &str = "checkpoint";

/// How often publishing starts over because another process publishes meanwhile.
const ATTEMPTS: usize = 6;

/// Where logs are published: a log's files are below `{prefix}/{tenant}/`.
#[derive(Debug, Clone)]
pub struct Publication {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Whose lock is a process's turn to replace a checkpoint.
    turns: Option<Arc<PathBuf>>,
}

/// A copy's checkpoint as it was read: what is put in its place must not replace another one.
struct Found {
    note: Vec<u8>,
    version: UpdateVersion,
}

/// What one run of publishing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Entries of the copy before; 0: it had none.
    pub from: u64,
    /// Entries of the copy now.
    pub size: u64,
    /// Objects that were written, without those that were there already.
    pub written: u64,
}

impl Publication {
    /// Publishes to this store. It must be durable when it answers: a local folder is one with `with_fsync(true)` only.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self {
            store,
            prefix: Path::from(prefix),
            turns: None,
        }
    }

    /// With a file whose lock processes take in turns to replace a checkpoint: for a local folder, which cannot replace a file only if
    /// nobody else has. The file is made if it is not there. A store that can compare needs none.
    #[must_use]
    pub fn in_turns(self, lock: impl Into<PathBuf>) -> Self {
        Self {
            turns: Some(Arc::new(lock.into())),
            ..self
        }
    }

    fn path(&self, tenant: &str, file: &str) -> Path {
        // Tenants are [a-z0-9-], files are of C2SP: nothing of it needs escaping or leads elsewhere.
        Path::from_iter(
            self.prefix
                .parts()
                .chain(Path::from(tenant).parts())
                .chain(Path::from(file).parts()),
        )
    }

    /// The bytes of a file; `None`: it is not there.
    pub(crate) async fn read(
        &self,
        tenant: &str,
        file: &str,
    ) -> Result<Option<Vec<u8>>, EngineError> {
        let failed = |error| failed("read", file, &error);
        match self.store.get(&self.path(tenant, file)).await {
            Ok(found) => Ok(Some(found.bytes().await.map_err(failed)?.to_vec())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// The tenants that have a published log.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn tenants(&self) -> Result<Vec<String>, EngineError> {
        let prefix = (self.prefix.parts().count() > 0).then_some(&self.prefix);
        let found = self.store.list_with_delimiter(prefix).await;
        let found = found.map_err(|error| failed("list", "the published logs", &error))?;
        let folders = found.common_prefixes.iter();
        let names = folders.filter_map(|folder| Some(folder.filename()?.to_owned()));
        Ok(names.collect())
    }

    /// The partial tiles of a tenant's log, as paths in the log.
    pub(crate) async fn partial_tiles(&self, tenant: &str) -> Result<Vec<String>, EngineError> {
        let log = self.path(tenant, "tile");
        let listed = self.store.list(Some(&log));
        let found: Vec<Path> = listed
            .map_ok(|object| object.location)
            .try_collect()
            .await
            .map_err(|error| failed("list", "tiles", &error))?;
        let below = found.iter().filter_map(|path| {
            let parts: Vec<_> = path.prefix_match(&log)?.collect();
            let names: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
            let file = names.join("/");
            file.contains(".p/").then(|| format!("tile/{file}"))
        });
        Ok(below.collect())
    }

    /// The newest published checkpoint of a tenant's log; `None`: it was never published.
    pub(crate) async fn checkpoint(&self, tenant: &str) -> Result<Option<Vec<u8>>, EngineError> {
        self.read(tenant, CHECKPOINT).await
    }

    /// Writes a file that never changes; `false`: it was there, with these very bytes.
    pub(crate) async fn create(
        &self,
        log: &LogInfo,
        file: &str,
        bytes: Vec<u8>,
    ) -> Result<bool, EngineError> {
        let path = self.path(&log.tenant, file);
        let payload = PutPayload::from(bytes.clone());
        match self
            .store
            .put_opts(&path, payload, PutMode::Create.into())
            .await
        {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => {
                let there = self.read(&log.tenant, file).await?;
                if there.as_deref() == Some(bytes.as_slice()) {
                    Ok(false)
                } else {
                    let reason = format!("the published {file} is another one");
                    Err(EngineError::damaged(&log.origin, reason))
                }
            }
            Err(error) => Err(failed("write", file, &error)),
        }
    }

    /// The newest published checkpoint, to be replaced by a newer one.
    async fn found(&self, tenant: &str) -> Result<Option<Found>, EngineError> {
        let failed = |error| failed("read", CHECKPOINT, &error);
        match self.store.get(&self.path(tenant, CHECKPOINT)).await {
            Ok(found) => {
                let version = UpdateVersion {
                    e_tag: found.meta.e_tag.clone(),
                    version: found.meta.version.clone(),
                };
                let note = found.bytes().await.map_err(failed)?.to_vec();
                Ok(Some(Found { note, version }))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Puts a checkpoint in the place of the one that was found; `false`: another process has put one there since.
    ///
    /// A process that was stopped for a while would otherwise take the copy back to an older size, of which partial tiles may have been
    /// swept away.
    async fn advance(
        &self,
        log: &LogInfo,
        found: Option<&Found>,
        note: Vec<u8>,
    ) -> Result<bool, EngineError> {
        let path = self.path(&log.tenant, CHECKPOINT);
        let mode = found.map_or(PutMode::Create, |found| {
            PutMode::Update(found.version.clone())
        });
        let payload = PutPayload::from(note.clone());
        match self.store.put_opts(&path, payload, mode.into()).await {
            Ok(_) => Ok(true),
            Err(
                object_store::Error::Precondition { .. }
                | object_store::Error::AlreadyExists { .. },
            ) => Ok(false),
            Err(object_store::Error::NotImplemented { .. }) => {
                let turn = self.turn().await?;
                let there = self.checkpoint(&log.tenant).await?;
                let is_found = there.as_ref() == found.map(|found| &found.note);
                if is_found {
                    let put = self.store.put(&path, PutPayload::from(note)).await;
                    put.map_err(|error| failed("write", CHECKPOINT, &error))?;
                }
                drop(turn);
                Ok(is_found)
            }
            Err(error) => Err(failed("write", CHECKPOINT, &error)),
        }
    }

    /// Waits for this process's turn, which ends when the file is closed: also by the process's end.
    async fn turn(&self) -> Result<Option<File>, EngineError> {
        let Some(path) = self.turns.clone() else {
            return Ok(None);
        };
        let wait = tokio::task::spawn_blocking(move || {
            let mut file = OpenOptions::new();
            let file = file.create(true).truncate(false).write(true);
            let file = file.open(path.as_path())?;
            file.lock()?;
            Ok(file)
        });
        let turn = wait.await.map_err(|_| EngineError::Closed)?;
        turn.map(Some)
            .map_err(|error: std::io::Error| EngineError::Publication {
                step: "wait for a turn",
                message: error.to_string(),
            })
    }
}

#[async_trait]
impl Anchor for Publication {
    fn name(&self) -> String {
        "the published copy".to_owned()
    }

    async fn newest(&self, log: &LogInfo) -> Result<Option<Vec<u8>>, AnchorError> {
        let read = self.checkpoint(&log.tenant).await;
        read.map_err(|error| AnchorError {
            name: self.name(),
            reason: error.to_string(),
        })
    }
}

fn failed(step: &'static str, file: &str, error: &object_store::Error) -> EngineError {
    EngineError::Publication {
        step,
        message: format!("{file}: {error}"),
    }
}

impl Log {
    /// Brings the published copy up to the newest size: entry bundles, tiles from level 0 up, then the checkpoint.
    ///
    /// Everything but the checkpoint is written under a name that only ever has these bytes, so it does not matter how often it is
    /// written, by how many, or where an earlier run stopped. Something else under such a name, or a checkpoint that the log does
    /// not extend, is a fork: the log is stopped, and nothing is signed for it any more.
    ///
    /// # Errors
    /// [`EngineError::Publication`] when the store fails: publish again; [`EngineError::Damaged`] when the copy is another log's.
    pub async fn publish(&self, to: &Publication) -> Result<Published, EngineError> {
        for _ in 0..ATTEMPTS {
            match self.try_publish(to).await {
                Ok(None) => {}
                Ok(Some(published)) => return Ok(published),
                Err(error) => {
                    if let EngineError::Damaged { .. } = &error {
                        self.stop(&error).await?;
                    }
                    return Err(error);
                }
            }
        }
        Err(EngineError::Publication {
            step: "publish",
            message: "other processes keep publishing the same log".to_owned(),
        })
    }

    /// `None`: another process has published meanwhile.
    async fn try_publish(&self, to: &Publication) -> Result<Option<Published>, EngineError> {
        let info = self.info();
        let found = to.found(&info.tenant).await?;
        let from = match &found {
            None => 0,
            Some(Found { note, .. }) => {
                let head = self.head().await?;
                let seen = anchor::check(self.shared(), info, &head, &to.name(), note).await?;
                seen.size
            }
        };
        // Read after the copy's: another replica may have published what this one had not seen yet.
        let head = self.head().await?;
        let nothing_new = from == head.size && from > 0;
        if nothing_new {
            return Ok(Some(Published {
                from,
                size: from,
                written: 0,
            }));
        }
        let mut written = 0;
        let bundles: Vec<TilePath> = entry_bundles_for(from, head.size).collect();
        written += self.publish_all(to, bundles, head.size).await?;
        let mut tiles: Vec<TilePath> = tiles_for(from, head.size).collect();
        while let Some(level) = tiles.first().map(TilePath::kind) {
            let above = tiles.partition_point(|tile| tile.kind() == level);
            let rest = tiles.split_off(above);
            written += self.publish_all(to, tiles, head.size).await?;
            tiles = rest;
        }
        // If we crash here: the copy is as old as before and valid; the next run finds the files there and goes on.
        let checkpoint = self.with_cosignatures(head.checkpoint.as_bytes(), head.size);
        let checkpoint = checkpoint.await?.unwrap_or(head.checkpoint.into_bytes());
        let advance = to.advance(info, found.as_ref(), checkpoint);
        if !self.fault(FaultPoint::PublishCheckpoint, advance).await? {
            return Ok(None);
        }
        // If we crash here: the next run reads how far the copy is from the copy.
        let sweep = self.sweep(to, from, head.size);
        if let Err(error) = self.fault(FaultPoint::Sweep, sweep).await {
            tracing::warn!(origin = info.origin, %error, "partial tiles that nobody needs stay published");
        }
        Ok(Some(Published {
            from,
            size: head.size,
            written: written + 1,
        }))
    }

    /// Adds the cosignatures that are kept to the copy's checkpoint, which stays of its size. `false`: there is nothing to add, or another
    /// process has put another checkpoint there meanwhile.
    ///
    /// # Errors
    /// As [`Log::publish`].
    pub async fn publish_cosignatures(&self, to: &Publication) -> Result<bool, EngineError> {
        let info = self.info();
        let Some(found) = to.found(&info.tenant).await? else {
            return Ok(false);
        };
        let head = self.head().await?;
        let seen = anchor::check(self.shared(), info, &head, &to.name(), &found.note).await;
        if let Err(error @ EngineError::Damaged { .. }) = &seen {
            self.stop(error).await?;
        }
        let Some(note) = self.with_cosignatures(&found.note, seen?.size).await? else {
            return Ok(false);
        };
        // If we crash before it is written: the copy's checkpoint has fewer lines and is as valid; the next run adds them.
        let advance = to.advance(info, Some(&found), note);
        self.fault(FaultPoint::PublishCheckpoint, advance).await
    }

    /// Writes tiles of one kind, several at once; how many were not there.
    async fn publish_all(
        &self,
        to: &Publication,
        paths: Vec<TilePath>,
        size: u64,
    ) -> Result<u64, EngineError> {
        let writes = futures::stream::iter(paths.into_iter().map(|path| async move {
            let missing =
                || EngineError::damaged(&self.info().origin, format!("{path} is not there"));
            let bytes = self.tile_of(&path, size).await?.ok_or_else(missing)?;
            let file = path.to_string();
            let create = to.create(self.info(), &file, bytes);
            self.fault(FaultPoint::PublishTile, create).await
        }));
        writes
            .buffer_unordered(AT_ONCE)
            .try_fold(
                0,
                |written, new| async move { Ok(written + u64::from(new)) },
            )
            .await
    }

    async fn fault<T>(
        &self,
        point: FaultPoint,
        step: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        faults::step(self.shared().faults.as_ref(), point, step).await
    }

    /// Takes away the partial tiles of the copy as it was, where a full tile has replaced them. A run that stops in here leaves some
    /// for good: they are valid, and nobody asks for them.
    async fn sweep(&self, of: &Publication, from: u64, size: u64) -> Result<(), EngineError> {
        let levels = (0..8).map(|level| TileKind::Hashes { level });
        for kind in levels.chain([TileKind::Entries]) {
            let full = self.replaced(kind, from, size);
            let Some(full) = full else { continue };
            let partial = of.path(&self.info().tenant, &format!("{full}.p"));
            let step = |error| failed("sweep", "partial tiles", &error);
            let found = of
                .store
                .list(Some(&partial))
                .map_ok(|object| object.location);
            let gone = of.store.delete_stream(found.boxed());
            gone.try_for_each(|_| async { Ok(()) })
                .await
                .map_err(step)?;
        }
        Ok(())
    }

    /// The tile that was partial in a log of size `from` and is full in one of `size`.
    fn replaced(&self, kind: TileKind, from: u64, size: u64) -> Option<TilePath> {
        let level = match kind {
            TileKind::Hashes { level } => level,
            TileKind::Entries => 0,
        };
        if partial_width(level, from) == 0 {
            return None;
        }
        let index = (from >> (u32::from(level) * 8)) / u64::from(TILE_WIDTH);
        TilePath::in_log(kind, index, size).filter(|tile| tile.width() == TILE_WIDTH)
    }
}
