//! Producers: who signed which record, that they might, and that none of their records is missing (P1 to P5).

use std::collections::{HashMap, HashSet};

use counterfoil_evidence::catalogue::{Payload, record_type, stream};
use counterfoil_evidence::replay::{Decoded, Prepared};
use counterfoil_evidence::v1;
use counterfoil_tlog::VerifierKey;

use crate::check::{Check, Finder};
use crate::container::Container;

/// A key that may sign records.
#[derive(Debug, Clone)]
struct ProducerKey {
    public_key: [u8; 32],
    streams: Vec<String>,
    valid_from_ms: i64,
    revoked_after_ms: Option<i64>,
}

/// How far a stream is.
#[derive(Debug)]
struct StreamEnd {
    seq: u64,
    hash: [u8; 32],
}

/// What is remembered of producers while the log is read.
#[derive(Debug)]
pub(crate) struct Producers {
    keys: HashMap<String, ProducerKey>,
    registrar: String,
    streams: HashMap<String, StreamEnd>,
    record_ids: HashSet<[u8; 16]>,
    /// Attachments that records name, with their sizes.
    blobs: HashMap<[u8; 32], u64>,
    signatures: u64,
    p1: Finder,
    p2: Finder,
    p3: Finder,
    p4: Finder,
    p5: Finder,
}

/// "{name}+{8 hex digits}" of a key.
fn key_id(key: &VerifierKey) -> String {
    format!("{}+{:08x}", key.name(), key.key_id())
}

impl Producers {
    pub(crate) fn new(registrar: Option<&VerifierKey>) -> Self {
        let mut keys = HashMap::new();
        if let Some(registrar) = registrar {
            let key = ProducerKey {
                public_key: *registrar.public_key(),
                streams: vec![stream::LEDGER.to_owned()],
                valid_from_ms: i64::MIN,
                revoked_after_ms: None,
            };
            keys.insert(key_id(registrar), key);
        }
        Self {
            keys,
            registrar: registrar.map(key_id).unwrap_or_default(),
            streams: HashMap::new(),
            record_ids: HashSet::new(),
            blobs: HashMap::new(),
            signatures: 0,
            p1: Finder::new("P1", &[], "every record is signed by its producer"),
            p2: Finder::new(
                "P2",
                &["G22"],
                "every stream is without gap, repetition or fork",
            ),
            p3: Finder::new("P3", &[], "no record is there twice"),
            p4: Finder::new(
                "P4",
                &[],
                "every key was registered for its stream and type, and not revoked",
            ),
            p5: Finder::new(
                "P5",
                &[],
                "every attachment is there as its record names it",
            ),
        }
    }

    /// Takes one record in; answers the public key that must have signed it.
    pub(crate) fn take(
        &mut self,
        at: u64,
        entry: &v1::Entry,
        prepared: &Prepared,
    ) -> Option<[u8; 32]> {
        let record = &prepared.record;
        self.in_stream(at, prepared);
        if let Ok(id) = <[u8; 16]>::try_from(record.record_id.as_slice()) {
            let fresh = self.record_ids.insert(id);
            self.p3
                .expect(fresh, || format!("entry {at} repeats a record"));
        }
        for blob in &record.blob {
            if let Ok(sha256) = <[u8; 32]>::try_from(blob.sha256.as_slice()) {
                let size = *self.blobs.entry(sha256).or_insert(blob.size);
                self.p5.expect(size == blob.size, || {
                    format!("entry {at} gives an attachment another size")
                });
            } else {
                self.p5
                    .fail(format!("entry {at} names an attachment by no hash"));
            }
        }
        let key = self.authorised(at, entry, record);
        self.registrations(at, entry, prepared);
        key
    }

    fn in_stream(&mut self, at: u64, prepared: &Prepared) {
        let record = &prepared.record;
        let end = self
            .streams
            .entry(record.stream.clone())
            .or_insert(StreamEnd {
                seq: 0,
                hash: [0; 32],
            });
        let expected = end.seq.saturating_add(1);
        let follows = record.stream_seq == expected && record.prev_record_hash == end.hash;
        *end = StreamEnd {
            seq: record.stream_seq,
            hash: prepared.record_hash,
        };
        self.p2.expect(follows, || {
            format!(
                "entry {at} is {} of stream {}, {expected} was next, or it does not name the one before",
                record.stream_seq, record.stream
            )
        });
    }

