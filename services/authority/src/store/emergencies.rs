//! Access in an emergency.

use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{From, rights, row};
use crate::model::{
    emergency::{Approval, Emergency, Stage},
    ids::{EmergencyId, PrincipalId, SourceId},
    right::Scope,
};

/// Most accesses that one principal is asked about, or one run of the job looks at.
const MANY: i64 = 1_000;

fn read(row: &AnyRow) -> Result<Emergency, sqlx::Error> {
    let stage = match row::int(row, "state")? {
        1 => Stage::Requested,
        2 => Stage::Approved,
        3 => Stage::Logged,
        _ => return Err(row::damaged("state", "is no known stage")),
    };
    let sources = row::list(row, "scope")?;
    let reviewer = row::text(row, "reviewer")?;
    Ok(Emergency {
        id: EmergencyId::stored(row::text(row, "emergency")?),
        stage,
        requester: PrincipalId::stored(row::text(row, "requester")?),
        roles: row::list(row, "roles")?,
        actions: row::actions(row)?,
        scope: Scope::of(sources.into_iter().map(SourceId::stored).collect(), false),
        duration_ms: row::int(row, "duration_ms")?,
        requested_at_ms: row::int(row, "requested_at_ms")?,
        request_hash: row::hash(row, "request_hash")?,
        approval: approval(row)?,
        ended_at_ms: row::optional_int(row, "ended_at_ms")?,
        reviewer: (!reviewer.is_empty()).then(|| PrincipalId::stored(reviewer)),
    })
}

fn approval(row: &AnyRow) -> Result<Option<Approval>, sqlx::Error> {
    let Some(record_id) = row.try_get::<Option<Vec<u8>>, _>("activation_id")? else {
        return Ok(None);
    };
    Ok(Some(Approval {
        approver: PrincipalId::stored(row::text(row, "approver")?),
        valid_from_ms: row::int(row, "valid_from_ms")?,
        valid_to_ms: row::int(row, "valid_to_ms")?,
        record_id,
        record_hash: row::hash(row, "activation_hash")?,
    }))
}

/// Writes a new request.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    tenant: &str,
    one: &Emergency,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO emergencies (tenant, emergency, state, requester, roles, actions, scope, duration_ms, \
         requested_at_ms, request_hash, approver, reviewer, missed) \
         VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8, $9, '', '', 0)",
    )
    .bind(tenant)
    .bind(one.id.as_str())
    .bind(one.requester.as_str())
    .bind(one.roles.join(","))
    .bind(row::actions_text(&one.actions))
    .bind(rights::scope_column(&one.scope))
    .bind(one.duration_ms)
    .bind(one.requested_at_ms)
    .bind(one.request_hash.to_vec())
    .execute(connection)
    .await?;
    Ok(())
}

/// Reads an access.
pub(crate) async fn get(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &EmergencyId,
) -> Result<Option<Emergency>, sqlx::Error> {
    let sql = "SELECT * FROM emergencies WHERE tenant = $1 AND emergency = $2";
    row::by_id(connection, sql, (tenant, id.as_str()), read).await
}

/// Notes who let an access begin.
pub(crate) async fn approve(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &EmergencyId,
    approval: &Approval,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE emergencies SET state = 2, approver = $1, valid_from_ms = $2, valid_to_ms = $3, activation_id = $4, \
         activation_hash = $5 WHERE tenant = $6 AND emergency = $7 AND state = 1",
    )
    .bind(approval.approver.as_str())
    .bind(approval.valid_from_ms)
    .bind(approval.valid_to_ms)
    .bind(&approval.record_id)
    .bind(approval.record_hash.to_vec())
    .bind(tenant)
    .bind(id.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that the log has the approval of an access.
pub(crate) async fn logged(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &EmergencyId,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE emergencies SET state = 3 WHERE tenant = $1 AND emergency = $2 AND state = 2",
    )
    .bind(tenant)
    .bind(id.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends an access early.
pub(crate) async fn end(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &EmergencyId,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE emergencies SET ended_at_ms = $1 WHERE tenant = $2 AND emergency = $3")
        .bind(now_ms)
        .bind(tenant)
        .bind(id.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes who reviewed an access.
pub(crate) async fn review(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &EmergencyId,
    reviewer: &PrincipalId,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE emergencies SET reviewer = $1 WHERE tenant = $2 AND emergency = $3")
        .bind(reviewer.as_str())
        .bind(tenant)
        .bind(id.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes that it is on record that the review of an access was missed. False: it was before.
pub(crate) async fn miss(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &EmergencyId,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE emergencies SET missed = 1 WHERE tenant = $1 AND emergency = $2 AND missed = 0 AND reviewer = ''",
    )
    .bind(tenant)
    .bind(id.as_str())
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The accesses of somebody that the log has and that are not over at a moment.
pub(crate) async fn of_requester(
    connection: &mut AnyConnection,
    tenant: &str,
    requester: &PrincipalId,
    now_ms: i64,
) -> Result<Vec<Emergency>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT * FROM emergencies WHERE tenant = $1 AND requester = $2 AND state = 3 AND valid_to_ms > $3 \
         AND ended_at_ms IS NULL ORDER BY emergency LIMIT $4",
    )
    .bind(tenant)
    .bind(requester.as_str())
    .bind(now_ms)
    .bind(MANY)
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}

/// Lists accesses by id.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    tenant: &str,
    from: From<'_>,
) -> Result<Vec<Emergency>, sqlx::Error> {
    let sql = "SELECT * FROM emergencies WHERE tenant = $1 AND emergency > $2 ORDER BY emergency LIMIT $3";
    row::page(connection, sql, (tenant, from), read).await
}

/// The accesses of a tenant that wait for a review at a moment, and of which nothing says yet that it was missed.
pub(crate) async fn waiting(
    connection: &mut AnyConnection,
    tenant: &str,
) -> Result<Vec<Emergency>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT * FROM emergencies WHERE tenant = $1 AND state >= 2 AND reviewer = '' AND missed = 0 \
         ORDER BY emergency LIMIT $2",
    )
    .bind(tenant)
    .bind(MANY)
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}
