//! A ledger for the chassis' own tests: a tonic server that keeps records in order and judges each as the real one does
//! (key, signature, sequence, predecessor, record id), and that can be told to lose answers, to refuse and to be away.
//! Tests of services run the real ledger service instead.

#![allow(dead_code, reason = "not every test uses every part")]

pub(crate) mod certificates;
pub(crate) mod operators;
pub(crate) mod streams;

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use counterfoil_chassis::{
    ApiError, Caller, CancellationToken, Clock, Database, Outbox, RecordDraft, Role,
    auth::{Authenticator, Gate, PermissionTable, StaticToken, Token},
    client::{self, ServiceChannel},
    clock::timestamp,
    config::Limits,
    outbox::ProducerKey,
    relay::Relay,
    server::{self, Running},
    tenants::record_log_origin,
};
use counterfoil_evidence::{
    record::{decode_record, record_hash, signed_message},
    v1::{self, Record},
};
use counterfoil_proto::{
    common::{EvidenceState, Receipt},
    ledger::{
        append_result::Result as Outcome, ledger_service_server::LedgerService,
        ledger_service_server::LedgerServiceServer, *,
    },
};
use counterfoil_tlog::{VerifierKey, signature::verify_record};
use tonic::{Request, Response, Status, service::Routes};

/// The log's time at its first entry; each entry after it is a millisecond later.
pub(crate) const CHECKPOINT_MS: i64 = 1_700_000_000_000;
pub(crate) const ORIGIN: &str = "counterfoil.local/t/acme";

#[derive(Default)]
pub(crate) struct Log {
    pub(crate) records: Vec<Record>,
    pub(crate) bytes: Vec<Vec<u8>>,
    by_id: HashMap<Vec<u8>, usize>,
}

#[derive(Clone, Default)]
pub(crate) struct SmallLedger {
    pub(crate) log: Arc<Mutex<Log>>,
    pub(crate) keys: Arc<Mutex<HashMap<String, VerifierKey>>>,
    /// So many of the next appends are stored and their answers lost.
    pub(crate) lose_answers: Arc<AtomicUsize>,
    pub(crate) refuse_everything: Arc<AtomicBool>,
    pub(crate) appends: Arc<AtomicUsize>,
    /// Who has sent anything.
    pub(crate) tenants: Arc<Mutex<BTreeSet<String>>>,
}

impl SmallLedger {
    pub(crate) fn len(&self) -> usize {
        self.log.lock().unwrap().records.len()
    }

    fn take(&self, signed: &SignedRecord) -> Result<Receipt, AppendRefusal> {
        let refuse = |reason: &str, expected| AppendRefusal {
            code: 9,
            reason: reason.into(),
            expected_stream_seq: expected,
            ..Default::default()
        };
        if self.refuse_everything.load(Ordering::SeqCst) {
            return Err(refuse("REFUSED_BY_THE_TEST", 0));
        }
        let keys = self.keys.lock().unwrap();
        let key = keys
            .get(&signed.key_id)
            .ok_or_else(|| refuse("UNKNOWN_KEY", 0))?;
        let message = signed_message(&signed.record);
        verify_record(key.public_key(), &message, &signed.signature)
            .map_err(|_| refuse("BAD_SIGNATURE", 0))?;
        let record = decode_record(&signed.record).map_err(|e| refuse(&e.to_string(), 0))?;
        if record.log_origin != ORIGIN {
            return Err(refuse("WRONG_LOG", 0));
        }
        let mut log = self.log.lock().unwrap();
        let index = match log.by_id.get(&record.record_id) {
            Some(index) if log.bytes[*index] == signed.record => *index,
            Some(_) => return Err(refuse("OTHER_BYTES", 0)),
            None => {
                let last = log.records.iter().zip(&log.bytes).rev();
                let last = last
                    .into_iter()
                    .find(|(other, _)| other.stream == record.stream);
                let expected = last.map_or(1, |(other, _)| other.stream_seq + 1);
                let prev = last.map_or([0; 32], |(_, bytes)| record_hash(bytes));
                if record.stream_seq != expected || record.prev_record_hash != prev {
                    return Err(refuse("SEQUENCE_GAP", expected));
                }
                let index = log.records.len();
                log.by_id.insert(record.record_id.clone(), index);
                log.bytes.push(signed.record.clone());
                log.records.push(record.clone());
                index
            }
        };
        Ok(Receipt {
            record_id: record.record_id,
            record_hash: record_hash(&signed.record).to_vec(),
            state: EvidenceState::Logged.into(),
            index: index as u64,
            leaf_hash: counterfoil_tlog::hash::leaf_hash(&signed.record).0.to_vec(),
            tlog_proof: format!("index {index}").into_bytes(),
            checkpoint_time: Some(timestamp(CHECKPOINT_MS + i64::try_from(index).unwrap())),
            anchor_proof: Vec::new(),
        })
    }
}

