//! counterfoil-verify: what an auditor runs offline over an evidence bundle, as a library and as a command.
//!
//! It believes two things: the trust file, which came another way than the bundle, and arithmetic. Everything else is
//! recomputed from the entries: bytes, tree, signatures, streams, openings, and then what the records say about who decided
//! what, by what right, and whether it came true.
//!
//! | Module | Judges |
//! | --- | --- |
//! | [`bundle`] | the container's shape; and writes it |
//! | [`trust`] | the auditor's own file |
//! | `container` | B: MANIFEST, and that trust came from outside |
//! | `keys` | K, W6: the checkpoint's signatures |
//! | `log`, `work`, `structure` | S, C: the tree and the chain, on all cores, in constant memory but for what is replayed |
//! | `cosigned` | W: what witnesses cosigned, and when |
//! | `history` | W: the log against what was seen of it before |
//! | `anchor` | W9, W10, W11: the log against the anchor log of whoever keeps it, and who has cosigned that |
//! | `producers`, `schemas` | P: who signed which record, gaps, attachments, meaning |
//! | `disclosures` | D: openings of commitments |
//! | [`counterfoil_evidence::replay`] | I, G: the invariants of the domain |
//! | `cross` | X: the bundles of a customer and of its provider, held together |
//! | [`report`] | nothing: tells what was found, and what it does not prove |
//!
//! Not here: any network, any database, any clock. Whether a bundle is the newest there is only the auditor can know.

mod anchor;
pub mod bundle;
pub mod check;
mod container;
mod cosigned;
mod cross;
mod disclosures;
mod history;
mod keys;
mod log;
mod producers;
pub mod report;
mod schemas;
mod structure;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;
pub mod trust;
mod verify;
mod work;

pub use check::{Check, Status, Verdict, Weight};
pub use cross::cross;
pub use trust::Trust;
pub use verify::{Options, Verification, verify};
