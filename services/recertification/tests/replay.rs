//! What a campaign leaves in the log is what the auditor's replay confirms: whole campaigns with everything that can happen to an
//! item, read back from the real ledger and judged by the code of the verifier.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on panics, also in what its tests share"
)]

mod support;

use std::collections::HashMap;

use counterfoil_chassis::{clock::timestamp, testing::TestDatabase};
use counterfoil_evidence::{
    record::{decode_entry, decode_record},
    replay::{Blobs, Judgement, Replay, Verdict, prepare},
};
use counterfoil_proto::{
    authority::{
        CreatePrincipalRequest, DecisionAction, DecisionRight, GrantDecisionRightsRequest,
        Principal, PrincipalKind,
    },
    common::{EvidenceState, StreamDisclosuresRequest, stream_disclosures_response::Disclosure},
    inventory::{ClassifySourceRequest, ListSyncsRequest},
    ledger::StreamEntriesRequest,
    recertification::{
        Campaign, CampaignState, CloseCampaignRequest, CreateCampaignRequest, Decision,
        EndReviewRequest, Item, LapseRule, ReassignItemRequest,
    },
};
use counterfoil_recertification::Progress;
use support::{Clients, DAY_MS, NOW_MS, PATIENCE, TENANT, World, decision, estate, principal_name};
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_types::StatusExt;

const HOUR_MS: i64 = 3_600_000;

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

/// A review of these sources; none: of everything.
fn campaign_of(sources: &[&str]) -> CreateCampaignRequest {
    let sources = sources.iter().map(|id| format!("{TENANT}/sources/{id}"));
    CreateCampaignRequest {
        tenant: TENANT.into(),
        campaign: Some(Campaign {
            display_name: "Quarterly review".into(),
            fallback_reviewer: principal_name("finn"),
            sources: sources.collect(),
            ..Campaign::default()
        }),
        ..CreateCampaignRequest::default()
    }
}

#[derive(Default)]
struct Attachments(HashMap<[u8; 32], Vec<u8>>);

impl Blobs for Attachments {
    fn load(&self, sha256: &[u8; 32]) -> Option<Vec<u8>> {
        self.0.get(sha256).cloned()
    }
}

