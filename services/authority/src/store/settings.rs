//! Escalation paths and retention policies.

use sqlx::AnyConnection;

use super::row;
use crate::model::settings::{Setting, SettingKind};

/// The newest setting of a kind.
pub(crate) async fn latest(
    connection: &mut AnyConnection,
    tenant: &str,
    kind: SettingKind,
) -> Result<Option<Setting>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT * FROM settings WHERE tenant = $1 AND kind = $2 ORDER BY version DESC LIMIT 1",
    )
    .bind(tenant)
    .bind(kind.name())
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Setting {
        version: row::int(&row, "version")?,
        content: row::bytes(&row, "content")?,
        record_hash: row::hash(&row, "record_hash")?,
    }))
}

/// Adds a setting.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    tenant: &str,
    kind: SettingKind,
    setting: &Setting,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO settings (tenant, kind, version, content, set_at_ms, record_hash) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(tenant)
    .bind(kind.name())
    .bind(setting.version)
    .bind(&setting.content)
    .bind(now_ms)
    .bind(setting.record_hash.to_vec())
    .execute(connection)
    .await?;
    Ok(())
}
