//! The database of a service: SQLite or PostgreSQL behind one API, and all that differs between them.
//!
//! Invariants:
//! - A write transaction belongs to one tenant and holds the tenant's lock from its first statement to its end. On SQLite
//!   there is one writer at all; on PostgreSQL an advisory lock gives the same order within a tenant. What is read inside
//!   of a write transaction can therefore not change before it commits, on both engines, without retries.
//! - A transaction sees one tenant: the one it names, or its caller's ([`scope`]). PostgreSQL enforces it ([`wall`]).
//! - Only i64, bytes and text (and NULL) go in and out: what `sqlx::Any` carries on both engines.
//! - Statements are `$N` texts on both engines. The bulk paths ([`bulk`]) write anonymous `?` on SQLite, where a thousand
//!   named parameters would cost a hundred times more.

pub mod bulk;
mod migrate;
pub mod scope;
mod tx;
mod wall;

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
    /// A table has no `tenant` and the keys of two tables that have: whose are its rows?
    #[error("table {table} has the keys of {0} and {1}: give it a column tenant", parents[0], parents[1])]
    Wall {
        /// Which table.
        table: String,
        /// Whose keys it has.
        parents: [String; 2],
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

/// Connections that read at once; on PostgreSQL as many write.
pub const READERS_MAX: u32 = 8;
/// The tenant of those who read all of them.
const EVERYTHING: &str = "*";

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
            // Apart, so that those who wait for a tenant's lock never keep from reading who holds it.
            Engine::Postgres => (
                postgres_pool(url, schema).await?,
                postgres_pool(url, schema).await?,
            ),
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

    /// Reads of a tenant, each of the newest state: `query.fetch_all(db.read(tenant).await?.conn())`.
    ///
    /// # Errors
    /// When no connection is free in time.
    pub async fn read(&self, tenant: &str) -> Result<ReadTx, sqlx::Error> {
        self.begin_read(&scope::bound(tenant), "BEGIN READ ONLY")
            .await
    }

    /// Several reads of one state of a tenant.
    ///
    /// # Errors
    /// When no connection is free in time.
    pub async fn read_tx(&self, tenant: &str) -> Result<ReadTx, sqlx::Error> {
        let tenant = scope::bound(tenant);
        match self.inner.engine {
            Engine::Sqlite => {
                let tx = self.inner.reader.begin_with("BEGIN").await?;
                Ok(ReadTx::of_state(tx, self.clone()))
            }
            Engine::Postgres => {
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                self.begin_read(&tenant, begin).await
            }
        }
    }

    /// Reads of all tenants, for the few who must look for work or for a name before they know whose it is. `reason` says
    /// why; a tidy test lists who may. For a caller of a tenant it still reads that tenant alone.
    ///
    /// # Errors
    /// When no connection is free in time.
    pub async fn read_everything(&self, reason: &'static str) -> Result<ReadTx, sqlx::Error> {
        tracing::trace!(reason, "reading across tenants");
        self.begin_read(&scope::bound(EVERYTHING), "BEGIN READ ONLY")
            .await
    }

    async fn begin_read(&self, tenant: &str, begin: &str) -> Result<ReadTx, sqlx::Error> {
        match self.inner.engine {
            // Without a setting to make there is no need of a transaction.
            Engine::Sqlite => {
                let connection = self.inner.reader.acquire().await?;
                Ok(ReadTx::of_connection(connection, self.clone()))
            }
            Engine::Postgres => {
                let begin = begin_as(begin, tenant)?;
                let tx = self.inner.reader.begin_with(begin).await?;
                Ok(ReadTx::of_state(tx, self.clone()))
            }
        }
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
                Engine::Postgres => self.begin_postgres(tenant, lock).await,
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
        tenant: &str,
        lock: Option<i64>,
    ) -> Result<sqlx::Transaction<'static, sqlx::Any>, sqlx::Error> {
        let begin = begin_as("BEGIN", &scope::bound(tenant))?;
        let mut tx = self.inner.writer.begin_with(begin).await?;
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

    /// Whether PostgreSQL hides other tenants' rows from the role that is connected; `None`: SQLite, which cannot.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn second_wall(&self) -> Result<Option<bool>, sqlx::Error> {
        match self.inner.engine {
            Engine::Sqlite => Ok(None),
            Engine::Postgres => {
                let mut connection = self.inner.reader.acquire().await?;
                Ok(Some(wall::holds(&mut connection).await?))
            }
        }
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

    fn schema(&self) -> &str {
        &self.inner.schema
    }

    /// Whether a table is there, told without the right to make it.
    async fn has_table(&self, tx: &mut WriteTx, table: &str) -> Result<bool, sqlx::Error> {
        let sql = match self.inner.engine {
            Engine::Sqlite => {
                "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = $1"
            }
            Engine::Postgres => {
                "SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = $1"
            }
        };
        let found: i64 = sqlx::query_scalar(sql)
            .bind(table)
            .fetch_one(tx.conn())
            .await?;
        Ok(found > 0)
    }

    fn statements(&self) -> &StatementCache {
        &self.inner.statements
    }
}

/// A `BEGIN` that names the tenant, in one message to the server; the setting ends with the transaction.
fn begin_as(begin: &str, tenant: &str) -> Result<sqlx::AssertSqlSafe<String>, sqlx::Error> {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    if tenant != EVERYTHING && !tenant.bytes().all(harmless) {
        return Err(sqlx::Error::Protocol("a malformed tenant id".to_owned()));
    }
    Ok(sqlx::AssertSqlSafe(format!(
        "{begin}; SET LOCAL counterfoil.tenant = '{tenant}'"
    )))
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
    let reader = options().max_connections(READERS_MAX).connect(url).await?;
    Ok((writer, reader))
}

async fn postgres_pool(url: &str, schema: &str) -> Result<AnyPool, sqlx::Error> {
    let search_path: Arc<str> =
        format!("SET search_path TO {schema}; SET lock_timeout = '30s';").into();
    let pool = AnyPoolOptions::new()
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .max_connections(READERS_MAX)
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
    let there: Option<String> = sqlx::query_scalar("SELECT to_regnamespace($1)::text")
        .bind(schema)
        .fetch_one(&pool)
        .await?;
    // A role that owns nothing may not even ask to make what is there.
    if there.is_some() {
        return Ok(pool);
    }
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

/// Whether PostgreSQL refused a row because it is of another tenant than the transaction.
#[must_use]
pub fn is_another_tenants(error: &sqlx::Error) -> bool {
    let refused = |error: &dyn sqlx::error::DatabaseError| {
        error.code().is_some_and(|code| code == "42501")
            && error.message().contains("row-level security")
    };
    error.as_database_error().is_some_and(refused)
}

/// Whether a text had a NUL character, which PostgreSQL keeps none of.
#[must_use]
pub fn is_unstorable_text(error: &sqlx::Error) -> bool {
    let code =
        |error: &dyn sqlx::error::DatabaseError| error.code().is_some_and(|code| code == "22021");
    error.as_database_error().is_some_and(code)
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
