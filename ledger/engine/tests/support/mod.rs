//! What the engine's tests share: databases of both engines, producers, a clock, and verifiers by other authors.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test binary uses a part of it, and tests fail by panicking"
)]

pub(crate) mod foreign;
pub(crate) mod postgres;
pub(crate) mod witness;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use counterfoil_engine::{
    Clock, DirectoryKeys, Engine, EngineOptions, Log, Outcome, Receipt, SignedRecord, key_id_of,
};
use counterfoil_evidence::record::{record_hash, signed_message};
use counterfoil_evidence::v1::{
    ActorKeyRegistered, ActorKeyRevoked, OwnershipSet, Record, TenantLifecycleChanged,
};
use counterfoil_tlog::NoteSigner;
use counterfoil_tlog::signature::RecordSigner;
use prost::{Message, Name};

pub(crate) const TENANT: &str = "acme";
pub(crate) const ORIGIN: &str = "ledger.example/t/acme";

/// A clock that stands until it is moved.
#[derive(Debug)]
pub(crate) struct TestClock(pub(crate) AtomicI64);

impl Default for TestClock {
    fn default() -> Self {
        Self(AtomicI64::new(1_800_000_000_000))
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A database of one engine, and a place for keys.
pub(crate) struct Database {
    pub(crate) name: &'static str,
    pub(crate) url: String,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) clock: Arc<TestClock>,
    cluster: Option<Arc<postgres::Cluster>>,
}

/// A fresh database on each engine.
pub(crate) fn databases() -> [Database; 2] {
    [sqlite(), postgres()]
}

pub(crate) fn sqlite() -> Database {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    Database {
        name: "sqlite",
        url: format!("sqlite://{}?mode=rwc", path.display()),
        directory,
        clock: Arc::default(),
        cluster: None,
    }
}

pub(crate) fn postgres() -> Database {
    let cluster = postgres::Cluster::shared();
    Database {
        name: "postgres",
        url: cluster.create_database(),
        directory: tempfile::tempdir().unwrap(),
        clock: Arc::default(),
        cluster: Some(cluster),
    }
}

impl Database {
    pub(crate) async fn open(&self) -> Engine {
        self.open_with(EngineOptions::default()).await
    }

    pub(crate) async fn open_with(&self, options: EngineOptions) -> Engine {
        let keys = Arc::new(DirectoryKeys::open(self.keys()).unwrap());
        let clock: Arc<TestClock> = Arc::clone(&self.clock);
        Engine::open(&self.url, keys, clock, options).await.unwrap()
    }

    /// The database as it is, as a backup that can be opened; all that used it must be closed. Keys and clock are the same.
    pub(crate) fn back_up(&self) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (url, cluster) = match &self.cluster {
            None => {
                let copy = directory.path().join("ledger.db");
                std::fs::copy(self.directory.path().join("ledger.db"), &copy).unwrap();
                (format!("sqlite://{}?mode=rwc", copy.display()), None)
            }
            Some(cluster) => {
                let name = self
                    .url
                    .rsplit('/')
                    .find_map(|part| part.split_once("?host="));
                let name = name.map(|(name, _)| name).unwrap();
                (cluster.copy_database(name), Some(Arc::clone(cluster)))
            }
        };
        self.beside(directory, url, cluster)
    }

    /// An empty database with the same keys and clock.
    pub(crate) fn emptied(&self) -> Self {
        let fresh = match &self.cluster {
            None => sqlite(),
            Some(_) => postgres(),
        };
        self.beside(fresh.directory, fresh.url, fresh.cluster)
    }

    fn beside(
        &self,
        directory: tempfile::TempDir,
        url: String,
        cluster: Option<Arc<postgres::Cluster>>,
    ) -> Self {
        let copy = Self {
            name: self.name,
            url,
            directory,
            clock: Arc::clone(&self.clock),
            cluster,
        };
        std::fs::create_dir_all(copy.keys()).unwrap();
        for key in std::fs::read_dir(self.keys()).unwrap() {
            let key = key.unwrap();
            std::fs::copy(key.path(), copy.keys().join(key.file_name())).unwrap();
        }
        copy
    }

    pub(crate) fn keys(&self) -> std::path::PathBuf {
        Path::new(self.directory.path()).join("keys")
    }

