//! Plans, attempts, read-backs and findings, forged.

use counterfoil_evidence::leaf::ACTION_LEAF_LEN;

use crate::prelude::*;

/// As if the plan had never been held.
fn never_held(scene: &mut Scene<'_>) -> Edit {
    match &*scene.payload {
        Payload::ThresholdTripped(_) | Payload::ThresholdResolved(_) => Edit::Drop,
        _ => Edit::Keep,
    }
}

/// As if what is left of the threshold came when all was done.
fn held_afterwards(scene: &mut Scene<'_>) -> Edit {
    match &*scene.payload {
        Payload::RemediationClosed(p) => {
            let tripped = v1::ThresholdTripped {
                remediation: p.remediation.clone(),
                metric: "count".to_owned(),
                limit: 5,
                observed: 99,
                queued_root: vec![0; 32],
            };
            followed_by(scene, Payload::ThresholdTripped(tripped))
        }
        _ => never_held(scene),
    }
}

/// As if nobody had promised to look again.
fn never_read_again(scene: &mut Scene<'_>) -> Edit {
    match &*scene.payload {
        Payload::ObligationOpened(_) | Payload::ObligationDischarged(_) => Edit::Drop,
        _ => Edit::Keep,
    }
}

/// The plan names whatever record was there as what decided its removals.
fn decided_by_nothing(scene: &mut Scene<'_>) -> Edit {
    if let Payload::RemediationPlanned(mut p) = scene.payload.clone() {
        let mut actions = scene.blob(media_type::ACTIONS).unwrap();
        for leaf in actions.chunks_exact_mut(ACTION_LEAF_LEN) {
            leaf[ACTION_LEAF_LEN - 32..].copy_from_slice(&scene.record.prev_record_hash);
        }
        p.actions_root = scene
            .set_blob(media_type::ACTIONS, &actions, ACTION_LEAF_LEN)
            .unwrap();
        *scene.payload = Payload::RemediationPlanned(p);
    }
    Edit::Keep
}

