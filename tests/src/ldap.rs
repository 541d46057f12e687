//! Real directory servers as estates: `planetexpress.ldif` as it is, and OpenLDAP's example database of 999 people with
//! groups made of its departments, one group of groups among them.
//!
//! A directory gives its entries new ids whenever it is loaded, so who loses what is decided by names: [`Rule`] looks at
//! the names of the account and of the entitlement, never at an id.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use counterfoil_connectors::testing::{Slapd, SlapdOptions};
use counterfoil_connectors::{LdapConfig, SourceConfig, SourceRecord};
use flate2::read::GzDecoder;

use crate::decisions::{Decision, DecisionRow, write_decisions};
use crate::governance::{Governance, REVIEWER};
use crate::kubernetes::hash;
use crate::source;

/// Id of the one source.
pub const SOURCE: &str = "directory";

/// What is decided on a grant, given the names of the account and of the entitlement; `None` leaves it undecided.
pub type Rule = fn(&str, &str) -> Option<Decision>;

/// A running directory server, and the estate's directory that describes it.
#[derive(Debug)]
pub struct LdapEstate {
    /// The server.
    pub slapd: Slapd,
    /// What is decided.
    pub decisions: Vec<DecisionRow>,
    /// Direct grants before anyone decided.
    pub grants: usize,
}

/// Starts a server with the directory of Planet Express and writes its estate into `directory`: Bender leaves the ship's
/// crew, Hermes Conrad loses the office, nobody decides on Leela, and the others stay.
///
/// # Errors
/// When the data is not there, slapd does not start, or the files cannot be written.
pub async fn planet_express(directory: &Path, shared_data: &Path) -> Result<LdapEstate> {
    let ldif = fs::read_to_string(shared_data.join("ldif/planetexpress.ldif"))?;
    let options = SlapdOptions::new("dc=planetexpress,dc=com").ldif(ldif);
    let decide: Rule = |account, _| match account {
        "Bender" | "Bender Bending Rodriguez" | "Hermes Conrad" => Some(Decision::Revoke),
        "Leela" | "Turanga Leela" => None,
        _ => Some(Decision::Accept),
    };
    write(
        directory,
        "planet-express",
        "Planet Express",
        &options,
        decide,
    )
    .await
}

/// Starts a server with the example database, a group for each department and one of them all, and writes its estate into
/// `directory`: about one grant in eight goes, one in forty is left undecided, one in forty is an exception.
///
/// # Errors
/// As [`planet_express`].
pub async fn thousand_people(directory: &Path, shared_data: &Path) -> Result<LdapEstate> {
    let mut ldif = String::new();
    let file = File::open(shared_data.join("ldif/openldap-its9282-exampledb.ldif.gz"))?;
    GzDecoder::new(file).read_to_string(&mut ldif)?;
    let groups = departments(&ldif)?;
    let options = SlapdOptions::new("dc=example,dc=com")
        .ldif(ldif)
        .ldif(groups);
    let decide: Rule =
        |account, entitlement| match hash(&format!("{account}\n{entitlement}")) % 1_000 {
            0..125 => Some(Decision::Revoke),
            125..150 => None,
            150..175 => Some(Decision::Exception),
            _ => Some(Decision::Accept),
        };
    write(
        directory,
        "example",
        "Example Corporation",
        &options,
        decide,
    )
    .await
}

/// Groups in LDIF: one a department with everybody whose entry lies in it, and one whose members are those groups.
fn departments(ldif: &str) -> Result<String> {
    let mut members: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for name in ldif.lines().filter_map(|line| line.strip_prefix("dn: ")) {
        let department = name.split(", ").find_map(|part| part.strip_prefix("ou="));
        if let (true, Some(department)) = (name.starts_with("cn="), department) {
            members.entry(department).or_default().insert(name);
        }
    }
    ensure!(members.len() > 5, "{} departments", members.len());
    let mut text = String::new();
    let mut all =
        "dn: cn=All staff,dc=example,dc=com\nobjectClass: groupOfNames\ncn: All staff\n".to_owned();
    for (department, people) in &members {
        writeln!(
            text,
            "dn: cn={department} staff,dc=example,dc=com\nobjectClass: groupOfNames\ncn: {department} staff"
        )?;
        for name in people {
            writeln!(text, "member: {name}")?;
        }
        text.push('\n');
        writeln!(all, "member: cn={department} staff,dc=example,dc=com")?;
    }
    text.push_str(&all);
    Ok(text)
}

async fn write(
    directory: &Path,
    tenant: &str,
    display_name: &str,
    options: &SlapdOptions,
    decide: Rule,
) -> Result<LdapEstate> {
    let slapd = Slapd::start(options)?;
    let governance = Governance::new(tenant, display_name)?;
    describe(directory, slapd, governance, LdapConfig::clone, decide).await
}

