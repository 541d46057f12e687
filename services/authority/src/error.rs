//! Why this service refuses, as reasons that a program can read.

use std::time::Duration;

use counterfoil_chassis::ApiError;

use crate::model::{
    Faults,
    credential::Stronger,
    delegation::NotDelegable,
    emergency,
    engagement::Phase,
    gate::Requirement,
    ids::{BusinessUnitId, PrincipalId},
    mandate,
    principal::{NotAccountable, OrganizationKind},
    right::NotGrantable,
    tenant::TenantState,
};

/// When it is worth while to try again what is counted by the day.
const HOUR: Duration = Duration::from_hours(1);

/// A refusal.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum Refusal {
    /// INVALID_ARGUMENT: fields are wrong.
    #[error("fields are wrong")]
    Invalid(Faults),
    /// ALREADY_EXISTS.
    #[error("there is a tenant with this id")]
    TenantExists,
    /// ALREADY_EXISTS.
    #[error("there is an organisation with this id")]
    OrganizationExists,
    /// ALREADY_EXISTS.
    #[error("there is a principal with the id {0}")]
    PrincipalExists(PrincipalId),
    /// FAILED_PRECONDITION.
    #[error("the principal has ended")]
    PrincipalEnded,
    /// FAILED_PRECONDITION: an outcome would be left without its owner.
    #[error(
        "the principal owns the business unit {0} or stands in for its owner: set others first"
    )]
    OwnsBusinessUnit(BusinessUnitId),
    /// FAILED_PRECONDITION: an unanswered question would end nowhere.
    #[error("the principal is the last resort of the escalation path: set another path first")]
    IsLastResort,
    /// FAILED_PRECONDITION.
    #[error("{field}: {principal} {reason}")]
    NotAccountable {
        /// Field that names it.
        field: &'static str,
        /// Who.
        principal: PrincipalId,
        /// Why.
        reason: NotAccountable,
    },
    /// FAILED_PRECONDITION.
    #[error("decision_rights[{position}]: {reason}")]
    NotGrantable {
        /// Which of the rights, from 0.
        position: usize,
        /// Why.
        reason: NotGrantable,
    },
    /// FAILED_PRECONDITION.
    #[error("the principal {0} is unknown or has ended")]
    NotAsked(PrincipalId),
    /// PERMISSION_DENIED: who operates the process does not govern it.
    #[error("only the customer organisation may do this; the caller acts for another one")]
    CallerNotCustomer,
    /// FAILED_PRECONDITION.
    #[error("it cannot be passed on: {0}")]
    NotDelegable(NotDelegable),
    /// FAILED_PRECONDITION.
    #[error("there is no right that holds throughout that time")]
    NothingToPassOn,
    /// FAILED_PRECONDITION: two people, and this is not the second.
    #[error("another human than who asked, and than whom it is for, must approve this")]
    SecondHumanRequired,
    /// FAILED_PRECONDITION: a third, and this is not.
    #[error("a human who neither asked for it nor approved it must look at it")]
    ThirdHumanRequired,
    /// FAILED_PRECONDITION.
    #[error("only a human may do this")]
    HumanRequired,
    /// FAILED_PRECONDITION.
    #[error("only a principal of the tenant may do this")]
    PrincipalRequired,
    /// FAILED_PRECONDITION.
    #[error("the right does not wait for approval")]
    NotProposed,
    /// FAILED_PRECONDITION.
    #[error("the access is not in a state that allows this")]
    EmergencyState(emergency::Phase),
    /// FAILED_PRECONDITION.
    #[error("no evidence was taken away since the tenant began to leave")]
    EvidenceNotTaken,
    /// FAILED_PRECONDITION: no instant without somebody to answer.
    #[error("a unit of a tenant that is past its onboarding needs a deputy")]
    DeputyRequired,
    /// PERMISSION_DENIED.
    #[error("whoever grants a right is its grantor")]
    GrantorNotCaller,
    /// PERMISSION_DENIED: who runs the deployment sets a tenant up, and governs none.
    #[error(
        "the tenant governs itself once it is active; the deployment's administrator only sets it up"
    )]
    TenantGovernsItself,
    /// PERMISSION_DENIED: a limited credential would make one that is less limited.
    #[error("the caller's credential is limited to scopes, and may only issue tokens within them")]
    ScopeExceeded,
    /// PERMISSION_DENIED: a weak credential would make a strong one.
    #[error(
        "a credential makes none that is to live longer than it was itself, or that needs no certificate where it needs one"
    )]
    CredentialExceeded,
    /// FAILED_PRECONDITION.
    #[error("the deployment has no such issuer for this tenant")]
    IssuerUnknown,
    /// ALREADY_EXISTS.
    #[error("the subject is linked to a principal of this tenant: unlink it first")]
    LoginExists,
    /// FAILED_PRECONDITION.
    #[error("the login has been unlinked")]
    LoginUnlinked,
    /// FAILED_PRECONDITION.
    #[error("the decision right has been revoked")]
    RightRevoked,
    /// FAILED_PRECONDITION, one violation a requirement.
    #[error("the tenant cannot be activated, it lacks {}", codes(.missing))]
    TenantIncomplete {
        /// "tenants/{tenant}".
        tenant: String,
        /// What is missing.
        missing: Vec<Requirement>,
    },
    /// FAILED_PRECONDITION.
    #[error("the tenant's state does not allow this")]
    TenantState(TenantState),
    /// FAILED_PRECONDITION: a provider's own tenant governs nothing.
    #[error("a provider's own tenant has organisations of kind PROVIDER and SUBCONTRACTOR only")]
    TenantKind,
    /// FAILED_PRECONDITION: who works for a customer for hire calls with the token of their own tenant.
    #[error("principals of a provider call with a token of the provider's own tenant")]
    TokenOfOwnTenant,
    /// PERMISSION_DENIED.
    #[error("only an active human of a provider's own, active tenant may do this")]
    CallerNotProvider,
    /// PERMISSION_DENIED.
    #[error("only somebody who acts under an engagement may do this")]
    CallerNotOperator,
    /// ALREADY_EXISTS.
    #[error("another request to this customer can still be approved")]
    EngagementRequested,
    /// FAILED_PRECONDITION.
    #[error("the engagement is {0:?}")]
    EngagementState(Phase),
    /// FAILED_PRECONDITION: a subcontractor's engagement is never wider than its provider's.
    #[error("the subcontractor's engagement is wider than its provider's: {0}")]
    EngagementWider(&'static str),
    /// FAILED_PRECONDITION.
    #[error("the organisation must be of kind {0:?}")]
    OrganizationKind(OrganizationKind),
    /// FAILED_PRECONDITION.
    #[error("nobody answers for {0}")]
    ResponsibilitiesMissing(&'static str),
    /// ALREADY_EXISTS.
    #[error("they act for this customer already")]
    OperatorAssigned,
    /// FAILED_PRECONDITION.
    #[error("the evidence is {0}")]
    CompetencyState(&'static str),
    /// RESOURCE_EXHAUSTED: for so long, milliseconds. It is counted in the provider's own tenant.
    #[error("this customer was asked 10 times within 90 days")]
    TooManyRequests(i64),
    /// RESOURCE_EXHAUSTED.
    #[error("50 people were assigned under this engagement within a day")]
    TooManyAssignments,
    /// RESOURCE_EXHAUSTED.
    #[error("the provider gave its word for this control 25 times within a day")]
    TooManyAttestations,
    /// FAILED_PRECONDITION.
    #[error("100 things that the operator has shown wait for an answer of the customer")]
    TooMuchUnanswered,
    /// FAILED_PRECONDITION: a risk would be left without its owner.
    #[error("the principal owns the risk of {0}: assign it to another one first")]
    OwnsRisk(String),
}

/// A refusal about the mandate of an AI agent.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum AgentRefusal {
    /// FAILED_PRECONDITION.
    #[error("the agent must be an active principal of the kind AI_AGENT")]
    AgentRequired,
    /// FAILED_PRECONDITION: nobody answers for themselves.
    #[error("the owner is the agent, by their identity key")]
    OwnerIsAgent,
    /// FAILED_PRECONDITION.
    #[error("the agent's mandate was taken back: grant it another one first")]
    AgentRevoked,
    /// FAILED_PRECONDITION.
    #[error("the mandate is {0:?}")]
    MandateState(mandate::State),
    /// FAILED_PRECONDITION.
    #[error("100 mandates wait to be granted: grant or revoke some")]
    TooManyDrafts,
    /// PERMISSION_DENIED.
    #[error("the agent has no mandate in force for this")]
    MandateRequired,
    /// FAILED_PRECONDITION.
    #[error("the agent's mandate has nothing left: {0}")]
    MandateLimit(&'static str),
}

/// A refusal about a legal hold.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum HoldRefusal {
    /// FAILED_PRECONDITION: what would go.
    #[error("a legal hold is in force: {0}")]
    InForce(String),
    /// FAILED_PRECONDITION.
    #[error("the hold was released")]
    Released,
    /// FAILED_PRECONDITION: two people, and this is not the second.
    #[error("another human than who placed the hold must release it")]
    SecondHuman,
    /// FAILED_PRECONDITION.
    #[error("100 holds are in force: name more classes in one, or release some")]
    TooMany,
}

impl From<Stronger> for Refusal {
    fn from(stronger: Stronger) -> Self {
        match stronger {
            Stronger::Scopes => Self::ScopeExceeded,
            Stronger::Unbound | Stronger::Term => Self::CredentialExceeded,
        }
    }
}

impl From<Faults> for Refusal {
    fn from(faults: Faults) -> Self {
        Self::Invalid(faults)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::Invalid(faults) => invalid(faults),
            Refusal::TenantExists => Self::already_exists("TENANT_EXISTS", message),
            Refusal::OrganizationExists => Self::already_exists("ORGANIZATION_EXISTS", message),
            Refusal::PrincipalExists(id) => Self::already_exists("PRINCIPAL_EXISTS", message)
                .with_metadata("principal", id.as_str()),
            Refusal::PrincipalEnded => Self::failed_precondition("PRINCIPAL_ENDED", message),
            Refusal::OwnsBusinessUnit(unit) => {
                Self::failed_precondition("OWNS_BUSINESS_UNIT", message)
                    .with_metadata("business_unit", unit.as_str())
            }
            Refusal::IsLastResort => Self::failed_precondition("IS_LAST_RESORT", message),
            Refusal::NotAccountable { .. } => Self::failed_precondition("NOT_ACCOUNTABLE", message),
            Refusal::NotGrantable { position, .. } => {
                Self::failed_precondition("NOT_GRANTABLE", message)
                    .with_metadata("position", position.to_string())
            }
            Refusal::NotAsked(id) => Self::failed_precondition("PRINCIPAL_NOT_ACTIVE", message)
                .with_metadata("principal", id.as_str()),
            Refusal::CallerNotCustomer => Self::permission_denied("CALLER_NOT_CUSTOMER", message),
            Refusal::NotDelegable(_) => Self::failed_precondition("NOT_DELEGABLE", message),
            Refusal::NothingToPassOn => Self::failed_precondition("NOTHING_TO_PASS_ON", message),
            Refusal::SecondHumanRequired => {
                Self::failed_precondition("SECOND_HUMAN_REQUIRED", message)
            }
            Refusal::ThirdHumanRequired => {
                Self::failed_precondition("THIRD_HUMAN_REQUIRED", message)
            }
            Refusal::HumanRequired => Self::failed_precondition("HUMAN_REQUIRED", message),
            Refusal::PrincipalRequired => Self::failed_precondition("PRINCIPAL_REQUIRED", message),
            Refusal::NotProposed => Self::failed_precondition("NOT_PROPOSED", message),
            Refusal::EmergencyState(phase) => Self::failed_precondition("EMERGENCY_STATE", message)
                .with_metadata("state", crate::api::phase(phase).as_str_name()),
            Refusal::EvidenceNotTaken => Self::failed_precondition("EVIDENCE_NOT_TAKEN", message),
            Refusal::DeputyRequired => Self::failed_precondition("DEPUTY_REQUIRED", message),
            Refusal::GrantorNotCaller => Self::permission_denied("GRANTOR_NOT_CALLER", message),
            Refusal::TenantGovernsItself => {
                Self::permission_denied("TENANT_GOVERNS_ITSELF", message)
            }
            Refusal::ScopeExceeded => Self::permission_denied("SCOPE_EXCEEDED", message),
            Refusal::CredentialExceeded => Self::permission_denied("CREDENTIAL_EXCEEDED", message),
            Refusal::IssuerUnknown => Self::failed_precondition("ISSUER_UNKNOWN", message),
            Refusal::LoginExists => Self::already_exists("LOGIN_EXISTS", message),
            Refusal::LoginUnlinked => Self::failed_precondition("LOGIN_UNLINKED", message),
            Refusal::RightRevoked => Self::failed_precondition("DECISION_RIGHT_REVOKED", message),
            Refusal::TenantIncomplete { tenant, missing } => incomplete(&tenant, missing, message),
            Refusal::TenantState(state) => Self::failed_precondition("TENANT_STATE", message)
                .with_metadata("state", state.as_str_name()),
            Refusal::TenantKind => Self::failed_precondition("TENANT_KIND", message),
            Refusal::TokenOfOwnTenant => Self::failed_precondition("TOKEN_OF_OWN_TENANT", message),
            Refusal::CallerNotProvider => Self::permission_denied("CALLER_NOT_PROVIDER", message),
            Refusal::CallerNotOperator => Self::permission_denied("CALLER_NOT_OPERATOR", message),
            Refusal::EngagementRequested => Self::already_exists("ENGAGEMENT_REQUESTED", message),
            Refusal::EngagementState(_) => Self::failed_precondition("ENGAGEMENT_STATE", message),
            Refusal::EngagementWider(_) => Self::failed_precondition("ENGAGEMENT_WIDER", message),
            Refusal::OrganizationKind(_) => Self::failed_precondition("ORGANIZATION_KIND", message),
            Refusal::ResponsibilitiesMissing(activity) => {
                Self::failed_precondition("RESPONSIBILITIES_MISSING", message)
                    .with_metadata("activity", activity)
            }
            Refusal::OperatorAssigned => Self::already_exists("OPERATOR_ASSIGNED", message),
            Refusal::CompetencyState(_) => Self::failed_precondition("COMPETENCY_STATE", message),
            Refusal::TooManyRequests(left_ms) => too_many_requests(left_ms, message),
            Refusal::TooManyAssignments => in_an_hour("TOO_MANY_ASSIGNMENTS", message),
            Refusal::TooManyAttestations => in_an_hour("TOO_MANY_ATTESTATIONS", message),
            Refusal::TooMuchUnanswered => Self::failed_precondition("TOO_MUCH_UNANSWERED", message),
            Refusal::OwnsRisk(_) => Self::failed_precondition("OWNS_RISK", message),
        }
    }
}

