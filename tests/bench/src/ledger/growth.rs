//! One log that grows: what an append and the proofs cost in a small one and in a large one, measured in turns, and how long the next start takes.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use counterfoil_proto::ledger::{
    GetReceiptRequest, ProveConsistencyRequest, get_receipt_request::Selector,
};

use super::Engine;
use super::database::Database;
use super::load::{self, Ledger};
use super::producer::Producer;
use crate::figures::{print_on, seconds};

const SCENARIO: &str = "growth";
const TENANT: &str = "growing";
/// Records of one message of the stream that fills the log, and messages of one stream.
const BATCH: usize = 256;
const MESSAGES: usize = 40;
/// Appends and proofs in one sample.
const SAMPLE: usize = 300;
/// File that says how far the producer is, so that a log that is kept can be gone on with.
const PLACE: &str = "producer.json";

/// What one thing costs, milliseconds; one a sample.
#[derive(Debug, Default)]
struct Costs {
    append: Vec<f64>,
    inclusion: Vec<f64>,
    consistency: Vec<f64>,
}

/// A log of some size in a database of its own.
struct Grown {
    database: Database,
    ledger: Ledger,
    producer: Producer,
    costs: Costs,
}

/// Where logs are kept and how large they become.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes<'a> {
    pub(crate) small: u64,
    pub(crate) large: u64,
    /// Kept there, on SQLite, and gone on with the next time; `None`: nothing is kept.
    pub(crate) folder: Option<&'a Path>,
}

pub(crate) async fn run(
    sizes: Sizes<'_>,
    samples: usize,
    engine: Option<Engine>,
) -> anyhow::Result<()> {
    if let Some(folder) = sizes.folder {
        let small = Database::kept(&folder.join("small"))?;
        let large = Database::kept(&folder.join("large"))?;
        return measure(small, large, sizes, samples).await;
    }
    let small = Database::of(engine).await?;
    for (small, large) in small.into_iter().zip(Database::of(engine).await?) {
        measure(small, large, sizes, samples).await?;
    }
    Ok(())
}

async fn measure(
    small: Database,
    large: Database,
    sizes: Sizes<'_>,
    samples: usize,
) -> anyhow::Result<()> {
    let engine = small.name;
    let mut small = Grown::open(small, sizes.small).await?;
    let mut large = Grown::open(large, sizes.large).await?;
    for _ in 0..samples {
        small.sample().await?;
        large.sample().await?;
    }
    let print = |metric: &str, unit: &str, values: Vec<f64>| {
        print_on(SCENARIO, engine, metric, unit, values);
    };
    print("entries_small", "1", vec![small.producer.sent() as f64]);
    print("entries_large", "1", vec![large.producer.sent() as f64]);
    for (metric, small, large) in [
        ("append", &small.costs.append, &large.costs.append),
        ("inclusion", &small.costs.inclusion, &large.costs.inclusion),
        (
            "consistency",
            &small.costs.consistency,
            &large.costs.consistency,
        ),
    ] {
        let over = small.iter().zip(large).map(|(small, large)| large / small);
        let over = over.collect();
        print(&format!("{metric}_small"), "ms", small.clone());
        print(&format!("{metric}_large"), "ms", large.clone());
        print(&format!("{metric}_large_over_small"), "ratio", over);
    }
    small.ledger.stop().await?;
    large.ledger.stop().await?;
    let started = Instant::now();
    let ledger = Ledger::start(&large.database).await?;
    ledger.serves().await?;
    print("start_to_serving", "s", vec![seconds(started.elapsed())]);
    let started = Instant::now();
    load::unary(&ledger.clients, vec![large.producer.calls(1)]).await?;
    print("first_append", "s", vec![seconds(started.elapsed())]);
    ledger.stop().await
}

impl Grown {
    /// Opens the log, and fills it up to a size.
    async fn open(database: Database, size: u64) -> anyhow::Result<Self> {
        let ledger = Ledger::start(&database).await?;
        ledger.create(TENANT).await?;
        let mut producer = Producer::new("inventory", TENANT);
        ledger.register(std::slice::from_ref(&producer)).await?;
        if let Ok(place) = std::fs::read(database.folder().join(PLACE)) {
            producer.go_on(serde_json::from_slice(&place)?);
        }
        let client = ledger.clients.first().context("a client")?.clone();
        let mut grown = Self {
            database,
            ledger,
            producer,
            costs: Costs::default(),
        };
        while grown.producer.sent() < size {
            let batches = grown.producer.batches(MESSAGES, BATCH);
            super::stream(client.clone(), batches).await?;
            grown.keep()?;
        }
        Ok(grown)
    }

    /// Remembers how far the log is.
    fn keep(&self) -> anyhow::Result<()> {
        let place = serde_json::to_vec(&self.producer.place())?;
        Ok(std::fs::write(self.database.folder().join(PLACE), place)?)
    }

    async fn sample(&mut self) -> anyhow::Result<()> {
        let mut client = self.ledger.clients.first().context("a client")?.clone();
        let milliseconds = |started: Instant| seconds(started.elapsed()) * 1e3 / SAMPLE as f64;
        let calls = self.producer.calls(SAMPLE);
        let started = Instant::now();
        load::unary(std::slice::from_ref(&client), vec![calls]).await?;
        self.costs.append.push(milliseconds(started));
        self.keep()?;
        // Spread over the whole log, so that no two are in one tile.
        let size = self.producer.sent();
        let places = (0..SAMPLE as u64).map(|number| number * size / SAMPLE as u64);
        let tenant = format!("tenants/{TENANT}");
        let started = Instant::now();
        for place in places.clone() {
            let request = GetReceiptRequest {
                tenant: tenant.clone(),
                selector: Some(Selector::Index(place)),
                ..GetReceiptRequest::default()
            };
            client.get_receipt(request).await?;
        }
        self.costs.inclusion.push(milliseconds(started));
        let started = Instant::now();
        for place in places {
            let request = ProveConsistencyRequest {
                tenant: tenant.clone(),
                old_size: place + 1,
                new_size: 0,
            };
            client.prove_consistency(request).await?;
        }
        self.costs.consistency.push(milliseconds(started));
        Ok(())
    }
}
