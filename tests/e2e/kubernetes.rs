//! The GitHub organisations of Kubernetes: 1,509 people, 822 entitlements, 6,281 grants, governed from the first read to the
//! verified end, on SQLite and on PostgreSQL.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use counterfoil_chassis::testing::postgres;
use counterfoil_evidence::v1;
use counterfoil_tests::cycle::{Cycle, Played};
use counterfoil_tests::decisions::Decision;
use counterfoil_tests::evidence::Evidence;
use counterfoil_tests::folder;
use counterfoil_tests::foreign::CHECKERS;
use counterfoil_tests::kubernetes::{self, KubernetesEstate, SOURCE};
use counterfoil_tests::process::Suite;
use counterfoil_tests::report::Report;
use counterfoil_tests::repository::shared_data;
use counterfoil_tests::source::read_csv;
use counterfoil_tests::steps::{Steps, list, number, text};

const TENANT: &str = "kubernetes";

struct Governed {
    estate: KubernetesEstate,
    before: BTreeSet<(String, String)>,
    after: BTreeSet<(String, String)>,
    played: Played,
    report: Report,
}

async fn govern(folder: &Path, shared: &Path, database: Option<String>) -> Governed {
    let estate = kubernetes::write(&folder.join("estate"), shared).unwrap();
    let source = estate.directory.join(SOURCE);
    let before = read_csv(&source).await.unwrap().grants();
    let mut cycle = Cycle::new(&folder.join("data")).on(&estate.directory);
    if let Some(url) = database {
        cycle = cycle.with_database(&url);
    }
    let played = cycle.play().unwrap();
    let after = read_csv(&source).await.unwrap().grants();
    let report = played.outcome.verify().unwrap();
    Governed {
        estate,
        before,
        after,
        played,
        report,
    }
}

/// What goes: revoked, reduced, and undecided, which lapses by the rule "revoke".
fn must_go(
    estate: &KubernetesEstate,
    before: &BTreeSet<(String, String)>,
) -> BTreeSet<(String, String)> {
    let stays: BTreeSet<(String, String)> = estate
        .decisions
        .iter()
        .filter(|row| matches!(row.decision, Decision::Accept | Decision::Exception))
        .map(|row| (row.account.clone(), row.entitlement.clone()))
        .collect();
    before - &stays
}

fn holds(governed: &Governed) {
    let Governed {
        estate,
        before,
        after,
        played,
        report,
    } = governed;
    let outcome = &played.outcome;
    assert!(report.is_ok(), "{report}");
    assert!(report.skipped().is_empty(), "{report}");
    assert_eq!(before.len(), 6_281);
    let count = |decision| estate.count(decision) as u64;
    assert_eq!(outcome.count("accepted"), count(Decision::Accept));
    assert_eq!(outcome.count("revoked"), count(Decision::Revoke));
    assert_eq!(outcome.count("reduced"), count(Decision::Reduce));
    assert_eq!(outcome.count("excepted"), count(Decision::Exception));
    assert_eq!(outcome.count("lapsed_revoke"), estate.undecided as u64);
    assert_eq!(outcome.count("pending"), 0);
    assert_eq!(outcome.counts.values().sum::<u64>(), 6_281);
    assert!(outcome.count("revoked") >= 500);
    let gone = must_go(estate, before);
    assert_eq!(outcome.removals_verified, gone.len() as u64);
    assert_eq!(*after, before - &gone, "the files hold what was decided");
    assert_eq!(outcome.campaign_state, "CLOSED");
    let campaign = &report.json["report"]["campaigns"][0];
    assert_eq!(number(campaign, "/population").unwrap(), 6_281);
    assert_eq!(
        number(campaign, "/verified_gone").unwrap(),
        gone.len() as u64
    );
    assert_eq!(campaign["outcome"], "CLOSED");
}

