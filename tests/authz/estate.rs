//! A tenant to be governed, with its canary in every text that it gives.

use std::{fs, path::Path};

use anyhow::Result;
use counterfoil_tests::{governance::Governance, small};
use toml::{Table, Value};

/// Principals of every kind of role, beside those of the small estate: (id, roles).
pub const PEOPLE: [(&str, &[&str]); 11] = [
    ("administrator", &["tenant-administrator"]),
    ("auditor", &["auditor"]),
    ("reviewer", &["reviewer"]),
    ("operations", &["operator"]),
    // Has every role of a tenant.
    (
        "everything",
        &["tenant-administrator", "reviewer", "operator", "auditor"],
    ),
    // Is ended before the matrix, with a token in hand.
    ("leaver", &["tenant-administrator"]),
    // Its tokens are expired or revoked before the matrix.
    ("lapsed", &["tenant-administrator"]),
    // What requests may end.
    ("spare", &["reviewer"]),
    ("subject", &["reviewer"]),
    // Have more roles in an emergency.
    ("urgent", &["reviewer"]),
    ("calm", &["reviewer"]),
];

/// Keys of `estate.toml` that hold an id.
const IDS: [&str; 8] = [
    "id",
    "owner",
    "deputy",
    "grantor",
    "to",
    "accountable_owner",
    "organization",
    "fallback_reviewer",
];

/// Writes the estate of `tenant` into `directory`; the ids of all that can be named are the tenant's own.
///
/// # Errors
/// When a file cannot be written.
pub fn write(directory: &Path, tenant: &str, canary: &str) -> Result<()> {
    let governance = Governance::new(tenant, "Customer")?;
    let source = format!("{tenant}-source");
    small::write(directory, governance, &[&source])?;
    let file = directory.join("estate.toml");
    let mut estate: Table = fs::read_to_string(&file)?.parse()?;
    let customer = estate["organizations"][0]["id"].clone();
    let people = estate["principals"].as_array_mut().expect("a list");
    for (id, roles) in PEOPLE {
        let mut person = Table::new();
        person.insert("id".into(), id.into());
        person.insert("display_name".into(), format!("The {id}").into());
        person.insert("organization".into(), customer.clone());
        person.insert("roles".into(), roles.to_vec().into());
        people.push(person.into());
    }
    let rights: [&[&str]; 2] = [&["review", "except"], &["certify", "remediate", "export"]];
    for actions in rights {
        let mut right = estate["decision_rights"][0]
            .as_table()
            .expect("a table")
            .clone();
        right.insert("grantees".into(), vec!["everything"].into());
        right.insert("actions".into(), actions.to_vec().into());
        estate["decision_rights"]
            .as_array_mut()
            .expect("a list")
            .push(right.into());
    }
    mark(&mut estate, tenant, canary);
    fs::write(&file, toml::to_string(&estate)?)?;
    let folder = directory.join(&source);
    for (name, from, to) in [
        ("accounts.csv", "Person", canary),
        (
            "accounts.csv",
            "@small.example",
            &format!("@{canary}.example"),
        ),
        (
            "entitlements.csv",
            "Read,role",
            &format!("Read {canary},role"),
        ),
        (
            "entitlements.csv",
            "Write,role",
            &format!("Write {canary},role"),
        ),
        ("accounts.csv", "\np", &format!("\n{canary}-p")),
        ("grants.csv", "\np", &format!("\n{canary}-p")),
    ] {
        replace(&folder.join(name), from, to)?;
    }
    let decisions = directory.join("decisions.csv");
    for (from, to) in [
        (",p", format!(",{canary}-p")),
        ("survey/2026", format!("{canary}/2026")),
        ("House rule", format!("{canary} rule")),
        ("security-office", format!("{tenant}-security-office")),
    ] {
        replace(&decisions, from, &to)?;
    }
    for word in ["Accept", "Revoke", "Reduce", "Exception"] {
        replace(
            &decisions,
            &format!("{word} "),
            &format!("{word} {canary} "),
        )?;
    }
    Ok(())
}

/// Puts the canary into every name and key, and makes ids that both estates share the tenant's own, so that naming the
/// other's is told from naming one's own.
fn mark(table: &mut Table, tenant: &str, canary: &str) {
    for (key, value) in table.iter_mut() {
        match value {
            Value::String(text) if key == "display_name" => *text = format!("{canary} {text}"),
            Value::String(text) if key == "identity_key" => *text = format!("{canary}-{text}"),
            Value::String(text) if IDS.contains(&key.as_str()) => own(text, tenant),
            Value::Table(inner) => mark(inner, tenant, canary),
            Value::Array(list) => {
                for inner in list {
                    match inner {
                        Value::Table(inner) => mark(inner, tenant, canary),
                        Value::String(text) if key == "grantees" => own(text, tenant),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

fn own(id: &mut String, tenant: &str) {
    if !id.starts_with(tenant) {
        *id = format!("{tenant}-{id}");
    }
}

fn replace(file: &Path, from: &str, to: &str) -> Result<()> {
    let text = fs::read_to_string(file)?;
    anyhow::ensure!(text.contains(from), "{} has no {from:?}", file.display());
    Ok(fs::write(file, text.replace(from, to))?)
}
