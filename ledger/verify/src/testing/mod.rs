//! The tamperer: everything that may happen to a bundle between the services and the auditor, as code.
//!
//! [`MUTATORS`] are the rows of the tampering matrix, each with the check that must catch it. They work on any bundle directory.
//! Some need keys ([`StolenKeys`]): a thief of the log's key can rebuild the tree, a thief of the producers' keys can rewrite
//! history so well that only what the records *say* gives it away ([`Forger`]).
//!
//! Compiled with the feature `testing` only.

mod alibis;
mod files;
mod forger;
mod keys;
mod mutators;
mod stories;

pub use files::BundleFiles;
pub use forger::{Edit, Forger, Scene};
pub use keys::StolenKeys;
pub use mutators::{MUTATORS, Mutator, Position};
