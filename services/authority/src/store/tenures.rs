//! Business units and their tenures.

use sqlx::{AnyConnection, any::AnyRow};

use super::{From, row};
use crate::model::{
    ids::{BusinessUnitId, PrincipalId},
    tenure::Tenure,
};

fn read(row: &AnyRow) -> Result<Tenure, sqlx::Error> {
    let deputy = row::text(row, "deputy")?;
    Ok(Tenure {
        business_unit: BusinessUnitId::stored(row::text(row, "business_unit")?),
        from_ms: row::int(row, "from_ms")?,
        owner: PrincipalId::stored(row::text(row, "owner")?),
        deputy: (!deputy.is_empty()).then(|| PrincipalId::stored(deputy)),
        display_name: row::text(row, "display_name")?,
        record_hash: row::hash(row, "record_hash")?,
    })
}

/// Adds a tenure, and the unit itself when it is its first.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    tenant: &str,
    tenure: &Tenure,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO business_units (tenant, business_unit, position) VALUES ($1, $2, \
         (SELECT COALESCE(MAX(position), 0) + 1 FROM business_units WHERE tenant = $1)) \
         ON CONFLICT (tenant, business_unit) DO NOTHING",
    )
    .bind(tenant)
    .bind(tenure.business_unit.as_str())
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO business_unit_tenures (tenant, business_unit, from_ms, owner, deputy, display_name, record_hash) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(tenant)
    .bind(tenure.business_unit.as_str())
    .bind(tenure.from_ms)
    .bind(tenure.owner.as_str())
    .bind(tenure.deputy.as_ref().map_or("", PrincipalId::as_str))
    .bind(&tenure.display_name)
    .bind(tenure.record_hash.to_vec())
    .execute(connection)
    .await?;
    Ok(())
}

/// The tenure of a unit that holds at a moment; `i64::MAX`: the present one.
pub(crate) async fn at(
    connection: &mut AnyConnection,
    tenant: &str,
    business_unit: &BusinessUnitId,
    at_ms: i64,
) -> Result<Option<Tenure>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT * FROM business_unit_tenures WHERE tenant = $1 AND business_unit = $2 AND from_ms <= $3 \
         ORDER BY from_ms DESC LIMIT 1",
    )
    .bind(tenant)
    .bind(business_unit.as_str())
    .bind(at_ms)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(read).transpose()
}

/// Lists units by id, each with its present tenure.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    tenant: &str,
    from: From<'_>,
) -> Result<Vec<Tenure>, sqlx::Error> {
    let sql = "SELECT t.* FROM business_unit_tenures t WHERE t.tenant = $1 AND t.business_unit > $2 \
         AND t.from_ms = (SELECT MAX(n.from_ms) FROM business_unit_tenures n \
             WHERE n.tenant = t.tenant AND n.business_unit = t.business_unit) \
         ORDER BY t.business_unit LIMIT $3";
    row::page(connection, sql, (tenant, from), read).await
}

/// The present tenure of the tenant's first unit.
pub(crate) async fn first(
    connection: &mut AnyConnection,
    tenant: &str,
) -> Result<Option<Tenure>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT t.* FROM business_unit_tenures t \
         JOIN business_units u ON u.tenant = t.tenant AND u.business_unit = t.business_unit \
         WHERE t.tenant = $1 ORDER BY u.position, t.from_ms DESC LIMIT 1",
    )
    .bind(tenant)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(read).transpose()
}

/// Whether a unit has nobody who stands in for its present owner.
pub(crate) async fn without_deputy(
    connection: &mut AnyConnection,
    tenant: &str,
) -> Result<bool, sqlx::Error> {
    let row = sqlx::query(
        "SELECT t.business_unit FROM business_unit_tenures t WHERE t.tenant = $1 AND t.deputy = '' \
         AND t.from_ms = (SELECT MAX(n.from_ms) FROM business_unit_tenures n \
             WHERE n.tenant = t.tenant AND n.business_unit = t.business_unit) LIMIT 1",
    )
    .bind(tenant)
    .fetch_optional(connection)
    .await?;
    Ok(row.is_some())
}

/// A unit that this principal owns now or stands in for, if there is one.
pub(crate) async fn answered_by(
    connection: &mut AnyConnection,
    tenant: &str,
    owner: &PrincipalId,
) -> Result<Option<BusinessUnitId>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT t.business_unit FROM business_unit_tenures t WHERE t.tenant = $1 AND (t.owner = $2 OR t.deputy = $2) \
         AND t.from_ms = (SELECT MAX(n.from_ms) FROM business_unit_tenures n \
             WHERE n.tenant = t.tenant AND n.business_unit = t.business_unit) \
         ORDER BY t.business_unit LIMIT 1",
    )
    .bind(tenant)
    .bind(owner.as_str())
    .fetch_optional(connection)
    .await?;
    let unit = row
        .map(|row| row::text(&row, "business_unit"))
        .transpose()?;
    Ok(unit.map(BusinessUnitId::stored))
}
