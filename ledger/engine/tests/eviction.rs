//! Old entries leave the database once the copy has them, and everything reads as before.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "support/odd_store.rs"]
mod odd_store;
mod support;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use counterfoil_engine::{
    EngineError, EngineOptions, EntryFilter, Evicted, Log, Publication, ScrubStep, StoredEntry,
};
use counterfoil_evidence::record::{decode_entry, decode_record};
use counterfoil_tlog::tile::TilePath;
use object_store::local::LocalFileSystem;
use odd_store::{Odd, OddStore};
use sqlx::Row as _;
use support::foreign::Exported;
use support::{Database, Fixture, databases, fixture_on, ownership, receipts, sqlite};

const BEGIN_MS: i64 = 1_800_000_000_000;
const DAY_MS: i64 = 86_400_000;

fn publication(folder: &Path) -> Publication {
    let store = LocalFileSystem::new_with_prefix(folder).unwrap();
    Publication::new(Arc::new(store.with_fsync(true)), "")
}

struct World {
    database: Database,
    folder: tempfile::TempDir,
    copy: Publication,
    fixture: Fixture,
}

impl World {
    /// A log of 512 entries of the first day and 300 of the second.
    async fn new(database: Database) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let copy = publication(folder.path());
        Self::with(database, folder, copy).await
    }

    async fn with(database: Database, folder: tempfile::TempDir, copy: Publication) -> Self {
        let options = EngineOptions {
            anchors: vec![Arc::new(copy.clone())],
            copy: Some(copy.clone()),
            ..EngineOptions::default()
        };
        let fixture = fixture_on(database.open_with(options).await).await;
        let mut world = Self {
            database,
            folder,
            copy,
            fixture,
        };
        world.append(512 - support::REGISTRATIONS).await;
        world.database.clock.0.fetch_add(DAY_MS, Ordering::SeqCst);
        world.append(300).await;
        world
    }

    async fn append(&mut self, count: u64) {
        let inventory = &mut self.fixture.inventory;
        let records = (0..count).map(|number| {
            let subject = format!("accounts/{}", number % 50);
            inventory.next(&ownership(number), &[&subject])
        });
        let records = records.collect();
        receipts(self.log().append(records).await.unwrap());
    }

    fn log(&self) -> &Log {
        &self.fixture.log
    }

    async fn publish(&self) {
        self.log().publish(&self.copy).await.unwrap();
    }

    async fn evict(&self, before_ms: i64) -> Evicted {
        self.log().evict(&self.copy, before_ms, 100).await.unwrap()
    }

    /// How many entries have no bytes in the database.
    async fn blank(&self) -> i64 {
        use sqlx::Connection as _;
        let mut connection = sqlx::AnyConnection::connect(&self.database.url)
            .await
            .unwrap();
        let row = sqlx::query("SELECT COUNT(*) AS blank FROM log_entries WHERE LENGTH(entry) = 0")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        row.try_get("blank").unwrap()
    }

    fn bundle(&self, n: u64) -> std::path::PathBuf {
        self.folder.path().join(format!("acme/tile/entries/00{n}"))
    }
}

/// All that can be read of a log, but for what a new signature or time changes.
#[derive(Debug, PartialEq, Eq)]
struct Everything {
    entries: Vec<StoredEntry>,
    one: Option<StoredEntry>,
    by_subject: Vec<StoredEntry>,
    by_type: Vec<StoredEntry>,
    last: Vec<(String, StoredEntry)>,
    receipts: Vec<String>,
    files: Vec<(String, Vec<u8>)>,
    head: String,
}

