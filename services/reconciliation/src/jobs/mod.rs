//! Background work: carrying remediations out, re-reading what was removed, reporting to recertification.
//!
//! Everything here can die at any line and goes on from the tables when it is started again; `run_once` does what is due.

mod attempts;
mod breaches;
mod finish;
mod persistence;
mod read_back;
mod remediate;
pub(crate) mod rereads;
pub(crate) mod superseded;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use counterfoil_chassis::{db::Engine, error::ApiError};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    context::{Context, Running},
    error::JobError,
    model::ids::RemediationKey,
    store,
};

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

/// Does what is due in all tenants, and waits for it.
pub(crate) async fn run_once(context: &Arc<Context>) -> Result<Progress, ApiError> {
    let resumed = take_up(context).await?;
    let breached = breaches::run(context).await?;
    let reported = finish::report_all_late(context).await?;
    let done = rereads::run_in_background(context).await?;
    Ok(Progress {
        resumed,
        reported,
        breached,
        discharged: done.discharged,
        regressed: done.regressed,
        unobservable: done.unobservable,
    })
}

/// Takes up what runs and at which nobody was seen for too long.
async fn take_up(context: &Context) -> Result<u64, ApiError> {
    let mut resumed = 0;
    let unseen_since_ms = context.unseen_since_ms();
    for key in store::remediations::running(&context.db, unseen_since_ms).await? {
        resumed += u64::from(context.work.send(key).is_ok());
    }
    Ok(resumed)
}

/// Carries remediations out as they come, and first those that a former process left. Ends with the service.
pub(crate) async fn supervise(
    context: Arc<Context>,
    mut work: mpsc::UnboundedReceiver<RemediationKey>,
) {
    let mut tasks = JoinSet::new();
    let unseen_since_ms = match context.db.engine() {
        // The file has one process: whoever carried something out is gone.
        Engine::Sqlite => i64::MAX,
        // A healthy replica may be at it.
        Engine::Postgres => context.unseen_since_ms(),
    };
    match store::remediations::running(&context.db, unseen_since_ms).await {
        Ok(keys) => {
            for key in keys {
                tasks.spawn(carry_out(Arc::clone(&context), key, unseen_since_ms));
            }
        }
        Err(error) => tracing::error!(%error, "what a former process left is not known yet"),
    }
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => break,
            Some(key) = work.recv() => {
                let unseen_since_ms = context.unseen_since_ms();
                tasks.spawn(carry_out(Arc::clone(&context), key, unseen_since_ms));
            }
            Some(_) = tasks.join_next() => {}
        }
    }
    // A call that is out comes to its end and is written down; nothing new is begun.
    while tasks.join_next().await.is_some() {}
}

/// Carries a remediation out, unless a task of this process is at it already: that one looks again then.
async fn carry_out(context: Arc<Context>, key: RemediationKey, unseen_since_ms: i64) {
    if let Some(running) = context.occupy(&key) {
        until_nobody_asks(&context, &key, running, unseen_since_ms).await;
    }
}

/// Carries a remediation out, and once more if it was asked for meanwhile; not when the service ends.
async fn until_nobody_asks(
    context: &Context,
    key: &RemediationKey,
    mut running: Running<'_>,
    mut unseen_since_ms: i64,
) {
    loop {
        until_it_ends(context, key, unseen_since_ms).await;
        match running.leave() {
            Some(asked_again) if !context.shutdown.is_cancelled() => running = asked_again,
            _ => return,
        }
        unseen_since_ms = context.unseen_since_ms();
    }
}

/// Carries a remediation out, again and again while something that it needs does not answer.
async fn until_it_ends(context: &Context, key: &RemediationKey, mut unseen_since_ms: i64) {
    let mut pause = Duration::from_millis(500);
    loop {
        match remediate::carry_out(context, key, unseen_since_ms).await {
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
        unseen_since_ms = context.unseen_since_ms();
    }
}

/// Runs the jobs at their interval until the service ends. None of them waits for another: what is slow holds up its own only.
pub(crate) async fn run(context: Arc<Context>) {
    tokio::join!(
        every(&context, || async {
            take_up(&context).await?;
            breaches::run(&context).await?;
            Ok(())
        }),
        every(&context, || async {
            finish::report_all_late(&context).await?;
            Ok(())
        }),
        rereads::keep_up(&context),
    );
}

async fn every<F: Future<Output = Result<(), ApiError>>>(context: &Context, job: impl Fn() -> F) {
    let mut interval = interval(context);
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            _ = interval.tick() => {}
        }
        if let Some(Err(error)) = context.shutdown.run_until_cancelled(job()).await {
            tracing::warn!(%error, "a job of reconciliation failed");
        }
    }
}

fn interval(context: &Context) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(context.settings.job_interval());
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}
