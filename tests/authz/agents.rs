//! AI agents with every role of a tenant: what they may do, their mandates say.

use counterfoil::client::Clients;
use counterfoil_chassis::{Clock, clock::timestamp};
use counterfoil_proto::authority::{
    AgentMandate, Autonomy, CreatePrincipalRequest, DecisionAction, GrantMandateRequest, Principal,
    PrincipalKind, ProposeMandateRequest,
};

use crate::{suite::Governed, world::World};

/// What agents may call, by their autonomy.
const TABLE: &str = include_str!("../../services/authority/src/model/autonomy.txt");

/// Whether an agent that observes may have the permission.
pub fn may_observe(permission: &str) -> bool {
    let observe = TABLE.split("OBSERVE:").nth(1).unwrap();
    let observe = observe.split("PROPOSE:").next().unwrap();
    observe.split_whitespace().any(|one| one == permission)
}

fn principal(world: &World, id: &str) -> String {
    format!("{}/principals/{}-{id}", world.name(), world.id)
}

/// Makes the agents "robot" and "drone" of a tenant.
pub async fn create(customer: &Clients, world: &World) {
    for id in ["robot", "drone"] {
        let roles = ["tenant-administrator", "reviewer", "operator", "auditor"];
        let request = CreatePrincipalRequest {
            tenant: world.name(),
            principal_id: format!("{}-{id}", world.id),
            principal: Some(Principal {
                display_name: format!("{} {id}", world.canary),
                kind: PrincipalKind::AiAgent.into(),
                organization: format!("{}/organizations/{}-customer", world.name(), world.id),
                roles: roles.map(str::to_owned).to_vec(),
                ..Principal::default()
            }),
            request_id: String::new(),
        };
        let mut principals = customer.principals().unwrap();
        principals.create_principal(request).await.unwrap();
    }
}

impl Governed {
    /// Gives "robot" a mandate: put forward by one of the customer, granted by another; its name.
    pub async fn mandated(&self, world: &World, autonomy: Autonomy) -> String {
        let customer = self.customer(world);
        let now_ms = Clock::system().now_ms();
        let observes = autonomy == Autonomy::Observe;
        let request = ProposeMandateRequest {
            tenant: world.name(),
            mandate: Some(AgentMandate {
                agent: principal(world, "robot"),
                owner: principal(world, "director"),
                autonomy: autonomy.into(),
                actions: (!observes)
                    .then_some(DecisionAction::Remediate.into())
                    .into_iter()
                    .collect(),
                acts_per_hour_max: 10_000,
                removals_per_day_max: 10,
                removals_max: 10,
                model: "vendor/model".to_owned(),
                build: "1".to_owned(),
                valid_to_time: Some(timestamp(now_ms + 86_400_000)),
                review_interval_days: 1,
                kill_path: format!("{} stop", world.canary),
                ..AgentMandate::default()
            }),
            request_id: String::new(),
        };
        let mut mandates = customer.mandates().unwrap();
        let draft = mandates.propose_mandate(request).await.unwrap();
        let name = draft.into_inner().mandate.unwrap().name;
        let second = self.issue(world, "administrator").await.token;
        let second = customer.as_caller(&second).unwrap();
        let request = GrantMandateRequest {
            name: name.clone(),
            request_id: String::new(),
        };
        let mut mandates = second.mandates().unwrap();
        mandates.grant_mandate(request).await.unwrap();
        name
    }

    /// A token of "robot", which observes.
    pub async fn observing(&self, world: &World) -> String {
        self.mandated(world, Autonomy::Observe).await;
        self.issue(world, "robot").await.token
    }
}
