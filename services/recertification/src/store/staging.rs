//! Staging in the table `campaigns`: what was asked for and by whom, and who reads the population.
//!
//! Invariant: one attempt counts. Each of its transactions names it, and shows by its time that somebody is at it; a later attempt
//! takes over only from one that shows none, or that another call puts aside.

use counterfoil_chassis::db::{BulkValue, WriteTx, bulk_insert};
use sqlx::{AnyConnection, Row};

use super::{StoreError, campaigns::StepStamp, hash, stored};
use crate::model::{
    campaign::{CampaignState, Population},
    ids::{CampaignKey, Principal, Snapshot, Source},
};

/// How long an attempt may show no sign of life before it was cut off. It shows one with every batch that it writes.
pub(crate) const LEASE_MS: i64 = 60_000;

/// Who put an attempt aside: nobody is at it.
const NOBODY: &str = "";

/// What is to be staged, and in whose name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Staging {
    /// What is read.
    pub(crate) snapshot: Snapshot,
    /// How old its sources may be, milliseconds.
    pub(crate) age_max_ms: i64,
    /// Who asked for it.
    pub(crate) stamp: StepStamp,
}

/// A staging that has begun, and who was last at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Begun {
    /// What was asked for.
    pub(crate) staging: Staging,
    attempt: String,
    attempt_ms: i64,
}

impl Begun {
    /// Whether somebody is at it, as far as one can know.
    pub(crate) fn runs(&self, now_ms: i64) -> bool {
        self.attempt != NOBODY && now_ms < self.attempt_ms.saturating_add(LEASE_MS)
    }
}

/// Begins to read the population, from nothing: what an attempt before left is taken away.
pub(crate) async fn begin(
    tx: &mut WriteTx,
    key: &CampaignKey,
    staging: &Staging,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE campaigns SET state = $1, stage_snapshot = $2, stage_age_max_ms = $3, stage_actor = $4, stage_ms = $5, \
         stage_right = $6, stage_owner = $7, stage_policy = $8 WHERE tenant = $9 AND campaign = $10",
    )
    .bind(CampaignState::Staging.code())
    .bind(staging.snapshot.as_str())
    .bind(staging.age_max_ms)
    .bind(&staging.stamp.actor)
    .bind(staging.stamp.at_ms)
    .bind(staging.stamp.right.map(|hash| hash.to_vec()))
    .bind(staging.stamp.owner.as_str())
    .bind(&staging.stamp.policy)
    .bind(&key.tenant)
    .bind(&key.campaign)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// What was begun; `None`: nothing, or by a version that kept no note of it.
pub(crate) async fn begun(
    connection: &mut AnyConnection,
    key: &CampaignKey,
) -> Result<Option<Begun>, StoreError> {
    let row = sqlx::query(
        "SELECT attempt, attempt_ms, stage_snapshot, stage_age_max_ms, stage_actor, stage_ms, stage_right, stage_owner, \
         stage_policy FROM campaigns WHERE tenant = $1 AND campaign = $2 AND stage_ms IS NOT NULL",
    )
    .bind(&key.tenant)
    .bind(&key.campaign)
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Begun {
            staging: Staging {
                snapshot: Snapshot::stored(row.try_get("stage_snapshot")?),
                age_max_ms: row.try_get("stage_age_max_ms")?,
                stamp: StepStamp {
                    actor: row.try_get("stage_actor")?,
                    at_ms: row.try_get("stage_ms")?,
                    right: hash(&row, "stage_right")?,
                    owner: Principal::stored(row.try_get("stage_owner")?),
                    policy: row.try_get("stage_policy")?,
                },
            },
            attempt: row.try_get("attempt")?,
            attempt_ms: row.try_get("attempt_ms")?,
        })
    })
    .transpose()
}

