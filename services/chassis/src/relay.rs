//! Carries records from the outbox to the ledger: in stream order, one batch in flight a stream, until they are there.
//!
//! Invariants:
//! - A record is sent until the ledger has it. Nothing is skipped: a refusal is an alarm, and the stream waits.
//! - The append is idempotent by record id, so sending again after a crash or a lost answer gives the original position.
//! - `delivered_seq` moves in the transaction that stores the receipts up to it.
//!
//! Several replicas may relay the same stream: each starts at the first record without a receipt, so the worst is work done twice.

use std::{collections::HashSet, sync::Arc, time::Duration};

use counterfoil_proto::{
    common::{EvidenceState, Receipt},
    ledger::{
        AppendBatchRequest, RegisterProducerRequest, SignedRecord,
        append_result::Result as Outcome, ledger_service_client::LedgerServiceClient,
    },
};
use sqlx::Row;
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{MESSAGE_BYTES_MAX, ServiceChannel},
    clock::millis,
    db::bulk_insert,
    names::tenant_name,
    outbox::Outbox,
};

/// Records in one append.
const BATCH_RECORDS_MAX: i64 = 1024;
/// Bytes of records in one append; the ledger allows 3 MiB.
const BATCH_BYTES_MAX: usize = 2 << 20;
/// Tenants whose records are sent at the same moment.
const TENANTS_AT_ONCE: usize = 16;
/// How often the tables are searched for records that another replica has left behind.
const SWEEP: Duration = Duration::from_secs(5);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// An answer that has not come by then is taken for lost.
const APPEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Sends what the outbox holds. One a process and service.
#[derive(Debug)]
pub struct Relay {
    outbox: Outbox,
    ledger: LedgerServiceClient<ServiceChannel>,
}

