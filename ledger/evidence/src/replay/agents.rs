//! What AI agents did: under a mandate in force (I-65), within it (I-66), with the human that it wants (I-67), in nobody's stead where
//! only a human counts (I-68), and never once they were stopped (I-69).

use std::collections::{BTreeMap, HashSet};

use super::Blobs;
use super::acts::{self, Act, AtOnce, Kind};
use super::check::{Check, Tallies};
use super::known::Known;
use super::mandates::{self, Lack, Mandate, Moment};
use super::places;
use super::plans::{first_intent, intents};
use super::starts::newest_start;
use super::state::{Plan, Pos, State, Sym};
use super::volumes::{Done, Share, apart, beyond, within};
use crate::catalogue::RECORD_TYPES;
use crate::v1::{AgentAutonomy, PrincipalKind};

const MINUTE_MS: i64 = 60_000;
/// Authority counts within an hour, before the act; the record tells of the act by another clock, up to minutes later.
const HOUR_MS: i64 = 50 * MINUTE_MS;
/// The same of a day.
const DAY_MS: i64 = (24 * 60 - 10) * MINUTE_MS;

/// Which records may be an agent's, and the least autonomy that has them: what services write in the name of whoever calls what an
/// agent may call (`model/autonomy.txt` of authority). Every other is for humans and services.
const BY_AGENTS: [(&str, AgentAutonomy); 16] = [
    // Somebody of a provider came in, to read.
    ("OperatorAccessUsed", AgentAutonomy::Observe),
    ("SnapshotSealed", AgentAutonomy::Propose),
    ("ReconRunSealed", AgentAutonomy::Propose),
    ("FindingOpened", AgentAutonomy::Propose),
    // Runs and plans change findings; who accepts a risk decides, and is held to that as an act.
    ("FindingDispositioned", AgentAutonomy::Propose),
    ("RemediationPlanned", AgentAutonomy::Propose),
    ("ThresholdTripped", AgentAutonomy::Propose),
    ("RemediationStarted", AgentAutonomy::ExecuteWithApproval),
    ("CampaignDefined", AgentAutonomy::ExecuteBounded),
    ("CampaignStaged", AgentAutonomy::ExecuteBounded),
    ("ReviewItemRouted", AgentAutonomy::ExecuteBounded),
    ("ReviewItemLapsed", AgentAutonomy::ExecuteBounded),
    ("ReviewItemVoided", AgentAutonomy::ExecuteBounded),
    ("ExceptionGranted", AgentAutonomy::ExecuteBounded),
    ("StageClosed", AgentAutonomy::ExecuteBounded),
    ("CampaignClosed", AgentAutonomy::ExecuteBounded),
];

/// What an agent had, in the order in which it was granted.
type Had<'s> = BTreeMap<Sym, Vec<Mandate<'s>>>;

/// Judges what every agent did. A provider's own log tells of none: what its agents do for a customer is in the customer's.
pub(super) fn judge(state: &State, tallies: &mut Tallies, blobs: &dyn Blobs) {
    let principals = state.principals.iter();
    let agents: HashSet<Sym> = principals
        .filter(|(_, found)| found.kind == PrincipalKind::AiAgent)
        .map(|(agent, _)| *agent)
        .collect();
    if agents.is_empty() || state.governed.of_provider() {
        return;
    }
    let had = mandates::of_agents(state);
    // Before there were mandates, agents had none.
    let known = Known::of(state, blobs, "AgentMandateProposed");
    records(state, tallies, (&agents, &had), known);
    for plan in state.plans.values() {
        carried_out(state, tallies, (&agents, &had), plan);
    }
    for (agent, acts) in acts::of_agents(state, &agents, blobs) {
        let had = had.get(&agent).map_or(&[][..], Vec::as_slice);
        let held: Vec<Held<'_, '_>> = acts
            .iter()
            .filter(|act| known.at(state, act.pos))
            .map(|act| Held::of(state, had, act))
            .collect();
        for held in &held {
            within_the_mandate(state, tallies, held);
            let_by_a_human(state, tallies, held);
        }
        volumes(state, tallies, had, &held);
    }
}

