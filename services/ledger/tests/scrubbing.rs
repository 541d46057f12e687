//! Hashing every log again: rounds go on where they were cut off, are stated in the log, and stop a log that rots.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::time::Duration;

use counterfoil_chassis::{both_engines, client, db::Engine, testing, testing::TestDatabase};
use counterfoil_evidence::record::{decode_entry, decode_record};
use counterfoil_evidence::v1::{LogScrubbed, OwnershipSet};
use counterfoil_ledger::{Config, Offline, Rounds};
use counterfoil_proto::ledger::{GetCheckpointRequest, ListEntriesRequest, StreamEntriesRequest};
use counterfoil_tlog::{VerifierKey, checkpoint};
use prost::{Message, Name};
use sqlx::Connection as _;
use support::{Client, Ledger, append};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const TENANT: &str = "tenants/acme";

fn ownership(number: u64) -> OwnershipSet {
    OwnershipSet {
        object: format!("accounts/{number}"),
        role: 1,
        owner: "principals/alice".to_owned(),
    }
}

async fn filled(db: &TestDatabase, entries: u64) -> Ledger {
    let ledger = Ledger::start(db).await;
    ledger.create("acme").await;
    let mut inventory = ledger.producer("inventory", "acme").await;
    let mut client = ledger.client("services/inventory");
    for first in (0..entries).step_by(1000) {
        let numbers = first..entries.min(first + 1000);
        let records = numbers.map(|n| inventory.next(&ownership(n), &[]));
        append(&mut client, "acme", records.collect()).await;
    }
    ledger
}

async fn rounds(client: &mut Client) -> Vec<LogScrubbed> {
    let request = ListEntriesRequest {
        tenant: TENANT.to_owned(),
        r#type: LogScrubbed::full_name(),
        page_size: 1000,
        ..Default::default()
    };
    let answer = client.list_entries(request).await.unwrap().into_inner();
    let payloads = answer.entries.iter().map(|entry| payload(&entry.entry));
    payloads.map(Option::unwrap).collect()
}

