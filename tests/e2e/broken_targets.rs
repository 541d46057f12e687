//! Target systems that cannot be read, refuse, fall silent or give back what was taken: nothing is lost, and nothing is green
//! that is not proved.

use std::fs;
use std::path::{Path, PathBuf};

use counterfoil_connectors::LdapConfig;
use counterfoil_connectors::testing::{Slapd, SlapdOptions};
use counterfoil_evidence::v1;
use counterfoil_tests::cycle::Cycle;
use counterfoil_tests::decisions::Decision;
use counterfoil_tests::evidence::Evidence;
use counterfoil_tests::governance::{ACCOUNTABLE_OWNER, Governance, REVIEWER};
use counterfoil_tests::ldap::{self, LdapEstate, Rule, SOURCE};
use counterfoil_tests::process::Suite;
use counterfoil_tests::proxy::Proxy;
use counterfoil_tests::report::{Report, verify};
use counterfoil_tests::small::{self, REMOVALS, SmallEstate};
use counterfoil_tests::source::read_csv;
use counterfoil_tests::steps::{CAMPAIGN, Steps, list, number, regressed, text};
use serde_json::Value;

const TENANT: &str = "small";

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn estate(&self) -> PathBuf {
        self.folder.path().join("estate")
    }

    fn cycle(&self) -> Cycle {
        Cycle::new(&self.data_dir()).on(&self.estate())
    }

    /// A cycle up to the open review, by a quickstart that does not find its decisions; the file is back afterwards.
    fn until_review(&self) {
        let (file, away) = (
            self.estate().join("decisions.csv"),
            self.estate().join("away.csv"),
        );
        fs::rename(&file, &away).unwrap();
        let ended = self.cycle().attempt().unwrap();
        assert!(ended.errors.contains("decisions.csv"), "{}", ended.errors);
        fs::rename(&away, &file).unwrap();
    }
}

fn governance() -> Governance {
    Governance::new(TENANT, "Small").unwrap()
}

fn exported(steps: &Steps<'_>) -> (Evidence, Report) {
    let exported = steps.ask(&["bundle", "export"]).unwrap();
    let bundle = text(&exported, "/bundle").unwrap();
    let trust = text(&exported, "/trust").unwrap();
    let report = verify(Path::new(&bundle), Path::new(&trust)).unwrap();
    (Evidence::open(Path::new(&bundle)).unwrap(), report)
}

/// Decides, ends the review and plans; answers the remediation's name.
fn decided_and_planned(steps: &mut Steps<'_>, place: &Place, sources: &[&str]) -> String {
    steps.decide(&place.estate().join("decisions.csv")).unwrap();
    steps
        .ask_as(ACCOUNTABLE_OWNER, &["campaign", "end-review", CAMPAIGN])
        .unwrap();
    let planned = steps.plan(ACCOUNTABLE_OWNER, sources).unwrap();
    text(&planned, "/name").unwrap()
}

fn close(steps: &mut Steps<'_>) -> Value {
    let closed = steps
        .ask_as(ACCOUNTABLE_OWNER, &["campaign", "close", CAMPAIGN])
        .unwrap();
    closed["campaign"].clone()
}

/// A campaign with debt, as the verifier tells it: right, and not closed.
fn told_as_debt(report: &Report, debt: u64) {
    assert!(report.is_ok(), "{report}");
    let campaign = &report.json["report"]["campaigns"][0];
    assert_eq!(campaign["outcome"], "CLOSED_WITH_DEBT");
    assert_eq!(number(campaign, "/debt").unwrap(), debt);
}

async fn holds(estate: &SmallEstate, source: &str, grant: (&str, &str)) -> bool {
    let contents = read_csv(&estate.source(source)).await.unwrap();
    contents
        .grants()
        .contains(&(grant.0.to_owned(), grant.1.to_owned()))
}

