//! The cycle: onboarding, inventory, review, remediation, re-reads, epochs.

use std::collections::BTreeMap;

use counterfoil_evidence::catalogue::Payload;
use counterfoil_evidence::leaf::{SourceTag, media_type};
use counterfoil_evidence::v1::{self, SyncMode, SyncPurpose, SyncState};
use counterfoil_tlog::hash::leaf_hash;
use counterfoil_tlog::merkle;

use super::authority::{CAROL, HOUR_MS, PROVIDER, Rights, onboard, right_to_certify};
use super::estate::{HR, LDAP, OLD, Source};
use super::log::{Draft, LogBuilder, seed};
use super::{agents, provider, remediation, review};

/// A sealed sync.
#[derive(Clone)]
pub struct Sealed {
    pub hash: [u8; 32],
    pub record: v1::SourceSyncSealed,
}

/// A sealed snapshot.
#[derive(Clone)]
pub struct Snapshot {
    pub hash: [u8; 32],
    pub record: v1::SnapshotSealed,
}

/// Who does what is not a review: by themselves, under the rights of the cycle.
pub struct By {
    pub certifies: &'static str,
    /// Compares; empty: the service.
    pub runs: &'static str,
    pub plans: &'static str,
    pub starts: &'static str,
}

pub struct Cycle {
    pub log: LogBuilder,
    pub rights: Rights,
    pub hr: Source,
    pub ldap: Source,
    /// Whether the review is of all sources, and already defined: then there is none that cannot be read.
    pub of_all: bool,
    pub by: By,
    syncs: u32,
    epoch: (u64, u64),
    /// The next round of hashing the log again, and where the last one ended.
    scrubbed: (u64, u64),
    /// Open obligations: id and hash of the opening record.
    pub open: BTreeMap<[u8; 16], [u8; 32]>,
}

/// A cycle over so many grants a source.
pub fn build(grants: usize) -> LogBuilder {
    sealed(play(grants, false))
}

/// A cycle in which AI agents do whatever is not a review.
pub fn build_with_agents(grants: usize) -> LogBuilder {
    let mut cycle = begin(grants);
    agents::arrive(&mut cycle);
    sealed(play_on(cycle, false))
}

/// A cycle after which the customer leaves, and takes the evidence along.
pub fn build_until_it_left(grants: usize) -> LogBuilder {
    let mut cycle = play(grants, false);
    super::governance::leave(&mut cycle.log);
    cycle.seal_epoch();
    cycle.log
}

/// A cycle in which what came back is removed again, comes back again, and nobody says so.
pub fn build_with_hidden_return(grants: usize) -> LogBuilder {
    sealed(play(grants, true))
}

/// A cycle in which the provider's operator defines the review of all sources an hour before the last of them is registered.
pub fn build_with_a_later_source(grants: usize) -> LogBuilder {
    let mut cycle = begin(grants);
    cycle.of_all = true;
    let right = right_to_certify(&mut cycle.log, PROVIDER);
    cycle.register(HR);
    provider::define(&mut cycle.log, cycle.rights.assigned);
    review::define(&mut cycle, (PROVIDER, right), Vec::new());
    cycle.log.tick(HOUR_MS);
    cycle.register(LDAP);
    cycle.seal_epoch();
    sealed(finish(cycle, false))
}

fn sealed(mut cycle: Cycle) -> LogBuilder {
    cycle.scrub();
    cycle.seal_epoch();
    cycle.log
}

fn play(grants: usize, hidden_return: bool) -> Cycle {
    play_on(begin(grants), hidden_return)
}

fn play_on(mut cycle: Cycle, hidden_return: bool) -> Cycle {
    for source in [HR, LDAP, OLD] {
        cycle.register(source);
    }
    cycle.scrub();
    cycle.seal_epoch();
    finish(cycle, hidden_return)
}

