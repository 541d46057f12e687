//! What a crash leaves behind: at every step of a rewrite the directory is copied as the disk would show it, and every
//! copy must hold the old file or the new one, and be usable.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::write::{Step, Target};
use crate::connector::{RevokeRequest, WriteOutcome};
use crate::error::ConnectorError;

const OLD: &str = "account_native_id,entitlement_native_id\namy,crew\nfry,crew\nleela,crew\n";
const NEW: &str = "account_native_id,entitlement_native_id\namy,crew\nleela,crew\n";

fn target(directory: &Path) -> Target {
    Target {
        directory: directory.to_owned(),
        principal: "writer".to_owned(),
        lock_timeout: Duration::from_secs(5),
    }
}

fn order(account: &str) -> RevokeRequest {
    RevokeRequest {
        account_native_id: account.to_owned(),
        entitlement_native_id: "crew".to_owned(),
        idempotency_key: account.to_owned(),
        expected_before: None,
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Revokes fry's grant and keeps an image of the directory at every step.
fn images(directory: &Path, kept: &Path) -> Vec<(Step, PathBuf)> {
    let mut images = Vec::new();
    let results = target(directory).revoke(&[order("fry")], &mut |step| {
        let image = kept.join(format!("{step:?}"));
        copy(directory, &image);
        images.push((step, image));
    });
    assert!(
        matches!(results[..], [Ok(WriteOutcome::Applied { .. })]),
        "{results:?}"
    );
    images
}

#[test]
fn a_crash_at_any_step_leaves_the_old_file_or_the_new_one() {
    let directory = TempDir::new().unwrap();
    let kept = TempDir::new().unwrap();
    fs::write(directory.path().join("grants.csv"), OLD).unwrap();
    // What an earlier crash left must not get into the way either.
    fs::write(
        directory.path().join(".grants.csv.counterfoil.new"),
        "half a fi",
    )
    .unwrap();
    let images = images(directory.path(), kept.path());
    let steps: Vec<Step> = images.iter().map(|(step, _)| *step).collect();
    let all = [
        Step::Locked,
        Step::Cleaned,
        Step::Surveyed,
        Step::NewFileCreated,
        Step::NewFileWritten,
        Step::NewFileSynced,
        Step::Renamed,
        Step::DirectorySynced,
    ];
    assert_eq!(steps, all);
    for (step, image) in images {
        let renamed = matches!(step, Step::Renamed | Step::DirectorySynced);
        let content = fs::read_to_string(image.join("grants.csv")).unwrap();
        assert_eq!(content, if renamed { NEW } else { OLD }, "{step:?}");
        // Whoever comes after the crash finishes the work and leaves nothing lying about.
        let again = target(&image).revoke(&[order("fry")], &mut |_| {});
        match again.as_slice() {
            [Ok(WriteOutcome::AlreadyAbsent)] => assert!(renamed, "{step:?}"),
            [Ok(WriteOutcome::Applied { .. })] => assert!(!renamed, "{step:?}"),
            other => panic!("{step:?}: {other:?}"),
        }
        assert_eq!(
            fs::read_to_string(image.join("grants.csv")).unwrap(),
            NEW,
            "{step:?}"
        );
        let mut names: Vec<_> = fs::read_dir(&image)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, [".counterfoil.lock", "grants.csv"], "{step:?}");
    }
}

#[test]
fn a_file_edited_during_the_rewrite_is_not_overwritten() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("grants.csv");
    fs::write(&path, OLD).unwrap();
    let edited = format!("{OLD}zoidberg,crew\n");
    let results = target(directory.path()).revoke(&[order("fry")], &mut |step| {
        if step == Step::NewFileSynced {
            fs::write(&path, &edited).unwrap();
        }
    });
    assert!(
        matches!(results[..], [Err(ConnectorError::NotAttempted { .. })]),
        "{results:?}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), edited);
    assert!(
        !directory
            .path()
            .join(".grants.csv.counterfoil.new")
            .exists()
    );
}
