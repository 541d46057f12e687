//! Items: listing, reading, giving on; and the face of decisions.

use counterfoil_chassis::{
    auth::Caller,
    error::ApiError,
    idempotency::{self, Begun},
};
use counterfoil_evidence::{leaf::GrantKey, v1::RoutingCause};
use counterfoil_proto::{
    authority::DecisionAction,
    recertification::{
        BatchDecideItemsRequest, BatchDecideItemsResponse, DecideItemRequest, DecideItemResponse,
        GetItemRequest, GetItemResponse, ListItemsRequest, ListItemsResponse, ReassignItemRequest,
        ReassignItemResponse, review_service_server::ReviewService,
    },
};
use tonic::{Request, Response, Status};

use super::{Api, ItemName, convert, decide, open};
use crate::{
    context::Mover,
    jobs::routing,
    model::{
        decision::Refusal,
        identity::Barred,
        ids::{CampaignKey, Principal, Source},
        item::{self, ItemEvent, ItemState, PresentedItem},
        rights,
        routing::Routable,
    },
    records::{self, PRESENTATION, Routing, Stamp},
    store::{StoreError, campaigns, items},
};

#[tonic::async_trait]
impl ReviewService for Api {
    async fn list_items(
        &self,
        request: Request<ListItemsRequest>,
    ) -> Result<Response<ListItemsResponse>, Status> {
        let (caller, request) = open(request)?;
        Ok(Response::new(self.list_page(&caller, request).await?))
    }

    async fn get_item(
        &self,
        request: Request<GetItemRequest>,
    ) -> Result<Response<GetItemResponse>, Status> {
        let (caller, request) = open(request)?;
        Ok(Response::new(self.read_item(&caller, request).await?))
    }

    async fn decide_item(
        &self,
        request: Request<DecideItemRequest>,
    ) -> Result<Response<DecideItemResponse>, Status> {
        let (caller, request) = open(request)?;
        Ok(Response::new(self.decide_one(&caller, request).await?))
    }

    async fn batch_decide_items(
        &self,
        request: Request<BatchDecideItemsRequest>,
    ) -> Result<Response<BatchDecideItemsResponse>, Status> {
        let (caller, request) = open(request)?;
        Ok(Response::new(self.decide_many(&caller, request).await?))
    }

    async fn reassign_item(
        &self,
        request: Request<ReassignItemRequest>,
    ) -> Result<Response<ReassignItemResponse>, Status> {
        let (caller, request) = open(request)?;
        Ok(Response::new(self.reassign(&caller, request).await?))
    }
}

impl Api {
    async fn list_page(
        &self,
        caller: &Caller,
        request: ListItemsRequest,
    ) -> Result<ListItemsResponse, ApiError> {
        let key = Self::campaign_key(caller, "campaign", &request.campaign)?;
        let filter = items::ItemFilter {
            state: convert::item_state(request.state()),
            reviewer: match request.reviewer.as_str() {
                "" => None,
                name => Some(convert::principal(&key.tenant, "reviewer", name)?),
            },
        };
        let state = request.state().as_str_name();
        let scope = [
            "ListItems",
            &key.tenant,
            &key.campaign,
            state,
            &request.reviewer,
        ];
        let page = self
            .context
            .pages
            .open(request.page_size, &request.page_token, &scope)?;
        let after = page.after.clone().unwrap_or_default();
        let mut tx = self.context.db.read_tx(&key.tenant).await?;
        if !campaigns::exists(tx.conn(), &key).await? {
            return Err(ApiError::not_found());
        }
        let mut found = items::list(tx.conn(), &key, &filter, &after, page.size + 1).await?;
        let next_page_token = page.cut(&mut found, |last| last.item.key.0.to_vec());
        Ok(ListItemsResponse {
            items: found
                .iter()
                .map(|one| convert::item(&key, one))
                .collect::<Result<_, _>>()?,
            next_page_token,
        })
    }

    async fn read_item(
        &self,
        caller: &Caller,
        request: GetItemRequest,
    ) -> Result<GetItemResponse, ApiError> {
        let (key, grant) = Self::item_name(caller, &request.name)?;
        let found = self.find_item(&key, &grant).await?;
        Ok(GetItemResponse {
            item: Some(convert::item(&key, &found)?),
        })
    }

    /// Campaign and grant of an item of that name, which must be of the caller's tenant.
    fn item_name(caller: &Caller, name: &str) -> Result<(CampaignKey, GrantKey), ApiError> {
        let name = ItemName::parse_field("name", name)?;
        caller.require_tenant(&name.tenant)?;
        let grant = item::key_of_id(&name.item).ok_or_else(ApiError::not_found)?;
        let key = CampaignKey {
            tenant: name.tenant,
            campaign: name.campaign,
        };
        Ok((key, grant))
    }

    async fn find_item(
        &self,
        key: &CampaignKey,
        grant: &GrantKey,
    ) -> Result<PresentedItem, ApiError> {
        let mut connection = self.context.db.read(&key.tenant).await?;
        let found = items::get(&mut connection, key, grant).await?;
        found.ok_or_else(ApiError::not_found)
    }

