//! Operators, and what they are judged on: competency, attestations, sensitivity, responsibilities.

use std::collections::BTreeSet;

use sqlx::{AnyConnection, any::AnyRow};

use super::{From, row};
use crate::model::{
    RecordHash,
    engagement::{DAY_MS, Operator, Responsibility},
    ids::{CompetencyId, EngagementId, OrganizationId, PrincipalId},
    standing::{Attestation, Competency},
};

fn read_operator(row: &AnyRow) -> Result<Operator, sqlx::Error> {
    Ok(Operator {
        engagement: EngagementId::stored(row::text(row, "engagement")?),
        operator: row::text(row, "operator")?,
        principal: PrincipalId::stored(row::text(row, "principal")?),
        roles: row::list(row, "roles")?,
        assigned_at_ms: row::int(row, "assigned_at_ms")?,
        unassigned_at_ms: row::optional_int(row, "unassigned_at_ms")?,
        record_hash: row::hash(row, "record_hash")?,
    })
}

/// Writes an assignment.
pub(crate) async fn insert_operator(
    connection: &mut AnyConnection,
    tenant: &str,
    operator: &Operator,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO operators (tenant, principal, engagement, operator, roles, assigned_at_ms, record_hash) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(tenant)
    .bind(operator.principal.as_str())
    .bind(operator.engagement.as_str())
    .bind(&operator.operator)
    .bind(operator.roles.join(","))
    .bind(operator.assigned_at_ms)
    .bind(operator.record_hash.to_vec())
    .execute(connection)
    .await?;
    Ok(())
}

/// The assignment under which somebody acts for a customer, with the principal that they act as while that is active.
pub(crate) async fn acting(
    connection: &mut AnyConnection,
    tenant: &str,
    operator: &str,
) -> Result<Option<Operator>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT o.* FROM operators o JOIN principals p ON p.tenant = o.tenant AND p.principal = o.principal \
         WHERE o.tenant = $1 AND o.operator = $2 AND o.unassigned_at_ms IS NULL AND p.ended_at_ms IS NULL",
    )
    .bind(tenant)
    .bind(operator)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(read_operator).transpose()
}

/// The assignment under which somebody of a provider acts as a principal.
pub(crate) async fn acting_as(
    connection: &mut AnyConnection,
    tenant: &str,
    principal: &PrincipalId,
) -> Result<Option<Operator>, sqlx::Error> {
    let sql =
        "SELECT * FROM operators WHERE tenant = $1 AND principal = $2 AND unassigned_at_ms IS NULL";
    row::by_id(connection, sql, (tenant, principal.as_str()), read_operator).await
}

/// Lists the assignments of an engagement, by principal.
pub(crate) async fn operators(
    connection: &mut AnyConnection,
    tenant: &str,
    engagement: &EngagementId,
    from: From<'_>,
) -> Result<Vec<Operator>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT * FROM operators WHERE tenant = $1 AND engagement = $2 AND principal > $3 ORDER BY principal LIMIT $4",
    )
    .bind(tenant)
    .bind(engagement.as_str())
    .bind(from.after)
    .bind(from.limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(read_operator).collect()
}

/// Who acts under an engagement.
pub(crate) async fn assigned(
    connection: &mut AnyConnection,
    tenant: &str,
    engagement: &EngagementId,
) -> Result<Vec<Operator>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT * FROM operators WHERE tenant = $1 AND engagement = $2 AND unassigned_at_ms IS NULL ORDER BY principal",
    )
    .bind(tenant)
    .bind(engagement.as_str())
    .fetch_all(connection)
    .await?;
    rows.iter().map(read_operator).collect()
}

/// The newest assignment of somebody under an engagement, whether or not it still holds.
pub(crate) async fn newest_assignment(
    connection: &mut AnyConnection,
    tenant: &str,
    engagement: &EngagementId,
    operator: &str,
) -> Result<Option<Operator>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT * FROM operators WHERE tenant = $1 AND engagement = $2 AND operator = $3 \
         ORDER BY assigned_at_ms DESC, principal DESC LIMIT 1",
    )
    .bind(tenant)
    .bind(engagement.as_str())
    .bind(operator)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(read_operator).transpose()
}

