//! Hashing a log again while it runs: a step at a time, to the end of a round, and never past what does not fit.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::path::Path;
use std::sync::Arc;

use counterfoil_engine::{EngineError, Log, Publication, ScrubPlace, ScrubStep, Scrubbed};
use object_store::local::LocalFileSystem;
use support::{Database, Fixture, databases, fixture, ownership, receipts, sqlite};

/// Two full bundles and a beginning.
const SIZE: u64 = 600;

async fn filled(database: &Database) -> Fixture {
    let mut fixture = fixture(database).await;
    add(&mut fixture, SIZE - support::REGISTRATIONS).await;
    fixture
}

async fn add(fixture: &mut Fixture, entries: u64) {
    let records = (0..entries).map(|number| {
        let subject = format!("accounts/{}", number % 7);
        fixture.inventory.next(&ownership(number), &[&subject])
    });
    let records = records.collect();
    receipts(fixture.log.append(records).await.unwrap());
}

fn publication(folder: &Path) -> Publication {
    let store = LocalFileSystem::new_with_prefix(folder).unwrap();
    Publication::new(Arc::new(store.with_fsync(true)), "")
}

/// A whole round in the smallest steps, each from what was kept of the one before; and how many steps.
async fn round(log: &Log, copy: Option<&Publication>) -> Result<(Scrubbed, usize), EngineError> {
    let mut place: Option<ScrubPlace> = None;
    for steps in 1.. {
        match log.scrub(place.as_ref(), 1, copy).await? {
            ScrubStep::Going(next) => {
                let kept = ScrubPlace::from_bytes(&next.to_bytes()).unwrap();
                assert_eq!(kept, next);
                place = Some(kept);
            }
            ScrubStep::Whole(scrubbed) => return Ok((scrubbed, steps)),
        }
    }
    unreachable!("a round ends")
}

#[tokio::test]
async fn a_round_hashes_everything_in_steps_while_the_log_grows() {
    for database in databases() {
        let mut fixture = filled(&database).await;
        let folder = tempfile::tempdir().unwrap();
        let copy = publication(folder.path());
        let (before, _) = round(&fixture.log, Some(&copy)).await.unwrap();
        fixture.log.publish(&copy).await.unwrap();
        let head = fixture.log.head().await.unwrap();
        let ScrubStep::Going(first) = fixture.log.scrub(None, 1, Some(&copy)).await.unwrap() else {
            panic!("one step is not all of it");
        };
        assert_eq!(first.progress(), (256, SIZE));
        let record = fixture.inventory.next(&ownership(SIZE), &[]);
        receipts(fixture.log.append(vec![record]).await.unwrap());
        let rest = fixture.log.scrub(Some(&first), 100, Some(&copy)).await;
        let whole = Scrubbed {
            size: SIZE,
            root: head.root,
            tiles: 2,
        };
        assert_eq!(rest.unwrap(), ScrubStep::Whole(whole));
        assert_eq!(before, whole);
        let (grown, steps) = round(&fixture.log, Some(&copy)).await.unwrap();
        assert_eq!(grown.size, SIZE + 1);
        assert!(steps > 3, "{steps}");
        assert_eq!(fixture.log.stopped().await.unwrap(), None);
        fixture.engine.close().await;
    }
}

#[tokio::test]
async fn a_round_ends_well_though_a_run_becomes_full_meanwhile() {
    for database in databases() {
        let mut fixture = fixture(&database).await;
        add(&mut fixture, 4000 - support::REGISTRATIONS).await;
        let ScrubStep::Going(first) = fixture.log.scrub(None, 3, None).await.unwrap() else {
            panic!("three bundles are not all of it");
        };
        add(&mut fixture, 200).await;
        let rest = fixture.log.scrub(Some(&first), 100, None).await;
        assert!(matches!(
            rest,
            Ok(ScrubStep::Whole(Scrubbed { size: 4000, .. }))
        ));
        let (whole, _) = round(&fixture.log, None).await.unwrap();
        assert_eq!(whole.size, 4200);
        let report = fixture.log.fsck().await.unwrap();
        assert!(report.is_clean(), "{report:?}");
        fixture.engine.close().await;
    }
}

