//! The part of a log that no copy has: its records from their producers, each in its place again.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use counterfoil_evidence::record::decode_record;
use counterfoil_tlog::{Checkpoint, TlogProof, checkpoint};

use super::place::{After, Edge, Gap};
use super::{AT_ONCE, Copied, grow};
use crate::EngineError;
use crate::engine::Shared;
use crate::kept::{KeptReceipt, KeptRecord, KeptRecords};
use crate::model::{LogInfo, SignedRecord};
use crate::state::LogState;
use crate::store::Rebuild;

/// Records read from a producer at once.
const PAGE: u32 = 512;

/// Most ranges of missing entries that a message names.
const RANGES_MAX: usize = 20;

/// The newest head of a log that is known to have been signed.
#[derive(Debug, Clone)]
pub(super) struct Newest {
    pub(super) head: Checkpoint,
    pub(super) note: Vec<u8>,
    /// When, as far as somebody knows.
    at_ms: Option<i64>,
}

/// Asks every anchor, and every producer for the checkpoints in its receipts.
pub(super) async fn newest(
    shared: &Shared,
    info: &LogInfo,
    kept: &[Arc<dyn KeptRecords>],
) -> Result<Option<Newest>, EngineError> {
    let mut newest: Option<Newest> = None;
    let mut take = |who: &str, note: Vec<u8>, at_ms| {
        let signed = checkpoint::open(&note, &info.vkey, &[]).map_err(|error| {
            let reason = format!("{who}: its checkpoint is not this log's: {error}");
            EngineError::damaged(&info.origin, reason)
        })?;
        let head = signed.checkpoint;
        if newest
            .as_ref()
            .is_none_or(|known| known.head.size < head.size)
        {
            newest = Some(Newest { head, note, at_ms });
        }
        Ok::<(), EngineError>(())
    };
    for anchor in &shared.options.anchors {
        match anchor.newest(info).await {
            Ok(Some(note)) => take(&anchor.name(), note, anchor.newest_at_ms(info))?,
            Ok(None) => {}
            Err(error) => tracing::warn!(origin = info.origin, %error, "it was not asked"),
        }
    }
    for records in kept {
        let who = format!("a receipt of stream {}", records.stream());
        for proof in records.newest_proofs().await? {
            let text = String::from_utf8_lossy(&proof);
            let proof = TlogProof::parse(&text)
                .map_err(|error| EngineError::damaged(&info.origin, format!("{who}: {error}")))?;
            take(&who, proof.checkpoint.to_bytes(), None)?;
        }
    }
    Ok(newest)
}

/// Appends again what the producers have, up to the newest head.
pub(super) async fn replay(
    kept: &[Arc<dyn KeptRecords>],
    mut state: LogState,
    newest: &Newest,
    rebuild: &mut Rebuild<'_>,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<LogState, EngineError> {
    let goal = newest.head.size;
    let mut tail = Tail::new(&state, kept, newest);
    let mut waiting: Vec<Copied> = Vec::new();
    while tail.edge.size() < goal {
        for copied in tail.next().await? {
            let new_time = waiting
                .first()
                .is_some_and(|(first, _)| first.recorded_at_ms != copied.0.recorded_at_ms);
            if new_time || waiting.len() == AT_ONCE {
                state = grow(state, std::mem::take(&mut waiting), rebuild).await?;
                progress(state.size, goal);
            }
            waiting.push(copied);
        }
    }
    if !waiting.is_empty() {
        state = grow(state, waiting, rebuild).await?;
        progress(state.size, goal);
    }
    Ok(state)
}

/// What one producer has of the part that is missing.
struct Source<'a> {
    kept: &'a dyn KeptRecords,
    /// The last record of the stream that has its place; 0: none has.
    last_seq: u64,
    /// The records after it, as far as they were read.
    waiting: VecDeque<KeptRecord>,
}

