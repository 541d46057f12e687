//! The evidence outbox: a change and its record in one transaction, and the receipt that follows.
//!
//! Invariants (rules 1 and 2 of the architecture):
//! - A record is written in the transaction of the change it states: both or neither.
//! - A stream has no gap: its row in `outbox_streams` is read and written inside of the tenant's write transaction.
//! - A transaction that has opened an [`Emission`] and not finished it does not commit.
//! - Records are never changed or removed, so that a ledger restored to an older state can be rebuilt from them.
//!
//! Names, addresses and free text go in as commitments ([`RecordDraft::commit`]); value and salt stay in `disclosures`.

mod draft;
mod emission;
mod kept;
mod producer;
mod receipts;

use std::{collections::HashMap, fmt, sync::Arc};

use counterfoil_tlog::signature::RecordSigner;
use sqlx::Row;
use tokio::sync::mpsc;

use crate::{
    clock::Clock,
    db::{Database, WriteTx},
    error::ApiError,
    sync::lock,
};

pub use draft::{Attachment, RecordDraft};
pub use emission::{Emission, EmittedRecord};
pub use kept::{KeptOutbox, KeptPlace, KeptRecord};
pub use producer::ProducerKey;
use receipts::Waiters;

/// Why a record cannot be made. All but the last two are defects of the service.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The catalogue does not give this type to this service's stream.
    #[error("record type {0} does not belong to stream {1}")]
    Type(String, String),
    /// Two commitments of one record have the same label.
    #[error("record type {0} commits twice to {1:?}")]
    Label(String, String),
    /// An emission of the same transaction is still open.
    #[error("an emission is already open in this transaction")]
    Open,
    /// The emission belongs to another tenant's transaction.
    #[error("the emission was opened in another tenant's transaction")]
    Tenant,
    /// The stream's row was changed by someone who did not hold the tenant's lock.
    #[error("stream {0} was changed behind the transaction's back")]
    StreamMoved(String),
    /// The record does not fit into a log entry: what is long belongs into an attachment.
    #[error("record of type {0} has {1} bytes, at most 64,000 are allowed")]
    TooLarge(String, usize),
    /// The tenant's log is not known here: ask [`crate::tenants::TenantDirectory::require`] before the transaction.
    #[error("the log of tenant {0} is not known")]
    UnknownLog(String),
    /// The database refuses.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// No random bytes for salts and ids.
    #[error(transparent)]
    Secret(#[from] crate::secrets::SecretError),
    /// A signing task died.
    #[error("signing: {0}")]
    Signing(#[from] tokio::task::JoinError),
}

impl From<OutboxError> for ApiError {
    fn from(error: OutboxError) -> Self {
        match error {
            OutboxError::Sql(error) => error.into(),
            OutboxError::TooLarge(..) => {
                Self::failed_precondition("RECORD_TOO_LARGE", error.to_string())
            }
            other => Self::internal(other),
        }
    }
}

/// Writes records and knows their receipts. Cheap to clone; one a service.
#[derive(Clone)]
pub struct Outbox {
    inner: Arc<Inner>,
}

struct Inner {
    db: Database,
    clock: Clock,
    stream: String,
    key: ProducerKey,
    signer: Arc<RecordSigner>,
    schema_hash: Vec<u8>,
    origins: std::sync::Mutex<HashMap<String, String>>,
    waiters: Waiters,
    signal: mpsc::UnboundedSender<String>,
    /// Taken by the one relay.
    committed: std::sync::Mutex<Option<mpsc::UnboundedReceiver<String>>>,
}

impl Outbox {
    /// The outbox of a service; `stream` is its name.
    #[must_use]
    pub fn new(db: Database, clock: Clock, stream: &str, key: ProducerKey) -> Self {
        let (signal, committed) = mpsc::unbounded_channel();
        let inner = Inner {
            db,
            clock,
            stream: stream.to_owned(),
            signer: Arc::new(key.record_signer()),
            key,
            schema_hash: counterfoil_evidence::schema_hash().to_vec(),
            origins: std::sync::Mutex::default(),
            waiters: Waiters::default(),
            signal,
            committed: std::sync::Mutex::new(Some(committed)),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Starts writing records of the transaction's tenant. Finish it before the commit.
    ///
    /// # Errors
    /// When another one is open in the transaction, or the tenant's log is not known.
    pub async fn begin(&self, tx: &mut WriteTx) -> Result<Emission, OutboxError> {
        Emission::open(&self.inner, tx).await
    }

    /// Writes one record.
    ///
    /// # Errors
    /// See [`OutboxError`]; the transaction must then be given up.
    pub async fn emit(
        &self,
        tx: &mut WriteTx,
        draft: RecordDraft,
    ) -> Result<EmittedRecord, OutboxError> {
        let mut emission = self.begin(tx).await?;
        let emitted = emission.add(draft)?;
        emission.finish(tx).await?;
        Ok(emitted)
    }

    /// Writes many records in their order, with one statement a thousand.
    ///
    /// # Errors
    /// See [`OutboxError`]; the transaction must then be given up.
    pub async fn emit_many(
        &self,
        tx: &mut WriteTx,
        drafts: impl IntoIterator<Item = RecordDraft>,
    ) -> Result<Vec<EmittedRecord>, OutboxError> {
        let mut emission = self.begin(tx).await?;
        let emitted = drafts
            .into_iter()
            .map(|draft| emission.add(draft))
            .collect::<Result<_, _>>()?;
        emission.finish(tx).await?;
        Ok(emitted)
    }

    /// The latest moment that any record of the tenant was made at; 0: there is none. Whatever the clock says now, that was.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn latest_ms(&self, tx: &mut WriteTx) -> Result<i64, OutboxError> {
        let tenant = tx.tenant().to_owned();
        // Ids are UUIDv7: they begin with the moment in 48 bits, and the newest is found in their index.
        let row = sqlx::query(
            "SELECT record_id FROM outbox_records WHERE tenant = $1 ORDER BY record_id DESC LIMIT 1",
        )
        .bind(tenant)
        .fetch_optional(tx.conn())
        .await?;
        let id: Vec<u8> = row.map_or(Ok(Vec::new()), |row| row.try_get(0))?;
        let moment = id.iter().take(6);
        Ok(moment.fold(0, |ms, byte| ms << 8 | i64::from(*byte)))
    }

    /// Key that signs the records.
    #[must_use]
    pub fn key(&self) -> &ProducerKey {
        &self.inner.key
    }

    /// Stream of the service.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.inner.stream
    }

    /// The database that the outbox is in.
    #[must_use]
    pub fn db(&self) -> &Database {
        &self.inner.db
    }

    pub(crate) fn waiters(&self) -> &Waiters {
        &self.inner.waiters
    }

    /// Tenants whose records were committed, for the one relay of the process. `None`: it has been taken.
    pub(crate) fn take_committed(&self) -> Option<mpsc::UnboundedReceiver<String>> {
        lock(&self.inner.committed).take()
    }
}

impl Inner {
    async fn origin(&self, tx: &mut WriteTx) -> Result<String, OutboxError> {
        if let Some(origin) = lock(&self.origins).get(tx.tenant()) {
            return Ok(origin.clone());
        }
        let tenant = tx.tenant().to_owned();
        let row = sqlx::query("SELECT origin FROM tenant_logs WHERE tenant = $1")
            .bind(&tenant)
            .fetch_optional(tx.conn())
            .await?
            .ok_or_else(|| OutboxError::UnknownLog(tenant.clone()))?;
        let origin: String = row.try_get(0)?;
        // Not remembered before the commit: this transaction may be the one that wrote it, and be given up.
        Ok(origin)
    }

    fn remember_origin(&self, tenant: &str, origin: &str) {
        lock(&self.origins).insert(tenant.to_owned(), origin.to_owned());
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Outbox({}, {})",
            self.inner.stream,
            self.inner.key.key_id()
        )
    }
}
