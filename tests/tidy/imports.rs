//! Who may import whom: the arrows of ARCHITECTURE.md, read from the manifests and from the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use counterfoil_tests::repository::root;

use crate::files::{File, none, rust};

/// Crate -> the crates of ours that it may depend on. A new arrow needs a decision record, then a word here.
const ARROWS: &[(&str, &[&str])] = &[
    ("tlog", &[]),
    ("evidence", &["tlog"]),
    ("engine", &["tlog", "evidence"]),
    ("verify", &["tlog", "evidence"]),
    ("proto", &["evidence"]),
    ("connectors", &["proto"]),
    ("chassis", &["proto", "evidence", "tlog"]),
    ("authority", &["chassis", "proto", "evidence", "tlog"]),
    (
        "inventory",
        &["chassis", "connectors", "proto", "evidence", "tlog"],
    ),
    ("recertification", &["chassis", "proto", "evidence", "tlog"]),
    (
        "reconciliation",
        &["chassis", "connectors", "proto", "evidence", "tlog"],
    ),
    (
        "ledger",
        &["chassis", "engine", "proto", "evidence", "tlog"],
    ),
    (
        "counterfoil",
        &[
            "authority",
            "inventory",
            "recertification",
            "reconciliation",
            "ledger",
            "chassis",
            "connectors",
            "proto",
            "evidence",
            "tlog",
            "verify",
        ],
    ),
];

/// Crates that only tests are made of; nothing may import them.
const TESTS: [&str; 3] = ["tests", "bench", "campaigns"];

/// What an auditor has to trust: nothing may be added to it.
const TLOG_DEPENDENCIES: [&str; 5] = [
    "base64",
    "curve25519-dalek",
    "ed25519-dalek",
    "sha2",
    "thiserror",
];

/// Crates that are built without a network, a database or a runtime.
const PURE: [&str; 3] = [
    "counterfoil-tlog",
    "counterfoil-evidence",
    "counterfoil-verify",
];
const IMPURE: [&str; 10] = [
    "tokio",
    "sqlx",
    "sqlx-core",
    "tonic",
    "hyper",
    "h2",
    "axum",
    "rustls",
    "ldap3",
    "async-trait",
];

