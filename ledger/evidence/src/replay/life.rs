//! The life of a tenant and who answers for its units (I-12, I-17).

use super::authority::{human_at, human_of_customer_at, there};
use super::check::{Check, Tallies};
use super::credentials::of_deployment;
use super::governed::{Setting, of_provider};
use super::state::{At, Pos, State, Sym};
use super::{Blobs, CLOCK_SKEW_MS, holds};
use crate::catalogue::RECORD_TYPES;
use crate::v1::{
    BusinessUnitOwnerSet, DecisionAction, OrganizationKind, TenantLifecycleChanged, TenantState,
};

/// What the activation of a provider's own tenant rests on.
const REQUIRED_OF_PROVIDER: [&str; 1] = ["provider_administrator"];
/// What the activation of a customer's rests on at least.
const REQUIRED: [&str; 7] = [
    "business_unit_owner",
    "decision_rights.review",
    "decision_rights.remediate",
    "decision_rights.certify",
    "escalation_path",
    "retention_policy",
    "policy_bundle",
];

/// Record types by which something new is governed: only while the tenant is active. What is under way may come to its end
/// whatever became of the tenant.
const BEGINNINGS: [&str; 9] = [
    "CampaignDefined",
    "CampaignStaged",
    "ReviewDecided",
    "ExceptionGranted",
    "ReconRunSealed",
    "RemediationPlanned",
    "RemediationStarted",
    "DelegationGranted",
    "EmergencyAccessActivated",
];

/// Record types by which authority lets something new be, on its own stream: only while the tenant is set up or active. Who answers
/// for what can be changed until it is closed, so that nobody who left goes on answering.
const GIVES: [&str; 8] = [
    JOINS,
    "DecisionRightProposed",
    "DecisionRightGranted",
    "PolicyBundlePublished",
    "EngagementApproved",
    "SubcontractorEngaged",
    "EngagementExtended",
    "OperatorAssigned",
];
/// The record type by which somebody comes to be of the tenant: while it leaves, only who is needed to release what is held.
const JOINS: &str = "PrincipalRegistered";
/// The record type that lets somebody in, who may have evidence to take along: until the tenant is closed.
const LETS_IN: &str = "CredentialIssued";

/// Judges states and units.
pub(super) fn judge(state: &State, tallies: &mut Tallies, blobs: &dyn Blobs) {
    let mut before = None;
    for change in &state.governed.life {
        tallies.checked(Check::I17);
        let moved = moves(state, blobs, before, change).and_then(|()| by_whom(state, change));
        if let Err(why) = moved {
            tallies.fail(Check::I17, format!("{} {why}", state.entry(change.pos)));
        }
        before = Some(change.what.to());
    }
    governed_while_active(state, tallies);
    given_while_governed(state, tallies);
    for tenures in state.governed.units.values() {
        units(state, tallies, tenures);
    }
}

fn moves(
    state: &State,
    blobs: &dyn Blobs,
    before: Option<TenantState>,
    change: &At<TenantLifecycleChanged>,
) -> Result<(), String> {
    use TenantState::{Active, Closed, Exiting, Onboarding, Suspended, Unspecified};
    let (from, to) = (change.what.from(), change.what.to());
    if before.unwrap_or(Unspecified) != from {
        return Err("starts from another state than the one before it ended in".to_owned());
    }
    if of_provider(&change.what) != state.governed.of_provider() {
        return Err("is of another kind of tenant than the first one".to_owned());
    }
    match (from, to) {
        (Unspecified, Onboarding) => Ok(()),
        (Onboarding, Active) => gate(state, change),
        (Active, Suspended | Exiting) | (Suspended, Active | Exiting) => {
            match change.what.reason_code.is_empty() {
                true => Err("gives no reason".to_owned()),
                false => Ok(()),
            }
        }
        (Exiting, Closed) => evidence_taken(state, blobs, change),
        _ => Err(format!("goes from {from:?} to {to:?}")),
    }
}

/// Whether a change is by somebody who may move the tenant: whoever runs the deployment makes it, sets it up, pauses it and closes
/// it; it goes on where the deployment paused it, and leaves by a human of its own.
fn by_whom(state: &State, change: &At<TenantLifecycleChanged>) -> Result<(), String> {
    let meta = state.meta(change.pos).ok_or("is not there")?;
    let actor = state.names.text(meta.actor);
    let of_deployment = of_deployment(actor);
    let may = match change.what.to() {
        TenantState::Onboarding => of_deployment,
        TenantState::Exiting => governing_human(state, meta.actor, change.pos).is_ok(),
        TenantState::Active if change.what.from() == TenantState::Suspended => {
            let own = governs(state, meta.actor, change.pos);
            own || (of_deployment && paused_by_deployment(state, change.pos))
        }
        _ => of_deployment || governs(state, meta.actor, change.pos),
    };
    match may {
        true => Ok(()),
        false => Err(format!("is by {actor}, who has no say in it")),
    }
}

