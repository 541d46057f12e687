//! The tables `campaigns` and `campaign_sources`.

use std::collections::HashMap;

use counterfoil_chassis::db::WriteTx;
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{StoreError, count, hash, staging, stored};
use crate::model::{
    campaign::{Campaign, CampaignState, Definition, LapseRule, Population, Scope},
    ids::{CampaignKey, Principal, Source},
};

const COLUMNS: &str = "campaign, display_name, sources, privileged_only, include_inherited, lapse_rule, owner, \
    fallback_reviewer, due_ms, create_ms, defined_hash, state, snapshot, population_root, population_count, staged_hash, \
    stage_closed_hash, debt_count";

/// Writes a new campaign in state DRAFT. False: the id is taken.
pub(crate) async fn insert(
    tx: &mut WriteTx,
    definition: &Definition,
    defined_hash: [u8; 32],
) -> Result<bool, StoreError> {
    let sources: Vec<&str> = definition
        .scope
        .sources
        .iter()
        .map(Source::as_str)
        .collect();
    let inserted = sqlx::query(
        "INSERT INTO campaigns (tenant, campaign, display_name, sources, privileged_only, include_inherited, lapse_rule, owner, \
         fallback_reviewer, due_ms, create_ms, defined_hash, state, attempt, debt_count) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, '', 0) ON CONFLICT DO NOTHING",
    )
    .bind(&definition.key.tenant)
    .bind(&definition.key.campaign)
    .bind(&definition.display_name)
    .bind(sources.join("\n"))
    .bind(i64::from(definition.scope.privileged_only))
    .bind(i64::from(definition.scope.include_inherited))
    .bind(definition.lapse_rule.code())
    .bind(definition.owner.as_str())
    .bind(definition.fallback_reviewer.as_str())
    .bind(definition.due_ms)
    .bind(definition.create_ms)
    .bind(defined_hash.to_vec())
    .bind(CampaignState::Draft.code())
    .execute(tx.conn())
    .await?
    .rows_affected();
    Ok(inserted == 1)
}

/// Whether the id is taken.
pub(crate) async fn exists(
    connection: &mut AnyConnection,
    key: &CampaignKey,
) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 FROM campaigns WHERE tenant = $1 AND campaign = $2")
        .bind(&key.tenant)
        .bind(&key.campaign)
        .fetch_optional(connection)
        .await?;
    Ok(row.is_some())
}

/// Reads a campaign.
pub(crate) async fn get(
    connection: &mut AnyConnection,
    key: &CampaignKey,
) -> Result<Option<Campaign>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM campaigns WHERE tenant = $1 AND campaign = $2");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(&key.tenant)
        .bind(&key.campaign)
        .fetch_optional(connection)
        .await?;
    row.map(|row| campaign(&key.tenant, &row)).transpose()
}

/// Reads campaigns, newest first, after the one created then.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    tenant: &str,
    after: Option<(i64, &str)>,
    limit: u32,
) -> Result<Vec<Campaign>, StoreError> {
    let (create_ms, id) = after.unwrap_or((i64::MAX, ""));
    let sql = format!(
        "SELECT {COLUMNS} FROM campaigns WHERE tenant = $1 AND (create_ms < $2 OR (create_ms = $2 AND campaign < $3)) \
         ORDER BY create_ms DESC, campaign DESC LIMIT $4"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(tenant)
        .bind(create_ms)
        .bind(id)
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| campaign(tenant, row)).collect()
}

/// Campaigns of all tenants that a job has something to do on: steps that were cut off, stagings without a sign of life,
/// and reviews that are due.
pub(crate) async fn unfinished(
    connection: &mut AnyConnection,
    now_ms: i64,
) -> Result<Vec<(CampaignKey, CampaignState)>, StoreError> {
    let rows = sqlx::query(
        "SELECT tenant, campaign, state FROM campaigns \
         WHERE state IN ($1, $2) OR (state = $3 AND due_ms <= $4) OR (state = $5 AND attempt_ms <= $6) \
         ORDER BY due_ms, tenant, campaign",
    )
    .bind(CampaignState::Activating.code())
    .bind(CampaignState::Ending.code())
    .bind(CampaignState::Active.code())
    .bind(now_ms)
    .bind(CampaignState::Staging.code())
    .bind(now_ms - staging::LEASE_MS)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let key = CampaignKey {
                tenant: row.try_get("tenant")?,
                campaign: row.try_get("campaign")?,
            };
            Ok((key, state(row)?))
        })
        .collect()
}

/// Moves a campaign to a state.
pub(crate) async fn set_state(
    tx: &mut WriteTx,
    key: &CampaignKey,
    state: CampaignState,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE campaigns SET state = $1 WHERE tenant = $2 AND campaign = $3")
        .bind(state.code())
        .bind(&key.tenant)
        .bind(&key.campaign)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// In whose name a step goes on when the call that began it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepStamp {
    /// "principals/{principal}" or "services/{service}".
    pub(crate) actor: String,
    /// When, milliseconds.
    pub(crate) at_ms: i64,
    /// The right cited; `None` when a rule ended it.
    pub(crate) right: Option<[u8; 32]>,
    /// The human who owns the outcome.
    pub(crate) owner: Principal,
    /// The policy in force.
    pub(crate) policy: Vec<u8>,
}

