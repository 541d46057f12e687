//! The logs themselves: creating and finding them.

use std::collections::BTreeMap;

use counterfoil_tlog::VerifierKey;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::{Dialect, Reading, Store, get, number, set};
use crate::EngineError;
use crate::faults::{self, FaultPoint, Faults};
use crate::model::{Head, LogId, LogInfo};

/// Why something of logs cannot be read, by their origins.
pub(crate) type Unreadable = BTreeMap<String, String>;

/// What a new log starts with.
#[derive(Debug)]
pub(crate) struct NewLog<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) origin: &'a str,
    pub(crate) vkey: &'a str,
    pub(crate) registrar_vkey: &'a str,
    pub(crate) created_at_ms: i64,
    pub(crate) head: &'a Head,
    pub(crate) frontier: Vec<u8>,
}

impl Store {
    /// Inserts a log and its empty head; does nothing if the tenant or the origin has one.
    pub(crate) async fn insert_log(
        &self,
        log: &NewLog<'_>,
        faults: &dyn Faults,
    ) -> Result<(), EngineError> {
        let failed = |error: sqlx::Error| EngineError::storage("create log", &error);
        let mut transaction = self.write.begin().await.map_err(failed)?;
        if self.dialect == Dialect::Postgres {
            set(&mut transaction, "counterfoil.tenant", log.tenant)
                .await
                .map_err(failed)?;
        }
        let row = sqlx::query(
            "INSERT INTO logs (tenant, origin, vkey, registrar_vkey, created_at_ms) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING log_id",
        )
        .bind(log.tenant)
        .bind(log.origin)
        .bind(log.vkey)
        .bind(log.registrar_vkey)
        .bind(log.created_at_ms)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        if let Some(row) = row {
            let id: i64 = row.try_get("log_id").map_err(failed)?;
            if self.dialect == Dialect::Postgres {
                set(&mut transaction, "counterfoil.logs", &id.to_string())
                    .await
                    .map_err(failed)?;
            }
            sqlx::query(
                "INSERT INTO log_heads (log_id, size, root, frontier, checkpoint, recorded_at_ms) \
                 VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(id)
            .bind(0_i64)
            .bind(log.head.root.as_bytes().as_slice())
            .bind(log.frontier.as_slice())
            .bind(log.head.checkpoint.as_str())
            .bind(log.head.recorded_at_ms)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        }
        // If we crash here: neither the log nor its head is there, and its key waits for the next attempt.
        let commit = async { transaction.commit().await.map_err(failed) };
        let committed = faults::step(faults, FaultPoint::InsertLog, commit).await;
        committed.inspect(|()| self.wrote(2))
    }

    /// The log of a tenant.
    pub(crate) async fn find_log(&self, tenant: &str) -> Result<Option<LogInfo>, EngineError> {
        sqlx::query(
            "SELECT log_id, tenant, origin, vkey, registrar_vkey FROM logs WHERE tenant = $1",
        )
        .bind(tenant)
        .fetch_optional(&mut *self.reading_tenant(tenant).await?)
        .await
        .map_err(|error| EngineError::storage("find log", &error))?
        .map(|row| log_info(&row))
        .transpose()
    }

    /// Stops a log for all who write it; the first reason stays.
    pub(crate) async fn stop(&self, log: &LogInfo, why: &str) -> Result<(), EngineError> {
        // If we crash before it is durable: the log goes on, until whoever found the reason finds it again.
        self.set_stopped(log, "COALESCE(stopped_because, $1)", Some(why))
            .await
    }

    /// Lets a log be written again.
    pub(crate) async fn go_on(&self, log: &LogInfo) -> Result<(), EngineError> {
        // If we crash before it is durable: the log is whole and still stopped, and letting it go on again does no harm.
        self.set_stopped(log, "$1", None).await
    }

    async fn set_stopped(
        &self,
        log: &LogInfo,
        becomes: &'static str,
        why: Option<&str>,
    ) -> Result<(), EngineError> {
        let failed = |error: sqlx::Error| EngineError::storage("stop or go on", &error);
        let mut transaction = self.begin(&[log.id]).await.map_err(failed)?;
        let text = format!("UPDATE log_heads SET stopped_because = {becomes} WHERE log_id = $2");
        sqlx::query(AssertSqlSafe(text))
            .bind(why)
            .bind(log.id.0)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        self.wrote(1);
        Ok(())
    }

    /// Why a log was stopped; `None`: it was not.
    pub(crate) async fn stopped(&self, log: &LogInfo) -> Result<Option<String>, EngineError> {
        let row = sqlx::query("SELECT stopped_because FROM log_heads WHERE log_id = $1")
            .bind(log.id.0)
            .fetch_optional(&mut *self.reading(log.id).await?)
            .await
            .map_err(|error| EngineError::storage("read head", &error))?
            .ok_or_else(|| EngineError::damaged(&log.origin, "it has no head"))?;
        get(&row, "stopped_because")
    }

    /// The tenants that have a log, in order of creation.
    pub(crate) async fn tenants(&self) -> Result<Vec<String>, EngineError> {
        sqlx::query("SELECT tenant FROM logs ORDER BY log_id")
            .fetch_all(&mut *self.reading_tenant("*").await?)
            .await
            .map_err(|error| EngineError::storage("list logs", &error))?
            .iter()
            .map(|row| get(row, "tenant"))
            .collect()
    }

    /// Reads of the heads of all logs.
    pub(super) async fn reading_heads(&self) -> Result<Reading, EngineError> {
        let mut reading = self.reading_tenant("*").await?;
        if self.dialect == Dialect::Postgres {
            // No log by its number: `*` reads the heads of all.
            set(&mut reading, "counterfoil.logs", "")
                .await
                .map_err(|error| EngineError::storage("list heads", &error))?;
        }
        Ok(reading)
    }

    /// The logs that were stopped, with the reason, in order of creation.
    pub(crate) async fn stopped_logs(&self) -> Result<Vec<(String, String)>, EngineError> {
        let mut reading = self.reading_heads().await?;
        sqlx::query(
            "SELECT logs.tenant, log_heads.stopped_because FROM logs JOIN log_heads ON log_heads.log_id = logs.log_id \
             WHERE log_heads.stopped_because IS NOT NULL ORDER BY logs.log_id",
        )
        .fetch_all(&mut *reading)
        .await
        .map_err(|error| EngineError::storage("list heads", &error))?
        .iter()
        .map(|row| Ok((get(row, "tenant")?, get(row, "stopped_because")?)))
        .collect()
    }

    /// How many entries each tenant's log has, in order of creation; without the logs that were stopped, and without those of which it
    /// cannot be read: their origins, with the reason.
    pub(crate) async fn sizes(&self) -> Result<(Vec<(String, u64)>, Unreadable), EngineError> {
        let failed = |error: sqlx::Error| EngineError::storage("list heads", &error);
        let mut reading = self.reading_heads().await?;
        let rows = sqlx::query(
            "SELECT logs.tenant, logs.origin, log_heads.size \
             FROM logs LEFT JOIN log_heads ON log_heads.log_id = logs.log_id \
             WHERE log_heads.stopped_because IS NULL ORDER BY logs.log_id",
        )
        .fetch_all(&mut *reading)
        .await
        .map_err(failed)?;
        let (mut sizes, mut unreadable) = (Vec::with_capacity(rows.len()), Unreadable::new());
        for row in &rows {
            match number(row, "size") {
                Ok(size) => sizes.push((get(row, "tenant")?, size)),
                Err(error) => {
                    unreadable.insert(get(row, "origin")?, error.to_string());
                }
            }
        }
        Ok((sizes, unreadable))
    }
}

fn log_info(row: &AnyRow) -> Result<LogInfo, EngineError> {
    let origin: String = get(row, "origin")?;
    let key = |column: &'static str| -> Result<VerifierKey, EngineError> {
        let text: String = get(row, column)?;
        VerifierKey::parse(&text)
            .map_err(|error| EngineError::damaged(&origin, format!("{column}: {error}")))
    };
    Ok(LogInfo {
        id: LogId(get(row, "log_id")?),
        tenant: get(row, "tenant")?,
        vkey: key("vkey")?,
        registrar: key("registrar_vkey")?,
        origin,
    })
}
