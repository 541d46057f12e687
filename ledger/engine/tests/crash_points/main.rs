//! Every crash point of the ledger's design, on both engines: the step before it fails without its effect, fails with its effect, or
//! the process is killed at it. Then the logs are opened again, what was not acknowledged is sent again, and everything is published.
//! Nothing acknowledged is lost, nothing is there twice, no two histories were signed, and other people's code accepts the copies.
//!
//! | Design | Here |
//! | --- | --- |
//! | C1 received, nothing begun | `Begin`; of a log that is not there yet: `CreateKey` |
//! | C2 inside of the transaction | `Write`, `Commit` without effect; `InsertLog` for the log itself |
//! | C3 durable, the receipt not sent | `Commit` with effect, `Remember` (the anchors' memory), `Reply` |
//! | C4 tiles partly written | `PublishTile`: at the first bundle, at the first tile of level 0, at the one of level 1 |
//! | C4 another file under the name of a tile | [`Life::Forged`]: `Stop`, `GoOn` |
//! | C5 tiles written, the checkpoint not | `PublishCheckpoint` without effect |
//! | C6 checkpoint written, the database not told | one with C5: the copy alone says how far it is. `PublishCheckpoint` with effect, `Sweep` |
//! | C7 a witness has signed, its cosignature is not stored | [`Life::Witnessed`]: `KeepCosignature`; `PublishCheckpoint` when lines are added |
//! | C8 anchored, the database not told | `OpenEpoch`, `CloseEpoch` and every step between: in `services/ledger`, `src/anchorer/tests.rs` |
//! | C9 the database is from a backup, or gone | [`Life::Restored`], [`Life::Lost`]: `Recover`, `GoOn`, `InsertLog` |
//! | C10 a page is torn or flipped | no step of ours fails: `reading.rs` damages every table, `recovery.rs` every file of a copy |
//! | C11 two sequencers | [`Life::Rival`]: another process has moved both heads; `Begin`, `Write`, `Commit` of who comes second |
//! | C11 a head that fell back under a running process | `reading.rs`: there the compare is alone, no entry stands in the way |
//! | entries leave the database for the copy | `Evict`: every life reads them from there afterwards |
//! | C12 the disk is full | `Write` and `Commit` without effect; on SQLite also really: the process may write no larger files |
//!
//! A kill strikes when a point is reached, before its step: the kill after a step is the one at the next point.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod check;
mod life;
mod process;
#[path = "../support/mod.rs"]
mod support;

use std::sync::{Arc, Mutex};

use counterfoil_engine::{
    Engine, EngineError, FaultPoint, Faults, Log, NoFaults, SignedRecord, Verdict,
};
use counterfoil_evidence::record::record_hash;

use crate::check::{all_acknowledged, all_is_there_once, copies_are_cosigned, copies_are_whole};
use crate::life::{Life, Place, SCRIPT, live};
use crate::process::Ended;
use crate::support::{Database, receipts};

/// Where a life is struck: when it reaches this point for the n-th time, from 0.
struct Case(Life, FaultPoint, u32);

const TABLE: [Case; 29] = [
    Case(Life::Ordinary, FaultPoint::CreateKey, 0),
    Case(Life::Ordinary, FaultPoint::InsertLog, 0),
    // The third commit fills tiles of the first tenant.
    Case(Life::Ordinary, FaultPoint::Begin, 2),
    Case(Life::Ordinary, FaultPoint::Write, 2),
    Case(Life::Ordinary, FaultPoint::Commit, 2),
    Case(Life::Ordinary, FaultPoint::Remember, 2),
    Case(Life::Ordinary, FaultPoint::Reply, 2),
    // The first publication writes four files before; the second one two bundles, two tiles and one above.
    Case(Life::Ordinary, FaultPoint::PublishTile, 4),
    Case(Life::Ordinary, FaultPoint::PublishTile, 6),
    Case(Life::Ordinary, FaultPoint::PublishTile, 8),
    Case(Life::Ordinary, FaultPoint::PublishCheckpoint, 0),
    Case(Life::Ordinary, FaultPoint::PublishCheckpoint, 2),
    Case(Life::Ordinary, FaultPoint::Sweep, 2),
    // The first bundle of the first tenant, which the copy has.
    Case(Life::Ordinary, FaultPoint::Evict, 0),
    // The first attempt of who comes second, and the one that meets no other any more.
    Case(Life::Rival, FaultPoint::Begin, 1),
    Case(Life::Rival, FaultPoint::Write, 2),
    Case(Life::Rival, FaultPoint::Commit, 1),
    Case(Life::Restored, FaultPoint::Recover, 0),
    Case(Life::Restored, FaultPoint::GoOn, 0),
    Case(Life::Restored, FaultPoint::Recover, 1),
    Case(Life::Lost, FaultPoint::InsertLog, 0),
    Case(Life::Lost, FaultPoint::Recover, 0),
    Case(Life::Lost, FaultPoint::GoOn, 0),
    Case(Life::Forged, FaultPoint::Stop, 0),
    Case(Life::Forged, FaultPoint::GoOn, 0),
    // The first cosignature of a log, one of a larger size, the lines of the first and of the second.
    Case(Life::Witnessed, FaultPoint::KeepCosignature, 0),
    Case(Life::Witnessed, FaultPoint::KeepCosignature, 3),
    Case(Life::Witnessed, FaultPoint::PublishCheckpoint, 2),
    Case(Life::Witnessed, FaultPoint::PublishCheckpoint, 7),
];

