//! Comparing what was decided with what is observed: a merge of two sides that are sorted by grant key.
//!
//! Invariant (I-58): every grant of the union of both sides is counted in exactly one situation, and the findings are exactly
//! those that require action. The judgement itself is `counterfoil_evidence::situation`, which the verifier repeats.

use std::{collections::BTreeSet, sync::Arc};

use counterfoil_evidence::{
    leaf::{
        AUTHORIZED_LEAF_LEN, AuthorizedLeaf, AuthorizedStatus, FINDING_LEAF_LEN, FindingLeaf,
        GRANT_KEY_LEN, GrantFlags, GrantKey, GrantLeaf, SourceTag,
    },
    situation::{Observed, classify, requires_action},
    v1::Situation,
};
use counterfoil_tlog::sorted_set::{SetError, SetRoot, SortedSetBuilder};

/// A grant on which something was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decided {
    /// What was decided.
    pub(crate) leaf: AuthorizedLeaf,
    /// "campaigns/{campaign}". Shared: few campaigns decide on many grants.
    pub(crate) campaign: Arc<str>,
    /// For REDUCE: the grant that stays.
    pub(crate) kept: Option<GrantKey>,
    /// When it was decided, milliseconds.
    pub(crate) decided_ms: i64,
    /// "principals/{principal}"; empty for a lapse.
    pub(crate) decided_by: Arc<str>,
}

/// Something that requires action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Which grant.
    pub(crate) key: GrantKey,
    /// What was found.
    pub(crate) situation: Situation,
    /// Position in the decided side, where it is known there.
    pub(crate) decided: Option<usize>,
}

/// What a comparison shows.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// Count a situation, by its number.
    pub(crate) counts: [u64; 14],
    /// What requires action, ascending by key.
    pub(crate) findings: Vec<Found>,
    /// Grants observed.
    pub(crate) observed_count: u64,
    /// Symmetric difference of what may be there and what is there.
    pub(crate) gap_count: u64,
    /// Root of the decided side.
    pub(crate) authorized: SetRoot,
    /// Root of the findings.
    pub(crate) findings_root: SetRoot,
    blobs: Blobs,
}

/// The leaves of both sets, ascending by key.
#[derive(Debug, Default)]
pub(crate) struct Blobs {
    /// Of the decided side.
    pub(crate) authorized: Vec<u8>,
    /// Of the findings.
    pub(crate) findings: Vec<u8>,
}

impl Comparison {
    /// The leaves, once: they are large.
    pub(crate) fn take_blobs(&mut self) -> Blobs {
        std::mem::take(&mut self.blobs)
    }

    /// Situations that occur, by number, ascending.
    pub(crate) fn situations(&self) -> impl Iterator<Item = (i32, u64)> {
        (0..).zip(self.counts).filter(|(_, count)| *count > 0)
    }
}

/// Takes the observed side as it streams; the decided side is at hand.
#[derive(Debug)]
pub(crate) struct Comparer<'d> {
    decided: &'d [Decided],
    shown: &'d BTreeSet<SourceTag>,
    as_of_ms: u64,
    next: usize,
    counts: [u64; 14],
    observed_count: u64,
    gap_count: u64,
    findings: Vec<Found>,
}

impl<'d> Comparer<'d> {
    /// `decided` ascends by key; `shown` are the sources that the snapshot shows: of all others nothing can be told.
    pub(crate) fn new(
        decided: &'d [Decided],
        shown: &'d BTreeSet<SourceTag>,
        as_of_ms: u64,
    ) -> Self {
        Self {
            decided,
            shown,
            as_of_ms,
            next: 0,
            counts: [0; 14],
            observed_count: 0,
            gap_count: 0,
            findings: Vec::new(),
        }
    }

    /// The next observed grant, ascending by key.
    pub(crate) fn observe(&mut self, leaf: &GrantLeaf) {
        while self
            .decided
            .get(self.next)
            .is_some_and(|side| side.leaf.key < leaf.key)
        {
            self.decided_only();
        }
        self.observed_count += 1;
        let at = self
            .decided
            .get(self.next)
            .filter(|side| side.leaf.key == leaf.key)
            .map(|_| self.next);
        if at.is_some() {
            self.next += 1;
        }
        self.judge(leaf.key, at, Observed::Present(leaf.flags));
    }

