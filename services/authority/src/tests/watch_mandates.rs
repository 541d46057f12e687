//! What must never happen with mandates of agents, told from nothing but what was asked and what was answered: whom it finds acting,
//! and how often, it counts for itself.

use super::{
    command::{Act, HOUR_MS, Nth, PEOPLE},
    command_mandates::{MandateAct, Wish, agents},
    watch::{DAY_MS, Known, ensure, is_another, is_human, of_customer, within},
    world::{Realm, covers, place},
};
use crate::model::{
    ids::PrincipalId,
    mandate::Autonomy,
    principal::{OrganizationKind, PrincipalKind},
    right::{DecisionAction, Scope},
    tenant::TenantState,
};

/// A mandate that was asked for and accepted.
#[derive(Debug, Clone)]
struct Mandated {
    by: usize,
    said: Wish,
    /// From and to.
    term: (i64, i64),
    /// When it was granted or certified.
    looked_at_ms: Option<i64>,
    stopped: bool,
    /// Taken back, or replaced.
    over: bool,
}

/// An act of an agent, when it was first let.
#[derive(Debug, Clone)]
struct Done {
    agent: usize,
    act: usize,
    at_ms: i64,
    removals: u32,
    under: usize,
}

/// What is known of the agents of a tenant.
#[derive(Debug, Clone, Default)]
pub(super) struct Agents {
    mandates: Vec<Mandated>,
    done: Vec<Done>,
    /// Whose tokens are all gone.
    tokenless: [bool; PEOPLE.len()],
}

impl Mandated {
    /// When it must have been looked at again.
    fn due_ms(&self) -> Option<i64> {
        let every_ms = i64::from(self.said.review_days) * DAY_MS;
        Some(self.looked_at_ms? + every_ms)
    }

    /// Whether it was granted, and neither taken back nor replaced nor over.
    fn is_granted(&self, now_ms: i64) -> bool {
        self.looked_at_ms.is_some() && !self.over && now_ms < self.term.1
    }

    /// Why it gives nothing.
    fn gives(&self, gone: &[bool], now_ms: i64) -> Result<(), String> {
        let due_ms = self.due_ms().ok_or("nobody granted the mandate")?;
        ensure(!self.over, "the mandate was taken back, or replaced")?;
        ensure(!self.stopped, "the agent was stopped")?;
        let (from_ms, to_ms) = self.term;
        ensure(from_ms <= now_ms, "the mandate is to come")?;
        ensure(now_ms < to_ms, "the mandate is over")?;
        ensure(now_ms < due_ms, "nobody has looked at the agent in time")?;
        let (agent, owner) = (self.said.agent, self.said.owner);
        ensure(!gone[owner], "nobody answers for the agent")?;
        ensure(!gone[agent], "the agent has ended")
    }
}

/// How far an agent must go to decide so; `None`: none does.
fn needed_to_decide(action: DecisionAction) -> Option<&'static [Autonomy]> {
    use Autonomy::{ExecuteBounded, ExecuteWithApproval, Propose};
    match action {
        DecisionAction::Remediate => Some(&[Propose, ExecuteWithApproval, ExecuteBounded]),
        DecisionAction::Except => Some(&[ExecuteBounded]),
        _ => None,
    }
}

fn is_agent(who: usize) -> bool {
    PEOPLE[who].kind == PrincipalKind::AiAgent
}

impl Known {
    /// The place of the mandate that an agent acts under.
    fn mandate_of(&self, agent: usize, now_ms: i64) -> Result<usize, String> {
        let mandates = self.agents.mandates.iter().enumerate();
        let own = mandates.filter(|(_, one)| one.said.agent == agent);
        let mut why = "there is no mandate".to_owned();
        for (at, one) in own {
            match one.gives(&self.gone, now_ms) {
                Ok(()) => return Ok(at),
                Err(wrong) => why = wrong,
            }
        }
        Err(why)
    }

    /// Whether whoever calls may: with a token that counts, and an agent only what its mandate leaves.
    pub(super) fn let_in(&self, who: usize, act: &Act, now_ms: i64) -> Result<(), String> {
        let tokenless = self.agents.tokenless[who];
        ensure(!tokenless, "somebody whose tokens are gone was let in")?;
        if !is_agent(who) {
            return Ok(());
        }
        let under = self.mandate_of(who, now_ms);
        let under = under.map_err(|why| format!("an agent was let in: {why}"))?;
        let said = &self.agents.mandates[under].said;
        match act {
            // Every level reads.
            Act::Mandate(MandateAct::Get(_)) => Ok(()),
            Act::Decide(action, source) => {
                let needed = needed_to_decide(*action).ok_or("an agent decided on a review")?;
                let far = needed.contains(&said.autonomy);
                ensure(far, "an agent decided that does not go that far")?;
                let lets = said.actions.contains(action) && covers(&said.scope, source);
                ensure(lets, "an agent decided beyond its mandate")
            }
            _ => Err("an agent governs".to_owned()),
        }
    }

