//! The table `verified_removals`, and the items that it proves.
//!
//! Invariant: the rule is the verifier's. An item is verified by an observation at or after the moment that it was decided, and
//! by no earlier one; what was decided anew since then needs a new observation.

use counterfoil_chassis::db::{BulkValue, WriteTx, bulk_execute, bulk_insert};
use counterfoil_evidence::leaf::GrantKey;

use super::StoreError;
use crate::model::{
    campaign::CampaignState, disposition::Disposition, ids::CampaignKey, item::ItemState,
};

/// A removal whose effect is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Removal {
    /// The grant.
    pub(crate) key: GrantKey,
    /// SHA-256 of the EffectVerified record.
    pub(crate) record_hash: [u8; 32],
    /// When the read-back that proved it ended, milliseconds.
    pub(crate) observed_ms: i64,
}

/// Keeps removals, one a grant; of two on one grant the newer observation stays.
pub(crate) async fn keep(
    tx: &mut WriteTx,
    tenant: &str,
    removals: &[Removal],
) -> Result<(), StoreError> {
    let rows = removals.iter().map(|removal| -> [BulkValue; 4] {
        [
            tenant.into(),
            removal.key.0.as_slice().into(),
            removal.record_hash.into(),
            removal.observed_ms.into(),
        ]
    });
    let columns = ["tenant", "grant_key", "record_hash", "observed_ms"];
    let newest = "ON CONFLICT (tenant, grant_key) DO UPDATE SET record_hash = excluded.record_hash, \
        observed_ms = excluded.observed_ms WHERE excluded.observed_ms > verified_removals.observed_ms";
    bulk_insert(tx, "verified_removals", columns, newest, rows).await?;
    Ok(())
}

/// Marks what these removals prove, in every campaign of the tenant that is REMEDIATING; answers how many items.
pub(crate) async fn apply(
    tx: &mut WriteTx,
    tenant: &str,
    removals: &[Removal],
) -> Result<u64, StoreError> {
    let rows = removals.iter().map(|removal| -> [BulkValue; 3] {
        [
            removal.key.0.as_slice().into(),
            removal.record_hash.into(),
            removal.observed_ms.into(),
        ]
    });
    let [revoked, reduced, lapsed] = Disposition::REMOVING.map(Disposition::code);
    // The range of dispositions is that of the partial index `items_decided`, word for word.
    let noted = bulk_execute(
        tx,
        "UPDATE items SET state = ?, verified_hash = v.column2 FROM (VALUES {rows}) AS v \
         WHERE items.tenant = ? AND items.grant_key = v.column1 AND items.disposition BETWEEN 1 AND 5 \
         AND items.disposition IN (?, ?, ?) AND items.verified_hash IS NULL AND items.decide_ms <= v.column3 \
         AND items.campaign IN (SELECT campaign FROM campaigns WHERE tenant = ? AND state = ?)",
        &[ItemState::Verified.code().into()],
        rows,
        &[
            tenant.into(),
            revoked.into(),
            reduced.into(),
            lapsed.into(),
            tenant.into(),
            CampaignState::Remediating.code().into(),
        ],
    )
    .await?;
    Ok(noted)
}

/// Marks what the kept removals prove in one campaign, whose review has just ended.
pub(crate) async fn apply_kept(tx: &mut WriteTx, key: &CampaignKey) -> Result<(), StoreError> {
    let [revoked, reduced, lapsed] = Disposition::REMOVING.map(Disposition::code);
    sqlx::query(
        "UPDATE items SET state = $1, verified_hash = v.record_hash FROM verified_removals AS v \
         WHERE items.tenant = $2 AND items.campaign = $3 AND v.tenant = $4 AND v.grant_key = items.grant_key \
         AND items.disposition IN ($5, $6, $7) AND items.verified_hash IS NULL AND items.decide_ms <= v.observed_ms",
    )
    .bind(ItemState::Verified.code())
    .bind(&key.tenant)
    .bind(&key.campaign)
    .bind(&key.tenant)
    .bind(revoked)
    .bind(reduced)
    .bind(lapsed)
    .execute(tx.conn())
    .await?;
    Ok(())
}
