//! Sending actions to a target: intent, receipt, call, outcome, a batch at a time.
//!
//! Invariant (rule 2 of the architecture): the receipts of the intents of a batch are here before the call goes out, and it is
//! durable that the call goes out before it does. So a crash leaves one of two things: a call that was never made, or
//! one whose outcome nobody knows, which is read before it is repeated.

use std::time::Duration;

use counterfoil_chassis::{clock::millis, names::new_id};
use counterfoil_connectors::{ConnectorError, RevokeRequest, SourceConfig, WriteOutcome, Writer};
use counterfoil_evidence::v1::AttemptResult;
use tonic::Code;

use super::{Step, remediate::Job, superseded};
use crate::{
    error::JobError,
    model::{
        entities::Action,
        state::{ActionState, RemediationState},
        target::Connection,
    },
    records::{self, Answer},
    store,
};

/// How long the ledger is waited for before the wait is told in the log.
const RECEIPT_PATIENCE: Duration = Duration::from_secs(5);
/// So far may this machine's clock be behind the ledger's and be waited for; machines with NTP differ by milliseconds.
const CLOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Gives every intent that a crash left without an outcome the one that is known: not attempted, or unknown.
pub(super) async fn settle_interrupted(job: &Job<'_>) -> Result<(), JobError> {
    let mut interrupted: Vec<Action> = job.actions().await?;
    interrupted.retain(|action| action.state == ActionState::Intended);
    if interrupted.is_empty() {
        return Ok(());
    }
    // Outcomes are dated after their intents were integrated, also when the ledger was away.
    let logged_ms = await_intents(job, &interrupted).await?;
    let now_ms = job.context.clock.now_ms().max(logged_ms);
    let answers = interrupted.iter_mut().map(|action| {
        if action.started_ms == 0 {
            action.start(now_ms);
            action.ended_ms = now_ms;
            // It took nobody's patience.
            action.tries = action.tries.saturating_sub(1);
            answer(
                AttemptResult::NotAttempted,
                "interrupted",
                "the service ended before the call went out",
            )
        } else {
            action.ended_ms = now_ms.max(action.started_ms);
            answer(
                AttemptResult::Ambiguous,
                "interrupted",
                "the service ended before the target's answer was written down",
            )
        }
    });
    let answers: Vec<Answer> = answers.collect();
    record_outcomes(job, &mut interrupted, &answers).await
}

/// Attempts whatever may be attempted on a source.
pub(super) async fn on_source(job: &Job<'_>, source: &str) -> Result<(), JobError> {
    let mut open = {
        let states = ActionState::all_that(|state| state.may_attempt(0));
        let mut connection = job.context.db.read(&job.key.tenant).await?;
        store::actions::of_source(&mut connection, &job.key, source, &states).await?
    };
    open.retain(|action| action.state.may_attempt(action.tries));
    if open.is_empty() {
        return Ok(());
    }
    let inventory = &job.context.inventory;
    let tenant = &job.key.tenant;
    let asked = job.patiently(|| inventory.connection(tenant, source)).await;
    let connection = match asked {
        Ok(connection) if connection.principals.are_independent() => connection,
        Ok(_) => {
            let why =
                "the source is read and written by the same principal, or nobody writes to it";
            return leave(job, open, why).await;
        }
        Err(JobError::Api(error)) if error.code() == Code::Unavailable => return Err(error.into()),
        Err(JobError::Api(error)) => {
            return leave(
                job,
                open,
                &format!("the source's settings are not to be had: {error}"),
            )
            .await;
        }
        Err(error) => return Err(error),
    };
    let writer = serde_json::from_str::<SourceConfig>(&connection.config_json)
        .map_err(|error| error.to_string())
        .and_then(|config| {
            counterfoil_connectors::writer(&config).map_err(|error| error.to_string())
        });
    let mut writer = match writer {
        Ok(writer) => writer,
        Err(why) => return leave(job, open, &why).await,
    };
    let batch = usize::try_from(job.context.settings.batch_actions.max(1)).unwrap_or(1);
    for chunk in open.chunks(batch) {
        job.go_on()?;
        job.may_send().await?;
        let standing = superseded::set_apart(job, chunk.to_vec()).await?;
        if standing.is_empty() {
            continue;
        }
        let answers = attempt(job, &connection, writer.as_mut(), standing).await?;
        let away = |answer: &Answer| answer.result == AttemptResult::NotAttempted;
        if answers.iter().all(away) {
            // The target is not there: the rest would only be written down as not attempted too.
            break;
        }
    }
    Ok(())
}

/// Nothing can be sent: the actions wait, and say why.
async fn leave(job: &Job<'_>, mut actions: Vec<Action>, why: &str) -> Result<(), JobError> {
    tracing::warn!(remediation = %job.key, why, "actions cannot be sent");
    for action in &mut actions {
        why.clone_into(&mut action.failure);
        action.tries = crate::model::state::TRIES_MAX;
    }
    let mut tx = job.write(RemediationState::Dispatched).await?;
    store::actions::update(&mut tx, &job.key.remediation, &actions).await?;
    // If we crash here: nothing was sent; whoever takes over tries once more before it says so again.
    tx.commit().await?;
    Ok(())
}

