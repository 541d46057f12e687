//! The ledger's published copy in the hands of an operator: served by anybody, checked, lost and brought back.

use std::fs;
use std::path::Path;

use counterfoil_tests::foreign::CHECKERS;
use counterfoil_tests::process::{Ended, Process, Suite, counterfoil, up};
use counterfoil_tests::report::verify;
use counterfoil_tests::s3::ObjectStore;
use counterfoil_tests::steps::{Steps, list, number, text};
use serde_json::Value;

use crate::golden::{TENANT, services};

/// Publishes all that the tenant's log has; its size.
fn publish(suite: &Suite) -> u64 {
    let steps = Steps::new(suite, TENANT).unwrap();
    let size = number(&steps.ask(&["ledger", "checkpoint"]).unwrap(), "/size").unwrap();
    let state = state_at_last(&steps, size - 1);
    let published = ["EVIDENCE_STATE_PUBLISHED", "EVIDENCE_STATE_ANCHORED"];
    assert!(published.contains(&state.as_str()), "{state}");
    size
}

/// The state of evidence of an entry, once it is published or no longer waited for.
fn state_at_last(steps: &Steps<'_>, index: u64) -> String {
    state_after(steps, index, "published")
}

/// The state of evidence of an entry, once it has reached one or is no longer waited for.
fn state_after(steps: &Steps<'_>, index: u64, wanted: &str) -> String {
    let index = index.to_string();
    let wait = [
        "ledger",
        "receipt",
        "--index",
        &index,
        "--state",
        wanted,
        "--wait-seconds",
        "30",
    ];
    text(&steps.ask(&wait).unwrap(), "/receipt/state").unwrap()
}

fn offline(data_dir: &Path, arguments: &[&str]) -> Ended {
    Process::start(counterfoil(data_dir, arguments).unwrap())
        .unwrap()
        .finish()
        .unwrap()
}

/// The newest epoch that a bundle shows, and the entry that bound its log.
fn anchored_in(bundle: &str) -> (u64, String) {
    let anchor = Path::new(bundle).join("anchor");
    let epochs = fs::read_dir(anchor.join("epochs")).unwrap();
    let numbers = epochs.map(|file| file.unwrap().file_name().into_string().unwrap());
    let newest = numbers.map(|number| number.parse().unwrap()).max().unwrap();
    let bound = fs::read_to_string(anchor.join("bound")).unwrap();
    (newest, bound.lines().nth(1).unwrap().to_owned())
}

/// Foreign code accepts the published files of the tenant's log.
fn assert_accepted(suite_keys: &Suite, published: &Path, size: u64) {
    let steps = Steps::new(suite_keys, TENANT).unwrap();
    let vkey = text(&steps.ask(&["ledger", "checkpoint"]).unwrap(), "/vkey").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vkey");
    fs::write(&file, format!("{vkey}\n")).unwrap();
    for checker in CHECKERS {
        let verdict = checker.check(published, &file, &[]).unwrap();
        assert!(
            verdict.accepted && verdict.said.contains(&format!("OK size {size}")),
            "{checker:?}: {}",
            verdict.said
        );
    }
}

fn row<'r>(report: &'r Value, tenant: &str) -> &'r Value {
    let rows = list(report, "/logs").unwrap();
    rows.iter().find(|row| row["tenant"] == tenant).unwrap()
}

