//! What a lab's store shows, in native ids, and what it should show by a naive model.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test file uses its own part"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use counterfoil_evidence::leaf::{GRANT_LEAF_LEN, GrantFlags, GrantLeaf};
use counterfoil_inventory::{
    model::facts::Id,
    store::{
        entities::{self, Kind},
        grants::{self, ListedGrant, Slice},
        syncs::SyncRow,
    },
};
use counterfoil_tlog::sorted_set::SortedSet;

use super::support::{Estate, Lab, TENANT};

pub async fn ids(lab: &Lab, source: &str, kind: Kind) -> HashMap<String, Id> {
    let source_no = lab.source(source).await.source_no;
    let mut ids = HashMap::new();
    entities::known(&lab.db, TENANT, kind, source_no, |known| {
        ids.insert(known.native_id, known.id);
    })
    .await
    .unwrap();
    ids
}

pub async fn listed(lab: &Lab, source: &str) -> Vec<ListedGrant> {
    let source = lab.source(source).await;
    let slice = Slice {
        source_no: source.source_no,
        seq: source.current_seq,
        flags: GrantFlags::default(),
        after: &[],
        limit: 100_000,
    };
    grants::list(&lab.db, TENANT, slice).await.unwrap()
}

/// (account, entitlement, path) by native ids.
pub async fn explained(lab: &Lab, source: &str) -> BTreeSet<(String, String, Vec<String>)> {
    let names: HashMap<Id, String> = ids(lab, source, Kind::Entitlement)
        .await
        .into_iter()
        .map(|(native, id)| (id, native))
        .collect();
    let grants = listed(lab, source).await;
    grants
        .into_iter()
        .map(|grant| {
            let path = grant.facts.path.chunks(16);
            let path = path.map(|step| names[<&Id>::try_from(step).unwrap()].clone());
            (
                grant.account.native_id,
                grant.entitlement.native_id,
                path.collect(),
            )
        })
        .collect()
}

/// What must be there, worked out by walking all paths.
pub fn naive(estate: &Estate) -> BTreeSet<(String, String, Vec<String>)> {
    let mut all = BTreeSet::new();
    let mut by_account: BTreeMap<&String, Vec<&String>> = BTreeMap::new();
    for (account, entitlement) in estate.grants.keys() {
        all.insert((account.clone(), entitlement.clone(), vec![]));
        by_account.entry(account).or_default().push(entitlement);
    }
    for (account, direct) in by_account {
        let mut best: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut open: Vec<Vec<String>> = direct.iter().map(|&one| vec![one.clone()]).collect();
        while let Some(path) = open.pop() {
            let last = path.last().unwrap();
            for (_, parent) in estate.edges.iter().filter(|(child, _)| child == last) {
                if path.contains(parent) {
                    continue;
                }
                let known = best.get(parent);
                if known.is_none_or(|known| (path.len(), &path) < (known.len(), known)) {
                    best.insert(parent.clone(), path.clone());
                }
                let mut longer = path.clone();
                longer.push(parent.clone());
                open.push(longer);
            }
        }
        for (entitlement, path) in best {
            all.insert((account.clone(), entitlement, path));
        }
    }
    all
}

/// The sealed numbers are those of the set that can be streamed again.
pub async fn assert_streams_again(lab: &Lab, sync: &SyncRow) {
    let source = lab.source(&sync.source).await;
    let leaves = lab.leaves_at(&source, sync.seq.unwrap()).await;
    let blob: Vec<u8> = leaves.iter().flat_map(GrantLeaf::to_bytes).collect();
    let set = SortedSet::from_leaves(blob, 40, GRANT_LEAF_LEN)
        .unwrap()
        .root();
    assert_eq!(Some(set.root.0), sync.set_root);
    assert_eq!(Some(set.blob_sha256.0), sync.blob_sha256);
    assert_eq!(set.count, sync.set_count);
}
