//! Removals: planned and on record before they start, attempted once at a time, read back by somebody else, proved.

use std::collections::btree_map::Entry;

use super::absorb::{Context, digest};
use super::check::{Check, Tallies};
use super::ending;
use super::plans::{self, Deciders};
use super::sets::{self, Cached};
use super::state::{
    Action, Answer, At, Attempt, Effect, Ended, Finding, Plan, Pos, Regression, State,
};
use super::{Blobs, CLOCK_SKEW_MS, ORDER_SKEW_MS};
use crate::catalogue::Payload;
use crate::leaf::{GRANT_LEAF_LEN, GrantKey, media_type};
use crate::v1::{self, AttemptResult, EffectClaim, FindingState, SyncState, VerificationMethod};

/// Whether a claim says that the grant is gone.
pub(super) fn removes(claim: EffectClaim) -> bool {
    matches!(claim, EffectClaim::Absent | EffectClaim::Narrowed)
}

/// Takes a record of a remediation in.
pub(super) fn absorb(
    state: &mut State,
    tallies: &mut Tallies,
    context: &Context<'_>,
    payload: Payload,
) {
    let pos = context.pos;
    match payload {
        Payload::FindingOpened(opened) => finding(state, tallies, pos, &opened),
        Payload::RemediationPlanned(record) => {
            let name = state.names.intern(&record.remediation);
            let plan = Plan {
                pos,
                actions_blob: context.blob(media_type::ACTIONS),
                record,
                tripped: None,
                resolved: Vec::new(),
                starts: Vec::new(),
                closes: Vec::new(),
                actions: Vec::new(),
            };
            match state.plans.entry(name) {
                Entry::Vacant(place) => {
                    place.insert(plan);
                }
                Entry::Occupied(_) => {
                    tallies.fail(Check::I39, format!("entry {pos} plans a remediation again"));
                }
            }
        }
        Payload::ThresholdTripped(tripped) => {
            if let Some(plan) = plan_mut(state, &tripped.remediation) {
                plan.tripped.get_or_insert(pos);
            }
        }
        Payload::ThresholdResolved(resolved) => {
            if let Some(plan) = plan_mut(state, &resolved.remediation) {
                plan.resolved.push((pos, resolved.resume));
            }
        }
        Payload::RemediationStarted(started) => start(state, tallies, pos, &started),
        Payload::ActionIntended(intended) => intent(state, tallies, pos, &intended),
        Payload::ActionAttempted(attempted) => attempt(state, tallies, pos, &attempted),
        Payload::EffectVerified(verified) => effect(state, tallies, context, &verified),
        Payload::RegressionDetected(detected) => regression(state, tallies, context, &detected),
        Payload::GrantEnded(ended) => match GrantKey::try_from(ended.grant_key.as_slice()) {
            Ok(key) => state.grants_ended.push(Ended {
                pos,
                key,
                decision: digest(&ended.decision_record_hash),
                verified: digest(&ended.verified_record_hash),
                decided_to_attempted_ms: ended.decided_to_attempted_ms,
                attempted_to_verified_ms: ended.attempted_to_verified_ms,
            }),
            Err(_) => tallies.fail(Check::I33, format!("entry {pos} names no grant")),
        },
        Payload::RemediationClosed(what) => match plan_mut(state, &what.remediation) {
            Some(plan) => plan.closes.push(At { pos, what }),
            None => tallies.fail(
                Check::I33,
                format!("entry {pos} closes a remediation that was never planned"),
            ),
        },
        _ => {}
    }
}

fn plan_mut<'s>(state: &'s mut State, remediation: &str) -> Option<&'s mut Plan> {
    let name = state.names.find(remediation)?;
    state.plans.get_mut(&name)
}

/// Plan and start are on one stream: what is started was planned before.
fn start(state: &mut State, tallies: &mut Tallies, pos: Pos, started: &v1::RemediationStarted) {
    let cited = state.position(&started.plan_record_hash);
    let plan = plan_mut(state, &started.remediation);
    match plan.filter(|plan| cited == Some(plan.pos)) {
        Some(plan) => plan.starts.push(pos),
        None => tallies.fail(
            Check::I67,
            format!("entry {pos} does not cite the plan that it starts"),
        ),
    }
}

fn finding(state: &mut State, tallies: &mut Tallies, pos: Pos, opened: &v1::FindingOpened) {
    let Ok(key) = GrantKey::try_from(opened.grant_key.as_slice()) else {
        tallies.fail(Check::I58, format!("entry {pos} names no grant"));
        return;
    };
    let name = state.names.intern(&opened.finding);
    // Who decided on it decided on what was opened first.
    if state.finding_at.contains_key(&name) {
        tallies.fail(Check::I58, format!("entry {pos} opens a finding again"));
        return;
    }
    let run = state.names.intern(&opened.recon_run);
    let at = u32::try_from(state.findings.len()).unwrap_or(u32::MAX);
    state.findings.push(Finding {
        pos,
        run,
        key,
        situation: opened.situation(),
        state: FindingState::Open,
    });
    state.finding_at.insert(name, at);
}

