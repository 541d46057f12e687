//! While a batch commits, the next one is worked out on what it leads to. If the first one fails, nothing of that may stay: neither a
//! position nor a receipt nor a refusal that was judged by it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::sync::{Arc, Mutex};

use counterfoil_engine::{
    Engine, EngineError, EngineOptions, FaultPoint, Faults, Log, Outcome, Refusal, SignedRecord,
    Verdict,
};
use counterfoil_tlog::proof;
use sqlx::{AnyConnection, Connection as _, Executor as _};
use support::foreign::{Exported, stream_of};
use support::{Database, Producer, REGISTRATIONS, databases, fixture_on, ownership, receipts};
use tokio::sync::Notify;

/// Records of a batch.
const BATCH: u64 = 10;

/// Tells when a batch is worked out on another one, and fails once where it is told to.
#[derive(Debug, Default)]
struct Watch {
    ahead: Notify,
    armed: Mutex<Option<(FaultPoint, Verdict)>>,
}

impl Faults for Watch {
    fn at(&self, point: FaultPoint) -> Verdict {
        if point == FaultPoint::Ahead {
            self.ahead.notify_one();
        }
        let mut armed = self.armed.lock().unwrap();
        match *armed {
            Some((wanted, verdict)) if wanted == point => {
                *armed = None;
                verdict
            }
            _ => Verdict::Proceed,
        }
    }
}

/// Somebody who keeps the database from committing anything.
struct Holder(AnyConnection);

impl Holder {
    async fn hold(database: &Database) -> Self {
        let mut connection = AnyConnection::connect(&database.url).await.unwrap();
        let hold = match database.name {
            "sqlite" => "BEGIN IMMEDIATE",
            _ => "BEGIN; SELECT 1 FROM log_heads FOR UPDATE",
        };
        connection.execute(sqlx::raw_sql(hold)).await.unwrap();
        Self(connection)
    }

    async fn let_go(mut self) {
        self.0.execute(sqlx::raw_sql("ROLLBACK")).await.unwrap();
        self.0.close().await.unwrap();
    }
}

struct World {
    database: Database,
    watch: Arc<Watch>,
    engine: Engine,
    log: Log,
    inventory: Producer,
}

impl World {
    async fn new(database: Database) -> Self {
        let watch = Arc::new(Watch::default());
        let options = EngineOptions {
            batch_records_max: usize::try_from(BATCH).unwrap(),
            faults: Arc::clone(&watch) as Arc<dyn Faults>,
            ..EngineOptions::default()
        };
        let fixture = fixture_on(database.open_with(options).await).await;
        Self {
            database,
            watch,
            engine: fixture.engine,
            log: fixture.log,
            inventory: fixture.inventory,
        }
    }

    fn batch(&mut self) -> Vec<SignedRecord> {
        let one = |number| self.inventory.next(&ownership(number), &["accounts/x"]);
        (0..BATCH).map(one).collect()
    }

    /// Appends two batches, the second one worked out before the first one is durable.
    async fn overlapped(
        &self,
        first: &[SignedRecord],
        second: &[SignedRecord],
        fault: Option<(FaultPoint, Verdict)>,
    ) -> [Result<Vec<Outcome>, EngineError>; 2] {
        *self.watch.armed.lock().unwrap() = fault;
        let holder = Holder::hold(&self.database).await;
        let first = self.log.begin_append(first.to_vec()).await.unwrap();
        let second = self.log.begin_append(second.to_vec()).await.unwrap();
        self.watch.ahead.notified().await;
        holder.let_go().await;
        let outcomes = tokio::join!(first.outcomes(), second.outcomes());
        assert!(
            self.watch.armed.lock().unwrap().is_none(),
            "{fault:?}: not reached"
        );
        outcomes.into()
    }

