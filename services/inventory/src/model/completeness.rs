//! When a sync may be taken for the whole source: only when everything was read, nothing was refused, and the source's own
//! count agrees. Anything else is PARTIAL, with every reason.

use counterfoil_connectors::{ConnectorError, ControlTotals};

/// Codes of why a sync is PARTIAL.
pub mod reason {
    /// Rows were refused.
    pub const ROW_ERROR: &str = "row_error";
    /// The source's own totals do not agree with what was read.
    pub const CONTROL_TOTAL_MISMATCH: &str = "control_total_mismatch";
    /// The source would not tell its totals.
    pub const CONTROL_TOTAL_UNAVAILABLE: &str = "control_total_unavailable";
    /// The source stopped in the middle.
    pub const SOURCE_DIED: &str = "source_died";
    /// The source could not be reached.
    pub const UNREACHABLE: &str = "unreachable";
    /// The reader was refused.
    pub const READER_REFUSED: &str = "reader_refused";
    /// The source cannot be read as a whole.
    pub const UNREADABLE: &str = "unreadable";
    /// The settings of the source do not work any more.
    pub const INVALID_CONFIG: &str = "invalid_config";
    /// Pages were missing or repeated.
    pub const PAGE_GAP: &str = "page_gap";
    /// Inheritance is deeper or wider than what is followed.
    pub const INHERITANCE_LIMIT: &str = "inheritance_limit";
    /// Our own process stopped in the middle, more often than it is tried again.
    pub const INTERRUPTED: &str = "interrupted";
}

/// The code of a failed read.
#[must_use]
pub const fn reason_of(error: &ConnectorError) -> &'static str {
    match error {
        ConnectorError::InvalidConfig { .. } => reason::INVALID_CONFIG,
        ConnectorError::Unreachable { .. } => reason::UNREACHABLE,
        ConnectorError::AccessDenied { .. } | ConnectorError::Refused { .. } => {
            reason::READER_REFUSED
        }
        ConnectorError::Unreadable { .. } => reason::UNREADABLE,
        ConnectorError::Interrupted { .. }
        | ConnectorError::SinkClosed
        | ConnectorError::Ambiguous { .. }
        | ConnectorError::NotAttempted { .. } => reason::SOURCE_DIED,
    }
}

/// Whether a source with these reasons could not be asked at all.
#[must_use]
pub fn is_unreachable(reasons: &[String]) -> bool {
    reasons
        .iter()
        .any(|code| code == reason::UNREACHABLE || code == reason::READER_REFUSED)
}

/// How many messages are kept; the rest are counted.
pub const MESSAGES_MAX: usize = 100;
/// Longest message in characters.
const MESSAGE_CHARS_MAX: usize = 500;

/// What went wrong in a sync.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    reasons: Vec<String>,
    messages: Vec<String>,
    count: u64,
}

impl Faults {
    /// Notes one fault.
    pub fn add(&mut self, code: &str, message: &str) {
        self.add_counted(code, message, 1);
    }

    /// Notes `count` faults of which only one message is there.
    pub fn add_counted(&mut self, code: &str, message: &str, count: u64) {
        self.reason(code);
        self.count += count;
        if self.messages.len() < MESSAGES_MAX {
            self.messages
                .push(message.chars().take(MESSAGE_CHARS_MAX).collect());
        }
    }

    /// Counts faults whose messages are not kept.
    pub fn count_more(&mut self, code: &str, count: u64) {
        if count > 0 {
            self.reason(code);
            self.count += count;
        }
    }

    fn reason(&mut self, code: &str) {
        if !self.reasons.iter().any(|known| known == code) {
            self.reasons.push(code.to_owned());
            self.reasons.sort();
        }
    }

    /// Compares what was read with what the source says it holds, and names every type that differs.
    pub fn compare(&mut self, read: &ControlTotals, stated: &ControlTotals) {
        let types = [
            ("accounts", read.accounts, stated.accounts),
            ("entitlements", read.entitlements, stated.entitlements),
            ("edges", read.edges, stated.edges),
            ("grants", read.grants, stated.grants),
        ];
        for (what, read, stated) in types {
            if read != stated {
                let message =
                    format!("{what}: {read} were read, the source says it holds {stated}");
                self.add(reason::CONTROL_TOTAL_MISMATCH, &message);
            }
        }
    }

    /// Whether there is none: the sync is COMPLETE.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reasons.is_empty()
    }

    /// Codes, ascending, each once.
    #[must_use]
    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }

    /// The first messages.
    #[must_use]
    pub fn messages(&self) -> &[String] {
        &self.messages
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_that_differs_is_named() {
        let read = ControlTotals {
            accounts: 2,
            entitlements: 1,
            edges: 0,
            grants: 5,
        };
        let mut faults = Faults::default();
        faults.compare(&read, &read);
        assert!(faults.is_empty());
        faults.compare(&read, &ControlTotals { grants: 6, ..read });
        assert_eq!(faults.reasons(), [reason::CONTROL_TOTAL_MISMATCH]);
        assert_eq!(
            faults.messages(),
            ["grants: 5 were read, the source says it holds 6"]
        );
    }

    #[test]
    fn all_faults_are_counted_and_the_first_are_kept() {
        let mut faults = Faults::default();
        for row in 0..250 {
            faults.add(reason::ROW_ERROR, &format!("row {row}"));
        }
        faults.count_more(reason::ROW_ERROR, 7);
        assert_eq!(faults.count(), 257);
        assert_eq!(faults.messages().len(), MESSAGES_MAX);
        assert_eq!(faults.reasons().len(), 1);
    }
}
