//! Tests: every head is anchored once, whatever fails in between, whoever else anchors, and whatever was lost.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex as Guarded};

use counterfoil_chassis::{TestClock, both_engines, testing, testing::TestDatabase};
use counterfoil_engine::{
    EngineOptions, EntryFilter, FaultPoint, Faults, Head, StoredEntry, Verdict,
};
use counterfoil_evidence::v1::TenantBound;
use counterfoil_tlog::hash::sha256;
use counterfoil_tlog::sparse_map::key_of;
use prost::Message as _;

use super::losses::recover;
use super::*;
use crate::store::conformance::tamper;
use crate::{Config, Offline};

pub(crate) const NOW_MS: i64 = 1_800_000_000_000;

/// The service's logs, without a network around them.
pub(crate) struct Opened {
    pub(crate) logs: Logs,
    pub(crate) clock: TestClock,
    pub(crate) chassis: counterfoil_chassis::Chassis,
}

impl Opened {
    pub(crate) fn anchorer(&self) -> Anchorer {
        let epochs = Epochs::new(self.logs.clone(), None);
        Anchorer::new(self.logs.clone(), epochs, self.clock.clock(), None)
    }

    pub(crate) async fn close(self) {
        self.logs.close().await;
    }

    /// Lets a tenant's log grow by one entry.
    pub(crate) async fn grow(&self, tenant: &str) {
        let log = self.logs.get(tenant).await.unwrap();
        self.logs.seal_epoch(&log).await.unwrap();
    }

    /// All epochs of the anchor log in order, each checked to follow the one before.
    pub(crate) async fn epochs(&self) -> Vec<HeadsAnchored> {
        let log = self.logs.engine().log(ANCHOR).await.unwrap();
        let filter = EntryFilter {
            record_type: Some(HeadsAnchored::full_name()),
            ..EntryFilter::default()
        };
        let entries = log.list(&filter, 0, u64::MAX, 1000).await.unwrap();
        let mut last = Last::default();
        let mut found = Vec::new();
        for entry in &entries {
            let Payload::HeadsAnchored(anchored) = read(entry).unwrap().1 else {
                panic!("of another type");
            };
            assert_eq!(anchored.epoch, last.number + 1, "no gap and none twice");
            assert_eq!(anchored.prev_epoch_hash, last.hash);
            last = Last::of(&anchored);
            found.push(anchored);
        }
        found
    }

    /// The map of an epoch, as far as the database can give its paths, proves these heads under the record's root.
    pub(crate) async fn proves(&self, anchored: &HeadsAnchored, expected: &BTreeMap<&str, Head>) {
        let engine = self.logs.engine();
        let newest = engine.newest_anchor_epoch().await.unwrap().unwrap();
        assert_eq!(newest.number, anchored.epoch);
        assert!(newest.index.is_some(), "it is closed");
        let heads = engine.anchored_heads(anchored.epoch).await.unwrap();
        let map = anchoring::map(&newest.secret, &heads).unwrap();
        assert_eq!(map.root().as_bytes().as_slice(), anchored.map_root);
        assert_eq!(heads.len(), expected.len());
        for (tenant, head) in expected {
            let origin = format!("counterfoil.local/t/{tenant}");
            let anchored = heads.iter().find(|one| one.origin == origin).unwrap();
            assert_eq!((anchored.size, anchored.root), (head.size, head.root));
            let path = map.path(&key_of(&origin));
            assert!(path.includes(&map.root(), &anchoring::leaf(&newest.secret, anchored)));
        }
        let nobody = key_of("counterfoil.local/t/nobody");
        assert!(map.path(&nobody).excludes(&map.root(), &nobody));
    }

    pub(crate) async fn head(&self, tenant: &str) -> Head {
        let log = self.logs.engine().log(tenant).await.unwrap();
        log.head().await.unwrap()
    }
}

pub(crate) fn config(db: &TestDatabase, folder: &Path) -> Config {
    testing::config("ledger", db, folder).into()
}

pub(crate) async fn open_with(
    db: &TestDatabase,
    folder: &Path,
    change: impl FnOnce(&mut EngineOptions),
) -> Opened {
    let config = config(db, folder);
    let clock = TestClock::new(NOW_MS);
    let anchors = crate::anchors(&config, None, None).unwrap();
    let mut options = crate::engine_options(&config, anchors, None);
    change(&mut options);
    let shutdown = CancellationToken::new();
    let opened = crate::open(config, clock.clock(), None, shutdown, options).await;
    let (chassis, logs) = opened.unwrap();
    Opened {
        logs,
        clock,
        chassis,
    }
}

