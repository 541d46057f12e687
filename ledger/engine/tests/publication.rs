//! The published copy: at every size other people's code accepts it, wherever a run stops the next one goes on, and what is not the
//! log's stops the log.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use counterfoil_engine::{
    Anchor, AnchorError, EngineError, EngineOptions, FaultPoint, Faults, Log, LogInfo, Publication,
    Published, Verdict,
};
use futures::TryStreamExt as _;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload, path::Path};
use support::foreign::Exported;
use support::{
    Database, Fixture, Producer, REGISTRATIONS, TENANT, databases, fixture, fixture_on, ownership,
    receipts, sqlite,
};

const PREFIX: &str = "logs/acme/";

fn memory() -> (Arc<InMemory>, Publication) {
    let store = Arc::new(InMemory::new());
    let publication = Publication::new(Arc::clone(&store) as Arc<dyn ObjectStore>, "logs");
    (store, publication)
}

/// Every object below the log's prefix.
async fn objects(store: &InMemory) -> BTreeMap<String, Vec<u8>> {
    let found: Vec<_> = store
        .list(Some(&Path::from("logs/acme")))
        .try_collect()
        .await
        .unwrap();
    let mut objects = BTreeMap::new();
    for object in found {
        let bytes = store
            .get(&object.location)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        let name = object
            .location
            .as_ref()
            .strip_prefix(PREFIX)
            .unwrap()
            .to_owned();
        objects.insert(name, bytes.to_vec());
    }
    objects
}

async fn grow(log: &Log, producer: &mut Producer, count: u64) {
    let records = (0..count)
        .map(|number| producer.next(&ownership(number), &[]))
        .collect();
    receipts(log.append(records).await.unwrap());
}

/// The copy has what an export has, byte by byte, and other people's code accepts it.
async fn assert_whole(store: &InMemory, log: &Log, size: u64) {
    let exported = Exported::take(log, size).await;
    assert_eq!(
        exported.verify(&log.info().vkey.to_string()).len() as u64,
        size
    );
    let mut copied = objects(store).await;
    for (path, bytes) in &exported.files {
        assert_eq!(
            copied.remove(path).as_ref(),
            Some(bytes),
            "{path} at {size}"
        );
    }
    // What is there beyond are narrower tiles, of checkpoints from before, that no full one has replaced.
    for path in copied.keys() {
        let full = path.split_once(".p/").map(|(full, _)| full);
        assert!(
            full.is_some_and(|full| !exported.files.contains_key(full)),
            "{path} at {size}"
        );
    }
}

#[tokio::test]
async fn the_copy_is_the_log_at_every_size_that_was_published() {
    for database in databases() {
        let Fixture {
            log, mut inventory, ..
        } = fixture(&database).await;
        let (store, publication) = memory();
        let mut size = REGISTRATIONS;
        // Within a tile, to its end, beyond it, over several at once, over the end of a tile of level 1.
        for more in [0, 100, 153, 1, 700, 4096, 61_000] {
            for step in (0..more).step_by(4096) {
                grow(&log, &mut inventory, (more - step).min(4096)).await;
            }
            let from = if more == 0 { 0 } else { size };
            size += more;
            let published = log.publish(&publication).await.unwrap();
            assert_eq!(
                (published.from, published.size),
                (from, size),
                "{}",
                database.name
            );
            assert_whole(&store, &log, size).await;
            let again = log.publish(&publication).await.unwrap();
            assert_eq!(
                again,
                Published {
                    from: size,
                    size,
                    written: 0
                }
            );
        }
    }
}

#[tokio::test]
async fn a_log_without_entries_has_a_copy_too() {
    let database = sqlite();
    let engine = database.open().await;
    let registrar = Producer::new("ledger", 1);
    let log = engine
        .create_log(TENANT, support::ORIGIN, &registrar.vkey)
        .await
        .unwrap();
    let (store, publication) = memory();
    assert_eq!(log.publish(&publication).await.unwrap().size, 0);
    assert_eq!(
        objects(&store).await.keys().collect::<Vec<_>>(),
        ["checkpoint"]
    );
}

/// Fails at the n-th time that a point is reached.
#[derive(Debug, Default)]
struct AtNth(Mutex<Option<(FaultPoint, u32, Verdict)>>);

impl Faults for AtNth {
    fn at(&self, point: FaultPoint) -> Verdict {
        let mut armed = self.0.lock().unwrap();
        match armed.as_mut() {
            Some((wanted, left, verdict)) if *wanted == point => {
                let verdict = *verdict;
                if *left > 0 {
                    *left -= 1;
                    return Verdict::Proceed;
                }
                *armed = None;
                verdict
            }
            _ => Verdict::Proceed,
        }
    }
}

