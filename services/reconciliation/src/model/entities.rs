//! What the service keeps: runs, findings, remediations, actions, obligations.

use counterfoil_evidence::{
    leaf::GrantKey,
    v1::{FindingState, Operation, Situation},
};

use super::{
    ids::Principal,
    state::{ActionState, RemediationState},
};

/// A SHA-256.
pub(crate) type Digest = [u8; 32];

/// A comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) id: String,
    /// Bare id.
    pub(crate) snapshot: String,
    pub(crate) record_id: Vec<u8>,
    pub(crate) record_hash: Digest,
    /// Count a situation, by its number; ascending, none is 0.
    pub(crate) situations: Vec<(i32, u64)>,
    pub(crate) observed_count: u64,
    pub(crate) authorized_count: u64,
    pub(crate) findings_count: u64,
    pub(crate) findings_root: Digest,
    pub(crate) gap_count: u64,
    pub(crate) created_ms: i64,
}

/// Who decided on a grant, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) record_hash: Digest,
    pub(crate) decided_ms: i64,
    /// "principals/{principal}", empty for a lapse.
    pub(crate) decided_by: String,
    /// For REDUCE: the grant that stays.
    pub(crate) kept: Option<GrantKey>,
    /// "campaigns/{campaign}".
    pub(crate) campaign: String,
}

/// Something that requires action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) id: String,
    pub(crate) key: GrantKey,
    pub(crate) situation: Situation,
    pub(crate) severity: u32,
    /// Bare id of the run that found it first.
    pub(crate) run: String,
    pub(crate) due_ms: i64,
    pub(crate) created_ms: i64,
    pub(crate) account_name: String,
    pub(crate) entitlement_name: String,
    pub(crate) decision: Option<Decision>,
    pub(crate) owner: Principal,
    pub(crate) state: FindingState,
    pub(crate) until_ms: i64,
    pub(crate) changed_ms: i64,
    /// Bare id, empty when none deals with it.
    pub(crate) remediation: String,
}

impl Finding {
    /// "findings/{finding}".
    pub(crate) fn local(&self) -> String {
        format!("findings/{}", self.id)
    }
}

/// A plan and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remediation {
    pub(crate) id: String,
    /// Bare id.
    pub(crate) run: String,
    pub(crate) plan_record_hash: Digest,
    pub(crate) actions_count: u64,
    pub(crate) val_required: u32,
    pub(crate) offsets_ms: Vec<i64>,
    pub(crate) approver: Principal,
    pub(crate) owner: Principal,
    pub(crate) policy_hash: Vec<u8>,
    /// Empty when no limit was tripped.
    pub(crate) threshold_metric: String,
    pub(crate) threshold_limit: u64,
    pub(crate) created_ms: i64,
    pub(crate) state: RemediationState,
    /// The AI agent that started it the last time; `None`: no agent did.
    pub(crate) agent: Option<Principal>,
    pub(crate) runner: String,
    pub(crate) p50_ms: i64,
    pub(crate) max_ms: i64,
    pub(crate) reported: bool,
}

/// One action of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) id: String,
    pub(crate) key: GrantKey,
    /// Bare id.
    pub(crate) source: String,
    pub(crate) operation: Operation,
    /// Bare id.
    pub(crate) finding: String,
    pub(crate) decision: Decision,
    pub(crate) account_native: String,
    pub(crate) entitlement_native: String,
    pub(crate) account_name: String,
    pub(crate) entitlement_name: String,
    pub(crate) state: ActionState,
    pub(crate) attempts: u32,
    pub(crate) tries: u32,
    pub(crate) idempotency_key: String,
    pub(crate) intent_record_id: Option<[u8; 16]>,
    pub(crate) intent_record_hash: Option<Digest>,
    pub(crate) executor: String,
    pub(crate) first_started_ms: i64,
    pub(crate) started_ms: i64,
    pub(crate) ended_ms: i64,
    pub(crate) failure: String,
    pub(crate) read_record_hash: Option<Digest>,
    pub(crate) verified_record_hash: Option<Digest>,
    pub(crate) verified_ms: i64,
    pub(crate) watched: bool,
    /// The newer decision's record, once there is one.
    pub(crate) superseded_by: Option<Digest>,
}

impl Action {
    /// "actions/{action}".
    pub(crate) fn local(&self) -> String {
        format!("actions/{}", self.id)
    }

    /// Notes when an attempt starts.
    pub(crate) fn start(&mut self, now_ms: i64) {
        self.started_ms = now_ms;
        if self.first_started_ms == 0 {
            self.first_started_ms = now_ms;
        }
    }
}

/// What an obligation is about.
pub(crate) mod obligation_kind {
    /// An absence is to be read again.
    pub(crate) const REREAD: &str = "persistence_reread";
    /// A removal is still to be proved.
    pub(crate) const VERIFY: &str = "verify_removal";
}

/// Something owed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Obligation {
    pub(crate) id: [u8; 16],
    /// Bare id.
    pub(crate) tenant: String,
    pub(crate) kind: String,
    pub(crate) owner: String,
    pub(crate) due_ms: i64,
    /// Bare id.
    pub(crate) remediation: String,
    /// Bare id; empty when it is about all of them.
    pub(crate) source: String,
    pub(crate) state: ObligationState,
}

/// State of an obligation; numbers are the table's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i64)]
pub(crate) enum ObligationState {
    Open = 0,
    Discharged = 1,
    Breached = 2,
}

impl ObligationState {
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        [Self::Open, Self::Discharged, Self::Breached]
            .into_iter()
            .find(|state| *state as i64 == number)
    }
}
