//! Known answers that other implementations made: the CT reference tree, the C2SP signed-note example, a checkpoint with a
//! cosignature, and a log of 70,000 entries.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking, and their sizes are small"
)]

use counterfoil_tlog::checkpoint::{self, Checkpoint};
use counterfoil_tlog::cosignature::Cosigner;
use counterfoil_tlog::hash::{Hash, leaf_hash, sha256};
use counterfoil_tlog::merkle::{MerkleTree, root, verify_consistency, verify_inclusion};
use counterfoil_tlog::note::{self, NoteSigner, VerifierKey};
use counterfoil_tlog::tile::{TileHashReader, decode_hashes, entry_bundles_for, tiles_for};

const CT_LEAVES: [&[u8]; 8] = [
    b"",
    &[0x00],
    &[0x10],
    &[0x20, 0x21],
    &[0x30, 0x31],
    &[0x40, 0x41, 0x42, 0x43],
    &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
    &[
        0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e,
        0x6f,
    ],
];

const CT_ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

const LOG_VKEY: &str =
    "ledger.example/t/acme+83d8f86c+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";
const WITNESS_VKEY: &str =
    "witness.example/w1+d9ed62c5+BO1JKMYo0cLG6ukDOJBZlWEpWSc6XGP5NjbBRhSshzfR";
const CHECKPOINT: &str = "ledger.example/t/acme
8
XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=

— ledger.example/t/acme g9j4bDOag1Y1iPV+HMjMfWoVfjU0CDMOQ3xh3UDsbwrKE7YhTKj/nrjsh3WVDrPfltW/8qc9rXreNfJE7U+FLR0Vewo=
— witness.example/w1 2e1ixQAAAABlU/EA4iWzL5YI9/JfPvdhdETag1xOVpNwrRGjl5fgvMtolEPjvtRs6yZ0fs/l5dUaQ3ESjsoJIfw2jXAxjvAyRkalDA==
";

fn ct_tree() -> MerkleTree {
    MerkleTree::from_leaves(CT_LEAVES.iter().map(|leaf| leaf_hash(leaf)).collect())
}

fn prefixes(proof: &[Hash]) -> Vec<String> {
    proof
        .iter()
        .map(|hash| hash.to_string()[..16].to_owned())
        .collect()
}

#[test]
fn the_ct_reference_roots_come_out_at_every_size() {
    let leaves: Vec<Hash> = CT_LEAVES.iter().map(|leaf| leaf_hash(leaf)).collect();
    let tree = ct_tree();
    for (size, expected) in CT_ROOTS.iter().enumerate() {
        assert_eq!(root(&leaves[..size]).to_string(), *expected, "size {size}");
        assert_eq!(
            tree.root_at(size as u64).unwrap().to_string(),
            *expected,
            "size {size}"
        );
    }
}

#[test]
fn the_ct_reference_proofs_come_out_and_verify() {
    let tree = ct_tree();
    let inclusion = tree.inclusion_proof(5, 8).unwrap();
    assert_eq!(
        prefixes(&inclusion),
        ["bc1a0643b12e4d2d", "ca854ea128ed050b", "d37ee418976dd957"]
    );
    verify_inclusion(&leaf_hash(CT_LEAVES[5]), 5, 8, &inclusion, &tree.root()).unwrap();

    let from_3 = tree.consistency_proof(3, 8).unwrap();
    assert_eq!(
        prefixes(&from_3),
        [
            "0298d122906dcfc1",
            "07506a85fd9dd2f1",
            "fac54203e7cc696c",
            "6b47aaf29ee3c2af"
        ]
        .map(str::to_owned)
    );
    let from_6 = tree.consistency_proof(6, 8).unwrap();
    assert_eq!(
        prefixes(&from_6),
        ["0ebc5d3437fbe2db", "ca854ea128ed050b", "d37ee418976dd957"]
    );
    for (size, proof) in [(3, &from_3), (6, &from_6)] {
        let old_root = tree.root_at(size).unwrap();
        verify_consistency(size, &old_root, 8, &tree.root(), proof).unwrap();
    }
}

