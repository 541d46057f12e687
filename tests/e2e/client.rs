//! The client on the services of the golden run: what can be asked, by whom, and what is answered.

use std::fs;
use std::path::Path;

use counterfoil_tests::evidence::Evidence;
use counterfoil_tests::foreign::CHECKERS;
use counterfoil_tests::process::{Process, Suite, counterfoil};
use counterfoil_tests::report::{verify, verify_with};
use counterfoil_tests::steps::{CAMPAIGN, Steps, list, number, text};
use counterfoil_tlog::hash::leaf_hash;
use counterfoil_tlog::note::VerifierKey;
use counterfoil_tlog::proof;
use prost::Message;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::golden::{TENANT, golden, services};

/// The one item of a list that is about this account and entitlement.
pub fn item<'i>(items: &'i Value, account: &str, entitlement: &str) -> &'i Value {
    let about = |item: &&Value| {
        let shown = &item["presentation"];
        shown["account_native_id"] == account && shown["entitlement_native_id"] == entitlement
    };
    let mut found = list(items, "/items").unwrap().iter().filter(about);
    let one = found.next();
    assert!(
        found.next().is_none(),
        "{account} {entitlement} is there twice"
    );
    one.unwrap_or_else(|| panic!("no item about {account} {entitlement}"))
}