#[tokio::test]
async fn c15_one_target_of_five_that_does_not_let_go_keeps_the_whole_open() {
    const SOURCES: [&str; 5] = ["one", "two", "three", "four", "five"];
    let place = Place::new();
    let estate = small::write(&place.estate(), governance(), &SOURCES).unwrap();
    let settings = fs::read_to_string(place.estate().join("estate.toml")).unwrap();
    let settings = settings.replace(
        "directory = \"five\"",
        "directory = \"five\"\nlock_timeout_ms = 200",
    );
    fs::write(place.estate().join("estate.toml"), settings).unwrap();
    place.until_review();
    // From here on another writer holds the lock and does not give it back.
    let lock = fs::File::create(estate.source("five").join(".counterfoil.lock")).unwrap();
    lock.lock().unwrap();
    let played = place.cycle().play().unwrap();
    assert_eq!(played.outcome.campaign_state, "CLOSED_WITH_DEBT");
    assert_eq!(played.outcome.removals_verified, 16);
    told_as_debt(&played.outcome.verify().unwrap(), 4);
    for grant in REMOVALS {
        assert!(!holds(&estate, "four", grant).await);
        assert!(holds(&estate, "five", grant).await);
    }

    drop(lock);
    let suite = Suite::start(&place.data_dir()).unwrap();
    let mut steps = Steps::new(&suite, TENANT).unwrap();
    let remediations = steps.ask(&["remediation", "list"]).unwrap();
    let partial = &remediations["remediations"][0];
    assert_eq!(partial["state"], "REMEDIATION_STATE_PARTIAL");
    let name = text(partial, "/name").unwrap();
    let ended = steps.execute(ACCOUNTABLE_OWNER, &name).unwrap();
    assert_eq!(ended["state"], "REMEDIATION_STATE_CLOSED");
    for grant in REMOVALS {
        assert!(!holds(&estate, "five", grant).await);
    }
    // What was closed with debt stays so on record; the removals are proved all the same.
    let (_, report) = exported(&steps);
    assert!(report.is_ok(), "{report}");
    let removals = &report.json["report"]["removals"];
    assert_eq!(number(removals, "/verified_gone").unwrap(), 20);
}

#[tokio::test]
async fn a24_systems_that_can_only_be_read_are_governed_and_what_stays_is_named() {
    let place = Place::new();
    let estate = small::write(&place.estate(), governance(), &["one", "two"]).unwrap();
    let settings = fs::read_to_string(place.estate().join("estate.toml")).unwrap();
    let settings = settings.replace("kind = \"csv\"", "kind = \"csv\"\nread_only = true");
    fs::write(place.estate().join("estate.toml"), settings).unwrap();
    let before = fs::read(estate.source("one").join("grants.csv")).unwrap();
    let played = place.cycle().play().unwrap();
    assert_eq!(played.outcome.campaign_state, "CLOSED_WITH_DEBT");
    assert_eq!(played.outcome.removals_verified, 0);
    assert_eq!(
        fs::read(estate.source("one").join("grants.csv")).unwrap(),
        before
    );
    told_as_debt(&played.outcome.verify().unwrap(), 8);
    let evidence = Evidence::open(&played.outcome.bundle).unwrap();
    for (_, source) in evidence.of::<v1::SourceRegistered>().unwrap() {
        assert_eq!(source.writer_principal, "");
    }
    assert!(evidence.of::<v1::ActionIntended>().unwrap().is_empty());
}

#[test]
fn e3_access_that_comes_back_is_seen_and_its_case_is_open_again() {
    let place = Place::new();
    let suite = regressed(place.folder.path()).unwrap();
    let steps = Steps::new(&suite, TENANT).unwrap();
    let findings = steps
        .ask(&["finding", "list", "--state", "reopened"])
        .unwrap();
    assert_eq!(list(&findings, "/findings").unwrap().len(), 1);
    let (evidence, report) = exported(&steps);
    assert!(report.is_ok(), "{report}");
    assert_eq!(
        number(&report.json, "/report/removals/regressions").unwrap(),
        1
    );
    let regressions = evidence.of::<v1::RegressionDetected>().unwrap();
    assert_eq!(regressions.len(), 1);
}

