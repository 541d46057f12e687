//! Tests: what is anchored after a loss, and by whom it is remembered.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as Guarded};

use async_trait::async_trait;
use counterfoil_chassis::{both_engines, testing::TestDatabase};
use counterfoil_engine::{Anchor, AnchorError, Cosignature, LogInfo};
use counterfoil_tlog::cosignature::Cosigner;
use counterfoil_tlog::hash::sha256;

use super::tests::{NOW_MS, Opened, config, open, open_with};
use super::*;
use crate::Offline;
use crate::config::LedgerConfig;
use crate::copies::Copied;
use crate::witnesses::{Witnessed, Witnesses};

/// Remembers nothing, and cannot be asked while it is away.
#[derive(Debug, Default)]
struct Away(AtomicBool);

#[async_trait]
impl Anchor for Away {
    fn name(&self) -> String {
        "the copy".to_owned()
    }

    async fn newest(&self, _log: &LogInfo) -> Result<Option<Vec<u8>>, AnchorError> {
        match self.0.load(Ordering::SeqCst) {
            true => Err(AnchorError {
                name: self.name(),
                reason: "away".to_owned(),
            }),
            false => Ok(None),
        }
    }
}

/// Brings logs back into a database.
async fn recover(db: &TestDatabase, folder: &Path, tenants: &[&str]) {
    let offline = Offline::open(&config(db, folder)).await.unwrap();
    for tenant in tenants {
        offline.recover(tenant, &mut |_, _| {}).await.unwrap();
    }
    offline.close().await;
}

/// A deployment of one log that was anchored, and whose database is another one by now, with all logs in it.
async fn lost(db: &TestDatabase, folder: &Path) -> TestDatabase {
    let opened = open(db, folder).await;
    opened.logs.create("acme").await.unwrap();
    assert_eq!(opened.anchorer().run_once().await.unwrap(), Some(1));
    opened.close().await;
    let lost = db.another().await;
    recover(&lost, folder, &["acme", ANCHOR]).await;
    lost
}

