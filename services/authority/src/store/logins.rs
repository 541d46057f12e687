//! Logins at identity providers.

use sqlx::{AnyConnection, any::AnyRow};

use super::{From, principals, row};
use crate::model::principal::Principal;

/// A login as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) id: String,
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) principal: String,
    pub(crate) linked_at_ms: i64,
    /// Public id of the credential that it was linked with; empty: it is from before that was kept.
    pub(crate) issued_with: String,
    pub(crate) unlinked_at_ms: Option<i64>,
}

/// Writes a new login.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    tenant: &str,
    login: &Login,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO logins (tenant, login, issuer, subject, principal, linked_at_ms, issued_with) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(tenant)
    .bind(&login.id)
    .bind(&login.issuer)
    .bind(&login.subject)
    .bind(&login.principal)
    .bind(login.linked_at_ms)
    .bind(&login.issued_with)
    .execute(connection)
    .await?;
    Ok(())
}

/// The login of a subject in a tenant and the principal that it is; `None`: it is not linked.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    tenant: &str,
    issuer: &str,
    subject: &str,
) -> Result<Option<(String, Principal)>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT l.login, p.* FROM logins l JOIN principals p ON p.tenant = l.tenant AND p.principal = l.principal \
         WHERE l.tenant = $1 AND l.issuer = $2 AND l.subject = $3 AND l.unlinked_at_ms IS NULL",
    )
    .bind(tenant)
    .bind(issuer)
    .bind(subject)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some((row::text(&row, "login")?, principals::read(&row)?)))
}

/// A login of a tenant.
pub(crate) async fn get(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &str,
) -> Result<Option<Login>, sqlx::Error> {
    let sql = "SELECT * FROM logins WHERE tenant = $1 AND login = $2";
    row::by_id(connection, sql, (tenant, id), read).await
}

/// Logins of a tenant, ascending by id.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    tenant: &str,
    from: From<'_>,
) -> Result<Vec<Login>, sqlx::Error> {
    let sql = "SELECT * FROM logins WHERE tenant = $1 AND login > $2 ORDER BY login LIMIT $3";
    row::page(connection, sql, (tenant, from), read).await
}

/// Ids of a principal's logins that are in force, ascending.
pub(crate) async fn good_of(
    connection: &mut AnyConnection,
    tenant: &str,
    principal: &str,
) -> Result<Vec<String>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT login FROM logins WHERE tenant = $1 AND principal = $2 AND unlinked_at_ms IS NULL ORDER BY login",
    )
    .bind(tenant)
    .bind(principal)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| row::text(row, "login")).collect()
}

/// Ends a link.
pub(crate) async fn unlink(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &str,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE logins SET unlinked_at_ms = $1 WHERE tenant = $2 AND login = $3")
        .bind(now_ms)
        .bind(tenant)
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

fn read(row: &AnyRow) -> Result<Login, sqlx::Error> {
    Ok(Login {
        id: row::text(row, "login")?,
        issuer: row::text(row, "issuer")?,
        subject: row::text(row, "subject")?,
        principal: row::text(row, "principal")?,
        linked_at_ms: row::int(row, "linked_at_ms")?,
        issued_with: row::text(row, "issued_with")?,
        unlinked_at_ms: row::optional_int(row, "unlinked_at_ms")?,
    })
}
