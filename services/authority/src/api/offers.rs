//! What a provider asks a customer for, until the customer has answered.
//!
//! It stands in the provider's own tenant, and from there it is carried into the customer's, if there is such a customer. Whether there
//! is, no answer tells: what a provider asks, reads, withdraws or tries before it was answered is decided by its own tenant.

use counterfoil_chassis::{
    ApiError, Caller, RecordDraft,
    names::{TenantName, new_id, tenant_name},
};
use counterfoil_evidence::{
    record::decode_canonical,
    v1::{EngagementEnd, EngagementEnded, EngagementRequested},
};
use counterfoil_proto::authority as proto;
use prost::{Message, Name};

use super::{
    Api,
    change::{Asked, Change},
    convert::{self, EngagementName},
    engagements::{across, end, of_change, require_provider},
};
use crate::{
    error::Refusal,
    model::{
        engagement::{Engagement, Phase, REQUEST_MS, Terms, check_terms},
        ids::EngagementId,
        tenant::{Step, TenantKind, allows},
        text,
    },
    store::{self, engagements::Offer},
};

pub(super) async fn request_engagement(
    api: &Api,
    caller: &Caller,
    request: proto::RequestEngagementRequest,
) -> Result<proto::RequestEngagementResponse, ApiError> {
    let provider = require_provider(api, caller).await?;
    let customer = TenantName::parse_field("customer", &request.customer)?.tenant;
    let begun = api
        .begin(
            caller,
            &provider,
            "RequestEngagement",
            &request.request_id,
            &request,
        )
        .await?;
    let answer = match begun {
        Asked::Done(answer) => answer,
        Asked::New(change) => {
            let asked_by = caller.principal();
            ask(api, *change, (asked_by, &customer), request).await?
        }
    };
    // If we crash here: the provider has asked and the customer does not see it. The job carries it over.
    let wanted = answer.engagement.clone().unwrap_or_default();
    let name = EngagementName::parse_field("name", &wanted.name)?;
    let id = convert::id("name", EngagementId::parse(&name.engagement))?;
    let api = api.clone();
    across(async move { carry_over(&api, &provider, &customer, &id).await }).await?;
    Ok(answer)
}

/// Most requests of a provider to one customer within [`REQUEST_MS`]: each is a record of the customer's log.
const REQUESTS_MAX: usize = 10;