/// Whether the newest pause before a place is the deployment's.
fn paused_by_deployment(state: &State, pos: Pos) -> bool {
    let mut before = state.governed.life.iter().filter(|one| one.pos < pos);
    let paused = before.rfind(|one| one.what.to() == TenantState::Suspended);
    let meta = paused.and_then(|paused| state.meta(paused.pos));
    meta.is_some_and(|meta| of_deployment(state.names.text(meta.actor)))
}

/// Of which kind the organisation is that governs the tenant.
pub(super) fn governing_kind(state: &State) -> OrganizationKind {
    match state.governed.of_provider() {
        true => OrganizationKind::Provider,
        false => OrganizationKind::Customer,
    }
}

/// Whether a principal was of the organisation that governs, a machine too, at a place of the stream of authority.
pub(super) fn governs(state: &State, principal: Sym, pos: Pos) -> bool {
    let found = there(state, state.names.text(principal), pos);
    found.is_ok_and(|found| found.organization_kind() == governing_kind(state))
}

/// Whether a principal was a human of the organisation that governs, at a place of the stream of authority.
pub(super) fn governing_human(state: &State, principal: Sym, pos: Pos) -> Result<(), &'static str> {
    human_at(state, principal, governing_kind(state), pos)
}

/// Whether somebody of the tenant took the evidence along while it left: what others took is not in its hands.
fn evidence_taken(
    state: &State,
    blobs: &dyn Blobs,
    change: &At<TenantLifecycleChanged>,
) -> Result<(), String> {
    let mut life = state.governed.life.iter();
    let began = life.rfind(|one| one.what.to() == TenantState::Exiting);
    let cited = state.position(&change.what.evidence_record_hash);
    let pack = cited.and_then(|pos| Some((pos, state.governed.packs.get(&pos)?)));
    let left = |pos: Pos| began.is_some_and(|began| began.pos < pos) && pos < change.pos;
    let Some((pos, pack)) = pack.filter(|(pos, _)| left(*pos)) else {
        return Err("closes a tenant that was given no evidence while it left".to_owned());
    };
    let actor = state.meta(pos).map(|meta| state.names.text(meta.actor));
    if actor != Some(pack.recipient.as_str()) {
        return Err("closes a tenant whose evidence was taken in another's name".to_owned());
    }
    let began_at = u64::from(began.map_or(0, |began| began.pos));
    if pack.tree_size <= began_at || pack.tree_size > u64::from(pos) {
        return Err(
            "closes a tenant on evidence from before it left, or that was not there yet".to_owned(),
        );
    }
    if let Some(root) = blobs.root(pack.tree_size)
        && root != pack.root_hash.as_slice()
    {
        return Err("closes a tenant on evidence that is not of this log".to_owned());
    }
    let recipient = state.names.find(&pack.recipient).unwrap_or_default();
    governing_human(state, recipient, pos).map_err(|why| {
        format!(
            "closes a tenant whose evidence went to {}, who {why}",
            pack.recipient
        )
    })
}

fn gate(state: &State, change: &At<TenantLifecycleChanged>) -> Result<(), String> {
    let results = &change.what.gate_results;
    let required = match state.governed.of_provider() {
        true => &REQUIRED_OF_PROVIDER[..],
        false => &REQUIRED,
    };
    for required in required {
        if !results.iter().any(|result| result.requirement == *required) {
            return Err(format!("rests on no {required}"));
        }
    }
    for result in results {
        let cited = state
            .position(&result.record_hash)
            .filter(|cited| *cited < change.pos);
        let right = |action: DecisionAction| {
            cited
                .and_then(|cited| state.rights.get(&cited))
                .is_some_and(|right| right.action() == action)
        };
        let setting = |kind: Setting| {
            cited.is_some_and(|cited| state.governed.settings.get(&cited) == Some(&kind))
        };
        let good = match result.requirement.as_str() {
            "business_unit_owner" => state
                .governed
                .units
                .values()
                .flatten()
                .any(|unit| Some(unit.pos) == cited),
            "decision_rights.review" => right(DecisionAction::Review),
            "decision_rights.remediate" => right(DecisionAction::Remediate),
            "decision_rights.certify" => right(DecisionAction::Certify),
            "escalation_path" => setting(Setting::EscalationPath),
            "retention_policy" => setting(Setting::RetentionPolicy),
            "policy_bundle" => state
                .policies
                .iter()
                .any(|policy| Some(policy.pos) == cited),
            _ => cited.is_some(),
        };
        if !good {
            return Err(format!(
                "cites for {} what does not show it",
                result.requirement
            ));
        }
    }
    Ok(())
}

