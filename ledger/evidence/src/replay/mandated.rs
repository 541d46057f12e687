//! What was said of the mandates of AI agents: put forward by one human, granted by another, of the customer, for a time, with an owner
//! and a date by which it is certified anew (I-65), nobody being the agent itself (I-68); and how agents were stopped (I-69).
//!
//! Principals, credentials and mandates are all on the stream of authority: their places tell their order.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::CLOCK_SKEW_MS;
use super::authority::same_person;
use super::check::{Check, Tallies};
use super::credentials::HAND_OVER_MS;
use super::mandates::Told;
use super::state::{At, Pos, State};
use crate::v1::{
    self, AgentAutonomy, AgentMandateTerms, CredentialIssued, OrganizationKind, PrincipalKind,
    PrincipalRegistered, TenantState,
};

const DAY_MS: i64 = 86_400_000;
/// Longest life of a mandate.
const LIFE_MS_MAX: i64 = 365 * DAY_MS;
/// Longest time between two certifications.
const INTERVAL_MS_MAX: i64 = 90 * DAY_MS;

/// How a mandate that was granted stands at a place of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Runs,
    Suspended,
    Over,
}

/// A mandate, as far as it has been told.
#[derive(Debug)]
struct Known<'s> {
    proposed: Option<(Pos, &'s AgentMandateTerms)>,
    granted: Option<&'s AgentMandateTerms>,
    standing: Standing,
}

/// The judge of mandates, with what it has found of them so far.
struct Judge<'s> {
    state: &'s State,
    known: HashMap<&'s str, Known<'s>>,
    /// The mandate that each agent was granted last.
    newest: HashMap<&'s str, &'s str>,
    /// For each agent where it lost a mandate for good, or was granted one.
    lost: BTreeMap<&'s str, Vec<(Pos, bool)>>,
    /// What was issued for each principal.
    issued: HashMap<&'s str, Vec<&'s At<CredentialIssued>>>,
    /// Where each credential was revoked, and from when.
    ended: HashMap<&'s str, Vec<(Pos, i64)>>,
}

/// Judges every record of a mandate, and the credentials of agents that lost theirs.
pub(super) fn judge(state: &State, tallies: &mut Tallies) {
    if state.governed.of_provider() {
        return;
    }
    let mut judge = Judge::new(state);
    for told in &state.governed.mandates.0 {
        let pos = told.pos;
        let (check, judged) = match &told.what {
            Told::Proposed(what) => (Check::I65, judge.proposed(pos, what)),
            Told::Granted(what) => {
                tallies.checked(Check::I68);
                if let Err(why) = judge.apart_from_the_agent(pos, what) {
                    tallies.fail(Check::I68, format!("{} {why}", state.entry(pos)));
                }
                (Check::I65, judge.granted(pos, what))
            }
            Told::Certified(what) => (Check::I65, judge.certified(pos, what)),
            Told::Suspended(what) => (Check::I69, judge.suspended(pos, what)),
            Told::Resumed(what) => (Check::I69, judge.resumed(pos, what)),
            Told::Revoked(what) => (Check::I69, judge.revoked(pos, what)),
        };
        tallies.checked(check);
        if let Err(why) = judged {
            tallies.fail(check, format!("{} {why}", state.entry(pos)));
        }
    }
    judge.issued_later(tallies);
}

impl<'s> Judge<'s> {
    fn new(state: &'s State) -> Self {
        let mut issued: HashMap<&str, Vec<&At<CredentialIssued>>> = HashMap::new();
        for one in &state.credentials.issued {
            issued.entry(&one.what.principal).or_default().push(one);
        }
        let mut ended: HashMap<&str, Vec<(Pos, i64)>> = HashMap::new();
        for end in &state.credentials.revoked {
            let own = ended.entry(&end.what.credential).or_default();
            own.push((end.pos, end.what.effective_ms));
        }
        Self {
            state,
            known: HashMap::new(),
            newest: HashMap::new(),
            lost: BTreeMap::new(),
            issued,
            ended,
        }
    }

