//! What an epoch of the anchor log costs: making the map of so many logs, and the paths out of it.
//!
//! `cargo run --release -p counterfoil-tlog --example map_speed [LOGS]`, 10,000 by default. Prints one JSON line.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "it measures and tells what it found"
)]

use std::time::Instant;

use counterfoil_tlog::hash::sha256;
use counterfoil_tlog::sparse_map::{MapLeaf, SparseMap, key_of, salt_of};

fn main() {
    let logs: u64 = std::env::args()
        .nth(1)
        .map_or(10_000, |count| count.parse().unwrap());
    let secret = [1; 32];
    let leaves: Vec<MapLeaf> = (0..logs)
        .map(|number| {
            let key = key_of(&format!("ledger.example/t/{number}"));
            MapLeaf {
                key,
                size: number,
                root: sha256(&number.to_be_bytes()),
                salt: salt_of(&secret, &key),
            }
        })
        .collect();
    let begun = Instant::now();
    let map = SparseMap::new(&leaves).unwrap();
    let made = begun.elapsed();
    let begun = Instant::now();
    let mut path_bytes = 0;
    for leaf in leaves.iter().take(1000) {
        let path = map.path(&leaf.key);
        assert!(path.includes(&map.root(), leaf));
        path_bytes = path_bytes.max(path.encode().len());
    }
    let checked = begun.elapsed() / 1000;
    println!(
        "{{\"logs\": {logs}, \"map_ms\": {}, \"path_made_and_checked_us\": {}, \"path_bytes_max\": {path_bytes}}}",
        made.as_millis(),
        checked.as_micros()
    );
}
