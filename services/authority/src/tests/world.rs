//! Two tenants in memory, moved by the rules of the model alone: what the service does, without its database and its wire.

use std::sync::LazyLock;

use counterfoil_chassis::{ApiError, Role, auth::PermissionTable};
use counterfoil_evidence::v1::RetentionRule;

use super::{
    command::{Act, CALLERS, Command, Nth, PEOPLE, TENANTS},
    command_holds::{AT_FIRST, HoldAct},
    command_mandates::MandateAct,
    turn::Turn,
    turn_holds::rules,
    world_mandates::{Counted, Left},
};
use crate::{
    error::{AgentRefusal, HoldRefusal, Refusal},
    model::{
        delegation::{Delegation, Held},
        emergency::{Emergency, Phase},
        hold::Hold,
        ids::PrincipalId,
        mandate::Mandate,
        principal::Principal,
        right::{DecisionAction, Right, Scope},
        tenant::{Step, TenantState, allows},
    },
};

pub(super) static PERMISSIONS: LazyLock<PermissionTable> =
    LazyLock::new(|| PermissionTable::of_api().unwrap());

/// Why something is refused: the reason that a program reads.
pub(super) type Reason = String;

/// A refusal on its way.
pub(super) struct Refused(Reason);

impl Refused {
    pub(super) fn of(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(ApiError::from(refusal).reason().to_owned())
    }
}

impl From<AgentRefusal> for Refused {
    fn from(refusal: AgentRefusal) -> Self {
        Self(ApiError::from(refusal).reason().to_owned())
    }
}

impl From<HoldRefusal> for Refused {
    fn from(refusal: HoldRefusal) -> Self {
        Self(ApiError::from(refusal).reason().to_owned())
    }
}

fn no(error: ApiError) -> Refused {
    Refused(error.reason().to_owned())
}

pub(super) fn not_found() -> Refused {
    no(ApiError::not_found())
}

/// By what somebody may decide: a place in the lists of the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum By {
    Right(usize),
    Delegation(usize),
    Emergency(usize),
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Realm {
    pub(super) state: TenantState,
    pub(super) reserved: Vec<DecisionAction>,
    pub(super) people: Vec<Principal>,
    pub(super) rights: Vec<Right>,
    pub(super) delegations: Vec<Delegation>,
    pub(super) emergencies: Vec<Emergency>,
    pub(super) holds: Vec<Hold>,
    /// The retention policy in force.
    pub(super) kept: Vec<RetentionRule>,
    pub(super) mandates: Vec<Mandate>,
    /// Removals counted under each of the mandates.
    pub(super) removals: Vec<i64>,
    /// Acts of agents that are remembered.
    pub(super) counted: Vec<Counted>,
    /// How many good tokens each of the people has.
    pub(super) tokens: Vec<usize>,
    pub(super) evidence_taken: bool,
}

/// All there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct World {
    pub(super) now_ms: i64,
    pub(super) realms: [Realm; TENANTS],
}

impl World {
    /// Two active tenants at this moment.
    pub(super) fn new(now_ms: i64) -> Self {
        let realm = || Realm {
            state: TenantState::Active,
            reserved: Vec::new(),
            people: PEOPLE.iter().map(|person| person.principal()).collect(),
            rights: Vec::new(),
            delegations: Vec::new(),
            emergencies: Vec::new(),
            holds: Vec::new(),
            kept: rules(AT_FIRST),
            mandates: Vec::new(),
            removals: Vec::new(),
            counted: Vec::new(),
            tokens: (0..PEOPLE.len())
                .map(|who| usize::from(who < CALLERS))
                .collect(),
            evidence_taken: false,
        };
        Self {
            now_ms,
            realms: [realm(), realm()],
        }
    }

