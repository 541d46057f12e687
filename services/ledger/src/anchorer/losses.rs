//! Tests: what is anchored after a loss, and by whom it is remembered.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as Guarded};

use async_trait::async_trait;
use counterfoil_chassis::{both_engines, testing::TestDatabase};
use counterfoil_engine::{Anchor, AnchorError, LogInfo};
use counterfoil_tlog::hash::sha256;
use tokio::sync::Notify;

use super::tests::{Opened, config, open, open_with};
use super::*;
use crate::Offline;

/// What takes longer fails the test.
const PATIENCE: Duration = Duration::from_secs(60);

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
pub(super) async fn recover(db: &TestDatabase, folder: &Path, tenants: &[&str]) {
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
        // Somebody makes a map just now; all others come before that is done, and one more for the next map after them.
        let (made, beta_is_done) = (epochs.hold_older().await, Notify::new());
        let stand_in_line = async {
            drop(made);
            let _next = epochs.hold_older().await;
            beta_is_done.notified().await;
            // Three calls of the other log follow each other: one was before this one, and nobody else comes to a map now.
            let done = order.lock().unwrap().iter().filter(|tenant| *tenant == "acme").count();
            assert!(done <= 1, "{done}");
        };
        let of_beta = async {
            prove(&beta).await;
            beta_is_done.notify_one();
        };
        let all = async { tokio::join!(prove(&acme), prove(&acme), prove(&acme), prove(&acme), of_beta, stand_in_line) };
        tokio::time::timeout(PATIENCE, all).await.expect("they wait for each other");
        assert_eq!(order.into_inner().unwrap().len(), 5);
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
