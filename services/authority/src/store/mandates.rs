//! Mandates of AI agents, and what agents did under them.

use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{From, rights, row};
use crate::model::{
    ids::{MandateId, PrincipalId, SourceId},
    mandate::{End, Grant, Limits, Mandate, Term, Terms, Used},
    right::Scope,
};

fn read(row: &AnyRow) -> Result<Mandate, sqlx::Error> {
    let end = match row::int(row, "ended")? {
        0 => None,
        1 => Some(End::Revoked),
        2 => Some(End::Replaced),
        _ => return Err(row::damaged("ended", "is no known end")),
    };
    Ok(Mandate {
        id: MandateId::stored(row::text(row, "mandate")?),
        terms: terms(row)?,
        kill_path: row::text(row, "kill_path")?,
        proposer: PrincipalId::stored(row::text(row, "proposer")?),
        proposal_hash: row::hash(row, "proposal_hash")?,
        grant: grant(row)?,
        suspended: row::flag(row, "suspended")?,
        end,
    })
}

fn terms(row: &AnyRow) -> Result<Terms, sqlx::Error> {
    let sources = row::list(row, "scope")?;
    Ok(Terms {
        agent: PrincipalId::stored(row::text(row, "agent")?),
        owner: PrincipalId::stored(row::text(row, "owner")?),
        autonomy: row::code(row, "autonomy")?,
        actions: row::actions(row)?,
        scope: Scope::of(sources.into_iter().map(SourceId::stored).collect(), false),
        tiers: row::list(row, "tiers")?,
        environments: row::list(row, "environments")?,
        limits: Limits {
            acts_per_hour: number(row, "acts_per_hour_max")?,
            removals_per_day: number(row, "removals_per_day_max")?,
            removals: number(row, "removals_max")?,
        },
        model: row::text(row, "model")?,
        build: row::text(row, "build")?,
        term: Term {
            from_ms: row::int(row, "valid_from_ms")?,
            to_ms: row::int(row, "valid_to_ms")?,
            review_ms: row::int(row, "review_interval_ms")?,
        },
    })
}

fn number(row: &AnyRow, column: &str) -> Result<u32, sqlx::Error> {
    let number = row::int(row, column)?;
    u32::try_from(number).map_err(|_| row::damaged(column, "does not fit"))
}

fn grant(row: &AnyRow) -> Result<Option<Grant>, sqlx::Error> {
    let grantor = row::text(row, "grantor")?;
    if grantor.is_empty() {
        return Ok(None);
    }
    Ok(Some(Grant {
        grantor: PrincipalId::stored(grantor),
        due_ms: row::int(row, "due_ms")?,
        record_hash: row::hash(row, "grant_hash")?,
    }))
}

/// Writes a new draft.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    tenant: &str,
    one: &Mandate,
) -> Result<(), sqlx::Error> {
    let terms = &one.terms;
    sqlx::query(
        "INSERT INTO mandates (tenant, mandate, agent, owner, autonomy, actions, scope, tiers, environments, \
         acts_per_hour_max, removals_per_day_max, removals_max, model, build, valid_from_ms, valid_to_ms, \
         review_interval_ms, kill_path, proposer, proposal_hash, grantor, suspended, ended, removals) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, '', 0, 0, 0)",
    )
    .bind(tenant)
    .bind(one.id.as_str())
    .bind(terms.agent.as_str())
    .bind(terms.owner.as_str())
    .bind(i64::from(terms.autonomy as i32))
    .bind(row::actions_text(&terms.actions))
    .bind(rights::scope_column(&terms.scope))
    .bind(terms.tiers.join(","))
    .bind(terms.environments.join(","))
    .bind(i64::from(terms.limits.acts_per_hour))
    .bind(i64::from(terms.limits.removals_per_day))
    .bind(i64::from(terms.limits.removals))
    .bind(&terms.model)
    .bind(&terms.build)
    .bind(terms.term.from_ms)
    .bind(terms.term.to_ms)
    .bind(terms.term.review_ms)
    .bind(&one.kill_path)
    .bind(one.proposer.as_str())
    .bind(one.proposal_hash.to_vec())
    .execute(connection)
    .await?;
    Ok(())
}

/// Reads a mandate.
pub(crate) async fn get(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &MandateId,
) -> Result<Option<Mandate>, sqlx::Error> {
    let sql = "SELECT * FROM mandates WHERE tenant = $1 AND mandate = $2";
    row::by_id(connection, sql, (tenant, id.as_str()), read).await
}

/// The mandate that was granted to an agent and has not ended before its term.
pub(crate) async fn of_agent(
    connection: &mut AnyConnection,
    tenant: &str,
    agent: &PrincipalId,
) -> Result<Option<Mandate>, sqlx::Error> {
    let sql =
        "SELECT * FROM mandates WHERE tenant = $1 AND agent = $2 AND ended = 0 AND grantor <> ''";
    row::by_id(connection, sql, (tenant, agent.as_str()), read).await
}

/// Lists mandates by id.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    tenant: &str,
    from: From<'_>,
) -> Result<Vec<Mandate>, sqlx::Error> {
    let sql = "SELECT * FROM mandates WHERE tenant = $1 AND mandate > $2 ORDER BY mandate LIMIT $3";
    row::page(connection, sql, (tenant, from), read).await
}

