//! Real directory servers: read by one bind, changed by LDAP under another, read back, proved, and looked at under a third.

use std::collections::BTreeSet;
use std::path::Path;

use counterfoil_connectors::{LdapConfig, SourceConfig};
use counterfoil_evidence::v1;
use counterfoil_tests::cycle::{Cycle, Played};
use counterfoil_tests::decisions::Decision;
use counterfoil_tests::evidence::Evidence;
use counterfoil_tests::ldap::{self, LdapEstate};
use counterfoil_tests::repository::shared_data;
use counterfoil_tests::source;

/// What the directory holds, asked as its administrator, who is neither the suite's reader nor its writer.
async fn grants(estate: &LdapEstate) -> BTreeSet<(String, String)> {
    let slapd = &estate.slapd;
    let config = LdapConfig::new(
        slapd.url(),
        slapd.base_dn().to_owned(),
        slapd.admin(),
        slapd.writer(),
    );
    let config = SourceConfig::Ldap(Box::new(config));
    source::read(&config).await.unwrap().grants()
}

async fn governed(estate: &LdapEstate, folder: &Path) -> Played {
    let before = grants(estate).await;
    assert_eq!(before.len(), estate.grants);
    let played = Cycle::new(&folder.join("data"))
        .on(&folder.join("estate"))
        .play()
        .unwrap();
    let stays: BTreeSet<(String, String)> = estate
        .decisions
        .iter()
        .filter(|row| matches!(row.decision, Decision::Accept | Decision::Exception))
        .map(|row| (row.account.clone(), row.entitlement.clone()))
        .collect();
    assert_eq!(
        grants(estate).await,
        stays,
        "the directory holds what was decided"
    );
    let outcome = &played.outcome;
    assert_eq!(
        outcome.count("accepted") + outcome.count("excepted"),
        stays.len() as u64
    );
    assert_eq!(
        outcome.removals_verified,
        (before.len() - stays.len()) as u64
    );
    assert_eq!(outcome.campaign_state, "CLOSED");
    let report = outcome.verify().unwrap();
    assert!(report.is_ok(), "{report}");
    played
}

/// Who read is who did not write, in every proof of the bundle.
fn read_back_under_another_bind(played: &Played) {
    let evidence = Evidence::open(&played.outcome.bundle).unwrap();
    let registered = evidence.of::<v1::SourceRegistered>().unwrap();
    let [(_, registered)] = registered.as_slice() else {
        panic!("{registered:?}")
    };
    assert_eq!(registered.kind, "ldap");
    assert_ne!(registered.reader_principal, registered.writer_principal);
    let effects = evidence.of::<v1::EffectVerified>().unwrap();
    assert!(!effects.is_empty());
    for (_, effect) in effects {
        assert_eq!(effect.reader_principal, registered.reader_principal);
        assert_eq!(effect.method(), v1::VerificationMethod::IndependentReader);
    }
    for (_, attempt) in evidence.of::<v1::ActionAttempted>().unwrap() {
        assert_eq!(attempt.executor, registered.writer_principal);
        assert_eq!(attempt.result(), v1::AttemptResult::Ok);
    }
}

#[tokio::test]
async fn planet_express_is_reviewed_revoked_by_ldap_and_proved_under_another_bind() {
    let test = "planet_express_is_reviewed_revoked_by_ldap_and_proved_under_another_bind";
    let Some(shared) = shared_data(test) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let estate = ldap::planet_express(&folder.path().join("estate"), &shared)
        .await
        .unwrap();
    let played = governed(&estate, folder.path()).await;
    // Two revoked, and Leela, on whom nobody decided.
    assert_eq!(played.outcome.removals_verified, 3);
    read_back_under_another_bind(&played);
}

#[tokio::test]
async fn a_directory_of_a_thousand_people_is_reviewed_revoked_by_ldap_and_proved() {
    let test = "a_directory_of_a_thousand_people_is_reviewed_revoked_by_ldap_and_proved";
    let Some(shared) = shared_data(test) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let estate = ldap::thousand_people(&folder.path().join("estate"), &shared)
        .await
        .unwrap();
    let played = governed(&estate, folder.path()).await;
    assert!(played.outcome.removals_verified > 80);
    assert!(played.outcome.count("excepted") > 10);
    assert!(played.story.contains("more follow from them"));
    read_back_under_another_bind(&played);
}
