//! A review with the real authority, inventory and ledger: what is shown, who decides, what is refused.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on panics, also in what its tests share"
)]

mod support;

use counterfoil_chassis::{clock::timestamp, testing::TestDatabase};
use counterfoil_evidence::{catalogue, v1};
use counterfoil_proto::{
    authority::{EndPrincipalRequest, ListDecisionRightsRequest, RevokeDecisionRightRequest},
    common::EvidenceState,
    recertification::{
        CampaignState, Decision, Evidence, GetCampaignRequest, ItemState, ReassignItemRequest,
    },
};
use prost::Message;
use support::{DAY_MS, NOW_MS, TENANT, World, decision, estate, principal_name};
use tonic::{Code, Status};
use tonic_types::StatusExt;

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

counterfoil_chassis::both_engines! {
    /// Routing: the owner of the entitlement, and never the subject.
    async fn items_go_to_the_owner_of_the_entitlement_and_never_to_the_subject(db: TestDatabase) {
        let world = World::start(db).await;
        let campaign = world.review("q3").await;
        let expected = [
            ("ada", "crew", "rita"),
            ("cid", "crew", "rita"),
            ("bob", "staff", "ada"),
            ("ada", "staff", "finn"), // ada owns staff and is the subject
            ("bob", "root", "finn"),  // nobody owns root
        ];
        for (account, entitlement, reviewer) in expected {
            let item = world.item(&campaign, account, entitlement).await;
            assert_eq!(item.reviewer, principal_name(reviewer), "{account} {entitlement}");
            assert_eq!(item.state(), ItemState::Routed);
        }
        let read = world.campaign(&campaign).await;
        assert_eq!((read.state(), read.population_count), (CampaignState::Active, 5));
        assert_eq!(read.counts.unwrap().pending, 5);
        world.stop().await;
    }

    /// A9: what is shown carries its watermark and breadth; a decision on what has changed since is refused.
    async fn a9_a_grant_that_changed_after_it_was_shown_is_refused_and_shown_again(db: TestDatabase) {
        let world = World::start(db).await;
        let campaign = world.review("q3").await;
        let shown = world.item(&campaign, "cid", "crew").await;
        let presentation = shown.presentation.clone().unwrap();
        assert!(presentation.observed_ms > NOW_MS, "{presentation:?}");
        assert_eq!(presentation.inherited_count, 1, "crew follows into everyone");
        let mut grants = estate();
        grants[4].purpose = "on call until March";
        world.write_source("hr", &grants);
        world.sync("hr").await;
        let rita = world.of("rita").await;
        let refused = rita.decide(decision(&shown, Decision::Accept)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "GRANT_CHANGED"));
        let again = world.reread(&shown).await;
        assert_ne!(again.presentation_hash, shown.presentation_hash);
        assert_eq!(again.presentation.as_ref().unwrap().purpose, "on call until March");
        let stale = rita.decide(decision(&shown, Decision::Accept)).await.unwrap_err();
        assert_eq!(reason(&stale), "GRANT_CHANGED");
        let taken = rita.decide(decision(&again, Decision::Accept)).await.unwrap();
        assert_eq!(taken.item.unwrap().decision(), Decision::Accept);
        let routed: Vec<v1::ReviewItemRouted> = world.of_type("ReviewItemRouted").await;
        assert_eq!(routed.last().unwrap().cause(), v1::RoutingCause::Represented);
        world.stop().await;
    }

    /// A43, A22: approver, justification, review date and exception basis are mandatory, each refusal names its field.
    async fn a43_a_decision_without_reason_evidence_date_or_basis_is_refused_by_name(db: TestDatabase) {
        let world = World::start(db).await;
        let campaign = world.review("q3").await;
        let item = world.item(&campaign, "cid", "crew").await;
        let rita = world.of("rita").await;
        let mut asked = Vec::new();
        let mut with = |kind, field: &'static str, spoil: fn(&mut counterfoil_proto::recertification::ItemDecision)| {
            let mut one = decision(&item, kind);
            spoil(&mut one);
            asked.push((field, one));
        };
        with(Decision::Revoke, "justification", |one| one.justification = "  ".into());
        with(Decision::Accept, "evidence", |one| one.evidence.clear());
        with(Decision::Accept, "review_by_time", |one| one.review_by_time = None);
        with(Decision::Accept, "review_by_time", |one| {
            one.review_by_time = Some(timestamp(NOW_MS + 400 * DAY_MS));
        });
        with(Decision::Accept, "evidence.kind", |one| {
            one.evidence[0] = Evidence { kind: "Bob said so".into(), ..one.evidence[0].clone() };
        });
        with(Decision::Exception, "exception_basis", |one| one.exception_basis.clear());
        with(Decision::Exception, "exception_owner", |one| one.exception_owner.clear());
        with(Decision::Exception, "exception_owner", |one| one.exception_owner = principal_name("nobody"));
        with(Decision::Exception, "exception_expire_time", |one| one.exception_expire_time = None);
        with(Decision::Accept, "exception_basis", |one| one.exception_basis = "none".into());
        with(Decision::Reduce, "reduce_to_grant", |_| {});
        with(Decision::Reduce, "reduce_to_grant", |one| {
            one.reduce_to_grant = format!("{TENANT}/grants/{}", "00".repeat(40));
        });
        with(Decision::Unspecified, "decision", |_| {});
        for (field, one) in asked {
            let refused = rita.decide(one).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{field}: {refused}");
            let details = refused.get_error_details();
            let named = &details.bad_request().unwrap().field_violations[0].field;
            assert_eq!(named, field);
        }
        let taken = rita.decide(decision(&item, Decision::Exception)).await.unwrap();
        assert_eq!(taken.item.unwrap().decision(), Decision::Exception);
        let decided: Vec<v1::ReviewDecided> = world.of_type("ReviewDecided").await;
        assert_eq!(decided.len(), 1);
        assert!(decided[0].review_by_ms > NOW_MS && decided[0].evidence.len() == 1);
        let granted: Vec<v1::ExceptionGranted> = world.of_type("ExceptionGranted").await;
        assert_eq!((granted[0].owner.as_str(), granted[0].approver.as_str()), ("principals/olga", "principals/rita"));
        world.stop().await;
    }

    /// I-26, I-13: who is the subject, who does not have the item, and who has no right are refused, each by its reason.
    async fn who_may_not_decide_is_refused_by_reason(db: TestDatabase) {
        let world = World::start(db).await;
        let campaign = world.review("q3").await;
        let (rita, ada, finn) = (world.of("rita").await, world.of("ada").await, world.of("finn").await);
        let own = world.item(&campaign, "ada", "crew").await;
        let refused = ada.decide(decision(&own, Decision::Accept)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "SELF_REVIEW"));
        let refused = finn.decide(decision(&own, Decision::Accept)).await.unwrap_err();
        assert_eq!(reason(&refused), "NOT_ROUTED");
        let bobs = world.item(&campaign, "bob", "staff").await;
        let refused = ada.decide(decision(&bobs, Decision::Exception)).await.unwrap_err();
        assert_eq!(reason(&refused), "NO_DECISION_RIGHT", "ada may review and not except");
        world.revoke_rights("rita").await;
        let refused = rita.decide(decision(&own, Decision::Revoke)).await.unwrap_err();
        assert_eq!(reason(&refused), "NO_DECISION_RIGHT");
        assert!(world.of_type::<v1::ReviewDecided>("ReviewDecided").await.is_empty());
        world.stop().await;
    }

    /// I-26: whoever has no identity key could be the subject, and gets, is given and decides nothing that is somebody's.
    async fn a_reviewer_whom_nobody_knows_reviews_nothing(db: TestDatabase) {
        let world = World::start(db).await;
        let campaign = world.define("q3", |one| one.fallback_reviewer = principal_name("nemo")).await;
        world.stage(&campaign).await.unwrap();
        world.activate(&campaign).await;
        let item = world.item(&campaign, "bob", "root").await;
        assert_eq!(item.reviewer, principal_name("olga"), "the next whom the campaign names");
        let request = ReassignItemRequest {
            name: item.name.clone(),
            reviewer: principal_name("nemo"),
            request_id: String::new(),
        };
        let refused = world.olga.reviews.clone().reassign_item(request).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "NO_IDENTITY"));
        world.break_in("UPDATE items SET reviewer = 'principals/nemo'").await;
        let nemo = world.of("nemo").await;
        let refused = nemo.decide(decision(&item, Decision::Accept)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "NO_IDENTITY"));
        world.stop().await;
    }

    /// I-26: an identity is the same however a system writes it, so nobody gets their own access in another spelling.
    async fn an_identity_in_another_spelling_is_the_same_person(db: TestDatabase) {
        let world = World::start(db).await;
        let campaign = world.review("q3").await;
        let own = world.item(&campaign, "ada", "crew").await;
        // As inventory answered before it knew better, or from a system that writes it so.
        world.break_in("UPDATE items SET reviewer = 'principals/ada', subject_key = 'Ada@ACME.example '").await;
        let ada = world.of("ada").await;
        let refused = ada.decide(decision(&own, Decision::Accept)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "SELF_REVIEW"));
        let exception = world.item(&campaign, "bob", "root").await;
        world.break_in("UPDATE items SET reviewer = 'principals/rita', subject_key = 'OLGA@acme.example'").await;
        let rita = world.of("rita").await;
        let refused = rita.decide(decision(&exception, Decision::Exception)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "olga would own the exception for her own access");
        world.stop().await;
    }

    /// I-26: whose access it was when the item was shown before decides nothing on it either.
    async fn a_former_subject_decides_nothing_on_the_item(db: TestDatabase) {
        let world = World::start(db).await;
        let campaign = world.review("q3").await;
        let item = world.item(&campaign, "bob", "root").await;
        // As if the account had been finn's until it was shown again as somebody else's.
        world.break_in("UPDATE items SET former_subjects = 'FINN@acme.example\n'").await;
        let to_finn = ReassignItemRequest {
            name: item.name.clone(),
            reviewer: principal_name("finn"),
            request_id: String::new(),
        };
        let refused = world.olga.reviews.clone().reassign_item(to_finn).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "SELF_REVIEW"));
        world.break_in("UPDATE items SET reviewer = 'principals/finn'").await;
        let finn = world.of("finn").await;
        let refused = finn.decide(decision(&item, Decision::Accept)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "SELF_REVIEW"));
        world.stop().await;
    }

    /// Giving an item on: not to the subject, not to whoever cannot decide; the new reviewer decides on a new presentation.
    async fn an_item_is_given_on_to_someone_who_may_decide_it(db: TestDatabase) {
        let world = World::start(db).await;
        let campaign = world.review("q3").await;
        let item = world.item(&campaign, "ada", "crew").await;
        let rita = world.of("rita").await;
        let to = |id: &str| ReassignItemRequest {
            name: item.name.clone(),
            reviewer: principal_name(id),
            request_id: String::new(),
        };
        let mut reviews = rita.reviews.clone();
        let refused = reviews.reassign_item(to("ada")).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "SELF_REVIEW"));
        let refused = reviews.reassign_item(to("sam")).await.unwrap_err();
        assert_eq!(reason(&refused), "NO_DECISION_RIGHT");
        let given = reviews.reassign_item(to("finn")).await.unwrap().into_inner().item.unwrap();
        assert_eq!(given.reviewer, principal_name("finn"));
        assert_ne!(given.presentation_hash, item.presentation_hash);
        let refused = rita.decide(decision(&given, Decision::Revoke)).await.unwrap_err();
        assert_eq!(reason(&refused), "NOT_ROUTED");
        let finn = world.of("finn").await;
        finn.decide(decision(&given, Decision::Revoke)).await.unwrap();
        world.stop().await;
    }

    /// An answer that was lost is asked for again with the same request id, and is the same although the caller has given the
    /// item away with it.
    async fn an_item_that_was_given_on_answers_the_same_request_alike(db: TestDatabase) {
        let world = World::start(db).await;
        let campaign = world.review("q3").await;
        let item = world.item(&campaign, "ada", "crew").await;
        let mut reviews = world.of("rita").await.reviews;
        let request = ReassignItemRequest {
            name: item.name.clone(),
            reviewer: principal_name("finn"),
            request_id: "once".into(),
        };
        let given = reviews.reassign_item(request.clone()).await.unwrap().into_inner();
        let again = reviews.reassign_item(request).await.unwrap().into_inner();
        assert_eq!((again.item, again.receipt.unwrap().record_id), (given.item, given.receipt.unwrap().record_id));
        let routed: Vec<v1::ReviewItemRouted> = world.of_type("ReviewItemRouted").await;
        assert_eq!(routed.len(), 6, "five when the review opened, and one when it was given on");
        world.stop().await;
    }

    /// One refusal does not touch the others, the same call is done once, every receipt proves a record in the log.
    async fn a_batch_answers_each_decision_and_is_done_once(db: TestDatabase) {
        let world = World::start(db).await;
        let campaign = world.review("q3").await;
        let adas = world.item(&campaign, "ada", "crew").await;
        let cids = world.item(&campaign, "cid", "crew").await;
        let finns = world.item(&campaign, "bob", "root").await;
        let mut unreadable = decision(&cids, Decision::Revoke);
        unreadable.presentation_hash = vec![1];
        let asked = vec![
            decision(&adas, Decision::Accept),
            decision(&finns, Decision::Revoke),
            decision(&adas, Decision::Revoke),
            unreadable,
            decision(&cids, Decision::Revoke),
        ];
        let rita = world.of("rita").await;
        let results = rita.decide_all(&campaign, asked.clone(), "once").await.unwrap();
        let reasons: Vec<&str> = results.iter().map(|result| result.reason.as_str()).collect();
        assert_eq!(reasons, ["", "NOT_ROUTED", "INVALID_FIELD", "INVALID_FIELD", ""]);
        let receipt = results[0].receipt.clone().unwrap();
        assert_eq!(receipt.state(), EvidenceState::Logged);
        assert!(receipt.tlog_proof.starts_with(b"c2sp.org/tlog-proof@v1"), "{receipt:?}");
        let again = rita.decide_all(&campaign, asked.clone(), "once").await.unwrap();
        assert_eq!(again[0].receipt.as_ref().unwrap().record_id, receipt.record_id);
        assert_eq!(again[0].receipt.as_ref().unwrap().index, receipt.index);
        let other = rita.decide_all(&campaign, asked[..1].to_vec(), "once").await.unwrap_err();
        assert_eq!(other.code(), Code::InvalidArgument);
        let decided: Vec<v1::ReviewDecided> = world.of_type("ReviewDecided").await;
        assert_eq!(decided.len(), 2);
        assert!(decided[0].bulk && !decided[0].batch_id.is_empty());
        world.stop().await;
    }

    /// The later decision counts, and each left its record.
    async fn an_item_may_be_decided_anew_while_the_review_is_open(db: TestDatabase) {
        let world = World::start(db).await;
        let campaign = world.review("q3").await;
        let item = world.item(&campaign, "cid", "crew").await;
        let rita = world.of("rita").await;
        rita.decide(decision(&item, Decision::Accept)).await.unwrap();
        rita.decide(decision(&item, Decision::Revoke)).await.unwrap();
        let counts = world.campaign(&campaign).await.counts.unwrap();
        assert_eq!((counts.pending, counts.accepted, counts.revoked), (4, 0, 1));
        let decided: Vec<v1::ReviewDecided> = world.of_type("ReviewDecided").await;
        assert_eq!(decided.len(), 2);
        world.stop().await;
    }

    /// D21, E7: every outcome names its human owner, the right it was taken by and the policy, and no name of a person.
    async fn e7_d21_every_decision_record_names_owner_right_and_policy_and_nobody_by_name(db: TestDatabase) {
        let world = World::start(db).await;
        let campaign = world.review("q3").await;
        let item = world.item(&campaign, "cid", "crew").await;
        let rita = world.of("rita").await;
        rita.decide(decision(&item, Decision::Accept)).await.unwrap();
        let records = world.records().await;
        for record in &records {
            let known = catalogue::record_type(&record.r#type).unwrap();
            let accountability = record.accountability.clone().unwrap();
            assert_eq!(accountability.accountable_owner, "principals/olga", "{}", known.name);
            assert_eq!(accountability.policy.len(), 32);
            let text = String::from_utf8_lossy(&record.payload).into_owned();
            for personal in ["acme.example", "Name of", "Checked with", "Quarterly"] {
                assert!(!text.contains(personal), "{} holds {personal}", known.name);
            }
        }
        let decided = records.iter().find(|record| record.r#type.ends_with(".ReviewDecided")).unwrap();
        let held = ListDecisionRightsRequest { tenant: TENANT.into(), page_size: 1000, ..Default::default() };
        let held = world.olga.rights.clone().list_decision_rights(held).await.unwrap().into_inner();
        let rights = held.decision_rights.iter();
        let review = rights.filter(|right| right.grantee == principal_name("rita") && right.action == 1);
        let cited = &decided.accountability.as_ref().unwrap().authority;
        assert!(review.map(|right| &right.record_hash).any(|hash| hash == cited));
        assert_eq!(decided.actor, "principals/rita");
        let payload = v1::ReviewDecided::decode(decided.payload.as_slice()).unwrap();
        assert_eq!(payload.presentation_hash, item.presentation_hash);
        world.stop().await;
    }

    /// REDUCE: what stays must be there, of the same account, and not fall with what goes.
    async fn a_reduction_names_a_narrower_grant_that_stays(db: TestDatabase) {
        let world = World::start(db).await;
        let campaign = world.review("q3").await;
        let root = world.item(&campaign, "bob", "root").await;
        let staff = world.item(&campaign, "bob", "staff").await;
        let others = world.item(&campaign, "ada", "staff").await;
        let finn = world.of("finn").await;
        let mut asked = decision(&root, Decision::Reduce);
        for wrong in [&others.grant, &root.grant] {
            asked.reduce_to_grant.clone_from(wrong);
            let refused = finn.decide(asked.clone()).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        }
        asked.reduce_to_grant.clone_from(&staff.grant);
        finn.decide(asked).await.unwrap();
        let decided: Vec<v1::ReviewDecided> = world.of_type("ReviewDecided").await;
        assert_eq!(decided[0].reduce_to_grant_key, staff.presentation.unwrap().leaf[..40]);
        world.stop().await;
    }

    /// NOT_FOUND, with the same bytes, for what is not there and for what is another tenant's.
    async fn another_tenants_campaign_does_not_exist(db: TestDatabase) {
        let world = World::start(db).await;
        world.review("q3").await;
        let rita = world.of("rita").await;
        let get = |name: &str| {
            let request = GetCampaignRequest { name: name.into() };
            let mut campaigns = rita.campaigns.clone();
            async move { campaigns.get_campaign(request).await.unwrap_err() }
        };
        let missing = get("tenants/acme/campaigns/none").await;
        let foreign = get("tenants/beta/campaigns/q3").await;
        assert_eq!(missing.code(), Code::NotFound);
        assert_eq!((missing.message(), missing.details()), (foreign.message(), foreign.details()));
        world.stop().await;
    }

    /// Somebody who has ended decides nothing any more.
    async fn a_reviewer_who_has_ended_decides_nothing(db: TestDatabase) {
        let world = World::start(db).await;
        let campaign = world.review("q3").await;
        let item = world.item(&campaign, "cid", "crew").await;
        let rita = world.of("rita").await;
        let request = EndPrincipalRequest { name: principal_name("rita"), request_id: String::new() };
        world.olga.principals.clone().end_principal(request).await.unwrap();
        let refused = rita.decide(decision(&item, Decision::Accept)).await.unwrap_err();
        assert!(matches!(refused.code(), Code::Unauthenticated | Code::PermissionDenied), "{refused}");
        assert!(world.of_type::<v1::ReviewDecided>("ReviewDecided").await.is_empty());
        world.stop().await;
    }
}

impl World {
    /// The payloads of one type, in their order.
    async fn of_type<M: Message + Default>(&self, name: &str) -> Vec<M> {
        let records = self.records().await;
        let wanted = format!("counterfoil.evidence.v1.{name}");
        records
            .iter()
            .filter(|record| record.r#type == wanted)
            .map(|record| M::decode(record.payload.as_slice()).unwrap())
            .collect()
    }

    async fn revoke_rights(&self, grantee: &str) {
        let mut rights = self.olga.rights.clone();
        let request = ListDecisionRightsRequest {
            tenant: TENANT.into(),
            page_size: 1000,
            ..ListDecisionRightsRequest::default()
        };
        let held = rights
            .list_decision_rights(request)
            .await
            .unwrap()
            .into_inner();
        for right in held.decision_rights {
            if right.grantee == principal_name(grantee) {
                let request = RevokeDecisionRightRequest {
                    name: right.name,
                    request_id: String::new(),
                };
                rights.revoke_decision_right(request).await.unwrap();
            }
        }
    }
}
