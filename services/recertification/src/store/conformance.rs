//! What the store promises, on both engines.

use counterfoil_chassis::{db::WriteTx, testing::TestDatabase};
use counterfoil_evidence::leaf::GrantKey;

use super::{MIGRATIONS, StoreError, campaigns, decided as decisions, items, removals, staging};
use crate::model::{
    campaign::{CampaignState, Definition, LapseRule, Population, Scope},
    decision::Decision,
    disposition::Disposition,
    ids::{CampaignKey, Principal, Snapshot, Source},
    item::{ItemState, ShownGrant},
};

/// The tenant of the tests.
pub(crate) const TENANT: &str = "acme";
const ACCEPTED: Disposition = Disposition::Decided(Decision::Accept);
const REVOKED: Disposition = Disposition::Decided(Decision::Revoke);

fn key(campaign: &str) -> CampaignKey {
    CampaignKey {
        tenant: TENANT.into(),
        campaign: campaign.into(),
    }
}

fn grant(number: u16) -> GrantKey {
    let mut key = [0; 40];
    key[..8].copy_from_slice(b"sourcetg");
    key[8..10].copy_from_slice(&number.to_be_bytes());
    GrantKey(key)
}

fn definition(campaign: &str, create_ms: i64) -> Definition {
    Definition {
        key: key(campaign),
        display_name: "Quarterly".into(),
        scope: Scope {
            sources: vec![Source::of_id("a"), Source::of_id("b")],
            privileged_only: true,
            include_inherited: false,
        },
        lapse_rule: LapseRule::RetainAsDebt,
        owner: Principal::of_id("olga"),
        fallback_reviewer: Principal::of_id("finn"),
        due_ms: create_ms + 100,
        create_ms,
    }
}

fn asked_staging() -> staging::Staging {
    staging::Staging {
        snapshot: Snapshot::of_id("s"),
        age_max_ms: 7,
        stamp: campaigns::StepStamp {
            actor: "principals/olga".into(),
            at_ms: 8,
            right: Some([6; 32]),
            owner: Principal::of_id("olga"),
            policy: vec![9; 32],
        },
    }
}

fn shown(number: u16) -> ShownGrant {
    let mut leaf = grant(number).0.to_vec();
    leaf.extend([0; 34]);
    ShownGrant {
        key: grant(number),
        leaf,
        subject_key: format!("person{number}"),
        owner_key: String::new(),
        presentation: vec![1, 2, 3],
    }
}

async fn begin(db: &TestDatabase) -> WriteTx {
    db.write_tx(TENANT).await.unwrap()
}