/// How it is struck.
#[derive(Debug, Clone, Copy)]
enum Strike {
    Error(Verdict),
    Kill,
}

const STRIKES: [Strike; 3] = [
    Strike::Error(Verdict::Fail),
    Strike::Error(Verdict::FailAfter),
    Strike::Kill,
];

/// Fails once: at the n-th time that a point is reached.
#[derive(Debug)]
struct AtNth(Mutex<Option<(FaultPoint, u32)>>, Verdict);

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

fn none() -> Arc<dyn Faults> {
    Arc::new(NoFaults)
}

/// Two logs, and what is not lost with their database.
struct World {
    database: Database,
    outside: tempfile::TempDir,
    /// What was told of them so far.
    said: Vec<String>,
}

impl World {
    /// The logs as this life finds them.
    async fn before(life: Life, database: Database) -> Self {
        let mut world = Self {
            database,
            outside: tempfile::tempdir().unwrap(),
            said: Vec::new(),
        };
        if matches!(life, Life::Ordinary | Life::Rival | Life::Witnessed) {
            return world;
        }
        let place = world.place();
        let (engine, logs) = world.open(&place).await;
        let say = &mut |line| world.said.push(line);
        place.append(&logs, 0, say).await.unwrap();
        place.append(&logs, 1, say).await.unwrap();
        place.publish(&logs, say).await.unwrap();
        engine.close().await;
        let backup = world.database.back_up();
        let (engine, logs) = world.open(&place).await;
        let say = &mut |line| world.said.push(line);
        place.append(&logs, 2, say).await.unwrap();
        if life == Life::Forged {
            std::fs::create_dir_all(place.forged().parent().unwrap()).unwrap();
            std::fs::write(place.forged(), b"another history").unwrap();
        } else {
            place.publish(&logs, say).await.unwrap();
        }
        engine.close().await;
        match life {
            Life::Restored => world.database = backup,
            Life::Lost => world.database = world.database.emptied(),
            _ => {}
        }
        world
    }

    fn place(&self) -> Place {
        let outside = self.outside.path().to_owned();
        Place::new(self.database.url.clone(), self.database.keys(), outside)
    }

    async fn open(&self, place: &Place) -> (Engine, Vec<Log>) {
        let engine = place.open(none()).await.unwrap();
        let logs = place.logs(&engine).await.unwrap();
        (engine, logs)
    }

    /// Opens the logs again after a life that was cut off, does what is left to do, and checks everything.
    async fn after(mut self, life: Life, case: &str) {
        let place = self.place().later();
        place.tell_seen(&mut |line| self.said.push(line));
        let (engine, logs) = self.open(&place).await;
        copies_are_whole(&place, &logs);
        match life {
            Life::Ordinary | Life::Rival | Life::Witnessed => {}
            Life::Restored | Life::Lost => {
                for (tenant, log) in logs.iter().enumerate() {
                    let recovered = log.head().await.unwrap().size >= size_of(tenant, 3);
                    assert!(recovered || is_refused(log, tenant).await, "{case}");
                    place.recover(log).await.unwrap();
                }
            }
            Life::Forged => {
                if place.forged().exists() {
                    let found = logs[0].publish(&place.publication()).await;
                    assert!(matches!(found, Err(EngineError::Damaged { .. })), "{case}");
                    assert!(logs[0].stopped().await.unwrap().is_some(), "{case}");
                    std::fs::remove_file(place.forged()).unwrap();
                }
                let goes_on = logs[0].stopped().await.unwrap().is_none();
                assert!(goes_on || is_refused(&logs[0], 0).await, "{case}");
                place.recover(&logs[0]).await.unwrap();
            }
        }
        self.send_again(case, &place, &logs).await;
        place
            .publish(&logs, &mut |line| self.said.push(line))
            .await
            .unwrap();
        if life == Life::Witnessed {
            // What a witness has persisted and we have lost is got again.
            place.cosign(&logs).await.unwrap();
            copies_are_cosigned(case, &place, &logs);
        }
        all_is_there_once(case, &place, &logs, &self.said).await;
        engine.close().await;
    }