counterfoil_chassis::both_engines! {
    /// Kept, excepted, reduced, revoked, decided anew, given on, shown again, gone, lapsed by rule: the replay finds nothing wrong.
    async fn the_replay_confirms_all_that_a_campaign_leaves(db: TestDatabase) {
        let world = World::start(db).await;
        let first = world.review("first").await;
        let (rita, ada, finn) = (world.of("rita").await, world.of("ada").await, world.of("finn").await);
        // Given on, then excepted by nobody but who may.
        let given = world.item(&first, "ada", "crew").await;
        rita.decide(decision(&given, Decision::Accept)).await.unwrap();
        // While rita is away, finn decides in her name.
        world.away("rita", "finn").await;
        finn.decide(decision(&given, Decision::Accept)).await.unwrap();
        rita.decide(decision(&given, Decision::Exception)).await.unwrap();
        let root = world.item(&first, "bob", "root").await;
        let request = ReassignItemRequest {
            name: root.name.clone(),
            reviewer: principal_name("rita"),
            request_id: String::new(),
        };
        let given = finn.reviews.clone().reassign_item(request).await.unwrap().into_inner();
        let mut reduced = decision(&given.item.unwrap(), Decision::Reduce);
        reduced.reduce_to_grant = world.item(&first, "bob", "staff").await.grant;
        rita.decide(reduced).await.unwrap();
        // Changed before it is decided, and gone before it is decided.
        let mut grants = estate();
        grants[2].purpose = "on call";
        grants.remove(4);
        world.write_source("hr", &grants);
        world.sync("hr").await;
        let bobs = world.item(&first, "bob", "staff").await;
        ada.decide(decision(&bobs, Decision::Accept)).await.unwrap_err();
        ada.decide(decision(&world.reread(&bobs).await, Decision::Revoke)).await.unwrap();
        let gone = world.item(&first, "cid", "crew").await;
        rita.decide(decision(&gone, Decision::Accept)).await.unwrap_err();
        // The rest lapses when a human ends the review.
        let mut campaigns = world.olga.campaigns.clone();
        let request = EndReviewRequest { name: first.clone(), request_id: "end".into() };
        campaigns.end_review(request).await.unwrap();
        world.close(&first).await;
        // A second one ends by itself.
        let second = world.define("second", |one| {
            one.lapse_rule = LapseRule::Revoke.into();
            one.include_inherited = true;
            one.due_time = Some(timestamp(NOW_MS + DAY_MS));
        }).await;
        world.stage(&second).await.unwrap();
        world.activate(&second).await;
        world.clock.set_ms(NOW_MS + DAY_MS);
        assert_eq!(world.jobs.run_once().await.unwrap(), Progress { moved: 1, failed: 0 });
        world.close(&second).await;
        let judgements = world.judge().await;
        let failed: Vec<_> = judgements.iter().filter(|one| one.verdict == Verdict::Fail).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        for id in ["I-11", "I-13", "I-16", "I-17", "I-18", "I-20", "I-25", "I-26", "I-27", "I-28", "G10", "I-32"] {
            let judged = judgements.iter().find(|one| one.check.id == id).unwrap();
            assert_eq!(judged.verdict, Verdict::Pass, "{judged:?}");
            assert!(!judged.detail.contains("nothing of this kind"), "{judged:?}");
        }
        world.stop().await;
    }

    /// A human ends a review before it is due, and it is cut off for a week: what closes it then is somebody who may.
    async fn the_replay_confirms_a_review_that_was_cut_off_for_long_before_it_was_due(db: TestDatabase) {
        let world = World::start(db).await;
        let name = world.review("early").await;
        world.break_in(
            "UPDATE campaigns SET state = 6, end_actor = 'principals/olga', end_ms = create_ms, end_right = defined_hash, \
             end_owner = owner, end_policy = defined_hash",
        ).await;
        world.clock.advance_ms(8 * DAY_MS);
        world.jobs.run_once().await.unwrap();
        if world.campaign(&name).await.state() == CampaignState::Active {
            let request = EndReviewRequest { name: name.clone(), request_id: "again".into() };
            world.olga.campaigns.clone().end_review(request).await.unwrap();
        }
        world.close(&name).await;
        let judgements = world.judge().await;
        let failed: Vec<_> = judgements.iter().filter(|one| one.verdict == Verdict::Fail).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        world.stop().await;
    }

    /// I-13: a right for one environment decides in the sources of that environment alone, as they are at that moment, and so do
    /// routing and giving on.
    async fn a_right_for_one_environment_decides_nothing_in_another(db: TestDatabase) {
        let world = World::start(db).await;
        world.write_source("lab", &estate());
        world.add_source("lab").await;
        world.sync("lab").await;
        world.classify("hr", "prod").await;
        world.classify("lab", "test").await;
        let pia = world.for_prod_alone().await;
        world.clock.advance_ms(HOUR_MS);

        let everything = pia.campaigns.clone().create_campaign(campaign_of(&[])).await.unwrap_err();
        let elsewhere = pia.campaigns.clone().create_campaign(campaign_of(&["hr", "lab"])).await.unwrap_err();
        for refused in [everything, elsewhere] {
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "NO_DECISION_RIGHT"));
        }
        pia.campaigns.clone().create_campaign(campaign_of(&["hr"])).await.unwrap();

        let mixed = world.define("mixed", |one| one.fallback_reviewer = principal_name("pia")).await;
        world.stage(&mixed).await.unwrap();
        world.activate(&mixed).await;
        // Nobody owns root: it goes to the fallback where that has a right, and elsewhere to the campaign's owner.
        let [prod, test] = world.roots(&mixed).await;
        assert_eq!((prod.reviewer.as_str(), test.reviewer.as_str()), (&*principal_name("pia"), &*principal_name("olga")));
        pia.decide(decision(&prod, Decision::Accept)).await.unwrap();
        let to_pia = ReassignItemRequest {
            name: test.name.clone(),
            reviewer: principal_name("pia"),
            request_id: String::new(),
        };
        let refused = world.olga.reviews.clone().reassign_item(to_pia.clone()).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "NO_DECISION_RIGHT"));

        // What counts is where a source is now, in a campaign that was staged before too.
        world.classify("hr", "test").await;
        world.classify("lab", "prod").await;
        world.clock.advance_ms(HOUR_MS);
        let refused = pia.decide(decision(&prod, Decision::Revoke)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "NO_DECISION_RIGHT"));
        world.olga.reviews.clone().reassign_item(to_pia).await.unwrap();
        let both = [decision(&prod, Decision::Revoke), decision(&world.reread(&test).await, Decision::Accept)];
        let results = pia.decide_all(&mixed, both.to_vec(), "").await.unwrap();
        let reasons: Vec<&str> = results.iter().map(|one| one.reason.as_str()).collect();
        assert_eq!(reasons, ["NO_DECISION_RIGHT", ""]);

        let judgements = world.judge().await;
        let failed: Vec<_> = judgements.iter().filter(|one| one.verdict == Verdict::Fail).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        world.stop().await;
    }
}

