//! Findings. One live finding a grant and situation, held by a unique index.

use counterfoil_chassis::db::{BulkValue, Database, WriteTx, bulk_execute, bulk_insert, select_in};
use counterfoil_evidence::{
    leaf::GrantKey,
    v1::{FindingState, Situation},
};
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{Result, StoreError, code, decision, grant_key, known, small};
use crate::model::{
    entities::{Decision, Finding},
    ids::Principal,
};

/// Opens findings.
pub(crate) async fn insert(tx: &mut WriteTx, findings: &[Finding]) -> Result<()> {
    let tenant = tx.tenant().to_owned();
    let rows: Vec<[BulkValue; 22]> = findings
        .iter()
        .map(|finding| row_of(&tenant, finding))
        .collect();
    bulk_insert(
        tx,
        "findings",
        [
            "tenant",
            "finding",
            "grant_key",
            "situation",
            "severity",
            "recon_run",
            "due_ms",
            "created_ms",
            "account_name",
            "entitlement_name",
            "last_run",
            "decided_record_hash",
            "decided_ms",
            "decided_by",
            "kept_grant_key",
            "campaign",
            "accountable_owner",
            "state",
            "until_ms",
            "changed_ms",
            "remediation",
            "live",
        ],
        "",
        rows,
    )
    .await?;
    Ok(())
}

fn row_of(tenant: &str, finding: &Finding) -> [BulkValue; 22] {
    let decision = finding.decision.as_ref();
    [
        tenant.into(),
        finding.id.as_str().into(),
        finding.key.0.as_slice().into(),
        (finding.situation as i32).into(),
        i64::from(finding.severity).into(),
        finding.run.as_str().into(),
        finding.due_ms.into(),
        finding.created_ms.into(),
        finding.account_name.as_str().into(),
        finding.entitlement_name.as_str().into(),
        finding.run.as_str().into(),
        decision.map(|decision| decision.record_hash).into(),
        decision.map_or(0, |decision| decision.decided_ms).into(),
        decision
            .map_or("", |decision| decision.decided_by.as_str())
            .into(),
        kept(decision),
        decision
            .map_or("", |decision| decision.campaign.as_str())
            .into(),
        finding.owner.as_str().into(),
        (finding.state as i32).into(),
        finding.until_ms.into(),
        finding.changed_ms.into(),
        finding.remediation.as_str().into(),
        true.into(),
    ]
}

fn kept(decision: Option<&Decision>) -> BulkValue {
    decision
        .and_then(|decision| decision.kept)
        .map(|key| key.0.to_vec())
        .into()
}

/// Notes that a run found live findings again, and what is decided on their grants by now.
pub(crate) async fn found_again(
    tx: &mut WriteTx,
    run: &str,
    seen: impl IntoIterator<Item = (String, Option<Decision>)>,
) -> Result<()> {
    let tenant = tx.tenant().to_owned();
    let rows: Vec<[BulkValue; 6]> = seen
        .into_iter()
        .map(|(finding, decision)| {
            let decision = decision.as_ref();
            [
                finding.into(),
                decision.map(|decision| decision.record_hash).into(),
                decision.map_or(0, |decision| decision.decided_ms).into(),
                decision
                    .map_or("", |decision| decision.decided_by.as_str())
                    .into(),
                kept(decision),
                decision
                    .map_or("", |decision| decision.campaign.as_str())
                    .into(),
            ]
        })
        .collect();
    bulk_execute(
        tx,
        "UPDATE findings SET last_run = ?, decided_record_hash = v.column2, decided_ms = v.column3, \
         decided_by = v.column4, kept_grant_key = v.column5, campaign = v.column6 \
         FROM (VALUES {rows}) AS v WHERE findings.tenant = ? AND findings.finding = v.column1",
        &[run.into()],
        rows,
        &[tenant.into()],
    )
    .await?;
    Ok(())
}

/// A new state for findings, all alike.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change<'c> {
    pub(crate) state: FindingState,
    /// End of an accepted risk, else 0.
    pub(crate) until_ms: i64,
    pub(crate) now_ms: i64,
    /// Bare id of the remediation that deals with them, or empty.
    pub(crate) remediation: &'c str,
}

/// Gives findings a new state.
pub(crate) async fn change(
    tx: &mut WriteTx,
    findings: impl IntoIterator<Item = String>,
    change: Change<'_>,
) -> Result<()> {
    let tenant = tx.tenant().to_owned();
    let live = i64::from(change.state != FindingState::ResolvedVerified);
    let rows: Vec<[BulkValue; 1]> = findings
        .into_iter()
        .map(|finding| [finding.into()])
        .collect();
    bulk_execute(
        tx,
        "UPDATE findings SET state = ?, until_ms = ?, changed_ms = ?, remediation = ?, live = ? \
         FROM (VALUES {rows}) AS v WHERE findings.tenant = ? AND findings.finding = v.column1",
        &[
            (change.state as i32).into(),
            change.until_ms.into(),
            change.now_ms.into(),
            change.remediation.into(),
            live.into(),
        ],
        rows,
        &[tenant.into()],
    )
    .await?;
    Ok(())
}

/// Reads a finding.
pub(crate) async fn get(
    connection: &mut AnyConnection,
    tenant: &str,
    id: &str,
) -> Result<Option<Finding>> {
    let row = sqlx::query("SELECT * FROM findings WHERE tenant = $1 AND finding = $2")
        .bind(tenant)
        .bind(id)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(finding).transpose()
}

