//! External sorting of grants by key: rows are gathered in runs of bounded size, each run is sorted and handed out in chunks,
//! and the runs are merged chunk by chunk. Whatever the size of a source, memory holds one run and one chunk a run.
//!
//! Not here: where chunks are kept meanwhile.

use std::{cmp::Reverse, collections::BinaryHeap};

/// Length of a key without its source tag, which is the same for all grants of a source.
pub const KEY_BYTES: usize = 32;

/// Largest chunk in bytes, but for a single row that is larger.
pub const CHUNK_BYTES: usize = 256 * 1024;

const FIXED_BYTES: usize = KEY_BYTES + 3 * 4 + 3 * 8 + 4;
const NO_TIME: i64 = i64::MIN;

/// A grant as it waits for its place: its two ends and its path are numbers that only this sync knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedGrant {
    /// Key without the source tag.
    pub key: [u8; KEY_BYTES],
    /// Number of the account.
    pub account: u32,
    /// Number of the entitlement.
    pub entitlement: u32,
    /// Number of the path; [`super::inheritance::NO_PATH`] when direct.
    pub path: u32,
    /// Since when.
    pub granted_ms: Option<i64>,
    /// Until when.
    pub expires_ms: Option<i64>,
    /// Last used.
    pub last_used_ms: Option<i64>,
    /// What for.
    pub purpose: String,
}

/// A chunk ends in the middle of a row: it was damaged where it was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a chunk of staged grants is damaged")]
pub struct DamagedChunk;

impl StagedGrant {
    fn write(&self, out: &mut Vec<u8>) {
        let time = |value: Option<i64>| value.unwrap_or(NO_TIME).to_be_bytes();
        out.extend_from_slice(&self.key);
        for number in [self.account, self.entitlement, self.path] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        for ms in [self.granted_ms, self.expires_ms, self.last_used_ms] {
            out.extend_from_slice(&time(ms));
        }
        let length = u32::try_from(self.purpose.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(self.purpose.as_bytes());
    }

    fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut rest = bytes;
        let key = *take(&mut rest)?;
        let mut number = || take(&mut rest).map(|bytes| u32::from_be_bytes(*bytes));
        let (account, entitlement, path) = (number()?, number()?, number()?);
        let mut time = || {
            let ms = i64::from_be_bytes(*take(&mut rest)?);
            Some((ms != NO_TIME).then_some(ms))
        };
        let (granted_ms, expires_ms, last_used_ms) = (time()?, time()?, time()?);
        let length = usize::try_from(u32::from_be_bytes(*take(&mut rest)?)).ok()?;
        let purpose = String::from_utf8(rest.get(..length)?.to_vec()).ok()?;
        let row = Self {
            key,
            account,
            entitlement,
            path,
            granted_ms,
            expires_ms,
            last_used_ms,
            purpose,
        };
        Some((row, FIXED_BYTES + length))
    }
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(head)
}

/// The run being gathered.
#[derive(Debug)]
pub struct Run {
    rows: Vec<u8>,
    /// First 8 bytes of the key, and where the row starts and ends.
    index: Vec<(u64, u32, u32)>,
    capacity_bytes: usize,
}

impl Run {
    /// A run of at most about `capacity_bytes`, itself at most 1 GiB.
    #[must_use]
    pub fn new(capacity_bytes: usize) -> Self {
        Self {
            rows: Vec::new(),
            index: Vec::new(),
            capacity_bytes: capacity_bytes.min(1 << 30),
        }
    }

    /// Adds a row.
    pub fn push(&mut self, row: &StagedGrant) {
        let position = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let start = position(self.rows.len());
        row.write(&mut self.rows);
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&row.key[..8]);
        let end = position(self.rows.len());
        self.index.push((u64::from_be_bytes(prefix), start, end));
    }

    /// Whether it should be handed out before more is added.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.rows.len() >= self.capacity_bytes
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Sorts it.
    #[must_use]
    pub fn sorted(mut self) -> SortedRun {
        let rows = &self.rows;
        let key = |start: u32| {
            let start = usize::try_from(start).unwrap_or(usize::MAX);
            rows.get(start..start.saturating_add(KEY_BYTES))
        };
        self.index
            .sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| key(a.1).cmp(&key(b.1))));
        SortedRun {
            rows: self.rows,
            index: self.index.into_iter(),
        }
    }
}

/// A sorted run, handed out chunk by chunk.
#[derive(Debug)]
pub struct SortedRun {
    rows: Vec<u8>,
    index: std::vec::IntoIter<(u64, u32, u32)>,
}

impl Iterator for SortedRun {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        while chunk.len() < CHUNK_BYTES {
            let Some((_, start, end)) = self.index.next() else {
                break;
            };
            let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
            chunk.extend_from_slice(self.rows.get(start..end)?);
        }
        (!chunk.is_empty()).then_some(chunk)
    }
}

/// Merges sorted runs into one ascending sequence.
#[derive(Debug, Default)]
pub struct Merge {
    runs: Vec<Cursor>,
    heads: BinaryHeap<Reverse<([u8; KEY_BYTES], usize)>>,
    /// Runs whose next chunk is needed before anything can be said.
    hungry: Vec<usize>,
}

