//! The real executables as real processes: started, listened to, killed with SIGKILL, started again.
//!
//! A test waits for what a process says or for its end, never for time to pass. A random moment to kill at is the one thing
//! that is measured in time, by [`Process::watch`].

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::repository::root;

/// The longest that a process may say nothing while somebody waits for it: a hang becomes a failure, not a stuck run.
const SILENCE_MAX: Duration = Duration::from_secs(300);

/// An executable of the workspace in the release profile, which is what a user runs.
///
/// Cargo builds it, once a test process: after `./tests/run` has, that takes a moment, and a stale executable is never
/// tested.
///
/// # Errors
/// When it does not build.
pub fn executable(name: &str) -> Result<&'static Path> {
    static BUILT: OnceLock<Result<BTreeMap<String, PathBuf>, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    let paths = built.as_ref().map_err(|error| anyhow!("{error}"))?;
    paths
        .get(name)
        .map(PathBuf::as_path)
        .with_context(|| format!("no executable {name}"))
}

fn build() -> Result<BTreeMap<String, PathBuf>> {
    let mut cargo = Command::new("cargo");
    cargo.args([
        "build",
        "--release",
        "--locked",
        "--quiet",
        "--message-format=json-render-diagnostics",
    ]);
    cargo
        .args(["-p", "counterfoil", "-p", "counterfoil-verify"])
        .current_dir(root());
    // Build scripts watch what cargo tells a test about its own crate, and would run again because of it.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let about_this_crate = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_EXE_"]
            .iter()
            .any(|start| name.starts_with(start));
        if about_this_crate
            || ["CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"].contains(&name.as_str())
        {
            cargo.env_remove(name);
        }
    }
    let output = cargo.stderr(Stdio::inherit()).output().context("cargo")?;
    ensure!(output.status.success(), "the executables do not build");
    let mut found = BTreeMap::new();
    for line in output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let message: serde_json::Value = serde_json::from_slice(line)?;
        if let (Some(path), Some(name)) = (
            message["executable"].as_str(),
            message["target"]["name"].as_str(),
        ) {
            found.insert(name.to_owned(), PathBuf::from(path));
        }
    }
    Ok(found)
}

/// A command of the one executable on a data directory, answering in JSON.
///
/// # Errors
/// When the executable does not build.
pub fn counterfoil(data_dir: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(executable("counterfoil")?);
    command
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir)
        .args(["--output", "json"]);
    Ok(command)
}

/// The command that runs the services on any free ports: tests run beside each other.
///
/// # Errors
/// When the executable does not build.
pub fn up(data_dir: &Path) -> Result<Command> {
    counterfoil(data_dir, &["up", "--any-port"])
}

/// A command of the auditor's verifier.
///
/// # Errors
/// When the executable does not build.
pub fn verify(bundle: &Path, trust: &Path) -> Result<Command> {
    let mut command = Command::new(executable("counterfoil-verify")?);
    command.arg(bundle).arg("--trust").arg(trust).arg("--json");
    Ok(command)
}

/// The services, up in one process.
#[derive(Debug)]
pub struct Suite {
    process: Process,
    data_dir: PathBuf,
}

impl Suite {
    /// Starts `counterfoil up` on a data directory and waits until it has told where its services are.
    ///
    /// # Errors
    /// When it ends before, with all that it said.
    pub fn start(data_dir: &Path) -> Result<Self> {
        Self::of(up(data_dir)?, data_dir)
    }

    /// Starts a command that [`up`] has made, and waits until it has told where its services are.
    ///
    /// # Errors
    /// As [`Suite::start`].
    pub fn of(command: Command, data_dir: &Path) -> Result<Self> {
        let mut process = Process::start(command)?;
        let told = process.until_json()?;
        ensure!(told["services"].is_object(), "not the services: {told}");
        Ok(Self {
            process,
            data_dir: data_dir.to_owned(),
        })
    }

    /// File with the token of the tenant's accountable owner, which a quickstart leaves.
    #[must_use]
    pub fn customer_token(&self, tenant: &str) -> PathBuf {
        let file = format!("tenant-{tenant}.token");
        self.data_dir.join("keys").join(file)
    }

    /// Runs the client and answers the JSON it prints.
    ///
    /// # Errors
    /// When it fails, with all that it said.
    pub fn client(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        self.ask(arguments)?
            .json()
            .with_context(|| arguments.join(" "))
    }

