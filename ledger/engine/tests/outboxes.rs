//! What a database lost and nobody had published yet comes back from what the producers have kept: bit for bit, or not at all.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use counterfoil_engine::{
    Anchor, Engine, EngineError, EngineOptions, HighWater, KeptReceipt, KeptRecord, KeptRecords,
    Log, Publication, Receipt, RecordList, Recovered, SignedRecord,
};
use object_store::local::LocalFileSystem;
use support::foreign::Exported;
use support::{
    Database, Fixture, ORIGIN, Producer, TENANT, databases, fixture_on, lifecycle, ownership,
    sqlite,
};

/// What the producers of a log keep.
#[derive(Default, Clone)]
struct Outboxes(Vec<(KeptRecord, Option<Vec<u8>>)>);

impl Outboxes {
    fn keep(&mut self, signed: SignedRecord, receipt: Option<&Receipt>) {
        let proof = receipt.map(|receipt| receipt.tlog_proof.clone().into_bytes());
        let receipt = receipt.map(|receipt| KeptReceipt {
            index: receipt.index,
            leaf_hash: receipt.leaf_hash,
            checkpoint_ms: receipt.checkpoint_ms,
        });
        self.0.push((KeptRecord { signed, receipt }, proof));
    }

    fn all(&self) -> Vec<Arc<dyn KeptRecords>> {
        let lists = RecordList::sort(self.0.clone()).unwrap();
        let kept = lists.into_iter();
        kept.map(|list| Arc::new(list) as Arc<dyn KeptRecords>)
            .collect()
    }

    /// Forgets the receipts of the entries that `lost` names.
    fn without_receipts(&self, lost: impl Fn(u64) -> bool) -> Self {
        let mut changed = self.clone();
        for (kept, proof) in &mut changed.0 {
            if kept
                .receipt
                .as_ref()
                .is_some_and(|receipt| lost(receipt.index))
            {
                (kept.receipt, *proof) = (None, None);
            }
        }
        changed
    }

    fn at(&mut self, index: u64) -> &mut KeptRecord {
        let mut records = self.0.iter_mut().map(|(kept, _)| kept);
        let is_there = |kept: &&mut KeptRecord| {
            let receipt = kept.receipt.as_ref();
            receipt.is_some_and(|receipt| receipt.index == index)
        };
        records.find(is_there).unwrap()
    }
}

/// A log of three producers, a backup of its database from before, and what the producers and the high-water file know of after.
struct Lost {
    database: Database,
    backup: Database,
    marks: tempfile::TempDir,
    copy: tempfile::TempDir,
    log: Log,
    engine: Engine,
    outboxes: Outboxes,
    producers: Vec<Producer>,
    published: u64,
    size: u64,
}

impl Lost {
    fn copy(&self) -> Publication {
        let store = LocalFileSystem::new_with_prefix(self.copy.path()).unwrap();
        Publication::new(Arc::new(store), "")
    }

    /// The log of another database, with the high-water file of this one.
    async fn opened(&self, database: &Database) -> Log {
        let engine = open(database, self.marks.path()).await;
        let registrar = Producer::new("ledger", 1).vkey;
        engine.lost_log(TENANT, ORIGIN, &registrar).await.unwrap()
    }
}

async fn open(database: &Database, marks: &Path) -> Engine {
    let anchors: Vec<Arc<dyn Anchor>> = vec![Arc::new(HighWater::open(marks).unwrap())];
    let options = EngineOptions {
        anchors,
        ..EngineOptions::default()
    };
    database.open_with(options).await
}

/// A record that the stream of a producer may have.
fn record(producer: &mut Producer, number: u64) -> SignedRecord {
    match producer.stream {
        "inventory" => producer.next(&ownership(number), &["accounts/1"]),
        "authority" => producer.next(&lifecycle(), &[]),
        _ => {
            let seed = u8::try_from(100 + number).unwrap();
            let other = Producer::new("inventory", seed).registration();
            producer.next(&other, &[])
        }
    }
}

/// One batch of records of one producer; they are kept with their receipts.
async fn batch(log: &Log, producer: &mut Producer, count: u64, outboxes: &mut Outboxes) {
    let records: Vec<SignedRecord> = (0..count).map(|number| record(producer, number)).collect();
    let receipts = support::receipts(log.append(records.clone()).await.unwrap());
    for (record, receipt) in records.into_iter().zip(&receipts) {
        outboxes.keep(record, Some(receipt));
    }
}

/// Batches of all producers in turn, at several times and some at the same.
async fn grow(lost: &mut Lost, batches: u64) {
    for number in 0..batches {
        let at = usize::try_from(number % 3).unwrap();
        let producer = &mut lost.producers[at];
        batch(
            &lost.log,
            producer,
            1 + number * 37 % 90,
            &mut lost.outboxes,
        )
        .await;
        let pause = i64::try_from(number * number % 7).unwrap();
        lost.database.clock.0.fetch_add(pause, Ordering::SeqCst);
    }
    lost.size = lost.log.head().await.unwrap().size;
}

