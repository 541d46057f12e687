//! The log itself, read once from front to back: structure, chain, and everything that is replayed over it (S, C, P, I).

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};

use counterfoil_evidence::record::signed_message;
use counterfoil_evidence::replay::{Decoded, Replay};
use counterfoil_evidence::v1;
use counterfoil_tlog::hash::{Hash, node_hash};
use counterfoil_tlog::merkle::{self, Frontier};
use counterfoil_tlog::signature::{SignedMessage, verify_batch};
use counterfoil_tlog::tile::TILE_WIDTH;

use crate::bundle::BundleReader;
use crate::check::{Check, Finder};
use crate::disclosures::Commitments;
use crate::history::History;
use crate::producers::Producers;
use crate::schemas::SchemaUse;
use crate::work::{EntryWork, Tile, read_tile};

/// Tiles that are read at once: what is in memory is bounded by this, not by the log.
const ROUND_TILES: u64 = 16;
/// Fewer signatures than this are not worth a batch of their own.
const BATCH_MIN: usize = 512;

/// What is found while the log is read.
#[derive(Debug)]
pub(crate) struct LogWalk<'t> {
    origin: Option<&'t str>,
    size: u64,
    pub(crate) tree: Trees,
    pub(crate) producers: Producers,
    pub(crate) replay: Replay,
    pub(crate) commitments: Commitments,
    pub(crate) schemas: SchemaUse,
    pub(crate) history: History,
    prev_leaf: Hash,
    prev_stored: Hash,
    last_recorded_ms: i64,
    s4: Finder,
    s7: Finder,
    s10: Finder,
    c1: Finder,
    c2: Finder,
    c3: Finder,
    /// Whether every entry could be read.
    pub(crate) whole: bool,
}

/// The tree over the entries and the tree over the tiles of leaf hashes.
#[derive(Debug, Default)]
pub(crate) struct Trees {
    entries: Frontier,
    stored: Frontier,
    entries_rest: Vec<Hash>,
    stored_rest: Vec<Hash>,
    /// Roots of the full tiles of leaf hashes: the first upper level.
    pub(crate) stored_tiles: Vec<Hash>,
    /// Where entries and tiles disagree.
    pub(crate) disagree: Vec<u64>,
}

/// The root over full tiles and what follows them.
pub(crate) fn combined_root(tiles: &Frontier, rest: &[Hash]) -> Hash {
    if rest.is_empty() {
        return tiles.root();
    }
    let edge: Vec<Hash> = tiles.subtrees().map(|(_, _, hash)| hash).collect();
    edge.iter()
        .rev()
        .fold(merkle::root(rest), |right, left| node_hash(left, &right))
}

impl Trees {
    /// Root over the entries so far.
    pub(crate) fn entries_root(&self) -> Hash {
        combined_root(&self.entries, &self.entries_rest)
    }

    /// Root over the tiles of leaf hashes so far.
    pub(crate) fn stored_root(&self) -> Hash {
        combined_root(&self.stored, &self.stored_rest)
    }

    fn take(&mut self, tile: &Tile) {
        for (offset, (leaf, stored)) in (0_u64..).zip(tile.leaves.iter().zip(&tile.stored)) {
            if leaf != stored {
                self.disagree.push(tile.start + offset);
            }
        }
        if tile.leaves.len() == usize::from(TILE_WIDTH) {
            self.entries.push(tile.root);
        } else {
            self.entries_rest.clone_from(&tile.leaves);
        }
        if tile.stored.len() == usize::from(TILE_WIDTH) {
            self.stored.push(tile.stored_root);
            self.stored_tiles.push(tile.stored_root);
        } else {
            self.stored_rest.clone_from(&tile.stored);
        }
    }
}

