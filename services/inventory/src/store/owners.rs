//! Owners that were set here. They count from the source's next sync on.

use std::collections::HashMap;

use counterfoil_chassis::db::{Database, WriteTx};
use sqlx::Row;

use crate::{error::Result, model::facts::Id};

/// Sets the owner of "accounts/{account}" or "entitlements/{entitlement}".
///
/// # Errors
/// When the database refuses.
pub async fn set(
    tx: &mut WriteTx,
    object: &str,
    owner: &str,
    owner_key: &str,
    now_ms: i64,
) -> Result<()> {
    let tenant = tx.tenant().to_owned();
    sqlx::query(
        "INSERT INTO owners (tenant, object, owner, owner_key, set_ms) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (tenant, object) DO UPDATE SET owner = excluded.owner, owner_key = excluded.owner_key, \
         set_ms = excluded.set_ms",
    )
    .bind(tenant)
    .bind(object)
    .bind(owner)
    .bind(owner_key)
    .bind(now_ms)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Keys of all owners that were set, by object.
///
/// # Errors
/// When the database fails.
pub async fn all(db: &Database, tenant: &str) -> Result<HashMap<String, String>> {
    let rows = sqlx::query("SELECT object, owner_key FROM owners WHERE tenant = $1")
        .bind(tenant)
        .fetch_all(db.read(tenant).await?.conn())
        .await?;
    let pair = |row: &sqlx::any::AnyRow| Ok((row.try_get(0)?, row.try_get(1)?));
    rows.iter().map(pair).collect()
}

/// "accounts/{account}".
#[must_use]
pub fn account_object(account: &Id) -> String {
    format!("accounts/{}", uuid::Uuid::from_bytes(*account))
}

/// "entitlements/{entitlement}".
#[must_use]
pub fn entitlement_object(entitlement: &Id) -> String {
    format!("entitlements/{}", uuid::Uuid::from_bytes(*entitlement))
}
