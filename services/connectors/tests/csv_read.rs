//! Reading CSV sources: what is taken, and what every kind of bad input is answered with.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod support;

use std::fs;
use std::io::Write as _;

use counterfoil_connectors::{
    AccountStatus, ConnectorError, ControlTotals, CsvConfig, IdentityClass, Lifecycle,
    ROW_ERRORS_LISTED, Sensitivity, SourceConfig, reader,
};
use support::{CsvSource, GRANTS, read_all, read_clean, row_errors};
use tokio::sync::mpsc;

#[tokio::test]
async fn every_column_arrives_where_it_belongs() {
    let source = CsvSource::new();
    let all = read_clean(&source.config()).await;
    let amy = all.account("Amy Wong");
    assert_eq!(amy.native_id, "amy");
    assert_eq!(amy.identity_key.as_deref(), Some("amy@planetexpress.com"));
    assert_eq!(amy.last_seen_ms, Some(1_769_860_800_000));
    assert_eq!(amy.lifecycle, Some(Lifecycle::Active));
    assert_eq!(
        all.account("Fry, Philip J.").identity_class,
        IdentityClass::Workforce
    );
    let cron = all.account("Nightly backup");
    assert_eq!(
        (cron.identity_class, cron.status),
        (IdentityClass::NonHuman, AccountStatus::Disabled)
    );
    assert_eq!(
        (cron.identity_key.as_deref(), cron.purpose.as_deref()),
        (None, Some("Copies \"x\""))
    );
    let admin = all.entitlement("Administrators");
    assert_eq!(
        (admin.privileged, admin.sensitivity),
        (true, Sensitivity::Critical)
    );
    assert_eq!(all.edges[0].child_native_id, "admin");
    assert_eq!(all.edges[0].parent_native_id, "crew");
    assert_eq!(all.grants.len(), 3);
    assert_eq!(all.grants[2].expires_ms, Some(1_798_671_600_000));
    assert_eq!(all.grants[1].purpose.as_deref(), Some("Delivery"));
}

#[tokio::test]
async fn optional_files_and_columns_may_be_missing_and_columns_may_be_reordered() {
    let source = CsvSource::new();
    fs::remove_file(source.path("edges.csv")).unwrap();
    source.write(
        "accounts.csv",
        "\u{feff}identity_key,native_id,display_name\r\n,amy,Amy\r\nf,fry,Fry\r\n,cron,Cron",
    );
    source.write(
        "entitlements.csv",
        "native_id,display_name\ncrew,Crew\nadmin,Admin\n",
    );
    let all = read_clean(&source.config()).await;
    assert_eq!(all.accounts.len(), 3);
    assert_eq!(all.accounts[1].identity_key.as_deref(), Some("f"));
    assert_eq!(all.entitlements[0].kind, "entitlement");
}