/// A manifest's dependencies, by section.
struct Manifest {
    name: String,
    sections: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Manifest {
    /// Our own crates in a section, by their short names.
    fn ours(&self, section: &str) -> impl Iterator<Item = &str> {
        let names = self.sections.get(section).into_iter().flatten();
        names.filter_map(|name| {
            if name == "counterfoil" {
                Some(name.as_str())
            } else {
                name.strip_prefix("counterfoil-")
            }
        })
    }
}

fn manifests() -> Vec<Manifest> {
    let workspace: toml::Table = fs::read_to_string(root().join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let members = workspace["workspace"]["members"].as_array().unwrap();
    members
        .iter()
        .map(|member| manifest(member.as_str().unwrap()))
        .collect()
}

fn manifest(folder: &str) -> Manifest {
    let table: toml::Table = fs::read_to_string(root().join(folder).join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let full = table["package"]["name"].as_str().unwrap();
    let sections = ["dependencies", "dev-dependencies", "build-dependencies"];
    let names = |section: &str| {
        let section = table.get(section).and_then(toml::Value::as_table);
        section
            .into_iter()
            .flat_map(|section| section.keys().cloned())
            .collect()
    };
    Manifest {
        name: full.strip_prefix("counterfoil-").unwrap_or(full).to_owned(),
        sections: sections.map(|section| (section, names(section))).into(),
    }
}

fn allowed(name: &str) -> &'static [&'static str] {
    let row = ARROWS.iter().find(|(from, _)| *from == name);
    row.unwrap_or_else(|| panic!("{name} is not in the table of arrows"))
        .1
}

#[test]
fn crates_import_downwards_only() {
    let mut findings = Vec::new();
    for manifest in manifests() {
        if TESTS.contains(&manifest.name.as_str()) {
            continue;
        }
        for section in ["dependencies", "build-dependencies"] {
            for to in manifest.ours(section) {
                if !allowed(&manifest.name).contains(&to) {
                    findings.push(format!("{} -> {to}", manifest.name));
                }
            }
        }
    }
    none(
        &findings,
        "these imports are not among the arrows of ARCHITECTURE.md:",
    );
}

/// In its tests a service may start the real services that it calls at run time, and no others: the arrows of "services call
/// each other's gRPC API" in ARCHITECTURE.md.
#[test]
fn services_start_in_their_tests_only_those_that_they_call() {
    let calls: [(&str, &[&str]); 4] = [
        ("authority", &["ledger"]),
        ("inventory", &["authority", "ledger"]),
        ("recertification", &["authority", "inventory", "ledger"]),
        (
            "reconciliation",
            &["authority", "inventory", "recertification", "ledger"],
        ),
    ];
    let mut findings = Vec::new();
    for manifest in manifests() {
        if TESTS.contains(&manifest.name.as_str()) || manifest.name == "counterfoil" {
            continue;
        }
        let called = calls
            .iter()
            .find(|(service, _)| *service == manifest.name)
            .map_or(&[] as &[&str], |(_, called)| called);
        for to in manifest.ours("dev-dependencies") {
            let is_service = to == "ledger" || calls.iter().any(|(service, _)| *service == to);
            let refused = is_service && !called.contains(&to);
            if to != manifest.name && (refused || TESTS.contains(&to) || to == "counterfoil") {
                findings.push(format!("{} -> {to}", manifest.name));
            }
        }
    }
    none(&findings, "services meet over gRPC only:");
}

#[test]
fn every_arrow_of_the_table_is_of_a_crate_that_exists() {
    let names: BTreeSet<String> = manifests()
        .into_iter()
        .map(|manifest| manifest.name)
        .collect();
    for (from, to) in ARROWS {
        assert!(names.contains(*from), "{from}");
        assert!(to.iter().all(|to| names.contains(*to)), "{from}");
    }
}

#[test]
fn tlog_gains_no_dependency() {
    let tlog = manifest("ledger/tlog");
    let found: Vec<&str> = tlog.sections["dependencies"]
        .iter()
        .map(String::as_str)
        .collect();
    assert_eq!(found, TLOG_DEPENDENCIES);
    assert!(tlog.sections["build-dependencies"].is_empty());
}

#[test]
fn what_an_auditor_builds_has_no_network_no_database_and_no_runtime() {
    for name in PURE {
        let mut cargo = Command::new("cargo");
        cargo.args([
            "tree",
            "--locked",
            "--offline",
            "-e",
            "normal",
            "--prefix",
            "none",
            "-f",
            "{lib}",
            "-p",
            name,
        ]);
        let output = cargo.current_dir(root()).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let tree = String::from_utf8(output.stdout).unwrap();
        assert!(
            tree.lines().any(|library| library == "sha2"),
            "{name} does not hash: {tree}"
        );
        for library in tree.lines() {
            let library = library.replace('_', "-");
            assert!(
                !IMPURE.contains(&library.as_str()),
                "{name} is built with {library}"
            );
        }
    }
}

/// The lines of code of `files` in which `word` stands.
fn using(files: &[File], word: &str, is_free: impl Fn(&str) -> bool) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files
        .iter()
        .filter(|file| !file.is_test() && !is_free(&file.path))
    {
        for (number, line) in file.code() {
            if line.contains(word) {
                findings.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    findings
}

fn services() -> Vec<File> {
    rust()
        .into_iter()
        .filter(|file| file.path.starts_with("services/"))
        .collect()
}

#[test]
fn only_a_store_sees_the_database() {
    let files: Vec<File> = rust()
        .into_iter()
        .filter(|file| file.path.starts_with("services/") || file.path.starts_with("ledger/"))
        .collect();
    // The chassis is where the database is made safe for the stores, and error.rs is where a driver's error ends.
    let free = |path: &str| {
        path.contains("/src/store/")
            || path.starts_with("services/chassis/")
            || path.ends_with("/src/error.rs")
    };
    none(&using(&files, "sqlx", free), "SQL stands in store/ only:");
}

#[test]
fn only_an_api_sees_the_types_of_the_services() {
    // Calls to other services are made in clients/, answers to calls in api/, and lib.rs puts the routes together.
    let free = |path: &str| {
        ["services/chassis/", "services/counterfoil/"]
            .iter()
            .any(|service| path.starts_with(service))
            || [
                "/src/api/",
                "/src/clients/",
                "/src/clients.rs",
                "/src/lib.rs",
            ]
            .iter()
            .any(|part| path.contains(part))
    };
    let findings = using(&services(), "counterfoil_proto", free);
    none(
        &findings,
        "the messages of the API stop at api/ and clients/:",
    );
}

#[test]
fn a_model_is_pure() {
    let models: Vec<File> = services()
        .into_iter()
        .filter(|file| file.path.contains("/src/model/"))
        .collect();
    assert!(!models.is_empty());
    let mut findings = Vec::new();
    for word in [
        "async fn",
        "tokio",
        "sqlx",
        "tonic",
        "counterfoil_proto",
        "std::fs",
        "std::net",
        "::now(",
    ] {
        findings.extend(using(&models, word, |_| false));
    }
    none(
        &findings,
        "the rules of a model know no I/O, no clock and no message of the API:",
    );
}
