//! Taking grants out of CSV sources.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use counterfoil_connectors::{
    ConnectorError, CsvConfig, GrantRef, RevokeRequest, SourceConfig, WriteOutcome, Writer, writer,
};
use support::{CsvSource, GRANTS, order, read_clean};

fn writer_of(source: &CsvSource) -> Box<dyn Writer> {
    writer(&source.config()).unwrap()
}

fn applied(outcome: WriteOutcome) -> ([u8; 32], [u8; 32]) {
    match outcome {
        WriteOutcome::Applied {
            before_hash,
            response_hash,
        } => (before_hash, response_hash),
        WriteOutcome::AlreadyAbsent => panic!("already absent"),
    }
}

#[tokio::test]
async fn a_revoked_grant_is_gone_and_everything_else_stays_byte_for_byte() {
    let source = CsvSource::new();
    fs::set_permissions(source.path("grants.csv"), fs::Permissions::from_mode(0o640)).unwrap();
    let mut writer = writer_of(&source);
    let grant = order("fry", "crew").grant();
    let state = writer.grant_state(&grant).await.unwrap().unwrap();
    let (before, response) = applied(writer.revoke(&order("fry", "crew")).await.unwrap());
    assert_eq!(before, state);
    assert_ne!(response, [0; 32]);
    assert_eq!(
        source.grants(),
        GRANTS.replace("fry,crew,,,,Delivery\n", "")
    );
    assert_eq!(
        fs::metadata(source.path("grants.csv")).unwrap().mode() & 0o7777,
        0o640
    );
    assert!(!writer.read_grant(&grant).await.unwrap());
    let all = read_clean(&source.config()).await;
    assert_eq!(all.grants.len(), 2);
}

#[tokio::test]
async fn the_owner_of_the_file_stays_its_owner() {
    let source = CsvSource::new();
    let path = source.path("grants.csv");
    // Only root can give a file away; anybody else keeps what is theirs.
    let given_away = std::os::unix::fs::chown(&path, Some(12345), Some(12345)).is_ok();
    let before = fs::metadata(&path).unwrap();
    writer_of(&source)
        .revoke(&order("fry", "crew"))
        .await
        .unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!((before.uid(), before.gid()), (after.uid(), after.gid()));
    assert_eq!(given_away, after.uid() == 12345);
    assert_ne!(before.ino(), after.ino());
}

#[tokio::test]
async fn revoking_twice_says_already_absent() {
    let source = CsvSource::new();
    let mut writer = writer_of(&source);
    applied(writer.revoke(&order("amy", "crew")).await.unwrap());
    let inode = fs::metadata(source.path("grants.csv")).unwrap().ino();
    assert_eq!(
        writer.revoke(&order("amy", "crew")).await.unwrap(),
        WriteOutcome::AlreadyAbsent
    );
    assert_eq!(
        inode,
        fs::metadata(source.path("grants.csv")).unwrap().ino()
    );
}