    fn authorised(&mut self, at: u64, entry: &v1::Entry, record: &v1::Record) -> Option<[u8; 32]> {
        let Some(key) = self.keys.get(&entry.record_key_id) else {
            let who = format!("entry {at}: key {} is not registered", entry.record_key_id);
            self.p1.fail(&who);
            self.p4.fail(who);
            return None;
        };
        let of_stream = key.streams.contains(&record.stream);
        self.p4.expect(of_stream, || {
            format!(
                "entry {at}: key {} may not write stream {}",
                entry.record_key_id, record.stream
            )
        });
        let of_type = record_type(&record.r#type).is_none_or(|known| known.is_of(&record.stream));
        self.p4.expect(of_type, || {
            format!(
                "entry {at}: {} does not belong into stream {}",
                record.r#type, record.stream
            )
        });
        let valid = key.valid_from_ms <= entry.recorded_at_ms
            && key
                .revoked_after_ms
                .is_none_or(|after| entry.recorded_at_ms <= after);
        self.p4.expect(valid, || {
            format!(
                "entry {at}: key {} was not valid at that time",
                entry.record_key_id
            )
        });
        Some(key.public_key)
    }

    /// Takes note of registrations by the pinned registrar, and of nobody else's.
    fn registrations(&mut self, at: u64, entry: &v1::Entry, prepared: &Prepared) {
        let Decoded::Payload(payload) = &prepared.decoded else {
            return;
        };
        let by_registrar = entry.record_key_id == self.registrar;
        match payload.as_ref() {
            Payload::ActorKeyRegistered(registered) => {
                self.p4.expect(by_registrar, || {
                    format!("entry {at} registers a key and is not by the registrar")
                });
                if by_registrar {
                    self.register(at, registered);
                }
            }
            Payload::ActorKeyRevoked(revoked) => {
                self.p4.expect(by_registrar, || {
                    format!("entry {at} revokes a key and is not by the registrar")
                });
                if let Some(key) = self.keys.get_mut(&revoked.key_id).filter(|_| by_registrar) {
                    let before = key.revoked_after_ms.unwrap_or(i64::MAX);
                    key.revoked_after_ms = Some(before.min(revoked.effective_ms));
                }
            }
            _ => {}
        }
    }

    fn register(&mut self, at: u64, registered: &v1::ActorKeyRegistered) {
        let parsed = VerifierKey::parse(&registered.vkey)
            .ok()
            .filter(|key| key_id(key) == registered.key_id);
        let Some(key) = parsed else {
            self.p4
                .fail(format!("entry {at} registers a key that is none"));
            return;
        };
        // What the trust file pins outranks what the log says of it.
        if registered.key_id == self.registrar {
            return;
        }
        self.keys
            .entry(registered.key_id.clone())
            .and_modify(|known| {
                for stream in &registered.streams {
                    if !known.streams.contains(stream) {
                        known.streams.push(stream.clone());
                    }
                }
            })
            .or_insert_with(|| ProducerKey {
                public_key: *key.public_key(),
                streams: registered.streams.clone(),
                valid_from_ms: registered.valid_from_ms,
                revoked_after_ms: None,
            });
    }

    /// Notes bad signatures.
    pub(crate) fn signatures(&mut self, checked: u64, bad: &[u64]) {
        self.signatures += checked;
        for at in bad {
            self.p1
                .fail(format!("entry {at}: the signature is not its producer's"));
        }
    }

    /// The checks, once attachments are known.
    pub(crate) fn finish(mut self, container: &Container) -> Vec<Check> {
        let mut missing = 0_u64;
        for (sha256, size) in &self.blobs {
            match container.blobs.get(sha256) {
                Some(found) => self.p5.expect(found == size, || {
                    format!("attachment {} has another size", hex::encode(sha256))
                }),
                None => missing += 1,
            }
        }
        for file in &container.misnamed {
            self.p5.fail(format!("{file} is not what its name says"));
        }
        if missing > 0 {
            self.p5.skip(format!(
                "{missing} of {} attachments are not in the bundle",
                self.blobs.len()
            ));
        }
        let surplus = container
            .blobs
            .keys()
            .filter(|sha256| !self.blobs.contains_key(*sha256))
            .count();
        self.p5.note(match surplus {
            0 => format!("{} attachments", self.blobs.len()),
            _ => format!(
                "{} attachments; {surplus} more that no record names",
                self.blobs.len()
            ),
        });
        self.p1.note(format!("{} signatures", self.signatures));
        self.p2.note(format!("{} streams", self.streams.len()));
        self.p3.note(format!("{} records", self.record_ids.len()));
        self.p4.note(format!("{} keys", self.keys.len()));
        [self.p1, self.p2, self.p3, self.p4, self.p5]
            .map(Finder::finish)
            .to_vec()
    }
}
