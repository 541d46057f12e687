//! What can be judged of one record alone, without the log around it: so it can be done on any core.

use counterfoil_tlog::Hash;
use counterfoil_tlog::sorted_set::{SetProof, verify_membership, verify_non_membership};

use crate::catalogue::{Payload, decode_payload};
use crate::record::{RecordError, record_hash};
use crate::v1::{self, EffectClaim, VerificationMethod};

/// A record's payload.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// It is of a known type, in its canonical bytes.
    Payload(Box<Payload>),
    /// Its type is not known here.
    UnknownType,
    /// Its bytes are not canonical bytes of its type.
    Malformed(RecordError),
}

/// A record that has been looked at by itself.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// SHA-256 of the record's bytes.
    pub record_hash: [u8; 32],
    /// The record, without its payload's bytes.
    pub record: v1::Record,
    /// Its payload.
    pub decoded: Decoded,
    /// Whether the set proofs inside hold; `None` when it needs none.
    pub proof: Option<Result<(), String>>,
}

/// Decodes a record's payload and verifies the set proofs inside it.
#[must_use]
pub fn prepare(record_bytes: &[u8], mut record: v1::Record) -> Prepared {
    let payload = std::mem::take(&mut record.payload);
    let decoded = match decode_payload(&record.r#type, &payload) {
        Some(Ok(payload)) => Decoded::Payload(Box::new(payload)),
        Some(Err(error)) => Decoded::Malformed(error),
        None => Decoded::UnknownType,
    };
    let proof = match &decoded {
        Decoded::Payload(payload) => match payload.as_ref() {
            Payload::EffectVerified(effect) => effect_proof(effect),
            Payload::RegressionDetected(regression) => Some(present(
                &regression.set_root,
                regression.set_count,
                &regression.grant_key,
                &regression.proof,
            )),
            _ => None,
        },
        _ => None,
    };
    Prepared {
        record_hash: record_hash(record_bytes),
        record,
        decoded,
        proof,
    }
}

/// What is claimed by hearsay carries no proof; what is claimed of a sealed set must.
fn effect_proof(effect: &v1::EffectVerified) -> Option<Result<(), String>> {
    let read = matches!(
        effect.method(),
        VerificationMethod::SameReader | VerificationMethod::IndependentReader
    );
    if !read {
        return None;
    }
    let (root, count, key) = (&effect.set_root, effect.set_count, &effect.grant_key);
    Some(match effect.claim() {
        EffectClaim::Present => present(root, count, key, &effect.proof),
        EffectClaim::Absent => absent(root, count, key, &effect.proof),
        EffectClaim::Narrowed => absent(root, count, key, &effect.proof)
            .and_then(|()| present(root, count, &effect.kept_grant_key, &effect.kept_proof)),
        EffectClaim::Unspecified => Err("it claims nothing".to_owned()),
    })
}

fn read(root: &[u8], proof: &[u8]) -> Result<(Hash, SetProof), String> {
    let root = Hash::try_from(root).map_err(|error| error.to_string())?;
    let proof = SetProof::from_bytes(proof).map_err(|error| error.to_string())?;
    Ok((root, proof))
}

fn present(root: &[u8], count: u64, key: &[u8], proof: &[u8]) -> Result<(), String> {
    let (root, proof) = read(root, proof)?;
    verify_membership(&root, count, key, &proof)
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// Verifies that a key is absent from a committed set.
pub(super) fn absent(root: &[u8], count: u64, key: &[u8], proof: &[u8]) -> Result<(), String> {
    let (root, proof) = read(root, proof)?;
    verify_non_membership(&root, count, key, &proof).map_err(|error| error.to_string())
}
