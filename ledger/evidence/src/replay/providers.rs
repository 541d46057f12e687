//! What providers were let do, and whether rightly: engagements, responsibilities, and the evidence behind every access.
//!
//! What authority says in its own stream is judged in the order of that stream; where a service on another stream relied on it, by
//! time: what happened within the clocks' skew of an access may or may not have counted for it, and either is good. What ends
//! with the clock is compared exactly: the service took its own clock, and states that time.

use std::collections::{BTreeMap, HashMap};

use super::CLOCK_SKEW_MS;
use super::absorb::Context;
use super::authority::human_of_customer_at;
use super::check::{Check, Tallies};
use super::standing;
use super::state::{At, Pos, State};
use crate::catalogue::{Payload, stream};
use crate::engagement::{
    EXTENSION_MS_MAX, MANDATORY, PILOT_MS_MAX, REQUEST_MS, ROLES, TERM_MS_MAX,
};
use crate::v1::{self, EngagementProfile, OrganizationKind, TenantState};

/// An engagement as far as the log has it.
#[derive(Debug, Default)]
pub(super) struct Engagement {
    pub(super) requested: Option<At<v1::EngagementRequested>>,
    /// With the parent's name, when it is a subcontractor's. More than one is a violation.
    pub(super) approved: Vec<At<(v1::EngagementApproved, Option<String>)>>,
    pub(super) extended: Vec<At<v1::EngagementExtended>>,
    /// Where it ended, and from when.
    pub(super) ended: Vec<At<i64>>,
    pub(super) tiers: Vec<At<u32>>,
    pub(super) attested: Vec<At<v1::ControlAttested>>,
    pub(super) reassessed: Vec<At<v1::ReassessmentCompleted>>,
}

/// Evidence of competency.
#[derive(Debug, Default)]
pub(super) struct Competency {
    pub(super) submitted: Option<At<v1::CompetencyEvidenceSubmitted>>,
    pub(super) accepted: Vec<At<v1::CompetencyEvidenceAccepted>>,
    pub(super) revoked: Vec<At<i64>>,
}

/// An access, or its mirror in the provider's log.
#[derive(Debug)]
pub(super) struct Told<T> {
    pub(super) record_id: Vec<u8>,
    pub(super) what: T,
}

/// All that is remembered of providers.
#[derive(Debug, Default)]
pub(super) struct Providers {
    pub(super) engagements: BTreeMap<String, Engagement>,
    pub(super) competencies: BTreeMap<String, Competency>,
    pub(super) levels: Vec<At<v1::EnvironmentSensitivitySet>>,
    pub(super) responsibilities: Vec<At<v1::ResponsibilityAssigned>>,
    pub(super) assigned: Vec<At<v1::OperatorAssigned>>,
    /// By "principals/{principal}".
    pub(super) unassigned: HashMap<String, Vec<At<i64>>>,
    activations: Vec<Pos>,
    pub(super) accesses: Vec<At<Told<v1::OperatorAccessUsed>>>,
    pub(super) links: Vec<At<Told<v1::OperatorLogCrossLinked>>>,
}

/// Remembers a record, or gives it back.
pub(super) fn absorb(
    state: &mut State,
    context: &Context<'_>,
    payload: Payload,
) -> Option<Payload> {
    let pos = context.pos;
    let record_id = || context.record.record_id.clone();
    let known = &mut state.providers;
    match payload {
        Payload::TenantLifecycleChanged(what) => {
            if what.to() == TenantState::Active && what.from() == TenantState::Onboarding {
                known.activations.push(pos);
            }
        }
        Payload::ResponsibilityAssigned(what) => known.responsibilities.push(At { pos, what }),
        Payload::EnvironmentSensitivitySet(what) => known.levels.push(At { pos, what }),
        Payload::OperatorAssigned(what) => known.assigned.push(At { pos, what }),
        Payload::OperatorUnassigned(end) => {
            let what = end.effective_ms;
            let ends = known.unassigned.entry(end.principal).or_default();
            ends.push(At { pos, what });
        }
        Payload::OperatorAccessUsed(what) => {
            let record_id = record_id();
            let what = Told { record_id, what };
            known.accesses.push(At { pos, what });
        }
        Payload::OperatorLogCrossLinked(what) => {
            let record_id = record_id();
            let what = Told { record_id, what };
            known.links.push(At { pos, what });
        }
        other => return engagement(known, pos, other),
    }
    None
}