/// A new attempt, from nothing: what the one before left is taken away, and it gives up at its next batch.
pub(crate) async fn attempt(
    tx: &mut WriteTx,
    key: &CampaignKey,
    attempt: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    clear(tx, key).await?;
    sqlx::query(
        "UPDATE campaigns SET attempt = $1, attempt_ms = $2 WHERE tenant = $3 AND campaign = $4",
    )
    .bind(attempt)
    .bind(now_ms)
    .bind(&key.tenant)
    .bind(&key.campaign)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Shows a sign of life. False: this attempt is no longer the one that counts.
pub(crate) async fn is_alive(
    tx: &mut WriteTx,
    key: &CampaignKey,
    attempt: &str,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let changed = sqlx::query(
        "UPDATE campaigns SET attempt_ms = $1 WHERE tenant = $2 AND campaign = $3 AND state = $4 AND attempt = $5",
    )
    .bind(now_ms)
    .bind(&key.tenant)
    .bind(&key.campaign)
    .bind(CampaignState::Staging.code())
    .bind(attempt)
    .execute(tx.conn())
    .await?
    .rows_affected();
    Ok(changed == 1)
}

/// Nobody is at it: the next who asks need not wait for a sign of life.
pub(crate) async fn put_aside(tx: &mut WriteTx, key: &CampaignKey) -> Result<(), StoreError> {
    sqlx::query("UPDATE campaigns SET attempt = $1 WHERE tenant = $2 AND campaign = $3")
        .bind(NOBODY)
        .bind(&key.tenant)
        .bind(&key.campaign)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Takes away what was read. The state is moved by [`super::campaigns::set_state`].
pub(crate) async fn clear(tx: &mut WriteTx, key: &CampaignKey) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM items WHERE tenant = $1 AND campaign = $2",
        "DELETE FROM campaign_sources WHERE tenant = $1 AND campaign = $2",
    ] {
        sqlx::query(sql)
            .bind(&key.tenant)
            .bind(&key.campaign)
            .execute(tx.conn())
            .await?;
    }
    Ok(())
}

/// The record of a staging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StagedRecord {
    /// Its id.
    pub(crate) id: [u8; 16],
    /// SHA-256 of its bytes.
    pub(crate) hash: [u8; 32],
}

/// Fixes the population and the sources it came from. The state is moved by [`super::campaigns::set_state`].
pub(crate) async fn finish(
    tx: &mut WriteTx,
    key: &CampaignKey,
    population: &Population,
    sources: &[([u8; 8], Source)],
    record: StagedRecord,
) -> Result<(), StoreError> {
    let rows = sources.iter().map(|(tag, source)| -> [BulkValue; 4] {
        [
            key.tenant.as_str().into(),
            key.campaign.as_str().into(),
            tag.as_slice().into(),
            source.as_str().into(),
        ]
    });
    let columns = ["tenant", "campaign", "source_tag", "source"];
    bulk_insert(tx, "campaign_sources", columns, "", rows).await?;
    sqlx::query(
        "UPDATE campaigns SET snapshot = $1, population_root = $2, population_count = $3, staged_hash = $4, \
         staged_record_id = $5 WHERE tenant = $6 AND campaign = $7",
    )
    .bind(&population.snapshot)
    .bind(population.root.to_vec())
    .bind(stored(population.count))
    .bind(record.hash.to_vec())
    .bind(record.id.to_vec())
    .bind(&key.tenant)
    .bind(&key.campaign)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// The record of the staging; `None` when it is not staged, or was by a version that kept no note of it.
pub(crate) async fn record(
    connection: &mut AnyConnection,
    key: &CampaignKey,
) -> Result<Option<StagedRecord>, StoreError> {
    let row = sqlx::query(
        "SELECT staged_record_id, staged_hash FROM campaigns \
         WHERE tenant = $1 AND campaign = $2 AND staged_record_id IS NOT NULL",
    )
    .bind(&key.tenant)
    .bind(&key.campaign)
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let id: Vec<u8> = row.try_get("staged_record_id")?;
        Ok(StagedRecord {
            id: id
                .try_into()
                .map_err(|_| StoreError::Damaged("staged_record_id"))?,
            hash: hash(&row, "staged_hash")?.ok_or(StoreError::Damaged("staged_hash"))?,
        })
    })
    .transpose()
}