fn intent(state: &mut State, tallies: &mut Tallies, pos: Pos, intended: &v1::ActionIntended) {
    tallies.checked(Check::I39);
    tallies.checked(Check::I40);
    let Ok(key) = GrantKey::try_from(intended.grant_key.as_slice()) else {
        tallies.fail(Check::I39, format!("entry {pos} names no grant"));
        return;
    };
    let remediation = state.names.intern(&intended.remediation);
    let name = state.names.intern(&intended.action);
    let idempotency_key = state.names.intern(&intended.idempotency_key);
    let executor = state.names.intern(&intended.executor);
    let fresh = state.idempotency_keys.insert(idempotency_key);
    tallies.expect(Check::I40, fresh && !idempotency_key.is_empty(), || {
        format!("entry {pos} uses an idempotency key again")
    });
    let next = u32::try_from(state.actions.len()).unwrap_or(u32::MAX);
    let at = *state.action_at.entry((remediation, name)).or_insert(next);
    if at == next {
        state.actions.push(Action {
            remediation,
            name,
            key,
            attempts: Vec::new(),
            effects: Vec::new(),
            regressions: Vec::new(),
        });
    }
    let planned = match state.plans.get_mut(&remediation) {
        Some(plan) => {
            if at == next {
                plan.actions.push(at);
            }
            let held = plan.tripped.is_some() && !plan.goes_on();
            tallies.expect(Check::I39, !held, || {
                format!("entry {pos} acts on a plan that waits for a human, or was cancelled")
            });
            Some(plan.pos)
        }
        None => None,
    };
    let cited = state.position(&intended.plan_record_hash);
    tallies.expect(Check::I39, planned.is_some() && cited == planned, || {
        format!("entry {pos} does not cite the plan of its remediation")
    });
    let read_before = intended
        .read_before_retry_record_hash
        .as_slice()
        .try_into()
        .ok();
    let Some(action) = state.actions.get_mut(at as usize) else {
        return;
    };
    let expected = u32::try_from(action.attempts.len() + 1).unwrap_or(u32::MAX);
    tallies.expect(
        Check::I40,
        intended.attempt == expected && action.key == key,
        || format!("entry {pos} is not attempt {expected} of its action"),
    );
    action.attempts.push(Attempt {
        pos,
        operation: intended.operation(),
        idempotency_key,
        executor,
        read_before,
        answer: None,
    });
}

fn action_at(state: &State, remediation: &str, action: &str) -> Option<u32> {
    let remediation = state.names.find(remediation)?;
    let action = state.names.find(action)?;
    state.action_at.get(&(remediation, action)).copied()
}

fn attempt(state: &mut State, tallies: &mut Tallies, pos: Pos, attempted: &v1::ActionAttempted) {
    tallies.checked(Check::I39);
    let intended = state.position(&attempted.intent_record_hash);
    let recorded_ms = intended.map_or(i64::MAX, |pos| state.recorded_ms(pos));
    let own_ms = state.recorded_ms(pos);
    let key = state.names.find(&attempted.idempotency_key);
    let executor = state.names.find(&attempted.executor);
    let found = action_at(state, &attempted.remediation, &attempted.action)
        .and_then(|at| state.actions.get_mut(at as usize))
        .and_then(|action| {
            action
                .attempts
                .iter_mut()
                .find(|attempt| Some(attempt.pos) == intended)
        });
    let Some(attempt) = found else {
        tallies.fail(
            Check::I39,
            format!("entry {pos} attempts what was never intended"),
        );
        return;
    };
    tallies.expect(
        Check::I39,
        recorded_ms <= attempted.started_ms.saturating_add(ORDER_SKEW_MS),
        || format!("entry {pos} started before its intent was on record"),
    );
    let same = Some(attempt.idempotency_key) == key && Some(attempt.executor) == executor;
    tallies.expect(Check::I40, same && attempt.answer.is_none(), || {
        format!("entry {pos} is another result of an attempt, or of another attempt")
    });
    tallies.expect(
        Check::I40,
        attempted.ended_ms >= attempted.started_ms
            && attempted.result() != AttemptResult::Unspecified,
        || format!("entry {pos} has no result"),
    );
    tallies.expect(
        Check::I04,
        attempted.started_ms.max(attempted.ended_ms) <= own_ms.saturating_add(CLOCK_SKEW_MS),
        || format!("entry {pos} tells of an attempt that had not ended"),
    );
    attempt.answer.get_or_insert(Answer {
        started_ms: attempted.started_ms,
        ended_ms: attempted.ended_ms,
        result: attempted.result(),
    });
}

