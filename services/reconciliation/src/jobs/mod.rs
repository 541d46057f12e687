//! Background work: carrying remediations out, re-reading what was removed, reporting to recertification.
//!
//! Everything here can die at any line and goes on from the tables when it is started again; `run_once` does what is due.

mod attempts;
mod finish;
mod read_back;
mod remediate;
pub(crate) mod rereads;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use counterfoil_chassis::error::ApiError;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{context::Context, error::JobError, model::ids::RemediationKey, store};

/// Steps of a remediation, after each of which it may die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// What a crash left open is settled.
    Settled,
    /// Intents are durable.
    IntentsDurable,
    /// Intents are in the ledger.
    IntentsLogged,
    /// It is durable that the call goes out.
    CallMarked,
    /// The target has answered.
    CallReturned,
    /// The answers are durable.
    OutcomesDurable,
    /// The source was read back.
    ReadBack,
    /// Effects are durable.
    EffectsDurable,
    /// Recertification knows.
    Reported,
    /// It is over.
    Finished,
}

/// What a run of the jobs did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Remediations taken up again.
    pub resumed: u64,
    /// Remediations of which recertification was told at last.
    pub reported: u64,
    /// Obligations discharged.
    pub discharged: u64,
    /// Obligations breached.
    pub breached: u64,
    /// Grants that came back.
    pub regressed: u64,
    /// Obligations that could not be met because a source could not be read.
    pub unobservable: u64,
}

/// Does what is due in all tenants.
pub(crate) async fn run_once(context: &Context) -> Result<Progress, ApiError> {
    let unseen_since_ms = context.clock.now_ms() - i64::from(context.settings.takeover_ms);
    let mut progress = Progress::default();
    for key in store::remediations::running(&context.db, unseen_since_ms).await? {
        progress.resumed += u64::from(context.work.send(key).is_ok());
    }
    for key in store::remediations::unreported(&context.db).await? {
        match finish::report_late(context, &key).await {
            Ok(told) => progress.reported += u64::from(told),
            Err(error) => {
                tracing::warn!(remediation = %key, %error, "recertification was not told yet")
            }
        }
    }
    let done = rereads::run_in_background(context).await?;
    progress.discharged = done.discharged;
    progress.breached = done.breached;
    progress.regressed = done.regressed;
    progress.unobservable = done.unobservable;
    Ok(progress)
}

/// Carries remediations out as they come, and first those that a former process left. Ends with the service.
pub(crate) async fn supervise(
    context: Arc<Context>,
    mut work: mpsc::UnboundedReceiver<RemediationKey>,
) {
    let mut tasks = JoinSet::new();
    match store::remediations::running(&context.db, i64::MAX).await {
        Ok(keys) => {
            for key in keys {
                tasks.spawn(carry_out(Arc::clone(&context), key));
            }
        }
        Err(error) => tracing::error!(%error, "what a former process left is not known yet"),
    }
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => break,
            Some(key) = work.recv() => {
                tasks.spawn(carry_out(Arc::clone(&context), key));
            }
            Some(_) = tasks.join_next() => {}
        }
    }
    // A call that is out comes to its end and is written down; nothing new is begun.
    while tasks.join_next().await.is_some() {}
}

/// Carries a remediation out, again and again while something that it needs does not answer.
async fn carry_out(context: Arc<Context>, key: RemediationKey) {
    let mut pause = Duration::from_millis(500);
    loop {
        match remediate::carry_out(&context, &key).await {
            Ok(()) => return,
            Err(JobError::Stopped | JobError::TakenOver) => {
                tracing::info!(remediation = %key, "not carried out to its end here");
                return;
            }
            Err(error) => tracing::warn!(remediation = %key, %error, "will be tried again"),
        }
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(Duration::from_secs(30));
    }
}

/// Runs the jobs at their interval until the service ends.
pub(crate) async fn run(context: Arc<Context>) {
    let mut interval = tokio::time::interval(context.settings.job_interval());
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            _ = interval.tick() => {}
        }
        if let Some(Err(error)) = context
            .shutdown
            .run_until_cancelled(run_once(&context))
            .await
        {
            tracing::warn!(%error, "the jobs of reconciliation failed");
        }
    }
}
