//! Clocks that jump: the whole process runs with a shifted wall clock, by libfaketime.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use counterfoil_evidence::v1;
use counterfoil_tests::cycle::{Cycle, Outcome, played};
use counterfoil_tests::evidence::Evidence;
use counterfoil_tests::governance::{ACCOUNTABLE_OWNER, Governance};
use counterfoil_tests::process::{Process, Suite, up};
use counterfoil_tests::report::verify;
use counterfoil_tests::small;
use counterfoil_tests::steps::{CAMPAIGN, Steps, list, text};

const TENANT: &str = "small";

/// Where Debian and others put the library.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap();
    let found = folders
        .map(|folder| folder.unwrap().path().join("faketime/libfaketime.so.1"))
        .find(|path| path.is_file());
    found.expect("libfaketime is installed by ./tests/run install")
}

/// The same command, whose wall clock is so far off. Its monotonic clock is right, as a real one would be.
fn shifted(mut command: Command, offset: &str) -> Command {
    command
        .env("LD_PRELOAD", library())
        .env("FAKETIME", offset)
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("DONT_FAKE_MONOTONIC", "1");
    command
}

fn never_back(evidence: &Evidence) {
    let recorded = evidence
        .log
        .iter()
        .map(|logged| logged.entry.recorded_at_ms);
    assert!(recorded.is_sorted(), "the log goes back in time");
}

/// A small estate, and its cycle three hours ago up to the open review, whose decisions were not found then.
fn begun_three_hours_ago(folder: &Path) -> Cycle {
    let (estate, data_dir) = (folder.join("estate"), folder.join("data"));
    let governance = Governance::new(TENANT, "Small").unwrap();
    small::write(&estate, governance, &["one", "two"]).unwrap();
    let cycle = Cycle::new(&data_dir).on(&estate);
    let (file, away) = (estate.join("decisions.csv"), estate.join("away.csv"));
    fs::rename(&file, &away).unwrap();
    let ended = Process::start(shifted(cycle.command().unwrap(), "-3h")).unwrap();
    let ended = ended.finish().unwrap();
    assert!(ended.errors.contains("decisions.csv"), "{}", ended.errors);
    fs::rename(&away, &file).unwrap();
    cycle
}

fn everything_was_removed(outcome: &Outcome) -> Evidence {
    assert_eq!(outcome.removals_verified, 8);
    assert_eq!(outcome.campaign_state, "CLOSED");
    let evidence = Evidence::open(&outcome.bundle).unwrap();
    never_back(&evidence);
    evidence
}

#[test]
fn a_clock_that_jumps_forward_in_the_middle_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cycle = begun_three_hours_ago(folder.path());
    let outcome = cycle.play().unwrap().outcome;
    let report = outcome.verify().unwrap();
    assert!(report.is_ok(), "{report}");
    everything_was_removed(&outcome);
}

/// Decisions now, removals an hour ago: they are done and kept on record, and since their times speak against them, the
/// verifier does not take them for proved.
#[test]
fn a_clock_that_is_set_back_loses_nothing_and_is_no_proof_of_order() {
    let folder = tempfile::tempdir().unwrap();
    let cycle = begun_three_hours_ago(folder.path());
    let data_dir = folder.path().join("data");
    let suite = Suite::start(&data_dir).unwrap();
    let mut steps = Steps::new(&suite, TENANT).unwrap();
    steps
        .decide(&folder.path().join("estate/decisions.csv"))
        .unwrap();
    steps
        .ask_as(ACCOUNTABLE_OWNER, &["campaign", "end-review", CAMPAIGN])
        .unwrap();
    suite.stop().unwrap().success().unwrap();
    let ended = Process::start(shifted(cycle.command().unwrap(), "-1h")).unwrap();
    let outcome = played(&ended.finish().unwrap()).unwrap().outcome;
    let evidence = everything_was_removed(&outcome);
    assert_eq!(evidence.of::<v1::GrantEnded>().unwrap().len(), 8);
    let report = outcome.verify().unwrap();
    assert_eq!(report.exit, 1, "{report}");
    assert!(report.fails("I-39"), "{report}");
    for id in ["S1", "S3", "C1", "C2", "K1", "P1", "P2", "W1", "I-28"] {
        assert_eq!(report.check(id).unwrap().status, "PASS", "{report}");
    }
}

#[test]
fn a_clock_that_jumps_by_a_year_ends_approvals_and_nobody_calls_that_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let (estate, data_dir) = (folder.path().join("estate"), folder.path().join("data"));
    let governance = Governance::new(TENANT, "Small").unwrap();
    small::write(&estate, governance, &["one"]).unwrap();
    Cycle::new(&data_dir).on(&estate).play().unwrap();
    let command = shifted(up(&data_dir).unwrap(), "+300d");
    let suite = Suite::of(command, &data_dir).unwrap();
    let mut steps = Steps::new(&suite, TENANT).unwrap();
    steps.sync("one").unwrap();
    let snapshot = text(&steps.snapshot().unwrap(), "/name").unwrap();
    let run = steps
        .ask_as(ACCOUNTABLE_OWNER, &["recon", "run", &snapshot])
        .unwrap();
    let situations = list(&run, "/recon_run/situations").unwrap();
    let count = |name: &str| {
        situations
            .iter()
            .filter(|count| count["situation"] == name)
            .filter_map(|count| count["count"].as_u64())
            .sum::<u64>()
    };
    assert_eq!(count("SITUATION_CONFIRMED"), 0, "{run}");
    assert_eq!(count("SITUATION_EXPIRED_PRESENT"), 5, "{run}");
    let exported = steps.ask(&["bundle", "export"]).unwrap();
    suite.stop().unwrap().success().unwrap();
    let bundle = PathBuf::from(text(&exported, "/bundle").unwrap());
    let trust = PathBuf::from(text(&exported, "/trust").unwrap());
    let report = verify(&bundle, &trust).unwrap();
    assert!(report.is_ok(), "{report}");
    let evidence = Evidence::open(&bundle).unwrap();
    never_back(&evidence);
    let findings = evidence.of::<v1::FindingOpened>().unwrap();
    let expired = findings
        .iter()
        .filter(|(_, finding)| finding.situation() == v1::Situation::ExpiredPresent);
    assert_eq!(expired.count(), 5);
}
