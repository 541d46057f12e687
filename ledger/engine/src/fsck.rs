//! The full check of a log: everything that is stored is recomputed from the entries' bytes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use counterfoil_evidence::record::{decode_entry, decode_record, record_hash, signed_message};
use counterfoil_evidence::v1::{Entry, Record};
use counterfoil_tlog::merkle::Frontier;
use counterfoil_tlog::signature::{SignedMessage, verify_batch};
use counterfoil_tlog::tile::encode_hashes;
use counterfoil_tlog::{Hash, TlogProof, checkpoint};

use crate::admission::read_payload;
use crate::copy_check::CopyCheck;
use crate::engine::Shared;
use crate::epochs::AnchoredHead;
use crate::kept::KeptReceipt;
use crate::key_book::KeyBook;
use crate::labels::{BUNDLE, LabelRow, LabelSum, Labels, RUN, label_rows};
use crate::model::{StoredEntry, StreamHead};
use crate::sequencer::check_link;
use crate::state::{FullTile, TileEdge};
use crate::{EngineError, Log, LogInfo, Publication, prove};

/// Entries read at once.
const PAGE: u32 = 512;

/// Heads that epochs have, read at once.
const ANCHORED_PAGE: u32 = 1024;

/// Rows of labels read at once: of a subject that every record has, one is some 40 KiB.
const LABELS_PAGE: u32 = 64;

/// Most problems that are listed; a damaged log has one a row.
const PROBLEMS_MAX: usize = 1000;

/// Something that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsckProblem {
    /// At which entry, if at one.
    pub index: Option<u64>,
    /// What.
    pub what: String,
}

/// What a full check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsckReport {
    /// Entries of the head that was checked.
    pub size: u64,
    /// Root recomputed from the entries.
    pub root: Hash,
    /// What does not fit; empty when the log is whole. At most 1,000.
    pub problems: Vec<FsckProblem>,
}

impl FsckReport {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// The log as its entries tell it.
struct Replay<'a> {
    info: &'a LogInfo,
    frontier: Frontier,
    edge: TileEdge,
    full: Vec<FullTile>,
    previous: Option<Hash>,
    recorded_at_ms: i64,
    streams: BTreeMap<String, StreamHead>,
    /// What the entries of the growing bundle are found by.
    growing: Vec<Arc<Labels>>,
    labels: LabelSum,
    keys: KeyBook,
    signed: Vec<Signed>,
    problems: Vec<FsckProblem>,
    copy: Option<CopyCheck<'a>>,
    /// Heads of the log that epochs have, in order of epochs, as far as they are read; and whether these are all.
    anchored: VecDeque<(u64, AnchoredHead)>,
    anchored_until: Option<u64>,
}

/// A signature to verify with others.
struct Signed {
    index: u64,
    key: [u8; 32],
    message: Vec<u8>,
    signature: Vec<u8>,
}