/// A campaign with that many items, each with the reviewer rita.
async fn reviewed(db: &TestDatabase, campaign: &str, create_ms: i64, count: u16) {
    let mut tx = begin(db).await;
    assert!(
        campaigns::insert(&mut tx, &definition(campaign, create_ms), [1; 32])
            .await
            .unwrap()
    );
    staging::attempt(&mut tx, &key(campaign), "one", create_ms)
        .await
        .unwrap();
    let grants = (0..count).map(shown).collect();
    items::insert(&mut tx, &key(campaign), grants)
        .await
        .unwrap();
    let population = Population {
        snapshot: "snapshots/s".into(),
        root: [2; 32],
        count: count.into(),
    };
    let sources = [(*b"sourcetg", Source::of_id("a"))];
    let record = staging::StagedRecord {
        id: [5; 16],
        hash: [3; 32],
    };
    staging::finish(&mut tx, &key(campaign), &population, &sources, record)
        .await
        .unwrap();
    let rows = (0..count)
        .map(|number| items::RoutedRow {
            key: grant(number),
            reviewer: Principal::of_id("rita"),
            presentation_hash: [4; 32],
        })
        .collect();
    items::route(&mut tx, &key(campaign), rows).await.unwrap();
    campaigns::set_state(&mut tx, &key(campaign), CampaignState::Active)
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

fn decision(number: u16, disposition: Disposition, stream_seq: u64) -> items::DecidedRow {
    items::DecidedRow {
        key: grant(number),
        disposition,
        decide_ms: 50,
        decided_by: Principal::of_id("rita"),
        not_after_ms: if disposition == ACCEPTED { 99 } else { 0 },
        reduce_to: (disposition == Disposition::Decided(Decision::Reduce)).then(|| grant(9)),
        record_hash: [u8::try_from(stream_seq).unwrap(); 32],
        stream_seq,
    }
}

/// That many grants on which a campaign has decided.
pub(crate) async fn decided(db: &TestDatabase, count: u16) {
    reviewed(db, "decided", 10, count).await;
    let mut tx = begin(db).await;
    let rows = (0..count)
        .map(|number| decision(number, ACCEPTED, 7))
        .collect();
    items::decide(&mut tx, &key("decided"), rows).await.unwrap();
    tx.commit().await.unwrap();
}

counterfoil_chassis::both_engines! {
    /// What is written is what is read, and an id is taken once.
    async fn a_campaign_is_read_as_it_was_defined(db: TestDatabase) {
        db.migrate(&[MIGRATIONS]).await;
        let mut tx = begin(&db).await;
        let asked = definition("q3", 10);
        assert!(campaigns::insert(&mut tx, &asked, [1; 32]).await.unwrap());
        assert!(!campaigns::insert(&mut tx, &asked, [9; 32]).await.unwrap());
        assert!(campaigns::exists(tx.conn(), &key("q3")).await.unwrap());
        let found = campaigns::get(tx.conn(), &key("q3")).await.unwrap().unwrap();
        assert_eq!(found.definition, asked);
        assert_eq!((found.state, found.population), (CampaignState::Draft, None));
        assert_eq!(found.defined_hash, [1; 32]);
        let other = CampaignKey { tenant: "beta".into(), campaign: "q3".into() };
        assert_eq!(campaigns::get(tx.conn(), &other).await.unwrap(), None);
    }
}

counterfoil_chassis::both_engines! {
    /// Keyset pages, newest first, campaigns of the same moment included.
    async fn campaigns_are_listed_newest_first_in_pages(db: TestDatabase) {
        db.migrate(&[MIGRATIONS]).await;
        let mut tx = begin(&db).await;
        for (id, at) in [("a", 10), ("b", 20), ("c", 20), ("d", 5)] {
            campaigns::insert(&mut tx, &definition(id, at), [1; 32]).await.unwrap();
        }
        let mut seen = Vec::new();
        let mut after: Option<(i64, String)> = None;
        loop {
            let place = after.as_ref().map(|(at, id)| (*at, id.as_str()));
            let page = campaigns::list(tx.conn(), TENANT, place, 2).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some((last.definition.create_ms, last.definition.key.campaign.clone()));
            seen.extend(page.into_iter().map(|one| one.definition.key.campaign));
        }
        assert_eq!(seen, ["c", "b", "a", "d"]);
    }
}

counterfoil_chassis::both_engines! {
    /// The later attempt takes away what the earlier one wrote, and the earlier one is told.
    async fn a_later_attempt_to_stage_takes_over(db: TestDatabase) {
        db.migrate(&[MIGRATIONS]).await;
        let mut tx = begin(&db).await;
        campaigns::insert(&mut tx, &definition("q3", 10), [1; 32]).await.unwrap();
        let asked = asked_staging();
        assert_eq!(staging::begun(tx.conn(), &key("q3")).await.unwrap(), None);
        staging::begin(&mut tx, &key("q3"), &asked).await.unwrap();
        staging::attempt(&mut tx, &key("q3"), "one", 10).await.unwrap();
        items::insert(&mut tx, &key("q3"), vec![shown(1), shown(2)]).await.unwrap();
        assert!(staging::is_alive(&mut tx, &key("q3"), "one", 20).await.unwrap());
        let begun = staging::begun(tx.conn(), &key("q3")).await.unwrap().unwrap();
        assert_eq!(begun.staging, asked);
        assert!(begun.runs(19 + staging::LEASE_MS) && !begun.runs(20 + staging::LEASE_MS));
        staging::attempt(&mut tx, &key("q3"), "two", 30).await.unwrap();
        assert!(!staging::is_alive(&mut tx, &key("q3"), "one", 40).await.unwrap());
        assert!(items::counts(tx.conn(), &key("q3")).await.unwrap().is_empty());
        staging::put_aside(&mut tx, &key("q3")).await.unwrap();
        assert!(!staging::begun(tx.conn(), &key("q3")).await.unwrap().unwrap().runs(31), "nobody is at it");
    }
}

counterfoil_chassis::both_engines! {
    /// More items than one statement takes; counts, lists and single reads agree.
    async fn thousands_of_items_are_routed_decided_and_counted(db: TestDatabase) {
        db.migrate(&[MIGRATIONS]).await;
        reviewed(&db, "q3", 10, 2500).await;
        let mut tx = begin(&db).await;
        let rows = (0..1500).map(|number| decision(number, REVOKED, 7)).collect();
        items::decide(&mut tx, &key("q3"), rows).await.unwrap();
        let rows = vec![decision(3, Disposition::Decided(Decision::Reduce), 8)];
        items::decide(&mut tx, &key("q3"), rows).await.unwrap();
        tx.commit().await.unwrap();
        let mut connection = db.read(TENANT).await.unwrap();
        let mut counts: Vec<_> = items::counts(&mut connection, &key("q3"))
            .await
            .unwrap()
            .into_iter()
            .map(|one| (one.state.code(), one.disposition.map_or(0, Disposition::code), one.count))
            .collect();
        counts.sort_unstable();
        assert_eq!(counts, [(1, 0, 1000), (2, 2, 1499), (2, 3, 1)]);
        let filter = items::ItemFilter {
            state: Some(ItemState::Routed),
            reviewer: Some(Principal::of_id("rita")),
        };
        let page = items::list(&mut connection, &key("q3"), &filter, &[], 10).await.unwrap();
        assert_eq!(page.first().unwrap().item.key, grant(1500));
        let filter = items::ItemFilter { state: None, reviewer: Some(Principal::of_id("nobody")) };
        assert!(items::list(&mut connection, &key("q3"), &filter, &[], 10).await.unwrap().is_empty());
        let one = items::get(&mut connection, &key("q3"), &grant(3)).await.unwrap().unwrap();
        assert_eq!(one.item.disposition, Some(Disposition::Decided(Decision::Reduce)));
        assert_eq!(one.item.record_hash, Some([8; 32]));
        assert_eq!(one.presentation, [1, 2, 3]);
        let keys: Vec<GrantKey> = (0..3000).map(grant).collect();
        let many = items::get_many(&mut connection, db.engine(), &key("q3"), &keys).await.unwrap();
        assert_eq!(many.len(), 2500);
    }
}

counterfoil_chassis::both_engines! {
    /// A change for an item that is not there is a defect, and is told.
    async fn a_change_that_misses_its_item_is_refused(db: TestDatabase) {
        db.migrate(&[MIGRATIONS]).await;
        reviewed(&db, "q3", 10, 2).await;
        let mut tx = begin(&db).await;
        let rows = vec![decision(1, REVOKED, 7), decision(2, REVOKED, 8)];
        let refused = items::decide(&mut tx, &key("q3"), rows).await;
        assert!(matches!(refused, Err(StoreError::Damaged("items"))), "{refused:?}");
    }
}

counterfoil_chassis::both_engines! {
    /// Shown again: everything shown is new, the decision that stands is not touched.
    async fn showing_an_item_again_keeps_its_decision(db: TestDatabase) {
        db.migrate(&[MIGRATIONS]).await;
        reviewed(&db, "q3", 10, 2).await;
        let mut tx = begin(&db).await;
        items::decide(&mut tx, &key("q3"), vec![decision(1, ACCEPTED, 7)]).await.unwrap();
        let mut again = shown(1);
        again.presentation = vec![9];
        again.subject_key = "other".into();
        let row = (again, Principal::of_id("finn"), [8; 32]);
        items::represent(&mut tx, &key("q3"), vec![row]).await.unwrap();
        let found = items::get(tx.conn(), &key("q3"), &grant(1)).await.unwrap().unwrap();
        assert_eq!(found.presentation, [9]);
        assert_eq!(found.item.subject_key, "other");
        assert_eq!(found.item.former_subjects, ["person1"]);
        // Shown again as the same person's: nobody new has been its subject.
        let mut once_more = shown(1);
        once_more.subject_key = "other".into();
        once_more.presentation = vec![9];
        let row = (once_more, Principal::of_id("finn"), [8; 32]);
        items::represent(&mut tx, &key("q3"), vec![row]).await.unwrap();
        let found = items::get(tx.conn(), &key("q3"), &grant(1)).await.unwrap().unwrap();
        assert_eq!(found.item.former_subjects, ["person1"]);
        assert_eq!(found.item.reviewer, Some(Principal::of_id("finn")));
        assert_eq!(found.item.presentation_hash, Some([8; 32]));
        assert_eq!((found.item.state, found.item.disposition), (ItemState::Decided, Some(ACCEPTED)));
    }
}

counterfoil_chassis::both_engines! {
    /// Lapsed, voided and verified items come back as they ended, ascending.
    async fn items_end_and_are_read_in_order(db: TestDatabase) {
        db.migrate(&[MIGRATIONS]).await;
        reviewed(&db, "q3", 10, 4).await;
        let mut tx = begin(&db).await;
        let ended = |number: u16, seq: u64| items::EndedRow {
            key: grant(number),
            record_hash: [u8::try_from(seq).unwrap(); 32],
            stream_seq: seq,
        };
        items::decide(&mut tx, &key("q3"), vec![decision(0, REVOKED, 5)]).await.unwrap();
        let lapsed = Disposition::LapsedRetained;
        items::end(&mut tx, &key("q3"), lapsed, 60, vec![ended(1, 6), ended(2, 7)]).await.unwrap();
        items::end(&mut tx, &key("q3"), Disposition::Voided, 60, vec![ended(3, 8)]).await.unwrap();
        let removal = removals::Removal { key: grant(0), record_hash: [9; 32], observed_ms: 50 };
        assert_eq!(removals::apply(&mut tx, TENANT, &[removal]).await.unwrap(), 0, "under review");
        campaigns::set_state(&mut tx, &key("q3"), CampaignState::Remediating).await.unwrap();
        assert_eq!(removals::apply(&mut tx, TENANT, &[removal]).await.unwrap(), 1);
        let all = items::ended(tx.conn(), &key("q3"), &[], 10).await.unwrap();
        let seen: Vec<_> = all.iter().map(|one| (one.disposition, one.verified)).collect();
        assert_eq!(seen, [(REVOKED, true), (lapsed, false), (lapsed, false), (Disposition::Voided, false)]);
        let rest = items::ended(tx.conn(), &key("q3"), &grant(1).0, 1).await.unwrap();
        assert_eq!(rest[0].key, grant(2));
    }
}

counterfoil_chassis::both_engines! {
    /// Over all campaigns of the tenant, ascending by grant, page by page, without what says nothing.
    async fn decisions_of_all_campaigns_come_by_grant(db: TestDatabase) {
        db.migrate(&[MIGRATIONS]).await;
        reviewed(&db, "q3", 10, 3).await;
        reviewed(&db, "q4", 20, 3).await;
        let mut tx = begin(&db).await;
        let rows = vec![decision(0, ACCEPTED, 5), decision(1, REVOKED, 6)];
        items::decide(&mut tx, &key("q3"), rows).await.unwrap();
        items::decide(&mut tx, &key("q4"), vec![decision(0, REVOKED, 9)]).await.unwrap();
        let row = items::EndedRow { key: grant(1), record_hash: [1; 32], stream_seq: 10 };
        let retained = Disposition::LapsedRetained;
        items::end(&mut tx, &key("q4"), retained, 60, vec![row]).await.unwrap();
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = decisions::page(tx.conn(), TENANT, after, 1).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some((last.key, last.stream_seq));
            seen.push((last.key, last.stream_seq, last.campaign.clone()));
        }
        let expected = [(grant(0), 5, "q3"), (grant(0), 9, "q4"), (grant(1), 6, "q3")];
        assert_eq!(seen, expected.map(|(key, seq, id)| (key, seq, id.to_owned())));
        assert!(decisions::page(tx.conn(), "beta", None, 10).await.unwrap().is_empty());
    }
}

