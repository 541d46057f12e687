//! The rows of the tampering matrix that the anchor log catches: a log that forked or fell back (T39), a second log of the same name and
//! key (T41), one under another name (T42), one left out or taken back for some epochs (T43).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::{Path, PathBuf};

use counterfoil_evidence::catalogue::{Payload, stream};
use counterfoil_evidence::v1;
use counterfoil_tlog::anchor_proof::{AnchorProof, LoggedEntry, MapHead};
use counterfoil_tlog::hash::{Hash, leaf_hash, sha256};
use counterfoil_tlog::merkle::MerkleTree;
use counterfoil_tlog::note::Note;
use counterfoil_tlog::sparse_map::{MapLeaf, SparseMap, key_of, salt_of};
use counterfoil_tlog::{Checkpoint, TlogProof, checkpoint};
use counterfoil_verify::bundle::{BundleReader, Limits};
use counterfoil_verify::testing::BundleFiles;
use counterfoil_verify::{Check, Options, Status, Trust, Verdict, Verification, verify};
use prost::Message as _;
use support::log::{Draft, LogBuilder, ORIGIN};

const ANCHOR: &str = "ledger.example/anchor";

/// The anchor log of the deployment, with what its maps are made of.
struct Anchor {
    log: LogBuilder,
    tree: MerkleTree,
    /// Of each epoch: where it stands, and its map's secret and leaves.
    epochs: Vec<(u64, [u8; 32], Vec<MapLeaf>)>,
    last: [u8; 32],
}

/// A head of a log.
type Head<'h> = (&'h str, u64, Hash);

impl Anchor {
    fn new() -> Self {
        Self {
            log: LogBuilder::of(ANCHOR, "_anchor"),
            tree: MerkleTree::new(),
            epochs: Vec::new(),
            last: [0; 32],
        }
    }

    fn append(&mut self, payload: &Payload) -> u64 {
        self.log.append(payload, Draft::default());
        let index = self.log.size() - 1;
        self.tree.push(leaf_hash(self.log.entries.last().unwrap()));
        index
    }

    fn bind(&mut self, vkey: &str) -> u64 {
        let vkey_hash = sha256(vkey.as_bytes()).0.to_vec();
        self.append(&Payload::TenantBound(v1::TenantBound { vkey_hash }))
    }

    /// An epoch with these heads, and that of another tenant.
    fn anchor(&mut self, heads: &[Head<'_>]) {
        let secret = sha256(&[u8::try_from(self.epochs.len()).unwrap()]).0;
        let other = ("ledger.example/t/beta", 7, Hash([7; 32]));
        let leaves: Vec<MapLeaf> = heads
            .iter()
            .chain([&other])
            .map(|(origin, size, root)| {
                let key = key_of(origin);
                let salt = salt_of(&secret, &key);
                MapLeaf {
                    key,
                    size: *size,
                    root: *root,
                    salt,
                }
            })
            .collect();
        let payload = v1::HeadsAnchored {
            epoch: self.epochs.len() as u64 + 1,
            prev_epoch_hash: self.last.to_vec(),
            map_root: SparseMap::new(&leaves).unwrap().root().0.to_vec(),
            log_count: leaves.len() as u64,
            anchored_at_ms: self.log.now_ms,
        };
        self.last = sha256(&payload.encode_to_vec()).0;
        let index = self.append(&Payload::HeadsAnchored(payload));
        self.epochs.push((index, secret, leaves));
    }

    /// An entry under the newest checkpoint.
    fn logged(&self, index: u64) -> LoggedEntry {
        let size = self.log.size();
        let checkpoint = self.log.checkpoint(size);
        LoggedEntry {
            entry: self.log.entries[usize::try_from(index).unwrap()].clone(),
            proof: TlogProof {
                index,
                path: self.tree.inclusion_proof(index, size).unwrap(),
                checkpoint: Note::parse(checkpoint.as_bytes()).unwrap(),
            },
        }
    }

    fn prove(&self, epoch: u64, origin: &str) -> AnchorProof {
        let (index, _, leaves) = &self.epochs[usize::try_from(epoch).unwrap() - 1];
        let key = key_of(origin);
        let leaf = leaves.iter().find(|leaf| leaf.key == key);
        AnchorProof {
            head: leaf.map(|leaf| MapHead {
                size: leaf.size,
                root: leaf.root,
                salt: leaf.salt,
            }),
            path: SparseMap::new(leaves).unwrap().path(&key),
            logged: self.logged(*index),
        }
    }
}

/// A log that passes every check, its anchor log, and a bundle of both.
struct Case {
    folder: tempfile::TempDir,
    log: LogBuilder,
    anchor: Anchor,
}

impl Case {
    fn new() -> Self {
        let log = support::cycle::build(20);
        let mut anchor = Anchor::new();
        anchor.bind("another log's key");
        anchor.bind(&log.log.vkey());
        Self {
            folder: tempfile::tempdir().unwrap(),
            log,
            anchor,
        }
    }

