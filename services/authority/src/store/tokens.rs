//! API tokens, by their hash.

use sqlx::{AnyConnection, any::AnyRow};

use super::{From, principals, row};
use crate::model::principal::Principal;

/// A token as it is kept, with its principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptToken {
    pub(crate) tenant: String,
    pub(crate) principal: Principal,
    pub(crate) sha256: [u8; 32],
    pub(crate) scopes: Vec<String>,
    pub(crate) certificate_sha256: Option<[u8; 32]>,
    pub(crate) expires_at_ms: i64,
    pub(crate) revoked_at_ms: Option<i64>,
}

/// What a new token is kept as.
#[derive(Debug)]
pub(crate) struct NewToken<'a> {
    pub(crate) id: &'a str,
    pub(crate) principal: &'a str,
    pub(crate) sha256: [u8; 32],
    pub(crate) scopes: &'a [String],
    pub(crate) certificate_sha256: Option<[u8; 32]>,
    pub(crate) issued_by: &'a str,
    pub(crate) issued_with: &'a str,
    pub(crate) issued_at_ms: i64,
    pub(crate) expires_at_ms: i64,
}

/// A token in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedToken {
    pub(crate) id: String,
    pub(crate) principal: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) certificate_sha256: Option<[u8; 32]>,
    pub(crate) issued_by: String,
    pub(crate) issued_at_ms: i64,
    /// How long it was to live when it was issued.
    pub(crate) term_ms: i64,
    /// When it ends, which may be before.
    pub(crate) expires_at_ms: i64,
    pub(crate) revoked_at_ms: Option<i64>,
    pub(crate) last_used_at_ms: Option<i64>,
}

/// Writes a new token.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    tenant: &str,
    token: &NewToken<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO tokens (token_id, tenant, principal, sha256, issued_at_ms, expires_at_ms, scopes, issued_by, \
         certificate_sha256, issued_with) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(token.id)
    .bind(tenant)
    .bind(token.principal)
    .bind(token.sha256.to_vec())
    .bind(token.issued_at_ms)
    .bind(token.expires_at_ms)
    .bind(token.scopes.join(","))
    .bind(token.issued_by)
    .bind(token.certificate_sha256.map(|hash| hash.to_vec()))
    .bind(token.issued_with)
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
        "SELECT t.sha256, t.expires_at_ms, t.cut_at_ms, t.revoked_at_ms, t.scopes, t.certificate_sha256, p.* FROM tokens t \
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
        scopes: row::list(&row, "scopes")?,
        certificate_sha256: row::optional_hash(&row, "certificate_sha256")?,
        expires_at_ms: end(&row)?,
        revoked_at_ms: row::optional_int(&row, "revoked_at_ms")?,
    }))
}

/// A token of a tenant.
pub(crate) async fn get(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &str,
) -> Result<Option<ListedToken>, sqlx::Error> {
    let sql = "SELECT * FROM tokens WHERE tenant = $1 AND token_id = $2";
    row::by_id(connection, sql, (tenant, id), listed).await
}

/// Tokens of a tenant, ascending by id.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    tenant: &str,
    from: From<'_>,
) -> Result<Vec<ListedToken>, sqlx::Error> {
    let sql = "SELECT * FROM tokens WHERE tenant = $1 AND token_id > $2 ORDER BY token_id LIMIT $3";
    row::page(connection, sql, (tenant, from), listed).await
}

/// Ids of a principal's tokens that are good at a moment, ascending, and whether their issue is on record.
pub(crate) async fn good_of(
    connection: &mut AnyConnection,
    (tenant, principal): (&str, &str),
    now_ms: i64,
) -> Result<Vec<(String, bool)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT token_id, issued_by FROM tokens WHERE tenant = $1 AND principal = $2 AND revoked_at_ms IS NULL \
         AND expires_at_ms > $3 ORDER BY token_id",
    )
    .bind(tenant)
    .bind(principal)
    .bind(now_ms)
    .fetch_all(connection)
    .await?;
    let good = rows.iter().map(|row| {
        let issuer = row::text(row, "issued_by")?;
        Ok((row::text(row, "token_id")?, !issuer.is_empty()))
    });
    good.collect()
}

/// Revokes a token; one that is revoked already stays so.
pub(crate) async fn revoke(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &str,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE tokens SET revoked_at_ms = COALESCE(revoked_at_ms, $1) WHERE tenant = $2 AND token_id = $3",
    )
    .bind(now_ms)
    .bind(tenant)
    .bind(id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Lets whatever there is end at this moment at the latest.
pub(crate) async fn cut(
    connection: &mut AnyConnection,
    tenant: &str,
    end_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE tokens SET cut_at_ms = $1 WHERE tenant = $2 AND cut_at_ms IS NULL")
        .bind(end_ms)
        .bind(tenant)
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes when a token was last presented; never an earlier moment than is known.
pub(crate) async fn stamp(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &str,
    used_at_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE tokens SET last_used_at_ms = $1 WHERE tenant = $2 AND token_id = $3 \
         AND (last_used_at_ms IS NULL OR last_used_at_ms < $1)",
    )
    .bind(used_at_ms)
    .bind(tenant)
    .bind(id)
    .execute(connection)
    .await?;
    Ok(())
}

/// When a token ends: as it was issued, or before.
fn end(row: &AnyRow) -> Result<i64, sqlx::Error> {
    let issued = row::int(row, "expires_at_ms")?;
    let cut = row::optional_int(row, "cut_at_ms")?;
    Ok(cut.map_or(issued, |cut| cut.min(issued)))
}

fn listed(row: &AnyRow) -> Result<ListedToken, sqlx::Error> {
    Ok(ListedToken {
        id: row::text(row, "token_id")?,
        principal: row::text(row, "principal")?,
        scopes: row::list(row, "scopes")?,
        certificate_sha256: row::optional_hash(row, "certificate_sha256")?,
        issued_by: row::text(row, "issued_by")?,
        issued_at_ms: row::int(row, "issued_at_ms")?,
        term_ms: row::int(row, "expires_at_ms")?.saturating_sub(row::int(row, "issued_at_ms")?),
        expires_at_ms: end(row)?,
        revoked_at_ms: row::optional_int(row, "revoked_at_ms")?,
        last_used_at_ms: row::optional_int(row, "last_used_at_ms")?,
    })
}
