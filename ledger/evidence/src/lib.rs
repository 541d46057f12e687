//! What the evidence means: records, entries, set leaves, situations, and the invariants replayed over them.
//!
//! Pure: no I/O, no clock, no async. Producers build records with it, the verifier replays them with it.
//!
//! - [`v1`]: the messages of `counterfoil/evidence/v1`, compiled without an RPC stack.
//! - [`record`]: canonical bytes, hashes and signatures of records and entries.
//! - [`anchor`]: what the anchor log proves of another log.
//! - [`catalogue`]: every record type with its `R` number and the stream that may carry it.
//! - [`engagement`]: what is asked of a provider that works for a customer.
//! - [`hold`]: what a legal hold keeps.
//! - [`leaf`]: the leaves of the sealed sets (grants, dispositions, decided grants, findings, actions, obligations).
//! - [`replay`]: the invariants of the domain, replayed over the records of a log.
//! - [`situation`]: what comparing approved with observed shows, as one pure function.

use std::sync::LazyLock;

use sha2::{Digest as _, Sha256};

/// The messages of `counterfoil/evidence/v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "generated from protos whose comments are linted by buf"
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/counterfoil.evidence.v1.rs"));
}

pub mod anchor;
pub mod catalogue;
pub mod engagement;
pub mod hold;
pub mod leaf;
pub mod place;
pub mod record;
pub mod replay;
pub mod situation;

/// The FileDescriptorSet of `counterfoil/evidence/v1`, without comments: what `Record.schema_hash` is the hash of.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/evidence.binpb"));

/// SHA-256 of [`DESCRIPTOR_SET`], worked out once: the set is a hundred times as long as a record, and every record names the hash.
#[must_use]
pub fn schema_hash() -> [u8; 32] {
    static HASH: LazyLock<[u8; 32]> = LazyLock::new(|| Sha256::digest(DESCRIPTOR_SET).into());
    *HASH
}
