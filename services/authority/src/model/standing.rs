//! Whether an operator may act now: a function of what is on record, and nothing else (B17, B28, B29, B32).

use std::collections::BTreeSet;

pub(crate) use counterfoil_evidence::engagement::{
    FRESH_MS_MAX, LEVEL_MAX, PILOT_DUTIES, PILOT_MS_MAX, controls, topics,
};

use super::{
    RecordHash,
    engagement::{Engagement, EngagementProfile, Operator, ReassessmentResult},
    ids::CompetencyId,
};

/// Evidence of what somebody can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Competency {
    pub(crate) id: CompetencyId,
    /// "tenants/{tenant}/principals/{principal}" of the provider's tenant.
    pub(crate) operator: String,
    pub(crate) topic: String,
    pub(crate) issuer: String,
    pub(crate) evidence_sha256: [u8; 32],
    /// Until when it is good; the customer may have shortened it.
    pub(crate) valid_to_ms: i64,
    pub(crate) accepted_at_ms: Option<i64>,
    pub(crate) revoked_at_ms: Option<i64>,
    /// Of its submission.
    pub(crate) record_hash: RecordHash,
}

/// A provider's word for a control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attestation {
    pub(crate) control: String,
    pub(crate) valid_to_ms: i64,
}

/// What the standing of an operator is judged on.
#[derive(Debug)]
pub(crate) struct Ground<'a> {
    pub(crate) engagement: &'a Engagement,
    /// The provider's, when it is a subcontractor's.
    pub(crate) parent: Option<&'a Engagement>,
    pub(crate) operator: &'a Operator,
    /// Of this operator; what was never accepted, is revoked or over counts as if it were not there.
    pub(crate) competencies: &'a [Competency],
    /// Of this engagement.
    pub(crate) attestations: &'a [Attestation],
    /// Of the default environment, when stated.
    pub(crate) level: Option<u32>,
    /// Activities that the customer carries out itself.
    pub(crate) kept: &'a BTreeSet<String>,
}

/// Whether any profile asks for a control.
pub(crate) fn is_control(code: &str) -> bool {
    let profiles = [
        EngagementProfile::Pilot,
        EngagementProfile::Standard,
        EngagementProfile::Regulated,
    ];
    profiles
        .iter()
        .any(|profile| controls(*profile).contains(&code))
}

/// What is lacking. The names are the codes in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    Competency,
    Tier,
    Attestation,
    Reassessment,
    ReassessmentFailed,
    PilotDuties,
}

impl Lack {
    /// Its code.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Competency => "COMPETENCY_MISSING",
            Self::Tier => "TIER_TOO_LOW",
            Self::Attestation => "ATTESTATION_MISSING",
            Self::Reassessment => "REASSESSMENT_MISSING",
            Self::ReassessmentFailed => "REASSESSMENT_FAILED",
            Self::PilotDuties => "PILOT_DUTIES_MOVED",
        }
    }
}

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Until when this holds, if nobody changes anything; exclusive.
    pub(crate) until_ms: i64,
    /// What is lacking; `None`: they may do what their roles allow.
    pub(crate) lack: Option<Lack>,
}

/// How an operator stands at a moment. `None`: they do not act for this customer at all.
pub(crate) fn standing(ground: &Ground<'_>, now_ms: i64) -> Option<Standing> {
    let approval = ground.engagement.live(now_ms)?;
    if ground.operator.unassigned_at_ms.is_some() {
        return None;
    }
    let mut until_ms = approval.valid_to_ms;
    if ground.engagement.terms.parent.is_some() {
        until_ms = until_ms.min(ground.parent?.live(now_ms)?.valid_to_ms);
    }
    match qualified(ground, now_ms) {
        Ok(end_ms) => Some(Standing {
            until_ms: until_ms.min(end_ms),
            lack: None,
        }),
        Err(lack) => Some(Standing {
            until_ms,
            lack: Some(lack),
        }),
    }
}

