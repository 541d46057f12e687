//! What the witnesses have done and failed to do since the process began, for those who operate it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use counterfoil_engine::WitnessError;

/// Kinds of failures, as the metrics call them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// It did not answer, or not now.
    Unreachable,
    /// It does not know the log or its key.
    Refused,
    /// It answered with something that is no cosignature.
    BadCosignature,
    /// It says that it has seen another history, and shows nothing.
    Contradicts,
}

impl Failure {
    pub(crate) const ALL: [Self; 4] = [
        Self::Unreachable,
        Self::Refused,
        Self::BadCosignature,
        Self::Contradicts,
    ];

    /// What of an error is the witness's; `None`: it is the log's.
    pub(crate) fn of(error: &WitnessError) -> Option<Self> {
        Some(match error {
            WitnessError::Unreachable(_) => Self::Unreachable,
            WitnessError::Refused(_) => Self::Refused,
            WitnessError::BadCosignature(_) => Self::BadCosignature,
            WitnessError::Contradicts(_) => Self::Contradicts,
            WitnessError::Log(_) => return None,
        })
    }

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::BadCosignature => "bad_cosignature",
            Self::Contradicts => "contradicts",
        }
    }
}

/// What one witness has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Deeds {
    /// Cosignatures that were kept.
    pub(crate) cosignatures: u64,
    /// Requests that failed.
    pub(crate) failures: BTreeMap<Failure, u64>,
}

/// What all have done, by the names that the policy calls them. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Tally(Arc<Mutex<BTreeMap<String, Deeds>>>);

impl Tally {
    pub(crate) fn new(names: impl Iterator<Item = String>) -> Self {
        let deeds = names.map(|name| (name, Deeds::default()));
        Self(Arc::new(Mutex::new(deeds.collect())))
    }

    pub(crate) fn cosigned(&self, name: &str) {
        self.lock().entry(name.to_owned()).or_default().cosignatures += 1;
    }

    pub(crate) fn failed(&self, name: &str, failure: Failure) {
        let mut deeds = self.lock();
        let failures = &mut deeds.entry(name.to_owned()).or_default().failures;
        *failures.entry(failure).or_default() += 1;
    }

    pub(crate) fn read(&self) -> BTreeMap<String, Deeds> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Deeds>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
