//! Access in an emergency: two humans, at most four hours, looked at by a third (I-43).

use super::{
    Faults, RecordHash,
    ids::{EmergencyId, PrincipalId},
    principal::{OrganizationKind, Principal, PrincipalKind, ROLES},
    right::{DecisionAction, Scope},
    text,
};

const HOUR_MS: i64 = 3_600_000;
/// Longest access.
const LIFE_MS_MAX: i64 = 4 * HOUR_MS;
/// What no emergency gives: what is granted, issued or published would stay when the access is over.
const GOVERNING: &str = "tenant-administrator";
/// How long a request waits for a second human.
const REQUEST_LIFE_MS: i64 = HOUR_MS;
/// When it must have been reviewed, after its end.
const REVIEW_MS: i64 = 72 * HOUR_MS;
/// Longest text that is committed to, in characters.
const TEXT_CHARS_MAX: usize = 4_000;

/// How far it has come, as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// One human asked.
    Requested,
    /// Another let it begin; the log does not have that yet.
    Approved,
    /// The log has it.
    Logged,
}

/// What it is at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Requested,
    /// Nobody let it begin in time.
    Expired,
    /// Its record is not in the log: it gives nothing yet.
    Approved,
    Active,
    /// Waits for its review.
    Ended,
    Reviewed,
}

/// An access in an emergency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Emergency {
    pub(crate) id: EmergencyId,
    pub(crate) stage: Stage,
    pub(crate) requester: PrincipalId,
    /// Ascending.
    pub(crate) roles: Vec<String>,
    /// Ascending.
    pub(crate) actions: Vec<DecisionAction>,
    pub(crate) scope: Scope,
    pub(crate) duration_ms: i64,
    pub(crate) requested_at_ms: i64,
    pub(crate) request_hash: RecordHash,
    pub(crate) approval: Option<Approval>,
    /// Ended early.
    pub(crate) ended_at_ms: Option<i64>,
    pub(crate) reviewer: Option<PrincipalId>,
}

/// Who let it begin, and for when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Approval {
    pub(crate) approver: PrincipalId,
    pub(crate) valid_from_ms: i64,
    /// Exclusive.
    pub(crate) valid_to_ms: i64,
    /// Id of the record that must be in the log.
    pub(crate) record_id: Vec<u8>,
    pub(crate) record_hash: RecordHash,
}

impl Emergency {
    /// When it ends or ended; `None`: it was never let begin.
    pub(crate) fn end_ms(&self) -> Option<i64> {
        let end_ms = self.approval.as_ref()?.valid_to_ms;
        Some(self.ended_at_ms.map_or(end_ms, |early| early.min(end_ms)))
    }

    /// When its review is due.
    pub(crate) fn review_due_ms(&self) -> Option<i64> {
        Some(self.end_ms()?.saturating_add(REVIEW_MS))
    }

    /// What it is at that moment.
    pub(crate) fn phase(&self, now_ms: i64) -> Phase {
        match (self.end_ms(), self.stage) {
            (None, _) if now_ms < self.requested_at_ms.saturating_add(REQUEST_LIFE_MS) => {
                Phase::Requested
            }
            (None, _) => Phase::Expired,
            _ if self.reviewer.is_some() => Phase::Reviewed,
            (Some(end_ms), _) if now_ms >= end_ms => Phase::Ended,
            (Some(_), Stage::Logged) => Phase::Active,
            (Some(_), _) => Phase::Approved,
        }
    }
}

/// Checks what is asked for.
pub(crate) fn check_new(
    (roles, actions): (&[String], &[DecisionAction]),
    duration_seconds: i64,
    reason: &str,
) -> Result<(), Faults> {
    let mut faults = Faults::default();
    for role in roles {
        if !ROLES.contains(&role.as_str()) || role == GOVERNING {
            faults.add(
                "access.roles",
                format!("{role:?} is none that an emergency gives"),
            );
        }
    }
    let known = actions
        .iter()
        .all(|action| *action != DecisionAction::Unspecified);
    faults.require(
        known,
        "access.actions",
        "must be actions of decision rights",
    );
    let something = !roles.is_empty() || !actions.is_empty();
    faults.require(
        something,
        "access.roles",
        "or actions: at least one is required",
    );
    let good = (60..=LIFE_MS_MAX / 1000).contains(&duration_seconds);
    faults.require(good, "access.duration_seconds", "must be 60 to 14,400");
    faults.require(is_text(reason), "reason", TEXT);
    faults.or(())
}

/// What a text that is committed to looks like.
pub(crate) const TEXT: &str = "must have 1 to 4,000 characters that say something";

/// Whether a text may be committed to.
pub(crate) fn is_text(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().count() <= TEXT_CHARS_MAX
}

/// Checks the code of what a review found.
pub(crate) fn check_review(outcome_code: &str, findings: &str) -> Result<(), Faults> {
    let mut faults = Faults::default();
    faults.require(text::is_code(outcome_code), "outcome_code", text::CODE);
    faults.require(is_text(findings), "findings", TEXT);
    faults.or(())
}

/// Whether a principal may take part at all: an active human.
pub(crate) fn is_human(principal: &Principal) -> bool {
    principal.is_active() && principal.kind == PrincipalKind::Human
}

/// Whether this human may let begin what that one asked for: another, and one of them of the customer.
pub(crate) fn may_approve(requester: &Principal, approver: &Principal) -> bool {
    let of_customer = |one: &Principal| one.organization_kind == OrganizationKind::Customer;
    is_human(requester)
        && is_human(approver)
        && !requester.is_same(approver)
        && (of_customer(requester) || of_customer(approver))
}

/// Whether this human may look at what was done: a third beside these two, of the customer unless both were.
pub(crate) fn may_review<'p>(
    two: impl IntoIterator<Item = &'p Principal>,
    reviewer: &Principal,
) -> bool {
    let of_customer = |one: &Principal| one.organization_kind == OrganizationKind::Customer;
    is_human(reviewer)
        && two
            .into_iter()
            .all(|one| !one.is_same(reviewer) && (of_customer(one) || of_customer(reviewer)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::principal::tests::customer_human;

    #[test]
    fn i43_the_second_and_the_third_human_are_other_humans_by_whatever_name() {
        let [ada, ben, cleo] = ["ada", "ben", "cleo"].map(customer_human);
        let twin = |one: &Principal, id: &str| Principal {
            identity_key: format!("{}@corp.example", one.id),
            ..customer_human(id)
        };
        let (ada, again) = (twin(&ada, "ada"), twin(&ada, "ada-again"));
        assert!(may_approve(&ada, &ben) && !may_approve(&ada, &ada));
        assert!(!may_approve(&ada, &again));
        assert!(may_review([&ada, &ben], &cleo));
        let hired = |id: &str| Principal {
            organization_kind: OrganizationKind::Provider,
            ..customer_human(id)
        };
        assert!(may_review([&ada, &ben], &hired("otto")));
        assert!(may_review([&ada, &hired("otto")], &ben));
        assert!(!may_review([&ada, &hired("otto")], &hired("petra")));
        for one in [&ada, &ben, &again] {
            assert!(!may_review([&ada, &ben], one), "{}", one.id);
        }
    }
}
