//! Mandates of AI agents, and an agent that they are for.

use counterfoil_chassis::{clock::timestamp, testing::TestDatabase};
use counterfoil_proto::{authority::*, common::EvidenceState};
use tonic::{Code, Status};

use super::{Clients, DAY_MS, Deployment, NOW_MS, create_principal, grant, name_of, reason, right};

/// Tenant acme with its people, "cleo", who administers it too, and the agent "robo", an operator with rights of its own.
pub(crate) struct World {
    pub(crate) deployment: Deployment,
    pub(crate) ada: Clients,
    pub(crate) cleo: Clients,
    pub(crate) robo: Clients,
}

impl World {
    pub(crate) async fn start(db: TestDatabase) -> Self {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        let mut principals = ada.principals.clone();
        for (id, role) in [("cleo", "tenant-administrator"), ("dora", "operator")] {
            principals
                .create_principal(create_principal(id, "customer", role))
                .await
                .unwrap();
        }
        let mut robo = create_principal("robo", "customer", "operator");
        let robo_is = robo.principal.as_mut().unwrap();
        robo_is.kind = PrincipalKind::AiAgent.into();
        robo_is.roles.push("tenant-administrator".to_owned());
        principals.create_principal(robo).await.unwrap();
        let rights = [DecisionAction::Remediate, DecisionAction::Certify]
            .map(|action| right("robo", action, 300));
        ada.rights
            .clone()
            .grant_decision_rights(grant(&rights))
            .await
            .unwrap();
        let cleo = deployment.clients_of_for(&name_of("cleo"), 365).await;
        let robo = deployment.clients_of_for(&name_of("robo"), 365).await;
        Self {
            deployment,
            ada,
            cleo,
            robo,
        }
    }

    /// Brings a mandate from proposal to grant, and answers it.
    pub(crate) async fn granted(&self, mandate: AgentMandate) -> AgentMandate {
        let draft = propose(&self.ada, mandate).await.unwrap();
        grant_by(&self.cleo, &draft.name).await.unwrap()
    }

    pub(crate) async fn check(
        &self,
        principal: &str,
        action: DecisionAction,
    ) -> CheckDecisionRightResponse {
        let request = CheckDecisionRightRequest {
            principal: name_of(principal),
            action: action.into(),
        };
        self.deployment
            .service
            .rights
            .clone()
            .check_decision_right(request)
            .await
            .unwrap()
            .into_inner()
    }

    /// Whether the agent may read at all.
    pub(crate) async fn reads(&self) -> Result<(), Code> {
        let request = GetPrincipalRequest {
            name: name_of("ben"),
        };
        self.robo
            .principals
            .clone()
            .get_principal(request)
            .await
            .map(drop)
            .map_err(|status| status.code())
    }

    pub(crate) async fn uses(&self, act: &str, removals: u32) -> Result<(), (Code, String)> {
        let acting = self
            .check("robo", DecisionAction::Remediate)
            .await
            .agent
            .unwrap();
        let none = "tenants/acme/mandates/none".to_owned();
        self.uses_under(
            if acting.mandate.is_empty() {
                none
            } else {
                acting.mandate
            },
            act,
            removals,
        )
        .await
    }

    pub(crate) async fn uses_under(
        &self,
        mandate: String,
        act: &str,
        removals: u32,
    ) -> Result<(), (Code, String)> {
        let request = UseMandateRequest {
            mandate,
            agent: name_of("robo"),
            action: DecisionAction::Remediate.into(),
            act: act.to_owned(),
            removals,
        };
        let answer = self
            .deployment
            .service
            .mandates
            .clone()
            .use_mandate(request)
            .await;
        answer.map(drop).map_err(|status| refused_by(&status))
    }

    pub(crate) async fn shown(&self, name: &str) -> AgentMandate {
        let request = GetMandateRequest {
            name: name.to_owned(),
        };
        self.ada
            .mandates
            .clone()
            .get_mandate(request)
            .await
            .unwrap()
            .into_inner()
            .mandate
            .unwrap()
    }

