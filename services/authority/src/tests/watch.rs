//! What must never happen, told from nothing but what was asked and what was answered: it shares no rule with the model.

use super::{
    command::{ACTIONS, Act, Command, HOUR_MS, PEOPLE, Person, SOURCES, TENANTS},
    watch_holds::{Holds, states_for},
    watch_mandates::Agents,
    world::{By, Realm, World, covers, place},
};
use crate::model::{
    principal::{OrganizationKind, PrincipalKind},
    right::{DecisionAction, Scope},
    tenant::TenantState,
};

pub(super) const DAY_MS: i64 = 24 * HOUR_MS;

/// A right that was asked for and accepted.
#[derive(Debug, Clone)]
struct Given {
    by: usize,
    to: usize,
    action: DecisionAction,
    scope: Scope,
    term: (i64, i64),
    /// Whether the policy reserved it for two people when it was asked for.
    reserved: bool,
    /// Who approved it.
    second: Option<usize>,
    revoked: bool,
}

/// What was passed on.
#[derive(Debug, Clone)]
struct Passed {
    by: usize,
    to: usize,
    source: By,
    scope: Scope,
    term: (i64, i64),
    transitive: bool,
    revoked: bool,
}

/// An access in an emergency.
#[derive(Debug, Clone)]
struct Urgent {
    by: usize,
    asked_ms: i64,
    action: Option<DecisionAction>,
    ms: i64,
    approved: Option<(usize, i64)>,
    ended_ms: Option<i64>,
    reviewed: bool,
}

impl Urgent {
    fn end_ms(&self) -> i64 {
        let by_itself = self.approved.map_or(i64::MAX, |(_, at_ms)| at_ms + self.ms);
        self.ended_ms
            .map_or(by_itself, |early| early.min(by_itself))
    }
}

/// What is known of a tenant.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) state: TenantState,
    evidence: bool,
    reserved: Vec<DecisionAction>,
    pub(super) gone: [bool; PEOPLE.len()],
    given: Vec<Given>,
    passed: Vec<Passed>,
    urgent: Vec<Urgent>,
    pub(super) agents: Agents,
    pub(super) holds: Holds,
}

/// The one who looks.
#[derive(Debug)]
pub(super) struct Watch {
    known: [Known; TENANTS],
}

pub(super) fn of_customer(who: usize) -> bool {
    PEOPLE[who].of == OrganizationKind::Customer
}

pub(super) fn is_human(who: usize) -> bool {
    PEOPLE[who].kind == PrincipalKind::Human
}

/// Whether they are two and not one, whatever they are called.
pub(super) fn is_another(one: usize, other: usize) -> bool {
    PEOPLE[one].identity() != PEOPLE[other].identity()
}

fn may_decide(person: Person, action: DecisionAction) -> bool {
    match action {
        DecisionAction::Review => person.kind == PrincipalKind::Human,
        DecisionAction::Except => person.kind != PrincipalKind::Service,
        _ => true,
    }
}

pub(super) fn within(part: &Scope, whole: &Scope) -> bool {
    match part {
        Scope::Everywhere => *whole == Scope::Everywhere,
        Scope::Sources(_) => SOURCES
            .iter()
            .all(|one| !covers(part, one) || covers(whole, one)),
    }
}

fn num(id: &str) -> usize {
    PEOPLE.iter().position(|one| one.id == id).unwrap()
}

impl Watch {
    pub(super) fn new() -> Self {
        let known = || Known {
            state: TenantState::Active,
            evidence: false,
            reserved: Vec::new(),
            gone: [false; PEOPLE.len()],
            given: Vec::new(),
            passed: Vec::new(),
            urgent: Vec::new(),
            agents: Agents::default(),
            holds: Holds::default(),
        };
        Self {
            known: [known(), known()],
        }
    }

    /// Looks at a command that was accepted, and at what holds after it. `before`: the world before.
    pub(super) fn accepted(
        &mut self,
        command: &Command,
        before: &World,
        after: &World,
    ) -> Result<(), String> {
        let (mut home, who) = command.caller;
        let by_service = command.act.is_by_a_service();
        if by_service {
            home = command.tenant;
        }
        let other = TENANTS - 1 - home;
        ensure(
            command.tenant == home,
            "somebody of another tenant was let in",
        )?;
        ensure(
            before.realms[other] == after.realms[other],
            "another tenant was changed",
        )?;
        let (known, now_ms) = (&mut self.known[home], after.now_ms);
        if !by_service {
            ensure(!known.gone[who], "somebody who has ended was let in")?;
            let open = known.state != TenantState::Closed;
            ensure(open, "something was done in a closed tenant")?;
            known.let_in(who, &command.act, now_ms)?;
        }
        known.stage(&command.act)?;
        known.note((who, now_ms), &command.act, &after.realms[home])
    }

