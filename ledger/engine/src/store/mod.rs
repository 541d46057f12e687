//! All SQL of the engine: one text for SQLite and PostgreSQL through `sqlx::Any`, but for the bulk inserts' placeholders, and for a batch, which
//! is statements to the one and a call of the function of migration 0010 to the other.
//!
//! One connection writes on SQLite, because SQLite has one writer; readers have connections of their own and are not
//! blocked by it (WAL). On PostgreSQL several processes may write: the compare-and-swap of the heads keeps them apart.

mod call;
mod commit;
mod cosignatures;
mod epochs;
mod evicted;
mod find;
mod integrity;
mod logs;
mod read;
mod rows;
mod subjects;
mod wal;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, AssertSqlSafe, Executor as _, Row as _, Transaction};

pub(crate) use commit::{CommitError, EntryRow, KeyRow, LogCommit, Prepared, Rebuild, TileRow};
pub(crate) use logs::NewLog;
pub(crate) use read::KnownRecord;
use wal::Wal;

use crate::{EngineError, LogId, Publication};

/// Connections for reading.
const READERS: u32 = 4;
/// Connections for writing, on PostgreSQL.
const WRITERS: u32 = 2;

/// What differs between the engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

/// The database of the engine.
#[derive(Debug)]
pub(crate) struct Store {
    write: AnyPool,
    read: AnyPool,
    dialect: Dialect,
    /// Where entries are read whose bytes have left the database.
    copy: Option<Publication>,
    /// On SQLite.
    wal: Option<Wal>,
}

impl Store {
    /// Opens the database and brings its tables up to date.
    ///
    /// `schema` is the schema of its tables on PostgreSQL, made when missing; SQLite has none.
    /// `owner_url` is the address under which the tables' owner connects, when `url` is that of a role that owns nothing.
    pub(crate) async fn open(
        url: &str,
        owner_url: Option<&str>,
        schema: Option<&str>,
        copy: Option<Publication>,
    ) -> Result<Self, EngineError> {
        sqlx::any::install_default_drivers();
        let dialect = if url.starts_with("sqlite:") {
            Dialect::Sqlite
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            Dialect::Postgres
        } else {
            return Err(EngineError::Storage {
                step: "open",
                message: "a database url starts with sqlite: or postgres:".to_owned(),
            });
        };
        let writers = match dialect {
            Dialect::Sqlite => 1,
            Dialect::Postgres => WRITERS,
        };
        let setup = setup(dialect, schema)?;
        migrate(owner_url.unwrap_or(url), &setup, dialect, schema).await?;
        let writing = match dialect {
            // What a statement changed, to take it back alone: of a batch, not of a file each.
            Dialect::Sqlite => format!("{setup} PRAGMA temp_store = MEMORY;").into(),
            Dialect::Postgres => Arc::clone(&setup),
        };
        let write = pool(url, &writing, writers, dialect).await?;
        let read = pool(url, &setup, READERS, dialect).await?;
        let wal = match dialect {
            Dialect::Sqlite => Some(Wal::keep(url, &setup, &write).await?),
            Dialect::Postgres => None,
        };
        Ok(Self {
            write,
            read,
            dialect,
            copy,
            wal,
        })
    }

    /// So many rows were committed.
    fn wrote(&self, rows: u64) {
        if let Some(wal) = &self.wal {
            wal.wrote(rows);
        }
    }

    /// Closes all connections.
    pub(crate) async fn close(&self) {
        if let Some(wal) = &self.wal {
            wal.end().await;
        }
        self.read.close().await;
        self.write.close().await;
    }
}

/// What every connection starts with.
fn setup(dialect: Dialect, schema: Option<&str>) -> Result<Arc<str>, EngineError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    match (dialect, schema) {
        // FULL: an acknowledged entry survives a power cut. What commits write ahead is moved beside them: the limit here is the last resort.
        (Dialect::Sqlite, _) => Ok(format!(
            "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
             PRAGMA fullfsync = ON; PRAGMA wal_autocheckpoint = {}; PRAGMA cache_size = -16384;",
            wal::PAGES_LAST
        )
        .into()),
        (Dialect::Postgres, None) => Ok("SET synchronous_commit = on;".into()),
        (Dialect::Postgres, Some(schema)) if schema.bytes().all(plain) => {
            Ok(format!("SET synchronous_commit = on; SET search_path TO {schema};").into())
        }
        (Dialect::Postgres, Some(schema)) => Err(EngineError::Storage {
            step: "open",
            message: format!("schema {schema:?} must be a-z, 0-9 and '_'"),
        }),
    }
}

