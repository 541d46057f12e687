//! Reading: tiles and checkpoints of every size a log has had, proofs, lists, exports; and what happens to damage.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use counterfoil_engine::{EngineError, EntryFilter};
use counterfoil_evidence::record::{decode_entry, decode_record};
use counterfoil_tlog::checkpoint;
use counterfoil_tlog::hash::leaf_hash;
use counterfoil_tlog::merkle::{MerkleTree, verify_consistency};
use counterfoil_tlog::proof;
use counterfoil_tlog::tile::{TilePath, entry_bundles_for, tiles_for};
use support::foreign::Exported;
use support::{
    Fixture, REGISTRATIONS, TENANT, databases, fixture, lifecycle, ownership, receipts, sqlite,
};

/// Appends records in batches of these sizes.
async fn grow(fixture: &mut Fixture, batches: &[u64]) {
    for count in batches {
        let records = (0..*count)
            .map(|number| fixture.inventory.next(&ownership(number), &[]))
            .collect();
        receipts(fixture.log.append(records).await.unwrap());
    }
}

#[tokio::test]
async fn every_size_the_log_has_had_is_still_served_byte_for_byte() {
    for database in databases() {
        let mut fixture = fixture(&database).await;
        let log = fixture.log.clone();
        let mut signed_then = vec![log.head().await.unwrap()];
        for batch in [1, 100, 152, 1, 255, 300, 700] {
            grow(&mut fixture, &[batch]).await;
            signed_then.push(log.head().await.unwrap());
        }
        let newest = signed_then.last().unwrap().size;
        let entries = log.entries(0, newest, 10_000).await.unwrap();
        let leaves = entries
            .iter()
            .map(|entry| leaf_hash(&entry.bytes))
            .collect();
        let tree = MerkleTree::from_leaves(leaves);
        for then in &signed_then {
            // The same key signs the same bytes.
            assert_eq!(log.checkpoint_at(then.size).await.unwrap(), then.checkpoint);
            for path in tiles_for(0, then.size) {
                let served = log.tile(&path).await.unwrap().unwrap();
                assert_eq!(served, path.read(&tree).unwrap(), "{path}");
            }
            for path in entry_bundles_for(0, then.size) {
                assert!(log.tile(&path).await.unwrap().is_some(), "{path}");
            }
            let exported = Exported::take(&log, then.size).await;
            exported.verify(&log.info().vkey.to_string());
            let proof = log.consistency(then.size, newest).await.unwrap();
            let root = signed_then.last().unwrap().root;
            verify_consistency(then.size, &then.root, newest, &root, &proof).unwrap();
        }
        for size in [0, 1, 4, 255, 256, 257, 511, 513] {
            let note = log.checkpoint_at(size).await.unwrap();
            let signed = checkpoint::open(note.as_bytes(), &log.info().vkey, &[]).unwrap();
            assert_eq!(signed.checkpoint.root, tree.root_at(size).unwrap());
        }
        let beyond = newest + 1;
        assert!(matches!(
            log.checkpoint_at(beyond).await,
            Err(EngineError::OutOfRange { .. })
        ));
        assert!(log.consistency(0, beyond).await.is_err());
        assert!(log.consistency(5, 4).await.is_err());
        assert!(log.export(beyond).await.is_err());
        for path in [
            "tile/0/005.p/233",
            "tile/0/006.p/1",
            "tile/1/000.p/6",
            "tile/2/000.p/1",
        ] {
            let path = TilePath::parse(path).unwrap();
            assert_eq!(log.tile(&path).await.unwrap(), None, "{path}");
        }
    }
}

#[tokio::test]
async fn a_log_of_many_tiles_is_proved_by_foreign_code_after_a_restart() {
    let database = sqlite();
    let mut fixture = fixture(&database).await;
    grow(&mut fixture, &[4000; 17]).await;
    fixture.engine.close().await;
    let engine = database.open().await;
    let log = engine.log(TENANT).await.unwrap();
    let head = log.head().await.unwrap();
    assert_eq!(head.size, REGISTRATIONS + 68_000);
    let mut some = Vec::new();
    for index in [0, 255, 256, 4711, 65_535, 65_536, head.size - 1] {
        some.push(log.entry(index).await.unwrap().unwrap());
    }
    let proofs = log.receipts(&head, &some).await.unwrap();
    for (entry, text) in some.iter().zip(proofs) {
        let (index, _) = proof::verify(&text, &entry.leaf_hash, &log.info().vkey).unwrap();
        assert_eq!(index, entry.index);
    }
    Exported::take(&log, head.size)
        .await
        .verify(&log.info().vkey.to_string());
    // The next batch continues the second level's tiles.
    let next = fixture.inventory.next(&ownership(1), &[]);
    receipts(log.append(vec![next]).await.unwrap());
    let report = log.fsck().await.unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
}

