//! The commands as people type them: help everywhere, one clear line when something is wrong, exit codes that mean something.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use counterfoil_tests::folder;
use counterfoil_tests::process::{Ended, Process, executable};
use counterfoil_tests::report::{verify, verify_with};
use counterfoil_tlog::note::{KeyKind, VerifierKey};

use crate::golden::golden;

fn run(name: &str, arguments: &[&str]) -> Ended {
    let mut command = Command::new(executable(name).unwrap());
    command.args(arguments);
    Process::start(command).unwrap().finish().unwrap()
}

/// The subcommands that a help text lists.
fn subcommands(help: &str) -> Vec<String> {
    let listed = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.trim().is_empty());
    listed
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_has_help() {
    let root = run("counterfoil", &["--help"]);
    let nouns = subcommands(root.success().unwrap());
    for noun in ["quickstart", "up", "tenant", "finding", "ledger", "bundle"] {
        assert!(nouns.iter().any(|found| found == noun), "{nouns:?}");
    }
    let mut verbs_count = 0;
    for noun in &nouns {
        let help = run("counterfoil", &[noun, "--help"]);
        let help = help.success().unwrap();
        assert!(help.contains("Usage: counterfoil"), "{noun}: {help}");
        for verb in subcommands(help) {
            let ended = run("counterfoil", &[noun, &verb, "--help"]);
            let text = ended.success().unwrap();
            let about = text.lines().next().unwrap_or_default();
            assert!(
                about.len() > 10,
                "{noun} {verb} does not say what it does: {about:?}"
            );
            assert!(text.contains("Usage: counterfoil"), "{noun} {verb}");
            verbs_count += 1;
        }
    }
    assert!(verbs_count > 50, "{verbs_count}");
    let help = run("counterfoil-verify", &["--help"]);
    assert!(help.success().unwrap().contains("--trust"));
    run("counterfoil", &["--version"]).success().unwrap();
}

#[test]
fn every_option_says_what_it_is() {
    for arguments in [
        ["tenant", "create"],
        ["decision", "take"],
        ["campaign", "create"],
        ["source", "create"],
    ] {
        let help = run("counterfoil", &[&arguments[..], &["--help"]].concat());
        let help = help.success().unwrap();
        let silent = help
            .lines()
            .filter(|line| line.trim_start().starts_with("--"))
            .filter(|line| line.split_whitespace().count() < 3);
        let silent: Vec<&str> = silent.collect();
        // A long option stands alone when its help follows on the next line.
        for line in silent {
            let next = help
                .lines()
                .skip_while(|one| one != &line)
                .nth(1)
                .unwrap_or_default();
            assert!(
                !next.trim().is_empty() && !next.trim().starts_with("--"),
                "{line:?}"
            );
        }
    }
}

#[test]
fn wrong_arguments_end_with_an_error_that_says_which() {
    let away = tempfile::tempdir().unwrap();
    let data_dir = away.path().to_str().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["nonsense"], "nonsense"),
        (&["tenant", "nonsense"], "nonsense"),
        (&["tenant", "list", "--nonsense"], "--nonsense"),
        (&["tenant", "create"], "TENANT"),
        (&["tenant", "list", "--output", "yaml"], "yaml"),
        (&["bundle", "export", "--tenant"], "--tenant"),
        (
            &["tenant", "list", "--data-dir", data_dir],
            "counterfoil up",
        ),
        (
            &["quickstart", "--estate", "nowhere", "--data-dir", data_dir],
            "nowhere",
        ),
        (
            &[
                "quickstart",
                "--database-url",
                "nonsense",
                "--data-dir",
                data_dir,
            ],
            "database",
        ),
    ];
    for (arguments, told) in cases {
        let ended = run("counterfoil", arguments);
        assert!(!ended.status.success(), "{arguments:?}");
        let error = ended.errors.lines().find(|line| line.starts_with("error"));
        let error = error.unwrap_or_else(|| panic!("{arguments:?}: {}", ended.errors));
        assert!(
            ended.errors.contains(told),
            "{arguments:?}: {}",
            ended.errors
        );
        assert!(!error.contains("panicked") && !ended.errors.contains("RUST_BACKTRACE"));
    }
}

#[test]
fn values_that_are_none_are_refused_before_anything_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let suite = counterfoil_tests::process::Suite::start(folder.path()).unwrap();
    let hash = "00".repeat(32);
    let item = "tenants/x/campaigns/y/items/z";
    let cases: &[(&[&str], &str)] = &[
        (
            &["decision", "take", item, "--decision", "maybe"],
            "ACCEPT, REVOKE, REDUCE, EXCEPTION",
        ),
        (
            &["decision", "take", item, "--presentation-hash", "xyz"],
            "hex",
        ),
        (
            &["decision", "take", item, "--review-by-time", "soon"],
            "RFC 3339",
        ),
        (
            &["decision", "take", item, "--review-by-time", "+9z"],
            "d, h, m, s",
        ),
        (
            &[
                "decision",
                "take",
                item,
                "--dwell-ms",
                "many",
                "--presentation-hash",
                &hash,
            ],
            "dwell",
        ),
        (&["sync", "start", "crm"], "--tenant"),
        (&["snapshot", "create"], "--tenant"),
        (
            &[
                "source",
                "create",
                "x",
                "y",
                "--config-json",
                "@nowhere.json",
            ],
            "nowhere.json",
        ),
    ];
    for (arguments, told) in cases {
        let ended = suite.ask(arguments).unwrap();
        assert_eq!(
            ended.status.code(),
            Some(1),
            "{arguments:?}: {}",
            ended.errors
        );
        assert!(
            ended.errors.contains(told),
            "{arguments:?}: {}",
            ended.errors
        );
    }
}

