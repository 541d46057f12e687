//! Files that are not what they should be: the error names file, line and reason, the reading is PARTIAL and never taken for
//! complete, the review does not start, and when the files are mended the same cycle goes on.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use counterfoil_evidence::v1;
use counterfoil_tests::cycle::Cycle;
use counterfoil_tests::evidence::Evidence;
use counterfoil_tests::governance::Governance;
use counterfoil_tests::process::Suite;
use counterfoil_tests::small::{self, SmallEstate};
use counterfoil_tests::steps::{Steps, list, number};

const TENANT: &str = "small";

struct Place {
    _folder: tempfile::TempDir,
    data_dir: PathBuf,
    estate: SmallEstate,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let governance = Governance::new(TENANT, "Small").unwrap();
        let estate =
            small::write(&folder.path().join("estate"), governance, &["one", "two"]).unwrap();
        Self {
            data_dir: folder.path().join("data"),
            estate,
            _folder: folder,
        }
    }

    fn cycle(&self) -> Cycle {
        Cycle::new(&self.data_dir).on(&self.estate.directory)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.estate.source("two").join(name)
    }
}

fn append(path: &Path, bytes: &[u8]) {
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

/// Breaks a file of the second source, and holds what follows to what must follow.
fn breaking(name: &str, damage: impl Fn(&Path), told: &[&str]) {
    let place = Place::new();
    let whole = fs::read(place.file(name)).unwrap();
    damage(&place.file(name));
    let refused = place.cycle().attempt().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", refused.errors);
    for word in told.iter().chain(&[name]) {
        assert!(
            refused.errors.contains(word),
            "{word:?} is not in\n{}",
            refused.errors
        );
    }

    let suite = Suite::start(&place.data_dir).unwrap();
    let steps = Steps::new(&suite, TENANT).unwrap();
    let syncs = steps.ask(&["sync", "list"]).unwrap();
    let of_two = |sync: &&serde_json::Value| sync["source"] == "tenants/small/sources/two";
    let two = list(&syncs, "/syncs").unwrap().iter().find(of_two).unwrap();
    assert_eq!(two["state"], "SYNC_STATE_PARTIAL");
    assert!(number(two, "/errors").unwrap() >= 1);
    let source = steps.ask(&["source", "get", "two"]).unwrap();
    assert_eq!(
        source["source"]["latest_sync"], "",
        "it has no complete one"
    );
    let campaign = steps.ask(&["campaign", "get", "first-review"]).unwrap();
    assert_eq!(campaign["campaign"]["state"], "CAMPAIGN_STATE_DRAFT");
    let snapshots = steps.ask(&["snapshot", "list"]).unwrap();
    let missing = &snapshots["snapshots"][0]["missing_sources"][0];
    assert_eq!(missing["source"], "tenants/small/sources/two");
    assert_eq!(missing["reason"], "partial");
    suite.stop().unwrap().success().unwrap();

    fs::write(place.file(name), whole).unwrap();
    let played = place.cycle().play().unwrap();
    assert_eq!(played.outcome.campaign_state, "CLOSED");
    let report = played.outcome.verify().unwrap();
    assert!(report.is_ok(), "{report}");
    // What went wrong stays on record.
    let evidence = Evidence::open(&played.outcome.bundle).unwrap();
    let partial = evidence
        .of::<v1::SourceSyncSealed>()
        .unwrap()
        .into_iter()
        .filter(|(_, sync)| sync.state() == v1::SyncState::Partial);
    assert_eq!(partial.count(), 1);
}

/// Breaks a file before the source is registered: then it is not even registered.
fn breaking_from_the_start(name: &str, damage: impl Fn(&Path), told: &[&str]) {
    let place = Place::new();
    let whole = fs::read(place.file(name)).unwrap();
    damage(&place.file(name));
    let refused = place.cycle().attempt().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", refused.errors);
    for word in told.iter().chain(&[name]) {
        assert!(
            refused.errors.contains(word),
            "{word:?} is not in\n{}",
            refused.errors
        );
    }
    fs::write(place.file(name), whole).unwrap();
    let played = place.cycle().play().unwrap();
    assert_eq!(played.outcome.campaign_state, "CLOSED");
}

#[test]
fn a_wrong_header_is_told_and_the_source_is_not_registered() {
    let damage = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        fs::write(path, text.replacen("native_id", "id", 1)).unwrap();
    };
    breaking_from_the_start("accounts.csv", damage, &["header", "native_id"]);
}

