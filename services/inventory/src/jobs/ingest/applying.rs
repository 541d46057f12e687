//! Comparing with the current inventory, and writing the differences, seen by nobody before the seal.
//!
//! One task merges, judges and compares; another writes. They work at the same time and share only a short queue.

use std::{collections::VecDeque, sync::Arc};

use counterfoil_tlog::sorted_set::SetRoot;
use tokio::sync::mpsc;

use super::{Gathered, Ingest, leaves::Leaves};
use crate::{
    error::{Error, Result},
    model::{
        diff::{ChangeCounts, Current, Step, step},
        sorting::KEY_BYTES,
    },
    store::{
        entities::{self, Kind},
        grants::{self, NewGrant, Version},
        stage::USES,
    },
};

/// Grants written in one transaction.
const BATCH: usize = 8192;
/// Batches that wait to be written.
const BATCHES_AHEAD: usize = 2;
/// Grants read at once from the current inventory.
const PAGE: i64 = 4096;
/// Bytes of a noted use: key, version, time.
const USE_BYTES: usize = KEY_BYTES + 8 + 8;
const NO_TIME: i64 = i64::MIN;

/// What was applied.
pub(super) struct Applied {
    pub(super) set: SetRoot,
    pub(super) changes: ChangeCounts,
}

/// Differences to be written together.
#[derive(Default)]
struct Batch {
    added: Vec<NewGrant>,
    ended: Vec<Version>,
    uses: Vec<u8>,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.added
            .len()
            .max(self.ended.len())
            .max(self.uses.len() / USE_BYTES)
            >= BATCH
    }

    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.ended.is_empty() && self.uses.is_empty()
    }
}

/// The current inventory in key order, page by page.
struct CurrentGrants {
    page: VecDeque<Current>,
    last: Vec<u8>,
    ended: bool,
}

impl CurrentGrants {
    async fn fill(&mut self, ingest: &Ingest) -> Result<()> {
        if self.ended || !self.page.is_empty() {
            return Ok(());
        }
        let (source_no, seq) = (ingest.lease.source_no, ingest.source.current_seq);
        let (db, tenant) = (&ingest.shop.db, &ingest.lease.tenant);
        let page = grants::at(db, tenant, source_no, seq, &self.last, PAGE).await?;
        self.ended = page.is_empty();
        if let Some(last) = page.last() {
            self.last = last.key.to_vec();
        }
        self.page = page.into();
        Ok(())
    }
}

impl Ingest {
    /// Writes all differences.
    pub(super) async fn apply(&self, gathered: &Arc<Gathered>) -> Result<Applied> {
        let (batches, mut waiting) = mpsc::channel::<Batch>(BATCHES_AHEAD);
        let (ingest, shared) = (self.clone(), Arc::clone(gathered));
        let compares = tokio::spawn(async move { ingest.compare(&shared, batches).await });
        let mut use_chunks = 0;
        let mut written = Ok(());
        while let Some(batch) = waiting.recv().await {
            written = self.write(gathered, batch, &mut use_chunks).await;
            if written.is_err() {
                // The other task ends when nobody takes its batches.
                drop(waiting);
                break;
            }
        }
        let applied = compares.await?;
        written?;
        let applied = applied?;
        self.end_unseen(gathered).await?;
        Ok(applied)
    }

