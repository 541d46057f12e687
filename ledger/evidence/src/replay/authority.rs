//! Who answers, and who may decide.

use super::CLOCK_SKEW_MS;
use super::accesses::is_hired;
use super::check::{Check, Tallies};
pub(super) use super::policies::rules_for;
use super::state::{Meta, Pos, State, Sym};
use super::{places, standing, titles};
use crate::catalogue::RECORD_TYPES;
use crate::v1::{self, Decision, DecisionAction, OrganizationKind, PrincipalKind};

/// Whether two principals are one person: also by the tag of an identity that both have.
pub(super) fn same_person(state: &State, one: Sym, other: Sym) -> bool {
    let tag = |who: Sym| {
        let found = state.principals.get(&who);
        found.map(|found| found.identity_tag.as_slice())
    };
    let known = tag(one).filter(|tag| !tag.is_empty());
    one == other || (known.is_some() && known == tag(other))
}

/// Whether somebody of a kind of principals and of organisations is a human of an organisation of a kind.
fn is_human_of(
    (found, of): (PrincipalKind, OrganizationKind),
    kind: OrganizationKind,
) -> Result<(), &'static str> {
    if found != PrincipalKind::Human {
        return Err("is not a human");
    }
    match kind {
        _ if of == kind => Ok(()),
        OrganizationKind::Customer => Err("is not of the customer organisation"),
        _ => Err("is of another organisation"),
    }
}

/// A principal that is there at a place of the stream of authority, on which principals are registered and ended; or why it is none. The order
/// of the stream tells what came first, also where the clock of one who wrote it was behind that of another. It does not tell more than clocks
/// may differ: an end that is dated back further lets nothing pass that stands before it.
pub(super) fn there<'s>(
    state: &'s State,
    name: &str,
    pos: Pos,
) -> Result<&'s v1::PrincipalRegistered, &'static str> {
    let found = state.credentials.at(name, pos)?;
    let at_ms = state.occurred_ms(pos);
    let known = state.names.find(name);
    let from = known.and_then(|known| state.principals.get(&known));
    if from.is_some_and(|from| from.from_ms > at_ms.saturating_add(CLOCK_SKEW_MS)) {
        return Err("was registered later");
    }
    let end = known.and_then(|known| state.principals_ended.get(&known));
    match end.is_some_and(|end| end.effective_ms.saturating_add(CLOCK_SKEW_MS) < at_ms) {
        true => Err("had ended"),
        false => Ok(found),
    }
}

/// Whether a principal was a human of an organisation of a kind at a place of the stream of authority.
pub(super) fn human_at(
    state: &State,
    principal: Sym,
    kind: OrganizationKind,
    pos: Pos,
) -> Result<(), &'static str> {
    let found = there(state, state.names.text(principal), pos)?;
    is_human_of((found.kind(), found.organization_kind()), kind)
}

/// Whether a principal was a human of a customer organisation at a place of the stream of authority.
pub(super) fn human_of_customer_at(
    state: &State,
    principal: Sym,
    pos: Pos,
) -> Result<(), &'static str> {
    human_at(state, principal, OrganizationKind::Customer, pos)
}

/// Whether a principal was a human of a customer organisation at a moment: for what is on another stream than that of authority.
pub(super) fn human_of_customer(
    state: &State,
    principal: Sym,
    at_ms: i64,
) -> Result<(), &'static str> {
    let Some(found) = state.principals.get(&principal) else {
        return Err("is no registered principal");
    };
    is_human_of(
        (found.kind, found.organization_kind),
        OrganizationKind::Customer,
    )?;
    if found.from_ms > at_ms.saturating_add(CLOCK_SKEW_MS) {
        return Err("was registered later");
    }
    let ended = state.principals_ended.get(&principal);
    if ended.is_some_and(|end| end.effective_ms <= at_ms) {
        return Err("had ended");
    }
    Ok(())
}

