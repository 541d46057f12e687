//! One remediation, from DISPATCHED to its end.
//!
//! Invariants: nothing goes out to a target before its intent is in the ledger; whatever nobody knows the outcome of is read
//! before it is tried again; nothing closes but on a verified proof. Who carries a remediation out is written in its row,
//! and every transaction checks it: a process that was taken over gives up.

use std::collections::BTreeSet;

use counterfoil_chassis::{db::WriteTx, error::ApiError, names::new_id};
use futures::{StreamExt, TryStreamExt, stream};
use tonic::Code;

use super::{Step, attempts, finish, read_back};
use crate::{
    context::Context,
    error::JobError,
    model::{
        entities::{Action, Remediation},
        ids::RemediationKey,
        state::RemediationState,
    },
    records::Stamp,
    store,
};

/// How often a whole plan is gone through in one execution.
const ROUNDS_MAX: u32 = 3;

/// A remediation in the hands of this task.
pub(super) struct Job<'c> {
    pub(super) context: &'c Context,
    pub(super) key: RemediationKey,
    pub(super) remediation: Remediation,
    runner: String,
    stamp: Stamp,
}

/// Carries a remediation out, unless it does not run or this process is at it already.
pub(super) async fn carry_out(context: &Context, key: &RemediationKey) -> Result<(), JobError> {
    let Some(_running) = context.occupy(key) else {
        return Ok(());
    };
    context.tenants.require(&key.tenant).await?;
    let Some(job) = Job::take_over(context, key).await? else {
        return Ok(());
    };
    attempts::settle_interrupted(&job).await?;
    context.reached(Step::Settled)?;
    for _ in 0..ROUNDS_MAX {
        job.on_every_source(RemediationState::Dispatched).await?;
        job.on_every_source(RemediationState::Verifying).await?;
        if !job.may_try_more().await? {
            break;
        }
    }
    finish::finish(&job).await
}

impl<'c> Job<'c> {
    /// Makes this task the one who carries it out. `None`: it does not run.
    async fn take_over(
        context: &'c Context,
        key: &RemediationKey,
    ) -> Result<Option<Self>, JobError> {
        let runner = new_id(context.clock.now_ms());
        let mut tx = context.db.write_tx(&key.tenant).await?;
        let found = store::remediations::get(tx.conn(), key).await?;
        let Some(remediation) = found.filter(|found| found.state.is_running()) else {
            tx.rollback().await?;
            return Ok(None);
        };
        store::remediations::take_over(&mut tx, &key.remediation, &runner, context.clock.now_ms())
            .await?;
        tx.commit().await?;
        let stamp = context.of_service(&key.tenant, &remediation).await?;
        Ok(Some(Self {
            context,
            key: key.clone(),
            remediation,
            runner,
            stamp,
        }))
    }

    /// The service's stamp, now.
    pub(super) fn stamp(&self) -> Stamp {
        self.stamp.at(self.context.clock.now_ms())
    }

    /// A write transaction in which nobody else carries the remediation out, and which leaves it in this state.
    pub(super) async fn write(&self, state: RemediationState) -> Result<WriteTx, JobError> {
        let now_ms = self.context.clock.now_ms();
        let mut tx = self.context.db.write_tx(&self.key.tenant).await?;
        let id = &self.key.remediation;
        if !store::remediations::hold(&mut tx, id, &self.runner, state, now_ms).await? {
            tx.rollback().await?;
            return Err(JobError::TakenOver);
        }
        self.context.ring_on_commit(&mut tx);
        Ok(tx)
    }

    /// Refuses to begin anything new when the service ends.
    pub(super) fn go_on(&self) -> Result<(), JobError> {
        if self.context.shutdown.is_cancelled() {
            return Err(JobError::Stopped);
        }
        Ok(())
    }

    /// Calls another service again and again while it does not answer, for as long as the settings allow.
    pub(super) async fn patiently<T, F: Future<Output = Result<T, ApiError>>>(
        &self,
        call: impl Fn() -> F,
    ) -> Result<T, JobError> {
        patiently(self.context, call).await
    }

    async fn sources(&self) -> Result<BTreeSet<String>, JobError> {
        let mut connection = self.context.db.reader().acquire().await?;
        Ok(store::actions::sources(&mut connection, &self.key).await?)
    }

    async fn on_every_source(&self, state: RemediationState) -> Result<(), JobError> {
        self.go_on()?;
        let tx = self.write(state).await?;
        tx.commit().await?;
        let at_once = usize::try_from(self.context.settings.sources_at_once.max(1)).unwrap_or(1);
        stream::iter(self.sources().await?)
            .map(|source| async move {
                match state {
                    RemediationState::Dispatched => attempts::on_source(self, &source).await,
                    _ => read_back::on_source(self, &source).await,
                }
            })
            .buffer_unordered(at_once)
            .try_collect()
            .await
    }

    async fn may_try_more(&self) -> Result<bool, JobError> {
        let actions = self.actions().await?;
        Ok(actions
            .iter()
            .any(|action| action.state.may_attempt(action.tries)))
    }

    /// All actions.
    pub(super) async fn actions(&self) -> Result<Vec<Action>, JobError> {
        let mut connection = self.context.db.reader().acquire().await?;
        Ok(store::actions::all(&mut connection, &self.key).await?)
    }
}

/// Calls another service again and again while it does not answer, for as long as the settings allow, or until the service ends.
pub(super) async fn patiently<T, F: Future<Output = Result<T, ApiError>>>(
    context: &Context,
    call: impl Fn() -> F,
) -> Result<T, JobError> {
    let deadline = tokio::time::Instant::now() + context.settings.peer_patience();
    let mut pause = std::time::Duration::from_millis(100);
    loop {
        let Some(answer) = context.shutdown.run_until_cancelled(call()).await else {
            return Err(JobError::Stopped);
        };
        match answer {
            Err(error)
                if error.code() == Code::Unavailable && tokio::time::Instant::now() < deadline =>
            {
                tracing::debug!(%error, "asking again");
            }
            answer => return Ok(answer?),
        }
        tokio::select! {
            () = context.shutdown.cancelled() => return Err(JobError::Stopped),
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(std::time::Duration::from_secs(2));
    }
}
