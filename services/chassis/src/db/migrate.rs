//! Migrations: append-only SQL files, one a version and engine, compiled into the program.
//!
//! Invariant: a file that has run never changes; a database that has run a file this program does not have is refused.

use sha2::{Digest, Sha256};
use sqlx::Row;

use super::{Database, DatabaseError, Engine, WriteTx, wall};

/// The migrations of one service. Make it with [`crate::migrations!`].
#[derive(Debug, Clone, Copy)]
pub struct Migrations {
    /// Name of the set: the service's.
    pub set: &'static str,
    /// In order of their names.
    pub files: &'static [MigrationFile],
}

/// One version.
#[derive(Debug, Clone, Copy)]
pub struct MigrationFile {
    /// File name, such as "0001_sources.sql".
    pub name: &'static str,
    /// Its text for SQLite.
    pub sqlite: &'static str,
    /// Its text for PostgreSQL.
    pub postgres: &'static str,
}

/// The migrations in `migrations/{sqlite,postgres}/` of the calling crate.
///
/// ```text
/// pub const MIGRATIONS: Migrations = counterfoil_chassis::migrations!("inventory", "0001_sources.sql");
/// ```
#[macro_export]
macro_rules! migrations {
    ($set:literal $(, $file:literal)* $(,)?) => {
        $crate::db::Migrations {
            set: $set,
            files: &[$($crate::db::MigrationFile {
                name: $file,
                sqlite: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite/", $file)),
                postgres: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres/", $file)),
            },)*],
        }
    };
}

const OWN: Migrations = crate::migrations!(
    "chassis",
    "0001_chassis.sql",
    "0002_receipt_time.sql",
    "0003_operators.sql"
);

const TABLE_SQLITE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (migration_set TEXT NOT NULL, name TEXT NOT NULL, \
    sha256 BLOB NOT NULL, applied_at_ms BIGINT NOT NULL, PRIMARY KEY (migration_set, name))";
const TABLE_POSTGRES: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (migration_set TEXT NOT NULL, name TEXT NOT NULL, \
    sha256 BYTEA NOT NULL, applied_at_ms BIGINT NOT NULL, PRIMARY KEY (migration_set, name))";

pub(super) async fn run(
    db: &Database,
    sets: &[Migrations],
    now_ms: i64,
) -> Result<(), DatabaseError> {
    // One transaction for all: a start that fails leaves the schema as it was, and two that start at once take turns.
    let mut tx = db.write_tx("schema").await?;
    let table = match db.engine() {
        Engine::Sqlite => TABLE_SQLITE,
        Engine::Postgres => TABLE_POSTGRES,
    };
    if !db.has_table(&mut tx, "schema_migrations").await? {
        sqlx::raw_sql(table).execute(tx.conn()).await?;
    }
    let mut pending = Vec::new();
    for set in std::iter::once(&OWN).chain(sets) {
        pending.extend(missing(&mut tx, set).await?);
    }
    let postgres = db.engine() == Engine::Postgres;
    if postgres && !pending.is_empty() {
        wall::lower(tx.conn(), db.schema()).await?;
    }
    for (set, file) in pending {
        run_file(&mut tx, set, file, now_ms).await?;
    }
    if postgres {
        wall::raise(tx.conn(), db.schema()).await?;
    }
    // If we crash here: nothing has happened, the next start runs the same files.
    tx.commit().await?;
    Ok(())
}

/// The files of a set that have not run.
async fn missing<'s>(
    tx: &mut WriteTx,
    set: &'s Migrations,
) -> Result<Vec<(&'s str, &'s MigrationFile)>, DatabaseError> {
    let failed = |name: &str, reason: String| DatabaseError::Migration {
        set: set.set.to_owned(),
        name: name.to_owned(),
        reason,
    };
    if let Some(pair) = set
        .files
        .windows(2)
        .find(|pair| pair[0].name >= pair[1].name)
    {
        return Err(failed(pair[1].name, "is not in order".into()));
    }
    let rows = sqlx::query(
        "SELECT name, sha256 FROM schema_migrations WHERE migration_set = $1 ORDER BY name",
    )
    .bind(set.set)
    .fetch_all(tx.conn())
    .await?;
    for (position, row) in rows.iter().enumerate() {
        let name: String = row.try_get("name")?;
        let sha256: Vec<u8> = row.try_get("sha256")?;
        match set.files.get(position) {
            Some(file) if file.name == name => {
                if Sha256::digest(text(file, tx.engine())).as_slice() != sha256 {
                    return Err(failed(&name, "has changed since it ran".into()));
                }
            }
            _ => {
                let reason = "has run on this database and is unknown to this program";
                return Err(failed(&name, reason.into()));
            }
        }
    }
    let missing = set.files.iter().skip(rows.len());
    Ok(missing.map(|file| (set.set, file)).collect())
}

async fn run_file(
    tx: &mut WriteTx,
    set: &str,
    file: &MigrationFile,
    now_ms: i64,
) -> Result<(), DatabaseError> {
    let text = text(file, tx.engine());
    let failed = |error: sqlx::Error| DatabaseError::Migration {
        set: set.to_owned(),
        name: file.name.to_owned(),
        reason: error.to_string(),
    };
    sqlx::raw_sql(text)
        .execute(tx.conn())
        .await
        .map_err(failed)?;
    sqlx::query("INSERT INTO schema_migrations (migration_set, name, sha256, applied_at_ms) VALUES ($1, $2, $3, $4)")
        .bind(set)
        .bind(file.name)
        .bind(Sha256::digest(text).to_vec())
        .bind(now_ms)
        .execute(tx.conn())
        .await?;
    tracing::info!(set, name = file.name, "migrated");
    Ok(())
}

const fn text(file: &MigrationFile, engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => file.sqlite,
        Engine::Postgres => file.postgres,
    }
}
