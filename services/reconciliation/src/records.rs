//! The records this service writes (R25 to R27, R43 to R49, R54, R58, R87), each from the facts of the model.
//!
//! Invariant: nothing in a payload names a person or holds free text; reasons are commitments.

use counterfoil_chassis::outbox::RecordDraft;
use counterfoil_evidence::{
    leaf::{GrantKey, media_type},
    v1::{self, AttemptResult, EffectClaim, FindingState, VerificationMethod},
};

use crate::model::{
    compare::{Blobs, Comparison},
    entities::{Action, Digest, Finding, Obligation, Remediation, Run},
    ids::Principal,
    plan::Tripped,
    target::{Proofs, Snapshot},
};

/// How the service names itself as an actor.
pub(crate) const SERVICE: &str = "services/reconciliation";

/// Who states something, when, and by what right.
#[derive(Debug, Clone)]
pub(crate) struct Stamp {
    /// "principals/{principal}" or "services/{service}".
    pub(crate) actor: String,
    /// When the stated fact happened, milliseconds.
    pub(crate) now_ms: i64,
    /// The human of the customer who owns the outcome.
    pub(crate) owner: Principal,
    /// SHA-256 of the right cited; `None` for a statement of fact.
    pub(crate) right: Option<Digest>,
    /// Hash of the policy in force.
    pub(crate) policy_hash: Vec<u8>,
    /// For whom the actor acts, outermost first; none: for itself.
    pub(crate) on_behalf_of: Vec<Principal>,
}

impl Stamp {
    /// The same at another moment.
    pub(crate) fn at(&self, now_ms: i64) -> Self {
        Self {
            now_ms,
            ..self.clone()
        }
    }

    fn draft<P: prost::Message + prost::Name>(
        &self,
        case: &str,
        payload: &P,
        causes: &[Digest],
    ) -> RecordDraft {
        let accountability = v1::Accountability {
            accountable_owner: self.owner.as_str().to_owned(),
            authority: self.right.map(|hash| hash.to_vec()).unwrap_or_default(),
            policy: self.policy_hash.clone(),
            case_id: case.to_owned(),
            causes: causes.iter().map(|hash| hash.to_vec()).collect(),
            on_behalf_of: self
                .on_behalf_of
                .iter()
                .map(|principal| principal.as_str().to_owned())
                .collect(),
            ..v1::Accountability::default()
        };
        RecordDraft::new(payload, self.actor.clone(), self.now_ms)
            .accountability(accountability)
            .subject(case)
    }
}

/// By this, whatever is said of one grant is found: who asks what happened to it must see the return as well as the end.
fn grant_subject(key: &GrantKey) -> String {
    format!("grants/{}", hex::encode(key.0))
}

/// R43, with both sets attached.
pub(crate) fn run_sealed(
    stamp: &Stamp,
    id: &str,
    snapshot: &Snapshot,
    comparison: &Comparison,
    blobs: Blobs,
) -> RecordDraft {
    let recon_run = format!("recon-runs/{id}");
    let payload = v1::ReconRunSealed {
        recon_run: recon_run.clone(),
        snapshot_record_hash: snapshot.record_hash.to_vec(),
        snapshot_root: snapshot.root.to_vec(),
        authorized_root: comparison.authorized.root.0.to_vec(),
        authorized_count: comparison.authorized.count,
        observed_count: comparison.observed_count,
        situations: comparison
            .situations()
            .map(|(situation, count)| v1::SituationCount { situation, count })
            .collect(),
        findings_root: comparison.findings_root.root.0.to_vec(),
        findings_count: comparison.findings_root.count,
        as_of_ms: stamp.now_ms,
    };
    stamp
        .draft(&recon_run, &payload, &[snapshot.record_hash])
        .attach(media_type::AUTHORIZED_SET, blobs.authorized)
        .attach(media_type::FINDINGS, blobs.findings)
}

/// R44.
pub(crate) fn finding_opened(stamp: &Stamp, finding: &Finding, run: &Run) -> RecordDraft {
    let payload = v1::FindingOpened {
        finding: finding.local(),
        recon_run: format!("recon-runs/{}", run.id),
        situation: finding.situation.into(),
        grant_key: finding.key.0.to_vec(),
        severity: finding.severity,
        due_ms: finding.due_ms,
    };
    stamp
        .draft(&finding.local(), &payload, &[run.record_hash])
        .subject(grant_subject(&finding.key))
}

/// R45. `evidence` is the record that justifies it.
pub(crate) fn finding_changed(
    stamp: &Stamp,
    finding: &str,
    state: FindingState,
    until_ms: i64,
    evidence: Option<Digest>,
) -> RecordDraft {
    let local = format!("findings/{finding}");
    let payload = v1::FindingDispositioned {
        finding: local.clone(),
        state: state.into(),
        until_ms,
        evidence_record_hash: evidence.map(|hash| hash.to_vec()).unwrap_or_default(),
    };
    let causes: Vec<Digest> = evidence.into_iter().collect();
    stamp.draft(&local, &payload, &causes)
}

