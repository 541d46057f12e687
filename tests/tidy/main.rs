//! The rules of the repository as tests: who may import whom, how files look, what must agree with what.
//!
//! Each rule stands in ARCHITECTURE.md or CONTRIBUTING.md with its reason; here it is kept.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "tests fail by panicking, and their modules are their own"
)]

mod api;
mod demands;
mod dependencies;
mod files;
mod imports;
mod tenants;
mod text;
