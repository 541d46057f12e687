//! The provider of a tenant: a tenant of its own, with an engagement that is live and an operator who lacks nothing.

use anyhow::{Context as _, Result};
use counterfoil::client::Clients;
use counterfoil_proto::authority::{
    AcceptCompetencyRequest, ActivateTenantRequest, ApproveEngagementRequest,
    AssignOperatorRequest, AssignResponsibilityRequest, AttestControlRequest, Competency,
    CompleteReassessmentRequest, CreateOrganizationRequest, CreatePrincipalRequest,
    CreateTenantRequest, Engagement, EngagementProfile, IssueTokenRequest, OrganizationKind,
    Principal, PrincipalKind, ReassessmentResult, RequestEngagementRequest, Responsibility,
    SetEnvironmentSensitivityRequest, SetPartnerTierRequest, SubmitCompetencyRequest, TenantKind,
};
use prost_types::Timestamp;

use crate::world::World;

/// The tokens of a provider's administrator, and of its operator, who acts for the tenant by a header.
pub struct Tokens {
    pub administrator: String,
    pub operator: String,
    /// Of somebody who is assigned too, and has shown nothing.
    pub novice: String,
    /// The live engagement.
    pub engagement: String,
    /// An engagement that the provider asks for beside the live one, and may withdraw.
    pub withdrawn: String,
}

/// Makes the provider of a tenant, which must be active.
///
/// # Errors
/// When something is refused.
pub async fn engage(
    admin: &Clients,
    customer: &Clients,
    world: &World,
    soon: i64,
) -> Result<Tokens> {
    let mut tokens = people(admin, world).await?;
    let provider = admin.as_caller(&tokens.administrator)?;
    for activity in ["onboarding", "access_design", "offboarding"] {
        let request = AssignResponsibilityRequest {
            tenant: world.name(),
            responsibility: Some(Responsibility {
                activity: activity.to_owned(),
                operator_organization: format!(
                    "{}/organizations/{}-provider",
                    world.name(),
                    world.id
                ),
                risk_owner: format!("{}/principals/{}-director", world.name(), world.id),
            }),
            ..Default::default()
        };
        customer
            .qualifications()?
            .assign_responsibility(request)
            .await?;
    }
    let request = RequestEngagementRequest {
        customer: world.name(),
        engagement: Some(Engagement {
            roles: vec!["operator".to_owned()],
            purpose: "ACCESS-REVIEWS".to_owned(),
            profile: EngagementProfile::Standard.into(),
            term_days: 30,
            ..Default::default()
        }),
        ..Default::default()
    };
    let request_again = request.clone();
    let mut asks = provider.engagements()?;
    let asked = asks.request_engagement(request).await?;
    let name = asked.into_inner().engagement.context("no engagement")?.name;
    let request = ApproveEngagementRequest {
        name: name.clone(),
        organization: format!("{}/organizations/{}-provider", world.name(), world.id),
        ..Default::default()
    };
    customer.engagements()?.approve_engagement(request).await?;
    let request = AssignOperatorRequest {
        engagement: name.clone(),
        operator: format!("{}-msp/principals/otto", world.name()),
        roles: vec!["operator".to_owned()],
        ..Default::default()
    };
    provider.engagements()?.assign_operator(request).await?;
    let request = AssignOperatorRequest {
        engagement: name.clone(),
        operator: format!("{}-msp/principals/nova", world.name()),
        roles: vec!["operator".to_owned()],
        ..Default::default()
    };
    provider.engagements()?.assign_operator(request).await?;
    let another = asks.request_engagement(request_again).await?.into_inner();
    tokens.withdrawn = another.engagement.context("no engagement")?.name;
    let operator = admin.as_caller(&tokens.operator)?.acting_for(&world.id)?;
    tokens.engagement.clone_from(&name);
    qualify(&provider, &operator, customer, (world, &name), soon).await?;
    Ok(tokens)
}

