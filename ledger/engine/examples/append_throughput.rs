//! How fast records become durable: `cargo run --release -p counterfoil-engine --example append_throughput [DATABASE_URL]`.
//!
//! Four callers append batches of 1,000 signed records of about 600 bytes to one log; then one caller appends record by
//! record. Prints one JSON object a run. Without a URL it makes a SQLite database in a temporary folder.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a measurement prints its result and has nobody to hand an error to"
)]

use std::sync::Arc;
use std::time::Instant;

use counterfoil_engine::{
    Clock, DirectoryKeys, Engine, EngineOptions, Log, SignedRecord, key_id_of,
};
use counterfoil_evidence::record::{record_hash, signed_message};
use counterfoil_evidence::v1::{ActorKeyRegistered, OwnershipSet, Record};
use counterfoil_tlog::NoteSigner;
use counterfoil_tlog::signature::RecordSigner;
use prost::{Message, Name};

const CALLERS: usize = 4;
const BATCHES: usize = 25;
const BATCH: usize = 1000;

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now_ms(&self) -> i64 {
        1_800_000_000_000
    }
}

struct Producer {
    signer: RecordSigner,
    note: NoteSigner,
    origin: String,
    stream: &'static str,
    seq: u64,
    prev: [u8; 32],
    schema_hash: Vec<u8>,
}

impl Producer {
    fn new(origin: &str, stream: &'static str, seed: u8) -> Self {
        Self {
            signer: RecordSigner::from_seed(&[seed; 32]),
            note: NoteSigner::from_seed(stream, &[seed; 32]).unwrap(),
            origin: origin.to_owned(),
            stream,
            seq: 0,
            prev: [0; 32],
            schema_hash: counterfoil_evidence::schema_hash().to_vec(),
        }
    }

    fn next<M: Message + Name>(&mut self, payload: &M) -> SignedRecord {
        self.seq += 1;
        let mut record_id = [0; 16];
        record_id[..8].copy_from_slice(&self.seq.to_be_bytes());
        let scope = format!("{} {}", self.origin, self.stream);
        record_id[8..].copy_from_slice(&record_hash(scope.as_bytes())[..8]);
        let record = Record {
            version: 1,
            log_origin: self.origin.clone(),
            record_id: record_id.to_vec(),
            r#type: M::full_name(),
            schema_hash: self.schema_hash.clone(),
            stream: self.stream.to_owned(),
            stream_seq: self.seq,
            prev_record_hash: self.prev.to_vec(),
            occurred_at_ms: 1_800_000_000_000,
            actor: "services/inventory".to_owned(),
            subject: vec![format!("accounts/{}", self.seq), "sources/one".to_owned()],
            retention_class: "governance".to_owned(),
            payload: payload.encode_to_vec(),
            ..Record::default()
        };
        let bytes = record.encode_to_vec();
        self.prev = record_hash(&bytes);
        SignedRecord {
            signature: self.signer.sign(&signed_message(&bytes)).to_vec(),
            key_id: key_id_of(self.note.verifier_key()),
            record: bytes,
        }
    }
}

fn ownership(number: usize) -> OwnershipSet {
    OwnershipSet {
        object: format!("accounts/{number:0>230}"),
        role: 1,
        owner: "principals/someone".to_owned(),
    }
}

async fn new_log(engine: &Engine, tenant: &str) -> (Log, Producer) {
    let origin = format!("throughput.example/t/{tenant}");
    let mut registrar = Producer::new(&origin, "ledger", 1);
    let inventory = Producer::new(&origin, "inventory", 2);
    let log = engine
        .create_log(tenant, &origin, registrar.note.verifier_key())
        .await
        .unwrap();
    let registration = ActorKeyRegistered {
        principal: "services/inventory".to_owned(),
        key_id: key_id_of(inventory.note.verifier_key()),
        vkey: inventory.note.vkey(),
        streams: vec!["inventory".to_owned()],
        valid_from_ms: 0,
    };
    let record = SignedRecord {
        ..registrar.next(&registration)
    };
    log.append(vec![record]).await.unwrap().remove(0).unwrap();
    (log, inventory)
}

/// Appends `batches` to one log a caller, all at once; records a second.
async fn run(engine: &Engine, name: &str, callers: usize, batches: usize, batch: usize) {
    let mut work = Vec::new();
    let mut bytes = 0;
    for caller in 0..callers {
        let (log, mut producer) = new_log(engine, &format!("{name}-{caller}")).await;
        let batches: Vec<Vec<SignedRecord>> = (0..batches)
            .map(|_| (0..batch).map(|n| producer.next(&ownership(n))).collect())
            .collect();
        bytes = batches[0][0].record.len();
        work.push((log, batches));
    }
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for (log, batches) in work {
        tasks.spawn(async move {
            for batch in batches {
                let outcomes = log.append(batch).await.unwrap();
                assert!(outcomes.iter().all(Result::is_ok));
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();
    let records = callers * batches * batch;
    println!(
        "{{\"run\":\"{name}\",\"callers\":{callers},\"batch\":{batch},\"record_bytes\":{bytes},\
         \"records\":{records},\"seconds\":{seconds:.3},\"records_per_second\":{:.0}}}",
        records as f64 / seconds
    );
}

#[tokio::main]
async fn main() {
    let directory = tempfile::tempdir().unwrap();
    let url = std::env::args().nth(1).unwrap_or_else(|| {
        let path = directory.path().join("throughput.db");
        format!("sqlite://{}?mode=rwc", path.display())
    });
    let keys = Arc::new(DirectoryKeys::open(directory.path().join("keys")).unwrap());
    let engine = Engine::open(&url, keys, Arc::new(Still), EngineOptions::default())
        .await
        .unwrap();
    run(&engine, "one-caller-batches", 1, BATCHES * 2, BATCH).await;
    run(&engine, "four-callers-batches", CALLERS, BATCHES, BATCH).await;
    run(&engine, "one-caller-single", 1, 2000, 1).await;
    run(&engine, "many-callers-single", 200, 100, 1).await;
    engine.close().await;
}
