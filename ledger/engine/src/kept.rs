//! What producers keep of the records that they sent: enough to append them again where they were.

use std::collections::{BTreeMap, btree_map};
use std::fmt::Debug;

use async_trait::async_trait;
use counterfoil_evidence::record::decode_record;
use counterfoil_tlog::Hash;

use crate::{EngineError, SignedRecord};

/// Where a record went, as its receipt said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptReceipt {
    /// Position in the log.
    pub index: u64,
    /// RFC 6962 leaf hash of the entry.
    pub leaf_hash: Hash,
    /// The log's time at the receipt's checkpoint, milliseconds. The entry is no younger, and as a rule of that very time: only the
    /// receipt of a record that was sent again may be later.
    pub checkpoint_ms: i64,
}

/// A record that a producer has kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptRecord {
    /// The record as it was sent.
    pub signed: SignedRecord,
    /// `None`: it was not sent, or the answer was lost.
    pub receipt: Option<KeptReceipt>,
}

/// What one producer has kept of one stream of one log, such as its outbox.
#[async_trait]
pub trait KeptRecords: Debug + Send + Sync {
    /// The stream.
    fn stream(&self) -> &str;

    /// The records from the one with the number `seq + 1` on, at most `limit` of them, in the order of the stream.
    ///
    /// # Errors
    /// When they cannot be read.
    async fn after(&self, seq: u64, limit: u32) -> Result<Vec<KeptRecord>, EngineError>;

    /// The newest receipts as C2SP tlog-proofs: the checkpoint of one of them is the newest that the producer was given.
    ///
    /// # Errors
    /// When they cannot be read.
    async fn newest_proofs(&self) -> Result<Vec<Vec<u8>>, EngineError>;
}

/// Records of one stream in memory, as they are read from a file.
#[derive(Debug, Clone, Default)]
pub struct RecordList {
    stream: String,
    records: BTreeMap<u64, KeptRecord>,
    proofs: Vec<Vec<u8>>,
}

impl RecordList {
    /// Sorts records of any order by stream and number. Of several records with one number, the one that has a receipt counts, else
    /// the last: the others were never appended.
    ///
    /// # Errors
    /// The record that is none.
    pub fn sort(
        records: impl IntoIterator<Item = (KeptRecord, Option<Vec<u8>>)>,
    ) -> Result<Vec<Self>, String> {
        let mut lists: BTreeMap<String, Self> = BTreeMap::new();
        for (kept, proof) in records {
            let record = decode_record(&kept.signed.record).map_err(|error| error.to_string())?;
            let list = lists.entry(record.stream.clone()).or_insert_with(|| Self {
                stream: record.stream.clone(),
                ..Self::default()
            });
            list.proofs.extend(proof);
            match list.records.entry(record.stream_seq) {
                btree_map::Entry::Vacant(vacant) => {
                    vacant.insert(kept);
                }
                btree_map::Entry::Occupied(mut there) => {
                    if there.get().receipt.is_none() || kept.receipt.is_some() {
                        there.insert(kept);
                    }
                }
            }
        }
        Ok(lists.into_values().collect())
    }
}

#[async_trait]
impl KeptRecords for RecordList {
    fn stream(&self) -> &str {
        &self.stream
    }

    async fn after(&self, seq: u64, limit: u32) -> Result<Vec<KeptRecord>, EngineError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let found = self.records.range(seq.saturating_add(1)..).take(limit);
        Ok(found.map(|(_, kept)| kept.clone()).collect())
    }

    async fn newest_proofs(&self) -> Result<Vec<Vec<u8>>, EngineError> {
        Ok(self.proofs.clone())
    }
}