/// How many drafts could still be granted.
pub(crate) async fn drafts(
    connection: &mut AnyConnection,
    tenant: &str,
    now_ms: i64,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT COUNT(*) FROM mandates WHERE tenant = $1 AND grantor = '' AND ended = 0 AND valid_to_ms > $2",
    )
    .bind(tenant)
    .bind(now_ms)
    .fetch_one(connection)
    .await
}

/// Grants a draft; what the agent had before is over.
pub(crate) async fn grant_to(
    connection: &mut AnyConnection,
    tenant: &str,
    mandate: &Mandate,
    grant: &Grant,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE mandates SET ended = 2 WHERE tenant = $1 AND agent = $2 AND ended = 0 AND grantor <> ''",
    )
    .bind(tenant)
    .bind(mandate.terms.agent.as_str())
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "UPDATE mandates SET grantor = $1, due_ms = $2, grant_hash = $3 \
         WHERE tenant = $4 AND mandate = $5 AND ended = 0 AND grantor = ''",
    )
    .bind(grant.grantor.as_str())
    .bind(grant.due_ms)
    .bind(grant.record_hash.to_vec())
    .bind(tenant)
    .bind(mandate.id.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes when a mandate is due again.
pub(crate) async fn certify(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &MandateId,
    due_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE mandates SET due_ms = $1 WHERE tenant = $2 AND mandate = $3")
        .bind(due_ms)
        .bind(tenant)
        .bind(id.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// Stops an agent, or lets it go on.
pub(crate) async fn suspend(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &MandateId,
    suspended: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE mandates SET suspended = $1 WHERE tenant = $2 AND mandate = $3")
        .bind(i64::from(suspended))
        .bind(tenant)
        .bind(id.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether what an agent was granted was taken back, and nothing was granted to it since.
pub(crate) async fn is_revoked(
    connection: &mut AnyConnection,
    tenant: &str,
    agent: &PrincipalId,
) -> Result<bool, sqlx::Error> {
    let found: (i64, i64) = sqlx::query_as(
        "SELECT CAST(COALESCE(SUM(CASE WHEN ended = 1 THEN 1 ELSE 0 END), 0) AS BIGINT), \
         CAST(COALESCE(SUM(CASE WHEN ended = 0 THEN 1 ELSE 0 END), 0) AS BIGINT) \
         FROM mandates WHERE tenant = $1 AND agent = $2 AND grantor <> ''",
    )
    .bind(tenant)
    .bind(agent.as_str())
    .fetch_one(connection)
    .await?;
    Ok(found.0 > 0 && found.1 == 0)
}

/// Takes a mandate back.
pub(crate) async fn revoke(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &MandateId,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE mandates SET ended = 1 WHERE tenant = $1 AND mandate = $2 AND ended = 0")
        .bind(tenant)
        .bind(id.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// What an agent has done by now, and under its mandate, without one act.
pub(crate) async fn used(
    connection: &mut AnyConnection,
    tenant: &str,
    mandate: &Mandate,
    (act, now_ms): (&str, i64),
) -> Result<Used, sqlx::Error> {
    let (hour_ago_ms, day_ago_ms) = Used::since(now_ms);
    // CAST: the sum of no rows, and of BIGINTs in PostgreSQL, is of another type.
    let row = sqlx::query(
        "SELECT CAST(COALESCE(SUM(CASE WHEN at_ms > $3 THEN 1 ELSE 0 END), 0) AS BIGINT) AS acts, \
         CAST(COALESCE(SUM(removals), 0) AS BIGINT) AS of_day, \
         (SELECT removals FROM mandates WHERE tenant = $1 AND mandate = $5) AS in_all, \
         (SELECT removals FROM mandate_uses WHERE tenant = $1 AND agent = $2 AND act = $6 AND mandate = $5) AS own \
         FROM mandate_uses WHERE tenant = $1 AND agent = $2 AND at_ms > $4 AND act <> $6",
    )
    .bind(tenant)
    .bind(mandate.terms.agent.as_str())
    .bind(hour_ago_ms)
    .bind(day_ago_ms)
    .bind(mandate.id.as_str())
    .bind(act)
    .fetch_one(connection)
    .await?;
    let (in_all, own): (i64, Option<i64>) = (row.try_get("in_all")?, row.try_get("own")?);
    Ok(Used {
        acts: row.try_get("acts")?,
        removals_of_day: row.try_get("of_day")?,
        removals: in_all - own.unwrap_or(0),
    })
}

/// Counts an act of an agent under its mandate, or counts it anew. `used`: without it. What counts in no window any more is kept: a clock
/// that was wrong once must not forget what counts.
pub(crate) async fn count(
    connection: &mut AnyConnection,
    tenant: &str,
    mandate: &Mandate,
    (act, removals): (&str, u32),
    (used, now_ms): (Used, i64),
) -> Result<(), sqlx::Error> {
    let agent = mandate.terms.agent.as_str();
    sqlx::query("DELETE FROM mandate_uses WHERE tenant = $1 AND agent = $2 AND act = $3")
        .bind(tenant)
        .bind(agent)
        .bind(act)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO mandate_uses (tenant, agent, act, mandate, at_ms, removals) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(tenant)
    .bind(agent)
    .bind(act)
    .bind(mandate.id.as_str())
    .bind(now_ms)
    .bind(i64::from(removals))
    .execute(&mut *connection)
    .await?;
    sqlx::query("UPDATE mandates SET removals = $1 WHERE tenant = $2 AND mandate = $3")
        .bind(used.removals.saturating_add(removals.into()))
        .bind(tenant)
        .bind(mandate.id.as_str())
        .execute(connection)
        .await?;
    Ok(())
}
