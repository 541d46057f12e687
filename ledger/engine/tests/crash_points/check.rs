//! What must hold after every crash, read from what was told before it and from the published files, by other people's code where
//! there is some.

use std::collections::{BTreeMap, BTreeSet};

use counterfoil_engine::{Log, SignedRecord};
use counterfoil_evidence::record::{decode_entry, record_hash};
use counterfoil_tlog::{Checkpoint, Hash, checkpoint, proof};

use crate::life::{Place, SCRIPT, TENANTS, in_lines};
use crate::support::foreign::Exported;

/// What was told of one log.
struct Told<'a> {
    /// Of each receipt: the record's hash, the leaf hash, the proof.
    receipts: Vec<(&'a str, Hash, String)>,
    checkpoints: Vec<String>,
}

impl<'a> Told<'a> {
    fn of(tenant: usize, lines: &'a [String]) -> Self {
        let (mut receipts, mut checkpoints) = (Vec::new(), Vec::new());
        let tenant = tenant.to_string();
        for line in lines {
            let (what, rest) = line.split_once(' ').unwrap();
            let (of, rest) = rest.split_once(' ').unwrap();
            match what {
                _ if of != tenant => {}
                "receipt" => {
                    let (record, rest) = rest.split_once(' ').unwrap();
                    let (leaf, proof) = rest.split_once(' ').unwrap();
                    let leaf: [u8; 32] = hex::decode(leaf).unwrap().try_into().unwrap();
                    receipts.push((record, Hash(leaf), in_lines(proof)));
                }
                "checkpoint" => checkpoints.push(in_lines(rest)),
                _ => panic!("not a line of ours: {line:?}"),
            }
        }
        Self {
            receipts,
            checkpoints,
        }
    }
}

/// Whether all of these records were acknowledged.
pub(crate) fn all_acknowledged(tenant: usize, records: &[SignedRecord], lines: &[String]) -> bool {
    let begin = format!("receipt {tenant} ");
    let told = lines.iter().filter_map(|line| line.strip_prefix(&begin));
    let told: BTreeSet<&str> = told.filter_map(|rest| rest.get(..64)).collect();
    let mut hashes = records.iter().map(|sent| record_hash(&sent.record));
    hashes.all(|hash| told.contains(hex::encode(hash).as_str()))
}

/// Whoever takes a copy at this moment, also in the middle of a crash, has a whole log.
pub(crate) fn copies_are_whole(place: &Place, logs: &[Log]) {
    for (log, (name, _)) in logs.iter().zip(TENANTS) {
        let copy = place.copies().join(name);
        if copy.join("checkpoint").exists() {
            Exported::published(&copy).verify(&log.info().vkey.to_string());
        }
    }
}

/// The copies' checkpoints carry the cosignature of the witness.
pub(crate) fn copies_are_cosigned(case: &str, place: &Place, logs: &[Log]) {
    let witness = place.witness(logs);
    for (log, (name, origin)) in logs.iter().zip(TENANTS) {
        let note = std::fs::read(place.copies().join(name).join("checkpoint")).unwrap();
        let known = std::slice::from_ref(witness.key());
        let opened = checkpoint::open(&note, &log.info().vkey, known).unwrap();
        assert_eq!(opened.cosignatures.len(), 1, "{case}");
        assert_eq!(witness.latest(origin), Some(opened.checkpoint), "{case}");
    }
}

/// Nothing acknowledged is lost, nothing is there twice, and there is one history.
pub(crate) async fn all_is_there_once(case: &str, place: &Place, logs: &[Log], lines: &[String]) {
    for (tenant, (log, (name, _))) in logs.iter().zip(TENANTS).enumerate() {
        let told = Told::of(tenant, lines);
        let vkey = &log.info().vkey;
        let copy = Exported::published(&place.copies().join(name));
        let entries = copy.verify(&vkey.to_string());
        let head = log.head().await.unwrap();
        let published = String::from_utf8(copy.files["checkpoint"].clone()).unwrap();
        // Cosignatures are lines after it.
        assert!(published.starts_with(&head.checkpoint), "{case}");

        let mut logged: Vec<String> = entries.iter().map(|entry| record_of(entry)).collect();
        let sent = SCRIPT.of(tenant).map(|sent| record_hash(&sent.record));
        let mut sent: Vec<String> = sent.map(hex::encode).collect();
        logged.sort_unstable();
        sent.sort_unstable();
        assert!(logged == sent, "{case}: each record that was sent, once");

        let mut roots: BTreeMap<u64, Hash> = BTreeMap::new();
        let mut seen = |Checkpoint { size, root, .. }: Checkpoint| {
            let first = *roots.entry(size).or_insert(root);
            assert_eq!(first, root, "{case}: two histories of {size} entries");
        };
        for (record, leaf, receipt) in &told.receipts {
            let (index, under) = proof::verify(receipt, leaf, vkey).unwrap();
            let entry = &entries[usize::try_from(index).unwrap()];
            assert_eq!(tlog_tiles::record_hash(entry).0, leaf.0, "{case}: {index}");
            assert_eq!(record_of(entry), *record, "{case}: {index}");
            seen(under);
        }
        for note in &told.checkpoints {
            seen(
                checkpoint::open(note.as_bytes(), vkey, &[])
                    .unwrap()
                    .checkpoint,
            );
        }
        assert!(roots.len() > 1, "{case}: {roots:?}");
        for (size, root) in roots {
            assert!(copy.extends(size, root.0), "{case}: another one at {size}");
        }
        let copies = place.publication();
        let found = log.fsck_with(Some(&copies), &mut |_, _| {}).await.unwrap();
        assert!(found.is_clean(), "{case}: {:?}", found.problems);
    }
}

fn record_of(entry: &[u8]) -> String {
    hex::encode(record_hash(&decode_entry(entry).unwrap().record))
}
