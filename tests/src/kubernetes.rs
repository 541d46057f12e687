//! The GitHub organisations of Kubernetes as an estate: every person, team and membership of 2026-08-21, from
//! `shared/data/kubernetes-org`.
//!
//! People, entitlements, grants and the dates they were granted on are real. Two things the data does not have are made here,
//! by rule and the same every time: who owns an entitlement (one of its organisation's administrators) and what the
//! reviewers decide (by [`hash`] of the grant). No rule looks at the clock or at a random number.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;

use crate::decisions::{Decision, DecisionRow, write_decisions};

/// Id of the one source.
pub const SOURCE: &str = "github";
/// Principal and identity key of who reviews what an owner holds of their own. Everybody's principal is named by their key.
pub const FALLBACK_REVIEWER: &str = "steering-committee";
/// Principal and identity key of who answers for the whole.
pub const ACCOUNTABLE_OWNER: &str = "executive-director";

/// The part of `estate.toml` that does not depend on the data.
const GOVERNANCE: &str = include_str!("kubernetes.toml");

/// What was written, to compare with what the suite makes of it.
#[derive(Debug, Clone)]
pub struct KubernetesEstate {
    /// The estate's directory: `estate.toml`, `decisions.csv` and the source's folder.
    pub directory: PathBuf,
    /// People.
    pub accounts: usize,
    /// Organisation and team roles.
    pub entitlements: usize,
    /// Memberships.
    pub grants: usize,
    /// Rows of the file of decisions.
    pub decisions: Vec<DecisionRow>,
    /// Grants that no row decides.
    pub undecided: usize,
}

impl KubernetesEstate {
    /// How many rows decide so.
    #[must_use]
    pub fn count(&self, decision: Decision) -> usize {
        self.decisions
            .iter()
            .filter(|row| row.decision == decision)
            .count()
    }
}

/// The memberships, and what follows from them.
struct Memberships {
    /// Entitlements by person.
    by_person: BTreeMap<String, BTreeSet<String>>,
    entitlements: BTreeSet<String>,
    /// Administrators by organisation.
    administrators: BTreeMap<String, Vec<String>>,
    /// When a membership was last given.
    granted: BTreeMap<(String, String), String>,
}

/// Writes the estate into `directory` from the folder of shared data.
///
/// # Errors
/// When the data cannot be read or is not what it was, or the files cannot be written.
pub fn write(directory: &Path, shared_data: &Path) -> Result<KubernetesEstate> {
    let memberships = Memberships::read(&shared_data.join("kubernetes-org"))?;
    let source = directory.join(SOURCE);
    std::fs::create_dir_all(&source)?;
    memberships.write_source(&source)?;
    let decisions = memberships.decisions();
    write_decisions(&directory.join("decisions.csv"), &decisions)?;
    std::fs::write(directory.join("estate.toml"), memberships.estate())?;
    let grants = memberships.by_person.values().map(BTreeSet::len).sum();
    Ok(KubernetesEstate {
        directory: directory.to_owned(),
        accounts: memberships.by_person.len(),
        entitlements: memberships.entitlements.len(),
        grants,
        undecided: grants - decisions.len(),
        decisions,
    })
}

/// FNV-1a of 64 bits, because it never changes and is three lines.
#[must_use]
pub fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn rows(path: &Path) -> Result<Vec<csv::StringRecord>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let mut text = String::new();
    GzDecoder::new(file)
        .read_to_string(&mut text)
        .with_context(|| path.display().to_string())?;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    reader
        .records()
        .map(|row| row.with_context(|| path.display().to_string()))
        .collect()
}

fn cell(row: &csv::StringRecord, column: usize) -> Result<&str> {
    row.get(column)
        .with_context(|| format!("row {row:?} has no column {column}"))
}

/// `org:<organisation>:<role>` or `team:<organisation>/<team>:<role>`, taken apart.
struct Entitlement<'a> {
    kind: &'a str,
    /// The organisation, or the team with it.
    name: &'a str,
    role: &'a str,
}

