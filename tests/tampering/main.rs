//! Bundles that real cycles left, tampered with in every way of the matrix, by thieves who hold the very keys of the data
//! folder: each way is caught by the check that is named for it, and the untouched control passes. Beside each stands what a
//! generic checker of C2SP logs says, which knows entries and signatures and nothing of what they mean.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "tests fail by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use base64::Engine as _;
use counterfoil_tests::cycle::Cycle;
use counterfoil_tests::folder;
use counterfoil_tests::foreign::Checker;
use counterfoil_tests::kubernetes;
use counterfoil_tests::report::verify;
use counterfoil_tests::repository::shared_data;
use counterfoil_tests::steps::{Steps, regressed, text};
use counterfoil_tlog::Checkpoint;
use counterfoil_tlog::hash::leaf_hash;
use counterfoil_tlog::merkle::MerkleTree;
use counterfoil_tlog::note::NoteSigner;
use counterfoil_tlog::signature::RecordSigner;
use counterfoil_verify::testing::{BundleFiles, MUTATORS, Mutator, Position, StolenKeys};

/// The rows of the matrix that a full bundle can show.
const ROWS: [&str; 22] = [
    "T1", "T2", "T3", "T4", "T5", "T6", "T7", "T8", "T9", "T10", "T11", "T12", "T13", "T22", "T26",
    "T27", "T46", "T47", "T48", "T53", "T54", "T55",
];

/// A bundle that a cycle left, how an auditor verifies it, and what a thief finds.
struct Loot {
    bundle: PathBuf,
    trust: PathBuf,
    vkey: PathBuf,
    keys: StolenKeys,
}

impl Loot {
    fn new(bundle: PathBuf, trust: &Path, data_dir: &Path) -> Self {
        let mut pinned: serde_json::Value =
            serde_json::from_slice(&fs::read(trust).unwrap()).unwrap();
        let vkey = data_dir.join("log.vkey");
        fs::write(
            &vkey,
            format!("{}\n", text(&pinned, "/logs/0/vkey").unwrap()),
        )
        .unwrap();
        let origin = text(&pinned, "/logs/0/origin").unwrap();
        let keys = stolen(&data_dir.join("keys"), &origin);
        // The auditor has looked more often than bundles were handed out: early, and a moment before the end.
        let kept = pinned["logs"][0]["checkpoints"].as_array_mut().unwrap();
        kept.extend(earlier(&bundle, &keys).into_iter().map(Into::into));
        let trust = data_dir.join("pinned.json");
        fs::write(&trust, pinned.to_string()).unwrap();
        Self {
            bundle,
            trust,
            vkey,
            keys,
        }
    }
}

/// What the log's checkpoints were when it had half of its entries, and all but one.
fn earlier(bundle: &Path, keys: &StolenKeys) -> Vec<String> {
    let files = BundleFiles::new(bundle);
    let leaves = files.entries().unwrap();
    let tree = MerkleTree::from_leaves(leaves.iter().map(|entry| leaf_hash(entry)).collect());
    let newest = files.checkpoint().unwrap();
    let at = |size: u64| {
        let checkpoint = Checkpoint {
            size,
            root: tree.root_at(size).unwrap(),
            ..newest.clone()
        };
        checkpoint.sign(&keys.log).unwrap()
    };
    vec![at(tree.size() / 2), at(tree.size() - 1)]
}

/// The keys in a data folder: of the log, and of each service that writes records.
fn stolen(folder: &Path, origin: &str) -> StolenKeys {
    let logs = fs::read_dir(folder.join("logs")).unwrap();
    // Beside the anchor log's key is a note, too.
    let keys = logs.map(|entry| entry.unwrap().path());
    let keys = keys.filter(|path| path.extension().is_some_and(|kind| kind == "key"));
    let mut logs = keys.map(|path| private_key(&path).0);
    let log = logs.find(|signer| signer.name() == origin).unwrap();
    let mut keys = StolenKeys::new(log);
    for service in [
        "ledger",
        "authority",
        "inventory",
        "recertification",
        "reconciliation",
    ] {
        let (note, seed) = private_key(&folder.join(format!("{service}.key")));
        let key_id = format!("{}+{:08x}", note.name(), note.verifier_key().key_id());
        keys = keys.with_producer(service, &key_id, RecordSigner::from_seed(&seed));
    }
    keys
}

