//! Single bits that change where logs are kept: in the database's pages, and in the published tiles, bundles and checkpoints. The full
//! check must find each one, or nothing that anybody can read may have changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use counterfoil_engine::{Engine, EngineError};
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Row as _};

use crate::dice::Dice;
use crate::figures::Figures;
use crate::place::{Place, sqlite_url};
use crate::records::{Position, Producer, STREAMS, origin, tenant};

/// Entries of each log: of the first one more than a tile.
const ENTRIES: [u64; 2] = [300, 20];

/// Of this many flips one is in the database as long as all others are.
const IN_DATABASE_PERCENT: u64 = 60;

/// The longest that a check of a damaged database may take.
const CHECK_MAX: Duration = Duration::from_secs(60);

/// What nobody reads, by table: when and how long a migration ran and how it is called, and when a log was made.
const UNREAD: [(&str, &str); 4] = [
    ("log_migrations", "description"),
    ("log_migrations", "installed_on"),
    ("log_migrations", "execution_time"),
    ("logs", "created_at_ms"),
];

/// Flips bits one by one.
pub(crate) async fn run(episodes: usize, seed: u64) -> anyhow::Result<Figures> {
    sqlx::any::install_default_drivers();
    let mut figures = Figures::new("flips", "sqlite", seed);
    let mut dice = Dice::new(seed);
    let folder = tempfile::tempdir()?;
    let place = Place::sqlite(folder.path());
    write(&place).await?;
    let mut copied = Vec::new();
    files_below(&place.copies(), &mut copied)?;
    let whole = Whole {
        database: fs::read(place.database())?,
        dump: dump(&place.database()).await?,
    };
    ensure!(!detects(&place).await, "the logs are damaged before a flip");
    for _ in 0..episodes {
        figures.episode += 1;
        if dice.below(100) < IN_DATABASE_PERCENT {
            in_database(&place, &whole, &mut dice, &mut figures).await?;
        } else {
            let file = &copied[usize::try_from(dice.below(copied.len() as u64))?];
            in_copy(&place, file, &mut dice, &mut figures).await?;
        }
    }
    ensure!(!detects(&place).await, "a flip was not taken back");
    Ok(figures)
}

/// The database before anything happened to it.
struct Whole {
    database: Vec<u8>,
    dump: Vec<String>,
}

async fn in_database(
    place: &Place,
    whole: &Whole,
    dice: &mut Dice,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let mut bytes = whole.database.clone();
    let (at, bit) = flip(&mut bytes, dice)?;
    replace(place, &bytes)?;
    figures.count("in_database");
    if detects(place).await {
        figures.detected += 1;
    } else {
        // The check may have written: what is compared is the flip alone.
        replace(place, &bytes)?;
        match dump(&place.database()).await {
            Ok(dump) if dump == whole.dump => figures.count("harmless"),
            Ok(dump) => {
                let changed = dump.iter().zip(&whole.dump).find(|(now, then)| now != then);
                let what = format!("byte {at} bit {bit}: {changed:?}");
                figures.wrong("unseen", what);
            }
            Err(error) => figures.wrong("unseen", format!("byte {at} bit {bit}: {error:#}")),
        }
    }
    replace(place, &whole.database)
}

async fn in_copy(
    place: &Place,
    file: &Path,
    dice: &mut Dice,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let whole = fs::read(file)?;
    let mut bytes = whole.clone();
    let (at, bit) = flip(&mut bytes, dice)?;
    fs::write(file, bytes)?;
    let path = file.to_string_lossy();
    figures.count(match () {
        () if path.ends_with("checkpoint") => "in_checkpoints",
        () if path.contains("/entries/") => "in_bundles",
        () => "in_tiles",
    });
    if detects(place).await {
        figures.detected += 1;
    } else {
        figures.wrong("unseen", format!("{path} byte {at} bit {bit}"));
    }
    fs::write(file, whole)?;
    Ok(())
}

fn flip(bytes: &mut [u8], dice: &mut Dice) -> anyhow::Result<(u64, u64)> {
    let (at, bit) = (dice.below(bytes.len() as u64), dice.below(8));
    let byte = bytes.get_mut(usize::try_from(at)?).context("no byte")?;
    *byte ^= 1 << bit;
    Ok((at, bit))
}

