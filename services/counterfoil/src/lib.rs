//! The one executable: the services, the client, and a first walk through both.
//!
//! - [`cli`]: `counterfoil <noun> <verb>`, described by the protos themselves.
//! - [`quickstart`]: one governance cycle on an estate, resumable at every step.
//! - [`bundle`], [`decisions`]: the client's commands that are more than one call.
//! - [`ca`]: certificates for a start.
//! - [`ending`]: being asked to end.
//! - [`estate`]: who governs what by which rules, as files.
//!
//! It holds no rule of governance and no state: those are the services'.

pub mod bundle;
pub mod ca;
pub mod cli;
pub mod client;
pub mod decisions;
pub mod ending;
pub mod endpoints;
pub mod estate;
pub mod offline;
pub mod quickstart;
pub mod serve;
pub mod up;

/// Writes a line to standard output; a reader that went away is no error of ours.
pub fn say(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// A bar for something of known length; nothing where nobody watches.
pub(crate) fn progress(what: &'static str, total: u64) -> indicatif::ProgressBar {
    use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("  {msg} [{bar:30}] {pos}/{len}") {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}

/// Writes a line to standard error.
pub fn warn(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
