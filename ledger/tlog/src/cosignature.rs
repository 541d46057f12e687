//! Timestamped Ed25519 cosignatures of checkpoints ([c2sp.org/tlog-cosignature] v1.0.1, type `0x04`).
//!
//! A cosignature states: as of this time, the largest consistent tree I saw for this origin has this root. Verifying one is
//! done by [`crate::note::open`] and [`crate::checkpoint::open`] with a [`VerifierKey`] of kind
//! [`KeyKind::CosignatureV1`].
//!
//! The signed message does not name the cosigner: a key must never be used under two names. Absent: ML-DSA-44 and subtrees.
//!
//! [c2sp.org/tlog-cosignature]: https://c2sp.org/tlog-cosignature@v1.0.1

use std::fmt;

use ed25519_dalek::{Signer, SigningKey};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::note::{KeyKind, NoteError, NoteSigner, SignatureLine, VerifierKey};

const TIMESTAMP_BYTES: usize = 8;
/// The largest time a cosignature may state, so that it fits signed 64-bit integers everywhere.
const TIMESTAMP_MAX: u64 = i64::MAX.unsigned_abs();

/// The bytes that a cosigner signs: `cosignature/v1`, the time, and the whole text of the checkpoint.
#[must_use]
pub fn message(timestamp: u64, checkpoint_text: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {timestamp}\n{checkpoint_text}").into_bytes()
}

/// Splits the payload of a signature line into its time and its signature; a time of 0 is not a cosignature.
pub(crate) fn split(payload: &[u8]) -> Option<(u64, &[u8])> {
    let (timestamp, signature) = payload.split_first_chunk::<TIMESTAMP_BYTES>()?;
    let timestamp = u64::from_be_bytes(*timestamp);
    (1..=TIMESTAMP_MAX)
        .contains(&timestamp)
        .then_some((timestamp, signature))
}

/// A witness's key. It shows its name and id, never its seed.
pub struct Cosigner {
    key: SigningKey,
    verifier: VerifierKey,
}

impl Cosigner {
    /// A cosigner from 32 bytes that the caller drew from a cryptographic random source.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        let key = SigningKey::from_bytes(seed);
        let verifier =
            VerifierKey::new(name, KeyKind::CosignatureV1, key.verifying_key().as_bytes())?;
        Ok(Self { key, verifier })
    }

    /// Reads the same private key text as [`NoteSigner::parse_private_key`], as Tessera's tools do.
    pub fn parse_private_key(text: &str) -> Result<Self, NoteError> {
        let signer = NoteSigner::parse_private_key(text)?;
        Self::from_seed(signer.name(), signer.signing_key().as_bytes())
    }

    /// The public key for verifiers.
    #[must_use]
    pub fn verifier_key(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The vkey text for verifiers.
    #[must_use]
    pub fn vkey(&self) -> String {
        self.verifier.to_string()
    }

    /// The signature line over a checkpoint at this time, in seconds since 1970; 0 is refused.
    pub fn cosign(
        &self,
        checkpoint: &Checkpoint,
        timestamp: u64,
    ) -> Result<SignatureLine, CheckpointError> {
        if !(1..=TIMESTAMP_MAX).contains(&timestamp) {
            return Err(CheckpointError::Timestamp);
        }
        let message = message(timestamp, &checkpoint.to_text()?);
        let signature = self.key.sign(&message).to_bytes();
        let payload = [&timestamp.to_be_bytes(), signature.as_slice()].concat();
        Ok(SignatureLine::new(
            self.verifier.name(),
            self.verifier.key_id(),
            payload,
        )?)
    }
}

impl fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cosigner({})", self.verifier)
    }
}
