//! Every invariant of the replay has a forgery that breaks it: by somebody with every key, so that nothing else gives it away.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use counterfoil_evidence::replay::check::CHECKS;
use counterfoil_verify::bundle::{BundleReader, Limits};
use counterfoil_verify::testing::{BundleFiles, Edit, Forger, MUTATORS, Scene, StolenKeys};
use counterfoil_verify::{Options, Status, Trust, Verdict, Verification, report, verify};

/// Breaks the check with this id; answers what becomes of the record.
type Forgery = fn(&mut Scene<'_>) -> Edit;

/// Changes records of one type, and no others.
macro_rules! on {
    ($kind:ident, |$record:ident, $payload:ident| $change:expr) => {
        |scene| {
            let $record = &mut *scene.record;
            if let Payload::$kind($payload) = &mut *scene.payload {
                $change;
            }
            let _ = $record;
            Edit::Keep
        }
    };
}

/// Takes records of one type out where a condition holds.
macro_rules! drop_if {
    ($kind:ident, |$payload:ident| $condition:expr) => {
        |scene| match &*scene.payload {
            Payload::$kind($payload) if $condition => Edit::Drop,
            _ => Edit::Keep,
        }
    };
}

mod agents;
mod agents_at_the_edge;
mod agents_over_time;
mod agents_stopped;
mod authority;
mod credentials;
mod ends;
mod governance;
mod holds;
mod inventory;
mod ledger;
mod lives;
mod places;
mod prelude;
mod providers;
mod remediation;
mod removals;
mod review;

struct Golden {
    dir: tempfile::TempDir,
    keys: StolenKeys,
    trust: Trust,
}

impl Golden {
    fn new() -> Self {
        Self::of(support::cycle::build(60))
    }

    fn of(log: support::log::LogBuilder) -> Self {
        let dir = tempfile::tempdir().unwrap();
        log.write(&dir.path().join("golden"));
        Self {
            keys: log.stolen(),
            trust: Trust::parse(log.trust(&[]).as_bytes()).unwrap(),
            dir,
        }
    }

    /// The untouched control.
    fn is_good(&self) {
        let found = self.verify(&self.dir.path().join("golden"));
        assert_eq!(found.verdict, Verdict::Ok, "{}", report::text(&found));
    }

    fn copy(&self, name: &str) -> (PathBuf, BundleFiles) {
        let target = self.dir.path().join(name);
        let files = BundleFiles::copy(&self.dir.path().join("golden"), &target).unwrap();
        (target, files)
    }

    fn verify(&self, root: &Path) -> Verification {
        let bundle = BundleReader::open(root, &Limits::default()).unwrap();
        verify(&bundle, &self.trust, &Options::default()).unwrap()
    }
}

fn fails(golden: &Golden, root: &Path, id: &str, what: &str) {
    let bundle = BundleReader::open(root, &Limits::default()).unwrap();
    let found = verify(&bundle, &golden.trust, &Options::default()).unwrap();
    let failed: Vec<String> = found.failed().map(report::check_line).collect();
    let caught = found.failed().any(|check| check.is(id));
    assert!(
        caught,
        "{what}: {id} did not fail, but\n{}",
        failed.join("\n")
    );
    // Only what records say may give it away: signatures, chain and tree were made to fit.
    for check in &found.checks {
        let below = ["S", "C", "K"]
            .iter()
            .any(|layer| check.id.starts_with(layer));
        assert!(
            !below || check.status == Status::Pass,
            "{what}: the forgery itself is bad: {}",
            report::check_line(check)
        );
    }
    assert_eq!(found.verdict, Verdict::Failed, "{what}");
}

fn all_fail(forgeries: &[(&str, &str, Forgery)]) {
    all_fail_in(&Golden::new(), forgeries);
}

fn all_fail_in(golden: &Golden, forgeries: &[(&str, &str, Forgery)]) {
    for (number, (id, what, forgery)) in forgeries.iter().enumerate() {
        let (root, files) = golden.copy(&number.to_string());
        Forger::new(&files, &golden.keys)
            .rewrite(|scene| Ok(forgery(scene)))
            .unwrap();
        fails(golden, &root, id, what);
        std::fs::remove_dir_all(&root).unwrap();
    }
}

#[test]
fn a_forger_who_changes_nothing_leaves_a_good_bundle() {
    let golden = Golden::new();
    let (root, files) = golden.copy("same");
    Forger::new(&files, &golden.keys)
        .rewrite(|_| Ok(Edit::Keep))
        .unwrap();
    let before = std::fs::read(golden.dir.path().join("golden/log/checkpoint")).unwrap();
    assert_eq!(std::fs::read(root.join("log/checkpoint")).unwrap(), before);
}

#[test]
fn every_check_of_the_replay_has_a_forgery_that_breaks_it() {
    let forged = [
        ledger::FORGERIES,
        authority::FORGERIES,
        credentials::FORGERIES,
        providers::FORGERIES,
        governance::FORGERIES,
        lives::FORGERIES,
        holds::FORGERIES,
        places::FORGERIES,
        inventory::FORGERIES,
        review::FORGERIES,
        remediation::FORGERIES,
    ];
    let forged = forged.into_iter().chain(agents::FORGERIES);
    let forged = forged.chain(agents_stopped::FORGERIES).flatten();
    let forged = forged.map(|(id, ..)| *id);
    let mutated = MUTATORS.iter().flat_map(|mutator| mutator.caught_by);
    let covered: BTreeSet<&str> = forged.chain(mutated.copied()).collect();
    for check in CHECKS {
        let known =
            covered.contains(check.id) || check.aliases.iter().any(|alias| covered.contains(alias));
        assert!(known, "{} has no forgery", check.id);
    }
}
