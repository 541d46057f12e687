//! The whole verification of a bundle, in the order in which one thing rests on another.

use std::path::Path;

use counterfoil_evidence::replay::{Blobs, Facts, Outcome};
use counterfoil_tlog::Checkpoint;
use sha2::{Digest, Sha256};

use crate::anchor;
use crate::bundle::{BundleError, BundleInfo, BundleReader, path};
use crate::check::{Check, Finder, Status, Verdict, Weight};
use crate::container::Container;
use crate::cosigned::Cosigned;
use crate::disclosures::Disclosed;
use crate::history::History;
use crate::keys::{self, Head};
use crate::log::LogWalk;
use crate::producers::Producers;
use crate::structure;
use crate::trust::Trust;

/// How to verify.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'o> {
    /// Where the trust file is, to see that it is not in the bundle.
    pub trust_file: Option<&'o Path>,
    /// The log must reach this moment, milliseconds since 1970.
    pub as_of_ms: Option<i64>,
    /// The auditor's clock, milliseconds since 1970: no witness states a later time. `None`: nobody says.
    pub now_ms: Option<i64>,
    /// How long after a fact it may be in the log (I-04), milliseconds; `None`:
    /// [`counterfoil_evidence::replay::INTEGRATION_DELAY_MAX_MS`].
    pub delay_max_ms: Option<i64>,
    /// Threads to use; 0 = as many as there are cores.
    pub threads: usize,
}

/// What a verification found.
#[derive(Debug)]
pub struct Verification {
    /// All checks, in a fixed order.
    pub checks: Vec<Check>,
    /// What they say together.
    pub verdict: Verdict,
    /// What the records amount to. Worth as much as the verdict.
    pub facts: Facts,
    /// What the bundle claims to be.
    pub info: BundleInfo,
    /// What the checkpoint says, when it can be read.
    pub checkpoint: Option<Checkpoint>,
    /// Trusted witnesses that cosigned, and the newest time they state in seconds.
    pub witnesses: (Vec<String>, Option<u64>),
    /// Trusted witnesses that cosigned the anchor log's checkpoint under which everything of it is proved.
    pub anchor_witnesses: Vec<String>,
    /// Openings by label.
    pub(crate) disclosed: Disclosed,
    /// Checkpoints that were kept and compared.
    pub kept_checkpoints: usize,
}

impl Verification {
    /// The checks that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Check> {
        self.checks
            .iter()
            .filter(|check| check.status == Status::Fail)
    }
}

/// Verifies a bundle against what the auditor trusts.
///
/// # Errors
/// When the bundle cannot be read: it is malformed, and nothing is known of it.
pub fn verify(
    bundle: &BundleReader,
    trust: &Trust,
    options: &Options<'_>,
) -> Result<Verification, BundleError> {
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        threads => threads,
    };
    let container = Container::read(bundle, threads)?;
    let note = bundle.read(path::CHECKPOINT, 64 << 10)?;
    let (head, key_checks) = keys::judge(&note, trust);
    let (container, mut checks) =
        container.judge(bundle, head.checkpoint.as_ref(), options.trust_file);
    checks.extend(key_checks);
    let cosigned = Cosigned::read(bundle, &note, (head.log, trust), options.now_ms);
    let read = read_log(bundle, &container, &head, (cosigned, options), threads);
    checks.extend(read.checks);
    let said = head.checkpoint.as_ref();
    let (anchor_checks, anchor_witnesses) = anchor::judge(bundle, head.log, trust.anchor(), said);
    checks.extend(anchor_checks);
    let mut checks = in_order(with_derived(checks));
    checks.dedup_by(|a, b| a.id == b.id);
    Ok(Verification {
        verdict: Verdict::of(&checks),
        checks,
        facts: read.facts,
        info: bundle.info().clone(),
        kept_checkpoints: head.log.map_or(0, |log| log.checkpoints.len()),
        checkpoint: head.checkpoint,
        witnesses: (head.cosigners, head.witnessed_s),
        anchor_witnesses,
        disclosed: read.disclosed,
    })
}