impl<'a> Entitlement<'a> {
    fn parse(id: &'a str) -> Result<Self> {
        let (kind, rest) = id.split_once(':').with_context(|| id.to_owned())?;
        let (name, role) = rest.rsplit_once(':').with_context(|| id.to_owned())?;
        Ok(Self { kind, name, role })
    }

    fn organization(&self) -> &'a str {
        self.name
            .split_once('/')
            .map_or(self.name, |(organization, _)| organization)
    }

    /// Administrators give and take access; the teams called so administer the repositories of a project.
    fn is_privileged(&self) -> bool {
        self.role == "admin" || self.name.ends_with("-admins")
    }

    fn sensitivity(&self) -> &'static str {
        match (self.kind, self.role) {
            ("org", "admin") => "critical",
            _ if self.is_privileged() => "high",
            (_, "maintainer") => "medium",
            _ => "low",
        }
    }
}

impl Memberships {
    fn read(folder: &Path) -> Result<Self> {
        let mut by_person: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut entitlements = BTreeSet::new();
        let mut administrators: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in rows(&folder.join("membership_latest.csv.gz"))? {
            let (person, id) = (cell(&row, 0)?, cell(&row, 1)?);
            let entitlement = Entitlement::parse(id)?;
            if entitlement.kind == "org" && entitlement.role == "admin" {
                administrators
                    .entry(entitlement.name.to_owned())
                    .or_default()
                    .push(person.to_owned());
            }
            entitlements.insert(id.to_owned());
            let added = by_person
                .entry(person.to_owned())
                .or_default()
                .insert(id.to_owned());
            ensure!(added, "{person} holds {id} twice");
        }
        for people in administrators.values_mut() {
            people.sort();
        }
        for id in &entitlements {
            let organization = Entitlement::parse(id)?.organization();
            ensure!(
                administrators.contains_key(organization),
                "{organization} has no administrator to own {id}"
            );
        }
        let mut granted = BTreeMap::new();
        for row in rows(&folder.join("membership_events.csv.gz"))? {
            if cell(&row, 1)? == "add" {
                // In order of time: the last one stands.
                granted.insert(
                    (cell(&row, 2)?.to_owned(), cell(&row, 3)?.to_owned()),
                    cell(&row, 0)?.to_owned(),
                );
            }
        }
        Ok(Self {
            by_person,
            entitlements,
            administrators,
            granted,
        })
    }

    fn grants(&self) -> impl Iterator<Item = (&str, &str)> {
        self.by_person
            .iter()
            .flat_map(|(person, held)| held.iter().map(move |id| (person.as_str(), id.as_str())))
    }

    /// One of the organisation's administrators, always the same one.
    fn owner(&self, id: &str) -> &str {
        let organization = Entitlement::parse(id)
            .map(|entitlement| entitlement.organization())
            .unwrap_or_default();
        let people = self
            .administrators
            .get(organization)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let index = hash(id)
            .checked_rem(people.len() as u64)
            .and_then(|index| usize::try_from(index).ok());
        index
            .and_then(|index| people.get(index))
            .map_or("", String::as_str)
    }

    fn write_source(&self, folder: &Path) -> Result<()> {
        let mut accounts = csv::Writer::from_path(folder.join("accounts.csv"))?;
        accounts.write_record([
            "native_id",
            "display_name",
            "identity_key",
            "identity_class",
            "status",
            "lifecycle",
        ])?;
        for person in self.by_person.keys() {
            let name = format!("Contributor {person}");
            accounts.write_record([
                person.as_str(),
                &name,
                person,
                "workforce",
                "active",
                "active",
            ])?;
        }
        accounts.flush()?;
        let mut entitlements = csv::Writer::from_path(folder.join("entitlements.csv"))?;
        entitlements.write_record([
            "native_id",
            "display_name",
            "kind",
            "privileged",
            "owner_key",
            "sensitivity",
        ])?;
        for id in &self.entitlements {
            let entitlement = Entitlement::parse(id)?;
            let name = format!("{}: {}", entitlement.name, entitlement.role);
            entitlements.write_record([
                id.as_str(),
                &name,
                entitlement.kind,
                if entitlement.is_privileged() {
                    "true"
                } else {
                    "false"
                },
                self.owner(id),
                entitlement.sensitivity(),
            ])?;
        }
        entitlements.flush()?;
        let mut grants = csv::Writer::from_path(folder.join("grants.csv"))?;
        grants.write_record(["account_native_id", "entitlement_native_id", "granted"])?;
        for (person, id) in self.grants() {
            let granted = self
                .granted
                .get(&(person.to_owned(), id.to_owned()))
                .map_or("", String::as_str);
            grants.write_record([person, id, granted])?;
        }
        Ok(grants.flush()?)
    }

