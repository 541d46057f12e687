//! What is decided on grants over all campaigns of a tenant, read through the index `items_decided`.

use counterfoil_chassis::db::{Engine, select_in};
use counterfoil_evidence::leaf::GrantKey;
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{StoreError, grant_key, hash};
use crate::model::{decided::DecidedItem, disposition::Disposition, ids::Principal};

/// Where a page of decisions ended: grant, and place of the deciding record in the stream.
pub(crate) type Position = (GrantKey, i64);

/// Decisions and lapses that say something about a grant, ascending by grant and by their order in time.
pub(crate) async fn page(
    connection: &mut AnyConnection,
    tenant: &str,
    after: Option<Position>,
    limit: u32,
) -> Result<Vec<DecidedItem>, StoreError> {
    let (key, seq) = after.map_or((Vec::new(), 0), |(key, seq)| (key.0.to_vec(), seq));
    // The range of dispositions is that of the partial index, word for word.
    let rows = sqlx::query(
        "SELECT grant_key, campaign, disposition, decide_ms, decided_by, not_after_ms, reduce_to, record_hash, stream_seq \
         FROM items WHERE tenant = $1 AND disposition BETWEEN 1 AND 5 AND (grant_key, stream_seq) > ($2, $3) \
         ORDER BY grant_key, stream_seq LIMIT $4",
    )
    .bind(tenant)
    .bind(key)
    .bind(seq)
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    rows.iter().map(decided).collect()
}

/// Decisions and lapses that say something about one of these grants, ascending by grant and by their order in time.
pub(crate) async fn of_grants(
    connection: &mut AnyConnection,
    engine: Engine,
    tenant: &str,
    keys: &[GrantKey],
) -> Result<Vec<DecidedItem>, StoreError> {
    // As above: the index is found by these words.
    const SELECT: &str = "SELECT grant_key, campaign, disposition, decide_ms, decided_by, not_after_ms, reduce_to, \
        record_hash, stream_seq FROM items WHERE tenant = ? AND disposition BETWEEN 1 AND 5 AND grant_key IN ({list})";
    let keys = keys.iter().map(|key| key.0.as_slice());
    let rows = select_in(connection, engine, SELECT, &[tenant.into()], keys).await?;
    let mut found: Vec<DecidedItem> = rows.iter().map(decided).collect::<Result<_, _>>()?;
    found.sort_unstable_by_key(|one| (one.key, one.stream_seq));
    Ok(found)
}

fn decided(row: &AnyRow) -> Result<DecidedItem, StoreError> {
    Ok(DecidedItem {
        key: grant_key(row, "grant_key")?.ok_or(StoreError::Damaged("grant_key"))?,
        campaign: row.try_get("campaign")?,
        disposition: Disposition::of_code(row.try_get("disposition")?)
            .ok_or(StoreError::Damaged("disposition"))?,
        decide_ms: row.try_get("decide_ms")?,
        stream_seq: row.try_get("stream_seq")?,
        record_hash: hash(row, "record_hash")?.ok_or(StoreError::Damaged("record_hash"))?,
        not_after_ms: row.try_get("not_after_ms")?,
        reduce_to: grant_key(row, "reduce_to")?,
        decided_by: row
            .try_get::<Option<String>, _>("decided_by")?
            .map(Principal::stored),
    })
}
