//! The rules of authority: who may be accountable, what a right covers and when, which policy is acceptable, and what a
//! tenant needs before it is governed.
//!
//! Pure: no async, no I/O, no clock, no message of a service's API. The vocabulary of the records (kinds, actions, states)
//! is the vocabulary of the rules.

pub(crate) mod conditions;
pub(crate) mod credential;
pub(crate) mod delegation;
pub(crate) mod emergency;
pub(crate) mod engagement;
pub(crate) mod gate;
pub(crate) mod hold;
pub(crate) mod ids;
pub(crate) mod jwt;
pub(crate) mod mandate;
pub(crate) mod policy;
pub(crate) mod principal;
pub(crate) mod right;
pub(crate) mod settings;
pub(crate) mod simulation;
pub(crate) mod standing;
pub(crate) mod strict_json;
pub(crate) mod tenant;
pub(crate) mod tenure;
pub(crate) mod text;

/// SHA-256 of a record.
pub(crate) type RecordHash = [u8; 32];

/// What is wrong with which field of a request; all of it, not only the first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Faults(Vec<(String, String)>);

impl Faults {
    /// One wrong field.
    pub(crate) fn one(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self(vec![(field.into(), description.into())])
    }

    /// Notes a wrong field.
    pub(crate) fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push((field.into(), description.into()));
    }

    /// Notes a wrong field unless `good`.
    pub(crate) fn require(&mut self, good: bool, field: &str, description: &str) {
        if !good {
            self.add(field, description);
        }
    }

    /// Notes what is wrong in a part of a request, such as "policy.".
    pub(crate) fn add_all(&mut self, prefix: &str, faults: Self) {
        let prefixed = faults.0.into_iter();
        self.0
            .extend(prefixed.map(|(field, description)| (format!("{prefix}{field}"), description)));
    }

    /// Gives `value` when nothing is wrong.
    pub(crate) fn or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(self)
        }
    }

    /// Field and description of each.
    pub(crate) fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }
}
