//! A campaign: its definition, and the states it goes through.
//!
//! Invariants: a campaign never goes back, but for one that could not be staged and is a draft again; decisions count in ACTIVE only (I-31); CLOSED is reached only without debt (I-32).
//! Two states are internal: while routing or the end of a review runs, the campaign shows the state that the step leaves.

use counterfoil_evidence::{leaf::GrantFlags, v1};

use super::ids::{CampaignKey, Principal, Source};

/// Where a campaign stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum CampaignState {
    /// Defined.
    Draft,
    /// Its population is being read.
    Staging,
    /// Its population is fixed.
    Staged,
    /// Its items are being routed. Shown as STAGED.
    Activating,
    /// Under review.
    Active,
    /// What nobody decided is lapsing. Shown as ACTIVE; decisions are refused.
    Ending,
    /// Review ended; removals are carried out and verified.
    Remediating,
    /// Everything decided, every removal verified.
    Closed,
    /// Over, and what is open is listed.
    ClosedWithDebt,
    /// Stopped before decisions counted. Part of the API; nothing stops a campaign yet.
    Cancelled,
}

/// What moves a campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CampaignEvent {
    /// Somebody began to read the population, or began again.
    StagingBegan,
    /// Nothing can be staged on what was asked for.
    StagingFailed,
    /// The population is read and sealed.
    PopulationSealed,
    /// Somebody began to route items, or went on with it.
    RoutingBegan,
    /// Every item has a reviewer.
    AllRouted,
    /// The review is over, or its end goes on.
    EndBegan,
    /// Every item has ended.
    StageSealed,
    /// Closed, with this many open items.
    CloseSealed {
        /// Removals not verified and items retained without a decision.
        debt_count: u64,
    },
}

/// The campaign's state does not allow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the campaign is {}", .0.shown())]
pub(crate) struct WrongState(pub(crate) CampaignState);

impl CampaignState {
    /// All states, by their codes.
    pub(crate) const ALL: [Self; 10] = [
        Self::Draft,
        Self::Staging,
        Self::Staged,
        Self::Activating,
        Self::Active,
        Self::Ending,
        Self::Remediating,
        Self::Closed,
        Self::ClosedWithDebt,
        Self::Cancelled,
    ];

    /// The state after `event`.
    pub(crate) fn after(self, event: CampaignEvent) -> Result<Self, WrongState> {
        use CampaignEvent as E;
        match (self, event) {
            (Self::Draft | Self::Staging, E::StagingBegan) => Ok(Self::Staging),
            (Self::Staging, E::StagingFailed) => Ok(Self::Draft),
            (Self::Staging, E::PopulationSealed) => Ok(Self::Staged),
            (Self::Staged | Self::Activating, E::RoutingBegan) => Ok(Self::Activating),
            (Self::Activating, E::AllRouted) => Ok(Self::Active),
            (Self::Active | Self::Ending, E::EndBegan) => Ok(Self::Ending),
            (Self::Ending, E::StageSealed) => Ok(Self::Remediating),
            (Self::Remediating, E::CloseSealed { debt_count: 0 }) => Ok(Self::Closed),
            (Self::Remediating, E::CloseSealed { .. }) => Ok(Self::ClosedWithDebt),
            (state, _) => Err(WrongState(state)),
        }
    }

    /// Number under which it is stored.
    pub(crate) fn code(self) -> i64 {
        match self {
            Self::Draft => 1,
            Self::Staging => 2,
            Self::Staged => 3,
            Self::Activating => 4,
            Self::Active => 5,
            Self::Ending => 6,
            Self::Remediating => 7,
            Self::Closed => 8,
            Self::ClosedWithDebt => 9,
            Self::Cancelled => 10,
        }
    }

    /// The state with this number.
    pub(crate) fn of_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }

    /// The state's name as people see it.
    pub(crate) fn shown(self) -> &'static str {
        match self {
            Self::Draft => "DRAFT",
            Self::Staging => "STAGING",
            Self::Staged | Self::Activating => "STAGED",
            Self::Active | Self::Ending => "ACTIVE",
            Self::Remediating => "REMEDIATING",
            Self::Closed => "CLOSED",
            Self::ClosedWithDebt => "CLOSED_WITH_DEBT",
            Self::Cancelled => "CANCELLED",
        }
    }
}

/// What happens to an item that nobody decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LapseRule {
    /// Access is removed.
    Revoke,
    /// Access stays as open debt of the campaign owner.
    RetainAsDebt,
}

impl LapseRule {
    /// The rule as records carry it.
    pub(crate) fn evidence(self) -> v1::LapseRule {
        match self {
            Self::Revoke => v1::LapseRule::Revoke,
            Self::RetainAsDebt => v1::LapseRule::RetainAsDebt,
        }
    }

    /// Number under which it is stored: that of the record.
    pub(crate) fn code(self) -> i64 {
        i64::from(self.evidence() as i32)
    }

    /// The rule with this number.
    pub(crate) fn of_code(code: i64) -> Option<Self> {
        [Self::Revoke, Self::RetainAsDebt]
            .into_iter()
            .find(|rule| rule.code() == code)
    }
}

/// Which grants of a snapshot are items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    /// Sources; empty = all.
    pub(crate) sources: Vec<Source>,
    /// Only privileged grants.
    pub(crate) privileged_only: bool,
    /// Whether grants that follow from others are items of their own.
    pub(crate) include_inherited: bool,
}

impl Scope {
    /// Whether the source is in scope.
    pub(crate) fn covers_source(&self, source: &Source) -> bool {
        self.sources.is_empty() || self.sources.contains(source)
    }

    /// Whether a grant with these flags is an item, given that its source is in scope.
    pub(crate) fn covers_flags(&self, flags: GrantFlags) -> bool {
        (!self.privileged_only || flags.contains(GrantFlags::PRIVILEGED))
            && (self.include_inherited || !flags.contains(GrantFlags::INHERITED))
    }
}

/// What a campaign reviews and how: fixed when it is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    /// Which campaign.
    pub(crate) key: CampaignKey,
    /// Name shown to people.
    pub(crate) display_name: String,
    /// Which grants are items.
    pub(crate) scope: Scope,
    /// What happens to an item that nobody decided.
    pub(crate) lapse_rule: LapseRule,
    /// Who owns it.
    pub(crate) owner: Principal,
    /// Who reviews what the rule leaves open.
    pub(crate) fallback_reviewer: Principal,
    /// When the review ends, milliseconds.
    pub(crate) due_ms: i64,
    /// When it was created, milliseconds.
    pub(crate) create_ms: i64,
}

/// What was fixed at staging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Population {
    /// "snapshots/{snapshot}".
    pub(crate) snapshot: String,
    /// Root of the sorted set of items.
    pub(crate) root: [u8; 32],
    /// Items.
    pub(crate) count: u64,
}

/// A campaign as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Campaign {
    /// As created.
    pub(crate) definition: Definition,
    /// Where it stands.
    pub(crate) state: CampaignState,
    /// Set from STAGED on.
    pub(crate) population: Option<Population>,
    /// SHA-256 of its CampaignDefined record.
    pub(crate) defined_hash: [u8; 32],
    /// SHA-256 of its CampaignStaged record; set from STAGED on.
    pub(crate) staged_hash: Option<[u8; 32]>,
    /// SHA-256 of its StageClosed record; set from REMEDIATING on.
    pub(crate) stage_closed_hash: Option<[u8; 32]>,
    /// What is open after the close.
    pub(crate) debt_count: u64,
}
