//! What each command about mandates of agents does in a tenant, as the service's own functions do it.

use super::{
    command::{HOUR_MS, Nth, PEOPLE},
    command_mandates::{MandateAct, Wish},
    turn::{Done, Turn},
    world::{Refused, not_found, place},
};
use crate::{
    error::{AgentRefusal, Refusal},
    model::{
        credential::{calls_from_elsewhere, has_say, is_machine_for_human},
        emergency::is_human,
        ids::{MandateId, PrincipalId},
        mandate::{End, Grant, Mandate, State, Term, Terms, Wanted, check_new},
        principal::{OrganizationKind, Principal, PrincipalKind, require_accountable},
        right::{DecisionAction, may_approve},
        tenant::TenantKind,
    },
};

const DAY_MS: i64 = 24 * HOUR_MS;
/// Most drafts of a tenant that could still be granted.
const DRAFTS_MAX: usize = 100;

impl Turn<'_> {
    pub(super) fn take_mandate(&mut self, act: &MandateAct) -> Done {
        match act {
            MandateAct::Propose(wish) => self.propose_mandate(wish),
            MandateAct::Grant(nth) => self.grant_mandate(*nth),
            MandateAct::Certify(nth) => self.certify_mandate(*nth),
            MandateAct::Suspend(nth) => self.suspend_mandate(*nth),
            MandateAct::Resume(nth) => self.resume_mandate(*nth),
            MandateAct::Revoke(nth) => self.revoke_mandate(*nth),
            MandateAct::Get(nth) => self.mandate(*nth).map(|_| ()),
            MandateAct::Use {
                agent,
                action,
                act,
                removals,
            } => self.use_mandate(*agent, *action, *act, *removals),
        }
    }

    fn require_human(&self) -> Done {
        match is_human(&self.caller) {
            true => Ok(()),
            false => Err(Refusal::HumanRequired.into()),
        }
    }

    pub(super) fn require_customer_human(&self) -> Done {
        match self.caller.is_active_human_of(OrganizationKind::Customer) {
            true => Ok(()),
            false => Err(Refusal::CallerNotCustomer.into()),
        }
    }

    /// The place of a mandate.
    fn mandate(&self, nth: Nth) -> Result<usize, Refused> {
        place(self.realm.mandates.len(), nth).ok_or_else(not_found)
    }

    fn require_state(&self, at: usize, state: State) -> Done {
        let is = self.realm.mandates[at].state(self.now_ms);
        match is == state {
            true => Ok(()),
            false => Err(AgentRefusal::MandateState(is).into()),
        }
    }

    fn require_agent_and_owner(&self, terms: &Terms) -> Done {
        let agent = self.realm.person(&terms.agent);
        let is_agent = |one: &&Principal| one.is_active() && one.kind == PrincipalKind::AiAgent;
        if agent.filter(is_agent).is_none() {
            return Err(AgentRefusal::AgentRequired.into());
        }
        let owner = require_accountable(self.realm.person(&terms.owner));
        owner.map_err(|reason| {
            let refusal = Refusal::NotAccountable {
                field: "mandate.owner",
                principal: terms.owner.clone(),
                reason,
            };
            refusal.into()
        })
    }

    fn propose_mandate(&mut self, wish: &Wish) -> Done {
        self.require_human()?;
        let terms = self.terms(wish);
        let wanted = Wanted {
            terms: &terms,
            review_interval_days: wish.review_days,
            kill_path: KILL_PATH,
        };
        check_new(&wanted, self.now_ms).map_err(Refusal::from)?;
        self.require_agent_and_owner(&terms)?;
        let mandates = &self.realm.mandates;
        let drafts = mandates
            .iter()
            .filter(|one| one.state(self.now_ms) == State::Draft);
        if drafts.count() >= DRAFTS_MAX {
            return Err(AgentRefusal::TooManyDrafts.into());
        }
        let mandate = Mandate {
            id: MandateId::stored(format!("m{}", mandates.len())),
            terms,
            kill_path: KILL_PATH.to_owned(),
            proposer: self.caller.id.clone(),
            proposal_hash: [0; 32],
            grant: None,
            suspended: false,
            end: None,
        };
        self.realm.mandates.push(mandate);
        self.realm.removals.push(0);
        Ok(())
    }

    fn terms(&self, wish: &Wish) -> Terms {
        let person = |who: usize| PrincipalId::stored(PEOPLE[who].id.to_owned());
        let at_ms = |hours: i64| self.now_ms + hours * HOUR_MS;
        Terms {
            agent: person(wish.agent),
            owner: person(wish.owner),
            autonomy: wish.autonomy,
            actions: wish.actions.clone(),
            scope: wish.scope.clone(),
            tiers: Vec::new(),
            environments: Vec::new(),
            limits: wish.limits,
            model: MODEL.to_owned(),
            build: BUILD.to_owned(),
            term: Term {
                from_ms: wish.term.0.map_or(self.now_ms, at_ms),
                to_ms: at_ms(wish.term.1),
                review_ms: i64::from(wish.review_days) * DAY_MS,
            },
        }
    }

    fn grant_mandate(&mut self, nth: Nth) -> Done {
        self.require_customer_human()?;
        let at = self.mandate(nth)?;
        self.require_state(at, State::Draft)?;
        let mandate = self.realm.mandates[at].clone();
        let [proposer, agent] =
            [&mandate.proposer, &mandate.terms.agent].map(|id| self.realm.person(id));
        if !may_approve(proposer, agent, &self.caller) {
            return Err(Refusal::SecondHumanRequired.into());
        }
        self.require_agent_and_owner(&mandate.terms)?;
        for other in &mut self.realm.mandates {
            let granted = other.grant.is_some() && other.end.is_none();
            if granted && other.terms.agent == mandate.terms.agent {
                other.end = Some(End::Replaced);
            }
        }
        self.realm.mandates[at].grant = Some(Grant {
            grantor: self.caller.id.clone(),
            due_ms: mandate.due_from(self.now_ms),
            record_hash: [0; 32],
        });
        Ok(())
    }

    fn certify_mandate(&mut self, nth: Nth) -> Done {
        self.require_customer_human()?;
        let at = self.mandate(nth)?;
        self.require_state(at, State::Active)?;
        let mandate = &mut self.realm.mandates[at];
        let due_ms = mandate.due_from(self.now_ms);
        if let Some(grant) = &mut mandate.grant {
            grant.due_ms = due_ms;
        }
        Ok(())
    }

    fn suspend_mandate(&mut self, nth: Nth) -> Done {
        self.require_human()?;
        let at = self.mandate(nth)?;
        if self.require_state(at, State::Suspended).is_ok() {
            return Ok(());
        }
        self.require_state(at, State::Active)?;
        self.realm.mandates[at].suspended = true;
        Ok(())
    }

    fn resume_mandate(&mut self, nth: Nth) -> Done {
        self.require_customer_human()?;
        let at = self.mandate(nth)?;
        self.require_state(at, State::Suspended)?;
        self.realm.mandates[at].suspended = false;
        Ok(())
    }

    fn revoke_mandate(&mut self, nth: Nth) -> Done {
        self.require_customer_human()?;
        let at = self.mandate(nth)?;
        let mandate = &mut self.realm.mandates[at];
        let was = mandate.state(self.now_ms);
        if matches!(was, State::Revoked | State::Retired) {
            return Err(AgentRefusal::MandateState(was).into());
        }
        mandate.end = Some(End::Revoked);
        if was != State::Draft {
            let agent = &mandate.terms.agent;
            let who = PEOPLE.iter().position(|one| one.id == agent.as_str());
            self.realm.tokens[who.unwrap_or_default()] = 0;
        }
        Ok(())
    }

    /// What a service asks before it writes down what an agent does.
    fn use_mandate(
        &mut self,
        agent: usize,
        action: DecisionAction,
        act: usize,
        removals: u32,
    ) -> Done {
        let agent = &self.realm.people[agent];
        if agent.kind != PrincipalKind::AiAgent {
            return Err(not_found());
        }
        let id = agent.id.clone();
        let under = self.realm.acts_under(&id, self.now_ms);
        let covers = |at: &usize| self.realm.mandates[*at].terms.actions.contains(&action);
        let at = under.filter(covers).ok_or(AgentRefusal::MandateRequired)?;
        let used = self.realm.used(at, Some(act), self.now_ms);
        if let Some(limit) = used.beyond(self.realm.mandates[at].terms.limits, removals) {
            return Err(AgentRefusal::MandateLimit(limit).into());
        }
        self.realm.count(at, act, removals, self.now_ms);
        Ok(())
    }

    pub(super) fn issue_token(&mut self, who: usize) -> Done {
        let principal = &self.realm.people[who];
        if !principal.is_active() {
            return Err(Refusal::PrincipalEnded.into());
        }
        if calls_from_elsewhere(TenantKind::Customer, principal) {
            return Err(Refusal::TokenOfOwnTenant.into());
        }
        let of_agent = || {
            let granted = self.realm.mandates.iter().filter(|one| one.grant.is_some());
            granted.filter(|one| one.terms.agent == principal.id)
        };
        let revoked = of_agent().any(|one| one.end == Some(End::Revoked));
        if revoked && !of_agent().any(|one| one.end.is_none()) {
            return Err(AgentRefusal::AgentRevoked.into());
        }
        if !has_say(TenantKind::Customer, &self.caller, principal) {
            return Err(Refusal::CallerNotCustomer.into());
        }
        if is_machine_for_human(&self.caller, principal) {
            return Err(Refusal::HumanRequired.into());
        }
        self.realm.tokens[who] += 1;
        Ok(())
    }
}

/// How an agent is stopped where it runs, and of what it is made; nothing is told by these.
pub(super) const KILL_PATH: &str = "stop the container";
pub(super) const MODEL: &str = "model-1";
pub(super) const BUILD: &str = "1.0.0";
