//! System calls that fail, one at a time: each call by which a short life of a log writes to a file, makes, renames or removes one. strace lets
//! the call fail with EIO or ENOSPC, or kills the process at it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use counterfoil_engine::{EngineError, Log};

use crate::figures::Figures;
use crate::history::History;
use crate::kill::keep_if_wrong;
use crate::place::Place;
use crate::records::{Position, Producer, origin, tenant};
use crate::victim::Line;

/// The calls that change files.
const CALLS: &str = "pwrite64,pwritev,write,writev,fsync,fdatasync,ftruncate,fallocate,openat,rename,renameat,renameat2,link,linkat,\
                     unlink,unlinkat,mkdir,mkdirat,flock";

/// What happens to a call, as strace says it.
const FAULTS: [&str; 3] = ["error=EIO", "error=ENOSPC", "signal=KILL"];

/// A short life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Life {
    /// A log is made, written and published, twice.
    Append,
    /// Its database comes from a backup; it is brought to its copy, written and published.
    Recover,
}

/// The records that a life sends of each stream, by number.
const FIRST: [u64; 3] = [3, 8, 0];
const SECOND: [u64; 3] = [3, 8, 6];
const THIRD: [u64; 3] = [3, 12, 6];

/// Lives a life, and says what is acknowledged.
pub(crate) async fn live(place: &Place, life: Life) -> anyhow::Result<()> {
    let ended = try_live(place, life).await;
    if let Err(error) = ended {
        let why = error.to_string();
        Line::Failed { why }.say();
    }
    Ok(())
}

async fn try_live(place: &Place, life: Life) -> anyhow::Result<()> {
    let engine = place.open().await?;
    let registrar = Producer::of(0)?;
    let (tenant, origin) = (tenant(0), origin(0));
    let log = engine.create_log(&tenant, &origin, registrar.key()).await?;
    match life {
        Life::Append => {
            write(place, &log, FIRST).await?;
            write(place, &log, SECOND).await?;
        }
        Life::Recover => {
            log.recover(&place.publication()?, &mut |_, _| {}).await?;
            write(place, &log, THIRD).await?;
        }
    }
    engine.close().await;
    Ok(())
}

/// Sends all records of each stream up to these, and publishes.
async fn write(place: &Place, log: &Log, up_to: [u64; 3]) -> anyhow::Result<()> {
    for (stream, last) in up_to.into_iter().enumerate() {
        let producer = Producer::of(stream)?;
        let (mut at, mut records) = (Position::START, Vec::new());
        while at.seq < last {
            let (record, next) = producer.next(0, at)?;
            records.push(record);
            at = next;
        }
        let outcomes: Result<_, EngineError> = log.append(records).await;
        for (seq, outcome) in (1..).zip(outcomes?) {
            let receipt = outcome?;
            Line::Receipt {
                log: 0,
                stream,
                seq,
                leaf: receipt.leaf_hash.to_string(),
                proof: receipt.tlog_proof,
            }
            .say();
        }
    }
    log.publish(&place.publication()?).await?;
    if let Some(note) = place.published(0)? {
        Line::Published { log: 0, note }.say();
    }
    Ok(())
}

/// Strikes every call of both lives, or every `episodes`-th part of them so that there are about as many.
pub(crate) async fn run(episodes: Option<usize>) -> anyhow::Result<Figures> {
    let mut figures = Figures::new("syscalls", "sqlite", 0);
    let folder = tempfile::tempdir()?;
    let mut cases = Vec::new();
    for life in [Life::Append, Life::Recover] {
        let before = folder.path().join(format!("{life:?}"));
        let place = Place::sqlite(&folder.path().join("place"));
        prepare(&place, life, &before)?;
        put_back(&before, &place)?;
        for ((path, call), count) in calls(&place, life)? {
            for number in 1..=count {
                for fault in FAULTS {
                    cases.push((life, path.clone(), call.clone(), number, fault));
                }
            }
        }
    }
    figures
        .counts
        .insert("calls", (cases.len() / FAULTS.len()) as u64);
    let every = episodes.map_or(1, |wanted| (cases.len() / wanted.max(1)).max(1));
    for (life, path, call, number, fault) in cases.into_iter().step_by(every) {
        figures.episode += 1;
        let before = folder.path().join(format!("{life:?}"));
        let place = Place::sqlite(&folder.path().join("place"));
        put_back(&before, &place)?;
        let case = format!("{life:?} {path} {call} {number} {fault}");
        let seen = figures.violations();
        strike(&place, life, [&path, &call, fault], number, &mut figures)
            .await
            .with_context(|| case.clone())?;
        if figures.violations() > seen {
            figures.wrong("wrong", case);
        }
    }
    keep_if_wrong(folder, &figures);
    Ok(figures)
}

