//! A victim as a process, in the hands of whoever strikes it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::place::Place;
use crate::records::Position;
use crate::victim::Line;

/// The longest that a process which should go on may say nothing: a hang becomes a failure, not a stuck run.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A running victim; it does not outlive whoever holds it.
#[derive(Debug)]
pub(crate) struct Victim {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<std::io::Result<String>>,
    said: Vec<Line>,
}

impl Drop for Victim {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Victim {
    /// Starts one that writes on from these positions: by log, by stream.
    pub(crate) fn start(
        place: &Place,
        positions: &[Vec<Position>],
        seed: u64,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["victim", "--url", &place.url, "--folder"]);
        command.arg(&place.folder);
        command.args(["--logs", &positions.len().to_string()]);
        command.args(["--seed", &seed.to_string()]);
        Self::run(command, positions)
    }

    fn run(mut command: Command, positions: &[Vec<Position>]) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut input = child.stdin.take().context("no input")?;
        let output = child.stdout.take().context("no output")?;
        for (log, streams) in positions.iter().enumerate() {
            for (stream, Position { seq, hash }) in streams.iter().enumerate() {
                writeln!(input, "from {log} {stream} {seq} {}", hex::encode(hash))?;
            }
        }
        writeln!(input, "go")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            loop {
                let mut line = String::new();
                let read = output.read_line(&mut line);
                // The last line may be cut off: nobody was told what it says.
                let is_whole = line.ends_with('\n');
                let said = match read {
                    Ok(_) if !is_whole => return,
                    read => read.map(|_| line),
                };
                if sender.send(said).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            child,
            input: Some(input),
            lines,
            said: Vec::new(),
        })
    }

    /// Listens until it says what is waited for or the time is over; whether it did.
    pub(crate) fn listen(
        &mut self,
        time: Duration,
        until: impl Fn(&Line) -> bool,
    ) -> anyhow::Result<bool> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let line = Line::parse(line?.trim_end_matches('\n'))?;
                    let is_it = until(&line);
                    self.said.push(line);
                    if is_it {
                        return Ok(true);
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Ok(false),
                Err(RecvTimeoutError::Disconnected) => {
                    let ended = self.child.wait()?;
                    bail!(
                        "the victim ended by itself: {ended}; {:?}",
                        self.said.last()
                    );
                }
            }
        }
    }

    /// Waits until it acknowledges something, which it must.
    pub(crate) fn wait_for_receipt(&mut self) -> anyhow::Result<()> {
        let is_receipt = |line: &Line| matches!(line, Line::Receipt { .. });
        let heard = self.listen(SILENCE_MAX, is_receipt)?;
        ensure!(heard, "nothing is acknowledged: {:?}", self.said.last());
        Ok(())
    }

    /// What it said so far.
    pub(crate) fn said(&self) -> &[Line] {
        &self.said
    }

    /// Sends it a signal by name.
    pub(crate) fn signal(&self, name: &str) -> anyhow::Result<()> {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()?;
        ensure!(status.success(), "kill -{name}: {status}");
        Ok(())
    }

    /// Kills it; all that it said.
    pub(crate) fn kill(mut self) -> anyhow::Result<Vec<Line>> {
        self.child.kill()?;
        self.child.wait()?;
        self.rest()
    }

    /// Tells it to stop and waits for its end; all that it said.
    pub(crate) fn stop(mut self) -> anyhow::Result<Vec<Line>> {
        drop(self.input.take());
        let ended = self.child.wait()?;
        ensure!(ended.success(), "the victim failed: {ended}");
        self.rest()
    }

    fn rest(&mut self) -> anyhow::Result<Vec<Line>> {
        while let Ok(line) = self.lines.recv() {
            self.said.push(Line::parse(line?.trim_end_matches('\n'))?);
        }
        Ok(std::mem::take(&mut self.said))
    }
}
