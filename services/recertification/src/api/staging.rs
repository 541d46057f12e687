//! StageCampaign: begins a staging, or joins the one that runs, and waits for its end as long as the call may.

use std::time::Duration;

use counterfoil_chassis::{
    auth::Caller,
    error::ApiError,
    idempotency::{self, Begun},
};
use counterfoil_proto::{
    common::{EvidenceState, Receipt},
    recertification::{StageCampaignRequest, StageCampaignResponse},
};

use super::{Api, SnapshotName, steps::Step};
use crate::{
    context::Mover,
    jobs::staging::{Attempt, begin_attempt},
    model::{
        campaign::{CampaignEvent, CampaignState, WrongState},
        ids::{CampaignKey, Snapshot},
    },
    store::{
        StoreError, campaigns,
        campaigns::StepStamp,
        staging::{self, Staging},
    },
};

/// How often a call looks for the end of a staging that another call or another replica carries.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// How a call finds the campaign.
enum Found {
    /// To be staged, by this attempt.
    Ours(Box<Attempt>),
    /// Somebody is at it.
    Theirs,
    /// Staged on the same snapshot.
    Done,
}

impl Api {
    pub(super) async fn stage(
        &self,
        caller: &Caller,
        request: StageCampaignRequest,
    ) -> Result<StageCampaignResponse, ApiError> {
        let key = Self::campaign_key(caller, "name", &request.name)?;
        let snapshot = SnapshotName::parse_field("snapshot", &request.snapshot)?;
        if snapshot.tenant != key.tenant {
            return Err(ApiError::not_found());
        }
        let snapshot = Snapshot::of_id(&snapshot.snapshot);
        self.context.tenants.require_active(&key.tenant).await?;
        let step = Step {
            caller,
            key: &key,
            method: "StageCampaign",
            request_id: &request.request_id,
            request: &request,
        };
        let id = &request.request_id;
        let (db, whose) = (&self.context.db, (key.tenant.as_str(), caller));
        let done = idempotency::answered(db, whose, step.method, id, &request).await?;
        if let Some(answer) = done {
            return self.settled(&key, answer).await;
        }
        let campaign = self.require_campaign(&key).await?;
        let act = format!("{}/{}", step.method, key.campaign);
        let mover = Mover::Caller { caller, act: &act };
        let (stamp, policy) = tokio::try_join!(
            self.context.stamp(mover, &campaign.definition),
            self.context.authority.policy(&key.tenant),
        )?;
        let staging = Staging {
            snapshot: snapshot.clone(),
            age_max_ms: policy.snapshot_age_max_ms,
            stamp: StepStamp::from(&stamp),
        };
        match self.begin_staging(&key, staging).await? {
            Found::Ours(attempt) => self.context.stagings.carry(*attempt).await?,
            Found::Theirs => self.await_staging(&key).await?,
            Found::Done => {}
        }
        self.staged(&step, &snapshot).await
    }

    /// Begins to stage the campaign, unless somebody is at it or it is staged already.
    async fn begin_staging(&self, key: &CampaignKey, staging: Staging) -> Result<Found, ApiError> {
        let now_ms = self.context.clock.now_ms();
        let mut tx = self.context.db.write_tx(&key.tenant).await?;
        let campaign = campaigns::get(tx.conn(), key)
            .await?
            .ok_or_else(ApiError::not_found)?;
        let on = campaign.population.as_ref().map(|found| &found.snapshot);
        if campaign.state == CampaignState::Staged
            && on.is_some_and(|on| on == staging.snapshot.as_str())
        {
            return Ok(Found::Done);
        }
        campaign.state.after(CampaignEvent::StagingBegan)?;
        if campaign.state == CampaignState::Staging {
            let begun = staging::begun(tx.conn(), key).await?;
            if begun.is_some_and(|begun| {
                begun.staging.snapshot == staging.snapshot && begun.runs(now_ms)
            }) {
                return Ok(Found::Theirs);
            }
        }
        staging::begin(&mut tx, key, &staging).await?;
        let attempt = begin_attempt(&mut tx, campaign, staging, now_ms).await?;
        // If we crash here: the campaign is STAGING, and the job carries it on.
        tx.commit().await?;
        Ok(Found::Ours(Box::new(attempt)))
    }

    /// Waits until the campaign is no longer STAGING.
    async fn await_staging(&self, key: &CampaignKey) -> Result<(), ApiError> {
        loop {
            match self.require_campaign(key).await?.state {
                CampaignState::Staging => tokio::time::sleep(LOOK_AGAIN).await,
                CampaignState::Draft => {
                    return Err(ApiError::failed_precondition(
                        "STAGING_FAILED",
                        "the staging that ran has failed; ask again to be told why",
                    ));
                }
                _ => return Ok(()),
            }
        }
    }

    /// Answers what the staging came to, and keeps the answer for the same request. It is the same without that: it is read from what
    /// was staged.
    async fn staged(
        &self,
        step: &Step<'_, StageCampaignRequest>,
        snapshot: &Snapshot,
    ) -> Result<StageCampaignResponse, ApiError> {
        let key = step.key;
        let mut tx = self.context.db.write_tx(&key.tenant).await?;
        let fresh = match step.begun(&mut tx).await? {
            Begun::Replay(answer) => return self.settled(key, answer).await,
            Begun::Fresh(fresh) => fresh,
        };
        let campaign = campaigns::get(tx.conn(), key)
            .await?
            .ok_or(StoreError::Damaged("campaign"))?;
        let on = campaign.population.as_ref().map(|found| &found.snapshot);
        if on.is_none_or(|on| on != snapshot.as_str()) {
            return Err(WrongState(campaign.state).into());
        }
        let record = staging::record(tx.conn(), key).await?;
        let answer = StageCampaignResponse {
            campaign: Some(self.shown(tx.conn(), key).await?),
            receipt: record.map(|record| Receipt {
                record_id: record.id.to_vec(),
                record_hash: record.hash.to_vec(),
                state: EvidenceState::Pending.into(),
                ..Receipt::default()
            }),
        };
        fresh
            .store(&mut tx, &answer, self.context.clock.now_ms())
            .await?;
        // If we crash here: the campaign is staged all the same, and asking again answers so.
        tx.commit().await?;
        self.settled(key, answer).await
    }

    async fn settled(
        &self,
        key: &CampaignKey,
        mut answer: StageCampaignResponse,
    ) -> Result<StageCampaignResponse, ApiError> {
        self.settle(&key.tenant, &mut answer.receipt).await?;
        Ok(answer)
    }
}