fn engagement(known: &mut Providers, pos: Pos, payload: Payload) -> Option<Payload> {
    let of = |name: &str| name.to_owned();
    match payload {
        Payload::EngagementRequested(what) => {
            let found = known.engagements.entry(of(&what.engagement)).or_default();
            found.requested.get_or_insert(At { pos, what });
        }
        Payload::EngagementApproved(what) => {
            let found = known.engagements.entry(of(&what.engagement)).or_default();
            let what = (what, None);
            found.approved.push(At { pos, what });
        }
        Payload::SubcontractorEngaged(sub) => {
            let approved = sub.approved.unwrap_or_default();
            let name = of(&approved.engagement);
            let what = (approved, Some(sub.parent));
            let found = known.engagements.entry(name).or_default();
            found.approved.push(At { pos, what });
        }
        Payload::EngagementExtended(what) => {
            let found = known.engagements.entry(of(&what.engagement)).or_default();
            found.extended.push(At { pos, what });
        }
        Payload::EngagementEnded(end) => {
            let what = end.effective_ms;
            let found = known.engagements.entry(end.engagement).or_default();
            found.ended.push(At { pos, what });
        }
        Payload::EngagementNoticeGiven(_) => {}
        Payload::PartnerTierSet(set) => {
            let what = set.tier;
            let found = known.engagements.entry(set.engagement).or_default();
            found.tiers.push(At { pos, what });
        }
        Payload::ControlAttested(what) => {
            let found = known.engagements.entry(of(&what.engagement)).or_default();
            found.attested.push(At { pos, what });
        }
        Payload::ReassessmentCompleted(what) => {
            let found = known.engagements.entry(of(&what.engagement)).or_default();
            found.reassessed.push(At { pos, what });
        }
        Payload::CompetencyEvidenceSubmitted(what) => {
            let found = known.competencies.entry(of(&what.competency)).or_default();
            found.submitted.get_or_insert(At { pos, what });
        }
        Payload::CompetencyEvidenceAccepted(what) => {
            let found = known.competencies.entry(of(&what.competency)).or_default();
            found.accepted.push(At { pos, what });
        }
        Payload::CompetencyEvidenceRevoked(end) => {
            let what = end.effective_ms;
            let found = known.competencies.entry(end.competency).or_default();
            found.revoked.push(At { pos, what });
        }
        other => return Some(other),
    }
    None
}

/// Judges what customers allowed, and every access.
pub(super) fn judge(state: &State, tallies: &mut Tallies) {
    if state.governed.of_provider() {
        return;
    }
    responsibilities(state, tallies);
    engagements(state, tallies);
    by_the_customer(state, tallies);
    standing::judge(state, tallies);
}

/// Who answers for what: one operator, and a human of the customer who owns the risk (I-14).
fn responsibilities(state: &State, tallies: &mut Tallies) {
    let known = &state.providers;
    for row in &known.responsibilities {
        tallies.checked(Check::I14);
        let entry = || state.entry(row.pos);
        let operator = !row.what.operator_organization.is_empty()
            && row.what.operator_kind() != OrganizationKind::Unspecified;
        let named = operator && !row.what.activity.is_empty();
        tallies.expect(Check::I14, named, || {
            format!("{} names no activity or nobody who carries it out", entry())
        });
        if let Err(why) = customer(state, &row.what.risk_owner, row.pos) {
            tallies.fail(Check::I14, format!("{}: the risk owner {why}", entry()));
        }
        if let Err(why) = by_customer(state, row.pos) {
            tallies.fail(Check::I14, format!("{}: {why}", entry()));
        }
    }
    let answered = |at: Pos, activity: &str| {
        let mut rows = known.responsibilities.iter();
        rows.any(|row| row.pos < at && row.what.activity == activity)
    };
    let first_active = known.activations.first().copied();
    for engagement in known.engagements.values() {
        for approved in &engagement.approved {
            // While the tenant is set up, the gate asks; from then on, the approval itself.
            let asks = match first_active {
                Some(active) => approved.pos.max(active),
                None => continue,
            };
            let over = engagement.ended.iter().any(|end| end.pos < asks);
            let lapsed = approved.what.0.valid_to_ms <= state.occurred_ms(asks);
            if over || lapsed {
                continue;
            }
            tallies.checked(Check::I14);
            for activity in MANDATORY {
                tallies.expect(Check::I14, answered(asks, activity), || {
                    let entry = state.entry(asks);
                    format!("{entry} lets a provider work while nobody answers for {activity}")
                });
            }
        }
    }
}

