//! Looks at a target system directly, past the suite: what is really there now.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use counterfoil_connectors::{
    ControlTotals, CsvConfig, Page, ReadSummary, SourceConfig, SourceRecord, reader,
};
use tokio::sync::mpsc;

/// Everything a source holds.
#[derive(Debug)]
pub struct Contents {
    /// In the source's order.
    pub records: Vec<SourceRecord>,
    /// What the reader says about them.
    pub summary: ReadSummary,
    /// What the source says about itself.
    pub totals: ControlTotals,
}

impl Contents {
    /// The direct grants as (account, entitlement).
    #[must_use]
    pub fn grants(&self) -> BTreeSet<(String, String)> {
        let pairs = self.records.iter().filter_map(|record| match record {
            SourceRecord::Grant(grant) => Some((
                grant.account_native_id.clone(),
                grant.entitlement_native_id.clone(),
            )),
            _ => None,
        });
        pairs.collect()
    }
}

/// Reads a source to its end.
///
/// # Errors
/// When it cannot be read, has errors, or does not hold what it counts.
pub async fn read(config: &SourceConfig) -> Result<Contents> {
    let mut reader = reader(config)?;
    let (sender, mut receiver) = mpsc::channel::<Page>(4);
    let collect = async {
        let mut records = Vec::new();
        while let Some(page) = receiver.recv().await {
            records.extend(page.records);
        }
        records
    };
    let (summary, records) = tokio::join!(reader.read(sender), collect);
    let summary = summary.context("reading the source")?;
    let totals = reader.control_totals().await?;
    ensure!(summary.is_clean(), "{:?}", summary.errors);
    ensure!(
        summary.counts == totals,
        "{:?} read, {totals:?} counted",
        summary.counts
    );
    Ok(Contents {
        records,
        summary,
        totals,
    })
}

/// Reads a directory of CSV files.
///
/// # Errors
/// As [`read`].
pub async fn read_csv(directory: &Path) -> Result<Contents> {
    read(&csv(directory)?).await
}

/// The configuration of a directory of CSV files, everything else by default.
///
/// # Errors
/// When the directory's path is no text.
pub fn csv(directory: &Path) -> Result<SourceConfig> {
    let directory = directory.to_str().context("a path that is text")?;
    let config: CsvConfig = serde_json::from_value(serde_json::json!({ "directory": directory }))?;
    Ok(SourceConfig::Csv(config))
}
