//! What witnesses have cosigned, taken away: checkpoints of smaller sizes in an export, and the lines on the newest one over HTTP.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "support/http.rs"]
mod http;
mod support;
#[path = "support/witness.rs"]
#[allow(dead_code, reason = "not every test file asks another author's")]
mod witness;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use counterfoil_chassis::{both_engines, testing::TestDatabase};
use counterfoil_evidence::v1::OwnershipSet;
use counterfoil_proto::{
    common::EvidenceState,
    ledger::{ExportLogRequest, GetReceiptRequest, get_receipt_request::Selector},
};
use counterfoil_tlog::{VerifierKey, checkpoint};
use http::http;
use support::{Client, Ledger, Producer, append};
use witness::HttpWitness;

const DAY_S: i64 = 86_400;

/// Appends a record, and waits until the witness has cosigned a log that has it; the size of that.
async fn grow(client: &mut Client, inventory: &mut Producer) -> u64 {
    let payload = OwnershipSet {
        object: "accounts/1".to_owned(),
        role: 1,
        owner: "principals/alice".to_owned(),
    };
    let record = inventory.next(&payload, &[]);
    let logged = append(client, "acme", vec![record]).await.remove(0);
    let request = GetReceiptRequest {
        tenant: "tenants/acme".to_owned(),
        selector: Some(Selector::Index(logged.index)),
        state: EvidenceState::Witnessed.into(),
        wait_seconds: 30,
    };
    let answer = client.get_receipt(request).await.unwrap().into_inner();
    assert_eq!(answer.receipt.unwrap().state(), EvidenceState::Witnessed);
    logged.index + 1
}

async fn exported(
    client: &mut Client,
    size: u64,
    with_cosigned: bool,
) -> BTreeMap<String, Vec<u8>> {
    let request = ExportLogRequest {
        tenant: "tenants/acme".to_owned(),
        size,
        with_cosigned,
    };
    let mut stream = client.export_log(request).await.unwrap().into_inner();
    let mut files = BTreeMap::<String, Vec<u8>>::new();
    while let Some(part) = stream.message().await.unwrap() {
        files.entry(part.path).or_default().extend(part.content);
    }
    files.retain(|path, _| !path.starts_with("tile/"));
    files
}

both_engines! {
    async fn what_witnesses_saw_earlier_goes_along_and_the_newest_has_their_lines(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let one = HttpWitness::start("w1", folder.path()).await;
        let policy = folder.path().join("policy");
        std::fs::write(&policy, format!("{}quorum A\n", one.line("A"))).unwrap();
        let ledger = Ledger::start_with(&db, |settings| {
            settings.witness_policy_file = Some(policy);
            settings.witness_interval_seconds = Some(86_400);
        })
        .await;
        let vkey = VerifierKey::parse(&ledger.create("acme").await.vkey).unwrap();
        one.witness.learn(&vkey);
        let mut inventory = ledger.producer("inventory", "acme").await;
        let mut client = ledger.client("services/inventory");
        let mut sizes = Vec::new();
        for _ in 0..3 {
            sizes.push(grow(&mut client, &mut inventory).await);
            // Of each day the first is kept.
            one.witness.now_s.fetch_add(DAY_S, Ordering::SeqCst);
            ledger.clock.advance_ms(DAY_S * 1000);
        }
        let seen = |note: &[u8]| {
            let opened = checkpoint::open(note, &vkey, std::slice::from_ref(one.witness.key())).unwrap();
            (opened.checkpoint.size, opened.cosignatures.len())
        };
        let files = exported(&mut client, sizes[2], true).await;
        let paths: Vec<&str> = files.keys().map(String::as_str).collect();
        let smaller: Vec<String> = sizes[..2].iter().map(|size| format!("checkpoints/{size}")).collect();
        assert!(smaller.iter().all(|path| paths.contains(&path.as_str())), "{paths:?}");
        for (path, note) in &files {
            let size = path.strip_prefix("checkpoints/").map_or(sizes[2], |size| size.parse().unwrap());
            assert_eq!(seen(note), (size, 1), "{path}");
        }
        // Of a smaller size nothing larger is told, and whoever does not ask is given what they were given.
        let part = exported(&mut client, sizes[1], true).await;
        assert!(!part.keys().any(|path| *path == format!("checkpoints/{}", sizes[1])));
        assert_eq!(exported(&mut client, sizes[2], false).await.len(), 1);

        let token = ledger.token("services/inventory");
        let (head, note) = http(&ledger, "/logs/acme/checkpoint", Some(token.expose())).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(seen(&note), (sizes[2], 1));
    }
}
