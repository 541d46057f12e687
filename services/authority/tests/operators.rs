//! Operators, over gRPC: on what evidence somebody of a provider acts for a customer, judged at every call.

#![cfg(test)]

mod common;

use common::{provider::*, *};
use counterfoil_chassis::{both_engines, clock::timestamp, testing::TestDatabase};
use counterfoil_evidence::catalogue::Payload;
use counterfoil_proto::authority::*;
use tonic::Code;

const OTTO: &str = "tenants/msp/principals/otto";
const TOPICS: [&str; 3] = ["onboarding", "access_reviews", "incident_response"];

/// Otto acts for acme, and everything that STANDARD asks for is there: evidence for 20 days, attestation for 30, reassessment
/// for 40.
async fn qualified(db: TestDatabase) -> (World, String) {
    let world = World::start(Deployment::start(db).await).await;
    let name = world.engage(EngagementProfile::Standard, 60).await;
    for topic in TOPICS {
        world.show(topic, 20).await;
    }
    world.rate(&name, 3, 3).await;
    world.attest(&name, "access_control", 30).await;
    world.reassess(&name, ReassessmentResult::Passed, 40).await;
    (world, name)
}

both_engines! {
    async fn b17_b32_authority_is_what_the_evidence_says_at_every_call(db: TestDatabase) {
        let world = World::start(Deployment::start(db).await).await;
        let name = world.engage(EngagementProfile::Standard, 60).await;
        assert_eq!(world.lacks().await, "TIER_TOO_LOW", "no sensitivity stated is the highest");
        world.rate(&name, 2, 3).await;
        assert_eq!(world.lacks().await, "TIER_TOO_LOW");
        world.rate(&name, 3, 3).await;
        assert_eq!(world.lacks().await, "COMPETENCY_MISSING");
        for topic in &TOPICS[..2] {
            world.show(topic, 20).await;
        }
        let submitted = world.submit(TOPICS[2], 20).await;
        assert_eq!(world.lacks().await, "COMPETENCY_MISSING", "shown is not accepted");
        let accept = AcceptCompetencyRequest { name: submitted.clone(), ..Default::default() };
        let mut ada = world.ada.clone();
        ada.qualifications.accept_competency(accept.clone()).await.unwrap();
        assert_eq!(reason(&ada.qualifications.accept_competency(accept).await.unwrap_err()), "COMPETENCY_STATE");
        assert_eq!(world.lacks().await, "ATTESTATION_MISSING");
        world.attest(&name, "access_control", 30).await;
        assert_eq!(world.lacks().await, "REASSESSMENT_MISSING");
        world.reassess(&name, ReassessmentResult::Failed, 40).await;
        assert_eq!(world.lacks().await, "REASSESSMENT_FAILED");
        world.reassess(&name, ReassessmentResult::Passed, 40).await;
        assert_eq!(world.lacks().await, "");
        let acts_as = world.acts_as(&name).await;
        assert!(world.read().await.unwrap().principals.iter().any(|one| one.name == acts_as));
        // Revoked: gone with the next call; and what he may always do he still may.
        let revoke = RevokeCompetencyRequest { name: submitted, request_id: String::new() };
        ada.qualifications.revoke_competency(revoke).await.unwrap();
        let refused = world.read().await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "OPERATOR_NOT_QUALIFIED"));
        let own = ListCompetenciesRequest { tenant: "tenants/acme".to_owned(), ..Default::default() };
        let mut otto = world.otto.clone();
        let shown = otto.qualifications.list_competencies(acting(own, "acme")).await.unwrap().into_inner();
        assert_eq!(shown.competencies.len(), 3);
        world.show(TOPICS[2], 20).await;
        assert_eq!(world.lacks().await, "");
    }

    async fn b28_b29_what_lapses_takes_the_right_away_at_that_very_moment(db: TestDatabase) {
        let (world, name) = qualified(db).await;
        let clock = &world.deployment.clock;
        clock.set_ms(NOW_MS + 20 * DAY_MS - 1);
        assert_eq!(world.lacks().await, "");
        clock.advance_ms(1);
        assert_eq!(world.lacks().await, "COMPETENCY_MISSING");
        for topic in TOPICS {
            world.show(topic, 60).await;
        }
        clock.set_ms(NOW_MS + 30 * DAY_MS - 1);
        assert_eq!(world.lacks().await, "");
        clock.advance_ms(1);
        assert_eq!(world.lacks().await, "ATTESTATION_MISSING");
        world.attest(&name, "access_control", 70).await;
        clock.set_ms(NOW_MS + 40 * DAY_MS - 1);
        assert_eq!(world.lacks().await, "");
        clock.advance_ms(1);
        assert_eq!(world.lacks().await, "REASSESSMENT_MISSING");
        world.reassess(&name, ReassessmentResult::Passed, 70).await;
        assert_eq!(world.lacks().await, "");
        for topic in TOPICS {
            world.show(topic, 70).await;
        }
        clock.set_ms(NOW_MS + 60 * DAY_MS - 1);
        assert_eq!(world.lacks().await, "");
        // The engagement itself: then acme is a tenant that does not exist.
        clock.advance_ms(1);
        let over = world.read().await.unwrap_err();
        let mut otto = world.otto.clone();
        let nobody = ListPrincipalsRequest { tenant: "tenants/nobody".to_owned(), ..Default::default() };
        let missing = otto.principals.list_principals(acting(nobody, "nobody")).await.unwrap_err();
        assert_eq!((over.code(), over.message(), over.details()), (missing.code(), missing.message(), missing.details()));
        assert_eq!(over.code(), Code::NotFound);
    }

    async fn b24_a_pilot_ends_when_a_duty_is_handed_to_the_provider(db: TestDatabase) {
        let world = World::start(Deployment::start(db).await).await;
        let name = world.engage(EngagementProfile::Pilot, 30).await;
        world.rate(&name, 1, 1).await;
        world.show("access_reviews", 20).await;
        world.attest(&name, "access_control", 30).await;
        world.reassess(&name, ReassessmentResult::Passed, 30).await;
        assert_eq!(world.lacks().await, "PILOT_DUTIES_MOVED");
        for duty in ["secrets", "approvals", "logging"] {
            world.answer_for(duty, "customer").await;
        }
        assert_eq!(world.lacks().await, "");
        world.answer_for("logging", "provider").await;
        assert_eq!(world.lacks().await, "PILOT_DUTIES_MOVED");
        // And it is no longer than 90 days, whoever asks.
        let extend = ExtendEngagementRequest { name, days: 61, request_id: String::new() };
        assert_eq!(fields(&world.ada.clone().engagements.extend_engagement(extend).await.unwrap_err()), ["days"]);
    }

    async fn the_header_selects_among_what_the_credential_may_do_and_gives_nothing(db: TestDatabase) {
        let (world, name) = qualified(db).await;
        let list = |tenant: &str| ListPrincipalsRequest { tenant: format!("tenants/{tenant}"), ..Default::default() };
        // Without the header the provider's people are at home, and acme does not exist for them.
        let mut otto = world.otto.clone();
        assert_eq!(otto.principals.list_principals(list("acme")).await.unwrap_err().code(), Code::NotFound);
        assert!(otto.principals.list_principals(list("msp")).await.is_ok());
        assert!(otto.principals.list_principals(acting(list("msp"), "msp")).await.is_ok());
        // With it they act there and nowhere else.
        assert!(otto.principals.list_principals(acting(list("acme"), "acme")).await.is_ok());
        assert_eq!(otto.principals.list_principals(acting(list("msp"), "acme")).await.unwrap_err().code(), Code::NotFound);
        // Nobody else gains by it: not the provider's administrator, who is not assigned, nor the customer, nor the deployment.
        let mut petra = world.petra.clone();
        assert_eq!(petra.principals.list_principals(acting(list("acme"), "acme")).await.unwrap_err().code(), Code::NotFound);
        let mut ada = world.ada.clone();
        assert_eq!(ada.principals.list_principals(acting(list("msp"), "msp")).await.unwrap_err().code(), Code::NotFound);
        let mut admin = world.deployment.admin.clone();
        let refused = admin.principals.list_principals(acting(list("acme"), "acme")).await.unwrap_err();
        assert_eq!(reason(&refused), "OPERATOR_NOT_ALLOWED");
        // Named twice, or as nothing that is a tenant: nothing is there.
        let mut twice = acting(list("acme"), "acme");
        twice.metadata_mut().append("counterfoil-tenant", "msp".parse().unwrap());
        assert_eq!(otto.principals.list_principals(twice).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(otto.principals.list_principals(acting(list("acme"), "tenants/acme")).await.unwrap_err().code(), Code::NotFound);
        // The roles are those of the assignment, never more; nobody of a provider has a token here.
        let acts_as = world.acts_as(&name).await;
        let mut wanted = right("otto", DecisionAction::Review, 1);
        wanted.grantee.clone_from(&acts_as);
        let grant = grant(&[wanted]);
        assert_eq!(reason(&otto.rights.grant_decision_rights(acting(grant, "acme")).await.unwrap_err()), "PERMISSION_MISSING");
        let token = IssueTokenRequest { principal: acts_as, ..IssueTokenRequest::default() };
        assert_eq!(reason(&admin.principals.issue_token(token).await.unwrap_err()), "TOKEN_OF_OWN_TENANT");
        let twice = assign(&name, OTTO);
        assert_eq!(reason(&petra.engagements.assign_operator(twice).await.unwrap_err()), "OPERATOR_ASSIGNED");
        let mut wide = assign(&name, "tenants/msp/principals/petra");
        wide.roles = vec!["reviewer".to_owned()];
        assert_eq!(fields(&petra.engagements.assign_operator(wide).await.unwrap_err()), ["roles"]);
        // Unassigned by the customer: gone at once.
        let unassign = UnassignOperatorRequest { engagement: name, operator: "tenants/msp/principals/otto".to_owned(), request_id: String::new() };
        ada.engagements.unassign_operator(unassign).await.unwrap();
        assert_eq!(world.read().await.unwrap_err().code(), Code::NotFound);
    }

    async fn r72_every_call_of_an_operator_stands_in_the_customers_log_before_it_is_answered(db: TestDatabase) {
        let (world, name) = qualified(db).await;
        let acts_as = world.acts_as(&name).await;
        let mut otto = world.otto.clone();
        let list = ListPrincipalsRequest { tenant: "tenants/acme".to_owned(), ..Default::default() };
        let mut request = acting(list.clone(), "acme");
        request.metadata_mut().insert("counterfoil-ticket", "CHG-4711".parse().unwrap());
        otto.principals.list_principals(request).await.unwrap();
        let mut free_text = acting(list, "acme");
        free_text.metadata_mut().insert("counterfoil-ticket", "as Otto asked".parse().unwrap());
        assert_eq!(otto.principals.list_principals(free_text).await.unwrap_err().code(), Code::InvalidArgument);
        // A later change has its receipt only when all before it in the stream are in the log.
        world.answer_for("onboarding", "provider").await;
        let logged = world.deployment.logged("acme").await;
        let used: Vec<_> = logged.iter().filter_map(|(record, payload, _)| match payload {
            Payload::OperatorAccessUsed(used) => Some((record, used)),
            _ => None,
        }).collect();
        let (record, last) = used.last().unwrap();
        assert_eq!(acts_as, format!("tenants/acme/{}", record.actor));
        assert_eq!((last.operator.as_str(), last.ticket.as_str()), ("tenants/msp/principals/otto", "CHG-4711"));
        assert_eq!(last.method, "/counterfoil.authority.v1.PrincipalService/ListPrincipals");
        assert_eq!(last.permission, "principals.get");
        assert!(logged.iter().any(|(_, payload, hash)| {
            matches!(payload, Payload::OperatorAssigned(_)) && hash[..] == last.assignment_hash
        }));
        assert_eq!(used.len(), TOPICS.len() + 1, "what was refused is not told as used");
    }

    /// What is taken away in front of a call in the tenant's queue is taken away for the call.
    async fn a_call_that_waits_its_turn_counts_what_was_taken_away_before_it(db: TestDatabase) {
        let (world, name) = qualified(db).await;
        let mut ada = world.ada.clone();
        let turn = world.deployment.tables().await.write_tx("acme").await.unwrap();
        let request = UnassignOperatorRequest { engagement: name, operator: OTTO.to_owned(), request_id: String::new() };
        let unassign = tokio::spawn(async move { ada.engagements.unassign_operator(request).await });
        world.deployment.go_on(&world.ada).await;
        let mut otto = world.otto.clone();
        let request = ListPrincipalsRequest { tenant: "tenants/acme".to_owned(), ..Default::default() };
        let read = tokio::spawn(async move { otto.principals.list_principals(acting(request, "acme")).await });
        world.deployment.go_on(&world.ada).await;
        turn.rollback().await.unwrap();
        unassign.await.unwrap().unwrap();
        assert_eq!(read.await.unwrap().unwrap_err().code(), Code::NotFound);
        world.answer_for("onboarding", "provider").await;
        let logged = world.deployment.logged("acme").await;
        let place = |what: fn(&Payload) -> bool| logged.iter().rposition(|(_, payload, _)| what(payload));
        let used = place(|one| matches!(one, Payload::OperatorAccessUsed(_)));
        assert!(used < place(|one| matches!(one, Payload::OperatorUnassigned(_))));
        world.deployment.replayed("acme").await;
    }

    /// Also who lacks something since.
    async fn a_call_that_waits_its_turn_counts_what_is_lacking_since(db: TestDatabase) {
        let (world, name) = qualified(db).await;
        let mut ada = world.ada.clone();
        let turn = world.deployment.tables().await.write_tx("acme").await.unwrap();
        let request = SetPartnerTierRequest { engagement: name, tier: 1, basis: "AUDIT".to_owned(), request_id: String::new() };
        let rate = tokio::spawn(async move { ada.qualifications.set_partner_tier(request).await });
        world.deployment.go_on(&world.ada).await;
        let mut otto = world.otto.clone();
        let request = ListPrincipalsRequest { tenant: "tenants/acme".to_owned(), ..Default::default() };
        let read = tokio::spawn(async move { otto.principals.list_principals(acting(request, "acme")).await });
        world.deployment.go_on(&world.ada).await;
        turn.rollback().await.unwrap();
        rate.await.unwrap().unwrap();
        assert_eq!(metadata(&read.await.unwrap().unwrap_err(), "refusal"), "TIER_TOO_LOW");
    }

    async fn whom_the_customer_sends_away_must_show_anew_what_they_can(db: TestDatabase) {
        let (world, name) = qualified(db).await;
        let (mut ada, mut petra) = (world.ada.clone(), world.petra.clone());
        let unassign = || UnassignOperatorRequest { engagement: name.clone(), operator: OTTO.to_owned(), request_id: String::new() };
        // Their own provider may move its people as it likes.
        petra.engagements.unassign_operator(unassign()).await.unwrap();
        petra.engagements.assign_operator(assign(&name, OTTO)).await.unwrap();
        assert_eq!(world.lacks().await, "");
        ada.engagements.unassign_operator(unassign()).await.unwrap();
        petra.engagements.assign_operator(assign(&name, OTTO)).await.unwrap();
        assert_eq!(world.lacks().await, "COMPETENCY_MISSING");
        for topic in TOPICS {
            world.show(topic, 20).await;
        }
        assert_eq!(world.lacks().await, "");
        let request = EndPrincipalRequest { name: world.acts_as(&name).await, request_id: String::new() };
        ada.principals.end_principal(request).await.unwrap();
        assert_eq!(world.read().await.unwrap_err().code(), Code::NotFound);
        petra.engagements.assign_operator(assign(&name, OTTO)).await.unwrap();
        assert_eq!(world.lacks().await, "COMPETENCY_MISSING");
        world.answer_for("onboarding", "provider").await;
        let logged = world.deployment.logged("acme").await;
        let of = |what: fn(&Payload) -> bool| logged.iter().filter(|(_, payload, _)| what(payload)).count();
        assert_eq!(of(|one| matches!(one, Payload::OperatorUnassigned(_))), 3);
        assert_eq!(of(|one| matches!(one, Payload::PrincipalEnded(_))), 3);
        assert_eq!(of(|one| matches!(one, Payload::CompetencyEvidenceRevoked(_))), 6);
        world.deployment.replayed("acme").await;
    }

    async fn what_an_operator_passed_on_holds_only_while_they_may_act(db: TestDatabase) {
        let world = World::start(Deployment::start(db).await).await;
        world.activate().await;
        let name = world.engage(EngagementProfile::Standard, 60).await;
        let mut shown = String::new();
        for topic in TOPICS {
            shown = world.show(topic, 20).await;
        }
        world.rate(&name, 3, 3).await;
        world.attest(&name, "access_control", 30).await;
        world.reassess(&name, ReassessmentResult::Passed, 40).await;
        let (mut ada, mut otto) = (world.ada.clone(), world.otto.clone());
        let mut wanted = right("otto", DecisionAction::Review, 30);
        wanted.grantee = world.acts_as(&name).await;
        let given = ada.rights.grant_decision_rights(grant(&[wanted])).await.unwrap().into_inner();
        let request = GrantDelegationRequest {
            tenant: "tenants/acme".to_owned(),
            delegation: Some(Delegation {
                delegate: name_of("ben"),
                source: given.decision_rights[0].name.clone(),
                valid_to_time: Some(timestamp(NOW_MS + 10 * DAY_MS)),
                reason_code: "absence".to_owned(),
                ..Delegation::default()
            }),
            request_id: String::new(),
        };
        otto.delegations.grant_delegation(acting(request, "acme")).await.unwrap();
        let held = async || {
            let request = CheckDecisionRightRequest { principal: name_of("ben"), action: DecisionAction::Review.into() };
            let mut rights = world.deployment.service.rights.clone();
            rights.check_decision_right(request).await.unwrap().into_inner().decision_rights.len()
        };
        assert_eq!(held().await, 1);
        let revoke = RevokeCompetencyRequest { name: shown, request_id: String::new() };
        ada.qualifications.revoke_competency(revoke).await.unwrap();
        assert_eq!(held().await, 0);
        world.show(TOPICS[2], 20).await;
        assert_eq!(held().await, 1);
        // Nor after they left their own provider, whom the customer does not hear of.
        let request = EndPrincipalRequest { name: OTTO.to_owned(), request_id: String::new() };
        world.petra.clone().principals.end_principal(request).await.unwrap();
        assert_eq!(held().await, 0);
        world.answer_for("onboarding", "provider").await;
        world.deployment.replayed("acme").await;
    }

    /// The tier of the engagement is held to the environment of what is decided, not only to whether they come in.
    async fn b23_an_operators_rights_reach_as_far_as_the_tier_of_the_engagement(db: TestDatabase) {
        let (world, name) = qualified(db).await;
        world.activate().await;
        let mut ada = world.ada.clone();
        for (environment, level) in [("test", 2), ("prod", 4)] {
            let request = SetEnvironmentSensitivityRequest {
                tenant: "tenants/acme".to_owned(),
                environment: environment.to_owned(),
                level,
                request_id: String::new(),
            };
            ada.qualifications.set_environment_sensitivity(request).await.unwrap();
        }
        let acts_as = world.acts_as(&name).await;
        let mut wanted = [right("otto", DecisionAction::Review, 30), right("otto", DecisionAction::Review, 30), right("otto", DecisionAction::Review, 30)];
        for one in &mut wanted {
            one.grantee.clone_from(&acts_as);
        }
        wanted[1].environments = vec!["prod".to_owned()];
        wanted[2].environments = vec!["prod".to_owned(), "test".to_owned(), "unheard-of".to_owned()];
        let given = ada.rights.grant_decision_rights(grant(&wanted)).await.unwrap().into_inner();
        let request = GrantDelegationRequest {
            tenant: "tenants/acme".to_owned(),
            delegation: Some(Delegation {
                delegate: name_of("ben"),
                source: given.decision_rights[0].name.clone(),
                valid_to_time: Some(timestamp(NOW_MS + 10 * DAY_MS)),
                reason_code: "absence".to_owned(),
                ..Delegation::default()
            }),
            request_id: String::new(),
        };
        world.otto.clone().delegations.grant_delegation(acting(request, "acme")).await.unwrap();
        let held = async |principal: &str| {
            let request = CheckDecisionRightRequest { principal: principal.to_owned(), action: DecisionAction::Review.into() };
            let mut rights = world.deployment.service.rights.clone();
            let found = rights.check_decision_right(request).await.unwrap().into_inner();
            let mut of = found.decision_rights.into_iter().map(|one| one.environments).collect::<Vec<_>>();
            of.sort();
            (of, found.reach.map(|reach| reach.environments))
        };
        let codes = |codes: &[&str]| codes.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let reached = codes(&["default", "test"]);
        assert_eq!(held(&acts_as).await, (vec![reached.clone(), codes(&["test"])], Some(reached.clone())));
        // Who decides in their name gets no further than they do, and elsewhere as far as anybody.
        assert_eq!(held(&name_of("ben")).await, (vec![reached], None));
        world.rate(&name, 4, 3).await;
        let everywhere = (vec![codes(&[]), codes(&["prod"]), codes(&["prod", "test", "unheard-of"])], None);
        assert_eq!(held(&acts_as).await, everywhere);
        assert_eq!(held(&name_of("ben")).await.0, [codes(&[])]);
    }

    async fn what_an_operator_is_called_at_the_customers_tells_nobody_anything(db: TestDatabase) {
        let world = World::start(Deployment::start(db).await).await;
        let name = world.engage(EngagementProfile::Standard, 60).await;
        let acts_as = world.acts_as(&name).await;
        let id = acts_as.rsplit('/').next().unwrap();
        assert_eq!(id.len(), 36, "a UUIDv7, which the provider did not choose: {id}");
    }

    async fn whom_their_provider_calls_back_first_the_customer_sends_away_all_the_same(db: TestDatabase) {
        let (world, name) = qualified(db).await;
        let (mut ada, mut petra) = (world.ada.clone(), world.petra.clone());
        let unassign = || UnassignOperatorRequest { engagement: name.clone(), operator: OTTO.to_owned(), request_id: String::new() };
        petra.engagements.unassign_operator(unassign()).await.unwrap();
        let gone = ada.engagements.unassign_operator(unassign()).await.unwrap().into_inner();
        assert_eq!((gone.operator.unwrap().operator.as_str(), gone.receipt), (OTTO, None));
        assert_eq!(petra.engagements.unassign_operator(unassign()).await.unwrap_err().code(), Code::NotFound);
        petra.engagements.assign_operator(assign(&name, OTTO)).await.unwrap();
        assert_eq!(world.lacks().await, "COMPETENCY_MISSING");
        let stranger = UnassignOperatorRequest { operator: "tenants/msp/principals/nova".to_owned(), ..unassign() };
        assert_eq!(ada.engagements.unassign_operator(stranger).await.unwrap_err().code(), Code::NotFound);
    }

    async fn an_operator_shows_a_hundred_things_that_nobody_has_looked_at(db: TestDatabase) {
        let world = World::start(Deployment::start(db).await).await;
        world.engage(EngagementProfile::Standard, 60).await;
        for _ in 0..100 {
            world.submit("onboarding", 20).await;
        }
        let request = SubmitCompetencyRequest {
            tenant: "tenants/acme".to_owned(),
            competency: Some(Competency {
                topic: "onboarding".to_owned(),
                issuer: "ISC2".to_owned(),
                evidence_sha256: vec![7; 32],
                valid_to_time: Some(timestamp(NOW_MS + DAY_MS)),
                ..Competency::default()
            }),
            request_id: String::new(),
        };
        let mut otto = world.otto.clone();
        // What is over before anybody can look at it would not count.
        let mut short = request.clone();
        short.competency.as_mut().unwrap().valid_to_time = Some(timestamp(NOW_MS + DAY_MS - 1));
        let refused = otto.qualifications.submit_competency(acting(short, "acme")).await.unwrap_err();
        assert_eq!(fields(&refused), ["competency.valid_to_time"]);
        let refused = otto.qualifications.submit_competency(acting(request, "acme")).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "TOO_MUCH_UNANSWERED"));
    }
}
