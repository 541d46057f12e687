//! The review of the cycle: the campaign is defined, staged on a snapshot, opened, decided and ended.

use anyhow::Context as _;
use counterfoil_proto::recertification::{
    ActivateCampaignRequest, Campaign, CampaignState, CreateCampaignRequest, EndReviewRequest,
    GetCampaignRequest, LapseRule, StageCampaignRequest,
};
use tonic::{Code, Status};

use super::{Player, request_id};
use crate::{cli::explain, client::Clients, decisions};

/// Id of the campaign of an estate: one a tenant, so that a second run finds it.
const CAMPAIGN_ID: &str = "first-review";

impl Player<'_> {
    /// Holds the review up to its end; a campaign that is further already is left as it is.
    pub(super) async fn review(&self, owner: &Clients) -> anyhow::Result<Campaign> {
        let mut campaigns = owner.campaigns()?;
        let name = format!("{}/campaigns/{CAMPAIGN_ID}", self.tenant());
        let mut campaign = match campaigns
            .get_campaign(GetCampaignRequest { name: name.clone() })
            .await
        {
            Ok(answer) => answer.into_inner().campaign.unwrap_or_default(),
            Err(status) if status.code() == Code::NotFound => self.define(owner).await?,
            Err(status) => return Err(explain(status)),
        };
        if matches!(
            campaign.state(),
            CampaignState::Draft | CampaignState::Staging
        ) {
            self.story.chapter("Reading the target systems");
            let snapshot = self.snapshot().await?;
            self.tell_problems().await?;
            let request = StageCampaignRequest {
                name: name.clone(),
                snapshot: snapshot.name,
                request_id: request_id(),
            };
            let staged = campaigns.stage_campaign(request).await;
            let staged = staged.map(|answer| answer.into_inner().campaign);
            campaign = self.moved(owner, &campaign, staged).await?;
            self.story.chapter("Reviewing");
            self.story.tell(&format!(
                "{} grants are to be reviewed; the list is sealed before anyone sees it.",
                campaign.population_count
            ));
        }
        if campaign.state() == CampaignState::Staged {
            let request = ActivateCampaignRequest {
                name: name.clone(),
                request_id: request_id(),
            };
            let active = campaigns.activate_campaign(request).await;
            let active = active.map(|answer| answer.into_inner().campaign);
            campaign = self.moved(owner, &campaign, active).await?;
        }
        if campaign.state() == CampaignState::Active {
            self.decide(&name).await?;
            let request = EndReviewRequest {
                name,
                request_id: request_id(),
            };
            let ended = campaigns.end_review(request).await;
            let ended = ended.map(|answer| answer.into_inner().campaign);
            campaign = self.moved(owner, &campaign, ended).await?;
            let lapsed = campaign
                .counts
                .map_or(0, |counts| counts.lapsed_revoke + counts.lapsed_retained);
            self.story.tell(&format!(
                "Nobody decided on {lapsed} grants: they lapse by rule, and the record says so."
            ));
        }
        Ok(campaign)
    }

    async fn define(&self, owner: &Clients) -> anyhow::Result<Campaign> {
        let wanted = &self.estate.campaign;
        let rule = format!("LAPSE_RULE_{}", wanted.lapse_rule.to_uppercase());
        let request = CreateCampaignRequest {
            tenant: self.tenant(),
            campaign_id: CAMPAIGN_ID.to_owned(),
            campaign: Some(Campaign {
                display_name: wanted.display_name.clone(),
                lapse_rule: LapseRule::from_str_name(&rule)
                    .with_context(|| format!("{:?} is no lapse rule", wanted.lapse_rule))?
                    .into(),
                owner: self.principal(&wanted.owner),
                fallback_reviewer: self.principal(&wanted.fallback_reviewer),
                ..Default::default()
            }),
            request_id: request_id(),
        };
        let answer = owner
            .campaigns()?
            .create_campaign(request)
            .await
            .map_err(explain)?;
        answer
            .into_inner()
            .campaign
            .context("no campaign in the answer")
    }

    async fn decide(&self, campaign: &str) -> anyhow::Result<()> {
        let rows = decisions::read(&self.directory.join(&self.estate.campaign.decisions))?;
        let bar = self.story.progress("deciding", rows.len() as u64);
        let summary = decisions::import(self.customer()?, campaign, &rows, true, |done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        })
        .await?;
        bar.finish_and_clear();
        let taken: Vec<String> = summary
            .taken
            .iter()
            .map(|(decision, count)| format!("{count} {decision}"))
            .collect();
        self.story
            .tell(&format!("The reviewers decided: {}.", taken.join(", ")));
        for refusal in &summary.refusals {
            self.story.tell(&format!("Refused: {refusal}"));
        }
        Ok(())
    }

    /// The campaign after a verb. When the verb was refused because a job of the service has meanwhile gone on with what a
    /// crash had cut off, the campaign as it is now.
    async fn moved(
        &self,
        owner: &Clients,
        before: &Campaign,
        answer: Result<Option<Campaign>, Status>,
    ) -> anyhow::Result<Campaign> {
        let refusal = match answer {
            Ok(campaign) => return campaign.context("no campaign in the answer"),
            Err(status) if status.code() == Code::FailedPrecondition => status,
            Err(status) => return Err(explain(status)),
        };
        let request = GetCampaignRequest {
            name: before.name.clone(),
        };
        let now = owner
            .campaigns()?
            .get_campaign(request)
            .await
            .map_err(explain)?;
        let now = now.into_inner().campaign.unwrap_or_default();
        if now.state() == before.state() {
            return Err(explain(refusal));
        }
        Ok(now)
    }
}
