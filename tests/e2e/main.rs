//! The whole suite, end to end, by its real executables on real input: what a user runs, and what comes out of it.
//!
//! Each test plays its own cycle, or looks at the one that [`golden`] played. Nothing is simulated here.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "tests fail by panicking, and their modules are their own"
)]

mod broken_files;
mod broken_targets;
mod cli;
mod client;
mod clock;
mod demands;
mod golden;
mod kubernetes;
mod ldap;
mod ledger;
mod quickstart;
