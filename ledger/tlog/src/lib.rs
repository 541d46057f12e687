//! The formats and the cryptography of the evidence ledger, and nothing else: no I/O, no clock, no async.
//!
//! Everything an auditor has to believe rests on this crate, so it is small, total (no panics on any input) and
//! strict: a byte string has exactly one meaning here, and what is not canonical is refused.
//!
//! | Module | What | Specification |
//! | --- | --- | --- |
//! | [`hash`], [`merkle`] | SHA-256 Merkle tree, its proofs and their verification | [RFC 6962 §2.1], [RFC 9162 §2.1] |
//! | [`note`] | signed notes, verifier keys, private key text | [c2sp.org/signed-note] v1.0.0 |
//! | [`checkpoint`] | origin, size, root | [c2sp.org/tlog-checkpoint] v1.0.0 |
//! | [`cosignature`] | timestamped Ed25519 cosignatures | [c2sp.org/tlog-cosignature] v1.0.1 |
//! | [`policy`] | known logs and witnesses, and whose cosignatures are enough | [c2sp.org/tlog-policy] |
//! | [`tile`] | tile and entry bundle paths and contents | [c2sp.org/tlog-tiles] |
//! | [`proof`] | a self-contained receipt for one entry | [c2sp.org/tlog-proof] |
//! | [`signature`] | the one rule by which record signatures are judged, singly or in batches | [RFC 8032 §5.1.7] |
//! | [`sorted_set`] | membership and **non**-membership in a committed set | our own, documented there |
//! | [`sparse_map`] | one head a log and map, proved without showing the others | our own, documented there |
//! | [`anchor_proof`] | what the anchor log proves of one other log | our own, documented there |
//! | [`commitment`] | salted commitments to sensitive values | our own, documented there |
//!
//! Absent on purpose: ECDSA, RFC 6962 and ML-DSA note signatures (their lines are carried along as unknown keys), checkpoint
//! extension lines, subtree cosignatures, mirror and pruning protocols, COSE receipts, RFC 3161 tokens, storage, and
//! every random number: salts and seeds come from the caller.
//!
//! [RFC 6962 §2.1]: https://www.rfc-editor.org/rfc/rfc6962#section-2.1
//! [RFC 9162 §2.1]: https://www.rfc-editor.org/rfc/rfc9162#section-2.1
//! [RFC 8032 §5.1.7]: https://www.rfc-editor.org/rfc/rfc8032#section-5.1.7
//! [c2sp.org/signed-note]: https://c2sp.org/signed-note@v1.0.0
//! [c2sp.org/tlog-checkpoint]: https://c2sp.org/tlog-checkpoint@v1.0.0
//! [c2sp.org/tlog-cosignature]: https://c2sp.org/tlog-cosignature@v1.0.1
//! [c2sp.org/tlog-tiles]: https://c2sp.org/tlog-tiles
//! [c2sp.org/tlog-proof]: https://c2sp.org/tlog-proof
//! [c2sp.org/tlog-policy]: https://c2sp.org/tlog-policy

// An index out of bounds would be a panic on somebody's hostile bundle.
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

pub mod anchor_proof;
pub mod checkpoint;
pub mod commitment;
pub mod cosignature;
mod decimal;
pub mod hash;
pub mod merkle;
pub mod note;
pub mod policy;
pub mod proof;
pub mod signature;
pub mod sorted_set;
pub mod sparse_map;
pub mod tile;

pub use checkpoint::Checkpoint;
pub use hash::Hash;
pub use note::{NoteSigner, VerifierKey};
pub use policy::Policy;
pub use proof::TlogProof;
