//! Epochs of the anchor log: which heads the next one has, and the map over them.

use std::collections::HashMap;

use counterfoil_engine::{AnchorEpoch, AnchoredHead, LogHead, LogId};
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

/// Why there is no next epoch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoEpoch {
    /// A log is never taken away: the database lost some.
    #[error(
        "{anchored} logs were anchored and the database has {found}; `counterfoil ledger recover` brings back the others"
    )]
    Fewer {
        /// Logs of the last epoch.
        anchored: u64,
        /// Logs that have a head now.
        found: u64,
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
    /// Logs that it has.
    pub(crate) log_count: u64,
    /// Its time.
    pub(crate) anchored_at_ms: i64,
}

impl Last {
    /// From the payload of its record.
    pub(crate) fn of(anchored: &HeadsAnchored) -> Self {
        Self {
            number: anchored.epoch,
            hash: sha256(&anchored.encode_to_vec()).0,
            log_count: anchored.log_count,
            anchored_at_ms: anchored.anchored_at_ms,
        }
    }
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
/// them the origins of those that are not signed.
pub(crate) fn heads(
    anchored: &[AnchoredHead],
    now: Vec<LogHead>,
) -> (Vec<AnchoredHead>, Vec<String>) {
    let known: HashMap<LogId, &AnchoredHead> =
        anchored.iter().map(|head| (head.log, head)).collect();
    let tenants = now
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
    let found = heads.len() as u64;
    if found < last.log_count {
        return Err(NoEpoch::Fewer {
            anchored: last.log_count,
            found,
        });
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
        log_count: found,
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
