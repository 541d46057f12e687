//! Rights passed on.

use sqlx::{AnyConnection, any::AnyRow};

use super::{From, rights, row};
use crate::model::{
    delegation::{CHAIN_MAX, Delegation, Held},
    ids::{DelegationId, PrincipalId, RightId, SourceId},
    right::{DecisionAction, Scope},
};

fn read(row: &AnyRow) -> Result<Delegation, sqlx::Error> {
    let sources = row::list(row, "scope")?;
    let source = row::text(row, "source")?;
    Ok(Delegation {
        id: DelegationId::stored(row::text(row, "delegation")?),
        delegator: PrincipalId::stored(row::text(row, "delegator")?),
        delegate: PrincipalId::stored(row::text(row, "delegate")?),
        right: RightId::stored(row::text(row, "source_right")?),
        source: (!source.is_empty()).then(|| DelegationId::stored(source)),
        action: row::code(row, "action")?,
        scope: Scope::of(sources.into_iter().map(SourceId::stored).collect(), false),
        tiers: row::list(row, "tiers")?,
        environments: row::list(row, "environments")?,
        valid_from_ms: row::int(row, "valid_from_ms")?,
        valid_to_ms: row::int(row, "valid_to_ms")?,
        transitive: row::flag(row, "transitive")?,
        reason_code: row::text(row, "reason_code")?,
        revoked_at_ms: row::optional_int(row, "revoked_at_ms")?,
        record_hash: row::hash(row, "record_hash")?,
    })
}

/// Writes a new delegation.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    tenant: &str,
    one: &Delegation,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO delegations (tenant, delegation, delegator, delegate, source_right, source, action, scope, tiers, \
         environments, valid_from_ms, valid_to_ms, transitive, reason_code, record_hash) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    )
    .bind(tenant)
    .bind(one.id.as_str())
    .bind(one.delegator.as_str())
    .bind(one.delegate.as_str())
    .bind(one.right.as_str())
    .bind(one.source.as_ref().map_or("", DelegationId::as_str))
    .bind(i64::from(one.action as i32))
    .bind(rights::scope_column(&one.scope))
    .bind(one.tiers.join(","))
    .bind(one.environments.join(","))
    .bind(one.valid_from_ms)
    .bind(one.valid_to_ms)
    .bind(i64::from(one.transitive))
    .bind(&one.reason_code)
    .bind(one.record_hash.to_vec())
    .execute(connection)
    .await?;
    Ok(())
}

/// Reads a delegation.
pub(crate) async fn get(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &DelegationId,
) -> Result<Option<Delegation>, sqlx::Error> {
    let sql = "SELECT * FROM delegations WHERE tenant = $1 AND delegation = $2";
    row::by_id(connection, sql, (tenant, id.as_str()), read).await
}

/// A delegation with all that it rests on.
pub(crate) async fn held(
    connection: &mut AnyConnection,
    tenant: &str,
    last: Delegation,
) -> Result<Held, sqlx::Error> {
    let mut passed_on = vec![last];
    while let Some(below) = passed_on.last().and_then(|one| one.source.clone()) {
        let found = get(&mut *connection, tenant, &below).await?;
        let found = found.ok_or_else(|| row::damaged("source", "is no delegation"))?;
        passed_on.push(found);
        if passed_on.len() > CHAIN_MAX {
            return Err(row::damaged("source", "was passed on too often"));
        }
    }
    passed_on.reverse();
    let right = match passed_on.first() {
        Some(first) => rights::get(&mut *connection, tenant, &first.right).await?,
        None => None,
    };
    let right = right.ok_or_else(|| row::damaged("source_right", "is no decision right"))?;
    Ok(Held { right, passed_on })
}

/// Ends a delegation.
pub(crate) async fn revoke(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &DelegationId,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE delegations SET revoked_at_ms = $1 \
         WHERE tenant = $2 AND delegation = $3 AND revoked_at_ms IS NULL",
    )
    .bind(now_ms)
    .bind(tenant)
    .bind(id.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Lists delegations by id.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    tenant: &str,
    from: From<'_>,
) -> Result<Vec<Delegation>, sqlx::Error> {
    let sql = "SELECT * FROM delegations WHERE tenant = $1 AND delegation > $2 ORDER BY delegation LIMIT $3";
    row::page(connection, sql, (tenant, from), read).await
}

/// How many delegations of one to another, of what one right gives, are not revoked and hold at some time at which a wanted one would.
pub(crate) async fn given(
    connection: &mut AnyConnection,
    tenant: &str,
    wanted: &Delegation,
) -> Result<usize, sqlx::Error> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS given FROM delegations WHERE tenant = $1 AND delegate = $2 AND action = $3 \
         AND delegator = $4 AND source_right = $5 AND revoked_at_ms IS NULL AND valid_from_ms < $6 AND valid_to_ms > $7",
    )
    .bind(tenant)
    .bind(wanted.delegate.as_str())
    .bind(i64::from(wanted.action as i32))
    .bind(wanted.delegator.as_str())
    .bind(wanted.right.as_str())
    .bind(wanted.valid_to_ms)
    .bind(wanted.valid_from_ms)
    .fetch_one(connection)
    .await?;
    let given = row::int(&row, "given")?;
    usize::try_from(given).map_err(|_| row::damaged("given", "is out of range"))
}

/// The delegations to somebody for an action that hold by themselves at a moment, oldest first.
pub(crate) async fn holding(
    connection: &mut AnyConnection,
    tenant: &str,
    delegate: &PrincipalId,
    action: DecisionAction,
    now_ms: i64,
) -> Result<Vec<Delegation>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT * FROM delegations WHERE tenant = $1 AND delegate = $2 AND action = $3 \
         AND revoked_at_ms IS NULL AND valid_from_ms <= $4 AND valid_to_ms > $4 ORDER BY delegation LIMIT 1000",
    )
    .bind(tenant)
    .bind(delegate.as_str())
    .bind(i64::from(action as i32))
    .bind(now_ms)
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}
