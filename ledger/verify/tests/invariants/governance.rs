//! Units, rights of two people, delegations and emergencies, forged.

use crate::prelude::*;

pub(crate) const FORGERIES: &[(&str, &str, Forgery)] = &[
    (
        "I-12",
        "a unit without a deputy",
        on!(BusinessUnitOwnerSet, |_r, p| p.deputy.clear()),
    ),
    (
        "I-12",
        "the owner stands in for itself",
        on!(BusinessUnitOwnerSet, |_r, p| p.deputy = p.owner.clone()),
    ),
    (
        "I-12",
        "the provider answers for a unit",
        on!(BusinessUnitOwnerSet, |_r, p| p.owner = PROVIDER.to_owned()),
    ),
    (
        "I-13",
        "decisions under a right for one tier",
        on!(DecisionRightGranted, |_r, p| p.tiers.push("low".to_owned())),
    ),
    (
        "I-13",
        "a right granted in another's name",
        |scene| match &*scene.payload {
            Payload::TenantLifecycleChanged(p) if p.to() == v1::TenantState::Active => {
                let granted = v1::DecisionRightGranted {
                    right: "more".to_owned(),
                    grantee: BOB.to_owned(),
                    action: v1::DecisionAction::Review.into(),
                    scope: vec!["*".to_owned()],
                    valid_from_ms: scene.record.occurred_at_ms,
                    valid_to_ms: scene.record.occurred_at_ms + DAY_MS,
                    // The record's actor is somebody else.
                    grantor: ALICE.to_owned(),
                    ..v1::DecisionRightGranted::default()
                };
                followed_by(scene, Payload::DecisionRightGranted(granted))
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-16",
        "a delegation that nobody of it made",
        on!(DelegationGranted, |r, _p| r.actor = BOB.to_owned()),
    ),
    (
        "I-16",
        "a right that is not the delegator's",
        |scene| match &mut *scene.payload {
            Payload::DelegationGranted(p) => {
                p.delegator = BOB.to_owned();
                scene.record.actor = BOB.to_owned();
                Edit::Keep
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-16",
        "a right to something else passed on",
        on!(DelegationGranted, |_r, p| p.action =
            v1::DecisionAction::Certify.into()),
    ),
    (
        "I-16",
        "more sources than the delegator has",
        |scene| match &mut *scene.payload {
            Payload::DecisionRightGranted(p) if p.action() == v1::DecisionAction::Remediate => {
                p.scope = vec![HR.to_owned(), LDAP.to_owned()];
                Edit::Keep
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-16",
        "longer than the delegator's right",
        on!(
            DecisionRightGranted,
            |_r, p| if p.action() == v1::DecisionAction::Remediate {
                p.valid_to_ms = p.valid_from_ms + 29 * DAY_MS
            }
        ),
    ),
    (
        "I-16",
        "a delegation for a hundred days",
        on!(DelegationGranted, |_r, p| p.valid_to_ms =
            p.valid_from_ms + 100 * DAY_MS),
    ),
    (
        "I-16",
        "more tiers than the delegator has",
        on!(
            DecisionRightGranted,
            |_r, p| if p.action() == v1::DecisionAction::Remediate {
                p.tiers = vec!["low".to_owned()]
            }
        ),
    ),
    (
        "I-16",
        "a delegation to oneself",
        on!(DelegationGranted, |_r, p| p.delegate = p.delegator.clone()),
    ),
    (
        "I-16",
        "a delegation of nothing",
        on!(DelegationGranted, |_r, p| p.source_record_hash =
            vec![7; 32]),
    ),
    (
        "I-16",
        "a decision in another's name without one",
        on!(RemediationPlanned, |r, _p| accountability(r).on_behalf_of =
            vec![BOB.to_owned()]),
    ),
    (
        "I-13",
        "a right that never ends",
        on!(DecisionRightGranted, |_r, p| p.valid_to_ms = i64::MAX),
    ),
    (
        "I-13",
        "a right taken away a year ahead",
        |scene| match &*scene.payload {
            Payload::DecisionRightGranted(p) if p.action() == v1::DecisionAction::Export => {
                let revoked = v1::DecisionRightRevoked {
                    right: p.right.clone(),
                    effective_ms: scene.record.occurred_at_ms + 365 * DAY_MS,
                };
                followed_by(scene, Payload::DecisionRightRevoked(revoked))
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-13",
        "somebody who is to end a year ahead",
        |scene| match &*scene.payload {
            Payload::EmergencyUseReviewed(_) => {
                let ended = v1::PrincipalEnded {
                    principal: CAROL.to_owned(),
                    effective_ms: scene.record.occurred_at_ms + 365 * DAY_MS,
                };
                followed_by(scene, Payload::PrincipalEnded(ended))
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-16",
        "a delegation taken back a year ahead",
        |scene| match &*scene.payload {
            Payload::DelegationGranted(p) => {
                let revoked = v1::DelegationRevoked {
                    delegation: p.delegation.clone(),
                    effective_ms: scene.record.occurred_at_ms + 365 * DAY_MS,
                };
                followed_by(scene, Payload::DelegationRevoked(revoked))
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-43",
        "access that nobody asked for",
        drop_if!(EmergencyAccessRequested, |_p| true),
    ),
    (
        "I-43",
        "access that its requester let begin",
        |scene| match &mut *scene.payload {
            Payload::EmergencyAccessActivated(p) => {
                p.approver = p.requester.clone();
                scene.record.actor = p.requester.clone();
                Edit::Keep
            }
            _ => Edit::Keep,
        },
    ),
    ("I-43", "access for five hours", |scene| {
        match &mut *scene.payload {
            Payload::EmergencyAccessRequested(p) => {
                p.duration_ms *= 5;
                Edit::Keep
            }
            Payload::EmergencyAccessActivated(p) => {
                p.valid_to_ms += 4 * 3_600_000;
                Edit::Keep
            }
            _ => Edit::Keep,
        }
    }),
    (
        "I-43",
        "access that nobody looked at",
        drop_if!(EmergencyUseReviewed, |_p| true),
    ),
    (
        "I-43",
        "access that its approver looked at",
        |scene| match &mut *scene.payload {
            Payload::EmergencyUseReviewed(p) => {
                p.reviewer = CAROL.to_owned();
                scene.record.actor = CAROL.to_owned();
                Edit::Keep
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-43",
        "more roles than were asked for",
        on!(EmergencyAccessActivated, |_r, p| p
            .roles
            .push("auditor".to_owned())),
    ),
    (
        "I-43",
        "access that lets govern",
        |scene| match &mut *scene.payload {
            Payload::EmergencyAccessRequested(p) => {
                p.roles.push("tenant-administrator".to_owned());
                Edit::Keep
            }
            Payload::EmergencyAccessActivated(p) => {
                p.roles.push("tenant-administrator".to_owned());
                Edit::Keep
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-43",
        "access that ended before it did",
        on!(EmergencyAccessEnded, |_r, p| p.effective_ms -= 1),
    ),
    (
        "I-43",
        "access of two principals who are one human",
        on!(PrincipalRegistered, |_r, p| p.identity_tag = tag_of(ALICE)),
    ),
    (
        "I-43",
        "access that was asked for more than an hour before",
        on!(EmergencyAccessRequested, |r, _p| r.occurred_at_ms -=
            3_600_000),
    ),
    (
        "I-43",
        "access that is to begin in a year",
        on!(EmergencyAccessActivated, |_r, p| {
            p.valid_from_ms += 365 * DAY_MS;
            p.valid_to_ms += 365 * DAY_MS;
        }),
    ),
    (
        "I-43",
        "access of a provider's human that another of a provider looked at",
        on!(
            PrincipalRegistered,
            |_r, p| if [ALICE, BOB].contains(&p.principal.as_str()) {
                p.organization_kind = v1::OrganizationKind::Provider.into()
            }
        ),
    ),
    (
        "I-43",
        "two accesses of one request",
        |scene| match &*scene.payload {
            Payload::EmergencyAccessActivated(_) => followed_by(scene, scene.payload.clone()),
            _ => Edit::Keep,
        },
    ),
    (
        "I-82",
        "a right of two principals who are one human",
        on!(PrincipalRegistered, |_r, p| p.identity_tag = tag_of(ALICE)),
    ),
    (
        "I-82",
        "a right that one granted, dated before the policy",
        on!(
            DecisionRightGranted,
            |r, p| if !p.proposal_record_hash.is_empty() {
                r.occurred_at_ms -= 60_000;
                p.proposal_record_hash.clear();
            }
        ),
    ),
    (
        "I-82",
        "a right of two that one granted",
        on!(DecisionRightGranted, |_r, p| p.proposal_record_hash.clear()),
    ),
    (
        "I-82",
        "a right that its proposer approved",
        on!(
            DecisionRightGranted,
            |r, p| if !p.proposal_record_hash.is_empty() {
                r.actor = p.grantor.clone()
            }
        ),
    ),
    (
        "I-82",
        "a right that its grantee approved",
        on!(
            DecisionRightGranted,
            |r, p| if !p.proposal_record_hash.is_empty() {
                r.actor = p.grantee.clone()
            }
        ),
    ),
    (
        "I-82",
        "another right than was proposed",
        on!(
            DecisionRightGranted,
            |_r, p| if !p.proposal_record_hash.is_empty() {
                p.valid_to_ms += 1
            }
        ),
    ),
    ("I-82", "a plan that one human carried out", |scene| {
        match &mut *scene.payload {
            Payload::PolicyBundlePublished(p) => {
                let rules = p.rules.as_mut().unwrap();
                rules.four_eyes_actions = vec![v1::DecisionAction::Remediate.into()];
            }
            // Who resolves it is who planned it.
            Payload::ThresholdResolved(_) => scene.record.actor = CAROL.to_owned(),
            _ => {}
        }
        Edit::Keep
    }),
];

#[test]
fn forged_units_delegations_emergencies_and_pairs_of_eyes_are_seen() {
    all_fail(FORGERIES);
}
