//! The outbox of a service that need not run, for those who rebuild a ledger from it.

use sqlx::Row as _;

use crate::db::{Database, DatabaseError};

/// A record as it was written, with its place in the log if the ledger's answer is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptRecord {
    /// Canonical bytes of `counterfoil.evidence.v1.Record`.
    pub record: Vec<u8>,
    /// "{name}+{8 hex digits}" of the producer's key.
    pub key_id: String,
    /// Its signature, 64 bytes.
    pub signature: Vec<u8>,
    /// Where it stands.
    pub place: Option<KeptPlace>,
}

/// What a receipt says of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptPlace {
    /// Position in the log.
    pub index: u64,
    /// RFC 6962 leaf hash of the entry, 32 bytes.
    pub leaf_hash: Vec<u8>,
    /// The log's time at the receipt's checkpoint, milliseconds; 0: it was not kept.
    pub checkpoint_ms: i64,
}

/// Reads an outbox past its service. Changes nothing.
#[derive(Debug, Clone)]
pub struct KeptOutbox {
    db: Database,
    stream: String,
}

impl KeptOutbox {
    /// Opens the database of a service. It is not migrated: it is read as its service left it.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn open(database_url: &str, service: &str) -> Result<Self, DatabaseError> {
        Ok(Self {
            db: Database::connect(database_url, service).await?,
            stream: service.to_owned(),
        })
    }

    /// The stream that the service writes.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The tenants of whom it has records.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn tenants(&self) -> Result<Vec<String>, sqlx::Error> {
        let reason = "an operator recovers all logs";
        sqlx::query_scalar("SELECT tenant FROM outbox_streams WHERE stream = $1 ORDER BY tenant")
            .bind(&self.stream)
            .fetch_all(self.db.read_everything(reason).await?.conn())
            .await
    }

    /// A tenant's records from number `seq + 1` on, at most `limit`, in order.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn after(
        &self,
        tenant: &str,
        seq: u64,
        limit: u32,
    ) -> Result<Vec<KeptRecord>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT r.record, r.key_id, r.signature, p.log_index, p.leaf_hash, p.checkpoint_ms \
             FROM outbox_records r LEFT JOIN outbox_receipts p ON p.tenant = r.tenant AND p.record_id = r.record_id \
             WHERE r.tenant = $1 AND r.stream = $2 AND r.seq > $3 ORDER BY r.seq LIMIT $4",
        )
        .bind(tenant)
        .bind(&self.stream)
        .bind(i64::try_from(seq).unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .fetch_all(self.db.read(tenant).await?.conn())
        .await?;
        let kept = rows.iter().map(|row| {
            let index: Option<i64> = row.try_get("log_index")?;
            let place = match index.map(u64::try_from) {
                Some(Ok(index)) => Some(KeptPlace {
                    index,
                    leaf_hash: row.try_get("leaf_hash")?,
                    checkpoint_ms: row.try_get("checkpoint_ms")?,
                }),
                _ => None,
            };
            Ok(KeptRecord {
                record: row.try_get("record")?,
                key_id: row.try_get("key_id")?,
                signature: row.try_get("signature")?,
                place,
            })
        });
        kept.collect()
    }

    /// The tenant's receipts of the latest time, as C2SP tlog-proofs: the checkpoint of one of them is the newest it was given.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn newest_proofs(&self, tenant: &str) -> Result<Vec<Vec<u8>>, sqlx::Error> {
        // The log's time never goes back: no checkpoint of an earlier time is larger.
        sqlx::query_scalar(
            "SELECT tlog_proof FROM outbox_receipts WHERE tenant = $1 AND checkpoint_ms = \
             (SELECT MAX(checkpoint_ms) FROM outbox_receipts WHERE tenant = $1)",
        )
        .bind(tenant)
        .fetch_all(self.db.read(tenant).await?.conn())
        .await
    }

    /// Closes the database.
    pub async fn close(&self) {
        self.db.close().await;
    }
}
