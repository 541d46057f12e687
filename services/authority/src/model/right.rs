//! Rights to decide: one kind for human, machine and AI grantees alike (D8), granted by the customer (A12, I-13).

pub(crate) use counterfoil_evidence::v1::DecisionAction;

use super::{
    Faults, RecordHash,
    ids::{PrincipalId, RightId, SourceId},
    principal::{NotAccountable, Principal, PrincipalKind, require_accountable},
};

const DAY_MS: i64 = 86_400_000;
/// Longest life of a right: authority that nobody renews must end.
pub(crate) const LIFE_MS_MAX: i64 = 730 * DAY_MS;
/// Most sources that one right names.
pub(crate) const SCOPE_SOURCES_MAX: usize = 200;

/// Where a right holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// In every source.
    Everywhere,
    /// In these sources; ascending.
    Sources(Vec<SourceId>),
}

impl Scope {
    /// Of the sources named; none named = every source.
    pub(crate) fn of(mut sources: Vec<SourceId>, everywhere: bool) -> Self {
        if everywhere || sources.is_empty() {
            return Self::Everywhere;
        }
        sources.sort_unstable();
        sources.dedup();
        Self::Sources(sources)
    }

    /// Whether it lies within another.
    pub(crate) fn within(&self, whole: &Self) -> bool {
        match (self, whole) {
            (_, Self::Everywhere) => true,
            (Self::Everywhere, Self::Sources(_)) => false,
            (Self::Sources(part), Self::Sources(whole)) => {
                part.iter().all(|source| whole.contains(source))
            }
        }
    }

    /// How records name it.
    pub(crate) fn in_records(&self) -> Vec<String> {
        match self {
            Self::Everywhere => vec!["*".to_owned()],
            Self::Sources(sources) => sources.iter().map(SourceId::in_records).collect(),
        }
    }
}

/// A right to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Right {
    pub(crate) id: RightId,
    pub(crate) grantee: PrincipalId,
    pub(crate) action: DecisionAction,
    pub(crate) scope: Scope,
    pub(crate) valid_from_ms: i64,
    /// Exclusive.
    pub(crate) valid_to_ms: i64,
    pub(crate) grantor: PrincipalId,
    /// Codes; empty: all.
    pub(crate) tiers: Vec<String>,
    /// Codes; empty: all.
    pub(crate) environments: Vec<String>,
    /// Waits for a second human.
    pub(crate) proposed: bool,
    pub(crate) revoked_at_ms: Option<i64>,
    /// Of the record that granted it; decisions cite it.
    pub(crate) record_hash: RecordHash,
}

impl Right {
    /// Whether it holds at that moment.
    pub(crate) fn holds(&self, now_ms: i64) -> bool {
        !self.proposed
            && self.revoked_at_ms.is_none()
            && self.valid_from_ms <= now_ms
            && now_ms < self.valid_to_ms
    }
}

/// Checks action and term of a right that is granted now.
pub(crate) fn check_new(
    action: DecisionAction,
    valid_from_ms: i64,
    valid_to_ms: i64,
    now_ms: i64,
) -> Result<(), Faults> {
    let mut faults = Faults::default();
    faults.require(
        action != DecisionAction::Unspecified,
        "action",
        "is required",
    );
    let ends = valid_to_ms > valid_from_ms && valid_to_ms > now_ms;
    faults.require(
        ends,
        "valid_to_time",
        "must be after the start and in the future",
    );
    let short = valid_to_ms.saturating_sub(valid_from_ms) <= LIFE_MS_MAX;
    faults.require(
        short,
        "valid_to_time",
        "must be at most 730 days after the start",
    );
    faults.or(())
}

/// Why a right cannot be granted: the state of the principals does not allow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotGrantable {
    /// Only the customer gives authority away.
    #[error("the grantor {0}")]
    Grantor(#[from] NotAccountable),
    /// There is no such grantee.
    #[error("the grantee is unknown")]
    GranteeUnknown,
    /// An ended principal decides nothing.
    #[error("the grantee has ended")]
    GranteeEnded,
    /// The auditor would not take its decisions.
    #[error("REVIEW is for humans, EXCEPT for humans and AI agents")]
    GranteeKind,
}

/// Whether a kind of principal may decide so: what the verifier refuses is not granted either (I-13).
pub(crate) fn may_hold(kind: PrincipalKind, action: DecisionAction) -> bool {
    match action {
        DecisionAction::Review => kind == PrincipalKind::Human,
        DecisionAction::Except => matches!(kind, PrincipalKind::Human | PrincipalKind::AiAgent),
        _ => true,
    }
}

/// Whether this human may be the second of the two that a right needs: another than who proposed it, and not its grantee.
pub(crate) fn may_approve(
    grantor: Option<&Principal>,
    grantee: Option<&Principal>,
    approver: &Principal,
) -> bool {
    let another = |one: Option<&Principal>| one.is_some_and(|one| !approver.is_same(one));
    another(grantor) && another(grantee)
}

