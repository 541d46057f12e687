//! The published copy: files that any static server can serve, receipts that say so, and a log that fell behind its copy.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::path::Path;

use counterfoil_chassis::{both_engines, client, db::Engine, testing::TestDatabase};
use counterfoil_evidence::v1::OwnershipSet;
use counterfoil_ledger::LedgerConfig;
use counterfoil_proto::{
    common::{EvidenceState, Receipt},
    ledger::{
        CreateLogRequest, GetCheckpointRequest, GetReceiptRequest, ListEntriesRequest,
        get_receipt_request::Selector,
    },
};
use counterfoil_tlog::{Hash, VerifierKey, checkpoint, proof};
use support::{Client, Ledger, Producer, append};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const TENANT: &str = "tenants/acme";

fn ownership(number: u64) -> OwnershipSet {
    OwnershipSet {
        object: format!("accounts/{number}"),
        role: 1,
        owner: "principals/alice".to_owned(),
    }
}

struct Published {
    ledger: Ledger,
    copy: tempfile::TempDir,
    client: Client,
    inventory: Producer,
    vkey: VerifierKey,
}

/// A log of 303 entries in a service that publishes to a folder, and only when somebody waits for it.
async fn published(db: &TestDatabase) -> Published {
    published_and(db, |_| {}).await
}

/// The same, with other settings.
async fn published_and(db: &TestDatabase, change: impl FnOnce(&mut LedgerConfig)) -> Published {
    let copy = tempfile::tempdir().unwrap();
    let url = format!("file://{}", copy.path().display());
    let ledger = Ledger::start_with(db, |settings| {
        settings.publish_url = Some(url);
        settings.publish_interval_seconds = Some(86_400);
        change(settings);
    })
    .await;
    let vkey = VerifierKey::parse(&ledger.create("acme").await.vkey).unwrap();
    let mut inventory = ledger.producer("inventory", "acme").await;
    let mut client = ledger.client("services/inventory");
    let records = (0..300)
        .map(|n| inventory.next(&ownership(n), &[]))
        .collect();
    append(&mut client, "acme", records).await;
    Published {
        ledger,
        copy,
        client,
        inventory,
        vkey,
    }
}

async fn receipt(
    client: &mut Client,
    index: u64,
    state: EvidenceState,
    wait_seconds: u32,
) -> Result<Receipt, Status> {
    let request = GetReceiptRequest {
        tenant: TENANT.to_owned(),
        selector: Some(Selector::Index(index)),
        state: state.into(),
        wait_seconds,
    };
    let answer = client.get_receipt(request).await?.into_inner();
    Ok(answer.receipt.unwrap())
}

/// All entries, as they are handed out.
async fn entries(client: &mut Client) -> Result<Vec<Vec<u8>>, Status> {
    let request = ListEntriesRequest {
        tenant: TENANT.to_owned(),
        page_size: 1000,
        ..ListEntriesRequest::default()
    };
    let answer = client.list_entries(request).await?.into_inner();
    Ok(answer
        .entries
        .into_iter()
        .map(|entry| entry.entry)
        .collect())
}

/// Size of the copy's checkpoint.
fn copied(folder: &Path, vkey: &VerifierKey) -> u64 {
    let note = std::fs::read(folder.join("acme/checkpoint")).unwrap();
    checkpoint::open(&note, vkey, &[]).unwrap().checkpoint.size
}

/// What an administrator of the deployment reads at `/metrics`.
async fn metrics(ledger: &Ledger) -> String {
    let token = ledger.token("operators/admin");
    let authorization = format!("authorization: Bearer {}\r\n", token.expose());
    let (refused, _) = plain_http(ledger, "").await;
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    let (head, body) = plain_http(ledger, &authorization).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body
}

