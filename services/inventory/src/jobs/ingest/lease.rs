//! Staying the owner of a sync: a sign of life from the claim to the seal, whatever the sync waits for.
//!
//! Invariant: every transaction of a sync proves first that it is still ours, so whoever misses that it was lost writes nothing.

use std::{future::Future, sync::PoisonError};

use counterfoil_chassis::WriteTx;
use tokio::{
    task::JoinSet,
    time::{Duration, MissedTickBehavior, interval},
};

use super::Ingest;
use crate::{
    error::{Error, Result},
    store::{
        leases,
        syncs::{self, Counts},
    },
};

impl Ingest {
    /// Does `work` while a task of its own renews the lease; ends it when somebody else has the sync.
    pub(super) async fn while_ours<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        // Dropped with this future, and the task with it.
        let mut heartbeat = JoinSet::new();
        heartbeat.spawn(self.clone().beat());
        tokio::select! {
            biased;
            done = work => done,
            lost = heartbeat.join_next() => match lost {
                Some(Err(died)) => Err(died.into()),
                Some(Ok(())) | None => Err(Error::LeaseLost),
            },
        }
    }

    /// Renews the lease three times in its length; ends when the sync is no longer ours.
    async fn beat(self) {
        let lease_ms = u64::try_from(self.shop.config.lease_ms).unwrap_or(1);
        let mut beats = interval(Duration::from_millis((lease_ms / 3).max(1)));
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beats.tick().await;
        loop {
            beats.tick().await;
            match self.renew().await {
                Ok(()) => {}
                Err(Error::LeaseLost) => match self.is_sealed().await {
                    // By us, a moment ago: whoever waits for the seal is about to hear of it.
                    Ok(true) => std::future::pending().await,
                    Ok(false) => return,
                    Err(error) => self.missed(&error),
                },
                Err(error) => self.missed(&error),
            }
        }
    }

    /// A database that does not answer takes nothing away from us; the next beat tries again.
    fn missed(&self, error: &Error) {
        tracing::warn!(%error, sync = %self.lease.sync, "the lease of a sync was not renewed");
    }

    async fn renew(&self) -> Result<()> {
        self.fence().await?.commit().await?;
        Ok(())
    }

    /// Whether this very attempt has been sealed.
    async fn is_sealed(&self) -> Result<bool> {
        let row = syncs::get(&self.shop.db, &self.lease.tenant, &self.lease.sync).await?;
        Ok(row.is_some_and(|row| row.seq == Some(self.lease.seq) && row.state.is_sealed()))
    }

    /// Notes what was read so far, for the next sign of life.
    pub(super) fn progressed(&self, counts: &Counts) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = *counts;
    }

    /// A write transaction in which the sync is proved to be ours still.
    pub(super) async fn fenced(&self, counts: &Counts) -> Result<WriteTx> {
        self.progressed(counts);
        self.fence().await
    }

    async fn fence(&self) -> Result<WriteTx> {
        let mut tx = self.shop.db.write_tx(&self.lease.tenant).await?;
        let until = self
            .shop
            .clock
            .now_ms()
            .saturating_add(self.shop.config.lease_ms);
        let counts = *self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        leases::fence(&mut tx, &self.lease, until, self.started_ms, &counts).await?;
        let bell = self.shop.bell.clone();
        tx.on_commit(move || bell.ring());
        Ok(tx)
    }
}
