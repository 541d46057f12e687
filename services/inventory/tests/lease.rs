//! Who runs a sync stays its owner however long it takes, and lets go when it is somebody else's.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::time::Duration;

use counterfoil_chassis::{
    Database, Engine, ReadTx, WriteTx, both_engines, db::READERS_MAX, testing::TestDatabase,
};
use counterfoil_inventory::{
    config::InventoryConfig,
    error::Result,
    jobs::{Progress, SyncJob},
    store::syncs::{self, State, SyncRow},
};
use support::{Estate, Gate, Lab, TENANT};
use tokio::task::JoinHandle;

/// Much longer than any of this takes; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(20);
const SHORT_MS: i64 = 300;

fn short() -> InventoryConfig {
    InventoryConfig {
        lease_ms: SHORT_MS,
        ..InventoryConfig::default()
    }
}

/// A sync that has read everything and stands at the gate.
async fn held(lab: &Lab, gate: &Gate) -> (String, JoinHandle<Result<Progress>>) {
    let id = lab.ask("hr").await;
    let job: SyncJob = lab.job.clone();
    let runs = tokio::spawn(async move { job.run_once().await });
    tokio::time::timeout(PATIENCE, gate.arrival())
        .await
        .unwrap();
    (id, runs)
}

/// The row as it is, read where nobody who holds the readers is in the way.
async fn row(lab: &Lab, id: &str) -> SyncRow {
    let mut tx = lab.db.write_tx(TENANT).await.unwrap();
    let row = syncs::get_in(&mut tx, id).await.unwrap().unwrap();
    tx.rollback().await.unwrap();
    row
}

/// Lets the lease run out by the clock, and waits until it is renewed.
async fn outlive_a_lease(lab: &Lab, id: &str) {
    lab.clock.advance_ms(SHORT_MS);
    let now_ms = lab.clock.clock().now_ms();
    let renewed = async {
        while row(lab, id).await.lease_until_ms <= now_ms {
            tokio::task::yield_now().await;
        }
    };
    let renewed = tokio::time::timeout(PATIENCE, renewed).await;
    renewed.expect("the lease was not renewed");
}

/// What keeps everybody from reading the grants of the current inventory.
enum Barrier {
    Sqlite(Vec<ReadTx>),
    Postgres(WriteTx),
}

impl Barrier {
    async fn close(db: &Database) -> Self {
        match db.engine() {
            Engine::Sqlite => {
                let mut all = Vec::new();
                for _ in 0..READERS_MAX {
                    all.push(db.read(TENANT).await.unwrap());
                }
                Self::Sqlite(all)
            }
            Engine::Postgres => {
                // Another tenant's transaction: the tenant's own lock stays free.
                let mut tx = db.write_tx("barrier").await.unwrap();
                let lock = "LOCK TABLE grants IN ACCESS EXCLUSIVE MODE";
                sqlx::query(lock).execute(tx.conn()).await.unwrap();
                Self::Postgres(tx)
            }
        }
    }

    async fn open(self) {
        match self {
            Self::Sqlite(all) => drop(all),
            Self::Postgres(tx) => tx.rollback().await.unwrap(),
        }
    }
}

both_engines! {
    /// A source that takes long to count itself (a directory is searched anew for that) is still being read.
    async fn a_sync_stays_ours_while_the_source_counts_itself(db: TestDatabase) {
        let (lab, gate) = Lab::gated(&db, short()).await;
        lab.add_source("hr", &Estate::small()).await;
        let (id, runs) = held(&lab, &gate).await;
        let other = Lab::job_of(&lab.shop);
        for _ in 0..3 {
            outlive_a_lease(&lab, &id).await;
            other.recover(false).await.unwrap();
            assert_eq!(row(&lab, &id).await.state, State::Running);
        }
        // A watcher sees how far it has come.
        assert_eq!(row(&lab, &id).await.counts.read.grants, 3);
        gate.open.add_permits(1);
        assert_eq!(runs.await.unwrap().unwrap(), Progress::Sealed);
        let sealed = lab.get(&id).await;
        assert_eq!((sealed.state, sealed.attempts), (State::Complete, 1), "{sealed:?}");
    }

    /// Comparing writes nothing when nothing has changed, and takes as long as there are grants.
    async fn a_sync_stays_ours_while_it_compares_and_writes_nothing(db: TestDatabase) {
        let (lab, gate) = Lab::gated(&db, short()).await;
        lab.add_source("hr", &Estate::small()).await;
        gate.open.add_permits(1);
        assert_eq!(lab.sync("hr").await.state, State::Complete);
        gate.arrival().await;
        let (id, runs) = held(&lab, &gate).await;
        let barrier = Barrier::close(&lab.db).await;
        gate.open.add_permits(1);
        for _ in 0..3 {
            outlive_a_lease(&lab, &id).await;
        }
        assert_eq!(row(&lab, &id).await.state, State::Running);
        barrier.open().await;
        assert_eq!(runs.await.unwrap().unwrap(), Progress::Sealed);
        let sealed = lab.get(&id).await;
        assert_eq!((sealed.state, sealed.attempts), (State::Complete, 1), "{sealed:?}");
    }

    /// However late a sign of life is: the idle workers of a process leave alone what it runs, another process does not.
    async fn a_process_does_not_take_its_own_sync_away(db: TestDatabase) {
        let (lab, gate) = Lab::gated(&db, InventoryConfig::default()).await;
        lab.add_source("hr", &Estate::small()).await;
        let (id, runs) = held(&lab, &gate).await;
        lab.clock.advance_ms(lab.shop.config.lease_ms + 1);
        lab.job.recover(false).await.unwrap();
        let before = row(&lab, &id).await;
        assert_eq!((before.state, before.attempts), (State::Running, 1));
        let other = Lab::job_of(&lab.shop);
        other.recover(false).await.unwrap();
        assert_eq!(row(&lab, &id).await.state, State::Waiting);
        gate.open.add_permits(2);
        // What the first one still has in hand it cannot write any more.
        assert_eq!(runs.await.unwrap().unwrap(), Progress::Interrupted);
        assert_eq!(lab.job.run_once().await.unwrap(), Progress::Sealed);
        let sealed = lab.get(&id).await;
        assert_eq!((sealed.state, sealed.attempts), (State::Complete, 2), "{sealed:?}");
    }

    /// Whoever lost the sync stops reading, and does not wait for a source that never answers.
    async fn a_sync_that_was_lost_ends_by_itself(db: TestDatabase) {
        let (lab, gate) = Lab::gated(&db, short()).await;
        lab.add_source("hr", &Estate::small()).await;
        let (id, runs) = held(&lab, &gate).await;
        Lab::job_of(&lab.shop).recover(true).await.unwrap();
        let ended = tokio::time::timeout(PATIENCE, runs).await.expect("it still reads");
        assert_eq!(ended.unwrap().unwrap(), Progress::Interrupted);
        assert_eq!(row(&lab, &id).await.state, State::Waiting);
        gate.open.add_permits(1);
        assert_eq!(lab.job.run_once().await.unwrap(), Progress::Sealed);
    }
}