#[test]
fn a_missing_file_is_told_and_the_source_is_not_registered() {
    let damage = |path: &Path| fs::remove_file(path).unwrap();
    breaking_from_the_start("grants.csv", damage, &["is missing"]);
}

#[test]
fn a_ragged_row_is_told_by_file_line_and_reason() {
    let damage = |path: &Path| append(path, b"p6,write\n");
    breaking("grants.csv", damage, &["line 11", "fields"]);
}

#[test]
fn bytes_that_are_no_utf_8_are_told_by_file_line_and_reason() {
    let damage = |path: &Path| append(path, b"p7,Person \xff,p7@small.example\n");
    breaking("accounts.csv", damage, &["line 8", "UTF-8"]);
}

#[test]
fn a_repeated_key_is_told_by_file_line_and_reason() {
    let damage = |path: &Path| append(path, b"p1,Another,other@small.example\n");
    breaking("accounts.csv", damage, &["line 8", "repeats", "p1"]);
}

#[test]
fn a_grant_of_an_account_that_is_not_there_is_told() {
    let damage = |path: &Path| append(path, b"p99,read,2026-01-31\n");
    breaking("grants.csv", damage, &["line 11", "p99"]);
}

#[test]
fn a_value_that_a_spreadsheet_would_run_is_refused() {
    let damage = |path: &Path| append(path, b"p7,=cmd|'/c calc'!A1,p7@small.example\n");
    breaking("accounts.csv", damage, &["line 8", "display_name"]);
}

#[test]
fn a_line_of_100_mib_is_refused_without_being_kept() {
    let damage = |path: &Path| {
        append(path, b"p6,");
        for _ in 0..100 {
            append(path, &[b'x'; 1 << 20]);
        }
        append(path, b",2026-01-31\n");
    };
    breaking("grants.csv", damage, &["line 11", "longer than"]);
    // The same again, with an eye on the memory of the services.
    let place = Place::new();
    place.cycle().play().unwrap();
    let suite = Suite::start(&place.data_dir).unwrap();
    let steps = Steps::new(&suite, TENANT).unwrap();
    let before = suite.peak_memory_bytes().unwrap();
    damage(&place.file("grants.csv"));
    assert_eq!(steps.sync("two").unwrap()["state"], "SYNC_STATE_PARTIAL");
    let grown = suite.peak_memory_bytes().unwrap() - before;
    assert!(grown < 50 << 20, "{grown} bytes");
}

#[test]
fn a_partial_reading_does_not_replace_what_is_known() {
    let place = Place::new();
    place.cycle().play().unwrap();
    let suite = Suite::start(&place.data_dir).unwrap();
    let steps = Steps::new(&suite, TENANT).unwrap();
    let known = steps.ask(&["source", "get", "two"]).unwrap();
    let grants = steps.ask(&["grant", "list"]).unwrap();
    append(&place.file("accounts.csv"), b"p7\n");
    let sync = steps.sync("two").unwrap();
    assert_eq!(sync["state"], "SYNC_STATE_PARTIAL");
    let after = steps.ask(&["source", "get", "two"]).unwrap();
    assert_eq!(
        after["source"]["latest_sync"],
        known["source"]["latest_sync"]
    );
    assert_eq!(steps.ask(&["grant", "list"]).unwrap(), grants);
}

#[test]
fn a_broken_file_of_decisions_is_told_by_line_and_decides_nothing() {
    let place = Place::new();
    let file = place.estate.directory.join("decisions.csv");
    let whole = fs::read(&file).unwrap();
    append(&file, b"one,p1,read,ACCEPT\n");
    let refused = place.cycle().attempt().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    for told in ["decisions.csv", "line 18"] {
        assert!(refused.errors.contains(told), "{}", refused.errors);
    }
    let suite = Suite::start(&place.data_dir).unwrap();
    let steps = Steps::new(&suite, TENANT).unwrap();
    let campaign = steps.ask(&["campaign", "get", "first-review"]).unwrap();
    assert_eq!(campaign["campaign"]["state"], "CAMPAIGN_STATE_ACTIVE");
    assert_eq!(number(&campaign, "/campaign/counts/pending").unwrap(), 18);
    suite.stop().unwrap().success().unwrap();
    fs::write(&file, whole).unwrap();
    assert_eq!(
        place.cycle().play().unwrap().outcome.campaign_state,
        "CLOSED"
    );
}