async fn plain_http(ledger: &Ledger, headers: &str) -> (String, String) {
    let address = ledger.running.address();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Size of the checkpoint that a receipt is proved under.
fn proved(receipt: &Receipt, vkey: &VerifierKey) -> u64 {
    let text = std::str::from_utf8(&receipt.tlog_proof).unwrap();
    let leaf = Hash(receipt.leaf_hash.as_slice().try_into().unwrap());
    let (index, head) = proof::verify(text, &leaf, vkey).unwrap();
    assert_eq!(index, receipt.index);
    head.size
}

both_engines! {
    async fn a_receipt_says_published_when_the_copy_has_the_entry(db: TestDatabase) {
        let Published { copy, mut client, mut inventory, vkey, .. } = published(&db).await;
        let found = receipt(&mut client, 302, EvidenceState::Published, 30).await.unwrap();
        assert_eq!(found.state(), EvidenceState::Published);
        let size = copied(copy.path(), &vkey);
        assert!(size >= 303);
        assert_eq!(proved(&found, &vkey), size);
        // What comes after waits for its time, and the receipt says how far it is without waiting.
        let logged = append(&mut client, "acme", vec![inventory.next(&ownership(300), &[])]).await.remove(0);
        let found = receipt(&mut client, logged.index, EvidenceState::Published, 0).await.unwrap();
        assert_eq!((found.state(), proved(&found, &vkey)), (EvidenceState::Logged, logged.index + 1));
        assert_eq!((&found.record_id, &found.record_hash, &found.leaf_hash), (&logged.record_id, &logged.record_hash, &logged.leaf_hash));
        // Whoever waits has it published at once.
        let found = receipt(&mut client, logged.index, EvidenceState::Published, 30).await.unwrap();
        assert_eq!((found.state(), copied(copy.path(), &vkey)), (EvidenceState::Published, logged.index + 1));
        // An older entry is proved under the published checkpoint too.
        let found = receipt(&mut client, 7, EvidenceState::Unspecified, 0).await.unwrap();
        assert_eq!((found.state(), proved(&found, &vkey)), (EvidenceState::Published, logged.index + 1));
    }

    async fn a_service_that_ends_leaves_nothing_unpublished(db: TestDatabase) {
        let Published { ledger, copy, mut client, mut inventory, vkey } = published(&db).await;
        receipt(&mut client, 302, EvidenceState::Published, 30).await.unwrap();
        // It would wait for a day.
        let logged = append(&mut client, "acme", vec![inventory.next(&ownership(300), &[])]).await;
        drop(client);
        ledger.running.stop().await.unwrap();
        assert_eq!(copied(copy.path(), &vkey), logged[0].index + 1);
    }

    async fn health_and_metrics_tell_of_a_log_that_was_stopped(db: TestDatabase) {
        let Published { ledger, copy, mut client, mut inventory, vkey } = published(&db).await;
        receipt(&mut client, 302, EvidenceState::Published, 30).await.unwrap();
        let anybody = || HealthClient::new(client::connect(&ledger.running.url(), None).unwrap());
        let asked = |service: &str| HealthCheckRequest { service: service.to_owned() };
        let append_health = "counterfoil.ledger.v1.LedgerService/Append";
        let mut watch = anybody().watch(asked(append_health)).await.unwrap().into_inner();
        while watch.message().await.unwrap().unwrap().status != 1 {}
        let before = metrics(&ledger).await;
        for line in ["append_serving 1", "logs_stopped 0", "receipts_total 303", "overloaded_total 0"] {
            assert!(before.contains(&format!("\ncounterfoil_ledger_{line}\n")), "{line}: {before}");
        }
        // A file that the next round would write, of another history.
        let size = copied(copy.path(), &vkey) + 1;
        let forged = copy.path().join(format!("acme/tile/entries/001.p/{}", size - 256));
        std::fs::create_dir_all(forged.parent().unwrap()).unwrap();
        std::fs::write(&forged, b"another history").unwrap();
        append(&mut client, "acme", vec![inventory.next(&ownership(300), &[])]).await;
        let wait = receipt(&mut client, size - 1, EvidenceState::Published, 30).await;
        assert_eq!(wait.unwrap().state(), EvidenceState::Logged);
        assert_eq!(watch.message().await.unwrap().unwrap().status, 2);
        let whole = anybody().check(asked("")).await.unwrap().into_inner();
        assert_eq!(whole.status, 1, "other logs are written, and all are read");
        let after = metrics(&ledger).await;
        for line in ["append_serving 0", "logs_stopped 1", "receipts_total 304"] {
            assert!(after.contains(&format!("\ncounterfoil_ledger_{line}\n")), "{line}: {after}");
        }
    }

    async fn entries_that_left_the_database_are_read_from_the_copy(db: TestDatabase) {
        let Published { ledger, copy, mut client, mut inventory, .. } = published_and(&db, |settings| settings.evict_after_days = Some(1)).await;
        receipt(&mut client, 302, EvidenceState::Published, 30).await.unwrap();
        let before = entries(&mut client).await.unwrap();
        drop(client);
        ledger.clock.advance_ms(90_000_000);
        let ledger = ledger.restart().await;
        while !metrics(&ledger).await.contains("\ncounterfoil_ledger_evicted_entries 256\n") {}
        let mut client = ledger.client("services/inventory");
        assert_eq!(entries(&mut client).await.unwrap(), before);
        // Out of reach: what is there only is not told, and the log goes on.
        std::fs::rename(copy.path().join("acme"), copy.path().join("away")).unwrap();
        let refused = entries(&mut client).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        append(&mut client, "acme", vec![inventory.next(&ownership(300), &[])]).await;
    }

    async fn bad_questions_for_a_receipt_are_refused(db: TestDatabase) {
        let Published { mut client, .. } = published(&db).await;
        for (index, state, wait, code) in [
            (303, EvidenceState::Logged, 0, Code::NotFound),
            (u64::MAX, EvidenceState::Published, 30, Code::NotFound),
            (0, EvidenceState::Pending, 0, Code::InvalidArgument),
            (0, EvidenceState::Logged, 31, Code::InvalidArgument),
            (0, EvidenceState::Logged, u32::MAX, Code::InvalidArgument),
        ] {
            let refused = receipt(&mut client, index, state, wait).await.unwrap_err();
            assert_eq!(refused.code(), code, "{index} {state:?} {wait}: {refused}");
        }
    }

    async fn a_database_from_before_its_copy_is_not_written(db: TestDatabase) {
        let Published { ledger, copy, mut client, vkey, .. } = published(&db).await;
        receipt(&mut client, 302, EvidenceState::Published, 30).await.unwrap();
        let size = copied(copy.path(), &vkey);
        // As if all was lost but the keys, and only the copy knows: the first entry of the new log would contradict the copy.
        let empty = db.another().await;
        let ledger = ledger.restart_on(&empty).await;
        let mut authority = ledger.client("services/authority");
        let request = CreateLogRequest { tenant: TENANT.to_owned() };
        for _ in 0..2 {
            let refused = authority.create_log(request.clone()).await.unwrap_err();
            assert_eq!(refused.code(), Code::DataLoss, "{refused}");
        }
        let request = GetCheckpointRequest { tenant: TENANT.to_owned() };
        let left = authority.get_checkpoint(request).await.unwrap().into_inner();
        assert_eq!((left.size, copied(copy.path(), &vkey)), (0, size));
    }
}

#[tokio::test]
async fn where_nothing_is_published_nobody_waits_for_it() {
    let db = TestDatabase::new(Engine::Sqlite).await;
    let ledger = Ledger::start(&db).await;
    ledger.create("acme").await;
    let mut client = ledger.client("services/authority");
    let found = receipt(&mut client, 0, EvidenceState::Published, 30)
        .await
        .unwrap();
    assert_eq!(found.state(), EvidenceState::Logged);
}
