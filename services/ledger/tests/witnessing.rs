//! Witnesses: receipts that say WITNESSED, writing that never waits for them, and a log that is not the one they have seen.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;
#[path = "support/witness.rs"]
mod witness;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use counterfoil_chassis::{Clock, both_engines, client, testing::TestDatabase};
use counterfoil_evidence::anchor::{self, AnchorKeys, Anchored};
use counterfoil_evidence::v1::OwnershipSet;
use counterfoil_proto::{
    common::{EvidenceState, Receipt},
    ledger::{
        AnchoredEpoch, GetReceiptRequest, ProveAnchoredRequest, ProveAnchoredResponse,
        get_receipt_request::Selector,
    },
};
use counterfoil_tlog::anchor_proof::{AnchorProof, LoggedEntry};
use counterfoil_tlog::{Hash, Policy, TlogProof, VerifierKey, checkpoint};
use support::{Client, Ledger, Producer, append};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use witness::{ForeignWitness, HttpWitness};

fn ownership(number: u64) -> OwnershipSet {
    OwnershipSet {
        object: format!("accounts/{number}"),
        role: 1,
        owner: "principals/alice".to_owned(),
    }
}

/// A service with two witnesses, of which it needs both, and one log.
struct Scene {
    ledger: Ledger,
    folder: tempfile::TempDir,
    witnesses: [HttpWitness; 2],
    client: Client,
    inventory: Producer,
    vkey: VerifierKey,
}

impl Scene {
    async fn new(db: &TestDatabase, publishes: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let witnesses = [
            HttpWitness::start("w1", folder.path()).await,
            HttpWitness::start("w2", folder.path()).await,
        ];
        let policy = folder.path().join("policy");
        let lines = [witnesses[0].line("A"), witnesses[1].line("B")].concat();
        std::fs::write(&policy, format!("{lines}group both all A B\nquorum both\n")).unwrap();
        let copies = folder.path().join("copies");
        let ledger = Ledger::start_with(db, |settings| {
            settings.witness_policy_file = Some(policy);
            settings.publish_url = publishes.then(|| format!("file://{}", copies.display()));
            settings.publish_interval_seconds = Some(86_400);
            settings.witness_interval_seconds = Some(86_400);
        })
        .await;
        let vkey = VerifierKey::parse(&ledger.create("acme").await.vkey).unwrap();
        for one in &witnesses {
            one.witness.learn(&vkey);
        }
        let inventory = ledger.producer("inventory", "acme").await;
        let client = ledger.client("services/inventory");
        Self {
            ledger,
            folder,
            witnesses,
            client,
            inventory,
            vkey,
        }
    }

    async fn grow(&mut self, records: u64) -> Vec<Receipt> {
        let records = (0..records).map(|n| self.inventory.next(&ownership(n), &[]));
        append(&mut self.client, "acme", records.collect()).await
    }

    async fn receipt(&mut self, index: u64, state: EvidenceState, wait_seconds: u32) -> Receipt {
        receipt(&mut self.client, "acme", index, state, wait_seconds).await
    }

    /// Proofs of epochs, when there are some: they are made in their own time.
    async fn prove(&mut self, epochs: Vec<u64>) -> ProveAnchoredResponse {
        let request = ProveAnchoredRequest {
            tenant: "tenants/acme".to_owned(),
            epochs,
            ..Default::default()
        };
        loop {
            let answer = self.client.prove_anchored(request.clone()).await.unwrap();
            let answer = answer.into_inner();
            if !answer.epochs.is_empty() {
                return answer;
            }
        }
    }

    fn keys(&self, shown: &ProveAnchoredResponse) -> AnchorKeys {
        let witnesses = self.witnesses.iter();
        AnchorKeys {
            log: VerifierKey::parse(&shown.vkey).unwrap(),
            registrar: VerifierKey::parse(&shown.registrar_vkey).unwrap(),
            witnesses: witnesses.map(|one| one.witness.key().clone()).collect(),
        }
    }

