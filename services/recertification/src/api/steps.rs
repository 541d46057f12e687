//! The steps of a campaign after it is staged: activate, end the review, close.

use std::collections::HashSet;

use counterfoil_chassis::{
    auth::Caller,
    db::WriteTx,
    error::ApiError,
    idempotency::{self, Begun},
};
use counterfoil_evidence::leaf::GrantKey;
use counterfoil_proto::recertification::{
    ActivateCampaignRequest, ActivateCampaignResponse, CloseCampaignRequest, CloseCampaignResponse,
    EndReviewRequest, EndReviewResponse,
};
use prost::Message;

use super::Api;
use crate::{
    context::Mover,
    jobs::{BATCH_ITEMS, ending, routing},
    model::{
        campaign::{Campaign, CampaignEvent, CampaignState},
        ids::CampaignKey,
    },
    records,
    store::{StoreError, campaigns, items},
};

/// One call of a step.
pub(super) struct Step<'s, M> {
    pub(super) caller: &'s Caller,
    pub(super) key: &'s CampaignKey,
    pub(super) method: &'static str,
    pub(super) request_id: &'s str,
    pub(super) request: &'s M,
}

impl<M: Message> Step<'_, M> {
    /// Looks the request up. Once when the step begins, and again in its last transaction: the same request may have come twice
    /// at once, and the other one may have been done in the meantime.
    pub(super) async fn begun<R: Message + Default>(
        &self,
        tx: &mut WriteTx,
    ) -> Result<Begun<R>, ApiError> {
        idempotency::begin(tx, self.caller, self.method, self.request_id, self.request).await
    }
}

impl Api {
    /// Begins a step that takes several transactions: moves the campaign to the state in which the step runs. Answers what was
    /// answered when the same request was done before.
    async fn begin_step<R: Message + Default, M: Message>(
        &self,
        step: &Step<'_, M>,
        event: CampaignEvent,
    ) -> Result<Option<R>, ApiError> {
        let key = step.key;
        let mut tx = self.context.db.write_tx(&key.tenant).await?;
        if let Begun::Replay(answer) = step.begun(&mut tx).await? {
            return Ok(Some(answer));
        }
        let campaign = campaigns::get(tx.conn(), key)
            .await?
            .ok_or_else(ApiError::not_found)?;
        let next = campaign.state.after(event)?;
        if next != campaign.state {
            campaigns::set_state(&mut tx, key, next).await?;
        }
        // If we crash here: the campaign is in the step, and the step can be begun again.
        tx.commit().await?;
        Ok(None)
    }

    pub(super) async fn require_campaign(&self, key: &CampaignKey) -> Result<Campaign, ApiError> {
        let mut connection = self.context.db.read(&key.tenant).await?;
        campaigns::get(&mut connection, key)
            .await?
            .ok_or_else(ApiError::not_found)
    }

    pub(super) async fn activate(
        &self,
        caller: &Caller,
        request: ActivateCampaignRequest,
    ) -> Result<ActivateCampaignResponse, ApiError> {
        let key = Self::campaign_key(caller, "name", &request.name)?;
        self.context.tenants.require_active(&key.tenant).await?;
        let campaign = self.require_campaign(&key).await?;
        let act = format!("ActivateCampaign/{}", key.campaign);
        let mover = Mover::Caller { caller, act: &act };
        let stamp = self.context.stamp(mover, &campaign.definition).await?;
        let step = Step {
            caller,
            key: &key,
            method: "ActivateCampaign",
            request_id: &request.request_id,
            request: &request,
        };
        if let Some(answer) = self.begin_step(&step, CampaignEvent::RoutingBegan).await? {
            return Ok(answer);
        }
        let _busy = self.context.busy.enter(&key);
        let routed = routing::route_all(&self.context, &campaign, &stamp).await;
        let mut tx = self.context.db.write_tx(&key.tenant).await?;
        let fresh = match step.begun(&mut tx).await? {
            Begun::Replay(answer) => return Ok(answer),
            Begun::Fresh(fresh) => fresh,
        };
        // Another replica may have taken the step to its end.
        if !self.is_in(&mut tx, &key, CampaignState::Active).await? {
            routed?;
            routing::finish(&mut tx, &key).await?;
        }
        let answer = ActivateCampaignResponse {
            campaign: Some(self.shown(tx.conn(), &key).await?),
        };
        fresh.store(&mut tx, &answer, stamp.now_ms).await?;
        // If we crash here: the review is open, or the job opens it.
        tx.commit().await?;
        Ok(answer)
    }

    async fn is_in(
        &self,
        tx: &mut WriteTx,
        key: &CampaignKey,
        state: CampaignState,
    ) -> Result<bool, ApiError> {
        let campaign = campaigns::get(tx.conn(), key).await?;
        Ok(campaign.is_some_and(|campaign| campaign.state == state))
    }