/// The most that a method can establish.
fn val_max(method: VerificationMethod) -> u32 {
    match method {
        VerificationMethod::Unspecified | VerificationMethod::Asserted => 0,
        VerificationMethod::Acknowledged => 1,
        VerificationMethod::SameReader => 2,
        VerificationMethod::IndependentReader => 3,
    }
}

fn effect(
    state: &mut State,
    tallies: &mut Tallies,
    context: &Context<'_>,
    verified: &v1::EffectVerified,
) {
    let pos = context.pos;
    tallies.checked(Check::I34);
    tallies.checked(Check::I38);
    let most = val_max(verified.method());
    let honest = tallies.expect(Check::I38, verified.val <= most, || {
        format!(
            "entry {pos} claims level {} by a method that reaches {most}",
            verified.val
        )
    });
    let reader = state.names.intern(&verified.reader_principal);
    let found = action_at(state, &verified.remediation, &verified.action)
        .and_then(|at| state.actions.get_mut(at as usize));
    let Some(action) = found else {
        tallies.fail(
            Check::I34,
            format!("entry {pos} verifies an action that was never taken"),
        );
        return;
    };
    let same = tallies.expect(Check::I34, verified.grant_key == action.key.0, || {
        format!("entry {pos} verifies another grant than its action's")
    });
    action.effects.push(Effect {
        pos,
        claim: verified.claim(),
        method: verified.method(),
        val: verified.val,
        reader,
        observed_ms: verified.observed_ms,
        sync: digest(&verified.sync_record_hash),
        set_root: digest(&verified.set_root),
        set_count: verified.set_count,
        proved: context.proved && same && honest,
        stands: false,
        after_attempt: u32::try_from(action.attempts.len())
            .ok()
            .and_then(|count| count.checked_sub(1)),
    });
}

fn regression(
    state: &mut State,
    tallies: &mut Tallies,
    context: &Context<'_>,
    detected: &v1::RegressionDetected,
) {
    let pos = context.pos;
    tallies.checked(Check::I37);
    let found = action_at(state, &detected.remediation, &detected.action)
        .and_then(|at| state.actions.get_mut(at as usize));
    match found {
        Some(action) if detected.grant_key == action.key.0 => {
            action.regressions.push(Regression {
                pos,
                closed: digest(&detected.closed_record_hash),
                sync: digest(&detected.sync_record_hash),
                set_root: digest(&detected.set_root),
                set_count: detected.set_count,
                proved: context.proved,
            });
        }
        _ => tallies.fail(
            Check::I37,
            format!("entry {pos} reopens an action that was never taken"),
        ),
    }
}

/// Judges plans, attempts and effects, and then what was closed on them.
pub(super) fn judge(state: &mut State, tallies: &mut Tallies, blobs: &dyn Blobs) -> Deciders {
    readings_had_ended(state, tallies);
    let deciders = plans::judge(state, tallies, blobs);
    let mut actions = std::mem::take(&mut state.actions);
    let sets_read = Cached::new(blobs);
    for action in &mut actions {
        judge_effects(state, tallies, action, &deciders);
        judge_retries(state, tallies, action, &sets_read);
    }
    state.actions = actions;
    ending::judge(state, tallies, &deciders);
    deciders
}

/// What a reading proves, it proves of when it was made: nobody seals one that is still to come.
fn readings_had_ended(state: &State, tallies: &mut Tallies) {
    for (pos, sync) in &state.syncs {
        let recorded_ms = state.recorded_ms(*pos);
        let read_ms = sync.sealed.started_ms.max(sync.sealed.ended_ms);
        tallies.expect(
            Check::I04,
            read_ms <= recorded_ms.saturating_add(CLOCK_SKEW_MS),
            || {
                let ahead = read_ms.saturating_sub(recorded_ms);
                let entry = state.entry(*pos);
                format!("{entry} was read until {ahead} ms after it was integrated")
            },
        );
    }
}

