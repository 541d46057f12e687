//! Background work: running syncs.
//!
//! - [`runner`]: takes syncs that are due, and recovers those that were interrupted.
//! - [`ingest`]: one sync from the first page to the seal.
//! - [`rules`]: what a tenant's policy says, asked of authority.

pub mod ingest;
pub mod rules;
pub mod runner;

pub use runner::{Progress, SyncJob};