/// What was found in the log.
#[derive(Default)]
struct Read {
    checks: Vec<Check>,
    facts: Facts,
    disclosed: Disclosed,
}

fn read_log(
    bundle: &BundleReader,
    container: &Container,
    head: &Head<'_>,
    (cosigned, options): (Cosigned, &Options<'_>),
    threads: usize,
) -> Read {
    let Some(said) = &head.checkpoint else {
        return Read {
            checks: unread(),
            ..Read::default()
        };
    };
    let origin = head.log.map(|log| log.origin.as_str());
    let registrar = head.log.map(|log| &log.registrar);
    let kept = head.log.map_or(&[][..], |log| log.checkpoints.as_slice());
    let mut walk = LogWalk::new(
        origin,
        said.size,
        Producers::new(registrar),
        History::new(kept, cosigned),
    );
    if let Some(delay_max_ms) = options.delay_max_ms {
        walk.replay = walk.replay.with_delay_max_ms(delay_max_ms);
    }
    walk.walk(bundle, threads);
    let (s7, mut checks) = walk.finish();
    checks.extend(structure::judge(bundle, said, &walk.tree, s7, walk.whole));
    checks.extend(walk.history.finish(said, options.as_of_ms));
    checks.extend(walk.producers.finish(container));
    checks.push(walk.schemas.judge(bundle));
    let replay = &mut walk.replay;
    let (disclosed, openings) = walk.commitments.judge(bundle, &mut |at, label, value| {
        replay.opened(at, label, value);
    });
    checks.extend(openings);
    let blobs = BundleBlobs {
        bundle,
        size: said.size,
    };
    let Outcome { judgements, facts } = walk.replay.finish(&blobs);
    checks.extend(judgements.into_iter().map(Check::from));
    if !walk.whole {
        checks.iter_mut().for_each(cut_short);
    }
    Read {
        checks,
        facts,
        disclosed,
    }
}

/// What was judged over the beginning of a log alone says nothing of the log; only what is wrong with files stands.
fn cut_short(check: &mut Check) {
    if !matches!(check.id, "S2" | "S7" | "S8" | "S11") {
        check.status = Status::Skip;
        "the log could not be read to its end".clone_into(&mut check.detail);
    }
}

/// Largest attachment that is replayed: more than twenty million grants of one source.
const SET_BYTES_MAX: u64 = 2 << 30;

/// Attachments out of a bundle, each looked at again before it is believed, and its tiles, which are judged by themselves.
struct BundleBlobs<'b> {
    bundle: &'b BundleReader,
    /// Of the log.
    size: u64,
}

impl Blobs for BundleBlobs<'_> {
    fn load(&self, sha256: &[u8; 32]) -> Option<Vec<u8>> {
        let name = hex::encode(sha256);
        let files = [
            format!("{}{name}", path::BLOBS),
            // One copy of a schema is enough.
            format!("{}{name}.binpb", path::SCHEMAS),
        ];
        let found = files.iter().find_map(|file| {
            let size = self.bundle.size(file)?;
            Some((file, size))
        });
        let (file, size) = found?;
        let bytes = self.bundle.read(file, size.min(SET_BYTES_MAX)).ok()?;
        (Sha256::digest(&bytes).as_slice() == sha256).then_some(bytes)
    }

    fn root(&self, size: u64) -> Option<[u8; 32]> {
        structure::root_at(self.bundle, self.size, size).map(|root| root.0)
    }
}

/// Invariants that are what several checks say together.
const DERIVED: &[(&str, &str, &[&str])] = &[
    (
        "I-01",
        "every record is under a checkpoint that the pinned key signed",
        &["S1", "S2", "S3", "S7", "K1"],
    ),
    (
        "I-02",
        "all checkpoints known are of one history; size and time never decrease",
        &["W1", "W2", "W4", "C2"],
    ),
    (
        "I-03",
        "every stream is numbered without gap and chained",
        &["P2"],
    ),
    (
        "I-06",
        "every record is signed by a key that was registered and not revoked",
        &["P1", "P4"],
    ),
];