#[test]
fn the_signed_note_of_the_specification_opens() {
    let key =
        VerifierKey::parse("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
            .unwrap();
    assert_eq!(key.key_id(), 0x530d_903a);
    let bytes = "This is an example message.\n\n\
        — example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
    let opened = note::open(bytes.as_bytes(), &[key]).unwrap();
    assert_eq!(opened.text(), "This is an example message.\n");
    assert_eq!(opened.note().to_string(), bytes);
}

#[test]
fn the_checkpoint_with_its_cosignature_opens_and_is_made_again_byte_for_byte() {
    let log = NoteSigner::from_seed("ledger.example/t/acme", &[1; 32]).unwrap();
    let witness = Cosigner::from_seed("witness.example/w1", &[3; 32]).unwrap();
    assert_eq!(log.vkey(), LOG_VKEY);
    assert_eq!(witness.vkey(), WITNESS_VKEY);

    let log_key = VerifierKey::parse(LOG_VKEY).unwrap();
    let witness_key = VerifierKey::parse(WITNESS_VKEY).unwrap();
    let opened = checkpoint::open(
        CHECKPOINT.as_bytes(),
        &log_key,
        std::slice::from_ref(&witness_key),
    )
    .unwrap();
    let expected = Checkpoint {
        origin: "ledger.example/t/acme".to_owned(),
        size: 8,
        root: ct_tree().root(),
    };
    assert_eq!(opened.checkpoint, expected);
    assert_eq!(opened.cosignatures.len(), 1);
    assert_eq!(opened.cosignatures[0].key, witness_key);
    assert_eq!(opened.cosignatures[0].timestamp, Some(1_700_000_000));

    let mut made = log.sign_note(&expected.to_text().unwrap()).unwrap();
    made.add_signature(witness.cosign(&expected, 1_700_000_000).unwrap())
        .unwrap();
    assert_eq!(made.to_string(), CHECKPOINT);
    assert!(CHECKPOINT.starts_with(&expected.sign(&log).unwrap()));
}

#[test]
fn the_monitoring_path_of_a_witness_is_the_hash_of_the_origin() {
    assert_eq!(
        sha256(b"ledger.example/t/acme").to_string(),
        "5887bf62bfbca33ecbf7f1b8747007622301fbb05e62b584f11fa8ee3fc5e9f2"
    );
}

#[test]
fn the_log_of_70000_entries_has_its_root_and_its_551_tiles() {
    let size = 70_000;
    let leaves: Vec<Hash> = (0..size)
        .map(|index| leaf_hash(format!("entry {index}").as_bytes()))
        .collect();
    let tree = MerkleTree::from_leaves(leaves);
    assert_eq!(
        tree.root().to_base64(),
        "o5IPun8jmgcam9EHIfE0Gt3vuu3ttBx+JEN6nRa98Ao="
    );

    let hash_tiles: Vec<_> = tiles_for(0, size).collect();
    let bundles: Vec<_> = entry_bundles_for(0, size).collect();
    assert_eq!(hash_tiles.len() + bundles.len(), 551);
    let partial: Vec<String> = hash_tiles
        .iter()
        .chain(&bundles)
        .filter(|tile| tile.is_partial())
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        partial,
        [
            "tile/0/273.p/112",
            "tile/1/001.p/17",
            "tile/2/000.p/1",
            "tile/entries/273.p/112"
        ]
    );

    // The tiles alone carry the root and every proof.
    let reader = TileHashReader::new(size, |tile| {
        assert!(hash_tiles.contains(tile), "{tile} is not published");
        decode_hashes(&tile.read(&tree).ok()?, tile.width()).ok()
    });
    assert_eq!(
        counterfoil_tlog::merkle::root_from(&reader, size).unwrap(),
        tree.root()
    );
    for index in [0, 1, 255, 256, 65_535, 65_536, 69_887, 69_888, 69_999] {
        let proof = counterfoil_tlog::merkle::inclusion_proof(&reader, index, size).unwrap();
        assert_eq!(proof, tree.inclusion_proof(index, size).unwrap());
    }
}
