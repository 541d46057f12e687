//! Proto <-> model.

use counterfoil_chassis::{
    ApiError,
    clock::{millis, timestamp},
    names::{self, PrincipalName},
    resource_name,
};
use counterfoil_proto::authority as proto;
use prost_types::Timestamp;

use crate::model::{
    delegation::{Delegation, Held},
    emergency::{self, Emergency},
    engagement::{Engagement, Operator, Phase, Responsibility},
    gate::Requirement,
    ids::{self, PrincipalId, SourceId},
    policy::{Bundle, LapseRule, RolePermissions, Wanted},
    principal::{Organization, OrganizationKind, Principal, PrincipalKind},
    right::{DecisionAction, Right, SCOPE_SOURCES_MAX, Scope},
    standing::Competency,
    tenant::{Tenant, TenantKind},
    tenure::Tenure,
    text,
};

/// Most codes that narrow a right.
const CODES_MAX: usize = 20;

resource_name! {
    /// "tenants/{tenant}/organizations/{organization}".
    pub(super) struct OrganizationName { tenant: "tenants", organization: "organizations" }
}
resource_name! {
    /// "tenants/{tenant}/business-units/{business_unit}".
    pub(super) struct BusinessUnitName { tenant: "tenants", business_unit: "business-units" }
}
resource_name! {
    /// "tenants/{tenant}/decision-rights/{decision_right}".
    pub(super) struct DecisionRightName { tenant: "tenants", decision_right: "decision-rights" }
}
resource_name! {
    /// "tenants/{tenant}/logins/{login}".
    pub(super) struct LoginName { tenant: "tenants", login: "logins" }
}
resource_name! {
    /// "tenants/{tenant}/delegations/{delegation}".
    pub(super) struct DelegationName { tenant: "tenants", delegation: "delegations" }
}
resource_name! {
    /// "tenants/{tenant}/emergencies/{emergency}".
    pub(super) struct EmergencyName { tenant: "tenants", emergency: "emergencies" }
}
resource_name! {
    /// "tenants/{tenant}/mandates/{mandate}".
    pub(super) struct MandateName { tenant: "tenants", mandate: "mandates" }
}
resource_name! {
    /// "tenants/{tenant}/sources/{source}".
    pub(super) struct SourceName { tenant: "tenants", source: "sources" }
}
resource_name! {
    /// "tenants/{tenant}/engagements/{engagement}".
    pub(super) struct EngagementName { tenant: "tenants", engagement: "engagements" }
}
resource_name! {
    /// "tenants/{tenant}/competencies/{competency}".
    pub(super) struct CompetencyName { tenant: "tenants", competency: "competencies" }
}

/// INVALID_ARGUMENT: the field names something of another tenant.
fn foreign(field: &str) -> ApiError {
    ApiError::invalid(field, "must be of the same tenant")
}

/// An id that a caller chose: `id("tenant_id", PrincipalId::parse(text))`.
pub(super) fn id<T>(field: &str, parsed: Option<T>) -> Result<T, ApiError> {
    parsed.ok_or_else(|| ApiError::invalid(field, ids::ID))
}

/// A principal of this tenant, named in `field`.
pub(super) fn principal_in(field: &str, name: &str, tenant: &str) -> Result<PrincipalId, ApiError> {
    let name = PrincipalName::parse_field(field, name)?;
    if name.tenant != tenant {
        return Err(foreign(field));
    }
    id(field, PrincipalId::parse(&name.principal))
}

/// Where a right holds.
pub(super) fn scope(field: &str, scope: &[String], tenant: &str) -> Result<Scope, ApiError> {
    if scope.len() > SCOPE_SOURCES_MAX {
        return Err(ApiError::invalid(field, "has at most 200 entries"));
    }
    let mut sources = Vec::with_capacity(scope.len());
    let mut everywhere = false;
    for one in scope {
        if one == "*" {
            everywhere = true;
            continue;
        }
        let name = SourceName::parse_field(field, one)?;
        if name.tenant != tenant {
            return Err(foreign(field));
        }
        sources.push(SourceId::stored(name.source));
    }
    Ok(Scope::of(sources, everywhere))
}

