//! By what somebody decides: a right of its own, one that was passed on to it, or access in an emergency (I-13, I-16).

use super::CLOCK_SKEW_MS;
use super::check::{Check, Tallies};
use super::places;
use super::state::{Ending, Meta, Pos, State};
use crate::v1::{self, DecisionAction};

/// Longest life of a delegation, milliseconds: 90 days.
pub(super) const DELEGATION_MS_MAX: i64 = 90 * 86_400_000;
/// Longest life of a right, milliseconds: 730 days.
pub(super) const RIGHT_MS_MAX: i64 = 730 * 86_400_000;
/// Most delegations from a right to who decides under it.
const CHAIN_MAX: usize = 3;

/// What one record gives to one principal.
#[derive(Clone, Copy)]
pub(super) struct Title<'s> {
    pub(super) pos: Pos,
    pub(super) holder: &'s str,
    pub(super) actions: &'s [i32],
    pub(super) scope: &'s [String],
    pub(super) tiers: &'s [String],
    pub(super) environments: &'s [String],
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
    pub(super) ended: Option<&'s Ending>,
    pub(super) source: Source<'s>,
}

/// Where a title comes from.
#[derive(Clone, Copy)]
pub(super) enum Source<'s> {
    /// A human of the customer granted it.
    Right(&'s v1::DecisionRightGranted),
    /// Its holder decides in another's name.
    Delegation(&'s v1::DelegationGranted),
    /// Two humans let it begin.
    Emergency,
}

/// The title that a record with this hash gives.
pub(super) fn find<'s>(state: &'s State, hash: &[u8]) -> Option<Title<'s>> {
    let pos = state.position(hash)?;
    if let Some(right) = state.rights.get(&pos) {
        let id = state.names.find(&right.right);
        return Some(Title {
            pos,
            holder: &right.grantee,
            actions: std::slice::from_ref(&right.action),
            scope: &right.scope,
            tiers: &right.tiers,
            environments: &right.environments,
            from_ms: right.valid_from_ms,
            to_ms: right.valid_to_ms,
            ended: id.and_then(|id| state.rights_revoked.get(&id)),
            source: Source::Right(right),
        });
    }
    let governed = &state.governed;
    if let Some(passed_on) = governed.delegations.get(&pos) {
        let id = state.names.find(&passed_on.delegation);
        return Some(Title {
            pos,
            holder: &passed_on.delegate,
            actions: std::slice::from_ref(&passed_on.action),
            scope: &passed_on.scope,
            tiers: &passed_on.tiers,
            environments: &passed_on.environments,
            from_ms: passed_on.valid_from_ms,
            to_ms: passed_on.valid_to_ms,
            ended: id.and_then(|id| governed.delegations_revoked.get(&id)),
            source: Source::Delegation(passed_on),
        });
    }
    let access = governed.emergencies.get(&pos)?;
    let id = state.names.find(&access.access);
    Some(Title {
        pos,
        holder: &access.requester,
        actions: &access.actions,
        scope: &access.scope,
        tiers: &[],
        environments: &[],
        from_ms: access.valid_from_ms,
        to_ms: access.valid_to_ms,
        ended: id.and_then(|id| governed.emergencies_ended.get(&id)),
        source: Source::Emergency,
    })
}

impl<'s> Title<'s> {
    /// Whether it covers an action on sources at a moment, whoever holds it. `at_once`: as for decisions, what the log had long
    /// before cannot have come after.
    pub(super) fn covers(
        &self,
        state: &State,
        meta: &Meta,
        (action, sources): (DecisionAction, &[&str]),
        at_once: bool,
    ) -> Result<(), String> {
        if !self.actions.contains(&(action as i32)) {
            let held: Vec<_> = self
                .actions
                .iter()
                .map(|held| DecisionAction::try_from(*held).unwrap_or_default())
                .collect();
            return Err(format!("cites a right to {held:?}, {action:?} is needed"));
        }
        let everywhere = self.scope.iter().any(|scope| scope == "*");
        for source in sources {
            if !everywhere && !self.scope.iter().any(|scope| scope == source) {
                return Err(format!("cites a right that does not cover {source}"));
            }
        }
        self.reaches(state, meta, sources, at_once)?;
        let at_ms = meta.occurred_ms;
        if at_ms < self.from_ms || at_ms >= self.to_ms {
            return Err("cites a right that was not valid at that time".to_owned());
        }
        let granted = state.meta(self.pos).ok_or("no such entry")?;
        // Whatever it says of its beginning: nobody can have decided on a right that nobody had granted yet.
        if granted.occurred_ms > at_ms.saturating_add(CLOCK_SKEW_MS)
            || granted.recorded_ms > meta.recorded_ms.saturating_add(CLOCK_SKEW_MS)
        {
            return Err("cites a right that was granted later".to_owned());
        }
        ended(self.ended, meta, at_once)
            .map_err(|when| format!("cites a right that had been revoked{when}"))
    }

    /// Whether it holds in the tiers and environments of all these sources.
    fn reaches(
        &self,
        state: &State,
        meta: &Meta,
        sources: &[&str],
        at_once: bool,
    ) -> Result<(), String> {
        if self.tiers.is_empty() && self.environments.is_empty() {
            return Ok(());
        }
        if sources.is_empty() {
            return Err("cites a right for some tiers or environments for no source".to_owned());
        }
        let limits = (self.tiers, self.environments);
        match places::outside(state, meta, sources, limits, at_once) {
            Some(source) => Err(format!(
                "cites a right for other tiers or environments than those of {source}"
            )),
            None => Ok(()),
        }
    }

