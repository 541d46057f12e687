//! Engagements, over gRPC: asked for, approved, extended, ended; who answers for what; who acts for whom.

#![cfg(test)]

mod common;

use common::{provider::*, *};
use counterfoil_chassis::{both_engines, testing::TestDatabase};
use counterfoil_evidence::{catalogue::Payload, v1};
use counterfoil_proto::{authority::*, common::EvidenceState};
use tonic::Code;

async fn state(clients: &mut Clients, name: &str) -> Result<Engagement, Code> {
    let request = GetEngagementRequest {
        name: name.to_owned(),
    };
    let answer = clients.engagements.get_engagement(request).await;
    answer
        .map(|answer| answer.into_inner().engagement.unwrap())
        .map_err(|status| status.code())
}

fn end(name: &str) -> EndEngagementRequest {
    EndEngagementRequest {
        name: name.to_owned(),
        reason: "CONTRACT-END".to_owned(),
        request_id: String::new(),
    }
}

fn extend(name: &str, days: u32) -> ExtendEngagementRequest {
    ExtendEngagementRequest {
        name: name.to_owned(),
        days,
        request_id: String::new(),
    }
}

both_engines! {
    async fn b13_an_engagement_lives_by_the_customers_approval_and_never_twice(db: TestDatabase) {
        let world = World::start(Deployment::start(db).await).await;
        let (mut ada, mut petra) = (world.ada.clone(), world.petra.clone());
        let name = world.ask(EngagementProfile::Standard, 400).await;
        for side in [&mut ada, &mut petra] {
            assert_eq!(state(side, &name).await.unwrap().state(), EngagementState::Requested);
        }
        let twice = petra.engagements.request_engagement(ask("acme", EngagementProfile::Standard, 1)).await.unwrap_err();
        assert_eq!((twice.code(), reason(&twice).as_str()), (Code::AlreadyExists, "ENGAGEMENT_REQUESTED"));
        // Not by whom it is for, nor by whoever runs the deployment.
        assert_eq!(petra.engagements.approve_engagement(approve(&name)).await.unwrap_err().code(), Code::NotFound);
        let mut admin = world.deployment.admin.clone();
        assert_eq!(admin.engagements.approve_engagement(approve(&name)).await.unwrap_err().code(), Code::PermissionDenied);
        let approved = world.approve(&name).await;
        assert_eq!((approved.state(), approved.provider.as_str()), (EngagementState::Live, "tenants/msp"));
        assert_eq!(approved.roles, ["auditor", "operator"]);
        let again = ada.engagements.approve_engagement(approve(&name)).await.unwrap_err();
        assert_eq!(reason(&again), "ENGAGEMENT_STATE");
        assert_eq!(state(&mut petra, &name).await.unwrap(), approved);
        // Longer by a new approval, and not beyond 730 days from now.
        assert_eq!(petra.engagements.extend_engagement(extend(&name, 30)).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(fields(&ada.engagements.extend_engagement(extend(&name, 181)).await.unwrap_err()), ["days"]);
        let longer = ada.engagements.extend_engagement(extend(&name, 180)).await.unwrap().into_inner();
        assert_eq!(longer.receipt.unwrap().state(), EvidenceState::Logged);
        assert_eq!(fields(&ada.engagements.extend_engagement(extend(&name, 180)).await.unwrap_err()), ["days"]);
        // Over at once, as either side; and never restored.
        petra.engagements.end_engagement(end(&name)).await.unwrap();
        for side in [&mut ada, &mut petra] {
            assert_eq!(state(side, &name).await.unwrap().state(), EngagementState::Ended);
        }
        for refused in [
            ada.engagements.approve_engagement(approve(&name)).await.unwrap_err(),
            ada.engagements.extend_engagement(extend(&name, 1)).await.unwrap_err(),
            ada.engagements.end_engagement(end(&name)).await.unwrap_err(),
        ] {
            assert_eq!(reason(&refused), "ENGAGEMENT_STATE");
        }
        let logged = world.deployment.logged("acme").await;
        let ended = logged.iter().find_map(|(record, payload, _)| match payload {
            Payload::EngagementEnded(ended) => Some((record, ended)),
            _ => None,
        }).unwrap();
        assert_eq!(ended.0.actor, "tenants/msp/principals/petra");
        assert_eq!(ended.1.ended_by(), v1::EngagementEnd::Provider);
        let asked = world.deployment.logged("msp").await;
        assert!(asked.iter().any(|(_, payload, _)| matches!(payload, Payload::EngagementRequested(one) if one.customer == "tenants/acme")));
    }

    async fn a_request_lapses_after_90_days_and_tells_nothing_of_who_there_is(db: TestDatabase) {
        let world = World::start(Deployment::start(db).await).await;
        let mut petra = world.petra.clone();
        let shown = |answer: RequestEngagementResponse| {
            let engagement = answer.engagement.unwrap();
            (engagement.state, engagement.valid_to_time, engagement.organization, answer.receipt.unwrap().state())
        };
        let there = petra.engagements.request_engagement(ask("acme", EngagementProfile::Pilot, 30)).await.unwrap().into_inner();
        let missing = petra.engagements.request_engagement(ask("nobody", EngagementProfile::Pilot, 30)).await.unwrap().into_inner();
        assert_eq!(state(&mut petra, &missing.engagement.clone().unwrap().name).await.unwrap().state(), EngagementState::Requested);
        let [name, missing_name] = [&there, &missing].map(|answer| answer.engagement.clone().unwrap().name);
        assert_eq!(shown(there), shown(missing));
        // Nor does anything else that may be tried before it is answered.
        let mut told = Vec::new();
        for name in [&name, &missing_name] {
            let mut attest = attestation(name, "access_control", 10);
            let mut tried = vec![
                petra.engagements.list_operators(ListOperatorsRequest { engagement: name.clone(), ..Default::default() }).await.map(|answer| format!("{answer:?}").len()),
            ];
            for roles in [&["operator"][..], &["reviewer"], &[]] {
                let mut request = assign(name, "tenants/msp/principals/otto");
                request.roles = roles.iter().map(|role| (*role).to_owned()).collect();
                tried.push(petra.engagements.assign_operator(request).await.map(|_| 0));
            }
            let unassign = UnassignOperatorRequest { engagement: name.clone(), operator: "tenants/msp/principals/otto".to_owned(), request_id: String::new() };
            tried.push(petra.engagements.unassign_operator(unassign).await.map(|_| 0));
            tried.push(petra.qualifications.attest_control(attest.clone()).await.map(|_| 0));
            attest.control = "no code".to_owned();
            tried.push(petra.qualifications.attest_control(attest).await.map(|_| 0));
            tried.push(petra.engagements.end_engagement(EndEngagementRequest { reason: "no code".to_owned(), ..end(name) }).await.map(|_| 0));
            told.push(tried.into_iter().map(|one| one.map_err(|status| (status.code(), reason(&status), fields(&status)))).collect::<Vec<_>>());
        }
        assert_eq!(told[0], told[1]);
        assert!(told[0][0].is_ok() && told[0][1..].iter().all(Result::is_err));
        // What another customer or provider asks is answered as if nothing were there.
        let (mut other, _) = provider(&world.deployment, "rival").await;
        assert_eq!(state(&mut other, &name).await.unwrap_err(), Code::NotFound);
        assert_eq!(other.engagements.end_engagement(end(&name)).await.unwrap_err().code(), Code::NotFound);
        let list = ListEngagementsRequest { tenant: "tenants/msp".to_owned(), ..Default::default() };
        assert_eq!(other.engagements.list_engagements(list.clone()).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(petra.engagements.list_engagements(list).await.unwrap().into_inner().engagements.len(), 2);
        // Only a provider asks.
        let refused = world.ada.clone().engagements.request_engagement(ask("acme", EngagementProfile::Pilot, 1)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "CALLER_NOT_PROVIDER"));
        world.deployment.clock.advance_ms(90 * DAY_MS);
        let refused = world.ada.clone().engagements.approve_engagement(approve(&name)).await.unwrap_err();
        assert_eq!(reason(&refused), "ENGAGEMENT_STATE");
        assert_eq!(state(&mut petra, &name).await.unwrap().state(), EngagementState::Lapsed);
        // Then it may ask again.
        world.ask(EngagementProfile::Standard, 30).await;
    }

    async fn what_a_provider_withdraws_is_over_for_both_and_tells_nothing_of_who_there_is(db: TestDatabase) {
        let world = World::start(Deployment::start(db).await).await;
        let mut petra = world.petra.clone();
        let name = world.ask(EngagementProfile::Standard, 30).await;
        let missing = petra.engagements.request_engagement(ask("nobody", EngagementProfile::Standard, 30)).await.unwrap();
        let missing = missing.into_inner().engagement.unwrap().name;
        let mut told = Vec::new();
        for name in [&name, &missing] {
            let request = EndEngagementRequest { request_id: name.rsplit('/').next().unwrap().to_owned(), ..end(name) };
            let ended = petra.engagements.end_engagement(request.clone()).await.unwrap().into_inner();
            let again = petra.engagements.end_engagement(request).await.unwrap().into_inner();
            assert_eq!(again, ended);
            let refused = petra.engagements.end_engagement(end(name)).await.unwrap_err();
            let engagement = ended.engagement.unwrap();
            let now = state(&mut petra, name).await.unwrap().state();
            told.push((engagement.state(), ended.receipt.unwrap().state(), reason(&refused), now));
        }
        assert_eq!(told[0], told[1]);
        assert_eq!(told[0].3, EngagementState::Lapsed);
        assert_eq!(state(&mut world.ada.clone(), &name).await.unwrap().state(), EngagementState::Lapsed);
        let refused = world.ada.clone().engagements.approve_engagement(approve(&name)).await.unwrap_err();
        assert_eq!(reason(&refused), "ENGAGEMENT_STATE");
        for tenant in ["acme", "msp"] {
            let logged = world.deployment.logged(tenant).await;
            assert!(logged.iter().any(|(_, payload, _)| matches!(payload, Payload::EngagementEnded(one) if one.ended_by() == v1::EngagementEnd::Provider)), "{tenant}");
        }
    }

    async fn a_withdrawal_that_raced_with_an_approval_is_answered_as_it_was(db: TestDatabase) {
        let world = World::start(Deployment::start(db).await).await;
        let mut petra = world.petra.clone();
        let name = world.ask(EngagementProfile::Standard, 30).await;
        let request = EndEngagementRequest { request_id: "withdraw".to_owned(), ..end(&name) };
        let ended = petra.engagements.end_engagement(request.clone()).await.unwrap().into_inner();
        // As if the approval had come before the withdrawal was carried over.
        let mut tx = world.deployment.tables().await.write_tx("acme").await.unwrap();
        sqlx::query("UPDATE engagements SET ended_at_ms = NULL WHERE tenant = 'acme'").execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
        world.approve(&name).await;
        let again = petra.engagements.end_engagement(request).await.unwrap().into_inner();
        assert_eq!(again, ended);
        assert_eq!(state(&mut world.ada.clone(), &name).await.unwrap().state(), EngagementState::Ended);
        let refused = petra.engagements.end_engagement(end(&name)).await.unwrap_err();
        assert_eq!(reason(&refused), "ENGAGEMENT_STATE");
    }

    async fn a_customer_that_has_left_keeps_no_other_waiting_and_is_told_of_to_nobody(db: TestDatabase) {
        let world = World::start(Deployment::start(db).await).await;
        let (mut ada, mut petra) = (world.ada.clone(), world.petra.clone());
        world.activate().await;
        let mut asked = vec![world.ask(EngagementProfile::Standard, 30).await];
        let missing = petra.engagements.request_engagement(ask("nobody", EngagementProfile::Standard, 30)).await.unwrap();
        asked.push(missing.into_inner().engagement.unwrap().name);
        let tenant = || "tenants/acme".to_owned();
        let exit = BeginExitRequest { name: tenant(), reason_code: "over".to_owned(), request_id: String::new() };
        ada.tenants.begin_exit(exit).await.unwrap();
        let pack = RecordEvidencePackRequest {
            tenant: tenant(),
            tree_size: 1,
            root_hash: vec![1; 32],
            format_code: "bundle".to_owned(),
            request_id: String::new(),
        };
        ada.tenants.record_evidence_pack(pack).await.unwrap();
        ada.tenants.close_tenant(CloseTenantRequest { name: tenant(), request_id: String::new() }).await.unwrap();
        for name in &asked {
            let ended = petra.engagements.end_engagement(end(name)).await.unwrap().into_inner();
            assert_eq!(ended.engagement.unwrap().state(), EngagementState::Lapsed);
        }
        let mut bella = customer(&world.deployment, "beta").await;
        let live = petra.engagements.request_engagement(ask("beta", EngagementProfile::Standard, 20)).await.unwrap();
        let live = live.into_inner().engagement.unwrap().name;
        let request = ApproveEngagementRequest { organization: "tenants/beta/organizations/provider".to_owned(), ..approve(&live) };
        bella.engagements.approve_engagement(request).await.unwrap();
        world.deployment.jobs.run_once().await.unwrap();
        assert_eq!(state(&mut petra, &live).await.unwrap().notices, [30]);
    }

    /// The same as after a crash: the provider has asked, and the customer has not seen it.
    async fn what_was_asked_for_reaches_a_customer_that_could_not_be_told(db: TestDatabase) {
        let world = World::start(Deployment::start(db).await).await;
        let mut ada = world.ada.clone();
        world.activate().await;
        let tenant = || "tenants/acme".to_owned();
        let suspend = SuspendTenantRequest { name: tenant(), reason_code: "unpaid".to_owned(), request_id: String::new() };
        ada.tenants.suspend_tenant(suspend).await.unwrap();
        let name = world.ask(EngagementProfile::Standard, 30).await;
        world.deployment.jobs.run_once().await.unwrap();
        assert_eq!(state(&mut ada, &name).await.unwrap_err(), Code::NotFound, "who is suspended takes in nobody new");
        let resume = ResumeTenantRequest { name: tenant(), reason_code: "paid".to_owned(), request_id: String::new() };
        ada.tenants.resume_tenant(resume).await.unwrap();
        assert_eq!(world.deployment.jobs.run_once().await.unwrap(), 1);
        assert_eq!(world.deployment.jobs.run_once().await.unwrap(), 0);
        world.approve(&name).await;
        let logged = world.deployment.logged("acme").await;
        let asked = logged.iter().find(|(_, payload, _)| matches!(payload, Payload::EngagementRequested(_)));
        assert_eq!(asked.unwrap().0.actor, "tenants/msp/principals/petra");
        world.deployment.replayed("acme").await;
    }

    async fn a_provider_asks_a_customer_ten_times_in_90_days_whether_there_is_one_or_not(db: TestDatabase) {
        let world = World::start(Deployment::start(db).await).await;
        let mut petra = world.petra.clone();
        let mut told = Vec::new();
        for customer in ["acme", "nobody"] {
            for _ in 0..10 {
                let asked = petra.engagements.request_engagement(ask(customer, EngagementProfile::Pilot, 30)).await.unwrap();
                let name = asked.into_inner().engagement.unwrap().name;
                petra.engagements.end_engagement(end(&name)).await.unwrap();
            }
            let refused = petra.engagements.request_engagement(ask(customer, EngagementProfile::Pilot, 30)).await.unwrap_err();
            told.push((refused.code(), reason(&refused), refused.message().to_owned()));
        }
        assert_eq!(told[0], told[1]);
        assert_eq!((told[0].0, told[0].1.as_str()), (Code::ResourceExhausted, "TOO_MANY_REQUESTS"));
        world.deployment.clock.advance_ms(90 * DAY_MS);
        world.ask(EngagementProfile::Pilot, 30).await;
    }

    async fn an_engagement_takes_fifty_assignments_a_day(db: TestDatabase) {
        let world = World::start(Deployment::start(db).await).await;
        let mut petra = world.petra.clone();
        let name = world.ask(EngagementProfile::Standard, 30).await;
        world.approve(&name).await;
        let otto = "tenants/msp/principals/otto";
        for _ in 0..50 {
            petra.engagements.assign_operator(assign(&name, otto)).await.unwrap();
            let request = UnassignOperatorRequest { engagement: name.clone(), operator: otto.to_owned(), request_id: String::new() };
            petra.engagements.unassign_operator(request).await.unwrap();
        }
        let refused = petra.engagements.assign_operator(assign(&name, otto)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "TOO_MANY_ASSIGNMENTS"));
        world.deployment.clock.advance_ms(DAY_MS);
        petra.engagements.assign_operator(assign(&name, otto)).await.unwrap();
    }

    async fn a_provider_gives_its_word_for_each_known_control_25_times_a_day(db: TestDatabase) {
        let world = World::start(Deployment::start(db).await).await;
        let mut petra = world.petra.clone();
        let name = world.ask(EngagementProfile::Standard, 30).await;
        world.approve(&name).await;
        let unknown = attestation(&name, "humour", 10);
        assert_eq!(fields(&petra.qualifications.attest_control(unknown).await.unwrap_err()), ["control"]);
        for control in ["access_control", "logging"] {
            for _ in 0..25 {
                world.attest(&name, control, 10).await;
            }
            let refused = petra.qualifications.attest_control(attestation(&name, control, 10)).await.unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "TOO_MANY_ATTESTATIONS"));
        }
        world.deployment.clock.advance_ms(DAY_MS);
        world.attest(&name, "logging", 10).await;
    }

    async fn b16_nobody_works_for_a_customer_who_does_not_say_who_answers(db: TestDatabase) {
        let world = World::start(Deployment::start(db).await).await;
        let mut ada = world.ada.clone();
        let name = world.ask(EngagementProfile::Standard, 30).await;
        world.approve(&name).await;
        let refused = ada.tenants.activate_tenant(activate()).await.unwrap_err();
        let missing = violations(&refused);
        for activity in ["onboarding", "access_design", "offboarding"] {
            assert!(missing.contains(&format!("responsibilities.{activity}")), "{missing:?}");
        }
        // B21: one operator, and one human of the customer who owns the risk; never the provider.
        let by_provider = responsibility("onboarding", "provider", "msp");
        let refused = ada.qualifications.assign_responsibility(by_provider).await.unwrap_err();
        assert_eq!(reason(&refused), "NOT_ACCOUNTABLE");
        for activity in ["onboarding", "access_design", "offboarding"] {
            world.answer_for(activity, "provider").await;
        }
        let missing = violations(&ada.tenants.activate_tenant(activate()).await.unwrap_err());
        assert!(!missing.iter().any(|one| one.starts_with("responsibilities")), "{missing:?}");
        let list = ListResponsibilitiesRequest { tenant: "tenants/acme".to_owned(), ..Default::default() };
        world.answer_for("onboarding", "customer").await;
        let rows = ada.qualifications.list_responsibilities(list).await.unwrap().into_inner().responsibilities;
        assert_eq!(rows.len(), 3, "a row is replaced, never there twice");
        // Who owns a risk stays until somebody else does.
        let request = EndPrincipalRequest { name: name_of("ada"), request_id: String::new() };
        let refused = world.deployment.admin.clone().principals.end_principal(request).await.unwrap_err();
        assert_eq!(reason(&refused), "OWNS_RISK");
    }

    async fn i49_a_subcontractor_is_approved_by_the_customer_and_never_wider(db: TestDatabase) {
        let world = World::start(Deployment::start(db).await).await;
        let (mut ada, mut admin) = (world.ada.clone(), world.deployment.admin.clone());
        let parent = world.ask(EngagementProfile::Standard, 30).await;
        world.approve(&parent).await;
        admin.principals.create_organization(create_organization("sub", OrganizationKind::Subcontractor)).await.unwrap();
        let (mut sub, _) = provider(&world.deployment, "subco").await;
        let mut wide = ask("acme", EngagementProfile::Standard, 31);
        wide.engagement.as_mut().unwrap().parent = parent.clone();
        let name = sub.engagements.request_engagement(wide).await.unwrap().into_inner().engagement.unwrap().name;
        let mut request = approve(&name);
        let refused = ada.engagements.approve_engagement(request.clone()).await.unwrap_err();
        assert_eq!(reason(&refused), "ORGANIZATION_KIND");
        request.organization = "tenants/acme/organizations/sub".to_owned();
        let refused = ada.engagements.approve_engagement(request.clone()).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "ENGAGEMENT_WIDER"));
        sub.engagements.end_engagement(end(&name)).await.unwrap();
        let mut narrow = ask("acme", EngagementProfile::Standard, 10);
        narrow.engagement.as_mut().unwrap().parent = parent.clone();
        let name = sub.engagements.request_engagement(narrow).await.unwrap().into_inner().engagement.unwrap().name;
        ada.engagements.approve_engagement(ApproveEngagementRequest { name: name.clone(), ..request }).await.unwrap();
        let refused = ada.engagements.extend_engagement(extend(&name, 100)).await.unwrap_err();
        assert_eq!(reason(&refused), "ENGAGEMENT_WIDER");
        let logged = world.deployment.logged("acme").await;
        assert!(logged.iter().any(|(_, payload, _)| matches!(payload, Payload::SubcontractorEngaged(_))));
        // It ends with its provider's.
        sub.engagements.assign_operator(assign(&name, "tenants/subco/principals/otto")).await.unwrap();
        let resolve = ResolveOperatorRequest { operator: "tenants/subco/principals/otto".to_owned(), customer: "tenants/acme".to_owned() };
        let mut service = world.deployment.service.clone();
        assert!(service.engagements.resolve_operator(resolve.clone()).await.is_ok());
        ada.engagements.end_engagement(end(&parent)).await.unwrap();
        assert_eq!(service.engagements.resolve_operator(resolve).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(state(&mut sub, &name).await.unwrap().state(), EngagementState::Ended);
        let logged = world.deployment.logged("acme").await;
        let over = |what: &Payload| match what {
            Payload::EngagementEnded(end) => name.ends_with(&end.engagement) && end.reason == "PROVIDER-ENDED",
            Payload::OperatorUnassigned(end) => end.operator == "tenants/subco/principals/otto",
            _ => false,
        };
        assert_eq!(logged.iter().filter(|(_, payload, _)| over(payload)).count(), 2);
        world.deployment.replayed("acme").await;
    }

    async fn both_sides_are_told_30_7_and_1_days_before_the_end_and_the_end_ends_everything(db: TestDatabase) {
        let world = World::start(Deployment::start(db).await).await;
        let name = world.engage(EngagementProfile::Standard, 40).await;
        let mut petra = world.petra.clone();
        let jobs = &world.deployment.jobs;
        jobs.run_once().await.unwrap();
        let mut told = Vec::new();
        for (days, expected) in [(9, vec![]), (1, vec![30]), (23, vec![30, 7]), (6, vec![30, 7, 1])] {
            world.deployment.clock.advance_ms(days * DAY_MS);
            jobs.run_once().await.unwrap();
            jobs.run_once().await.unwrap();
            told = state(&mut petra, &name).await.unwrap().notices;
            assert_eq!(told, expected);
        }
        assert_eq!(told.len(), 3);
        let acted_as = world.acts_as(&name).await;
        world.deployment.clock.advance_ms(DAY_MS);
        assert_eq!(state(&mut petra, &name).await.unwrap().state(), EngagementState::Ended);
        jobs.run_once().await.unwrap();
        jobs.run_once().await.unwrap();
        // Its receipt comes only when all before it in the stream are in the log.
        world.answer_for("onboarding", "provider").await;
        let logged = world.deployment.logged("acme").await;
        let of = |what: fn(&Payload) -> bool| logged.iter().filter(|(_, payload, _)| what(payload)).count();
        assert_eq!(of(|one| matches!(one, Payload::EngagementNoticeGiven(_))), 3);
        assert_eq!(of(|one| matches!(one, Payload::EngagementEnded(end) if end.ended_by() == v1::EngagementEnd::Expired)), 1);
        assert_eq!(of(|one| matches!(one, Payload::OperatorUnassigned(_))), 1);
        let ended = |one: &Payload| matches!(one, Payload::PrincipalEnded(end) if acted_as.ends_with(&end.principal));
        assert_eq!(logged.iter().filter(|(_, payload, _)| ended(payload)).count(), 1);
    }

    async fn a_providers_own_tenant_needs_an_administrator_and_governs_nothing(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut admin = deployment.admin.clone();
        let request = CreateTenantRequest { kind: TenantKind::Provider.into(), ..create_tenant("msp") };
        let created = admin.tenants.create_tenant(request).await.unwrap().into_inner().tenant.unwrap();
        assert_eq!((created.kind(), created.missing_requirements), (TenantKind::Provider, vec!["provider_administrator".to_owned()]));
        let activate = ActivateTenantRequest { name: "tenants/msp".to_owned(), request_id: String::new() };
        assert_eq!(violations(&admin.tenants.activate_tenant(activate.clone()).await.unwrap_err()), ["provider_administrator"]);
        let customer = CreateOrganizationRequest { tenant: "tenants/msp".to_owned(), ..create_organization("customer", OrganizationKind::Customer) };
        let refused = admin.principals.create_organization(customer).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "TENANT_KIND"));
        let logged = deployment.logged("msp").await;
        assert!(matches!(&logged[0].1, Payload::TenantLifecycleChanged(one) if one.kind() == v1::TenantKind::Provider));
    }
}
