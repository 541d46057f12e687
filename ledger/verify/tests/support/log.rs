//! A log with real keys, made the way the services make it, in memory.

use std::collections::BTreeMap;
use std::path::Path;

use counterfoil_evidence::catalogue::{Payload, stream};
use counterfoil_evidence::record::{record_hash, signed_message};
use counterfoil_evidence::{DESCRIPTOR_SET, schema_hash, v1};
use counterfoil_tlog::commitment::commit;
use counterfoil_tlog::hash::{Hash, leaf_hash, sha256};
use counterfoil_tlog::merkle::MerkleTree;
use counterfoil_tlog::note::NoteSigner;
use counterfoil_tlog::signature::RecordSigner;
use counterfoil_tlog::tile::{encode_entries, entry_bundles_for, tiles_for};
use counterfoil_tlog::{Checkpoint, VerifierKey};
use counterfoil_verify::bundle::{BundleInfo, BundleWriter, Opening};
use counterfoil_verify::testing::StolenKeys;
use prost::Message as _;

pub const ORIGIN: &str = "ledger.example/t/acme";
pub const STREAMS: [&str; 5] = [
    stream::LEDGER,
    stream::AUTHORITY,
    stream::INVENTORY,
    stream::RECERTIFICATION,
    stream::RECONCILIATION,
];

pub struct Producer {
    pub key_id: String,
    pub key: VerifierKey,
    pub signer: RecordSigner,
    seq: u64,
    prev: [u8; 32],
}

