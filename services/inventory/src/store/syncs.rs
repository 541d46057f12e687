//! Syncs: waiting, running, sealed.
//!
//! Invariant: whoever runs a sync proves in every transaction that it is still his ([`fence`]); a row that is sealed
//! never changes again.

use counterfoil_chassis::db::{Database, WriteTx};
use counterfoil_connectors::ControlTotals;
use sqlx::{Row, any::AnyRow};

use super::{count, optional_bytes, signed};
use crate::{
    error::{Error, Result},
    model::diff::ChangeCounts,
};

/// State of a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Asked for, and not begun.
    Waiting,
    /// Being read.
    Running,
    /// Sealed, the whole source.
    Complete,
    /// Sealed, not the whole source.
    Partial,
}

impl State {
    fn read(number: i64) -> Result<Self> {
        match number {
            1 => Ok(Self::Waiting),
            2 => Ok(Self::Running),
            3 => Ok(Self::Complete),
            4 => Ok(Self::Partial),
            _ => Err(Error::Damaged("state of a sync")),
        }
    }

    /// Whether it will not change any more.
    #[must_use]
    pub const fn is_sealed(self) -> bool {
        matches!(self, Self::Complete | Self::Partial)
    }
}

/// What was read and derived so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pages read.
    pub pages: u64,
    /// What was read.
    pub read: ControlTotals,
    /// Grants that follow from edges.
    pub inherited: u64,
}

/// A sync as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncRow {
    /// Whose.
    pub tenant: String,
    /// Id.
    pub sync: String,
    /// Id of its source.
    pub source: String,
    /// Number of its source.
    pub source_no: i64,
    /// Why it runs, as the API numbers it.
    pub purpose: i64,
    /// State.
    pub state: State,
    /// How often it was begun.
    pub attempts: i64,
    /// Reading must not begin earlier.
    pub not_before_ms: i64,
    /// Until when whoever runs it is believed to run.
    pub lease_until_ms: i64,
    /// Number within the source, once begun.
    pub seq: Option<i64>,
    /// When reading began.
    pub started_ms: Option<i64>,
    /// When reading ended.
    pub ended_ms: Option<i64>,
    /// What was read.
    pub counts: Counts,
    /// What the source says it holds.
    pub control_totals: Option<ControlTotals>,
    /// Root of the set.
    pub set_root: Option<[u8; 32]>,
    /// Leaves of the set.
    pub set_count: u64,
    /// SHA-256 of the leaves; none when PARTIAL.
    pub blob_sha256: Option<[u8; 32]>,
    /// Faults.
    pub errors: u64,
    /// Their first messages.
    pub error_messages: Vec<String>,
    /// Codes of why it is PARTIAL.
    pub partial_reasons: Vec<String>,
    /// Id of its record.
    pub record_id: Option<Vec<u8>>,
    /// SHA-256 of its record.
    pub record_hash: Option<[u8; 32]>,
    /// Place among the tenant's COMPLETE syncs.
    pub seal_no: Option<i64>,
}

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

macro_rules! select_sync {
    ($rest:literal) => {
        concat!(
            "SELECT y.tenant, y.sync, s.source, y.source_no, y.purpose, y.state, y.attempts, y.not_before_ms, y.lease_until_ms, y.seq, \
             y.started_ms, y.ended_ms, y.pages, y.accounts, y.entitlements, y.edges, y.grants_direct, y.grants_inherited, \
             y.total_accounts, y.total_entitlements, y.total_edges, y.total_grants, y.set_root, y.set_count, y.blob_sha256, \
             y.errors, y.error_messages, y.partial_reasons, y.record_id, y.record_hash, y.seal_no \
             FROM syncs y JOIN sources s ON s.source_no = y.source_no ",
            $rest
        )
    };
}