    /// Does what is asked, or says why not and changes nothing but the time.
    pub(super) fn apply(&mut self, command: &Command) -> Result<(), Reason> {
        self.now_ms += command.after_ms;
        let who = command.caller.1;
        let roles = self.let_in(command)?;
        let now_ms = self.now_ms;
        let realm = &mut self.realms[command.tenant];
        if let Some(step) = asks(&command.act).1
            && !allows(realm.state, step)
        {
            return Err(Refused::from(Refusal::TenantState(realm.state)).0);
        }
        let caller = realm.people[who].clone();
        let administers = roles.iter().any(|role| role == "tenant-administrator");
        let mut turn = Turn {
            realm,
            caller,
            administers,
            now_ms,
        };
        turn.take(&command.act).map_err(|refused| refused.0)
    }

    /// The roles of the caller, if the gate lets them in.
    fn let_in(&self, command: &Command) -> Result<Vec<String>, Reason> {
        let (home, who) = command.caller;
        if command.act.is_by_a_service() {
            return Ok(Vec::new());
        }
        let permission = asks(&command.act).0;
        let caller = self.realms[home].identify(who, self.now_ms);
        let caller = caller.ok_or_else(|| no(ApiError::unauthenticated()).0)?;
        match caller.may(permission) {
            true if home == command.tenant => Ok(caller.roles),
            true => Err(not_found().0),
            false => Err("PERMISSION_MISSING".to_owned()),
        }
    }
}

/// The permission that deciding needs, in whose service ever that is done.
const fn to_decide(action: DecisionAction) -> &'static str {
    match action {
        DecisionAction::Remediate => "remediations.plan",
        DecisionAction::Except => "findings.accept",
        _ => "items.decide",
    }
}

/// The permission that an act needs, and what it asks of the tenant; `None`: nothing that its life forbids.
fn asks(act: &Act) -> (&'static str, Option<Step>) {
    let (permission, step) = match act {
        Act::Grant { .. } => ("decision_rights.grant", Step::Govern),
        Act::ApproveRight(_) => ("decision_rights.approve", Step::Govern),
        Act::RevokeRight(_) => ("decision_rights.revoke", Step::Wind),
        Act::Delegate { .. } | Act::Absence { .. } => ("delegations.grant", Step::Govern),
        Act::RevokeDelegation(_) => ("delegations.revoke", Step::Wind),
        Act::AskEmergency { .. } => ("emergencies.request", Step::Govern),
        Act::ApproveEmergency(_) => ("emergencies.approve", Step::Govern),
        Act::EndEmergency(_) => ("emergencies.end", Step::Wind),
        Act::ReviewEmergency(_) => ("emergencies.review", Step::Wind),
        Act::Publish(_) => ("policies.publish", Step::Govern),
        Act::EndPrincipal(_) => ("principals.end", Step::Wind),
        Act::Suspend => ("tenants.suspend", Step::Suspend),
        Act::Resume => ("tenants.suspend", Step::Resume),
        Act::BeginExit => ("tenants.exit", Step::BeginExit),
        Act::TakeEvidence => ("evidence.record", Step::TakeEvidence),
        Act::Close => ("tenants.close", Step::Close),
        Act::Decide(action, _) => (to_decide(*action), Step::Govern),
        Act::IssueToken(_) => ("tokens.issue", Step::Wind),
        Act::Hold(HoldAct::Place(_)) => ("holds.place", Step::Wind),
        Act::Hold(HoldAct::Release(_)) => ("holds.release", Step::Wind),
        Act::Hold(HoldAct::Keep(_)) => ("policies.publish", Step::Govern),
        Act::Mandate(one) => return asks_about_mandates(one),
    };
    (permission, Some(step))
}

fn asks_about_mandates(act: &MandateAct) -> (&'static str, Option<Step>) {
    match act {
        MandateAct::Propose(_) => ("mandates.propose", Some(Step::Govern)),
        MandateAct::Grant(_) | MandateAct::Resume(_) => ("mandates.grant", Some(Step::Govern)),
        MandateAct::Certify(_) => ("mandates.certify", Some(Step::Govern)),
        MandateAct::Suspend(_) => ("mandates.suspend", Some(Step::Wind)),
        MandateAct::Revoke(_) => ("mandates.revoke", Some(Step::Wind)),
        MandateAct::Get(_) => ("mandates.get", None),
        MandateAct::Use { .. } => ("mandates.use", None),
    }
}

