//! What trusted witnesses cosigned, and when: every line of theirs is good (W7), and the times of the entries lie between the times
//! that they state (W3).
//!
//! A bundle has cosigned checkpoints of smaller sizes in `checkpoints/`; the auditor may have kept others. A witness states the time
//! at which it saw a size: what the log had by then was integrated by then, and what came later was integrated later. Whoever has
//! the log's key can date an entry as they like, and no witness's line.

use std::collections::BTreeMap;

use counterfoil_evidence::replay::CLOCK_SKEW_MS;
use counterfoil_tlog::Checkpoint;
use counterfoil_tlog::note::{KeyKind, Note, SignatureLine, VerifierKey};

use crate::bundle::{BundleReader, path};
use crate::check::{Check, Finder};
use crate::keys::{is_good, lines_of};
use crate::time::format_rfc3339;
use crate::trust::{Trust, TrustedLog};

/// Largest note of a cosigned checkpoint.
const NOTE_BYTES_MAX: u64 = 64 << 10;
/// A checkpoint is cosigned so long after the log went on without it at most, milliseconds: witnesses rest, and published copies wait.
const LATE_MS_MAX: i64 = 86_400_000;

/// When a witness saw a size.
#[derive(Debug, Clone)]
struct Seen {
    size: u64,
    witness: String,
    at_ms: i64,
}

/// What is cosigned by witnesses that the auditor trusts.
#[derive(Debug)]
pub(crate) struct Cosigned {
    /// Checkpoints of the bundle that the pinned key signed, ascending by size.
    pub(crate) checkpoints: Vec<Checkpoint>,
    seen: Vec<Seen>,
    /// Times of integration at the entries that are asked for, as the log is read.
    times: BTreeMap<u64, Option<i64>>,
    w7: Finder,
}

impl Cosigned {
    /// Reads the lines on the checkpoint of the log, on those in `checkpoints/`, and on those that the auditor kept. `now_ms`: the
    /// auditor's clock, if there is one.
    pub(crate) fn read(
        bundle: &BundleReader,
        head: &[u8],
        (log, trust): (Option<&TrustedLog>, &Trust),
        now_ms: Option<i64>,
    ) -> Self {
        let mut cosigned = Self {
            checkpoints: Vec::new(),
            seen: Vec::new(),
            times: BTreeMap::new(),
            w7: Finder::new(
                "W7",
                &[],
                "every line of a trusted witness is its cosignature of that checkpoint, of a time that can be",
            ),
        };
        let Some(log) = log else {
            cosigned.w7.skip("there is no pinned key for this log");
            return cosigned;
        };
        let reader = Reader { trust, now_ms };
        if let Ok(note) = Note::parse(head) {
            cosigned.lines(&reader, "the checkpoint", &note);
        }
        for (file, size) in bundle.files_below(path::CHECKPOINTS) {
            let read = bundle.read(file, NOTE_BYTES_MAX);
            let read = read.map_err(|error| error.to_string());
            match read.and_then(|bytes| signed(&bytes, log)) {
                Ok((note, checkpoint)) => {
                    cosigned.checkpoints.push(checkpoint);
                    cosigned.lines(&reader, file, &note);
                }
                Err(why) => cosigned.w7.fail(format!("{file} ({size} bytes): {why}")),
            }
        }
        for kept in &log.notes {
            if let Ok(note) = Note::parse(kept.as_bytes()) {
                cosigned.lines(&reader, "a kept checkpoint", &note);
            }
        }
        cosigned.checkpoints.sort_by_key(|one| one.size);
        let lines = cosigned.seen.len();
        cosigned.w7.note(match trust.witnesses() {
            [] => "the trust file names no witness".to_owned(),
            _ => format!("{lines} cosignatures"),
        });
        cosigned
    }

