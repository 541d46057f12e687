//! Where logs live: a database, and what is kept apart from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context as _;
use counterfoil_engine::{
    Clock, DirectoryKeys, Engine, EngineError, EngineOptions, HighWater, Publication,
};
use object_store::local::LocalFileSystem;

use crate::records::tenant;

/// The time of the machine.
#[derive(Debug)]
struct RealTime;

impl Clock for RealTime {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the clock: two histories of one log differ in their times"
    )]
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
    }
}

/// A database and the folder with keys, published copies and high-water files.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) folder: PathBuf,
}

impl Place {
    /// With a SQLite database in the folder.
    pub(crate) fn sqlite(folder: &Path) -> Self {
        Self {
            url: sqlite_url(&folder.join("ledger.db")),
            folder: folder.to_owned(),
        }
    }

    /// The SQLite database.
    pub(crate) fn database(&self) -> PathBuf {
        self.folder.join("ledger.db")
    }

    pub(crate) fn copies(&self) -> PathBuf {
        self.folder.join("copies")
    }

    pub(crate) fn marks(&self) -> PathBuf {
        self.folder.join("marks")
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.folder.join("keys")
    }

    /// The checkpoint of a log's published copy.
    pub(crate) fn published(&self, log: usize) -> anyhow::Result<Option<String>> {
        let path = self.copies().join(tenant(log)).join("checkpoint");
        match fs::read_to_string(&path) {
            Ok(note) => Ok(Some(note)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// As a service publishes to a folder: durable when it answers.
    pub(crate) fn publication(&self) -> anyhow::Result<Publication> {
        fs::create_dir_all(self.copies())?;
        let store = LocalFileSystem::new_with_prefix(self.copies())?.with_fsync(true);
        let publication = Publication::new(Arc::new(store), "");
        Ok(publication.in_turns(self.copies().join(".turns")))
    }

    /// The engine as a service opens it: compared with the high-water files and the copies.
    pub(crate) async fn open(&self) -> Result<Engine, EngineError> {
        self.open_with(EngineOptions::default()).await
    }

    pub(crate) async fn open_with(&self, options: EngineOptions) -> Result<Engine, EngineError> {
        let failed = |error: String| EngineError::Storage {
            step: "the folder",
            message: error,
        };
        let marks = HighWater::open(self.marks()).map_err(|error| failed(error.to_string()))?;
        let copies = self
            .publication()
            .map_err(|error| failed(error.to_string()))?;
        let keys = DirectoryKeys::open(self.keys()).map_err(|error| failed(error.to_string()))?;
        let options = EngineOptions {
            anchors: vec![Arc::new(marks), Arc::new(copies)],
            ..options
        };
        Engine::open(&self.url, Arc::new(keys), Arc::new(RealTime), options).await
    }
}

/// The address of a SQLite database.
pub(crate) fn sqlite_url(path: &Path) -> String {
    format!("sqlite://{}?mode=rwc", path.display())
}
