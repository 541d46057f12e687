//! Escalation and retention.

use counterfoil_chassis::{ApiError, Caller, EmittedRecord, names::tenant_field};
use counterfoil_evidence::v1::EscalationLevel;
use counterfoil_proto::authority as proto;
use prost::{Message, Name};

use super::{
    Api,
    business_units::require_accountable_in,
    change::{Asked, Change},
    convert,
};
use crate::{
    error::{HoldRefusal, Refusal},
    model::{
        hold::shortened,
        settings::{
            EscalationPathSet, LEVELS_MAX, RetentionPolicySet, RetentionRule, Setting, SettingKind,
            check_levels, check_rules, retention_rules,
        },
    },
    store,
};

pub(super) async fn set_escalation_path(
    api: &Api,
    caller: &Caller,
    request: proto::SetEscalationPathRequest,
) -> Result<proto::SetEscalationPathResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    let method = "SetEscalationPath";
    let mut change = match api
        .begin(caller, &tenant, method, &request.request_id, &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_governing_caller().await?;
    let mut levels = Vec::with_capacity(LEVELS_MAX);
    for (position, level) in request.levels.iter().enumerate().take(LEVELS_MAX + 1) {
        let field = format!("levels[{position}].principal");
        let principal = convert::principal_in(&field, &level.principal, &tenant)?;
        levels.push((principal, level.after_seconds));
    }
    check_levels(&levels).map_err(Refusal::from)?;
    let last_resort = convert::principal_in("last_resort", &request.last_resort, &tenant)?;
    require_accountable_in(&mut change, "last_resort", &last_resort).await?;
    let engine = change.tx.engine();
    let asked = levels.iter().map(|(principal, _)| principal);
    let found = store::principals::get_many(change.tx.conn(), engine, &tenant, asked).await?;
    for (principal, _) in &levels {
        if !found.get(principal).is_some_and(|found| found.is_active()) {
            return Err(Refusal::NotAsked(principal.clone()).into());
        }
    }
    let payload = EscalationPathSet {
        scope: "*".to_owned(),
        levels: levels
            .iter()
            .map(|(principal, after_seconds)| EscalationLevel {
                principal: principal.in_records(),
                after_ms: after_seconds * 1000,
            })
            .collect(),
        last_resort: last_resort.in_records(),
    };
    let emitted = set(api, &mut change, SettingKind::EscalationPath, &payload).await?;
    let answer = proto::SetEscalationPathResponse {
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

pub(super) async fn set_retention_policy(
    api: &Api,
    caller: &Caller,
    request: proto::SetRetentionPolicyRequest,
) -> Result<proto::SetRetentionPolicyResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    let method = "SetRetentionPolicy";
    let mut change = match api
        .begin(caller, &tenant, method, &request.request_id, &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_governing_caller().await?;
    let rules: Vec<RetentionRule> = request
        .rules
        .into_iter()
        .map(|rule| RetentionRule {
            retention_class: rule.retention_class,
            duration_days: rule.duration_days,
            basis: rule.basis,
            jurisdiction: rule.jurisdiction,
        })
        .collect();
    check_rules(&rules).map_err(Refusal::from)?;
    require_not_held(&mut change, &rules).await?;
    let payload = RetentionPolicySet { rules };
    let emitted = set(api, &mut change, SettingKind::RetentionPolicy, &payload).await?;
    let answer = proto::SetRetentionPolicyResponse {
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

/// Refuses rules that keep for less time what a legal hold covers. The tenant's lock is held: no hold is placed meanwhile.
async fn require_not_held(change: &mut Change, rules: &[RetentionRule]) -> Result<(), ApiError> {
    let tenant = change.tenant.id.clone();
    let holds = store::holds::in_force(change.tx.conn(), &tenant).await?;
    let kind = SettingKind::RetentionPolicy;
    let Some(last) = store::settings::latest(change.tx.conn(), &tenant, kind).await? else {
        return Ok(());
    };
    let last = retention_rules(&last.content).ok_or_else(|| {
        ApiError::internal("the retention policy in force is damaged in the database")
    })?;
    match shortened(&holds, &last, rules) {
        Some(class) => {
            let what = format!("class {class:?} would be kept for less time");
            Err(HoldRefusal::InForce(what).into())
        }
        None => Ok(()),
    }
}

/// Writes a setting and its record.
async fn set<P: Message + Name>(
    api: &Api,
    change: &mut Change,
    kind: SettingKind,
    payload: &P,
) -> Result<EmittedRecord, ApiError> {
    let tenant = change.tenant.id.clone();
    let last = store::settings::latest(change.tx.conn(), &tenant, kind).await?;
    let version = last.map_or(1, |last| last.version + 1);
    let draft = change.draft(payload, format!("{}/{version}", kind.subject()));
    let emitted = api.emit(change, draft).await?;
    let setting = Setting {
        version,
        content: payload.encode_to_vec(),
        record_hash: emitted.record_hash,
    };
    let now_ms = change.now_ms;
    store::settings::insert(change.tx.conn(), &tenant, kind, &setting, now_ms).await?;
    Ok(emitted)
}