/// What a plan commits to.
#[derive(Debug)]
pub(crate) struct PlannedActions {
    pub(crate) root: Digest,
    pub(crate) count: u64,
    /// Leaves, ascending by key.
    pub(crate) blob: Vec<u8>,
    /// "campaigns/{campaign}" when all come from one, else empty.
    pub(crate) campaign: String,
}

/// R46, with the actions attached. A removal cannot be undone here: connectors only take away.
pub(crate) fn planned(
    stamp: &Stamp,
    id: &str,
    run: &Run,
    plan: &mut PlannedActions,
    rules: &Rules,
) -> RecordDraft {
    let remediation = format!("remediations/{id}");
    let payload = v1::RemediationPlanned {
        remediation: remediation.clone(),
        recon_run: format!("recon-runs/{}", run.id),
        campaign: plan.campaign.clone(),
        actions_root: plan.root.to_vec(),
        actions_count: plan.count,
        reversible: false,
        val_required: rules.val_required,
        persistence_offsets_ms: rules.offsets_ms.clone(),
        approver: stamp.actor.clone(),
    };
    let blob = std::mem::take(&mut plan.blob);
    stamp
        .draft(&remediation, &payload, &[run.record_hash])
        .attach(media_type::ACTIONS, blob)
}

/// What the policy says of remediations.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// Whether a plan waits for a second human.
    pub(crate) four_eyes: bool,
    pub(crate) val_required: u32,
    pub(crate) offsets_ms: Vec<i64>,
    pub(crate) count_max: u32,
    pub(crate) permille_max: u32,
    pub(crate) exception_max_ms: i64,
}

/// R47.
pub(crate) fn tripped(
    stamp: &Stamp,
    id: &str,
    tripped: &Tripped,
    root: Digest,
    plan: Digest,
) -> RecordDraft {
    let remediation = format!("remediations/{id}");
    let payload = v1::ThresholdTripped {
        remediation: remediation.clone(),
        metric: tripped.metric.to_owned(),
        limit: tripped.limit,
        observed: tripped.observed,
        queued_root: root.to_vec(),
    };
    stamp.draft(&remediation, &payload, &[plan])
}

/// R47, the answer of a human.
pub(crate) fn resolved(
    stamp: &Stamp,
    remediation: &Remediation,
    resume: bool,
    reason: &str,
) -> RecordDraft {
    let local = format!("remediations/{}", remediation.id);
    let payload = v1::ThresholdResolved {
        remediation: local.clone(),
        resume,
    };
    stamp
        .draft(&local, &payload, &[remediation.plan_record_hash])
        .commit("reason", reason.as_bytes())
}

/// R87.
pub(crate) fn started(stamp: &Stamp, remediation: &Remediation) -> RecordDraft {
    let local = format!("remediations/{}", remediation.id);
    let payload = v1::RemediationStarted {
        remediation: local.clone(),
        plan_record_hash: remediation.plan_record_hash.to_vec(),
    };
    stamp.draft(&local, &payload, &[remediation.plan_record_hash])
}

/// R87.
pub(crate) fn intended(stamp: &Stamp, remediation: &Remediation, action: &Action) -> RecordDraft {
    let local = format!("remediations/{}", remediation.id);
    let payload = v1::ActionIntended {
        remediation: local.clone(),
        action: action.local(),
        grant_key: action.key.0.to_vec(),
        operation: action.operation.into(),
        idempotency_key: action.idempotency_key.clone(),
        executor: action.executor.clone(),
        plan_record_hash: remediation.plan_record_hash.to_vec(),
        attempt: action.attempts,
        read_before_retry_record_hash: action
            .read_record_hash
            .map(|hash| hash.to_vec())
            .unwrap_or_default(),
    };
    stamp
        .draft(&local, &payload, &[remediation.plan_record_hash])
        .subject(grant_subject(&action.key))
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) result: AttemptResult,
    pub(crate) before_hash: Vec<u8>,
    pub(crate) response_hash: Vec<u8>,
    /// Code, empty when it succeeded.
    pub(crate) failure_code: &'static str,
    /// For people; in no record.
    pub(crate) failure: String,
}

/// R25.
pub(crate) fn attempted(
    stamp: &Stamp,
    remediation: &Remediation,
    action: &Action,
    answer: &Answer,
) -> RecordDraft {
    let local = format!("remediations/{}", remediation.id);
    let payload = v1::ActionAttempted {
        remediation: local.clone(),
        action: action.local(),
        intent_record_hash: action
            .intent_record_hash
            .map(|hash| hash.to_vec())
            .unwrap_or_default(),
        idempotency_key: action.idempotency_key.clone(),
        started_ms: action.started_ms,
        ended_ms: action.ended_ms,
        result: answer.result.into(),
        before_hash: answer.before_hash.clone(),
        target_response_hash: answer.response_hash.clone(),
        executor: action.executor.clone(),
        failure_code: answer.failure_code.to_owned(),
    };
    let causes: Vec<Digest> = action.intent_record_hash.into_iter().collect();
    stamp
        .draft(&local, &payload, &causes)
        .subject(grant_subject(&action.key))
}

