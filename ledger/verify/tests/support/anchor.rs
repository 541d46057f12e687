//! The anchor log of a deployment, and a bundle that shows what it says of a log.

use std::path::{Path, PathBuf};

use counterfoil_evidence::catalogue::{Payload, stream};
use counterfoil_evidence::v1;
use counterfoil_tlog::anchor_proof::{AnchorProof, LoggedEntry, MapHead};
use counterfoil_tlog::cosignature::Cosigner;
use counterfoil_tlog::hash::{Hash, leaf_hash, sha256};
use counterfoil_tlog::merkle::MerkleTree;
use counterfoil_tlog::note::Note;
use counterfoil_tlog::sparse_map::{MapLeaf, SparseMap, key_of, salt_of};
use counterfoil_tlog::{Checkpoint, TlogProof, checkpoint};
use counterfoil_verify::bundle::{BundleReader, Limits};
use counterfoil_verify::testing::BundleFiles;
use counterfoil_verify::{Options, Trust, Verification, verify};
use prost::Message as _;

use super::cycle;
use super::log::{Draft, LogBuilder, ORIGIN};

pub const ANCHOR: &str = "ledger.example/anchor";

/// The anchor log of the deployment, with what its maps are made of.
pub struct Anchor {
    pub log: LogBuilder,
    pub tree: MerkleTree,
    /// Of each epoch: where it stands, and its map's secret and leaves.
    pub epochs: Vec<(u64, [u8; 32], Vec<MapLeaf>)>,
    pub last: [u8; 32],
    /// Who cosigns its checkpoints.
    pub cosigners: Vec<Cosigner>,
}

/// When they say that they did, seconds since 1970.
pub const COSIGNED_S: u64 = 1_790_000_000;

/// A head of a log.
pub type Head<'h> = (&'h str, u64, Hash);

impl Anchor {
    pub fn new() -> Self {
        Self {
            log: LogBuilder::of(ANCHOR, "_anchor"),
            tree: MerkleTree::new(),
            epochs: Vec::new(),
            last: [0; 32],
            cosigners: Vec::new(),
        }
    }

    pub fn append(&mut self, payload: &Payload) -> u64 {
        self.log.append(payload, Draft::default());
        let index = self.log.size() - 1;
        self.tree.push(leaf_hash(self.log.entries.last().unwrap()));
        index
    }

    pub fn bind(&mut self, vkey: &str) -> u64 {
        let vkey_hash = sha256(vkey.as_bytes()).0.to_vec();
        self.append(&Payload::TenantBound(v1::TenantBound { vkey_hash }))
    }

    /// An epoch with these heads, and that of another tenant.
    pub fn anchor(&mut self, heads: &[Head<'_>]) {
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
    pub fn logged(&self, index: u64) -> LoggedEntry {
        let size = self.log.size();
        let mut checkpoint = Note::parse(self.log.checkpoint(size).as_bytes()).unwrap();
        let said = Checkpoint::parse(checkpoint.text()).unwrap();
        for cosigner in &self.cosigners {
            let line = cosigner.cosign(&said, COSIGNED_S).unwrap();
            checkpoint.add_signature(line).unwrap();
        }
        LoggedEntry {
            entry: self.log.entries[usize::try_from(index).unwrap()].clone(),
            proof: TlogProof {
                index,
                path: self.tree.inclusion_proof(index, size).unwrap(),
                checkpoint,
            },
        }
    }

    pub fn prove(&self, epoch: u64, origin: &str) -> AnchorProof {
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
pub struct Case {
    pub folder: tempfile::TempDir,
    pub log: LogBuilder,
    pub anchor: Anchor,
}

impl Case {
    pub fn new() -> Self {
        Self::of(cycle::build(20))
    }

    /// The same with another log, which the anchor log has bound.
    pub fn of(log: LogBuilder) -> Self {
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
    pub fn head(&self, size: u64) -> Head<'static> {
        let note = self.log.checkpoint(size);
        let signed = checkpoint::open(note.as_bytes(), self.log.log.verifier_key(), &[]).unwrap();
        let Checkpoint { size, root, .. } = signed.checkpoint;
        (ORIGIN, size, root)
    }

    /// Epochs with the log at these sizes, the last one whole.
    pub fn grown(mut self, sizes: &[u64]) -> Self {
        for size in sizes.iter().copied().chain([self.log.size()]) {
            let head = self.head(size);
            self.anchor.anchor(&[head]);
        }
        self
    }

    /// What an auditor trusts who kept checkpoints of the log at these sizes.
    pub fn trust(&self, kept: &[u64]) -> Trust {
        Trust::parse(self.trust_file(kept).to_string().as_bytes()).unwrap()
    }

    /// The trust file of that auditor.
    pub fn trust_file(&self, kept: &[u64]) -> serde_json::Value {
        let mut trust: serde_json::Value = serde_json::from_str(&self.log.trust(kept)).unwrap();
        trust["anchor"] = serde_json::json!({
            "vkey": self.anchor.log.log.vkey(),
            "registrar": self.anchor.log.producers[stream::LEDGER].key.to_string(),
        });
        trust
    }

    /// A bundle that shows the binding, all epochs, and whatever is changed then.
    pub fn bundle(&self, change: impl FnOnce(&Path)) -> PathBuf {
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

    pub fn verify(&self, change: impl FnOnce(&Path)) -> Verification {
        let bundle = self.bundle(change);
        let bundle = BundleReader::open(&bundle, &Limits::default()).unwrap();
        verify(&bundle, &self.trust(&[]), &Options::default()).unwrap()
    }
}
