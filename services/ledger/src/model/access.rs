//! What the log says of one grant: what happened to it, and the state that follows from it.
//!
//! Invariant: nothing is told as good that is not shown: an approval or an exception that has run out counts as no decision,
//! and a removal counts only when it was verified.

use counterfoil_evidence::catalogue::Payload;
use counterfoil_evidence::v1::{
    AttemptResult, Decision, Disposition, EffectClaim, FindingState, Operation, Record,
    ReviewDecided, Situation,
};

/// Lowest verification assurance level that proves an absence.
const VAL_PROVES: u32 = 3;

/// The state of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum AccessState {
    /// Nobody has decided, or what was decided has run out.
    #[default]
    Undecided,
    /// It stays.
    Accepted,
    /// It goes; that it is gone is not shown.
    Revoked,
    /// It stays against a rule.
    Excepted,
    /// It is gone, verified.
    RemovedVerified,
    /// It came back.
    Regressed,
    /// Nobody decided in time.
    Lapsed,
}

impl AccessState {
    /// As the API says it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Undecided => "UNDECIDED",
            Self::Accepted => "ACCEPTED",
            Self::Revoked => "REVOKED",
            Self::Excepted => "EXCEPTED",
            Self::RemovedVerified => "REMOVED_VERIFIED",
            Self::Regressed => "REGRESSED",
            Self::Lapsed => "LAPSED",
        }
    }
}

/// One thing that happened to a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccessEvent {
    pub(crate) type_name: String,
    pub(crate) occurred_at_ms: i64,
    pub(crate) actor: String,
    pub(crate) accountable_owner: String,
    pub(crate) authority_record_hash: Vec<u8>,
    pub(crate) outcome: String,
    pub(crate) evidence_sha256: Vec<Vec<u8>>,
    pub(crate) review_by_ms: Option<i64>,
    /// The state that it leads to; `None`: it changes nothing.
    leads_to: Option<AccessState>,
}

impl AccessEvent {
    /// What a record says of the grant that it names as its subject.
    pub(crate) fn read(record: Record, payload: &Payload) -> Self {
        let said = Said::of(payload);
        let accountability = record.accountability.unwrap_or_default();
        Self {
            type_name: record.r#type,
            occurred_at_ms: record.occurred_at_ms,
            actor: record.actor,
            accountable_owner: accountability.accountable_owner,
            authority_record_hash: accountability.authority,
            outcome: said.outcome,
            evidence_sha256: said
                .evidence
                .into_iter()
                .filter(|hash| !hash.is_empty())
                .collect(),
            review_by_ms: said.review_by_ms,
            leads_to: said.leads_to,
        }
    }
}

/// The state at a moment, from all that happened until then, in order of the log.
pub(crate) fn state_at(events: &[AccessEvent], at_ms: i64) -> AccessState {
    let deciding = events.iter().rev().find(|event| event.leads_to.is_some());
    let Some(event) = deciding else {
        return AccessState::Undecided;
    };
    let has_run_out = event.review_by_ms.is_some_and(|end| end <= at_ms);
    match event.leads_to {
        Some(AccessState::Accepted | AccessState::Excepted) if has_run_out => {
            AccessState::Undecided
        }
        state => state.unwrap_or_default(),
    }
}

/// What a payload says, in the words of the API.
#[derive(Debug, Default)]
struct Said {
    outcome: String,
    evidence: Vec<Vec<u8>>,
    review_by_ms: Option<i64>,
    leads_to: Option<AccessState>,
}

impl Said {
    fn new(outcome: impl Into<String>, evidence: Vec<Vec<u8>>) -> Self {
        Self {
            outcome: outcome.into(),
            evidence,
            ..Self::default()
        }
    }

    fn leading_to(mut self, state: AccessState) -> Self {
        self.leads_to = Some(state);
        self
    }

    fn of(payload: &Payload) -> Self {
        match payload {
            Payload::ReviewItemRouted(_) => Self::new("ROUTED", Vec::new()),
            Payload::ReviewDecided(decided) => Self::of_decision(decided),
            Payload::ReviewItemLapsed(lapsed) => {
                let outcome = word::<Disposition>(lapsed.disposition, "DISPOSITION_");
                Self::new(outcome, Vec::new()).leading_to(AccessState::Lapsed)
            }
            Payload::ReviewItemVoided(voided) => {
                Self::new("VOIDED", vec![voided.sync_record_hash.clone()])
                    .leading_to(AccessState::RemovedVerified)
            }
            Payload::ExceptionGranted(granted) => {
                let mut said = Self::new("EXCEPTION", vec![granted.decision_record_hash.clone()]);
                said.review_by_ms = Some(granted.expires_ms);
                said.leading_to(AccessState::Excepted)
            }
            Payload::FindingOpened(opened) => Self::new(
                word::<Situation>(opened.situation, "SITUATION_"),
                Vec::new(),
            ),
            Payload::FindingDispositioned(finding) => Self::new(
                word::<FindingState>(finding.state, "FINDING_STATE_"),
                vec![finding.evidence_record_hash.clone()],
            ),
            Payload::ActionIntended(intent) => Self::new(
                word::<Operation>(intent.operation, "OPERATION_"),
                vec![intent.plan_record_hash.clone()],
            ),
            Payload::ActionAttempted(attempt) => Self::new(
                word::<AttemptResult>(attempt.result, "ATTEMPT_RESULT_"),
                vec![attempt.intent_record_hash.clone()],
            ),
            Payload::EffectVerified(effect) => {
                let outcome = word::<EffectClaim>(effect.claim, "EFFECT_CLAIM_");
                let said = Self::new(outcome, vec![effect.sync_record_hash.clone()]);
                let gone = matches!(effect.claim(), EffectClaim::Absent | EffectClaim::Narrowed);
                if gone && effect.val >= VAL_PROVES {
                    said.leading_to(AccessState::RemovedVerified)
                } else {
                    said
                }
            }
            Payload::GrantEnded(ended) => {
                let cited = [&ended.decision_record_hash, &ended.verified_record_hash];
                Self::new("ENDED", cited.map(Clone::clone).to_vec())
                    .leading_to(AccessState::RemovedVerified)
            }
            Payload::RegressionDetected(regression) => {
                let cited = [&regression.closed_record_hash, &regression.sync_record_hash];
                Self::new("REGRESSED", cited.map(Clone::clone).to_vec())
                    .leading_to(AccessState::Regressed)
            }
            _ => Self::new("RECORDED", Vec::new()),
        }
    }