async fn everything(log: &Log) -> Everything {
    let entries = log.entries(0, u64::MAX, 10_000).await.unwrap();
    let record = decode_record(&decode_entry(&entries[5].bytes).unwrap().record).unwrap();
    let id: [u8; 16] = record.record_id.try_into().unwrap();
    let by = |subject: Option<&str>, record_type: Option<&str>| EntryFilter {
        subject: subject.map(str::to_owned),
        record_type: record_type.map(str::to_owned),
        ..EntryFilter::default()
    };
    let head = log.head().await.unwrap();
    let mut export = log.export(head.size).await.unwrap();
    let mut files = Vec::new();
    while let Some(file) = export.next().await.unwrap() {
        files.push((file.path, file.content));
    }
    let kind = "counterfoil.evidence.v1.ActorKeyRegistered";
    Everything {
        one: log.entry_by_record(&id).await.unwrap(),
        by_subject: log
            .list(&by(Some("accounts/7"), None), 0, u64::MAX, 100)
            .await
            .unwrap(),
        by_type: log
            .list(&by(None, Some(kind)), 0, u64::MAX, 100)
            .await
            .unwrap(),
        last: log.last_of_streams(400).await.unwrap(),
        receipts: log.receipts(&head, &entries[..300]).await.unwrap(),
        files,
        head: log.checkpoint_at(300).await.unwrap(),
        entries,
    }
}

async fn is_whole(log: &Log, copy: &Publication) {
    let found = log.fsck_with(Some(copy), &mut |_, _| {}).await.unwrap();
    assert!(found.is_clean(), "{:?}", found.problems);
    let scrubbed = log.scrub(None, 1000, Some(copy)).await.unwrap();
    assert!(matches!(scrubbed, ScrubStep::Whole(_)), "{scrubbed:?}");
}

#[tokio::test]
async fn what_has_left_the_database_is_read_from_the_copy_as_if_it_had_not() {
    for database in databases() {
        let mut world = World::new(database).await;
        world.publish().await;
        let before = everything(world.log()).await;
        // Two bundles are of the first day, and one, not full, stays whatever its age.
        assert_eq!(
            world.evict(BEGIN_MS + 1).await,
            Evicted { from: 0, to: 512 }
        );
        assert_eq!(world.blank().await, 512);
        assert_eq!(everything(world.log()).await, before);
        is_whole(world.log(), &world.copy).await;
        let status = world.log().status(Some(&world.copy), None).await.unwrap();
        assert_eq!((status.evicted, status.is_in_order()), (512, true));
        assert_eq!(world.fixture.engine.evicted().await.unwrap(), 512);
        assert_eq!(world.evict(i64::MAX).await, Evicted { from: 512, to: 768 });
        assert_eq!(everything(world.log()).await, before);
        // It goes on growing, also in another process, and what was acknowledged is known.
        world.fixture.engine.close().await;
        let options = EngineOptions {
            copy: Some(world.copy.clone()),
            ..EngineOptions::default()
        };
        let engine = world.database.open_with(options).await;
        world.fixture.log = engine.log(support::TENANT).await.unwrap();
        let again = decode_entry(&before.entries[100].bytes).unwrap();
        let again = counterfoil_engine::SignedRecord {
            record: again.record,
            key_id: again.record_key_id,
            signature: again.record_signature,
        };
        let known = receipts(world.log().append(vec![again]).await.unwrap());
        assert_eq!(known[0].index, 100);
        world.append(300).await;
        world.publish().await;
        is_whole(world.log(), &world.copy).await;
        Exported::published(&world.folder.path().join("acme"))
            .verify(&world.log().info().vkey.to_string());
        engine.close().await;
    }
}

#[tokio::test]
async fn nothing_leaves_that_is_young_or_not_in_the_copy() {
    let world = World::new(sqlite()).await;
    let nothing = Evicted { from: 0, to: 0 };
    assert_eq!(world.evict(i64::MAX).await, nothing, "never published");
    world.publish().await;
    assert_eq!(world.evict(BEGIN_MS).await, nothing, "of this very time");
    let one = world.log().evict(&world.copy, i64::MAX, 1).await.unwrap();
    assert_eq!(one, Evicted { from: 0, to: 256 }, "one bundle at a time");
    assert_eq!(world.blank().await, 256);
    // The copy has the last bundle, and the database keeps it: a log is written without its copy.
    assert_eq!(world.evict(i64::MAX).await, Evicted { from: 256, to: 768 });
    assert_eq!(world.evict(i64::MAX).await, Evicted { from: 768, to: 768 });
}

