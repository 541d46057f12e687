//! Epochs of the anchor log: which heads the next one has, and the map over them.

use std::collections::{BTreeSet, HashMap, HashSet};

use counterfoil_engine::{AnchorEpoch, AnchoredHead, Heads, LogId};
use counterfoil_evidence::record::{RecordError, decode_canonical};
use counterfoil_evidence::v1::HeadsAnchored;
use counterfoil_tlog::hash::sha256;
use counterfoil_tlog::sparse_map::{MapLeaf, SparseMap, TwiceError, key_of, salt_of};
use prost::{Message as _, Name as _};

/// What the engine calls the tenant of the anchor log. No tenant is called so: their ids have no '_'.
pub(crate) const ANCHOR: &str = "_anchor";

/// Origin of a tenant's log, or of the anchor log.
pub(crate) fn origin_of(deployment: &str, tenant: &str) -> String {
    if tenant == ANCHOR {
        format!("{deployment}/anchor")
    } else {
        format!("{deployment}/t/{tenant}")
    }
}

/// How much of the time making epochs may take, where somebody waits for each: one part of so many.
const PART: i64 = 10;

/// Whether it is time for the next epoch: `since_ms` after the one before was begun, which took `took_ms`. Who waits for one does not wait for
/// its time, but making epochs is never most of what is done.
pub(crate) fn is_due(
    since_ms: i64,
    interval_ms: i64,
    took_ms: i64,
    is_wanted: impl FnOnce() -> bool,
) -> bool {
    // A clock that went back must not keep heads from being anchored.
    let early = (0..interval_ms).contains(&since_ms);
    let rests = (0..took_ms.saturating_mul(PART)).contains(&since_ms);
    !early || !rests && is_wanted()
}

/// Why there is no next epoch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoEpoch {
    /// A log is never taken away: the database lost some.
    #[error(
        "{missing} of {anchored} logs that were anchored have no signed head in the database; `counterfoil ledger recover` brings them back"
    )]
    Missing {
        /// Logs of which one was anchored, or is bound to be.
        anchored: u64,
        /// Logs among them that are not there.
        missing: u64,
    },
    /// The database does not know what was anchored, and nothing else says how far a log was then.
    #[error(
        "the database does not have the last epoch, and nothing remembers how far the log {origin} was; the files in high_water_dir do"
    )]
    Forgotten {
        /// Origin of the log.
        origin: String,
    },
    /// The first epoch is stated once, whatever is lost.
    #[error(
        "the key of the anchor log has stated epochs, and neither the database nor the log has one; `counterfoil ledger recover` \
         brings the log back (who has nothing to bring it back from and begins anew all the same, takes {note} away)"
    )]
    Begun {
        /// The file that says so.
        note: String,
    },
    /// Two origins have one SHA-256.
    #[error(transparent)]
    Twice(#[from] TwiceError),
    /// What is kept of an epoch is not what was written.
    #[error("what the database has of an epoch: {0}")]
    Unreadable(#[from] RecordError),
}

/// What the record of an epoch says.
pub(crate) fn payload(epoch: &AnchorEpoch) -> Result<HeadsAnchored, NoEpoch> {
    Ok(decode_canonical(&epoch.payload, HeadsAnchored::NAME)?)
}

/// The epoch before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Last {
    /// Its number; 0: there is none.
    pub(crate) number: u64,
    /// SHA-256 of its payload; zeros where there is none.
    pub(crate) hash: [u8; 32],
    /// Its time.
    pub(crate) anchored_at_ms: i64,
}

impl Last {
    /// From the payload of its record.
    pub(crate) fn of(anchored: &HeadsAnchored) -> Self {
        Self {
            number: anchored.epoch,
            hash: sha256(&anchored.encode_to_vec()).0,
            anchored_at_ms: anchored.anchored_at_ms,
        }
    }
}

/// Whether the map over these heads is what the newest epoch states: then the database knows the head of every log that was anchored.
pub(crate) fn is_whole(newest: &AnchorEpoch, heads: &[AnchoredHead]) -> Result<bool, NoEpoch> {
    let stated = payload(newest)?;
    Ok(map(&newest.secret, heads)?.root().as_bytes().as_slice() == stated.map_root)
}

/// Demands of every log that the anchor log bound, by the SHA-256 of its key, that it is among those of the next epoch.
pub(crate) fn all_there(
    bound: &BTreeSet<Vec<u8>>,
    heads: &[AnchoredHead],
    vkeys: &HashMap<LogId, String>,
) -> Result<(), NoEpoch> {
    let there: BTreeSet<Vec<u8>> = heads
        .iter()
        .filter_map(|head| vkeys.get(&head.log))
        .map(|vkey| sha256(vkey.as_bytes()).0.to_vec())
        .collect();
    let missing = bound.difference(&there).count() as u64;
    if missing > 0 {
        let anchored = bound.len() as u64;
        return Err(NoEpoch::Missing { anchored, missing });
    }
    Ok(())
}

