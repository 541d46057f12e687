//! One tenant's log: appending to it and reading it.

use std::sync::Arc;

use counterfoil_evidence::record::decode_entry;
use counterfoil_tlog::Hash;
use counterfoil_tlog::checkpoint::Checkpoint;
use counterfoil_tlog::tile::{TileKind, TilePath, encode_entries, encode_hashes};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use crate::admission::admit;
use crate::engine::{Inner, Shared};
use crate::export::Export;
use crate::faults::{self, FaultPoint};
use crate::fsck::{self, FsckReport};
use crate::labels::{Label, subject_key};
use crate::model::{Head, LogInfo, Outcome, SignedRecord, StoredEntry, StreamHead, TypeCount};
use crate::sequencer::{Reply, Submission};
use crate::{EngineError, Publication, prove};

/// What a waiting record costs beside its bytes.
const RECORD_OVERHEAD_BYTES: usize = 512;

/// Submissions up to this are checked in the caller's task: handing them to another thread costs more than checking them.
const INLINE_RECORDS_MAX: usize = 16;
const INLINE_BYTES_MAX: usize = 64 << 10;

/// Beyond every entry: positions are signed 64-bit numbers in the database.
const INDEX_MAX: u64 = i64::MAX.unsigned_abs();

/// When a refused caller may try again: about as long as a batch takes.
const RETRY_AFTER_MS: u64 = 50;

/// Which entries are listed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EntryFilter {
    /// Only records of this type (full name).
    pub record_type: Option<String>,
    /// Only records of this stream.
    pub stream: Option<String>,
    /// Only records with this subject.
    pub subject: Option<String>,
}

/// One tenant's log. Clones are the same log.
#[derive(Debug, Clone)]
pub struct Log {
    inner: Arc<Inner>,
    info: Arc<LogInfo>,
}

/// An append that is on its way.
#[derive(Debug)]
pub struct Pending {
    answer: oneshot::Receiver<Result<Vec<Outcome>, EngineError>>,
}

impl Pending {
    /// One outcome a record, when everything accepted is durable.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn outcomes(self) -> Result<Vec<Outcome>, EngineError> {
        self.answer.await.map_err(|_| EngineError::Closed)?
    }
}

impl Log {
    pub(crate) fn new(inner: Arc<Inner>, info: Arc<LogInfo>) -> Self {
        Self { inner, info }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    pub(crate) fn shared_info(&self) -> &Arc<LogInfo> {
        &self.info
    }

    /// What never changes about it.
    #[must_use]
    pub fn info(&self) -> &LogInfo {
        &self.info
    }

    /// Appends records in this order; one outcome each, given when everything accepted is durable.
    ///
    /// A refused record does not take the others with it, but those that follow it in its stream are refused as gaps.
    ///
    /// # Errors
    /// [`EngineError::Overloaded`] when too much waits; [`EngineError::Storage`] when it is open what became durable: append
    /// again, nothing is logged twice.
    pub async fn append(&self, records: Vec<SignedRecord>) -> Result<Vec<Outcome>, EngineError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let (cost, _) = self.cost(&records)?;
        let share = Arc::clone(&self.inner.room).try_acquire_many_owned(cost);
        let overloaded = |_| {
            self.inner.shared.meters.overloaded();
            EngineError::Overloaded {
                retry_after_ms: RETRY_AFTER_MS,
            }
        };
        let share = share.map_err(overloaded)?;
        self.submit(records, share).await?.outcomes().await
    }

    /// As [`Log::append`] in two steps: what is begun one after the other is sequenced in this order, and the outcomes can be awaited
    /// later. Where too much waits, this waits for room instead of refusing.
    ///
    /// # Errors
    /// As [`Log::append`], but for [`EngineError::Overloaded`].
    pub async fn begin_append(&self, records: Vec<SignedRecord>) -> Result<Pending, EngineError> {
        let (cost, most) = self.cost(&records)?;
        let room = Arc::clone(&self.inner.room);
        // What is larger than all the room there is could wait for ever.
        let share = room.acquire_many_owned(cost.min(most)).await;
        self.submit(records, share.map_err(|_| EngineError::Closed)?)
            .await
    }

