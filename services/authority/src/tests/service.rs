//! The same commands to the real service: it answers what the model answers, and afterwards everybody holds what the model says.

use counterfoil_chassis::{clock::timestamp, db::Engine, testing::TestDatabase};
use counterfoil_proto::authority as proto;
use proptest::strategy::{Strategy, ValueTree};
use tonic::Status;

use super::{
    apt,
    command::{ACTIONS, Act, Command, HOUR_MS, Nth, PEOPLE, Source, TENANTS, commands},
    command_mandates::{MandateAct, agents},
    common::{Clients, Deployment, reason},
    onboard::onboard,
    runner,
    world::{By, World, place},
};
use crate::model::{
    right::{DecisionAction, Scope},
    tenant::TenantState,
};

/// Sequences in every run of the tests.
const SEQUENCES: usize = 200;
/// Commands in one.
const LENGTH: std::ops::RangeInclusive<usize> = 5..=15;
/// How many sequences follow each other in the same two tenants at most.
const ROUND: usize = 20;

/// A tenant of the service, and what was made in it, in the order of the world's lists.
pub(super) struct Realm {
    pub(super) id: String,
    /// The token that each of the people presents.
    pub(super) tokens: Vec<String>,
    rights: Vec<Thing>,
    delegations: Vec<Thing>,
    emergencies: Vec<Thing>,
    pub(super) holds: Vec<Thing>,
    pub(super) mandates: Vec<Thing>,
    /// The mandate that was read last.
    pub(super) read: Option<proto::AgentMandate>,
    /// How many credentials were taken away with the mandate that was revoked last.
    pub(super) taken: Option<usize>,
}

/// Something that was made: its name, and the record that decisions cite.
#[derive(Debug, Clone)]
pub(super) struct Thing {
    pub(super) name: String,
    record_hash: Vec<u8>,
}

impl Thing {
    pub(super) fn new(name: String, record_hash: Vec<u8>) -> Self {
        Self { name, record_hash }
    }
}

/// One kind of thing's name by its place from the newest; where there is none, a name that nothing has.
pub(super) fn nth_name(things: &[Thing], nth: Nth, tenant: &str, collection: &str) -> String {
    let found = place(things.len(), nth).map(|at| things[at].name.clone());
    found.unwrap_or_else(|| format!("tenants/{tenant}/{collection}/none"))
}

impl Realm {
    async fn new(deployment: &Deployment, id: String) -> Self {
        Self {
            tokens: onboard(deployment, &id).await,
            id,
            rights: Vec::new(),
            delegations: Vec::new(),
            emergencies: Vec::new(),
            holds: Vec::new(),
            mandates: Vec::new(),
            read: None,
            taken: None,
        }
    }

    pub(super) fn name(&self) -> String {
        format!("tenants/{}", self.id)
    }

    pub(super) fn person(&self, who: usize) -> String {
        format!("tenants/{}/principals/{}", self.id, PEOPLE[who].id)
    }

    pub(super) fn scope(&self, scope: &Scope) -> Vec<String> {
        match scope {
            Scope::Everywhere => vec!["*".to_owned()],
            Scope::Sources(sources) => sources.iter().map(|one| one.name(&self.id)).collect(),
        }
    }

    fn right(&self, nth: Nth) -> String {
        nth_name(&self.rights, nth, &self.id, "decision-rights")
    }

    fn delegation(&self, nth: Nth) -> String {
        nth_name(&self.delegations, nth, &self.id, "delegations")
    }

    fn emergency(&self, nth: Nth) -> String {
        nth_name(&self.emergencies, nth, &self.id, "emergencies")
    }

    /// Asks the service for what the command says.
    async fn call(
        &mut self,
        who: usize,
        caller: Clients,
        act: &Act,
        now_ms: i64,
    ) -> Result<(), Status> {
        match act {
            Act::Grant { .. } | Act::ApproveRight(_) | Act::RevokeRight(_) => {
                self.call_rights(who, caller, act, now_ms).await
            }
            Act::Delegate { .. } | Act::RevokeDelegation(_) | Act::Absence { .. } => {
                self.call_delegations(caller, act, now_ms).await
            }
            Act::AskEmergency { .. }
            | Act::ApproveEmergency(_)
            | Act::EndEmergency(_)
            | Act::ReviewEmergency(_) => self.call_emergencies(caller, act).await,
            Act::Mandate(act) => self.call_mandates(caller, act, now_ms).await,
            Act::Hold(act) => self.call_hold(caller, act).await,
            Act::IssueToken(to) => self.issue_token(caller, *to).await,
            // What may be decided is compared apart.
            Act::Decide(..) => Ok(()),
            _ => self.call_tenant(caller, act).await,
        }
    }

