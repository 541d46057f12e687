//! Legal holds: placed by a human of whoever governs the tenant, released by another, and nothing that they cover let go
//! meanwhile (I-70). That no entry is missing is seen by the log's own structure (S11).

use std::collections::{BTreeMap, HashMap, HashSet};

use super::authority::same_person;
use super::check::{Check, Tallies};
use super::life::{governing_human, governing_kind, governs};
use super::state::{At, Pos, State};
use crate::hold::shortened;
use crate::v1::{
    LegalHoldPlaced, LegalHoldReleased, PrincipalKind, PrincipalRegistered, RetentionRule,
    TenantState,
};

/// A legal hold, for a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldFacts {
    /// "legal-holds/{hold}".
    pub hold: String,
    /// Retention classes that it covers; none: the whole log.
    pub retention_classes: Vec<String>,
    /// Code of its basis in law or contract.
    pub basis: String,
    /// Who placed it.
    pub placed_by: String,
    /// When, milliseconds.
    pub placed_ms: i64,
    /// Who released it and when, milliseconds; `None`: it is in force.
    pub released: Option<(String, i64)>,
}

/// What is remembered of holds and of what they are held against, each in order of the log. All of it is on one stream, so that
/// places tell what came first.
#[derive(Debug, Default)]
pub(super) struct Holds {
    pub(super) placed: BTreeMap<Pos, LegalHoldPlaced>,
    pub(super) released: Vec<At<LegalHoldReleased>>,
    pub(super) policies: Vec<At<Vec<RetentionRule>>>,
}

impl Holds {
    /// The release of a hold that is good for one: the first that cites it.
    fn ends(&self, state: &State) -> HashMap<Pos, &At<LegalHoldReleased>> {
        let mut ends = HashMap::new();
        for release in &self.released {
            if let Some(pos) = self.cited(state, release) {
                ends.entry(pos).or_insert(release);
            }
        }
        ends
    }

    /// Where the hold was placed that a release cites.
    fn cited(&self, state: &State, release: &At<LegalHoldReleased>) -> Option<Pos> {
        let pos = state.position(&release.what.placed_record_hash)?;
        let placed = self.placed.get(&pos).filter(|_| pos < release.pos)?;
        (placed.hold == release.what.hold).then_some(pos)
    }
}

/// Judges holds, and what was done while they were in force.
pub(super) fn judge(state: &State, tallies: &mut Tallies) {
    let holds = &state.governed.holds;
    let mut names = HashSet::new();
    for (pos, placed) in &holds.placed {
        tallies.checked(Check::I70);
        let judged = by_whom(state, *pos).and_then(|()| stated(placed, &mut names));
        if let Err(why) = judged {
            tallies.fail(Check::I70, format!("{} {why}", state.entry(*pos)));
        }
    }
    let mut ended = HashSet::new();
    for release in &holds.released {
        tallies.checked(Check::I70);
        let judged = match holds.cited(state, release) {
            Some(placed) if ended.insert(placed) => released(state, placed, release),
            _ => Err("releases a hold that is not in force".to_owned()),
        };
        if let Err(why) = judged {
            tallies.fail(Check::I70, format!("{} {why}", state.entry(release.pos)));
        }
    }
    meanwhile(state, tallies);
}

fn by_whom(state: &State, pos: Pos) -> Result<(), String> {
    let meta = state.meta(pos).ok_or("is not there")?;
    governing_human(state, meta.actor, pos)
        .map_err(|why| format!("is by {}, who {why}", state.names.text(meta.actor)))
}

fn stated<'h>(placed: &'h LegalHoldPlaced, names: &mut HashSet<&'h str>) -> Result<(), String> {
    if !names.insert(&placed.hold) {
        return Err("places a hold that there was before".to_owned());
    }
    match placed.basis.is_empty() || placed.reason_code.is_empty() {
        true => Err("says no basis or no reason".to_owned()),
        false => Ok(()),
    }
}

fn released(state: &State, placed: Pos, release: &At<LegalHoldReleased>) -> Result<(), String> {
    by_whom(state, release.pos)?;
    if release.what.reason_code.is_empty() {
        return Err("says no reason".to_owned());
    }
    let two = state.meta(placed).zip(state.meta(release.pos));
    match two.is_some_and(|(one, other)| !same_person(state, one.actor, other.actor)) {
        true => Ok(()),
        false => Err("releases a hold by the human who placed it".to_owned()),
    }
}

/// What is in force at a place of the log.
#[derive(Default)]
struct InForce<'h> {
    /// Holds on the whole log.
    whole: usize,
    /// Holds by class.
    classes: HashMap<&'h str, usize>,
}

impl<'h> InForce<'h> {
    fn begin(&mut self, hold: &'h LegalHoldPlaced) {
        self.whole += usize::from(hold.retention_classes.is_empty());
        for class in classes(hold) {
            *self.classes.entry(class).or_default() += 1;
        }
    }

