//! Opening a bundle, strictly: a directory, or one file that is a tar of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{BundleError, BundleInfo, FORMAT, Manifest, archive, check_path, path};

/// Reads this much of a file at a time when it is only hashed.
const CHUNK_BYTES: usize = 256 * 1024;
/// How deep the directories of a bundle may be.
const DEPTH_MAX: usize = 16;

/// How large a bundle may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Files in all.
    pub files: usize,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Bytes of all files.
    pub total_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            files: 2_000_000,
            file_bytes: 16 << 30,
            total_bytes: 256 << 30,
        }
    }
}

/// Where a file's bytes are.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Offset in the archive; 0 in a directory.
    offset: u64,
    size: u64,
}

/// An open bundle. Nothing in it has been judged but its shape.
#[derive(Debug)]
pub struct BundleReader {
    root: PathBuf,
    archive: bool,
    files: BTreeMap<String, Place>,
    info: BundleInfo,
    manifest: Manifest,
}

impl BundleReader {
    /// Opens a bundle and reads `bundle.json` and `MANIFEST`.
    ///
    /// # Errors
    /// When it is not shaped like a bundle: the command answers 2.
    pub fn open(root: &Path, limits: &Limits) -> Result<Self, BundleError> {
        let metadata = fs::metadata(root).map_err(BundleError::io(root))?;
        let archive = metadata.is_file();
        let files: BTreeMap<String, Place> = if archive {
            archive::index(root, limits)?
                .into_iter()
                .map(|(path, (offset, size))| (path, Place { offset, size }))
                .collect()
        } else {
            let mut walk = Walk {
                limits,
                files: BTreeMap::new(),
                total: 0,
            };
            walk.directory(root, "", 0)?;
            walk.files
        };
        let mut reader = Self {
            root: root.to_owned(),
            archive,
            files,
            info: BundleInfo::full("", "", 0, "", ""),
            manifest: Manifest::default(),
        };
        let info = reader.read(path::INFO, 64 << 10)?;
        reader.info = serde_json::from_slice(&info)
            .map_err(|error| BundleError::malformed(path::INFO, error))?;
        if reader.info.format != FORMAT {
            let format = &reader.info.format;
            return Err(BundleError::malformed(
                path::INFO,
                format!("unknown format {format:?}"),
            ));
        }
        if reader.info.kind != "full" {
            let kind = &reader.info.kind;
            return Err(BundleError::malformed(
                path::INFO,
                format!("unknown kind {kind:?}"),
            ));
        }
        let manifest = reader.read(path::MANIFEST, 1 << 30)?;
        let text = String::from_utf8(manifest)
            .map_err(|_| BundleError::malformed(path::MANIFEST, "it is not UTF-8"))?;
        reader.manifest = Manifest::parse(&text)?;
        Ok(reader)
    }

    /// What the bundle claims to be.
    #[must_use]
    pub fn info(&self) -> &BundleInfo {
        &self.info
    }

