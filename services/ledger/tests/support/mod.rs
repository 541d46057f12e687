//! A running ledger service, and services that write to it.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test binary uses a part of it, and tests fail by panicking"
)]

use counterfoil_chassis::{
    CancellationToken, TestClock, auth::Token, client, client::ServiceChannel, server::Running,
    testing, testing::TestDatabase,
};
use counterfoil_evidence::record::{record_hash, signed_message};
use counterfoil_evidence::v1::{Accountability, Record};
use counterfoil_ledger::{Config, LedgerConfig};
use counterfoil_proto::common::Receipt;
use counterfoil_proto::common::disclosure_service_client::DisclosureServiceClient;
use counterfoil_proto::ledger::{
    AppendBatchRequest, AppendRefusal, CreateLogRequest, CreateLogResponse,
    RegisterProducerRequest, SignedRecord, append_result::Result as Outcome,
    ledger_service_client::LedgerServiceClient,
};
use counterfoil_tlog::NoteSigner;
use counterfoil_tlog::signature::RecordSigner;
use prost::{Message, Name};
use tempfile::TempDir;
use tonic::Status;

pub(crate) type Client = LedgerServiceClient<ServiceChannel>;

pub(crate) const NOW_MS: i64 = 1_800_000_000_000;
const SERVICES: [&str; 4] = [
    "authority",
    "inventory",
    "recertification",
    "reconciliation",
];

/// The service with its folder.
pub(crate) struct Ledger {
    pub(crate) running: Running,
    pub(crate) clock: TestClock,
    pub(crate) folder: TempDir,
    config: Config,
}

impl Ledger {
    /// Starts the service on a database.
    pub(crate) async fn start(db: &TestDatabase) -> Self {
        Self::start_with(db, |_| {}).await
    }

    /// Starts the service with other settings.
    pub(crate) async fn start_with(
        db: &TestDatabase,
        change: impl FnOnce(&mut LedgerConfig),
    ) -> Self {
        Self::start_at(db, NOW_MS, change).await
    }

    /// The same, at another time.
    pub(crate) async fn start_at(
        db: &TestDatabase,
        now_ms: i64,
        change: impl FnOnce(&mut LedgerConfig),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = testing::config("ledger", db, folder.path());
        for service in SERVICES {
            let principal = format!("services/{service}");
            let (_, credential) = testing::credential(folder.path(), &principal, "service");
            config.credentials.push(credential);
        }
        let (_, admin) = testing::credential(folder.path(), "operators/admin", "administrator");
        config.credentials.push(admin);
        let mut config = Config::from(config);
        change(&mut config.ledger);
        Self::run(folder, config, TestClock::new(now_ms)).await
    }

    async fn run(folder: TempDir, config: Config, clock: TestClock) -> Self {
        let running = counterfoil_ledger::start(
            config.clone(),
            clock.clock(),
            None,
            CancellationToken::new(),
        )
        .await
        .unwrap();
        Self {
            running,
            clock,
            folder,
            config,
        }
    }

    /// The same service, stopped and started again on another database: its keys and settings stay, and its high-water files do not.
    pub(crate) async fn restart_on(self, db: &TestDatabase) -> Self {
        self.running.stop().await.unwrap();
        let mut config = self.config;
        config.service.database_url = db.url("ledger");
        std::fs::remove_dir_all(config.high_water_dir()).unwrap();
        Self::run(self.folder, config, self.clock).await
    }

    /// The configuration of this service with another database.
    pub(crate) fn config_on(&self, db: &TestDatabase) -> Config {
        let mut config = self.config.clone();
        config.service.database_url = db.url("ledger");
        config
    }

    /// The same service, started again after it was stopped, on another database.
    pub(crate) async fn start_again_on(folder: TempDir, config: Config, clock: TestClock) -> Self {
        Self::run(folder, config, clock).await
    }

    /// A second process on the same database and keys.
    pub(crate) async fn replica(&self) -> Running {
        counterfoil_ledger::start(
            self.config.clone(),
            self.clock.clock(),
            None,
            CancellationToken::new(),
        )
        .await
        .unwrap()
    }

    /// Stops the service and starts it again.
    pub(crate) async fn restart(self) -> Self {
        self.running.stop().await.unwrap();
        Self::run(self.folder, self.config, self.clock).await
    }

    /// The same with other settings.
    pub(crate) async fn restart_with(self, change: impl FnOnce(&mut LedgerConfig)) -> Self {
        self.running.stop().await.unwrap();
        let mut config = self.config;
        change(&mut config.ledger);
        Self::run(self.folder, config, self.clock).await
    }

    pub(crate) fn token(&self, principal: &str) -> Token {
        let role = if principal.starts_with("services/") {
            "service"
        } else {
            "administrator"
        };
        testing::credential(self.folder.path(), principal, role).0
    }

    /// A client of this principal.
    pub(crate) fn client(&self, principal: &str) -> Client {
        self.client_at(&self.running.url(), principal)
    }