fn begin(grants: usize) -> Cycle {
    let mut log = LogBuilder::new();
    let rights = onboard(&mut log);
    let mut cycle = Cycle {
        log,
        rights,
        hr: Source::new(HR, grants),
        ldap: Source::new(LDAP, grants),
        of_all: false,
        by: By {
            certifies: CAROL,
            runs: "",
            plans: CAROL,
            starts: CAROL,
        },
        syncs: 0,
        epoch: (1, 0),
        scrubbed: (1, 0),
        open: BTreeMap::new(),
    };
    provider::look_in(&mut cycle.log, cycle.rights.assigned);
    cycle
}

fn finish(mut cycle: Cycle, hidden_return: bool) -> Cycle {
    let hr = cycle.sync(&cycle.hr.clone(), SyncPurpose::Inventory);
    let ldap = cycle.sync(&cycle.ldap.clone(), SyncPurpose::Inventory);
    if !cycle.of_all {
        cycle.partial_sync();
    }
    let snapshot = cycle.snapshot(&[&hr, &ldap]);
    let reviewed = review::run(&mut cycle, &snapshot, &ldap);
    remediation::run(&mut cycle, &reviewed, hidden_return);
    // Long enough for the emergency at the beginning to have been looked at.
    cycle.log.tick(73 * HOUR_MS);
    provider::work(&mut cycle.log, cycle.rights.assigned);
    cycle
}

impl Cycle {
    fn register(&mut self, source: &str) {
        let registered = v1::SourceRegistered {
            source: source.to_owned(),
            kind: "csv".to_owned(),
            capabilities: vec!["list".to_owned(), "control_total".to_owned()],
            reader_principal: reader(source),
            writer_principal: writer(source),
            config_hash: seed(source).to_vec(),
            source_tag: SourceTag::of(source).0.to_vec(),
            ..v1::SourceRegistered::default()
        };
        self.log
            .append(&Payload::SourceRegistered(registered), Draft::default());
    }

    pub fn sync(&mut self, source: &Source, purpose: SyncPurpose) -> Sealed {
        self.syncs += 1;
        let started_ms = self.log.tick(20);
        let ended_ms = self.log.tick(100);
        let set = source.set();
        let record = v1::SourceSyncSealed {
            sync: format!("syncs/{}", self.syncs),
            source: source.name.to_owned(),
            mode: SyncMode::Full.into(),
            purpose: purpose.into(),
            state: SyncState::Complete.into(),
            started_ms,
            ended_ms,
            watermark_hash: seed("watermark").to_vec(),
            pages: 1,
            counts: Some(source.counts()),
            control_totals: Some(v1::TypeCounts {
                grants_inherited: 0,
                ..source.counts()
            }),
            set_root: set.root().root.0.to_vec(),
            set_count: set.count(),
            errors: 0,
            partial_reasons: Vec::new(),
            reader_principal: reader(source.name),
        };
        let hash = self.log.append(
            &Payload::SourceSyncSealed(record.clone()),
            Draft {
                blobs: vec![(media_type::GRANT_SET, source.blob())],
                ..Draft::default()
            },
        );
        Sealed { hash, record }
    }

    fn partial_sync(&mut self) {
        let record = v1::SourceSyncSealed {
            sync: "syncs/old".to_owned(),
            source: OLD.to_owned(),
            mode: SyncMode::Full.into(),
            purpose: SyncPurpose::Inventory.into(),
            state: SyncState::Partial.into(),
            started_ms: self.log.now_ms,
            ended_ms: self.log.now_ms,
            set_root: counterfoil_tlog::hash::empty_root().0.to_vec(),
            errors: 1,
            partial_reasons: vec!["source_died".to_owned()],
            reader_principal: reader(OLD),
            ..v1::SourceSyncSealed::default()
        };
        self.log
            .append(&Payload::SourceSyncSealed(record), Draft::default());
    }