/// Judges owners and rights.
pub(super) fn judge(state: &State, tallies: &mut Tallies) {
    owners(state, tallies);
    grantors(state, tallies);
    decisions(state, tallies);
    campaigns(state, tallies);
    remediations(state, tallies);
}

fn owners(state: &State, tallies: &mut Tallies) {
    for (pos, meta) in (0..).zip(&state.metas) {
        let outcome = RECORD_TYPES
            .get(usize::from(meta.kind))
            .is_some_and(|known| known.outcome);
        if !outcome {
            continue;
        }
        tallies.checked(Check::I11);
        if meta.owner.is_empty() {
            tallies.fail(Check::I11, format!("{} names nobody", state.entry(pos)));
        } else if let Err(why) = human_of_customer(state, meta.owner, meta.occurred_ms) {
            let owner = state.names.text(meta.owner);
            tallies.fail(Check::I11, format!("{}: {owner} {why}", state.entry(pos)));
        }
    }
}

/// No right lasts longer than 730 days. Once a tenant is active, its rights are granted by the grantor itself, and what two people grant by the second of them.
fn grantors(state: &State, tallies: &mut Tallies) {
    for (pos, right) in &state.rights {
        let life_ms = right.valid_to_ms.saturating_sub(right.valid_from_ms);
        tallies.expect(Check::I13, life_ms <= titles::RIGHT_MS_MAX, || {
            format!("{} lasts longer than 730 days", state.entry(*pos))
        });
        let active = state.governed.activated();
        if active.is_none_or(|active| active.pos > *pos) || !right.proposal_record_hash.is_empty() {
            continue;
        }
        tallies.checked(Check::I13);
        let actor = state
            .meta(*pos)
            .map_or("", |meta| state.names.text(meta.actor));
        tallies.expect(Check::I13, actor == right.grantor, || {
            let entry = state.entry(*pos);
            format!("{entry}: {actor} grants in the name of {}", right.grantor)
        });
    }
}

/// What a decision must be covered by.
struct Need<'n> {
    pos: Pos,
    action: DecisionAction,
    /// Sources it touches: "sources/{source}".
    sources: &'n [&'n str],
    by: Decider,
    /// Whether it was told as soon as it was decided: then nothing that the log had long before can have come after it. What a
    /// long step tells at its end is of when it began.
    at_once: bool,
    /// Whether it is of all sources, those to come among them. How sensitive these are, nobody can know then: the tier of somebody of
    /// a provider is held to them when the campaign is staged and closed.
    to_come: bool,
}

/// Who may decide something: a registered principal in any case.
#[derive(Clone, Copy)]
enum Decider {
    /// A natural person: items are given to nobody else.
    Human,
    /// A natural person or an AI agent, no service or connector.
    NoService,
    /// Any.
    Any,
}

fn decisions(state: &State, tallies: &mut Tallies) {
    for decided in &state.decisions {
        let action = if decided.decision == Decision::Exception {
            DecisionAction::Except
        } else {
            DecisionAction::Review
        };
        let source = state
            .source_of(decided.key.source_tag())
            .map(|source| source.source.as_str());
        let Some(source) = source else {
            tallies.fail(
                Check::I13,
                format!(
                    "{} is on a grant of no registered source",
                    state.entry(decided.pos)
                ),
            );
            continue;
        };
        let need = Need {
            pos: decided.pos,
            action,
            sources: &[source],
            by: Decider::Human,
            at_once: true,
            to_come: false,
        };
        covered(state, tallies, &need);
    }
}

/// The sources that a campaign reviews.
pub(super) fn campaign_sources<'s>(
    state: &'s State,
    campaign: &'s super::state::Campaign,
) -> Vec<&'s str> {
    let named = campaign
        .defined
        .iter()
        .flat_map(|defined| defined.what.sources.iter().map(String::as_str));
    let named: Vec<&str> = named.collect();
    if !named.is_empty() {
        return named;
    }
    campaign
        .staged
        .as_ref()
        .and_then(|staged| state.snapshot(&staged.what.record.snapshot_record_hash))
        .map(|(_, snapshot)| {
            snapshot
                .sources
                .iter()
                .map(|source| source.source.as_str())
                .collect()
        })
        .unwrap_or_default()
}

