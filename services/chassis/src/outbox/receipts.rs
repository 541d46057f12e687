//! Receipts: where a record stands in the tenant's log.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use counterfoil_proto::common::{EvidenceState, Receipt};
use sqlx::Row;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::Outbox;
use crate::{clock::timestamp, db::select_in, error::ApiError, sync::lock};

type RecordId = Vec<u8>;
type Delivery = Arc<Vec<Receipt>>;

/// Another replica may deliver our records; its receipts are seen in the database only.
const RECHECK: Duration = Duration::from_secs(1);

const SELECT: &str = "SELECT r.record_id, r.record_hash, p.log_index, p.leaf_hash, p.tlog_proof, p.checkpoint_ms \
    FROM outbox_records r LEFT JOIN outbox_receipts p ON p.tenant = r.tenant AND p.record_id = r.record_id \
    WHERE r.tenant = ? AND r.record_id IN ({list})";

impl Outbox {
    /// The receipt of a record: PENDING or LOGGED. `None`: this service has no such record.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn receipt(
        &self,
        tenant: &str,
        record_id: &[u8],
    ) -> Result<Option<Receipt>, ApiError> {
        let found = self.receipts(tenant, &[record_id.to_vec()]).await?;
        Ok(found.into_values().next())
    }

    /// The receipts of many records, by id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn receipts(
        &self,
        tenant: &str,
        record_ids: &[RecordId],
    ) -> Result<HashMap<RecordId, Receipt>, ApiError> {
        let db = self.db();
        let mut connection = db.read(tenant).await?;
        let keys = record_ids.iter().map(Vec::as_slice);
        let rows = select_in(&mut connection, db.engine(), SELECT, &[tenant.into()], keys).await?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in rows {
            let mut receipt = Receipt {
                record_id: row.try_get("record_id")?,
                record_hash: row.try_get("record_hash")?,
                state: EvidenceState::Pending.into(),
                ..Receipt::default()
            };
            if let Some(index) = row.try_get::<Option<i64>, _>("log_index")? {
                receipt.state = EvidenceState::Logged.into();
                receipt.index = u64::try_from(index).unwrap_or(0);
                receipt.leaf_hash = row.try_get("leaf_hash")?;
                receipt.tlog_proof = row.try_get("tlog_proof")?;
                receipt.checkpoint_time = Some(timestamp(row.try_get("checkpoint_ms")?));
            }
            found.insert(receipt.record_id.clone(), receipt);
        }
        Ok(found)
    }

    /// Waits until all records are in the ledger and answers their receipts in the order asked.
    ///
    /// # Errors
    /// UNAVAILABLE with reason EVIDENCE_PENDING when the ledger has not taken them in time; they stay on their way.
    pub async fn await_receipts(
        &self,
        tenant: &str,
        record_ids: &[[u8; 16]],
        patience: Duration,
    ) -> Result<Vec<Receipt>, ApiError> {
        let ids: Vec<RecordId> = record_ids.iter().map(|id| id.to_vec()).collect();
        let logged = self.collect(tenant, &ids, patience).await?;
        ids.iter()
            .map(|id| {
                logged.get(id).cloned().ok_or_else(|| {
                    ApiError::unavailable(
                        "EVIDENCE_PENDING",
                        "the ledger has not confirmed the evidence yet",
                        Duration::from_secs(1),
                    )
                })
            })
            .collect()
    }

    /// Turns the receipts that are PENDING into LOGGED ones as far as they arrive in time. Receipts that do not stay PENDING:
    /// that is no error, the records are durable and on their way.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settle<'r>(
        &self,
        tenant: &str,
        receipts: impl IntoIterator<Item = &'r mut Receipt>,
        patience: Duration,
    ) -> Result<(), ApiError> {
        let mut pending: Vec<&mut Receipt> = receipts
            .into_iter()
            .filter(|receipt| receipt.state() == EvidenceState::Pending)
            .collect();
        let ids: Vec<RecordId> = pending
            .iter()
            .map(|receipt| receipt.record_id.clone())
            .collect();
        let mut logged = self.collect(tenant, &ids, patience).await?;
        for receipt in &mut pending {
            if let Some(found) = logged.remove(&receipt.record_id) {
                **receipt = found;
            }
        }
        Ok(())
    }

    /// The LOGGED receipts of these records that are there, or come within `patience`.
    async fn collect(
        &self,
        tenant: &str,
        ids: &[RecordId],
        patience: Duration,
    ) -> Result<HashMap<RecordId, Receipt>, ApiError> {
        let deadline = Instant::now() + patience;
        let mut logged = HashMap::with_capacity(ids.len());
        let mut missing: HashSet<RecordId> = ids.iter().cloned().collect();
        // Registered before the table is read: what is delivered in between is not missed.
        let mut waiter = self.waiters().register(&missing);
        while !missing.is_empty() {
            let asked: Vec<RecordId> = missing.iter().cloned().collect();
            for (id, receipt) in self.receipts(tenant, &asked).await? {
                if receipt.state() == EvidenceState::Logged {
                    missing.remove(&id);
                    logged.insert(id, receipt);
                }
            }
            let recheck = deadline.min(Instant::now() + RECHECK);
            while !missing.is_empty() {
                let Ok(Some(delivery)) = timeout_at(recheck, waiter.deliveries.recv()).await else {
                    break;
                };
                for receipt in delivery.iter() {
                    if missing.remove(&receipt.record_id) {
                        logged.insert(receipt.record_id.clone(), receipt.clone());
                    }
                }
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        Ok(logged)
    }
}

/// Who waits for which record. Filled by [`Outbox::collect`], served by the relay.
#[derive(Debug, Default, Clone)]
pub(crate) struct Waiters(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    senders: HashMap<u64, mpsc::UnboundedSender<Delivery>>,
    /// Waiters of each record.
    records: HashMap<RecordId, Vec<u64>>,
}

struct Waiter {
    id: u64,
    ids: Vec<RecordId>,
    deliveries: mpsc::UnboundedReceiver<Delivery>,
    waiters: Waiters,
}

impl Waiters {
    fn register(&self, ids: &HashSet<RecordId>) -> Waiter {
        let (sender, deliveries) = mpsc::unbounded_channel();
        let mut state = lock(&self.0);
        state.next += 1;
        let id = state.next;
        state.senders.insert(id, sender);
        for record in ids {
            state.records.entry(record.clone()).or_default().push(id);
        }
        Waiter {
            id,
            ids: ids.iter().cloned().collect(),
            deliveries,
            waiters: self.clone(),
        }
    }

    /// Tells those who wait for any of these records.
    pub(crate) fn deliver(&self, receipts: Vec<Receipt>) {
        let state = lock(&self.0);
        if state.senders.is_empty() {
            return;
        }
        let interested: HashSet<u64> = receipts
            .iter()
            .filter_map(|receipt| state.records.get(&receipt.record_id))
            .flatten()
            .copied()
            .collect();
        let delivery = Arc::new(receipts);
        for id in interested {
            if let Some(sender) = state.senders.get(&id) {
                // A waiter that has left in the meantime unregisters itself.
                let _ = sender.send(Arc::clone(&delivery));
            }
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut state = lock(&self.waiters.0);
        state.senders.remove(&self.id);
        for record in &self.ids {
            if let Some(waiting) = state.records.get_mut(record) {
                waiting.retain(|id| *id != self.id);
                if waiting.is_empty() {
                    state.records.remove(record);
                }
            }
        }
    }
}
