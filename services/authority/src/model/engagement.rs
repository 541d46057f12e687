//! Engagements: what a provider may do for a customer, and until when.
//!
//! Invariants: a customer's human approves it; named roles only, never the tenant's administration; at most 730 days, a PILOT 90;
//! what is over is never restored; a subcontractor's is never wider than its provider's (I-49).

pub(crate) use counterfoil_evidence::{
    engagement::{MANDATORY, ROLES},
    v1::{EngagementProfile, ReassessmentResult},
};

use super::{
    Faults, RecordHash,
    ids::{EngagementId, OrganizationId, PrincipalId},
    text,
};

pub(crate) const DAY_MS: i64 = 86_400_000;
/// How long a request can be approved.
pub(crate) const REQUEST_MS: i64 = counterfoil_evidence::engagement::REQUEST_MS;
/// Days before the end at which both sides are told.
pub(crate) const NOTICE_DAYS: [u32; 3] = [30, 7, 1];
/// Longest extension, days.
const EXTENSION_DAYS_MAX: u32 = 180;
/// Longest term, days.
const TERM_DAYS_MAX: u32 = 730;
/// Longest term of a pilot, days.
const PILOT_DAYS_MAX: u32 = 90;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Ascending, each of [`ROLES`].
    pub(crate) roles: Vec<String>,
    pub(crate) purpose: String,
    pub(crate) profile: EngagementProfile,
    pub(crate) term_days: u32,
    /// Engagement of the provider for whom a subcontractor is to work.
    pub(crate) parent: Option<EngagementId>,
}

/// What was approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Approval {
    pub(crate) organization: OrganizationId,
    /// Ascending.
    pub(crate) roles: Vec<String>,
    pub(crate) valid_from_ms: i64,
    /// Exclusive.
    pub(crate) valid_to_ms: i64,
    pub(crate) record_hash: RecordHash,
}

/// An engagement of a customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Engagement {
    pub(crate) id: EngagementId,
    /// Tenant of the provider.
    pub(crate) provider: String,
    pub(crate) terms: Terms,
    /// Exclusive.
    pub(crate) approvable_until_ms: i64,
    /// Of the record of its request in the customer's log.
    pub(crate) request_hash: RecordHash,
    pub(crate) approval: Option<Approval>,
    pub(crate) ended_at_ms: Option<i64>,
    /// 0: not rated.
    pub(crate) tier: u32,
    /// The newest, and when the next is due.
    pub(crate) reassessment: Option<(ReassessmentResult, i64)>,
}

/// Where an engagement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nobody has answered.
    Requested,
    /// Approved and not over.
    Live,
    /// Not approved in time, or withdrawn.
    Lapsed,
    /// Over.
    Ended,
}

impl Engagement {
    /// Where it stands at a moment.
    pub(crate) fn phase(&self, now_ms: i64) -> Phase {
        match (&self.approval, self.ended_at_ms) {
            (None, None) if now_ms < self.approvable_until_ms => Phase::Requested,
            (None, _) => Phase::Lapsed,
            (Some(approval), None) if now_ms < approval.valid_to_ms => Phase::Live,
            (Some(_), _) => Phase::Ended,
        }
    }

    /// What was approved, while it is live.
    pub(crate) fn live(&self, now_ms: i64) -> Option<&Approval> {
        self.approval
            .as_ref()
            .filter(|_| self.phase(now_ms) == Phase::Live)
    }
}

/// Somebody of a provider who acts for a customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operator {
    pub(crate) engagement: EngagementId,
    /// "tenants/{tenant}/principals/{principal}" of the provider's tenant.
    pub(crate) operator: String,
    /// As whom.
    pub(crate) principal: PrincipalId,
    /// Ascending.
    pub(crate) roles: Vec<String>,
    pub(crate) assigned_at_ms: i64,
    pub(crate) unassigned_at_ms: Option<i64>,
    pub(crate) record_hash: RecordHash,
}

/// Who answers for an activity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Responsibility {
    pub(crate) activity: String,
    pub(crate) organization: OrganizationId,
    /// Whether that organisation is the customer itself.
    pub(crate) by_customer: bool,
    pub(crate) risk_owner: PrincipalId,
    pub(crate) record_hash: RecordHash,
}

