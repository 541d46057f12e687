//! Sets that prove absence: every true proof verifies, and no changed one does.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking, and their sizes are small"
)]

use counterfoil_tlog::hash::{Hash, empty_root, leaf_hash, sha256};
use counterfoil_tlog::merkle::root;
use counterfoil_tlog::sorted_set::{
    Neighbour, SetError, SetProof, SetRoot, SortedSet, SortedSetBuilder, verify_membership,
    verify_non_membership,
};
use proptest::prelude::*;

const KEY_BYTES: usize = 4;
const LEAF_BYTES: usize = 7;

/// The set of these keys; a leaf is its key and three bytes that depend on it.
fn set_of(keys: impl IntoIterator<Item = u32>) -> SortedSet {
    let blob = keys.into_iter().flat_map(leaf).collect();
    SortedSet::from_leaves(blob, KEY_BYTES, LEAF_BYTES).unwrap()
}

fn leaf(key: u32) -> Vec<u8> {
    [&key.to_be_bytes(), &sha256(&key.to_be_bytes()).0[..3]].concat()
}

/// The keys 10, 20, 30, …, so that there is room between all of them.
fn tens(count: u32) -> SortedSet {
    set_of((1..=count).map(|n| n * 10))
}

fn holds(set: &SetRoot, key: u32, proof: &SetProof) -> bool {
    verify_membership(&set.root, set.count, &key.to_be_bytes(), proof).is_ok()
}

fn lacks(set: &SetRoot, key: u32, proof: &SetProof) -> bool {
    verify_non_membership(&set.root, set.count, &key.to_be_bytes(), proof).is_ok()
}

#[test]
fn every_key_is_proved_in_or_out_of_sets_of_every_size() {
    for count in 0..40 {
        let set = tens(count);
        let committed = set.root();
        for key in 0..count * 10 + 15 {
            let proof = set.prove(&key.to_be_bytes()).unwrap();
            let member = key > 0 && key % 10 == 0 && key <= count * 10;
            assert_eq!(holds(&committed, key, &proof), member, "{key} in {count}");
            assert_eq!(lacks(&committed, key, &proof), !member, "{key} in {count}");
            assert_eq!(set.get(&key.to_be_bytes()).is_some(), member);
            assert_eq!(SetProof::from_bytes(&proof.to_bytes()).unwrap(), proof);
        }
    }
}

#[test]
fn a_membership_proof_hands_out_the_leaf() {
    let set = tens(9);
    let key = 50_u32.to_be_bytes();
    let proof = set.prove(&key).unwrap();
    let (root, count) = (set.root().root, set.count());
    assert_eq!(
        verify_membership(&root, count, &key, &proof).unwrap(),
        leaf(50)
    );
}

#[test]
fn the_builder_commits_as_the_whole_set_does() {
    for count in [0, 1, 2, 7, 64, 100] {
        let set = tens(count);
        let mut builder = SortedSetBuilder::new(KEY_BYTES, LEAF_BYTES).unwrap();
        set.leaves().for_each(|leaf| builder.push(leaf).unwrap());
        assert_eq!(builder.count(), u64::from(count));
        let committed = builder.finish();
        assert_eq!(committed, set.root());
        assert_eq!(committed.blob_sha256, sha256(set.blob()));
        let leaves: Vec<Hash> = set.leaves().map(leaf_hash).collect();
        assert_eq!(committed.root, root(&leaves));
    }
    assert_eq!(tens(0).root().root, empty_root());
}

#[test]
fn leaves_out_of_order_or_of_another_length_are_refused() {
    let blob = |keys: &[u32]| keys.iter().copied().flat_map(leaf).collect::<Vec<u8>>();
    for keys in [[10, 10], [20, 10]] {
        let refused = SortedSet::from_leaves(blob(&keys), KEY_BYTES, LEAF_BYTES);
        assert_eq!(refused.unwrap_err(), SetError::NotAscending { index: 1 });
    }
    let mut short = blob(&[10, 20]);
    short.pop();
    assert!(matches!(
        SortedSet::from_leaves(short, KEY_BYTES, LEAF_BYTES),
        Err(SetError::LeafLength { index: 1, .. })
    ));
    for (key_bytes, leaf_bytes) in [(0, 7), (8, 7), (1, 65_536)] {
        assert!(SortedSet::from_leaves(Vec::new(), key_bytes, leaf_bytes).is_err());
        assert!(SortedSetBuilder::new(key_bytes, leaf_bytes).is_err());
    }
    assert!(tens(3).prove(&[0; 5]).is_err());
}

#[test]
fn a_leaf_refused_by_the_builder_leaves_no_trace() {
    let mut builder = SortedSetBuilder::new(KEY_BYTES, LEAF_BYTES).unwrap();
    builder.push(&leaf(10)).unwrap();
    assert_eq!(
        builder.push(&leaf(10)),
        Err(SetError::NotAscending { index: 1 })
    );
    assert_eq!(
        builder.push(&leaf(5)),
        Err(SetError::NotAscending { index: 1 })
    );
    assert!(matches!(
        builder.push(&leaf(20)[..6]),
        Err(SetError::LeafLength { .. })
    ));
    builder.push(&leaf(20)).unwrap();
    assert_eq!(builder.finish(), tens(2).root());
}

