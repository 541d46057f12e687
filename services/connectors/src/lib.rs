//! Connectors: reading who holds what from target systems, and taking grants away there.
//!
//! One module a kind of system: [`csv`](crate::SourceConfig::Csv) is a directory of files, [`ldap`](crate::SourceConfig::Ldap)
//! a directory server. A [`Reader`] streams a source in bounded pages and counts it a second time independently; a
//! [`Writer`] takes single grants away under another principal and says exactly what it knows: applied, already absent,
//! refused, not attempted, or unknown.
//!
//! Invariants: nothing is skipped silently, every row that could not be taken is a row error; nothing is kept in memory
//! whole; a value from a target never becomes part of a filter or a name unescaped; no secret is logged or put into an
//! error. Deliberately not here: tenants, storage, evidence, policy, scheduling and retries.

mod config;
mod confine;
mod connector;
mod csv;
mod error;
mod keys;
mod ldap;
mod pager;
mod record;
mod text;

#[cfg(feature = "testing")]
pub mod testing;

pub use config::{CsvConfig, LdapBind, LdapConfig, SourceConfig};
pub use connector::{GrantRef, Hash, ProbeReport, Reader, RevokeRequest, WriteOutcome, Writer};
pub use error::{ConnectorError, Result};
pub use record::{
    AccountRecord, AccountStatus, ControlTotals, EntitlementEdge, EntitlementRecord, GrantRecord,
    IdentityClass, Lifecycle, PAGE_RECORDS, Page, ROW_ERRORS_LISTED, ReadSummary, RowError,
    RowErrors, Sensitivity, SourceRecord,
};

/// The reader of a source.
///
/// # Errors
/// `InvalidConfig`, also when a source that is held to a directory leads out of it; the source itself is not touched yet.
pub fn reader(config: &SourceConfig) -> Result<Box<dyn Reader>> {
    config.validate()?;
    config.check_confined()?;
    Ok(match config {
        SourceConfig::Csv(config) => Box::new(csv::CsvReader::new(config)),
        SourceConfig::Ldap(config) => Box::new(ldap::LdapReader::new(config)),
    })
}

/// The writer of a source.
///
/// # Errors
/// `InvalidConfig`, also when a source that is held to a directory leads out of it; the target itself is not touched yet.
pub fn writer(config: &SourceConfig) -> Result<Box<dyn Writer>> {
    config.validate()?;
    config.check_confined()?;
    Ok(match config {
        SourceConfig::Csv(config) => Box::new(csv::CsvWriter::new(config)),
        SourceConfig::Ldap(config) => Box::new(ldap::LdapWriter::new(config)),
    })
}
