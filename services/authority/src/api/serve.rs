//! Every rpc and the function that answers it.

use counterfoil_chassis::Caller;
use counterfoil_proto::authority::{
    credential_service_server::CredentialService,
    decision_right_service_server::DecisionRightService,
    delegation_service_server::DelegationService, emergency_service_server::EmergencyService,
    engagement_service_server::EngagementService, mandate_service_server::MandateService,
    policy_service_server::PolicyService, principal_service_server::PrincipalService,
    qualification_service_server::QualificationService, tenant_service_server::TenantService, *,
};
use tonic::{Request, Response, Status};

use super::{
    Api, agents, business_units, competencies, delegations, emergencies, engagements, holds, life,
    logins, mandates, offers, operators, organizations, policies, principals, qualifications,
    rights, settings, tenants, tokens,
};

macro_rules! serve {
    ($service:ident { $($module:ident::$rpc:ident($request:ident) -> $response:ident;)* }) => {
        #[tonic::async_trait]
        impl $service for Api {
            $(
                async fn $rpc(
                    &self,
                    request: Request<$request>,
                ) -> Result<Response<$response>, Status> {
                    let caller = Caller::of(&request)?.clone();
                    let answer = $module::$rpc(self, &caller, request.into_inner()).await?;
                    Ok(Response::new(answer))
                }
            )*
        }
    };
}

serve! {
    PolicyService {
        policies::publish_policy(PublishPolicyRequest) -> PublishPolicyResponse;
        policies::get_policy(GetPolicyRequest) -> GetPolicyResponse;
        policies::list_policies(ListPoliciesRequest) -> ListPoliciesResponse;
        policies::simulate_policy(SimulatePolicyRequest) -> SimulatePolicyResponse;
    }
}

serve! {
    TenantService {
        tenants::create_tenant(CreateTenantRequest) -> CreateTenantResponse;
        tenants::get_tenant(GetTenantRequest) -> GetTenantResponse;
        tenants::list_tenants(ListTenantsRequest) -> ListTenantsResponse;
        tenants::activate_tenant(ActivateTenantRequest) -> ActivateTenantResponse;
        life::suspend_tenant(SuspendTenantRequest) -> SuspendTenantResponse;
        life::resume_tenant(ResumeTenantRequest) -> ResumeTenantResponse;
        life::begin_exit(BeginExitRequest) -> BeginExitResponse;
        life::record_evidence_pack(RecordEvidencePackRequest) -> RecordEvidencePackResponse;
        life::close_tenant(CloseTenantRequest) -> CloseTenantResponse;
        settings::set_escalation_path(SetEscalationPathRequest) -> SetEscalationPathResponse;
        settings::set_retention_policy(SetRetentionPolicyRequest) -> SetRetentionPolicyResponse;
        holds::place_legal_hold(PlaceLegalHoldRequest) -> PlaceLegalHoldResponse;
        holds::release_legal_hold(ReleaseLegalHoldRequest) -> ReleaseLegalHoldResponse;
        holds::list_legal_holds(ListLegalHoldsRequest) -> ListLegalHoldsResponse;
    }
}

serve! {
    PrincipalService {
        organizations::create_organization(CreateOrganizationRequest) -> CreateOrganizationResponse;
        organizations::list_organizations(ListOrganizationsRequest) -> ListOrganizationsResponse;
        principals::create_principal(CreatePrincipalRequest) -> CreatePrincipalResponse;
        principals::batch_create_principals(BatchCreatePrincipalsRequest) -> BatchCreatePrincipalsResponse;
        principals::get_principal(GetPrincipalRequest) -> GetPrincipalResponse;
        principals::list_principals(ListPrincipalsRequest) -> ListPrincipalsResponse;
        principals::end_principal(EndPrincipalRequest) -> EndPrincipalResponse;
        tokens::issue_token(IssueTokenRequest) -> IssueTokenResponse;
        tokens::revoke_token(RevokeTokenRequest) -> RevokeTokenResponse;
        tokens::introspect_token(IntrospectTokenRequest) -> IntrospectTokenResponse;
    }
}

serve! {
    DecisionRightService {
        business_units::set_business_unit_owner(SetBusinessUnitOwnerRequest) -> SetBusinessUnitOwnerResponse;
        business_units::get_business_unit_owner(GetBusinessUnitOwnerRequest) -> GetBusinessUnitOwnerResponse;
        business_units::list_business_units(ListBusinessUnitsRequest) -> ListBusinessUnitsResponse;
        rights::grant_decision_rights(GrantDecisionRightsRequest) -> GrantDecisionRightsResponse;
        rights::approve_decision_right(ApproveDecisionRightRequest) -> ApproveDecisionRightResponse;
        rights::revoke_decision_right(RevokeDecisionRightRequest) -> RevokeDecisionRightResponse;
        rights::list_decision_rights(ListDecisionRightsRequest) -> ListDecisionRightsResponse;
        rights::check_decision_right(CheckDecisionRightRequest) -> CheckDecisionRightResponse;
    }
}

