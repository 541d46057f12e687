//! Reading removals again when it is due: they stayed, or they came back.
//!
//! Invariants: an obligation ends once, whoever asks; it ends as discharged only by a COMPLETE reading of its source; what
//! cannot be read stays owed, and is breached before anybody else could call it overdue.

use std::collections::BTreeMap;

use counterfoil_chassis::{error::ApiError, outbox::Emission};
use counterfoil_evidence::v1::{FindingState, Situation};

use super::remediate::patiently;
use crate::{
    api::peers::inventory::{BATCH, Purpose},
    context::{Context, lock},
    error::JobError,
    model::{
        entities::{Action, Finding, Obligation, ObligationState, Remediation, obligation_kind},
        ids::RemediationKey,
        read_back::{Reading, judge, keys_of},
        state::{ActionState, RemediationState},
        target::Proofs,
    },
    records::{self, Stamp},
    store,
};

/// An obligation that is still open so long after it was due is breached. The verifier's patience ends a minute later.
const OVERDUE_MS: i64 = 240_000;

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) discharged: u64,
    pub(crate) regressed: u64,
    pub(crate) unobservable: u64,
    pub(crate) breached: u64,
}

/// Obligations of one source, by remediation.
type Group = BTreeMap<String, Vec<Obligation>>;

/// Does the re-reads of a tenant that are due by now.
pub(crate) async fn run(context: &Context, tenant: &str) -> Result<Done, ApiError> {
    let _turn = context.rereading.lock().await;
    due(context, tenant, true).await.map_err(ApiError::from)
}

/// The same in all tenants; sources that could not be read a moment ago are left alone.
pub(super) async fn run_in_background(context: &Context) -> Result<Done, ApiError> {
    let _turn = context.rereading.lock().await;
    due(context, "", false).await.map_err(ApiError::from)
}

async fn due(context: &Context, tenant: &str, insist: bool) -> Result<Done, JobError> {
    let now_ms = context.clock.now_ms();
    let mut done = Done::default();
    let mut groups: BTreeMap<(String, String), Group> = BTreeMap::new();
    let mut late: BTreeMap<String, Vec<Obligation>> = BTreeMap::new();
    for owed in store::obligations::due(&context.db, tenant, now_ms).await? {
        if owed.kind == obligation_kind::REREAD {
            let group = groups
                .entry((owed.tenant.clone(), owed.source.clone()))
                .or_default();
            group
                .entry(owed.remediation.clone())
                .or_default()
                .push(owed);
        } else {
            late.entry(owed.tenant.clone()).or_default().push(owed);
        }
    }
    for ((tenant, source), group) in groups {
        let unread: Vec<Obligation> = if insist || may_read(context, &tenant, &source, now_ms) {
            reread(context, &tenant, &source, group, &mut done).await
        } else {
            group.into_values().flatten().collect()
        };
        late.entry(tenant).or_default().extend(unread);
    }
    for (tenant, owed) in late {
        done.breached += breach(context, &tenant, owed).await?;
    }
    Ok(done)
}

fn may_read(context: &Context, tenant: &str, source: &str, now_ms: i64) -> bool {
    let key = (tenant.to_owned(), source.to_owned());
    lock(&context.paused)
        .get(&key)
        .is_none_or(|until_ms| *until_ms <= now_ms)
}

/// Reads a source once for all that is owed there; answers what could not be met.
async fn reread(
    context: &Context,
    tenant: &str,
    source: &str,
    group: Group,
    done: &mut Done,
) -> Vec<Obligation> {
    let all = |group: Group| group.into_values().flatten().collect::<Vec<_>>();
    let not_before_ms = context.clock.now_ms();
    let patience = context.settings.reader_timeout();
    let (inventory, purpose) = (&context.inventory, Purpose::Persistence);
    let read = inventory
        .read_source(tenant, source, purpose, not_before_ms, patience)
        .await;
    let unread = match read {
        Ok(read) if read.complete => {
            let mut unread = Vec::new();
            for (remediation, owed) in group {
                let key = RemediationKey {
                    tenant: tenant.to_owned(),
                    remediation,
                };
                match one(context, &key, source, &read.name, &owed).await {
                    Ok(met) => {
                        done.discharged += met.discharged;
                        done.regressed += met.regressed;
                    }
                    Err(error) => {
                        tracing::warn!(remediation = %key, %error, "what was removed could not be read again");
                        unread.extend(owed);
                    }
                }
            }
            unread
        }
        Ok(read) => {
            tracing::warn!(
                tenant,
                source,
                why = read.reasons,
                "a source could not be re-read"
            );
            all(group)
        }
        Err(error) => {
            tracing::warn!(tenant, source, %error, "a source could not be re-read");
            all(group)
        }
    };
    let key = (tenant.to_owned(), source.to_owned());
    if unread.is_empty() {
        lock(&context.paused).remove(&key);
    } else {
        let pause_ms = i64::try_from(context.settings.reread_pause_ms).unwrap_or(i64::MAX);
        lock(&context.paused).insert(key, not_before_ms.saturating_add(pause_ms));
    }
    done.unobservable += unread.len() as u64;
    unread
}

/// One remediation on one source that was read completely.
async fn one(
    context: &Context,
    key: &RemediationKey,
    source: &str,
    sync: &str,
    owed: &[Obligation],
) -> Result<Done, JobError> {
    let (remediation, actions) = {
        let mut connection = context.db.reader().acquire().await?;
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

/// R58 for what is owed for too long.
async fn breach(
    context: &Context,
    tenant: &str,
    mut owed: Vec<Obligation>,
) -> Result<u64, JobError> {
    let now_ms = context.clock.now_ms();
    owed.retain(|one| one.due_ms.saturating_add(OVERDUE_MS) <= now_ms);
    let mut breached = 0;
    for one in owed {
        let key = RemediationKey {
            tenant: tenant.to_owned(),
            remediation: one.remediation.clone(),
        };
        let remediation = {
            let mut connection = context.db.reader().acquire().await?;
            store::remediations::get(&mut connection, &key).await?
        };
        let Some(remediation) = remediation else {
            continue;
        };
        context.tenants.require(tenant).await?;
        let stamp = context.of_service(tenant, &remediation).await?;
        let mut tx = context.db.write_tx(tenant).await?;
        if store::obligations::end(&mut tx, &one.id, ObligationState::Breached).await? {
            let draft = records::obligation_breached(&stamp, &one, "overdue");
            context.outbox.emit(&mut tx, draft).await?;
            tx.commit().await?;
            breached += 1;
        } else {
            tx.rollback().await?;
        }
    }
    Ok(breached)
}
