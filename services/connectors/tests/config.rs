//! How a source is described.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use counterfoil_connectors::{ConnectorError, IdentityClass, SourceConfig, reader, writer};

const LDAP: &str = r#"
kind = "ldap"
url = "ldaps://directory.example.com"
base_dn = "dc=example,dc=com"
reader = { dn = "cn=reader,dc=example,dc=com", password_file = "/run/secrets/reader" }
writer = { dn = "cn=writer,dc=example,dc=com", password_file = "/run/secrets/writer" }
"#;
const CSV: &str = "kind = \"csv\"\ndirectory = \"/srv/estate\"\n";

fn parsed(text: &str) -> SourceConfig {
    toml::from_str(text).unwrap()
}

fn field(text: &str) -> String {
    match parsed(text).validate().unwrap_err() {
        ConnectorError::InvalidConfig { field, .. } => field,
        other => panic!("{other}"),
    }
}

#[test]
fn both_kinds_are_read_from_toml_and_survive_json() {
    for text in [LDAP, CSV] {
        let config = parsed(text);
        config.validate().unwrap();
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<SourceConfig>(&json).unwrap(), config);
        assert_eq!(
            reader(&config).unwrap().principal(),
            config.reader_principal()
        );
        assert_eq!(
            writer(&config).unwrap().principal(),
            config.writer_principal()
        );
    }
    assert_eq!(parsed(CSV).reader_principal(), "csv-reader@estate");
    assert_eq!(parsed(CSV).writer_principal(), "csv-writer@estate");
    assert_eq!(parsed(LDAP).kind(), "ldap");
}

#[test]
fn unknown_keys_and_kinds_are_refused() {
    for text in [
        format!("{CSV}delimiter = \";\"\n"),
        format!("{LDAP}password = \"secret\"\n"),
        LDAP.replace("\"ldap\"", "\"ldapx\""),
        LDAP.replace(
            "password_file = \"/run/secrets/reader\"",
            "password = \"x\"",
        ),
    ] {
        assert!(toml::from_str::<SourceConfig>(&text).is_err(), "{text}");
    }
}

#[test]
fn a_wrong_value_is_named_by_its_key() {
    let ldap = |from: &str, to: &str| field(&LDAP.replace(from, to));
    assert_eq!(ldap("ldaps://directory.example.com", "http://x"), "url");
    assert_eq!(ldap("ldaps://directory.example.com", "ldap://"), "url");
    assert_eq!(
        ldap(
            "ldaps://directory.example.com",
            "ldap://directory.example.com"
        ),
        "url"
    );
    assert_eq!(ldap("\"dc=example,dc=com\"", "\"example.com\""), "base_dn");
    assert_eq!(
        ldap(
            "cn=writer,dc=example,dc=com",
            "CN=Reader, dc=example,dc=com"
        ),
        "writer.dn"
    );
    assert_eq!(field(&format!("{LDAP}page_size = 0\n")), "page_size");
    assert_eq!(
        field(&format!("{LDAP}account_filter = \"objectClass=person\"\n")),
        "account_filter"
    );
    assert_eq!(
        field(&format!("{LDAP}group_filter = \"(cn=a\"\n")),
        "group_filter"
    );
    assert_eq!(
        field(&format!("{LDAP}member_attributes = []\n")),
        "member_attributes"
    );
    assert_eq!(
        field(&format!("{LDAP}owner_attributes = [\"ow ner\"]\n")),
        "owner_attributes"
    );
    assert_eq!(
        field(&format!("{LDAP}placeholder_member = \"nobody\"\n")),
        "placeholder_member"
    );
    assert_eq!(field("kind = \"csv\"\ndirectory = \"\"\n"), "directory");
    let same = format!("{CSV}reader_principal = \"one\"\nwriter_principal = \"one\"\n");
    assert_eq!(field(&same), "writer_principal");
    assert_eq!(
        field(&format!("{CSV}lock_timeout_ms = 0\n")),
        "lock_timeout_ms"
    );
    assert!(reader(&parsed(&same)).is_err() && writer(&parsed(&same)).is_err());
}

#[test]
fn passwords_may_cross_the_loopback_in_the_clear_but_no_wire_unless_allowed() {
    for host in ["127.0.0.1:3890", "localhost:389", "[::1]:389"] {
        parsed(&LDAP.replace("ldaps://directory.example.com", &format!("ldap://{host}")))
            .validate()
            .unwrap();
    }
    for host in ["127.0.0.1.example.com", "10.0.0.1", "localhost.example.com"] {
        assert_eq!(
            field(&LDAP.replace("ldaps://directory.example.com", &format!("ldap://{host}"))),
            "url"
        );
    }
    let clear = LDAP.replace("ldaps://", "ldap://");
    parsed(&format!("{clear}starttls = true\n"))
        .validate()
        .unwrap();
    parsed(&format!("{clear}allow_plaintext = true\n"))
        .validate()
        .unwrap();
}

#[test]
fn the_hash_follows_the_meaning_and_not_the_spelling_or_the_place_of_a_secret() {
    let hash = parsed(LDAP).config_hash();
    let defaults_spelled_out = format!("page_size = 500\n{LDAP}");
    assert_eq!(parsed(&defaults_spelled_out).config_hash(), hash);
    assert_eq!(
        parsed(&LDAP.replace("/run/secrets/reader", "/elsewhere")).config_hash(),
        hash
    );
    assert_ne!(
        parsed(&LDAP.replace(
            "dc=example,dc=com\"\nreader",
            "ou=x,dc=example,dc=com\"\nreader"
        ))
        .config_hash(),
        hash
    );
    assert_ne!(
        parsed(&format!("{LDAP}page_size = 501\n")).config_hash(),
        hash
    );
    assert_ne!(parsed(CSV).config_hash(), hash);
}

#[test]
fn accounts_may_be_classed_by_filter() {
    let text =
        format!("{LDAP}[account_class_filters]\nnon_human = \"(employeeType=Ship's Robot)\"\n");
    let SourceConfig::Ldap(config) = parsed(&text) else {
        panic!("not ldap")
    };
    assert!(
        config
            .account_class_filters
            .contains_key(&IdentityClass::NonHuman)
    );
    assert_eq!(
        field(&text.replace("(employee", "employee")),
        "account_class_filters.NonHuman"
    );
}

#[test]
fn the_samples_of_the_readme_are_valid() {
    let readme = include_str!("../README.md");
    let samples: Vec<&str> = readme
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    let kinds: Vec<&str> = samples
        .iter()
        .map(|sample| {
            let config = parsed(sample);
            config.validate().unwrap();
            config.kind()
        })
        .collect();
    assert_eq!(kinds, ["csv", "ldap"]);
}
