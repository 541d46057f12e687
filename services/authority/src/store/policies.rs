//! Policy bundles.

use prost::Message;
use sqlx::{AnyConnection, any::AnyRow};

use super::row;
use crate::model::policy::{self, Bundle};

fn read(row: &AnyRow) -> Result<Bundle, sqlx::Error> {
    let rules = policy::decode(&row::bytes(row, "rules")?)
        .ok_or_else(|| row::damaged("rules", "are no canonical rules"))?;
    if policy::bundle_hash(&rules) != row::hash(row, "bundle_hash")? {
        return Err(row::damaged("bundle_hash", "is not the hash of the rules"));
    }
    Ok(Bundle {
        version: u64::try_from(row::int(row, "version")?).unwrap_or(0),
        rules,
        effective_from_ms: row::int(row, "effective_from_ms")?,
        record_hash: row::hash(row, "record_hash")?,
    })
}

/// The bundle in force at a moment: of those that had begun, the one published last.
pub(crate) async fn in_force(
    connection: &mut AnyConnection,
    tenant: &str,
    at_ms: i64,
) -> Result<Option<Bundle>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT * FROM policies WHERE tenant = $1 AND effective_from_ms <= $2 ORDER BY version DESC LIMIT 1",
    )
    .bind(tenant)
    .bind(at_ms)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(read).transpose()
}

/// Versions of the bundles that begin later than this, ascending.
pub(crate) async fn waiting(
    connection: &mut AnyConnection,
    tenant: &str,
    at_ms: i64,
) -> Result<Vec<u64>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT version FROM policies WHERE tenant = $1 AND effective_from_ms > $2 ORDER BY version",
    )
    .bind(tenant)
    .bind(at_ms)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| Ok(u64::try_from(row::int(row, "version")?).unwrap_or(0)))
        .collect()
}

/// Version of the bundle published last; 0: none was.
pub(crate) async fn last_version(
    connection: &mut AnyConnection,
    tenant: &str,
) -> Result<u64, sqlx::Error> {
    let row = sqlx::query("SELECT MAX(version) AS version FROM policies WHERE tenant = $1")
        .bind(tenant)
        .fetch_one(connection)
        .await?;
    let version = row::optional_int(&row, "version")?.unwrap_or(0);
    Ok(u64::try_from(version).unwrap_or(0))
}

/// Bundles after a version, ascending.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    tenant: &str,
    after: i64,
    limit: i64,
) -> Result<Vec<Bundle>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT * FROM policies WHERE tenant = $1 AND version > $2 ORDER BY version LIMIT $3",
    )
    .bind(tenant)
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}

/// Adds a bundle.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    tenant: &str,
    bundle: &Bundle,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO policies (tenant, version, rules, bundle_hash, effective_from_ms, record_hash) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(tenant)
    .bind(i64::try_from(bundle.version).unwrap_or(i64::MAX))
    .bind(bundle.rules.encode_to_vec())
    .bind(bundle.hash().to_vec())
    .bind(bundle.effective_from_ms)
    .bind(bundle.record_hash.to_vec())
    .execute(connection)
    .await?;
    Ok(())
}
