//! What the service itself states in every log: the keys of the producers (R08), the schemas (R86), the epochs (R78) and the
//! rounds of hashing the log again (R93); and in the anchor log which logs are anchored (R92) and their heads (R91).
//!
//! Invariant: a statement's record id follows from the log and from what is stated, so that replicas that state the same thing at
//! the same time state it once.

use counterfoil_engine::{SignedRecord, StreamHead};
use counterfoil_evidence::leaf::domain_hash;
use counterfoil_evidence::record::signed_message;
use counterfoil_evidence::v1::{
    ActorKeyRegistered, BlobRef, EpochSealed, HeadsAnchored, LogScrubbed, Record, SchemaRegistered,
    TenantBound,
};
use counterfoil_tlog::hash::sha256;
use counterfoil_tlog::signature::RecordSigner;
use prost::{Message, Name};

use crate::SERVICE;
use crate::model::producer::Producer;

/// Media type of a descriptor set.
pub(crate) const SCHEMA_MEDIA_TYPE: &str = "application/x-protobuf";

/// Something that the service states once in a log.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    /// What is stated, such as "key:{key id}"; unique within a log.
    pub(crate) name: String,
    type_name: String,
    payload: Vec<u8>,
    subjects: Vec<String>,
    blobs: Vec<BlobRef>,
}

impl Statement {
    fn new<P: Message + Name>(name: String, payload: &P) -> Self {
        Self {
            name,
            type_name: P::full_name(),
            payload: payload.encode_to_vec(),
            subjects: Vec::new(),
            blobs: Vec::new(),
        }
    }

    /// R08: a producer's key may write its stream.
    pub(crate) fn key(producer: &Producer, now_ms: i64) -> Self {
        let payload = ActorKeyRegistered {
            principal: producer.principal.clone(),
            key_id: producer.key_id.clone(),
            vkey: producer.vkey.clone(),
            streams: vec![producer.stream.clone()],
            valid_from_ms: now_ms,
        };
        let mut statement = Self::new(Self::key_name(producer), &payload);
        statement.subjects = vec![
            producer.principal.clone(),
            format!("keys/{}", producer.key_id),
        ];
        statement
    }

    /// Name of [`Self::key`].
    pub(crate) fn key_name(producer: &Producer) -> String {
        format!("key:{}", producer.key_id)
    }

    /// R86: the schema that this program's records follow.
    pub(crate) fn schema(schema_hash: &[u8; 32], size_bytes: u64) -> Self {
        let payload = SchemaRegistered {
            schema_hash: schema_hash.to_vec(),
            size_bytes,
        };
        let mut statement = Self::new(format!("schema:{}", hex::encode(schema_hash)), &payload);
        statement.blobs = vec![BlobRef {
            sha256: schema_hash.to_vec(),
            size: size_bytes,
            media_type: SCHEMA_MEDIA_TYPE.to_owned(),
        }];
        statement
    }

    /// R78: an epoch is sealed.
    pub(crate) fn epoch(payload: &EpochSealed) -> Self {
        let mut statement = Self::new(format!("epoch:{}", payload.epoch), payload);
        statement.subjects = vec![format!("epochs/{}", payload.epoch)];
        statement
    }

    /// R93: everything was hashed again.
    pub(crate) fn scrub(payload: &LogScrubbed) -> Self {
        Self::new(format!("scrub:{}", payload.round), payload)
    }

    /// R91: the heads of all logs are anchored.
    pub(crate) fn heads_anchored(epoch: u64, payload: &HeadsAnchored) -> Self {
        let mut statement = Self::new(format!("anchored:{epoch}"), payload);
        statement.subjects = vec![format!("anchor-epochs/{epoch}")];
        statement
    }

    /// R92: the log with this verifier key is one of those that are anchored.
    pub(crate) fn tenant_bound(vkey: &str) -> Self {
        let vkey_hash = sha256(vkey.as_bytes());
        let payload = TenantBound {
            vkey_hash: vkey_hash.as_bytes().to_vec(),
        };
        Self::new(format!("bound:{vkey_hash}"), &payload)
    }

    /// Its record id in a log: a UUIDv8 made of the log's origin and the statement's name.
    pub(crate) fn record_id(&self, origin: &str) -> [u8; 16] {
        let digest = domain_hash(
            b"counterfoil-statement/v1",
            &[origin.as_bytes(), self.name.as_bytes()],
        );
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        uuid::Builder::from_custom_bytes(id)
            .into_uuid()
            .into_bytes()
    }
}

/// Signs the service's records.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) key_id: String,
    pub(crate) signer: RecordSigner,
    pub(crate) schema_hash: [u8; 32],
}

impl Writer {
    /// The record that states something after `last` in the log of `origin`.
    pub(crate) fn write(
        &self,
        origin: &str,
        last: &StreamHead,
        statement: &Statement,
        now_ms: i64,
    ) -> SignedRecord {
        let record = Record {
            version: 1,
            log_origin: origin.to_owned(),
            record_id: statement.record_id(origin).to_vec(),
            r#type: statement.type_name.clone(),
            schema_hash: self.schema_hash.to_vec(),
            stream: SERVICE.to_owned(),
            stream_seq: last.last_seq + 1,
            prev_record_hash: last.last_record_hash.to_vec(),
            occurred_at_ms: now_ms,
            actor: format!("services/{SERVICE}"),
            subject: statement.subjects.clone(),
            retention_class: "governance".to_owned(),
            payload: statement.payload.clone(),
            commitment: Vec::new(),
            blob: statement.blobs.clone(),
            accountability: None,
        };
        let record = record.encode_to_vec();
        SignedRecord {
            signature: self.signer.sign(&signed_message(&record)).to_vec(),
            key_id: self.key_id.clone(),
            record,
        }
    }
}