/// The provider's tenant with an administrator and an operator.
async fn people(admin: &Clients, world: &World) -> Result<Tokens> {
    let tenant = format!("{}-msp", world.name());
    let request = CreateTenantRequest {
        tenant_id: format!("{}-msp", world.id),
        display_name: format!("{} provider", world.canary),
        kind: TenantKind::Provider.into(),
        ..Default::default()
    };
    admin.tenants()?.create_tenant(request).await?;
    let request = CreateOrganizationRequest {
        tenant: tenant.clone(),
        organization_id: "own".to_owned(),
        display_name: format!("{} provider", world.canary),
        kind: OrganizationKind::Provider.into(),
        ..Default::default()
    };
    admin.principals()?.create_organization(request).await?;
    let mut tokens = Vec::new();
    for (id, role) in [
        ("petra", "tenant-administrator"),
        ("otto", "operator"),
        ("nova", "operator"),
    ] {
        let request = CreatePrincipalRequest {
            tenant: tenant.clone(),
            principal_id: id.to_owned(),
            principal: Some(Principal {
                display_name: format!("{} {id}", world.canary),
                kind: PrincipalKind::Human.into(),
                organization: format!("{tenant}/organizations/own"),
                roles: vec![role.to_owned()],
                ..Default::default()
            }),
            ..Default::default()
        };
        admin.principals()?.create_principal(request).await?;
        let request = IssueTokenRequest {
            principal: format!("{tenant}/principals/{id}"),
            ttl_seconds: 3_600,
            ..Default::default()
        };
        let issued = admin.principals()?.issue_token(request).await?;
        tokens.push(issued.into_inner().token);
    }
    let request = ActivateTenantRequest {
        name: tenant,
        ..Default::default()
    };
    let novice = tokens.pop().context("three tokens")?;
    let operator = tokens.pop().context("three tokens")?;
    let administrator = tokens.pop().context("three tokens")?;
    let petra = admin.as_caller(&administrator)?;
    petra.tenants()?.activate_tenant(request).await?;
    Ok(Tokens {
        administrator,
        operator,
        novice,
        engagement: String::new(),
        withdrawn: String::new(),
    })
}

/// Everything that a STANDARD engagement asks for.
async fn qualify(
    provider: &Clients,
    operator: &Clients,
    customer: &Clients,
    (world, engagement): (&World, &str),
    soon: i64,
) -> Result<()> {
    let soon = Timestamp {
        seconds: soon,
        nanos: 0,
    };
    let mut qualifications = customer.qualifications()?;
    let request = SetPartnerTierRequest {
        engagement: engagement.to_owned(),
        tier: 2,
        basis: "ISO-27001".to_owned(),
        ..Default::default()
    };
    qualifications.set_partner_tier(request).await?;
    let request = SetEnvironmentSensitivityRequest {
        tenant: world.name(),
        environment: "default".to_owned(),
        level: 1,
        ..Default::default()
    };
    qualifications.set_environment_sensitivity(request).await?;
    let request = CompleteReassessmentRequest {
        engagement: engagement.to_owned(),
        result: ReassessmentResult::Passed.into(),
        next_due_time: Some(soon),
        ..Default::default()
    };
    qualifications.complete_reassessment(request).await?;
    let request = AttestControlRequest {
        engagement: engagement.to_owned(),
        control: "access_control".to_owned(),
        statement_sha256: vec![1; 32],
        evidence_sha256: vec![2; 32],
        valid_to_time: Some(soon),
        ..Default::default()
    };
    provider.qualifications()?.attest_control(request).await?;
    for topic in ["onboarding", "access_reviews", "incident_response"] {
        let request = SubmitCompetencyRequest {
            tenant: world.name(),
            competency: Some(Competency {
                topic: topic.to_owned(),
                issuer: "ISC2".to_owned(),
                evidence_sha256: vec![3; 32],
                valid_to_time: Some(soon),
                ..Default::default()
            }),
            ..Default::default()
        };
        let shown = operator
            .qualifications()?
            .submit_competency(request)
            .await?;
        let request = AcceptCompetencyRequest {
            name: shown.into_inner().competency.context("no evidence")?.name,
            ..Default::default()
        };
        qualifications.accept_competency(request).await?;
    }
    Ok(())
}