async fn lost(database: Database) -> Lost {
    let marks = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let Fixture {
        engine,
        log,
        registrar,
        inventory,
        authority,
    } = fixture_on(open(&database, marks.path()).await).await;
    let mut outboxes = Outboxes::default();
    // What the fixture wrote, as its producer would have kept it.
    for stored in log.entries(0, support::REGISTRATIONS, 10).await.unwrap() {
        let entry = counterfoil_evidence::record::decode_entry(&stored.bytes).unwrap();
        let signed = SignedRecord {
            record: entry.record,
            key_id: entry.record_key_id,
            signature: entry.record_signature,
        };
        let receipt = KeptReceipt {
            index: stored.index,
            leaf_hash: stored.leaf_hash,
            checkpoint_ms: entry.recorded_at_ms,
        };
        outboxes.0.push((
            KeptRecord {
                signed,
                receipt: Some(receipt),
            },
            None,
        ));
    }
    engine.close().await;
    let backup = database.back_up();
    let engine = open(&database, marks.path()).await;
    let log = engine.log(TENANT).await.unwrap();
    let mut lost = Lost {
        database,
        backup,
        marks,
        copy,
        log,
        engine,
        outboxes,
        producers: vec![inventory, authority, registrar],
        published: 0,
        size: 0,
    };
    grow(&mut lost, 7).await;
    lost.published = lost.log.publish(&lost.copy()).await.unwrap().size;
    grow(&mut lost, 20).await;
    lost
}

