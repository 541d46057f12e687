//! The one executable: the services, the client, and a first walk through both.
//!
//! - [`cli`]: `counterfoil <noun> <verb>`, described by the protos themselves.
//! - [`quickstart`]: one governance cycle on an estate, resumable at every step.
//! - [`bundle`], [`decisions`]: the client's commands that are more than one call.
//! - [`ca`]: certificates for a start.
//! - [`estate`]: who governs what by which rules, as files.
//!
//! It holds no rule of governance and no state: those are the services'.

pub mod bundle;
pub mod ca;
pub mod cli;
pub mod client;
pub mod decisions;
pub mod endpoints;
pub mod estate;
pub mod quickstart;
pub mod serve;
pub mod up;

/// Writes a line to standard output; a reader that went away is no error of ours.
pub fn say(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Writes a line to standard error.
pub fn warn(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