/// Checks a log, and its published copy if there is one to compare with; `progress` is told how many entries are read, and of how many.
pub(crate) async fn check(
    shared: &Shared,
    log: &Log,
    copy: Option<&Publication>,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<FsckReport, EngineError> {
    let info = log.info();
    let mut replay = Replay::new(info);
    let head = shared.store.head(info).await;
    let Some((head, frontier)) = replay.readable(head)? else {
        // What the log should be nobody says.
        return Ok(FsckReport {
            size: 0,
            root: replay.frontier.root(),
            problems: replay.problems,
        });
    };
    if let Some(copy) = copy {
        match CopyCheck::open(copy, info).await? {
            Ok(copy) => replay.copy = Some(copy),
            Err(problem) => replay.report(None, problem),
        }
    }
    replay.read(shared, log, head.size, progress).await?;
    let root = replay.frontier.root();
    if root != head.root {
        replay.report(None, "the entries do not hash to the head's root");
    }
    if replay.frontier.to_bytes() != frontier {
        replay.report(None, "the head's frontier is not that of the entries");
    }
    match checkpoint::open(head.checkpoint.as_bytes(), &info.vkey, &[]) {
        Ok(signed)
            if (signed.checkpoint.size, signed.checkpoint.root) == (head.size, head.root) => {}
        Ok(_) => replay.report(None, "the checkpoint is of another head"),
        Err(error) => replay.report(None, error.to_string()),
    }
    if replay.recorded_at_ms != head.recorded_at_ms {
        replay.report(None, "the head has another time than the last entry");
    }
    let evicted = shared.store.evicted_otherwise(info.id).await;
    if replay.readable(evicted)?.is_some_and(|others| others > 0) {
        replay.report(None, "other entries have left the database than it says");
    }
    replay.close_anchored(shared).await?;
    let cosignatures = log.bad_cosignatures().await;
    for found in replay.readable(cosignatures)?.unwrap_or_default() {
        replay.report(None, found);
    }
    replay.check_growing_tiles(shared).await?;
    replay.check_indexes(shared).await?;
    replay.close_copy(shared, log).await?;
    Ok(FsckReport {
        size: head.size,
        root,
        problems: replay.problems,
    })
}

impl Log {
    /// Compares a receipt that somebody kept with the log; `proof` is its C2SP tlog-proof, if that was kept too. What does not fit; `None`:
    /// the log still holds what was acknowledged.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn check_receipt(
        &self,
        receipt: &KeptReceipt,
        proof: Option<&[u8]>,
    ) -> Result<Option<String>, EngineError> {
        let info = self.info();
        let head = self.head().await?;
        let there = match self.entry(receipt.index).await {
            Ok(there) => there,
            Err(EngineError::Damaged { reason, .. }) => return Ok(Some(reason)),
            Err(error) => return Err(error),
        };
        let Some(there) = there else {
            let found = "it was acknowledged, and the log ends before it";
            return Ok(Some(found.to_owned()));
        };
        if there.leaf_hash != receipt.leaf_hash {
            let found = "another record was acknowledged there";
            return Ok(Some(found.to_owned()));
        }
        let Some(proof) = proof else { return Ok(None) };
        let opened = TlogProof::parse(&String::from_utf8_lossy(proof));
        let opened = opened.and_then(|proof| {
            let signed = proof.verify(&receipt.leaf_hash, &info.vkey, &[])?;
            Ok((proof.index, signed.checkpoint))
        });
        let (index, signed) = match opened {
            Ok(opened) => opened,
            Err(error) => return Ok(Some(format!("its receipt: {error}"))),
        };
        if index != receipt.index {
            return Ok(Some("its receipt is of another entry".to_owned()));
        }
        if signed.size > head.size {
            return Ok(Some(format!(
                "its receipt has a checkpoint of {} entries, the log has {}",
                signed.size, head.size
            )));
        }
        let same = prove::root_at(self.shared(), info, signed.size, &head).await? == signed.root;
        Ok(
            (!same)
                .then(|| "the checkpoint of its receipt is not of this log's history".to_owned()),
        )
    }
}

impl<'a> Replay<'a> {
    fn new(info: &'a LogInfo) -> Self {
        Self {
            info,
            frontier: Frontier::new(),
            edge: TileEdge::default(),
            full: Vec::new(),
            previous: None,
            recorded_at_ms: 0,
            streams: BTreeMap::new(),
            growing: Vec::new(),
            labels: LabelSum::default(),
            keys: KeyBook::new(&info.registrar),
            signed: Vec::new(),
            problems: Vec::new(),
            copy: None,
            anchored: VecDeque::new(),
            anchored_until: Some(0),
        }
    }