/// Whether the service closed a stage by itself, when the review was due.
fn ends_by_rule(state: &State, campaign: &super::state::Campaign, pos: Pos) -> bool {
    let due_ms = campaign
        .defined
        .as_ref()
        .map_or(i64::MAX, |defined| defined.what.due_ms);
    state.meta(pos).is_some_and(|meta| {
        state.names.text(meta.actor) == "services/recertification" && meta.occurred_ms >= due_ms
    })
}

fn campaigns(state: &State, tallies: &mut Tallies) {
    for campaign in state.campaigns.values() {
        let sources = campaign_sources(state, campaign);
        let defined = campaign.defined.as_ref();
        let defined_all = defined.filter(|defined| defined.what.sources.is_empty());
        let defined_all = defined_all.map(|defined| defined.pos);
        let records = [
            defined.map(|defined| defined.pos),
            campaign.staged.as_ref().map(|staged| staged.pos),
            campaign.closed.as_ref().map(|closed| closed.pos),
        ];
        let stages = campaign.stages_closed.iter().map(|stage| stage.pos);
        // A review that is due ends by the rule that its definition states, under the right that the definition cites.
        let stages = stages.filter(|pos| !ends_by_rule(state, campaign, *pos));
        for pos in records.into_iter().flatten().chain(stages) {
            let need = Need {
                pos,
                action: DecisionAction::Certify,
                sources: &sources,
                by: Decider::Any,
                at_once: false,
                to_come: defined_all == Some(pos),
            };
            covered(state, tallies, &need);
        }
    }
}

fn remediations(state: &State, tallies: &mut Tallies) {
    for plan in state.plans.values() {
        let mut tags: Vec<_> = plan
            .actions
            .iter()
            .filter_map(|at| state.actions.get(*at as usize))
            .map(|action| action.key.source_tag())
            .collect();
        tags.sort_unstable();
        tags.dedup();
        let sources: Vec<&str> = tags
            .into_iter()
            .filter_map(|tag| state.source_of(tag))
            .map(|source| source.source.as_str())
            .collect();
        let resolved = plan.resolved.iter().map(|(pos, _)| *pos);
        for pos in std::iter::once(plan.pos).chain(resolved) {
            let need = Need {
                pos,
                action: DecisionAction::Remediate,
                sources: &sources,
                by: Decider::Any,
                at_once: true,
                to_come: false,
            };
            covered(state, tallies, &need);
        }
    }
    for change in &state.finding_changes {
        if change.state == v1::FindingState::AcceptedRisk {
            let finding = state.finding_at.get(&change.finding);
            let finding = finding.and_then(|at| state.findings.get(*at as usize));
            let source = finding.and_then(|found| state.source_of(found.key.source_tag()));
            let source = source.map(|source| source.source.as_str());
            let need = Need {
                pos: change.pos,
                action: DecisionAction::Except,
                sources: source.as_slice(),
                by: Decider::NoService,
                at_once: true,
                to_come: false,
            };
            covered(state, tallies, &need);
        }
    }
}

fn covered(state: &State, tallies: &mut Tallies, need: &Need<'_>) {
    tallies.checked(Check::I13);
    if let Err(why) = right_covers(state, tallies, need) {
        tallies.fail(Check::I13, format!("{}: {why}", state.entry(need.pos)));
    }
}