/// What a service hands over to be recorded.
#[derive(Default)]
pub struct Draft<'d> {
    pub actor: &'d str,
    pub owner: &'d str,
    pub authority: Vec<u8>,
    pub commitments: Vec<(&'d str, Vec<u8>)>,
    pub blobs: Vec<(&'d str, Vec<u8>)>,
    pub record_id: Option<Vec<u8>>,
}

pub struct LogBuilder {
    pub origin: String,
    pub tenant: String,
    pub log: NoteSigner,
    pub producers: BTreeMap<&'static str, Producer>,
    pub policy: Vec<u8>,
    /// The present, milliseconds.
    pub now_ms: i64,
    pub entries: Vec<Vec<u8>>,
    pub metas: Vec<(String, &'static str, u64, [u8; 32])>,
    tree: MerkleTree,
    prev_leaf: Hash,
    openings: Vec<(&'static str, Opening)>,
    blobs: BTreeMap<[u8; 32], Vec<u8>>,
}

pub fn seed(name: &str) -> [u8; 32] {
    sha256(name.as_bytes()).0
}

impl LogBuilder {
    pub fn new() -> Self {
        Self::of(ORIGIN, "tenants/acme")
    }

    /// The log of another tenant of the same deployment.
    pub fn of(origin: &str, tenant: &str) -> Self {
        let producers = STREAMS
            .iter()
            .map(|name| {
                let key_name = format!("{name}.acme.example");
                let note = NoteSigner::from_seed(&key_name, &seed(name)).unwrap();
                let key = note.verifier_key().clone();
                let producer = Producer {
                    key_id: format!("{}+{:08x}", key.name(), key.key_id()),
                    signer: RecordSigner::from_seed(&seed(name)),
                    key,
                    seq: 0,
                    prev: [0; 32],
                };
                (*name, producer)
            })
            .collect();
        Self {
            log: NoteSigner::from_seed(origin, &seed("log")).unwrap(),
            origin: origin.to_owned(),
            tenant: tenant.to_owned(),
            producers,
            policy: Vec::new(),
            now_ms: 1_790_000_000_000,
            entries: Vec::new(),
            metas: Vec::new(),
            tree: MerkleTree::new(),
            prev_leaf: Hash([0; 32]),
            openings: Vec::new(),
            blobs: BTreeMap::new(),
        }
    }

    pub fn tick(&mut self, ms: i64) -> i64 {
        self.now_ms += ms;
        self.now_ms
    }

    pub fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Root over what there is.
    pub fn root(&self) -> [u8; 32] {
        self.tree.root().0
    }

    pub fn append(&mut self, payload: &Payload, draft: Draft<'_>) -> [u8; 32] {
        let stream = counterfoil_evidence::catalogue::record_type(payload.type_name())
            .unwrap()
            .stream;
        self.append_on(stream, payload, draft)
    }

    /// The same, for what any stream may carry.
    pub fn append_on(
        &mut self,
        stream: &'static str,
        payload: &Payload,
        draft: Draft<'_>,
    ) -> [u8; 32] {
        let occurred_at_ms = self.tick(5);
        let record_id = draft
            .record_id
            .clone()
            .unwrap_or_else(|| seed(&format!("record {}", self.entries.len()))[..16].to_vec());
        let mut commitments = Vec::new();
        for (label, value) in draft.commitments {
            let salt = seed(&format!("salt {} {label}", self.entries.len()));
            commitments.push(v1::Commitment {
                label: label.to_owned(),
                alg: 1,
                digest: commit(label, &salt, &value).0.to_vec(),
            });
            let opening = Opening {
                record_id: record_id.clone(),
                label: label.to_owned(),
                salt,
                value,
            };
            self.openings.push((stream, opening));
        }
        let blob = draft
            .blobs
            .into_iter()
            .map(|(media_type, bytes)| self.blob(media_type, bytes))
            .collect();
        let producer = self.producers.get_mut(stream).unwrap();
        producer.seq += 1;
        let record = v1::Record {
            version: 1,
            log_origin: self.origin.clone(),
            record_id,
            r#type: payload.type_name().to_owned(),
            schema_hash: schema_hash().to_vec(),
            stream: stream.to_owned(),
            stream_seq: producer.seq,
            prev_record_hash: producer.prev.to_vec(),
            occurred_at_ms,
            actor: if draft.actor.is_empty() {
                format!("services/{stream}")
            } else {
                draft.actor.to_owned()
            },
            retention_class: "governance".to_owned(),
            payload: payload.encode(),
            commitment: commitments,
            blob,
            accountability: Some(v1::Accountability {
                accountable_owner: draft.owner.to_owned(),
                authority: draft.authority,
                policy: self.policy.clone(),
                ..v1::Accountability::default()
            }),
            ..v1::Record::default()
        }
        .encode_to_vec();
        let hash = record_hash(&record);
        producer.prev = hash;
        let seq = producer.seq;
        let entry = v1::Entry {
            version: 1,
            log_origin: self.origin.clone(),
            index: self.entries.len() as u64,
            recorded_at_ms: self.now_ms + 2,
            prev_leaf_hash: self.prev_leaf.0.to_vec(),
            record_key_id: producer.key_id.clone(),
            record_signature: producer.signer.sign(&signed_message(&record)).to_vec(),
            record,
        }
        .encode_to_vec();
        self.prev_leaf = leaf_hash(&entry);
        self.tree.push(self.prev_leaf);
        self.entries.push(entry);
        self.metas
            .push((payload.type_name().to_owned(), stream, seq, hash));
        hash
    }

    fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> v1::BlobRef {
        let sha256 = sha256(&bytes).0;
        let reference = v1::BlobRef {
            sha256: sha256.to_vec(),
            size: bytes.len() as u64,
            media_type: media_type.to_owned(),
        };
        self.blobs.insert(sha256, bytes);
        reference
    }

    pub fn checkpoint(&self, size: u64) -> String {
        let checkpoint = Checkpoint {
            origin: self.origin.clone(),
            size,
            root: self.tree.root_at(size).unwrap(),
        };
        checkpoint.sign(&self.log).unwrap()
    }

    pub fn write(&self, target: &Path) {
        let size = self.size();
        let info = BundleInfo::full(
            &self.origin,
            &self.tenant,
            size,
            "2026-11-21T00:00:00Z",
            "test",
        );
        let mut bundle = BundleWriter::create(target, info).unwrap();
        for tile in entry_bundles_for(0, size) {
            let start = usize::try_from(tile.start()).unwrap();
            let entries = &self.entries[start..start + usize::from(tile.width())];
            bundle
                .add_log_file(&tile.to_string(), &encode_entries(entries).unwrap())
                .unwrap();
        }
        for tile in tiles_for(0, size) {
            bundle
                .add_log_file(&tile.to_string(), &tile.read(&self.tree).unwrap())
                .unwrap();
        }
        bundle
            .add_log_file("checkpoint", self.checkpoint(size).as_bytes())
            .unwrap();
        bundle.add_trust_hint(self.trust(&[]).as_bytes()).unwrap();
        bundle.add_schema(&schema_hash(), DESCRIPTOR_SET).unwrap();
        for (stream, opening) in &self.openings {
            bundle.add_opening(stream, opening).unwrap();
        }
        for (sha256, bytes) in &self.blobs {
            bundle.add_blob(*sha256, &mut bytes.as_slice()).unwrap();
        }
        bundle.finish().unwrap();
    }

    /// A trust file with checkpoints kept at these sizes.
    pub fn trust(&self, kept: &[u64]) -> String {
        serde_json::json!({
            "format": "counterfoil-trust/v1",
            "logs": [{
                "origin": self.origin,
                "vkey": self.log.vkey(),
                "registrar": self.producers[stream::LEDGER].key.to_string(),
                "checkpoints": kept.iter().map(|size| self.checkpoint(*size)).collect::<Vec<_>>(),
            }],
        })
        .to_string()
    }

    /// Everything a thief could hold.
    pub fn stolen(&self) -> StolenKeys {
        let mut keys = StolenKeys::new(NoteSigner::from_seed(&self.origin, &seed("log")).unwrap());
        for (stream, producer) in &self.producers {
            keys = keys.with_producer(
                stream,
                &producer.key_id,
                RecordSigner::from_seed(&seed(stream)),
            );
        }
        keys
    }
}
