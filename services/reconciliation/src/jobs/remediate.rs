//! One remediation, from DISPATCHED to its end.
//!
//! Invariants: nothing goes out to a target before its intent is in the ledger; whatever nobody knows the outcome of is read
//! before it is tried again; nothing closes but on a verified proof. Who carries a remediation out is written in its row,
//! and when they were last seen at it; nobody is taken over who was seen a short time ago. Every transaction checks it: a
//! process that was taken over all the same gives up.

use std::{collections::BTreeSet, convert::Infallible};

use counterfoil_chassis::{db::WriteTx, error::ApiError, names::new_id};
use futures::{StreamExt, stream};
use tonic::Code;

use super::{Step, attempts, finish, read_back};
use crate::{
    api::peers::authority::Duty,
    context::Context,
    error::JobError,
    model::{
        entities::{Action, Remediation},
        ids::RemediationKey,
        state::{ActionState, RemediationState},
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

/// Carries a remediation out, unless it does not run or somebody was seen to carry it out since `unseen_since_ms`.
pub(super) async fn carry_out(
    context: &Context,
    key: &RemediationKey,
    unseen_since_ms: i64,
) -> Result<(), JobError> {
    let tenant = context.tenants.require(&key.tenant).await?;
    if tenant.is_closed() {
        // Its log takes nothing more, and what is not on record is not done.
        return Ok(());
    }
    let Some(job) = Job::take_over(context, key, unseen_since_ms).await? else {
        return Ok(());
    };
    let done = tokio::select! {
        done = job.carry_out() => done,
        never = job.stay_seen() => match never {},
    };
    let stopped = matches!(done, Err(JobError::Stopped)) && context.shutdown.is_cancelled();
    if stopped || matches!(done, Err(JobError::Api(_))) {
        job.let_go().await;
    }
    done
}

impl<'c> Job<'c> {
    /// Makes this task the one who carries it out. `None`: it does not run, or somebody else is at it.
    async fn take_over(
        context: &'c Context,
        key: &RemediationKey,
        unseen_since_ms: i64,
    ) -> Result<Option<Self>, JobError> {
        let now_ms = context.clock.now_ms();
        let runner = new_id(now_ms);
        let mut tx = context.db.write_tx(&key.tenant).await?;
        let found = store::remediations::get(tx.conn(), key).await?;
        let Some(remediation) = found.filter(|found| found.state.is_running()) else {
            tx.rollback().await?;
            return Ok(None);
        };
        let id = &key.remediation;
        if !store::remediations::take_over(&mut tx, id, &runner, now_ms, unseen_since_ms).await? {
            tx.rollback().await?;
            return Ok(None);
        }
        // If we crash here: the remediation is ours and nobody works on it, until we were not seen for long enough.
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

    async fn carry_out(&self) -> Result<(), JobError> {
        attempts::settle_interrupted(self).await?;
        self.context.reached(Step::Settled)?;
        for _ in 0..ROUNDS_MAX {
            let sent = self.on_every_source(RemediationState::Dispatched).await;
            // What has gone out is proved, also while nothing more may go out; once, however often that is tried again.
            if sent.is_ok() || self.is_unread().await? {
                self.on_every_source(RemediationState::Verifying).await?;
            }
            sent?;
            if !self.may_try_more().await? {
                break;
            }
        }
        finish::finish(self).await
    }

    /// Lets the other processes see that somebody is at it, however long a step takes. Whoever was taken over all the same
    /// finds that out at the next durable step.
    async fn stay_seen(&self) -> Infallible {
        let period = self.context.settings.heartbeat();
        let mut beat = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            if let Err(error) = self.seen(self.context.clock.now_ms()).await {
                tracing::warn!(remediation = %self.key, %error, "others do not see that it is carried out");
            }
        }
    }

    /// Whoever stops of their own accord says so: nobody has to wait until they were not seen for long enough.
    async fn let_go(&self) {
        if let Err(error) = self.seen(0).await {
            tracing::warn!(remediation = %self.key, %error, "others will take it up only after a while");
        }
    }

    async fn seen(&self, seen_ms: i64) -> Result<(), JobError> {
        let mut tx = self.context.db.write_tx(&self.key.tenant).await?;
        store::remediations::seen(&mut tx, &self.key.remediation, &self.runner, seen_ms).await?;
        tx.commit().await?;
        Ok(())
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

    /// Refuses to send anything while the tenant is suspended, or has left, or while the AI agent that started it is stopped.
    pub(super) async fn may_send(&self) -> Result<(), JobError> {
        let (tenants, tenant) = (&self.context.tenants, &self.key.tenant);
        self.patiently(|| tenants.require_under_way(tenant)).await?;
        if self.remediation.agent.is_none() {
            return Ok(());
        }
        // Somebody else may have started it in the agent's stead.
        let now = {
            let mut connection = self.context.db.read(tenant).await?;
            store::remediations::get(&mut connection, &self.key).await?
        };
        let Some(agent) = now.and_then(|now| now.agent) else {
            return Ok(());
        };
        let authority = &self.context.authority;
        let asked = || authority.standing(tenant, &agent, Duty::Remediate);
        match self.patiently(asked).await?.agent {
            Some(found) if found.mandate.is_empty() => Err(agent_stopped().into()),
            _ => Ok(()),
        }
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
        let mut connection = self.context.db.read(&self.key.tenant).await?;
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
            // A source that cannot go on cuts off no call that is out to another.
            .collect::<Vec<Result<(), JobError>>>()
            .await
            .into_iter()
            .collect()
    }

    /// Whether something went out and nobody has looked since what became of it.
    async fn is_unread(&self) -> Result<bool, JobError> {
        let sent = |action: &Action| {
            matches!(
                action.state,
                ActionState::Acknowledged | ActionState::Ambiguous
            )
        };
        Ok(self.actions().await?.iter().any(sent))
    }

    async fn may_try_more(&self) -> Result<bool, JobError> {
        let actions = self.actions().await?;
        Ok(actions
            .iter()
            .any(|action| action.state.may_attempt(action.tries)))
    }

    /// All actions.
    pub(super) async fn actions(&self) -> Result<Vec<Action>, JobError> {
        let mut connection = self.context.db.read(&self.key.tenant).await?;
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

fn agent_stopped() -> ApiError {
    ApiError::failed_precondition(
        "AGENT_STOPPED",
        "the agent that started it has no mandate in force: whoever starts it again lets it go on",
    )
}
