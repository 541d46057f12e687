//! Where sources lie: who said so, and what counted when something was decided there (I-13, I-46).
//!
//! Places and decisions are on streams of different services, so which place counted is told by the log as far as it can tell: what
//! was said within the clocks' skew of a decision may or may not have counted for it, and either is good.

use std::collections::{BTreeMap, HashSet};

use super::CLOCK_SKEW_MS;
use super::accesses::is_hired;
use super::check::{Check, Tallies};
use super::state::{At, Meta, Pos, State};
use crate::place::{Place, is_code};
use crate::v1::{self, OrganizationKind};

/// What was said of sources, by "sources/{source}", in order of the log.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<String, Vec<At<v1::ObjectClassified>>>);

impl Places {
    /// A source is registered. Again, it stays where it was: that is for a classification to change.
    pub(super) fn register(&mut self, pos: Pos, registered: &v1::SourceRegistered) {
        let known = self.0.entry(registered.source.clone()).or_default();
        if known.is_empty() {
            let what = v1::ObjectClassified {
                object: registered.source.clone(),
                environment: registered.environment.clone(),
                tier: registered.tier.clone(),
            };
            known.push(At { pos, what });
        }
    }

    /// Something is said anew.
    pub(super) fn classify(&mut self, pos: Pos, what: v1::ObjectClassified) {
        let known = self.0.entry(what.object.clone()).or_default();
        known.push(At { pos, what });
    }
}

/// Judges who said where sources lie: the customer, of sources that there are (I-46).
pub(super) fn judge(state: &State, tallies: &mut Tallies) {
    // A provider's own tenant has no customer, and nothing is decided there under an engagement.
    if state.governed.of_provider() {
        return;
    }
    registered_once(state, tallies);
    for said in state.places.0.values() {
        for (nth, one) in said.iter().enumerate() {
            let what = &one.what;
            let mut sources = state.sources.iter();
            let known =
                sources.any(|source| source.pos <= one.pos && source.what.source == what.object);
            // A registration need not say where the source is; what comes before it must not stand in for it.
            if nth == 0 && known && what.environment.is_empty() && what.tier.is_empty() {
                // But then it is in "default", which every tier reaches: not for a provider to choose.
                let hired = state
                    .meta(one.pos)
                    .is_some_and(|meta| is_hired(state, meta.actor));
                tallies.expect(Check::I46, !hired, || {
                    format!(
                        "{} of {} is by a provider",
                        state.entry(one.pos),
                        what.object
                    )
                });
                continue;
            }
            tallies.checked(Check::I46);
            let mut expect = |holds: bool, why: &str| {
                tallies.expect(Check::I46, holds, || {
                    format!("{} of {} {why}", state.entry(one.pos), what.object)
                });
            };
            expect(known, "is of a source that was not registered");
            let codes = [&what.environment, &what.tier];
            let codes = codes.iter().all(|code| code.is_empty() || is_code(code));
            expect(codes, "has an environment or a tier that is no code");
            expect(by_the_customer(state, one.pos), "is not by the customer");
        }
    }
}

/// Only the first registration of a source says where it is: another would be somebody's word that does not count.
fn registered_once(state: &State, tallies: &mut Tallies) {
    let mut names = HashSet::new();
    for source in &state.sources {
        let new = names.insert(&source.what.source);
        tallies.expect(Check::I46, new, || {
            let name = &source.what.source;
            format!("{} registers {name} again", state.entry(source.pos))
        });
    }
}

/// Whether a record is by somebody of the customer: a human, or one of its systems.
fn by_the_customer(state: &State, pos: Pos) -> bool {
    let Some(meta) = state.meta(pos) else {
        return false;
    };
    let found = state.principals.get(&meta.actor);
    let own = found.is_some_and(|found| {
        found.organization_kind == OrganizationKind::Customer
            && found.from_ms <= meta.occurred_ms.saturating_add(CLOCK_SKEW_MS)
    });
    // Authority ends principals beside what inventory writes for them.
    let ended = state.principals_ended.get(&meta.actor);
    own && ended.is_none_or(|end| end.effective_ms.saturating_add(CLOCK_SKEW_MS) > meta.occurred_ms)
}

/// Where a source may have been when something was decided. `at_once`: it was told as soon as it was decided, so what the log had long
/// before cannot have come after.
pub(super) fn in_force<'s>(
    state: &'s State,
    source: &str,
    meta: &Meta,
    at_once: bool,
) -> Vec<Place<'s>> {
    let said = state.places.0.get(source);
    let mut found = Vec::new();
    for one in said.into_iter().flatten() {
        let Some(known) = state.meta(one.pos) else {
            continue;
        };
        let later = |one_ms: i64, other_ms: i64| one_ms > other_ms.saturating_add(CLOCK_SKEW_MS);
        if later(known.occurred_ms, meta.occurred_ms) || later(known.recorded_ms, meta.recorded_ms)
        {
            continue;
        }
        let long_before = meta.occurred_ms >= known.occurred_ms.saturating_add(CLOCK_SKEW_MS);
        if long_before || (at_once && later(meta.recorded_ms, known.recorded_ms)) {
            found.clear();
        }
        found.push(Place {
            environment: &one.what.environment,
            tier: &one.what.tier,
        });
    }
    found
}

/// The first of these sources that lay for sure outside of the tiers and environments to which something is limited.
pub(super) fn outside<'n>(
    state: &State,
    meta: &Meta,
    sources: &[&'n str],
    (tiers, environments): (&[String], &[String]),
    at_once: bool,
) -> Option<&'n str> {
    let within = |source: &str| {
        let places = in_force(state, source, meta, at_once);
        places
            .iter()
            .any(|place| place.is_within(tiers, environments))
    };
    sources.iter().copied().find(|source| !within(source))
}