pub(crate) async fn open(db: &TestDatabase, folder: &Path) -> Opened {
    open_with(db, folder, |_| {}).await
}

/// Fails once, at the n-th time that a point is reached.
#[derive(Debug)]
struct AtNth(Guarded<Option<(FaultPoint, u32)>>, Verdict);

impl Faults for AtNth {
    fn at(&self, point: FaultPoint) -> Verdict {
        let mut armed = self.0.lock().unwrap();
        match *armed {
            Some((wanted, 0)) if wanted == point => {
                *armed = None;
                self.1
            }
            Some((wanted, left)) if wanted == point => {
                *armed = Some((wanted, left - 1));
                Verdict::Proceed
            }
            _ => Verdict::Proceed,
        }
    }
}

/// Every durable step of an epoch: the anchor log is made, its first statements are appended, the epoch is opened, its logs are bound, it is
/// stated, it is closed.
const STEPS: [(FaultPoint, u32); 7] = [
    (FaultPoint::InsertLog, 0),
    (FaultPoint::Commit, 0),
    (FaultPoint::OpenEpoch, 0),
    (FaultPoint::Commit, 1),
    (FaultPoint::Commit, 2),
    (FaultPoint::CloseEpoch, 0),
    (FaultPoint::CloseEpoch, 1),
];