/// Whether a principal named in a record was a human of the customer then.
fn customer(state: &State, name: &str, pos: Pos) -> Result<(), String> {
    let found = state.names.find(name).filter(|name| !name.is_empty());
    let found = found.ok_or_else(|| format!("{name:?} is no registered principal"))?;
    human_of_customer_at(state, found, pos).map_err(|why| format!("{name} {why}"))
}

/// Whether a record is by a human of the customer.
fn by_customer(state: &State, pos: Pos) -> Result<(), String> {
    let actor = state.meta(pos).map(|meta| state.names.text(meta.actor));
    customer(state, actor.unwrap_or_default(), pos)
}

/// Whether a record is by somebody of a provider, in its own tenant.
pub(super) fn by_provider(state: &State, pos: Pos, provider: &str) -> bool {
    let actor = state.meta(pos).map(|meta| state.names.text(meta.actor));
    let rest = actor.and_then(|actor| actor.strip_prefix(provider));
    rest.is_some_and(|rest| rest.starts_with('/'))
}

/// What may be approved, and by whom (I-13, I-49, I-51).
fn engagements(state: &State, tallies: &mut Tallies) {
    for (name, engagement) in &state.providers.engagements {
        for (nth, approved) in engagement.approved.iter().enumerate() {
            tallies.checked(Check::I13);
            let (what, parent) = &approved.what;
            let entry = state.entry(approved.pos);
            if nth > 0 {
                tallies.fail(Check::I13, format!("{entry} approves {name} again"));
            }
            if let Err(why) = approval(state, engagement, approved) {
                tallies.fail(Check::I13, format!("{entry}: {why}"));
            }
            let length_ms = what.valid_to_ms.saturating_sub(what.valid_from_ms);
            if what.profile() == EngagementProfile::Pilot {
                tallies.checked(Check::I51);
                tallies.expect(Check::I51, length_ms <= PILOT_MS_MAX, || {
                    format!("{entry}: a pilot that lasts longer than 90 days")
                });
            }
            let asked = engagement.requested.as_ref().map(|one| &one.what.parent);
            let asked = asked.filter(|asked| !asked.is_empty());
            if parent.is_none() && asked.is_none() {
                continue;
            }
            tallies.checked(Check::I49);
            if parent.as_ref() != asked {
                tallies.fail(Check::I49, format!("{entry}: not for whom it was asked"));
            }
            let to_ms = what.valid_to_ms;
            if let Err(why) = within_parent(state, parent, what, (approved.pos, to_ms)) {
                tallies.fail(Check::I49, format!("{entry}: {why}"));
            }
        }
        extensions(state, tallies, engagement);
    }
}

fn approval(
    state: &State,
    engagement: &Engagement,
    approved: &At<(v1::EngagementApproved, Option<String>)>,
) -> Result<(), String> {
    let what = &approved.what.0;
    let asked = engagement.requested.as_ref().ok_or("nobody asked for it")?;
    if state.position(&what.request_hash) != Some(asked.pos) || asked.pos > approved.pos {
        return Err("cites another request".to_owned());
    }
    let at_ms = state.occurred_ms(approved.pos);
    let until_ms = state.occurred_ms(asked.pos).saturating_add(REQUEST_MS);
    if at_ms >= asked.what.approvable_until_ms.min(until_ms) {
        return Err("the request had expired".to_owned());
    }
    if !by_provider(state, asked.pos, &asked.what.provider) {
        return Err("somebody else asked for it than the provider".to_owned());
    }
    let actor = state
        .meta(approved.pos)
        .map(|meta| state.names.text(meta.actor));
    if actor != Some(what.approver.as_str()) {
        return Err("not by whom it names as its approver".to_owned());
    }
    customer(state, &what.approver, approved.pos)?;
    let named = |role: &String| ROLES.contains(&role.as_str()) && asked.what.roles.contains(role);
    if what.roles.is_empty() || !what.roles.iter().all(named) {
        return Err("has a role that was not asked for, or that no provider has".to_owned());
    }
    if what.profile != asked.what.profile {
        return Err("has another profile than was asked for".to_owned());
    }
    let length_ms = what.valid_to_ms.saturating_sub(what.valid_from_ms);
    let asked_ms = i64::from(asked.what.term_days).saturating_mul(86_400_000);
    if length_ms > TERM_MS_MAX.min(asked_ms) {
        return Err("lasts longer than may be, or than was asked for".to_owned());
    }
    if what.valid_from_ms != at_ms {
        return Err("begins at another time than it was approved".to_owned());
    }
    if engagement.ended.iter().any(|end| end.pos < approved.pos) {
        return Err("restores what was over".to_owned());
    }
    Ok(())
}

