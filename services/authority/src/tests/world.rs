//! Two tenants in memory, moved by the rules of the model alone: what the service does, without its database and its wire.

use std::sync::LazyLock;

use counterfoil_chassis::{ApiError, Role, auth::PermissionTable};

use super::{
    command::{Act, Command, Nth, PEOPLE, TENANTS},
    turn::Turn,
};
use crate::{
    error::Refusal,
    model::{
        delegation::{Delegation, Held},
        emergency::{Emergency, Phase},
        ids::PrincipalId,
        principal::Principal,
        right::{DecisionAction, Right, Scope},
        tenant::{Step, TenantState, allows},
    },
};

static PERMISSIONS: LazyLock<PermissionTable> =
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
        let (home, who) = command.caller;
        let (permission, step) = asks(&command.act);
        let caller = self.realms[home]
            .identify(who, self.now_ms)
            .ok_or_else(ApiError::unauthenticated);
        let allowed = caller.map_err(no).and_then(|roles| {
            let holds = |role: &String| {
                Role::named(role).is_some_and(|role| PERMISSIONS.holds(role, permission))
            };
            match roles.iter().any(holds) {
                true if home == command.tenant => Ok(roles),
                true => Err(not_found()),
                false => Err(Refused::of("PERMISSION_MISSING")),
            }
        });
        let realm = &mut self.realms[command.tenant];
        let done = allowed.and_then(|roles| {
            if !allows(realm.state, step) {
                return Err(Refusal::TenantState(realm.state).into());
            }
            let caller = realm.people[who].clone();
            let administers = roles.iter().any(|role| role == "tenant-administrator");
            Turn {
                realm,
                caller,
                administers,
                now_ms: self.now_ms,
            }
            .take(&command.act)
        });
        done.map_err(|refused| refused.0)
    }
}

/// The permission that an act needs, and what it asks of the tenant.
fn asks(act: &Act) -> (&'static str, Step) {
    match act {
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
        Act::Decide(..) => ("items.decide", Step::Govern),
    }
}

/// The place of the nth newest; `None`: there is none at all.
pub(super) fn place(count: usize, nth: Nth) -> Option<usize> {
    (count > 0).then(|| count - 1 - nth % count)
}

impl Realm {
    /// The roles of somebody whose token counts.
    fn identify(&self, who: usize, now_ms: i64) -> Option<Vec<String>> {
        let found = self.people.get(who).filter(|one| one.is_active())?;
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
        (self.state != TenantState::Closed).then_some(roles)
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