async fn attempt(
    job: &Job<'_>,
    connection: &Connection,
    writer: &mut dyn Writer,
    mut actions: Vec<Action>,
) -> Result<Vec<Answer>, JobError> {
    intend(job, connection, &mut actions).await?;
    job.context.reached(Step::IntentsDurable)?;
    let logged_ms = await_intents(job, &actions).await?;
    job.context.reached(Step::IntentsLogged)?;
    if !await_clock(job, logged_ms).await? {
        return give_up(job, actions, logged_ms).await;
    }
    // The ledger may have been waited for for days.
    job.may_send().await?;
    mark_started(job, &mut actions).await?;
    job.context.reached(Step::CallMarked)?;
    let answers = call(job, writer, &actions).await;
    let ended_ms = job.context.clock.now_ms();
    for action in &mut actions {
        action.ended_ms = ended_ms.max(action.started_ms);
    }
    job.context.reached(Step::CallReturned)?;
    record_outcomes(job, &mut actions, &answers).await?;
    job.context.reached(Step::OutcomesDurable)?;
    Ok(answers)
}

/// R87 for each.
async fn intend(
    job: &Job<'_>,
    connection: &Connection,
    actions: &mut [Action],
) -> Result<(), JobError> {
    let stamp = job.stamp();
    for action in &mut *actions {
        if action.state != ActionState::StillPresent {
            action.read_record_hash = None;
        }
        action.state = ActionState::Intended;
        action.attempts += 1;
        action.tries += 1;
        action.idempotency_key = new_id(stamp.now_ms);
        action.executor.clone_from(&connection.principals.writer);
        action.started_ms = 0;
        action.ended_ms = 0;
        action.failure.clear();
    }
    let mut tx = job.write(RemediationState::Dispatched).await?;
    let drafts: Vec<_> = actions
        .iter()
        .map(|action| records::intended(&stamp, &job.remediation, action))
        .collect();
    let emitted = job.context.outbox.emit_many(&mut tx, drafts).await?;
    for (action, emitted) in actions.iter_mut().zip(emitted) {
        action.intent_record_id = Some(emitted.record_id);
        action.intent_record_hash = Some(emitted.record_hash);
    }
    store::actions::update(&mut tx, &job.key.remediation, actions).await?;
    // If we crash here: there is no intent, or there are intents whose calls are known not to have gone out.
    tx.commit().await?;
    Ok(())
}

