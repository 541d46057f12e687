//! Principals.

use std::collections::HashMap;

use counterfoil_chassis::{
    WriteTx,
    db::{BulkValue, Engine, bulk_insert, select_in},
};
use sqlx::{AnyConnection, any::AnyRow};

use super::{From, row};
use crate::model::{
    ids::{OrganizationId, PrincipalId},
    principal::Principal,
};

pub(super) fn read(row: &AnyRow) -> Result<Principal, sqlx::Error> {
    Ok(Principal {
        id: PrincipalId::stored(row::text(row, "principal")?),
        kind: row::code(row, "kind")?,
        organization: OrganizationId::stored(row::text(row, "organization")?),
        organization_kind: row::code(row, "organization_kind")?,
        identity_key: row::text(row, "identity_key")?,
        roles: row::list(row, "roles")?,
        display_name: row::text(row, "display_name")?,
        ended_at_ms: row::optional_int(row, "ended_at_ms")?,
        record_hash: row::hash(row, "record_hash")?,
    })
}

/// Writes new principals of the transaction's tenant. None of their ids may be taken: look first, the tenant's lock is held.
pub(crate) async fn insert(
    tx: &mut WriteTx,
    principals: &[Principal],
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().to_owned();
    let columns = [
        "tenant",
        "principal",
        "kind",
        "organization",
        "organization_kind",
        "identity_key",
        "roles",
        "record_hash",
        "created_at_ms",
        "display_name",
    ];
    let rows = principals.iter().map(|principal| -> [BulkValue; 10] {
        [
            tenant.as_str().into(),
            principal.id.as_str().into(),
            (principal.kind as i32).into(),
            principal.organization.as_str().into(),
            (principal.organization_kind as i32).into(),
            principal.identity_key.as_str().into(),
            principal.roles.join(",").into(),
            principal.record_hash.into(),
            now_ms.into(),
            principal.display_name.as_str().into(),
        ]
    });
    bulk_insert(tx, "principals", columns, "", rows).await?;
    Ok(())
}

/// Reads a principal.
pub(crate) async fn get(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &PrincipalId,
) -> Result<Option<Principal>, sqlx::Error> {
    let sql = "SELECT * FROM principals WHERE tenant = $1 AND principal = $2";
    row::by_id(connection, sql, (tenant, id.as_str()), read).await
}

/// Reads principals by their ids; what is not there is left out.
pub(crate) async fn get_many(
    connection: &mut AnyConnection,
    engine: Engine,
    tenant: &str,
    ids: impl IntoIterator<Item = &PrincipalId>,
) -> Result<HashMap<PrincipalId, Principal>, sqlx::Error> {
    const SQL: &str = "SELECT * FROM principals WHERE tenant = ? AND principal IN ({list})";
    let ids = ids.into_iter().map(PrincipalId::as_str);
    let rows = select_in(connection, engine, SQL, &[tenant.into()], ids).await?;
    let found = rows.iter().map(read);
    found
        .map(|one| one.map(|one| (one.id.clone(), one)))
        .collect()
}

/// Lists principals by id.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    tenant: &str,
    from: From<'_>,
) -> Result<Vec<Principal>, sqlx::Error> {
    let sql =
        "SELECT * FROM principals WHERE tenant = $1 AND principal > $2 ORDER BY principal LIMIT $3";
    row::page(connection, sql, (tenant, from), read).await
}

/// Ends a principal.
pub(crate) async fn end(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &PrincipalId,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE principals SET ended_at_ms = $1 WHERE tenant = $2 AND principal = $3 AND ended_at_ms IS NULL")
        .bind(now_ms)
        .bind(tenant)
        .bind(id.as_str())
        .execute(connection)
        .await?;
    Ok(())
}
