//! Engagements, what providers asked for, and notices.

use sqlx::{AnyConnection, any::AnyRow};

use super::{From, row};
use crate::model::{
    RecordHash,
    engagement::{Approval, Engagement, ReassessmentResult, Terms},
    ids::{EngagementId, OrganizationId},
};

/// What a provider asked a customer for, as its own tenant keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) id: EngagementId,
    pub(crate) customer: String,
    /// Canonical bytes of EngagementRequested.
    pub(crate) request: Vec<u8>,
    pub(crate) record_hash: RecordHash,
    /// Name of the principal of the provider who asked.
    pub(crate) asked_by: String,
    pub(crate) asked_at_ms: i64,
    pub(crate) withdrawn_at_ms: Option<i64>,
}

fn small(row: &AnyRow, column: &str) -> Result<u32, sqlx::Error> {
    u32::try_from(row::int(row, column)?).map_err(|_| row::damaged(column, "is out of range"))
}

fn read(row: &AnyRow) -> Result<Engagement, sqlx::Error> {
    let parent = row::text(row, "parent")?;
    let approval = match row::optional_int(row, "valid_to_ms")? {
        None => None,
        Some(valid_to_ms) => Some(Approval {
            organization: OrganizationId::stored(row::text(row, "organization")?),
            roles: row::list(row, "approved_roles")?,
            valid_from_ms: row::int(row, "valid_from_ms")?,
            valid_to_ms,
            record_hash: row::hash(row, "approval_hash")?,
        }),
    };
    let result: ReassessmentResult = row::code(row, "reassessment")?;
    let next_due_ms = row::int(row, "next_due_ms")?;
    Ok(Engagement {
        id: EngagementId::stored(row::text(row, "engagement")?),
        provider: row::text(row, "provider")?,
        terms: Terms {
            roles: row::list(row, "roles")?,
            purpose: row::text(row, "purpose")?,
            profile: row::code(row, "profile")?,
            term_days: small(row, "term_days")?,
            parent: (!parent.is_empty()).then(|| EngagementId::stored(parent)),
        },
        approvable_until_ms: row::int(row, "approvable_until_ms")?,
        request_hash: row::hash(row, "request_hash")?,
        approval,
        ended_at_ms: row::optional_int(row, "ended_at_ms")?,
        tier: small(row, "tier")?,
        reassessment: (result != ReassessmentResult::Unspecified).then_some((result, next_due_ms)),
    })
}

/// Writes a request into the customer's tenant; false: it is there.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    tenant: &str,
    engagement: &Engagement,
) -> Result<bool, sqlx::Error> {
    let terms = &engagement.terms;
    let done = sqlx::query(
        "INSERT INTO engagements (tenant, engagement, provider, roles, purpose, profile, term_days, parent, \
         approvable_until_ms, request_hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING",
    )
    .bind(tenant)
    .bind(engagement.id.as_str())
    .bind(&engagement.provider)
    .bind(terms.roles.join(","))
    .bind(&terms.purpose)
    .bind(i64::from(terms.profile as i32))
    .bind(i64::from(terms.term_days))
    .bind(terms.parent.as_ref().map_or("", |parent| parent.as_str()))
    .bind(engagement.approvable_until_ms)
    .bind(engagement.request_hash.to_vec())
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Reads an engagement of a customer.
pub(crate) async fn get(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &EngagementId,
) -> Result<Option<Engagement>, sqlx::Error> {
    let sql = "SELECT * FROM engagements WHERE tenant = $1 AND engagement = $2";
    row::by_id(connection, sql, (tenant, id.as_str()), read).await
}

/// Lists the engagements of a customer by id.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    tenant: &str,
    from: From<'_>,
) -> Result<Vec<Engagement>, sqlx::Error> {
    let sql = "SELECT * FROM engagements WHERE tenant = $1 AND engagement > $2 ORDER BY engagement LIMIT $3";
    row::page(connection, sql, (tenant, from), read).await
}

