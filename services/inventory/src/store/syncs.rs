//! Syncs: waiting, running, sealed. Running and sealing them is in [`super::leases`].
//!
//! Invariant: a row that is sealed never changes again.

use counterfoil_chassis::db::{Database, WriteTx};
use counterfoil_connectors::ControlTotals;
use sqlx::{Row, any::AnyRow};

use super::{count, optional_bytes};
use crate::error::{Error, Result};

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
        .fetch_optional(db.read(tenant).await?.conn())
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
    .fetch_all(db.read(tenant).await?.conn())
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
    .fetch_optional(db.read(tenant).await?.conn())
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
    .fetch_all(db.read(tenant).await?.conn())
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
        .fetch_optional(db.read(tenant).await?.conn())
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
    .fetch_all(db.read_everything("syncs that may begin").await?.conn())
    .await?;
    pairs(&rows)
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
    .fetch_all(db.read_everything("syncs that were left").await?.conn())
    .await?;
    pairs(&rows)
}

fn pairs(rows: &[AnyRow]) -> Result<Vec<(String, String)>> {
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}
