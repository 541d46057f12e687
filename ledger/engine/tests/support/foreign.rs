//! An exported log as implementations by other authors see it: `signed_note`, `tlog_tiles` and `ct-merkle`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use counterfoil_engine::Log;
use counterfoil_evidence::record::{decode_entry, decode_record};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use sha2::Sha256;
use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::HashReader as _;

/// The files of an export by path.
pub(crate) struct Exported {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) order: Vec<String>,
}

impl Exported {
    pub(crate) async fn take(log: &Log, size: u64) -> Self {
        let mut export = log.export(size).await.unwrap();
        let (mut files, mut order) = (BTreeMap::new(), Vec::new());
        while let Some(file) = export.next().await.unwrap() {
            order.push(file.path.clone());
            assert!(files.insert(file.path, file.content).is_none());
        }
        Self { files, order }
    }

    /// The files of a published copy that its checkpoint stands for.
    pub(crate) fn published(copy: &Path) -> Self {
        let note = Note::from_bytes(&fs::read(copy.join("checkpoint")).unwrap()).unwrap();
        let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
        let size = checkpoint.size();
        let bundles = (0..size.div_ceil(256)).map(|n| match size - n * 256 {
            256.. => format!("tile/entries/{n:03}"),
            width => format!("tile/entries/{n:03}.p/{width}"),
        });
        let tiles = tlog_tiles::Tile::new_tiles(8, 0, size);
        let order: Vec<String> = bundles
            .chain(tiles.iter().map(c2sp_path))
            .chain(["checkpoint".to_owned()])
            .collect();
        let files = order.iter().map(|path| {
            let bytes = fs::read(copy.join(path));
            (path.clone(), bytes.unwrap_or_else(|_| panic!("no {path}")))
        });
        Self {
            files: files.collect(),
            order,
        }
    }

    /// Whether it is the log that had this root at this size, proved from its tiles.
    pub(crate) fn extends(&self, size: u64, root: [u8; 32]) -> bool {
        let note = Note::from_bytes(&self.files["checkpoint"]).unwrap();
        let newest = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
        if size == 0 || newest.size() < size {
            return size == 0;
        }
        let reader = tlog_tiles::TileHashReader::new(newest.size(), *newest.hash(), self);
        let proof = tlog_tiles::prove_tree(newest.size(), size, &reader).unwrap();
        let root = tlog_tiles::Hash(root);
        tlog_tiles::check_tree(&proof, newest.size(), *newest.hash(), size, root).is_ok()
    }

    /// Verifies signature, tiles, entries, chain and root with other people's code; returns the entries.
    pub(crate) fn verify(&self, vkey: &str) -> Vec<Vec<u8>> {
        assert_eq!(self.order.last().unwrap(), "checkpoint");
        let verifiers = VerifierList::new(vec![Box::new(StandardVerifier::new(vkey).unwrap())]);
        let note = Note::from_bytes(&self.files["checkpoint"]).unwrap();
        let (good, _) = note.verify(&verifiers).unwrap();
        assert_eq!(good.len(), 1);
        let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
        let entries = self.entries(checkpoint.size());
        if checkpoint.size() == 0 {
            return entries;
        }
        let reader = tlog_tiles::TileHashReader::new(checkpoint.size(), *checkpoint.hash(), self);
        let mut tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        let mut previous = tlog_tiles::Hash([0; 32]);
        let mut leaves = Vec::new();
        for (index, bytes) in (0_u64..).zip(&entries) {
            let leaf = tlog_tiles::record_hash(bytes);
            leaves.push(leaf);
            let entry = decode_entry(bytes).unwrap();
            assert_eq!(entry.index, index);
            assert_eq!(entry.prev_leaf_hash, previous.0);
            previous = leaf;
            tree.push(bytes.clone());
        }
        // Authenticates every tile against the root of the checkpoint.
        let places: Vec<u64> = (0..checkpoint.size())
            .map(|index| tlog_tiles::stored_hash_index(0, index))
            .collect();
        assert!(reader.read_hashes(&places).unwrap() == leaves);
        assert_eq!(tree.root().as_bytes().as_slice(), checkpoint.hash().0);
        let known: Vec<String> = tlog_tiles::Tile::new_tiles(8, 0, checkpoint.size())
            .iter()
            .map(c2sp_path)
            .collect();
        let bundles = self
            .order
            .iter()
            .filter(|path| path.starts_with("tile/entries/"));
        assert_eq!(self.order.len(), known.len() + bundles.count() + 1);
        assert!(known.iter().all(|path| self.files.contains_key(path)));
        entries
    }

    fn entries(&self, size: u64) -> Vec<Vec<u8>> {
        let mut entries = Vec::new();
        let bundles = self
            .order
            .iter()
            .filter(|path| path.starts_with("tile/entries/"));
        for path in bundles {
            let mut bytes = self.files[path].as_slice();
            while let [high, low, rest @ ..] = bytes {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                entries.push(rest[..length].to_vec());
                bytes = &rest[length..];
            }
            assert!(bytes.is_empty());
        }
        assert_eq!(entries.len() as u64, size);
        entries
    }
}

impl tlog_tiles::TileReader for Exported {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        Ok(tiles
            .iter()
            .map(|tile| self.files[&c2sp_path(tile)].clone())
            .collect())
    }

    fn save_tiles(&self, _: &[tlog_tiles::Tile], _: &[Vec<u8>]) {}
}

/// Their paths name the tile height, which C2SP has fixed at 8 and dropped.
fn c2sp_path(tile: &tlog_tiles::Tile) -> String {
    tile.path().replacen("tile/8/", "tile/", 1)
}

/// The records of a stream in an export, as (sequence number, record id).
pub(crate) fn stream_of(entries: &[Vec<u8>], stream: &str) -> Vec<(u64, Vec<u8>)> {
    entries
        .iter()
        .map(|entry| decode_record(&decode_entry(entry).unwrap().record).unwrap())
        .filter(|record| record.stream == stream)
        .map(|record| (record.stream_seq, record.record_id))
        .collect()
}
