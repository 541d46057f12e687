//! Sources.

use counterfoil_chassis::db::{Database, WriteTx};
use counterfoil_evidence::leaf::SourceTag;
use sqlx::{Row, any::AnyRow};

use super::bytes;
use crate::error::Result;

/// A source as stored, with its newest syncs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRow {
    /// Number in all other tables.
    pub source_no: i64,
    /// Whose.
    pub tenant: String,
    /// Id.
    pub source: String,
    /// Prefix of its grant keys.
    pub tag: SourceTag,
    /// Kind of its connector.
    pub kind: String,
    /// Settings of its connector.
    pub config_json: String,
    /// Who reads.
    pub reader_principal: String,
    /// Who writes; empty when read-only.
    pub writer_principal: String,
    /// Id of its SourceRegistered record.
    pub record_id: Vec<u8>,
    /// Name shown to people.
    pub display_name: String,
    /// Environment; empty: "default".
    pub environment: String,
    /// Tier; empty: none.
    pub tier: String,
    /// The COMPLETE sync that is the inventory; 0 = none.
    pub current_seq: i64,
    /// Its id.
    pub current_sync: Option<String>,
    /// When reading ended in the current sync.
    pub current_ended_ms: Option<i64>,
    /// Newest sync of any state.
    pub last_attempted_sync: Option<String>,
}

/// A source to be registered.
#[derive(Debug, Clone)]
pub struct NewSource {
    /// Id.
    pub source: String,
    /// Prefix of its grant keys.
    pub tag: SourceTag,
    /// Kind of its connector.
    pub kind: String,
    /// Settings of its connector.
    pub config_json: String,
    /// Who reads.
    pub reader_principal: String,
    /// Who writes; empty when read-only.
    pub writer_principal: String,
    /// Name shown to people.
    pub display_name: String,
    /// Environment; empty: "default".
    pub environment: String,
    /// Tier; empty: none.
    pub tier: String,
}

macro_rules! select_source {
    ($rest:literal) => {
        concat!(
            "SELECT s.source_no, s.tenant, s.source, s.tag, s.kind, s.config_json, s.reader_principal, \
             s.writer_principal, s.record_id, s.display_name, s.environment, s.tier, s.current_seq, s.current_sync, \
             c.ended_ms AS current_ended_ms, \
             COALESCE((SELECT w.sync FROM syncs w WHERE w.source_no = s.source_no AND w.state = 1), \
             (SELECT a.sync FROM syncs a WHERE a.source_no = s.source_no AND a.seq IS NOT NULL ORDER BY a.seq DESC LIMIT 1)) \
             AS last_attempted_sync \
             FROM sources s LEFT JOIN syncs c ON c.tenant = s.tenant AND c.sync = s.current_sync ",
            $rest
        )
    };
}

fn source(row: &AnyRow) -> Result<SourceRow> {
    Ok(SourceRow {
        source_no: row.try_get("source_no")?,
        tenant: row.try_get("tenant")?,
        source: row.try_get("source")?,
        tag: SourceTag(bytes(row, "tag")?),
        kind: row.try_get("kind")?,
        config_json: row.try_get("config_json")?,
        reader_principal: row.try_get("reader_principal")?,
        writer_principal: row.try_get("writer_principal")?,
        record_id: row.try_get("record_id")?,
        display_name: row.try_get("display_name")?,
        environment: row.try_get("environment")?,
        tier: row.try_get("tier")?,
        current_seq: row.try_get("current_seq")?,
        current_sync: row.try_get("current_sync")?,
        current_ended_ms: row.try_get("current_ended_ms")?,
        last_attempted_sync: row.try_get("last_attempted_sync")?,
    })
}

/// Registers a source of the transaction's tenant.
///
/// # Errors
/// When the database refuses: also when the id is taken.
pub async fn insert(
    tx: &mut WriteTx,
    new: &NewSource,
    record_id: &[u8; 16],
    now_ms: i64,
) -> Result<i64> {
    let tenant = tx.tenant().to_owned();
    let row = sqlx::query(
        "INSERT INTO sources (tenant, source, tag, kind, config_json, reader_principal, writer_principal, record_id, \
         created_ms, display_name, environment, tier) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING source_no",
    )
    .bind(tenant)
    .bind(&new.source)
    .bind(new.tag.0.to_vec())
    .bind(&new.kind)
    .bind(&new.config_json)
    .bind(&new.reader_principal)
    .bind(&new.writer_principal)
    .bind(record_id.to_vec())
    .bind(now_ms)
    .bind(&new.display_name)
    .bind(&new.environment)
    .bind(&new.tier)
    .fetch_one(tx.conn())
    .await?;
    Ok(row.try_get(0)?)
}

