//! The rules of a decision: who may take it, what it must state, and what refuses it (I-13, I-25, I-26, I-27).
//!
//! The order of the checks is the order of the functions below: who asks comes before what is asked.

use counterfoil_evidence::{leaf::GrantKey, v1};

use super::{
    identity::{self, Barred},
    ids::{Principal, Source},
    item::Item,
    rights::{self, Right},
    routing::Person,
};

/// Longest justification and basis, characters.
const TEXT_CHARS_MAX: usize = 4_000;
/// Most pieces of evidence on one decision.
const EVIDENCE_MAX: usize = 32;
/// Longest kind of evidence, characters.
const KIND_CHARS_MAX: usize = 64;

/// What a reviewer decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Decision {
    /// The access stays.
    Accept,
    /// The access goes.
    Revoke,
    /// The wider grant goes, a narrower one stays.
    Reduce,
    /// The access stays against a rule.
    Exception,
}

impl Decision {
    /// As records carry it.
    pub(crate) fn evidence(self) -> v1::Decision {
        match self {
            Self::Accept => v1::Decision::Accept,
            Self::Revoke => v1::Decision::Revoke,
            Self::Reduce => v1::Decision::Reduce,
            Self::Exception => v1::Decision::Exception,
        }
    }

    /// Whether the access stays.
    pub(crate) fn keeps(self) -> bool {
        matches!(self, Self::Accept | Self::Exception)
    }
}

/// Something a reviewer relied on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EvidenceRef {
    /// Kind, a code.
    pub(crate) kind: String,
    /// SHA-256 of the evidence or of its reference.
    pub(crate) sha256: [u8; 32],
}

/// A decision that somebody wants to take; nothing about it is checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proposal {
    /// The item's grant.
    pub(crate) key: GrantKey,
    /// The decision.
    pub(crate) decision: Decision,
    /// Why, for people.
    pub(crate) justification: String,
    /// What the reviewer relied on.
    pub(crate) evidence: Vec<EvidenceRef>,
    /// When it must be reviewed again, milliseconds.
    pub(crate) review_by_ms: Option<i64>,
    /// Why the rule does not bind here; empty = none.
    pub(crate) exception_basis: String,
    /// Who owns the exception.
    pub(crate) exception_owner: Option<Principal>,
    /// When the exception ends, milliseconds.
    pub(crate) exception_expires_ms: Option<i64>,
    /// The narrower grant that stays.
    pub(crate) reduce_to: Option<GrantKey>,
    /// Commitment to what the reviewer was shown.
    pub(crate) presentation_hash: [u8; 32],
    /// Time spent on it, milliseconds.
    pub(crate) dwell_ms: i64,
}

impl Proposal {
    /// Until when the access may be there: 0 when it goes.
    pub(crate) fn not_after_ms(&self) -> i64 {
        match self.decision {
            Decision::Accept => self.review_by_ms.unwrap_or(0),
            Decision::Exception => self.exception_expires_ms.unwrap_or(0),
            Decision::Revoke | Decision::Reduce => 0,
        }
    }
}

/// What kind of refusal it is: decides the code that the caller gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalKind {
    /// A field is missing or wrong.
    Invalid(&'static str),
    /// The caller may not.
    Denied,
    /// The state does not allow it.
    Precondition,
    /// The caller saw an older state.
    Stale,
    /// Not there.
    NotFound,
}

/// Why a decision is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    /// What kind of refusal it is.
    pub(crate) kind: RefusalKind,
    /// For machines.
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) message: String,
}

impl Refusal {
    /// Reason of a refusal because the grant is not what was shown.
    pub(crate) const GRANT_CHANGED: &'static str = "GRANT_CHANGED";

    /// A decision that cannot be read; `message` names the field.
    pub(crate) fn unreadable(message: impl Into<String>) -> Self {
        Self {
            kind: RefusalKind::Invalid("decision"),
            reason: "INVALID_FIELD",
            message: message.into(),
        }
    }

    fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind: RefusalKind::Invalid(field),
            reason: "INVALID_FIELD",
            message: format!("{field}: {}", message.into()),
        }
    }

    fn denied(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind: RefusalKind::Denied,
            reason,
            message: message.into(),
        }
    }

    /// The grant is not what was shown.
    pub(crate) fn grant_changed(message: impl Into<String>) -> Self {
        Self {
            kind: RefusalKind::Stale,
            reason: Self::GRANT_CHANGED,
            message: message.into(),
        }
    }

    /// Somebody else changed the item during the call.
    pub(crate) fn conflict() -> Self {
        Self {
            kind: RefusalKind::Stale,
            reason: "ITEM_CHANGED",
            message: "the item changed during the call".into(),
        }
    }

    /// There is no such item.
    pub(crate) fn not_found() -> Self {
        Self {
            kind: RefusalKind::NotFound,
            reason: "NOT_FOUND",
            message: "not found".into(),
        }
    }

    /// The item has ended.
    pub(crate) fn ended() -> Self {
        Self {
            kind: RefusalKind::Precondition,
            reason: "ITEM_ENDED",
            message: "the item has ended".into(),
        }
    }

    /// The item stands twice in one call.
    pub(crate) fn twice() -> Self {
        Self::invalid("item", "stands twice in one call")
    }
}

