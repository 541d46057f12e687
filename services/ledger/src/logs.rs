//! The logs of all tenants with what the service itself states in them.
//!
//! Invariant: every tenant's log names every producer. Creating a log reads the producers after the log is there, registering a producer reads
//! the logs after the producer is there, so whichever comes second sees the other.

mod open;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex as Guarded, MutexGuard, PoisonError};

use counterfoil_chassis::{Clock, Database, db::scope};
use counterfoil_engine::{
    Engine, EngineCounts, EngineError, Log, Receipt, Refusal, StoredEntry, StreamHead,
};
use counterfoil_evidence::catalogue::{self, Payload};
use counterfoil_evidence::record::{decode_entry, decode_record, record_hash};
use counterfoil_evidence::v1::{EntryTypeCount, EpochSealed, Record, StreamMark};
use counterfoil_tlog::VerifierKey;
use futures::{StreamExt, TryStreamExt};
use prost::Name;
use tokio::sync::Mutex;

use self::open::{Open, Opens};
use crate::SERVICE;
use crate::begun::Begun;
use crate::error::LedgerError;
use crate::journal::Journal;
use crate::model::anchoring::{ANCHOR, origin_of};
use crate::model::epoch;
use crate::model::producer::Producer;
use crate::statement::{Statement, Writer};
use crate::store;

/// How often a statement is tried against other replicas.
const ATTEMPTS: usize = 16;
/// Logs that are told something at once.
const LOGS_AT_ONCE: usize = 32;
/// Locks that keep this process from racing itself; tenants share them.
const LOCKS: usize = 64;
/// Entries read at once.
const PAGE: u32 = 1000;
/// Obligations whose openness is remembered, of all logs together: some 25 MB. A log itself counts as [`open::LOG`] of them.
const OPEN_MAX: usize = 256 << 10;

/// The logs. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    db: Database,
    clock: Clock,
    deployment: String,
    registrar: VerifierKey,
    own: Producer,
    writer: Writer,
    journal: Journal,
    begun: Begun,
    locks: Vec<Mutex<()>>,
    /// What was open in logs when their last epochs were sealed here: the next ones go on from there.
    open: Guarded<Opens>,
}

/// What [`Logs`] is made of.
pub(crate) struct Parts {
    pub(crate) engine: Engine,
    pub(crate) db: Database,
    pub(crate) clock: Clock,
    pub(crate) deployment: String,
    pub(crate) registrar: VerifierKey,
    pub(crate) writer: Writer,
    pub(crate) journal: Journal,
    pub(crate) begun: Begun,
}

