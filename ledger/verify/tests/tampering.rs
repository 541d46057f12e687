//! Every row of the tampering matrix that concerns a full bundle: the named check fails, at every position.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use counterfoil_verify::bundle::{BundleReader, Limits};
use counterfoil_verify::testing::{BundleFiles, MUTATORS, Position};
use counterfoil_verify::{Options, Trust, Verdict, verify};

/// Applies the mutators of these rows, each to a fresh copy of a golden bundle.
fn caught(rows: &[&str]) {
    let log = support::cycle::build(60);
    let dir = tempfile::tempdir().unwrap();
    let golden = dir.path().join("golden");
    log.write(&golden);
    let keys = log.stolen();
    let kept = [200, log.size() - 1, log.size()];
    let trust = Trust::parse(log.trust(&kept).as_bytes()).unwrap();
    let mutators = MUTATORS
        .iter()
        .filter(|mutator| rows.contains(&mutator.row));
    for (number, mutator) in mutators.enumerate() {
        let positions = if mutator.positioned {
            &Position::ALL[..]
        } else {
            &Position::ALL[..1]
        };
        for position in positions {
            let what = format!("{} {} at {position:?}", mutator.row, mutator.name);
            let spoiled = dir.path().join(format!("{number}-{position:?}"));
            let files = BundleFiles::copy(&golden, &spoiled).unwrap();
            let applied = mutator.apply(&files, &keys, *position).unwrap();
            assert!(applied, "{what} found nothing to do");
            let bundle = BundleReader::open(&spoiled, &Limits::default()).unwrap();
            let found = verify(&bundle, &trust, &Options::default()).unwrap();
            let failed: Vec<&str> = found.failed().map(|check| check.id).collect();
            for id in mutator.caught_by {
                let caught = found.failed().any(|check| check.is(id));
                assert!(caught, "{what}: {id} did not fail, but {failed:?}");
            }
            assert_eq!(found.verdict, Verdict::Failed, "{what}");
            std::fs::remove_dir_all(&spoiled).unwrap();
        }
    }
}

#[test]
fn changed_bytes_and_trees_are_caught() {
    caught(&["T1", "T2", "T3", "T4", "T5", "T6", "T22", "T46"]);
}

#[test]
fn entries_removed_swapped_inserted_repeated_or_foreign_are_caught() {
    caught(&["T7", "T8", "T9", "T10", "T11", "T12", "T13"]);
}

#[test]
fn hidden_bytes_broken_chains_and_invented_or_lost_records_are_caught() {
    caught(&["T26", "T27", "T47", "T48"]);
}

#[test]
fn a_rewritten_history_is_caught_by_what_it_says_alone() {
    caught(&["T53", "T54"]);
}

#[test]
fn removals_without_proof_are_caught_by_what_they_say_alone() {
    caught(&["T55"]);
}
