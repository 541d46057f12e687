//! One suite for both engines.

use std::collections::BTreeMap;

use counterfoil_chassis::testing::TestDatabase;
use counterfoil_evidence::{
    leaf::{GrantKey, SourceTag},
    v1::{FindingState, Operation, Situation},
};

use super::{actions, findings, obligations, remediations, runs};
use crate::model::{
    entities::{
        Action, Decision, Finding, Obligation, ObligationState, Remediation, Run, obligation_kind,
    },
    ids::{Principal, RemediationKey},
    state::{ActionState, RemediationState},
};

const TENANT: &str = "acme";

fn key(number: u32) -> GrantKey {
    let account = format!("accounts/{number:05}");
    GrantKey::new(SourceTag::of("sources/a"), &account, "entitlements/e", &[])
}

fn owner() -> Principal {
    Principal::stored("principals/olga".to_owned())
}

fn decision(kept: Option<GrantKey>) -> Decision {
    Decision {
        record_hash: [5; 32],
        decided_ms: 10,
        decided_by: "principals/finn".to_owned(),
        kept,
        campaign: "campaigns/q3".to_owned(),
    }
}

fn run_of(id: &str) -> Run {
    Run {
        id: id.to_owned(),
        snapshot: "s".to_owned(),
        record_id: vec![1; 16],
        record_hash: [2; 32],
        situations: vec![(1, 7), (4, 2)],
        observed_count: 9,
        authorized_count: 8,
        findings_count: 2,
        findings_root: [3; 32],
        gap_count: 2,
        created_ms: 4,
    }
}

fn finding(number: u32, severity: u32, decision: Option<Decision>) -> Finding {
    Finding {
        id: format!("f{number:05}"),
        key: key(number),
        situation: Situation::Residual,
        severity,
        run: "r1".to_owned(),
        due_ms: 100,
        created_ms: 1,
        account_name: "Amy \u{1f980}".to_owned(),
        entitlement_name: String::new(),
        decision,
        owner: owner(),
        state: FindingState::Open,
        until_ms: 0,
        changed_ms: 1,
        remediation: String::new(),
    }
}

fn remediation(id: &str, state: RemediationState) -> Remediation {
    Remediation {
        id: id.to_owned(),
        run: "r1".to_owned(),
        plan_record_hash: [1; 32],
        actions_count: 2,
        val_required: 3,
        offsets_ms: vec![60_000, 3_600_000],
        approver: owner(),
        owner: owner(),
        policy_hash: vec![2; 32],
        threshold_metric: String::new(),
        threshold_limit: 0,
        created_ms: 1,
        state,
        agent: None,
        runner: String::new(),
        p50_ms: 0,
        max_ms: 0,
        reported: true,
    }
}

fn action(number: u32, source: &str) -> Action {
    Action {
        source: source.to_owned(),
        operation: Operation::Reduce,
        decision: decision(Some(key(9))),
        ..crate::model::state::tests::action(key(number))
    }
}

fn remediation_key(id: &str) -> RemediationKey {
    RemediationKey {
        tenant: TENANT.to_owned(),
        remediation: id.to_owned(),
    }
}

async fn migrated(db: &TestDatabase) {
    db.migrate(&[crate::store::MIGRATIONS]).await;
}

