//! The log as an auditor gets it: every entry in order, every attachment, judged by the verifier's own replay.

use std::collections::HashMap;

use counterfoil_evidence::{
    record::{decode_entry, decode_record},
    replay::{Blobs, Judgement, Replay, Verdict, prepare},
    v1::Record,
};
use counterfoil_proto::{
    common::{StreamDisclosuresRequest, stream_disclosures_response::Disclosure},
    ledger::StreamEntriesRequest,
};
use prost::{Message, Name};
use sha2::{Digest, Sha256};

use super::world::{TENANT, World};

struct Attachments(HashMap<[u8; 32], Vec<u8>>);

impl Blobs for Attachments {
    fn load(&self, sha256: &[u8; 32]) -> Option<Vec<u8>> {
        self.0.get(sha256).cloned()
    }
}

impl World {
    /// All records of the log, in its order, with when they were integrated.
    async fn log(&self) -> Vec<(i64, Vec<u8>)> {
        self.logged().await;
        let request = StreamEntriesRequest {
            tenant: TENANT.into(),
            from_index: 0,
            follow: false,
        };
        let mut entries = self
            .olga
            .ledger
            .clone()
            .stream_entries(request)
            .await
            .unwrap()
            .into_inner();
        let mut records = Vec::new();
        while let Some(found) = entries.message().await.unwrap() {
            let entry = decode_entry(&found.entry.unwrap().entry).unwrap();
            records.push((entry.recorded_at_ms, entry.record));
        }
        records
    }

    async fn attachments(&self) -> Attachments {
        let mut found = HashMap::new();
        for service in ["inventory", "recertification", "reconciliation"] {
            let request = StreamDisclosuresRequest {
                tenant: TENANT.into(),
            };
            let mut parts = self
                .olga
                .disclosures(service)
                .stream_disclosures(request)
                .await
                .unwrap()
                .into_inner();
            let mut bytes = Vec::new();
            while let Some(part) = parts.message().await.unwrap() {
                if let Some(Disclosure::Blob(part)) = part.disclosure {
                    bytes.extend_from_slice(&part.content);
                    if part.last {
                        let whole = std::mem::take(&mut bytes);
                        found.insert(Sha256::digest(&whole).into(), whole);
                    }
                }
            }
        }
        Attachments(found)
    }

    /// Records of one type, in the order of the log.
    pub(super) async fn of_type<M: Message + Name + Default>(&self) -> Vec<M> {
        let records = self
            .log()
            .await
            .into_iter()
            .map(|(_, bytes)| decode_record(&bytes).unwrap());
        let wanted = records.filter(|record: &Record| record.r#type == M::full_name());
        wanted
            .map(|record| M::decode(record.payload.as_slice()).unwrap())
            .collect()
    }

    /// What the verifier's replay says of the whole log.
    pub(super) async fn judgements(&self) -> Vec<Judgement> {
        let mut replay = Replay::new();
        for (recorded_ms, bytes) in self.log().await {
            let record = decode_record(&bytes).unwrap();
            replay.push(recorded_ms, prepare(&bytes, record));
        }
        replay.finish(&self.attachments().await).judgements
    }

    /// Every invariant holds on the whole log, and none was skipped.
    pub(super) async fn audited(&self) {
        for judgement in self.judgements().await {
            assert_eq!(
                judgement.verdict,
                Verdict::Pass,
                "{}: {}",
                judgement.check.id,
                judgement.detail
            );
        }
    }
}
