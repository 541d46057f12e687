//! Re-hashing a log while it runs, a step at a time: what rots on a disk is found by its owner before somebody needs it.
//!
//! A round takes the log as its newest signed head has it: every entry is hashed again, every hash tile rebuilt from them, both
//! compared with the published copy, and the labels summed up. Between two steps everything that a round needs is its
//! [`ScrubPlace`], so it goes on after a restart, by whichever process.
//!
//! Signatures are not verified again: bytes that have their leaf hash are the bytes that were verified. What the stored streams and keys
//! say is for [`Log::fsck`], and for the check of a log before it is written.

use std::sync::Arc;

use counterfoil_evidence::record::{decode_entry, decode_record, record_hash};
use counterfoil_tlog::merkle::{Frontier, root};
use counterfoil_tlog::tile::decode_hashes;
use counterfoil_tlog::{Hash, checkpoint};
use prost::Message;

use crate::copy_check::CopyCheck;
use crate::engine::Shared;
use crate::labels::{BUNDLE, LabelRow, LabelSum, Labels, RUN, label_rows};
use crate::model::StoredEntry;
use crate::sequencer::check_link;
use crate::state::FullTile;
use crate::{EngineError, Log, LogInfo, Publication, prove};

/// Entries of one bundle.
const WIDTH: usize = counterfoil_tlog::tile::TILE_WIDTH as usize;

/// Rows of labels read at once: of a subject that every record has, one is some 40 KiB.
const LABELS_PAGE: u32 = 64;

/// Where a round is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrubPlace {
    /// The signed head that the round ends at.
    size: u64,
    root: Hash,
    /// The tree over the entries that are done, and the last of them.
    done: Frontier,
    last_leaf: Option<Hash>,
    /// What the labels of the entries that are done sum up to, and what the stored ones do, up to a row.
    expected: LabelSum,
    stored: LabelSum,
    label: Option<(Vec<u8>, u64)>,
}

/// A round that is over, and found everything as it was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scrubbed {
    /// Entries, all of which were hashed.
    pub size: u64,
    /// Root over them, recomputed.
    pub root: Hash,
    /// Full hash tiles of all levels, all of which were rebuilt.
    pub tiles: u64,
}

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScrubStep {
    /// The round goes on from here.
    Going(ScrubPlace),
    /// The round is over.
    Whole(Scrubbed),
}

/// [`ScrubPlace`] as it is kept.
#[derive(Clone, PartialEq, Eq, Message)]
struct Kept {
    #[prost(uint64, tag = "1")]
    size: u64,
    #[prost(bytes = "vec", tag = "2")]
    root: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    done: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "4")]
    last_leaf: Option<Vec<u8>>,
    // 5 and 6 were sums of rows that there are no more: such a round begins anew.
    #[prost(bytes = "vec", tag = "9")]
    expected: Vec<u8>,
    #[prost(bytes = "vec", tag = "10")]
    stored: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "7")]
    label: Option<Vec<u8>>,
    #[prost(uint64, tag = "8")]
    label_n: u64,
}

impl ScrubPlace {
    /// Entries that are done, and of how many.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        (self.done.size(), self.size)
    }

    /// To be kept over a restart.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (label, label_n) = self.label.clone().unzip();
        let kept = Kept {
            size: self.size,
            root: self.root.0.to_vec(),
            done: self.done.to_bytes(),
            last_leaf: self.last_leaf.map(|leaf| leaf.0.to_vec()),
            expected: self.expected.to_bytes(),
            stored: self.stored.to_bytes(),
            label,
            label_n: label_n.unwrap_or_default(),
        };
        kept.encode_to_vec()
    }

    /// Reads [`Self::to_bytes`]; `None`: it is something else, and the round starts over.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let kept = Kept::decode(bytes).ok()?;
        let last_leaf = kept.last_leaf.as_deref().map(Hash::try_from).transpose();
        let place = Self {
            size: kept.size,
            root: Hash::try_from(kept.root.as_slice()).ok()?,
            done: Frontier::from_bytes(&kept.done).ok()?,
            last_leaf: last_leaf.ok()?,
            expected: LabelSum::from_bytes(&kept.expected)?,
            stored: LabelSum::from_bytes(&kept.stored)?,
            label: kept.label.map(|label| (label, kept.label_n)),
        };
        let done = place.done.size();
        let at_bundle = done == place.size || done < place.size && done.is_multiple_of(BUNDLE);
        at_bundle.then_some(place)
    }
}