#[test]
fn a29_a_source_that_cannot_be_read_is_a_blind_spot_that_the_bundle_names() {
    let place = Place::new();
    small::write(&place.estate(), governance(), &["one"]).unwrap();
    place.cycle().play().unwrap();
    let directory = directory(SlapdOptions::new(SUFFIX).ldif(PEOPLE));
    let proxy = Proxy::start(directory.address()).unwrap();
    let config = hurried(&directory.config(), &proxy);
    let settings = serde_json::to_string(&counterfoil_connectors::SourceConfig::Ldap(Box::new(
        config,
    )))
    .unwrap();

    let suite = Suite::start(&place.data_dir()).unwrap();
    let mut steps = Steps::new(&suite, TENANT).unwrap();
    let connected = steps
        .attempt_as_deployment(&[
            "source",
            "create",
            TENANT,
            "blind",
            "--display-name",
            "Blind",
            "--config-json",
            &settings,
        ])
        .unwrap();
    connected.success().unwrap();
    proxy.cut_after(0);
    let sync = steps.sync("blind").unwrap();
    assert_eq!(sync["state"], "SYNC_STATE_PARTIAL");
    let snapshot = steps.snapshot().unwrap();
    let missing = list(&snapshot, "/missing_sources").unwrap();
    assert_eq!(missing.len(), 1);
    assert_eq!(missing[0]["source"], "tenants/small/sources/blind");
    let name = text(&snapshot, "/name").unwrap();
    steps
        .ask_as(ACCOUNTABLE_OWNER, &["recon", "run", &name])
        .unwrap();
    let (_, report) = exported(&steps);
    assert!(report.is_ok(), "{report}");
    let sources = list(&report.json, "/report/sources").unwrap();
    let blind = sources
        .iter()
        .find(|source| source["source"] == "sources/blind")
        .unwrap();
    assert_eq!(blind["observable"], false);
    assert!(!text(blind, "/missing_reason").unwrap().is_empty());
}

const SUFFIX: &str = "dc=small,dc=example";
/// Six people in two groups, and enough of others to make a reading long.
const PEOPLE: &str = include_str!("people.ldif");

fn directory(options: SlapdOptions) -> Slapd {
    Slapd::start(&options).unwrap()
}

/// The same server by way of the proxy, and without much patience.
fn hurried(config: &LdapConfig, proxy: &Proxy) -> LdapConfig {
    let mut config = config.clone();
    config.url = format!("ldap://{}", proxy.address());
    config.connect_timeout_ms = 500;
    config.operation_timeout_ms = 500;
    config
}

/// Ada leaves the writers, Ben the readers, and nobody decides on Cleo.
const DECIDE: Rule = |account, entitlement| match (account, entitlement) {
    ("Ada", "writers") | ("Ben", "readers") => Some(Decision::Revoke),
    ("Cleo", _) => None,
    _ => Some(Decision::Accept),
};
/// How many grants that removes.
const GONE: u64 = 3;

async fn small_directory(place: &Place, options: SlapdOptions) -> (LdapEstate, Proxy) {
    let slapd = directory(options.ldif(PEOPLE));
    let proxy = Proxy::start(slapd.address()).unwrap();
    let adapt = |config: &LdapConfig| hurried(config, &proxy);
    let estate = ldap::describe(&place.estate(), slapd, governance(), adapt, DECIDE)
        .await
        .unwrap();
    (estate, proxy)
}

#[tokio::test]
async fn a_directory_that_dies_in_the_middle_of_a_reading_is_partial_and_goes_on_when_it_is_back() {
    let place = Place::new();
    let (_estate, proxy) = small_directory(&place, SlapdOptions::new(SUFFIX)).await;
    let played = place.cycle().play().unwrap();
    assert_eq!(played.outcome.removals_verified, GONE);
    let suite = Suite::start(&place.data_dir()).unwrap();
    let steps = Steps::new(&suite, TENANT).unwrap();
    for bytes in [200, 5_000, 20_000] {
        proxy.cut_after(bytes);
        let sync = steps.sync(SOURCE).unwrap();
        assert!(proxy.has_cut(), "the reading is longer than {bytes} bytes");
        assert_eq!(sync["state"], "SYNC_STATE_PARTIAL", "{bytes}: {sync}");
        assert!(!list(&sync, "/error_messages").unwrap().is_empty());
        let reasons = list(&sync, "/partial_reasons").unwrap();
        let known = [
            "source_died",
            "unreachable",
            "control_total_unavailable",
            "reader_refused",
        ];
        assert!(
            reasons
                .iter()
                .any(|reason| known.iter().any(|known| reason == known)),
            "{sync}"
        );
    }
    proxy.mend();
    assert_eq!(steps.sync(SOURCE).unwrap()["state"], "SYNC_STATE_COMPLETE");
    let (_, report) = exported(&steps);
    assert!(report.is_ok(), "{report}");
}

