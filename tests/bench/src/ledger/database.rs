//! Where the ledger keeps its logs, and how fast the same place commits one row after the other.

use std::time::Instant;

use sqlx::any::AnyPoolOptions;
use sqlx::{AnyPool, Executor as _};

use crate::figures::seconds;

/// The tests' own PostgreSQL, by its file: the feature that it belongs to would build every service a second time.
#[allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    reason = "it is written for tests"
)]
#[path = "../../../../services/chassis/src/testing/postgres.rs"]
mod postgres;

/// A database of one engine.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) name: &'static str,
    /// Of the ledger.
    pub(crate) url: String,
    /// Of the bare commits: beside it, so that neither slows the other.
    bare: String,
    pub(crate) folder: tempfile::TempDir,
}

impl Database {
    pub(crate) fn sqlite() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = |name: &str| {
            let path = folder.path().join(name);
            format!("sqlite://{}?mode=rwc", path.display())
        };
        Ok(Self {
            name: "sqlite",
            url: file("ledger.sqlite"),
            bare: file("bare.sqlite"),
            folder,
        })
    }

    pub(crate) async fn postgres() -> Self {
        #[expect(clippy::expect_used, reason = "nothing can be measured without one")]
        let folder = tempfile::tempdir().expect("a folder");
        Self {
            name: "postgres",
            url: postgres::create_durable_database().await,
            bare: postgres::create_durable_database().await,
            folder,
        }
    }

    /// Transactions a second with one row of this size each, as durable as the ledger's.
    pub(crate) async fn commits(&self, row: &[u8], count: usize) -> anyhow::Result<f64> {
        sqlx::any::install_default_drivers();
        let pool: AnyPool = AnyPoolOptions::new()
            .max_connections(1)
            .connect(&self.bare)
            .await?;
        let bytes = if self.name == "sqlite" {
            pool.execute(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; \
                 PRAGMA wal_autocheckpoint = 4000;",
            )
            .await?;
            "CREATE TABLE IF NOT EXISTS bare (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL)"
        } else {
            "CREATE TABLE IF NOT EXISTS bare (id BIGSERIAL PRIMARY KEY, bytes BYTEA NOT NULL)"
        };
        pool.execute(bytes).await?;
        let started = Instant::now();
        for _ in 0..count {
            let mut transaction = pool.begin().await?;
            sqlx::query("INSERT INTO bare (bytes) VALUES ($1)")
                .bind(row)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
        }
        let rate = count as f64 / seconds(started.elapsed());
        pool.close().await;
        Ok(rate)
    }
}