    /// The log is whole, and has these records and no others.
    async fn check(&self, sent: u64, case: &str) {
        let size = self.log.head().await.unwrap().size;
        assert_eq!(size, REGISTRATIONS + sent, "{case}");
        let exported = Exported::take(&self.log, size).await;
        let entries = exported.verify(&self.log.info().vkey.to_string());
        let numbers = stream_of(&entries, "inventory")
            .into_iter()
            .map(|(seq, _)| seq);
        assert!(numbers.eq(1..=sent), "{case}");
        assert!(self.log.fsck().await.unwrap().is_clean(), "{case}");
    }

    fn check_receipts(&self, outcomes: Vec<Outcome>, from: u64, case: &str) {
        for (position, receipt) in (from..).zip(receipts(outcomes)) {
            assert_eq!(receipt.index, position, "{case}");
            proof::verify(
                &receipt.tlog_proof,
                &receipt.leaf_hash,
                &self.log.info().vkey,
            )
            .unwrap();
        }
    }
}

#[tokio::test]
async fn a_batch_that_fails_takes_with_it_what_was_worked_out_on_it() {
    for database in databases() {
        let mut world = World::new(database).await;
        let mut sent = 0;
        for (point, verdict) in [
            (FaultPoint::Write, Verdict::FailAfter),
            (FaultPoint::Commit, Verdict::Fail),
            (FaultPoint::Commit, Verdict::FailAfter),
            (FaultPoint::Remember, Verdict::Fail),
            (FaultPoint::Reply, Verdict::Fail),
        ] {
            let case = format!("{} {point:?} {verdict:?}", world.database.name);
            let (first, second) = (world.batch(), world.batch());
            let from = REGISTRATIONS + sent;
            let [failed, next] = world
                .overlapped(&first, &second, Some((point, verdict)))
                .await;
            assert!(
                matches!(failed, Err(EngineError::Storage { .. })),
                "{case}: {failed:?}"
            );
            let is_durable = !matches!(
                (point, verdict),
                (FaultPoint::Write, _) | (FaultPoint::Commit, Verdict::Fail)
            );
            let next = next.unwrap();
            if is_durable {
                world.check_receipts(next, from + BATCH, &case);
            } else {
                // What it was to follow is not there.
                let expected = Refusal::SequenceGap { expected: sent + 1 };
                assert!(
                    next.iter().all(|one| one.as_ref() == Err(&expected)),
                    "{case}: {next:?}"
                );
            }
            let again = world.log.append(first).await.unwrap();
            world.check_receipts(again, from, &case);
            let again = world.log.append(second).await.unwrap();
            world.check_receipts(again, from + BATCH, &case);
            sent += 2 * BATCH;
            world.check(sent, &case).await;
        }
        world.engine.close().await;
    }
}

#[tokio::test]
async fn what_is_sent_again_before_it_is_durable_has_one_position() {
    for database in databases() {
        let mut world = World::new(database).await;
        let name = world.database.name;
        let first = world.batch();
        let [one, again] = world.overlapped(&first, &first, None).await;
        world.check_receipts(one.unwrap(), REGISTRATIONS, name);
        world.check_receipts(again.unwrap(), REGISTRATIONS, name);
        world.check(BATCH, name).await;
    }
}

#[tokio::test]
async fn a_refusal_by_what_is_not_durable_yet_is_given_when_it_is() {
    for database in databases() {
        let mut world = World::new(database).await;
        let name = world.database.name;
        let (first, skipped, third) = (world.batch(), world.batch(), world.batch());
        let [one, refused] = world.overlapped(&first, &third, None).await;
        world.check_receipts(one.unwrap(), REGISTRATIONS, name);
        let expected = Refusal::SequenceGap {
            expected: BATCH + 1,
        };
        assert!(
            refused
                .unwrap()
                .iter()
                .all(|one| one.as_ref() == Err(&expected))
        );
        let [two, three] = world.overlapped(&skipped, &third, None).await;
        world.check_receipts(two.unwrap(), REGISTRATIONS + BATCH, name);
        world.check_receipts(three.unwrap(), REGISTRATIONS + 2 * BATCH, name);
        world.check(3 * BATCH, name).await;
    }
}
