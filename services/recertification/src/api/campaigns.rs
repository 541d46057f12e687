//! Campaigns: creating, reading, listing, and the face of their steps.

use counterfoil_chassis::{
    auth::Caller,
    clock::millis,
    db::scope,
    error::ApiError,
    idempotency::{self, Begun},
    names::{check_id, new_id, tenant_field},
};
use counterfoil_proto::authority::DecisionAction;
use counterfoil_proto::recertification::{
    ActivateCampaignRequest, ActivateCampaignResponse, BatchGetDecidedGrantsRequest,
    BatchGetDecidedGrantsResponse, Campaign as ApiCampaign, CloseCampaignRequest,
    CloseCampaignResponse, CreateCampaignRequest, CreateCampaignResponse, EndReviewRequest,
    EndReviewResponse, GetCampaignRequest, GetCampaignResponse, LapseRule as ApiLapseRule,
    ListCampaignsRequest, ListCampaignsResponse, ReportVerifiedRemovalsRequest,
    ReportVerifiedRemovalsResponse, StageCampaignRequest, StageCampaignResponse,
    StreamDecidedGrantsRequest, StreamDecidedGrantsResponse,
    campaign_service_server::CampaignService,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Api, convert, open};
use crate::{
    context::Mover,
    model::{
        campaign::{Campaign, CampaignState, Definition, LapseRule, Scope},
        ids::{CampaignKey, Principal},
    },
    records,
    store::{Connection, campaigns, items},
};

/// Longest name shown to people, characters.
const DISPLAY_NAME_CHARS_MAX: usize = 200;
/// Longest review: beyond a year a campaign is none.
const REVIEW_MS_MAX: i64 = 366 * 86_400_000;
/// Answers of a stream that wait for a slow reader.
const ANSWERS_AHEAD: usize = 4;

#[tonic::async_trait]
impl CampaignService for Api {
    type StreamDecidedGrantsStream = ReceiverStream<Result<StreamDecidedGrantsResponse, Status>>;

    async fn create_campaign(
        &self,
        request: Request<CreateCampaignRequest>,
    ) -> Result<Response<CreateCampaignResponse>, Status> {
        let (caller, request) = open(request)?;
        Ok(Response::new(self.create(&caller, request).await?))
    }

    async fn stage_campaign(
        &self,
        request: Request<StageCampaignRequest>,
    ) -> Result<Response<StageCampaignResponse>, Status> {
        let (caller, request) = open(request)?;
        Ok(Response::new(self.stage(&caller, request).await?))
    }

    async fn activate_campaign(
        &self,
        request: Request<ActivateCampaignRequest>,
    ) -> Result<Response<ActivateCampaignResponse>, Status> {
        let (caller, request) = open(request)?;
        Ok(Response::new(self.activate(&caller, request).await?))
    }

    async fn end_review(
        &self,
        request: Request<EndReviewRequest>,
    ) -> Result<Response<EndReviewResponse>, Status> {
        let (caller, request) = open(request)?;
        Ok(Response::new(self.end(&caller, request).await?))
    }

    async fn report_verified_removals(
        &self,
        request: Request<ReportVerifiedRemovalsRequest>,
    ) -> Result<Response<ReportVerifiedRemovalsResponse>, Status> {
        let (caller, request) = open(request)?;
        Ok(Response::new(self.report_removals(&caller, request).await?))
    }

    async fn close_campaign(
        &self,
        request: Request<CloseCampaignRequest>,
    ) -> Result<Response<CloseCampaignResponse>, Status> {
        let (caller, request) = open(request)?;
        Ok(Response::new(self.close(&caller, request).await?))
    }

    async fn get_campaign(
        &self,
        request: Request<GetCampaignRequest>,
    ) -> Result<Response<GetCampaignResponse>, Status> {
        let (caller, request) = open(request)?;
        let key = Self::campaign_key(&caller, "name", &request.name)?;
        let campaign = Some(self.read_campaign(&key).await?);
        Ok(Response::new(GetCampaignResponse { campaign }))
    }

    async fn list_campaigns(
        &self,
        request: Request<ListCampaignsRequest>,
    ) -> Result<Response<ListCampaignsResponse>, Status> {
        let (caller, request) = open(request)?;
        Ok(Response::new(self.list(&caller, request).await?))
    }

    async fn batch_get_decided_grants(
        &self,
        request: Request<BatchGetDecidedGrantsRequest>,
    ) -> Result<Response<BatchGetDecidedGrantsResponse>, Status> {
        let (caller, request) = open(request)?;
        Ok(Response::new(self.get_decided(&caller, request).await?))
    }