/// Who decides, as the authority service knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reviewer {
    /// The caller.
    pub(crate) principal: Principal,
    /// The identity the caller is; empty when none.
    pub(crate) identity_key: String,
    /// Rights REVIEW that hold now.
    pub(crate) review: Vec<Right>,
    /// Rights EXCEPT that hold now; asked for only when the call holds an exception.
    pub(crate) except: Vec<Right>,
}

/// Limits of the policy in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Longest time to a review-by date, milliseconds.
    pub(crate) review_interval_max_ms: i64,
    /// Longest life of an exception, milliseconds.
    pub(crate) exception_max_ms: i64,
}

/// Checks who decides: somebody known and not the subject, and the one it was routed to (I-26). Answers the right to cite (I-13).
pub(crate) fn check_reviewer<'r>(
    item: &Item,
    source: &Source,
    reviewer: &'r Reviewer,
    decision: Decision,
    now_ms: i64,
) -> Result<&'r Right, Refusal> {
    match item.bars(&reviewer.identity_key) {
        Some(Barred::Subject) => {
            return Err(Refusal::denied(
                "SELF_REVIEW",
                "nobody reviews their own access",
            ));
        }
        Some(Barred::NoIdentity) => {
            return Err(Refusal::denied(
                "NO_IDENTITY",
                "without an identity key nobody can tell whether the access is the caller's own",
            ));
        }
        None => {}
    }
    let stands_in = |routed: &Principal| {
        let mut passed_on = reviewer
            .review
            .iter()
            .filter_map(|right| right.on_behalf_of.first());
        passed_on.any(|(delegator, _)| delegator == routed)
    };
    let routed = item
        .reviewer
        .as_ref()
        .filter(|routed| **routed == reviewer.principal || stands_in(routed))
        .ok_or_else(|| Refusal::denied("NOT_ROUTED", "the item is with another reviewer"))?;
    let asked = (&reviewer.principal, routed);
    let review =
        rights::covering_for(&reviewer.review, source, now_ms, asked).ok_or_else(|| {
            Refusal::denied(
                "NO_DECISION_RIGHT",
                format!("no decision right REVIEW covers {source}"),
            )
        })?;
    let right = if decision == Decision::Exception {
        rights::covering_for(&reviewer.except, source, now_ms, asked).ok_or_else(|| {
            Refusal::denied(
                "NO_DECISION_RIGHT",
                format!("no decision right EXCEPT covers {source}"),
            )
        })?
    } else {
        review
    };
    // What bars the one in whose name it is decided, bars who decides.
    for right in [review, right] {
        let delegators = right.on_behalf_of.iter();
        if delegators
            .map(|(_, key)| item.bars(key))
            .any(|barred| barred.is_some())
        {
            return Err(Refusal::denied(
                "SELF_REVIEW",
                "nobody lets another review their own access in their name",
            ));
        }
    }
    Ok(right)
}

/// Checks what a decision states (I-25, A22, A43).
pub(crate) fn check_form(proposal: &Proposal, limits: Limits, now_ms: i64) -> Result<(), Refusal> {
    check_text("justification", &proposal.justification)?;
    check_evidence(proposal)?;
    if proposal.dwell_ms < 0 {
        return Err(Refusal::invalid("dwell_ms", "is negative"));
    }
    if proposal.decision.keeps() {
        let review_by = proposal
            .review_by_ms
            .ok_or_else(|| Refusal::invalid("review_by_time", "is required to keep the access"))?;
        check_future(
            "review_by_time",
            review_by,
            now_ms,
            limits.review_interval_max_ms,
        )?;
    }
    match proposal.decision {
        Decision::Exception => {
            check_text("exception_basis", &proposal.exception_basis)?;
            if proposal.exception_owner.is_none() {
                return Err(Refusal::invalid("exception_owner", "is required"));
            }
            let expires = proposal
                .exception_expires_ms
                .ok_or_else(|| Refusal::invalid("exception_expire_time", "is required"))?;
            check_future(
                "exception_expire_time",
                expires,
                now_ms,
                limits.exception_max_ms,
            )?;
        }
        _ => check_no_exception(proposal)?,
    }
    match (proposal.decision, proposal.reduce_to) {
        (Decision::Reduce, None) => Err(Refusal::invalid("reduce_to_grant", "is required")),
        (Decision::Reduce, Some(key)) if key == proposal.key => Err(Refusal::invalid(
            "reduce_to_grant",
            "is the grant that is to go",
        )),
        (Decision::Reduce, Some(_)) | (_, None) => Ok(()),
        (_, Some(_)) => Err(Refusal::invalid("reduce_to_grant", "is for REDUCE only")),
    }
}

