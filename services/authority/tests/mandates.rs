//! Mandates of AI agents, over gRPC and in the records (E11): who grants them, what an agent may do under one, how it is stopped.

#![cfg(test)]

mod common;

use common::{mandates::*, provider::acting, *};
use counterfoil_chassis::{both_engines, clock::timestamp, testing::TestDatabase};
use counterfoil_evidence::catalogue::Payload;
use counterfoil_proto::authority::*;
use tonic::Code;

const HOUR_MS: i64 = 3_600_000;

both_engines! {
    async fn e11_an_agent_without_a_mandate_may_do_nothing(db: TestDatabase) {
        let world = World::start(db).await;
        assert_eq!(world.reads().await, Err(Code::PermissionDenied));
        let held = world.check("robo", DecisionAction::Remediate).await;
        assert_eq!((held.decision_rights, held.agent), (vec![], Some(ActingAgent::default())));
        assert_eq!(world.uses("a", 1).await, Err((Code::PermissionDenied, "MANDATE_REQUIRED".into())));
        // A draft gives nothing.
        let draft = propose(&world.ada, mandate(Autonomy::ExecuteBounded)).await.unwrap();
        assert_eq!((draft.state(), draft.proposer.clone()), (MandateState::Draft, name_of("ada")));
        assert_eq!(world.reads().await, Err(Code::PermissionDenied));
        let granted = grant_by(&world.cleo, &draft.name).await.unwrap();
        assert_eq!((granted.state(), granted.lack.as_str(), granted.grantor.clone()), (MandateState::Active, "", name_of("cleo")));
        assert_eq!(world.reads().await, Ok(()));
        let held = world.check("robo", DecisionAction::Remediate).await;
        assert_eq!(held.decision_rights.len(), 1);
        assert_eq!(held.agent, Some(ActingAgent { mandate: granted.name.clone(), decides_alone: true }));
        // The right is there, and the mandate does not name the action.
        assert_eq!(world.check("robo", DecisionAction::Certify).await.decision_rights, []);
        // Whoever is no agent is asked nothing.
        assert_eq!(world.check("ada", DecisionAction::Remediate).await.agent, None);
        let request = UseMandateRequest { agent: name_of("ada"), action: 2, act: "a".into(), removals: 0, mandate: granted.name.clone() };
        let refused = world.deployment.service.mandates.clone().use_mandate(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        world.audited().await;
    }

    async fn e11_an_agent_governs_nothing_whatever_its_roles(db: TestDatabase) {
        let world = World::start(db).await;
        world.granted(mandate(Autonomy::ExecuteBounded)).await;
        let robo = &world.robo;
        let refused = [
            robo.rights.clone().grant_decision_rights(grant(&[right("ben", DecisionAction::Review, 3)])).await.map(drop),
            robo.principals.clone().create_principal(create_principal("x", "customer", "operator")).await.map(drop),
            robo.policies.clone().publish_policy(publish(Policy::default())).await.map(drop),
            propose(robo, mandate(Autonomy::ExecuteBounded)).await.map(drop),
            robo.principals.clone().issue_token(IssueTokenRequest { principal: name_of("robo"), ..Default::default() }).await.map(drop),
            robo.mandates.clone().suspend_mandate(suspend_request("tenants/acme/mandates/x")).await.map(drop),
        ];
        for refused in refused {
            assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
        }
    }

    async fn e11_two_humans_give_a_mandate(db: TestDatabase) {
        let world = World::start(db).await;
        let (dora, auditor) = (world.deployment.clients_of(&name_of("dora")).await, world.deployment.clients_of(&name_of("auditor")).await);
        // Whoever proposed it does not grant it, nor does the same human by another name.
        let draft = propose(&world.ada, mandate(Autonomy::Propose)).await.unwrap();
        let twin = {
            let mut request = create_principal("ada2", "customer", "tenant-administrator");
            request.principal.as_mut().unwrap().identity_key = "ADA@zebra.example".to_owned();
            world.ada.principals.clone().create_principal(request).await.unwrap();
            world.deployment.clients_of(&name_of("ada2")).await
        };
        for same in [&world.ada, &twin] {
            let refused = grant_by(same, &draft.name).await.unwrap_err();
            assert_eq!(refused_by(&refused), (Code::FailedPrecondition, "SECOND_HUMAN_REQUIRED".into()));
        }
        for none in [&dora, &auditor] {
            assert_eq!(grant_by(none, &draft.name).await.unwrap_err().code(), Code::PermissionDenied);
        }
        // An operator may put one forward; a machine may not, and no administrator of another organisation grants it.
        propose(&dora, mandate(Autonomy::Observe)).await.unwrap();
        let mut bot = create_principal("bot", "customer", "tenant-administrator");
        bot.principal.as_mut().unwrap().kind = PrincipalKind::Service.into();
        world.ada.principals.clone().create_principal(bot).await.unwrap();
        let bot = world.deployment.clients_of(&name_of("bot")).await;
        let refused = propose(&bot, mandate(Autonomy::Observe)).await.unwrap_err();
        assert_eq!(refused_by(&refused), (Code::FailedPrecondition, "HUMAN_REQUIRED".into()));
        assert_eq!(refused_by(&grant_by(&bot, &draft.name).await.unwrap_err()).1, "CALLER_NOT_CUSTOMER");
        world.ada.principals.clone().create_principal(create_principal("chief", "auditors", "tenant-administrator")).await.unwrap();
        let chief = world.deployment.clients_of(&name_of("chief")).await;
        assert_eq!(refused_by(&grant_by(&chief, &draft.name).await.unwrap_err()).1, "CALLER_NOT_CUSTOMER");
        grant_by(&world.cleo, &draft.name).await.unwrap();
        let again = grant_by(&world.cleo, &draft.name).await.unwrap_err();
        assert_eq!((refused_by(&again), metadata(&again, "state")), ((Code::FailedPrecondition, "MANDATE_STATE".into()), "MANDATE_STATE_ACTIVE".into()));
        world.audited().await;
    }

    async fn e11_what_cannot_be_a_mandate_is_refused_and_named(db: TestDatabase) {
        let world = World::start(db).await;
        let good = || mandate(Autonomy::ExecuteBounded);
        let wrong: Vec<(&str, AgentMandate)> = vec![
            ("mandate.agent", AgentMandate { agent: "tenants/other/principals/robo".into(), ..good() }),
            ("mandate.autonomy", AgentMandate { autonomy: 0, ..good() }),
            ("mandate.autonomy", AgentMandate { autonomy: 2, ..good() }),
            ("mandate.actions", AgentMandate { actions: vec![], ..good() }),
            ("mandate.actions", AgentMandate { actions: vec![DecisionAction::Review.into()], ..good() }),
            ("mandate.actions", AgentMandate { actions: vec![DecisionAction::Export.into()], ..good() }),
            ("mandate.actions", AgentMandate { autonomy: Autonomy::Observe.into(), ..good() }),
            ("mandate.scope", AgentMandate { scope: vec!["tenants/other/sources/hr".into()], ..good() }),
            ("mandate.tiers", AgentMandate { tiers: vec!["a b".into()], ..good() }),
            ("mandate.acts_per_hour_max", AgentMandate { acts_per_hour_max: 0, ..good() }),
            ("mandate.acts_per_hour_max", AgentMandate { acts_per_hour_max: 10_001, ..good() }),
            ("mandate.removals_per_day_max", AgentMandate { removals_per_day_max: 1_000_001, ..good() }),
            ("mandate.removals_max", AgentMandate { removals_max: u32::MAX, ..good() }),
            ("mandate.model", AgentMandate { model: String::new(), ..good() }),
            ("mandate.build", AgentMandate { build: "the new one".into(), ..good() }),
            ("mandate.valid_to_time", AgentMandate { valid_to_time: None, ..good() }),
            ("mandate.valid_to_time", AgentMandate { valid_to_time: Some(timestamp(NOW_MS)), ..good() }),
            ("mandate.valid_to_time", AgentMandate { valid_to_time: Some(timestamp(NOW_MS + 366 * DAY_MS)), ..good() }),
            ("mandate.review_interval_days", AgentMandate { review_interval_days: 0, ..good() }),
            ("mandate.review_interval_days", AgentMandate { review_interval_days: 91, ..good() }),
            ("mandate.kill_path", AgentMandate { kill_path: "  ".into(), ..good() }),
        ];
        for (field, wrong) in wrong {
            let refused = propose(&world.ada, wrong).await.unwrap_err();
            assert_eq!((refused.code(), fields(&refused)), (Code::InvalidArgument, vec![field.to_owned()]));
        }
        for agent in ["ben", "nobody"] {
            let refused = propose(&world.ada, AgentMandate { agent: name_of(agent), ..good() }).await.unwrap_err();
            assert_eq!(refused_by(&refused), (Code::FailedPrecondition, "AGENT_REQUIRED".into()), "{agent}");
        }
        for owner in ["robo", "auditor", "nobody"] {
            let refused = propose(&world.ada, AgentMandate { owner: name_of(owner), ..good() }).await.unwrap_err();
            assert_eq!(refused_by(&refused), (Code::FailedPrecondition, "NOT_ACCOUNTABLE".into()), "{owner}");
        }
        let list = ListMandatesRequest { tenant: "tenants/acme".into(), ..Default::default() };
        assert_eq!(world.ada.mandates.clone().list_mandates(list).await.unwrap().into_inner().mandates, []);
    }

    async fn e11_a_right_holds_where_the_mandate_does(db: TestDatabase) {
        let world = World::start(db).await;
        let source = |id: &str| format!("tenants/acme/sources/{id}");
        let narrow = AgentMandate {
            scope: vec![source("hr"), source("vault")],
            tiers: vec!["gold".into(), "silver".into()],
            environments: vec!["prod".into()],
            ..mandate(Autonomy::Propose)
        };
        world.granted(narrow).await;
        let rights = [
            // Within, across, and beside what the mandate covers.
            DecisionRight { scope: vec![source("hr")], tiers: vec!["gold".into()], ..right("robo", DecisionAction::Remediate, 10) },
            DecisionRight { scope: vec![source("vault"), source("crm")], ..right("robo", DecisionAction::Remediate, 10) },
            DecisionRight { scope: vec![source("crm")], ..right("robo", DecisionAction::Remediate, 10) },
            DecisionRight { environments: vec!["test".into()], ..right("robo", DecisionAction::Remediate, 10) },
        ];
        world.ada.rights.clone().grant_decision_rights(grant(&rights)).await.unwrap();
        let held = world.check("robo", DecisionAction::Remediate).await;
        let mut held: Vec<_> = held.decision_rights.into_iter().map(|one| (one.scope, one.tiers, one.environments)).collect();
        held.sort();
        let (both, prod) = (vec!["gold".to_owned(), "silver".to_owned()], vec!["prod".to_owned()]);
        assert_eq!(held, [
            (vec![source("hr")], vec!["gold".to_owned()], prod.clone()),
            (vec![source("hr"), source("vault")], both.clone(), prod.clone()),
            (vec![source("vault")], both, prod),
        ]);
    }

    async fn e11_nobody_answers_for_themselves_under_another_name(db: TestDatabase) {
        let world = World::start(db).await;
        let mut twin = create_principal("twin", "customer", "operator");
        let twin_is = twin.principal.as_mut().unwrap();
        (twin_is.kind, twin_is.identity_key) = (PrincipalKind::AiAgent.into(), "Dora@zebra.example".into());
        world.ada.principals.clone().create_principal(twin).await.unwrap();
        let own = AgentMandate { agent: name_of("twin"), owner: name_of("dora"), ..mandate(Autonomy::Observe) };
        let refused = propose(&world.ada, own).await.unwrap_err();
        assert_eq!(refused_by(&refused), (Code::FailedPrecondition, "OWNER_IS_AGENT".into()));
    }

    async fn e11_an_agent_that_lost_its_mandate_is_given_no_credential_before_another(db: TestDatabase) {
        let world = World::start(db).await;
        let first = world.granted(mandate(Autonomy::Observe)).await;
        // The tokens first, or the mandate: the log tells no difference.
        let tokens: Vec<_> = world.deployment.logged("acme").await.into_iter().filter_map(|(_, payload, _)| match payload {
            Payload::CredentialIssued(issued) if issued.principal == "principals/robo" => Some(issued.credential),
            _ => None,
        }).collect();
        for token_id in tokens {
            let request = RevokeTokenRequest { tenant: "tenants/acme".into(), token_id };
            world.ada.principals.clone().revoke_token(request).await.unwrap();
        }
        // In the same millisecond.
        revoke(&world.ada, &first.name).await.unwrap();
        let issue = IssueTokenRequest { principal: name_of("robo"), ttl_seconds: 3_600, ..Default::default() };
        let refused = world.ada.principals.clone().issue_token(issue.clone()).await.unwrap_err();
        assert_eq!(refused_by(&refused), (Code::FailedPrecondition, "AGENT_REVOKED".into()));
        world.deployment.clock.advance_ms(HOUR_MS);
        world.granted(mandate(Autonomy::Observe)).await;
        let issued = world.ada.principals.clone().issue_token(issue).await.unwrap().into_inner();
        let robo = world.deployment.clients_with(&issued.token);
        let request = GetMandateRequest { name: first.name };
        let shown = robo.mandates.clone().get_mandate(request).await.unwrap().into_inner().mandate.unwrap();
        assert_eq!((shown.state(), shown.kill_path.as_str()), (MandateState::Revoked, ""), "it is not told how it is stopped");
        world.audited().await;
    }

    async fn e11_the_switch_stops_an_agent_at_once(db: TestDatabase) {
        let world = World::start(db).await;
        let granted = world.granted(mandate(Autonomy::ExecuteBounded)).await;
        world.reads().await.unwrap();
        // Any human of the tenant may, also an auditor.
        let auditor = world.deployment.clients_of(&name_of("auditor")).await;
        let suspended = suspend(&auditor, &granted.name).await.unwrap();
        assert_eq!(suspended.state(), MandateState::Suspended);
        assert_eq!(world.reads().await, Err(Code::PermissionDenied));
        assert_eq!(world.check("robo", DecisionAction::Remediate).await.decision_rights, []);
        assert_eq!(world.uses("a", 1).await.unwrap_err().1, "MANDATE_REQUIRED");
        suspend(&world.ada, &granted.name).await.unwrap();
        let refused = certify(&world.ada, &granted.name).await.unwrap_err();
        assert_eq!(metadata(&refused, "state"), "MANDATE_STATE_SUSPENDED");
        // Only the customer lets it go on.
        assert_eq!(resume(&auditor, &granted.name).await.unwrap_err().code(), Code::PermissionDenied);
        let resumed = resume(&world.ada, &granted.name).await.unwrap();
        assert_eq!(resumed.state(), MandateState::Active);
        world.reads().await.unwrap();
        assert_eq!(resume(&world.ada, &granted.name).await.unwrap_err().code(), Code::FailedPrecondition);
        world.audited().await;
        let logged = world.deployment.logged("acme").await;
        let stops = logged.iter().filter(|(_, payload, _)| matches!(payload, Payload::AgentSuspended(_)));
        assert_eq!(stops.count(), 1, "stopping what stands still says nothing");
    }

    async fn e11_what_is_taken_back_takes_the_credentials_along(db: TestDatabase) {
        let world = World::start(db).await;
        let second = world.deployment.clients_of_for(&name_of("robo"), 30).await;
        // A draft is withdrawn, and takes nothing.
        let draft = propose(&world.ada, mandate(Autonomy::Observe)).await.unwrap();
        let withdrawn = revoke(&world.ada, &draft.name).await.unwrap();
        assert_eq!((withdrawn.mandate.unwrap().state(), withdrawn.credentials.len()), (MandateState::Revoked, 0));
        let granted = world.granted(mandate(Autonomy::ExecuteBounded)).await;
        world.reads().await.unwrap();
        let revoked = revoke(&world.ada, &granted.name).await.unwrap();
        assert_eq!((revoked.mandate.unwrap().state(), revoked.credentials.len()), (MandateState::Revoked, 2));
        assert_eq!(world.reads().await, Err(Code::Unauthenticated));
        let request = GetPrincipalRequest { name: name_of("ben") };
        assert_eq!(second.principals.clone().get_principal(request).await.unwrap_err().code(), Code::Unauthenticated);
        assert_eq!(revoke(&world.ada, &granted.name).await.unwrap_err().code(), Code::FailedPrecondition);
        assert_eq!(suspend(&world.ada, &granted.name).await.unwrap_err().code(), Code::FailedPrecondition);
        world.audited().await;
        let logged = world.deployment.logged("acme").await;
        let ended = logged.iter().filter_map(|(_, payload, _)| match payload {
            Payload::CredentialRevoked(revoked) => Some(revoked.credential.clone()),
            _ => None,
        });
        let mut ended: Vec<String> = ended.collect();
        ended.sort();
        assert_eq!(ended, revoked.credentials);
    }

    async fn e11_a_mandate_ends_with_its_term_its_review_and_its_owner(db: TestDatabase) {
        let world = World::start(db).await;
        let granted = world.granted(mandate(Autonomy::Observe)).await;
        let clock = &world.deployment.clock;
        clock.advance_ms(30 * DAY_MS - 1);
        world.reads().await.unwrap();
        clock.advance_ms(1);
        assert_eq!(world.reads().await, Err(Code::PermissionDenied), "nobody has looked at it for 30 days");
        assert_eq!(world.shown(&granted.name).await.lack, "REVIEW_OVERDUE");
        let certified = certify(&world.cleo, &granted.name).await.unwrap();
        assert_eq!(certified.review_due_time, Some(timestamp(NOW_MS + 60 * DAY_MS)));
        world.reads().await.unwrap();
        let end = EndPrincipalRequest { name: name_of("dora"), request_id: String::new() };
        let owned = world.granted(AgentMandate { owner: name_of("dora"), ..mandate(Autonomy::Observe) }).await;
        assert_eq!(world.shown(&granted.name).await.state(), MandateState::Retired, "an agent has one mandate");
        world.ada.principals.clone().end_principal(end).await.unwrap();
        assert_eq!(world.reads().await, Err(Code::PermissionDenied), "nobody answers for it");
        assert_eq!(world.shown(&owned.name).await.lack, "OWNER_ENDED");
        let later = AgentMandate {
            valid_from_time: Some(timestamp(NOW_MS + 40 * DAY_MS)),
            valid_to_time: Some(timestamp(NOW_MS + 50 * DAY_MS)),
            ..mandate(Autonomy::Observe)
        };
        let later = world.granted(later).await;
        assert_eq!(world.shown(&later.name).await.lack, "NOT_BEGUN");
        assert_eq!(world.reads().await, Err(Code::PermissionDenied));
        clock.advance_ms(10 * DAY_MS);
        world.reads().await.unwrap();
        clock.advance_ms(10 * DAY_MS);
        assert_eq!(world.reads().await, Err(Code::PermissionDenied));
        assert_eq!(world.shown(&later.name).await.state(), MandateState::Retired);
        world.audited().await;
    }

    async fn e11_the_autonomy_says_what_an_agent_may_call_of_what_its_roles_hold(db: TestDatabase) {
        let world = World::start(db).await;
        let token = world.deployment.token_of(&name_of("robo")).await;
        let mut seen = Vec::new();
        for autonomy in [Autonomy::Observe, Autonomy::Propose, Autonomy::ExecuteWithApproval, Autonomy::ExecuteBounded] {
            world.granted(mandate(autonomy)).await;
            let request = IntrospectTokenRequest { token: token.clone() };
            let found = world.deployment.service.principals.clone().introspect_token(request).await.unwrap().into_inner();
            let kept: Vec<_> = found.role_permissions.into_iter().filter(|one| one.role == "operator").collect();
            assert_eq!(kept.len(), 1);
            seen.push(kept[0].permissions.clone());
        }
        let new = |level: usize| seen[level].iter().filter(|one| !seen[level - 1].contains(one)).map(String::as_str).collect::<Vec<_>>();
        assert!(seen[0].iter().all(|one| [".get", ".list", ".read", ".watch"].iter().any(|end| one.ends_with(end))), "{:?}", seen[0]);
        assert_eq!(new(1), ["recon.run", "remediations.plan", "remediations.reread", "snapshots.create", "syncs.start"]);
        assert_eq!(new(2), ["remediations.execute"]);
        assert_eq!(new(3), ["campaigns.activate", "campaigns.close", "campaigns.create", "campaigns.stage", "findings.accept"]);
        // What the policy does not leave to the role, the mandate does not give back.
        let kept = RolePermissions { role: "operator".into(), permissions: vec!["recon.run".into(), "owners.set".into()] };
        let policy = Policy { role_permissions: vec![kept], ..Policy::default() };
        world.ada.policies.clone().publish_policy(publish(policy)).await.unwrap();
        world.deployment.clock.advance_ms(1);
        let request = IntrospectTokenRequest { token };
        let found = world.deployment.service.principals.clone().introspect_token(request).await.unwrap().into_inner();
        let kept = found.role_permissions.into_iter().find(|one| one.role == "operator").unwrap();
        assert_eq!(kept.permissions, ["recon.run"]);
    }

    async fn e11_a_providers_people_may_stop_an_agent_and_not_let_it_go_on(db: TestDatabase) {
        let world = provider::World::start(Deployment::start(db).await).await;
        world.activate().await;
        let mut robo = create_principal("robo", "customer", "operator");
        robo.principal.as_mut().unwrap().kind = PrincipalKind::AiAgent.into();
        world.ada.principals.clone().create_principal(robo).await.unwrap();
        let engagement = world.engage(EngagementProfile::Standard, 300).await;
        for topic in ["onboarding", "access_reviews", "incident_response"] {
            world.show(topic, 200).await;
        }
        world.attest(&engagement, "access_control", 200).await;
        world.reassess(&engagement, ReassessmentResult::Passed, 200).await;
        world.rate(&engagement, 3, 3).await;
        let request = ProposeMandateRequest { tenant: "tenants/acme".into(), mandate: Some(mandate(Autonomy::Observe)), request_id: String::new() };
        let draft = world.otto.mandates.clone().propose_mandate(acting(request, "acme")).await.unwrap().into_inner().mandate.unwrap();
        let granted = grant_by(&world.ada, &draft.name).await.unwrap();
        let stopped = world.otto.mandates.clone().suspend_mandate(acting(suspend_request(&granted.name), "acme")).await.unwrap();
        assert_eq!(stopped.into_inner().mandate.unwrap().state(), MandateState::Suspended);
        let request = ResumeMandateRequest { name: granted.name.clone(), request_id: String::new() };
        let refused = world.otto.mandates.clone().resume_mandate(acting(request, "acme")).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        resume(&world.ada, &granted.name).await.unwrap();
    }
}