/// Roles that a provider asks for or gives, ascending.
pub(crate) fn check_roles(field: &str, roles: &[String]) -> Result<Vec<String>, Faults> {
    let mut faults = Faults::default();
    faults.require(!roles.is_empty(), field, "names no role");
    for role in roles {
        if !ROLES.contains(&role.as_str()) {
            let allowed = ROLES.join(", ");
            faults.add(field, format!("{role:?} is not one of {allowed}"));
        }
    }
    let mut roles = roles.to_vec();
    roles.sort_unstable();
    roles.dedup();
    faults.or(roles)
}

/// Checks what is asked for.
pub(crate) fn check_terms(terms: Terms) -> Result<Terms, Faults> {
    let mut faults = Faults::default();
    let roles = check_roles("roles", &terms.roles).unwrap_or_else(|wrong| {
        faults.add_all("", wrong);
        Vec::new()
    });
    faults.require(text::is_code(&terms.purpose), "purpose", text::CODE);
    let known = terms.profile != EngagementProfile::Unspecified;
    faults.require(known, "profile", "is required");
    let days_max = match terms.profile {
        EngagementProfile::Pilot => PILOT_DAYS_MAX,
        _ => TERM_DAYS_MAX,
    };
    if !(1..=days_max).contains(&terms.term_days) {
        faults.add("term_days", format!("must be 1 to {days_max}"));
    }
    faults.or(Terms { roles, ..terms })
}

/// Until when an engagement lasts that is extended now.
pub(crate) fn extended(
    engagement: &Engagement,
    approval: &Approval,
    days: u32,
    now_ms: i64,
) -> Result<i64, Faults> {
    let fault = |what: &str| Err(Faults::one("days", what));
    if !(1..=EXTENSION_DAYS_MAX).contains(&days) {
        return fault("must be 1 to 180");
    }
    let to_ms = approval.valid_to_ms + i64::from(days) * DAY_MS;
    if to_ms > now_ms + i64::from(TERM_DAYS_MAX) * DAY_MS {
        return fault("reaches beyond 730 days from now");
    }
    let pilot_ms = approval.valid_from_ms + i64::from(PILOT_DAYS_MAX) * DAY_MS;
    if engagement.terms.profile == EngagementProfile::Pilot && to_ms > pilot_ms {
        return fault("a pilot lasts at most 90 days");
    }
    Ok(to_ms)
}

/// Why a subcontractor's engagement is wider than its provider's; `None`: it is not (I-49).
pub(crate) fn wider(
    profile: EngagementProfile,
    roles: &[String],
    valid_to_ms: i64,
    parent: &Engagement,
    now_ms: i64,
) -> Option<&'static str> {
    let Some(approval) = parent.live(now_ms) else {
        return Some("its parent is not live");
    };
    if parent.terms.parent.is_some() {
        Some("its parent is a subcontractor's itself")
    } else if !roles.iter().all(|role| approval.roles.contains(role)) {
        Some("it has a role that its parent does not have")
    } else if valid_to_ms > approval.valid_to_ms {
        Some("it lasts longer than its parent")
    } else if profile < parent.terms.profile {
        Some("less is asked of it than of its parent")
    } else {
        None
    }
}