    /// Looks at all that somebody could decide now.
    pub(super) fn look(&self, world: &World) -> Result<(), String> {
        for (known, realm) in self.known.iter().zip(&world.realms) {
            known.look_at_mandates(realm, world.now_ms)?;
            for (who, person) in PEOPLE.iter().enumerate() {
                for action in ACTIONS {
                    for (by, scope) in realm.offers(who, action, world.now_ms) {
                        let why = known.justify((who, action), by, &scope, world.now_ms);
                        why.map_err(|why| {
                            format!("{} may {action:?} by {by:?}: {why}", person.id)
                        })?;
                    }
                }
            }
        }
        Ok(())
    }
}

pub(super) fn ensure(good: bool, wrong: &str) -> Result<(), String> {
    match good {
        true => Ok(()),
        false => Err(wrong.to_owned()),
    }
}

impl Known {
    /// No stage of a tenant's life is skipped, and nothing new is governed out of the active one.
    fn stage(&self, act: &Act) -> Result<(), String> {
        use TenantState::{Active, Exiting, Suspended};
        let in_one_of = match act {
            Act::Mandate(act) => {
                let may = self.stage_of_mandate(act);
                return ensure(may, "a mandate was moved where nothing is governed");
            }
            Act::Hold(act) => states_for(act),
            Act::Resume => &[Suspended][..],
            Act::BeginExit => &[Active, Suspended],
            Act::Close => &[Exiting],
            Act::TakeEvidence | Act::RevokeRight(_) | Act::RevokeDelegation(_) => {
                &[Active, Suspended, Exiting]
            }
            Act::EndPrincipal(_) | Act::EndEmergency(_) | Act::ReviewEmergency(_) => {
                &[Active, Suspended, Exiting]
            }
            Act::IssueToken(_) => &[Active, Suspended, Exiting],
            _ => &[Active],
        };
        ensure(
            in_one_of.contains(&self.state),
            "it was accepted in a state that does not allow it",
        )
    }

    /// Checks what was accepted against what was before, and remembers it.
    fn note(
        &mut self,
        (who, now_ms): (usize, i64),
        act: &Act,
        realm: &Realm,
    ) -> Result<(), String> {
        match act {
            Act::Grant { .. } | Act::ApproveRight(_) | Act::RevokeRight(_) => {
                self.note_given((who, now_ms), act)?;
            }
            Act::Delegate { .. } | Act::Absence { .. } => {
                self.note_passed((who, now_ms), act, realm)?
            }
            Act::RevokeDelegation(nth) => {
                let at = place(self.passed.len(), *nth).ok_or("nothing was revoked")?;
                ensure(
                    !std::mem::replace(&mut self.passed[at].revoked, true),
                    "it was revoked twice",
                )?;
            }
            Act::AskEmergency { .. }
            | Act::ApproveEmergency(_)
            | Act::EndEmergency(_)
            | Act::ReviewEmergency(_) => {
                self.note_urgent((who, now_ms), act)?;
            }
            Act::Publish(reserved) => self.reserved.clone_from(reserved),
            Act::Mandate(act) => self.note_mandate((who, now_ms), act)?,
            Act::Hold(act) => self.note_hold(who, act)?,
            Act::IssueToken(to) => self.note_token(who, *to)?,
            Act::EndPrincipal(one) => {
                ensure(
                    !std::mem::replace(&mut self.gone[*one], true),
                    "somebody ended twice",
                )?;
            }
            Act::Suspend => self.state = TenantState::Suspended,
            Act::Resume => self.state = TenantState::Active,
            Act::BeginExit => self.state = TenantState::Exiting,
            Act::TakeEvidence => self.evidence |= self.state == TenantState::Exiting,
            Act::Close => {
                ensure(
                    self.evidence,
                    "a tenant was closed whose evidence nobody took",
                )?;
                self.lets_go()?;
                self.state = TenantState::Closed;
            }
            Act::Decide(action, source) => {
                let offers = realm.offers(who, *action, now_ms);
                let covering = offers.iter().filter(|(_, scope)| covers(scope, source));
                let mut sound =
                    covering.map(|(by, scope)| self.justify((who, *action), *by, scope, now_ms));
                ensure(
                    sound.any(|one| one.is_ok()),
                    "somebody decided without a right",
                )?;
            }
        }
        Ok(())
    }

