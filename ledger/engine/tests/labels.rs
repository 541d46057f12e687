//! Entries are found by subject, type and stream, whether their bundle is full or growing; and a database from before there were labels
//! gets the very labels that appending would have written.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::fmt::Write as _;

use counterfoil_engine::{EntryFilter, Log, StoredEntry};
use counterfoil_evidence::record::{decode_entry, decode_record};
use counterfoil_evidence::v1::Record;
use sha2::{Digest as _, Sha256};
use sqlx::{Connection as _, Row as _};
use support::{Database, Fixture, databases, fixture, lifecycle, ownership, receipts};

/// Commits that end inside of a bundle, at its end, and beyond.
const COMMITS: [usize; 5] = [100, 153, 1, 400, 50];

/// The same, and then so many that they fill a run of 16 bundles, with one that ends inside of it.
const RUN_COMMITS: [usize; 8] = [100, 153, 1, 400, 50, 3000, 1000, 250];

/// A log of three streams, with subjects that many, few and single entries have.
async fn filled(database: &Database, commits: &[usize]) -> Fixture {
    let mut fixture = fixture(database).await;
    let mut number = 0_u64;
    for &commit in commits {
        let records = (0..commit).map(|_| {
            number += 1;
            let few = format!("accounts/{}", number % 61);
            let single = format!("items/{number}");
            match number % 50 {
                0 => fixture.authority.next(&lifecycle(), &[&few, &single]),
                _ => fixture
                    .inventory
                    .next(&ownership(number), &["all", &few, &single]),
            }
        });
        let records = records.collect();
        receipts(fixture.log.append(records).await.unwrap());
    }
    fixture
}

fn record_of(entry: &StoredEntry) -> Record {
    decode_record(&decode_entry(&entry.bytes).unwrap().record).unwrap()
}

fn passes(filter: &EntryFilter, entry: &StoredEntry) -> bool {
    let record = record_of(entry);
    let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|one| one == is);
    let subject = filter.subject.as_ref();
    same(&filter.record_type, &record.r#type)
        && same(&filter.stream, &record.stream)
        && subject.is_none_or(|subject| record.subject.contains(subject))
}

fn filters() -> Vec<EntryFilter> {
    let types = ["OwnershipSet", "TenantLifecycleChanged"];
    let types = types.map(|name| Some(format!("counterfoil.evidence.v1.{name}")));
    let streams = ["inventory", "none"].map(|name| Some(name.to_owned()));
    let subjects = ["all", "accounts/7", "items/300", "items/706", "items/4950"];
    let subjects = subjects.map(|name| Some(name.to_owned()));
    let mut filters = Vec::new();
    for record_type in [None].into_iter().chain(types) {
        for stream in [None].into_iter().chain(streams.clone()) {
            for subject in [None].into_iter().chain(subjects.clone()) {
                filters.push(EntryFilter {
                    record_type: record_type.clone(),
                    stream: stream.clone(),
                    subject,
                });
            }
        }
    }
    filters
}

async fn everything(log: &Log) -> Vec<StoredEntry> {
    log.entries(0, u64::MAX, 10_000).await.unwrap()
}

#[tokio::test]
async fn a_filter_finds_what_reading_all_finds() {
    let ranges = [(0, 707, 1000), (0, 707, 7), (250, 520, 1000), (600, 600, 9)];
    finds(&COMMITS, 707, &filters(), &ranges).await;
}

#[tokio::test]
async fn a_filter_finds_what_a_full_run_has() {
    let ranges = [
        (0, 4957, 5000),
        (0, 4957, 7),
        (3000, 4300, 90),
        (4090, 4100, 90),
        (4500, 4957, 1000),
    ];
    // By subject alone: how filters add up is seen in small logs.
    let mut filters = filters();
    filters.retain(|filter| filter.record_type.is_none() && filter.stream.is_none());
    finds(&RUN_COMMITS, 4957, &filters, &ranges).await;
}

async fn finds(
    commits: &[usize],
    size: usize,
    filters: &[EntryFilter],
    ranges: &[(u64, u64, u32)],
) {
    for database in databases() {
        let fixture = filled(&database, commits).await;
        let all = everything(&fixture.log).await;
        assert_eq!(all.len(), size);
        for filter in filters {
            for &(from, end, limit) in ranges {
                let expected: Vec<_> = all
                    .iter()
                    .filter(|entry| (from..end).contains(&entry.index) && passes(filter, entry))
                    .take(limit as usize)
                    .cloned()
                    .collect();
                let found = fixture.log.list(filter, from, end, limit).await.unwrap();
                assert_eq!(
                    found, expected,
                    "{} {filter:?} {from} {end} {limit}",
                    database.name
                );
            }
        }
    }
}

