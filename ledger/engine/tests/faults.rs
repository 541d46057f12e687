//! Sunlight's fault table: every durable step of an append fails, done or not done; then the log goes on, in the same process
//! or in a new one. Nothing is lost, nothing is logged twice, and other people's code accepts the log each time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::sync::{Arc, Mutex};

use counterfoil_engine::{EngineError, EngineOptions, FaultPoint, Faults, SignedRecord, Verdict};
use support::foreign::{Exported, stream_of};
use support::{
    Database, Fixture, REGISTRATIONS, TENANT, databases, fixture_on, ownership, receipts,
};

/// Fails once, at one point.
#[derive(Debug, Default)]
struct Once(Mutex<Option<(FaultPoint, Verdict)>>);

impl Once {
    fn arm(&self, point: FaultPoint, verdict: Verdict) {
        *self.0.lock().unwrap() = Some((point, verdict));
    }

    fn is_armed(&self) -> bool {
        self.0.lock().unwrap().is_some()
    }
}

impl Faults for Once {
    fn at(&self, point: FaultPoint) -> Verdict {
        let mut armed = self.0.lock().unwrap();
        match *armed {
            Some((wanted, verdict)) if wanted == point => {
                *armed = None;
                verdict
            }
            _ => Verdict::Proceed,
        }
    }
}

const POINTS: [FaultPoint; 4] = [
    FaultPoint::Begin,
    FaultPoint::Write,
    FaultPoint::Commit,
    FaultPoint::Reply,
];

fn is_durable(point: FaultPoint, verdict: Verdict) -> bool {
    matches!(
        (point, verdict),
        (FaultPoint::Commit, Verdict::FailAfter) | (FaultPoint::Reply, _)
    )
}

/// Every step, each not done and done.
fn every_step() -> Vec<(FaultPoint, Verdict)> {
    let verdicts = |point| [Verdict::Fail, Verdict::FailAfter].map(|verdict| (point, verdict));
    POINTS.into_iter().flat_map(verdicts).collect()
}

/// Lets each of these appends of so many records fail once.
async fn run(database: &Database, reopen: bool, strikes: &[(FaultPoint, Verdict)], count: u64) {
    let faults = Arc::new(Once::default());
    let options = EngineOptions {
        faults: Arc::clone(&faults) as Arc<dyn Faults>,
        ..EngineOptions::default()
    };
    let fixture = fixture_on(database.open_with(options.clone()).await).await;
    let (mut engine, mut log, mut inventory) = (fixture.engine, fixture.log, fixture.inventory);
    let mut sent = 0;
    for &(point, verdict) in strikes {
        let name = format!("{} {point:?} {verdict:?} reopen={reopen}", database.name);
        // Sizes that end inside of a tile, at its end, and beyond.
        let records: Vec<SignedRecord> = (0..count)
            .map(|number| inventory.next(&ownership(number), &["accounts/x"]))
            .collect();
        sent += count;
        let before = log.head().await.unwrap().size;
        faults.arm(point, verdict);
        let failed = log.append(records.clone()).await;
        assert!(
            matches!(failed, Err(EngineError::Storage { .. })),
            "{name}: {failed:?}"
        );
        assert!(!faults.is_armed(), "{name}: the point was not reached");
        let durable = log.head().await.unwrap().size - before;
        let expected = if is_durable(point, verdict) { count } else { 0 };
        assert_eq!(durable, expected, "{name}");
        if reopen {
            engine.close().await;
            engine = database.open_with(options.clone()).await;
            log = engine.log(TENANT).await.unwrap();
        }
        let again = receipts(log.append(records).await.unwrap());
        for (position, receipt) in (before..).zip(&again) {
            assert_eq!(receipt.index, position, "{name}");
            let key = &log.info().vkey;
            counterfoil_tlog::proof::verify(&receipt.tlog_proof, &receipt.leaf_hash, key).unwrap();
        }
        let size = log.head().await.unwrap().size;
        assert_eq!(size, REGISTRATIONS + sent, "{name}");
        let entries = Exported::take(&log, size)
            .await
            .verify(&log.info().vkey.to_string());
        let stream = stream_of(&entries, "inventory");
        let numbers: Vec<u64> = stream.iter().map(|(seq, _)| *seq).collect();
        assert_eq!(numbers, (1..=sent).collect::<Vec<_>>(), "{name}");
        assert!(log.fsck().await.unwrap().is_clean(), "{name}");
    }
    engine.close().await;
}

