//! What can go wrong between us and a target, told so that the caller knows whether something may have happened there.

use thiserror::Error;

/// Shorthand for a result of this crate.
pub type Result<T> = std::result::Result<T, ConnectorError>;

/// Why a connector could not do what was asked. No variant ever carries a secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConnectorError {
    /// The configuration cannot work.
    #[error("source configuration, {field}: {reason}")]
    InvalidConfig {
        /// The key, dotted.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The target could not be reached at all. Nothing was read, nothing was changed.
    #[error("cannot reach {target}: {reason}")]
    Unreachable {
        /// Address or directory.
        target: String,
        /// What the system said.
        reason: String,
    },
    /// The target knows us and says no.
    #[error("{principal} is refused: {reason} (result code {code})")]
    AccessDenied {
        /// The principal that was used.
        principal: String,
        /// The target's result code.
        code: u32,
        /// What the target said.
        reason: String,
    },
    /// Something in the source makes it unreadable as a whole, for example a missing file or a wrong header.
    #[error("{place}: {reason}")]
    Unreadable {
        /// File name, with the line where it helps; or the search base.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// The read stopped half-way. Pages already sent stand, and the sync can only be PARTIAL.
    #[error("the read stopped after {pages} pages: {reason}")]
    Interrupted {
        /// How many pages had been sent.
        pages: u64,
        /// What happened.
        reason: String,
    },
    /// Whoever took the pages went away.
    #[error("nobody takes the pages any more")]
    SinkClosed,
    /// The target refused the change. Definite: nothing was changed.
    #[error("the target refused: {reason}")]
    Refused {
        /// The target's result code, where it has one.
        code: Option<u32>,
        /// What the target said.
        reason: String,
    },
    /// The change may or may not have happened. Read before trying again.
    #[error("it is unknown whether the target made the change: {reason}")]
    Ambiguous {
        /// What happened.
        reason: String,
    },
    /// The change was never sent. Definite: nothing was changed, and trying again is safe.
    #[error("the change was not attempted: {reason}")]
    NotAttempted {
        /// What was in the way.
        reason: String,
    },
}

impl ConnectorError {
    /// A wrong key of the configuration.
    pub(crate) fn config(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidConfig {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// A source that cannot be read as a whole.
    pub(crate) fn unreadable(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Unreadable {
            place: place.into(),
            reason: reason.into(),
        }
    }

    /// A refusal without a result code.
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused {
            code: None,
            reason: reason.into(),
        }
    }

    /// A change that was never sent.
    pub(crate) fn not_attempted(reason: impl Into<String>) -> Self {
        Self::NotAttempted {
            reason: reason.into(),
        }
    }

    /// A change that may have happened.
    pub(crate) fn ambiguous(reason: impl Into<String>) -> Self {
        Self::Ambiguous {
            reason: reason.into(),
        }
    }

    /// Whether something may have changed in the target although an error came back.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        matches!(self, Self::Ambiguous { .. })
    }

    /// Seen from a writer before the change was sent: whatever went wrong, nothing was changed.
    pub(crate) fn before_write(self) -> Self {
        match self {
            Self::AccessDenied {
                code,
                reason,
                principal,
            } => Self::Refused {
                code: Some(code),
                reason: format!("{principal}: {reason}"),
            },
            Self::Refused { .. } | Self::Ambiguous { .. } | Self::NotAttempted { .. } => self,
            other => Self::not_attempted(other.to_string()),
        }
    }
}
