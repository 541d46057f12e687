//! Writing records into a transaction.

use std::{collections::BTreeSet, sync::Arc};

use counterfoil_evidence::{
    catalogue,
    record::{RECORD_BYTES_MAX, record_hash, signed_message},
    v1::{BlobRef, Commitment, Record},
};
use counterfoil_proto::common::{EvidenceState, Receipt};
use counterfoil_tlog::commitment::commit;
use prost::Message;
use sha2::{Digest, Sha256};
use sqlx::Row;

use super::{Attachment, Inner, OutboxError, RecordDraft};
use crate::{
    db::{BulkValue, WriteTx, bulk_insert},
    secrets,
};

/// Largest part of an attachment, in the database and on the wire.
pub(crate) const BLOB_PART_BYTES: usize = 1 << 20;
/// From so many records on, signing is worth a thread.
const PARALLEL_FROM: usize = 128;

/// A record that will be durable with the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmittedRecord {
    /// Its id.
    pub record_id: [u8; 16],
    /// SHA-256 of its bytes: how other records cite it.
    pub record_hash: [u8; 32],
    /// Its number in the stream.
    pub stream_seq: u64,
    /// What it commits to: label and digest, in the order of the draft.
    pub commitments: Vec<Commitment>,
}

impl EmittedRecord {
    /// Digest of the commitment with this label: how other records cite what was shown.
    #[must_use]
    pub fn commitment(&self, label: &str) -> Option<[u8; 32]> {
        let found = self.commitments.iter().find(|one| one.label == label)?;
        found.digest.as_slice().try_into().ok()
    }

    /// The receipt to answer before the record has reached the ledger.
    #[must_use]
    pub fn pending_receipt(&self) -> Receipt {
        Receipt {
            record_id: self.record_id.to_vec(),
            record_hash: self.record_hash.to_vec(),
            state: EvidenceState::Pending.into(),
            ..Receipt::default()
        }
    }
}

/// Records of one transaction, in the making. Each may cite the hash of those before it.
pub struct Emission {
    outbox: Arc<Inner>,
    tenant: String,
    origin: String,
    first_seq: u64,
    last_hash: [u8; 32],
    records: Vec<Built>,
    openings: Vec<[BulkValue; 6]>,
    attachments: Vec<([u8; 32], Attachment)>,
    random: RandomPool,
}

struct Built {
    record_id: [u8; 16],
    bytes: Vec<u8>,
    hash: [u8; 32],
}

impl Emission {
    pub(super) async fn open(outbox: &Arc<Inner>, tx: &mut WriteTx) -> Result<Self, OutboxError> {
        if !tx.start_emission(&outbox.stream) {
            return Err(OutboxError::Open);
        }
        let origin = outbox.origin(tx).await?;
        let tenant = tx.tenant().to_owned();
        // The tenant's lock is held, so nobody else moves the stream before this transaction ends.
        let row = sqlx::query(
            "SELECT last_seq, last_hash FROM outbox_streams WHERE tenant = $1 AND stream = $2",
        )
        .bind(&tenant)
        .bind(&outbox.stream)
        .fetch_optional(tx.conn())
        .await?;
        let (last_seq, last_hash) = match row {
            None => (0, [0; 32]),
            Some(row) => {
                let hash: Vec<u8> = row.try_get("last_hash")?;
                let hash = hash
                    .try_into()
                    .map_err(|_| OutboxError::StreamMoved(outbox.stream.clone()))?;
                (row.try_get::<i64, _>("last_seq")?, hash)
            }
        };
        let last_seq =
            u64::try_from(last_seq).map_err(|_| OutboxError::StreamMoved(outbox.stream.clone()))?;
        Ok(Self {
            outbox: Arc::clone(outbox),
            tenant,
            origin,
            first_seq: last_seq + 1,
            last_hash,
            records: Vec::new(),
            openings: Vec::new(),
            attachments: Vec::new(),
            random: RandomPool::default(),
        })
    }