fn with_derived(mut checks: Vec<Check>) -> Vec<Check> {
    for (id, title, parts) in DERIVED {
        let of = |status: Status| -> Vec<&str> {
            checks
                .iter()
                .filter(|check| parts.contains(&check.id) && check.status == status)
                .map(|check| check.id)
                .collect()
        };
        let mut finder = Finder::new(id, &[], title);
        let (failed, skipped) = (of(Status::Fail), of(Status::Skip));
        if !failed.is_empty() {
            finder.fail(format!("{} failed", failed.join(", ")));
        }
        let judged = checks
            .iter()
            .filter(|check| parts.contains(&check.id))
            .count();
        if !skipped.is_empty() || judged < parts.len() {
            finder.skip(format!("not all of {} could be judged", parts.join(", ")));
        }
        finder.note(format!("by {}", parts.join(", ")));
        checks.push(finder.finish());
    }
    checks
}

/// The order in which checks are told: by layer, then by number.
fn in_order(mut checks: Vec<Check>) -> Vec<Check> {
    const LAYERS: &[&str] = &["S", "C", "K", "W", "P", "B", "D", "I", "G"];
    let key = |check: &Check| {
        let layer = LAYERS
            .iter()
            .position(|layer| check.id.starts_with(layer))
            .unwrap_or(LAYERS.len());
        let number: u32 = check
            .id
            .trim_start_matches(|c: char| !c.is_ascii_digit())
            .parse()
            .unwrap_or(0);
        (layer, number)
    };
    checks.sort_by_key(key);
    checks
}

/// Without a checkpoint nothing of the log can be judged.
fn unread() -> Vec<Check> {
    const LAYERS: &[(&str, &str)] = &[
        (
            "S1",
            "every entry has the leaf hash that the tree has for it",
        ),
        ("S2", "every hash tile recomputes from what is below it"),
        ("S3", "the root over the entries is the checkpoint's"),
        ("S4", "every entry and record is of this log"),
        ("S7", "every tile and entry bundle is there, exactly"),
        ("S8", "every partial tile is the beginning of the wider one"),
        ("S10", "every entry and record is in its canonical bytes"),
        (
            "S11",
            "nothing was pruned: the log begins with its first entry",
        ),
        (
            "C1",
            "every entry stands at its index and names the one before",
        ),
        ("C2", "the time of integration never goes back"),
        ("C3", "the chain is made of the leaf hashes of the tree"),
        (
            "W1",
            "the log only appended to every checkpoint that the auditor kept, and that the bundle has",
        ),
        ("W2", "nothing is cut off"),
        (
            "W3",
            "entries were integrated between the times at which witnesses saw the log without and with them",
        ),
        ("W4", "no two checkpoints of one size have different roots"),
        (
            "W7",
            "every line of a trusted witness is its cosignature of that checkpoint, of a time that can be",
        ),
        ("P1", "every record is signed by its producer"),
        ("P2", "every stream is without gap, repetition or fork"),
        ("P3", "no record is there twice"),
        (
            "P4",
            "every key was registered for its stream and type, and not revoked",
        ),
        ("P5", "every attachment is there as its record names it"),
        ("P6", "every schema is there, and is read as it was meant"),
        ("D1", "every opening is of the value that was committed to"),
        ("D2", "every opening belongs to one commitment of the log"),
    ];
    let skip = |id, aliases: Vec<&'static str>, title| Check {
        id,
        aliases,
        title,
        status: Status::Skip,
        detail: "there is no readable checkpoint".to_owned(),
        weight: Weight::Required,
    };
    let layers = LAYERS
        .iter()
        .map(|(id, title)| skip(*id, Vec::new(), *title));
    let replayed = counterfoil_evidence::replay::check::CHECKS
        .iter()
        .map(|check| skip(check.id, check.aliases.to_vec(), check.title));
    layers.chain(replayed).collect()
}
