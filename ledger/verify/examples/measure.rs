//! Makes a bundle of a small governance cycle over so many grants a source, verifies it, and tells how long that took.
//!
//! `cargo run --release -p counterfoil-verify --features testing --example measure -- GRANTS DIRECTORY`

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "an example for people, which stops where it cannot go on"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::time::Instant;

use counterfoil_verify::bundle::{BundleReader, Limits};
use counterfoil_verify::{Options, Trust, report, verify};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let grants: usize = arguments.next().unwrap().parse().unwrap();
    let target = PathBuf::from(arguments.next().unwrap());
    let trust = target.with_extension("trust.json");
    if !target.exists() {
        let log = support::cycle::build(grants);
        log.write(&target);
        std::fs::write(&trust, log.trust(&[log.size()])).unwrap();
    }
    let trust = Trust::parse(&std::fs::read(trust).unwrap()).unwrap();
    let mut times = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        let bundle = BundleReader::open(&target, &Limits::default()).unwrap();
        let found = verify(&bundle, &trust, &Options::default()).unwrap();
        times.push(start.elapsed());
        if times.len() == 5 {
            println!("{}", report::text(&found));
        }
    }
    times.sort_unstable();
    println!(
        "median {:?}, from {:?} to {:?}",
        times[2], times[0], times[4]
    );
}