fn extensions(state: &State, tallies: &mut Tallies, engagement: &Engagement) {
    let mut to_ms = engagement
        .approved
        .first()
        .map(|one| one.what.0.valid_to_ms);
    for extended in &engagement.extended {
        tallies.checked(Check::I13);
        let what = &extended.what;
        let at_ms = state.occurred_ms(extended.pos);
        let entry = state.entry(extended.pos);
        let lasts = to_ms == Some(what.from_valid_to_ms) && at_ms < what.from_valid_to_ms;
        let over = engagement.ended.iter().any(|end| end.pos < extended.pos);
        tallies.expect(Check::I13, lasts && !over, || {
            format!("{entry} extends what was over, or lasted until another time")
        });
        let longer_ms = what.valid_to_ms.saturating_sub(what.from_valid_to_ms);
        let left_ms = what.valid_to_ms.saturating_sub(at_ms);
        let bounded = longer_ms <= EXTENSION_MS_MAX && left_ms <= TERM_MS_MAX;
        tallies.expect(Check::I13, bounded, || {
            format!("{entry} lasts longer than 180 days more, or 730 days from then")
        });
        let actor = state
            .meta(extended.pos)
            .map(|meta| state.names.text(meta.actor));
        let own = actor == Some(what.approver.as_str());
        if !own || customer(state, &what.approver, extended.pos).is_err() {
            tallies.fail(
                Check::I13,
                format!("{entry} is not by a human of the customer"),
            );
        }
        if let Some(first) = engagement.approved.first() {
            let (approved, parent) = &first.what;
            if approved.profile() == EngagementProfile::Pilot {
                let length_ms = what.valid_to_ms.saturating_sub(approved.valid_from_ms);
                tallies.expect(Check::I51, length_ms <= PILOT_MS_MAX, || {
                    format!("{entry}: a pilot that lasts longer than 90 days")
                });
            }
            let at = (extended.pos, what.valid_to_ms);
            if parent.is_some()
                && let Err(why) = within_parent(state, parent, approved, at)
            {
                tallies.fail(Check::I49, format!("{entry}: {why}"));
            }
        }
        to_ms = Some(what.valid_to_ms);
    }
}

/// Whether a subcontractor's engagement is inside its provider's, at a place of the log (I-49).
fn within_parent(
    state: &State,
    parent: &Option<String>,
    approved: &v1::EngagementApproved,
    (pos, to_ms): (Pos, i64),
) -> Result<(), String> {
    let parent = parent.as_ref().ok_or("names no provider")?;
    let above = state.providers.engagements.get(parent);
    let found = above.and_then(|above| Some((above, above.approved.first()?)));
    let (above, first) = found.ok_or("its provider has no engagement")?;
    let (top, top_parent) = &first.what;
    let mut extended = above.extended.iter().filter(|one| one.pos < pos);
    let top_to_ms = extended.next_back().map(|one| one.what.valid_to_ms);
    let top_to_ms = top_to_ms.unwrap_or(top.valid_to_ms);
    let over = above.ended.iter().any(|end| end.pos < pos);
    if first.pos > pos || over || top_to_ms <= state.occurred_ms(pos) {
        return Err("its provider's engagement was not live".to_owned());
    }
    if top_parent.is_some() {
        return Err("it is for a subcontractor".to_owned());
    }
    let wider = to_ms > top_to_ms
        || approved.profile < top.profile
        || !approved.roles.iter().all(|role| top.roles.contains(role));
    if wider {
        return Err("it is wider than its provider's".to_owned());
    }
    Ok(())
}

