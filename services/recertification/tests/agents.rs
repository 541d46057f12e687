//! A campaign that an AI agent certifies, with the real authority: as far as its mandate goes, and counted (E11).
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on panics, also in what its tests share"
)]

mod support;

use counterfoil_chassis::{clock::timestamp, testing::TestDatabase};
use counterfoil_proto::{
    authority::{
        AgentMandate, Autonomy, CreatePrincipalRequest, DecisionAction, DecisionRight,
        GetMandateRequest, GrantDecisionRightsRequest, GrantMandateRequest, Principal,
        PrincipalKind, ProposeMandateRequest,
    },
    recertification::{
        ActivateCampaignRequest, Campaign, CampaignState, CreateCampaignRequest, EndReviewRequest,
    },
};
use support::{Clients, DAY_MS, TENANT, World, principal_name};
use tonic::{Code, Status};
use tonic_types::StatusExt;

impl World {
    /// The agent "iris", an operator that may certify, and "vera", who administers the tenant beside olga.
    async fn agent(&self) -> Clients {
        for (id, kind, role) in [
            ("iris", PrincipalKind::AiAgent, "operator"),
            ("vera", PrincipalKind::Human, "tenant-administrator"),
        ] {
            let request = CreatePrincipalRequest {
                tenant: TENANT.into(),
                principal_id: id.into(),
                principal: Some(Principal {
                    display_name: format!("Name of {id}"),
                    kind: kind.into(),
                    organization: format!("{TENANT}/organizations/acme"),
                    roles: vec![role.into()],
                    ..Principal::default()
                }),
                request_id: String::new(),
            };
            let mut principals = self.olga.principals.clone();
            principals.create_principal(request).await.unwrap();
        }
        let request = GrantDecisionRightsRequest {
            tenant: TENANT.into(),
            decision_rights: vec![DecisionRight {
                grantee: principal_name("iris"),
                action: DecisionAction::Certify.into(),
                valid_to_time: Some(timestamp(self.clock.now_ms() + 10 * DAY_MS)),
                grantor: principal_name("olga"),
                ..DecisionRight::default()
            }],
            request_id: String::new(),
        };
        let mut rights = self.olga.rights.clone();
        rights.grant_decision_rights(request).await.unwrap();
        self.of("iris").await
    }

    /// Gives the agent a mandate with so many acts an hour; its name.
    async fn mandated(&self, autonomy: Autonomy, acts_per_hour_max: u32) -> String {
        let request = ProposeMandateRequest {
            tenant: TENANT.into(),
            mandate: Some(AgentMandate {
                agent: principal_name("iris"),
                owner: principal_name("olga"),
                autonomy: autonomy.into(),
                actions: vec![DecisionAction::Certify.into()],
                acts_per_hour_max,
                model: "vendor/model-4".into(),
                build: "7".into(),
                valid_to_time: Some(timestamp(self.clock.now_ms() + 10 * DAY_MS)),
                review_interval_days: 5,
                kill_path: "Stop the unit iris.service.".into(),
                ..AgentMandate::default()
            }),
            request_id: String::new(),
        };
        let mut olga = self.olga.mandates.clone();
        let draft = olga.propose_mandate(request).await.unwrap().into_inner();
        let name = draft.mandate.unwrap().name;
        let request = GrantMandateRequest {
            name: name.clone(),
            request_id: String::new(),
        };
        let mut vera = self.of("vera").await.mandates;
        vera.grant_mandate(request).await.unwrap();
        // The gates remember who calls for a second.
        self.clock.advance_ms(1_001);
        name
    }

    async fn acts(&self, mandate: &str) -> u32 {
        let request = GetMandateRequest {
            name: mandate.into(),
        };
        let found = self
            .olga
            .mandates
            .clone()
            .get_mandate(request)
            .await
            .unwrap();
        found.into_inner().mandate.unwrap().acts_last_hour
    }
}

async fn define(agent: &Clients, id: &str) -> Result<Campaign, Status> {
    let request = CreateCampaignRequest {
        tenant: TENANT.into(),
        campaign_id: id.into(),
        campaign: Some(Campaign {
            display_name: "Quarterly review".into(),
            fallback_reviewer: principal_name("finn"),
            ..Campaign::default()
        }),
        request_id: format!("define-{id}"),
    };
    let answer = agent.campaigns.clone().create_campaign(request).await?;
    Ok(answer.into_inner().campaign.unwrap())
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone());
    (status.code(), reason.unwrap_or_default())
}

counterfoil_chassis::both_engines! {
    /// An agent that only proposes defines no campaign; one that decides does, and every step of it counts once.
    async fn e11_an_agent_certifies_within_its_mandate_and_is_counted(db: TestDatabase) {
        let world = World::start(db).await;
        let agent = world.agent().await;
        assert_eq!(refused(define(&agent, "q3").await).0, Code::PermissionDenied, "no mandate");
        world.mandated(Autonomy::Propose, 2).await;
        assert_eq!(refused(define(&agent, "q3").await).0, Code::PermissionDenied);
        let mandate = world.mandated(Autonomy::ExecuteBounded, 2).await;
        let campaign = define(&agent, "q3").await.unwrap();
        let again = define(&agent, "q3").await.unwrap();
        assert_eq!((again.name, world.acts(&mandate).await), (campaign.name.clone(), 1), "the same request counts once");
        world.stage(&campaign.name).await.unwrap();
        let request = ActivateCampaignRequest { name: campaign.name.clone(), request_id: String::new() };
        let active = agent.campaigns.clone().activate_campaign(request).await.unwrap().into_inner().campaign.unwrap();
        assert_eq!((active.state(), world.acts(&mandate).await), (CampaignState::Active, 2));
        let end = EndReviewRequest { name: campaign.name.clone(), request_id: String::new() };
        let answer = agent.campaigns.clone().end_review(end.clone()).await;
        assert_eq!(refused(answer), (Code::FailedPrecondition, "MANDATE_LIMIT".into()));
        assert_eq!(refused(define(&agent, "q4").await), (Code::FailedPrecondition, "MANDATE_LIMIT".into()));
        world.clock.advance_ms(3_600_000);
        agent.campaigns.clone().end_review(end).await.unwrap();
        world.stop().await;
    }
}