both_engines! {
    async fn the_heads_of_all_logs_are_anchored_and_no_name_is(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(&db, folder.path()).await;
        let anchorer = opened.anchorer();
        assert_eq!(anchorer.run_once().await.unwrap(), None, "there is no log");
        assert!(opened.logs.tenants().await.unwrap().is_empty());
        for tenant in ["acme", "beta"] {
            opened.logs.create(tenant).await.unwrap();
        }
        assert_eq!(anchorer.run_once().await.unwrap(), Some(1));
        assert_eq!(anchorer.run_once().await.unwrap(), None, "nothing has changed");
        opened.grow("beta").await;
        opened.logs.create("gamma").await.unwrap();
        assert_eq!(anchorer.run_once().await.unwrap(), Some(2));
        let epochs = opened.epochs().await;
        assert_eq!((epochs.len(), epochs[1].log_count), (2, 3));
        let mut heads = BTreeMap::new();
        for tenant in ["acme", "beta", "gamma"] {
            heads.insert(tenant, opened.head(tenant).await);
        }
        opened.proves(&epochs[1], &heads).await;
        // Each log was bound once, before its first head was anchored.
        let anchor = opened.logs.engine().log(ANCHOR).await.unwrap();
        assert_eq!(anchor.info().origin, "counterfoil.local/anchor");
        let all = anchor.entries(0, u64::MAX, 1000).await.unwrap();
        let mut bound = Vec::new();
        for tenant in heads.keys() {
            let vkey = opened.logs.get(tenant).await.unwrap().info().vkey.to_string();
            let payload = TenantBound { vkey_hash: sha256(vkey.as_bytes()).0.to_vec() };
            let payload = payload.encode_to_vec();
            let of_log = |entry: &&StoredEntry| read(entry).unwrap().0.payload == payload;
            let found: Vec<u64> = all.iter().filter(of_log).map(|entry| entry.index).collect();
            assert_eq!(found.len(), 1, "{tenant}");
            bound.push(found[0]);
        }
        let types: Vec<&str> = all.iter().map(|one| one.record_type.rsplit('.').next().unwrap()).collect();
        assert_eq!(types, [
            "ActorKeyRegistered", "SchemaRegistered", "TenantBound", "TenantBound", "HeadsAnchored", "TenantBound", "HeadsAnchored",
        ]);
        assert_eq!(bound[2], 5);
        // Whoever reads the anchor log learns nobody's name.
        for entry in &all {
            let text = String::from_utf8_lossy(&entry.bytes).into_owned();
            assert!(heads.keys().all(|tenant| !text.contains(tenant)), "{text}");
        }
        assert!(anchor.fsck().await.unwrap().is_clean());
        opened.close().await;
    }

    async fn a_failure_at_any_step_leaves_no_epoch_twice_and_none_out(db: TestDatabase) {
        for (point, nth) in STEPS {
            for verdict in [Verdict::Fail, Verdict::FailAfter] {
                let db = db.another().await;
                let folder = tempfile::tempdir().unwrap();
                let before = open(&db, folder.path()).await;
                before.logs.create("acme").await.unwrap();
                before.close().await;
                let faults = Arc::new(AtNth(Guarded::new(Some((point, nth))), verdict));
                let struck = open_with(&db, folder.path(), |options| options.faults = faults.clone()).await;
                let anchorer = struck.anchorer();
                let first = anchorer.run_once().await;
                if first.is_ok() {
                    struck.grow("acme").await;
                    let _ = anchorer.run_once().await;
                }
                assert!(faults.0.lock().unwrap().is_none(), "{point:?} {nth} is reached");
                // What was left is gone on with by another process, at another time.
                struck.close().await;
                let again = open(&db, folder.path()).await;
                again.clock.advance_ms(5_000);
                let anchorer = again.anchorer();
                while anchorer.run_once().await.unwrap().is_some() {}
                let heads = BTreeMap::from([("acme", again.head("acme").await)]);
                let epochs = again.epochs().await;
                again.proves(epochs.last().unwrap(), &heads).await;
                again.close().await;
            }
        }
    }

    async fn two_replicas_make_each_epoch_once(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (open(&db, folder.path()).await, open(&db, folder.path()).await);
        one.logs.create("acme").await.unwrap();
        let (first, second) = (one.anchorer(), other.anchorer());
        let mut made = Vec::new();
        for round in 0..20 {
            let (grown, here, there) = tokio::join!(
                async { if round % 2 == 0 { one.grow("acme").await } else { other.grow("acme").await } },
                first.run_once(),
                second.run_once(),
            );
            let () = grown;
            made.extend([here, there].into_iter().filter_map(|made| made.ok().flatten()));
        }
        while first.run_once().await.unwrap().is_some() {}
        let epochs = one.epochs().await;
        assert!(made.iter().all(|number| *number <= epochs.len() as u64));
        assert!(epochs.len() > 2, "{made:?}");
        let heads = BTreeMap::from([("acme", one.head("acme").await)]);
        one.proves(epochs.last().unwrap(), &heads).await;
        one.close().await;
        other.close().await;
    }

    async fn a_lost_anchor_log_is_not_begun_anew_and_goes_on_where_it_was(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(&db, folder.path()).await;
        for tenant in ["acme", "beta"] {
            opened.logs.create(tenant).await.unwrap();
        }
        assert_eq!(opened.anchorer().run_once().await.unwrap(), Some(1));
        opened.grow("acme").await;
        assert_eq!(opened.anchorer().run_once().await.unwrap(), Some(2));
        let before = opened.epochs().await;
        opened.close().await;
        // The database is lost; nothing was published. A tenant's log comes back first.
        let lost = db.another().await;
        let offline = Offline::open(&config(&lost, folder.path())).await.unwrap();
        assert!(offline.recoverable().await.unwrap().contains(&ANCHOR.to_owned()));
        offline.close().await;
        recover(&lost, folder.path(), &["acme"]).await;
        let opened = open(&lost, folder.path()).await;
        let refused = opened.anchorer().run_once().await.unwrap_err();
        assert!(matches!(refused, LedgerError::NoEpoch(NoEpoch::Begun { .. })), "{refused}");
        // So it is where nothing but the high-water file says that there was one.
        std::fs::remove_file(opened.logs.begun().file()).unwrap();
        let refused = opened.anchorer().run_once().await.unwrap_err().to_string();
        assert!(refused.contains("fell back"), "{refused}");
        let troubles = opened.logs.troubles();
        assert!(troubles.iter().any(|trouble| trouble.contains("counterfoil.local/anchor")), "{troubles:?}");
        opened.close().await;
        // The anchor log has a log that is not there yet.
        recover(&lost, folder.path(), &[ANCHOR]).await;
        let opened = open(&lost, folder.path()).await;
        let refused = opened.anchorer().run_once().await.unwrap_err();
        assert!(matches!(refused, LedgerError::NoEpoch(NoEpoch::Missing { anchored: 2, missing: 1 })), "{refused}");
        assert_eq!(opened.epochs().await, before);
        opened.close().await;
        // Another log does not stand for it.
        let opened = open(&lost, folder.path()).await;
        opened.logs.create("gamma").await.unwrap();
        let refused = opened.anchorer().run_once().await.unwrap_err();
        assert!(matches!(refused, LedgerError::NoEpoch(NoEpoch::Missing { anchored: 2, missing: 1 })), "{refused}");
        opened.close().await;
        recover(&lost, folder.path(), &["beta"]).await;
        let opened = open(&lost, folder.path()).await;
        assert_eq!(opened.anchorer().run_once().await.unwrap(), Some(3));
        let epochs = opened.epochs().await;
        assert_eq!(epochs[..2], before);
        let mut heads = BTreeMap::new();
        for tenant in ["acme", "beta", "gamma"] {
            heads.insert(tenant, opened.head(tenant).await);
        }
        opened.proves(&epochs[2], &heads).await;
        opened.close().await;
    }

    async fn a_log_that_came_back_shorter_than_it_was_anchored_stops_the_anchor_log(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let copies = format!("file://{}", folder.path().join("copies").display());
        let opened = open(&db, folder.path()).await;
        let published = crate::publisher::open(&copies).unwrap();
        for tenant in ["acme", "beta"] {
            opened.logs.create(tenant).await.unwrap().publish(&published).await.unwrap();
        }
        opened.grow("acme").await;
        assert_eq!(opened.anchorer().run_once().await.unwrap(), Some(1));
        let (before, anchored) = (opened.epochs().await, opened.head("acme").await);
        opened.close().await;
        // The database is lost, and what acme's copy has not is kept by nobody.
        let lost = db.another().await;
        let mut config = config(&lost, folder.path());
        config.ledger.publish_url = Some(copies);
        let file = |kind: &str| {
            let name = sha256(b"counterfoil.local/t/acme");
            config.high_water_dir().join(format!("{name}.{kind}"))
        };
        let (journal, away) = (file("records"), folder.path().join("away"));
        std::fs::rename(&journal, &away).unwrap();
        let offline = Offline::open(&config).await.unwrap();
        for tenant in ["beta", ANCHOR] {
            offline.recover(tenant, &mut |_, _| {}).await.unwrap();
        }
        offline.recover("acme", &mut |_, _| {}).await.unwrap_err();
        let opened = open(&lost, folder.path()).await;
        assert!((1..anchored.size).contains(&opened.head("acme").await.size));
        let refused = opened.anchorer().run_once().await.unwrap_err().to_string();
        assert!(refused.contains("counterfoil.local/t/acme") && refused.contains("high-water"), "{refused}");
        assert!(opened.logs.troubles().iter().any(|trouble| trouble.contains("t/acme")));
        // That nothing remembers it is no reason either.
        let high_water = file("checkpoint");
        let remembered = std::fs::read(&high_water).unwrap();
        std::fs::remove_file(&high_water).unwrap();
        let refused = opened.anchorer().run_once().await.unwrap_err();
        assert!(matches!(refused, LedgerError::NoEpoch(NoEpoch::Forgotten { .. })), "{refused}");
        std::fs::write(&high_water, remembered).unwrap();
        assert_eq!(opened.epochs().await, before);
        opened.close().await;
        std::fs::rename(&away, &journal).unwrap();
        offline.recover("acme", &mut |_, _| {}).await.unwrap();
        offline.close().await;
        let opened = open(&lost, folder.path()).await;
        assert_eq!(opened.anchorer().run_once().await.unwrap(), Some(2));
        let heads = BTreeMap::from([("acme", anchored), ("beta", opened.head("beta").await)]);
        opened.proves(&opened.epochs().await[1], &heads).await;
        opened.close().await;
    }

    async fn what_no_key_has_signed_is_not_anchored_nor_proved(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(&db, folder.path()).await;
        for tenant in ["acme", "beta"] {
            opened.logs.create(tenant).await.unwrap();
        }
        assert_eq!(opened.anchorer().run_once().await.unwrap(), Some(1));
        let anchored = BTreeMap::from([("acme", opened.head("acme").await)]);
        // A row that somebody changed, or that rots: its head seems to be further than anybody has signed.
        tamper(&opened.chassis.db, "UPDATE log_heads SET size = size + 7 WHERE log_id = (SELECT log_id FROM logs WHERE tenant = 'acme')").await;
        assert_eq!(opened.anchorer().run_once().await.unwrap(), None);
        opened.grow("beta").await;
        // The clock goes back; epochs do not.
        opened.clock.set_ms(NOW_MS - 60_000);
        assert_eq!(opened.anchorer().run_once().await.unwrap(), Some(2));
        let epochs = opened.epochs().await;
        assert!(epochs[1].anchored_at_ms >= epochs[0].anchored_at_ms);
        let heads = BTreeMap::from([("acme", anchored["acme"].clone()), ("beta", opened.head("beta").await)]);
        opened.proves(&epochs[1], &heads).await;
        // Nothing is proved by what is kept of an epoch, unless it is what was stated.
        let epochs = Epochs::new(opened.logs.clone(), None);
        let log = opened.logs.get("beta").await.unwrap();
        let anchor = epochs.anchor().await.unwrap().unwrap();
        assert!(epochs.prove(&anchor, &log, 2).await.unwrap().is_some());
        tamper(&opened.chassis.db, "UPDATE log_anchored_heads SET size = size + 1").await;
        let epochs = Epochs::new(opened.logs.clone(), None);
        assert_eq!(epochs.prove(&anchor, &log, 2).await.unwrap(), None);
        // Nor does the next epoch rest on it; and it leaves out no log that was anchored.
        let refused = opened.anchorer().run_once().await.unwrap_err();
        assert!(matches!(refused, LedgerError::Engine(EngineError::Damaged { .. })), "{refused}");
        tamper(&opened.chassis.db, "UPDATE log_heads SET size = size - 7 WHERE log_id = (SELECT log_id FROM logs WHERE tenant = 'acme')").await;
        assert_eq!(opened.anchorer().run_once().await.unwrap(), Some(3));
        opened.proves(&opened.epochs().await[2], &heads).await;
        opened.close().await;
    }

    async fn a_head_that_cannot_be_read_keeps_no_other_from_being_anchored(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(&db, folder.path()).await;
        for tenant in ["acme", "beta"] {
            opened.logs.create(tenant).await.unwrap();
        }
        assert_eq!(opened.anchorer().run_once().await.unwrap(), Some(1));
        let acme = opened.head("acme").await;
        tamper(&opened.chassis.db, "UPDATE log_heads SET root = substr(root, 1, 3) WHERE log_id = (SELECT log_id FROM logs WHERE tenant = 'acme')").await;
        opened.grow("beta").await;
        // A new process knows no more than the database.
        assert_eq!(opened.anchorer().run_once().await.unwrap(), Some(2));
        let heads = BTreeMap::from([("acme", acme), ("beta", opened.head("beta").await)]);
        opened.proves(&opened.epochs().await[1], &heads).await;
        let troubles = opened.logs.troubles();
        assert!(troubles.iter().any(|trouble| trouble.contains("t/acme")), "{troubles:?}");
        let lag = Epochs::new(opened.logs.clone(), None).lag(NOW_MS).await.unwrap();
        assert_eq!(lag.logs, 1, "how far it is nobody knows");
        tamper(&opened.chassis.db, "UPDATE log_heads SET root = (SELECT root FROM log_anchored_heads anchored WHERE anchored.log_id = log_heads.log_id AND epoch = 1) \
            WHERE log_id = (SELECT log_id FROM logs WHERE tenant = 'acme')").await;
        opened.grow("acme").await;
        assert_eq!(opened.anchorer().run_once().await.unwrap(), Some(3));
        assert_eq!(opened.logs.troubles(), [""; 0]);
        opened.close().await;
    }

    async fn what_another_replica_anchored_is_rested_on_only_if_it_is_all_there(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (open(&db, folder.path()).await, open(&db, folder.path()).await);
        for tenant in ["acme", "beta"] {
            one.logs.create(tenant).await.unwrap();
        }
        let (first, second) = (one.anchorer(), other.anchorer());
        assert_eq!(first.run_once().await.unwrap(), Some(1));
        one.grow("acme").await;
        assert_eq!(second.run_once().await.unwrap(), Some(2));
        // Of acme neither its head can be read now nor what the other replica has anchored of it.
        tamper(&one.chassis.db, "UPDATE log_anchored_heads SET root = substr(root, 1, 3) WHERE epoch = 2").await;
        tamper(&one.chassis.db, "UPDATE log_heads SET root = substr(root, 1, 3) WHERE log_id = (SELECT log_id FROM logs WHERE tenant = 'acme')").await;
        one.grow("beta").await;
        let refused = first.run_once().await.unwrap_err();
        assert!(matches!(refused, LedgerError::NoEpoch(_)), "{refused}");
        one.close().await;
        other.close().await;
    }

    async fn what_is_kept_of_epochs_and_cannot_be_read_is_found_and_rested_on_by_nobody(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(&db, folder.path()).await;
        for tenant in ["acme", "beta", "gamma"] {
            opened.logs.create(tenant).await.unwrap();
            opened.anchorer().run_once().await.unwrap();
        }
        let offline = Offline::open(&config(&db, folder.path())).await.unwrap();
        let found = async || {
            let report = offline.fsck(ANCHOR, &mut |_, _| {}).await.unwrap();
            report.problems.into_iter().map(|problem| problem.what).collect::<Vec<_>>()
        };
        assert_eq!(found().await, [""; 0]);
        // A head that is lost is taken in anew.
        tamper(&opened.chassis.db, "UPDATE log_anchored_heads SET root = substr(root, 1, 3) WHERE epoch = 2").await;
        assert_eq!(found().await, [
            "epoch 2: the map over its heads is not the one that was anchored",
            "epoch 3: the map over its heads is not the one that was anchored",
        ]);
        assert_eq!(opened.anchorer().run_once().await.unwrap(), Some(4));
        tamper(&opened.chassis.db, "UPDATE log_anchor_epochs SET secret = substr(secret, 1, 3) WHERE epoch IN (2, 4)").await;
        assert_eq!(found().await, [
            "epoch 4: what is stored cannot be read: column secret has an unexpected value",
            "epoch 2: what is stored cannot be read: column secret has an unexpected value",
            "epoch 3: the map over its heads is not the one that was anchored",
        ]);
        // For the alarm it is no outage.
        let refused = opened.anchorer().run_once().await.unwrap_err();
        assert!(matches!(refused, LedgerError::Engine(EngineError::Damaged { .. })), "{refused}");
        offline.close().await;
        opened.close().await;
    }

    async fn what_is_kept_of_epochs_is_checked_in_full(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(&db, folder.path()).await;
        let anchorer = opened.anchorer();
        for tenant in ["acme", "beta", "gamma"] {
            opened.logs.create(tenant).await.unwrap();
            anchorer.run_once().await.unwrap();
        }
        let offline = Offline::open(&config(&db, folder.path())).await.unwrap();
        let found = async || {
            let report = offline.fsck(ANCHOR, &mut |_, _| {}).await.unwrap();
            report.problems.into_iter().map(|problem| problem.what).collect::<Vec<_>>()
        };
        assert_eq!(found().await, [""; 0]);
        let secret = "UPDATE log_anchor_epochs SET secret = (SELECT other.secret FROM log_anchor_epochs other WHERE other.epoch = 3) WHERE epoch = 1";
        tamper(&opened.chassis.db, secret).await;
        assert_eq!(found().await, ["epoch 1: the map over its heads is not the one that was anchored"]);
        tamper(&opened.chassis.db, "UPDATE log_anchor_epochs SET idx = idx - 1 WHERE epoch = 2").await;
        tamper(&opened.chassis.db, "UPDATE log_anchor_epochs SET idx = idx + 1000 WHERE epoch = 3").await;
        assert_eq!(found().await, [
            "epoch 3: the anchor log does not have its record",
            "epoch 2: its record says something else",
            "epoch 1: the map over its heads is not the one that was anchored",
        ]);
        offline.close().await;
        opened.close().await;
    }

    async fn an_epoch_opened_before_the_anchor_log_came_back_is_taken_back(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(&db, folder.path()).await;
        opened.logs.create("acme").await.unwrap();
        assert_eq!(opened.anchorer().run_once().await.unwrap(), Some(1));
        // What a database says that came back from a backup: another second epoch than was stated.
        let mut known = Known::default();
        let engine = opened.logs.engine();
        opened.grow("acme").await;
        let newest = engine.newest_anchor_epoch().await.unwrap();
        let stated = opened.anchorer().open(engine, newest, &mut known).await.unwrap().unwrap();
        let log = opened.logs.get(ANCHOR).await.unwrap();
        let other = HeadsAnchored { map_root: vec![7; 32], ..anchoring::payload(&stated).unwrap() };
        opened.logs.state_now(&log, vec![Statement::heads_anchored(2, &other)]).await.unwrap();
        assert_eq!(opened.anchorer().run_once().await.unwrap(), None);
        assert_eq!(opened.anchorer().run_once().await.unwrap(), Some(3));
        let epochs = opened.epochs().await;
        assert_eq!(epochs[1].map_root, [7; 32]);
        let heads = BTreeMap::from([("acme", opened.head("acme").await)]);
        opened.proves(&epochs[2], &heads).await;
        opened.close().await;
    }
}
