//! What the anchor log proves of the other logs, for those who ask for it or wait for it.

use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as Guarded, PoisonError};
use std::time::Duration;

use counterfoil_engine::{AnchorEpoch, AnchoredHead, EngineError, Head, Log, LogId};
use counterfoil_evidence::catalogue::Payload;
use counterfoil_evidence::v1::HeadsAnchored;
use counterfoil_tlog::TlogProof;
use counterfoil_tlog::anchor_proof::{AnchorProof, LoggedEntry, MapHead};
use counterfoil_tlog::sparse_map::{SparseMap, key_of};
use prost::Name as _;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout_at};

use crate::copies::Copies;
use crate::error::LedgerError;
use crate::logs::{Logs, read};
use crate::model::anchoring::{self, ANCHOR};
use crate::statement::Statement;
use crate::witnesses::Witnessed;

/// The epochs, as far as this process knows them. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Epochs {
    logs: Logs,
    /// The newest one of which the record stands in the anchor log.
    newest: watch::Sender<u64>,
    /// Somebody waits for the next one.
    wanted: Arc<AtomicBool>,
    /// Maps of the newest epochs, which receipts are proved with.
    newest_maps: Maps,
    /// Maps of older ones, which somebody has asked for by number: nobody's receipt waits for them.
    older_maps: Maps,
    /// Whose turn it is to ask for those: of each log one call. Whoever asks again and again stands in line once, as everybody else.
    turns: Turns,
    /// `None`: nobody is asked to cosign.
    witnesses: Option<Cosigners>,
}

/// Who cosigns the anchor log, if the policy says that it is shown to them.
#[derive(Debug, Clone)]
pub(crate) struct Cosigners {
    pub(crate) witnessed: Witnessed,
    /// What is published is shown to them; `None`: nothing is published.
    pub(crate) copies: Option<Copies>,
}

/// Maps kept of each kind: of the newest epoch, and of the newest that witnesses know.
const MAPS: usize = 2;

/// The maps that were made last. One is made at a time, and whoever waits for the same one gets it.
type Maps = Arc<Mutex<VecDeque<Arc<Epoch>>>>;

/// The calls for logs that have their turn, or wait for it.
type Turns = Arc<Guarded<HashMap<LogId, Arc<Mutex<()>>>>>;

/// An epoch with its map.
#[derive(Debug)]
struct Epoch {
    number: u64,
    index: u64,
    secret: [u8; 32],
    heads: HashMap<LogId, AnchoredHead>,
    map: SparseMap,
}

/// How far the anchor log is behind the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lag {
    /// Newest epoch.
    pub(crate) epoch: u64,
    /// Logs that have a newer head than it.
    pub(crate) logs: u64,
    /// Its age, if there are any; milliseconds.
    pub(crate) age_ms: i64,
}

/// The anchor log at one moment, for proofs under one checkpoint.
#[derive(Debug, Clone)]
pub(crate) struct AnchorLog {
    pub(crate) log: Log,
    /// With the cosignatures that there are.
    head: Head,
    /// The newest epoch of which it has the record.
    pub(crate) epoch: u64,
}

/// A head of a log that is anchored.
#[derive(Debug, Clone)]
pub(crate) struct Reached {
    /// What shows it.
    pub(crate) anchor: AnchorLog,
    /// The epoch that has it.
    pub(crate) epoch: u64,
    pub(crate) head: AnchoredHead,
}

impl Epochs {
    pub(crate) fn new(logs: Logs, witnesses: Option<Cosigners>) -> Self {
        Self {
            logs,
            witnesses,
            newest: watch::Sender::new(0),
            wanted: Arc::default(),
            newest_maps: Maps::default(),
            older_maps: Maps::default(),
            turns: Turns::default(),
        }
    }

    /// Takes note of an epoch whose record stands in the anchor log.
    pub(crate) fn closed(&self, number: u64) {
        self.newest.send_if_modified(|newest| {
            let is_newer = number > *newest;
            *newest = number.max(*newest);
            is_newer
        });
    }

    /// Looks for epochs of other replicas; where that fails, the next look finds them.
    pub(crate) async fn look(&self) {
        if let Ok(Some(epoch)) = self.logs.engine().closed_anchor_epoch(u64::MAX).await {
            self.closed(epoch.number);
        }
    }