/// Whether a customer has an engagement that is live.
pub(crate) async fn any_live(
    connection: &mut AnyConnection,
    tenant: &str,
    now_ms: i64,
) -> Result<bool, sqlx::Error> {
    let row = sqlx::query(
        "SELECT engagement FROM engagements WHERE tenant = $1 AND valid_to_ms > $2 AND ended_at_ms IS NULL LIMIT 1",
    )
    .bind(tenant)
    .bind(now_ms)
    .fetch_optional(connection)
    .await?;
    Ok(row.is_some())
}

/// Customers with engagements that are approved, not ended, and end before a moment: the job's work, of all tenants.
pub(crate) async fn ending_before(
    connection: &mut AnyConnection,
    before_ms: i64,
) -> Result<Vec<(String, EngagementId)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT tenant, engagement FROM engagements WHERE valid_to_ms <= $1 AND ended_at_ms IS NULL \
         ORDER BY tenant, engagement",
    )
    .bind(before_ms)
    .fetch_all(connection)
    .await?;
    rows.iter().map(read_key).collect()
}

/// Engagements that their providers have withdrawn and that have not ended, of all tenants.
pub(crate) async fn withdrawn(
    connection: &mut AnyConnection,
) -> Result<Vec<(String, EngagementId)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT e.tenant, e.engagement FROM engagements e JOIN engagement_offers o ON o.tenant = e.provider \
         AND o.engagement = e.engagement AND o.customer = e.tenant \
         WHERE o.withdrawn_at_ms IS NOT NULL AND e.ended_at_ms IS NULL ORDER BY e.tenant, e.engagement",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(read_key).collect()
}

/// What providers asked customers for since a moment that these have not seen, of all tenants: provider, customer, engagement.
pub(crate) async fn unseen(
    connection: &mut AnyConnection,
    since_ms: i64,
) -> Result<Vec<(String, String, EngagementId)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT o.tenant AS provider, o.customer AS tenant, o.engagement FROM engagement_offers o \
         JOIN tenants t ON t.tenant = o.customer \
         LEFT JOIN engagements e ON e.tenant = o.customer AND e.engagement = o.engagement \
         WHERE o.asked_at_ms > $1 AND o.withdrawn_at_ms IS NULL AND e.engagement IS NULL \
         ORDER BY o.tenant, o.engagement",
    )
    .bind(since_ms)
    .fetch_all(connection)
    .await?;
    let read = |row: &AnyRow| {
        let (customer, id) = read_key(row)?;
        Ok((row::text(row, "provider")?, customer, id))
    };
    rows.iter().map(read).collect()
}

fn read_key(row: &AnyRow) -> Result<(String, EngagementId), sqlx::Error> {
    let id = EngagementId::stored(row::text(row, "engagement")?);
    Ok((row::text(row, "tenant")?, id))
}

/// Engagements of a customer under another one, that are live.
pub(crate) async fn live_under(
    connection: &mut AnyConnection,
    tenant: &str,
    parent: &EngagementId,
    now_ms: i64,
) -> Result<Vec<EngagementId>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT engagement FROM engagements WHERE tenant = $1 AND parent = $2 AND valid_to_ms > $3 \
         AND ended_at_ms IS NULL ORDER BY engagement",
    )
    .bind(tenant)
    .bind(parent.as_str())
    .bind(now_ms)
    .fetch_all(connection)
    .await?;
    let read = |row: &AnyRow| Ok(EngagementId::stored(row::text(row, "engagement")?));
    rows.iter().map(read).collect()
}

