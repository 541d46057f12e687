//! Syncs of a real OpenLDAP server: whole, refused, referred elsewhere, gone in the middle.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::fmt::Write;

use counterfoil_chassis::{Engine, testing::TestDatabase};
use counterfoil_connectors::{
    SourceConfig,
    testing::{Slapd, SlapdOptions},
};
use counterfoil_evidence::leaf::GrantFlags;
use counterfoil_inventory::{
    jobs::Progress,
    store::{listing, syncs::State},
};
use support::{Estate, Lab, TENANT};

const SUFFIX: &str = "dc=example,dc=com";

fn person(name: &str) -> String {
    format!(
        "dn: uid={name},{SUFFIX}\nobjectClass: inetOrgPerson\nuid: {name}\ncn: {name}\nsn: {name}\n\
         mail: {name}@example.com\n\n"
    )
}

fn group(name: &str, members: &[&str]) -> String {
    let mut text = format!("dn: cn={name},{SUFFIX}\nobjectClass: groupOfNames\ncn: {name}\n");
    for member in members {
        writeln!(text, "member: {member},{SUFFIX}").unwrap();
    }
    text + "\n"
}

fn small() -> SlapdOptions {
    let text = person("amy")
        + &person("fry")
        + &group("crew", &["uid=amy", "uid=fry"])
        + &group("staff", &["cn=crew"]);
    SlapdOptions::new(SUFFIX).ldif(text)
}

async fn lab() -> (TestDatabase, Lab) {
    let db = TestDatabase::new(Engine::Sqlite).await;
    let lab = Lab::new(&db).await;
    (db, lab)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_with_nested_groups_is_sealed_whole() {
    let slapd = Slapd::start(&small()).unwrap();
    let (_db, lab) = lab().await;
    lab.add_configured("corp", &SourceConfig::Ldap(Box::new(slapd.config())))
        .await;
    let sync = lab.sync("corp").await;
    assert_eq!(sync.state, State::Complete, "{:?}", sync.error_messages);
    assert_eq!(
        (
            sync.counts.read.grants,
            sync.counts.inherited,
            sync.set_count
        ),
        (2, 2, 4)
    );
    let inherited = lab.leaves("corp").await;
    let inherited = inherited
        .iter()
        .filter(|leaf| leaf.flags.contains(GrantFlags::INHERITED));
    assert_eq!(inherited.count(), 2);
}

/// A directory keeps addresses as they were typed; a file has them as another system exports them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_in_mixed_case_and_a_key_in_capitals_are_one_identity() {
    let text =
        person("fry").replace("fry@example.com", "Fry@Example.com") + &group("crew", &["uid=fry"]);
    let slapd = Slapd::start(&SlapdOptions::new(SUFFIX).ldif(text)).unwrap();
    let (_db, lab) = lab().await;
    let mut staff = Estate::default();
    let fry = staff.person("p1");
    fry.identity_key = "FRY@EXAMPLE.COM".into();
    fry.lifecycle = "deprecated";
    lab.add_source("hr", &staff).await;
    lab.add_configured("corp", &SourceConfig::Ldap(Box::new(slapd.config())))
        .await;
    assert_eq!(lab.sync("hr").await.state, State::Complete);
    assert_eq!(lab.sync("corp").await.state, State::Complete);
    let identities = listing::list_identities(&lab.db, TENANT, &[], 10)
        .await
        .unwrap();
    let [fry] = identities.as_slice() else {
        panic!("{identities:?}")
    };
    assert_eq!(
        (fry.identity_key.as_str(), fry.accounts.len()),
        ("fry@example.com", 2)
    );
    let leaves = lab.leaves("corp").await;
    assert!(leaves[0].flags.contains(GrantFlags::IDENTITY_ENDED));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_referral_makes_the_sync_partial_and_is_named() {
    let referral = format!(
        "dn: ou=elsewhere,{SUFFIX}\nobjectClass: referral\nobjectClass: extensibleObject\nou: elsewhere\n\
         ref: ldap://other.invalid/ou=elsewhere,{SUFFIX}\n\n"
    );
    let slapd = Slapd::start(&small().ldif(referral)).unwrap();
    let (_db, lab) = lab().await;
    lab.add_configured("corp", &SourceConfig::Ldap(Box::new(slapd.config())))
        .await;
    let sync = lab.sync("corp").await;
    assert_eq!(sync.state, State::Partial);
    assert!(sync.partial_reasons.contains(&"row_error".to_owned()));
    let messages = sync.error_messages.join("; ");
    assert!(
        messages.contains("referral to ldap://other.invalid"),
        "{messages}"
    );
    assert!(lab.leaves("corp").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_refused_leaves_the_inventory_as_it_was() {
    let slapd = Slapd::start(&small()).unwrap();
    let (_db, lab) = lab().await;
    let mut config = slapd.config();
    let password = lab.files("secrets").join("reader");
    std::fs::copy(&config.reader.password_file, &password).unwrap();
    config.reader.password_file = password.clone();
    lab.add_configured("corp", &SourceConfig::Ldap(Box::new(config)))
        .await;
    assert_eq!(lab.sync("corp").await.state, State::Complete);
    let before = lab.leaves("corp").await;
    std::fs::write(password, "not the password").unwrap();
    let refused = lab.sync("corp").await;
    assert_eq!(
        refused.partial_reasons,
        ["reader_refused"],
        "{:?}",
        refused.error_messages
    );
    assert_eq!((refused.state, refused.set_count), (State::Partial, 0));
    assert_eq!(lab.leaves("corp").await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_in_the_middle_leaves_the_inventory_as_it_was() {
    let mut crowd = String::new();
    for number in 0..12_000 {
        crowd += &person(&format!("p{number:05}"));
    }
    crowd += &group("crew", &["uid=p00001"]);
    let mut slapd = Slapd::start(&SlapdOptions::new(SUFFIX).ldif(crowd)).unwrap();
    let (_db, lab) = lab().await;
    lab.add_configured("corp", &SourceConfig::Ldap(Box::new(slapd.config())))
        .await;
    let id = lab.ask("corp").await;
    let job = lab.job.clone();
    let runs = tokio::spawn(async move { job.run_once().await });
    // The first accounts are written after some 4,000 of the 12,000.
    loop {
        let written: i64 = sqlx::query_scalar("SELECT count(*) FROM accounts")
            .fetch_one(lab.db.read(TENANT).await.unwrap().conn())
            .await
            .unwrap();
        if written > 0 {
            break;
        }
        assert!(
            !lab.get(&id).await.state.is_sealed(),
            "it ended before it was killed"
        );
        tokio::task::yield_now().await;
    }
    slapd.kill().unwrap();
    assert_eq!(runs.await.unwrap().unwrap(), Progress::Sealed);
    let sync = lab.get(&id).await;
    assert_eq!((sync.state, sync.set_count), (State::Partial, 0));
    assert_eq!(
        sync.partial_reasons,
        ["source_died"],
        "{:?}",
        sync.error_messages
    );
    assert!(sync.counts.read.accounts >= 4_000, "{:?}", sync.counts);
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM accounts")
        .fetch_one(lab.db.read(TENANT).await.unwrap().conn())
        .await
        .unwrap();
    assert_eq!(left, 0);
}
