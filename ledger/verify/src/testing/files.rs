//! A bundle directory as a tamperer sees it: files to change, and a MANIFEST that is made to fit again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use counterfoil_tlog::Checkpoint;
use counterfoil_tlog::hash::leaf_hash;
use counterfoil_tlog::merkle::MerkleTree;
use counterfoil_tlog::note::{Note, NoteSigner};
use counterfoil_tlog::tile::{
    TileKind, TilePath, decode_entries, encode_entries, entry_bundles_for, tiles_for,
};
use sha2::{Digest, Sha256};

use crate::bundle::{BundleInfo, BundleReader, Limits, Manifest, ManifestLine, path};

/// A bundle directory that is open to change.
#[derive(Debug)]
pub struct BundleFiles {
    root: PathBuf,
}

/// Errors of other libraries as I/O errors: a tamperer has no finer needs.
pub(super) fn other<E: ToString>(error: E) -> io::Error {
    io::Error::other(error.to_string())
}

impl BundleFiles {
    /// Opens a bundle directory.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Copies a bundle directory, so that the copy can be spoiled.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn copy(from: &Path, to: &Path) -> io::Result<Self> {
        let bundle = BundleReader::open(from, &Limits::default()).map_err(other)?;
        for (file, _) in bundle.files() {
            let target = to.join(file);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::copy(from.join(file), target)?;
        }
        Ok(Self::new(to))
    }

    /// Path of a file.
    #[must_use]
    pub fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, file: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path(file))
    }

    /// Writes a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, file: &str, bytes: &[u8]) -> io::Result<()> {
        let full = self.path(file);
        if let Some(parent) = full.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(full, bytes)
    }

    /// Changes a file in place.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn edit(&self, file: &str, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut bytes = self.read(file)?;
        change(&mut bytes);
        self.write(file, &bytes)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, file: &str) -> io::Result<()> {
        fs::remove_file(self.path(file))
    }

    /// The checkpoint's note.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn note(&self) -> io::Result<Note> {
        Note::parse(&self.read(path::CHECKPOINT)?).map_err(other)
    }

    /// What the checkpoint says.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn checkpoint(&self) -> io::Result<Checkpoint> {
        Checkpoint::parse(self.note()?.text()).map_err(other)
    }

    /// All entries of the log.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn entries(&self) -> io::Result<Vec<Vec<u8>>> {
        let size = self.checkpoint()?.size;
        let mut entries = Vec::new();
        for tile in entry_bundles_for(0, size) {
            let bytes = self.read(&format!("{}{tile}", path::LOG))?;
            let decoded = decode_entries(&bytes, tile.width()).map_err(other)?;
            entries.extend(decoded.into_iter().map(<[u8]>::to_vec));
        }
        Ok(entries)
    }

    /// Path of the entry bundle or tile of leaf hashes that holds an entry, and the entry's place in it.
    ///
    /// # Errors
    /// When the log has no such entry.
    pub fn tile_of(&self, kind: TileKind, at: u64) -> io::Result<(TilePath, usize)> {
        let size = self.checkpoint()?.size;
        let tile = TilePath::in_log(kind, at / 256, size).ok_or_else(|| other("no such tile"))?;
        let place = usize::try_from(at % 256).map_err(other)?;
        Ok((tile, place))
    }

    /// Replaces all entries: tree, tiles and checkpoint are made anew; without a key the old signature stays.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn rebuild(&self, entries: &[Vec<u8>], key: Option<&NoteSigner>) -> io::Result<()> {
        let note = self.note()?;
        let old = self.checkpoint()?;
        fs::remove_dir_all(self.path("log/tile"))?;
        let size = entries.len() as u64;
        let tree = MerkleTree::from_leaves(entries.iter().map(|e| leaf_hash(e)).collect());
        for tile in entry_bundles_for(0, size) {
            let start = usize::try_from(tile.start()).map_err(other)?;
            let slice = entries
                .get(start..start + usize::from(tile.width()))
                .unwrap_or_default();
            let bytes = encode_entries(slice).map_err(other)?;
            self.write(&format!("{}{tile}", path::LOG), &bytes)?;
        }
        for tile in tiles_for(0, size) {
            let bytes = tile.read(&tree).map_err(other)?;
            self.write(&format!("{}{tile}", path::LOG), &bytes)?;
        }
        let checkpoint = Checkpoint {
            origin: old.origin,
            size,
            root: tree.root(),
        };
        let text = checkpoint.to_text().map_err(other)?;
        let note = match key {
            Some(key) => key.sign_note(&text).map_err(other)?,
            None => Note::new(&text, note.signatures().to_vec()).map_err(other)?,
        };
        self.write(path::CHECKPOINT, &note.to_bytes())
    }

    /// Makes bundle.json and the MANIFEST fit whatever is there now.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn seal(&self) -> io::Result<()> {
        if let Ok(checkpoint) = self.checkpoint() {
            let info: BundleInfo =
                serde_json::from_slice(&self.read(path::INFO)?).map_err(other)?;
            let info = BundleInfo {
                origin: checkpoint.origin,
                size: checkpoint.size,
                ..info
            };
            self.write(
                path::INFO,
                &serde_json::to_vec_pretty(&info).map_err(other)?,
            )?;
        }
        let mut lines = Vec::new();
        self.list(&self.root, "", &mut lines)?;
        let manifest = Manifest::new(lines).map_err(other)?;
        self.write(path::MANIFEST, manifest.to_text().as_bytes())
    }

    fn list(&self, folder: &Path, below: &str, lines: &mut Vec<ManifestLine>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let file = if below.is_empty() {
                name
            } else {
                format!("{below}/{name}")
            };
            if entry.file_type()?.is_dir() {
                self.list(&entry.path(), &file, lines)?;
            } else if file != path::MANIFEST {
                let bytes = self.read(&file)?;
                lines.push(ManifestLine {
                    path: file,
                    sha256: Sha256::digest(&bytes).into(),
                    size: bytes.len() as u64,
                });
            }
        }
        Ok(())
    }
}