/// The notice that is due and was not given; the nearest to the end, when several are.
pub(crate) fn notice_due(valid_to_ms: i64, given: &[u32], now_ms: i64) -> Option<u32> {
    let left_ms = valid_to_ms - now_ms;
    let due = NOTICE_DAYS
        .into_iter()
        .filter(|days| left_ms <= i64::from(*days) * DAY_MS);
    due.min().filter(|days| !given.contains(days))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn live(to_ms: i64) -> Engagement {
        Engagement {
            id: EngagementId::parse("e1").unwrap(),
            provider: "msp".to_owned(),
            terms: Terms {
                roles: vec!["auditor".to_owned(), "operator".to_owned()],
                purpose: "RUN".to_owned(),
                profile: EngagementProfile::Standard,
                term_days: 30,
                parent: None,
            },
            approvable_until_ms: REQUEST_MS,
            request_hash: [1; 32],
            approval: Some(Approval {
                organization: OrganizationId::parse("msp").unwrap(),
                roles: vec!["auditor".to_owned(), "operator".to_owned()],
                valid_from_ms: 0,
                valid_to_ms: to_ms,
                record_hash: [2; 32],
            }),
            ended_at_ms: None,
            tier: 3,
            reassessment: Some((ReassessmentResult::Passed, 20 * DAY_MS)),
        }
    }

    #[test]
    fn what_is_over_stays_over() {
        let engagement = live(10 * DAY_MS);
        assert_eq!(engagement.phase(10 * DAY_MS - 1), Phase::Live);
        assert_eq!(engagement.phase(10 * DAY_MS), Phase::Ended);
        let ended = Engagement {
            ended_at_ms: Some(5),
            ..engagement.clone()
        };
        assert_eq!(ended.phase(5), Phase::Ended);
        let asked = Engagement {
            approval: None,
            ..engagement
        };
        assert_eq!(asked.phase(REQUEST_MS - 1), Phase::Requested);
        assert_eq!(asked.phase(REQUEST_MS), Phase::Lapsed);
        let withdrawn = Engagement {
            approval: None,
            ..ended
        };
        assert_eq!(withdrawn.phase(0), Phase::Lapsed);
    }

    #[test]
    fn nobody_asks_for_the_administration_of_a_tenant() {
        let terms = |roles: &[&str], profile, term_days| {
            check_terms(Terms {
                roles: roles.iter().map(|role| (*role).to_owned()).collect(),
                purpose: "RUN".to_owned(),
                profile,
                term_days,
                parent: None,
            })
        };
        let standard = EngagementProfile::Standard;
        assert!(terms(&["operator", "auditor"], standard, 730).is_ok());
        for role in ["tenant-administrator", "administrator", "service", ""] {
            assert!(terms(&["operator", role], standard, 730).is_err(), "{role}");
        }
        assert!(terms(&[], standard, 730).is_err());
        assert!(terms(&["operator"], standard, 731).is_err());
        assert!(terms(&["operator"], standard, 0).is_err());
        assert!(terms(&["operator"], EngagementProfile::Pilot, 91).is_err());
        assert!(terms(&["operator"], EngagementProfile::Unspecified, 1).is_err());
    }

    proptest! {
        #[test]
        fn no_extension_reaches_beyond_730_days(to in 1_i64..730, days in 0_u32..400, now in 0_i64..730) {
            let engagement = live(to * DAY_MS);
            let approval = engagement.approval.clone().unwrap();
            if let Ok(ms) = extended(&engagement, &approval, days, now * DAY_MS) {
                prop_assert!(ms - approval.valid_to_ms <= 180 * DAY_MS);
                prop_assert!(ms <= (now + 730) * DAY_MS);
            }
        }

        #[test]
        fn a_notice_is_given_once_and_only_when_due(left in -3_i64..60, given in prop::collection::vec(0_usize..3, 0..3)) {
            let given: Vec<u32> = given.into_iter().map(|at| NOTICE_DAYS[at]).collect();
            if let Some(days) = notice_due(left * DAY_MS, &given, 0) {
                prop_assert!(left <= i64::from(days) && !given.contains(&days));
            } else {
                prop_assert!(left > 30 || !given.is_empty());
            }
        }
    }

    #[test]
    fn i49_a_subcontractor_is_never_wider_than_its_provider() {
        let parent = live(10 * DAY_MS);
        let wide = |profile, roles: &[&str], to_ms| {
            let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
            wider(profile, &roles, to_ms, &parent, 0)
        };
        let (standard, day) = (EngagementProfile::Standard, DAY_MS);
        assert_eq!(wide(standard, &["operator"], 10 * day), None);
        assert!(wide(standard, &["operator", "reviewer"], day).is_some());
        assert!(wide(standard, &["operator"], 10 * day + 1).is_some());
        assert!(wide(EngagementProfile::Pilot, &["operator"], day).is_some());
        assert!(wider(standard, &[], day, &parent, 10 * day).is_some());
    }
}
