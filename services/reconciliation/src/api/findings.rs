//! Findings: listing them, and accepting the risk of one.

use counterfoil_chassis::{
    auth::Caller,
    clock::millis,
    error::ApiError,
    idempotency::{self, Begun},
    names::tenant_field,
};
use counterfoil_evidence::v1::FindingState;
use counterfoil_proto::reconciliation::{
    AcceptFindingRiskRequest, AcceptFindingRiskResponse, ListFindingsRequest, ListFindingsResponse,
};

use super::{Api, FindingName, convert, peers::authority::Duty, require_reason};
use crate::{
    context::{Asked, cite},
    model::entities::Finding,
    records,
    store::{self, findings::Filter},
};

/// Short name of the rpc that accepts a risk.
const METHOD: &str = "AcceptFindingRisk";

impl Api {
    pub(super) async fn findings(
        &self,
        caller: &Caller,
        request: &ListFindingsRequest,
    ) -> Result<ListFindingsResponse, ApiError> {
        let tenant = tenant_field(&request.tenant)?;
        caller.require_tenant(&tenant)?;
        let filter = Filter {
            situation: request.situation.into(),
            state: request.state.into(),
        };
        let (situation, state) = (filter.situation.to_string(), filter.state.to_string());
        let scope = ["ListFindings", &tenant, &situation, &state];
        let page = self
            .context
            .pages
            .open(request.page_size, &request.page_token, &scope)?;
        let after = page.after_text()?.and_then(position);
        let limit = i64::from(page.size) + 1;
        let mut found =
            store::findings::list(&self.context.db, &tenant, filter, after, limit).await?;
        let next_page_token = page.cut(&mut found, |finding| {
            format!("{} {}", finding.severity, finding.id).into_bytes()
        });
        Ok(ListFindingsResponse {
            findings: found
                .iter()
                .map(|finding| convert::finding(&tenant, finding))
                .collect(),
            next_page_token,
        })
    }

    pub(super) async fn accept_risk(
        &self,
        caller: &Caller,
        request: AcceptFindingRiskRequest,
    ) -> Result<AcceptFindingRiskResponse, ApiError> {
        let name = FindingName::parse_field("name", &request.name)?;
        caller.require_tenant(&name.tenant)?;
        require_reason(&request.reason)?;
        let until_ms = request.until_time.as_ref().and_then(millis);
        let until_ms = until_ms.ok_or_else(|| ApiError::invalid("until_time", "is required"))?;
        let tenant = self.context.tenants.require_active(&name.tenant).await?;
        let asked = self.context.decision(&tenant.id, caller, Duty::Except);
        let Asked {
            stamp,
            rights,
            agent,
        } = asked.await?;
        let key = {
            let mut connection = self.context.db.read(&tenant.id).await?;
            let found = store::findings::get(&mut connection, &tenant.id, &name.finding).await?;
            found.ok_or_else(ApiError::not_found)?.key
        };
        let stamp = cite(stamp, &rights, Duty::Except, |right| {
            right.covers_tag(key.source_tag())
        })?;
        let (rules, _) = self.context.authority.policy(&tenant.id).await?;
        require_within(until_ms, stamp.now_ms, rules.exception_max_ms)?;

        if let Some(agent) = &agent {
            let (whose, id) = ((tenant.id.as_str(), caller), &request.request_id);
            let db = &self.context.db;
            let done = idempotency::answered(db, whose, METHOD, id, &request).await?;
            if let Some(answer) = done {
                return self.settled_risk(&tenant.id, answer).await;
            }
            let act = act_of(&request, stamp.now_ms);
            let (by, act) = ((caller, agent), (act.as_str(), 0));
            self.context
                .count(&tenant.id, by, Duty::Except, act)
                .await?;
        }

        let mut tx = self.context.db.write_tx(&tenant.id).await?;
        let id = &request.request_id;
        let begun = idempotency::begin(&mut tx, caller, METHOD, id, &request).await?;
        let fresh = match begun {
            Begun::Replay(answer) => return self.settled_risk(&tenant.id, answer).await,
            Begun::Fresh(fresh) => fresh,
        };
        let found = store::findings::get(tx.conn(), &tenant.id, &name.finding).await?;
        let mut finding: Finding = found.ok_or_else(ApiError::not_found)?;
        if !matches!(finding.state, FindingState::Open | FindingState::Reopened) {
            return Err(
                ApiError::failed_precondition("FINDING_STATE", "the finding is not open")
                    .with_metadata("state", finding.state.as_str_name()),
            );
        }
        finding.state = FindingState::AcceptedRisk;
        let draft = records::finding_changed(&stamp, &finding.id, finding.state, until_ms, None)
            .commit("reason", request.reason.as_bytes());
        let emitted = self.context.outbox.emit(&mut tx, draft).await?;
        let change = store::findings::Change {
            state: finding.state,
            until_ms,
            now_ms: stamp.now_ms,
            remediation: "",
        };
        store::findings::change(&mut tx, [finding.id.clone()], change).await?;
        let answer = AcceptFindingRiskResponse {
            finding: Some(convert::finding(&tenant.id, &finding)),
            receipt: Some(emitted.pending_receipt()),
        };
        fresh.store(&mut tx, &answer, stamp.now_ms).await?;
        tx.commit().await?;
        self.settled_risk(&tenant.id, answer).await
    }

    async fn settled_risk(
        &self,
        tenant: &str,
        mut answer: AcceptFindingRiskResponse,
    ) -> Result<AcceptFindingRiskResponse, ApiError> {
        self.settle(tenant, &mut answer.receipt).await?;
        Ok(answer)
    }
}

/// Refuses an exception that is over, or longer than the policy has it.
fn require_within(until_ms: i64, now_ms: i64, max_ms: i64) -> Result<(), ApiError> {
    if until_ms > now_ms && until_ms - now_ms <= max_ms {
        return Ok(());
    }
    let days = max_ms / 86_400_000;
    Err(ApiError::invalid(
        "until_time",
        format!("must lie in the future, within the policy's longest exception of {days} days"),
    ))
}

/// How the risk that an agent is about to accept is named where its acts are counted.
fn act_of(request: &AcceptFindingRiskRequest, now_ms: i64) -> String {
    match request.request_id.as_str() {
        "" => format!("{METHOD}/{}/{now_ms}", request.name),
        id => format!("{METHOD}/request/{id}"),
    }
}

/// "severity id" of a page token.
fn position(text: &str) -> Option<(i64, &str)> {
    let (severity, id) = text.split_once(' ')?;
    Some((severity.parse().ok()?, id))
}
