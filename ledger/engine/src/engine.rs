//! Opening the engine, creating logs, finding them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use counterfoil_tlog::merkle::Frontier;
use counterfoil_tlog::{Checkpoint, VerifierKey};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::anchor::Anchor;
use crate::clock::Clock;
use crate::faults::{self, FaultPoint, Faults, NoFaults};
use crate::key_book::KeyBook;
use crate::keys::LogKeys;
use crate::meters::{EngineCounts, Meters};
use crate::model::{Head, LogInfo};
use crate::sequencer::{Sequencer, Submission};
use crate::store::{NewLog, Store};
use crate::tiles::TileCache;
use crate::{EngineError, Log, LogId, Publication};

/// How the engine runs.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Schema of the tables on PostgreSQL, made when missing; `None`: the connection's own. SQLite has none.
    pub schema: Option<String>,
    /// Address of the database for the role that owns the tables, when the engine itself connects as one that owns nothing.
    pub owner_url: Option<String>,
    /// Most records of one commit; also of one submission.
    pub batch_records_max: usize,
    /// Most record bytes of one commit; also of one submission.
    pub batch_bytes_max: usize,
    /// How long the sequencer waits for more callers when several came at once before.
    pub linger: Duration,
    /// Most bytes of records that may wait; more is refused.
    pub queue_bytes_max: usize,
    /// Most bytes of memory for what it takes to append to logs: some 8 KiB for a log with few entries, up to 100 KiB for one whose last
    /// bundle is almost full. A log that was not written for longer than the others is read again when it is.
    pub states_bytes_max: usize,
    /// What every log is compared with before it is written for the first time.
    pub anchors: Vec<Arc<dyn Anchor>>,
    /// The published copy: entries whose bytes have left the database ([`Log::evict`]) are read from there. `None`: such entries cannot
    /// be read.
    pub copy: Option<Publication>,
    /// Where the engine is allowed to fail; nowhere but in tests.
    pub faults: Arc<dyn Faults>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            schema: None,
            owner_url: None,
            batch_records_max: 4096,
            batch_bytes_max: 4 << 20,
            linger: Duration::from_millis(1),
            queue_bytes_max: 64 << 20,
            states_bytes_max: 192 << 20,
            anchors: Vec::new(),
            copy: None,
            faults: Arc::new(NoFaults),
        }
    }
}

/// What the sequencer and all readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) keys: Arc<dyn LogKeys>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) faults: Arc<dyn Faults>,
    pub(crate) options: EngineOptions,
    pub(crate) tiles: TileCache,
    pub(crate) meters: Meters,
    /// Key books for early verification. Written by the sequencer; a stale one costs time, never correctness.
    key_books: RwLock<HashMap<LogId, Arc<KeyBook>>>,
    /// Sizes for those who follow a log. Written by the sequencer.
    sizes: Mutex<HashMap<LogId, watch::Sender<u64>>>,
}

impl Shared {
    /// Tells readers and early verification of a committed state.
    pub(crate) fn publish(&self, log: LogId, size: u64, keys: &Arc<KeyBook>) {
        let known = self.key_book(log);
        if !known.is_some_and(|known| Arc::ptr_eq(&known, keys)) {
            let mut books = self
                .key_books
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            books.insert(log, Arc::clone(keys));
        }
        let sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = sizes.get(&log) {
            sender.send_replace(size);
        }
    }

    pub(crate) fn key_book(&self, log: LogId) -> Option<Arc<KeyBook>> {
        let books = self
            .key_books
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        books.get(&log).map(Arc::clone)
    }

    pub(crate) fn follow(&self, log: LogId) -> watch::Receiver<u64> {
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        sizes
            .entry(log)
            .or_insert_with(|| watch::Sender::new(0))
            .subscribe()
    }
}

/// All logs of a deployment. Clones are the same engine.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    /// `None` once the engine is closing.
    sender: Mutex<Option<mpsc::UnboundedSender<Submission>>>,
    /// One permit a byte that may wait.
    pub(crate) room: Arc<Semaphore>,
    logs: RwLock<HashMap<String, Arc<LogInfo>>>,
    sequencer: Mutex<Option<JoinHandle<()>>>,
}