/// Says anew where a source of the tenant lies.
///
/// # Errors
/// When the database fails.
pub async fn classify(tx: &mut WriteTx, source: &str, environment: &str, tier: &str) -> Result<()> {
    let tenant = tx.tenant().to_owned();
    sqlx::query("UPDATE sources SET environment = $1, tier = $2 WHERE tenant = $3 AND source = $4")
        .bind(environment)
        .bind(tier)
        .bind(tenant)
        .bind(source)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Whether an id is taken.
///
/// # Errors
/// When the database fails.
pub async fn exists(tx: &mut WriteTx, source: &str) -> Result<bool> {
    let tenant = tx.tenant().to_owned();
    let row = sqlx::query("SELECT source_no FROM sources WHERE tenant = $1 AND source = $2")
        .bind(tenant)
        .bind(source)
        .fetch_optional(tx.conn())
        .await?;
    Ok(row.is_some())
}

/// Reads a source.
///
/// # Errors
/// When the database fails.
pub async fn get(db: &Database, tenant: &str, id: &str) -> Result<Option<SourceRow>> {
    let row = sqlx::query(select_source!("WHERE s.tenant = $1 AND s.source = $2"))
        .bind(tenant)
        .bind(id)
        .fetch_optional(db.read(tenant).await?.conn())
        .await?;
    row.as_ref().map(source).transpose()
}

/// The same inside of a transaction, of its tenant.
///
/// # Errors
/// When the database fails.
pub async fn get_in(tx: &mut WriteTx, id: &str) -> Result<Option<SourceRow>> {
    let tenant = tx.tenant().to_owned();
    let row = sqlx::query(select_source!("WHERE s.tenant = $1 AND s.source = $2"))
        .bind(tenant)
        .bind(id)
        .fetch_optional(tx.conn())
        .await?;
    row.as_ref().map(source).transpose()
}

/// Reads a source by its number.
///
/// # Errors
/// When the database fails.
pub async fn by_number(db: &Database, tenant: &str, source_no: i64) -> Result<Option<SourceRow>> {
    let row = sqlx::query(select_source!("WHERE s.source_no = $1"))
        .bind(source_no)
        .fetch_optional(db.read(tenant).await?.conn())
        .await?;
    row.as_ref().map(source).transpose()
}

/// The same inside of a transaction.
///
/// # Errors
/// When the database fails.
pub async fn by_number_in(tx: &mut WriteTx, source_no: i64) -> Result<Option<SourceRow>> {
    let row = sqlx::query(select_source!("WHERE s.source_no = $1"))
        .bind(source_no)
        .fetch_optional(tx.conn())
        .await?;
    row.as_ref().map(source).transpose()
}

/// A page of sources, ascending by id.
///
/// # Errors
/// When the database fails.
pub async fn list(db: &Database, tenant: &str, after: &str, limit: i64) -> Result<Vec<SourceRow>> {
    let rows = sqlx::query(select_source!(
        "WHERE s.tenant = $1 AND s.source > $2 ORDER BY s.source LIMIT $3"
    ))
    .bind(tenant)
    .bind(after)
    .bind(limit)
    .fetch_all(db.read(tenant).await?.conn())
    .await?;
    rows.iter().map(source).collect()
}

/// All sources of a tenant in the order of their grant keys.
///
/// # Errors
/// When the database fails.
pub async fn all_by_tag(db: &Database, tenant: &str) -> Result<Vec<SourceRow>> {
    let rows = sqlx::query(select_source!("WHERE s.tenant = $1 ORDER BY s.tag"))
        .bind(tenant)
        .fetch_all(db.read(tenant).await?.conn())
        .await?;
    rows.iter().map(source).collect()
}

/// The same inside of a transaction, where it cannot change.
///
/// # Errors
/// When the database fails.
pub async fn all_by_tag_in(tx: &mut WriteTx) -> Result<Vec<SourceRow>> {
    let tenant = tx.tenant().to_owned();
    let rows = sqlx::query(select_source!("WHERE s.tenant = $1 ORDER BY s.tag"))
        .bind(tenant)
        .fetch_all(tx.conn())
        .await?;
    rows.iter().map(source).collect()
}
