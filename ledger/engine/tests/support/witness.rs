//! A witness that is written from its specification alone ([c2sp.org/tlog-witness]), and keeps what it has cosigned in files.
//!
//! [c2sp.org/tlog-witness]: https://c2sp.org/tlog-witness

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use counterfoil_engine::{Witness, WitnessAnswer, WitnessCalls};
use counterfoil_tlog::cosignature::Cosigner;
use counterfoil_tlog::hash::{empty_root, sha256};
use counterfoil_tlog::merkle::verify_consistency;
use counterfoil_tlog::note::Note;
use counterfoil_tlog::{Checkpoint, Hash, VerifierKey};

/// A witness with its files.
#[derive(Debug)]
pub(crate) struct FileWitness {
    folder: PathBuf,
    cosigner: Cosigner,
    /// The logs that it knows; their keys are named by their origins.
    logs: Mutex<Vec<VerifierKey>>,
    /// The time that it states, seconds.
    pub(crate) now_s: AtomicI64,
    /// Requests so far.
    pub(crate) requests: AtomicU64,
    /// One request at a time: to compare and to persist is one step.
    turn: Mutex<()>,
}

type Refusal = (u16, Option<&'static str>, String);

impl FileWitness {
    pub(crate) fn new(name: &str, folder: PathBuf) -> Self {
        let mut seed = [3; 32];
        seed[..name.len()].copy_from_slice(name.as_bytes());
        fs::create_dir_all(&folder).unwrap();
        Self {
            folder,
            cosigner: Cosigner::from_seed(&format!("witness.example/{name}"), &seed).unwrap(),
            logs: Mutex::default(),
            now_s: AtomicI64::new(1_800_000_000),
            requests: AtomicU64::new(0),
            turn: Mutex::default(),
        }
    }

    pub(crate) fn knows(self, log: &VerifierKey) -> Self {
        self.learn(log);
        self
    }

    pub(crate) fn learn(&self, log: &VerifierKey) {
        self.logs.lock().unwrap().push(log.clone());
    }

    pub(crate) fn key(&self) -> &VerifierKey {
        self.cosigner.verifier_key()
    }

    /// As the engine asks it, without a network between.
    pub(crate) fn near(self: &Arc<Self>) -> Witness {
        Witness::new(
            self.key().clone(),
            Arc::clone(self) as Arc<dyn WitnessCalls>,
        )
    }

    /// Size and root of what it has cosigned of a log last.
    pub(crate) fn latest(&self, origin: &str) -> Option<Checkpoint> {
        let note = fs::read(self.file(origin)).ok()?;
        Some(Checkpoint::parse(Note::parse(&note).unwrap().text()).unwrap())
    }

    fn file(&self, origin: &str) -> PathBuf {
        self.folder.join(sha256(origin.as_bytes()).to_string())
    }

    pub(crate) fn take(&self, body: &[u8]) -> WitnessAnswer {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let _turn = self.turn.lock().unwrap();
        match self.judge(body) {
            Ok(line) => answer(200, Some("text/plain; charset=utf-8"), format!("{line}\n")),
            Err((status, kind, said)) => answer(status, kind, said),
        }
    }

    pub(crate) fn show(&self, path: &str) -> WitnessAnswer {
        let file = path
            .strip_suffix("/checkpoint")
            .map(|name| self.folder.join(name));
        match file.and_then(|file| fs::read(file).ok()) {
            Some(note) => WitnessAnswer {
                body: note,
                ..answer(200, Some("text/plain; charset=utf-8"), String::new())
            },
            None => answer(404, None, String::new()),
        }
    }

    fn judge(&self, body: &[u8]) -> Result<String, Refusal> {
        let refuse = |status: u16, said: &str| (status, None, format!("{said}\n"));
        let bad = |said: &str| refuse(400, said);
        let text = std::str::from_utf8(body).map_err(|_| bad("not UTF-8"))?;
        let (head, note) = text
            .split_once("\n\n")
            .ok_or_else(|| bad("no empty line"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old "));
        let old = old.filter(|old| *old == "0" || !old.starts_with(['0', '+']));
        let old: u64 = old
            .and_then(|old| old.parse().ok())
            .ok_or_else(|| bad("no old size"))?;
        let proof: Result<Vec<Hash>, _> = lines.map(Hash::from_base64).collect();
        let proof = proof.map_err(|_| bad("a hash"))?;
        if proof.len() > 63 {
            return Err(bad("too many hashes"));
        }
        let note = Note::parse(note.as_bytes()).map_err(|_| bad("not a note"))?;
        let said = Checkpoint::parse(note.text()).map_err(|_| bad("not a checkpoint"))?;
        let logs = self.logs.lock().unwrap();
        let log = logs.iter().find(|log| log.name() == said.origin);
        let log = log.ok_or_else(|| refuse(404, "unknown origin"))?;
        let signed = note.clone().verify(std::slice::from_ref(log));
        signed.map_err(|_| refuse(403, "not signed by the log"))?;
        if old > said.size {
            return Err(bad("the old size is larger"));
        }
        let latest = self.latest(&said.origin);
        let (at, root) = latest.map_or((0, empty_root()), |latest| (latest.size, latest.root));
        if old != at {
            return Err((409, Some("text/x.tlog.size"), format!("{at}\n")));
        }
        if old == said.size && root != said.root {
            return Err(refuse(409, "another root"));
        }
        let proved = match old {
            0 => proof.is_empty(),
            _ => verify_consistency(old, &root, said.size, &said.root, &proof).is_ok(),
        };
        if !proved {
            return Err(refuse(422, "the proof does not verify"));
        }
        let now = self.now_s.load(Ordering::SeqCst).unsigned_abs();
        let line = self.cosigner.cosign(&said, now).unwrap();
        let mut cosigned = note;
        cosigned.add_signature(line.clone()).unwrap();
        // Durable before it is answered.
        let (file, new) = (self.file(&said.origin), self.folder.join("new"));
        let mut writing = fs::File::create(&new).unwrap();
        writing.write_all(&cosigned.to_bytes()).unwrap();
        writing.sync_all().unwrap();
        fs::rename(new, file).unwrap();
        Ok(line.to_string())
    }
}

pub(crate) fn answer(status: u16, kind: Option<&str>, body: String) -> WitnessAnswer {
    WitnessAnswer {
        status,
        content_type: kind.map(str::to_owned),
        body: body.into_bytes(),
    }
}

#[async_trait]
impl WitnessCalls for FileWitness {
    async fn add_checkpoint(&self, body: String) -> Result<WitnessAnswer, String> {
        Ok(self.take(body.as_bytes()))
    }

    async fn monitor(&self, path: String) -> Result<WitnessAnswer, String> {
        Ok(self.show(&path))
    }
}
