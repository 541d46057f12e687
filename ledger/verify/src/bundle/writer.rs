//! Writing a bundle. It appears whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use counterfoil_tlog::tile::TilePath;
use sha2::{Digest, Sha256};

use super::{
    BundleError, BundleInfo, Manifest, ManifestLine, Opening, OpeningLine, check_path, path,
};

/// Reads this much of an attachment at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// Writes a bundle beside its target and renames it at the end.
///
/// If we crash before [`BundleWriter::finish`] renames, the target does not exist; what was written lies in a hidden directory
/// beside it, which the next writer to the same target removes. The files are not synced one by one: after a power cut
/// the MANIFEST tells which of them are torn, and the bundle is exported again.
#[derive(Debug)]
pub struct BundleWriter {
    target: PathBuf,
    partial: PathBuf,
    info: BundleInfo,
    files: BTreeMap<String, ManifestLine>,
    disclosures: BTreeMap<String, HashingFile>,
    blobs: BTreeSet<[u8; 32]>,
    finished: bool,
}

impl BundleWriter {
    /// Starts a bundle that will be at `target`, which must not exist yet.
    ///
    /// # Errors
    /// When the target exists or its directory cannot be written.
    pub fn create(target: &Path, info: BundleInfo) -> Result<Self, BundleError> {
        if target.exists() {
            return Err(BundleError::Exists(target.to_owned()));
        }
        let name = target
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| BundleError::Path(target.display().to_string(), "it has no name"))?;
        let partial = target.with_file_name(format!(".{name}.partial"));
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(BundleError::io(&partial))?;
        }
        fs::create_dir_all(&partial).map_err(BundleError::io(&partial))?;
        Ok(Self {
            target: target.to_owned(),
            partial,
            info,
            files: BTreeMap::new(),
            disclosures: BTreeMap::new(),
            blobs: BTreeSet::new(),
            finished: false,
        })
    }

    /// Adds a file of the C2SP prefix by its path below `log/`: "checkpoint" or a tile's path.
    ///
    /// # Errors
    /// When the path is not one of a log's, or the file was added before.
    pub fn add_log_file(&mut self, log_path: &str, content: &[u8]) -> Result<(), BundleError> {
        if log_path != "checkpoint" {
            TilePath::parse(log_path)
                .map_err(|_| BundleError::Path(log_path.to_owned(), "it is no tile's path"))?;
        }
        self.write_file(&format!("{}{log_path}", path::LOG), content)
    }

    /// Adds a cosigned checkpoint of a smaller size.
    ///
    /// # Errors
    /// When it cannot be written or one of that size was added before.
    pub fn add_checkpoint(&mut self, size: u64, note: &[u8]) -> Result<(), BundleError> {
        self.write_file(&format!("{}{size}", path::CHECKPOINTS), note)
    }

    /// Adds the proof that the anchor log bound the log (`counterfoil_tlog::anchor_proof::LoggedEntry`).
    ///
    /// # Errors
    /// When it cannot be written or was added before.
    pub fn add_anchor_binding(&mut self, proof: &[u8]) -> Result<(), BundleError> {
        self.write_file(path::ANCHOR_BOUND, proof)
    }

    /// Adds what an epoch of the anchor log has of the log (`counterfoil_tlog::anchor_proof::AnchorProof`).
    ///
    /// # Errors
    /// When it cannot be written or the epoch was added before.
    pub fn add_anchor_epoch(&mut self, epoch: u64, proof: &[u8]) -> Result<(), BundleError> {
        self.write_file(&format!("{}{epoch}", path::ANCHOR_EPOCHS), proof)
    }

    /// Adds the trust file that the exporter suggests. A reader is told to replace it.
    ///
    /// # Errors
    /// When it cannot be written or was added before.
    pub fn add_trust_hint(&mut self, json: &[u8]) -> Result<(), BundleError> {
        self.write_file(path::TRUST_HINT, json)
    }

    /// Adds the opening of a commitment of a record of `stream`.
    ///
    /// # Errors
    /// When it cannot be written, or the stream's name has no place in a path.
    pub fn add_opening(&mut self, stream: &str, opening: &Opening) -> Result<(), BundleError> {
        let file_path = format!("{}{stream}.jsonl", path::DISCLOSURES);
        if !self.disclosures.contains_key(&file_path) {
            let file = HashingFile::create(&self.partial, &file_path)?;
            self.disclosures.insert(file_path.clone(), file);
        }
        let line = OpeningLine {
            record_id: hex::encode(&opening.record_id),
            label: opening.label.clone(),
            salt: hex::encode(opening.salt),
            value: STANDARD.encode(&opening.value),
        };
        let mut json =
            serde_json::to_vec(&line).map_err(|error| BundleError::malformed(&file_path, error))?;
        json.push(b'\n');
        match self.disclosures.get_mut(&file_path) {
            Some(file) => file.write(&json),
            None => Ok(()),
        }
    }

    /// Starts an attachment that comes in parts. One that is there already is written again nowhere.
    ///
    /// # Errors
    /// When its file cannot be made.
    pub fn blob(&mut self, sha256: [u8; 32]) -> Result<BlobSink<'_>, BundleError> {
        let file = if self.blobs.contains(&sha256) {
            None
        } else {
            let file_path = format!("{}{}", path::BLOBS, hex::encode(sha256));
            Some(HashingFile::create(&self.partial, &file_path)?)
        };
        Ok(BlobSink {
            writer: self,
            sha256,
            file,
        })
    }

    /// Adds an attachment from a reader, whatever its size.
    ///
    /// # Errors
    /// When it cannot be read or written, or is not what its hash says.
    pub fn add_blob(
        &mut self,
        sha256: [u8; 32],
        content: &mut impl Read,
    ) -> Result<(), BundleError> {
        let mut sink = self.blob(sha256)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = content
                .read(&mut chunk)
                .map_err(BundleError::io(hex::encode(sha256)))?;
            if read == 0 {
                return sink.finish();
            }
            sink.write(chunk.get(..read).unwrap_or_default())?;
        }
    }

    /// Adds a descriptor set.
    ///
    /// # Errors
    /// When its bytes do not have this hash, or it cannot be written.
    pub fn add_schema(&mut self, schema_hash: &[u8; 32], bytes: &[u8]) -> Result<(), BundleError> {
        let file_path = format!("{}{}.binpb", path::SCHEMAS, hex::encode(schema_hash));
        let found: [u8; 32] = Sha256::digest(bytes).into();
        if found != *schema_hash {
            return Err(BundleError::Hash {
                path: file_path,
                found: hex::encode(found),
            });
        }
        if self.files.contains_key(&file_path) {
            return Ok(());
        }
        self.write_file(&file_path, bytes)
    }

    /// Writes what describes the bundle, and puts it into its place.
    ///
    /// # Errors
    /// When something cannot be written, or the target has appeared meanwhile.
    pub fn finish(mut self) -> Result<PathBuf, BundleError> {
        for (_, file) in std::mem::take(&mut self.disclosures) {
            let line = file.finish()?;
            self.files.insert(line.path.clone(), line);
        }
        let mut info = serde_json::to_vec_pretty(&self.info)
            .map_err(|error| BundleError::malformed(path::INFO, error))?;
        info.push(b'\n');
        self.write_file(path::INFO, &info)?;
        self.write_file(path::README, readme(&self.info).as_bytes())?;
        let manifest = Manifest::new(self.files.values().cloned().collect())?;
        let manifest_path = self.partial.join(path::MANIFEST);
        let mut file = File::create(&manifest_path).map_err(BundleError::io(&manifest_path))?;
        file.write_all(manifest.to_text().as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(BundleError::io(&manifest_path))?;
        if self.target.exists() {
            return Err(BundleError::Exists(self.target.clone()));
        }
        // If we crash here: the target does not exist, and the next export starts over.
        fs::rename(&self.partial, &self.target).map_err(BundleError::io(&self.target))?;
        self.finished = true;
        Ok(self.target.clone())
    }

    fn write_file(&mut self, file_path: &str, content: &[u8]) -> Result<(), BundleError> {
        if self.files.contains_key(file_path) {
            return Err(BundleError::Duplicate(file_path.to_owned()));
        }
        let mut file = HashingFile::create(&self.partial, file_path)?;
        file.write(content)?;
        let line = file.finish()?;
        self.files.insert(line.path.clone(), line);
        Ok(())
    }
}

