//! Reading a real OpenLDAP server: what is taken, and what every kind of trouble is answered with.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod support;

use std::fs;
use std::time::{Duration, Instant};

use counterfoil_connectors::testing::{Slapd, SlapdOptions};
use counterfoil_connectors::{
    AccountStatus, ConnectorError, IdentityClass, Page, ReadSummary, Result,
};
use support::ldif::{BASE, options, reader, source, start};
use support::{read_all, read_clean, row_errors};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

#[tokio::test]
async fn people_groups_nesting_and_memberships_are_read_whatever_their_spelling() {
    let slapd = start(&options());
    let mut config = slapd.config();
    config
        .account_class_filters
        .insert(IdentityClass::NonHuman, "(employeeType=Robot)".to_owned());
    config.privileged_group_filter = Some("(cn=all)".to_owned());
    config.page_size = 2;
    let all = read_clean(&source(&config)).await;
    assert_eq!((all.accounts.len(), all.entitlements.len()), (4, 6));
    assert_eq!((all.edges.len(), all.grants.len()), (1, 9));

    let amy = all.account("Amy Wong");
    assert_eq!(amy.identity_key.as_deref(), Some("amy@example.com"));
    assert_eq!(amy.owner_key.as_deref(), Some("jane.a@example.com"));
    assert_eq!(amy.purpose.as_deref(), Some("Intern"));
    assert_eq!(amy.native_id.len(), 36, "{}", amy.native_id);
    let star = all.account("Star (*) \\ Sky");
    assert_eq!(star.identity_key.as_deref(), Some("star"));
    assert_eq!(
        star.owner_key.as_deref(),
        Some("cn=nobody here,ou=people,dc=example,dc=com")
    );
    let robot = all.account("Robot");
    assert_eq!(
        (robot.identity_class, robot.identity_key.as_deref()),
        (IdentityClass::NonHuman, None)
    );
    assert_eq!(
        all.account("Doe, Jane").email.as_deref(),
        Some("jane.a@example.com")
    );

    let everybody = all.entitlement("all");
    assert!(everybody.privileged && !all.entitlement("crew").privileged);
    assert_eq!(everybody.owner_key.as_deref(), Some("jane.a@example.com"));
    assert_eq!(
        all.edges[0].child_native_id,
        all.entitlement("crew").native_id
    );
    assert_eq!(all.edges[0].parent_native_id, everybody.native_id);
    for (account, entitlement) in [
        ("Doe, Jane", "all"),
        ("Amy Wong", "crew"),
        ("Star (*) \\ Sky", "crew"),
        ("Robot", "unique"),
        ("Doe, Jane", "unique"),
        ("Amy Wong", "posix"),
        ("Doe, Jane", "posix"),
        ("Robot", "ad"),
        ("Robot", "last"),
    ] {
        assert!(
            all.holds(account, entitlement),
            "{account} in {entitlement}"
        );
    }
}

#[tokio::test]
async fn an_entry_keeps_its_id_when_it_is_renamed_and_has_its_name_when_it_shows_no_id() {
    let slapd = start(&options());
    let before = read_clean(&source(&slapd.config()))
        .await
        .account("Robot")
        .native_id
        .clone();
    slapd
        .modify("dn: cn=Robot,ou=people,dc=example,dc=com\nchangetype: modrdn\nnewrdn: cn=Bender\ndeleteoldrdn: 0\n")
        .unwrap();
    let mut reader = reader(&slapd.config());
    let (all, _) = read_all(reader.as_mut()).await;
    let renamed = all
        .accounts
        .iter()
        .find(|account| account.native_id == before);
    assert_eq!(renamed.unwrap().display_name, "Bender");

    let hidden = start(&options().access("access to attrs=entryUUID by * none"));
    let all = read_clean(&source(&hidden.config())).await;
    assert_eq!(
        all.account("Amy Wong").native_id,
        "cn=amy wong+sn=kroker,ou=people,dc=example,dc=com"
    );
    assert!(all.holds("Amy Wong", "crew"));
}