    /// What one of the epochs says, as an auditor reads it who knows these witnesses.
    fn anchored(&self, shown: &ProveAnchoredResponse, at: usize) -> Anchored {
        let proof = std::str::from_utf8(&shown.epochs[at].proof).unwrap();
        let proof = AnchorProof::parse(proof).unwrap();
        anchor::anchored(&proof, self.vkey.name(), &self.keys(shown)).unwrap()
    }

    fn policy(&self) -> Policy {
        let keys = self
            .witnesses
            .each_ref()
            .map(|one| one.witness.key().clone());
        Policy::of(keys.to_vec(), 2).unwrap()
    }
}

async fn receipt(
    client: &mut Client,
    tenant: &str,
    index: u64,
    state: EvidenceState,
    wait_seconds: u32,
) -> Receipt {
    let request = GetReceiptRequest {
        tenant: format!("tenants/{tenant}"),
        selector: Some(Selector::Index(index)),
        state: state.into(),
        wait_seconds,
    };
    let answer = client.get_receipt(request).await.unwrap();
    answer.into_inner().receipt.unwrap()
}

/// Verifies a receipt as an auditor does who trusts the log's key and these witnesses; the size that it is under, and who cosigned.
fn proved(receipt: &Receipt, vkey: &VerifierKey, policy: &Policy) -> (u64, Vec<VerifierKey>) {
    let proof = TlogProof::parse(std::str::from_utf8(&receipt.tlog_proof).unwrap()).unwrap();
    let leaf = Hash(receipt.leaf_hash.as_slice().try_into().unwrap());
    let keys = policy.witnesses().iter().map(|one| one.key.clone());
    let keys: Vec<VerifierKey> = keys.collect();
    let signed = proof.verify(&leaf, vkey, &keys).unwrap();
    let cosigners = signed.cosignatures.into_iter().map(|one| one.key);
    (signed.checkpoint.size, cosigners.collect())
}

/// Waits until the service says that it takes no records.
async fn no_longer_serving(ledger: &Ledger) {
    let mut health = HealthClient::new(client::connect(&ledger.running.url(), None).unwrap());
    let asked = HealthCheckRequest {
        service: "counterfoil.ledger.v1.LedgerService/Append".to_owned(),
    };
    let mut watch = health.watch(asked).await.unwrap().into_inner();
    while watch.message().await.unwrap().unwrap().status != 2 {}
}

fn published(folder: &Path) -> PathBuf {
    folder.join("copies/acme/checkpoint")
}