impl Source<'_> {
    /// Reads until `count` records wait, or there are no more.
    async fn fill(&mut self, count: usize) -> Result<(), EngineError> {
        while self.waiting.len() < count {
            let read = self.last_seq + self.waiting.len() as u64;
            let page = self.kept.after(read, PAGE).await?;
            // A number that does not follow: the producer lost a record, and what comes after it has no place.
            let follows = page
                .first()
                .is_some_and(|kept| seq(&kept.signed) == Some(read + 1));
            if !follows {
                return Ok(());
            }
            self.waiting.extend(page);
        }
        Ok(())
    }

    /// The receipt of the next record, if it has one.
    fn receipt(&self) -> Option<&KeptReceipt> {
        self.waiting.front()?.receipt.as_ref()
    }

    /// Goes on after a record that has its place. Somebody else may have given it: several may keep the same stream.
    fn go_on_after(&mut self, seq: u64) {
        let behind = seq.saturating_sub(self.last_seq);
        let read = self.waiting.len();
        self.waiting
            .drain(..read.min(usize::try_from(behind).unwrap_or(read)));
        self.last_seq = self.last_seq.max(seq);
    }
}

fn seq(signed: &SignedRecord) -> Option<u64> {
    Some(decode_record(&signed.record).ok()?.stream_seq)
}

/// The rest of a log, entry by entry.
struct Tail<'a> {
    edge: Edge,
    sources: Vec<Source<'a>>,
    newest: &'a Newest,
}

impl<'a> Tail<'a> {
    fn new(state: &LogState, kept: &'a [Arc<dyn KeptRecords>], newest: &'a Newest) -> Self {
        let source = |kept: &'a Arc<dyn KeptRecords>| Source {
            last_seq: state
                .streams
                .get(kept.stream())
                .map_or(0, |last| last.last_seq),
            kept: kept.as_ref(),
            waiting: VecDeque::new(),
        };
        Self {
            edge: Edge::of(state),
            sources: kept.iter().map(source).collect(),
            newest,
        }
    }

    fn damaged(&self, reason: impl Into<String>) -> EngineError {
        EngineError::damaged(&self.edge.origin, reason)
    }

    /// The next entries: at least one.
    async fn next(&mut self) -> Result<Vec<Copied>, EngineError> {
        for source in &mut self.sources {
            source.fill(1).await?;
        }
        let index = self.edge.size();
        let found = match self.at(index) {
            Some(at) => vec![self.place(at).await?],
            None => self.bridge().await?,
        };
        for copied in &found {
            self.edge.push(copied);
            let record = decode_record(&copied.0.record);
            let record = record.map_err(|error| self.damaged(error.to_string()))?;
            let sources = self.sources.iter_mut();
            for source in sources.filter(|source| source.kept.stream() == record.stream) {
                source.go_on_after(record.stream_seq);
            }
        }
        Ok(found)
    }

    /// The source whose next record has a receipt for this place.
    fn at(&self, index: u64) -> Option<usize> {
        let is_there = |source: &Source<'_>| {
            let receipt = source.receipt();
            receipt.is_some_and(|receipt| receipt.index == index)
        };
        self.sources.iter().position(is_there)
    }

    /// The entry of the next record of a source, as its receipt says.
    async fn place(&self, at: usize) -> Result<Copied, EngineError> {
        let next = self
            .sources
            .get(at)
            .and_then(|source| source.waiting.front());
        let Some((signed, receipt)) =
            next.and_then(|kept| Some((kept.signed.clone(), kept.receipt.clone()?)))
        else {
            return Err(EngineError::Closed);
        };
        let edge = self.edge.clone();
        let (leaf, until_ms) = (receipt.leaf_hash, receipt.checkpoint_ms);
        let search = tokio::task::spawn_blocking(move || edge.find(&signed, leaf, until_ms));
        let found = search.await.map_err(|_| EngineError::Closed)?;
        found.ok_or_else(|| {
            self.damaged(format!(
                "entry {}: the record that was acknowledged there does not give the acknowledged hash after what is before it",
                receipt.index
            ))
        })
    }

    /// The entries up to the next one of which a receipt is known, of records without one.
    async fn bridge(&mut self) -> Result<Vec<Copied>, EngineError> {
        let (index, goal) = (self.edge.size(), self.newest.head.size);
        for source in &mut self.sources {
            if source.receipt().is_none() {
                source.fill(AT_ONCE).await?;
            }
        }
        let acknowledged = |source: &'_ Source<'_>| {
            let mut waiting = source.waiting.iter();
            waiting.find_map(|kept| Some((kept.receipt.clone()?, kept.signed.clone())))
        };
        let next = self
            .sources
            .iter()
            .filter_map(acknowledged)
            .filter(|(receipt, _)| receipt.index < goal)
            .min_by_key(|(receipt, _)| receipt.index);
        let (end, after) = match next {
            Some((receipt, _)) if receipt.index < index => {
                return Err(self.damaged(format!(
                    "entry {} was acknowledged as another record than it is",
                    receipt.index
                )));
            }
            Some((receipt, record)) => {
                let after = After::Entry {
                    record,
                    leaf: receipt.leaf_hash,
                    until_ms: receipt.checkpoint_ms,
                };
                (receipt.index, after)
            }
            None => {
                let after = After::Root {
                    root: self.newest.head.root,
                    until_ms: self.newest.at_ms,
                };
                (goal, after)
            }
        };
        let count = usize::try_from(end - index).unwrap_or(usize::MAX);
        let filled = if count <= AT_ONCE {
            self.fill(count, after).await?
        } else {
            None
        };
        match filled {
            Some(filled) => Ok(filled),
            None => Err(self.missing().await),
        }
    }

    async fn fill(&self, count: usize, after: After) -> Result<Option<Vec<Copied>>, EngineError> {
        let mut loose = Vec::new();
        for source in &self.sources {
            let records = source.waiting.iter().take(count);
            let records: Vec<SignedRecord> = records
                .take_while(|kept| kept.receipt.is_none())
                .map(|kept| kept.signed.clone())
                .collect();
            loose.push(records);
        }
        let gap = Gap {
            edge: self.edge.clone(),
            count,
            loose,
            after,
        };
        let filling = tokio::task::spawn_blocking(move || gap.fill());
        filling.await.map_err(|_| EngineError::Closed)
    }

    /// Which entries nobody has.
    async fn missing(&self) -> EngineError {
        let mut known: Vec<u64> = Vec::new();
        for source in &self.sources {
            let mut last = source.last_seq;
            loop {
                let page = match source.kept.after(last, PAGE).await {
                    Ok(page) => page,
                    Err(error) => return error,
                };
                let receipts = page.iter().filter_map(|kept| kept.receipt.as_ref());
                known.extend(receipts.map(|receipt| receipt.index));
                let Some(newest) = page.last().and_then(|kept| seq(&kept.signed)) else {
                    break;
                };
                last = newest;
            }
        }
        known.sort_unstable();
        let (size, goal) = (self.edge.size(), self.newest.head.size);
        let missing = ranges(&known, size..goal);
        self.damaged(format!(
            "it had {goal} entries, and no producer has a receipt for {missing}; what waits without a receipt does not lead on from \
             entry {size}. Nothing was changed"
        ))
    }
}

