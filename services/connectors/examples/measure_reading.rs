//! Measures the CSV connector: reading, counting and revoking on synthetic files. Prints one JSON line.
//!
//! `cargo run --release -p counterfoil-connectors --example measure_reading -- 1000000`

use std::fmt::Write as _;
use std::fs;
use std::time::Instant;

use counterfoil_connectors::{CsvConfig, RevokeRequest, SourceConfig, reader, writer};
use tokio::sync::mpsc;

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let grants: usize = std::env::args()
        .nth(1)
        .map_or(Ok(1_000_000), |rows| rows.parse())?;
    let directory = tempfile::tempdir()?;
    generate(directory.path(), grants)?;
    let config = SourceConfig::Csv(CsvConfig::new(directory.path()));
    // The kernel's high-water mark starts anew (proc(5)), so that making the files does not count.
    fs::write("/proc/self/clear_refs", "5")?;
    let before_kib = resident_kib_max();

    let started = Instant::now();
    let (sink, mut pages) = mpsc::channel(4);
    let mut reader = reader(&config)?;
    let reading = tokio::spawn(async move { (reader.read(sink).await, reader) });
    let mut records = 0;
    while let Some(page) = pages.recv().await {
        records += page.records.len();
    }
    let (summary, mut reader) = reading.await?;
    let read_s = started.elapsed().as_secs_f64();
    let clean = summary?.is_clean();
    let grown_kib = resident_kib_max() - before_kib;

    let started = Instant::now();
    let totals = reader.control_totals().await?;
    let count_s = started.elapsed().as_secs_f64();

    let orders: Vec<RevokeRequest> = (0..6_281)
        .map(|number| RevokeRequest {
            account_native_id: account(number * 7 % grants),
            entitlement_native_id: entitlement(number * 7 % grants),
            idempotency_key: number.to_string(),
            expected_before: None,
        })
        .collect();
    let started = Instant::now();
    let results = writer(&config)?.revoke_many(&orders).await;
    let revoke_s = started.elapsed().as_secs_f64();
    let revoked = results.iter().filter(|result| result.is_ok()).count();

    let line = format!(
        "{{\"records\":{records},\"clean\":{clean},\"read_s\":{read_s:.3},\"read_grown_kib\":{grown_kib},\
         \"counted\":{},\"count_s\":{count_s:.3},\"revoked\":{revoked},\"revoke_s\":{revoke_s:.3}}}\n",
        totals.sum()
    );
    std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes())?;
    Ok(())
}

fn account(grant: usize) -> String {
    format!("u{:07}", grant / 10)
}

fn entitlement(grant: usize) -> String {
    format!(
        "app:{:02}:role-{:03}",
        grant % 10,
        (grant / 10 + grant) % 100
    )
}

fn generate(directory: &std::path::Path, grants: usize) -> Result<(), Error> {
    let mut text =
        String::from("native_id,display_name,identity_key,email,identity_class,status\n");
    for number in 0..grants.div_ceil(10) {
        let key = account(number * 10);
        writeln!(
            text,
            "{key},Person {number},{key}@example.com,{key}@example.com,workforce,active"
        )?;
    }
    fs::write(directory.join("accounts.csv"), &text)?;
    text = String::from("native_id,display_name,kind,privileged\n");
    for number in 0..1_000 {
        writeln!(
            text,
            "app:{:02}:role-{:03},Role {number},role,false",
            number % 10,
            number / 10
        )?;
    }
    fs::write(directory.join("entitlements.csv"), &text)?;
    text = String::from("account_native_id,entitlement_native_id,granted,last_used\n");
    for number in 0..grants {
        writeln!(
            text,
            "{},{},2025-01-31,2026-01-31T12:00:00Z",
            account(number),
            entitlement(number)
        )?;
    }
    fs::write(directory.join("grants.csv"), &text)?;
    Ok(())
}

/// The most memory this process ever held.
fn resident_kib_max() -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}
