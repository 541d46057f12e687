//! A tenant and its life.

pub(crate) use counterfoil_evidence::v1::{TenantKind, TenantState};

/// A customer whose access is governed, or a provider.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Tenant {
    pub(crate) id: String,
    pub(crate) display_name: String,
    pub(crate) kind: TenantKind,
    pub(crate) state: TenantState,
    pub(crate) log: TenantLog,
    /// Salt of identity tags; leaves this service towards other services only.
    pub(crate) correlation_salt: [u8; 32],
    pub(crate) created_at_ms: i64,
    /// Id of the record of its activation.
    pub(crate) activation_record: Option<Vec<u8>>,
    /// Hash of the record of the evidence that was taken away while it leaves.
    pub(crate) exit_evidence: Option<Vec<u8>>,
    /// Whether somebody of its own suspended it, and not the deployment.
    pub(crate) stopped_itself: bool,
}

/// The log of a tenant, as the ledger made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TenantLog {
    pub(crate) origin: String,
    pub(crate) vkey: String,
    pub(crate) registrar_vkey: String,
}

// The salt must not get into a log line.
impl std::fmt::Debug for Tenant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tenant({}, {:?})", self.id, self.state)
    }
}

/// Whether the tenant still is the deployment's to set up: who runs the machine prepares a tenant, and has no say in it once
/// it governs itself (A12).
pub(crate) fn is_set_up_by_deployment(state: TenantState) -> bool {
    state == TenantState::Onboarding
}

/// What may be asked of a tenant, as far as its state decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Something is governed anew.
    Govern,
    /// What was given is taken away, what was done is looked at, or another human answers for it.
    Wind,
    /// Somebody comes to be of it.
    Join,
    /// To be paused.
    Suspend,
    /// To go on.
    Resume,
    /// To leave.
    BeginExit,
    /// To note that evidence was taken away.
    TakeEvidence,
    /// To end.
    Close,
}

/// Whether a tenant in this state may take a step: its life as the domain draws it.
pub(crate) fn allows(state: TenantState, step: Step) -> bool {
    use TenantState::{Active, Exiting, Onboarding, Suspended};
    match step {
        Step::Govern => matches!(state, Onboarding | Active),
        // Of a tenant that leaves, only who is needed to release what is held.
        Step::Join => matches!(state, Onboarding | Active | Exiting),
        Step::Wind => matches!(state, Onboarding | Active | Suspended | Exiting),
        Step::Suspend => state == Active,
        Step::Resume => state == Suspended,
        Step::BeginExit => matches!(state, Active | Suspended),
        Step::TakeEvidence => matches!(state, Active | Suspended | Exiting),
        Step::Close => state == Exiting,
    }
}

/// What activating a tenant in this state means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// The gate decides.
    Gated,
    /// It is active already.
    Done,
    /// It is past that.
    Refused,
}

/// Whether a tenant in this state can be activated.
pub(crate) fn activation(state: TenantState) -> Activation {
    match state {
        TenantState::Onboarding => Activation::Gated,
        TenantState::Active => Activation::Done,
        TenantState::Unspecified
        | TenantState::Suspended
        | TenantState::Exiting
        | TenantState::Closed => Activation::Refused,
    }
}