    async fn compare(&self, gathered: &Gathered, batches: mpsc::Sender<Batch>) -> Result<Applied> {
        let mut leaves = Leaves::new(self, gathered)?;
        let mut current = CurrentGrants {
            page: VecDeque::new(),
            last: Vec::new(),
            ended: self.source.current_seq == 0,
        };
        let mut changes = ChangeCounts::default();
        let mut batch = Batch::default();
        let mut judged = leaves.next().await?;
        loop {
            current.fill(self).await?;
            let observed = judged.as_ref().map(|judged| &judged.observed);
            let Some(what) = step(current.page.front(), observed) else {
                break;
            };
            let old = match what {
                Step::Added => None,
                _ => current.page.pop_front(),
            };
            let new = match what {
                Step::Removed => None,
                _ => std::mem::replace(&mut judged, leaves.next().await?),
            };
            match what {
                Step::Added => changes.added += 1,
                Step::Changed => changes.changed += 1,
                Step::Removed => changes.removed += 1,
                Step::Used | Step::Same => {}
            }
            match (what, old, new) {
                (Step::Same, ..) => {}
                (Step::Used, Some(old), Some(new)) => {
                    let used = new.observed.last_used_ms.unwrap_or(NO_TIME);
                    batch.uses.extend_from_slice(&old.key);
                    batch.uses.extend_from_slice(&old.first_seq.to_be_bytes());
                    batch.uses.extend_from_slice(&used.to_be_bytes());
                }
                (_, old, new) => {
                    batch.ended.extend(old.map(|old| (old.key, old.first_seq)));
                    if let Some(new) = new {
                        batch.added.push(leaves.row(new)?);
                    }
                }
            }
            if batch.is_full() && batches.send(std::mem::take(&mut batch)).await.is_err() {
                return Err(Error::LeaseLost);
            }
        }
        if !batch.is_empty() && batches.send(batch).await.is_err() {
            return Err(Error::LeaseLost);
        }
        Ok(Applied {
            set: leaves.finish(),
            changes,
        })
    }

    async fn write(&self, gathered: &Gathered, batch: Batch, use_chunks: &mut i64) -> Result<()> {
        let (source_no, seq) = (self.lease.source_no, self.lease.seq);
        let mut tx = self.fenced(&gathered.counts).await?;
        grants::add(&mut tx, source_no, seq, batch.added).await?;
        grants::end(&mut tx, source_no, seq, batch.ended).await?;
        if !batch.uses.is_empty() {
            let stage = self.stage();
            stage.put(&mut tx, USES, *use_chunks, batch.uses).await?;
            *use_chunks += 1;
        }
        // If we crash here: versions of a sync that is not sealed are left; they are taken back before it is begun again.
        tx.commit().await?;
        Ok(())
    }

    /// Ends the accounts and entitlements that were not met, and forgets the staged runs.
    async fn end_unseen(&self, gathered: &Gathered) -> Result<()> {
        let seq = self.lease.seq;
        let mut tx = self.fenced(&gathered.counts).await?;
        entities::end(&mut tx, Kind::Account, seq, gathered.accounts.unseen()).await?;
        entities::end(
            &mut tx,
            Kind::Entitlement,
            seq,
            gathered.entitlements.unseen(),
        )
        .await?;
        self.stage().clear_runs(&mut tx).await?;
        // If we crash here: all is applied and nothing is sealed, so that nobody sees it; the next attempt takes it back first.
        tx.commit().await?;
        Ok(())
    }

    /// After the seal: notes last uses in versions that stay. Stopped half-way, the next sync notes the rest.
    pub(super) async fn note_uses(&self, gathered: &Gathered) -> Result<()> {
        let tenant = &self.lease.tenant;
        let source_no = self.lease.source_no;
        for chunk in 0.. {
            let stage = self.stage();
            let Some(content) = stage.get(&self.shop.db, tenant, USES, chunk).await? else {
                break;
            };
            let uses: Vec<(Version, Option<i64>)> = content
                .chunks_exact(USE_BYTES)
                .filter_map(read_use)
                .collect();
            let mut tx = self.shop.db.write_tx(tenant).await?;
            grants::note_used(&mut tx, source_no, uses).await?;
            // If we crash here: some last uses are noted, the next sync notes the rest; no record speaks of them.
            tx.commit().await?;
        }
        let mut tx = self.shop.db.write_tx(tenant).await?;
        entities::note_seen(&mut tx, gathered.seen.iter().copied()).await?;
        crate::store::stage::clear_sync(&mut tx, &self.stage()).await?;
        tx.commit().await?;
        Ok(())
    }
}

fn read_use(bytes: &[u8]) -> Option<(Version, Option<i64>)> {
    let (key, rest) = bytes.split_first_chunk::<KEY_BYTES>()?;
    let (first_seq, rest) = rest.split_first_chunk::<8>()?;
    let (used, _) = rest.split_first_chunk::<8>()?;
    let used = i64::from_be_bytes(*used);
    let version = (*key, i64::from_be_bytes(*first_seq));
    Some((version, (used != NO_TIME).then_some(used)))
}