    fn decided_only(&mut self) {
        if let Some(side) = self.decided.get(self.next) {
            let key = side.leaf.key;
            let observed = if self.shown.contains(&key.source_tag()) {
                Observed::Absent
            } else {
                Observed::Unobservable
            };
            self.judge(key, Some(self.next), observed);
        }
        self.next += 1;
    }

    fn judge(&mut self, key: GrantKey, decided: Option<usize>, observed: Observed) {
        let leaf = decided
            .and_then(|at| self.decided.get(at))
            .map(|side| &side.leaf);
        let situation = classify(leaf, observed, self.as_of_ms);
        if let Some(count) = usize::try_from(situation as i32)
            .ok()
            .and_then(|number| self.counts.get_mut(number))
        {
            *count += 1;
        }
        let may_be_there = leaf.is_some_and(|leaf| {
            leaf.status == AuthorizedStatus::Authorized && leaf.not_after_ms > self.as_of_ms
        });
        let differs = match observed {
            Observed::Present(flags) => {
                let follows = leaf.is_none() && flags.contains(GrantFlags::INHERITED);
                !(may_be_there || follows)
            }
            Observed::Absent => may_be_there,
            Observed::Unobservable => false,
        };
        self.gap_count += u64::from(differs);
        if requires_action(situation) {
            self.findings.push(Found {
                key,
                situation,
                decided,
            });
        }
    }