/// Checks that this grantor may give a right to this grantee.
pub(crate) fn require_grantable(
    grantor: Option<&Principal>,
    grantee: Option<&Principal>,
    action: DecisionAction,
) -> Result<(), NotGrantable> {
    require_accountable(grantor)?;
    match grantee {
        None => Err(NotGrantable::GranteeUnknown),
        Some(grantee) if !grantee.is_active() => Err(NotGrantable::GranteeEnded),
        Some(grantee) if !may_hold(grantee.kind, action) => Err(NotGrantable::GranteeKind),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::principal::{OrganizationKind, tests::customer_human};

    fn right(valid_from_ms: i64, valid_to_ms: i64, revoked_at_ms: Option<i64>) -> Right {
        Right {
            id: RightId::parse("r").unwrap(),
            grantee: PrincipalId::parse("ada").unwrap(),
            action: DecisionAction::Review,
            scope: Scope::Everywhere,
            valid_from_ms,
            valid_to_ms,
            grantor: PrincipalId::parse("ben").unwrap(),
            tiers: Vec::new(),
            environments: Vec::new(),
            proposed: false,
            revoked_at_ms,
            record_hash: [0; 32],
        }
    }

    proptest! {
        #[test]
        fn a_right_holds_from_its_start_until_before_its_end(from in 0_i64..100, life in 1_i64..100, now in 0_i64..250) {
            prop_assert_eq!(right(from, from + life, None).holds(now), now >= from && now - from < life);
            prop_assert!(!right(from, from + life, Some(0)).holds(now));
        }

        #[test]
        fn what_is_accepted_ends_in_time_and_in_the_future(from in -LIFE_MS_MAX..LIFE_MS_MAX, to in -LIFE_MS_MAX..3 * LIFE_MS_MAX) {
            let accepted = check_new(DecisionAction::Review, from, to, 0).is_ok();
            prop_assert_eq!(accepted, to > from && to > 0 && to - from <= LIFE_MS_MAX);
        }
    }

    #[test]
    fn a_right_without_an_action_is_none() {
        assert!(check_new(DecisionAction::Unspecified, 0, 10, 0).is_err());
        assert!(check_new(DecisionAction::Export, i64::MIN, i64::MAX, 0).is_err());
    }

    #[test]
    fn a12_a_provider_grants_nothing_and_may_be_granted_to() {
        let customer = customer_human("ada");
        let provider = Principal {
            organization_kind: OrganizationKind::Provider,
            ..customer_human("msp")
        };
        assert!(
            require_grantable(Some(&customer), Some(&provider), DecisionAction::Review).is_ok()
        );
        let refused = require_grantable(Some(&provider), Some(&customer), DecisionAction::Review)
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the grantor is not of the customer organisation"
        );
        assert!(require_grantable(None, Some(&customer), DecisionAction::Review).is_err());
    }

    #[test]
    fn d8_one_right_serves_humans_machines_and_agents() {
        let grantor = customer_human("ada");
        for kind in [
            PrincipalKind::Human,
            PrincipalKind::Service,
            PrincipalKind::AiAgent,
        ] {
            let grantee = Principal {
                kind,
                ..customer_human("any")
            };
            assert!(
                require_grantable(Some(&grantor), Some(&grantee), DecisionAction::Remediate)
                    .is_ok()
            );
            let ended = Principal {
                ended_at_ms: Some(1),
                ..grantee
            };
            assert!(
                require_grantable(Some(&grantor), Some(&ended), DecisionAction::Remediate).is_err()
            );
        }
        assert!(require_grantable(Some(&grantor), None, DecisionAction::Remediate).is_err());
    }

    #[test]
    fn what_the_auditor_would_not_take_is_not_granted() {
        let kinds = [
            PrincipalKind::Human,
            PrincipalKind::AiAgent,
            PrincipalKind::Service,
        ];
        let may = |action| kinds.map(|kind| may_hold(kind, action));
        assert_eq!(may(DecisionAction::Review), [true, false, false]);
        assert_eq!(may(DecisionAction::Except), [true, true, false]);
        assert_eq!(may(DecisionAction::Certify), [true; 3]);
    }

    #[test]
    fn no_source_named_is_every_source() {
        let source = |id: &str| SourceId::stored(id.to_owned());
        assert_eq!(Scope::of(vec![], false).in_records(), ["*"]);
        assert_eq!(Scope::of(vec![source("hr")], true), Scope::Everywhere);
        let some = Scope::of(vec![source("vault"), source("hr"), source("vault")], false);
        assert_eq!(some.in_records(), ["sources/hr", "sources/vault"]);
    }
}