#[test]
fn what_is_no_place_begins_anew() {
    for bytes in [&b""[..], b"\xff", b"\x08\x05"] {
        assert_eq!(ScrubPlace::from_bytes(bytes), None);
    }
}

/// Changes something past the engine; the round must end with words like these, and the log stop.
async fn found(change: &'static str, words: &str) {
    let database = sqlite();
    let fixture = filled(&database).await;
    database.drop_guards().await;
    database.tamper(change).await;
    stops(&fixture.log, None, words).await;
}

async fn stops(log: &Log, copy: Option<&Publication>, words: &str) {
    let error = round(log, copy).await.unwrap_err();
    let EngineError::Damaged { reason, .. } = error else {
        panic!("{error}");
    };
    assert!(reason.contains(words), "{reason}");
    let stopped = log.stopped().await.unwrap();
    assert!(stopped.is_some_and(|why| why.contains(words)));
    // Nothing is repaired: it is still there to be found.
    assert!(round(log, copy).await.is_err());
}

#[tokio::test]
async fn an_entry_that_rots_is_found() {
    let flip = "UPDATE log_entries SET entry = unhex(replace(hex(entry), '6163636F756E74732F3435', '6163636F756E74732F3436')) \
                WHERE idx = 48";
    found(flip, "entry 48 does not have its leaf hash").await;
}

#[tokio::test]
async fn an_entry_that_is_gone_is_found() {
    found(
        "DELETE FROM log_entries WHERE idx = 300",
        "entries are missing from 256",
    )
    .await;
}

#[tokio::test]
async fn a_column_that_says_something_else_is_found() {
    found(
        "UPDATE log_entries SET stream = 'authority' WHERE idx = 599",
        "its columns say something else",
    )
    .await;
}

#[tokio::test]
async fn tiles_that_rot_are_found_at_every_level() {
    found(
        "UPDATE log_tiles SET hashes = zeroblob(8192) WHERE level = 0 AND n = 1",
        "tile 0/1 is not that of the entries",
    )
    .await;
    found(
        "UPDATE log_tiles SET hashes = zeroblob(64) WHERE level = 1 AND n = 0",
        "tile 1/0 is not that of the entries",
    )
    .await;
}

#[tokio::test]
async fn labels_that_are_changed_gone_or_invented_are_found() {
    for change in [
        "UPDATE log_labels SET positions = x'07' WHERE label = CAST('stream/ledger' AS BLOB)",
        "DELETE FROM log_labels WHERE label = CAST('stream/inventory' AS BLOB) AND n = 1",
        "INSERT INTO log_labels VALUES (1, CAST('type/x' AS BLOB), 0, x'07')",
        "UPDATE log_labels SET positions = substr(positions, 10) WHERE label = x'' AND n = 0",
        "UPDATE log_labels SET positions = CAST(substr(positions, 10) || substr(positions, 1, 9) AS BLOB) WHERE label = x'' AND n = 0",
        "DELETE FROM log_labels WHERE label = x'' AND n = 0",
        "INSERT INTO log_labels VALUES (1, x'07', 0, zeroblob(9))",
        "INSERT INTO log_labels VALUES (1, x'07', 0, x'ffffffffffffff1000')",
    ] {
        found(change, "the stored labels are not those of the entries").await;
    }
}

#[tokio::test]
async fn a_head_with_another_root_is_found() {
    found(
        "UPDATE log_heads SET root = zeroblob(32)",
        "its head is not what its checkpoint says",
    )
    .await;
}

const UNREAD: &str = "what is stored cannot be read";