#[tokio::test]
async fn entries_are_listed_by_type_stream_and_subject_in_order_of_the_log() {
    for database in databases() {
        let Fixture {
            log,
            mut inventory,
            mut authority,
            ..
        } = fixture(&database).await;
        let mut records = Vec::new();
        for number in 0..30 {
            let subject = format!("accounts/{}", number % 3);
            records
                .push(inventory.next(&ownership(number), &[&subject, "sources/hr", "sources/hr"]));
            records.push(authority.next(&lifecycle(), &[&subject]));
        }
        receipts(log.append(records).await.unwrap());
        let end = log.head().await.unwrap().size;
        let list = |filter: EntryFilter, from, limit| {
            let log = log.clone();
            async move {
                let entries = log.list(&filter, from, end, limit).await.unwrap();
                entries
                    .into_iter()
                    .map(|entry| entry.index)
                    .collect::<Vec<_>>()
            }
        };
        let by_subject = EntryFilter {
            subject: Some("accounts/1".to_owned()),
            ..Default::default()
        };
        let of_subject = list(by_subject.clone(), 0, 1000).await;
        assert_eq!(of_subject.len(), 20);
        assert!(of_subject.is_sorted());
        let page = list(by_subject.clone(), of_subject[4] + 1, 5).await;
        assert_eq!(page, of_subject[5..10]);
        let both = EntryFilter {
            record_type: Some("counterfoil.evidence.v1.OwnershipSet".to_owned()),
            ..by_subject
        };
        assert_eq!(list(both, 0, 1000).await.len(), 10);
        let by_stream = EntryFilter {
            stream: Some("authority".to_owned()),
            ..Default::default()
        };
        assert_eq!(list(by_stream, 0, 1000).await.len(), 30);
        let nothing = EntryFilter {
            subject: Some("accounts/9".to_owned()),
            ..Default::default()
        };
        assert!(list(nothing, 0, 1000).await.is_empty());
        let everything = list(EntryFilter::default(), 0, 1000).await;
        assert_eq!(everything, (0..end).collect::<Vec<_>>());
        let counts = log.type_counts(REGISTRATIONS, end - 1).await.unwrap();
        let counts: Vec<_> = counts.iter().map(|count| count.count).collect();
        assert_eq!(counts, [30, 29]);
        for (stream, entry) in log.last_of_streams(end - 2).await.unwrap() {
            let record = decode_record(&decode_entry(&entry.bytes).unwrap().record).unwrap();
            assert_eq!(record.stream, stream);
            let expected = if stream == "ledger" { 3 } else { 29 };
            assert_eq!(record.stream_seq, expected);
        }
    }
}

#[tokio::test]
async fn those_who_follow_a_log_are_told_when_it_grows() {
    let database = sqlite();
    let mut fixture = fixture(&database).await;
    let mut follower = fixture.log.follow();
    grow(&mut fixture, &[3]).await;
    let size = follower
        .wait_for(|size| *size > REGISTRATIONS)
        .await
        .unwrap();
    assert_eq!(*size, REGISTRATIONS + 3);
}

#[tokio::test]
async fn entries_are_never_changed_or_deleted_by_mistake() {
    for database in databases() {
        let _fixture = fixture(&database).await;
        use sqlx::Connection as _;
        let mut connection = sqlx::AnyConnection::connect(&database.url).await.unwrap();
        for sql in [
            "UPDATE log_entries SET idx = idx + 1",
            "DELETE FROM log_entries",
        ] {
            let refused = sqlx::query(sql).execute(&mut connection).await.unwrap_err();
            assert!(
                refused.to_string().contains("entries are never"),
                "{refused}"
            );
        }
    }
}

