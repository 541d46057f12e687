//! Legal holds.

use sqlx::{AnyConnection, any::AnyRow};

use super::{From, row};
use crate::model::{
    hold::{Hold, IN_FORCE_MAX, Release},
    ids::{HoldId, PrincipalId},
};

fn read(row: &AnyRow) -> Result<Hold, sqlx::Error> {
    let released_at_ms = row::optional_int(row, "released_at_ms")?;
    Ok(Hold {
        id: HoldId::stored(row::text(row, "legal_hold")?),
        retention_classes: row::list(row, "retention_classes")?,
        basis: row::text(row, "basis")?,
        reason_code: row::text(row, "reason_code")?,
        placed_by: PrincipalId::stored(row::text(row, "placed_by")?),
        placed_at_ms: row::int(row, "placed_at_ms")?,
        record_hash: row::hash(row, "record_hash")?,
        release: match released_at_ms {
            None => None,
            Some(at_ms) => Some(Release {
                by: PrincipalId::stored(row::text(row, "released_by")?),
                at_ms,
                reason_code: row::text(row, "release_code")?,
            }),
        },
    })
}

/// Writes a new hold.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    tenant: &str,
    one: &Hold,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO legal_holds (tenant, legal_hold, retention_classes, basis, reason_code, placed_by, placed_at_ms, \
         record_hash, released_by, release_code) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, '', '')",
    )
    .bind(tenant)
    .bind(one.id.as_str())
    .bind(one.retention_classes.join(","))
    .bind(&one.basis)
    .bind(&one.reason_code)
    .bind(one.placed_by.as_str())
    .bind(one.placed_at_ms)
    .bind(one.record_hash.to_vec())
    .execute(connection)
    .await?;
    Ok(())
}

/// Reads a hold.
pub(crate) async fn get(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &HoldId,
) -> Result<Option<Hold>, sqlx::Error> {
    let sql = "SELECT * FROM legal_holds WHERE tenant = $1 AND legal_hold = $2";
    row::by_id(connection, sql, (tenant, id.as_str()), read).await
}

/// Releases a hold.
pub(crate) async fn release(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &HoldId,
    release: &Release,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE legal_holds SET released_by = $1, released_at_ms = $2, release_code = $3 \
         WHERE tenant = $4 AND legal_hold = $5 AND released_at_ms IS NULL",
    )
    .bind(release.by.as_str())
    .bind(release.at_ms)
    .bind(&release.reason_code)
    .bind(tenant)
    .bind(id.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// All holds in force; there are never more than [`IN_FORCE_MAX`].
pub(crate) async fn in_force(
    connection: &mut AnyConnection,
    tenant: &str,
) -> Result<Vec<Hold>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT * FROM legal_holds WHERE tenant = $1 AND released_at_ms IS NULL ORDER BY legal_hold LIMIT $2",
    )
    .bind(tenant)
    .bind(i64::from(IN_FORCE_MAX))
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}

/// Lists holds by id.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    tenant: &str,
    from: From<'_>,
) -> Result<Vec<Hold>, sqlx::Error> {
    let sql = "SELECT * FROM legal_holds WHERE tenant = $1 AND legal_hold > $2 ORDER BY legal_hold LIMIT $3";
    row::page(connection, sql, (tenant, from), read).await
}
