//! The end of an execution: telling recertification, R49, and what is owed from then on.

use std::collections::BTreeMap;

use counterfoil_chassis::{error::ApiError, names::uuid_v7, outbox::Emission};
use tonic::Code;

use super::{
    Step,
    remediate::{Job, patiently},
};
use crate::{
    api::peers::recertification::Removal,
    context::Context,
    error::JobError,
    model::{
        entities::{Action, Obligation, ObligationState, obligation_kind},
        ids::RemediationKey,
        plan::{median_and_max, time_to_act_ms},
        state::{ActionState, RemediationState, outcome},
    },
    records::{self, End, Stamp},
    store,
};

/// An open removal must be proved as soon as a finding of this severity must be dealt with.
const OPEN_REMOVAL_SEVERITY: u32 = 3;

/// Ends an execution.
pub(super) async fn finish(job: &Job<'_>) -> Result<(), JobError> {
    // Recertification is told first: whoever sees the remediation ended may close the campaign at once. When it does not
    // answer, the remediation ends all the same and the background job goes on telling.
    let told = match report(job.context, &job.key, &job.actions().await?).await {
        Ok(()) => true,
        Err(JobError::Api(error)) => {
            tracing::warn!(remediation = %job.key, %error, "recertification will be told later");
            false
        }
        Err(error) => return Err(error),
    };
    job.context.reached(Step::Reported)?;
    job.go_on()?;
    let stamp = job.stamp();
    let mut actions = job.actions().await?;
    let states: Vec<ActionState> = actions.iter().map(|action| action.state).collect();
    let (state, ended_as) = outcome(&states);
    let verified = |action: &&Action| action.state == ActionState::Verified;
    let times = actions
        .iter()
        .filter(verified)
        .map(|action| action.verified_ms - action.decision.decided_ms);
    let (p50_ms, max_ms) = median_and_max(times.collect());
    let open = actions
        .iter()
        .filter(|action| action.state.is_open())
        .count();
    let end = End {
        outcome: ended_as,
        verified_count: (actions.len() - open) as u64,
        open_count: open as u64,
        p50_ms,
        max_ms,
    };
    let owes = actions.iter().any(|action| action.state.is_owed());
    let mut tx = job.write(state).await?;
    let id = &job.key.remediation;
    let owed = store::obligations::open_of(&mut tx, id, obligation_kind::VERIFY).await?;
    let mut emission = job.context.outbox.begin(&mut tx).await?;
    emission.add(records::closed(&stamp, &job.remediation, end))?;
    let mut opened = rereads_owed(job, &stamp, &actions);
    let mut discharged = Vec::new();
    if owes && owed.is_empty() {
        opened.push(removal_owed(job, &stamp));
    }
    if !owes {
        discharged = discharge(&mut emission, &stamp, owed, &actions)?;
    }
    for one in &opened {
        emission.add(records::obligation_opened(
            &stamp,
            one,
            job.remediation.plan_record_hash,
        ))?;
    }
    emission.finish(&mut tx).await?;
    for one in &discharged {
        store::obligations::end(&mut tx, &one.id, ObligationState::Discharged).await?;
    }
    store::obligations::insert(&mut tx, &opened).await?;
    for action in actions.iter_mut().filter(|action| !action.state.is_open()) {
        action.watched = true;
    }
    store::actions::update(&mut tx, id, &actions).await?;
    store::remediations::set_times(&mut tx, id, p50_ms, max_ms).await?;
    store::remediations::set_reported(&mut tx, id, told).await?;
    // If we crash here: it still runs, finds nothing left to do, and ends then.
    tx.commit().await?;
    tracing::info!(remediation = %job.key, state = state.shown(), verified = end.verified_count, open, "ended");
    job.context.reached(Step::Finished)
}