/// Brings the tables up to date. Who may not make tables may still find that nothing is to be done.
async fn migrate(
    url: &str,
    setup: &Arc<str>,
    dialect: Dialect,
    schema: Option<&str>,
) -> Result<(), EngineError> {
    let failed = |error: sqlx::Error| EngineError::storage("migrate", &error);
    let mut migrator = match dialect {
        Dialect::Sqlite => sqlx::migrate!("migrations/sqlite"),
        Dialect::Postgres => sqlx::migrate!("migrations/postgres"),
    };
    // A table of its own: the service around the engine keeps its migrations in the same database.
    migrator.dangerous_set_table_name("log_migrations");
    let pool = pool(url, setup, 1, dialect).await?;
    if dialect == Dialect::Postgres {
        let there: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'log_migrations'")
                .fetch_one(&pool)
                .await
                .map_err(failed)?;
        if there == 1 {
            let newest: i64 =
                sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM log_migrations")
                    .fetch_one(&pool)
                    .await
                    .map_err(failed)?;
            if migrator.iter().all(|one| one.version <= newest) {
                pool.close().await;
                return Ok(());
            }
        } else if let Some(schema) = schema {
            let create = AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS {schema}"));
            pool.execute(sqlx::raw_sql(create)).await.map_err(failed)?;
        }
    }
    let migrated = migrator.run(&pool).await;
    pool.close().await;
    migrated.map_err(|error| EngineError::Storage {
        step: "migrate",
        message: error.to_string(),
    })
}

/// Reads of named logs.
pub(crate) enum Reading {
    Connection(PoolConnection<Any>),
    Transaction(Transaction<'static, Any>),
}

impl Deref for Reading {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        match self {
            Self::Connection(connection) => connection,
            Self::Transaction(transaction) => transaction,
        }
    }
}

impl DerefMut for Reading {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        match self {
            Self::Connection(connection) => connection,
            Self::Transaction(transaction) => transaction,
        }
    }
}

impl Store {
    /// Reads of one log. On PostgreSQL the transaction names it, and sees no other.
    async fn reading(&self, log: LogId) -> Result<Reading, EngineError> {
        let failed = |error: sqlx::Error| EngineError::storage("begin reading", &error);
        Ok(match self.dialect {
            Dialect::Sqlite => Reading::Connection(self.read.acquire().await.map_err(failed)?),
            Dialect::Postgres => {
                let begin = format!("BEGIN READ ONLY; SET LOCAL counterfoil.logs = '{log}'");
                let begun = self.read.begin_with(AssertSqlSafe(begin)).await;
                Reading::Transaction(begun.map_err(failed)?)
            }
        })
    }

    /// Reads of which log a tenant has; of all tenants for `*`.
    async fn reading_tenant(&self, tenant: &str) -> Result<Reading, EngineError> {
        let failed = |error: sqlx::Error| EngineError::storage("begin reading", &error);
        Ok(match self.dialect {
            Dialect::Sqlite => Reading::Connection(self.read.acquire().await.map_err(failed)?),
            Dialect::Postgres => {
                let mut transaction = self.read.begin().await.map_err(failed)?;
                set(&mut transaction, "counterfoil.tenant", tenant)
                    .await
                    .map_err(failed)?;
                Reading::Transaction(transaction)
            }
        })
    }
}

/// Makes a setting until the transaction ends.
async fn set(connection: &mut AnyConnection, name: &str, value: &str) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT set_config($1, $2, true)")
        .bind(name)
        .bind(value)
        .execute(connection)
        .await
        .map(drop)
}

