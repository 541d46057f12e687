//! Where things are: the checkout, the shared real data, the target directory.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The root of the checkout.
#[must_use]
pub fn root() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// The folder of real data beside the checkout. Where it is missing this says so, by the test's name, past the test
/// runner's capture, and answers `None`: the test then ends early, and nobody can take it for run.
#[must_use]
pub fn shared_data(test: &str) -> Option<PathBuf> {
    let data = root().parent()?.join("shared/data");
    if data.is_dir() {
        return Some(data);
    }
    let mut stderr = std::io::stderr().lock();
    // A closed stderr is no reason to fail.
    let _ = writeln!(stderr, "SKIPPED {test}: ../shared is not there");
    None
}

/// Cargo's target directory, which this very executable was built into.
///
/// # Errors
/// When the executable does not lie in `<target>/<profile>/deps`, where cargo puts tests.
pub fn target_dir() -> Result<PathBuf> {
    let executable = std::env::current_exe().context("the path of this test")?;
    let target = executable
        .ancestors()
        .nth(3)
        .context("a test lies in <target>/<profile>/deps")?;
    Ok(target.to_owned())
}
