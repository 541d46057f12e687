//! What an entry of the anchor log says of another log: read out of a proof, with every signature and hash of it verified.

use counterfoil_tlog::anchor_proof::{AnchorProof, AnchorProofError, LoggedEntry, MapHead};
use counterfoil_tlog::hash::sha256;
use counterfoil_tlog::note::{KeyKind, VerifierKey};
use counterfoil_tlog::signature::verify_record;
use counterfoil_tlog::{Checkpoint, Hash};

use crate::catalogue::{Payload, decode_payload};
use crate::record::{RecordError, decode_entry, decode_record, signed_message};
use crate::v1;

/// Why a proof of the anchor log is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnchorError {
    /// It does not prove its entry.
    #[error(transparent)]
    Proof(#[from] AnchorProofError),
    /// The entry or its record is not one.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The entry is another one than it must be.
    #[error("its entry {0}")]
    Entry(&'static str),
    /// The path does not lead to the root of the map that the entry states.
    #[error("the map of epoch {0} does not have what it says of this log")]
    Map(u64),
}

/// Who makes the anchor log, as whoever verifies knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorKeys {
    /// Key of the anchor log; its name is the origin.
    pub log: VerifierKey,
    /// Key of the ledger service as a producer, which alone writes to it.
    pub registrar: VerifierKey,
    /// Keys of the witnesses whose cosignatures of its checkpoints are looked for; how many are enough is not decided here.
    pub witnesses: Vec<VerifierKey>,
}

/// An entry of the anchor log whose proof holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Stated {
    /// Where it stands.
    pub index: u64,
    /// What it says.
    pub payload: Payload,
    /// SHA-256 of the payload's bytes.
    pub payload_hash: [u8; 32],
    /// The anchor log's state that the proof is under.
    pub checkpoint: Checkpoint,
    /// Those of [`AnchorKeys::witnesses`] who have cosigned it.
    pub cosigners: Vec<VerifierKey>,
}

/// What an epoch has of a log.
#[derive(Debug, Clone, PartialEq)]
pub struct Anchored {
    /// The epoch.
    pub epoch: v1::HeadsAnchored,
    /// SHA-256 of its payload: what the next one names.
    pub epoch_hash: [u8; 32],
    /// Where its record stands in the anchor log.
    pub index: u64,
    /// The log's head; `None`: the epoch has none.
    pub head: Option<MapHead>,
    /// The anchor log's state that the proof is under.
    pub checkpoint: Checkpoint,
    /// Those of [`AnchorKeys::witnesses`] who have cosigned it.
    pub cosigners: Vec<VerifierKey>,
}

/// Verifies that the anchor log has an entry, and that the ledger service signed its record.
///
/// # Errors
/// What does not hold.
pub fn stated(logged: &LoggedEntry, keys: &AnchorKeys) -> Result<Stated, AnchorError> {
    let signed = logged.verify(&keys.log, &keys.witnesses)?;
    let entry = decode_entry(&logged.entry)?;
    let record = decode_record(&entry.record)?;
    let origin = keys.log.name();
    if entry.log_origin != origin || record.log_origin != origin {
        return Err(AnchorError::Entry("is of another log"));
    }
    if entry.index != logged.proof.index {
        return Err(AnchorError::Entry("says that it stands somewhere else"));
    }
    let key_id = format!("{}+{:08x}", keys.registrar.name(), keys.registrar.key_id());
    let message = signed_message(&entry.record);
    let by_registrar = entry.record_key_id == key_id
        && verify_record(
            keys.registrar.public_key(),
            &message,
            &entry.record_signature,
        )
        .is_ok();
    if !by_registrar {
        return Err(AnchorError::Entry("is not signed by the ledger service"));
    }
    let cosigners = signed.cosignatures.into_iter();
    let cosigners = cosigners.filter(|signature| signature.key.kind() == KeyKind::CosignatureV1);
    let payload = decode_payload(&record.r#type, &record.payload)
        .ok_or(AnchorError::Entry("is of an unknown type"))??;
    Ok(Stated {
        index: entry.index,
        payload,
        payload_hash: sha256(&record.payload).0,
        checkpoint: signed.checkpoint,
        cosigners: cosigners.map(|signature| signature.key).collect(),
    })
}

/// Verifies what an epoch has of the log with this origin.
///
/// # Errors
/// What does not hold.
pub fn anchored(
    proof: &AnchorProof,
    origin: &str,
    keys: &AnchorKeys,
) -> Result<Anchored, AnchorError> {
    let stated = stated(&proof.logged, keys)?;
    let Payload::HeadsAnchored(epoch) = stated.payload else {
        return Err(AnchorError::Entry("is no HeadsAnchored"));
    };
    let map_root = <[u8; 32]>::try_from(epoch.map_root.as_slice())
        .map_err(|_| AnchorError::Entry("has a map root that is no hash"))?;
    if !proof.leads_to(&Hash(map_root), origin) {
        return Err(AnchorError::Map(epoch.epoch));
    }
    Ok(Anchored {
        epoch_hash: stated.payload_hash,
        index: stated.index,
        head: proof.head.clone(),
        checkpoint: stated.checkpoint,
        cosigners: stated.cosigners,
        epoch,
    })
}

/// Verifies that the anchor log bound a log under this key, which names its origin; where.
///
/// # Errors
/// What does not hold.
pub fn bound(
    logged: &LoggedEntry,
    vkey: &VerifierKey,
    keys: &AnchorKeys,
) -> Result<Stated, AnchorError> {
    let stated = stated(logged, keys)?;
    let Payload::TenantBound(bound) = &stated.payload else {
        return Err(AnchorError::Entry("is no TenantBound"));
    };
    if bound.vkey_hash != sha256(vkey.to_string().as_bytes()).0 {
        return Err(AnchorError::Entry(
            "binds another log, or this one under another key",
        ));
    }
    Ok(stated)
}
