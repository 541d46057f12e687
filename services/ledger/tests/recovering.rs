//! A database that is gone before anything was published: the outboxes, a customer's own file and the service's journal bring it back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use counterfoil_chassis::outbox::KeptOutbox;
use counterfoil_chassis::relay::Relay;
use counterfoil_chassis::tenants::record_log_origin;
use counterfoil_chassis::{
    CancellationToken, Clock, Database, Outbox, ProducerKey, RecordDraft, both_engines, client,
    clock::millis, testing::TestDatabase,
};
use counterfoil_evidence::v1::{OwnershipSet, ReviewDecided};
use counterfoil_ledger::{EngineError, Offline};
use counterfoil_proto::common::Receipt;
use counterfoil_proto::ledger::{
    GetReceiptRequest, SealEpochRequest, SignedRecord, get_receipt_request::Selector,
};
use counterfoil_tlog::{Hash, VerifierKey, proof};
use support::{Ledger, append};

const PATIENCE: Duration = Duration::from_secs(30);

fn ownership(number: u64) -> OwnershipSet {
    OwnershipSet {
        object: format!("accounts/{number}"),
        role: 1,
        owner: "principals/alice".to_owned(),
    }
}

/// A service with an outbox and a relay that runs.
struct Service {
    outbox: Outbox,
    key: PathBuf,
    db: Database,
    relay: Option<(CancellationToken, tokio::task::JoinHandle<()>)>,
}

const SERVICE: &str = "recertification";

fn outbox(db: &Database, key: &Path) -> Outbox {
    let name = format!("counterfoil.local/services/{SERVICE}");
    let key = ProducerKey::load_or_create(key, &name).unwrap();
    Outbox::new(db.clone(), Clock::system(), SERVICE, key)
}

impl Service {
    async fn new(db: &TestDatabase, folder: &Path) -> Self {
        let db = Database::connect(&db.url(SERVICE), SERVICE).await.unwrap();
        db.migrate(&[], 0).await.unwrap();
        let key = folder.join("outbox.key");
        let mut tx = db.write_tx("acme").await.unwrap();
        let origin = "counterfoil.local/t/acme";
        record_log_origin(&mut tx, origin).await.unwrap();
        tx.commit().await.unwrap();
        Self {
            outbox: outbox(&db, &key),
            key,
            db,
            relay: None,
        }
    }

    fn start(&mut self, ledger: &Ledger) {
        // A process of its own each time.
        self.outbox = outbox(&self.db, &self.key);
        let shutdown = CancellationToken::new();
        let token = ledger.token(&format!("services/{SERVICE}"));
        let channel = client::connect(&ledger.running.url(), Some(&token)).unwrap();
        let relay = Relay::new(self.outbox.clone(), channel);
        let task = tokio::spawn(relay.run(shutdown.clone()));
        self.relay = Some((shutdown, task));
    }

    async fn stop(&mut self) {
        let (shutdown, task) = self.relay.take().unwrap();
        shutdown.cancel();
        task.await.unwrap();
    }

    async fn decide(&self, count: u64) -> Vec<[u8; 16]> {
        let mut tx = self.db.write_tx("acme").await.unwrap();
        let drafts = (0..count).map(|number| {
            RecordDraft::new(
                &ReviewDecided::default(),
                "principals/p1",
                1_700_000_000_000,
            )
            .subject(format!("items/{number}"))
        });
        let emitted = self.outbox.emit_many(&mut tx, drafts).await.unwrap();
        tx.commit().await.unwrap();
        emitted.iter().map(|record| record.record_id).collect()
    }

    async fn receipts(&self, ids: &[[u8; 16]]) -> Vec<Receipt> {
        self.outbox
            .await_receipts("acme", ids, PATIENCE)
            .await
            .unwrap()
    }
}

/// What a customer's own system writes down, by the README of the service.
fn file_of(records: &[(SignedRecord, Receipt)]) -> String {
    let line = |(signed, receipt): &(SignedRecord, Receipt)| {
        let checkpoint_ms = millis(receipt.checkpoint_time.as_ref().unwrap()).unwrap();
        format!(
            "{{\"record\":\"{}\",\"key_id\":\"{}\",\"signature\":\"{}\",\"receipt\":{{\"index\":{},\"leaf_hash\":\"{}\",\
             \"checkpoint_ms\":{checkpoint_ms},\"tlog_proof\":\"{}\"}}}}\n",
            STANDARD.encode(&signed.record),
            signed.key_id,
            STANDARD.encode(&signed.signature),
            receipt.index,
            STANDARD.encode(&receipt.leaf_hash),
            STANDARD.encode(&receipt.tlog_proof),
        )
    };
    records.iter().map(line).collect()
}

/// Receipts that say something else than the log, and the entries that they speak of.
fn change(kept: &[(SignedRecord, Receipt)]) -> (Vec<(SignedRecord, Receipt)>, [u64; 3]) {
    let mut other = kept.to_vec();
    other[1].1.leaf_hash[0] ^= 1;
    other[2].1.tlog_proof = other[3].1.tlog_proof.clone();
    other[4].1.index = 9999;
    (other, [kept[1].1.index, kept[2].1.index, 9999])
}