fn sync(row: &AnyRow) -> Result<SyncRow> {
    let split = |column: &'static str, at: char| -> Result<Vec<String>> {
        let text: String = row.try_get(column)?;
        Ok(text
            .split(at)
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect())
    };
    let stated: Option<i64> = row.try_get("total_accounts")?;
    let control_totals = match stated {
        None => None,
        Some(_) => Some(ControlTotals {
            accounts: count(row, "total_accounts")?,
            entitlements: count(row, "total_entitlements")?,
            edges: count(row, "total_edges")?,
            grants: count(row, "total_grants")?,
        }),
    };
    Ok(SyncRow {
        tenant: row.try_get("tenant")?,
        sync: row.try_get("sync")?,
        source: row.try_get("source")?,
        source_no: row.try_get("source_no")?,
        purpose: row.try_get("purpose")?,
        state: State::read(row.try_get("state")?)?,
        attempts: row.try_get("attempts")?,
        not_before_ms: row.try_get("not_before_ms")?,
        lease_until_ms: row.try_get("lease_until_ms")?,
        seq: row.try_get("seq")?,
        started_ms: row.try_get("started_ms")?,
        ended_ms: row.try_get("ended_ms")?,
        counts: Counts {
            pages: count(row, "pages")?,
            read: ControlTotals {
                accounts: count(row, "accounts")?,
                entitlements: count(row, "entitlements")?,
                edges: count(row, "edges")?,
                grants: count(row, "grants_direct")?,
            },
            inherited: count(row, "grants_inherited")?,
        },
        control_totals,
        set_root: optional_bytes(row, "set_root")?,
        set_count: count(row, "set_count")?,
        blob_sha256: optional_bytes(row, "blob_sha256")?,
        errors: count(row, "errors")?,
        error_messages: split("error_messages", '\n')?,
        partial_reasons: split("partial_reasons", ',')?,
        record_id: row.try_get("record_id")?,
        record_hash: optional_bytes(row, "record_hash")?,
        seal_no: row.try_get("seal_no")?,
    })
}

