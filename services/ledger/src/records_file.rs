//! Files with signed records and their receipts, one JSON object a line: what a producer without an outbox keeps of what it sent, and
//! what this service keeps of its own statements.
//!
//! ```text
//! {"record": base64, "key_id": "...", "signature": base64, "receipt": {"index": 7, "leaf_hash": base64, "checkpoint_ms": 1800000000000, "tlog_proof": base64}}
//! ```
//!
//! `receipt` is missing while there is none. The same record may come again with one.

use std::fs::{self, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use counterfoil_engine::{KeptReceipt, KeptRecord, Receipt, SignedRecord};
use counterfoil_tlog::Hash;
use serde::{Deserialize, Serialize};

/// A record with what its receipt proves, as [`counterfoil_engine::RecordList`] takes it.
pub(crate) type Kept = (KeptRecord, Option<Vec<u8>>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    record: String,
    key_id: String,
    signature: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    receipt: Option<LineReceipt>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LineReceipt {
    index: u64,
    leaf_hash: String,
    checkpoint_ms: i64,
    tlog_proof: String,
}

/// Why a file is not one of records.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct RecordsFileError {
    path: String,
    reason: String,
}

/// Reads a file. A last line without its end is one whose writer was cut off: it says nothing.
pub(crate) fn read(path: &Path) -> Result<Vec<Kept>, RecordsFileError> {
    let failed = |reason: String| RecordsFileError {
        path: path.display().to_string(),
        reason,
    };
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines = (1..).zip(whole.lines());
    lines
        .map(|(number, line)| {
            parse(line).map_err(|reason| failed(format!("line {number}: {reason}")))
        })
        .collect()
}

fn parse(line: &str) -> Result<Kept, String> {
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let bytes = |what: &str, text: &str| {
        let decoded = STANDARD.decode(text);
        decoded.map_err(|error| format!("{what}: {error}"))
    };
    let signed = SignedRecord {
        record: bytes("record", &line.record)?,
        key_id: line.key_id,
        signature: bytes("signature", &line.signature)?,
    };
    let Some(receipt) = line.receipt else {
        let receipt = None;
        return Ok((KeptRecord { signed, receipt }, None));
    };
    let leaf_hash = bytes("leaf_hash", &receipt.leaf_hash)?;
    let leaf_hash = leaf_hash
        .try_into()
        .map_err(|_| "leaf_hash: it has 32 bytes".to_owned())?;
    let proof = bytes("tlog_proof", &receipt.tlog_proof)?;
    let receipt = Some(KeptReceipt {
        index: receipt.index,
        leaf_hash: Hash(leaf_hash),
        checkpoint_ms: receipt.checkpoint_ms,
    });
    Ok((KeptRecord { signed, receipt }, Some(proof)))
}

/// One record as a line with its end.
pub(crate) fn line(signed: &SignedRecord, receipt: Option<&Receipt>) -> String {
    let receipt = receipt.map(|receipt| LineReceipt {
        index: receipt.index,
        leaf_hash: STANDARD.encode(receipt.leaf_hash.0),
        checkpoint_ms: receipt.checkpoint_ms,
        tlog_proof: STANDARD.encode(&receipt.tlog_proof),
    });
    let line = Line {
        record: STANDARD.encode(&signed.record),
        key_id: signed.key_id.clone(),
        signature: STANDARD.encode(&signed.signature),
        receipt,
    };
    // Strings and numbers always have a JSON form.
    let mut text = serde_json::to_string(&line).unwrap_or_default();
    text.push('\n');
    text
}

/// Adds lines to a file that only its owner reads, in the place of a line that was cut off by a crash.
pub(crate) fn append(path: &Path, lines: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut last = *b"\n";
    if end > 0 {
        file.read_exact_at(&mut last, end - 1)?;
    }
    if last != *b"\n" {
        let text = fs::read(path)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n');
        end = whole.map_or(0, |at| at as u64 + 1);
        file.set_len(end)?;
    }
    file.write_all_at(lines.as_bytes(), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(number: u8) -> SignedRecord {
        SignedRecord {
            record: vec![number; 9],
            key_id: "x/services/y+01020304".to_owned(),
            signature: vec![number; 64],
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_a_torn_end_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records");
        let receipt = Receipt {
            record_id: [0; 16],
            record_hash: [0; 32],
            index: 7,
            leaf_hash: Hash([3; 32]),
            tlog_proof: "proof\n".to_owned(),
            checkpoint_ms: 99,
        };
        append(&path, &line(&signed(1), None)).unwrap();
        append(&path, &line(&signed(2), Some(&receipt))).unwrap();
        let expected = vec![
            (
                KeptRecord {
                    signed: signed(1),
                    receipt: None,
                },
                None,
            ),
            (
                KeptRecord {
                    signed: signed(2),
                    receipt: Some(KeptReceipt {
                        index: 7,
                        leaf_hash: Hash([3; 32]),
                        checkpoint_ms: 99,
                    }),
                },
                Some(b"proof\n".to_vec()),
            ),
        ];
        assert_eq!(read(&path).unwrap(), expected);
        append(&path, &line(&signed(3), None)[..20]).unwrap();
        assert_eq!(read(&path).unwrap(), expected);
        append(&path, "what comes after stands in its place\n").unwrap();
        let refused = read(&path).unwrap_err().to_string();
        assert!(refused.contains("line 3"), "{refused}");
    }
}