#[test]
fn the_published_folder_is_a_log_that_others_serve_and_accept() {
    let (suite, folder) = services();
    let size = publish(&suite);
    let data_dir = folder.path().join("data");
    assert_accepted(&suite, &data_dir.join("published").join(TENANT), size);
    // A status can be had while the services run.
    let status = || offline(&data_dir, &["ledger", "status"]).json().unwrap();
    let before = status();
    assert_eq!(row(&before, TENANT)["published"], size, "{before}");
    let steps = Steps::new(&suite, TENANT).unwrap();
    steps.ask(&["ledger", "seal"]).unwrap();
    let after = status();
    let after = row(&after, TENANT);
    assert!(after["size"].as_u64() > Some(size), "{after}");
    assert_eq!(
        after["unpublished_since"].is_string(),
        after["published"].as_u64() < after["size"].as_u64(),
        "{after}"
    );
    drop(steps);
    let size = publish(&suite);
    let busy = offline(&data_dir, &["ledger", "fsck"]);
    assert!(
        !busy.status.success() && busy.errors.contains("in use"),
        "{}",
        busy.errors
    );
    suite.stop().unwrap().success().unwrap();
    let done = folder.path().join("done");
    let check = ["ledger", "fsck", "--done", done.to_str().unwrap()];
    let report = offline(&data_dir, &check).json().unwrap();
    assert_eq!(row(&report, TENANT)["size"], size);
    assert!(
        list(&report, "/logs").unwrap().len() >= 2,
        "the provider's log too"
    );
    // A second run has nothing left to check.
    let again = offline(&data_dir, &check).json().unwrap();
    assert!(list(&again, "/logs").unwrap().is_empty(), "{again}");
    let scrubbed = offline(&data_dir, &["ledger", "scrub"]).json().unwrap();
    assert_eq!(row(&scrubbed, TENANT)["size"], size, "{scrubbed}");
    let bundle = data_dir
        .join("published")
        .join(TENANT)
        .join("tile/entries/000");
    let mut bytes = fs::read(&bundle).unwrap();
    bytes[100] ^= 4;
    fs::write(&bundle, bytes).unwrap();
    let found = offline(&data_dir, &["ledger", "fsck", TENANT]);
    assert!(!found.status.success(), "{}", found.output);
    assert!(
        found
            .output
            .contains("tile/entries/000 is not that of the entries"),
        "{}",
        found.output
    );
}

#[test]
fn an_older_database_is_not_written_before_it_is_brought_back() {
    let (suite, folder) = services();
    let data_dir = folder.path().join("data");
    suite.stop().unwrap().success().unwrap();
    let backup = fs::read(data_dir.join("ledger.sqlite")).unwrap();
    let suite = Suite::start(&data_dir).unwrap();
    let steps = Steps::new(&suite, TENANT).unwrap();
    steps.ask(&["ledger", "seal"]).unwrap();
    let size = publish(&suite);
    drop(steps);
    suite.stop().unwrap().success().unwrap();
    for file in ["ledger.sqlite-wal", "ledger.sqlite-shm"] {
        // There is none after an orderly end.
        let _ = fs::remove_file(data_dir.join(file));
    }
    fs::write(data_dir.join("ledger.sqlite"), backup).unwrap();
    // Only the published copy knows how far the log was.
    fs::remove_dir_all(data_dir.join("keys/high-water")).unwrap();
    let status = offline(&data_dir, &["ledger", "status"]);
    assert!(
        !status.status.success() && status.output.contains("more entries than the database"),
        "{}",
        status.output
    );
    let suite = Suite::start(&data_dir).unwrap();
    let steps = Steps::new(&suite, TENANT).unwrap();
    let refused = steps.attempt(&["ledger", "seal"]).unwrap();
    assert!(
        !refused.status.success() && refused.errors.contains("fell back"),
        "{}",
        refused.errors
    );
    drop(steps);
    suite.stop().unwrap().success().unwrap();
    let report = offline(&data_dir, &["ledger", "recover"]).json().unwrap();
    assert_eq!(row(&report, TENANT)["has"], size);
    let suite = Suite::start(&data_dir).unwrap();
    Steps::new(&suite, TENANT)
        .unwrap()
        .ask(&["ledger", "seal"])
        .unwrap();
    suite.stop().unwrap().success().unwrap();
}

#[test]
fn a_lost_database_comes_back_from_the_published_copy_with_the_keys() {
    let (suite, folder) = services();
    let data_dir = folder.path().join("data");
    let size = publish(&suite);
    suite.stop().unwrap().success().unwrap();
    fs::remove_file(data_dir.join("ledger.sqlite")).unwrap();
    let report = offline(&data_dir, &["ledger", "recover"]).json().unwrap();
    let back = row(&report, TENANT);
    assert_eq!(
        (&back["had"], &back["has"]),
        (&Value::from(0), &Value::from(size))
    );
    offline(&data_dir, &["ledger", "fsck"]).success().unwrap();
    let suite = Suite::start(&data_dir).unwrap();
    let steps = Steps::new(&suite, TENANT).unwrap();
    let exported = steps.ask(&["bundle", "export", TENANT]).unwrap();
    let report = verify(
        Path::new(&text(&exported, "/bundle").unwrap()),
        Path::new(&text(&exported, "/trust").unwrap()),
    )
    .unwrap();
    assert_eq!(report.exit, 0, "{report:?}");
    suite.stop().unwrap().success().unwrap();
}