#[test]
fn a_present_key_cannot_be_proved_absent() {
    let set = tens(16);
    let committed = set.root();
    let neighbour = |key: u32| match set.prove(&key.to_be_bytes()).unwrap() {
        SetProof::Membership(own) => own,
        SetProof::NonMembership { .. } => unreachable!(),
    };
    // Every pair of true leaves, and every true leaf alone, is no proof against a key that is there.
    let mut options: Vec<Option<Neighbour>> = vec![None];
    options.extend((1..=16).map(|n| Some(neighbour(n * 10))));
    for left in &options {
        for right in &options {
            let proof = SetProof::NonMembership {
                left: left.clone(),
                right: right.clone(),
            };
            for key in (1..=16).map(|n| n * 10) {
                assert!(!lacks(&committed, key, &proof), "{key}: {left:?} {right:?}");
            }
        }
    }
}

#[test]
fn neighbours_missing_before_an_end_are_refused() {
    let set = tens(5);
    let committed = set.root();
    let (left, right) = match set.prove(&25_u32.to_be_bytes()).unwrap() {
        SetProof::NonMembership { left, right } => (left, right),
        SetProof::Membership(_) => unreachable!(),
    };
    for (left, right) in [
        (left.clone(), None),
        (None, right.clone()),
        (None, None),
        (right.clone(), left.clone()),
        (left.clone(), left),
        (right.clone(), right),
    ] {
        assert!(!lacks(
            &committed,
            25,
            &SetProof::NonMembership { left, right }
        ));
    }
    let nothing = SetProof::NonMembership {
        left: None,
        right: None,
    };
    assert!(lacks(&tens(0).root(), 25, &nothing));
    assert!(!lacks(
        &SetRoot {
            count: 0,
            ..committed
        },
        25,
        &nothing
    ));
    assert!(!lacks(
        &SetRoot {
            root: empty_root(),
            ..committed
        },
        25,
        &nothing
    ));
    // An empty key stands below everything and is a prefix of everything.
    assert!(verify_non_membership(&empty_root(), 0, &[], &nothing).is_err());
}

#[test]
fn encodings_with_unknown_versions_kinds_or_trailing_bytes_are_refused() {
    let set = tens(6);
    for key in [5_u32, 10, 15, 60, 65] {
        let bytes = set.prove(&key.to_be_bytes()).unwrap().to_bytes();
        for length in 0..bytes.len() {
            assert!(SetProof::from_bytes(&bytes[..length]).is_err());
        }
        assert!(SetProof::from_bytes(&[bytes.as_slice(), &[0]].concat()).is_err());
        let mut other = bytes.clone();
        other[0] = 2;
        assert!(SetProof::from_bytes(&other).is_err());
        let mut other = bytes;
        other[1] = 5;
        assert!(SetProof::from_bytes(&other).is_err());
    }
}

proptest! {
    #[test]
    fn one_flipped_bit_anywhere_in_a_proof_is_refused(
        count in 0..60_u32, key in 0..620_u32, place in any::<prop::sample::Index>(), bit in 0..8,
    ) {
        let set = tens(count);
        let committed = set.root();
        let mut bytes = set.prove(&key.to_be_bytes()).unwrap().to_bytes();
        let place = place.index(bytes.len());
        bytes[place] ^= 1_u8 << bit;
        if let Ok(changed) = SetProof::from_bytes(&bytes) {
            prop_assert!(!holds(&committed, key, &changed));
            prop_assert!(!lacks(&committed, key, &changed));
            // What decodes has one encoding.
            prop_assert_eq!(changed.to_bytes(), bytes);
        }
    }

    #[test]
    fn a_true_proof_says_nothing_about_another_set_or_the_opposite(
        keys in prop::collection::btree_set(0..500_u32, 1..60), key in 0..500_u32,
        other_root in any::<[u8; 32]>(), other_count in 0..100_u64,
    ) {
        let set = set_of(keys.iter().copied());
        let committed = set.root();
        let proof = set.prove(&key.to_be_bytes()).unwrap();
        let member = keys.contains(&key);
        prop_assert_eq!(holds(&committed, key, &proof), member);
        prop_assert_eq!(lacks(&committed, key, &proof), !member);
        let elsewhere = SetRoot { root: Hash(other_root), ..committed };
        prop_assert!(!holds(&elsewhere, key, &proof) && !lacks(&elsewhere, key, &proof));
        // The count counts where the proof rests on it: a last leaf is not last in a longer set.
        if let SetProof::NonMembership { right: None, .. } = &proof {
            let longer = SetRoot { count: committed.count + 1 + other_count, ..committed };
            prop_assert!(!lacks(&longer, key, &proof));
        }
    }

    #[test]
    fn a_proof_for_one_key_proves_another_only_in_the_same_gap(
        keys in prop::collection::btree_set(0..200_u32, 0..40), key in 0..200_u32, other in 0..200_u32,
    ) {
        let set = set_of(keys.iter().copied());
        let committed = set.root();
        let proof = set.prove(&key.to_be_bytes()).unwrap();
        prop_assert_eq!(holds(&committed, other, &proof), keys.contains(&key) && other == key);
        let (low, high) = (key.min(other), key.max(other));
        let same_gap = keys.range(low..=high).next().is_none();
        prop_assert_eq!(lacks(&committed, other, &proof), same_gap);
    }

    #[test]
    fn hostile_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(proof) = SetProof::from_bytes(&bytes) {
            prop_assert_eq!(proof.to_bytes(), bytes);
        }
    }
}