    /// The titles from this one down to the right that all rest on, this one first.
    pub(super) fn chain(&self, state: &'s State) -> Result<Vec<Title<'s>>, String> {
        let mut chain = vec![*self];
        while let Some(Source::Delegation(passed_on)) = chain.last().map(|last| last.source) {
            if chain.len() > CHAIN_MAX {
                return Err("was passed on too often".to_owned());
            }
            let below = find(state, &passed_on.source_record_hash)
                .filter(|below| !matches!(below.source, Source::Emergency))
                .ok_or("passes on what was never granted")?;
            if chain.iter().any(|above| above.pos <= below.pos) {
                return Err("passes on what was granted later".to_owned());
            }
            chain.push(below);
        }
        Ok(chain)
    }
}

/// Whether a right or a principal had ended when something was decided: by the decision's own time, or because the log had the end
/// long before it.
pub(super) fn ended(end: Option<&Ending>, meta: &Meta, at_once: bool) -> Result<(), &'static str> {
    let Some(end) = end else {
        return Ok(());
    };
    if end.effective_ms <= meta.occurred_ms {
        return Err("");
    }
    let known_ms = end.effective_ms.max(end.recorded_ms);
    if at_once && known_ms.saturating_add(CLOCK_SKEW_MS) < meta.recorded_ms {
        return Err(" long before it was on record");
    }
    Ok(())
}

/// Whether a decision under a title names those whom its holder acted for, outermost first, and nobody else.
pub(super) fn names_both(state: &State, meta: &Meta, chain: &[Title<'_>]) -> Result<(), String> {
    let delegators = chain.iter().rev().filter_map(|title| match title.source {
        Source::Delegation(passed_on) => Some(passed_on.delegator.as_str()),
        Source::Right(_) | Source::Emergency => None,
    });
    let expected = delegators.collect::<Vec<_>>().join(" ");
    let named = state.names.text(meta.on_behalf_of);
    if named == expected {
        return Ok(());
    }
    Err(format!("was taken for {expected:?} and names {named:?}"))
}

/// Judges every delegation by itself.
pub(super) fn judge(state: &State, tallies: &mut Tallies) {
    for (pos, passed_on) in &state.governed.delegations {
        tallies.checked(Check::I16);
        if let Err(why) = delegation(state, *pos, passed_on) {
            tallies.fail(Check::I16, format!("{} {why}", state.entry(*pos)));
        }
    }
}

fn delegation(state: &State, pos: Pos, passed_on: &v1::DelegationGranted) -> Result<(), String> {
    let meta = state.meta(pos).ok_or("is not there")?;
    if state.names.text(meta.actor) != passed_on.delegator {
        return Err("was not made by its delegator".to_owned());
    }
    if passed_on.delegate == passed_on.delegator {
        return Err("is to the delegator".to_owned());
    }
    let life_ms = passed_on
        .valid_to_ms
        .saturating_sub(passed_on.valid_from_ms);
    if life_ms <= 0 || life_ms > DELEGATION_MS_MAX {
        return Err("lasts no time, or longer than 90 days".to_owned());
    }
    let own = find(state, &meta.hash).ok_or("is not there")?;
    let chain = own.chain(state)?;
    let Some(below) = chain.get(1) else {
        return Err("passes on nothing".to_owned());
    };
    if below.holder != passed_on.delegator {
        return Err("passes on what its delegator does not hold".to_owned());
    }
    if let Source::Delegation(source) = below.source
        && !source.transitive
    {
        return Err("passes on what was not to be passed on".to_owned());
    }
    let circle = |title: &Title<'_>| title.holder == passed_on.delegate;
    if chain.iter().skip(1).any(circle) {
        return Err("comes back to one who has it".to_owned());
    }
    let wider = below.actions != own.actions
        || !within(own.scope, below.scope, |all| {
            all.iter().any(|one| one == "*")
        })
        || !within(own.tiers, below.tiers, <[String]>::is_empty)
        || !within(own.environments, below.environments, <[String]>::is_empty)
        || own.from_ms < below.from_ms
        || own.to_ms > below.to_ms;
    if wider {
        return Err("gives more than its delegator holds".to_owned());
    }
    // All of it is on one stream: its order tells also within a millisecond.
    let over = |end: Option<&Ending>| {
        end.is_some_and(|end| end.pos < pos && end.effective_ms <= meta.occurred_ms)
    };
    if chain.iter().skip(1).any(|title| over(title.ended)) {
        return Err("passes on what had been revoked".to_owned());
    }
    for person in [&passed_on.delegator, &passed_on.delegate] {
        let known = state
            .names
            .find(person)
            .filter(|name| state.principals.contains_key(name));
        let known = known.ok_or_else(|| format!("names {person}, whom nobody registered"))?;
        if over(state.principals_ended.get(&known)) {
            return Err(format!("names {person}, who had ended"));
        }
    }
    Ok(())
}

/// Whether a part is within a whole; `all` tells a list that names everything.
fn within(part: &[String], whole: &[String], all: impl Fn(&[String]) -> bool) -> bool {
    all(whole) || (!all(part) && part.iter().all(|one| whole.contains(one)))
}