fn token_file(folder: &Path, content: &str) -> String {
    let path = folder.join("other.token");
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_client_walks_through_all_that_happened() {
    let (suite, _folder) = services();
    let steps = Steps::new(&suite, TENANT).unwrap();
    let ask = |arguments: &[&str]| steps.ask(arguments).unwrap();
    let count = |answer: &Value, pointer: &str| list(answer, pointer).unwrap().len();

    let tenants = ask(&["tenant", "list"]);
    assert_eq!(
        text(&tenants, "/tenants/0/name").unwrap(),
        "tenants/bluebell"
    );
    assert_eq!(tenants["tenants"][0]["state"], "TENANT_STATE_ACTIVE");
    // The six of the estate, and the operator of the provider whom the customer engaged.
    let principals = ask(&["principal", "list"]);
    assert_eq!(count(&principals, "/principals"), 6 + 1);
    let engaged = list(&principals, "/principals").unwrap().iter();
    let engaged =
        engaged.filter(|one| one["display_name"] == "Northgate Managed Services operator");
    assert_eq!(engaged.count(), 1);
    assert_eq!(count(&ask(&["source", "list"]), "/sources"), 2);
    assert!(count(&ask(&["sync", "list"]), "/syncs") >= 4);
    assert!(count(&ask(&["snapshot", "list"]), "/snapshots") >= 2);
    assert_eq!(count(&ask(&["account", "list"]), "/accounts"), 25);
    assert_eq!(count(&ask(&["entitlement", "list"]), "/entitlements"), 12);
    let grants = ask(&["grant", "list"]);
    let direct = list(&grants, "/grants")
        .unwrap()
        .iter()
        .filter(|grant| list(grant, "/path").unwrap().is_empty());
    assert_eq!(direct.count(), 59 - 15);

    let campaigns = ask(&["campaign", "list"]);
    assert_eq!(campaigns["campaigns"][0]["state"], "CAMPAIGN_STATE_CLOSED");
    assert_eq!(
        number(&campaigns, "/campaigns/0/population_count").unwrap(),
        59
    );
    assert_eq!(count(&ask(&["item", "list", CAMPAIGN]), "/items"), 59);
    let verified = ask(&["item", "list", CAMPAIGN, "--state", "verified"]);
    assert_eq!(count(&verified, "/items"), 15);

    assert!(count(&ask(&["recon", "list"]), "/recon_runs") >= 1);
    let findings = ask(&["finding", "list"]);
    let residual = list(&findings, "/findings")
        .unwrap()
        .iter()
        .filter(|finding| finding["situation"] == "SITUATION_RESIDUAL");
    let mut states: Vec<&Value> = residual.map(|finding| &finding["state"]).collect();
    states.dedup();
    assert_eq!(states, ["FINDING_STATE_RESOLVED_VERIFIED"]);
    let remediations = ask(&["remediation", "list"]);
    assert_eq!(
        remediations["remediations"][0]["state"],
        "REMEDIATION_STATE_CLOSED"
    );
    let remediation = text(&remediations, "/remediations/0/name").unwrap();
    assert_eq!(
        count(&ask(&["remediation", "actions", &remediation]), "/actions"),
        15
    );
    let size = number(&ask(&["ledger", "checkpoint"]), "/size").unwrap();
    assert_eq!(count(&ask(&["ledger", "list"]), "/entries") as u64, size);
    suite.stop().unwrap().success().unwrap();
}

#[test]
fn a_table_is_what_people_see() {
    let (suite, _folder) = services();
    let token = suite.customer_token(TENANT);
    let token = token.to_str().unwrap();
    let table = suite
        .ask_table(&[
            "remediation",
            "list",
            "--tenant",
            TENANT,
            "--token-file",
            token,
        ])
        .unwrap();
    let mut lines = table.success().unwrap().lines();
    let header: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(
        header,
        [
            "NAME",
            "STATE",
            "ACTIONS_COUNT",
            "VERIFIED_COUNT",
            "OPEN_COUNT"
        ]
    );
    assert!(lines.next().unwrap().contains("CLOSED"));
}

#[test]
fn a_wrong_token_is_refused() {
    let (suite, folder) = services();
    let admin = fs::read_to_string(folder.path().join("data/keys/admin.token")).unwrap();
    let mut other = admin.trim().to_owned();
    let last = other.pop().unwrap();
    other.push(if last == 'A' { 'B' } else { 'A' });
    for content in [other.as_str(), "nonsense", "cft_x_y"] {
        let file = token_file(folder.path(), content);
        let refused = suite
            .ask(&["tenant", "list", "--token-file", &file])
            .unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert!(
            refused.errors.contains("Unauthenticated"),
            "{}",
            refused.errors
        );
        assert!(!refused.errors.contains(content), "it repeats the token");
    }
}

#[test]
fn a_reviewer_sees_nothing_of_another_tenant_and_does_nothing_that_the_role_lacks() {
    let (suite, _folder) = services();
    let mut steps = Steps::new(&suite, TENANT).unwrap();
    let mut refused = |arguments: &[&str], code: &str| {
        let ended = steps.attempt_as("mara-lind", arguments).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}");
        assert!(
            ended.errors.contains(code),
            "{arguments:?}: {}",
            ended.errors
        );
    };
    refused(&["tenant", "create", "other"], "PermissionDenied");
    refused(&["token", "issue", "helena-vogt"], "PermissionDenied");
    refused(&["sync", "start", "hr-saas"], "PermissionDenied");
    // What is not allowed and what is not there look alike.
    refused(&["tenant", "get", "tenants/other"], "NotFound");
}

#[test]
fn the_administrator_decides_nothing() {
    let (suite, _folder) = services();
    let steps = Steps::new(&suite, TENANT).unwrap();
    let items = steps.ask(&["item", "list", CAMPAIGN]).unwrap();
    let item = item(&items, "lena.fischer", "people-read");
    let (name, shown) = (
        text(item, "/name").unwrap(),
        text(item, "/presentation_hash").unwrap(),
    );
    let refused = steps
        .attempt_as_deployment(&[
            "decision",
            "take",
            &name,
            "--decision",
            "revoke",
            "--justification",
            "No reason",
            "--presentation-hash",
            &shown,
        ])
        .unwrap();
    assert!(!refused.status.success());
    let errors = &refused.errors;
    assert!(errors.contains("PermissionDenied"), "{errors}");
    // Nor does it see what is decided on, or govern what governs itself.
    for arguments in [&["item", "list", CAMPAIGN][..], &["right", "list"]] {
        let refused = steps.attempt_as_deployment(arguments).unwrap();
        assert!(
            refused.errors.contains("PermissionDenied"),
            "{}",
            refused.errors
        );
    }
}