    async fn read(
        &mut self,
        shared: &Shared,
        log: &Log,
        size: u64,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<(), EngineError> {
        self.compare_edge().await?;
        self.compare_anchored(shared).await?;
        let mut next = 0;
        while next < size {
            let page = log.entries(next, size, PAGE).await;
            let Some(page) = self.readable(page)? else {
                // Nothing that follows can be placed in the tree.
                break;
            };
            if page.is_empty() {
                self.report(Some(next), "entries are missing from here on");
                break;
            }
            for stored in &page {
                self.take(stored, next);
                next += 1;
                if let Some(copy) = &mut self.copy {
                    copy.take(&stored.bytes, next).await?;
                }
                self.compare_edge().await?;
                self.compare_anchored(shared).await?;
            }
            self.check_signatures();
            self.check_full_tiles(shared).await?;
            progress(next, size);
        }
        Ok(())
    }

    /// Compares the copy with the log as it was at the copy's size.
    async fn compare_edge(&mut self) -> Result<(), EngineError> {
        match &mut self.copy {
            Some(copy) if copy.is_of_size(self.frontier.size()) => {
                let root = self.frontier.root();
                copy.right_edge(root, &self.edge).await
            }
            _ => Ok(()),
        }
    }

    /// Compares the heads that epochs have of the log with the log as it was at their sizes.
    async fn compare_anchored(&mut self, shared: &Shared) -> Result<(), EngineError> {
        loop {
            if let (true, Some(after)) = (self.anchored.is_empty(), self.anchored_until) {
                let store = &shared.store;
                let page = store
                    .anchored_heads_of(self.info, after, ANCHORED_PAGE)
                    .await;
                let page = self.readable(page)?.unwrap_or_default();
                self.anchored_until = page.last().map(|(epoch, _)| *epoch);
                self.anchored.extend(page);
            }
            let size = self.frontier.size();
            let Some((epoch, head)) = self.anchored.pop_front_if(|(_, head)| head.size <= size)
            else {
                return Ok(());
            };
            if (head.size, head.root) != (size, self.frontier.root()) {
                self.report_anchored(epoch, &head);
            }
        }
    }

    /// Of what is left, the log must have grown meanwhile.
    async fn close_anchored(&mut self, shared: &Shared) -> Result<(), EngineError> {
        let (head, _) = shared.store.head(self.info).await?;
        for (epoch, anchored) in std::mem::take(&mut self.anchored) {
            if anchored.size > head.size {
                self.report_anchored(epoch, &anchored);
            }
        }
        Ok(())
    }

    fn report_anchored(&mut self, epoch: u64, anchored: &AnchoredHead) {
        let size = anchored.size;
        let found = format!("epoch {epoch} has a head of {size} entries that is not this log's");
        self.report(None, found);
    }

    /// Takes over what was found in the copy. Ahead of the log it is damage, unless the log grew and was published meanwhile.
    async fn close_copy(&mut self, shared: &Shared, log: &Log) -> Result<(), EngineError> {
        let Some(mut copy) = self.copy.take() else {
            return Ok(());
        };
        copy.narrower(log).await?;
        let (head, _) = shared.store.head(self.info).await?;
        if copy.is_ahead_of(head.size) {
            self.report(None, "the copy has more entries than the log");
        }
        for problem in copy.problems {
            self.report(None, problem);
        }
        Ok(())
    }

    /// What was read, or `None` where that is no log's: then it is reported, and the other findings are not lost by it.
    fn readable<T>(&mut self, read: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
        match read.map_err(|error| error.in_log(&self.info.origin)) {
            Ok(read) => Ok(Some(read)),
            Err(EngineError::Damaged { reason, .. }) => {
                self.report(None, reason);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn report(&mut self, index: Option<u64>, what: impl Into<String>) {
        if self.problems.len() < PROBLEMS_MAX {
            let what = what.into();
            self.problems.push(FsckProblem { index, what });
        }
    }

    /// Takes the next entry; its bytes have been compared with its leaf hash.
    fn take(&mut self, stored: &StoredEntry, index: u64) {
        if let Err(EngineError::Damaged { reason, .. }) =
            check_link(self.info, stored, index, self.previous)
        {
            self.report(Some(index), reason);
        }
        self.previous = Some(stored.leaf_hash);
        self.frontier.push(stored.leaf_hash);
        self.edge.push(stored.leaf_hash, &mut self.full);
        let Ok(entry) = decode_entry(&stored.bytes) else {
            return;
        };
        if entry.recorded_at_ms < self.recorded_at_ms {
            self.report(Some(index), "it was recorded before the entry before it");
        }
        self.recorded_at_ms = self.recorded_at_ms.max(entry.recorded_at_ms);
        match decode_record(&entry.record) {
            Ok(record) => self.take_record(stored, index, &entry, &record),
            Err(error) => self.report(Some(index), error.to_string()),
        }
    }

    fn take_record(&mut self, stored: &StoredEntry, index: u64, entry: &Entry, record: &Record) {
        let hash = record_hash(&entry.record);
        let says_the_same = stored.record_hash == hash
            && stored.record_type == record.r#type
            && stored.record_id.as_slice() == record.record_id
            && stored.stream == record.stream;
        if !says_the_same {
            self.report(
                Some(index),
                "its columns say something else than its record",
            );
        }
        self.growing.push(Arc::new(Labels::of(record)));
        if (index + 1).is_multiple_of(BUNDLE) {
            for row in label_rows(index / BUNDLE, &std::mem::take(&mut self.growing)) {
                self.labels.add(&row);
            }
        }
        let key_id = &entry.record_key_id;
        let key = self
            .keys
            .allowed(key_id, &record.stream, entry.recorded_at_ms)
            .copied();
        match key {
            Ok(key) => self.signed.push(Signed {
                index,
                key,
                message: signed_message(&entry.record),
                signature: entry.record_signature.clone(),
            }),
            Err(refusal) => self.report(Some(index), refusal.to_string()),
        }
        let last = self
            .streams
            .entry(record.stream.clone())
            .or_insert(StreamHead::EMPTY);
        let follows = record.stream_seq == last.last_seq + 1
            && record.prev_record_hash == last.last_record_hash;
        *last = StreamHead {
            last_seq: record.stream_seq,
            last_record_hash: hash,
        };
        if !follows {
            self.report(
                Some(index),
                "it does not follow the last record of its stream",
            );
        }
        match read_payload(record) {
            Ok(Some(event)) => self.keys.apply(&event),
            Ok(None) => {}
            Err(refusal) => self.report(Some(index), refusal.to_string()),
        }
    }

    fn check_signatures(&mut self) {
        let signed = std::mem::take(&mut self.signed);
        let items: Vec<SignedMessage<'_>> = signed
            .iter()
            .map(|one| (&one.key, one.message.as_slice(), one.signature.as_slice()))
            .collect();
        for position in verify_batch(&items).err().unwrap_or_default() {
            let index = signed.get(position).map(|one| one.index);
            self.report(index, "its producer's signature does not verify");
        }
    }

    async fn check_full_tiles(&mut self, shared: &Shared) -> Result<(), EngineError> {
        for tile in std::mem::take(&mut self.full) {
            if let Some(copy) = &mut self.copy {
                copy.full_tile(&tile).await?;
            }
            self.check_tile(shared, tile.level, tile.n, &tile.hashes)
                .await?;
        }
        Ok(())
    }

    async fn check_growing_tiles(&mut self, shared: &Shared) -> Result<(), EngineError> {
        for level in 1..self.edge.heights() {
            let hashes = self.edge.partial(level).to_vec();
            if !hashes.is_empty() {
                let n = self.edge.partial_index(level);
                self.check_tile(shared, level, n, &hashes).await?;
            }
        }
        Ok(())
    }

    async fn check_tile(
        &mut self,
        shared: &Shared,
        level: u8,
        n: u64,
        hashes: &[Hash],
    ) -> Result<(), EngineError> {
        let stored = shared.store.tile(self.info.id, level, n).await;
        let stored = self.readable(stored)?.flatten();
        let expected = encode_hashes(hashes).unwrap_or_default();
        // Another batch may have widened a growing tile meanwhile.
        if !stored.is_some_and(|stored| stored.starts_with(&expected)) {
            self.report(None, format!("tile {level}/{n} is not that of the entries"));
        }
        Ok(())
    }

    /// What the stored rows sum up to.
    async fn stored_labels(&self, shared: &Shared) -> Result<LabelSum, EngineError> {
        let mut sum = LabelSum::default();
        let run = self.frontier.size() / BUNDLE / RUN;
        let last = shared.store.last_subjects(self.info.id, run).await?;
        // The rows of the run itself are read below, where they should not be.
        sum.add_last(&last, run, u64::MAX);
        let mut last: Option<LabelRow> = None;
        loop {
            let page = shared
                .store
                .label_rows(self.info.id, last.as_ref(), LABELS_PAGE);
            let rows = page.await?;
            rows.iter().for_each(|row| sum.add(row));
            match rows.into_iter().next_back() {
                Some(row) => last = Some(row),
                None => return Ok(sum),
            }
        }
    }

    /// Streams, keys and labels are derived: they must be what the entries say, unless the log grew meanwhile.
    async fn check_indexes(&mut self, shared: &Shared) -> Result<(), EngineError> {
        let streams = shared.store.streams(self.info.id).await;
        let streams = self.readable(streams)?;
        let keys = shared.store.key_book(self.info).await;
        let keys = self.readable(keys)?;
        let labels = self.stored_labels(shared).await;
        let labels = self.readable(labels)?;
        let (head, _) = shared.store.head(self.info).await?;
        if head.size != self.frontier.size() {
            return Ok(());
        }
        if streams.is_some_and(|stored| stored != self.streams) {
            self.report(None, "the stored stream heads are not those of the entries");
        }
        if labels.is_some_and(|stored| stored != self.labels) {
            self.report(None, "the stored labels are not those of the entries");
        }
        if keys.is_some_and(|stored| stored != self.keys) {
            self.report(None, "the stored keys are not those of the entries");
        }
        Ok(())
    }
}
