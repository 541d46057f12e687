//! What the anchor log proves of one other log, as one text: which head the map of an epoch has, or that it has none. The specification is
//! this page; there is no other.
//!
//! ```text
//! counterfoil-logged-entry/v1             counterfoil-anchor-proof/v1
//! entry <base64>                          head <size> <base64 of the root>        or: head none
//!                                         salt <base64>                           only with a head
//! c2sp.org/tlog-proof@v1                  path <base64>
//! index ...                               entry <base64>
//! ...
//!                                         c2sp.org/tlog-proof@v1
//! <checkpoint>                            ...
//! ```
//!
//! Line feeds only, decimals without leading zeros, base64 padded and canonical. `entry` holds the bytes of an entry of the anchor log; what
//! follows the empty line proves that it is there, in the form of [`crate::proof`]. `salt` and `path` are those of
//! [`crate::sparse_map`]: they lead to the root of the map that the entry's record states.
//!
//! Not here: what the bytes of the entry say, and who signed them.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::SignedCheckpoint;
use crate::decimal;
use crate::hash::{Hash, HashError, leaf_hash};
use crate::note::VerifierKey;
use crate::proof::{PROOF_BYTES_MAX, ProofError, TlogProof};
use crate::sparse_map::{MapLeaf, MapPath, PathError, key_of};

const ENTRY_LINE: &str = "counterfoil-logged-entry/v1";
const PROOF_LINE: &str = "counterfoil-anchor-proof/v1";

/// The longest text of either form that is read: an entry of 65,535 bytes, a path of 257 hashes and a receipt.
pub const ANCHOR_PROOF_BYTES_MAX: usize = PROOF_BYTES_MAX + (128 << 10);

/// Why a text is not a proof of the anchor log, or proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnchorProofError {
    /// The text does not follow the format.
    #[error("malformed anchor proof: {0}")]
    Malformed(&'static str),
    /// A hash is not in its one form.
    #[error("malformed anchor proof: {0}")]
    Hash(#[from] HashError),
    /// The path is not in its one form.
    #[error("malformed anchor proof: {0}")]
    Path(#[from] PathError),
    /// The entry is not proved to be in the anchor log.
    #[error(transparent)]
    Entry(#[from] ProofError),
}

/// An entry with the proof that a log has it. Of neither anything has been verified. `Display` is its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedEntry {
    /// Bytes of the entry.
    pub entry: Vec<u8>,
    /// Where it is.
    pub proof: TlogProof,
}

/// A head of a log as an epoch's map has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapHead {
    /// Entries of the log.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
    /// Salt of its leaf.
    pub salt: [u8; 32],
}

/// What an epoch has of one log. Nothing of it has been verified. `Display` is its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorProof {
    /// The log's head; `None`: the map has none.
    pub head: Option<MapHead>,
    /// Leads from the head, or from where there is none, to the root of the map.
    pub path: MapPath,
    /// The entry of the anchor log that states the root.
    pub logged: LoggedEntry,
}

impl LoggedEntry {
    /// Reads the one text that it has.
    ///
    /// # Errors
    /// When the text does not follow the format.
    pub fn parse(text: &str) -> Result<Self, AnchorProofError> {
        let (header, proof) = split(text)?;
        let mut lines = header.split('\n');
        first(&mut lines, ENTRY_LINE)?;
        Self::read(lines, proof)
    }

    /// Verifies that the log with this key has the entry, under a checkpoint that these cosigners may have signed too.
    ///
    /// # Errors
    /// [`AnchorProofError::Entry`].
    pub fn verify(
        &self,
        log_key: &VerifierKey,
        cosigners: &[VerifierKey],
    ) -> Result<SignedCheckpoint, AnchorProofError> {
        let leaf = leaf_hash(&self.entry);
        Ok(self.proof.verify(&leaf, log_key, cosigners)?)
    }

