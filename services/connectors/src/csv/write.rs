//! Takes rows out of grants.csv by writing a new file beside it and renaming.
//!
//! Invariants: every byte of every other row stays as it is, also of rows the reader would refuse; at any moment the file
//! under its name is the old one or the new one, whole; one writer at a time, held together by a lock on a file that is
//! never removed; what a crash left behind is cleaned by the next writer. Somebody who edits the file by hand takes no lock:
//! a change of theirs is noticed up to the moment before the rename. Where control.csv stands, nothing is touched.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::connector::{GrantRef, Hash, RevokeRequest, WriteOutcome};
use crate::csv::lines::{Fields, LINE_BYTES_MAX, Line, Lines, content};
use crate::csv::source::{Stamp, file_error, has_control_file};
use crate::csv::table::{Layout, control, grant};
use crate::error::{ConnectorError, Result};

pub(crate) const LOCK_FILE: &str = ".counterfoil.lock";
/// One name is enough: only the holder of the lock uses it.
pub(crate) const NEW_FILE: &str = ".grants.csv.counterfoil.new";
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Where a crash may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Locked,
    Cleaned,
    Surveyed,
    NewFileCreated,
    NewFileWritten,
    NewFileSynced,
    Renamed,
    DirectorySynced,
}

/// The directory whose grants.csv is rewritten.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) directory: PathBuf,
    pub(crate) principal: String,
    pub(crate) lock_timeout: Duration,
}

/// The file as it was found, and what it held for each grant asked for.
struct Survey {
    stamp: Stamp,
    states: Vec<Option<Hash>>,
}

impl Target {
    fn grants_path(&self) -> PathBuf {
        self.directory.join(grant::TABLE.file)
    }

    fn failed(&self, error: &io::Error) -> ConnectorError {
        file_error(&self.directory, grant::TABLE.file, &self.principal, error)
    }

    /// Checks that the file can be read and the lock be had.
    pub(crate) fn probe(&self) -> Result<()> {
        self.refuse_foreign_totals()?;
        self.states(&[])?;
        self.lock().map(drop)
    }

    /// What the file holds for each of the grants now.
    pub(crate) fn states(&self, grants: &[GrantRef]) -> Result<Vec<Option<Hash>>> {
        let keys: Vec<(&str, &str)> = grants.iter().map(pair).collect();
        let mut survey = self.survey(&wanted(&keys))?;
        Ok(keys_to_results(&keys, |slot| {
            survey.states.get_mut(slot).and_then(|state| *state)
        }))
    }

