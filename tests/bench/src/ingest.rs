//! A source of a million grants, sealed, and sealed again after a change.
//!
//! A peer publishes 1.25 to 4.24 s for storing a million grants without sealing or comparing them (baton-sdk's notes on its
//! storage engine); the goal here is 10 s and 512 MiB with both.

use anyhow::{Context as _, ensure};
use counterfoil::{client::Clients, quickstart};
use counterfoil_proto::inventory::{
    StartSyncRequest, Sync, SyncPurpose, SyncState, WatchSyncRequest,
};

use crate::{
    cycle,
    figures::{peak_memory_mib, print, timed},
    synthetic::{self, TENANT},
};

/// Grants that are gone before the second sync.
const CHANGED: usize = 1_000;

/// Syncs a source with `grants` grants twice.
pub(crate) async fn run(grants: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let estate = folder.path().join("estate");
    std::fs::create_dir_all(&estate)?;
    synthetic::write(&estate, grants)?;
    let data_dir = folder.path().join("data");
    let suite = cycle::start(&data_dir).await?;
    let admin = Clients::open(&suite.endpoints, &suite.endpoints.token()?)?;
    let clients = quickstart::prepare(&admin, &estate, &data_dir).await?;
    let before = peak_memory_mib()?;
    let (first, sync) = timed(sync(&clients)).await?;
    let count = sync.set_count;
    ensure!(
        count == grants as u64,
        "{count} grants were sealed, not {grants}"
    );
    print("ingest", "first_sync_sealed", "s", vec![first]);
    synthetic::change(&estate, grants, CHANGED)?;
    let (second, sync) = timed(self::sync(&clients)).await?;
    ensure!(
        sync.set_count == (grants - CHANGED) as u64,
        "the second sync missed the change"
    );
    print("ingest", "second_sync_sealed_with_diff", "s", vec![second]);
    print("ingest", "peak_memory", "MiB", vec![peak_memory_mib()?]);
    print("ingest", "memory_before", "MiB", vec![before]);
    suite.stop().await
}

async fn sync(clients: &Clients) -> anyhow::Result<Sync> {
    let mut sources = clients.sources()?;
    let request = StartSyncRequest {
        source: format!("tenants/{TENANT}/sources/target"),
        purpose: SyncPurpose::Inventory.into(),
        ..Default::default()
    };
    let started = sources
        .start_sync(request)
        .await?
        .into_inner()
        .sync
        .unwrap_or_default();
    let request = WatchSyncRequest { name: started.name };
    let mut watch = sources.watch_sync(request).await?.into_inner();
    let mut last = None;
    while let Some(progress) = watch.message().await? {
        last = progress.sync;
    }
    let sync = last.context("the sync ended without a word")?;
    ensure!(
        sync.state() == SyncState::Complete,
        "the sync is not complete: {:?}",
        sync.error_messages
    );
    Ok(sync)
}