fn right_covers(state: &State, tallies: &mut Tallies, need: &Need<'_>) -> Result<(), String> {
    let meta = state.meta(need.pos).ok_or("no such entry")?;
    may_decide(state, meta, need)?;
    let cited = state
        .digests
        .get(meta.authority)
        .ok_or("cites no decision right")?;
    let title =
        titles::find(state, cited).ok_or("cites a decision right that was never granted")?;
    if state.names.find(title.holder) != Some(meta.actor) {
        return Err("cites another principal's decision right".to_owned());
    }
    let chain = title.chain(state)?;
    tallies.checked(Check::I16);
    if let Err(why) = titles::names_both(state, meta, &chain) {
        tallies.fail(Check::I16, format!("{} {why}", state.entry(need.pos)));
    }
    for below in &chain {
        below.covers(state, meta, (need.action, need.sources), need.at_once)?;
        // Who passed it on holds it no longer than they are there.
        let holder = state.names.find(below.holder);
        let end = holder.and_then(|holder| state.principals_ended.get(&holder));
        titles::ended(end, meta, need.at_once)
            .map_err(|when| format!("cites a right of {}, who had ended{when}", below.holder))?;
        if need.at_once && holder.is_some_and(|holder| standing::let_go(state, holder, meta)) {
            let holder = below.holder;
            return Err(format!(
                "cites a right of {holder}, who had been let go long before it was on record"
            ));
        }
        // What the actor rests on is judged with their access.
        if need.at_once
            && let Some(holder) = holder.filter(|holder| *holder != meta.actor)
        {
            standing::able(state, holder, need.pos)
                .map_err(|why| format!("cites a right of {}, who had {why}", below.holder))?;
        }
        if let Some(holder) = holder {
            within_reach(state, tallies, need, holder);
        }
    }
    let Some((root, right)) = chain.last().and_then(|root| match root.source {
        titles::Source::Right(right) => Some((root, right)),
        titles::Source::Delegation(_) | titles::Source::Emergency => None,
    }) else {
        return Ok(());
    };
    match state.names.find(&right.grantor) {
        None => Err("cites a right whose grantor is no registered principal".to_owned()),
        Some(grantor) => human_of_customer_at(state, grantor, root.pos)
            .map_err(|why| format!("cites a right whose grantor {why}")),
    }
}

/// Holds somebody of a provider to where the tier of their engagement reaches (I-46).
fn within_reach(state: &State, tallies: &mut Tallies, need: &Need<'_>, holder: Sym) {
    if !is_hired(state, holder) {
        return;
    }
    tallies.checked(Check::I46);
    let mut sources = need.sources.to_vec();
    if need.to_come
        && let Some(meta) = state.meta(need.pos)
    {
        sources.retain(|source| !places::in_force(state, source, meta, need.at_once).is_empty());
    }
    let reaches = standing::reaches(state, (holder, need.pos), &sources, need.at_once);
    if let Err(why) = reaches {
        tallies.fail(Check::I46, format!("{}: {why}", state.entry(need.pos)));
    }
}

/// Whether whoever decided was somebody who may.
fn may_decide(state: &State, meta: &Meta, need: &Need<'_>) -> Result<(), String> {
    let name = state.names.text(meta.actor);
    let Some(decider) = state
        .principals
        .get(&meta.actor)
        .filter(|_| name.starts_with("principals/"))
    else {
        return Err(format!("{name} is no registered principal"));
    };
    if decider.from_ms > meta.occurred_ms.saturating_add(CLOCK_SKEW_MS) {
        return Err(format!("{name} was registered later"));
    }
    titles::ended(state.principals_ended.get(&meta.actor), meta, need.at_once)
        .map_err(|when| format!("{name} had ended{when}"))?;
    let allowed = match need.by {
        Decider::Human => decider.kind == PrincipalKind::Human,
        Decider::NoService => {
            matches!(decider.kind, PrincipalKind::Human | PrincipalKind::AiAgent)
        }
        Decider::Any => true,
    };
    if !allowed {
        return Err(format!(
            "{name} is {:?}, which decides nothing",
            decider.kind
        ));
    }
    Ok(())
}