fn bundle_copy(folder: &Path) -> PathBuf {
    let bundle = folder.join("bundle");
    folder::copy(&golden().second.outcome.bundle, &bundle).unwrap();
    bundle
}

#[test]
fn the_verifier_exits_with_0_for_what_is_right() {
    let outcome = &golden().second.outcome;
    assert_eq!(outcome.verify().unwrap().exit, 0);
    let trust = outcome.trust.to_str().unwrap();
    let told = run(
        "counterfoil-verify",
        &[outcome.bundle.to_str().unwrap(), "--trust", trust],
    );
    let told = told.success().unwrap();
    for words in [
        "Population",
        "helena-vogt",
        "What this does not prove",
        "OK (exit 0)",
    ] {
        assert!(
            told.to_lowercase().contains(&words.to_lowercase()),
            "{words}: {told}"
        );
    }
}

#[test]
fn the_verifier_exits_with_1_for_what_was_changed() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle_copy(folder.path());
    let entries = bundle.join("log/tile/entries/000");
    let mut content = fs::read(&entries).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&entries, content).unwrap();
    let report = verify(&bundle, &golden().second.outcome.trust).unwrap();
    assert_eq!(report.exit, 1, "{report}");
}

#[test]
fn the_verifier_exits_with_2_for_what_is_no_bundle_or_no_trust_file() {
    let folder = tempfile::tempdir().unwrap();
    let trust = &golden().second.outcome.trust;
    for content in [None, Some("{}"), Some("nonsense")] {
        let bundle = folder.path().join("empty");
        fs::create_dir_all(&bundle).unwrap();
        if let Some(content) = content {
            fs::write(bundle.join("bundle.json"), content).unwrap();
        }
        assert_eq!(verify(&bundle, trust).unwrap().exit, 2);
    }
    assert_eq!(verify(Path::new("nowhere"), trust).unwrap().exit, 2);
    let bundle = bundle_copy(folder.path());
    let other = folder.path().join("trust.json");
    fs::write(&other, "{\"format\":\"other\"}").unwrap();
    assert_eq!(verify(&bundle, &other).unwrap().exit, 2);
    assert_eq!(verify(&bundle, Path::new("nowhere")).unwrap().exit, 2);
    std::os::unix::fs::symlink("/etc/passwd", bundle.join("link")).unwrap();
    assert_eq!(verify(&bundle, trust).unwrap().exit, 2);
}

#[test]
fn the_verifier_exits_with_3_when_the_auditors_policy_is_not_met() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle_copy(folder.path());
    let trust = fs::read(&golden().second.outcome.trust).unwrap();
    // Trust that comes in the bundle itself is none.
    let inside = bundle.join("trust/trust.json");
    let report = verify(&bundle, &inside).unwrap();
    assert_eq!(report.exit, 3, "{report}");
    assert!(report.fails("B1"), "{report}");
    // An auditor who asks for a witness is not served by a log without one.
    let mut asking: serde_json::Value = serde_json::from_slice(&trust).unwrap();
    let some_key = VerifierKey::parse(asking["logs"][0]["registrar"].as_str().unwrap()).unwrap();
    let witness = VerifierKey::new(
        "witness.example",
        KeyKind::CosignatureV1,
        some_key.public_key(),
    );
    asking["witnesses"] =
        serde_json::json!([{ "name": "witness.example", "vkey": witness.unwrap().to_string() }]);
    asking["quorum"] = 1.into();
    let file = folder.path().join("asking.json");
    fs::write(&file, asking.to_string()).unwrap();
    let report = verify(&bundle, &file).unwrap();
    assert_eq!(report.exit, 3, "{report}");
    assert!(report.fails("W6"), "{report}");
}

/// An attachment is left out, and the MANIFEST says so: nothing is wrong, and not everything could be checked.
#[test]
fn the_verifier_exits_with_4_when_something_required_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle_copy(folder.path());
    let blob = fs::read_dir(bundle.join("blobs/sha256")).unwrap();
    // A descriptor set is in the bundle a second time, as a schema: without this copy nothing is missing.
    let schema = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        bundle.join(format!("schemas/{name}.binpb")).exists()
    };
    let blobs = blob.map(|entry| entry.unwrap().path());
    let blob = blobs.filter(|path| !schema(path)).min().unwrap();
    let name = blob.file_name().unwrap().to_str().unwrap().to_owned();
    fs::remove_file(&blob).unwrap();
    let manifest = fs::read_to_string(bundle.join("MANIFEST")).unwrap();
    let manifest: String = manifest
        .split_inclusive('\n')
        .filter(|line| !line.trim_end().ends_with(&name))
        .collect();
    fs::write(bundle.join("MANIFEST"), manifest).unwrap();
    let report = verify(&bundle, &golden().second.outcome.trust).unwrap();
    assert_eq!(report.exit, 4, "{report}");
    assert!(report.failed().is_empty(), "{report}");
}

#[test]
fn the_verifier_holds_a_log_to_the_moment_that_it_must_reach() {
    let outcome = &golden().second.outcome;
    let as_of =
        |moment| verify_with(&outcome.bundle, &outcome.trust, &["--as-of", moment]).unwrap();
    let reached = as_of("2000-01-01T00:00:00Z");
    assert_eq!(reached.exit, 0, "{reached}");
    let stale = as_of("2100-01-01T00:00:00Z");
    assert_eq!(stale.exit, 1, "{stale}");
    assert!(stale.fails("W2"), "{stale}");
    let refused = run(
        "counterfoil-verify",
        &[
            outcome.bundle.to_str().unwrap(),
            "--trust",
            outcome.trust.to_str().unwrap(),
            "--as-of",
            "yesterday",
        ],
    );
    assert!(!refused.status.success());
    assert!(refused.errors.contains("--as-of"), "{}", refused.errors);
}
