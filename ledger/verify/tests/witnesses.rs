//! Cosignatures on a bundle's checkpoint: what does not count, and what spoils it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;

use counterfoil_evidence::record::decode_entry;
use counterfoil_tlog::cosignature::Cosigner;
use counterfoil_tlog::note::{Note, SignatureLine};
use counterfoil_tlog::{Checkpoint, VerifierKey};
use counterfoil_verify::bundle::{BundleReader, Limits};
use counterfoil_verify::testing::BundleFiles;
use counterfoil_verify::{Options, Status, Trust, verify};
use serde_json::{Value, json};

/// Longer ago than the log's first entry.
const LONG_AGO_S: u64 = 1_700_000_000;

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
    failed_of(&bundle, trust)
}

/// Three days after the log's last entry, the ids of the checks that fail.
fn failed_of(bundle: &BundleReader, trust: &Trust) -> Vec<&'static str> {
    let last = decode_entry(
        BundleFiles::new(bundle.root())
            .entries()
            .unwrap()
            .last()
            .unwrap(),
    );
    let options = Options {
        now_ms: Some(last.unwrap().recorded_at_ms + 3 * 86_400_000),
        ..Options::default()
    };
    let found = verify(bundle, trust, &options).unwrap();
    let failed = found
        .checks
        .iter()
        .filter(|check| check.status == Status::Fail);
    failed.map(|check| check.id).collect()
}

type Case = (&'static str, Vec<SignatureLine>, &'static [&'static str]);

/// Lines of two trusted witnesses, of which both are asked for, and of others; and the checks that fail with them.
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn cases(said: &Checkpoint, seen_s: u64) -> Vec<Case> {
    let (one, two, stranger) = (witness(1), witness(2), witness(3));
    let by = |cosigner: &Cosigner| cosigner.cosign(said, seen_s).unwrap();
    let over = |changed: Checkpoint| two.cosign(&changed, seen_s).unwrap();
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
            vec![by(&one), one.cosign(said, seen_s + 1).unwrap()],
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
            &["K5", "W6", "W7"],
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
            &["K5", "W6", "W7"],
        ),
        (
            "at the time 0",
            vec![by(&one), as_of("w2.example", id, timed(0))],
            &["K5", "W6", "W7"],
        ),
        (
            "at another time",
            vec![by(&one), as_of("w2.example", id, timed(seen_s + 1))],
            &["K5", "W6", "W7"],
        ),
        (
            "without a time",
            vec![by(&one), as_of("w2.example", id, payload[8..].to_vec())],
            &["K5", "W6", "W7"],
        ),
        (
            "from before there was anything to see",
            vec![by(&one), two.cosign(said, LONG_AGO_S).unwrap()],
            &["W3"],
        ),
        (
            "from a time to come",
            vec![by(&one), two.cosign(said, seen_s + 4 * 86_400).unwrap()],
            &["W7"],
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
    let seen_s = u64::try_from(log.now_ms / 1000).unwrap() + 1;
    for (case, lines, expected) in cases(&said, seen_s) {
        assert_eq!(failed(&golden, &trust, &lines), expected, "{case}");
    }
}

/// A log, one trusted witness of it, and a trust file that asks for nobody.
struct Past {
    dir: tempfile::TempDir,
    log: support::log::LogBuilder,
    trust: Value,
}

impl Past {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = support::cycle::build(60);
        log.write(&dir.path().join("golden"));
        let mut trust: Value = serde_json::from_str(&log.trust(&[])).unwrap();
        trust["witnesses"] = json!([{"name": "w1.example", "vkey": witness(1).vkey()}]);
        Self { dir, log, trust }
    }

    /// When an entry was integrated, seconds.
    fn at(&self, entry: u64) -> u64 {
        let entry = decode_entry(&self.log.entries[usize::try_from(entry).unwrap()]);
        u64::try_from(entry.unwrap().recorded_at_ms / 1000).unwrap()
    }

    /// The checkpoint of a size as the witness saw it at a time.
    fn seen(&self, size: u64, at_s: u64) -> String {
        let mut note = Note::parse(self.log.checkpoint(size).as_bytes()).unwrap();
        let seen = Checkpoint::parse(note.text()).unwrap();
        note.add_signature(witness(1).cosign(&seen, at_s).unwrap())
            .unwrap();
        String::from_utf8(note.to_bytes()).unwrap()
    }

    /// The checks that fail when the bundle has this note in `checkpoints/`.
    fn failed(&self, note: &str) -> Vec<&'static str> {
        self.failed_with(&self.trust, Some(note))
    }

    fn failed_with(&self, trust: &Value, note: Option<&str>) -> Vec<&'static str> {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().join("bundle");
        let files = BundleFiles::copy(&self.dir.path().join("golden"), &root).unwrap();
        if let Some(note) = note {
            files.write("checkpoints/200", note.as_bytes()).unwrap();
            files.seal().unwrap();
        }
        let bundle = BundleReader::open(&root, &Limits::default()).unwrap();
        failed_of(
            &bundle,
            &Trust::parse(trust.to_string().as_bytes()).unwrap(),
        )
    }
}

