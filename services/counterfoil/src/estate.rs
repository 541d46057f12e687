//! An estate: who governs what by which rules, as files. `deploy/sample-estate/README.md` describes them.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

/// `estate.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estate {
    /// The customer.
    pub tenant: Tenant,
    /// Rules that differ from the defaults.
    #[serde(default)]
    pub policy: Policy,
    /// Customer, provider and others.
    pub organizations: Vec<Organization>,
    /// Who acts on Counterfoil.
    pub principals: Vec<Principal>,
    /// Parts of the customer with one accountable owner each.
    pub business_units: Vec<BusinessUnit>,
    /// Who may decide what.
    pub decision_rights: Vec<DecisionRights>,
    /// Whom an unanswered question goes to, in order.
    pub escalation: Vec<EscalationLevel>,
    /// How long evidence is kept.
    pub retention: Vec<Retention>,
    /// What is read and written.
    pub sources: Vec<Source>,
    /// The review to hold.
    pub campaign: Campaign,
}

/// The tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Its id.
    pub id: String,
    /// Its name for people.
    pub display_name: String,
    /// Id of the principal who answers for everything.
    pub accountable_owner: String,
}

/// Rules; what is not set takes the default of `counterfoil.authority.v1.Policy`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// A remediation with more actions is held; 0 = no such limit.
    pub threshold_count: u32,
    /// A remediation with more actions than this many thousandths of the observed grants is held; 0 = no such limit.
    pub threshold_permille: u32,
    /// When an absence is read again, seconds after it was verified; empty = default.
    pub persistence_offsets_seconds: Vec<i64>,
    /// Unused for longer is dormant, seconds; 0 = default.
    pub dormant_after_seconds: i64,
}

/// An organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Organization {
    /// Its id.
    pub id: String,
    /// Its name for people.
    pub display_name: String,
    /// `customer`, `provider`, ...
    pub kind: String,
}

/// Someone who acts on Counterfoil.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Principal {
    /// Its id.
    pub id: String,
    /// Its name for people.
    pub display_name: String,
    /// The identity that it is in the sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_key: Option<String>,
    /// Id of its organisation.
    pub organization: String,
    /// Rows of the permission table.
    pub roles: Vec<String>,
}

/// A part of the customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BusinessUnit {
    /// Its id.
    pub id: String,
    /// Its name for people.
    pub display_name: String,
    /// Id of the accountable principal.
    pub owner: String,
    /// Id of who stands in.
    pub deputy: String,
}

/// Decision rights that are granted together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionRights {
    /// Id of the principal who grants.
    pub grantor: String,
    /// Ids of the principals who receive.
    pub grantees: Vec<String>,
    /// `review`, `remediate`, `except`, `certify`, `export`.
    pub actions: Vec<String>,
    /// Ids of sources, or `*`.
    pub scope: Vec<String>,
    /// For how many days.
    pub valid_days: u32,
}

/// One level of the escalation path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EscalationLevel {
    /// Id of the principal.
    pub to: String,
    /// After how many hours without an answer.
    pub after_hours: u32,
}

/// How long a class of evidence is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// The retention class.
    pub class: String,
    /// For how many days.
    pub days: u32,
    /// Why.
    pub basis: String,
}

/// A source: its id, its name, and the settings of its connector (`services/connectors/README.md`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Its id.
    pub id: String,
    /// Its name for people.
    pub display_name: String,
    /// Environment that it is of; empty: "default".
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub environment: String,
    /// Tier that it is of; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tier: String,
    /// The connector's settings; a relative `directory` is relative to the estate's own.
    #[serde(flatten)]
    pub connector: toml::Table,
}