/// Why a batch did not arrive.
#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error("the ledger does not take the call: {0}")]
    Call(Box<tonic::Status>),
    #[error(
        "the ledger refuses record {seq} of stream {stream}: {reason}: {message} (it expects {expected})"
    )]
    Refused {
        stream: String,
        seq: i64,
        reason: String,
        message: String,
        expected: u64,
    },
    #[error("the ledger's answer does not fit what was sent: {0}")]
    Answer(&'static str),
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

impl From<tonic::Status> for RelayError {
    fn from(status: tonic::Status) -> Self {
        Self::Call(Box::new(status))
    }
}

struct Batch {
    first_seq: i64,
    record_ids: Vec<Vec<u8>>,
    record_hashes: Vec<Vec<u8>>,
    records: Vec<SignedRecord>,
}

impl Relay {
    /// A relay of this outbox to the ledger behind `channel`.
    #[must_use]
    pub fn new(outbox: Outbox, channel: ServiceChannel) -> Self {
        let ledger = LedgerServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Self { outbox, ledger }
    }

    /// Runs until `shutdown`. A second relay of the same outbox in the same process returns at once.
    pub async fn run(self, shutdown: CancellationToken) {
        let Some(mut committed) = self.outbox.take_committed() else {
            tracing::error!(stream = self.outbox.stream(), "a second relay was started");
            return;
        };
        let relay = Arc::new(self);
        if shutdown
            .run_until_cancelled(relay.register())
            .await
            .is_none()
        {
            return;
        }
        let permits = Arc::new(Semaphore::new(TENANTS_AT_ONCE));
        let mut running: HashSet<String> = HashSet::new();
        // Tenants that committed again while their records are being sent: what is sent may not include the newest.
        let mut again: HashSet<String> = HashSet::new();
        let mut tasks: JoinSet<String> = JoinSet::new();
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            let mut ready: Vec<String> = Vec::new();
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(tenant) = committed.recv() => ready.push(tenant),
                Some(finished) = tasks.join_next() => {
                    // A task that panicked is found again by the next sweep.
                    if let Ok(tenant) = finished {
                        running.remove(&tenant);
                        if again.remove(&tenant) {
                            ready.push(tenant);
                        }
                    } else {
                        tracing::error!("a relay task died");
                        running.clear();
                    }
                }
                _ = sweep.tick() => ready = relay.sweep().await,
            }
            for tenant in ready {
                if !running.insert(tenant.clone()) {
                    again.insert(tenant);
                    continue;
                }
                let (relay, permits) = (Arc::clone(&relay), Arc::clone(&permits));
                tasks.spawn(async move {
                    relay.drain(&tenant, &permits).await;
                    tenant
                });
            }
        }
    }

    /// Registers the key that signs the records, until the ledger has it.
    async fn register(&self) {
        let mut backoff = Backoff::default();
        while let Err(status) = self.register_once().await {
            tracing::warn!(stream = self.outbox.stream(), %status, "the producer key is not registered yet");
            backoff.wait().await;
        }
    }

    async fn register_once(&self) -> Result<(), tonic::Status> {
        let key = self.outbox.key();
        let principal = format!("services/{}", self.outbox.stream());
        let statement = format!("counterfoil-producer/v1\n{principal}\n{}", key.vkey());
        let proof = key.record_signer().sign(statement.as_bytes());
        let request = RegisterProducerRequest {
            vkey: key.vkey(),
            stream: self.outbox.stream().to_owned(),
            proof_of_possession: proof.to_vec(),
            principal,
        };
        let mut request = tonic::Request::new(request);
        request.set_timeout(APPEND_TIMEOUT);
        self.ledger.clone().register_producer(request).await?;
        Ok(())
    }

    /// Tenants with records that have no receipt.
    async fn sweep(&self) -> Vec<String> {
        match self.undelivered().await {
            Ok(tenants) => tenants,
            Err(error) => {
                tracing::warn!(%error, "the outbox cannot be searched");
                Vec::new()
            }
        }
    }

    async fn undelivered(&self) -> Result<Vec<String>, sqlx::Error> {
        let reason = "the relay looks for records that wait";
        sqlx::query_scalar(
            "SELECT s.tenant FROM outbox_streams s \
             LEFT JOIN outbox_relay d ON d.tenant = s.tenant AND d.stream = s.stream \
             WHERE s.stream = $1 AND s.last_seq > COALESCE(d.delivered_seq, 0)",
        )
        .bind(self.outbox.stream())
        .fetch_all(self.outbox.db().read_everything(reason).await?.conn())
        .await
    }

    /// Sends until nothing is left, however long the ledger is away. A tenant holds a permit while it sends and not while it
    /// waits: those whose evidence is refused do not stop the others.
    async fn drain(&self, tenant: &str, permits: &Semaphore) {
        let mut backoff = Backoff::default();
        loop {
            let sent = {
                // Closed never; without a permit the next sweep tries again.
                let Ok(_permit) = permits.acquire().await else {
                    return;
                };
                self.send_batch(tenant).await
            };
            match sent {
                Ok(0) => return,
                Ok(_) => backoff = Backoff::default(),
                Err(error @ (RelayError::Refused { .. } | RelayError::Answer(_))) => {
                    // Never skipped: the stream waits until an operator has found out why.
                    tracing::error!(alarm = "EVIDENCE_REFUSED", tenant, %error, "evidence is not taken");
                    backoff.wait().await;
                    // A ledger whose database was replaced has forgotten the key.
                    if let Err(status) = self.register_once().await {
                        tracing::warn!(%status, "the producer key is not registered");
                    }
                }
                Err(error) => {
                    tracing::warn!(tenant, %error, "evidence waits");
                    backoff.wait().await;
                }
            }
        }
    }

    /// Sends the next batch; answers how many records have got their receipts.
    async fn send_batch(&self, tenant: &str) -> Result<usize, RelayError> {
        let Some(batch) = self.next_batch(tenant).await? else {
            return Ok(0);
        };
        let mut request = tonic::Request::new(AppendBatchRequest {
            tenant: tenant_name(tenant).to_string(),
            records: batch.records.clone(),
        });
        request.set_timeout(APPEND_TIMEOUT);
        let results = self
            .ledger
            .clone()
            .append_batch(request)
            .await?
            .into_inner()
            .results;
        if results.len() != batch.records.len() {
            return Err(RelayError::Answer("another number of results"));
        }
        let mut receipts = Vec::with_capacity(results.len());
        let mut refused = None;
        for (position, result) in results.into_iter().enumerate() {
            match result.result {
                Some(Outcome::Receipt(receipt)) => {
                    receipts.push(checked(&batch, position, receipt)?);
                }
                Some(Outcome::Refusal(refusal)) => {
                    refused = Some(RelayError::Refused {
                        stream: self.outbox.stream().to_owned(),
                        seq: batch.first_seq + i64::try_from(position).unwrap_or(0),
                        reason: refusal.reason,
                        message: refusal.message,
                        expected: refusal.expected_stream_seq,
                    });
                    break;
                }
                None => return Err(RelayError::Answer("an empty result")),
            }
        }
        // If we crash here: the ledger has the records and we do not know it. The next start sends them again and gets the
        // original positions.
        let delivered = receipts.len();
        self.store(tenant, batch.first_seq, receipts).await?;
        match refused {
            Some(error) => Err(error),
            None => Ok(delivered),
        }
    }

    async fn next_batch(&self, tenant: &str) -> Result<Option<Batch>, RelayError> {
        let rows = sqlx::query(
            "SELECT seq, record_id, record, record_hash, key_id, signature FROM outbox_records \
             WHERE tenant = $1 AND stream = $2 AND seq > COALESCE((SELECT delivered_seq FROM outbox_relay \
             WHERE tenant = $1 AND stream = $2), 0) ORDER BY seq LIMIT $3",
        )
        .bind(tenant)
        .bind(self.outbox.stream())
        .bind(BATCH_RECORDS_MAX)
        .fetch_all(self.outbox.db().read(tenant).await?.conn())
        .await?;
        let Some(first) = rows.first() else {
            return Ok(None);
        };
        let mut batch = Batch {
            first_seq: first.try_get("seq")?,
            record_ids: Vec::with_capacity(rows.len()),
            record_hashes: Vec::with_capacity(rows.len()),
            records: Vec::with_capacity(rows.len()),
        };
        let mut bytes = 0;
        for row in rows {
            let record = SignedRecord {
                record: row.try_get("record")?,
                key_id: row.try_get("key_id")?,
                signature: row.try_get("signature")?,
            };
            bytes += record.record.len() + record.key_id.len() + record.signature.len() + 16;
            if bytes > BATCH_BYTES_MAX && !batch.records.is_empty() {
                break;
            }
            batch.record_ids.push(row.try_get("record_id")?);
            batch.record_hashes.push(row.try_get("record_hash")?);
            batch.records.push(record);
        }
        Ok(Some(batch))
    }

    async fn store(
        &self,
        tenant: &str,
        first_seq: i64,
        receipts: Vec<Receipt>,
    ) -> Result<(), RelayError> {
        if receipts.is_empty() {
            return Ok(());
        }
        let mut tx = self.outbox.db().write_tx_unlocked(tenant).await?;
        let rows = receipts.iter().map(|receipt| {
            [
                tenant.into(),
                receipt.record_id.as_slice().into(),
                i64::try_from(receipt.index).unwrap_or(i64::MAX).into(),
                receipt.leaf_hash.as_slice().into(),
                receipt.tlog_proof.as_slice().into(),
                checkpoint_ms(receipt).into(),
            ]
        });
        let columns = [
            "tenant",
            "record_id",
            "log_index",
            "leaf_hash",
            "tlog_proof",
            "checkpoint_ms",
        ];
        bulk_insert(
            &mut tx,
            "outbox_receipts",
            columns,
            "ON CONFLICT DO NOTHING",
            rows,
        )
        .await?;
        let delivered_seq = first_seq - 1 + i64::try_from(receipts.len()).unwrap_or(0);
        sqlx::query(
            "INSERT INTO outbox_relay (tenant, stream, delivered_seq) VALUES ($1, $2, $3) \
             ON CONFLICT (tenant, stream) DO UPDATE SET delivered_seq = excluded.delivered_seq \
             WHERE outbox_relay.delivered_seq < excluded.delivered_seq",
        )
        .bind(tenant)
        .bind(self.outbox.stream())
        .bind(delivered_seq)
        .execute(tx.conn())
        .await?;
        tx.commit().await?;
        // If we crash here: the receipts are durable, those who waited for them ask again.
        self.outbox.waiters().deliver(receipts);
        Ok(())
    }
}

