//! Removals forged with something in mind: what one record says decides what becomes of others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use counterfoil_evidence::catalogue::decode_payload;
use counterfoil_evidence::leaf::{
    AUTHORIZED_LEAF_LEN, AuthorizedLeaf, FINDING_LEAF_LEN, FindingLeaf, GRANT_LEAF_LEN, SourceTag,
};
use counterfoil_evidence::record::record_hash;
use counterfoil_evidence::situation::{Observed, classify, requires_action};
use counterfoil_evidence::v1::{FindingState, SyncPurpose};
use counterfoil_tlog::hash::{empty_root, leaf_hash, sha256};
use counterfoil_tlog::merkle;
use counterfoil_verify::testing::{BundleFiles, Forger};
use counterfoil_verify::{Verdict, Verification};
use prost::Message as _;

use crate::prelude::*;
use crate::support::cycle::{reader, snapshot_root};
use crate::support::estate::OLD;
use crate::{Golden, fails, support};

/// A record of the log with its hash.
type Known = ([u8; 32], v1::Record, Payload);

fn survey(files: &BundleFiles) -> Vec<Known> {
    let known = |bytes: Vec<u8>| {
        let entry = v1::Entry::decode(bytes.as_slice()).unwrap();
        let record = v1::Record::decode(entry.record.as_slice()).unwrap();
        let payload = decode_payload(&record.r#type, &record.payload)
            .unwrap()
            .unwrap();
        (record_hash(&entry.record), record, payload)
    };
    files.entries().unwrap().into_iter().map(known).collect()
}

/// The last record that a look finds something in.
fn last<T>(files: &BundleFiles, look: impl Fn(&Known) -> Option<T>) -> T {
    survey(files).iter().rev().find_map(look).unwrap()
}

/// A copy of the golden bundle in the hands of somebody with every key.
struct Forged<'g> {
    golden: &'g Golden,
    root: PathBuf,
    files: BundleFiles,
}

impl<'g> Forged<'g> {
    fn of(golden: &'g Golden) -> Self {
        let (root, files) = golden.copy("forged");
        Self {
            golden,
            root,
            files,
        }
    }