/// How many were assigned under an engagement after a moment, whether or not they still are.
pub(crate) async fn assigned_since(
    connection: &mut AnyConnection,
    tenant: &str,
    engagement: &EngagementId,
    since_ms: i64,
) -> Result<i64, sqlx::Error> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS assigned FROM operators WHERE tenant = $1 AND engagement = $2 AND assigned_at_ms > $3",
    )
    .bind(tenant)
    .bind(engagement.as_str())
    .bind(since_ms)
    .fetch_one(connection)
    .await?;
    row::int(&row, "assigned")
}

/// Ends an assignment.
pub(crate) async fn unassign(
    connection: &mut AnyConnection,
    tenant: &str,
    principal: &PrincipalId,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE operators SET unassigned_at_ms = $1 WHERE tenant = $2 AND principal = $3 AND unassigned_at_ms IS NULL",
    )
    .bind(now_ms)
    .bind(tenant)
    .bind(principal.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

fn read_competency(row: &AnyRow) -> Result<Competency, sqlx::Error> {
    Ok(Competency {
        id: CompetencyId::stored(row::text(row, "competency")?),
        operator: row::text(row, "operator")?,
        topic: row::text(row, "topic")?,
        issuer: row::text(row, "issuer")?,
        evidence_sha256: row::hash(row, "evidence_sha256")?,
        valid_to_ms: row::int(row, "valid_to_ms")?,
        accepted_at_ms: row::optional_int(row, "accepted_at_ms")?,
        revoked_at_ms: row::optional_int(row, "revoked_at_ms")?,
        record_hash: row::hash(row, "record_hash")?,
    })
}

/// Writes evidence that was submitted.
pub(crate) async fn insert_competency(
    connection: &mut AnyConnection,
    tenant: &str,
    competency: &Competency,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO competencies (tenant, competency, operator, topic, issuer, evidence_sha256, valid_to_ms, record_hash) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(tenant)
    .bind(competency.id.as_str())
    .bind(&competency.operator)
    .bind(&competency.topic)
    .bind(&competency.issuer)
    .bind(competency.evidence_sha256.to_vec())
    .bind(competency.valid_to_ms)
    .bind(competency.record_hash.to_vec())
    .execute(connection)
    .await?;
    Ok(())
}

/// Reads evidence.
pub(crate) async fn competency(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &CompetencyId,
) -> Result<Option<Competency>, sqlx::Error> {
    let sql = "SELECT * FROM competencies WHERE tenant = $1 AND competency = $2";
    row::by_id(connection, sql, (tenant, id.as_str()), read_competency).await
}

/// Lists evidence by id; of one operator, if named.
pub(crate) async fn competencies(
    connection: &mut AnyConnection,
    tenant: &str,
    operator: Option<&str>,
    from: From<'_>,
) -> Result<Vec<Competency>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT * FROM competencies WHERE tenant = $1 AND ($2 = '' OR operator = $2) AND competency > $3 \
         ORDER BY competency LIMIT $4",
    )
    .bind(tenant)
    .bind(operator.unwrap_or_default())
    .bind(from.after)
    .bind(from.limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(read_competency).collect()
}

/// Evidence of an operator that counts at a moment: accepted, not revoked, not over.
pub(crate) async fn good_competencies(
    connection: &mut AnyConnection,
    tenant: &str,
    operator: &str,
    now_ms: i64,
) -> Result<Vec<Competency>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT * FROM competencies WHERE tenant = $1 AND operator = $2 AND accepted_at_ms IS NOT NULL \
         AND revoked_at_ms IS NULL AND valid_to_ms > $3 ORDER BY competency",
    )
    .bind(tenant)
    .bind(operator)
    .bind(now_ms)
    .fetch_all(connection)
    .await?;
    rows.iter().map(read_competency).collect()
}