    async fn stream_decided_grants(
        &self,
        request: Request<StreamDecidedGrantsRequest>,
    ) -> Result<Response<Self::StreamDecidedGrantsStream>, Status> {
        let (caller, request) = open(request)?;
        let tenant = tenant_field(&request.tenant)?;
        caller.require_tenant(&tenant)?;
        self.context.tenants.require(&tenant).await?;
        let patience = self.context.settings.stream_patience();
        let leave = self.context.streams.enter(&tenant, patience).await?;
        let (answers, receiver) = mpsc::channel(ANSWERS_AHEAD);
        scope::spawn(self.clone().send_decided(tenant, leave, answers));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl Api {
    async fn create(
        &self,
        caller: &Caller,
        request: CreateCampaignRequest,
    ) -> Result<CreateCampaignResponse, ApiError> {
        let tenant = tenant_field(&request.tenant)?;
        caller.require_tenant(&tenant)?;
        self.context.tenants.require_active(&tenant).await?;
        let definition = self.definition(caller, &tenant, &request).await?;
        let (method, id) = ("CreateCampaign", &request.request_id);
        let db = &self.context.db;
        let done = idempotency::answered(db, (&tenant, caller), method, id, &request).await?;
        if let Some(answer) = done {
            return self.created(&tenant, answer).await;
        }
        let act = match request.request_id.as_str() {
            "" => format!("CreateCampaign/{}", definition.key.campaign),
            id => format!("CreateCampaign/request/{id}"),
        };
        let mover = Mover::Caller { caller, act: &act };
        let stamp = self.context.stamp(mover, &definition).await?;
        let mut tx = self.context.db.write_tx(&tenant).await?;
        let begun =
            idempotency::begin(&mut tx, caller, method, &request.request_id, &request).await?;
        let fresh = match begun {
            Begun::Replay(answer) => return self.created(&tenant, answer).await,
            Begun::Fresh(fresh) => fresh,
        };
        let taken = || ApiError::already_exists("CAMPAIGN_EXISTS", "the campaign id is taken");
        if campaigns::exists(tx.conn(), &definition.key).await? {
            return Err(taken());
        }
        let record = records::defined(&stamp, &definition);
        let emitted = self.context.outbox.emit(&mut tx, record).await?;
        if !campaigns::insert(&mut tx, &definition, emitted.record_hash).await? {
            return Err(taken());
        }
        let answer = CreateCampaignResponse {
            campaign: Some(self.shown(tx.conn(), &definition.key).await?),
            receipt: Some(emitted.pending_receipt()),
        };
        fresh.store(&mut tx, &answer, stamp.now_ms).await?;
        // If we crash here: the campaign, its record and this answer are all there, or none of them is.
        tx.commit().await?;
        self.created(&tenant, answer).await
    }

    async fn created(
        &self,
        tenant: &str,
        mut answer: CreateCampaignResponse,
    ) -> Result<CreateCampaignResponse, ApiError> {
        self.settle(tenant, &mut answer.receipt).await?;
        Ok(answer)
    }

    /// The definition that a request asks for, checked; owner and fallback reviewer are people who can be what they are named.
    async fn definition(
        &self,
        caller: &Caller,
        tenant: &str,
        request: &CreateCampaignRequest,
    ) -> Result<Definition, ApiError> {
        let now_ms = self.context.clock.now_ms();
        let asked = request
            .campaign
            .as_ref()
            .ok_or_else(|| ApiError::invalid("campaign", "is required"))?;
        if !request.campaign_id.is_empty() {
            check_id(&request.campaign_id).map_err(|error| error.in_field("campaign_id"))?;
        }
        if asked.display_name.chars().count() > DISPLAY_NAME_CHARS_MAX {
            let limit = format!("has at most {DISPLAY_NAME_CHARS_MAX} characters");
            return Err(ApiError::invalid("campaign.display_name", limit));
        }
        let policy = self.context.authority.policy(tenant).await?;
        Ok(Definition {
            key: CampaignKey {
                tenant: tenant.to_owned(),
                campaign: match request.campaign_id.as_str() {
                    "" => new_id(now_ms),
                    id => id.to_owned(),
                },
            },
            display_name: asked.display_name.clone(),
            scope: Scope {
                sources: convert::sources(tenant, &asked.sources)?,
                privileged_only: asked.privileged_only,
                include_inherited: asked.include_inherited,
            },
            lapse_rule: match asked.lapse_rule() {
                ApiLapseRule::Unspecified => policy.lapse_rule,
                ApiLapseRule::Revoke => LapseRule::Revoke,
                ApiLapseRule::RetainAsDebt => LapseRule::RetainAsDebt,
            },
            owner: self.owner(caller, tenant, &asked.owner).await?,
            fallback_reviewer: self.fallback_reviewer(tenant, asked).await?,
            due_ms: self.due_ms(asked, now_ms)?,
            create_ms: now_ms,
        })
    }

    /// The named owner, or the tenant's accountable owner; an active human of the customer in either case (I-12).
    async fn owner(
        &self,
        caller: &Caller,
        tenant: &str,
        named: &str,
    ) -> Result<Principal, ApiError> {
        let authority = &self.context.authority;
        let owner = if named.is_empty() {
            let asker = self.context.principal(tenant, caller)?;
            let action = DecisionAction::Certify;
            authority
                .standing(tenant, &asker, action)
                .await?
                .accountable_owner
        } else {
            convert::principal(tenant, "campaign.owner", named)?
        };
        let person = authority.person(tenant, &owner).await?;
        if person.is_some_and(|person| person.may_be_accountable()) {
            return Ok(owner);
        }
        Err(ApiError::invalid(
            "campaign.owner",
            "must be an active human of the customer",
        ))
    }

    async fn fallback_reviewer(
        &self,
        tenant: &str,
        asked: &ApiCampaign,
    ) -> Result<Principal, ApiError> {
        let field = "campaign.fallback_reviewer";
        let named = convert::principal(tenant, field, &asked.fallback_reviewer)?;
        let person = self.context.authority.person(tenant, &named).await?;
        if person.is_some_and(|person| person.human && person.end_ms.is_none()) {
            return Ok(named);
        }
        Err(ApiError::invalid(field, "must be an active human"))
    }

    fn due_ms(&self, asked: &ApiCampaign, now_ms: i64) -> Result<i64, ApiError> {
        let field = "campaign.due_time";
        let Some(due) = &asked.due_time else {
            let seconds = i64::from(self.context.settings.review_seconds);
            return Ok(now_ms + seconds * 1000);
        };
        let due_ms = millis(due).ok_or_else(|| ApiError::invalid(field, "is not a time"))?;
        if due_ms <= now_ms {
            return Err(ApiError::invalid(field, "is not in the future"));
        }
        if due_ms.saturating_sub(now_ms) > REVIEW_MS_MAX {
            return Err(ApiError::invalid(field, "is more than 366 days away"));
        }
        Ok(due_ms)
    }

    async fn list(
        &self,
        caller: &Caller,
        request: ListCampaignsRequest,
    ) -> Result<ListCampaignsResponse, ApiError> {
        let tenant = tenant_field(&request.tenant)?;
        caller.require_tenant(&tenant)?;
        self.context.tenants.require(&tenant).await?;
        let scope = ["ListCampaigns", tenant.as_str()];
        let page = self
            .context
            .pages
            .open(request.page_size, &request.page_token, &scope)?;
        let refused = || ApiError::invalid("page_token", "is not a token of this list");
        let after = page
            .after_text()?
            .map(|text| {
                let (created, id) = text.split_once('/').ok_or_else(refused)?;
                Ok::<_, ApiError>((created.parse::<i64>().map_err(|_| refused())?, id))
            })
            .transpose()?;
        let mut tx = self.context.db.read_tx(&tenant).await?;
        let mut found = campaigns::list(tx.conn(), &tenant, after, page.size + 1).await?;
        let next_page_token = page.cut(&mut found, |last| {
            let definition = &last.definition;
            format!("{}/{}", definition.create_ms, definition.key.campaign).into_bytes()
        });
        let mut campaigns = Vec::with_capacity(found.len());
        for one in &found {
            campaigns.push(present(tx.conn(), one).await?);
        }
        Ok(ListCampaignsResponse {
            campaigns,
            next_page_token,
        })
    }

    /// Reads a campaign for an answer.
    pub(super) async fn read_campaign(&self, key: &CampaignKey) -> Result<ApiCampaign, ApiError> {
        let mut tx = self.context.db.read_tx(&key.tenant).await?;
        self.shown(tx.conn(), key).await
    }

    /// The campaign as this connection sees it.
    pub(super) async fn shown(
        &self,
        connection: &mut Connection,
        key: &CampaignKey,
    ) -> Result<ApiCampaign, ApiError> {
        let found = campaigns::get(connection, key)
            .await?
            .ok_or_else(ApiError::not_found)?;
        present(connection, &found).await
    }
}

async fn present(connection: &mut Connection, found: &Campaign) -> Result<ApiCampaign, ApiError> {
    // While the population is being read, its items are nobody's business yet.
    let standing = match found.state {
        CampaignState::Draft | CampaignState::Staging => Vec::new(),
        _ => items::counts(connection, &found.definition.key).await?,
    };
    Ok(convert::campaign(found, &standing))
}