#[tokio::test]
async fn a_log_grows_while_its_copy_is_out_of_reach_and_says_what_cannot_be_read() {
    let mut world = World::new(sqlite()).await;
    world.publish().await;
    world.evict(i64::MAX).await;
    let (here, away) = (
        world.folder.path().join("acme"),
        world.folder.path().join("x"),
    );
    std::fs::rename(&here, &away).unwrap();
    for asked in [0, 300, 767] {
        let refused = world.log().entry(asked).await.unwrap_err();
        assert!(
            matches!(refused, EngineError::Publication { .. }),
            "{refused}"
        );
    }
    assert!(world.log().entry(768).await.unwrap().is_some());
    world.append(3).await;
    let head = world.log().head().await.unwrap();
    assert!(world.log().consistency(5, head.size).await.is_ok());
    assert_eq!(world.log().stopped().await.unwrap(), None);
    std::fs::rename(&away, &here).unwrap();
    is_whole(world.log(), &world.copy).await;
    // Nowhere to read from at all.
    world.fixture.engine.close().await;
    let engine = world.database.open().await;
    let log = engine.log(support::TENANT).await.unwrap();
    let refused = log.entry(0).await.unwrap_err().to_string();
    assert!(refused.contains("none is configured"), "{refused}");
    engine.close().await;
}

#[tokio::test]
async fn a_copy_that_differs_or_has_lost_what_nobody_else_has_stops_the_log() {
    for (gone, evict_first) in [(false, false), (false, true), (true, true)] {
        let mut world = World::new(sqlite()).await;
        world.publish().await;
        if evict_first {
            world.evict(i64::MAX).await;
        }
        let bundle = world.bundle(1);
        if gone {
            std::fs::remove_file(&bundle).unwrap();
        } else {
            let mut bytes = std::fs::read(&bundle).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            std::fs::write(&bundle, bytes).unwrap();
        }
        let found = if evict_first {
            // The other bundles are still read.
            assert!(world.log().entry(0).await.unwrap().is_some());
            world.log().entry(511).await.unwrap_err()
        } else {
            world
                .log()
                .evict(&world.copy, i64::MAX, 100)
                .await
                .unwrap_err()
        };
        assert!(matches!(found, EngineError::Damaged { .. }), "{found}");
        assert!(world.log().stopped().await.unwrap().is_some());
        let blank = if evict_first { 768 } else { 0 };
        assert_eq!(world.blank().await, blank);
        let record = world.fixture.inventory.next(&ownership(1), &[]);
        let refused = world.log().append(vec![record]).await.unwrap_err();
        assert!(matches!(refused, EngineError::Damaged { .. }), "{refused}");
    }
}

#[tokio::test]
async fn what_the_copy_has_lost_stays_in_the_database_until_it_is_back() {
    let world = World::new(sqlite()).await;
    world.publish().await;
    std::fs::remove_file(world.bundle(1)).unwrap();
    assert_eq!(world.evict(i64::MAX).await, Evicted { from: 0, to: 256 });
    assert_eq!(world.evict(i64::MAX).await, Evicted { from: 256, to: 256 });
    assert_eq!(world.log().stopped().await.unwrap(), None);
    assert!(world.log().fsck().await.unwrap().is_clean());
    world
        .log()
        .scrub(None, 100, Some(&world.copy))
        .await
        .unwrap();
    assert_eq!(world.evict(i64::MAX).await, Evicted { from: 256, to: 768 });
    is_whole(world.log(), &world.copy).await;
}