    /// Runs the client to its end, whatever that is.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn ask(&self, arguments: &[&str]) -> Result<Ended> {
        Process::start(counterfoil(&self.data_dir, arguments)?)?.finish()
    }

    /// Runs the client to its end, with its answer as a table.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn ask_table(&self, arguments: &[&str]) -> Result<Ended> {
        let mut command = Command::new(executable("counterfoil")?);
        command
            .args(arguments)
            .arg("--data-dir")
            .arg(&self.data_dir);
        Process::start(command)?.finish()
    }

    /// The most memory that the services have held at once.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn peak_memory_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kibibytes: u64 = kibibytes.context("no VmHWM")?.trim().parse()?;
        Ok(kibibytes * 1024)
    }

    /// Kills the services at once and starts them again on the same data.
    ///
    /// # Errors
    /// As [`Suite::start`].
    pub fn crash_and_restart(mut self) -> Result<Self> {
        self.process.kill()?;
        Self::start(&self.data_dir)
    }

    /// Ends the services in order.
    ///
    /// # Errors
    /// When they do not end.
    pub fn stop(self) -> Result<Ended> {
        self.process.stop()
    }
}

/// What a process has said on standard output, or its end of it.
enum Said {
    Line(String),
    End,
}

/// What came first while a process was watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// It said the line.
    Said,
    /// It runs on without having said it.
    Running,
    /// It ended.
    Ended,
}

/// How a process ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// All of its standard output.
    pub output: String,
    /// All of its standard error.
    pub errors: String,
}

impl Ended {
    /// Whether it was killed, and did not end by itself.
    #[must_use]
    pub fn was_killed(&self) -> bool {
        self.status.signal().is_some()
    }

    /// Its output, when it went well.
    ///
    /// # Errors
    /// When it did not, with all that it said.
    pub fn success(&self) -> Result<&str> {
        ensure!(
            self.status.success(),
            "{}\n{}\n{}",
            self.status,
            self.output,
            self.errors
        );
        Ok(&self.output)
    }

    /// The last JSON value of its output, when it went well.
    ///
    /// # Errors
    /// When it did not, or did not answer in JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        let values = serde_json::Deserializer::from_str(self.success()?).into_iter();
        let last = values.last().context("no output")?;
        last.with_context(|| format!("not JSON: {}", self.output))
    }
}

/// A running process. Dropped, it is killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    said: Receiver<Said>,
    output: String,
    errors: Option<thread::JoinHandle<String>>,
}

impl std::fmt::Debug for Said {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(line) => formatter.write_str(line),
            Self::End => formatter.write_str("end"),
        }
    }
}