both_engines! {
    async fn no_epoch_is_signed_before_all_that_remembers_the_anchor_log_was_asked(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let copy = Arc::new(Away(AtomicBool::new(true)));
        let opened = open_with(&db, folder.path(), |options| options.anchors.push(copy.clone())).await;
        // Whoever writes does not wait for it; whoever claims does.
        opened.logs.create("acme").await.unwrap();
        let anchorer = opened.anchorer();
        let refused = anchorer.run_once().await.unwrap_err().to_string();
        assert!(refused.contains("away"), "{refused}");
        assert_eq!(opened.epochs().await, []);
        copy.0.store(false, Ordering::SeqCst);
        assert_eq!(anchorer.run_once().await.unwrap(), Some(1));
        // From then on the epochs follow each other.
        copy.0.store(true, Ordering::SeqCst);
        opened.grow("acme").await;
        assert_eq!(anchorer.run_once().await.unwrap(), Some(2));
        opened.close().await;
    }

    async fn the_first_epoch_is_stated_once_whatever_is_lost(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let note = config(&db, folder.path()).log_keys_dir();
        let note = note.join(format!("{}.begun", sha256(b"counterfoil.local/anchor")));
        let opened = open(&db, folder.path()).await;
        opened.logs.create("acme").await.unwrap();
        assert_eq!(opened.anchorer().run_once().await.unwrap(), Some(1));
        assert!(note.exists());
        // Without it nothing is refused; whoever finds an epoch writes it again.
        std::fs::remove_file(&note).unwrap();
        opened.grow("acme").await;
        assert_eq!(opened.anchorer().run_once().await.unwrap(), Some(2));
        assert!(note.exists());
        opened.close().await;
        // Lost is what has the log and what remembers it, but for the keys.
        let (lost, high_water) = (db.another().await, config(&db, folder.path()).high_water_dir());
        let away = folder.path().join("away");
        std::fs::rename(&high_water, &away).unwrap();
        let opened = open(&lost, folder.path()).await;
        opened.logs.create("acme").await.unwrap();
        let refused = opened.anchorer().run_once().await.unwrap_err();
        assert!(matches!(refused, LedgerError::NoEpoch(NoEpoch::Begun { .. })), "{refused}");
        // Not even a checkpoint is signed of a log that is begun anew.
        assert_eq!(opened.logs.tenants().await.unwrap(), ["acme"]);
        opened.close().await;
        // It comes back with what it stated, and goes on.
        std::fs::remove_dir_all(&high_water).unwrap();
        std::fs::rename(&away, &high_water).unwrap();
        let back = lost.another().await;
        recover(&back, folder.path(), &["acme", ANCHOR]).await;
        let opened = open(&back, folder.path()).await;
        assert_eq!(opened.anchorer().run_once().await.unwrap(), Some(3));
        opened.close().await;
        // Whoever takes the note away has been told what it says.
        std::fs::remove_file(&note).unwrap();
        std::fs::remove_dir_all(&high_water).unwrap();
        let empty = back.another().await;
        let opened = open(&empty, folder.path()).await;
        opened.logs.create("acme").await.unwrap();
        assert_eq!(opened.anchorer().run_once().await.unwrap(), Some(1));
        opened.close().await;
    }

    async fn replicas_that_find_the_same_loss_make_one_epoch(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let lost = lost(&db, folder.path()).await;
        let (one, other) = (open(&lost, folder.path()).await, open(&lost, folder.path()).await);
        one.grow("acme").await;
        // The other one has looked at the tables before this one was done, and at the anchor log after it.
        let before = other.logs.engine().newest_anchor_epoch().await.unwrap();
        assert_eq!(one.anchorer().run_once().await.unwrap(), Some(2));
        let mut known = Known::default();
        let opened = other.anchorer().open(other.logs.engine(), before, &mut known).await.unwrap();
        assert_eq!(opened, None);
        assert!(known.remembered.is_empty(), "nothing was lost that is not there again");
        assert_eq!(other.anchorer().run_once().await.unwrap(), None);
        makes_one(&one, 2).await;
        one.close().await;
        other.close().await;
        // At the same time.
        let again = lost.another().await;
        recover(&again, folder.path(), &["acme", ANCHOR]).await;
        let (one, other) = (open(&again, folder.path()).await, open(&again, folder.path()).await);
        let (first, second) = (one.anchorer(), other.anchorer());
        let (here, there) = tokio::join!(first.run_once(), second.run_once());
        let mut made = [here, there].into_iter().filter_map(|made| made.ok().flatten());
        assert!(made.all(|number| number == 3));
        while first.run_once().await.unwrap().is_some() {}
        assert_eq!(second.run_once().await.unwrap(), None);
        makes_one(&one, 3).await;
        one.close().await;
        other.close().await;
    }

    async fn who_asks_for_old_epochs_again_and_again_stands_in_line_once(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(&db, folder.path()).await;
        for tenant in ["acme", "beta"] {
            opened.logs.create(tenant).await.unwrap();
        }
        assert_eq!(opened.anchorer().run_once().await.unwrap(), Some(1));
        opened.grow("acme").await;
        assert_eq!(opened.anchorer().run_once().await.unwrap(), Some(2));
        let epochs = Epochs::new(opened.logs.clone(), None);
        let anchor = epochs.anchor().await.unwrap().unwrap();
        let (acme, beta) = (opened.logs.get("acme").await.unwrap(), opened.logs.get("beta").await.unwrap());
        let order = Guarded::new(Vec::new());
        let prove = async |log: &Log| {
            epochs.prove(&anchor, log, 1).await.unwrap().unwrap();
            order.lock().unwrap().push(log.info().tenant.clone());
        };
        // Somebody makes a map just now; all others come before that is done.
        let made = epochs.hold_older().await;
        tokio::join!(prove(&acme), prove(&acme), prove(&acme), prove(&acme), prove(&beta), async { drop(made) });
        let order = order.into_inner().unwrap();
        let at = order.iter().position(|tenant| tenant == "beta").unwrap();
        // Three calls of the other log follow each other, and this one waits for one of them at most.
        assert!(at < 4, "{order:?}");
        opened.close().await;
    }

    async fn that_nothing_has_a_quorum_is_looked_up_once_in_a_while(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(&db, folder.path()).await;
        let log = opened.logs.create("acme").await.unwrap();
        let cosigner = Cosigner::from_seed("witness.example/w", &[7; 32]).unwrap();
        let file = folder.path().join("policy");
        let text = format!("witness A {} http://127.0.0.1:1/\nquorum A\n", cosigner.vkey());
        std::fs::write(&file, text).unwrap();
        let settings = LedgerConfig {
            witness_policy_file: Some(file),
            ..LedgerConfig::default()
        };
        let clock = opened.clock.clock();
        let witnesses = Witnesses::open(&settings, &clock).unwrap().unwrap();
        let witnessed = Witnessed::new(witnesses.clone(), clock.clone());
        let other = Witnessed::new(witnesses, clock);
        for one in [&witnessed, &other] {
            assert_eq!(one.head(&log).await.unwrap(), None);
        }
        // Another replica is answered; this one does not search whatever anybody has cosigned with each receipt.
        let head = opened.head("acme").await;
        let checkpoint = counterfoil_tlog::Checkpoint {
            origin: log.info().origin.clone(),
            size: head.size,
            root: head.root,
        };
        let cosigned_at_s = NOW_MS.unsigned_abs() / 1000;
        let cosignature = Cosignature {
            size: head.size,
            witness: cosigner.verifier_key().clone(),
            cosigned_at_s,
            line: cosigner.cosign(&checkpoint, cosigned_at_s).unwrap().to_string(),
        };
        opened.logs.engine().keep_cosignatures(&[(&log, &cosignature)]).await.unwrap();
        assert_eq!(witnessed.head(&log).await.unwrap(), None);
        // Who hears of something looks again, even if what was heard of is thinned by now.
        let heard = Copied { size: head.size - 1, at_ms: 0, stopped: false };
        other.reached.published("acme", heard);
        assert_eq!(other.head(&log).await.unwrap().unwrap().size, head.size);
        opened.clock.advance_ms(10_000);
        assert_eq!(witnessed.head(&log).await.unwrap().unwrap().size, head.size);
        opened.close().await;
    }

    async fn witnesses_are_asked_for_the_logs_of_their_policy_only(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(&db, folder.path()).await;
        let acme = opened.logs.create("acme").await.unwrap();
        let beta = opened.logs.create("beta").await.unwrap();
        let key = Cosigner::from_seed("witness.example/w", &[7; 32]).unwrap().vkey();
        let file = folder.path().join("policy");
        // Nobody listens there.
        let text = format!("log {}\nwitness A {key} http://127.0.0.1:1/\nquorum A\n", acme.info().vkey);
        std::fs::write(&file, text).unwrap();
        let settings = LedgerConfig {
            witness_policy_file: Some(file),
            ..LedgerConfig::default()
        };
        let witnesses = Witnesses::open(&settings, &opened.clock.clock()).unwrap().unwrap();
        for anchor in witnesses.anchors() {
            // That the log is there is told to nobody whom it does not concern.
            assert_eq!(anchor.newest(beta.info()).await, Ok(None));
            anchor.newest(acme.info()).await.unwrap_err();
        }
        opened.close().await;
    }
}

/// The anchor log has so many epochs, and the last of them has the head of the one log.
async fn makes_one(opened: &Opened, epochs: usize) {
    let found = opened.epochs().await;
    assert_eq!(found.len(), epochs);
    let heads = BTreeMap::from([("acme", opened.head("acme").await)]);
    opened.proves(&found[epochs - 1], &heads).await;
}
