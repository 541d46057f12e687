//! What a batch does to the logs, worked out in memory. Pure: no I/O, no clock.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZero;
use std::sync::{Arc, LazyLock};
use std::thread;

use counterfoil_evidence::record::ENTRY_BYTES_MAX;
use counterfoil_evidence::v1::Entry;
use counterfoil_tlog::hash::leaf_hash;
use counterfoil_tlog::merkle::MerkleTree;
use counterfoil_tlog::tile::encode_hashes;
use counterfoil_tlog::{Checkpoint, Hash};
use prost::Message as _;

use super::second_look;
use crate::admission::{Admitted, verify};
use crate::key_book::{KeyBook, KeyEvent};
use crate::labels::{BUNDLE, LabelRow, Labels, label_rows};
use crate::model::StreamHead;
use crate::state::{FullTile, LogState, TileEdge};
use crate::store::{EntryRow, KeyRow, KnownRecord, LogCommit, TileRow};
use crate::{EngineError, LogId, Refusal};

/// The records of one submission.
#[derive(Debug)]
pub(crate) struct BatchItem {
    pub(crate) log: LogId,
    pub(crate) records: Vec<Result<Admitted, Refusal>>,
}

/// Record ids of a log that are in it already.
pub(crate) type KnownRecords = HashMap<LogId, BTreeMap<[u8; 16], KnownRecord>>;

/// What becomes of a record if the batch commits.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    /// It is in the log, now or from before.
    Logged {
        index: u64,
        leaf_hash: Hash,
        new: bool,
    },
    /// It is not.
    Refused(Refusal),
}

/// What the batch does.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// One a submission, in order; `None` for the submissions of logs that could not be loaded.
    pub(crate) fates: Vec<Option<Vec<Fate>>>,
    /// One a log that grows, ascending.
    pub(crate) commits: Vec<LogCommit>,
    /// The states after the commit.
    pub(crate) grown: BTreeMap<LogId, Grown>,
    /// Logs of which a record was refused for what the log holds: right only if that is still so.
    pub(crate) judged_by_state: Vec<LogId>,
}

/// A log after the commit.
#[derive(Debug)]
pub(crate) struct Grown {
    pub(crate) state: Arc<LogState>,
    /// Proves the new entries.
    pub(crate) tree: MerkleTree,
    /// The new records.
    pub(crate) accepted: HashMap<[u8; 16], KnownRecord>,
}

/// Fewest records for a core of their own.
const SHARE_RECORDS_MIN: usize = 64;

/// How many shares a batch has at most.
static SHARES_MAX: LazyLock<usize> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, NonZero::get));

/// The positions of the submissions that are worked out together: those of one log in one share, in their order.
///
/// Logs do not depend on each other: of a large batch each core takes some.
pub(crate) fn shares(batch: &[BatchItem]) -> Vec<Vec<usize>> {
    let mut logs: BTreeMap<LogId, (usize, Vec<usize>)> = BTreeMap::new();
    for (at, item) in batch.iter().enumerate() {
        let (records, positions) = logs.entry(item.log).or_default();
        *records += item.records.len();
        positions.push(at);
    }
    let records: usize = logs.values().map(|(records, _)| records).sum();
    let count = (records / SHARE_RECORDS_MIN).clamp(1, *SHARES_MAX);
    let mut shares = vec![(0, Vec::new()); count];
    for (records, positions) in logs.into_values() {
        if let Some((load, share)) = shares.iter_mut().min_by_key(|(load, _)| *load) {
            *load += records;
            share.extend(positions);
        }
    }
    let mut shares: Vec<Vec<usize>> = shares.into_iter().map(|(_, share)| share).collect();
    shares.retain(|share| !share.is_empty());
    shares
}

/// Works out a batch, or a share of one.
pub(crate) fn plan(
    states: &HashMap<LogId, Arc<LogState>>,
    batch: &[&BatchItem],
    known: &KnownRecords,
    now_ms: i64,
) -> Result<Plan, EngineError> {
    let verified = verify_rest(states, batch);
    let mut growing: BTreeMap<LogId, Growing<'_>> = BTreeMap::new();
    let mut fates = Vec::with_capacity(batch.len());
    for (item, verified) in batch.iter().zip(&verified) {
        let Some(state) = states.get(&item.log) else {
            fates.push(None);
            continue;
        };
        let log = growing
            .entry(item.log)
            .or_insert_with(|| Growing::new(state, known.get(&item.log), now_ms));
        let of_item = item
            .records
            .iter()
            .zip(verified)
            .map(|(record, verified)| match record {
                Ok(record) => log
                    .take(record, verified.as_ref())
                    .unwrap_or_else(Fate::Refused),
                Err(refusal) => Fate::Refused(refusal.clone()),
            })
            .collect();
        fates.push(Some(of_item));
    }
    let mut plan = Plan {
        fates,
        ..Plan::default()
    };
    for (id, log) in growing {
        if log.judged_by_state {
            plan.judged_by_state.push(id);
        }
        if !log.entries.is_empty() {
            let (commit, grown) = log.finish()?;
            plan.commits.push(commit);
            plan.grown.insert(id, grown);
        }
    }
    Ok(plan)
}

