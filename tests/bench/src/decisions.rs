//! Decisions in batches of 1,000, each answered only when every receipt of the batch is in the ledger.
//!
//! The largest commercial API allows a client 2,500 decisions a second (250 a call, 100 calls in 10 seconds).

use anyhow::ensure;
use counterfoil::{client::Clients, quickstart};
use counterfoil_proto::{
    inventory::{CreateSnapshotRequest, StartSyncRequest, WatchSyncRequest},
    recertification::{
        ActivateCampaignRequest, BatchDecideItemsRequest, Campaign, CreateCampaignRequest,
        Decision, Evidence, Item, ItemDecision, ListItemsRequest, StageCampaignRequest,
    },
};

use crate::{
    cycle,
    figures::{print, timed},
    synthetic::{self, TENANT},
};

const BATCH: usize = 1_000;

/// Decides `items` items.
pub(crate) async fn run(items: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let estate = folder.path().join("estate");
    std::fs::create_dir_all(&estate)?;
    synthetic::write(&estate, items)?;
    let data_dir = folder.path().join("data");
    let suite = cycle::start(&data_dir).await?;
    let admin = Clients::open(&suite.endpoints, &suite.endpoints.token()?)?;
    let owner = quickstart::prepare(&admin, &estate, &data_dir).await?;
    let open = open_items(&owner).await?;
    ensure!(
        open.len() == items,
        "{} items are open, not {items}",
        open.len()
    );
    let mut rates = Vec::new();
    let (whole, ()) = timed(async {
        for batch in open.chunks(BATCH) {
            let (seconds, ()) = timed(decide(&owner, batch)).await?;
            rates.push(f64::from(u32::try_from(batch.len())?) / seconds);
        }
        Ok(())
    })
    .await?;
    print("decisions", "batch_with_receipts", "1/s", rates);
    let rate = f64::from(u32::try_from(items)?) / whole;
    print("decisions", "all_with_receipts", "1/s", vec![rate]);
    // The peer's limit for one client.
    print(
        "decisions",
        "over_largest_commercial_api",
        "ratio",
        vec![rate / 2_500.0],
    );
    suite.stop().await
}

/// A campaign over everything, open for decisions; all items are the owner's.
async fn open_items(owner: &Clients) -> anyhow::Result<Vec<Item>> {
    let tenant = format!("tenants/{TENANT}");
    let mut sources = owner.sources()?;
    let request = StartSyncRequest {
        source: format!("{tenant}/sources/target"),
        ..Default::default()
    };
    let sync = sources
        .start_sync(request)
        .await?
        .into_inner()
        .sync
        .unwrap_or_default();
    let mut watch = sources
        .watch_sync(WatchSyncRequest { name: sync.name })
        .await?
        .into_inner();
    while watch.message().await?.is_some() {}
    let request = CreateSnapshotRequest {
        tenant: tenant.clone(),
        request_id: String::new(),
    };
    let snapshot = sources
        .create_snapshot(request)
        .await?
        .into_inner()
        .snapshot
        .unwrap_or_default();
    let mut campaigns = owner.campaigns()?;
    let request = CreateCampaignRequest {
        tenant: tenant.clone(),
        campaign_id: "bench".to_owned(),
        campaign: Some(Campaign {
            display_name: "Bench".to_owned(),
            fallback_reviewer: format!("{tenant}/principals/deputy"),
            ..Default::default()
        }),
        request_id: String::new(),
    };
    campaigns.create_campaign(request).await?;
    let name = format!("{tenant}/campaigns/bench");
    let request = StageCampaignRequest {
        name: name.clone(),
        snapshot: snapshot.name,
        request_id: String::new(),
    };
    campaigns.stage_campaign(request).await?;
    let request = ActivateCampaignRequest {
        name: name.clone(),
        request_id: String::new(),
    };
    campaigns.activate_campaign(request).await?;
    let mut items = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListItemsRequest {
            campaign: name.clone(),
            page_size: 1_000,
            page_token,
            ..Default::default()
        };
        let page = owner.reviews()?.list_items(request).await?.into_inner();
        items.extend(page.items);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(items);
        }
    }
}

async fn decide(owner: &Clients, batch: &[Item]) -> anyhow::Result<()> {
    let review_by = std::time::UNIX_EPOCH.elapsed()?.as_secs() + 86_400 * 90;
    let decisions = batch.iter().map(|item| ItemDecision {
        item: item.name.clone(),
        decision: Decision::Accept.into(),
        justification: "Needed for the benchmark".to_owned(),
        evidence: vec![Evidence {
            kind: "ticket".to_owned(),
            reference: "BENCH-1".to_owned(),
            sha256: Vec::new(),
        }],
        review_by_time: Some(counterfoil::decisions::at_second(review_by)),
        presentation_hash: item.presentation_hash.clone(),
        ..Default::default()
    });
    let request = BatchDecideItemsRequest {
        campaign: format!("tenants/{TENANT}/campaigns/bench"),
        decisions: decisions.collect(),
        request_id: String::new(),
        wait_for_receipts: true,
    };
    let answer = owner
        .reviews()?
        .batch_decide_items(request)
        .await?
        .into_inner();
    for result in answer.results {
        let logged = result
            .receipt
            .is_some_and(|receipt| !receipt.tlog_proof.is_empty());
        ensure!(
            result.code == 0 && logged,
            "{}: {}",
            result.item,
            result.message
        );
    }
    Ok(())
}