    fn actor(&self, pos: Pos) -> &'s str {
        let actor = self.state.meta(pos).map(|meta| meta.actor);
        actor.map_or("", |actor| self.state.names.text(actor))
    }

    /// A principal that was there at a place.
    fn active(&self, name: &str, pos: Pos) -> Result<&'s PrincipalRegistered, String> {
        self.state.credentials.active(name, pos)
    }

    fn human(&self, name: &str, pos: Pos) -> Result<&'s PrincipalRegistered, String> {
        let found = self.active(name, pos)?;
        match found.kind() {
            PrincipalKind::Human => Ok(found),
            _ => Err(format!("{name} is no human")),
        }
    }

    fn human_of_customer(&self, name: &str, pos: Pos) -> Result<(), String> {
        let found = self.human(name, pos)?;
        match found.organization_kind() {
            OrganizationKind::Customer => Ok(()),
            _ => Err(format!("{name} is not of the customer organisation")),
        }
    }

    fn proposed(&mut self, pos: Pos, what: &'s v1::AgentMandateProposed) -> Result<(), String> {
        let terms = what.terms.as_ref().ok_or("says nothing")?;
        if self.known.contains_key(what.mandate.as_str()) {
            return Err("puts a mandate forward again".to_owned());
        }
        let new = Known {
            proposed: Some((pos, terms)),
            granted: None,
            standing: Standing::Runs,
        };
        self.known.insert(&what.mandate, new);
        let proposer = self.actor(pos);
        self.human(proposer, pos)
            .map_err(|why| format!("was put forward by no human: {why}"))?;
        Ok(())
    }

    fn granted(&mut self, pos: Pos, what: &'s v1::AgentMandateGranted) -> Result<(), String> {
        let terms = what.terms.as_ref().ok_or("says nothing")?;
        let (agent, id) = (terms.agent.as_str(), what.mandate.as_str());
        let known = self.known.entry(id).or_insert(Known {
            proposed: None,
            granted: None,
            standing: Standing::Runs,
        });
        if known.granted.is_some() {
            return Err("grants a mandate again".to_owned());
        }
        let withdrawn = known.standing == Standing::Over;
        known.granted = Some(terms);
        known.standing = Standing::Runs;
        let proposed = known.proposed;
        if let Some(before) = self.newest.insert(agent, id)
            && let Some(before) = self.known.get_mut(before)
        {
            before.standing = Standing::Over;
        }
        self.lost.entry(agent).or_default().push((pos, false));
        if withdrawn {
            return Err("grants what had been withdrawn".to_owned());
        }
        let cited = self.state.position(&what.proposal_record_hash);
        let proposed = proposed.filter(|(proposed, _)| cited == Some(*proposed));
        let (proposed_at, proposal) = proposed.ok_or("was never put forward")?;
        self.by_another_human(pos, proposed_at)?;
        self.named(pos, terms)?;
        let now_ms = self.state.occurred_ms(pos);
        // Put forward to begin earlier, it begins when it is granted, and may say either.
        let begins = AgentMandateTerms {
            valid_from_ms: proposal.valid_from_ms.max(now_ms),
            ..proposal.clone()
        };
        if terms != proposal && *terms != begins {
            return Err("is another mandate than the one that was put forward".to_owned());
        }
        bounded(terms)
    }

    /// A mandate is granted in a tenant that is governed, by another human of the customer than the one who put it forward.
    fn by_another_human(&self, pos: Pos, proposed_at: Pos) -> Result<(), String> {
        let mut life = self.state.governed.life.iter().rev();
        let now = life.find(|change| change.pos < pos);
        if now.map(|change| change.what.to()) != Some(TenantState::Active) {
            return Err("was granted while the tenant was not active".to_owned());
        }
        let grantor = self.actor(pos);
        self.human_of_customer(grantor, pos)
            .map_err(|why| format!("was not granted by the customer: {why}"))?;
        let two = [pos, proposed_at].map(|at| self.state.meta(at).map(|meta| meta.actor));
        let alone = match two {
            [Some(one), Some(other)] => same_person(self.state, one, other),
            _ => true,
        };
        match alone {
            true => Err(format!("was put forward and granted by {grantor} alone")),
            false => Ok(()),
        }
    }

    /// Whom it names was there: an agent, and a human of the customer who answers for it.
    fn named(&self, pos: Pos, terms: &AgentMandateTerms) -> Result<(), String> {
        let agent = self.active(&terms.agent, pos)?;
        if agent.kind() != PrincipalKind::AiAgent {
            return Err(format!("is for {}, which is no AI agent", terms.agent));
        }
        self.human_of_customer(&terms.owner, pos)
            .map_err(|why| format!("has no owner: {why}"))
    }

    /// Neither who grants it nor who answers for it is the agent, under another name neither (I-68).
    fn apart_from_the_agent(&self, pos: Pos, what: &v1::AgentMandateGranted) -> Result<(), String> {
        let Some(terms) = &what.terms else {
            return Ok(());
        };
        let agent = self.state.names.find(&terms.agent);
        for person in [&terms.owner, self.actor(pos)] {
            let other = self.state.names.find(person);
            let same = agent.zip(other);
            if same.is_some_and(|(one, other)| same_person(self.state, one, other)) {
                return Err(format!("lets {person} answer for itself"));
            }
        }
        Ok(())
    }

    fn certified(&mut self, pos: Pos, what: &v1::AgentMandateCertified) -> Result<(), String> {
        let now_ms = self.state.occurred_ms(pos);
        let (terms, standing) = self.held(&what.mandate)?;
        if *standing == Standing::Over {
            return Err("certifies a mandate that was over".to_owned());
        }
        let latest_ms = now_ms.saturating_add(terms.review_interval_ms);
        if what.due_ms > latest_ms {
            return Err("is due later than its mandate lets it be".to_owned());
        }
        self.human_of_customer(self.actor(pos), pos)
    }

    /// A mandate that was granted, and how it stands.
    fn held(&mut self, id: &str) -> Result<(&'s AgentMandateTerms, &mut Standing), String> {
        let known = self.known.get_mut(id);
        let held = known.and_then(|known| Some((known.granted?, &mut known.standing)));
        held.ok_or_else(|| "is of a mandate that was never granted".to_owned())
    }

    fn suspended(&mut self, pos: Pos, what: &v1::AgentSuspended) -> Result<(), String> {
        let (terms, standing) = self.held(&what.mandate)?;
        if *standing == Standing::Over {
            return Err("stops what was over".to_owned());
        }
        *standing = Standing::Suspended;
        if terms.agent != what.agent {
            return Err("names another agent than its mandate".to_owned());
        }
        self.human(self.actor(pos), pos).map(|_| ())
    }

    fn resumed(&mut self, pos: Pos, what: &v1::AgentResumed) -> Result<(), String> {
        let (terms, standing) = self.held(&what.mandate)?;
        if *standing != Standing::Suspended {
            return Err("lets go on what was not suspended".to_owned());
        }
        *standing = Standing::Runs;
        if terms.agent != what.agent {
            return Err("names another agent than its mandate".to_owned());
        }
        self.human_of_customer(self.actor(pos), pos)
    }

    fn revoked(&mut self, pos: Pos, what: &'s v1::AgentRevoked) -> Result<(), String> {
        let known = self.known.get_mut(what.mandate.as_str());
        let known = known.filter(|known| known.standing != Standing::Over);
        let known = known.ok_or("takes back a mandate that was not there, or over")?;
        known.standing = Standing::Over;
        // Of what nobody had granted yet, nothing was in force.
        let draft = known.granted.is_none();
        let terms = known.granted.or(known.proposed.map(|(_, terms)| terms));
        if terms.is_none_or(|terms| terms.agent != what.agent) {
            return Err("names another agent than its mandate".to_owned());
        }
        if !draft {
            self.lost.entry(&what.agent).or_default().push((pos, true));
        }
        self.human_of_customer(self.actor(pos), pos)?;
        self.with_credentials(pos, what, draft)
    }

    /// With the mandate went every credential of the agent that was in force, at the same moment.
    fn with_credentials(
        &self,
        pos: Pos,
        what: &v1::AgentRevoked,
        draft: bool,
    ) -> Result<(), String> {
        if !what.credentials.is_sorted_by(|left, right| left < right) {
            return Err("names credentials in no order".to_owned());
        }
        let own = self.issued.get(what.agent.as_str());
        let own = own.into_iter().flatten().filter(|one| one.pos < pos);
        let own: HashMap<&str, &At<CredentialIssued>> = own
            .map(|one| (one.what.credential.as_str(), *one))
            .collect();
        let ended = |id: &str, fits: &dyn Fn(Pos, i64) -> bool| {
            let mut ends = self.ended.get(id).into_iter().flatten();
            ends.any(|(at, from_ms)| fits(*at, *from_ms))
        };
        let with = |_: Pos, from_ms: i64| from_ms == what.effective_ms;
        // One that stands before it is a revocation of its own, though it be of the same millisecond.
        let before = |at: Pos, _: i64| at < pos;
        // They are told one after the other: the last ones may be on their way.
        let last_ms = self.state.last_recorded_ms();
        let complete = self.state.recorded_ms(pos).saturating_add(CLOCK_SKEW_MS) < last_ms;
        for id in &what.credentials {
            if !own.contains_key(id.as_str()) {
                return Err(format!("names {id}, which is no credential of the agent"));
            }
            if complete && !ended(id, &with) {
                return Err(format!("names {id}, which was not revoked with it"));
            }
        }
        let listed: HashSet<&str> = what.credentials.iter().map(String::as_str).collect();
        let mut left = own.iter().filter(|(id, issued)| {
            !listed.contains(*id)
                && !ended(id, &before)
                && self.is_in_force(issued, what.effective_ms)
        });
        match left.next() {
            Some((id, _)) if !draft => Err(format!("leaves {id} in force")),
            _ => Ok(()),
        }
    }

    /// Whether a credential that nobody revoked was in force for sure.
    fn is_in_force(&self, issued: &At<CredentialIssued>, at_ms: i64) -> bool {
        let activated = self.state.governed.activated();
        let activated = activated.filter(|activated| issued.pos < activated.pos);
        let handed_over_ms = activated.map_or(i64::MAX, |activated| {
            let activated_ms = self.state.occurred_ms(activated.pos);
            activated_ms.saturating_add(HAND_OVER_MS)
        });
        let ends_ms = match issued.what.valid_to_ms {
            0 => i64::MAX,
            end_ms => end_ms,
        };
        at_ms < ends_ms.min(handed_over_ms)
    }

    /// Who lost a mandate for good gets no credential before it is granted another.
    fn issued_later(&self, tallies: &mut Tallies) {
        for issued in &self.state.credentials.issued {
            let Some(told) = self.lost.get(issued.what.principal.as_str()) else {
                continue;
            };
            let before = told.iter().rfind(|(pos, _)| *pos < issued.pos);
            let lost = before.is_some_and(|(_, lost)| *lost);
            tallies.checked(Check::I69);
            tallies.expect(Check::I69, !lost, || {
                let entry = self.state.entry(issued.pos);
                format!("{entry} is for an agent that had lost its mandate for good")
            });
        }
    }
}

/// A mandate lasts at most 365 days, is certified anew every 90 at most, and says how far its agent goes.
fn bounded(terms: &AgentMandateTerms) -> Result<(), String> {
    let life_ms = terms.valid_to_ms.saturating_sub(terms.valid_from_ms);
    if life_ms <= 0 || life_ms > LIFE_MS_MAX {
        return Err("lasts no time, or longer than 365 days".to_owned());
    }
    if terms.review_interval_ms <= 0 || terms.review_interval_ms > INTERVAL_MS_MAX {
        return Err("is certified anew never, or less than every 90 days".to_owned());
    }
    match terms.autonomy() {
        AgentAutonomy::Unspecified => Err("does not say how far its agent goes".to_owned()),
        _ => Ok(()),
    }
}