    /// Whether somebody may decide so there, if they are an agent.
    pub(super) fn is_mandated(
        &self,
        (who, action): (usize, DecisionAction),
        scope: &Scope,
        now_ms: i64,
    ) -> Result<(), String> {
        if !is_agent(who) {
            return Ok(());
        }
        let said = &self.agents.mandates[self.mandate_of(who, now_ms)?].said;
        ensure(
            said.actions.contains(&action),
            "the mandate does not say so",
        )?;
        ensure(within(scope, &said.scope), "wider than the mandate")
    }

    /// Looks at the mandates that are in force in a tenant.
    pub(super) fn look_at_mandates(&self, realm: &Realm, now_ms: i64) -> Result<(), String> {
        for agent in agents().filter(|agent| !self.gone[*agent]) {
            let let_in = realm.identify(agent, now_ms).is_some();
            let tokenless = self.agents.tokenless[agent];
            ensure(!let_in || !tokenless, "a token outlived the mandate")?;
            let id = PrincipalId::stored(PEOPLE[agent].id.to_owned());
            let in_force = realm.in_force(&id, now_ms);
            let known = self.mandate_of(agent, now_ms);
            match (&in_force[..], &known) {
                ([], Err(_)) => {}
                ([one], Ok(known)) if one == known => {}
                (several, _) => {
                    return Err(format!(
                        "{} acts under {several:?}: known is {known:?}",
                        PEOPLE[agent].id
                    ));
                }
            }
        }
        Ok(())
    }

    /// Checks what was accepted against what was before, and remembers it.
    pub(super) fn note_mandate(
        &mut self,
        (who, now_ms): (usize, i64),
        act: &MandateAct,
    ) -> Result<(), String> {
        match act {
            MandateAct::Propose(wish) => self.note_proposed((who, now_ms), wish),
            MandateAct::Grant(nth) => self.note_granted((who, now_ms), *nth),
            MandateAct::Certify(nth) => {
                ensure(answers(who), "no human of the customer looked at an agent")?;
                let one = self.mandate(*nth)?;
                let active = one.is_granted(now_ms) && !one.stopped;
                ensure(active, "what is not active was certified")?;
                one.looked_at_ms = Some(now_ms);
                Ok(())
            }
            MandateAct::Suspend(nth) => {
                ensure(is_human(who), "a machine stopped an agent")?;
                let one = self.mandate(*nth)?;
                ensure(one.is_granted(now_ms), "what is not active was stopped")?;
                one.stopped = true;
                Ok(())
            }
            MandateAct::Resume(nth) => {
                ensure(answers(who), "no human of the customer let an agent go on")?;
                let one = self.mandate(*nth)?;
                let stopped = one.is_granted(now_ms) && one.stopped;
                ensure(stopped, "what was not stopped goes on")?;
                one.stopped = false;
                Ok(())
            }
            MandateAct::Revoke(nth) => self.note_revoked((who, now_ms), *nth),
            MandateAct::Get(nth) => self.mandate(*nth).map(|_| ()),
            MandateAct::Use {
                agent,
                action,
                act,
                removals,
            } => self.note_use((*agent, now_ms), *action, (*act, *removals)),
        }
    }

    fn mandate(&mut self, nth: Nth) -> Result<&mut Mandated, String> {
        let at = place(self.agents.mandates.len(), nth).ok_or("there is no mandate")?;
        Ok(&mut self.agents.mandates[at])
    }

    fn note_proposed(&mut self, (who, now_ms): (usize, i64), wish: &Wish) -> Result<(), String> {
        ensure(is_human(who), "a machine put a mandate forward")?;
        let hours = |hours: i64| now_ms + hours * HOUR_MS;
        let term = (wish.term.0.map_or(now_ms, hours), hours(wish.term.1));
        ensure(term.1 - term.0 <= 365 * DAY_MS, "the mandate is too long")?;
        let days = (1..=90).contains(&wish.review_days);
        ensure(days, "nobody would look at the agent for too long")?;
        let limits = wish.limits;
        let limited = limits.acts_per_hour <= 10_000
            && limits.removals_per_day <= 1_000_000
            && limits.removals <= 1_000_000_000;
        ensure(limited, "the mandate has no limits")?;
        let reviews = wish.actions.contains(&DecisionAction::Review);
        ensure(!reviews, "a mandate lets review")?;
        let decides = wish.autonomy != Autonomy::Observe || wish.actions.is_empty();
        ensure(decides, "what only reads decides")?;
        ensure(
            wish.autonomy != Autonomy::Unspecified,
            "nobody said how far the agent goes",
        )?;
        self.agents.mandates.push(Mandated {
            by: who,
            said: wish.clone(),
            term,
            looked_at_ms: None,
            stopped: false,
            over: false,
        });
        self.require_parties(wish)
    }

