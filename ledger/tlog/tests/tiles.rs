//! Tiles: canonical paths, exact contents, and what is published when a log grows.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking, and their sizes are small"
)]

use counterfoil_tlog::hash::{Hash, leaf_hash};
use counterfoil_tlog::merkle::MerkleTree;
use counterfoil_tlog::tile::{
    TileError, TileHashReader, TileKind, TilePath, decode_entries, decode_hashes, encode_entries,
    encode_hashes, entry_bundles_for, tile_covering, tiles_for,
};
use proptest::prelude::*;

#[test]
fn tile_paths_are_read_in_their_only_form() {
    for (path, tile) in [
        ("tile/0/000", TilePath::hashes(0, 0, 256)),
        ("tile/1/x001/x234/067", TilePath::hashes(1, 1_234_067, 256)),
        ("tile/63/999.p/255", TilePath::hashes(63, 999, 255)),
        ("tile/entries/x001/000.p/1", TilePath::entries(1000, 1)),
        (
            "tile/0/x018/x446/x744/x073/x709/x551/615",
            TilePath::hashes(0, u64::MAX, 256),
        ),
    ] {
        let tile = tile.unwrap();
        assert_eq!(tile.to_string(), path);
        assert_eq!(TilePath::parse(path), Ok(tile));
    }
    for bad in [
        "tile/0/x001/234.p/256",
        "tile/0/001.p/0",
        "tile/0/001.p/01",
        "tile/0/001.p/",
        "tile/0/001.p",
        "tile/0/1234",
        "tile/0/1",
        "tile/0/x001",
        "tile/0/x001/",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x1/002",
        "tile/0/x001/x002",
        "tile/0//001",
        "tile/0/",
        "tile/0",
        "tile/00/001",
        "tile/64/001",
        "tile/-1/001",
        "tile/+1/001",
        "tile/data/001",
        "tile/8/0/001",
        "/tile/0/001",
        "tile/0/001/",
        "tile/0/001 ",
        "tile/0/../001",
        "tile/entries/001.p/256",
        "tile/Entries/001",
        "",
        "tile/0/x018/x446/x744/x073/x709/x551/616",
        "tile/0/٠٠١",
        "tile/0/001.p/1/2",
        "tile/0/001.p/1.p/1",
    ] {
        assert_eq!(TilePath::parse(bad), Err(TileError::Path(bad.to_owned())));
    }
    assert!(TilePath::hashes(0, 0, 0).is_err());
    assert!(TilePath::hashes(0, 0, 257).is_err());
    assert!(TilePath::hashes(64, 0, 1).is_err());
}

#[test]
fn tile_contents_have_exact_lengths() {
    let hashes: Vec<Hash> = (0..3_u8).map(|at| leaf_hash(&[at])).collect();
    let bytes = encode_hashes(&hashes).unwrap();
    assert_eq!(decode_hashes(&bytes, 3).unwrap(), hashes);
    for (bytes, width) in [
        (&bytes[..95], 3),
        (&bytes[..64], 3),
        (&bytes[..], 2),
        (&bytes[..], 4),
    ] {
        assert!(matches!(
            decode_hashes(bytes, width),
            Err(TileError::TileLength { .. })
        ));
    }
    assert!(encode_hashes(&[]).is_err());
    assert!(encode_hashes(&vec![hashes[0]; 257]).is_err());

    let entries: [&[u8]; 3] = [b"one", b"", b"three"];
    let bytes = encode_entries(&entries).unwrap();
    assert_eq!(bytes, b"\x00\x03one\x00\x00\x00\x05three");
    assert_eq!(decode_entries(&bytes, 3).unwrap(), entries);
    assert_eq!(decode_entries(&bytes, 2), Err(TileError::BundleTrailing(7)));
    assert!(matches!(
        decode_entries(&bytes, 4),
        Err(TileError::BundleShort { at: 3, .. })
    ));
    for length in 0..bytes.len() {
        assert!(decode_entries(&bytes[..length], 3).is_err());
    }
    assert!(decode_entries(&[], 0).is_err());
    assert!(decode_entries(&bytes, 257).is_err());
    encode_entries(&[vec![0; 65_535]]).unwrap();
    assert_eq!(
        encode_entries(&[vec![0; 65_536]]),
        Err(TileError::EntryTooLong(65_536))
    );
    assert!(encode_entries::<&[u8]>(&[]).is_err());
}

#[test]
fn a_tile_of_the_wrong_width_is_not_read_from() {
    let tree = MerkleTree::from_leaves((0..10_u8).map(|at| leaf_hash(&[at])).collect());
    let reader = TileHashReader::new(10, |tile| {
        let mut hashes = decode_hashes(&tile.read(&tree).ok()?, tile.width()).ok()?;
        hashes.pop();
        Some(hashes)
    });
    assert!(counterfoil_tlog::merkle::root_from(&reader, 10).is_err());
    assert_eq!(
        tile_covering(3, 1, 10),
        None.or(TilePath::hashes(0, 0, 10).ok())
    );
    assert_eq!(tile_covering(8, 0, 10), None);
}

proptest! {
    #[test]
    fn growing_in_steps_publishes_what_growing_at_once_does(mut sizes in prop::collection::vec(0..200_000_u64, 1..6)) {
        sizes.sort_unstable();
        let last = *sizes.last().unwrap();
        let steps: Vec<(u64, u64)> =
            std::iter::once(0).chain(sizes.iter().copied()).zip(sizes.iter().copied()).collect();
        let mut stepwise: Vec<TilePath> = steps
            .iter()
            .flat_map(|(old, new)| tiles_for(*old, *new).chain(entry_bundles_for(*old, *new)))
            .filter(|tile| !tile.is_partial() || TilePath::in_log(tile.kind(), tile.index(), last) == Some(*tile))
            .collect();
        stepwise.sort_unstable();
        stepwise.dedup();
        let mut at_once: Vec<TilePath> = tiles_for(0, last).chain(entry_bundles_for(0, last)).collect();
        at_once.sort_unstable();
        prop_assert_eq!(stepwise, at_once);
    }

    #[test]
    fn a_partial_tile_is_a_prefix_of_the_wider_one(size in 1..1_000_u64, more in 0..600_u64) {
        let tree = MerkleTree::from_leaves((0..size + more).map(|at| leaf_hash(&at.to_be_bytes())).collect());
        for tile in tiles_for(0, size) {
            let wider = TilePath::in_log(tile.kind(), tile.index(), size + more).unwrap();
            prop_assert!(wider.read(&tree).unwrap().starts_with(&tile.read(&tree).unwrap()));
        }
    }

    #[test]
    fn tile_paths_survive_the_round_trip(level in prop::option::of(0..64_u8), index in any::<u64>(), width in 1..=256_u16) {
        let tile = match level {
            Some(level) => TilePath::hashes(level, index, width),
            None => TilePath::entries(index, width),
        }
        .unwrap();
        prop_assert_eq!(TilePath::parse(&tile.to_string()), Ok(tile));
        prop_assert_eq!(tile.kind(), level.map_or(TileKind::Entries, |level| TileKind::Hashes { level }));
    }
}
