//! The published copy: files that any static server can serve, receipts that say so, and a log that fell behind its copy.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::path::Path;

use counterfoil_chassis::{both_engines, db::Engine, testing::TestDatabase};
use counterfoil_evidence::v1::OwnershipSet;
use counterfoil_proto::{
    common::{EvidenceState, Receipt},
    ledger::{
        CreateLogRequest, GetCheckpointRequest, GetReceiptRequest, get_receipt_request::Selector,
    },
};
use counterfoil_tlog::{Hash, VerifierKey, checkpoint, proof};
use support::{Client, Ledger, Producer, append};
use tonic::{Code, Status};

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
    let copy = tempfile::tempdir().unwrap();
    let url = format!("file://{}", copy.path().display());
    let ledger = Ledger::start_with(db, |settings| {
        settings.publish_url = Some(url);
        settings.publish_interval_seconds = Some(86_400);
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

/// Size of the copy's checkpoint.
fn copied(folder: &Path, vkey: &VerifierKey) -> u64 {
    let note = std::fs::read(folder.join("acme/checkpoint")).unwrap();
    checkpoint::open(&note, vkey, &[]).unwrap().checkpoint.size
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