#[test]
fn a_bundle_exported_later_continues_the_one_before() {
    let (suite, folder) = services();
    let steps = Steps::new(&suite, TENANT).unwrap();
    let exported = steps.ask(&["bundle", "export"]).unwrap();
    let (bundle, trust) = (
        text(&exported, "/bundle").unwrap(),
        text(&exported, "/trust").unwrap(),
    );
    let report = verify(Path::new(&bundle), Path::new(&trust)).unwrap();
    assert!(report.is_ok(), "{report}");
    let later = Evidence::open(Path::new(&bundle)).unwrap();
    assert_eq!(number(&exported, "/size").unwrap(), later.log.len() as u64);
    // The trust file that an auditor pinned at the first bundle accepts the later one, and not the other way round: that
    // one is stale.
    let golden = golden();
    let pinned = folder.path().join("pinned.json");
    fs::copy(&trust, &pinned).unwrap();
    let old = verify(&golden.first.outcome.bundle, &pinned).unwrap();
    assert!(!old.is_ok(), "{old}");
    assert!(old.fails("W2") || old.fails("W1"), "{old}");
}

#[test]
fn a_provider_takes_its_own_log_away_and_both_sides_hold_together() {
    let (suite, folder) = services();
    let token = folder
        .path()
        .join("data/keys/provider-northgate-administrator.token");
    let token = token.to_str().unwrap();
    let export = ["bundle", "export", "northgate", "--token-file", token];
    let theirs = suite.client(&export).unwrap();
    let steps = Steps::new(&suite, TENANT).unwrap();
    let ours = steps.ask(&["bundle", "export"]).unwrap();
    // An auditor of both pins both logs.
    let mut trust: Value = Value::Null;
    for exported in [&ours, &theirs] {
        let one = fs::read(text(exported, "/trust").unwrap()).unwrap();
        let one: Value = serde_json::from_slice(&one).unwrap();
        match trust["logs"].as_array_mut() {
            Some(logs) => logs.extend(one["logs"].as_array().unwrap().clone()),
            None => trust = one,
        }
    }
    let pinned = folder.path().join("both.json");
    fs::write(&pinned, trust.to_string()).unwrap();
    let (ours, theirs) = (
        text(&ours, "/bundle").unwrap(),
        text(&theirs, "/bundle").unwrap(),
    );
    for (one, other) in [(&ours, &theirs), (&theirs, &ours)] {
        let report = verify_with(Path::new(one), &pinned, &["--cross", other]).unwrap();
        assert!(report.is_ok(), "{report}");
        assert!(
            report.checks.iter().any(|check| check.id == "X1"),
            "{report}"
        );
    }
    suite.stop().unwrap().success().unwrap();
}

/// Carrying out needs no decision right, so the tier is asked for there too.
#[test]
fn b23_an_operator_carries_nothing_out_where_the_tier_of_the_provider_does_not_reach() {
    let (suite, folder) = services();
    let steps = Steps::new(&suite, TENANT).unwrap();
    let planned = steps.ask(&["remediation", "list"]).unwrap();
    let name = text(&planned, "/remediations/0/name").unwrap();
    let token = folder
        .path()
        .join("data/keys/provider-northgate-operator.token");
    let operator = ["--token-file", token.to_str().unwrap()];
    let operator = [&operator[..], &["--acting-for", TENANT]].concat();
    let execute = || {
        let call = [&["remediation", "execute", &name][..], &operator].concat();
        steps.attempt_as_deployment(&call).unwrap().errors
    };
    let sensitivity = |level: &str| {
        let set = ["engagement", "sensitivity", "--environment", "prod"];
        let set = [&set[..], &["--level", level]].concat();
        steps.ask(&set).unwrap();
    };
    // The sources are of "prod": tier 3 reaches level 3, and what was carried out is not carried out again.
    assert!(execute().contains("REMEDIATION_STATE"), "{}", execute());
    sensitivity("4");
    let refused = execute();
    assert!(refused.contains("OPERATOR_NOT_QUALIFIED"), "{refused}");
    // The customer's own people are of no tier.
    let own = steps.attempt(&["remediation", "execute", &name]).unwrap();
    assert!(own.errors.contains("REMEDIATION_STATE"), "{}", own.errors);
    for source in ["hr-saas", "payments-db"] {
        let moved = ["source", "classify", source, "--environment", "test"];
        steps.ask(&moved).unwrap();
    }
    let refused = execute();
    assert!(refused.contains("OPERATOR_NOT_QUALIFIED"), "{refused}");
    for source in ["hr-saas", "payments-db"] {
        let back = ["source", "classify", source, "--environment", "default"];
        steps.ask(&back).unwrap();
    }
    assert!(execute().contains("REMEDIATION_STATE"), "{}", execute());
    suite.stop().unwrap().success().unwrap();
}

