//! A provider with people of its own, and calls in the name of a customer.

use counterfoil_chassis::clock::timestamp;
use counterfoil_proto::authority::*;
use tonic::Request;

use super::{
    Clients, DAY_MS, Deployment, NOW_MS, activate, create_organization, create_principal,
    create_tenant, people, token_by,
};

/// A call of somebody of a provider for a customer.
pub(crate) fn acting<T>(request: T, customer: &str) -> Request<T> {
    let mut request = Request::new(request);
    let customer = customer.parse().unwrap();
    request
        .metadata_mut()
        .insert("counterfoil-tenant", customer);
    request
}

/// Clients of the people of tenant "acme" and of the provider "msp", which is active.
pub(crate) struct World {
    pub(crate) deployment: Deployment,
    /// Administers acme.
    pub(crate) ada: Clients,
    /// Administers the provider.
    pub(crate) petra: Clients,
    /// Works for the provider.
    pub(crate) otto: Clients,
}

/// Makes a provider's tenant with "petra", who administers it, and "otto"; answers their clients.
pub(crate) async fn provider(deployment: &Deployment, id: &str) -> (Clients, Clients) {
    let mut admin = deployment.admin.clone();
    let request = CreateTenantRequest {
        kind: TenantKind::Provider.into(),
        ..create_tenant(id)
    };
    admin.tenants.create_tenant(request).await.unwrap();
    let organization = CreateOrganizationRequest {
        tenant: format!("tenants/{id}"),
        organization_id: "own".to_owned(),
        display_name: "Zebra Services".to_owned(),
        kind: OrganizationKind::Provider.into(),
        request_id: String::new(),
    };
    admin
        .principals
        .create_organization(organization)
        .await
        .unwrap();
    for (person, role) in [("petra", "tenant-administrator"), ("otto", "operator")] {
        let request = CreatePrincipalRequest {
            tenant: format!("tenants/{id}"),
            principal_id: person.to_owned(),
            principal: Some(Principal {
                display_name: format!("Ms {person} Zebra"),
                kind: PrincipalKind::Human.into(),
                organization: format!("tenants/{id}/organizations/own"),
                identity_key: format!("{person}@{id}.example"),
                roles: vec![role.to_owned()],
                ..Principal::default()
            }),
            request_id: String::new(),
        };
        admin.principals.create_principal(request).await.unwrap();
    }
    let name = |person: &str| format!("tenants/{id}/principals/{person}");
    let first = deployment.clients_of_for(&name("petra"), 365).await;
    let activate = ActivateTenantRequest {
        name: format!("tenants/{id}"),
        request_id: String::new(),
    };
    first
        .tenants
        .clone()
        .activate_tenant(activate)
        .await
        .unwrap();
    let token = async |person| token_by(&first, &name(person), 365).await;
    let petra = deployment.clients_with(&token("petra").await);
    (petra, deployment.clients_with(&token("otto").await))
}

/// Makes another customer's tenant with "ada", who administers it; answers her clients.
pub(crate) async fn customer(deployment: &Deployment, id: &str) -> Clients {
    let mut admin = deployment.admin.clone();
    let tenant = format!("tenants/{id}");
    admin
        .tenants
        .create_tenant(create_tenant(id))
        .await
        .unwrap();
    for (organization, kind) in [
        ("customer", OrganizationKind::Customer),
        ("provider", OrganizationKind::Provider),
    ] {
        let request = CreateOrganizationRequest {
            tenant: tenant.clone(),
            ..create_organization(organization, kind)
        };
        admin.principals.create_organization(request).await.unwrap();
    }
    let mut request = create_principal("ada", "customer", "tenant-administrator");
    request.tenant.clone_from(&tenant);
    let organization = format!("{tenant}/organizations/customer");
    request.principal.as_mut().unwrap().organization = organization;
    admin.principals.create_principal(request).await.unwrap();
    let name = format!("{tenant}/principals/ada");
    deployment.clients_of_for(&name, 365).await
}