#[derive(Debug, Default)]
struct Cursor {
    chunk: Vec<u8>,
    at: usize,
    head: Option<StagedGrant>,
}

/// What the merge has to say.
#[derive(Debug, PartialEq, Eq)]
pub enum Merged {
    /// The next row.
    Row(StagedGrant),
    /// The next chunk of this run is needed: [`Merge::supply`].
    Needs(usize),
    /// Nothing is left.
    End,
}

impl Merge {
    /// A merge of so many runs.
    #[must_use]
    pub fn new(runs: usize) -> Self {
        Self {
            runs: (0..runs).map(|_| Cursor::default()).collect(),
            heads: BinaryHeap::new(),
            hungry: (0..runs).collect(),
        }
    }

    /// The next chunk of a run, or none when it has ended.
    ///
    /// # Errors
    /// [`DamagedChunk`].
    pub fn supply(&mut self, run: usize, chunk: Option<Vec<u8>>) -> Result<(), DamagedChunk> {
        self.hungry.retain(|&waiting| waiting != run);
        let Some(chunk) = chunk.filter(|chunk| !chunk.is_empty()) else {
            return Ok(());
        };
        if let Some(cursor) = self.runs.get_mut(run) {
            cursor.chunk = chunk;
            cursor.at = 0;
        }
        self.read_head(run)
    }

    fn read_head(&mut self, run: usize) -> Result<(), DamagedChunk> {
        let Some(cursor) = self.runs.get_mut(run) else {
            return Ok(());
        };
        let rest = cursor.chunk.get(cursor.at..).unwrap_or_default();
        if rest.is_empty() {
            self.hungry.push(run);
            return Ok(());
        }
        let (row, length) = StagedGrant::read(rest).ok_or(DamagedChunk)?;
        cursor.at += length;
        self.heads.push(Reverse((row.key, run)));
        cursor.head = Some(row);
        Ok(())
    }

    /// The next row, or what is needed to tell it.
    ///
    /// # Errors
    /// [`DamagedChunk`].
    pub fn advance(&mut self) -> Result<Merged, DamagedChunk> {
        if let Some(&run) = self.hungry.first() {
            return Ok(Merged::Needs(run));
        }
        let Some(Reverse((_, run))) = self.heads.pop() else {
            return Ok(Merged::End);
        };
        let head = self.runs.get_mut(run).and_then(|cursor| cursor.head.take());
        self.read_head(run)?;
        head.map(Merged::Row).ok_or(DamagedChunk)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(key: [u8; 2], purpose: &str) -> StagedGrant {
        let mut full = [0; KEY_BYTES];
        full[0] = key[0];
        full[KEY_BYTES - 1] = key[1];
        StagedGrant {
            key: full,
            account: 7,
            entitlement: u32::MAX,
            path: 0,
            granted_ms: Some(-1),
            expires_ms: None,
            last_used_ms: Some(i64::MAX),
            purpose: purpose.to_owned(),
        }
    }

    fn merged(runs: Vec<SortedRun>) -> Vec<StagedGrant> {
        let mut runs = runs;
        let mut merge = Merge::new(runs.len());
        let mut rows = Vec::new();
        loop {
            match merge.advance().unwrap() {
                Merged::Row(row) => rows.push(row),
                Merged::Needs(run) => merge.supply(run, runs[run].next()).unwrap(),
                Merged::End => return rows,
            }
        }
    }

    #[test]
    fn a_row_comes_back_as_it_went_in() {
        let mut run = Run::new(1 << 20);
        let wanted = row([1, 2], "f\u{fc}r");
        run.push(&wanted);
        assert_eq!(merged(vec![run.sorted()]), [wanted]);
    }

    #[test]
    fn a_chunk_cut_short_is_damaged() {
        let mut run = Run::new(1 << 20);
        run.push(&row([1, 2], "x"));
        let mut chunk = run.sorted().next().unwrap();
        chunk.pop();
        assert_eq!(Merge::new(1).supply(0, Some(chunk)), Err(DamagedChunk));
    }

    #[test]
    fn nothing_merges_to_nothing() {
        assert_eq!(merged(vec![]), []);
        assert_eq!(merged(vec![Run::new(1).sorted()]), []);
    }

    proptest! {
        #[test]
        fn merging_runs_is_sorting(
            keys in proptest::collection::vec(any::<[u8; 2]>(), 0..200),
            capacity in 1_usize..4_000,
        ) {
            let mut runs = Vec::new();
            let mut run = Run::new(capacity);
            for key in &keys {
                run.push(&row(*key, &"p".repeat(usize::from(key[0]))));
                if run.is_full() {
                    runs.push(std::mem::replace(&mut run, Run::new(capacity)).sorted());
                }
            }
            runs.push(run.sorted());
            let mut expected: Vec<[u8; KEY_BYTES]> = keys.iter().map(|key| row(*key, "").key).collect();
            expected.sort_unstable();
            let found: Vec<_> = merged(runs).into_iter().map(|row| row.key).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