pub(crate) const FORGERIES: &[(&str, &str, Forgery)] = &[
    (
        "I-33",
        "closed at a lower level",
        on!(EffectVerified, |_r, p| p.val = 2),
    ),
    (
        "I-33",
        "closed on what is still there",
        on!(EffectVerified, |_r, p| p.claim =
            EffectClaim::Present.into()),
    ),
    (
        "I-33",
        "one more counted as verified",
        on!(RemediationClosed, |_r, p| {
            p.verified_count += 1;
            p.open_count -= 1;
        }),
    ),
    (
        "I-33",
        "CLOSED with something open",
        on!(RemediationClosed, |_r, p| p.outcome =
            v1::RemediationOutcome::Closed.into()),
    ),
    (
        "I-33",
        "a grant ended on nothing",
        on!(GrantEnded, |_r, p| p.verified_record_hash = vec![7; 32]),
    ),
    (
        "I-33",
        "a grant ended by another decision",
        on!(GrantEnded, |_r, p| p.decision_record_hash = vec![7; 32]),
    ),
    (
        "I-33",
        "a finding resolved by nothing",
        on!(FindingDispositioned, |_r, p| p.evidence_record_hash =
            vec![7; 32]),
    ),
    (
        "I-34",
        "a broken proof",
        on!(EffectVerified, |_r, p| {
            let last = p.proof.len() - 1;
            p.proof[last] ^= 1;
        }),
    ),
    (
        "I-34",
        "no proof",
        on!(EffectVerified, |_r, p| p.proof.clear()),
    ),
    (
        "I-34",
        "another set than the sync sealed",
        on!(EffectVerified, |_r, p| p.set_count += 1),
    ),
    (
        "I-34",
        "no sync",
        on!(EffectVerified, |_r, p| p.sync_record_hash = vec![7; 32]),
    ),
    (
        "I-34",
        "another time of reading",
        on!(EffectVerified, |_r, p| p.observed_ms += 1),
    ),
    (
        "I-34",
        "verified without an action",
        drop_if!(ActionIntended, |p| p.action == "actions/1"),
    ),
    ("I-36", "the writer reads its own work", |scene| {
        match &mut *scene.payload {
            Payload::SourceRegistered(p) => p.reader_principal = writer(&p.source),
            Payload::SourceSyncSealed(p) => p.reader_principal = writer(&p.source),
            Payload::EffectVerified(p) => {
                p.reader_principal = p.reader_principal.replace("reader", "writer")
            }
            _ => {}
        }
        Edit::Keep
    }),
    (
        "I-36",
        "an unknown writer",
        on!(SourceRegistered, |_r, p| p.writer_principal.clear()),
    ),
    (
        "I-37",
        "a re-read that is not owed",
        drop_if!(ObligationOpened, |p| p.obligation[0].is_multiple_of(2)),
    ),
    (
        "I-37",
        "a re-read before it was due",
        on!(ObligationOpened, |_r, p| p.due_ms += DAY_MS / 2),
    ),
    (
        "I-37",
        "a re-read that is due too early",
        on!(ObligationOpened, |_r, p| p.due_ms -= DAY_MS / 24),
    ),
    (
        "I-37",
        "a re-read of nothing",
        on!(ObligationDischarged, |_r, p| p.evidence_record_hash =
            vec![7; 32]),
    ),
    (
        "I-37",
        "a regression without proof",
        on!(RegressionDetected, |_r, p| p.proof.clear()),
    ),
    (
        "I-37",
        "a regression of nothing",
        on!(RegressionDetected, |_r, p| p.closed_record_hash =
            vec![7; 32]),
    ),
    (
        "I-37",
        "an overdue re-read",
        on!(ObligationOpened, |_r, p| if p.due_ms > 0 {
            p.due_ms -= 7 * DAY_MS
        }),
    ),
    (
        "I-38",
        "a level that reading cannot reach",
        on!(EffectVerified, |_r, p| p.val = 4),
    ),
    (
        "I-38",
        "a ticket counts as a read-back",
        on!(EffectVerified, |_r, p| p.method =
            VerificationMethod::Acknowledged.into()),
    ),
    (
        "I-39",
        "started before its intent",
        on!(ActionAttempted, |_r, p| p.started_ms -= 60_000),
    ),
    (
        "I-39",
        "a decision that another had superseded",
        |scene| match &*scene.payload {
            Payload::ReviewDecided(p) if p.decision() == Decision::Revoke => {
                let mut newer = p.clone();
                newer.set_decision(Decision::Accept);
                let newer = Payload::ReviewDecided(newer);
                followed_by(scene, newer)
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-39",
        "another operation than planned",
        on!(ActionIntended, |_r, p| p.operation = 3 - p.operation),
    ),
    (
        "I-39",
        "another plan",
        on!(ActionIntended, |_r, p| p.plan_record_hash = vec![7; 32]),
    ),
    ("I-39", "no plan", drop_if!(RemediationPlanned, |_p| true)),
    (
        "I-39",
        "held and nobody resolved it",
        drop_if!(ThresholdResolved, |_p| true),
    ),
    (
        "I-39",
        "cancelled and carried out",
        on!(ThresholdResolved, |_r, p| p.resume = false),
    ),
    (
        "I-39",
        "no intent",
        drop_if!(ActionIntended, |p| p.action == "actions/2"),
    ),
    (
        "I-39",
        "another root of the actions",
        on!(RemediationPlanned, |_r, p| p.actions_root = vec![7; 32]),
    ),
    ("I-40", "an idempotency key used twice", |scene| {
        match &mut *scene.payload {
            Payload::ActionIntended(p) => p.idempotency_key = "same".to_owned(),
            Payload::ActionAttempted(p) => p.idempotency_key = "same".to_owned(),
            _ => {}
        }
        Edit::Keep
    }),
    (
        "I-40",
        "an attempt that is skipped",
        on!(ActionIntended, |_r, p| p.attempt += 1),
    ),
    ("I-40", "two answers", |scene| match &*scene.payload {
        Payload::ActionAttempted(p) => followed_by(scene, Payload::ActionAttempted(p.clone())),
        _ => Edit::Keep,
    }),
    (
        "I-40",
        "tried again without looking",
        on!(ActionIntended, |_r, p| p
            .read_before_retry_record_hash
            .clear()),
    ),
    (
        "I-40",
        "no result",
        on!(ActionAttempted, |_r, p| p.result = 0),
    ),
    (
        "I-58",
        "another authorised set",
        on!(ReconRunSealed, |_r, p| p.authorized_root = vec![7; 32]),
    ),
    (
        "I-58",
        "other counts",
        on!(ReconRunSealed, |_r, p| p.situations[0].count += 1),
    ),
    (
        "I-58",
        "fewer observed",
        on!(ReconRunSealed, |_r, p| p.observed_count -= 1),
    ),
    (
        "I-58",
        "fewer findings",
        on!(ReconRunSealed, |_r, p| {
            p.findings_count = 0;
            p.findings_root = counterfoil_tlog::hash::empty_root().0.to_vec();
        }),
    ),
    (
        "I-58",
        "judged by another day",
        on!(ReconRunSealed, |_r, p| p.as_of_ms += 400 * DAY_MS),
    ),
    (
        "I-58",
        "a finding of another kind",
        on!(FindingOpened, |_r, p| p.situation =
            v1::Situation::Dormant.into()),
    ),
    (
        "I-58",
        "a finding of no run",
        on!(FindingOpened, |_r, p| p.recon_run.push('x')),
    ),
    (
        "I-58",
        "a finding that is opened twice",
        |scene| match &*scene.payload {
            Payload::FindingOpened(p) => followed_by(scene, Payload::FindingOpened(p.clone())),
            _ => Edit::Keep,
        },
    ),
    ("I-58", "an approval that nobody gave", |scene| {
        if let Payload::ReconRunSealed(mut p) = scene.payload.clone() {
            let mut set = scene.blob(media_type::AUTHORIZED_SET).unwrap();
            let revoked = set.chunks_exact_mut(81).find(|leaf| leaf[40] == 2).unwrap();
            revoked[40] = 1;
            revoked[41..49].copy_from_slice(&u64::MAX.to_be_bytes());
            p.authorized_root = scene
                .set_blob(media_type::AUTHORIZED_SET, &set, 81)
                .unwrap();
            *scene.payload = Payload::ReconRunSealed(p);
        }
        Edit::Keep
    }),
    (
        "I-59",
        "a plan above the threshold that was not held",
        never_held,
    ),
    (
        "I-59",
        "a threshold that a service resolved",
        on!(PrincipalRegistered, |_r, p| if p.principal == CAROL {
            p.kind = v1::PrincipalKind::Service.into();
        }),
    ),
    (
        "I-59",
        "a plan above the threshold that was held when it was done",
        held_afterwards,
    ),
    (
        "I-59",
        "a threshold that a service resolved before a human did",
        |scene| match &*scene.payload {
            Payload::ThresholdResolved(p) => {
                let by_a_human = followed_by(scene, Payload::ThresholdResolved(p.clone()));
                "services/reconciliation".clone_into(&mut scene.record.actor);
                by_a_human
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-13",
        "a threshold that somebody without the right resolved before the one who has it",
        |scene| match &*scene.payload {
            Payload::ThresholdResolved(p) => {
                let by_right = followed_by(scene, Payload::ThresholdResolved(p.clone()));
                ALICE.clone_into(&mut scene.record.actor);
                by_right
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-04",
        "a reading that ended after it was on record",
        on!(SourceSyncSealed, |_r, p| p.ended_ms += DAY_MS),
    ),
    (
        "I-04",
        "an attempt that ended after it was on record",
        on!(ActionAttempted, |_r, p| p.ended_ms += DAY_MS),
    ),
    (
        "I-33",
        "a plan that asks for less than the policy",
        on!(RemediationPlanned, |_r, p| p.val_required = 2),
    ),
    (
        "I-37",
        "a plan that reads again less often than the policy",
        |scene| {
            if let Payload::RemediationPlanned(p) = &mut *scene.payload {
                p.persistence_offsets_ms.clear();
            }
            never_read_again(scene)
        },
    ),
    (
        "I-37",
        "a re-read in a thousand years",
        on!(ObligationOpened, |_r, p| if p.due_ms > 0 {
            p.due_ms += 365_000 * DAY_MS;
        }),
    ),
    (
        "I-37",
        "a remediation that never ended and is never read again",
        |scene| match &*scene.payload {
            Payload::RemediationClosed(_) => Edit::Drop,
            _ => never_read_again(scene),
        },
    ),
    (
        "I-39",
        "removals that no decision decided",
        decided_by_nothing,
    ),
    (
        "I-39",
        "one grant acted on under two names",
        |scene| match &*scene.payload {
            Payload::ActionIntended(p) if p.attempt == 1 => {
                let mut twin = p.clone();
                twin.action.push_str("-twin");
                twin.idempotency_key.push_str("-twin");
                followed_by(scene, Payload::ActionIntended(twin))
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-58",
        "a run that speaks of another moment",
        on!(ReconRunSealed, |_r, p| p.as_of_ms -= DAY_MS / 24),
    ),
    (
        "I-40",
        "an attempt without an answer",
        drop_if!(ActionAttempted, |p| p.action == "actions/3"),
    ),
    (
        "G13",
        "a longest time that is shorter",
        on!(RemediationClosed, |_r, p| p.decided_to_verified_max_ms -= 1),
    ),
];

#[test]
fn forged_plans_attempts_read_backs_and_findings_are_seen() {
    all_fail(FORGERIES);
}
