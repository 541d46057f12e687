//! Signing notes with a named Ed25519 key.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};

use super::key::{check_key_id, split_key_text};
use super::{KeyKind, Note, NoteError, SignatureLine, VerifierKey};

const PRIVATE_KEY_PREFIX: &str = "PRIVATE+KEY+";

/// A named Ed25519 signing key (type `0x01`). It shows its name and id, never its seed, and wipes the seed when dropped.
pub struct NoteSigner {
    key: SigningKey,
    verifier: VerifierKey,
}

impl NoteSigner {
    /// A signer from 32 bytes that the caller drew from a cryptographic random source.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        let key = SigningKey::from_bytes(seed);
        let verifier = VerifierKey::new(name, KeyKind::Ed25519, key.verifying_key().as_bytes())?;
        Ok(Self { key, verifier })
    }

    /// Reads the private key text of Go's `x/mod`: `PRIVATE+KEY+<name>+<id>+<base64(0x01 || seed)>`.
    pub fn parse_private_key(text: &str) -> Result<Self, NoteError> {
        let rest = text
            .strip_prefix(PRIVATE_KEY_PREFIX)
            .ok_or(NoteError::MalformedKey(
                "it does not start with PRIVATE+KEY+",
            ))?;
        let (name, found, payload) = split_key_text(rest)?;
        let (type_byte, seed) = payload
            .split_first()
            .ok_or(NoteError::MalformedKey("it is empty"))?;
        if *type_byte != KeyKind::Ed25519.type_byte() {
            return Err(NoteError::UnsupportedKey(*type_byte));
        }
        let seed = seed
            .try_into()
            .map_err(|_| NoteError::MalformedKey("a seed has 32 bytes"))?;
        let signer = Self::from_seed(name, seed)?;
        check_key_id(name, found, signer.verifier.key_id())?;
        Ok(signer)
    }

    /// The private key text. It is the secret itself: write it to a protected file and nowhere else.
    #[must_use]
    pub fn to_private_key(&self) -> String {
        let payload = [
            &[KeyKind::Ed25519.type_byte()],
            self.key.as_bytes().as_slice(),
        ]
        .concat();
        let (name, id) = (self.name(), self.verifier.key_id());
        format!(
            "{PRIVATE_KEY_PREFIX}{name}+{id:08x}+{}",
            STANDARD.encode(payload)
        )
    }

    /// The name under which it signs.
    #[must_use]
    pub fn name(&self) -> &str {
        self.verifier.name()
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

    /// The signature line over a note's text, which must include its final line feed.
    #[must_use]
    pub fn sign_text(&self, text: &str) -> SignatureLine {
        SignatureLine {
            name: self.name().to_owned(),
            key_id: self.verifier.key_id(),
            signature: self.key.sign(text.as_bytes()).to_bytes().to_vec(),
        }
    }

    /// A note over this text, signed by this key.
    pub fn sign_note(&self, text: &str) -> Result<Note, NoteError> {
        Note::new(text, vec![self.sign_text(text)])
    }

    pub(crate) fn signing_key(&self) -> &SigningKey {
        &self.key
    }
}

impl fmt::Debug for NoteSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoteSigner({})", self.verifier)
    }
}
