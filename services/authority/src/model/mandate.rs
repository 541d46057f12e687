//! Mandates of AI agents: what each may do by itself, for how long, how often and how much (E11, I-65 to I-69).

use std::collections::BTreeMap;

pub(crate) use counterfoil_evidence::v1::AgentAutonomy as Autonomy;
use counterfoil_evidence::v1::AgentMandateTerms;

use super::{
    Faults, RecordHash,
    emergency::{TEXT, is_text},
    ids::{MandateId, PrincipalId},
    principal::Principal,
    right::{DecisionAction, Scope},
    text,
};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Longest life: another build, another year, another look.
const LIFE_MS_MAX: i64 = 365 * DAY_MS;
/// Longest time until it is certified anew, days.
const REVIEW_DAYS_MAX: u32 = 90;
/// What an agent may decide. A review is a human's, and what is taken out of the house too.
const ACTIONS: [DecisionAction; 3] = [
    DecisionAction::Certify,
    DecisionAction::Remediate,
    DecisionAction::Except,
];

/// Which permissions an agent of which autonomy has at most; its head says how to read it.
const TABLE: &str = include_str!("autonomy.txt");

/// How often and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Decisions, and plans put forward or started.
    pub(crate) acts_per_hour: u32,
    /// Removals in plans put forward or started.
    pub(crate) removals_per_day: u32,
    /// The same under the mandate.
    pub(crate) removals: u32,
}

/// How long a mandate is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) from_ms: i64,
    /// Exclusive.
    pub(crate) to_ms: i64,
    /// How often it is certified anew.
    pub(crate) review_ms: i64,
}

/// What a mandate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) agent: PrincipalId,
    pub(crate) owner: PrincipalId,
    pub(crate) autonomy: Autonomy,
    /// Ascending, each of [`ACTIONS`].
    pub(crate) actions: Vec<DecisionAction>,
    pub(crate) scope: Scope,
    /// Codes; empty: all.
    pub(crate) tiers: Vec<String>,
    /// Codes; empty: all.
    pub(crate) environments: Vec<String>,
    pub(crate) limits: Limits,
    pub(crate) model: String,
    pub(crate) build: String,
    pub(crate) term: Term,
}

/// Who granted it, and when it is due to be certified anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) grantor: PrincipalId,
    pub(crate) due_ms: i64,
    pub(crate) record_hash: RecordHash,
}

/// How it ended before its term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Taken back.
    Revoked,
    /// The agent was given another one.
    Replaced,
}

/// A mandate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mandate {
    pub(crate) id: MandateId,
    pub(crate) terms: Terms,
    /// How the agent is stopped where it runs.
    pub(crate) kill_path: String,
    pub(crate) proposer: PrincipalId,
    pub(crate) proposal_hash: RecordHash,
    pub(crate) grant: Option<Grant>,
    pub(crate) suspended: bool,
    pub(crate) end: Option<End>,
}

/// What it is at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Draft,
    Active,
    Suspended,
    Revoked,
    Retired,
}

/// Why an ACTIVE mandate gives nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    NotBegun,
    ReviewOverdue,
    OwnerEnded,
    AgentEnded,
}

impl Lack {
    /// Its code in the API.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::NotBegun => "NOT_BEGUN",
            Self::ReviewOverdue => "REVIEW_OVERDUE",
            Self::OwnerEnded => "OWNER_ENDED",
            Self::AgentEnded => "AGENT_ENDED",
        }
    }
}

/// Who a mandate needs beside itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Behind {
    owner_answers: bool,
    agent_is_there: bool,
}

impl Behind {
    /// By what the two are at this moment.
    pub(crate) fn of(owner: Option<&Principal>, agent: Option<&Principal>) -> Self {
        Self {
            owner_answers: owner.is_some_and(|owner| owner.require_accountable().is_ok()),
            agent_is_there: agent.is_some_and(Principal::is_active),
        }
    }
}

impl Mandate {
    /// What it is at that moment.
    pub(crate) fn state(&self, now_ms: i64) -> State {
        match (self.end, &self.grant) {
            (Some(End::Revoked), _) => State::Revoked,
            (Some(End::Replaced), _) => State::Retired,
            (None, _) if now_ms >= self.terms.term.to_ms => State::Retired,
            (None, None) => State::Draft,
            (None, Some(_)) if self.suspended => State::Suspended,
            (None, Some(_)) => State::Active,
        }
    }

    /// Why it gives nothing although it is ACTIVE; `None`: it gives something, or is not ACTIVE.
    pub(crate) fn lack(&self, behind: Behind, now_ms: i64) -> Option<Lack> {
        let grant = self.grant.as_ref()?;
        if self.state(now_ms) != State::Active {
            None
        } else if now_ms < self.terms.term.from_ms {
            Some(Lack::NotBegun)
        } else if now_ms >= grant.due_ms {
            Some(Lack::ReviewOverdue)
        } else if !behind.owner_answers {
            Some(Lack::OwnerEnded)
        } else {
            (!behind.agent_is_there).then_some(Lack::AgentEnded)
        }
    }

