//! Rewriting history with every key in hand: references, roots, streams, epochs and signatures are made to fit again, so that
//! only what the records say can give the forgery away.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

use counterfoil_evidence::catalogue::{Payload, decode_payload};
use counterfoil_evidence::leaf::{
    ACTION_LEAF_LEN, AUTHORIZED_LEAF_LEN, DISPOSITION_LEAF_LEN, media_type,
};
use counterfoil_evidence::record::{record_hash, signed_message};
use counterfoil_evidence::v1;
use counterfoil_tlog::hash::{Hash, leaf_hash, sha256};
use counterfoil_tlog::merkle;
use prost::Message as _;

use super::files::{BundleFiles, other};
use super::keys::StolenKeys;
use crate::bundle::path;

/// What becomes of a record.
#[derive(Debug)]
pub enum Edit {
    /// It stays, as changed.
    Keep,
    /// It is taken out.
    Drop,
    /// It stays, and these come after it.
    Follow(Vec<(v1::Record, Payload)>),
}

/// One record, open to change.
#[derive(Debug)]
pub struct Scene<'s> {
    /// Its position before.
    pub at: u64,
    /// Its envelope.
    pub record: &'s mut v1::Record,
    /// Its payload.
    pub payload: &'s mut Payload,
    /// When it was integrated, milliseconds.
    pub recorded_at_ms: &'s mut i64,
    files: &'s BundleFiles,
    replaced: &'s mut HashMap<[u8; 32], [u8; 32]>,
}

impl Scene<'_> {
    /// The attachment of a media type.
    ///
    /// # Errors
    /// When it has none, or it cannot be read.
    pub fn blob(&self, media_type: &str) -> io::Result<Vec<u8>> {
        let blob = self
            .record
            .blob
            .iter()
            .find(|blob| blob.media_type == media_type)
            .ok_or_else(|| other("no such attachment"))?;
        self.files.read(&blob_path(&blob.sha256))
    }

    /// Replaces the attachment of a media type; answers its root as a set with leaves of a length.
    ///
    /// # Errors
    /// When it has none, or it cannot be written.
    pub fn set_blob(
        &mut self,
        media_type: &str,
        bytes: &[u8],
        leaf_len: usize,
    ) -> io::Result<Vec<u8>> {
        let blob = self
            .record
            .blob
            .iter_mut()
            .find(|blob| blob.media_type == media_type)
            .ok_or_else(|| other("no such attachment"))?;
        blob.sha256 = sha256(bytes).0.to_vec();
        blob.size = bytes.len() as u64;
        self.files.write(&blob_path(&blob.sha256), bytes)?;
        Ok(root_of(bytes, leaf_len).0.to_vec())
    }

    /// From here on, this hash or root stands where that one stood.
    pub fn replace(&mut self, old: &[u8], new: &[u8]) {
        if let (Ok(old), Ok(new)) = (old.try_into(), new.try_into()) {
            self.replaced.insert(old, new);
        }
    }
}

fn blob_path(sha256: &[u8]) -> String {
    format!("{}{}", path::BLOBS, hex::encode(sha256))
}

fn root_of(blob: &[u8], leaf_len: usize) -> Hash {
    let leaves: Vec<Hash> = blob.chunks_exact(leaf_len).map(leaf_hash).collect();
    merkle::root(&leaves)
}

/// How far a stream is.
struct StreamEnd {
    seq: u64,
    hash: [u8; 32],
}

/// Rewrites the log of a bundle.
pub struct Forger<'f> {
    files: &'f BundleFiles,
    keys: &'f StolenKeys,
    replaced: HashMap<[u8; 32], [u8; 32]>,
    streams: BTreeMap<String, StreamEnd>,
    entries: Vec<Vec<u8>>,
    types: Vec<String>,
    prev_leaf: Hash,
    epoch_from: u64,
    /// Where the last round of hashing ended.
    scrubbed_to: u64,
    open: BTreeMap<[u8; 16], [u8; 32]>,
    dropped: HashSet<Vec<u8>>,
}

impl std::fmt::Debug for Forger<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forger").finish_non_exhaustive()
    }
}

impl<'f> Forger<'f> {
    /// A forger with keys at a bundle.
    #[must_use]
    pub fn new(files: &'f BundleFiles, keys: &'f StolenKeys) -> Self {
        Self {
            files,
            keys,
            replaced: HashMap::new(),
            streams: BTreeMap::new(),
            entries: Vec::new(),
            types: Vec::new(),
            prev_leaf: Hash([0; 32]),
            epoch_from: 0,
            scrubbed_to: 0,
            open: BTreeMap::new(),
            dropped: HashSet::new(),
        }
    }