#[tokio::test]
async fn a_wrong_header_names_the_file_and_what_was_expected_and_shows_nothing_of_it() {
    for (header, words) in [
        (
            "native_id,secret,identity_key",
            "column 2 is none of this file",
        ),
        ("native_id,display_name", "\"identity_key\" is missing"),
        (
            "native_id,native_id,display_name,identity_key",
            "\"native_id\" stands twice",
        ),
        (
            "native_id;display_name;secret",
            "column 1 is none of this file",
        ),
        ("", "column 1 is none of this file"),
    ] {
        let source = CsvSource::new();
        source.write("accounts.csv", format!("{header}\namy,Amy,a\n"));
        let mut reader = reader(&source.config()).unwrap();
        let (_, read) = read_all(reader.as_mut()).await;
        for error in [read.unwrap_err(), reader.probe().await.unwrap_err()] {
            let text = error.to_string();
            assert!(text.starts_with("accounts.csv: wrong header"), "{text}");
            assert!(text.contains(words), "{text}");
            assert!(
                text.contains("expected native_id,display_name,identity_key"),
                "{text}"
            );
            assert!(!text.contains("secret"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_missing_file_is_named() {
    for file in ["accounts.csv", "entitlements.csv", "grants.csv"] {
        let source = CsvSource::new();
        fs::remove_file(source.path(file)).unwrap();
        let mut reader = reader(&source.config()).unwrap();
        for error in [
            reader.probe().await.unwrap_err(),
            read_all(reader.as_mut()).await.1.unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(
                text.starts_with(&format!("{file}: is missing in ")),
                "{text}"
            );
        }
        assert!(
            reader
                .control_totals()
                .await
                .unwrap_err()
                .to_string()
                .starts_with(file)
        );
    }
    let source = CsvSource::new();
    source.write("grants.csv", "");
    let mut reader = reader(&source.config()).unwrap();
    let error = read_all(reader.as_mut()).await.1.unwrap_err().to_string();
    assert_eq!(error, "grants.csv: is empty: it has no header");
}

#[tokio::test]
async fn a_missing_directory_is_unreachable() {
    let source = CsvSource::new();
    let config = SourceConfig::Csv(CsvConfig::new(source.path("nowhere")));
    let error = reader(&config).unwrap().probe().await.unwrap_err();
    assert!(
        matches!(error, ConnectorError::Unreachable { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_file_that_is_none_is_refused_instead_of_waited_for() {
    let source = CsvSource::new();
    fs::remove_file(source.path("grants.csv")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(source.path("grants.csv"))
        .status()
        .unwrap();
    assert!(made.success());
    let error = read_all(reader(&source.config()).unwrap().as_mut())
        .await
        .1
        .unwrap_err()
        .to_string();
    assert_eq!(error, "grants.csv: is not a regular file");
}

/// File, row put at its end, and what the row error must say.
const BAD_ROWS: &[(&str, &[u8], &str)] = &[
    (
        "accounts.csv",
        b"leela,Leela\n",
        "has 2 fields, the header has 11",
    ),
    ("accounts.csv", b"\n", "is empty"),
    (
        "accounts.csv",
        b"le\xffla,L,,,,,,,,,\n",
        "is not UTF-8 at byte 3 of the line",
    ),
    (
        "accounts.csv",
        b"amy,Another Amy,,,,,,,,,\n",
        "repeats the native_id \"amy\"",
    ),
    ("accounts.csv", b",Nobody,,,,,,,,,\n", "native_id is empty"),
    ("accounts.csv", b"x,,,,,,,,,,\n", "display_name is empty"),
    (
        "accounts.csv",
        b"=cmd,Leela,,,,,,,,,\n",
        "native_id \"=cmd\": starts with =, which a spreadsheet runs as a formula",
    ),
    (
        "accounts.csv",
        b"leela,+Leela,,,,,,,,,\n",
        "display_name \"+Leela\": starts with +",
    ),
    ("accounts.csv", b"leela,-Leela,,,,,,,,,\n", "starts with -"),
    ("accounts.csv", b"leela,@Leela,,,,,,,,,\n", "starts with @"),
    (
        "accounts.csv",
        b"leela,\tLeela,,,,,,,,,\n",
        "starts with \\t",
    ),
    (
        "accounts.csv",
        b"leela,\"\rLeela\",,,,,,,,,\n",
        "starts with \\r",
    ),
    (
        "accounts.csv",
        "leela,Lee\u{202e}al,,,,,,,,,\n".as_bytes(),
        "contains the text-direction character U+202E",
    ),
    (
        "accounts.csv",
        "leela,Lee\u{200b}la,,,,,,,,,\n".as_bytes(),
        "contains the invisible character U+200B",
    ),
    (
        "accounts.csv",
        b"leela,Lee\x07la,,,,,,,,,\n",
        "contains the control character U+0007",
    ),
    (
        "accounts.csv",
        b"leela,Leela ,,,,,,,,,\n",
        "starts or ends with a space",
    ),
    (
        "accounts.csv",
        b"leela,Leela,,,human,,,,,,\n",
        "identity_class \"human\" is none of workforce, privileged",
    ),
    (
        "accounts.csv",
        b"leela,Leela,,,,,,yesterday,,,\n",
        "last_seen \"yesterday\" is neither a date",
    ),
    (
        "accounts.csv",
        b"leela,\"Leela,,,,,,,,,\n",
        "has a quote that is not closed on the same line",
    ),
    (
        "accounts.csv",
        b"leela,Le\"ela,,,,,,,,,\n",
        "has a quote inside an unquoted field",
    ),
    (
        "entitlements.csv",
        b"crew,Again,,,,,\n",
        "repeats the native_id \"crew\"",
    ),
    (
        "entitlements.csv",
        b"x,X,,yes,,,\n",
        "privileged \"yes\" is none of true, false",
    ),
    (
        "entitlements.csv",
        b"x,X,,,,,secret\n",
        "sensitivity \"secret\" is none of",
    ),
    ("edges.csv", b"crew,crew\n", "\"crew\" is its own parent"),
    (
        "edges.csv",
        b"admin,crew\n",
        "repeats the edge from \"admin\" to \"crew\"",
    ),
    (
        "edges.csv",
        b"admin,nowhere\n",
        "names the entitlement \"nowhere\", of which no row of entitlements.csv was taken",
    ),
    (
        "grants.csv",
        b"amy,crew,,,,\n",
        "repeats the grant of \"crew\" to \"amy\"",
    ),
    (
        "grants.csv",
        b"zoidberg,crew,,,,\n",
        "names the account \"zoidberg\", of which no row of accounts.csv was taken",
    ),
    (
        "grants.csv",
        b"amy,nowhere,,,,\n",
        "names the entitlement \"nowhere\"",
    ),
    (
        "grants.csv",
        b"amy,admin,2026-02-30,,,\n",
        "granted \"2026-02-30\" is neither a date",
    ),
];

#[tokio::test]
async fn every_bad_row_is_reported_with_file_line_and_reason_and_the_others_are_taken() {
    for (file, row, reason) in BAD_ROWS {
        let source = CsvSource::new();
        let line = fs::read_to_string(source.path(file))
            .unwrap()
            .lines()
            .count()
            + 1;
        source.append(file, row);
        let errors = row_errors(&source.config()).await;
        assert_eq!(errors.len(), 1, "{file} {row:?}: {errors:?}");
        assert!(
            errors[0].starts_with(&format!("{file}, line {line}: ")),
            "{}",
            errors[0]
        );
        assert!(
            errors[0].contains(reason),
            "{} does not say {reason}",
            errors[0]
        );

        let mut reader = reader(&source.config()).unwrap();
        let (all, summary) = read_all(reader.as_mut()).await;
        let taken = (
            all.accounts.len(),
            all.entitlements.len(),
            all.edges.len(),
            all.grants.len(),
        );
        assert_eq!(taken, (3, 2, 1, 3), "{file} {row:?}");
        assert!(!summary.unwrap().is_clean());
    }
}

#[tokio::test]
async fn the_sources_own_count_includes_the_rows_that_were_refused() {
    let source = CsvSource::new();
    source.append("grants.csv", "zoidberg,crew,,,,\n");
    let mut reader = reader(&source.config()).unwrap();
    let totals = reader.control_totals().await.unwrap();
    let counts = read_all(reader.as_mut()).await.1.unwrap().counts;
    assert_eq!((totals.grants, counts.grants), (4, 3));
    assert_eq!(totals.sum(), 10);
}

#[tokio::test]
async fn a_control_file_is_believed_over_our_own_count() {
    let source = CsvSource::new();
    source.write(
        "control.csv",
        "type,count\naccounts,3\nentitlements,2\nedges,1\ngrants,4\n",
    );
    let totals = reader(&source.config())
        .unwrap()
        .control_totals()
        .await
        .unwrap();
    let expected = ControlTotals {
        accounts: 3,
        entitlements: 2,
        edges: 1,
        grants: 4,
    };
    assert_eq!(totals, expected);
    for (content, reason) in [
        (
            "type,count\naccounts,3\nentitlements,2\n",
            "control.csv: has no row for grants",
        ),
        (
            "type,count\naccounts,three\n",
            "control.csv, line 2: count \"three\" is not a whole number",
        ),
        (
            "type,count\npeople,3\n",
            "control.csv, line 2: type \"people\" is none of accounts",
        ),
        (
            "type,count\naccounts,3\naccounts,3\n",
            "control.csv, line 3: repeats the type \"accounts\"",
        ),
        ("kind,count\n", "control.csv: wrong header"),
    ] {
        source.write("control.csv", content);
        let error = reader(&source.config())
            .unwrap()
            .control_totals()
            .await
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(reason), "{error}");
    }
}

#[tokio::test]
async fn a_line_of_100_mib_is_refused_in_bounded_memory_and_the_next_is_read() {
    let source = CsvSource::new();
    {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(source.path("accounts.csv"))
            .unwrap();
        let block = vec![b'x'; 1 << 20];
        for _ in 0..100 {
            file.write_all(&block).unwrap();
        }
        file.write_all(b"\nleela,Leela,,,,,,,,,\n").unwrap();
    }
    let before_kib = resident_kib_max();
    let mut reader = reader(&source.config()).unwrap();
    let (all, summary) = read_all(reader.as_mut()).await;
    let grown_kib = resident_kib_max() - before_kib;
    let errors = summary.unwrap().errors;
    assert_eq!(
        errors.listed()[0].to_string(),
        "accounts.csv, line 5: is longer than 65536 bytes"
    );
    assert_eq!(errors.total(), 1);
    assert_eq!(all.account("Leela").native_id, "leela");
    assert!(grown_kib < 32 * 1024, "memory grew by {grown_kib} KiB");
}

/// The most memory this process ever held.
fn resident_kib_max() -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn endless_errors_are_counted_but_not_all_kept() {
    let source = CsvSource::new();
    source.append("grants.csv", "nobody,crew,,,,\n".repeat(5_000));
    let (_, summary) = read_all(reader(&source.config()).unwrap().as_mut()).await;
    let errors = summary.unwrap().errors;
    assert_eq!(
        (errors.total(), errors.listed().len()),
        (5_000, ROW_ERRORS_LISTED)
    );
}

fn many_grants() -> (String, String) {
    let mut accounts = String::from("native_id,display_name,identity_key\n");
    let mut grants = String::from("account_native_id,entitlement_native_id\n");
    for number in 0..20_000 {
        accounts.push_str(&format!("u{number},User {number},k{number}\n"));
        grants.push_str(&format!("u{number},crew\n"));
    }
    (accounts, grants)
}

#[tokio::test]
async fn pages_are_bounded_and_the_reader_waits_for_whoever_takes_them() {
    let source = CsvSource::new();
    let (accounts, grants) = many_grants();
    source.write("accounts.csv", accounts);
    source.write("grants.csv", grants);
    let (sink, mut pages) = mpsc::channel(1);
    let mut reader = reader(&source.config()).unwrap();
    let reading = tokio::spawn(async move { reader.read(sink).await });
    let first = pages.recv().await.unwrap();
    assert_eq!((first.number, first.records.len()), (0, 1_000));
    drop(pages);
    assert_eq!(
        reading.await.unwrap().unwrap_err(),
        ConnectorError::SinkClosed
    );
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_leaves_the_sync_partial() {
    type Change = fn(&CsvSource);
    let changes: [(&str, Change, &str); 4] = [
        (
            "replaced",
            |source| {
                source.write("new", GRANTS);
                fs::rename(source.path("new"), source.path("grants.csv")).unwrap();
            },
            "grants.csv: was replaced by another file while it was being read",
        ),
        (
            "appended",
            |source| source.append("accounts.csv", "late,Late,\n"),
            "accounts.csv: was changed while it was being read",
        ),
        (
            "removed",
            |source| fs::remove_file(source.path("entitlements.csv")).unwrap(),
            "entitlements.csv: went away while it was being read",
        ),
        (
            "appeared",
            |source| source.write("edges.csv", "child_native_id,parent_native_id\n"),
            "edges.csv: appeared while it was being read",
        ),
    ];
    for (name, change, reason) in changes {
        let source = CsvSource::new();
        let (accounts, grants) = many_grants();
        source.write("accounts.csv", accounts);
        source.write("grants.csv", grants);
        fs::remove_file(source.path("edges.csv")).unwrap();
        let (sink, mut pages) = mpsc::channel(1);
        let mut reader = reader(&source.config()).unwrap();
        let reading = tokio::spawn(async move { reader.read(sink).await });
        // The reader now waits at one of the next pages, far from the end of the first file.
        pages.recv().await.unwrap();
        change(&source);
        while pages.recv().await.is_some() {}
        let errors = reading.await.unwrap().unwrap().errors;
        let found = errors
            .listed()
            .iter()
            .any(|error| error.to_string() == reason);
        assert!(found, "{name}: {errors:?}");
    }
}

#[tokio::test]
async fn the_watermark_changes_with_the_content_and_only_then() {
    let source = CsvSource::new();
    let watermark = async || {
        let mut reader = reader(&source.config()).unwrap();
        read_all(reader.as_mut())
            .await
            .1
            .unwrap()
            .watermark
            .unwrap()
    };
    let first = watermark().await;
    assert_eq!(first, watermark().await);
    source.append("grants.csv", "fry,admin,,,,\n");
    let second = watermark().await;
    assert_ne!(first.split(';').next(), second.split(';').next());
    assert!(
        second.starts_with("sha256:") && second.contains(";mtime_ms:"),
        "{second}"
    );
}