type Appends = tonic::Streaming<AppendStreamRequest>;
type NoStream<T> = futures::stream::Empty<Result<T, Status>>;

// Written as `async_trait` would: it does not look into macros.
macro_rules! absent {
    ($($method:ident $request:ident $response:ty;)*) => {
        $(fn $method<'s, 'f>(
            &'s self,
            _: Request<$request>,
        ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<$response>, Status>> + Send + 'f>>
        where
            's: 'f,
            Self: 'f,
        {
            Box::pin(async { Err(Status::unimplemented("not part of this ledger")) })
        })*
    };
}

#[tonic::async_trait]
impl LedgerService for SmallLedger {
    type AppendStreamStream = NoStream<AppendStreamResponse>;
    type StreamEntriesStream = NoStream<StreamEntriesResponse>;
    type ExportLogStream = NoStream<ExportLogResponse>;

    async fn register_producer(
        &self,
        request: Request<RegisterProducerRequest>,
    ) -> Result<Response<RegisterProducerResponse>, Status> {
        let request = request.into_inner();
        let key = VerifierKey::parse(&request.vkey).unwrap();
        let text = format!(
            "counterfoil-producer/v1\n{}\n{}",
            request.principal, request.vkey
        );
        verify_record(
            key.public_key(),
            text.as_bytes(),
            &request.proof_of_possession,
        )
        .map_err(|_| ApiError::invalid("proof_of_possession", "does not verify"))?;
        let key_id = format!("{}+{:08x}", key.name(), key.key_id());
        self.keys.lock().unwrap().insert(key_id, key);
        Ok(Response::new(RegisterProducerResponse {}))
    }

    async fn append_batch(
        &self,
        request: Request<AppendBatchRequest>,
    ) -> Result<Response<AppendBatchResponse>, Status> {
        self.appends.fetch_add(1, Ordering::SeqCst);
        let tenant = request.get_ref().tenant.clone();
        self.tenants.lock().unwrap().insert(tenant);
        let mut results = Vec::new();
        let mut refused = false;
        for signed in &request.get_ref().records {
            let outcome = if refused {
                Outcome::Refusal(AppendRefusal {
                    reason: "AFTER_A_REFUSAL".into(),
                    ..Default::default()
                })
            } else {
                match self.take(signed) {
                    Ok(receipt) => Outcome::Receipt(receipt),
                    Err(refusal) => {
                        refused = true;
                        Outcome::Refusal(refusal)
                    }
                }
            };
            results.push(AppendResult {
                result: Some(outcome),
            });
        }
        let lose = self
            .lose_answers
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if lose.is_ok() {
            return Err(Status::unavailable("the answer is lost"));
        }
        Ok(Response::new(AppendBatchResponse { results }))
    }

    async fn get_checkpoint(
        &self,
        _: Request<GetCheckpointRequest>,
    ) -> Result<Response<GetCheckpointResponse>, Status> {
        Ok(Response::new(GetCheckpointResponse {
            size: self.len() as u64,
            ..Default::default()
        }))
    }

    absent! {
        create_log CreateLogRequest CreateLogResponse;
        append AppendRequest AppendResponse;
        append_stream Appends NoStream<AppendStreamResponse>;
        get_receipt GetReceiptRequest GetReceiptResponse;
        prove_anchored ProveAnchoredRequest ProveAnchoredResponse;
        get_entry GetEntryRequest GetEntryResponse;
        list_entries ListEntriesRequest ListEntriesResponse;
        prove_consistency ProveConsistencyRequest ProveConsistencyResponse;
        stream_entries StreamEntriesRequest NoStream<StreamEntriesResponse>;
        seal_epoch SealEpochRequest SealEpochResponse;
        export_log ExportLogRequest NoStream<ExportLogResponse>;
        explain_access ExplainAccessRequest ExplainAccessResponse;
    }
}

/// A server with one known service token.
pub(crate) struct Served {
    pub(crate) running: Running,
    pub(crate) token: Token,
    pub(crate) shutdown: CancellationToken,
}

impl Served {
    pub(crate) async fn start(routes: Routes, role: Role, limits: Limits) -> Self {
        let token = Token::generate().unwrap();
        let caller = Caller::of_deployment("services/recertification", [role]);
        Self::start_as(routes, token, caller, limits, "127.0.0.1:0").await
    }

    pub(crate) async fn start_as(
        routes: Routes,
        token: Token,
        caller: Caller,
        limits: Limits,
        address: &str,
    ) -> Self {
        let known = StaticToken::new(&token, caller);
        let authenticator = Authenticator::new(Clock::system(), [known], None);
        let permissions = PermissionTable::of_api().unwrap();
        let gate = Gate::new(authenticator, permissions, &[], limits.calls_max);
        let listener = server::bind(address.parse().unwrap()).await.unwrap();
        let shutdown = CancellationToken::new();
        let running = server::serve(
            listener,
            routes,
            vec![],
            Arc::new(gate),
            &limits,
            shutdown.clone(),
        )
        .unwrap();
        Self {
            running,
            token,
            shutdown,
        }
    }

    pub(crate) fn channel(&self) -> ServiceChannel {
        client::connect(&self.running.url(), Some(&self.token)).unwrap()
    }
}

pub(crate) async fn serve_ledger(ledger: &SmallLedger) -> Served {
    let service = LedgerServiceServer::new(ledger.clone())
        .max_encoding_message_size(server::MESSAGE_BYTES_MAX);
    Served::start(Routes::new(service), Role::Service, Limits::default()).await
}

/// The outbox of "recertification" for tenant "acme", whose log is known.
pub(crate) async fn outbox(db: &Database, folder: &Path) -> Outbox {
    let key = ProducerKey::load_or_create(
        &folder.join("recertification.key"),
        "counterfoil.local/services/recertification",
    )
    .unwrap();
    let mut tx = db.write_tx("acme").await.unwrap();
    record_log_origin(&mut tx, ORIGIN).await.unwrap();
    tx.commit().await.unwrap();
    Outbox::new(db.clone(), Clock::system(), "recertification", key)
}

pub(crate) fn draft(number: u64) -> RecordDraft {
    let payload = v1::ReviewDecided::default();
    RecordDraft::new(&payload, "principals/p1", 1_700_000_000_000)
        .subject(format!("items/{number}"))
        .commit("justification", format!("because of {number}"))
}

/// A relay that runs until it is dropped or stopped.
pub(crate) struct RelayTask {
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl RelayTask {
    pub(crate) fn start(outbox: &Outbox, channel: ServiceChannel) -> Self {
        let shutdown = CancellationToken::new();
        let relay = Relay::new(outbox.clone(), channel);
        let task = tokio::spawn(relay.run(shutdown.clone()));
        Self { shutdown, task }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}
