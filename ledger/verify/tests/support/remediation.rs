//! Reconciliation, removal with every kind of answer, read-back, re-read with a regression, and the campaign's close.

use std::collections::BTreeMap;

use counterfoil_evidence::catalogue::Payload;
use counterfoil_evidence::leaf::{
    ActionLeaf, AuthorizedLeaf, DebtLeaf, FindingLeaf, GrantKey, GrantLeaf, media_type,
};
use counterfoil_evidence::situation::{Observed, classify, requires_action};
use counterfoil_evidence::v1::{
    self, AttemptResult, CampaignOutcome, Disposition, EffectClaim, FindingState, Operation,
    RemediationOutcome, Situation, SyncPurpose, VerificationMethod,
};

use super::agents::DECIDER;
use super::authority::{CAROL, DAY_MS, HOUR_MS};
use super::cycle::{Cycle, Sealed, reader, writer};
use super::estate::{HR, LDAP};
use super::log::{Draft, seed};
use super::review::{CAMPAIGN, End, Reviewed, authorized, dispositions, root_of};

pub const REMEDIATION: &str = "remediations/1";
/// Planned and started by an AI agent alone.
pub const SECOND: &str = "remediations/2";
const RUN: &str = "recon-runs/1";

struct Act {
    remediation: &'static str,
    name: String,
    finding: String,
    end: End,
    operation: Operation,
    before: GrantLeaf,
    first_started_ms: i64,
    last_ended_ms: i64,
    effect: Option<([u8; 32], i64)>,
}

pub fn run(cycle: &mut Cycle, reviewed: &Reviewed, hidden_return: bool) {
    let findings = reconcile(cycle, reviewed);
    let (plan, mut acts) = plan(cycle, reviewed, &findings);
    // Carried out an hour after the last decision: what was decided is known by then.
    cycle.log.tick(HOUR_MS);
    let count = acts.len();
    for (number, act) in acts.iter_mut().enumerate() {
        // The last one is refused by its target; the first one's first answer is lost.
        let result = if number + 1 == count {
            AttemptResult::Failed
        } else if number == 0 {
            AttemptResult::Ambiguous
        } else {
            AttemptResult::Ok
        };
        attempt(cycle, plan, act, 1, result, None);
    }
    let read = cycle.sync(
        &source_of(cycle, acts[0].end.leaf.key),
        SyncPurpose::ReadBack,
    );
    attempt(cycle, plan, &mut acts[0], 2, AttemptResult::Ok, Some(&read));
    for act in acts.iter().take(count - 1) {
        cycle.hr.remove(act.end.leaf.key);
        cycle.ldap.remove(act.end.leaf.key);
    }
    let hr = cycle.sync(&cycle.hr.clone(), SyncPurpose::ReadBack);
    let ldap = cycle.sync(&cycle.ldap.clone(), SyncPurpose::ReadBack);
    for (number, act) in acts.iter_mut().enumerate() {
        verify(cycle, act, &hr, &ldap, number + 1 < count);
    }
    close(cycle, &acts);
    let owed = owe(cycle, &hr, &ldap, &acts);
    let back = reread(cycle, &owed, &mut acts);
    if hidden_return {
        return_unseen(cycle, plan, &owed, &mut acts[back]);
    }
    close_campaign(cycle, reviewed, &acts);
    if !cycle.rights.agent_plan.is_empty() {
        by_itself(cycle, &mut acts[count - 1]);
    }
}

/// What its target refused, an agent tries again in a plan of its own, and accepts that it stays when it is refused again.
fn by_itself(cycle: &mut Cycle, act: &mut Act) {
    let leaf = ActionLeaf {
        key: act.end.leaf.key,
        operation: act.operation,
        record_hash: act.end.hash,
    };
    let blob = leaf.to_bytes().to_vec();
    let planned = v1::RemediationPlanned {
        remediation: SECOND.to_owned(),
        recon_run: RUN.to_owned(),
        campaign: CAMPAIGN.to_owned(),
        actions_root: root_of(&blob, 73).0,
        actions_count: 1,
        reversible: true,
        val_required: 3,
        persistence_offsets_ms: vec![HOUR_MS, 7 * DAY_MS],
        approver: DECIDER.to_owned(),
    };
    let decided = |authority: &Vec<u8>| Draft {
        actor: DECIDER,
        owner: CAROL,
        authority: authority.clone(),
        ..Draft::default()
    };
    let draft = Draft {
        blobs: vec![(media_type::ACTIONS, blob)],
        ..decided(&cycle.rights.agent_plan)
    };
    let payload = Payload::RemediationPlanned(planned);
    let plan = cycle.log.append(&payload, draft);
    cycle.by.starts = DECIDER;
    start(cycle, SECOND, plan);
    act.remediation = SECOND;
    attempt(cycle, plan, act, 1, AttemptResult::Failed, None);
    let accepted = v1::FindingDispositioned {
        finding: act.finding.clone(),
        state: FindingState::AcceptedRisk.into(),
        until_ms: cycle.log.now_ms + DAY_MS,
        evidence_record_hash: Vec::new(),
    };
    let draft = decided(&cycle.rights.agent_except);
    let payload = Payload::FindingDispositioned(accepted);
    cycle.log.append(&payload, draft);
}