    /// Takes the grants away in one rewrite. `at` hears of every step; only a test listens.
    pub(crate) fn revoke(
        &self,
        requests: &[RevokeRequest],
        at: &mut dyn FnMut(Step),
    ) -> Vec<Result<WriteOutcome>> {
        match self.try_revoke(requests, at) {
            Ok(results) => results,
            Err(error) => requests.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn try_revoke(
        &self,
        requests: &[RevokeRequest],
        at: &mut dyn FnMut(Step),
    ) -> Result<Vec<Result<WriteOutcome>>> {
        self.refuse_foreign_totals()?;
        let lock = self.lock().map_err(ConnectorError::before_write)?;
        at(Step::Locked);
        self.remove_leftover()?;
        at(Step::Cleaned);
        let keys: Vec<(&str, &str)> = requests
            .iter()
            .map(|request| {
                (
                    request.account_native_id.as_str(),
                    request.entitlement_native_id.as_str(),
                )
            })
            .collect();
        let slots = wanted(&keys);
        let survey = self.survey(&slots).map_err(ConnectorError::before_write)?;
        at(Step::Surveyed);
        let mut remove = vec![false; survey.states.len()];
        let mut results = Vec::with_capacity(requests.len());
        for (request, key) in requests.iter().zip(&keys) {
            results.push(decide(
                request,
                &survey,
                slots.get(key).copied(),
                &mut remove,
            ));
        }
        if remove.contains(&true) {
            let response_hash = self.rewrite(&slots, &remove, survey.stamp, at)?;
            for result in &mut results {
                if let Ok(WriteOutcome::Applied {
                    response_hash: hash,
                    ..
                }) = result
                {
                    *hash = response_hash;
                }
            }
        }
        drop(lock);
        log(requests, &results);
        Ok(results)
    }

    /// The totals of control.csv are the exporting system's own. A row taken away here would make them false, and no reading
    /// after it could be COMPLETE: nothing could ever be verified as gone.
    fn refuse_foreign_totals(&self) -> Result<()> {
        if !has_control_file(&self.directory) {
            return Ok(());
        }
        Err(ConnectorError::refused(format!(
            "{} states the exporting system's own totals, which a removal here would make false; nothing was changed: take \
             access away in that system and register this source as read-only",
            control::TABLE.file
        )))
    }

    fn lock(&self) -> Result<File> {
        let path = self.directory.join(LOCK_FILE);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| file_error(&self.directory, LOCK_FILE, &self.principal, &error))?;
        let deadline = Instant::now() + self.lock_timeout;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(self.failed(&error)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(ConnectorError::not_attempted(format!(
                        "another writer held {LOCK_FILE} for more than {} ms",
                        self.lock_timeout.as_millis()
                    )));
                }
                // Locks of the file system cannot be waited for with a limit, so look again.
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_RETRY),
            }
        }
    }

    fn remove_leftover(&self) -> Result<()> {
        match fs::remove_file(self.directory.join(NEW_FILE)) {
            Ok(()) => {
                tracing::warn!(principal = %self.principal, "removed a half-written file that an earlier writer left");
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(nothing_done(&error)),
        }
    }

    /// Reads the file once and hashes the rows of each grant that is wanted.
    fn survey(&self, slots: &HashMap<(&str, &str), usize>) -> Result<Survey> {
        let path = self.grants_path();
        let metadata = fs::symlink_metadata(&path).map_err(|error| self.failed(&error))?;
        if !metadata.is_file() {
            return Err(ConnectorError::refused(format!(
                "{} is not a regular file, so it cannot be replaced",
                grant::TABLE.file
            )));
        }
        let file = File::open(&path).map_err(|error| self.failed(&error))?;
        let stamp = file.metadata().map(|metadata| Stamp::of(&metadata));
        let stamp = stamp.map_err(|error| self.failed(&error))?;
        let mut rows: Vec<Option<Sha256>> = vec![None; slots.len()];
        walk(file, slots, &mut io::sink(), |raw, slot, _| {
            if let Some(state) = slot.and_then(|slot| rows.get_mut(slot)) {
                let hasher = state.get_or_insert_with(Sha256::new);
                hasher.update(content(raw));
                hasher.update(b"\n");
            }
            Ok(())
        })?;
        let states = rows
            .into_iter()
            .map(|row| Some(row?.finalize().into()))
            .collect();
        Ok(Survey { stamp, states })
    }

    /// Writes the new file and puts it in the old one's place.
    fn rewrite(
        &self,
        slots: &HashMap<(&str, &str), usize>,
        remove: &[bool],
        stamp: Stamp,
        at: &mut dyn FnMut(Step),
    ) -> Result<Hash> {
        let new_path = self.directory.join(NEW_FILE);
        let written = self.write_new(&new_path, slots, remove, stamp, at);
        let hash = match written {
            Ok(hash) => hash,
            Err(error) => {
                // Best effort: whoever writes next removes it otherwise.
                let _ = fs::remove_file(&new_path);
                return Err(error.before_write());
            }
        };
        // If we crash here: the old file stands, the new one is a leftover, nothing was revoked.
        fs::rename(&new_path, self.grants_path()).map_err(|error| {
            ConnectorError::ambiguous(format!("renaming the new file: {error}"))
        })?;
        at(Step::Renamed);
        // If we crash here: either file may be the one that survives, whole; the attempt is AMBIGUOUS and is read again.
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| {
                ConnectorError::ambiguous(format!(
                    "the new file may not outlast a power cut: {error}"
                ))
            })?;
        at(Step::DirectorySynced);
        Ok(hash)
    }

    fn write_new(
        &self,
        new_path: &Path,
        slots: &HashMap<(&str, &str), usize>,
        remove: &[bool],
        stamp: Stamp,
        at: &mut dyn FnMut(Step),
    ) -> Result<Hash> {
        let old_path = self.grants_path();
        let old = File::open(&old_path).map_err(|error| nothing_done(&error))?;
        let metadata = old.metadata().map_err(|error| nothing_done(&error))?;
        let new = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(new_path)
            .map_err(|error| nothing_done(&error))?;
        at(Step::NewFileCreated);
        copy_ownership(&metadata, &new).map_err(|error| nothing_done(&error))?;
        let mut out = HashingWriter {
            inner: BufWriter::with_capacity(256 * 1024, new),
            hasher: Sha256::new(),
        };
        walk(old, slots, &mut out, |raw, slot, out| {
            let dropped = slot
                .and_then(|slot| remove.get(slot))
                .copied()
                .unwrap_or(false);
            if dropped { Ok(()) } else { out.write_all(raw) }
        })?;
        let hash = out.hasher.finalize().into();
        let new = out
            .inner
            .into_inner()
            .map_err(|error| nothing_done(error.error()))?;
        at(Step::NewFileWritten);
        new.sync_all().map_err(|error| nothing_done(&error))?;
        at(Step::NewFileSynced);
        match stamp.difference(&old_path) {
            None => Ok(hash),
            Some(what) => Err(ConnectorError::not_attempted(format!(
                "{} {what} while it was being rewritten",
                grant::TABLE.file
            ))),
        }
    }
}

