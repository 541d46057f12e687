//! The records this service writes (R34 to R40, R51), each from the facts of the model.
//!
//! Invariant: nothing in a payload names a person or holds free text; names, reasons and what is shown are commitments.

use counterfoil_chassis::outbox::RecordDraft;
use counterfoil_evidence::{
    leaf::{GrantKey, media_type},
    v1,
};
use counterfoil_tlog::sorted_set::SetRoot;

use crate::model::{
    campaign::{Campaign, Definition, LapseRule},
    decision::{Decision, Proposal},
    disposition::{Disposition, Sealed},
    gate::Freshness,
    ids::{CampaignKey, Principal},
    item,
};

/// How the service names itself as an actor.
pub(crate) const SERVICE: &str = "services/recertification";

/// Label of the commitment to what a reviewer is shown.
pub(crate) const PRESENTATION: &str = "presentation";

/// Who states something, when, and by what right.
#[derive(Debug, Clone)]
pub(crate) struct Stamp {
    /// "principals/{principal}" or "services/{service}".
    pub(crate) actor: String,
    /// When the stated fact happened, milliseconds.
    pub(crate) now_ms: i64,
    /// The human of the customer who owns the outcome.
    pub(crate) accountable_owner: Principal,
    /// SHA-256 of the right cited; `None` for a statement of fact.
    pub(crate) right: Option<[u8; 32]>,
    /// In whose names, outermost first; none: in the actor's own.
    pub(crate) on_behalf_of: Vec<Principal>,
    /// Hash of the policy in force.
    pub(crate) policy_hash: Vec<u8>,
}

impl Stamp {
    /// The same moment and owner, when a rule and nobody's decision makes it so.
    pub(crate) fn by_rule(&self) -> Self {
        Self {
            actor: SERVICE.to_owned(),
            right: None,
            on_behalf_of: Vec::new(),
            ..self.clone()
        }
    }

    fn draft<P: prost::Message + prost::Name>(
        &self,
        campaign: &CampaignKey,
        payload: &P,
        causes: &[[u8; 32]],
    ) -> RecordDraft {
        let accountability = v1::Accountability {
            accountable_owner: self.accountable_owner.as_str().to_owned(),
            authority: self.right.map(|hash| hash.to_vec()).unwrap_or_default(),
            policy: self.policy_hash.clone(),
            case_id: campaign.local(),
            on_behalf_of: self
                .on_behalf_of
                .iter()
                .map(|principal| principal.as_str().to_owned())
                .collect(),
            causes: causes.iter().map(|hash| hash.to_vec()).collect(),
            ..v1::Accountability::default()
        };
        RecordDraft::new(payload, self.actor.clone(), self.now_ms)
            .accountability(accountability)
            .subject(campaign.local())
    }
}

/// R34.
pub(crate) fn defined(stamp: &Stamp, definition: &Definition) -> RecordDraft {
    let payload = v1::CampaignDefined {
        campaign: definition.key.local(),
        sources: definition
            .scope
            .sources
            .iter()
            .map(|source| source.as_str().to_owned())
            .collect(),
        privileged_only: definition.scope.privileged_only,
        include_inherited: definition.scope.include_inherited,
        lapse_rule: definition.lapse_rule.evidence().into(),
        owner: definition.owner.as_str().to_owned(),
        reviewer_rule: "entitlement_owner".to_owned(),
        fallback_reviewer: definition.fallback_reviewer.as_str().to_owned(),
        due_ms: definition.due_ms,
    };
    stamp
        .draft(&definition.key, &payload, &[])
        .commit("display_name", definition.display_name.as_bytes())
}

/// A set with all its leaves.
#[derive(Debug)]
pub(crate) struct SealedSet {
    /// What it is committed to by.
    pub(crate) root: SetRoot,
    /// Its leaves.
    pub(crate) blob: Vec<u8>,
}

/// What staging found.
#[derive(Debug)]
pub(crate) struct StagedFacts {
    /// SHA-256 of the SnapshotSealed record.
    pub(crate) snapshot_record_hash: [u8; 32],
    /// Its root.
    pub(crate) snapshot_root: [u8; 32],
    /// How fresh the sources in scope were.
    pub(crate) freshness: Vec<Freshness>,
    /// Limit of the policy, milliseconds.
    pub(crate) age_max_ms: i64,
    /// What is reviewed.
    pub(crate) population: SealedSet,
    /// What the scope leaves out.
    pub(crate) exclusions: SealedSet,
}

