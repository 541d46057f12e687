//! Why the engine cannot do something, and why it refuses a record.

use counterfoil_evidence::record::RecordError;

/// Why a call failed as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The tenant has no log.
    #[error("tenant {0:?} has no log")]
    NoSuchLog(String),
    /// The tenant has a log of another origin or registrar.
    #[error("tenant {tenant:?} has a log already, with another {what}")]
    LogDiffers {
        /// The tenant.
        tenant: String,
        /// What is different.
        what: &'static str,
    },
    /// Too much waits to be appended.
    #[error("too much waits to be appended; try again in {retry_after_ms} ms")]
    Overloaded {
        /// When a new attempt is worthwhile.
        retry_after_ms: u64,
    },
    /// More was submitted in one call than one batch holds.
    #[error("a submission has at most {records_max} records and {bytes_max} bytes")]
    SubmissionTooLarge {
        /// Most records of one submission.
        records_max: usize,
        /// Most bytes of one submission.
        bytes_max: usize,
    },
    /// The database failed. Whether an append is durable is open: append again, the record ids make it safe.
    #[error("storage failed at {step}: {message}")]
    Storage {
        /// What was being done.
        step: &'static str,
        /// What the database said.
        message: String,
    },
    /// The object store failed. Publishing again goes on where it stopped.
    #[error("publishing failed at {step}: {message}")]
    Publication {
        /// What was being done.
        step: &'static str,
        /// What the store said.
        message: String,
    },
    /// What is stored contradicts itself or what was signed. Nothing is signed on top of it.
    #[error("the log {origin} is damaged: {reason}")]
    Damaged {
        /// Origin of the log.
        origin: String,
        /// What does not fit.
        reason: String,
    },
    /// What was about to be signed was not the same when it was worked out again, several times: a bit changed in memory, or the processor
    /// miscalculates. Nothing was signed or written.
    #[error("the head of {origin} came out differently when it was worked out again: {reason}")]
    Miscalculated {
        /// Origin of the log.
        origin: String,
        /// What does not fit.
        reason: &'static str,
    },
    /// The log's signing key cannot be had.
    #[error("the key of log {origin}: {reason}")]
    Key {
        /// Origin of the log.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// The size or position is beyond the log, or sizes are reversed.
    #[error("{asked} is out of range: the log has {size} entries")]
    OutOfRange {
        /// What was asked for.
        asked: u64,
        /// Size of the log.
        size: u64,
    },
    /// The engine is closing.
    #[error("the engine is closing")]
    Closed,
}

/// Step of what the database has answered, and nobody has written so: SQLite lets any column have any type.
const DECODE: &str = "decode";

impl EngineError {
    pub(crate) fn storage(step: &'static str, error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
                Self::garbled(format!("{step}: {error}"))
            }
            _ => Self::Storage {
                step,
                message: error.to_string(),
            },
        }
    }

    /// What the database has answered cannot be read.
    pub(crate) fn garbled(message: String) -> Self {
        Self::Storage {
            step: DECODE,
            message,
        }
    }

    /// Whether what the database has answered cannot be read.
    pub(crate) fn is_garbled(&self) -> bool {
        matches!(self, Self::Storage { step: DECODE, .. })
    }

    /// The same where all that was read is a log's: what cannot be read is damage of it, and comes again whenever it is read. A database that is
    /// out of reach says nothing of the log.
    pub(crate) fn in_log(self, origin: &str) -> Self {
        match self {
            Self::Storage {
                step: DECODE,
                message,
            } => Self::damaged(origin, format!("what is stored cannot be read: {message}")),
            other => other,
        }
    }

    pub(crate) fn damaged(origin: &str, reason: impl Into<String>) -> Self {
        Self::Damaged {
            origin: origin.to_owned(),
            reason: reason.into(),
        }
    }
}

/// Why one record is not appended. The records beside it are not affected, unless they follow it in its stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are not a canonical record, or its payload is not canonical.
    #[error(transparent)]
    Malformed(#[from] RecordError),
    /// The entry would be longer than tlog-tiles allows.
    #[error("the entry would have {0} bytes, at most 65,535 are allowed")]
    TooLarge(usize),
    /// More subjects than are indexed.
    #[error("the record has {0} subjects, at most {max} are allowed", max = crate::admission::SUBJECTS_MAX)]
    TooManySubjects(usize),
    /// The record is bound to another log.
    #[error("the record is for log {0:?}")]
    OtherLog(String),
    /// The type is not in the catalogue.
    #[error("unknown record type {0:?}")]
    UnknownType(String),
    /// The type belongs into another stream.
    #[error("records of this type belong into stream {0:?}")]
    OtherStream(&'static str),
    /// A registration of a key that cannot be accepted.
    #[error("the key registration {0}")]
    BadRegistration(&'static str),
    /// The key is not registered with the log, or not for this stream, or not yet.
    #[error("key {0:?} is not registered for this stream")]
    KeyNotAllowed(String),
    /// The key was revoked.
    #[error("key {0:?} is revoked")]
    KeyRevoked(String),
    /// The signature is not the key's over the record.
    #[error("the signature does not verify")]
    BadSignature,
    /// The id is in the log with other bytes.
    #[error(
        "the record id is logged with other bytes at index {index}: SHA-256 {}, not {}",
        hex::encode(logged),
        hex::encode(sent)
    )]
    RecordIdTaken {
        /// Where it is.
        index: u64,
        /// SHA-256 of the record that is logged.
        logged: [u8; 32],
        /// SHA-256 of the record that was sent.
        sent: [u8; 32],
    },
    /// The record does not follow the last one of its stream.
    #[error("stream_seq {expected} that follows the stream's last record is expected")]
    SequenceGap {
        /// The sequence number expected.
        expected: u64,
    },
    /// The sequence number is right, and the hash of the preceding record is not.
    #[error(
        "stream_seq {expected} is expected, but prev_record_hash is not that of the record before it"
    )]
    PrevHashMismatch {
        /// The sequence number expected.
        expected: u64,
    },
}
