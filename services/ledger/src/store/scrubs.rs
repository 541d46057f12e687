//! Where the hashing again of each log is.

use counterfoil_chassis::db::Database;
use sqlx::Row;
use sqlx::any::AnyRow;

/// What is kept of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scrub {
    pub(crate) tenant: String,
    /// Goes up with every change.
    pub(crate) step: i64,
    /// When the log is due.
    pub(crate) due_at_ms: i64,
    /// End of the last whole round, or when the log was first seen.
    pub(crate) whole_at_ms: i64,
    /// When the round under way began.
    pub(crate) started_at_ms: Option<i64>,
    /// Where it is.
    pub(crate) place: Option<Vec<u8>>,
    /// A round that is over and not stated yet.
    pub(crate) unstated: Option<Vec<u8>>,
    /// What does not fit.
    pub(crate) problem: Option<String>,
}

/// How all logs stand together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Scrubs {
    /// The oldest end of a whole round; `None`: no log is known here.
    pub(crate) oldest_whole_at_ms: Option<i64>,
    /// Logs of which something does not fit.
    pub(crate) problems: u64,
}

const COLUMNS: &str =
    "tenant, step, due_at_ms, whole_at_ms, started_at_ms, place, unstated, problem";

/// Takes a log in that is not known yet.
pub(crate) async fn enroll(
    db: &Database,
    tenant: &str,
    now_ms: i64,
    due_at_ms: i64,
) -> Result<(), sqlx::Error> {
    let mut tx = db.write_tx(tenant).await?;
    sqlx::query(
        "INSERT INTO scrubs (tenant, step, due_at_ms, whole_at_ms) VALUES ($1, 0, $2, $3) \
         ON CONFLICT (tenant) DO NOTHING",
    )
    .bind(tenant)
    .bind(due_at_ms)
    .bind(now_ms)
    .execute(tx.conn())
    .await?;
    // If we crash here: the log is taken in by the next start.
    tx.commit().await
}

/// The tenants whose logs are known.
pub(crate) async fn tenants(db: &Database) -> Result<Vec<String>, sqlx::Error> {
    let mut reading = db.read_everything("which logs are hashed again").await?;
    sqlx::query_scalar("SELECT tenant FROM scrubs")
        .fetch_all(reading.conn())
        .await
}

/// The log that is due for the longest time.
pub(crate) async fn due(db: &Database, now_ms: i64) -> Result<Option<Scrub>, sqlx::Error> {
    let mut reading = db.read_everything("which log is hashed again").await?;
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM scrubs WHERE due_at_ms <= $1 ORDER BY due_at_ms, tenant LIMIT 1"
    )))
    .bind(now_ms)
    .fetch_optional(reading.conn())
    .await?
    .map(|row| read(&row))
    .transpose()
}

/// What is kept of a tenant's log.
pub(crate) async fn find(db: &Database, tenant: &str) -> Result<Option<Scrub>, sqlx::Error> {
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM scrubs WHERE tenant = $1"
    )))
    .bind(tenant)
    .fetch_optional(db.read(tenant).await?.conn())
    .await?
    .map(|row| read(&row))
    .transpose()
}

/// The same; the log is taken in, and due at once, if it is not known yet.
pub(crate) async fn of(db: &Database, tenant: &str, now_ms: i64) -> Result<Scrub, sqlx::Error> {
    if let Some(known) = find(db, tenant).await? {
        return Ok(known);
    }
    enroll(db, tenant, now_ms, now_ms).await?;
    let enrolled = find(db, tenant).await?;
    enrolled.ok_or(sqlx::Error::RowNotFound)
}

/// Keeps what became of a log, if nobody else has kept something since it was read; whether it did.
pub(crate) async fn keep(db: &Database, now: &Scrub) -> Result<bool, sqlx::Error> {
    let mut tx = db.write_tx(&now.tenant).await?;
    let done = sqlx::query(
        "UPDATE scrubs SET step = step + 1, due_at_ms = $1, whole_at_ms = $2, started_at_ms = $3, place = $4, unstated = $5, \
         problem = $6 WHERE tenant = $7 AND step = $8",
    )
    .bind(now.due_at_ms)
    .bind(now.whole_at_ms)
    .bind(now.started_at_ms)
    .bind(now.place.as_deref())
    .bind(now.unstated.as_deref())
    .bind(now.problem.as_deref())
    .bind(now.tenant.as_str())
    .bind(now.step)
    .execute(tx.conn())
    .await?;
    // If we crash before it is durable: the same step is taken again. It reads only.
    tx.commit().await?;
    Ok(done.rows_affected() == 1)
}

/// How all logs stand together.
pub(crate) async fn summary(db: &Database) -> Result<Scrubs, sqlx::Error> {
    let mut reading = db.read_everything("how old the oldest round is").await?;
    let row =
        sqlx::query("SELECT MIN(whole_at_ms) AS oldest, COUNT(problem) AS problems FROM scrubs")
            .fetch_one(reading.conn())
            .await?;
    let problems: i64 = row.try_get("problems")?;
    Ok(Scrubs {
        oldest_whole_at_ms: row.try_get("oldest")?,
        problems: u64::try_from(problems).unwrap_or_default(),
    })
}

fn read(row: &AnyRow) -> Result<Scrub, sqlx::Error> {
    Ok(Scrub {
        tenant: row.try_get("tenant")?,
        step: row.try_get("step")?,
        due_at_ms: row.try_get("due_at_ms")?,
        whole_at_ms: row.try_get("whole_at_ms")?,
        started_at_ms: row.try_get("started_at_ms")?,
        place: row.try_get("place")?,
        unstated: row.try_get("unstated")?,
        problem: row.try_get("problem")?,
    })
}
