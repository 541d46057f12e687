//! Two small sources and one that cannot be read: grants as inventory would seal them.

use counterfoil_evidence::leaf::{GrantFlags, GrantKey, GrantLeaf, SourceTag};
use counterfoil_evidence::v1;
use counterfoil_tlog::sorted_set::SortedSet;

use super::log::seed;

pub const HR: &str = "sources/hr";
pub const LDAP: &str = "sources/ldap";
pub const OLD: &str = "sources/old";

/// The grants of one source as they are now.
#[derive(Clone)]
pub struct Source {
    pub name: &'static str,
    pub leaves: Vec<GrantLeaf>,
}

impl Source {
    pub fn new(name: &'static str, count: usize) -> Self {
        let tag = SourceTag::of(name);
        let mut leaves: Vec<GrantLeaf> = (0..count)
            .map(|number| {
                let account = format!("accounts/{name}-{number}");
                let mut flags = GrantFlags::default();
                for (every, flag) in [
                    (7, GrantFlags::INHERITED),
                    (10, GrantFlags::PRIVILEGED),
                    (17, GrantFlags::ORPHANED),
                    (19, GrantFlags::OWNERLESS),
                    (23, GrantFlags::DORMANT),
                    (29, GrantFlags::IDENTITY_ENDED),
                ] {
                    if number % every == every - 1 {
                        flags = flags.with(flag);
                    }
                }
                let path: &[&str] = if flags.contains(GrantFlags::INHERITED) {
                    &["entitlements/outer"]
                } else {
                    &[]
                };
                GrantLeaf {
                    key: GrantKey::new(tag, &account, "entitlements/e", path),
                    flags,
                    value: seed(&account),
                }
            })
            .collect();
        leaves.sort_by_key(|leaf| leaf.key);
        Self { name, leaves }
    }

    pub fn tag(&self) -> SourceTag {
        SourceTag::of(self.name)
    }

    pub fn blob(&self) -> Vec<u8> {
        blob(&self.leaves)
    }

    pub fn set(&self) -> SortedSet {
        SortedSet::from_leaves(self.blob(), 40, 74).unwrap()
    }

    pub fn counts(&self) -> v1::TypeCounts {
        let inherited = self
            .leaves
            .iter()
            .filter(|leaf| leaf.flags.contains(GrantFlags::INHERITED))
            .count() as u64;
        let all = self.leaves.len() as u64;
        v1::TypeCounts {
            accounts: all,
            entitlements: 2,
            edges: 1,
            grants_direct: all - inherited,
            grants_inherited: inherited,
        }
    }

    pub fn remove(&mut self, key: GrantKey) {
        self.leaves.retain(|leaf| leaf.key != key);
    }

    pub fn restore(&mut self, leaf: GrantLeaf) {
        self.leaves.push(leaf);
        self.leaves.sort_by_key(|leaf| leaf.key);
    }

    pub fn get(&self, key: GrantKey) -> Option<GrantLeaf> {
        self.leaves.iter().copied().find(|leaf| leaf.key == key)
    }
}

pub fn blob(leaves: &[GrantLeaf]) -> Vec<u8> {
    leaves.iter().flat_map(GrantLeaf::to_bytes).collect()
}
