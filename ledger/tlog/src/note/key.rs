//! Verifier keys: `<name>+<key id in hex>+<base64(type || public key)>`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

use super::{KEY_ID_BYTES, NoteError, check_key_name};
use crate::cosignature;
use crate::signature::PublicKey;

/// What a key signs, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// Type `0x01`: plain Ed25519 over the text of the note.
    Ed25519,
    /// Type `0x04`: timestamped Ed25519 cosignature over a checkpoint.
    CosignatureV1,
}

impl KeyKind {
    /// The byte that stands for the type in keys and key ids.
    #[must_use]
    pub const fn type_byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::CosignatureV1 => 0x04,
        }
    }

    fn from_type_byte(byte: u8) -> Option<Self> {
        match byte {
            0x01 => Some(Self::Ed25519),
            0x04 => Some(Self::CosignatureV1),
            _ => None,
        }
    }
}

/// The id of a key: the first four bytes of `SHA-256(name || 0x0A || type || public key)`.
fn key_id(name: &str, kind: KeyKind, public_key: &[u8; 32]) -> u32 {
    let digest = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', kind.type_byte()])
        .chain_update(public_key)
        .finalize();
    let [a, b, c, d, ..] = <[u8; 32]>::from(digest);
    u32::from_be_bytes([a, b, c, d])
}

/// A public key with the name under which it signs. `Display` and [`VerifierKey::parse`] use the vkey text.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key_id: u32,
    kind: KeyKind,
    key: VerifyingKey,
}

impl VerifierKey {
    /// A key from its parts; refuses keys of small order and non-canonical encodings.
    pub fn new(name: &str, kind: KeyKind, public_key: &[u8; 32]) -> Result<Self, NoteError> {
        check_key_name(name)?;
        PublicKey::parse(public_key)
            .map_err(|_| NoteError::MalformedKey("the public key is not an acceptable point"))?;
        let key = VerifyingKey::from_bytes(public_key)
            .map_err(|_| NoteError::MalformedKey("the public key is not a point"))?;
        Ok(Self {
            name: name.to_owned(),
            key_id: key_id(name, kind, public_key),
            kind,
            key,
        })
    }

    /// Reads a vkey strictly and checks its key id.
    pub fn parse(vkey: &str) -> Result<Self, NoteError> {
        let (name, found, payload) = split_key_text(vkey)?;
        let (type_byte, public_key) = payload
            .split_first()
            .ok_or(NoteError::MalformedKey("it is empty"))?;
        let kind =
            KeyKind::from_type_byte(*type_byte).ok_or(NoteError::UnsupportedKey(*type_byte))?;
        let public_key = public_key
            .try_into()
            .map_err(|_| NoteError::MalformedKey("a public key has 32 bytes"))?;
        let key = Self::new(name, kind, public_key)?;
        check_key_id(name, found, key.key_id)?;
        Ok(key)
    }

    /// The name of the key.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the key.
    #[must_use]
    pub fn key_id(&self) -> u32 {
        self.key_id
    }

    /// What the key signs.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The 32 bytes of the public key. Two names for the same bytes are one signer: policies must compare these.
    #[must_use]
    pub fn public_key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Verifies the payload of a signature line over a note's text. `None`: bad. `Some(None)`: good, without a time.
    pub(super) fn verify(&self, text: &str, payload: &[u8]) -> Option<Option<u64>> {
        match self.kind {
            KeyKind::Ed25519 => self.verify_strict(text.as_bytes(), payload).then_some(None),
            KeyKind::CosignatureV1 => {
                let (timestamp, signature) = cosignature::split(payload)?;
                let message = cosignature::message(timestamp, text);
                self.verify_strict(&message, signature)
                    .then_some(Some(timestamp))
            }
        }
    }

    fn verify_strict(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload = [&[self.kind.type_byte()], self.public_key().as_slice()].concat();
        write!(
            f,
            "{}+{:08x}+{}",
            self.name,
            self.key_id,
            STANDARD.encode(payload)
        )
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

impl std::str::FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(vkey: &str) -> Result<Self, NoteError> {
        Self::parse(vkey)
    }
}

/// Splits `<name>+<8 hex digits>+<base64>`, the shape shared by public and private keys.
pub(super) fn split_key_text(text: &str) -> Result<(&str, u32, Vec<u8>), NoteError> {
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(encoded)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(NoteError::MalformedKey("it is not name+id+key"));
    };
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if id.len() != 2 * KEY_ID_BYTES || !id.bytes().all(is_hex) {
        return Err(NoteError::MalformedKey(
            "the key id is not eight lower-case hex digits",
        ));
    }
    let id = u32::from_str_radix(id, 16)
        .map_err(|_| NoteError::MalformedKey("the key id is not a number"))?;
    let payload = STANDARD
        .decode(encoded)
        .map_err(|_| NoteError::MalformedKey("the key is not canonical base64"))?;
    Ok((name, id, payload))
}

pub(super) fn check_key_id(name: &str, found: u32, computed: u32) -> Result<(), NoteError> {
    if found == computed {
        return Ok(());
    }
    Err(NoteError::KeyIdMismatch {
        name: name.to_owned(),
        found,
        computed,
    })
}