fn governed_while_active(state: &State, tallies: &mut Tallies) {
    // From when to when the tenant was active, by its own times, as generously as clocks may differ: services ask for its state
    // and are told by another clock.
    let life = &state.governed.life;
    let mut active: Vec<(i64, i64)> = Vec::new();
    for (at, change) in life
        .iter()
        .enumerate()
        .filter(|(_, change)| change.what.to() == TenantState::Active)
    {
        let next = life.get(at.saturating_add(1));
        let until_ms = next.map_or(i64::MAX, |next| state.occurred_ms(next.pos));
        active.push((
            state.occurred_ms(change.pos).saturating_sub(CLOCK_SKEW_MS),
            until_ms.saturating_add(CLOCK_SKEW_MS),
        ));
    }
    for (pos, meta) in (0..).zip(&state.metas) {
        let known = RECORD_TYPES.get(usize::from(meta.kind));
        if !known.is_some_and(|known| BEGINNINGS.contains(&known.name)) {
            continue;
        }
        tallies.checked(Check::I17);
        let while_active = active
            .iter()
            .any(|(from, to)| (*from..*to).contains(&meta.occurred_ms));
        tallies.expect(Check::I17, while_active, || {
            format!("{} governs a tenant that is not active", state.entry(pos))
        });
        tallies.expect(Check::I17, !state.governed.of_provider(), || {
            format!("{} governs a provider's own tenant", state.entry(pos))
        });
    }
}

/// What authority gives is on its own stream: where its life stood is told by the places of its changes.
fn given_while_governed(state: &State, tallies: &mut Tallies) {
    let mut life = state.governed.life.iter().peekable();
    let mut now = TenantState::Onboarding;
    let mut releasers = None;
    for (pos, meta) in (0..).zip(&state.metas) {
        while let Some(change) = life.next_if(|change| change.pos < pos) {
            now = change.what.to();
        }
        let known = RECORD_TYPES.get(usize::from(meta.kind));
        let name = known.map_or("", |known| known.name);
        let allowed = match name {
            JOINS if now == TenantState::Exiting => releasers
                .get_or_insert_with(|| holds::releasers(state))
                .contains(&pos),
            name if GIVES.contains(&name) => {
                matches!(now, TenantState::Onboarding | TenantState::Active)
            }
            LETS_IN => now != TenantState::Closed,
            _ => continue,
        };
        tallies.checked(Check::I17);
        tallies.expect(Check::I17, allowed, || {
            format!("{} gives while the tenant is {now:?}", state.entry(pos))
        });
    }
}

fn units(state: &State, tallies: &mut Tallies, tenures: &[At<BusinessUnitOwnerSet>]) {
    for (at, tenure) in tenures.iter().enumerate() {
        tallies.checked(Check::I12);
        let next = tenures.get(at.saturating_add(1));
        if let Err(why) = tenure_stands(state, tenure, next) {
            tallies.fail(Check::I12, format!("{} {why}", state.entry(tenure.pos)));
        }
    }
}

fn tenure_stands(
    state: &State,
    tenure: &At<BusinessUnitOwnerSet>,
    next: Option<&At<BusinessUnitOwnerSet>>,
) -> Result<(), String> {
    let from_ms = tenure.what.effective_from_ms;
    let until_ms = next.map_or(i64::MAX, |next| next.what.effective_from_ms);
    if until_ms <= from_ms {
        return Err("and the one after it answer at once".to_owned());
    }
    let until = (next.map(|next| next.pos), until_ms);
    answers(state, &tenure.what.owner, tenure.pos, until)?;
    let active = state.governed.activated();
    let in_force = active.is_some_and(|active| until_ms > state.occurred_ms(active.pos));
    if tenure.what.deputy.is_empty() {
        return match in_force {
            true => Err("leaves a unit of an active tenant without a deputy".to_owned()),
            false => Ok(()),
        };
    }
    if tenure.what.deputy == tenure.what.owner {
        return Err("lets the owner stand in for itself".to_owned());
    }
    answers(state, &tenure.what.deputy, tenure.pos, until)
}

/// Whether somebody may answer, and was there until another did: by the places of their end and of the tenure after theirs. One that
/// is to begin later than was said, beyond what clocks may differ, lets nobody go before.
fn answers(
    state: &State,
    name: &str,
    pos: Pos,
    (next, until_ms): (Option<Pos>, i64),
) -> Result<(), String> {
    let Some(person) = state.names.find(name) else {
        return Err(format!("names {name}, whom nobody registered"));
    };
    human_of_customer_at(state, person, pos).map_err(|why| format!("names {name}, who {why}"))?;
    let end = state.principals_ended.get(&person);
    let gone = end.is_some_and(|end| {
        next.is_none_or(|next| end.pos < next)
            || end.effective_ms.saturating_add(CLOCK_SKEW_MS) < until_ms
    });
    match gone {
        true => Err(format!("leaves {name} to answer, who had ended")),
        false => Ok(()),
    }
}
