//! A part of two logs' life, the same in whichever process it is lived: what is sent, in which order, and what is told of it.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};

use counterfoil_engine::{
    DirectoryKeys, Engine, EngineError, EngineOptions, Faults, HighWater, Log, NoFaults,
    Publication, Receipt, SignedRecord, WitnessError,
};
use counterfoil_evidence::record::record_hash;
use object_store::local::LocalFileSystem;
use prost::{Message, Name};

use crate::support::witness::FileWitness;
use crate::support::{ORIGIN, Producer, TENANT, TestClock, lifecycle, ownership};

/// Two tenants, so that a commit is of two logs or of none.
pub(crate) const TENANTS: [(&str, &str); 2] = [(TENANT, ORIGIN), ("beta", "ledger.example/t/beta")];

/// Records of each commit, by tenant. The first one registers the keys; tiles of the first tenant become full in the third.
const COMMITS: [[u64; 2]; 5] = [[3, 3], [250, 5], [20, 6], [7, 7], [3, 3]];

/// A file of another history, under the name that the first tenant's third commit has in the copy.
const FORGED: &str = "acme/tile/entries/001.p/17";

/// What happens to the logs when the fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// They are created, written and published.
    Ordinary,
    /// Another process has written them since this one did.
    Rival,
    /// Their database came from a backup, and they are brought to their copies.
    Restored,
    /// Their database is gone, and they are brought back from their copies.
    Lost,
    /// A witness cosigns what is published.
    Witnessed,
    /// A file of another history is found in a copy, and later taken away.
    Forged,
}

impl Life {
    pub(crate) const ALL: [Self; 6] = [
        Self::Ordinary,
        Self::Rival,
        Self::Restored,
        Self::Lost,
        Self::Witnessed,
        Self::Forged,
    ];
}

/// All records that are ever sent: the same in every process.
pub(crate) struct Script {
    /// By commit, then by tenant.
    pub(crate) commits: Vec<Vec<Vec<SignedRecord>>>,
}

pub(crate) static SCRIPT: LazyLock<Script> = LazyLock::new(Script::new);

impl Script {
    fn new() -> Self {
        let mut commits = vec![Vec::new(); COMMITS.len()];
        for (tenant, (_, origin)) in TENANTS.into_iter().enumerate() {
            let [mut registrar, mut inventory, mut authority] =
                [("ledger", 1), ("inventory", 2), ("authority", 3)].map(|(stream, seed)| {
                    let mut producer = Producer::new(stream, seed);
                    producer.origin = origin.to_owned();
                    producer
                });
            for (commit, sizes) in COMMITS.iter().enumerate() {
                let records = if commit == 0 {
                    [registrar.clone(), inventory.clone(), authority.clone()]
                        .map(|producer| next(&mut registrar, tenant, &producer.registration()))
                        .into()
                } else {
                    // Two streams in turns: a process that has not seen one of them can still continue the other.
                    let one = |number| match commit % 2 {
                        0 => next(&mut inventory, tenant, &ownership(number)),
                        _ => next(&mut authority, tenant, &lifecycle()),
                    };
                    (0..sizes[tenant]).map(one).collect()
                };
                commits[commit].push(records);
            }
        }
        Self { commits }
    }

    /// All records of a tenant.
    pub(crate) fn of(&self, tenant: usize) -> impl Iterator<Item = &SignedRecord> {
        self.commits.iter().flat_map(move |commit| &commit[tenant])
    }
}

/// The next record of a stream, with an id that says which one it is.
fn next<M: Message + Name>(producer: &mut Producer, tenant: usize, payload: &M) -> SignedRecord {
    let mut record = producer.draft(payload, &["accounts/x"]);
    record.record_id[0] = u8::try_from(tenant).unwrap() + 1;
    record.record_id[1] = producer.stream.as_bytes()[0];
    record.record_id[8..].copy_from_slice(&record.stream_seq.to_be_bytes());
    let signed = producer.sign(&record);
    producer.seq = record.stream_seq;
    producer.prev = record_hash(&signed.record);
    signed
}

/// Where the logs live.
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) keys: PathBuf,
    /// What is not lost with the database: the published copies and the high-water files.
    pub(crate) outside: PathBuf,
    clock: Arc<TestClock>,
    /// How much later than at first records are sent.
    later_ms: i64,
}

