//! The tenant's life, forged.

use counterfoil_verify::{Verdict, report};

use crate::holds::OF_WHO_LEAVES;
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
    (
        "I-17",
        "a tenant that the deployment resumes though its customer paused it",
        |scene| match &*scene.payload {
            Payload::TenantLifecycleChanged(p) if p.to() == v1::TenantState::Active => {
                let paused = change(v1::TenantState::Active, v1::TenantState::Suspended);
                let resumed = change(v1::TenantState::Suspended, v1::TenantState::Active);
                let mut by_deployment = scene.record.clone();
                by_deployment.actor = "operators/admin".to_owned();
                Edit::Follow(vec![
                    (
                        scene.record.clone(),
                        Payload::TenantLifecycleChanged(paused),
                    ),
                    (by_deployment, Payload::TenantLifecycleChanged(resumed)),
                ])
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-17",
        "a tenant that a service made",
        on!(
            TenantLifecycleChanged,
            |r, p| if p.to() == v1::TenantState::Onboarding {
                r.actor = "services/authority".to_owned()
            }
        ),
    ),
    (
        "I-17",
        "a tenant that its provider activates",
        on!(
            TenantLifecycleChanged,
            |r, p| if p.to() == v1::TenantState::Active {
                r.actor = PROVIDER.to_owned()
            }
        ),
    ),
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
];

/// Puts a record where the tenant leaves.
fn given_late(scene: &Scene<'_>, payload: Payload) -> Edit {
    match &*scene.payload {
        Payload::TenantLifecycleChanged(p) if p.to() == v1::TenantState::Exiting => {
            followed_by(scene, payload)
        }
        _ => Edit::Keep,
    }
}

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
        "a tenant closed on evidence from before it left",
        on!(EvidencePackIssued, |_r, p| p.tree_size = 10),
    ),
    (
        "I-17",
        "a tenant closed on evidence of another log",
        on!(EvidencePackIssued, |_r, p| p.root_hash = vec![7; 32]),
    ),
    (
        "I-17",
        "a tenant closed on evidence that was not there yet",
        on!(EvidencePackIssued, |_r, p| p.tree_size += 2),
    ),
    (
        "I-17",
        "a tenant that the deployment lets leave",
        on!(
            TenantLifecycleChanged,
            |r, p| if p.to() == v1::TenantState::Exiting {
                r.actor = "operators/admin".to_owned()
            }
        ),
    ),
    (
        "I-17",
        "a tenant that a machine lets leave",
        on!(PrincipalRegistered, |_r, p| if p.principal == CAROL {
            p.kind = v1::PrincipalKind::AiAgent.into()
        }),
    ),
    (
        "I-17",
        "a tenant that its provider closes",
        on!(
            TenantLifecycleChanged,
            |r, p| if p.to() == v1::TenantState::Closed {
                r.actor = PROVIDER.to_owned()
            }
        ),
    ),
    (
        "I-17",
        "a token issued after the end",
        |scene| match &*scene.payload {
            Payload::TenantLifecycleChanged(p) if p.to() == v1::TenantState::Closed => {
                let issued = v1::CredentialIssued {
                    credential: "late".to_owned(),
                    ..v1::CredentialIssued::default()
                };
                followed_by(scene, Payload::CredentialIssued(issued))
            }
            _ => Edit::Keep,
        },
    ),
    ("I-17", "a right granted while the tenant leaves", |scene| {
        given_late(
            scene,
            Payload::DecisionRightGranted(v1::DecisionRightGranted::default()),
        )
    }),
    (
        "I-17",
        "a principal registered while the tenant leaves",
        |scene| {
            given_late(
                scene,
                Payload::PrincipalRegistered(v1::PrincipalRegistered::default()),
            )
        },
    ),
    (
        "I-17",
        "a policy published while the tenant leaves",
        |scene| {
            given_late(
                scene,
                Payload::PolicyBundlePublished(v1::PolicyBundlePublished::default()),
            )
        },
    ),
    (
        "I-17",
        "an operator assigned while the tenant leaves",
        |scene| {
            given_late(
                scene,
                Payload::OperatorAssigned(v1::OperatorAssigned::default()),
            )
        },
    ),
    (
        "I-17",
        "a tenant closed on evidence that nobody took",
        on!(EvidencePackIssued, |_r, p| p.recipient =
            "principals/nobody".to_owned()),
    ),
];

/// Lets DAVE answer for a unit and CAROL after him, and ends him on another replica, before or behind her in the log.
fn answered_by_who_ends(scene: &Scene<'_>, ends_before: bool, ahead_ms: i64) -> Edit {
    match &*scene.payload {
        Payload::LegalHoldReleased(last) if last.hold == OF_WHO_LEAVES => {}
        _ => return Edit::Keep,
    }
    let tenure = |owner: &str, after_ms: i64| {
        let tenure = v1::BusinessUnitOwnerSet {
            business_unit: "business-units/some".to_owned(),
            owner: owner.to_owned(),
            deputy: BOB.to_owned(),
            effective_from_ms: scene.record.occurred_at_ms + after_ms,
        };
        (scene.record.clone(), Payload::BusinessUnitOwnerSet(tenure))
    };
    let mut more = vec![tenure(DAVE, 0), tenure(CAROL, 1)];
    let at = if ends_before { 1 } else { 2 };
    more.insert(at, ended(scene.record, DAVE, ahead_ms));
    Edit::Follow(more)
}

#[test]
fn i12_the_log_tells_who_answered_to_the_end_whatever_the_clocks_of_two_replicas_say() {
    let golden = Golden::of(crate::support::cycle::build_until_it_left(60));
    for (ends_before, ahead_ms) in [(false, -1_000), (true, 1_000)] {
        let (root, files) = golden.copy(if ends_before { "ahead" } else { "behind" });
        Forger::new(&files, &golden.keys)
            .rewrite(|scene| Ok(answered_by_who_ends(scene, ends_before, ahead_ms)))
            .unwrap();
        match ends_before {
            true => fails(&golden, &root, "I-12", "an owner who had ended"),
            false => {
                let found = golden.verify(&root);
                assert_eq!(found.verdict, Verdict::Ok, "{}", report::text(&found));
            }
        }
    }
}

#[test]
fn i17_a_tenant_is_closed_once_its_customer_took_the_evidence() {
    let golden = Golden::of(crate::support::cycle::build_until_it_left(60));
    golden.is_good();
    all_fail_in(&golden, OF_AN_EXIT);
}

#[test]
fn forged_lives_are_seen() {
    all_fail(FORGERIES);
}
