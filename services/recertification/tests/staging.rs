//! Staging goes on whatever becomes of the call that began it, and of the service.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on panics, also in what its tests share"
)]

mod support;

use counterfoil_chassis::testing::TestDatabase;
use counterfoil_evidence::v1;
use counterfoil_proto::{
    common::EvidenceState,
    recertification::{CampaignState, StageCampaignRequest, StageCampaignResponse},
};
use counterfoil_recertification::Progress;
use prost::Message;
use support::{DAY_MS, PATIENCE, World};
use tokio::{task::JoinHandle, time::timeout};
use tonic::{Code, Status};

const LEASE_MS: i64 = 60_000;

counterfoil_chassis::both_engines! {
    /// The caller leaves, or its call is cut: the campaign comes to STAGED by itself, and asking again answers what it came to.
    async fn a_call_that_ends_early_does_not_end_its_staging(db: TestDatabase) {
        let world = World::start(db).await;
        let name = world.define("q3", |_| {}).await;
        let request = world.staging_of(&name).await;
        world.inventory_gate.shut();
        let call = world.begin_staging(&request);
        world.reaches(&name, CampaignState::Staging).await;
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        world.inventory_gate.open();
        world.reaches(&name, CampaignState::Staged).await;
        let answer = world.begin_staging(&request).await.unwrap().unwrap();
        let campaign = answer.campaign.unwrap();
        assert_eq!((campaign.state(), campaign.population_count), (CampaignState::Staged, 5));
        assert_eq!(answer.receipt.clone().unwrap().state(), EvidenceState::Logged);
        world.activate(&name).await;
        let again = world.begin_staging(&request).await.unwrap().unwrap();
        assert_eq!(again.receipt, answer.receipt, "the same request, whatever has happened since");
        assert_eq!(world.staged_records().await, 1);
        world.stop().await;
    }

    /// Whoever asks for the same while it runs waits for the same end.
    async fn a_second_call_waits_for_the_staging_of_the_first(db: TestDatabase) {
        let world = World::start(db).await;
        let name = world.define("q3", |_| {}).await;
        let first = world.staging_of(&name).await;
        let second = StageCampaignRequest { request_id: "another".into(), ..first.clone() };
        world.inventory_gate.shut();
        let calls = [world.begin_staging(&first), world.begin_staging(&first)];
        world.reaches(&name, CampaignState::Staging).await;
        let other = world.begin_staging(&second);
        world.inventory_gate.open();
        let answer = other.await.unwrap().unwrap();
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap().campaign, answer.campaign);
        }
        assert_eq!(world.staged_records().await, 1);
        world.stop().await;
    }

    /// A service that stops in the middle: the job of the next one takes the staging up when nobody else shows a sign of life,
    /// in the name of whoever began it.
    async fn a_staging_that_a_restart_cut_off_is_taken_up_by_the_job(db: TestDatabase) {
        let mut world = World::start(db).await;
        let name = world.define("q3", |_| {}).await;
        let request = world.staging_of(&name).await;
        world.inventory_gate.shut();
        let call = world.begin_staging(&request);
        world.reaches(&name, CampaignState::Staging).await;
        world.restart().await;
        call.await.unwrap().unwrap_err();
        world.inventory_gate.open();
        assert_eq!(world.jobs.run_once().await.unwrap(), Progress::default(), "another replica may be at it");
        assert_eq!(world.campaign(&name).await.state(), CampaignState::Staging);
        world.clock.advance_ms(LEASE_MS);
        world.jobs.run_once().await.unwrap();
        world.reaches(&name, CampaignState::Staged).await;
        let records = world.records().await;
        let staged = records.iter().find(|record| record.r#type.ends_with(".CampaignStaged")).unwrap();
        assert_eq!(staged.actor, "principals/olga");
        assert_eq!(world.staged_records().await, 1);
        let answer = world.begin_staging(&request).await.unwrap().unwrap();
        assert_eq!(answer.campaign.unwrap().population_count, 5);
        world.stop().await;
    }

    /// I-04: a staging that was cut off long ago is not dated back: the campaign is given back, and staged anew.
    async fn a_staging_that_was_cut_off_for_long_gives_the_campaign_back(db: TestDatabase) {
        let mut world = World::start(db).await;
        let name = world.define("q3", |_| {}).await;
        let request = world.staging_of(&name).await;
        world.inventory_gate.shut();
        let call = world.begin_staging(&request);
        world.reaches(&name, CampaignState::Staging).await;
        world.restart().await;
        call.await.unwrap().unwrap_err();
        world.inventory_gate.open();
        world.clock.advance_ms(8 * DAY_MS);
        world.jobs.run_once().await.unwrap();
        assert_eq!(world.campaign(&name).await.state(), CampaignState::Draft);
        world.sync("hr").await;
        assert_eq!(world.stage(&name).await.unwrap().state(), CampaignState::Staged);
        assert_eq!(world.staged_records().await, 1);
        world.stop().await;
    }

    /// What trying again cannot mend gives the campaign back, so that it can be staged on something else.
    async fn a_staging_that_cannot_succeed_gives_the_campaign_back(db: TestDatabase) {
        let world = World::start(db).await;
        let name = world.define("q3", |_| {}).await;
        let mut request = world.staging_of(&name).await;
        request.snapshot = "tenants/acme/snapshots/none".into();
        let refused = world.begin_staging(&request).await.unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert_eq!(world.campaign(&name).await.state(), CampaignState::Draft);
        world.clock.advance_ms(LEASE_MS);
        assert_eq!(world.jobs.run_once().await.unwrap(), Progress::default());
        assert_eq!(world.stage(&name).await.unwrap().state(), CampaignState::Staged);
        world.stop().await;
    }
}

impl World {
    async fn staging_of(&self, campaign: &str) -> StageCampaignRequest {
        StageCampaignRequest {
            name: campaign.into(),
            snapshot: self.snapshot().await,
            request_id: "stage".into(),
        }
    }

    fn begin_staging(
        &self,
        request: &StageCampaignRequest,
    ) -> JoinHandle<Result<StageCampaignResponse, Status>> {
        let mut campaigns = self.olga.campaigns.clone();
        let request = request.clone();
        tokio::spawn(async move {
            let answer = campaigns.stage_campaign(request).await?;
            Ok(answer.into_inner())
        })
    }

    async fn reaches(&self, campaign: &str, state: CampaignState) {
        let reached = async { while self.campaign(campaign).await.state() != state {} };
        timeout(PATIENCE, reached).await.unwrap();
    }

    async fn staged_records(&self) -> usize {
        let records = self.records().await;
        let staged = records
            .iter()
            .filter(|record| record.r#type.ends_with(".CampaignStaged"));
        staged
            .map(|record| v1::CampaignStaged::decode(record.payload.as_slice()).unwrap())
            .filter(|staged| staged.population_count == 5)
            .count()
    }
}