    /// An agent that is there, and a human of the customer who is there and answers for it.
    fn require_parties(&self, said: &Wish) -> Result<(), String> {
        let agent = is_agent(said.agent) && !self.gone[said.agent];
        ensure(agent, "a mandate was given to what is no agent")?;
        let owner = answers(said.owner) && !self.gone[said.owner];
        ensure(owner, "nobody of the customer answers for an agent")
    }

    fn note_granted(&mut self, (who, now_ms): (usize, i64), nth: Nth) -> Result<(), String> {
        let one = self.mandate(nth)?.clone();
        let other = is_another(who, one.by);
        ensure(other, "who put a mandate forward granted it")?;
        let own = !is_another(who, one.said.agent);
        ensure(!own, "an agent granted its own mandate")?;
        ensure(answers(who), "no human of the customer granted a mandate")?;
        let waits = one.looked_at_ms.is_none() && !one.over && now_ms < one.term.1;
        ensure(waits, "what did not wait was granted")?;
        self.require_parties(&one.said)?;
        for other in &mut self.agents.mandates {
            // What waits beside it, can still be granted.
            other.over |= other.said.agent == one.said.agent && other.looked_at_ms.is_some();
        }
        self.mandate(nth)?.looked_at_ms = Some(now_ms);
        Ok(())
    }

    fn note_revoked(&mut self, (who, now_ms): (usize, i64), nth: Nth) -> Result<(), String> {
        ensure(answers(who), "no human of the customer took a mandate back")?;
        let one = self.mandate(nth)?;
        let there = !one.over && now_ms < one.term.1;
        ensure(there, "what was over was taken back")?;
        one.over = true;
        let (agent, granted) = (one.said.agent, one.looked_at_ms.is_some());
        self.agents.tokenless[agent] |= granted;
        Ok(())
    }

    /// Somebody was given a token.
    pub(super) fn note_token(&mut self, by: usize, to: usize) -> Result<(), String> {
        ensure(!self.gone[to], "somebody who has ended was given a token")?;
        let person = PEOPLE[to];
        let hired = person.of == OrganizationKind::Provider;
        ensure(!hired, "a provider was given a token of the customer")?;
        let own = of_customer(by) || PEOPLE[by].of == person.of;
        ensure(own, "another organisation gave a token")?;
        self.agents.tokenless[to] = false;
        Ok(())
    }

    /// An agent is let do something: counted here by what was let before, whatever the tenant itself has counted.
    fn note_use(
        &mut self,
        (agent, now_ms): (usize, i64),
        action: DecisionAction,
        (act, removals): (usize, u32),
    ) -> Result<(), String> {
        ensure(is_agent(agent), "who is no agent was counted")?;
        let under = self.mandate_of(agent, now_ms);
        let under = under.map_err(|why| format!("an agent acts: {why}"))?;
        let said = self.agents.mandates[under].said.clone();
        let lets = said.actions.contains(&action);
        ensure(lets, "an agent acts beyond its mandate")?;
        let done = &mut self.agents.done;
        // The same act once more is no other one, and is done now.
        done.retain(|one| (one.agent, one.act) != (agent, act));
        done.push(Done {
            agent,
            act,
            at_ms: now_ms,
            removals,
            under,
        });
        let own = |one: &&Done| one.agent == agent;
        let within_ms = |ms: i64| move |one: &&Done| one.at_ms > now_ms - ms;
        let sum = |one: &Done| i64::from(one.removals);
        let limits = said.limits;
        let acts = done.iter().filter(own).filter(within_ms(HOUR_MS)).count();
        ensure(
            acts <= usize::try_from(limits.acts_per_hour).unwrap(),
            "an agent acts more often than it may in an hour",
        )?;
        if removals == 0 {
            return Ok(());
        }
        let of_day = done.iter().filter(own).filter(within_ms(DAY_MS));
        ensure(
            of_day.map(sum).sum::<i64>() <= limits.removals_per_day.into(),
            "an agent removes more than it may in a day",
        )?;
        let in_all = done.iter().filter(|one| one.under == under);
        ensure(
            in_all.map(sum).sum::<i64>() <= limits.removals.into(),
            "an agent removes more than its mandate says",
        )
    }

    /// Whether something about a mandate may be asked while the tenant is in this state.
    pub(super) fn stage_of_mandate(&self, act: &MandateAct) -> bool {
        use TenantState::{Active, Exiting, Suspended};
        match act {
            // What a tenant that stands still or leaves does itself, is judged where it decides.
            MandateAct::Use { .. } => true,
            MandateAct::Get(_) | MandateAct::Suspend(_) | MandateAct::Revoke(_) => {
                [Active, Suspended, Exiting].contains(&self.state)
            }
            _ => self.state == Active,
        }
    }
}

/// Whether somebody can answer for something: a human of the customer.
fn answers(who: usize) -> bool {
    of_customer(who) && is_human(who)
}
