//! Witnesses over HTTP: one that is written from the specification, and one of other people's.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Path as UrlPath, State};
use axum::response::Response;
use axum::routing::{get, post};
use counterfoil_engine::WitnessAnswer;
use counterfoil_tlog::VerifierKey;
use tokio::task::JoinHandle;

/// The engine's own tests have it too.
#[path = "../../../../ledger/engine/tests/support/witness.rs"]
#[allow(dead_code, reason = "the engine's tests use the rest of it")]
pub(crate) mod file;

use file::{FileWitness, answer};

/// A witness that listens.
pub(crate) struct HttpWitness {
    pub(crate) witness: Arc<FileWitness>,
    /// Answers nothing but 503.
    pub(crate) is_away: Arc<AtomicBool>,
    /// Takes requests and answers none, for as long as anybody waits.
    pub(crate) is_silent: Arc<AtomicBool>,
    url: String,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    witness: Arc<FileWitness>,
    is_away: Arc<AtomicBool>,
    is_silent: Arc<AtomicBool>,
}

impl HttpWitness {
    pub(crate) async fn start(name: &str, folder: &Path) -> Self {
        let witness = Arc::new(FileWitness::new(name, folder.join(name)));
        let (is_away, is_silent) = (Arc::default(), Arc::default());
        let shared = Shared {
            witness: Arc::clone(&witness),
            is_away: Arc::clone(&is_away),
            is_silent: Arc::clone(&is_silent),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/prefix/", listener.local_addr().unwrap());
        let router = axum::Router::new()
            .route("/prefix/add-checkpoint", post(take))
            .route("/prefix/{origin}/checkpoint", get(show))
            .with_state(shared);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            witness,
            is_away,
            is_silent,
            url,
            server,
        }
    }

    /// Its line in a policy.
    pub(crate) fn line(&self, name: &str) -> String {
        format!("witness {name} {} {}\n", self.witness.key(), self.url)
    }
}

impl Drop for HttpWitness {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(State(shared): State<Shared>, body: axum::body::Bytes) -> Response {
    shared.respond(|witness| witness.take(&body)).await
}

async fn show(State(shared): State<Shared>, UrlPath(origin): UrlPath<String>) -> Response {
    let path = format!("{origin}/checkpoint");
    shared.respond(|witness| witness.show(&path)).await
}

impl Shared {
    async fn respond(&self, answered: impl FnOnce(&FileWitness) -> WitnessAnswer) -> Response {
        if self.is_silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let answered = match self.is_away.load(Ordering::SeqCst) {
            true => answer(503, None, String::new()),
            false => answered(&self.witness),
        };
        let mut response = Response::builder().status(answered.status);
        if let Some(kind) = &answered.content_type {
            response = response.header("content-type", kind);
        }
        response.body(answered.body.into()).unwrap()
    }
}

/// `aics-witness`, a witness by another author, as `tests/run` installs it.
pub(crate) struct ForeignWitness {
    program: PathBuf,
    config: PathBuf,
    pub(crate) key: VerifierKey,
    serving: Option<(Child, String)>,
}

impl ForeignWitness {
    /// Makes a new witness in a folder; `None`: the program is not there, which takes Python 3.12 or newer.
    pub(crate) fn new(folder: &Path) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let program = root.join("target/tools/witness/bin/aics-witness");
        if !program.exists() {
            return None;
        }
        let config = folder.join("witness.json");
        let mut init = Command::new(&program);
        init.args(["init", "--name", "witness.example/foreign", "--config"]);
        init.arg(&config);
        let said = said(&mut init);
        let key = VerifierKey::parse(said.trim()).unwrap();
        Some(Self {
            program,
            config,
            key,
            serving: None,
        })
    }

    pub(crate) fn learn(&self, log: &VerifierKey) {
        let mut add = Command::new(&self.program);
        add.args([
            "add-log",
            "--origin",
            log.name(),
            "--vkey",
            &log.to_string(),
        ]);
        add.arg("--config").arg(&self.config);
        said(&mut add);
    }

    /// Starts it; its line in a policy.
    pub(crate) fn serve(&mut self, name: &str) -> String {
        let mut serve = Command::new(&self.program);
        serve.args(["serve", "--listen", "127.0.0.1:0", "--config"]);
        serve.arg(&self.config);
        let mut child = serve.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = lines.map(Result::unwrap);
        let url = said.find_map(|line| {
            let (_, rest) = line.split_once("listening on ")?;
            Some(rest.split(' ').next()?.to_owned())
        });
        // What it says later is read by nobody, and must not stop it.
        std::thread::spawn(move || said.for_each(drop));
        let line = format!("witness {name} {} {}\n", self.key, url.as_deref().unwrap());
        self.serving = Some((child, line.clone()));
        line
    }
}

impl Drop for ForeignWitness {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.serving {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