impl Inner {
    /// Hands a submission to the sequencer.
    pub(crate) fn submit(&self, submission: Submission) -> Result<(), EngineError> {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = sender.as_ref().ok_or(EngineError::Closed)?;
        sender.send(submission).map_err(|_| EngineError::Closed)
    }
}

impl Engine {
    /// Opens the database at `url` (`sqlite:` or `postgres:`), migrates it and starts the sequencer.
    ///
    /// Logs are loaded and checked when they are first written to, so opening does not depend on their number.
    ///
    /// # Errors
    /// When the database cannot be opened or migrated.
    pub async fn open(
        url: &str,
        keys: Arc<dyn LogKeys>,
        clock: Arc<dyn Clock>,
        options: EngineOptions,
    ) -> Result<Self, EngineError> {
        let owner_url = options.owner_url.as_deref();
        let (schema, copy) = (options.schema.as_deref(), options.copy.clone());
        let store = Store::open(url, owner_url, schema, copy).await?;
        let shared = Arc::new(Shared {
            store,
            keys,
            clock,
            faults: Arc::clone(&options.faults),
            tiles: TileCache::default(),
            meters: Meters::default(),
            key_books: RwLock::default(),
            sizes: Mutex::default(),
            options,
        });
        let (sender, receiver) = mpsc::unbounded_channel();
        let sequencer = Sequencer::new(Arc::clone(&shared), receiver);
        let inner = Inner {
            room: Arc::new(Semaphore::new(shared.options.queue_bytes_max)),
            shared,
            sender: Mutex::new(Some(sender)),
            logs: RwLock::default(),
            sequencer: Mutex::new(Some(tokio::spawn(sequencer.run()))),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Creates the log of a tenant with its signing key. Idempotent; `registrar` is the producer whose key registers all
    /// others in the log.
    ///
    /// # Errors
    /// [`EngineError::LogDiffers`] when the tenant has a log with another origin or registrar.
    pub async fn create_log(
        &self,
        tenant: &str,
        origin: &str,
        registrar: &VerifierKey,
    ) -> Result<Log, EngineError> {
        if self.find(tenant).await?.is_none() {
            self.insert_log(tenant, origin, registrar).await?;
        }
        let differs = |what| EngineError::LogDiffers {
            tenant: tenant.to_owned(),
            what,
        };
        let info = self
            .find(tenant)
            .await?
            .ok_or_else(|| differs("tenant: its origin is taken"))?;
        if info.origin != origin {
            return Err(differs("origin"));
        }
        if info.registrar != *registrar {
            return Err(differs("registrar"));
        }
        Ok(Log::new(Arc::clone(&self.inner), info))
    }

    /// The log of a tenant that may be lost with its database, but whose key is there; as a start for [`Log::recover`].
    ///
    /// # Errors
    /// [`EngineError::Key`] when its key is not there; otherwise as [`Engine::create_log`].
    pub async fn lost_log(
        &self,
        tenant: &str,
        origin: &str,
        registrar: &VerifierKey,
    ) -> Result<Log, EngineError> {
        if !self.has_key(origin)? {
            return Err(EngineError::Key {
                origin: origin.to_owned(),
                reason: "it is not here".to_owned(),
            });
        }
        self.create_log(tenant, origin, registrar).await
    }

    /// Whether there is a signing key of this origin: its log was created, or was about to be.
    ///
    /// # Errors
    /// [`EngineError::Key`] when it is there and cannot be used.
    pub fn has_key(&self, origin: &str) -> Result<bool, EngineError> {
        let found = self.inner.shared.keys.find(origin);
        let found = found.map_err(|error| EngineError::Key {
            origin: origin.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(found.is_some())
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    async fn insert_log(
        &self,
        tenant: &str,
        origin: &str,
        registrar: &VerifierKey,
    ) -> Result<(), EngineError> {
        let shared = &self.inner.shared;
        let key_error = |reason: String| EngineError::Key {
            origin: origin.to_owned(),
            reason,
        };
        let faults = shared.faults.as_ref();
        // The key is durable before the log that names it.
        let signer = faults::step(faults, FaultPoint::CreateKey, async {
            let signer = shared.keys.find_or_create(origin);
            signer.map_err(|error| key_error(error.to_string()))
        })
        .await?;
        let frontier = Frontier::new();
        let checkpoint = Checkpoint {
            origin: origin.to_owned(),
            size: 0,
            root: frontier.root(),
        };
        let head = Head {
            size: 0,
            root: frontier.root(),
            checkpoint: checkpoint
                .sign(&signer)
                .map_err(|error| key_error(error.to_string()))?,
            recorded_at_ms: 0,
        };
        let log = NewLog {
            tenant,
            origin,
            vkey: &signer.vkey(),
            registrar_vkey: &registrar.to_string(),
            created_at_ms: shared.clock.now_ms(),
            head: &head,
            frontier: frontier.to_bytes(),
        };
        shared.store.insert_log(&log, faults).await
    }

    /// The log of a tenant.
    ///
    /// # Errors
    /// [`EngineError::NoSuchLog`] when it has none.
    pub async fn log(&self, tenant: &str) -> Result<Log, EngineError> {
        let info = self
            .find(tenant)
            .await?
            .ok_or_else(|| EngineError::NoSuchLog(tenant.to_owned()))?;
        Ok(Log::new(Arc::clone(&self.inner), info))
    }

    /// The tenants that have a log, in order of creation.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn tenants(&self) -> Result<Vec<String>, EngineError> {
        self.inner.shared.store.tenants().await
    }

    /// How many entries each tenant's log has, in order of creation; without the logs that were stopped, and without those of which it cannot
    /// be read, which are among [`Self::troubles`] until it can.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn sizes(&self) -> Result<Vec<(String, u64)>, EngineError> {
        let shared = &self.inner.shared;
        let (sizes, unreadable) = shared.store.sizes().await?;
        shared.meters.unreadable("size", unreadable);
        Ok(sizes)
    }

    /// The logs that were stopped, with the reason, in order of creation.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn stopped(&self) -> Result<Vec<(String, String)>, EngineError> {
        self.inner.shared.store.stopped_logs().await
    }

    /// How many entries of all logs have left the database ([`Log::evict`]).
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn evicted(&self) -> Result<u64, EngineError> {
        self.inner.shared.store.evicted_in_all().await
    }

    /// What this process knows to keep from appending, in plain words: the database, or single logs. Empty: nothing.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        self.inner.shared.meters.troubles()
    }

    /// What this process has done since the engine was opened.
    #[must_use]
    pub fn counts(&self) -> EngineCounts {
        let room = self.inner.room.available_permits();
        let waiting = self
            .inner
            .shared
            .options
            .queue_bytes_max
            .saturating_sub(room);
        let waiting = u64::try_from(waiting).unwrap_or(u64::MAX);
        self.inner.shared.meters.counts(waiting)
    }

    /// What the database finds wrong with itself; of what it holds [`Log::fsck`] tells. At most 100 lines.
    ///
    /// On SQLite all pages and indexes are read. PostgreSQL is not asked: it checks pages when it reads them, where the cluster was made
    /// with checksums.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn check_database(&self) -> Result<Vec<String>, EngineError> {
        self.inner.shared.store.integrity().await
    }

    /// Takes nothing more, answers what waits, and closes the database.
    pub async fn close(&self) {
        self.finish().await;
        self.inner.shared.store.close().await;
    }

    /// Takes nothing more, and answers what waits. What there is can still be read and published.
    pub async fn finish(&self) {
        let sender = lock(&self.inner.sender).take();
        drop(sender);
        let sequencer = lock(&self.inner.sequencer).take();
        if let Some(sequencer) = sequencer {
            // It panics only where a bug lets it, and closing goes on then.
            let _ = sequencer.await;
        }
    }

    async fn find(&self, tenant: &str) -> Result<Option<Arc<LogInfo>>, EngineError> {
        let known = {
            let logs = self
                .inner
                .logs
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            logs.get(tenant).map(Arc::clone)
        };
        if known.is_some() {
            return Ok(known);
        }
        let Some(info) = self.inner.shared.store.find_log(tenant).await? else {
            return Ok(None);
        };
        let info = Arc::new(info);
        let mut logs = self
            .inner
            .logs
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        logs.insert(tenant.to_owned(), Arc::clone(&info));
        Ok(Some(info))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