#[tokio::test]
async fn damage_is_named_and_nothing_is_signed_on_top_of_it() {
    for tampering in [
        "UPDATE log_entries SET entry = (SELECT entry FROM log_entries WHERE idx = 3) WHERE idx = 300",
        "UPDATE log_entries SET leaf_hash = (SELECT leaf_hash FROM log_entries WHERE idx = 3) WHERE idx = 300",
        "DELETE FROM log_entries WHERE idx = 301",
        "UPDATE log_heads SET root = (SELECT leaf_hash FROM log_entries WHERE idx = 3)",
        "UPDATE log_heads SET size = 302",
        "DELETE FROM log_tiles WHERE level = 1",
    ] {
        for database in databases() {
            let mut fixture = fixture(&database).await;
            grow(&mut fixture, &[300]).await;
            fixture.engine.close().await;
            database.drop_guards().await;
            database.tamper(tampering).await;
            let engine = database.open().await;
            let log = engine.log(TENANT).await.unwrap();
            let next = fixture.inventory.next(&ownership(1), &[]);
            let refused = log.append(vec![next]).await;
            assert!(
                matches!(refused, Err(EngineError::Damaged { .. })),
                "{tampering}: {refused:?}"
            );
            let report = log.fsck().await.unwrap();
            assert!(!report.is_clean(), "{tampering}");
        }
    }
}

#[tokio::test]
async fn a_full_check_finds_damage_that_appending_does_not_meet() {
    for (tampering, index) in [
        (
            "UPDATE log_entries SET record_type = 'x' WHERE idx = 5",
            Some(5),
        ),
        (
            "UPDATE log_entries SET record_hash = leaf_hash WHERE idx = 5",
            Some(5),
        ),
        (
            "UPDATE log_tiles SET hashes = (SELECT leaf_hash FROM log_entries WHERE idx = 5) WHERE level = 0",
            None,
        ),
        (
            "UPDATE log_streams SET last_seq = 7 WHERE stream = 'inventory'",
            None,
        ),
        (
            "DELETE FROM log_producer_keys WHERE stream = 'authority'",
            None,
        ),
        // The registrar's, whose key the log has also from elsewhere.
        (
            "UPDATE log_producer_keys SET public_key = (SELECT leaf_hash FROM log_entries WHERE idx = 5) WHERE stream = 'ledger'",
            None,
        ),
        (
            "UPDATE log_producer_keys SET valid_from_ms = 7 WHERE stream = 'ledger'",
            None,
        ),
    ] {
        for database in databases() {
            let mut fixture = fixture(&database).await;
            grow(&mut fixture, &[300]).await;
            database.drop_guards().await;
            database.tamper(tampering).await;
            let report = fixture.log.fsck().await.unwrap();
            let found: Vec<_> = report
                .problems
                .iter()
                .map(|problem| problem.index)
                .collect();
            assert_eq!(found, [index], "{tampering}: {:?}", report.problems);
        }
    }
}

#[tokio::test]
async fn a_database_that_falls_back_is_not_signed_again() {
    for database in databases() {
        let mut fixture = fixture(&database).await;
        grow(&mut fixture, &[10]).await;
        database
            .tamper("CREATE TABLE kept AS SELECT * FROM log_heads")
            .await;
        grow(&mut fixture, &[10]).await;
        // The head as a backup has it.
        database
            .tamper("DELETE FROM log_heads; INSERT INTO log_heads SELECT * FROM kept;")
            .await;
        let next = fixture.inventory.next(&ownership(1), &[]);
        let refused = fixture.log.append(vec![next]).await;
        match refused {
            Err(EngineError::Damaged { reason, .. }) => {
                assert!(reason.contains("fell back"), "{reason}")
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_log_whose_key_is_gone_can_be_read_but_not_written() {
    let database = sqlite();
    let mut fixture = fixture(&database).await;
    fixture.engine.close().await;
    std::fs::remove_dir_all(database.keys()).unwrap();
    let engine = database.open().await;
    let log = engine.log(TENANT).await.unwrap();
    assert_eq!(log.entries(0, 10, 10).await.unwrap().len(), 3);
    let next = fixture.inventory.next(&ownership(1), &[]);
    assert!(matches!(
        log.append(vec![next]).await,
        Err(EngineError::Key { .. })
    ));
    // A key made anew is not the log's.
    let registrar = &fixture.registrar.vkey;
    let again = engine
        .create_log(TENANT, support::ORIGIN, registrar)
        .await
        .unwrap();
    assert_eq!(again.info(), log.info());
}