    pub fn snapshot(&mut self, syncs: &[&Sealed]) -> Snapshot {
        let mut sources: Vec<v1::SnapshotSource> = syncs
            .iter()
            .map(|sync| v1::SnapshotSource {
                source: sync.record.source.clone(),
                source_tag: SourceTag::of(&sync.record.source).0.to_vec(),
                sync_record_hash: sync.hash.to_vec(),
                set_root: sync.record.set_root.clone(),
                set_count: sync.record.set_count,
                synced_ms: sync.record.ended_ms,
            })
            .collect();
        sources.sort_by(|a, b| a.source_tag.cmp(&b.source_tag));
        let mut record = v1::SnapshotSealed {
            snapshot: format!("snapshots/{}", self.log.size()),
            grant_count: sources.iter().map(|source| source.set_count).sum(),
            snapshot_root: snapshot_root(&sources),
            sources,
            missing_sources: Vec::new(),
        };
        if !self.of_all {
            record.missing_sources.push(v1::MissingSource {
                source: OLD.to_owned(),
                source_tag: SourceTag::of(OLD).0.to_vec(),
                reason: "partial".to_owned(),
            });
        }
        let hash = self
            .log
            .append(&Payload::SnapshotSealed(record.clone()), Draft::default());
        Snapshot { hash, record }
    }

    /// The ledger has hashed everything again.
    pub fn scrub(&mut self) {
        let (round, from_size) = self.scrubbed;
        let (to_size, now_ms) = (self.log.size(), self.log.now_ms);
        let scrubbed = v1::LogScrubbed {
            round,
            from_size,
            to_size,
            root: self.log.root().to_vec(),
            tiles: (1..8).map(|level| to_size >> (level * 8)).sum(),
            started_ms: now_ms + 2,
            ended_ms: now_ms + 4,
        };
        self.log
            .append(&Payload::LogScrubbed(scrubbed), Draft::default());
        self.scrubbed = (round + 1, to_size);
    }

    pub fn seal_epoch(&mut self) {
        let (epoch, from_index) = self.epoch;
        let to_index = self.log.size();
        let first = usize::try_from(from_index).unwrap();
        let mut types: BTreeMap<String, u64> = BTreeMap::new();
        for (type_name, ..) in &self.log.metas[first..] {
            *types.entry(type_name.clone()).or_default() += 1;
        }
        let mut streams = BTreeMap::new();
        for (_, stream, seq, hash) in &self.log.metas {
            streams.insert((*stream).to_owned(), (*seq, hash.to_vec()));
        }
        let leaves: Vec<_> = self
            .open
            .iter()
            .map(|(id, hash)| leaf_hash(&[id.as_slice(), hash].concat()))
            .collect();
        let sealed = v1::EpochSealed {
            epoch,
            from_index,
            to_index,
            type_counts: types
                .into_iter()
                .map(|(r#type, count)| v1::EntryTypeCount { r#type, count })
                .collect(),
            streams: streams
                .into_iter()
                .map(|(stream, (last_seq, last_record_hash))| v1::StreamMark {
                    stream,
                    last_seq,
                    last_record_hash,
                })
                .collect(),
            open_obligations_root: merkle::root(&leaves).0.to_vec(),
            open_obligations_count: leaves.len() as u64,
        };
        self.log
            .append(&Payload::EpochSealed(sealed), Draft::default());
        self.epoch = (epoch + 1, to_index);
    }
}

/// The root over what a snapshot takes from its sources, which are in the order of their tags.
pub fn snapshot_root(sources: &[v1::SnapshotSource]) -> Vec<u8> {
    let leaves: Vec<_> = sources
        .iter()
        .map(|s| leaf_hash(&[&s.source_tag[..], &s.sync_record_hash, &s.set_root].concat()))
        .collect();
    merkle::root(&leaves).0.to_vec()
}

pub fn reader(source: &str) -> String {
    format!("connectors/{source}/reader")
}

pub fn writer(source: &str) -> String {
    format!("connectors/{source}/writer")
}
