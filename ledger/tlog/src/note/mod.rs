//! Signed notes ([c2sp.org/signed-note] v1.0.0): a text, an empty line, and one line per signature.
//!
//! Invariants:
//! - [`Note::parse`] accepts one byte string per note: `Note::parse(b)?.to_bytes() == b`.
//! - [`open`] rejects a note on which a *known* key's signature is bad, even if another known key's is good.
//! - Ed25519 signatures are checked with `verify_strict`, and keys of small order or in a non-canonical encoding do not parse.
//!
//! Not here: which keys to trust and how many of them are enough. Names and key ids only *select* a key; they prove nothing.
//!
//! [c2sp.org/signed-note]: https://c2sp.org/signed-note@v1.0.0

mod key;
mod signer;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub use key::{KeyKind, VerifierKey};
pub use signer::NoteSigner;

/// The longest note that is read. Sixteen ML-DSA cosignatures, which a reader must accept, are 52 kB.
pub const NOTE_BYTES_MAX: usize = 65_536;
/// The most signature lines that are read.
pub const SIGNATURES_MAX: usize = 100;

const SIGNATURE_MARK: &str = "\u{2014} ";
const KEY_ID_BYTES: usize = 4;

/// Why a note, a key or a signature is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The bytes are not a note in its only form.
    #[error("malformed note: {0}")]
    Malformed(&'static str),
    /// A key name is empty or has a space, a control character or a `+`.
    #[error("malformed key name {0:?}")]
    KeyName(String),
    /// The text of a verifier or private key does not follow its format.
    #[error("malformed key: {0}")]
    MalformedKey(&'static str),
    /// The key id written in a key is not the one computed from it.
    #[error("key id {found:08x} of {name} does not match the key, which has {computed:08x}")]
    KeyIdMismatch {
        /// The key name.
        name: String,
        /// The id that was written.
        found: u32,
        /// The id of the key.
        computed: u32,
    },
    /// The key is of an algorithm that is not verified here.
    #[error("key type {0:#04x} is not supported")]
    UnsupportedKey(u8),
    /// Two different known keys have the same name and id, so that a line cannot be attributed.
    #[error("two known keys are called {name}+{key_id:08x}")]
    AmbiguousKey {
        /// The key name.
        name: String,
        /// The key id.
        key_id: u32,
    },
    /// The signature of a known key does not verify: the whole note is refused.
    #[error("bad signature by known key {name}+{key_id:08x}")]
    BadSignature {
        /// The key name.
        name: String,
        /// The key id.
        key_id: u32,
    },
    /// No known key has signed the note.
    #[error("no known key has signed the note")]
    Unsigned,
}

/// One signature line: `— <name> <base64(key id || signature)>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureLine {
    name: String,
    key_id: u32,
    signature: Vec<u8>,
}

impl SignatureLine {
    /// A line for a signature made by the key of this name and id.
    pub fn new(name: &str, key_id: u32, signature: Vec<u8>) -> Result<Self, NoteError> {
        check_key_name(name)?;
        if signature.is_empty() {
            return Err(NoteError::Malformed("a signature is empty"));
        }
        Ok(Self {
            name: name.to_owned(),
            key_id,
            signature,
        })
    }

    /// Reads one line, without its line feed.
    pub fn parse(line: &str) -> Result<Self, NoteError> {
        let rest = line
            .strip_prefix(SIGNATURE_MARK)
            .ok_or(NoteError::Malformed(
                "a signature line does not start with an em dash",
            ))?;
        let (name, encoded) = rest
            .split_once(' ')
            .ok_or(NoteError::Malformed("a signature line has no signature"))?;
        let payload = STANDARD
            .decode(encoded)
            .map_err(|_| NoteError::Malformed("a signature is not canonical base64"))?;
        let (key_id, signature) = payload
            .split_first_chunk::<KEY_ID_BYTES>()
            .ok_or(NoteError::Malformed("a signature is too short"))?;
        Self::new(name, u32::from_be_bytes(*key_id), signature.to_vec())
    }

    /// The key name on the line.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key id on the line.
    #[must_use]
    pub fn key_id(&self) -> u32 {
        self.key_id
    }

    /// What follows the key id: for an Ed25519 key its signature, for a cosignature key time and signature.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }
}

impl fmt::Display for SignatureLine {
    /// The line without its line feed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload = [&self.key_id.to_be_bytes(), self.signature.as_slice()].concat();
        write!(
            f,
            "{SIGNATURE_MARK}{} {}",
            self.name,
            STANDARD.encode(payload)
        )
    }
}

/// A note whose form is right and whose signatures have not been looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<SignatureLine>,
}