    /// What the reviewers decide: about one grant in ten goes, one in thirty is left undecided, one in fifty is an
    /// exception, one privileged grant in ten is reduced, and the rest stays.
    fn decisions(&self) -> Vec<DecisionRow> {
        self.grants()
            .filter_map(|(person, id)| self.decide(person, id))
            .collect()
    }

    fn decide(&self, person: &str, id: &str) -> Option<DecisionRow> {
        let draw = hash(&format!("{person}\n{id}")) % 1_000;
        let privileged =
            Entitlement::parse(id).is_ok_and(|entitlement| entitlement.is_privileged());
        match draw {
            0..100 => Some(self.row(person, id, Decision::Revoke)),
            100..133 => None,
            133..153 => Some(self.row(person, id, Decision::Exception)),
            153..253 if privileged => {
                let mut row = self.row(person, id, Decision::Reduce);
                match self.narrower(person, id) {
                    Some(narrower) => row.reduce_to = narrower.to_owned(),
                    None => row = self.row(person, id, Decision::Accept),
                }
                Some(row)
            }
            _ => Some(self.row(person, id, Decision::Accept)),
        }
    }

    /// A plain grant in the same organisation that the person holds and keeps.
    fn narrower(&self, person: &str, wider: &str) -> Option<&str> {
        let organization = Entitlement::parse(wider).ok()?.organization();
        let held = self.by_person.get(person)?;
        held.iter().map(String::as_str).find(|id| {
            Entitlement::parse(id).is_ok_and(|entitlement| {
                entitlement.organization() == organization && !entitlement.is_privileged()
            }) && self
                .decide(person, id)
                .is_some_and(|row| row.decision == Decision::Accept)
        })
    }

    fn row(&self, person: &str, id: &str, decision: Decision) -> DecisionRow {
        let owner = self.owner(id);
        let reviewer = if owner == person {
            FALLBACK_REVIEWER
        } else {
            owner
        };
        let privileged =
            Entitlement::parse(id).is_ok_and(|entitlement| entitlement.is_privileged());
        let justification = match decision {
            Decision::Accept => "Active in the project",
            Decision::Revoke => "No contribution in twelve months",
            Decision::Reduce => "Does not administer; membership is enough",
            Decision::Exception => "Inactive, but asked to stay reachable for the release",
        };
        let stays = matches!(decision, Decision::Accept | Decision::Exception);
        let exception = decision == Decision::Exception;
        DecisionRow {
            source: SOURCE.to_owned(),
            account: person.to_owned(),
            entitlement: id.to_owned(),
            decision,
            justification: justification.to_owned(),
            evidence_kind: "activity_report".to_owned(),
            evidence_ref: format!("devstats/2026-08/{person}"),
            review_by_days: stays.then_some(if privileged { 90 } else { 180 }),
            exception_basis: if exception {
                "Membership policy 4.2: inactive members"
            } else {
                ""
            }
            .to_owned(),
            exception_expires_days: exception.then_some(30),
            reviewer: reviewer.to_owned(),
            reduce_to: String::new(),
        }
    }

