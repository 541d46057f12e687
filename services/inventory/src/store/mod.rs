//! All SQL of the inventory. One text for both engines, held to one conformance suite.
//!
//! Invariant: accounts, entitlements and grants are kept in versions, `[first_seq, gone_seq)` in the numbers of their source's
//! syncs. Rows of a sync that is not sealed have numbers above the source's `current_seq` and are seen by nobody, so a sync
//! may write them in many transactions and become visible in one.

pub mod changes;
pub mod entities;
pub mod grants;
pub mod leases;
pub mod listing;
pub mod owners;
pub mod snapshots;
pub mod sources;
pub mod stage;
pub mod syncs;

use counterfoil_chassis::db::Migrations;
use sqlx::{Row, any::AnyRow};

use crate::error::{Error, Result};

/// `gone_seq` of what is there.
pub const STILL_THERE: i64 = i64::MAX;

/// The tables of this service.
pub const MIGRATIONS: Migrations =
    counterfoil_chassis::migrations!("inventory", "0001_inventory.sql", "0002_places.sql");

/// Reads bytes of a fixed length.
fn bytes<const N: usize>(row: &AnyRow, column: &'static str) -> Result<[u8; N]> {
    let value: Vec<u8> = row.try_get(column)?;
    value.try_into().map_err(|_| Error::Damaged(column))
}

/// Reads bytes of a fixed length where there may be none.
fn optional_bytes<const N: usize>(row: &AnyRow, column: &'static str) -> Result<Option<[u8; N]>> {
    let value: Option<Vec<u8>> = row.try_get(column)?;
    value
        .map(|value| value.try_into().map_err(|_| Error::Damaged(column)))
        .transpose()
}

/// Reads a count.
fn count(row: &AnyRow, column: &'static str) -> Result<u64> {
    let value: i64 = row.try_get(column)?;
    u64::try_from(value).map_err(|_| Error::Damaged(column))
}

/// Writes a count.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