/// A key in Go's text form, `PRIVATE+KEY+name+id+base64 of a type byte and the seed`.
fn private_key(path: &Path) -> (NoteSigner, [u8; 32]) {
    let text = fs::read_to_string(path).unwrap();
    let signer = NoteSigner::parse_private_key(text.trim_end()).unwrap();
    let encoded = text.trim_end().splitn(5, '+').nth(4).unwrap();
    let payload = base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .unwrap();
    (signer, payload[1..].try_into().unwrap())
}

/// The quickstart on the sample estate, twice: the auditor has kept the checkpoint of the first time.
static QUICKSTART: LazyLock<Loot> = LazyLock::new(|| {
    let data_dir = folder::fresh("tampering-quickstart").unwrap().join("data");
    let cycle = Cycle::new(&data_dir);
    cycle.play().unwrap();
    let outcome = cycle.play().unwrap().outcome;
    Loot::new(outcome.bundle, &outcome.trust, &data_dir)
});

/// A cycle after which access came back.
static REGRESSED: LazyLock<Loot> = LazyLock::new(|| {
    let place = folder::fresh("tampering-regressed").unwrap();
    let suite = regressed(&place).unwrap();
    let exported = Steps::new(&suite, "small")
        .unwrap()
        .ask(&["bundle", "export"])
        .unwrap();
    suite.stop().unwrap().success().unwrap();
    let path = |pointer: &str| PathBuf::from(text(&exported, pointer).unwrap());
    Loot::new(path("/bundle"), &path("/trust"), &place.join("data"))
});

/// What was done, by which position, with which result.
#[derive(Default)]
struct Table(BTreeMap<usize, Line>);

#[derive(Default)]
struct Line {
    caught: BTreeSet<String>,
    generic: BTreeSet<&'static str>,
}

/// Tampers with a fresh copy and holds the verifier to the named checks. `false`: there was nothing to do it with.
fn caught(loot: &Loot, mutator: &Mutator, position: Position, line: &mut Line) -> bool {
    let what = format!("{} {} at {position:?}", mutator.row, mutator.name);
    let folder = tempfile::tempdir().unwrap();
    let spoiled = folder.path().join("bundle");
    let files = BundleFiles::copy(&loot.bundle, &spoiled).unwrap();
    if !mutator.apply(&files, &loot.keys, position).unwrap() {
        return false;
    }
    let report = verify(&spoiled, &loot.trust).unwrap();
    assert!(!report.is_ok(), "{what} was not noticed");
    if report.exit == 2 {
        line.caught.insert("malformed".to_owned());
    } else {
        assert_eq!(report.exit, 1, "{what}: {report}");
        for id in mutator.caught_by {
            assert!(report.fails(id), "{what}: {id} did not fail\n{report}");
            line.caught.insert((*id).to_owned());
        }
    }
    let generic = Checker::Go
        .check(&spoiled.join("log"), &loot.vkey, &[])
        .unwrap();
    line.generic.insert(if generic.accepted {
        "accepts"
    } else {
        "refuses"
    });
    true
}

fn tamper(loot: &Loot, rows: &[&str], positions: &[Position], table: &mut Table) {
    for (number, mutator) in MUTATORS.iter().enumerate() {
        if !rows.contains(&mutator.row) {
            continue;
        }
        let positions = if mutator.positioned {
            positions
        } else {
            &positions[..1]
        };
        for position in positions {
            let mut line = table.0.remove(&number).unwrap_or_default();
            if caught(loot, mutator, *position, &mut line) {
                table.0.insert(number, line);
            }
        }
    }
}

