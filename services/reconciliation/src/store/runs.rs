//! Runs. Written once, never changed.

use counterfoil_chassis::db::{Database, WriteTx};
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{Result, StoreError, count, digest_set, stored};
use crate::model::entities::Run;

/// Writes a run.
pub(crate) async fn insert(tx: &mut WriteTx, run: &Run) -> Result<()> {
    let tenant = tx.tenant().to_owned();
    let situations: Vec<String> = run
        .situations
        .iter()
        .map(|(number, count)| format!("{number}:{count}"))
        .collect();
    sqlx::query(
        "INSERT INTO recon_runs (tenant, recon_run, snapshot, record_id, record_hash, situations, observed_count, \
         authorized_count, findings_count, findings_root, gap_count, created_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(tenant)
    .bind(&run.id)
    .bind(&run.snapshot)
    .bind(&run.record_id)
    .bind(run.record_hash.to_vec())
    .bind(situations.join(","))
    .bind(stored(run.observed_count))
    .bind(stored(run.authorized_count))
    .bind(stored(run.findings_count))
    .bind(run.findings_root.to_vec())
    .bind(stored(run.gap_count))
    .bind(run.created_ms)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Reads a run.
pub(crate) async fn get(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &str,
) -> Result<Option<Run>> {
    let row = sqlx::query("SELECT * FROM recon_runs WHERE tenant = $1 AND recon_run = $2")
        .bind(tenant)
        .bind(id)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(run).transpose()
}

/// Runs before `before`, newest first.
pub(crate) async fn list(
    db: &Database,
    tenant: &str,
    before: Option<&str>,
    limit: i64,
) -> Result<Vec<Run>> {
    // Ids are hexadecimal digits and hyphens in fixed places: they sort by time under every collation.
    let rows = sqlx::query(
        "SELECT * FROM recon_runs WHERE tenant = $1 AND ($2 = '' OR recon_run < $2) \
         ORDER BY recon_run DESC LIMIT $3",
    )
    .bind(tenant)
    .bind(before.unwrap_or_default())
    .bind(limit)
    .fetch_all(db.read(tenant).await?.conn())
    .await?;
    rows.iter().map(run).collect()
}

fn run(row: &AnyRow) -> Result<Run> {
    let text: String = row.try_get("situations")?;
    let situations = text
        .split(',')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (number, count) = part.split_once(':')?;
            Some((number.parse().ok()?, count.parse().ok()?))
        })
        .collect::<Option<_>>()
        .ok_or(StoreError::Damaged("situations"))?;
    Ok(Run {
        id: row.try_get("recon_run")?,
        snapshot: row.try_get("snapshot")?,
        record_id: row.try_get("record_id")?,
        record_hash: digest_set(row, "record_hash")?,
        situations,
        observed_count: count(row, "observed_count")?,
        authorized_count: count(row, "authorized_count")?,
        findings_count: count(row, "findings_count")?,
        findings_root: digest_set(row, "findings_root")?,
        gap_count: count(row, "gap_count")?,
        created_ms: row.try_get("created_ms")?,
    })
}