/// Writes what was approved.
pub(crate) async fn approve(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &EngagementId,
    approval: &Approval,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE engagements SET organization = $1, approved_roles = $2, valid_from_ms = $3, valid_to_ms = $4, \
         approval_hash = $5 WHERE tenant = $6 AND engagement = $7",
    )
    .bind(approval.organization.as_str())
    .bind(approval.roles.join(","))
    .bind(approval.valid_from_ms)
    .bind(approval.valid_to_ms)
    .bind(approval.record_hash.to_vec())
    .bind(tenant)
    .bind(id.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends an engagement.
pub(crate) async fn end(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &EngagementId,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE engagements SET ended_at_ms = $1 WHERE tenant = $2 AND engagement = $3 AND ended_at_ms IS NULL",
    )
    .bind(now_ms)
    .bind(tenant)
    .bind(id.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes the tier that a customer gave.
pub(crate) async fn set_tier(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &EngagementId,
    tier: u32,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE engagements SET tier = $1 WHERE tenant = $2 AND engagement = $3")
        .bind(i64::from(tier))
        .bind(tenant)
        .bind(id.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes the newest reassessment.
pub(crate) async fn set_reassessment(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &EngagementId,
    result: ReassessmentResult,
    next_due_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE engagements SET reassessment = $1, next_due_ms = $2 WHERE tenant = $3 AND engagement = $4",
    )
    .bind(i64::from(result as i32))
    .bind(next_due_ms)
    .bind(tenant)
    .bind(id.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

fn read_offer(row: &AnyRow) -> Result<Offer, sqlx::Error> {
    Ok(Offer {
        id: EngagementId::stored(row::text(row, "engagement")?),
        customer: row::text(row, "customer")?,
        request: row::bytes(row, "request")?,
        record_hash: row::hash(row, "record_hash")?,
        asked_by: row::text(row, "asked_by")?,
        asked_at_ms: row::int(row, "asked_at_ms")?,
        withdrawn_at_ms: row::optional_int(row, "withdrawn_at_ms")?,
    })
}

/// Writes what a provider asked for, into its own tenant.
pub(crate) async fn insert_offer(
    connection: &mut AnyConnection,
    tenant: &str,
    offer: &Offer,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO engagement_offers (tenant, engagement, customer, request, record_hash, asked_by, asked_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(tenant)
    .bind(offer.id.as_str())
    .bind(&offer.customer)
    .bind(&offer.request)
    .bind(offer.record_hash.to_vec())
    .bind(&offer.asked_by)
    .bind(offer.asked_at_ms)
    .execute(connection)
    .await?;
    Ok(())
}

/// Reads what a provider asked for.
pub(crate) async fn get_offer(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &EngagementId,
) -> Result<Option<Offer>, sqlx::Error> {
    let sql = "SELECT * FROM engagement_offers WHERE tenant = $1 AND engagement = $2";
    row::by_id(connection, sql, (tenant, id.as_str()), read_offer).await
}

/// What a provider asked one customer for, newest first.
pub(crate) async fn offers_to(
    connection: &mut AnyConnection,
    tenant: &str,
    customer: &str,
) -> Result<Vec<Offer>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT * FROM engagement_offers WHERE tenant = $1 AND customer = $2 ORDER BY engagement DESC",
    )
    .bind(tenant)
    .bind(customer)
    .fetch_all(connection)
    .await?;
    rows.iter().map(read_offer).collect()
}

/// Lists what a provider asked for, by id.
pub(crate) async fn list_offers(
    connection: &mut AnyConnection,
    tenant: &str,
    from: From<'_>,
) -> Result<Vec<Offer>, sqlx::Error> {
    let sql = "SELECT * FROM engagement_offers WHERE tenant = $1 AND engagement > $2 ORDER BY engagement LIMIT $3";
    row::page(connection, sql, (tenant, from), read_offer).await
}

/// Notes that a provider withdrew what it asked for.
pub(crate) async fn withdraw_offer(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &EngagementId,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE engagement_offers SET withdrawn_at_ms = $1 WHERE tenant = $2 AND engagement = $3",
    )
    .bind(now_ms)
    .bind(tenant)
    .bind(id.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes a notice; false: it was given.
pub(crate) async fn insert_notice(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &EngagementId,
    valid_to_ms: i64,
    days: u32,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO engagement_notices (tenant, engagement, valid_to_ms, days) VALUES ($1, $2, $3, $4) \
         ON CONFLICT DO NOTHING",
    )
    .bind(tenant)
    .bind(id.as_str())
    .bind(valid_to_ms)
    .bind(i64::from(days))
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Notices given of an end, in the order given.
pub(crate) async fn notices(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &EngagementId,
    valid_to_ms: i64,
) -> Result<Vec<u32>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT days FROM engagement_notices WHERE tenant = $1 AND engagement = $2 AND valid_to_ms = $3 \
         ORDER BY days DESC",
    )
    .bind(tenant)
    .bind(id.as_str())
    .bind(valid_to_ms)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| small(row, "days")).collect()
}