/// A signature to verify.
struct Job {
    at: u64,
    key: [u8; 32],
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl<'t> LogWalk<'t> {
    pub(crate) fn new(
        origin: Option<&'t str>,
        size: u64,
        producers: Producers,
        history: History,
    ) -> Self {
        Self {
            origin,
            size,
            tree: Trees::default(),
            producers,
            replay: Replay::new(),
            commitments: Commitments::default(),
            schemas: SchemaUse::default(),
            history,
            prev_leaf: Hash([0; 32]),
            prev_stored: Hash([0; 32]),
            last_recorded_ms: i64::MIN,
            s4: Finder::new("S4", &[], "every entry and record is of this log"),
            s7: Finder::new("S7", &[], "every tile and entry bundle is there, exactly"),
            s10: Finder::new(
                "S10",
                &[],
                "every entry and record is in its canonical bytes",
            ),
            c1: Finder::new(
                "C1",
                &[],
                "every entry stands at its index and names the one before",
            ),
            c2: Finder::new("C2", &[], "the time of integration never goes back"),
            c3: Finder::new(
                "C3",
                &[],
                "the chain is made of the leaf hashes of the tree",
            ),
            whole: true,
        }
    }

    /// Reads the whole log.
    pub(crate) fn walk(&mut self, bundle: &BundleReader, threads: usize) {
        let tiles = self.size.div_ceil(u64::from(TILE_WIDTH));
        let mut next = 0;
        while next < tiles {
            let end = tiles.min(next + ROUND_TILES);
            let round = read_round(bundle, next, end, self.size, threads);
            let mut jobs = Vec::new();
            for tile in &round {
                self.tile(tile, &mut jobs);
                if !self.whole {
                    return;
                }
            }
            self.verify_and_replay(round, &jobs, threads);
            next = end;
        }
    }

    /// What depends on the entries before.
    fn tile(&mut self, tile: &Tile, jobs: &mut Vec<Job>) {
        for flaw in &tile.flaws {
            self.s7.fail(flaw);
        }
        if tile.entries.is_empty() {
            // Everything after it would be judged at the wrong place.
            self.whole = false;
            return;
        }
        self.history
            .take(tile.start, &self.tree.entries, &tile.leaves);
        self.tree.take(tile);
        for (at, (work, leaf)) in (tile.start..).zip(tile.entries.iter().zip(&tile.leaves)) {
            self.entry(at, work, jobs);
            self.prev_leaf = *leaf;
            let offset = usize::try_from(at - tile.start).unwrap_or(usize::MAX);
            self.prev_stored = tile.stored.get(offset).copied().unwrap_or(*leaf);
        }
    }

    fn entry(&mut self, at: u64, work: &EntryWork, jobs: &mut Vec<Job>) {
        if let Some(flaw) = &work.flaw {
            self.s10.fail(format!("entry {at}: {flaw}"));
        }
        let Some(entry) = &work.entry else { return };
        self.c1.expect(entry.index == at, || {
            format!("entry {at} says that it is entry {}", entry.index)
        });
        self.c1
            .expect(entry.prev_leaf_hash == self.prev_leaf.as_bytes(), || {
                format!("entry {at} names another entry before it")
            });
        self.c3
            .expect(entry.prev_leaf_hash == self.prev_stored.as_bytes(), || {
                format!("entry {at} is chained to another leaf than the tree has")
            });
        self.c2
            .expect(entry.recorded_at_ms >= self.last_recorded_ms, || {
                format!("entry {at} is from before the one before it")
            });
        self.last_recorded_ms = self.last_recorded_ms.max(entry.recorded_at_ms);
        self.of_this_log(at, "entry", &entry.log_origin);
        let Some(prepared) = &work.prepared else {
            return;
        };
        let record = &prepared.record;
        self.of_this_log(at, "record", &record.log_origin);
        if let Decoded::Malformed(error) = &prepared.decoded {
            self.s10.fail(format!("entry {at}: {error}"));
        }
        self.commitments.take(at, record);
        self.schemas.take(at, record, &prepared.decoded);
        self.history
            .entry(at, entry.recorded_at_ms, &prepared.decoded);
        if let Some(key) = self.producers.take(at, entry, prepared) {
            jobs.push(Job {
                at,
                key,
                message: signed_message(&entry.record),
                signature: entry.record_signature.clone(),
            });
        }
    }

    fn of_this_log(&mut self, at: u64, what: &str, origin: &str) {
        if let Some(pinned) = self.origin {
            self.s4
                .expect(origin == pinned, || format!("{what} {at} is of {origin:?}"));
        }
    }

    /// Signatures on the other cores while this one replays.
    fn verify_and_replay(&mut self, round: Vec<Tile>, jobs: &[Job], threads: usize) {
        let replay = &mut self.replay;
        let chunk = jobs.len().div_ceil(threads).max(BATCH_MIN);
        let mut bad: Vec<u64> = std::thread::scope(|scope| {
            let workers: Vec<_> = jobs
                .chunks(chunk)
                .map(|jobs| scope.spawn(|| bad_signatures(jobs)))
                .collect();
            for work in round.into_iter().flat_map(|tile| tile.entries) {
                match (work.entry, work.prepared) {
                    (Some(entry), Some(prepared)) => {
                        replay.push(entry.recorded_at_ms, prepared);
                    }
                    _ => replay.push_unreadable(),
                }
            }
            workers
                .into_iter()
                .flat_map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        });
        bad.sort_unstable();
        self.producers.signatures(jobs.len() as u64, &bad);
    }

    /// The checks of structure and chain that do not need the checkpoint.
    pub(crate) fn finish(&mut self) -> (Finder, Vec<Check>) {
        let none = || Finder::new("", &[], "");
        let take = |finder: &mut Finder, note: String| {
            let mut taken = std::mem::replace(finder, none());
            taken.note(note);
            taken.finish()
        };
        let count = format!("{} entries", self.size);
        let checks = vec![
            take(&mut self.s4, count.clone()),
            take(&mut self.s10, count.clone()),
            take(&mut self.c1, count.clone()),
            take(&mut self.c2, count.clone()),
            take(&mut self.c3, count),
        ];
        (std::mem::replace(&mut self.s7, none()), checks)
    }
}

fn bad_signatures(jobs: &[Job]) -> Vec<u64> {
    let items: Vec<SignedMessage<'_>> = jobs
        .iter()
        .map(|job| (&job.key, job.message.as_slice(), job.signature.as_slice()))
        .collect();
    match verify_batch(&items) {
        Ok(()) => Vec::new(),
        Err(bad) => bad
            .into_iter()
            .filter_map(|position| jobs.get(position))
            .map(|job| job.at)
            .collect(),
    }
}

/// Reads some tiles at once, in order.
fn read_round(bundle: &BundleReader, start: u64, end: u64, size: u64, threads: usize) -> Vec<Tile> {
    let count = usize::try_from(end - start).unwrap_or(0);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done: Vec<Tile> = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return done;
            }
            done.push(read_tile(bundle, start + at as u64, size));
        }
    };
    let mut tiles: Vec<Tile> = std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads.min(count)).map(|_| scope.spawn(work)).collect();
        let mut tiles = work();
        for worker in workers {
            tiles.extend(worker.join().unwrap_or_default());
        }
        tiles
    });
    tiles.sort_unstable_by_key(|tile| tile.start);
    tiles
}

/// Whether a payload seals everything before an index.
pub(crate) fn seals_all_before(decoded: &Decoded, at: u64) -> bool {
    match decoded {
        Decoded::Payload(payload) => matches!(
            payload.as_ref(),
            counterfoil_evidence::catalogue::Payload::EpochSealed(v1::EpochSealed {
                to_index,
                ..
            }) if *to_index == at
        ),
        _ => false,
    }
}