/// Waits for the receipts of the intents, however long the ledger is away: the target is not touched before. Answers the log's
/// time then.
async fn await_intents(job: &Job<'_>, actions: &[Action]) -> Result<i64, JobError> {
    let ids: Vec<[u8; 16]> = actions
        .iter()
        .filter_map(|action| action.intent_record_id)
        .collect();
    loop {
        job.go_on()?;
        let wait = job
            .context
            .outbox
            .await_receipts(&job.key.tenant, &ids, RECEIPT_PATIENCE);
        let Some(waited) = job.context.shutdown.run_until_cancelled(wait).await else {
            return Err(JobError::Stopped);
        };
        match waited {
            Ok(receipts) => {
                let times = receipts
                    .iter()
                    .filter_map(|receipt| millis(receipt.checkpoint_time.as_ref()?));
                return Ok(times.max().unwrap_or_default());
            }
            Err(error) if error.reason() == "EVIDENCE_PENDING" => {
                tracing::warn!(remediation = %job.key, "waiting for the ledger before the target is touched");
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until this machine's clock has reached the log's time: what it dated before that would prove no order (I-39). `false`:
/// it is too far behind to wait for.
async fn await_clock(job: &Job<'_>, logged_ms: i64) -> Result<bool, JobError> {
    let deadline = tokio::time::Instant::now() + CLOCK_PATIENCE;
    loop {
        job.go_on()?;
        let behind_ms = logged_ms.saturating_sub(job.context.clock.now_ms());
        let Ok(behind) = u64::try_from(behind_ms).map(Duration::from_millis) else {
            return Ok(true);
        };
        if behind.is_zero() {
            return Ok(true);
        }
        let until = tokio::time::Instant::now() + behind;
        if until > deadline {
            tracing::error!(alarm = "CLOCK_BEHIND", remediation = %job.key, behind_ms, "nothing is sent by a clock that stands before the log's time");
            return Ok(false);
        }
        let wait = tokio::time::sleep_until(until);
        if job
            .context
            .shutdown
            .run_until_cancelled(wait)
            .await
            .is_none()
        {
            return Err(JobError::Stopped);
        }
    }
}

/// Nothing goes out by a wrong clock: the intents are answered as not attempted, at the log's time.
async fn give_up(
    job: &Job<'_>,
    mut actions: Vec<Action>,
    logged_ms: i64,
) -> Result<Vec<Answer>, JobError> {
    for action in &mut actions {
        action.start(logged_ms);
        action.ended_ms = logged_ms;
    }
    let why = "this machine's clock stands before the time of the log; nothing was sent";
    let answers: Vec<Answer> = actions
        .iter()
        .map(|_| answer(AttemptResult::NotAttempted, "clock_behind", why))
        .collect();
    record_outcomes(job, &mut actions, &answers).await?;
    Ok(answers)
}

async fn mark_started(job: &Job<'_>, actions: &mut [Action]) -> Result<(), JobError> {
    job.go_on()?;
    let now_ms = job.context.clock.now_ms();
    for action in &mut *actions {
        action.start(now_ms);
    }
    let mut tx = job.write(RemediationState::Dispatched).await?;
    store::actions::update(&mut tx, &job.key.remediation, actions).await?;
    // If we crash here: nobody knows whether the call went out, and the target is read before anything else.
    tx.commit().await?;
    Ok(())
}

async fn call(job: &Job<'_>, writer: &mut dyn Writer, actions: &[Action]) -> Vec<Answer> {
    let requests: Vec<RevokeRequest> = actions
        .iter()
        .map(|action| RevokeRequest {
            account_native_id: action.account_native.clone(),
            entitlement_native_id: action.entitlement_native.clone(),
            idempotency_key: action.idempotency_key.clone(),
            expected_before: None,
        })
        .collect();
    let timeout = job.context.settings.writer_timeout();
    let results = tokio::time::timeout(timeout, writer.revoke_many(&requests)).await;
    let Ok(results) = results else {
        let late = || {
            answer(
                AttemptResult::Ambiguous,
                "timeout",
                "the target did not answer in time",
            )
        };
        return requests.iter().map(|_| late()).collect();
    };
    let mut answers: Vec<Answer> = results.into_iter().map(answer_of).collect();
    // A result that is missing is one that nobody knows.
    answers.resize_with(requests.len(), || {
        answer(
            AttemptResult::Ambiguous,
            "no_answer",
            "the target said nothing of this one",
        )
    });
    answers
}

/// R25 for each, and the state that follows.
async fn record_outcomes(
    job: &Job<'_>,
    actions: &mut [Action],
    answers: &[Answer],
) -> Result<(), JobError> {
    let stamp = job.stamp();
    for (action, answer) in actions.iter_mut().zip(answers) {
        action.state = ActionState::after_attempt(answer.result);
        action.failure.clone_from(&answer.failure);
    }
    let mut tx = job.write(RemediationState::Dispatched).await?;
    let drafts: Vec<_> = actions
        .iter()
        .zip(answers)
        .map(|(action, answer)| records::attempted(&stamp, &job.remediation, action, answer))
        .collect();
    job.context.outbox.emit_many(&mut tx, drafts).await?;
    store::actions::update(&mut tx, &job.key.remediation, actions).await?;
    // If we crash here: the outcome is lost, the attempts count as AMBIGUOUS, and the target is read.
    tx.commit().await?;
    Ok(())
}

fn answer(result: AttemptResult, failure_code: &'static str, failure: &str) -> Answer {
    Answer {
        result,
        before_hash: Vec::new(),
        response_hash: Vec::new(),
        failure_code,
        failure: failure.to_owned(),
    }
}

fn answer_of(result: Result<WriteOutcome, ConnectorError>) -> Answer {
    match result {
        Ok(WriteOutcome::Applied {
            before_hash,
            response_hash,
        }) => Answer {
            before_hash: before_hash.to_vec(),
            response_hash: response_hash.to_vec(),
            ..answer(AttemptResult::Ok, "", "")
        },
        Ok(WriteOutcome::AlreadyAbsent) => answer(AttemptResult::Ok, "", ""),
        Err(error) => {
            let (result, code) = match &error {
                ConnectorError::Refused { .. } | ConnectorError::AccessDenied { .. } => {
                    (AttemptResult::Failed, "refused")
                }
                ConnectorError::Ambiguous { .. } => (AttemptResult::Ambiguous, "ambiguous"),
                ConnectorError::NotAttempted { .. } => {
                    (AttemptResult::NotAttempted, "not_attempted")
                }
                ConnectorError::Unreachable { .. } => (AttemptResult::NotAttempted, "unreachable"),
                // Not an error of a change: whatever it was, nobody says that nothing happened.
                _ => (AttemptResult::Ambiguous, "unexpected"),
            };
            answer(result, code, &error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_never_better_than_what_the_target_said() {
        let reason = || "r".to_owned();
        let cases = [
            (Ok(WriteOutcome::AlreadyAbsent), AttemptResult::Ok),
            (
                Err(ConnectorError::Refused {
                    code: None,
                    reason: reason(),
                }),
                AttemptResult::Failed,
            ),
            (
                Err(ConnectorError::NotAttempted { reason: reason() }),
                AttemptResult::NotAttempted,
            ),
            (
                Err(ConnectorError::Ambiguous { reason: reason() }),
                AttemptResult::Ambiguous,
            ),
            (Err(ConnectorError::SinkClosed), AttemptResult::Ambiguous),
        ];
        for (result, expected) in cases {
            assert_eq!(answer_of(result).result, expected);
        }
    }
}
