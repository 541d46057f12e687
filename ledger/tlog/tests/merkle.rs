//! Properties of the tree: every proof at every size verifies, and nothing else does.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking, and their sizes are small"
)]

use counterfoil_tlog::hash::{Hash, empty_root, leaf_hash, node_hash};
use counterfoil_tlog::merkle::{
    Frontier, HashReader, MerkleError, MerkleTree, consistency_proof, consistency_proof_length,
    consistency_proof_of_leaves, consistency_subtrees, inclusion_proof, inclusion_proof_length,
    inclusion_proof_of_leaves, inclusion_subtrees, root, verify_consistency, verify_inclusion,
};
use proptest::prelude::*;

const SIZE_MAX: u64 = 300;

fn leaves(count: u64) -> Vec<Hash> {
    (0..count)
        .map(|index| leaf_hash(&index.to_be_bytes()))
        .collect()
}

/// The definition of RFC 6962, as it stands there.
fn definition(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let split = leaves.len().next_power_of_two() / 2;
            node_hash(&definition(&leaves[..split]), &definition(&leaves[split..]))
        }
    }
}

#[test]
fn roots_follow_the_definition_at_every_size() {
    let all = leaves(SIZE_MAX);
    let mut grown = MerkleTree::new();
    let whole = MerkleTree::from_leaves(all.clone());
    for size in 0..=all.len() {
        let expected = definition(&all[..size]);
        assert_eq!(root(&all[..size]), expected);
        assert_eq!(grown.root(), expected);
        assert_eq!(whole.root_at(size as u64).unwrap(), expected);
        if let Some(leaf) = all.get(size) {
            grown.push(*leaf);
        }
    }
}

#[test]
fn every_inclusion_proof_verifies_at_its_index_only() {
    let all = leaves(SIZE_MAX);
    let tree = MerkleTree::from_leaves(all.clone());
    for size in 1..=SIZE_MAX {
        let root = tree.root_at(size).unwrap();
        for index in 0..size {
            let proof = tree.inclusion_proof(index, size).unwrap();
            let leaf = tree.leaf(index).unwrap();
            assert_eq!(inclusion_proof_length(index, size), Some(proof.len()));
            verify_inclusion(&leaf, index, size, &proof, &root).unwrap();
            assert!(verify_inclusion(&leaf, index + 1, size, &proof, &root).is_err());
            assert!(verify_inclusion(&leaf, index ^ 1, size, &proof, &root).is_err());
        }
    }
}

#[test]
fn every_consistency_proof_verifies() {
    let tree = MerkleTree::from_leaves(leaves(SIZE_MAX));
    let roots: Vec<Hash> = (0..=SIZE_MAX)
        .map(|size| tree.root_at(size).unwrap())
        .collect();
    for new in 0..=SIZE_MAX {
        for old in 0..=new {
            let proof = tree.consistency_proof(old, new).unwrap();
            assert_eq!(consistency_proof_length(old, new), Some(proof.len()));
            let (old_root, new_root) = (&roots[old as usize], &roots[new as usize]);
            verify_consistency(old, old_root, new, new_root, &proof).unwrap();
        }
    }
}

#[test]
fn a_consistency_proof_from_nothing_takes_no_root_on_trust() {
    let all = leaves(5);
    let (five, four) = (root(&all), root(&all[..4]));
    verify_consistency(0, &empty_root(), 5, &five, &[]).unwrap();
    assert_eq!(
        verify_consistency(0, &four, 5, &five, &[]),
        Err(MerkleError::OldRootMismatch)
    );
    assert!(verify_consistency(0, &four, 0, &four, &[]).is_err());
    assert!(verify_consistency(0, &empty_root(), 0, &four, &[]).is_err());
    assert!(verify_consistency(0, &empty_root(), 5, &five, &[four]).is_err());
    // Empty although the sizes differ, equal sizes with other roots, and sizes reversed.
    assert!(matches!(
        verify_consistency(4, &four, 5, &five, &[]),
        Err(MerkleError::ProofLength { .. })
    ));
    assert_eq!(
        verify_consistency(5, &four, 5, &five, &[]),
        Err(MerkleError::RootMismatch)
    );
    assert!(matches!(
        verify_consistency(5, &five, 4, &four, &[]),
        Err(MerkleError::SizesReversed { .. })
    ));
}