fn counted_and_told(governed: &Governed) {
    let evidence = Evidence::open(&governed.played.outcome.bundle).unwrap();
    let syncs = evidence.of::<v1::SourceSyncSealed>().unwrap();
    let first = syncs[0].1.counts.unwrap();
    assert_eq!(
        (first.accounts, first.entitlements, first.grants_direct),
        (1_509, 822, 6_281)
    );
    assert_eq!(syncs[0].1.control_totals.unwrap().grants_direct, 6_281);
    assert!(
        syncs
            .iter()
            .all(|(_, sync)| sync.state() == v1::SyncState::Complete)
    );
    let exceptions = evidence.of::<v1::ExceptionGranted>().unwrap();
    assert_eq!(exceptions.len(), governed.estate.count(Decision::Exception));
    let lapsed = evidence.of::<v1::ReviewItemLapsed>().unwrap();
    assert_eq!(lapsed.len(), governed.estate.undecided);
    let ids: BTreeSet<&[u8]> = evidence
        .log
        .iter()
        .map(|logged| logged.record.record_id.as_slice())
        .collect();
    assert_eq!(ids.len(), evidence.log.len(), "no record twice");
}

/// Receipts and the exported log, judged by Go, Python and Rust that nobody of us wrote.
fn accepted_by_others(data_dir: &Path, folder: &Path) {
    let suite = Suite::start(data_dir).unwrap();
    let steps = Steps::new(&suite, TENANT).unwrap();
    let checkpoint = steps.ask(&["ledger", "checkpoint"]).unwrap();
    let size = number(&checkpoint, "/size").unwrap();
    let mut others: Vec<PathBuf> = Vec::new();
    for (number, index) in [0, 255, 256, size / 2, size - 1].into_iter().enumerate() {
        let entry = steps
            .ask(&["ledger", "get", "--index", &index.to_string()])
            .unwrap();
        let path = folder.join(format!("{number}.tlog-proof"));
        std::fs::write(&path, text(&entry, "/tlog_proof").unwrap()).unwrap();
        others.push(path);
    }
    let syncs = steps.ask(&["sync", "list"]).unwrap();
    for (number, sync) in list(&syncs, "/syncs").unwrap().iter().enumerate() {
        let path = folder.join(format!("sync-{number}.tlog-proof"));
        std::fs::write(&path, text(sync, "/receipt/tlog_proof").unwrap()).unwrap();
        others.push(path);
    }
    let vkey = folder.join("vkey");
    std::fs::write(&vkey, format!("{}\n", text(&checkpoint, "/vkey").unwrap())).unwrap();
    let exported = steps.ask(&["bundle", "export"]).unwrap();
    let bundle = PathBuf::from(text(&exported, "/bundle").unwrap());
    suite.stop().unwrap().success().unwrap();
    for checker in CHECKERS {
        let verdict = checker.check(&bundle.join("log"), &vkey, &others).unwrap();
        assert!(verdict.accepted, "{checker:?}: {}", verdict.said);
    }
}

#[tokio::test]
async fn the_kubernetes_organisations_are_governed_to_the_verified_end_on_sqlite() {
    let test = "the_kubernetes_organisations_are_governed_to_the_verified_end_on_sqlite";
    let Some(shared) = shared_data(test) else {
        return;
    };
    let folder = folder::fresh("kubernetes-sqlite").unwrap();
    let governed = govern(&folder, &shared, None).await;
    holds(&governed);
    counted_and_told(&governed);
    accepted_by_others(&folder.join("data"), &folder);
}

#[tokio::test]
async fn the_kubernetes_organisations_are_governed_to_the_verified_end_on_postgresql() {
    let test = "the_kubernetes_organisations_are_governed_to_the_verified_end_on_postgresql";
    let Some(shared) = shared_data(test) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let database = postgres::create_database().await;
    let governed = govern(folder.path(), &shared, Some(database)).await;
    holds(&governed);
    counted_and_told(&governed);
    let files = std::fs::read_dir(folder.path().join("data")).unwrap();
    let sqlite = files
        .filter(|file| {
            let name = file.as_ref().unwrap().file_name();
            name.to_string_lossy().contains(".sqlite")
        })
        .count();
    assert_eq!(sqlite, 0, "everything is in PostgreSQL");
}