counterfoil_chassis::both_engines! {
    /// Reviews that are due and steps that were cut off, of all tenants; nothing else, and no staging that shows a sign of life.
    async fn the_job_finds_what_is_unfinished(db: TestDatabase) {
        db.migrate(&[MIGRATIONS]).await;
        let states = [
            ("draft", CampaignState::Draft),
            ("reading", CampaignState::Staging),
            ("routing", CampaignState::Activating),
            ("active", CampaignState::Active),
            ("ending", CampaignState::Ending),
            ("over", CampaignState::Closed),
        ];
        let mut tx = begin(&db).await;
        for (id, state) in states {
            campaigns::insert(&mut tx, &definition(id, 10), [1; 32]).await.unwrap();
            campaigns::set_state(&mut tx, &key(id), state).await.unwrap();
        }
        staging::attempt(&mut tx, &key("reading"), "one", 110 - staging::LEASE_MS).await.unwrap();
        let mut found = async |now_ms| -> Vec<String> {
            let rows = campaigns::unfinished(tx.conn(), now_ms).await.unwrap();
            rows.into_iter().map(|(key, _)| key.campaign).collect()
        };
        assert_eq!(found(109).await, ["ending", "routing"]);
        assert_eq!(found(110).await, ["active", "ending", "reading", "routing"]);
    }
}