/// The totals are the exporting system's own: a removal here would make them false for ever, and could never be verified.
#[tokio::test]
async fn a_source_with_totals_of_its_own_is_refused_before_anything_is_touched() {
    let source = CsvSource::new();
    source.write(
        "control.csv",
        "type,count\naccounts,3\nentitlements,2\nedges,1\ngrants,3\n",
    );
    let before = fs::metadata(source.path("grants.csv")).unwrap().ino();
    let mut writer = writer_of(&source);
    for refused in [
        writer.probe().await.unwrap_err(),
        writer.revoke(&order("fry", "crew")).await.unwrap_err(),
    ] {
        assert!(
            matches!(refused, ConnectorError::Refused { .. }),
            "{refused}"
        );
        assert!(refused.to_string().contains("control.csv"), "{refused}");
    }
    assert_eq!(source.grants(), GRANTS);
    assert_eq!(
        fs::metadata(source.path("grants.csv")).unwrap().ino(),
        before
    );
    assert!(!source.path(".counterfoil.lock").exists());
    // It can still be read, and what a writer may look at it may still look at.
    read_clean(&source.config()).await;
    assert!(
        writer
            .read_grant(&order("fry", "crew").grant())
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn many_are_revoked_in_one_rewrite_with_a_result_each() {
    let source = CsvSource::new();
    let orders = [
        order("amy", "crew"),
        order("nobody", "crew"),
        order("cron", "admin"),
        order("amy", "crew"),
        RevokeRequest {
            expected_before: Some([7; 32]),
            ..order("fry", "crew")
        },
    ];
    let mut results = writer_of(&source).revoke_many(&orders).await.into_iter();
    let (_, first) = applied(results.next().unwrap().unwrap());
    assert_eq!(
        results.next().unwrap().unwrap(),
        WriteOutcome::AlreadyAbsent
    );
    let (_, third) = applied(results.next().unwrap().unwrap());
    assert_eq!(first, third);
    assert_eq!(
        results.next().unwrap().unwrap(),
        WriteOutcome::AlreadyAbsent
    );
    let refused = results.next().unwrap().unwrap_err();
    assert!(
        matches!(refused, ConnectorError::Refused { .. }),
        "{refused}"
    );
    assert_eq!(
        source.grants(),
        "account_native_id,entitlement_native_id,granted,expires,last_used,purpose\nfry,crew,,,,Delivery\n"
    );
    assert!(writer_of(&source).revoke_many(&[]).await.is_empty());
}

#[tokio::test]
async fn a_grant_that_is_still_what_was_expected_is_revoked() {
    let source = CsvSource::new();
    let mut writer = writer_of(&source);
    let expected_before = writer
        .grant_state(&order("fry", "crew").grant())
        .await
        .unwrap();
    assert!(expected_before.is_some());
    let request = RevokeRequest {
        expected_before,
        ..order("fry", "crew")
    };
    source.write(
        "grants.csv",
        GRANTS.replace("fry,crew,,,,Delivery", "fry,crew,,,,Piloting"),
    );
    let error = writer.revoke(&request).await.unwrap_err();
    assert!(matches!(error, ConnectorError::Refused { .. }), "{error}");
    source.write("grants.csv", GRANTS);
    applied(writer.revoke(&request).await.unwrap());
}

#[tokio::test]
async fn rows_that_the_reader_refuses_are_kept_as_they_are() {
    let source = CsvSource::new();
    let mut odd = b"=cmd,crew,,,,\nragged\n\n\xff\xfe,crew,,,,\n\"open,crew,,,,\n".to_vec();
    odd.extend(vec![b'z'; 300_000]);
    odd.extend(b"\r\n\"amy\",\"admin\",,,,\nlast,crew,,,,");
    source.append("grants.csv", &odd);
    let before = fs::read(source.path("grants.csv")).unwrap();
    let mut writer = writer_of(&source);
    applied(writer.revoke(&order("amy", "admin")).await.unwrap());
    let after = fs::read(source.path("grants.csv")).unwrap();
    let removed = b"\"amy\",\"admin\",,,,\n";
    let at = before
        .windows(removed.len())
        .position(|window| window == removed)
        .unwrap();
    let expected = [&before[..at], &before[at + removed.len()..]].concat();
    assert!(after == expected);
    applied(writer.revoke(&order("=cmd", "crew")).await.unwrap());
    applied(writer.revoke(&order("last", "crew")).await.unwrap());
}

#[tokio::test]
async fn what_cannot_be_replaced_is_refused_and_untouched() {
    let source = CsvSource::new();
    fs::rename(source.path("grants.csv"), source.path("real.csv")).unwrap();
    std::os::unix::fs::symlink(source.path("real.csv"), source.path("grants.csv")).unwrap();
    let error = writer_of(&source)
        .revoke(&order("amy", "crew"))
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectorError::Refused { .. }), "{error}");
    assert_eq!(fs::read_to_string(source.path("real.csv")).unwrap(), GRANTS);

    let source = CsvSource::new();
    source.write("grants.csv", "who,what\namy,crew\n");
    let error = writer_of(&source)
        .revoke(&order("amy", "crew"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, ConnectorError::NotAttempted { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("wrong header"), "{error}");

    fs::remove_file(source.path("grants.csv")).unwrap();
    let error = writer_of(&source)
        .revoke(&order("amy", "crew"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, ConnectorError::NotAttempted { .. }),
        "{error}"
    );
    assert!(
        writer_of(&source)
            .read_grant(&order("amy", "crew").grant())
            .await
            .is_err()
    );
    assert!(writer_of(&source).probe().await.is_err());
}

#[tokio::test]
async fn a_writer_waits_for_another_one_but_not_forever() {
    let source = CsvSource::new();
    let mut config = CsvConfig::new(source.directory.path());
    config.lock_timeout_ms = 100;
    let mut writer = writer(&SourceConfig::Csv(config)).unwrap();
    writer.probe().await.unwrap();
    let other = fs::File::options()
        .write(true)
        .open(source.path(".counterfoil.lock"))
        .unwrap();
    other.lock().unwrap();
    let error = writer.revoke(&order("amy", "crew")).await.unwrap_err();
    assert!(
        matches!(error, ConnectorError::NotAttempted { .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("another writer held .counterfoil.lock"),
        "{error}"
    );
    assert_eq!(source.grants(), GRANTS);
    other.unlock().unwrap();
    applied(writer.revoke(&order("amy", "crew")).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_at_the_same_time_lose_nothing() {
    let source = CsvSource::new();
    let mut grants = String::from("account_native_id,entitlement_native_id\n");
    for number in 0..40 {
        grants.push_str(&format!("u{number},crew\n"));
    }
    source.write("grants.csv", grants);
    let tasks: Vec<_> = (0..40)
        .map(|number| {
            let mut writer = writer_of(&source);
            tokio::spawn(async move { writer.revoke(&order(&format!("u{number}"), "crew")).await })
        })
        .collect();
    for task in tasks {
        applied(task.await.unwrap().unwrap());
    }
    assert_eq!(source.grants(), "account_native_id,entitlement_native_id\n");
}

#[tokio::test]
async fn many_grants_are_read_back_in_one_pass() {
    let source = CsvSource::new();
    let grants: Vec<GrantRef> = [
        ("amy", "crew"),
        ("amy", "admin"),
        ("amy", "crew"),
        ("cron", "admin"),
    ]
    .map(|(account, entitlement)| order(account, entitlement).grant())
    .to_vec();
    let held: Vec<bool> = writer_of(&source)
        .read_grants(&grants)
        .await
        .into_iter()
        .map(|held| held.unwrap())
        .collect();
    assert_eq!(held, [true, false, true, true]);
}

#[tokio::test]
async fn reader_and_writer_may_reach_the_files_by_different_paths() {
    let source = CsvSource::new();
    let writable = source.path("writable");
    std::os::unix::fs::symlink(source.directory.path(), &writable).unwrap();
    let mut config = CsvConfig::new(source.directory.path());
    config.writer_directory = Some(writable);
    let config = SourceConfig::Csv(config);
    let mut writer = writer(&config).unwrap();
    applied(writer.revoke(&order("amy", "crew")).await.unwrap());
    assert_eq!(read_clean(&config).await.grants.len(), 2);
    assert_ne!(
        writer.principal(),
        counterfoil_connectors::reader(&config).unwrap().principal()
    );
}
