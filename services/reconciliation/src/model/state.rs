//! States of remediations and actions, and what may follow what.

use counterfoil_evidence::v1::{AttemptResult, RemediationOutcome};

/// State of a remediation; numbers are the API's and the table's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i64)]
pub(crate) enum RemediationState {
    Held = 1,
    Approved = 2,
    Dispatched = 3,
    Verifying = 4,
    Closed = 5,
    Partial = 6,
    Failed = 7,
    Unverifiable = 8,
    Cancelled = 9,
    Regressed = 10,
}

impl RemediationState {
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        use RemediationState::{
            Approved, Cancelled, Closed, Dispatched, Failed, Held, Partial, Regressed,
            Unverifiable, Verifying,
        };
        [
            Held,
            Approved,
            Dispatched,
            Verifying,
            Closed,
            Partial,
            Failed,
            Unverifiable,
            Cancelled,
            Regressed,
        ]
        .into_iter()
        .find(|state| *state as i64 == number)
    }

    /// As people read it.
    pub(crate) const fn shown(self) -> &'static str {
        match self {
            Self::Held => "HELD",
            Self::Approved => "APPROVED",
            Self::Dispatched => "DISPATCHED",
            Self::Verifying => "VERIFYING",
            Self::Closed => "CLOSED",
            Self::Partial => "PARTIAL",
            Self::Failed => "FAILED",
            Self::Unverifiable => "UNVERIFIABLE",
            Self::Cancelled => "CANCELLED",
            Self::Regressed => "REGRESSED",
        }
    }

    /// Whether it may be executed: for the first time, or again for what is open.
    pub(crate) fn may_execute(self) -> bool {
        matches!(
            self,
            Self::Approved | Self::Partial | Self::Failed | Self::Unverifiable
        )
    }

    /// Whether it goes on by itself.
    pub(crate) fn is_running(self) -> bool {
        matches!(self, Self::Dispatched | Self::Verifying)
    }
}

/// State of an action; numbers are the API's and the table's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i64)]
pub(crate) enum ActionState {
    Planned = 1,
    Intended = 2,
    Acknowledged = 3,
    Failed = 4,
    Ambiguous = 5,
    Verified = 6,
    StillPresent = 7,
    Unverifiable = 8,
    Regressed = 9,
    Superseded = 10,
}

impl ActionState {
    const ALL: [Self; 10] = [
        Self::Planned,
        Self::Intended,
        Self::Acknowledged,
        Self::Failed,
        Self::Ambiguous,
        Self::Verified,
        Self::StillPresent,
        Self::Unverifiable,
        Self::Regressed,
        Self::Superseded,
    ];

    pub(crate) fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as i64 == number)
    }

    /// The states that fulfil a condition.
    pub(crate) fn all_that(fulfil: impl Fn(Self) -> bool) -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|state| fulfil(*state))
            .collect()
    }

    /// Whether a new attempt may go out, after so many in this execution. Not while nobody knows what the last one did: that
    /// is read first. A refusal is not argued with; what was not asked, or is still there all the same, is tried once more.
    pub(crate) fn may_attempt(self, tries: u32) -> bool {
        match self {
            Self::Planned | Self::StillPresent => tries < TRIES_MAX,
            Self::Failed => tries == 0,
            _ => false,
        }
    }

    /// Whether a read-back tells something about it.
    pub(crate) fn wants_read_back(self) -> bool {
        matches!(
            self,
            Self::Acknowledged | Self::Failed | Self::Ambiguous | Self::Unverifiable
        )
    }

    /// Whether its effect is not proved.
    pub(crate) fn is_open(self) -> bool {
        self != Self::Verified
    }

    /// Whether its removal is still owed: it is not proved, and still decided.
    pub(crate) fn is_owed(self) -> bool {
        self.is_open() && self != Self::Superseded
    }

    /// What an answer of the target makes of an attempt. None of them closes anything.
    pub(crate) fn after_attempt(result: AttemptResult) -> Self {
        match result {
            AttemptResult::Ok => Self::Acknowledged,
            AttemptResult::Failed => Self::Failed,
            AttemptResult::NotAttempted => Self::Planned,
            AttemptResult::Ambiguous | AttemptResult::Unspecified => Self::Ambiguous,
        }
    }

    /// What a read-back makes of it: proved gone, proved there, or not to be told.
    pub(crate) fn after_reading(self, seen: Seen) -> Self {
        match (seen, self) {
            (Seen::Done, _) => Self::Verified,
            // The refusal says more than that the grant is still there.
            (Seen::Present | Seen::Spoiled, Self::Failed) => Self::Failed,
            (Seen::Present, _) => Self::StillPresent,
            (Seen::Spoiled, _) => Self::Failed,
            (Seen::Nothing, Self::Failed) => Self::Failed,
            (Seen::Nothing, _) => Self::Unverifiable,
        }
    }
}

/// What a read-back shows, in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The effect is proved.
    Done,
    /// The grant is there.
    Present,
    /// The grant is gone, and so is the one that had to stay.
    Spoiled,
    /// The source could not be read.
    Nothing,
}

/// Attempts of one action in one execution.
pub(crate) const TRIES_MAX: u32 = 2;

