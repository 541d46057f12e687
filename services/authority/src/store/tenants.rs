//! Tenants.

use sqlx::{AnyConnection, any::AnyRow};

use super::{From, row};
use crate::model::tenant::{Tenant, TenantLog, TenantState};

fn read(row: &AnyRow) -> Result<Tenant, sqlx::Error> {
    Ok(Tenant {
        id: row::text(row, "tenant")?,
        display_name: row::text(row, "display_name")?,
        kind: row::code(row, "kind")?,
        state: row::code(row, "state")?,
        log: TenantLog {
            origin: row::text(row, "log_origin")?,
            vkey: row::text(row, "log_vkey")?,
            registrar_vkey: row::text(row, "registrar_vkey")?,
        },
        correlation_salt: row::hash(row, "correlation_salt")?,
        created_at_ms: row::int(row, "created_at_ms")?,
        activation_record: sqlx::Row::try_get(row, "activation_record")?,
        exit_evidence: sqlx::Row::try_get(row, "exit_evidence_hash")?,
        stopped_itself: row::int(row, "stopped_itself")? == 1,
    })
}

/// Writes a new tenant; `creation_record` is the id of its R01.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    tenant: &Tenant,
    creation_record: &[u8; 16],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO tenants (tenant, log_origin, log_vkey, registrar_vkey, correlation_salt, creation_record, \
         created_at_ms, display_name, state, kind) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(&tenant.id)
    .bind(&tenant.log.origin)
    .bind(&tenant.log.vkey)
    .bind(&tenant.log.registrar_vkey)
    .bind(tenant.correlation_salt.to_vec())
    .bind(creation_record.to_vec())
    .bind(tenant.created_at_ms)
    .bind(&tenant.display_name)
    .bind(i64::from(tenant.state as i32))
    .bind(i64::from(tenant.kind as i32))
    .execute(connection)
    .await?;
    Ok(())
}

/// Reads a tenant.
pub(crate) async fn get(
    connection: &mut AnyConnection,
    tenant: &str,
) -> Result<Option<Tenant>, sqlx::Error> {
    let row = sqlx::query("SELECT * FROM tenants WHERE tenant = $1")
        .bind(tenant)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(read).transpose()
}

/// Lists tenants by id.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    from: From<'_>,
) -> Result<Vec<Tenant>, sqlx::Error> {
    let rows = sqlx::query("SELECT * FROM tenants WHERE tenant > $1 ORDER BY tenant LIMIT $2")
        .bind(from.after)
        .bind(from.limit)
        .fetch_all(connection)
        .await?;
    rows.iter().map(read).collect()
}

/// Moves a tenant to another state; `record` is the id of its R01, kept for the activation. `by_itself`: somebody of its own does.
pub(crate) async fn change(
    connection: &mut AnyConnection,
    tenant: &str,
    (to, by_itself): (TenantState, bool),
    record: &[u8; 16],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE tenants SET state = $1, activation_record = CASE WHEN activation_record IS NULL THEN $2 \
         ELSE activation_record END, exit_evidence_hash = NULL, stopped_itself = $3 WHERE tenant = $4",
    )
    .bind(i64::from(to as i32))
    .bind(record.to_vec())
    .bind(i64::from(by_itself && to == TenantState::Suspended))
    .bind(tenant)
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes the newest record of evidence that was taken away while the tenant leaves.
pub(crate) async fn take_evidence(
    connection: &mut AnyConnection,
    tenant: &str,
    record_hash: &[u8; 32],
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE tenants SET exit_evidence_hash = $1 WHERE tenant = $2")
        .bind(record_hash.to_vec())
        .bind(tenant)
        .execute(connection)
        .await?;
    Ok(())
}
