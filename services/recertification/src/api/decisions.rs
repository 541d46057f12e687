//! Deciding one item, and deciding many.

use counterfoil_chassis::{
    auth::Caller,
    error::ApiError,
    idempotency::{self, Begun},
};
use counterfoil_proto::{
    common::Receipt,
    recertification::{
        BatchDecideItemsRequest, BatchDecideItemsResponse, DecideItemRequest, DecideItemResponse,
        DecideResult, ItemDecision,
    },
};
use tonic::{Code, Status};

use super::{Api, ItemName, convert, decide::Outcome};
use crate::{
    model::{
        decision::{Proposal, Refusal},
        ids::CampaignKey,
    },
    store::items,
};

/// Most decisions in one call.
const DECISIONS_MAX: usize = 1000;

impl Api {
    pub(super) async fn decide_one(
        &self,
        caller: &Caller,
        request: DecideItemRequest,
    ) -> Result<DecideItemResponse, ApiError> {
        let method = "DecideItem";
        let asked = request
            .decision
            .as_ref()
            .ok_or_else(|| ApiError::invalid("decision", "is required"))?;
        let name = ItemName::parse_field("decision.item", &asked.item)?;
        caller.require_tenant(&name.tenant)?;
        let key = CampaignKey {
            tenant: name.tenant,
            campaign: name.campaign,
        };
        self.context.tenants.require_active(&key.tenant).await?;
        let (db, whose, id) = (
            &self.context.db,
            (key.tenant.as_str(), caller),
            &request.request_id,
        );
        let done = idempotency::answered(db, whose, method, id, &request).await?;
        if let Some(answer) = done {
            return self.decided(&key, answer).await;
        }
        let proposal = convert::proposal(&key, asked)?;
        let grant = proposal.key;
        let judged = self.judge(caller, &key, vec![Ok(proposal)]).await?;
        let mut tx = self.context.db.write_tx(&key.tenant).await?;
        let begun =
            idempotency::begin(&mut tx, caller, method, &request.request_id, &request).await?;
        let fresh = match begun {
            Begun::Replay(answer) => return self.decided(&key, answer).await,
            Begun::Fresh(fresh) => fresh,
        };
        let mut outcomes = self.write(&mut tx, judged).await?;
        let emitted = match outcomes.pop() {
            Some(Ok(emitted)) => emitted,
            Some(Err(refusal)) => {
                // What the refusal leaves (the item shown again, or void) counts, so it is kept.
                // If we crash here: it is kept or not, and the caller, who has no answer, asks again.
                tx.commit().await?;
                return Err(refusal.into());
            }
            None => return Err(ApiError::internal("a decision without an outcome")),
        };
        let found = items::get(tx.conn(), &key, &grant)
            .await?
            .ok_or_else(ApiError::not_found)?;
        let answer = DecideItemResponse {
            item: Some(convert::item(&key, &found)?),
            receipt: Some(emitted.pending_receipt()),
        };
        fresh
            .store(&mut tx, &answer, self.context.clock.now_ms())
            .await?;
        // If we crash here: the decision, its record and this answer are all there, or none of them is.
        tx.commit().await?;
        self.decided(&key, answer).await
    }

    async fn decided(
        &self,
        key: &CampaignKey,
        mut answer: DecideItemResponse,
    ) -> Result<DecideItemResponse, ApiError> {
        self.settle(&key.tenant, &mut answer.receipt).await?;
        Ok(answer)
    }

    pub(super) async fn decide_many(
        &self,
        caller: &Caller,
        request: BatchDecideItemsRequest,
    ) -> Result<BatchDecideItemsResponse, ApiError> {
        let method = "BatchDecideItems";
        let key = Self::campaign_key(caller, "campaign", &request.campaign)?;
        if request.decisions.is_empty() || request.decisions.len() > DECISIONS_MAX {
            let limits = format!("must hold 1 to {DECISIONS_MAX} decisions");
            return Err(ApiError::invalid("decisions", limits));
        }
        self.context.tenants.require_active(&key.tenant).await?;
        let wait = request.wait_for_receipts;
        let (db, whose, id) = (
            &self.context.db,
            (key.tenant.as_str(), caller),
            &request.request_id,
        );
        let done = idempotency::answered(db, whose, method, id, &request).await?;
        if let Some(answer) = done {
            return self.all_decided(&key, answer, wait).await;
        }
        let proposals = request
            .decisions
            .iter()
            .map(|asked| readable(&key, asked))
            .collect();
        let judged = self.judge(caller, &key, proposals).await?;
        let mut tx = self.context.db.write_tx(&key.tenant).await?;
        let begun =
            idempotency::begin(&mut tx, caller, method, &request.request_id, &request).await?;
        let fresh = match begun {
            Begun::Replay(answer) => return self.all_decided(&key, answer, wait).await,
            Begun::Fresh(fresh) => fresh,
        };
        let outcomes = self.write(&mut tx, judged).await?;
        let results = request
            .decisions
            .iter()
            .zip(outcomes)
            .map(|(asked, outcome)| result(asked, outcome))
            .collect();
        let answer = BatchDecideItemsResponse { results };
        fresh
            .store(&mut tx, &answer, self.context.clock.now_ms())
            .await?;
        // If we crash here: all of this call is there, with its records and this answer, or nothing is.
        tx.commit().await?;
        self.all_decided(&key, answer, wait).await
    }

    async fn all_decided(
        &self,
        key: &CampaignKey,
        mut answer: BatchDecideItemsResponse,
        wait: bool,
    ) -> Result<BatchDecideItemsResponse, ApiError> {
        if !wait {
            return Ok(answer);
        }
        let receipts: Vec<&mut Receipt> = answer
            .results
            .iter_mut()
            .filter_map(|result| result.receipt.as_mut())
            .collect();
        let ids: Vec<[u8; 16]> = receipts
            .iter()
            .filter_map(|receipt| receipt.record_id.as_slice().try_into().ok())
            .collect();
        let patience = self.context.settings.receipt_patience();
        let logged = self
            .context
            .outbox
            .await_receipts(&key.tenant, &ids, patience)
            .await?;
        for (receipt, logged) in receipts.into_iter().zip(logged) {
            *receipt = logged;
        }
        Ok(answer)
    }
}

/// A proposal that cannot be read refuses itself and no other.
fn readable(key: &CampaignKey, asked: &ItemDecision) -> Result<Proposal, Refusal> {
    convert::proposal(key, asked).map_err(|error| match error.code() {
        Code::NotFound => Refusal::not_found(),
        _ => Refusal::unreadable(Status::from(error).message()),
    })
}

fn result(asked: &ItemDecision, outcome: Outcome) -> DecideResult {
    let item = asked.item.clone();
    match outcome {
        Ok(emitted) => DecideResult {
            item,
            receipt: Some(emitted.pending_receipt()),
            ..DecideResult::default()
        },
        Err(refusal) => {
            let message = refusal.message.clone();
            let error = ApiError::from(refusal);
            DecideResult {
                item,
                receipt: None,
                code: i32::from(error.code()),
                reason: error.reason().to_owned(),
                message,
            }
        }
    }
}