/// Asks for a sync.
///
/// # Errors
/// When the database refuses: also when one waits already.
pub async fn insert(
    tx: &mut WriteTx,
    id: &str,
    source_no: i64,
    purpose: i64,
    not_before_ms: i64,
    now_ms: i64,
) -> Result<()> {
    let tenant = tx.tenant().to_owned();
    sqlx::query(
        "INSERT INTO syncs (tenant, sync, source_no, purpose, created_ms, not_before_ms, state) \
         VALUES ($1, $2, $3, $4, $5, $6, 1)",
    )
    .bind(tenant)
    .bind(id)
    .bind(source_no)
    .bind(purpose)
    .bind(now_ms)
    .bind(not_before_ms)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// The syncs of a source that are not sealed: the running one first, then the waiting one.
///
/// # Errors
/// When the database fails.
pub async fn open(tx: &mut WriteTx, source_no: i64) -> Result<Vec<SyncRow>> {
    let rows = sqlx::query(select_sync!(
        "WHERE y.source_no = $1 AND y.state IN (1, 2) ORDER BY y.state DESC"
    ))
    .bind(source_no)
    .fetch_all(tx.conn())
    .await?;
    rows.iter().map(sync).collect()
}

/// Lets a waiting sync begin later.
///
/// # Errors
/// When the database refuses.
pub async fn postpone(tx: &mut WriteTx, id: &str, not_before_ms: i64) -> Result<()> {
    let tenant = tx.tenant().to_owned();
    sqlx::query(
        "UPDATE syncs SET not_before_ms = $1 WHERE tenant = $2 AND sync = $3 AND state = 1",
    )
    .bind(not_before_ms)
    .bind(tenant)
    .bind(id)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Reads a sync.
///
/// # Errors
/// When the database fails.
pub async fn get(db: &Database, tenant: &str, id: &str) -> Result<Option<SyncRow>> {
    let row = sqlx::query(select_sync!("WHERE y.tenant = $1 AND y.sync = $2"))
        .bind(tenant)
        .bind(id)
        .fetch_optional(db.reader())
        .await?;
    row.as_ref().map(sync).transpose()
}

/// The same inside of a transaction.
///
/// # Errors
/// When the database fails.
pub async fn get_in(tx: &mut WriteTx, id: &str) -> Result<Option<SyncRow>> {
    let tenant = tx.tenant().to_owned();
    let row = sqlx::query(select_sync!("WHERE y.tenant = $1 AND y.sync = $2"))
        .bind(tenant)
        .bind(id)
        .fetch_optional(tx.conn())
        .await?;
    row.as_ref().map(sync).transpose()
}

/// A page of syncs, newest first; `before` is the id of the last one seen, `source_no` 0 means all sources.
///
/// # Errors
/// When the database fails.
pub async fn list(
    db: &Database,
    tenant: &str,
    source_no: i64,
    before: &str,
    limit: i64,
) -> Result<Vec<SyncRow>> {
    let rows = sqlx::query(select_sync!(
        "WHERE y.tenant = $1 AND (CAST($2 AS BIGINT) = 0 OR y.source_no = CAST($2 AS BIGINT)) \
         AND (CAST($3 AS TEXT) = '' OR y.sync < CAST($3 AS TEXT)) ORDER BY y.sync DESC LIMIT $4"
    ))
    .bind(tenant)
    .bind(source_no)
    .bind(before)
    .bind(limit)
    .fetch_all(db.reader())
    .await?;
    rows.iter().map(sync).collect()
}

/// The COMPLETE sync whose leaves have this hash.
///
/// # Errors
/// When the database fails.
pub async fn by_blob(db: &Database, tenant: &str, sha256: &[u8]) -> Result<Option<SyncRow>> {
    let row = sqlx::query(select_sync!(
        "WHERE y.tenant = $1 AND y.blob_sha256 = $2 ORDER BY y.sync LIMIT 1"
    ))
    .bind(tenant)
    .bind(sha256.to_vec())
    .fetch_optional(db.reader())
    .await?;
    row.as_ref().map(sync).transpose()
}

/// The COMPLETE syncs of a tenant in the order of their seals.
///
/// # Errors
/// When the database fails.
pub async fn sealed_from(
    db: &Database,
    tenant: &str,
    seal_no: i64,
    limit: i64,
) -> Result<Vec<SyncRow>> {
    let rows = sqlx::query(select_sync!(
        "WHERE y.tenant = $1 AND y.seal_no >= $2 ORDER BY y.seal_no LIMIT $3"
    ))
    .bind(tenant)
    .bind(seal_no)
    .bind(limit)
    .fetch_all(db.reader())
    .await?;
    rows.iter().map(sync).collect()
}

/// Place of the newest COMPLETE sync of a tenant; 0 = none.
///
/// # Errors
/// When the database fails.
pub async fn last_seal_no(db: &Database, tenant: &str) -> Result<i64> {
    let row = sqlx::query("SELECT last_seal_no FROM feeds WHERE tenant = $1")
        .bind(tenant)
        .fetch_optional(db.reader())
        .await?;
    Ok(row.map_or(Ok(0), |row| row.try_get(0))?)
}

/// The current sync of every source of the transaction's tenant that has one.
///
/// # Errors
/// When the database fails.
pub async fn current_in(tx: &mut WriteTx) -> Result<Vec<SyncRow>> {
    let tenant = tx.tenant().to_owned();
    let rows = sqlx::query(select_sync!(
        "WHERE y.tenant = $1 AND y.sync = s.current_sync"
    ))
    .bind(tenant)
    .fetch_all(tx.conn())
    .await?;
    rows.iter().map(sync).collect()
}

/// The newest sealed sync, COMPLETE or PARTIAL, of every source of the transaction's tenant.
///
/// # Errors
/// When the database fails.
pub async fn newest_sealed_in(tx: &mut WriteTx) -> Result<Vec<SyncRow>> {
    let tenant = tx.tenant().to_owned();
    let rows = sqlx::query(select_sync!(
        "WHERE y.tenant = $1 AND y.state IN (3, 4) AND y.seq = \
         (SELECT max(n.seq) FROM syncs n WHERE n.source_no = y.source_no AND n.state IN (3, 4))"
    ))
    .bind(tenant)
    .fetch_all(tx.conn())
    .await?;
    rows.iter().map(sync).collect()
}

/// Syncs that may begin: waiting, due, and no other of their source is running.
///
/// # Errors
/// When the database fails.
pub async fn due(db: &Database, now_ms: i64, limit: i64) -> Result<Vec<(String, String)>> {
    let rows = sqlx::query(
        "SELECT tenant, sync FROM syncs y WHERE state = 1 AND not_before_ms <= $1 AND NOT EXISTS \
         (SELECT 1 FROM syncs r WHERE r.source_no = y.source_no AND r.state = 2) ORDER BY created_ms, sync LIMIT $2",
    )
    .bind(now_ms)
    .bind(limit)
    .fetch_all(db.reader())
    .await?;
    pairs(&rows)
}

/// When the next waiting sync is due that is not yet.
///
/// # Errors
/// When the database fails.
pub async fn next_due_ms(db: &Database, now_ms: i64) -> Result<Option<i64>> {
    let row = sqlx::query(
        "SELECT min(not_before_ms) AS due FROM syncs WHERE state = 1 AND not_before_ms > $1",
    )
    .bind(now_ms)
    .fetch_one(db.reader())
    .await?;
    Ok(row.try_get(0)?)
}

/// Running syncs that nobody has renewed since `lease_ms`.
///
/// # Errors
/// When the database fails.
pub async fn abandoned(db: &Database, lease_ms: i64) -> Result<Vec<(String, String)>> {
    let rows = sqlx::query(
        "SELECT tenant, sync FROM syncs WHERE state = 2 AND lease_until_ms <= $1 ORDER BY sync",
    )
    .bind(lease_ms)
    .fetch_all(db.reader())
    .await?;
    pairs(&rows)
}

fn pairs(rows: &[AnyRow]) -> Result<Vec<(String, String)>> {
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
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
