//! What the anchor log proves of a tenant's log: over gRPC, verified offline with nothing but keys.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use counterfoil_chassis::{both_engines, testing::TestDatabase};
use counterfoil_evidence::anchor::{self, AnchorKeys};
use counterfoil_evidence::v1::OwnershipSet;
use counterfoil_proto::common::{EvidenceState, Receipt};
use counterfoil_proto::ledger::{
    GetReceiptRequest, ProveAnchoredRequest, ProveAnchoredResponse, get_receipt_request::Selector,
};
use counterfoil_tlog::anchor_proof::{AnchorProof, LoggedEntry};
use counterfoil_tlog::{Hash, VerifierKey, proof};
use support::{Client, Ledger, append};
use tonic::{Code, Status};

const ORIGIN: &str = "counterfoil.local/t/acme";
const TENANT: &str = "tenants/acme";

fn ownership(number: u64) -> OwnershipSet {
    OwnershipSet {
        object: format!("accounts/{number}"),
        role: 1,
        owner: "principals/alice".to_owned(),
    }
}

async fn receipt(client: &mut Client, index: u64, state: EvidenceState) -> Receipt {
    let request = GetReceiptRequest {
        tenant: TENANT.to_owned(),
        selector: Some(Selector::Index(index)),
        state: state.into(),
        wait_seconds: 30,
    };
    client
        .get_receipt(request)
        .await
        .unwrap()
        .into_inner()
        .receipt
        .unwrap()
}

async fn prove(
    client: &mut Client,
    change: impl FnOnce(&mut ProveAnchoredRequest),
) -> Result<ProveAnchoredResponse, Status> {
    let mut request = ProveAnchoredRequest {
        tenant: TENANT.to_owned(),
        ..Default::default()
    };
    change(&mut request);
    Ok(client.prove_anchored(request).await?.into_inner())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn keys(answer: &ProveAnchoredResponse) -> AnchorKeys {
    AnchorKeys {
        log: VerifierKey::parse(&answer.vkey).unwrap(),
        registrar: VerifierKey::parse(&answer.registrar_vkey).unwrap(),
        witnesses: Vec::new(),
    }
}

/// Size and root of the head that a proof has of the log.
fn head(proof: &[u8], keys: &AnchorKeys) -> (u64, u64, Hash) {
    let proof = AnchorProof::parse(text(proof)).unwrap();
    let found = anchor::anchored(&proof, ORIGIN, keys).unwrap();
    let head = found.head.unwrap();
    (found.epoch.epoch, head.size, head.root)
}

both_engines! {
    async fn a_head_is_anchored_when_somebody_waits_for_it(db: TestDatabase) {
        let copy = tempfile::tempdir().unwrap();
        let url = format!("file://{}", copy.path().display());
        let ledger = Ledger::start_with(&db, |settings| {
            settings.publish_url = Some(url);
            settings.publish_interval_seconds = Some(86_400);
            settings.anchor_interval_seconds = Some(86_400);
        })
        .await;
        let vkey = VerifierKey::parse(&ledger.create("acme").await.vkey).unwrap();
        ledger.create("beta").await;
        let mut inventory = ledger.producer("inventory", "acme").await;
        let mut client = ledger.client("services/inventory");
        assert_eq!(prove(&mut client, |_| {}).await.unwrap().epochs, []);
        let logged = append(&mut client, "acme", vec![inventory.next(&ownership(1), &[])]).await;
        let index = logged[0].index;
        let anchored = receipt(&mut client, index, EvidenceState::Anchored).await;
        assert_eq!(anchored.state(), EvidenceState::Anchored);
        // The proof of the entry is under the head that is anchored, and nothing but keys is needed to see it.
        let leaf = Hash(anchored.leaf_hash.as_slice().try_into().unwrap());
        let (_, under) = proof::verify(text(&anchored.tlog_proof), &leaf, &vkey).unwrap();
        let answer = prove(&mut client, |_| {}).await.unwrap();
        let keys = keys(&answer);
        assert_eq!(keys.log.name(), "counterfoil.local/anchor");
        assert_eq!(head(&anchored.anchor_proof, &keys), (1, under.size, under.root));
        assert!(under.size > index);
        let binding = LoggedEntry::parse(text(&answer.binding)).unwrap();
        anchor::bound(&binding, &vkey, &keys).unwrap();
        let other = VerifierKey::parse(&ledger.create("beta").await.vkey).unwrap();
        anchor::bound(&binding, &other, &keys).unwrap_err();
        let foreign = AnchorProof::parse(text(&anchored.anchor_proof)).unwrap();
        anchor::anchored(&foreign, "counterfoil.local/t/beta", &keys).unwrap_err();
        // What comes later is published before it is anchored.
        let later = append(&mut client, "acme", vec![inventory.next(&ownership(2), &[])]).await;
        let published = receipt(&mut client, later[0].index, EvidenceState::Published).await;
        assert_eq!(published.state(), EvidenceState::Published);
        assert!(published.anchor_proof.is_empty());
        let answer = prove(&mut client, |request| request.wait_seconds = 30).await.unwrap();
        let numbers: Vec<u64> = answer.epochs.iter().map(|one| one.epoch).collect();
        assert_eq!(numbers, [1, 2]);
        let size = later[0].index + 1;
        assert_eq!(head(&answer.epochs[1].proof, &keys).1, size);
        // Of an epoch that has more than is asked for, nothing is told.
        let answer = prove(&mut client, |request| request.size = size - 1).await.unwrap();
        assert_eq!(answer.epochs.len(), 1);
        let answer = prove(&mut client, |request| request.epochs = vec![2, 9, 2]).await.unwrap();
        assert_eq!(answer.epochs.len(), 1);
        assert_eq!(head(&answer.epochs[0].proof, &keys).0, 2);
        let refused = prove(&mut client, |request| request.epochs = vec![1; 17]).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        let refused = prove(&mut client, |request| request.wait_seconds = 31).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        ledger.running.stop().await.unwrap();
    }

    async fn where_nothing_is_anchored_nothing_is_waited_for(db: TestDatabase) {
        let ledger = Ledger::start_with(&db, |settings| settings.anchor_interval_seconds = Some(0)).await;
        ledger.create("acme").await;
        let mut client = ledger.client("services/authority");
        let answer = prove(&mut client, |request| request.wait_seconds = 30).await.unwrap();
        assert_eq!(answer, ProveAnchoredResponse::default());
        assert_eq!(receipt(&mut client, 0, EvidenceState::Anchored).await.state(), EvidenceState::Logged);
        ledger.running.stop().await.unwrap();
    }
}
