//! The table `items`.

use counterfoil_chassis::db::{BulkValue, Engine, WriteTx, bulk_execute, bulk_insert, select_in};
use counterfoil_evidence::leaf::GrantKey;
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{StoreError, count, grant_key, hash};
use crate::model::{
    disposition::{Disposition, Ended},
    ids::{CampaignKey, Principal},
    item::{Item, ItemState, PresentedItem, ShownGrant},
};

const COLUMNS: &str = "grant_key, leaf, subject_key, former_subjects, owner_key, state, reviewer, presentation_hash, disposition, decide_ms, \
    record_hash";

/// An item that was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecidedRow {
    /// Its grant.
    pub(crate) key: GrantKey,
    /// How.
    pub(crate) disposition: Disposition,
    /// When, milliseconds.
    pub(crate) decide_ms: i64,
    /// By whom.
    pub(crate) decided_by: Principal,
    /// Until when the access may be there; 0 when it goes.
    pub(crate) not_after_ms: i64,
    /// REDUCE: the grant that stays.
    pub(crate) reduce_to: Option<GrantKey>,
    /// SHA-256 of the record.
    pub(crate) record_hash: [u8; 32],
    /// The record's place in the stream.
    pub(crate) stream_seq: u64,
}

/// An item that came to a reviewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoutedRow {
    /// Its grant.
    pub(crate) key: GrantKey,
    /// To whom.
    pub(crate) reviewer: Principal,
    /// Commitment to what is shown.
    pub(crate) presentation_hash: [u8; 32],
}

/// An item that ended without a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndedRow {
    /// Its grant.
    pub(crate) key: GrantKey,
    /// SHA-256 of the record.
    pub(crate) record_hash: [u8; 32],
    /// The record's place in the stream.
    pub(crate) stream_seq: u64,
}

/// What a list of items is narrowed to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ItemFilter {
    /// Only in this state.
    pub(crate) state: Option<ItemState>,
    /// Only with this reviewer.
    pub(crate) reviewer: Option<Principal>,
}

/// Items of a campaign that stand alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StandingCount {
    /// Where they stand.
    pub(crate) state: ItemState,
    /// How they ended, or are decided for now.
    pub(crate) disposition: Option<Disposition>,
    /// How many.
    pub(crate) count: u64,
}

/// Adds items to the population.
pub(crate) async fn insert(
    tx: &mut WriteTx,
    key: &CampaignKey,
    grants: Vec<ShownGrant>,
) -> Result<(), StoreError> {
    let columns = [
        "tenant",
        "campaign",
        "grant_key",
        "leaf",
        "subject_key",
        "owner_key",
        "presentation",
        "state",
        "disposition",
        "decide_ms",
        "not_after_ms",
        "stream_seq",
    ];
    let rows = grants.into_iter().map(|grant| -> [BulkValue; 12] {
        [
            key.tenant.as_str().into(),
            key.campaign.as_str().into(),
            grant.key.0.as_slice().into(),
            grant.leaf.into(),
            grant.subject_key.into(),
            grant.owner_key.into(),
            grant.presentation.into(),
            ItemState::Unrouted.code().into(),
            0_i64.into(),
            0_i64.into(),
            0_i64.into(),
            0_i64.into(),
        ]
    });
    bulk_insert(tx, "items", columns, "", rows).await?;
    Ok(())
}

/// Reads items by their grants; what is not there is not answered.
pub(crate) async fn get_many(
    connection: &mut AnyConnection,
    engine: Engine,
    key: &CampaignKey,
    keys: &[GrantKey],
) -> Result<Vec<Item>, StoreError> {
    const SELECT: &str = "SELECT grant_key, leaf, subject_key, former_subjects, owner_key, state, reviewer, presentation_hash, \
        disposition, decide_ms, record_hash FROM items WHERE tenant = ? AND campaign = ? AND grant_key IN ({list})";
    let fixed = [key.tenant.as_str().into(), key.campaign.as_str().into()];
    let keys = keys.iter().map(|key| key.0.as_slice());
    let rows = select_in(connection, engine, SELECT, &fixed, keys).await?;
    rows.iter().map(item).collect()
}

/// Reads one item with what is shown.
pub(crate) async fn get(
    connection: &mut AnyConnection,
    key: &CampaignKey,
    grant: &GrantKey,
) -> Result<Option<PresentedItem>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS}, presentation FROM items WHERE tenant = $1 AND campaign = $2 AND grant_key = $3"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(&key.tenant)
        .bind(&key.campaign)
        .bind(grant.0.to_vec())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(presented).transpose()
}

