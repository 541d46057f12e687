//! Starting a plan that may be carried out: who does, is on record before anything goes out.

use std::collections::BTreeSet;

use counterfoil_chassis::{
    auth::Caller,
    error::ApiError,
    idempotency::{self, Begun},
};
use counterfoil_proto::reconciliation::{ExecuteRemediationRequest, ExecuteRemediationResponse};

use super::{Api, convert, peers::authority::Duty, resolve::locked};
use crate::{
    context::Context,
    error::wrong_state,
    model::{
        entities::Remediation,
        ids::{Principal, RemediationKey},
        state::RemediationState,
    },
    records::{self, Stamp},
    store,
};

impl Api {
    pub(super) async fn execute(
        &self,
        caller: &Caller,
        request: ExecuteRemediationRequest,
    ) -> Result<ExecuteRemediationResponse, ApiError> {
        let key = Self::remediation_key(caller, "name", &request.name)?;
        let tenant = self.context.tenants.require_active(&key.tenant).await?;
        let sources = {
            let mut connection = self.context.db.read(&key.tenant).await?;
            store::actions::sources(&mut connection, &key).await?
        };
        self.context
            .require_reach(&tenant.id, caller, &sources)
            .await?;
        // The principals of a source may have changed since it was planned.
        self.read_only_sources(&tenant.id, &sources).await?;
        let (stamp, own) = self.starter(caller, &key, &sources).await?;

        let mut tx = self.context.db.write_tx(&tenant.id).await?;
        let begun = idempotency::begin(
            &mut tx,
            caller,
            "ExecuteRemediation",
            &request.request_id,
            &request,
        )
        .await?;
        let fresh = match begun {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(fresh) => fresh,
        };
        let mut remediation = locked(&mut tx, &key).await?;
        let starts = remediation.state.may_execute();
        if starts {
            let (id, from) = (&key.remediation, remediation.state);
            let draft = records::started(&stamp, &remediation);
            self.context.outbox.emit(&mut tx, draft).await?;
            store::remediations::dispatch(&mut tx, id, from, own.as_ref()).await?;
            store::actions::reset_tries(&mut tx, id).await?;
            remediation.state = RemediationState::Dispatched;
        } else if !remediation.state.is_running() {
            return Err(wrong_state(remediation.state));
        } else if remediation.agent.is_some() && remediation.agent != own {
            // What an agent has started goes on in the name of whoever starts it now, also when that agent was stopped.
            let draft = records::started(&stamp, &remediation);
            self.context.outbox.emit(&mut tx, draft).await?;
            store::remediations::hand_over(&mut tx, &key.remediation, own.as_ref()).await?;
        }
        let counts = store::actions::verified_counts(
            tx.conn(),
            &tenant.id,
            &key.remediation,
            &key.remediation,
        )
        .await?;
        let verified = counts.get(&key.remediation).copied().unwrap_or(0);
        let answer = ExecuteRemediationResponse {
            remediation: Some(convert::remediation(&tenant.id, &remediation, verified)),
        };
        fresh
            .store(&mut tx, &answer, self.context.clock.now_ms())
            .await?;
        self.context.ring_on_commit(&mut tx);
        if starts {
            let (work, key) = (self.context.work.clone(), key.clone());
            // The supervisor outlives the api; when it is gone the service ends, and the next start resumes what runs.
            tx.on_commit(move || drop(work.send(key)));
        }
        // If we crash here: it is DISPATCHED, and the next start carries it out.
        tx.commit().await?;
        Ok(answer)
    }

    /// The stamp of who starts a plan, and the AI agent that they are. Humans and services need no right of their own for that; an AI agent needs one that its
    /// mandate leaves, and a human before it unless it goes on alone.
    async fn starter(
        &self,
        caller: &Caller,
        key: &RemediationKey,
        sources: &BTreeSet<String>,
    ) -> Result<(Stamp, Option<Principal>), ApiError> {
        let (tenant, duty) = (&key.tenant, Duty::Remediate);
        let (stamp, agent) = self.context.starting(tenant, caller, sources).await?;
        let Some(agent) = agent else {
            return Ok((stamp, None));
        };
        let remediation = {
            let mut connection = self.context.db.read(tenant).await?;
            let found = store::remediations::get(&mut connection, key).await?;
            found.ok_or_else(ApiError::not_found)?
        };
        if !agent.decides_alone && !self.is_approved_by_human(tenant, &remediation).await? {
            return Err(ApiError::permission_denied(
                "HUMAN_REQUIRED",
                "the agent starts only what a human planned or let go on",
            ));
        }
        let act = plan_act(&remediation.id);
        let act = (act.as_str(), remediation.actions_count);
        self.context
            .count(tenant, (caller, &agent), duty, act)
            .await?;
        Ok((stamp, Some(Context::principal(tenant, caller)?)))
    }

    /// Whether a human planned it, or let it go on when it was held.
    async fn is_approved_by_human(
        &self,
        tenant: &str,
        remediation: &Remediation,
    ) -> Result<bool, ApiError> {
        // What was held and may be carried out now, a human let go on.
        if !remediation.threshold_metric.is_empty() {
            return Ok(true);
        }
        let planner: &Principal = &remediation.approver;
        Ok(self.context.authority.person(tenant, planner).await?.human)
    }
}

/// How a plan is named where agents' acts are counted: put forward or started, it counts once.
pub(super) fn plan_act(remediation: &str) -> String {
    format!("remediations/{remediation}")
}