impl From<AgentRefusal> for ApiError {
    fn from(refusal: AgentRefusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            AgentRefusal::AgentRequired => Self::failed_precondition("AGENT_REQUIRED", message),
            AgentRefusal::OwnerIsAgent => Self::failed_precondition("OWNER_IS_AGENT", message),
            AgentRefusal::AgentRevoked => Self::failed_precondition("AGENT_REVOKED", message),
            AgentRefusal::MandateState(state) => {
                Self::failed_precondition("MANDATE_STATE", message)
                    .with_metadata("state", crate::api::mandate_state(state).as_str_name())
            }
            AgentRefusal::TooManyDrafts => Self::failed_precondition("TOO_MANY_DRAFTS", message),
            AgentRefusal::MandateRequired => Self::permission_denied("MANDATE_REQUIRED", message),
            AgentRefusal::MandateLimit(limit) => {
                Self::failed_precondition("MANDATE_LIMIT", message).with_metadata("limit", limit)
            }
        }
    }
}

impl From<HoldRefusal> for ApiError {
    fn from(refusal: HoldRefusal) -> Self {
        let message = refusal.to_string();
        let reason = match refusal {
            HoldRefusal::InForce(_) => "HOLD_IN_FORCE",
            HoldRefusal::Released => "HOLD_RELEASED",
            HoldRefusal::SecondHuman => "SECOND_HUMAN_REQUIRED",
            HoldRefusal::TooMany => "TOO_MANY_HOLDS",
        };
        Self::failed_precondition(reason, message)
    }
}

fn in_an_hour(reason: &'static str, message: String) -> ApiError {
    ApiError::resource_exhausted(reason, message, HOUR)
}

fn incomplete(tenant: &str, missing: Vec<Requirement>, message: String) -> ApiError {
    let error = ApiError::failed_precondition("TENANT_INCOMPLETE", message);
    missing.into_iter().fold(error, |error, one| {
        error.and_violation(one.code(), tenant, one.missing())
    })
}

fn too_many_requests(left_ms: i64, message: String) -> ApiError {
    let left = Duration::from_millis(left_ms.unsigned_abs());
    ApiError::resource_exhausted("TOO_MANY_REQUESTS", message, left)
}

fn codes(missing: &[Requirement]) -> String {
    let codes: Vec<&str> = missing.iter().copied().map(Requirement::code).collect();
    codes.join(", ")
}

fn invalid(faults: Faults) -> ApiError {
    let mut pairs = faults.into_pairs().into_iter();
    let (field, description) = pairs.next().unwrap_or_default();
    let first = ApiError::invalid(field, description);
    pairs.fold(first, |error, (field, description)| {
        error.and_invalid(field, description)
    })
}
