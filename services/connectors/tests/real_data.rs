//! Other people's data through the connectors: a GitHub organisation as CSV, two directories in a real OpenLDAP server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use counterfoil_connectors::testing::SlapdOptions;
use counterfoil_connectors::{IdentityClass, WriteOutcome, writer};
use support::ldif::{source, start};
use support::{CsvSource, gunzip, order, read_clean, shared};

#[tokio::test]
async fn kubernetes_org_is_read_and_500_of_its_grants_are_revoked_at_once() {
    let test = "kubernetes_org_is_read_and_500_of_its_grants_are_revoked_at_once";
    let Some(path) = shared(test, "kubernetes-org/membership_latest.csv.gz") else {
        return;
    };
    let membership = gunzip(&path);
    let pairs: Vec<(&str, &str)> = membership
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(','))
        .collect();
    let people: BTreeSet<&str> = pairs.iter().map(|pair| pair.0).collect();
    let entitlements: BTreeSet<&str> = pairs.iter().map(|pair| pair.1).collect();
    let csv = CsvSource::new();
    let mut text = String::from("native_id,display_name,identity_key\n");
    for person in &people {
        writeln!(text, "{person},{person},{person}").unwrap();
    }
    csv.write("accounts.csv", &text);
    text = String::from("native_id,display_name\n");
    for entitlement in &entitlements {
        writeln!(text, "{entitlement},{entitlement}").unwrap();
    }
    csv.write("entitlements.csv", &text);
    csv.write(
        "grants.csv",
        membership.replacen(
            "subject,entitlement",
            "account_native_id,entitlement_native_id",
            1,
        ),
    );
    fs::remove_file(csv.path("edges.csv")).unwrap();

    let all = read_clean(&csv.config()).await;
    let sizes = (all.accounts.len(), all.entitlements.len(), all.grants.len());
    assert_eq!(sizes, (1_509, 822, 6_281));
    let orders: Vec<_> = pairs
        .iter()
        .step_by(12)
        .take(500)
        .map(|pair| order(pair.0, pair.1))
        .collect();
    let results = writer(&csv.config()).unwrap().revoke_many(&orders).await;
    assert_eq!(results.len(), 500);
    assert!(
        results
            .iter()
            .all(|result| matches!(result, Ok(WriteOutcome::Applied { .. })))
    );
    assert_eq!(read_clean(&csv.config()).await.grants.len(), 5_781);
}

#[tokio::test]
async fn planetexpress_is_read_and_every_membership_can_be_taken_away() {
    let test = "planetexpress_is_read_and_every_membership_can_be_taken_away";
    let Some(path) = shared(test, "ldif/planetexpress.ldif") else {
        return;
    };
    let ldif = fs::read_to_string(path).unwrap();
    let slapd = start(&SlapdOptions::new("dc=planetexpress,dc=com").ldif(ldif));
    let mut config = slapd.config();
    config.account_class_filters.insert(
        IdentityClass::NonHuman,
        "(employeeType=Ship's Robot)".to_owned(),
    );
    let all = read_clean(&source(&config)).await;
    assert_eq!(
        (all.accounts.len(), all.entitlements.len(), all.grants.len()),
        (7, 2, 5)
    );
    assert_eq!(
        all.account("Amy Wong").identity_key.as_deref(),
        Some("amy@planetexpress.com")
    );
    assert_eq!(
        all.account("Bender").identity_class,
        IdentityClass::NonHuman
    );
    let professor = all.account("Professor Farnsworth");
    assert_eq!(
        professor.identity_key.as_deref(),
        Some("hubert@planetexpress.com")
    );
    assert!(all.holds("Fry", "ship_crew") && all.holds("Professor Farnsworth", "admin_staff"));

    let orders: Vec<_> = all
        .grants
        .iter()
        .map(|grant| order(&grant.account_native_id, &grant.entitlement_native_id))
        .collect();
    // Active Directory's groups may be empty, so the last member can go too.
    for result in writer(&source(&config)).unwrap().revoke_many(&orders).await {
        assert!(
            matches!(result, Ok(WriteOutcome::Applied { .. })),
            "{result:?}"
        );
    }
    assert!(read_clean(&source(&config)).await.grants.is_empty());
}

#[tokio::test]
async fn the_example_database_of_a_thousand_people_is_read_page_by_page() {
    let test = "the_example_database_of_a_thousand_people_is_read_page_by_page";
    let Some(path) = shared(test, "ldif/openldap-its9282-exampledb.ldif.gz") else {
        return;
    };
    let ldif = gunzip(&path);
    let mut group = String::from(
        "dn: cn=everybody,dc=example,dc=com\nobjectClass: groupOfNames\ncn: everybody\n",
    );
    for name in ldif.lines().filter_map(|line| line.strip_prefix("dn: cn=")) {
        writeln!(group, "member: cn={name}").unwrap();
    }
    let slapd = start(
        &SlapdOptions::new("dc=example,dc=com")
            .ldif(ldif)
            .ldif(group),
    );
    let mut config = slapd.config();
    config.page_size = 50;
    let all = read_clean(&source(&config)).await;
    assert_eq!((all.accounts.len(), all.grants.len()), (999, 999));
    let katha = all.account("Katha Petree");
    assert_eq!(katha.email.as_deref(), Some("Katha_Petree@example.com"));
    // Her manager's name leads nowhere, which is what the directory says.
    assert_eq!(katha.owner_key.as_deref(), Some("cn=crissie wayler"));
    let everybody = &all.entitlement("everybody").native_id;
    let orders: Vec<_> = all
        .accounts
        .iter()
        .take(100)
        .map(|account| order(&account.native_id, everybody))
        .collect();
    for result in writer(&source(&config)).unwrap().revoke_many(&orders).await {
        assert!(
            matches!(result, Ok(WriteOutcome::Applied { .. })),
            "{result:?}"
        );
    }
    assert_eq!(read_clean(&source(&config)).await.grants.len(), 899);
}

#[tokio::test]
async fn openldaps_own_test_data_is_read_with_all_its_groups() {
    let test = "openldaps_own_test_data_is_read_with_all_its_groups";
    let Some(path) = shared(test, "ldif/openldap-test-ordered.ldif") else {
        return;
    };
    let ldif = fs::read_to_string(path).unwrap();
    let slapd = start(&SlapdOptions::new("dc=example,dc=com").ldif(ldif));
    let all = read_clean(&source(&slapd.config())).await;
    assert_eq!(
        (all.accounts.len(), all.entitlements.len(), all.grants.len()),
        (11, 3, 22)
    );
}