    /// How far the anchor log is behind at this time.
    pub(crate) async fn lag(&self, now_ms: i64) -> Result<Lag, LedgerError> {
        let engine = self.logs.engine();
        let newest = engine.closed_anchor_epoch(u64::MAX).await?;
        let (epoch, at_ms) = match &newest {
            Some(newest) => (newest.number, anchoring::payload(newest)?.anchored_at_ms),
            None => (0, now_ms),
        };
        let anchored = engine.anchored_heads(epoch).await?;
        let anchored: HashMap<LogId, u64> =
            anchored.iter().map(|head| (head.log, head.size)).collect();
        let heads = engine.heads().await?;
        let behind = heads.read.iter().filter(|head| {
            let size = anchored.get(&head.log).copied().unwrap_or(0);
            head.tenant != ANCHOR && head.size > size
        });
        // How far those are that cannot be read, nobody knows.
        let unknown = heads.unreadable.iter();
        let unknown = unknown.filter(|head| head.tenant != ANCHOR);
        let logs = (behind.count() + unknown.count()) as u64;
        Ok(Lag {
            epoch,
            logs,
            age_ms: if logs > 0 { (now_ms - at_ms).max(0) } else { 0 },
        })
    }

    /// Whether somebody waits for an epoch; it is asked for once.
    pub(crate) fn take_wanted(&self) -> bool {
        self.wanted.swap(false, Ordering::Relaxed)
    }

    /// The newest head of a log that is anchored, as far as enough witnesses have cosigned the anchor log, if they are asked to.
    async fn reached(&self, log: &Log) -> Result<Option<Reached>, LedgerError> {
        match self.counted().await? {
            Some(anchor) => self.reached_in(anchor, log).await,
            None => Ok(None),
        }
    }

    async fn reached_in(
        &self,
        anchor: AnchorLog,
        log: &Log,
    ) -> Result<Option<Reached>, LedgerError> {
        let newest = self.logs.engine().closed_anchor_epoch(anchor.epoch).await?;
        let Some(newest) = newest else {
            return Ok(None);
        };
        self.closed(newest.number);
        let head = log.anchored_head(newest.number).await?;
        Ok(head.map(|head| Reached {
            anchor,
            epoch: newest.number,
            head,
        }))
    }

    /// Waits until a head of so many entries is anchored, or the time is over; the newest one then.
    pub(crate) async fn wait(
        &self,
        log: &Log,
        size: u64,
        wait: Duration,
    ) -> Result<Option<Reached>, LedgerError> {
        let until = Instant::now() + wait;
        let mut newest = self.newest.subscribe();
        loop {
            newest.mark_unchanged();
            let reached = self.reached(log).await?;
            let is_there = reached.as_ref().is_some_and(|one| one.head.size >= size);
            if is_there || wait.is_zero() {
                return Ok(reached);
            }
            // What is stated, and not cosigned yet.
            if let Some(cosigners) = &self.witnesses
                && let Some(anchor) = self.anchor().await?
                && cosigners.witnessed.are_asked_for(&anchor.log)
                && let Some(stated) = self.reached_in(anchor, log).await?
                && stated.head.size >= size
            {
                cosigners.wait(&stated.anchor, until).await;
                return self.reached(log).await;
            }
            self.wanted.store(true, Ordering::Relaxed);
            // Over: what there is, is told.
            if timeout_at(until, newest.changed()).await.is_err() {
                return Ok(reached);
            }
        }
    }

