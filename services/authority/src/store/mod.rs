//! All SQL of this service. Functions take a connection of a read or of a write transaction; rules stay in the model.
//!
//! Invariant: every statement names its tenant, but for the list of tenants, the look-up of a token by its public id and the
//! job's lists of engagements that end, and of what providers withdrew or asked for.

pub(crate) mod delegations;
pub(crate) mod emergencies;
pub(crate) mod engagements;
pub(crate) mod gate;
pub(crate) mod holds;
pub(crate) mod logins;
pub(crate) mod mandates;
pub(crate) mod organizations;
pub(crate) mod policies;
pub(crate) mod principals;
pub(crate) mod qualifications;
pub(crate) mod rights;
mod row;
pub(crate) mod settings;
pub(crate) mod tenants;
pub(crate) mod tenures;
pub(crate) mod tokens;

#[cfg(test)]
mod conformance;

use counterfoil_chassis::{ApiError, db::Migrations, pages::Page};

/// The tables of this service.
pub(crate) const MIGRATIONS: Migrations = counterfoil_chassis::migrations!(
    "authority",
    "0001_authority.sql",
    "0002_credentials.sql",
    "0003_engagements.sql",
    "0004_governance.sql",
    "0005_issuers.sql",
    "0006_offers.sql",
    "0007_life.sql",
    "0008_words.sql",
    "0009_mandates.sql",
    "0010_legal_holds.sql"
);

/// Where statements run: in a read, or in a change.
pub(crate) type Connection = sqlx::AnyConnection;

/// Reads of one tenant: `api.db.read(&tenant)`.
pub(crate) type Reader = counterfoil_chassis::ReadTx;

/// A place in a list and how many rows to read from there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct From<'a> {
    /// Read what comes after this id; empty: from the start (no id is empty).
    pub(crate) after: &'a str,
    /// Rows at most.
    pub(crate) limit: i64,
}

impl<'a> From<'a> {
    /// The rows of a page, and one more to tell whether there is a next one.
    pub(crate) fn page(page: &'a Page) -> Result<Self, ApiError> {
        Ok(Self {
            after: page.after_text()?.unwrap_or_default(),
            limit: i64::from(page.size) + 1,
        })
    }
}