impl Place {
    pub(crate) fn new(url: String, keys: PathBuf, outside: PathBuf) -> Self {
        Self {
            url,
            keys,
            outside,
            clock: Arc::default(),
            later_ms: 0,
        }
    }

    /// A minute later: what is sent again has another time, and makes another log than what was lost.
    pub(crate) fn later(self) -> Self {
        Self {
            later_ms: 60_000,
            ..self
        }
    }

    pub(crate) fn copies(&self) -> PathBuf {
        self.outside.join("copies")
    }

    pub(crate) fn marks(&self) -> PathBuf {
        self.outside.join("marks")
    }

    pub(crate) fn forged(&self) -> PathBuf {
        self.copies().join(FORGED)
    }

    pub(crate) fn publication(&self) -> Publication {
        std::fs::create_dir_all(self.copies()).unwrap();
        let store = LocalFileSystem::new_with_prefix(self.copies()).unwrap();
        Publication::new(Arc::new(store), "")
    }

    pub(crate) async fn open(&self, faults: Arc<dyn Faults>) -> Result<Engine, EngineError> {
        let options = EngineOptions {
            anchors: vec![
                Arc::new(HighWater::open(self.marks()).unwrap()),
                Arc::new(self.publication()),
            ],
            copy: Some(self.publication()),
            faults,
            ..EngineOptions::default()
        };
        let keys = Arc::new(DirectoryKeys::open(&self.keys).unwrap());
        let clock: Arc<TestClock> = Arc::clone(&self.clock);
        Engine::open(&self.url, keys, clock, options).await
    }

    /// Both logs, made if they are not there.
    pub(crate) async fn logs(&self, engine: &Engine) -> Result<Vec<Log>, EngineError> {
        let registrar = Producer::new("ledger", 1).vkey;
        let mut logs = Vec::new();
        for (tenant, origin) in TENANTS {
            logs.push(engine.create_log(tenant, origin, &registrar).await?);
        }
        Ok(logs)
    }

    /// Sends a commit's records of both logs at once, and tells of every receipt.
    pub(crate) async fn append(
        &self,
        logs: &[Log],
        commit: usize,
        say: &mut dyn FnMut(String),
    ) -> Result<(), EngineError> {
        let now = 1_800_000_000_000 + i64::try_from(commit).unwrap() + self.later_ms;
        self.clock.0.store(now, Ordering::SeqCst);
        let mut pending = Vec::new();
        for (log, records) in logs.iter().zip(&SCRIPT.commits[commit]) {
            pending.push(log.begin_append(records.clone()).await?);
        }
        for (tenant, pending) in pending.into_iter().enumerate() {
            for outcome in pending.outcomes().await? {
                say(receipt_line(tenant, &outcome.unwrap()));
            }
        }
        Ok(())
    }

    /// Publishes both logs, and tells of the copies' checkpoints.
    pub(crate) async fn publish(
        &self,
        logs: &[Log],
        say: &mut dyn FnMut(String),
    ) -> Result<(), EngineError> {
        for log in logs {
            log.publish(&self.publication()).await?;
            self.tell_seen(say);
        }
        Ok(())
    }

    /// Tells of the checkpoints that are there to be seen: those of the copies, and those of the high-water files.
    pub(crate) fn tell_seen(&self, say: &mut dyn FnMut(String)) {
        let marks = std::fs::read_dir(self.marks()).unwrap();
        let marks = marks.map(|mark| mark.unwrap().path());
        let copies = TENANTS.map(|(name, _)| self.copies().join(name).join("checkpoint"));
        for note in marks
            .chain(copies)
            .filter_map(|path| std::fs::read_to_string(path).ok())
        {
            let of = |origin: &str| note.starts_with(&format!("{origin}\n"));
            let tenant = TENANTS.iter().position(|(_, origin)| of(origin)).unwrap();
            say(format!("checkpoint {tenant} {}", in_one_line(&note)));
        }
    }

    /// A witness with its files, which are its own.
    pub(crate) fn witness(&self, logs: &[Log]) -> Arc<FileWitness> {
        let witness = FileWitness::new("w1", self.outside.join("witness"));
        for log in logs {
            witness.learn(&log.info().vkey);
        }
        Arc::new(witness)
    }

