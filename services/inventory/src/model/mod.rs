//! The rules of the inventory. No async, no I/O, no proto types, no clock.
//!
//! - [`facts`]: what is known of accounts, entitlements and grants, its digests and flags.
//! - [`inheritance`]: which entitlements follow from which, and by which path.
//! - [`sorting`]: external sorting of grants by key in bounded memory.
//! - [`diff`]: what changed between the current inventory and what was read.
//! - [`completeness`]: when a sync may be taken for the whole source.
//! - [`snapshot`]: the root over all sources, and why a source is missing.

pub mod completeness;
pub mod diff;
pub mod facts;
pub mod inheritance;
pub mod snapshot;
pub mod sorting;