/// Every receipt stands for what is there, and is proved by itself.
async fn still_there(ledger: &Ledger, receipts: Vec<Receipt>, vkey: &VerifierKey) {
    let mut client = ledger.client("services/inventory");
    for receipt in receipts {
        let request = GetReceiptRequest {
            tenant: "tenants/acme".to_owned(),
            selector: Some(Selector::RecordId(receipt.record_id.clone())),
            ..GetReceiptRequest::default()
        };
        let now = client.get_receipt(request).await.unwrap().into_inner();
        let now = now.receipt.unwrap();
        assert_eq!(now.index, receipt.index);
        assert_eq!(now.leaf_hash, receipt.leaf_hash);
        let leaf = Hash(now.leaf_hash.try_into().unwrap());
        let text = String::from_utf8(receipt.tlog_proof).unwrap();
        proof::verify(&text, &leaf, vkey).unwrap();
    }
}

both_engines! {
    async fn a_database_that_was_never_published_comes_back_from_its_producers(db: TestDatabase) {
        let (other, empty) = (db.another().await, db.another().await);
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::start(&db).await;
        let vkey = VerifierKey::parse(&ledger.create("acme").await.vkey).unwrap();
        let mut service = Service::new(&other, folder.path()).await;
        service.start(&ledger);
        let mut customer = ledger.producer("inventory", "acme").await;
        let mut client = ledger.client("services/inventory");
        let (mut kept, mut ids) = (Vec::new(), Vec::new());
        for round in 0..5 {
            let records: Vec<_> = (0..3).map(|n| customer.next(&ownership(n), &[])).collect();
            let receipts = append(&mut client, "acme", records.clone()).await;
            kept.extend(records.into_iter().zip(receipts));
            let decided = service.decide(1 + round * 10).await;
            service.receipts(&decided).await;
            ids.extend(decided);
            ledger.clock.advance_ms(i64::try_from(round).unwrap() * 7);
            let mut sealer = ledger.client("services/recertification");
            let seal = SealEpochRequest { tenant: "tenants/acme".to_owned() };
            sealer.seal_epoch(seal).await.unwrap();
        }
        service.stop().await;
        let config = ledger.config_on(&empty);
        let Ledger { running, folder: ledger_folder, clock, .. } = ledger;
        running.stop().await.unwrap();
        let file = folder.path().join("records");
        let text = file_of(&kept);
        // Not all of it at first.
        std::fs::write(&file, text.split_inclusive('\n').skip(1).collect::<String>()).unwrap();
        let open = async || {
            let outbox = KeptOutbox::open(&other.url(SERVICE), SERVICE).await.unwrap();
            let files = std::slice::from_ref(&file);
            let logs = Offline::open(&config).await.unwrap();
            logs.with_producers(vec![outbox], files).unwrap()
        };
        let logs = open().await;
        assert_eq!(logs.recoverable().await.unwrap(), ["acme"]);
        let said = match logs.recover("acme", &mut |_, _| {}).await {
            Err(EngineError::Damaged { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
        assert!(said.contains(&format!("entry {};", kept[0].1.index)), "{said}");
        assert_eq!(logs.size("acme").await.unwrap(), 0);
        logs.close().await;
        std::fs::write(&file, &text).unwrap();
        let logs = open().await;
        let back = logs.recover("acme", &mut |_, _| {}).await.unwrap();
        assert_eq!(back.from, 0);
        assert!(logs.fsck("acme", &mut |_, _| {}).await.unwrap().is_clean());
        logs.close().await;
        let (changed, wrong) = change(&kept);
        std::fs::write(&file, file_of(&changed)).unwrap();
        let logs = open().await;
        let found = logs.fsck("acme", &mut |_, _| {}).await.unwrap().problems;
        let at: Vec<_> = found.iter().filter_map(|problem| problem.index).collect();
        assert_eq!(at, wrong, "{found:?}");
        logs.close().await;
        // The service goes on, every receipt stands for what is there, and nothing is logged twice.
        let ledger = Ledger::start_again_on(ledger_folder, config, clock).await;
        service.start(&ledger);
        let next = service.decide(2).await;
        service.receipts(&next).await;
        let mut receipts: Vec<Receipt> = kept.iter().map(|(_, receipt)| receipt.clone()).collect();
        receipts.extend(service.receipts(&ids).await);
        still_there(&ledger, receipts, &vkey).await;
        service.stop().await;
        let size = {
            let mut client = ledger.client("services/inventory");
            let again = append(&mut client, "acme", kept.iter().map(|(signed, _)| signed.clone()).collect()).await;
            again.iter().zip(&kept).for_each(|(now, (_, then))| assert_eq!(now.index, then.index));
            append(&mut client, "acme", vec![customer.next(&ownership(9), &[])]).await[0].index
        };
        assert_eq!(size, back.size + 2);
        ledger.running.stop().await.unwrap();
    }
}