/// A live finding, as far as a run must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) id: String,
    pub(crate) key: GrantKey,
    pub(crate) situation: Situation,
    pub(crate) state: FindingState,
    pub(crate) until_ms: i64,
    pub(crate) changed_ms: i64,
    /// Bare id of the snapshot in which it was found the last time.
    pub(crate) snapshot: String,
}

/// All live findings of the tenant, ascending by key.
pub(crate) async fn live(connection: &mut AnyConnection, tenant: &str) -> Result<Vec<Live>> {
    let rows = sqlx::query(
        "SELECT finding, grant_key, situation, state, until_ms, changed_ms, \
         COALESCE(recon_runs.snapshot, '') AS snapshot FROM findings \
         LEFT JOIN recon_runs ON recon_runs.tenant = findings.tenant AND recon_runs.recon_run = findings.last_run \
         WHERE findings.tenant = $1 AND live = 1 ORDER BY grant_key",
    )
    .bind(tenant)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Live {
                id: row.try_get("finding")?,
                key: grant_key(row, "grant_key")?.ok_or(StoreError::Damaged("grant_key"))?,
                situation: code(row, "situation", known)?,
                state: code(row, "state", known)?,
                until_ms: row.try_get("until_ms")?,
                changed_ms: row.try_get("changed_ms")?,
                snapshot: row.try_get("snapshot")?,
            })
        })
        .collect()
}

/// The live findings that a plan may take: of these situations, found by the run, and dealt with by nobody.
pub(crate) async fn removable(
    connection: &mut AnyConnection,
    tenant: &str,
    run: &str,
    situations: [Situation; 2],
) -> Result<Vec<Finding>> {
    let [first, second] = situations.map(|situation| i64::from(situation as i32));
    let rows = sqlx::query(
        "SELECT * FROM findings WHERE tenant = $1 AND last_run = $2 AND live = 1 AND situation IN ($3, $4) \
         AND state IN ($5, $6) ORDER BY grant_key",
    )
    .bind(tenant)
    .bind(run)
    .bind(first)
    .bind(second)
    .bind(i64::from(FindingState::Open as i32))
    .bind(i64::from(FindingState::Reopened as i32))
    .fetch_all(connection)
    .await?;
    rows.iter().map(finding).collect()
}

/// Findings by id. What is not there is left out.
pub(crate) async fn many(
    tx: &mut WriteTx,
    ids: impl IntoIterator<Item = String>,
) -> Result<Vec<Finding>> {
    let (tenant, engine) = (tx.tenant().to_owned(), tx.engine());
    let ids: Vec<String> = ids.into_iter().collect();
    let rows = select_in(
        tx.conn(),
        engine,
        "SELECT * FROM findings WHERE tenant = ? AND finding IN ({list})",
        &[tenant.into()],
        ids,
    )
    .await?;
    rows.iter().map(finding).collect()
}

/// The grants of these that have a live finding.
pub(crate) async fn live_keys(
    tx: &mut WriteTx,
    keys: impl IntoIterator<Item = GrantKey>,
) -> Result<Vec<(GrantKey, Situation)>> {
    let (tenant, engine) = (tx.tenant().to_owned(), tx.engine());
    let keys: Vec<Vec<u8>> = keys.into_iter().map(|key| key.0.to_vec()).collect();
    let rows = select_in(
        tx.conn(),
        engine,
        "SELECT grant_key, situation FROM findings WHERE tenant = ? AND live = 1 AND grant_key IN ({list})",
        &[tenant.into()],
        keys,
    )
    .await?;
    rows.iter()
        .map(|row| {
            let key = grant_key(row, "grant_key")?.ok_or(StoreError::Damaged("grant_key"))?;
            Ok((key, code(row, "situation", known)?))
        })
        .collect()
}

/// Which findings to list.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Filter {
    /// 0: all.
    pub(crate) situation: i64,
    /// 0: all.
    pub(crate) state: i64,
}

/// Findings after a position, most severe first.
pub(crate) async fn list(
    db: &Database,
    tenant: &str,
    filter: Filter,
    after: Option<(i64, &str)>,
    limit: i64,
) -> Result<Vec<Finding>> {
    let (severity, id) = after.unwrap_or((i64::MAX, ""));
    let rows = sqlx::query(
        "SELECT * FROM findings WHERE tenant = $1 AND (severity < $2 OR (severity = $2 AND finding > $3)) \
         AND ($4 = 0 OR situation = $4) AND ($5 = 0 OR state = $5) ORDER BY severity DESC, finding LIMIT $6",
    )
    .bind(tenant)
    .bind(severity)
    .bind(id)
    .bind(filter.situation)
    .bind(filter.state)
    .bind(limit)
    .fetch_all(db.read(tenant).await?.conn())
    .await?;
    rows.iter().map(finding).collect()
}

fn finding(row: &AnyRow) -> Result<Finding> {
    Ok(Finding {
        id: row.try_get("finding")?,
        key: grant_key(row, "grant_key")?.ok_or(StoreError::Damaged("grant_key"))?,
        situation: code(row, "situation", known)?,
        severity: small(row, "severity")?,
        run: row.try_get("recon_run")?,
        due_ms: row.try_get("due_ms")?,
        created_ms: row.try_get("created_ms")?,
        account_name: row.try_get("account_name")?,
        entitlement_name: row.try_get("entitlement_name")?,
        decision: decision(row)?,
        owner: Principal::stored(row.try_get("accountable_owner")?),
        state: code(row, "state", known)?,
        until_ms: row.try_get("until_ms")?,
        changed_ms: row.try_get("changed_ms")?,
        remediation: row.try_get("remediation")?,
    })
}
