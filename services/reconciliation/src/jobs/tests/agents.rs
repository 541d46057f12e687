//! AI agents that plan and carry out: as far as their mandate says, within its limits, and as the auditor counts them (E11).

use counterfoil_chassis::{clock::timestamp, testing::TestDatabase};
use counterfoil_evidence::v1;
use counterfoil_proto::{
    authority::{
        AgentMandate, Autonomy, CreatePrincipalRequest, DecisionAction, GrantMandateRequest,
        Principal, PrincipalKind, ProposeMandateRequest, SuspendMandateRequest,
    },
    reconciliation::{
        AcceptFindingRiskRequest, ExecuteRemediationRequest, PlanRemediationRequest,
        PlanRemediationResponse, ReconRun, Remediation, RemediationState,
    },
};
use tonic::{Code, Status};

use super::{
    Account, DAY_MS, TENANT, World, reason, revoke_root,
    world::{Clients, principal_name},
};
use crate::jobs::Step;

const AGENT: &str = "iris";

/// An agent that may plan, start and except, as far as its mandate goes.
fn mandate(autonomy: Autonomy) -> AgentMandate {
    let actions = [DecisionAction::Remediate, DecisionAction::Except];
    AgentMandate {
        agent: principal_name(AGENT),
        owner: principal_name("olga"),
        autonomy: autonomy.into(),
        actions: match autonomy {
            Autonomy::Observe => Vec::new(),
            _ => actions.map(i32::from).to_vec(),
        },
        acts_per_hour_max: 10,
        removals_per_day_max: 10,
        removals_max: 100,
        model: "vendor/model-4".into(),
        build: "7".into(),
        review_interval_days: 30,
        kill_path: "Stop the unit iris.service.".into(),
        ..AgentMandate::default()
    }
}

impl World {
    /// The agent with its rights, and "vera", who administers the tenant beside olga.
    async fn agent(&self) -> Clients {
        for (id, kind, role) in [
            (AGENT, PrincipalKind::AiAgent, "operator"),
            ("vera", PrincipalKind::Human, "tenant-administrator"),
        ] {
            let request = CreatePrincipalRequest {
                tenant: TENANT.into(),
                principal_id: id.into(),
                principal: Some(Principal {
                    display_name: format!("Name of {id}"),
                    kind: kind.into(),
                    organization: format!("{TENANT}/organizations/acme"),
                    roles: vec![role.into()],
                    ..Principal::default()
                }),
                request_id: String::new(),
            };
            let mut principals = self.olga.principals.clone();
            principals.create_principal(request).await.unwrap();
        }
        for action in [DecisionAction::Remediate, DecisionAction::Except] {
            self.grant_right(AGENT, action, "*").await;
        }
        self.of(AGENT).await
    }

    /// Gives the agent a mandate; its name.
    async fn mandated(&self, mandate: AgentMandate) -> String {
        let request = ProposeMandateRequest {
            tenant: TENANT.into(),
            mandate: Some(AgentMandate {
                valid_to_time: Some(timestamp(self.clock.now_ms() + 100 * DAY_MS)),
                ..mandate
            }),
            request_id: String::new(),
        };
        let mut olga = self.olga.mandates.clone();
        let draft = olga.propose_mandate(request).await.unwrap().into_inner();
        let name = draft.mandate.unwrap().name;
        let request = GrantMandateRequest {
            name: name.clone(),
            request_id: String::new(),
        };
        let mut vera = self.of("vera").await.mandates;
        vera.grant_mandate(request).await.unwrap();
        // The gates remember who calls for a second.
        self.clock.advance_ms(1_001);
        name
    }

    async fn suspend_agent(&self, mandate: &str) {
        let request = SuspendMandateRequest {
            name: mandate.into(),
            reason_code: "unexpected-volume".into(),
            request_id: String::new(),
        };
        let mut olga = self.olga.mandates.clone();
        olga.suspend_mandate(request).await.unwrap();
    }
}