/// Verifies together what was not verified before sequencing; the key under which each is good, in the batch's shape.
///
/// A key is the one that the log has registered, or that a record of this batch registers.
fn verify_rest(
    states: &HashMap<LogId, Arc<LogState>>,
    batch: &[&BatchItem],
) -> Vec<Vec<Option<[u8; 32]>>> {
    let mut registered_here: HashMap<(LogId, &str), &[u8; 32]> = HashMap::new();
    for item in batch {
        for record in item.records.iter().flatten() {
            if let Some(KeyEvent::Registered(registration)) = &record.key_event {
                registered_here.insert(
                    (item.log, registration.key_id.as_str()),
                    &registration.public_key,
                );
            }
        }
    }
    let mut verified: Vec<Vec<Option<[u8; 32]>>> = Vec::with_capacity(batch.len());
    let mut places = Vec::new();
    let mut items: Vec<(&[u8; 32], &Admitted)> = Vec::new();
    for (at, item) in batch.iter().enumerate() {
        let keys = states.get(&item.log).map(|state| &state.keys);
        let mut of_item = Vec::with_capacity(item.records.len());
        for (position, record) in item.records.iter().enumerate() {
            of_item.push(record.as_ref().ok().and_then(|record| record.verified_by));
            let Ok(record) = record else { continue };
            let key = keys
                .and_then(|keys| keys.public_key(&record.key_id))
                .or_else(|| {
                    registered_here
                        .get(&(item.log, record.key_id.as_str()))
                        .copied()
                });
            if let (None, Some(key)) = (record.verified_by, key) {
                places.push((at, position));
                items.push((key, record));
            }
        }
        verified.push(of_item);
    }
    let good = verify(&items);
    for (((at, position), (key, _)), good) in places.into_iter().zip(&items).zip(good) {
        let place = verified.get_mut(at).and_then(|item| item.get_mut(position));
        if let (true, Some(place)) = (good, place) {
            *place = Some(**key);
        }
    }
    verified
}

/// A log while a batch is added to it.
#[derive(Debug)]
pub(super) struct Growing<'a> {
    pub(super) before: &'a LogState,
    known: Option<&'a BTreeMap<[u8; 16], KnownRecord>>,
    pub(super) recorded_at_ms: i64,
    pub(super) last_leaf: Hash,
    pub(super) tree: MerkleTree,
    pub(super) edge: TileEdge,
    pub(super) full_tiles: Vec<FullTile>,
    bundle: Vec<Arc<Labels>>,
    labels: Vec<LabelRow>,
    streams: BTreeMap<&'static str, StreamHead>,
    keys: Arc<KeyBook>,
    changed_keys: Vec<String>,
    accepted: HashMap<[u8; 16], KnownRecord>,
    pub(super) entries: Vec<EntryRow>,
    /// Of each entry, in order: what its record was admitted with.
    pub(super) seals: Vec<u64>,
    judged_by_state: bool,
}

impl<'a> Growing<'a> {
    pub(super) fn new(
        before: &'a LogState,
        known: Option<&'a BTreeMap<[u8; 16], KnownRecord>>,
        now_ms: i64,
    ) -> Self {
        if now_ms < before.recorded_at_ms {
            tracing::warn!(
                origin = before.info.origin,
                behind_ms = before.recorded_at_ms - now_ms,
                "the clock stepped back; entries get the time of the last one"
            );
        }
        Self {
            before,
            known,
            recorded_at_ms: now_ms.max(before.recorded_at_ms),
            last_leaf: before.last_leaf,
            tree: before.frontier.grow(),
            edge: before.edge.clone(),
            full_tiles: Vec::new(),
            bundle: before.bundle.clone(),
            labels: Vec::new(),
            streams: BTreeMap::new(),
            keys: Arc::clone(&before.keys),
            changed_keys: Vec::new(),
            accepted: HashMap::new(),
            entries: Vec::new(),
            seals: Vec::new(),
            judged_by_state: false,
        }
    }