impl Logs {
    pub(crate) fn new(parts: Parts) -> Self {
        let own = Producer {
            key_id: parts.writer.key_id.clone(),
            principal: format!("services/{SERVICE}"),
            stream: SERVICE.to_owned(),
            vkey: parts.registrar.to_string(),
        };
        let inner = Inner {
            engine: parts.engine,
            db: parts.db,
            clock: parts.clock,
            deployment: parts.deployment,
            registrar: parts.registrar,
            own,
            writer: parts.writer,
            journal: parts.journal,
            begun: parts.begun,
            locks: (0..LOCKS).map(|_| Mutex::default()).collect(),
            open: Guarded::new(Opens::new(OPEN_MAX)),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Verifier key of the service as a producer.
    pub(crate) fn registrar(&self) -> &VerifierKey {
        &self.inner.registrar
    }

    /// All logs.
    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// Whether the anchor log's key has stated an epoch.
    pub(crate) fn begun(&self) -> &Begun {
        &self.inner.begun
    }

    /// The service's own tables.
    pub(crate) fn db(&self) -> &Database {
        &self.inner.db
    }

    /// Takes nothing more, answers what waits, and closes the logs.
    pub(crate) async fn close(&self) {
        self.inner.engine.close().await;
    }

    /// Takes nothing more, and answers what waits; what there is can still be read.
    pub(crate) async fn finish(&self) {
        self.inner.engine.finish().await;
    }

    /// The tenants that have a log.
    pub(crate) async fn tenants(&self) -> Result<Vec<String>, EngineError> {
        self.inner.engine.tenants().await
    }

    /// The logs that were stopped, with the reason.
    pub(crate) async fn stopped(&self) -> Result<Vec<(String, String)>, EngineError> {
        self.inner.engine.stopped().await
    }

    /// What this process knows to keep from appending.
    pub(crate) fn troubles(&self) -> Vec<String> {
        self.inner.engine.troubles()
    }

    /// What this process has done.
    pub(crate) fn counts(&self) -> EngineCounts {
        self.inner.engine.counts()
    }

    /// How many entries of all logs are in the published copies only.
    pub(crate) async fn evicted(&self) -> Result<u64, EngineError> {
        self.inner.engine.evicted().await
    }

    /// How many entries each log has that is written.
    pub(crate) async fn sizes(&self) -> Result<Vec<(String, u64)>, EngineError> {
        self.inner.engine.sizes().await
    }

    /// The log of a tenant.
    pub(crate) async fn get(&self, tenant: &str) -> Result<Log, EngineError> {
        // The engine remembers logs; whose they are, the database is not asked again.
        if !scope::admits(tenant) {
            return Err(EngineError::NoSuchLog(tenant.to_owned()));
        }
        self.inner.engine.log(tenant).await
    }

    /// Creates the log of a tenant, and states in it what every log states.
    pub(crate) async fn create(&self, tenant: &str) -> Result<Log, LedgerError> {
        let inner = &self.inner;
        let origin = origin_of(&inner.deployment, tenant);
        let log = inner
            .engine
            .create_log(tenant, &origin, &inner.registrar)
            .await?;
        self.tell(&log).await?;
        Ok(log)
    }

    /// Registers a producer with all logs.
    pub(crate) async fn register(&self, producer: &Producer) -> Result<(), LedgerError> {
        let inner = &self.inner;
        let now_ms = inner.clock.now_ms();
        let kept = store::insert_producer(&inner.db, producer, now_ms).await?;
        if kept != *producer {
            return Err(LedgerError::KeyTaken);
        }
        // If we crash here: the producer is kept, and the next start of either service tells the logs.
        let told = store::tenants_told(&inner.db, &Statement::key_name(producer)).await?;
        let tenants = inner.engine.tenants().await?;
        let untold = tenants
            .into_iter()
            .filter(|tenant| !told.contains(tenant) && tenant != ANCHOR);
        self.tell_all(untold).await
    }

    /// States in every log what it does not state yet: a newer schema, a producer whose registration was cut off.
    pub(crate) async fn catch_up(&self) -> Result<(), LedgerError> {
        let inner = &self.inner;
        let tenants = inner.engine.tenants().await?;
        let of_all = self.of_all_logs(inner.clock.now_ms());
        let of_producers = store::producers(&inner.db).await?;
        let of_producers = of_producers.iter().map(Statement::key_name);
        let names = of_all.into_iter().map(|statement| (statement.name, true));
        // Asked by statement and not by log: there are ten thousands of logs, and mostly none has to be told anything.
        let mut untold = BTreeSet::new();
        for (name, of_anchor_log) in names.chain(of_producers.map(|name| (name, false))) {
            let told = store::tenants_told(&inner.db, &name).await?;
            let missing = tenants.iter().filter(|tenant| !told.contains(*tenant));
            let missing = missing.filter(|tenant| of_anchor_log || *tenant != ANCHOR);
            untold.extend(missing.cloned());
        }
        self.tell_all(untold).await
    }

    /// What every log states, the anchor log too.
    fn of_all_logs(&self, now_ms: i64) -> Vec<Statement> {
        let size_bytes = counterfoil_evidence::DESCRIPTOR_SET.len() as u64;
        vec![
            Statement::key(&self.inner.own, now_ms),
            Statement::schema(&self.inner.writer.schema_hash, size_bytes),
        ]
    }

    async fn tell_all(&self, tenants: impl IntoIterator<Item = String>) -> Result<(), LedgerError> {
        let telling = tenants.into_iter().map(|tenant| async move {
            let log = self.get(&tenant).await?;
            self.tell(&log).await
        });
        futures::stream::iter(telling)
            .buffer_unordered(LOGS_AT_ONCE)
            .try_collect()
            .await
    }

    /// States in one log what it does not state yet.
    async fn tell(&self, log: &Log) -> Result<(), LedgerError> {
        let inner = &self.inner;
        let now_ms = inner.clock.now_ms();
        let mut statements = self.of_all_logs(now_ms);
        let tenant = &log.info().tenant;
        // Into the anchor log nobody else writes.
        if tenant != ANCHOR {
            let producers = store::producers(&inner.db).await?;
            statements.extend(
                producers
                    .iter()
                    .map(|producer| Statement::key(producer, now_ms)),
            );
        }
        let told = store::statements(&inner.db, tenant).await?;
        statements.retain(|statement| !told.contains(&statement.name));
        if statements.is_empty() {
            return Ok(());
        }
        self.state_once(log, statements).await
    }

    /// States what a log may state already, and notes that it does.
    pub(crate) async fn state_once(
        &self,
        log: &Log,
        statements: Vec<Statement>,
    ) -> Result<(), LedgerError> {
        let names: Vec<String> = statements.iter().map(|one| one.name.clone()).collect();
        self.state_now(log, statements).await?;
        store::insert_statements(&self.inner.db, &log.info().tenant, &names).await?;
        Ok(())
    }

    /// States what a log may state already.
    pub(crate) async fn state_now(
        &self,
        log: &Log,
        statements: Vec<Statement>,
    ) -> Result<(), LedgerError> {
        let _held = self.lock(&log.info().tenant).await;
        self.state(log, statements).await.map(drop)
    }

    /// What a log is known to state, by name.
    pub(crate) async fn stated(&self, tenant: &str) -> Result<BTreeSet<String>, LedgerError> {
        Ok(store::statements(&self.inner.db, tenant).await?)
    }

    async fn lock(&self, tenant: &str) -> tokio::sync::MutexGuard<'_, ()> {
        let sum: usize = tenant.bytes().map(usize::from).sum();
        self.inner.locks[sum % LOCKS].lock().await
    }

    /// Appends what the log does not have yet; the receipts of what was appended now, in order.
    async fn state(
        &self,
        log: &Log,
        mut statements: Vec<Statement>,
    ) -> Result<Vec<Receipt>, LedgerError> {
        let (inner, origin) = (&self.inner, &log.info().origin);
        for _ in 0..ATTEMPTS {
            let mut missing = Vec::new();
            for statement in statements {
                if log
                    .entry_by_record(&statement.record_id(origin))
                    .await?
                    .is_none()
                {
                    missing.push(statement);
                }
            }
            if missing.is_empty() {
                return Ok(Vec::new());
            }
            let mut last = log.stream_head(SERVICE).await?;
            let now_ms = inner.clock.now_ms();
            let mut records = Vec::with_capacity(missing.len());
            for statement in &missing {
                let record = inner.writer.write(origin, &last, statement, now_ms);
                last = StreamHead {
                    last_seq: last.last_seq + 1,
                    last_record_hash: record_hash(&record.record),
                };
                records.push(record);
            }
            inner.journal.keep(origin, &records);
            let outcomes = log.append(records.clone()).await?;
            match outcomes.into_iter().collect::<Result<Vec<_>, _>>() {
                Ok(receipts) => {
                    inner.journal.place(origin, &records, &receipts);
                    return Ok(receipts);
                }
                // Another replica was faster, with the same statements or with others.
                Err(
                    Refusal::SequenceGap { .. }
                    | Refusal::PrevHashMismatch { .. }
                    | Refusal::RecordIdTaken { .. },
                ) => statements = missing,
                Err(refusal) => {
                    return Err(LedgerError::Unreadable {
                        index: log.head().await?.size,
                        reason: format!("the log refuses the registrar: {refusal}"),
                    });
                }
            }
        }
        Err(LedgerError::Contended)
    }

    /// Takes note that the copy of a log has so many entries.
    pub(crate) async fn published(&self, log: &Log, size: u64) {
        let _held = self.lock(&log.info().tenant).await;
        self.inner.journal.shorten(&log.info().origin, size);
    }

    /// Seals the next epoch up to the present size.
    pub(crate) async fn seal_epoch(&self, log: &Log) -> Result<(u64, Receipt), LedgerError> {
        // Most of the log is read before the lock, which publishing wants too, and only what came since behind it.
        let size = log.head().await?.size;
        // A log only grows; what was read of another one is not of this.
        let known = self.open().take(&log.info().tenant);
        let mut open = known.filter(|known| known.size <= size).unwrap_or_default();
        open.read_on(log, size).await?;
        let _held = self.lock(&log.info().tenant).await;
        for _ in 0..ATTEMPTS {
            let sealed = self.next_epoch(log, &mut open).await?;
            let mut receipts = self.state(log, vec![Statement::epoch(&sealed)]).await?;
            // Empty when another replica has sealed this epoch meanwhile: then the next one is ours.
            if let Some(receipt) = receipts.pop() {
                self.open().keep(&log.info().tenant, open);
                return Ok((sealed.epoch, receipt));
            }
        }
        Err(LedgerError::Contended)
    }

    fn open(&self) -> MutexGuard<'_, Opens> {
        self.inner
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn next_epoch(&self, log: &Log, open: &mut Open) -> Result<EpochSealed, LedgerError> {
        let to_index = log.head().await?.size;
        let last = log
            .last_of_type(&EpochSealed::full_name(), to_index)
            .await?;
        let last = match last {
            None => None,
            Some(entry) => match read(&entry)?.1 {
                Payload::EpochSealed(sealed) => Some(sealed),
                _ => return Err(unreadable(entry.index, "it is not of its type")),
            },
        };
        let counts = log
            .type_counts(epoch::from_index(last.as_ref()), to_index)
            .await?;
        let type_counts = counts
            .into_iter()
            .map(|count| EntryTypeCount {
                r#type: count.record_type,
                count: count.count,
            })
            .collect();
        let mut streams = Vec::new();
        for (stream, entry) in log.last_of_streams(to_index).await? {
            let (record, _) = read(&entry)?;
            streams.push(StreamMark {
                stream,
                last_seq: record.stream_seq,
                last_record_hash: entry.record_hash.to_vec(),
            });
        }
        open.read_on(log, to_index).await?;
        let open = open
            .obligations
            .seal()
            .map_err(|error| unreadable(to_index, error))?;
        Ok(epoch::next_epoch(
            last.as_ref(),
            to_index,
            type_counts,
            streams,
            &open,
        ))
    }
}

/// Decodes the record of an entry and its payload.
pub(crate) fn read(entry: &StoredEntry) -> Result<(Record, Payload), LedgerError> {
    let decoded = decode_entry(&entry.bytes).map_err(|error| unreadable(entry.index, error))?;
    let record = decode_record(&decoded.record).map_err(|error| unreadable(entry.index, error))?;
    let payload = catalogue::decode_payload(&record.r#type, &record.payload)
        .ok_or_else(|| unreadable(entry.index, "its type is unknown"))?
        .map_err(|error| unreadable(entry.index, error))?;
    Ok((record, payload))
}

pub(crate) fn unreadable(index: u64, reason: impl std::fmt::Display) -> LedgerError {
    LedgerError::Unreadable {
        index,
        reason: reason.to_string(),
    }
}
