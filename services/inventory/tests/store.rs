//! What the store promises beyond what syncs show of it, on both engines.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use counterfoil_chassis::{both_engines, names::new_id, testing::TestDatabase};
use counterfoil_inventory::store::{
    changes,
    grants::{self, NewGrant},
    leases, sources, stage,
    stage::Stage,
    syncs,
};
use support::{Estate, Lab, NOW_MS, TENANT};

fn grant(number: u32, value: u8) -> NewGrant {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&number.to_be_bytes());
    NewGrant {
        key,
        flags: 0,
        value: [value; 32],
        account: [1; 16],
        entitlement: [2; 16],
        facts: Vec::new(),
        last_used_ms: None,
    }
}

both_engines! {
    /// A grant that changed has two versions; a page never shows only one of them.
    async fn a_page_of_changes_does_not_split_a_change(db: TestDatabase) {
        let lab = Lab::new(&db).await;
        let no = lab.add_source("hr", &Estate::default()).await.source_no;
        let count = 5_000_u32;
        let mut tx = lab.db.write_tx(TENANT).await.unwrap();
        grants::add(&mut tx, no, 1, (0..count).map(|number| grant(number, 1)).collect()).await.unwrap();
        let all = (0..count).map(|number| (grant(number, 1).key, 1));
        grants::end(&mut tx, no, 2, all).await.unwrap();
        // Every third goes, all others change, and one is new.
        let changed = (0..count).filter(|number| number % 3 != 0).map(|number| grant(number, 2));
        let new = std::iter::once(grant(count, 2));
        grants::add(&mut tx, no, 2, changed.chain(new).collect()).await.unwrap();
        tx.commit().await.unwrap();
        let mut found = Vec::new();
        let mut after = Vec::new();
        loop {
            let page = changes::of_sync(&lab.db, TENANT, no, 2, &after).await.unwrap();
            let Some(last) = page.last() else { break };
            after = last.key.to_vec();
            found.extend(page);
        }
        assert_eq!(found.len(), count as usize + 1);
        for (number, change) in (0..).zip(&found) {
            assert_eq!(change.key, grant(number, 0).key);
            assert_eq!(change.before.is_some(), number < count);
            assert_eq!(change.after.is_some(), number % 3 != 0 || number == count);
        }
    }

    /// Whatever a version holds comes back as it went in.
    async fn a_version_is_read_as_it_was_written(db: TestDatabase) {
        let lab = Lab::new(&db).await;
        let no = lab.add_source("hr", &Estate::default()).await.source_no;
        let written: Vec<NewGrant> = [Some(-1), Some(0), Some(i64::MAX), None]
            .into_iter()
            .zip(0_u8..)
            .map(|(last_used_ms, number)| NewGrant {
                flags: if number == 0 { 127 } else { u16::from(number) },
                last_used_ms,
                ..grant(u32::MAX - u32::from(number), 0xf0 + number)
            })
            .collect();
        let mut tx = lab.db.write_tx(TENANT).await.unwrap();
        grants::add(&mut tx, no, i64::MAX - 1, written.clone()).await.unwrap();
        tx.commit().await.unwrap();
        let read = grants::at(&lab.db, TENANT, no, i64::MAX - 1, &[], 10).await.unwrap();
        assert_eq!(read.len(), 4);
        for (read, written) in read.iter().zip(written.iter().rev()) {
            assert_eq!((read.key, read.value, read.flags), (written.key, written.value, written.flags));
            assert_eq!((read.first_seq, read.last_used_ms), (i64::MAX - 1, written.last_used_ms));
        }
        let page = grants::at(&lab.db, TENANT, no, i64::MAX - 1, &read[1].key, 1).await.unwrap();
        assert_eq!(page, read[2..3]);
        assert_eq!(grants::at(&lab.db, TENANT, no, 1, &[], 10).await.unwrap(), []);
    }

    /// What a sync that was not sealed wrote goes without a trace, whatever it was.
    async fn what_was_not_sealed_is_taken_back(db: TestDatabase) {
        let lab = Lab::new(&db).await;
        let no = lab.add_source("hr", &Estate::default()).await.source_no;
        let mut tx = lab.db.write_tx(TENANT).await.unwrap();
        grants::add(&mut tx, no, 1, vec![grant(1, 1), grant(2, 1)]).await.unwrap();
        grants::end(&mut tx, no, 2, [(grant(1, 1).key, 1)]).await.unwrap();
        grants::add(&mut tx, no, 2, vec![grant(1, 2), grant(3, 2)]).await.unwrap();
        let stage = Stage { source_no: no, seq: 2 };
        stage.put(&mut tx, 0, 0, vec![1]).await.unwrap();
        grants::take_back(&mut tx, no, 1).await.unwrap();
        stage::clear(&mut tx, no).await.unwrap();
        tx.commit().await.unwrap();
        let left = grants::at(&lab.db, TENANT, no, 1, &[], 10).await.unwrap();
        assert_eq!(left.iter().map(|one| (one.key, one.value)).collect::<Vec<_>>(), [(grant(1, 1).key, [1; 32]), (grant(2, 1).key, [1; 32])]);
        assert_eq!(grants::at(&lab.db, TENANT, no, 9, &[], 10).await.unwrap(), left);
        assert_eq!(stage.get(&lab.db, TENANT, 0, 0).await.unwrap(), None);
    }

    /// One sync waits and one runs a source; who takes it first has it.
    async fn a_source_has_one_waiting_and_one_running_sync(db: TestDatabase) {
        let lab = Lab::new(&db).await;
        lab.add_source("hr", &Estate::default()).await;
        let first = lab.ask("hr").await;
        let source = lab.source("hr").await;
        assert_eq!(source.last_attempted_sync.as_ref(), Some(&first));
        let mut tx = lab.db.write_tx(TENANT).await.unwrap();
        let second = new_id(NOW_MS + 1);
        assert!(syncs::insert(&mut tx, &second, source.source_no, 1, 0, NOW_MS).await.is_err());
        drop(tx);
        let mut tx = lab.db.write_tx(TENANT).await.unwrap();
        let lease = leases::claim(&mut tx, &first, "one", NOW_MS).await.unwrap().unwrap();
        assert!(leases::claim(&mut tx, &first, "two", NOW_MS).await.unwrap().is_none());
        tx.commit().await.unwrap();
        lab.clock.advance_ms(1);
        let second = lab.ask("hr").await;
        let mut tx = lab.db.write_tx(TENANT).await.unwrap();
        assert!(leases::claim(&mut tx, &second, "two", NOW_MS).await.unwrap().is_none());
        let stranger = leases::Lease { worker: "two".into(), ..lease };
        let counts = syncs::Counts::default();
        assert!(leases::fence(&mut tx, &stranger, NOW_MS, NOW_MS, &counts).await.is_err());
        drop(tx);
        assert!(syncs::due(&lab.db, NOW_MS, 9).await.unwrap().is_empty());
        assert_eq!(syncs::abandoned(&lab.db, NOW_MS - 1).await.unwrap(), []);
        assert_eq!(syncs::abandoned(&lab.db, NOW_MS).await.unwrap(), [(TENANT.to_owned(), first)]);
    }

    /// Sources of a tenant come in the order of their grant keys, and no other tenant's do.
    async fn sources_are_listed_in_the_order_of_their_keys(db: TestDatabase) {
        let lab = Lab::new(&db).await;
        for id in ["a", "b", "c", "d"] {
            lab.add_source(id, &Estate::default()).await;
        }
        let rows = sources::all_by_tag(&lab.db, TENANT).await.unwrap();
        assert_eq!(rows.len(), 4);
        assert!(rows.is_sorted_by_key(|row| row.tag));
        assert!(sources::all_by_tag(&lab.db, "beta").await.unwrap().is_empty());
        let page = sources::list(&lab.db, TENANT, "b", 1).await.unwrap();
        assert_eq!(page[0].source, "c");
    }
}