#[test]
fn w3_entries_lie_between_the_times_at_which_a_witness_saw_the_log() {
    let past = Past::new();
    let (last, next) = (past.at(199), past.at(200));
    assert_eq!(past.failed(&past.seen(200, last + 1)), [""; 0]);
    // Five minutes of clocks, and a day in which the witness was away.
    assert_eq!(past.failed(&past.seen(200, last - 299)), [""; 0]);
    assert_eq!(past.failed(&past.seen(200, last - 302)), ["W3"]);
    assert_eq!(past.failed(&past.seen(200, next + 86_399)), [""; 0]);
    assert_eq!(past.failed(&past.seen(200, next + 86_402)), ["W3"]);
    // What the auditor kept with the witness's line says the same, whatever the bundle leaves out.
    let mut trust = past.trust.clone();
    trust["logs"][0]["checkpoints"] = json!([past.seen(200, last - 302)]);
    assert_eq!(past.failed_with(&trust, None), ["W3"]);
    trust["logs"][0]["checkpoints"] = json!([past.seen(200, last)]);
    assert_eq!(past.failed_with(&trust, None), [""; 0]);
}

#[test]
fn w7_what_a_bundle_calls_cosigned_is_signed_by_the_log_and_by_the_witness() {
    let past = Past::new();
    let good = past.seen(200, past.at(199));
    let spoil = |from: &str, to: &str| past.failed(&good.replacen(from, to, 1));
    assert_eq!(spoil("\n200\n", "\n201\n"), ["W7"], "another size");
    assert_eq!(past.failed("no note"), ["W7"]);
    let (unsigned, line) = good.trim_end().rsplit_once('\n').unwrap();
    let other = past.seen(199, past.at(199));
    let others = other.trim_end().rsplit_once('\n').unwrap().1;
    assert_ne!(line, others);
    let borrowed = format!("{unsigned}\n{others}\n");
    assert_eq!(past.failed(&borrowed), ["W7"], "of a smaller size");
    // A history that the log's key signed and that is not this one.
    let note = Note::parse(past.log.checkpoint(200).as_bytes()).unwrap();
    let mut fork = Checkpoint::parse(note.text()).unwrap();
    fork.root.0[0] ^= 1;
    let fork = fork.sign(&past.log.log).unwrap();
    assert_eq!(past.failed(&fork), ["W1", "I-02"]);
    fork_of_another_size(&past);
}

/// The log was larger once than it is in the bundle.
fn fork_of_another_size(past: &Past) {
    let root = counterfoil_tlog::hash::empty_root();
    let larger = Checkpoint {
        origin: past.log.origin.clone(),
        size: past.log.size() + 1,
        root,
    };
    let larger = larger.sign(&past.log.log).unwrap();
    assert_eq!(past.failed(&larger), ["W2", "I-02"]);
}
