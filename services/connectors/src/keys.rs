//! Which keys were seen, at a fixed cost for each however long it is.
//!
//! A key is kept as a 128-bit keyed hash, so a source cannot be made in which two keys collide, and the chance that two do
//! by accident among a thousand million is under one in 10^20.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

/// A map that does not keep its keys.
#[derive(Debug)]
pub(crate) struct KeyMap<T> {
    left: RandomState,
    right: RandomState,
    values: HashMap<u128, T, BuildHasherDefault<AlreadyHashed>>,
}

impl<T> Default for KeyMap<T> {
    fn default() -> Self {
        Self {
            left: RandomState::new(),
            right: RandomState::new(),
            values: HashMap::default(),
        }
    }
}

impl<T> KeyMap<T> {
    fn hash(&self, key: &str) -> u128 {
        u128::from(self.left.hash_one(key)) << 64 | u128::from(self.right.hash_one(key))
    }

    /// Takes a new key; an old one keeps its value and comes back.
    pub(crate) fn insert(&mut self, key: &str, value: T) -> Result<(), &mut T> {
        let hash = self.hash(key);
        match self.values.entry(hash) {
            Entry::Occupied(slot) => Err(slot.into_mut()),
            Entry::Vacant(slot) => {
                slot.insert(value);
                Ok(())
            }
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&T> {
        self.values.get(&self.hash(key))
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}

/// Which pairs of numbers were seen.
#[derive(Debug, Default)]
pub(crate) struct PairSet(HashSet<u64>);

impl PairSet {
    /// False when the pair was there already.
    pub(crate) fn insert(&mut self, left: u32, right: u32) -> bool {
        self.0.insert(u64::from(left) << 32 | u64::from(right))
    }
}

/// For keys that are hashes themselves.
#[derive(Debug, Default)]
pub(crate) struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (target, byte) in word.iter_mut().zip(chunk) {
                *target = *byte;
            }
            self.0 ^= u64::from_le_bytes(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_once_and_keeps_its_first_value() {
        let mut keys = KeyMap::default();
        assert_eq!(keys.insert("a", 0), Ok(()));
        assert_eq!(keys.insert("b", 1), Ok(()));
        assert_eq!(keys.insert("a", 2), Err(&mut 0));
        assert_eq!(keys.get("b"), Some(&1));
        assert_eq!(keys.get("c"), None);
        assert_eq!(keys.len(), 2);
    }

    #[test]
    fn pairs_are_ordered() {
        let mut pairs = PairSet::default();
        assert!(pairs.insert(1, 2));
        assert!(pairs.insert(2, 1));
        assert!(!pairs.insert(1, 2));
    }
}
