//! Services that sign records beforehand: what is measured is what happens to them.

use counterfoil_evidence::record::{record_hash, signed_message};
use counterfoil_evidence::v1::{
    ActionIntended, OwnershipSet, Record, ReviewDecided, TenantLifecycleChanged,
};
use counterfoil_proto::ledger::{
    AppendRequest, AppendStreamRequest, RegisterProducerRequest, SignedRecord,
};
use counterfoil_tlog::NoteSigner;
use counterfoil_tlog::signature::RecordSigner;
use prost::{Message as _, Name as _};

/// Size of a record, roughly: what is missing is filled up.
const RECORD_BYTES: usize = 600;

/// A service's stream in the log of one tenant.
pub(crate) struct Producer {
    pub(crate) service: &'static str,
    tenant: String,
    note: NoteSigner,
    signer: RecordSigner,
    seq: u64,
    prev: [u8; 32],
}

impl Producer {
    pub(crate) fn new(service: &'static str, tenant: &str) -> Self {
        let mut seed = [7; 32];
        for (to, from) in seed.iter_mut().zip(service.bytes()) {
            *to = from;
        }
        let name = format!("counterfoil.local/services/{service}");
        #[expect(clippy::expect_used, reason = "the names are known")]
        let note = NoteSigner::from_seed(&name, &seed).expect("a key name");
        Self {
            service,
            tenant: tenant.to_owned(),
            note,
            signer: RecordSigner::from_seed(&seed),
            seq: 0,
            prev: [0; 32],
        }
    }

    /// How many records it has made.
    pub(crate) const fn sent(&self) -> u64 {
        self.seq
    }

    /// How far it is.
    pub(crate) const fn place(&self) -> (u64, [u8; 32]) {
        (self.seq, self.prev)
    }

    /// Goes on where it was.
    pub(crate) const fn go_on(&mut self, (seq, prev): (u64, [u8; 32])) {
        self.seq = seq;
        self.prev = prev;
    }

    pub(crate) fn public_key(&self) -> [u8; 32] {
        *self.note.verifier_key().public_key()
    }

    pub(crate) fn registration(&self) -> RegisterProducerRequest {
        let principal = format!("services/{}", self.service);
        let vkey = self.note.vkey();
        let statement = format!("counterfoil-producer/v1\n{principal}\n{vkey}");
        RegisterProducerRequest {
            proof_of_possession: self.signer.sign(statement.as_bytes()).to_vec(),
            stream: self.service.to_owned(),
            principal,
            vkey,
        }
    }

    /// The next calls with one record each.
    pub(crate) fn calls(&mut self, count: usize) -> Vec<AppendRequest> {
        (0..count)
            .map(|_| AppendRequest {
                tenant: format!("tenants/{}", self.tenant),
                record: Some(self.next()),
            })
            .collect()
    }

    /// The next messages of a stream with so many records each.
    pub(crate) fn batches(&mut self, count: usize, records: usize) -> Vec<AppendStreamRequest> {
        (0..count)
            .map(|_| AppendStreamRequest {
                tenant: format!("tenants/{}", self.tenant),
                records: (0..records).map(|_| self.next()).collect(),
            })
            .collect()
    }

    fn next(&mut self) -> SignedRecord {
        self.seq += 1;
        let (kind, payload) = match self.service {
            "inventory" => (
                OwnershipSet::full_name(),
                OwnershipSet::default().encode_to_vec(),
            ),
            "recertification" => (
                ReviewDecided::full_name(),
                ReviewDecided::default().encode_to_vec(),
            ),
            "reconciliation" => (
                ActionIntended::full_name(),
                ActionIntended::default().encode_to_vec(),
            ),
            _ => (
                TenantLifecycleChanged::full_name(),
                TenantLifecycleChanged::default().encode_to_vec(),
            ),
        };
        let mut record_id = [0; 16];
        for (to, from) in record_id.iter_mut().zip(self.service.bytes()) {
            *to = from;
        }
        for (to, from) in record_id.iter_mut().skip(8).zip(self.seq.to_be_bytes()) {
            *to = from;
        }
        let mut record = Record {
            version: 1,
            log_origin: format!("counterfoil.local/t/{}", self.tenant),
            record_id: record_id.to_vec(),
            r#type: kind,
            schema_hash: counterfoil_evidence::schema_hash().to_vec(),
            stream: self.service.to_owned(),
            stream_seq: self.seq,
            prev_record_hash: self.prev.to_vec(),
            occurred_at_ms: 1_800_000_000_000,
            actor: format!("services/{}", self.service),
            retention_class: "governance".to_owned(),
            payload,
            ..Record::default()
        };
        // As a decision names them: what is reviewed, the item, the account; the last one is filled up.
        let named = [
            "campaigns/q3".to_owned(),
            format!("items/{}", self.seq),
            format!("accounts/{}", self.seq % 1000),
        ];
        record.subject = named.to_vec();
        let missing = RECORD_BYTES.saturating_sub(record.encoded_len());
        if let Some(last) = record.subject.last_mut() {
            last.push_str(&"-".repeat(missing));
        }
        let record = record.encode_to_vec();
        self.prev = record_hash(&record);
        let key = self.note.verifier_key();
        SignedRecord {
            signature: self.signer.sign(&signed_message(&record)).to_vec(),
            key_id: format!("{}+{:08x}", key.name(), key.key_id()),
            record,
        }
    }
}
