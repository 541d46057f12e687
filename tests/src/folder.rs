//! Folders that outlive a test: what many tests of one process look at, and what is to be looked at when one has failed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::repository::target_dir;

/// A new, empty folder of this test process below cargo's target directory. It stays when the process ends; the next process
/// that asks for one of this name removes it.
///
/// # Errors
/// When it cannot be made.
pub fn fresh(name: &str) -> Result<PathBuf> {
    let parent = target_dir()?.join("e2e");
    fs::create_dir_all(&parent)?;
    let start = format!("{name}.");
    for entry in fs::read_dir(&parent)? {
        let entry = entry?;
        let found = entry.file_name().into_string().unwrap_or_default();
        let Some(process) = found
            .strip_prefix(&start)
            .and_then(|rest| rest.split('.').next())
        else {
            continue;
        };
        if !Path::new("/proc").join(process).exists() {
            // Another process may be removing it too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let folder = tempfile::Builder::new()
        .prefix(&format!("{name}.{}.", std::process::id()))
        .tempdir_in(&parent)
        .with_context(|| parent.display().to_string())?;
    Ok(folder.keep())
}

/// Copies a folder with all that is in it: plain files and folders.
///
/// # Errors
/// When something cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target).with_context(|| entry.path().display().to_string())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_empty_and_nobody_elses() {
        let first = fresh("unit").unwrap();
        let second = fresh("unit").unwrap();
        assert_ne!(first, second);
        assert_eq!(fs::read_dir(&second).unwrap().count(), 0);
        fs::create_dir(first.join("inner")).unwrap();
        fs::write(first.join("inner/file"), "text").unwrap();
        copy(&first, &second.join("copy")).unwrap();
        assert_eq!(
            fs::read_to_string(second.join("copy/inner/file")).unwrap(),
            "text"
        );
        for folder in [first, second] {
            fs::remove_dir_all(folder).unwrap();
        }
    }
}
