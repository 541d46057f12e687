//! Maps of heads: what another implementation makes of the same heads, and that no path proves anything but the truth.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking, and their sizes are small"
)]

use std::collections::BTreeMap;

use counterfoil_tlog::hash::{Hash, sha256};
use counterfoil_tlog::sparse_map::{
    EMPTY, MapLeaf, MapPath, PathError, SparseMap, key_of, salt_of,
};
use proptest::prelude::*;

fn leaf(secret: u8, origin: &str, size: u64) -> MapLeaf {
    let key = key_of(origin);
    MapLeaf {
        key,
        size,
        root: sha256(&size.to_be_bytes()),
        salt: salt_of(&[secret; 32], &key),
    }
}

fn leaves(secret: u8, count: u64) -> Vec<MapLeaf> {
    (0..count)
        .map(|number| leaf(secret, &format!("ledger.example/t/{number}"), number + 1))
        .collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = (0..text.len()).step_by(2);
    digits
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn hash(text: &str) -> Hash {
    Hash::try_from(unhex(text).as_slice()).unwrap()
}

/// The vectors were printed by tests/interop/sparse_map.py, which was written from the specification alone.
#[test]
fn another_implementation_makes_the_same_maps() {
    let text = include_str!("vectors/sparse_map.txt");
    let maps: Vec<&str> = text.split("secret ").skip(1).collect();
    assert_eq!(maps.len(), 5);
    for map in maps {
        let (mut lines, mut found) = (map.lines(), Vec::new());
        let secret = hash(lines.next().unwrap());
        let root = hash(lines.next().unwrap().strip_prefix("root ").unwrap());
        let lines: Vec<Vec<&str>> = lines.map(|line| line.split(' ').collect()).collect();
        for line in lines.iter().filter(|line| line[0] == "log") {
            let leaf = MapLeaf {
                key: key_of(line[1]),
                size: line[2].parse().unwrap(),
                root: hash(line[3]),
                salt: hash(line[4]).0,
            };
            assert_eq!(salt_of(&secret.0, &leaf.key), leaf.salt);
            found.push((leaf, unhex(line[5])));
        }
        let leaves: Vec<MapLeaf> = found.iter().map(|(leaf, _)| leaf.clone()).collect();
        let map = SparseMap::new(&leaves).unwrap();
        assert_eq!(map.root(), root);
        for (leaf, path) in &found {
            assert_eq!(map.path(&leaf.key).encode(), *path);
            assert!(MapPath::decode(path).unwrap().includes(&root, leaf));
        }
        let absent = lines.iter().find(|line| line[0] == "absent").unwrap();
        let (key, path) = (key_of(absent[1]), unhex(absent[2]));
        assert_eq!(map.path(&key).encode(), path);
        assert!(MapPath::decode(&path).unwrap().excludes(&root, &key));
    }
}

#[test]
fn one_log_cannot_have_two_heads_in_a_map() {
    let twice = [leaf(1, "one", 5), leaf(1, "two", 5), leaf(1, "one", 6)];
    assert_eq!(SparseMap::new(&twice).unwrap_err().0, key_of("one"));
}

#[test]
fn a_path_has_one_encoding() {
    let map = SparseMap::new(&leaves(1, 40)).unwrap();
    let bytes = map.path(&key_of("ledger.example/t/7")).encode();
    assert!(
        bytes.len() > 32 * 4 && bytes.len() < 32 * 20,
        "{}",
        bytes.len()
    );
    assert!(MapPath::decode(&bytes).is_ok());
    for wrong in [
        &bytes[..bytes.len() - 1],
        &bytes[..bytes.len() - 32],
        &bytes[..31],
        &[],
    ] {
        assert!(matches!(
            MapPath::decode(wrong),
            Err(PathError::Length { .. })
        ));
    }
    let longer = [bytes.as_slice(), &[1; 32]].concat();
    assert!(matches!(
        MapPath::decode(&longer),
        Err(PathError::Length { .. })
    ));
    // An empty neighbour that is spelled out hashes to the same root, and would be a second way to say the same.
    let mut spelled = bytes;
    let unset = (0..256)
        .rev()
        .find(|at| spelled[at / 8] & (0x80 >> (at % 8)) == 0);
    let unset = unset.unwrap();
    spelled[unset / 8] |= 0x80 >> (unset % 8);
    spelled.splice(32..32, [0; 32]);
    assert_eq!(MapPath::decode(&spelled), Err(PathError::Empty));
}

#[test]
fn every_changed_bit_of_a_path_is_seen() {
    let leaves = leaves(3, 9);
    let map = SparseMap::new(&leaves).unwrap();
    let bytes = map.path(&leaves[4].key).encode();
    for at in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[at / 8] ^= 0x80 >> (at % 8);
        let proves =
            MapPath::decode(&changed).is_ok_and(|path| path.includes(&map.root(), &leaves[4]));
        assert!(!proves, "bit {at}");
    }
}

