//! The logs themselves: creating and finding them.

use counterfoil_tlog::VerifierKey;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Dialect, Store, get, set};
use crate::EngineError;
use crate::model::{Head, LogId, LogInfo};

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
    pub(crate) async fn insert_log(&self, log: &NewLog<'_>) -> Result<(), EngineError> {
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
        transaction.commit().await.map_err(failed)
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
