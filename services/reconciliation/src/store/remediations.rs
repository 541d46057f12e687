//! Remediations: plans, their state, and who carries them out.

use counterfoil_chassis::db::{Database, WriteTx};
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{Result, StoreError, code, count, digest_set, small, stored};
use crate::model::{
    entities::Remediation,
    ids::{Principal, RemediationKey},
    state::RemediationState,
};

/// Writes a plan.
pub(crate) async fn insert(tx: &mut WriteTx, remediation: &Remediation) -> Result<()> {
    let tenant = tx.tenant().to_owned();
    let offsets: Vec<String> = remediation.offsets_ms.iter().map(i64::to_string).collect();
    sqlx::query(
        "INSERT INTO remediations (tenant, remediation, recon_run, plan_record_hash, actions_count, val_required, \
         offsets_ms, approver, accountable_owner, policy_hash, threshold_metric, threshold_limit, created_ms, state, \
         runner, runner_ms, p50_ms, max_ms, reported) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, '', 0, 0, 0, 1)",
    )
    .bind(tenant)
    .bind(&remediation.id)
    .bind(&remediation.run)
    .bind(remediation.plan_record_hash.to_vec())
    .bind(stored(remediation.actions_count))
    .bind(i64::from(remediation.val_required))
    .bind(offsets.join(","))
    .bind(remediation.approver.as_str())
    .bind(remediation.owner.as_str())
    .bind(&remediation.policy_hash)
    .bind(&remediation.threshold_metric)
    .bind(stored(remediation.threshold_limit))
    .bind(remediation.created_ms)
    .bind(remediation.state as i64)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Reads a remediation.
pub(crate) async fn get(
    connection: &mut AnyConnection,
    key: &RemediationKey,
) -> Result<Option<Remediation>> {
    let row = sqlx::query("SELECT * FROM remediations WHERE tenant = $1 AND remediation = $2")
        .bind(&key.tenant)
        .bind(&key.remediation)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(remediation).transpose()
}

/// Remediations before `before`, newest first.
pub(crate) async fn list(
    db: &Database,
    tenant: &str,
    before: Option<&str>,
    limit: i64,
) -> Result<Vec<Remediation>> {
    // Ids are hexadecimal digits and hyphens in fixed places: they sort by time under every collation.
    let rows = sqlx::query(
        "SELECT * FROM remediations WHERE tenant = $1 AND ($2 = '' OR remediation < $2) \
         ORDER BY remediation DESC LIMIT $3",
    )
    .bind(tenant)
    .bind(before.unwrap_or_default())
    .bind(limit)
    .fetch_all(db.read(tenant).await?.conn())
    .await?;
    rows.iter().map(remediation).collect()
}

/// Remediations that run, in all tenants, and that nobody was seen to carry out since `unseen_since_ms`.
pub(crate) async fn running(db: &Database, unseen_since_ms: i64) -> Result<Vec<RemediationKey>> {
    let rows = sqlx::query(
        "SELECT tenant, remediation FROM remediations WHERE state IN ($1, $2) AND runner_ms < $3 \
         ORDER BY remediation",
    )
    .bind(RemediationState::Dispatched as i64)
    .bind(RemediationState::Verifying as i64)
    .bind(unseen_since_ms)
    .fetch_all(db.read_everything("remediations that run").await?.conn())
    .await?;
    rows.iter().map(key).collect()
}

/// Remediations that ended and of which recertification does not know everything yet, in all tenants.
pub(crate) async fn unreported(db: &Database) -> Result<Vec<RemediationKey>> {
    let rows = sqlx::query(
        "SELECT tenant, remediation FROM remediations WHERE reported = 0 AND state NOT IN ($1, $2) \
         ORDER BY remediation",
    )
    .bind(RemediationState::Dispatched as i64)
    .bind(RemediationState::Verifying as i64)
    .fetch_all(
        db.read_everything("remediations not reported")
            .await?
            .conn(),
    )
    .await?;
    rows.iter().map(key).collect()
}

/// Moves a remediation from one state to another; false: it is in another one.
pub(crate) async fn advance(
    tx: &mut WriteTx,
    id: &str,
    from: RemediationState,
    to: RemediationState,
) -> Result<bool> {
    let tenant = tx.tenant().to_owned();
    let moved = sqlx::query(
        "UPDATE remediations SET state = $1 WHERE tenant = $2 AND remediation = $3 AND state = $4",
    )
    .bind(to as i64)
    .bind(tenant)
    .bind(id)
    .bind(from as i64)
    .execute(tx.conn())
    .await?;
    Ok(moved.rows_affected() == 1)
}

/// Starts an execution: it is DISPATCHED, and nobody carries it out yet. `agent`: the AI agent that starts it. False: it is not in
/// `from`.
pub(crate) async fn dispatch(
    tx: &mut WriteTx,
    id: &str,
    from: RemediationState,
    agent: Option<&Principal>,
) -> Result<bool> {
    let tenant = tx.tenant().to_owned();
    let moved = sqlx::query(
        "UPDATE remediations SET state = $1, runner = '', runner_ms = 0, agent = $5 \
         WHERE tenant = $2 AND remediation = $3 AND state = $4",
    )
    .bind(RemediationState::Dispatched as i64)
    .bind(tenant)
    .bind(id)
    .bind(from as i64)
    .bind(agent.map_or("", Principal::as_str))
    .execute(tx.conn())
    .await?;
    Ok(moved.rows_affected() == 1)
}

/// Notes who started a remediation that runs in an agent's stead: another agent, or nobody who is one.
pub(crate) async fn hand_over(tx: &mut WriteTx, id: &str, agent: Option<&Principal>) -> Result<()> {
    let tenant = tx.tenant().to_owned();
    sqlx::query("UPDATE remediations SET agent = $1 WHERE tenant = $2 AND remediation = $3")
        .bind(agent.map_or("", Principal::as_str))
        .bind(tenant)
        .bind(id)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Makes `runner` the one who carries it out, unless somebody was seen to do so since `unseen_since_ms`: then false.
pub(crate) async fn take_over(
    tx: &mut WriteTx,
    id: &str,
    runner: &str,
    now_ms: i64,
    unseen_since_ms: i64,
) -> Result<bool> {
    let tenant = tx.tenant().to_owned();
    let taken = sqlx::query(
        "UPDATE remediations SET runner = $1, runner_ms = $2 \
         WHERE tenant = $3 AND remediation = $4 AND runner_ms < $5",
    )
    .bind(runner)
    .bind(now_ms)
    .bind(tenant)
    .bind(id)
    .bind(unseen_since_ms)
    .execute(tx.conn())
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// Notes when `runner` was last seen at it, if it still carries it out. 0: it has let go.
pub(crate) async fn seen(tx: &mut WriteTx, id: &str, runner: &str, seen_ms: i64) -> Result<()> {
    let tenant = tx.tenant().to_owned();
    sqlx::query(
        "UPDATE remediations SET runner_ms = $1 WHERE tenant = $2 AND remediation = $3 AND runner = $4",
    )
    .bind(seen_ms)
    .bind(tenant)
    .bind(id)
    .bind(runner)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Notes that `runner` still carries it out, in this state; false: somebody else does, and this transaction must be given up.
pub(crate) async fn hold(
    tx: &mut WriteTx,
    id: &str,
    runner: &str,
    state: RemediationState,
    now_ms: i64,
) -> Result<bool> {
    let tenant = tx.tenant().to_owned();
    let held = sqlx::query(
        "UPDATE remediations SET runner_ms = $1, state = $2 WHERE tenant = $3 AND remediation = $4 AND runner = $5",
    )
    .bind(now_ms)
    .bind(state as i64)
    .bind(tenant)
    .bind(id)
    .bind(runner)
    .execute(tx.conn())
    .await?;
    Ok(held.rows_affected() == 1)
}

/// Writes the times down.
pub(crate) async fn set_times(tx: &mut WriteTx, id: &str, p50_ms: i64, max_ms: i64) -> Result<()> {
    let tenant = tx.tenant().to_owned();
    sqlx::query(
        "UPDATE remediations SET p50_ms = $1, max_ms = $2 WHERE tenant = $3 AND remediation = $4",
    )
    .bind(p50_ms)
    .bind(max_ms)
    .bind(tenant)
    .bind(id)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Notes whether recertification knows of every verified removal.
pub(crate) async fn set_reported(tx: &mut WriteTx, id: &str, reported: bool) -> Result<()> {
    let tenant = tx.tenant().to_owned();
    sqlx::query("UPDATE remediations SET reported = $1 WHERE tenant = $2 AND remediation = $3")
        .bind(i64::from(reported))
        .bind(tenant)
        .bind(id)
        .execute(tx.conn())
        .await?;
    Ok(())
}

fn key(row: &AnyRow) -> Result<RemediationKey> {
    Ok(RemediationKey {
        tenant: row.try_get("tenant")?,
        remediation: row.try_get("remediation")?,
    })
}

fn remediation(row: &AnyRow) -> Result<Remediation> {
    let text: String = row.try_get("offsets_ms")?;
    let offsets_ms = text
        .split(',')
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().map_err(|_| StoreError::Damaged("offsets_ms")))
        .collect::<Result<_>>()?;
    Ok(Remediation {
        id: row.try_get("remediation")?,
        run: row.try_get("recon_run")?,
        plan_record_hash: digest_set(row, "plan_record_hash")?,
        actions_count: count(row, "actions_count")?,
        val_required: small(row, "val_required")?,
        offsets_ms,
        approver: Principal::stored(row.try_get("approver")?),
        owner: Principal::stored(row.try_get("accountable_owner")?),
        policy_hash: row.try_get("policy_hash")?,
        threshold_metric: row.try_get("threshold_metric")?,
        threshold_limit: count(row, "threshold_limit")?,
        created_ms: row.try_get("created_ms")?,
        state: code(row, "state", RemediationState::from_number)?,
        agent: match row.try_get::<String, _>("agent")? {
            none if none.is_empty() => None,
            agent => Some(Principal::stored(agent)),
        },
        runner: row.try_get("runner")?,
        p50_ms: row.try_get("p50_ms")?,
        max_ms: row.try_get("max_ms")?,
        reported: row.try_get::<i64, _>("reported")? == 1,
    })
}
