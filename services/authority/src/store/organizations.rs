//! Organisations.

use std::collections::HashMap;

use counterfoil_chassis::db::{Engine, select_in};
use sqlx::{AnyConnection, any::AnyRow};

use super::{From, row};
use crate::model::{ids::OrganizationId, principal::Organization};

fn read(row: &AnyRow) -> Result<Organization, sqlx::Error> {
    Ok(Organization {
        id: OrganizationId::stored(row::text(row, "organization")?),
        kind: row::code(row, "kind")?,
        display_name: row::text(row, "display_name")?,
    })
}

/// Writes a new organisation. False: the id is taken.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    tenant: &str,
    organization: &Organization,
    now_ms: i64,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO organizations (tenant, organization, kind, created_at_ms, display_name) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(tenant)
    .bind(organization.id.as_str())
    .bind(i64::from(organization.kind as i32))
    .bind(now_ms)
    .bind(&organization.display_name)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Reads organisations by their ids; what is not there is left out.
pub(crate) async fn get_many(
    connection: &mut AnyConnection,
    engine: Engine,
    tenant: &str,
    ids: impl IntoIterator<Item = &OrganizationId>,
) -> Result<HashMap<OrganizationId, Organization>, sqlx::Error> {
    const SQL: &str = "SELECT * FROM organizations WHERE tenant = ? AND organization IN ({list})";
    let ids = ids.into_iter().map(OrganizationId::as_str);
    let rows = select_in(connection, engine, SQL, &[tenant.into()], ids).await?;
    let found = rows.iter().map(read);
    found
        .map(|one| one.map(|one| (one.id.clone(), one)))
        .collect()
}

/// Lists organisations by id.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    tenant: &str,
    from: From<'_>,
) -> Result<Vec<Organization>, sqlx::Error> {
    let sql = "SELECT * FROM organizations WHERE tenant = $1 AND organization > $2 ORDER BY organization LIMIT $3";
    row::page(connection, sql, (tenant, from), read).await
}
