//! The anchor log: it bound this log and no other in its place, the heads that its epochs have of it are this log's own, and it is the one
//! that the witnesses know (W9, W10, W11).

use counterfoil_evidence::anchor::{self, AnchorKeys, Anchored, Stated};
use counterfoil_tlog::anchor_proof::{ANCHOR_PROOF_BYTES_MAX, AnchorProof, LoggedEntry};
use counterfoil_tlog::{Checkpoint, VerifierKey};

use crate::bundle::{BundleReader, path};
use crate::check::{Check, Finder, Weight};
use crate::structure::root_at;
use crate::time::format_rfc3339;
use crate::trust::{TrustedAnchor, TrustedLog};

const W9: &str = "every epoch shown of the anchor log has this log's own head, and none went back";
const W10: &str = "the anchor log bound this log, under this origin and this key";

const W11: &str =
    "the witnesses that the auditor asks for have cosigned the anchor log's checkpoint";

/// Judges what is below `anchor/`. `said` is what the log's checkpoint says. Beside the checks the names of the witnesses who have cosigned.
pub(crate) fn judge(
    bundle: &BundleReader,
    log: Option<&TrustedLog>,
    trusted: Option<&TrustedAnchor>,
    said: Option<&Checkpoint>,
) -> (Vec<Check>, Vec<String>) {
    let (mut w9, mut w10) = (Finder::new("W9", &[], W9), Finder::new("W10", &[], W10));
    let mut w11 = Finder::new("W11", &[], W11).weighing(Weight::Policy);
    let mut cosigners = Vec::new();
    let shown = bundle.files_below(path::ANCHOR).next().is_some();
    let missing = match (trusted, log, said) {
        // Nobody asks for it.
        (None, ..) => {
            w9 = w9.weighing(Weight::Informative);
            w10 = w10.weighing(Weight::Informative);
            w11 = w11.weighing(Weight::Informative);
            Err("the trust file names no anchor log")
        }
        (_, None, _) => Err("there is no pinned key for this log"),
        (.., None) => Err("there is no readable checkpoint"),
        _ if !shown => Err("the bundle has nothing of the anchor log"),
        (Some(trusted), Some(log), Some(said)) => Ok((trusted, log, said)),
    };
    match missing {
        Err(why) => [&mut w9, &mut w10, &mut w11]
            .into_iter()
            .for_each(|one| one.skip(why)),
        Ok((trusted, log, said)) => {
            let keys = &trusted.keys;
            let bound = binding(bundle, &log.key, keys, &mut w10);
            let epochs = epochs(bundle, &log.origin, keys, &mut w9);
            cosigners = witnessed(trusted, &epochs, bound.as_ref(), &mut w11);
            in_order(&epochs, bound.as_ref(), &mut w9, &mut w10);
            of_this_log(bundle, said, &epochs, &mut w9);
        }
    }
    ([w9, w10, w11].map(Finder::finish).to_vec(), cosigners)
}

/// Whether every state of the anchor log that something is proved under has enough cosignatures: the operator has its key, and could show
/// each auditor another one. Names of those who have cosigned all of them.
fn witnessed(
    trusted: &TrustedAnchor,
    epochs: &[Anchored],
    bound: Option<&Stated>,
    w11: &mut Finder,
) -> Vec<String> {
    let of_epochs = epochs.iter().map(|anchored| &anchored.cosigners);
    let shown: Vec<_> = of_epochs
        .chain(bound.map(|bound| &bound.cosigners))
        .collect();
    let Some((first, others)) = shown.split_first() else {
        w11.skip("no proof of the anchor log holds");
        return Vec::new();
    };
    let of_all = |key: &&VerifierKey| others.iter().all(|cosigners| cosigners.contains(key));
    let cosigners: Vec<VerifierKey> = first.iter().filter(of_all).cloned().collect();
    let names: Vec<String> = cosigners.iter().map(|key| key.name().to_owned()).collect();
    w11.expect(trusted.quorum_met(&cosigners), || {
        format!(
            "{} of the trusted witnesses have cosigned, which is not enough",
            cosigners.len()
        )
    });
    w11.note(if trusted.asks_for_witnesses() {
        names.join(", ")
    } else {
        "none are asked for on the anchor log's checkpoint".to_owned()
    });
    names
}

