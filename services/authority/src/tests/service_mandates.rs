//! Commands about mandates to the real service, and what it says of agents.

use std::collections::BTreeSet;

use counterfoil_chassis::clock::timestamp;
use counterfoil_proto::authority as proto;
use tonic::Status;

use super::{
    command::{HOUR_MS, Nth},
    command_mandates::{MandateAct, Wish},
    common::Clients,
    service::{Acting, Realm, Thing, nth_name},
    turn_mandates::{BUILD, KILL_PATH, MODEL},
    world::{self, PERMISSIONS, place},
};
use crate::{
    api::mandate_state,
    model::{mandate::Autonomy, principal::PrincipalKind, right::DecisionAction},
};

/// What is told of a mandate: its state, why it gives nothing, and what was counted.
type Told = (i32, String, (u32, u64, u64));

impl Realm {
    fn mandate(&self, nth: Nth) -> String {
        nth_name(&self.mandates, nth, &self.id, "mandates")
    }

    /// A mandate as the service is asked for it.
    fn wished(&self, wish: &Wish, now_ms: i64) -> proto::AgentMandate {
        let hours = |hours: i64| timestamp(now_ms + hours * HOUR_MS);
        proto::AgentMandate {
            agent: self.person(wish.agent),
            owner: self.person(wish.owner),
            autonomy: wish.autonomy.into(),
            actions: wish.actions.iter().map(|one| *one as i32).collect(),
            scope: self.scope(&wish.scope),
            acts_per_hour_max: wish.limits.acts_per_hour,
            removals_per_day_max: wish.limits.removals_per_day,
            removals_max: wish.limits.removals,
            model: MODEL.to_owned(),
            build: BUILD.to_owned(),
            valid_from_time: wish.term.0.map(hours),
            valid_to_time: Some(hours(wish.term.1)),
            review_interval_days: wish.review_days,
            kill_path: KILL_PATH.to_owned(),
            ..Default::default()
        }
    }

    /// The mandate that the service names when it is asked whether an agent may decide so.
    async fn acts_under(
        &self,
        mut rights: RightsClient,
        agent: usize,
        action: DecisionAction,
    ) -> String {
        let request = proto::CheckDecisionRightRequest {
            principal: self.person(agent),
            action: action as i32,
        };
        let answer = rights.check_decision_right(request).await.unwrap();
        let named = answer.into_inner().agent.unwrap_or_default().mandate;
        match named.is_empty() {
            true => format!("{}/mandates/none", self.name()),
            false => named,
        }
    }

    pub(super) async fn call_mandates(
        &mut self,
        caller: Clients,
        act: &MandateAct,
        now_ms: i64,
    ) -> Result<(), Status> {
        let request_id = String::new();
        let (mut mandates, rights) = (caller.mandates, caller.rights);
        match act {
            MandateAct::Propose(wish) => {
                let request = proto::ProposeMandateRequest {
                    tenant: self.name(),
                    mandate: Some(self.wished(wish, now_ms)),
                    request_id,
                };
                let answer = mandates.propose_mandate(request).await?.into_inner();
                let name = answer.mandate.unwrap().name;
                self.mandates.push(Thing::new(name, Vec::new()));
            }
            MandateAct::Grant(nth) => {
                let name = self.mandate(*nth);
                let request = proto::GrantMandateRequest { name, request_id };
                mandates.grant_mandate(request).await?;
            }
            MandateAct::Get(nth) => {
                let name = self.mandate(*nth);
                let request = proto::GetMandateRequest { name };
                let answer = mandates.get_mandate(request).await?.into_inner();
                self.read = answer.mandate;
            }
            MandateAct::Use {
                agent,
                action,
                act,
                removals,
            } => {
                let mandate = self.acts_under(rights, *agent, *action).await;
                let request = proto::UseMandateRequest {
                    agent: self.person(*agent),
                    action: *action as i32,
                    act: format!("act-{act}"),
                    removals: *removals,
                    mandate,
                };
                mandates.use_mandate(request).await?;
            }
            _ => self.move_mandate(mandates, act).await?,
        }
        Ok(())
    }

