//! Where the ledger keeps its logs, and how fast the same place commits one row after the other.

use std::path::{Path, PathBuf};
use std::time::Instant;

use sqlx::any::AnyPoolOptions;
use sqlx::{AnyPool, Executor as _};

use super::Engine;
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
    place: PathBuf,
    /// Removed in the end, unless it is kept.
    _folder: Option<tempfile::TempDir>,
}

impl Database {
    /// Those of these engines that are asked for: all where none is named.
    pub(crate) async fn of(engine: Option<Engine>) -> anyhow::Result<Vec<Self>> {
        let mut databases = Vec::new();
        if engine != Some(Engine::Postgres) {
            databases.push(Self::sqlite()?);
        }
        if engine != Some(Engine::Sqlite) {
            databases.push(Self::postgres().await);
        }
        Ok(databases)
    }

    pub(crate) fn sqlite() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let database = Self::in_folder(folder.path());
        Ok(Self {
            _folder: Some(folder),
            ..database
        })
    }

    /// On SQLite, in a folder that stays.
    pub(crate) fn kept(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self::in_folder(folder))
    }

    /// Where the ledger keeps what is in no database.
    pub(crate) fn folder(&self) -> &Path {
        &self.place
    }

    fn in_folder(place: &Path) -> Self {
        let file = |name: &str| format!("sqlite://{}?mode=rwc", place.join(name).display());
        Self {
            name: "sqlite",
            url: file("ledger.sqlite"),
            bare: file("bare.sqlite"),
            place: place.to_owned(),
            _folder: None,
        }
    }

    pub(crate) async fn postgres() -> Self {
        #[expect(clippy::expect_used, reason = "nothing can be measured without one")]
        let folder = tempfile::tempdir().expect("a folder");
        Self {
            name: "postgres",
            url: postgres::create_durable_database().await,
            bare: postgres::create_durable_database().await,
            place: folder.path().to_owned(),
            _folder: Some(folder),
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