    /// The result, when every observed grant was given.
    pub(crate) fn finish(mut self) -> Result<Comparison, SetError> {
        while self.next < self.decided.len() {
            self.decided_only();
        }
        let mut authorized_blob = Vec::with_capacity(self.decided.len() * AUTHORIZED_LEAF_LEN);
        let mut authorized = SortedSetBuilder::new(GRANT_KEY_LEN, AUTHORIZED_LEAF_LEN)?;
        for side in self.decided {
            let leaf = side.leaf.to_bytes();
            authorized.push(&leaf)?;
            authorized_blob.extend_from_slice(&leaf);
        }
        let mut findings_blob = Vec::with_capacity(self.findings.len() * FINDING_LEAF_LEN);
        let mut findings_root = SortedSetBuilder::new(GRANT_KEY_LEN, FINDING_LEAF_LEN)?;
        for found in &self.findings {
            let leaf = FindingLeaf {
                key: found.key,
                situation: found.situation,
            };
            let leaf = leaf.to_bytes();
            findings_root.push(&leaf)?;
            findings_blob.extend_from_slice(&leaf);
        }
        Ok(Comparison {
            counts: self.counts,
            observed_count: self.observed_count,
            gap_count: self.gap_count,
            authorized: authorized.finish(),
            findings_root: findings_root.finish(),
            blobs: Blobs {
                authorized: authorized_blob,
                findings: findings_blob,
            },
            findings: self.findings,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(source: &str, number: u32) -> GrantKey {
        let account = format!("accounts/{number}");
        GrantKey::new(SourceTag::of(source), &account, "entitlements/e", &[])
    }

    fn decided(key: GrantKey, status: AuthorizedStatus, not_after_ms: u64) -> Decided {
        Decided {
            leaf: AuthorizedLeaf {
                key,
                status,
                not_after_ms,
                record_hash: [7; 32],
            },
            campaign: "campaigns/c".into(),
            kept: None,
            decided_ms: 5,
            decided_by: "principals/p".into(),
        }
    }

    fn observed(key: GrantKey, flags: GrantFlags) -> GrantLeaf {
        GrantLeaf {
            key,
            flags,
            value: [9; 32],
        }
    }

    fn compare(mut sides: Vec<Decided>, mut seen: Vec<GrantLeaf>) -> Comparison {
        sides.sort_by_key(|side| side.leaf.key);
        seen.sort_by_key(|leaf| leaf.key);
        let shown = BTreeSet::from([SourceTag::of("sources/a")]);
        let mut comparer = Comparer::new(&sides, &shown, 100);
        for leaf in &seen {
            comparer.observe(leaf);
        }
        comparer.finish().unwrap()
    }

    fn count(comparison: &Comparison, situation: Situation) -> u64 {
        comparison.counts[usize::try_from(situation as i32).unwrap()]
    }

    #[test]
    fn c1_the_gap_between_approved_and_observed_is_exact() {
        use AuthorizedStatus::{Authorized, Revoked};
        let sides = vec![
            decided(key("sources/a", 1), Authorized, 200),
            decided(key("sources/a", 2), Authorized, 200),
            decided(key("sources/a", 3), Revoked, 0),
            decided(key("sources/a", 4), Revoked, 0),
            decided(key("sources/a", 5), Authorized, 100),
            decided(key("sources/gone", 6), Authorized, 200),
        ];
        let seen = vec![
            observed(key("sources/a", 1), GrantFlags::default()),
            observed(key("sources/a", 3), GrantFlags::default()),
            observed(key("sources/a", 5), GrantFlags::default()),
            observed(key("sources/a", 7), GrantFlags::default()),
            observed(key("sources/a", 8), GrantFlags::PRIVILEGED),
            observed(key("sources/a", 9), GrantFlags::INHERITED),
        ];
        let comparison = compare(sides, seen);
        for (situation, expected) in [
            (Situation::Confirmed, 1),
            (Situation::UnderProvisioned, 1),
            (Situation::Residual, 1),
            (Situation::Removed, 1),
            (Situation::ExpiredPresent, 1),
            (Situation::Unobservable, 1),
            (Situation::UnapprovedPresent, 1),
            (Situation::PrivilegedUncertified, 1),
            (Situation::Inherited, 1),
        ] {
            assert_eq!(count(&comparison, situation), expected, "{situation:?}");
        }
        // 2 is missing; 3, 5, 7 and 8 are too many; 6 cannot be seen and 9 follows from another.
        assert_eq!(comparison.gap_count, 5);
        assert_eq!(comparison.findings.len(), 6);
    }

    /// E8: certified or not, there or not, privileged or not: what governance approved against what systems still allow.
    #[test]
    fn e8_each_cell_of_the_truth_table_has_its_situation() {
        let cells = [
            (true, true, false, Some(Situation::Confirmed)),
            (true, true, true, Some(Situation::Confirmed)),
            (true, false, false, Some(Situation::UnderProvisioned)),
            (true, false, true, Some(Situation::UnderProvisioned)),
            (false, true, false, Some(Situation::UnapprovedPresent)),
            (false, true, true, Some(Situation::PrivilegedUncertified)),
            (false, false, false, None),
            (false, false, true, None),
        ];
        for (certified, there, privileged, expected) in cells {
            let one = key("sources/a", 1);
            let flags = if privileged {
                GrantFlags::PRIVILEGED
            } else {
                GrantFlags::default()
            };
            let sides = certified.then(|| decided(one, AuthorizedStatus::Authorized, 200));
            let seen = there.then(|| observed(one, flags));
            let comparison = compare(sides.into_iter().collect(), seen.into_iter().collect());
            let shown: Vec<_> = comparison.situations().collect();
            let expected: Vec<_> = expected
                .map(|situation| (situation as i32, 1))
                .into_iter()
                .collect();
            assert_eq!(
                shown, expected,
                "certified {certified}, there {there}, privileged {privileged}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn every_grant_of_the_union_is_counted_once(
            sides in proptest::collection::btree_map(0u32..60, (proptest::bool::ANY, 0u64..200), 0..40),
            seen in proptest::collection::btree_map(0u32..60, 0u16..128, 0..40),
        ) {
            let union: BTreeSet<_> = sides.keys().chain(seen.keys()).collect();
            let decided = sides.iter().map(|(number, (revoked, until))| {
                let status = if *revoked { AuthorizedStatus::Revoked } else { AuthorizedStatus::Authorized };
                super::tests::decided(key("sources/a", *number), status, *until)
            }).collect();
            let leaves = seen.iter().map(|(number, flags)| observed(key("sources/a", *number), GrantFlags(*flags))).collect();
            let comparison = compare(decided, leaves);
            proptest::prop_assert_eq!(comparison.counts.iter().sum::<u64>(), union.len() as u64);
            proptest::prop_assert_eq!(comparison.observed_count, seen.len() as u64);
            proptest::prop_assert_eq!(comparison.findings_root.count, comparison.findings.len() as u64);
        }
    }
}
