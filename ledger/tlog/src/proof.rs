//! Receipts: `c2sp.org/tlog-proof@v1`, the proof that one entry is under a signed checkpoint, as one text.
//!
//! Given the entry's leaf hash and the log's vkey, nothing else is needed to judge it. The optional `extra` line is
//! unauthenticated: it is never written, and skipped when read. Specification: <https://c2sp.org/tlog-proof>.

use std::fmt::{self, Write as _};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{self, Checkpoint, CheckpointError, SignedCheckpoint};
use crate::decimal;
use crate::hash::{Hash, HashError};
use crate::merkle::{MerkleError, verify_inclusion};
use crate::note::{NOTE_BYTES_MAX, Note, VerifierKey};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// A hash in base64, and its line feed.
const HASH_LINE_BYTES: usize = 45;
/// No tree of 64-bit size has a longer path.
const PATH_LENGTH_MAX: usize = 64;
/// A line of the format may not be longer, because Go's reader stops there.
const LINE_BYTES_MAX: usize = 65_536;

/// The longest receipt that is read.
pub const PROOF_BYTES_MAX: usize = NOTE_BYTES_MAX + LINE_BYTES_MAX + 4096;

/// Why a receipt is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The text does not follow the format.
    #[error("malformed receipt: {0}")]
    Malformed(&'static str),
    /// A hash of the path is not canonical.
    #[error("malformed receipt: {0}")]
    Hash(#[from] HashError),
    /// The checkpoint inside is not accepted.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The path does not lead from the entry to the root.
    #[error(transparent)]
    Inclusion(#[from] MerkleError),
}

/// A receipt whose form is right and of which nothing has been verified. `Display` is its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// The position of the entry in the log.
    pub index: u64,
    /// The inclusion proof, the entry's sibling first.
    pub path: Vec<Hash>,
    /// The signed checkpoint with all its signature lines.
    pub checkpoint: Note,
}

impl TlogProof {
    /// Reads a receipt strictly.
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        if text.len() > PROOF_BYTES_MAX {
            return Err(ProofError::Malformed("it is too long"));
        }
        let (header, note) = text
            .split_once("\n\n")
            .ok_or(ProofError::Malformed("it has no checkpoint"))?;
        let mut lines = header.split('\n');
        if lines.next() != Some(FIRST_LINE) {
            return Err(ProofError::Malformed(
                "its first line is not c2sp.org/tlog-proof@v1",
            ));
        }
        let mut line = lines.next();
        if let Some(extra) = line.and_then(|line| line.strip_prefix("extra ")) {
            STANDARD
                .decode(extra)
                .map_err(|_| ProofError::Malformed("its extra line is not canonical base64"))?;
            line = lines.next();
        }
        let index = line
            .and_then(|line| line.strip_prefix("index "))
            .and_then(decimal::parse)
            .ok_or(ProofError::Malformed("it has no canonical index"))?;
        let path = lines
            .take(PATH_LENGTH_MAX + 1)
            .map(Hash::from_base64)
            .collect::<Result<Vec<_>, _>>()?;
        if path.len() > PATH_LENGTH_MAX {
            return Err(ProofError::Malformed("its path is too long"));
        }
        let checkpoint = Note::parse(note.as_bytes()).map_err(CheckpointError::from)?;
        Ok(Self {
            index,
            path,
            checkpoint,
        })
    }

    /// Verifies that the entry with this leaf hash is under a checkpoint of the log with this key.
    ///
    /// The cosignatures of the given cosigners are verified and returned; whether they are enough is the caller's policy.
    pub fn verify(
        &self,
        leaf: &Hash,
        log_key: &VerifierKey,
        cosigners: &[VerifierKey],
    ) -> Result<SignedCheckpoint, ProofError> {
        let signed = checkpoint::open(&self.checkpoint.to_bytes(), log_key, cosigners)?;
        let Checkpoint { size, root, .. } = &signed.checkpoint;
        verify_inclusion(leaf, self.index, *size, &self.path, root)?;
        Ok(signed)
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_text(
            self.index,
            &self.path,
            &self.checkpoint.to_string(),
        ))
    }
}

/// The text of a receipt: for whoever makes many under one checkpoint, whose signed note is taken as it is.
#[must_use]
pub fn to_text(index: u64, path: &[Hash], checkpoint: &str) -> String {
    let length = FIRST_LINE.len() + "\nindex 18446744073709551615\n\n".len();
    let mut text = String::with_capacity(length + path.len() * HASH_LINE_BYTES + checkpoint.len());
    text.push_str(FIRST_LINE);
    // Writing to a string cannot fail.
    let _ = write!(text, "\nindex {index}\n");
    for hash in path {
        STANDARD.encode_string(hash.as_bytes(), &mut text);
        text.push('\n');
    }
    text.push('\n');
    text.push_str(checkpoint);
    text
}

impl std::str::FromStr for TlogProof {
    type Err = ProofError;

    fn from_str(text: &str) -> Result<Self, ProofError> {
        Self::parse(text)
    }
}

/// Reads a receipt and verifies it; answers the position of the entry and the checkpoint that it is under.
pub fn verify(
    text: &str,
    leaf: &Hash,
    log_key: &VerifierKey,
) -> Result<(u64, Checkpoint), ProofError> {
    let proof = TlogProof::parse(text)?;
    let signed = proof.verify(leaf, log_key, &[])?;
    Ok((proof.index, signed.checkpoint))
}