    fn note_given(&mut self, (who, now_ms): (usize, i64), act: &Act) -> Result<(), String> {
        let hours = |hours: i64| now_ms + hours * HOUR_MS;
        match act {
            Act::Grant {
                grantee,
                action,
                scope,
                term,
                grantor,
            } => {
                ensure(
                    grantor.is_none_or(|grantor| grantor == who),
                    "a right was granted in another's name",
                )?;
                self.given.push(Given {
                    by: who,
                    to: *grantee,
                    action: *action,
                    scope: scope.clone(),
                    term: (hours(term.0), hours(term.1)),
                    reserved: self.reserved.contains(action),
                    second: None,
                    revoked: false,
                });
            }
            Act::ApproveRight(nth) => {
                let at = place(self.given.len(), *nth).ok_or("nothing was approved")?;
                let one = &mut self.given[at];
                ensure(
                    one.reserved && one.second.is_none(),
                    "what did not wait was approved",
                )?;
                ensure(
                    is_another(who, one.by) && is_another(who, one.to),
                    "who gives or takes a right approved it",
                )?;
                one.second = Some(who);
            }
            Act::RevokeRight(nth) => {
                let at = place(self.given.len(), *nth).ok_or("nothing was revoked")?;
                ensure(
                    !std::mem::replace(&mut self.given[at].revoked, true),
                    "it was revoked twice",
                )?;
            }
            _ => {}
        }
        Ok(())
    }

    /// What was passed on, as the newest delegations of the tenant say; whose it was, is told from what is known.
    fn note_passed(
        &mut self,
        (who, now_ms): (usize, i64),
        act: &Act,
        realm: &Realm,
    ) -> Result<(), String> {
        for one in &realm.delegations[self.passed.len()..] {
            let source = match &one.source {
                None => By::Right(
                    realm
                        .rights
                        .iter()
                        .position(|right| right.id == one.right)
                        .unwrap(),
                ),
                Some(id) => By::Delegation(
                    realm
                        .delegations
                        .iter()
                        .position(|below| below.id == *id)
                        .unwrap(),
                ),
            };
            let hours = match act {
                Act::Delegate { hours, .. } | Act::Absence { hours, .. } => *hours,
                _ => 0,
            };
            let passed = Passed {
                by: who,
                to: num(one.delegate.as_str()),
                source,
                scope: one.scope.clone(),
                term: (now_ms, now_ms + hours * HOUR_MS),
                transitive: matches!(
                    act,
                    Act::Delegate {
                        transitive: true,
                        ..
                    }
                ),
                revoked: false,
            };
            ensure(
                (one.valid_from_ms, one.valid_to_ms) == passed.term,
                "it was passed on for another time",
            )?;
            self.passed.push(passed);
        }
        Ok(())
    }