/// How much of an operator's evidence nobody has accepted or revoked, and is not over at a moment.
pub(crate) async fn unanswered_competencies(
    connection: &mut AnyConnection,
    tenant: &str,
    operator: &str,
    now_ms: i64,
) -> Result<i64, sqlx::Error> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS unanswered FROM competencies WHERE tenant = $1 AND operator = $2 \
         AND accepted_at_ms IS NULL AND revoked_at_ms IS NULL AND valid_to_ms > $3",
    )
    .bind(tenant)
    .bind(operator)
    .bind(now_ms)
    .fetch_one(connection)
    .await?;
    row::int(&row, "unanswered")
}

/// Accepts evidence.
pub(crate) async fn accept_competency(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &CompetencyId,
    valid_to_ms: i64,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE competencies SET valid_to_ms = $1, accepted_at_ms = $2 WHERE tenant = $3 AND competency = $4",
    )
    .bind(valid_to_ms)
    .bind(now_ms)
    .bind(tenant)
    .bind(id.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes evidence no longer.
pub(crate) async fn revoke_competency(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &CompetencyId,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE competencies SET revoked_at_ms = $1 WHERE tenant = $2 AND competency = $3")
        .bind(now_ms)
        .bind(tenant)
        .bind(id.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes a provider's newest word for a control, given now.
pub(crate) async fn attest(
    connection: &mut AnyConnection,
    (tenant, engagement): (&str, &EngagementId),
    attestation: &Attestation,
    record_hash: &RecordHash,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    let (of, control) = ((tenant, engagement), attestation.control.as_str());
    let (counted_from_ms, counted) = attested_today(&mut *connection, of, control, now_ms).await?;
    sqlx::query(
        "INSERT INTO attestations (tenant, engagement, control, valid_to_ms, record_hash, counted_from_ms, counted) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT (tenant, engagement, control) DO UPDATE SET valid_to_ms = excluded.valid_to_ms, \
         record_hash = excluded.record_hash, counted_from_ms = excluded.counted_from_ms, counted = excluded.counted",
    )
    .bind(tenant)
    .bind(engagement.as_str())
    .bind(&attestation.control)
    .bind(attestation.valid_to_ms)
    .bind(record_hash.to_vec())
    .bind(counted_from_ms)
    .bind(counted + 1)
    .execute(connection)
    .await?;
    Ok(())
}

/// When the day began in which a provider last gave its word for a control, and how often it has in it; a new day, when that is over.
pub(crate) async fn attested_today(
    connection: &mut AnyConnection,
    (tenant, engagement): (&str, &EngagementId),
    control: &str,
    now_ms: i64,
) -> Result<(i64, i64), sqlx::Error> {
    let row = sqlx::query(
        "SELECT counted_from_ms, counted FROM attestations WHERE tenant = $1 AND engagement = $2 AND control = $3 \
         AND counted_from_ms > $4",
    )
    .bind(tenant)
    .bind(engagement.as_str())
    .bind(control)
    .bind(now_ms.saturating_sub(DAY_MS))
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else {
        return Ok((now_ms, 0));
    };
    Ok((
        row::int(&row, "counted_from_ms")?,
        row::int(&row, "counted")?,
    ))
}

/// A provider's words for its controls.
pub(crate) async fn attestations(
    connection: &mut AnyConnection,
    tenant: &str,
    engagement: &EngagementId,
) -> Result<Vec<Attestation>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT control, valid_to_ms FROM attestations WHERE tenant = $1 AND engagement = $2 ORDER BY control",
    )
    .bind(tenant)
    .bind(engagement.as_str())
    .fetch_all(connection)
    .await?;
    let read = |row: &AnyRow| {
        Ok(Attestation {
            control: row::text(row, "control")?,
            valid_to_ms: row::int(row, "valid_to_ms")?,
        })
    };
    rows.iter().map(read).collect()
}

/// Writes how sensitive an environment is.
pub(crate) async fn set_environment(
    connection: &mut AnyConnection,
    tenant: &str,
    environment: &str,
    level: u32,
    record_hash: &RecordHash,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO environments (tenant, environment, level, record_hash) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (tenant, environment) DO UPDATE SET level = excluded.level, record_hash = excluded.record_hash",
    )
    .bind(tenant)
    .bind(environment)
    .bind(i64::from(level))
    .bind(record_hash.to_vec())
    .execute(connection)
    .await?;
    Ok(())
}