both_engines! {
    async fn a_receipt_says_witnessed_when_enough_witnesses_have_cosigned(db: TestDatabase) {
        let mut scene = Scene::new(&db, true).await;
        let policy = scene.policy();
        let logged = scene.grow(300).await.pop().unwrap();
        let found = scene.receipt(logged.index, EvidenceState::Witnessed, 30).await;
        assert_eq!(found.state(), EvidenceState::Witnessed);
        let (size, cosigners) = proved(&found, &scene.vkey, &policy);
        assert!(size > logged.index && policy.is_met_by(&cosigners));
        assert_eq!((&found.record_id, &found.leaf_hash), (&logged.record_id, &logged.leaf_hash));
        // Older entries are under the same checkpoint, and so whoever asks for less gets more.
        let older = scene.receipt(7, EvidenceState::Logged, 0).await;
        assert_eq!(older.state(), EvidenceState::Witnessed);
        assert_eq!(proved(&older, &scene.vkey, &policy), (size, cosigners));
        // What comes later is not.
        let later = scene.grow(1).await.remove(0);
        let found = scene.receipt(later.index, EvidenceState::Witnessed, 0).await;
        assert_eq!(found.state(), EvidenceState::Logged);
        let found = scene.receipt(later.index, EvidenceState::Witnessed, 30).await;
        assert_eq!(found.state(), EvidenceState::Witnessed);
        assert_eq!(proved(&found, &scene.vkey, &policy).0, later.index + 1);
        // The published checkpoint has the lines when the witnesses have answered, a moment after the last of them.
        let note = loop {
            let note = std::fs::read(published(scene.folder.path())).unwrap();
            let keys: Vec<VerifierKey> = policy.witnesses().iter().map(|one| one.key.clone()).collect();
            let opened = checkpoint::open(&note, &scene.vkey, &keys).unwrap();
            if opened.cosignatures.len() == 2 { break opened }
            tokio::task::yield_now().await;
        };
        assert_eq!(note.checkpoint.size, later.index + 1);
    }

    async fn a_witness_that_is_away_keeps_nobody_from_writing(db: TestDatabase) {
        let mut scene = Scene::new(&db, false).await;
        scene.witnesses[1].is_away.store(true, Ordering::SeqCst);
        let logged = scene.grow(5).await.pop().unwrap();
        let found = scene.receipt(logged.index, EvidenceState::Witnessed, 2).await;
        assert_eq!(found.state(), EvidenceState::Logged);
        assert_eq!(proved(&found, &scene.vkey, &scene.policy()).1, []);
        scene.grow(1).await;
        // It comes back; after its rest it is asked again.
        scene.witnesses[1].is_away.store(false, Ordering::SeqCst);
        scene.ledger.clock.advance_ms(600_000);
        for one in &scene.witnesses {
            one.witness.now_s.fetch_add(600, Ordering::SeqCst);
        }
        let found = scene.receipt(logged.index, EvidenceState::Witnessed, 30).await;
        assert_eq!(found.state(), EvidenceState::Witnessed);
        let (_, cosigners) = proved(&found, &scene.vkey, &scene.policy());
        assert!(scene.policy().is_met_by(&cosigners));
    }

    async fn nothing_counts_as_anchored_before_the_witnesses_have_cosigned_the_anchor_log(db: TestDatabase) {
        let mut scene = Scene::new(&db, true).await;
        let policy = scene.policy();
        let logged = scene.grow(3).await.pop().unwrap();
        // They do not know the anchor log: it could be any of two.
        scene.receipt(logged.index, EvidenceState::Published, 30).await;
        let found = scene.receipt(logged.index, EvidenceState::Anchored, 2).await;
        assert_ne!(found.state(), EvidenceState::Anchored);
        assert!(found.anchor_proof.is_empty());
        // What it states is proved all the same, to whoever asks for no more.
        let shown = scene.prove(vec![]).await;
        let vkey = VerifierKey::parse(&shown.vkey).unwrap();
        let anchored = scene.anchored(&shown, 0);
        assert!(anchored.head.unwrap().size > logged.index && anchored.cosigners.is_empty());
        for one in &scene.witnesses {
            one.witness.learn(&vkey);
            one.witness.now_s.fetch_add(600, Ordering::SeqCst);
        }
        scene.ledger.clock.advance_ms(600_000);
        let found = scene.receipt(logged.index, EvidenceState::Anchored, 30).await;
        assert_eq!(found.state(), EvidenceState::Anchored);
        let shown = scene.prove(vec![]).await;
        let proof = AnchoredEpoch { proof: found.anchor_proof.clone(), ..shown.epochs[0].clone() };
        let receipt = scene.anchored(&ProveAnchoredResponse { epochs: vec![proof], ..shown.clone() }, 0);
        assert!(policy.is_met_by(&receipt.cosigners));
        assert_eq!(receipt.head.unwrap().size, proved(&found, &scene.vkey, &policy).0);
        assert!(policy.is_met_by(&scene.anchored(&shown, 0).cosigners));
        let binding = LoggedEntry::parse(std::str::from_utf8(&shown.binding).unwrap()).unwrap();
        assert!(policy.is_met_by(&anchor::bound(&binding, &scene.vkey, &scene.keys(&shown)).unwrap().cosigners));
        // A later epoch does not count while one of them is away; what counted before does.
        scene.witnesses[1].is_away.store(true, Ordering::SeqCst);
        let later = scene.grow(1).await.remove(0);
        scene.receipt(later.index, EvidenceState::Published, 30).await;
        let found = scene.receipt(later.index, EvidenceState::Anchored, 2).await;
        assert_ne!(found.state(), EvidenceState::Anchored);
        let found = scene.receipt(logged.index, EvidenceState::Anchored, 0).await;
        assert_eq!(found.state(), EvidenceState::Anchored);
        let shown = scene.prove(vec![]).await;
        let last = shown.epochs.len() - 1;
        assert!(shown.epochs.len() < 16 && policy.is_met_by(&scene.anchored(&shown, last).cosigners));
        let number = shown.epochs[last].epoch + 1;
        let shown = scene.prove(vec![number]).await;
        let later_one = scene.anchored(&shown, 0);
        assert!(later_one.head.unwrap().size > later.index && !policy.is_met_by(&later_one.cosigners));
    }

    async fn a_witness_that_does_not_answer_holds_up_nobody_but_itself(db: TestDatabase) {
        let mut scene = Scene::new(&db, false).await;
        let policy = scene.folder.path().join("any");
        let lines = [scene.witnesses[0].line("A"), scene.witnesses[1].line("B")].concat();
        std::fs::write(&policy, format!("{lines}group one any A B\nquorum one\n")).unwrap();
        let answers = scene.witnesses[0].witness.key().clone();
        scene.witnesses[1].is_silent.store(true, Ordering::SeqCst);
        let policy = Some(policy);
        scene.ledger = scene.ledger.restart_with(|settings| settings.witness_policy_file = policy).await;
        scene.client = scene.ledger.client("services/inventory");
        // All of it is over before the silent one is given up for the first time.
        for _ in 0..3 {
            let logged = scene.grow(1).await.remove(0);
            let found = scene.receipt(logged.index, EvidenceState::Witnessed, 9).await;
            assert_eq!(found.state(), EvidenceState::Witnessed);
            let (size, cosigners) = proved(&found, &scene.vkey, &scene.policy());
            assert!(size > logged.index && cosigners == [answers.clone()]);
        }
    }

    async fn what_was_cosigned_is_known_at_the_start_while_no_witness_answers(db: TestDatabase) {
        let mut scene = Scene::new(&db, true).await;
        let policy = scene.policy();
        let logged = scene.grow(3).await.pop().unwrap();
        // The anchor log is there with the first epoch, and known to nobody.
        scene.receipt(logged.index, EvidenceState::Published, 30).await;
        scene.receipt(logged.index, EvidenceState::Anchored, 2).await;
        let shown = scene.prove(vec![]).await;
        let vkey = VerifierKey::parse(&shown.vkey).unwrap();
        for one in &scene.witnesses {
            one.witness.learn(&vkey);
            one.witness.now_s.fetch_add(600, Ordering::SeqCst);
        }
        scene.ledger.clock.advance_ms(600_000);
        let before = scene.receipt(logged.index, EvidenceState::Anchored, 30).await;
        assert_eq!(before.state(), EvidenceState::Anchored);
        let before = scene.receipt(logged.index, EvidenceState::Witnessed, 30).await;
        for one in &scene.witnesses {
            one.is_silent.store(true, Ordering::SeqCst);
        }
        scene.ledger = scene.ledger.restart().await;
        scene.client = scene.ledger.client("services/inventory");
        // Nothing is waited for: it was there before.
        let found = scene.receipt(logged.index, EvidenceState::Witnessed, 0).await;
        assert_eq!(found.state(), EvidenceState::Witnessed);
        assert_eq!(proved(&found, &scene.vkey, &policy), proved(&before, &scene.vkey, &policy));
        let shown = scene.prove(vec![]).await;
        let last = scene.anchored(&shown, shown.epochs.len() - 1);
        assert!(last.head.unwrap().size > logged.index && policy.is_met_by(&last.cosigners));
    }

    async fn a_log_that_is_older_than_its_witnesses_is_stopped_at_the_start(db: TestDatabase) {
        let mut scene = Scene::new(&db, false).await;
        let logged = scene.grow(20).await.pop().unwrap();
        let found = scene.receipt(logged.index, EvidenceState::Witnessed, 30).await;
        assert_eq!(found.state(), EvidenceState::Witnessed);
        let Scene { ledger, witnesses, inventory, .. } = scene;
        let requests = || -> u64 {
            let requests = witnesses.iter().map(|one| &one.witness.requests);
            requests.map(|requests| requests.load(Ordering::SeqCst)).sum()
        };
        let before = requests();
        // As if all was lost but the keys, and nobody remembers but the witnesses.
        let empty = db.another().await;
        let ledger = ledger.restart_on(&empty).await;
        ledger.create("acme").await;
        no_longer_serving(&ledger).await;
        assert_eq!(requests(), before, "it was seen by what they show, before anything was sent to them");
        let mut client = ledger.client("services/inventory");
        let refused = client.register_producer(inventory.registration()).await.unwrap_err();
        assert_eq!(refused.code(), Code::DataLoss);
        assert!(refused.message().contains("witness.example/w"), "{refused}");
    }
}