#[tokio::test]
async fn a_directory_that_falls_silent_is_not_waited_for_without_end() {
    let place = Place::new();
    let (estate, _proxy) = small_directory(&place, SlapdOptions::new(SUFFIX)).await;
    place.cycle().play().unwrap();
    let suite = Suite::start(&place.data_dir()).unwrap();
    let steps = Steps::new(&suite, TENANT).unwrap();
    estate.slapd.pause().unwrap();
    let sync = steps.sync(SOURCE).unwrap();
    estate.slapd.resume().unwrap();
    assert_eq!(sync["state"], "SYNC_STATE_PARTIAL");
    assert_eq!(steps.sync(SOURCE).unwrap()["state"], "SYNC_STATE_COMPLETE");
}

#[tokio::test]
async fn a_referral_is_named_and_never_followed_and_the_review_does_not_start() {
    let referral = format!(
        "dn: ou=elsewhere,{SUFFIX}\nobjectClass: referral\nobjectClass: extensibleObject\nou: elsewhere\nref: ldap://127.0.0.1:1/ou=elsewhere,{SUFFIX}\n"
    );
    let place = Place::new();
    let (estate, _proxy) = small_directory(&place, SlapdOptions::new(SUFFIX)).await;
    estate
        .slapd
        .modify(&referral.replacen('\n', "\nchangetype: add\n", 1))
        .unwrap();
    let refused = place.cycle().attempt().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.errors.contains("referral"), "{}", refused.errors);
    let suite = Suite::start(&place.data_dir()).unwrap();
    let steps = Steps::new(&suite, TENANT).unwrap();
    let syncs = steps.ask(&["sync", "list"]).unwrap();
    assert_eq!(syncs["syncs"][0]["state"], "SYNC_STATE_PARTIAL");
    let campaign = steps.ask(&["campaign", "get", CAMPAIGN]).unwrap();
    assert_eq!(campaign["campaign"]["state"], "CAMPAIGN_STATE_DRAFT");
}

#[tokio::test]
async fn a_target_that_refuses_leaves_debt_with_its_reason() {
    // The writer may not take anybody out of this group.
    let access = format!(
        "access to dn.exact=\"cn=writers,{SUFFIX}\" attrs=member by dn.exact=\"cn=reader,{SUFFIX}\" read by dn.exact=\"cn=writer,{SUFFIX}\" read by * none"
    );
    let place = Place::new();
    let (estate, _proxy) = small_directory(&place, SlapdOptions::new(SUFFIX).access(access)).await;
    let played = place.cycle().play().unwrap();
    assert_eq!(played.outcome.campaign_state, "CLOSED_WITH_DEBT");
    assert_eq!(played.outcome.removals_verified, GONE - 1);
    told_as_debt(&played.outcome.verify().unwrap(), 1);
    let evidence = Evidence::open(&played.outcome.bundle).unwrap();
    let attempts = evidence.of::<v1::ActionAttempted>().unwrap();
    let refused = attempts
        .iter()
        .filter(|(_, attempt)| attempt.result() == v1::AttemptResult::Failed);
    assert!(refused.count() >= 1);
    let suite = Suite::start(&place.data_dir()).unwrap();
    let steps = Steps::new(&suite, TENANT).unwrap();
    let name = text(
        &steps.ask(&["remediation", "list"]).unwrap(),
        "/remediations/0/name",
    )
    .unwrap();
    let actions = steps.ask(&["remediation", "actions", &name]).unwrap();
    let open: Vec<&Value> = list(&actions, "/actions")
        .unwrap()
        .iter()
        .filter(|action| action["state"] != "ACTION_STATE_VERIFIED")
        .collect();
    let [open] = open.as_slice() else {
        panic!("{actions}")
    };
    assert_eq!(open["account_display_name"], "Ada");
    assert!(!text(open, "/failure_message").unwrap().is_empty());
    assert_eq!(estate.grants as u64, 8);
}