/// Writes the estate of a running server into `directory`; `adapt` may change how the suite reaches it.
///
/// # Errors
/// When the server cannot be read or the files cannot be written.
pub async fn describe(
    directory: &Path,
    slapd: Slapd,
    governance: Governance,
    adapt: impl FnOnce(&LdapConfig) -> LdapConfig,
    decide: Rule,
) -> Result<LdapEstate> {
    let config = slapd.config();
    let contents = source::read(&SourceConfig::Ldap(Box::new(config.clone())))
        .await
        .context("reading what was just loaded")?;
    let decisions = decisions(&contents.records, decide);
    fs::create_dir_all(directory)?;
    write_decisions(&directory.join("decisions.csv"), &decisions)?;
    let config = SourceConfig::Ldap(Box::new(adapt(&config)));
    governance
        .source(SOURCE, "Directory", &config)?
        .write(directory)?;
    Ok(LdapEstate {
        slapd,
        decisions,
        grants: contents.grants().len(),
    })
}

fn decisions(records: &[SourceRecord], decide: Rule) -> Vec<DecisionRow> {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut rows = Vec::new();
    // Accounts and entitlements come before the grants between them.
    for record in records {
        match record {
            SourceRecord::Account(account) => {
                names.insert(&account.native_id, &account.display_name)
            }
            SourceRecord::Entitlement(found) => names.insert(&found.native_id, &found.display_name),
            SourceRecord::Edge(_) => None,
            SourceRecord::Grant(grant) => {
                let (account, entitlement) =
                    (&grant.account_native_id, &grant.entitlement_native_id);
                let name = |id: &String| names.get(id.as_str()).copied().unwrap_or_default();
                if let Some(decision) = decide(name(account), name(entitlement)) {
                    rows.push(row(account, entitlement, decision));
                }
                None
            }
        };
    }
    rows
}

fn row(account: &str, entitlement: &str, decision: Decision) -> DecisionRow {
    let stays = decision != Decision::Revoke;
    let exception = decision == Decision::Exception;
    DecisionRow {
        source: SOURCE.to_owned(),
        account: account.to_owned(),
        entitlement: entitlement.to_owned(),
        decision,
        justification: if stays {
            "Needed for the work"
        } else {
            "Not needed any more"
        }
        .to_owned(),
        evidence_kind: "owner_statement".to_owned(),
        evidence_ref: "survey/2026".to_owned(),
        review_by_days: stays.then_some(180),
        exception_basis: if exception { "Department rule 7" } else { "" }.to_owned(),
        exception_expires_days: exception.then_some(30),
        reviewer: REVIEWER.to_owned(),
        reduce_to: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::governance::ACCOUNTABLE_OWNER;
    use crate::repository::shared_data;

    fn count(estate: &LdapEstate, decision: Decision) -> usize {
        estate
            .decisions
            .iter()
            .filter(|row| row.decision == decision)
            .count()
    }

    #[tokio::test]
    async fn planet_express_is_a_directory_with_five_grants_of_which_two_go() {
        let test = "planet_express_is_a_directory_with_five_grants_of_which_two_go";
        let Some(shared) = shared_data(test) else {
            return;
        };
        let directory = tempfile::tempdir().unwrap();
        let estate = planet_express(directory.path(), &shared).await.unwrap();
        assert_eq!((estate.grants, estate.decisions.len()), (5, 4));
        assert_eq!(count(&estate, Decision::Revoke), 2);
        let written = fs::read_to_string(directory.path().join("estate.toml")).unwrap();
        let governance: toml::Table = written.parse().unwrap();
        assert_eq!(
            governance["sources"][0]["url"].as_str(),
            Some(estate.slapd.url().as_str())
        );
        assert_eq!(
            governance["tenant"]["accountable_owner"].as_str(),
            Some(ACCOUNTABLE_OWNER)
        );
    }

    #[tokio::test]
    async fn the_thousand_people_hold_their_departments_and_the_departments_hold_all() {
        let test = "the_thousand_people_hold_their_departments_and_the_departments_hold_all";
        let Some(shared) = shared_data(test) else {
            return;
        };
        let directory = tempfile::tempdir().unwrap();
        let estate = thousand_people(directory.path(), &shared).await.unwrap();
        assert_eq!(estate.grants, 999);
        assert!(count(&estate, Decision::Revoke) > 80);
        assert!(count(&estate, Decision::Exception) > 10);
        assert!(estate.decisions.len() < 990);
        let config = SourceConfig::Ldap(Box::new(estate.slapd.config()));
        let contents = source::read(&config).await.unwrap();
        assert!(contents.totals.edges > 5, "{:?}", contents.totals);
        assert_eq!(contents.totals.entitlements, contents.totals.edges + 1);
    }
}
