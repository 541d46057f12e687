//! The files of a CSV source, opened together, hashed while they are read, and looked at again afterwards.

use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::connector::Hash;
use crate::csv::table::{account, control, edge, entitlement, grant};
use crate::error::{ConnectorError, Result};

const BUFFER_BYTES: usize = 256 * 1024;

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size_bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn modified_ms(&self) -> i64 {
        self.modified
            .0
            .saturating_mul(1_000)
            .saturating_add(self.modified.1 / 1_000_000)
    }

    /// What happened to a file since `self`, or nothing.
    pub(crate) fn difference(&self, path: &Path) -> Option<&'static str> {
        match fs::metadata(path) {
            Err(_) => Some("went away"),
            Ok(metadata) => {
                let now = Self::of(&metadata);
                if now == *self {
                    None
                } else if (now.device, now.inode) != (self.device, self.inode) {
                    Some("was replaced by another file")
                } else {
                    Some("was changed")
                }
            }
        }
    }
}

/// Hashes what passes through.
#[derive(Debug)]
pub(crate) struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some(read) = buffer.get(..count) {
            self.hasher.update(read);
        }
        Ok(count)
    }
}

/// One open file of a source.
#[derive(Debug)]
pub(crate) struct SourceFile {
    pub(crate) name: &'static str,
    path: PathBuf,
    stamp: Stamp,
    /// Taken while the file is being read.
    reader: Option<BufReader<Hashing<File>>>,
    hash: Option<Hash>,
}

impl SourceFile {
    /// Opens `name`, which must be a regular file: a named pipe would never end.
    pub(crate) fn open(directory: &Path, name: &'static str, principal: &str) -> Result<Self> {
        let path = directory.join(name);
        let file =
            open_regular(&path).map_err(|error| file_error(directory, name, principal, &error))?;
        let stamp = file
            .metadata()
            .map(|metadata| Stamp::of(&metadata))
            .map_err(|error| file_error(directory, name, principal, &error))?;
        let hashing = Hashing {
            inner: file,
            hasher: Sha256::new(),
        };
        Ok(Self {
            name,
            path,
            stamp,
            reader: Some(BufReader::with_capacity(BUFFER_BYTES, hashing)),
            hash: None,
        })
    }

    fn open_if_there(
        directory: &Path,
        name: &'static str,
        principal: &str,
    ) -> Result<Option<Self>> {
        if !is_there(&directory.join(name)) {
            return Ok(None);
        }
        Self::open(directory, name, principal).map(Some)
    }

    /// Hands out the content, once.
    pub(crate) fn take_reader(&mut self) -> Result<BufReader<Hashing<File>>> {
        self.reader
            .take()
            .ok_or_else(|| ConnectorError::unreadable(self.name, "is already being read"))
    }

    /// Takes the content back when it has been read to its end.
    pub(crate) fn give_back(&mut self, reader: BufReader<Hashing<File>>) {
        self.hash = Some(reader.into_inner().hasher.finalize().into());
    }

    pub(crate) fn difference(&self) -> Option<&'static str> {
        self.stamp.difference(&self.path)
    }
}

/// All files of a source, as they stood at one moment.
#[derive(Debug)]
pub(crate) struct Source {
    directory: PathBuf,
    pub(crate) accounts: SourceFile,
    pub(crate) entitlements: SourceFile,
    pub(crate) grants: SourceFile,
    pub(crate) edges: Option<SourceFile>,
}

impl Source {
    pub(crate) fn open(directory: &Path, principal: &str) -> Result<Self> {
        fs::read_dir(directory).map_err(|error| ConnectorError::Unreachable {
            target: directory.display().to_string(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            directory: directory.to_owned(),
            accounts: SourceFile::open(directory, account::TABLE.file, principal)?,
            entitlements: SourceFile::open(directory, entitlement::TABLE.file, principal)?,
            grants: SourceFile::open(directory, grant::TABLE.file, principal)?,
            edges: SourceFile::open_if_there(directory, edge::TABLE.file, principal)?,
        })
    }

    fn files(&self) -> impl Iterator<Item = &SourceFile> {
        [&self.accounts, &self.entitlements, &self.grants]
            .into_iter()
            .chain(&self.edges)
    }

    /// The files that are no longer what was opened, with what happened to them.
    pub(crate) fn differences(&self) -> Vec<(&'static str, &'static str)> {
        let mut found: Vec<_> = self
            .files()
            .filter_map(|file| Some((file.name, file.difference()?)))
            .collect();
        if self.edges.is_none() && is_there(&self.directory.join(edge::TABLE.file)) {
            found.push((edge::TABLE.file, "appeared"));
        }
        found
    }

    /// One hash over the names and hashes of the files, and the latest time any of them was modified.
    pub(crate) fn watermark(&self) -> Option<String> {
        let mut hasher = Sha256::new();
        let mut modified_ms = i64::MIN;
        for file in self.files() {
            hasher.update(file.name.as_bytes());
            hasher.update([0]);
            hasher.update(file.hash?);
            modified_ms = modified_ms.max(file.stamp.modified_ms());
        }
        Some(format!(
            "sha256:{};mtime_ms:{modified_ms}",
            hex::encode(hasher.finalize())
        ))
    }
}

/// Whether something stands at `path`, be it only a link that leads nowhere.
pub(crate) fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

pub(crate) fn has_control_file(directory: &Path) -> bool {
    is_there(&directory.join(control::TABLE.file))
}

fn open_regular(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "is not a regular file",
        ));
    }
    File::open(path)
}

pub(crate) fn file_error(
    directory: &Path,
    name: &str,
    principal: &str,
    error: &io::Error,
) -> ConnectorError {
    match error.kind() {
        io::ErrorKind::NotFound => {
            ConnectorError::unreadable(name, format!("is missing in {}", directory.display()))
        }
        io::ErrorKind::PermissionDenied => ConnectorError::AccessDenied {
            principal: principal.to_owned(),
            code: error
                .raw_os_error()
                .and_then(|code| u32::try_from(code).ok())
                .unwrap_or(0),
            reason: format!("{name}: {error}"),
        },
        _ => ConnectorError::unreadable(name, error.to_string()),
    }
}