    fn rewrite(&self, mut change: impl FnMut(&mut Scene<'_>) -> Edit) {
        Forger::new(&self.files, &self.golden.keys)
            .rewrite(|scene| Ok(change(scene)))
            .unwrap();
    }

    /// Puts records behind the first that a condition holds for.
    fn follow(&self, after: impl Fn(&Payload) -> bool, more: &[(v1::Record, Payload)]) {
        let mut done = false;
        self.rewrite(|scene| {
            if done || !after(scene.payload) {
                return Edit::Keep;
            }
            done = true;
            let with_stream = |(record, payload): &(v1::Record, Payload)| {
                let mut record = record.clone();
                record.occurred_at_ms = scene.record.occurred_at_ms;
                (record, payload.clone())
            };
            Edit::Follow(more.iter().map(with_stream).collect())
        });
        assert!(done, "there is nothing to put it behind");
    }

    fn fails(&self, id: &str, what: &str) {
        fails(self.golden, &self.root, id, what);
    }

    fn found(&self) -> Verification {
        self.golden.verify(&self.root)
    }
}

fn read_back_of(source: &str) -> impl Fn(&Known) -> Option<(v1::Record, v1::SourceSyncSealed)> {
    move |(_, record, payload)| match payload {
        Payload::SourceSyncSealed(p)
            if p.source == source && p.purpose() == SyncPurpose::ReadBack =>
        {
            Some((record.clone(), p.clone()))
        }
        _ => None,
    }
}

#[test]
fn a_read_back_that_stands_before_the_intents_proves_nothing() {
    let golden = Golden::new();
    let forged = Forged::of(&golden);
    let (record, late) = last(&forged.files, read_back_of(HR));
    let hash = last(&forged.files, |(hash, _, payload)| match payload {
        Payload::SourceSyncSealed(p) if p.sync == late.sync => Some(*hash),
        _ => None,
    });
    let mut moved = None;
    forged.rewrite(|scene| {
        if moved == Some(false) && scene.record.stream == "inventory" {
            // Whoever cites the read-back cites the early one.
            let early = scene.record.prev_record_hash.clone();
            scene.replace(&hash, &early);
            moved = Some(true);
        }
        match scene.payload.clone() {
            Payload::SourceSyncSealed(p) if p.source == OLD => {
                *scene.payload = Payload::SourceSyncSealed(late.clone());
                scene.record.blob.clone_from(&record.blob);
                moved = Some(false);
                Edit::Keep
            }
            Payload::SourceSyncSealed(p) if p.sync == late.sync => Edit::Drop,
            _ => Edit::Keep,
        }
    });
    forged.fails("I-34", "a read-back from before the intents");
    forged.fails("I-04", "a read-back that says it was read an hour later");
}

/// The removal that was proved and never came back, with its leaf as it was before.
fn stayed_away(files: &BundleFiles) -> (Vec<u8>, Vec<u8>) {
    let records = survey(files);
    let back: BTreeSet<_> = records
        .iter()
        .filter_map(|(_, _, payload)| match payload {
            Payload::RegressionDetected(p) => Some(p.grant_key.clone()),
            _ => None,
        })
        .collect();
    let ended = records.iter().find_map(|(_, _, payload)| match payload {
        Payload::GrantEnded(p) if !back.contains(&p.grant_key) => Some(p.grant_key.clone()),
        _ => None,
    });
    let key = ended.unwrap();
    let leaf = records.iter().find_map(|(_, _, payload)| match payload {
        Payload::ReviewItemRouted(p) if p.leaf.starts_with(&key) => Some(p.leaf.clone()),
        _ => None,
    });
    (key, leaf.unwrap())
}

/// Seals, behind the re-reads, a reading of the source in which a grant is there again that nobody tells about.
fn read_again_and_there(forged: &Forged<'_>, key: &[u8], leaf: &[u8]) {
    let (hr, ldap) = (SourceTag::of(HR), SourceTag::of(LDAP));
    let source = if key.starts_with(&hr.0) { HR } else { LDAP };
    assert!(key.starts_with(&hr.0) || key.starts_with(&ldap.0));
    let (mut record, mut sealed) = last(&forged.files, |(_, record, payload)| match payload {
        Payload::SourceSyncSealed(p) if p.source == source => Some((record.clone(), p.clone())),
        _ => None,
    });
    let of_set = format!("blobs/sha256/{}", hex::encode(&record.blob[0].sha256));
    let mut leaves: Vec<Vec<u8>> = forged
        .files
        .read(&of_set)
        .unwrap()
        .chunks_exact(GRANT_LEAF_LEN)
        .map(<[u8]>::to_vec)
        .collect();
    leaves.push(leaf.to_vec());
    leaves.sort_unstable();
    let set = leaves.concat();
    let digest = sha256(&set).0;
    let path = format!("blobs/sha256/{}", hex::encode(digest));
    forged.files.write(&path, &set).unwrap();
    record.blob[0].sha256 = digest.to_vec();
    record.blob[0].size = set.len() as u64;
    let hashes: Vec<_> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    sealed.set_root = merkle::root(&hashes).0.to_vec();
    sealed.set_count += 1;
    sealed.sync.push_str("-later");
    sealed.set_purpose(SyncPurpose::Inventory);
    for counts in [&mut sealed.counts, &mut sealed.control_totals] {
        counts.as_mut().unwrap().grants_direct += 1;
    }
    let mut at = 0;
    for (number, (_, _, payload)) in survey(&forged.files).iter().enumerate() {
        if matches!(payload, Payload::ObligationDischarged(_)) {
            at = number as u64;
        }
    }
    forged.rewrite(|scene| {
        if scene.at != at {
            return Edit::Keep;
        }
        sealed.started_ms = scene.record.occurred_at_ms;
        sealed.ended_ms = sealed.started_ms;
        record.occurred_at_ms = sealed.started_ms;
        let sealed = Payload::SourceSyncSealed(sealed.clone());
        Edit::Follow(vec![(record.clone(), sealed)])
    });
}

#[test]
fn access_that_a_sealed_set_shows_is_not_gone_whatever_nobody_says() {
    let golden = Golden::new();
    let forged = Forged::of(&golden);
    let before = forged.found().facts;
    let (key, leaf) = stayed_away(&forged.files);
    read_again_and_there(&forged, &key, &leaf);
    forged.fails("I-32", "closed over access that had come back an hour ago");
    let after = forged.found().facts;
    assert_eq!(after.removals.verified, before.removals.verified - 1);
    assert_eq!(after.removals.regressions, before.removals.regressions + 1);
    assert_eq!(after.campaigns[0].removed, before.campaigns[0].removed - 1);
}

/// The read-back of the removal that came back, and the finding it resolved.
fn came_back(files: &BundleFiles) -> (Known, v1::FindingDispositioned) {
    let records = survey(files);
    let closed = records.iter().find_map(|(_, _, payload)| match payload {
        Payload::RegressionDetected(p) => Some(p.closed_record_hash.clone()),
        _ => None,
    });
    let closed = closed.unwrap();
    let resolved = records.iter().find_map(|(_, _, payload)| match payload {
        Payload::FindingDispositioned(p) if p.evidence_record_hash == closed => Some(p.clone()),
        _ => None,
    });
    let effect = records
        .iter()
        .find(|(hash, _, _)| hash.as_slice() == closed.as_slice());
    (effect.unwrap().clone(), resolved.unwrap())
}

fn is_regression(payload: &Payload) -> bool {
    matches!(payload, Payload::RegressionDetected(_))
}

#[test]
fn an_old_read_back_does_not_close_again_what_came_back() {
    let golden = Golden::new();
    let forged = Forged::of(&golden);
    let ((_, record, effect), _) = came_back(&forged.files);
    forged.follow(is_regression, &[(record, effect)]);
    forged.fails("I-34", "closed again by the read-back of before");
}

#[test]
fn what_came_back_twice_is_told_twice() {
    let golden = Golden::of(support::cycle::build_with_hidden_return(60));
    let found = golden.verify(&golden.dir.path().join("golden"));
    let failed: Vec<&str> = found.failed().map(|check| check.id).collect();
    assert_eq!(failed, ["I-32", "I-37"]);
    let rereads = found.checks.iter().find(|check| check.is("I-37")).unwrap();
    assert!(rereads.detail.contains("hides that"), "{rereads:?}");
    assert_eq!(found.facts.removals.regressions, 2);
}

#[test]
fn a_finding_is_not_resolved_by_what_was_read_before_it_was_reopened() {
    let golden = Golden::new();
    let forged = Forged::of(&golden);
    let ((_, record, _), resolved) = came_back(&forged.files);
    let mut reopened = resolved.clone();
    reopened.set_state(FindingState::Reopened);
    reopened.evidence_record_hash.clear();
    let more = [reopened, resolved].map(|one| {
        let payload = Payload::FindingDispositioned(one);
        (record.clone(), payload)
    });
    forged.follow(is_regression, &more);
    forged.fails("I-33", "resolved by the read-back of before");
}

fn sync_of_nothing(source: &str, at_ms: i64) -> v1::SourceSyncSealed {
    let nothing = v1::TypeCounts::default();
    v1::SourceSyncSealed {
        sync: format!("syncs/none-of-{source}"),
        source: source.to_owned(),
        mode: v1::SyncMode::Full.into(),
        purpose: SyncPurpose::Inventory.into(),
        state: v1::SyncState::Complete.into(),
        started_ms: at_ms,
        ended_ms: at_ms,
        watermark_hash: vec![0; 32],
        pages: 1,
        counts: Some(nothing),
        control_totals: Some(nothing),
        set_root: empty_root().0.to_vec(),
        reader_principal: reader(source),
        ..v1::SourceSyncSealed::default()
    }
}

/// Seals, at the very beginning, a snapshot of sources that had nothing yet; answers it with its hash.
fn snapshot_of_nothing(forged: &Forged<'_>) -> (v1::SnapshotSealed, Vec<u8>) {
    let none = sha256(b"").0.to_vec();
    let path = format!("blobs/sha256/{}", hex::encode(&none));
    forged.files.write(&path, b"").unwrap();
    let registered =
        |payload: &Payload| matches!(payload, Payload::SourceRegistered(p) if p.source == OLD);
    let (mut record, at_ms) = last(&forged.files, |(_, record, payload)| {
        registered(payload).then(|| (record.clone(), record.occurred_at_ms))
    });
    record.blob = vec![v1::BlobRef {
        sha256: none,
        size: 0,
        media_type: media_type::GRANT_SET.to_owned(),
    }];
    let syncs = [HR, LDAP].map(|source| {
        let sync = sync_of_nothing(source, at_ms);
        (record.clone(), Payload::SourceSyncSealed(sync))
    });
    forged.follow(registered, &syncs);
    let mut sources: Vec<v1::SnapshotSource> = survey(&forged.files)
        .into_iter()
        .filter_map(|(hash, _, payload)| match payload {
            Payload::SourceSyncSealed(p) if p.sync.starts_with("syncs/none-of") => {
                Some(v1::SnapshotSource {
                    source_tag: SourceTag::of(&p.source).0.to_vec(),
                    source: p.source,
                    sync_record_hash: hash.to_vec(),
                    set_root: p.set_root,
                    set_count: 0,
                    synced_ms: p.ended_ms,
                })
            }
            _ => None,
        })
        .collect();
    sources.sort_by(|a, b| a.source_tag.cmp(&b.source_tag));
    let snapshot = v1::SnapshotSealed {
        snapshot: "snapshots/nothing".to_owned(),
        snapshot_root: snapshot_root(&sources),
        sources,
        grant_count: 0,
        missing_sources: vec![v1::MissingSource {
            source: OLD.to_owned(),
            source_tag: SourceTag::of(OLD).0.to_vec(),
            reason: "partial".to_owned(),
        }],
    };
    record.blob.clear();
    let sealed = Payload::SnapshotSealed(snapshot.clone());
    let second = |payload: &Payload| matches!(payload, Payload::SourceSyncSealed(p) if p.sync == format!("syncs/none-of-{LDAP}"));
    forged.follow(second, &[(record, sealed)]);
    let hash = last(&forged.files, |(hash, _, payload)| match payload {
        Payload::SnapshotSealed(p) if p.snapshot == "snapshots/nothing" => Some(hash.to_vec()),
        _ => None,
    });
    (snapshot, hash)
}

/// A second run, behind the end of the remediation, over a snapshot that shows nothing; answers its hash.
fn run_over_nothing(forged: &Forged<'_>) -> Vec<u8> {
    let (snapshot, snapshot_hash) = snapshot_of_nothing(forged);
    let (mut record, mut run) = last(&forged.files, |(_, record, payload)| match payload {
        Payload::ReconRunSealed(p) => Some((record.clone(), p.clone())),
        _ => None,
    });
    let authorized = record
        .blob
        .iter()
        .find(|blob| blob.media_type == media_type::AUTHORIZED_SET);
    let authorized = authorized.unwrap().clone();
    let path = format!("blobs/sha256/{}", hex::encode(&authorized.sha256));
    let decided = forged.files.read(&path).unwrap();
    run.as_of_ms = last(&forged.files, |(_, record, payload)| match payload {
        Payload::RemediationClosed(_) => Some(record.occurred_at_ms),
        _ => None,
    });
    let mut situations: BTreeMap<i32, u64> = BTreeMap::new();
    let mut findings = Vec::new();
    for leaf in decided.chunks_exact(AUTHORIZED_LEAF_LEN) {
        let leaf = AuthorizedLeaf::try_from(leaf).unwrap();
        let as_of_ms = u64::try_from(run.as_of_ms).unwrap();
        let situation = classify(Some(&leaf), Observed::Absent, as_of_ms);
        *situations.entry(situation as i32).or_default() += 1;
        if requires_action(situation) {
            let key = leaf.key;
            findings.extend(FindingLeaf { key, situation }.to_bytes());
        }
    }
    let digest = sha256(&findings).0.to_vec();
    let path = format!("blobs/sha256/{}", hex::encode(&digest));
    forged.files.write(&path, &findings).unwrap();
    let leaves: Vec<_> = findings
        .chunks_exact(FINDING_LEAF_LEN)
        .map(leaf_hash)
        .collect();
    record.blob = vec![
        authorized,
        v1::BlobRef {
            sha256: digest,
            size: findings.len() as u64,
            media_type: media_type::FINDINGS.to_owned(),
        },
    ];
    run.recon_run = "recon-runs/2".to_owned();
    run.snapshot_record_hash = snapshot_hash;
    run.snapshot_root = snapshot.snapshot_root;
    run.observed_count = 0;
    run.situations = situations
        .into_iter()
        .map(|(situation, count)| v1::SituationCount { situation, count })
        .collect();
    run.findings_root = merkle::root(&leaves).0.to_vec();
    run.findings_count = leaves.len() as u64;
    let ended = |payload: &Payload| matches!(payload, Payload::RemediationClosed(_));
    forged.follow(ended, &[(record, Payload::ReconRunSealed(run))]);
    last(&forged.files, |(hash, _, payload)| match payload {
        Payload::ReconRunSealed(_) => Some(hash.to_vec()),
        _ => None,
    })
}

/// Findings that nothing has resolved.
fn open(files: &BundleFiles) -> Vec<(v1::Record, String)> {
    let records = survey(files);
    let resolved: BTreeSet<&str> = records
        .iter()
        .filter_map(|(_, _, payload)| match payload {
            Payload::FindingDispositioned(p) => Some(p.finding.as_str()),
            _ => None,
        })
        .collect();
    records
        .iter()
        .filter_map(|(_, record, payload)| match payload {
            Payload::FindingOpened(p) if !resolved.contains(p.finding.as_str()) => {
                Some((record.clone(), p.finding.clone()))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn a_run_over_an_older_snapshot_resolves_nothing() {
    let golden = Golden::new();
    let forged = Forged::of(&golden);
    let run = run_over_nothing(&forged);
    let found = forged.found();
    assert_eq!(found.verdict, Verdict::Ok, "so far it is honest");
    let resolve = |(record, finding): (v1::Record, String)| {
        let change = v1::FindingDispositioned {
            finding,
            state: FindingState::ResolvedVerified.into(),
            until_ms: 0,
            evidence_record_hash: run.clone(),
        };
        (record, Payload::FindingDispositioned(change))
    };
    let all: Vec<_> = open(&forged.files).into_iter().map(resolve).collect();
    assert!(all.len() > 1);
    let second = |payload: &Payload| matches!(payload, Payload::ReconRunSealed(p) if p.recon_run == "recon-runs/2");
    forged.follow(second, &all);
    forged.fails("I-33", "resolved by a snapshot from before the finding");
}

#[test]
fn findings_that_nobody_opened_are_open_all_the_same() {
    let golden = Golden::new();
    let forged = Forged::of(&golden);
    let before = forged.found().facts.open_findings;
    let left: BTreeSet<String> = open(&forged.files)
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    assert!(left.len() > 1);
    forged.rewrite(|scene| match &*scene.payload {
        Payload::FindingOpened(p) if left.contains(&p.finding) => Edit::Drop,
        _ => Edit::Keep,
    });
    assert_eq!(forged.found().facts.open_findings, before);
}

#[test]
fn the_report_says_what_whoever_decided_is_and_of_when_the_newest_run_speaks() {
    let golden = Golden::new();
    let forged = Forged::of(&golden);
    let text = counterfoil_verify::report::text(&forged.found());
    let expected = format!("decided by {ALICE} (human of the customer): ");
    assert!(text.contains(&expected), "{text}");
    assert!(
        text.contains("Newest run recon-runs/1: as of 2026-"),
        "{text}"
    );
    forged.rewrite(|scene| {
        if let Payload::PrincipalRegistered(p) = &mut *scene.payload
            && p.principal == ALICE
        {
            p.set_kind(v1::PrincipalKind::Service);
            p.set_organization_kind(v1::OrganizationKind::Provider);
        }
        Edit::Keep
    });
    let found = forged.found();
    let text = counterfoil_verify::report::text(&found);
    let expected = format!("decided by {ALICE} (NO HUMAN: service of the provider): ");
    assert!(text.contains(&expected), "{text}");
    let campaign = &found.facts.campaigns[0];
    let human: u64 = campaign
        .decided_by
        .iter()
        .filter(|maker| maker.human)
        .map(|maker| maker.decisions)
        .sum();
    let all: u64 = campaign
        .decided_by
        .iter()
        .map(|maker| maker.decisions)
        .sum();
    assert!(0 < human && human < all);
}