impl World {
    /// The customer says of which environment a source is.
    async fn classify(&self, source: &str, environment: &str) {
        let request = ClassifySourceRequest {
            name: format!("{TENANT}/sources/{source}"),
            environment: Some(environment.into()),
            ..ClassifySourceRequest::default()
        };
        let mut sources = self.olga.sources.clone();
        sources.classify_source(request).await.unwrap();
    }

    /// Pia, who reviews and certifies in "prod" and nowhere else.
    async fn for_prod_alone(&self) -> Clients {
        let request = CreatePrincipalRequest {
            tenant: TENANT.into(),
            principal_id: "pia".into(),
            principal: Some(Principal {
                display_name: "Pia".into(),
                kind: PrincipalKind::Human.into(),
                organization: format!("{TENANT}/organizations/acme"),
                identity_key: "pia@acme.example".into(),
                roles: vec!["operator".into(), "reviewer".into()],
                ..Principal::default()
            }),
            request_id: String::new(),
        };
        let mut principals = self.olga.principals.clone();
        principals.create_principal(request).await.unwrap();
        let right = |action: DecisionAction| DecisionRight {
            grantee: principal_name("pia"),
            action: action.into(),
            environments: vec!["prod".into()],
            valid_to_time: Some(timestamp(NOW_MS + 300 * DAY_MS)),
            grantor: principal_name("olga"),
            ..DecisionRight::default()
        };
        let request = GrantDecisionRightsRequest {
            tenant: TENANT.into(),
            decision_rights: [DecisionAction::Review, DecisionAction::Certify]
                .map(right)
                .to_vec(),
            request_id: String::new(),
        };
        let mut rights = self.olga.rights.clone();
        rights.grant_decision_rights(request).await.unwrap();
        self.of("pia").await
    }

    /// The items of what nobody owns, in "hr" and in "lab".
    async fn roots(&self, campaign: &str) -> [Item; 2] {
        let items = self.items(campaign).await;
        ["HR", "LAB"].map(|source| {
            let of = |item: &&Item| {
                let shown = item.presentation.as_ref().unwrap();
                shown.source_display_name == source && shown.entitlement_native_id == "root"
            };
            items.iter().find(of).unwrap().clone()
        })
    }

    async fn close(&self, campaign: &str) {
        let request = CloseCampaignRequest {
            name: campaign.into(),
            request_id: String::new(),
        };
        let mut campaigns = self.olga.campaigns.clone();
        let answer = campaigns
            .close_campaign(request)
            .await
            .unwrap()
            .into_inner();
        let state = answer.campaign.unwrap().state();
        assert_eq!(state, CampaignState::ClosedWithDebt);
        assert_eq!(answer.receipt.unwrap().state(), EvidenceState::Logged);
    }

    /// Replays the log with all attachments.
    async fn judge(&self) -> Vec<Judgement> {
        timeout(PATIENCE, self.inventory_is_logged()).await.unwrap();
        let mut blobs = Attachments::default();
        for client in &self.olga.disclosures {
            let request = StreamDisclosuresRequest {
                tenant: TENANT.into(),
            };
            let mut client = client.clone();
            let mut content = Vec::new();
            let mut stream = client
                .stream_disclosures(request)
                .await
                .unwrap()
                .into_inner();
            while let Some(answer) = stream.message().await.unwrap() {
                if let Some(Disclosure::Blob(part)) = answer.disclosure {
                    content.extend(part.content);
                    if part.last {
                        let key = part.sha256.try_into().unwrap();
                        blobs.0.insert(key, std::mem::take(&mut content));
                    }
                }
            }
        }
        let request = StreamEntriesRequest {
            tenant: TENANT.into(),
            from_index: 0,
            follow: false,
        };
        let mut ledger = self.olga.ledger.clone();
        let mut stream = ledger.stream_entries(request).await.unwrap().into_inner();
        let mut replay = Replay::new();
        while let Some(answer) = stream.message().await.unwrap() {
            let entry = decode_entry(&answer.entry.unwrap().entry).unwrap();
            let record = decode_record(&entry.record).unwrap();
            replay.push(entry.recorded_at_ms, prepare(&entry.record, record));
        }
        replay.finish(&blobs).judgements
    }

    /// Inventory's records go their own way to the ledger.
    async fn inventory_is_logged(&self) {
        loop {
            let request = ListSyncsRequest {
                tenant: TENANT.into(),
                ..ListSyncsRequest::default()
            };
            let answer = self.olga.sources.clone().list_syncs(request).await;
            let syncs = answer.unwrap().into_inner().syncs;
            let logged = |receipt: &counterfoil_proto::common::Receipt| {
                receipt.state() == EvidenceState::Logged
            };
            if syncs
                .iter()
                .all(|sync| sync.receipt.as_ref().is_some_and(logged))
            {
                return;
            }
        }
    }
}
