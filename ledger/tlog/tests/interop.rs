//! The same trees, notes and tiles through crates of other authors: ct-merkle, and Cloudflare's tlog_tiles and signed_note.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking, and their sizes are small"
)]

use counterfoil_tlog::checkpoint::Checkpoint;
use counterfoil_tlog::hash::{Hash, leaf_hash};
use counterfoil_tlog::merkle::{MerkleTree, consistency_proof, inclusion_proof};
use counterfoil_tlog::note::{self, NoteSigner, VerifierKey};
use counterfoil_tlog::tile::{TileKind, TilePath, tiles_for};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use sha2::Sha256;
use signed_note::{StandardSigner, StandardVerifier, VerifierList};
use tlog_tiles::HashReader as _;

fn entries(count: u64) -> Vec<Vec<u8>> {
    (0..count)
        .map(|index| format!("entry {index}").into_bytes())
        .collect()
}

fn tree_over(entries: &[Vec<u8>]) -> MerkleTree {
    MerkleTree::from_leaves(entries.iter().map(|entry| leaf_hash(entry)).collect())
}

fn joined(proof: &[Hash]) -> Vec<u8> {
    proof.iter().flat_map(|hash| hash.0).collect()
}

#[test]
fn ct_merkle_makes_the_same_roots_and_proofs() {
    for size in [1, 2, 3, 7, 8, 9, 31, 64, 100, 255, 256, 257] {
        let entries = entries(size);
        let ours = tree_over(&entries);
        let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        entries.into_iter().for_each(|entry| theirs.push(entry));
        assert_eq!(theirs.root().as_bytes().as_slice(), ours.root().as_ref());
        for at in 0..size {
            let inclusion = theirs.prove_inclusion(at as usize);
            assert_eq!(
                inclusion.as_bytes(),
                joined(&ours.inclusion_proof(at, size).unwrap())
            );
            let consistency = theirs.prove_consistency(at as usize);
            let old = size - at;
            assert_eq!(
                consistency.as_bytes(),
                joined(&ours.consistency_proof(old, size).unwrap())
            );
        }
    }
}

/// Serves our tiles to tlog_tiles, which authenticates each of them against the root.
struct OurTiles<'t>(&'t MerkleTree);

impl tlog_tiles::TileReader for OurTiles<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        let read = |tile: &tlog_tiles::Tile| {
            let width = u16::try_from(tile.width()).unwrap();
            let ours = TilePath::hashes(tile.level(), tile.level_index(), width).unwrap();
            // Their paths name the tile height, which C2SP has fixed at 8 and dropped.
            assert_eq!(
                format!("tile/8/{}", &ours.to_string()["tile/".len()..]),
                tile.path()
            );
            ours.read(self.0).unwrap()
        };
        Ok(tiles.iter().map(read).collect())
    }

    fn save_tiles(&self, _: &[tlog_tiles::Tile], _: &[Vec<u8>]) {}
}

#[test]
fn tlog_tiles_accepts_our_tiles_and_our_proofs() {
    let size = 70_000;
    let tree = tree_over(&entries(size));
    let tiles = OurTiles(&tree);
    let theirs = |hash: Hash| tlog_tiles::Hash(hash.0);
    let reader = tlog_tiles::TileHashReader::new(size, theirs(tree.root()), &tiles);
    for at in [0, 255, 256, 4711, 65_535, 65_536, 69_999] {
        let index = tlog_tiles::stored_hash_index(0, at);
        let leaf = reader.read_hashes(&[index]).unwrap()[0];
        assert_eq!(leaf, theirs(tree.leaf(at).unwrap()));
        let proof: Vec<_> = inclusion_proof(&tree, at, size)
            .unwrap()
            .into_iter()
            .map(theirs)
            .collect();
        tlog_tiles::check_record(&proof, size, theirs(tree.root()), at, leaf).unwrap();
        let old = at + 1;
        let proof: Vec<_> = consistency_proof(&tree, old, size)
            .unwrap()
            .into_iter()
            .map(theirs)
            .collect();
        let old_root = theirs(tree.root_at(old).unwrap());
        tlog_tiles::check_tree(&proof, size, theirs(tree.root()), old, old_root).unwrap();
    }
}

#[test]
fn tlog_tiles_publishes_the_same_tiles_when_a_log_grows() {
    for (old, new) in [
        (0, 1),
        (0, 256),
        (1, 255),
        (255, 256),
        (256, 257),
        (300, 70_000),
        (9, 9),
    ] {
        let mut theirs: Vec<(u8, u64, u32)> = tlog_tiles::Tile::new_tiles(8, old, new)
            .iter()
            .map(|tile| (tile.level(), tile.level_index(), tile.width()))
            .collect();
        let mut ours: Vec<(u8, u64, u32)> = tiles_for(old, new)
            .map(|tile| match tile.kind() {
                TileKind::Hashes { level } => (level, tile.index(), u32::from(tile.width())),
                TileKind::Entries => unreachable!(),
            })
            .collect();
        theirs.sort_unstable();
        ours.sort_unstable();
        assert_eq!(ours, theirs, "{old} -> {new}");
    }
}

#[test]
fn signed_note_and_tlog_tiles_read_our_checkpoint() {
    let signer = NoteSigner::from_seed("ledger.example/t/acme", &[9; 32]).unwrap();
    let tree = tree_over(&entries(300));
    let checkpoint = Checkpoint {
        origin: signer.name().to_owned(),
        size: 300,
        root: tree.root(),
    };
    let text = checkpoint.sign(&signer).unwrap();

    let verifier = StandardVerifier::new(&signer.vkey()).unwrap();
    let theirs = signed_note::Note::from_bytes(text.as_bytes()).unwrap();
    let (verified, unknown) = theirs
        .verify(&VerifierList::new(vec![Box::new(verifier)]))
        .unwrap();
    assert_eq!((verified.len(), unknown.len()), (1, 0));
    let read = tlog_tiles::Checkpoint::from_bytes(theirs.text()).unwrap();
    assert_eq!((read.origin(), read.size()), ("ledger.example/t/acme", 300));
    assert_eq!(read.hash().0, tree.root().0);
}

#[test]
fn keys_and_notes_of_signed_note_are_read_by_us() {
    let ours = NoteSigner::from_seed("example.com/bar", &[5; 32]).unwrap();
    let private = ours.to_private_key();
    let theirs = StandardSigner::new(&private).unwrap();
    let mut note = signed_note::Note::new(b"hello\n\nworld\n", &[]).unwrap();
    note.add_sigs(&[&theirs]).unwrap();
    let key = VerifierKey::parse(&ours.vkey()).unwrap();
    let opened = note::open(&note.to_bytes(), &[key]).unwrap();
    assert_eq!(opened.text(), "hello\n\nworld\n");
    let again = NoteSigner::parse_private_key(&private).unwrap();
    assert_eq!(again.vkey(), ours.vkey());
    assert_eq!(
        again.sign_note("hello\n\nworld\n").unwrap().to_bytes(),
        note.to_bytes()
    );
}
