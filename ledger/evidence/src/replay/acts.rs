//! What AI agents decided and started, out of what the log has of campaigns, plans and findings. Nothing is judged here.

use std::collections::{BTreeMap, HashSet};

use super::Blobs;
use super::authority::campaign_sources;
use super::mandates::Moment;
use super::plans;
use super::state::{Meta, Plan, Pos, State, Sym};
use crate::catalogue::{RECORD_TYPES, stream};
use crate::v1::{AgentAutonomy, DecisionAction, FindingState};

/// What an agent did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Put a plan forward.
    Plan,
    /// Started one.
    Start,
    /// Decided something else.
    Decision,
}

impl Kind {
    /// The lowest level that has it.
    pub(super) fn level(self) -> AgentAutonomy {
        match self {
            Self::Plan => AgentAutonomy::Propose,
            Self::Start => AgentAutonomy::ExecuteWithApproval,
            Self::Decision => AgentAutonomy::ExecuteBounded,
        }
    }
}

/// One act of an agent.
#[derive(Debug)]
pub(super) struct Act<'s> {
    pub(super) pos: Pos,
    pub(super) moment: Moment,
    pub(super) kind: Kind,
    pub(super) action: DecisionAction,
    /// "sources/{source}" of all that it is about.
    pub(super) sources: Vec<&'s str>,
    /// Whether these are all of them.
    pub(super) all_sources: bool,
    pub(super) plan: Option<&'s Plan>,
    pub(super) removals: u64,
    /// What it counts as, by its place: what an agent does for a plan, putting it forward and starting it, counts as the plan.
    pub(super) counts_as: Pos,
}

/// What is told as soon as it is done: what has an end before it, long on record, did not come before that end.
#[derive(Debug)]
pub(super) struct AtOnce {
    /// All that authority tells is on the stream on which it tells of ends.
    authority: Option<Sym>,
    /// The changes of findings that are told with a decision, a plan or an accepted risk. Runs tell the others, as of when they began.
    decided: HashSet<Pos>,
}

impl AtOnce {
    pub(super) fn new(state: &State) -> Self {
        let changes = state.finding_changes.iter().filter(|change| {
            matches!(
                change.state,
                FindingState::AcceptedRisk | FindingState::Remediating
            )
        });
        Self {
            authority: state.names.find(stream::AUTHORITY),
            decided: changes.map(|change| change.pos).collect(),
        }
    }

    /// When a record says that something was done.
    pub(super) fn moment(&self, pos: Pos, meta: &Meta) -> Moment {
        let known = RECORD_TYPES.get(usize::from(meta.kind));
        let by_type = known.is_some_and(|known| {
            matches!(
                known.name,
                "CampaignDefined"
                    | "SnapshotSealed"
                    | "ReviewDecided"
                    | "RemediationPlanned"
                    | "RemediationStarted"
                    | "ThresholdResolved"
            )
        });
        Moment {
            at_ms: meta.occurred_ms,
            recorded_ms: meta.recorded_ms,
            at_once: by_type || Some(meta.stream) == self.authority || self.decided.contains(&pos),
        }
    }
}

/// The acts of agents, those of each by time.
pub(super) fn of_agents<'s>(
    state: &'s State,
    agents: &HashSet<Sym>,
    blobs: &dyn Blobs,
) -> BTreeMap<Sym, Vec<Act<'s>>> {
    let at_once = AtOnce::new(state);
    let mut found: BTreeMap<Sym, Vec<Act<'s>>> = BTreeMap::new();
    let mut take = |pos: Pos, build: &mut dyn FnMut(Moment) -> Act<'s>| {
        let meta = state.meta(pos);
        if let Some(meta) = meta.filter(|meta| agents.contains(&meta.actor)) {
            let act = build(at_once.moment(pos, meta));
            found.entry(meta.actor).or_default().push(act);
        }
    };
    for campaign in state.campaigns.values() {
        let records = [
            campaign.defined.as_ref().map(|defined| defined.pos),
            campaign.staged.as_ref().map(|staged| staged.pos),
            campaign.closed.as_ref().map(|closed| closed.pos),
        ];
        let stages = campaign.stages_closed.iter().map(|stage| stage.pos);
        for pos in records.into_iter().flatten().chain(stages) {
            take(pos, &mut |moment| {
                let sources = campaign_sources(state, campaign);
                decision(pos, moment, DecisionAction::Certify, sources)
            });
        }
    }
    for plan in state.plans.values() {
        let mut sources = None;
        for pos in std::iter::once(&plan.pos).chain(&plan.starts) {
            take(*pos, &mut |moment| {
                let known = sources.get_or_insert_with(|| plans::sources(state, plan, blobs));
                let (sources, all_sources) = known.clone();
                Act {
                    pos: *pos,
                    moment,
                    kind: match *pos == plan.pos {
                        true => Kind::Plan,
                        false => Kind::Start,
                    },
                    action: DecisionAction::Remediate,
                    sources,
                    all_sources,
                    plan: Some(plan),
                    removals: plan.record.actions_count,
                    counts_as: plan.pos,
                }
            });
        }
    }
    for change in &state.finding_changes {
        if change.state != FindingState::AcceptedRisk {
            continue;
        }
        take(change.pos, &mut |moment| {
            let at = state.finding_at.get(&change.finding);
            let finding = at.and_then(|at| state.findings.get(*at as usize));
            let source = finding.and_then(|found| state.source_of(found.key.source_tag()));
            let sources = source.map(|source| source.source.as_str());
            let sources = sources.into_iter().collect();
            decision(change.pos, moment, DecisionAction::Except, sources)
        });
    }
    for acts in found.values_mut() {
        acts.sort_by_key(|act| (act.moment.at_ms, act.pos));
    }
    found
}

fn decision(pos: Pos, moment: Moment, action: DecisionAction, sources: Vec<&str>) -> Act<'_> {
    Act {
        pos,
        moment,
        kind: Kind::Decision,
        action,
        sources,
        all_sources: true,
        plan: None,
        removals: 0,
        counts_as: pos,
    }
}