    /// The MANIFEST.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// All files that are really there, ascending by path, with their sizes.
    pub fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.files
            .iter()
            .map(|(path, place)| (path.as_str(), place.size))
    }

    /// The files below a prefix such as `blobs/`, ascending by path, with their sizes.
    pub fn files_below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
        self.files
            .range(prefix.to_owned()..)
            .take_while(move |(path, _)| path.starts_with(prefix))
            .map(|(path, place)| (path.as_str(), place.size))
    }

    /// Size of a file, if it is there.
    #[must_use]
    pub fn size(&self, path: &str) -> Option<u64> {
        self.files.get(path).map(|place| place.size)
    }

    /// Where the bundle is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The bytes of a file of at most `limit` bytes.
    ///
    /// # Errors
    /// When it is not there, too large or cannot be read.
    pub fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, BundleError> {
        let (mut source, size) = self.open_file(path)?;
        if size > limit {
            return Err(BundleError::TooLarge {
                path: path.to_owned(),
                size,
                limit,
            });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        source
            .read_to_end(&mut bytes)
            .map_err(BundleError::io(path))?;
        Ok(bytes)
    }

    /// A reader over the lines of a file.
    ///
    /// # Errors
    /// When it is not there or cannot be opened.
    pub fn lines(&self, path: &str) -> Result<impl BufRead, BundleError> {
        let (source, _) = self.open_file(path)?;
        Ok(BufReader::with_capacity(CHUNK_BYTES, source))
    }

    /// SHA-256 and size of a file, read in parts.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn hash(&self, path: &str) -> Result<([u8; 32], u64), BundleError> {
        let (mut source, _) = self.open_file(path)?;
        let mut hash = Sha256::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut size = 0;
        loop {
            let read = source.read(&mut chunk).map_err(BundleError::io(path))?;
            if read == 0 {
                return Ok((hash.finalize().into(), size));
            }
            hash.update(chunk.get(..read).unwrap_or_default());
            size += read as u64;
        }
    }

    fn open_file(&self, path: &str) -> Result<(std::io::Take<File>, u64), BundleError> {
        let place = self
            .files
            .get(path)
            .ok_or_else(|| BundleError::malformed(path, "it is missing"))?;
        let full = if self.archive {
            self.root.clone()
        } else {
            self.root.join(path)
        };
        let mut file = File::open(&full).map_err(BundleError::io(&full))?;
        if place.offset > 0 {
            file.seek(SeekFrom::Start(place.offset))
                .map_err(BundleError::io(&full))?;
        }
        // A file that grows while it is read is cut at the size it had when the bundle was opened.
        Ok((file.take(place.size), place.size))
    }
}

/// Walks a directory without following anything out of it.
struct Walk<'l> {
    limits: &'l Limits,
    files: BTreeMap<String, Place>,
    total: u64,
}

impl Walk<'_> {
    fn directory(&mut self, full: &Path, below: &str, depth: usize) -> Result<(), BundleError> {
        if depth > DEPTH_MAX {
            return Err(BundleError::Path(below.to_owned(), "it is too deep"));
        }
        for entry in fs::read_dir(full).map_err(BundleError::io(full))? {
            let entry = entry.map_err(BundleError::io(full))?;
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| {
                BundleError::Path(entry.path().display().to_string(), "it is not UTF-8")
            })?;
            let path = if below.is_empty() {
                name.to_owned()
            } else {
                format!("{below}/{name}")
            };
            check_path(&path)?;
            // Of the entry itself, not of what a link points at.
            let kind = entry.file_type().map_err(BundleError::io(entry.path()))?;
            if kind.is_dir() {
                self.directory(&entry.path(), &path, depth + 1)?;
            } else if kind.is_file() {
                let metadata = entry.metadata().map_err(BundleError::io(entry.path()))?;
                self.file(path, metadata.len())?;
            } else {
                return Err(BundleError::Path(path, "it is a link or no plain file"));
            }
        }
        Ok(())
    }

    fn file(&mut self, path: String, size: u64) -> Result<(), BundleError> {
        check_limits(self.limits, &path, size, self.files.len(), &mut self.total)?;
        self.files.insert(path, Place { offset: 0, size });
        Ok(())
    }
}

/// Refuses one file too many, a file too large, or too much in all.
pub(super) fn check_limits(
    limits: &Limits,
    path: &str,
    size: u64,
    files: usize,
    total: &mut u64,
) -> Result<(), BundleError> {
    *total = total.saturating_add(size);
    if size > limits.file_bytes || *total > limits.total_bytes {
        return Err(BundleError::TooLarge {
            path: path.to_owned(),
            size,
            limit: limits.file_bytes,
        });
    }
    if files >= limits.files {
        return Err(BundleError::malformed(
            path,
            "the bundle has too many files",
        ));
    }
    Ok(())
}