impl Process {
    /// Starts a command.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let (sender, said) = channel();
        let stdout = child.stdout.take().context("standard output")?;
        thread::spawn(move || pass_on(BufReader::new(stdout), &sender));
        let mut stderr = child.stderr.take().context("standard error")?;
        let errors = thread::spawn(move || {
            let mut text = Vec::new();
            // What was read before an error is all there is to show.
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self {
            child,
            said,
            output: String::new(),
            errors: Some(errors),
        })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of standard output that fits, and answers it.
    ///
    /// # Errors
    /// When the process ends first, or is silent for very long; with all that it said.
    pub fn until(&mut self, fits: impl Fn(&str) -> bool) -> Result<String> {
        loop {
            match self.said.recv_timeout(SILENCE_MAX) {
                Ok(Said::Line(line)) => {
                    self.keep(&line);
                    if fits(&line) {
                        return Ok(line);
                    }
                }
                Ok(Said::End) | Err(RecvTimeoutError::Disconnected) => {
                    let ended = self.end()?;
                    bail!(
                        "it ended, {}\n{}\n{}",
                        ended.status,
                        ended.output,
                        ended.errors
                    );
                }
                Err(RecvTimeoutError::Timeout) => {
                    let ended = self.kill()?;
                    bail!(
                        "it said nothing for {SILENCE_MAX:?}\n{}\n{}",
                        ended.output,
                        ended.errors
                    );
                }
            }
        }
    }

    /// Waits for the next whole JSON value of standard output, in one line or in many.
    ///
    /// # Errors
    /// As [`Process::until`].
    pub fn until_json(&mut self) -> Result<serde_json::Value> {
        let mut text = String::new();
        loop {
            text.push_str(&self.until(|_| true)?);
            text.push('\n');
            if let Some(Ok(value)) = serde_json::Deserializer::from_str(&text).into_iter().next() {
                return Ok(value);
            }
        }
    }

    /// Lets it run to its end.
    ///
    /// # Errors
    /// When it is silent for very long.
    pub fn finish(mut self) -> Result<Ended> {
        loop {
            match self.said.recv_timeout(SILENCE_MAX) {
                Ok(Said::Line(line)) => self.keep(&line),
                Ok(Said::End) | Err(RecvTimeoutError::Disconnected) => return self.end(),
                Err(RecvTimeoutError::Timeout) => {
                    let ended = self.kill()?;
                    bail!(
                        "it said nothing for {SILENCE_MAX:?}\n{}\n{}",
                        ended.output,
                        ended.errors
                    );
                }
            }
        }
    }

    /// Lets it run until it says a line that fits, but no longer than so long.
    #[must_use]
    pub fn watch(&mut self, limit: Duration, fits: impl Fn(&str) -> bool) -> Watched {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok(Said::Line(line)) => {
                    self.keep(&line);
                    if fits(&line) {
                        return Watched::Said;
                    }
                }
                Ok(Said::End) | Err(RecvTimeoutError::Disconnected) => return Watched::Ended,
                Err(RecvTimeoutError::Timeout) => return Watched::Running,
            }
        }
    }

    /// Kills it at once, as a power cut would, and waits until it is gone. One that has ended before is left as it ended.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn kill(&mut self) -> Result<Ended> {
        self.child.kill()?;
        self.end()
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// When the signal cannot be sent, or it does not end.
    pub fn stop(self) -> Result<Ended> {
        let status = Command::new("kill")
            .args(["-TERM", &self.id().to_string()])
            .status()?;
        ensure!(status.success(), "kill -TERM: {status}");
        self.finish()
    }

    fn keep(&mut self, line: &str) {
        self.output.push_str(line);
        self.output.push('\n');
    }

    fn end(&mut self) -> Result<Ended> {
        let status = self.child.wait()?;
        while let Ok(Said::Line(line)) = self.said.recv_timeout(SILENCE_MAX) {
            self.keep(&line);
        }
        let errors = self.errors.take().and_then(|reader| reader.join().ok());
        Ok(Ended {
            status,
            output: self.output.clone(),
            errors: errors.unwrap_or_default(),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pass_on(stdout: impl BufRead, sender: &Sender<Said>) {
    for line in stdout.lines().map_while(Result::ok) {
        if sender.send(Said::Line(line)).is_err() {
            return;
        }
    }
    // Nobody may be listening any more.
    let _ = sender.send(Said::End);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start(command).unwrap()
    }

    #[test]
    fn a_line_is_waited_for_and_all_of_the_output_is_kept() {
        let mut process = shell("echo one; echo two >&2; echo three; read never");
        assert_eq!(
            process.until(|line| line.starts_with("th")).unwrap(),
            "three"
        );
        let ended = process.finish().unwrap();
        assert_eq!(
            (ended.output.as_str(), ended.errors.as_str()),
            ("one\nthree\n", "two\n")
        );
    }

    #[test]
    fn a_process_that_ends_without_the_line_is_an_error_with_its_words() {
        let error = shell("echo why >&2; exit 3")
            .until(|_| true)
            .unwrap_err()
            .to_string();
        assert!(error.contains("why") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_json_value_over_many_lines_is_waited_for() {
        let mut process = shell("echo '{'; echo '\"ready\": true'; echo '}'; echo more");
        assert_eq!(process.until_json().unwrap()["ready"], true);
        assert_eq!(process.until(|_| true).unwrap(), "more");
    }

    #[test]
    fn a_process_is_killed_in_the_middle_or_ends_before() {
        let mut endless = shell("while :; do echo on; done");
        let short_while = Duration::from_millis(20);
        assert_eq!(endless.watch(short_while, |_| false), Watched::Running);
        assert_eq!(
            endless.watch(SILENCE_MAX, |line| line == "on"),
            Watched::Said
        );
        assert!(endless.kill().unwrap().was_killed());
        let mut short = shell("echo '{\"done\":true}'");
        assert_eq!(short.watch(SILENCE_MAX, |_| false), Watched::Ended);
        let ended = short.kill().unwrap();
        assert!(!ended.was_killed());
        assert_eq!(ended.json().unwrap()["done"], true);
    }

    #[test]
    fn the_last_json_value_of_the_output_counts() {
        let ended = shell("echo '{\"step\":1}'; echo '{\"bundle\":'; echo '\"b\"}'")
            .finish()
            .unwrap();
        assert_eq!(ended.json().unwrap()["bundle"], "b");
        assert!(shell("echo no json").finish().unwrap().json().is_err());
        assert!(shell("echo '{}'; exit 1").finish().unwrap().json().is_err());
    }
}