impl Log {
    /// Goes on with a round, or begins one: at most so many bundles of 256 entries. What does not fit is looked at a second time;
    /// what then still does not fit stops the log: nothing is signed on top of it until somebody has looked. Nothing is repaired, but that a
    /// file that the published copy has lost is put back, which is counted ([`crate::EngineCounts::copy_files_mended`]).
    ///
    /// # Errors
    /// [`EngineError::Damaged`] with what does not fit; the round starts over once the log goes on. Otherwise when the database or the
    /// copy cannot be read: the same step can be done again.
    pub async fn scrub(
        &self,
        place: Option<&ScrubPlace>,
        bundles: u64,
        copy: Option<&Publication>,
    ) -> Result<ScrubStep, EngineError> {
        let origin = &self.info().origin;
        let step = async || {
            let done = step(self, place, bundles, copy).await;
            done.map_err(|error| error.in_log(origin))
        };
        let first = step().await;
        let Err(EngineError::Damaged { reason, .. }) = first else {
            return first;
        };
        tracing::warn!(
            origin,
            reason,
            "scrubbing found what does not fit, and looks again"
        );
        let second = step().await;
        if let Err(error @ EngineError::Damaged { .. }) = &second {
            self.stop(error).await?;
        }
        second
    }
}

async fn step(
    log: &Log,
    place: Option<&ScrubPlace>,
    bundles: u64,
    copy: Option<&Publication>,
) -> Result<ScrubStep, EngineError> {
    let (shared, info) = (log.shared(), log.info());
    let place = match place {
        Some(place) => place.clone(),
        None => begin(shared, info).await?,
    };
    let copy = match copy {
        Some(copy) => open(copy, info).await?,
        None => None,
    };
    let mut round = Round {
        log,
        shared,
        info,
        place,
        copy,
    };
    round.entries(bundles).await?;
    if round.place.done.size() < round.place.size {
        return Ok(ScrubStep::Going(round.place));
    }
    if !round.labels(bundles).await? {
        return Ok(ScrubStep::Going(round.place));
    }
    round.end().await.map(ScrubStep::Whole)
}

/// A round up to the newest head.
async fn begin(shared: &Shared, info: &LogInfo) -> Result<ScrubPlace, EngineError> {
    let damaged = |reason: &str| EngineError::damaged(&info.origin, reason);
    let (head, _) = shared.store.head(info).await?;
    let signed = checkpoint::open(head.checkpoint.as_bytes(), &info.vkey, &[])
        .map_err(|error| damaged(&error.to_string()))?;
    if (signed.checkpoint.size, signed.checkpoint.root) != (head.size, head.root) {
        return Err(damaged("its head is not what its checkpoint says"));
    }
    Ok(ScrubPlace {
        size: head.size,
        root: head.root,
        done: Frontier::new(),
        last_leaf: None,
        expected: LabelSum::default(),
        stored: LabelSum::default(),
        label: None,
    })
}

/// The copy to compare with; `None`: the log was not published yet.
async fn open<'a>(
    copy: &'a Publication,
    info: &'a LogInfo,
) -> Result<Option<CopyCheck<'a>>, EngineError> {
    if copy.checkpoint(&info.tenant).await?.is_none() {
        return Ok(None);
    }
    let opened = CopyCheck::open(copy, info).await?;
    opened
        .map(|copy| Some(copy.mending()))
        .map_err(|problem| EngineError::damaged(&info.origin, problem))
}