fn payload(entry: &[u8]) -> Option<LogScrubbed> {
    let record = decode_record(&decode_entry(entry).unwrap().record).unwrap();
    (record.r#type == LogScrubbed::full_name())
        .then(|| LogScrubbed::decode(record.payload.as_slice()).unwrap())
}

/// The next round that is stated from a place in the log on, awaited.
async fn stated(client: &mut Client, from: u64) -> LogScrubbed {
    let request = StreamEntriesRequest {
        tenant: TENANT.to_owned(),
        from_index: from,
        follow: true,
    };
    let mut tail = client.stream_entries(request).await.unwrap().into_inner();
    loop {
        let answer = tokio::time::timeout(Duration::from_secs(60), tail.message());
        let answer = answer.await.unwrap().unwrap().unwrap();
        if let Some(found) = payload(&answer.entry.unwrap().entry) {
            return found;
        }
    }
}

async fn size(client: &mut Client) -> u64 {
    let request = GetCheckpointRequest {
        tenant: TENANT.to_owned(),
    };
    client
        .get_checkpoint(request)
        .await
        .unwrap()
        .into_inner()
        .size
}

both_engines! {
    async fn a_round_is_stated_once_and_a_quiet_log_does_not_grow_by_it(db: TestDatabase) {
        let ledger = filled(&db, 600).await;
        let vkey = VerifierKey::parse(&ledger.create("acme").await.vkey).unwrap();
        let mut client = ledger.client("services/inventory");
        let request = GetCheckpointRequest { tenant: TENANT.to_owned() };
        let head = client.get_checkpoint(request).await.unwrap().into_inner();
        let head = checkpoint::open(&head.checkpoint, &vkey, &[]).unwrap().checkpoint;
        let (config, clock) = (ledger.config_on(&db), ledger.clock.clone());
        ledger.running.stop().await.unwrap();
        scrub(&config).await.unwrap();
        // The service states what an operator found.
        let ledger = Ledger::start_again_on(ledger.folder, config.clone(), clock.clone()).await;
        let mut client = ledger.client("services/inventory");
        let first = stated(&mut client, head.size).await;
        assert_eq!((first.round, first.from_size, first.to_size), (1, 0, head.size));
        // Whatever clock says so: not before what it hashed was there.
        assert!(first.started_ms >= clock.now_ms() && first.ended_ms >= first.started_ms);
        assert_eq!((first.root.as_slice(), first.tiles), (head.root.as_bytes().as_slice(), head.size / 256));
        assert_eq!(size(&mut client).await, head.size + 1);
        // Nothing new but that: the next rounds hash everything again, and state nothing.
        ledger.running.stop().await.unwrap();
        for _ in 0..2 {
            scrub(&config).await.unwrap();
        }
        let ledger = Ledger::start_again_on(ledger.folder, config.clone(), clock.clone()).await;
        let mut inventory = ledger.producer("reconciliation", "acme").await;
        let mut client = ledger.client("services/reconciliation");
        let record = inventory.next(&counterfoil_evidence::v1::ObligationOpened::default(), &[]);
        append(&mut client, "acme", vec![record]).await;
        ledger.running.stop().await.unwrap();
        scrub(&config).await.unwrap();
        let ledger = Ledger::start_again_on(ledger.folder, config, clock).await;
        let mut client = ledger.client("services/inventory");
        let second = stated(&mut client, head.size + 1).await;
        assert_eq!((second.round, second.from_size), (2, head.size));
        assert_eq!(rounds(&mut client).await, [first, second]);
    }

    async fn a_log_that_rots_is_stopped_and_said_so(db: TestDatabase) {
        let ledger = filled(&db, 300).await;
        let (config, clock) = (ledger.config_on(&db), ledger.clock.clone());
        ledger.running.stop().await.unwrap();
        rot(&config).await;
        for _ in 0..2 {
            let found = scrub(&config).await.unwrap_err();
            assert!(found.contains("the stored labels are not those of the entries"), "{found}");
        }
        let ledger = Ledger::start_again_on(ledger.folder, config, clock).await;
        let append_health = "counterfoil.ledger.v1.LedgerService/Append".to_owned();
        let mut health = HealthClient::new(client::connect(&ledger.running.url(), None).unwrap());
        let asked = HealthCheckRequest { service: append_health };
        let mut watch = health.watch(asked).await.unwrap().into_inner();
        while watch.message().await.unwrap().unwrap().status != 2 {}
        let mut client = ledger.client("services/inventory");
        assert!(rounds(&mut client).await.is_empty());
    }
}

/// Takes a label away, as a disk could.
async fn rot(config: &Config) {
    let url = &config.service.database_url;
    let logs = if url.starts_with("sqlite:") {
        "log_labels"
    } else {
        "ledger.log_labels"
    };
    let url = if url.starts_with("sqlite:") {
        url.clone()
    } else {
        testing::postgres::as_superuser(url)
    };
    let mut connection = sqlx::AnyConnection::connect(&url).await.unwrap();
    let text = format!("DELETE FROM {logs}");
    let gone = sqlx::query(sqlx::AssertSqlSafe(text))
        .execute(&mut connection)
        .await;
    assert!(gone.unwrap().rows_affected() > 0);
    connection.close().await.unwrap();
}

async fn scrub(config: &Config) -> Result<u64, String> {
    let logs = Offline::open(config).await.unwrap();
    let rounds = logs.rounds().await.unwrap();
    let scrubbed = logs.scrub(&rounds, "acme", &mut |_, _| {}).await;
    rounds.close().await;
    logs.close().await;
    scrubbed.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_round_that_was_cut_off_goes_on_where_it_was() {
    let db = TestDatabase::new(Engine::Sqlite).await;
    let ledger = filled(&db, 4200).await;
    let config = ledger.config_on(&db);
    ledger.running.stop().await.unwrap();
    let logs = Offline::open(&config).await.unwrap();
    let rounds = logs.rounds().await.unwrap();
    begin(&logs, &rounds).await;
    let (size, seen) = end(&logs, &rounds).await;
    assert!(seen.iter().all(|done| *done == size), "{seen:?}");
    // Unless the log was stopped meanwhile, for whatever reason: what was hashed before says nothing then.
    begin(&logs, &rounds).await;
    change(
        &config,
        "UPDATE log_heads SET stopped_because = 'its copy is another log'",
    )
    .await;
    let stopped = logs.scrub(&rounds, "acme", &mut |_, _| {}).await;
    let stopped = stopped.unwrap_err().to_string();
    assert!(stopped.contains("its copy is another log"), "{stopped}");
    change(&config, "UPDATE log_heads SET stopped_because = NULL").await;
    let (size, seen) = end(&logs, &rounds).await;
    assert!(seen.first().is_some_and(|done| *done < size), "{seen:?}");
    rounds.close().await;
    logs.close().await;
}

/// Takes as much of a round as one kept step, and no more.
async fn begin(logs: &Offline, rounds: &Rounds) {
    let (cut, is_cut) = std::sync::mpsc::channel();
    {
        let mut first = |done, _| cut.send(done).unwrap();
        let mut running = std::pin::pin!(logs.scrub(rounds, "acme", &mut first));
        while is_cut.try_recv().is_err() {
            let step = futures::future::poll_fn(|context| {
                let _ = running.as_mut().poll(context);
                std::task::Poll::Ready(())
            });
            step.await;
            tokio::task::yield_now().await;
        }
    }
}

/// Entries of a round that goes on to its end, and how many were done after each step.
async fn end(logs: &Offline, rounds: &Rounds) -> (u64, Vec<u64>) {
    let mut seen = Vec::new();
    let mut told = |done, _| seen.push(done);
    let size = logs.scrub(rounds, "acme", &mut told).await.unwrap();
    (size, seen)
}

/// Changes something past the engine, on SQLite.
async fn change(config: &Config, statement: &'static str) {
    let url = &config.service.database_url;
    let mut connection = sqlx::AnyConnection::connect(url).await.unwrap();
    sqlx::query(statement)
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}
