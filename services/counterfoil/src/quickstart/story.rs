//! What a quickstart tells people: plain words, one line a thing, and progress where something takes long.

use indicatif::ProgressBar;

/// Where the story goes: standard output, or standard error when standard output belongs to a program.
#[derive(Debug)]
pub(crate) struct Story {
    to_error: bool,
}

impl Story {
    /// `to_error`: leave standard output to the one JSON object at the end.
    pub(crate) fn new(to_error: bool) -> Self {
        Self { to_error }
    }

    /// A heading.
    pub(crate) fn chapter(&self, title: &str) {
        self.line(&format!("\n{title}"));
    }

    /// One thing that happened or was found.
    pub(crate) fn tell(&self, text: &str) {
        self.line(&format!("  {text}"));
    }

    fn line(&self, text: &str) {
        if self.to_error {
            crate::warn(text);
        } else {
            crate::say(text);
        }
    }

    /// A bar for something of known length; nothing where nobody watches.
    pub(crate) fn progress(&self, what: &'static str, total: u64) -> ProgressBar {
        crate::progress(what, total)
    }
}