    pub(super) async fn end(
        &self,
        caller: &Caller,
        request: EndReviewRequest,
    ) -> Result<EndReviewResponse, ApiError> {
        let key = Self::campaign_key(caller, "name", &request.name)?;
        self.context.tenants.require_under_way(&key.tenant).await?;
        let campaign = self.require_campaign(&key).await?;
        let act = format!("EndReview/{}", key.campaign);
        let mover = Mover::Caller { caller, act: &act };
        let stamp = self.context.stamp(mover, &campaign.definition).await?;
        let _busy = self.context.busy.enter(&key);
        let mut tx = self.context.db.write_tx(&key.tenant).await?;
        let step = Step {
            caller,
            key: &key,
            method: "EndReview",
            request_id: &request.request_id,
            request: &request,
        };
        if let Begun::Replay(answer) = step.begun(&mut tx).await? {
            return self.ended(&key, answer).await;
        }
        let stamp = ending::begin(&mut tx, &key, &stamp).await?;
        // If we crash here: the job takes the end up again, in the same name.
        tx.commit().await?;
        let lapsed = ending::lapse_all(&self.context, &campaign, &stamp).await;
        let mut tx = self.context.db.write_tx(&key.tenant).await?;
        let fresh = match step.begun(&mut tx).await? {
            Begun::Replay(answer) => return self.ended(&key, answer).await,
            Begun::Fresh(fresh) => fresh,
        };
        // Another replica may have taken the step to its end; the receipt is then in its answer.
        let receipt = if self
            .is_in(&mut tx, &key, CampaignState::Remediating)
            .await?
        {
            None
        } else {
            lapsed?;
            let emitted = ending::finish(&self.context, &mut tx, &key, &stamp).await?;
            Some(emitted.pending_receipt())
        };
        let answer = EndReviewResponse {
            campaign: Some(self.shown(tx.conn(), &key).await?),
            receipt,
        };
        fresh.store(&mut tx, &answer, stamp.now_ms).await?;
        // If we crash here: the stage is closed with its record, or the job closes it.
        tx.commit().await?;
        self.ended(&key, answer).await
    }

    async fn ended(
        &self,
        key: &CampaignKey,
        mut answer: EndReviewResponse,
    ) -> Result<EndReviewResponse, ApiError> {
        self.settle(&key.tenant, &mut answer.receipt).await?;
        Ok(answer)
    }

    pub(super) async fn close(
        &self,
        caller: &Caller,
        request: CloseCampaignRequest,
    ) -> Result<CloseCampaignResponse, ApiError> {
        let key = Self::campaign_key(caller, "name", &request.name)?;
        self.context.tenants.require_under_way(&key.tenant).await?;
        let campaign = self.require_campaign(&key).await?;
        let act = format!("CloseCampaign/{}", key.campaign);
        let mover = Mover::Caller { caller, act: &act };
        let stamp = self.context.stamp(mover, &campaign.definition).await?;
        let came_back = self.came_back(&key).await?;
        let mut tx = self.context.db.write_tx(&key.tenant).await?;
        let method = "CloseCampaign";
        let begun =
            idempotency::begin(&mut tx, caller, method, &request.request_id, &request).await?;
        let fresh = match begun {
            Begun::Replay(answer) => return self.closed(&key, answer).await,
            Begun::Fresh(fresh) => fresh,
        };
        let campaign = routing::require(&mut tx, &key, CampaignState::Remediating).await?;
        let sealed = ending::seal(tx.conn(), &campaign, &came_back).await?;
        let debt_count = sealed.debt.count;
        let next = campaign
            .state
            .after(CampaignEvent::CloseSealed { debt_count })?;
        let population = campaign
            .population
            .as_ref()
            .ok_or(StoreError::Damaged("population_count"))?;
        let record = records::closed(&stamp, &campaign, population.count, sealed);
        let emitted = self.context.outbox.emit(&mut tx, record).await?;
        campaigns::close(&mut tx, &key, next, debt_count).await?;
        let answer = CloseCampaignResponse {
            campaign: Some(self.shown(tx.conn(), &key).await?),
            receipt: Some(emitted.pending_receipt()),
        };
        fresh.store(&mut tx, &answer, stamp.now_ms).await?;
        // If we crash here: the campaign is closed with its record and this answer, or nothing has happened.
        tx.commit().await?;
        self.closed(&key, answer).await
    }

    /// Removals that were verified and are there again: what came back before the close is debt, not done.
    async fn came_back(&self, key: &CampaignKey) -> Result<HashSet<GrantKey>, ApiError> {
        let mut removed = Vec::new();
        let mut after = Vec::new();
        let mut connection = self.context.db.read(&key.tenant).await?;
        loop {
            let page = items::ended(&mut connection, key, &after, BATCH_ITEMS).await?;
            let Some(last) = page.last() else { break };
            after = last.key.0.to_vec();
            let verified = page.iter().filter(|item| item.verified);
            removed.extend(verified.map(|item| item.key));
        }
        drop(connection);
        let now = self
            .context
            .inventory
            .current(&key.tenant, &removed)
            .await?;
        let there = now
            .into_iter()
            .filter(|(_, one)| !one.current.leaf.is_empty());
        Ok(there.map(|(grant, _)| grant).collect())
    }

    async fn closed(
        &self,
        key: &CampaignKey,
        mut answer: CloseCampaignResponse,
    ) -> Result<CloseCampaignResponse, ApiError> {
        self.settle(&key.tenant, &mut answer.receipt).await?;
        Ok(answer)
    }
}