/// Until when the evidence suffices; `Err`: it does not.
fn qualified(ground: &Ground<'_>, now_ms: i64) -> Result<i64, Lack> {
    let engagement = ground.engagement;
    let profile = engagement.terms.profile;
    let mut until_ms = i64::MAX;
    if profile == EngagementProfile::Pilot {
        let kept = PILOT_DUTIES.iter().all(|duty| ground.kept.contains(*duty));
        if !kept {
            return Err(Lack::PilotDuties);
        }
        let from_ms = engagement.approval.as_ref().map_or(0, |a| a.valid_from_ms);
        until_ms = until_ms.min(from_ms + PILOT_MS_MAX);
    }
    if engagement.tier < ground.level.unwrap_or(LEVEL_MAX) {
        return Err(Lack::Tier);
    }
    for topic in topics(profile) {
        let ends = ground.competencies.iter().filter(|one| one.topic == *topic);
        let end_ms = ends.filter_map(|one| good_until(one, profile)).max();
        until_ms = until_ms.min(after(end_ms, now_ms, Lack::Competency)?);
    }
    for control in controls(profile) {
        let ends = ground
            .attestations
            .iter()
            .filter(|one| one.control == *control);
        let end_ms = ends.map(|one| one.valid_to_ms).max();
        until_ms = until_ms.min(after(end_ms, now_ms, Lack::Attestation)?);
    }
    match engagement.reassessment {
        Some((ReassessmentResult::Passed, due_ms)) => {
            Ok(until_ms.min(after(Some(due_ms), now_ms, Lack::Reassessment)?))
        }
        Some(_) => Err(Lack::ReassessmentFailed),
        None => Err(Lack::Reassessment),
    }
}

fn after(end_ms: Option<i64>, now_ms: i64, lack: Lack) -> Result<i64, Lack> {
    end_ms.filter(|end_ms| now_ms < *end_ms).ok_or(lack)
}

