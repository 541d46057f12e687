//! A campaign with the real authority, inventory and ledger: the gate before it, its end, its close, and what is decided.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on panics, also in what its tests share"
)]

mod support;

use counterfoil_chassis::{
    clock::{millis, timestamp},
    testing::TestDatabase,
};
use counterfoil_evidence::{
    leaf::{AuthorizedLeaf, AuthorizedStatus},
    v1,
};
use counterfoil_proto::authority::BeginExitRequest;
use counterfoil_proto::recertification::{
    ActivateCampaignRequest, BatchGetDecidedGrantsRequest, CampaignState, CloseCampaignRequest,
    CloseCampaignResponse, DecidedGrant, Decision, EndReviewRequest, Item, ItemState, LapseRule,
    ReportVerifiedRemovalsRequest, StreamDecidedGrantsRequest, VerifiedRemoval,
};
use counterfoil_recertification::Progress;
use prost::Message;
use support::{DAY_MS, NOW_MS, PATIENCE, TENANT, World, decision, estate};
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_types::StatusExt;

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

fn key_of(item: &Item) -> Vec<u8> {
    item.presentation.as_ref().unwrap().leaf[..40].to_vec()
}

counterfoil_chassis::both_engines! {
    /// A26, C16: what is not fresh and complete is not reviewed, and the refusal names the source.
    async fn a26_a_source_that_is_missing_or_old_keeps_the_review_from_starting(db: TestDatabase) {
        let world = World::start(db).await;
        world.write_source("vault", &estate());
        world.add_source("vault").await;
        let all = world.define("all", |_| {}).await;
        let refused = world.stage(&all).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "SOURCE_MISSING"));
        assert!(refused.message().contains("sources/vault"), "{refused}");
        let typo = world.define("typo", |one| one.sources = vec![format!("{TENANT}/sources/typo")]).await;
        assert!(world.stage(&typo).await.unwrap_err().message().contains("sources/typo"));
        let hr = world.define("hr", |one| one.sources = vec![format!("{TENANT}/sources/hr")]).await;
        let staged = world.stage(&hr).await.unwrap();
        assert_eq!((staged.state(), staged.population_count), (CampaignState::Staged, 5));
        world.sync("vault").await;
        assert_eq!(world.stage(&all).await.unwrap().population_count, 10);
        world.stop().await;
    }

    /// The population is what the scope says, and the rest is counted.
    async fn the_scope_decides_what_is_reviewed_and_the_rest_is_counted(db: TestDatabase) {
        let world = World::start(db).await;
        let privileged = world.define("privileged", |one| one.privileged_only = true).await;
        assert_eq!(world.stage(&privileged).await.unwrap().population_count, 1);
        let wide = world.define("wide", |one| one.include_inherited = true).await;
        assert_eq!(world.stage(&wide).await.unwrap().population_count, 7);
        world.activate(&wide).await;
        let inherited = world.item(&wide, "ada", "everyone").await.presentation.unwrap();
        assert_eq!(inherited.path, ["The crew"]);
        assert!(inherited.flags.contains(&"INHERITED".to_owned()));
        let staged: Vec<v1::CampaignStaged> = world.payloads("CampaignStaged").await;
        let counts: Vec<_> = staged.iter().map(|one| (one.population_count, one.exclusions_count)).collect();
        assert_eq!(counts, [(1, 6), (7, 0)]);
        assert_eq!(staged[0].freshness[0].source, "sources/hr");
        let again = world.stage(&privileged).await.unwrap_err();
        assert_eq!(again.code(), Code::FailedPrecondition, "a population is fixed once");
        world.stop().await;
    }

    /// A decision to remove, verified, closes the campaign; the removal that nobody verified is debt, and so is one that was
    /// verified and whose grant is there again before the close.
    async fn a_campaign_closes_only_when_every_removal_is_verified(db: TestDatabase) {
        let world = World::start(db).await;
        for (id, verified, comes_back) in [
            ("unverified", false, false),
            ("back", true, true),
            ("good", true, false),
        ] {
            let campaign = world.review(id).await;
            let items = world.decide_everything(&campaign).await;
            world.end(&campaign).await.unwrap();
            let removed: Vec<VerifiedRemoval> = items
                .iter()
                .filter(|_| verified)
                .map(|item| VerifiedRemoval { grant_key: key_of(item), verified_record_hash: vec![7; 32], observed_time: Some(timestamp(world.clock.clock().now_ms())) })
                .collect();
            if verified {
                world.write_source("hr", &[]);
                world.sync("hr").await;
            }
            for _ in 0..2 {
                world.report_verified(removed.clone()).await.unwrap();
            }
            if comes_back {
                world.write_source("hr", &estate());
                world.sync("hr").await;
            }
            let closed = world.close(&campaign).await.unwrap().campaign.unwrap();
            let done = verified && !comes_back;
            let expected = if done { CampaignState::Closed } else { CampaignState::ClosedWithDebt };
            assert_eq!(closed.state(), expected, "{id}");
            assert_eq!(closed.debt_count, if done { 0 } else { items.len() as u64 }, "{id}");
            let again = world.close(&campaign).await.unwrap_err();
            assert_eq!(again.code(), Code::FailedPrecondition);
        }
        world.stop().await;
    }

    /// A verified removal is told once, whenever and to whomever: kept, and counted in every campaign that decided it before it
    /// was observed, also in one whose review ends later. Grants of no campaign in the same report keep nothing from counting.
    async fn a_verified_removal_counts_in_every_campaign_that_decided_it_before(db: TestDatabase) {
        let world = World::start(db).await;
        let (first, second) = (world.review("first").await, world.review("second").await);
        let items = world.decide_everything(&first).await;
        world.end(&first).await.unwrap();
        let at = |key: Vec<u8>, observed_ms: i64| VerifiedRemoval {
            grant_key: key,
            verified_record_hash: vec![7; 32],
            observed_time: Some(timestamp(observed_ms)),
        };
        let decided_ms = millis(world.reread(&items[0]).await.decide_time.as_ref().unwrap()).unwrap();
        let all = |observed_ms| -> Vec<VerifiedRemoval> {
            let strangers = [vec![1; 40], vec![2; 40]].into_iter();
            strangers.chain(items.iter().map(key_of)).map(|key| at(key, observed_ms)).collect()
        };
        assert_eq!(world.report_verified(all(decided_ms - 1)).await.unwrap(), 0, "read before it was decided");
        assert_eq!(world.report_verified(all(decided_ms)).await.unwrap(), 5);
        assert_eq!(world.report_verified(all(decided_ms)).await.unwrap(), 0, "reported twice");
        assert_eq!(world.campaign(&first).await.counts.unwrap().verified, 5);
        // The second campaign decides the same later, and learns of it when its own review ends.
        world.clock.advance_ms(1_000);
        world.decide_everything(&second).await;
        let [early, late] = [decided_ms, decided_ms + 1_000].map(|ms| at(key_of(&items[0]), ms));
        assert_eq!(world.report_verified(vec![late.clone(), early, late]).await.unwrap(), 0, "it is under review");
        world.end(&second).await.unwrap();
        assert_eq!(world.campaign(&second).await.counts.unwrap().verified, 1, "the others were read before");
        assert_eq!(world.report_verified(all(decided_ms + 1_000)).await.unwrap(), 4);
        world.stop().await;
    }

    /// Only what is malformed refuses a report, and it then leaves nothing.
    async fn a_report_is_refused_for_its_form_only(db: TestDatabase) {
        let world = World::start(db).await;
        let good = VerifiedRemoval {
            grant_key: vec![1; 40],
            verified_record_hash: vec![7; 32],
            observed_time: Some(timestamp(NOW_MS)),
        };
        let wrong = [
            VerifiedRemoval { grant_key: vec![1; 39], ..good.clone() },
            VerifiedRemoval { verified_record_hash: vec![7; 31], ..good.clone() },
            VerifiedRemoval { observed_time: None, ..good.clone() },
            VerifiedRemoval { observed_time: Some(timestamp(NOW_MS + DAY_MS)), ..good.clone() },
        ];
        for one in wrong {
            let refused = world.report_verified(vec![good.clone(), one]).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        }
        let refused = world.report_verified(vec![good.clone(); 10_001]).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert_eq!(world.report_verified(vec![good; 10_000]).await.unwrap(), 0);
        world.stop().await;
    }

    /// I-30, I-31: what nobody decided lapses by the rule, as nobody's decision; then nobody decides any more.
    async fn a_review_that_is_due_ends_by_itself_and_what_nobody_decided_lapses(db: TestDatabase) {
        let world = World::start(db).await;
        let campaign = world.define("q3", |one| {
            one.lapse_rule = LapseRule::Revoke.into();
            one.due_time = Some(timestamp(NOW_MS + DAY_MS));
        }).await;
        world.stage(&campaign).await.unwrap();
        world.activate(&campaign).await;
        let item = world.item(&campaign, "cid", "crew").await;
        let rita = world.of("rita").await;
        rita.decide(decision(&item, Decision::Accept)).await.unwrap();
        assert_eq!(world.jobs.run_once().await.unwrap(), Progress::default());
        world.clock.set_ms(NOW_MS + DAY_MS);
        assert_eq!(world.jobs.run_once().await.unwrap(), Progress { moved: 1, failed: 0 });
        let ended = world.campaign(&campaign).await;
        assert_eq!(ended.state(), CampaignState::Remediating);
        let counts = ended.counts.unwrap();
        assert_eq!((counts.accepted, counts.lapsed_revoke, counts.pending), (1, 4, 0));
        let records = world.records().await;
        let lapses = records.iter().filter(|record| record.r#type.ends_with(".ReviewItemLapsed"));
        assert!(lapses.clone().all(|record| record.actor == "services/recertification"));
        assert_eq!(lapses.count(), 4);
        let late = rita.decide(decision(&item, Decision::Revoke)).await.unwrap_err();
        assert_eq!(reason(&late), "CAMPAIGN_NOT_ACTIVE");
        world.stop().await;
    }

    /// I-30: what was gone before anyone decided is void, with a proof of absence; retained access is debt.
    async fn what_is_gone_is_voided_with_its_proof_and_what_is_retained_is_debt(db: TestDatabase) {
        let world = World::start(db).await;
        let campaign = world.review("q3").await;
        world.write_source("hr", &estate()[..4]); // cid left the crew
        world.sync("hr").await;
        world.end(&campaign).await.unwrap();
        let gone = world.item(&campaign, "cid", "crew").await;
        assert_eq!(gone.state(), ItemState::Voided);
        let voided: Vec<v1::ReviewItemVoided> = world.payloads("ReviewItemVoided").await;
        assert_eq!((voided.len(), voided[0].grant_key.clone()), (1, key_of(&gone)));
        assert!(!voided[0].absence_proof.is_empty() && voided[0].sync_record_hash.len() == 32);
        let closed = world.close(&campaign).await.unwrap().campaign.unwrap();
        assert_eq!((closed.state(), closed.debt_count), (CampaignState::ClosedWithDebt, 4));
        let record: Vec<v1::CampaignClosed> = world.payloads("CampaignClosed").await;
        let counts = record[0].counts.unwrap();
        assert_eq!((counts.voided, counts.lapsed_retained, record[0].population_count), (1, 4, 5));
        world.stop().await;
    }

    /// A grant that is gone when its decision comes: the item is void, at once.
    async fn a_decision_on_a_grant_that_is_gone_voids_its_item(db: TestDatabase) {
        let world = World::start(db).await;
        let campaign = world.review("q3").await;
        let item = world.item(&campaign, "cid", "crew").await;
        world.write_source("hr", &estate()[..4]);
        world.sync("hr").await;
        let rita = world.of("rita").await;
        let refused = rita.decide(decision(&item, Decision::Accept)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "GRANT_CHANGED"));
        assert_eq!(world.reread(&item).await.state(), ItemState::Voided);
        let refused = rita.decide(decision(&item, Decision::Accept)).await.unwrap_err();
        assert_eq!(reason(&refused), "ITEM_ENDED");
        world.stop().await;
    }

    /// A20: what is decided, over all campaigns: the newest on each grant, ascending, with its end and its record.
    async fn a20_the_newest_decision_on_each_grant_is_what_is_authorised(db: TestDatabase) {
        let world = World::start(db).await;
        let first = world.review("q3").await;
        let rita = world.of("rita").await;
        let (adas, cids) = (world.item(&first, "ada", "crew").await, world.item(&first, "cid", "crew").await);
        rita.decide(decision(&adas, Decision::Accept)).await.unwrap();
        rita.decide(decision(&cids, Decision::Accept)).await.unwrap();
        world.end(&first).await.unwrap();
        let second = world.review("q4").await;
        let again = world.item(&second, "cid", "crew").await;
        rita.decide(decision(&again, Decision::Revoke)).await.unwrap();
        world.end(&second).await.unwrap();
        let decided = world.decided().await;
        let mut expected = vec![
            (key_of(&adas), AuthorizedStatus::Authorized, NOW_MS + 100 * DAY_MS, first),
            (key_of(&cids), AuthorizedStatus::Revoked, 0, second.clone()),
        ];
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        let seen: Vec<_> = decided.iter().cloned().map(|one| {
            let leaf = AuthorizedLeaf::try_from(one.leaf.as_slice()).unwrap();
            let until = i64::try_from(leaf.not_after_ms).unwrap();
            (leaf.key.0.to_vec(), leaf.status, until, one.campaign)
        }).collect();
        assert_eq!(seen, expected);
        let undecided = key_of(&world.item(&second, "bob", "root").await);
        let asked = vec![key_of(&cids), undecided, key_of(&adas), key_of(&cids), vec![1; 40]];
        assert_eq!(world.decided_on(asked).await.unwrap(), decided, "by grant as in the stream");
        for wrong in [vec![], vec![vec![1; 39]], vec![vec![1; 40]; 10_001]] {
            assert_eq!(world.decided_on(wrong).await.unwrap_err().code(), Code::InvalidArgument);
        }
        world.stop().await;
    }

    /// A crash in the middle of routing: the job goes on, and no item is routed twice.
    async fn routing_that_was_cut_off_goes_on_without_routing_anything_twice(db: TestDatabase) {
        let world = World::start(db).await;
        let campaign = world.review("q3").await;
        let before = world.items(&campaign).await;
        // As after a crash: the campaign is still being activated, and items that were not reached have no reviewer. The items
        // that were reached keep theirs.
        world.break_in("UPDATE campaigns SET state = 4").await;
        assert_eq!(world.campaign(&campaign).await.state(), CampaignState::Staged);
        assert_eq!(world.jobs.run_once().await.unwrap(), Progress { moved: 1, failed: 0 });
        assert_eq!(world.campaign(&campaign).await.state(), CampaignState::Active);
        assert_eq!(world.items(&campaign).await, before);
        let routed: Vec<v1::ReviewItemRouted> = world.payloads("ReviewItemRouted").await;
        assert_eq!(routed.len(), 5);
        world.stop().await;
    }

    /// The same call twice at once, as from a client that does not wait for its first answer: done once, answered alike.
    async fn a_step_asked_for_twice_at_once_is_answered_alike(db: TestDatabase) {
        let world = World::start(db).await;
        let name = world.define("q3", |_| {}).await;
        world.stage(&name).await.unwrap();
        let campaigns = &world.olga.campaigns;
        let activate = || {
            let request = ActivateCampaignRequest { name: name.clone(), request_id: "open".into() };
            let mut campaigns = campaigns.clone();
            async move { campaigns.activate_campaign(request).await.unwrap().into_inner() }
        };
        let (first, second, third) = tokio::join!(activate(), activate(), activate());
        assert_eq!((&first, &first), (&second, &third));
        let end = || {
            let request = EndReviewRequest { name: name.clone(), request_id: "end".into() };
            let mut campaigns = campaigns.clone();
            async move { campaigns.end_review(request).await.unwrap().into_inner().receipt.unwrap().record_id }
        };
        let (first, second, third) = tokio::join!(end(), end(), end());
        assert_eq!((&first, &first), (&second, &third));
        world.stop().await;
    }

    /// A tenant that leaves: what is under way comes to its end, by a call or by the job, and nothing new begins.
    async fn a_review_under_way_comes_to_its_end_while_the_tenant_leaves(db: TestDatabase) {
        let world = World::start(db).await;
        let ended = world.review("ended").await;
        let due = world.define("due", |one| one.due_time = Some(timestamp(NOW_MS + DAY_MS))).await;
        world.stage(&due).await.unwrap();
        world.activate(&due).await;
        let request = BeginExitRequest { name: TENANT.into(), reason_code: "leaves".into(), request_id: String::new() };
        world.olga.tenants.clone().begin_exit(request).await.unwrap();
        world.known_not_active().await;
        world.end(&ended).await.unwrap();
        world.clock.set_ms(NOW_MS + DAY_MS);
        assert_eq!(world.jobs.run_once().await.unwrap(), Progress { moved: 1, failed: 0 });
        for campaign in [ended, due] {
            let closed = world.close(&campaign).await.unwrap().campaign.unwrap();
            assert_eq!(closed.state(), CampaignState::ClosedWithDebt, "{campaign}");
        }
        world.stop().await;
    }

    /// I-04: an end that was cut off goes on in the name of whoever began it. After a long pause nobody's name stands: it waits, and is
    /// dated anew by the rule once it is due.
    async fn an_end_that_was_cut_off_for_long_is_dated_anew(db: TestDatabase) {
        let world = World::start(db).await;
        for (id, pauses_ms, actor) in [
            ("short", vec![DAY_MS / 24], "principals/olga"),
            ("long", vec![8 * DAY_MS, 22 * DAY_MS], "services/recertification"),
        ] {
            let name = world.review(id).await;
            let before = world.records().await.len();
            // As after a crash: the campaign is ENDING, and nothing has ended yet.
            world.break_in(
                "UPDATE campaigns SET state = 6, end_actor = 'principals/olga', end_ms = create_ms, end_right = defined_hash, \
                 end_owner = owner, end_policy = defined_hash WHERE state = 5",
            ).await;
            let (last, waits) = pauses_ms.split_last().unwrap();
            for pause_ms in waits {
                world.clock.advance_ms(*pause_ms);
                assert_eq!(world.jobs.run_once().await.unwrap(), Progress::default());
                assert_eq!(world.campaign(&name).await.state(), CampaignState::Active, "{id}");
            }
            world.clock.advance_ms(*last);
            assert_eq!(world.jobs.run_once().await.unwrap(), Progress { moved: 1, failed: 0 });
            let records = world.records().await.split_off(before);
            assert_eq!(records.len(), 6, "five items and the stage");
            let late = world.clock.now_ms() - DAY_MS;
            assert!(records.iter().all(|record| record.occurred_at_ms > late), "{id}");
            let closed = records.last().unwrap();
            assert_eq!((closed.r#type.as_str(), closed.actor.as_str()), ("counterfoil.evidence.v1.StageClosed", actor));
            let cites = !closed.accountability.as_ref().unwrap().authority.is_empty();
            assert_eq!(cites, actor.starts_with("principals/"), "{id}");
        }
        world.stop().await;
    }

    /// Each verb refuses the wrong state, and only who may certify moves a campaign.
    async fn a_campaign_is_moved_in_order_and_only_by_who_may_certify(db: TestDatabase) {
        let world = World::start(db).await;
        let campaign = world.define("q3", |_| {}).await;
        let refused = world.end(&campaign).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "CAMPAIGN_STATE"));
        assert_eq!(world.close(&campaign).await.unwrap_err().code(), Code::FailedPrecondition);
        let request = EndReviewRequest { name: campaign.clone(), request_id: String::new() };
        let mut nemo = world.of("nemo").await.campaigns;
        let refused = nemo.end_review(request.clone()).await.unwrap_err();
        assert_eq!(reason(&refused), "NO_DECISION_RIGHT", "an operator holds no right by its role");
        let mut admin = world.admin.campaigns.clone();
        let refused = admin.end_review(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "the deployment's administrator governs no tenant");
        world.stop().await;
    }
}