impl Source {
    /// The connector's settings as JSON, with the directory made absolute.
    ///
    /// # Errors
    /// When the directory is not there.
    pub fn config_json(&self, estate: &Path) -> anyhow::Result<String> {
        let mut connector = self.connector.clone();
        if let Some(toml::Value::String(directory)) = connector.get_mut("directory") {
            let absolute = estate.join(&*directory);
            let absolute = absolute
                .canonicalize()
                .with_context(|| format!("{} is not there", absolute.display()))?;
            *directory = absolute.display().to_string();
        }
        Ok(serde_json::to_string(&connector)?)
    }
}

/// The review to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Campaign {
    /// Its name for people.
    pub display_name: String,
    /// Id of the principal who owns it.
    pub owner: String,
    /// Id of the principal who reviews what has no owner, or whose owner would review their own access.
    pub fallback_reviewer: String,
    /// `revoke` or `retain_as_debt`.
    pub lapse_rule: String,
    /// The file of decisions, relative to the estate's directory.
    pub decisions: String,
}

impl Estate {
    /// Reads `estate.toml` of an estate's directory.
    ///
    /// # Errors
    /// When it is missing, has another form, or names a principal that it does not define.
    pub fn read(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join("estate.toml");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let estate: Self =
            toml::from_str(&text).with_context(|| format!("{} is malformed", path.display()))?;
        let known = |id: &str| estate.principals.iter().any(|principal| principal.id == id);
        let named = estate
            .decision_rights
            .iter()
            .flat_map(|rights| rights.grantees.iter().chain([&rights.grantor]))
            .chain(estate.escalation.iter().map(|level| &level.to))
            .chain([
                &estate.campaign.owner,
                &estate.campaign.fallback_reviewer,
                &estate.tenant.accountable_owner,
            ]);
        for id in named {
            ensure!(known(id), "{}: no principal {id:?}", path.display());
        }
        Ok(estate)
    }

    /// Writes `estate.toml` into an estate's directory.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, directory: &Path) -> anyhow::Result<()> {
        Ok(std::fs::write(
            directory.join("estate.toml"),
            toml::to_string(self)?,
        )?)
    }
}

/// The sample estate of `deploy/sample-estate`, carried in the executable so that it runs from anywhere.
const SAMPLE: &[(&str, &str)] = &[
    (
        "estate.toml",
        include_str!("../../../deploy/sample-estate/estate.toml"),
    ),
    (
        "decisions.csv",
        include_str!("../../../deploy/sample-estate/decisions.csv"),
    ),
    (
        "hr-saas/accounts.csv",
        include_str!("../../../deploy/sample-estate/hr-saas/accounts.csv"),
    ),
    (
        "hr-saas/entitlements.csv",
        include_str!("../../../deploy/sample-estate/hr-saas/entitlements.csv"),
    ),
    (
        "hr-saas/grants.csv",
        include_str!("../../../deploy/sample-estate/hr-saas/grants.csv"),
    ),
    (
        "payments-db/accounts.csv",
        include_str!("../../../deploy/sample-estate/payments-db/accounts.csv"),
    ),
    (
        "payments-db/entitlements.csv",
        include_str!("../../../deploy/sample-estate/payments-db/entitlements.csv"),
    ),
    (
        "payments-db/edges.csv",
        include_str!("../../../deploy/sample-estate/payments-db/edges.csv"),
    ),
    (
        "payments-db/grants.csv",
        include_str!("../../../deploy/sample-estate/payments-db/grants.csv"),
    ),
];

/// Puts a copy of the sample estate into `directory`; leaves one that is there as it is, because its files are the target
/// systems of the cycle that was begun on them.
///
/// # Errors
/// When the directory cannot be written.
pub fn copy_sample(directory: &Path) -> anyhow::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let partial = directory.with_extension("partial");
    if partial.is_dir() {
        std::fs::remove_dir_all(&partial)?;
    }
    for (name, content) in SAMPLE {
        let path = partial.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, content)
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    // If we crash here: the partial copy is thrown away by the next start.
    std::fs::rename(&partial, directory)
        .with_context(|| format!("{} cannot be written", directory.display()))
}
