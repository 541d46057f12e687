//! One sync, from the first page to the seal.
//!
//! 1. [`reading`] takes page after page: new versions of accounts and entitlements are written at once, seen by nobody; grants
//!    are staged in sorted runs.
//! 2. [`inheriting`] follows the edges and stages what is inherited.
//! 3. [`leaves`] merges the runs in key order and judges each grant; the set's root is built on the way.
//! 4. [`applying`] compares with the current inventory, when nothing went wrong, and writes the differences, seen by nobody.
//! 5. [`sealing`] makes all of it visible and emits its record, in one transaction.
//!
//! All the while [`lease`] says that somebody runs it.
//!
//! Invariant: until the seal nothing that anybody sees has changed. A sync that ends early is taken back or begun again.

mod applying;
mod directory;
mod inheriting;
mod lease;
mod leaves;
mod reading;
mod sealing;

use std::sync::{Arc, Mutex};

use counterfoil_chassis::{Clock, Database, Outbox};
use counterfoil_connectors::{ConnectorError, ControlTotals, Reader, SourceConfig};

use crate::{
    bell::Bell,
    config::InventoryConfig,
    error::Result,
    model::{
        completeness::Faults,
        facts::{Id, Rules},
        inheritance::Closures,
    },
    store::{leases::Lease, sources::SourceRow, stage::Stage, syncs::Counts},
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
    /// Who reads the sources.
    pub readers: Arc<dyn Readers>,
}

/// Makes the reader of a source from its settings.
pub trait Readers: std::fmt::Debug + Send + Sync {
    /// The reader; the source is not touched yet.
    ///
    /// # Errors
    /// When the settings cannot work.
    fn reader(&self, config: &SourceConfig)
    -> std::result::Result<Box<dyn Reader>, ConnectorError>;
}

/// The readers of the connectors.
#[derive(Debug, Clone, Copy)]
pub struct Connectors;

impl Readers for Connectors {
    fn reader(
        &self,
        config: &SourceConfig,
    ) -> std::result::Result<Box<dyn Reader>, ConnectorError> {
        counterfoil_connectors::reader(config)
    }
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
    /// What was read so far, told with every sign of life.
    progress: Arc<Mutex<Counts>>,
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
            progress: Arc::default(),
        }
    }

    /// Runs it to its seal.
    ///
    /// # Errors
    /// When the database fails or the lease is lost. What goes wrong with the source is no error: it is sealed PARTIAL.
    pub async fn run(&self) -> Result<()> {
        let gathered = self.while_ours(self.to_the_seal()).await?;
        if gathered.faults.is_empty() {
            self.note_uses(&gathered).await?;
        }
        Ok(())
    }

    async fn to_the_seal(&self) -> Result<Arc<Gathered>> {
        let gathered = Arc::new(self.gather().await?);
        if gathered.faults.is_empty() {
            let applied = self.apply(&gathered).await?;
            self.seal_complete(&gathered, &applied).await?;
        } else {
            let set = self.root_only(&gathered).await?;
            self.seal_partial(&gathered, &set).await?;
        }
        Ok(gathered)
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
}
