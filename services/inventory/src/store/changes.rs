//! The change feed, derived from the versions of grants: nothing more is stored for it.

use counterfoil_chassis::db::Database;
use sqlx::Row;

use super::{bytes, grants::flags};
use crate::{
    error::Result,
    model::{diff::Current, sorting::KEY_BYTES},
};

/// How one grant changed in one sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRow {
    /// Key without the source tag.
    pub key: [u8; KEY_BYTES],
    /// What was there before.
    pub before: Option<Current>,
    /// What is there since.
    pub after: Option<Current>,
}

/// Versions looked at in one statement.
const VERSIONS_MAX: i64 = 4096;

/// A page of the changes that a sync made, in order of the keys, from `after` on; empty when there are no more.
///
/// # Errors
/// When the database fails.
pub async fn of_sync(
    db: &Database,
    tenant: &str,
    source_no: i64,
    seq: i64,
    after: &[u8],
) -> Result<Vec<ChangeRow>> {
    // The unary plus keeps both engines on the primary key, in whose order the rows are wanted.
    let rows = sqlx::query(
        "SELECT key, first_seq, gone_seq, flags, value, last_used_ms FROM grants \
         WHERE source_no = $1 AND key > $2 AND (+first_seq = $3 OR +gone_seq = $3) ORDER BY key, first_seq LIMIT $4",
    )
    .bind(source_no)
    .bind(after.to_vec())
    .bind(seq)
    .bind(VERSIONS_MAX)
    .fetch_all(db.read(tenant).await?.conn())
    .await?;
    let full = i64::try_from(rows.len()).unwrap_or(VERSIONS_MAX) == VERSIONS_MAX;
    let mut changes: Vec<ChangeRow> = Vec::with_capacity(rows.len());
    for row in &rows {
        let version = Current {
            key: bytes(row, "key")?,
            first_seq: row.try_get("first_seq")?,
            flags: flags(row)?,
            value: bytes(row, "value")?,
            last_used_ms: row.try_get("last_used_ms")?,
        };
        if changes.last().is_none_or(|last| last.key != version.key) {
            changes.push(ChangeRow {
                key: version.key,
                before: None,
                after: None,
            });
        }
        if let Some(change) = changes.last_mut() {
            if version.first_seq == seq {
                change.after = Some(version);
            } else {
                change.before = Some(version);
            }
        }
    }
    // The last key of a full page may have its other version on the next page; it is read again there.
    if full && changes.len() > 1 {
        changes.pop();
    }
    Ok(changes)
}