/// The review ends, in this name: the campaign goes to `state`.
pub(crate) async fn begin_end(
    tx: &mut WriteTx,
    key: &CampaignKey,
    state: CampaignState,
    stamp: &StepStamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE campaigns SET state = $1, end_actor = $2, end_ms = $3, end_right = $4, end_owner = $5, end_policy = $6 \
         WHERE tenant = $7 AND campaign = $8",
    )
    .bind(state.code())
    .bind(&stamp.actor)
    .bind(stamp.at_ms)
    .bind(stamp.right.map(|hash| hash.to_vec()))
    .bind(stamp.owner.as_str())
    .bind(&stamp.policy)
    .bind(&key.tenant)
    .bind(&key.campaign)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// In whose name the review ends; `None` while nobody has ended it.
pub(crate) async fn end_stamp(
    connection: &mut AnyConnection,
    key: &CampaignKey,
) -> Result<Option<StepStamp>, StoreError> {
    let row = sqlx::query(
        "SELECT end_actor, end_ms, end_right, end_owner, end_policy FROM campaigns \
         WHERE tenant = $1 AND campaign = $2 AND end_ms IS NOT NULL",
    )
    .bind(&key.tenant)
    .bind(&key.campaign)
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(StepStamp {
            actor: row.try_get("end_actor")?,
            at_ms: row.try_get("end_ms")?,
            right: hash(&row, "end_right")?,
            owner: Principal::stored(row.try_get("end_owner")?),
            policy: row.try_get("end_policy")?,
        })
    })
    .transpose()
}

/// The review has ended: the campaign goes to `state`.
pub(crate) async fn finish_review(
    tx: &mut WriteTx,
    key: &CampaignKey,
    state: CampaignState,
    stage_closed_hash: [u8; 32],
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE campaigns SET state = $1, stage_closed_hash = $2 WHERE tenant = $3 AND campaign = $4",
    )
    .bind(state.code())
    .bind(stage_closed_hash.to_vec())
    .bind(&key.tenant)
    .bind(&key.campaign)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// The campaign is over.
pub(crate) async fn close(
    tx: &mut WriteTx,
    key: &CampaignKey,
    state: CampaignState,
    debt_count: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE campaigns SET state = $1, debt_count = $2 WHERE tenant = $3 AND campaign = $4",
    )
    .bind(state.code())
    .bind(stored(debt_count))
    .bind(&key.tenant)
    .bind(&key.campaign)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Sources of a staged campaign by the prefix of their grants' keys.
pub(crate) async fn sources(
    connection: &mut AnyConnection,
    key: &CampaignKey,
) -> Result<HashMap<[u8; 8], Source>, StoreError> {
    let rows = sqlx::query(
        "SELECT source_tag, source FROM campaign_sources WHERE tenant = $1 AND campaign = $2",
    )
    .bind(&key.tenant)
    .bind(&key.campaign)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let tag: Vec<u8> = row.try_get("source_tag")?;
            let tag = tag
                .try_into()
                .map_err(|_| StoreError::Damaged("source_tag"))?;
            Ok((tag, Source::stored(row.try_get("source")?)))
        })
        .collect()
}

fn state(row: &AnyRow) -> Result<CampaignState, StoreError> {
    CampaignState::of_code(row.try_get("state")?).ok_or(StoreError::Damaged("state"))
}

fn campaign(tenant: &str, row: &AnyRow) -> Result<Campaign, StoreError> {
    let sources: String = row.try_get("sources")?;
    let scope = Scope {
        sources: sources
            .lines()
            .map(|line| Source::stored(line.to_owned()))
            .collect(),
        privileged_only: row.try_get::<i64, _>("privileged_only")? != 0,
        include_inherited: row.try_get::<i64, _>("include_inherited")? != 0,
    };
    let definition = Definition {
        key: CampaignKey {
            tenant: tenant.to_owned(),
            campaign: row.try_get("campaign")?,
        },
        display_name: row.try_get("display_name")?,
        scope,
        lapse_rule: LapseRule::of_code(row.try_get("lapse_rule")?)
            .ok_or(StoreError::Damaged("lapse_rule"))?,
        owner: Principal::stored(row.try_get("owner")?),
        fallback_reviewer: Principal::stored(row.try_get("fallback_reviewer")?),
        due_ms: row.try_get("due_ms")?,
        create_ms: row.try_get("create_ms")?,
    };
    let population = match (
        row.try_get::<Option<String>, _>("snapshot")?,
        hash(row, "population_root")?,
    ) {
        (Some(snapshot), Some(root)) => Some(Population {
            snapshot,
            root,
            count: count(row, "population_count")?,
        }),
        _ => None,
    };
    Ok(Campaign {
        definition,
        state: state(row)?,
        population,
        defined_hash: hash(row, "defined_hash")?.ok_or(StoreError::Damaged("defined_hash"))?,
        staged_hash: hash(row, "staged_hash")?,
        stage_closed_hash: hash(row, "stage_closed_hash")?,
        debt_count: count(row, "debt_count")?,
    })
}
