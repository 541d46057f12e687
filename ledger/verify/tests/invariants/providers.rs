//! Engagements, responsibilities and accesses of a provider's people, forged.

use crate::prelude::*;
use crate::support::provider::{ENGAGEMENT, OTTO, PETRA, SUB, SUBMIT};

/// The access to inventory and what followed: long after all that was said.
fn later(scene: &Scene<'_>) -> bool {
    scene.record.stream == "inventory"
}

fn came_in() -> v1::OperatorAccessUsed {
    v1::OperatorAccessUsed {
        operator: OTTO.to_owned(),
        engagement: ENGAGEMENT.to_owned(),
        assignment_hash: vec![7; 32],
        method: "/counterfoil.reconciliation.v1.ReconciliationService/GetReconRun".to_owned(),
        permission: "recon_runs.get".to_owned(),
        ticket: String::new(),
    }
}

pub(crate) const FORGERIES: &[(&str, &str, Forgery)] = &[
    (
        "I-13",
        "an engagement that nobody asked for",
        drop_if!(EngagementRequested, |p| p.engagement == ENGAGEMENT),
    ),
    (
        "I-13",
        "an engagement approved by the provider",
        on!(EngagementApproved, |r, p| {
            r.actor = PETRA.to_owned();
            p.approver = PETRA.to_owned();
        }),
    ),
    (
        "I-13",
        "an engagement approved in another's name",
        on!(EngagementApproved, |r, _p| r.actor = PETRA.to_owned()),
    ),
    (
        "I-13",
        "the administration of the tenant",
        |scene| match &mut *scene.payload {
            Payload::EngagementRequested(p) => {
                p.roles.push("tenant-administrator".to_owned());
                Edit::Keep
            }
            Payload::EngagementApproved(p) => {
                p.roles.push("tenant-administrator".to_owned());
                Edit::Keep
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-13",
        "a role that was not asked for",
        on!(EngagementApproved, |_r, p| p
            .roles
            .push("reviewer".to_owned())),
    ),
    (
        "I-13",
        "a longer term than was asked for",
        on!(EngagementApproved, |_r, p| p.valid_to_ms += DAY_MS),
    ),
    (
        "I-13",
        "a request that had expired",
        on!(EngagementRequested, |_r, p| p.approvable_until_ms -=
            90 * DAY_MS),
    ),
    (
        "I-13",
        "an engagement that the customer asks for in the provider's name",
        on!(EngagementRequested, |r, _p| r.actor = CAROL.to_owned()),
    ),
    (
        "I-13",
        "an extension of more than 180 days",
        on!(EngagementExtended, |_r, p| p.valid_to_ms += 180 * DAY_MS),
    ),
    (
        "I-13",
        "an extension by the provider",
        on!(EngagementExtended, |r, p| {
            r.actor = PETRA.to_owned();
            p.approver = PETRA.to_owned();
        }),
    ),
    (
        "I-13",
        "an engagement that is restored",
        |scene| match &*scene.payload {
            Payload::EngagementRequested(p) if p.engagement == ENGAGEMENT => {
                let ended = v1::EngagementEnded {
                    engagement: p.engagement.clone(),
                    ended_by: v1::EngagementEnd::Customer.into(),
                    effective_ms: scene.record.occurred_at_ms,
                    reason: "DONE".to_owned(),
                };
                followed_by(scene, Payload::EngagementEnded(ended))
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-13",
        "an engagement that begins long after it was approved",
        |scene| match &mut *scene.payload {
            Payload::EngagementApproved(p) => {
                p.valid_from_ms += 600 * DAY_MS;
                p.valid_to_ms += 600 * DAY_MS;
                Edit::Keep
            }
            Payload::EngagementExtended(p) => {
                p.from_valid_to_ms += 600 * DAY_MS;
                p.valid_to_ms += 600 * DAY_MS;
                Edit::Keep
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-14",
        "a risk that the provider owns",
        on!(ResponsibilityAssigned, |_r, p| p.risk_owner =
            PROVIDER.to_owned()),
    ),
    (
        "I-14",
        "a control that nobody carries out",
        on!(ResponsibilityAssigned, |_r, p| p
            .operator_organization
            .clear()),
    ),
    (
        "I-14",
        "responsibilities that the provider assigns",
        on!(ResponsibilityAssigned, |r, _p| r.actor = PETRA.to_owned()),
    ),
    (
        "I-14",
        "nobody answers for offboarding",
        drop_if!(ResponsibilityAssigned, |p| p.activity == "offboarding"),
    ),
    (
        "I-45",
        "evidence that nobody accepted",
        drop_if!(CompetencyEvidenceAccepted, |p| p
            .competency
            .ends_with("onboarding")),
    ),
    (
        "I-45",
        "evidence that the provider accepted",
        on!(CompetencyEvidenceAccepted, |r, _p| r.actor =
            PETRA.to_owned()),
    ),
    (
        "I-45",
        "evidence that had lapsed",
        on!(CompetencyEvidenceSubmitted, |r, p| p.valid_to_ms =
            r.occurred_at_ms + 600_000),
    ),
    (
        "I-45",
        "evidence of another person",
        on!(CompetencyEvidenceSubmitted, |_r, p| p.operator =
            PETRA.to_owned()),
    ),
    ("I-45", "evidence that was revoked", |scene| {
        match &*scene.payload {
            Payload::CompetencyEvidenceAccepted(p) => {
                let revoked = v1::CompetencyEvidenceRevoked {
                    competency: p.competency.clone(),
                    effective_ms: scene.record.occurred_at_ms,
                };
                followed_by(scene, Payload::CompetencyEvidenceRevoked(revoked))
            }
            _ => Edit::Keep,
        }
    }),
    (
        "I-45",
        "an engagement that was over",
        |scene| match &*scene.payload {
            Payload::OperatorAssigned(p) => {
                let ended = v1::EngagementEnded {
                    engagement: p.engagement.clone(),
                    ended_by: v1::EngagementEnd::Customer.into(),
                    effective_ms: scene.record.occurred_at_ms,
                    reason: "DONE".to_owned(),
                };
                followed_by(scene, Payload::EngagementEnded(ended))
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-45",
        "somebody who was assigned no longer",
        |scene| match &*scene.payload {
            Payload::OperatorAssigned(p) => {
                let ended = v1::OperatorUnassigned {
                    engagement: p.engagement.clone(),
                    operator: p.operator.clone(),
                    principal: p.principal.clone(),
                    effective_ms: scene.record.occurred_at_ms,
                };
                followed_by(scene, Payload::OperatorUnassigned(ended))
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-45",
        "an access under no assignment",
        on!(OperatorAccessUsed, |_r, p| p.assignment_hash = vec![7; 32]),
    ),
    (
        "I-45",
        "an access in another's name",
        on!(OperatorAccessUsed, |_r, p| p.operator = PETRA.to_owned()),
    ),
    (
        "I-45",
        "a role that the engagement does not have",
        on!(OperatorAssigned, |_r, p| p.roles =
            vec!["auditor".to_owned()]),
    ),
    (
        "I-45",
        "evidence for longer than 1,096 days",
        on!(CompetencyEvidenceSubmitted, |_r, p| p.valid_to_ms +=
            1_096 * DAY_MS),
    ),
    (
        "I-45",
        "somebody who acts as a human of the customer",
        |scene| match &mut *scene.payload {
            Payload::OperatorAssigned(p) => {
                p.principal = BOB.to_owned();
                Edit::Keep
            }
            Payload::OperatorAccessUsed(_) => {
                scene.record.actor = BOB.to_owned();
                Edit::Keep
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-45",
        "somebody who acts as one of another organisation",
        on!(PrincipalRegistered, |_r, p| if p.principal == PROVIDER {
            p.organization = "organizations/other".to_owned()
        }),
    ),
    (
        "I-45",
        "a provider whose people are a subcontractor's",
        on!(PrincipalRegistered, |_r, p| if p.principal == PROVIDER {
            p.organization_kind = v1::OrganizationKind::Subcontractor.into()
        }),
    ),
    (
        "I-45",
        "a principal that had ended",
        |scene| match &*scene.payload {
            Payload::OperatorAssigned(p) => {
                let ended = v1::PrincipalEnded {
                    principal: p.principal.clone(),
                    effective_ms: scene.record.occurred_at_ms,
                };
                followed_by(scene, Payload::PrincipalEnded(ended))
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-45",
        "somebody whom the customer assigned",
        on!(OperatorAssigned, |r, _p| r.actor = CAROL.to_owned()),
    ),
    (
        "I-45",
        "work that is let in as showing evidence",
        |scene| match &mut *scene.payload {
            Payload::CompetencyEvidenceAccepted(_) => Edit::Drop,
            Payload::OperatorAccessUsed(p) => {
                p.permission = "competencies.get".to_owned();
                Edit::Keep
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-46",
        "a tier below the sensitivity",
        on!(EnvironmentSensitivitySet, |_r, p| p.level = 3),
    ),
    (
        "I-46",
        "a sensitivity that nobody stated",
        drop_if!(EnvironmentSensitivitySet, |p| p.level == 2),
    ),
    (
        "I-46",
        "a tier that the provider gives itself",
        on!(PartnerTierSet, |r, _p| r.actor = PETRA.to_owned()),
    ),
    (
        "I-47",
        "an attestation that had lapsed",
        on!(ControlAttested, |r, p| p.valid_to_ms =
            r.occurred_at_ms + 600_000),
    ),
    (
        "I-47",
        "an attestation of somebody else",
        on!(ControlAttested, |r, _p| r.actor = CAROL.to_owned()),
    ),
    (
        "I-47",
        "a reassessment that had lapsed",
        on!(ReassessmentCompleted, |r, p| p.next_due_ms =
            r.occurred_at_ms + 600_000),
    ),
    (
        "I-47",
        "a reassessment that failed",
        on!(ReassessmentCompleted, |_r, p| p.result =
            v1::ReassessmentResult::Failed.into()),
    ),
    (
        "I-47",
        "a reassessment by the provider",
        on!(ReassessmentCompleted, |r, _p| r.actor = PETRA.to_owned()),
    ),
    (
        "I-47",
        "an attestation for longer than 400 days",
        on!(ControlAttested, |_r, p| p.valid_to_ms += 400 * DAY_MS),
    ),
    (
        "I-47",
        "a reassessment for longer than 400 days",
        on!(ReassessmentCompleted, |_r, p| p.next_due_ms += 400 * DAY_MS),
    ),
    (
        "I-49",
        "a subcontractor that outlasts its provider",
        on!(SubcontractorEngaged, |_r, p| p
            .approved
            .as_mut()
            .unwrap()
            .valid_to_ms +=
            30 * DAY_MS),
    ),
    (
        "I-49",
        "a subcontractor of nobody",
        on!(SubcontractorEngaged, |_r, p| p.parent =
            "engagements/e9".to_owned()),
    ),
    (
        "I-49",
        "a subcontractor of whom less is asked",
        |scene| match &mut *scene.payload {
            Payload::EngagementRequested(p) if p.engagement == SUB => {
                p.profile = v1::EngagementProfile::Pilot.into();
                Edit::Keep
            }
            Payload::SubcontractorEngaged(p) => {
                p.approved.as_mut().unwrap().profile = v1::EngagementProfile::Pilot.into();
                Edit::Keep
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-51",
        "a pilot whose logging the provider keeps",
        |scene| match &mut *scene.payload {
            Payload::EngagementRequested(p) => {
                p.profile = v1::EngagementProfile::Pilot.into();
                Edit::Keep
            }
            Payload::EngagementApproved(p) => {
                p.profile = v1::EngagementProfile::Pilot.into();
                Edit::Keep
            }
            Payload::ResponsibilityAssigned(p) if p.activity == "logging" => {
                p.operator_kind = v1::OrganizationKind::Provider.into();
                Edit::Keep
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-51",
        "a pilot that is extended beyond 90 days",
        |scene| match &mut *scene.payload {
            Payload::EngagementRequested(p) => {
                p.profile = v1::EngagementProfile::Pilot.into();
                Edit::Keep
            }
            Payload::EngagementApproved(p) => {
                p.profile = v1::EngagementProfile::Pilot.into();
                Edit::Keep
            }
            Payload::EngagementExtended(p) => {
                p.valid_to_ms += 10 * DAY_MS;
                Edit::Keep
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-53",
        "work that nobody came in for",
        |scene| match &*scene.payload {
            Payload::OperatorAccessUsed(_) if later(scene) => Edit::Drop,
            Payload::SourceSyncSealed(_) => {
                scene.record.actor = PROVIDER.to_owned();
                Edit::Keep
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-53",
        "a decision long after an access",
        |scene| match &*scene.payload {
            Payload::OperatorAccessUsed(p) if p.permission == "items.decide" => Edit::Drop,
            Payload::OperatorAccessUsed(p) if p.permission == "items.get" => {
                scene.record.occurred_at_ms -= 330_000;
                Edit::Keep
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-53",
        "a plan long after an access",
        |scene| match &*scene.payload {
            Payload::ReconRunSealed(_) => {
                let mut record = scene.record.clone();
                record.actor = PROVIDER.to_owned();
                record.occurred_at_ms -= 330_000;
                Edit::Follow(vec![(record, Payload::OperatorAccessUsed(came_in()))])
            }
            Payload::RemediationPlanned(_) => {
                scene.record.actor = PROVIDER.to_owned();
                Edit::Keep
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-53",
        "a decision by who came in to show evidence",
        on!(
            OperatorAccessUsed,
            |r, p| if r.stream == "recertification" {
                p.permission = SUBMIT.0.to_owned();
                p.method = SUBMIT.1.to_owned()
            }
        ),
    ),
    (
        "I-53",
        "a mirror in the customer's own log",
        |scene| match &*scene.payload {
            Payload::OperatorAccessUsed(p) if later(scene) => {
                let link = v1::OperatorLogCrossLinked {
                    operator: PROVIDER.to_owned(),
                    customer: "tenants/acme".to_owned(),
                    customer_log_origin: "ledger.example/t/acme".to_owned(),
                    access_hash: vec![7; 32],
                    method: p.method.clone(),
                };
                followed_by(scene, Payload::OperatorLogCrossLinked(link))
            }
            _ => Edit::Keep,
        },
    ),
];

#[test]
fn i45_somebody_assigned_before_the_engagement_was_approved_is_seen() {
    let golden = Golden::new();
    let (root, files) = golden.copy("early");
    let mut approval = None;
    Forger::new(&files, &golden.keys)
        .rewrite(|scene| {
            Ok(match &*scene.payload {
                Payload::EngagementApproved(_) => {
                    approval = Some((scene.record.clone(), scene.payload.clone()));
                    Edit::Drop
                }
                Payload::OperatorAssigned(_) => Edit::Follow(approval.take().into_iter().collect()),
                _ => Edit::Keep,
            })
        })
        .unwrap();
    fails(&golden, &root, "I-45", "an operator without an engagement");
}

#[test]
fn forged_engagements_responsibilities_and_accesses_are_seen() {
    all_fail(FORGERIES);
}