fn source_of(cycle: &Cycle, key: GrantKey) -> super::estate::Source {
    if key.source_tag() == cycle.hr.tag() {
        cycle.hr.clone()
    } else {
        cycle.ldap.clone()
    }
}

fn reconcile(cycle: &mut Cycle, reviewed: &Reviewed) -> BTreeMap<GrantKey, (Situation, String)> {
    let decided = authorized(&reviewed.ends);
    let observed: BTreeMap<GrantKey, GrantLeaf> = cycle
        .hr
        .leaves
        .iter()
        .chain(&cycle.ldap.leaves)
        .map(|leaf| (leaf.key, *leaf))
        .collect();
    let as_of_ms = cycle.log.now_ms;
    let mut situations: BTreeMap<i32, u64> = BTreeMap::new();
    let mut found = BTreeMap::new();
    let keys: std::collections::BTreeSet<&GrantKey> =
        decided.keys().chain(observed.keys()).collect();
    for key in keys {
        let seen = observed
            .get(key)
            .map_or(Observed::Absent, |leaf| Observed::Present(leaf.flags));
        let situation = classify(decided.get(key), seen, u64::try_from(as_of_ms).unwrap());
        *situations.entry(situation as i32).or_default() += 1;
        if requires_action(situation) {
            found.insert(*key, situation);
        }
    }
    let authorized_blob: Vec<u8> = decided
        .values()
        .flat_map(AuthorizedLeaf::to_bytes)
        .collect();
    let findings_blob: Vec<u8> = found
        .iter()
        .flat_map(|(key, situation)| {
            FindingLeaf {
                key: *key,
                situation: *situation,
            }
            .to_bytes()
        })
        .collect();
    let (authorized_root, authorized_count) = root_of(&authorized_blob, 81);
    let (findings_root, findings_count) = root_of(&findings_blob, 41);
    let sealed = v1::ReconRunSealed {
        recon_run: RUN.to_owned(),
        snapshot_record_hash: reviewed.snapshot.hash.to_vec(),
        snapshot_root: reviewed.snapshot.record.snapshot_root.clone(),
        authorized_root,
        authorized_count,
        observed_count: observed.len() as u64,
        situations: situations
            .into_iter()
            .map(|(situation, count)| v1::SituationCount { situation, count })
            .collect(),
        findings_root,
        findings_count,
        as_of_ms,
    };
    cycle.log.append(
        &Payload::ReconRunSealed(sealed),
        Draft {
            blobs: vec![
                (media_type::AUTHORIZED_SET, authorized_blob),
                (media_type::FINDINGS, findings_blob),
            ],
            actor: cycle.by.runs,
            ..Draft::default()
        },
    );
    let mut opened = BTreeMap::new();
    for (number, (key, situation)) in found.into_iter().enumerate() {
        let finding = format!("findings/{number}");
        let record = v1::FindingOpened {
            finding: finding.clone(),
            recon_run: RUN.to_owned(),
            situation: situation.into(),
            grant_key: key.0.to_vec(),
            severity: 3,
            due_ms: as_of_ms + DAY_MS,
        };
        append(cycle, Payload::FindingOpened(record));
        opened.insert(key, (situation, finding));
    }
    opened
}

fn append(cycle: &mut Cycle, payload: Payload) -> [u8; 32] {
    cycle.log.append(
        &payload,
        Draft {
            owner: CAROL,
            ..Draft::default()
        },
    )
}