    fn read<'t>(
        mut lines: impl Iterator<Item = &'t str>,
        proof: &str,
    ) -> Result<Self, AnchorProofError> {
        let entry = bytes(field(&mut lines, "entry ", "it has no entry")?)?;
        if lines.next().is_some() {
            return Err(AnchorProofError::Malformed("it has a line too much"));
        }
        let proof = TlogProof::parse(proof)?;
        Ok(Self { entry, proof })
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "entry {}\n\n{}",
            STANDARD.encode(&self.entry),
            self.proof
        )
    }
}

impl fmt::Display for LoggedEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{ENTRY_LINE}")?;
        self.write(f)
    }
}

impl AnchorProof {
    /// Reads the one text that it has.
    ///
    /// # Errors
    /// When the text does not follow the format.
    pub fn parse(text: &str) -> Result<Self, AnchorProofError> {
        let (header, proof) = split(text)?;
        let mut lines = header.split('\n');
        first(&mut lines, PROOF_LINE)?;
        let head = match field(&mut lines, "head ", "it does not say which head")? {
            "none" => None,
            head => {
                let (size, root) = head
                    .split_once(' ')
                    .ok_or(AnchorProofError::Malformed("its head has no root"))?;
                let size = decimal::parse(size);
                let size = size.ok_or(AnchorProofError::Malformed("its head has no size"))?;
                let salt = field(&mut lines, "salt ", "its head has no salt")?;
                Some(MapHead {
                    size,
                    root: Hash::from_base64(root)?,
                    salt: Hash::from_base64(salt)?.0,
                })
            }
        };
        let path = field(&mut lines, "path ", "it has no path")?;
        Ok(Self {
            head,
            path: MapPath::decode(&bytes(path)?)?,
            logged: LoggedEntry::read(lines, proof)?,
        })
    }

    /// Whether the map with this root has of the log with this origin what is said here.
    #[must_use]
    pub fn leads_to(&self, map_root: &Hash, origin: &str) -> bool {
        let key = key_of(origin);
        match &self.head {
            None => self.path.excludes(map_root, &key),
            Some(head) => {
                let leaf = MapLeaf {
                    key,
                    size: head.size,
                    root: head.root,
                    salt: head.salt,
                };
                self.path.includes(map_root, &leaf)
            }
        }
    }
}

impl fmt::Display for AnchorProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{PROOF_LINE}")?;
        match &self.head {
            None => writeln!(f, "head none")?,
            Some(head) => {
                writeln!(f, "head {} {}", head.size, head.root.to_base64())?;
                writeln!(f, "salt {}", Hash(head.salt).to_base64())?;
            }
        }
        writeln!(f, "path {}", STANDARD.encode(self.path.encode()))?;
        self.logged.write(f)
    }
}

fn split(text: &str) -> Result<(&str, &str), AnchorProofError> {
    if text.len() > ANCHOR_PROOF_BYTES_MAX {
        return Err(AnchorProofError::Malformed("it is too long"));
    }
    text.split_once("\n\n")
        .ok_or(AnchorProofError::Malformed("it has no receipt"))
}

fn first<'t>(
    lines: &mut impl Iterator<Item = &'t str>,
    expected: &str,
) -> Result<(), AnchorProofError> {
    if lines.next() == Some(expected) {
        return Ok(());
    }
    Err(AnchorProofError::Malformed("its first line is another one"))
}

fn field<'t>(
    lines: &mut impl Iterator<Item = &'t str>,
    name: &str,
    missing: &'static str,
) -> Result<&'t str, AnchorProofError> {
    lines
        .next()
        .and_then(|line| line.strip_prefix(name))
        .ok_or(AnchorProofError::Malformed(missing))
}

fn bytes(text: &str) -> Result<Vec<u8>, AnchorProofError> {
    let malformed = AnchorProofError::Malformed("a line is not canonical base64");
    STANDARD.decode(text).map_err(|_| malformed)
}