fn reason(result: Result<impl std::fmt::Debug, EngineError>) -> String {
    match result {
        Err(EngineError::Damaged { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// Recovers a database from these outboxes; it must be the log that was lost, and go on.
async fn comes_back(lost: &Lost, database: &Database, outboxes: &Outboxes, with_copy: bool) {
    let whole = Exported::take(&lost.log, lost.size).await;
    let log = lost.opened(database).await;
    let from = log.head().await.unwrap().size;
    let copy = with_copy.then(|| lost.copy());
    let mut told = Vec::new();
    let recovered = log
        .recover_from(copy.as_ref(), &outboxes.all(), &mut |size, _| {
            told.push(size);
        })
        .await
        .unwrap();
    let size = lost.size;
    assert_eq!(recovered, Recovered { from, size });
    assert!(told.is_sorted() && told.last() == Some(&size), "{told:?}");
    assert_eq!(Exported::take(&log, size).await.files, whole.files);
    assert_eq!(log.head().await.unwrap(), lost.log.head().await.unwrap());
    assert!(log.fsck().await.unwrap().is_clean());
    // Each record stands where it was acknowledged, and the next one follows.
    for (kept, _) in &lost.outboxes.0 {
        let again = log.append(vec![kept.signed.clone()]).await.unwrap();
        let index = support::receipts(again)[0].index;
        assert_eq!(Some(index), kept.receipt.as_ref().map(|one| one.index));
    }
    let next = lost.producers[0].clone().next(&ownership(1), &[]);
    support::receipts(log.append(vec![next]).await.unwrap());
}

#[tokio::test]
async fn what_was_acknowledged_and_never_published_comes_back_from_the_outboxes() {
    for database in databases() {
        let lost = lost(database).await;
        let log = lost.opened(&lost.backup).await;
        let said = reason(log.recover(&lost.copy(), &mut |_, _| {}).await);
        assert!(said.contains("high-water"), "{said}");
        assert_eq!(log.head().await.unwrap().size, lost.published);
        comes_back(&lost, &lost.backup, &lost.outboxes, true).await;
    }
}

#[tokio::test]
async fn a_database_that_is_gone_comes_back_from_the_outboxes_alone() {
    for database in databases() {
        let lost = lost(database).await;
        comes_back(&lost, &lost.database.emptied(), &lost.outboxes, false).await;
    }
}

#[tokio::test]
async fn records_whose_receipts_were_lost_are_fitted_in() {
    for database in databases() {
        let mut lost = lost(database).await;
        // One commit of two producers, whose process ends before it is told of it.
        let (first, second) = (lost.producers[0].clone(), lost.producers[1].clone());
        let mut records = Vec::new();
        for mut producer in [first, second] {
            for number in 0..5 {
                records.push(record(&mut producer, number));
            }
        }
        lost.database.clock.0.fetch_add(1234, Ordering::SeqCst);
        support::receipts(lost.log.append(records.clone()).await.unwrap());
        for record in records {
            lost.outboxes.keep(record, None);
        }
        // What was written and not sent stays in the outbox.
        let mut later = lost.producers[1].clone();
        later.seq += 5;
        lost.outboxes.keep(later.next(&lifecycle(), &[]), None);
        lost.size += 10;
        let whole = Exported::take(&lost.log, lost.size).await;
        let log = lost.opened(&lost.backup).await;
        let done = log
            .recover_from(None, &lost.outboxes.all(), &mut |_, _| {})
            .await
            .unwrap();
        assert_eq!(done.size, lost.size);
        assert_eq!(Exported::take(&log, lost.size).await.files, whole.files);
        assert!(log.fsck().await.unwrap().is_clean());
    }
}

#[tokio::test]
async fn a_batch_in_the_middle_needs_no_receipts() {
    let lost = lost(sqlite()).await;
    // One batch, as it was submitted: its producer differs from those before and after.
    let mut indexes: Vec<(u64, Vec<u8>)> = Vec::new();
    for (kept, _) in &lost.outboxes.0 {
        let index = kept.receipt.as_ref().unwrap().index;
        let record = counterfoil_evidence::record::decode_record(&kept.signed.record).unwrap();
        indexes.push((index, record.stream.into_bytes()));
    }
    indexes.sort();
    let of = |index: u64| &indexes[usize::try_from(index).unwrap()].1;
    let end = (0..lost.size - 1).rev();
    let end = end.skip(100).find(|index| of(*index) != of(index - 1));
    let end = end.unwrap();
    let start = (0..end).rev().find(|index| of(*index) != of(index - 1));
    let start = start.unwrap();
    let holes = lost
        .outboxes
        .without_receipts(|index| (start..end).contains(&index));
    assert_ne!(holes.0, lost.outboxes.0);
    comes_back(&lost, &lost.backup, &holes, true).await;
}

#[tokio::test]
async fn a_receipt_of_a_later_attempt_does_as_well() {
    let lost = lost(sqlite()).await;
    let mut later = lost.outboxes.clone();
    for (kept, _) in &mut later.0 {
        if let Some(receipt) = &mut kept.receipt {
            receipt.checkpoint_ms += 3000;
        }
    }
    comes_back(&lost, &lost.backup, &later, true).await;
}

#[tokio::test]
async fn a_receipt_knows_of_the_end_when_the_high_water_file_is_gone() {
    let lost = lost(sqlite()).await;
    for mark in std::fs::read_dir(lost.marks.path()).unwrap() {
        std::fs::remove_file(mark.unwrap().path()).unwrap();
    }
    comes_back(&lost, &lost.backup, &lost.outboxes, true).await;
}

#[tokio::test]
async fn what_no_producer_has_is_named_and_nothing_is_written() {
    for database in databases() {
        let lost = lost(database).await;
        let log = lost.opened(&lost.backup).await;
        let before = log.head().await.unwrap();
        let gone = [lost.published + 2, lost.published + 3, lost.size - 1];
        let mut outboxes = lost.outboxes.clone();
        outboxes.0.retain(|(kept, _)| {
            let receipt = kept.receipt.as_ref();
            receipt.is_none_or(|receipt| !gone.contains(&receipt.index))
        });
        let said = reason(
            log.recover_from(None, &outboxes.all(), &mut |_, _| {})
                .await,
        );
        let first = format!("entries {} to {}", gone[0], gone[1]);
        let last = format!("entry {}", gone[2]);
        assert!(said.contains(&first) && said.contains(&last), "{said}");
        assert_eq!(log.head().await.unwrap(), before);
        assert!(log.fsck().await.unwrap().is_clean());
        let next = lost.producers[0].clone().next(&ownership(1), &[]);
        let said = reason(log.append(vec![next]).await);
        assert!(said.contains("fell back"), "{said}");
    }
}

#[tokio::test]
async fn what_was_changed_in_an_outbox_is_not_taken() {
    let lost = lost(sqlite()).await;
    let log = lost.opened(&lost.backup).await;
    let before = log.head().await.unwrap();
    let index = lost.published + 5;
    let damage: [fn(&mut KeptRecord); 4] = [
        |kept| kept.signed.signature[7] ^= 1,
        |kept| {
            let at = kept.signed.record.len() - 1;
            kept.signed.record[at] ^= 1;
        },
        |kept| kept.signed.key_id.push('0'),
        |kept| kept.receipt.as_mut().unwrap().leaf_hash.0[3] ^= 1,
    ];
    for damage in damage {
        let mut outboxes = lost.outboxes.clone();
        damage(outboxes.at(index));
        let said = reason(
            log.recover_from(Some(&lost.copy()), &outboxes.all(), &mut |_, _| {})
                .await,
        );
        assert!(said.contains(&format!("entry {index}")), "{said}");
        assert_eq!(log.head().await.unwrap().size, lost.published);
    }
    assert!(before.size < lost.published);
    comes_back(&lost, &lost.backup, &lost.outboxes, true).await;
    lost.engine.close().await;
}

#[tokio::test]
async fn a_log_that_went_on_another_way_is_not_mended() {
    let lost = lost(sqlite()).await;
    // The backup was written before anybody looked: it is another history.
    let engine = lost.backup.open().await;
    let log = engine.log(TENANT).await.unwrap();
    let mut fork = lost.producers[0].clone();
    (fork.seq, fork.prev) = (0, [0; 32]);
    support::receipts(
        log.append(vec![fork.next(&ownership(77), &[])])
            .await
            .unwrap(),
    );
    engine.close().await;
    let log = lost.opened(&lost.backup).await;
    let before = log.head().await.unwrap();
    reason(
        log.recover_from(None, &lost.outboxes.all(), &mut |_, _| {})
            .await,
    );
    reason(
        log.recover_from(Some(&lost.copy()), &lost.outboxes.all(), &mut |_, _| {})
            .await,
    );
    assert_eq!(log.head().await.unwrap(), before);
}