/// Codes that narrow a right; ascending.
pub(super) fn codes(field: &str, codes: &[String]) -> Result<Vec<String>, ApiError> {
    if codes.len() > CODES_MAX {
        return Err(ApiError::invalid(field, "has at most 20 entries"));
    }
    if !codes.iter().all(|code| text::is_code(code)) {
        return Err(ApiError::invalid(field, text::CODE));
    }
    let mut codes = codes.to_vec();
    codes.sort_unstable();
    codes.dedup();
    Ok(codes)
}

pub(super) fn scope_names(scope: &Scope, tenant: &str) -> Vec<String> {
    match scope {
        Scope::Everywhere => vec!["*".to_owned()],
        Scope::Sources(sources) => sources.iter().map(|source| source.name(tenant)).collect(),
    }
}

/// A moment of the API in milliseconds; `None` when it is not set.
pub(super) fn moment(field: &str, time: Option<&Timestamp>) -> Result<Option<i64>, ApiError> {
    let read = |time| millis(time).ok_or_else(|| ApiError::invalid(field, "is not a valid time"));
    time.map(read).transpose()
}

/// An enum of the API as the one of the records, which has the same numbers. Unknown numbers are UNSPECIFIED.
pub(super) fn code<E: TryFrom<i32> + Default>(number: i32) -> E {
    E::try_from(number).unwrap_or_default()
}

pub(super) fn kind_of_organization(number: i32) -> OrganizationKind {
    code(number)
}

/// Whose tenant it is; a customer's unless said otherwise.
pub(super) fn kind_of_tenant(number: i32) -> TenantKind {
    match code(number) {
        TenantKind::Unspecified => TenantKind::Customer,
        kind => kind,
    }
}

pub(super) fn kind_of_principal(number: i32) -> PrincipalKind {
    // SYSTEM is Counterfoil itself: the records know it, the API does not give it out.
    proto::PrincipalKind::try_from(number)
        .map_or(PrincipalKind::Unspecified, |kind| code(kind as i32))
}

pub(super) fn action(number: i32) -> DecisionAction {
    code(number)
}

pub(super) fn wanted(policy: &proto::Policy) -> Wanted {
    Wanted {
        review_interval_max: policy.review_interval_max_seconds,
        exception_max: policy.exception_max_seconds,
        snapshot_age_max: policy.snapshot_age_max_seconds,
        lapse_rule: match code::<LapseRule>(policy.lapse_rule) {
            LapseRule::Unspecified => None,
            rule => Some(rule),
        },
        threshold_count: policy.threshold_count,
        threshold_permille: policy.threshold_permille,
        val_required: policy.val_required,
        persistence_offsets: policy.persistence_offsets_seconds.clone(),
        dormant_after: policy.dormant_after_seconds,
        four_eyes_actions: policy.four_eyes_actions.clone(),
        role_permissions: policy
            .role_permissions
            .iter()
            .map(role_permissions)
            .collect(),
        conditions: policy.conditions.clone(),
    }
}

fn role_permissions(asked: &proto::RolePermissions) -> RolePermissions {
    RolePermissions {
        role: asked.role.clone(),
        permissions: asked.permissions.clone(),
    }
}

pub(super) fn policy(bundle: &Bundle) -> proto::Policy {
    let rules = &bundle.rules;
    proto::Policy {
        version: bundle.version,
        bundle_hash: bundle.hash().to_vec(),
        review_interval_max_seconds: rules.review_interval_max_ms / 1000,
        exception_max_seconds: rules.exception_max_ms / 1000,
        snapshot_age_max_seconds: rules.snapshot_age_max_ms / 1000,
        lapse_rule: rules.lapse_rule,
        threshold_count: rules.threshold_count,
        threshold_permille: rules.threshold_permille,
        val_required: rules.val_required,
        persistence_offsets_seconds: rules
            .persistence_offsets_ms
            .iter()
            .map(|ms| ms / 1000)
            .collect(),
        dormant_after_seconds: match rules.dormant_after_ms {
            0 => -1,
            ms => ms / 1000,
        },
        effective_time: Some(timestamp(bundle.effective_from_ms)),
        role_permissions: rules.role_permissions.iter().map(kept_by_role).collect(),
        conditions: rules.conditions.clone(),
        four_eyes_actions: rules.four_eyes_actions.clone(),
    }
}

/// What a policy leaves to a role.
pub(super) fn kept_by_role(kept: &RolePermissions) -> proto::RolePermissions {
    proto::RolePermissions {
        role: kept.role.clone(),
        permissions: kept.permissions.clone(),
    }
}

