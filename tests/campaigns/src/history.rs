//! What was told of the logs, and whether they still hold it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Context as _;
use counterfoil_engine::{Engine, EngineError, Log};
use counterfoil_evidence::record::{decode_entry, decode_record, record_hash};
use counterfoil_tlog::hash::leaf_hash;
use counterfoil_tlog::merkle::Frontier;
use counterfoil_tlog::{Checkpoint, Hash, VerifierKey, checkpoint, proof};

use crate::figures::Figures;
use crate::place::Place;
use crate::records::{Chain, Position, STREAMS, tenant};
use crate::victim::Line;

/// Entries read at once.
const PAGE: u32 = 512;

/// All logs of a place.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) logs: Vec<Told>,
}

/// What was told of one log.
#[derive(Debug)]
pub(crate) struct Told {
    log: usize,
    /// As it was when it was first seen.
    vkey: Option<VerifierKey>,
    chains: Vec<Chain>,
    /// By stream: what was acknowledged, where, and as which leaf.
    receipts: Vec<BTreeMap<u64, (u64, Hash)>>,
    /// By size: the root that was signed.
    roots: BTreeMap<u64, Hash>,
    /// The largest size that was published.
    published: u64,
    /// What was told before the key was known.
    waiting: Vec<Line>,
}

impl History {
    pub(crate) fn new(logs: usize) -> Self {
        let told = |log| Told {
            log,
            vkey: None,
            chains: (0..STREAMS.len()).map(|one| Chain::new(log, one)).collect(),
            receipts: vec![BTreeMap::new(); STREAMS.len()],
            roots: BTreeMap::new(),
            published: 0,
            waiting: Vec::new(),
        };
        Self {
            logs: (0..logs).map(told).collect(),
        }
    }

    /// From where each stream is to be written: after the first records without a gap that were acknowledged.
    pub(crate) fn positions(&mut self) -> anyhow::Result<Vec<Vec<Position>>> {
        self.logs.iter_mut().map(Told::positions).collect()
    }

    /// The logs of which more was told than these sizes.
    pub(crate) fn grown_beyond(&self, sizes: &[u64]) -> anyhow::Result<Vec<usize>> {
        let mut grown = Vec::new();
        for (told, size) in self.logs.iter().zip(sizes) {
            if told.newest()? > *size {
                grown.push(told.log);
            }
        }
        Ok(grown)
    }

    /// Takes what a victim said; receipts are judged here, and again with the log.
    pub(crate) fn take(&mut self, lines: Vec<Line>, figures: &mut Figures) {
        for line in lines {
            match &line {
                Line::Receipt { log, .. } | Line::Published { log, .. } => {
                    self.logs[*log].waiting.push(line);
                }
                Line::Wrong { what } => figures.wrong("wrong", what.clone()),
                Line::Refused { log, why } => figures.refused(*log, why),
                Line::Failed { why } => figures.failed(why),
            }
        }
    }

    /// Opens the logs, publishes them, and holds them to everything that was ever told.
    pub(crate) async fn check(
        &mut self,
        place: &Place,
        figures: &mut Figures,
    ) -> anyhow::Result<()> {
        let engine = place.open().await?;
        for told in &mut self.logs {
            let checked = told.check(place, &engine, figures).await;
            if let Err(error) = checked {
                figures.wrong("unclean", format!("log {}: {error:#}", told.log));
            }
        }
        engine.close().await;
        Ok(())
    }
}

impl Told {
    fn positions(&mut self) -> anyhow::Result<Vec<Position>> {
        // What was not judged yet is acknowledged all the same.
        let mut acknowledged: Vec<BTreeSet<u64>> = self
            .receipts
            .iter()
            .map(|receipts| receipts.keys().copied().collect())
            .collect();
        for line in &self.waiting {
            if let Line::Receipt { stream, seq, .. } = line {
                acknowledged[*stream].insert(*seq);
            }
        }
        let chains = self.chains.iter_mut();
        chains
            .zip(acknowledged)
            .map(|(chain, seqs)| {
                let mut last = 0;
                while seqs.contains(&(last + 1)) {
                    last += 1;
                }
                chain.at(last)
            })
            .collect()
    }

    /// The largest size that was told.
    fn newest(&self) -> anyhow::Result<u64> {
        let mut newest = self.roots.keys().next_back().copied().unwrap_or(0);
        for line in &self.waiting {
            let note = match line {
                Line::Receipt { proof, .. } => proof.split_once("\n\n").unwrap_or_default().1,
                Line::Published { note, .. } => note,
                _ => continue,
            };
            let size = note.lines().nth(1).context("a note without a size")?;
            newest = newest.max(size.parse()?);
        }
        Ok(newest)
    }

    async fn check(
        &mut self,
        place: &Place,
        engine: &Engine,
        figures: &mut Figures,
    ) -> anyhow::Result<()> {
        let log = match engine.log(&tenant(self.log)).await {
            Err(EngineError::NoSuchLog(_)) if self.vkey.is_none() && self.waiting.is_empty() => {
                // It was struck before it was created.
                return Ok(());
            }
            log => log?,
        };
        let vkey = self
            .vkey
            .get_or_insert_with(|| log.info().vkey.clone())
            .clone();
        if log.info().vkey != vkey {
            figures.wrong("forks", format!("log {} has another key", self.log));
        }
        // Before anything is published again: what everybody could see.
        if let Some(note) = place.published(self.log)? {
            let log = self.log;
            self.waiting.push(Line::Published { log, note });
        }
        for line in std::mem::take(&mut self.waiting) {
            self.judge(line, &vkey, figures)?;
        }
        let there = place.published(self.log)?.unwrap_or_default();
        let size = there.lines().nth(1).and_then(|size| size.parse().ok());
        if size.unwrap_or(0) < self.published {
            let what = format!(
                "log {}: {} entries were published",
                self.log, self.published
            );
            figures.wrong("unclean", format!("{what}, now {size:?}"));
        }
        let copy = place.publication()?;
        log.publish(&copy).await.context("publishing")?;
        let entries = self.read(&log, figures).await?;
        self.hold_to_receipts(&entries, figures);
        let found = log.fsck_with(Some(&copy), &mut |_, _| {}).await?;
        for problem in found.problems {
            figures.wrong("unclean", format!("log {}: {problem:?}", self.log));
        }
        Ok(())
    }

