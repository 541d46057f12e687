//! Any history of syncs, compared with a naive model.

#![cfg(test)]

#[path = "support/observed.rs"]
mod observed;
#[path = "support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};

use counterfoil_chassis::{Engine, testing::TestDatabase};
use counterfoil_evidence::leaf::{GrantKey, GrantLeaf};
use counterfoil_inventory::store::{
    changes, grants,
    syncs::{State, SyncRow},
};
use observed::{assert_streams_again, explained, naive};
use support::{Estate, Lab, TENANT};

/// An estate that is anything, over few names so that syncs meet each other's.
fn any_estate() -> impl proptest::strategy::Strategy<Value = Estate> {
    use proptest::{collection::btree_set, prelude::*};
    (
        btree_set(0_u8..6, 0..6),
        btree_set(0_u8..6, 0..6),
        btree_set((0_u8..6, 0_u8..6), 0..8),
        btree_set((0_u8..6, 0_u8..6, 0_u8..2), 0..14),
    )
        .prop_map(|(accounts, entitlements, edges, grants)| {
            let mut estate = Estate::default();
            for number in &accounts {
                estate.person(&format!("a{number}"));
            }
            for number in &entitlements {
                estate.team(&format!("e{number}"));
            }
            for (child, parent) in edges {
                if child != parent
                    && entitlements.contains(&child)
                    && entitlements.contains(&parent)
                {
                    estate.edge(&format!("e{child}"), &format!("e{parent}"));
                }
            }
            for (account, entitlement, purpose) in grants {
                if accounts.contains(&account) && entitlements.contains(&entitlement) {
                    let grant = estate.grant(&format!("a{account}"), &format!("e{entitlement}"));
                    grant.purpose = format!("purpose {purpose}");
                }
            }
            estate
        })
}

async fn check_history(estates: Vec<Estate>) {
    let db = TestDatabase::new(Engine::Sqlite).await;
    let lab = Lab::new(&db).await;
    lab.add_source("hr", &Estate::default()).await;
    let mut history: Vec<(SyncRow, Vec<GrantLeaf>)> = Vec::new();
    for estate in &estates {
        estate.write(&lab.files("hr"));
        let sync = lab.sync("hr").await;
        assert_eq!(sync.state, State::Complete, "{:?}", sync.error_messages);
        assert_eq!(explained(&lab, "hr").await, naive(estate));
        let source = lab.source("hr").await;
        let leaves = lab.leaves("hr").await;
        // The changes are the difference between the sets before and after.
        let before: BTreeMap<GrantKey, GrantLeaf> = history
            .last()
            .map(|(_, leaves)| leaves.iter().map(|leaf| (leaf.key, *leaf)).collect())
            .unwrap_or_default();
        let after: BTreeMap<GrantKey, GrantLeaf> =
            leaves.iter().map(|leaf| (leaf.key, *leaf)).collect();
        let keys: BTreeSet<GrantKey> = before.keys().chain(after.keys()).copied().collect();
        let expected: Vec<_> = keys
            .into_iter()
            .map(|key| (key, before.get(&key).copied(), after.get(&key).copied()))
            .filter(|(_, before, after)| before != after)
            .collect();
        let found = changes::of_sync(&lab.db, TENANT, source.source_no, sync.seq.unwrap(), &[])
            .await
            .unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|change| {
                let leaf = |version: &Option<_>| {
                    version
                        .as_ref()
                        .map(|version| grants::leaf(source.tag, version))
                };
                (
                    grants::full_key(source.tag, &change.key),
                    leaf(&change.before),
                    leaf(&change.after),
                )
            })
            .collect();
        assert_eq!(found, expected);
        history.push((sync, leaves));
    }
    // Every set that was ever sealed can be streamed again.
    let source = lab.source("hr").await;
    for (sync, leaves) in &history {
        assert_eq!(&lab.leaves_at(&source, sync.seq.unwrap()).await, leaves);
        assert_streams_again(&lab, sync).await;
    }
}

#[test]
fn any_history_of_syncs_agrees_with_a_naive_model() {
    use proptest::test_runner::{Config, TestRunner};
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config {
        cases: 24,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    runner
        .run(&proptest::collection::vec(any_estate(), 1..5), |estates| {
            runtime.block_on(check_history(estates));
            Ok(())
        })
        .unwrap();
}