#[tokio::test]
async fn the_last_of_each_and_how_many_are_what_reading_all_says() {
    for database in databases() {
        let fixture = filled(&database, &COMMITS).await;
        let all = everything(&fixture.log).await;
        for size in [0, 3, 4, 255, 256, 257, 511, 512, 700, 707] {
            let below = &all[..usize::try_from(size).unwrap()];
            for (stream, last) in fixture.log.last_of_streams(size).await.unwrap() {
                let mut of_stream = below
                    .iter()
                    .filter(|entry| record_of(entry).stream == stream);
                assert_eq!(
                    Some(&last),
                    of_stream.next_back(),
                    "{} {stream} below {size}",
                    database.name
                );
            }
            for entry in below {
                let last = fixture
                    .log
                    .last_of_type(&entry.record_type, size)
                    .await
                    .unwrap();
                let mut of_type = below
                    .iter()
                    .filter(|one| one.record_type == entry.record_type);
                assert_eq!(
                    last.as_ref(),
                    of_type.next_back(),
                    "{} below {size}",
                    database.name
                );
            }
            for from in [0, 5, 256, 300, 512] {
                let counts = fixture.log.type_counts(from, size).await.unwrap();
                assert!(counts.is_sorted_by(|a, b| a.record_type < b.record_type));
                for count in &counts {
                    let of_range = below.iter().filter(|entry| entry.index >= from);
                    let expected = of_range
                        .filter(|entry| entry.record_type == count.record_type)
                        .count();
                    assert_eq!(
                        count.count, expected as u64,
                        "{} {from}..{size}",
                        database.name
                    );
                }
                let sum: u64 = counts.iter().map(|count| count.count).sum();
                assert_eq!(
                    sum,
                    size.saturating_sub(from),
                    "{} {from}..{size}",
                    database.name
                );
            }
        }
    }
}

#[tokio::test]
async fn a_run_that_ends_with_entries_without_subjects_is_found_in_as_well() {
    for database in databases() {
        let mut fixture = fixture(&database).await;
        for (entries, subjects) in [
            (3840 - support::REGISTRATIONS, &["all"][..]),
            (256, &[]),
            (4096, &["all"]),
        ] {
            let records =
                (0..entries).map(|number| fixture.inventory.next(&ownership(number), subjects));
            let records = records.collect();
            receipts(fixture.log.append(records).await.unwrap());
        }
        let filter = EntryFilter {
            subject: Some("all".to_owned()),
            ..EntryFilter::default()
        };
        let found = fixture.log.list(&filter, 0, 8192, 10_000).await.unwrap();
        let expected = (support::REGISTRATIONS..3840).chain(4096..8192);
        assert!(
            found.iter().map(|entry| entry.index).eq(expected),
            "{}",
            found.len()
        );
        let rows = labels(&database).await;
        assert!(rows.iter().all(|(label, ..)| !label.is_empty()));
        assert!(fixture.log.fsck().await.unwrap().is_clean());
        fixture.engine.close().await;
    }
}

/// All labels, as the database has them.
async fn labels(database: &Database) -> Vec<(Vec<u8>, i64, Vec<u8>)> {
    let mut connection = sqlx::AnyConnection::connect(&database.url).await.unwrap();
    let rows = sqlx::query("SELECT label, n, positions FROM log_labels ORDER BY label, n");
    let rows = rows.fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    rows.iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect()
}

#[tokio::test]
async fn a_database_from_before_there_were_labels_gets_the_same_ones() {
    for database in databases() {
        let fixture = filled(&database, &RUN_COMMITS).await;
        let written = labels(&database).await;
        let of_run = written.iter().filter(|(label, ..)| label.len() == 1);
        let of_bundles = written.iter().filter(|(label, ..)| label.is_empty());
        assert_eq!((of_run.count(), of_bundles.count()), (256, 3));
        let mut before = String::from(match database.name {
            "sqlite" => {
                "DROP TRIGGER log_heads_keep_evicted; DROP TRIGGER log_entries_keep_update; \
                 CREATE TRIGGER log_entries_keep_update BEFORE UPDATE ON log_entries BEGIN SELECT RAISE(ABORT, 'never'); END;"
            }
            _ => {
                "DROP TRIGGER log_heads_keep_evicted ON log_heads; DROP FUNCTION log_heads_keep_evicted; DROP FUNCTION log_commit;"
            }
        });
        before.push_str(
            "ALTER TABLE log_heads DROP COLUMN evicted; DROP TABLE log_cosignatures; DROP TABLE log_anchored_heads; \
             DROP TABLE log_anchor_epochs; DROP TABLE log_labels; DELETE FROM log_migrations WHERE version >= 4; \
             CREATE TABLE log_subjects (log_id BIGINT NOT NULL, subject BYTEA NOT NULL, idx BIGINT NOT NULL); \
             CREATE INDEX log_entries_by_type ON log_entries (log_id, record_type, idx); \
             CREATE INDEX log_entries_by_stream ON log_entries (log_id, stream, idx);",
        );
        for entry in everything(&fixture.log).await {
            for subject in record_of(&entry).subject {
                let key = hex::encode(&Sha256::digest(subject.as_bytes())[..16]);
                let key = match database.name {
                    "sqlite" => format!("x'{key}'"),
                    _ => format!("'\\x{key}'"),
                };
                write!(
                    before,
                    "INSERT INTO log_subjects SELECT log_id, {key}, {} FROM logs;",
                    entry.index
                )
                .unwrap();
            }
        }
        fixture.engine.close().await;
        let mut connection = sqlx::AnyConnection::connect(&database.url).await.unwrap();
        let before = sqlx::raw_sql(sqlx::AssertSqlSafe(before));
        before.execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        database.open().await.close().await;
        assert_eq!(labels(&database).await, written, "{}", database.name);
    }
}