#[test]
fn what_was_never_published_comes_back_from_the_outboxes() {
    let (suite, folder) = services();
    let data_dir = folder.path().join("data");
    let size = publish(&suite);
    let steps = Steps::new(&suite, TENANT).unwrap();
    assert_eq!(
        state_after(&steps, size - 1, "anchored"),
        "EVIDENCE_STATE_ANCHORED"
    );
    let exported = steps.ask(&["bundle", "export", TENANT]).unwrap();
    let trust = text(&exported, "/trust").unwrap();
    let (epoch, bound) = anchored_in(&text(&exported, "/bundle").unwrap());
    drop(steps);
    suite.stop().unwrap().success().unwrap();
    // The disk with the database is lost, and that of the copy with it.
    fs::remove_file(data_dir.join("ledger.sqlite")).unwrap();
    fs::remove_dir_all(data_dir.join("published")).unwrap();
    // A service's outbox is out of reach at first.
    let (there, away) = (
        data_dir.join("inventory.sqlite"),
        folder.path().join("inventory.sqlite"),
    );
    fs::rename(&there, &away).unwrap();
    let refused = offline(&data_dir, &["ledger", "recover", TENANT]);
    assert!(
        !refused.status.success() && refused.output.contains("no producer has a receipt for"),
        "{}",
        refused.output
    );
    fs::rename(&away, &there).unwrap();
    let report = offline(&data_dir, &["ledger", "recover"]).json().unwrap();
    let back = row(&report, TENANT);
    assert_eq!(back["had"], 0, "{report}");
    assert!(back["has"].as_u64() >= Some(size), "{report}");
    assert!(
        row(&report, "_anchor")["has"].as_u64() > Some(0),
        "{report}"
    );
    offline(&data_dir, &["ledger", "fsck", "--without-copy"])
        .success()
        .unwrap();
    let suite = Suite::start(&data_dir).unwrap();
    let steps = Steps::new(&suite, TENANT).unwrap();
    let exported = steps.ask(&["bundle", "export", TENANT]).unwrap();
    // The trust that was pinned before the loss still holds, and the anchor log goes on where it was.
    let bundle = text(&exported, "/bundle").unwrap();
    let report = verify(Path::new(&bundle), Path::new(&trust)).unwrap();
    assert_eq!(report.exit, 0, "{report:?}");
    let (later, bound_then) = anchored_in(&bundle);
    assert!(later > epoch, "{later} is after {epoch}");
    assert_eq!(bound_then, bound);
    drop(steps);
    suite.stop().unwrap().success().unwrap();
}

#[test]
fn a_log_is_published_to_s3_and_a_foreign_file_there_stops_it() {
    let store = ObjectStore::start("evidence").unwrap();
    let (suite, folder) = services();
    suite.stop().unwrap().success().unwrap();
    let data_dir = folder.path().join("data");
    let start = || {
        let mut command = up(&data_dir).unwrap();
        command.args(["--publish-url", "s3://evidence/logs/eu"]);
        command.envs(store.environment());
        Suite::of(command, &data_dir).unwrap()
    };
    let suite = start();
    let size = publish(&suite);
    let copy = folder.path().join("copy");
    store.download(&format!("logs/eu/{TENANT}"), &copy).unwrap();
    assert_accepted(&suite, &copy, size);
    // A file that the next run would write, of another history.
    let next = size + 1;
    let forged = format!(
        "logs/eu/{TENANT}/tile/entries/{:03}.p/{}",
        next / 256,
        next % 256
    );
    store.put(&forged, b"another history").unwrap();
    let steps = Steps::new(&suite, TENANT).unwrap();
    steps.ask(&["ledger", "seal"]).unwrap();
    // It is not published any more: whoever waits for that is told how far it is, and whoever appends, why.
    assert_eq!(state_at_last(&steps, size), "EVIDENCE_STATE_LOGGED");
    let refused = steps.attempt(&["ledger", "seal"]).unwrap();
    assert!(
        !refused.status.success() && refused.errors.contains("another one"),
        "{}",
        refused.errors
    );
    drop(steps);
    suite.stop().unwrap().success().unwrap();
}
