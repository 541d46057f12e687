//! The database of a service: SQLite or PostgreSQL behind one API, and all that differs between them.
//!
//! Invariants:
//! - A write transaction belongs to one tenant and holds the tenant's lock from its first statement to its end. On SQLite
//!   there is one writer at all; on PostgreSQL an advisory lock gives the same order within a tenant. What is read inside
//!   of a write transaction can therefore not change before it commits, on both engines, without retries.
//! - Only i64, bytes and text (and NULL) go in and out: what `sqlx::Any` carries on both engines.
//! - Statements are `$N` texts on both engines. The bulk paths ([`bulk`]) write anonymous `?` on SQLite, where a thousand
//!   named parameters would cost a hundred times more.

pub mod bulk;
mod migrate;
mod tx;

use std::{sync::Arc, time::Duration};

use sha2::{Digest, Sha256};
use sqlx::{AnyPool, Executor, any::AnyPoolOptions};

pub use bulk::{BulkValue, bulk_execute, bulk_insert, select_in};
pub use migrate::{MigrationFile, Migrations};
pub use tx::{ReadTx, WriteTx};

use bulk::StatementCache;

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// SQLite, one file a service.
    Sqlite,
    /// PostgreSQL, one schema a service.
    Postgres,
}

/// Why there is no database to work with.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The address is of no engine known here.
    #[error("database_url must start with sqlite:// (a file) or postgres://, and not be in memory")]
    Url,
    /// The name of the schema is malformed.
    #[error("schema {0:?} must be a-z, 0-9 and '_'")]
    Schema(String),
    /// The database refuses.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// A migration that ran has changed since, or one is unknown here.
    #[error("migration {set}/{name}: {reason}")]
    Migration {
        /// Which set.
        set: String,
        /// Which file.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

/// The database of one service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    schema: String,
    writer: AnyPool,
    reader: AnyPool,
    statements: StatementCache,
}

const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

