//! The newest checkpoint of each log in a file, apart from the database: what was signed last is known even if nothing was published
//! since.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use counterfoil_tlog::hash::sha256;

use crate::LogInfo;
use crate::anchor::{Anchor, AnchorError};

/// A folder with a file a log.
///
/// A file is written with every commit and not forced to the disk: it outlives a killed process and a restored database. After a
/// power failure it may be a little older than the database, which is no contradiction.
#[derive(Debug, Clone)]
pub struct HighWater {
    directory: PathBuf,
}

impl HighWater {
    /// Opens the folder, and makes it if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)?;
        Ok(Self { directory })
    }

    /// Whether it knows a checkpoint of the log with this origin.
    #[must_use]
    pub fn has(&self, origin: &str) -> bool {
        fs::metadata(self.path(origin)).is_ok_and(|file| file.len() > 0)
    }

    fn path(&self, origin: &str) -> PathBuf {
        let name = sha256(origin.as_bytes());
        self.directory.join(format!("{name}.checkpoint"))
    }

    fn write(&self, log: &LogInfo, checkpoint: &str) -> io::Result<()> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.path(&log.origin))?;
        // One write over what was there: a checkpoint of a larger log is never shorter, so no moment leaves half of one.
        file.write_all_at(checkpoint.as_bytes(), 0)?;
        if file.metadata()?.len() > checkpoint.len() as u64 {
            file.set_len(checkpoint.len() as u64)?;
        }
        Ok(())
    }
}

#[async_trait]
impl Anchor for HighWater {
    fn name(&self) -> String {
        "the high-water file".to_owned()
    }

    async fn newest(&self, log: &LogInfo) -> Result<Option<Vec<u8>>, AnchorError> {
        match fs::read(self.path(&log.origin)) {
            // Made, and never written: the process was killed in between, or the volume was full.
            Ok(note) if note.is_empty() => Ok(None),
            Ok(note) => Ok(Some(note)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(AnchorError {
                name: self.name(),
                reason: error.to_string(),
            }),
        }
    }

    fn newest_at_ms(&self, log: &LogInfo) -> Option<i64> {
        let changed = fs::metadata(self.path(&log.origin)).and_then(|file| file.modified());
        let since = changed.ok()?.duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(since.as_millis()).ok()
    }

    fn remember(&self, log: &LogInfo, checkpoint: &str) {
        if let Err(error) = self.write(log, checkpoint) {
            tracing::warn!(origin = log.origin, %error, "the high-water file was not written");
        }
    }
}
