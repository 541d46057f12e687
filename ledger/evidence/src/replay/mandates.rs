//! Mandates of AI agents: what is remembered of them, and when one may have been in force (R74, R77).
//!
//! All that is said of a mandate is on the stream of authority, so its order is that of the log. What an agent does is on other
//! streams: whether a mandate counted for it is told by time, where five minutes either way may or may not have counted, and either is
//! good. What came into the log long after the record that it is to cover never counted for it, and what is told as soon as it is
//! done and comes long after the end of a mandate was on record is of after that end.

use std::collections::{BTreeMap, HashMap};

use super::CLOCK_SKEW_MS;
use super::absorb::Context;
use super::state::{At, Ending, State, Sym};
use crate::catalogue::Payload;
use crate::v1::{self, AgentAutonomy, AgentMandateTerms};

/// What the log says of mandates, in its order.
#[derive(Debug, Default)]
pub(super) struct Mandates(pub(super) Vec<At<Told>>);

/// One record of a mandate.
#[derive(Debug)]
pub(super) enum Told {
    Proposed(v1::AgentMandateProposed),
    Granted(v1::AgentMandateGranted),
    Certified(v1::AgentMandateCertified),
    Suspended(v1::AgentSuspended),
    Resumed(v1::AgentResumed),
    Revoked(v1::AgentRevoked),
}

/// Takes a record of a mandate in; gives back what is none.
pub(super) fn absorb(
    state: &mut State,
    context: &Context<'_>,
    payload: Payload,
) -> Option<Payload> {
    let what = match payload {
        Payload::AgentMandateProposed(what) => Told::Proposed(what),
        Payload::AgentMandateGranted(what) => Told::Granted(what),
        Payload::AgentMandateCertified(what) => Told::Certified(what),
        Payload::AgentSuspended(what) => Told::Suspended(what),
        Payload::AgentResumed(what) => Told::Resumed(what),
        Payload::AgentRevoked(what) => Told::Revoked(what),
        other => return Some(other),
    };
    let pos = context.pos;
    state.governed.mandates.0.push(At { pos, what });
    None
}

/// Why a mandate gives nothing at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    NotBegun,
    Suspended,
    Revoked,
    Replaced,
    PersonEnded,
    Overdue,
    TermOver,
}

/// When a record says that something was done, and when the log had it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) at_ms: i64,
    pub(super) recorded_ms: i64,
    /// Whether it was told as soon as it was done.
    pub(super) at_once: bool,
}

/// The end of a stretch of time.
#[derive(Debug, Clone, Copy)]
struct End {
    at_ms: i64,
    /// When the log had it; `None`: the clock alone ends it.
    recorded_ms: Option<i64>,
}

impl End {
    fn by_clock(at_ms: i64) -> Self {
        Self {
            at_ms,
            recorded_ms: None,
        }
    }

    /// Whether it had passed for sure.
    fn has_passed(&self, moment: Moment) -> bool {
        let long_known = |recorded_ms: i64| {
            let known_ms = self.at_ms.max(recorded_ms);
            known_ms.saturating_add(CLOCK_SKEW_MS) < moment.recorded_ms
        };
        self.at_ms.saturating_add(CLOCK_SKEW_MS) < moment.at_ms
            || (moment.at_once && self.recorded_ms.is_some_and(long_known))
    }
}

/// A stretch of time in which something held.
#[derive(Debug)]
struct Span {
    from_ms: i64,
    from_recorded_ms: i64,
    to: Option<End>,
}

impl Span {
    /// Whether it may have begun: by the time that was said, and by that of the log.
    fn may_have_begun(&self, moment: Moment) -> bool {
        self.from_ms <= moment.at_ms.saturating_add(CLOCK_SKEW_MS)
            && self.from_recorded_ms <= moment.recorded_ms.saturating_add(CLOCK_SKEW_MS)
    }

    fn may_hold(&self, moment: Moment) -> bool {
        self.may_have_begun(moment) && self.to.is_none_or(|to| !to.has_passed(moment))
    }
}

/// A mandate that was granted.
#[derive(Debug)]
pub(super) struct Mandate<'s> {
    pub(super) id: &'s str,
    pub(super) terms: &'s AgentMandateTerms,
    /// From grant or resumption to whatever stopped the agent, and why.
    phases: Vec<(Span, Lack)>,
    /// From grant or certification until it was due.
    certified: Vec<Span>,
    /// The ends of the agent and of its owner.
    persons: Vec<End>,
    /// Whether it can be resumed no more.
    over: bool,
}

impl<'s> Mandate<'s> {
    fn granted(at: (i64, i64), granted: &'s v1::AgentMandateGranted) -> Option<Self> {
        let terms = granted.terms.as_ref()?;
        let (at_ms, recorded_ms) = at;
        let mut new = Self {
            id: &granted.mandate,
            terms,
            phases: Vec::new(),
            certified: Vec::new(),
            persons: Vec::new(),
            over: false,
        };
        new.goes_on(terms.valid_from_ms.max(at_ms), recorded_ms);
        new.is_certified(at, i64::MAX);
        Some(new)
    }