    fn end(&mut self, hold: &'h LegalHoldPlaced) {
        let less = |count: &mut usize| *count = count.saturating_sub(1);
        if hold.retention_classes.is_empty() {
            less(&mut self.whole);
        }
        for class in classes(hold) {
            self.classes.entry(class).and_modify(less);
        }
    }

    fn covers(&self, class: &str) -> bool {
        self.whole > 0 || self.classes.get(class).is_some_and(|count| *count > 0)
    }

    fn any(&self) -> bool {
        self.whole > 0 || self.classes.values().any(|count| *count > 0)
    }
}

/// The classes of a hold, each once.
fn classes(hold: &LegalHoldPlaced) -> HashSet<&str> {
    hold.retention_classes.iter().map(String::as_str).collect()
}

/// What happened, in order of the log.
enum Event<'h> {
    Placed(&'h LegalHoldPlaced),
    Released(&'h LegalHoldPlaced),
    Policy(&'h [RetentionRule]),
    Closed,
}

fn meanwhile(state: &State, tallies: &mut Tallies) {
    let holds = &state.governed.holds;
    if holds.placed.is_empty() {
        return;
    }
    let mut events = BTreeMap::new();
    for (pos, placed) in &holds.placed {
        events.insert(*pos, Event::Placed(placed));
    }
    for (placed, release) in holds.ends(state) {
        if let Some(hold) = holds.placed.get(&placed) {
            events.insert(release.pos, Event::Released(hold));
        }
    }
    for policy in &holds.policies {
        events.insert(policy.pos, Event::Policy(&policy.what));
    }
    for change in &state.governed.life {
        if change.what.to() == TenantState::Closed {
            events.insert(change.pos, Event::Closed);
        }
    }
    let mut in_force = InForce::default();
    let mut rules: &[RetentionRule] = &[];
    for (pos, event) in events {
        match event {
            Event::Placed(hold) => in_force.begin(hold),
            Event::Released(hold) => in_force.end(hold),
            Event::Policy(new) => {
                tallies.checked(Check::I70);
                if let Some(class) = shortened(rules, new, |class| in_force.covers(class)) {
                    let entry = state.entry(pos);
                    let what = format!("{entry} keeps {class} for less time under a legal hold");
                    tallies.fail(Check::I70, what);
                }
                rules = new;
            }
            Event::Closed => {
                tallies.checked(Check::I70);
                tallies.expect(Check::I70, !in_force.any(), || {
                    format!("{} closes a tenant under a legal hold", state.entry(pos))
                });
            }
        }
    }
}

/// Where, by somebody of whoever governs the tenant, one of its humans was registered while anything was held: a second human may be
/// needed to release it even while the tenant leaves, and it is not closed before.
pub(super) fn releasers(state: &State) -> HashSet<Pos> {
    let holds = &state.governed.holds;
    let mut changes: BTreeMap<Pos, bool> = holds.placed.keys().map(|pos| (*pos, true)).collect();
    let ends = holds.ends(state);
    changes.extend(ends.values().map(|release| (release.pos, false)));
    let mut count = 0_usize;
    // How many holds are in force behind a place.
    let mut in_force = BTreeMap::new();
    for (pos, placed) in changes {
        count = match placed {
            true => count.saturating_add(1),
            false => count.saturating_sub(1),
        };
        in_force.insert(pos, count);
    }
    let is_held = |pos: Pos| {
        let newest = in_force.range(..pos).next_back();
        newest.is_some_and(|(_, count)| *count > 0)
    };
    let registered = state.credentials.principals();
    registered
        .filter(|one| is_held(one.pos) && registers_releaser(state, one))
        .map(|one| one.pos)
        .collect()
}

fn registers_releaser(state: &State, one: &At<PrincipalRegistered>) -> bool {
    let by = state.meta(one.pos);
    // Whom nobody can tell apart from who placed the hold is no second human.
    let is_somebody = !one.what.identity_tag.is_empty();
    is_somebody
        && by.is_some_and(|by| governs(state, by.actor, one.pos))
        && one.what.kind() == PrincipalKind::Human
        && one.what.organization_kind() == governing_kind(state)
}

/// Every hold, in order of the log.
pub(super) fn facts(state: &State) -> Vec<HoldFacts> {
    let holds = &state.governed.holds;
    let ends = holds.ends(state);
    let who_and_when = |pos: Pos| {
        let actor = state
            .meta(pos)
            .map_or("", |meta| state.names.text(meta.actor));
        (actor.to_owned(), state.occurred_ms(pos))
    };
    let told = holds.placed.iter().map(|(pos, placed)| {
        let (placed_by, placed_ms) = who_and_when(*pos);
        HoldFacts {
            hold: format!("legal-holds/{}", placed.hold),
            retention_classes: placed.retention_classes.clone(),
            basis: placed.basis.clone(),
            placed_by,
            placed_ms,
            released: ends.get(pos).map(|release| who_and_when(release.pos)),
        }
    });
    told.collect()
}