#[tokio::test]
async fn a_locked_account_is_disabled() {
    let slapd = start(&options());
    let mut config = slapd.config();
    config.disabled_filter = "(employeeType=Robot)".to_owned();
    let all = read_clean(&source(&config)).await;
    assert_eq!(all.account("Robot").status, AccountStatus::Disabled);
    assert_eq!(all.account("Amy Wong").status, AccountStatus::Active);
}

#[tokio::test]
async fn the_watermark_is_the_servers_own_change_stamp() {
    let slapd = start(&options());
    let config = slapd.config();
    let watermark = async || {
        read_all(reader(&config).as_mut())
            .await
            .1
            .unwrap()
            .watermark
            .unwrap()
    };
    let first = watermark().await;
    assert_eq!(first, watermark().await);
    slapd
        .modify("dn: cn=ad,ou=groups,dc=example,dc=com\nchangetype: modify\ndelete: member\n")
        .unwrap();
    assert!(watermark().await > first);
}

#[tokio::test]
async fn a_wrong_password_or_a_missing_one_is_told_clearly() {
    let slapd = start(&options());
    let config = slapd.config();
    let secret = &config.reader.password_file;
    fs::write(secret, "wrong\n").unwrap();
    let error = reader(&config).probe().await.unwrap_err();
    assert!(
        matches!(error, ConnectorError::AccessDenied { code: 49, .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("cn=reader,dc=example,dc=com is refused: invalid credentials"),
        "{error}"
    );
    fs::write(secret, "\n").unwrap();
    let error = reader(&config).probe().await.unwrap_err();
    assert!(
        matches!(error, ConnectorError::InvalidConfig { .. }),
        "{error}"
    );
    fs::remove_file(secret).unwrap();
    let error = read_all(reader(&config).as_mut()).await.1.unwrap_err();
    assert!(
        matches!(error, ConnectorError::InvalidConfig { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_reader_that_may_not_see_the_base_is_denied_and_never_taken_for_an_empty_directory() {
    let blind = start(&options().access(format!(
        "access to dn.subtree=\"{BASE}\" by anonymous auth by * none"
    )));
    let mut reader = reader(&blind.config());
    for error in [
        reader.probe().await.unwrap_err(),
        read_all(reader.as_mut()).await.1.unwrap_err(),
        reader.control_totals().await.unwrap_err(),
    ] {
        assert!(
            matches!(error, ConnectorError::AccessDenied { .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_reader_that_sees_no_accounts_or_no_members_leaves_the_sync_partial() {
    let rule = format!("access to dn.subtree=\"ou=people,{BASE}\" by anonymous auth by * none");
    let errors = row_errors(&source(&start(&options().access(rule)).config())).await;
    assert!(
        errors[0].contains("no entry matches account_filter"),
        "{errors:?}"
    );

    let rule = "access to attrs=member,uniqueMember,memberUid by * none";
    let errors = row_errors(&source(&start(&options().access(rule)).config())).await;
    assert_eq!(errors.len(), 4, "{errors:?}");
    assert!(
        errors[0].contains("shows no members although its class must have one"),
        "{errors:?}"
    );
}

#[tokio::test]
async fn what_a_group_names_and_nobody_knows_is_reported() {
    let odd = "\
dn: cn=odd,ou=groups,dc=example,dc=com
objectClass: groupOfNames
cn: odd
member: cn=gone,ou=people,dc=example,dc=com
member: cn=odd,ou=groups,dc=example,dc=com
member: cn=Robot,ou=people,dc=example,dc=com

dn: cn=uids,ou=groups,dc=example,dc=com
objectClass: posixGroup
cn: uids
gidNumber: 101
memberUid: nobody
memberUid: twin

dn: cn=Twin One,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
cn: Twin One
sn: One
uid: twin

dn: cn=Twin Two,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
cn: Twin Two
sn: Two
uid: twin
";
    let slapd = start(&options().ldif(odd));
    let mut errors = row_errors(&source(&slapd.config())).await;
    errors.sort_unstable();
    let expected = [
        "cn=odd,ou=groups,dc=example,dc=com: is a member of itself",
        "cn=odd,ou=groups,dc=example,dc=com: member \"cn=gone,ou=people,dc=example,dc=com\" names no account and no group this source reads",
        "cn=uids,ou=groups,dc=example,dc=com: memberUid \"nobody\" is the uid of no account this source reads",
        "cn=uids,ou=groups,dc=example,dc=com: memberUid \"twin\" is the uid of more than one account",
    ];
    assert_eq!(errors, expected);
    let mut reader = reader(&slapd.config());
    let totals = reader.control_totals().await.unwrap();
    let counts = read_all(reader.as_mut()).await.1.unwrap().counts;
    assert_eq!(totals.grants, counts.grants + 3);
}

#[tokio::test]
async fn a_name_that_misleads_the_eye_is_reported_and_its_access_is_read_all_the_same() {
    let odd = "\
dn: uid=odd,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: odd
cn:: YWTigK5uaW0=
sn: Odd

dn: cn=odd,ou=groups,dc=example,dc=com
objectClass: groupOfNames
cn: odd
member: uid=odd,ou=people,dc=example,dc=com
";
    let slapd = start(&options().ldif(odd));
    let (all, summary) = read_all(reader(&slapd.config()).as_mut()).await;
    let errors = summary.unwrap().errors;
    assert_eq!(errors.total(), 1, "{errors:?}");
    let reason = &errors.listed()[0].reason;
    assert!(
        reason.contains("text-direction character U+202E"),
        "{reason}"
    );
    let odd = all
        .accounts
        .iter()
        .find(|account| account.identity_key.as_deref() == Some("odd"))
        .unwrap();
    assert_eq!(odd.display_name, odd.native_id);
    assert!(
        all.grants
            .iter()
            .any(|grant| grant.account_native_id == odd.native_id)
    );
}

#[tokio::test]
async fn a_referral_is_named_and_not_followed() {
    let elsewhere = "\
dn: ou=elsewhere,dc=example,dc=com
objectClass: referral
objectClass: extensibleObject
ou: elsewhere
ref: ldap://other.invalid/ou=elsewhere,dc=example,dc=com
";
    let slapd = start(&options().ldif(elsewhere));
    let config = slapd.config();
    let errors = row_errors(&source(&config)).await;
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0].contains("referral to ldap://other.invalid/ou=elsewhere,dc=example,dc=com"),
        "{errors:?}"
    );
    assert!(errors[0].contains("is not followed"), "{errors:?}");

    let mut below = config.clone();
    below.base_dn = "ou=elsewhere,dc=example,dc=com".to_owned();
    let error = read_all(reader(&below).as_mut()).await.1.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("referral to another server, which is not followed"),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_sends_only_a_part_is_an_error_and_no_short_answer() {
    let slapd = start(&options().database("limits * size=3 size.prtotal=3"));
    let error = read_all(reader(&slapd.config()).as_mut())
        .await
        .1
        .unwrap_err();
    assert!(
        matches!(error, ConnectorError::Unreadable { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("limit exceeded"), "{error}");
}

#[tokio::test]
async fn a_filter_that_takes_an_entry_for_both_is_reported() {
    let slapd = start(&options());
    let mut config = slapd.config();
    config.group_filter = "(|(objectClass=groupOfNames)(cn=Robot))".to_owned();
    let errors = row_errors(&source(&config)).await;
    assert!(
        errors[0].contains("matches account_filter and group_filter"),
        "{errors:?}"
    );
}

#[test]
fn malformed_ldif_is_refused_by_slapadd_with_its_line() {
    for (ldif, words) in [
        (
            "dn: cn=a,dc=example,dc=com\nobjectClass inetOrgPerson\n",
            "line=",
        ),
        (
            "dn: cn=a,dc=example,dc=com\nobjectClass: inetOrgPerson\ncn: a\n",
            "object class 'inetOrgPerson' requires attribute 'sn'",
        ),
        (
            "dn: cn=a,ou=nowhere,dc=example,dc=com\nobjectClass: person\ncn: a\nsn: a\n",
            "entries missing!",
        ),
    ] {
        let error = Slapd::start(&options().ldif(ldif)).unwrap_err().to_string();
        assert!(
            error.starts_with("slapadd: ") && error.contains(words),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let mut slapd = start(&options());
    let config = slapd.config();
    slapd.kill().unwrap();
    let error = reader(&config).probe().await.unwrap_err();
    assert!(
        matches!(error, ConnectorError::Unreachable { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_after_the_timeout() {
    let slapd = start(&options());
    let mut config = slapd.config();
    config.connect_timeout_ms = 200;
    slapd.pause().unwrap();
    let started = Instant::now();
    let error = reader(&config).probe().await.unwrap_err();
    assert!(
        matches!(error, ConnectorError::Unreachable { .. }),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(10));
}

/// Three thousand people, so that a read is a matter of many pages.
fn crowd() -> SlapdOptions {
    let mut text = String::from(
        "dn: ou=people,dc=example,dc=com\nobjectClass: organizationalUnit\nou: people\n\n",
    );
    let mut group =
        String::from("dn: cn=crowd,dc=example,dc=com\nobjectClass: groupOfNames\ncn: crowd\n");
    for number in 0..3_000 {
        text.push_str(&format!(
            "dn: uid=u{number},ou=people,dc=example,dc=com\nobjectClass: inetOrgPerson\ncn: User {number}\nsn: {number}\nuid: u{number}\n\n"
        ));
        group.push_str(&format!(
            "member: uid=u{number},ou=people,dc=example,dc=com\n"
        ));
    }
    SlapdOptions::new(BASE).ldif(text).ldif(group)
}

/// Begins to read and stops at the first page; the reader is then held up by the pages nobody takes.
async fn first_page(slapd: &Slapd) -> (JoinHandle<Result<ReadSummary>>, mpsc::Receiver<Page>) {
    let (sink, mut pages) = mpsc::channel(1);
    let mut config = slapd.config();
    config.page_size = 100;
    config.operation_timeout_ms = 2_000;
    let mut reader = reader(&config);
    let reading = tokio::spawn(async move { reader.read(sink).await });
    assert_eq!(pages.recv().await.unwrap().records.len(), 1_000);
    (reading, pages)
}

#[tokio::test]
async fn a_server_that_dies_in_the_middle_is_an_error_after_the_pages_already_sent() {
    let mut slapd = start(&crowd());
    let (reading, mut pages) = first_page(&slapd).await;
    slapd.kill().unwrap();
    let mut rest = 0;
    while let Some(page) = pages.recv().await {
        rest += page.records.len();
    }
    assert!(rest < 5_000);
    match reading.await.unwrap().unwrap_err() {
        ConnectorError::Interrupted { pages, .. } => assert!(pages >= 1),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_in_the_middle_is_given_up() {
    let slapd = start(&crowd());
    let (reading, mut pages) = first_page(&slapd).await;
    slapd.pause().unwrap();
    while pages.recv().await.is_some() {}
    let error = reading.await.unwrap().unwrap_err();
    assert!(
        matches!(error, ConnectorError::Interrupted { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn what_changes_while_it_is_read_leaves_the_sync_partial() {
    let slapd = start(&crowd());
    let (reading, mut pages) = first_page(&slapd).await;
    let member = "uid=u7,ou=people,dc=example,dc=com";
    slapd
        .modify(&format!(
            "dn: cn=crowd,dc=example,dc=com\nchangetype: modify\ndelete: member\nmember: {member}\n"
        ))
        .unwrap();
    slapd
        .modify("dn: uid=u2999,ou=people,dc=example,dc=com\nchangetype: delete\n")
        .unwrap();
    while pages.recv().await.is_some() {}
    let errors = reading.await.unwrap().unwrap().errors;
    let reasons: Vec<String> = errors.listed().iter().map(ToString::to_string).collect();
    assert!(
        reasons.contains(
            &"cn=crowd,dc=example,dc=com: was changed while the directory was being read"
                .to_owned()
        ),
        "{reasons:?}"
    );
    assert!(
        reasons
            .iter()
            .any(|reason| reason.contains("went away while the directory was being read")),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn a_crowd_is_read_in_full_although_the_server_limits_every_single_answer() {
    let slapd = start(&crowd().database("sizelimit 500"));
    let all = read_clean(&source(&slapd.config())).await;
    assert_eq!((all.accounts.len(), all.grants.len()), (3_000, 3_000));
}