/// SQLite lets any column have any type; whoever cannot read a row has found something, and will not find anything else by trying again.
#[tokio::test]
async fn a_column_of_another_type_is_found() {
    for change in [
        "UPDATE log_labels SET positions = 7 WHERE label = CAST('stream/ledger' AS BLOB)",
        "UPDATE log_labels SET positions = 7 WHERE label = x'' AND n = 1",
        "UPDATE log_labels SET n = 'x' WHERE label = CAST('stream/ledger' AS BLOB)",
        "UPDATE log_labels SET n = -1 WHERE label = CAST('type/' || (SELECT record_type FROM log_entries WHERE idx = 9) AS BLOB) AND n = 0",
        "UPDATE log_entries SET entry = 7 WHERE idx = 48",
        "UPDATE log_entries SET record_type = x'00' WHERE idx = 300",
        "UPDATE log_entries SET stream = CAST(x'ff' AS TEXT) WHERE idx = 300",
        "UPDATE log_entries SET leaf_hash = x'07' WHERE idx = 599",
        "UPDATE log_tiles SET hashes = 7 WHERE level = 0 AND n = 1",
        "UPDATE log_tiles SET hashes = 'x' WHERE level = 1 AND n = 0",
        "UPDATE log_heads SET size = 'x'",
        "UPDATE log_heads SET root = 7",
        "UPDATE log_heads SET checkpoint = x'00'",
    ] {
        let database = sqlite();
        let fixture = filled(&database).await;
        database.drop_guards().await;
        database.tamper(change).await;
        let found = fixture.log.fsck().await.unwrap().problems;
        let told = found.iter().any(|found| found.what.contains(UNREAD));
        assert!(told, "{change}: {found:?}");
        stops(&fixture.log, None, UNREAD).await;
    }
}

/// What scrubbing does not look at, fsck does; and what it cannot read hides nothing else from it.
#[tokio::test]
async fn rows_that_cannot_be_read_are_listed_beside_everything_else() {
    let database = sqlite();
    let fixture = filled(&database).await;
    for change in [
        "UPDATE log_streams SET last_seq = 'x' WHERE stream = 'inventory'",
        "UPDATE log_producer_keys SET public_key = 7 WHERE stream = 'inventory'",
        "UPDATE log_labels SET positions = 7 WHERE label = x'' AND n = 1",
        "UPDATE log_tiles SET hashes = 7 WHERE level = 0 AND n = 1",
        "UPDATE log_tiles SET hashes = zeroblob(64) WHERE level = 1 AND n = 0",
        "INSERT INTO log_anchored_heads SELECT log_id, 1, size, 7 FROM log_heads",
        "INSERT INTO log_cosignatures SELECT log_id, size, x'07', 7, 7 FROM log_heads",
        "INSERT INTO log_cosignatures SELECT log_id, 'x', 'x', 7, 7 FROM log_heads",
    ] {
        database.tamper(change).await;
    }
    let found = fixture.log.fsck().await.unwrap().problems;
    let of = |words: &str| {
        found
            .iter()
            .filter(|found| found.what.contains(words))
            .count()
    };
    assert_eq!(of(UNREAD), 5, "{found:?}");
    assert_eq!(of("is not that of the entries"), 2, "{found:?}");
    assert_eq!(of("name no witness, or cannot be read"), 1, "{found:?}");
    assert_eq!(of("sizes that are none"), 1, "{found:?}");
    assert_eq!(found.len(), 9, "{found:?}");
}

#[tokio::test]
async fn a_database_that_is_out_of_reach_says_nothing_of_the_log() {
    let database = sqlite();
    let fixture = filled(&database).await;
    fixture.engine.close().await;
    let failed = fixture.log.scrub(None, 1, None).await;
    assert!(
        matches!(failed, Err(EngineError::Storage { .. })),
        "{failed:?}"
    );
    let failed = fixture.log.fsck().await;
    assert!(
        matches!(failed, Err(EngineError::Storage { .. })),
        "{failed:?}"
    );
    let log = database.open().await.log(support::TENANT).await.unwrap();
    assert_eq!(log.stopped().await.unwrap(), None);
}

