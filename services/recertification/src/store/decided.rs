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

/// As above, the range is that of the index; and the order is what makes SQLite take it instead of all items of the tenant.
const OF_GRANTS: &str = "SELECT grant_key, campaign, disposition, decide_ms, decided_by, not_after_ms, reduce_to, \
    record_hash, stream_seq FROM items WHERE tenant = ? AND disposition BETWEEN 1 AND 5 AND grant_key IN ({list}) \
    ORDER BY grant_key, stream_seq";

/// Decisions and lapses that say something about one of these grants, ascending by grant and by their order in time.
pub(crate) async fn of_grants(
    connection: &mut AnyConnection,
    engine: Engine,
    tenant: &str,
    keys: &[GrantKey],
) -> Result<Vec<DecidedItem>, StoreError> {
    let keys = keys.iter().map(|key| key.0.as_slice());
    let rows = select_in(connection, engine, OF_GRANTS, &[tenant.into()], keys).await?;
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

#[cfg(test)]
mod tests {
    use counterfoil_chassis::testing::TestDatabase;

    use super::*;
    use crate::store::{MIGRATIONS, conformance};

    counterfoil_chassis::both_engines! {
        /// Some grants among many are found by their keys: no scan of what the tenant has.
        async fn decisions_on_some_grants_are_found_by_the_index(db: TestDatabase) {
            db.migrate(&[MIGRATIONS]).await;
            conformance::decided(&db, 2_500).await;
            let mut tx = db.write_tx(conformance::TENANT).await.unwrap();
            let plan = match db.engine() {
                Engine::Sqlite => OF_GRANTS.replace("{list}", "?, ?"),
                Engine::Postgres => {
                    // SQLite plans without statistics, PostgreSQL keeps them by itself after a while.
                    sqlx::query("ANALYZE items").execute(tx.conn()).await.unwrap();
                    OF_GRANTS.replace("{list}", "$2, $3").replacen('?', "$1", 1)
                }
            };
            let explain = if db.engine() == Engine::Sqlite { "EXPLAIN QUERY PLAN" } else { "EXPLAIN" };
            let rows = sqlx::query(sqlx::AssertSqlSafe(format!("{explain} {plan}")))
                .bind(conformance::TENANT)
                .bind(vec![1_u8; 40])
                .bind(vec![2_u8; 40])
                .fetch_all(tx.conn())
                .await
                .unwrap();
            let column = if db.engine() == Engine::Sqlite { "detail" } else { "QUERY PLAN" };
            let lines: Vec<String> = rows.iter().map(|row| row.get(column)).collect();
            let found = lines.iter().any(|line| line.contains("items_decided") && !line.contains("SCAN"));
            assert!(found, "{lines:#?}");
        }
    }
}