/// Writes the logs and publishes them; afterwards the database is one file.
async fn write(place: &Place) -> anyhow::Result<()> {
    let engine = place.open().await?;
    for (log, entries) in ENTRIES.into_iter().enumerate() {
        let registrar = Producer::of(0)?;
        let (tenant, origin) = (tenant(log), origin(log));
        let opened = engine.create_log(&tenant, &origin, registrar.key()).await?;
        for (stream, last) in [
            (0, STREAMS.len() as u64),
            (1, entries / 2),
            (2, entries / 2),
        ] {
            let producer = Producer::of(stream)?;
            let mut at = Position::START;
            while at.seq < last {
                let mut records = Vec::new();
                for _ in at.seq..last.min(at.seq + 40) {
                    let (record, next) = producer.next(log, at)?;
                    records.push(record);
                    at = next;
                }
                for outcome in opened.append(records).await? {
                    outcome?;
                }
                opened.publish(&place.publication()?).await?;
            }
        }
    }
    engine.close().await;
    ensure!(
        !place.folder.join("ledger.db-wal").exists(),
        "a WAL is left"
    );
    Ok(())
}

/// Puts a database in the place of the one that is there.
fn replace(place: &Place, bytes: &[u8]) -> anyhow::Result<()> {
    for left in ["ledger.db-wal", "ledger.db-shm", "ledger.db-journal"] {
        let left = place.folder.join(left);
        if left.exists() {
            fs::remove_file(left)?;
        }
    }
    fs::write(place.database(), bytes)?;
    Ok(())
}

/// Whether opening the logs or checking them finds something.
async fn detects(place: &Place) -> bool {
    let check = async {
        let engine = place.open().await?;
        let found = check_all(place, &engine).await;
        engine.close().await;
        found
    };
    match tokio::time::timeout(CHECK_MAX, check).await {
        Ok(Ok(is_clean)) => !is_clean,
        Ok(Err(_)) | Err(_) => true,
    }
}

async fn check_all(place: &Place, engine: &Engine) -> Result<bool, EngineError> {
    let copy = place
        .publication()
        .map_err(|error| EngineError::Publication {
            step: "open",
            message: error.to_string(),
        })?;
    if !engine.check_database().await?.is_empty() {
        return Ok(false);
    }
    for log in 0..ENTRIES.len() {
        let log = engine.log(&tenant(log)).await?;
        if !log.fsck_with(Some(&copy), &mut |_, _| {}).await?.is_clean() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// All that can be read of a database: the schema, and every row of every table but for what nobody reads; and that its indexes are whole.
async fn dump(path: &Path) -> anyhow::Result<Vec<String>> {
    let url = sqlite_url(path);
    let mut connection = AnyConnection::connect(&url).await?;
    let dumped = dump_all(&mut connection).await;
    connection.close().await?;
    dumped
}

async fn dump_all(connection: &mut AnyConnection) -> anyhow::Result<Vec<String>> {
    let texts = async |connection: &mut AnyConnection, sql: String| {
        let rows = sqlx::query(AssertSqlSafe(sql))
            .fetch_all(connection)
            .await?;
        let texts = rows.iter().map(|row| row.try_get::<String, _>(0));
        anyhow::Ok(texts.collect::<Result<Vec<_>, _>>()?)
    };
    let mut dump = texts(
        connection,
        "SELECT type || name || tbl_name || ifnull(sql, '') FROM sqlite_schema ORDER BY rowid"
            .into(),
    )
    .await?;
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid";
    for table in texts(connection, tables.into()).await? {
        let columns = format!("SELECT name FROM pragma_table_info('{table}') ORDER BY cid");
        let columns = texts(connection, columns).await?;
        let columns: Vec<String> = columns
            .iter()
            .filter(|column| !UNREAD.contains(&(table.as_str(), column.as_str())))
            .map(|column| format!("quote({column})"))
            .collect();
        let columns = columns.join(" || ',' || ");
        let rows = format!("SELECT {columns} FROM {table} NOT INDEXED");
        let rows = texts(connection, rows).await?;
        dump.extend(rows.into_iter().map(|row| format!("{table}: {row}")));
    }
    dump.extend(texts(connection, "PRAGMA integrity_check".into()).await?);
    Ok(dump)
}

fn files_below(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files_below(&path, files)?;
        } else if path.file_name().is_some_and(|name| name != ".turns") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}
