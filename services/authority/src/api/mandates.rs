//! Mandates of AI agents: put forward by one human, granted by another, certified anew, and stopped at once by anybody.

use counterfoil_chassis::{
    ApiError, Caller, RecordDraft,
    names::{PrincipalName, new_id, tenant_field},
};
use counterfoil_evidence::v1::{
    AgentMandateCertified, AgentMandateGranted, AgentMandateProposed, AgentResumed, AgentRevoked,
    AgentSuspended,
};
use counterfoil_proto::authority as proto;

use super::{
    Api,
    change::{Asked, Change},
    convert::{self, MandateName},
    mandate_convert as shape,
};
use crate::{
    error::{AgentRefusal, Refusal},
    model::{
        Faults,
        emergency::{TEXT, is_human, is_text},
        ids::{MandateId, PrincipalId},
        mandate::{Behind, Grant, Mandate, State, Wanted, check_new},
        principal::{Principal, PrincipalKind, require_accountable},
        right::may_approve,
        text,
    },
    store::{self, Connection, From},
};

/// Most drafts of a tenant that could still be granted.
const DRAFTS_MAX: i64 = 100;

pub(super) async fn propose_mandate(
    api: &Api,
    caller: &Caller,
    request: proto::ProposeMandateRequest,
) -> Result<proto::ProposeMandateResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    let method = "ProposeMandate";
    let mut change = match api
        .begin(caller, &tenant, method, &request.request_id, &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_active()?;
    let proposer = human(&mut change).await?;
    let wanted = request.mandate.clone().unwrap_or_default();
    let terms = shape::terms(&wanted, &tenant, change.now_ms)?;
    let asked = Wanted {
        terms: &terms,
        review_interval_days: wanted.review_interval_days,
        kill_path: &wanted.kill_path,
    };
    check_new(&asked, change.now_ms).map_err(|wrong| {
        let mut faults = Faults::default();
        faults.add_all("mandate.", wrong);
        Refusal::Invalid(faults)
    })?;
    require_agent_and_owner(&mut change, (&terms.agent, &terms.owner)).await?;
    let waiting = store::mandates::drafts(change.tx.conn(), &tenant, change.now_ms).await?;
    if waiting >= DRAFTS_MAX {
        return Err(AgentRefusal::TooManyDrafts.into());
    }
    let id = convert::id("mandate", MandateId::parse(&new_id(change.now_ms)))?;
    let mut mandate = Mandate {
        id,
        terms,
        kill_path: wanted.kill_path,
        proposer: proposer.id,
        proposal_hash: [0; 32],
        grant: None,
        suspended: false,
        end: None,
    };
    let payload = AgentMandateProposed {
        mandate: mandate.id.as_str().to_owned(),
        terms: Some(mandate.terms.in_records()),
    };
    let draft = draft(&change, &mandate, &payload);
    let draft = draft.commit("kill_path", mandate.kill_path.as_bytes());
    let emitted = api.emit(&mut change, draft).await?;
    mandate.proposal_hash = emitted.record_hash;
    store::mandates::insert(change.tx.conn(), &tenant, &mandate).await?;
    let answer = proto::ProposeMandateResponse {
        mandate: Some(told(&mut change, &mandate).await?),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

/// A record about a mandate, found by it and by its agent.
fn draft<P: prost::Message + prost::Name>(
    change: &Change,
    mandate: &Mandate,
    payload: &P,
) -> RecordDraft {
    let draft = change.draft(payload, mandate.id.in_records());
    draft.subject(mandate.terms.agent.in_records())
}

/// The caller, who must be an active human of the tenant.
async fn human(change: &mut Change) -> Result<Principal, ApiError> {
    let found = change.require_known().await?;
    Some(found)
        .filter(is_human)
        .ok_or_else(|| Refusal::HumanRequired.into())
}

/// Refuses what is no active AI agent, and who cannot answer for it.
async fn require_agent_and_owner(
    change: &mut Change,
    (agent, owner): (&PrincipalId, &PrincipalId),
) -> Result<(), ApiError> {
    let (engine, tenant) = (change.tx.engine(), change.tenant.id.clone());
    let both = [agent, owner];
    let found = store::principals::get_many(change.tx.conn(), engine, &tenant, both).await?;
    let is_agent = |one: &&Principal| one.is_active() && one.kind == PrincipalKind::AiAgent;
    if found.get(agent).filter(is_agent).is_none() {
        return Err(AgentRefusal::AgentRequired.into());
    }
    require_accountable(found.get(owner)).map_err(|reason| {
        ApiError::from(Refusal::NotAccountable {
            field: "mandate.owner",
            principal: owner.clone(),
            reason,
        })
    })?;
    let [agent, owner] = [agent, owner].map(|id| found.get(id));
    match agent
        .zip(owner)
        .is_some_and(|(one, other)| one.is_same(other))
    {
        true => Err(AgentRefusal::OwnerIsAgent.into()),
        false => Ok(()),
    }
}

async fn named(change: &mut Change, name: &MandateName) -> Result<Mandate, ApiError> {
    let id = convert::id("name", MandateId::parse(&name.mandate))?;
    let found = store::mandates::get(change.tx.conn(), &change.tenant.id, &id).await?;
    found.ok_or_else(ApiError::not_found)
}

/// The mandate as it is told while it is changed.
async fn told(change: &mut Change, mandate: &Mandate) -> Result<proto::AgentMandate, ApiError> {
    let (tenant, now_ms) = (change.tenant.id.clone(), change.now_ms);
    tell(change.tx.conn(), (&tenant, mandate), now_ms).await
}

async fn tell(
    connection: &mut Connection,
    (tenant, mandate): (&str, &Mandate),
    now_ms: i64,
) -> Result<proto::AgentMandate, ApiError> {
    let terms = &mandate.terms;
    let owner = store::principals::get(connection, tenant, &terms.owner).await?;
    let agent = store::principals::get(connection, tenant, &terms.agent).await?;
    let behind = Behind::of(owner.as_ref(), agent.as_ref());
    Ok(shape::mandate(tenant, mandate, (behind, now_ms)))
}

/// Whether an AI agent asks: it is not told how it is stopped.
async fn is_agent(
    connection: &mut Connection,
    caller: &Caller,
    tenant: &str,
) -> Result<bool, ApiError> {
    let Ok(name) = PrincipalName::parse(caller.principal()) else {
        return Ok(false);
    };
    let id = PrincipalId::stored(name.principal);
    let found = store::principals::get(connection, tenant, &id).await?;
    Ok(found.is_some_and(|one| one.kind == PrincipalKind::AiAgent))
}

pub(super) async fn grant_mandate(
    api: &Api,
    caller: &Caller,
    request: proto::GrantMandateRequest,
) -> Result<proto::GrantMandateResponse, ApiError> {
    let name = MandateName::parse_field("name", &request.name)?;
    let tenant = name.tenant.clone();
    let method = "GrantMandate";
    let mut change = match api
        .begin(caller, &tenant, method, &request.request_id, &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_active()?;
    let grantor = change.require_customer_human().await?;
    let mut mandate = named(&mut change, &name).await?;
    require_state(&mandate, State::Draft, change.now_ms)?;
    let proposer = store::principals::get(change.tx.conn(), &tenant, &mandate.proposer).await?;
    // The agent stands for whom it is for: nobody is a second human beside themselves.
    let agent = store::principals::get(change.tx.conn(), &tenant, &mandate.terms.agent).await?;
    if !may_approve(proposer.as_ref(), agent.as_ref(), &grantor) {
        return Err(Refusal::SecondHumanRequired.into());
    }
    let (agent, owner) = (mandate.terms.agent.clone(), mandate.terms.owner.clone());
    require_agent_and_owner(&mut change, (&agent, &owner)).await?;
    let payload = AgentMandateGranted {
        mandate: mandate.id.as_str().to_owned(),
        proposal_record_hash: mandate.proposal_hash.to_vec(),
        terms: Some(mandate.terms.in_records()),
    };
    let draft = draft(&change, &mandate, &payload);
    let emitted = api.emit(&mut change, draft).await?;
    let grant = Grant {
        grantor: grantor.id,
        due_ms: mandate.due_from(change.now_ms),
        record_hash: emitted.record_hash,
    };
    store::mandates::grant_to(change.tx.conn(), &tenant, &mandate, &grant).await?;
    mandate.grant = Some(grant);
    let answer = proto::GrantMandateResponse {
        mandate: Some(told(&mut change, &mandate).await?),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

fn require_state(mandate: &Mandate, state: State, now_ms: i64) -> Result<(), ApiError> {
    let is = mandate.state(now_ms);
    match is == state {
        true => Ok(()),
        false => Err(AgentRefusal::MandateState(is).into()),
    }
}

pub(super) async fn certify_mandate(
    api: &Api,
    caller: &Caller,
    request: proto::CertifyMandateRequest,
) -> Result<proto::CertifyMandateResponse, ApiError> {
    let name = MandateName::parse_field("name", &request.name)?;
    let tenant = name.tenant.clone();
    let method = "CertifyMandate";
    let mut change = match api
        .begin(caller, &tenant, method, &request.request_id, &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_active()?;
    change.require_customer_human().await?;
    if !is_text(&request.reason) {
        return Err(ApiError::invalid("reason", TEXT));
    }
    let mut mandate = named(&mut change, &name).await?;
    require_state(&mandate, State::Active, change.now_ms)?;
    let due_ms = mandate.due_from(change.now_ms);
    let payload = AgentMandateCertified {
        mandate: mandate.id.as_str().to_owned(),
        due_ms,
    };
    let draft = draft(&change, &mandate, &payload);
    let draft = draft.commit("reason", request.reason.as_bytes());
    let emitted = api.emit(&mut change, draft).await?;
    store::mandates::certify(change.tx.conn(), &tenant, &mandate.id, due_ms).await?;
    if let Some(grant) = &mut mandate.grant {
        grant.due_ms = due_ms;
    }
    let answer = proto::CertifyMandateResponse {
        mandate: Some(told(&mut change, &mandate).await?),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

pub(super) async fn suspend_mandate(
    api: &Api,
    caller: &Caller,
    request: proto::SuspendMandateRequest,
) -> Result<proto::SuspendMandateResponse, ApiError> {
    let name = MandateName::parse_field("name", &request.name)?;
    let tenant = name.tenant.clone();
    let mut change = match api
        .begin(
            caller,
            &tenant,
            SUSPEND_MANDATE,
            &request.request_id,
            &request,
        )
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    human(&mut change).await?;
    require_code("reason_code", &request.reason_code)?;
    let mut mandate = named(&mut change, &name).await?;
    let now_ms = change.now_ms;
    if mandate.state(now_ms) == State::Suspended {
        let answer = proto::SuspendMandateResponse {
            mandate: Some(told(&mut change, &mandate).await?),
            receipt: None,
        };
        return api.finish(change, answer).await;
    }
    require_state(&mandate, State::Active, now_ms)?;
    let payload = AgentSuspended {
        mandate: mandate.id.as_str().to_owned(),
        agent: mandate.terms.agent.in_records(),
        effective_ms: now_ms,
        reason_code: request.reason_code.clone(),
    };
    let draft = draft(&change, &mandate, &payload);
    let emitted = api.emit(&mut change, draft).await?;
    store::mandates::suspend(change.tx.conn(), &tenant, &mandate.id, true).await?;
    mandate.suspended = true;
    let answer = proto::SuspendMandateResponse {
        mandate: Some(told(&mut change, &mandate).await?),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

fn require_code(field: &str, code: &str) -> Result<(), ApiError> {
    match text::is_code(code) {
        true => Ok(()),
        false => Err(ApiError::invalid(field, text::CODE)),
    }
}

pub(super) async fn resume_mandate(
    api: &Api,
    caller: &Caller,
    request: proto::ResumeMandateRequest,
) -> Result<proto::ResumeMandateResponse, ApiError> {
    let name = MandateName::parse_field("name", &request.name)?;
    let tenant = name.tenant.clone();
    let method = "ResumeMandate";
    let mut change = match api
        .begin(caller, &tenant, method, &request.request_id, &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_active()?;
    change.require_customer_human().await?;
    let mut mandate = named(&mut change, &name).await?;
    require_state(&mandate, State::Suspended, change.now_ms)?;
    let payload = AgentResumed {
        mandate: mandate.id.as_str().to_owned(),
        agent: mandate.terms.agent.in_records(),
        effective_ms: change.now_ms,
    };
    let draft = draft(&change, &mandate, &payload);
    let emitted = api.emit(&mut change, draft).await?;
    store::mandates::suspend(change.tx.conn(), &tenant, &mandate.id, false).await?;
    mandate.suspended = false;
    let answer = proto::ResumeMandateResponse {
        mandate: Some(told(&mut change, &mandate).await?),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

pub(super) async fn revoke_mandate(
    api: &Api,
    caller: &Caller,
    request: proto::RevokeMandateRequest,
) -> Result<proto::RevokeMandateResponse, ApiError> {
    let name = MandateName::parse_field("name", &request.name)?;
    let tenant = name.tenant.clone();
    let mut change = match api
        .begin(
            caller,
            &tenant,
            REVOKE_MANDATE,
            &request.request_id,
            &request,
        )
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_customer_human().await?;
    require_code("reason_code", &request.reason_code)?;
    let mut mandate = named(&mut change, &name).await?;
    let was = mandate.state(change.now_ms);
    if matches!(was, State::Revoked | State::Retired) {
        return Err(AgentRefusal::MandateState(was).into());
    }
    // A draft has let nobody do anything: its agent keeps what it has.
    let credentials = match was {
        State::Draft => Vec::new(),
        _ => revoke_credentials(api, &mut change, &mandate.terms.agent).await?,
    };
    let payload = AgentRevoked {
        mandate: mandate.id.as_str().to_owned(),
        agent: mandate.terms.agent.in_records(),
        effective_ms: change.now_ms,
        reason_code: request.reason_code.clone(),
        credentials: credentials.clone(),
    };
    let draft = draft(&change, &mandate, &payload);
    let emitted = api.emit(&mut change, draft).await?;
    store::mandates::revoke(change.tx.conn(), &tenant, &mandate.id).await?;
    mandate.end = Some(crate::model::mandate::End::Revoked);
    let answer = proto::RevokeMandateResponse {
        mandate: Some(told(&mut change, &mandate).await?),
        credentials,
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

/// Short names of the rpcs that take something from an agent: also while the tenant is suspended or leaves.
pub(super) const SUSPEND_MANDATE: &str = "SuspendMandate";
/// See [`SUSPEND_MANDATE`].
pub(super) const REVOKE_MANDATE: &str = "RevokeMandate";

/// Revokes all credentials of an agent (R88). Their ids, ascending.
async fn revoke_credentials(
    api: &Api,
    change: &mut Change,
    agent: &PrincipalId,
) -> Result<Vec<String>, ApiError> {
    let (tenant, now_ms) = (change.tenant.id.clone(), change.now_ms);
    let who = (tenant.as_str(), agent.as_str());
    let tokens = store::tokens::good_of(change.tx.conn(), who, now_ms).await?;
    let logins = store::logins::good_of(change.tx.conn(), &tenant, agent.as_str()).await?;
    let mut revoked = Vec::with_capacity(tokens.len() + logins.len());
    for (token, on_record) in tokens {
        store::tokens::revoke(change.tx.conn(), &tenant, &token, now_ms).await?;
        // Of a token from before R88 nothing is on record that one could take back.
        if on_record {
            let draft = change.revocation(&token);
            api.emit(change, draft).await?;
            revoked.push(token);
        }
    }
    for login in logins {
        store::logins::unlink(change.tx.conn(), &tenant, &login, now_ms).await?;
        let draft = change.revocation(&login);
        api.emit(change, draft).await?;
        revoked.push(login);
    }
    revoked.sort_unstable();
    Ok(revoked)
}

pub(super) async fn get_mandate(
    api: &Api,
    caller: &Caller,
    request: proto::GetMandateRequest,
) -> Result<proto::GetMandateResponse, ApiError> {
    let name = MandateName::parse_field("name", &request.name)?;
    api.require_readable(caller, &name.tenant).await?;
    let id = convert::id("name", MandateId::parse(&name.mandate))?;
    let mut reader = api.db.read(&name.tenant).await?;
    let found = store::mandates::get(&mut reader, &name.tenant, &id).await?;
    let found = found.ok_or_else(ApiError::not_found)?;
    let now_ms = api.clock.now_ms();
    // No act has the empty name: all count.
    let used = store::mandates::used(&mut reader, &name.tenant, &found, ("", now_ms)).await?;
    let mut told = tell(&mut reader, (&name.tenant, &found), now_ms).await?;
    if is_agent(&mut reader, caller, &name.tenant).await? {
        told.kill_path.clear();
    }
    Ok(proto::GetMandateResponse {
        mandate: Some(shape::with_use(told, used)),
    })
}

pub(super) async fn list_mandates(
    api: &Api,
    caller: &Caller,
    request: proto::ListMandatesRequest,
) -> Result<proto::ListMandatesResponse, ApiError> {
    let tenant = api.known_tenant(caller, "tenant", &request.tenant).await?;
    let scope = ["ListMandates", &tenant];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    let mut reader = api.db.read(&tenant).await?;
    let mut rows = store::mandates::list(&mut reader, &tenant, From::page(&page)?).await?;
    let next_page_token = page.cut(&mut rows, |row| row.id.as_str().into());
    let now_ms = api.clock.now_ms();
    let mut mandates = Vec::with_capacity(rows.len());
    for row in &rows {
        mandates.push(tell(&mut reader, (&tenant, row), now_ms).await?);
    }
    if is_agent(&mut reader, caller, &tenant).await? {
        mandates.iter_mut().for_each(|one| one.kill_path.clear());
    }
    Ok(proto::ListMandatesResponse {
        mandates,
        next_page_token,
    })
}
