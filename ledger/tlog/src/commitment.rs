//! Salted commitments: a value stays out of the log, and can be shown to be the one that was meant.
//!
//! `SHA-256("counterfoil-commit/v1" || 0x00 || u16 length of label || label || salt[32] || value)`, big endian. The value runs
//! to the end, label and salt have known lengths, so no two triples give the same input.
//!
//! Hiding rests on the salt alone: 32 bytes from a cryptographic random source, fresh for every field, kept where the value is
//! kept and destroyed with it. Not here: drawing the salt and keeping it.

use sha2::{Digest, Sha256};

use crate::hash::{Hash, sha256};

const CONTEXT: &[u8] = b"counterfoil-commit/v1\0";
/// The length field of labels that do not fit it.
const LONG_LABEL: u16 = u16::MAX;

/// The commitment to a value under a label.
///
/// A label of 65,535 bytes or more, which fits no entry of a log, goes in as its SHA-256 under the length 65,535.
#[must_use]
pub fn commit(label: &str, salt: &[u8; 32], value: &[u8]) -> Hash {
    let hash = Sha256::new().chain_update(CONTEXT);
    let hash = match u16::try_from(label.len()) {
        Ok(length) if length < LONG_LABEL => {
            hash.chain_update(length.to_be_bytes()).chain_update(label)
        }
        _ => hash
            .chain_update(LONG_LABEL.to_be_bytes())
            .chain_update(sha256(label.as_bytes())),
    };
    Hash(
        hash.chain_update(salt)
            .chain_update(value)
            .finalize()
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::commit;
    use crate::hash::sha256;

    #[test]
    fn a_commitment_hashes_its_label_length_label_salt_and_value() {
        let salt = [7; 32];
        let input = [
            b"counterfoil-commit/v1\0\x00\x06reason".as_slice(),
            &salt,
            b"left the team",
        ]
        .concat();
        assert_eq!(commit("reason", &salt, b"left the team"), sha256(&input));
    }

    #[test]
    fn moving_a_byte_between_label_salt_and_value_changes_the_commitment() {
        let salt = [b'a'; 32];
        let original = commit("aa", &salt, b"aa");
        assert_ne!(original, commit("a", &salt, b"aaa"));
        assert_ne!(original, commit("aaa", &salt, b"a"));
        let long = "a".repeat(65_536);
        assert_ne!(commit(&long, &salt, b""), commit(&long[1..], &salt, b"a"));
    }
}
