//! The evidence bundle: what a tenant's log, its openings and its attachments look like in a directory.
//!
//! ```text
//! bundle.json                     what the bundle claims to be; nothing is believed because it stands here
//! MANIFEST                        "sha256  size  path" of every other file, ascending by path, line feeds
//! README.txt                      how to verify it, with our tool and with those of others
//! trust/trust.json                a hint for the reader; never used to verify
//! log/checkpoint, log/tile/...    a real C2SP prefix (tlog-tiles), for anybody's tools
//! checkpoints/<size>              checkpoints of smaller sizes, signed by the log and cosigned by witnesses
//! disclosures/<stream>.jsonl      one opening of a commitment a line
//! blobs/sha256/<hex>              attachments, named by their hash
//! schemas/<hex>.binpb             descriptor sets that records refer to by hash
//! anchor/bound                    the anchor log bound this log: an entry of it with its proof
//! anchor/epochs/<number>          what an epoch of the anchor log has of this log (counterfoil_tlog::anchor_proof)
//! ```
//!
//! [`BundleWriter`] makes one, [`BundleReader`] opens one and refuses everything that a bundle has no use for: links,
//! absolute or climbing paths, names outside a small alphabet, files beyond the size limits. A bundle may also be one file, an
//! uncompressed tar of the directory ([`archive`]).
//!
//! Not here: what the files say. That is judged by the layers above.

pub mod archive;
mod manifest;
mod reader;
mod writer;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use manifest::{Manifest, ManifestLine};
pub use reader::{BundleReader, Limits};
pub use writer::{BlobSink, BundleWriter};

/// Format of a bundle, as `bundle.json` states it.
pub const FORMAT: &str = "counterfoil-bundle/v1";

/// Where things are in a bundle.
pub mod path {
    /// What the bundle claims to be.
    pub const INFO: &str = "bundle.json";
    /// Hash and size of every other file.
    pub const MANIFEST: &str = "MANIFEST";
    /// For people.
    pub const README: &str = "README.txt";
    /// The exporter's idea of whom to trust; never used.
    pub const TRUST_HINT: &str = "trust/trust.json";
    /// The C2SP prefix.
    pub const LOG: &str = "log/";
    /// The signed checkpoint.
    pub const CHECKPOINT: &str = "log/checkpoint";
    /// Checkpoints of smaller sizes that witnesses have cosigned, named by the number of entries.
    pub const CHECKPOINTS: &str = "checkpoints/";
    /// Openings, one file a stream.
    pub const DISCLOSURES: &str = "disclosures/";
    /// Attachments.
    pub const BLOBS: &str = "blobs/sha256/";
    /// Descriptor sets.
    pub const SCHEMAS: &str = "schemas/";
    /// What the anchor log proves of the log.
    pub const ANCHOR: &str = "anchor/";
    /// That it was bound.
    pub const ANCHOR_BOUND: &str = "anchor/bound";
    /// Its head in epochs, one file an epoch, named by the number.
    pub const ANCHOR_EPOCHS: &str = "anchor/epochs/";
}

/// What a bundle claims to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleInfo {
    /// [`FORMAT`].
    pub format: String,
    /// How much of the log it holds: "full".
    pub kind: String,
    /// Origin of the log.
    pub origin: String,
    /// "tenants/{tenant}".
    pub tenant: String,
    /// Entries of the log.
    pub size: u64,
    /// When it was made, RFC 3339.
    pub created: String,
    /// What made it, such as "counterfoil 0.1.0".
    pub tool: String,
}

impl BundleInfo {
    /// What a bundle of a whole log claims.
    #[must_use]
    pub fn full(origin: &str, tenant: &str, size: u64, created: &str, tool: &str) -> Self {
        Self {
            format: FORMAT.to_owned(),
            kind: "full".to_owned(),
            origin: origin.to_owned(),
            tenant: tenant.to_owned(),
            size,
            created: created.to_owned(),
            tool: tool.to_owned(),
        }
    }
}

/// The value behind one commitment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Id of the record, 16 bytes.
    pub record_id: Vec<u8>,
    /// Label of the commitment.
    pub label: String,
    /// Salt, 32 bytes.
    pub salt: [u8; 32],
    /// The value.
    pub value: Vec<u8>,
}

/// One line of a disclosure file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OpeningLine {
    /// Hex.
    pub(crate) record_id: String,
    pub(crate) label: String,
    /// Hex.
    pub(crate) salt: String,
    /// Base64.
    pub(crate) value: String,
}

/// Why a bundle cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A path may not be in a bundle.
    #[error("{0:?} is not a path of a bundle: {1}")]
    Path(String, &'static str),
    /// The same file twice.
    #[error("{0} is there twice")]
    Duplicate(String),
    /// The target is there already.
    #[error("{0} exists already")]
    Exists(PathBuf),
    /// An attachment's or schema's bytes are not what its name says.
    #[error("{path} has other content than its hash says: {found}")]
    Hash {
        /// Which.
        path: String,
        /// Hash found, hex.
        found: String,
    },
    /// A file is larger than a bundle's file may be.
    #[error("{path} has {size} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Which.
        path: String,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A file does not follow its format.
    #[error("{path}: {reason}")]
    Malformed {
        /// Which.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

impl BundleError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn malformed(path: &str, reason: impl ToString) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// The longest path in a bundle.
const PATH_BYTES_MAX: usize = 200;

/// Refuses paths that a bundle has no use for: absolute, climbing, empty components, or other characters than ASCII letters,
/// digits, `.`, `_`, `-`.
pub(crate) fn check_path(path: &str) -> Result<(), BundleError> {
    let refuse = |why| Err(BundleError::Path(path.to_owned(), why));
    if path.len() > PATH_BYTES_MAX {
        return refuse("it is too long");
    }
    if path.starts_with('/') {
        return refuse("it is absolute");
    }
    for part in path.split('/') {
        if part.is_empty() || part == "." || part == ".." {
            return refuse("it has an empty or climbing component");
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if !part.bytes().all(plain) {
            return refuse("it has a character that no bundle needs");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_path;

    #[test]
    fn paths_that_leave_the_bundle_are_refused() {
        for good in ["log/tile/0/x001/234.p/7", "blobs/sha256/00", "MANIFEST"] {
            assert!(check_path(good).is_ok(), "{good}");
        }
        for bad in [
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "a/",
            "",
            ".",
            "a/./b",
            "a\\b",
            "a b",
            "ä",
            "a\nb",
        ] {
            assert!(check_path(bad).is_err(), "{bad:?}");
        }
        assert!(check_path(&"a".repeat(201)).is_err());
    }
}
