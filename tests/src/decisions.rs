//! A file of decisions, in the form that `deploy/sample-estate/README.md` describes.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What a reviewer decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Decision {
    /// The access stays.
    Accept,
    /// The access goes.
    Revoke,
    /// The access goes, a narrower one that the account holds stays.
    Reduce,
    /// The access stays against a rule, for a time.
    Exception,
}

/// A row of `decisions.csv`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionRow {
    /// Id of the source.
    pub source: String,
    /// The source's own id of the account.
    pub account: String,
    /// The source's own id of the entitlement.
    pub entitlement: String,
    /// The decision.
    pub decision: Decision,
    /// Why.
    pub justification: String,
    /// Kind of what the reviewer relied on.
    pub evidence_kind: String,
    /// Where that is.
    pub evidence_ref: String,
    /// Days until it must be reviewed again.
    pub review_by_days: Option<u32>,
    /// Why the rule does not bind.
    pub exception_basis: String,
    /// Days until the exception ends.
    pub exception_expires_days: Option<u32>,
    /// Id of the principal who decides.
    pub reviewer: String,
    /// The entitlement that stays.
    pub reduce_to: String,
}

/// Reads a file of decisions.
///
/// # Errors
/// When it is missing or a row has another form; the error names the row.
pub fn read_decisions(path: &Path) -> Result<Vec<DecisionRow>> {
    let mut reader = csv::Reader::from_path(path).with_context(|| path.display().to_string())?;
    reader
        .deserialize()
        .map(|row| row.with_context(|| path.display().to_string()))
        .collect()
}

/// Writes a file of decisions.
///
/// # Errors
/// When the file cannot be written.
pub fn write_decisions(path: &Path, rows: &[DecisionRow]) -> Result<()> {
    let mut writer = csv::Writer::from_path(path).with_context(|| path.display().to_string())?;
    for row in rows {
        writer.serialize(row)?;
    }
    Ok(writer.flush()?)
}
