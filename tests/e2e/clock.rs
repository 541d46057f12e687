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

/// Decisions now, removals an hour ago: a call that went out then would prove no order. No target is touched, what is open is
/// debt and told as such, and when the clock is right again the same plan is carried out.
#[test]
fn a_clock_that_is_set_back_touches_no_target_until_it_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let cycle = begun_three_hours_ago(folder.path());
    let (estate, data_dir) = (folder.path().join("estate"), folder.path().join("data"));
    let suite = Suite::start(&data_dir).unwrap();
    let mut steps = Steps::new(&suite, TENANT).unwrap();
    steps.decide(&estate.join("decisions.csv")).unwrap();
    steps
        .ask_as(ACCOUNTABLE_OWNER, &["campaign", "end-review", CAMPAIGN])
        .unwrap();
    suite.stop().unwrap().success().unwrap();
    let grants = || ["one", "two"].map(|id| fs::read(estate.join(id).join("grants.csv")).unwrap());
    let before = grants();
    let ended = Process::start(shifted(cycle.command().unwrap(), "-1h")).unwrap();
    let outcome = played(&ended.finish().unwrap()).unwrap().outcome;
    assert_eq!(outcome.campaign_state, "CLOSED_WITH_DEBT");
    assert_eq!(outcome.removals_verified, 0);
    assert_eq!(grants(), before);
    never_back(&Evidence::open(&outcome.bundle).unwrap());
    let report = outcome.verify().unwrap();
    assert!(report.is_ok(), "{report}");

    let suite = Suite::start(&data_dir).unwrap();
    let mut steps = Steps::new(&suite, TENANT).unwrap();
    let listed = steps.ask(&["remediation", "list"]).unwrap();
    let remediation = text(&listed, "/remediations/0/name").unwrap();
    let actions = steps
        .ask(&["remediation", "actions", &remediation])
        .unwrap();
    for action in list(&actions, "/actions").unwrap() {
        let why = text(action, "/failure_message").unwrap();
        assert!(why.contains("clock"), "{action}");
    }
    let ended = steps.execute(ACCOUNTABLE_OWNER, &remediation).unwrap();
    assert_eq!(ended["state"], "REMEDIATION_STATE_CLOSED", "{ended}");
    let exported = steps.ask(&["bundle", "export"]).unwrap();
    suite.stop().unwrap().success().unwrap();
    let bundle = PathBuf::from(text(&exported, "/bundle").unwrap());
    let evidence = Evidence::open(&bundle).unwrap();
    assert_eq!(evidence.of::<v1::GrantEnded>().unwrap().len(), 8);
    let trust = PathBuf::from(text(&exported, "/trust").unwrap());
    let report = verify(&bundle, &trust).unwrap();
    assert!(report.is_ok(), "{report}");
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
