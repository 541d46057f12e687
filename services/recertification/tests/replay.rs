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
    common::{EvidenceState, StreamDisclosuresRequest, stream_disclosures_response::Disclosure},
    inventory::ListSyncsRequest,
    ledger::StreamEntriesRequest,
    recertification::{
        CampaignState, CloseCampaignRequest, Decision, EndReviewRequest, LapseRule,
        ReassignItemRequest,
    },
};
use counterfoil_recertification::Progress;
use support::{DAY_MS, NOW_MS, PATIENCE, TENANT, World, decision, estate, principal_name};
use tokio::time::timeout;

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
}

impl World {
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