impl Drop for BundleWriter {
    fn drop(&mut self) {
        if !self.finished {
            // What remains is hidden, and removed by the next writer.
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}

/// Takes the parts of one attachment.
#[derive(Debug)]
pub struct BlobSink<'w> {
    writer: &'w mut BundleWriter,
    sha256: [u8; 32],
    file: Option<HashingFile>,
}

impl BlobSink<'_> {
    /// Takes the next part.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, part: &[u8]) -> Result<(), BundleError> {
        match &mut self.file {
            Some(file) => file.write(part),
            None => Ok(()),
        }
    }

    /// Ends the attachment.
    ///
    /// # Errors
    /// When the parts together are not what its hash says.
    pub fn finish(self) -> Result<(), BundleError> {
        let Some(file) = self.file else {
            return Ok(());
        };
        let line = file.finish()?;
        if line.sha256 != self.sha256 {
            return Err(BundleError::Hash {
                path: line.path,
                found: hex::encode(line.sha256),
            });
        }
        self.writer.blobs.insert(self.sha256);
        self.writer.files.insert(line.path.clone(), line);
        Ok(())
    }
}

/// A file that knows its hash and size when it is done.
#[derive(Debug)]
struct HashingFile {
    path: String,
    file: BufWriter<File>,
    hash: Sha256,
    size: u64,
}

