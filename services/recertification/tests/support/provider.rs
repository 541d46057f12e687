//! A provider of the tenant: a tenant of its own with "otto", who acts for acme under an engagement that lacks nothing.

use counterfoil_chassis::{auth::Token, clock::timestamp};
use counterfoil_proto::authority::{
    AcceptCompetencyRequest, ActivateTenantRequest, ApproveEngagementRequest,
    AssignOperatorRequest, AssignResponsibilityRequest, AttestControlRequest, Competency,
    CompleteReassessmentRequest, CreateOrganizationRequest, CreatePrincipalRequest,
    CreateTenantRequest, Engagement, EngagementProfile, IssueTokenRequest, ListOperatorsRequest,
    OrganizationKind, Principal, PrincipalKind, ReassessmentResult, RequestEngagementRequest,
    Responsibility, SetEnvironmentSensitivityRequest, SetPartnerTierRequest,
    SubmitCompetencyRequest, TenantKind,
};
use prost_types::Timestamp;
use tonic::Request;

use super::{Clients, DAY_MS, TENANT, World, clients, principal_name};

const PROVIDER: &str = "tenants/msp";

/// A call of somebody of the provider for the customer.
pub(crate) fn acting<T>(request: T) -> Request<T> {
    let mut request = Request::new(request);
    let customer = "acme".parse().unwrap();
    request
        .metadata_mut()
        .insert("counterfoil-tenant", customer);
    request
}

impl World {
    /// Otto's clients, and the principal of acme as whom he acts: the provider's tier reaches "default" and nothing that is more
    /// sensitive.
    pub(crate) async fn engaged(&self) -> (Clients, String) {
        let (petra, otto) = self.provider().await;
        let engagement = self.engagement(&petra).await;
        self.qualify(&petra, &otto, &engagement).await;
        let request = ListOperatorsRequest {
            engagement,
            ..ListOperatorsRequest::default()
        };
        let mut engagements = self.olga.engagements.clone();
        let listed = engagements.list_operators(request).await.unwrap();
        let mut operators = listed.into_inner().operators.into_iter();
        (otto, operators.next().unwrap().principal)
    }

    /// Who administers the provider, and otto.
    async fn provider(&self) -> (Clients, Clients) {
        let request = CreateTenantRequest {
            tenant_id: "msp".into(),
            display_name: "Provider".into(),
            kind: TenantKind::Provider.into(),
            ..Default::default()
        };
        let mut tenants = self.admin.tenants.clone();
        tenants.create_tenant(request).await.unwrap();
        let mut principals = self.admin.principals.clone();
        let request = CreateOrganizationRequest {
            tenant: PROVIDER.into(),
            organization_id: "own".into(),
            display_name: "Provider".into(),
            kind: OrganizationKind::Provider.into(),
            request_id: String::new(),
        };
        principals.create_organization(request).await.unwrap();
        let mut made = Vec::new();
        for (id, role) in [("petra", "tenant-administrator"), ("otto", "operator")] {
            let request = CreatePrincipalRequest {
                tenant: PROVIDER.into(),
                principal_id: id.into(),
                principal: Some(Principal {
                    display_name: format!("Name of {id}"),
                    kind: PrincipalKind::Human.into(),
                    organization: format!("{PROVIDER}/organizations/own"),
                    identity_key: format!("{id}@msp.example"),
                    roles: vec![role.into()],
                    ..Principal::default()
                }),
                request_id: String::new(),
            };
            principals.create_principal(request).await.unwrap();
            let request = IssueTokenRequest {
                principal: format!("{PROVIDER}/principals/{id}"),
                ttl_seconds: 3_600,
                ..IssueTokenRequest::default()
            };
            let issued = principals.issue_token(request).await.unwrap().into_inner();
            made.push(clients(&self.urls, &Token::parse(&issued.token).unwrap()));
        }
        let (otto, petra) = (made.pop().unwrap(), made.pop().unwrap());
        let request = ActivateTenantRequest {
            name: PROVIDER.into(),
            request_id: String::new(),
        };
        let mut tenants = petra.tenants.clone();
        tenants.activate_tenant(request).await.unwrap();
        (petra, otto)
    }

