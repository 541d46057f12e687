//! A small estate: six people who hold nine grants in each of its CSV sources, and a decision of every kind. Small enough to
//! be broken in one place and to see what follows.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use toml::Table;

use crate::decisions::{Decision, DecisionRow, write_decisions};
use crate::governance::{Governance, REVIEWER};

/// Grants of each source.
pub const GRANTS: u64 = 9;
/// Grants of each source that go: revoked, reduced, and lapsed by rule.
pub const REMOVALS: [(&str, &str); 4] = [
    ("p2", "write"),
    ("p4", "write"),
    ("p5", "read"),
    ("p6", "read"),
];

/// The lines of `grants.csv` below its header.
const HELD: [(&str, &str); 9] = [
    ("p1", "read"),
    ("p1", "write"),
    ("p2", "read"),
    ("p2", "write"),
    ("p3", "read"),
    ("p4", "read"),
    ("p4", "write"),
    ("p5", "read"),
    ("p6", "read"),
];

/// What was written.
#[derive(Debug, Clone)]
pub struct SmallEstate {
    /// The estate's directory.
    pub directory: PathBuf,
    /// Rows of the file of decisions.
    pub decisions: Vec<DecisionRow>,
}

impl SmallEstate {
    /// The directory of a source.
    #[must_use]
    pub fn source(&self, id: &str) -> PathBuf {
        self.directory.join(id)
    }
}

/// Writes an estate with CSV sources of these ids, governed so, into `directory`.
///
/// # Errors
/// When a file cannot be written.
pub fn write(directory: &Path, governance: Governance, sources: &[&str]) -> Result<SmallEstate> {
    fs::create_dir_all(directory)?;
    let mut governance = governance;
    let mut decisions = Vec::new();
    for &id in sources {
        write_source(&directory.join(id))?;
        let mut settings = Table::new();
        settings.insert("kind".to_owned(), "csv".into());
        settings.insert("directory".to_owned(), id.into());
        governance = governance.source_table(id, &format!("System {id}"), settings)?;
        decisions.extend(HELD.iter().filter_map(|(account, entitlement)| {
            decision(account, entitlement).map(|kind| row(id, account, entitlement, kind))
        }));
    }
    write_decisions(&directory.join("decisions.csv"), &decisions)?;
    governance.write(directory)?;
    Ok(SmallEstate {
        directory: directory.to_owned(),
        decisions,
    })
}

/// Writes the files of one source.
///
/// # Errors
/// When a file cannot be written.
pub fn write_source(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    let mut accounts = "native_id,display_name,identity_key\n".to_owned();
    for number in 1..=6 {
        accounts.push_str(&format!(
            "p{number},Person {number},p{number}@small.example\n"
        ));
    }
    fs::write(directory.join("accounts.csv"), accounts)?;
    fs::write(
        directory.join("entitlements.csv"),
        "native_id,display_name,kind,privileged,owner_key\nread,Read,role,false,\nwrite,Write,role,true,\n",
    )?;
    let mut grants = "account_native_id,entitlement_native_id,granted\n".to_owned();
    for (account, entitlement) in HELD {
        grants.push_str(&format!("{account},{entitlement},2026-01-31\n"));
    }
    Ok(fs::write(directory.join("grants.csv"), grants)?)
}

fn decision(account: &str, entitlement: &str) -> Option<Decision> {
    match (account, entitlement) {
        ("p2", "write") | ("p6", "read") => Some(Decision::Revoke),
        ("p4", "write") => Some(Decision::Reduce),
        ("p3", "read") => Some(Decision::Exception),
        ("p5", "read") => None,
        _ => Some(Decision::Accept),
    }
}

fn row(source: &str, account: &str, entitlement: &str, decision: Decision) -> DecisionRow {
    let stays = matches!(decision, Decision::Accept | Decision::Exception);
    let exception = decision == Decision::Exception;
    DecisionRow {
        source: source.to_owned(),
        account: account.to_owned(),
        entitlement: entitlement.to_owned(),
        decision,
        justification: format!("{decision:?} {account} {entitlement}"),
        evidence_kind: "owner_statement".to_owned(),
        evidence_ref: "survey/2026".to_owned(),
        review_by_days: stays.then_some(90),
        exception_basis: if exception { "House rule 7" } else { "" }.to_owned(),
        exception_expires_days: exception.then_some(30),
        reviewer: REVIEWER.to_owned(),
        reduce_to: if decision == Decision::Reduce {
            "read"
        } else {
            ""
        }
        .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::source::read_csv;

    #[tokio::test]
    async fn a_small_estate_can_be_read_and_says_what_goes() {
        let directory = tempfile::tempdir().unwrap();
        let governance = Governance::new("small", "Small").unwrap();
        let estate = write(directory.path(), governance, &["one", "two"]).unwrap();
        for id in ["one", "two"] {
            let contents = read_csv(&estate.source(id)).await.unwrap();
            assert_eq!(contents.totals.grants, GRANTS);
            let gone: BTreeSet<(String, String)> = contents
                .grants()
                .into_iter()
                .filter(|(account, entitlement)| {
                    matches!(
                        decision(account, entitlement),
                        None | Some(Decision::Revoke | Decision::Reduce)
                    )
                })
                .collect();
            let said = REMOVALS.map(|(account, entitlement)| (account.into(), entitlement.into()));
            assert_eq!(gone, BTreeSet::from(said));
        }
        assert_eq!(estate.decisions.len(), 16);
    }
}