impl HashingFile {
    fn create(root: &Path, file_path: &str) -> Result<Self, BundleError> {
        check_path(file_path)?;
        let full = root.join(file_path);
        if let Some(parent) = full.parent() {
            fs::create_dir_all(parent).map_err(BundleError::io(parent))?;
        }
        let file = File::create(&full).map_err(BundleError::io(&full))?;
        Ok(Self {
            path: file_path.to_owned(),
            file: BufWriter::new(file),
            hash: Sha256::new(),
            size: 0,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), BundleError> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        self.file
            .write_all(bytes)
            .map_err(BundleError::io(&self.path))
    }

    fn finish(mut self) -> Result<ManifestLine, BundleError> {
        self.file.flush().map_err(BundleError::io(&self.path))?;
        Ok(ManifestLine {
            path: self.path,
            sha256: self.hash.finalize().into(),
            size: self.size,
        })
    }
}

/// What the bundle says to people.
fn readme(info: &BundleInfo) -> String {
    format!(
        "Evidence bundle of {tenant}\n\
         log      {origin}\n\
         entries  {size}\n\
         made     {created} by {tool}\n\
         \n\
         Verify it with the tool, and with a trust file that you did NOT take from this bundle:\n\
         \n\
         \x20   counterfoil-verify . --trust trust.json\n\
         \n\
         The trust file holds the verifier keys that you were given another way, and the checkpoints that you kept from\n\
         earlier bundles. trust/trust.json is only what the exporter would suggest; it is never used to verify.\n\
         \n\
         The directory log/ is a plain transparency log in the C2SP layout (https://c2sp.org/tlog-tiles). Anybody's tool reads\n\
         it: the Go package golang.org/x/mod/sumdb, Tessera's fsck, the Rust crates tlog_tiles and signed_note, the Python\n\
         packages tlog-scales and pymerkle. They check that the log is whole and signed; what the records mean, whether the\n\
         reviews were complete and whether removals are proved, is what counterfoil-verify replays.\n\
         \n\
         The directory checkpoints/, if there is one, has what the log was at smaller sizes, with the lines of witnesses who saw it then.\n\
         \n\
         The directory anchor/, if there is one, has proofs out of the operator's anchor log, which binds the heads of all logs that\n\
         the operator keeps: that this one is among them, and which heads it had.\n\
         \n\
         MANIFEST lists the SHA-256, size and path of every other file.\n",
        tenant = info.tenant,
        origin = info.origin,
        size = info.size,
        created = info.created,
        tool = info.tool,
    )
}