fn pair(grant: &GrantRef) -> (&str, &str) {
    (&grant.account_native_id, &grant.entitlement_native_id)
}

/// Numbers the different grants among `keys`.
fn wanted<'a>(keys: &[(&'a str, &'a str)]) -> HashMap<(&'a str, &'a str), usize> {
    let mut slots = HashMap::with_capacity(keys.len());
    for &key in keys {
        let next = slots.len();
        slots.entry(key).or_insert(next);
    }
    slots
}

fn keys_to_results<T>(keys: &[(&str, &str)], mut of_slot: impl FnMut(usize) -> T) -> Vec<T> {
    let slots = wanted(keys);
    keys.iter()
        .filter_map(|key| slots.get(key).copied())
        .map(&mut of_slot)
        .collect()
}

/// What to do about one order; a second order for the same grant finds it absent.
fn decide(
    request: &RevokeRequest,
    survey: &Survey,
    slot: Option<usize>,
    remove: &mut [bool],
) -> Result<WriteOutcome> {
    let state = slot
        .and_then(|slot| survey.states.get(slot))
        .copied()
        .flatten();
    let (Some(before_hash), Some(removed)) = (state, slot.and_then(|slot| remove.get_mut(slot)))
    else {
        return Ok(WriteOutcome::AlreadyAbsent);
    };
    if *removed {
        return Ok(WriteOutcome::AlreadyAbsent);
    }
    if request
        .expected_before
        .is_some_and(|expected| expected != before_hash)
    {
        return Err(ConnectorError::refused(
            "the grant is no longer what it was when the order was made",
        ));
    }
    *removed = true;
    Ok(WriteOutcome::Applied {
        before_hash,
        // Filled in when the new file stands.
        response_hash: Hash::default(),
    })
}

/// Visits every line after the header with the slot of the grant it holds, if it is a wanted one. The header, and lines too
/// long to be looked at, go to `out` as they are.
fn walk<W: Write>(
    file: impl Read,
    slots: &HashMap<(&str, &str), usize>,
    out: &mut W,
    mut visit: impl FnMut(&[u8], Option<usize>, &mut W) -> io::Result<()>,
) -> Result<()> {
    let table = &grant::TABLE;
    let failed = |error: io::Error| nothing_done(&error);
    let mut lines = Lines::new(BufReader::with_capacity(256 * 1024, file));
    let mut fields = Fields::default();
    let header = match lines.next(out).map_err(failed)? {
        Some(Line::Whole(raw)) => raw,
        Some(Line::TooLong) => {
            return Err(ConnectorError::unreadable(
                table.file,
                format!("the header is longer than {LINE_BYTES_MAX} bytes"),
            ));
        }
        None => {
            return Err(ConnectorError::unreadable(
                table.file,
                "is empty: it has no header",
            ));
        }
    };
    let layout: Layout = table
        .layout(content(header))
        .map_err(|reason| ConnectorError::unreadable(table.file, reason))?;
    out.write_all(header).map_err(failed)?;
    while let Some(line) = lines.next(out).map_err(failed)? {
        if let Line::Whole(raw) = line {
            // A row that cannot be split holds no grant that anybody could have asked about.
            let slot = table
                .cells(&layout, &mut fields, content(raw))
                .ok()
                .and_then(|cells| {
                    slots
                        .get(&(cells.raw(grant::ACCOUNT), cells.raw(grant::ENTITLEMENT)))
                        .copied()
                });
            visit(raw, slot, out).map_err(failed)?;
        }
    }
    Ok(())
}

/// The new file must be usable by exactly those who could use the old one.
fn copy_ownership(old: &fs::Metadata, new: &File) -> io::Result<()> {
    let created = new.metadata()?;
    if (created.uid(), created.gid()) != (old.uid(), old.gid()) {
        fchown(new, Some(old.uid()), Some(old.gid()))?;
    }
    new.set_permissions(old.permissions())
}

/// An error met before the rename.
fn nothing_done(error: &io::Error) -> ConnectorError {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ConnectorError::Refused {
                code: error
                    .raw_os_error()
                    .and_then(|code| u32::try_from(code).ok()),
                reason: error.to_string(),
            }
        }
        _ => ConnectorError::not_attempted(error.to_string()),
    }
}

fn log(requests: &[RevokeRequest], results: &[Result<WriteOutcome>]) {
    for (request, result) in requests.iter().zip(results) {
        tracing::debug!(idempotency_key = %request.idempotency_key, applied = matches!(result, Ok(WriteOutcome::Applied { .. })), "revoked in grants.csv");
    }
}

struct HashingWriter<W> {
    inner: W,
    hasher: Sha256,
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        if let Some(written) = bytes.get(..count) {
            self.hasher.update(written);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