    /// Adds a record after those added before, and tells its hash.
    ///
    /// # Errors
    /// When the type is not of this stream, a label comes twice, or the record is too large.
    pub fn add(&mut self, draft: RecordDraft) -> Result<EmittedRecord, OutboxError> {
        self.check(&draft)?;
        let record_id = match draft.record_id {
            Some(id) => id,
            None => self.random.record_id(self.outbox.clock.now_ms())?,
        };
        let stream_seq = self.first_seq + self.records.len() as u64;
        let commitment = self.commitments(&draft, record_id, stream_seq)?;
        let commitments = commitment.clone();
        let mut blob = draft.blobs;
        for attachment in draft.attachments {
            let sha256: [u8; 32] = Sha256::digest(&attachment.content).into();
            blob.push(BlobRef {
                sha256: sha256.to_vec(),
                size: attachment.content.len() as u64,
                media_type: attachment.media_type.clone(),
            });
            self.attachments.push((sha256, attachment));
        }
        let record = Record {
            version: 1,
            log_origin: self.origin.clone(),
            record_id: record_id.to_vec(),
            r#type: draft.type_name,
            schema_hash: self.outbox.schema_hash.clone(),
            stream: self.outbox.stream.clone(),
            stream_seq,
            prev_record_hash: self.last_hash.to_vec(),
            occurred_at_ms: draft.occurred_at_ms,
            actor: draft.actor,
            subject: draft.subjects,
            retention_class: draft.retention_class,
            payload: draft.payload,
            commitment,
            blob,
            accountability: draft.accountability,
        };
        let bytes = record.encode_to_vec();
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(OutboxError::TooLarge(record.r#type, bytes.len()));
        }
        let hash = record_hash(&bytes);
        self.last_hash = hash;
        self.records.push(Built {
            record_id,
            bytes,
            hash,
        });
        Ok(EmittedRecord {
            record_id,
            record_hash: hash,
            stream_seq,
            commitments,
        })
    }

    fn check(&self, draft: &RecordDraft) -> Result<(), OutboxError> {
        let stream = &self.outbox.stream;
        let known = catalogue::record_type(&draft.type_name);
        if known.is_none_or(|known| !known.is_of(stream) || known.name != draft.short_name) {
            return Err(OutboxError::Type(draft.type_name.clone(), stream.clone()));
        }
        let mut labels = BTreeSet::new();
        match draft
            .commitments
            .iter()
            .find(|(label, _)| !labels.insert(label))
        {
            Some((label, _)) => Err(OutboxError::Label(draft.type_name.clone(), label.clone())),
            None => Ok(()),
        }
    }

    fn commitments(
        &mut self,
        draft: &RecordDraft,
        record_id: [u8; 16],
        stream_seq: u64,
    ) -> Result<Vec<Commitment>, OutboxError> {
        let mut commitments = Vec::with_capacity(draft.commitments.len());
        for (label, value) in &draft.commitments {
            let salt = self.random.take::<32>()?;
            commitments.push(Commitment {
                label: label.clone(),
                alg: 1,
                digest: commit(label, &salt, value).0.to_vec(),
            });
            self.openings.push([
                self.tenant.as_str().into(),
                sequence(stream_seq).into(),
                label.as_str().into(),
                record_id.into(),
                salt.into(),
                value.as_slice().into(),
            ]);
        }
        Ok(commitments)
    }

    /// Hash of the last record added, or of the stream's last one when none was added.
    #[must_use]
    pub fn last_hash(&self) -> [u8; 32] {
        self.last_hash
    }

    /// Writes the records into the transaction. After the commit the relay sends them at once.
    ///
    /// # Errors
    /// When the database refuses; the transaction must then be given up.
    pub async fn finish(self, tx: &mut WriteTx) -> Result<(), OutboxError> {
        let Self {
            outbox,
            tenant,
            origin,
            first_seq,
            last_hash,
            records,
            openings,
            attachments,
            ..
        } = self;
        if tx.tenant() != tenant {
            return Err(OutboxError::Tenant);
        }
        if records.is_empty() {
            tx.finish_emission(&outbox.stream);
            return Ok(());
        }
        let last_seq = first_seq - 1 + records.len() as u64;
        move_stream(&outbox, tx, first_seq - 1, last_seq, &last_hash).await?;
        let records = Arc::new(records);
        let signatures = sign(&outbox, Arc::clone(&records)).await?;
        let rows = records.iter().zip(signatures).zip(first_seq..).map(
            |((record, signature), seq)| -> [BulkValue; 8] {
                [
                    tenant.as_str().into(),
                    outbox.stream.as_str().into(),
                    sequence(seq).into(),
                    record.record_id.into(),
                    record.bytes.as_slice().into(),
                    record.hash.into(),
                    outbox.key.key_id().into(),
                    signature.as_slice().into(),
                ]
            },
        );
        let columns = [
            "tenant",
            "stream",
            "seq",
            "record_id",
            "record",
            "record_hash",
            "key_id",
            "signature",
        ];
        bulk_insert(tx, "outbox_records", columns, "", rows).await?;
        let columns = [
            "tenant",
            "stream_seq",
            "label",
            "record_id",
            "salt",
            "value",
        ];
        bulk_insert(tx, "disclosures", columns, "", openings).await?;
        keep_attachments(tx, &attachments).await?;
        tx.finish_emission(&outbox.stream);
        tx.on_commit(move || {
            outbox.remember_origin(&tenant, &origin);
            // The receiver is gone only when the service stops; the next start finds the records in the table.
            let _ = outbox.signal.send(tenant);
        });
        Ok(())
    }
}

impl std::fmt::Debug for Emission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Emission({}, {} records)",
            self.tenant,
            self.records.len()
        )
    }
}

