//! Running a sync: taking it, staying its owner, giving it back, sealing it.
//!
//! Invariant: whoever runs a sync proves in every transaction that it is still his ([`fence`]).

use counterfoil_chassis::db::WriteTx;
use counterfoil_connectors::ControlTotals;
use sqlx::Row;

use super::{signed, syncs::Counts};
use crate::{
    error::{Error, Result},
    model::diff::ChangeCounts,
};

/// What a seal writes.
#[derive(Debug, Clone)]
pub struct Seal {
    /// COMPLETE or PARTIAL.
    pub complete: bool,
    /// When reading began.
    pub started_ms: i64,
    /// When reading ended.
    pub ended_ms: i64,
    /// What was read.
    pub counts: Counts,
    /// What the source says it holds.
    pub control_totals: Option<ControlTotals>,
    /// Root of the set.
    pub set_root: [u8; 32],
    /// Leaves of the set.
    pub set_count: u64,
    /// SHA-256 of the leaves.
    pub blob_sha256: [u8; 32],
    /// Faults.
    pub errors: u64,
    /// Their first messages.
    pub error_messages: Vec<String>,
    /// Codes of why it is PARTIAL.
    pub partial_reasons: Vec<String>,
    /// What changed in the inventory.
    pub changes: ChangeCounts,
}

/// Who runs a sync.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Whose sync.
    pub tenant: String,
    /// Its id.
    pub sync: String,
    /// Number of its source.
    pub source_no: i64,
    /// Number of this attempt within the source.
    pub seq: i64,
    /// Who runs it.
    pub worker: String,
}

/// Takes a waiting sync: gives it a number, and the lease to `worker`.
/// `None`: somebody else was faster.
///
/// # Errors
/// When the database refuses.
pub async fn claim(
    tx: &mut WriteTx,
    id: &str,
    worker: &str,
    lease_until_ms: i64,
) -> Result<Option<Lease>> {
    let tenant = tx.tenant().to_owned();
    let row = sqlx::query(
        "UPDATE syncs SET state = 2, attempts = attempts + 1, worker = $1, lease_until_ms = $2 \
         WHERE tenant = $3 AND sync = $4 AND state = 1 AND NOT EXISTS \
         (SELECT 1 FROM syncs r WHERE r.source_no = syncs.source_no AND r.state = 2) RETURNING source_no",
    )
    .bind(worker)
    .bind(lease_until_ms)
    .bind(&tenant)
    .bind(id)
    .fetch_optional(tx.conn())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let source_no: i64 = row.try_get(0)?;
    let row = sqlx::query(
        "UPDATE sources SET last_seq = last_seq + 1 WHERE source_no = $1 RETURNING last_seq",
    )
    .bind(source_no)
    .fetch_one(tx.conn())
    .await?;
    let seq: i64 = row.try_get(0)?;
    sqlx::query("UPDATE syncs SET seq = $1 WHERE tenant = $2 AND sync = $3")
        .bind(seq)
        .bind(&tenant)
        .bind(id)
        .execute(tx.conn())
        .await?;
    Ok(Some(Lease {
        tenant,
        sync: id.to_owned(),
        source_no,
        seq,
        worker: worker.to_owned(),
    }))
}

/// Proves that the sync is still ours, and renews the lease with the progress made.
///
/// # Errors
/// [`Error::LeaseLost`]; the transaction must then be given up.
pub async fn fence(
    tx: &mut WriteTx,
    lease: &Lease,
    lease_until_ms: i64,
    started_ms: i64,
    counts: &Counts,
) -> Result<()> {
    let done = sqlx::query(
        "UPDATE syncs SET lease_until_ms = $1, started_ms = $2, pages = $3, accounts = $4, entitlements = $5, edges = $6, \
         grants_direct = $7, grants_inherited = $8 WHERE tenant = $9 AND sync = $10 AND worker = $11 AND seq = $12 AND state = 2",
    )
    .bind(lease_until_ms)
    .bind(started_ms)
    .bind(signed(counts.pages))
    .bind(signed(counts.read.accounts))
    .bind(signed(counts.read.entitlements))
    .bind(signed(counts.read.edges))
    .bind(signed(counts.read.grants))
    .bind(signed(counts.inherited))
    .bind(&lease.tenant)
    .bind(&lease.sync)
    .bind(&lease.worker)
    .bind(lease.seq)
    .execute(tx.conn())
    .await?;
    if done.rows_affected() == 1 {
        Ok(())
    } else {
        Err(Error::LeaseLost)
    }
}

