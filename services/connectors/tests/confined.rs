//! Sources that are held to a directory: their paths lie below it, whatever links and `..` say.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use counterfoil_connectors::{
    ConnectorError, CsvConfig, LdapBind, LdapConfig, SourceConfig, reader, writer,
};
use support::{CsvSource, read_clean};
use tempfile::TempDir;

fn csv(directory: impl AsRef<Path>) -> SourceConfig {
    SourceConfig::Csv(CsvConfig::new(directory.as_ref()))
}

fn ldap(reader: &Path, writer: &Path) -> SourceConfig {
    let bind = |name: &str, file: &Path| LdapBind {
        dn: format!("cn={name},dc=example"),
        password_file: file.to_owned(),
    };
    let (reads, writes) = (bind("reader", reader), bind("writer", writer));
    let config = LdapConfig::new("ldap://127.0.0.1:1", "dc=example", reads, writes);
    SourceConfig::Ldap(Box::new(config))
}

fn refusal(mut config: SourceConfig, root: &Path) -> (String, String) {
    match config.confine(root).unwrap_err() {
        ConnectorError::InvalidConfig { field, reason } => (field, reason),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn what_lies_below_the_root_is_read_and_named_by_its_real_path() {
    let source = CsvSource::new();
    let root = source.directory.path().parent().unwrap();
    let mut config = csv(source
        .directory
        .path()
        .join("..")
        .join(source.directory.path().file_name().unwrap()));
    let hash = source.config().config_hash();
    config.confine(root).unwrap();
    let SourceConfig::Csv(confined) = &config else {
        panic!("{config:?}")
    };
    assert_eq!(
        confined.directory,
        source.directory.path().canonicalize().unwrap()
    );
    assert_eq!(config.config_hash(), hash);
    assert_eq!(read_clean(&config).await.grants.len(), 3);
}

#[test]
fn what_lies_elsewhere_and_what_does_not_exist_are_refused_alike() {
    let root = TempDir::new().unwrap();
    let elsewhere = CsvSource::new();
    let inside = root.path().join("password");
    fs::write(&inside, "secret").unwrap();
    fs::write(elsewhere.path("admin.token"), "secret").unwrap();
    symlink(elsewhere.directory.path(), root.path().join("link")).unwrap();
    // A sibling whose name begins alike is not below.
    let sibling = format!("{}-other", root.path().display());
    fs::create_dir(&sibling).unwrap();
    let up = root
        .path()
        .join("..")
        .join(elsewhere.directory.path().file_name().unwrap());
    let nothing = root.path().join("nothing");
    for directory in [
        elsewhere.directory.path(),
        &root.path().join("link"),
        &up,
        Path::new(&sibling),
        &nothing,
        Path::new("/nowhere/at/all"),
        Path::new("."),
    ] {
        let (field, reason) = refusal(csv(directory), root.path());
        assert_eq!(field, "directory");
        assert!(!reason.contains('/'), "{reason}");
        let (_, absent) = refusal(csv("/nowhere"), root.path());
        assert_eq!(reason, absent);
    }
    fs::remove_dir(&sibling).unwrap();
    let token = elsewhere.path("admin.token");
    assert_eq!(
        refusal(ldap(&token, &inside), root.path()).0,
        "reader.password_file"
    );
    assert_eq!(
        refusal(ldap(&inside, &token), root.path()).0,
        "writer.password_file"
    );
    ldap(&inside, &inside).confine(root.path()).unwrap();
    let mut two = CsvConfig::new(root.path());
    two.writer_directory = Some(elsewhere.directory.path().to_owned());
    assert_eq!(
        refusal(SourceConfig::Csv(two), root.path()).0,
        "writer_directory"
    );
    assert_eq!(refusal(csv(root.path()), &nothing).0, "directory");
}

#[test]
fn a_link_that_leads_out_is_found_at_every_use() {
    let root = TempDir::new().unwrap();
    let elsewhere = CsvSource::new();
    let own = root.path().join("estate");
    fs::create_dir(&own).unwrap();
    for file in ["accounts.csv", "entitlements.csv", "grants.csv"] {
        fs::copy(elsewhere.path(file), own.join(file)).unwrap();
    }
    let mut config = csv(&own);
    config.confine(root.path()).unwrap();
    let refused = |config: &SourceConfig| {
        reader(config).is_err()
            && writer(config).is_err()
            && config.clone().confine(root.path()).is_err()
    };
    assert!(!refused(&config));
    // Also one that leads to nothing: opening a lock file would make it.
    for (file, target) in [
        ("accounts.csv", elsewhere.path("accounts.csv")),
        (".counterfoil.lock", elsewhere.path("new")),
    ] {
        let _ = fs::remove_file(own.join(file));
        symlink(&target, own.join(file)).unwrap();
        assert!(refused(&config), "{file}");
        fs::remove_file(own.join(file)).unwrap();
        assert!(!refused(&config), "{file}");
    }
    fs::rename(&own, root.path().join("away")).unwrap();
    symlink(elsewhere.directory.path(), &own).unwrap();
    assert!(refused(&config));
    // The same source without a root is the business of whoever owns the machine.
    assert!(reader(&csv(&own)).is_ok());
}