    async fn move_mandate(
        &mut self,
        mut mandates: MandatesClient,
        act: &MandateAct,
    ) -> Result<(), Status> {
        let (request_id, reason_code) = (String::new(), "unexpected-volume".to_owned());
        match act {
            MandateAct::Certify(nth) => {
                let request = proto::CertifyMandateRequest {
                    name: self.mandate(*nth),
                    reason: "looked at".to_owned(),
                    request_id,
                };
                mandates.certify_mandate(request).await?;
            }
            MandateAct::Suspend(nth) => {
                let request = proto::SuspendMandateRequest {
                    name: self.mandate(*nth),
                    reason_code,
                    request_id,
                };
                mandates.suspend_mandate(request).await?;
            }
            MandateAct::Resume(nth) => {
                let name = self.mandate(*nth);
                let request = proto::ResumeMandateRequest { name, request_id };
                mandates.resume_mandate(request).await?;
            }
            MandateAct::Revoke(nth) => {
                let request = proto::RevokeMandateRequest {
                    name: self.mandate(*nth),
                    reason_code,
                    request_id,
                };
                let answer = mandates.revoke_mandate(request).await?.into_inner();
                self.taken = Some(answer.credentials.len());
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) async fn issue_token(&mut self, caller: Clients, who: usize) -> Result<(), Status> {
        let request = proto::IssueTokenRequest {
            principal: self.person(who),
            ttl_seconds: 365 * 86_400,
            ..Default::default()
        };
        let mut principals = caller.principals;
        let answer = principals.issue_token(request).await?.into_inner();
        self.tokens[who] = answer.token;
        Ok(())
    }

    /// What the service has last told of a mandate.
    pub(super) fn told(&self) -> Told {
        let told = self.read.clone().unwrap();
        let used = (
            told.acts_last_hour,
            told.removals_last_day,
            told.removals_total,
        );
        (told.state, told.lack, used)
    }

    /// What somebody may call, as the service tells other services; `None`: their token counts no longer.
    pub(super) async fn permissions(
        &self,
        service: &Clients,
        who: usize,
    ) -> Option<BTreeSet<String>> {
        let request = proto::IntrospectTokenRequest {
            token: self.tokens[who].clone(),
        };
        let mut principals = service.principals.clone();
        let answer = principals.introspect_token(request).await.ok()?;
        let roles = answer.into_inner().role_permissions.into_iter();
        Some(roles.flat_map(|role| role.permissions).collect())
    }
}

type RightsClient = proto::decision_right_service_client::DecisionRightServiceClient<
    counterfoil_chassis::client::ServiceChannel,
>;
type MandatesClient = proto::mandate_service_client::MandateServiceClient<
    counterfoil_chassis::client::ServiceChannel,
>;

impl world::Realm {
    /// What is to be told of a mandate.
    pub(super) fn to_tell(&self, nth: Nth, now_ms: i64) -> Told {
        let at = place(self.mandates.len(), nth).unwrap();
        let (one, used) = (&self.mandates[at], self.used(at, None, now_ms));
        let lack = one.lack(self.behind(one), now_ms);
        let counted = (
            u32::try_from(used.acts).unwrap(),
            used.removals_of_day.unsigned_abs(),
            used.removals.unsigned_abs(),
        );
        let code = lack.map_or("", |lack| lack.code()).to_owned();
        (mandate_state(one.state(now_ms)).into(), code, counted)
    }

    /// What an agent may call; `None`: nobody is there.
    pub(super) fn permissions(&self, who: usize, now_ms: i64) -> Option<BTreeSet<String>> {
        let comer = self.identify(who, now_ms)?;
        let all = PERMISSIONS.rows().map(|(_, permission, _)| permission);
        let held = all.filter(|permission| comer.may(permission));
        Some(held.map(str::to_owned).collect())
    }

    /// On what somebody acts, if they are an agent.
    pub(super) fn acting(&self, who: usize, now_ms: i64) -> Option<Acting> {
        let who = &self.people[who];
        let under = self.acts_under(&who.id, now_ms);
        let acting = under.map(|at| {
            let alone = self.mandates[at].terms.autonomy == Autonomy::ExecuteBounded;
            (at, alone)
        });
        (who.kind == PrincipalKind::AiAgent).then_some(acting)
    }
}
