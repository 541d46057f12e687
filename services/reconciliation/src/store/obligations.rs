//! Obligations: opened, then discharged or breached, each once.

use counterfoil_chassis::db::{BulkValue, Database, WriteTx, bulk_insert};
use sqlx::{Row, any::AnyRow};

use super::{Result, StoreError, code, id16};
use crate::model::entities::{Obligation, ObligationState};

/// Opens obligations.
pub(crate) async fn insert(tx: &mut WriteTx, obligations: &[Obligation]) -> Result<()> {
    let rows: Vec<[BulkValue; 8]> = obligations
        .iter()
        .map(|owed| {
            [
                owed.tenant.as_str().into(),
                owed.id.into(),
                owed.kind.as_str().into(),
                owed.owner.as_str().into(),
                owed.due_ms.into(),
                owed.remediation.as_str().into(),
                owed.source.as_str().into(),
                (owed.state as i64).into(),
            ]
        })
        .collect();
    bulk_insert(
        tx,
        "obligations",
        [
            "tenant",
            "obligation",
            "kind",
            "owner",
            "due_ms",
            "remediation",
            "source",
            "state",
        ],
        "",
        rows,
    )
    .await?;
    Ok(())
}

/// Ends an obligation; false: it had ended, so nothing may be recorded of it.
pub(crate) async fn end(tx: &mut WriteTx, id: &[u8; 16], state: ObligationState) -> Result<bool> {
    let tenant = tx.tenant().to_owned();
    let ended = sqlx::query(
        "UPDATE obligations SET state = $1 WHERE tenant = $2 AND obligation = $3 AND state = $4",
    )
    .bind(state as i64)
    .bind(tenant)
    .bind(id.to_vec())
    .bind(ObligationState::Open as i64)
    .execute(tx.conn())
    .await?;
    Ok(ended.rows_affected() == 1)
}

/// The open obligations of a kind that a remediation has.
pub(crate) async fn open_of(
    tx: &mut WriteTx,
    remediation: &str,
    kind: &str,
) -> Result<Vec<Obligation>> {
    let tenant = tx.tenant().to_owned();
    let rows = sqlx::query(
        "SELECT * FROM obligations WHERE tenant = $1 AND remediation = $2 AND kind = $3 AND state = $4 \
         ORDER BY due_ms, obligation",
    )
    .bind(tenant)
    .bind(remediation)
    .bind(kind)
    .bind(ObligationState::Open as i64)
    .fetch_all(tx.conn())
    .await?;
    rows.iter().map(obligation).collect()
}

/// What is open and due by `now_ms`: of one tenant, or of all when it is empty.
pub(crate) async fn due(db: &Database, tenant: &str, now_ms: i64) -> Result<Vec<Obligation>> {
    let rows = sqlx::query(
        "SELECT * FROM obligations WHERE state = $1 AND due_ms <= $2 AND ($3 = '' OR tenant = $3) \
         ORDER BY due_ms, obligation LIMIT 10000",
    )
    .bind(ObligationState::Open as i64)
    .bind(now_ms)
    .bind(tenant)
    .fetch_all(db.reader())
    .await?;
    rows.iter().map(obligation).collect()
}

/// Open obligations after a position, soonest due first.
pub(crate) async fn list(
    db: &Database,
    tenant: &str,
    after: Option<(i64, &[u8])>,
    limit: i64,
) -> Result<Vec<Obligation>> {
    let (due_ms, id) = after.unwrap_or((i64::MIN, &[]));
    let rows = sqlx::query(
        "SELECT * FROM obligations WHERE tenant = $1 AND state = $2 \
         AND (due_ms > $3 OR (due_ms = $3 AND obligation > $4)) ORDER BY due_ms, obligation LIMIT $5",
    )
    .bind(tenant)
    .bind(ObligationState::Open as i64)
    .bind(due_ms)
    .bind(id.to_vec())
    .bind(limit)
    .fetch_all(db.reader())
    .await?;
    rows.iter().map(obligation).collect()
}

fn obligation(row: &AnyRow) -> Result<Obligation> {
    Ok(Obligation {
        id: id16(row, "obligation")?.ok_or(StoreError::Damaged("obligation"))?,
        tenant: row.try_get("tenant")?,
        kind: row.try_get("kind")?,
        owner: row.try_get("owner")?,
        due_ms: row.try_get("due_ms")?,
        remediation: row.try_get("remediation")?,
        source: row.try_get("source")?,
        state: code(row, "state", ObligationState::from_number)?,
    })
}