/// Until when accepted evidence is good.
fn good_until(competency: &Competency, profile: EngagementProfile) -> Option<i64> {
    if competency.revoked_at_ms.is_some() {
        return None;
    }
    let accepted_ms = competency.accepted_at_ms?;
    Some(match profile {
        EngagementProfile::Regulated => competency
            .valid_to_ms
            .min(accepted_ms.saturating_add(FRESH_MS_MAX)),
        _ => competency.valid_to_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        engagement::{DAY_MS, tests::live},
        ids::PrincipalId,
    };

    struct Case {
        engagement: Engagement,
        competencies: Vec<Competency>,
        attestations: Vec<Attestation>,
        level: Option<u32>,
        kept: BTreeSet<String>,
    }

    fn operator() -> Operator {
        Operator {
            engagement: live(1).id,
            operator: "tenants/msp/principals/otto".to_owned(),
            principal: PrincipalId::parse("otto").unwrap(),
            roles: vec!["operator".to_owned()],
            assigned_at_ms: 0,
            unassigned_at_ms: None,
            record_hash: [3; 32],
        }
    }

    impl Case {
        /// Everything is there: competency until day 15, attestations until 18, reassessment until 20, tier 3 on level 3.
        fn good(profile: EngagementProfile) -> Self {
            let mut engagement = live(30 * DAY_MS);
            engagement.terms.profile = profile;
            let competency = |topic: &&str| Competency {
                id: CompetencyId::parse("c").unwrap(),
                operator: operator().operator,
                topic: (*topic).to_owned(),
                issuer: "ISC2".to_owned(),
                evidence_sha256: [7; 32],
                valid_to_ms: 15 * DAY_MS,
                accepted_at_ms: Some(1),
                revoked_at_ms: None,
                record_hash: [4; 32],
            };
            let attestation = |control: &&str| Attestation {
                control: (*control).to_owned(),
                valid_to_ms: 18 * DAY_MS,
            };
            Self {
                engagement,
                competencies: topics(profile).iter().map(competency).collect(),
                attestations: controls(profile).iter().map(attestation).collect(),
                level: Some(3),
                kept: PILOT_DUTIES.map(str::to_owned).into(),
            }
        }

        fn at(&self, now_ms: i64) -> Option<Standing> {
            let ground = Ground {
                engagement: &self.engagement,
                parent: None,
                operator: &operator(),
                competencies: &self.competencies,
                attestations: &self.attestations,
                level: self.level,
                kept: &self.kept,
            };
            standing(&ground, now_ms)
        }

        fn lack(&self) -> Option<Lack> {
            self.at(0).unwrap().lack
        }
    }

    #[test]
    fn b32_what_lapses_first_ends_the_standing() {
        let mut case = Case::good(EngagementProfile::Standard);
        let standing = case.at(0).unwrap();
        assert_eq!((standing.lack, standing.until_ms), (None, 15 * DAY_MS));
        assert_eq!(
            case.at(15 * DAY_MS).unwrap().lack,
            Some(Lack::Competency),
            "evidence that lapses takes the right away with the next call"
        );
        for competency in &mut case.competencies {
            competency.valid_to_ms = 29 * DAY_MS;
        }
        assert_eq!(case.at(0).unwrap().until_ms, 18 * DAY_MS);
        assert_eq!(case.at(18 * DAY_MS).unwrap().lack, Some(Lack::Attestation));
        case.attestations[0].valid_to_ms = 29 * DAY_MS;
        assert_eq!(case.at(20 * DAY_MS).unwrap().lack, Some(Lack::Reassessment));
        assert_eq!(case.at(30 * DAY_MS), None);
    }

    #[test]
    fn b17_each_topic_needs_evidence_that_the_customer_accepted() {
        for profile in [
            EngagementProfile::Pilot,
            EngagementProfile::Standard,
            EngagementProfile::Regulated,
        ] {
            assert_eq!(Case::good(profile).lack(), None);
            for at in 0..topics(profile).len() {
                let mut case = Case::good(profile);
                case.competencies[at].accepted_at_ms = None;
                assert_eq!(case.lack(), Some(Lack::Competency));
                case.competencies[at].accepted_at_ms = Some(1);
                case.competencies[at].revoked_at_ms = Some(2);
                assert_eq!(case.lack(), Some(Lack::Competency));
            }
            for at in 0..controls(profile).len() {
                let mut case = Case::good(profile);
                case.attestations.remove(at);
                assert_eq!(case.lack(), Some(Lack::Attestation));
            }
        }
    }

    #[test]
    fn b23_the_tier_must_reach_the_sensitivity_and_none_stated_is_the_highest() {
        let mut case = Case::good(EngagementProfile::Standard);
        case.level = Some(4);
        assert_eq!(case.lack(), Some(Lack::Tier));
        case.level = None;
        assert_eq!(case.lack(), Some(Lack::Tier));
        case.engagement.tier = 4;
        assert_eq!(case.lack(), None);
    }

    #[test]
    fn b24_a_pilot_holds_only_while_the_customer_keeps_its_duties() {
        for duty in PILOT_DUTIES {
            let mut case = Case::good(EngagementProfile::Pilot);
            case.kept.remove(duty);
            assert_eq!(case.lack(), Some(Lack::PilotDuties), "{duty}");
            case.engagement.terms.profile = EngagementProfile::Standard;
            assert_ne!(case.lack(), Some(Lack::PilotDuties));
        }
    }

    #[test]
    fn b29_a_failed_reassessment_suspends() {
        let mut case = Case::good(EngagementProfile::Standard);
        case.engagement.reassessment = Some((ReassessmentResult::Failed, i64::MAX));
        assert_eq!(case.lack(), Some(Lack::ReassessmentFailed));
        case.engagement.reassessment = None;
        assert_eq!(case.lack(), Some(Lack::Reassessment));
    }

    #[test]
    fn a_regulated_customer_wants_fresh_evidence() {
        let mut case = Case::good(EngagementProfile::Regulated);
        case.engagement = Engagement {
            reassessment: Some((ReassessmentResult::Passed, i64::MAX)),
            terms: case.engagement.terms.clone(),
            ..live(700 * DAY_MS)
        };
        for one in &mut case.competencies {
            one.valid_to_ms = 600 * DAY_MS;
        }
        for one in &mut case.attestations {
            one.valid_to_ms = 600 * DAY_MS;
        }
        assert_eq!(case.at(FRESH_MS_MAX).unwrap().lack, None);
        assert_eq!(
            case.at(FRESH_MS_MAX + 1).unwrap().lack,
            Some(Lack::Competency)
        );
    }

    #[test]
    fn a_subcontractor_stands_no_longer_than_its_provider() {
        let mut case = Case::good(EngagementProfile::Standard);
        case.engagement.terms.parent = Some(live(1).id);
        assert_eq!(case.at(0), None);
        let parent = live(DAY_MS);
        let operator = operator();
        let ground = Ground {
            engagement: &case.engagement,
            parent: Some(&parent),
            operator: &operator,
            competencies: &case.competencies,
            attestations: &case.attestations,
            level: case.level,
            kept: &case.kept,
        };
        assert_eq!(standing(&ground, 0).unwrap().until_ms, DAY_MS);
        assert_eq!(standing(&ground, DAY_MS), None);
    }
}
