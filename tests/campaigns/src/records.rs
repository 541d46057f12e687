//! What is written: records that follow from the log, the stream and the number alone, so that whoever checks knows every one of them.

use counterfoil_engine::{SignedRecord, key_id_of};
use counterfoil_evidence::record::{record_hash, signed_message};
use counterfoil_evidence::v1::{ActorKeyRegistered, OwnershipSet, Record, TenantLifecycleChanged};
use counterfoil_tlog::hash::sha256;
use counterfoil_tlog::signature::RecordSigner;
use counterfoil_tlog::{NoteSigner, VerifierKey};
use prost::{Message, Name};

/// The streams of each log. The first one registers the keys of all, and has a record a stream.
pub(crate) const STREAMS: [&str; 3] = ["ledger", "inventory", "authority"];

/// Tenant of a log.
pub(crate) fn tenant(log: usize) -> String {
    format!("tenant-{log}")
}

/// Origin of a log.
pub(crate) fn origin(log: usize) -> String {
    format!("ledger.example/t/tenant-{log}")
}

/// Where a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) seq: u64,
    /// SHA-256 of the record with this number.
    pub(crate) hash: [u8; 32],
}

impl Position {
    pub(crate) const START: Self = Self {
        seq: 0,
        hash: [0; 32],
    };
}

/// The producer of a stream. It has the same key for all logs.
pub(crate) struct Producer {
    stream: usize,
    signer: RecordSigner,
    key: VerifierKey,
}

impl Producer {
    /// The producer of the stream with this number.
    pub(crate) fn of(stream: usize) -> anyhow::Result<Self> {
        let name = format!("{}.example", STREAMS[stream]);
        let seed = sha256(name.as_bytes()).0;
        Ok(Self {
            stream,
            signer: RecordSigner::from_seed(&seed),
            key: NoteSigner::from_seed(&name, &seed)?.verifier_key().clone(),
        })
    }

    pub(crate) fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// The record that follows a position in a log, and the position after it.
    pub(crate) fn next(
        &self,
        log: usize,
        after: Position,
    ) -> anyhow::Result<(SignedRecord, Position)> {
        let record = encode(log, self.stream, after)?;
        let next = Position {
            seq: after.seq + 1,
            hash: record_hash(&record),
        };
        let signed = SignedRecord {
            signature: self.signer.sign(&signed_message(&record)).to_vec(),
            key_id: key_id_of(&self.key),
            record,
        };
        Ok((signed, next))
    }
}

/// The bytes of the record that follows a position.
pub(crate) fn encode(log: usize, stream: usize, after: Position) -> anyhow::Result<Vec<u8>> {
    let number = after.seq + 1;
    let (record_type, payload) = match stream {
        0 => {
            let registered = Producer::of(usize::try_from(after.seq)?)?;
            named(&ActorKeyRegistered {
                principal: format!("services/{}", STREAMS[registered.stream]),
                key_id: key_id_of(&registered.key),
                vkey: registered.key.to_string(),
                streams: vec![STREAMS[registered.stream].to_owned()],
                valid_from_ms: 1_700_000_000_000,
            })
        }
        1 => named(&OwnershipSet {
            object: format!("accounts/{number:0>200}"),
            role: 1,
            owner: "principals/alice".to_owned(),
        }),
        _ => named(&TenantLifecycleChanged {
            from: 1,
            to: 2,
            ..TenantLifecycleChanged::default()
        }),
    };
    let id = sha256(format!("{log} {stream} {number}").as_bytes());
    let record = Record {
        version: 1,
        log_origin: origin(log),
        record_id: id.0[..16].to_vec(),
        r#type: record_type,
        schema_hash: counterfoil_evidence::schema_hash().to_vec(),
        stream: STREAMS[stream].to_owned(),
        stream_seq: number,
        prev_record_hash: after.hash.to_vec(),
        occurred_at_ms: 1_700_000_000_000,
        actor: format!("services/{}", STREAMS[stream]),
        subject: vec![format!("accounts/{}", number % 50)],
        retention_class: "governance".to_owned(),
        payload,
        ..Record::default()
    };
    Ok(record.encode_to_vec())
}

fn named<M: Message + Name>(payload: &M) -> (String, Vec<u8>) {
    (M::full_name(), payload.encode_to_vec())
}

/// All positions of a stream that anybody asked for, in order.
#[derive(Debug)]
pub(crate) struct Chain {
    log: usize,
    stream: usize,
    positions: Vec<Position>,
}

impl Chain {
    pub(crate) fn new(log: usize, stream: usize) -> Self {
        Self {
            log,
            stream,
            positions: vec![Position::START],
        }
    }

    /// The position of the record with this number; the one before the first for 0.
    pub(crate) fn at(&mut self, seq: u64) -> anyhow::Result<Position> {
        let wanted = usize::try_from(seq)?;
        while self.positions.len() <= wanted {
            let last = self.positions[self.positions.len() - 1];
            let record = encode(self.log, self.stream, last)?;
            self.positions.push(Position {
                seq: last.seq + 1,
                hash: record_hash(&record),
            });
        }
        Ok(self.positions[wanted])
    }
}