fn records(
    state: &State,
    tallies: &mut Tallies,
    (agents, had): (&HashSet<Sym>, &Had<'_>),
    known_from: Known,
) {
    let mut before = 0_u64;
    let at_once = AtOnce::new(state);
    for (pos, meta) in (0..).zip(&state.metas) {
        if !agents.contains(&meta.actor) {
            continue;
        }
        if !known_from.at(state, pos) {
            before += 1;
            continue;
        }
        let entry = || {
            let name = state.names.text(meta.actor);
            format!("{}: {name}", state.entry(pos))
        };
        tallies.checked(Check::I65);
        let moment = at_once.moment(pos, meta);
        let own = had.get(&meta.actor).map_or(&[][..], Vec::as_slice);
        let lack = lack(own, moment);
        let lacks = lack.is_some();
        if let Some(lack) = lack {
            let (check, why) = told(lack);
            tallies.fail(check, format!("{} {why}", entry()));
        }
        tallies.checked(Check::I69);
        tallies.checked(Check::I68);
        let known = RECORD_TYPES.get(usize::from(meta.kind));
        // What a verifier does not know, it does not judge (I-05).
        let Some(known) = known else {
            continue;
        };
        let least = BY_AGENTS.iter().find(|(name, _)| *name == known.name);
        let Some((_, least)) = least else {
            tallies.fail(
                Check::I68,
                format!("{} is an AI agent, and that is for humans", entry()),
            );
            continue;
        };
        let mut in_force = own.iter().filter(|one| one.lack(moment).is_none());
        tallies.expect(
            Check::I66,
            lacks || in_force.any(|one| one.reaches(*least)),
            || format!("{} had a mandate for less than {least:?}", entry()),
        );
    }
    if before > 0 {
        let what = format!("{before} records of AI agents are from before the log knew mandates");
        tallies.skip(Check::I65, what);
    }
}

/// Why none of the mandates was in force for sure: what the newest of those that had begun lacked.
fn lack(had: &[Mandate<'_>], moment: Moment) -> Option<Lack> {
    let mut newest = Lack::NotBegun;
    for mandate in had {
        match mandate.lack(moment)? {
            Lack::NotBegun => {}
            lack => newest = lack,
        }
    }
    Some(newest)
}

/// Under which check a lack is told, and in which words.
fn told(lack: Lack) -> (Check, &'static str) {
    match lack {
        Lack::NotBegun => (Check::I65, "had no mandate then"),
        Lack::Replaced => (Check::I65, "had a mandate that another had replaced"),
        Lack::PersonEnded => (Check::I65, "or the owner of its mandate had ended"),
        Lack::Overdue => (Check::I65, "had a mandate that was not certified in time"),
        Lack::TermOver => (Check::I65, "had a mandate that was over"),
        Lack::Suspended => (Check::I69, "had been suspended"),
        Lack::Revoked => (Check::I69, "had lost its mandate for good"),
    }
}

/// An act, and under which mandates it may have been done.
struct Held<'s, 'm> {
    act: &'m Act<'s>,
    /// Those that may have been in force and cover it; where none covers it, those that may have been in force.
    under: Vec<(usize, &'m Mandate<'s>)>,
    covered: Result<(), String>,
}

impl<'s, 'm> Held<'s, 'm> {
    fn of(state: &'s State, had: &'m [Mandate<'s>], act: &'m Act<'s>) -> Self {
        let in_force = had.iter().enumerate();
        let in_force = in_force.filter(|(_, mandate)| mandate.lack(act.moment).is_none());
        let in_force: Vec<_> = in_force.collect();
        let mut covered = Ok(());
        let mut under = Vec::new();
        for (nth, mandate) in &in_force {
            match covers(state, mandate, act) {
                Ok(()) => under.push((*nth, *mandate)),
                Err(why) => covered = Err(why),
            }
        }
        if under.is_empty() {
            under = in_force;
        } else {
            covered = Ok(());
        }
        Self {
            act,
            under,
            covered,
        }
    }

    /// Whether the agent may have done it without asking anybody.
    fn decides_alone(&self) -> bool {
        let mut under = self.under.iter();
        under.any(|(_, mandate)| mandate.reaches(AgentAutonomy::ExecuteBounded))
    }
}

/// Whether a mandate lets its agent do this there.
fn covers(state: &State, mandate: &Mandate<'_>, act: &Act<'_>) -> Result<(), String> {
    let (id, terms) = (mandate.id, mandate.terms);
    if !mandate.reaches(act.kind.level()) {
        return Err(format!("mandate {id} is for {:?}", terms.autonomy()));
    }
    if !terms.actions.contains(&(act.action as i32)) {
        return Err(format!("mandate {id} is not for {:?}", act.action));
    }
    let everywhere = terms.scope.iter().any(|scope| scope == "*");
    for source in &act.sources {
        if !everywhere && !terms.scope.iter().any(|scope| scope == source) {
            return Err(format!("mandate {id} does not cover {source}"));
        }
    }
    if terms.tiers.is_empty() && terms.environments.is_empty() {
        return Ok(());
    }
    if act.sources.is_empty() && act.all_sources {
        return Err(format!(
            "mandate {id} is for some tiers or environments, and this for no source"
        ));
    }
    let limits = (&terms.tiers[..], &terms.environments[..]);
    let meta = state.meta(act.pos).ok_or("no such entry")?;
    match places::outside(state, meta, &act.sources, limits, act.moment.at_once) {
        Some(source) => Err(format!(
            "mandate {id} is for other tiers or environments than those of {source}"
        )),
        None => Ok(()),
    }
}

fn within_the_mandate(state: &State, tallies: &mut Tallies, held: &Held<'_, '_>) {
    tallies.checked(Check::I66);
    let entry = || state.entry(held.act.pos);
    if let Err(why) = &held.covered {
        tallies.fail(Check::I66, format!("{}: {why}", entry()));
    } else if !held.act.all_sources {
        let what = format!("the actions behind {} are not in the bundle", entry());
        tallies.skip(Check::I66, what);
    }
}

/// What an agent plans waits for a human, and what it starts a human has planned or let go on, unless it decides alone.
fn let_by_a_human(state: &State, tallies: &mut Tallies, held: &Held<'_, '_>) {
    let Some(plan) = held.act.plan else {
        return;
    };
    tallies.checked(Check::I67);
    if held.decides_alone() {
        return;
    }
    let entry = || state.entry(held.act.pos);
    if held.act.kind == Kind::Start {
        let by_human = is_human(state, plan.pos) || let_go(state, plan, held.act.pos);
        tallies.expect(Check::I67, by_human, || {
            format!("{} starts what no human had planned or let", entry())
        });
        return;
    }
    tallies.expect(Check::I67, plan.tripped.is_some(), || {
        format!("{} is an AI agent's, and was not held", entry())
    });
    if let Some(first) = first_intent(state, plan) {
        tallies.expect(Check::I67, let_go(state, plan, first), || {
            format!("{} is an AI agent's, and no human let it", entry())
        });
    }
}

/// Whether a human had let a plan go on before a place of its stream.
fn let_go(state: &State, plan: &Plan, before: Pos) -> bool {
    let mut resolved = plan.resolved.iter();
    resolved.any(|(pos, resume)| *resume && *pos < before && is_human(state, *pos))
}

fn is_human(state: &State, pos: Pos) -> bool {
    let actor = state.meta(pos).map(|meta| meta.actor);
    let found = actor.and_then(|actor| state.principals.get(&actor));
    found.is_some_and(|found| found.kind == PrincipalKind::Human)
}

/// Rate and volume: within the hour and the day over all that the agent did, in all under each mandate.
fn volumes(state: &State, tallies: &mut Tallies, had: &[Mandate<'_>], held: &[Held<'_, '_>]) {
    let done = |amount: fn(&Act<'_>) -> u64| -> Vec<Done> {
        let acts = held.iter().map(|held| Done {
            at_ms: held.act.moment.at_ms,
            amount: amount(held.act),
            of: held.act.counts_as,
        });
        acts.collect()
    };
    let of_hour = within(&done(|_| 1), HOUR_MS);
    let of_day = within(&done(|act| act.removals), DAY_MS);
    let mut touched: BTreeMap<Pos, (u64, Vec<(usize, usize)>)> = BTreeMap::new();
    for ((held, acts), removals) in held.iter().zip(of_hour).zip(of_day) {
        let pos = held.act.pos;
        let (Some((first, _)), Some((last, _))) = (held.under.first(), held.under.last()) else {
            continue;
        };
        let terms = || held.under.iter().map(|(_, mandate)| mandate.terms);
        let acts_max = terms().map(|terms| terms.acts_per_hour_max).max();
        let enough = acts <= acts_max.unwrap_or(0).into();
        tallies.expect(Check::I66, enough, || {
            format!("{} makes it {acts} acts within its hour", state.entry(pos))
        });
        let removals_max = terms().map(|terms| terms.removals_per_day_max).max();
        let enough = held.act.removals == 0 || removals <= removals_max.unwrap_or(0).into();
        tallies.expect(Check::I66, enough, || {
            let entry = state.entry(pos);
            format!("{entry} makes it {removals} removals within its day")
        });
        let own = touched.entry(held.act.counts_as).or_default();
        own.0 = held.act.removals;
        own.1.push((*first, *last));
    }
    in_all(state, tallies, had, touched);
}

/// Under one mandate never more removals than it has for its life; a plan counts once under each under which its agent did something
/// for it.
fn in_all(
    state: &State,
    tallies: &mut Tallies,
    had: &[Mandate<'_>],
    touched: BTreeMap<Pos, (u64, Vec<(usize, usize)>)>,
) {
    let mut shares = Vec::new();
    for (pos, (amount, touched)) in touched {
        for (first, last) in apart(touched) {
            let share = Share {
                first,
                last,
                amount,
            };
            shares.push((pos, share));
        }
    }
    let limits = had.iter().map(|one| one.terms.removals_max.into());
    let amounts: Vec<Share> = shares.iter().map(|(_, share)| *share).collect();
    for place in beyond(limits, &amounts) {
        let pos = shares.get(place).map_or(Pos::MAX, |(pos, _)| *pos);
        let entry = state.entry(pos);
        tallies.fail(
            Check::I66,
            format!("{entry}: more removals than the mandate has for its life"),
        );
    }
}

/// Nothing goes out of what an agent started and nobody took over, once the agent has no mandate.
fn carried_out(
    state: &State,
    tallies: &mut Tallies,
    (agents, had): (&HashSet<Sym>, &Had<'_>),
    plan: &Plan,
) {
    for intent in intents(state, plan) {
        let Some(start) = newest_start(plan, intent).and_then(|start| state.meta(start)) else {
            continue;
        };
        let Some(meta) = state.meta(intent).filter(|_| agents.contains(&start.actor)) else {
            continue;
        };
        tallies.checked(Check::I69);
        let moment = Moment {
            at_ms: meta.occurred_ms,
            recorded_ms: meta.recorded_ms,
            at_once: false,
        };
        let own = had.get(&start.actor).map_or(&[][..], Vec::as_slice);
        if let Some(lack) = lack(own, moment) {
            let (entry, agent) = (state.entry(intent), state.names.text(start.actor));
            let (_, why) = told(lack);
            tallies.fail(
                Check::I69,
                format!("{entry} carries out what {agent} started, which {why}"),
            );
        }
    }
}