impl World {
    async fn payloads<M: Message + Default>(&self, name: &str) -> Vec<M> {
        let wanted = format!("counterfoil.evidence.v1.{name}");
        let records = self.records().await;
        let found = records.iter().filter(|record| record.r#type == wanted);
        found
            .map(|record| M::decode(record.payload.as_slice()).unwrap())
            .collect()
    }

    /// Every reviewer revokes what is with them.
    async fn decide_everything(&self, campaign: &str) -> Vec<Item> {
        let items = self.items(campaign).await;
        for reviewer in ["rita", "ada", "finn"] {
            let own = items
                .iter()
                .filter(|item| item.reviewer.ends_with(reviewer));
            let decisions = own.map(|item| decision(item, Decision::Revoke)).collect();
            let results = self
                .of(reviewer)
                .await
                .decide_all(campaign, decisions, "")
                .await
                .unwrap();
            assert!(results.iter().all(|result| result.code == 0), "{results:?}");
        }
        items
    }

    /// Waits until the service knows that the tenant is not active any more.
    async fn known_not_active(&self) {
        let request = ActivateCampaignRequest {
            name: format!("{TENANT}/campaigns/none"),
            request_id: String::new(),
        };
        let mut campaigns = self.olga.campaigns.clone();
        let known = async {
            while reason(
                &campaigns
                    .activate_campaign(request.clone())
                    .await
                    .unwrap_err(),
            ) != "TENANT_NOT_ACTIVE"
            {}
        };
        timeout(PATIENCE, known).await.unwrap();
    }

    async fn end(&self, campaign: &str) -> Result<(), Status> {
        let request = EndReviewRequest {
            name: campaign.into(),
            request_id: String::new(),
        };
        self.olga
            .campaigns
            .clone()
            .end_review(request)
            .await
            .map(|_| ())
    }

    async fn close(&self, campaign: &str) -> Result<CloseCampaignResponse, Status> {
        let request = CloseCampaignRequest {
            name: campaign.into(),
            request_id: String::new(),
        };
        let answer = self.olga.campaigns.clone().close_campaign(request).await?;
        Ok(answer.into_inner())
    }

    async fn report_verified(&self, removals: Vec<VerifiedRemoval>) -> Result<u64, Status> {
        let request = ReportVerifiedRemovalsRequest {
            tenant: TENANT.into(),
            removals,
        };
        let mut service = self.of_service("reconciliation").campaigns;
        let answer = service.report_verified_removals(request).await?;
        Ok(answer.into_inner().noted_count)
    }

    async fn decided_on(&self, grant_keys: Vec<Vec<u8>>) -> Result<Vec<DecidedGrant>, Status> {
        let request = BatchGetDecidedGrantsRequest {
            tenant: TENANT.into(),
            grant_keys,
        };
        let mut service = self.of_service("reconciliation").campaigns;
        let answer = service.batch_get_decided_grants(request).await?;
        Ok(answer.into_inner().grants)
    }

    async fn decided(&self) -> Vec<DecidedGrant> {
        let request = StreamDecidedGrantsRequest {
            tenant: TENANT.into(),
        };
        let mut campaigns = self.olga.campaigns.clone();
        let mut stream = campaigns
            .stream_decided_grants(request)
            .await
            .unwrap()
            .into_inner();
        let mut grants = Vec::new();
        while let Some(answer) = stream.message().await.unwrap() {
            grants.extend(answer.grants);
        }
        grants
    }
}