fn plan(
    cycle: &mut Cycle,
    reviewed: &Reviewed,
    findings: &BTreeMap<GrantKey, (Situation, String)>,
) -> ([u8; 32], Vec<Act>) {
    let mut acts = Vec::new();
    let mut blob = Vec::new();
    for (key, (situation, finding)) in findings {
        if *situation != Situation::Residual {
            continue;
        }
        let end = reviewed.ends[key].clone();
        let operation = if end.disposition == Disposition::Reduced {
            Operation::Reduce
        } else {
            Operation::Revoke
        };
        let leaf = ActionLeaf {
            key: *key,
            operation,
            record_hash: end.hash,
        };
        blob.extend(leaf.to_bytes());
        acts.push(Act {
            remediation: REMEDIATION,
            name: format!("actions/{}", acts.len()),
            finding: finding.clone(),
            before: source_of(cycle, *key).get(*key).unwrap(),
            end,
            operation,
            first_started_ms: 0,
            last_ended_ms: 0,
            effect: None,
        });
    }
    let (actions_root, actions_count) = root_of(&blob, 73);
    let planned = v1::RemediationPlanned {
        remediation: REMEDIATION.to_owned(),
        recon_run: RUN.to_owned(),
        campaign: CAMPAIGN.to_owned(),
        actions_root: actions_root.clone(),
        actions_count,
        reversible: true,
        val_required: 3,
        persistence_offsets_ms: vec![HOUR_MS, 7 * DAY_MS],
        approver: cycle.by.plans.to_owned(),
    };
    let authority = cycle.rights.plan.clone();
    let hash = cycle.log.append(
        &Payload::RemediationPlanned(planned),
        Draft {
            actor: cycle.by.plans,
            owner: CAROL,
            authority,
            blobs: vec![(media_type::ACTIONS, blob)],
            ..Draft::default()
        },
    );
    let tripped = v1::ThresholdTripped {
        remediation: REMEDIATION.to_owned(),
        // An agent that plans is held whatever it plans.
        metric: match cycle.by.plans {
            CAROL => "count".to_owned(),
            _ => "four_eyes".to_owned(),
        },
        limit: 5,
        observed: actions_count,
        queued_root: actions_root,
    };
    append(cycle, Payload::ThresholdTripped(tripped));
    let resolved = v1::ThresholdResolved {
        remediation: REMEDIATION.to_owned(),
        resume: true,
    };
    let authority = cycle.rights.remediate.clone();
    cycle.log.append(
        &Payload::ThresholdResolved(resolved),
        Draft {
            actor: CAROL,
            owner: CAROL,
            authority,
            commitments: vec![("reason", b"looked at".to_vec())],
            ..Draft::default()
        },
    );
    start(cycle, REMEDIATION, hash);
    (hash, acts)
}

/// Somebody starts a plan.
pub fn start(cycle: &mut Cycle, remediation: &str, plan: [u8; 32]) {
    let started = v1::RemediationStarted {
        remediation: remediation.to_owned(),
        plan_record_hash: plan.to_vec(),
    };
    cycle.log.append(
        &Payload::RemediationStarted(started),
        Draft {
            actor: cycle.by.starts,
            owner: CAROL,
            ..Draft::default()
        },
    );
}

fn attempt(
    cycle: &mut Cycle,
    plan: [u8; 32],
    act: &mut Act,
    number: u32,
    result: AttemptResult,
    read: Option<&Sealed>,
) {
    let executor = writer(source_of(cycle, act.end.leaf.key).name);
    let idempotency_key = format!("{} {} attempt {number}", act.remediation, act.name);
    let intended = v1::ActionIntended {
        remediation: act.remediation.to_owned(),
        action: act.name.clone(),
        grant_key: act.end.leaf.key.0.to_vec(),
        operation: act.operation.into(),
        idempotency_key: idempotency_key.clone(),
        executor: executor.clone(),
        plan_record_hash: plan.to_vec(),
        attempt: number,
        read_before_retry_record_hash: read.map(|read| read.hash.to_vec()).unwrap_or_default(),
    };
    let intent = append(cycle, Payload::ActionIntended(intended));
    let started_ms = cycle.log.tick(10);
    let ended_ms = cycle.log.tick(30);
    let attempted = v1::ActionAttempted {
        remediation: act.remediation.to_owned(),
        action: act.name.clone(),
        intent_record_hash: intent.to_vec(),
        idempotency_key,
        started_ms,
        ended_ms,
        result: result.into(),
        before_hash: seed("before").to_vec(),
        target_response_hash: seed("response").to_vec(),
        executor,
        failure_code: String::new(),
    };
    append(cycle, Payload::ActionAttempted(attempted));
    if number == 1 {
        act.first_started_ms = started_ms;
    }
    act.last_ended_ms = ended_ms;
}