#[tokio::test]
async fn a_run_that_stops_anywhere_leaves_a_valid_copy_and_the_next_one_goes_on() {
    let database = sqlite();
    let faults = Arc::new(AtNth::default());
    let options = EngineOptions {
        faults: Arc::clone(&faults) as Arc<dyn Faults>,
        ..EngineOptions::default()
    };
    let Fixture {
        log, mut inventory, ..
    } = fixture_on(database.open_with(options).await).await;
    let (store, publication) = memory();
    log.publish(&publication).await.unwrap();
    // 600 more entries: three bundles, three tiles of level 0, one of level 1, the checkpoint.
    let points = (0..7)
        .map(|nth| (FaultPoint::PublishTile, nth))
        .chain([(FaultPoint::PublishCheckpoint, 0)]);
    for (point, nth) in points {
        for verdict in [Verdict::Fail, Verdict::FailAfter] {
            let before = log.head().await.unwrap().size;
            grow(&log, &mut inventory, 600).await;
            *faults.0.lock().unwrap() = Some((point, nth, verdict));
            let stopped = log.publish(&publication).await;
            assert!(
                matches!(stopped, Err(EngineError::Publication { .. })),
                "{point:?} {nth}: {stopped:?}"
            );
            // What the checkpoint says is there, it was before, or it is already.
            let copied = objects(&store).await;
            let newer = point == FaultPoint::PublishCheckpoint && verdict == Verdict::FailAfter;
            let size = if newer { before + 600 } else { before };
            let whole = Exported::take(&log, size).await;
            for (path, bytes) in &whole.files {
                assert_eq!(
                    copied.get(path),
                    Some(bytes),
                    "{point:?} {nth} {verdict:?}: {path}"
                );
            }
            // Whatever was written meanwhile is part of it: nothing is there under another name.
            grow(&log, &mut inventory, 10).await;
            let published = log.publish(&publication).await.unwrap();
            assert_eq!(published.size, before + 610);
            let copied = objects(&store).await;
            let whole = Exported::take(&log, before + 610).await;
            for (path, bytes) in &whole.files {
                assert_eq!(
                    copied.get(path),
                    Some(bytes),
                    "{point:?} {nth} {verdict:?}: {path}"
                );
            }
            assert!(log.stopped().await.unwrap().is_none());
        }
    }
}

#[tokio::test]
async fn another_file_under_a_name_of_the_log_stops_it_for_good_and_no_other_log() {
    for database in databases() {
        let Fixture {
            engine,
            log,
            mut inventory,
            registrar,
            ..
        } = fixture(&database).await;
        let other = engine
            .create_log("beta", "ledger.example/t/beta", &registrar.vkey)
            .await
            .unwrap();
        let (store, publication) = memory();
        let forged = Path::from("logs/acme/tile/entries/000.p/3");
        store
            .put(&forged, PutPayload::from_static(b"another history"))
            .await
            .unwrap();
        let refused = log.publish(&publication).await;
        assert!(
            matches!(&refused, Err(EngineError::Damaged { reason, .. }) if reason.contains("tile/entries/000.p/3")),
            "{refused:?}"
        );
        // Nothing of the log is signed any more, in this process or the next one; reading goes on.
        for reopen in [false, true] {
            let engine = if reopen {
                database.open().await
            } else {
                engine.clone()
            };
            let log = engine.log(TENANT).await.unwrap();
            let size = log.head().await.unwrap().size;
            let appended = log
                .append(vec![inventory.clone().next(&ownership(1), &[])])
                .await;
            assert!(
                matches!(&appended, Err(EngineError::Damaged { reason, .. }) if reason.contains("stopped")),
                "{appended:?}"
            );
            assert_eq!(log.head().await.unwrap().size, size);
            assert!(log.entry(0).await.unwrap().is_some());
        }
        let mut beta = Producer {
            origin: "ledger.example/t/beta".to_owned(),
            ..Producer::new("ledger", 1)
        };
        let registration = beta.registration();
        receipts(
            other
                .append(vec![beta.next(&registration, &[])])
                .await
                .unwrap(),
        );
        assert!(other.stopped().await.unwrap().is_none());
        grow_refused(&log, &mut inventory).await;
    }
}

async fn grow_refused(log: &Log, producer: &mut Producer) {
    let refused = log.append(vec![producer.next(&ownership(9), &[])]).await;
    assert!(
        matches!(refused, Err(EngineError::Damaged { .. })),
        "{refused:?}"
    );
}

/// A copy of an SQLite database as a backup takes it.
fn back_up(database: &Database) -> std::path::PathBuf {
    let folder = database.directory.path();
    let copy = folder.join("backup.db");
    std::fs::copy(folder.join("ledger.db"), &copy).unwrap();
    copy
}

fn restore(database: &Database, copy: &std::path::Path) {
    let folder = database.directory.path();
    for leftover in ["ledger.db-wal", "ledger.db-shm"] {
        let _ = std::fs::remove_file(folder.join(leftover));
    }
    std::fs::copy(copy, folder.join("ledger.db")).unwrap();
}

fn anchored(publication: &Publication) -> EngineOptions {
    EngineOptions {
        anchors: vec![Arc::new(publication.clone())],
        ..EngineOptions::default()
    }
}

