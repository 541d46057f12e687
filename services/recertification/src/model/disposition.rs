//! How items end, how they are counted, and what remains open (I-28, I-30, I-32).

use counterfoil_evidence::{
    leaf::{
        DEBT_LEAF_LEN, DISPOSITION_LEAF_LEN, DebtLeaf, DispositionLeaf, GRANT_KEY_LEN, GrantKey,
    },
    v1,
};
use counterfoil_tlog::sorted_set::{SetError, SetRoot, SortedSetBuilder};

use super::{campaign::LapseRule, decision::Decision};

/// How an item ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Disposition {
    /// Somebody decided.
    Decided(Decision),
    /// Nobody decided; the access is removed.
    LapsedRevoke,
    /// Nobody decided; the access stays as debt.
    LapsedRetained,
    /// The grant was gone before anyone decided.
    Voided,
}

impl Disposition {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Decided(Decision::Accept),
        Self::Decided(Decision::Revoke),
        Self::Decided(Decision::Reduce),
        Self::Decided(Decision::Exception),
        Self::LapsedRevoke,
        Self::LapsedRetained,
        Self::Voided,
    ];

    /// Those after which the grant must go.
    pub(crate) const REMOVING: [Self; 3] = [
        Self::Decided(Decision::Revoke),
        Self::Decided(Decision::Reduce),
        Self::LapsedRevoke,
    ];

    /// What follows when nobody decided.
    pub(crate) fn of_lapse(rule: LapseRule) -> Self {
        match rule {
            LapseRule::Revoke => Self::LapsedRevoke,
            LapseRule::RetainAsDebt => Self::LapsedRetained,
        }
    }

    /// As records carry it.
    pub(crate) fn evidence(self) -> v1::Disposition {
        match self {
            Self::Decided(Decision::Accept) => v1::Disposition::Accepted,
            Self::Decided(Decision::Revoke) => v1::Disposition::Revoked,
            Self::Decided(Decision::Reduce) => v1::Disposition::Reduced,
            Self::Decided(Decision::Exception) => v1::Disposition::Excepted,
            Self::LapsedRevoke => v1::Disposition::LapsedRevoke,
            Self::LapsedRetained => v1::Disposition::LapsedRetained,
            Self::Voided => v1::Disposition::Voided,
        }
    }

    /// Number under which it is stored: that of the record. 0 is no disposition.
    pub(crate) fn code(self) -> i64 {
        i64::from(self.evidence() as i32)
    }

    /// The disposition with this number.
    pub(crate) fn of_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.code() == code)
    }

    /// Whether the grant must go.
    pub(crate) fn removes(self) -> bool {
        Self::REMOVING.contains(&self)
    }

    /// Whether it is open when the campaign closes: a removal that nobody has verified, or access that nobody decided on.
    pub(crate) fn is_debt(self, verified: bool) -> bool {
        self == Self::LapsedRetained || (self.removes() && !verified)
    }
}

/// Items by how they ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts([u64; 7]);

impl Counts {
    /// Counts `count` more items that ended so.
    pub(crate) fn add(&mut self, disposition: Disposition, count: u64) {
        if let Some(at) = index(disposition) {
            self.0[at] += count;
        }
    }

    /// How many ended.
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// As records carry them.
    pub(crate) fn evidence(&self) -> v1::DispositionCounts {
        let [
            accepted,
            revoked,
            reduced,
            excepted,
            lapsed_revoke,
            lapsed_retained,
            voided,
        ] = self.0;
        v1::DispositionCounts {
            accepted,
            revoked,
            reduced,
            excepted,
            lapsed_revoke,
            lapsed_retained,
            voided,
        }
    }
}

fn index(disposition: Disposition) -> Option<usize> {
    Disposition::ALL.iter().position(|one| *one == disposition)
}

/// An item that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Its grant.
    pub(crate) key: GrantKey,
    /// How.
    pub(crate) disposition: Disposition,
    /// SHA-256 of the record that ended it.
    pub(crate) record_hash: [u8; 32],
    /// Whether its removal is verified.
    pub(crate) verified: bool,
}

/// Seals how the items of a campaign ended, from items that come ascending by key.
#[derive(Debug)]
pub(crate) struct Closing {
    dispositions: SortedSetBuilder,
    dispositions_blob: Vec<u8>,
    debt: SortedSetBuilder,
    debt_blob: Vec<u8>,
    counts: Counts,
}

/// What was sealed: two sets with their blobs, and the counts.
#[derive(Debug)]
pub(crate) struct Sealed {
    /// The set of dispositions.
    pub(crate) dispositions: SetRoot,
    /// Its leaves.
    pub(crate) dispositions_blob: Vec<u8>,
    /// The set of what is open.
    pub(crate) debt: SetRoot,
    /// Its leaves.
    pub(crate) debt_blob: Vec<u8>,
    /// Items by how they ended.
    pub(crate) counts: Counts,
}

impl Closing {
    /// Nothing sealed yet.
    pub(crate) fn new() -> Result<Self, SetError> {
        Ok(Self {
            dispositions: SortedSetBuilder::new(GRANT_KEY_LEN, DISPOSITION_LEAF_LEN)?,
            dispositions_blob: Vec::new(),
            debt: SortedSetBuilder::new(GRANT_KEY_LEN, DEBT_LEAF_LEN)?,
            debt_blob: Vec::new(),
            counts: Counts::default(),
        })
    }

    /// Adds an item.
    pub(crate) fn push(&mut self, item: &Ended) -> Result<(), SetError> {
        let leaf = DispositionLeaf {
            key: item.key,
            disposition: item.disposition.evidence(),
            record_hash: item.record_hash,
        }
        .to_bytes();
        self.dispositions.push(&leaf)?;
        self.dispositions_blob.extend_from_slice(&leaf);
        self.counts.add(item.disposition, 1);
        if item.disposition.is_debt(item.verified) {
            let leaf = DebtLeaf {
                key: item.key,
                disposition: item.disposition.evidence(),
            }
            .to_bytes();
            self.debt.push(&leaf)?;
            self.debt_blob.extend_from_slice(&leaf);
        }
        Ok(())
    }

    /// The sets with their roots.
    pub(crate) fn seal(self) -> Sealed {
        Sealed {
            dispositions: self.dispositions.finish(),
            dispositions_blob: self.dispositions_blob,
            debt: self.debt.finish(),
            debt_blob: self.debt_blob,
            counts: self.counts,
        }
    }
}