async fn plan(
    agent: &Clients,
    run: &ReconRun,
    id: &str,
) -> Result<PlanRemediationResponse, Status> {
    let request = PlanRemediationRequest {
        recon_run: run.name.clone(),
        request_id: id.into(),
    };
    let answer = agent.remediations.clone().plan_remediation(request).await;
    answer.map(tonic::Response::into_inner)
}

async fn start(agent: &Clients, name: &str) -> Result<Remediation, Status> {
    let request = ExecuteRemediationRequest {
        name: name.into(),
        request_id: String::new(),
    };
    let answer = agent
        .remediations
        .clone()
        .execute_remediation(request)
        .await?;
    Ok(answer.into_inner().remediation.unwrap())
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), reason(&status))
}

const TWO: [Account<'static>; 2] = [
    Account("amy", &["crew", "root"]),
    Account("bob", &["crew", "root"]),
];

counterfoil_chassis::both_engines! {
    /// What an agent puts forward waits for a human, and then it may start it, if its autonomy goes so far.
    async fn e11_what_an_agent_plans_waits_for_a_human(db: TestDatabase) {
        let world = World::start(db).await;
        world.add_source("hr", &TWO, |_| {}).await;
        world.review("q3", revoke_root).await;
        let run = world.reconcile().await;
        let agent = world.agent().await;
        assert_eq!(refused(plan(&agent, &run, "").await).0, Code::PermissionDenied, "no mandate");
        world.mandated(mandate(Autonomy::Observe)).await;
        assert_eq!(refused(plan(&agent, &run, "").await).0, Code::PermissionDenied, "it only reads");
        world.mandated(mandate(Autonomy::Propose)).await;
        let planned = plan(&agent, &run, "one").await.unwrap().remediation.unwrap();
        assert_eq!((planned.state(), planned.threshold_metric.as_str()), (RemediationState::Held, "four_eyes"));
        let again = plan(&agent, &run, "one").await.unwrap().remediation.unwrap();
        assert_eq!(again.name, planned.name, "the same request, the same answer");
        assert_eq!(refused(start(&agent, &planned.name).await).0, Code::PermissionDenied);
        assert_eq!(world.resolve("olga", &planned.name, true).await.unwrap(), RemediationState::Approved);
        assert_eq!(refused(start(&agent, &planned.name).await).0, Code::PermissionDenied, "it carries nothing out");
        world.mandated(mandate(Autonomy::ExecuteWithApproval)).await;
        start(&agent, &planned.name).await.unwrap();
        assert_eq!(world.watch(&planned.name).await.state(), RemediationState::Closed);
        let started: Vec<v1::RemediationStarted> = world.of_type().await;
        assert_eq!(started.len(), 1);
        world.audited().await;
        world.stop().await;
    }

    /// Who carries out with approval starts what a human planned, and not what an agent alone decided.
    async fn e11_with_approval_an_agent_starts_only_what_a_human_wants(db: TestDatabase) {
        let world = World::start(db).await;
        world.add_source("hr", &TWO, |_| {}).await;
        world.review("q3", revoke_root).await;
        let run = world.reconcile().await;
        let agent = world.agent().await;
        world.mandated(mandate(Autonomy::ExecuteBounded)).await;
        let own = plan(&agent, &run, "").await.unwrap().remediation.unwrap();
        assert_eq!(own.state(), RemediationState::Approved, "it decides alone");
        world.mandated(mandate(Autonomy::ExecuteWithApproval)).await;
        assert_eq!(refused(start(&agent, &own.name).await), (Code::PermissionDenied, "HUMAN_REQUIRED".into()));
        assert_eq!(world.carried_out(&own.name).await.state(), RemediationState::Closed, "a human starts it");
        world.add_source("lab", &TWO, |_| {}).await;
        world.review("q4", revoke_root).await;
        let run = world.reconcile().await;
        let planned = world.plan(&run).await.unwrap().remediation.unwrap();
        assert_eq!(start(&agent, &planned.name).await.unwrap().name, planned.name);
        assert_eq!(world.watch(&planned.name).await.state(), RemediationState::Closed);
        world.audited().await;
        world.stop().await;
    }

    /// Limits, scope and the switch hold at the very act, whatever the gate remembers.
    async fn e11_an_agent_stays_within_its_limits_and_stops_when_it_is_stopped(db: TestDatabase) {
        let world = World::start(db).await;
        world.add_source("hr", &TWO, |_| {}).await;
        world.review("q3", revoke_root).await;
        let run = world.reconcile().await;
        let agent = world.agent().await;
        world.mandated(AgentMandate { scope: vec![format!("{TENANT}/sources/lab")], ..mandate(Autonomy::ExecuteBounded) }).await;
        assert_eq!(refused(plan(&agent, &run, "").await), (Code::PermissionDenied, "NO_DECISION_RIGHT".into()));
        world.mandated(AgentMandate { removals_per_day_max: 1, ..mandate(Autonomy::ExecuteBounded) }).await;
        assert_eq!(refused(plan(&agent, &run, "").await), (Code::FailedPrecondition, "MANDATE_LIMIT".into()));
        let risk = world.findings().await[0].name.clone();
        let accept = AcceptFindingRiskRequest {
            name: risk,
            until_time: Some(timestamp(world.clock.now_ms() + 10 * DAY_MS)),
            reason: "Needed for the audit".into(),
            request_id: "once".into(),
        };
        for _ in 0..2 {
            agent.recon.clone().accept_finding_risk(accept.clone()).await.unwrap();
        }
        let planned = plan(&agent, &run, "").await.unwrap().remediation.unwrap();
        assert_eq!((planned.state(), planned.actions_count), (RemediationState::Approved, 1), "one is left of two");
        let stopped = world.mandated(mandate(Autonomy::ExecuteBounded)).await;
        assert_eq!(agent.recon.clone().accept_finding_risk(accept).await.unwrap().into_inner().finding.unwrap().name, world.findings().await[0].name);
        world.suspend_agent(&stopped).await;
        // The gate of this service may remember the agent for a second: what it does is asked for all the same.
        assert_eq!(refused(start(&agent, &planned.name).await).0, Code::PermissionDenied);
        assert!(world.of_type::<v1::RemediationStarted>().await.is_empty());
        world.audited().await;
        world.stop().await;
    }

    /// What an agent has started waits while it is stopped, and goes on in the name of whoever starts it again.
    async fn e11_what_a_stopped_agent_started_waits_until_somebody_starts_it_again(db: TestDatabase) {
        let mut world = World::start(db).await;
        world.settings.takeover_ms = 400;
        world.restart().await;
        world.add_source("hr", &TWO, |_| {}).await;
        world.review("q3", revoke_root).await;
        let run = world.reconcile().await;
        let agent = world.agent().await;
        let mandate = world.mandated(mandate(Autonomy::ExecuteBounded)).await;
        let planned = plan(&agent, &run, "").await.unwrap().remediation.unwrap();
        world.die_at(Step::Settled);
        start(&agent, &planned.name).await.unwrap();
        world.died().await;
        world.suspend_agent(&mandate).await;
        world.clock.advance_ms(2_000);
        world.restart().await;
        world.gives_up(&planned.name).await;
        assert_eq!((world.intents().await, world.grants_in("hr").len()), (0, 4), "nothing went out");
        assert_eq!(world.carried_out(&planned.name).await.state(), RemediationState::Closed);
        let started: Vec<v1::RemediationStarted> = world.of_type().await;
        assert_eq!((started.len(), world.grants_in("hr").len()), (2, 2));
        world.audited().await;
        world.stop().await;
    }
}