fn verify(cycle: &mut Cycle, act: &mut Act, hr: &Sealed, ldap: &Sealed, gone: bool) {
    let key = act.end.leaf.key;
    let source = source_of(cycle, key);
    let sync = if source.name == HR { hr } else { ldap };
    let proof = source.set().prove(&key.0).unwrap().to_bytes();
    let claim = if gone {
        EffectClaim::Absent
    } else {
        EffectClaim::Present
    };
    let verified = v1::EffectVerified {
        remediation: REMEDIATION.to_owned(),
        action: act.name.clone(),
        grant_key: key.0.to_vec(),
        claim: claim.into(),
        val: 3,
        method: VerificationMethod::IndependentReader.into(),
        reader_principal: reader(source.name),
        observed_ms: sync.record.ended_ms,
        sync_record_hash: sync.hash.to_vec(),
        set_root: sync.record.set_root.clone(),
        set_count: sync.record.set_count,
        proof,
        ..v1::EffectVerified::default()
    };
    let hash = append(cycle, Payload::EffectVerified(verified));
    if !gone {
        return;
    }
    act.effect = Some((hash, sync.record.ended_ms));
    let ended = v1::GrantEnded {
        grant_key: key.0.to_vec(),
        decision_record_hash: act.end.hash.to_vec(),
        verified_record_hash: hash.to_vec(),
        decided_to_attempted_ms: act.first_started_ms - act.end.at_ms,
        attempted_to_verified_ms: sync.record.ended_ms - act.last_ended_ms,
    };
    append(cycle, Payload::GrantEnded(ended));
    let change = v1::FindingDispositioned {
        finding: act.finding.clone(),
        state: FindingState::ResolvedVerified.into(),
        until_ms: 0,
        evidence_record_hash: hash.to_vec(),
    };
    append(cycle, Payload::FindingDispositioned(change));
}

fn close(cycle: &mut Cycle, acts: &[Act]) {
    let mut times: Vec<i64> = acts
        .iter()
        .filter_map(|act| Some(act.effect?.1 - act.end.at_ms))
        .collect();
    times.sort_unstable();
    let closed = v1::RemediationClosed {
        remediation: REMEDIATION.to_owned(),
        verified_count: times.len() as u64,
        open_count: (acts.len() - times.len()) as u64,
        outcome: RemediationOutcome::Partial.into(),
        decided_to_verified_p50_ms: times[(times.len() - 1) / 2],
        decided_to_verified_max_ms: *times.last().unwrap(),
    };
    append(cycle, Payload::RemediationClosed(closed));
}

struct Owed {
    id: [u8; 16],
    source: &'static str,
    offset_ms: i64,
}

fn owe(cycle: &mut Cycle, hr: &Sealed, ldap: &Sealed, acts: &[Act]) -> Vec<Owed> {
    let mut owed = Vec::new();
    for (source, sync) in [(HR, hr), (LDAP, ldap)] {
        let concerned = acts
            .iter()
            .any(|act| act.effect.is_some() && source_of(cycle, act.end.leaf.key).name == source);
        assert!(concerned, "{source} has nothing to read again");
        for offset_ms in [HOUR_MS, 7 * DAY_MS] {
            let mut id = [0; 16];
            id.copy_from_slice(&seed(&format!("{source} {offset_ms}"))[..16]);
            let opened = v1::ObligationOpened {
                obligation: id.to_vec(),
                kind: "persistence_reread".to_owned(),
                owner: CAROL.to_owned(),
                due_ms: sync.record.ended_ms + offset_ms,
                source_record_hash: sync.hash.to_vec(),
                object: REMEDIATION.to_owned(),
            };
            let hash = append(cycle, Payload::ObligationOpened(opened));
            cycle.open.insert(id, hash);
            owed.push(Owed {
                id,
                source,
                offset_ms,
            });
        }
    }
    cycle.seal_epoch();
    owed
}

