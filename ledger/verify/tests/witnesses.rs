//! Cosignatures on a bundle's checkpoint: what does not count, and what spoils it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;

use counterfoil_tlog::cosignature::Cosigner;
use counterfoil_tlog::note::SignatureLine;
use counterfoil_tlog::{Checkpoint, VerifierKey};
use counterfoil_verify::bundle::{BundleReader, Limits};
use counterfoil_verify::testing::BundleFiles;
use counterfoil_verify::{Options, Status, Trust, verify};
use serde_json::{Value, json};

const SEEN_S: u64 = 1_790_000_000;

fn witness(seed: u8) -> Cosigner {
    Cosigner::from_seed(&format!("w{seed}.example"), &[seed; 32]).unwrap()
}

/// Ids of the checks that fail when these lines are added to the bundle's checkpoint.
fn failed(golden: &Path, trust: &Trust, lines: &[SignatureLine]) -> Vec<&'static str> {
    let dir = tempfile::tempdir().unwrap();
    let files = BundleFiles::copy(golden, &dir.path().join("bundle")).unwrap();
    let mut note = files.note().unwrap();
    for line in lines {
        note.add_signature(line.clone()).unwrap();
    }
    files.write("log/checkpoint", &note.to_bytes()).unwrap();
    files.seal().unwrap();
    let bundle = BundleReader::open(&dir.path().join("bundle"), &Limits::default()).unwrap();
    let found = verify(&bundle, trust, &Options::default()).unwrap();
    let failed = found
        .checks
        .iter()
        .filter(|check| check.status == Status::Fail);
    failed.map(|check| check.id).collect()
}

type Case = (&'static str, Vec<SignatureLine>, &'static [&'static str]);

/// Lines of two trusted witnesses, of which both are asked for, and of others; and the checks that fail with them.
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn cases(said: &Checkpoint) -> Vec<Case> {
    let (one, two, stranger) = (witness(1), witness(2), witness(3));
    let by = |cosigner: &Cosigner| cosigner.cosign(said, SEEN_S).unwrap();
    let over = |changed: Checkpoint| two.cosign(&changed, SEEN_S).unwrap();
    // The same bytes under another name, key id, time or kind of key.
    let of_two = by(&two);
    let as_of = |name: &str, key_id: u32, payload: Vec<u8>| {
        SignatureLine::new(name, key_id, payload).unwrap()
    };
    let id = two.verifier_key().key_id();
    let payload = of_two.signature().to_vec();
    let timed = |time: u64| [&time.to_be_bytes(), &payload[8..]].concat();
    let other_name = VerifierKey::new(
        "w1.example",
        two.verifier_key().kind(),
        two.verifier_key().public_key(),
    );
    let other_id = other_name.unwrap().key_id();
    vec![
        ("both", vec![by(&one), by(&two)], &[][..]),
        (
            "both, with a stranger's",
            vec![by(&stranger), by(&one), by(&two)],
            &[],
        ),
        ("one", vec![by(&one)], &["W6"]),
        ("one, twice", vec![by(&one), by(&one)], &["W6"]),
        (
            "one, at two times",
            vec![by(&one), one.cosign(said, SEEN_S + 1).unwrap()],
            &["W6"],
        ),
        ("one and a stranger", vec![by(&one), by(&stranger)], &["W6"]),
        (
            "of a smaller size",
            vec![
                by(&one),
                over(Checkpoint {
                    size: said.size - 1,
                    ..said.clone()
                }),
            ],
            &["K5", "W6"],
        ),
        (
            "of another log",
            vec![
                by(&one),
                over(Checkpoint {
                    origin: "other.example".to_owned(),
                    ..said.clone()
                }),
            ],
            &["K5", "W6"],
        ),
        (
            "at the time 0",
            vec![by(&one), as_of("w2.example", id, timed(0))],
            &["K5", "W6"],
        ),
        (
            "at another time",
            vec![by(&one), as_of("w2.example", id, timed(SEEN_S + 1))],
            &["K5", "W6"],
        ),
        (
            "without a time",
            vec![by(&one), as_of("w2.example", id, payload[8..].to_vec())],
            &["K5", "W6"],
        ),
        (
            "under the other's name",
            vec![by(&one), as_of("w1.example", other_id, payload.clone())],
            &["W6"],
        ),
        (
            "under another key id",
            vec![by(&one), as_of("w2.example", id ^ 1, payload.clone())],
            &["W6"],
        ),
    ]
}

#[test]
fn only_good_cosignatures_of_different_trusted_witnesses_over_this_checkpoint_count() {
    let dir = tempfile::tempdir().unwrap();
    let log = support::cycle::build(60);
    let golden = dir.path().join("golden");
    log.write(&golden);
    let said = BundleFiles::copy(&golden, &dir.path().join("read"));
    let said = said.unwrap().checkpoint().unwrap();
    let (one, two) = (witness(1), witness(2));
    let mut file: Value = serde_json::from_str(&log.trust(&[])).unwrap();
    file["witnesses"] = json!([
        {"name": "w1.example", "vkey": one.vkey()},
        {"name": "w2.example", "vkey": two.vkey()},
    ]);
    file["quorum"] = json!(2);
    let trust = Trust::parse(file.to_string().as_bytes()).unwrap();
    for (case, lines, expected) in cases(&said) {
        assert_eq!(failed(&golden, &trust, &lines), expected, "{case}");
    }
}