    fn of_decision(decided: &ReviewDecided) -> Self {
        let evidence = decided.evidence.iter().map(|cited| cited.sha256.clone());
        let outcome = word::<Decision>(decided.decision, "DECISION_");
        let mut said = Self::new(outcome, evidence.collect());
        said.review_by_ms = given(decided.review_by_ms);
        match decided.decision() {
            Decision::Accept => said.leading_to(AccessState::Accepted),
            Decision::Exception => {
                let ends = [decided.review_by_ms, decided.exception_expires_ms];
                said.review_by_ms = ends.into_iter().filter_map(given).min();
                said.leading_to(AccessState::Excepted)
            }
            Decision::Revoke | Decision::Reduce => said.leading_to(AccessState::Revoked),
            Decision::Unspecified => said,
        }
    }
}

/// A time that was stated.
fn given(ms: i64) -> Option<i64> {
    (ms != 0).then_some(ms)
}

/// An enum's value without its type's prefix, such as "ACCEPT".
trait Named: TryFrom<i32> {
    fn name(&self) -> &'static str;
}

macro_rules! named {
    ($($name:ty),*) => {
        $(impl Named for $name {
            fn name(&self) -> &'static str {
                self.as_str_name()
            }
        })*
    };
}

named!(
    Decision,
    Disposition,
    Situation,
    FindingState,
    Operation,
    AttemptResult,
    EffectClaim
);

fn word<E: Named>(value: i32, prefix: &str) -> String {
    match E::try_from(value) {
        Ok(value) => value.name().trim_start_matches(prefix).to_owned(),
        Err(_) => format!("UNKNOWN_{value}"),
    }
}

#[cfg(test)]
mod tests {
    use counterfoil_evidence::v1::{EffectVerified, EvidenceRef, RegressionDetected};

    use super::*;

    fn event(payload: &Payload) -> AccessEvent {
        AccessEvent::read(Record::default(), payload)
    }

    fn decided(decision: Decision) -> Payload {
        Payload::ReviewDecided(ReviewDecided {
            decision: decision.into(),
            review_by_ms: 1000,
            exception_expires_ms: if decision == Decision::Exception {
                500
            } else {
                0
            },
            evidence: vec![EvidenceRef {
                kind: "usage".to_owned(),
                sha256: vec![7; 32],
            }],
            ..Default::default()
        })
    }

    fn verified(claim: EffectClaim, val: u32) -> Payload {
        Payload::EffectVerified(EffectVerified {
            claim: claim.into(),
            val,
            ..Default::default()
        })
    }

    #[test]
    fn a_decision_says_what_it_decided_by_what_evidence_and_until_when() {
        let event = event(&decided(Decision::Accept));
        assert_eq!(event.outcome, "ACCEPT");
        assert_eq!(event.evidence_sha256, [vec![7; 32]]);
        assert_eq!(event.review_by_ms, Some(1000));
    }

    #[test]
    fn the_state_follows_the_last_event_that_decides() {
        let mut events = vec![event(&Payload::ReviewItemRouted(Default::default()))];
        let mut then = |payload: Payload| {
            events.push(event(&payload));
            state_at(&events, 10)
        };
        assert_eq!(
            then(Payload::ReviewItemRouted(Default::default())),
            AccessState::Undecided
        );
        assert_eq!(then(decided(Decision::Revoke)), AccessState::Revoked);
        assert_eq!(
            then(Payload::ActionAttempted(Default::default())),
            AccessState::Revoked
        );
        assert_eq!(then(verified(EffectClaim::Absent, 2)), AccessState::Revoked);
        assert_eq!(
            then(verified(EffectClaim::Absent, 3)),
            AccessState::RemovedVerified
        );
        let back = Payload::RegressionDetected(RegressionDetected::default());
        assert_eq!(then(back), AccessState::Regressed);
        assert_eq!(
            then(Payload::ReviewItemLapsed(Default::default())),
            AccessState::Lapsed
        );
    }

    #[test]
    fn an_approval_that_has_run_out_is_no_decision() {
        let accepted = [event(&decided(Decision::Accept))];
        assert_eq!(state_at(&accepted, 999), AccessState::Accepted);
        assert_eq!(state_at(&accepted, 1000), AccessState::Undecided);
        let excepted = [event(&decided(Decision::Exception))];
        assert_eq!(state_at(&excepted, 499), AccessState::Excepted);
        assert_eq!(state_at(&excepted, 500), AccessState::Undecided);
        assert_eq!(state_at(&[], 0), AccessState::Undecided);
    }
}