    /// `estate.toml`: the rules, then who reviews and what they may decide.
    fn estate(&self) -> String {
        let owners: BTreeSet<&str> = self.entitlements.iter().map(|id| self.owner(id)).collect();
        let reviewers: Vec<&str> = owners.into_iter().chain([FALLBACK_REVIEWER]).collect();
        let mut text = GOVERNANCE.to_owned();
        for key in &reviewers {
            text.push_str(&format!(
                "\n[[principals]]\nid = \"{key}\"\ndisplay_name = \"Reviewer {key}\"\nidentity_key = \"{key}\"\n\
                 organization = \"kubernetes\"\nroles = [\"reviewer\"]\n"
            ));
        }
        let grantees = reviewers.join("\", \"");
        text.push_str(&format!(
            "\n[[decision_rights]]\ngrantor = \"{ACCOUNTABLE_OWNER}\"\ngrantees = [\"{grantees}\"]\n\
             actions = [\"review\", \"except\"]\nscope = [\"*\"]\nvalid_days = 365\n"
        ));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::shared_data;

    fn written(test: &str) -> Option<(tempfile::TempDir, KubernetesEstate)> {
        let shared = shared_data(test)?;
        let directory = tempfile::tempdir().unwrap();
        let estate = write(directory.path(), &shared).unwrap();
        Some((directory, estate))
    }

    #[test]
    fn the_estate_is_whole_and_decided_by_enough_rows_of_every_kind() {
        let Some((_directory, estate)) =
            written("the_estate_is_whole_and_decided_by_enough_rows_of_every_kind")
        else {
            return;
        };
        assert_eq!(
            (estate.accounts, estate.entitlements, estate.grants),
            (1_509, 822, 6_281)
        );
        assert!(
            estate.count(Decision::Revoke) >= 500,
            "{}",
            estate.count(Decision::Revoke)
        );
        assert!(estate.count(Decision::Exception) >= 50);
        assert!(estate.count(Decision::Reduce) >= 50);
        assert!(estate.undecided >= 100);
        assert_eq!(estate.decisions.len() + estate.undecided, estate.grants);
        assert!(estate.count(Decision::Accept) > estate.grants * 3 / 4);
    }

    #[tokio::test]
    async fn the_connector_reads_it_without_an_error() {
        let Some((directory, estate)) = written("the_connector_reads_it_without_an_error") else {
            return;
        };
        let contents = crate::source::read_csv(&directory.path().join(SOURCE))
            .await
            .unwrap();
        assert_eq!(contents.totals.grants, estate.grants as u64);
        let grants = contents.grants();
        for row in &estate.decisions {
            assert!(
                grants.contains(&(row.account.clone(), row.entitlement.clone())),
                "{row:?}"
            );
            assert_ne!(row.reviewer, row.account, "{row:?}");
        }
    }

    #[test]
    fn what_a_reduction_keeps_is_kept() {
        let Some((_directory, estate)) = written("what_a_reduction_keeps_is_kept") else {
            return;
        };
        let accepted: BTreeSet<(&str, &str)> = estate
            .decisions
            .iter()
            .filter(|row| row.decision == Decision::Accept)
            .map(|row| (row.account.as_str(), row.entitlement.as_str()))
            .collect();
        for row in estate
            .decisions
            .iter()
            .filter(|row| row.decision == Decision::Reduce)
        {
            assert!(
                accepted.contains(&(row.account.as_str(), row.reduce_to.as_str())),
                "{row:?}"
            );
        }
    }

    #[test]
    fn writing_it_again_writes_the_same_bytes() {
        let Some((first, _)) = written("writing_it_again_writes_the_same_bytes") else {
            return;
        };
        let Some((second, _)) = written("writing_it_again_writes_the_same_bytes") else {
            return;
        };
        for file in [
            "estate.toml",
            "decisions.csv",
            "github/accounts.csv",
            "github/entitlements.csv",
            "github/grants.csv",
        ] {
            let read =
                |directory: &tempfile::TempDir| std::fs::read(directory.path().join(file)).unwrap();
            assert!(read(&first) == read(&second), "{file} differs");
        }
    }
}