    /// Sends what was not acknowledged; then the newest commits again, which changes nothing any more.
    async fn send_again(&mut self, case: &str, place: &Place, logs: &[Log]) {
        for (commit, records) in SCRIPT.commits.iter().enumerate() {
            let mut records = records.iter().enumerate();
            let all =
                records.all(|(tenant, records)| all_acknowledged(tenant, records, &self.said));
            if !all {
                let say = &mut |line| self.said.push(line);
                let sent = place.append(logs, commit, say).await;
                assert!(sent.is_ok(), "{case}: {sent:?}");
            }
        }
        for (tenant, log) in logs.iter().enumerate() {
            let head = log.head().await.unwrap();
            let newest = SCRIPT.commits[2..]
                .iter()
                .flat_map(|commit| &commit[tenant]);
            let newest: Vec<SignedRecord> = newest.cloned().collect();
            let sent = newest.iter().map(|sent| record_hash(&sent.record));
            let sent: Vec<[u8; 32]> = sent.collect();
            let again = receipts(log.append(newest).await.unwrap());
            assert!(again.iter().map(|one| one.record_hash).eq(sent), "{case}");
            assert_eq!(log.head().await.unwrap(), head, "{case}: it grew");
        }
    }
}

/// How many entries a log has after its first commits.
fn size_of(tenant: usize, commits: usize) -> u64 {
    let commits = SCRIPT.commits[..commits].iter();
    commits.map(|commit| commit[tenant].len() as u64).sum()
}

/// Whether the log takes nothing.
async fn is_refused(log: &Log, tenant: usize) -> bool {
    let records = SCRIPT.commits[4][tenant].clone();
    matches!(log.append(records).await, Err(EngineError::Damaged { .. }))
}

async fn strike(database: Database, Case(life, point, nth): &Case, strike: Strike) {
    // PostgreSQL tells at its one call who loses, so that who meets no other any more is one further.
    let one_further =
        database.name != "sqlite" && (*life, *point) == (Life::Rival, FaultPoint::Commit);
    let nth = &(nth + u32::from(one_further));
    let case = format!("{} {life:?} {point:?} {nth} {strike:?}", database.name);
    let mut world = World::before(*life, database).await;
    let place = world.place();
    match strike {
        Strike::Error(verdict) => {
            let faults = Arc::new(AtNth(Mutex::new(Some((*point, *nth))), verdict));
            let say = &mut |line| world.said.push(line);
            let ended = live(&place, *life, Arc::clone(&faults) as Arc<dyn Faults>, say).await;
            assert!(faults.0.lock().unwrap().is_none(), "{case}: not reached");
            // What sweeping leaves is no reason for a publication to fail.
            let is_told = *point != FaultPoint::Sweep;
            let injected = ended
                .as_ref()
                .is_err_and(|error| error.to_string().contains("injected"));
            assert_eq!(injected, is_told, "{case}: {ended:?}");
        }
        Strike::Kill => {
            let (lines, ended) = process::live(&place, *life, Some((*point, *nth)), None);
            assert!(matches!(ended, Ended::Killed), "{case}: {ended:?}");
            world.said.extend(lines);
        }
    }
    world.after(*life, &case).await;
}

fn strike_everywhere(new_database: fn() -> Database) {
    let empty = new_database();
    block_on(async { empty.open().await.close().await });
    // Most of the time is waiting for the database: each kind of strike has a thread.
    std::thread::scope(|scope| {
        for how in STRIKES {
            let empty = &empty;
            scope.spawn(move || {
                block_on(async {
                    for case in &TABLE {
                        strike(empty.back_up(), case, how).await;
                    }
                });
            });
        }
    });
}

fn block_on(work: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(work);
}

#[test]
fn no_crash_point_loses_or_repeats_anything_on_sqlite() {
    strike_everywhere(support::sqlite);
}

#[test]
fn no_crash_point_loses_or_repeats_anything_on_postgresql() {
    strike_everywhere(support::postgres);
}

#[tokio::test]
async fn a_full_disk_loses_nothing() {
    // Too small for the tables, for the second commit, for the third.
    for kib in [120, 240, 380] {
        let mut world = World::before(Life::Ordinary, support::sqlite()).await;
        let (lines, ended) = process::live(&world.place(), Life::Ordinary, None, Some(kib));
        let refused =
            |ended: &Ended| matches!(ended, Ended::Failed(why) if why.contains("storage"));
        assert!(refused(&ended), "{kib} KiB: {ended:?}");
        world.said.extend(lines);
        world.after(Life::Ordinary, &format!("{kib} KiB")).await;
    }
}

/// Not a test by itself: what the others start as a process of its own.
#[tokio::test]
async fn in_a_process_of_its_own() {
    process::live_if_told_to().await;
}
