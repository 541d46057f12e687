//! What an agent of the world has: as much as its mandate leaves, and as often.

use std::sync::LazyLock;

use super::world::Realm;
use crate::model::{
    ids::PrincipalId,
    mandate::{Autonomy, Behind, Levels, Mandate, Used},
    principal::{Principal, PrincipalKind},
    right::{DecisionAction, Scope},
};

static LEVELS: LazyLock<Levels> = LazyLock::new(|| Levels::of_table().unwrap());

/// An act of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) agent: PrincipalId,
    /// Its name.
    pub(super) act: usize,
    /// Place of the mandate under which it was asked for the last time, and when that was.
    pub(super) under: usize,
    pub(super) at_ms: i64,
    pub(super) removals: u32,
}

/// What of their roles somebody keeps.
pub(super) enum Left {
    /// They are no agent.
    All,
    /// An agent of this autonomy.
    By(Autonomy),
    /// An agent without a mandate in force.
    Nothing,
}

impl Left {
    pub(super) fn leaves(&self, permission: &str) -> bool {
        match self {
            Self::All => true,
            Self::By(autonomy) => LEVELS.allow(*autonomy, permission),
            Self::Nothing => false,
        }
    }
}

impl Realm {
    /// Who is there behind a mandate.
    pub(super) fn behind(&self, mandate: &Mandate) -> Behind {
        let [owner, agent] = [&mandate.terms.owner, &mandate.terms.agent].map(|id| self.person(id));
        Behind::of(owner, agent)
    }

    /// The places of an agent's mandates that are in force.
    pub(super) fn in_force(&self, agent: &PrincipalId, now_ms: i64) -> Vec<usize> {
        let mandates = self.mandates.iter().enumerate();
        let mandates = mandates.filter(|(_, one)| {
            let behind = self.behind(one);
            one.terms.agent == *agent && one.in_force(behind, now_ms).is_some()
        });
        mandates.map(|(at, _)| at).collect()
    }

    /// The one that an agent acts under.
    pub(super) fn acts_under(&self, agent: &PrincipalId, now_ms: i64) -> Option<usize> {
        self.in_force(agent, now_ms).first().copied()
    }

    /// What of their roles somebody keeps.
    pub(super) fn left(&self, who: &Principal, now_ms: i64) -> Left {
        if who.kind != PrincipalKind::AiAgent {
            return Left::All;
        }
        let mandate = self.acts_under(&who.id, now_ms);
        mandate.map_or(Left::Nothing, |at| {
            Left::By(self.mandates[at].terms.autonomy)
        })
    }

    /// What is left of the scope of something by which somebody may decide so; `None`: nothing.
    pub(super) fn leave(
        &self,
        who: &Principal,
        action: DecisionAction,
        scope: Scope,
        now_ms: i64,
    ) -> Option<Scope> {
        if who.kind != PrincipalKind::AiAgent {
            return Some(scope);
        }
        let terms = &self.mandates[self.acts_under(&who.id, now_ms)?].terms;
        let narrowed = terms.narrow((&scope, &[], &[]))?;
        terms.actions.contains(&action).then_some(narrowed.0)
    }

    /// What the agent of a mandate has done by now, without one act.
    pub(super) fn used(&self, at: usize, act: Option<usize>, now_ms: i64) -> Used {
        let (hour_ago_ms, day_ago_ms) = Used::since(now_ms);
        let agent = &self.mandates[at].terms.agent;
        let of_agent = || self.counted.iter().filter(|one| one.agent == *agent);
        let others = || of_agent().filter(|one| Some(one.act) != act);
        let own = of_agent().find(|one| Some(one.act) == act && one.under == at);
        let of_hour = others().filter(|one| one.at_ms > hour_ago_ms);
        let of_day = others().filter(|one| one.at_ms > day_ago_ms);
        Used {
            acts: of_hour.map(|_| 1).sum(),
            removals_of_day: of_day.map(|one| i64::from(one.removals)).sum(),
            removals: self.removals[at] - own.map_or(0, |one| i64::from(one.removals)),
        }
    }

    /// Counts an act under a mandate, anew if it was counted before.
    pub(super) fn count(&mut self, at: usize, act: usize, removals: u32, now_ms: i64) {
        let used = self.used(at, Some(act), now_ms);
        let agent = self.mandates[at].terms.agent.clone();
        self.counted
            .retain(|one| one.agent != agent || one.act != act);
        self.counted.push(Counted {
            agent,
            act,
            under: at,
            at_ms: now_ms,
            removals,
        });
        self.removals[at] = used.removals + i64::from(removals);
    }
}