/// A tenant; the salt only `for_service`.
pub(super) fn tenant(tenant: &Tenant, missing: &[Requirement], for_service: bool) -> proto::Tenant {
    proto::Tenant {
        name: names::tenant_name(&tenant.id).to_string(),
        display_name: tenant.display_name.clone(),
        state: tenant.state as i32,
        log_origin: tenant.log.origin.clone(),
        log_vkey: tenant.log.vkey.clone(),
        registrar_vkey: tenant.log.registrar_vkey.clone(),
        create_time: Some(timestamp(tenant.created_at_ms)),
        correlation_salt: match for_service {
            true => tenant.correlation_salt.to_vec(),
            false => Vec::new(),
        },
        missing_requirements: missing.iter().map(|one| one.code().to_owned()).collect(),
        kind: tenant.kind as i32,
    }
}

pub(super) fn organization(tenant: &str, organization: &Organization) -> proto::Organization {
    proto::Organization {
        name: organization.id.name(tenant),
        display_name: organization.display_name.clone(),
        kind: organization.kind as i32,
    }
}

pub(super) fn principal(tenant: &str, principal: &Principal) -> proto::Principal {
    proto::Principal {
        name: principal.id.name(tenant),
        display_name: principal.display_name.clone(),
        kind: principal.kind as i32,
        organization: principal.organization.name(tenant),
        organization_kind: principal.organization_kind as i32,
        identity_key: principal.identity_key.clone(),
        roles: principal.roles.clone(),
        end_time: principal.ended_at_ms.map(timestamp),
    }
}

pub(super) fn business_unit(tenant: &str, tenure: &Tenure) -> proto::BusinessUnit {
    let deputy = tenure.deputy.as_ref();
    proto::BusinessUnit {
        name: tenure.business_unit.name(tenant),
        display_name: tenure.display_name.clone(),
        owner: tenure.owner.name(tenant),
        deputy: deputy.map(|deputy| deputy.name(tenant)).unwrap_or_default(),
        effective_time: Some(timestamp(tenure.from_ms)),
    }
}

pub(super) fn right(tenant: &str, right: &Right) -> proto::DecisionRight {
    proto::DecisionRight {
        name: right.id.name(tenant),
        grantee: right.grantee.name(tenant),
        action: right.action as i32,
        scope: scope_names(&right.scope, tenant),
        valid_from_time: Some(timestamp(right.valid_from_ms)),
        valid_to_time: Some(timestamp(right.valid_to_ms)),
        grantor: right.grantor.name(tenant),
        revoke_time: right.revoked_at_ms.map(timestamp),
        record_hash: right.record_hash.to_vec(),
        excluded_sources: Vec::new(),
        tiers: right.tiers.clone(),
        environments: right.environments.clone(),
        state: match (right.revoked_at_ms, right.proposed) {
            (Some(_), _) => proto::DecisionRightState::Revoked,
            (None, true) => proto::DecisionRightState::Proposed,
            (None, false) => proto::DecisionRightState::Granted,
        }
        .into(),
        on_behalf_of: Vec::new(),
    }
}

/// An engagement of a customer, as it stands at a moment.
pub(super) fn engagement(
    tenant: &str,
    engagement: &Engagement,
    notices: &[u32],
    now_ms: i64,
) -> proto::Engagement {
    let terms = &engagement.terms;
    let approval = engagement.approval.as_ref();
    let state = match engagement.phase(now_ms) {
        Phase::Requested => proto::EngagementState::Requested,
        Phase::Live => proto::EngagementState::Live,
        Phase::Lapsed => proto::EngagementState::Lapsed,
        Phase::Ended => proto::EngagementState::Ended,
    };
    let parent = terms.parent.as_ref();
    proto::Engagement {
        name: engagement.id.name(tenant),
        provider: names::tenant_name(&engagement.provider).to_string(),
        roles: approval.map_or(&terms.roles, |one| &one.roles).clone(),
        purpose: terms.purpose.clone(),
        profile: terms.profile as i32,
        term_days: terms.term_days,
        parent: parent.map(|parent| parent.name(tenant)).unwrap_or_default(),
        state: state.into(),
        approvable_until_time: Some(timestamp(engagement.approvable_until_ms)),
        organization: approval
            .map(|one| one.organization.name(tenant))
            .unwrap_or_default(),
        valid_from_time: approval.map(|one| timestamp(one.valid_from_ms)),
        valid_to_time: approval.map(|one| timestamp(one.valid_to_ms)),
        end_time: engagement.ended_at_ms.map(timestamp),
        tier: engagement.tier,
        notices: notices.to_vec(),
        record_hash: approval
            .map_or(engagement.request_hash, |one| one.record_hash)
            .to_vec(),
    }
}