/// Lives a life in which one call fails, then once more without; everything that was said must hold.
async fn strike(
    place: &Place,
    life: Life,
    [path, call, fault]: [&str; 3],
    number: u32,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let trace = place.folder.with_extension("trace");
    let mut strace = strace(&trace, place, life)?;
    strace.1.args(["-P", path, "-e", &format!("trace={call}")]);
    let inject = format!("inject={call}:{fault}:when={number}");
    let struck = finish(strace.0, strace.1.args(["-e", &inject]))?;
    let traced = fs::read_to_string(&trace)?;
    let is_reached = traced.contains("(INJECTED)") || traced.contains("killed by SIGKILL");
    figures.count(if is_reached { "struck" } else { "not_reached" });
    if !is_reached {
        // A name that is drawn by lot, or a call that another thread makes in this run.
        let case = format!("{life:?} {path} {call} {number} {fault}");
        let _ = writeln!(std::io::stderr().lock(), "not reached: {case}");
    }
    if struck
        .iter()
        .any(|line| matches!(line, Line::Failed { .. }))
    {
        figures.count("told");
    }
    let mut history = History::new(1);
    history.take(struck, figures);
    let again = finish(life_of(place, life)?, &mut Command::new("true"))?;
    for line in &again {
        if let Line::Failed { why } = line {
            figures.wrong("unclean", format!("the next start failed: {why}"));
        }
    }
    history.take(again, figures);
    history.check(place, figures).await
}

/// The command that lives a life.
fn life_of(place: &Place, life: Life) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([
        "life",
        match life {
            Life::Append => "append",
            Life::Recover => "recover",
        },
    ]);
    command.arg(&place.folder);
    Ok(command)
}

/// The command that lives a life, and the one that watches it.
fn strace(trace: &Path, place: &Place, life: Life) -> anyhow::Result<(Command, Command)> {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-s", "1", "-o"]).arg(trace);
    Ok((life_of(place, life)?, strace))
}

/// Runs a life, watched by another command unless that is `true`; what it said.
fn finish(life: Command, watch: &mut Command) -> anyhow::Result<Vec<Line>> {
    let mut command = if watch.get_program() == "true" {
        life
    } else {
        watch
            .arg("--")
            .arg(life.get_program())
            .args(life.get_args());
        std::mem::replace(watch, Command::new("true"))
    };
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8(output.stdout)?;
    // A line that was cut off said nothing.
    let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(Line::parse).collect()
}

/// Brings the place to where a life begins, and keeps it in a folder.
fn prepare(place: &Place, life: Life, kept: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(&place.folder)?;
    if life == Life::Recover {
        let live = |life| -> anyhow::Result<()> {
            let said = finish(life_of(place, life)?, &mut Command::new("true"))?;
            ensure!(!said.is_empty(), "nothing was said");
            match said.iter().find(|line| matches!(line, Line::Failed { .. })) {
                Some(failed) => bail!("{failed:?}"),
                None => Ok(()),
            }
        };
        live(Life::Append)?;
        fs::copy(place.database(), place.folder.join("backup"))?;
        live(Life::Recover)?;
        fs::rename(place.folder.join("backup"), place.database())?;
    }
    copy_all(&place.folder, kept)?;
    Ok(())
}

fn put_back(kept: &Path, place: &Place) -> anyhow::Result<()> {
    if place.folder.exists() {
        fs::remove_dir_all(&place.folder)?;
    }
    copy_all(kept, &place.folder)
}

fn copy_all(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// How often a life makes which call on which file.
fn calls(place: &Place, life: Life) -> anyhow::Result<BTreeMap<(String, String), u32>> {
    let trace = place.folder.with_extension("trace");
    let (command, mut strace) = strace(&trace, place, life)?;
    let said = finish(command, strace.args(["-e", &format!("trace={CALLS}")]))?;
    ensure!(
        !said.iter().any(|line| matches!(line, Line::Failed { .. })),
        "{said:?}"
    );
    let folder = place.folder.display().to_string();
    let mut calls = BTreeMap::new();
    for line in fs::read_to_string(&trace)?.lines() {
        let Some((call, arguments)) = called(line) else {
            continue;
        };
        let reads = call == "openat" && !arguments.contains("O_CREAT");
        if let (false, Some(path)) = (reads, path_of(arguments, &folder)) {
            *calls.entry((path, call.to_owned())).or_default() += 1;
        }
    }
    ensure!(calls.len() > 10, "strace saw {} files", calls.len());
    Ok(calls)
}

/// `PID CALL(ARGUMENTS` of a line that begins a call.
fn called(line: &str) -> Option<(&str, &str)> {
    let (_, call) = line.split_once(' ')?;
    let (name, arguments) = call.trim_start().split_once('(')?;
    let is_name = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then_some((name, arguments))
}

/// The first file of a folder that is named in the arguments, by its path or as what is open.
fn path_of(arguments: &str, folder: &str) -> Option<String> {
    let at = arguments.find(&format!("{folder}/"))?;
    let path = arguments.get(at..)?;
    let end = path.find(['"', '>'])?;
    let path = PathBuf::from(path.get(..end)?);
    Some(path.display().to_string())
}
