//! Takes syncs that are due, runs them, and recovers those that were interrupted.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use counterfoil_chassis::{CancellationToken, Engine};
use uuid::Uuid;

use super::{
    ingest::{Ingest, Workshop, seal_interrupted},
    rules::RuleBook,
};
use crate::{
    error::{Error, Result},
    jobs::ingest::take_back,
    store::{
        leases, sources,
        syncs::{self, State, SyncRow},
    },
};

/// What a run of the job did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// A sync was sealed.
    Sealed,
    /// A sync was taken and could not be brought to its seal; it waits again or is sealed as interrupted.
    Interrupted,
    /// Nothing is due.
    Idle,
}

/// How many due syncs are looked at for one that can be taken.
const DUE_MAX: i64 = 16;
/// How long a failed round waits before the next.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Runs syncs. Cheap to clone.
#[derive(Clone)]
pub struct SyncJob {
    shop: Workshop,
    rules: Arc<dyn RuleBook>,
    worker: Arc<str>,
    running: Running,
}

/// What this process runs now, by tenant and sync. However late its signs of life are, it is not abandoned.
#[derive(Debug, Clone, Default)]
struct Running(Arc<Mutex<HashSet<(String, String)>>>);

impl Running {
    fn list(&self) -> MutexGuard<'_, HashSet<(String, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None`: it runs already.
    fn enter(&self, tenant: &str, sync: &str) -> Option<Entered> {
        let of = (tenant.to_owned(), sync.to_owned());
        let is_new = self.list().insert(of.clone());
        is_new.then(|| Entered {
            running: self.clone(),
            of,
        })
    }

    fn has(&self, tenant: &str, sync: &str) -> bool {
        self.list().contains(&(tenant.to_owned(), sync.to_owned()))
    }
}

/// A sync that runs here until this is dropped.
struct Entered {
    running: Running,
    of: (String, String),
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.running.list().remove(&self.of);
    }
}

impl std::fmt::Debug for SyncJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SyncJob({})", self.worker)
    }
}

impl SyncJob {
    /// A job of this process.
    #[must_use]
    pub fn new(shop: Workshop, rules: Arc<dyn RuleBook>) -> Self {
        Self {
            shop,
            rules,
            worker: Uuid::new_v4().to_string().into(),
            running: Running::default(),
        }
    }

    /// Runs until the service ends.
    pub async fn run(self, shutdown: CancellationToken) {
        // On SQLite there is one process a database: whatever runs now was interrupted.
        let everything = self.shop.db.engine() == Engine::Sqlite;
        if let Err(error) = self.recover(everything).await {
            tracing::error!(%error, "interrupted syncs could not be recovered");
        }
        let workers =
            (0..self.shop.config.syncs_at_once.max(1)).map(|_| self.clone().work(shutdown.clone()));
        futures::future::join_all(workers).await;
    }