/// What only the customer says of a provider, and only the provider of itself (I-45, I-46, I-47).
fn by_the_customer(state: &State, tallies: &mut Tallies) {
    let known = &state.providers;
    let mut own = |check: Check, pos: Pos| {
        tallies.checked(check);
        if let Err(why) = by_customer(state, pos) {
            tallies.fail(check, format!("{}: {why}", state.entry(pos)));
        }
    };
    for level in &known.levels {
        own(Check::I46, level.pos);
    }
    for engagement in known.engagements.values() {
        engagement
            .tiers
            .iter()
            .for_each(|tier| own(Check::I46, tier.pos));
        let reassessed = &engagement.reassessed;
        reassessed.iter().for_each(|one| own(Check::I47, one.pos));
    }
    for competency in known.competencies.values() {
        let accepted = &competency.accepted;
        accepted.iter().for_each(|one| own(Check::I45, one.pos));
    }
    for engagement in known.engagements.values() {
        let provider = engagement.requested.as_ref().map(|one| &one.what.provider);
        for attested in &engagement.attested {
            tallies.checked(Check::I47);
            let actor = state
                .meta(attested.pos)
                .map(|meta| state.names.text(meta.actor));
            let own = actor == Some(attested.what.attester.as_str());
            let own = own && provider.is_some_and(|one| by_provider(state, attested.pos, one));
            tallies.expect(Check::I47, own, || {
                format!("{} is not by the provider", state.entry(attested.pos))
            });
        }
    }
}

/// Whether what a record states counted when something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// It did.
    Yes,
    /// It may have: the clocks do not tell.
    Perhaps,
    /// It did not.
    No,
}

/// When something happened: its place, and whether that is in authority's own stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pos: Pos,
    pub(super) at_ms: i64,
    own_stream: bool,
}

impl Moment {
    pub(super) fn of(state: &State, pos: Pos) -> Self {
        let meta = state.meta(pos);
        let stream = meta.map(|meta| state.names.text(meta.stream));
        Self {
            pos,
            at_ms: state.occurred_ms(pos),
            own_stream: stream == Some(stream::AUTHORITY),
        }
    }

    /// The same, so much earlier.
    pub(super) fn earlier(self, by_ms: i64) -> Self {
        Self {
            at_ms: self.at_ms.saturating_sub(by_ms),
            ..self
        }
    }

    /// Whether what stands at a place of authority's stream counted.
    pub(super) fn counted(self, state: &State, pos: Pos) -> Counted {
        if self.own_stream {
            return if pos < self.pos {
                Counted::Yes
            } else {
                Counted::No
            };
        }
        let said_ms = state.occurred_ms(pos);
        if said_ms <= self.at_ms.saturating_sub(CLOCK_SKEW_MS) {
            Counted::Yes
        } else if said_ms <= self.at_ms.saturating_add(CLOCK_SKEW_MS) {
            Counted::Perhaps
        } else {
            Counted::No
        }
    }

    /// Whether an end counted for sure.
    pub(super) fn over(self, state: &State, ends: &[At<i64>]) -> bool {
        ends.iter().any(|end| {
            if self.own_stream {
                return end.pos < self.pos;
            }
            self.counted(state, end.pos) == Counted::Yes
                && end.what.saturating_add(CLOCK_SKEW_MS) <= self.at_ms
        })
    }

    /// Of what replaces itself, what may have been in force.
    pub(super) fn in_force<'t, T>(
        self,
        state: &State,
        items: impl IntoIterator<Item = &'t At<T>>,
    ) -> Vec<&'t T> {
        let mut found = Vec::new();
        for item in items {
            match self.counted(state, item.pos) {
                Counted::Yes => {
                    found.clear();
                    found.push(&item.what);
                }
                Counted::Perhaps => found.push(&item.what),
                Counted::No => {}
            }
        }
        found
    }
}