/// Reads items, ascending by grant, after that grant.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    key: &CampaignKey,
    filter: &ItemFilter,
    after: &[u8],
    limit: u32,
) -> Result<Vec<PresentedItem>, StoreError> {
    let mut sql = format!(
        "SELECT {COLUMNS}, presentation FROM items WHERE tenant = $1 AND campaign = $2 AND grant_key > $3"
    );
    // Numbered in the order they are bound below.
    let mut next = 5;
    for (set, column) in [
        (filter.state.is_some(), "state"),
        (filter.reviewer.is_some(), "reviewer"),
    ] {
        if set {
            sql.push_str(&format!(" AND {column} = ${next}"));
            next += 1;
        }
    }
    sql.push_str(" ORDER BY grant_key LIMIT $4");
    let mut query = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(&key.tenant)
        .bind(&key.campaign)
        .bind(after.to_vec())
        .bind(i64::from(limit));
    if let Some(state) = filter.state {
        query = query.bind(state.code());
    }
    if let Some(reviewer) = &filter.reviewer {
        query = query.bind(reviewer.as_str());
    }
    let rows = query.fetch_all(connection).await?;
    rows.iter().map(presented).collect()
}

/// The next items in a state, ascending by grant, after that grant: a step that goes through all of them keeps its place.
pub(crate) async fn next_in_state(
    connection: &mut AnyConnection,
    key: &CampaignKey,
    state: ItemState,
    after: &[u8],
    limit: u32,
) -> Result<Vec<PresentedItem>, StoreError> {
    let filter = ItemFilter {
        state: Some(state),
        reviewer: None,
    };
    list(connection, key, &filter, after, limit).await
}

/// Gives items to reviewers.
pub(crate) async fn route(
    tx: &mut WriteTx,
    key: &CampaignKey,
    rows: Vec<RoutedRow>,
) -> Result<(), StoreError> {
    let expected = rows.len();
    let rows = rows.into_iter().map(|row| -> [BulkValue; 3] {
        [
            row.key.0.as_slice().into(),
            row.reviewer.as_str().into(),
            row.presentation_hash.into(),
        ]
    });
    let changed = bulk_execute(
        tx,
        "UPDATE items SET state = ?, reviewer = v.column2, presentation_hash = v.column3 \
         FROM (VALUES {rows}) AS v WHERE items.tenant = ? AND items.campaign = ? AND items.grant_key = v.column1",
        &[ItemState::Routed.code().into()],
        rows,
        &[key.tenant.as_str().into(), key.campaign.as_str().into()],
    )
    .await?;
    all_changed(changed, expected)
}

/// Shows items again, as their grants are now, to these reviewers. Their states stay.
pub(crate) async fn represent(
    tx: &mut WriteTx,
    key: &CampaignKey,
    rows: Vec<(ShownGrant, Principal, [u8; 32])>,
) -> Result<(), StoreError> {
    let expected = rows.len();
    let rows = rows
        .into_iter()
        .map(|(grant, reviewer, hash)| -> [BulkValue; 7] {
            [
                grant.key.0.as_slice().into(),
                grant.leaf.into(),
                grant.subject_key.into(),
                grant.owner_key.into(),
                grant.presentation.into(),
                hash.into(),
                reviewer.as_str().into(),
            ]
        });
    let changed = bulk_execute(
        tx,
        "UPDATE items SET leaf = v.column2, former_subjects = CASE WHEN subject_key = v.column3 THEN former_subjects \
         ELSE former_subjects || subject_key || '\n' END, subject_key = v.column3, owner_key = v.column4, presentation = v.column5, \
         presentation_hash = v.column6, reviewer = v.column7 FROM (VALUES {rows}) AS v \
         WHERE items.tenant = ? AND items.campaign = ? AND items.grant_key = v.column1",
        &[],
        rows,
        &[key.tenant.as_str().into(), key.campaign.as_str().into()],
    )
    .await?;
    all_changed(changed, expected)
}

/// Writes decisions.
pub(crate) async fn decide(
    tx: &mut WriteTx,
    key: &CampaignKey,
    rows: Vec<DecidedRow>,
) -> Result<(), StoreError> {
    let expected = rows.len();
    let rows = rows.into_iter().map(|row| -> [BulkValue; 8] {
        [
            row.key.0.as_slice().into(),
            row.disposition.code().into(),
            row.decide_ms.into(),
            row.decided_by.as_str().into(),
            row.not_after_ms.into(),
            row.reduce_to.map(|key| key.0.to_vec()).into(),
            row.record_hash.into(),
            super::stored(row.stream_seq).into(),
        ]
    });
    let changed = bulk_execute(
        tx,
        "UPDATE items SET state = ?, disposition = v.column2, decide_ms = v.column3, decided_by = v.column4, \
         not_after_ms = v.column5, reduce_to = v.column6, record_hash = v.column7, stream_seq = v.column8 \
         FROM (VALUES {rows}) AS v WHERE items.tenant = ? AND items.campaign = ? AND items.grant_key = v.column1",
        &[ItemState::Decided.code().into()],
        rows,
        &[key.tenant.as_str().into(), key.campaign.as_str().into()],
    )
    .await?;
    all_changed(changed, expected)
}