#[test]
fn what_the_customer_said_of_a_source_stays_when_the_estate_is_played_again() {
    let (suite, folder) = services();
    let steps = Steps::new(&suite, TENANT).unwrap();
    let moved = ["source", "classify", "hr-saas", "--environment", "test"];
    steps.ask(&moved).unwrap();
    drop(steps);
    suite.stop().unwrap().success().unwrap();
    let data_dir = folder.path().join("data");
    let again = counterfoil(&data_dir, &["quickstart"]).unwrap();
    let again = Process::start(again).unwrap().finish().unwrap();
    again.success().unwrap();
    let suite = Suite::start(&data_dir).unwrap();
    let steps = Steps::new(&suite, TENANT).unwrap();
    let found = steps.ask(&["source", "list"]).unwrap();
    let sources = list(&found, "/sources").unwrap();
    let hr = sources.iter().find(|one| {
        let name = one["name"].as_str().unwrap();
        name.ends_with("/hr-saas")
    });
    assert_eq!(hr.unwrap()["environment"], "test", "{found}");
    drop(steps);
    suite.stop().unwrap().success().unwrap();
}

#[test]
fn receipts_are_accepted_by_the_tools_of_others() {
    let (suite, folder) = services();
    let steps = Steps::new(&suite, TENANT).unwrap();
    let mut others = Vec::new();
    let mut keep = |receipt: &str| {
        let path = folder.path().join(format!("{}.tlog-proof", others.len()));
        fs::write(&path, receipt).unwrap();
        others.push(path);
    };
    let size = number(&steps.ask(&["ledger", "checkpoint"]).unwrap(), "/size").unwrap();
    for index in [0, size / 2, size - 1] {
        let entry = steps
            .ask(&["ledger", "get", "--index", &index.to_string()])
            .unwrap();
        keep(&text(&entry, "/tlog_proof").unwrap());
    }
    // Receipts of long ago, under smaller checkpoints.
    let syncs = steps.ask(&["sync", "list"]).unwrap();
    for sync in list(&syncs, "/syncs").unwrap() {
        keep(&text(sync, "/receipt/tlog_proof").unwrap());
    }
    let exported = steps.ask(&["bundle", "export"]).unwrap();
    let bundle = text(&exported, "/bundle").unwrap();
    let checkpoint = steps.ask(&["ledger", "checkpoint"]).unwrap();
    let vkey = folder.path().join("vkey");
    fs::write(&vkey, format!("{}\n", text(&checkpoint, "/vkey").unwrap())).unwrap();
    for checker in CHECKERS {
        let verdict = checker
            .check(&Path::new(&bundle).join("log"), &vkey, &others)
            .unwrap();
        assert!(verdict.accepted, "{checker:?}: {}", verdict.said);
    }
}

