//! A life in a process of its own, which can be killed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use counterfoil_engine::{FaultPoint, Faults, Verdict};

use crate::life::{self, Life, Place};

/// Tells this program that it is such a process: `LIFE|POINT|NTH|URL|KEYS|OUTSIDE`.
const VARIABLE: &str = "COUNTERFOIL_CRASH_POINT";

/// The test that lives when it is told to.
const TEST: &str = "in_a_process_of_its_own";

/// What begins a line that is for the one who started the process.
const MARK: &str = "told: ";

/// Said when the point is reached: the process does nothing more.
const REACHED: &str = "reached";

/// Said when the life ended without a fault.
const ENDED: &str = "ended";

/// Said with the error that the life ended with.
const FAILED: &str = "failed ";

/// How a process ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It reached its point and was killed there.
    Killed,
    /// Something failed without being told to.
    Failed(String),
    /// Nothing failed.
    Well,
}

/// A process that does not outlive whoever waits for it.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Lives a life in a new process and kills it where it says; `kib`: how large a file it may write at most.
///
/// Answers what it told before its end.
pub(crate) fn live(
    place: &Place,
    life: Life,
    point: Option<(FaultPoint, u32)>,
    kib: Option<u32>,
) -> (Vec<String>, Ended) {
    let mut victim = Victim(start(place, life, point, kib));
    let output = BufReader::new(victim.0.stdout.take().unwrap());
    let mut said = Vec::new();
    let mut ended = None;
    for line in output.lines() {
        let Some(line) = line.unwrap().strip_prefix(MARK).map(str::to_owned) else {
            continue;
        };
        if line == REACHED {
            victim.0.kill().unwrap();
            let status = victim.0.wait().unwrap();
            assert_eq!(status.signal(), Some(9), "{status}");
            return (said, Ended::Killed);
        } else if line == ENDED {
            ended = Some(Ended::Well);
        } else if let Some(error) = line.strip_prefix(FAILED) {
            ended = Some(Ended::Failed(error.to_owned()));
        } else {
            said.push(line);
        }
    }
    (said, ended.expect("the process ended without a word"))
}

fn start(place: &Place, life: Life, point: Option<(FaultPoint, u32)>, kib: Option<u32>) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut command = match kib {
        None => Command::new(program),
        Some(kib) => {
            // A write beyond the limit fails then, as on a full disk, instead of ending the process.
            let mut shell = Command::new("bash");
            let limited = "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"";
            shell.args(["-c", limited, "bash", &kib.to_string()]);
            shell.arg(program);
            shell
        }
    };
    let (point, nth) = match point {
        Some((point, nth)) => (format!("{point:?}"), nth),
        None => (String::new(), 0),
    };
    let told = format!(
        "{life:?}|{point}|{nth}|{}|{}|{}",
        place.url,
        place.keys.display(),
        place.outside.display()
    );
    command
        .args([TEST, "--exact", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, told)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lives the life that this process was started for, if it was.
pub(crate) async fn live_if_told_to() {
    let Some(told) = std::env::var_os(VARIABLE) else {
        return;
    };
    let told = told.into_string().unwrap();
    let words: Vec<&str> = told.split('|').collect();
    let [life, point, nth, url, keys, outside] = words[..] else {
        panic!("{told}");
    };
    let life = Life::ALL.into_iter().find(|one| format!("{one:?}") == life);
    let place = Place::new(url.to_owned(), keys.into(), outside.into());
    let faults = Arc::new(StopAt {
        point: point.to_owned(),
        left: AtomicU32::new(nth.parse().unwrap()),
    });
    let ended = life::live(&place, life.unwrap(), faults, &mut |line| tell(&line)).await;
    match ended {
        Ok(()) => tell(ENDED),
        Err(error) => tell(&format!("{FAILED}{error}")),
    }
}

fn tell(line: &str) {
    let mut output = std::io::stdout().lock();
    // A line of its own, whatever the test harness has begun to write.
    write!(output, "\n{MARK}{line}\n").unwrap();
    output.flush().unwrap();
}

/// Says that the point is reached, and does nothing more until it is killed.
#[derive(Debug)]
struct StopAt {
    point: String,
    left: AtomicU32,
}

impl Faults for StopAt {
    fn at(&self, point: FaultPoint) -> Verdict {
        if format!("{point:?}") == self.point && self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            tell(REACHED);
            // Ends when whoever should kill this process has gone: then there is nobody to tell.
            drop(std::io::stdin().read_to_end(&mut Vec::new()));
            std::process::abort();
        }
        Verdict::Proceed
    }
}
