//! All SQL of the service, the same text for both engines.
//!
//! Whoever changes something holds the tenant's write transaction, so what is read in one does not change before its commit.
//! Bulk paths take a thousand rows a statement; there is no statement a row anywhere.

pub(crate) mod campaigns;
pub(crate) mod decided;
pub(crate) mod items;
pub(crate) mod removals;
pub(crate) mod staging;

#[cfg(test)]
pub(crate) mod conformance;

use counterfoil_chassis::db::Migrations;
use counterfoil_evidence::leaf::GrantKey;
/// Where statements run: a transaction's connection, or one of the reader's.
pub(crate) use sqlx::AnyConnection as Connection;
use sqlx::{Row, any::AnyRow};

/// The service's tables.
pub(crate) const MIGRATIONS: Migrations = counterfoil_chassis::migrations!(
    "recertification",
    "0001_campaigns.sql",
    "0002_verified_removals.sql",
    "0003_staging.sql",
    "0004_former_subjects.sql"
);

/// Why the store does not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The database refuses.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// A stored value is none that this service writes.
    #[error("column {0} holds what this service never writes")]
    Damaged(&'static str),
}

/// A column of 32 bytes, or NULL.
fn hash(row: &AnyRow, column: &'static str) -> Result<Option<[u8; 32]>, StoreError> {
    row.try_get::<Option<Vec<u8>>, _>(column)?
        .map(|bytes| bytes.try_into().map_err(|_| StoreError::Damaged(column)))
        .transpose()
}

/// A column of 40 bytes, or NULL.
fn grant_key(row: &AnyRow, column: &'static str) -> Result<Option<GrantKey>, StoreError> {
    row.try_get::<Option<Vec<u8>>, _>(column)?
        .map(|bytes| GrantKey::try_from(bytes.as_slice()).map_err(|_| StoreError::Damaged(column)))
        .transpose()
}

/// A number that is never negative.
fn count(row: &AnyRow, column: &'static str) -> Result<u64, StoreError> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| StoreError::Damaged(column))
}

/// A count as it is stored.
fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
