//! Who governs a made estate: one page of rules for all of them, to which tenant and sources are added.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use counterfoil_connectors::SourceConfig;
use toml::{Table, Value};

/// Principal of who answers for the whole, owns the campaign and approves removals.
pub const ACCOUNTABLE_OWNER: &str = "director";
/// Principal of who reviews what nobody owns.
pub const REVIEWER: &str = "security-office";
/// Principal of the provider, who carries decisions out and takes none.
pub const OPERATOR: &str = "operator";

/// `estate.toml` in the making.
#[derive(Debug, Clone)]
pub struct Governance(Table);

impl Governance {
    /// The rules for a tenant, without any source yet.
    ///
    /// # Errors
    /// When `governance.toml` is no TOML.
    pub fn new(tenant: &str, display_name: &str) -> Result<Self> {
        let governance = Self(include_str!("governance.toml").parse()?);
        governance
            .set("tenant", "id", tenant)?
            .set("tenant", "display_name", display_name)
    }

    /// Sets a key of a table, such as `threshold_permille` of `policy`.
    ///
    /// # Errors
    /// When the table is something else.
    pub fn set(mut self, table: &str, key: &str, value: impl Into<Value>) -> Result<Self> {
        self.0
            .entry(table)
            .or_insert(Table::new().into())
            .as_table_mut()
            .with_context(|| format!("[{table}] is no table"))?
            .insert(key.to_owned(), value.into());
        Ok(self)
    }

    /// Adds a source with the settings of its connector.
    ///
    /// # Errors
    /// When the settings are no TOML.
    pub fn source(self, id: &str, display_name: &str, config: &SourceConfig) -> Result<Self> {
        self.source_table(id, display_name, Table::try_from(config)?)
    }

    /// Adds a source with settings as they stand in the file.
    ///
    /// # Errors
    /// When `sources` is something else than a list.
    pub fn source_table(
        mut self,
        id: &str,
        display_name: &str,
        mut settings: Table,
    ) -> Result<Self> {
        settings.insert("id".to_owned(), id.into());
        settings.insert("display_name".to_owned(), display_name.into());
        self.0
            .entry("sources")
            .or_insert(Value::Array(Vec::new()))
            .as_array_mut()
            .context("sources is no list")?
            .push(settings.into());
        Ok(self)
    }

    /// Writes `estate.toml`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        Ok(fs::write(
            directory.join("estate.toml"),
            toml::to_string(&self.0)?,
        )?)
    }
}