/// R35.
pub(crate) fn staged(stamp: &Stamp, campaign: &Campaign, facts: StagedFacts) -> RecordDraft {
    let key = &campaign.definition.key;
    let payload = v1::CampaignStaged {
        campaign: key.local(),
        snapshot_record_hash: facts.snapshot_record_hash.to_vec(),
        snapshot_root: facts.snapshot_root.to_vec(),
        freshness: facts
            .freshness
            .iter()
            .map(|fresh| v1::Freshness {
                source: fresh.source.as_str().to_owned(),
                sync_record_hash: fresh.sync_record_hash.to_vec(),
                age_ms: fresh.age_ms,
                age_max_ms: facts.age_max_ms,
            })
            .collect(),
        population_root: facts.population.root.root.0.to_vec(),
        population_count: facts.population.root.count,
        exclusions_root: facts.exclusions.root.root.0.to_vec(),
        exclusions_count: facts.exclusions.root.count,
        staged_ms: stamp.now_ms,
    };
    stamp
        .draft(key, &payload, &[campaign.defined_hash])
        .attach(media_type::POPULATION, facts.population.blob)
        .attach(media_type::EXCLUSIONS, facts.exclusions.blob)
}

/// How an item came to a reviewer.
#[derive(Debug)]
pub(crate) struct Routing<'r> {
    /// The grant.
    pub(crate) key: GrantKey,
    /// The grant as shown, 74 bytes.
    pub(crate) leaf: &'r [u8],
    /// What is shown, canonical bytes.
    pub(crate) presentation: &'r [u8],
    /// With whom it was.
    pub(crate) from: Option<&'r Principal>,
    /// With whom it is.
    pub(crate) to: &'r Principal,
    /// Why.
    pub(crate) cause: v1::RoutingCause,
    /// Tag of the identity whose access it is; empty for an account without one.
    pub(crate) subject_tag: Vec<u8>,
}

/// R36.
pub(crate) fn routed(
    stamp: &Stamp,
    campaign: &CampaignKey,
    staged_hash: [u8; 32],
    routing: &Routing<'_>,
) -> RecordDraft {
    let payload = v1::ReviewItemRouted {
        campaign: campaign.local(),
        item: item::local(&routing.key),
        leaf: routing.leaf.to_vec(),
        from: routing
            .from
            .map(|from| from.as_str().to_owned())
            .unwrap_or_default(),
        to: routing.to.as_str().to_owned(),
        cause: routing.cause.into(),
        level: 1,
        subject_identity_tag: routing.subject_tag.clone(),
    };
    stamp
        .draft(campaign, &payload, &[staged_hash])
        .subject(grant_subject(&routing.key))
        .commit(PRESENTATION, routing.presentation)
}

/// R37. `batch_id`: the call's id, when it held many decisions.
pub(crate) fn decided(
    stamp: &Stamp,
    campaign: &CampaignKey,
    proposal: &Proposal,
    observed_leaf: &[u8],
    batch_id: Option<&str>,
) -> RecordDraft {
    let exception = proposal.decision == Decision::Exception;
    let payload = v1::ReviewDecided {
        campaign: campaign.local(),
        item: item::local(&proposal.key),
        grant_key: proposal.key.0.to_vec(),
        decision: proposal.decision.evidence().into(),
        review_by_ms: if proposal.decision.keeps() {
            proposal.review_by_ms.unwrap_or(0)
        } else {
            0
        },
        exception_owner: proposal
            .exception_owner
            .as_ref()
            .map(|owner| owner.as_str().to_owned())
            .unwrap_or_default(),
        exception_expires_ms: proposal.exception_expires_ms.unwrap_or(0),
        reduce_to_grant_key: proposal
            .reduce_to
            .map(|key| key.0.to_vec())
            .unwrap_or_default(),
        evidence: proposal
            .evidence
            .iter()
            .map(|one| v1::EvidenceRef {
                kind: one.kind.clone(),
                sha256: one.sha256.to_vec(),
            })
            .collect(),
        presentation_hash: proposal.presentation_hash.to_vec(),
        observed_leaf: observed_leaf.to_vec(),
        bulk: batch_id.is_some(),
        batch_id: batch_id.unwrap_or_default().to_owned(),
        dwell_ms: proposal.dwell_ms,
    };
    let draft = stamp
        .draft(campaign, &payload, &[])
        .subject(grant_subject(&proposal.key))
        .commit("justification", proposal.justification.as_bytes());
    if exception {
        draft.commit("exception_basis", proposal.exception_basis.as_bytes())
    } else {
        draft
    }
}

