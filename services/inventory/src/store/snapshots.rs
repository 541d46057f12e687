//! Snapshots.

use counterfoil_chassis::db::{BulkValue, Database, WriteTx, bulk_insert, select_in};
use counterfoil_evidence::leaf::SourceTag;
use sqlx::{Row, any::AnyRow};

use super::{bytes, count, optional_bytes, signed};
use crate::error::Result;

/// A snapshot as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Id.
    pub snapshot: String,
    /// Root over the sources.
    pub snapshot_root: [u8; 32],
    /// Grants in all.
    pub grant_count: u64,
    /// Id of its record.
    pub record_id: Vec<u8>,
    /// SHA-256 of its record.
    pub record_hash: [u8; 32],
    /// When it was sealed.
    pub created_ms: i64,
    /// Its sources, ascending by tag.
    pub sources: Vec<SnapshotSourceRow>,
}

/// A source of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSourceRow {
    /// Id.
    pub source: String,
    /// Number.
    pub source_no: i64,
    /// Prefix of its grant keys.
    pub tag: SourceTag,
    /// The sync it is there with, or why it is missing.
    pub standing: SourceStanding,
}

/// Whether a source is in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceStanding {
    /// It is.
    Sealed(SealedSync),
    /// It is not: code.
    Missing(String),
}

/// The sync with which a source is in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSync {
    /// Id.
    pub sync: String,
    /// Number within the source.
    pub seq: i64,
    /// SHA-256 of its record.
    pub record_hash: [u8; 32],
    /// Root of its set.
    pub set_root: [u8; 32],
    /// Leaves of its set.
    pub set_count: u64,
    /// When reading ended.
    pub ended_ms: i64,
}

/// Keeps a snapshot.
///
/// # Errors
/// When the database refuses.
pub async fn insert(tx: &mut WriteTx, new: &SnapshotRow) -> Result<()> {
    let tenant = tx.tenant().to_owned();
    sqlx::query(
        "INSERT INTO snapshots (tenant, snapshot, snapshot_root, grant_count, record_id, record_hash, created_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(&tenant)
    .bind(&new.snapshot)
    .bind(new.snapshot_root.to_vec())
    .bind(signed(new.grant_count))
    .bind(&new.record_id)
    .bind(new.record_hash.to_vec())
    .bind(new.created_ms)
    .execute(tx.conn())
    .await?;
    let rows = new.sources.iter().map(|source| -> [BulkValue; 6] {
        let (sync, reason) = match &source.standing {
            SourceStanding::Sealed(sealed) => (Some(sealed.sync.clone()), None),
            SourceStanding::Missing(reason) => (None, Some(reason.clone())),
        };
        [
            tenant.as_str().into(),
            new.snapshot.as_str().into(),
            source.source_no.into(),
            source.tag.0.as_slice().into(),
            sync.into(),
            reason.into(),
        ]
    });
    let columns = ["tenant", "snapshot", "source_no", "tag", "sync", "reason"];
    bulk_insert(tx, "snapshot_sources", columns, "", rows).await?;
    Ok(())
}

fn snapshot(row: &AnyRow) -> Result<SnapshotRow> {
    Ok(SnapshotRow {
        snapshot: row.try_get("snapshot")?,
        snapshot_root: bytes(row, "snapshot_root")?,
        grant_count: count(row, "grant_count")?,
        record_id: row.try_get("record_id")?,
        record_hash: bytes(row, "record_hash")?,
        created_ms: row.try_get("created_ms")?,
        sources: Vec::new(),
    })
}

const SELECT_SOURCES: &str = "SELECT p.snapshot, p.source_no, p.tag, p.sync, p.reason, s.source, y.seq, y.record_hash, \
    y.set_root, y.set_count, y.ended_ms FROM snapshot_sources p JOIN sources s ON s.source_no = p.source_no \
    LEFT JOIN syncs y ON y.tenant = p.tenant AND y.sync = p.sync WHERE p.tenant = ? AND p.snapshot IN ({list})";

fn source(row: &AnyRow) -> Result<SnapshotSourceRow> {
    let sync: Option<String> = row.try_get("sync")?;
    let standing = match sync {
        None => SourceStanding::Missing(row.try_get("reason")?),
        Some(sync) => SourceStanding::Sealed(SealedSync {
            sync,
            seq: row.try_get("seq")?,
            record_hash: optional_bytes(row, "record_hash")?.unwrap_or_default(),
            set_root: optional_bytes(row, "set_root")?.unwrap_or_default(),
            set_count: count(row, "set_count")?,
            ended_ms: row.try_get("ended_ms")?,
        }),
    };
    Ok(SnapshotSourceRow {
        source: row.try_get("source")?,
        source_no: row.try_get("source_no")?,
        tag: SourceTag(bytes(row, "tag")?),
        standing,
    })
}

async fn with_sources(
    db: &Database,
    tenant: &str,
    mut snapshots: Vec<SnapshotRow>,
) -> Result<Vec<SnapshotRow>> {
    let mut connection = db.read(tenant).await?;
    let ids = snapshots.iter().map(|one| one.snapshot.as_str());
    let fixed = [tenant.into()];
    let rows = select_in(&mut connection, db.engine(), SELECT_SOURCES, &fixed, ids).await?;
    for row in &rows {
        let id: String = row.try_get("snapshot")?;
        let found = source(row)?;
        if let Some(snapshot) = snapshots.iter_mut().find(|one| one.snapshot == id) {
            snapshot.sources.push(found);
        }
    }
    for snapshot in &mut snapshots {
        snapshot.sources.sort_by_key(|source| source.tag);
    }
    Ok(snapshots)
}

/// Reads a snapshot.
///
/// # Errors
/// When the database fails.
pub async fn get(db: &Database, tenant: &str, id: &str) -> Result<Option<SnapshotRow>> {
    let row = sqlx::query(
        "SELECT snapshot, snapshot_root, grant_count, record_id, record_hash, created_ms FROM snapshots \
         WHERE tenant = $1 AND snapshot = $2",
    )
    .bind(tenant)
    .bind(id)
    .fetch_optional(db.read(tenant).await?.conn())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let mut found = with_sources(db, tenant, vec![snapshot(&row)?]).await?;
    Ok(found.pop())
}

/// A page of snapshots, newest first; `before` is the id of the last one seen.
///
/// # Errors
/// When the database fails.
pub async fn list(
    db: &Database,
    tenant: &str,
    before: &str,
    limit: i64,
) -> Result<Vec<SnapshotRow>> {
    let rows = sqlx::query(
        "SELECT snapshot, snapshot_root, grant_count, record_id, record_hash, created_ms FROM snapshots \
         WHERE tenant = $1 AND (CAST($2 AS TEXT) = '' OR snapshot < CAST($2 AS TEXT)) ORDER BY snapshot DESC LIMIT $3",
    )
    .bind(tenant)
    .bind(before)
    .bind(limit)
    .fetch_all(db.read(tenant).await?.conn())
    .await?;
    let snapshots = rows.iter().map(snapshot).collect::<Result<Vec<_>>>()?;
    with_sources(db, tenant, snapshots).await
}