    /// Verifies a receipt or a checkpoint by itself.
    fn judge(
        &mut self,
        line: Line,
        vkey: &VerifierKey,
        figures: &mut Figures,
    ) -> anyhow::Result<()> {
        let seen = match line {
            Line::Receipt {
                stream,
                seq,
                leaf,
                proof: text,
                ..
            } => {
                figures.acknowledged += 1;
                let leaf: [u8; 32] = hex::decode(leaf)?.try_into().ok().context("not a leaf")?;
                let leaf = Hash(leaf);
                let (index, under) = match proof::verify(&text, &leaf, vkey) {
                    Ok(verified) => verified,
                    Err(error) => {
                        figures.wrong("lost", format!("log {}: {error}: {text}", self.log));
                        return Ok(());
                    }
                };
                let known = self.receipts[stream].insert(seq, (index, leaf));
                if known.is_some_and(|known| known != (index, leaf)) {
                    let what = format!("log {} stream {stream} record {seq}", self.log);
                    figures.wrong("twice", format!("{what}: {known:?}, {index}"));
                }
                under
            }
            Line::Published { note, .. } => {
                figures.checkpoints += 1;
                match checkpoint::open(note.as_bytes(), vkey, &[]) {
                    Ok(signed) => {
                        self.published = self.published.max(signed.checkpoint.size);
                        signed.checkpoint
                    }
                    Err(error) => {
                        figures.wrong("forks", format!("log {}: {error}: {note}", self.log));
                        return Ok(());
                    }
                }
            }
            _ => return Ok(()),
        };
        self.seen(&seen, figures);
        Ok(())
    }

    fn seen(&mut self, Checkpoint { size, root, .. }: &Checkpoint, figures: &mut Figures) {
        let first = *self.roots.entry(*size).or_insert(*root);
        if first != *root {
            let what = format!("log {}: two histories of {size} entries", self.log);
            figures.wrong("forks", what);
        }
    }

    /// Reads all entries; the tree over them must have every root that was ever signed, and every record must be there once.
    async fn read(
        &mut self,
        log: &Log,
        figures: &mut Figures,
    ) -> anyhow::Result<Vec<(Hash, [u8; 32])>> {
        let head = log.head().await?;
        let signed = checkpoint::open(head.checkpoint.as_bytes(), &log.info().vkey, &[])?;
        self.seen(&signed.checkpoint, figures);
        let mut entries: Vec<(Hash, [u8; 32])> = Vec::new();
        let mut frontier = Frontier::new();
        let mut places: HashMap<[u8; 32], usize> = HashMap::new();
        let mut last = vec![0_u64; STREAMS.len()];
        loop {
            let roots = self.roots.get(&frontier.size());
            if roots.is_some_and(|root| *root != frontier.root()) {
                let what = format!("log {}: another one at {}", self.log, frontier.size());
                figures.wrong("forks", what);
            }
            if frontier.size() == head.size {
                break;
            }
            if entries.len() as u64 == frontier.size() {
                let from = frontier.size();
                let page = log.entries(from, head.size, PAGE).await?;
                anyhow::ensure!(!page.is_empty(), "no entry {from} of {}", head.size);
                for stored in page {
                    let entry = decode_entry(&stored.bytes)?;
                    let record = decode_record(&entry.record)?;
                    let hash = record_hash(&entry.record);
                    let stream = STREAMS.iter().position(|name| *name == record.stream);
                    let stream = stream.context("an unknown stream")?;
                    last[stream] += 1;
                    let expected = self.chains[stream].at(last[stream])?;
                    if places.insert(hash, entries.len()).is_some() {
                        let what = format!("log {}: {} twice", self.log, entries.len());
                        figures.wrong("twice", what);
                    }
                    if hash != expected.hash || record.stream_seq != last[stream] {
                        let what = format!("log {}: record {}", self.log, entries.len());
                        figures.wrong("lost", format!("{what} is none that was to be"));
                    }
                    entries.push((leaf_hash(&stored.bytes), hash));
                }
            }
            let next = usize::try_from(frontier.size())?;
            frontier.push(entries[next].0);
        }
        let ahead = self.roots.range(head.size + 1..).next();
        if let Some((size, _)) = ahead {
            let what = format!("log {}: {size} entries were signed", self.log);
            figures.wrong("lost", format!("{what}, it has {}", head.size));
        }
        Ok(entries)
    }

    fn hold_to_receipts(&mut self, entries: &[(Hash, [u8; 32])], figures: &mut Figures) {
        for (stream, receipts) in self.receipts.iter().enumerate() {
            for (seq, (index, leaf)) in receipts {
                let there = usize::try_from(*index).ok().and_then(|at| entries.get(at));
                let hash = self.chains[stream].at(*seq).map(|position| position.hash);
                let is_there = there.is_some_and(|(found, record)| {
                    found == leaf && hash.as_ref().is_ok_and(|hash| hash == record)
                });
                if !is_there {
                    let what = format!("log {} stream {stream} record {seq}", self.log);
                    figures.wrong("lost", format!("{what} is not at {index}"));
                }
            }
        }
    }
}