#[tokio::test]
async fn a_database_from_a_backup_signs_nothing_while_the_copy_is_ahead() {
    let database = sqlite();
    let (_, publication) = memory();
    let Fixture {
        engine,
        log,
        mut inventory,
        ..
    } = fixture_on(database.open_with(anchored(&publication)).await).await;
    grow(&log, &mut inventory, 50).await;
    let of_backup = inventory.clone();
    engine.close().await;
    let backup = back_up(&database);
    let engine = database.open_with(anchored(&publication)).await;
    let log = engine.log(TENANT).await.unwrap();
    grow(&log, &mut inventory, 20).await;
    log.publish(&publication).await.unwrap();
    engine.close().await;
    restore(&database, &backup);
    let engine = database.open_with(anchored(&publication)).await;
    let log = engine.log(TENANT).await.unwrap();
    let refused = log
        .append(vec![of_backup.clone().next(&ownership(7), &[])])
        .await;
    assert!(
        matches!(&refused, Err(EngineError::Damaged { reason, .. })
            if reason.contains("published copy") && reason.contains("fell back from 73 to 53")),
        "{refused:?}"
    );
    assert_eq!(log.head().await.unwrap().size, REGISTRATIONS + 50);
    engine.close().await;
    // Whoever has no anchor goes on, as this one would have: nothing in the database tells.
    let engine = database.open().await;
    let log = engine.log(TENANT).await.unwrap();
    grow(&log, &mut of_backup.clone(), 30).await;
    // Now it is as long as the copy and another log: publishing sees that, and stops it.
    let forked = log.publish(&publication).await;
    assert!(
        matches!(&forked, Err(EngineError::Damaged { reason, .. }) if reason.contains("73")),
        "{forked:?}"
    );
    assert!(log.stopped().await.unwrap().is_some());
}

/// Out of reach.
#[derive(Debug)]
struct Gone;

#[async_trait]
impl Anchor for Gone {
    fn name(&self) -> String {
        "a volume that is not mounted".to_owned()
    }

    async fn newest(&self, _: &LogInfo) -> Result<Option<Vec<u8>>, AnchorError> {
        Err(AnchorError {
            name: self.name(),
            reason: "no such file".to_owned(),
        })
    }
}

#[tokio::test]
async fn an_anchor_out_of_reach_stops_no_log_and_one_of_another_key_does() {
    let database = sqlite();
    let options = EngineOptions {
        anchors: vec![Arc::new(Gone)],
        ..EngineOptions::default()
    };
    let Fixture {
        engine,
        log,
        mut inventory,
        ..
    } = fixture_on(database.open_with(options).await).await;
    grow(&log, &mut inventory, 5).await;
    engine.close().await;
    let (_, publication) = memory();
    let stranger = sqlite();
    let theirs = fixture(&stranger).await;
    theirs.log.publish(&publication).await.unwrap();
    let engine = database.open_with(anchored(&publication)).await;
    let log = engine.log(TENANT).await.unwrap();
    let refused = log.append(vec![inventory.next(&ownership(7), &[])]).await;
    assert!(
        matches!(&refused, Err(EngineError::Damaged { reason, .. }) if reason.contains("not this log's")),
        "{refused:?}"
    );
}

/// Stands still before the copy's checkpoint is written, once.
#[derive(Debug)]
struct StandStill(Mutex<Option<(Sender<()>, Receiver<()>)>>);

impl Faults for StandStill {
    fn at(&self, point: FaultPoint) -> Verdict {
        if point == FaultPoint::PublishCheckpoint
            && let Some((reached, go_on)) = self.0.lock().unwrap().take()
        {
            reached.send(()).unwrap();
            go_on.recv().unwrap();
        }
        Verdict::Proceed
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_was_stopped_while_publishing_never_takes_the_copy_back() {
    let folder = tempfile::tempdir().unwrap();
    let local = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    let local = Publication::new(Arc::new(local), "logs").in_turns(folder.path().join("turns"));
    for publication in [memory().1, local] {
        let database = sqlite();
        let ((reached, is_reached), (go_on, may_go_on)) = (channel(), channel());
        let faults = StandStill(Mutex::new(Some((reached, may_go_on))));
        let options = EngineOptions {
            faults: Arc::new(faults),
            ..EngineOptions::default()
        };
        let slow = fixture_on(database.open_with(options).await).await;
        let fast = database.open().await.log(TENANT).await.unwrap();
        let mut inventory = slow.inventory.clone();
        let to = publication.clone();
        let publishing = tokio::spawn(async move { slow.log.publish(&to).await });
        tokio::task::spawn_blocking(move || is_reached.recv().unwrap())
            .await
            .unwrap();
        grow(&fast, &mut inventory, 300).await;
        let size = REGISTRATIONS + 300;
        assert_eq!(fast.publish(&publication).await.unwrap().size, size);
        go_on.send(()).unwrap();
        assert_eq!(publishing.await.unwrap().unwrap().from, size);
        let found = fast.fsck_with(Some(&publication), &mut |_, _| {}).await;
        assert!(found.unwrap().is_clean());
        let again = fast.publish(&publication).await.unwrap();
        assert_eq!((again.from, again.written), (size, 0));
    }
}
