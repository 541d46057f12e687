//! Whatever a provider's people did, they had come in on record right before (I-53): what a call begins states the time at which the
//! call began, however long it takes. The evidence behind every access is judged with the access.

use std::collections::{HashMap, HashSet};

use super::CLOCK_SKEW_MS;
use super::check::{Check, Tallies};
use super::standing::shows_evidence;
use super::state::{Meta, Pos, State, Sym};
use crate::catalogue::RECORD_TYPES;
use crate::v1::OrganizationKind;

/// What a call lets in that shows evidence, and nothing else.
const SHOWN: &str = "CompetencyEvidenceSubmitted";

/// When somebody has last come in on a stream.
#[derive(Debug, Default)]
struct CameIn {
    /// To show evidence.
    shows_ms: Option<i64>,
    /// To work.
    works_ms: Option<i64>,
}

/// Judges whatever somebody of a provider did, and the mirrors of it in a provider's own log.
pub(super) fn judge(state: &State, tallies: &mut Tallies) {
    if state.governed.of_provider() {
        links(state, tallies);
        return;
    }
    told_once(state, tallies);
    follow_an_access(state, tallies);
    for link in &state.providers.links {
        tallies.fail(
            Check::I53,
            format!("{} stands in a customer's log", state.entry(link.pos)),
        );
    }
}

fn told_once(state: &State, tallies: &mut Tallies) {
    let mut ids: HashSet<&[u8]> = HashSet::new();
    for access in &state.providers.accesses {
        let new = ids.insert(&access.what.record_id);
        tallies.expect(Check::I53, new, || {
            format!("{} has the id of another access", state.entry(access.pos))
        });
    }
}

fn follow_an_access(state: &State, tallies: &mut Tallies) {
    let accesses = state.providers.accesses.iter();
    let accesses: HashMap<Pos, bool> = accesses
        .map(|one| (one.pos, shows_evidence(&one.what.what)))
        .collect();
    let mut came_in: HashMap<(Sym, Sym), CameIn> = HashMap::new();
    for (pos, meta) in (0..).zip(&state.metas) {
        let who = (meta.stream, meta.actor);
        if let Some(shows) = accesses.get(&pos) {
            tallies.checked(Check::I53);
            let known = came_in.entry(who).or_default();
            match shows {
                true => known.shows_ms = Some(meta.occurred_ms),
                false => known.works_ms = Some(meta.occurred_ms),
            }
        } else if is_hired(state, meta.actor) {
            tallies.checked(Check::I53);
            let let_in = came_in.get(&who).is_some_and(|known| {
                let shown = known.shows_ms.filter(|_| type_is(meta, SHOWN));
                let mut since = known.works_ms.into_iter().chain(shown);
                since.any(|since_ms| meta.occurred_ms <= since_ms.saturating_add(CLOCK_SKEW_MS))
            });
            tallies.expect(Check::I53, let_in, || {
                let actor = state.names.text(meta.actor);
                format!("{}: {actor} had not come in on record", state.entry(pos))
            });
        }
    }
}

/// Whether a principal is somebody of a provider.
pub(super) fn is_hired(state: &State, principal: Sym) -> bool {
    state.principals.get(&principal).is_some_and(|found| {
        matches!(
            found.organization_kind,
            OrganizationKind::Provider | OrganizationKind::Subcontractor
        )
    })
}

fn type_is(meta: &Meta, name: &str) -> bool {
    let known = RECORD_TYPES.get(usize::from(meta.kind));
    known.is_some_and(|known| known.name == name)
}

/// The mirrors of accesses, in a provider's own log (I-53). That the other side has them is seen with its bundle beside.
fn links(state: &State, tallies: &mut Tallies) {
    let mut ids: HashSet<&[u8]> = HashSet::new();
    for link in &state.providers.links {
        tallies.checked(Check::I53);
        let what = &link.what.what;
        let whole = what.access_hash.len() == 32
            && link.what.record_id.len() == 16
            && !what.customer_log_origin.is_empty();
        let new = ids.insert(&link.what.record_id);
        tallies.expect(Check::I53, whole && new, || {
            format!("{} is told twice, or cites nothing", state.entry(link.pos))
        });
        let person = state.names.find(&what.operator);
        let own = person.is_some_and(|person| state.principals.contains_key(&person));
        tallies.expect(Check::I53, own, || {
            format!("{} is of nobody of this provider", state.entry(link.pos))
        });
    }
    for access in &state.providers.accesses {
        tallies.fail(
            Check::I53,
            format!("{} stands in a provider's log", state.entry(access.pos)),
        );
    }
}