#[tokio::test]
async fn only_the_logs_that_the_policy_names_are_shown() {
    let db = TestDatabase::new(counterfoil_chassis::db::Engine::Sqlite).await;
    let first = Ledger::start(&db).await;
    let vkey = VerifierKey::parse(&first.create("acme").await.vkey).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let witness = HttpWitness::start("w1", folder.path()).await;
    witness.witness.learn(&vkey);
    let policy = folder.path().join("policy");
    let text = format!("log {vkey}\n{}quorum A\n", witness.line("A"));
    std::fs::write(&policy, text).unwrap();
    let ledger = first
        .restart_with(|settings| settings.witness_policy_file = Some(policy))
        .await;
    ledger.create("beta").await;
    let mut client = ledger.client("services/inventory");
    let shown = receipt(&mut client, "acme", 0, EvidenceState::Witnessed, 30).await;
    assert_eq!(shown.state(), EvidenceState::Witnessed);
    let hidden = receipt(&mut client, "beta", 0, EvidenceState::Witnessed, 2).await;
    assert_eq!(hidden.state(), EvidenceState::Logged);
    assert_eq!(witness.witness.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_witness_by_another_author_cosigns_and_remembers() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut foreign) = ForeignWitness::new(folder.path()) else {
        let test = "a_witness_by_another_author_cosigns_and_remembers";
        let why = "aics-witness is not installed, which takes Python 3.12 (./tests/run install)";
        // Past the harness, which keeps to itself what a good test prints.
        writeln!(std::io::stderr(), "SKIPPED {test}: {why}").unwrap();
        return;
    };
    let db = TestDatabase::new(counterfoil_chassis::db::Engine::Sqlite).await;
    let now_ms = Clock::system().now_ms();
    let plain = Ledger::start_at(&db, now_ms, |_| {}).await;
    let vkey = VerifierKey::parse(&plain.create("acme").await.vkey).unwrap();
    foreign.learn(&vkey);
    let policy = folder.path().join("policy");
    let text = format!("{}quorum F\n", foreign.serve("F"));
    std::fs::write(&policy, &text).unwrap();
    let ledger = plain
        .restart_with(|settings| {
            settings.witness_policy_file = Some(policy);
            settings.witness_interval_seconds = Some(86_400);
        })
        .await;
    let policy = Policy::parse(text.as_bytes()).unwrap();
    let mut inventory = ledger.producer("inventory", "acme").await;
    let mut client = ledger.client("services/inventory");
    // Twice: with a consistency proof from nothing, and from what it has cosigned.
    for records in [3, 300] {
        let records = (0..records)
            .map(|n| inventory.next(&ownership(n), &[]))
            .collect();
        let logged = append(&mut client, "acme", records).await.pop().unwrap();
        let found = receipt(
            &mut client,
            "acme",
            logged.index,
            EvidenceState::Witnessed,
            30,
        )
        .await;
        assert_eq!(found.state(), EvidenceState::Witnessed);
        let (size, cosigners) = proved(&found, &vkey, &policy);
        assert!(size > logged.index && cosigners == [foreign.key.clone()]);
    }
    // It has seen more than a log that begins again.
    let empty = db.another().await;
    let ledger = ledger.restart_on(&empty).await;
    ledger.create("acme").await;
    no_longer_serving(&ledger).await;
}
