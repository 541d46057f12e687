//! What a database lost comes back from the published copy, bit for bit or not at all; and nothing is signed before.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use counterfoil_engine::{
    Anchor, AnchorError, Engine, EngineError, EngineOptions, HighWater, Log, LogInfo, LogStatus,
    Publication, Recovered, SignedRecord,
};
use object_store::local::LocalFileSystem;
use support::foreign::Exported;
use support::{
    Database, Fixture, ORIGIN, Producer, REGISTRATIONS, TENANT, databases, fixture_on, ownership,
    receipts, sqlite,
};

fn folder(path: &Path) -> Publication {
    let store = LocalFileSystem::new_with_prefix(path).unwrap();
    Publication::new(Arc::new(store), "")
}

async fn open(database: &Database, anchors: Vec<Arc<dyn Anchor>>) -> Engine {
    let options = EngineOptions {
        anchors,
        ..EngineOptions::default()
    };
    database.open_with(options).await
}

/// Entries of several batches at several times, some at the same.
async fn grow(database: &Database, log: &Log, producer: &mut Producer, batches: u64) {
    for batch in 0..batches {
        let records = (0..1 + batch * 37 % 200)
            .map(|number| producer.next(&ownership(number), &["accounts/1"]))
            .collect();
        receipts(log.append(records).await.unwrap());
        database
            .clock
            .0
            .fetch_add(i64::try_from(batch % 3).unwrap(), Ordering::SeqCst);
    }
}