/// Writes down in the provider's own tenant what it asks for.
async fn ask(
    api: &Api,
    mut change: Change,
    (asked_by, customer): (&str, &str),
    request: proto::RequestEngagementRequest,
) -> Result<proto::RequestEngagementResponse, ApiError> {
    let wanted = request.engagement.unwrap_or_default();
    let terms = check_terms(terms_of(&wanted, customer)?).map_err(|wrong| {
        let mut faults = crate::model::Faults::default();
        faults.add_all("engagement.", wrong);
        Refusal::Invalid(faults)
    })?;
    let provider = change.tenant.id.clone();
    let now_ms = change.now_ms;
    let offers = store::engagements::offers_to(change.tx.conn(), &provider, customer).await?;
    let recent = offers.iter().map(|one| one.asked_at_ms + REQUEST_MS);
    let recent: Vec<i64> = recent.filter(|end_ms| now_ms < *end_ms).collect();
    if recent.len() >= REQUESTS_MAX {
        // Newest first: with the end of this one there are fewer.
        let left_ms = recent[REQUESTS_MAX - 1] - now_ms;
        return Err(Refusal::TooManyRequests(left_ms).into());
    }
    for earlier in offers {
        let asked = read_request(&earlier.request)?;
        if earlier.withdrawn_at_ms.is_none() && now_ms < asked.approvable_until_ms {
            let (api, customer) = (api.clone(), customer.to_owned());
            let answered = across(async move {
                let mut reader = api.db.read(&customer).await?;
                let found = store::engagements::get(&mut reader, &customer, &earlier.id).await?;
                Ok(found.is_some_and(|one| one.phase(now_ms) != Phase::Requested))
            });
            if !answered.await? {
                return Err(Refusal::EngagementRequested.into());
            }
        }
    }
    let id = convert::id("engagement", EngagementId::parse(&new_id(now_ms)))?;
    let payload = EngagementRequested {
        engagement: id.in_records(),
        provider: tenant_name(&provider).to_string(),
        customer: tenant_name(customer).to_string(),
        roles: terms.roles.clone(),
        purpose: terms.purpose.clone(),
        profile: terms.profile.into(),
        term_days: terms.term_days,
        approvable_until_ms: now_ms + REQUEST_MS,
        parent: terms
            .parent
            .as_ref()
            .map(EngagementId::in_records)
            .unwrap_or_default(),
    };
    let draft = change.draft(&payload, id.in_records());
    let emitted = api.emit(&mut change, draft).await?;
    let offer = Offer {
        id,
        customer: customer.to_owned(),
        request: payload.encode_to_vec(),
        record_hash: emitted.record_hash,
        asked_by: asked_by.to_owned(),
        asked_at_ms: now_ms,
        withdrawn_at_ms: None,
    };
    store::engagements::insert_offer(change.tx.conn(), &provider, &offer).await?;
    let asked = engagement_of(&offer, &provider)?;
    let answer = proto::RequestEngagementResponse {
        engagement: Some(convert::engagement(customer, &asked, &[], now_ms)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

fn terms_of(wanted: &proto::Engagement, customer: &str) -> Result<Terms, ApiError> {
    let field = "engagement.parent";
    let parent = match wanted.parent.as_str() {
        "" => None,
        parent => {
            let name = EngagementName::parse_field(field, parent)?;
            if name.tenant != customer {
                return Err(ApiError::invalid(field, "must be of the same customer"));
            }
            Some(convert::id(field, EngagementId::parse(&name.engagement))?)
        }
    };
    Ok(Terms {
        roles: wanted.roles.clone(),
        purpose: wanted.purpose.clone(),
        profile: convert::code(wanted.profile),
        term_days: wanted.term_days,
        parent,
    })
}

fn read_request(bytes: &[u8]) -> Result<EngagementRequested, ApiError> {
    decode_canonical(bytes, EngagementRequested::NAME).map_err(ApiError::internal)
}

/// What a provider asked for, as an engagement that nobody has answered.
pub(super) fn engagement_of(offer: &Offer, provider: &str) -> Result<Engagement, ApiError> {
    let asked = read_request(&offer.request)?;
    let parent = asked.parent.strip_prefix("engagements/");
    Ok(Engagement {
        id: offer.id.clone(),
        provider: provider.to_owned(),
        terms: Terms {
            roles: asked.roles.clone(),
            purpose: asked.purpose.clone(),
            profile: asked.profile(),
            term_days: asked.term_days,
            parent: parent.map(|id| EngagementId::stored(id.to_owned())),
        },
        approvable_until_ms: asked.approvable_until_ms,
        request_hash: offer.record_hash,
        approval: None,
        ended_at_ms: offer.withdrawn_at_ms,
        tier: 0,
        reassessment: None,
    })
}

/// Writes down in the customer's tenant what the provider asked for, if there is such a tenant, it may take somebody in, and it is
/// not there yet. False: nothing was written.
pub(crate) async fn carry_over(
    api: &Api,
    provider: &str,
    customer: &str,
    id: &EngagementId,
) -> Result<bool, ApiError> {
    let mut reader = api.db.read(provider).await?;
    let offer = store::engagements::get_offer(&mut reader, provider, id).await?;
    let offer = offer.ok_or_else(ApiError::not_found)?;
    drop(reader);
    let mut tx = api.db.write_tx(customer).await?;
    let known = store::tenants::get(tx.conn(), customer).await?;
    let there = store::engagements::get(tx.conn(), customer, id).await?;
    let takes_in = known
        .is_some_and(|one| one.kind != TenantKind::Provider && allows(one.state, Step::Govern));
    let now_ms = api.clock.now_ms();
    let mut engagement = engagement_of(&offer, provider)?;
    if !takes_in || there.is_some() || engagement.phase(now_ms) != Phase::Requested {
        tx.rollback().await?;
        return Ok(false);
    }
    let payload = read_request(&offer.request)?;
    let draft = RecordDraft::new(&payload, &offer.asked_by, now_ms).subject(id.in_records());
    let emitted = api.outbox.emit(&mut tx, draft).await?;
    engagement.request_hash = emitted.record_hash;
    store::engagements::insert(tx.conn(), customer, &engagement).await?;
    tx.commit().await?;
    Ok(true)
}

/// An engagement as its provider sees it: as the customer's tenant has it, or else as it was asked for. What the provider has taken
/// back stays taken back, also where the customer approved it before it heard of that.
async fn seen(
    api: &Api,
    provider: &str,
    customer: &str,
    id: &EngagementId,
) -> Result<Engagement, ApiError> {
    let mut reader = api.db.read(provider).await?;
    let offer = store::engagements::get_offer(&mut reader, provider, id).await?;
    let offer = offer.ok_or_else(ApiError::not_found)?;
    drop(reader);
    let (api, customer, id) = (api.clone(), customer.to_owned(), id.clone());
    let found = across(async move {
        let mut reader = api.db.read(&customer).await?;
        Ok(store::engagements::get(&mut reader, &customer, &id).await?)
    });
    match found.await? {
        Some(found) if found.approval.is_some() && offer.withdrawn_at_ms.is_none() => Ok(found),
        _ => engagement_of(&offer, provider),
    }
}

/// Whether the customer has answered what a provider asked for.
pub(super) async fn is_answered(
    api: &Api,
    provider: &str,
    customer: &str,
    id: &EngagementId,
) -> Result<bool, ApiError> {
    let seen = seen(api, provider, customer, id).await?;
    Ok(seen.approval.is_some())
}

/// Refuses a provider what it may do only under an engagement that its customer has answered.
pub(super) async fn require_answered(
    api: &Api,
    provider: &str,
    customer: &str,
    id: &EngagementId,
) -> Result<(), ApiError> {
    let seen = seen(api, provider, customer, id).await?;
    match seen.approval {
        Some(_) => Ok(()),
        None => Err(Refusal::EngagementState(seen.phase(api.now_ms())).into()),
    }
}

/// Takes back what a provider asked for.
pub(super) async fn withdraw(
    api: &Api,
    caller: &Caller,
    (provider, customer): (&str, &str),
    id: &EngagementId,
    request: proto::EndEngagementRequest,
) -> Result<proto::EndEngagementResponse, ApiError> {
    let begun = api
        .begin(
            caller,
            provider,
            "EndEngagement",
            &request.request_id,
            &request,
        )
        .await?;
    let reason = request.reason.clone();
    let answer = match begun {
        Asked::Done(answer) => answer,
        Asked::New(change) => write_withdrawal(api, *change, customer, id, request.reason).await?,
    };
    // If we crash here: the customer still sees what was asked for. The job carries the withdrawal over.
    let (api, caller) = (api.clone(), caller.clone());
    let (customer, id) = (customer.to_owned(), id.clone());
    let carried =
        across(async move { carry_withdrawal(&api, &caller, &customer, &id, &reason).await });
    carried.await?;
    Ok(answer)
}

async fn write_withdrawal(
    api: &Api,
    mut change: Change,
    customer: &str,
    id: &EngagementId,
    reason: String,
) -> Result<proto::EndEngagementResponse, ApiError> {
    if !text::is_code(&reason) {
        return Err(ApiError::invalid("reason", text::CODE));
    }
    let (provider, now_ms) = (change.tenant.id.clone(), change.now_ms);
    let offer = store::engagements::get_offer(change.tx.conn(), &provider, id).await?;
    let mut asked = engagement_of(&offer.ok_or_else(ApiError::not_found)?, &provider)?;
    let phase = asked.phase(now_ms);
    if phase != Phase::Requested {
        return Err(Refusal::EngagementState(phase).into());
    }
    let draft = change.draft(&withdrawal(id, now_ms, reason), id.in_records());
    let emitted = api.emit(&mut change, draft).await?;
    store::engagements::withdraw_offer(change.tx.conn(), &provider, id, now_ms).await?;
    asked.ended_at_ms = Some(now_ms);
    let answer = proto::EndEngagementResponse {
        engagement: Some(convert::engagement(customer, &asked, &[], now_ms)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

fn withdrawal(id: &EngagementId, effective_ms: i64, reason: String) -> EngagementEnded {
    EngagementEnded {
        engagement: id.in_records(),
        ended_by: EngagementEnd::Provider.into(),
        effective_ms,
        reason,
    }
}

/// Ends in the customer's tenant, if there is such a tenant, what its provider has withdrawn; also when the customer has approved it
/// meanwhile: either side ends it at once. False: nothing was to be ended.
pub(crate) async fn carry_withdrawal(
    api: &Api,
    caller: &Caller,
    customer: &str,
    id: &EngagementId,
    reason: &str,
) -> Result<bool, ApiError> {
    let mut reader = api.db.read(customer).await?;
    let there = store::engagements::get(&mut reader, customer, id).await?;
    drop(reader);
    if there.is_none() {
        return Ok(false);
    }
    let Some(mut change) = api.begin_to_end(caller, customer).await? else {
        return Ok(false);
    };
    let phase = of_change(&mut change, id).await?.phase(change.now_ms);
    if !matches!(phase, Phase::Requested | Phase::Live) {
        return Ok(false);
    }
    let payload = withdrawal(id, change.now_ms, reason.to_owned());
    let draft = change.draft(&payload, id.in_records());
    api.emit(&mut change, draft).await?;
    end(api, &mut change, id, EngagementEnd::Provider).await?;
    api.finish(*change, ()).await?;
    Ok(true)
}