#[tokio::test]
async fn one_odd_answer_of_the_store_stops_nothing() {
    for other in ["acme/tile/entries/002", "acme/nowhere"] {
        let folder = tempfile::tempdir().unwrap();
        let odd: Odd = Arc::new(Mutex::new(None));
        let copy = Publication::new(Arc::new(OddStore::new(folder.path(), &odd)), "");
        let world = World::with(sqlite(), folder, copy).await;
        world.publish().await;
        let answers = |file| *odd.lock().unwrap() = Some((file, other));
        let was_odd = || odd.lock().unwrap().is_none();
        // Before anything leaves, when all is hashed again, and when what has left is read.
        answers("acme/tile/entries/001");
        let evicted = world.log().evict(&world.copy, i64::MAX, 2).await.unwrap();
        assert_eq!(evicted, Evicted { from: 0, to: 512 });
        assert!(was_odd());
        answers("acme/tile/0/002");
        let scrubbed = world.log().scrub(None, 100, Some(&world.copy)).await;
        assert!(scrubbed.is_ok() && was_odd(), "{scrubbed:?}");
        answers("acme/tile/entries/000");
        assert!(world.log().entry(7).await.unwrap().is_some() && was_odd());
        assert_eq!(world.log().stopped().await.unwrap(), None);
    }
}

/// Statements that whoever works on the database by hand could run, after the first bundle was evicted.
const REFUSED: [&str; 6] = [
    "UPDATE log_entries SET entry = '' WHERE idx = 300",
    "UPDATE log_entries SET entry = leaf_hash WHERE idx = 3",
    "UPDATE log_entries SET entry = '', stream = 'x' WHERE idx = 3",
    "DELETE FROM log_entries WHERE idx = 3",
    "UPDATE log_heads SET evicted = 0",
    "UPDATE log_heads SET evicted = 812",
];

#[tokio::test]
async fn the_way_past_the_rule_that_entries_stay_is_narrow() {
    use sqlx::Connection as _;
    for database in databases() {
        let world = World::new(database).await;
        world.publish().await;
        let one = world.log().evict(&world.copy, i64::MAX, 1).await.unwrap();
        assert_eq!(one.to, 256);
        let mut connection = sqlx::AnyConnection::connect(&world.database.url)
            .await
            .unwrap();
        for statement in REFUSED {
            let done = sqlx::raw_sql(statement).execute(&mut connection).await;
            assert!(done.is_err(), "{}: {statement}", world.database.name);
        }
        connection.close().await.unwrap();
        is_whole(world.log(), &world.copy).await;
        world.fixture.engine.close().await;
    }
}

#[tokio::test]
async fn an_entry_that_lost_its_bytes_and_was_not_evicted_is_damage() {
    let world = World::new(sqlite()).await;
    world.publish().await;
    world
        .database
        .tamper("DROP TRIGGER log_entries_keep_update; UPDATE log_entries SET entry = x'' WHERE idx = 300")
        .await;
    let found = world.log().entry(300).await.unwrap_err().to_string();
    assert!(
        found.contains("entry 300 does not have its leaf hash"),
        "{found}"
    );
}

#[tokio::test]
async fn a_mark_of_what_has_left_that_is_not_so_is_found() {
    let world = World::new(sqlite()).await;
    world.publish().await;
    world.evict(i64::MAX).await;
    for mark in [
        "DROP TRIGGER log_heads_keep_evicted; UPDATE log_heads SET evicted = 512",
        "UPDATE log_heads SET evicted = 0",
    ] {
        world.database.tamper(mark).await;
        let found = world
            .log()
            .fsck_with(Some(&world.copy), &mut |_, _| {})
            .await
            .unwrap();
        let told = |what: &str| {
            found
                .problems
                .iter()
                .any(|problem| problem.what.contains(what))
        };
        assert!(
            told("other entries have left the database than it says"),
            "{:?}",
            found.problems
        );
    }
}

#[tokio::test]
async fn a_tile_of_entries_is_served_from_the_copy() {
    let world = World::new(sqlite()).await;
    world.publish().await;
    world.evict(i64::MAX).await;
    for file in ["tile/entries/001", "tile/entries/001.p/44"] {
        let path = TilePath::parse(file).unwrap();
        let bytes = world.log().tile(&path).await.unwrap().unwrap();
        let full = std::fs::read(world.bundle(1)).unwrap();
        assert!(full.starts_with(&bytes) && !bytes.is_empty());
    }
}
