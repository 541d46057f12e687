//! What exists: identities, accounts, entitlements, grants and their owners, read from sources and sealed.
//!
//! See `README.md` for the tables and the invariants.

pub mod bell;
pub mod config;
pub mod error;
pub mod jobs;
pub mod model;
pub mod store;