    async fn work(self, shutdown: CancellationToken) {
        let mut bell = self.shop.bell.listen();
        loop {
            let round = async {
                self.recover(false).await?;
                self.run_once().await
            };
            let progress = tokio::select! {
                // A sync that is dropped in the middle is begun again by the next process.
                () = shutdown.cancelled() => return,
                progress = round => progress,
            };
            let pause = async {
                match progress {
                    Ok(Progress::Sealed | Progress::Interrupted) => {}
                    Ok(Progress::Idle) => bell.heard().await,
                    Err(error) => {
                        tracing::warn!(%error, "a sync could not be run");
                        tokio::time::sleep(AFTER_FAILURE).await;
                    }
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = pause => {}
            }
        }
    }

    /// Takes one sync that is due and runs it to its seal.
    ///
    /// # Errors
    /// When the database fails, or authority does not answer; the sync waits on.
    pub async fn run_once(&self) -> Result<Progress> {
        let now_ms = self.shop.clock.now_ms();
        let mut failure = None;
        for (tenant, sync) in syncs::due(&self.shop.db, now_ms, DUE_MAX).await? {
            let Some(_entered) = self.running.enter(&tenant, &sync) else {
                continue;
            };
            match self.take(&tenant, &sync).await {
                Ok(Some(ingest)) => return self.finish(&tenant, &sync, ingest).await,
                Ok(None) => {}
                // One tenant's trouble does not keep the others waiting.
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(Progress::Idle), Err)
    }

    async fn take(&self, tenant: &str, sync: &str) -> Result<Option<Ingest>> {
        let rules = self.rules.rules(tenant).await?;
        let until = self
            .shop
            .clock
            .now_ms()
            .saturating_add(self.shop.config.lease_ms);
        let mut tx = self.shop.db.write_tx(tenant).await?;
        let claimed = leases::claim(&mut tx, sync, &self.worker, until).await?;
        let row = syncs::get_in(&mut tx, sync).await?;
        // If we crash here: the sync is ours until the lease ends; whoever finds it ended begins it again.
        tx.commit().await?;
        let (Some(lease), Some(row)) = (claimed, row) else {
            return Ok(None);
        };
        let source = sources::by_number(&self.shop.db, tenant, row.source_no).await?;
        let source = source.ok_or(Error::Damaged("source of a sync"))?;
        let shop = self.shop.clone();
        Ok(Some(Ingest::new(shop, lease, source, rules, row.purpose)))
    }

    async fn finish(&self, tenant: &str, sync: &str, ingest: Ingest) -> Result<Progress> {
        let seq = ingest.seq();
        match ingest.run().await {
            Ok(()) => {
                self.shop.bell.ring();
                Ok(Progress::Sealed)
            }
            Err(error) => {
                tracing::warn!(%error, tenant, sync, "a sync was interrupted");
                // Not when somebody else has begun it again: theirs is another number.
                self.give_back(tenant, sync, |row| row.seq == Some(seq))
                    .await?;
                Ok(Progress::Interrupted)
            }
        }
    }

    /// Gives back the syncs that nobody runs any more; `everything`: all that are marked as running. Never what this very
    /// process runs: if it lives, it renews the lease, and if it is lost, it finds that by itself.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn recover(&self, everything: bool) -> Result<()> {
        let lease_ms = if everything {
            i64::MAX
        } else {
            self.shop.clock.now_ms()
        };
        for (tenant, sync) in syncs::abandoned(&self.shop.db, lease_ms).await? {
            if self.running.has(&tenant, &sync) {
                continue;
            }
            // Not when it gave a sign of life in the meantime.
            self.give_back(&tenant, &sync, |row| row.lease_until_ms <= lease_ms)
                .await?;
        }
        Ok(())
    }

    /// Takes back what an interrupted sync wrote, and lets it wait again, or seals it when that happened too often or another
    /// one waits already. One transaction: nobody sees it half done.
    async fn give_back(
        &self,
        tenant: &str,
        sync: &str,
        abandoned: impl Fn(&SyncRow) -> bool,
    ) -> Result<()> {
        let mut tx = self.shop.db.write_tx(tenant).await?;
        let row = syncs::get_in(&mut tx, sync).await?;
        let Some(row) = row.filter(|row| row.state == State::Running && abandoned(row)) else {
            return Ok(());
        };
        let source = sources::by_number_in(&mut tx, row.source_no).await?;
        let source = source.ok_or(Error::Damaged("source of a sync"))?;
        take_back(&mut tx, &source).await?;
        let open = syncs::open(&mut tx, row.source_no).await?;
        let another_waits = open.iter().any(|other| other.state == State::Waiting);
        if row.attempts < self.shop.config.attempts_max && !another_waits {
            leases::requeue(&mut tx, sync).await?;
        } else {
            seal_interrupted(&self.shop, &mut tx, &row, &source).await?;
        }
        let bell = self.shop.bell.clone();
        tx.on_commit(move || bell.ring());
        // If we crash here: it waits again or is sealed as interrupted, or its lease is still ended and the next run is here again.
        tx.commit().await?;
        Ok(())
    }
}
