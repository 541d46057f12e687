//! What goes into the engine and what comes out.

use std::fmt;

use counterfoil_tlog::{Hash, VerifierKey};

use crate::Refusal;

/// Internal number of a log: the key of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub(crate) i64);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What never changes about a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogInfo {
    /// Its number.
    pub id: LogId,
    /// Whose it is.
    pub tenant: String,
    /// Its name in checkpoints.
    pub origin: String,
    /// The key that signs its checkpoints.
    pub vkey: VerifierKey,
    /// The producer that registers all others.
    pub registrar: VerifierKey,
}

/// A record with its producer's signature, as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRecord {
    /// Canonical bytes of `counterfoil.evidence.v1.Record`.
    pub record: Vec<u8>,
    /// `{name}+{8 hex digits}` of the producer's key.
    pub key_id: String,
    /// Ed25519 over `counterfoil_evidence::record::signed_message`.
    pub signature: Vec<u8>,
}

/// What became of one record.
pub type Outcome = Result<Receipt, Refusal>;

/// Proof that a record is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Id of the record.
    pub record_id: [u8; 16],
    /// SHA-256 of the record.
    pub record_hash: [u8; 32],
    /// Position in the log.
    pub index: u64,
    /// RFC 6962 leaf hash of the entry.
    pub leaf_hash: Hash,
    /// `c2sp.org/tlog-proof@v1` text.
    pub tlog_proof: String,
    /// Time of the log at the proof's checkpoint, milliseconds; the entry is no younger.
    pub checkpoint_ms: i64,
}

/// The newest signed state of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Number of entries.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
    /// The signed checkpoint.
    pub checkpoint: String,
    /// Time of the last entry, milliseconds.
    pub recorded_at_ms: i64,
}

/// An entry as stored; its bytes were hashed and compared with the leaf hash when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// Position in the log.
    pub index: u64,
    /// Canonical bytes of `counterfoil.evidence.v1.Entry`.
    pub bytes: Vec<u8>,
    /// RFC 6962 leaf hash.
    pub leaf_hash: Hash,
    /// Id of the record.
    pub record_id: [u8; 16],
    /// SHA-256 of the record.
    pub record_hash: [u8; 32],
    /// Full name of the record's type.
    pub record_type: String,
    /// Stream of the record.
    pub stream: String,
}

/// The last record of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamHead {
    /// Its sequence number; 0 when there is none.
    pub last_seq: u64,
    /// SHA-256 of it; zeros when there is none.
    pub last_record_hash: [u8; 32],
}

impl StreamHead {
    /// A stream without records.
    pub const EMPTY: Self = Self {
        last_seq: 0,
        last_record_hash: [0; 32],
    };
}

/// How many entries of a range have a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeCount {
    /// Full name of the type.
    pub record_type: String,
    /// How many.
    pub count: u64,
}

/// The id of a producer's key: `{name}+{8 hex digits}`.
#[must_use]
pub fn key_id_of(key: &VerifierKey) -> String {
    format!("{}+{:08x}", key.name(), key.key_id())
}
