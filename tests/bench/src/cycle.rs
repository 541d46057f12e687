//! The whole cycle over real data, and how long an auditor's verification of it takes.

use std::process::Stdio;

use anyhow::{Context as _, ensure};
use counterfoil::{
    client::Clients,
    quickstart,
    up::{Options, Suite},
};
use counterfoil_tests::{kubernetes, process, repository};

use crate::figures::{peak_memory_mib, print, timed};

/// Plays the cycle `runs` times, each on a fresh copy, and verifies each bundle.
pub(crate) async fn run(runs: usize) -> anyhow::Result<()> {
    let Some(shared) = repository::shared_data("benchmark cycle") else {
        return Ok(());
    };
    let (mut cycles, mut verifications) = (Vec::new(), Vec::new());
    let mut decided = 0;
    for _ in 0..runs {
        let folder = tempfile::tempdir()?;
        let estate = folder.path().join("estate");
        std::fs::create_dir_all(&estate)?;
        decided = kubernetes::write(&estate, &shared)?.decisions.len();
        let data_dir = folder.path().join("data");
        let suite = start(&data_dir).await?;
        let clients = Clients::open(&suite.endpoints, &suite.endpoints.token()?)?;
        let (seconds, outcome) = timed(quickstart::play(clients, &estate, &data_dir, true)).await?;
        suite.stop().await?;
        cycles.push(seconds);
        for _ in 0..3 {
            let mut verify = process::verify(&outcome.bundle, &outcome.trust)?;
            verify.stdout(Stdio::null());
            let (seconds, status) = timed(async { Ok(verify.status()?) }).await?;
            ensure!(status.success(), "the bundle does not verify: {status}");
            verifications.push(seconds);
        }
    }
    print("kubernetes_cycle", "whole_cycle", "s", cycles.clone());
    let rates = cycles
        .iter()
        .map(|seconds| f64::from(u32::try_from(decided).unwrap_or(u32::MAX)) / seconds);
    print(
        "kubernetes_cycle",
        "decisions_per_second_of_the_whole",
        "1/s",
        rates.collect(),
    );
    print(
        "kubernetes_cycle",
        "peak_memory",
        "MiB",
        vec![peak_memory_mib()?],
    );
    // The goal: under 2 s.
    print(
        "kubernetes_cycle",
        "offline_verification",
        "s",
        verifications,
    );
    Ok(())
}

/// All services in this process, on free ports.
pub(crate) async fn start(data_dir: &std::path::Path) -> anyhow::Result<Suite> {
    let options = Options {
        data_dir: data_dir.to_owned(),
        database_url: None,
        migration_database_url: None,
        publish_url: None,
        any_port: true,
        deployment: None,
    };
    Suite::start(&options)
        .await
        .context("the services do not start")
}