#[tokio::test]
async fn files_of_the_copy_that_rot_are_found() {
    for (file, words) in [
        ("tile/entries/000", "the copy's tile/entries/000"),
        ("tile/0/001", "the copy's tile/0/001"),
    ] {
        let database = sqlite();
        let fixture = filled(&database).await;
        let folder = tempfile::tempdir().unwrap();
        let copy = publication(folder.path());
        fixture.log.publish(&copy).await.unwrap();
        let path = folder.path().join("acme").join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[100] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        stops(&fixture.log, Some(&copy), words).await;
    }
}

#[tokio::test]
async fn files_that_the_copy_has_lost_are_put_back_as_they_were() {
    for database in databases() {
        let fixture = filled(&database).await;
        let folder = tempfile::tempdir().unwrap();
        let copy = publication(folder.path());
        fixture.log.publish(&copy).await.unwrap();
        let paths = ["tile/entries/000", "tile/0/000", "tile/entries/001"];
        let paths = paths.map(|file| folder.path().join("acme").join(file));
        let before = paths.each_ref().map(|path| std::fs::read(path).unwrap());
        for path in &paths {
            std::fs::remove_file(path).unwrap();
        }
        let (whole, _) = round(&fixture.log, Some(&copy)).await.unwrap();
        assert_eq!(whole.size, fixture.log.head().await.unwrap().size);
        let after = paths.each_ref().map(|path| std::fs::read(path).unwrap());
        assert!(before == after);
        assert_eq!(fixture.engine.counts().copy_files_mended, 3);
        assert_eq!(fixture.log.stopped().await.unwrap(), None);
        round(&fixture.log, Some(&copy)).await.unwrap();
        assert_eq!(fixture.engine.counts().copy_files_mended, 3);
        // Into a copy that is not this log's, nothing is put.
        let other = fixture
            .engine
            .create_log(
                "other",
                "test.example/t/other",
                &fixture.log.info().registrar,
            )
            .await
            .unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        other.publish(&publication(elsewhere.path())).await.unwrap();
        let checkpoint = elsewhere.path().join("other/checkpoint");
        std::fs::copy(checkpoint, folder.path().join("acme/checkpoint")).unwrap();
        std::fs::remove_file(&paths[0]).unwrap();
        stops(&fixture.log, Some(&copy), "checkpoint is not this log's").await;
        assert!(!paths[0].exists());
    }
}

#[tokio::test]
async fn nothing_is_put_back_that_was_not_signed() {
    let database = sqlite();
    let fixture = filled(&database).await;
    let folder = tempfile::tempdir().unwrap();
    let copy = publication(folder.path());
    fixture.log.publish(&copy).await.unwrap();
    let lost = folder.path().join("acme/tile/entries/000");
    std::fs::remove_file(&lost).unwrap();
    // The entries of this bundle are as they were, and the tiles above lead to no signed root any more.
    database
        .tamper("UPDATE log_tiles SET hashes = substr(hashes, 1, 32) WHERE level = 1 AND n = 0")
        .await;
    // Who has read them before still knows what they were.
    let again = database.open().await;
    let log = again.log(support::TENANT).await.unwrap();
    let found = log.scrub(None, 1, Some(&copy)).await;
    assert!(
        matches!(found, Err(EngineError::Damaged { .. })),
        "{found:?}"
    );
    assert!(!lost.exists());
}

/// A round that began before the copy was taken back to an older one, or that is further than the copy, goes on.
#[tokio::test]
async fn a_copy_that_is_behind_stops_nothing() {
    let database = sqlite();
    let mut fixture = fixture(&database).await;
    let records = (0..300).map(|number| fixture.inventory.next(&ownership(number), &[]));
    let records = records.collect();
    receipts(fixture.log.append(records).await.unwrap());
    let folder = tempfile::tempdir().unwrap();
    let copy = publication(folder.path());
    fixture.log.publish(&copy).await.unwrap();
    let records = (0..600).map(|number| fixture.inventory.next(&ownership(number), &[]));
    let records = records.collect();
    receipts(fixture.log.append(records).await.unwrap());
    let (whole, steps) = round(&fixture.log, Some(&copy)).await.unwrap();
    assert!(whole.size > 900 && steps > 3);
    assert_eq!(fixture.engine.counts().copy_files_mended, 0);
}