fn reason(result: Result<impl std::fmt::Debug, EngineError>) -> String {
    match result {
        Err(EngineError::Damaged { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// A log, a backup of its database from before, and the published copy of what came after.
struct Lost {
    database: Database,
    backup: Database,
    copy: tempfile::TempDir,
    log: Log,
    inventory: Producer,
    size: u64,
}

async fn lost(database: Database) -> Lost {
    let copy = tempfile::tempdir().unwrap();
    let Fixture {
        engine,
        log,
        mut inventory,
        ..
    } = fixture_on(database.open().await).await;
    grow(&database, &log, &mut inventory, 6).await;
    engine.close().await;
    let backup = database.back_up();
    let engine = database.open().await;
    let log = engine.log(TENANT).await.unwrap();
    grow(&database, &log, &mut inventory, 30).await;
    let size = log.publish(&folder(copy.path())).await.unwrap().size;
    Lost {
        database,
        backup,
        copy,
        log,
        inventory,
        size,
    }
}

#[tokio::test]
async fn a_database_from_a_backup_is_brought_to_the_copy_bit_for_bit_and_goes_on() {
    for database in databases() {
        let mut lost = lost(database).await;
        let whole = Exported::take(&lost.log, lost.size).await;
        let copy = folder(lost.copy.path());
        let engine = open(&lost.backup, vec![Arc::new(copy.clone())]).await;
        let log = engine.log(TENANT).await.unwrap();
        let from = log.head().await.unwrap().size;
        assert!(
            reason(
                log.append(vec![lost.inventory.clone().next(&ownership(1), &[])])
                    .await
            )
            .contains("fell back")
        );
        let mut told = Vec::new();
        let recovered = log
            .recover(&copy, &mut |size, _| told.push(size))
            .await
            .unwrap();
        assert_eq!(
            recovered,
            Recovered {
                from,
                size: lost.size
            }
        );
        assert!(
            told.is_sorted() && told.last() == Some(&lost.size),
            "{told:?}"
        );
        let again = Exported::take(&log, lost.size).await;
        assert_eq!(again.files, whole.files, "{}", lost.backup.name);
        assert!(log.fsck().await.unwrap().is_clean());
        assert_eq!(log.head().await.unwrap(), lost.log.head().await.unwrap());
        // Nothing is left to bring back, and the log goes on where it was.
        let nothing = log.recover(&copy, &mut |_, _| {}).await.unwrap();
        assert_eq!(
            nothing,
            Recovered {
                from: lost.size,
                size: lost.size
            }
        );
        grow(&lost.backup, &log, &mut lost.inventory, 3).await;
        assert!(log.publish(&copy).await.unwrap().size > lost.size);
        drop(lost.database);
    }
}

#[tokio::test]
async fn a_lost_database_comes_back_with_the_key_and_not_without_it() {
    for database in databases() {
        let lost = lost(database).await;
        let whole = Exported::take(&lost.log, lost.size).await;
        let copy = folder(lost.copy.path());
        let registrar = Producer::new("ledger", 1).vkey;
        let empty = lost.database.emptied();
        let engine = open(&empty, vec![Arc::new(copy.clone())]).await;
        let log = engine.lost_log(TENANT, ORIGIN, &registrar).await.unwrap();
        log.recover(&copy, &mut |_, _| {}).await.unwrap();
        assert_eq!(Exported::take(&log, lost.size).await.files, whole.files);
        let stranger = sqlite();
        let engine = stranger.open().await;
        let refused = engine.lost_log(TENANT, ORIGIN, &registrar).await;
        assert!(
            matches!(refused, Err(EngineError::Key { .. })),
            "{refused:?}"
        );
        assert!(engine.tenants().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_copy_that_is_not_whole_changes_nothing() {
    for database in databases() {
        let lost = lost(database).await;
        let copy = folder(lost.copy.path());
        let engine = open(&lost.backup, vec![Arc::new(copy.clone())]).await;
        let log = engine.log(TENANT).await.unwrap();
        let before = log.head().await.unwrap();
        let bundle = lost.copy.path().join("acme/tile/entries/005");
        let good = std::fs::read(&bundle).unwrap();
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        for (content, expected) in [
            (None, "missing"),
            (Some(&flipped), "entry"),
            (Some(&good[..300].to_vec()), "bundle"),
        ] {
            std::fs::remove_file(&bundle).unwrap();
            if let Some(content) = content {
                std::fs::write(&bundle, content).unwrap();
            }
            let said = reason(log.recover(&copy, &mut |_, _| {}).await);
            assert!(said.contains(expected), "{said}");
            assert_eq!(log.head().await.unwrap(), before);
            assert!(log.fsck().await.unwrap().is_clean());
            std::fs::write(&bundle, &good).unwrap();
        }
        log.recover(&copy, &mut |_, _| {}).await.unwrap();
        assert_eq!(log.head().await.unwrap().size, lost.size);
    }
}

#[tokio::test]
async fn a_full_check_names_every_file_of_the_copy_that_is_not_the_logs() {
    let lost = lost(sqlite()).await;
    let copy = folder(lost.copy.path());
    let check = async || {
        lost.log
            .fsck_with(Some(&copy), &mut |_, _| {})
            .await
            .unwrap()
    };
    assert!(check().await.is_clean());
    // What came after is not in the copy, and nothing is wrong with that.
    grow(&lost.database, &lost.log, &mut lost.inventory.clone(), 3).await;
    assert!(check().await.is_clean());
    let files = files_below(&lost.copy.path().join("acme"));
    assert!(files.len() > 20);
    for file in files {
        let good = std::fs::read(&file).unwrap();
        let name = file
            .strip_prefix(lost.copy.path().join("acme"))
            .unwrap()
            .display()
            .to_string();
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        std::fs::write(&file, &flipped).unwrap();
        let found = check().await.problems;
        assert!(
            found.iter().any(|problem| problem.what.contains(&name)),
            "{name}: {found:?}"
        );
        std::fs::remove_file(&file).unwrap();
        let found = check().await.problems;
        assert!(!found.is_empty(), "{name}");
        std::fs::write(&file, &good).unwrap();
    }
    assert!(check().await.is_clean());
    // Who holds an older checkpoint reads its partial tiles, as long as no full one has replaced them.
    let older = files_below(&lost.copy.path().join("acme"));
    let partial = |file: &&std::path::PathBuf| file.to_string_lossy().contains(".p/");
    lost.log.publish(&copy).await.unwrap();
    let mut found_older = 0;
    for file in older.iter().filter(partial).filter(|file| file.exists()) {
        let good = std::fs::read(file).unwrap();
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        std::fs::write(file, &flipped).unwrap();
        assert!(!check().await.is_clean(), "{}", file.display());
        std::fs::write(file, &good).unwrap();
        found_older += 1;
    }
    assert!(found_older > 0, "all partial tiles were replaced");
    assert!(check().await.is_clean());
    let engine = lost.backup.open().await;
    let behind = engine
        .log(TENANT)
        .await
        .unwrap()
        .fsck_with(Some(&copy), &mut |_, _| {})
        .await
        .unwrap();
    assert!(
        behind
            .problems
            .iter()
            .any(|problem| problem.what.contains("more entries")),
        "{behind:?}"
    );
}

/// The files that the copy's checkpoint stands for, and no older partial ones.
fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[tokio::test]
async fn a_status_tells_what_is_not_published_and_what_is_out_of_order() {
    for database in databases() {
        let lost = lost(database).await;
        let copy = folder(lost.copy.path());
        let head = lost.log.head().await.unwrap();
        let status = lost.log.status(Some(&copy), None).await.unwrap();
        assert_eq!(
            status,
            LogStatus {
                size: lost.size,
                recorded_at_ms: head.recorded_at_ms,
                published: Some(lost.size),
                unpublished_since_ms: None,
                evicted: 0,
                anchored: None,
                unanchored_since_ms: None,
                witnessed: None,
                unwitnessed_since_ms: None,
                stopped: None,
            }
        );
        assert!(status.is_in_order());
        let since_ms = lost.database.clock.0.fetch_add(5, Ordering::SeqCst) + 5;
        grow(&lost.database, &lost.log, &mut lost.inventory.clone(), 3).await;
        let status = lost.log.status(Some(&copy), None).await.unwrap();
        assert_eq!(status.published, Some(lost.size));
        assert_eq!(status.unpublished_since_ms, Some(since_ms));
        assert!(status.is_in_order() && status.size > lost.size);
        let alone = lost.log.status(None, None).await.unwrap();
        assert_eq!((alone.published, alone.unpublished_since_ms), (None, None));
        // An older database, before and after somebody noticed.
        let engine = lost.backup.open().await;
        let log = engine.log(TENANT).await.unwrap();
        assert!(!log.status(Some(&copy), None).await.unwrap().is_in_order());
        reason(log.publish(&copy).await);
        let status = log.status(None, None).await.unwrap();
        assert!(!status.is_in_order());
        assert!(status.stopped.unwrap().contains("fell back"));
        let stranger = sqlite();
        let theirs = fixture_on(stranger.open().await).await;
        assert!(reason(theirs.log.status(Some(&copy), None).await).contains("not this log's"));
    }
}

#[tokio::test]
async fn a_copy_of_another_log_brings_nothing_back() {
    let lost = lost(sqlite()).await;
    let stranger = sqlite();
    let theirs = fixture_on(stranger.open().await).await;
    let copy = tempfile::tempdir().unwrap();
    theirs.log.publish(&folder(copy.path())).await.unwrap();
    let said = reason(lost.log.recover(&folder(copy.path()), &mut |_, _| {}).await);
    assert!(said.contains("not this log's"), "{said}");
    let nowhere = tempfile::tempdir().unwrap();
    let said = reason(
        lost.log
            .recover(&folder(nowhere.path()), &mut |_, _| {})
            .await,
    );
    assert!(said.contains("never published"), "{said}");
}

#[tokio::test]
async fn a_log_that_was_stopped_goes_on_once_its_copy_is_right_again() {
    let lost = lost(sqlite()).await;
    let copy = folder(lost.copy.path());
    let mut inventory = lost.inventory.clone();
    grow(&lost.database, &lost.log, &mut inventory, 2).await;
    // A file that a later run would write, of another history.
    let size = lost.log.head().await.unwrap().size;
    let forged = lost.copy.path().join(format!(
        "acme/tile/entries/{:03}.p/{}",
        size / 256,
        size % 256
    ));
    std::fs::create_dir_all(forged.parent().unwrap()).unwrap();
    std::fs::write(&forged, b"another history").unwrap();
    let said = reason(lost.log.publish(&copy).await);
    assert!(said.contains("another one"), "{said}");
    assert!(lost.log.stopped().await.unwrap().is_some());
    std::fs::remove_file(&forged).unwrap();
    lost.log.recover(&copy, &mut |_, _| {}).await.unwrap();
    assert!(lost.log.stopped().await.unwrap().is_none());
    grow(&lost.database, &lost.log, &mut inventory, 1).await;
    lost.log.publish(&copy).await.unwrap();
}

#[tokio::test]
async fn the_high_water_file_knows_what_was_never_published() {
    for database in databases() {
        let marks = tempfile::tempdir().unwrap();
        let copy = tempfile::tempdir().unwrap();
        let mark = || Arc::new(HighWater::open(marks.path().join("marks")).unwrap());
        let anchors = || -> Vec<Arc<dyn Anchor>> { vec![mark(), Arc::new(folder(copy.path()))] };
        let Fixture {
            engine,
            log,
            mut inventory,
            ..
        } = fixture_on(open(&database, anchors()).await).await;
        grow(&database, &log, &mut inventory, 4).await;
        let published = log.publish(&folder(copy.path())).await.unwrap().size;
        engine.close().await;
        let backup = database.back_up();
        let engine = open(&database, anchors()).await;
        let log = engine.log(TENANT).await.unwrap();
        let of_backup = inventory.clone();
        receipts(
            log.append(vec![inventory.next(&ownership(1), &[])])
                .await
                .unwrap(),
        );
        engine.close().await;
        // One entry more than the backup was signed; only the file says so.
        let engine = open(&backup, anchors()).await;
        let log = engine.log(TENANT).await.unwrap();
        assert!(engine.troubles().is_empty());
        reason(log.check_anchors().await);
        let troubles = engine.troubles();
        assert!(
            troubles.len() == 1 && troubles[0].contains("high-water"),
            "{troubles:?}"
        );
        let said = reason(
            log.append(vec![of_backup.clone().next(&ownership(2), &[])])
                .await,
        );
        assert!(
            said.contains("high-water") && said.contains("fell back"),
            "{said}"
        );
        let said = reason(log.recover(&folder(copy.path()), &mut |_, _| {}).await);
        assert!(said.contains("high-water"), "{said}");
        assert_eq!(log.head().await.unwrap().size, published);
        engine.close().await;
        // The right database goes on, also after its file was lost.
        for _ in 0..2 {
            let engine = open(&database, anchors()).await;
            let log = engine.log(TENANT).await.unwrap();
            receipts(
                log.append(vec![inventory.next(&ownership(3), &[])])
                    .await
                    .unwrap(),
            );
            assert!(engine.troubles().is_empty());
            engine.close().await;
            std::fs::remove_dir_all(marks.path().join("marks")).unwrap();
        }
    }
}

/// An anchor that is asked while another process appends, and is told of that before it answers.
#[derive(Debug)]
struct Slow {
    other: Log,
    record: SignedRecord,
}

#[async_trait]
impl Anchor for Slow {
    fn name(&self) -> String {
        "a slow anchor".to_owned()
    }

    async fn newest(&self, _: &LogInfo) -> Result<Option<Vec<u8>>, AnchorError> {
        receipts(self.other.append(vec![self.record.clone()]).await.unwrap());
        Ok(Some(
            self.other.head().await.unwrap().checkpoint.into_bytes(),
        ))
    }
}

#[tokio::test]
async fn an_anchor_that_hears_of_another_process_first_is_no_alarm() {
    for database in databases() {
        let Fixture {
            log, mut inventory, ..
        } = fixture_on(database.open().await).await;
        let slow = Arc::new(Slow {
            other: log,
            record: inventory.next(&ownership(1), &[]),
        });
        let engine = open(&database, vec![slow]).await;
        let log = engine.log(TENANT).await.unwrap();
        receipts(
            log.append(vec![inventory.next(&ownership(2), &[])])
                .await
                .unwrap(),
        );
        assert!(log.fsck().await.unwrap().is_clean());
    }
}

#[tokio::test]
async fn a_log_that_was_stopped_is_brought_back_and_stays_stopped_while_something_is_missing() {
    for database in databases() {
        let lost = lost(database).await;
        let marks = tempfile::tempdir().unwrap();
        let copy = folder(lost.copy.path());
        let ahead = HighWater::open(marks.path()).unwrap();
        let anchors: Vec<Arc<dyn Anchor>> = vec![Arc::new(ahead.clone())];
        let engine = open(&lost.backup, anchors).await;
        let log = engine.log(TENANT).await.unwrap();
        reason(log.publish(&copy).await);
        assert!(log.stopped().await.unwrap().is_some());
        // One entry more than the copy has was signed.
        let mut inventory = lost.inventory.clone();
        grow(&lost.database, &lost.log, &mut inventory, 1).await;
        let signed = lost.log.head().await.unwrap().checkpoint;
        ahead.remember(log.info(), &signed);
        reason(log.recover(&copy, &mut |_, _| {}).await);
        assert_eq!(log.head().await.unwrap().size, lost.size);
        assert!(log.stopped().await.unwrap().is_some());
        std::fs::remove_dir_all(marks.path()).unwrap();
        log.recover(&copy, &mut |_, _| {}).await.unwrap();
        assert!(log.stopped().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn the_high_water_file_is_never_ahead_of_a_commit() {
    let database = sqlite();
    let marks = tempfile::tempdir().unwrap();
    let anchors: Vec<Arc<dyn Anchor>> = vec![Arc::new(HighWater::open(marks.path()).unwrap())];
    let Fixture {
        log, mut inventory, ..
    } = fixture_on(open(&database, anchors).await).await;
    for _ in 0..12 {
        grow(&database, &log, &mut inventory, 3).await;
        let file = std::fs::read_dir(marks.path())
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let head = log.head().await.unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), head.checkpoint);
    }
    assert!(log.head().await.unwrap().size > REGISTRATIONS);
}

#[tokio::test]
async fn a_high_water_file_that_was_made_and_never_written_holds_nothing_up() {
    let database = sqlite();
    let marks = tempfile::tempdir().unwrap();
    let anchors =
        || -> Vec<Arc<dyn Anchor>> { vec![Arc::new(HighWater::open(marks.path()).unwrap())] };
    let Fixture {
        engine,
        log,
        mut inventory,
        ..
    } = fixture_on(open(&database, anchors()).await).await;
    grow(&database, &log, &mut inventory, 1).await;
    engine.close().await;
    // So it is left by a process that was killed between the two, and by a volume that is full.
    let file = files_below(marks.path()).remove(0);
    std::fs::write(&file, "").unwrap();
    let engine = open(&database, anchors()).await;
    let log = engine.log(TENANT).await.unwrap();
    grow(&database, &log, &mut inventory, 1).await;
    let head = log.head().await.unwrap();
    assert_eq!(std::fs::read_to_string(file).unwrap(), head.checkpoint);
}
