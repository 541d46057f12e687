//! What a re-read shows of the removals of one remediation: they stayed, or came back; and the record of it.
//!
//! Invariant: an obligation is discharged once, whoever asks, in time or late, and only by a COMPLETE reading of its source.

use std::collections::BTreeMap;

use counterfoil_chassis::{error::ApiError, outbox::Emission};
use counterfoil_evidence::v1::{FindingState, Situation};

use super::{remediate::patiently, rereads::Done};
use crate::{
    api::peers::inventory::BATCH,
    context::Context,
    error::JobError,
    model::{
        entities::{Action, Finding, Obligation, ObligationState, Remediation},
        ids::RemediationKey,
        read_back::{Reading, judge, keys_of},
        state::{ActionState, RemediationState},
        target::Proofs,
    },
    records::{self, Stamp},
    store,
};

/// One remediation on one source that was read completely.
pub(super) async fn one(
    context: &Context,
    key: &RemediationKey,
    source: &str,
    sync: &str,
    owed: &[Obligation],
) -> Result<Done, JobError> {
    let (remediation, actions) = {
        let mut connection = context.db.read(&key.tenant).await?;
        let found = store::remediations::get(&mut connection, key).await?;
        let states = [ActionState::Verified, ActionState::Regressed];
        let actions = store::actions::of_source(&mut connection, key, source, &states).await?;
        (found.ok_or_else(ApiError::not_found)?, actions)
    };
    context.tenants.require(&key.tenant).await?;
    let stamp = context.of_service(&key.tenant, &remediation).await?;
    let mut back: Vec<(Action, Vec<u8>)> = Vec::new();
    let mut last: Option<Proofs> = None;
    for batch in actions.chunks(BATCH / 2) {
        let keys: Vec<_> = batch.iter().flat_map(keys_of).collect();
        let proofs = patiently(context, || context.inventory.prove(sync, &keys)).await?;
        for action in batch
            .iter()
            .filter(|action| action.state == ActionState::Verified)
        {
            match judge(action, &proofs).map_err(|why| ApiError::internal(why.to_string()))? {
                Reading::Present { proof } => back.push((action.clone(), proof)),
                Reading::Done { .. } | Reading::KeptIsGone => {}
            }
        }
        last = Some(proofs);
    }
    // Re-reads are owed only where something was verified.
    let proofs =
        last.ok_or_else(|| ApiError::internal("a re-read is owed and nothing was verified"))?;
    record(context, key, &remediation, &stamp, owed, back, &proofs).await
}

/// R48 and R45 for what came back, R58 for what was owed: once, whoever asks.
async fn record(
    context: &Context,
    key: &RemediationKey,
    remediation: &Remediation,
    stamp: &Stamp,
    owed: &[Obligation],
    back: Vec<(Action, Vec<u8>)>,
    proofs: &Proofs,
) -> Result<Done, JobError> {
    let mut tx = context.db.write_tx(&key.tenant).await?;
    let mut met = Vec::new();
    for one in owed {
        if store::obligations::end(&mut tx, &one.id, ObligationState::Discharged).await? {
            met.push(one);
        }
    }
    if met.is_empty() {
        tx.rollback().await?;
        return Ok(Done::default());
    }
    let findings = store::findings::many(
        &mut tx,
        back.iter().map(|(action, _)| action.finding.clone()),
    )
    .await?;
    let findings: BTreeMap<String, Finding> = findings
        .into_iter()
        .map(|finding| (finding.id.clone(), finding))
        .collect();
    let live =
        store::findings::live_keys(&mut tx, back.iter().map(|(action, _)| action.key)).await?;
    let mut emission = context.outbox.begin(&mut tx).await?;
    let (mut regressed, mut reopened) = (Vec::new(), Vec::new());
    for (mut action, proof) in back {
        let draft = records::regressed(stamp, &remediation.id, &action, proofs, proof);
        let detected = emission.add(draft)?.record_hash;
        reopen(
            &mut emission,
            stamp,
            &action,
            &findings,
            &live,
            detected,
            &mut reopened,
        )?;
        action.state = ActionState::Regressed;
        "it was gone and came back".clone_into(&mut action.failure);
        regressed.push(action);
    }
    for one in &met {
        emission.add(records::obligation_discharged(
            stamp,
            one,
            proofs.record_hash,
        ))?;
    }
    emission.finish(&mut tx).await?;
    let change = store::findings::Change {
        state: FindingState::Reopened,
        until_ms: 0,
        now_ms: stamp.now_ms,
        remediation: "",
    };
    store::findings::change(&mut tx, reopened, change).await?;
    store::actions::update(&mut tx, &key.remediation, &regressed).await?;
    if !regressed.is_empty() {
        // What ended as PARTIAL can still be executed again, and stays so.
        let (from, to) = (RemediationState::Closed, RemediationState::Regressed);
        store::remediations::advance(&mut tx, &key.remediation, from, to).await?;
    }
    context.ring_on_commit(&mut tx);
    // If we crash here: nothing was discharged, and the source is read again.
    tx.commit().await?;
    Ok(Done {
        discharged: met.len() as u64,
        regressed: regressed.len() as u64,
        ..Done::default()
    })
}

/// R45 REOPENED, unless a run has found the same in the meantime: a grant has one live finding a situation.
fn reopen(
    emission: &mut Emission,
    stamp: &Stamp,
    action: &Action,
    findings: &BTreeMap<String, Finding>,
    live: &[(counterfoil_evidence::leaf::GrantKey, Situation)],
    detected: [u8; 32],
    reopened: &mut Vec<String>,
) -> Result<(), JobError> {
    let Some(finding) = findings.get(&action.finding) else {
        return Ok(());
    };
    if live.contains(&(finding.key, finding.situation)) {
        return Ok(());
    }
    let state = FindingState::Reopened;
    emission.add(records::finding_changed(
        stamp,
        &finding.id,
        state,
        0,
        Some(detected),
    ))?;
    reopened.push(finding.id.clone());
    Ok(())
}
