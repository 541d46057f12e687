//! Other people's implementations, as `tests/run` installs them: Go's `x/mod/sumdb` and two Python packages.
//!
//! A tool that is missing is an error, never a skipped test: a check that nobody made must not look like one that passed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};

use crate::repository::{root, target_dir};

/// What a checker said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it exited with 0.
    pub accepted: bool,
    /// What it printed, both streams.
    pub said: String,
}

/// Runs a checker to its end.
///
/// # Errors
/// When it cannot be started; a refusal is a verdict, not an error.
pub fn run(command: &mut Command) -> Result<Verdict> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(Verdict {
        accepted: output.status.success(),
        said,
    })
}

/// The Go checker of a log directory, built once.
///
/// # Errors
/// When Go or its packages are missing, or the checker does not build.
pub fn tlogcheck() -> Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build_tlogcheck().map_err(|error| format!("{error:#}")));
    built.as_deref().map_err(|error| anyhow!("{error}"))
}

fn build_tlogcheck() -> Result<PathBuf> {
    let tools = target_dir()?.join("interop");
    std::fs::create_dir_all(&tools)?;
    let executable = tools.join("tlogcheck");
    let source = root().join("tests/interop/tlogcheck");
    let mut go = Command::new("go");
    go.args(["build", "-o"])
        .arg(&executable)
        .arg(".")
        .current_dir(source);
    go.env("GO111MODULE", "off")
        .env("GOPATH", "/usr/share/gocode")
        .env("GOCACHE", tools.join("go-cache"));
    let verdict = run(&mut go).context("Go is installed by ./tests/run install")?;
    ensure!(verdict.accepted, "building tlogcheck: {}", verdict.said);
    Ok(executable)
}

/// A command that runs `tests/interop/check.py` with the Python that has the packages.
///
/// # Errors
/// When `tests/run` has not installed them.
pub fn python_check() -> Result<Command> {
    python("check.py")
}

/// A command that runs `tests/interop/sparse_map.py`.
///
/// # Errors
/// When `tests/run` has not installed Python.
pub fn python_sparse_map() -> Result<Command> {
    python("sparse_map.py")
}

fn python(script: &str) -> Result<Command> {
    let python = root().join("target/tools/python/bin/python");
    ensure!(
        python.exists(),
        "the Python packages are installed by ./tests/run install"
    );
    let mut command = Command::new(python);
    command.arg(root().join("tests/interop").join(script));
    Ok(command)
}
