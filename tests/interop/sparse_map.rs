//! Maps of heads, made twice: by ledger/tlog and by a second program that was written from their specification alone.

use std::io::Write as _;
use std::process::Stdio;

use counterfoil_tests::tools;
use counterfoil_tlog::hash::sha256;
use counterfoil_tlog::sparse_map::{MapLeaf, SparseMap, key_of, salt_of};

const NOBODY: &str = "ledger.example/t/nobody";

#[test]
fn the_vectors_are_what_the_second_program_prints() {
    let printed = tools::run(&mut tools::python_sparse_map().unwrap()).unwrap();
    let kept = include_str!("../../ledger/tlog/tests/vectors/sparse_map.txt");
    assert_eq!(printed.said, kept);
}

#[test]
fn a_map_of_many_logs_is_what_the_second_program_makes_of_it() {
    let secret = [0x5c; 32];
    let leaves: Vec<(String, MapLeaf)> = (0..120_u64)
        .map(|number| {
            let origin = format!("ledger.example/t/customer-{}", number * 7919);
            let key = key_of(&origin);
            let leaf = MapLeaf {
                key,
                size: number << (number % 50),
                root: sha256(&number.to_be_bytes()),
                salt: salt_of(&secret, &key),
            };
            (origin, leaf)
        })
        .collect();
    let heads: Vec<MapLeaf> = leaves.iter().map(|(_, leaf)| leaf.clone()).collect();
    let map = SparseMap::new(&heads).unwrap();
    let mut expected = vec![
        format!("secret {}", hex::encode(secret)),
        format!("root {}", map.root()),
    ];
    let mut asked = String::new();
    for (origin, leaf) in &leaves {
        let (size, root) = (leaf.size, leaf.root);
        let (salt, path) = (hex::encode(leaf.salt), map.path(&leaf.key).encode());
        asked += &format!("{origin} {size} {root}\n");
        expected.push(format!(
            "log {origin} {size} {root} {salt} {}",
            hex::encode(path)
        ));
    }
    let path = map.path(&key_of(NOBODY)).encode();
    expected.push(format!("absent {NOBODY} {}", hex::encode(path)));
    let mut python = tools::python_sparse_map().unwrap();
    python.arg(hex::encode(secret)).stdin(Stdio::piped());
    let mut python = python.stdout(Stdio::piped()).spawn().unwrap();
    python
        .stdin
        .take()
        .unwrap()
        .write_all(asked.as_bytes())
        .unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.lines().eq(expected), "{printed}");
}