/// Moves the stream's row from one sequence number to another: a compare-and-swap, should the lock ever fail to protect it.
async fn move_stream(
    outbox: &Inner,
    tx: &mut WriteTx,
    from: u64,
    to: u64,
    last_hash: &[u8; 32],
) -> Result<(), OutboxError> {
    let sql = if from == 0 {
        "INSERT INTO outbox_streams (last_seq, last_hash, tenant, stream) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (tenant, stream) DO NOTHING"
    } else {
        "UPDATE outbox_streams SET last_seq = $1, last_hash = $2 \
         WHERE tenant = $3 AND stream = $4 AND last_seq = $5"
    };
    let tenant = tx.tenant().to_owned();
    let mut query = sqlx::query(sql)
        .bind(sequence(to))
        .bind(last_hash.to_vec())
        .bind(tenant)
        .bind(&outbox.stream);
    if from > 0 {
        query = query.bind(sequence(from));
    }
    match query.execute(tx.conn()).await?.rows_affected() {
        1 => Ok(()),
        _ => Err(OutboxError::StreamMoved(outbox.stream.clone())),
    }
}

async fn keep_attachments(
    tx: &mut WriteTx,
    attachments: &[([u8; 32], Attachment)],
) -> Result<(), sqlx::Error> {
    for (sha256, attachment) in attachments {
        let tenant = tx.tenant().to_owned();
        let parts = attachment.content.chunks(BLOB_PART_BYTES).zip(0_i64..);
        let rows = parts.map(|(part, number)| {
            [
                tenant.as_str().into(),
                (*sha256).into(),
                number.into(),
                part.into(),
            ]
        });
        let columns = ["tenant", "sha256", "chunk_no", "content"];
        bulk_insert(tx, "blobs", columns, "ON CONFLICT DO NOTHING", rows).await?;
    }
    Ok(())
}

async fn sign(outbox: &Arc<Inner>, records: Arc<Vec<Built>>) -> Result<Vec<[u8; 64]>, OutboxError> {
    let sign_one = |record: &Built| outbox.signer.sign(&signed_message(&record.bytes));
    if records.len() < PARALLEL_FROM {
        return Ok(records.iter().map(sign_one).collect());
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let size = records.len().div_ceil(threads);
    let parts = (0..records.len()).step_by(size).map(|start| {
        let (records, signer) = (Arc::clone(&records), Arc::clone(&outbox.signer));
        tokio::task::spawn_blocking(move || {
            let end = records.len().min(start + size);
            let part = records[start..end].iter();
            part.map(|record| signer.sign(&signed_message(&record.bytes)))
                .collect::<Vec<_>>()
        })
    });
    let parts: Vec<_> = parts.collect();
    let mut signatures = Vec::with_capacity(records.len());
    for part in parts {
        signatures.extend(part.await?);
    }
    Ok(signatures)
}

/// Sequence numbers start at 1 and grow by one a record: they never leave the range of i64.
fn sequence(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// Random bytes, drawn from the operating system in blocks: a batch asks it once, not once a salt.
#[derive(Default)]
struct RandomPool {
    block: Vec<u8>,
    used: usize,
}

impl RandomPool {
    const FIRST_BYTES: usize = 256;
    const BLOCK_BYTES: usize = 32 << 10;

    fn take<const N: usize>(&mut self) -> Result<[u8; N], OutboxError> {
        if self.used + N > self.block.len() {
            // The first record of an emission is mostly its only one.
            let size = if self.block.is_empty() {
                Self::FIRST_BYTES
            } else {
                Self::BLOCK_BYTES
            };
            self.block = vec![0; size];
            self.used = 0;
            getrandom::fill(&mut self.block).map_err(secrets::SecretError::Random)?;
        }
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.block[self.used..self.used + N]);
        self.used += N;
        Ok(bytes)
    }

    fn record_id(&mut self, now_ms: i64) -> Result<[u8; 16], OutboxError> {
        let millis = u64::try_from(now_ms).unwrap_or(0);
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &self.take::<10>()?);
        Ok(*id.as_uuid().as_bytes())
    }
}