/// Somebody of a provider who acts for a customer; `refusal`: what they lack.
pub(super) fn operator(tenant: &str, operator: &Operator, refusal: &str) -> proto::Operator {
    proto::Operator {
        operator: operator.operator.clone(),
        principal: operator.principal.name(tenant),
        roles: operator.roles.clone(),
        assign_time: Some(timestamp(operator.assigned_at_ms)),
        unassign_time: operator.unassigned_at_ms.map(timestamp),
        refusal: refusal.to_owned(),
    }
}

/// Who answers for an activity.
pub(super) fn responsibility(tenant: &str, row: &Responsibility) -> proto::Responsibility {
    proto::Responsibility {
        activity: row.activity.clone(),
        operator_organization: row.organization.name(tenant),
        risk_owner: row.risk_owner.name(tenant),
    }
}

/// Evidence of competency.
pub(super) fn competency(tenant: &str, competency: &Competency) -> proto::Competency {
    proto::Competency {
        name: competency.id.name(tenant),
        operator: competency.operator.clone(),
        topic: competency.topic.clone(),
        issuer: competency.issuer.clone(),
        evidence_sha256: competency.evidence_sha256.to_vec(),
        valid_to_time: Some(timestamp(competency.valid_to_ms)),
        accept_time: competency.accepted_at_ms.map(timestamp),
        revoke_time: competency.revoked_at_ms.map(timestamp),
    }
}

/// What was passed on, as a right of who decides under it; `key` tells the identity of a principal.
pub(super) fn held(
    tenant: &str,
    held: &Held,
    key: impl Fn(&PrincipalId) -> String,
) -> proto::DecisionRight {
    let (scope, tiers, environments) = held.reach();
    let (from_ms, to_ms) = held.term();
    proto::DecisionRight {
        grantee: held.holder().name(tenant),
        scope: scope_names(scope, tenant),
        valid_from_time: Some(timestamp(from_ms)),
        valid_to_time: Some(timestamp(to_ms)),
        record_hash: held.record_hash().to_vec(),
        tiers: tiers.to_vec(),
        environments: environments.to_vec(),
        on_behalf_of: held
            .on_behalf_of()
            .map(|delegator| proto::Delegator {
                principal: delegator.name(tenant),
                identity_key: key(delegator),
            })
            .collect(),
        ..right(tenant, &held.right)
    }
}

pub(super) fn delegation(tenant: &str, one: &Delegation) -> proto::Delegation {
    proto::Delegation {
        name: one.id.name(tenant),
        delegator: one.delegator.name(tenant),
        delegate: one.delegate.name(tenant),
        source: match &one.source {
            Some(source) => source.name(tenant),
            None => one.right.name(tenant),
        },
        action: one.action as i32,
        scope: scope_names(&one.scope, tenant),
        tiers: one.tiers.clone(),
        environments: one.environments.clone(),
        valid_from_time: Some(timestamp(one.valid_from_ms)),
        valid_to_time: Some(timestamp(one.valid_to_ms)),
        transitive: one.transitive,
        reason_code: one.reason_code.clone(),
        revoke_time: one.revoked_at_ms.map(timestamp),
        record_hash: one.record_hash.to_vec(),
    }
}

/// The state of an access in an emergency.
pub(crate) fn phase(phase: emergency::Phase) -> proto::EmergencyState {
    match phase {
        emergency::Phase::Requested => proto::EmergencyState::Requested,
        emergency::Phase::Expired => proto::EmergencyState::Expired,
        emergency::Phase::Approved => proto::EmergencyState::Approved,
        emergency::Phase::Active => proto::EmergencyState::Active,
        emergency::Phase::Ended => proto::EmergencyState::Ended,
        emergency::Phase::Reviewed => proto::EmergencyState::Reviewed,
    }
}

