//! Rights passed on: within what one holds, for a time, and not further unless that was said (I-16).
//!
//! Invariant: whoever decides under a delegation could not decide more than the right below it allows its holder; it ends with
//! whatever it rests on.

use super::{
    Faults, RecordHash,
    ids::{DelegationId, PrincipalId, RightId},
    principal::Principal,
    right::{DecisionAction, Right, Scope, may_hold},
};

const DAY_MS: i64 = 86_400_000;
/// Longest life of a delegation.
pub(crate) const LIFE_MS_MAX: i64 = 90 * DAY_MS;
/// Most delegations that follow each other.
pub(crate) const CHAIN_MAX: usize = 3;

/// A right that is passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delegation {
    pub(crate) id: DelegationId,
    pub(crate) delegator: PrincipalId,
    pub(crate) delegate: PrincipalId,
    /// The right that all rests on.
    pub(crate) right: RightId,
    /// The delegation that is passed on; `None`: the right itself.
    pub(crate) source: Option<DelegationId>,
    pub(crate) action: DecisionAction,
    pub(crate) scope: Scope,
    /// Codes; empty: all.
    pub(crate) tiers: Vec<String>,
    /// Codes; empty: all.
    pub(crate) environments: Vec<String>,
    pub(crate) valid_from_ms: i64,
    /// Exclusive.
    pub(crate) valid_to_ms: i64,
    /// Whether the delegate may pass it on.
    pub(crate) transitive: bool,
    pub(crate) reason_code: String,
    pub(crate) revoked_at_ms: Option<i64>,
    /// Of the record that granted it; decisions cite it.
    pub(crate) record_hash: RecordHash,
}

impl Delegation {
    /// Whether it holds by itself at that moment, whatever it rests on.
    pub(crate) fn holds(&self, now_ms: i64) -> bool {
        self.revoked_at_ms.is_none() && self.valid_from_ms <= now_ms && now_ms < self.valid_to_ms
    }
}

/// What somebody holds: a right, or what was passed on to them, with all that it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) right: Right,
    /// From the right on, each resting on the one before it.
    pub(crate) passed_on: Vec<Delegation>,
}

impl Held {
    /// Who decides under it.
    pub(crate) fn holder(&self) -> &PrincipalId {
        self.passed_on
            .last()
            .map_or(&self.right.grantee, |last| &last.delegate)
    }

    /// In whose names, outermost first; none: in the holder's own.
    pub(crate) fn on_behalf_of(&self) -> impl Iterator<Item = &PrincipalId> {
        self.passed_on.iter().map(|one| &one.delegator)
    }

    /// Everybody whose end ends it.
    pub(crate) fn people(&self) -> impl Iterator<Item = &PrincipalId> {
        std::iter::once(&self.right.grantee).chain(self.passed_on.iter().map(|one| &one.delegate))
    }

    /// What decisions under it cite.
    pub(crate) fn record_hash(&self) -> RecordHash {
        self.passed_on
            .last()
            .map_or(self.right.record_hash, |last| last.record_hash)
    }

    /// Where it holds: sources, tiers and environments.
    pub(crate) fn reach(&self) -> (&Scope, &[String], &[String]) {
        match self.passed_on.last() {
            Some(last) => (&last.scope, &last.tiers, &last.environments),
            None => (
                &self.right.scope,
                &self.right.tiers,
                &self.right.environments,
            ),
        }
    }

    /// From when, and until when (exclusive).
    pub(crate) fn term(&self) -> (i64, i64) {
        match self.passed_on.last() {
            Some(last) => (last.valid_from_ms, last.valid_to_ms),
            None => (self.right.valid_from_ms, self.right.valid_to_ms),
        }
    }

    /// Whether all that it rests on holds at that moment; whether its people are there is asked apart.
    pub(crate) fn holds(&self, now_ms: i64) -> bool {
        self.right.holds(now_ms) && self.passed_on.iter().all(|one| one.holds(now_ms))
    }

