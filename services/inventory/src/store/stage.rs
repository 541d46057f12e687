//! Staged chunks: sorted runs of grants, and last uses that wait for the seal.

use counterfoil_chassis::db::{Database, WriteTx};
use sqlx::Row;

use crate::error::Result;

/// The run of last uses.
pub const USES: i64 = -1;

/// Which sync of which source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// Number of the source.
    pub source_no: i64,
    /// Number of the sync.
    pub seq: i64,
}

impl Stage {
    /// Keeps a chunk.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn put(
        &self,
        tx: &mut WriteTx,
        run: i64,
        chunk: i64,
        content: Vec<u8>,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO staged_chunks (source_no, seq, run, chunk, content) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(self.source_no)
        .bind(self.seq)
        .bind(run)
        .bind(chunk)
        .bind(content)
        .execute(tx.conn())
        .await?;
        Ok(())
    }

    /// Reads a chunk; none after the last one of a run.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn get(
        &self,
        db: &Database,
        tenant: &str,
        run: i64,
        chunk: i64,
    ) -> Result<Option<Vec<u8>>> {
        let row = sqlx::query(
            "SELECT content FROM staged_chunks WHERE source_no = $1 AND seq = $2 AND run = $3 AND chunk = $4",
        )
        .bind(self.source_no)
        .bind(self.seq)
        .bind(run)
        .bind(chunk)
        .fetch_optional(db.read(tenant).await?.conn())
        .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Forgets the chunks of runs, and keeps the last uses.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn clear_runs(&self, tx: &mut WriteTx) -> Result<()> {
        sqlx::query("DELETE FROM staged_chunks WHERE source_no = $1 AND seq = $2 AND run >= 0")
            .bind(self.source_no)
            .bind(self.seq)
            .execute(tx.conn())
            .await?;
        Ok(())
    }
}

/// Forgets all chunks of a sync.
///
/// # Errors
/// When the database refuses.
pub async fn clear_sync(tx: &mut WriteTx, stage: &Stage) -> Result<()> {
    sqlx::query("DELETE FROM staged_chunks WHERE source_no = $1 AND seq = $2")
        .bind(stage.source_no)
        .bind(stage.seq)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Forgets all chunks of a source.
///
/// # Errors
/// When the database refuses.
pub async fn clear(tx: &mut WriteTx, source_no: i64) -> Result<()> {
    sqlx::query("DELETE FROM staged_chunks WHERE source_no = $1")
        .bind(source_no)
        .execute(tx.conn())
        .await?;
    Ok(())
}