fn judge_effects(state: &State, tallies: &mut Tallies, action: &mut Action, deciders: &Deciders) {
    let decider = deciders
        .get(action.remediation, action.key)
        .and_then(|hash| state.position(hash))
        .and_then(|pos| state.meta(pos))
        .map(|meta| meta.actor);
    let before = (action.attempts.as_slice(), action.regressions.as_slice());
    for effect in &mut action.effects {
        if effect.method == VerificationMethod::Asserted
            || effect.method == VerificationMethod::Acknowledged
        {
            continue;
        }
        if let Err(why) = effect_is_read(state, action.key, effect, before) {
            tallies.fail(Check::I34, format!("{}: {why}", state.entry(effect.pos)));
            continue;
        }
        effect.stands = effect.proved;
        if effect.val < 3 {
            continue;
        }
        if deciders.unread(action.remediation) {
            tallies.skip(
                Check::I36,
                "who decided is in actions that are not in the bundle",
            );
            continue;
        }
        tallies.checked(Check::I36);
        let source = state.source_of(action.key.source_tag());
        let executor = action.attempts.last().map(|attempt| attempt.executor);
        let reader = state.names.text(effect.reader);
        let writer = executor.map_or("", |executor| state.names.text(executor));
        let distinct = executor.is_some_and(|executor| {
            executor != effect.reader
                && decider.is_some_and(|decider| decider != executor && decider != effect.reader)
        });
        let registered = source.is_some_and(|source| {
            source.reader_principal == reader && source.writer_principal == writer
        });
        let independent = tallies.expect(Check::I36, distinct && registered, || {
            format!(
                "{}: decider, {writer} and {reader} are not three independent principals",
                state.entry(effect.pos)
            )
        });
        effect.stands &= independent;
    }
}

fn effect_is_read(
    state: &State,
    key: GrantKey,
    effect: &Effect,
    (attempts, regressions): (&[Attempt], &[Regression]),
) -> Result<(), String> {
    let (read, sync) = state.sync(&effect.sync).ok_or("cites no sealed sync")?;
    let sealed = &sync.sealed;
    if sealed.state() != SyncState::Complete || sync.tag != key.source_tag() {
        return Err("cites no COMPLETE sync of the grant's source".to_owned());
    }
    let same = sealed.set_root == effect.set_root
        && sealed.set_count == effect.set_count
        && sealed.ended_ms == effect.observed_ms
        && state.names.find(&sealed.reader_principal) == Some(effect.reader);
    if !same {
        return Err("says otherwise of the sync than the sync itself".to_owned());
    }
    if !removes(effect.claim) {
        return Ok(());
    }
    let last = effect
        .after_attempt
        .and_then(|at| attempts.get(at as usize))
        .ok_or("nothing was attempted before it")?;
    // The receipt of an intent is waited for before the call goes out: what was read after the call is on record after it.
    if read < last.pos {
        return Err("was on record before the action was intended".to_owned());
    }
    // Without an answer nobody knows when the call ended; it went out after its intent was on record.
    let ended_ms = match last.answer {
        Some(answer) => answer.ended_ms,
        None => state.recorded_ms(last.pos),
    };
    if sealed.started_ms.saturating_add(ORDER_SKEW_MS) < ended_ms {
        return Err("was read before the action ended".to_owned());
    }
    let came_back = regressions
        .iter()
        .filter(|regression| regression.pos < effect.pos)
        .filter_map(|regression| state.sync(&regression.sync))
        .any(|(seen, _)| read <= seen);
    if came_back {
        return Err("was read before access came back".to_owned());
    }
    Ok(())
}

/// After an attempt whose outcome nobody knows, the target is read before the next.
fn judge_retries(state: &State, tallies: &mut Tallies, action: &Action, sets_read: &Cached<'_>) {
    for pair in action.attempts.windows(2) {
        let [before, retry] = pair else { continue };
        let known = before.answer.filter(|answer| {
            !matches!(
                answer.result,
                AttemptResult::Ambiguous | AttemptResult::Unspecified
            )
        });
        if known.is_some() {
            continue;
        }
        tallies.checked(Check::I40);
        let after_ms = before
            .answer
            .map_or_else(|| state.recorded_ms(before.pos), |answer| answer.ended_ms);
        let read = retry
            .read_before
            .and_then(|hash| state.sync(&hash))
            .filter(|(pos, sync)| {
                before.pos < *pos
                    && *pos < retry.pos
                    && sync.tag == action.key.source_tag()
                    && sync.sealed.state() == SyncState::Complete
                    && sync.sealed.started_ms.saturating_add(ORDER_SKEW_MS) >= after_ms
            });
        let Some((_, sync)) = read else {
            tallies.fail(
                Check::I40,
                format!(
                    "{} repeats an attempt of unknown outcome without reading first",
                    state.entry(retry.pos)
                ),
            );
            continue;
        };
        let Some(set) = sync.blob.and_then(|digest| sets_read.load(&digest)) else {
            tallies.skip(
                Check::I40,
                format!(
                    "the set read before {} is not in the bundle",
                    state.entry(retry.pos)
                ),
            );
            continue;
        };
        let there = sets::find(&set, GRANT_LEAF_LEN, &action.key.0).is_some();
        tallies.expect(Check::I40, there, || {
            format!(
                "{} repeats an attempt although the grant was gone",
                state.entry(retry.pos)
            )
        });
    }
}