#[tokio::test]
async fn a_removal_that_cannot_be_read_back_is_not_believed() {
    let place = Place::new();
    let (estate, _proxy) = small_directory(&place, SlapdOptions::new(SUFFIX)).await;
    place.until_review();
    let suite = Suite::start(&place.data_dir()).unwrap();
    let mut steps = Steps::new(&suite, TENANT).unwrap();
    let remediation = decided_and_planned(&mut steps, &place, &[SOURCE]);
    // From here on the reader's password is wrong, the writer's is not.
    let password = |value: &str| {
        let change = format!(
            "dn: cn=reader,{SUFFIX}\nchangetype: modify\nreplace: userPassword\nuserPassword: {value}\n"
        );
        estate.slapd.modify(&change).unwrap();
    };
    password("another");
    let ended = steps.execute(ACCOUNTABLE_OWNER, &remediation).unwrap();
    assert_eq!(ended["state"], "REMEDIATION_STATE_UNVERIFIABLE");
    assert_eq!(number(&ended, "/verified_count").unwrap(), 0);
    let closed = close(&mut steps);
    assert_eq!(closed["state"], "CAMPAIGN_STATE_CLOSED_WITH_DEBT");
    let (evidence, report) = exported(&steps);
    told_as_debt(&report, GONE);
    assert!(evidence.of::<v1::GrantEnded>().unwrap().is_empty());

    password("reader-of-the-test");
    let ended = steps.execute(ACCOUNTABLE_OWNER, &remediation).unwrap();
    assert_eq!(ended["state"], "REMEDIATION_STATE_CLOSED");
    assert_eq!(number(&ended, "/verified_count").unwrap(), GONE);
    let (_, report) = exported(&steps);
    assert!(report.is_ok(), "{report}");
}

#[tokio::test]
async fn a_target_that_times_out_or_is_cut_off_is_read_before_it_is_asked_again() {
    let place = Place::new();
    let (estate, proxy) = small_directory(&place, SlapdOptions::new(SUFFIX)).await;
    place.until_review();
    let suite = Suite::start(&place.data_dir()).unwrap();
    let mut steps = Steps::new(&suite, TENANT).unwrap();
    let remediation = decided_and_planned(&mut steps, &place, &[SOURCE]);
    estate.slapd.pause().unwrap();
    let ended = steps.execute(ACCOUNTABLE_OWNER, &remediation).unwrap();
    estate.slapd.resume().unwrap();
    assert_ne!(ended["state"], "REMEDIATION_STATE_CLOSED", "{ended}");
    assert_eq!(number(&ended, "/verified_count").unwrap(), 0);
    // Then the connection is cut after so many bytes of answers: before, at and after the change itself.
    for bytes in [300, 1_500, 3_000] {
        proxy.cut_after(bytes);
        steps.execute(ACCOUNTABLE_OWNER, &remediation).unwrap();
    }
    proxy.mend();
    let ended = steps.execute(ACCOUNTABLE_OWNER, &remediation).unwrap();
    assert_eq!(ended["state"], "REMEDIATION_STATE_CLOSED", "{ended}");
    assert_eq!(number(&ended, "/verified_count").unwrap(), GONE);
    assert_eq!(close(&mut steps)["state"], "CAMPAIGN_STATE_CLOSED");
    let (evidence, report) = exported(&steps);
    assert!(report.is_ok(), "{report}");
    assert!(evidence.of::<v1::ActionAttempted>().unwrap().len() as u64 > GONE);
}

#[test]
fn a_decision_on_a_grant_that_changed_since_it_was_shown_is_refused() {
    let place = Place::new();
    let estate = small::write(&place.estate(), governance(), &["one"]).unwrap();
    place.until_review();
    let suite = Suite::start(&place.data_dir()).unwrap();
    let mut steps = Steps::new(&suite, TENANT).unwrap();
    let items = steps.ask(&["item", "list", CAMPAIGN]).unwrap();
    let item = crate::client::item(&items, "p1", "write");
    let (name, shown) = (
        text(item, "/name").unwrap(),
        text(item, "/presentation_hash").unwrap(),
    );
    let grants = estate.source("one").join("grants.csv");
    let changed = fs::read_to_string(&grants)
        .unwrap()
        .replace("p1,write,2026-01-31", "p1,write,2026-03-31");
    fs::write(&grants, changed).unwrap();
    steps.sync("one").unwrap();
    let refused = steps
        .attempt_as(
            REVIEWER,
            &[
                "decision",
                "take",
                &name,
                "--decision",
                "revoke",
                "--justification",
                "Gone",
                "--presentation-hash",
                &shown,
            ],
        )
        .unwrap();
    assert!(!refused.status.success());
    assert!(refused.errors.contains("Aborted"), "{}", refused.errors);
    assert!(
        refused.errors.contains("GRANT_CHANGED"),
        "{}",
        refused.errors
    );
}
