//! Reading a source back after attempts, and closing on proof what is gone.

use counterfoil_evidence::v1::FindingState;

use super::{Step, remediate::Job};
use crate::{
    api::peers::inventory::{BATCH, Purpose},
    error::JobError,
    model::{
        entities::Action,
        read_back::{Reading, judge, keys_of},
        state::{ActionState, RemediationState, Seen},
        target::{Proofs, SyncEnd},
    },
    records, store,
};

/// Reads a source back for whatever wants it.
pub(super) async fn on_source(job: &Job<'_>, source: &str) -> Result<(), JobError> {
    let actions = {
        let states = ActionState::all_that(ActionState::wants_read_back);
        let mut connection = job.context.db.read(&job.key.tenant).await?;
        store::actions::of_source(&mut connection, &job.key, source, &states).await?
    };
    if actions.is_empty() {
        return Ok(());
    }
    let read = read(job, source, &actions).await?;
    job.context.reached(Step::ReadBack)?;
    if !read.complete {
        return unreadable(job, actions, &read.reasons).await;
    }
    // Two keys an action at most: the grant, and for REDUCE the one that stays.
    for batch in actions.chunks(BATCH / 2) {
        job.go_on()?;
        let keys: Vec<_> = batch.iter().flat_map(keys_of).collect();
        let inventory = &job.context.inventory;
        let proofs = match job.patiently(|| inventory.prove(&read.name, &keys)).await {
            Ok(proofs) => proofs,
            Err(JobError::Api(error)) => {
                unreadable(job, batch.to_vec(), &error.to_string()).await?;
                continue;
            }
            Err(error) => return Err(error),
        };
        conclude(job, batch.to_vec(), &proofs).await?;
        job.context.reached(Step::EffectsDurable)?;
    }
    Ok(())
}

/// A reading that begins after the last of the actions has ended.
async fn read(job: &Job<'_>, source: &str, actions: &[Action]) -> Result<SyncEnd, JobError> {
    let ended = actions
        .iter()
        .map(|action| action.ended_ms)
        .max()
        .unwrap_or(0);
    let not_before_ms = job.context.clock.now_ms().max(ended);
    let patience = job.context.settings.reader_timeout();
    let (inventory, tenant) = (&job.context.inventory, &job.key.tenant);
    let read = job
        .patiently(|| {
            inventory.read_source(tenant, source, Purpose::ReadBack, not_before_ms, patience)
        })
        .await;
    match read {
        Err(JobError::Api(error)) => Ok(SyncEnd {
            name: String::new(),
            complete: false,
            reasons: error.to_string(),
        }),
        read => read,
    }
}

/// Nothing was seen: nothing closes.
async fn unreadable(job: &Job<'_>, mut actions: Vec<Action>, why: &str) -> Result<(), JobError> {
    tracing::warn!(remediation = %job.key, why, "the source could not be read back");
    for action in &mut actions {
        tell_unread(action, why);
    }
    let mut tx = job.write(RemediationState::Verifying).await?;
    store::actions::update(&mut tx, &job.key.remediation, &actions).await?;
    // If we crash here: nothing was proved and nothing is claimed; whoever takes over reads again.
    tx.commit().await?;
    Ok(())
}

fn tell_unread(action: &mut Action, why: &str) {
    action.state = action.state.after_reading(Seen::Nothing);
    if action.state == ActionState::Unverifiable {
        action.failure = format!("the source could not be read: {why}");
    }
}

/// R26, R27 and R45 for each that is proved gone; the others stay open and say why.
async fn conclude(
    job: &Job<'_>,
    mut actions: Vec<Action>,
    proofs: &Proofs,
) -> Result<(), JobError> {
    let stamp = job.stamp();
    let mut resolved = Vec::new();
    let mut tx = job.write(RemediationState::Verifying).await?;
    let mut emission = job.context.outbox.begin(&mut tx).await?;
    for action in &mut actions {
        match judge(action, proofs) {
            Ok(Reading::Done {
                claim,
                proof,
                kept_proof,
            }) => {
                let effect = (claim, proof, kept_proof);
                let draft = records::verified(&stamp, &job.remediation, action, proofs, effect);
                let verified = emission.add(draft)?.record_hash;
                emission.add(records::ended(&stamp, action, verified, proofs.ended_ms))?;
                let (state, evidence) = (FindingState::ResolvedVerified, Some(verified));
                emission.add(records::finding_changed(
                    &stamp,
                    &action.finding,
                    state,
                    0,
                    evidence,
                ))?;
                resolved.push(action.finding.clone());
                action.state = action.state.after_reading(Seen::Done);
                action.verified_record_hash = Some(verified);
                action.verified_ms = proofs.ended_ms;
                action.failure.clear();
            }
            Ok(Reading::Present { .. }) => {
                action.state = action.state.after_reading(Seen::Present);
                if action.state == ActionState::StillPresent {
                    "read back, and still there".clone_into(&mut action.failure);
                }
            }
            Ok(Reading::KeptIsGone) => {
                action.state = action.state.after_reading(Seen::Spoiled);
                "the grant is gone, and so is the narrower one that was to stay"
                    .clone_into(&mut action.failure);
            }
            Err(why) => {
                tell_unread(action, &why.to_string());
                continue;
            }
        }
        action.read_record_hash = Some(proofs.record_hash);
    }
    emission.finish(&mut tx).await?;
    let change = store::findings::Change {
        state: FindingState::ResolvedVerified,
        until_ms: 0,
        now_ms: stamp.now_ms,
        remediation: &job.key.remediation,
    };
    store::findings::change(&mut tx, resolved, change).await?;
    store::actions::update(&mut tx, &job.key.remediation, &actions).await?;
    // If we crash here: nothing is closed, and the source is read again.
    tx.commit().await?;
    Ok(())
}