fn checked(batch: &Batch, position: usize, receipt: Receipt) -> Result<Receipt, RelayError> {
    let expected = (
        batch.record_ids.get(position),
        batch.record_hashes.get(position),
    );
    if expected != (Some(&receipt.record_id), Some(&receipt.record_hash)) {
        return Err(RelayError::Answer("a receipt for another record"));
    }
    if receipt.state() != EvidenceState::Logged || receipt.leaf_hash.len() != 32 {
        return Err(RelayError::Answer("a receipt without a position"));
    }
    Ok(receipt)
}

fn checkpoint_ms(receipt: &Receipt) -> i64 {
    receipt
        .checkpoint_time
        .as_ref()
        .and_then(millis)
        .unwrap_or_default()
}

/// Waits longer after every failure, never the same time as others that fail with it.
#[derive(Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    async fn wait(&mut self) {
        let longest = BACKOFF_MIN
            .saturating_mul(1 << self.failures.min(10))
            .min(BACKOFF_MAX);
        self.failures += 1;
        // Without random bytes all wait the longest: slower, never wrong.
        let random = getrandom::u32().unwrap_or(u32::MAX);
        let share = f64::from(random) / f64::from(u32::MAX);
        sleep(longest.mul_f64(0.5 + share / 2.0)).await;
    }
}
