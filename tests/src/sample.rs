//! The sample estate is what its README says, and can be governed: kept true by the tests here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use counterfoil_connectors::{
    AccountRecord, AccountStatus, EntitlementRecord, IdentityClass, Lifecycle, SourceRecord,
};

use crate::decisions::{Decision, DecisionRow, read_decisions};
use crate::repository::root;
use crate::source::{Contents, read_csv};

const SOURCES: [&str; 2] = ["hr-saas", "payments-db"];

fn folder() -> PathBuf {
    root().join("deploy/sample-estate")
}

fn decisions() -> Vec<DecisionRow> {
    read_decisions(&folder().join("decisions.csv")).unwrap()
}

async fn sources() -> BTreeMap<&'static str, Contents> {
    let mut found = BTreeMap::new();
    for name in SOURCES {
        found.insert(name, read_csv(&folder().join(name)).await.unwrap());
    }
    found
}

fn account<'a>(contents: &'a Contents, id: &str) -> &'a AccountRecord {
    let accounts = contents.records.iter().filter_map(|record| match record {
        SourceRecord::Account(account) => Some(account),
        _ => None,
    });
    accounts
        .into_iter()
        .find(|account| account.native_id == id)
        .unwrap()
}

fn entitlement<'a>(contents: &'a Contents, id: &str) -> &'a EntitlementRecord {
    let entitlements = contents.records.iter().filter_map(|record| match record {
        SourceRecord::Entitlement(entitlement) => Some(entitlement),
        _ => None,
    });
    entitlements
        .into_iter()
        .find(|entitlement| entitlement.native_id == id)
        .unwrap()
}

fn holders<'a>(contents: &'a Contents, id: &str) -> Vec<&'a str> {
    let grants = contents.records.iter().filter_map(|record| match record {
        SourceRecord::Grant(grant) if grant.entitlement_native_id == id => Some(grant),
        _ => None,
    });
    grants
        .map(|grant| grant.account_native_id.as_str())
        .collect()
}

#[tokio::test]
async fn the_sample_estate_has_the_size_that_its_page_says() {
    let sources = sources().await;
    let sum = |count: fn(&Contents) -> u64| sources.values().map(count).sum::<u64>();
    let (accounts, entitlements, grants) = (
        sum(|contents| contents.totals.accounts),
        sum(|contents| contents.totals.entitlements),
        sum(|contents| contents.totals.grants),
    );
    let page = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let said = format!("{accounts} accounts, {entitlements} entitlements, {grants} grants");
    assert!(page.contains(&said), "{said}");
}

#[tokio::test]
async fn every_planted_problem_is_there() {
    let sources = sources().await;
    let (hr, payments) = (&sources["hr-saas"], &sources["payments-db"]);
    let orphan = account(payments, "old_import");
    assert_eq!((&orphan.identity_key, &orphan.owner_key), (&None, &None));
    let leaver = account(payments, "greta_holm");
    assert_eq!(leaver.lifecycle, Some(Lifecycle::Deprecated));
    assert_eq!(leaver.status, AccountStatus::Active);
    assert_eq!(account(hr, "greta.holm").status, AccountStatus::Disabled);
    assert!(holders(payments, "pay_readwrite").contains(&"greta_holm"));
    let superuser = entitlement(payments, "pg_superuser");
    assert!(superuser.privileged && superuser.owner_key.is_none());
    assert_eq!(holders(payments, "pg_superuser").len(), 2);
    let machines = [
        (payments, "svc_settlement", true),
        (payments, "svc_backup", false),
        (payments, "old_import", false),
        (hr, "svc-payroll-export", false),
    ];
    for (contents, id, endless) in machines {
        let found = account(contents, id);
        assert_eq!(found.identity_class, IdentityClass::NonHuman);
        assert_eq!(found.expires_ms.is_none(), endless, "{id}");
    }
    assert_eq!(
        account(hr, "agent-onboarding").identity_class,
        IdentityClass::Agent
    );
    let seen = sources.values().flat_map(|contents| &contents.records);
    let seen = seen.filter(
        |record| matches!(record, SourceRecord::Account(found) if found.last_seen_ms.is_some()),
    );
    assert_eq!(
        seen.count(),
        1,
        "only the dormant account has a date that grows old"
    );
    assert!(account(payments, "hugo_marin").last_seen_ms.is_some());
}

#[tokio::test]
async fn every_decision_is_about_a_grant_and_nobody_reviews_their_own() {
    let sources = sources().await;
    let governance: toml::Table = std::fs::read_to_string(folder().join("estate.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let keys: BTreeMap<&str, &str> = governance["principals"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|principal| {
            Some((
                principal["id"].as_str()?,
                principal.get("identity_key")?.as_str()?,
            ))
        })
        .collect();
    let fallback = governance["campaign"]["fallback_reviewer"]
        .as_str()
        .unwrap();
    let mut seen = BTreeSet::new();
    for row in decisions() {
        let contents = &sources[row.source.as_str()];
        assert!(
            seen.insert((
                row.source.clone(),
                row.account.clone(),
                row.entitlement.clone()
            )),
            "twice: {row:?}"
        );
        assert!(
            holders(contents, &row.entitlement).contains(&row.account.as_str()),
            "no grant: {row:?}"
        );
        let subject = account(contents, &row.account).identity_key.as_deref();
        let owner = entitlement(contents, &row.entitlement).owner_key.as_deref();
        let expected = match owner {
            Some(owner) if Some(owner) != subject => owner,
            _ => keys[fallback],
        };
        assert_eq!(keys[row.reviewer.as_str()], expected, "{row:?}");
    }
    let grants: u64 = sources
        .values()
        .map(|contents| contents.totals.grants)
        .sum();
    assert_eq!(
        seen.len() as u64 + 3,
        grants,
        "three grants are left undecided"
    );
}

#[tokio::test]
async fn every_decision_carries_what_its_kind_asks_for() {
    let rows = decisions();
    for kind in [
        Decision::Accept,
        Decision::Revoke,
        Decision::Reduce,
        Decision::Exception,
    ] {
        assert!(rows.iter().any(|row| row.decision == kind), "{kind:?}");
    }
    for row in &rows {
        assert!(!row.justification.is_empty(), "{row:?}");
        let stays = matches!(row.decision, Decision::Accept | Decision::Exception);
        assert_eq!(row.review_by_days.is_some(), stays, "{row:?}");
        assert!(!stays || !row.evidence_ref.is_empty(), "{row:?}");
        let excepted = row.decision == Decision::Exception;
        assert_eq!(row.exception_expires_days.is_some(), excepted, "{row:?}");
        assert_eq!(!row.exception_basis.is_empty(), excepted, "{row:?}");
        let reduced = row.decision == Decision::Reduce;
        assert_eq!(!row.reduce_to.is_empty(), reduced, "{row:?}");
        let kept = |other: &&DecisionRow| {
            (&other.source, &other.account, &other.entitlement)
                == (&row.source, &row.account, &row.reduce_to)
        };
        let kept = rows.iter().find(kept).map(|other| other.decision);
        assert_eq!(kept, reduced.then_some(Decision::Accept), "{row:?}");
    }
}
