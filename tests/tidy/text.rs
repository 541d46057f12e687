//! What every file must look like, and what must stand in none.

use crate::files::{File, all, none, rust};

/// The longest file, without its test module.
const LINES_MAX: usize = 600;

/// The folder of this test, which names what it forbids.
fn others(files: Vec<File>) -> impl Iterator<Item = File> {
    files
        .into_iter()
        .filter(|file| !file.path.starts_with("tests/tidy/"))
}

fn lines_with(files: impl Iterator<Item = File>, words: &[&str]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files {
        for (index, line) in file.text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                findings.push(format!("{}:{}: {word}", file.path, index + 1));
            }
        }
    }
    findings
}

#[test]
fn no_file_is_longer_than_600_lines_without_its_tests() {
    let mut findings = Vec::new();
    for file in all() {
        if ["rs", "proto", "sql", "go", "py", "sh"]
            .iter()
            .any(|extension| file.is(extension))
        {
            let lines = file.without_tests().lines().count();
            if lines > LINES_MAX {
                findings.push(format!("{}: {lines} lines", file.path));
            }
        }
    }
    none(&findings, "too long to be read at once:");
}

#[test]
fn every_module_says_first_what_it_is() {
    let mut findings = Vec::new();
    for file in rust() {
        if !file.text.starts_with("//! ") {
            findings.push(file.path);
        }
    }
    none(&findings, "a module begins with //! and what it owns:");
}

#[test]
fn no_file_names_a_machine() {
    let mut findings = lines_with(
        others(all()),
        &["/work/", "/root/", "/home/", "/tmp/", "C:\\\\"],
    );
    // The lock file names the registry because cargo writes it so.
    let written = others(all()).filter(|file| file.path != "Cargo.lock");
    let hosts = [
        "index.crates.io",
        "static.crates.io",
        "crates.io-index",
        "pypi.org",
        "pythonhosted.org",
        "registry.npmjs",
        "deb.debian.org",
        "proxy.golang.org",
        "sum.golang.org",
    ];
    findings.extend(lines_with(written, &hosts));
    none(
        &findings,
        "paths of a machine and hosts of registries are nobody else's:",
    );
}

#[test]
fn nothing_is_left_for_later() {
    let words = ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!("];
    let findings = lines_with(
        others(all()).filter(|file| file.is("rs") || file.is("proto") || file.is("sql")),
        &words,
    );
    none(&findings, "an issue remembers, a comment does not:");
}

#[test]
fn no_test_sleeps_and_none_is_left_out() {
    let mut findings = lines_with(others(rust()), &["#[ignore"]);
    for file in others(rust()) {
        let before = if file.is_test() {
            0
        } else {
            file.without_tests().lines().count()
        };
        for (index, line) in file.tests().lines().enumerate() {
            if line.contains("sleep(") {
                findings.push(format!("{}:{}: {}", file.path, before + index, line.trim()));
            }
        }
    }
    none(
        &findings,
        "wait for what must happen, not for the time to pass:",
    );
}

#[test]
fn every_service_and_every_library_has_a_page_about_itself() {
    let files = all();
    let has = |path: String| files.iter().any(|file| file.path == path);
    let mut findings = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.path.ends_with("/Cargo.toml"))
    {
        let folder = file.path.trim_end_matches("Cargo.toml");
        if folder.starts_with("services/") && !has(format!("{folder}README.md")) {
            findings.push(format!("{folder}README.md"));
        }
    }
    none(&findings, "missing:");
}