    pub(crate) fn client_at(&self, url: &str, principal: &str) -> Client {
        let channel = client::connect(url, Some(&self.token(principal))).unwrap();
        LedgerServiceClient::new(channel)
            .max_decoding_message_size(client::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(client::MESSAGE_BYTES_MAX)
    }

    pub(crate) fn disclosures(&self) -> DisclosureServiceClient<ServiceChannel> {
        let token = self.token("services/authority");
        let channel = client::connect(&self.running.url(), Some(&token)).unwrap();
        DisclosureServiceClient::new(channel)
    }

    /// Creates a log.
    pub(crate) async fn create(&self, tenant: &str) -> CreateLogResponse {
        let request = CreateLogRequest {
            tenant: format!("tenants/{tenant}"),
        };
        let mut client = self.client("services/authority");
        client.create_log(request).await.unwrap().into_inner()
    }

    /// A service that is registered and writes to the log of `tenant`.
    pub(crate) async fn producer(&self, service: &'static str, tenant: &str) -> Producer {
        let origin = format!("counterfoil.local/t/{tenant}");
        let producer = Producer::new(service, origin);
        let mut client = self.client(&producer.principal());
        client
            .register_producer(producer.registration())
            .await
            .unwrap();
        producer
    }
}

/// A service that writes a stream.
pub(crate) struct Producer {
    pub(crate) service: &'static str,
    note: NoteSigner,
    signer: RecordSigner,
    origin: String,
    seq: u64,
    prev: [u8; 32],
    ids: u64,
}

impl Producer {
    fn new(service: &'static str, origin: String) -> Self {
        let mut seed = [7; 32];
        seed[..service.len()].copy_from_slice(service.as_bytes());
        let name = format!("counterfoil.local/services/{service}");
        Self {
            service,
            note: NoteSigner::from_seed(&name, &seed).unwrap(),
            signer: RecordSigner::from_seed(&seed),
            origin,
            seq: 0,
            prev: [0; 32],
            ids: 0,
        }
    }

    pub(crate) fn principal(&self) -> String {
        format!("services/{}", self.service)
    }

    pub(crate) fn registration(&self) -> RegisterProducerRequest {
        let (principal, vkey) = (self.principal(), self.note.vkey());
        let statement = format!("counterfoil-producer/v1\n{principal}\n{vkey}");
        RegisterProducerRequest {
            proof_of_possession: self.signer.sign(statement.as_bytes()).to_vec(),
            stream: self.service.to_owned(),
            principal,
            vkey,
        }
    }

    pub(crate) fn key_id(&self) -> String {
        let key = self.note.verifier_key();
        format!("{}+{:08x}", key.name(), key.key_id())
    }

    /// The next record of the stream, not yet signed.
    pub(crate) fn draft<M: Message + Name>(&mut self, payload: &M, subjects: &[&str]) -> Record {
        self.ids += 1;
        let mut record_id = [0; 16];
        record_id[..8].copy_from_slice(&self.ids.to_be_bytes());
        let length = self.service.len().min(8);
        record_id[8..8 + length].copy_from_slice(&self.service.as_bytes()[..length]);
        Record {
            version: 1,
            log_origin: self.origin.clone(),
            record_id: record_id.to_vec(),
            r#type: M::full_name(),
            schema_hash: counterfoil_evidence::schema_hash().to_vec(),
            stream: self.service.to_owned(),
            stream_seq: self.seq + 1,
            prev_record_hash: self.prev.to_vec(),
            occurred_at_ms: NOW_MS,
            actor: self.principal(),
            subject: subjects.iter().map(|&subject| subject.to_owned()).collect(),
            retention_class: "governance".to_owned(),
            payload: payload.encode_to_vec(),
            ..Record::default()
        }
    }

    pub(crate) fn sign(&self, record: &Record) -> SignedRecord {
        let record = record.encode_to_vec();
        SignedRecord {
            signature: self.signer.sign(&signed_message(&record)).to_vec(),
            key_id: self.key_id(),
            record,
        }
    }

    /// Goes on after a record.
    pub(crate) fn follow(&mut self, signed: &SignedRecord) {
        self.seq += 1;
        self.prev = record_hash(&signed.record);
    }

    /// The next record of the stream.
    pub(crate) fn next<M: Message + Name>(
        &mut self,
        payload: &M,
        subjects: &[&str],
    ) -> SignedRecord {
        let draft = self.draft(payload, subjects);
        let signed = self.sign(&draft);
        self.follow(&signed);
        signed
    }

    /// The next record, of a human's outcome at a time.
    pub(crate) fn next_outcome<M: Message + Name>(
        &mut self,
        payload: &M,
        subject: &str,
        occurred_at_ms: i64,
    ) -> SignedRecord {
        let mut draft = self.draft(payload, &[subject]);
        draft.occurred_at_ms = occurred_at_ms;
        draft.actor = "principals/reviewer".to_owned();
        draft.accountability = Some(Accountability {
            accountable_owner: "principals/owner".to_owned(),
            authority: vec![5; 32],
            ..Accountability::default()
        });
        let signed = self.sign(&draft);
        self.follow(&signed);
        signed
    }
}

/// Appends; one result each.
pub(crate) async fn try_append(
    client: &mut Client,
    tenant: &str,
    records: Vec<SignedRecord>,
) -> Result<Vec<Result<Receipt, AppendRefusal>>, Status> {
    let request = AppendBatchRequest {
        tenant: format!("tenants/{tenant}"),
        records,
    };
    let results = client.append_batch(request).await?.into_inner().results;
    Ok(results
        .into_iter()
        .map(|result| match result.result.unwrap() {
            Outcome::Receipt(receipt) => Ok(receipt),
            Outcome::Refusal(refusal) => Err(refusal),
        })
        .collect())
}

/// Appends what must be taken.
pub(crate) async fn append(
    client: &mut Client,
    tenant: &str,
    records: Vec<SignedRecord>,
) -> Vec<Receipt> {
    let results = try_append(client, tenant, records).await.unwrap();
    results.into_iter().map(Result::unwrap).collect()
}