    /// The log's own head at a size.
    fn head(&self, size: u64) -> Head<'static> {
        let note = self.log.checkpoint(size);
        let signed = checkpoint::open(note.as_bytes(), self.log.log.verifier_key(), &[]).unwrap();
        let Checkpoint { size, root, .. } = signed.checkpoint;
        (ORIGIN, size, root)
    }

    /// Epochs with the log at these sizes, the last one whole.
    fn grown(mut self, sizes: &[u64]) -> Self {
        for size in sizes.iter().copied().chain([self.log.size()]) {
            let head = self.head(size);
            self.anchor.anchor(&[head]);
        }
        self
    }

    fn trust(&self) -> Trust {
        let mut trust: serde_json::Value = serde_json::from_str(&self.log.trust(&[])).unwrap();
        trust["anchor"] = serde_json::json!({
            "vkey": self.anchor.log.log.vkey(),
            "registrar": self.anchor.log.producers[stream::LEDGER].key.to_string(),
        });
        Trust::parse(trust.to_string().as_bytes()).unwrap()
    }

    /// A bundle that shows the binding, all epochs, and whatever is changed then.
    fn bundle(&self, change: impl FnOnce(&Path)) -> PathBuf {
        let [golden, target] = ["golden", "bundle"].map(|name| self.folder.path().join(name));
        for folder in [&golden, &target] {
            if folder.exists() {
                std::fs::remove_dir_all(folder).unwrap();
            }
        }
        self.log.write(&golden);
        let files = BundleFiles::copy(&golden, &target).unwrap();
        let below = |name: &str| target.join("anchor").join(name);
        std::fs::create_dir_all(below("epochs")).unwrap();
        let bound = sha256(self.log.log.vkey().as_bytes()).0;
        let bound = self
            .anchor
            .log
            .entries
            .iter()
            .position(|entry| entry.windows(32).any(|window| window == bound));
        if let Some(index) = bound {
            let bound = self.anchor.logged(index as u64);
            std::fs::write(below("bound"), bound.to_string()).unwrap();
        }
        for epoch in 1..=self.anchor.epochs.len() as u64 {
            let proof = self.anchor.prove(epoch, ORIGIN);
            std::fs::write(below(&format!("epochs/{epoch}")), proof.to_string()).unwrap();
        }
        change(&target.join("anchor"));
        files.seal().unwrap();
        target
    }

    fn verify(&self, change: impl FnOnce(&Path)) -> Verification {
        let bundle = self.bundle(change);
        let bundle = BundleReader::open(&bundle, &Limits::default()).unwrap();
        verify(&bundle, &self.trust(), &Options::default()).unwrap()
    }
}

fn check<'v>(found: &'v Verification, id: &str) -> &'v Check {
    found.checks.iter().find(|check| check.id == id).unwrap()
}

/// The one check that fails, and what it says.
fn fails(found: &Verification, id: &str, why: &str) {
    let failed: Vec<&str> = found.failed().map(|check| check.id).collect();
    let check = check(found, id);
    assert_eq!(failed, [id], "{}", check.detail);
    assert!(check.detail.contains(why), "{}", check.detail);
    assert_eq!(found.verdict, Verdict::Failed);
}

#[test]
fn a_log_that_was_bound_and_anchored_passes() {
    let case = Case::new().grown(&[100, 100, 200, 240]);
    let found = case.verify(|_| {});
    assert_eq!(
        found.verdict,
        Verdict::Ok,
        "{:?}",
        found.failed().collect::<Vec<_>>()
    );
    let w9 = check(&found, "W9");
    assert!(
        w9.status == Status::Pass && w9.detail.starts_with("5 of 5 epochs shown"),
        "{}",
        w9.detail
    );
    assert_eq!(check(&found, "W10").status, Status::Pass);
}

#[test]
fn what_is_not_shown_is_skipped_and_never_ok() {
    let case = Case::new().grown(&[100]);
    let found = case.verify(|anchor| std::fs::remove_dir_all(anchor).unwrap());
    for id in ["W9", "W10"] {
        let skipped = check(&found, id);
        assert_eq!(skipped.status, Status::Skip);
        assert!(
            skipped.detail.contains("nothing of the anchor log"),
            "{}",
            skipped.detail
        );
    }
    assert_eq!(found.verdict, Verdict::Incomplete);
    let found = Case::new().grown(&[100]).verify(|anchor| {
        std::fs::remove_dir_all(anchor.join("epochs")).unwrap();
    });
    assert_eq!(
        (check(&found, "W9").status, found.verdict),
        (Status::Skip, Verdict::Incomplete)
    );
    // Who trusts no anchor log is told that none was asked for.
    let case = Case::new().grown(&[100]);
    let bundle = BundleReader::open(&case.bundle(|_| {}), &Limits::default()).unwrap();
    let trust = Trust::parse(case.log.trust(&[]).as_bytes()).unwrap();
    let found = verify(&bundle, &trust, &Options::default()).unwrap();
    assert_eq!(
        (check(&found, "W9").status, found.verdict),
        (Status::Skip, Verdict::Ok)
    );
}