    async fn reassign(
        &self,
        caller: &Caller,
        request: ReassignItemRequest,
    ) -> Result<ReassignItemResponse, ApiError> {
        let method = "ReassignItem";
        let id = &request.request_id;
        let (key, grant) = Self::item_name(caller, &request.name)?;
        self.context.tenants.require_active(&key.tenant).await?;
        // Before anything is judged: whoever has given the item away may give it to nobody else.
        let (db, whose) = (&self.context.db, (key.tenant.as_str(), caller));
        let done = idempotency::answered(db, whose, method, id, &request).await?;
        if let Some(answer) = done {
            return self.reassigned(&key, answer).await;
        }
        let found = self.find_item(&key, &grant).await?;
        let to = convert::principal(&key.tenant, "reviewer", &request.reviewer)?;
        let stamp = self.may_reassign(caller, &key, &found, &to).await?;
        let salt = routing::salt(&self.context, &key.tenant).await?;
        let mut tx = self.context.db.write_tx(&key.tenant).await?;
        let begun = idempotency::begin(&mut tx, caller, method, id, &request).await?;
        let fresh = match begun {
            Begun::Replay(answer) => return self.reassigned(&key, answer).await,
            Begun::Fresh(fresh) => fresh,
        };
        let campaign = campaigns::get(tx.conn(), &key)
            .await?
            .ok_or_else(ApiError::not_found)?;
        decide::require_active(&campaign)?;
        let present = items::get(tx.conn(), &key, &grant)
            .await?
            .ok_or_else(ApiError::not_found)?;
        if present != found {
            return Err(Refusal::conflict().into());
        }
        if present.item.state.after(ItemEvent::Routed) != Some(ItemState::Routed) {
            return Err(Refusal::ended().into());
        }
        let routing = Routing {
            key: grant,
            leaf: &present.item.leaf,
            presentation: &present.presentation,
            from: present.item.reviewer.as_ref(),
            to: &to,
            cause: RoutingCause::Reassigned,
            subject_tag: routing::subject_tag(&salt, &present.item.subject_key),
        };
        let staged_hash = campaign
            .staged_hash
            .ok_or(StoreError::Damaged("staged_hash"))?;
        let draft = records::routed(&stamp, &key, staged_hash, &routing);
        let emitted = self.context.outbox.emit(&mut tx, draft).await?;
        let row = items::RoutedRow {
            key: grant,
            reviewer: to,
            presentation_hash: emitted
                .commitment(PRESENTATION)
                .ok_or_else(|| ApiError::internal("a record without its commitment"))?,
        };
        items::route(&mut tx, &key, vec![row]).await?;
        let now_shown = items::get(tx.conn(), &key, &grant)
            .await?
            .ok_or_else(ApiError::not_found)?;
        let answer = ReassignItemResponse {
            item: Some(convert::item(&key, &now_shown)?),
            receipt: Some(emitted.pending_receipt()),
        };
        fresh.store(&mut tx, &answer, stamp.now_ms).await?;
        // If we crash here: the item is with its new reviewer with the record of it, or with the old one.
        tx.commit().await?;
        self.reassigned(&key, answer).await
    }

    async fn reassigned(
        &self,
        key: &CampaignKey,
        mut answer: ReassignItemResponse,
    ) -> Result<ReassignItemResponse, ApiError> {
        self.settle(&key.tenant, &mut answer.receipt).await?;
        Ok(answer)
    }

    /// Who may give an item on: its reviewer, or whoever may certify the campaign. To whom: not the subject, and only somebody
    /// who can decide it.
    async fn may_reassign(
        &self,
        caller: &Caller,
        key: &CampaignKey,
        found: &PresentedItem,
        to: &Principal,
    ) -> Result<Stamp, ApiError> {
        let mut connection = self.context.db.read(&key.tenant).await?;
        let campaign = campaigns::get(&mut connection, key)
            .await?
            .ok_or_else(ApiError::not_found)?;
        let sources = campaigns::sources(&mut connection, key).await?;
        drop(connection);
        let source = routing::source_of(&sources, &found.item)?;
        let principal = self.context.principal(&key.tenant, caller)?;
        let stamp = if found.item.reviewer.as_ref() == Some(&principal) {
            self.reviewers_stamp(caller, key, &principal, source)
                .await?
        } else {
            // An agent does not get here: none may reassign.
            let act = "ReassignItem";
            let mover = Mover::Caller { caller, act };
            self.context.stamp(mover, &campaign.definition).await?
        };
        let directory = self.context.directory(&key.tenant).await?;
        let routable = Routable {
            owner_key: &found.item.owner_key,
            subject_key: &found.item.subject_key,
            source,
        };
        let barred = directory
            .person(to)
            .and_then(|person| found.item.bars(&person.identity_key));
        if barred.is_some() || !directory.eligible(to, routable) {
            return Err(not_eligible(barred));
        }
        if !directory.has_right(to, source, stamp.now_ms) {
            return Err(ApiError::failed_precondition(
                "NO_DECISION_RIGHT",
                format!("the new reviewer has no decision right REVIEW that covers {source}"),
            ));
        }
        Ok(stamp)
    }

    async fn reviewers_stamp(
        &self,
        caller: &Caller,
        key: &CampaignKey,
        principal: &Principal,
        source: &Source,
    ) -> Result<Stamp, ApiError> {
        let now_ms = self.context.clock.now_ms();
        let action = DecisionAction::Review;
        let standing = self
            .context
            .standing(&key.tenant, principal, action)
            .await?;
        self.context
            .require_reach(&key.tenant, caller, &standing, source)
            .await?;
        let right = rights::covering(&standing.rights, source, now_ms);
        Ok(Stamp {
            actor: caller.actor().to_owned(),
            now_ms,
            right: right.map(|right| right.record_hash),
            on_behalf_of: Vec::new(),
            accountable_owner: standing.accountable_owner,
            policy_hash: standing.policy_hash,
        })
    }
}

fn not_eligible(barred: Option<Barred>) -> ApiError {
    let (reason, message) = match barred {
        Some(Barred::Subject) => ("SELF_REVIEW", "the new reviewer is the subject"),
        Some(Barred::NoIdentity) => (
            "NO_IDENTITY",
            "the new reviewer has no identity key: nobody can tell whether the access is their own",
        ),
        None => ("NOT_A_REVIEWER", "must be an active human"),
    };
    ApiError::failed_precondition(reason, message)
}
