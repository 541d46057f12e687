//! Checkpoints ([c2sp.org/tlog-checkpoint] v1.0.0): origin, size and root of a log, one line each, as a signed note.
//!
//! Invariants: one text per checkpoint (canonical decimal, canonical base64, line feeds only); no extension lines, which not
//! every cosigner signs; size 0 goes with the empty root only.
//!
//! Not here: that a log never signs two inconsistent checkpoints. That is the engine's duty and the witnesses' to see.
//!
//! [c2sp.org/tlog-checkpoint]: https://c2sp.org/tlog-checkpoint@v1.0.0

use std::str::FromStr;

use crate::decimal;
use crate::hash::{Hash, HashError, empty_root};
use crate::note::{Note, NoteError, NoteSigner, VerifiedSignature, VerifierKey};

/// The head of a log: everything below it is fixed by these three values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The unique name of the log, such as `ledger.example/t/acme`.
    pub origin: String,
    /// The number of entries.
    pub size: u64,
    /// The root hash over the entries.
    pub root: Hash,
}

/// Why a checkpoint is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The text does not have exactly three lines, each ended by a line feed.
    #[error("a checkpoint has exactly three lines")]
    Lines,
    /// The origin is empty or has a control character.
    #[error("malformed origin {0:?}")]
    Origin(String),
    /// The size is not a canonical decimal of 64 bits.
    #[error("malformed size {0:?}")]
    Size(String),
    /// The root is not the canonical base64 of 32 bytes.
    #[error("malformed root: {0}")]
    Root(#[from] HashError),
    /// The size is 0 and the root is not that of the empty tree.
    #[error("an empty log has another root than the empty tree")]
    EmptyRoot,
    /// The checkpoint is of another log.
    #[error("the checkpoint is of {found:?}, not of {expected:?}")]
    OtherOrigin {
        /// The origin asked for.
        expected: String,
        /// The origin found.
        found: String,
    },
    /// The log's own key has not signed.
    #[error("the checkpoint is not signed by {0}")]
    NotSignedByLog(String),
    /// A cosignature cannot state the time 0, nor one beyond 63 bits.
    #[error("a cosignature cannot state this time")]
    Timestamp,
    /// The note around the checkpoint is not accepted.
    #[error(transparent)]
    Note(#[from] NoteError),
}

impl Checkpoint {
    /// Reads the text of a checkpoint, without signatures.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let body = text.strip_suffix('\n').ok_or(CheckpointError::Lines)?;
        let mut lines = body.split('\n');
        let (Some(origin), Some(size), Some(root), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Lines);
        };
        let size = decimal::parse(size).ok_or_else(|| CheckpointError::Size(size.to_owned()))?;
        let root = Hash::from_base64(root)?;
        let checkpoint = Self {
            origin: origin.to_owned(),
            size,
            root,
        };
        checkpoint.check()?;
        Ok(checkpoint)
    }

    /// The text of the checkpoint: what the log and its witnesses sign.
    pub fn to_text(&self) -> Result<String, CheckpointError> {
        self.check()?;
        Ok(format!(
            "{}\n{}\n{}\n",
            self.origin,
            self.size,
            self.root.to_base64()
        ))
    }

    /// The checkpoint as a note signed by the log's key, whose name must be the origin.
    pub fn sign(&self, signer: &NoteSigner) -> Result<String, CheckpointError> {
        if signer.name() != self.origin {
            return Err(CheckpointError::OtherOrigin {
                expected: signer.name().to_owned(),
                found: self.origin.clone(),
            });
        }
        Ok(signer.sign_note(&self.to_text()?)?.to_string())
    }

    fn check(&self) -> Result<(), CheckpointError> {
        if self.origin.is_empty() || self.origin.contains(char::is_control) {
            return Err(CheckpointError::Origin(self.origin.clone()));
        }
        if self.size == 0 && self.root != empty_root() {
            return Err(CheckpointError::EmptyRoot);
        }
        Ok(())
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        Self::parse(text)
    }
}

/// A checkpoint whose log signature, and the cosignatures of the cosigners that were given, are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What was signed.
    pub checkpoint: Checkpoint,
    /// The good signatures of the given cosigners, each key once. Whether they are enough is the caller's policy.
    pub cosignatures: Vec<VerifiedSignature>,
    /// The note, with the lines of unknown keys too.
    pub note: Note,
}

/// Opens a signed checkpoint of the log whose key is named like its origin, as every log of ours is.
///
/// The log key must have signed; a bad signature by the log key or by a given cosigner refuses the whole note.
pub fn open(
    note: &[u8],
    log_key: &VerifierKey,
    cosigners: &[VerifierKey],
) -> Result<SignedCheckpoint, CheckpointError> {
    open_origin(note, log_key.name(), log_key, cosigners)
}

/// Opens a signed checkpoint of a log whose key has another name than its origin.
pub fn open_origin(
    note: &[u8],
    origin: &str,
    log_key: &VerifierKey,
    cosigners: &[VerifierKey],
) -> Result<SignedCheckpoint, CheckpointError> {
    let known: Vec<VerifierKey> = std::iter::once(log_key).chain(cosigners).cloned().collect();
    let verified = Note::parse(note)?.verify(&known)?;
    if !verified.is_signed_by(log_key) {
        return Err(CheckpointError::NotSignedByLog(log_key.to_string()));
    }
    let checkpoint = Checkpoint::parse(verified.text())?;
    if checkpoint.origin != origin {
        return Err(CheckpointError::OtherOrigin {
            expected: origin.to_owned(),
            found: checkpoint.origin,
        });
    }
    let cosignatures = verified
        .verified()
        .iter()
        .filter(|signature| signature.key != *log_key)
        .cloned()
        .collect();
    Ok(SignedCheckpoint {
        checkpoint,
        cosignatures,
        note: verified.note().clone(),
    })
}