    /// Until when it is in force, if it is, and if nobody changes anything; exclusive.
    pub(crate) fn in_force(&self, behind: Behind, now_ms: i64) -> Option<i64> {
        let grant = self.grant.as_ref()?;
        let active = self.state(now_ms) == State::Active;
        let lacks = self.lack(behind, now_ms);
        (active && lacks.is_none()).then(|| grant.due_ms.min(self.terms.term.to_ms))
    }

    /// When it is due again if it is certified now.
    pub(crate) fn due_from(&self, now_ms: i64) -> i64 {
        now_ms.saturating_add(self.terms.term.review_ms)
    }
}

impl Terms {
    /// As records say it.
    pub(crate) fn in_records(&self) -> AgentMandateTerms {
        AgentMandateTerms {
            agent: self.agent.in_records(),
            owner: self.owner.in_records(),
            autonomy: self.autonomy.into(),
            actions: self.actions.iter().map(|one| *one as i32).collect(),
            scope: self.scope.in_records(),
            tiers: self.tiers.clone(),
            environments: self.environments.clone(),
            acts_per_hour_max: self.limits.acts_per_hour,
            removals_per_day_max: self.limits.removals_per_day,
            removals_max: self.limits.removals,
            model: self.model.clone(),
            build: self.build.clone(),
            valid_from_ms: self.term.from_ms,
            valid_to_ms: self.term.to_ms,
            review_interval_ms: self.term.review_ms,
        }
    }

    /// What of a right is left under the mandate, by the right's own scope, tiers and environments. `None`: nothing.
    pub(crate) fn narrow(
        &self,
        (scope, tiers, environments): (&Scope, &[String], &[String]),
    ) -> Option<(Scope, Vec<String>, Vec<String>)> {
        Some((
            both_scopes(&self.scope, scope)?,
            both_codes(&self.tiers, tiers)?,
            both_codes(&self.environments, environments)?,
        ))
    }
}

fn both_scopes(one: &Scope, other: &Scope) -> Option<Scope> {
    match (one, other) {
        (Scope::Everywhere, both) | (both, Scope::Everywhere) => Some(both.clone()),
        (Scope::Sources(one), Scope::Sources(other)) => {
            let both = one.iter().filter(|source| other.contains(source));
            let both: Vec<_> = both.cloned().collect();
            (!both.is_empty()).then_some(Scope::Sources(both))
        }
    }
}

/// No codes are all codes; none that both have is nothing.
fn both_codes(one: &[String], other: &[String]) -> Option<Vec<String>> {
    match (one, other) {
        ([], both) | (both, []) => Some(both.to_vec()),
        (one, other) => {
            let both: Vec<_> = one.iter().filter(|code| other.contains(code)).collect();
            (!both.is_empty()).then(|| both.into_iter().cloned().collect())
        }
    }
}

/// What is asked for, before it is known whether its principals allow it.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) terms: &'a Terms,
    pub(crate) review_interval_days: u32,
    pub(crate) kill_path: &'a str,
}

/// Checks a mandate that is put forward now.
pub(crate) fn check_new(wanted: &Wanted<'_>, now_ms: i64) -> Result<(), Faults> {
    let (terms, mut faults) = (wanted.terms, Faults::default());
    let observes = terms.autonomy == Autonomy::Observe;
    faults.require(
        terms.autonomy != Autonomy::Unspecified,
        "autonomy",
        "is required",
    );
    let known = terms.actions.iter().all(|one| ACTIONS.contains(one));
    faults.require(known, "actions", "must be of CERTIFY, REMEDIATE and EXCEPT");
    faults.require(
        observes == terms.actions.is_empty(),
        "actions",
        "are required, and with OBSERVE there are none",
    );
    let Limits {
        acts_per_hour,
        removals_per_day,
        removals,
    } = terms.limits;
    let acts = (u32::from(!observes)..=10_000).contains(&acts_per_hour);
    faults.require(acts, "acts_per_hour_max", "must be 1 to 10,000");
    let a_day = removals_per_day <= 1_000_000;
    faults.require(a_day, "removals_per_day_max", "must be at most 1,000,000");
    let in_all = removals <= 1_000_000_000;
    faults.require(in_all, "removals_max", "must be at most 1,000,000,000");
    faults.require(text::is_code(&terms.model), "model", text::CODE);
    faults.require(text::is_code(&terms.build), "build", text::CODE);
    let Term { from_ms, to_ms, .. } = terms.term;
    let ends = to_ms > from_ms && to_ms > now_ms;
    faults.require(
        ends,
        "valid_to_time",
        "must be after the start and in the future",
    );
    let short = to_ms.saturating_sub(from_ms) <= LIFE_MS_MAX;
    faults.require(
        short,
        "valid_to_time",
        "must be at most 365 days after the start",
    );
    let often = (1..=REVIEW_DAYS_MAX).contains(&wanted.review_interval_days);
    faults.require(often, "review_interval_days", "must be 1 to 90");
    faults.require(is_text(wanted.kill_path), "kill_path", TEXT);
    faults.or(())
}

