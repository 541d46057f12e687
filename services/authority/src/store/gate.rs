//! Which records meet the requirements of activation.

use sqlx::AnyConnection;

use super::{engagements, policies, principals, qualifications, row, settings, tenures};
use crate::model::{
    RecordHash,
    engagement::MANDATORY,
    gate::{Met, Requirement},
    principal::{OrganizationKind, PrincipalKind},
    right::DecisionAction,
    settings::{SettingKind, last_resort},
    tenant::{Tenant, TenantKind},
};

/// The requirements that are met at a moment, each by the oldest record that meets it.
pub(crate) async fn met(
    connection: &mut AnyConnection,
    tenant: &str,
    now_ms: i64,
) -> Result<Met, sqlx::Error> {
    let mut met = Met::default();
    for (requirement, kind) in [
        (
            Requirement::CustomerOrganization,
            OrganizationKind::Customer,
        ),
        (
            Requirement::ProviderOrganization,
            OrganizationKind::Provider,
        ),
    ] {
        met.by(requirement, acting_for(connection, tenant, kind).await?);
    }
    // A unit that nobody stands in for is none that is answered for at every instant (I-12).
    let alone = tenures::without_deputy(connection, tenant).await?;
    let owner = tenures::first(connection, tenant).await?;
    met.by(
        Requirement::BusinessUnitOwner,
        owner.filter(|_| !alone).map(|tenure| tenure.record_hash),
    );
    for (requirement, action) in [
        (Requirement::RightToReview, DecisionAction::Review),
        (Requirement::RightToRemediate, DecisionAction::Remediate),
        (Requirement::RightToCertify, DecisionAction::Certify),
    ] {
        met.by(
            requirement,
            right_to(connection, tenant, action, now_ms).await?,
        );
    }
    met.by(
        Requirement::EscalationPath,
        escalation(connection, tenant).await?,
    );
    let retention = settings::latest(connection, tenant, SettingKind::RetentionPolicy).await?;
    met.by(
        Requirement::RetentionPolicy,
        retention.map(|setting| setting.record_hash),
    );
    let policy = policies::in_force(connection, tenant, now_ms).await?;
    met.by(
        Requirement::PolicyBundle,
        policy.map(|bundle| bundle.record_hash),
    );
    Ok(met)
}

async fn acting_for(
    connection: &mut AnyConnection,
    tenant: &str,
    kind: OrganizationKind,
) -> Result<Option<RecordHash>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT record_hash FROM principals WHERE tenant = $1 AND organization_kind = $2 AND ended_at_ms IS NULL \
         ORDER BY created_at_ms, principal LIMIT 1",
    )
    .bind(tenant)
    .bind(i64::from(kind as i32))
    .fetch_optional(connection)
    .await?;
    row.map(|row| row::hash(&row, "record_hash")).transpose()
}

async fn right_to(
    connection: &mut AnyConnection,
    tenant: &str,
    action: DecisionAction,
    now_ms: i64,
) -> Result<Option<RecordHash>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT r.record_hash FROM decision_rights r \
         JOIN principals p ON p.tenant = r.tenant AND p.principal = r.grantee \
         WHERE r.tenant = $1 AND r.action = $2 AND r.proposed = 0 AND r.revoked_at_ms IS NULL AND r.valid_from_ms <= $3 \
         AND r.valid_to_ms > $3 AND p.ended_at_ms IS NULL ORDER BY r.decision_right LIMIT 1",
    )
    .bind(tenant)
    .bind(i64::from(action as i32))
    .bind(now_ms)
    .fetch_optional(connection)
    .await?;
    row.map(|row| row::hash(&row, "record_hash")).transpose()
}

async fn escalation(
    connection: &mut AnyConnection,
    tenant: &str,
) -> Result<Option<RecordHash>, sqlx::Error> {
    let setting = settings::latest(connection, tenant, SettingKind::EscalationPath).await?;
    let Some(setting) = setting else {
        return Ok(None);
    };
    let last = last_resort(&setting.content)
        .ok_or_else(|| row::damaged("content", "is no escalation path"))?;
    let last = principals::get(connection, tenant, &last).await?;
    let answers = last.is_some_and(|principal| principal.require_accountable().is_ok());
    Ok(answers.then_some(setting.record_hash))
}

/// The requirements of a tenant that are met at a moment, whatever kind of tenant it is.
pub(crate) async fn of_tenant(
    connection: &mut AnyConnection,
    tenant: &Tenant,
    now_ms: i64,
) -> Result<Met, sqlx::Error> {
    if tenant.kind == TenantKind::Provider {
        let mut met = Met::requiring(&Requirement::PROVIDER);
        let administrator = provider_administrator(connection, &tenant.id).await?;
        met.by(Requirement::ProviderAdministrator, administrator);
        return Ok(met);
    }
    let mut met = met(connection, &tenant.id, now_ms).await?;
    if engagements::any_live(connection, &tenant.id, now_ms).await? {
        met.require(&Requirement::ENGAGED);
        for (requirement, activity) in Requirement::ENGAGED.into_iter().zip(MANDATORY) {
            let row = qualifications::responsibility(connection, &tenant.id, activity).await?;
            met.by(requirement, row.map(|row| row.record_hash));
        }
    }
    Ok(met)
}

/// The oldest active human of a provider organisation who administers the tenant.
async fn provider_administrator(
    connection: &mut AnyConnection,
    tenant: &str,
) -> Result<Option<RecordHash>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT * FROM principals WHERE tenant = $1 AND organization_kind = $2 AND kind = $3 AND ended_at_ms IS NULL \
         ORDER BY created_at_ms, principal",
    )
    .bind(tenant)
    .bind(i64::from(OrganizationKind::Provider as i32))
    .bind(i64::from(PrincipalKind::Human as i32))
    .fetch_all(connection)
    .await?;
    for row in &rows {
        let principal = principals::read(row)?;
        if principal.has_role("tenant-administrator") {
            return Ok(Some(principal.record_hash));
        }
    }
    Ok(None)
}