/// Whether a connection is there and in no transaction; in place of the pool's own question, which the server answers in any state.
///
/// A beginning that fails after its `BEGIN`, because it was cancelled while it waited for another writer, leaves its connection in a
/// transaction of which the pool does not know: it would hand it out again and again.
async fn is_idle(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    // In one message of the simple protocol: the transaction is as old as the statement, unless it was there before. In a failed one
    // this is refused; the pool closes a connection then, too.
    let sql = "SELECT now() = statement_timestamp()";
    let row = connection.fetch_one(sqlx::raw_sql(sql)).await?;
    row.try_get(0)
}

async fn pool(
    url: &str,
    setup: &Arc<str>,
    connections: u32,
    dialect: Dialect,
) -> Result<AnyPool, EngineError> {
    let setup = Arc::clone(setup);
    // SQLite's are in this process: to ask whether one is there takes as long as a short statement.
    let mut options = AnyPoolOptions::new().test_before_acquire(false);
    if dialect == Dialect::Postgres {
        options = options.before_acquire(|connection, _| Box::pin(is_idle(connection)));
    }
    options
        .max_connections(connections)
        .after_connect(move |connection, _| {
            let setup = AssertSqlSafe(Arc::clone(&setup));
            Box::pin(async move {
                connection.execute(sqlx::raw_sql(setup)).await?;
                Ok(())
            })
        })
        .connect(url)
        .await
        .map_err(|error| EngineError::storage("connect", &error))
}

impl Dialect {
    /// `?, ?`: anonymous on SQLite, where numbered placeholders are quadratic; numbered on PostgreSQL.
    fn marks(self, count: usize) -> String {
        let mark = |number: usize| match self {
            Self::Sqlite => "?".to_owned(),
            Self::Postgres => format!("${number}"),
        };
        (1..=count).map(mark).collect::<Vec<_>>().join(", ")
    }
}

/// Numbers in the database are signed 64 bits; sizes and positions of a log never reach that far.
pub(crate) fn to_db(number: u64) -> Result<i64, EngineError> {
    i64::try_from(number).map_err(|_| EngineError::Storage {
        step: "encode",
        message: format!("{number} does not fit the database"),
    })
}

/// Reads a size or position.
fn number(row: &AnyRow, column: &'static str) -> Result<u64, EngineError> {
    let value: i64 = get(row, column)?;
    u64::try_from(value).map_err(|_| unexpected(column))
}

/// Reads a value of fixed length.
fn fixed<const N: usize>(row: &AnyRow, column: &'static str) -> Result<[u8; N], EngineError> {
    let bytes: Vec<u8> = get(row, column)?;
    bytes.try_into().map_err(|_| unexpected(column))
}

fn get<'r, T>(row: &'r AnyRow, column: &'static str) -> Result<T, EngineError>
where
    T: sqlx::Decode<'r, sqlx::Any> + sqlx::Type<sqlx::Any>,
{
    row.try_get(column)
        .map_err(|error| EngineError::garbled(error.to_string()))
}

/// The rows that can be read, and how many there are that cannot: a text that is none spoils its row before anybody sees it.
async fn readable(
    mut rows: impl Stream<Item = Result<AnyRow, sqlx::Error>> + Unpin,
    step: &'static str,
) -> Result<(Vec<AnyRow>, usize), EngineError> {
    let (mut found, mut others) = (Vec::new(), 0);
    while let Some(row) = rows.next().await {
        match row.map_err(|error| EngineError::storage(step, &error)) {
            Ok(row) => found.push(row),
            Err(error) if error.is_garbled() => others += 1,
            Err(error) => return Err(error),
        }
    }
    Ok((found, others))
}

fn unexpected(column: &'static str) -> EngineError {
    EngineError::garbled(format!("column {column} has an unexpected value"))
}

#[cfg(test)]
mod tests {
    use super::Dialect;

    #[test]
    fn placeholders_are_anonymous_on_sqlite_and_numbered_on_postgresql() {
        assert_eq!(Dialect::Sqlite.marks(3), "?, ?, ?");
        assert_eq!(Dialect::Postgres.marks(3), "$1, $2, $3");
    }
}