/// How sensitive an environment is, when somebody said so.
pub(crate) async fn environment(
    connection: &mut AnyConnection,
    tenant: &str,
    environment: &str,
) -> Result<Option<u32>, sqlx::Error> {
    let row = sqlx::query("SELECT level FROM environments WHERE tenant = $1 AND environment = $2")
        .bind(tenant)
        .bind(environment)
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let level = row::int(&row, "level")?;
    let level = u32::try_from(level).map_err(|_| row::damaged("level", "is out of range"))?;
    Ok(Some(level))
}

/// The environments that are at most so sensitive, as somebody said.
pub(crate) async fn environments_up_to(
    connection: &mut AnyConnection,
    tenant: &str,
    level: u32,
) -> Result<Vec<String>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT environment FROM environments WHERE tenant = $1 AND level <= $2 ORDER BY environment",
    )
    .bind(tenant)
    .bind(i64::from(level))
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| row::text(row, "environment"))
        .collect()
}

fn read_responsibility(row: &AnyRow) -> Result<Responsibility, sqlx::Error> {
    Ok(Responsibility {
        activity: row::text(row, "activity")?,
        organization: OrganizationId::stored(row::text(row, "organization")?),
        by_customer: row::int(row, "by_customer")? == 1,
        risk_owner: PrincipalId::stored(row::text(row, "risk_owner")?),
        record_hash: row::hash(row, "record_hash")?,
    })
}

/// Writes who answers for an activity; replaces who did before.
pub(crate) async fn set_responsibility(
    connection: &mut AnyConnection,
    tenant: &str,
    row: &Responsibility,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO responsibilities (tenant, activity, organization, by_customer, risk_owner, record_hash) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant, activity) DO UPDATE SET \
         organization = excluded.organization, by_customer = excluded.by_customer, \
         risk_owner = excluded.risk_owner, record_hash = excluded.record_hash",
    )
    .bind(tenant)
    .bind(&row.activity)
    .bind(row.organization.as_str())
    .bind(i64::from(row.by_customer))
    .bind(row.risk_owner.as_str())
    .bind(row.record_hash.to_vec())
    .execute(connection)
    .await?;
    Ok(())
}

/// Lists who answers for what, by activity.
pub(crate) async fn responsibilities(
    connection: &mut AnyConnection,
    tenant: &str,
    from: From<'_>,
) -> Result<Vec<Responsibility>, sqlx::Error> {
    let sql = "SELECT * FROM responsibilities WHERE tenant = $1 AND activity > $2 ORDER BY activity LIMIT $3";
    row::page(connection, sql, (tenant, from), read_responsibility).await
}

/// Who answers for one activity.
pub(crate) async fn responsibility(
    connection: &mut AnyConnection,
    tenant: &str,
    activity: &str,
) -> Result<Option<Responsibility>, sqlx::Error> {
    let sql = "SELECT * FROM responsibilities WHERE tenant = $1 AND activity = $2";
    row::by_id(connection, sql, (tenant, activity), read_responsibility).await
}

/// Activities that the customer carries out itself.
pub(crate) async fn kept_by_customer(
    connection: &mut AnyConnection,
    tenant: &str,
) -> Result<BTreeSet<String>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT activity FROM responsibilities WHERE tenant = $1 AND by_customer = 1 ORDER BY activity",
    )
    .bind(tenant)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| row::text(row, "activity")).collect()
}

/// An activity whose risk somebody owns, if there is one.
pub(crate) async fn owned_by(
    connection: &mut AnyConnection,
    tenant: &str,
    risk_owner: &PrincipalId,
) -> Result<Option<String>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT activity FROM responsibilities WHERE tenant = $1 AND risk_owner = $2 ORDER BY activity LIMIT 1",
    )
    .bind(tenant)
    .bind(risk_owner.as_str())
    .fetch_optional(connection)
    .await?;
    row.map(|row| row::text(&row, "activity")).transpose()
}