/// A step of a round.
struct Round<'a> {
    log: &'a Log,
    shared: &'a Shared,
    info: &'a LogInfo,
    place: ScrubPlace,
    copy: Option<CopyCheck<'a>>,
}

impl Round<'_> {
    fn damaged(&self, reason: impl Into<String>) -> EngineError {
        EngineError::damaged(&self.info.origin, reason)
    }

    /// The next entries, by bundles.
    async fn entries(&mut self, bundles: u64) -> Result<(), EngineError> {
        for _ in 0..bundles {
            let from = self.place.done.size();
            let end = self.place.size.min(from + BUNDLE);
            if from == end {
                break;
            }
            // Reading hashes every entry.
            let limit = u32::try_from(BUNDLE).unwrap_or(u32::MAX);
            let entries = self.log.entries(from, end, limit).await?;
            if entries.len() as u64 != end - from {
                return Err(self.damaged(format!("entries are missing from {from} on")));
            }
            let mut labels = Vec::with_capacity(WIDTH);
            for (index, stored) in (from..).zip(&entries) {
                check_link(self.info, stored, index, self.place.last_leaf)?;
                labels.push(Arc::new(self.check_columns(stored)?));
                self.place.last_leaf = Some(stored.leaf_hash);
                self.place.done.push(stored.leaf_hash);
            }
            if entries.len() == WIDTH {
                let n = from / BUNDLE;
                label_rows(n, &labels)
                    .iter()
                    .for_each(|row| self.place.expected.add(row));
                self.compare_bundle(n, &entries).await?;
                let leaves = entries.iter().map(|stored| stored.leaf_hash).collect();
                self.compare_tiles(n, leaves).await?;
                self.mend().await?;
            }
        }
        Ok(())
    }

    /// What an entry is found by must be what it says.
    fn check_columns(&self, stored: &StoredEntry) -> Result<Labels, EngineError> {
        let unread = |error: &dyn std::fmt::Display| {
            self.damaged(format!("entry {}: {error}", stored.index))
        };
        let entry = decode_entry(&stored.bytes).map_err(|error| unread(&error))?;
        let record = decode_record(&entry.record).map_err(|error| unread(&error))?;
        let says_the_same = stored.record_hash == record_hash(&entry.record)
            && stored.record_type == record.r#type
            && stored.record_id.as_slice() == record.record_id
            && stored.stream == record.stream;
        if says_the_same {
            Ok(Labels::of(&record))
        } else {
            Err(unread(&"its columns say something else than its record"))
        }
    }

    /// Compares a full bundle with the copy's, if the copy is that far.
    async fn compare_bundle(&mut self, n: u64, entries: &[StoredEntry]) -> Result<(), EngineError> {
        let first = n * BUNDLE;
        if let Some(copy) = &mut self.copy
            && !copy.is_behind(first + BUNDLE)
        {
            for (size, stored) in (first + 1..).zip(entries) {
                copy.take(&stored.bytes, size).await?;
            }
        }
        self.told_by_copy()
    }

    /// Rebuilds the tile of a full bundle, and finds it in all tiles above.
    async fn compare_tiles(&mut self, n: u64, leaves: Vec<Hash>) -> Result<(), EngineError> {
        let mut above = root(&leaves);
        let mut tile = FullTile {
            level: 0,
            n,
            hashes: leaves,
        };
        loop {
            if tile.level == 0 {
                let stored = self.stored(0, n).await?;
                if stored != tile.hashes {
                    return Err(self.damaged(format!("tile 0/{n} is not that of the entries")));
                }
            }
            if let Some(copy) = &mut self.copy {
                copy.full_tile(&tile).await?;
            }
            self.told_by_copy()?;
            let (level, upper) = (tile.level + 1, tile.n / BUNDLE);
            let place = usize::try_from(tile.n % BUNDLE).unwrap_or(WIDTH);
            let stored = self.stored(level, upper).await?;
            if stored.get(place) != Some(&above) {
                let found = format!("tile {level}/{upper} is not that of the entries");
                return Err(self.damaged(found));
            }
            if place + 1 < WIDTH {
                return Ok(());
            }
            above = root(&stored);
            tile = FullTile {
                level,
                n: upper,
                hashes: stored,
            };
        }
    }

    /// The hashes of a stored tile; none when it is not there, or is no tile.
    async fn stored(&self, level: u8, n: u64) -> Result<Vec<Hash>, EngineError> {
        let bytes = self.shared.store.tile(self.info.id, level, n).await?;
        let bytes = bytes.unwrap_or_default();
        let width = u16::try_from(bytes.len() / 32).unwrap_or_default();
        Ok(decode_hashes(&bytes, width).unwrap_or_default())
    }

    fn told_by_copy(&mut self) -> Result<(), EngineError> {
        let found = self.copy.as_mut().and_then(|copy| copy.problems.pop());
        found.map_or(Ok(()), |problem| Err(self.damaged(problem)))
    }

    /// Puts back what the copy has lost of the bundle that was just compared, and only what was signed.
    async fn mend(&mut self) -> Result<(), EngineError> {
        if !self.copy.as_ref().is_some_and(CopyCheck::misses) {
            return Ok(());
        }
        let (head, _) = self.shared.store.head(self.info).await?;
        let signed = checkpoint::open(head.checkpoint.as_bytes(), &self.info.vkey, &[]);
        let signed = signed.map_err(|error| self.damaged(error.to_string()))?;
        let (size, root) = (self.place.done.size(), self.place.done.root());
        let is_signed = (signed.checkpoint.size, signed.checkpoint.root) == (head.size, head.root)
            && prove::root_at(self.shared, self.info, size, &head).await? == root;
        if !is_signed {
            return Err(self.damaged("the entries do not hash to what was signed"));
        }
        if let Some(copy) = &mut self.copy {
            let mended = copy.mend(self.log, &head).await?;
            self.shared.meters.copy_mended(mended);
        }
        Ok(())
    }

    /// The next rows of labels; whether these were the last.
    async fn labels(&mut self, pages: u64) -> Result<bool, EngineError> {
        let full = self.place.size / BUNDLE;
        for _ in 0..pages {
            let last = self.place.label.take().map(|(label, n)| LabelRow {
                label,
                n,
                places: Vec::new(),
            });
            let store = &self.shared.store;
            let rows = store
                .label_rows(self.info.id, last.as_ref(), LABELS_PAGE)
                .await?;
            // The log may have grown since the round began.
            rows.iter()
                .filter(|row| row.is_below(full))
                .for_each(|row| self.place.stored.add(row));
            match rows.into_iter().next_back() {
                Some(row) => self.place.label = Some((row.label, row.n)),
                None => {
                    let last = store.last_subjects(self.info.id, full / RUN).await?;
                    self.place.stored.add_last(&last, full / RUN, full);
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// All of it must be what was signed, and what the log still goes on from.
    async fn end(self) -> Result<Scrubbed, EngineError> {
        let (size, root) = (self.place.size, self.place.done.root());
        if root != self.place.root {
            return Err(self.damaged("the entries do not hash to the head's root"));
        }
        if self.place.stored != self.place.expected {
            return Err(self.damaged("the stored labels are not those of the entries"));
        }
        let (head, _) = self.shared.store.head(self.info).await?;
        if head.size < size {
            let reason = format!("its head fell back from {size} to {} entries", head.size);
            return Err(self.damaged(reason));
        }
        if prove::root_at(self.shared, self.info, size, &head).await? != root {
            return Err(self.damaged("its head does not extend the entries"));
        }
        let tiles = (1..=8_u32).map(|level| size.checked_shr(level * 8).unwrap_or(0));
        Ok(Scrubbed {
            size,
            root,
            tiles: tiles.sum(),
        })
    }
}
