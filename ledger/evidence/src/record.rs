//! Canonical bytes, hashes and signed messages of records and entries (`design` section "Entry format").
//!
//! Invariant: what is hashed and signed are bytes, never a re-serialisation. Decoding accepts only bytes that encode to
//! themselves, so no field can hide in them.

use prost::Message;
use sha2::{Digest, Sha256};

use crate::v1;

/// Longest entry in bytes: tlog-tiles gives an entry a 16-bit length.
pub const ENTRY_BYTES_MAX: usize = 65_535;

/// Longest record in bytes: leaves room for the entry's own fields.
pub const RECORD_BYTES_MAX: usize = 64_000;

/// Prefix of the message that a producer signs.
pub const SIGNATURE_DOMAIN: &[u8] = b"counterfoil-record/v1\n";

/// Why bytes are not a record or an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not the protobuf message expected.
    #[error("not a protobuf {0}")]
    Malformed(&'static str),
    /// Decoding and encoding again gives other bytes.
    #[error("{0} is not canonical: encoding it again gives other bytes")]
    NotCanonical(&'static str),
    /// A version this code does not know.
    #[error("unknown {0} version {1}")]
    UnknownVersion(&'static str, u32),
    /// A field is missing or has the wrong form.
    #[error("record field {0} {1}")]
    Field(&'static str, &'static str),
    /// Larger than allowed.
    #[error("{0} has {1} bytes, at most {2} are allowed")]
    TooLarge(&'static str, usize, usize),
}

/// Decodes a message and refuses bytes that do not encode to themselves.
///
/// # Errors
/// [`RecordError::Malformed`] and [`RecordError::NotCanonical`], naming `what`.
pub fn decode_canonical<M: Message + Default>(
    bytes: &[u8],
    what: &'static str,
) -> Result<M, RecordError> {
    let message = M::decode(bytes).map_err(|_| RecordError::Malformed(what))?;
    if message.encoded_len() != bytes.len() || message.encode_to_vec() != bytes {
        return Err(RecordError::NotCanonical(what));
    }
    Ok(message)
}

/// Decodes and checks the form of a record: version, lengths of ids and hashes, size.
///
/// # Errors
/// What is wrong with it, as [`RecordError`].
pub fn decode_record(bytes: &[u8]) -> Result<v1::Record, RecordError> {
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(RecordError::TooLarge(
            "record",
            bytes.len(),
            RECORD_BYTES_MAX,
        ));
    }
    let record: v1::Record = decode_canonical(bytes, "record")?;
    if record.version != 1 {
        return Err(RecordError::UnknownVersion("record", record.version));
    }
    let length = |name, got: usize, want: usize| {
        if got == want {
            Ok(())
        } else {
            Err(RecordError::Field(name, "has the wrong length"))
        }
    };
    length("record_id", record.record_id.len(), 16)?;
    length("schema_hash", record.schema_hash.len(), 32)?;
    length("prev_record_hash", record.prev_record_hash.len(), 32)?;
    for (name, text) in [
        ("log_origin", &record.log_origin),
        ("type", &record.r#type),
        ("stream", &record.stream),
        ("actor", &record.actor),
    ] {
        if text.is_empty() {
            return Err(RecordError::Field(name, "is empty"));
        }
    }
    if record.stream_seq == 0 {
        return Err(RecordError::Field("stream_seq", "starts at 1"));
    }
    Ok(record)
}

/// Decodes and checks the form of an entry.
///
/// # Errors
/// What is wrong with it, as [`RecordError`].
pub fn decode_entry(bytes: &[u8]) -> Result<v1::Entry, RecordError> {
    if bytes.len() > ENTRY_BYTES_MAX {
        return Err(RecordError::TooLarge("entry", bytes.len(), ENTRY_BYTES_MAX));
    }
    let entry: v1::Entry = decode_canonical(bytes, "entry")?;
    if entry.version != 1 {
        return Err(RecordError::UnknownVersion("entry", entry.version));
    }
    if entry.prev_leaf_hash.len() != 32 {
        return Err(RecordError::Field("prev_leaf_hash", "has the wrong length"));
    }
    Ok(entry)
}

/// SHA-256 of a record's bytes: how records refer to each other.
#[must_use]
pub fn record_hash(record_bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(record_bytes).into()
}

/// The message a producer signs for a record.
#[must_use]
pub fn signed_message(record_bytes: &[u8]) -> Vec<u8> {
    [SIGNATURE_DOMAIN, record_bytes].concat()
}