#[test]
fn t39_a_log_that_was_restored_and_went_on_otherwise_is_caught() {
    // The head that was anchored before is longer than the log is now.
    let mut case = Case::new();
    let size = case.log.size();
    case.anchor.anchor(&[(ORIGIN, size + 3, Hash([9; 32]))]);
    fails(&case.verify(|_| {}), "W9", "the log has");
    // It has caught up with it, with other entries.
    let mut case = Case::new();
    case.anchor.anchor(&[(ORIGIN, 200, Hash([9; 32]))]);
    let head = case.head(size);
    case.anchor.anchor(&[head]);
    fails(
        &case.verify(|_| {}),
        "W9",
        "the first 200 entries are not those that epoch 1 has",
    );
}

#[test]
fn t41_a_second_log_of_the_same_name_and_key_is_caught() {
    // The auditor gets one log, the map has the other.
    let mut case = Case::new();
    let size = case.log.size();
    case.anchor.anchor(&[(ORIGIN, size, Hash([9; 32]))]);
    fails(&case.verify(|_| {}), "W9", "are not those that epoch 1 has");
    // A map has no place for both: a proof of the other head leads to no root that was stated.
    let case = Case::new().grown(&[]);
    let found = case.verify(|anchor| {
        let mut proof = case.anchor.prove(1, ORIGIN);
        let head = proof.head.as_mut().unwrap();
        head.root = Hash([9; 32]);
        std::fs::write(anchor.join("epochs/1"), proof.to_string()).unwrap();
    });
    fails(
        &found,
        "W9",
        "the map of epoch 1 does not have what it says",
    );
}

#[test]
fn t42_a_log_that_was_not_bound_or_under_another_key_is_caught() {
    let unbound = |binding: &str| {
        let log = support::cycle::build(20);
        let mut anchor = Anchor::new();
        anchor.bind(binding);
        Case {
            folder: tempfile::tempdir().unwrap(),
            log,
            anchor,
        }
        .grown(&[])
    };
    let case = unbound("another log's key");
    fails(&case.verify(|_| {}), "W10", "no TenantBound");
    let found = case.verify(|anchor| {
        let bound = case.anchor.logged(0);
        std::fs::write(anchor.join("bound"), bound.to_string()).unwrap();
    });
    fails(
        &found,
        "W10",
        "binds another log, or this one under another key",
    );
    // Bound only after it had a head.
    let mut case = unbound("another log's key");
    let vkey = case.log.log.vkey();
    case.anchor.bind(&vkey);
    fails(&case.verify(|_| {}), "W10", "only after epoch 1");
}

#[test]
fn t43_a_log_that_is_left_out_or_taken_back_is_caught() {
    let mut case = Case::new();
    let heads = [100, 200].map(|size| case.head(size));
    case.anchor.anchor(&[heads[0]]);
    case.anchor.anchor(&[]);
    case.anchor.anchor(&[heads[1]]);
    fails(
        &case.verify(|_| {}),
        "W9",
        "epoch 2 has no head of this log, epoch 1 had",
    );
    let mut case = Case::new();
    case.anchor.anchor(&[]);
    case.anchor.anchor(&[heads[0]]);
    fails(
        &case.verify(|_| {}),
        "W9",
        "epoch 1 has no head of this log, which was bound before",
    );
    let mut case = Case::new();
    case.anchor.anchor(&[heads[1]]);
    case.anchor.anchor(&[heads[0]]);
    fails(
        &case.verify(|_| {}),
        "W9",
        "epoch 2 has a head of 100 entries, epoch 1 had more",
    );
}

#[test]
fn proofs_of_another_anchor_log_or_producer_or_out_of_place_are_caught() {
    let case = Case::new().grown(&[100]);
    let forged = |change: &dyn Fn(&mut Anchor)| {
        let mut other = Anchor::new();
        change(&mut other);
        other.bind("another log's key");
        other.bind(&case.log.log.vkey());
        let head = case.head(100);
        other.anchor(&[head]);
        other.prove(1, ORIGIN)
    };
    let signed_by_another = forged(&|other| {
        let seed = support::log::seed("another");
        other.log.log = counterfoil_tlog::NoteSigner::from_seed(ANCHOR, &seed).unwrap();
    });
    let stated_by_another = forged(&|other| {
        let authority = other.log.producers.remove(stream::AUTHORITY).unwrap();
        other.log.producers.insert(stream::LEDGER, authority);
    });
    for (proof, why) in [
        (signed_by_another, "epochs/1: "),
        (stated_by_another, "is not signed by the ledger service"),
        (case.anchor.prove(2, ORIGIN), "it is of epoch 2"),
    ] {
        let found = case.verify(|anchor| {
            std::fs::write(anchor.join("epochs/1"), proof.to_string()).unwrap();
        });
        fails(&found, "W9", why);
    }
    for text in ["", "counterfoil-anchor-proof/v1\nhead none\n", "x\n\ny"] {
        let found = case.verify(|anchor| {
            std::fs::write(anchor.join("epochs/1"), text).unwrap();
        });
        fails(&found, "W9", "malformed");
    }
}