counterfoil_chassis::both_engines! {
    async fn a_run_is_read_as_it_was_written(db: TestDatabase) {
        migrated(&db).await;
        let mut tx = db.write_tx(TENANT).await.unwrap();
        for id in ["a", "b", "c"] {
            runs::insert(&mut tx, &run_of(id)).await.unwrap();
        }
        assert_eq!(runs::get(tx.conn(), TENANT, "b").await.unwrap(), Some(run_of("b")));
        assert_eq!(runs::get(tx.conn(), "beta", "b").await.unwrap(), None, "another tenant's");
        tx.commit().await.unwrap();
        let newest = runs::list(&db, TENANT, None, 2).await.unwrap();
        assert_eq!(newest, [run_of("c"), run_of("b")]);
        assert_eq!(runs::list(&db, TENANT, Some("b"), 2).await.unwrap(), [run_of("a")]);
    }

    async fn a_finding_is_listed_found_again_and_resolved(db: TestDatabase) {
        migrated(&db).await;
        let written = [
            finding(1, 2, None),
            finding(2, 4, Some(decision(Some(key(9))))),
            finding(3, 2, Some(decision(None))),
        ];
        let mut tx = db.write_tx(TENANT).await.unwrap();
        findings::insert(&mut tx, &written).await.unwrap();
        assert_eq!(findings::get(tx.conn(), TENANT, "f00002").await.unwrap().as_ref(), Some(&written[1]));
        let again = [("f00001".to_owned(), Some(decision(None))), ("f00003".to_owned(), None)];
        findings::found_again(&mut tx, "r2", again).await.unwrap();
        let situations = [Situation::Residual, Situation::ExpiredPresent];
        let removable = findings::removable(tx.conn(), TENANT, "r2", situations).await.unwrap();
        assert_eq!(removable.len(), 2);
        assert!(removable.iter().any(|found| found.id == "f00001" && found.decision == Some(decision(None))));
        assert!(removable.iter().any(|found| found.id == "f00003" && found.decision.is_none()));
        let change = findings::Change { state: FindingState::Remediating, until_ms: 0, now_ms: 7, remediation: "m" };
        findings::change(&mut tx, ["f00001".to_owned()], change).await.unwrap();
        assert_eq!(findings::removable(tx.conn(), TENANT, "r2", situations).await.unwrap().len(), 1);
        let change = findings::Change { state: FindingState::ResolvedVerified, ..change };
        findings::change(&mut tx, ["f00001".to_owned()], change).await.unwrap();
        runs::insert(&mut tx, &run_of("r2")).await.unwrap();
        let live = findings::live(tx.conn(), TENANT).await.unwrap();
        let shown: BTreeMap<_, _> = live.iter().map(|one| (one.id.as_str(), one.snapshot.as_str())).collect();
        assert_eq!(shown, BTreeMap::from([("f00002", ""), ("f00003", "s")]));
        let keys = [key(1), key(2)];
        assert_eq!(findings::live_keys(&mut tx, keys).await.unwrap(), [(key(2), Situation::Residual)]);
        let many = findings::many(&mut tx, ["f00001".to_owned(), "none".to_owned()]).await.unwrap();
        assert_eq!((many.len(), many[0].changed_ms, many[0].remediation.as_str()), (1, 7, "m"));
        tx.commit().await.unwrap();
        let all = findings::Filter::default();
        let ids = |found: Vec<Finding>| found.into_iter().map(|found| found.id).collect::<Vec<_>>();
        assert_eq!(ids(findings::list(&db, TENANT, all, None, 10).await.unwrap()), ["f00002", "f00001", "f00003"]);
        assert_eq!(ids(findings::list(&db, TENANT, all, Some((2, "f00001")), 10).await.unwrap()), ["f00003"]);
        let open = findings::Filter { state: FindingState::Open as i64, ..all };
        assert_eq!(ids(findings::list(&db, TENANT, open, None, 10).await.unwrap()), ["f00002", "f00003"]);
    }

    async fn a_grant_has_one_live_finding_a_situation(db: TestDatabase) {
        migrated(&db).await;
        let mut tx = db.write_tx(TENANT).await.unwrap();
        findings::insert(&mut tx, &[finding(1, 2, None)]).await.unwrap();
        let resolved = findings::Change { state: FindingState::ResolvedVerified, until_ms: 0, now_ms: 7, remediation: "" };
        findings::change(&mut tx, ["f00001".to_owned()], resolved).await.unwrap();
        let second = Finding { id: "g".to_owned(), ..finding(1, 2, None) };
        findings::insert(&mut tx, std::slice::from_ref(&second)).await.unwrap();
        let third = Finding { id: "h".to_owned(), ..second };
        assert!(findings::insert(&mut tx, &[third]).await.is_err());
    }

    async fn only_one_process_holds_a_remediation(db: TestDatabase) {
        migrated(&db).await;
        let mut tx = db.write_tx(TENANT).await.unwrap();
        let written = remediation("m1", RemediationState::Approved);
        remediations::insert(&mut tx, &written).await.unwrap();
        assert_eq!(remediations::get(tx.conn(), &remediation_key("m1")).await.unwrap(), Some(written.clone()));
        let (approved, dispatched) = (RemediationState::Approved, RemediationState::Dispatched);
        assert!(remediations::advance(&mut tx, "m1", approved, dispatched).await.unwrap());
        assert!(!remediations::advance(&mut tx, "m1", approved, dispatched).await.unwrap(), "no longer there");
        assert!(remediations::take_over(&mut tx, "m1", "one", 100, 1).await.unwrap());
        assert!(remediations::hold(&mut tx, "m1", "one", RemediationState::Verifying, 200).await.unwrap());
        assert!(!remediations::take_over(&mut tx, "m1", "two", 300, 200).await.unwrap(), "one was seen at 200");
        remediations::seen(&mut tx, "m1", "one", 250).await.unwrap();
        assert!(!remediations::take_over(&mut tx, "m1", "two", 300, 250).await.unwrap(), "and at 250");
        assert!(remediations::take_over(&mut tx, "m1", "two", 300, 251).await.unwrap());
        assert!(!remediations::hold(&mut tx, "m1", "one", RemediationState::Closed, 400).await.unwrap());
        remediations::seen(&mut tx, "m1", "one", 0).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(remediations::running(&db, 300).await.unwrap(), []);
        assert_eq!(remediations::running(&db, 301).await.unwrap(), [remediation_key("m1")]);
        let mut tx = db.write_tx(TENANT).await.unwrap();
        remediations::set_reported(&mut tx, "m1", false).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(remediations::unreported(&db).await.unwrap(), [], "it still runs");
        let mut tx = db.write_tx(TENANT).await.unwrap();
        assert!(remediations::hold(&mut tx, "m1", "two", RemediationState::Closed, 500).await.unwrap());
        remediations::set_times(&mut tx, "m1", 7, 9).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(remediations::unreported(&db).await.unwrap(), [remediation_key("m1")]);
        let listed = remediations::list(&db, TENANT, None, 5).await.unwrap();
        assert_eq!((listed[0].p50_ms, listed[0].max_ms, listed[0].state), (7, 9, RemediationState::Closed));
    }

    async fn thousands_of_actions_change_in_a_few_statements(db: TestDatabase) {
        migrated(&db).await;
        let remediation_key = remediation_key("m1");
        let mut written: Vec<Action> = (0..2_500).map(|number| action(number, "a")).collect();
        written.push(action(9_999, "b"));
        let mut tx = db.write_tx(TENANT).await.unwrap();
        actions::insert(&mut tx, "m1", &written).await.unwrap();
        written.sort_by_key(|action| action.key);
        assert_eq!(actions::all(tx.conn(), &remediation_key).await.unwrap(), written);
        for action in &mut written {
            action.state = ActionState::Intended;
            action.attempts = 1;
            action.tries = 1;
            action.idempotency_key = format!("i{}", action.id);
            action.intent_record_id = Some([7; 16]);
            action.intent_record_hash = Some([8; 32]);
            action.executor = "connectors/a/writer".to_owned();
            action.start(50);
        }
        actions::update(&mut tx, "m1", &written).await.unwrap();
        assert_eq!(actions::all(tx.conn(), &remediation_key).await.unwrap(), written);
        let intended = actions::of_source(tx.conn(), &remediation_key, "b", &[ActionState::Intended]).await.unwrap();
        assert_eq!(intended.len(), 1);
        assert!(actions::of_source(tx.conn(), &remediation_key, "b", &[ActionState::Planned]).await.unwrap().is_empty());
        actions::reset_tries(&mut tx, "m1").await.unwrap();
        written[0].state = ActionState::Verified;
        written[0].verified_record_hash = Some([9; 32]);
        actions::update(&mut tx, "m1", &written[..1]).await.unwrap();
        let counts = actions::verified_counts(tx.conn(), TENANT, "m0", "m9").await.unwrap();
        assert_eq!(counts.get("m1"), Some(&1));
        assert_eq!(actions::sources(tx.conn(), &remediation_key).await.unwrap().len(), 2);
        tx.commit().await.unwrap();
        let page = actions::list(&db, &remediation_key, None, 3).await.unwrap();
        let next = actions::list(&db, &remediation_key, Some(&page[2].key.0), 3).await.unwrap();
        assert!(page[2].key < next[0].key && page[0].tries + next[0].tries <= 1);
    }

    async fn an_obligation_ends_once(db: TestDatabase) {
        migrated(&db).await;
        let owed = |number: u8, due_ms: i64| Obligation {
            id: [number; 16],
            tenant: TENANT.to_owned(),
            kind: obligation_kind::REREAD.to_owned(),
            owner: "principals/olga".to_owned(),
            due_ms,
            remediation: "m1".to_owned(),
            source: "a".to_owned(),
            state: ObligationState::Open,
        };
        let mut tx = db.write_tx(TENANT).await.unwrap();
        obligations::insert(&mut tx, &[owed(1, 300), owed(2, 100), owed(3, 200)]).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(obligations::overdue(&db, 200).await.unwrap(), [owed(2, 100), owed(3, 200)]);
        let due = [obligations::Due { tenant: TENANT.to_owned(), source: "a".to_owned(), newest_ms: 200 }];
        assert_eq!(obligations::sources_due(&db, TENANT, 200).await.unwrap(), due);
        assert_eq!(obligations::sources_due(&db, "", 200).await.unwrap(), due);
        assert!(obligations::sources_due(&db, "beta", 200).await.unwrap().is_empty());
        let mut tx = db.write_tx(TENANT).await.unwrap();
        assert!(obligations::end(&mut tx, &[2; 16], ObligationState::Breached).await.unwrap());
        assert!(!obligations::end(&mut tx, &[2; 16], ObligationState::Breached).await.unwrap());
        tx.commit().await.unwrap();
        let late = Obligation { state: ObligationState::Breached, ..owed(2, 100) };
        assert_eq!(obligations::rereads_due(&db, TENANT, "a", 200).await.unwrap(), [owed(3, 200), late]);
        assert!(obligations::rereads_due(&db, TENANT, "b", 200).await.unwrap().is_empty());
        let mut tx = db.write_tx(TENANT).await.unwrap();
        assert!(obligations::end(&mut tx, &[2; 16], ObligationState::Discharged).await.unwrap(), "late");
        assert!(!obligations::end(&mut tx, &[2; 16], ObligationState::Discharged).await.unwrap(), "once");
        assert!(!obligations::end(&mut tx, &[2; 16], ObligationState::Breached).await.unwrap());
        let open = obligations::open_of(&mut tx, "m1", obligation_kind::REREAD).await.unwrap();
        assert_eq!(open, [owed(3, 200), owed(1, 300)]);
        tx.commit().await.unwrap();
        let page = obligations::list(&db, TENANT, None, 1).await.unwrap();
        assert_eq!(page, [owed(3, 200)]);
        let rest = obligations::list(&db, TENANT, Some((200, &[3; 16])), 9).await.unwrap();
        assert_eq!(rest, [owed(1, 300)]);
    }
}
