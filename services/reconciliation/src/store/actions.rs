//! Actions. Every change is a statement a thousand rows.

use std::collections::{BTreeMap, BTreeSet};

use counterfoil_chassis::db::{BulkValue, Database, WriteTx, bulk_execute, bulk_insert};
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{Result, StoreError, code, count, decision, digest, grant_key, id16, known, small};
use crate::model::{entities::Action, ids::RemediationKey, state::ActionState};

/// Writes the actions of a plan.
pub(crate) async fn insert(tx: &mut WriteTx, remediation: &str, actions: &[Action]) -> Result<()> {
    let tenant = tx.tenant().to_owned();
    let rows: Vec<[BulkValue; 27]> = actions
        .iter()
        .map(|action| row_of(&tenant, remediation, action))
        .collect();
    bulk_insert(
        tx,
        "actions",
        [
            "tenant",
            "remediation",
            "grant_key",
            "action",
            "source",
            "operation",
            "finding",
            "decided_record_hash",
            "decided_ms",
            "decided_by",
            "kept_grant_key",
            "campaign",
            "account_native",
            "entitlement_native",
            "account_name",
            "entitlement_name",
            "state",
            "attempts",
            "tries",
            "idempotency_key",
            "executor",
            "first_started_ms",
            "started_ms",
            "ended_ms",
            "failure",
            "verified_ms",
            "watched",
        ],
        "",
        rows,
    )
    .await?;
    Ok(())
}

fn row_of(tenant: &str, remediation: &str, action: &Action) -> [BulkValue; 27] {
    let decision = &action.decision;
    [
        tenant.into(),
        remediation.into(),
        action.key.0.as_slice().into(),
        action.id.as_str().into(),
        action.source.as_str().into(),
        (action.operation as i32).into(),
        action.finding.as_str().into(),
        decision.record_hash.into(),
        decision.decided_ms.into(),
        decision.decided_by.as_str().into(),
        decision.kept.map(|key| key.0.to_vec()).into(),
        decision.campaign.as_str().into(),
        action.account_native.as_str().into(),
        action.entitlement_native.as_str().into(),
        action.account_name.as_str().into(),
        action.entitlement_name.as_str().into(),
        (action.state as i64).into(),
        0.into(),
        0.into(),
        "".into(),
        "".into(),
        0.into(),
        0.into(),
        0.into(),
        "".into(),
        0.into(),
        false.into(),
    ]
}

/// Writes down the present state of actions: what attempts and read-backs change.
pub(crate) async fn update(tx: &mut WriteTx, remediation: &str, actions: &[Action]) -> Result<()> {
    let tenant = tx.tenant().to_owned();
    let rows: Vec<[BulkValue; 17]> = actions
        .iter()
        .map(|action| {
            [
                action.key.0.as_slice().into(),
                (action.state as i64).into(),
                i64::from(action.attempts).into(),
                i64::from(action.tries).into(),
                action.idempotency_key.as_str().into(),
                action.intent_record_id.into(),
                action.intent_record_hash.into(),
                action.executor.as_str().into(),
                action.first_started_ms.into(),
                action.started_ms.into(),
                action.ended_ms.into(),
                action.failure.as_str().into(),
                action.read_record_hash.into(),
                action.verified_record_hash.into(),
                action.verified_ms.into(),
                action.watched.into(),
                action.superseded_by.into(),
            ]
        })
        .collect();
    bulk_execute(
        tx,
        "UPDATE actions SET state = v.column2, attempts = v.column3, tries = v.column4, idempotency_key = v.column5, \
         intent_record_id = v.column6, intent_record_hash = v.column7, executor = v.column8, \
         first_started_ms = v.column9, started_ms = v.column10, ended_ms = v.column11, failure = v.column12, \
         read_record_hash = v.column13, verified_record_hash = v.column14, verified_ms = v.column15, \
         watched = v.column16, superseded_by = v.column17 \
         FROM (VALUES {rows}) AS v \
         WHERE actions.tenant = ? AND actions.remediation = ? AND actions.grant_key = v.column1",
        &[],
        rows,
        &[tenant.into(), remediation.into()],
    )
    .await?;
    Ok(())
}