#[tokio::test]
async fn a_step_that_fails_loses_nothing_and_repeats_nothing_in_the_same_process() {
    // A lone record's transaction is one message on both.
    for count in [128, 1] {
        for database in databases() {
            run(&database, false, &every_step(), count).await;
        }
    }
}

#[tokio::test]
async fn a_lone_record_is_written_whole_or_not_at_all() {
    let database = support::sqlite();
    let Fixture {
        engine,
        log,
        mut inventory,
        ..
    } = fixture_on(database.open().await).await;
    for step in ["log_heads", "log_entries", "log_streams"] {
        let records = vec![inventory.next(&ownership(1), &[])];
        let before = log.head().await.unwrap().size;
        for event in ["INSERT", "UPDATE"] {
            database
                .tamper(format!(
                    "CREATE TRIGGER fails_{event} BEFORE {event} ON {step} BEGIN SELECT RAISE(ABORT, 'by a test'); END"
                ))
                .await;
        }
        let failed = log.append(records.clone()).await.unwrap_err();
        assert!(failed.to_string().contains("by a test"), "{step}: {failed}");
        database
            .tamper("DROP TRIGGER fails_INSERT; DROP TRIGGER fails_UPDATE")
            .await;
        assert_eq!(log.head().await.unwrap().size, before, "{step}");
        let receipt = &receipts(log.append(records).await.unwrap())[0];
        assert_eq!(receipt.index, before, "{step}");
    }
    // Its log was stopped by another process: what is behind the head is not written without it.
    database
        .tamper("UPDATE log_heads SET stopped_because = 'by a test'")
        .await;
    let record = inventory.next(&ownership(2), &[]);
    let refused = log.append(vec![record.clone()]).await.unwrap_err();
    assert!(refused.to_string().contains("by a test"), "{refused}");
    engine.close().await;
    database
        .tamper("UPDATE log_heads SET stopped_because = NULL")
        .await;
    let log = database.open().await.log(TENANT).await.unwrap();
    assert!(log.fsck().await.unwrap().is_clean());
    receipts(log.append(vec![record]).await.unwrap());
}

#[tokio::test]
async fn a_batch_that_fills_a_run_of_bundles_is_written_whole_or_not_at_all() {
    // Its transaction has more steps on PostgreSQL, too.
    let strikes = [
        (FaultPoint::Write, Verdict::FailAfter),
        (FaultPoint::Commit, Verdict::Fail),
        (FaultPoint::Commit, Verdict::FailAfter),
    ];
    for database in databases() {
        run(&database, false, &strikes, 4096).await;
    }
}

#[tokio::test]
async fn a_step_that_fails_loses_nothing_and_repeats_nothing_after_a_restart() {
    for database in databases() {
        run(&database, true, &every_step(), 128).await;
    }
}

/// The second look before signing always comes to something else.
#[derive(Debug)]
struct FailingMemory;

impl Faults for FailingMemory {
    fn at(&self, point: FaultPoint) -> Verdict {
        match point {
            FaultPoint::SecondLook => Verdict::Fail,
            _ => Verdict::Proceed,
        }
    }
}