    /// The anchor log; `None`: there is none.
    pub(crate) async fn anchor(&self) -> Result<Option<AnchorLog>, LedgerError> {
        // Not as the caller, who may know of its own log only: what is answered is proofs of that.
        let log = match self.logs.engine().log(ANCHOR).await {
            Ok(log) => log,
            Err(EngineError::NoSuchLog(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let head = log.head().await?;
        let checkpoint = log.cosigned_checkpoint(head.size).await?;
        AnchorLog::at(log, Head { checkpoint, ..head })
            .await
            .map(Some)
    }

    /// The anchor log as far as what it says counts: up to the newest checkpoint that enough witnesses have cosigned, where they are asked to. An
    /// operator has the anchor log's key, and with it two anchor logs; only one of them gets their cosignatures.
    pub(crate) async fn counted(&self) -> Result<Option<AnchorLog>, LedgerError> {
        let Some(newest) = self.anchor().await? else {
            return Ok(None);
        };
        let witnessed = self
            .witnesses
            .as_ref()
            .map(|cosigners| &cosigners.witnessed);
        match witnessed.filter(|witnessed| witnessed.are_asked_for(&newest.log)) {
            None => Ok(Some(newest)),
            Some(witnessed) => {
                let Some(head) = witnessed.head(&newest.log).await? else {
                    return Ok(None);
                };
                AnchorLog::at(newest.log, head).await.map(Some)
            }
        }
    }

    /// Numbers of at most `count` epochs that have a head of a log of at most `size` entries: the last one that the anchor log has, and others
    /// at even distances.
    pub(crate) async fn spread(
        &self,
        anchor: &AnchorLog,
        log: &Log,
        size: u64,
        count: u64,
    ) -> Result<Vec<u64>, EngineError> {
        let engine = self.logs.engine();
        let Some(range) = log.anchored_epochs(size).await? else {
            return Ok(Vec::new());
        };
        let end = anchor.epoch.min(*range.end());
        let Some(last) = engine.closed_anchor_epoch(end).await? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for number in evenly(*range.start()..=last.number, count) {
            // A number may be missing: its epoch was lost with the database, and its record alone came back.
            let epoch = engine.closed_anchor_epoch(number).await?;
            found.extend(epoch.map(|epoch| epoch.number));
        }
        found.retain(|number| range.contains(number));
        found.dedup();
        Ok(found)
    }

    /// What an epoch has of a log, as text; `None`: the database cannot prove this epoch.
    pub(crate) async fn prove(
        &self,
        anchor: &AnchorLog,
        log: &Log,
        number: u64,
    ) -> Result<Option<String>, LedgerError> {
        let is_old = number < anchor.epoch;
        let turn = is_old.then(|| self.turn_of(log.info().id));
        let _held = match &turn {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        let maps = match is_old {
            true => &self.older_maps,
            false => &self.newest_maps,
        };
        let epoch = self.epoch(number, maps).await?;
        let Some(epoch) = epoch else {
            return Ok(None);
        };
        let head = epoch.heads.get(&log.info().id).map(|head| {
            let leaf = anchoring::leaf(&epoch.secret, head);
            MapHead {
                size: leaf.size,
                root: leaf.root,
                salt: leaf.salt,
            }
        });
        let proof = AnchorProof {
            head,
            path: epoch.map.path(&key_of(&log.info().origin)),
            logged: anchor.entry(epoch.index).await?,
        };
        Ok(Some(proof.to_string()))
    }

    /// As if somebody made a map of an old epoch.
    #[cfg(test)]
    pub(crate) async fn hold_older(&self) -> Box<dyn Send> {
        Box::new(Arc::clone(&self.older_maps).lock_owned().await)
    }

    /// What the calls for one log wait for.
    fn turn_of(&self, log: LogId) -> Arc<Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Of those that nobody holds there is nothing to know.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(log).or_default())
    }

    /// That the anchor log bound a log, as text; `None`: it has not yet, or not below the head that is shown.
    pub(crate) async fn binding(
        &self,
        anchor: &AnchorLog,
        log: &Log,
    ) -> Result<Option<String>, LedgerError> {
        let statement = Statement::tenant_bound(&log.info().vkey.to_string());
        let record_id = statement.record_id(&anchor.log.info().origin);
        let bound = anchor.log.entry_by_record(&record_id).await?;
        match bound.filter(|bound| bound.index < anchor.head.size) {
            Some(bound) => Ok(Some(anchor.entry(bound.index).await?.to_string())),
            None => Ok(None),
        }
    }

    async fn epoch(&self, number: u64, maps: &Maps) -> Result<Option<Arc<Epoch>>, LedgerError> {
        let mut maps = maps.lock().await;
        if let Some(epoch) = maps.iter().find(|made| made.number == number) {
            return Ok(Some(Arc::clone(epoch)));
        }
        let engine = self.logs.engine();
        let kept = engine.closed_anchor_epoch(number).await?;
        let Some(kept) = kept.filter(|kept| kept.number == number) else {
            return Ok(None);
        };
        let stated = anchoring::payload(&kept)?;
        let AnchorEpoch {
            secret,
            index: Some(index),
            ..
        } = kept
        else {
            return Ok(None);
        };
        let heads = engine.anchored_heads(number).await?;
        let making = tokio::task::spawn_blocking(move || {
            let map = anchoring::map(&secret, &heads)?;
            Ok::<_, anchoring::NoEpoch>((map, heads))
        });
        let (map, heads) = making.await.map_err(|_| EngineError::Closed)??;
        // What is kept of an epoch is not signed; what its record says is. Nothing is proved by what does not fit.
        if map.root().as_bytes().as_slice() != stated.map_root {
            tracing::error!(
                alarm = "NOT_ANCHORED",
                number,
                "what the database has of the epoch is not what was anchored"
            );
            return Ok(None);
        }
        let epoch = Arc::new(Epoch {
            number,
            index,
            secret,
            heads: heads.into_iter().map(|head| (head.log, head)).collect(),
            map,
        });
        maps.truncate(MAPS - 1);
        maps.push_front(Arc::clone(&epoch));
        Ok(Some(epoch))
    }
}

impl Cosigners {
    /// Waits until enough witnesses have cosigned a state of the anchor log, or the time is over.
    async fn wait(&self, anchor: &AnchorLog, until: Instant) {
        let left = || until.saturating_duration_since(Instant::now());
        let size = anchor.head.size;
        if let Some(copies) = &self.copies {
            copies.wait(ANCHOR, size, left()).await;
        }
        self.witnessed.reached.wait(ANCHOR, size, left()).await;
    }
}

impl AnchorLog {
    async fn at(log: Log, head: Head) -> Result<Self, LedgerError> {
        let newest = log
            .last_of_type(&HeadsAnchored::full_name(), head.size)
            .await?;
        let epoch = match newest.as_ref().map(read).transpose()? {
            Some((_, Payload::HeadsAnchored(anchored))) => anchored.epoch,
            _ => 0,
        };
        Ok(Self { log, head, epoch })
    }

    /// An entry with its proof.
    async fn entry(&self, index: u64) -> Result<LoggedEntry, EngineError> {
        let damaged = |reason: String| EngineError::Damaged {
            origin: self.log.info().origin.clone(),
            reason,
        };
        let stored = self.log.entry(index).await?;
        let stored = stored.ok_or_else(|| damaged(format!("entry {index} is missing")))?;
        let proofs = self
            .log
            .receipts(&self.head, std::slice::from_ref(&stored))
            .await?;
        let proof = proofs.into_iter().next().unwrap_or_default();
        let proof = TlogProof::parse(&proof).map_err(|error| damaged(error.to_string()))?;
        Ok(LoggedEntry {
            entry: stored.bytes,
            proof,
        })
    }
}

/// At most `count` numbers of a range at even distances, ascending; the last one is among them.
pub(crate) fn evenly(range: RangeInclusive<u64>, count: u64) -> Vec<u64> {
    let (first, last) = (*range.start(), *range.end());
    let steps = count
        .saturating_sub(1)
        .min(last.saturating_sub(first))
        .max(1);
    let at = |step: u64| {
        let part = u128::from(last - first) * u128::from(step) / u128::from(steps);
        first + u64::try_from(part).unwrap_or(0)
    };
    if first > last || count == 0 {
        return Vec::new();
    }
    let mut found: Vec<u64> = (0..=steps).map(at).collect();
    found.dedup();
    // One alone is the last.
    if count == 1 { vec![last] } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_evenly_and_end_with_the_last() {
        assert_eq!(evenly(3..=3, 16), [3]);
        assert_eq!(evenly(1..=4, 16), [1, 2, 3, 4]);
        assert_eq!(evenly(1..=100, 4), [1, 34, 67, 100]);
        assert_eq!(evenly(5..=9, 1), [9]);
        assert_eq!(evenly(1..=u64::MAX, 2), [1, u64::MAX]);
        let nothing = RangeInclusive::new(4, 3);
        assert!(evenly(nothing, 9).is_empty() && evenly(1..=9, 0).is_empty());
    }
}
