//! SQLite's write-ahead log: what commits write there is moved into the database beside them, and not by a commit that finds it long.
//!
//! SQLite moves it in the connection whose commit makes it longer than a limit, while that commit's callers wait. Here a connection of its
//! own does it, while others commit. Only what was committed meanwhile has to be moved while nobody commits, and only when the log has
//! become long: as long as the writer is never caught up with, it does not start the log from its beginning again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::{AnyConnection, AnyPool, Row as _};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{Dialect, pool};
use crate::EngineError;

/// After how many rows the log is moved. A row touches one to three pages of 4 KiB, so that is some 8 to 48 MB.
const ROWS: u64 = 4096;

/// Pages of a log that is so long that commits wait until it is moved: 128 MiB.
const PAGES_MAX: i64 = 32 << 10;

/// Pages after which the writer moves the log itself, as SQLite does: should the task here ever fall behind or fail, the log stays bounded.
pub(super) const PAGES_LAST: i64 = 64 << 10;

/// Keeps the log short.
#[derive(Debug)]
pub(super) struct Wal {
    written: Arc<Written>,
    mover: AnyPool,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Written {
    rows: AtomicU64,
    enough: Notify,
}

impl Wal {
    /// Begins to keep the log of the database at `url` short, which is written by this pool of one connection.
    pub(super) async fn keep(
        url: &str,
        setup: &Arc<str>,
        writer: &AnyPool,
    ) -> Result<Self, EngineError> {
        let mover = pool(url, setup, 1, Dialect::Sqlite).await?;
        let written = Arc::new(Written::default());
        let task = run(Arc::clone(&written), mover.clone(), writer.clone());
        Ok(Self {
            written,
            mover,
            task: tokio::spawn(task),
        })
    }

    /// So many rows were committed.
    pub(super) fn wrote(&self, rows: u64) {
        if self.written.rows.fetch_add(rows, Ordering::Relaxed) + rows >= ROWS {
            self.written.enough.notify_one();
        }
    }

    /// Ends it. What is still in the log is moved when the last connection to the database is closed, or stays there: it is as durable.
    pub(super) async fn end(&self) {
        self.task.abort();
        self.mover.close().await;
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(written: Arc<Written>, mover: AnyPool, writer: AnyPool) {
    loop {
        written.enough.notified().await;
        written.rows.store(0, Ordering::Relaxed);
        if let Err(error) = shorten(&mover, &writer, PAGES_MAX).await {
            tracing::warn!(%error, "what SQLite has written ahead was not moved into the database; the writer will do it");
        }
    }
}

/// If we crash anywhere here: what was moved stands in the database and in the log, the rest in the log, and SQLite reads both.
async fn shorten(mover: &AnyPool, writer: &AnyPool, pages_max: i64) -> Result<(), sqlx::Error> {
    let mut mover = mover.acquire().await?;
    if checkpoint(&mut mover).await? < pages_max {
        return Ok(());
    }
    // What came meanwhile, so that little is left for which commits wait.
    checkpoint(&mut mover).await?;
    let _held = writer.acquire().await?;
    checkpoint(&mut mover).await.map(drop)
}

/// Moves what no reader needs in the log any more, without waiting for anybody; the pages of the log.
async fn checkpoint(connection: &mut AnyConnection) -> Result<i64, sqlx::Error> {
    let row = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)")
        .fetch_one(connection)
        .await?;
    // busy, log, checkpointed.
    row.try_get(1)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use sqlx::Executor as _;

    use super::*;

    /// Writes a megabyte, on pages of its own.
    const FILL: &str = "INSERT INTO filled WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 256) \
                        SELECT randomblob(4000) FROM numbers";

    struct Files {
        folder: tempfile::TempDir,
        writer: AnyPool,
        mover: AnyPool,
        url: String,
    }

    impl Files {
        /// A database whose log nobody else moves.
        async fn open() -> Self {
            sqlx::any::install_default_drivers();
            let folder = tempfile::tempdir().unwrap();
            let url = format!("sqlite://{}?mode=rwc", folder.path().join("db").display());
            let writer = connect(&url).await;
            writer
                .execute("CREATE TABLE filled (bytes BLOB)")
                .await
                .unwrap();
            let mover = connect(&url).await;
            Self {
                folder,
                writer,
                mover,
                url,
            }
        }

        fn size(&self, name: &str) -> u64 {
            let path: PathBuf = Path::new(self.folder.path()).join(name);
            std::fs::metadata(path).unwrap().len()
        }
    }

    fn setup() -> Arc<str> {
        "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;".into()
    }

    async fn connect(url: &str) -> AnyPool {
        pool(url, &setup(), 1, Dialect::Sqlite).await.unwrap()
    }

    #[tokio::test]
    async fn a_log_that_was_moved_is_written_from_its_beginning_again() {
        for pages_max in [PAGES_MAX, 1] {
            let files = Files::open().await;
            files.writer.execute(FILL).await.unwrap();
            assert!(files.size("db") < 1 << 20);
            let long = files.size("db-wal");
            shorten(&files.mover, &files.writer, pages_max)
                .await
                .unwrap();
            assert!(files.size("db") >= 1 << 20);
            files.writer.execute(FILL).await.unwrap();
            assert!(files.size("db-wal") < long + (1 << 19), "{pages_max}");
        }
    }

    #[tokio::test]
    async fn what_a_reader_needs_stays_in_the_log_and_nobody_waits_for_it() {
        let files = Files::open().await;
        let reader = connect(&files.url).await;
        let mut reading = reader.begin().await.unwrap();
        let count = "SELECT COUNT(*) FROM filled";
        let before: i64 = sqlx::query_scalar(count)
            .fetch_one(&mut *reading)
            .await
            .unwrap();
        files.writer.execute(FILL).await.unwrap();
        shorten(&files.mover, &files.writer, 1).await.unwrap();
        files.writer.execute(FILL).await.unwrap();
        let still: i64 = sqlx::query_scalar(count)
            .fetch_one(&mut *reading)
            .await
            .unwrap();
        assert_eq!((before, still), (0, 0));
        drop(reading);
        let all: i64 = sqlx::query_scalar(count).fetch_one(&reader).await.unwrap();
        assert_eq!(all, 512);
    }

    #[tokio::test]
    async fn enough_rows_let_it_be_moved() {
        let files = Files::open().await;
        let wal = Wal::keep(&files.url, &setup(), &files.writer)
            .await
            .unwrap();
        files.writer.execute(FILL).await.unwrap();
        wal.wrote(ROWS - 1);
        wal.wrote(1);
        let moved = async {
            while files.size("db") < 1 << 20 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), moved)
            .await
            .unwrap();
        wal.end().await;
    }
}