    /// Takes one record, or says why not.
    fn take(&mut self, record: &Admitted, verified: Option<&[u8; 32]>) -> Result<Fate, Refusal> {
        if let Some(fate) = self.find(record)? {
            return Ok(fate);
        }
        self.follow(record)
            .and_then(|()| self.authorise(record, verified))
            .inspect_err(|_| self.judged_by_state = true)?;
        self.append(record)
    }

    /// The same record from before, or from earlier in the batch.
    fn find(&mut self, record: &Admitted) -> Result<Option<Fate>, Refusal> {
        let from_before = self.known.and_then(|known| known.get(&record.record_id));
        let here = self.accepted.get(&record.record_id);
        let Some(found) = from_before.or(here) else {
            return Ok(None);
        };
        if found.record_hash != record.record_hash {
            return Err(Refusal::RecordIdTaken {
                index: found.index,
                logged: found.record_hash,
                sent: record.record_hash,
            });
        }
        Ok(Some(Fate::Logged {
            index: found.index,
            leaf_hash: found.leaf_hash,
            new: from_before.is_none(),
        }))
    }

    /// The record must follow the last one of its stream.
    fn follow(&self, record: &Admitted) -> Result<(), Refusal> {
        let last = self.stream_head(record.stream);
        let expected = last.last_seq.saturating_add(1);
        if record.stream_seq != expected {
            return Err(Refusal::SequenceGap { expected });
        }
        if record.prev_record_hash != last.last_record_hash {
            return Err(Refusal::PrevHashMismatch { expected });
        }
        Ok(())
    }

    fn stream_head(&self, stream: &str) -> StreamHead {
        let here = self.streams.get(stream);
        let before = || self.before.streams.get(stream);
        here.or_else(before).copied().unwrap_or(StreamHead::EMPTY)
    }

    /// The key must be allowed to write the stream now, and the signature must be its.
    fn authorise(&self, record: &Admitted, verified: Option<&[u8; 32]>) -> Result<(), Refusal> {
        let stream = record.stream;
        let key = self
            .keys
            .allowed(&record.key_id, stream, self.recorded_at_ms)?;
        if verified != Some(key) {
            return Err(Refusal::BadSignature);
        }
        if let Some(event) = &record.key_event {
            self.keys.check(event)?;
        }
        Ok(())
    }

    pub(super) fn append(&mut self, record: &Admitted) -> Result<Fate, Refusal> {
        let index = self.tree.size();
        let entry = Entry {
            version: 1,
            log_origin: self.before.info.origin.clone(),
            index,
            recorded_at_ms: self.recorded_at_ms,
            prev_leaf_hash: self.last_leaf.0.to_vec(),
            record: record.record.clone(),
            record_key_id: record.key_id.clone(),
            record_signature: record.signature.clone(),
        };
        let length = entry.encoded_len();
        if length > ENTRY_BYTES_MAX {
            return Err(Refusal::TooLarge(length));
        }
        let bytes = entry.encode_to_vec();
        let leaf = leaf_hash(&bytes);
        self.tree.push(leaf);
        self.edge.push(leaf, &mut self.full_tiles);
        self.last_leaf = leaf;
        self.bundle.push(Arc::clone(&record.labels));
        if self.tree.size().is_multiple_of(BUNDLE) {
            self.labels.extend(label_rows(index / BUNDLE, &self.bundle));
            self.bundle.clear();
        }
        let stream = record.stream;
        let head = StreamHead {
            last_seq: record.stream_seq,
            last_record_hash: record.record_hash,
        };
        self.streams.insert(stream, head);
        if let Some(event) = &record.key_event {
            Arc::make_mut(&mut self.keys).apply(event);
            self.changed_keys.push(match event {
                KeyEvent::Registered(registration) => registration.key_id.clone(),
                KeyEvent::Revoked { key_id, .. } => key_id.clone(),
            });
        }
        let known = KnownRecord {
            index,
            record_hash: record.record_hash,
            leaf_hash: leaf,
        };
        self.accepted.insert(record.record_id, known);
        self.seals.push(record.seal);
        self.entries.push(EntryRow {
            index,
            leaf_hash: leaf,
            record_id: record.record_id,
            record_hash: record.record_hash,
            labels: Arc::clone(&record.labels),
            entry: bytes,
        });
        Ok(Fate::Logged {
            index,
            leaf_hash: leaf,
            new: true,
        })
    }