    /// An engagement that is live, with otto assigned.
    async fn engagement(&self, petra: &Clients) -> String {
        let mut qualifications = self.olga.qualifications.clone();
        for activity in ["onboarding", "access_design", "offboarding"] {
            let request = AssignResponsibilityRequest {
                tenant: TENANT.into(),
                responsibility: Some(Responsibility {
                    activity: activity.into(),
                    operator_organization: format!("{TENANT}/organizations/provider"),
                    risk_owner: principal_name("olga"),
                }),
                ..Default::default()
            };
            qualifications.assign_responsibility(request).await.unwrap();
        }
        let mut engagements = petra.engagements.clone();
        let request = RequestEngagementRequest {
            customer: TENANT.into(),
            engagement: Some(Engagement {
                roles: vec!["operator".into()],
                purpose: "ACCESS-REVIEWS".into(),
                profile: EngagementProfile::Standard.into(),
                term_days: 30,
                ..Engagement::default()
            }),
            request_id: String::new(),
        };
        let asked = engagements.request_engagement(request).await.unwrap();
        let name = asked.into_inner().engagement.unwrap().name;
        let request = ApproveEngagementRequest {
            name: name.clone(),
            organization: format!("{TENANT}/organizations/provider"),
            ..Default::default()
        };
        let mut approves = self.olga.engagements.clone();
        approves.approve_engagement(request).await.unwrap();
        let request = AssignOperatorRequest {
            engagement: name.clone(),
            operator: format!("{PROVIDER}/principals/otto"),
            roles: vec!["operator".into()],
            request_id: String::new(),
        };
        engagements.assign_operator(request).await.unwrap();
        name
    }

    /// Everything that a STANDARD engagement asks for.
    async fn qualify(&self, petra: &Clients, otto: &Clients, engagement: &str) {
        let soon: Option<Timestamp> = Some(timestamp(self.clock.now_ms() + 20 * DAY_MS));
        let mut qualifications = self.olga.qualifications.clone();
        let request = SetPartnerTierRequest {
            engagement: engagement.into(),
            tier: 2,
            basis: "ISO-27001".into(),
            request_id: String::new(),
        };
        qualifications.set_partner_tier(request).await.unwrap();
        let request = SetEnvironmentSensitivityRequest {
            tenant: TENANT.into(),
            environment: "default".into(),
            level: 1,
            request_id: String::new(),
        };
        let set = qualifications.set_environment_sensitivity(request);
        set.await.unwrap();
        let request = CompleteReassessmentRequest {
            engagement: engagement.into(),
            result: ReassessmentResult::Passed.into(),
            next_due_time: soon,
            request_id: String::new(),
        };
        let done = qualifications.complete_reassessment(request);
        done.await.unwrap();
        let request = AttestControlRequest {
            engagement: engagement.into(),
            control: "access_control".into(),
            statement_sha256: vec![1; 32],
            evidence_sha256: vec![2; 32],
            valid_to_time: soon,
            request_id: String::new(),
        };
        let mut attests = petra.qualifications.clone();
        attests.attest_control(request).await.unwrap();
        for topic in ["onboarding", "access_reviews", "incident_response"] {
            let request = SubmitCompetencyRequest {
                tenant: TENANT.into(),
                competency: Some(Competency {
                    topic: topic.into(),
                    issuer: "ISC2".into(),
                    evidence_sha256: vec![3; 32],
                    valid_to_time: soon,
                    ..Competency::default()
                }),
                request_id: String::new(),
            };
            let mut shows = otto.qualifications.clone();
            let shown = shows.submit_competency(acting(request)).await.unwrap();
            let request = AcceptCompetencyRequest {
                name: shown.into_inner().competency.unwrap().name,
                ..Default::default()
            };
            qualifications.accept_competency(request).await.unwrap();
        }
    }
}