/// What `grant explain` answers of an item, with every proof checked against the log.
fn explained(suite: &Suite, account: &str, entitlement: &str) -> Value {
    let steps = Steps::new(suite, TENANT).unwrap();
    let items = steps.ask(&["item", "list", CAMPAIGN]).unwrap();
    let grant = text(item(&items, account, entitlement), "/grant").unwrap();
    let answer = steps.ask(&["grant", "explain", &grant]).unwrap();
    let vkey = text(&steps.ask(&["ledger", "checkpoint"]).unwrap(), "/vkey").unwrap();
    let key = VerifierKey::parse(&vkey).unwrap();
    for event in list(&answer, "/events").unwrap() {
        let index = number(event, "/index").unwrap();
        let logged = &golden().evidence.log[usize::try_from(index).unwrap()];
        let leaf = leaf_hash(&logged.entry.encode_to_vec());
        let receipt = text(event, "/tlog_proof").unwrap();
        let (proved, _) = proof::verify(&receipt, &leaf, &key).unwrap();
        assert_eq!(proved, index);
        assert_eq!(event["type"], logged.record.r#type);
        assert_eq!(event["actor"], logged.record.actor);
    }
    answer
}

fn event<'e>(answer: &'e Value, kind: &str) -> &'e Value {
    let full = format!("counterfoil.evidence.v1.{kind}");
    let events = list(answer, "/events").unwrap();
    let found = events.iter().find(|event| event["type"] == full.as_str());
    found.unwrap_or_else(|| panic!("no {kind} in {answer}"))
}

#[test]
fn a20_who_approved_access_when_and_on_what_evidence_is_answered_with_proofs() {
    let (suite, _folder) = services();
    let kept = explained(&suite, "lena.fischer", "people-read");
    assert_eq!(kept["state"], "ACCEPTED");
    let decided = event(&kept, "ReviewDecided");
    assert_eq!(decided["actor"], "principals/mara-lind");
    assert_eq!(decided["accountable_owner"], "principals/helena-vogt");
    assert_eq!(decided["outcome"], "ACCEPT");
    assert_eq!(
        decided["evidence_sha256"][0],
        hex::encode(Sha256::digest("HR-ROLE-04"))
    );
    let date = |event: &Value, field: &str| text(event, field).unwrap();
    assert!(date(decided, "/review_by_time") > date(decided, "/occurred_time"));
    let authority = hex::decode(text(decided, "/authority_record_hash").unwrap()).unwrap();
    let right = golden().evidence.by_hash(&authority).unwrap();
    assert!(right.record.r#type.ends_with("DecisionRightGranted"));

    let gone = explained(&suite, "sofia_rossi", "pg_superuser");
    assert_eq!(gone["state"], "REMOVED_VERIFIED");
    assert_eq!(event(&gone, "ReviewDecided")["outcome"], "REVOKE");
    assert_eq!(
        event(&gone, "ReviewDecided")["actor"],
        "principals/ada-keller"
    );
    assert_eq!(event(&gone, "EffectVerified")["outcome"], "ABSENT");

    let excepted = explained(&suite, "ines_costa_adm", "pg_superuser");
    assert_eq!(excepted["state"], "EXCEPTED");
    assert_eq!(event(&excepted, "ReviewDecided")["outcome"], "EXCEPTION");

    let lapsed = explained(&suite, "old_import", "pay_readwrite");
    assert_eq!(lapsed["state"], "REMOVED_VERIFIED");
    event(&lapsed, "ReviewItemLapsed");
    let events = list(&lapsed, "/events").unwrap();
    let by_people = events
        .iter()
        .filter(|event| event["type"] == "counterfoil.evidence.v1.ReviewDecided");
    assert_eq!(by_people.count(), 0, "a lapse is nobody's decision");
}

#[test]
fn a20_nothing_is_said_of_a_grant_that_no_record_speaks_of() {
    let (suite, _folder) = services();
    let steps = Steps::new(&suite, TENANT).unwrap();
    let ended = steps
        .attempt(&["grant", "explain", &"ab".repeat(40)])
        .unwrap();
    assert!(!ended.status.success());
    assert!(ended.errors.contains("NotFound"), "{}", ended.errors);
}