fn read(bundle: &BundleReader, file: &str) -> Result<String, String> {
    let bytes = bundle.read(file, ANCHOR_PROOF_BYTES_MAX as u64);
    let bytes = bytes.map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

fn binding(
    bundle: &BundleReader,
    vkey: &VerifierKey,
    keys: &AnchorKeys,
    w10: &mut Finder,
) -> Option<Stated> {
    if bundle.size(path::ANCHOR_BOUND).is_none() {
        w10.fail("the bundle shows no TenantBound of this log");
        return None;
    }
    let bound = read(bundle, path::ANCHOR_BOUND).and_then(|text| {
        let logged = LoggedEntry::parse(&text).map_err(|error| error.to_string())?;
        anchor::bound(&logged, vkey, keys).map_err(|error| error.to_string())
    });
    match bound {
        Ok(bound) => {
            w10.note(format!("entry {} of {}", bound.index, keys.log.name()));
            Some(bound)
        }
        Err(why) => {
            w10.fail(format!("{}: {why}", path::ANCHOR_BOUND));
            None
        }
    }
}

/// The epochs whose proofs hold, ascending.
fn epochs(
    bundle: &BundleReader,
    origin: &str,
    keys: &AnchorKeys,
    w9: &mut Finder,
) -> Vec<Anchored> {
    let mut found = Vec::new();
    for (file, _) in bundle.files_below(path::ANCHOR_EPOCHS) {
        let anchored = read(bundle, file).and_then(|text| {
            let proof = AnchorProof::parse(&text).map_err(|error| error.to_string())?;
            let anchored =
                anchor::anchored(&proof, origin, keys).map_err(|error| error.to_string())?;
            let named = format!("{}{}", path::ANCHOR_EPOCHS, anchored.epoch.epoch);
            if named == file {
                Ok(anchored)
            } else {
                Err(format!("it is of epoch {}", anchored.epoch.epoch))
            }
        });
        match anchored {
            Ok(anchored) => found.push(anchored),
            Err(why) => w9.fail(format!("{file}: {why}")),
        }
    }
    if found.is_empty() {
        w9.skip("the bundle shows no epoch");
    }
    found.sort_by_key(|anchored| anchored.epoch.epoch);
    found
}

/// Epochs against each other and against the binding: one history of the anchor log, in which heads only grow.
fn in_order(epochs: &[Anchored], bound: Option<&Stated>, w9: &mut Finder, w10: &mut Finder) {
    for (one, next) in epochs.iter().zip(epochs.iter().skip(1)) {
        let (first, second) = (&one.epoch, &next.epoch);
        let number = second.epoch;
        w9.expect(one.checkpoint == next.checkpoint, || {
            format!("epoch {number} is shown under another state of the anchor log than the others")
        });
        w9.expect(
            one.index < next.index && first.anchored_at_ms <= second.anchored_at_ms,
            || format!("epoch {number} is not after epoch {}", first.epoch),
        );
        let follows =
            first.epoch.checked_add(1) != Some(number) || second.prev_epoch_hash == one.epoch_hash;
        w9.expect(follows, || {
            format!("epoch {number} names another epoch before it")
        });
        let (before, after) = (one.head.as_ref(), next.head.as_ref());
        let grew = match (before, after) {
            (Some(before), Some(after)) => before.size <= after.size,
            (Some(_), None) => false,
            (None, _) => true,
        };
        w9.expect(grew, || match after {
            None => format!(
                "epoch {number} has no head of this log, epoch {} had",
                first.epoch
            ),
            Some(after) => format!(
                "epoch {number} has a head of {} entries, epoch {} had more",
                after.size, first.epoch
            ),
        });
    }
    let Some(bound) = bound else { return };
    for anchored in epochs {
        let number = anchored.epoch.epoch;
        let absent = anchored.head.is_none() && anchored.index > bound.index;
        w9.expect(!absent, || {
            format!("epoch {number} has no head of this log, which was bound before")
        });
        let early = anchored.head.is_some() && anchored.index < bound.index;
        w10.expect(!early, || {
            format!("it was bound only after epoch {number} had a head of it")
        });
        w10.expect(anchored.checkpoint == bound.checkpoint, || {
            format!("it is shown under another state of the anchor log than epoch {number}")
        });
    }
}

/// The heads against the entries of the bundle.
fn of_this_log(bundle: &BundleReader, said: &Checkpoint, epochs: &[Anchored], w9: &mut Finder) {
    for anchored in epochs {
        let (number, Some(head)) = (anchored.epoch.epoch, &anchored.head) else {
            continue;
        };
        if head.size > said.size {
            w9.fail(format!(
                "epoch {number} has a head of {} entries, the log has {}",
                head.size, said.size
            ));
            continue;
        }
        match root_at(bundle, said.size, head.size) {
            Some(root) => w9.expect(root == head.root, || {
                format!(
                    "the first {} entries are not those that epoch {number} has",
                    head.size
                )
            }),
            None => w9.skip("the log could not be read to the sizes that were anchored"),
        }
    }
    let Some(newest) = epochs.last() else { return };
    if newest.head.is_none() {
        w9.skip("no epoch shown has a head of this log");
    }
    let size = newest.head.as_ref().map_or(0, |head| head.size);
    w9.note(format!(
        "{} of {} epochs shown; {size} of {} entries anchored at {}",
        epochs.len(),
        newest.epoch.epoch,
        said.size,
        format_rfc3339(newest.epoch.anchored_at_ms)
    ));
}