/// Ends items that nobody decided.
pub(crate) async fn end(
    tx: &mut WriteTx,
    key: &CampaignKey,
    disposition: Disposition,
    end_ms: i64,
    rows: Vec<EndedRow>,
) -> Result<(), StoreError> {
    let expected = rows.len();
    let state = match disposition {
        Disposition::Voided => ItemState::Voided,
        _ => ItemState::Lapsed,
    };
    let rows = rows.into_iter().map(|row| -> [BulkValue; 3] {
        [
            row.key.0.as_slice().into(),
            row.record_hash.into(),
            super::stored(row.stream_seq).into(),
        ]
    });
    let changed = bulk_execute(
        tx,
        "UPDATE items SET state = ?, disposition = ?, decide_ms = ?, record_hash = v.column2, stream_seq = v.column3 \
         FROM (VALUES {rows}) AS v WHERE items.tenant = ? AND items.campaign = ? AND items.grant_key = v.column1",
        &[
            state.code().into(),
            disposition.code().into(),
            end_ms.into(),
        ],
        rows,
        &[key.tenant.as_str().into(), key.campaign.as_str().into()],
    )
    .await?;
    all_changed(changed, expected)
}

/// How the items of a campaign stand.
pub(crate) async fn counts(
    connection: &mut AnyConnection,
    key: &CampaignKey,
) -> Result<Vec<StandingCount>, StoreError> {
    let rows = sqlx::query(
        "SELECT state, disposition, count(*) AS items FROM items WHERE tenant = $1 AND campaign = $2 \
         GROUP BY state, disposition",
    )
    .bind(&key.tenant)
    .bind(&key.campaign)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(StandingCount {
                state: state(row)?,
                disposition: disposition(row)?,
                count: count(row, "items")?,
            })
        })
        .collect()
}

/// Items that have ended, ascending by grant, after that grant.
pub(crate) async fn ended(
    connection: &mut AnyConnection,
    key: &CampaignKey,
    after: &[u8],
    limit: u32,
) -> Result<Vec<Ended>, StoreError> {
    let rows = sqlx::query(
        "SELECT grant_key, disposition, record_hash, verified_hash FROM items \
         WHERE tenant = $1 AND campaign = $2 AND grant_key > $3 AND disposition <> 0 ORDER BY grant_key LIMIT $4",
    )
    .bind(&key.tenant)
    .bind(&key.campaign)
    .bind(after.to_vec())
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Ended {
                key: grant_key(row, "grant_key")?.ok_or(StoreError::Damaged("grant_key"))?,
                disposition: disposition(row)?.ok_or(StoreError::Damaged("disposition"))?,
                record_hash: hash(row, "record_hash")?.ok_or(StoreError::Damaged("record_hash"))?,
                verified: hash(row, "verified_hash")?.is_some(),
            })
        })
        .collect()
}

/// A change that does not reach every row it was made for is a defect, and the transaction is given up.
fn all_changed(changed: u64, expected: usize) -> Result<(), StoreError> {
    if usize::try_from(changed) == Ok(expected) {
        Ok(())
    } else {
        Err(StoreError::Damaged("items"))
    }
}

fn state(row: &AnyRow) -> Result<ItemState, StoreError> {
    ItemState::of_code(row.try_get("state")?).ok_or(StoreError::Damaged("state"))
}

fn disposition(row: &AnyRow) -> Result<Option<Disposition>, StoreError> {
    match row.try_get("disposition")? {
        0_i64 => Ok(None),
        code => Disposition::of_code(code)
            .map(Some)
            .ok_or(StoreError::Damaged("disposition")),
    }
}

fn item(row: &AnyRow) -> Result<Item, StoreError> {
    Ok(Item {
        key: grant_key(row, "grant_key")?.ok_or(StoreError::Damaged("grant_key"))?,
        leaf: row.try_get("leaf")?,
        subject_key: row.try_get("subject_key")?,
        former_subjects: row
            .try_get::<String, _>("former_subjects")?
            .lines()
            .map(str::to_owned)
            .collect(),
        owner_key: row.try_get("owner_key")?,
        presentation_hash: hash(row, "presentation_hash")?,
        state: state(row)?,
        reviewer: row
            .try_get::<Option<String>, _>("reviewer")?
            .map(Principal::stored),
        disposition: disposition(row)?,
        decide_ms: row.try_get("decide_ms")?,
        record_hash: hash(row, "record_hash")?,
    })
}

fn presented(row: &AnyRow) -> Result<PresentedItem, StoreError> {
    Ok(PresentedItem {
        item: item(row)?,
        presentation: row.try_get("presentation")?,
    })
}