    /// Runs SQL past the engine, as whoever controls the database could.
    pub(crate) async fn tamper(&self, sql: impl Into<String>) {
        use sqlx::Connection as _;
        sqlx::any::install_default_drivers();
        let mut connection = sqlx::AnyConnection::connect(&self.url).await.unwrap();
        let sql = sqlx::AssertSqlSafe(sql.into());
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Takes away what keeps whoever has the database from changing entries.
    pub(crate) async fn drop_guards(&self) {
        self.tamper(match self.name {
            "sqlite" => {
                "DROP TRIGGER log_entries_keep_update; DROP TRIGGER log_entries_keep_delete"
            }
            _ => "DROP TRIGGER log_entries_keep ON log_entries",
        })
        .await;
    }
}

static NEXT_RECORD: AtomicU64 = AtomicU64::new(1);

/// A service that writes a stream.
#[derive(Clone)]
pub(crate) struct Producer {
    pub(crate) key_id: String,
    pub(crate) vkey: counterfoil_tlog::VerifierKey,
    pub(crate) signer: Arc<RecordSigner>,
    pub(crate) stream: &'static str,
    pub(crate) origin: String,
    pub(crate) seq: u64,
    pub(crate) prev: [u8; 32],
}

impl Producer {
    pub(crate) fn new(stream: &'static str, seed: u8) -> Self {
        let note = NoteSigner::from_seed(&format!("{stream}.example"), &[seed; 32]).unwrap();
        Self {
            key_id: key_id_of(note.verifier_key()),
            vkey: note.verifier_key().clone(),
            signer: Arc::new(RecordSigner::from_seed(&[seed; 32])),
            stream,
            origin: ORIGIN.to_owned(),
            seq: 0,
            prev: [0; 32],
        }
    }

    /// The next record of the stream.
    pub(crate) fn next<M: Message + Name>(
        &mut self,
        payload: &M,
        subjects: &[&str],
    ) -> SignedRecord {
        let record = self.draft(payload, subjects);
        let signed = self.sign(&record);
        self.seq = record.stream_seq;
        self.prev = record_hash(&signed.record);
        signed
    }

    /// The next record of the stream, not yet signed.
    pub(crate) fn draft<M: Message + Name>(&self, payload: &M, subjects: &[&str]) -> Record {
        let mut record_id = [0; 16];
        record_id[8..].copy_from_slice(&NEXT_RECORD.fetch_add(1, Ordering::SeqCst).to_be_bytes());
        Record {
            version: 1,
            log_origin: self.origin.clone(),
            record_id: record_id.to_vec(),
            r#type: M::full_name(),
            schema_hash: counterfoil_evidence::schema_hash().to_vec(),
            stream: self.stream.to_owned(),
            stream_seq: self.seq + 1,
            prev_record_hash: self.prev.to_vec(),
            occurred_at_ms: 1_700_000_000_000,
            actor: format!("services/{}", self.stream),
            subject: subjects.iter().map(|&subject| subject.to_owned()).collect(),
            retention_class: "governance".to_owned(),
            payload: payload.encode_to_vec(),
            ..Record::default()
        }
    }

    pub(crate) fn sign(&self, record: &Record) -> SignedRecord {
        let bytes = record.encode_to_vec();
        SignedRecord {
            signature: self.signer.sign(&signed_message(&bytes)).to_vec(),
            key_id: self.key_id.clone(),
            record: bytes,
        }
    }

    /// A registration of this producer's key, for the registrar to write.
    pub(crate) fn registration(&self) -> ActorKeyRegistered {
        ActorKeyRegistered {
            principal: format!("services/{}", self.stream),
            key_id: self.key_id.clone(),
            vkey: self.vkey.to_string(),
            streams: vec![self.stream.to_owned()],
            valid_from_ms: 1_700_000_000_000,
        }
    }

    pub(crate) fn revocation(&self, effective_ms: i64) -> ActorKeyRevoked {
        ActorKeyRevoked {
            key_id: self.key_id.clone(),
            effective_ms,
        }
    }
}

pub(crate) fn ownership(number: u64) -> OwnershipSet {
    OwnershipSet {
        object: format!("accounts/{number}"),
        role: 1,
        owner: "principals/alice".to_owned(),
    }
}

pub(crate) fn lifecycle() -> TenantLifecycleChanged {
    TenantLifecycleChanged {
        from: 1,
        to: 2,
        ..TenantLifecycleChanged::default()
    }
}

/// A log with a registrar and two producers, all registered.
pub(crate) struct Fixture {
    pub(crate) engine: Engine,
    pub(crate) log: Log,
    pub(crate) registrar: Producer,
    pub(crate) inventory: Producer,
    pub(crate) authority: Producer,
}

/// Entries that a fixture starts with.
pub(crate) const REGISTRATIONS: u64 = 3;

pub(crate) async fn fixture(database: &Database) -> Fixture {
    fixture_on(database.open().await).await
}

pub(crate) async fn fixture_on(engine: Engine) -> Fixture {
    let mut registrar = Producer::new("ledger", 1);
    let inventory = Producer::new("inventory", 2);
    let authority = Producer::new("authority", 3);
    let log = engine
        .create_log(TENANT, ORIGIN, &registrar.vkey)
        .await
        .unwrap();
    let records = vec![
        {
            let registration = registrar.registration();
            registrar.next(&registration, &[])
        },
        registrar.next(&inventory.registration(), &[]),
        registrar.next(&authority.registration(), &[]),
    ];
    for outcome in log.append(records).await.unwrap() {
        outcome.unwrap();
    }
    Fixture {
        engine,
        log,
        registrar,
        inventory,
        authority,
    }
}

pub(crate) fn receipts(outcomes: Vec<Outcome>) -> Vec<Receipt> {
    outcomes.into_iter().map(Result::unwrap).collect()
}