impl Database {
    /// Opens the database. `schema` is the service's name: on PostgreSQL its schema, made when missing; on SQLite the URL
    /// names a file of its own.
    ///
    /// # Errors
    /// When the URL is malformed or the database cannot be reached.
    pub async fn connect(url: &str, schema: &str) -> Result<Self, DatabaseError> {
        sqlx::any::install_default_drivers();
        let well_formed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if schema.is_empty() || !schema.bytes().all(well_formed) {
            return Err(DatabaseError::Schema(schema.to_owned()));
        }
        let engine = if url.starts_with("sqlite:") && !url.contains(":memory:") {
            Engine::Sqlite
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            Engine::Postgres
        } else {
            return Err(DatabaseError::Url);
        };
        let (writer, reader) = match engine {
            Engine::Sqlite => sqlite_pools(url).await?,
            Engine::Postgres => {
                let pool = postgres_pool(url, schema).await?;
                (pool.clone(), pool)
            }
        };
        let inner = Inner {
            engine,
            schema: schema.to_owned(),
            writer,
            reader,
            statements: StatementCache::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Which engine it is.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.inner.engine
    }

    /// For single reading statements: `query.fetch_all(db.reader())`.
    #[must_use]
    pub fn reader(&self) -> &AnyPool {
        &self.inner.reader
    }

    /// Several reads of one state.
    ///
    /// # Errors
    /// When no connection is free in time.
    pub async fn read_tx(&self) -> Result<ReadTx, sqlx::Error> {
        let begin = match self.inner.engine {
            Engine::Sqlite => "BEGIN",
            Engine::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        let tx = self.inner.reader.begin_with(begin).await?;
        Ok(ReadTx::new(tx, self.clone()))
    }

    /// A write transaction of a tenant. It waits for the one before it; dropped without a commit, it leaves nothing.
    ///
    /// # Errors
    /// When the tenant's lock is not free in time.
    pub async fn write_tx(&self, tenant: &str) -> Result<WriteTx, sqlx::Error> {
        let lock = self.lock_key(tenant);
        self.begin_write(tenant, Some(lock)).await
    }

    /// A write transaction that only touches rows which nobody else writes (receipts), so that it needs no tenant's lock.
    pub(crate) async fn write_tx_unlocked(&self, tenant: &str) -> Result<WriteTx, sqlx::Error> {
        self.begin_write(tenant, None).await
    }

    async fn begin_write(&self, tenant: &str, lock: Option<i64>) -> Result<WriteTx, sqlx::Error> {
        let mut attempt = 0;
        loop {
            let begun = match self.inner.engine {
                Engine::Sqlite => self.inner.writer.begin_with("BEGIN IMMEDIATE").await,
                Engine::Postgres => self.begin_postgres(lock).await,
            };
            match begun {
                Ok(tx) => return Ok(WriteTx::new(tx, self.clone(), tenant)),
                Err(error) if attempt < 4 && is_transient(&error) => attempt += 1,
                Err(error) => return Err(error),
            }
            // Another process holds the file, or the connection was lost before anything was done.
            tokio::time::sleep(Duration::from_millis(20 << attempt)).await;
        }
    }

    async fn begin_postgres(
        &self,
        lock: Option<i64>,
    ) -> Result<sqlx::Transaction<'static, sqlx::Any>, sqlx::Error> {
        let mut tx = self.inner.writer.begin().await?;
        if let Some(key) = lock {
            sqlx::query("SELECT pg_advisory_xact_lock($1)")
                .bind(key)
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx)
    }

    /// Runs the migrations that have not run yet: the chassis' own, then the service's.
    ///
    /// # Errors
    /// When one fails, has changed since it ran, or is unknown to this program.
    pub async fn migrate(&self, sets: &[Migrations], now_ms: i64) -> Result<(), DatabaseError> {
        migrate::run(self, sets, now_ms).await
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.inner.writer.close().await;
        self.inner.reader.close().await;
    }

    fn lock_key(&self, scope: &str) -> i64 {
        let digest = Sha256::new()
            .chain_update(b"counterfoil-lock/v1\0")
            .chain_update(&self.inner.schema)
            .chain_update([0])
            .chain_update(scope)
            .finalize();
        let mut key = [0; 8];
        key.copy_from_slice(&digest[..8]);
        i64::from_be_bytes(key)
    }

    fn statements(&self) -> &StatementCache {
        &self.inner.statements
    }
}

async fn sqlite_pools(url: &str) -> Result<(AnyPool, AnyPool), sqlx::Error> {
    // FULL: a transaction that was acknowledged survives a power cut. WAL: readers never wait for the writer.
    const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
        PRAGMA busy_timeout = 10000; PRAGMA foreign_keys = ON; PRAGMA cache_size = -16384;";
    let options = || {
        AnyPoolOptions::new()
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    connection.execute(sqlx::raw_sql(PRAGMAS)).await?;
                    Ok(())
                })
            })
    };
    let writer = options().max_connections(1).connect(url).await?;
    let reader = options().max_connections(8).connect(url).await?;
    Ok((writer, reader))
}

async fn postgres_pool(url: &str, schema: &str) -> Result<AnyPool, sqlx::Error> {
    let search_path: Arc<str> =
        format!("SET search_path TO {schema}; SET lock_timeout = '30s';").into();
    let pool = AnyPoolOptions::new()
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .max_connections(16)
        .after_connect(move |connection, _| {
            let search_path = Arc::clone(&search_path);
            Box::pin(async move {
                let sql = sqlx::AssertSqlSafe(search_path);
                connection.execute(sqlx::raw_sql(sql)).await?;
                Ok(())
            })
        })
        .connect(url)
        .await?;
    let mut tx = pool.begin().await?;
    // Two replicas that start at once would both try to create it. 1129270854 is "CFOF".
    sqlx::query("SELECT pg_advisory_xact_lock(1129270854)")
        .execute(&mut *tx)
        .await?;
    let create = sqlx::AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS {schema}"));
    sqlx::raw_sql(create).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(pool)
}

/// Whether the same call may succeed a moment later: busy, serialization failure, deadlock, lost or missing connection.
#[must_use]
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) => true,
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default().into_owned();
            match code.parse::<i64>() {
                // SQLite: the low byte of an extended code is 5 (busy) or 6 (locked).
                Ok(number) if code.len() < 5 => matches!(number & 0xff, 5 | 6),
                // PostgreSQL: serialization, deadlock, lock timeout, too many connections, shutting down.
                _ => {
                    matches!(code.as_str(), "40001" | "40P01" | "55P03" | "53300")
                        || code.starts_with("57P0")
                }
            }
        }
        _ => false,
    }
}