impl World {
    pub(crate) async fn start(deployment: Deployment) -> Self {
        people(&mut deployment.admin.clone()).await;
        let ada = deployment
            .clients_of_for("tenants/acme/principals/ada", 365)
            .await;
        let (petra, otto) = provider(&deployment, "msp").await;
        Self {
            deployment,
            ada,
            petra,
            otto,
        }
    }

    /// Brings acme to ACTIVE, with somebody who answers for what must be answered for.
    pub(crate) async fn activate(&self) {
        self.deployment.complete().await;
        for activity in ["onboarding", "access_design", "offboarding"] {
            self.answer_for(activity, "customer").await;
        }
        let mut ada = self.ada.clone();
        ada.tenants.activate_tenant(activate()).await.unwrap();
    }

    /// The principal of acme as whom otto acts.
    pub(crate) async fn acts_as(&self, engagement: &str) -> String {
        let request = ListOperatorsRequest {
            engagement: engagement.to_owned(),
            ..ListOperatorsRequest::default()
        };
        let mut ada = self.ada.clone();
        let listed = ada.engagements.list_operators(request).await.unwrap();
        let mut operators = listed.into_inner().operators.into_iter();
        let found = operators.find(|one| one.unassign_time.is_none());
        found.unwrap().principal
    }

    /// Asks in the provider's name; the name of the engagement.
    pub(crate) async fn ask(&self, profile: EngagementProfile, days: u32) -> String {
        let answer = self.petra.clone().engagements;
        let request = ask("acme", profile, days);
        let answer = { answer }.request_engagement(request).await.unwrap();
        answer.into_inner().engagement.unwrap().name
    }

    /// Approves as the customer.
    pub(crate) async fn approve(&self, name: &str) -> Engagement {
        let mut ada = self.ada.clone();
        let answer = ada.engagements.approve_engagement(approve(name)).await;
        answer.unwrap().into_inner().engagement.unwrap()
    }

    /// A live engagement with "otto" assigned.
    pub(crate) async fn engage(&self, profile: EngagementProfile, days: u32) -> String {
        let name = self.ask(profile, days).await;
        self.approve(&name).await;
        let request = assign(&name, "tenants/msp/principals/otto");
        let mut petra = self.petra.clone();
        petra.engagements.assign_operator(request).await.unwrap();
        name
    }

    /// Otto shows evidence, and the customer accepts it; its name.
    pub(crate) async fn show(&self, topic: &str, days: i64) -> String {
        let name = self.submit(topic, days).await;
        let request = AcceptCompetencyRequest {
            name: name.clone(),
            ..AcceptCompetencyRequest::default()
        };
        let mut ada = self.ada.clone();
        ada.qualifications.accept_competency(request).await.unwrap();
        name
    }

    /// Otto shows evidence; its name.
    pub(crate) async fn submit(&self, topic: &str, days: i64) -> String {
        let request = SubmitCompetencyRequest {
            tenant: "tenants/acme".to_owned(),
            competency: Some(Competency {
                topic: topic.to_owned(),
                issuer: "ISC2".to_owned(),
                evidence_sha256: vec![7; 32],
                valid_to_time: Some(timestamp(NOW_MS + days * DAY_MS)),
                ..Competency::default()
            }),
            request_id: String::new(),
        };
        let mut otto = self.otto.clone();
        let answer = otto
            .qualifications
            .submit_competency(acting(request, "acme"));
        answer.await.unwrap().into_inner().competency.unwrap().name
    }

    /// The provider attests a control.
    pub(crate) async fn attest(&self, engagement: &str, control: &str, days: i64) {
        let request = attestation(engagement, control, days);
        let mut petra = self.petra.clone();
        petra.qualifications.attest_control(request).await.unwrap();
    }