impl Note {
    /// A note over a text that ends with a line feed.
    pub fn new(text: &str, signatures: Vec<SignatureLine>) -> Result<Self, NoteError> {
        check_text(text)?;
        if signatures.is_empty() {
            return Err(NoteError::Malformed("there is no signature"));
        }
        if signatures.len() > SIGNATURES_MAX {
            return Err(NoteError::Malformed("there are too many signatures"));
        }
        Ok(Self {
            text: text.to_owned(),
            signatures,
        })
    }

    /// Reads a note strictly.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::Malformed("it is too long"));
        }
        let note =
            std::str::from_utf8(bytes).map_err(|_| NoteError::Malformed("it is not UTF-8"))?;
        // The text may contain empty lines of its own: only the last one separates.
        let separator = note
            .rfind("\n\n")
            .ok_or(NoteError::Malformed("no empty line ends the text"))?;
        let (text, signatures) = note.split_at(separator + 1);
        let lines = signatures
            .strip_prefix('\n')
            .and_then(|lines| lines.strip_suffix('\n'))
            .ok_or(NoteError::Malformed(
                "it does not end with a signature line",
            ))?;
        let signatures = lines
            .split('\n')
            .map(SignatureLine::parse)
            .collect::<Result<_, _>>()?;
        Self::new(text, signatures)
    }

    /// The signed text, with its final line feed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines in their order.
    #[must_use]
    pub fn signatures(&self) -> &[SignatureLine] {
        &self.signatures
    }

    /// Adds a signature line at the end.
    pub fn add_signature(&mut self, line: SignatureLine) -> Result<(), NoteError> {
        if self.signatures.len() >= SIGNATURES_MAX {
            return Err(NoteError::Malformed("there are too many signatures"));
        }
        self.signatures.push(line);
        Ok(())
    }

    /// The note as it is stored and sent.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }

    /// Judges the signatures of the known keys; see [`open`].
    pub fn verify(self, known: &[VerifierKey]) -> Result<VerifiedNote, NoteError> {
        let mut verified: Vec<VerifiedSignature> = Vec::new();
        for line in &self.signatures {
            let Some(key) = find_key(known, line)? else {
                continue;
            };
            let timestamp =
                key.verify(&self.text, &line.signature)
                    .ok_or_else(|| NoteError::BadSignature {
                        name: line.name.clone(),
                        key_id: line.key_id,
                    })?;
            // A second good line of the same key adds nothing: it must not count twice.
            if !verified.iter().any(|earlier| earlier.key == *key) {
                verified.push(VerifiedSignature {
                    key: key.clone(),
                    timestamp,
                });
            }
        }
        if verified.is_empty() {
            return Err(NoteError::Unsigned);
        }
        Ok(VerifiedNote {
            note: self,
            verified,
        })
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures
            .iter()
            .try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// A note that at least one known key has signed, and no known key wrongly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedNote {
    note: Note,
    verified: Vec<VerifiedSignature>,
}

impl VerifiedNote {
    /// The signed text, with its final line feed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.note.text
    }

    /// The whole note, unknown signatures included.
    #[must_use]
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// The known keys that have signed, each once, in the order of their lines.
    #[must_use]
    pub fn verified(&self) -> &[VerifiedSignature] {
        &self.verified
    }

    /// Whether this key is among those that have signed.
    #[must_use]
    pub fn is_signed_by(&self, key: &VerifierKey) -> bool {
        self.verified.iter().any(|signature| signature.key == *key)
    }
}

/// A good signature by a known key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedSignature {
    /// The key that signed.
    pub key: VerifierKey,
    /// For a cosignature the time it states, in seconds since 1970.
    pub timestamp: Option<u64>,
}

/// Reads a note and verifies the lines of the known keys.
///
/// Lines of unknown keys are ignored. One bad line of a known key refuses the whole note; so does having no known key's line.
pub fn open(bytes: &[u8], known: &[VerifierKey]) -> Result<VerifiedNote, NoteError> {
    Note::parse(bytes)?.verify(known)
}

fn find_key<'k>(
    known: &'k [VerifierKey],
    line: &SignatureLine,
) -> Result<Option<&'k VerifierKey>, NoteError> {
    let mut matching = known
        .iter()
        .filter(|key| key.name() == line.name && key.key_id() == line.key_id);
    let Some(found) = matching.next() else {
        return Ok(None);
    };
    if matching.any(|other| other != found) {
        return Err(NoteError::AmbiguousKey {
            name: line.name.clone(),
            key_id: line.key_id,
        });
    }
    Ok(Some(found))
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if !text.ends_with('\n') {
        return Err(NoteError::Malformed(
            "the text does not end with a line feed",
        ));
    }
    if text.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
        return Err(NoteError::Malformed("the text has a control character"));
    }
    Ok(())
}

pub(crate) fn check_key_name(name: &str) -> Result<(), NoteError> {
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if name.is_empty() || name.contains(forbidden) {
        return Err(NoteError::KeyName(name.to_owned()));
    }
    Ok(())
}