/// Starts a new execution: what is open may be tried again.
pub(crate) async fn reset_tries(tx: &mut WriteTx, remediation: &str) -> Result<()> {
    let tenant = tx.tenant().to_owned();
    sqlx::query("UPDATE actions SET tries = 0 WHERE tenant = $1 AND remediation = $2")
        .bind(tenant)
        .bind(remediation)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Actions of a source in one of these states, ascending by key, after `after`.
pub(crate) async fn of_source(
    connection: &mut AnyConnection,
    key: &RemediationKey,
    source: &str,
    states: &[ActionState],
) -> Result<Vec<Action>> {
    let mut found = Vec::new();
    for state in states {
        let rows = sqlx::query(
            "SELECT * FROM actions WHERE tenant = $1 AND remediation = $2 AND source = $3 AND state = $4 \
             ORDER BY grant_key",
        )
        .bind(&key.tenant)
        .bind(&key.remediation)
        .bind(source)
        .bind(*state as i64)
        .fetch_all(&mut *connection)
        .await?;
        for row in &rows {
            found.push(action(row)?);
        }
    }
    found.sort_by_key(|action| action.key);
    Ok(found)
}

/// All actions of a remediation, ascending by key.
pub(crate) async fn all(
    connection: &mut AnyConnection,
    key: &RemediationKey,
) -> Result<Vec<Action>> {
    let rows = sqlx::query(
        "SELECT * FROM actions WHERE tenant = $1 AND remediation = $2 ORDER BY grant_key",
    )
    .bind(&key.tenant)
    .bind(&key.remediation)
    .fetch_all(connection)
    .await?;
    rows.iter().map(action).collect()
}

/// The sources of a remediation's actions.
pub(crate) async fn sources(
    connection: &mut AnyConnection,
    key: &RemediationKey,
) -> Result<BTreeSet<String>> {
    let rows =
        sqlx::query("SELECT DISTINCT source FROM actions WHERE tenant = $1 AND remediation = $2")
            .bind(&key.tenant)
            .bind(&key.remediation)
            .fetch_all(connection)
            .await?;
    rows.iter().map(|row| Ok(row.try_get("source")?)).collect()
}

/// How many actions of each of these remediations are verified.
pub(crate) async fn verified_counts(
    connection: &mut AnyConnection,
    tenant: &str,
    first: &str,
    last: &str,
) -> Result<BTreeMap<String, u64>> {
    let rows = sqlx::query(
        "SELECT remediation, COUNT(*) AS verified FROM actions \
         WHERE tenant = $1 AND remediation >= $2 AND remediation <= $3 AND state = $4 GROUP BY remediation",
    )
    .bind(tenant)
    .bind(first)
    .bind(last)
    .bind(ActionState::Verified as i64)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| Ok((row.try_get("remediation")?, count(row, "verified")?)))
        .collect()
}

/// Actions after a key, ascending.
pub(crate) async fn list(
    db: &Database,
    key: &RemediationKey,
    after: Option<&[u8]>,
    limit: i64,
) -> Result<Vec<Action>> {
    let rows = sqlx::query(
        "SELECT * FROM actions WHERE tenant = $1 AND remediation = $2 AND grant_key > $3 \
         ORDER BY grant_key LIMIT $4",
    )
    .bind(&key.tenant)
    .bind(&key.remediation)
    .bind(after.unwrap_or_default().to_vec())
    .bind(limit)
    .fetch_all(db.read(&key.tenant).await?.conn())
    .await?;
    rows.iter().map(action).collect()
}

fn action(row: &AnyRow) -> Result<Action> {
    Ok(Action {
        id: row.try_get("action")?,
        key: grant_key(row, "grant_key")?.ok_or(StoreError::Damaged("grant_key"))?,
        source: row.try_get("source")?,
        operation: code(row, "operation", known)?,
        finding: row.try_get("finding")?,
        decision: decision(row)?.ok_or(StoreError::Damaged("decided_record_hash"))?,
        account_native: row.try_get("account_native")?,
        entitlement_native: row.try_get("entitlement_native")?,
        account_name: row.try_get("account_name")?,
        entitlement_name: row.try_get("entitlement_name")?,
        state: code(row, "state", ActionState::from_number)?,
        attempts: small(row, "attempts")?,
        tries: small(row, "tries")?,
        idempotency_key: row.try_get("idempotency_key")?,
        intent_record_id: id16(row, "intent_record_id")?,
        intent_record_hash: digest(row, "intent_record_hash")?,
        executor: row.try_get("executor")?,
        first_started_ms: row.try_get("first_started_ms")?,
        started_ms: row.try_get("started_ms")?,
        ended_ms: row.try_get("ended_ms")?,
        failure: row.try_get("failure")?,
        read_record_hash: digest(row, "read_record_hash")?,
        verified_record_hash: digest(row, "verified_record_hash")?,
        verified_ms: row.try_get("verified_ms")?,
        watched: row.try_get::<i64, _>("watched")? == 1,
        superseded_by: digest(row, "superseded_by")?,
    })
}