    /// Has the published sizes of both logs cosigned, and adds the lines to the copies.
    pub(crate) async fn cosign(&self, logs: &[Log]) -> Result<(), EngineError> {
        let witness = self.witness(logs).near();
        for log in logs {
            let size = log.head().await?.size;
            match log.cosign(&witness, size).await {
                Ok(kept) => assert_eq!(kept.size, size),
                Err(WitnessError::Log(error)) => return Err(error),
                Err(other) => panic!("{other}"),
            }
            log.publish_cosignatures(&self.publication()).await?;
        }
        Ok(())
    }

    pub(crate) async fn recover(&self, log: &Log) -> Result<(), EngineError> {
        let recovered = log.recover(&self.publication(), &mut |_, _| {}).await;
        recovered.map(drop)
    }
}

fn receipt_line(tenant: usize, receipt: &Receipt) -> String {
    let record = hex::encode(receipt.record_hash);
    let proof = in_one_line(&receipt.tlog_proof);
    format!("receipt {tenant} {record} {} {proof}", receipt.leaf_hash)
}

/// Checkpoints and receipts have lines, and no bars.
fn in_one_line(text: &str) -> String {
    text.replace('\n', "|")
}

pub(crate) fn in_lines(text: &str) -> String {
    text.replace('|', "\n")
}

/// Lives a life until it ends or something fails. What is told was acknowledged, or is there for everybody to see.
pub(crate) async fn live(
    place: &Place,
    life: Life,
    faults: Arc<dyn Faults>,
    say: &mut dyn FnMut(String),
) -> Result<(), EngineError> {
    let engine = place.open(faults).await?;
    let ended = match life {
        Life::Ordinary => ordinary(place, &engine, say).await,
        Life::Rival => {
            let rival = place.open(Arc::new(NoFaults)).await?;
            let ended = beside(place, [&engine, &rival], say).await;
            rival.close().await;
            ended
        }
        Life::Restored | Life::Lost => bring_back(place, &engine, say).await,
        Life::Witnessed => witnessed(place, &engine, say).await,
        Life::Forged => look_after(place, &engine, say).await,
    };
    engine.close().await;
    ended
}

async fn ordinary(
    place: &Place,
    engine: &Engine,
    say: &mut dyn FnMut(String),
) -> Result<(), EngineError> {
    let logs = place.logs(engine).await?;
    place.append(&logs, 0, say).await?;
    place.append(&logs, 1, say).await?;
    place.publish(&logs, say).await?;
    place.append(&logs, 2, say).await?;
    place.publish(&logs, say).await?;
    logs[0].evict(&place.publication(), i64::MAX, 9).await?;
    place.append(&logs, 3, say).await
}

async fn witnessed(
    place: &Place,
    engine: &Engine,
    say: &mut dyn FnMut(String),
) -> Result<(), EngineError> {
    let logs = place.logs(engine).await?;
    for commit in 0..3 {
        place.append(&logs, commit, say).await?;
        place.publish(&logs, say).await?;
        place.cosign(&logs).await?;
    }
    place.append(&logs, 3, say).await
}

async fn beside(
    place: &Place,
    [engine, rival]: [&Engine; 2],
    say: &mut dyn FnMut(String),
) -> Result<(), EngineError> {
    let logs = place.logs(engine).await?;
    place.append(&logs, 0, say).await?;
    let of_rival = place.logs(rival).await?;
    place.append(&of_rival, 1, say).await?;
    place.append(&logs, 2, say).await?;
    place.append(&of_rival, 3, say).await
}

async fn bring_back(
    place: &Place,
    engine: &Engine,
    say: &mut dyn FnMut(String),
) -> Result<(), EngineError> {
    let logs = place.logs(engine).await?;
    for log in &logs {
        place.recover(log).await?;
    }
    place.append(&logs, 3, say).await
}

async fn look_after(
    place: &Place,
    engine: &Engine,
    say: &mut dyn FnMut(String),
) -> Result<(), EngineError> {
    let logs = place.logs(engine).await?;
    let found = logs[0].publish(&place.publication()).await;
    if !matches!(&found, Err(EngineError::Damaged { .. })) {
        return found.map(|published| panic!("{published:?} in spite of another history"));
    }
    std::fs::remove_file(place.forged()).unwrap();
    place.recover(&logs[0]).await?;
    place.append(&logs, 3, say).await
}