/// Gives a sync back, to be begun again from nothing.
///
/// # Errors
/// When the database refuses: also when another one waits already.
pub async fn requeue(tx: &mut WriteTx, id: &str) -> Result<()> {
    let tenant = tx.tenant().to_owned();
    sqlx::query(
        "UPDATE syncs SET state = 1, worker = NULL, started_ms = NULL, pages = 0, accounts = 0, entitlements = 0, edges = 0, \
         grants_direct = 0, grants_inherited = 0 WHERE tenant = $1 AND sync = $2 AND state = 2",
    )
    .bind(tenant)
    .bind(id)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Seals a sync and, when it is COMPLETE, makes it the current inventory of its source: its rows are seen from the commit on.
/// The caller has fenced and emits the record in the same transaction.
///
/// # Errors
/// When the database refuses.
pub async fn seal(
    tx: &mut WriteTx,
    id: &str,
    source_no: i64,
    seq: Option<i64>,
    seal: &Seal,
    record: (&[u8; 16], &[u8; 32]),
) -> Result<()> {
    let tenant = tx.tenant().to_owned();
    let seal_no = match (seal.complete, seq) {
        (true, Some(seq)) => {
            let row = sqlx::query(
                "INSERT INTO feeds (tenant, last_seal_no) VALUES ($1, 1) \
                 ON CONFLICT (tenant) DO UPDATE SET last_seal_no = feeds.last_seal_no + 1 RETURNING last_seal_no",
            )
            .bind(&tenant)
            .fetch_one(tx.conn())
            .await?;
            sqlx::query(
                "UPDATE sources SET current_seq = $1, current_sync = $2 WHERE source_no = $3",
            )
            .bind(seq)
            .bind(id)
            .bind(source_no)
            .execute(tx.conn())
            .await?;
            Some(row.try_get::<i64, _>(0)?)
        }
        _ => None,
    };
    let totals = seal.control_totals;
    let total = |of: fn(&ControlTotals) -> u64| totals.as_ref().map(|totals| signed(of(totals)));
    let counts = &seal.counts;
    sqlx::query(
        "UPDATE syncs SET state = $1, started_ms = $2, ended_ms = $3, pages = $4, accounts = $5, entitlements = $6, edges = $7, \
         grants_direct = $8, grants_inherited = $9, total_accounts = $10, total_entitlements = $11, total_edges = $12, \
         total_grants = $13, set_root = $14, set_count = $15, blob_sha256 = $16, errors = $17, error_messages = $18, \
         partial_reasons = $19, record_id = $20, record_hash = $21, seal_no = $22, added = $23, changed = $24, removed = $25, \
         worker = NULL WHERE tenant = $26 AND sync = $27",
    )
    .bind(if seal.complete { 3_i64 } else { 4 })
    .bind(seal.started_ms)
    .bind(seal.ended_ms)
    .bind(signed(counts.pages))
    .bind(signed(counts.read.accounts))
    .bind(signed(counts.read.entitlements))
    .bind(signed(counts.read.edges))
    .bind(signed(counts.read.grants))
    .bind(signed(counts.inherited))
    .bind(total(|totals| totals.accounts))
    .bind(total(|totals| totals.entitlements))
    .bind(total(|totals| totals.edges))
    .bind(total(|totals| totals.grants))
    .bind(seal.set_root.to_vec())
    .bind(signed(seal.set_count))
    .bind(seal.complete.then(|| seal.blob_sha256.to_vec()))
    .bind(signed(seal.errors))
    .bind(one_a_line(&seal.error_messages))
    .bind(seal.partial_reasons.join(","))
    .bind(record.0.to_vec())
    .bind(record.1.to_vec())
    .bind(seal_no)
    .bind(signed(seal.changes.added))
    .bind(signed(seal.changes.changed))
    .bind(signed(seal.changes.removed))
    .bind(&tenant)
    .bind(id)
    .execute(tx.conn())
    .await?;
    Ok(())
}

fn one_a_line(messages: &[String]) -> String {
    let lines: Vec<String> = messages
        .iter()
        // NUL is the one character that PostgreSQL's text cannot hold.
        .map(|message| message.replace(['\n', '\r', '\0'], " "))
        .collect();
    lines.join("\n")
}