pub(super) fn emergency(tenant: &str, one: &Emergency, now_ms: i64) -> proto::EmergencyAccess {
    let approval = one.approval.as_ref();
    proto::EmergencyAccess {
        name: one.id.name(tenant),
        state: phase(one.phase(now_ms)).into(),
        requester: one.requester.name(tenant),
        approver: approval
            .map(|approval| approval.approver.name(tenant))
            .unwrap_or_default(),
        roles: one.roles.clone(),
        actions: one.actions.iter().map(|action| *action as i32).collect(),
        scope: scope_names(&one.scope, tenant),
        duration_seconds: one.duration_ms / 1000,
        start_time: approval.map(|approval| timestamp(approval.valid_from_ms)),
        end_time: one.end_ms().map(timestamp),
        reviewer: one
            .reviewer
            .as_ref()
            .map(|one| one.name(tenant))
            .unwrap_or_default(),
    }
}

/// What an access in an emergency lets its requester decide, as a right.
pub(super) fn emergency_right(
    tenant: &str,
    one: &Emergency,
    action: DecisionAction,
) -> Option<proto::DecisionRight> {
    let approval = one.approval.as_ref()?;
    Some(proto::DecisionRight {
        name: one.id.name(tenant),
        grantee: one.requester.name(tenant),
        action: action as i32,
        scope: scope_names(&one.scope, tenant),
        valid_from_time: Some(timestamp(approval.valid_from_ms)),
        valid_to_time: Some(timestamp(approval.valid_to_ms)),
        grantor: approval.approver.name(tenant),
        record_hash: approval.record_hash.to_vec(),
        state: proto::DecisionRightState::Granted.into(),
        ..proto::DecisionRight::default()
    })
}

/// The tag of a principal's identity; empty when it is no identity.
pub(super) fn identity_tag(salt: &[u8; 32], identity_key: &str) -> Vec<u8> {
    if identity_key.is_empty() {
        return Vec::new();
    }
    counterfoil_evidence::leaf::identity_tag(salt, identity_key).to_vec()
}

#[cfg(test)]
mod tests {
    use counterfoil_evidence::v1 as evidence;

    use super::*;

    #[test]
    fn the_enums_of_the_api_have_the_numbers_of_the_records() {
        for number in 0..=5 {
            let api = proto::OrganizationKind::try_from(number)
                .unwrap()
                .as_str_name();
            assert_eq!(api, kind_of_organization(number).as_str_name());
            let api = proto::TenantState::try_from(number).unwrap().as_str_name();
            assert_eq!(api, code::<evidence::TenantState>(number).as_str_name());
            let api = proto::DecisionAction::try_from(number)
                .unwrap()
                .as_str_name();
            assert_eq!(api, action(number).as_str_name());
        }
        for number in 0..=3 {
            let api = proto::PrincipalKind::try_from(number)
                .unwrap()
                .as_str_name();
            assert_eq!(api, kind_of_principal(number).as_str_name());
        }
        for number in 0..=2 {
            let api = proto::LapseRule::try_from(number).unwrap().as_str_name();
            assert_eq!(api, code::<LapseRule>(number).as_str_name());
        }
    }

    #[test]
    fn the_api_gives_out_no_principal_that_is_counterfoil_itself() {
        assert_eq!(
            kind_of_principal(PrincipalKind::System as i32),
            PrincipalKind::Unspecified
        );
    }

    #[test]
    fn a_policy_comes_back_as_it_was_asked_for() {
        let asked = proto::Policy {
            review_interval_max_seconds: 1,
            exception_max_seconds: 2,
            snapshot_age_max_seconds: 3,
            lapse_rule: 1,
            threshold_count: 4,
            threshold_permille: 5,
            val_required: 2,
            persistence_offsets_seconds: vec![6, 7],
            dormant_after_seconds: -1,
            role_permissions: vec![proto::RolePermissions {
                role: "auditor".into(),
                permissions: vec!["items.get".into()],
            }],
            conditions: "forbid(\n  principal,\n  action,\n  resource\n);".into(),
            four_eyes_actions: vec![2, 3],
            ..proto::Policy::default()
        };
        let bundle = Bundle {
            version: 9,
            rules: crate::model::policy::rules(&wanted(&asked), &|_, _| true).unwrap(),
            effective_from_ms: 0,
            record_hash: [0; 32],
        };
        let answered = policy(&bundle);
        assert_eq!(answered.bundle_hash.len(), 32);
        assert_eq!(wanted(&answered), wanted(&asked));
    }
}
