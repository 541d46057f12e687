//! Figures: median and spread, one JSON line each.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use anyhow::Context as _;

/// Prints one figure over several runs on SQLite.
pub(crate) fn print(scenario: &str, metric: &str, unit: &str, values: Vec<f64>) {
    print_on(scenario, "sqlite", metric, unit, values);
}

/// Prints one figure over several runs.
pub(crate) fn print_on(
    scenario: &str,
    engine: &str,
    metric: &str,
    unit: &str,
    mut values: Vec<f64>,
) {
    values.sort_by(f64::total_cmp);
    let (Some(min), Some(max)) = (values.first(), values.last()) else {
        return;
    };
    let median = values.get(values.len() / 2).unwrap_or(min);
    let line = serde_json::json!({
        "scenario": scenario,
        "engine": engine,
        "metric": metric,
        "unit": unit,
        "median": median,
        "min": min,
        "max": max,
        "n": values.len(),
    });
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Runs something and tells how many seconds it took.
pub(crate) async fn timed<T>(
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(f64, T)> {
    let started = Instant::now();
    let done = work.await?;
    Ok((seconds(started.elapsed()), done))
}

/// Seconds with their fraction.
pub(crate) fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// Most memory this process ever had, MiB.
pub(crate) fn peak_memory_mib() -> anyhow::Result<f64> {
    status_mib("VmHWM:")
}

/// Memory this process has now, MiB.
pub(crate) fn memory_mib() -> anyhow::Result<f64> {
    status_mib("VmRSS:")
}

fn status_mib(name: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .context("the kernel does not tell the memory")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