/// Somebody who calls.
pub(super) struct Comer {
    roles: Vec<String>,
    /// What of these is left to them.
    left: Left,
}

impl Comer {
    pub(super) fn may(&self, permission: &str) -> bool {
        let holds = |role: &String| {
            Role::named(role).is_some_and(|role| PERMISSIONS.holds(role, permission))
        };
        self.left.leaves(permission) && self.roles.iter().any(holds)
    }
}

/// The place of the nth newest; `None`: there is none at all.
pub(super) fn place(count: usize, nth: Nth) -> Option<usize> {
    (count > 0).then(|| count - 1 - nth % count)
}

impl Realm {
    /// Somebody whose token counts.
    pub(super) fn identify(&self, who: usize, now_ms: i64) -> Option<Comer> {
        let found = self.people.get(who).filter(|one| one.is_active())?;
        if self.tokens[who] == 0 || self.state == TenantState::Closed {
            return None;
        }
        let mut roles = found.roles.clone();
        let active = |access: &&Emergency| {
            access.requester == found.id && access.phase(now_ms) == Phase::Active
        };
        roles.extend(
            self.emergencies
                .iter()
                .filter(active)
                .flat_map(|access| access.roles.clone()),
        );
        let left = self.left(found, now_ms);
        Some(Comer { roles, left })
    }

    pub(super) fn person(&self, id: &PrincipalId) -> Option<&Principal> {
        self.people.iter().find(|one| one.id == *id)
    }

    /// A delegation with all that it rests on.
    pub(super) fn held(&self, last: &Delegation) -> Held {
        let mut passed_on = vec![last.clone()];
        while let Some(below) = passed_on.last().and_then(|one| one.source.clone()) {
            passed_on.push(
                self.delegations
                    .iter()
                    .find(|one| one.id == below)
                    .unwrap()
                    .clone(),
            );
        }
        passed_on.reverse();
        let right = self
            .rights
            .iter()
            .find(|one| one.id == last.right)
            .unwrap()
            .clone();
        Held { right, passed_on }
    }

    /// By what somebody may decide so at that moment, and where.
    pub(super) fn offers(
        &self,
        who: usize,
        action: DecisionAction,
        now_ms: i64,
    ) -> Vec<(By, Scope)> {
        let me = &self.people[who];
        if !me.is_active() {
            return Vec::new();
        }
        let own = self.rights.iter().enumerate();
        let own = own
            .filter(|(_, one)| one.grantee == me.id && one.action == action && one.holds(now_ms));
        let given = self.delegations.iter().enumerate();
        let given = given
            .filter(|(_, one)| one.delegate == me.id && one.action == action)
            .filter(|(_, one)| {
                let held = self.held(one);
                held.holds(now_ms)
                    && held
                        .people()
                        .all(|id| self.person(id).is_some_and(Principal::is_active))
            });
        let urgent = self.emergencies.iter().enumerate();
        let urgent = urgent.filter(|(_, one)| {
            one.requester == me.id
                && one.actions.contains(&action)
                && one.phase(now_ms) == Phase::Active
        });
        own.map(|(at, one)| (By::Right(at), one.scope.clone()))
            .chain(given.map(|(at, one)| (By::Delegation(at), one.scope.clone())))
            .chain(urgent.map(|(at, one)| (By::Emergency(at), one.scope.clone())))
            .filter_map(|(by, scope)| Some((by, self.leave(me, action, scope, now_ms)?)))
            .collect()
    }
}

/// Whether a scope covers a source.
pub(super) fn covers(scope: &Scope, source: &str) -> bool {
    match scope {
        Scope::Everywhere => true,
        Scope::Sources(sources) => sources.iter().any(|one| one.as_str() == source),
    }
}