/// The same heads under another secret: whoever knows one map learns from the other neither who grew nor who did not.
#[test]
fn two_maps_of_the_same_heads_have_no_hash_in_common() {
    let (one, next) = (leaves(1, 50), leaves(2, 50));
    let (one_map, next_map) = (
        SparseMap::new(&one).unwrap(),
        SparseMap::new(&next).unwrap(),
    );
    let hashes = |map: &SparseMap, leaves: &[MapLeaf]| -> std::collections::BTreeSet<Vec<u8>> {
        let paths = leaves.iter().map(|leaf| map.path(&leaf.key).encode());
        paths
            .flat_map(|path| {
                path[32..]
                    .chunks(32)
                    .map(<[u8]>::to_vec)
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    let (first, second) = (hashes(&one_map, &one), hashes(&next_map, &next));
    assert!(first.len() > 90);
    assert!(first.is_disjoint(&second));
}

/// What a path gives away is exactly the hashes beside the way: they are the same whatever salted leaf hashes are below, and no name, size or
/// root of another log is in its bytes.
#[test]
fn a_path_holds_nothing_of_other_logs_in_the_clear() {
    let leaves = leaves(9, 12);
    let map = SparseMap::new(&leaves).unwrap();
    for own in &leaves {
        let bytes = map.path(&own.key).encode();
        for other in leaves.iter().filter(|other| other.key != own.key) {
            for secret in [other.key.0, other.root.0, other.salt] {
                let shown = bytes.windows(32).any(|window| window == secret);
                assert!(!shown);
            }
        }
    }
}

proptest! {
    #[test]
    fn a_map_proves_what_it_has_and_nothing_else(
        heads in prop::collection::btree_map("[a-d]{1,3}", 0_u64..5, 0..40),
        asked in "[a-d]{1,3}",
        size in 0_u64..5,
        secret in 0_u8..4,
    ) {
        let heads: BTreeMap<String, u64> = heads;
        let leaves: Vec<MapLeaf> =
            heads.iter().map(|(origin, size)| leaf(secret, origin, *size)).collect();
        let map = SparseMap::new(&leaves).unwrap();
        let mut reversed = leaves.clone();
        reversed.reverse();
        prop_assert_eq!(SparseMap::new(&reversed).unwrap().root(), map.root());
        prop_assert_eq!(leaves.is_empty(), map.root() == EMPTY);
        let key = key_of(&asked);
        let path = map.path(&key);
        prop_assert_eq!(&MapPath::decode(&path.encode()).unwrap(), &path);
        let has = heads.get(&asked) == Some(&size);
        prop_assert_eq!(path.includes(&map.root(), &leaf(secret, &asked, size)), has);
        prop_assert_eq!(path.excludes(&map.root(), &key), !heads.contains_key(&asked));
        // The path of one key proves nothing under another one.
        for other in &leaves {
            if other.key != key {
                prop_assert!(!path.includes(&map.root(), other));
                prop_assert!(!path.excludes(&map.root(), &other.key));
            }
        }
    }
}