/// R26.
pub(crate) fn verified(
    stamp: &Stamp,
    remediation: &Remediation,
    action: &Action,
    proofs: &Proofs,
    (claim, proof, kept_proof): (EffectClaim, Vec<u8>, Vec<u8>),
) -> RecordDraft {
    let local = format!("remediations/{}", remediation.id);
    let kept = match claim {
        EffectClaim::Narrowed => action.decision.kept.map(|key| key.0.to_vec()),
        _ => None,
    };
    let payload = v1::EffectVerified {
        remediation: local.clone(),
        action: action.local(),
        grant_key: action.key.0.to_vec(),
        claim: claim.into(),
        val: 3,
        method: VerificationMethod::IndependentReader.into(),
        reader_principal: proofs.reader.clone(),
        observed_ms: proofs.ended_ms,
        sync_record_hash: proofs.record_hash.to_vec(),
        set_root: proofs.set_root.to_vec(),
        set_count: proofs.set_count,
        proof,
        kept_grant_key: kept.unwrap_or_default(),
        kept_proof,
    };
    stamp
        .draft(&local, &payload, &[proofs.record_hash])
        .subject(grant_subject(&action.key))
}

/// R27.
pub(crate) fn ended(
    stamp: &Stamp,
    action: &Action,
    verified: Digest,
    observed_ms: i64,
) -> RecordDraft {
    let decision = &action.decision;
    let payload = v1::GrantEnded {
        grant_key: action.key.0.to_vec(),
        decision_record_hash: decision.record_hash.to_vec(),
        verified_record_hash: verified.to_vec(),
        decided_to_attempted_ms: action.first_started_ms - decision.decided_ms,
        attempted_to_verified_ms: observed_ms - action.ended_ms,
    };
    stamp.draft(
        &grant_subject(&action.key),
        &payload,
        &[decision.record_hash, verified],
    )
}

/// R48.
pub(crate) fn regressed(
    stamp: &Stamp,
    remediation: &str,
    action: &Action,
    proofs: &Proofs,
    proof: Vec<u8>,
) -> RecordDraft {
    let local = format!("remediations/{remediation}");
    let payload = v1::RegressionDetected {
        remediation: local.clone(),
        action: action.local(),
        grant_key: action.key.0.to_vec(),
        closed_record_hash: action
            .verified_record_hash
            .map(|hash| hash.to_vec())
            .unwrap_or_default(),
        seen_again_ms: proofs.ended_ms,
        sync_record_hash: proofs.record_hash.to_vec(),
        set_root: proofs.set_root.to_vec(),
        set_count: proofs.set_count,
        proof,
    };
    stamp
        .draft(&local, &payload, &[proofs.record_hash])
        .subject(grant_subject(&action.key))
}

/// How a remediation ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) outcome: v1::RemediationOutcome,
    pub(crate) verified_count: u64,
    pub(crate) open_count: u64,
    pub(crate) p50_ms: i64,
    pub(crate) max_ms: i64,
}

/// R49.
pub(crate) fn closed(stamp: &Stamp, remediation: &Remediation, end: End) -> RecordDraft {
    let local = format!("remediations/{}", remediation.id);
    let payload = v1::RemediationClosed {
        remediation: local.clone(),
        verified_count: end.verified_count,
        open_count: end.open_count,
        outcome: end.outcome.into(),
        decided_to_verified_p50_ms: end.p50_ms,
        decided_to_verified_max_ms: end.max_ms,
    };
    stamp.draft(&local, &payload, &[remediation.plan_record_hash])
}

/// R54.
pub(crate) fn obligation_opened(stamp: &Stamp, owed: &Obligation, plan: Digest) -> RecordDraft {
    let object = format!("remediations/{}", owed.remediation);
    let payload = v1::ObligationOpened {
        obligation: owed.id.to_vec(),
        kind: owed.kind.clone(),
        owner: owed.owner.clone(),
        due_ms: owed.due_ms,
        source_record_hash: plan.to_vec(),
        object: object.clone(),
    };
    stamp.draft(&object, &payload, &[plan])
}

/// R58, done. `evidence` is the record that shows it.
pub(crate) fn obligation_discharged(
    stamp: &Stamp,
    owed: &Obligation,
    evidence: Digest,
) -> RecordDraft {
    let payload = v1::ObligationDischarged {
        obligation: owed.id.to_vec(),
        evidence_record_hash: evidence.to_vec(),
    };
    stamp.draft(
        &format!("remediations/{}", owed.remediation),
        &payload,
        &[evidence],
    )
}

/// R58, not done in time.
pub(crate) fn obligation_breached(stamp: &Stamp, owed: &Obligation, reason: &str) -> RecordDraft {
    let payload = v1::ObligationBreached {
        obligation: owed.id.to_vec(),
        reason: reason.to_owned(),
    };
    stamp.draft(&format!("remediations/{}", owed.remediation), &payload, &[])
}