#[test]
fn an_index_outside_the_tree_is_refused() {
    let leaf = leaf_hash(b"only");
    assert!(verify_inclusion(&leaf, 0, 0, &[], &leaf).is_err());
    assert!(verify_inclusion(&leaf, 1, 1, &[], &leaf).is_err());
    assert!(verify_inclusion(&leaf, u64::MAX, u64::MAX, &[], &leaf).is_err());
    verify_inclusion(&leaf, 0, 1, &[], &leaf).unwrap();
    let tree = MerkleTree::from_leaves(vec![leaf]);
    assert!(tree.inclusion_proof(1, 1).is_err());
    assert!(tree.inclusion_proof(0, 2).is_err());
    assert!(tree.root_at(2).is_err());
}

#[test]
fn a_proof_of_another_length_is_refused_for_its_length() {
    let all = leaves(100);
    let (tree_root, old_root) = (root(&all), root(&all[..37]));
    let inclusion = inclusion_proof_of_leaves(&all, 41).unwrap();
    let consistency = consistency_proof_of_leaves(&all, 37).unwrap();
    let resized = |proof: &[Hash]| [proof[1..].to_vec(), [proof, &proof[..1]].concat()];
    for proof in resized(&inclusion) {
        let refused = verify_inclusion(&all[41], 41, 100, &proof, &tree_root);
        let (expected, found) = (inclusion.len(), proof.len());
        assert_eq!(refused, Err(MerkleError::ProofLength { expected, found }));
    }
    for proof in resized(&consistency) {
        let refused = verify_consistency(37, &old_root, 100, &tree_root, &proof);
        let (expected, found) = (consistency.len(), proof.len());
        assert_eq!(refused, Err(MerkleError::ProofLength { expected, found }));
    }
}

#[test]
fn an_inner_node_does_not_pass_for_a_leaf() {
    let all = leaves(4);
    let tree = MerkleTree::from_leaves(all.clone());
    // The tree of two "leaves" that are the nodes above the four leaves has the same shape but for the leaf prefix.
    let joined = [all[0].0, all[1].0].concat();
    let sibling = node_hash(&all[2], &all[3]);
    assert!(verify_inclusion(&leaf_hash(&joined), 0, 2, &[sibling], &tree.root()).is_err());
}

#[test]
fn proof_lengths_are_known_for_the_largest_trees_too() {
    assert_eq!(inclusion_proof_length(0, u64::MAX), Some(64));
    assert_eq!(inclusion_proof_length(u64::MAX - 1, u64::MAX), Some(63));
    assert_eq!(inclusion_proof_length(u64::MAX, u64::MAX), None);
    assert_eq!(consistency_proof_length(1 << 63, u64::MAX), Some(1));
    assert!(inclusion_subtrees(12345, u64::MAX).unwrap().len() >= 64);
    assert!(!consistency_subtrees(12345, u64::MAX).unwrap().is_empty());
}

#[test]
fn the_subtrees_named_beforehand_are_all_that_a_proof_needs() {
    let tree = MerkleTree::from_leaves(leaves(100));
    struct Only<'t>(&'t MerkleTree, Vec<(u8, u64)>);
    impl HashReader for Only<'_> {
        fn subtree(&self, level: u8, index: u64) -> Option<Hash> {
            self.1
                .contains(&(level, index))
                .then(|| self.0.subtree(level, index))?
        }
    }
    for at in 0..100 {
        let inclusion = Only(&tree, inclusion_subtrees(at, 100).unwrap());
        assert_eq!(
            inclusion_proof(&inclusion, at, 100),
            tree.inclusion_proof(at, 100)
        );
        let consistency = Only(&tree, consistency_subtrees(at, 100).unwrap());
        assert_eq!(
            consistency_proof(&consistency, at, 100),
            tree.consistency_proof(at, 100)
        );
    }
}