/// A decision that looks like an exception and is none would be read as one.
fn check_no_exception(proposal: &Proposal) -> Result<(), Refusal> {
    let only = "is for EXCEPTION only";
    if !proposal.exception_basis.is_empty() {
        return Err(Refusal::invalid("exception_basis", only));
    }
    if proposal.exception_owner.is_some() {
        return Err(Refusal::invalid("exception_owner", only));
    }
    if proposal.exception_expires_ms.is_some() {
        return Err(Refusal::invalid("exception_expire_time", only));
    }
    Ok(())
}

fn check_text(field: &'static str, text: &str) -> Result<(), Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::invalid(field, "is required"));
    }
    if text.chars().count() > TEXT_CHARS_MAX {
        return Err(Refusal::invalid(
            field,
            format!("is longer than {TEXT_CHARS_MAX} characters"),
        ));
    }
    Ok(())
}

fn check_evidence(proposal: &Proposal) -> Result<(), Refusal> {
    if proposal.decision.keeps() && proposal.evidence.is_empty() {
        return Err(Refusal::invalid(
            "evidence",
            "at least one is required to keep the access",
        ));
    }
    if proposal.evidence.len() > EVIDENCE_MAX {
        return Err(Refusal::invalid(
            "evidence",
            format!("at most {EVIDENCE_MAX} are allowed"),
        ));
    }
    // The kind enters the record in clear, so it must be a code and no free text.
    let code = |kind: &str| {
        (1..=KIND_CHARS_MAX).contains(&kind.len())
            && kind.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte)
            })
    };
    match proposal.evidence.iter().find(|one| !code(&one.kind)) {
        Some(_) => Err(Refusal::invalid(
            "evidence.kind",
            "must be a code: 1 to 64 of a-z, 0-9, '_', '.' and '-'",
        )),
        None => Ok(()),
    }
}

fn check_future(
    field: &'static str,
    time_ms: i64,
    now_ms: i64,
    max_ms: i64,
) -> Result<(), Refusal> {
    if time_ms <= now_ms {
        return Err(Refusal::invalid(field, "is not in the future"));
    }
    if time_ms.saturating_sub(now_ms) > max_ms {
        return Err(Refusal::invalid(
            field,
            format!(
                "is later than the policy allows ({} s from now)",
                max_ms / 1000
            ),
        ));
    }
    Ok(())
}

/// Checks that what the reviewer decides on is what is shown now (I-27). What inventory holds now is checked apart.
pub(crate) fn check_presentation(item: &Item, presentation_hash: &[u8; 32]) -> Result<(), Refusal> {
    if item.presentation_hash.as_ref() == Some(presentation_hash) {
        return Ok(());
    }
    Err(Refusal::grant_changed(
        "the decision is about an earlier presentation; read the item again",
    ))
}

/// Checks who is to own an exception: an active human of the customer, and not the one who benefits (I-55).
pub(crate) fn check_exception_owner(item: &Item, owner: Option<&Person>) -> Result<(), Refusal> {
    let field = "exception_owner";
    let Some(owner) = owner.filter(|owner| owner.may_be_accountable()) else {
        return Err(Refusal::invalid(
            field,
            "must be an active human of the customer",
        ));
    };
    if identity::same(&item.subject_key, &owner.identity_key) {
        return Err(Refusal::invalid(field, "is the subject of the access"));
    }
    Ok(())
}

/// A grant as inventory holds it now, as far as decisions need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CurrentGrant {
    /// 74 bytes; empty when it is gone.
    pub(crate) leaf: Vec<u8>,
    /// Its account.
    pub(crate) account: String,
    /// Its entitlement.
    pub(crate) entitlement: String,
    /// Entitlements through which it follows.
    pub(crate) path: Vec<String>,
}

/// Checks the narrower grant of a REDUCE: there, of the same account, and not one that falls with the wider grant.
pub(crate) fn check_reduction(
    wider: &CurrentGrant,
    narrower: Option<&CurrentGrant>,
) -> Result<(), Refusal> {
    let field = "reduce_to_grant";
    let Some(narrower) = narrower.filter(|grant| !grant.leaf.is_empty()) else {
        return Err(Refusal::invalid(field, "is not there"));
    };
    if narrower.account != wider.account {
        return Err(Refusal::invalid(field, "is of another account"));
    }
    if narrower.entitlement == wider.entitlement || narrower.path.contains(&wider.entitlement) {
        return Err(Refusal::invalid(field, "goes with the grant that is to go"));
    }
    Ok(())
}