    /// Whether all that it rests on stands, be it for a later time.
    fn stands(&self) -> bool {
        let passed_on = self.passed_on.iter();
        !self.right.proposed
            && self.right.revoked_at_ms.is_none()
            && passed_on
                .map(|one| one.revoked_at_ms)
                .all(|at| at.is_none())
    }
}

/// Checks what is said of a delegation by itself.
pub(crate) fn check_new(wanted: &Delegation, now_ms: i64) -> Result<(), Faults> {
    let mut faults = Faults::default();
    let ends = wanted.valid_to_ms > wanted.valid_from_ms && wanted.valid_to_ms > now_ms;
    faults.require(
        ends,
        "valid_to_time",
        "must be after the start and in the future",
    );
    let short = wanted.valid_to_ms.saturating_sub(wanted.valid_from_ms) <= LIFE_MS_MAX;
    faults.require(
        short,
        "valid_to_time",
        "must be at most 90 days after the start",
    );
    let code = super::text::is_code(&wanted.reason_code);
    faults.require(code, "reason_code", super::text::CODE);
    faults.or(())
}

/// Most delegations of one to another for an action at a time: all that somebody holds is read at each of their decisions.
pub(crate) const GIVEN_MAX: usize = 20;

/// Why something cannot be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotDelegable {
    /// Nobody passes on what is over.
    #[error("what is to be passed on has been revoked")]
    Revoked,
    /// It was given for oneself.
    #[error("what was passed on may not be passed on again")]
    NotTransitive,
    /// Too many hands.
    #[error("it has been passed on three times already")]
    ChainTooLong,
    /// It would come back.
    #[error("the delegate holds it already")]
    Circle,
    /// Wider or longer than what is held.
    #[error("it would be wider or longer than what is passed on")]
    Wider,
    /// There is no such delegate, or it has ended.
    #[error("the delegate is unknown or has ended")]
    DelegateGone,
    /// The auditor would not take its decisions.
    #[error("the delegate is of a kind that never decides so")]
    DelegateKind,
    /// Nobody is buried under what another gives.
    #[error("the delegate holds 20 such delegations of the delegator already")]
    TooMany,
}

/// Checks that what is held may be passed on as is wanted. `given`: how many of the delegator's to the delegate, of the same right,
/// hold at some time at which it would.
pub(crate) fn require_delegable(
    held: &Held,
    delegate: Option<&Principal>,
    wanted: &Delegation,
    given: usize,
) -> Result<(), NotDelegable> {
    if given >= GIVEN_MAX {
        return Err(NotDelegable::TooMany);
    }
    if !held.stands() {
        return Err(NotDelegable::Revoked);
    }
    if held.passed_on.last().is_some_and(|last| !last.transitive) {
        return Err(NotDelegable::NotTransitive);
    }
    if held.passed_on.len() >= CHAIN_MAX {
        return Err(NotDelegable::ChainTooLong);
    }
    if held.people().any(|one| *one == wanted.delegate) {
        return Err(NotDelegable::Circle);
    }
    let (scope, tiers, environments) = held.reach();
    let (from_ms, to_ms) = held.term();
    let within = wanted.scope.within(scope)
        && codes_within(&wanted.tiers, tiers)
        && codes_within(&wanted.environments, environments)
        && from_ms <= wanted.valid_from_ms
        && wanted.valid_to_ms <= to_ms;
    if !within {
        return Err(NotDelegable::Wider);
    }
    match delegate {
        Some(found) if !found.is_active() => Err(NotDelegable::DelegateGone),
        None => Err(NotDelegable::DelegateGone),
        Some(found) if !may_hold(found.kind, wanted.action) => Err(NotDelegable::DelegateKind),
        Some(_) => Ok(()),
    }
}

/// Whether codes are among others; none = all.
fn codes_within(part: &[String], whole: &[String]) -> bool {
    whole.is_empty() || (!part.is_empty() && part.iter().all(|one| whole.contains(one)))
}