    fn lines(&mut self, reader: &Reader<'_>, what: &str, note: &Note) {
        let Ok(checkpoint) = Checkpoint::parse(note.text()) else {
            return;
        };
        for key in reader.trust.witnesses() {
            for line in lines_of(note, key) {
                let Some(at_ms) = time_of(note, line, key) else {
                    let name = key.name();
                    self.w7.fail(format!("{what}: the line of {name} is bad"));
                    continue;
                };
                let is_past = |now_ms: i64| at_ms <= now_ms.saturating_add(CLOCK_SKEW_MS);
                if !reader.now_ms.is_none_or(is_past) {
                    let (name, at) = (key.name(), format_rfc3339(at_ms));
                    self.w7
                        .fail(format!("{what}: {name} states {at}, which is to come"));
                    continue;
                }
                let size = checkpoint.size;
                self.times
                    .extend([(size.saturating_sub(1), None), (size, None)]);
                self.seen.push(Seen {
                    size,
                    witness: key.name().to_owned(),
                    at_ms,
                });
            }
        }
    }

    /// Takes the time at which an entry was integrated.
    pub(crate) fn entry(&mut self, at: u64, recorded_ms: i64) {
        if let Some(time) = self.times.get_mut(&at) {
            *time = Some(recorded_ms);
        }
    }

    /// Both checks, once the log was read.
    pub(crate) fn finish(self) -> [Check; 2] {
        [self.times(), self.w7.finish()]
    }

    fn times(&self) -> Check {
        let mut w3 = Finder::new(
            "W3",
            &[],
            "entries were integrated between the times at which witnesses saw the log without and with them",
        );
        let time = |at: u64| self.times.get(&at).copied().flatten();
        for seen in &self.seen {
            let (witness, size) = (&seen.witness, seen.size);
            let at = format_rfc3339(seen.at_ms);
            let last = size.checked_sub(1).and_then(time);
            if let Some(last_ms) = last
                && last_ms > seen.at_ms.saturating_add(CLOCK_SKEW_MS)
            {
                let last = format_rfc3339(last_ms);
                w3.fail(format!(
                    "entry {} was integrated at {last}, and {witness} saw it at {at}",
                    size.saturating_sub(1)
                ));
            }
            if let Some(next_ms) = time(size)
                && next_ms < seen.at_ms.saturating_sub(LATE_MS_MAX)
            {
                let next = format_rfc3339(next_ms);
                w3.fail(format!(
                    "entry {size} was integrated at {next}, and {witness} saw the log without it at {at}"
                ));
            }
        }
        w3.note(match self.seen.len() {
            0 => "no cosignature bounds them".to_owned(),
            count => format!("{count} cosignatures bound them"),
        });
        w3.finish()
    }
}

/// By what lines are judged.
struct Reader<'t> {
    trust: &'t Trust,
    now_ms: Option<i64>,
}

/// A checkpoint of the log, if its pinned key signed it.
fn signed(bytes: &[u8], log: &TrustedLog) -> Result<(Note, Checkpoint), String> {
    let note = Note::parse(bytes).map_err(|error| error.to_string())?;
    let checkpoint = Checkpoint::parse(note.text()).map_err(|error| error.to_string())?;
    let by_log = lines_of(&note, &log.key).any(|line| is_good(&note, line, &log.key));
    match by_log && checkpoint.origin == log.origin {
        true => Ok((note, checkpoint)),
        false => Err("it is no checkpoint that the log's key signed".to_owned()),
    }
}

/// The time that a good cosignature states, milliseconds.
fn time_of(note: &Note, line: &SignatureLine, key: &VerifierKey) -> Option<i64> {
    if key.kind() != KeyKind::CosignatureV1 {
        return None;
    }
    let alone = Note::new(note.text(), vec![line.clone()]).ok()?;
    let verified = alone.verify(std::slice::from_ref(key)).ok()?;
    let seconds = verified.verified().first()?.timestamp?;
    Some(i64::try_from(seconds).ok()?.saturating_mul(1000))
}