/// One re-read a source with newly verified actions, and offset.
fn rereads_owed(job: &Job<'_>, stamp: &Stamp, actions: &[Action]) -> Vec<Obligation> {
    let mut latest: BTreeMap<&str, i64> = BTreeMap::new();
    for action in actions {
        if action.state == ActionState::Verified && !action.watched {
            let at = latest.entry(&action.source).or_insert(action.verified_ms);
            *at = action.verified_ms.max(*at);
        }
    }
    let offsets = &job.remediation.offsets_ms;
    latest
        .into_iter()
        .flat_map(|(source, at_ms)| offsets.iter().map(move |offset| (source, at_ms + offset)))
        .map(|(source, due_ms)| Obligation {
            source: source.to_owned(),
            ..obligation(job, stamp, obligation_kind::REREAD, due_ms)
        })
        .collect()
}

fn removal_owed(job: &Job<'_>, stamp: &Stamp) -> Obligation {
    let due_ms = stamp.now_ms + time_to_act_ms(OPEN_REMOVAL_SEVERITY);
    obligation(job, stamp, obligation_kind::VERIFY, due_ms)
}

fn obligation(job: &Job<'_>, stamp: &Stamp, kind: &str, due_ms: i64) -> Obligation {
    Obligation {
        id: *uuid_v7(stamp.now_ms).as_bytes(),
        tenant: job.key.tenant.clone(),
        kind: kind.to_owned(),
        owner: stamp.owner.as_str().to_owned(),
        due_ms,
        remediation: job.key.remediation.clone(),
        source: String::new(),
        state: ObligationState::Open,
    }
}

/// Nothing is to be proved any more: whatever was owed for that is done, as the newest reading shows; or a newer decision
/// when all were superseded.
fn discharge(
    emission: &mut Emission,
    stamp: &Stamp,
    owed: Vec<Obligation>,
    actions: &[Action],
) -> Result<Vec<Obligation>, JobError> {
    let newest = actions
        .iter()
        .filter(|action| action.state == ActionState::Verified)
        .max_by_key(|action| action.verified_ms);
    let read = newest.and_then(|action| action.read_record_hash);
    let superseding = || actions.iter().find_map(|action| action.superseded_by);
    let Some(evidence) = read.or_else(superseding) else {
        return Ok(Vec::new());
    };
    for one in &owed {
        emission.add(records::obligation_discharged(stamp, one, evidence))?;
    }
    Ok(owed)
}

/// Tells recertification of every verified removal, whichever campaigns decided it. Telling it twice changes nothing.
async fn report(
    context: &Context,
    key: &RemediationKey,
    actions: &[Action],
) -> Result<(), JobError> {
    let verified = actions
        .iter()
        .filter(|action| action.state == ActionState::Verified);
    let removals: Vec<Removal> = verified
        .filter_map(|action| {
            Some(Removal {
                key: action.key,
                verified: action.verified_record_hash?,
                observed_ms: action.verified_ms,
            })
        })
        .collect();
    let (recertification, tenant) = (&context.recertification, &key.tenant);
    patiently(context, || recertification.report(tenant, &removals)).await
}

/// Tells recertification of all remediations of which it does not know everything yet; answers of how many it knows now.
pub(super) async fn report_all_late(context: &Context) -> Result<u64, ApiError> {
    let mut reported = 0;
    for key in store::remediations::unreported(&context.db).await? {
        match report_late(context, &key).await {
            Ok(told) => reported += u64::from(told),
            Err(error) => {
                tracing::warn!(remediation = %key, %error, "recertification was not told yet");
            }
        }
    }
    Ok(reported)
}

/// Tells recertification what it could not be told when the remediation ended. False: it still does not answer.
async fn report_late(context: &Context, key: &RemediationKey) -> Result<bool, JobError> {
    let actions = {
        let mut connection = context.db.read(&key.tenant).await?;
        store::actions::all(&mut connection, key).await?
    };
    match report(context, key, &actions).await {
        Ok(()) => {}
        Err(JobError::Api(error)) if error.code() == Code::Unavailable => return Ok(false),
        Err(error) => return Err(error),
    }
    let mut tx = context.db.write_tx(&key.tenant).await?;
    let found = store::remediations::get(tx.conn(), key).await?;
    // Executed again in the meantime: its own end tells of what is new.
    let ended = found
        .is_some_and(|found| !found.state.is_running() && found.state != RemediationState::Held);
    if ended {
        store::remediations::set_reported(&mut tx, &key.remediation, true).await?;
    }
    tx.commit().await?;
    Ok(ended)
}
