//! Decision rights.

use counterfoil_chassis::{
    WriteTx,
    db::{BulkValue, bulk_insert},
};
use sqlx::{AnyConnection, any::AnyRow};

use super::{From, row};
use crate::model::{
    ids::{PrincipalId, RightId, SourceId},
    right::{DecisionAction, Right, Scope},
};

fn read(row: &AnyRow) -> Result<Right, sqlx::Error> {
    let sources = row::list(row, "scope")?;
    Ok(Right {
        id: RightId::stored(row::text(row, "decision_right")?),
        grantee: PrincipalId::stored(row::text(row, "grantee")?),
        action: row::code(row, "action")?,
        scope: Scope::of(sources.into_iter().map(SourceId::stored).collect(), false),
        valid_from_ms: row::int(row, "valid_from_ms")?,
        valid_to_ms: row::int(row, "valid_to_ms")?,
        grantor: PrincipalId::stored(row::text(row, "grantor")?),
        tiers: row::list(row, "tiers")?,
        environments: row::list(row, "environments")?,
        proposed: row::flag(row, "proposed")?,
        revoked_at_ms: row::optional_int(row, "revoked_at_ms")?,
        record_hash: row::hash(row, "record_hash")?,
    })
}

pub(super) fn scope_column(scope: &Scope) -> String {
    match scope {
        Scope::Everywhere => String::new(),
        Scope::Sources(sources) => {
            let ids: Vec<&str> = sources.iter().map(SourceId::as_str).collect();
            ids.join(",")
        }
    }
}

/// Writes new rights of the transaction's tenant.
pub(crate) async fn insert(tx: &mut WriteTx, rights: &[Right]) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().to_owned();
    let columns = [
        "tenant",
        "decision_right",
        "grantee",
        "action",
        "scope",
        "valid_from_ms",
        "valid_to_ms",
        "grantor",
        "record_hash",
        "tiers",
        "environments",
        "proposed",
    ];
    let rows = rights.iter().map(|right| -> [BulkValue; 12] {
        [
            tenant.as_str().into(),
            right.id.as_str().into(),
            right.grantee.as_str().into(),
            (right.action as i32).into(),
            scope_column(&right.scope).into(),
            right.valid_from_ms.into(),
            right.valid_to_ms.into(),
            right.grantor.as_str().into(),
            right.record_hash.into(),
            right.tiers.join(",").into(),
            right.environments.join(",").into(),
            i32::from(right.proposed).into(),
        ]
    });
    bulk_insert(tx, "decision_rights", columns, "", rows).await?;
    Ok(())
}

/// Reads a right.
pub(crate) async fn get(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &RightId,
) -> Result<Option<Right>, sqlx::Error> {
    let sql = "SELECT * FROM decision_rights WHERE tenant = $1 AND decision_right = $2";
    row::by_id(connection, sql, (tenant, id.as_str()), read).await
}

/// Revokes a right.
pub(crate) async fn revoke(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &RightId,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE decision_rights SET revoked_at_ms = $1 \
         WHERE tenant = $2 AND decision_right = $3 AND revoked_at_ms IS NULL",
    )
    .bind(now_ms)
    .bind(tenant)
    .bind(id.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Lets a proposed right hold, by the record that granted it.
pub(crate) async fn approve(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &RightId,
    record_hash: [u8; 32],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE decision_rights SET proposed = 0, record_hash = $1 \
         WHERE tenant = $2 AND decision_right = $3 AND proposed = 1",
    )
    .bind(record_hash.to_vec())
    .bind(tenant)
    .bind(id.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// All rights of a grantee that hold throughout a time, oldest first.
pub(crate) async fn holding_throughout(
    connection: &mut AnyConnection,
    tenant: &str,
    grantee: &PrincipalId,
    (from_ms, to_ms): (i64, i64),
) -> Result<Vec<Right>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT * FROM decision_rights WHERE tenant = $1 AND grantee = $2 AND proposed = 0 AND revoked_at_ms IS NULL \
         AND valid_from_ms <= $3 AND valid_to_ms >= $4 ORDER BY decision_right LIMIT 1000",
    )
    .bind(tenant)
    .bind(grantee.as_str())
    .bind(from_ms)
    .bind(to_ms)
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}

/// Lists rights by id.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    tenant: &str,
    from: From<'_>,
) -> Result<Vec<Right>, sqlx::Error> {
    let sql = "SELECT * FROM decision_rights WHERE tenant = $1 AND decision_right > $2 ORDER BY decision_right LIMIT $3";
    row::page(connection, sql, (tenant, from), read).await
}

/// The rights of a grantee for an action that hold at a moment, oldest first.
pub(crate) async fn holding(
    connection: &mut AnyConnection,
    tenant: &str,
    grantee: &PrincipalId,
    action: DecisionAction,
    now_ms: i64,
) -> Result<Vec<Right>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT * FROM decision_rights WHERE tenant = $1 AND grantee = $2 AND action = $3 \
         AND proposed = 0 AND revoked_at_ms IS NULL AND valid_from_ms <= $4 AND valid_to_ms > $4 ORDER BY decision_right",
    )
    .bind(tenant)
    .bind(grantee.as_str())
    .bind(i64::from(action as i32))
    .bind(now_ms)
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}