    /// Rewrites every record as `change` says, and seals the bundle again. Seals are recomputed before they are shown to it.
    ///
    /// # Errors
    /// When the bundle cannot be read or written.
    pub fn rewrite(
        mut self,
        mut change: impl FnMut(&mut Scene<'_>) -> io::Result<Edit>,
    ) -> io::Result<()> {
        for (at, bytes) in (0_u64..).zip(self.files.entries()?) {
            self.one(at, &bytes, &mut change)?;
        }
        self.files.rebuild(&self.entries, Some(&self.keys.log))?;
        self.forget_openings()?;
        self.files.seal()
    }

    fn one(
        &mut self,
        at: u64,
        bytes: &[u8],
        change: &mut impl FnMut(&mut Scene<'_>) -> io::Result<Edit>,
    ) -> io::Result<()> {
        let entry = v1::Entry::decode(bytes).map_err(other)?;
        let old_hash = record_hash(&entry.record);
        let original = v1::Record::decode(entry.record.as_slice()).map_err(other)?;
        self.refit_blobs(&original)?;
        let refitted = self.substituted(&entry.record);
        let mut record = v1::Record::decode(refitted.as_slice()).map_err(other)?;
        let mut payload = decode_payload(&record.r#type, &record.payload)
            .ok_or_else(|| other("unknown type"))?
            .map_err(other)?;
        self.refit_payload(&mut payload);
        let mut recorded_at_ms = entry.recorded_at_ms;
        let edit = change(&mut Scene {
            at,
            record: &mut record,
            payload: &mut payload,
            recorded_at_ms: &mut recorded_at_ms,
            files: self.files,
            replaced: &mut self.replaced,
        })?;
        if matches!(edit, Edit::Drop) {
            self.dropped.insert(record.record_id);
            return Ok(());
        }
        let new_hash = self.append(record, &payload, recorded_at_ms, &entry)?;
        if new_hash != old_hash {
            self.replaced.insert(old_hash, new_hash);
        }
        if let Edit::Follow(more) = edit {
            for (mut record, payload) in more {
                let id = sha256(&[&record.record_id[..], &self.prev_leaf.0].concat());
                record.record_id = id.0.get(..16).unwrap_or_default().to_vec();
                record.commitment.retain(|c| c.label == "justification");
                self.dropped.insert(record.record_id.clone());
                self.append(record, &payload, recorded_at_ms, &entry)?;
            }
        }
        Ok(())
    }

    fn append(
        &mut self,
        mut record: v1::Record,
        payload: &Payload,
        recorded_at_ms: i64,
        original: &v1::Entry,
    ) -> io::Result<[u8; 32]> {
        let end = self
            .streams
            .entry(record.stream.clone())
            .or_insert(StreamEnd {
                seq: 0,
                hash: [0; 32],
            });
        record.stream_seq = end.seq + 1;
        record.prev_record_hash = end.hash.to_vec();
        payload.type_name().clone_into(&mut record.r#type);
        record.payload = payload.encode();
        let bytes = record.encode_to_vec();
        let hash = record_hash(&bytes);
        *end = StreamEnd {
            seq: record.stream_seq,
            hash,
        };
        let (key_id, signer) = self
            .keys
            .producer(&record.stream)
            .ok_or_else(|| other("no key for this stream"))?;
        let entry = v1::Entry {
            version: 1,
            log_origin: original.log_origin.clone(),
            index: self.entries.len() as u64,
            recorded_at_ms,
            prev_leaf_hash: self.prev_leaf.0.to_vec(),
            record_key_id: key_id.to_owned(),
            record_signature: signer.sign(&signed_message(&bytes)).to_vec(),
            record: bytes,
        }
        .encode_to_vec();
        self.prev_leaf = leaf_hash(&entry);
        self.entries.push(entry);
        self.types.push(record.r#type);
        self.obligations(payload, hash);
        match payload {
            Payload::EpochSealed(sealed) => self.epoch_from = sealed.to_index,
            Payload::LogScrubbed(scrubbed) => self.scrubbed_to = scrubbed.to_size,
            _ => {}
        }
        Ok(hash)
    }

    fn obligations(&mut self, payload: &Payload, hash: [u8; 32]) {
        let id = |bytes: &[u8]| bytes.try_into().unwrap_or([0; 16]);
        match payload {
            Payload::ObligationOpened(opened) => {
                self.open.insert(id(&opened.obligation), hash);
            }
            Payload::ObligationDischarged(ended) => {
                self.open.remove(&id(&ended.obligation));
            }
            Payload::ObligationBreached(ended) => {
                self.open.remove(&id(&ended.obligation));
            }
            _ => {}
        }
    }

    /// Leaves that end with the hash of a record follow that record.
    fn refit_blobs(&mut self, record: &v1::Record) -> io::Result<()> {
        for blob in &record.blob {
            let leaf_len = match blob.media_type.as_str() {
                media_type::DISPOSITIONS => DISPOSITION_LEAF_LEN,
                media_type::AUTHORIZED_SET => AUTHORIZED_LEAF_LEN,
                media_type::ACTIONS => ACTION_LEAF_LEN,
                _ => continue,
            };
            let old = self.files.read(&blob_path(&blob.sha256))?;
            let mut new = old.clone();
            for leaf in new.chunks_exact_mut(leaf_len) {
                let Some(tail) = leaf.last_chunk_mut::<32>() else {
                    continue;
                };
                if let Some(replacement) = self.replaced.get(tail) {
                    *tail = *replacement;
                }
            }
            if new == old {
                continue;
            }
            let sha = sha256(&new).0;
            self.files.write(&blob_path(&sha), &new)?;
            self.replaced.insert(sha256(&old).0, sha);
            self.replaced
                .insert(root_of(&old, leaf_len).0, root_of(&new, leaf_len).0);
        }
        Ok(())
    }

    /// Every hash that has changed, wherever it stands.
    fn substituted(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = bytes.to_vec();
        if self.replaced.is_empty() {
            return out;
        }
        let mut at = 0;
        while let Some(window) = out.get(at..at + 32) {
            let found = <[u8; 32]>::try_from(window)
                .ok()
                .and_then(|window| self.replaced.get(&window).copied());
            match (found, out.get_mut(at..at + 32)) {
                (Some(new), Some(place)) => {
                    place.copy_from_slice(&new);
                    at += 32;
                }
                _ => at += 1,
            }
        }
        out
    }

    /// Roots over hashes of records, and counts of what is there.
    fn refit_payload(&mut self, payload: &mut Payload) {
        match payload {
            Payload::SnapshotSealed(sealed) => {
                let leaves: Vec<Hash> = sealed
                    .sources
                    .iter()
                    .map(|s| {
                        leaf_hash(&[&s.source_tag[..], &s.sync_record_hash, &s.set_root].concat())
                    })
                    .collect();
                let root = merkle::root(&leaves).0;
                if let Ok(old) = sealed.snapshot_root.as_slice().try_into() {
                    self.replaced.insert(old, root);
                }
                sealed.snapshot_root = root.to_vec();
            }
            Payload::EpochSealed(sealed) => self.refit_seal(sealed),
            // A pack is of all that stood before it.
            Payload::EvidencePackIssued(pack) => {
                let leaves: Vec<Hash> = self.entries.iter().map(|entry| leaf_hash(entry)).collect();
                pack.tree_size = leaves.len() as u64;
                pack.root_hash = merkle::root(&leaves).0.to_vec();
            }
            Payload::LogScrubbed(scrubbed) => {
                let size = usize::try_from(scrubbed.to_size).unwrap_or(usize::MAX);
                let hashed = self.entries.iter().take(size);
                let leaves: Vec<Hash> = hashed.map(|entry| leaf_hash(entry)).collect();
                scrubbed.from_size = self.scrubbed_to;
                scrubbed.to_size = leaves.len() as u64;
                scrubbed.tiles = (1..8).map(|level| scrubbed.to_size >> (level * 8)).sum();
                scrubbed.root = merkle::root(&leaves).0.to_vec();
            }
            _ => {}
        }
    }

    fn refit_seal(&self, sealed: &mut v1::EpochSealed) {
        sealed.from_index = self.epoch_from;
        sealed.to_index = self.entries.len() as u64;
        let from = usize::try_from(self.epoch_from).unwrap_or(usize::MAX);
        let mut counts: BTreeMap<&String, u64> = BTreeMap::new();
        for name in self.types.get(from..).unwrap_or_default() {
            *counts.entry(name).or_default() += 1;
        }
        sealed.type_counts = counts
            .into_iter()
            .map(|(name, count)| v1::EntryTypeCount {
                r#type: name.clone(),
                count,
            })
            .collect();
        sealed.streams = self
            .streams
            .iter()
            .map(|(stream, end)| v1::StreamMark {
                stream: stream.clone(),
                last_seq: end.seq,
                last_record_hash: end.hash.to_vec(),
            })
            .collect();
        let leaves: Vec<Hash> = self
            .open
            .iter()
            .map(|(id, hash)| leaf_hash(&[id.as_slice(), hash].concat()))
            .collect();
        sealed.open_obligations_root = merkle::root(&leaves).0.to_vec();
        sealed.open_obligations_count = leaves.len() as u64;
    }

    /// Openings of records that are gone go too.
    fn forget_openings(&self) -> io::Result<()> {
        for stream in self.streams.keys() {
            let file = format!("{}{stream}.jsonl", path::DISCLOSURES);
            let Ok(bytes) = self.files.read(&file) else {
                continue;
            };
            let text = String::from_utf8(bytes).map_err(other)?;
            let gone: Vec<String> = self.dropped.iter().map(hex::encode).collect();
            let kept: String = text
                .lines()
                .filter(|line| !gone.iter().any(|id| line.contains(id)))
                .map(|line| format!("{line}\n"))
                .collect();
            self.files.write(&file, kept.as_bytes())?;
        }
        Ok(())
    }
}
