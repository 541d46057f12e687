//! A complete, valid log of a small governance cycle, with real keys: the control of every test.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::missing_panics_doc,
    dead_code,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    reason = "shared by several test binaries, which fail by panicking and use parts of it"
)]

pub mod agents;
pub mod anchor;
pub mod authority;
pub mod cycle;
pub mod estate;
pub mod governance;
pub mod log;
pub mod provider;
pub mod remediation;
pub mod review;
