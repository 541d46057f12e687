//! All SQL of the service, the same text for both engines.
//!
//! Whoever changes something holds the tenant's write transaction, so what is read in one does not change before its commit.
//! Bulk paths take a thousand rows a statement; there is no statement a row anywhere.

pub(crate) mod actions;
pub(crate) mod findings;
pub(crate) mod obligations;
pub(crate) mod remediations;
pub(crate) mod runs;

#[cfg(test)]
mod conformance;

use counterfoil_chassis::db::Migrations;
use counterfoil_evidence::leaf::GrantKey;
use sqlx::{Row, any::AnyRow};

use crate::model::entities::{Decision, Digest};

/// The service's tables.
pub(crate) const MIGRATIONS: Migrations = counterfoil_chassis::migrations!(
    "reconciliation",
    "0001_reconciliation.sql",
    "0002_superseded.sql",
    "0003_agents.sql"
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

/// Transactions are committed outside of the store.
impl From<sqlx::Error> for crate::error::JobError {
    fn from(error: sqlx::Error) -> Self {
        Self::Api(error.into())
    }
}

/// Shorthand for a result of the store.
pub(crate) type Result<T> = std::result::Result<T, StoreError>;

/// A column of 32 bytes, or NULL.
fn digest(row: &AnyRow, column: &'static str) -> Result<Option<Digest>> {
    row.try_get::<Option<Vec<u8>>, _>(column)?
        .map(|bytes| bytes.try_into().map_err(|_| StoreError::Damaged(column)))
        .transpose()
}

/// A column of 32 bytes.
fn digest_set(row: &AnyRow, column: &'static str) -> Result<Digest> {
    digest(row, column)?.ok_or(StoreError::Damaged(column))
}

/// A column of 16 bytes, or NULL.
fn id16(row: &AnyRow, column: &'static str) -> Result<Option<[u8; 16]>> {
    row.try_get::<Option<Vec<u8>>, _>(column)?
        .map(|bytes| bytes.try_into().map_err(|_| StoreError::Damaged(column)))
        .transpose()
}

/// A column of 40 bytes, or NULL.
fn grant_key(row: &AnyRow, column: &'static str) -> Result<Option<GrantKey>> {
    row.try_get::<Option<Vec<u8>>, _>(column)?
        .map(|bytes| GrantKey::try_from(bytes.as_slice()).map_err(|_| StoreError::Damaged(column)))
        .transpose()
}

/// A number that is never negative.
fn count(row: &AnyRow, column: &'static str) -> Result<u64> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| StoreError::Damaged(column))
}

/// A small number that is never negative.
fn small(row: &AnyRow, column: &'static str) -> Result<u32> {
    u32::try_from(row.try_get::<i64, _>(column)?).map_err(|_| StoreError::Damaged(column))
}

/// A number that stands for something.
fn code<T>(row: &AnyRow, column: &'static str, known: impl FnOnce(i64) -> Option<T>) -> Result<T> {
    known(row.try_get(column)?).ok_or(StoreError::Damaged(column))
}

/// The columns of a decision; `None` when nobody decided.
fn decision(row: &AnyRow) -> Result<Option<Decision>> {
    let Some(record_hash) = digest(row, "decided_record_hash")? else {
        return Ok(None);
    };
    Ok(Some(Decision {
        record_hash,
        decided_ms: row.try_get("decided_ms")?,
        decided_by: row.try_get("decided_by")?,
        kept: grant_key(row, "kept_grant_key")?,
        campaign: row.try_get("campaign")?,
    }))
}

/// A count as it is stored.
fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// An enum of the protos from its stored number.
fn known<T: TryFrom<i32>>(number: i64) -> Option<T> {
    T::try_from(i32::try_from(number).ok()?).ok()
}

/// The last record that a service has written, if any: for tests that wait until it is in the ledger.
#[cfg(test)]
pub(crate) async fn last_record(db: &counterfoil_chassis::Database, tenant: &str) -> Vec<[u8; 16]> {
    let rows = sqlx::query(
        "SELECT record_id FROM outbox_records WHERE tenant = $1 ORDER BY seq DESC LIMIT 1",
    )
    .bind(tenant)
    .fetch_all(db.read(tenant).await.unwrap().conn())
    .await
    .unwrap();
    rows.iter()
        .map(|row| row.get::<Vec<u8>, _>(0).try_into().unwrap())
        .collect()
}