    fn goes_on(&mut self, from_ms: i64, from_recorded_ms: i64) {
        let span = Span {
            from_ms,
            from_recorded_ms,
            to: None,
        };
        // Why it ends stands there once it does.
        self.phases.push((span, Lack::NotBegun));
    }

    /// Whether nobody has stopped it.
    fn runs(&self) -> bool {
        self.phases
            .last()
            .is_some_and(|(last, _)| last.to.is_none())
    }

    fn stops(&mut self, (at_ms, recorded_ms): (i64, i64), why: Lack) {
        self.over |= why != Lack::Suspended;
        if let Some((last, end)) = self.phases.last_mut().filter(|(last, _)| last.to.is_none()) {
            *end = why;
            last.to = Some(End {
                at_ms,
                recorded_ms: Some(recorded_ms),
            });
        }
    }

    /// It is due when was said, and at the latest an interval after that was said.
    fn is_certified(&mut self, (from_ms, from_recorded_ms): (i64, i64), due_ms: i64) {
        let latest_ms = from_ms.saturating_add(self.terms.review_interval_ms);
        let due_ms = due_ms.min(latest_ms);
        // Certified for a shorter time than before, it is due when that is over.
        if let Some(before) = self.certified.last_mut() {
            let earlier_ms = due_ms.max(from_ms);
            before.to = before.to.map(|to| End::by_clock(to.at_ms.min(earlier_ms)));
        }
        self.certified.push(Span {
            from_ms,
            from_recorded_ms,
            to: Some(End::by_clock(due_ms)),
        });
    }

    /// Why it gave nothing for sure; `None`: it may have been in force.
    pub(super) fn lack(&self, moment: Moment) -> Option<Lack> {
        if !self.phases.iter().any(|(phase, _)| phase.may_hold(moment)) {
            let mut begun = self.phases.iter().rev();
            let last = begun.find(|(phase, _)| phase.may_have_begun(moment));
            return Some(last.map_or(Lack::NotBegun, |(_, why)| *why));
        }
        if self.persons.iter().any(|end| end.has_passed(moment)) {
            return Some(Lack::PersonEnded);
        }
        if End::by_clock(self.terms.valid_to_ms).has_passed(moment) {
            return Some(Lack::TermOver);
        }
        let certified = self.certified.iter().any(|one| one.may_hold(moment));
        (!certified).then_some(Lack::Overdue)
    }

    /// Whether it has all that a level has.
    pub(super) fn reaches(&self, level: AgentAutonomy) -> bool {
        self.terms.autonomy() >= level
    }
}

/// The mandates of each agent, in the order in which they were granted: one ends the one before it.
pub(super) fn of_agents(state: &State) -> BTreeMap<Sym, Vec<Mandate<'_>>> {
    let mut found: BTreeMap<Sym, Vec<Mandate<'_>>> = BTreeMap::new();
    let mut known: HashMap<&str, (Sym, usize)> = HashMap::new();
    for told in &state.governed.mandates.0 {
        let at = (state.occurred_ms(told.pos), state.recorded_ms(told.pos));
        let id = match &told.what {
            Told::Proposed(_) => continue,
            Told::Granted(granted) => {
                let of = granted.terms.as_ref().map(|terms| terms.agent.as_str());
                let agent = of.and_then(|agent| state.names.find(agent));
                let new = Mandate::granted(at, granted);
                let (Some(agent), Some(mut new)) = (agent, new) else {
                    continue;
                };
                let own = found.entry(agent).or_default();
                // A mandate that is granted again is told with the grant.
                if known.contains_key(new.id) {
                    continue;
                }
                if let Some(before) = own.last_mut() {
                    before.stops(at, Lack::Replaced);
                }
                new.persons = persons(state, new.terms);
                known.insert(new.id, (agent, own.len()));
                own.push(new);
                continue;
            }
            Told::Certified(one) => &one.mandate,
            Told::Suspended(one) => &one.mandate,
            Told::Resumed(one) => &one.mandate,
            Told::Revoked(one) => &one.mandate,
        };
        let place = known.get(id.as_str());
        let own = place.and_then(|(agent, nth)| found.get_mut(agent)?.get_mut(*nth));
        let Some(own) = own else {
            continue;
        };
        match &told.what {
            Told::Certified(one) => own.is_certified(at, one.due_ms),
            Told::Suspended(_) => own.stops(at, Lack::Suspended),
            Told::Resumed(_) if !own.over && !own.runs() => {
                // Let go on before it begins, it begins no earlier for that.
                own.goes_on(own.terms.valid_from_ms.max(at.0), at.1);
            }
            Told::Revoked(_) => own.stops(at, Lack::Revoked),
            Told::Proposed(_) | Told::Granted(_) | Told::Resumed(_) => {}
        }
    }
    found
}

fn persons(state: &State, terms: &AgentMandateTerms) -> Vec<End> {
    let ended = |name: &String| -> Option<&Ending> {
        let person = state.names.find(name)?;
        state.principals_ended.get(&person)
    };
    let named = [&terms.agent, &terms.owner].into_iter().filter_map(ended);
    named
        .map(|end| End {
            at_ms: end.effective_ms,
            recorded_ms: Some(end.recorded_ms),
        })
        .collect()
}
