//! The signing keys of the logs: one Ed25519 key a log, each in a file of its own.
//!
//! Files and not a table: so no copy, replica or backup of the database, and nobody who can merely write to it, can sign.
//! A log's key can be moved or destroyed alone. Replicas mount the same directory as a secret. [`LogKeys`] is the seam for
//! keys kept elsewhere.

use std::fmt::Debug;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use counterfoil_tlog::NoteSigner;
use counterfoil_tlog::hash::sha256;

/// Why a key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file system failed.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Others than the owner may read the file.
    #[error("{0} must be readable by its owner only (mode 0600)")]
    Exposed(PathBuf),
    /// The content is not a private key, or not of this log.
    #[error("{path}: {reason}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No random numbers.
    #[error("no random numbers: {0}")]
    Random(String),
}

/// Where the signing keys of the logs are.
pub trait LogKeys: Debug + Send + Sync + 'static {
    /// The signer of a log, or `None` if there is no key of it.
    ///
    /// # Errors
    /// When the key is there and cannot be used.
    fn find(&self, origin: &str) -> Result<Option<NoteSigner>, KeyError>;

    /// The signer of a log, made durable before this returns if it is new.
    ///
    /// # Errors
    /// When it cannot be read or written.
    fn find_or_create(&self, origin: &str) -> Result<NoteSigner, KeyError>;
}

/// A directory with one file a log, in the private key text form of Go's `x/mod`.
#[derive(Debug)]
pub struct DirectoryKeys {
    directory: PathBuf,
}

impl DirectoryKeys {
    /// Opens the directory, and makes it if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, KeyError> {
        let directory = directory.into();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|source| file_error(&directory, source))?;
        Ok(Self { directory })
    }

    /// Named by hash, because an origin may hold any character.
    fn path(&self, origin: &str) -> PathBuf {
        self.directory
            .join(format!("{}.key", sha256(origin.as_bytes())))
    }
}

impl LogKeys for DirectoryKeys {
    fn find(&self, origin: &str) -> Result<Option<NoteSigner>, KeyError> {
        let path = self.path(origin);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(file_error(&path, source)),
        };
        let metadata = fs::metadata(&path).map_err(|source| file_error(&path, source))?;
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(KeyError::Exposed(path));
        }
        let malformed = |reason: String| KeyError::Malformed {
            path: path.clone(),
            reason,
        };
        let signer = NoteSigner::parse_private_key(text.trim_end())
            .map_err(|error| malformed(error.to_string()))?;
        if signer.name() != origin {
            return Err(malformed(format!("it is the key of {:?}", signer.name())));
        }
        Ok(Some(signer))
    }

    fn find_or_create(&self, origin: &str) -> Result<NoteSigner, KeyError> {
        if let Some(signer) = self.find(origin)? {
            return Ok(signer);
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| KeyError::Random(error.to_string()))?;
        let path = self.path(origin);
        let signer = NoteSigner::from_seed(origin, &seed).map_err(|error| KeyError::Malformed {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let mut suffix = [0; 8];
        getrandom::fill(&mut suffix).map_err(|error| KeyError::Random(error.to_string()))?;
        let draft = path.with_extension(format!("{}.new", hex::encode(suffix)));
        write_durably(&draft, &signer.to_private_key())
            .map_err(|source| file_error(&draft, source))?;
        // If we crash here: a draft is left over that nothing reads. A link never replaces a key that is there.
        let linked = fs::hard_link(&draft, &path);
        fs::remove_file(&draft).map_err(|source| file_error(&draft, source))?;
        match linked {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(file_error(&path, source)),
        }
        fs::File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|source| file_error(&self.directory, source))?;
        // If we crash here: the key is there without a log, and the next attempt to create the log takes it.
        self.find(origin)?.ok_or_else(|| {
            file_error(
                &path,
                io::Error::other("the key vanished while it was made"),
            )
        })
    }
}

fn write_durably(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}

fn file_error(path: &Path, source: io::Error) -> KeyError {
    KeyError::File {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let keys = DirectoryKeys::open(directory.path().join("keys")).unwrap();
        assert!(keys.find("ledger.example/t/acme").unwrap().is_none());
        let made = keys.find_or_create("ledger.example/t/acme").unwrap();
        let again = keys.find_or_create("ledger.example/t/acme").unwrap();
        assert_eq!(made.vkey(), again.vkey());
        let other = keys.find_or_create("ledger.example/t/other").unwrap();
        assert_ne!(
            made.verifier_key().public_key(),
            other.verifier_key().public_key()
        );
        let files = fs::read_dir(directory.path().join("keys")).unwrap().count();
        assert_eq!(files, 2, "no draft is left over");
    }

    #[test]
    fn a_draft_that_was_left_over_is_no_key() {
        let directory = tempfile::tempdir().unwrap();
        let keys = DirectoryKeys::open(directory.path()).unwrap();
        let draft = keys.path("log").with_extension("0123456789abcdef.new");
        fs::write(&draft, "PRIVATE+KEY+").unwrap();
        assert!(keys.find("log").unwrap().is_none());
        let made = keys.find_or_create("log").unwrap();
        assert_eq!(keys.find("log").unwrap().unwrap().vkey(), made.vkey());
    }

    #[test]
    fn a_key_that_others_may_read_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let keys = DirectoryKeys::open(directory.path()).unwrap();
        keys.find_or_create("log").unwrap();
        fs::set_permissions(keys.path("log"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(keys.find("log"), Err(KeyError::Exposed(_))));
    }

    #[test]
    fn the_key_of_another_log_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let keys = DirectoryKeys::open(directory.path()).unwrap();
        keys.find_or_create("one").unwrap();
        fs::rename(keys.path("one"), keys.path("two")).unwrap();
        assert!(matches!(keys.find("two"), Err(KeyError::Malformed { .. })));
    }
}
