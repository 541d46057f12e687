//! Who stands in for somebody decides in their name, on what they have, and is bound as they are.

#![cfg(test)]

mod support;

use counterfoil_chassis::testing::TestDatabase;
use counterfoil_evidence::catalogue::Payload;
use counterfoil_proto::recertification::Decision;
use support::{World, decision};
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
    /// I-16: the record names both, and the delegation's record is the authority it cites.
    async fn a_deputy_decides_in_the_name_of_who_is_away(db: TestDatabase) {
        let world = World::start(db).await;
        let campaign = world.review("q3").await;
        let finn = world.of("finn").await;
        let ritas = world.item(&campaign, "cid", "crew").await;
        let refused = finn.decide(decision(&ritas, Decision::Accept)).await.unwrap_err();
        assert_eq!(reason(&refused), "NOT_ROUTED");
        world.away("rita", "finn").await;
        finn.decide(decision(&ritas, Decision::Accept)).await.unwrap();
        let records = world.records().await;
        let decided = records.iter().find(|record| record.r#type.ends_with(".ReviewDecided")).unwrap();
        assert_eq!(decided.actor, "principals/finn");
        let accountability = decided.accountability.clone().unwrap();
        assert_eq!(accountability.on_behalf_of, ["principals/rita"]);
        let cited = world.authority_record(&accountability.authority).await;
        assert!(matches!(cited, Payload::DelegationGranted(given) if given.delegator == "principals/rita"));
        // It ends with the absence.
        world.clock.advance_ms(support::DAY_MS);
        let refused = finn.decide(decision(&ritas, Decision::Accept)).await.unwrap_err();
        assert_eq!(reason(&refused), "NOT_ROUTED");
        world.stop().await;
    }

    /// I-26: nobody lets another decide on their own access in their name, nor decides on their own in another's.
    async fn what_bars_who_is_away_bars_the_deputy(db: TestDatabase) {
        let world = World::start(db).await;
        let campaign = world.review("q3").await;
        world.away("rita", "ada").await;
        let ada = world.of("ada").await;
        let adas = world.item(&campaign, "ada", "crew").await;
        let refused = ada.decide(decision(&adas, Decision::Accept)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "SELF_REVIEW"));
        world.away("rita", "finn").await;
        let finn = world.of("finn").await;
        let cids = world.item(&campaign, "cid", "crew").await;
        world.break_in("UPDATE items SET subject_key = 'RITA@acme.example'").await;
        let refused = finn.decide(decision(&cids, Decision::Accept)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "SELF_REVIEW"));
        world.stop().await;
    }
}

impl World {
    /// What authority wrote that has this hash, once the ledger has it.
    async fn authority_record(&self, hash: &[u8]) -> Payload {
        use counterfoil_evidence::{
            catalogue::decode_payload,
            record::{decode_entry, decode_record, record_hash},
        };
        use counterfoil_proto::ledger::ListEntriesRequest;
        let request = ListEntriesRequest {
            tenant: support::TENANT.into(),
            stream: "authority".into(),
            page_size: 1_000,
            ..ListEntriesRequest::default()
        };
        let page = self
            .olga
            .ledger
            .clone()
            .list_entries(request)
            .await
            .unwrap()
            .into_inner();
        let found = page.entries.iter().find_map(|entry| {
            let entry = decode_entry(&entry.entry).unwrap();
            (record_hash(&entry.record) == hash).then_some(entry.record)
        });
        let record = decode_record(&found.unwrap()).unwrap();
        decode_payload(&record.r#type, &record.payload)
            .unwrap()
            .unwrap()
    }
}
