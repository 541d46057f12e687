//! Where on this machine a source may lie. Its settings name paths, and the process may read more than whoever wrote them:
//! who may name paths below one directory only is held to it here, when the source is registered and at every use.
//!
//! Invariant: a refusal does not tell what is there. What lies elsewhere and what does not exist sound the same.
//!
//! A link that leads out is found. Who may write below the root can still race a read with a rename, and make hard links
//! where the file system lets him: the deployment keeps the files of tenants apart by system accounts too.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::SourceConfig;
use crate::csv::FILES;
use crate::error::{ConnectorError, Result};

const OUTSIDE: &str = "names nothing below the directory that this source is held to";

impl SourceConfig {
    /// Holds the source to `root`, for good: its paths become the real ones, with `..` and links resolved, and each must be
    /// there and lie below `root`. Blocks.
    ///
    /// # Errors
    /// `InvalidConfig`, naming the first key whose path is outside; the same when there is nothing.
    pub fn confine(&mut self, root: &Path) -> Result<()> {
        let root = root.canonicalize().ok();
        for (field, path) in self.paths_mut() {
            let real = path.canonicalize().ok();
            match (&root, real) {
                (Some(root), Some(real)) if real.starts_with(root) => *path = real,
                _ => return Err(ConnectorError::config(field, OUTSIDE)),
            }
        }
        match self {
            Self::Csv(config) => config.confined_to = root,
            Self::Ldap(config) => config.confined_to = root,
        }
        self.check_confined()
    }

    /// Looks again before the source is used: a link may have been put where a directory was. Blocks.
    pub(crate) fn check_confined(&self) -> Result<()> {
        let (root, directories) = match self {
            Self::Csv(config) => {
                let own = [Some(&config.directory), config.writer_directory.as_ref()];
                (&config.confined_to, own)
            }
            Self::Ldap(config) => (&config.confined_to, [None, None]),
        };
        let Some(root) = root else { return Ok(()) };
        let mut now = self.clone();
        for (field, path) in now.paths_mut() {
            // What is not there any more is said by whoever opens it.
            if path
                .canonicalize()
                .is_ok_and(|real| !real.starts_with(root))
            {
                return Err(ConnectorError::config(field, OUTSIDE));
            }
        }
        for file in directories
            .into_iter()
            .flatten()
            .flat_map(|directory| FILES.iter().map(|name| directory.join(name)))
        {
            if is_link(&file) && !file.canonicalize().is_ok_and(|real| real.starts_with(root)) {
                return Err(ConnectorError::config("directory", OUTSIDE));
            }
        }
        Ok(())
    }

    /// Every path of the settings, with its key.
    fn paths_mut(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        match self {
            Self::Csv(config) => {
                let writer = config.writer_directory.as_mut();
                std::iter::once(("directory", &mut config.directory))
                    .chain(writer.map(|path| ("writer_directory", path)))
                    .collect()
            }
            Self::Ldap(config) => vec![
                ("reader.password_file", &mut config.reader.password_file),
                ("writer.password_file", &mut config.writer.password_file),
            ],
        }
    }
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_symlink())
}
