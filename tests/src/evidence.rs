//! What a bundle holds, read past the verifier: records by type, the values behind commitments, attachments.
//!
//! For tests that compare what was recorded with what was asked for. Whether a bundle is genuine is not judged here.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use counterfoil_evidence::leaf::GrantKey;
use counterfoil_evidence::record::{decode_canonical, decode_entry, decode_record, record_hash};
use counterfoil_evidence::v1;
use counterfoil_tlog::tile::{TileKind, TilePath, decode_entries};
use counterfoil_verify::bundle::{BundleInfo, BundleReader, Limits, path};
use prost::{Message, Name};
use serde::Deserialize;

const BYTES_MAX: u64 = 1 << 30;

/// One entry of the log, taken apart.
#[derive(Debug, Clone)]
pub struct Logged {
    /// Position in the log.
    pub index: u64,
    /// What the sequencer made.
    pub entry: v1::Entry,
    /// What the producer signed.
    pub record: v1::Record,
    /// SHA-256 of the record: how others refer to it.
    pub hash: [u8; 32],
}

impl Logged {
    /// Who answers for it; empty for a statement of fact.
    #[must_use]
    pub fn accountability(&self) -> v1::Accountability {
        self.record.accountability.clone().unwrap_or_default()
    }
}

/// A bundle's content.
#[derive(Debug)]
pub struct Evidence {
    /// All entries, in order.
    pub log: Vec<Logged>,
    reader: BundleReader,
    openings: BTreeMap<(Vec<u8>, String), Vec<u8>>,
}

#[derive(Deserialize)]
struct Line {
    record_id: String,
    label: String,
    value: String,
}

impl Evidence {
    /// Reads a bundle.
    ///
    /// # Errors
    /// When it is not one, or a record has another form.
    pub fn open(bundle: &Path) -> Result<Self> {
        let reader = BundleReader::open(bundle, &Limits::default())?;
        let mut log = Vec::new();
        let mut openings = BTreeMap::new();
        let mut bundles: Vec<TilePath> = Vec::new();
        for (found, _) in reader.files_below(path::LOG) {
            let tile = found.strip_prefix(path::LOG).unwrap_or(found);
            if let Ok(tile) = TilePath::parse(tile)
                && matches!(tile.kind(), TileKind::Entries)
            {
                bundles.push(tile);
            }
        }
        bundles.sort_by_key(TilePath::index);
        for tile in bundles {
            let content = reader.read(&format!("{}{tile}", path::LOG), BYTES_MAX)?;
            for bytes in decode_entries(&content, tile.width())? {
                log.push(logged(bytes)?);
            }
        }
        let files: Vec<String> = reader
            .files_below(path::DISCLOSURES)
            .map(|(found, _)| found.to_owned())
            .collect();
        for file in files {
            for line in reader.lines(&file)?.lines() {
                let line: Line = serde_json::from_str(&line?).context(file.clone())?;
                let value = base64::engine::general_purpose::STANDARD.decode(&line.value)?;
                openings.insert((hex::decode(&line.record_id)?, line.label), value);
            }
        }
        ensure!(
            log.len() as u64 == reader.info().size,
            "{} entries of {}",
            log.len(),
            reader.info().size
        );
        Ok(Self {
            log,
            reader,
            openings,
        })
    }

    /// What the bundle claims to be.
    #[must_use]
    pub fn info(&self) -> &BundleInfo {
        self.reader.info()
    }

    /// All records of one type, in order of the log.
    ///
    /// # Errors
    /// When one has another form.
    pub fn of<M: Message + Name + Default>(&self) -> Result<Vec<(&Logged, M)>> {
        let name = M::full_name();
        self.log
            .iter()
            .filter(|logged| logged.record.r#type == name)
            .map(|logged| Ok((logged, decode_canonical(&logged.record.payload, M::NAME)?)))
            .collect()
    }

    /// The record with this hash.
    ///
    /// # Errors
    /// When the log has none.
    pub fn by_hash(&self, hash: &[u8]) -> Result<&Logged> {
        let found = self.log.iter().find(|logged| logged.hash == hash);
        found.with_context(|| format!("no record has the hash {}", hex::encode(hash)))
    }

    /// The value behind a record's commitment, when it is disclosed.
    #[must_use]
    pub fn opening(&self, logged: &Logged, label: &str) -> Option<&[u8]> {
        let key = (logged.record.record_id.clone(), label.to_owned());
        self.openings.get(&key).map(Vec::as_slice)
    }

    /// A record's attachment of one media type.
    ///
    /// # Errors
    /// When the record has none or it is not in the bundle.
    pub fn blob(&self, logged: &Logged, media_type: &str) -> Result<Vec<u8>> {
        let reference = logged
            .record
            .blob
            .iter()
            .find(|blob| blob.media_type == media_type)
            .with_context(|| format!("{} has no {media_type}", logged.record.r#type))?;
        let path = format!("{}{}", path::BLOBS, hex::encode(&reference.sha256));
        Ok(self.reader.read(&path, BYTES_MAX)?)
    }
}

fn logged(bytes: &[u8]) -> Result<Logged> {
    let entry = decode_entry(bytes)?;
    let record = decode_record(&entry.record)?;
    Ok(Logged {
        index: entry.index,
        hash: record_hash(&entry.record),
        record,
        entry,
    })
}

/// The grant key at the start of a leaf or in a record.
///
/// # Errors
/// When the bytes are too short to hold one.
pub fn key(bytes: &[u8]) -> Result<GrantKey> {
    let start = bytes.get(..40).context("a grant key has 40 bytes")?;
    Ok(GrantKey::try_from(start)?)
}