/// One source kept what was removed away; in the other one grant is back: answers whose.
fn reread(cycle: &mut Cycle, owed: &[Owed], acts: &mut [Act]) -> usize {
    cycle.log.tick(HOUR_MS + 60_000);
    let ldap_tag = cycle.ldap.tag();
    let back = acts
        .iter()
        .position(|act| act.effect.is_some() && act.end.leaf.key.source_tag() == ldap_tag)
        .unwrap();
    cycle.ldap.restore(acts[back].before);
    for owed in owed.iter().filter(|owed| owed.offset_ms == HOUR_MS) {
        let source = if owed.source == HR {
            cycle.hr.clone()
        } else {
            cycle.ldap.clone()
        };
        let sync = cycle.sync(&source, SyncPurpose::Persistence);
        if owed.source == LDAP {
            let act = &acts[back];
            let key = act.end.leaf.key;
            let detected = v1::RegressionDetected {
                remediation: REMEDIATION.to_owned(),
                action: act.name.clone(),
                grant_key: key.0.to_vec(),
                closed_record_hash: act.effect.unwrap().0.to_vec(),
                seen_again_ms: sync.record.ended_ms,
                sync_record_hash: sync.hash.to_vec(),
                set_root: sync.record.set_root.clone(),
                set_count: sync.record.set_count,
                proof: source.set().prove(&key.0).unwrap().to_bytes(),
            };
            append(cycle, Payload::RegressionDetected(detected));
        }
        let discharged = v1::ObligationDischarged {
            obligation: owed.id.to_vec(),
            evidence_record_hash: sync.hash.to_vec(),
        };
        append(cycle, Payload::ObligationDischarged(discharged));
        cycle.open.remove(&owed.id);
    }
    acts[back].effect = None;
    back
}

/// Removed again and proved gone again; at the last re-read it is there again, and only its set says so.
fn return_unseen(cycle: &mut Cycle, plan: [u8; 32], owed: &[Owed], act: &mut Act) {
    start(cycle, REMEDIATION, plan);
    attempt(cycle, plan, act, 2, AttemptResult::Ok, None);
    cycle.ldap.remove(act.end.leaf.key);
    let hr = cycle.sync(&cycle.hr.clone(), SyncPurpose::ReadBack);
    let ldap = cycle.sync(&cycle.ldap.clone(), SyncPurpose::ReadBack);
    verify(cycle, act, &hr, &ldap, true);
    cycle.log.tick(7 * DAY_MS);
    cycle.ldap.restore(act.before);
    for owed in owed.iter().filter(|owed| owed.offset_ms != HOUR_MS) {
        let source = if owed.source == HR {
            cycle.hr.clone()
        } else {
            cycle.ldap.clone()
        };
        let sync = cycle.sync(&source, SyncPurpose::Persistence);
        let discharged = v1::ObligationDischarged {
            obligation: owed.id.to_vec(),
            evidence_record_hash: sync.hash.to_vec(),
        };
        append(cycle, Payload::ObligationDischarged(discharged));
        cycle.open.remove(&owed.id);
    }
}

fn close_campaign(cycle: &mut Cycle, reviewed: &Reviewed, acts: &[Act]) {
    // Well after the re-read: whoever closes knows what it showed.
    cycle.log.tick(HOUR_MS);
    let (leaves, counts) = dispositions(&reviewed.ends);
    let mut debt = Vec::new();
    for (key, end) in &reviewed.ends {
        let removal = matches!(end.disposition, Disposition::Revoked | Disposition::Reduced);
        let verified = acts
            .iter()
            .any(|act| act.end.leaf.key == *key && act.effect.is_some());
        if (removal && !verified) || end.disposition == Disposition::LapsedRetained {
            let leaf = DebtLeaf {
                key: *key,
                disposition: end.disposition,
            };
            debt.extend(leaf.to_bytes());
        }
    }
    let (debt_root, debt_count) = root_of(&debt, 41);
    let closed = v1::CampaignClosed {
        campaign: CAMPAIGN.to_owned(),
        disposition_root: root_of(&leaves, 73).0,
        counts: Some(counts),
        population_count: reviewed.ends.len() as u64,
        debt_count,
        debt_root,
        outcome: CampaignOutcome::ClosedWithDebt.into(),
    };
    let authority = cycle.rights.certify.clone();
    cycle.log.append(
        &Payload::CampaignClosed(closed),
        Draft {
            actor: cycle.by.certifies,
            owner: CAROL,
            authority,
            blobs: vec![(media_type::DISPOSITIONS, leaves), (media_type::DEBT, debt)],
            ..Draft::default()
        },
    );
}
