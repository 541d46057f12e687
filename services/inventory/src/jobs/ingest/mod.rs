//! One sync, from the first page to the seal.
//!
//! 1. [`reading`] takes page after page: new versions of accounts and entitlements are written at once, seen by nobody; grants
//!    are staged in sorted runs.
//! 2. [`inheriting`] follows the edges and stages what is inherited.
//! 3. [`leaves`] merges the runs in key order and judges each grant; the set's root is built on the way.
//! 4. [`applying`] compares with the current inventory, when nothing went wrong, and writes the differences, seen by nobody.
//! 5. [`sealing`] makes all of it visible and emits its record, in one transaction.
//!
//! Invariant: until the seal nothing that anybody sees has changed. A sync that ends early is taken back or begun again.

mod applying;
mod directory;
mod inheriting;
mod leaves;
mod reading;
mod sealing;

use std::sync::Arc;

use counterfoil_chassis::{Clock, Database, Outbox, WriteTx};
use counterfoil_connectors::ControlTotals;

use crate::{
    bell::Bell,
    config::InventoryConfig,
    error::Result,
    model::{
        completeness::Faults,
        facts::{Id, Rules},
        inheritance::Closures,
    },
    store::{
        leases::{self, Lease},
        sources::SourceRow,
        stage::Stage,
        syncs::Counts,
    },
};
use directory::Directory;

pub use sealing::seal_interrupted;
pub(crate) use sealing::take_back;

/// What every sync works with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Workshop {
    /// The database.
    pub db: Database,
    /// Where records go.
    pub outbox: Outbox,
    /// The time.
    pub clock: Clock,
    /// Limits.
    pub config: InventoryConfig,
    /// Rung after every commit.
    pub bell: Bell,
}

/// One attempt of a sync.
#[derive(Debug, Clone)]
pub struct Ingest {
    shop: Workshop,
    lease: Arc<Lease>,
    source: Arc<SourceRow>,
    rules: Arc<Rules>,
    purpose: i64,
    started_ms: i64,
}

/// What was read, ready to be merged.
#[derive(Debug)]
struct Gathered {
    accounts: Directory,
    entitlements: Directory,
    closures: Closures,
    /// Staged runs, and the last one, which stayed in memory.
    staged_runs: usize,
    last_run: std::sync::Mutex<Option<crate::model::sorting::SortedRun>>,
    counts: Counts,
    control_totals: Option<ControlTotals>,
    watermark: Option<String>,
    faults: Faults,
    ended_ms: i64,
    /// Accounts that are the same but were seen at another time: id, version, when.
    seen: Vec<(Id, i64, Option<i64>)>,
}

impl Ingest {
    /// An attempt of the sync that `lease` is for, beginning now.
    #[must_use]
    pub fn new(
        shop: Workshop,
        lease: Lease,
        source: SourceRow,
        rules: Rules,
        purpose: i64,
    ) -> Self {
        let started_ms = shop.clock.now_ms();
        Self {
            shop,
            lease: Arc::new(lease),
            source: Arc::new(source),
            rules: Arc::new(rules),
            purpose,
            started_ms,
        }
    }

    /// Runs it to its seal.
    ///
    /// # Errors
    /// When the database fails or the lease is lost. What goes wrong with the source is no error: it is sealed PARTIAL.
    pub async fn run(&self) -> Result<()> {
        let gathered = Arc::new(self.gather().await?);
        if gathered.faults.is_empty() {
            let applied = self.apply(&gathered).await?;
            self.seal_complete(&gathered, &applied).await?;
            self.note_uses(&gathered).await
        } else {
            let set = self.root_only(&gathered).await?;
            self.seal_partial(&gathered, &set).await
        }
    }

    /// Number of this attempt within the source.
    #[must_use]
    pub fn seq(&self) -> i64 {
        self.lease.seq
    }

    fn stage(&self) -> Stage {
        Stage {
            source_no: self.lease.source_no,
            seq: self.lease.seq,
        }
    }

    /// A write transaction in which the sync is proved to be ours still.
    async fn fenced(&self, counts: &Counts) -> Result<WriteTx> {
        let mut tx = self.shop.db.write_tx(&self.lease.tenant).await?;
        let until = self
            .shop
            .clock
            .now_ms()
            .saturating_add(self.shop.config.lease_ms);
        leases::fence(&mut tx, &self.lease, until, self.started_ms, counts).await?;
        let bell = self.shop.bell.clone();
        tx.on_commit(move || bell.ring());
        Ok(tx)
    }
}
