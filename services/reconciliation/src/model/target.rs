//! What other services say of targets: snapshots, grants, syncs and proofs, as far as the rules need them.

use std::collections::BTreeMap;

use counterfoil_evidence::leaf::{GrantKey, SourceTag};

use super::entities::Digest;

/// A sealed snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// SHA-256 of its record.
    pub(crate) record_hash: Digest,
    pub(crate) root: Digest,
    /// The sources it shows, and when reading of each ended.
    pub(crate) sources: BTreeMap<SourceTag, i64>,
}

/// A grant as inventory knows it now.
#[derive(Debug, Clone)]
pub(crate) struct GrantFacts {
    pub(crate) key: GrantKey,
    /// Whether it is there.
    pub(crate) present: bool,
    /// Whether it is given directly: only such a grant can be taken away.
    pub(crate) direct: bool,
    /// Bare id.
    pub(crate) source: String,
    pub(crate) account_native: String,
    pub(crate) entitlement_native: String,
    pub(crate) account_name: String,
    pub(crate) entitlement_name: String,
}

/// Who reads and who writes a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principals {
    pub(crate) reader: String,
    /// Empty when it is read-only.
    pub(crate) writer: String,
}

impl Principals {
    /// Whether who writes is not who confirms (I-36).
    pub(crate) fn are_independent(&self) -> bool {
        !self.writer.is_empty() && !self.reader.is_empty() && self.writer != self.reader
    }
}

/// How to write to a source.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    /// Connector settings.
    pub(crate) config_json: String,
    pub(crate) principals: Principals,
}

/// How a sync ended.
#[derive(Debug, Clone)]
pub(crate) struct SyncEnd {
    /// "tenants/{tenant}/syncs/{sync}".
    pub(crate) name: String,
    /// Whether it may be taken for the whole source.
    pub(crate) complete: bool,
    /// Why not, for people.
    pub(crate) reasons: String,
}

/// Presence or absence of one grant in a sealed set.
#[derive(Debug, Clone)]
pub(crate) struct Proof {
    pub(crate) present: bool,
    /// Canonical set proof.
    pub(crate) bytes: Vec<u8>,
}

/// Proofs against the set of one sync.
#[derive(Debug, Clone)]
pub(crate) struct Proofs {
    pub(crate) record_hash: Digest,
    pub(crate) set_root: Digest,
    pub(crate) set_count: u64,
    pub(crate) started_ms: i64,
    pub(crate) ended_ms: i64,
    pub(crate) reader: String,
    pub(crate) complete: bool,
    pub(crate) proofs: BTreeMap<GrantKey, Proof>,
}
