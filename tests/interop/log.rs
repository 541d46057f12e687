//! A log of the C2SP layout on disk, written with `counterfoil-tlog` the way the engine publishes it.

use std::fs;
use std::path::{Path, PathBuf};

use counterfoil_tlog::Checkpoint;
use counterfoil_tlog::hash::leaf_hash;
use counterfoil_tlog::merkle::MerkleTree;
use counterfoil_tlog::note::NoteSigner;
use counterfoil_tlog::proof::TlogProof;
use counterfoil_tlog::tile::{encode_entries, entry_bundles_for, tiles_for};

/// Origin and key name of the log.
pub const ORIGIN: &str = "ledger.example/t/acme";
/// Seed of the log's key: that of the known-answer vectors.
pub const SEED: [u8; 32] = [1; 32];

/// A log in a directory of its own, removed when dropped.
pub struct Log {
    directory: tempfile::TempDir,
    tree: MerkleTree,
    signer: NoteSigner,
}

impl Log {
    /// A log with the entries `entry 0`, `entry 1` and so on.
    pub fn of_size(size: u64) -> Self {
        Self::new(
            (0..size)
                .map(|index| format!("entry {index}").into_bytes())
                .collect(),
        )
    }

    /// A log with these entries.
    pub fn new(entries: Vec<Vec<u8>>) -> Self {
        let log = Self {
            directory: tempfile::tempdir().unwrap(),
            tree: MerkleTree::from_leaves(entries.iter().map(|entry| leaf_hash(entry)).collect()),
            signer: NoteSigner::from_seed(ORIGIN, &SEED).unwrap(),
        };
        let size = log.tree.size();
        for path in tiles_for(0, size) {
            log.write(&path.to_string(), &path.read(&log.tree).unwrap());
        }
        for path in entry_bundles_for(0, size) {
            let first = usize::try_from(path.start()).unwrap();
            let entries = &entries[first..first + usize::from(path.width())];
            log.write(&path.to_string(), &encode_entries(entries).unwrap());
        }
        log.write("checkpoint", log.checkpoint(size).as_bytes());
        fs::write(log.vkey_file(), format!("{}\n", log.signer.vkey())).unwrap();
        log
    }

    /// The prefix: what an HTTP server would serve.
    pub fn prefix(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// A file with the log's verifier key.
    pub fn vkey_file(&self) -> PathBuf {
        self.directory.path().join("vkey")
    }

    /// The text of the log's verifier key.
    pub fn vkey(&self) -> String {
        self.signer.vkey()
    }

    /// The signed checkpoint of the first entries.
    pub fn checkpoint(&self, size: u64) -> String {
        let root = self.tree.root_at(size).unwrap();
        Checkpoint {
            origin: ORIGIN.to_owned(),
            size,
            root,
        }
        .sign(&self.signer)
        .unwrap()
    }

    /// The receipt for an entry under the checkpoint of a size.
    pub fn receipt(&self, index: u64, size: u64) -> String {
        let path = self.tree.inclusion_proof(index, size).unwrap();
        let checkpoint =
            counterfoil_tlog::note::Note::parse(self.checkpoint(size).as_bytes()).unwrap();
        TlogProof {
            index,
            path,
            checkpoint,
        }
        .to_string()
    }

    /// Puts a text beside the log, for a checker to be told of.
    pub fn beside(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Changes a file of the log.
    pub fn edit(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.prefix().join(path);
        let mut content = fs::read(&path).unwrap();
        change(&mut content);
        fs::write(&path, content).unwrap();
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.prefix().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// All files below a directory, as paths relative to it.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(directory).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}