/// Every mutator of these rows has been at work, and this is what came of it.
fn told(rows: &[&str], table: &Table) {
    let mut text = String::new();
    for (number, mutator) in MUTATORS.iter().enumerate() {
        if rows.contains(&mutator.row) {
            let line = table.0.get(&number);
            let line = line
                .unwrap_or_else(|| panic!("{}: {} found nothing to do", mutator.row, mutator.name));
            let caught: Vec<&str> = line.caught.iter().map(String::as_str).collect();
            let generic: Vec<&str> = line.generic.iter().copied().collect();
            writeln!(
                text,
                "{:<4} {:<48} caught by {:<12} x/mod/sumdb {}",
                mutator.row,
                mutator.name,
                caught.join(" "),
                generic.join(" or ")
            )
            .unwrap();
        }
    }
    // Past the test runner's capture: this table is a result. A closed stderr is no reason to fail.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

fn quickstart(rows: &[&str]) {
    let mut table = Table::default();
    tamper(&QUICKSTART, rows, &Position::ALL, &mut table);
    if rows.contains(&"T55") {
        tamper(&REGRESSED, &["T55"], &Position::ALL, &mut table);
    }
    told(rows, &table);
}

#[test]
fn the_untouched_controls_pass_here_and_in_a_generic_checker() {
    for loot in [&*QUICKSTART, &*REGRESSED] {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("bundle");
        let files = BundleFiles::copy(&loot.bundle, &copy).unwrap();
        files.seal().unwrap();
        let report = verify(&copy, &loot.trust).unwrap();
        assert!(report.is_ok(), "{report}");
        let generic = Checker::Go
            .check(&copy.join("log"), &loot.vkey, &[])
            .unwrap();
        assert!(generic.accepted, "{}", generic.said);
    }
}

#[test]
fn every_row_that_a_full_bundle_can_show_has_a_mutator() {
    let there: BTreeSet<&str> = MUTATORS.iter().map(|mutator| mutator.row).collect();
    assert_eq!(there, BTreeSet::from(ROWS));
}

#[test]
fn changed_bytes_and_trees_are_caught() {
    quickstart(&["T1", "T2", "T3", "T4", "T5", "T6", "T22", "T46"]);
}

#[test]
fn entries_cut_off_removed_swapped_inserted_repeated_or_foreign_are_caught() {
    quickstart(&["T7", "T8", "T9", "T10", "T11", "T12", "T13"]);
}

#[test]
fn hidden_bytes_broken_chains_and_invented_or_lost_records_are_caught() {
    quickstart(&["T26", "T27", "T47", "T48"]);
}

#[test]
fn a_population_or_decisions_rewritten_with_every_key_are_caught_by_what_they_say() {
    quickstart(&["T53", "T54"]);
}

#[test]
fn removals_without_proof_rewritten_with_every_key_are_caught_by_what_they_say() {
    quickstart(&["T55"]);
}

#[test]
fn the_same_is_caught_in_the_bundle_of_the_kubernetes_organisations() {
    let test = "the_same_is_caught_in_the_bundle_of_the_kubernetes_organisations";
    let Some(shared) = shared_data(test) else {
        return;
    };
    let place = folder::fresh("tampering-kubernetes").unwrap();
    let estate = kubernetes::write(&place.join("estate"), &shared).unwrap();
    let cycle = Cycle::new(&place.join("data")).on(&estate.directory);
    let outcome = cycle.play().unwrap().outcome;
    let loot = Loot::new(outcome.bundle, &outcome.trust, &place.join("data"));
    let mut table = Table::default();
    // One position: the others are tried on the smaller bundle.
    tamper(&loot, &ROWS, &[Position::Middle], &mut table);
    assert!(table.0.len() >= MUTATORS.len() - 2, "{}", table.0.len());
}
