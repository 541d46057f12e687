//! All SQL of this service. The logs' own tables are the engine's.
//!
//! Producers and schemas belong to the deployment, not to a tenant; statements name theirs.

#[cfg(test)]
pub(crate) mod conformance;
pub(crate) mod scrubs;

use std::collections::BTreeSet;

use counterfoil_chassis::db::{Database, Migrations, bulk_insert};
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::model::producer::Producer;

/// The tables of this service.
pub(crate) const MIGRATIONS: Migrations =
    counterfoil_chassis::migrations!("ledger", "0001_ledger.sql", "0002_scrubs.sql");

/// The lock of what belongs to no tenant.
const DEPLOYMENT: &str = "";

/// Keeps a producer; answers the one that has the key id, which may be another.
pub(crate) async fn insert_producer(
    db: &Database,
    producer: &Producer,
    now_ms: i64,
) -> Result<Producer, sqlx::Error> {
    let mut tx = db.write_tx(DEPLOYMENT).await?;
    sqlx::query(
        "INSERT INTO producers (key_id, principal, stream, vkey, registered_at_ms) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (key_id) DO NOTHING",
    )
    .bind(producer.key_id.as_str())
    .bind(producer.principal.as_str())
    .bind(producer.stream.as_str())
    .bind(producer.vkey.as_str())
    .bind(now_ms)
    .execute(tx.conn())
    .await?;
    let row =
        sqlx::query("SELECT key_id, principal, stream, vkey FROM producers WHERE key_id = $1")
            .bind(producer.key_id.as_str())
            .fetch_one(tx.conn())
            .await?;
    let kept = read_producer(&row)?;
    // If we crash here: the service registers itself again when it gets no answer.
    tx.commit().await?;
    Ok(kept)
}

/// All producers, in order of registration.
pub(crate) async fn producers(db: &Database) -> Result<Vec<Producer>, sqlx::Error> {
    sqlx::query(
        "SELECT key_id, principal, stream, vkey FROM producers ORDER BY registered_at_ms, key_id",
    )
    .fetch_all(db.read(DEPLOYMENT).await?.conn())
    .await?
    .iter()
    .map(read_producer)
    .collect()
}

fn read_producer(row: &AnyRow) -> Result<Producer, sqlx::Error> {
    Ok(Producer {
        key_id: row.try_get("key_id")?,
        principal: row.try_get("principal")?,
        stream: row.try_get("stream")?,
        vkey: row.try_get("vkey")?,
    })
}

/// Notes that a tenant's log holds these statements.
pub(crate) async fn insert_statements(
    db: &Database,
    tenant: &str,
    statements: &[String],
) -> Result<(), sqlx::Error> {
    let mut tx = db.write_tx(tenant).await?;
    let rows = statements
        .iter()
        .map(|statement| [tenant.into(), statement.as_str().into()]);
    let columns = ["tenant", "statement"];
    bulk_insert(
        &mut tx,
        "statements",
        columns,
        "ON CONFLICT DO NOTHING",
        rows,
    )
    .await?;
    // If we crash here: the log holds them and this table does not know; the next look finds them in the log.
    tx.commit().await
}

/// The statements that a tenant's log is known to hold.
pub(crate) async fn statements(
    db: &Database,
    tenant: &str,
) -> Result<BTreeSet<String>, sqlx::Error> {
    sqlx::query("SELECT statement FROM statements WHERE tenant = $1")
        .bind(tenant)
        .fetch_all(db.read(tenant).await?.conn())
        .await?
        .iter()
        .map(|row| row.try_get("statement"))
        .collect()
}

/// The tenants whose logs are known to hold a statement.
pub(crate) async fn tenants_told(
    db: &Database,
    statement: &str,
) -> Result<BTreeSet<String>, sqlx::Error> {
    sqlx::query("SELECT tenant FROM statements WHERE statement = $1")
        .bind(statement)
        .fetch_all(db.read_everything("who was told a statement").await?.conn())
        .await?
        .iter()
        .map(|row| row.try_get("tenant"))
        .collect()
}

/// Keeps a descriptor set.
pub(crate) async fn insert_schema(
    db: &Database,
    schema_hash: &[u8; 32],
    descriptor_set: &[u8],
) -> Result<(), sqlx::Error> {
    let mut tx = db.write_tx(DEPLOYMENT).await?;
    sqlx::query(
        "INSERT INTO schemas (schema_hash, descriptor_set) VALUES ($1, $2) \
         ON CONFLICT (schema_hash) DO NOTHING",
    )
    .bind(schema_hash.as_slice())
    .bind(descriptor_set)
    .execute(tx.conn())
    .await?;
    tx.commit().await
}

/// A descriptor set.
pub(crate) async fn schema(
    db: &Database,
    schema_hash: &[u8],
) -> Result<Option<Vec<u8>>, sqlx::Error> {
    sqlx::query("SELECT descriptor_set FROM schemas WHERE schema_hash = $1")
        .bind(schema_hash)
        .fetch_optional(db.read(DEPLOYMENT).await?.conn())
        .await?
        .map(|row| row.try_get("descriptor_set"))
        .transpose()
}