#[tokio::test]
async fn what_came_out_differently_is_worked_out_again_and_else_not_written() {
    for database in databases() {
        let faults = Arc::new(Once::default());
        let options = EngineOptions {
            faults: Arc::clone(&faults) as Arc<dyn Faults>,
            ..EngineOptions::default()
        };
        let first = fixture_on(database.open_with(options).await).await;
        let mut inventory = first.inventory;
        let records: Vec<_> = (0..9).map(|n| inventory.next(&ownership(n), &[])).collect();
        faults.arm(FaultPoint::SecondLook, Verdict::Fail);
        receipts(first.log.append(records.clone()).await.unwrap());
        assert!(!faults.is_armed() && first.engine.counts().miscalculations == 1);
        first.engine.close().await;
        let options = EngineOptions {
            faults: Arc::new(FailingMemory),
            ..EngineOptions::default()
        };
        let failing = database.open_with(options).await;
        let log = failing.log(TENANT).await.unwrap();
        let more = vec![inventory.next(&ownership(9), &[])];
        let refused = log.append(more.clone()).await;
        assert!(
            matches!(refused, Err(EngineError::Miscalculated { .. })),
            "{refused:?}"
        );
        assert_eq!(log.head().await.unwrap().size, REGISTRATIONS + 9);
        failing.close().await;
        let engine = database.open().await;
        let log = engine.log(TENANT).await.unwrap();
        receipts(log.append([records, more].concat()).await.unwrap());
        assert_eq!(log.head().await.unwrap().size, REGISTRATIONS + 10);
        assert!(log.fsck().await.unwrap().is_clean());
    }
}

#[tokio::test]
async fn two_processes_append_to_one_log_and_never_fork_it() {
    for database in databases() {
        let first = fixture_on(database.open().await).await;
        let second = database.open().await;
        let other_log = second.log(TENANT).await.unwrap();
        let (mut inventory, mut authority) = (first.inventory, first.authority);
        for round in 0..20 {
            let here: Vec<_> = (0..7).map(|n| inventory.next(&ownership(n), &[])).collect();
            let there: Vec<_> = (0..5)
                .map(|_| authority.next(&support::lifecycle(), &[]))
                .collect();
            let (here, there) = tokio::join!(first.log.append(here), other_log.append(there));
            assert_eq!(
                receipts(here.unwrap()).len() + receipts(there.unwrap()).len(),
                12
            );
            // What one has appended, the other one continues.
            let next = inventory.next(&ownership(round), &[]);
            receipts(other_log.append(vec![next.clone()]).await.unwrap());
            receipts(first.log.append(vec![next]).await.unwrap());
        }
        let size = first.log.head().await.unwrap().size;
        assert_eq!(size, REGISTRATIONS + 20 * 13);
        let exported = Exported::take(&other_log, size).await;
        exported.verify(&other_log.info().vkey.to_string());
        assert!(first.log.fsck().await.unwrap().is_clean());
    }
}

#[tokio::test]
async fn a_beginning_that_is_cancelled_costs_nothing_but_itself() {
    use sqlx::Connection as _;
    let database = support::postgres();
    let fixture = fixture_on(database.open().await).await;
    let (log, mut inventory) = (fixture.log, fixture.inventory);
    let mut other = sqlx::AnyConnection::connect(&database.url).await.unwrap();
    let mut administrator = sqlx::AnyConnection::connect(&database.url).await.unwrap();
    for round in 0..3 {
        let hold = "BEGIN; SELECT 1 FROM log_heads FOR UPDATE";
        sqlx::raw_sql(hold).execute(&mut other).await.unwrap();
        let records = vec![inventory.next(&ownership(round), &[])];
        let appending = {
            let (log, records) = (log.clone(), records.clone());
            tokio::spawn(async move { log.append(records).await })
        };
        // Who waits for the other's lock is cancelled, as an administrator or a deadlock would.
        let cancel = "SELECT COUNT(pg_cancel_backend(pid)) FROM pg_stat_activity \
                      WHERE datname = current_database() AND wait_event_type = 'Lock'";
        loop {
            let cancelled: i64 = sqlx::query_scalar(cancel)
                .fetch_one(&mut administrator)
                .await
                .unwrap();
            if cancelled > 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
        let failed = appending.await.unwrap();
        assert!(
            matches!(failed, Err(EngineError::Storage { .. })),
            "{failed:?}"
        );
        sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
        // Every connection that is used from now on is in order.
        for _ in 0..8 {
            receipts(log.append(records.clone()).await.unwrap());
            log.head().await.unwrap();
        }
    }
    assert!(log.fsck().await.unwrap().is_clean());
}