    /// Bytes of the queue that records take, and how many there are.
    fn cost(&self, records: &[SignedRecord]) -> Result<(u32, u32), EngineError> {
        let options = &self.inner.shared.options;
        let bytes: usize = records.iter().map(|record| record.record.len()).sum();
        let too_large = || EngineError::SubmissionTooLarge {
            records_max: options.batch_records_max,
            bytes_max: options.batch_bytes_max,
        };
        if records.len() > options.batch_records_max || bytes > options.batch_bytes_max {
            return Err(too_large());
        }
        let cost = u32::try_from(bytes + records.len() * RECORD_OVERHEAD_BYTES);
        let most = u32::try_from(options.queue_bytes_max).unwrap_or(u32::MAX);
        Ok((cost.map_err(|_| too_large())?, most))
    }

    /// Checks records and hands them to the sequencer.
    async fn submit(
        &self,
        records: Vec<SignedRecord>,
        share: OwnedSemaphorePermit,
    ) -> Result<Pending, EngineError> {
        let bytes: usize = records.iter().map(|record| record.record.len()).sum();
        let keys = self.inner.shared.key_book(self.info.id);
        let log = Arc::clone(&self.info);
        let records = if records.len() <= INLINE_RECORDS_MAX && bytes <= INLINE_BYTES_MAX {
            admit(&log, keys.as_deref(), records)
        } else {
            tokio::task::spawn_blocking(move || admit(&log, keys.as_deref(), records))
                .await
                .map_err(|_| EngineError::Closed)?
        };
        let (sender, answer) = oneshot::channel();
        self.inner.submit(Submission {
            log: Arc::clone(&self.info),
            records,
            reply: Reply { sender, share },
        })?;
        Ok(Pending { answer })
    }

