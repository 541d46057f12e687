//! The checks of a record that need no more of the log than its name: form, binding, type, stream, payload, signature.
//!
//! They run in the caller's task, so that the sequencer does only what must be done in order.

use std::sync::Arc;

use counterfoil_evidence::catalogue::{self, Payload};
use counterfoil_evidence::record::{decode_record, record_hash, signed_message};
use counterfoil_evidence::v1::Record;
use counterfoil_tlog::signature::verify_batch;

use crate::key_book::{KeyBook, KeyEvent, Registration};
use crate::labels::Labels;
use crate::model::SignedRecord;
use crate::sequencer::seal;
use crate::{LogInfo, Refusal};

/// Most subjects of a record.
pub(crate) const SUBJECTS_MAX: usize = 64;

/// Fewest records for which verifying them before sequencing pays; fewer are verified together with other callers'.
const VERIFY_EARLY_MIN: usize = 64;

/// A record that is well-formed and bound to the log.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) record: Vec<u8>,
    pub(crate) record_id: [u8; 16],
    pub(crate) record_hash: [u8; 32],
    pub(crate) stream: &'static str,
    pub(crate) stream_seq: u64,
    pub(crate) prev_record_hash: [u8; 32],
    pub(crate) labels: Arc<Labels>,
    pub(crate) key_id: String,
    pub(crate) signature: Vec<u8>,
    /// Of the two before this.
    pub(crate) seal: u64,
    /// The public key under which the signature was found good.
    pub(crate) verified_by: Option<[u8; 32]>,
    /// What it does to the log's keys, once it is in the log.
    pub(crate) key_event: Option<KeyEvent>,
}

/// Checks the records of one submission; many of them are verified here, under the keys registered so far.
pub(crate) fn admit(
    log: &LogInfo,
    keys: Option<&KeyBook>,
    records: Vec<SignedRecord>,
) -> Vec<Result<Admitted, Refusal>> {
    let mut admitted: Vec<_> = records
        .into_iter()
        .map(|record| admit_one(log, record))
        .collect();
    if let Some(keys) = keys
        && admitted.len() >= VERIFY_EARLY_MIN
    {
        let (positions, found): (Vec<usize>, Vec<[u8; 32]>) = admitted
            .iter()
            .enumerate()
            .filter_map(|(position, record)| {
                let key_id = &record.as_ref().ok()?.key_id;
                Some((position, *keys.public_key(key_id)?))
            })
            .unzip();
        let good = {
            let items: Vec<(&[u8; 32], &Admitted)> = found
                .iter()
                .zip(&positions)
                .filter_map(|(key, position)| Some((key, admitted.get(*position)?.as_ref().ok()?)))
                .collect();
            verify(&items)
        };
        for ((position, key), good) in positions.iter().zip(found).zip(good) {
            // A bad one stays unverified: the sequencer judges it again, by the keys of that moment.
            if good && let Some(Ok(record)) = admitted.get_mut(*position) {
                record.verified_by = Some(key);
            }
        }
    }
    admitted
}

/// Verifies signatures together; one answer each.
pub(crate) fn verify(items: &[(&[u8; 32], &Admitted)]) -> Vec<bool> {
    let messages: Vec<Vec<u8>> = items
        .iter()
        .map(|(_, record)| signed_message(&record.record))
        .collect();
    let signed: Vec<_> = items
        .iter()
        .zip(&messages)
        .map(|((key, record), message)| (*key, message.as_slice(), record.signature.as_slice()))
        .collect();
    let mut good = vec![true; items.len()];
    if let Err(bad) = verify_batch(&signed) {
        for position in bad {
            if let Some(good) = good.get_mut(position) {
                *good = false;
            }
        }
    }
    good
}

pub(crate) fn admit_one(log: &LogInfo, signed: SignedRecord) -> Result<Admitted, Refusal> {
    let record = decode_record(&signed.record)?;
    if record.log_origin != log.origin {
        return Err(Refusal::OtherLog(record.log_origin));
    }
    let kind = catalogue::record_type(&record.r#type)
        .ok_or_else(|| Refusal::UnknownType(record.r#type.clone()))?;
    let stream = kind
        .on(&record.stream)
        .ok_or(Refusal::OtherStream(kind.stream))?;
    if record.subject.len() > SUBJECTS_MAX {
        return Err(Refusal::TooManySubjects(record.subject.len()));
    }
    let key_event = read_payload(&record)?;
    Ok(Admitted {
        record_id: array(&record.record_id),
        record_hash: record_hash(&signed.record),
        record: signed.record,
        stream,
        stream_seq: record.stream_seq,
        prev_record_hash: array(&record.prev_record_hash),
        labels: Arc::new(Labels::of(&record)),
        seal: seal(&signed.key_id, &signed.signature),
        key_id: signed.key_id,
        signature: signed.signature,
        verified_by: None,
        key_event,
    })
}

/// Checks that the payload is canonical, and reads what it says of keys.
pub(crate) fn read_payload(record: &Record) -> Result<Option<KeyEvent>, Refusal> {
    let payload = catalogue::decode_payload(&record.r#type, &record.payload)
        .ok_or_else(|| Refusal::UnknownType(record.r#type.clone()))??;
    Ok(match &payload {
        Payload::ActorKeyRegistered(payload) => {
            Some(KeyEvent::Registered(Registration::read(payload)?))
        }
        Payload::ActorKeyRevoked(payload) => Some(KeyEvent::revoked(payload)),
        _ => None,
    })
}

/// `decode_record` has checked the length.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    if bytes.len() == N {
        array.copy_from_slice(bytes);
    }
    array
}
