//! Policy bundles.

use prost::Message;
use sqlx::AnyConnection;

use super::row;
use crate::model::policy::{self, Bundle};

/// The newest bundle.
pub(crate) async fn latest(
    connection: &mut AnyConnection,
    tenant: &str,
) -> Result<Option<Bundle>, sqlx::Error> {
    let row = sqlx::query("SELECT * FROM policies WHERE tenant = $1 ORDER BY version DESC LIMIT 1")
        .bind(tenant)
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let rules = policy::decode(&row::bytes(&row, "rules")?)
        .ok_or_else(|| row::damaged("rules", "are no canonical rules"))?;
    if policy::bundle_hash(&rules) != row::hash(&row, "bundle_hash")? {
        return Err(row::damaged("bundle_hash", "is not the hash of the rules"));
    }
    Ok(Some(Bundle {
        version: u64::try_from(row::int(&row, "version")?).unwrap_or(0),
        rules,
        effective_from_ms: row::int(&row, "effective_from_ms")?,
        record_hash: row::hash(&row, "record_hash")?,
    }))
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