serve! {
    CredentialService {
        tokens::list_tokens(ListTokensRequest) -> ListTokensResponse;
        logins::link_login(LinkLoginRequest) -> LinkLoginResponse;
        logins::unlink_login(UnlinkLoginRequest) -> UnlinkLoginResponse;
        logins::list_logins(ListLoginsRequest) -> ListLoginsResponse;
    }
}

serve! {
    EngagementService {
        offers::request_engagement(RequestEngagementRequest) -> RequestEngagementResponse;
        engagements::approve_engagement(ApproveEngagementRequest) -> ApproveEngagementResponse;
        engagements::extend_engagement(ExtendEngagementRequest) -> ExtendEngagementResponse;
        engagements::end_engagement(EndEngagementRequest) -> EndEngagementResponse;
        engagements::get_engagement(GetEngagementRequest) -> GetEngagementResponse;
        engagements::list_engagements(ListEngagementsRequest) -> ListEngagementsResponse;
        operators::assign_operator(AssignOperatorRequest) -> AssignOperatorResponse;
        operators::unassign_operator(UnassignOperatorRequest) -> UnassignOperatorResponse;
        operators::list_operators(ListOperatorsRequest) -> ListOperatorsResponse;
        operators::resolve_operator(ResolveOperatorRequest) -> ResolveOperatorResponse;
    }
}

serve! {
    DelegationService {
        delegations::grant_delegation(GrantDelegationRequest) -> GrantDelegationResponse;
        delegations::set_absence(SetAbsenceRequest) -> SetAbsenceResponse;
        delegations::revoke_delegation(RevokeDelegationRequest) -> RevokeDelegationResponse;
        delegations::list_delegations(ListDelegationsRequest) -> ListDelegationsResponse;
    }
}

serve! {
    QualificationService {
        qualifications::assign_responsibility(AssignResponsibilityRequest) -> AssignResponsibilityResponse;
        qualifications::list_responsibilities(ListResponsibilitiesRequest) -> ListResponsibilitiesResponse;
        qualifications::set_environment_sensitivity(SetEnvironmentSensitivityRequest) -> SetEnvironmentSensitivityResponse;
        qualifications::set_partner_tier(SetPartnerTierRequest) -> SetPartnerTierResponse;
        qualifications::complete_reassessment(CompleteReassessmentRequest) -> CompleteReassessmentResponse;
        qualifications::attest_control(AttestControlRequest) -> AttestControlResponse;
        competencies::submit_competency(SubmitCompetencyRequest) -> SubmitCompetencyResponse;
        competencies::accept_competency(AcceptCompetencyRequest) -> AcceptCompetencyResponse;
        competencies::revoke_competency(RevokeCompetencyRequest) -> RevokeCompetencyResponse;
        competencies::list_competencies(ListCompetenciesRequest) -> ListCompetenciesResponse;
    }
}

serve! {
    EmergencyService {
        emergencies::request_emergency_access(RequestEmergencyAccessRequest) -> RequestEmergencyAccessResponse;
        emergencies::approve_emergency_access(ApproveEmergencyAccessRequest) -> ApproveEmergencyAccessResponse;
        emergencies::end_emergency_access(EndEmergencyAccessRequest) -> EndEmergencyAccessResponse;
        emergencies::review_emergency_use(ReviewEmergencyUseRequest) -> ReviewEmergencyUseResponse;
        emergencies::list_emergency_accesses(ListEmergencyAccessesRequest) -> ListEmergencyAccessesResponse;
    }
}

serve! {
    MandateService {
        mandates::propose_mandate(ProposeMandateRequest) -> ProposeMandateResponse;
        mandates::grant_mandate(GrantMandateRequest) -> GrantMandateResponse;
        mandates::certify_mandate(CertifyMandateRequest) -> CertifyMandateResponse;
        mandates::suspend_mandate(SuspendMandateRequest) -> SuspendMandateResponse;
        mandates::resume_mandate(ResumeMandateRequest) -> ResumeMandateResponse;
        mandates::revoke_mandate(RevokeMandateRequest) -> RevokeMandateResponse;
        mandates::get_mandate(GetMandateRequest) -> GetMandateResponse;
        mandates::list_mandates(ListMandatesRequest) -> ListMandatesResponse;
        agents::use_mandate(UseMandateRequest) -> UseMandateResponse;
    }
}
