//! Writing files that others read meanwhile: they see the old one or the new one.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::Context as _;

/// Replaces a file that everybody may read.
pub(super) fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    write(path, text, 0o644)
}

/// Replaces a file that its owner alone may read.
pub(super) fn replace_private(path: &Path, text: &str) -> anyhow::Result<()> {
    write(path, text, 0o600)
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let failed = || format!("{} cannot be written", path.display());
    let draft = path.with_extension(format!("{}.new", uuid::Uuid::new_v4().simple()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&draft)
        .with_context(failed)?;
    file.write_all(text.as_bytes()).with_context(failed)?;
    file.sync_all().with_context(failed)?;
    // If we crash here: the old file stands, and a draft that nobody reads.
    fs::rename(&draft, path).with_context(failed)
}