#[test]
fn a_frontier_is_read_back_only_from_its_own_encoding() {
    let mut frontier = Frontier::new();
    for leaf in leaves(SIZE_MAX) {
        let bytes = frontier.to_bytes();
        assert_eq!(Frontier::from_bytes(&bytes).unwrap(), frontier);
        assert!(Frontier::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        assert!(Frontier::from_bytes(&[bytes.as_slice(), &[0]].concat()).is_err());
        assert!(Frontier::from_bytes(&[bytes.as_slice(), &[0; 32]].concat()).is_err());
        frontier.push(leaf);
    }
    assert!(Frontier::from_bytes(&[]).is_err());
}

#[test]
fn a_tree_grown_from_a_frontier_proves_what_is_new_and_names_what_it_lacks() {
    for old in 0..40 {
        let all = leaves(80);
        let whole = MerkleTree::from_leaves(all.clone());
        let mut grown = whole.frontier_at(old).unwrap().grow();
        assert_eq!(grown.root(), whole.root_at(old).unwrap());
        for leaf in &all[old as usize..] {
            grown.push(*leaf);
        }
        assert_eq!(grown.frontier(), whole.frontier());
        for size in old.max(1)..=80 {
            assert_eq!(grown.root_at(size), whole.root_at(size));
            assert_eq!(
                grown.consistency_proof(old, size),
                whole.consistency_proof(old, size)
            );
            for index in old..size {
                assert_eq!(
                    grown.inclusion_proof(index, size),
                    whole.inclusion_proof(index, size)
                );
            }
        }
        if old > 2 {
            assert!(matches!(
                grown.inclusion_proof(0, 80),
                Err(MerkleError::SubtreeMissing { .. })
            ));
        }
    }
}

proptest! {
    #[test]
    fn a_changed_inclusion_proof_is_refused(
        size in 1..SIZE_MAX, at in any::<prop::sample::Index>(),
        damage in 0..4_u8, place in any::<prop::sample::Index>(), bit in 0..256_usize,
    ) {
        let all = leaves(size);
        let index = at.index(size as usize);
        let root = root(&all);
        let mut leaf = all[index];
        let mut proof = inclusion_proof_of_leaves(&all, index as u64).unwrap();
        match damage {
            0 => leaf.0[bit / 8] ^= 1 << (bit % 8),
            1 if !proof.is_empty() => {
                let place = place.index(proof.len());
                proof[place].0[bit / 8] ^= 1 << (bit % 8);
            }
            2 if !proof.is_empty() => { proof.remove(place.index(proof.len())); }
            _ => proof.insert(place.index(proof.len() + 1), leaf_hash(b"more")),
        }
        prop_assert!(verify_inclusion(&leaf, index as u64, size, &proof, &root).is_err());
    }

    #[test]
    fn a_changed_consistency_proof_is_refused(
        new in 2..SIZE_MAX, at in any::<prop::sample::Index>(),
        damage in 0..5_u8, place in any::<prop::sample::Index>(), bit in 0..256_usize,
    ) {
        let all = leaves(new);
        let old = 1 + at.index(new as usize - 1);
        let (mut old_root, mut new_root) = (root(&all[..old]), root(&all));
        let mut proof = consistency_proof_of_leaves(&all, old as u64).unwrap();
        match damage {
            0 => old_root.0[bit / 8] ^= 1 << (bit % 8),
            1 => new_root.0[bit / 8] ^= 1 << (bit % 8),
            2 => { let place = place.index(proof.len()); proof[place].0[bit / 8] ^= 1 << (bit % 8); }
            3 => { proof.remove(place.index(proof.len())); }
            _ => proof.insert(place.index(proof.len() + 1), leaf_hash(b"more")),
        }
        prop_assert!(verify_consistency(old as u64, &old_root, new, &new_root, &proof).is_err());
    }

    #[test]
    fn hostile_sizes_do_no_harm(
        index in any::<u64>(), size in any::<u64>(), length in 0..70_usize,
    ) {
        let (hash, proof) = (leaf_hash(b"x"), vec![leaf_hash(b"y"); length]);
        prop_assert!(verify_inclusion(&hash, index, size, &proof, &leaf_hash(b"z")).is_err());
        prop_assert!(verify_consistency(index, &hash, size, &leaf_hash(b"z"), &proof).is_err());
    }
}