/// R51, for an exception that was decided by the record with that hash.
pub(crate) fn exception_granted(
    stamp: &Stamp,
    campaign: &CampaignKey,
    proposal: &Proposal,
    exception_id: &str,
    decision_record_hash: [u8; 32],
) -> RecordDraft {
    let payload = v1::ExceptionGranted {
        exception: format!("exceptions/{exception_id}"),
        grant_key: proposal.key.0.to_vec(),
        decision_record_hash: decision_record_hash.to_vec(),
        owner: proposal
            .exception_owner
            .as_ref()
            .map(|owner| owner.as_str().to_owned())
            .unwrap_or_default(),
        approver: stamp.actor.clone(),
        expires_ms: proposal.exception_expires_ms.unwrap_or(0),
    };
    stamp
        .draft(campaign, &payload, &[decision_record_hash])
        .subject(grant_subject(&proposal.key))
        .commit("exception_basis", proposal.exception_basis.as_bytes())
}

/// R38: nobody decided.
pub(crate) fn lapsed(
    stamp: &Stamp,
    campaign: &Campaign,
    key: &GrantKey,
    rule: LapseRule,
) -> RecordDraft {
    let payload = v1::ReviewItemLapsed {
        campaign: campaign.definition.key.local(),
        item: item::local(key),
        grant_key: key.0.to_vec(),
        lapse_rule: rule.evidence().into(),
        disposition: Disposition::of_lapse(rule).evidence().into(),
    };
    stamp
        .draft(&campaign.definition.key, &payload, &[campaign.defined_hash])
        .subject(grant_subject(key))
}

/// R38: the grant is gone, as this proof against this sync shows.
pub(crate) fn voided(
    stamp: &Stamp,
    campaign: &CampaignKey,
    key: &GrantKey,
    sync_record_hash: [u8; 32],
    absence_proof: &[u8],
) -> RecordDraft {
    let payload = v1::ReviewItemVoided {
        campaign: campaign.local(),
        item: item::local(key),
        grant_key: key.0.to_vec(),
        sync_record_hash: sync_record_hash.to_vec(),
        absence_proof: absence_proof.to_vec(),
    };
    stamp
        .draft(campaign, &payload, &[sync_record_hash])
        .subject(grant_subject(key))
}

/// R39.
pub(crate) fn stage_closed(stamp: &Stamp, campaign: &Campaign, sealed: Sealed) -> RecordDraft {
    let key = &campaign.definition.key;
    let payload = v1::StageClosed {
        campaign: key.local(),
        stage: 1,
        outcomes_root: sealed.dispositions.root.0.to_vec(),
        counts: Some(sealed.counts.evidence()),
    };
    let causes: Vec<[u8; 32]> = campaign.staged_hash.into_iter().collect();
    stamp
        .draft(key, &payload, &causes)
        .attach(media_type::DISPOSITIONS, sealed.dispositions_blob)
}

/// R40.
pub(crate) fn closed(
    stamp: &Stamp,
    campaign: &Campaign,
    population_count: u64,
    sealed: Sealed,
) -> RecordDraft {
    let key = &campaign.definition.key;
    let outcome = if sealed.debt.count == 0 {
        v1::CampaignOutcome::Closed
    } else {
        v1::CampaignOutcome::ClosedWithDebt
    };
    let payload = v1::CampaignClosed {
        campaign: key.local(),
        disposition_root: sealed.dispositions.root.0.to_vec(),
        counts: Some(sealed.counts.evidence()),
        population_count,
        debt_count: sealed.debt.count,
        debt_root: sealed.debt.root.0.to_vec(),
        outcome: outcome.into(),
    };
    let causes: Vec<[u8; 32]> = campaign.stage_closed_hash.into_iter().collect();
    stamp
        .draft(key, &payload, &causes)
        .attach(media_type::DISPOSITIONS, sealed.dispositions_blob)
        .attach(media_type::DEBT, sealed.debt_blob)
}

fn grant_subject(key: &GrantKey) -> String {
    format!("grants/{}", hex::encode(key.0))
}