    fn note_urgent(&mut self, (who, now_ms): (usize, i64), act: &Act) -> Result<(), String> {
        let count = self.urgent.len();
        let at = |nth: usize| place(count, nth).ok_or("there is none");
        match act {
            Act::ApproveEmergency(nth) => {
                let access = &mut self.urgent[at(*nth)?];
                ensure(access.approved.is_none(), "an access was approved twice")?;
                ensure(
                    now_ms < access.asked_ms + HOUR_MS,
                    "an old request was approved",
                )?;
                let other = is_another(who, access.by);
                ensure(other, "who asked for an access approved it")?;
                ensure(
                    is_human(who) && is_human(access.by),
                    "a machine let an access begin",
                )?;
                ensure(
                    of_customer(who) || of_customer(access.by),
                    "nobody of the customer let an access begin",
                )?;
                access.approved = Some((who, now_ms));
            }
            Act::EndEmergency(nth) => {
                let access = &mut self.urgent[at(*nth)?];
                ensure(
                    access.approved.is_some() && now_ms < access.end_ms(),
                    "what was not active ended",
                )?;
                access.ended_ms = Some(now_ms);
            }
            Act::ReviewEmergency(nth) => {
                let access = &mut self.urgent[at(*nth)?];
                let (approver, _) = access.approved.ok_or("what never began was reviewed")?;
                let over = now_ms >= access.end_ms();
                ensure(over, "it was reviewed before it was over")?;
                ensure(!access.reviewed, "it was reviewed twice")?;
                ensure(
                    is_another(who, access.by) && is_another(who, approver) && is_human(who),
                    "one of the two reviewed it",
                )?;
                access.reviewed = true;
            }
            Act::AskEmergency {
                role,
                action,
                minutes,
            } => {
                let governs = role.is_some_and(|role| role.ends_with("administrator"));
                ensure(!governs, "an access was asked for that lets govern")?;
                ensure(
                    (1..=240).contains(minutes),
                    "an access was asked for that is too long",
                )?;
                let (ended_ms, ms) = (None, minutes * 60_000);
                self.urgent.push(Urgent {
                    by: who,
                    asked_ms: now_ms,
                    action: *action,
                    ms,
                    approved: None,
                    ended_ms,
                    reviewed: false,
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// Why somebody may decide so, in that scope and at that moment.
    fn justify(
        &self,
        (who, action): (usize, DecisionAction),
        by: By,
        scope: &Scope,
        now_ms: i64,
    ) -> Result<(), String> {
        ensure(!self.gone[who], "has ended")?;
        ensure(
            may_decide(PEOPLE[who], action),
            "is of a kind that never decides so",
        )?;
        self.is_mandated((who, action), scope, now_ms)?;
        match by {
            By::Right(at) => {
                let one = &self.given[at];
                ensure(
                    one.to == who && one.action == action,
                    "the right is another's, or for something else",
                )?;
                ensure(within(scope, &one.scope), "wider than the right")?;
                self.stands(one, now_ms)
            }
            By::Delegation(_) => {
                let mut seen = vec![who];
                self.rests(
                    (who, action),
                    by,
                    (scope, (now_ms, now_ms + 1)),
                    now_ms,
                    &mut seen,
                )
            }
            By::Emergency(at) => {
                let one = &self.urgent[at];
                let (_, begun_ms) = one.approved.ok_or("nobody let it begin")?;
                ensure(
                    one.by == who && one.action == Some(action),
                    "the access is another's, or for something else",
                )?;
                ensure(
                    begun_ms <= now_ms && now_ms < one.end_ms(),
                    "the access is over",
                )?;
                ensure(
                    one.end_ms() - begun_ms <= 4 * HOUR_MS,
                    "the access is too long",
                )
            }
        }
    }

    /// A right holds, was given by a human of the customer, and by two of them where that was asked for.
    fn stands(&self, one: &Given, now_ms: i64) -> Result<(), String> {
        ensure(
            one.term.0 <= now_ms && now_ms < one.term.1,
            "the right is over, or to come",
        )?;
        ensure(
            one.term.1 - one.term.0 <= 730 * DAY_MS,
            "the right is too long",
        )?;
        ensure(!one.revoked, "the right was revoked")?;
        ensure(
            of_customer(one.by) && is_human(one.by),
            "no human of the customer gave the right",
        )?;
        if !one.reserved {
            return Ok(());
        }
        let second = one.second.ok_or("nobody was the second")?;
        let other = is_another(second, one.by) && is_another(second, one.to);
        ensure(
            other && of_customer(second) && is_human(second),
            "the second is none",
        )
    }

    /// What was passed on lies within what it rests on, all the way down, and all of it holds.
    fn rests(
        &self,
        (holder, action): (usize, DecisionAction),
        by: By,
        (scope, term): (&Scope, (i64, i64)),
        now_ms: i64,
        seen: &mut Vec<usize>,
    ) -> Result<(), String> {
        ensure(!self.gone[holder], "somebody it rests on has ended")?;
        match by {
            By::Right(at) => {
                let one = &self.given[at];
                ensure(
                    one.to == holder && one.action == action,
                    "it rests on another's right",
                )?;
                ensure(within(scope, &one.scope), "wider than the right below")?;
                ensure(
                    one.term.0 <= term.0 && term.1 <= one.term.1,
                    "longer than the right below",
                )?;
                self.stands(one, now_ms)
            }
            By::Delegation(at) => {
                let one = &self.passed[at];
                ensure(
                    one.to == holder && may_decide(PEOPLE[holder], action),
                    "it rests on what another was given",
                )?;
                ensure(!one.revoked, "it rests on what was revoked")?;
                ensure(within(scope, &one.scope), "wider than what is below")?;
                ensure(
                    one.term.0 <= term.0 && term.1 <= one.term.1,
                    "longer than what is below",
                )?;
                ensure(
                    one.term.1 - one.term.0 <= 90 * DAY_MS,
                    "passed on for too long",
                )?;
                ensure(
                    !seen.contains(&one.by) && seen.len() <= 3,
                    "passed on in a circle, or too often",
                )?;
                seen.push(one.by);
                if let By::Delegation(below) = one.source {
                    ensure(self.passed[below].transitive, "passed on by who may not")?;
                }
                self.rests(
                    (one.by, action),
                    one.source,
                    (&one.scope, one.term),
                    now_ms,
                    seen,
                )
            }
            By::Emergency(_) => Err("it rests on an emergency".to_owned()),
        }
    }
}
