//! Whether the database is whole, beside what the logs in it say.

use sqlx::AnyPool;

use super::subjects::label_row;
use super::{Dialect, Store, get, pool, to_db};
use crate::labels::LabelRow;
use crate::{EngineError, LogId};

impl Store {
    /// What the database finds wrong with its own pages and indexes. PostgreSQL looks at a page when it reads it, where the cluster was
    /// made with checksums, and is not asked.
    pub(crate) async fn integrity(&self) -> Result<Vec<String>, EngineError> {
        if self.dialect == Dialect::Postgres {
            return Ok(Vec::new());
        }
        let rows = sqlx::query("PRAGMA integrity_check(100)")
            .fetch_all(&self.read)
            .await
            .map_err(|error| EngineError::storage("check the database", &error))?;
        let found: Result<Vec<String>, EngineError> =
            rows.iter().map(|row| get(row, "integrity_check")).collect();
        let mut found = found?;
        found.retain(|line| line != "ok");
        let there = schema(&self.read).await?;
        let fresh = fresh_schema().await?;
        let others = fresh.into_iter().filter(|object| !there.contains(object));
        found.extend(others.map(|(kind, name, _)| format!("{kind} {name} is not as it was made")));
        Ok(found)
    }

    /// The next rows of what the entries of full bundles and full runs are found by, in the order of their key. Left out are those that full
    /// bundles have of subjects: they move while the log grows.
    pub(crate) async fn label_rows(
        &self,
        log: LogId,
        after: Option<&LabelRow>,
        limit: u32,
    ) -> Result<Vec<LabelRow>, EngineError> {
        let last = after.map(|row| Ok((row.label.as_slice(), to_db(row.n)?)));
        let (label, n) = last.unwrap_or(Ok((LabelRow::BUNDLE_SUBJECTS, i64::MAX)))?;
        sqlx::query(
            "SELECT label, n, positions FROM log_labels WHERE log_id = $1 AND (label, n) > ($2, $3) \
             ORDER BY label, n LIMIT $4",
        )
        .bind(log.0)
        .bind(label)
        .bind(n)
        .bind(i64::from(limit))
        .fetch_all(&mut *self.reading(log).await?)
        .await
        .map_err(|error| EngineError::storage("read labels", &error))?
        .iter()
        .map(label_row)
        .collect()
    }
}

/// Kind, name and definition of a table, an index or a trigger.
type Defined = (String, String, String);

async fn schema(of: &AnyPool) -> Result<Vec<Defined>, EngineError> {
    sqlx::query("SELECT type, name, tbl_name || ' ' || COALESCE(sql, '') AS sql FROM sqlite_schema")
        .fetch_all(of)
        .await
        .map_err(|error| EngineError::storage("read the schema", &error))?
        .iter()
        .map(|row| Ok((get(row, "type")?, get(row, "name")?, get(row, "sql")?)))
        .collect()
}

/// The schema of a database that was just made.
async fn fresh_schema() -> Result<Vec<Defined>, EngineError> {
    let fresh = pool("sqlite::memory:", &"".into(), 1, Dialect::Sqlite).await?;
    let mut migrator = sqlx::migrate!("migrations/sqlite");
    migrator.dangerous_set_table_name("log_migrations");
    let migrated = migrator.run(&fresh).await;
    migrated.map_err(|error| EngineError::Storage {
        step: "make a schema to compare with",
        message: error.to_string(),
    })?;
    let schema = schema(&fresh).await;
    fresh.close().await;
    schema
}