    /// The newest signed state.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn head(&self) -> Result<Head, EngineError> {
        Ok(self.inner.shared.store.head(&self.info).await?.0)
    }

    /// The signed checkpoint at a size that the log has had: the very bytes that were or would have been signed then.
    ///
    /// # Errors
    /// [`EngineError::OutOfRange`] beyond the newest size.
    pub async fn checkpoint_at(&self, size: u64) -> Result<String, EngineError> {
        let head = self.head().await?;
        self.sign_prefix(size, &head).await
    }

    /// The state at a size that the log has had, proved to be a prefix of the newest one.
    ///
    /// # Errors
    /// As [`Log::checkpoint_at`].
    pub async fn head_at(&self, size: u64) -> Result<Head, EngineError> {
        let head = self.head().await?;
        let root = prove::root_at(&self.inner.shared, &self.info, size, &head).await?;
        let last = match size.checked_sub(1) {
            Some(index) => self.entry(index).await?,
            None => None,
        };
        let recorded_at_ms = match last {
            Some(entry) => {
                decode_entry(&entry.bytes)
                    .map_err(|error| EngineError::damaged(&self.info.origin, error.to_string()))?
                    .recorded_at_ms
            }
            None => 0,
        };
        let checkpoint = self.sign_prefix(size, &head).await?;
        Ok(Head {
            size,
            root,
            checkpoint,
            recorded_at_ms,
        })
    }

    async fn sign_prefix(&self, size: u64, head: &Head) -> Result<String, EngineError> {
        if size == head.size {
            return Ok(head.checkpoint.clone());
        }
        // Proved to be a prefix of the committed head, so this can contradict nothing that was signed.
        let root = prove::root_at(&self.inner.shared, &self.info, size, head).await?;
        let key_error = |reason: String| EngineError::Key {
            origin: self.info.origin.clone(),
            reason,
        };
        let signer = self
            .inner
            .shared
            .keys
            .find(&self.info.origin)
            .map_err(|error| key_error(error.to_string()))?
            .filter(|signer| *signer.verifier_key() == self.info.vkey)
            .ok_or_else(|| key_error("it is not here".to_owned()))?;
        let checkpoint = Checkpoint {
            origin: self.info.origin.clone(),
            size,
            root,
        };
        checkpoint
            .sign(&signer)
            .map_err(|error| key_error(error.to_string()))
    }

    /// One entry.
    ///
    /// # Errors
    /// When the database cannot be read, or the entry is damaged.
    pub async fn entry(&self, index: u64) -> Result<Option<StoredEntry>, EngineError> {
        let end = index.saturating_add(1);
        Ok(self.entries(index, end, 1).await?.pop())
    }

    /// The entry of a record.
    ///
    /// # Errors
    /// As [`Log::entry`].
    pub async fn entry_by_record(
        &self,
        record_id: &[u8; 16],
    ) -> Result<Option<StoredEntry>, EngineError> {
        self.inner
            .shared
            .store
            .entry_by_record(&self.info, record_id)
            .await
    }

    /// At most `limit` entries of the range `from..end`.
    ///
    /// # Errors
    /// As [`Log::entry`].
    pub async fn entries(
        &self,
        from: u64,
        end: u64,
        limit: u32,
    ) -> Result<Vec<StoredEntry>, EngineError> {
        let range = from.min(INDEX_MAX)..end.min(INDEX_MAX);
        let store = &self.inner.shared.store;
        store.entries(&self.info, range, limit).await
    }

    /// At most `limit` entries of the range that the filter lets pass, in order of the log.
    ///
    /// # Errors
    /// As [`Log::entry`].
    pub async fn list(
        &self,
        filter: &EntryFilter,
        from: u64,
        end: u64,
        limit: u32,
    ) -> Result<Vec<StoredEntry>, EngineError> {
        let subject = filter.subject.as_deref().map(subject_key);
        // The one that few entries have comes first: it is searched by.
        let labels: Vec<Label<'_>> = [
            subject.as_ref().map(Label::Subject),
            filter.record_type.as_deref().map(Label::Type),
            filter.stream.as_deref().map(Label::Stream),
        ]
        .into_iter()
        .flatten()
        .collect();
        if labels.is_empty() {
            return self.entries(from, end, limit).await;
        }
        let range = from.min(INDEX_MAX)..end.min(INDEX_MAX);
        let store = &self.inner.shared.store;
        store.labelled(&self.info, &labels, range, limit).await
    }

    /// The last record of a stream.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn stream_head(&self, stream: &str) -> Result<StreamHead, EngineError> {
        let streams = self.inner.shared.store.streams(self.info.id).await?;
        Ok(streams.get(stream).copied().unwrap_or(StreamHead::EMPTY))
    }

    /// The last entry of each stream below a size, ascending by stream.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn last_of_streams(
        &self,
        size: u64,
    ) -> Result<Vec<(String, StoredEntry)>, EngineError> {
        let store = &self.inner.shared.store;
        let mut last = Vec::new();
        for stream in store.streams(self.info.id).await?.into_keys() {
            let label = Label::Stream(&stream);
            if let Some(entry) = store.last_labelled(&self.info, label, size).await? {
                last.push((stream, entry));
            }
        }
        Ok(last)
    }

    /// The last entry of a type (full name) below a size.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn last_of_type(
        &self,
        record_type: &str,
        size: u64,
    ) -> Result<Option<StoredEntry>, EngineError> {
        let store = &self.inner.shared.store;
        let label = Label::Type(record_type);
        store.last_labelled(&self.info, label, size).await
    }

    /// How many entries of the range `from..end` have which type, ascending by type.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn type_counts(&self, from: u64, end: u64) -> Result<Vec<TypeCount>, EngineError> {
        let store = &self.inner.shared.store;
        store.type_counts(self.info.id, from..end).await
    }

    /// The receipts of entries under one head, as `c2sp.org/tlog-proof@v1` text, in the order given.
    ///
    /// # Errors
    /// [`EngineError::OutOfRange`] for an entry beyond the head; [`EngineError::Damaged`] when a proof does not verify.
    pub async fn receipts(
        &self,
        head: &Head,
        entries: &[StoredEntry],
    ) -> Result<Vec<String>, EngineError> {
        let entries = entries
            .iter()
            .map(|entry| (entry.index, entry.leaf_hash))
            .collect();
        prove::receipts(&self.inner.shared, &self.info, head, entries).await
    }

    /// The proof that the log at `old_size` is a prefix of the log at `new_size`.
    ///
    /// # Errors
    /// [`EngineError::OutOfRange`] when the sizes are reversed or beyond the log.
    pub async fn consistency(
        &self,
        old_size: u64,
        new_size: u64,
    ) -> Result<Vec<Hash>, EngineError> {
        let size = self.head().await?.size;
        if new_size > size || old_size > new_size {
            let asked = if new_size > size { new_size } else { old_size };
            return Err(EngineError::OutOfRange { asked, size });
        }
        prove::consistency(&self.inner.shared, &self.info, old_size, new_size).await
    }

    /// The bytes of a tile or entry bundle as any size of the log has had it; `None` when the log is not that large.
    ///
    /// # Errors
    /// When the database cannot be read, or what it holds is damaged.
    pub async fn tile(&self, path: &TilePath) -> Result<Option<Vec<u8>>, EngineError> {
        let size = self.head().await?.size;
        self.tile_of(path, size).await
    }

    pub(crate) async fn tile_of(
        &self,
        path: &TilePath,
        size: u64,
    ) -> Result<Option<Vec<u8>>, EngineError> {
        let available = TilePath::in_log(path.kind(), path.index(), size);
        if available.is_none_or(|widest| widest.width() < path.width()) {
            return Ok(None);
        }
        let damaged = |reason: String| EngineError::damaged(&self.info.origin, reason);
        let (start, width) = (path.start(), path.width());
        let bytes = match path.kind() {
            TileKind::Entries => {
                let end = start.saturating_add(u64::from(width));
                let entries = self.entries(start, end, u32::from(width)).await?;
                if entries.len() != usize::from(width) {
                    return Err(damaged(format!("entries are missing from {start} on")));
                }
                let bytes: Vec<&[u8]> =
                    entries.iter().map(|entry| entry.bytes.as_slice()).collect();
                encode_entries(&bytes)
            }
            TileKind::Hashes { level } => {
                let shared = &self.inner.shared;
                let place = (level, path.index());
                let tiles = &shared.tiles;
                let hashes = tiles
                    .hashes(&shared.store, &self.info, place, width)
                    .await?;
                encode_hashes(hashes.get(..usize::from(width)).unwrap_or_default())
            }
        };
        bytes.map(Some).map_err(|error| damaged(error.to_string()))
    }

    /// All files of the log at a size, in the C2SP layout, checkpoint last.
    ///
    /// # Errors
    /// [`EngineError::OutOfRange`] beyond the newest size.
    pub async fn export(&self, size: u64) -> Result<Export, EngineError> {
        let head = self.head().await?;
        if size > head.size {
            return Err(EngineError::OutOfRange {
                asked: size,
                size: head.size,
            });
        }
        let checkpoint = self.cosigned_checkpoint(size).await?;
        Ok(Export::new(self.clone(), size, checkpoint))
    }

    /// Re-hashes everything and compares it with what is stored and signed.
    ///
    /// # Errors
    /// When the database cannot be read; what does not fit is in the report.
    pub async fn fsck(&self) -> Result<FsckReport, EngineError> {
        fsck::check(&self.inner.shared, self, None, &mut |_, _| {}).await
    }

    /// As [`Log::fsck`], and compares the published copy with the log, file by file. `progress` is told how many entries are read, and of how many.
    ///
    /// # Errors
    /// When the database or the object store cannot be read.
    pub async fn fsck_with(
        &self,
        copy: Option<&Publication>,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<FsckReport, EngineError> {
        fsck::check(&self.inner.shared, self, copy, progress).await
    }

    /// Tells of every growth of the log by this process. Others may append too: look at the head from time to time.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.inner.shared.follow(self.info.id)
    }

    /// Why the log is not written any more; `None`: it is.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn stopped(&self) -> Result<Option<String>, EngineError> {
        self.inner.shared.store.stopped(&self.info).await
    }

    /// Stops the log, here and for every replica: nothing is signed for it until somebody has looked.
    pub(crate) async fn stop(&self, why: &EngineError) -> Result<(), EngineError> {
        tracing::error!(origin = self.info.origin, %why, "the log is stopped");
        let shared = &self.inner.shared;
        let why = why.to_string();
        let stop = shared.store.stop(&self.info, &why);
        faults::step(shared.faults.as_ref(), FaultPoint::Stop, stop).await
    }
}
