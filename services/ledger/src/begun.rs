//! A note beside the anchor log's key that the key has stated an epoch: it is lost with neither the database nor the high-water files.
//!
//! It is written after the first epoch stands in the anchor log, and never before. So where it is and no epoch is, one was lost; and where a
//! process was cut off anywhere before, or two of them began together, there is no note and nothing is refused.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use counterfoil_tlog::hash::sha256;

/// The note on one anchor log. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Begun {
    directory: PathBuf,
    file: PathBuf,
}

impl Begun {
    /// In the folder of the logs' keys.
    pub(crate) fn new(directory: &Path, origin: &str) -> Self {
        let name = sha256(origin.as_bytes());
        Self {
            directory: directory.to_owned(),
            file: directory.join(format!("{name}.begun")),
        }
    }

    /// Where it is.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Whether it is there; an error where that cannot be told.
    pub(crate) fn is_noted(&self) -> io::Result<bool> {
        self.file.try_exists()
    }

    /// Writes it, durably.
    pub(crate) fn note(&self) -> io::Result<()> {
        // If we crash here, or before: there is no note or an empty one, which says as much. The next round writes it again.
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&self.file)?;
        file.sync_all()?;
        File::open(&self.directory)?.sync_all()
    }
}