    /// The customer reassesses.
    pub(crate) async fn reassess(&self, engagement: &str, result: ReassessmentResult, days: i64) {
        let request = CompleteReassessmentRequest {
            engagement: engagement.to_owned(),
            result: result.into(),
            next_due_time: Some(timestamp(NOW_MS + days * DAY_MS)),
            request_id: String::new(),
        };
        let mut ada = self.ada.clone();
        let done = ada.qualifications.complete_reassessment(request);
        done.await.unwrap();
    }

    /// The customer rates the provider, and says how sensitive its environment is.
    pub(crate) async fn rate(&self, engagement: &str, tier: u32, level: u32) {
        let mut ada = self.ada.clone();
        let request = SetPartnerTierRequest {
            engagement: engagement.to_owned(),
            tier,
            basis: "ISO-27001".to_owned(),
            request_id: String::new(),
        };
        ada.qualifications.set_partner_tier(request).await.unwrap();
        let request = SetEnvironmentSensitivityRequest {
            tenant: "tenants/acme".to_owned(),
            environment: "default".to_owned(),
            level,
            request_id: String::new(),
        };
        let set = ada.qualifications.set_environment_sensitivity(request);
        set.await.unwrap();
    }

    /// The customer says who answers for an activity.
    pub(crate) async fn answer_for(&self, activity: &str, organization: &str) {
        let mut ada = self.ada.clone();
        let request = responsibility(activity, organization, "ada");
        let done = ada.qualifications.assign_responsibility(request);
        done.await.unwrap();
    }

    /// Otto does what any operator may: the code of what he lacks; empty: nothing.
    pub(crate) async fn lacks(&self) -> String {
        match self.read().await {
            Ok(_) => String::new(),
            Err(status) => super::metadata(&status, "refusal"),
        }
    }

    /// Otto reads the customer's principals.
    pub(crate) async fn read(&self) -> Result<ListPrincipalsResponse, tonic::Status> {
        let request = ListPrincipalsRequest {
            tenant: "tenants/acme".to_owned(),
            ..ListPrincipalsRequest::default()
        };
        let mut otto = self.otto.clone();
        let answer = otto.principals.list_principals(acting(request, "acme"));
        answer.await.map(tonic::Response::into_inner)
    }
}

pub(crate) fn ask(
    customer: &str,
    profile: EngagementProfile,
    days: u32,
) -> RequestEngagementRequest {
    RequestEngagementRequest {
        customer: format!("tenants/{customer}"),
        engagement: Some(Engagement {
            roles: vec!["operator".to_owned(), "auditor".to_owned()],
            purpose: "ACCESS-REVIEWS".to_owned(),
            profile: profile.into(),
            term_days: days,
            ..Engagement::default()
        }),
        request_id: String::new(),
    }
}

pub(crate) fn approve(name: &str) -> ApproveEngagementRequest {
    ApproveEngagementRequest {
        name: name.to_owned(),
        organization: "tenants/acme/organizations/provider".to_owned(),
        ..ApproveEngagementRequest::default()
    }
}

pub(crate) fn assign(name: &str, operator: &str) -> AssignOperatorRequest {
    AssignOperatorRequest {
        engagement: name.to_owned(),
        operator: operator.to_owned(),
        roles: vec!["operator".to_owned()],
        request_id: String::new(),
    }
}

pub(crate) fn responsibility(
    activity: &str,
    organization: &str,
    owner: &str,
) -> AssignResponsibilityRequest {
    AssignResponsibilityRequest {
        tenant: "tenants/acme".to_owned(),
        responsibility: Some(Responsibility {
            activity: activity.to_owned(),
            operator_organization: format!("tenants/acme/organizations/{organization}"),
            risk_owner: format!("tenants/acme/principals/{owner}"),
        }),
        request_id: String::new(),
    }
}

pub(crate) fn attestation(engagement: &str, control: &str, days: i64) -> AttestControlRequest {
    AttestControlRequest {
        engagement: engagement.to_owned(),
        control: control.to_owned(),
        statement_sha256: vec![1; 32],
        evidence_sha256: vec![2; 32],
        valid_to_time: Some(timestamp(NOW_MS + days * DAY_MS)),
        request_id: String::new(),
    }
}
