//! Obligations: opened, then discharged or breached, each once.

use counterfoil_chassis::db::{BulkValue, Database, WriteTx, bulk_insert};
use sqlx::{Row, any::AnyRow};

use super::{Result, StoreError, code, id16};
use crate::model::entities::{Obligation, ObligationState, obligation_kind};

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

/// Ends an obligation; false: it had ended, so nothing may be recorded of it. What is breached is discharged late all the
/// same, once.
pub(crate) async fn end(tx: &mut WriteTx, id: &[u8; 16], state: ObligationState) -> Result<bool> {
    let tenant = tx.tenant().to_owned();
    let late = match state {
        ObligationState::Discharged => ObligationState::Breached,
        _ => ObligationState::Open,
    };
    let ended = sqlx::query(
        "UPDATE obligations SET state = $1 WHERE tenant = $2 AND obligation = $3 AND state IN ($4, $5)",
    )
    .bind(state as i64)
    .bind(tenant)
    .bind(id.to_vec())
    .bind(ObligationState::Open as i64)
    .bind(late as i64)
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

/// What is open and was due by `due_ms`, in all tenants, longest overdue first.
pub(crate) async fn overdue(db: &Database, due_ms: i64) -> Result<Vec<Obligation>> {
    let rows = sqlx::query(
        "SELECT * FROM obligations WHERE state = $1 AND due_ms <= $2 ORDER BY due_ms, obligation LIMIT 10000",
    )
    .bind(ObligationState::Open as i64)
    .bind(due_ms)
    .fetch_all(db.read_everything("obligations that are overdue").await?.conn())
    .await?;
    rows.iter().map(obligation).collect()
}

/// A source that is owed to be read again by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) tenant: String,
    /// Bare id.
    pub(crate) source: String,
    /// When the newest of what is owed there was due.
    pub(crate) newest_ms: i64,
}

/// The sources that are owed to be read again by `now_ms`, in time or late: of one tenant, or of all when it is empty.
pub(crate) async fn sources_due(db: &Database, tenant: &str, now_ms: i64) -> Result<Vec<Due>> {
    let mut connection = match tenant {
        "" => {
            db.read_everything("sources that are owed to be read again")
                .await?
        }
        tenant => db.read(tenant).await?,
    };
    let rows = sqlx::query(
        "SELECT tenant, source, MAX(due_ms) AS newest_ms FROM obligations \
         WHERE state IN ($1, $2) AND due_ms <= $3 AND kind = $4 AND ($5 = '' OR tenant = $5) \
         GROUP BY tenant, source ORDER BY newest_ms",
    )
    .bind(ObligationState::Open as i64)
    .bind(ObligationState::Breached as i64)
    .bind(now_ms)
    .bind(obligation_kind::REREAD)
    .bind(tenant)
    .fetch_all(connection.conn())
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Due {
                tenant: row.try_get("tenant")?,
                source: row.try_get("source")?,
                newest_ms: row.try_get("newest_ms")?,
            })
        })
        .collect()
}

/// The re-reads of a source that were due by `now_ms` and are owed: first those that are not breached yet.
pub(crate) async fn rereads_due(
    db: &Database,
    tenant: &str,
    source: &str,
    now_ms: i64,
) -> Result<Vec<Obligation>> {
    let rows = sqlx::query(
        "SELECT * FROM obligations WHERE state IN ($1, $2) AND due_ms <= $3 AND kind = $4 AND tenant = $5 \
         AND source = $6 ORDER BY state, due_ms, obligation LIMIT 10000",
    )
    .bind(ObligationState::Open as i64)
    .bind(ObligationState::Breached as i64)
    .bind(now_ms)
    .bind(obligation_kind::REREAD)
    .bind(tenant)
    .bind(source)
    .fetch_all(db.read(tenant).await?.conn())
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
    .fetch_all(db.read(tenant).await?.conn())
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
