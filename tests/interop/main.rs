//! Logs in the C2SP layout, judged by implementations that are not ours: Go's `x/mod/sumdb`, Python's `tlog-scales` and
//! `pymerkle`, Rust's `tlog_tiles`, `signed_note` and `ct-merkle`. What is right they accept, what is changed they refuse.
//!
//! Vectors and proofs in memory are compared in `ledger/tlog/tests`; here whole directories are, as an auditor gets them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "tests fail by panicking, and their modules are their own"
)]

mod log;
mod sparse_map;

use counterfoil_tests::foreign::CHECKERS;
use counterfoil_tests::repository::root;
use counterfoil_tests::tools;
use counterfoil_tlog::hash::{Hash, leaf_hash};
use counterfoil_tlog::note::VerifierKey;
use counterfoil_tlog::proof;
use log::{Log, files};

/// All checkers must accept, and say the size.
fn accepted(log: &Log, size: u64, others: &[std::path::PathBuf]) {
    for checker in CHECKERS {
        let verdict = checker
            .check(&log.prefix(), &log.vkey_file(), others)
            .unwrap();
        assert!(verdict.accepted, "{checker:?}: {}", verdict.said);
        assert!(
            verdict.said.contains(&format!("OK size {size}")),
            "{checker:?}: {}",
            verdict.said
        );
    }
}

/// All checkers must refuse.
fn refused(log: &Log, others: &[std::path::PathBuf]) {
    for checker in CHECKERS {
        let verdict = checker
            .check(&log.prefix(), &log.vkey_file(), others)
            .unwrap();
        assert!(
            !verdict.accepted,
            "{checker:?} accepted it: {}",
            verdict.said
        );
        assert!(
            verdict.said.contains("FAIL"),
            "{checker:?} broke down: {}",
            verdict.said
        );
    }
}

#[test]
fn the_known_log_of_70_000_entries_is_what_others_make_of_it() {
    let log = Log::of_size(70_000);
    let checkpoint = std::fs::read_to_string(log.prefix().join("checkpoint")).unwrap();
    assert_eq!(
        checkpoint.lines().nth(2),
        Some("o5IPun8jmgcam9EHIfE0Gt3vuu3ttBx+JEN6nRa98Ao=")
    );
    let found = files(&log.prefix());
    assert_eq!(found.len(), 552);
    for partial in [
        "tile/0/273.p/112",
        "tile/entries/273.p/112",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    ] {
        assert!(
            found.iter().any(|path| path.ends_with(partial)),
            "{partial}"
        );
    }
    let others = [
        log.beside("first.tlog-proof", &log.receipt(0, 70_000)),
        log.beside("last.tlog-proof", &log.receipt(69_999, 70_000)),
        log.beside("early.tlog-proof", &log.receipt(299, 300)),
        log.beside("older", &log.checkpoint(65_536)),
    ];
    accepted(&log, 70_000, &others);
}

#[test]
fn logs_of_every_shape_are_accepted() {
    for size in [1, 2, 255, 256, 257, 511, 600] {
        let log = Log::of_size(size);
        let others = [
            log.beside("receipt", &log.receipt(size / 2, size)),
            log.beside("older", &log.checkpoint(size.div_ceil(2))),
        ];
        accepted(&log, size, &others);
    }
}

#[test]
fn a_flipped_bit_in_an_entry_is_refused() {
    for (bundle, position) in [
        ("tile/entries/000", 5),
        ("tile/entries/001", 1_000),
        ("tile/entries/002.p/88", 20),
    ] {
        let log = Log::of_size(600);
        log.edit(bundle, |content| content[position] ^= 1);
        refused(&log, &[]);
    }
}

#[test]
fn a_flipped_bit_in_a_tile_is_refused() {
    for tile in ["tile/0/000", "tile/0/002.p/88", "tile/1/000.p/2"] {
        let log = Log::of_size(600);
        log.edit(tile, |content| content[40] ^= 0x80);
        refused(&log, &[]);
    }
}

#[test]
fn bytes_after_the_last_entry_are_refused() {
    let log = Log::of_size(600);
    log.edit("tile/entries/002.p/88", |content| {
        content.extend(b"\x00\x03abc")
    });
    refused(&log, &[]);
}

#[test]
fn a_bundle_that_ends_early_is_refused() {
    let log = Log::of_size(600);
    log.edit("tile/entries/001", |content| {
        content.truncate(content.len() - 1)
    });
    refused(&log, &[]);
}

#[test]
fn an_edited_size_is_refused() {
    let log = Log::of_size(600);
    log.edit("checkpoint", |content| {
        let text = String::from_utf8(content.clone()).unwrap();
        *content = text.replacen("\n600\n", "\n599\n", 1).into_bytes();
    });
    refused(&log, &[]);
}

#[test]
fn another_key_of_the_same_name_is_refused() {
    let log = Log::of_size(300);
    let other = counterfoil_tlog::note::NoteSigner::from_seed(log::ORIGIN, &[2; 32]).unwrap();
    std::fs::write(log.vkey_file(), other.vkey()).unwrap();
    refused(&log, &[]);
}

#[test]
fn a_checkpoint_of_another_history_is_refused() {
    let log = Log::of_size(600);
    let mut entries: Vec<Vec<u8>> = (0..300)
        .map(|index| format!("entry {index}").into_bytes())
        .collect();
    entries[7] = b"another entry 7".to_vec();
    let fork = Log::new(entries);
    for size in [300, 256, 8] {
        let older = log.beside("older", &fork.checkpoint(size));
        refused(&log, &[older]);
    }
}

#[test]
fn a_receipt_for_another_entry_is_refused() {
    let log = Log::of_size(600);
    let moved = log.receipt(17, 600).replacen("index 17\n", "index 16\n", 1);
    let moved = log.beside("moved", &moved);
    refused(&log, &[moved]);
}

#[test]
fn proofs_that_tlog_scales_makes_are_accepted_by_us() {
    let log = Log::of_size(70_000);
    let key: VerifierKey = log.vkey().parse().unwrap();
    for index in [0_u64, 25_603, 69_999] {
        let mut command =
            std::process::Command::new(root().join("target/tools/python/bin/tlog-tiles"));
        command
            .arg("gen-proof")
            .arg(log.prefix())
            .arg(index.to_string());
        let made = tools::run(&mut command).unwrap();
        assert!(made.accepted, "{}", made.said);
        let leaf: Hash = leaf_hash(format!("entry {index}").as_bytes());
        let (found, checkpoint) = proof::verify(&made.said, &leaf, &key).unwrap();
        assert_eq!((found, checkpoint.size), (index, 70_000));
        let other = leaf_hash(b"something else");
        assert!(proof::verify(&made.said, &other, &key).is_err());
    }
}
