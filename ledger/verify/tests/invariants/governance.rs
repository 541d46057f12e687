//! The tenant's life, rights of two people, delegations and emergencies, forged.

use crate::prelude::*;

/// Puts a tenant through another change after it became active.
fn then(scene: &Scene<'_>, change: v1::TenantLifecycleChanged) -> Edit {
    match &*scene.payload {
        Payload::TenantLifecycleChanged(p) if p.to() == v1::TenantState::Active => {
            followed_by(scene, Payload::TenantLifecycleChanged(change))
        }
        _ => Edit::Keep,
    }
}

fn change(from: v1::TenantState, to: v1::TenantState) -> v1::TenantLifecycleChanged {
    v1::TenantLifecycleChanged {
        from: from.into(),
        to: to.into(),
        reason_code: "contract".to_owned(),
        ..v1::TenantLifecycleChanged::default()
    }
}

fn become_provider(change: &mut v1::TenantLifecycleChanged) {
    change.kind = v1::TenantKind::Provider.into();
    let administrator = change.gate_results.first().cloned();
    change
        .gate_results
        .extend(administrator.map(|shown| v1::GateResult {
            requirement: "provider_administrator".to_owned(),
            ..shown
        }));
}

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
        "I-17",
        "an activation that rests on no owner",
        on!(TenantLifecycleChanged, |_r, p| {
            p.gate_results
                .retain(|result| result.requirement != "business_unit_owner")
        }),
    ),
    (
        "I-17",
        "an activation that cites what is not there",
        on!(
            TenantLifecycleChanged,
            |_r, p| if let Some(result) = p.gate_results.first_mut() {
                result.record_hash = vec![7; 32]
            }
        ),
    ),
    (
        "I-17",
        "a tenant that was never active",
        drop_if!(TenantLifecycleChanged, |p| p.to()
            == v1::TenantState::Active),
    ),
    ("I-17", "a tenant that closes at once", |scene| {
        then(
            scene,
            change(v1::TenantState::Active, v1::TenantState::Closed),
        )
    }),
    ("I-17", "decisions while the tenant is suspended", |scene| {
        // Both a day ago, so that no clock explains what is decided since.
        if matches!(&*scene.payload, Payload::TenantLifecycleChanged(_)) {
            scene.record.occurred_at_ms -= DAY_MS;
        }
        then(
            scene,
            change(v1::TenantState::Active, v1::TenantState::Suspended),
        )
    }),
    ("I-17", "a suspension without a reason", |scene| {
        let suspended = v1::TenantLifecycleChanged {
            reason_code: String::new(),
            ..change(v1::TenantState::Active, v1::TenantState::Suspended)
        };
        then(scene, suspended)
    }),
    (
        "I-17",
        "a customer that becomes a provider when it is activated",
        on!(
            TenantLifecycleChanged,
            |_r, p| if p.to() == v1::TenantState::Active {
                become_provider(p)
            }
        ),
    ),
    (
        "I-17",
        "a provider whose access is governed",
        on!(TenantLifecycleChanged, |_r, p| become_provider(p)),
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

/// Where the customer left.
const OF_AN_EXIT: &[(&str, &str, Forgery)] = &[
    (
        "I-17",
        "a tenant closed on the evidence that its provider took",
        on!(EvidencePackIssued, |r, p| {
            r.actor = PROVIDER.to_owned();
            p.recipient = PROVIDER.to_owned();
        }),
    ),
    (
        "I-17",
        "a tenant closed on evidence that was taken in the customer's name",
        on!(EvidencePackIssued, |r, _p| r.actor = PROVIDER.to_owned()),
    ),
    (
        "I-17",
        "a tenant closed on evidence that nobody took",
        on!(EvidencePackIssued, |_r, p| p.recipient =
            "principals/nobody".to_owned()),
    ),
];

#[test]
fn i17_a_tenant_is_closed_once_its_customer_took_the_evidence() {
    let golden = Golden::of(crate::support::cycle::build_until_it_left(60));
    golden.is_good();
    all_fail_in(&golden, OF_AN_EXIT);
}

#[test]
fn forged_lives_delegations_emergencies_and_pairs_of_eyes_are_seen() {
    all_fail(FORGERIES);
}