    /// The auditor's replay finds nothing wrong with what authority wrote.
    pub(crate) async fn audited(&self) {
        // Every record that is in the outbox comes before this one, which the caller waits for.
        let pack = RecordEvidencePackRequest {
            tenant: "tenants/acme".into(),
            tree_size: 1,
            root_hash: vec![1; 32],
            format_code: "bundle".into(),
            request_id: String::new(),
        };
        let receipt = self
            .ada
            .tenants
            .clone()
            .record_evidence_pack(pack)
            .await
            .unwrap()
            .into_inner()
            .receipt;
        assert_eq!(receipt.unwrap().state(), EvidenceState::Logged);
        self.deployment.replayed("acme").await;
    }
}

pub(crate) fn refused_by(status: &Status) -> (Code, String) {
    (status.code(), reason(status))
}

pub(crate) fn mandate(autonomy: Autonomy) -> AgentMandate {
    AgentMandate {
        agent: name_of("robo"),
        owner: name_of("ben"),
        autonomy: autonomy.into(),
        actions: match autonomy {
            Autonomy::Observe => vec![],
            _ => vec![DecisionAction::Remediate.into()],
        },
        acts_per_hour_max: 3,
        removals_per_day_max: 10,
        removals_max: 15,
        model: "vendor/model-4".to_owned(),
        build: "2026.11.3".to_owned(),
        valid_to_time: Some(timestamp(NOW_MS + 100 * DAY_MS)),
        review_interval_days: 30,
        kill_path: "Stop the unit robo.service on both Zebra hosts.".to_owned(),
        ..AgentMandate::default()
    }
}

pub(crate) async fn propose(
    clients: &Clients,
    mandate: AgentMandate,
) -> Result<AgentMandate, Status> {
    let request = ProposeMandateRequest {
        tenant: "tenants/acme".to_owned(),
        mandate: Some(mandate),
        request_id: String::new(),
    };
    let answer = clients
        .mandates
        .clone()
        .propose_mandate(request)
        .await?
        .into_inner();
    assert_eq!(answer.receipt.unwrap().state(), EvidenceState::Logged);
    Ok(answer.mandate.unwrap())
}

pub(crate) async fn grant_by(clients: &Clients, name: &str) -> Result<AgentMandate, Status> {
    let request = GrantMandateRequest {
        name: name.to_owned(),
        request_id: String::new(),
    };
    let answer = clients
        .mandates
        .clone()
        .grant_mandate(request)
        .await?
        .into_inner();
    assert_eq!(answer.receipt.unwrap().state(), EvidenceState::Logged);
    Ok(answer.mandate.unwrap())
}

pub(crate) async fn certify(clients: &Clients, name: &str) -> Result<AgentMandate, Status> {
    let request = CertifyMandateRequest {
        name: name.to_owned(),
        reason: "Looked at all it did since.".to_owned(),
        request_id: String::new(),
    };
    Ok(clients
        .mandates
        .clone()
        .certify_mandate(request)
        .await?
        .into_inner()
        .mandate
        .unwrap())
}

pub(crate) fn suspend_request(name: &str) -> SuspendMandateRequest {
    SuspendMandateRequest {
        name: name.to_owned(),
        reason_code: "unexpected-volume".to_owned(),
        request_id: String::new(),
    }
}

pub(crate) async fn suspend(clients: &Clients, name: &str) -> Result<AgentMandate, Status> {
    let answer = clients
        .mandates
        .clone()
        .suspend_mandate(suspend_request(name))
        .await?;
    Ok(answer.into_inner().mandate.unwrap())
}

pub(crate) async fn resume(clients: &Clients, name: &str) -> Result<AgentMandate, Status> {
    let request = ResumeMandateRequest {
        name: name.to_owned(),
        request_id: String::new(),
    };
    Ok(clients
        .mandates
        .clone()
        .resume_mandate(request)
        .await?
        .into_inner()
        .mandate
        .unwrap())
}

pub(crate) async fn revoke(clients: &Clients, name: &str) -> Result<RevokeMandateResponse, Status> {
    let request = RevokeMandateRequest {
        name: name.to_owned(),
        reason_code: "misused".to_owned(),
        request_id: String::new(),
    };
    Ok(clients
        .mandates
        .clone()
        .revoke_mandate(request)
        .await?
        .into_inner())
}