/// What an agent has done by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Used {
    /// Acts of the last hour.
    pub(crate) acts: i64,
    /// Removals of the last day.
    pub(crate) removals_of_day: i64,
    /// Removals under the mandate.
    pub(crate) removals: i64,
}

impl Used {
    /// Since when acts count, and since when removals do.
    pub(crate) const fn since(now_ms: i64) -> (i64, i64) {
        (now_ms - HOUR_MS, now_ms - DAY_MS)
    }

    /// The limit that one more act with so many removals would go beyond.
    pub(crate) fn beyond(self, limits: Limits, removals: u32) -> Option<&'static str> {
        let more = |used: i64, limit: u32| used.saturating_add(removals.into()) > limit.into();
        if self.acts >= limits.acts_per_hour.into() {
            Some("acts_per_hour_max")
        } else if removals > 0 && more(self.removals_of_day, limits.removals_per_day) {
            Some("removals_per_day_max")
        } else {
            let over = removals > 0 && more(self.removals, limits.removals);
            over.then_some("removals_max")
        }
    }
}

/// Which permissions which autonomy has at most.
#[derive(Debug)]
pub(crate) struct Levels(BTreeMap<&'static str, Autonomy>);

impl Levels {
    /// As the table in git says.
    ///
    /// # Errors
    /// The line that is malformed.
    pub(crate) fn of_table() -> Result<Self, String> {
        let mut levels = BTreeMap::new();
        let mut level = Autonomy::Unspecified;
        for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
            match line.strip_suffix(':') {
                Some(name) => {
                    let full = format!("AGENT_AUTONOMY_{name}");
                    level = Autonomy::from_str_name(&full).ok_or_else(|| line.to_owned())?;
                }
                None => {
                    for permission in line.split_whitespace() {
                        if levels.insert(permission, level).is_some() {
                            return Err(format!("{permission} stands twice"));
                        }
                    }
                }
            }
        }
        Ok(Self(levels))
    }

    /// Whether an agent of that autonomy may have the permission at all.
    pub(crate) fn allow(&self, autonomy: Autonomy, permission: &str) -> bool {
        let least = self.0.get(permission);
        least.is_some_and(|least| *least as i32 <= autonomy as i32)
    }

    /// All that any agent may have.
    #[cfg(test)]
    pub(crate) fn permissions(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use counterfoil_chassis::auth::PermissionTable;

    use super::*;

    #[test]
    fn what_agents_may_call_is_permissions_that_there_are_and_none_that_governs() {
        let (levels, table) = (
            Levels::of_table().unwrap(),
            PermissionTable::of_api().unwrap(),
        );
        for permission in levels.permissions() {
            assert!(table.knows(permission), "{permission}");
        }
        for permission in [
            "decision_rights.grant",
            "mandates.suspend",
            "items.decide",
            "remediations.resolve",
            "tokens.issue",
        ] {
            assert!(table.knows(permission), "{permission}");
            assert!(
                !levels.allow(Autonomy::ExecuteBounded, permission),
                "{permission}"
            );
        }
        assert!(!levels.allow(Autonomy::Unspecified, "principals.get"));
    }

    #[test]
    fn codes_that_both_have_are_left_and_none_are_all() {
        let codes = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        assert_eq!(both_codes(&[], &codes("ab")), Some(codes("ab")));
        assert_eq!(both_codes(&codes("ab"), &codes("bc")), Some(codes("b")));
        assert_eq!(both_codes(&codes("a"), &codes("b")), None);
        assert_eq!(both_codes(&[], &[]), Some(Vec::new()));
    }

    #[test]
    fn a_limit_is_reached_and_not_passed() {
        let limits = Limits {
            acts_per_hour: 2,
            removals_per_day: 5,
            removals: 7,
        };
        let used = |acts, removals_of_day, removals| Used {
            acts,
            removals_of_day,
            removals,
        };
        assert_eq!(used(1, 3, 5).beyond(limits, 2), None);
        assert_eq!(used(2, 0, 0).beyond(limits, 0), Some("acts_per_hour_max"));
        assert_eq!(
            used(1, 3, 3).beyond(limits, 3),
            Some("removals_per_day_max")
        );
        assert_eq!(used(1, 3, 6).beyond(limits, 2), Some("removals_max"));
        assert_eq!(
            used(1, 9, 9).beyond(limits, 0),
            None,
            "what removes nothing needs no room"
        );
        assert_eq!(
            used(0, i64::MAX, 0).beyond(limits, u32::MAX),
            Some("removals_per_day_max")
        );
    }
}
