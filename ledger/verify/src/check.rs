//! Checks, how they ended, and what that means for the verdict.

use counterfoil_evidence::replay::{Judgement, Verdict as ReplayVerdict};

/// At most this many violations of one check are told in words; all are counted.
const TOLD_MAX: usize = 8;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// It could not be judged.
    Skip,
}

impl Status {
    /// "PASS", "FAIL" or "SKIP".
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Skip => "SKIP",
        }
    }
}

/// What a failed or skipped check means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The evidence is not what it should be: exit 1; skipped, exit 4.
    Required,
    /// The evidence may be right, and does not meet what the auditor asks for: exit 3.
    Policy,
    /// For information.
    Informative,
}

/// A judged check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Stable id, such as "S1".
    pub id: &'static str,
    /// Other ids under which it is known.
    pub aliases: Vec<&'static str>,
    /// What holds when it passes.
    pub title: &'static str,
    /// How it ended.
    pub status: Status,
    /// What was checked, or what is wrong.
    pub detail: String,
    /// What it means for the verdict.
    pub weight: Weight,
}

impl Check {
    /// Whether this is the check's id or one of its aliases.
    #[must_use]
    pub fn is(&self, id: &str) -> bool {
        self.id == id || self.aliases.contains(&id)
    }
}

impl From<Judgement> for Check {
    fn from(judgement: Judgement) -> Self {
        Self {
            id: judgement.check.id,
            aliases: judgement.check.aliases.to_vec(),
            title: judgement.check.title,
            status: match judgement.verdict {
                ReplayVerdict::Pass => Status::Pass,
                ReplayVerdict::Fail => Status::Fail,
                ReplayVerdict::Skip => Status::Skip,
            },
            detail: judgement.detail,
            weight: Weight::Required,
        }
    }
}

/// What all checks together say. The numbers are the exit codes of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every required check passed.
    Ok = 0,
    /// A check failed.
    Failed = 1,
    /// The bundle or the trust file is not one.
    Malformed = 2,
    /// The auditor's policy is not met.
    PolicyNotMet = 3,
    /// Nothing failed, and something required could not be checked.
    Incomplete = 4,
}

impl Verdict {
    /// The verdict over checks; what is worse goes first.
    #[must_use]
    pub fn of(checks: &[Check]) -> Self {
        let any = |status, weight| {
            checks
                .iter()
                .any(|check| check.status == status && check.weight == weight)
        };
        if any(Status::Fail, Weight::Required) {
            Self::Failed
        } else if any(Status::Fail, Weight::Policy) {
            Self::PolicyNotMet
        } else if any(Status::Skip, Weight::Required) || any(Status::Skip, Weight::Policy) {
            Self::Incomplete
        } else {
            Self::Ok
        }
    }

    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Failed => "FAILED",
            Self::Malformed => "MALFORMED",
            Self::PolicyNotMet => "POLICY_NOT_MET",
            Self::Incomplete => "INCOMPLETE",
        }
    }

    /// The exit code.
    #[must_use]
    pub const fn exit(self) -> u8 {
        self as u8
    }
}

/// Collects what is found under one check.
#[derive(Debug, Clone)]
pub(crate) struct Finder {
    id: &'static str,
    aliases: &'static [&'static str],
    title: &'static str,
    weight: Weight,
    failed: u64,
    told: Vec<String>,
    skipped: Option<String>,
    note: String,
}

impl Finder {
    pub(crate) fn new(
        id: &'static str,
        aliases: &'static [&'static str],
        title: &'static str,
    ) -> Self {
        Self {
            id,
            aliases,
            title,
            weight: Weight::Required,
            failed: 0,
            told: Vec::new(),
            skipped: None,
            note: String::new(),
        }
    }

    pub(crate) fn weighing(mut self, weight: Weight) -> Self {
        self.weight = weight;
        self
    }

    pub(crate) fn fail(&mut self, what: impl ToString) {
        self.failed += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(what.to_string());
        }
    }

    /// Notes a violation unless `holds`.
    pub(crate) fn expect<S: ToString>(&mut self, holds: bool, what: impl FnOnce() -> S) {
        if !holds {
            self.fail(what());
        }
    }

    /// Notes that the check could not be judged; a violation found outweighs it.
    pub(crate) fn skip(&mut self, why: impl ToString) {
        self.skipped.get_or_insert_with(|| why.to_string());
    }

    /// What to say when it passes.
    pub(crate) fn note(&mut self, what: impl ToString) {
        self.note = what.to_string();
    }

    pub(crate) fn finish(self) -> Check {
        let (status, detail) = if self.failed > 0 {
            let more = self.failed.saturating_sub(self.told.len() as u64);
            let mut detail = self.told.join("; ");
            if more > 0 {
                detail.push_str(&format!("; and {more} more"));
            }
            (Status::Fail, detail)
        } else if let Some(why) = self.skipped {
            (Status::Skip, why)
        } else {
            (Status::Pass, self.note)
        };
        Check {
            id: self.id,
            aliases: self.aliases.to_vec(),
            title: self.title,
            status,
            detail,
            weight: self.weight,
        }
    }
}
