//! API tokens, by their hash.

use sqlx::AnyConnection;

use super::{principals, row};
use crate::model::principal::Principal;

/// A token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptToken {
    pub(crate) tenant: String,
    pub(crate) principal: Principal,
    pub(crate) sha256: [u8; 32],
    pub(crate) expires_at_ms: i64,
    pub(crate) revoked_at_ms: Option<i64>,
}

/// What a new token is kept as.
#[derive(Debug)]
pub(crate) struct NewToken<'a> {
    pub(crate) id: &'a str,
    pub(crate) principal: &'a str,
    pub(crate) sha256: [u8; 32],
    pub(crate) issued_at_ms: i64,
    pub(crate) expires_at_ms: i64,
}

/// Writes a new token.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    tenant: &str,
    token: &NewToken<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO tokens (token_id, tenant, principal, sha256, issued_at_ms, expires_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(token.id)
    .bind(tenant)
    .bind(token.principal)
    .bind(token.sha256.to_vec())
    .bind(token.issued_at_ms)
    .bind(token.expires_at_ms)
    .execute(connection)
    .await?;
    Ok(())
}

/// Finds a token by its public id, with its principal. The token itself says whose it is: the only look-up without a tenant.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<KeptToken>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT t.sha256, t.expires_at_ms, t.revoked_at_ms, p.* FROM tokens t \
         JOIN principals p ON p.tenant = t.tenant AND p.principal = t.principal WHERE t.token_id = $1",
    )
    .bind(id)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(KeptToken {
        tenant: row::text(&row, "tenant")?,
        principal: principals::read(&row)?,
        sha256: row::hash(&row, "sha256")?,
        expires_at_ms: row::int(&row, "expires_at_ms")?,
        revoked_at_ms: row::optional_int(&row, "revoked_at_ms")?,
    }))
}

/// Revokes a token; one that is revoked already stays so. False: the tenant has no such token.
pub(crate) async fn revoke(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &str,
    now_ms: i64,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE tokens SET revoked_at_ms = COALESCE(revoked_at_ms, $1) WHERE tenant = $2 AND token_id = $3",
    )
    .bind(now_ms)
    .bind(tenant)
    .bind(id)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}