/// An epoch that is about to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) epoch: AnchorEpoch,
    /// Its heads that are not those of the epoch before.
    pub(crate) changed: Vec<AnchoredHead>,
}

/// The heads that the next epoch has: those of now, never a smaller one than was anchored, and none that its log has not signed, because
/// what is anchored stays so. Of a log that fell back or is damaged, whoever writes it next finds out; here its last head stays. Beside
/// them the origins of those that are not signed, or cannot be read: they keep none of the others from being anchored.
pub(crate) fn heads(anchored: &[AnchoredHead], now: Heads) -> (Vec<AnchoredHead>, Vec<String>) {
    let known: HashMap<LogId, &AnchoredHead> =
        anchored.iter().map(|head| (head.log, head)).collect();
    let tenants = now
        .read
        .into_iter()
        .filter(|head| head.tenant != ANCHOR && head.size > 0);
    let (mut heads, mut unsigned) = (Vec::new(), Vec::new());
    for head in tenants {
        let known = known.get(&head.log).map(|known| (*known).clone());
        if known.as_ref().is_some_and(|known| known.size >= head.size) {
            heads.extend(known);
        } else if head.is_signed() {
            heads.push(AnchoredHead {
                log: head.log,
                origin: head.origin,
                size: head.size,
                root: head.root,
            });
        } else {
            heads.extend(known);
            unsigned.push(head.origin);
        }
    }
    let unreadable = now.unreadable.into_iter();
    for head in unreadable.filter(|head| head.tenant != ANCHOR) {
        heads.extend(known.get(&head.log).map(|known| (*known).clone()));
        unsigned.push(head.origin);
    }
    (heads, unsigned)
}

/// The epoch after `last`, if a head has changed since `anchored`.
pub(crate) fn next(
    last: &Last,
    anchored: &[AnchoredHead],
    heads: &[AnchoredHead],
    secret: [u8; 32],
    now_ms: i64,
) -> Result<Option<Next>, NoEpoch> {
    let found: HashSet<LogId> = heads.iter().map(|head| head.log).collect();
    let missing = anchored.iter().filter(|head| !found.contains(&head.log));
    let missing = missing.count() as u64;
    if missing > 0 {
        let anchored = anchored.len() as u64;
        return Err(NoEpoch::Missing { anchored, missing });
    }
    let known: HashMap<LogId, u64> = anchored.iter().map(|head| (head.log, head.size)).collect();
    let is_new = |head: &&AnchoredHead| known.get(&head.log) != Some(&head.size);
    let changed: Vec<AnchoredHead> = heads.iter().filter(is_new).cloned().collect();
    if changed.is_empty() {
        return Ok(None);
    }
    let payload = HeadsAnchored {
        epoch: last.number + 1,
        prev_epoch_hash: last.hash.to_vec(),
        map_root: map(&secret, heads)?.root().as_bytes().to_vec(),
        log_count: heads.len() as u64,
        // Clocks of replicas differ, and go back; epochs do not.
        anchored_at_ms: now_ms.max(last.anchored_at_ms),
    };
    let epoch = AnchorEpoch {
        number: payload.epoch,
        secret,
        payload: payload.encode_to_vec(),
        index: None,
    };
    Ok(Some(Next { epoch, changed }))
}

/// What a map says of a head.
pub(crate) fn leaf(secret: &[u8; 32], head: &AnchoredHead) -> MapLeaf {
    let key = key_of(&head.origin);
    MapLeaf {
        key,
        size: head.size,
        root: head.root,
        salt: salt_of(secret, &key),
    }
}

/// The map of an epoch.
pub(crate) fn map(secret: &[u8; 32], heads: &[AnchoredHead]) -> Result<SparseMap, TwiceError> {
    let leaves: Vec<MapLeaf> = heads.iter().map(|head| leaf(secret, head)).collect();
    SparseMap::new(&leaves)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_due_at_its_time_or_when_somebody_waits_and_the_last_one_was_quick() {
        let due = |since_ms, took_ms, wanted| is_due(since_ms, 10_000, took_ms, || wanted);
        assert!(due(10_000, 60_000, false) && due(-1, 60_000, false));
        assert!(!due(9_999, 0, false) && due(0, 0, true));
        assert!(!due(4_999, 500, true) && due(5_000, 500, true));
        // Who waits is not forgotten meanwhile.
        assert!(!is_due(4_999, 10_000, 500, || panic!("asked too early")));
    }
}