    async fn call_rights(
        &mut self,
        who: usize,
        mut caller: Clients,
        act: &Act,
        now_ms: i64,
    ) -> Result<(), Status> {
        match act {
            Act::Grant {
                grantee,
                action,
                scope,
                term,
                grantor,
            } => {
                let right = proto::DecisionRight {
                    grantee: self.person(*grantee),
                    action: *action as i32,
                    scope: self.scope(scope),
                    valid_from_time: Some(timestamp(now_ms + term.0 * HOUR_MS)),
                    valid_to_time: Some(timestamp(now_ms + term.1 * HOUR_MS)),
                    grantor: self.person(grantor.unwrap_or(who)),
                    ..Default::default()
                };
                let request = proto::GrantDecisionRightsRequest {
                    tenant: self.name(),
                    decision_rights: vec![right],
                    ..Default::default()
                };
                let answer = caller.rights.grant_decision_rights(request).await?;
                let given = answer.into_inner().decision_rights.into_iter();
                self.rights
                    .extend(given.map(|one| Thing::new(one.name, one.record_hash)));
            }
            Act::ApproveRight(nth) => {
                let request = proto::ApproveDecisionRightRequest {
                    name: self.right(*nth),
                    ..Default::default()
                };
                let answer = caller.rights.approve_decision_right(request).await?;
                let right = answer.into_inner().decision_right.unwrap();
                let at = place(self.rights.len(), *nth).unwrap();
                self.rights[at].record_hash = right.record_hash;
            }
            Act::RevokeRight(nth) => {
                let request = proto::RevokeDecisionRightRequest {
                    name: self.right(*nth),
                    ..Default::default()
                };
                caller.rights.revoke_decision_right(request).await?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn call_delegations(
        &mut self,
        mut caller: Clients,
        act: &Act,
        now_ms: i64,
    ) -> Result<(), Status> {
        match act {
            Act::Delegate {
                source,
                delegate,
                scope,
                hours,
                transitive,
            } => {
                let delegation = proto::Delegation {
                    delegate: self.person(*delegate),
                    source: match *source {
                        Source::Right(nth) => self.right(nth),
                        Source::Delegation(nth) => self.delegation(nth),
                    },
                    scope: scope
                        .as_ref()
                        .map(|scope| self.scope(scope))
                        .unwrap_or_default(),
                    valid_to_time: Some(timestamp(now_ms + hours * HOUR_MS)),
                    transitive: *transitive,
                    reason_code: "absence".to_owned(),
                    ..Default::default()
                };
                let request = proto::GrantDelegationRequest {
                    tenant: self.name(),
                    delegation: Some(delegation),
                    ..Default::default()
                };
                let answer = caller.delegations.grant_delegation(request).await?;
                let given = answer.into_inner().delegation.unwrap();
                self.delegations
                    .push(Thing::new(given.name, given.record_hash));
            }
            Act::Absence { deputy, hours } => {
                let request = proto::SetAbsenceRequest {
                    tenant: self.name(),
                    deputy: self.person(*deputy),
                    to_time: Some(timestamp(now_ms + hours * HOUR_MS)),
                    ..Default::default()
                };
                let answer = caller.delegations.set_absence(request).await?;
                let given = answer.into_inner().delegations.into_iter();
                self.delegations
                    .extend(given.map(|one| Thing::new(one.name, one.record_hash)));
            }
            Act::RevokeDelegation(nth) => {
                let request = proto::RevokeDelegationRequest {
                    name: self.delegation(*nth),
                    ..Default::default()
                };
                caller.delegations.revoke_delegation(request).await?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn call_emergencies(&mut self, mut caller: Clients, act: &Act) -> Result<(), Status> {
        match act {
            Act::AskEmergency {
                role,
                action,
                minutes,
            } => {
                let access = proto::EmergencyAccess {
                    roles: role.iter().map(|role| (*role).to_owned()).collect(),
                    actions: action.iter().map(|action| *action as i32).collect(),
                    duration_seconds: minutes * 60,
                    ..Default::default()
                };
                let request = proto::RequestEmergencyAccessRequest {
                    tenant: self.name(),
                    access: Some(access),
                    reason: "an outage".to_owned(),
                    ..Default::default()
                };
                let answer = caller.emergencies.request_emergency_access(request).await?;
                let access = answer.into_inner().access.unwrap();
                self.emergencies.push(Thing::new(access.name, Vec::new()));
            }
            Act::ApproveEmergency(nth) => {
                let request = proto::ApproveEmergencyAccessRequest {
                    name: self.emergency(*nth),
                    ..Default::default()
                };
                let answer = caller.emergencies.approve_emergency_access(request).await?;
                let at = place(self.emergencies.len(), *nth).unwrap();
                self.emergencies[at].record_hash = answer.into_inner().receipt.unwrap().record_hash;
            }
            Act::EndEmergency(nth) => {
                let request = proto::EndEmergencyAccessRequest {
                    name: self.emergency(*nth),
                    ..Default::default()
                };
                caller.emergencies.end_emergency_access(request).await?;
            }
            Act::ReviewEmergency(nth) => {
                let request = proto::ReviewEmergencyUseRequest {
                    name: self.emergency(*nth),
                    outcome_code: "justified".to_owned(),
                    findings: "looked at".to_owned(),
                    ..Default::default()
                };
                caller.emergencies.review_emergency_use(request).await?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn call_tenant(&mut self, mut caller: Clients, act: &Act) -> Result<(), Status> {
        let (name, reason_code) = (self.name(), "contract".to_owned());
        let request_id = String::new();
        let tenants = &mut caller.tenants;
        match act {
            Act::Publish(reserved) => {
                let policy = proto::Policy {
                    four_eyes_actions: reserved.iter().map(|action| *action as i32).collect(),
                    ..Default::default()
                };
                let request = proto::PublishPolicyRequest {
                    tenant: name,
                    policy: Some(policy),
                    request_id,
                };
                caller.policies.publish_policy(request).await.map(|_| ())
            }
            Act::EndPrincipal(who) => {
                let name = self.person(*who);
                let request = proto::EndPrincipalRequest { name, request_id };
                caller.principals.end_principal(request).await.map(|_| ())
            }
            Act::Suspend => {
                let request = proto::SuspendTenantRequest {
                    name,
                    reason_code,
                    request_id,
                };
                tenants.suspend_tenant(request).await.map(|_| ())
            }
            Act::Resume => {
                let request = proto::ResumeTenantRequest {
                    name,
                    reason_code,
                    request_id,
                };
                tenants.resume_tenant(request).await.map(|_| ())
            }
            Act::BeginExit => {
                let request = proto::BeginExitRequest {
                    name,
                    reason_code,
                    request_id,
                };
                tenants.begin_exit(request).await.map(|_| ())
            }
            Act::Close => {
                let request = proto::CloseTenantRequest { name, request_id };
                tenants.close_tenant(request).await.map(|_| ())
            }
            _ => {
                let request = proto::RecordEvidencePackRequest {
                    tenant: name,
                    tree_size: 1,
                    root_hash: vec![1; 32],
                    format_code: "bundle".to_owned(),
                    request_id,
                };
                tenants.record_evidence_pack(request).await.map(|_| ())
            }
        }
    }

    /// By what the service says that somebody may decide, as the world says it: what, where, and in whose names; and on which of its
    /// mandates an agent acts, and whether alone.
    async fn offers(
        &self,
        service: &Clients,
        who: usize,
        action: DecisionAction,
    ) -> (Vec<(By, Vec<String>, Vec<String>)>, Option<Acting>) {
        let request = proto::CheckDecisionRightRequest {
            principal: self.person(who),
            action: action as i32,
        };
        let answer = service
            .rights
            .clone()
            .check_decision_right(request)
            .await
            .unwrap();
        let answer = answer.into_inner();
        let acting = answer.agent.map(|agent| {
            let mut mandates = self.mandates.iter();
            let at = mandates.position(|one| one.name == agent.mandate);
            at.map(|at| (at, agent.decides_alone))
        });
        let rights = answer.decision_rights.into_iter();
        let offers = rights.map(|right| {
            let at = |things: &[Thing]| {
                things
                    .iter()
                    .position(|one| one.record_hash == right.record_hash)
            };
            let by = None
                .or_else(|| at(&self.rights).map(By::Right))
                .or_else(|| at(&self.delegations).map(By::Delegation))
                .or_else(|| at(&self.emergencies).map(By::Emergency));
            let names = right.on_behalf_of.into_iter().map(|one| one.principal);
            (by.unwrap(), right.scope, names.collect())
        });
        let mut offers: Vec<_> = offers.collect();
        offers.sort_unstable();
        (offers, acting)
    }
}

/// On which of its mandates an agent acts, and whether alone; `None`: on none.
pub(super) type Acting = Option<(usize, bool)>;

/// The service and the world, in step.
struct Pair {
    deployment: Deployment,
    world: World,
    realms: [Realm; TENANTS],
    done: Vec<Command>,
}

impl Pair {
    async fn new(deployment: Deployment, number: usize) -> Self {
        let now_ms = deployment.clock.now_ms();
        let realms = [
            Realm::new(&deployment, format!("north-{number}")).await,
            Realm::new(&deployment, format!("south-{number}")).await,
        ];
        Self {
            world: World::new(now_ms),
            deployment,
            realms,
            done: Vec::new(),
        }
    }

    /// Whether there is still enough going on in these tenants.
    fn lives(&self) -> bool {
        self.world.realms.iter().all(|realm| {
            let gone = realm.people.iter().filter(|one| !one.is_active());
            realm.state == TenantState::Active && gone.count() < 3
        })
    }

    /// Both do a command; they must answer the same.
    async fn step(&mut self, command: &Command) -> bool {
        let command = apt::by_who_may(command, &self.world);
        self.done.push(command.clone());
        let before = self.world.realms[command.tenant].tokens.clone();
        let expected = self.world.apply(&command);
        self.deployment.clock.set_ms(self.world.now_ms);
        let (home, who) = command.caller;
        if matches!(command.act, Act::Decide(..)) {
            self.compare(command.tenant, who).await;
            return expected.is_ok();
        }
        let caller = match command.act.is_by_a_service() {
            true => self.deployment.service.clone(),
            false => self.deployment.clients_with(&self.realms[home].tokens[who]),
        };
        let realm = &mut self.realms[command.tenant];
        let answer = realm
            .call(who, caller, &command.act, self.world.now_ms)
            .await;
        let answer = answer.map_err(|status| reason(&status));
        assert_eq!(answer, expected, "after {:#?}", self.done);
        if expected.is_ok() {
            self.compare_told(command.tenant, &command.act, &before);
        }
        expected.is_ok()
    }

    /// What was told of a mandate is so. `before`: how many tokens each of the people had.
    fn compare_told(&self, tenant: usize, act: &Act, before: &[usize]) {
        let (model, real) = (&self.world.realms[tenant], &self.realms[tenant]);
        match act {
            Act::Mandate(MandateAct::Get(nth)) => {
                let expected = model.to_tell(*nth, self.world.now_ms);
                assert_eq!(real.told(), expected, "after {:#?}", self.done);
            }
            Act::Mandate(MandateAct::Revoke(_)) => {
                let gone = before.iter().zip(&model.tokens);
                let gone: usize = gone.map(|(before, after)| before - after).sum();
                assert_eq!(real.taken, Some(gone), "after {:#?}", self.done);
            }
            _ => {}
        }
    }

    /// Somebody holds the same in both.
    async fn compare(&self, tenant: usize, who: usize) {
        let (model, real) = (&self.world.realms[tenant], &self.realms[tenant]);
        let (service, now_ms) = (&self.deployment.service, self.world.now_ms);
        if agents().any(|agent| agent == who) {
            let expected = model.permissions(who, now_ms);
            let found = real.permissions(service, who).await;
            assert_eq!(found, expected, "after {:#?}", self.done);
        }
        for action in ACTIONS {
            let offers = model.offers(who, action, now_ms).into_iter();
            let mut expected: Vec<_> = offers
                .map(|(by, scope)| {
                    let names = match by {
                        By::Delegation(at) => {
                            let held = model.held(&model.delegations[at]);
                            held.on_behalf_of().map(|id| id.name(&real.id)).collect()
                        }
                        By::Right(_) | By::Emergency(_) => Vec::new(),
                    };
                    (by, real.scope(&scope), names)
                })
                .collect();
            expected.sort_unstable();
            let (found, acting) = real.offers(service, who, action).await;
            assert_eq!(
                found, expected,
                "{} {action:?} after {:#?}",
                PEOPLE[who].id, self.done
            );
            let expected = model.acting(who, now_ms);
            assert_eq!(acting, expected, "after {:#?}", self.done);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_answers_what_the_model_answers() {
    let db = TestDatabase::new(Engine::Sqlite).await;
    let mut pair = Pair::new(Deployment::start(db).await, 0).await;
    let (mut runner, strategy) = (runner(1), commands(LENGTH));
    let (mut asked, mut accepted) = (0, 0);
    for number in 0..SEQUENCES {
        if number % ROUND == 0 || !pair.lives() {
            pair = Pair::new(pair.deployment, number + 1).await;
        }
        let sequence = strategy.new_tree(&mut runner).unwrap().current();
        for command in &sequence {
            asked += 1;
            accepted += usize::from(pair.step(command).await);
        }
        for tenant in 0..TENANTS {
            for who in 0..PEOPLE.len() {
                pair.compare(tenant, who).await;
            }
        }
    }
    println!("{SEQUENCES} sequences, {asked} commands, {accepted} accepted by both");
    assert!(
        accepted > SEQUENCES,
        "hardly anything was let: {accepted} of {asked}"
    );
}