/// What of a range is not among sorted numbers, for a message.
fn ranges(known: &[u64], all: Range<u64>) -> String {
    let mut found: Vec<Range<u64>> = Vec::new();
    let mut next = all.start;
    let inside = known.iter().copied().filter(|number| all.contains(number));
    for number in inside.chain([all.end]) {
        if number > next {
            found.push(next..number);
        }
        next = next.max(number + 1);
    }
    let more = found.len().saturating_sub(RANGES_MAX);
    let named = found
        .iter()
        .take(RANGES_MAX)
        .map(|range| match range.end - range.start {
            1 => format!("entry {}", range.start),
            _ => format!("entries {} to {}", range.start, range.end - 1),
        });
    let mut text = named.collect::<Vec<_>>().join(", ");
    if more > 0 {
        text = format!("{text} and {more} more ranges");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn what_is_missing_is_named_by_its_ranges() {
        assert_eq!(
            ranges(&[5, 6, 9], 4..12),
            "entry 4, entries 7 to 8, entries 10 to 11"
        );
        assert_eq!(ranges(&[1, 4, 5, 20], 4..6), "");
        assert_eq!(ranges(&[], 4..6), "entries 4 to 5");
        let known: Vec<u64> = (0..100).map(|number| number * 2).collect();
        assert!(ranges(&known, 0..200).ends_with("and 80 more ranges"));
    }
}
