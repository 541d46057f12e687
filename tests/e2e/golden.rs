//! The quickstart on the sample estate, played once for all tests that look at what it leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use counterfoil_tests::cycle::{Cycle, Played};
use counterfoil_tests::decisions::{Decision, DecisionRow, read_decisions};
use counterfoil_tests::evidence::Evidence;
use counterfoil_tests::folder;
use counterfoil_tests::process::Suite;
use counterfoil_tests::report::Report;
use counterfoil_tests::repository::root;
use counterfoil_tests::source::Contents;

/// The sources of the sample estate.
pub const SOURCES: [&str; 2] = ["hr-saas", "payments-db"];
/// Its tenant.
pub const TENANT: &str = "bluebell";

/// A quickstart and a second one on the same data folder.
pub struct Golden {
    pub data_dir: PathBuf,
    pub first: Played,
    /// What the verifier said of the first bundle before there was a second.
    pub first_report: Report,
    pub second: Played,
    /// What the first bundle holds.
    pub evidence: Evidence,
}

/// The golden run. Nobody changes its folder.
pub fn golden() -> &'static Golden {
    static GOLDEN: LazyLock<Golden> = LazyLock::new(|| {
        let data_dir = folder::fresh("quickstart").unwrap().join("data");
        let cycle = Cycle::new(&data_dir);
        let first = cycle.play().unwrap();
        let first_report = first.outcome.verify().unwrap();
        let second = cycle.play().unwrap();
        let evidence = Evidence::open(&first.outcome.bundle).unwrap();
        Golden {
            data_dir,
            first,
            first_report,
            second,
            evidence,
        }
    });
    &GOLDEN
}

/// The services of the golden run, up on a copy of its data folder. The target systems are not copied.
pub fn services() -> (Suite, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    folder::copy(&golden().data_dir, &data_dir).unwrap();
    (Suite::start(&data_dir).unwrap(), folder)
}

/// What the reviewers of the sample estate decide.
pub fn decisions() -> Vec<DecisionRow> {
    read_decisions(&root().join("deploy/sample-estate/decisions.csv")).unwrap()
}

/// The grants of each source that must be gone: revoked, reduced, or left undecided.
pub fn removals(
    before: &BTreeMap<&'static str, Contents>,
) -> BTreeMap<&'static str, BTreeSet<(String, String)>> {
    let decisions = decisions();
    let kept = |source: &str, account: &str, entitlement: &str| {
        decisions.iter().any(|row| {
            (
                row.source.as_str(),
                row.account.as_str(),
                row.entitlement.as_str(),
            ) == (source, account, entitlement)
                && matches!(row.decision, Decision::Accept | Decision::Exception)
        })
    };
    let gone = |source: &'static str, contents: &Contents| {
        let grants = contents.grants().into_iter();
        let gone = grants.filter(|(account, entitlement)| !kept(source, account, entitlement));
        (source, gone.collect())
    };
    before
        .iter()
        .map(|(source, contents)| gone(source, contents))
        .collect()
}

/// Every file below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}
