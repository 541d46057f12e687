//! Snapshots: the root over all sources, and why a source is missing from one.

use counterfoil_evidence::leaf::SourceTag;
use counterfoil_tlog::{hash::leaf_hash, merkle::Frontier};

use super::completeness::is_unreachable;

/// One source of a snapshot, as the root covers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedSource {
    /// Prefix of its grant keys.
    pub tag: SourceTag,
    /// SHA-256 of the SourceSyncSealed record.
    pub record_hash: [u8; 32],
    /// Root of its set.
    pub set_root: [u8; 32],
}

/// The RFC 6962 root over `source_tag[8] || record hash[32] || set_root[32]` of the sources, which must ascend by tag.
#[must_use]
pub fn snapshot_root(sources: &[SealedSource]) -> [u8; 32] {
    let mut frontier = Frontier::new();
    for source in sources {
        let leaf = [
            source.tag.0.as_slice(),
            &source.record_hash,
            &source.set_root,
        ]
        .concat();
        frontier.push(leaf_hash(&leaf));
    }
    frontier.root().0
}

/// The newest syncs of a source, as a snapshot judges them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// When reading ended in the newest COMPLETE sync.
    pub complete_ended_ms: Option<i64>,
    /// Reasons of the newest sealed sync, when that is PARTIAL.
    pub partial_reasons: Option<Vec<String>>,
}

/// Why a snapshot at `now_ms` must do without the source; `None` when it need not.
#[must_use]
pub fn missing_reason(standing: &Standing, now_ms: i64, age_max_ms: i64) -> Option<&'static str> {
    let failed = standing.partial_reasons.as_ref().map(|reasons| {
        if is_unreachable(reasons) {
            "unreachable"
        } else {
            "partial"
        }
    });
    match standing.complete_ended_ms {
        None => Some(failed.unwrap_or("never_synced")),
        Some(ended) if now_ms.saturating_sub(ended) > age_max_ms => {
            Some(failed.unwrap_or("too_old"))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_covers_every_part_of_every_source() {
        let source = SealedSource {
            tag: SourceTag([1; 8]),
            record_hash: [2; 32],
            set_root: [3; 32],
        };
        let one = snapshot_root(&[source]);
        let mut leaf = vec![1; 8];
        leaf.extend([2; 32]);
        leaf.extend([3; 32]);
        assert_eq!(one, leaf_hash(&leaf).0);
        let other = SealedSource {
            set_root: [4; 32],
            ..source
        };
        assert_ne!(snapshot_root(&[other]), one);
        assert_ne!(snapshot_root(&[source, other]), one);
    }

    #[test]
    fn a_source_is_missing_for_the_reason_that_says_most() {
        let standing = |complete, partial: Option<&str>| Standing {
            complete_ended_ms: complete,
            partial_reasons: partial.map(|code| vec![code.to_owned()]),
        };
        let reason = |standing: &Standing| missing_reason(standing, 1_000, 100);
        assert_eq!(reason(&standing(None, None)), Some("never_synced"));
        assert_eq!(reason(&standing(None, Some("row_error"))), Some("partial"));
        assert_eq!(
            reason(&standing(None, Some("unreachable"))),
            Some("unreachable")
        );
        assert_eq!(reason(&standing(Some(899), None)), Some("too_old"));
        assert_eq!(
            reason(&standing(Some(899), Some("source_died"))),
            Some("partial")
        );
        assert_eq!(reason(&standing(Some(900), Some("source_died"))), None);
        assert_eq!(reason(&standing(Some(2_000), None)), None);
    }
}