    /// Signs the head that the log has if the batch commits, after a second look.
    pub(super) fn finish(self) -> Result<(LogCommit, Grown), EngineError> {
        let before = self.before;
        let origin = &before.info.origin;
        let frontier = second_look::take(&self)?;
        let (size, root) = (frontier.size(), frontier.root());
        let checkpoint = Checkpoint {
            origin: origin.clone(),
            size,
            root,
        };
        // Stays in memory until the commit: nobody sees a signature of a state that may not come to be.
        let checkpoint = checkpoint
            .sign(&before.signer)
            .map_err(|error| EngineError::damaged(origin, error.to_string()))?;
        let mut streams = before.streams.clone();
        let changed = self.streams.into_iter();
        let changed: Vec<(String, StreamHead)> = changed
            .map(|(stream, head)| (stream.to_owned(), head))
            .collect();
        streams.extend(changed.iter().cloned());
        let commit = LogCommit {
            log: before.info.id,
            old_size: before.size,
            old_root: before.root,
            new_size: size,
            new_root: root,
            frontier: frontier.to_bytes(),
            checkpoint: checkpoint.clone(),
            recorded_at_ms: self.recorded_at_ms,
            entries: self.entries,
            labels: self.labels,
            tiles: tile_rows(origin, self.full_tiles, &self.edge)?,
            streams: changed,
            keys: key_rows(&self.keys, self.changed_keys),
        };
        let state = LogState {
            info: Arc::clone(&before.info),
            signer: Arc::clone(&before.signer),
            size,
            root,
            checkpoint: checkpoint.into(),
            recorded_at_ms: self.recorded_at_ms,
            last_leaf: self.last_leaf,
            frontier,
            edge: self.edge,
            bundle: self.bundle,
            streams,
            keys: self.keys,
        };
        let grown = Grown {
            state: Arc::new(state),
            tree: self.tree,
            accepted: self.accepted,
        };
        Ok((commit, grown))
    }
}

/// The tiles that became full, and the growing ones of the levels above that got a hash by it.
fn tile_rows(
    origin: &str,
    full: Vec<FullTile>,
    edge: &TileEdge,
) -> Result<Vec<TileRow>, EngineError> {
    let encode = |hashes: &[Hash]| {
        encode_hashes(hashes).map_err(|error| EngineError::damaged(origin, error.to_string()))
    };
    let highest = full.iter().map(|tile| tile.level).max();
    let mut rows = Vec::with_capacity(full.len() + 2);
    for tile in full {
        rows.push(TileRow {
            level: tile.level,
            n: tile.n,
            hashes: encode(&tile.hashes)?,
        });
    }
    for level in 1..=highest.map_or(0, |highest| highest + 1) {
        let hashes = edge.partial(level);
        if !hashes.is_empty() {
            rows.push(TileRow {
                level,
                n: edge.partial_index(level),
                hashes: encode(hashes)?,
            });
        }
    }
    Ok(rows)
}

fn key_rows(keys: &KeyBook, mut changed: Vec<String>) -> Vec<KeyRow> {
    changed.sort_unstable();
    changed.dedup();
    changed
        .iter()
        .filter_map(|key_id| keys.keys.get_key_value(key_id))
        .flat_map(|(key_id, key)| {
            key.streams
                .iter()
                .map(move |(stream, valid_from_ms)| KeyRow {
                    key_id: key_id.clone(),
                    stream: stream.clone(),
                    public_key: key.public_key,
                    valid_from_ms: *valid_from_ms,
                    revoked_after_ms: key.revoked_after_ms,
                })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(log: i64, records: usize) -> BatchItem {
        BatchItem {
            log: LogId(log),
            records: (0..records).map(|_| Err(Refusal::BadSignature)).collect(),
        }
    }

    #[test]
    fn what_is_of_one_log_is_worked_out_together_and_in_order() {
        let mut batch: Vec<BatchItem> = (0..300).map(|at| item(at % 7, 1)).collect();
        batch.push(item(3, 1000));
        let shares = shares(&batch);
        assert_eq!(shares.len(), (*SHARES_MAX).min(7));
        let mut seen = vec![0; batch.len()];
        let mut share_of = HashMap::new();
        for (number, share) in shares.iter().enumerate() {
            for at in share {
                seen[*at] += 1;
                let log = batch[*at].log;
                assert_eq!(*share_of.entry(log).or_insert(number), number, "{log}");
            }
            for log in 0..7 {
                let of_log = share.iter().filter(|at| batch[**at].log == LogId(log));
                assert!(of_log.is_sorted());
            }
        }
        assert!(seen.iter().all(|times| *times == 1));
    }

    #[test]
    fn a_small_batch_is_worked_out_in_one_place() {
        let batch: Vec<BatchItem> = (0..)
            .take(SHARE_RECORDS_MIN)
            .map(|at| item(at, 1))
            .collect();
        assert_eq!(shares(&batch).len(), 1);
        assert!(shares(&[]).is_empty());
    }
}