/// How a remediation ends that has these actions.
pub(crate) fn outcome(states: &[ActionState]) -> (RemediationState, RemediationOutcome) {
    let verified = states
        .iter()
        .filter(|state| **state == ActionState::Verified)
        .count();
    if verified == states.len() {
        (RemediationState::Closed, RemediationOutcome::Closed)
    } else if verified > 0 {
        (RemediationState::Partial, RemediationOutcome::Partial)
    } else if states.contains(&ActionState::Unverifiable) {
        (
            RemediationState::Unverifiable,
            RemediationOutcome::Unverifiable,
        )
    } else {
        (RemediationState::Failed, RemediationOutcome::Failed)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use counterfoil_evidence::{leaf::GrantKey, v1::Operation};
    use proptest::prelude::*;

    use super::*;
    use crate::model::entities::{Action, Decision};

    /// An action that waits.
    pub(crate) fn action(key: GrantKey) -> Action {
        Action {
            id: hex::encode(&key.0[36..]),
            key,
            source: "a".to_owned(),
            operation: Operation::Revoke,
            finding: "f".to_owned(),
            decision: Decision {
                record_hash: [5; 32],
                decided_ms: 10,
                decided_by: "principals/p".to_owned(),
                kept: None,
                campaign: "campaigns/c".to_owned(),
            },
            account_native: "amy".to_owned(),
            entitlement_native: "admin".to_owned(),
            account_name: "Amy".to_owned(),
            entitlement_name: "Admin".to_owned(),
            state: ActionState::Planned,
            attempts: 0,
            tries: 0,
            idempotency_key: String::new(),
            intent_record_id: None,
            intent_record_hash: None,
            executor: String::new(),
            first_started_ms: 0,
            started_ms: 0,
            ended_ms: 0,
            failure: String::new(),
            read_record_hash: None,
            verified_record_hash: None,
            verified_ms: 0,
            watched: false,
            superseded_by: None,
        }
    }

    /// What may happen to an action.
    #[derive(Debug, Clone, Copy)]
    enum Event {
        Attempt(AttemptResult),
        Crash,
        Read(Seen),
        ExecuteAgain,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            prop::sample::select(vec![
                AttemptResult::Ok,
                AttemptResult::Failed,
                AttemptResult::Ambiguous,
                AttemptResult::NotAttempted,
            ])
            .prop_map(Event::Attempt),
            Just(Event::Crash),
            prop::sample::select(vec![
                Seen::Done,
                Seen::Present,
                Seen::Spoiled,
                Seen::Nothing
            ])
            .prop_map(Event::Read),
            Just(Event::ExecuteAgain),
        ]
    }

    proptest! {
        #[test]
        fn nothing_closes_unread_and_nothing_unknown_is_repeated_unread(
            events in prop::collection::vec(event(), 0..40),
        ) {
            let (mut state, mut tries) = (ActionState::Planned, 0);
            let (mut unknown, mut proved) = (false, false);
            for event in events {
                match event {
                    Event::Attempt(result) if state.may_attempt(tries) => {
                        prop_assert!(!unknown, "repeated although nobody knows what the last one did");
                        prop_assert!(!proved, "attempted although it is gone");
                        tries += 1;
                        prop_assert!(tries <= TRIES_MAX);
                        state = ActionState::after_attempt(result);
                        unknown = result == AttemptResult::Ambiguous;
                    }
                    Event::Crash if state.may_attempt(tries) => {
                        tries += 1;
                        state = ActionState::after_attempt(AttemptResult::Ambiguous);
                        unknown = true;
                    }
                    Event::Read(seen) if state.wants_read_back() => {
                        state = state.after_reading(seen);
                        unknown &= seen == Seen::Nothing;
                        proved |= seen == Seen::Done;
                    }
                    Event::ExecuteAgain => tries = 0,
                    _ => {}
                }
                prop_assert_eq!(state == ActionState::Verified, proved);
            }
        }
    }

    #[test]
    fn c24_an_acknowledgement_closes_nothing() {
        let (state, outcome) = outcome(&[ActionState::Acknowledged, ActionState::Acknowledged]);
        assert_eq!(state, RemediationState::Failed);
        assert_eq!(outcome, RemediationOutcome::Failed);
    }

    #[test]
    fn c15_a_part_is_never_the_whole() {
        let mut states = vec![ActionState::Verified; 4];
        states.push(ActionState::Failed);
        assert_eq!(outcome(&states).0, RemediationState::Partial);
        states.pop();
        assert_eq!(outcome(&states).0, RemediationState::Closed);
    }

    #[test]
    fn what_may_have_happened_is_not_tried_again_unread() {
        for state in [
            ActionState::Intended,
            ActionState::Ambiguous,
            ActionState::Unverifiable,
        ] {
            assert!(!state.may_attempt(0), "{state:?}");
        }
    }

    #[test]
    fn what_was_superseded_is_neither_tried_nor_read_nor_owed_nor_proved() {
        let superseded = ActionState::Superseded;
        assert!(!superseded.may_attempt(0) && !superseded.wants_read_back());
        assert!(!superseded.is_owed() && superseded.is_open());
        let states = [ActionState::Verified, superseded];
        assert_eq!(outcome(&states).0, RemediationState::Partial);
        assert_eq!(outcome(&states[1..]).0, RemediationState::Failed);
    }

    #[test]
    fn numbers_and_states_are_the_same_thing() {
        for number in 1..=10 {
            assert_eq!(
                RemediationState::from_number(number).unwrap() as i64,
                number
            );
        }
        for number in 1..=10 {
            assert_eq!(ActionState::from_number(number).unwrap() as i64, number);
        }
        assert!(ActionState::from_number(0).is_none());
    }
}
