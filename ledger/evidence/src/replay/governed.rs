//! What is remembered of how a tenant governs itself: its life, its units, rights passed on, and access in an emergency.

use std::collections::{BTreeMap, HashMap};

use super::absorb::{Context, ending};
use super::holds::Holds;
use super::mandates::{self, Mandates};
use super::state::{At, Ending, Pos, State, Sym};
use crate::catalogue::Payload;
use crate::v1::{self, TenantKind, TenantState};

/// A setting that the activation of a tenant may rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setting {
    EscalationPath,
    RetentionPolicy,
}

/// What authority writes of a tenant beside principals, rights and policies.
#[derive(Debug, Default)]
pub(super) struct Governed {
    /// In order of the log.
    pub(super) life: Vec<At<v1::TenantLifecycleChanged>>,
    /// By unit, in order of the log.
    pub(super) units: BTreeMap<Sym, Vec<At<v1::BusinessUnitOwnerSet>>>,
    pub(super) settings: BTreeMap<Pos, Setting>,
    pub(super) packs: BTreeMap<Pos, v1::EvidencePackIssued>,
    pub(super) proposals: BTreeMap<Pos, v1::DecisionRightProposed>,
    pub(super) delegations: BTreeMap<Pos, v1::DelegationGranted>,
    /// By the delegation's id.
    pub(super) delegations_revoked: HashMap<Sym, Ending>,
    pub(super) emergencies_requested: BTreeMap<Pos, v1::EmergencyAccessRequested>,
    pub(super) emergencies: BTreeMap<Pos, v1::EmergencyAccessActivated>,
    /// By the access' id.
    pub(super) emergencies_ended: HashMap<Sym, Ending>,
    pub(super) emergencies_reviewed: Vec<At<v1::EmergencyUseReviewed>>,
    pub(super) reviews_missed: Vec<At<v1::EmergencyReviewMissed>>,
    pub(super) holds: Holds,
    pub(super) mandates: Mandates,
}

impl Governed {
    /// Whether it is a provider's own tenant: as its life began, since no tenant becomes one.
    pub(super) fn of_provider(&self) -> bool {
        self.life
            .first()
            .is_some_and(|first| of_provider(&first.what))
    }

    /// Where the tenant became active first.
    pub(super) fn activated(&self) -> Option<&At<v1::TenantLifecycleChanged>> {
        let mut life = self.life.iter();
        life.find(|change| change.what.to() == TenantState::Active)
    }
}

/// Whether a change says that it is of a provider's own tenant.
pub(super) fn of_provider(change: &v1::TenantLifecycleChanged) -> bool {
    change.kind() == TenantKind::Provider
}

/// Takes a record of governance in; gives back what is none.
pub(super) fn absorb(
    state: &mut State,
    context: &Context<'_>,
    payload: Payload,
) -> Option<Payload> {
    let pos = context.pos;
    let governed = &mut state.governed;
    match payload {
        Payload::TenantLifecycleChanged(what) => {
            governed.life.push(At {
                pos,
                what: what.clone(),
            });
            // Whose tenant it is, others ask too.
            return Some(Payload::TenantLifecycleChanged(what));
        }
        Payload::BusinessUnitOwnerSet(what) => {
            let unit = state.names.intern(&what.business_unit);
            governed
                .units
                .entry(unit)
                .or_default()
                .push(At { pos, what });
        }
        Payload::EscalationPathSet(_) => {
            governed.settings.insert(pos, Setting::EscalationPath);
        }
        Payload::RetentionPolicySet(v1::RetentionPolicySet { rules }) => {
            governed.settings.insert(pos, Setting::RetentionPolicy);
            governed.holds.policies.push(At { pos, what: rules });
        }
        Payload::LegalHoldPlaced(what) => {
            governed.holds.placed.insert(pos, what);
        }
        Payload::LegalHoldReleased(what) => {
            governed.holds.released.push(At { pos, what });
        }
        Payload::EvidencePackIssued(what) => {
            governed.packs.insert(pos, what);
        }
        Payload::DecisionRightProposed(what) => {
            governed.proposals.insert(pos, what);
        }
        Payload::DelegationGranted(what) => {
            governed.delegations.insert(pos, what);
        }
        Payload::DelegationRevoked(revoked) => {
            let name = state.names.intern(&revoked.delegation);
            let end = ending(state, pos, revoked.effective_ms);
            let known = state
                .governed
                .delegations_revoked
                .entry(name)
                .or_insert(end);
            *known = known.or(end);
        }
        Payload::EmergencyAccessRequested(what) => {
            governed.emergencies_requested.insert(pos, what);
        }
        Payload::EmergencyAccessActivated(what) => {
            governed.emergencies.insert(pos, what);
        }
        Payload::EmergencyAccessEnded(ended) => {
            let name = state.names.intern(&ended.access);
            let end = ending(state, pos, ended.effective_ms);
            let known = state.governed.emergencies_ended.entry(name).or_insert(end);
            *known = known.or(end);
        }
        Payload::EmergencyUseReviewed(what) => {
            governed.emergencies_reviewed.push(At { pos, what });
        }
        Payload::EmergencyReviewMissed(what) => governed.reviews_missed.push(At { pos, what }),
        other => return mandates::absorb(state, context, other),
    }
    None
}
